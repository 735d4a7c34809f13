/* The statistics behind verdicts: exact distributions against brute force, bounds that hold as often as they say, and mirror images. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rng.h"
#include "profiler/paired.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g is not %.17g", got, want);
}

/* Every set of signs there is. */
static void signed_ranks_are_what_counting_gives(void **state)
{
    for (int n = 1; n <= 12; n++) {
        uint32_t count[79] = { 0 }, below = 0;
        for (uint32_t signs = 0; signs < 1u << n; signs++) {
            int sum = 0;
            for (int i = 0; i < n; i++) sum += signs >> i & 1 ? i + 1 : 0;
            count[sum]++;
        }
        for (int k = 0; k <= n * (n + 1) / 2; k++) {
            below += count[k];
            near(rm_signed_rank_cdf(n, k), ldexp(below, -n), 1e-12);
        }
    }
}

/* The looks that a verdict is taken at: bounds computed elsewhere. */
static void ranks_of_the_looks(void **state)
{
    static const struct { int n; double alpha; int k; } look[] = { { 10, .001, 0 }, { 16, .002, 14 }, { 24, .003, 56 }, { 36, .004, 166 }, { 8, .004, 0 }, { 12, .003, 5 }, { 16, .003, 16 } };
    for (size_t i = 0; i < RM_COUNT(look); i++) {
        assert_int_equal(rm_signed_rank_k(look[i].n, look[i].alpha), look[i].k);
        assert_true(rm_signed_rank_cdf(look[i].n, look[i].k) <= look[i].alpha && rm_signed_rank_cdf(look[i].n, look[i].k + 1) > look[i].alpha);
    }
    assert_int_equal(rm_signed_rank_k(9, .001), -1);
}

static void estimate_and_bounds_by_hand(void **state)
{
    const double d[] = { 3, 1, 2 }; /* Walsh averages 1 1.5 2 2 2.5 3 */
    rm_paired p;
    assert_int_equal(rm_paired_of(d, 3, 0.126, &p), RM_OK); /* P(T+ <= 0) = 1/8 */
    near(p.delta, 2, 0);
    near(p.low, 1, 0);
    near(p.high, 3, 0);
    assert_int_equal(rm_paired_of(d, 3, 0.1, &p), RM_OK);
    assert_true(isnan(p.low) && isnan(p.high));
    assert_int_equal(rm_paired_of(d, 0, 0.1, &p), RM_E_ARG);
    assert_int_equal(rm_paired_of(d, RM_PAIRED_MOST + 1, 0.1, &p), RM_E_ARG);
}

static void swapping_sides_mirrors(void **state)
{
    rm_rng g = rm_rng_for(7, 0, 0);
    for (int round = 0; round < 200; round++) {
        double d[20], m[20];
        const int n = 8 + (int)rm_rng_below(&g, 13);
        rm_paired a, b;
        for (int i = 0; i < n; i++) m[n - 1 - i] = -(d[i] = rm_rng_normal(&g) + 0.2);
        assert_true(rm_paired_of(d, n, .004, &a) == RM_OK && rm_paired_of(m, n, .004, &b) == RM_OK);
        near(a.delta, -b.delta, 1e-15);
        near(a.low, -b.high, 0);
        near(a.high, -b.low, 0);
    }
}

/* Each bound is wrong as often as alpha says or less; with a heavy tail too. */
static void bounds_hold(void **state)
{
    enum { TRIALS = 20000, N = 12 };
    static const double alpha = 0.02;
    int wrong[2] = { 0, 0 };
    rm_rng g = rm_rng_for(11, 0, 0);
    for (int t = 0; t < TRIALS; t++) {
        double d[N];
        rm_paired p;
        for (int i = 0; i < N; i++) d[i] = 1 + rm_rng_normal(&g) / fabs(rm_rng_normal(&g));
        assert_int_equal(rm_paired_of(d, N, alpha, &p), RM_OK);
        wrong[0] += p.low > 1;
        wrong[1] += p.high < 1;
    }
    const double most = alpha + 4 * sqrt(alpha * (1 - alpha) / TRIALS);
    assert_true(wrong[0] > 0 && wrong[0] <= most * TRIALS && wrong[1] > 0 && wrong[1] <= most * TRIALS);
}

/* Rows that go together, as layers do that share their noise. */
static void fill(rm_rng *g, double *d, int rows, int n)
{
    for (int i = 0; i < n; i++) {
        const double common = rm_rng_normal(g);
        for (int r = 0; r < rows; r++) d[r * n + i] = common + rm_rng_normal(g);
    }
}

static void no_row_is_named_without_change(void **state)
{
    enum { TRIALS = 1500, ROWS = 20, N = 16 };
    static const double alpha = 0.05;
    double d[ROWS * N], p[ROWS];
    int named = 0;
    rm_rng g = rm_rng_for(13, 0, 0);
    for (int t = 0; t < TRIALS; t++) {
        bool any = false;
        fill(&g, d, ROWS, N);
        assert_int_equal(rm_max_statistic(d, ROWS, N, 400, (uint64_t)t, p), RM_OK);
        for (int r = 0; r < ROWS; r++) any |= p[r] <= alpha;
        named += any;
    }
    assert_true(named > 0 && named <= TRIALS * (alpha + 4 * sqrt(alpha * (1 - alpha) / TRIALS)));
}

static void the_slower_row_is_named(void **state)
{
    enum { ROWS = 20, N = 16, TRIALS = 50 };
    double d[ROWS * N], p[ROWS];
    int found = 0, others = 0;
    rm_rng g = rm_rng_for(17, 0, 0);
    for (int t = 0; t < TRIALS; t++) {
        fill(&g, d, ROWS, N);
        for (int i = 0; i < N; i++) d[7 * N + i] += 3;
        assert_int_equal(rm_max_statistic(d, ROWS, N, 1000, 1, p), RM_OK);
        found += p[7] <= 0.01;
        for (int r = 0; r < ROWS; r++) others += r != 7 && p[r] <= 0.01;
    }
    assert_true(found >= TRIALS - 2 && others <= 4);
    memset(d, 0, sizeof d); /* no difference at all */
    assert_int_equal(rm_max_statistic(d, ROWS, N, 100, 1, p), RM_OK);
    for (int r = 0; r < ROWS; r++) near(p[r], 1, 0);
}

/* Every way to deal the values out to the two sides. */
static void rank_sums_are_what_counting_gives(void **state)
{
    static const double a[] = { 3, 1, 8, 4 }, b[] = { 5, 9, 2 };
    double all[7], u = 0;
    int as_large = 0, ways = 0;
    memcpy(all, a, sizeof a);
    memcpy(all + 4, b, sizeof b);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++) u += b[j] > a[i];
    for (int deal = 0; deal < 1 << 7; deal++) {
        double own = 0;
        if (__builtin_popcount((unsigned)deal) != 3) continue;
        for (int i = 0; i < 7; i++)
            for (int j = 0; j < 7; j++) own += !(deal >> i & 1) && (deal >> j & 1) && all[j] > all[i];
        ways++;
        as_large += own >= u;
    }
    near(rm_rank_sum_p(a, 4, b, 3), (double)as_large / ways, 1e-12);
    const double low[] = { 1, 2, 3, 4, 5 }, high[] = { 6, 7, 8, 9, 10 };
    near(rm_rank_sum_p(low, 5, high, 5), 1.0 / 252, 1e-12);
    near(rm_rank_sum_p(high, 5, low, 5), 1, 1e-12);
}

static void intervals_of_a_probability(void **state)
{
    static const struct { uint64_t k, n; double low, high; } row[] = {
        { 0, 10, 0, 0.30849710781876083 }, { 10, 10, 0.69150289218123917, 1 }, { 5, 10, 0.18708602844739558, 0.81291397155260442 }, { 1, 300, 8.4389e-05, 0.018432 }, { 0, 0, 0, 1 },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        double low, high;
        rm_clopper_pearson(row[i].k, row[i].n, 0.95, &low, &high);
        near(low, row[i].low, 1e-6);
        near(high, row[i].high, 1e-6);
    }
}

/* ---- pieces */
static double cost_of_piece(const double *x, int n)
{
    double least = INFINITY;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < n; j++) sum += fabs(x[j] - x[i]);
        least = fmin(least, sum);
    }
    return least;
}

static double cost_of_cut(const double *x, int n, uint32_t cut, int least, double penalty)
{
    double sum = 0;
    for (int i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && !(cut >> (j - 1) & 1); j++) {}
        if (j - i < least) return INFINITY;
        sum += cost_of_piece(x + i, j - i) + penalty;
    }
    return sum;
}

static void pieces_are_the_best_there_are(void **state)
{
    rm_rng g = rm_rng_for(19, 0, 0);
    for (int round = 0; round < 60; round++) {
        enum { N = 11 };
        double x[N], best = INFINITY;
        int begin[N + 1], n;
        const int least = 1 + (int)rm_rng_below(&g, 3);
        const double penalty = 2 * rm_rng_unit(&g);
        uint32_t cut = 0;
        for (int i = 0; i < N; i++) x[i] = rm_rng_normal(&g) + (i >= 5 ? 2 : 0) + (rm_rng_below(&g, 4) == 0);
        for (uint32_t c = 0; c < 1u << (N - 1); c++) best = fmin(best, cost_of_cut(x, N, c, least, penalty));
        assert_int_equal(rm_pieces(x, N, least, penalty, begin, &n), RM_OK);
        assert_int_equal(begin[0], 0);
        for (int i = 1; i < n; i++) cut |= 1u << (begin[i] - 1);
        near(cost_of_cut(x, N, cut, least, penalty), best, 1e-9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_ranks_are_what_counting_gives), cmocka_unit_test(ranks_of_the_looks), cmocka_unit_test(estimate_and_bounds_by_hand), cmocka_unit_test(swapping_sides_mirrors),
        cmocka_unit_test(bounds_hold), cmocka_unit_test(no_row_is_named_without_change), cmocka_unit_test(the_slower_row_is_named), cmocka_unit_test(rank_sums_are_what_counting_gives),
        cmocka_unit_test(intervals_of_a_probability), cmocka_unit_test(pieces_are_the_best_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
