/* The parts of bench split-sweep: the list of splits, what its ranks do, its rows, its table. */
#ifndef RM_BENCH_SPLIT_SWEEP_H
#define RM_BENCH_SPLIT_SWEEP_H
#include "bench/session.h"

enum { BENCH_MAX_SPLITS = 256, BENCH_SWEEP_ROUNDS = 10, BENCH_SWEEP_WARMUP = 1 };

/* ---- split_list.c: "107,160;ddp;equal:1..4" as single specs, in order */
typedef struct bench_split_list { char *spec[BENCH_MAX_SPLITS]; int32_t n; } bench_split_list;
/* Each is checked against the gradients of `graph`: RM_E_ARG as rm_split_parse(), naming the split too. Free also after an error. */
rm_status bench_split_list_parse(const char *text, const rm_graph *graph, rm_split_order order, bench_split_list *out) RM_CHECKED;
void      bench_split_list_free(bench_split_list *l);
/* "96.54/3.46 %" of a checked spec, and how many all-reduces it is. */
uint32_t  bench_split_shares(const char *spec, const rm_graph *graph, rm_split_order order, char *text, size_t size);

/* ---- sweep_rank.c: bodies of ranks, for bench_run_ranks() */
int32_t   bench_sweep_rounds(const bench_options *o);
/* Measures every split. Rank 0's *out: what bench_twins_row() reads, and "about": what ran. Interrupted: the whole rounds, and
 * RM_E_INTERRUPTED. A ghost where this process finds a plan (bench/ghost_run.h), else an engine. */
rm_status bench_sweep_rank(const bench_options *o, json_t **out) RM_CHECKED;

/* ---- sweep_row.c: {"row", "samples"} of split i out of what rank 0 gathered. New reference, NULL when memory ran out. */
json_t   *bench_sweep_row(const bench_options *o, const json_t *gathered, int32_t i);

/* ---- sweep_print.c: the table, and what it says in words */
void      bench_sweep_print(const json_t *rows, bool interrupted);
#endif
