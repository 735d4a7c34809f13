/* What bench comm does on every rank, and the parts of it that stand alone. */
#ifndef RM_BENCH_COMM_SWEEP_H
#define RM_BENCH_COMM_SWEEP_H
#include "bench/bench.h"

enum { BENCH_COMM_SIZES = 128 };
/* "MIN:MAX[:FACTOR]" or "8,1K,256M" to bytes, in the order asked. out: room for BENCH_COMM_SIZES. RM_E_ARG with the word. */
rm_status bench_comm_sizes(const char *text, uint64_t *out, uint32_t *out_n) RM_CHECKED;

/* Test data whose sum over n ranks is exact in any order and grouping: whole numbers, and no partial sum above what the type that
 * travels holds exactly (256 in bf16). It repeats every `period` elements; `sum` is what all ranks must find. */
enum { BENCH_COMM_PERIOD = 251 };
typedef struct bench_comm_pattern { uint32_t period; float own[BENCH_COMM_PERIOD], sum[BENCH_COMM_PERIOD]; } bench_comm_pattern;
void      bench_comm_pattern_make(uint32_t rank, uint32_t ranks, uint64_t seed, bool narrow, bench_comm_pattern *out);
void      bench_comm_fill(const bench_comm_pattern *p, float *at, uint64_t count);
/* How many of `count` elements are not those of `expected` (one of the pattern's two tables). */
uint64_t  bench_comm_wrong(const bench_comm_pattern *p, const float *expected, const float *at, uint64_t count);

/* Body of every rank: {"results": [{"row", "samples"}, ...]} on rank 0, a result for each operation and size. Also set when it
 * fails: with what was measured until then. */
rm_status bench_comm_rank(const bench_options *o, json_t **out) RM_CHECKED;
#endif
