/* The table of the cuda device (kernels/device.h) on the doubles: memory, queues, marks and recordings do what the header says, and nothing
 * runs in another order or on another stream than was asked for, which the doubles would find. Ops: step_test.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/clock.h"
#include "kernels/device.h"
#include "tests/cuda/doubles/doubles.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 5000, SPIN_NS = 3000000 };
typedef struct fixture { rm_device *d; rm_queue *q; rm_mark *mark[4]; rm_buf *a, *b, *pinned; } fixture;
static fixture f;

static void ok(rm_status st)
{
    if (st != RM_OK) fail_msg("%s", rm_last_error());
}

static int open_all(void **state)
{
    const rm_device_config dc = { .deterministic = true, .reference_only = true };
    ok(rm_device_open("cuda", &dc, &f.d));
    ok(rm_queue_new(f.d, &f.q));
    for (size_t i = 0; i < RM_COUNT(f.mark); i++) ok(rm_mark_new(f.d, &f.mark[i]));
    ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, BYTES, &f.a));
    ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, BYTES, &f.b));
    ok(rm_buf_alloc(f.d, RM_MEM_PINNED, BYTES, &f.pinned));
    return 0;
}

static int close_all(void **state)
{
    rm_buf_free(f.d, f.pinned);
    rm_buf_free(f.d, f.b);
    rm_buf_free(f.d, f.a);
    for (size_t i = 0; i < RM_COUNT(f.mark); i++) rm_mark_free(f.d, f.mark[i]);
    rm_queue_free(f.d, f.q);
    rm_device_close(f.d);
    if (dbl_alive()) print_error("%d blocks of memory, streams, events and graphs were not given back\n", dbl_alive());
    const unsigned n = dbl_findings() + (unsigned)dbl_alive();
    dbl_findings_clear();
    return n ? -1 : 0;
}

static rm_ref at(rm_buf *buf, size_t offset) { return (rm_ref){ buf, offset }; }
static unsigned char *pinned(void) { return rm_buf_host(f.pinned); }

/* ---- opening */
static void says_what_it_is(void **state)
{
    rm_device_info i;
    int32_t n = 0;
    rm_device *other = NULL;
    rm_device_get_info(f.d, &i);
    assert_string_equal(i.device, "cuda");
    assert_non_null(strstr(i.name, "H100"));
    assert_non_null(strstr(i.library, "cuDNN 9."));
    assert_non_null(strstr(i.library, "CUDA 13.0"));
    assert_string_equal(i.isa, "sm_90, 132 multiprocessors");
    assert_string_equal(i.caveat, "test doubles, not a GPU");
    assert_true(i.threads == 1 && i.memory_bytes > (uint64_t)60 << 30 && i.async);
    assert_int_equal(i.dtypes, 1u << RM_F32 | 1u << RM_TF32 | 1u << RM_BF16 | 1u << RM_F16);
    ok(rm_device_count("cuda", &n));
    assert_int_equal(n, 8);
    const rm_device_config past = { .ordinal = 8 }, below = { .ordinal = -1 }, last = { .ordinal = 7 };
    assert_int_equal(rm_device_open("cuda", &past, &other), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "GPU 8, but 8 are visible"));
    assert_int_equal(rm_device_open("cuda", &below, &other), RM_E_ARG);
    ok(rm_device_open("cuda", &last, &other));
    rm_device_close(other);
}

/* ---- memory */
static void memory_is_zeroed_and_aligned(void **state)
{
    unsigned char host[BYTES], zero[BYTES] = { 0 };
    static const size_t bytes[] = { 0, 1, 4096, 4097 };
    memset(host, 1, sizeof host);
    ok(rm_device_read(f.d, NULL, host, at(f.a, 0), BYTES));
    ok(rm_device_sync(f.d, NULL));
    assert_memory_equal(host, zero, BYTES);
    assert_memory_equal(pinned(), zero, BYTES);
    assert_null(rm_buf_host(f.a));
    for (size_t i = 0; i < RM_COUNT(bytes); i++) {
        rm_buf *b;
        ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, bytes[i], &b));
        assert_int_equal((uintptr_t)b->ptr % 4096, 0);
        assert_int_equal(rm_buf_bytes(b), bytes[i]);
        rm_buf_free(f.d, b);
    }
}

static void more_than_there_is_is_refused(void **state)
{
    rm_buf *b = NULL;
    assert_int_equal(rm_buf_alloc(f.d, RM_MEM_DEVICE, (size_t)1 << 50, &b), RM_E_NOMEM);
    assert_non_null(strstr(rm_last_error(), "smaller batch"));
    ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, 16, &b)); /* the error is not found again */
    rm_buf_free(f.d, b);
}

static void copies_and_fills(void **state)
{
    unsigned char host[64], back[64];
    for (size_t i = 0; i < sizeof host; i++) host[i] = (unsigned char)(i + 1);
    rm_queue *const queues[] = { NULL, f.q };
    for (size_t k = 0; k < RM_COUNT(queues); k++) {
        memset(back, 0, sizeof back);
        ok(rm_device_write(f.d, queues[k], at(f.a, 100), host, sizeof host));
        ok(rm_device_fill(f.d, queues[k], at(f.a, 110), 7, 4));
        ok(rm_device_read(f.d, queues[k], back, at(f.a, 100), sizeof back));
        assert_int_equal(back[0], 0); /* nothing is done before somebody waits */
        ok(rm_device_sync(f.d, queues[k]));
        assert_int_equal(back[9], 10);
        for (int i = 10; i < 14; i++) assert_int_equal(back[i], 7);
        assert_int_equal(back[14], 15);
        assert_int_equal(back[63], 64);
    }
}

/* ---- order */
/* The compute queue writes, the other one reads after the mark and tells by a mark of its own. */
static void pass(int byte)
{
    ok(rm_device_fill(f.d, NULL, at(f.a, 0), byte, BYTES));
    ok(rm_mark_set(f.d, NULL, f.mark[0]));
    ok(rm_mark_wait(f.d, f.q, f.mark[0]));
    ok(rm_device_read(f.d, f.q, pinned(), at(f.a, 0), BYTES));
    ok(rm_mark_set(f.d, f.q, f.mark[1]));
    ok(rm_mark_wait(f.d, NULL, f.mark[1]));
}

static void marks_order_queues(void **state)
{
    ok(rm_mark_wait(f.d, f.q, f.mark[3])); /* never set: nothing to wait for */
    assert_false(rm_mark_done(f.d, f.mark[0]));
    for (int i = 1; i < 4; i++) {
        pass(i);
        ok(rm_device_sync(f.d, NULL)); /* the compute queue waited for the other */
        assert_true(rm_mark_done(f.d, f.mark[1]));
        assert_int_equal(pinned()[BYTES - 1], i);
    }
}

static void a_queue_alone_is_waited_for(void **state)
{
    ok(rm_device_fill(f.d, NULL, at(f.b, 0), 1, BYTES));
    ok(rm_mark_set(f.d, NULL, f.mark[0]));
    ok(rm_device_fill(f.d, f.q, at(f.a, 0), 1, BYTES));
    ok(rm_mark_set(f.d, f.q, f.mark[1]));
    ok(rm_device_sync(f.d, f.q));
    assert_true(rm_mark_done(f.d, f.mark[1]));
    ok(rm_device_sync(f.d, NULL));
    assert_true(rm_mark_done(f.d, f.mark[0]));
}

static void times_are_ours(void **state)
{
    uint64_t begin, end;
    for (int k = 0; k < 2; k++) {
        rm_queue *q = k ? f.q : NULL;
        const uint64_t before = rm_now_ns();
        ok(rm_mark_set(f.d, q, f.mark[0]));
        ok(rm_device_spin(f.d, q, SPIN_NS));
        ok(rm_mark_set(f.d, q, f.mark[1]));
        ok(rm_device_sync(f.d, q));
        ok(rm_mark_ns(f.d, f.mark[0], &begin));
        ok(rm_mark_ns(f.d, f.mark[1], &end));
        const uint64_t after = rm_now_ns();
        assert_true(end - begin >= SPIN_NS - 1000);
        assert_true(begin + 200000 >= before && end <= after + 200000);
    }
}

/* ---- ops */
static rm_plan *planned(const char *text, rm_args *out_args, rm_buf **out_workspace)
{
    rm_op op;
    rm_plan *p;
    rm_plan_info i;
    const rm_segment all = { .count = 8 };
    ok(rm_op_parse(text, &op));
    if (op.code == RM_OP_OPTIM) op.u.optim.segment = &all;
    ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, 1 << 20, out_workspace)); /* before the plan, for it waits for the compute queue */
    ok(rm_device_plan(f.d, &op, &p, &i));
    assert_true(i.workspace_bytes <= 1 << 20);
    *out_args = (rm_args){ .workspace = at(*out_workspace, 0) };
    return p;
}

/* All on one queue, then on the other: on any other stream an op would race with what is before and after it. */
static void ops_run_on_their_queue(void **state)
{
    static const struct { const char *text; rm_slot from, from2, to; float want; } rows[] = {
        { "add n=1 c=8 h=5 w=5 dtype=f32", RM_X, RM_X2, RM_Y, 4 },
        { "relu n=1 c=8 h=5 w=5 dtype=f32", RM_X, RM_X, RM_Y, 2 },
        { "relu_bwd n=1 c=8 h=5 w=5 dtype=f32", RM_Y, RM_DY, RM_DX, 2 },
        { "avgpool n=5 c=8 h=5 w=5 dtype=f32", RM_X, RM_X, RM_Y, 2 },
        { "avgpool_bwd n=1 c=8 h=5 w=5 dtype=f32", RM_DY, RM_DY, RM_DX, 0.08f },
        { "reorder n=1 c=8 h=5 w=5 xl=nchw yl=nhwc", RM_X, RM_X, RM_Y, 2 },
        { "reorder n=1 c=8 h=5 w=5 dtype=bf16 to=f32", RM_X, RM_X, RM_Y, 2 }, /* at the upper half of a float, which is its bf16 */
        { "conv n=1 c=8 h=5 w=5 o=8 k=1 s=1 p=0 dtype=f32", RM_X, RM_W, RM_Y, 32 },
        { "conv n=1 c=8 h=5 w=5 o=8 k=1 s=1 p=0 dtype=f32 xl=nchw wl=nchw yl=nchw", RM_X, RM_W, RM_Y, 32 }, /* the device answers with its own layouts */
        { "conv_bwd_data n=1 c=8 h=5 w=5 o=8 k=1 s=1 p=0 dtype=f32", RM_DY, RM_W, RM_DX, 32 },
        { "conv_bwd_weights n=1 c=8 h=5 w=5 o=8 k=1 s=1 p=0 dtype=f32", RM_X, RM_DY, RM_DW, 100 },
    };
    const float two = 2;
    rm_queue *const queues[] = { f.q, NULL };
    float in[BYTES / 4], got;
    for (size_t i = 0; i < RM_COUNT(in); i++) in[i] = two;
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        rm_args args;
        rm_buf *workspace;
        rm_plan *p = planned(rows[i].text, &args, &workspace);
        args.t[rows[i].from] = at(f.a, strstr(rows[i].text, "to=f32") ? 6 : 0); /* 6: no vectors there */
        if (rows[i].from2 != rows[i].from) args.t[rows[i].from2] = at(f.b, 0);
        for (size_t k = 0; k < RM_COUNT(queues); k++) {
            rm_buf *out;
            ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, BYTES, &out));
            args.t[rows[i].to] = at(out, 0);
            ok(rm_device_write(f.d, queues[k], at(f.a, 0), in, BYTES));
            ok(rm_device_write(f.d, queues[k], at(f.b, 0), in, BYTES));
            ok(rm_device_run(f.d, queues[k], p, &args));
            ok(rm_device_read(f.d, queues[k], &got, at(out, 0), sizeof got));
            ok(rm_device_sync(f.d, queues[k]));
            const unsigned made = dbl_cudnn_made();
            ok(rm_device_run(f.d, queues[k], p, &args)); /* on the same operands: nothing of cuDNN's is made anew */
            ok(rm_device_sync(f.d, queues[k]));
            assert_int_equal(dbl_cudnn_made(), made);
            if (!(got > 0.999f * rows[i].want && got < 1.001f * rows[i].want)) fail_msg("%s: %g, not %g", rows[i].text, (double)got, (double)rows[i].want);
            rm_buf_free(f.d, out);
        }
        rm_buf_free(f.d, workspace);
        rm_plan_free(f.d, p);
    }
}

/* Candidates are tried where that is allowed; the one that is chosen computes the same. */
extern char rm_cuda_doubles[8];
static void a_device_that_tries_candidates_computes_the_same(void **state)
{
    rm_cuda_doubles[0] = '1';            /* without it the doubles' plans are not timed, */
    setenv("RINGMARK_PLANS", "none", 1); /* and with kept ones neither */
    const rm_device_config dc = { .deterministic = true };
    rm_device *const first = f.d;
    rm_buf *a, *b, *y, *workspace;
    rm_args args;
    float in[200], got[200];
    for (size_t i = 0; i < RM_COUNT(in); i++) in[i] = 2;
    ok(rm_device_open("cuda", &dc, &f.d));
    ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, sizeof in, &a));
    ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, sizeof in, &b));
    ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, sizeof in, &y));
    rm_plan *p = planned("conv n=1 c=8 h=5 w=5 o=8 k=1 s=1 p=0 dtype=f32", &args, &workspace);
    args.t[RM_X] = at(a, 0);
    args.t[RM_W] = at(b, 0);
    args.t[RM_Y] = at(y, 0);
    ok(rm_device_write(f.d, NULL, at(a, 0), in, sizeof in));
    ok(rm_device_write(f.d, NULL, at(b, 0), in, sizeof in));
    ok(rm_device_run(f.d, NULL, p, &args));
    ok(rm_device_read(f.d, NULL, got, at(y, 0), sizeof got));
    ok(rm_device_sync(f.d, NULL));
    for (size_t i = 0; i < RM_COUNT(got); i++) assert_true(got[i] > 31.9f && got[i] < 32.1f);
    rm_plan_free(f.d, p);
    rm_buf *const all[] = { a, b, y, workspace };
    for (size_t i = 0; i < RM_COUNT(all); i++) rm_buf_free(f.d, all[i]);
    rm_device_close(f.d);
    f.d = first;
}

/* Who starts ranks asks what they will have, and takes no GPU. */
static void a_description_takes_no_gpu(void **state)
{
    rm_device_info want, got;
    const rm_device_config none = { .ordinal = 64 };
    rm_device_get_info(f.d, &want);
    const unsigned took = dbl_took();
    ok(rm_device_describe("cuda", NULL, &got));
    assert_int_equal(rm_device_describe("cuda", &none, &got), RM_E_ARG);
    assert_int_equal(dbl_took(), took);
    ok(rm_device_describe("auto", NULL, &got));
    assert_memory_equal(&got, &want, sizeof got);
    rm_device *d;
    ok(rm_device_open("cuda", NULL, &d));
    assert_true(dbl_took() > took); /* it counts */
    rm_device_close(d);
}

/* Whichever candidate is fast is chosen; without trying them it is cuDNN's first. */
static void the_fastest_candidate_is_chosen(void **state)
{
    enum { TRIED = 3 };
    const char *const text = "conv n=1 c=8 h=5 w=5 o=8 k=1 s=1 p=0 dtype=f32";
    rm_device *const first = f.d;
    char name[TRIED + 1][64], fault[24];
    rm_cuda_doubles[0] = '1';
    setenv("RINGMARK_PLANS", "none", 1);
    for (int k = 0; k <= TRIED; k++) {
        const rm_device_config dc = { .deterministic = true, .reference_only = k == 0 };
        rm_args args;
        rm_buf *workspace;
        snprintf(fault, sizeof fault, "fast-plan:%d", k);
        if (k) setenv("RM_DOUBLES_FAULTS", fault, 1);
        ok(rm_device_open("cuda", &dc, &f.d));
        rm_plan *p = planned(text, &args, &workspace);
        snprintf(name[k], sizeof name[k], "%s", p->info.impl);
        rm_plan_free(f.d, p);
        rm_buf_free(f.d, workspace);
        rm_device_close(f.d);
    }
    unsetenv("RM_DOUBLES_FAULTS");
    f.d = first;
    assert_string_equal(name[1], name[0]);
    assert_string_not_equal(name[2], name[1]);
    assert_string_not_equal(name[3], name[1]);
    assert_string_not_equal(name[3], name[2]);
}

/* What a plan put on the GPU is there for every queue, at once. */
static void an_optimiser_runs_on_any_queue(void **state)
{
    static const rm_slot slots[] = { RM_W, RM_DW, RM_MOMENTUM, RM_HYPER, RM_FLAG };
    const double hyper[RM_HYPER_COUNT] = { 1, 0, 0, 1 }; /* lr, momentum, decay, scale: w -= dw */
    float one[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, got[8];
    rm_args args;
    rm_buf *workspace, *buf[RM_COUNT(slots)];
    for (size_t i = 0; i < RM_COUNT(slots); i++) ok(rm_buf_alloc(f.d, RM_MEM_DEVICE, 64, &buf[i]));
    ok(rm_device_write(f.d, f.q, at(buf[1], 0), one, sizeof one));
    ok(rm_device_write(f.d, f.q, at(buf[3], 0), hyper, sizeof hyper));
    rm_plan *p = planned("optim count=8 segments=1", &args, &workspace);
    for (size_t i = 0; i < RM_COUNT(slots); i++) args.t[slots[i]] = at(buf[i], 0);
    ok(rm_device_run(f.d, f.q, p, &args));
    ok(rm_device_read(f.d, f.q, got, at(buf[0], 0), sizeof got));
    ok(rm_device_sync(f.d, f.q));
    for (int i = 0; i < 8; i++) assert_true(got[i] == -1);
    for (size_t i = 0; i < RM_COUNT(slots); i++) rm_buf_free(f.d, buf[i]);
    rm_buf_free(f.d, workspace);
    rm_plan_free(f.d, p);
}

/* ---- recordings */
static rm_recording *recorded(void)
{
    rm_recording *r;
    ok(rm_record_begin(f.d));
    ok(rm_device_write(f.d, NULL, at(f.b, 0), pinned(), BYTES));
    ok(rm_mark_set(f.d, NULL, f.mark[0]));
    ok(rm_mark_wait(f.d, f.q, f.mark[0]));
    ok(rm_device_fill(f.d, f.q, at(f.b, 10), 9, 10));
    ok(rm_mark_set(f.d, f.q, f.mark[1]));
    ok(rm_mark_wait(f.d, NULL, f.mark[1]));
    ok(rm_device_read(f.d, NULL, pinned() + BYTES - 100, at(f.b, 0), 50));
    ok(rm_mark_set(f.d, NULL, f.mark[2]));
    ok(rm_record_end(f.d, &r));
    return r;
}

static void recordings_run_again(void **state)
{
    uint64_t last = 0;
    assert_true(rm_device_can_record(f.d));
    rm_recording *r = recorded();
    assert_int_equal(pinned()[BYTES - 100], 0); /* nothing is done while it is recorded */
    for (int i = 1; i < 4; i++) {
        uint64_t begin, middle, end;
        memset(pinned(), i, BYTES);
        ok(rm_record_run(f.d, r));
        ok(rm_device_sync(f.d, NULL));
        for (int k = 0; k < 50; k++) assert_int_equal(pinned()[BYTES - 100 + k], k < 10 || k >= 20 ? i : 9);
        assert_true(rm_mark_done(f.d, f.mark[1]));
        ok(rm_mark_ns(f.d, f.mark[0], &begin));
        ok(rm_mark_ns(f.d, f.mark[1], &middle));
        ok(rm_mark_ns(f.d, f.mark[2], &end));
        assert_true(last < begin && begin <= middle && middle <= end);
        last = end;
    }
    rm_record_free(f.d, r);
}

/* Marks that were set outside are waited for at every run, marks set inside can be waited for outside. */
static void recordings_and_what_is_around(void **state)
{
    rm_recording *r;
    pass(1);
    ok(rm_record_begin(f.d));
    ok(rm_mark_wait(f.d, NULL, f.mark[1]));
    ok(rm_device_fill(f.d, NULL, at(f.a, 0), 2, BYTES)); /* what the other queue reads */
    ok(rm_mark_set(f.d, NULL, f.mark[2]));
    ok(rm_record_end(f.d, &r));
    for (int i = 3; i < 6; i++) {
        ok(rm_device_fill(f.d, NULL, at(f.a, 0), i, BYTES));
        ok(rm_mark_set(f.d, NULL, f.mark[0]));
        ok(rm_mark_wait(f.d, f.q, f.mark[0]));
        ok(rm_device_read(f.d, f.q, pinned(), at(f.a, 0), BYTES));
        ok(rm_mark_set(f.d, f.q, f.mark[1]));
        ok(rm_record_run(f.d, r));
        ok(rm_mark_wait(f.d, f.q, f.mark[2]));
        ok(rm_device_read(f.d, f.q, pinned() + 1, at(f.a, 1), BYTES - 1));
        ok(rm_device_sync(f.d, f.q));
        assert_int_equal(pinned()[0], i);
        assert_int_equal(pinned()[1], 2);
    }
    ok(rm_device_sync(f.d, NULL));
    rm_record_free(f.d, r);
}

static void a_recording_can_be_forgotten(void **state)
{
    ok(rm_record_begin(f.d));
    ok(rm_device_fill(f.d, NULL, at(f.a, 0), 5, BYTES));
    ok(rm_record_end(f.d, NULL));
    ok(rm_device_read(f.d, NULL, pinned(), at(f.a, 0), BYTES));
    ok(rm_device_sync(f.d, NULL));
    assert_int_equal(pinned()[0], 0);
    pass(6); /* marks are as before */
    rm_recording *r = recorded();
    ok(rm_record_run(f.d, r));
    rm_record_free(f.d, r); /* waits for what runs */
    assert_int_equal(pinned()[BYTES - 90], 9);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)
    const struct CMUnitTest tests[] = {
        TEST(says_what_it_is),
        TEST(memory_is_zeroed_and_aligned),
        TEST(more_than_there_is_is_refused),
        TEST(copies_and_fills),
        TEST(marks_order_queues),
        TEST(a_queue_alone_is_waited_for),
        TEST(times_are_ours),
        TEST(ops_run_on_their_queue),
        TEST(a_device_that_tries_candidates_computes_the_same),
        TEST(a_description_takes_no_gpu),
        TEST(the_fastest_candidate_is_chosen),
        TEST(an_optimiser_runs_on_any_queue),
        TEST(recordings_run_again),
        TEST(recordings_and_what_is_around),
        TEST(a_recording_can_be_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
