/* What twins.c writes down while it measures and twins_gather.c brings together. Internal to the two. */
#ifndef RM_BENCH_TWINS_RECORD_H
#define RM_BENCH_TWINS_RECORD_H
#include "bench/twins.h"

typedef struct bench_bucket_time { uint64_t ready, start, end; } bench_bucket_time; /* rm_now_ns() */

/* Steps of one kind: real ones under a split, or a twin. */
typedef struct bench_series {
    const char *split;             /* NULL: a twin */
    rm_reduce_mode mode;
    rm_step   *step;               /* (rounds) */
    double    *critical_s;         /* (rounds) bench_blocking_of() each */
    uint64_t   cpu_ns;             /* of the communication thread, over all of them */
    uint32_t   n_bucket;
    rm_bucket *bucket;             /* (n_bucket) only gradients and bytes mean anything here */
    bench_bucket_time *time;       /* (rounds x n_bucket) */
    double    *isolated_s;         /* (n_isolated, room for bench_isolated_wanted()) the all-reduces alone */
    int32_t    n_isolated;
    double    *least_s;            /* (n_bucket) the shortest of each bucket when alone */
    double    *met_ns;             /* (n_node) time of compute nodes while gradients travelled ... */
    uint32_t  *met;                /* (n_node) ... and in how many steps they did */
} bench_series;

typedef struct bench_record {
    rm_comm *comm;
    const bench_subject *subject;
    const bench_twins_config *cfg;
    bench_series *series;          /* (n) a split each, then the twin with the all-reduce off, then the one with a barrier */
    int32_t   n, done;             /* done: whole rounds */
    bool      interrupted;
    int32_t   n_param, n_node;     /* n_node 0: a ghost, or no layer timers */
    double   *ready_ns;            /* (n_param x rounds) when each gradient was ready in the off twin, from the step's begin */
    double   *off_ns;              /* (n_node) sums over off twins */
    int32_t   off_n;
} bench_record;

static inline bench_series *bench_record_off(const bench_record *r) { return &r->series[r->n - 2]; }
static inline bench_series *bench_record_barrier(const bench_record *r) { return &r->series[r->n - 1]; }
static inline int32_t bench_isolated_wanted(int32_t rounds) { return rounds < 9 ? 3 : (rounds + 2) / 3; }
const rm_graph *bench_subject_graph(const bench_subject *s);

/* Collective. Rank 0's *out: what bench_twins_row() reads. */
rm_status bench_twins_gather(const bench_record *r, json_t **out) RM_CHECKED;
#endif
