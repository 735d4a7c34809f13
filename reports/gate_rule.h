/* The gate's rule: what a verdict is, when it is taken, and how several become one. Pure functions; any thread. docs/gate.md.
 *
 * A pair is one run of each side, one after the other in random order; d = ln(B / A) of what is measured, so that above 0 is slower.
 * The rule looks at the pairs a few times, agreed on before; each look may be wrong with its own small probability, which add up to 1 %. */
#ifndef RM_REPORTS_GATE_RULE_H
#define RM_REPORTS_GATE_RULE_H
#include "profiler/paired.h"
#include <stdbool.h>

/* In the order of precedence: of several verdicts the first in this list is the whole's. */
typedef enum rp_verdict { RP_TROUBLE, RP_REGRESSED, RP_INCONCLUSIVE, RP_SUSPECT, RP_NO_BASELINE, RP_PASS, RP_IMPROVED, RP_VERDICTS } rp_verdict;
const char *rp_verdict_name(rp_verdict v);                  /* "REGRESSED" */
rm_status   rp_verdict_status(rp_verdict v);                /* RM_E_REGRESSED and so on; RM_OK for PASS and IMPROVED */
rp_verdict  rp_verdict_worse(rp_verdict a, rp_verdict b);

enum { RP_MOST_LOOKS = 4 };
typedef struct rp_look { int n; double alpha; } rp_look;
typedef struct rp_gate_rule { rp_look look[RP_MOST_LOOKS]; int looks; } rp_gate_rule;

/* Looks at 10, 16, 24, 36 pairs with 0.1, 0.2, 0.3, 0.4 %, or for expensive runs at 8, 12, 16 with 0.4, 0.3, 0.3 %; with several gating
 * metrics each has its share of them, and no look comes before its first bound exists. RM_E_ARG: more metrics than any look can bear. */
rm_status rp_gate_rule_for(int metrics, bool expensive, rp_gate_rule *out) RM_CHECKED;
int       rp_gate_most_pairs(const rp_gate_rule *r);

/* decided false: not yet. at: the estimate and bounds of this look. needed: how many pairs a verdict would take at this noise, the first
 * look's at least, for those who stop here; 0 where it is decided. */
typedef struct rp_judged { bool decided; rp_verdict verdict; rm_paired at; int needed; } rp_judged;
/* After n pairs. effect: the least change that counts, as a share (0.02). Between looks nothing is decided. */
rm_status rp_gate_judge(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out) RM_CHECKED;
/* The least slow-down that would be called a regression with 95 % probability at this noise, as a share: d without its median, all looks taken;
 * by simulation (seeded). NaN: not even 20 times the effect would be. */
double    rp_gate_detectable(const rp_gate_rule *r, double effect, const double *d, int n);
#endif
