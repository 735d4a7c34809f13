/* Figures from spans, against a brute count nanosecond by nanosecond, and HolisticTraceAnalysis' own rules. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "profiler/overlap.h"
#include <stdlib.h>
#include <string.h>

enum { T = 40000 }; /* nanoseconds */
static unsigned char at[T]; /* a bit a class that runs */

static rm_kineto spans_of(rm_rng *r, size_t n, uint32_t longest)
{
    rm_kineto k = { .span = calloc(n, sizeof *k.span), .n = n, .room = n, .n_stream = 3, .stream = { 7, 20, 24 } };
    assert_non_null(k.span);
    memset(at, 0, sizeof at);
    for (size_t i = 0; i < n; i++) {
        const uint32_t begin = rm_rng_below(r, T - longest), end = begin + rm_rng_below(r, longest + 1), class = rm_rng_below(r, 4);
        k.span[i] = (rm_kineto_span){ .begin_ns = (int64_t)begin - 1000, .end_ns = (int64_t)end - 1000, .class = class & 3, .stream = rm_rng_below(r, 3) & 3, .kept = true };
        for (uint32_t t = begin; t < end; t++) at[t] |= (unsigned char)(1u << class);
    }
    return k;
}

/* Of [begin, end) in times as in `at`. */
static void check(const rm_overlap *v, uint32_t begin, uint32_t end)
{
    uint64_t compute = 0, comm = 0, both = 0, exposed = 0, copy = 0, other = 0, idle = 0;
    for (uint32_t t = begin; t < end; t++) {
        const bool c = at[t] & 1, m = at[t] & 2, d = at[t] & 4;
        compute += c;
        comm += m;
        both += c && m;
        exposed += m && !c;
        copy += d && !c && !m;
        other += at[t] == 8;
        idle += !at[t];
    }
    assert_int_equal(v->window_ns, end - begin);
    assert_int_equal(v->compute_ns, compute);
    assert_int_equal(v->comm_ns, comm);
    assert_int_equal(v->overlap_ns, both);
    assert_int_equal(v->idle_ns, idle);
    assert_int_equal(v->non_compute_ns, end - begin - compute - idle);
    assert_int_equal(v->budget.exposed_comm_ns, exposed);
    assert_int_equal(v->budget.exposed_copy_ns, copy);
    assert_int_equal(v->budget.host_ns, other);
    assert_int_equal(v->budget.compute_ns + v->budget.exposed_comm_ns + v->budget.exposed_copy_ns + v->budget.host_ns + v->budget.idle_ns, v->window_ns);
}

static void edges(uint32_t *begin, uint32_t *end)
{
    for (*begin = 0; !at[*begin]; ++*begin) {}
    for (*end = T; !at[*end - 1]; --*end) {}
}

/* More spans than one piece of the budget, and few; long ones across pieces. */
static void test_brute(void **state)
{
    rm_rng r = rm_rng_for(11, 0, 0);
    for (int round = 0; round < 60; round++) {
        const size_t n = round % 3 == 0 ? 3 : round % 3 == 1 ? 300 : 9000;
        const uint32_t longest = round % 3 == 0 ? 5000 : round % 3 == 1 ? (round % 2 ? 20000 : 200) : round % 2 ? 6 : 4000;
        rm_kineto k = spans_of(&r, n, longest), copy = k;
        copy.span = malloc(n * sizeof *k.span);
        assert_non_null(copy.span);
        memcpy(copy.span, k.span, n * sizeof *k.span);
        rm_overlap v;
        uint32_t begin, end;
        bool any = false;
        for (uint32_t t = 0; t < T; t++) any |= at[t];
        if (any) {
            edges(&begin, &end);
            /* an empty span may begin before the first and end after the last; such a window is as large as it says */
            assert_int_equal(rm_overlap_of(&k, &(rm_overlap_options){ .window = RM_OVERLAP_ALL }, &v), RM_OK);
            const uint32_t first = (uint32_t)(k.span[0].begin_ns + 1000);
            check(&v, first, first + (uint32_t)v.window_ns);
            assert_true(first <= begin && first + v.window_ns >= end);
            rm_overlap h;
            assert_int_equal(rm_overlap_of(&copy, &(rm_overlap_options){ .window = RM_OVERLAP_HTA }, &h), RM_OK); /* without negative spans they agree */
            check(&h, first, first + (uint32_t)h.window_ns);
        }
        rm_kineto_free(&k);
        rm_kineto_free(&copy);
    }
}

static void test_steps(void **state)
{
    rm_rng r = rm_rng_for(12, 0, 0);
    for (int round = 0; round < 30; round++) {
        rm_kineto k = spans_of(&r, 500, round % 2 ? 50 : 9000);
        const uint32_t begin = rm_rng_below(&r, T / 2), end = begin + 1000 + rm_rng_below(&r, T / 2 - 1000);
        k.n_step = 2;
        k.step_begin_ns = (int64_t)begin - 1000;
        k.step_end_ns = (int64_t)end - 1000;
        rm_overlap v;
        assert_int_equal(rm_overlap_of(&k, &(rm_overlap_options){ .window = RM_OVERLAP_STEPS }, &v), RM_OK);
        check(&v, begin, end);
        rm_kineto_free(&k);
    }
    rm_kineto k = spans_of(&r, 5, 50);
    rm_overlap v;
    assert_int_equal(rm_overlap_of(&k, &(rm_overlap_options){ .window = RM_OVERLAP_STEPS }, &v), RM_E_ARG);
    rm_kineto_free(&k);
}

static rm_kineto some(size_t n, const rm_kineto_span *s)
{
    rm_kineto k = { .span = malloc(n * sizeof *s), .n = n, .room = n, .n_stream = 1, .stream = { 7 } };
    assert_non_null(k.span);
    memcpy(k.span, s, n * sizeof *s);
    return k;
}

/* Rounded inwards, a span within one microsecond is -1 long, and counts so where nothing merges with it. */
static void test_rounding(void **state)
{
    static const rm_kineto_span s[] = {
        { .begin_ns = 20400, .end_ns = 20900, .kept = true },                          /* 21..20 */
        { .begin_ns = 1001, .end_ns = 5999, .kept = true },                            /* 2..5 */
        { .begin_ns = 3500, .end_ns = 8000, .class = RM_KINETO_COMM, .kept = true },   /* 4..8 */
        { .begin_ns = 3100, .end_ns = 3200, .class = RM_KINETO_COMM, .kept = true },   /* 4..3, merges */
        { .begin_ns = 30000, .end_ns = 31000, .kept = false },
    };
    rm_overlap v;
    rm_kineto k = some(RM_COUNT(s), s);
    k.fractions = true;
    assert_int_equal(rm_overlap_of(&k, &(rm_overlap_options){ .window = RM_OVERLAP_HTA, .drop_last_step = true, .round = true }, &v), RM_OK);
    assert_int_equal(k.n, 4);
    assert_int_equal(v.window_ns, 18000);             /* 2..20 */
    assert_int_equal(v.compute_ns, 3000 - 1000);
    assert_int_equal(v.idle_ns, 18000 - (6000 - 1000));
    assert_int_equal(v.overlap_ns, 1000);
    assert_int_equal(v.comm_ns, 4000 - 1000 + 1000 - 1000 + 1000);
    assert_int_equal(v.window_ns, v.compute_ns + v.non_compute_ns + v.idle_ns);
    rm_kineto_free(&k);

    k = some(RM_COUNT(s), s);
    k.fractions = true;
    assert_int_equal(rm_overlap_of(&k, &(rm_overlap_options){ .window = RM_OVERLAP_HTA }, &v), RM_OK); /* nothing dropped, nothing rounded */
    assert_int_equal(k.n, 5);
    assert_int_equal(v.compute_ns, 4998 + 500 + 1000);
    assert_int_equal(v.window_ns, 31000 - 1001);
    rm_kineto_free(&k);
}

/* Its sums are of doubles: 0.1 + 0.7 < 0.8. */
static void test_doubles(void **state)
{
    static const struct { int64_t begin, dur, rounded_begin, rounded_end; } row[] = {
        { 1000, 1000, 1000, 2000 }, { 1001, 999, 2000, 2000 }, { 0, 999, 0, 0 }, { 1, 998, 1000, 0 }, { -1500, 1000, -1000, -1000 },
        { 8590, 410, 9000, 9000 },                                                          /* 8.59 + 0.41 is 9 in doubles */
        { 1700000000000000123, 1000, 1700000000000000000, 1700000000000001000 },            /* a quarter is the step there: .123 is .0, .0 + 1 */
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_kineto_span s = { .begin_ns = row[i].begin, .end_ns = row[i].begin + row[i].dur };
        rm_kineto_round(&s);
        if (s.begin_ns != row[i].rounded_begin || s.end_ns != row[i].rounded_end) fail_msg("row %zu: %lld..%lld", i, (long long)s.begin_ns, (long long)s.end_ns);
    }
}

static void test_xfer(void **state)
{
    static const rm_kineto_span a[] = {
        { .begin_ns = 0, .end_ns = 100, .class = RM_KINETO_COMM, .name = 1 }, { .begin_ns = 50, .end_ns = 60 }, { .begin_ns = 200, .end_ns = 230, .class = RM_KINETO_COMM, .name = 2 },
    };
    static const rm_kineto_span b[] = { { .begin_ns = 960, .end_ns = 1000, .class = RM_KINETO_COMM, .name = 1 }, { .begin_ns = 1100, .end_ns = 1180, .class = RM_KINETO_COMM, .name = 2 } };
    rm_kineto x = some(RM_COUNT(a), a), y = some(RM_COUNT(b), b);
    const rm_kineto *ranks[] = { &x, &y };
    int64_t xfer, sum;
    assert_true(rm_overlap_xfer(ranks, 2, &xfer, &sum));
    assert_int_equal(xfer, 40 + 30);
    assert_int_equal(sum, 100 + 30 + 40 + 80);
    assert_false(rm_overlap_xfer(ranks, 1, &xfer, &sum));
    y.span[1].name = 3;
    assert_false(rm_overlap_xfer(ranks, 2, &xfer, &sum));
    y.n = 1;
    assert_false(rm_overlap_xfer(ranks, 2, &xfer, &sum));
    rm_kineto_free(&x);
    rm_kineto_free(&y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brute), cmocka_unit_test(test_steps), cmocka_unit_test(test_rounding), cmocka_unit_test(test_doubles), cmocka_unit_test(test_xfer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
