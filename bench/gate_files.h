/* Two files of results without pairing: a screen, no gate. */
#ifndef RM_BENCH_GATE_FILES_H
#define RM_BENCH_GATE_FILES_H
#include "bench/bench.h"

/* o->arg[1], o->arg[2]: files of JSON documents, one after the other, each of one run, or arrays of runs. At most SUSPECT; PASS where a slow-down of
 * the effect is excluded. Several metrics share the error. */
rm_status bench_gate_files(const bench_options *o) RM_CHECKED;
#endif
