/* The null device: copies are real, ops are nothing, and with cfg.async the queues are as asynchronous as a GPU's. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/clock.h"
#include "kernels/device.h"
#include <string.h>

typedef struct fixture { rm_device *d; rm_queue *a, *b; rm_mark *gate, *mark; rm_buf *big, *small; } fixture;
enum { BIG = 64 << 20 };

static int set_up(void **state)
{
    static fixture f;
    const rm_device_config cfg = { .async = true };
    memset(&f, 0, sizeof f);
    *state = &f;
    return rm_device_open("null", &cfg, &f.d) || rm_queue_new(f.d, &f.a) || rm_queue_new(f.d, &f.b) || rm_mark_new(f.d, &f.gate) ||
           rm_mark_new(f.d, &f.mark) || rm_buf_alloc(f.d, RM_MEM_DEVICE, BIG, &f.big) || rm_buf_alloc(f.d, RM_MEM_DEVICE, 4096, &f.small);
}

static int tear_down(void **state)
{
    fixture *f = *state;
    rm_mark_free(f->d, f->gate);
    rm_mark_free(f->d, f->mark);
    rm_queue_free(f->d, f->a);
    rm_queue_free(f->d, f->b);
    rm_buf_free(f->d, f->big);
    rm_buf_free(f->d, f->small);
    rm_device_close(f->d);
    return 0;
}

static void ok(rm_status st) { if (st != RM_OK) fail_msg("%s", rm_last_error()); }

/* Queue a is kept busy; b must not overtake the mark, whatever the scheduler does. */
static void a_wait_orders_two_queues(void **state)
{
    fixture *f = *state;
    for (int round = 1; round < 20; round++) {
        unsigned char got = 0;
        for (int i = 0; i < 4; i++) ok(rm_device_fill(f->d, f->a, (rm_ref){ f->big, 0 }, i, BIG / 64));
        ok(rm_device_fill(f->d, f->a, (rm_ref){ f->small, 0 }, round, 4096));
        ok(rm_mark_set(f->d, f->a, f->mark));
        ok(rm_mark_wait(f->d, f->b, f->mark));
        ok(rm_device_read(f->d, f->b, &got, (rm_ref){ f->small, 4095 }, 1));
        ok(rm_device_sync(f->d, f->b));
        assert_int_equal(got, round);
        assert_true(rm_mark_done(f->d, f->mark));
        ok(rm_device_sync(f->d, f->a));
    }
}

/* A queue that waits for a mark does not run, and calls on it return all the same: nothing is finished by being called. */
static void calls_return_before_work_is_done(void **state)
{
    fixture *f = *state;
    unsigned char got = 7;
    for (int i = 0; i < 8; i++) ok(rm_device_fill(f->d, f->a, (rm_ref){ f->big, 0 }, i, BIG));
    ok(rm_mark_set(f->d, f->a, f->gate));
    ok(rm_mark_wait(f->d, f->b, f->gate));
    ok(rm_device_fill(f->d, f->b, (rm_ref){ f->small, 0 }, 9, 1));
    ok(rm_device_read(f->d, f->b, &got, (rm_ref){ f->small, 0 }, 1));
    ok(rm_mark_set(f->d, f->b, f->mark));
    assert_false(rm_mark_done(f->d, f->mark)); /* half a gigabyte is still to be filled before it */
    ok(rm_device_sync(f->d, f->b));
    assert_int_equal(got, 9);
    uint64_t gate, mark;
    ok(rm_mark_ns(f->d, f->gate, &gate));
    ok(rm_mark_ns(f->d, f->mark, &mark));
    assert_true(gate <= mark && mark <= rm_now_ns());
}

static void a_mark_may_be_set_again(void **state)
{
    fixture *f = *state;
    uint64_t last = 0;
    assert_false(rm_mark_done(f->d, f->mark)); /* never set */
    ok(rm_mark_wait(f->d, f->b, f->mark));     /* ... and then waiting means nothing */
    ok(rm_device_sync(f->d, f->b));
    for (int i = 0; i < 1000; i++) {           /* more than the ring of a queue holds */
        ok(rm_mark_set(f->d, i % 2 ? f->a : f->b, f->mark));
        ok(rm_mark_wait(f->d, i % 2 ? f->b : f->a, f->mark));
    }
    ok(rm_device_sync(f->d, f->a));
    ok(rm_device_sync(f->d, f->b));
    ok(rm_mark_ns(f->d, f->mark, &last));
    assert_true(last > 0);
}

static void ops_do_nothing_and_are_counted(void **state)
{
    fixture *f = *state;
    rm_op op;
    rm_plan *plan;
    rm_plan_info info;
    float y[8] = { 1 };
    ok(rm_op_parse("relu n=1 c=8 h=1 w=1", &op));
    ok(rm_device_plan(f->d, &op, &plan, &info));
    assert_int_equal(info.flops, 8);
    uint64_t allocs = rm_device_allocs(f->d);
    rm_args args = { .t[RM_X] = { f->small, 0 }, .t[RM_Y] = { f->small, 64 } };
    for (int i = 0; i < 5000; i++) ok(rm_device_run(f->d, NULL, plan, &args));
    ok(rm_device_read(f->d, NULL, y, args.t[RM_Y], sizeof y));
    ok(rm_device_sync(f->d, NULL));
    assert_true(y[0] == 0);
    assert_int_equal(rm_device_runs(f->d), 5000);
    assert_int_equal(rm_device_allocs(f->d), allocs);
    rm_plan_free(f->d, plan);
}

static void the_most_bytes_in_use_stay_known(void **state)
{
    fixture *f = *state;
    rm_buf *buf;
    const uint64_t live = rm_device_bytes(f->d);
    ok(rm_buf_alloc(f->d, RM_MEM_DEVICE, 1 << 20, &buf));
    const uint64_t most = rm_device_bytes(f->d);
    assert_true(most >= live + (1 << 20) && rm_device_peak_bytes(f->d) == most);
    rm_buf_free(f->d, buf);
    assert_true(rm_device_bytes(f->d) == live && rm_device_peak_bytes(f->d) == most);
}

static void a_spin_keeps_the_queue_busy(void **state)
{
    enum { NS = 20 * 1000 * 1000 };
    fixture *f = *state;
    uint64_t before, after;
    const uint64_t called = rm_now_ns();
    ok(rm_mark_set(f->d, f->a, f->gate));
    ok(rm_device_spin(f->d, f->a, NS));
    ok(rm_mark_set(f->d, f->a, f->mark));
    assert_false(rm_mark_done(f->d, f->mark) && rm_now_ns() - called < NS); /* the call did not wait */
    ok(rm_device_sync(f->d, f->a));
    ok(rm_mark_ns(f->d, f->gate, &before));
    ok(rm_mark_ns(f->d, f->mark, &after));
    assert_true(after - before >= NS);
}

static void every_device_spins_or_says_that_it_cannot(void **state)
{
    static rm_device_ops cannot;
    const char *const name[] = { "null", "ref", "cpu" };
    rm_device *d;
    for (size_t i = 0; i < RM_COUNT(name); i++) {
        ok(rm_device_open(name[i], NULL, &d));
        const uint64_t from = rm_now_ns();
        ok(rm_device_spin(d, NULL, 3 * 1000 * 1000));
        ok(rm_device_sync(d, NULL));
        assert_true(rm_now_ns() - from >= 3 * 1000 * 1000);
        ok(rm_device_spin(d, NULL, 0));
        rm_device_close(d);
    }
    cannot = rm_device_null;
    cannot.spin = NULL;
    ok(rm_device_open_ops(&cannot, NULL, &d));
    assert_int_equal(rm_device_spin(d, NULL, 1), RM_E_UNSUPPORTED);
    assert_non_null(strstr(rm_last_error(), "null: cannot"));
    rm_device_close(d);
}

static void every_layout_and_type_is_taken(void **state)
{
    fixture *f = *state;
    rm_op op;
    rm_plan *plan;
    rm_plan_info info;
    ok(rm_op_parse("conv n=1 c=8 h=4 w=4 o=8 k=1 xl=nhwc dtype=f16", &op));
    ok(rm_device_plan(f->d, &op, &plan, &info));
    assert_int_equal(info.x, RM_LAYOUT_NHWC);
    assert_int_equal(info.y, RM_LAYOUT_NCHW);
    rm_plan_free(f->d, plan);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(a_wait_orders_two_queues), T(calls_return_before_work_is_done), T(a_mark_may_be_set_again),
                                        T(ops_do_nothing_and_are_counted), T(every_layout_and_type_is_taken),
                                        T(the_most_bytes_in_use_stay_known),
                                        T(a_spin_keeps_the_queue_busy), T(every_device_spins_or_says_that_it_cannot) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
