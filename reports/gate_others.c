/* The rules that people gate by, on the noise that the gate is tried on. They are as their users describe them, without the fixes that each could have. */
#include "reports/gate_check.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>

enum { ITERATIONS = RP_ITERATIONS, RESAMPLES = 400, MOST_RUNS = 20 };

/* Is B called slower? *runs: how many it took. */
typedef rm_status decide(const rp_check_config *c, rm_noise *n, bool *slower, int *runs);

static rm_status single_run(const rp_check_config *c, rm_noise *n, bool *slower, int *runs)
{
    const double a = rm_noise_run(n, false, false), b = rm_noise_run(n, true, true);
    *slower = b - a > log1p(c->effect);
    *runs = 2;
    return RM_OK;
}

/* All of A, then all of B; Mann and Whitney's test at 5 %. */
static rm_status blocks(rm_noise *n, int each, bool *slower, int *runs)
{
    double a[MOST_RUNS], b[MOST_RUNS];
    for (int i = 0; i < each; i++) a[i] = rm_noise_run(n, false, false);
    for (int i = 0; i < each; i++) b[i] = rm_noise_run(n, true, true);
    *slower = rm_rank_sum_p(a, each, b, each) <= 0.05;
    *runs = 2 * each;
    return RM_OK;
}
static rm_status blocks_of_ten(const rp_check_config *c, rm_noise *n, bool *slower, int *runs) { return (void)c, blocks(n, 10, slower, runs); }
static rm_status blocks_of_twenty(const rp_check_config *c, rm_noise *n, bool *slower, int *runs) { return (void)c, blocks(n, 20, slower, runs); }

static double resampled_mean(rm_rng *g, const double *x)
{
    double sum = 0;
    for (int i = 0; i < ITERATIONS; i++) sum += x[rm_rng_below(g, ITERATIONS)];
    return sum / ITERATIONS;
}

/* One run of each, its iterations taken for samples: bootstrap of the difference of means, 95 %, and beyond a threshold of 1 %. */
static rm_status bootstrap(const rp_check_config *c, rm_noise *n, bool *slower, int *runs)
{
    double x[2][ITERATIONS], d[RESAMPLES], all = 0;
    (void)c;
    for (int s = 0; s < 2; s++) rm_noise_steps(n, s, s, ITERATIONS, x[s]);
    for (int i = 0; i < ITERATIONS; i++) all += (x[1][i] - x[0][i]) / ITERATIONS;
    for (int k = 0; k < RESAMPLES; k++) d[k] = resampled_mean(&n->rng, x[1]) - resampled_mean(&n->rng, x[0]);
    *slower = rm_quantile(d, RESAMPLES, 0.025) > 0 && all > log1p(0.01);
    *runs = 2;
    return RM_OK;
}

/* Ten pairs, A always first; the signed-rank test at 5 %. */
static rm_status fixed_order(const rp_check_config *c, rm_noise *n, bool *slower, int *runs)
{
    double d[10];
    rm_paired p;
    (void)c;
    for (int i = 0; i < 10; i++) {
        const double a = rm_noise_run(n, false, false);
        d[i] = rm_noise_run(n, true, true) - a;
    }
    RM_TRY(rm_paired_of(d, 10, 0.05, &p));
    *slower = p.low > 0;
    *runs = 20;
    return RM_OK;
}

static rm_status the_gate(const rp_check_config *c, rm_noise *n, bool *slower, int *runs)
{
    double d[RM_PAIRED_MOST];
    rp_gate_rule rule;
    rp_judged j = { .decided = false };
    int k = 0;
    RM_TRY(rp_gate_rule_for(1, false, &rule));
    for (int i = 0; !j.decided; i++) {
        while (k < rule.look[i].n) d[k++] = rm_noise_pair(n);
        RM_TRY(c->method->judge(&rule, c->effect, d, k, &j));
    }
    *slower = j.verdict == RP_REGRESSED;
    *runs = 2 * k;
    return RM_OK;
}

static const struct {
    const char *name;
    decide *run;
    int most_runs;
    bool own, of_steps;
} rules[] = {
    { "one run of each, over the effect", single_run, 2, false, false },
    { "ten runs, then ten, rank-sum 5 %", blocks_of_ten, 20, false, false },
    { "twenty runs, then twenty, rank-sum 5 %", blocks_of_twenty, 40, false, false },
    { "iterations of one run, bootstrap 95 %, over 1 %", bootstrap, 2, false, true },
    { "ten pairs, fixed order, signed ranks 5 %", fixed_order, 20, false, false },
    { "the gate", the_gate, 72, true, false },
};

typedef struct other_tally {
    double slower[RM_NOISE_MODELS], mean, worst, runs;
} other_tally;

static rm_status tally_of(const rp_check_config *c, decide *run, double change, other_tally *out)
{
    other_tally t = { 0 };
    for (int m = 0; m < RM_NOISE_MODELS; m++) {
        for (int i = 0; i < c->trials; i++) {
            rm_noise noise = rm_noise_begin((rm_noise_model)m, log1p(change), c->seed + 5, (uint64_t)i);
            bool slower;
            int runs;
            if (i % 64 == 0) RM_TRY(rp_check_stop(c));
            RM_TRY(run(c, &noise, &slower, &runs));
            t.slower[m] += (double)slower / c->trials;
            t.runs += (double)runs / c->trials / RM_NOISE_MODELS;
        }
        t.mean += t.slower[m] / RM_NOISE_MODELS;
        t.worst = fmax(t.worst, t.slower[m]);
    }
    *out = t;
    return RM_OK;
}

static json_t *by_model(const other_tally *t)
{
    json_t *o = json_object();
    for (int m = 0; o && m < RM_NOISE_MODELS; m++) json_object_set_new(o, rm_noise_name((rm_noise_model)m), json_real(t->slower[m]));
    return o;
}

rm_status rp_check_others(const rp_check_config *c, rp_findings *f)
{
    const double most = rp_most_by_chance(0.01, c->trials);
    for (size_t i = 0; i < RM_COUNT(rules); i++) {
        other_tally none, three;
        RM_TRY(tally_of(c, rules[i].run, 0, &none));
        RM_TRY(tally_of(c, rules[i].run, 0.03, &three));
        json_t *more = json_pack("{s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "false_alarms", none.mean, "false_alarms_worst", none.worst, "found", three.mean,
                                 "runs", none.runs, "runs_found", three.runs, "false_alarms_by_model", by_model(&none), "found_by_model", by_model(&three));
        RM_TRY(rp_find(f, "other rules", rules[i].name, !rules[i].own || none.worst <= most, none.worst, rules[i].own ? most : NAN, c->trials, more,
                       "false alarms %.2f %% (worst noise %.2f %%), finds 3 %% in %.1f %%, %.0f runs", 100 * none.mean, 100 * none.worst, 100 * three.mean,
                       none.runs));
    }
    return RM_OK;
}

/* ---- on what a machine did */
typedef struct window_tally {
    int trials, slower, runs;
} window_tally;

/* Window after window, none of which shares a run with another. */
static rm_status tally_tape(const rp_check_config *c, const rm_noise_tape *tape, size_t rule, double change, window_tally *out)
{
    rm_noise noise = rm_noise_replay(tape, 0, log1p(change), c->seed + 7);
    *out = (window_tally){ 0 };
    while (noise.at + rules[rule].most_runs <= tape->n) {
        bool slower;
        int runs;
        RM_TRY(rules[rule].run(c, &noise, &slower, &runs));
        out->trials++;
        out->slower += slower;
        out->runs += runs;
    }
    return RM_OK;
}

static rm_status add_tape(const rp_check_config *c, const rm_noise_tape *tape, size_t rule, double change, rp_findings *f)
{
    const bool judged = rules[rule].own && change == 0;
    window_tally t;
    char name[96], what[40] = "false alarms";
    RM_TRY(tally_tape(c, tape, rule, change, &t));
    if (!t.trials) return RM_OK;
    const double share = (double)t.slower / t.trials, most = rp_most_by_chance(0.01, t.trials), runs = (double)t.runs / t.trials;
    if (change > 0) snprintf(what, sizeof what, "finds %.3g %% added to B", 100 * change);
    snprintf(name, sizeof name, "%s, %.3g %% added", rules[rule].name, 100 * change);
    json_t *more = json_pack("{s:s, s:s, s:f, s:i, s:f}", "kind", "rule", "rule", rules[rule].name, "change", change, "slower", t.slower, "runs", runs);
    return rp_find(f, "measured noise", name, !judged || share <= most, share, judged ? most : NAN, t.trials, more, "%s in %d of %d (%.2f %%), %.0f runs each", what,
                   t.slower, t.trials, 100 * share, runs);
}

rm_status rp_others_on_tape(const rp_check_config *c, const rm_noise_tape *tape, double change, rp_findings *f)
{
    for (size_t i = 0; i < RM_COUNT(rules); i++)
        if (!rules[i].of_steps || tape->steps >= ITERATIONS) RM_TRY(add_tape(c, tape, i, change, f));
    return RM_OK;
}
