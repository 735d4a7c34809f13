/* What tracing costs: ratios and their intervals. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "profiler/perturb.h"
#include <math.h>

enum { N = 40 };

static void near(double x, double expected) { assert_true(fabs(x - expected) < 1e-12); }

/* Steps that drift by half while they are taken: pairs do not see it. */
static void test_pairs_cancel_drift(void **state)
{
    double traced[N], plain[N];
    for (int i = 0; i < N; i++) {
        plain[i] = 0.1 + 0.05 * i / N;
        traced[i] = plain[i] * (i % 2 ? 1.01 : 1.03);
    }
    const rm_perturbation p = rm_perturbation_paired(traced, plain, N);
    near(p.ratio, 1.02);
    assert_true(p.low >= 1.01 - 1e-12 && p.low <= p.ratio && p.ratio <= p.high && p.high <= 1.03 + 1e-12);
    assert_int_equal(p.n, N);
}

static void test_paired_is_not_the_ratio_of_medians(void **state)
{
    const double plain[] = { 1, 2, 4, 8, 16 }, traced[] = { 1.1, 2.2, 4.4, 8.8, 8 };
    const rm_perturbation p = rm_perturbation_paired(traced, plain, 5);
    near(p.ratio, 1.1);
    assert_true(p.perturbed);
    assert_true(isnan(p.low) || p.low <= p.ratio);
}

/* Two per cent either way. */
static void test_threshold(void **state)
{
    static const struct {
        double factor;
        bool perturbed;
    } rows[] = { { 1, false }, { 1.019, false }, { 1.021, true }, { 0.981, false }, { 0.979, true } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double traced[N], plain[N];
        for (int k = 0; k < N; k++) plain[k] = 0.2, traced[k] = 0.2 * rows[i].factor;
        assert_int_equal(rm_perturbation_paired(traced, plain, N).perturbed, rows[i].perturbed);
        assert_int_equal(rm_perturbation_unpaired(traced, N, plain, N).perturbed, rows[i].perturbed);
    }
}

static void test_unpaired(void **state)
{
    double traced[N], plain[3 * N];
    rm_rng r = rm_rng_for(5, 0, 0);
    for (int i = 0; i < N; i++) traced[i] = 1.5 * (1 + 0.1 * rm_rng_unit(&r));
    for (int i = 0; i < 3 * N; i++) plain[i] = 1 + 0.1 * rm_rng_unit(&r);
    const rm_perturbation p = rm_perturbation_unpaired(traced, N, plain, 3 * N), again = rm_perturbation_unpaired(traced, N, plain, 3 * N);
    assert_true(p.low <= 1.5 && 1.5 <= p.high && p.low < p.high && p.high - p.low < 0.1);
    assert_true(p.low <= p.ratio && p.ratio <= p.high);
    assert_int_equal(p.n, N);
    assert_true(p.low == again.low && p.high == again.high); /* seeded */
    /* One slow step among many moves nothing. */
    plain[7] = 1000;
    assert_true(fabs(rm_perturbation_unpaired(traced, N, plain, 3 * N).ratio - p.ratio) < 0.01);
}

static void test_nothing_to_compare(void **state)
{
    const double one[] = { 1 };
    const rm_perturbation none[] = { rm_perturbation_paired(one, one, 0), rm_perturbation_unpaired(one, 0, one, 1), rm_perturbation_unpaired(one, 1, one, 0) };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_true(isnan(none[i].ratio) && isnan(none[i].low) && isnan(none[i].high));
        assert_false(none[i].perturbed);
        assert_int_equal(none[i].n, 0);
    }
    near(rm_perturbation_paired(one, one, 1).ratio, 1);
    near(rm_perturbation_unpaired(one, 1, one, 1).ratio, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_cancel_drift), cmocka_unit_test(test_paired_is_not_the_ratio_of_medians),
        cmocka_unit_test(test_threshold),          cmocka_unit_test(test_unpaired),
        cmocka_unit_test(test_nothing_to_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
