/* What people decide about a gate and the store remembers: pinned baselines, and regressions that are accepted for a reason until a day. */
#ifndef RM_BENCH_GATE_PINS_H
#define RM_BENCH_GATE_PINS_H
#include "bench/bench.h"
#include "bench/gate_side.h"
#include "profiler/store.h"

/* --pin, --against, --accept and --until as far as they can be wrong by themselves. RM_E_ARG. */
rm_status bench_pins_check(const bench_options *o) RM_CHECKED;

/* Side B is the baseline `name` from now on. effect: the least change against it that counts, for histories. */
rm_status bench_pins_keep(rm_store *store, int64_t run, const char *name, double effect, const bench_gate_side *b) RM_CHECKED;
/* Fills --a or --base of *o from the newest pin of that name; what they point to lives as long as *keep, a new reference. RM_E_NO_BASELINE: there is none, or its
 * program is gone or no longer what was pinned. */
rm_status bench_pins_find(rm_store *store, const char *name, bench_options *o, json_t **keep) RM_CHECKED;

/* Keeps every REGRESSED row of `rows` as accepted. */
rm_status bench_accepted_keep(const bench_options *o, rm_store *store, int64_t run, const json_t *rows) RM_CHECKED;
/* Turns REGRESSED rows that were accepted, up to their bound and day, into PASS with the reason, and says of the others what was accepted once.
 * today: "YYYY-MM-DD", NULL for the day it is. */
rm_status bench_accepted_apply(const bench_options *o, rm_store *store, const char *today, json_t *rows) RM_CHECKED;
#endif
