/* The gate's self-test: that its checks hold for the rule and fail for rules that are wrong; the test of layers and the screen of sessions by hand. With a
 * number of trials as argument, and perhaps the name of a check, it prints what is found. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "reports/gate_check.h"
#include "reports/gate_layers.h"
#include "reports/gate_screen.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double effect = 0.02;

static const rp_check *check_named(const char *name)
{
    for (size_t i = 0; i < rp_n_checks; i++)
        if (!strcmp(rp_checks[i].name, name)) return &rp_checks[i];
    fail_msg("no check is called %s", name);
    return NULL;
}

static rp_findings findings_of(const char *name, const rp_method *m, int trials)
{
    rp_findings f = { .rows = json_array() };
    const rp_check_config c = { .method = m, .trials = trials, .effect = effect, .seed = 1 };
    if (check_named(name)->run(&c, &f) != RM_OK) fail_msg("%s: %s", name, rm_last_error());
    assert_true(f.n > 0 && (size_t)f.n == json_array_size(f.rows));
    return f;
}

static void print(const rp_findings *f)
{
    size_t i;
    json_t *row;
    json_array_foreach(f->rows, i, row)
        printf("%s %-14s %-44s %s\n", json_is_true(json_object_get(row, "holds")) ? "ok  " : "FAIL", json_string_value(json_object_get(row, "check")),
               json_string_value(json_object_get(row, "case")), json_string_value(json_object_get(row, "text")));
}

static void holds(const char *name, int trials)
{
    rp_findings f = findings_of(name, &rp_gate_method, trials);
    if (f.failed) print(&f);
    assert_int_equal(f.failed, 0);
    json_decref(f.rows);
}

static void the_gate_keeps_its_promises(void **state)
{
    static const struct {
        const char *name;
        int trials;
    } row[] = { { "signed ranks", 1 }, { "rank sums", 1 }, { "count", 1 },   { "mirror", 60 },   { "nulls", 1000 },
                { "limits", 400 },     { "power", 200 },   { "layers", 30 }, { "history", 300 }, { "other rules", 100 } };
    assert_int_equal(rp_n_checks, RM_COUNT(row) + 1);
    for (size_t i = 0; i < RM_COUNT(row); i++) holds(row[i].name, row[i].trials);
}

/* Nine slips of the hand, each found out. */
static void rules_that_are_wrong_are_found_out(void **state)
{
    rp_findings f = findings_of("mutants", &rp_gate_method, 2000);
    if (f.failed) print(&f);
    assert_true(f.n >= 3 && !f.failed);
    json_decref(f.rows);
}

/* Blind, it is never wrong, and of no use. */
static rm_status never(const rp_gate_rule *r, double least, const double *d, int n, rp_judged *out)
{
    RM_TRY(rp_gate_judge(r, least, d, n, out));
    if (out->decided) out->verdict = RP_INCONCLUSIVE;
    return RM_OK;
}

static void a_gate_that_never_finds_anything_fails(void **state)
{
    static const rp_method blind = { .name = "blind", .judge = never };
    rp_findings f = findings_of("power", &blind, 20);
    assert_int_equal(f.failed, 18); /* 1.5, 2.5 and 4 times the effect in six noises */
    json_decref(f.rows);
    f = findings_of("nulls", &blind, 20);
    assert_int_equal(f.failed, 0);
    json_decref(f.rows);
}

/* Equal runs of which every other block of ten is 5 % slower: whoever takes ten runs and then ten is wrong every time, and pairs are not. */
static void a_tape_is_cut_into_windows(void **state)
{
    enum { RUNS = 400 };
    static double y[RUNS], x[RUNS][RP_ITERATIONS];
    const rp_check_config c = { .method = &rp_gate_method, .trials = 1, .effect = effect, .seed = 1 };
    static const struct { const char *rule; int trials, slower, slower_by_8; } want[] = {
        { "one run of each, over the effect", 200, 0, 200 },           { "ten runs, then ten, rank-sum 5 %", 20, 20, 20 },
        { "twenty runs, then twenty, rank-sum 5 %", 10, 0, 10 },       { "iterations of one run, bootstrap 95 %, over 1 %", 200, 0, 200 },
        { "ten pairs, fixed order, signed ranks 5 %", 20, 0, 20 },     { "the gate", 17, 0, 17 },
    };
    for (int i = 0; i < RUNS; i++) {
        y[i] = (i / 10 % 2 ? 0.05 : 0) + 1e-4 * (i * 7 % 10);
        for (int k = 0; k < RP_ITERATIONS; k++) x[i][k] = y[i] + 1e-3 * (k % 3 - 1);
    }
    for (int slow = 0; slow < 2; slow++) {
        const rm_noise_tape tape = { y, x[0], RUNS, RP_ITERATIONS }, no_steps = { y, NULL, RUNS, 0 };
        rp_findings f = { .rows = json_array() }, g = { .rows = json_array() };
        assert_int_equal(rp_others_on_tape(&c, &tape, slow ? 0.08 : 0, &f), RM_OK);
        assert_int_equal(json_array_size(f.rows), RM_COUNT(want));
        for (size_t i = 0; i < RM_COUNT(want); i++) {
            const json_t *row = json_array_get(f.rows, i);
            assert_string_equal(json_string_value(json_object_get(row, "rule")), want[i].rule);
            assert_int_equal(json_integer_value(json_object_get(row, "trials")), want[i].trials);
            assert_int_equal(json_integer_value(json_object_get(row, "slower")), slow ? want[i].slower_by_8 : want[i].slower);
        }
        assert_int_equal(f.failed, 0);
        assert_int_equal(rp_others_on_tape(&c, &no_steps, 0, &g), RM_OK);
        assert_int_equal(json_array_size(g.rows), RM_COUNT(want) - 1);
        json_decref(f.rows);
        json_decref(g.rows);
    }
}

static int stop_now(void) { return 1; }

static void a_trial_can_be_stopped(void **state)
{
    const rp_check_config c = { .method = &rp_gate_method, .trials = 10, .effect = effect, .seed = 1, .stop = stop_now };
    static const char *const name[] = { "nulls", "power", "layers", "history", "other rules" };
    for (size_t i = 0; i < RM_COUNT(name); i++) {
        rp_findings f = { .rows = json_array() };
        assert_int_equal(check_named(name[i])->run(&c, &f), RM_E_INTERRUPTED);
        json_decref(f.rows);
    }
}

/* ---- layers */
enum { ROWS = 20, N = 20 };

static void fill(rm_rng *g, double common, double own, double *d)
{
    for (int i = 0; i < N; i++) {
        const double all = common * rm_rng_normal(g);
        for (int r = 0; r < ROWS; r++) d[r * N + i] = all + own * rm_rng_normal(g);
    }
}

static void the_slower_layer_is_named(void **state)
{
    double d[ROWS * N];
    rp_layer_judged out[ROWS];
    rm_rng g = rm_rng_for(3, 0, 0);
    fill(&g, 0.1, 0.005, d); /* the machine's mood is ten times the change of one layer */
    for (int i = 0; i < N; i++) d[7 * N + i] += log1p(0.1);
    assert_int_equal(rp_gate_layers(&rp_layer_rule_usual, d, ROWS, N, out), RM_OK);
    for (int r = 0; r < ROWS; r++) assert_int_equal(out[r].p <= 0.01, r == 7);
    fill(&g, 0.005, 0.005, d);
    for (int i = 0; i < N; i++) d[7 * N + i] += log1p(0.1), d[3 * N + i] += log1p(0.03);
    assert_int_equal(rp_gate_layers(&rp_layer_rule_usual, d, ROWS, N, out), RM_OK);
    assert_true(out[7].named && fabs(out[7].delta - log1p(0.1)) < 0.01);
    assert_true(out[3].p <= 0.01 && !out[3].named); /* beyond doubt, and too little */
    assert_int_equal(rp_gate_layers(&rp_layer_rule_usual, d, ROWS, RM_PAIRED_MOST + 1, out), RM_E_ARG);
}

static void few_layers_are_not_compared_with_each_other(void **state)
{
    double d[N];
    rp_layer_judged out;
    rm_rng g = rm_rng_for(4, 0, 0);
    for (int i = 0; i < N; i++) d[i] = log1p(0.1) + 0.01 * rm_rng_normal(&g);
    assert_int_equal(rp_gate_layers(&rp_layer_rule_usual, d, 1, N, &out), RM_OK);
    assert_true(out.named);
    assert_int_equal(rp_gate_layers_least(&rp_layer_rule_usual, 1), 7); /* 2^7 orders of signs: the first of them is rarer than 1 % */
    assert_int_equal(rp_gate_layers_least(&rp_layer_rule_usual, 60), 13);
}

/* ---- sessions */
static void a_session_out_of_line_is_suspect(void **state)
{
    static const struct {
        double newest;
        rp_verdict want;
    } row[] = { { 0.0, RP_PASS }, { 0.015, RP_PASS }, { 0.05, RP_SUSPECT }, { -0.2, RP_PASS } };
    double y[21];
    rp_screened s;
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        for (int k = 0; k < 20; k++) y[k] = 1 + (k < 8 ? 0.2 : 0) + 0.001 * (k % 3);
        y[20] = 1.001 + row[i].newest;
        assert_int_equal(rp_screen(y, 21, effect, &s), RM_OK);
        assert_int_equal(s.verdict, row[i].want);
        assert_int_equal(s.from, 8);
        assert_true(s.sessions == 12 && s.best_from == 8 && fabs(s.baseline - 1.001) < 1e-12 && fabs(s.delta - row[i].newest) < 1e-12);
    }
    assert_int_equal(rp_screen(y, 6, effect, &s), RM_OK);
    assert_int_equal(s.verdict, RP_NO_BASELINE);
}

static void the_best_level_is_remembered(void **state)
{
    double y[19];
    rp_screened s;
    int begin[19 / RP_LEAST_PIECE + 1], n;
    for (int k = 0; k < 19; k++) y[k] = 2 + (k < 6 || k >= 12 ? 0.1 : 0) + 0.001 * (k % 2);
    assert_int_equal(rp_screen(y, 19, effect, &s), RM_OK);
    assert_true(s.verdict == RP_PASS && s.from == 12 && s.best_from == 6 && s.best_sessions == 6 && fabs(s.best_delta - 0.1) < 0.002);
    assert_int_equal(rp_screen_pieces(y, 19, begin, &n), RM_OK);
    assert_true(n == 3 && begin[0] == 0 && begin[1] == 6 && begin[2] == 12);
    assert_int_equal(rp_screen_pieces(y, 1, begin, &n), RM_OK);
    assert_true(n == 1 && begin[0] == 0);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < rp_n_checks; i++) {
        if (argc > 2 && strcmp(argv[2], rp_checks[i].name)) continue;
        rp_findings f = findings_of(rp_checks[i].name, &rp_gate_method, (int)fmax(1, atoi(argv[1]) * rp_checks[i].part));
        print(&f);
        json_decref(f.rows);
    }
    if (argc > 1) return 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gate_keeps_its_promises),
        cmocka_unit_test(rules_that_are_wrong_are_found_out),
        cmocka_unit_test(a_gate_that_never_finds_anything_fails),
        cmocka_unit_test(a_trial_can_be_stopped), cmocka_unit_test(a_tape_is_cut_into_windows),
        cmocka_unit_test(the_slower_layer_is_named),
        cmocka_unit_test(few_layers_are_not_compared_with_each_other),
        cmocka_unit_test(a_session_out_of_line_is_suspect),
        cmocka_unit_test(the_best_level_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
