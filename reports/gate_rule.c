#include "reports/gate_rule.h"
#include "base/rng.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- verdicts */
static const struct { const char *name; rm_status status; } verdicts[RP_VERDICTS] = {
    [RP_TROUBLE] = { "TROUBLE", RM_E_NUMERIC },          [RP_REGRESSED] = { "REGRESSED", RM_E_REGRESSED },
    [RP_INCONCLUSIVE] = { "INCONCLUSIVE", RM_E_INCONCLUSIVE }, [RP_SUSPECT] = { "SUSPECT", RM_E_INCONCLUSIVE },
    [RP_NO_BASELINE] = { "NO BASELINE", RM_E_NO_BASELINE }, [RP_PASS] = { "PASS", RM_OK },
    [RP_IMPROVED] = { "IMPROVED", RM_OK },
};

const char *rp_verdict_name(rp_verdict v)
{
    RM_ASSERT((unsigned)v < RP_VERDICTS);
    return verdicts[v].name;
}

rm_status rp_verdict_status(rp_verdict v)
{
    RM_ASSERT((unsigned)v < RP_VERDICTS);
    return verdicts[v].status;
}

rp_verdict rp_verdict_worse(rp_verdict a, rp_verdict b) { return a < b ? a : b; }

/* ---- looks */
static const rp_gate_rule usual = { { { 10, .001 }, { 16, .002 }, { 24, .003 }, { 36, .004 } }, 4 };
static const rp_gate_rule costly = { { { 8, .004 }, { 12, .003 }, { 16, .003 } }, 3 };

rm_status rp_gate_rule_for(int metrics, bool expensive, rp_gate_rule *out)
{
    rp_gate_rule r = expensive ? costly : usual;
    RM_ASSERT(metrics >= 1);
    for (int i = 0; i < r.looks; i++) {
        r.look[i].alpha /= metrics;
        while (rm_signed_rank_k(r.look[i].n, r.look[i].alpha) < 0) r.look[i].n++; /* all signs alike must be rare enough */
        if (i && r.look[i].n <= r.look[i - 1].n) return rm_fail(RM_E_ARG, "%d metrics are too many for one gate: each look would come after the next; gate on three at most", metrics);
    }
    *out = r;
    return RM_OK;
}

int rp_gate_most_pairs(const rp_gate_rule *r) { return r->look[r->looks - 1].n; }

/* ---- a verdict */
/* How far the bounds will be from the estimate, times the root of n. So few pairs that there are no bounds yet have a spread all the same, of which a look
 * at 0.1 to 0.4 % takes about three. */
static double width_of(const rm_paired *p, const double *d)
{
    double mean = 0, sum = 0;
    if (!isnan(p->high)) return 0.5 * (p->high - p->low) * sqrt(p->n);
    for (int i = 0; i < p->n; i++) mean += d[i] / p->n;
    for (int i = 0; i < p->n; i++) sum += (d[i] - mean) * (d[i] - mean);
    return p->n > 1 ? 3 * sqrt(sum / (p->n - 1)) : 0;
}

/* Bounds come nearer with the root of the number of pairs. What decides soonest: that the change is above 0, or that it is below the effect. */
static int pairs_needed(const rp_gate_rule *r, const rm_paired *p, const double *d, double effect)
{
    const double to_go = p->delta >= effect ? p->delta : effect - p->delta, root = width_of(p, d) / to_go;
    const double n = to_go > 0 ? root * root : INFINITY;
    return n < 1e6 ? (int)ceil(fmax(n, fmax(p->n + 1, r->look[0].n))) : 1000000;
}

rm_status rp_gate_judge(const rp_gate_rule *r, double effect, const double *d, int n, rp_judged *out)
{
    const double e = log1p(effect);
    rp_judged j = { .verdict = RP_INCONCLUSIVE };
    int at = 0;
    while (at < r->looks - 1 && r->look[at].n < n) at++;
    RM_TRY(rm_paired_of(d, n, r->look[at].alpha, &j.at));
    if (r->look[at].n == n) {
        if (j.at.low > 0 && j.at.delta >= e) j.verdict = RP_REGRESSED;
        else if (j.at.high < 0 && j.at.delta <= -e) j.verdict = RP_IMPROVED;
        else if (j.at.high < e) j.verdict = RP_PASS;
        j.decided = j.verdict != RP_INCONCLUSIVE || at == r->looks - 1;
    }
    j.needed = j.verdict == RP_INCONCLUSIVE ? pairs_needed(r, &j.at, d, e) : 0;
    *out = j;
    return RM_OK;
}

/* ---- power */
static bool is_found(const rp_gate_rule *r, double effect, const double *noise, int n, double change, rm_rng *g)
{
    double d[RM_PAIRED_MOST];
    rp_judged j = { .decided = false };
    for (int i = 0; i < rp_gate_most_pairs(r) && !j.decided; i++) {
        const double own = noise[rm_rng_below(g, (uint32_t)n)];
        d[i] = change + (rm_rng_u32(g) & 1 ? own : -own); /* without change either sign is as likely */
        if (i + 1 >= r->look[0].n && rp_gate_judge(r, effect, d, i + 1, &j) != RM_OK) return false;
    }
    return j.verdict == RP_REGRESSED;
}

/* turn: which draws. */
static bool is_found_mostly(const rp_gate_rule *r, double effect, const double *noise, int n, double change, uint64_t turn)
{
    enum { DRAWS = 200 };
    rm_rng g = rm_rng_for(1, 0x706f77u, turn);
    int found = 0;
    for (int i = 0; i < DRAWS; i++) found += is_found(r, effect, noise, n, change, &g);
    return found >= 0.95 * DRAWS;
}

double rp_gate_detectable(const rp_gate_rule *r, double effect, const double *d, int n)
{
    enum { HALVINGS = 8 };
    double low = log1p(effect), high = 20 * low, *noise = malloc((size_t)n * sizeof *noise);
    if (!noise || n < 2) {
        free(noise);
        return NAN;
    }
    const double middle = rm_median(d, (size_t)n);
    for (int i = 0; i < n; i++) noise[i] = d[i] - middle;
    const bool any = is_found_mostly(r, effect, noise, n, high, HALVINGS); /* else no number was ever tried */
    for (int k = 0; any && k < HALVINGS; k++) {
        const double change = 0.5 * (low + high);
        if (is_found_mostly(r, effect, noise, n, change, (uint64_t)k)) high = change;
        else low = change;
    }
    free(noise);
    return any ? expm1(high) : NAN;
}
