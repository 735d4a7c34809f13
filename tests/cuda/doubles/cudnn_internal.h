/* Between the files of cuDNN's double. Descriptors, heuristics and plans are the real library's; what runs is ours.
 *
 *   cudnn.c         handles, cudnnBackendExecute()
 *   cudnn_follow.c  which graph a plan belongs to, from the calls that made it
 *   cudnn_conv.c    convolutions             cudnn_pool.c  max-pool             cudnn_numbers.c  types in memory */
#ifndef DBL_CUDNN_H
#define DBL_CUDNN_H
#include "tests/cuda/doubles/internal.h"
#include <cudnn_graph.h>

/* A tensor (n, c, h, w), its channels next to each other in memory. */
typedef struct dbl_tensor {
    int64_t uid, n, c, h, w, align;
    cudnnDataType_t type;
} dbl_tensor;
typedef enum dbl_op { DBL_NO_OP, DBL_FORWARD, DBL_DATA, DBL_WEIGHTS, DBL_POOL, DBL_POOL_BACKWARD, DBL_UNKNOWN } dbl_op;
/* A graph of one operation; a value, so that it can be written behind the text of a kept plan.
 *   forward: in x, w; out y     data: in dy, w; out dx     weights: in x, dy; out dw
 *   pool: in x; out y, index    its backward: in dy, index; out dx */
typedef struct dbl_graph {
    dbl_op op;
    int n_in, n_out;
    dbl_tensor in[2], out[2];
    int64_t window, stride, pad;
    double alpha, beta;
    bool tf32;                      /* f32 inputs lose 13 bits: the plan's engine says that it may */
} dbl_graph;
typedef struct dbl_plan { dbl_graph g; int64_t workspace_bytes; } dbl_plan;
typedef struct dbl_pack { int n; int64_t uid[8]; void *at[8]; void *workspace; } dbl_pack;

/* NULL: unknown, or not of that kind. With the lock held. */
bool dbl_follow_plan(cudnnBackendDescriptor_t d, dbl_plan *out);
bool dbl_follow_pack(cudnnBackendDescriptor_t d, dbl_pack *out);

static inline size_t dbl_type_bytes(cudnnDataType_t t) { return t == CUDNN_DATA_FLOAT ? 4 : t == CUDNN_DATA_INT8 ? 1 : 2; }
static inline size_t dbl_tensor_bytes(const dbl_tensor *t) { return (size_t)(t->n * t->c * t->h * t->w) * dbl_type_bytes(t->type); }

/* ---- what is computed: in[], out[] are addresses in the graph's order */
void dbl_conv(const dbl_graph *g, void *const in[2], void *const out[2]);
void dbl_pool(const dbl_graph *g, void *const in[2], void *const out[2]);
void dbl_read(cudnnDataType_t type, const void *from, int64_t n, float *to);
void dbl_write(cudnnDataType_t type, const float *from, int64_t n, void *to);
void dbl_round_tf32(float *v, int64_t n);
int dbl_threads(void); /* RM_DOUBLES_THREADS, else 1 */
#endif
