/* Ghosts: the plan they act, the time they take, the buckets they reduce. */
#include "model/parallel/ghost.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

enum { MS = 1000000, TRIES = 60 };
static rm_device *device;
static rm_comm *comm;
static rm_graph graph;

static int open_all(void **state)
{
    const rm_device_config dc = { .threads = 1 };
    const rm_comm_config cc = { .timeout_s = 10 };
    if (rm_device_open("null", &dc, &device) != RM_OK || rm_comm_open("self", &cc, device, &comm) != RM_OK) return -1;
    return rm_graph_resnet(50, "v1.5", (rm_shape){ 2, 3, 32, 32 }, 10, &graph) == RM_OK ? 0 : -1;
}

static int close_all(void **state)
{
    rm_graph_free(&graph);
    rm_comm_close(comm);
    rm_device_close(device);
    return 0;
}

/* Forward 5 ms, an event for each gradient every 0.1 ms, backward 20 ms, update 2 ms. */
static rm_ghost_plan plan_of(rm_ghost_event *event)
{
    for (int32_t i = 0; i < graph.n_param; i++) event[i] = (rm_ghost_event){ (uint64_t)(i + 1) * MS / 10, (uint32_t)i + 1 };
    return (rm_ghost_plan){ 5 * MS, 20 * MS, 2 * MS, event, (uint32_t)graph.n_param };
}

/* A ghost of that plan, and what it needs while it lives. */
typedef struct acted {
    rm_ghost_event event[200];
    rm_ghost_plan plan;
    rm_ghost g;
} acted;
static acted *act(const char *split, double share)
{
    acted *a = calloc(1, sizeof *a);
    assert_non_null(a);
    a->plan = plan_of(a->event);
    assert_int_equal(rm_ghost_new(comm, device, &graph, &a->plan, share, split, RM_SPLIT_READY, &a->g), RM_OK);
    return a;
}

static void end(acted *a)
{
    rm_ghost_free(&a->g);
    free(a);
}

static uint64_t all_of(const rm_budget *b) { return b->compute_ns + b->exposed_comm_ns + b->exposed_copy_ns + b->input_ns + b->host_ns + b->idle_ns; }

/* A busy machine may delay any one step, but not each of many; what 161 sleeps are late by does not add up. */
static void takes_the_time_of_its_plan(void **state)
{
    acted *a = act("single", 1);
    rm_step s;
    uint64_t least = UINT64_MAX;
    a->g.mode = RM_REDUCE_OFF;
    for (int i = 0; i < TRIES && least > 28 * MS; i++) {
        assert_int_equal(rm_ghost_step(&a->g, &s), RM_OK);
        assert_true(s.step_ns >= 27 * MS && s.forward_end_ns - s.begin_ns >= 5 * MS && s.backward_end_ns - s.begin_ns >= 25 * MS);
        assert_true(s.budget.window_ns == s.step_ns && all_of(&s.budget) == s.step_ns && s.budget.comm_ns == 0 && s.blocking_ns == 0);
        assert_true(s.budget.compute_ns > s.step_ns / 2);
        least = s.step_ns < least ? s.step_ns : least;
    }
    if (least > 28 * MS) fail_msg("the fastest of %d steps of 27 ms took %.2f ms", TRIES, (double)least / MS);
    end(a);
}

static void starts_buckets_when_they_are_ready(void **state)
{
    acted *a = act("9,99", 1);
    rm_ghost *g = &a->g;
    rm_step s;
    assert_int_equal(rm_ghost_step(g, &s), RM_OK);
    assert_int_equal(g->buckets.n, 3);
    for (uint32_t i = 0; i < 3; i++) {
        const rm_bucket *b = &g->buckets.at[i];
        assert_true(b->ready_ns >= s.begin_ns + a->plan.forward_ns + a->event[b->last].at_ns && b->ready_ns <= s.begin_ns + s.step_ns);
    }
    assert_true(g->buckets.at[0].ready_ns < g->buckets.at[1].ready_ns && g->buckets.at[1].ready_ns < s.backward_end_ns);
    g->mode = RM_REDUCE_AFTER;
    assert_int_equal(rm_ghost_step(g, &s), RM_OK);
    assert_true(g->buckets.at[0].ready_ns >= s.backward_end_ns);
    assert_int_equal(rm_ghost_set_split(g, "7,3", RM_SPLIT_READY), RM_E_ARG);
    assert_int_equal(g->buckets.n, 3); /* the old one stays */
    assert_int_equal(rm_ghost_set_split(g, "per-layer", RM_SPLIT_READY), RM_OK);
    assert_int_equal(g->buckets.n, 161);
    end(a);
}

/* Only what is slept counts, and who wakes late sleeps less afterwards: here too one step of many will do. */
static void injections_lengthen_their_own_term(void **state)
{
    acted *a = act("single", 1);
    rm_step s;
    bool as_asked = false;
    a->g.inject = (rm_inject) { .input_ns = 6 * MS, .compute_ns = 7 * MS };
    for (int i = 0; i < TRIES && !as_asked; i++) {
        assert_int_equal(rm_ghost_step(&a->g, &s), RM_OK);
        assert_true(s.step_ns >= 40 * MS);
        as_asked = s.budget.input_ns >= 6 * MS - MS / 5 && s.budget.input_ns < 7 * MS && s.budget.compute_ns >= 30 * MS;
    }
    assert_true(as_asked);
    end(a);
}

/* Ends of a split are those of the real gradients, whatever share of them travels. */
static void a_share_of_the_bytes(void **state)
{
    acted *whole = act("equal:4", 1), *part = act("equal:4", 0.25);
    assert_true(rm_ghost_bytes(&graph, 1) == rm_graph_params(&graph) * 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(whole->g.buckets.at[i].last, part->g.buckets.at[i].last);
        assert_true(part->g.buckets.at[i].bytes * 4 > whole->g.buckets.at[i].bytes * 0.999 &&
                    part->g.buckets.at[i].bytes * 4 < whole->g.buckets.at[i].bytes * 1.001);
    }
    assert_int_equal(rm_ghost_set_split(&part->g, "per-layer", RM_SPLIT_READY), RM_OK);
    for (uint32_t i = 0; i < part->g.buckets.n; i++) assert_true(part->g.buckets.at[i].bytes >= 4);
    end(whole);
    end(part);
}

/* ---- plans */
static void measures_a_plan(void **state)
{
    rm_recipe recipe;
    rm_engine e;
    rm_synthetic y;
    rm_ghost_plan p, back;
    assert_int_equal(rm_recipe_load("tiny", &recipe), RM_OK);
    const rm_engine_config c = { .recipe = &recipe, .dtype = RM_F32, .px = 32, .batch = 2, .classes = 10, .timers = true, .split = "", .seed = 1 };
    assert_int_equal(rm_engine_new(device, comm, &c, &e), RM_OK);
    assert_int_equal(rm_synthetic_new(2, 32, 10, 1, &y), RM_OK);
    const rm_source src = rm_source_synthetic(&y);
    assert_int_equal(rm_ghost_plan_measure(&e, &src, 5, &p), RM_OK);
    assert_true(e.mode == RM_REDUCE_OVERLAPPED && p.forward_ns > 0 && p.backward_ns > 0 && p.n_event > 50 && p.event[p.n_event - 1].ready == 161);
    for (uint32_t i = 1; i < p.n_event; i++) assert_true(p.event[i].at_ns >= p.event[i - 1].at_ns && p.event[i].ready > p.event[i - 1].ready);
    assert_true(p.event[p.n_event - 1].at_ns <= p.backward_ns);
    json_t *j = rm_ghost_plan_json(&p);
    assert_int_equal(rm_ghost_plan_from_json(j, &back), RM_OK);
    assert_true(back.forward_ns == p.forward_ns && back.backward_ns == p.backward_ns && back.update_ns == p.update_ns && back.n_event == p.n_event);
    for (uint32_t i = 0; i < p.n_event; i++) assert_true(back.event[i].at_ns == p.event[i].at_ns && back.event[i].ready == p.event[i].ready);
    json_decref(j);
    rm_ghost_plan_free(&p);
    rm_ghost_plan_free(&back);
    rm_synthetic_free(&y);
    rm_engine_free(&e);
}

static void refuses_what_is_no_plan(void **state)
{
    static const struct { const char *text; bool good; } row[] = {
        { "{\"forward_ns\":1,\"backward_ns\":9,\"update_ns\":0,\"events\":[[1,1],[1,2],[9,161]]}", true },
        { "{\"forward_ns\":1,\"backward_ns\":9,\"update_ns\":0,\"events\":[]}", true },
        { "{\"forward_ns\":1,\"backward_ns\":9,\"update_ns\":0}", false },
        { "{\"forward_ns\":-1,\"backward_ns\":9,\"update_ns\":0,\"events\":[]}", false },
        { "{\"forward_ns\":1.5,\"backward_ns\":9,\"update_ns\":0,\"events\":[]}", false },
        { "{\"forward_ns\":1,\"backward_ns\":9,\"update_ns\":0,\"events\":[[2,1],[1,2]]}", false },
        { "{\"forward_ns\":1,\"backward_ns\":9,\"update_ns\":0,\"events\":[[1,2],[2,2]]}", false },
        { "{\"forward_ns\":1,\"backward_ns\":9,\"update_ns\":0,\"events\":[[10,2]]}", false },
        { "{\"forward_ns\":1,\"backward_ns\":9,\"update_ns\":0,\"events\":[7]}", false },
        { "[]", false },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_ghost_plan p = { 0 };
        json_t *j = json_loads(row[i].text, 0, NULL);
        assert_non_null(j);
        if (rm_ghost_plan_from_json(j, &p) != (row[i].good ? RM_OK : RM_E_FORMAT)) fail_msg("%s", row[i].text);
        rm_ghost_plan_free(&p);
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_time_of_its_plan), cmocka_unit_test(starts_buckets_when_they_are_ready), cmocka_unit_test(injections_lengthen_their_own_term),
        cmocka_unit_test(a_share_of_the_bytes),       cmocka_unit_test(measures_a_plan),                    cmocka_unit_test(refuses_what_is_no_plan),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
