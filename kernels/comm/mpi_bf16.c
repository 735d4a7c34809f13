#include "kernels/comm/mpi_bf16.h"

typedef union bits { uint32_t u; float f; } bits;

static inline float widen(uint16_t h) { return ((bits){ .u = (uint32_t)h << 16 }).f; }

/* Without branches, so that the loops below become vector code. */
static inline uint16_t narrow(float f)
{
    const uint32_t u = ((bits){ .f = f }).u, rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16, quiet = u >> 16 | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

void rm_bf16_narrow(const float *from, uint16_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = narrow(from[i]);
}

void rm_bf16_widen(const uint16_t *from, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = widen(from[i]);
}

void rm_bf16_add(const uint16_t *a, uint16_t *into, size_t n)
{
    for (size_t i = 0; i < n; i++) into[i] = narrow(widen(a[i]) + widen(into[i]));
}
