/* profiler/cupti.h on the doubles: every kernel, copy and fill comes back on its stream as part of what was pushed when it was enqueued, or the
 * step says that it is not whole. And the double finds what it says that it finds. */
#include "profiler/cupti.h"
#include "tests/cuda/doubles/doubles.h"
#include "base/clock.h"
#include <cupti.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BYTES = 4096, KERNELS = 40, HEAD = 64 };

typedef struct fixture { cudaStream_t stream[2]; void *device[2], *host; cudaEvent_t event; rm_cupti *cupti; } fixture;

static void cuda_ok(cudaError_t e) { assert_int_equal(e, cudaSuccess); }

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    unsetenv("RM_DOUBLES_FAULTS");
    for (int i = 0; i < 2; i++) {
        cuda_ok(cudaStreamCreateWithFlags(&f->stream[i], cudaStreamNonBlocking));
        cuda_ok(cudaMalloc(&f->device[i], BYTES));
    }
    cuda_ok(cudaHostAlloc(&f->host, BYTES, cudaHostAllocDefault));
    cuda_ok(cudaEventCreate(&f->event));
    memset(f->host, 0, BYTES);
    dbl_findings_clear();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    rm_cupti_close(f->cupti);
    assert_int_equal(dbl_findings(), 0);
    for (int i = 0; i < 2; i++) {
        cuda_ok(cudaStreamDestroy(f->stream[i]));
        cuda_ok(cudaFree(f->device[i]));
    }
    cuda_ok(cudaFreeHost(f->host));
    cuda_ok(cudaEventDestroy(f->event));
    free(f);
    return 0;
}

static void open_with(fixture *f, const char *faults)
{
    if (faults) setenv("RM_DOUBLES_FAULTS", faults, 1);
    assert_int_equal(rm_cupti_open(&f->cupti), RM_OK);
}

static void sync(const fixture *f)
{
    cuda_ok(cudaStreamSynchronize(f->stream[0]));
    cuda_ok(cudaStreamSynchronize(f->stream[1]));
}

static rm_cupti_step flush(fixture *f)
{
    rm_cupti_step s;
    sync(f);
    assert_int_equal(rm_cupti_flush(f->cupti, &s), RM_OK);
    return s;
}

static bool nothing(void *ctx) { (void)ctx; return true; }

static void kernel(const fixture *f, int stream, const char *name)
{
    const dbl_touch t = { f->device[stream], BYTES, true };
    const dbl_work w = { .name = name, .kind = DBL_KERNEL, .run = nothing, .touch = &t, .n_touch = 1 };
    cuda_ok(dbl_enqueue(f->stream[stream], &w));
}

static void part(fixture *f, rm_cupti_part p, uint32_t index, int stream, const char *name)
{
    rm_cupti_push(f->cupti, p, index);
    kernel(f, stream, name);
    rm_cupti_pop(f->cupti);
}

/* A step: a batch on one stream, nodes of one or two kernels beside each other's streams, all-reduces on the second, events between. */
static void step(fixture *f)
{
    rm_cupti_push(f->cupti, RM_CUPTI_BATCH, 0);
    cuda_ok(cudaMemcpyAsync(f->device[1], f->host, BYTES, cudaMemcpyDefault, f->stream[1]));
    rm_cupti_pop(f->cupti);
    for (uint32_t i = 0; i < KERNELS; i++) {
        rm_cupti_push(f->cupti, RM_CUPTI_NODE, i);
        kernel(f, 0, "forward");
        if (i % 2) kernel(f, 0, "forward, second");
        rm_cupti_pop(f->cupti);
        cuda_ok(cudaEventRecord(f->event, f->stream[0]));
        if (i % 10 == 9) part(f, RM_CUPTI_BUCKET, i / 10, 1, "ncclDevKernel_AllReduce");
    }
    cuda_ok(cudaMemsetAsync(f->device[0], 0, 128, f->stream[0]));
    part(f, RM_CUPTI_UPDATE, 3, 0, "update");
}

static size_t count(const rm_cupti_step *s, rm_cupti_kind kind, rm_cupti_part p)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += s->at[i].kind == kind && s->at[i].of.part == p;
    return n;
}

static void check_step(const fixture *f, const rm_cupti_step *s, uint64_t begin, uint64_t end)
{
    assert_int_equal(count(s, RM_CUPTI_KERNEL, RM_CUPTI_NODE), KERNELS * 3 / 2);
    assert_int_equal(count(s, RM_CUPTI_KERNEL, RM_CUPTI_BUCKET), KERNELS / 10);
    assert_int_equal(count(s, RM_CUPTI_KERNEL, RM_CUPTI_UPDATE), 1);
    assert_int_equal(count(s, RM_CUPTI_COPY, RM_CUPTI_BATCH), 1);
    assert_int_equal(count(s, RM_CUPTI_FILL, RM_CUPTI_NO_PART), 1);
    assert_int_equal(s->unattributed + s->dropped + s->untimed + s->cut, 0);
    uint32_t launches = 0, node = 0;
    for (size_t i = 0; i < s->n; i++) {
        const rm_cupti_record *r = &s->at[i];
        if (r->kind == RM_CUPTI_OVERHEAD) continue;
        assert_true(r->begin_ns >= begin && r->end_ns <= end && (!i || r->begin_ns >= s->at[i - 1].begin_ns));
        launches += r->kind == RM_CUPTI_LAUNCH;
        if (r->kind != RM_CUPTI_KERNEL) continue;
        /* Which kernel of the stream it is says which node: the two streams differ, and a node has its second on the odd. */
        if (r->of.part == RM_CUPTI_NODE) {
            const bool second = !strcmp(rm_cupti_name(f->cupti, r->name), "forward, second");
            assert_int_equal(r->of.index, second ? node - 1 : node);
            node += !second;
        }
        if (r->of.part == RM_CUPTI_BUCKET) assert_string_equal(rm_cupti_name(f->cupti, r->name), "ncclDevKernel_AllReduce");
        if (r->of.part == RM_CUPTI_UPDATE) assert_int_equal(r->of.index, 3);
    }
    assert_int_equal(node, KERNELS);
    assert_int_equal(launches, count(s, RM_CUPTI_KERNEL, RM_CUPTI_NODE) + KERNELS / 10 + 1 + 1 + 1); /* one each, none for the events */
}

static void all_is_attributed(void **state)
{
    fixture *f = *state;
    open_with(f, NULL);
    for (int i = 0; i < 3; i++) {
        const uint64_t begin = rm_now_ns();
        step(f);
        sync(f);
        const uint64_t end = rm_now_ns();
        const rm_cupti_step s = flush(f);
        check_step(f, &s, begin - 2000, end + 2000); /* the clocks are read a little apart */
    }
    const rm_cupti_step none = flush(f);
    assert_int_equal(none.n, count(&none, RM_CUPTI_OVERHEAD, RM_CUPTI_NO_PART));
    assert_true(none.overhead_ns > 0); /* the flush before */
}

/* A launch and its work share a correlation, also where the runtime's and the driver's differ. */
static void launches_belong_to_their_work(void **state)
{
    fixture *f = *state;
    open_with(f, NULL);
    step(f);
    const rm_cupti_step s = flush(f);
    for (size_t i = 0; i < s.n; i++) {
        const rm_cupti_record *w = &s.at[i];
        size_t n = 0;
        if (w->kind == RM_CUPTI_OVERHEAD || w->kind == RM_CUPTI_LAUNCH) continue;
        for (size_t k = 0; k < s.n; k++) {
            const rm_cupti_record *l = &s.at[k];
            if (l->kind != RM_CUPTI_LAUNCH || l->correlation != w->correlation) continue;
            const char *name = rm_cupti_name(f->cupti, l->name);
            n++;
            assert_true(l->begin_ns <= w->begin_ns);
            assert_int_equal(l->of.part, w->of.part);
            assert_string_equal(name, w->kind == RM_CUPTI_COPY ? "cudaMemcpyAsync" : w->kind == RM_CUPTI_FILL ? "cudaMemsetAsync" : "cuLaunchKernelEx");
        }
        assert_int_equal(n, 1);
    }
}

/* Buffers that hold few records come back all the time. */
static void small_buffers(void **state)
{
    fixture *f = *state;
    open_with(f, "cupti-small:600");
    const uint64_t begin = rm_now_ns();
    step(f);
    sync(f);
    const uint64_t end = rm_now_ns();
    const rm_cupti_step s = flush(f);
    check_step(f, &s, begin - 2000, end + 2000);
}

static void what_is_not_whole_says_so(void **state)
{
    fixture *f = *state;
    static const struct { const char *fault; bool dropped, untimed; } rows[] = {
        { "cupti-drop:10", true, false }, { "cupti-zero:3", false, true }, { "cupti-nobuffer", true, false }, { "cupti-drop:70", false, false },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        open_with(f, rows[i].fault);
        step(f);
        rm_cupti_step s = flush(f);
        assert_int_equal(s.dropped > 0, rows[i].dropped);
        assert_int_equal(s.untimed > 0, rows[i].untimed);
        unsetenv("RM_DOUBLES_FAULTS");
        step(f);
        s = flush(f); /* the step after is whole again */
        assert_int_equal(s.dropped + s.untimed, 0);
        assert_int_equal(count(&s, RM_CUPTI_KERNEL, RM_CUPTI_NODE), KERNELS * 3 / 2);
        rm_cupti_close(f->cupti);
        f->cupti = NULL;
    }
}

static void another_profiler(void **state)
{
    fixture *f = *state;
    setenv("RM_DOUBLES_FAULTS", "cupti-39", 1);
    assert_int_equal(rm_cupti_open(&f->cupti), RM_E_UNSUPPORTED);
    assert_non_null(strstr(rm_last_error(), "another profiler watches this process already"));
    assert_null(f->cupti);
    unsetenv("RM_DOUBLES_FAULTS");
    open_with(f, NULL); /* it is gone */
}

static void paused_is_silent(void **state)
{
    fixture *f = *state;
    open_with(f, NULL);
    assert_int_equal(rm_cupti_pause(f->cupti, true), RM_OK);
    step(f);
    rm_cupti_step s = flush(f);
    assert_int_equal(s.n, 0);
    assert_int_equal(rm_cupti_pause(f->cupti, false), RM_OK);
    step(f);
    s = flush(f);
    assert_int_equal(count(&s, RM_CUPTI_KERNEL, RM_CUPTI_NODE), KERNELS * 3 / 2);
}

/* What a thread enqueues on which nothing was pushed, as a communicator's, is part of nothing, and so is a replayed graph's. */
static void a_graph_is_part_of_nothing(void **state)
{
    fixture *f = *state;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    open_with(f, NULL);
    cuda_ok(cudaStreamBeginCapture(f->stream[0], cudaStreamCaptureModeThreadLocal));
    part(f, RM_CUPTI_NODE, 1, 0, "a");
    part(f, RM_CUPTI_NODE, 2, 0, "b");
    cuda_ok(cudaStreamEndCapture(f->stream[0], &graph));
    cuda_ok(cudaGraphInstantiate(&exec, graph, 0));
    rm_cupti_push(f->cupti, RM_CUPTI_NODE, 7);
    cuda_ok(cudaGraphLaunch(exec, f->stream[0]));
    rm_cupti_pop(f->cupti);
    const rm_cupti_step s = flush(f);
    assert_int_equal(s.unattributed, 2);
    assert_int_equal(count(&s, RM_CUPTI_KERNEL, RM_CUPTI_NO_PART), 2);
    for (size_t i = 0; i < s.n; i++)
        if (s.at[i].kind == RM_CUPTI_KERNEL) assert_true(s.at[i].graph_node != 0);
    cuda_ok(cudaGraphExecDestroy(exec));
    cuda_ok(cudaGraphDestroy(graph));
}

/* A step that failed between push and pop. */
static void closes_with_something_pushed(void **state)
{
    fixture *f = *state;
    open_with(f, NULL);
    rm_cupti_push(f->cupti, RM_CUPTI_NODE, 1);
    kernel(f, 0, "k");
    sync(f);
    rm_cupti_close(f->cupti);
    f->cupti = NULL;
}

/* ---- the double itself */
static uint64_t CUPTIAPI clock_of_a_client(void) { return rm_now_ns(); }
static uint8_t memory[2][1 << 16] __attribute__((aligned(64)));
static int mode, given; /* 0: all is well */
enum { WELL, DIRTY, MISALIGNED, TWICE };

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *most)
{
    uint8_t *m = memory[mode == TWICE ? 0 : given++ % 2];
    memset(m, 0, sizeof memory[0]);
    if (mode == DIRTY) m[4000] = 1;
    *buffer = m + (mode == MISALIGNED ? 4 : 0);
    *size = sizeof memory[0] - 64;
    *most = 0;
}

static void CUPTIAPI take(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid)
{
    (void)context; (void)stream; (void)buffer; (void)size; (void)valid;
}

static void cupti_ok(CUptiResult r) { assert_int_equal(r, CUPTI_SUCCESS); }

static void begin_as(int how)
{
    uint8_t yes = 1;
    size_t n = 1;
    mode = how;
    cupti_ok(cuptiActivitySetAttribute(CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER, &n, &yes));
    cupti_ok(cuptiActivityRegisterTimestampCallback(clock_of_a_client));
    cupti_ok(cuptiActivityRegisterCallbacks(give, take));
    cupti_ok(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    cupti_ok(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_RUNTIME));
    cupti_ok(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_DRIVER));
}

static unsigned end_and_count(fixture *f)
{
    sync(f);
    cupti_ok(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED));
    cupti_ok(cuptiFinalize());
    const unsigned n = dbl_findings();
    dbl_findings_clear();
    return n;
}

static void bad_buffers_are_found(void **state)
{
    fixture *f = *state;
    for (int how = WELL; how <= TWICE; how++) {
        begin_as(how);
        kernel(f, 0, "k");
        const unsigned n = end_and_count(f);
        assert_int_equal(n > 0, how != WELL);
    }
}

static void bad_order_is_found(void **state)
{
    fixture *f = *state;
    cupti_ok(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_OVERHEAD)); /* no clock, no buffers */
    assert_int_equal(dbl_findings(), 1);
    cupti_ok(cuptiFinalize());
    dbl_findings_clear();

    begin_as(WELL);
    cupti_ok(cuptiActivityRegisterTimestampCallback(clock_of_a_client));
    assert_int_equal(end_and_count(f), 1);

    begin_as(WELL);
    cupti_ok(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_KERNEL));
    assert_int_equal(end_and_count(f), 1);

    begin_as(WELL);
    kernel(f, 0, "k");
    cupti_ok(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED)); /* it still has to run */
    assert_int_equal(end_and_count(f), 1);

    begin_as(WELL);
    kernel(f, 0, "k");
    sync(f);
    cupti_ok(cuptiFinalize()); /* without a flush */
    assert_true(dbl_findings() > 0);
    dbl_findings_clear();
}

static void unbalanced_pushes_are_found(void **state)
{
    fixture *f = *state;
    begin_as(WELL);
    cupti_ok(cuptiActivityPushExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, 1));
    cupti_ok(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED));
    assert_int_equal(dbl_findings(), 1);
    cupti_ok(cuptiActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, NULL));
    assert_int_equal(cuptiActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, NULL), CUPTI_ERROR_QUEUE_EMPTY);
    assert_int_equal(end_and_count(f), 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_is_attributed), TEST(launches_belong_to_their_work), TEST(small_buffers), TEST(what_is_not_whole_says_so), TEST(another_profiler),
        TEST(paused_is_silent), TEST(a_graph_is_part_of_nothing), TEST(closes_with_something_pushed), TEST(bad_buffers_are_found), TEST(bad_order_is_found),
        TEST(unbalanced_pushes_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
