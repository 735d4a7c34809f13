/* What the ranks of one N measured step by step, and where a scaling loss goes (docs/scaling.md). Pure functions of the
 * numbers, but for the gathering. */
#ifndef RM_BENCH_SCALING_LOSS_H
#define RM_BENCH_SCALING_LOSS_H
#include "bench/session.h"

/* Of one step on one rank, in seconds. BLOCKED is how long the update waited for the last all-reduces; COMM is |M|. From COUNTS on come
 * the counters in the order of rm_counter and in the units of their keys; NaN: not counted. CRITICAL is what of the all-reduces lies on the
 * critical path, by replay; NaN: not known. From GPU on come what its driver said of the time: reasons for lowered clocks as bits, the SM clock in MHz,
 * W, degrees Celsius; NaN: not a GPU, or not told. */
typedef enum bench_term {
    BENCH_STEP, BENCH_COMPUTE, BENCH_EXPOSED_COMM, BENCH_EXPOSED_COPY, BENCH_INPUT, BENCH_HOST, BENCH_IDLE, BENCH_COMM, BENCH_OVERLAP, BENCH_BLOCKED, BENCH_COUNTS,
    BENCH_CRITICAL = BENCH_COUNTS + RM_COUNTERS, BENCH_GPU_REASONS, BENCH_GPU_MHZ, BENCH_GPU_W, BENCH_GPU_C, BENCH_TERMS
} bench_term;
void bench_terms_of(const rm_step *s, double critical_s, double out[BENCH_TERMS]);
void bench_gpu_terms(const rm_gpu_reading *r, double out[BENCH_TERMS]);  /* the GPU's alone (throttled_row.c) */

/* What this rank took: n steps, how long all and the first of them took, CPU time of its communication thread. critical_s: of each step,
 * as bench_blocking_of() gives it; NULL: not known. */
typedef struct bench_taken { const rm_step *step; int32_t n; uint64_t window_ns, first_ns, comm_cpu_ns; const double *critical_s; } bench_taken;
/* Collective: on rank 0 what bench_steps_read() reads, NULL elsewhere. */
rm_status bench_steps_gather(rm_comm *comm, const bench_taken *t, json_t **out) RM_CHECKED;

/* All steps of all ranks. cpu_s: of the ranks' communication threads, mean. */
typedef struct bench_steps { double *v, *slowest; int32_t ranks, n; double window_s, first_s, comm_cpu_s; } bench_steps;
/* {"window_s", "first_s", "comm_cpu_s", "ranks": [[[terms...] of each step] of each rank]}; free also after an error. */
rm_status bench_steps_read(const json_t *mode, bench_steps *out) RM_CHECKED;
void      bench_steps_free(bench_steps *t);
double    bench_term_at(const bench_steps *t, int32_t rank, int32_t step, bench_term x);
double    bench_term_mean(const bench_steps *t, bench_term x);  /* over ranks and steps */
/* blocking_comm: of each step CRITICAL on its slowest rank, and of these the median. NaN when any is not known. */
double    bench_steps_blocking(const bench_steps *t);
/* Mean shares of the ranks, scaled to the median step: the terms add up to it. New reference. */
json_t   *bench_steps_budget_json(const bench_steps *t);

/* Why a step of several devices takes longer than the ideal one, `share` of the step `one`: {"loss", "input", "compute_slowdown",
 * "exposed_transfer", "straggler", "unexplained"}, which add up. *out_jitter: how much of the straggler's part is lateness of no
 * rank in particular. New reference. */
json_t *bench_loss_json(const bench_steps *t, const bench_steps *one, double share, double *out_jitter);
/* [{"rank", "host", "own_s", "wait_s", "late_share", "late_s", "late_s_low", "late_s_high", "straggler"}]. New reference. */
json_t *bench_stragglers_json(const bench_steps *t, const json_t *hosts);
#endif
