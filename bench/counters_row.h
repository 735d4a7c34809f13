/* Counters in results: the keys "counters", "foreign_share", "disturbed_steps" and "memory_high_bytes" (docs/counters.md). */
#ifndef RM_BENCH_COUNTERS_ROW_H
#define RM_BENCH_COUNTERS_ROW_H
#include "bench/scaling_loss.h"

/* {"instructions", "cycles", ...}: `sum` over `per` steps, each in the unit of its key; null with "<key>_reason" where it is not counted;
 * "multiplexed": true where hardware counts were extrapolated. New reference. */
json_t *bench_counters_json(const rm_counts *sum, const rm_counters *c, double per);
/* {"<key>": reason} of what `c` does not count, and "multiplexed". For rank 0, on whose row it will be. New reference. */
json_t *bench_counters_why(const rm_counters *c);

/* Into the row of what rank 0 gathered ("counters_why", "memory_high_bytes", "threads"): means per step and rank, and how many steps
 * were disturbed on any rank; into the samples "disturbed", 0 or 1 for every step. */
void bench_set_counters(json_t *row, json_t *samples, const bench_steps *t, const json_t *gathered);
/* disturbed[n] of one rank's steps, of which `sum` was counted. `why`: NULL, or why they cannot be told. */
void bench_set_disturbed(json_t *row, json_t *samples, const double *disturbed, size_t n, const char *why);
/* {"row", "samples"}: steps that cannot be told after all. */
void bench_undisturbed(json_t *result, const char *why);

/* Most memory of any rank; 0: unknown. Collective. */
rm_status bench_memory_high(rm_comm *comm, uint64_t *out) RM_CHECKED;
void bench_set_memory_high(json_t *row, uint64_t bytes);
#endif
