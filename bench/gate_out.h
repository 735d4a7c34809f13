/* What a gate leaves: its rows in the store, on stdout, and in the files that were asked for. */
#ifndef RM_BENCH_GATE_OUT_H
#define RM_BENCH_GATE_OUT_H
#include "bench/bench.h"
#include "reports/gate_text.h"

/* Of things that are all tried: the first that failed, with its message. Of the others a warning is given. */
typedef struct bench_failure { rm_status status; char why[1024]; } bench_failure;
void      bench_failure_note(bench_failure *f, rm_status st);
rm_status bench_failure_status(const bench_failure *f) RM_CHECKED;

/* Prints the rows as the options say: plain lines or --json on stdout, --junit, --markdown, --github. All are tried, whichever of them fails. */
rm_status bench_gate_print(const bench_options *o, json_t *environment, const json_t *rows) RM_CHECKED;
/* The status of the rows together, with one line that says which is the worst. */
rm_status bench_gate_status(const json_t *rows) RM_CHECKED;
#endif
