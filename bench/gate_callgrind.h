/* Instructions where the machine has no counters: valgrind's, some fifty times slower and almost without noise. */
#ifndef RM_BENCH_GATE_CALLGRIND_H
#define RM_BENCH_GATE_CALLGRIND_H
#include "bench/gate_process.h"

/* bench_process_run() under callgrind: out->instructions is the sum over the shell and every program that it runs. All times are valgrind's. */
rm_status bench_callgrind_run(const char *command, double timeout_s, bench_process *out) RM_CHECKED;
#endif
