/* Attribution of a scaling loss: known trouble in made-up steps comes out under its own name, jitter does not pass for it. */
#include "base/rng.h"
#include "bench/scaling_loss.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 5 };
/* A made-up run: what a rank's own step is made of, and the transfer that follows the last rank. */
typedef struct { int32_t ranks, steps; double input, compute, copy, host, transfer, jitter, late[MOST_RANKS]; } run;

static double draw(rm_rng *r, double width) { return width * ((double)rm_rng_below(r, 1000001) / 1e6 - 0.5); }

static bench_steps make(const run *m)
{
    rm_rng r = rm_rng_for(7, 8, 9);
    bench_steps t = { .ranks = m->ranks, .n = m->steps };
    t.v = calloc((size_t)t.ranks * (size_t)t.n * BENCH_TERMS, sizeof *t.v);
    t.slowest = calloc((size_t)t.n, sizeof *t.slowest);
    assert_true(t.v && t.slowest);
    for (int32_t i = 0; i < t.n; i++) {
        double compute[MOST_RANKS], own[MOST_RANKS], last = 0;
        for (int32_t k = 0; k < t.ranks; k++) {
            compute[k] = m->compute + m->late[k] + draw(&r, m->jitter);
            own[k] = m->input + compute[k] + m->copy + m->host;
            last = fmax(last, own[k]);
        }
        for (int32_t k = 0; k < t.ranks; k++) {
            double *v = &t.v[((size_t)k * (size_t)t.n + (size_t)i) * BENCH_TERMS];
            v[BENCH_INPUT] = m->input;
            v[BENCH_COMPUTE] = compute[k];
            v[BENCH_EXPOSED_COPY] = m->copy;
            v[BENCH_HOST] = m->host;
            v[BENCH_BLOCKED] = last + m->transfer - own[k];
            v[BENCH_STEP] = last + m->transfer;
        }
        t.slowest[i] = last + m->transfer;
    }
    return t;
}

static double get(const json_t *j, const char *key) { return json_number_value(json_object_get(j, key)); }
static const char *const terms[] = { "input", "compute_slowdown", "exposed_transfer", "straggler", "unexplained" };

/* loss of `m` against a step of one device with the same own time and no trouble. */
static json_t *loss_of(const run *m, double share, double *jitter)
{
    const run alone = { .ranks = 1, .steps = m->steps, .input = 0.010, .compute = 0.200, .copy = 0.002, .host = 0.005 };
    bench_steps t = make(m), one = make(&alone);
    json_t *j = bench_loss_json(&t, &one, share, jitter);
    double sum = 0;
    for (size_t x = 0; x < RM_COUNT(terms); x++) sum += get(j, terms[x]);
    assert_true(fabs(sum - get(j, "loss")) < 1e-12);
    bench_steps_free(&t);
    bench_steps_free(&one);
    return j;
}

static const run balanced = { .ranks = 3, .steps = 20, .input = 0.010, .compute = 0.200, .copy = 0.002, .host = 0.005, .transfer = 0.030 };

static void every_trouble_has_its_own_term(void **state)
{
    run m[5] = { balanced, balanced, balanced, balanced, balanced };
    m[0].input += 0.050;
    m[1].compute += 0.050;
    m[2].transfer += 0.050;
    m[3].late[1] += 0.050;
    m[4].host += 0.050;
    double jitter;
    json_t *base = loss_of(&balanced, 1, &jitter);
    assert_true(fabs(get(base, "loss") - 0.030) < 1e-12 && fabs(get(base, "exposed_transfer") - 0.030) < 1e-12 && fabs(jitter) < 1e-12);
    for (size_t i = 0; i < RM_COUNT(m); i++) {
        json_t *j = loss_of(&m[i], 1, &jitter);
        for (size_t x = 0; x < RM_COUNT(terms); x++) {
            const double moved = get(j, terms[x]) - get(base, terms[x]);
            if (fabs(moved - (x == i ? 0.050 : 0)) > 1e-12) fail_msg("trouble with %s moves %s by %g s", terms[i], terms[x], moved);
        }
        json_decref(j);
    }
    json_decref(base);
}

static void strong_scaling_is_held_against_its_share(void **state)
{
    run m = balanced;
    m.input /= 3;
    m.compute /= 3;
    m.copy /= 3;
    m.host /= 3;
    double jitter;
    json_t *j = loss_of(&m, 1.0 / 3, &jitter);
    assert_true(fabs(get(j, "loss") - 0.030) < 1e-12 && fabs(get(j, "exposed_transfer") - 0.030) < 1e-12);
    json_decref(j);
}

/* Ranks that are late by chance cost time, but make no device slower or faster, and none of them is a straggler. */
static void jitter_is_not_a_straggler(void **state)
{
    run m = balanced;
    m.steps = 400;
    m.jitter = 0.040;
    double jitter;
    json_t *j = loss_of(&m, 1, &jitter);
    assert_true(fabs(get(j, "compute_slowdown")) < 0.003 && fabs(get(j, "exposed_transfer") - 0.030) < 1e-12);
    assert_true(get(j, "straggler") > 0.008 && fabs(get(j, "straggler") - jitter) < 0.004); /* E[max of 3] - mean = width / 4 */
    bench_steps t = make(&m);
    json_t *hosts = json_pack("[s, s, s]", "a", "b", "c"), *all = bench_stragglers_json(&t, hosts);
    assert_int_equal(json_array_size(all), 3);
    for (size_t k = 0; k < 3; k++) {
        const json_t *one = json_array_get(all, k);
        assert_true(json_is_false(json_object_get(one, "straggler")) && get(one, "late_share") > 0.2 && get(one, "late_share") < 0.5);
    }
    assert_string_equal(json_string_value(json_object_get(json_array_get(all, 2), "host")), "c");
    json_decref(all);
    json_decref(hosts);
    json_decref(j);
    bench_steps_free(&t);
}

/* Two slow ranks of five are both named, though neither is later than the other. */
static void slow_ranks_do_not_hide_each_other(void **state)
{
    run m = balanced;
    m.ranks = 5;
    m.jitter = 0.010;
    m.late[1] = m.late[4] = 0.030;
    bench_steps t = make(&m);
    json_t *all = bench_stragglers_json(&t, NULL);
    for (size_t k = 0; k < 5; k++) {
        const json_t *one = json_array_get(all, k);
        assert_int_equal(json_is_true(json_object_get(one, "straggler")), k == 1 || k == 4);
        if (k == 1 || k == 4) assert_true(fabs(get(one, "late_s") - 0.030) < 0.006 && get(one, "wait_s") < 0.010);
        else assert_true(get(one, "wait_s") > 0.020);
    }
    json_decref(all);
    m.late[1] = m.late[4] = 0.002; /* under 2 % of the step: real, but not worth a name */
    m.jitter = 0;
    bench_steps_free(&t);
    t = make(&m);
    all = bench_stragglers_json(&t, NULL);
    for (size_t k = 0; k < 5; k++) assert_true(json_is_false(json_object_get(json_array_get(all, k), "straggler")));
    json_decref(all);
    bench_steps_free(&t);
}

static void what_was_gathered_is_read_back(void **state)
{
    rm_step s = { .step_ns = 100, .blocking_ns = 7,
                  .budget = { .window_ns = 100, .compute_ns = 40, .exposed_comm_ns = 20, .exposed_copy_ns = 5, .input_ns = 10, .host_ns = 15, .idle_ns = 10, .comm_ns = 30, .overlap_ns = 10 } };
    double v[BENCH_TERMS];
    bench_terms_of(&s, 3e-9, v);
    json_t *step = json_array(), *mode;
    for (size_t x = 0; x < BENCH_TERMS; x++) json_array_append_new(step, json_real(v[x]));
    mode = json_pack("{s:f, s:f, s:f, s:[[O, O], [O, o]]}", "window_s", 2.0, "first_s", 3.0, "comm_cpu_s", 0.5, "ranks", step, step, step, step);
    bench_steps t;
    assert_int_equal(bench_steps_read(mode, &t), RM_OK);
    assert_true(t.ranks == 2 && t.n == 2 && t.window_s == 2 && t.first_s == 3 && t.comm_cpu_s == 0.5);
    double sum = 0;
    for (bench_term x = BENCH_COMPUTE; x <= BENCH_IDLE; x++) sum += bench_term_mean(&t, x);
    assert_true(fabs(sum - bench_term_mean(&t, BENCH_STEP)) < 1e-18 && fabs(bench_term_at(&t, 1, 1, BENCH_BLOCKED) - 7e-9) < 1e-18);
    bench_steps_free(&t);
    json_decref(mode);
}

static void blocking_is_of_the_slowest_rank(void **state)
{
    double v[2 * 3 * BENCH_TERMS] = { 0 };
    const double step[2][3] = { { 5, 9, 4 }, { 6, 8, 1 } }, critical[2][3] = { { 1, 2, 7 }, { 3, 4, 9 } }; /* of the slowest: 3, 2, 7 */
    const bench_steps t = { .v = v, .ranks = 2, .n = 3 };
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < 3; i++) {
            v[(k * 3 + i) * BENCH_TERMS + BENCH_STEP] = step[k][i];
            v[(k * 3 + i) * BENCH_TERMS + BENCH_CRITICAL] = critical[k][i];
        }
    assert_true(bench_steps_blocking(&t) == 3);
    v[(1 * 3 + 1) * BENCH_TERMS + BENCH_CRITICAL] = NAN; /* not the slowest */
    assert_true(bench_steps_blocking(&t) == 3);
    v[(0 * 3 + 1) * BENCH_TERMS + BENCH_CRITICAL] = NAN;
    assert_true(isnan(bench_steps_blocking(&t)));
}

/* Steps that an older version gathered have a term less, and those without layer timers a null. */
static void what_is_not_known_is_not_zero(void **state)
{
    bench_steps t;
    json_t *step = json_array(), *mode;
    for (int x = 0; x < BENCH_CRITICAL; x++) json_array_append_new(step, json_real(1));
    mode = json_pack("{s:[[o]]}", "ranks", step);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bench_steps_read(mode, &t), RM_OK);
        assert_true(isnan(bench_steps_blocking(&t)) && bench_term_mean(&t, BENCH_BLOCKED) == 1 && t.slowest[0] == 1);
        bench_steps_free(&t);
        json_array_append_new(step, json_null());
    }
    json_decref(mode);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_trouble_has_its_own_term),    cmocka_unit_test(strong_scaling_is_held_against_its_share), cmocka_unit_test(jitter_is_not_a_straggler),
        cmocka_unit_test(slow_ranks_do_not_hide_each_other), cmocka_unit_test(what_was_gathered_is_read_back),
        cmocka_unit_test(blocking_is_of_the_slowest_rank),   cmocka_unit_test(what_is_not_known_is_not_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
