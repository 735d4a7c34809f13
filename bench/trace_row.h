/* What a traced run says of its trace, and the end of it on all ranks: for bench scaling, train and profile. */
#ifndef RM_BENCH_TRACE_ROW_H
#define RM_BENCH_TRACE_ROW_H
#include "bench/session.h"

/* trace: "ratio", "low", "high", "perturbed", "undecided" of `cost`; where it is of no steps they are null for the reason `none`, but undecided. */
void      bench_set_perturbation(json_t *trace, const rm_perturbation *cost, const char *none);
/* trace: "kernel_times" is "cupti", and "cupti" what that saw, or "events", and "kernel_times_reason" why. Of this rank. */
void      bench_set_kernel_times(json_t *trace, const rm_kernel_times *k);
/* Ends the trace on every rank, and says what it cost. A file that cannot be written whole is a warning and costs nothing else: "cut" tells, of
 * all ranks. files: the pattern of their names. Collective. */
rm_status bench_trace_end(rm_comm *comm, rm_engine *e, rm_step_trace *t, const rm_perturbation *cost, char *files, size_t size, bool *out_cut) RM_CHECKED;
#endif
