/* cuDNN's double: numbers in memory as floats, and back, rounded to nearest even. */
#include "tests/cuda/doubles/cudnn_internal.h"
#include <stdlib.h>
#include <pthread.h>
#include <string.h>

static float half_value[1 << 16];
static void fill_halves(void)
{
    for (unsigned i = 0; i < 1u << 16; i++) {
        const unsigned sign = i >> 15, exponent = i >> 10 & 31, fraction = i & 1023;
        uint32_t bits = sign << 31 | (exponent + 112) << 23 | fraction << 13;
        if (exponent == 31) bits = sign << 31 | 0x7f800000u | fraction << 13;
        memcpy(&half_value[i], &bits, 4);
        if (exponent == 0) half_value[i] = (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
    }
}

static void read_halves(const uint16_t *from, int64_t n, float *to)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_halves);
    for (int64_t i = 0; i < n; i++) to[i] = half_value[from[i]];
}

static void read_bf16(const uint16_t *from, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, 4);
    }
}

void dbl_read(cudnnDataType_t type, const void *from, int64_t n, float *to)
{
    if (type == CUDNN_DATA_FLOAT) memcpy(to, from, (size_t)n * 4);
    else if (type == CUDNN_DATA_BFLOAT16) read_bf16(from, n, to);
    else read_halves(from, n, to);
}

static uint16_t to_bf16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    if (v != v) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t to_half(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and more round to infinity */
    if (size < 0x38800000) {                                  /* subnormal: the addition rounds */
        float f;
        memcpy(&f, &size, 4);
        f += 0.5f;
        memcpy(&bits, &f, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    return (uint16_t)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}

void dbl_write(cudnnDataType_t type, const float *from, int64_t n, void *to)
{
    uint16_t *half = to;
    if (type == CUDNN_DATA_FLOAT) memcpy(to, from, (size_t)n * 4);
    else if (type == CUDNN_DATA_BFLOAT16)
        for (int64_t i = 0; i < n; i++) half[i] = to_bf16(from[i]);
    else
        for (int64_t i = 0; i < n; i++) half[i] = to_half(from[i]);
}

void dbl_round_tf32(float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], 4);
        if ((bits & 0x7f800000) == 0x7f800000) continue;
        bits = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
        memcpy(&v[i], &bits, 4);
    }
}

/* One by default: several programs of a test run at once, and a thread that waits for another in OpenMP's loops takes a core. */
int dbl_threads(void)
{
    const char *given = getenv("RM_DOUBLES_THREADS");
    const int n = given ? atoi(given) : 1;
    return n > 0 ? n : 1;
}
