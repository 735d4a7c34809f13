#include "reports/gate_check.h"
#include "base/strbuf.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- verdicts by simulation */
const rp_method rp_gate_method = { .name = "gate", .judge = rp_gate_judge };

double rp_most_by_chance(double p, int trials) { return p + 3 * sqrt(p * (1 - p) / trials); }

rm_status rp_check_stop(const rp_check_config *c)
{
    return c->stop && c->stop() ? rm_fail(RM_E_INTERRUPTED, "interrupted while the gate was on trial") : RM_OK;
}

static double next_pair(rm_noise *noise, bool fixed_order)
{
    if (!fixed_order) return rm_noise_pair(noise);
    const double a = rm_noise_run(noise, false, false);
    return rm_noise_run(noise, true, true) - a;
}

static rm_status verdict_of(const rp_method *m, const rp_gate_rule *rule, const rp_scene *s, int trial, rp_verdict *out, int *pairs)
{
    double d[RM_PAIRED_MOST];
    rm_noise noise = rm_noise_begin(s->model, log1p(s->change), s->seed, (uint64_t)trial);
    rp_judged j = { .decided = false };
    int n = 0, look = 0;
    while (!j.decided && look < rule->looks) {
        d[n++] = next_pair(&noise, m->fixed_order);
        if (n < rule->look[look].n && !(m->every_pair && look)) continue;
        look += n == rule->look[look].n;
        RM_TRY(m->judge(rule, s->effect, d, n, &j));
    }
    *out = j.verdict;
    *pairs = n;
    return RM_OK;
}

rm_status rp_gate_try(const rp_check_config *c, const rp_scene *s, rp_tally *out)
{
    rp_gate_rule rule;
    rp_tally t = { .trials = c->trials };
    RM_TRY(rp_gate_rule_for(1, false, &rule));
    for (int i = 0; i < c->trials; i++) {
        rp_verdict v;
        int pairs;
        if (i % 256 == 0) RM_TRY(rp_check_stop(c));
        RM_TRY(verdict_of(c->method, &rule, s, i, &v, &pairs));
        t.count[v]++;
        t.pairs += pairs;
    }
    *out = t;
    return RM_OK;
}

/* ---- findings */
static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

rm_status rp_find(rp_findings *f, const char *check, const char *name, bool holds, double value, double limit, int trials, json_t *more, const char *fmt, ...)
{
    rm_strbuf text = { 0 };
    va_list ap;
    va_start(ap, fmt);
    rm_str_vaddf(&text, fmt, ap);
    va_end(ap);
    json_t *row = text.failed ? NULL
                              : json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:i, s:s}", "kind", "selftest", "check", check, "case", name, "holds", holds, "value",
                                          number(value), "limit", number(limit), "trials", trials, "text", text.text);
    rm_str_free(&text);
    bool ok = row && (!more || json_object_update(row, more) == 0);
    json_decref(more);
    if (!ok || json_array_append(f->rows, row)) {
        json_decref(row);
        return rm_fail(RM_E_NOMEM, "out of memory for what the trial of the gate found");
    }
    json_decref(row);
    f->n++;
    f->failed += !holds;
    return RM_OK;
}

static json_t *scene_json(const rp_scene *s, const rp_tally *t)
{
    json_t *o = json_pack("{s:s, s:f, s:f, s:f}", "model", rm_noise_name(s->model), "change", s->change, "effect", s->effect, "pairs_mean",
                          (double)t->pairs / t->trials);
    for (int v = 0; o && v < RP_VERDICTS; v++)
        if (t->count[v]) json_object_set_new(o, rp_verdict_name((rp_verdict)v), json_integer(t->count[v]));
    return o;
}

static double share(const rp_tally *t, rp_verdict v) { return (double)t->count[v] / t->trials; }

/* ---- what the simulations promise */
/* The greater of two wrongs; with the effect, and with none, when nothing but the looks' own probability guards against an error. */
static rm_status nulls(const rp_check_config *c, rp_findings *f)
{
    const double effect[] = { c->effect, 0 };
    const double most = rp_most_by_chance(0.01, c->trials);
    for (int m = 0; m < RM_NOISE_MODELS; m++)
        for (size_t e = 0; e < RM_COUNT(effect); e++) {
            const rp_scene s = { (rm_noise_model)m, 0, effect[e], c->seed };
            rp_tally t;
            char name[64];
            RM_TRY(rp_gate_try(c, &s, &t));
            const double wrong = fmax(share(&t, RP_REGRESSED), share(&t, RP_IMPROVED));
            snprintf(name, sizeof name, "%s, effect %g %%", rm_noise_name(s.model), 100 * effect[e]);
            RM_TRY(rp_find(f, "nulls", name, wrong <= most, wrong, most, c->trials, scene_json(&s, &t),
                           "%d regressed, %d improved of %d without change; at most %.2f %%", t.count[RP_REGRESSED], t.count[RP_IMPROVED], c->trials,
                           100 * most));
        }
    return RM_OK;
}

/* A slow-down of the effect itself must not pass; one of half of it is not what was asked for. */
static rm_status limits(const rp_check_config *c, rp_findings *f)
{
    static const struct {
        double times;
        rp_verdict wrong;
        double most;
        const char *what;
    } row[] = {
        { 1, RP_PASS, 0.01, "the effect, passed" },
        { 0.5, RP_REGRESSED, 0.05, "half of it, regressed" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++)
        for (int m = 0; m < RM_NOISE_MODELS; m++) {
            const rp_scene s = { (rm_noise_model)m, row[i].times * c->effect, c->effect, c->seed + 1 };
            const double most = rp_most_by_chance(row[i].most, c->trials);
            rp_tally t;
            char name[64];
            RM_TRY(rp_gate_try(c, &s, &t));
            const double wrong = share(&t, row[i].wrong);
            snprintf(name, sizeof name, "%s: %s", row[i].what, rm_noise_name(s.model));
            RM_TRY(rp_find(f, "limits", name, wrong <= most, wrong, most, c->trials, scene_json(&s, &t), "%d of %d %s; at most %.2f %%", t.count[row[i].wrong],
                           c->trials, rp_verdict_name(row[i].wrong), 100 * most));
        }
    return RM_OK;
}

/* The power curve; what is asked of it is asked at 1.5 and 2.5 times the effect. */
static rm_status power(const rp_check_config *c, rp_findings *f)
{
    static const struct {
        double times, least;
    } row[] = { { 0.5, NAN }, { 1, NAN }, { 1.5, 0.95 }, { 2, NAN }, { 2.5, 0.99 }, { 4, 0.99 } };
    for (int m = 0; m < RM_NOISE_MODELS; m++)
        for (size_t i = 0; i < RM_COUNT(row); i++) {
            const rp_scene s = { (rm_noise_model)m, row[i].times * c->effect, c->effect, c->seed + 2 };
            rp_tally t;
            char name[64];
            RM_TRY(rp_gate_try(c, &s, &t));
            const double found = share(&t, RP_REGRESSED);
            snprintf(name, sizeof name, "%s, %g %% slower", rm_noise_name(s.model), 100 * s.change);
            RM_TRY(rp_find(f, "power", name, !(found < row[i].least) && (s.change < c->effect || !t.count[RP_IMPROVED]), found, row[i].least, c->trials,
                           scene_json(&s, &t), "found in %.1f %% of %d, %.1f pairs; wrong sign: %d", 100 * found, c->trials, (double)t.pairs / t.trials,
                           t.count[RP_IMPROVED]));
        }
    return RM_OK;
}

/* ---- the table */
const rp_check rp_checks[] = {
    { "signed ranks", "the exact distribution is what counting all signs gives, to 12 pairs", false, false, 1, rp_check_signed_ranks },
    { "rank sums", "the unpaired test is what counting all deals gives, to 12 runs", false, false, 1, rp_check_rank_sums },
    { "count", "over all signs of 10 and 12 pairs, exactly as many verdicts are wrong as the look may spend", true, false, 1, rp_check_count },
    { "mirror", "A and B swapped give the mirrored verdict", true, false, 0.1, rp_check_mirror },
    { "power", "slow-downs are found", true, false, 0.2, power },
    { "nulls", "nothing is found where nothing is, whatever the noise", true, false, 1, nulls },
    { "limits", "a slow-down of the effect does not pass, and half of it is no regression", true, false, 1, limits },
    { "layers", "no layer is named by chance, and a slower one is", false, true, 0.15, rp_check_layers },
    { "history", "the screen of sessions is seldom wrong", false, true, 0.1, rp_check_history },
    { "other rules", "what the rules that people use make of the same noise", false, true, 0.1, rp_check_others },
    { "mutants", "rules that are wrong are found out", false, true, 1, rp_check_mutants },
};
const size_t rp_n_checks = RM_COUNT(rp_checks);
