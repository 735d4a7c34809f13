/* The double of the CUDA runtime: each thing that it is to find is planted, and found; the twin without it is clean. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/cuda/kernels.h"
#include "tests/cuda/doubles/child.h"

enum { N = 4096, BYTES = N * sizeof(float) };
static cudaStream_t a, b;
static cudaEvent_t e, f;
static float *x, *y, *z, *pinned;
static float host[N];

static void set_up(void)
{
    GOOD(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    GOOD(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    GOOD(cudaEventCreate(&e));
    GOOD(cudaEventCreate(&f));
    GOOD(cudaMalloc((void **)&x, BYTES));
    GOOD(cudaMalloc((void **)&y, BYTES));
    GOOD(cudaMalloc((void **)&z, BYTES));
    GOOD(cudaMallocHost((void **)&pinned, BYTES));
    for (int i = 0; i < N; i++) pinned[i] = host[i] = (float)i;
    GOOD(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, a));
    GOOD(cudaStreamSynchronize(a));
}
static void relu(const float *from, float *to, cudaStream_t s) { GOOD(rm_cuda_relu(RM_CUDA_F32, N, from, to, s)); }
static void after(cudaStream_t later, cudaStream_t first, cudaEvent_t event)
{
    GOOD(cudaEventRecord(event, first));
    GOOD(cudaStreamWaitEvent(later, event, 0));
}
static void finish(void) { GOOD(cudaDeviceSynchronize()); }

/* ---- planted, and the twin */
static void write_read(bool fine)
{
    relu(x, y, a);
    if (fine) after(b, a, e);
    relu(y, z, b);
    finish();
}
static void read_write(bool fine)
{
    GOOD(cudaMemcpyAsync(host, x, BYTES, cudaMemcpyDeviceToHost, a));
    if (fine) after(b, a, e);
    GOOD(cudaMemsetAsync(x, 0, BYTES, b));
    finish();
}
static void write_write(bool fine)
{
    relu(x, y, a);
    if (fine) after(b, a, e);
    GOOD(cudaMemsetAsync(y, 0, BYTES, b));
    finish();
}
static void source_changed(bool fine)
{
    GOOD(cudaMemcpyAsync(y, pinned, BYTES, cudaMemcpyHostToDevice, a));
    if (fine) GOOD(cudaStreamSynchronize(a));
    pinned[17] = -1;
    finish();
}
static void shared_workspace(bool fine)
{
    float *ws;
    GOOD(cudaMalloc((void **)&ws, 1 << 16));
    GOOD(cudaMemsetAsync(y, 0, BYTES, a));
    after(b, a, f);
    GOOD(rm_cuda_softmax_xent(RM_CUDA_F32, 64, 32, 0, 1, x, (const int32_t *)y, ws + 8192, z, ws, a));
    GOOD(rm_cuda_softmax_xent(RM_CUDA_F32, 64, 32, 0, 1, x + 2048, (const int32_t *)y, ws + 9216, z + 2048, fine ? ws + 1024 : ws, b));
    finish();
}
static void old_record(bool fine)
{
    if (!fine) GOOD(cudaEventRecord(e, a));
    relu(x, y, a);
    if (fine) GOOD(cudaEventRecord(e, a));
    GOOD(cudaStreamWaitEvent(b, e, 0));
    relu(y, z, b);
    finish();
}
static void used_after_free(bool fine)
{
    relu(x, y, a);
    if (fine) finish();
    GOOD(cudaFree(y));
    if (!fine) MUST(cudaStreamSynchronize(a) == cudaErrorIllegalAddress);
    if (!fine) MUST(cudaStreamSynchronize(b) == cudaErrorIllegalAddress);
}
static void freed_unknown(bool fine)
{
    relu(x, y, a);
    relu(x, z, a);
    MUST(cudaStreamQuery(a) == cudaErrorNotReady); /* one of them has run */
    if (fine) finish();
    GOOD(cudaFree(y));
}
static void outside(bool fine)
{
    GOOD(rm_cuda_relu(RM_CUDA_F32, fine ? N : N + 1, x, y, a));
    MUST(cudaStreamSynchronize(a) == (fine ? cudaSuccess : cudaErrorIllegalAddress));
}
static void other_gpu(bool fine)
{
    cudaStream_t s;
    GOOD(cudaSetDevice(fine ? 0 : 1));
    GOOD(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    GOOD(rm_cuda_relu(RM_CUDA_F32, N, x, y, s));
    MUST(cudaStreamSynchronize(s) == (fine ? cudaSuccess : cudaErrorIllegalAddress));
}
static void begin(void) { GOOD(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal)); }
static cudaGraphExec_t end(void)
{
    cudaGraph_t g;
    cudaGraphExec_t exec;
    GOOD(cudaStreamEndCapture(a, &g));
    GOOD(cudaGraphInstantiate(&exec, g, 0));
    GOOD(cudaGraphDestroy(g));
    return exec;
}
static void inside_a_graph(bool fine)
{
    begin();
    relu(x, y, a);
    after(b, a, e);
    relu(y, z, b);
    GOOD(cudaEventRecord(f, b));
    if (fine) GOOD(cudaStreamWaitEvent(a, f, 0));
    GOOD(cudaMemsetAsync(z, 0, BYTES, a));
    if (!fine) GOOD(cudaStreamWaitEvent(a, f, 0));
    cudaGraphExec_t exec = end();
    MUST(dbl_findings() == 0);
    GOOD(cudaGraphLaunch(exec, a));
    GOOD(cudaGraphLaunch(exec, a));
    finish();
    GOOD(cudaGraphExecDestroy(exec));
}
static void beside_a_graph(bool fine)
{
    begin();
    relu(x, y, a);
    GOOD(cudaEventRecordWithFlags(e, a, cudaEventRecordExternal));
    cudaGraphExec_t exec = end();
    GOOD(cudaGraphLaunch(exec, a));
    if (fine) GOOD(cudaStreamWaitEvent(b, e, 0));
    relu(y, z, b);
    finish();
}
static void graph_waits_outside(bool fine)
{
    relu(x, y, b);
    GOOD(cudaEventRecord(e, b));
    begin();
    if (fine) GOOD(cudaStreamWaitEvent(a, e, cudaEventWaitExternal));
    relu(y, z, a);
    cudaGraphExec_t exec = end();
    GOOD(cudaGraphLaunch(exec, a));
    finish();
}
static void graph_source_changed(bool fine)
{
    begin();
    GOOD(cudaMemcpyAsync(y, pinned, BYTES, cudaMemcpyHostToDevice, a));
    cudaGraphExec_t exec = end();
    pinned[5] = -5; /* what it has when it is launched counts */
    GOOD(cudaGraphLaunch(exec, a));
    if (!fine) pinned[5] = -6;
    finish();
}

static const struct {
    const char *name;
    void (*fn)(bool fine);
    const char *finding;
} planted[] = {
    { "read without waiting for the write", write_read, "nothing orders the two" },
    { "write without waiting for the read", read_write, "nothing orders the two" },
    { "write without waiting for the write", write_write, "nothing orders the two" },
    { "source overwritten while it is copied", source_changed, "overwritten too early" },
    { "workspace of two streams", shared_workspace, "nothing orders the two" },
    { "wait for an older record", old_record, "nothing orders the two" },
    { "freed and then used", used_after_free, "freed device block" },
    { "freed, and the host does not know that it is done with", freed_unknown, "freed too early" },
    { "outside of a block", outside, "out of bounds" },
    { "memory of another GPU", other_gpu, "wrong GPU" },
    { "dependency missing in a graph", inside_a_graph, "nothing orders the two" },
    { "no wait for an event of a graph", beside_a_graph, "nothing orders the two" },
    { "a graph does not wait for what is outside", graph_waits_outside, "nothing orders the two" },
    { "source overwritten while a graph copies it", graph_source_changed, "overwritten too early" },
};
static size_t at;
static void run_wrong(void)
{
    set_up();
    planted[at].fn(false);
}
static void run_fine(void)
{
    set_up();
    planted[at].fn(true);
}

static void what_is_planted_is_found(void **state)
{
    static const char *const seeds[] = { "RM_DOUBLES_SEED=0", "RM_DOUBLES_SEED=1", "RM_DOUBLES_SEED=2", "RM_DOUBLES_SEED=7" };
    for (at = 0; at < sizeof planted / sizeof *planted; at++)
        for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++) {
            in_child(planted[at].name, run_wrong, seeds[s], planted[at].finding);
            in_child(planted[at].name, run_fine, seeds[s], NULL);
        }
}

/* ---- laziness: what the host does too early is wrong every time */
static void early(void)
{
    set_up();
    relu(x, y, a);
    GOOD(cudaMemcpyAsync(pinned, y, BYTES, cudaMemcpyDeviceToHost, a));
    pinned[9] = -1;
    GOOD(cudaEventRecord(e, a));
    MUST(pinned[9] == -1);
    MUST(cudaEventQuery(e) == cudaErrorNotReady);
    MUST(cudaGetLastError() == cudaErrorNotReady); /* as with the real one */
    MUST(pinned[9] == -1);
    GOOD(cudaEventSynchronize(e));
    MUST(pinned[9] == 9);
    memset(host, 0, sizeof host);
    GOOD(cudaMemcpyAsync(y, host, BYTES, cudaMemcpyHostToDevice, a));
    memset(host, 1, sizeof host); /* pageable: it was read at the call */
    GOOD(cudaMemcpyAsync(pinned, y, BYTES, cudaMemcpyDeviceToHost, a));
    GOOD(cudaStreamSynchronize(a));
    MUST(pinned[9] == 0);
}

static void new_memory(void)
{
    void *p, *q;
    size_t before, now, all;
    set_up();
    GOOD(cudaMemcpy(host, y, BYTES, cudaMemcpyDeviceToHost));
    MUST(host[0] != host[0]); /* not a number */
    GOOD(cudaMemGetInfo(&before, &all));
    GOOD(cudaMalloc(&p, (size_t)40 << 30)); /* takes nothing until it is touched */
    GOOD(cudaMemGetInfo(&now, &all));
    MUST(before - now >= (size_t)40 << 30 && before - now < (size_t)41 << 30);
    MUST(cudaMalloc(&q, (size_t)60 << 30) == cudaErrorMemoryAllocation);
    MUST(q == NULL && cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
    GOOD(cudaFree(p));
    MUST(cudaFree(p) == cudaErrorInvalidValue);
    GOOD(cudaMemGetInfo(&now, &all));
    MUST(before == now);
}

/* The legacy stream and blocking streams wait for each other; a non-blocking one does not. */
static void legacy(void)
{
    cudaStream_t blocking;
    set_up();
    GOOD(cudaStreamCreate(&blocking));
    relu(x, y, blocking);
    relu(y, z, NULL);
    relu(z, y, blocking);
    finish();
    MUST(dbl_findings() == 0);
    relu(x, y, NULL);
    relu(y, z, a);
    finish();
    MUST(dbl_findings() == 1);
    dbl_findings_clear();
}

static void times(void)
{
    float ms = -1;
    set_up();
    GOOD(cudaEventRecord(e, a));
    relu(x, y, a);
    GOOD(cudaEventRecord(f, a));
    MUST(cudaEventElapsedTime(&ms, e, f) == cudaErrorNotReady);
    GOOD(cudaEventSynchronize(f));
    GOOD(cudaEventElapsedTime(&ms, e, f));
    MUST(ms > 0);
    GOOD(cudaEventElapsedTime(&ms, f, e));
    MUST(ms < 0);
}

static void laziness(void **state)
{
    in_child("early", early, NULL, NULL);
    in_child("new memory", new_memory, NULL, NULL);
    in_child("legacy stream", legacy, NULL, NULL);
    in_child("times", times, NULL, NULL);
}

/* ---- capture */
#define ENDS_WITH(error)                                                                                                                                \
    do {                                                                                                                                                \
        cudaGraph_t g_ = NULL;                                                                                                                          \
        MUST(cudaStreamEndCapture(a, &g_) == (error));                                                                                                  \
        MUST(!g_);                                                                                                                                      \
    } while (0)

static void capture_rules(void)
{
    void *p;
    enum cudaStreamCaptureStatus status;
    cudaGraph_t g;
    set_up();
    begin();
    after(b, a, e);
    relu(x, y, b);
    ENDS_WITH(cudaErrorStreamCaptureUnjoined);
    GOOD(cudaStreamIsCapturing(b, &status));
    MUST(status == cudaStreamCaptureStatusNone);
    begin();
    MUST(cudaStreamSynchronize(a) == cudaErrorStreamCaptureUnsupported);
    MUST(rm_cuda_relu(RM_CUDA_F32, N, x, y, a) == cudaErrorStreamCaptureInvalidated);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    begin();
    MUST(cudaStreamQuery(a) == cudaErrorStreamCaptureUnsupported);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    begin();
    MUST(cudaMalloc(&p, 4096) == cudaErrorStreamCaptureUnsupported);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    begin();
    MUST(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, a) == cudaErrorStreamCaptureUnsupported);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    GOOD(cudaEventRecord(f, b));
    begin();
    MUST(cudaStreamWaitEvent(a, f, 0) == cudaErrorStreamCaptureIsolation);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    begin();
    GOOD(cudaEventRecord(f, a));
    MUST(cudaEventQuery(f) == cudaErrorCapturedEvent);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    MUST(cudaStreamWaitEvent(b, f, 0) == cudaErrorCapturedEvent);
    begin();
    after(b, a, e);
    MUST(cudaStreamEndCapture(b, &g) == cudaErrorStreamCaptureUnmatched);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    begin();
    GOOD(cudaStreamBeginCapture(b, cudaStreamCaptureModeThreadLocal));
    GOOD(cudaEventRecord(e, a));
    MUST(cudaStreamWaitEvent(b, e, 0) == cudaErrorStreamCaptureMerge);
    MUST(cudaStreamEndCapture(b, &g) == cudaErrorStreamCaptureInvalidated);
    ENDS_WITH(cudaErrorStreamCaptureInvalidated);
    MUST(cudaStreamEndCapture(a, &g) == cudaErrorIllegalState);
    MUST(cudaEventRecordWithFlags(e, a, cudaEventRecordExternal) == cudaErrorInvalidValue);
    MUST(cudaGetLastError() == cudaErrorInvalidValue);
    relu(x, y, a); /* nothing of all that is left */
    finish();
}

static void replay(void)
{
    cudaGraph_t g;
    size_t n = 0;
    set_up();
    GOOD(cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal));
    GOOD(cudaMemcpyAsync(x, pinned, BYTES, cudaMemcpyHostToDevice, a));
    relu(x, y, a);
    GOOD(cudaMemcpyAsync(pinned + N / 2, y, BYTES / 2, cudaMemcpyDeviceToHost, a));
    GOOD(cudaEventRecordWithFlags(e, a, cudaEventRecordExternal));
    GOOD(cudaStreamEndCapture(a, &g));
    GOOD(cudaGraphGetNodes(g, NULL, &n));
    MUST(n == 4);
    cudaGraphExec_t exec;
    GOOD(cudaGraphInstantiate(&exec, g, 0));
    GOOD(cudaGraphDestroy(g));
    for (int i = 1; i <= 3; i++) {
        pinned[3] = (float)i;
        GOOD(cudaGraphLaunch(exec, a));
        MUST(pinned[N / 2 + 3] != (float)i); /* nothing has run */
        GOOD(cudaEventSynchronize(e));
        MUST(pinned[N / 2 + 3] == (float)i);
    }
    GOOD(cudaGraphLaunch(exec, a));
    GOOD(cudaGraphExecDestroy(exec)); /* what is under way goes on */
    finish();
}

static void capture(void **state)
{
    in_child("rules", capture_rules, NULL, NULL);
    in_child("replay", replay, NULL, NULL);
    in_child("replay", replay, "RM_DOUBLES_SEED=3", NULL);
}

/* ---- errors of use, faults */
static void wrong_use(void)
{
    cudaStream_t gone, other;
    set_up();
    GOOD(cudaStreamCreate(&gone));
    GOOD(cudaStreamDestroy(gone));
    MUST(cudaStreamSynchronize(gone) == cudaErrorInvalidResourceHandle);
    MUST(rm_cuda_relu(RM_CUDA_F32, N, x, y, gone) == cudaErrorInvalidResourceHandle);
    GOOD(cudaEventDestroy(f));
    MUST(cudaEventRecord(f, a) == cudaErrorInvalidResourceHandle);
    MUST(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyDeviceToHost, a) == cudaErrorInvalidValue);
    MUST(cudaMemcpyAsync(x + 1, host, BYTES, cudaMemcpyHostToDevice, a) == cudaErrorInvalidValue);
    MUST(cudaSetDevice(8) == cudaErrorInvalidDevice);
    GOOD(cudaSetDevice(1));
    GOOD(cudaStreamCreate(&other));
    MUST(cudaEventRecord(e, other) == cudaErrorInvalidResourceHandle);
    MUST(rm_cuda_relu(RM_CUDA_F32, N, x, y, a) == cudaErrorInvalidResourceHandle); /* the stream is of GPU 0 */
    MUST(cudaGetLastError() == cudaSuccess);
}
static void no_gpu(void)
{
    int n = 77;
    MUST(cudaGetDeviceCount(&n) == cudaErrorNoDevice && n == 77);
}
static void third_fails(void)
{
    void *p;
    GOOD(cudaMalloc(&p, 1));
    GOOD(cudaMalloc(&p, 1));
    MUST(cudaMalloc(&p, 1) == cudaErrorMemoryAllocation);
    GOOD(cudaMalloc(&p, 1));
}
static void breaks(void)
{
    set_up(); /* the first piece of work */
    relu(x, y, a);
    relu(x, z, b);
    MUST(cudaStreamSynchronize(a) == cudaErrorLaunchFailure);
    MUST(cudaStreamSynchronize(b) == cudaErrorLaunchFailure);
    MUST(cudaFree(x) == cudaErrorLaunchFailure);
}

static void errors(void **state)
{
    in_child("wrong use", wrong_use, NULL, NULL);
    in_child("no GPU", no_gpu, "RM_DOUBLES_GPUS=0", NULL);
    in_child("malloc", third_fails, "RM_DOUBLES_FAULTS=other:1,malloc:3", NULL);
    in_child("launch", breaks, "RM_DOUBLES_FAULTS=launch:2", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_planted_is_found), cmocka_unit_test(laziness), cmocka_unit_test(capture), cmocka_unit_test(errors) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
