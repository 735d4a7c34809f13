/* What a trace's device work says about overlap: the figures of docs/measures.md as far as one trace allows, and those of
 * HolisticTraceAnalysis 0.5.0 over the same spans. docs/overlap.md. Pure functions of the spans; any thread. */
#ifndef RM_OVERLAP_H
#define RM_OVERLAP_H
#include "profiler/budget.h"
#include "profiler/kineto_read.h"

/* ALL: from the first device work to the last. STEPS: from the first ProfilerStep's begin to the last one's end. HTA: what
 * HolisticTraceAnalysis keeps, from its first to its last; for traces read with as_hta. */
typedef enum rm_overlap_window { RM_OVERLAP_ALL, RM_OVERLAP_STEPS, RM_OVERLAP_HTA } rm_overlap_window;
typedef struct rm_overlap_options {
    rm_overlap_window window;
    bool drop_last_step, round; /* HTA only: there are steps of several names among all ranks; rounding is not disabled */
} rm_overlap_options;

typedef struct rm_overlap_stream { uint64_t n, busy_ns; } rm_overlap_stream;
typedef struct rm_overlap {
    int64_t   window_ns, compute_ns, non_compute_ns, idle_ns; /* HolisticTraceAnalysis' temporal breakdown: the first is the sum of the others */
    int64_t   comm_ns, overlap_ns;                            /* |M| and |C and M| */
    rm_budget budget;                                         /* its `host` is device work of class OTHER */
    rm_interval window;                                       /* in nanoseconds from the trace's earliest span */
    rm_overlap_stream stream[RM_KINETO_STREAMS];              /* as in rm_kineto.stream */
} rm_overlap;

/* k's spans are put into order of begins, and those out of the window are taken away. RM_E_ARG: nothing is left, or there are no steps
 * for STEPS. */
rm_status rm_overlap_of(rm_kineto *k, const rm_overlap_options *options, rm_overlap *out) RM_CHECKED;

/* Transfer and waiting: the k-th collective of each rank is one collective, which none can begin to transfer before the last has come, so
 * that its least duration is the transfer. After rm_overlap_of() of each. False where the ranks' collectives do not match. */
bool rm_overlap_xfer(const rm_kineto *const *ranks, size_t n, int64_t *xfer_ns, int64_t *sum_ns); /* of one rank; of all */
#endif
