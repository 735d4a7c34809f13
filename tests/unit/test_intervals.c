/* Interval sets and the budget of a step, against brute force: every nanosecond of a small universe is looked at by itself. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "profiler/budget.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 4000, UNIVERSE = 96, MOST = 14, CLASSES = 5 };

/* Where the small universe lies: at 0, somewhere, and with its end at the end of time. */
static const uint64_t origins[] = { 0, 1764000000000000000u, UINT64_MAX - UNIVERSE };

typedef struct model { bool in[UNIVERSE]; } model; /* one flag a nanosecond */

static void add(rm_intervals *s, model *m, uint64_t origin, uint32_t begin, uint32_t end)
{
    assert_int_equal(rm_intervals_add(s, origin + begin, origin + end), RM_OK);
    for (uint32_t i = begin; i < end; i++) m->in[i] = true;
}

/* Any mixture of nested, touching, overlapping, equal, empty and backward ones; in order for every other seed. */
static void random_set(rm_rng *r, uint64_t origin, rm_intervals *s, model *m)
{
    const uint32_t n = rm_rng_below(r, MOST + 1), longest = 1 + rm_rng_below(r, UNIVERSE), in_order = rm_rng_below(r, 2);
    uint32_t from = 0, last_begin = 0, last_end = 0;
    memset(m, 0, sizeof *m);
    rm_intervals_clear(s);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t begin = from + rm_rng_below(r, UNIVERSE + 1 - from), end = begin + rm_rng_below(r, longest);
        if (end > UNIVERSE) end = UNIVERSE;
        if (i && rm_rng_below(r, 5) == 0) begin = last_begin, end = last_end;                                  /* the same again */
        else if (i && rm_rng_below(r, 5) == 0 && last_end >= begin) begin = last_end, end = end > begin ? end : begin; /* touching */
        if (rm_rng_below(r, 16) == 0) assert_int_equal(rm_intervals_add(s, origin + end, origin + begin), RM_OK); /* backward: nothing, or empty */
        if (begin <= end) add(s, m, origin, begin, end);
        last_begin = begin, last_end = end;
        if (in_order) from = begin;
    }
}

static model model_of(const rm_intervals *s, uint64_t origin)
{
    model m = { 0 };
    for (size_t i = 0; i < s->n; i++)
        for (uint64_t t = s->at[i].begin; t < s->at[i].end; t++) m.in[t - origin] = true;
    return m;
}

static uint64_t count(const model *m)
{
    uint64_t n = 0;
    for (int i = 0; i < UNIVERSE; i++) n += m->in[i];
    return n;
}

static void assert_set(const rm_intervals *s, const model *expected, uint64_t origin)
{
    for (size_t i = 0; i < s->n; i++) {
        assert_true(s->at[i].begin < s->at[i].end);
        assert_true(i == 0 || s->at[i - 1].end < s->at[i].begin); /* in order, disjoint, not touching */
        assert_true(s->at[i].begin >= origin && s->at[i].end <= origin + UNIVERSE);
    }
    const model m = model_of(s, origin);
    assert_memory_equal(&m, expected, sizeof m);
    assert_int_equal(rm_intervals_measure(s), count(expected));
}

typedef bool combine(bool a, bool b);
static bool either(bool a, bool b) { return a || b; }
static bool both(bool a, bool b) { return a && b; }
static bool without(bool a, bool b) { return a && !b; }

static model combined(const model *a, const model *b, combine *f)
{
    model m = { 0 };
    for (int i = 0; i < UNIVERSE; i++) m.in[i] = f(a->in[i], b->in[i]);
    return m;
}

static void test_sets_against_brute_force(void **state)
{
    static const struct { rm_status (*make)(const rm_intervals *, const rm_intervals *, rm_intervals *); combine *f; } ops[] = {
        { rm_intervals_union, either }, { rm_intervals_both, both }, { rm_intervals_without, without },
    };
    rm_intervals a = { 0 }, b = { 0 }, out = { 0 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        rm_rng r = rm_rng_for(seed, 0, 0);
        const uint64_t origin = origins[seed % RM_COUNT(origins)];
        model ma, mb, m;
        random_set(&r, origin, &a, &ma);
        random_set(&r, origin, &b, &mb);
        rm_intervals_normalise(&a);
        rm_intervals_normalise(&b);
        assert_set(&a, &ma, origin);
        assert_set(&b, &mb, origin);
        for (size_t i = 0; i < RM_COUNT(ops); i++) {
            m = combined(&ma, &mb, ops[i].f);
            assert_int_equal(ops[i].make(&a, &b, &out), RM_OK);
            assert_set(&out, &m, origin);
        }
        m = combined(&ma, &mb, both);
        assert_int_equal(rm_intervals_measure_both(&a, &b), count(&m));

        uint32_t x = rm_rng_below(&r, UNIVERSE + 1), y = rm_rng_below(&r, UNIVERSE + 1);
        for (uint32_t i = 0; i < UNIVERSE; i++) m.in[i] = ma.in[i] && i >= x && i < y;
        rm_intervals_clip(&a, (rm_interval){ origin + x, origin + y });
        assert_set(&a, &m, origin);
    }
    rm_intervals_free(&a);
    rm_intervals_free(&b);
    rm_intervals_free(&out);
}

/* The whole of time is a set too. */
static void test_ends_of_time(void **state)
{
    rm_intervals a = { 0 }, b = { 0 }, out = { 0 };
    assert_int_equal(rm_intervals_add(&a, 0, UINT64_MAX), RM_OK);
    assert_int_equal(rm_intervals_add(&b, UINT64_MAX - 1, UINT64_MAX), RM_OK);
    assert_int_equal(rm_intervals_add(&b, 0, 1), RM_OK);
    assert_true(b.unsorted);
    rm_intervals_normalise(&b);
    assert_int_equal(rm_intervals_measure(&a), UINT64_MAX);
    assert_int_equal(rm_intervals_measure_both(&a, &b), 2);
    assert_int_equal(rm_intervals_without(&a, &b, &out), RM_OK);
    assert_int_equal(out.n, 1);
    assert_int_equal(rm_intervals_measure(&out), UINT64_MAX - 2);
    assert_int_equal(rm_intervals_union(&out, &b, &a), RM_OK);
    assert_int_equal(a.n, 1);
    assert_int_equal(rm_intervals_measure(&a), UINT64_MAX);
    rm_intervals_free(&a);
    rm_intervals_free(&b);
    rm_intervals_free(&out);
}

/* Sizes that reach every gap of the sort, against one flag a nanosecond. */
static void test_large_unsorted_sets(void **state)
{
    enum { N = 20000, SPAN = 1 << 17 };
    bool *in = calloc(SPAN, 1);
    rm_intervals s = { 0 };
    assert_non_null(in);
    for (uint64_t seed = 0; seed < 4; seed++) {
        rm_rng r = rm_rng_for(seed, 1, 0);
        uint64_t expected = 0, runs = 0;
        memset(in, 0, SPAN);
        rm_intervals_clear(&s);
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t begin = rm_rng_below(&r, SPAN - 8), length = 1 + rm_rng_below(&r, 8);
            assert_int_equal(rm_intervals_add(&s, begin, begin + length), RM_OK);
            memset(in + begin, 1, length);
        }
        for (uint32_t i = 0; i < SPAN; i++) expected += in[i], runs += in[i] && (i == 0 || !in[i - 1]);
        rm_intervals_normalise(&s);
        assert_int_equal(rm_intervals_measure(&s), expected);
        assert_int_equal(s.n, runs);
    }
    rm_intervals_free(&s);
    free(in);
}

/* Memory is kept: a set that was as large before stays where it is. */
static void test_memory_is_kept(void **state)
{
    rm_intervals s = { 0 };
    for (uint64_t i = 0; i < 1000; i++) assert_int_equal(rm_intervals_add(&s, 2 * i, 2 * i + 1), RM_OK);
    const rm_interval *at = s.at;
    const size_t room = s.room;
    rm_intervals_clear(&s);
    assert_int_equal(s.n, 0);
    for (uint64_t i = 1000; i-- > 0;) assert_int_equal(rm_intervals_add(&s, 2 * i, 2 * i + 1), RM_OK);
    rm_intervals_normalise(&s);
    assert_int_equal(s.n, 1000);
    assert_ptr_equal(s.at, at);
    assert_int_equal(s.room, room);
    rm_intervals_free(&s);
    assert_null(s.at);
}

/* As HolisticTraceAnalysis computes the overlap: merge each class, add 1 where communication begins and 2 where computation does,
 * sort the marks, and where the sum is 3 both run. */
typedef struct mark { uint64_t at; int change; } mark;
static int by_time(const void *a, const void *b)
{
    const mark *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static double sweep_overlap(const rm_intervals *comm, const rm_intervals *comp)
{
    mark m[2 * (2 * MOST + 2)];
    size_t n = 0;
    uint64_t total = 0, overlap = 0;
    for (size_t i = 0; i < comm->n; i++) {
        m[n++] = (mark){ comm->at[i].begin, 1 };
        m[n++] = (mark){ comm->at[i].end, -1 };
        total += comm->at[i].end - comm->at[i].begin;
    }
    for (size_t i = 0; i < comp->n; i++) {
        m[n++] = (mark){ comp->at[i].begin, 2 };
        m[n++] = (mark){ comp->at[i].end, -2 };
    }
    qsort(m, n, sizeof *m, by_time);
    for (size_t i = 0, running = 0; i + 1 < n; i++) {
        running += (size_t)m[i].change;
        if (running == 3) overlap += m[i + 1].at - m[i].at;
    }
    return total ? (double)overlap / (double)total : NAN;
}

/* Every nanosecond to the first class that has it. */
static rm_budget by_nanosecond(const model *m, uint32_t from, uint32_t to)
{
    rm_budget b = { .window_ns = to > from ? to - from : 0 };
    uint64_t *const term[CLASSES + 1] = { &b.compute_ns, &b.exposed_comm_ns, &b.exposed_copy_ns, &b.input_ns, &b.host_ns, &b.idle_ns };
    for (uint32_t i = from; i < to; i++) {
        int k = 0;
        while (k < CLASSES && !m[k].in[i]) k++;
        ++*term[k];
        b.comm_ns += m[1].in[i];
        b.overlap_ns += m[0].in[i] && m[1].in[i];
    }
    return b;
}

static uint64_t sum_of(const rm_budget *b)
{
    return b->compute_ns + b->exposed_comm_ns + b->exposed_copy_ns + b->input_ns + b->host_ns + b->idle_ns;
}

static void test_budget_against_brute_force(void **state)
{
    rm_classes c = { 0 };
    rm_budget sum = { 0 }, sum_expected = { 0 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        rm_rng r = rm_rng_for(seed, 2, 0);
        const uint64_t origin = origins[seed % RM_COUNT(origins)];
        rm_intervals *const set[CLASSES] = { &c.compute, &c.comm, &c.copy, &c.input, &c.host };
        model m[CLASSES];
        rm_classes_clear(&c);
        for (int k = 0; k < CLASSES; k++) random_set(&r, origin, set[k], &m[k]);
        uint32_t from = rm_rng_below(&r, UNIVERSE + 1), to = rm_rng_below(&r, UNIVERSE + 1);
        if (seed % 3 == 0) from = 0, to = UNIVERSE;
        const rm_budget expect = by_nanosecond(m, from, to);
        rm_budget got;
        assert_int_equal(rm_budget_of(&c, (rm_interval){ origin + from, origin + to }, &got), RM_OK);
        assert_memory_equal(&got, &expect, sizeof got);
        assert_int_equal(sum_of(&got), got.window_ns);

        const double overlap = rm_overlap_geom(&got), swept = sweep_overlap(&c.comm, &c.compute);
        assert_true(got.comm_ns ? overlap == swept && overlap == (double)expect.overlap_ns / (double)expect.comm_ns : isnan(overlap) && isnan(swept));
        assert_int_equal(got.exposed_comm_ns, got.comm_ns - got.overlap_ns);

        rm_budget_add(&sum, &got);
        uint64_t *const to_term = (uint64_t *)&sum_expected;
        const uint64_t *const from_term = (const uint64_t *)&expect;
        for (size_t i = 0; i < sizeof expect / sizeof *from_term; i++) to_term[i] += from_term[i];
    }
    assert_memory_equal(&sum, &sum_expected, sizeof sum);
    assert_int_equal(sum_of(&sum), sum.window_ns);
    assert_true(sum.idle_ns && sum.host_ns && sum.input_ns && sum.exposed_copy_ns && sum.exposed_comm_ns); /* every term was met */
    rm_classes_free(&c);
}

/* By hand: 100 ns in which each class has its say. */
static void test_budget_by_hand(void **state)
{
    rm_classes c = { 0 };
    rm_budget b;
    assert_int_equal(rm_intervals_add(&c.compute, 1010, 1040), RM_OK);
    assert_int_equal(rm_intervals_add(&c.compute, 1060, 1070), RM_OK);
    assert_int_equal(rm_intervals_add(&c.comm, 1030, 1065), RM_OK);   /* 10 and 5 under compute, 20 exposed */
    assert_int_equal(rm_intervals_add(&c.copy, 1000, 1015), RM_OK);   /* 10 exposed */
    assert_int_equal(rm_intervals_add(&c.input, 1068, 1080), RM_OK);  /* 10 */
    assert_int_equal(rm_intervals_add(&c.host, 1075, 1085), RM_OK);   /* 5 */
    assert_int_equal(rm_intervals_add(&c.host, 2000, 3000), RM_OK);   /* outside the window */
    assert_int_equal(rm_budget_of(&c, (rm_interval){ 1000, 1100 }, &b), RM_OK);
    assert_memory_equal(&b, (&(rm_budget){ 100, 40, 20, 10, 10, 5, 15, 35, 15 }), sizeof b);
    assert_true(rm_overlap_geom(&b) == 15. / 35.);

    rm_classes_clear(&c);
    assert_int_equal(rm_budget_of(&c, (rm_interval){ 5, 9 }, &b), RM_OK);
    assert_memory_equal(&b, (&(rm_budget){ .window_ns = 4, .idle_ns = 4 }), sizeof b);
    assert_true(isnan(rm_overlap_geom(&b)));
    rm_classes_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets_against_brute_force),
        cmocka_unit_test(test_ends_of_time),
        cmocka_unit_test(test_large_unsorted_sets),
        cmocka_unit_test(test_memory_is_kept),
        cmocka_unit_test(test_budget_against_brute_force),
        cmocka_unit_test(test_budget_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
