/* The measurement of one N of a scaling sweep: what its ranks do, and what the numbers mean. */
#ifndef RM_BENCH_SCALING_H
#define RM_BENCH_SCALING_H
#include "bench/session.h"

enum { BENCH_DEFAULT_STEPS = 10, BENCH_DEFAULT_WARMUP = 3 };

/* Body of every rank of one N (o->gpus names it): measures the input modes, then the twins, gathers all ranks' steps on rank 0.
 * One device takes every step twice by turns, with the collectives off and with the one-rank communicator: both baselines. */
rm_status bench_scaling_rank(const bench_options *o, json_t **out) RM_CHECKED;

/* Row of --json for one N out of what rank 0 gathered; `base`: the same of N = 1 without collectives, NULL when there is
 * none. New reference: {"row", "samples"}. */
json_t *bench_scaling_row(const bench_options *o, int32_t n, const json_t *gathered, const json_t *base);
/* A row that says that N was not measured and why. New reference. */
json_t *bench_scaling_absent(const bench_options *o, int32_t n, const char *reason);

/* The tables for people, on stdout: throughput, where the loss goes, communication, stragglers. */
void bench_scaling_print(const bench_options *o, const json_t *rows, int32_t cores);
#endif
