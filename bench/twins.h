/* Twins: real steps under one or several splits, and beside them, in the same run and in random order, the same steps with the
 * all-reduce off and with a barrier in its place, and the all-reduces alone. What split-sweep and scaling take their causal figures
 * from: comm_cost, eta_eff, slowdown, the bound, the Gantt chart.
 *
 * A round holds every split's real step and both twins once, in an order drawn from the seed (the same on all ranks), each after a
 * barrier; the isolated all-reduces follow every few rounds. Differences are paired within a round. Weights stand still (learning
 * rate 0), so that ranks may differ in their gradients without harm. */
#ifndef RM_BENCH_TWINS_H
#define RM_BENCH_TWINS_H
#include "bench/session.h"
#include "model/parallel/ghost.h"

/* What is measured: an engine with layer timers and a source, or a ghost. One of the two. */
typedef struct bench_subject { rm_engine *engine; const rm_source *source; rm_ghost *ghost; } bench_subject;

/* What of the communication of the subject's last step lies on this rank's critical path: T_replay(as measured) - T_replay(all-reduces take no
 * time). 0 where nothing was exchanged; NaN without layer timers. `step` is what the subject's last step gave. */
rm_status bench_blocking_of(const bench_subject *s, const rm_step *step, double *out_s) RM_CHECKED;

typedef struct bench_twins_config {
    const char *const *split; int32_t n_split; rm_split_order order;
    int32_t  rounds, warmup;     /* warmup rounds are thrown away */
    uint64_t seed;
    const char *what;            /* of the progress line */
} bench_twins_config;

/* Collective. *out, on rank 0 only: everything that the rows need (kept in the store under "gathered ..."). Stops early and marks
 * the result {"interrupted": true} when a signal came to any rank, with what was measured so far. */
rm_status bench_twins_measure(rm_comm *comm, const bench_subject *s, const bench_twins_config *cfg, json_t **out) RM_CHECKED;
/* The keys of a split-sweep row that come from twins (docs/json-schema/split-sweep.json), for split number i. New reference. */
json_t   *bench_twins_row(const json_t *gathered, int32_t i);
#endif
