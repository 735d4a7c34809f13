/* Replayed steps: timelines made by hand with known answers, and random ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rng.h"
#include "profiler/replay.h"
#include <math.h>
#include <string.h>

enum { MOST = 64 };
typedef struct op { uint64_t begin, end; uint32_t ready; int32_t after; } op;
typedef struct bucket { uint32_t last; uint64_t start, end; } bucket;
typedef struct timeline { op op[MOST]; uint32_t n_op; bucket bucket[MOST]; uint32_t n_bucket; uint64_t step; } timeline;

static rm_status fit(const timeline *t, rm_replay *out)
{
    uint64_t begin[MOST], end[MOST], start[MOST], stop[MOST];
    assert_int_equal(rm_replay_new(t->n_op, t->n_bucket, out), RM_OK);
    for (uint32_t i = 0; i < t->n_op; i++) {
        begin[i] = t->op[i].begin, end[i] = t->op[i].end;
        out->op[i].ready = t->op[i].ready, out->op[i].after = t->op[i].after;
    }
    for (uint32_t i = 0; i < t->n_bucket; i++) {
        start[i] = t->bucket[i].start, stop[i] = t->bucket[i].end;
        out->bucket[i].last = t->bucket[i].last;
    }
    return rm_replay_fit(out, &(rm_replay_seen){ begin, end, start, stop, t->step });
}

static rm_replay fitted(const timeline *t)
{
    rm_replay r;
    if (fit(t, &r) != RM_OK) fail_msg("%s", rm_last_error());
    assert_true(rm_replay_step(&r, &rm_replay_as_it_was) == t->step);
    return r;
}

/* forward, two ops of backward, update. Bucket 0 hides under the second backward op; bucket 1 is ready at its end and exposed. */
static const timeline overlapped = {
    .op = { { 10, 100, 0, -1 }, { 105, 200, 4, -1 }, { 200, 400, 9, -1 }, { 520, 600, 0, 1 } }, .n_op = 4,
    .bucket = { { 3, 210, 300 }, { 8, 405, 510 } }, .n_bucket = 2, .step = 640,
};
enum { FORWARD, FIRST, SECOND, UPDATE, HIDDEN = 0, EXPOSED = 1 };

static double op_slope(const rm_replay *r, uint32_t i) { return rm_replay_op_slope(r, i, 50); }
static double bucket_slope(const rm_replay *r, uint32_t i) { return rm_replay_bucket_slope(r, i, 50); }

static void a_hidden_bucket_costs_nothing_until_it_shows(void **state)
{
    rm_replay r = fitted(&overlapped);
    assert_true(bucket_slope(&r, HIDDEN) == 0 && bucket_slope(&r, EXPOSED) == 1);
    /* 100 until the other is ready: the rest of 150 shows. */
    assert_true(rm_replay_bucket_slope(&r, HIDDEN, 150) == 50.0 / 150);
    assert_true(rm_replay_bucket_slope(&r, HIDDEN, 100) == 0);
    rm_replay_free(&r);
}

static void every_op_before_an_exposed_bucket_counts(void **state)
{
    rm_replay r = fitted(&overlapped);
    for (uint32_t i = 0; i < r.n_op; i++) assert_true(op_slope(&r, i) == 1);
    rm_replay_free(&r);
}

static void blocking_is_what_the_exposed_ones_take(void **state)
{
    rm_replay r = fitted(&overlapped);
    assert_true(rm_replay_blocking(&r) == 105); /* bucket 1 alone; its lag is not communication's duration */
    const rm_replay_change none = { .op = -1, .bucket = -1, .comm_scale = 0 }, twice = { .op = -1, .bucket = -1, .comm_scale = 2 };
    assert_true(rm_replay_blocking(&r) == 640 - rm_replay_step(&r, &none));
    assert_true(rm_replay_step(&r, &twice) == 640 + 105); /* bucket 0 now ends at 390 */
    rm_replay_free(&r);
}

/* Nothing waits for the buckets but the end, long after them. */
static void compute_bound(void **state)
{
    timeline t = overlapped;
    t.bucket[1] = (bucket){ 8, 401, 401 };
    t.op[UPDATE] = (op){ 410, 600, 0, 1 };
    rm_replay r = fitted(&t);
    assert_true(rm_replay_blocking(&r) == 0 && op_slope(&r, FORWARD) == 1 && op_slope(&r, SECOND) == 1);
    assert_true(bucket_slope(&r, HIDDEN) == 0 && bucket_slope(&r, EXPOSED) == 1);
    rm_replay_free(&r);
}

/* The communicator is busy from the first bucket to the last: an op of backward after the first bucket has slack. */
static void communication_bound(void **state)
{
    timeline t = overlapped;
    t.bucket[0] = (bucket){ 3, 200, 900 };
    t.bucket[1] = (bucket){ 8, 910, 1000 };
    t.op[UPDATE] = (op){ 1010, 1100, 0, 1 };
    t.step = 1100;
    rm_replay r = fitted(&t);
    assert_true(op_slope(&r, FORWARD) == 1 && op_slope(&r, FIRST) == 1 && op_slope(&r, SECOND) == 0 && op_slope(&r, UPDATE) == 1);
    assert_true(bucket_slope(&r, 0) == 1 && bucket_slope(&r, 1) == 1);
    assert_true(rm_replay_op_slope(&r, SECOND, 600) == 100.0 / 600); /* 500 of slack */
    assert_true(rm_replay_blocking(&r) == 1100 - (400 + 10 + 10 + 90)); /* backward's end, both lags and the gap, the update */
    rm_replay_free(&r);
}

/* In parts: the first waits for bucket 0 alone and hides while bucket 1 travels. */
static void an_update_on_arrival(void **state)
{
    timeline t = overlapped;
    t.op[UPDATE] = (op){ 410, 450, 0, 0 };
    t.op[4] = (op){ 520, 600, 0, 1 };
    t.n_op = 5;
    rm_replay r = fitted(&t);
    assert_true(op_slope(&r, UPDATE) == 0 && op_slope(&r, 4) == 1 && rm_replay_op_slope(&r, UPDATE, 100) == 0.4);
    rm_replay_free(&r);
}

static void changes_add_up_and_stop_at_zero(void **state)
{
    rm_replay r = fitted(&overlapped);
    const rm_replay_change both = { .op = FORWARD, .bucket = EXPOSED, .op_ns = 7, .bucket_ns = -5, .comm_scale = 1 };
    const rm_replay_change gone = { .op = UPDATE, .bucket = EXPOSED, .op_ns = INT64_MIN, .bucket_ns = -1000, .comm_scale = 1 };
    assert_true(rm_replay_step(&r, &both) == 642 && rm_replay_step(&r, &gone) == 640 - 80 - 105);
    rm_replay_free(&r);
}

static void a_step_of_nothing(void **state)
{
    rm_replay r = fitted(&(timeline){ .step = 5 });
    assert_true(rm_replay_blocking(&r) == 0);
    rm_replay_free(&r);
    rm_replay_free(&r);
}

static void what_is_no_step_is_refused(void **state)
{
    static const struct { const char *why; op op; uint32_t i; bucket bucket; uint64_t step; } row[] = {
        { "begins before", { 99, 200, 4, -1 }, 1, { 0 }, 0 },          { "ends before it begins", { 105, 104, 4, -1 }, 1, { 0 }, 0 },
        { "later op completes", { 105, 200, 4, 0 }, 1, { 0 }, 0 },     { "begins before", { 509, 600, 0, 1 }, 3, { 0 }, 0 },
        { "starts before", { 0 }, 9, { 8, 399, 510 }, 0 },             { "ends before it starts", { 0 }, 9, { 8, 405, 404 }, 0 },
        { "completed by no op", { 520, 600, 0, -1 }, 3, { 9, 405, 510 }, 0 },        { "before its last part", { 0 }, 9, { 0 }, 599 },
        { "later op completes", { 520, 600, 0, 2 }, 3, { 0 }, 0 },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        timeline t = overlapped;
        rm_replay r;
        if (row[i].i < t.n_op) t.op[row[i].i] = row[i].op;
        if (row[i].bucket.last) t.bucket[1] = row[i].bucket;
        if (row[i].step) t.step = row[i].step;
        assert_int_equal(fit(&t, &r), RM_E_ARG);
        if (!strstr(rm_last_error(), row[i].why)) fail_msg("row %zu: \"%s\" lacks \"%s\"", i, rm_last_error(), row[i].why);
        rm_replay_free(&r);
    }
}

/* ---- at random: buckets cut anywhere, ops that complete up to three gradients, some that wait for the next bucket in order */
enum { GRADIENTS = 24 };

static void cut(rm_rng *g, timeline *t)
{
    for (uint32_t last = rm_rng_below(g, 5); last < GRADIENTS; last += 1 + rm_rng_below(g, 9)) t->bucket[t->n_bucket++].last = last;
}

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

static timeline random_timeline(rm_rng *g)
{
    timeline t = { .n_op = 2 + rm_rng_below(g, MOST / 2) };
    const uint32_t scale = 1 + rm_rng_below(g, 400);
    uint64_t queue = 0, comm = 0;
    uint32_t known = 0, next = 0, waited = 0;
    cut(g, &t);
    for (uint32_t i = 0; i < t.n_op; i++) {
        op *o = &t.op[i];
        known = i + 1 == t.n_op ? GRADIENTS : known + (i > t.n_op / 4 && known + 3 < GRADIENTS ? rm_rng_below(g, 4) : 0);
        *o = (op){ .ready = i + 1 == t.n_op || rm_rng_below(g, 3) ? known : 0, .after = waited < next && rm_rng_below(g, 4) == 0 ? (int32_t)waited++ : -1 };
        o->begin = (o->after < 0 ? queue : later(queue, t.bucket[o->after].end)) + rm_rng_below(g, 2) * rm_rng_below(g, 20);
        o->end = queue = o->begin + rm_rng_below(g, scale);
        for (; next < t.n_bucket && t.bucket[next].last < o->ready; next++) {
            t.bucket[next].start = later(queue, comm) + rm_rng_below(g, 9);
            t.bucket[next].end = comm = t.bucket[next].start + rm_rng_below(g, 2 * scale);
        }
    }
    t.step = later(queue, comm) + rm_rng_below(g, 50);
    return t;
}

/* Between 0 and 1, and the step grows with the change. */
static void check_slopes(const rm_replay *r, rm_rng *g)
{
    const uint64_t little = 1 + rm_rng_below(g, 100), more = little + rm_rng_below(g, 1000);
    for (uint32_t i = 0; i < r->n_op; i++) {
        const double s = rm_replay_op_slope(r, i, little);
        assert_true(s >= 0 && s <= 1 && rm_replay_op_slope(r, i, more) >= s - 1e-12); /* slack is used up, never won */
    }
    for (uint32_t i = 0; i < r->n_bucket; i++) {
        const double s = rm_replay_bucket_slope(r, i, little);
        assert_true(s >= 0 && s <= 1 && rm_replay_bucket_slope(r, i, more) >= s - 1e-12);
    }
    assert_true(r->n_op < 1 || rm_replay_op_slope(r, 0, little) == 1); /* all else comes after the first */
}

static void check_shorter(const rm_replay *r, rm_rng *g)
{
    const uint64_t as_it_was = rm_replay_step(r, &rm_replay_as_it_was);
    rm_replay_change c = rm_replay_as_it_was;
    uint64_t last = 0;
    c.op = (int32_t)rm_rng_below(g, r->n_op);
    c.op_ns = -(int64_t)rm_rng_below(g, 300);
    assert_true(rm_replay_step(r, &c) <= as_it_was && as_it_was - rm_replay_step(r, &c) <= (uint64_t)-c.op_ns);
    c = rm_replay_as_it_was;
    for (c.comm_scale = 0; c.comm_scale <= 3; c.comm_scale += 0.25) {
        const uint64_t step = rm_replay_step(r, &c);
        assert_true(step >= last);
        if (c.comm_scale == 0) assert_true(rm_replay_blocking(r) == as_it_was - step);
        if (c.comm_scale == 1) assert_true(step == as_it_was);
        last = step;
    }
}

static void random_steps(void **state)
{
    for (uint64_t seed = 0; seed < 3000; seed++) {
        rm_rng g = rm_rng_for(seed, 1, 2);
        const timeline t = random_timeline(&g);
        rm_replay r = fitted(&t);
        check_slopes(&r, &g);
        check_shorter(&r, &g);
        rm_replay_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hidden_bucket_costs_nothing_until_it_shows), cmocka_unit_test(every_op_before_an_exposed_bucket_counts),
        cmocka_unit_test(blocking_is_what_the_exposed_ones_take), cmocka_unit_test(compute_bound), cmocka_unit_test(communication_bound),
        cmocka_unit_test(an_update_on_arrival), cmocka_unit_test(changes_add_up_and_stop_at_zero), cmocka_unit_test(a_step_of_nothing),
        cmocka_unit_test(what_is_no_step_is_refused), cmocka_unit_test(random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
