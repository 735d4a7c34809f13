/* The gate's rule against noise that it was made for: how often it is wrong, how much it finds, and that it has no favourite side. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "profiler/noise.h"
#include "reports/gate_rule.h"
#include <math.h>
#include <string.h>

static const double effect = 0.02;

static rp_verdict verdict_of(const rp_gate_rule *r, rm_noise_model m, double change, uint64_t trial, int *pairs)
{
    double d[RM_PAIRED_MOST];
    rm_noise noise = rm_noise_begin(m, change, 5, trial);
    rp_judged j = { .decided = false };
    int n = 0;
    while (!j.decided && n < rp_gate_most_pairs(r)) {
        d[n++] = rm_noise_pair(&noise);
        if (rp_gate_judge(r, effect, d, n, &j) != RM_OK) fail_msg("%s", rm_last_error());
    }
    assert_true(j.decided);
    if (pairs) *pairs = n;
    return j.verdict;
}

static void nothing_is_found_where_nothing_is(void **state)
{
    enum { TRIALS = 2000 };
    rp_gate_rule r;
    assert_int_equal(rp_gate_rule_for(1, false, &r), RM_OK);
    for (int m = 0; m < RM_NOISE_MODELS; m++) {
        int count[RP_VERDICTS] = { 0 };
        for (uint64_t t = 0; t < TRIALS; t++) count[verdict_of(&r, (rm_noise_model)m, 0, t, NULL)]++;
        const double most = TRIALS * (0.01 + 3 * sqrt(0.01 * 0.99 / TRIALS));
        if (count[RP_REGRESSED] > most || count[RP_IMPROVED] > most) fail_msg("%s: %d regressed, %d improved of %d", rm_noise_name((rm_noise_model)m), count[RP_REGRESSED], count[RP_IMPROVED], TRIALS);
    }
}

/* 1.5 times the effect on plain noise is found nearly always, 2.5 times always; never with the wrong sign. */
static void a_slow_down_is_found(void **state)
{
    enum { TRIALS = 1000 };
    static const struct { double change, least; } row[] = { { 0.03, 0.95 }, { 0.05, 0.99 } };
    rp_gate_rule r;
    assert_int_equal(rp_gate_rule_for(1, false, &r), RM_OK);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        int slower = 0, faster = 0;
        for (uint64_t t = 0; t < TRIALS; t++) {
            const rp_verdict v = verdict_of(&r, RM_NOISE_IID, log1p(row[i].change), t, NULL);
            slower += v == RP_REGRESSED;
            faster += v == RP_IMPROVED;
        }
        assert_true(slower >= row[i].least * TRIALS && !faster);
    }
}

static void swapping_sides_mirrors_the_verdict(void **state)
{
    rp_gate_rule r;
    assert_int_equal(rp_gate_rule_for(1, true, &r), RM_OK);
    for (uint64_t t = 0; t < 300; t++) {
        double d[16], m[16];
        rm_noise noise = rm_noise_begin((rm_noise_model)(t % RM_NOISE_MODELS), 0.04 * (double)(t % 3) - 0.04, 3, t);
        rp_judged a, b;
        for (int i = 0; i < 16; i++) m[i] = -(d[i] = rm_noise_pair(&noise));
        assert_true(rp_gate_judge(&r, effect, d, 16, &a) == RM_OK && rp_gate_judge(&r, effect, m, 16, &b) == RM_OK);
        assert_int_equal(a.verdict == RP_REGRESSED, b.verdict == RP_IMPROVED);
        assert_int_equal(a.verdict == RP_IMPROVED, b.verdict == RP_REGRESSED);
    }
}

/* What each verdict asks for, one condition at a time. */
static void verdicts_by_hand(void **state)
{
    static const struct { double middle, spread; rp_verdict want; bool decided; } row[] = {
        { 0.030, 0.001, RP_REGRESSED, true },     /* above 0 beyond doubt, and large enough */
        { 0.010, 0.001, RP_PASS, true },          /* above 0 beyond doubt, but small, and shown to be */
        { 0.000, 0.001, RP_PASS, true },
        { -0.030, 0.001, RP_IMPROVED, true },
        { -0.010, 0.001, RP_PASS, true },
        { 0.030, 0.080, RP_INCONCLUSIVE, false }, /* too noisy to say, and there are looks left */
    };
    rp_gate_rule r;
    rp_judged j;
    assert_int_equal(rp_gate_rule_for(1, false, &r), RM_OK);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        double d[36];
        for (int k = 0; k < 36; k++) d[k] = row[i].middle + row[i].spread * ((k % 10) - 4.5) / 4.5;
        assert_int_equal(rp_gate_judge(&r, effect, d, 10, &j), RM_OK);
        assert_true(j.verdict == row[i].want && j.decided == row[i].decided && (j.needed > 10) == !row[i].decided);
        assert_int_equal(rp_gate_judge(&r, effect, d, 11, &j), RM_OK); /* no look */
        assert_false(j.decided);
        assert_int_equal(rp_gate_judge(&r, effect, d, 36, &j), RM_OK);
        assert_true(j.decided); /* the last */
    }
}

/* Whoever stops before the first bound is told how far it is, too. */
static void what_is_needed_is_told_from_the_first_pair(void **state)
{
    static const double calm[4] = { 0.001, -0.001, 0.002, -0.001 }, noisy[4] = { 0.2, -0.2, 0.3, -0.1 };
    rp_gate_rule r;
    rp_judged j;
    assert_int_equal(rp_gate_rule_for(1, false, &r), RM_OK);
    assert_int_equal(rp_gate_judge(&r, effect, calm, 1, &j), RM_OK);
    assert_true(isnan(j.at.high) && j.needed == 10);
    assert_int_equal(rp_gate_judge(&r, effect, calm, 4, &j), RM_OK);
    assert_true(isnan(j.at.high) && j.needed == 10);
    assert_int_equal(rp_gate_judge(&r, effect, noisy, 4, &j), RM_OK);
    assert_true(isnan(j.at.high) && j.needed > 100);
}

static void several_metrics_share_the_error(void **state)
{
    rp_gate_rule one, three;
    assert_true(rp_gate_rule_for(1, false, &one) == RM_OK && rp_gate_rule_for(3, false, &three) == RM_OK);
    for (int i = 0; i < one.looks; i++) {
        assert_true(three.look[i].alpha * 3 == one.look[i].alpha && rm_signed_rank_k(three.look[i].n, three.look[i].alpha) >= 0);
        assert_true(three.look[i].n >= one.look[i].n);
    }
    assert_int_equal(three.look[0].n, 12); /* ceil(log2(3 / 0.001)) */
    assert_int_equal(rp_gate_rule_for(100, false, &three), RM_E_ARG);
}

static void worst_of_several(void **state)
{
    assert_int_equal(rp_verdict_worse(RP_PASS, RP_REGRESSED), RP_REGRESSED);
    assert_int_equal(rp_verdict_worse(RP_TROUBLE, RP_REGRESSED), RP_TROUBLE);
    assert_int_equal(rp_verdict_worse(RP_NO_BASELINE, RP_INCONCLUSIVE), RP_INCONCLUSIVE);
    assert_int_equal(rp_verdict_worse(RP_IMPROVED, RP_PASS), RP_PASS);
    static const int codes[RP_VERDICTS] = { [RP_TROUBLE] = 2, [RP_REGRESSED] = 1, [RP_INCONCLUSIVE] = 3, [RP_SUSPECT] = 3, [RP_NO_BASELINE] = 4 };
    for (int v = 0; v < RP_VERDICTS; v++) assert_int_equal(rm_exit_code(rp_verdict_status((rp_verdict)v), 0), codes[v]);
}

static void what_can_be_found_is_what_is_found(void **state)
{
    enum { TRIALS = 400 };
    double d[60];
    rp_gate_rule r;
    int found = 0;
    rm_noise noise = rm_noise_begin(RM_NOISE_IID, 0, 9, 0);
    assert_int_equal(rp_gate_rule_for(1, false, &r), RM_OK);
    for (int i = 0; i < 60; i++) d[i] = rm_noise_pair(&noise);
    const double least = rp_gate_detectable(&r, effect, d, 60);
    assert_true(least > effect && least < 0.04);
    for (uint64_t t = 0; t < TRIALS; t++) found += verdict_of(&r, RM_NOISE_IID, log1p(least), t, NULL) == RP_REGRESSED;
    assert_true(found > 0.88 * TRIALS); /* 95 % of the noise that 60 pairs showed */
}

/* No number that was never tried. */
static void what_cannot_be_found_has_no_number(void **state)
{
    double d[16];
    rp_gate_rule r;
    assert_int_equal(rp_gate_rule_for(1, false, &r), RM_OK);
    for (int i = 0; i < 16; i++) d[i] = (i % 2 ? 1 : -1) * (2 + 0.1 * i);
    assert_true(isnan(rp_gate_detectable(&r, effect, d, 16)));
    for (int i = 0; i < 16; i++) d[i] *= 0.001;
    assert_true(rp_gate_detectable(&r, effect, d, 16) > effect);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_where_nothing_is), cmocka_unit_test(a_slow_down_is_found), cmocka_unit_test(swapping_sides_mirrors_the_verdict), cmocka_unit_test(verdicts_by_hand),
        cmocka_unit_test(what_is_needed_is_told_from_the_first_pair), cmocka_unit_test(several_metrics_share_the_error), cmocka_unit_test(worst_of_several), cmocka_unit_test(what_can_be_found_is_what_is_found), cmocka_unit_test(what_cannot_be_found_has_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
