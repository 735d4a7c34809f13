/* Test doubles: the CUDA runtime, cuDNN's execution, NCCL, CUPTI and NVML on a machine without a GPU, so that the whole cuda device runs, is
 * compared and is watched. `bench-doubles` is the program with them in place of the libraries; the code under test is the same.
 *
 *   runtime.c ...  streams, events, memory, stream capture and graphs of the CUDA runtime; `cudart` is not linked
 *   races.c        who may see what: every piece of work is ordered by streams, events and the host alone
 *   cudnn.c        real cuDNN checks descriptors and plans for a described GPU; only cudnnBackendExecute() is ours (--wrap)
 *   nccl.c         collectives between processes
 *   cupti.c        activity records of what ran
 *   nvml.c         libnvidia-ml.so.1 with a made-up GPU
 *
 * Kernels are our own .cu files, compiled for the emulator (tests/cuda/emu). Doubles share nothing with the ref device.
 *
 * Work is lazy: a call that enqueues does no more than that, and everything runs as late as it may, when the host waits or asks. So a host
 * that reads too early, or overwrites a buffer that is still to be copied, gets wrong values every time, not now and then. What is
 * not ordered by streams, events or the host is a race, found from what every piece of work touched, whatever order it happened to run in.
 * Errors of use (freed memory, capture rules, a wait for an event of another device, ...) are what the real runtime returns.
 *
 * Environment: RM_DOUBLES_GPU=FILE the GPU that is described (tests/cuda/devices/; default h100.json); RM_DOUBLES_GPUS=N how many (8);
 * RM_DOUBLES_SPACE=GIB addresses for the memory of each (256; under valgrind less); RM_DOUBLES_FAULTS=... what shall go wrong, see each
 * file. Findings go to stderr as "doubles: FINDING: ..." and make the program end with 99.
 *
 * Threads: any; one lock inside. Work runs under the lock on the thread that waits or asks. */
#ifndef DBL_H
#define DBL_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dbl_kind { DBL_KERNEL, DBL_COPY, DBL_FILL, DBL_HOST } dbl_kind;
/* Memory that work reads or writes, device or pinned. */
typedef struct dbl_touch { const void *at; size_t bytes; bool write; } dbl_touch;

/* Work of another library on a stream of ours. It is copied; in a captured graph it runs once for every launch of the graph. */
typedef struct dbl_work {
    const char *name;                   /* as a profiler would call it; static */
    dbl_kind kind;
    bool (*run)(void *ctx);             /* false: not yet (peers are not there); it is called again, the lock is open between */
    void  *ctx;                         /* `bytes` of it are copied */
    size_t bytes;
    const dbl_touch *touch; size_t n_touch;
    uint64_t copied_bytes;              /* of DBL_COPY and DBL_FILL */
} dbl_work;
/* cudaSuccess, or what the runtime would say: invalid stream, capture rules. */
cudaError_t dbl_enqueue(cudaStream_t stream, const dbl_work *w);

/* ---- for the CUPTI double */
typedef struct dbl_ran {
    const char *name; dbl_kind kind;
    uint32_t device, stream, correlation;       /* stream: a number; correlation: of the call that enqueued it, or that launched its graph */
    uint32_t graph_node;                        /* 0: not from a graph */
    uint64_t begin_ns, end_ns, bytes;           /* CLOCK_MONOTONIC_RAW */
} dbl_ran;
/* Every call of the runtime that enqueues: on the thread that calls, before and after; correlation is the same for both. */
typedef struct dbl_call { const char *name; uint32_t correlation; bool enter; } dbl_call;
typedef struct dbl_watch { void (*ran)(const dbl_ran *r); void (*call)(const dbl_call *c); } dbl_watch;
void dbl_set_watch(const dbl_watch *w);         /* NULL: nobody watches */

/* Kernels, cuDNN's too, do nothing when their turn comes: for counting what the host does, where what is computed does not matter. */
void dbl_set_idle(bool idle);

/* ---- of the NCCL double: communicators that ncclCommAbort() ended in this process */
unsigned dbl_nccl_aborts(void);

/* ---- of cuDNN's double: descriptors of the graph API that this process has made so far */
unsigned dbl_cudnn_made(void);

/* ---- findings */
void     dbl_finding(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
unsigned dbl_findings(void);                    /* so far; tests of the doubles read and clear it */
void     dbl_findings_clear(void);
/* Blocks of memory, streams, events and graphs that were made and not given back. */
int      dbl_alive(void);
/* Calls so far for which the real runtime takes the GPU: cudaSetDevice, and what makes streams, events, memory or handles. */
unsigned dbl_took(void);
void     dbl_takes(void);                        /* for the doubles */
void     dbl_born(int one);                      /* for the doubles: 1 or -1 */
#endif
