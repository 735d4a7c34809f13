/* bf16 on the wire. Rounding is to nearest, ties to even; NaN stays NaN. Pure; any thread. */
#ifndef RM_MPI_BF16_H
#define RM_MPI_BF16_H
#include <stddef.h>
#include <stdint.h>
void rm_bf16_narrow(const float *from, uint16_t *to, size_t n);
void rm_bf16_widen(const uint16_t *from, float *to, size_t n);
void rm_bf16_add(const uint16_t *a, uint16_t *into, size_t n); /* into = round(a + into), added in f32 */
#endif
