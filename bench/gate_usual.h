/* What is compared of two builds when --metric does not say. */
#ifndef RM_BENCH_GATE_USUAL_H
#define RM_BENCH_GATE_USUAL_H
#include "base/status.h"

enum { BENCH_USUAL_MOST = 3 }; /* as many as one gate should judge */
typedef struct bench_usual { char text[BENCH_USUAL_MOST][64]; int n; } bench_usual;
/* Texts for bench_metric_parse(): the steps of --bench ARGS, one a number of devices where "scaling --gpus 1,2" names several, and @cpu_s while there is room.
 * RM_E_ARG where there are more than that, or they have no names yet, as the splits of a sweep. */
rm_status bench_gate_usual(const char *args, bench_usual *out) RM_CHECKED;
#endif
