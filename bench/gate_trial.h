/* The gate on trial: what `bench gate selftest` is made of. */
#ifndef RM_BENCH_GATE_TRIAL_H
#define RM_BENCH_GATE_TRIAL_H
#include "bench/session.h"

/* results: what --json prints. n, failed: how many findings, and how many that do not hold. */
typedef struct bench_trial {
    const bench_options *o;
    bench_run run;
    json_t *results;
    bool table;
    int n, failed;
} bench_trial;
/* Stores a finding and keeps it for --json; `row` stays the caller's. origin: "measured", or "emulated" for what was counted or simulated. */
rm_status bench_trial_keep(bench_trial *t, const char *key, const char *origin, const json_t *row) RM_CHECKED;

/* Verdicts of bench gate ab on real runs of --replicate, until the store has `want` of them from this machine: of equal sides, or with side B
 * slower by `slow` (above 0); or on --a and --b. Each is stored as it comes. RM_E_PARTIAL: --budget ended before. */
rm_status bench_trial_real(bench_trial *t, int32_t want, double slow) RM_CHECKED;
/* This machine's noise: `want` equal runs (at least 72) of --a, or of the replicate, one after the other under the lock, and what the gate and the rules that
 * people use make of them, also with `change` added to what is taken for B. Runs that were taken before an interruption are judged, if they are enough. */
rm_status bench_trial_noise(bench_trial *t, int32_t want, double change) RM_CHECKED;
/* One run of the replicate, as JSON on stdout. */
rm_status bench_gate_replicate(const bench_options *o) RM_CHECKED;
#endif
