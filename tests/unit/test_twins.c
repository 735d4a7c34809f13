/* The mathematics of a split-sweep row on made-up measurements with known answers. */
#include "bench/commands.h"
#include "bench/scaling_loss.h"
#include "bench/split_sweep.h"
#include "bench/twins.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { RANKS = 2, ROUNDS = 3 };
static int times = 2; /* how often each made-up round was measured */

static double get(const json_t *row, const char *key)
{
    const json_t *v = json_object_get(row, key);
    if (!json_is_number(v)) fail_msg("%s is no number", key);
    return json_number_value(v);
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-9 * fmax(1, fabs(b)); }
static void want(const json_t *row, const char *key, double v)
{
    if (!near(get(row, key), v)) fail_msg("%s is %.12g, not %.12g", key, get(row, key), v);
}

static void want_null(const json_t *row, const char *key)
{
    char reason[64];
    snprintf(reason, sizeof reason, "%s_reason", key);
    assert_true(json_is_null(json_object_get(row, key)));
    assert_true(json_string_length(json_object_get(row, reason)) > 0);
}

static json_t *list(const double *v, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(a, json_real(v[i]));
    return a;
}

static json_t *each(const double v[ROUNDS])
{
    json_t *a = json_array();
    for (int i = 0; i < ROUNDS * times; i++) json_array_append_new(a, json_real(v[i % ROUNDS]));
    return a;
}

/* Steps of both ranks; a third of each is exposed communication, as much is hidden, 0.5 is host, the rest computing. */
static json_t *steps(const double step[RANKS][ROUNDS])
{
    json_t *ranks = json_array();
    for (int k = 0; k < RANKS; k++) {
        json_t *one = json_array();
        for (int i = 0; i < ROUNDS * times; i++) {
            const double s = step[k][i % ROUNDS], v[BENCH_TERMS] = { [BENCH_STEP] = s, [BENCH_COMPUTE] = 2 * s / 3 - 0.5, [BENCH_EXPOSED_COMM] = s / 3, [BENCH_HOST] = 0.5,
                                                            [BENCH_COMM] = 2 * s / 3, [BENCH_OVERLAP] = s / 3, [BENCH_BLOCKED] = s / 4, [BENCH_CRITICAL] = s / 5 };
            json_array_append_new(one, list(v, BENCH_TERMS));
        }
        json_array_append_new(ranks, one);
    }
    return json_pack("{s:{s:f, s:f, s:o}}", "steps", "window_s", 40.0, "comm_cpu_s", 4.1 * times, "ranks", ranks);
}

typedef struct bucket { int first, last, bytes; double least; } bucket;

static json_t *split(const char *name, const double step[RANKS][ROUNDS], double isolated, const bucket *b, int n)
{
    const double rank[RANKS][ROUNDS] = { { 3, 3, 3 }, { 2, 1, 3 } }, xfer[ROUNDS] = { 2, 1, 3 }, alone[3] = { isolated - 1, isolated + 7, isolated }, met[2] = { 1.2, 1 };
    json_t *s = steps(step), *buckets = json_array(), *least = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(buckets, json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "first", b[i].first, "last", b[i].last, "bytes", b[i].bytes, "ready_s", 1.0, "start_s", 2.0,
                                                 "end_s", 3.0));
        json_array_append_new(least, json_real(b[i].least));
    }
    json_object_set_new(s, "split", json_string(name));
    json_object_set_new(s, "reduce_s", json_pack("[o, o]", each(rank[0]), each(rank[1])));
    json_object_set_new(s, "xfer_s", each(xfer));
    json_object_set_new(s, "isolated_s", list(alone, 3));
    json_object_set_new(s, "least_s", least);
    json_object_set_new(s, "met_s", list(met, 2));
    json_object_set_new(s, "gantt", json_pack("{s:f, s:f, s:f, s:o}", "forward_end_s", 1.0, "backward_end_s", 2.0, "step_s", 3.0, "buckets", buckets));
    return s;
}

/* splits.md's instance: gradients ready at 0, 0.4 and 1.5, of 100, 1 and 1 bytes, sent in 0.5 + 0.01 a byte. */
static const bucket one[] = { { 0, 2, 102, 1.52 } }, two[] = { { 0, 0, 100, 1.5 }, { 1, 2, 2, 0.52 } }, three[] = { { 0, 0, 100, 1.5 }, { 1, 1, 1, 0.51 }, { 2, 2, 1, 0.52 } };
static const double fast[RANKS][ROUNDS] = { { 12, 13, 15 }, { 11, 14, 14 } }, slow[RANKS][ROUNDS] = { { 20, 2, 22 }, { 1, 21, 1 } }, like[RANKS][ROUNDS] = { { 12, 14.5, 14 }, { 1, 1, 1 } };

static json_t *made(int splits)
{
    static const double off[RANKS][ROUNDS] = { { 10, 11, 12 }, { 9, 11, 5 } }, barrier[RANKS][ROUNDS] = { { 11, 12, 12.5 }, { 9, 9, 9 } };
    static const double backward[ROUNDS] = { 1, 2, 0.5 }, update[ROUNDS] = { 0.25, 0.2, 0.3 }, ready[] = { 0, 0.4, 1.5 };
    json_t *o = steps(off), *all = json_pack("[o]", split("single", fast, 1.52, one, 1));
    json_object_set_new(o, "backward_s", each(backward));
    json_object_set_new(o, "update_s", each(update));
    json_object_set_new(o, "ready_s", list(ready, 3));
    if (splits > 1) json_array_append_new(all, split("0,2", slow, 2.02, two, 2));
    if (splits > 2) json_array_append_new(all, split("per-layer", like, 2.52, three, 3));
    return json_pack("{s:o, s:o, s:o, s:[s, s], s:[i, i, i], s:i, s:b, s:{s:s, s:i, s:s}}", "off", o, "barrier", steps(barrier), "splits", all, "hosts", "a", "b", "gradient_bytes", 100,
                     1, 1, "rounds", ROUNDS * times, "ghost", 0, "about", "device", "cpu", "batch_per_device", 4, "wire", "fp32");
}

static json_t *row_of(int splits, int i)
{
    json_t *g = made(splits), *row = bench_twins_row(g, i);
    assert_non_null(row);
    json_decref(g);
    return row;
}

/* Slowest ranks: 12, 14, 15 against 10, 11, 12 and 11, 12, 12.5, pair by pair. */
static void cost_is_paired_by_round(void **state)
{
    json_t *row = row_of(3, 0);
    want(json_object_get(row, "step_s"), "median", 14);
    want(row, "step_s_low", 12);
    want(row, "step_s_high", 15);
    want(row, "off_step_s", 11);
    want(row, "barrier_step_s", 12);
    want(row, "comm_cost_s", 3);
    want(row, "comm_cost_s_low", 2);
    want(row, "comm_cost_s_high", 3);
    want(row, "comm_cost_barrier_s", 2);
    want(json_object_get(row, "isolated_s"), "median", 1.52);
    want(row, "eta_eff", 1 - 3 / 1.52);
    want(row, "backward_s", 1);
    want(row, "update_s", 0.25);
    json_decref(row);
}

static void what_the_steps_show(void **state)
{
    json_t *row = row_of(3, 0), *budget = json_object_get(row, "budget_s"), *term;
    const char *key;
    double sum = 0;
    json_object_foreach(budget, key, term) sum += json_number_value(term);
    assert_true(near(sum, 14) && json_object_size(budget) == 6);
    want(row, "overlap_geom", 0.5);
    want(row, "exposed_comm_share", 1.0 / 3);
    want(row, "exposed_comm_s", 13.5 / 3);          /* the means of rounds are 11.5, 13.5, 14.5 */
    want(row, "comm_s", 9);
    want(row, "blocking_comm_s", 14.0 / 5);         /* the slowest ranks took 12, 14, 15 */
    want(row, "comm_wait_s", 13.5 / 4);
    want(row, "comm_cpu_share", 4.1 / 41);
    want(row, "slowdown", 0.2);
    json_decref(row);
}

/* Durations 9 and 6 on the two ranks, transfer 6: 3 of 15 are waiting, all of it on rank 0. */
static void waiting_is_not_transfer(void **state)
{
    json_t *row = row_of(1, 0), *ranks = json_object_get(row, "ranks_detail");
    want(row, "xfer_s", 2);
    want(row, "skew_share", 0.2);
    want(json_array_get(ranks, 0), "wait_s", 1);
    want(json_array_get(ranks, 1), "wait_s", 0);
    want(json_array_get(ranks, 0), "own_s", 13 * 0.75);
    assert_string_equal(json_string_value(json_object_get(json_array_get(ranks, 1), "host")), "b");
    json_decref(row);
}

static void the_best_and_the_next(void **state)
{
    json_t *best = row_of(3, 0), *slower = row_of(3, 1), *same = row_of(3, 2);
    assert_true(json_is_true(json_object_get(best, "best")) && json_is_false(json_object_get(slower, "best")) && json_is_false(json_object_get(same, "best")));
    want(json_object_get(best, "difference_to_best_s"), "high", 0);
    want(json_object_get(slower, "difference_to_best_s"), "median", 7);
    want(json_object_get(slower, "difference_to_best_s"), "low", 7);
    want(json_object_get(slower, "difference_to_best_s"), "high", 8);
    want(json_object_get(same, "difference_to_best_s"), "low", -1);
    want(json_object_get(same, "difference_to_best_s"), "high", 0.5);
    assert_true(json_is_true(json_object_get(slower, "distinguishable")) && json_is_false(json_object_get(same, "distinguishable")));
    assert_true(json_is_false(json_object_get(best, "distinguishable"))); /* from the next, which is the same */
    assert_string_equal(json_string_value(json_object_get(best, "next_best")), "per-layer");
    assert_null(json_object_get(slower, "next_best"));
    json_decref(best);
    json_decref(slower);
    json_decref(same);
    best = row_of(2, 0);
    assert_true(json_is_true(json_object_get(best, "distinguishable")));
    json_decref(best);
    times = 1; /* too few rounds to tell */
    best = row_of(2, 0), slower = row_of(2, 1);
    assert_true(json_is_false(json_object_get(best, "distinguishable")) && json_is_false(json_object_get(slower, "distinguishable")));
    json_decref(best);
    json_decref(slower);
    times = 2;
    best = row_of(1, 0);
    want_null(best, "next_best");
    assert_true(json_is_true(json_object_get(best, "best")) && json_is_false(json_object_get(best, "distinguishable")));
    json_decref(best);
}

/* The optimum of the instance, {0}{1,2}, ends at 2.02. alpha: 0.51 less a byte at 1.52 / 102; beta: the rest of 1.52 over 102. */
static void the_bound_lies_below_the_optimum(void **state)
{
    json_t *row = row_of(3, 0);
    const double alpha = 0.51 - 1.52 / 102, beta = (1.52 - alpha) / 102, bound = alpha + 1.5 + beta + 0.25;
    want(row, "bound_s", bound);
    assert_true(bound < 2.02 + 0.25 && bound > 2.0 + 0.25);
    want(row, "bound_gap_share", (14 - bound) / 1.52);
    assert_string_equal(json_string_value(json_object_get(row, "regime")), "communication-bound");
    want(row, "comm_to_backward", 1.52);
    json_decref(row);
    row = row_of(1, 0); /* one size shows no latency: it counts as bytes, and what is ready last sends but one of them */
    want(row, "bound_s", fmax(1.52, 1.5 + 1.52 / 102) + 0.25);
    json_decref(row);
}

static void a_ghost_does_not_slow_down(void **state)
{
    json_t *g = made(1), *row;
    json_object_set_new(g, "ghost", json_true());
    row = bench_twins_row(g, 0);
    want_null(row, "slowdown");
    json_decref(row);
    json_object_set_new(g, "ghost", json_false());
    json_object_set_new(json_array_get(json_object_get(g, "splits"), 0), "met_s", json_pack("[f, f]", 0.0, 0.0));
    row = bench_twins_row(g, 0);
    want_null(row, "slowdown");
    json_decref(row);
    json_decref(g);
}

static void a_whole_row(void **state)
{
    bench_options o;
    assert_int_equal(bench_options_parse(&bench_cmd_split_sweep, 0, NULL, &o), RM_OK);
    json_t *g = made(3), *result = bench_sweep_row(&o, g, 1), *row = json_object_get(result, "row");
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "shares")), "98.04/1.96 %");
    assert_string_equal(json_string_value(json_object_get(row, "origin")), "measured");
    assert_string_equal(json_string_value(json_object_get(row, "device")), "cpu");
    want(row, "images_per_s", 2 * 4 * 3 / 63.0); /* slowest ranks: 20, 21, 22 */
    want(row, "bytes", 102);
    want(row, "buckets", 2);
    assert_string_equal(json_string_value(json_object_get(row, "reproduce")), "bench split-sweep --gpus 2 --splits 0,2");
    assert_int_equal(json_array_size(json_object_get(json_object_get(result, "samples"), "step_s")), ROUNDS * times);
    json_decref(result);
    json_decref(g);
}

/* ---- lists */
static void lists_of_splits(void **state)
{
    static const struct { const char *text; int n; const char *what; } row[] = {
        { "107,160;ddp", 2, NULL }, { "equal:1..4", 4, NULL }, { " single ; equal:2..2;per-layer; ", 3, NULL }, { "ddp;ddp", 2, NULL }, { "", 0, "number 1" },
        { "single;;ddp", 0, "number 2" }, { "single;5,3", 0, "number 2, 5,3: split: index 3" }, { "equal:0..4", 0, "1 <= A" }, { "equal:1..65", 0, "64" }, { "equal:3..2", 0, "1 <= A" },
        { "161", 0, "161" }, { "auto", 0, "auto" },
    };
    rm_graph g;
    assert_int_equal(rm_graph_resnet(50, "v1.5", (rm_shape){ 1, 3, 32, 32 }, 1000, &g), RM_OK);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        bench_split_list l;
        const rm_status st = bench_split_list_parse(row[i].text, &g, RM_SPLIT_READY, &l);
        if (row[i].what) {
            if (st != RM_E_ARG || !strstr(rm_last_error(), row[i].what)) fail_msg("'%s': %d %s", row[i].text, st, rm_last_error());
        } else if (st != RM_OK || l.n != row[i].n) fail_msg("'%s': %d splits, %s", row[i].text, l.n, rm_last_error());
        if (i == 1) assert_string_equal(l.spec[3], "equal:4");
        bench_split_list_free(&l);
    }
    char shares[64];
    assert_int_equal(bench_split_shares("107", &g, RM_SPLIT_READY, shares, sizeof shares), 2);
    assert_string_equal(shares, "96.54/3.46 %");
    rm_graph_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cost_is_paired_by_round), cmocka_unit_test(what_the_steps_show), cmocka_unit_test(waiting_is_not_transfer), cmocka_unit_test(the_best_and_the_next),
        cmocka_unit_test(the_bound_lies_below_the_optimum), cmocka_unit_test(a_ghost_does_not_slow_down), cmocka_unit_test(a_whole_row), cmocka_unit_test(lists_of_splits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
