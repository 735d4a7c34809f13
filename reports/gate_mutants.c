/* Rules that are wrong in one thing each, as a slip of the hand would make them; the checks must not let one of them through. */
#include "reports/gate_check.h"
#include <math.h>
#include <stdio.h>

/* The look that counts after n pairs; NULL between looks. */
static const rp_look *look_at(const rp_gate_rule *r, int n)
{
    for (int i = 0; i < r->looks; i++)
        if (r->look[i].n == n) return &r->look[i];
    return NULL;
}

static bool is_last(const rp_gate_rule *r, int n) { return n == rp_gate_most_pairs(r); }

/* Every pair is a look, with the probability of the next one agreed on. */
static rm_status looks_always(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    int next = 0;
    while (next < r->looks - 1 && r->look[next].n < n) next++;
    const rp_gate_rule now = { .look = { { n, r->look[next].alpha } }, .looks = 1 };
    RM_TRY(rp_gate_judge(&now, effect, d, n, out));
    out->decided = out->verdict != RP_INCONCLUSIVE || is_last(r, n);
    return RM_OK;
}

/* Each look spends all of the 1 %. */
static rm_status spends_all(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    rp_gate_rule all = *r;
    for (int i = 0; i < all.looks; i++) all.look[i].alpha = 0.01;
    return rp_gate_judge(&all, effect, d, n, out);
}

/* The bounds are one Walsh average too near. */
static rm_status one_rank_off(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    const rp_look *look = look_at(r, n);
    if (!look) return rp_gate_judge(r, effect, d, n, out);
    const rp_gate_rule off = { .look = { { n, rm_signed_rank_cdf(n, rm_signed_rank_k(n, look->alpha) + 1) * (1 + 1e-12) } }, .looks = 1 };
    RM_TRY(rp_gate_judge(&off, effect, d, n, out));
    out->decided = out->verdict != RP_INCONCLUSIVE || is_last(r, n);
    return RM_OK;
}

/* A change that is there is a regression, however small. */
static rm_status any_change(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    RM_TRY(rp_gate_judge(r, effect, d, n, out));
    if (look_at(r, n) && out->at.low > 0) *out = (rp_judged) { .decided = true, .verdict = RP_REGRESSED, .at = out->at };
    return RM_OK;
}

/* What is not shown to be slower passes: absence of evidence. */
static rm_status passes_unshown(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    RM_TRY(rp_gate_judge(r, effect, d, n, out));
    if (look_at(r, n) && out->verdict == RP_INCONCLUSIVE && !(out->at.low > 0)) *out = (rp_judged) { .decided = true, .verdict = RP_PASS, .at = out->at };
    return RM_OK;
}

/* Only slower needs to be beyond doubt. */
static rm_status improves_unshown(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    RM_TRY(rp_gate_judge(r, effect, d, n, out));
    if (look_at(r, n) && out->at.delta <= -log1p(effect)) *out = (rp_judged) { .decided = true, .verdict = RP_IMPROVED, .at = out->at };
    return RM_OK;
}

/* Only the first look is taken, and it decides. */
static rm_status gives_up(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    RM_TRY(rp_gate_judge(r, effect, d, n, out));
    out->decided = true;
    return RM_OK;
}

static rm_status wrong_sign(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    double m[RM_PAIRED_MOST];
    for (int i = 0; i < n; i++) m[i] = -d[i];
    return rp_gate_judge(r, effect, m, n, out);
}

static const rp_method mutants[] = {
    { .name = "a look after every pair", .judge = looks_always, .every_pair = true },
    { .name = "every look spends the whole 1 %", .judge = spends_all },
    { .name = "bounds one rank too near", .judge = one_rank_off },
    { .name = "no least effect", .judge = any_change },
    { .name = "what is not shown slower passes", .judge = passes_unshown },
    { .name = "faster need not be shown", .judge = improves_unshown },
    { .name = "one look only", .judge = gives_up },
    { .name = "the sign turned round", .judge = wrong_sign },
    { .name = "A always runs first", .judge = rp_gate_judge, .fixed_order = true },
};

/* The first finding that does not hold; "" when all do. */
static rm_status killer(const rp_check_config *c, char *out, size_t size)
{
    out[0] = 0;
    for (size_t i = 0; i < rp_n_checks && !out[0]; i++) {
        rp_check_config own = *c;
        rp_findings f = { .rows = json_array() };
        size_t k;
        json_t *row;
        if (!rp_checks[i].of_rule) {
            json_decref(f.rows);
            continue;
        }
        own.trials = (int)fmax(1, rp_checks[i].part * c->trials);
        rm_status st = f.rows ? rp_checks[i].run(&own, &f) : rm_fail(RM_E_NOMEM, "out of memory for what the trial of the gate found");
        json_array_foreach(f.rows, k, row)
        {
            if (out[0] || json_is_true(json_object_get(row, "holds"))) continue;
            snprintf(out, size, "%s: %s: %s", rp_checks[i].name, json_string_value(json_object_get(row, "case")),
                     json_string_value(json_object_get(row, "text")));
        }
        json_decref(f.rows);
        RM_TRY(st);
    }
    return RM_OK;
}

rm_status rp_check_mutants(const rp_check_config *c, rp_findings *f)
{
    for (size_t i = 0; i < RM_COUNT(mutants); i++) {
        rp_check_config own = *c;
        char by[256];
        own.method = &mutants[i];
        RM_TRY(killer(&own, by, sizeof by));
        RM_TRY(rp_find(f, "mutants", mutants[i].name, by[0], NAN, NAN, c->trials, json_pack("{s:s}", "killed_by", by), "%s%s",
                       by[0] ? "found out by " : "not found out", by));
    }
    return RM_OK;
}
