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
    const unsigned n = dbl_findings();
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
    assert_string_equal(i.isa, "sm_90");
    assert_string_equal(i.caveat, "test doubles, not a GPU");
    assert_true(i.threads > 100 && i.memory_bytes > (uint64_t)60 << 30 && i.async);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(says_what_it_is, open_all, close_all), cmocka_unit_test_setup_teardown(memory_is_zeroed_and_aligned, open_all, close_all),
        cmocka_unit_test_setup_teardown(more_than_there_is_is_refused, open_all, close_all), cmocka_unit_test_setup_teardown(copies_and_fills, open_all, close_all),
        cmocka_unit_test_setup_teardown(marks_order_queues, open_all, close_all), cmocka_unit_test_setup_teardown(a_queue_alone_is_waited_for, open_all, close_all),
        cmocka_unit_test_setup_teardown(times_are_ours, open_all, close_all), cmocka_unit_test_setup_teardown(recordings_run_again, open_all, close_all),
        cmocka_unit_test_setup_teardown(recordings_and_what_is_around, open_all, close_all),
        cmocka_unit_test_setup_teardown(a_recording_can_be_forgotten, open_all, close_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
