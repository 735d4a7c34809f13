/* One op as a graph of cuDNN's backend API: convolutions and their backwards, fully connected as a 1x1 convolution, max-pool.
 *
 * Every tensor is NHWC; shapes are logical (N, C, H, W) as in kernels/op.h, weights (O, I, KH, KW) stored as O, KH, KW, I.
 * A tensor's unique id is its slot plus one (rm_cudnn_uid), so that a plan that is read back from a file is run with the
 * same ids. Data must be aligned to RM_CUDNN_ALIGN bytes. Sums are made in fp32 whatever the tensors' type is.
 *
 * The legacy calls for convolutions, pools and batch norm are deprecated since cuDNN 9, and only this interface can plan for a
 * GPU that is described and not there (cudnn_device.h).
 * Threads: one thread at a time per object; different objects are independent. */
#ifndef RM_CUDA_CUDNN_GRAPH_H
#define RM_CUDA_CUDNN_GRAPH_H
#include "kernels/op.h"
#include <cudnn_graph.h>

enum { RM_CUDNN_ALIGN = 16, RM_CUDNN_KEY_SIZE = 256, RM_CUDNN_MAX_TENSORS = 3 };

/* ---- errors and descriptors */
/* RM_OK, or records "cudnn: WHAT: <cuDNN's words>" and returns RM_E_UNSUPPORTED (cuDNN cannot do it), RM_E_NOMEM or RM_E_DEVICE.
 * To be called before any other cuDNN call: the words are those of the last error. */
rm_status rm_cudnn_check(cudnnStatus_t st, const char *what) RM_CHECKED;
/* cuDNN's words for a status that is no success, in one line. */
void      rm_cudnn_words(cudnnStatus_t st, char *text, size_t text_size);
rm_status rm_cudnn_create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out_d) RM_CHECKED;
void      rm_cudnn_destroy(cudnnBackendDescriptor_t d); /* NULL is fine */

/* A finalised descriptor's attribute of characters, NUL-terminated; the caller frees. */
rm_status rm_cudnn_text(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, const char *what, char **out_text) RM_CHECKED;

/* ---- what a graph stands for */
/* The op that is given to cuDNN for `op`. Layouts are left out. fc becomes a 1x1 convolution without its bias and with Y in X's
 * type: cuDNN has no engine for a gradient of logits in f32 beside bf16, so bias and cast are the caller's. The channels of X and W in 16-bit
 * types are padded to a multiple of 8, which tensor cores want; of a ResNet this changes the stem only, 3 -> 8: left at 3 or 4
 * channels, its plans in bf16 want 206 MB of workspace at batch 256, and the first one in fp16 sums in fp16. (In f32 and tf32
 * padding only adds workspace.) The padding channels of X and W must be zero. RM_E_ARG: impossible op; RM_E_UNSUPPORTED: an opcode, type or layout (other than any and NHWC,
 * or NCHW where H = W = 1) that has no graph. */
rm_status rm_cudnn_lower(const rm_op *op, rm_op *out_op) RM_CHECKED;
bool      rm_cudnn_has(rm_opcode code);
static inline int64_t rm_cudnn_uid(rm_slot slot) { return (int64_t)slot + 1; }

/* ---- graphs */
typedef struct rm_cudnn_tensor { rm_slot slot; cudnnBackendDescriptor_t d; } rm_cudnn_tensor;
typedef struct rm_cudnn_graph {
    rm_op op;                                   /* completed */
    char  key[RM_CUDNN_KEY_SIZE];               /* the op's text: the same for the same graph in every run and version */
    rm_cudnn_tensor tensor[RM_CUDNN_MAX_TENSORS];
    int32_t n_tensor;
    cudnnBackendDescriptor_t window, operation, graph;
} rm_cudnn_graph;

/* The graph of `op` as it is; rm_cudnn_lower() comes before, and is a must for fc (RM_E_ARG). X, DX: x.dtype; W, DW: w.dtype; Y, DY: y.dtype;
 * SAVED of max-pool: int8 (n, c, h, w) of y, the place of the maximum in its window. A y.shape that is given and not the op's
 * is RM_E_ARG. The caller frees with rm_cudnn_graph_free(); the graph must outlive its plans. */
rm_status rm_cudnn_graph_new(const rm_op *op, rm_cudnn_graph **out_graph) RM_CHECKED;
void      rm_cudnn_graph_free(rm_cudnn_graph *g); /* NULL is fine */
#endif
