/* What bench profile proposes to change: pure functions of what was measured. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "bench/profile.h"
#include <math.h>
#include <string.h>

static const uint64_t MS = 1000000;

static json_t *layer(const char *op, double ms, double bound_ms)
{
    return json_pack("{s:s, s:s, s:s, s:f, s:o}", "name", "l", "pass", "p", "op", op, "time_s_median", ms * 1e-3, "bound_s", bound_ms < 0 ? json_null() : json_real(bound_ms * 1e-3));
}

/* conv 10, bn 2, conv 6, bn 4 ms, one after the other; the last one completes the only bucket, of `comm_ms`. */
static json_t *gathered(void)
{
    return json_pack("{s:[o, o, o, o, o], s:{s:f, s:f, s:f}}", "layers", layer("conv", 10, 4), layer("bn", 2, 1), layer("conv", 6, 6), layer("bn", 4, 1), layer("", 3, -1), "budget_s",
                     "input_stall", 0.0, "host", 0.0005, "exposed_copy", 0.0);
}

typedef struct { rm_replay_op op[4]; rm_replay_bucket bucket; uint64_t end_ns[4]; rm_replay r; } step;
static void step_of(step *s, uint64_t comm_ms)
{
    const uint64_t ms[4] = { 10, 2, 6, 4 };
    for (int i = 0; i < 4; i++) s->op[i] = (rm_replay_op){ .dur_ns = ms[i] * MS, .after = -1 };
    s->op[1].ready = 1;
    s->bucket = (rm_replay_bucket){ .last = 0, .dur_ns = comm_ms * MS };
    s->op[3].after = 0;
    s->r = (rm_replay){ .op = s->op, .n_op = 4, .bucket = &s->bucket, .n_bucket = 1, .end_ns = s->end_ns };
}

static void ops_of_a_kind_are_one_change(void **state)
{
    bench_change c[BENCH_MOST_CHANGES];
    step s;
    step_of(&s, 0);
    json_t *got = gathered();
    assert_int_equal(bench_changes_find(got, &s.r, 1, 0.08, c), 3);
    assert_string_equal(c[0].what, "conv at bound (2 ops)");
    assert_true(fabs(c[0].gain_s - 0.006) < 1e-8 && c[0].tested && c[0].probe.kind == BENCH_PROBE_OP && c[0].probe.index == 0);
    assert_string_equal(c[1].what, "bn at bound (2 ops)");
    assert_true(fabs(c[1].gain_s - 0.004) < 1e-8 && c[1].probe.index == 3); /* the one furthest above its bound */
    assert_true(fabs(c[2].gain_s - 0.0005) < 1e-9 && !c[2].tested && c[2].note[0]);
    json_decref(got);
}

/* While an all-reduce of 20 ms is on the critical path, what runs beside it gives nothing: 10 + 2 + 20 + 4. */
static void what_is_hidden_gives_nothing(void **state)
{
    bench_change c[BENCH_MOST_CHANGES];
    step s;
    step_of(&s, 20);
    json_t *got = gathered();
    json_array_set_new(json_object_get(got, "layers"), 2, layer("conv", 6, 1)); /* under the all-reduce */
    json_array_set_new(json_object_get(got, "layers"), 0, layer("conv", 10, 10));
    bench_changes_find(got, &s.r, 1, 0.08, c);
    for (int i = 0; i < 2; i++) assert_string_not_equal(c[i].what, "conv at bound (2 ops)");
    json_decref(got);
}

static void best_first_and_no_more_than_fit(void **state)
{
    bench_change c[BENCH_MOST_CHANGES];
    step s;
    step_of(&s, 0);
    json_t *got = gathered(), *budget = json_object_get(got, "budget_s");
    json_object_set_new(budget, "input_stall", json_real(0.005));
    json_object_set_new(got, "communication", json_pack("{s:f}", "comm_cost_s", 0.1));
    json_object_set_new(got, "stragglers", json_pack("[{s:i, s:s, s:f, s:b}, {s:i, s:s, s:f, s:b}]", "rank", 0, "host", "a", "late_s", 9.0, "straggler", 0, "rank", 1, "host", "b", "late_s", 0.05,
                                                     "straggler", 1));
    assert_int_equal(bench_changes_find(got, &s.r, 1, 0.2, c), BENCH_MOST_CHANGES);
    assert_true(c[0].gain_s == 0.1 && c[0].probe.kind == BENCH_PROBE_BUCKET && c[0].probe.index == 0);
    assert_string_equal(c[1].what, "rank 1 on b as fast as the others");
    assert_true(fabs(c[2].gain_s - 0.006) < 1e-8);
    json_decref(got);
}

/* Twins are taken after the steps: on a machine that others use their difference may be longer than the step was. */
static void nothing_gains_more_than_the_step(void **state)
{
    bench_change c[BENCH_MOST_CHANGES];
    step s;
    step_of(&s, 0);
    json_t *got = gathered();
    json_object_set_new(got, "communication", json_pack("{s:f}", "comm_cost_s", 0.1));
    assert_int_equal(bench_changes_find(got, &s.r, 1, 0.025, c), BENCH_MOST_CHANGES);
    assert_true(c[0].gain_s == 0.025 && c[0].probe.kind == BENCH_PROBE_BUCKET);
    assert_true(fabs(c[1].gain_s - 0.006) < 1e-8);
    json_decref(got);
}

/* An accident of one step is no gain: each step's own times count, and the median of them. */
static void gains_are_medians_over_steps(void **state)
{
    bench_change c[BENCH_MOST_CHANGES];
    step s[3];
    rm_replay r[3];
    json_t *got = gathered();
    for (int k = 0; k < 3; k++) {
        step_of(&s[k], 0);
        if (k == 2) s[k].op[0].dur_ns = 500 * MS;
        r[k] = s[k].r;
    }
    bench_changes_find(got, r, 3, 0.08, c);
    assert_string_equal(c[0].what, "conv at bound (2 ops)");
    assert_true(fabs(c[0].gain_s - 0.006) < 1e-8);
    json_decref(got);
}

static void verdicts(void **state)
{
    static const struct { double predicted, low, measured, high; const char *want; } row[] = {
        { 1, 0.9, 1, 1.1, "confirmed" },      { 1, 0.7, 0.8, 0.9, "confirmed" },  { 0, -0.1, 0.02, 0.1, "hidden" },
        { 1, 0.3, 0.4, 0.5, "model disagrees" }, { 0, 0.8, 0.9, 1, "model disagrees" }, { 1, 0.2, 1, 1.8, "too noisy" },
        { 1, 14, 28, 42, "too noisy" },       { NAN, NAN, NAN, NAN, "not tested" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        json_t *o = json_object();
        bench_set_number(o, "predicted_slope", row[i].predicted, "-");
        bench_set_number(o, "measured_slope", row[i].measured, "-");
        bench_set_number(o, "slope_low", row[i].low, "-");
        bench_set_number(o, "slope_high", row[i].high, "-");
        assert_string_equal(bench_change_verdict(o), row[i].want);
        json_decref(o);
    }
}

static void nothing_known_is_nothing_to_change(void **state)
{
    bench_change c[BENCH_MOST_CHANGES];
    step s;
    step_of(&s, 0);
    json_t *got = json_pack("{s:[o], s:{}}", "layers", layer("conv", 10, -1), "budget_s");
    assert_int_equal(bench_changes_find(got, &s.r, 1, 0.08, c), 0);
    json_decref(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(ops_of_a_kind_are_one_change), cmocka_unit_test(what_is_hidden_gives_nothing), cmocka_unit_test(best_first_and_no_more_than_fit),
                                        cmocka_unit_test(nothing_gains_more_than_the_step), cmocka_unit_test(gains_are_medians_over_steps), cmocka_unit_test(verdicts),
                                        cmocka_unit_test(nothing_known_is_nothing_to_change) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
