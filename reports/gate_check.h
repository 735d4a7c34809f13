/* The gate on trial: is it as right as it says? Everything here is counted exactly or simulated on the noise of profiler/noise.h, and is never a
 * measurement of a machine. Pure functions but for `stop`; any thread.
 *
 * A check looks at one promise in several cases and adds a finding for each. Checks of the rule take the rule as a parameter, so that they can be
 * tried on rules that are wrong (mutants): a check that lets all of them through is worth nothing. */
#ifndef RM_REPORTS_GATE_CHECK_H
#define RM_REPORTS_GATE_CHECK_H
#include "profiler/noise.h"
#include "reports/gate_rule.h"
#include <jansson.h>

/* ---- verdicts by simulation */
typedef rm_status rp_judge(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out);
/* A way to a verdict. every_pair: asked between the looks, too. fixed_order: A always runs first. */
typedef struct rp_method {
    const char *name;
    rp_judge *judge;
    bool every_pair, fixed_order;
} rp_method;
extern const rp_method rp_gate_method; /* the gate's own */

/* change: of B, as a share. effect: the least that counts. */
typedef struct rp_scene {
    rm_noise_model model;
    double change, effect;
    uint64_t seed;
} rp_scene;
typedef struct rp_tally {
    int trials, count[RP_VERDICTS];
    int64_t pairs;
} rp_tally;
typedef struct rp_check_config {
    const rp_method *method;
    int trials; /* of each case */
    double effect; /* 0.02 */
    uint64_t seed;
    int (*stop)(void); /* asked now and then; other than 0: RM_E_INTERRUPTED. NULL: never */
} rp_check_config;
/* c->trials verdicts; the looks are the usual ones. */
rm_status rp_gate_try(const rp_check_config *c, const rp_scene *s, rp_tally *out) RM_CHECKED;
/* The most that chance makes of a share p among `trials`: p + 3 standard errors. */
double rp_most_by_chance(double p, int trials);
/* RM_E_INTERRUPTED when it is time to go. */
rm_status rp_check_stop(const rp_check_config *c) RM_CHECKED;

/* ---- checks */
/* {"kind": "selftest", "check", "case", "holds", "value", "limit", "trials", "text", ...}: value is what was found, limit what it had to keep to (null:
 * shown for comparison), text both in words. */
typedef struct rp_findings {
    json_t *rows;
    int n, failed;
} rp_findings;
/* Takes over `more` (NULL: nothing), whose keys are added. value NaN: none. */
rm_status rp_find(rp_findings *f, const char *check, const char *name, bool holds, double value, double limit, int trials, json_t *more, const char *fmt, ...)
    RM_PRINTF(9, 10) RM_CHECKED;

typedef struct rp_check {
    const char *name, *what;
    bool of_rule; /* judges c->method */
    bool listed; /* its cases are worth reading even where they hold */
    double part; /* of the trials asked for: checks that cost more take fewer */
    rm_status (*run)(const rp_check_config *c, rp_findings *f);
} rp_check;
extern const rp_check rp_checks[]; /* in the order to be run */
extern const size_t rp_n_checks;

/* Of other files: each one check of the table. */
rm_status rp_check_signed_ranks(const rp_check_config *c, rp_findings *f) RM_CHECKED;
rm_status rp_check_rank_sums(const rp_check_config *c, rp_findings *f) RM_CHECKED;
rm_status rp_check_count(const rp_check_config *c, rp_findings *f) RM_CHECKED;
rm_status rp_check_mirror(const rp_check_config *c, rp_findings *f) RM_CHECKED;
rm_status rp_check_layers(const rp_check_config *c, rp_findings *f) RM_CHECKED;
rm_status rp_check_others(const rp_check_config *c, rp_findings *f) RM_CHECKED; /* the rules people use */
/* The same rules on equal runs that were measured, with `change` added to what a rule takes for B; change 0: false alarms, which are measured. Rules that
 * want steps are left out where the tape has fewer than RP_ITERATIONS of each run. The rows' kind is "rule", with "rule", "change", "slower" of "trials", "runs". */
enum { RP_ITERATIONS = 50 };
rm_status rp_others_on_tape(const rp_check_config *c, const rm_noise_tape *tape, double change, rp_findings *f) RM_CHECKED;
rm_status rp_check_history(const rp_check_config *c, rp_findings *f) RM_CHECKED;
rm_status rp_check_mutants(const rp_check_config *c, rp_findings *f) RM_CHECKED;
#endif
