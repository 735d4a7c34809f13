/* The loops of the resize for AVX-512. Four taps a register: 16 lanes are 4 pixels of 4 channels. */
#include "model/input/axis.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define AVX512_INLINE static inline __attribute__((target("avx512f,avx512bw,avx512vl"), always_inline))

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

AVX512_INLINE __m512i sixteen(const uint8_t *p, __m512i weight)
{
    return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)), weight);
}

/* Sum over the taps of one output; the four quarters of the result still have to be added. */
AVX512_INLINE __m512i output(const rm_axis *a, const uint8_t *src, int32_t x, int32_t quads)
{
    const uint8_t *p = src + 4 * (size_t)a->start[x];
    const int32_t *w = a->wide + 4 * (size_t)x * (size_t)a->stride;
    __m512i sum = sixteen(p, _mm512_load_si512(w));
    for (int32_t t = 1; t < quads; t++) sum = _mm512_add_epi32(sum, sixteen(p + 16 * t, _mm512_load_si512(w + 16 * t)));
    return sum;
}

/* Quarters of x then of y, already added in pairs: x02 x13 y02 y13. */
AVX512_INLINE __m512i fold(__m512i x, __m512i y)
{
    return _mm512_add_epi32(_mm512_shuffle_i32x4(x, y, 0x44), _mm512_shuffle_i32x4(x, y, 0xEE));
}

AVX512_INLINE __m128i to_bytes(__m512i sum)
{
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_srai_epi32(sum, RM_WEIGHT_BITS), _mm512_setzero_si512()));
}

AVX512_INLINE void four_outputs(const rm_axis *a, const uint8_t *src, int32_t x, int32_t quads, uint8_t *dst)
{
    const __m128i drop_x = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const __m512i s = fold(output(a, src, x, quads), output(a, src, x + 1, quads));
    const __m512i t = fold(output(a, src, x + 2, quads), output(a, src, x + 3, quads));
    const __m512i sum = _mm512_add_epi32(_mm512_shuffle_i32x4(s, t, 0x88), _mm512_shuffle_i32x4(s, t, 0xDD));
    const __m512i half = _mm512_set1_epi32(1 << (RM_WEIGHT_BITS - 1));
    _mm_storeu_si128((__m128i *)dst, _mm_shuffle_epi8(to_bytes(_mm512_add_epi32(sum, half)), drop_x));
}

AVX512 static void horizontal(const rm_axis *a, const uint8_t *src, uint8_t *dst)
{
    const int32_t n = a->key.n, quads = a->stride / 4;
    if (quads == 1)
        for (int32_t x = 0; x < n; x += 4) four_outputs(a, src, x, 1, dst + 3 * x);
    else
        for (int32_t x = 0; x < n; x += 4) four_outputs(a, src, x, quads, dst + 3 * x);
}

/* Bytes [i, i + 32) of the output row. */
AVX512_INLINE void block(const uint8_t *const *row, const int32_t *weight, int32_t taps, size_t i, uint8_t *dst)
{
    __m512i s = _mm512_set1_epi32(1 << (RM_WEIGHT_BITS - 1)), t = s;
    for (int32_t k = 0; k < taps; k++) {
        const __m512i w = _mm512_set1_epi32(weight[k]);
        s = _mm512_add_epi32(s, sixteen(row[k] + i, w));
        t = _mm512_add_epi32(t, sixteen(row[k] + i + 16, w));
    }
    _mm_storeu_si128((__m128i *)(dst + i), to_bytes(s));
    _mm_storeu_si128((__m128i *)(dst + i + 16), to_bytes(t));
}

AVX512 static void vertical(const uint8_t *const *row, const int32_t *weight, int32_t taps, size_t bytes, uint8_t *dst)
{
    if (bytes < 32) {
        rm_resize_c.vertical(row, weight, taps, bytes, dst);
        return;
    }
    for (size_t i = 0; i + 32 <= bytes; i += 32) block(row, weight, taps, i, dst);
    if (bytes % 32) block(row, weight, taps, bytes - 32, dst); /* overlaps bytes that come out the same again */
}

const rm_resize rm_resize_avx512 = { .name = "avx512", .usable = usable, .horizontal = horizontal, .vertical = vertical };
#endif
