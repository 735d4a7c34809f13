/* The loops of the resize for AVX2. Two taps a register: 8 lanes are 2 pixels of 4 channels. */
#include "model/input/axis.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>
#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((target("avx2"), always_inline))

static bool usable(void) { return __builtin_cpu_supports("avx2"); }

AVX2_INLINE __m256i tap_pair(const uint8_t *p, const int32_t *wide)
{
    const __m256i px = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_mullo_epi32(px, _mm256_load_si256((const __m256i *)wide));
}

/* Sum over the taps of one output; the two halves of the result still have to be added. */
AVX2_INLINE __m256i output(const rm_axis *a, const uint8_t *src, int32_t x, int32_t pairs)
{
    const uint8_t *p = src + 4 * (size_t)a->start[x];
    const int32_t *w = a->wide + 4 * (size_t)x * (size_t)a->stride;
    __m256i sum = tap_pair(p, w);
    for (int32_t t = 1; t < pairs; t++) sum = _mm256_add_epi32(sum, tap_pair(p + 8 * t, w + 8 * t));
    return sum;
}

AVX2_INLINE __m256i two_outputs(const rm_axis *a, const uint8_t *src, int32_t x, int32_t pairs)
{
    const __m256i s = output(a, src, x, pairs), t = output(a, src, x + 1, pairs);
    const __m256i half = _mm256_set1_epi32(1 << (RM_WEIGHT_BITS - 1));
    const __m256i sum = _mm256_add_epi32(_mm256_permute2x128_si256(s, t, 0x20), _mm256_permute2x128_si256(s, t, 0x31));
    return _mm256_srai_epi32(_mm256_add_epi32(sum, half), RM_WEIGHT_BITS);
}

AVX2_INLINE void four_outputs(const rm_axis *a, const uint8_t *src, int32_t x, int32_t pairs, uint8_t *dst)
{
    const __m128i drop_x = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const __m256i words = _mm256_packs_epi32(two_outputs(a, src, x, pairs), two_outputs(a, src, x + 2, pairs));
    const __m256i bytes = _mm256_packus_epi16(words, words); /* pixels 0 2 0 2 | 1 3 1 3 */
    const __m128i px = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    _mm_storeu_si128((__m128i *)dst, _mm_shuffle_epi8(px, drop_x));
}

AVX2 static void horizontal(const rm_axis *a, const uint8_t *src, uint8_t *dst)
{
    const int32_t n = a->key.n, pairs = (a->taps + 1) / 2;
    if (pairs == 1)
        for (int32_t x = 0; x < n; x += 4) four_outputs(a, src, x, 1, dst + 3 * x);
    else if (pairs == 2)
        for (int32_t x = 0; x < n; x += 4) four_outputs(a, src, x, 2, dst + 3 * x);
    else
        for (int32_t x = 0; x < n; x += 4) four_outputs(a, src, x, pairs, dst + 3 * x);
}

AVX2_INLINE __m256i eight(const uint8_t *p, __m256i weight)
{
    return _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)), weight);
}

/* Bytes [i, i + 32) of the output row. */
AVX2_INLINE void block(const uint8_t *const *row, const int32_t *weight, int32_t taps, size_t i, uint8_t *dst)
{
    const __m256i half = _mm256_set1_epi32(1 << (RM_WEIGHT_BITS - 1));
    __m256i s[4] = { half, half, half, half };
    for (int32_t t = 0; t < taps; t++) {
        const __m256i w = _mm256_set1_epi32(weight[t]);
        for (int j = 0; j < 4; j++) s[j] = _mm256_add_epi32(s[j], eight(row[t] + i + 8 * j, w));
    }
    for (int j = 0; j < 4; j++) s[j] = _mm256_srai_epi32(s[j], RM_WEIGHT_BITS);
    const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(s[0], s[1]), _mm256_packs_epi32(s[2], s[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* the packs worked within halves */
    _mm256_storeu_si256((__m256i *)(dst + i), _mm256_permutevar8x32_epi32(bytes, order));
}

AVX2 static void vertical(const uint8_t *const *row, const int32_t *weight, int32_t taps, size_t bytes, uint8_t *dst)
{
    if (bytes < 32) {
        rm_resize_c.vertical(row, weight, taps, bytes, dst);
        return;
    }
    for (size_t i = 0; i + 32 <= bytes; i += 32) block(row, weight, taps, i, dst);
    if (bytes % 32) block(row, weight, taps, bytes - 32, dst); /* overlaps bytes that come out the same again */
}

const rm_resize rm_resize_avx2 = { .name = "avx2", .usable = usable, .horizontal = horizontal, .vertical = vertical };
#endif
