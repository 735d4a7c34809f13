/* What a gate leaves: its rows in the store, on stdout, and in the files that were asked for. */
#ifndef RM_BENCH_GATE_OUT_H
#define RM_BENCH_GATE_OUT_H
#include "bench/bench.h"
#include "reports/gate_text.h"

/* Prints the rows as the options say: plain lines or --json on stdout, --junit, --markdown, --github. */
rm_status bench_gate_print(const bench_options *o, json_t *environment, const json_t *rows) RM_CHECKED;
/* The status of the rows together, with one line that says which is the worst. */
rm_status bench_gate_status(const json_t *rows) RM_CHECKED;
#endif
