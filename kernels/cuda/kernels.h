/* The CUDA device's own kernels: what cuDNN has no graph for, or what must be deterministic and checkable without a GPU.
 *
 * Every function enqueues on `stream` and returns at once; nothing here allocates, synchronises or keeps state, so all of
 * it can be captured in a CUDA graph and called by any thread. Pointers are device memory unless it says host. Errors:
 * cudaErrorInvalidValue for arguments that make no sense (nothing was enqueued), else what cudaGetLastError() says of the
 * launches; a kernel's own failure comes later, from the stream.
 *
 * Layout: activations are NHWC seen as a matrix, `rows` = N*H*W rows of `c` channels, without gaps. Types: fp32, bf16 or
 * fp16 in memory, fp32 in registers; statistics, vectors, weights and momentum are fp32. Where c is a multiple of the 16-byte
 * vector (4 fp32, 8 bf16 or fp16) and every pointer is 16-byte aligned, memory is touched 16 bytes at a time; else
 * one element at a time, same results up to the order of sums.
 * Sums are taken in an order that depends on the shape alone (two stages, no float atomics): same inputs, same bits in every
 * run. NaN goes through ReLU, as in the ref device.
 * Passes: how often an activation of rows*c elements goes over the memory bus, read or written; tests/cuda counts them.
 * Buffers may not overlap unless it says so. `workspace` is scratch, 16-byte aligned, undefined before and after. */
#ifndef RM_CUDA_KERNELS_H
#define RM_CUDA_KERNELS_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum rm_cuda_type { RM_CUDA_F32, RM_CUDA_BF16, RM_CUDA_F16, RM_CUDA_TYPES } rm_cuda_type;

/* ---- batch normalisation, with ReLU and the addition of the shortcut fused in: y = relu?(bn(x) + x2?)
 * Parameters mean what they mean in rm_op.u.bn (kernels/op.h). */
typedef struct rm_cuda_bn {
    int64_t      rows;              /* N*H*W, >= 1 */
    int32_t      c;                 /* >= 1 */
    rm_cuda_type type;              /* of x, x2, y, dy, dy2, dx, dx2 */
    double       eps, momentum;     /* running = (1 - momentum) running + momentum batch */
    bool         relu, unbiased;    /* unbiased: the running variance takes rows/(rows-1) of the batch's; then rows >= 2 */
} rm_cuda_bn;
/* SAVED of a training forward, for its backward: float[4][c] = mean, 1/std, gamma/std, beta. */
enum { RM_CUDA_BN_SAVED = 4 };
size_t      rm_cuda_bn_workspace_bytes(const rm_cuda_bn *bn);   /* of every bn function below; host only */
/* Training. x2: (rows, c), or NULL. Updates rmean, rvar (c). Writes y (rows, c) and saved. Variance by sums shifted by a
 * row of the slice, slices merged in double: no cancellation where |mean| >> std. 3 passes: x twice, y once; x2: one more. */
cudaError_t rm_cuda_bn_forward(const rm_cuda_bn *bn, const void *x, const void *x2, const float *gamma, const float *beta,
                               float *rmean, float *rvar, void *y, float *saved, void *workspace, cudaStream_t stream);
/* With the running statistics. 2 passes; x2: one more. */
cudaError_t rm_cuda_bn_inference(const rm_cuda_bn *bn, const void *x, const void *x2, const float *gamma, const float *beta,
                                 const float *rmean, const float *rvar, void *y, void *workspace, cudaStream_t stream);
/* Derivative of rm_cuda_bn_forward(). dz = (y > 0) (dy + dy2?), dbeta = sum dz, dgamma = sum dz xhat,
 * dx = gamma/std (dz - dbeta/rows - xhat dgamma/rows).
 * y is the forward's output, needed where x2 was added under a ReLU. NULL else: then the ReLU's mask is computed again from
 * x and saved by the very expression of the forward, rounding included, and y need not be read.
 * dx2, where not NULL, receives dz (the gradient of x2), rounded; dx is then computed from it. dy2 may be NULL.
 * dx may be dy. Writes dx, dx2, dgamma, dbeta.
 * 5 passes: x and dy twice, dx once. With dy2 two more. With dx2: x twice; dy, dy2, y once; dx2 twice; dx once: 7 or 8. */
cudaError_t rm_cuda_bn_backward(const rm_cuda_bn *bn, const void *x, const void *y, const void *dy, const void *dy2,
                                const float *saved, void *dx, void *dx2, float *dgamma, float *dbeta, void *workspace, cudaStream_t stream);
/* Derivative of rm_cuda_bn_inference(), whose statistics are constants: dx = gamma/std dz. y is needed with relu.
 * dx may be dy. 3 passes; y, dy2, dx2: one more each. */
cudaError_t rm_cuda_bn_backward_frozen(const rm_cuda_bn *bn, const void *x, const void *y, const void *dy, const void *dy2,
                                       const float *gamma, const float *rmean, const float *rvar, void *dx, void *dx2,
                                       float *dgamma, float *dbeta, void *workspace, cudaStream_t stream);

/* ---- pooling and columns */
/* y[n][c] = mean over p of x[n][p][c], p < hw; y has the type of x. n <= 65535. 1 pass over x. */
cudaError_t rm_cuda_avgpool(rm_cuda_type type, int32_t n, int32_t hw, int32_t c, const void *x, void *y, cudaStream_t stream);
/* dx[n][p][c] = dy[n][c] / hw. 1 pass over dx. */
cudaError_t rm_cuda_avgpool_backward(rm_cuda_type type, int32_t n, int32_t hw, int32_t c, const void *dy, void *dx, cudaStream_t stream);
/* Bias gradient of a fully connected layer: dbias[c] = sum over rows of dy[row][c], dy of `type`. One stage. */
cudaError_t rm_cuda_bias_gradient(rm_cuda_type type, int32_t rows, int32_t c, const void *dy, float *dbias, cudaStream_t stream);
/* y[row][c] = x[row][c] + bias[c], y in fp32. With fp32 y may be x. */
cudaError_t rm_cuda_bias_add(rm_cuda_type type, int64_t rows, int32_t c, const void *x, const float *bias, float *y, cudaStream_t stream);

/* ---- element by element, `count` elements; outputs may be an input of the same type */
cudaError_t rm_cuda_relu(rm_cuda_type type, int64_t count, const void *x, void *y, cudaStream_t stream);
/* dx = y > 0 ? dy + dy2? : 0. */
cudaError_t rm_cuda_relu_backward(rm_cuda_type type, int64_t count, const void *y, const void *dy, const void *dy2, void *dx,
                                  cudaStream_t stream);
cudaError_t rm_cuda_add(rm_cuda_type type, int64_t count, const void *x, const void *x2, void *y, cudaStream_t stream);
cudaError_t rm_cuda_fill(rm_cuda_type type, int64_t count, float value, void *y, cudaStream_t stream);

/* ---- loss
 * x: (n, c) logits of `type`; label: int32[n]; loss: one fp32 value, the mean of
 *   -(1-e) log p[label] - e/c sum log p,  e = label_smoothing;
 * dx: (n, c) of `type` = scale/n (p - (1-e) [c = label] - e/c). A label outside 0..c-1 gives NaN in the loss and in its
 * row of dx, so that the optimiser's flag shows it. Workspace: n fp32 values.
 * x is read three times, and the label's element once more. */
cudaError_t rm_cuda_softmax_xent(rm_cuda_type type, int32_t n, int32_t c, double label_smoothing, double scale, const void *x,
                                 const int32_t *label, float *loss, void *dx, void *workspace, cudaStream_t stream);

/* ---- optimiser over the whole arena: formulas, hyper-parameters and FLAG as in rm_op.u.optim (kernels/op.h)
 * The arena's segments are cut into chunks of at most RM_CUDA_CHUNK elements, a thread block each. */
enum { RM_CUDA_CHUNK = 8192 };
typedef struct rm_cuda_span { uint64_t start, count; uint32_t decay, adapt; } rm_cuda_span;              /* elements */
typedef struct rm_cuda_chunk { uint64_t start; uint32_t count, span; } rm_cuda_chunk;
typedef struct rm_cuda_reach { uint32_t first, count, decay, adapt; } rm_cuda_reach;                     /* a span's chunks */
/* Host: how many chunks the spans make. */
uint32_t rm_cuda_optim_chunks(const rm_cuda_span *span, uint32_t n);
/* Host: fills chunk[rm_cuda_optim_chunks()] and reach[n]; the caller copies both to the device. */
void     rm_cuda_optim_cut(const rm_cuda_span *span, uint32_t n, rm_cuda_chunk *chunk, rm_cuda_reach *reach);
size_t   rm_cuda_optim_workspace_bytes(uint32_t n_spans, uint32_t n_chunks);                              /* host only */

typedef struct rm_cuda_optim {
    uint32_t             n_spans, n_chunks;
    const rm_cuda_chunk *chunk;     /* [n_chunks] */
    const rm_cuda_reach *reach;     /* [n_spans] */
    bool                 lars, nesterov;
    rm_cuda_type         gradient;  /* type of dw */
} rm_cuda_optim;
/* w, momentum: fp32; dw: o->gradient; hyper: double[RM_HYPER_COUNT]; flag: int32[2]. Elements outside every span are not
 * touched. SGD: w, dw, momentum read once, w and momentum written once. LARS reads w and dw once more (norms, in an order
 * that depends on the spans alone). */
cudaError_t rm_cuda_optim_step(const rm_cuda_optim *o, float *w, const void *dw, float *momentum, const double *hyper, int32_t *flag,
                               void *workspace, cudaStream_t stream);

/* ---- moving data */
typedef enum rm_cuda_layout { RM_CUDA_NCHW, RM_CUDA_NHWC } rm_cuda_layout;
typedef struct rm_cuda_tensor { rm_cuda_type type; rm_cuda_layout layout; int32_t c; } rm_cuda_tensor;
/* Copies n images of hw pixels between types and layouts; values are rounded to nearest even. dst.c > src.c: the channels
 * beyond are zero (the first convolution wants a multiple of 8); dst.c < src.c: they are dropped. NCHW to NCHW needs equal c.
 * Weights (O, I, KH, KW): n = O, c = I, hw = KH*KW. */
cudaError_t rm_cuda_reorder(int32_t n, int32_t hw, rm_cuda_tensor src, const void *x, rm_cuda_tensor dst, void *y, cudaStream_t stream);
/* x: uint8 (n, h, w, 3) 0..255; flip: uint8[n], not 0 mirrors the image left to right; y: (n, h, w, c) of `type`, c >= 3:
 * (x/255 - mean)/std in channels 0..2, zero beyond. mean, std: host double[3]. */
cudaError_t rm_cuda_augment(rm_cuda_type type, int32_t n, int32_t h, int32_t w, int32_t c, const uint8_t *x, const uint8_t *flip,
                            const double mean[3], const double std[3], void *y, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
