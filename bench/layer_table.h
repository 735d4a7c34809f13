/* The layer table: what every op of a step took, over several steps, with its bound. bench layers and bench profile show it. */
#ifndef RM_BENCH_LAYER_TABLE_H
#define RM_BENCH_LAYER_TABLE_H
#include "bench/session.h"
#include "kernels/peaks.h"

typedef struct bench_layer_times bench_layer_times;
/* Room for `steps` steps of an engine with layer timers, which must outlive it. */
rm_status bench_layer_times_new(const rm_engine *e, int32_t steps, bench_layer_times **out) RM_CHECKED;
void      bench_layer_times_free(bench_layer_times *t);
/* The engine's last step. At most `steps` times. */
rm_status bench_layer_times_note(bench_layer_times *t, const rm_step *s) RM_CHECKED;
/* The number of the step whose time is the (lower) median, from 0: its rows are shown, so that they really sum to a step that happened. */
int32_t   bench_layer_times_median(const bench_layer_times *t);
/* {"wall_ns", "layers": [...]} of that step. A row: name, pass, op, impl, time_s, time_ns, time_s_median (over all steps), share, flops, bytes, gflops_per_s, gb_per_s, and, with peaks
 * (NULL: null, with "bound_s_reason" on the table), bound_s, bound_limit ("compute", "L2", "L3", "memory"), bound_share (bound / time), intensity, step_if_at_bound_s (the step less what this row is
 * above its bound). Then the rows of what is no op, by the budget's precedence: "exposed communication", "copy", "input" where they are not 0,
 * "host" and "idle" always. time_ns of all rows add up to wall_ns, asserted. New reference; NULL when memory ran out. */
json_t   *bench_layer_times_json(const bench_layer_times *t, const rm_peaks *peaks);
/* {"name", "unit", "value", "how", "why"} a peak; new reference. */
json_t   *bench_peaks_json(const rm_peaks *p);
/* The table for people, on stdout: {"layers", "step_s", "images_per_s"} of a row. most: rows by time, 0 all in the order of the step. */
void      bench_layer_table_print(const json_t *row, size_t most);
#endif
