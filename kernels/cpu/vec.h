/* Vector kernels, compiled once an instruction set from vec_body.inc and chosen when a plan is made.
 *
 * Tensors are addressed by element; `half` says bf16, else f32. A run is a group of `nv` x lanes channels at `pixels`
 * places `stride` elements apart, in each of `images` images `n_stride` elements apart. Per-channel parameters are plain f32 arrays of nv x lanes values. */
#ifndef RM_KERNELS_CPU_VEC_H
#define RM_KERNELS_CPU_VEC_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CPU_VEC_MAX_WIDTH = 64 };   /* channels in a run: at most 4 vectors of 16 */

typedef struct cpu_run { size_t stride, n_stride; int pixels, images, nv; bool half; } cpu_run;
typedef enum cpu_mask { CPU_MASK_NONE, CPU_MASK_FROM_X, CPU_MASK_FROM_Y } cpu_mask;

/* Backward of y = relu?(a x + b (+ x2)): dz = (dy + dy2) where the mask is set. */
typedef struct cpu_bn_grad {
    const void *x, *y, *dy, *dy2;  /* y, dy2 may be NULL */
    void *dx, *dx2;                /* dx2 may be NULL: no gradient for x2 wanted */
    const float *a, *b, *mean;     /* a, b: for CPU_MASK_FROM_X */
    cpu_mask mask;
} cpu_bn_grad;

/* A pooling window between planes whose pixels are `stride_x` and `stride_y` elements apart. */
typedef struct cpu_pool { size_t stride_x, stride_y; int xh, xw, yh, yw, k, stride, pad, nv; bool half; } cpu_pool;

typedef struct cpu_sgd { float lr, momentum, decay, grad_scale; bool nesterov; } cpu_sgd;

typedef struct cpu_vec {
    const char *isa;
    int lanes;
    /* sum += x - pivot, square += (x - pivot)^2 */
    void (*stats)(cpu_run r, const void *x, const float *pivot, double *sum, double *square);
    /* y = a x + b (+ x2), not below zero if relu; x2 may be NULL */
    void (*scale)(cpu_run r, const void *x, const void *x2, void *y, const float *a, const float *b, bool relu);
    /* sum += dz, dot += dz (x - mean); writes dz to g.dx2 where given */
    void (*grad_sums)(cpu_run r, cpu_bn_grad g, double *sum, double *dot);
    /* dx = p dz + q (x - mean) + c. With dx2 given, dz is read from there. */
    void (*grad_apply)(cpu_run r, cpu_bn_grad g, const float *p, const float *q, const float *c);
    /* flat: y = x + x2; y = max(x, 0); dx = (dy + dy2) where y > 0 */
    void (*add)(size_t n, bool half, const void *x, const void *x2, void *y);
    void (*relu)(size_t n, bool half, const void *x, void *y);
    void (*relu_bwd)(size_t n, bool half, const void *y, const void *dy, const void *dy2, void *dx);
    void (*to_f32)(size_t n, const uint16_t *src, float *dst);
    void (*to_bf16)(size_t n, const float *src, uint16_t *dst);
    /* w, v updated; returns the number of non-finite gradient elements */
    uint64_t (*sgd)(size_t n, cpu_sgd h, float *w, const float *g, float *v);
    /* adds the sums of squares of w and of g */
    void (*norms)(size_t n, const float *w, const float *g, double *ww, double *gg);
    /* Max-pool of one plane (a group of an image): row `oh` of y from x, with the first maximum's tap beside each element;
     * and back: row `h` of dx gathered from the outputs whose window holds it. */
    void (*max)(const cpu_pool *p, const void *x, int oh, void *y, uint8_t *id);
    void (*unmax)(const cpu_pool *p, const void *dy, const uint8_t *id, int h, void *dx);
    /* y = mean over the pixels of the first image, one group out; and its reverse */
    void (*mean)(cpu_run r, const void *x, void *y);
    void (*unmean)(cpu_run r, const void *dy, void *dx);
} cpu_vec;

extern const cpu_vec cpu_vec_base, cpu_vec_avx2, cpu_vec_avx512;
/* The widest set this processor has whose lanes divide `width`; NULL when none does. */
const cpu_vec *cpu_vec_for(int width);

static inline float cpu_from_bf16(uint16_t h)
{
    union { uint32_t u; float f; } v = {.u = (uint32_t)h << 16};
    return v.f;
}
/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t cpu_to_bf16(float f)
{
    union { float f; uint32_t u; } v = {.f = f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(v.u >> 16 | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + (v.u >> 16 & 1u)) >> 16);
}
static inline float cpu_get(const void *p, size_t i, bool half)
{
    return half ? cpu_from_bf16(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}
static inline void cpu_put(void *p, size_t i, bool half, float v)
{
    if (half) ((uint16_t *)p)[i] = cpu_to_bf16(v);
    else ((float *)p)[i] = v;
}
#endif
