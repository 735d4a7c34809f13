/* The layer table: what every op of a step took, over several steps, with its bound. bench layers and bench profile show it. */
#ifndef RM_BENCH_LAYER_TABLE_H
#define RM_BENCH_LAYER_TABLE_H
#include "bench/session.h"
#include "kernels/peaks.h"

typedef struct bench_layer_times bench_layer_times;
/* Room for `steps` steps of an engine with layer timers, which must outlive it. */
rm_status bench_layer_times_new(const rm_engine *e, int32_t steps, bench_layer_times **out) RM_CHECKED;
void      bench_layer_times_free(bench_layer_times *t);
/* The engine's last step, which is `s`. At most `steps` times. */
rm_status bench_layer_times_note(bench_layer_times *t, const rm_step *s) RM_CHECKED;
/* The number of the step whose time is the (lower) median, from 0: its rows are shown, so that they really sum to a step that happened. */
int32_t   bench_layer_times_median(const bench_layer_times *t);
/* {"wall_ns", "layers": [...], "at_bounds_s"} of that step. A row: name, pass, op, impl, time_s, time_ns, time_s_median (over all steps), share,
 * flops, bytes, gflops_per_s, gb_per_s, intensity (FLOP a byte) and, with peaks, bound_s, bound_limit ("compute", "L2", "L3", "memory"),
 * bound_share (bound / time: above 1 where the op does less than is counted, or finds its operands nearer), step_if_at_bound_s (the step less
 * what this row is above its bound). Without peaks (NULL) these are null, and the table has "bound_s_reason", which the caller may replace
 * with a better one; a row that has none for other reasons says so in its own "bound_s_reason". at_bounds_s: the step with every row at most at
 * its bound, rows without a bound as they are.
 * Ops first, in the order of the step, those of the update in parts as one row; an op that runs beside an earlier one counts from that one's end.
 * Then what is no op, by the budget's precedence: "other computing" (earlier micro-batches, injected trouble), "exposed communication", "copy",
 * "input" where they are not 0, "host" and "idle" always. time_ns of all rows add up to wall_ns, asserted. New reference; NULL when memory ran
 * out. */
json_t   *bench_layer_times_json(const bench_layer_times *t, const rm_peaks *peaks);
/* [{"name", "unit", "value", "how", "why", "disturbed"}] of peaks, and {"flops_per_s", "levels": [{"name", "bytes", "bytes_per_s"}]} of a roof, memory's bytes
 * null; new references. */
json_t   *bench_peaks_json(const rm_peaks *p);
json_t   *bench_roof_json(const rm_roof *r);
/* "peaks:" and what bench_peaks_json() gave, for people, on stdout. */
void      bench_peaks_print(const json_t *peaks);
/* row["mfu"] of a training step at this many images a second on one device, against the measured matrix product in its type, with "mfu_peak" (that
 * peak's name) and "flops_per_image" (3 x 2 x forward multiply-adds); null with "mfu_reason" where there is no such peak. */
void      bench_mfu_set(json_t *row, const rm_engine *e, double images_per_s, const rm_peaks *peaks);
/* The table for people, on stdout, at most 160 columns wide: {"layers", "step_s", "images_per_s"} of a row, with "peaks" at its head and "at_bounds_s"
 * and the largest gains at its foot where it has them. most: rows by time, 0 all in the order of the step. */
void      bench_layer_table_print(const json_t *row, size_t most);
#endif
