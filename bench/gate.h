/* The gate: verdicts on one program against another, for this program or any command. docs/gate.md. */
#ifndef RM_BENCH_GATE_H
#define RM_BENCH_GATE_H
#include "bench/bench.h"

extern const bench_command bench_cmd_gate;

/* The verbs of bench gate; the verb is o->arg[0]. Their status is the verdict: rp_verdict_status(). */
rm_status bench_gate_ab(const bench_options *o) RM_CHECKED;
rm_status bench_gate_facts(const bench_options *o) RM_CHECKED;
rm_status bench_gate_history(const bench_options *o) RM_CHECKED;
rm_status bench_gate_bisect(const bench_options *o) RM_CHECKED;
rm_status bench_gate_selftest(const bench_options *o) RM_CHECKED;
#endif
