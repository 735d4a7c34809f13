/* Verdict rows: what the gate stores, prints and is judged by. docs/gate.md has their keys. */
#ifndef RM_BENCH_GATE_VERDICT_H
#define RM_BENCH_GATE_VERDICT_H
#include "bench/gate_pairs.h"
#include "reports/gate_text.h"

/* What all verdicts of one gate share. */
typedef struct bench_verdict_frame { const bench_gate_side *side; const char *reproduce; double seconds; } bench_verdict_frame;

/* A row without timing: of facts, of what is identical, of what has no baseline. New reference. */
json_t   *bench_verdict_row(const bench_verdict_frame *f, const char *metric, const char *tier, rp_verdict v, const char *reason);
/* Metric m after the pairs so far: as at the first look that decided, where one did. */
typedef struct bench_judged { rp_judged at; int looks, n; } bench_judged;
rm_status bench_verdict_judge(const bench_pairs *p, int m, const rp_gate_rule *rule, bench_judged *out) RM_CHECKED;
/* Its row; why: what ended the pairs where nothing is decided ("the budget of 60 s ended"). New reference, NULL when memory ran out. */
json_t   *bench_verdict_of_metric(const bench_verdict_frame *f, const bench_pairs *p, int m, const rp_gate_rule *rule, const bench_judged *j, const char *why);
/* Of an exact metric: every pair that counts is to be equal. */
json_t   *bench_verdict_of_exact(const bench_verdict_frame *f, const bench_pairs *p, int m);
/* Of the layers; gates: a slower one is a regression; else the row is for reading, and no part of the whole verdict. RM_E_NOMEM. */
rm_status bench_verdict_of_layers(const bench_verdict_frame *f, const bench_pairs *p, bool gates, json_t **out) RM_CHECKED;
#endif
