/* Facts: what a training step is, to the last op, whatever the machine does beside it. Equal or not: no statistics. docs/gate.md. */
#ifndef RM_BENCH_GATE_FACTS_H
#define RM_BENCH_GATE_FACTS_H
#include "bench/bench.h"
#include "reports/gate_rule.h"

/* Has what `args` ("scaling --px 64") runs facts? Commands that train the network have. */
bool      bench_facts_has(const char *args);
/* {"bench": args, "device", "dtype", "ranks", "px", "batch", "facts": {...}} of this program, in this process or, for several ranks, in ranks of this command
 * line. NULL in *out on ranks that do not report. New reference. */
rm_status bench_facts_of(const bench_options *o, const char *args, json_t **out) RM_CHECKED;
/* The same of any program that is a bench, as another process. RM_E_UNSUPPORTED: it knows of none, RM_E_NUMERIC: it failed
 * or took too long; and says why. */
rm_status bench_facts_run(const char *program, const char *args, double timeout_s, json_t **out) RM_CHECKED;

/* "launches=2,peak_bytes=1%": is it written so, and are all of them facts that this program counts? To be asked before anything is built. RM_E_ARG. */
rm_status bench_tolerances_check(const char *tolerate) RM_CHECKED;
/* Compares the "facts" of two. tolerate: "launches=2,peak_bytes=1%", "" for none; what it does not name must be equal, but for the loss, which has a
 * band of 0.01 % of its own. A fact that only b knows is new, and no difference. differences: the array that gets {"fact", "base", "head"} of each.
 * *out: PASS, REGRESSED, or TROUBLE where the loss is outside its band or no number. */
rm_status bench_facts_compare(const json_t *a, const json_t *b, const char *tolerate, json_t *differences, rp_verdict *out) RM_CHECKED;
/* "launches 370 became 371; ..." */
void      bench_facts_words(const json_t *differences, char *out, size_t size);
#endif
