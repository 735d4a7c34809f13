/* What can be counted to the end is counted. */
#include "reports/gate_check.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 12, MOST_SUM = MOST * (MOST + 1) / 2 };

/* count[s]: of how many of the 2^n orders of signs the positive ranks sum up to s. */
static void count_sums(int n, uint32_t count[MOST_SUM + 1])
{
    memset(count, 0, (MOST_SUM + 1) * sizeof count[0]);
    for (uint32_t signs = 0; signs < 1u << n; signs++) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum += signs >> i & 1 ? i + 1 : 0;
        count[sum]++;
    }
}

rm_status rp_check_signed_ranks(const rp_check_config *c, rp_findings *f)
{
    (void)c;
    for (int n = 1; n <= MOST; n++) {
        uint32_t count[MOST_SUM + 1], below = 0;
        double worst = 0;
        char name[32];
        count_sums(n, count);
        for (int k = 0; k <= n * (n + 1) / 2; k++) {
            below += count[k];
            worst = fmax(worst, fabs(rm_signed_rank_cdf(n, k) - ldexp(below, -n)));
        }
        snprintf(name, sizeof name, "%d pairs", n);
        RM_TRY(rp_find(f, "signed ranks", name, worst <= 1e-12, worst, 1e-12, 1 << n, NULL, "off by %.2g at most over %d orders of signs", worst, 1 << n));
    }
    return RM_OK;
}

/* U of the deal where the set bits of `deal` say which of the values 0 .. n - 1 are b's. */
static int u_of(uint32_t deal, int n)
{
    int u = 0;
    for (int i = 0, a = 0; i < n; i++) {
        if (deal >> i & 1) u += a;
        else a++;
    }
    return u;
}

static double worst_of_deals(int n_a, int n_b)
{
    const int n = n_a + n_b;
    int count[MOST * MOST / 4 + 1] = { 0 }, deals = 0;
    double worst = 0;
    for (uint32_t deal = 0; deal < 1u << n; deal++)
        if (__builtin_popcount(deal) == n_b) count[u_of(deal, n)]++, deals++;
    for (uint32_t deal = 0; deal < 1u << n; deal++) {
        double a[MOST], b[MOST];
        int as_large = 0, i_a = 0, i_b = 0;
        if (__builtin_popcount(deal) != n_b) continue;
        for (int i = 0; i < n; i++) *(deal >> i & 1 ? &b[i_b++] : &a[i_a++]) = i;
        for (int u = u_of(deal, n); u <= n_a * n_b; u++) as_large += count[u];
        worst = fmax(worst, fabs(rm_rank_sum_p(a, n_a, b, n_b) - (double)as_large / deals));
    }
    return worst;
}

rm_status rp_check_rank_sums(const rp_check_config *c, rp_findings *f)
{
    static const int side[][2] = { { 1, 1 }, { 2, 3 }, { 3, 5 }, { 5, 5 }, { 4, 8 }, { 6, 6 } };
    (void)c;
    for (size_t i = 0; i < RM_COUNT(side); i++) {
        const double worst = worst_of_deals(side[i][0], side[i][1]);
        char name[32];
        snprintf(name, sizeof name, "%d and %d runs", side[i][0], side[i][1]);
        RM_TRY(rp_find(f, "rank sums", name, worst <= 1e-12, worst, 1e-12, 0, NULL, "off by %.2g at most over all deals", worst));
    }
    return RM_OK;
}

/* Without a least effect a look is wrong for exactly those orders of signs whose sum is in its tail, on either side. */
rm_status rp_check_count(const rp_check_config *c, rp_findings *f)
{
    static const rp_look look[] = { { 10, .001 }, { 12, .003 }, { 12, .01 } };
    for (size_t i = 0; i < RM_COUNT(look); i++) {
        const rp_gate_rule rule = { .look = { look[i] }, .looks = 1 };
        const int n = look[i].n, want = (int)lround(ldexp(rm_signed_rank_cdf(n, rm_signed_rank_k(n, look[i].alpha)), n));
        int slower = 0, faster = 0;
        char name[48];
        for (uint32_t signs = 0; signs < 1u << n; signs++) {
            double d[MOST];
            rp_judged j;
            for (int k = 0; k < n; k++) d[k] = (signs >> k & 1 ? 1e-3 : -1e-3) * (k + 1);
            RM_TRY(c->method->judge(&rule, 0, d, n, &j));
            slower += j.verdict == RP_REGRESSED;
            faster += j.verdict == RP_IMPROVED;
        }
        snprintf(name, sizeof name, "%d pairs, %g %%", n, 100 * look[i].alpha);
        RM_TRY(rp_find(f, "count", name, slower == want && faster == want, slower, want, 1 << n, json_pack("{s:i}", "faster", faster),
                       "%d slower and %d faster of %d orders of signs; exactly %d each", slower, faster, 1 << n, want));
    }
    return RM_OK;
}

rm_status rp_check_mirror(const rp_check_config *c, rp_findings *f)
{
    rp_gate_rule rule;
    int decided = 0, unlike = 0;
    RM_TRY(rp_gate_rule_for(1, false, &rule));
    for (int t = 0; t < c->trials; t++) {
        double d[RM_PAIRED_MOST], m[RM_PAIRED_MOST];
        rm_noise noise = rm_noise_begin((rm_noise_model)(t % RM_NOISE_MODELS), log1p(2 * c->effect) * (t % 3 - 1), c->seed + 3, (uint64_t)t);
        for (int i = 0; i < rp_gate_most_pairs(&rule); i++) m[i] = -(d[i] = rm_noise_pair(&noise));
        for (int i = 0; i < rule.looks; i++) {
            rp_judged a, b;
            RM_TRY(c->method->judge(&rule, c->effect, d, rule.look[i].n, &a));
            RM_TRY(c->method->judge(&rule, c->effect, m, rule.look[i].n, &b));
            unlike += (a.verdict == RP_REGRESSED) != (b.verdict == RP_IMPROVED) || (a.verdict == RP_IMPROVED) != (b.verdict == RP_REGRESSED);
            decided += a.verdict == RP_REGRESSED || a.verdict == RP_IMPROVED;
        }
    }
    return rp_find(f, "mirror", "A and B swapped", !unlike && decided, unlike, 0, c->trials * rule.looks, NULL,
                   "%d of %d looks are not mirrored; %d were a change", unlike, c->trials * rule.looks, decided);
}
