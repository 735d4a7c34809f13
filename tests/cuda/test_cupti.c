/* What is made of CUPTI's buffers (profiler/cupti_records.h): buffers filled by hand with the real structs, walked by the real library, which
 * needs no GPU for it. And that a machine without one is told so. */
#include "profiler/cupti_records.h"
#include "tests/cuda/cupti_buffer.h"
#include "base/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const rm_cupti_clock same = { { 0, 0 }, { 1000000, 1000000 } };

static rm_cupti_step step_of(rm_cupti_log *log, const cupti_buffer *b)
{
    rm_cupti_step s;
    assert_int_equal(rm_cupti_log_read(log, (uint8_t *)(uintptr_t)b->bytes, b->n), RM_OK);
    assert_int_equal(rm_cupti_log_step(log, &same, &s), RM_OK);
    return s;
}

static const char *name(const rm_cupti_log *log, const rm_cupti_record *r) { return log->text[r->name].shown; }

static void every_kind(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer b = { .n = 0 };
    cupti_put_pushed(&b, 11, RM_CUPTI_NODE, 5);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000, 11, 100, 110);
    cupti_put_kernel(&b, "_ZN4rmbn5applyIfLi4EEEvPKf", 11, 7, 120, 150);
    cupti_put_pushed(&b, 12, RM_CUPTI_BUCKET, 2);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx, 12, 130, 140);
    cupti_put_kernel(&b, "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", 12, 9, 145, 190);
    cupti_put_copy(&b, 14, 13, 3, 160, 170, 4096);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaMemcpyAsync_v3020, 13, 150, 159);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_DRIVER_TRACE_CBID_cuMemcpyHtoDAsync_v2, 14, 151, 158);
    cupti_put_fill(&b, 15, 7, 200, 201, 64);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaEventRecord_v3020, 16, 152, 153);
    cupti_put_overhead(&b, CUPTI_ACTIVITY_OVERHEAD_CUPTI_BUFFER_FLUSH, 300, 340);
    const rm_cupti_step s = step_of(&log, &b);
    static const struct { rm_cupti_kind kind; const char *name; uint64_t begin, end; uint32_t correlation, stream; rm_cupti_part part; uint32_t index; uint64_t bytes; } want[] = {
        { RM_CUPTI_LAUNCH, "cudaLaunchKernel", 100, 110, 11, 0, RM_CUPTI_NODE, 5, 0 },
        { RM_CUPTI_KERNEL, "rmbn::apply", 120, 150, 11, 7, RM_CUPTI_NODE, 5, 0 },
        { RM_CUPTI_LAUNCH, "cuLaunchKernelEx", 130, 140, 12, 0, RM_CUPTI_BUCKET, 2, 0 },
        { RM_CUPTI_KERNEL, "ncclDevKernel_AllReduce_Sum_f32_RING_LL", 145, 190, 12, 9, RM_CUPTI_BUCKET, 2, 0 },
        { RM_CUPTI_LAUNCH, "cudaMemcpyAsync", 150, 159, 13, 0, RM_CUPTI_NO_PART, 0, 0 },
        { RM_CUPTI_COPY, "Memcpy HtoD (Pinned -> Device)", 160, 170, 13, 3, RM_CUPTI_NO_PART, 0, 4096 },
        { RM_CUPTI_FILL, "Memset (Device)", 200, 201, 15, 7, RM_CUPTI_NO_PART, 0, 64 },
        { RM_CUPTI_OVERHEAD, "CUPTI flushes a buffer", 300, 340, 0, 0, RM_CUPTI_NO_PART, 0, 0 },
    };
    assert_int_equal(s.n, RM_COUNT(want));
    for (size_t i = 0; i < s.n; i++) {
        const rm_cupti_record *r = &s.at[i];
        assert_string_equal(name(&log, r), want[i].name);
        assert_int_equal(r->kind, want[i].kind);
        assert_int_equal(r->begin_ns, want[i].begin);
        assert_int_equal(r->end_ns, want[i].end);
        assert_int_equal(r->correlation, want[i].correlation);
        assert_int_equal(r->stream, want[i].stream);
        assert_int_equal(r->of.part, want[i].part);
        assert_int_equal(r->of.index, want[i].index);
        assert_int_equal(r->bytes, want[i].bytes);
    }
    assert_int_equal(s.overhead_ns, 40);
    assert_int_equal(s.unattributed + s.untimed + s.cut, 0);
    rm_cupti_log_free(&log);
}

/* What a call is called, without the version that it has in the library. */
static void calls_have_no_versions(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer b = { .n = 0 };
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_DRIVER_TRACE_CBID_cuMemcpyHtoDAsync_v2, 14, 151, 158);
    cupti_put_copy(&b, 14, 14, 3, 160, 170, 4096);
    const rm_cupti_step s = step_of(&log, &b);
    assert_int_equal(s.n, 2);
    assert_string_equal(name(&log, &s.at[0]), "cuMemcpyHtoDAsync");
    rm_cupti_log_free(&log);
}

/* The runtime's call and the driver's call in it: one launch, the outer. Either may be what a record names, and what was pushed is known by. */
static void nested_calls_are_one_launch(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer b = { .n = 0 };
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel, 21, 102, 108);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000, 21, 100, 110);
    cupti_put_pushed(&b, 21, RM_CUPTI_NODE, 1);
    cupti_put_pushed(&b, 21, RM_CUPTI_NODE, 1);
    cupti_put_kernel(&b, "k", 21, 7, 120, 130);
    cupti_put_pushed(&b, 30, RM_CUPTI_BATCH, 0); /* by the runtime's call alone */
    cupti_put_copy(&b, 31, 30, 7, 140, 150, 1);
    const rm_cupti_step s = step_of(&log, &b);
    assert_int_equal(s.n, 3);
    assert_string_equal(name(&log, &s.at[0]), "cudaLaunchKernel");
    assert_int_equal(s.at[1].of.part, RM_CUPTI_NODE);
    assert_int_equal(s.at[2].of.part, RM_CUPTI_BATCH);
    rm_cupti_log_free(&log);
}

/* Records come per thread, so that what belongs together may lie in several buffers, in any order. */
static void across_buffers(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer one = { .n = 0 }, two = { .n = 0 };
    rm_cupti_step s;
    cupti_put_kernel(&one, "late", 3, 7, 500, 600);
    cupti_put_kernel(&one, "early", 2, 8, 100, 550);
    cupti_put_pushed(&two, 2, RM_CUPTI_NODE, 20);
    cupti_put_pushed(&two, 3, RM_CUPTI_NODE, 30);
    assert_int_equal(rm_cupti_log_read(&log, one.bytes, one.n), RM_OK);
    assert_int_equal(rm_cupti_log_read(&log, two.bytes, two.n), RM_OK);
    assert_int_equal(rm_cupti_log_step(&log, &same, &s), RM_OK);
    assert_int_equal(s.n, 2);
    assert_string_equal(name(&log, &s.at[0]), "early");
    assert_int_equal(s.at[0].of.index, 20);
    assert_int_equal(s.at[1].of.index, 30);
    /* The step after has nothing of this one. */
    assert_int_equal(rm_cupti_log_step(&log, &same, &s), RM_OK);
    assert_int_equal(s.n, 0);
    rm_cupti_log_free(&log);
}

static void graph_kernels_are_part_of_nothing(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer b = { .n = 0 };
    cupti_put_pushed(&b, 11, RM_CUPTI_NODE, 5);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_v10000, 11, 100, 110);
    cupti_put_kernel(&b, "a", 11, 7, 120, 130)->graphNodeId = 77;
    cupti_put_kernel(&b, "b", 11, 7, 130, 140)->graphNodeId = 78;
    cupti_put_kernel(&b, "nobody's", 40, 7, 150, 160);
    const rm_cupti_step s = step_of(&log, &b);
    assert_int_equal(s.n, 4);
    assert_int_equal(s.unattributed, 3);
    assert_int_equal(s.at[1].graph_node, 77);
    for (size_t i = 0; i < s.n; i++) assert_int_equal(s.at[i].of.part, RM_CUPTI_NO_PART);
    rm_cupti_log_free(&log);
}

static void zero_times_are_missing(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer b = { .n = 0 };
    cupti_put_kernel(&b, "a", 1, 7, 0, 0);
    cupti_put_copy(&b, 2, 2, 7, 0, 0, 8);
    cupti_put_fill(&b, 3, 7, 0, 0, 8);
    cupti_put_kernel(&b, "b", 4, 7, 5, 6);
    cupti_put_call(&b, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000, 4, 0, 0);
    const rm_cupti_step s = step_of(&log, &b);
    assert_int_equal(s.untimed, 3);
    assert_int_equal(s.n, 1);
    rm_cupti_log_free(&log);
}

static void other_kinds_and_other_tools(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer b = { .n = 0 };
    CUpti_ActivityName *other = cupti_put(&b, sizeof *other);
    other->kind = CUPTI_ACTIVITY_KIND_NAME;
    cupti_put_pushed(&b, 1, RM_CUPTI_NODE, 3)->externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM1;
    cupti_put_kernel(&b, "k", 1, 7, 5, 6);
    const rm_cupti_step s = step_of(&log, &b);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.at[0].of.part, RM_CUPTI_NO_PART);
    assert_int_equal(s.cut, 0);
    rm_cupti_log_free(&log);
}

static void cut_buffers_are_counted(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    cupti_buffer b = { .n = 0 };
    cupti_put_kernel(&b, "whole", 1, 7, 5, 6);
    const size_t whole = b.n;
    cupti_put_kernel(&b, "half", 2, 7, 7, 8);
    b.n -= sizeof(CUpti_ActivityKernel10) / 2;
    rm_cupti_step s = step_of(&log, &b);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.cut, 1);
    b.n = whole; /* a kind that CUPTI itself does not know ends the walk */
    ((CUpti_Activity *)cupti_put(&b, 64))->kind = (CUpti_ActivityKind)9999;
    cupti_put_kernel(&b, "behind it", 3, 7, 9, 10);
    s = step_of(&log, &b);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.cut, 1);
    b.n = whole;
    assert_int_equal(step_of(&log, &b).cut, 0);
    rm_cupti_log_free(&log);
}

/* Code was unloaded, and other code has its name where the first had its own. */
static void names_are_copied(void **state)
{
    (void)state;
    rm_cupti_log log = { 0 };
    char text[] = "first";
    cupti_buffer b = { .n = 0 };
    cupti_put_kernel(&b, text, 1, 7, 1, 2);
    assert_int_equal(rm_cupti_log_read(&log, b.bytes, b.n), RM_OK);
    memcpy(text, "other", sizeof text);
    assert_int_equal(rm_cupti_log_read(&log, b.bytes, b.n), RM_OK);
    rm_cupti_step s;
    assert_int_equal(rm_cupti_log_step(&log, &same, &s), RM_OK);
    assert_int_equal(log.n_text, 2);
    assert_string_not_equal(name(&log, &s.at[0]), name(&log, &s.at[1]));
    rm_cupti_log_free(&log);
}

static void clocks_drift(void **state)
{
    (void)state;
    /* 100 s apart, and ours is 20 ppm faster. */
    const rm_cupti_clock c = { { 5000000000u, 9000000000u }, { 105000000000u, 109002000000u } };
    assert_int_equal(rm_cupti_now(&c, c.before.raw_ns), c.before.now_ns);
    assert_int_equal(rm_cupti_now(&c, c.after.raw_ns), c.after.now_ns);
    assert_int_equal(rm_cupti_now(&c, 55000000000u), 59001000000u);
    assert_int_equal(rm_cupti_now(&c, 4000000000u), 8000000000u - 20000u);
    const rm_cupti_clock none = { { 7, 70 }, { 7, 70 } };
    assert_int_equal(rm_cupti_now(&none, 9), 72);
}

/* Here, or on a GPU: it opens, or says in words why it does not, and can be tried again. */
static void opens_or_says_why(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        rm_cupti *c = NULL;
        rm_cupti_step s;
        if (rm_cupti_open(&c) == RM_OK) {
            rm_cupti *second;
            assert_int_equal(rm_cupti_open(&second), RM_E_UNSUPPORTED);
            assert_int_equal(rm_cupti_flush(c, &s), RM_OK);
            rm_cupti_close(c);
            continue;
        }
        assert_null(c);
        assert_non_null(strstr(rm_last_error(), "CUPTI cannot "));
        assert_null(strstr(rm_last_error(), "see CUPTI's documentation"));
    }
    rm_cupti_push(NULL, RM_CUPTI_NODE, 1);
    rm_cupti_pop(NULL);
    rm_cupti_close(NULL);
    assert_true(rm_cupti_in_build());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind), cmocka_unit_test(calls_have_no_versions), cmocka_unit_test(nested_calls_are_one_launch), cmocka_unit_test(across_buffers),
        cmocka_unit_test(graph_kernels_are_part_of_nothing), cmocka_unit_test(zero_times_are_missing), cmocka_unit_test(other_kinds_and_other_tools),
        cmocka_unit_test(cut_buffers_are_counted), cmocka_unit_test(names_are_copied), cmocka_unit_test(clocks_drift), cmocka_unit_test(opens_or_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
