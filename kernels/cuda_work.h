/* What the cuda device does for an op: how many kernels, what they compute and what they move. From the plans of kernels/cuda/plan.c and conv.c and the
 * passes that kernels/cuda/kernels.h promises; here, because a projection is made where there is no CUDA. Pure functions. */
#ifndef RM_CUDA_WORK_H
#define RM_CUDA_WORK_H
#include "kernels/op.h"

typedef struct rm_cuda_work {
    int32_t  kernels;           /* launches; one for a graph of cuDNN's, which may be more */
    bool     tensor;            /* its operations are a matrix product's */
    uint64_t flops;             /* done: with the channels that 16-bit convolutions are padded to (8) */
    uint64_t bytes;             /* over the memory bus when every pass goes there */
    uint64_t least_bytes;       /* every operand once */
    uint64_t own_bytes;         /* of `bytes`: moved by kernels of our own (kernels/cuda/kernels.h), not by cuDNN's */
    uint64_t own_least_bytes;   /* what those kernels read and write of memory, once each */
} rm_cuda_work;
/* Layouts in `op` do not count, but for REORDER and AUGMENT, where a private one is padded. */
rm_cuda_work rm_cuda_work_of(const rm_op *op);

/* Layouts and sizes as the cuda device would plan them, for networks that are built and not run. The padded layout is RM_LAYOUT_PRIVATE. */
typedef struct rm_cuda_layouts { int32_t x, w, y; size_t saved_bytes; } rm_cuda_layouts;
rm_cuda_layouts rm_cuda_layouts_of(const rm_op *op);
uint64_t rm_cuda_bytes_of(const rm_tdesc *t);
#endif
