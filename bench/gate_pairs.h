/* Pairs: one run of each side, one right after the other, in an order that a seeded coin decides; stored as they come, so that a gate that was
 * interrupted goes on. */
#ifndef RM_BENCH_GATE_PAIRS_H
#define RM_BENCH_GATE_PAIRS_H
#include "bench/gate_mask.h"
#include "bench/gate_metric.h"
#include "profiler/calm.h"
#include "profiler/store.h"
#include "reports/gate_rule.h"

/* A run's document: the JSON on stdout, and whatever a side adds to it. New reference, or NULL where there is none and none is needed. */
struct bench_gate_side;
typedef rm_status bench_document_fn(const struct bench_gate_side *side, const bench_process *run, json_t **out);

/* command: for the shell. label, revision: for people; commit: what was built, "" where it was no revision. program: whose bytes are judged, "" for a command;
 * digest: of its bytes, of a command those of bench_executable_digest(). before: called before each run, NULL for nothing. */
typedef struct bench_gate_side {
    char *command, *program;
    char label[128], revision[64], commit[64], digest[65];
    bench_document_fn *document;
    void (*before)(const struct bench_gate_side *side);
    const char *scratch;
    char letter;                         /* 'a' or 'b' */
} bench_gate_side;

/* pairs: the JSON array of pair rows {"kind": "pair", "pair", "order": "AB"|"BA", "discarded": null|"exit"|..., "a": {"values": {metric: number},
 * "wall_s", "cpu_s", "max_rss_bytes", "exit", "series": {metric: {"steps", "dropped", "settled"}}}, "b": {...}, "layers": {name: [a, b]}, "exact": {metric: [a, b]}}. */
typedef struct bench_pairs {
    const bench_gate_side *side;         /* two */
    const bench_metric *metric;
    int metrics;
    bench_masks masks;
    uint64_t seed;
    double timeout_s, calm_s;            /* calm_s: how long at most a run waits for a calm machine, 0: not at all */
    struct rm_calm *calm;                /* the caller closes it */
    double waited_s;                     /* in this process */
    int busy;                            /* runs that began all the same */
    rm_store *store;                     /* NULL: pairs are not stored */
    int64_t run;
    json_t *pairs;
    int kept, discarded;
    double seconds;                      /* that the pairs of this process took together */
    int own;                             /* how many those are */
    bool want_layers, callgrind;         /* callgrind: runs are those of bench_callgrind_run() */
    char failure[500];                   /* how the last run that was discarded for it failed; "" */
} bench_pairs;

/* The coin of pair i: is side B run first? */
bool      bench_pairs_b_first(uint64_t seed, int i);
/* Takes over what is stored of the run. */
rm_status bench_pairs_load(bench_pairs *p) RM_CHECKED;
/* One more pair. RM_E_NUMERIC: a run failed and no mask covers it; RM_E_INTERRUPTED; what bench_metric_take() says. */
rm_status bench_pairs_run(bench_pairs *p) RM_CHECKED;
/* d of metric m: (room) at least p->kept; returns p->kept. order: 2 characters a pair and a NUL, NULL for none. */
int       bench_pairs_differences(const bench_pairs *p, int m, double *d, char *order);
/* The median value of metric m of side 0 or 1; NaN for none. */
double    bench_pairs_median(const bench_pairs *p, int m, int side);
#endif
