/* Replays of real steps are exact; delays lie where they were put; and slopes measured by injection are what timelines with known answers
 * say. The program is its own rank: "test_sensitivity rank MODE" is what the launcher starts. Times on a machine that others use may be
 * disturbed: slopes are taken up to four times. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/log.h"
#include "bench/launch.h"
#include "bench/sensitivity.h"
#include "bench/twins.h"
#include "model/engine_replay.h"

enum { PX = 16, CLASSES = 10, BATCH = 2, ROUNDS = 5, TRIES = 4 };
static const uint64_t ms = 1000000;
static const rm_comm_config timeout = { .timeout_s = 60 };
#define NEED(x) do { if (!(x)) return rm_fail(RM_E_NUMERIC, "line %d: %s", __LINE__, #x); } while (0)

typedef struct rig { rm_device *d; rm_comm *c; rm_recipe recipe; rm_engine e; rm_synthetic batch; rm_source src; } rig;

static rm_status rig_new(rm_device *d, rm_comm *c, const char *split, bool on_arrival, int32_t accumulate, rig *g)
{
    *g = (rig){ .d = d, .c = c };
    rm_recipe_defaults(&g->recipe);
    g->recipe.accumulate = accumulate;
    const rm_engine_config ec = { .recipe = &g->recipe, .dtype = RM_F32, .px = PX, .batch = BATCH, .classes = CLASSES, .timers = true, .split = split, .update_on_arrival = on_arrival, .seed = 1 };
    RM_TRY(rm_synthetic_new(BATCH, PX, CLASSES, 1, &g->batch));
    g->src = rm_source_synthetic(&g->batch);
    return rm_engine_new(d, c, &ec, &g->e);
}

static void rig_free(rig *g)
{
    rm_engine_free(&g->e);
    rm_synthetic_free(&g->batch);
}

static rm_status step(rig *g, rm_step *s) { return rm_engine_step(&g->e, &g->src, 0, 0.0, s); }

/* The first node of a pass at or after `from`. */
static int32_t node_of(const rig *g, rm_pass pass, int32_t from)
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(g->e.net, &node);
    for (int32_t i = from; i < n; i++)
        if (node[i].pass == pass) return i;
    return -1;
}

/* ================================================================ exactness */
/* A hundredth of the gradients travels, so that a machine that others use does not drown the delays. */
static void exchange_little(rm_buckets *b)
{
    for (uint32_t i = 0; i < b->n; i++) b->at[i].span.count = b->at[i].span.count / 100 + 1;
}

static rm_status exact_step(rig *g)
{
    rm_step s;
    rm_replay r;
    RM_TRY(step(g, &s));
    RM_TRY(rm_engine_replay(&g->e, &s, &r));
    NEED(rm_replay_step(&r, &rm_replay_as_it_was) == s.step_ns);
    const bool reduces = rm_comm_size(g->c) > 1 && (g->e.mode == RM_REDUCE_OVERLAPPED || g->e.mode == RM_REDUCE_AFTER);
    NEED(r.n_bucket == (reduces ? g->e.buckets.n : 0));
    NEED(r.op[rm_engine_replay_input(&g->e)].dur_ns <= s.step_ns);
    NEED(reduces || rm_replay_blocking(&r) == 0);
    for (uint32_t i = 0; i < r.n_op; i++) NEED(r.op[i].after < (int32_t)r.n_bucket);
    if (g->e.mode == RM_REDUCE_AFTER && reduces) NEED(rm_replay_blocking(&r) > 0);
    rm_replay_free(&r);
    return RM_OK;
}

static rm_status exact(rm_device *d, rm_comm *c, rig *g)
{
    static const rm_reduce_mode mode[] = { RM_REDUCE_OVERLAPPED, RM_REDUCE_AFTER, RM_REDUCE_BARRIER, RM_REDUCE_OFF };
    /* those that update on arrival come last: an engine does not go back */
    static const struct { const char *split; bool on_arrival; } row[] = { { "", false }, { "107,160", false }, { "equal:7", true }, { "single", true }, { "107,160", true } };
    for (int32_t accumulate = 1; accumulate <= 2; accumulate++) {
        RM_TRY(rig_new(d, c, "", false, accumulate, g));
        for (size_t i = 0; i < RM_COUNT(row); i++) {
            g->e.cfg.update_on_arrival = row[i].on_arrival;
            RM_TRY(rm_engine_set_split(&g->e, row[i].split, RM_SPLIT_READY));
            exchange_little(&g->e.buckets);
            for (size_t k = 0; k < 2 * RM_COUNT(mode); k++) {
                g->e.mode = mode[k % RM_COUNT(mode)];
                RM_TRY(exact_step(g));
            }
        }
        rig_free(g);
    }
    return RM_OK;
}

static void must(rm_status st) { if (st != RM_OK) fail_msg("%s: %s", rm_status_name(st), rm_last_error()); }

static void a_replay_is_exact(void **state)
{
    const rm_device_config cfg[] = { { .threads = 1 }, { .threads = 1, .async = true } };
    for (size_t i = 0; i < RM_COUNT(cfg); i++) {
        rm_device *d;
        rm_comm *c;
        rig g;
        must(rm_device_open("null", &cfg[i], &d));
        must(rm_comm_open("self", &timeout, d, &c));
        must(exact(d, c, &g));
        rm_comm_close(c);
        rm_device_close(d);
    }
}

/* ================================================================ where a delay lies */
static uint64_t length_of(const rig *g, const rm_node *node)
{
    uint64_t begin, end;
    must(rm_node_ns(g->e.net, node, &begin, &end));
    return end - begin;
}

/* Only that node is longer; with the update in parts, its last. */
static void expect_delay(rig *g, int32_t i, uint64_t ns)
{
    const rm_node *node, *part;
    rm_step s;
    rm_replay r;
    const int32_t n = rm_net_nodes(g->e.net, &node);
    const uint32_t n_part = rm_net_update_parts(g->e.net, &part), update = n_part ? 1 : 0;
    g->e.inject.node = i;
    g->e.inject.node_ns = ns;
    must(step(g, &s));
    const bool is_update = node[i].pass == RM_PASS_UPDATE && update;
    assert_true(length_of(g, is_update ? &part[n_part - 1] : &node[i]) >= ns);
    int others = 0;
    for (int32_t k = 0; k < n - (int32_t)update; k++) others += k != i && length_of(g, &node[k]) >= ns;
    for (uint32_t k = 0; k < n_part; k++) others += !(is_update && k == n_part - 1) && length_of(g, &part[k]) >= ns;
    assert_int_equal(others, 0);
    must(rm_engine_replay(&g->e, &s, &r));
    assert_true(r.op[rm_engine_replay_op(&g->e, i)].dur_ns >= ns);
    rm_replay_free(&r);
    g->e.inject.node_ns = 0;
    must(step(g, &s));
    assert_true(length_of(g, is_update ? &part[n_part - 1] : &node[i]) < ns);
}

static void a_delay_lies_in_its_node(void **state)
{
    for (int async = 0; async < 2; async++)
        for (int on_arrival = 0; on_arrival < 2; on_arrival++) {
            rm_device *d;
            rig g;
            must(rm_device_open("null", &(rm_device_config){ .threads = 1, .async = async }, &d));
            must(rig_new(d, NULL, "107,160", on_arrival, 1, &g));
            const rm_node *node;
            const int32_t n = rm_net_nodes(g.e.net, &node), at[] = { 0, node_of(&g, RM_PASS_FWD, 0), node_of(&g, RM_PASS_BWD_WEIGHTS, n / 2), n - 1 };
            for (size_t i = 0; i < RM_COUNT(at); i++) expect_delay(&g, at[i], 100 * ms);
            rig_free(&g);
            rm_device_close(d);
        }
}

/* ================================================================ slopes on one rank */
static json_t *measured(const rig *g, const bench_probe *probe, int32_t n)
{
    json_t *out = NULL;
    must(bench_sensitivity_measure(g->c, (rm_engine *)(uintptr_t)&g->e, &g->src, probe, n, ROUNDS, 7, &out));
    assert_int_equal(json_array_size(out), n);
    return out;
}

static double number(const json_t *list, size_t i, const char *key)
{
    const json_t *v = json_object_get(json_array_get(list, i), key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Every slope as wanted and every prediction too. */
static bool as_wanted(const json_t *list, const double *slope, double within)
{
    bool good = true;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        const double got = number(list, i, "measured_slope"), predicted = number(list, i, "predicted_slope");
        const bool held = fabs(got - slope[i]) <= within && fabs(predicted - slope[i]) <= within && fabs(number(list, i, "prediction_error") - (got - predicted)) < 1e-9 &&
                          number(list, i, "slope_low") <= got && got <= number(list, i, "slope_high");
        print_message("  %-6s %-28s %-11s slope %6.3f [%6.3f to %6.3f], predicted %6.3f%s\n", json_string_value(json_object_get(o, "kind")), json_string_value(json_object_get(o, "name")),
                      json_string_value(json_object_get(o, "pass")), got, number(list, i, "slope_low"), number(list, i, "slope_high"), predicted, held ? "" : "   <-- not as it should be");
        good &= held;
    }
    return good;
}

static void alone_every_delay_counts(void **state)
{
    for (int on_arrival = 0; on_arrival < 2; on_arrival++) {
        rm_device *d;
        rm_comm *c;
        rig g;
        bool good = false;
        must(rm_device_open("null", &(rm_device_config){ .threads = 1 }, &d));
        must(rm_comm_open("self", &timeout, d, &c));
        must(rig_new(d, c, "107,160", on_arrival, 1 + on_arrival, &g));
        const rm_node *node;
        const int32_t n = rm_net_nodes(g.e.net, &node);
        const bench_probe probe[] = { { BENCH_PROBE_OP, node_of(&g, RM_PASS_FWD, 0), 100 * ms }, { BENCH_PROBE_OP, node_of(&g, RM_PASS_BWD_DATA, 0), 120 * ms },
                                      { BENCH_PROBE_OP, n - 1, 100 * ms }, { BENCH_PROBE_INPUT, 0, 100 * ms } };
        const double one[] = { 1, 1, 1, 1 };
        for (int try = 0; !good && try < TRIES; try++) {
            json_t *out = measured(&g, probe, RM_COUNT(probe));
            good = as_wanted(out, one, 0.1);
            assert_true(fabs(number(out, 1, "delay_s") - 0.12 * (1 + on_arrival)) < 1e-12 && number(out, 1, "rounds") == ROUNDS);
            assert_true(json_is_null(json_object_get(json_array_get(out, 3), "index")));
            json_decref(out);
        }
        assert_true(good);
        assert_true(g.e.inject.node_ns == 0 && g.e.inject.input_ns == 0);
        rig_free(&g);
        rm_comm_close(c);
        rm_device_close(d);
    }
}

static void what_cannot_be_measured_is_refused(void **state)
{
    static rm_device_ops cannot;
    static const struct { bench_probe probe; rm_status st; const char *says; } row[] = {
        { { BENCH_PROBE_OP, 100000, 1 }, RM_E_ARG, "no op 100000" },      { { BENCH_PROBE_OP, -1, 1 }, RM_E_ARG, "no op -1" },
        { { BENCH_PROBE_OP, 3, 0 }, RM_E_ARG, "more than 0" },            { { BENCH_PROBE_INPUT, 0, UINT64_MAX }, RM_E_ARG, "600 s" },
        { { BENCH_PROBE_BUCKET, 0, 1 }, RM_E_ARG, "nothing is reduced" }, { { BENCH_PROBE_OP, 3, 1 }, RM_E_UNSUPPORTED, "null: cannot" },
    };
    rm_device *d;
    rm_comm *c;
    rig g;
    json_t *out = NULL;
    cannot = rm_device_null;
    cannot.spin = NULL;
    must(rm_device_open_ops(&cannot, &(rm_device_config){ .threads = 1 }, &d));
    must(rm_comm_open("self", &timeout, d, &c));
    must(rig_new(d, c, "", false, 1, &g));
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        assert_int_equal(bench_sensitivity_measure(c, &g.e, &g.src, &row[i].probe, 1, 2, 1, &out), row[i].st);
        if (!strstr(rm_last_error(), row[i].says)) fail_msg("\"%s\" lacks \"%s\"", rm_last_error(), row[i].says);
        assert_null(out);
    }
    g.e.cfg.timers = false;
    assert_int_equal(bench_sensitivity_measure(c, &g.e, &g.src, &row[0].probe, 1, 2, 1, &out), RM_E_ARG);
    rig_free(&g);
    rm_comm_close(c);
    rm_device_close(d);
    assert_true(bench_sensitivity_delay(100 * ms) == 5 * ms && bench_sensitivity_delay(ms) == ms && bench_sensitivity_delay(0) == ms);
}

/* ================================================================ two ranks */
/* A device whose gradients of weights take their time, and which is busy asleep: backward lasts some 300 ms, the cores are free for the
 * all-reduces, and who else uses the machine matters less. */
static rm_status slow_spin(rm_device *d, rm_queue *q, uint64_t ns)
{
    nanosleep(&(struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) }, NULL);
    return RM_OK;
}

static rm_status slow_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    if (plan->op.code == RM_OP_CONV_BWD_WEIGHTS) RM_TRY(slow_spin(d, q, 6 * ms));
    return rm_device_null.run(d, q, plan, args);
}

/* Bucket 0 is ready as backward begins and waits for nobody; the last one is slow. */
static rm_status mode_slopes(rm_device *d, rm_comm *c, json_t *out)
{
    rig g;
    json_t *list = NULL;
    RM_TRY(rig_new(d, c, "0,60,160", false, 1, &g));
    exchange_little(&g.e.buckets);
    g.e.inject.link_ns = 30 * ms;
    const bench_probe probe[] = { { BENCH_PROBE_BUCKET, 0, 200 * ms }, { BENCH_PROBE_BUCKET, 2, 200 * ms }, { BENCH_PROBE_OP, node_of(&g, RM_PASS_FWD, 0), 200 * ms },
                                  { BENCH_PROBE_OP, node_of(&g, RM_PASS_UPDATE, 0), 200 * ms }, { BENCH_PROBE_INPUT, 0, 200 * ms } };
    /* only rank 0's count */
    const bench_probe others[RM_COUNT(probe)] = { { BENCH_PROBE_OP, 0, ms } };
    RM_TRY(bench_sensitivity_measure(c, &g.e, &g.src, rm_comm_rank(c) ? others : probe, RM_COUNT(probe), ROUNDS, 7, &list));
    NEED((list != NULL) == (rm_comm_rank(c) == 0));
    NEED(g.e.inject.link_ns == 30 * ms && g.e.inject.bucket_ns == 0 && g.e.inject.node_ns == 0 && g.e.inject.input_ns == 0);
    if (list) json_object_set_new(out, "list", list);
    const bench_probe absent = { BENCH_PROBE_BUCKET, 3, ms };
    NEED(bench_sensitivity_measure(c, &g.e, &g.src, &absent, 1, 1, 1, &list) == RM_E_ARG && strstr(rm_last_error(), "no bucket 3: this split has 3"));
    rig_free(&g);
    return RM_OK;
}

static rm_status mode_exact(rm_device *d, rm_comm *c, json_t *out)
{
    rig g;
    rm_step s;
    double blocking;
    RM_TRY(exact(d, c, &g));
    RM_TRY(rig_new(d, c, "0,60,160", false, 1, &g));
    exchange_little(&g.e.buckets);
    const bench_subject subject = { .engine = &g.e };
    g.e.inject = (rm_inject){ .link_ns = 40 * ms, .bucket = 2, .bucket_ns = 20 * ms }; /* they add up */
    for (int i = 0; i < 3; i++) {
        RM_TRY(step(&g, &s));
        RM_TRY(bench_blocking_of(&subject, &s, &blocking));
        NEED(blocking >= 0.06 && blocking * 1e9 <= (double)s.step_ns);
        NEED(g.e.buckets.at[2].end_ns - g.e.buckets.at[2].start_ns >= 60 * ms);
    }
    g.e.mode = RM_REDUCE_OFF;
    RM_TRY(step(&g, &s));
    RM_TRY(bench_blocking_of(&subject, &s, &blocking));
    NEED(blocking == 0);
    g.e.cfg.timers = false;
    RM_TRY(bench_blocking_of(&subject, &s, &blocking));
    NEED(blocking == 0);
    g.e.mode = RM_REDUCE_OVERLAPPED;
    RM_TRY(step(&g, &s));
    RM_TRY(bench_blocking_of(&subject, &s, &blocking));
    NEED(isnan(blocking));
    rig_free(&g);
    return rm_comm_barrier(c);
}

/* A ghost of 10 ms forward, 40 ms backward and 10 ms update, its last all-reduce 50 ms slower. */
static rm_status mode_ghost(rm_device *d, rm_comm *c, json_t *out)
{
    rm_ghost_event event[] = { { 5 * ms, 1 }, { 20 * ms, 61 }, { 40 * ms, 161 } };
    const rm_ghost_plan plan = { .forward_ns = 10 * ms, .backward_ns = 40 * ms, .update_ns = 10 * ms, .event = event, .n_event = 3 };
    static const rm_reduce_mode mode[] = { RM_REDUCE_OVERLAPPED, RM_REDUCE_AFTER, RM_REDUCE_BARRIER, RM_REDUCE_OFF };
    rm_graph graph;
    rm_ghost g;
    RM_TRY(rm_graph_resnet(50, "v1.5", (rm_shape){ 1, 3, 32, 32 }, CLASSES, &graph));
    RM_TRY(rm_ghost_new(c, d, &graph, &plan, 0.01, "0,60,160", RM_SPLIT_READY, &g));
    const bench_subject subject = { .ghost = &g };
    g.inject.link_ns = 50 * ms;
    for (size_t i = 0; i < 3 * RM_COUNT(mode); i++) {
        rm_step s;
        rm_replay r;
        double blocking;
        g.mode = mode[i % RM_COUNT(mode)];
        RM_TRY(rm_ghost_step(&g, &s));
        RM_TRY(rm_ghost_replay(&g, &s, &r));
        RM_TRY(bench_blocking_of(&subject, &s, &blocking));
        NEED(rm_replay_step(&r, &rm_replay_as_it_was) == s.step_ns);
        NEED(r.n_bucket == (g.mode <= RM_REDUCE_AFTER ? 3 : 0));
        NEED(r.n_bucket ? blocking >= 0.05 && blocking < 0.05 + 1e-9 * (double)s.step_ns : blocking == 0);
        NEED(!r.n_bucket || rm_replay_bucket_slope(&r, 2, ms) == 1);
        rm_replay_free(&r);
    }
    rm_ghost_free(&g);
    rm_graph_free(&graph);
    return rm_comm_barrier(c);
}

static const struct { const char *name; rm_status (*run)(rm_device *d, rm_comm *c, json_t *out); } modes[] = {
    { "slopes", mode_slopes }, { "exact", mode_exact }, { "ghost", mode_ghost },
};

static int be_rank(int argc, char **argv)
{
    static rm_device_ops slow;
    rm_comm *c = NULL;
    rm_device *d = NULL;
    json_t *out = json_object();
    bench_signal_install();
    rm_log_setup(RM_NORMAL, rm_world_from_env().rank);
    slow = rm_device_null;
    slow.run = slow_run;
    slow.spin = slow_spin;
    rm_status st = rm_device_open_ops(&slow, &(rm_device_config){ .threads = 1 }, &d);
    if (st == RM_OK) st = rm_comm_open("auto", &timeout, d, &c);
    for (size_t i = 0; st == RM_OK && i < RM_COUNT(modes); i++)
        if (!strcmp(argv[2], modes[i].name)) {
            st = modes[i].run(d, c, out);
            break;
        }
    if (st == RM_OK && rm_comm_rank(c) == 0 && argc == 5) st = bench_launch_leave_result(argv[4], out);
    if (st != RM_OK) rm_error("bench test: %s", rm_last_error());
    json_decref(out);
    rm_comm_close(c);
    if (st == RM_OK) rm_device_close(d);
    const int code = rm_exit_code(st, bench_signal());
    rm_comm_leave(code);
    return code;
}

static json_t *ranks(const char *mode)
{
    const char *const argv[] = { "rank", mode, NULL };
    const bench_launch_config cfg = { .ranks = 2, .argv = argv, .oversubscribe = true, .timeout_s = 240 };
    json_t *out = NULL;
    const rm_status st = bench_launch(&cfg, &out);
    if (st != RM_OK) fail_msg("%s: %s: %s", mode, rm_status_name(st), rm_last_error());
    assert_non_null(out);
    return out;
}

static void replays_of_two_ranks_are_exact(void **state) { json_decref(ranks("exact")); }
static void replays_of_ghosts_are_exact(void **state) { json_decref(ranks("ghost")); }

static void a_hidden_bucket_may_be_late_and_the_last_may_not(void **state)
{
    static const double want[] = { 0, 1, 1, 1, 1 };
    bool good = false;
    for (int try = 0; !good && try < TRIES; try++) {
        json_t *out = ranks("slopes");
        const json_t *list = json_object_get(out, "list");
        assert_int_equal(json_array_size(list), RM_COUNT(want));
        assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "name")), "gradients 61..160");
        assert_true(number(list, 1, "time_s") >= 0.03);
        good = as_wanted(list, want, 0.15);
        json_decref(out);
    }
    assert_true(good);
}

int main(int argc, char **argv)
{
    if (argc >= 3 && !strcmp(argv[1], "rank")) return be_rank(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_is_exact), cmocka_unit_test(a_delay_lies_in_its_node), cmocka_unit_test(what_cannot_be_measured_is_refused),
        cmocka_unit_test(alone_every_delay_counts), cmocka_unit_test(replays_of_two_ranks_are_exact), cmocka_unit_test(replays_of_ghosts_are_exact),
        cmocka_unit_test(a_hidden_bucket_may_be_late_and_the_last_may_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
