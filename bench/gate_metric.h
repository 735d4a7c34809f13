/* Metrics: what a gate compares, and where in a run it stands. */
#ifndef RM_BENCH_GATE_METRIC_H
#define RM_BENCH_GATE_METRIC_H
#include "bench/gate_process.h"
#include "profiler/steady.h"
#include <jansson.h>

enum { BENCH_METRICS_MOST = 8 };
#define BENCH_METRIC_CALLGRIND "@callgrind" /* instructions by valgrind, which slows everything else down */
/* path: into the JSON that a run prints ("$.seconds"), or of the run itself: "@cpu_s", "@wall_s", "@max_rss_bytes", "@instructions", "@callgrind". effect: the
 * least change that counts, as a share. higher: more is better. fast: of an array the fast decile, not the median. exact: T0, any JSON value, equal or not.
 * tier: "T0", "T1", "T2". */
typedef struct bench_metric { char name[64], path[256]; double effect; bool higher, fast, exact; const char *tier; } bench_metric;

/* "[NAME=]PATH[:effect=2%][:higher][:fast][:exact]". RM_E_ARG. */
rm_status bench_metric_parse(const char *text, double effect, bench_metric *out) RM_CHECKED;
/* "2%" or "0.02", above 0 and below 1; `what` for the message. */
rm_status bench_share_parse(const char *text, const char *what, double *out) RM_CHECKED;

/* One value of a run: a number, or of an array the median after warm-up (profiler/steady.h), or its fast decile: what a step takes
 * while nobody disturbs it. settled: the warm-up rule held, or there was
 * one number. log: ln(value), -INFINITY for 0, its sign turned where higher is better, so that more is worse. */
typedef struct bench_metric_value { double value, log; size_t steps, dropped; bool settled; } bench_metric_value;
/* Of a series and where it became steady. */
double bench_metric_of_series(const bench_metric *m, const double *v, const rm_steady *s);
/* Fails with why what the run printed is no JSON. RM_E_FORMAT. */
rm_status bench_metric_no_json(const char *path, const bench_process *run) RM_CHECKED;
/* document: NULL where the run printed no JSON, which only metrics of the run itself can do without. RM_E_FORMAT. */
rm_status bench_metric_take(const bench_metric *m, const bench_process *run, const json_t *document, bench_metric_value *out) RM_CHECKED;
#endif
