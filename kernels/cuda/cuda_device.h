/* What the files of the cuda device share; nobody else includes this.
 *
 *   device.c   opening, memory, queues, marks, recordings, the table
 *   plan.c     ops: which function computes what, in which layouts and with how much scratch memory
 *   conv.c     the ops that cuDNN computes: convolutions, fc, max-pool
 *   peaks.c    what the GPU can do at most
 *
 * Activations are NHWC. In 16-bit types the three channels of the image, and of the first weights, are padded to eight
 * (CUDA_PADDED), because cuDNN has nothing good for three; weights are fp32 masters in NHWC, and copies in the type of the activations. */
#ifndef RM_CUDA_DEVICE_H
#define RM_CUDA_DEVICE_H
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/cudnn_plan.h"
#include "kernels/cuda/kernels.h"

enum { CUDA_PADDED = RM_LAYOUT_PRIVATE, CUDA_PAD = 8 /* channels are a multiple of it */, CUDA_ALIGN = 256 };

/* Defined by programs whose CUDA libraries are test doubles (tests/cuda/doubles); not empty: candidates are timed there too. */
extern const char rm_cuda_doubles[] __attribute__((weak));

struct rm_queue { cudaStream_t stream; };
/* `order` makes queues wait inside a recording, where `time` is recorded for its time alone (an external event). */
struct rm_mark { struct cuda_device *device; cudaEvent_t time, order; uint64_t recording; bool set; };
struct rm_recording { cudaGraphExec_t exec; };

typedef struct cuda_device {
    rm_device base;
    rm_device_info info;
    int ordinal;
    bool deterministic, reference_only;
    rm_queue compute;
    cudnnHandle_t cudnn;
    cudaStream_t cudnn_stream;      /* what the handle is set to */
    rm_cudnn_device *gpu;
    rm_cudnn_cache *cache;          /* opened with the first plan, written with rm_plans_save() and at the end */
    cudaEvent_t base_event;         /* where event times are counted from, and when that was */
    uint64_t base_ns;
    uint64_t recording;             /* number of the recording under way; 0: none */
    uint64_t recordings;
} cuda_device;
static inline cuda_device *cuda_of(const rm_device *d) { return (cuda_device *)(uintptr_t)d; }

typedef struct cuda_plan cuda_plan;
typedef rm_status cuda_run_fn(cuda_plan *p, void *const t[RM_SLOT_COUNT], char *workspace, cudaStream_t stream);
struct cuda_plan {
    rm_plan base;
    cuda_device *device;
    cuda_run_fn *run;
    rm_cuda_type type;              /* of the activations */
    union {
        rm_cuda_bn bn;
        struct {
            rm_cuda_optim o;
            void *tables;           /* device memory */
        } optim;
        struct {
            rm_cudnn_graph *graph;
            rm_cudnn_plan *plan;
            void *at[RM_SLOT_COUNT], *workspace; /* what the pack was made for */
            cudnnBackendDescriptor_t pack;
            size_t w, y;            /* bytes of scratch memory for DW and Y or DY in cuDNN's type; 0: the caller's own */
        } dnn;
    } u;
};

static inline rm_cuda_type cuda_type(rm_dtype t) { return t == RM_BF16 ? RM_CUDA_BF16 : t == RM_F16 ? RM_CUDA_F16 : RM_CUDA_F32; }
static inline bool cuda_has(rm_dtype t) { return t == RM_F32 || t == RM_TF32 || t == RM_BF16 || t == RM_F16; }
static inline int32_t cuda_padded(int32_t c) { return (c + CUDA_PAD - 1) / CUDA_PAD * CUDA_PAD; }
static inline size_t cuda_align(size_t n) { return (n + CUDA_ALIGN - 1) / CUDA_ALIGN * CUDA_ALIGN; }

size_t    cuda_layout_bytes(rm_device *d, const rm_tdesc *t);
rm_status cuda_plan_op(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info) RM_CHECKED;
rm_status cuda_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args) RM_CHECKED;
void      cuda_plan_free(rm_device *d, rm_plan *plan);
/* conv.c: fills the rest of a plan whose op is set, and *out_info. */
rm_status cuda_dnn_plan(cuda_plan *p, rm_plan_info *out_info) RM_CHECKED;
void      cuda_dnn_free(cuda_plan *p);
rm_status cuda_peaks(rm_device *d, struct rm_peaks *out) RM_CHECKED;
#endif
