/* Two layer tables side by side: bench layers --compare A B. */
#ifndef RM_BENCH_LAYERS_COMPARE_H
#define RM_BENCH_LAYERS_COMPARE_H
#include "bench/bench.h"

/* A table and what it was measured with. All references are owned; config and environment may be NULL. */
typedef struct bench_layers_side { char name[256]; json_t *row, *config, *environment; } bench_layers_side;

/* `what`: a number is a run of the store of `o`; else a file: one that --json wrote, or a store, whose newest bench layers counts. A table is taken
 * from the first result that has "layers". RM_E_ARG: no such run or no table in it; RM_E_IO, RM_E_FORMAT: says which file and what is wrong with
 * it. What comes back is checked: at least one row, each with a name, a pass and a time. */
rm_status bench_layers_load(const bench_options *o, const char *what, bench_layers_side *out) RM_CHECKED;
void      bench_layers_side_free(bench_layers_side *s);

/* {"a", "b", "time", "unlike": [{"what", "a", "b"}], "rows": [{name, pass, a_s, b_s, difference_s, ratio}], "rows_a_s", "rows_b_s", "step_a_s",
 * "step_b_s"}: largest differences first (B less A; ratio B / A), then rows that only one has, which are null in the other. Rows of the same name
 * and pass are one. "time" says whether times are medians over the steps, where both tables have them, or of the step shown. Pure. New
 * reference; NULL when memory ran out. */
json_t *bench_layers_compared(const bench_layers_side *a, const bench_layers_side *b);
/* The command. */
rm_status bench_layers_compare(const bench_options *o) RM_CHECKED;
#endif
