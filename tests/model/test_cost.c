/* Cost curves: exact where the truth is linear, never falling whatever is measured, JSON there and back, honest errors. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "model/parallel/cost.h"

static rm_cost fitted(const rm_cost_point *p, uint32_t n)
{
    rm_cost c;
    if (rm_cost_fit(p, n, &c) != RM_OK) fail_msg("%s", rm_last_error());
    return c;
}

static void assert_near(double got, double want, double share)
{
    if (!(fabs(got - want) <= share * fabs(want))) fail_msg("%.17g is not %.17g within %g", got, want, share);
}

static void test_linear_is_exact(void **state)
{
    const double alpha = 23000, beta = 1.0 / 0.119;
    rm_cost_point p[12];
    for (uint32_t i = 0; i < 12; i++) { /* descending: order does not matter */
        const uint64_t bytes = UINT64_C(8) << (2 * (11 - i));
        p[i] = (rm_cost_point) { bytes, alpha + beta * (double)bytes, 1 + i };
    }
    rm_cost c = fitted(p, 12);
    assert_int_equal(c.n, 12);
    for (uint64_t bytes = 8; bytes < UINT64_C(1) << 40; bytes = bytes * 3 + 1) assert_near(rm_cost_at(&c, bytes), alpha + beta * (double)bytes, 1e-12);
    assert_near(rm_cost_at(&c, 0), alpha + 8 * beta, 1e-15); /* below the smallest: its latency */
    assert_near(rm_cost_alpha_ns(&c), alpha + 8 * beta, 1e-15);
    assert_near(rm_cost_ns_per_byte(&c), beta, 1e-12);
    rm_cost_free(&c);
    assert_int_equal(c.n, 0);
    /* Inner points and the last are told exactly by the others; the first is taken for the second. */
    const double first = alpha + 8 * beta, second = alpha + 32 * beta;
    assert_near(rm_cost_leave_one_out(p, 12), second / first - 1, 1e-9);
}

static void test_pieces_and_points(void **state)
{
    static const rm_cost_point p[] = { { 100, 10, 1 }, { 200, 20, 1 }, { 400, 100, 1 } };
    rm_cost c = fitted(p, 3), one = fitted(p, 1);
    static const struct { uint64_t bytes; double ns; } at[] = { { 0, 10 }, { 99, 10 }, { 100, 10 }, { 150, 15 }, { 200, 20 }, { 300, 60 }, { 400, 100 }, { 500, 140 }, { 1400, 500 } };
    for (size_t i = 0; i < RM_COUNT(at); i++) assert_near(rm_cost_at(&c, at[i].bytes), at[i].ns, 1e-12);
    assert_near(rm_cost_ns_per_byte(&c), 0.4, 1e-12);
    assert_near(rm_cost_at(&one, 7), 10, 0);
    assert_near(rm_cost_at(&one, 7000), 10, 0);
    assert_true(rm_cost_ns_per_byte(&one) == 0);
    assert_true(isnan(rm_cost_leave_one_out(p, 2)));
    /* without the first 20/10 - 1 = 1; the middle 40/20 - 1 = 1; the last: 40/100 - 1 = -0.6 */
    assert_near(rm_cost_leave_one_out(p, 3), 1, 1e-12);
    rm_cost_free(&c);
    rm_cost_free(&one);
    assert_true(rm_cost_at(&c, 100) == 0);
}

static void test_pooling(void **state)
{
    /* 30 after 50 is noise: with weights 1 and 3 they are one point of (200 + 3 * 300) / 4 bytes and (50 + 3 * 30) / 4 ns. */
    static const rm_cost_point p[] = { { 100, 10, 1 }, { 200, 50, 1 }, { 300, 30, 3 }, { 400, 60, 1 } };
    rm_cost c = fitted(p, 4);
    assert_int_equal(c.n, 3);
    assert_int_equal(c.at[1].bytes, 275);
    assert_near(c.at[1].ns, 35, 1e-12);
    rm_cost_free(&c);
    /* several of one size: their weighted mean */
    static const rm_cost_point same[] = { { 8, 4, 1 }, { 8, 8, 3 }, { 16, 9, 1 } };
    c = fitted(same, 3);
    assert_int_equal(c.n, 2);
    assert_near(c.at[0].ns, 7, 1e-12);
    rm_cost_free(&c);
}

static double draw(rm_rng *r, double low, double high) { return low * pow(high / low, rm_rng_unit(r)); }

static void check_rises(const rm_cost *c, const rm_cost_point *p, uint32_t n)
{
    double low = p[0].ns, high = p[0].ns, before = 0;
    for (uint32_t i = 0; i < n; i++) {
        low = p[i].ns < low ? p[i].ns : low;
        high = p[i].ns > high ? p[i].ns : high;
    }
    assert_in_range(c->n, 1, n);
    for (uint32_t i = 0; i < c->n; i++) {
        assert_true(c->at[i].ns >= low * (1 - 1e-12) && c->at[i].ns <= high * (1 + 1e-12));
        assert_true(i == 0 || (c->at[i].bytes > c->at[i - 1].bytes && c->at[i].ns > c->at[i - 1].ns));
    }
    for (uint64_t bytes = 1; bytes < UINT64_C(1) << 50; bytes += 1 + bytes / 7) {
        const double t = rm_cost_at(c, bytes);
        if (!(t >= before)) fail_msg("%g ns at %llu bytes after %g", t, (unsigned long long)bytes, before);
        before = t;
    }
}

/* Least squares under the constraint: the residuals of every pool sum to zero, hence those of all points do. */
static void check_balance(const rm_cost *c, const rm_cost_point *p, uint32_t n)
{
    double mine = 0, theirs = 0, weight = 0;
    for (uint32_t i = 0; i < n; i++) theirs += p[i].ns * p[i].weight;
    for (uint32_t i = 0; i < c->n; i++) {
        mine += c->at[i].ns * c->at[i].weight;
        weight += c->at[i].weight;
    }
    for (uint32_t i = 0; i < n; i++) weight -= p[i].weight;
    assert_near(mine, theirs, 1e-9);
    assert_true(fabs(weight) < 1e-6);
}

static void test_random_never_falls(void **state)
{
    rm_cost_point p[40];
    for (uint64_t round = 0; round < 2000; round++) {
        rm_rng r = rm_rng_for(7, round, 0);
        const uint32_t n = 1 + rm_rng_below(&r, RM_COUNT(p));
        const bool wild = rm_rng_below(&r, 2) == 1;
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t bytes = (uint64_t)draw(&r, 1, 1e9);
            const double truth = 5000 + 0.3 * (double)bytes;
            p[i] = (rm_cost_point) { bytes, wild ? draw(&r, 1, 1e9) : truth * draw(&r, 0.7, 1.4), draw(&r, 0.1, 1000) };
        }
        rm_cost c = fitted(p, n);
        check_rises(&c, p, n);
        check_balance(&c, p, n);
        rm_cost_free(&c);
    }
}

/* Points that already rise stay as they are, whatever their weights. */
static void test_random_rising_is_kept(void **state)
{
    rm_cost_point p[20];
    for (uint64_t round = 0; round < 500; round++) {
        rm_rng r = rm_rng_for(8, round, 0);
        for (uint32_t i = 0; i < RM_COUNT(p); i++)
            p[i] = (rm_cost_point) { (i ? p[i - 1].bytes : 0) + 1 + rm_rng_below(&r, 100000), (i ? p[i - 1].ns : 0) + draw(&r, 1e-3, 1e6), draw(&r, 0.1, 10) };
        rm_cost c = fitted(p, RM_COUNT(p));
        assert_int_equal(c.n, RM_COUNT(p));
        for (uint32_t i = 0; i < c.n; i++) assert_near(rm_cost_at(&c, p[i].bytes), p[i].ns, 1e-12);
        rm_cost_free(&c);
    }
}

static void test_json_round_trips(void **state)
{
    static const rm_cost_point p[] = { { 8, 1234.5678901234567, 1 }, { 1u << 20, 1e6 / 3, 1 }, { UINT64_C(1) << 40, 1e12 / 7, 1 } };
    rm_cost c = fitted(p, 3), again;
    json_t *j = rm_cost_json(&c);
    char *text = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_t *read = json_loads(text, 0, NULL);
    assert_int_equal(rm_cost_from_json(read, &again), RM_OK);
    assert_int_equal(again.n, 3);
    for (uint32_t i = 0; i < 3; i++) assert_true(again.at[i].bytes == c.at[i].bytes && again.at[i].ns == c.at[i].ns);
    json_decref(j);
    json_decref(read);
    free(text);
    rm_cost_free(&c);
    rm_cost_free(&again);
}

static void test_refusals(void **state)
{
    static const struct { const char *json, *says; } rows[] = {
        { "[]", "at least one" },      { "{}", "at least one" },        { "[[1]]", "point 0" },       { "[[1,2],[1,3]]", "point 1" }, { "[[1,2],[0.5,3]]", "point 1" },
        { "[[-1,2]]", "point 0" },     { "[[1,-2]]", "point 0" },       { "[[1,\"2\"]]", "point 0" }, { "[[1,2],7]", "point 1" },      { "[[1,2,3]]", "point 0" },
        { "[[1e300,2]]", "point 0" },
    };
    rm_cost c = { .n = 77 };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        json_t *j = json_loads(rows[i].json, 0, NULL);
        assert_non_null(j);
        assert_int_equal(rm_cost_from_json(j, &c), RM_E_FORMAT);
        if (!strstr(rm_last_error(), rows[i].says)) fail_msg("%s: \"%s\"", rows[i].json, rm_last_error());
        json_decref(j);
    }
    const rm_cost_point bad[] = { { 1, NAN, 1 }, { 1, -1, 1 }, { 1, INFINITY, 1 }, { 1, 1, 0 }, { 1, 1, NAN } };
    for (size_t i = 0; i < RM_COUNT(bad); i++) assert_int_equal(rm_cost_fit(&bad[i], 1, &c), RM_E_ARG);
    assert_int_equal(rm_cost_fit(bad, 0, &c), RM_E_ARG);
    assert_int_equal(c.n, 77); /* outputs only on success */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_is_exact),       cmocka_unit_test(test_pieces_and_points), cmocka_unit_test(test_pooling),  cmocka_unit_test(test_random_never_falls),
        cmocka_unit_test(test_random_rising_is_kept), cmocka_unit_test(test_json_round_trips),  cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
