/* bench profile: where one step's time goes, what bounds it, and what changing it would give: measured on every rank, brought together on
 * rank 0, made into a row, shown on one screen. The row's keys: docs/json-schema/profile.json; definitions: docs/profile.md. */
#ifndef RM_BENCH_PROFILE_H
#define RM_BENCH_PROFILE_H
#include "bench/sensitivity.h"
#include "bench/session.h"
#include "profiler/replay.h"

enum { BENCH_PROFILE_STEPS = 10, BENCH_PROFILE_WARMUP = 3, BENCH_MOST_CHANGES = 3 };

/* Body of every rank. *out on rank 0: what bench_profile_row() reads. */
rm_status bench_profile_rank(const bench_options *o, json_t **out) RM_CHECKED;
/* {"row", "samples"} out of what rank 0 gathered. New reference; NULL when memory ran out. */
json_t   *bench_profile_row(const bench_options *o, const json_t *got);
/* One screen, on stdout. */
void      bench_profile_print(const json_t *row);

/* What would run, for --dry-run. */
void      bench_profile_print_plan(const bench_options *o, int32_t ranks);

/* Something that could be made faster, and what the step would gain at most. probe: where a known delay tests the estimate; tested
 * false: nothing can be delayed there, and `note` says why or what else has shown it. measured: the gain is a difference of real steps, not a projection. */
typedef struct bench_change { char what[112]; double gain_s; bool measured, tested; bench_probe probe; const char *note; } bench_change;
/* Gains below this share of the step are noise to most readers. */
#define BENCH_LEAST_GAIN 0.005
/* The most profitable ones, best first. got: "layers", "budget_s", "communication" and "stragglers", as bench_profile_rank() gathers them.
 * replay: (steps) the traced steps of rank 0, whose first ops are the layers; an op's gain is the median over them. step_s: the untraced step, which
 * no gain exceeds. */
int32_t     bench_changes_find(const json_t *got, const rm_replay *replay, int32_t steps, double step_s, bench_change out[BENCH_MOST_CHANGES]);
/* Of a change or a sensitivity: "confirmed" (the delay did what the replay says), "hidden" (something else covers it: no saving will come),
 * "model disagrees", "too noisy" (the interval is wider than 1), "not tested". */
const char *bench_change_verdict(const json_t *slope);
#endif
