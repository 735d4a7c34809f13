/* The cuda device's table: opening, memory, queues, marks, recordings. */
#include "kernels/cuda/cuda_device.h"
#include "base/clock.h"
#include "kernels/plans.h"
#include "profiler/gpu_explain.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, REBASE_NS = 100000000, TRIES = 4, NEAR_NS = 20000, LEAST_MAJOR = 8 /* compute capability */ };

rm_status rm_cuda_check(cudaError_t e, const char *what)
{
    if (e == cudaSuccess) return RM_OK;
    (void)cudaGetLastError(); /* an error that does not stick must not be found again by somebody else */
    if (e == cudaErrorMemoryAllocation) return rm_fail(RM_E_NOMEM, "cuda: %s: %s; use a smaller batch", what, cudaGetErrorString(e));
    return rm_fail(RM_E_DEVICE, "cuda: %s: %s (%s)", what, cudaGetErrorString(e), cudaGetErrorName(e));
}

cudaStream_t rm_cuda_stream(rm_device *d, rm_queue *q) { return q ? q->stream : cuda_of(d)->compute.stream; }
int rm_cuda_ordinal(const rm_device *d) { return cuda_of(d)->ordinal; }

/* ---- opening */
static rm_status no_gpu(cudaError_t e)
{
    char why[400];
    rm_gpu_trouble t = { .cuda_error = e, .cuda_words = e == cudaSuccess ? "none is visible" : cudaGetErrorString(e), .root = "" };
    if (cudaRuntimeGetVersion(&t.runtime) != cudaSuccess) t.runtime = 0;
    (void)rm_nvml_explain(&t, why, sizeof why);
    return rm_fail(RM_E_UNSUPPORTED, "cuda: no usable GPU here: %s", why);
}

static bool new_enough(int ordinal)
{
    int major = 0;
    return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal) == cudaSuccess && major >= LEAST_MAJOR;
}

static rm_status too_old(const struct cudaDeviceProp *p)
{
    return rm_fail(RM_E_UNSUPPORTED, "cuda: %s has compute capability %d.%d, and this program needs %d.0 or newer: the A100 and later GPUs", p->name, p->major, p->minor, LEAST_MAJOR);
}

/* None of these calls takes a GPU. */
static rm_status cuda_available(void)
{
    int n = 0;
    struct cudaDeviceProp p;
    const cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n <= 0) {
        (void)cudaGetLastError();
        return no_gpu(e);
    }
    for (int i = 0; i < n; i++)
        if (new_enough(i)) return RM_OK;
    RM_TRY(rm_cuda_check(cudaGetDeviceProperties(&p, 0), "ask a GPU what it is"));
    return too_old(&p);
}

static int32_t cuda_count(void)
{
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

static rm_status check_ordinal(int ordinal)
{
    int n = 0;
    if (ordinal < 0) return rm_fail(RM_E_ARG, "cuda: GPU %d does not exist: they are counted from 0", ordinal);
    RM_TRY(rm_cuda_check(cudaGetDeviceCount(&n), "count the GPUs"));
    if (ordinal < n) return RM_OK;
    return rm_fail(RM_E_ARG, "cuda: this process is to take GPU %d, but %d are visible: start fewer ranks on this host, or let CUDA_VISIBLE_DEVICES show more", ordinal, n);
}

/* None of these calls makes a context: who starts the ranks may ask, and the GPU stays theirs. */
static rm_status cuda_describe(const rm_device_config *cfg, rm_device_info *i)
{
    struct cudaDeviceProp p;
    int runtime = 0;
    RM_TRY(check_ordinal(cfg->ordinal));
    RM_TRY(rm_cuda_check(cudaGetDeviceProperties(&p, cfg->ordinal), "ask a GPU what it is"));
    RM_TRY(rm_cuda_check(cudaRuntimeGetVersion(&runtime), "ask the runtime for its version"));
    if (p.major < LEAST_MAJOR) return too_old(&p);
    const size_t v = cudnnGetVersion();
    snprintf(i->device, sizeof i->device, "cuda");
    snprintf(i->name, sizeof i->name, "%.70s%s", p.name, rm_cuda_doubles ? " (test double)" : "");
    snprintf(i->library, sizeof i->library, "cuDNN %zu.%zu.%zu, CUDA %d.%d", v / 10000, v / 100 % 100, v % 100, runtime / 1000, runtime % 1000 / 10);
    snprintf(i->isa, sizeof i->isa, "sm_%d%d, %d multiprocessors", p.major, p.minor, p.multiProcessorCount);
    snprintf(i->bus, sizeof i->bus, "%04x:%02x:%02x.0", (unsigned)p.pciDomainID, (unsigned)p.pciBusID & 0xff, (unsigned)p.pciDeviceID & 0x1f);
    snprintf(i->caveat, sizeof i->caveat, "%s", rm_cuda_doubles ? "test doubles, not a GPU" : "unverified on hardware");
    i->threads = 1; /* of the host, which enqueues */
    i->memory_bytes = p.totalGlobalMem;
    i->dtypes = i->native_dtypes = 1u << RM_F32 | 1u << RM_TF32 | 1u << RM_BF16 | 1u << RM_F16;
    i->async = true;
    return RM_OK;
}

/* Event times are counted from a reading of both clocks that lay near to each other. */
static rm_status rebase(cuda_device *d)
{
    for (int i = 0; i < TRIES; i++) {
        const uint64_t before = rm_now_ns();
        RM_TRY(rm_cuda_check(cudaEventRecord(d->base_event, d->compute.stream), "read the GPU's clock"));
        RM_TRY(rm_cuda_check(cudaEventSynchronize(d->base_event), "read the GPU's clock"));
        const uint64_t took = rm_now_ns() - before;
        d->base_ns = before + took / 2;
        if (took <= NEAR_NS) break;
    }
    return RM_OK;
}

static rm_status queue_open(rm_queue *q)
{
    return rm_cuda_check(cudaStreamCreateWithFlags(&q->stream, cudaStreamNonBlocking), "make a stream");
}

static rm_status open_parts(cuda_device *d, const rm_device_config *cfg)
{
    RM_TRY(cuda_describe(cfg, &d->info));
    RM_TRY(rm_cuda_check(cudaSetDevice(d->ordinal), "take a GPU"));
    RM_TRY(queue_open(&d->compute));
    RM_TRY(rm_cuda_check(cudaEventCreate(&d->base_event), "make an event"));
    RM_TRY(rm_cudnn_check(cudnnCreate(&d->cudnn), "begin"));
    RM_TRY(rm_cudnn_device_open(d->ordinal, &d->gpu));
    return rebase(d);
}

static void save_cache(cuda_device *d)
{
    if (d->cache) rm_cudnn_cache_save(d->cache);
}

static void cuda_close(rm_device *base)
{
    cuda_device *d = cuda_of(base);
    save_cache(d);
    rm_cudnn_cache_close(d->cache);
    rm_cudnn_device_free(d->gpu);
    if (d->cudnn) cudnnDestroy(d->cudnn);
    if (d->base_event) cudaEventDestroy(d->base_event);
    if (d->compute.stream) cudaStreamDestroy(d->compute.stream);
    free(d);
}

/* CUDA's words for a GPU that is taken or full do not say by what; NVML may know. */
static rm_status cannot_open(rm_status st)
{
    char said[256], why[400];
    snprintf(said, sizeof said, "%s", rm_last_error());
    rm_gpu_trouble t = { .cuda_words = said, .root = "" };
    if ((st != RM_E_DEVICE && st != RM_E_NOMEM) || cudaRuntimeGetVersion(&t.runtime) != cudaSuccess) return rm_fail(st, "%s", said);
    (void)rm_nvml_explain(&t, why, sizeof why);
    return strcmp(said, why) != 0 ? rm_fail(st, "%s; %s", said, why) : st;
}

static rm_status cuda_open(const rm_device_config *cfg, rm_device **out_device)
{
    cuda_device *d = calloc(1, sizeof *d);
    if (!d) return rm_fail(RM_E_NOMEM, "cuda: no memory for the device");
    d->ordinal = cfg->ordinal;
    d->deterministic = cfg->deterministic;
    d->reference_only = cfg->reference_only || (rm_cuda_doubles && !rm_cuda_doubles[0]); /* their times mean nothing */
    const rm_status st = open_parts(d, cfg);
    if (st != RM_OK) {
        cuda_close(&d->base);
        return cannot_open(st);
    }
    *out_device = &d->base;
    return RM_OK;
}

static void cuda_info(const rm_device *d, rm_device_info *out_info) { *out_info = cuda_of(d)->info; }

/* ---- memory. The pointer of a buffer is at a page; what the runtime gave comes before. */
typedef struct cuda_buf { rm_buf base; void *whole; rm_mem mem; } cuda_buf;

static rm_status take_device(cuda_device *d, cuda_buf *b, size_t bytes)
{
    RM_TRY(rm_cuda_check(cudaMalloc(&b->whole, bytes + PAGE), "take memory"));
    b->base.ptr = (void *)(((uintptr_t)b->whole + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    RM_TRY(rm_cuda_check(cudaMemsetAsync(b->base.ptr, 0, bytes, d->compute.stream), "clear memory"));
    return rm_cuda_check(cudaStreamSynchronize(d->compute.stream), "clear memory"); /* for every queue */
}

static rm_status take_pinned(cuda_buf *b, size_t bytes)
{
    RM_TRY(rm_cuda_check(cudaHostAlloc(&b->whole, bytes, cudaHostAllocPortable), "take page-locked memory"));
    b->base.ptr = b->whole;
    memset(b->base.ptr, 0, bytes);
    return RM_OK;
}

static void cuda_release(rm_device *d, rm_buf *buf)
{
    cuda_buf *b = (cuda_buf *)buf;
    if (b->whole && b->mem == RM_MEM_PINNED) (void)!rm_cuda_check(cudaFreeHost(b->whole), "give memory back");
    else if (b->whole) (void)!rm_cuda_check(cudaFree(b->whole), "give memory back");
    free(b);
}

static rm_status cuda_alloc(rm_device *dev, rm_mem mem, size_t bytes, rm_buf **out_buf)
{
    cuda_device *d = cuda_of(dev);
    const size_t some = bytes ? bytes : 1;
    cuda_buf *b = calloc(1, sizeof *b);
    if (!b) return rm_fail(RM_E_NOMEM, "cuda: no memory for a buffer");
    RM_ASSERT(!d->recording);
    b->mem = mem;
    b->base = (rm_buf){ .device = dev, .bytes = bytes };
    const rm_status st = mem == RM_MEM_PINNED ? take_pinned(b, some) : take_device(d, b, some);
    if (st != RM_OK) {
        cuda_release(dev, &b->base);
        return st;
    }
    *out_buf = &b->base;
    return RM_OK;
}

static void *cuda_host(rm_buf *buf) { return ((cuda_buf *)buf)->mem == RM_MEM_PINNED ? buf->ptr : NULL; }
static void *at(rm_ref r) { return (char *)r.buf->ptr + r.offset; }

static rm_status cuda_write(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes)
{
    return rm_cuda_check(cudaMemcpyAsync(at(dst), src, bytes, cudaMemcpyDefault, rm_cuda_stream(d, q)), "copy to the GPU");
}

static rm_status cuda_read(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes)
{
    return rm_cuda_check(cudaMemcpyAsync(dst, at(src), bytes, cudaMemcpyDefault, rm_cuda_stream(d, q)), "copy from the GPU");
}

static rm_status cuda_fill(rm_device *d, rm_queue *q, rm_ref dst, int byte, size_t bytes)
{
    return rm_cuda_check(cudaMemsetAsync(at(dst), byte, bytes, rm_cuda_stream(d, q)), "fill memory");
}

/* ---- queues */
static rm_status cuda_queue_new(rm_device *d, rm_queue **out_queue)
{
    rm_queue *q = calloc(1, sizeof *q);
    if (!q) return rm_fail(RM_E_NOMEM, "cuda: no memory for a stream");
    const rm_status st = queue_open(q);
    if (st != RM_OK) {
        free(q);
        return st;
    }
    *out_queue = q;
    return RM_OK;
}

static void cuda_queue_free(rm_device *d, rm_queue *q)
{
    (void)!rm_cuda_check(cudaStreamDestroy(q->stream), "end a stream");
    free(q);
}

static rm_status cuda_sync(rm_device *dev, rm_queue *q)
{
    cuda_device *d = cuda_of(dev);
    RM_TRY(rm_cuda_check(cudaStreamSynchronize(rm_cuda_stream(dev, q)), "wait for the GPU"));
    return !q && rm_now_ns() - d->base_ns > REBASE_NS ? rebase(d) : RM_OK; /* another queue may be done while this one is busy */
}

static void CUDART_CB spin_on_host(void *ns) { rm_spin_ns((uint64_t)(uintptr_t)ns); }

/* The queue is blocked by the host, so that nothing on it goes on. */
static rm_status cuda_spin(rm_device *d, rm_queue *q, uint64_t ns)
{
    return rm_cuda_check(cudaLaunchHostFunc(rm_cuda_stream(d, q), spin_on_host, (void *)(uintptr_t)ns), "keep a stream busy");
}

/* ---- marks */
static void cuda_mark_free(rm_device *d, rm_mark *m)
{
    if (m->time) (void)!rm_cuda_check(cudaEventDestroy(m->time), "end an event");
    if (m->order) (void)!rm_cuda_check(cudaEventDestroy(m->order), "end an event");
    free(m);
}

static rm_status cuda_mark_new(rm_device *d, rm_mark **out_mark)
{
    rm_mark *m = calloc(1, sizeof *m);
    if (!m) return rm_fail(RM_E_NOMEM, "cuda: no memory for an event");
    m->device = cuda_of(d);
    rm_status st = rm_cuda_check(cudaEventCreate(&m->time), "make an event");
    if (st == RM_OK) st = rm_cuda_check(cudaEventCreateWithFlags(&m->order, cudaEventDisableTiming), "make an event");
    if (st != RM_OK) {
        cuda_mark_free(d, m);
        return st;
    }
    *out_mark = m;
    return RM_OK;
}

static rm_status cuda_mark_set(rm_device *dev, rm_queue *q, rm_mark *m)
{
    const cuda_device *d = cuda_of(dev);
    cudaStream_t s = rm_cuda_stream(dev, q);
    m->set = true;
    m->recording = d->recording;
    if (!d->recording) return rm_cuda_check(cudaEventRecord(m->time, s), "record an event");
    /* In this order: the external event is a node of its own, and who waits for `order` must come after it, or a queue would not be joined. */
    RM_TRY(rm_cuda_check(cudaEventRecordWithFlags(m->time, s, cudaEventRecordExternal), "record an event"));
    return rm_cuda_check(cudaEventRecord(m->order, s), "record an event");
}

static rm_status cuda_mark_wait(rm_device *dev, rm_queue *q, const rm_mark *m)
{
    const cuda_device *d = cuda_of(dev);
    if (!m->set) return RM_OK;
    const bool inside = d->recording && m->recording == d->recording;
    const unsigned flags = d->recording && !inside ? cudaEventWaitExternal : cudaEventWaitDefault;
    return rm_cuda_check(cudaStreamWaitEvent(rm_cuda_stream(dev, q), inside ? m->order : m->time, flags), "wait for an event");
}

static bool cuda_mark_done(const rm_mark *m)
{
    if (!m->set) return false;
    const bool done = cudaEventQuery(m->time) == cudaSuccess;
    if (!done) (void)cudaGetLastError(); /* "not ready" counts as an error, and the next launch would find it */
    return done;
}

static rm_status cuda_mark_ns(const rm_mark *m, uint64_t *out_ns)
{
    float ms = 0;
    RM_TRY(rm_cuda_check(cudaEventElapsedTime(&ms, m->device->base_event, m->time), "read the time of an event"));
    *out_ns = m->device->base_ns + (uint64_t)(int64_t)((double)ms * 1e6);
    return RM_OK;
}

/* ---- recordings: CUDA graphs by stream capture */
static rm_status cuda_record_begin(rm_device *dev)
{
    cuda_device *d = cuda_of(dev);
    RM_ASSERT(!d->recording);
    RM_TRY(rm_cuda_check(cudaStreamBeginCapture(d->compute.stream, cudaStreamCaptureModeThreadLocal), "record a step"));
    d->recording = ++d->recordings;
    return RM_OK;
}

static rm_status cuda_record_end(rm_device *dev, rm_recording **out_recording)
{
    cuda_device *d = cuda_of(dev);
    cudaGraph_t graph = NULL;
    d->recording = 0;
    const cudaError_t e = cudaStreamEndCapture(d->compute.stream, &graph);
    if (!out_recording) { /* it is forgotten; whatever went wrong was said before */
        (void)cudaGetLastError();
        if (graph) cudaGraphDestroy(graph);
        return RM_OK;
    }
    RM_TRY(rm_cuda_check(e, "record a step"));
    rm_recording *r = calloc(1, sizeof *r);
    rm_status st = r ? rm_cuda_check(cudaGraphInstantiate(&r->exec, graph, 0), "make a step of what was recorded") : rm_fail(RM_E_NOMEM, "cuda: no memory for a recording");
    cudaGraphDestroy(graph);
    if (st == RM_OK) st = rm_cuda_check(cudaGraphUpload(r->exec, d->compute.stream), "make a step of what was recorded"); /* not within its first run */
    if (st == RM_OK) {
        *out_recording = r;
        return RM_OK;
    }
    if (r && r->exec) (void)cudaGraphExecDestroy(r->exec);
    free(r);
    return st;
}

static rm_status cuda_record_run(rm_device *d, rm_recording *r)
{
    return rm_cuda_check(cudaGraphLaunch(r->exec, cuda_of(d)->compute.stream), "run a recorded step");
}

static void cuda_record_free(rm_device *d, rm_recording *r)
{
    (void)!rm_cuda_check(cudaStreamSynchronize(cuda_of(d)->compute.stream), "wait for a recorded step");
    (void)!rm_cuda_check(cudaGraphExecDestroy(r->exec), "end a recording");
    free(r);
}

/* ---- kept plans: cuDNN's are texts, in a file of their own */
static void cuda_keep(rm_device *dev, bool save)
{
    cuda_device *d = cuda_of(dev);
    if (save) {
        save_cache(d);
        return;
    }
    rm_cudnn_cache_close(d->cache); /* another rank may have written meanwhile */
    d->cache = NULL;
}

const rm_device_ops rm_device_cuda = {
    .abi = RM_DEVICE_ABI, .name = "cuda", .summary = "NVIDIA GPUs (cuDNN)",
    .available = cuda_available, .count = cuda_count, .open = cuda_open, .close = cuda_close, .info = cuda_info, .describe = cuda_describe,
    .alloc = cuda_alloc, .release = cuda_release, .host = cuda_host, .write = cuda_write, .read = cuda_read, .fill = cuda_fill,
    .queue_new = cuda_queue_new, .queue_free = cuda_queue_free, .sync = cuda_sync,
    .mark_new = cuda_mark_new, .mark_free = cuda_mark_free, .mark_set = cuda_mark_set, .mark_wait = cuda_mark_wait,
    .mark_done = cuda_mark_done, .mark_ns = cuda_mark_ns, .spin = cuda_spin,
    .record_begin = cuda_record_begin, .record_end = cuda_record_end, .record_run = cuda_record_run, .record_free = cuda_record_free,
    .layout_bytes = cuda_layout_bytes, .plan = cuda_plan_op, .run = cuda_run, .plan_free = cuda_plan_free,
    .keep = cuda_keep, .peaks = cuda_peaks,
};
