/* Statistics against values worked out by hand and against brute force. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/sha256.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define near(a, b) assert_true(fabs((a) - (b)) < 1e-12)

static void test_known_values(void **state)
{
    const double odd[] = { 5, 1, 3 }, even[] = { 4, 1, 3, 2 }, skewed[] = { 1, 1, 2, 2, 4, 6, 9 };
    near(rm_median(odd, 3), 3);
    near(rm_median(even, 4), 2.5);
    near(rm_mad(skewed, 7), 1);
    near(rm_mean(even, 4), 2.5);
    /* R: quantile(c(4,1,3,2), c(0, .1, .25, .9, 1), type = 7) */
    near(rm_quantile(even, 4, 0), 1);
    near(rm_quantile(even, 4, 0.1), 1.3);
    near(rm_quantile(even, 4, 0.25), 1.75);
    near(rm_quantile(even, 4, 0.9), 3.7);
    near(rm_quantile(even, 4, 1), 4);
    near(even[0], 4); /* pure: the input is not sorted in place */
}

static void test_nothing_gives_nan(void **state)
{
    const double holed[] = { 1, NAN, 3 }, one = 7;
    double low, high;
    assert_true(isnan(rm_median(NULL, 0)) && isnan(rm_mad(NULL, 0)) && isnan(rm_mean(NULL, 0)) && isnan(rm_quantile(NULL, 0, 0.5)));
    rm_median_ci95(NULL, 0, &low, &high);
    assert_true(isnan(low) && isnan(high));
    assert_true(isnan(rm_median(holed, 3)));
    near(rm_median(&one, 1), 7);
    near(rm_mad(&one, 1), 0);
}

static void test_infinity_is_a_value(void **state)
{
    const double x[] = { 1, 2, INFINITY };
    near(rm_median(x, 3), 2);
    assert_true(isinf(rm_quantile(x, 3, 1)));
}

static void test_mean_keeps_small_terms(void **state)
{
    const double x[] = { 1e16, 1, -1e16, 1 };
    near(rm_mean(x, 4), 0.5);
}

/* Ranks from the binomial tables: n = 6 is the first size where [min, max] reaches 95 %. */
static void test_interval_ranks(void **state)
{
    static const struct { size_t n, k; } row[] = { { 5, 1 }, { 6, 1 }, { 8, 1 }, { 9, 2 }, { 12, 3 }, { 20, 6 }, { 100, 40 }, { 1000, 469 } };
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        double x[1000], low, high;
        for (size_t i = 0; i < row[r].n; i++) x[i] = (double)(row[r].n - i); /* n..1 */
        rm_median_ci95(x, row[r].n, &low, &high);
        near(low, (double)row[r].k);
        near(high, (double)(row[r].n + 1 - row[r].k));
    }
}

static void test_interval_covers(void **state)
{
    int covered = 0;
    enum { TRIALS = 4000, N = 25 };
    for (int t = 0; t < TRIALS; t++) {
        rm_rng r = rm_rng_for(7, 1, (uint64_t)t);
        double x[N], low, high;
        for (int i = 0; i < N; i++) x[i] = -log(1 - rm_rng_unit(&r)); /* exponential: median ln 2 */
        rm_median_ci95(x, N, &low, &high);
        covered += low <= log(2) && log(2) <= high;
    }
    assert_true(covered > 0.94 * TRIALS && covered < 0.975 * TRIALS); /* exact: 95.7 % */
}

static void test_sha256_vectors(void **state)
{
    static const char million[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"; /* FIPS 180-4: 10^6 times 'a' */
    char a[1000], hex[65];
    memset(a, 'a', sizeof a);
    rm_sha256 s;
    rm_sha256_begin(&s);
    for (int i = 0; i < 1000; i++) { /* uneven pieces cross the block limits */
        rm_sha256_add(&s, a, (size_t)i % 97);
        rm_sha256_add(&s, a, sizeof a - (size_t)i % 97);
    }
    rm_sha256_end(&s, hex);
    assert_string_equal(hex, million);
    rm_sha256_begin(&s);
    rm_sha256_end(&s, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),          cmocka_unit_test(test_nothing_gives_nan), cmocka_unit_test(test_infinity_is_a_value),
        cmocka_unit_test(test_mean_keeps_small_terms), cmocka_unit_test(test_interval_ranks),   cmocka_unit_test(test_interval_covers),
        cmocka_unit_test(test_sha256_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
