/* The double of CUPTI's activity API: real records of what the runtime's double ran, in buffers that the client gives. What only reads
 * (cuptiActivityGetNextRecord(), names) is the real library's.
 *
 * It is as unpleasant as CUPTI may be: each thread that calls has a buffer of its own and the device one more, so that what belongs together comes
 * in several, the newest first; a call of the runtime has the driver's call in it, which for copies has another correlation; records of kinds
 * that were switched on reach the client when a buffer is full or flushed, and not before; what is pushed counts for the thread that pushed.
 *
 * Findings: a kind is enabled before the client's clock and buffers are known, or is KERNEL (kernels would run one after the other); a buffer
 * that is misaligned, not zeroed though the client promised, or in flight already; a flush or the end while the device has work; a pop too many,
 * or what is still pushed at a flush.
 * Faults (RM_DOUBLES_FAULTS): cupti-39 (another client is there); cupti-drop:N (the N-th kernel's record is dropped); cupti-zero:N (the N-th kernel
 * has no times); cupti-small:N (only N bytes of a buffer are used); cupti-nobuffer (a client's buffers are not asked for: all is dropped). */
#include "tests/cuda/doubles/internal.h"
#include <cupti.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SLOTS = 32, MOST_PUSHED = 8, KINDS = CUPTI_ACTIVITY_KIND_COUNT, DRIVERS_CALL = 1 << 28 };

/* A buffer that is being filled. */
typedef struct slot { uint8_t *at; size_t size, used; } slot;

static struct {
    pthread_mutex_t lock;                       /* everything but `dropped`; the client gets buffers back without it */
    bool on[KINDS], zeroed;
    CUpti_TimestampCallbackFunc clock;
    CUpti_BuffersCallbackRequestFunc request;
    CUpti_BuffersCallbackCompleteFunc complete;
    slot slot[MOST_SLOTS];                      /* 0: the device's */
    int n_slot;
    uint64_t kernels;
    atomic_size_t dropped;
} state = { .lock = PTHREAD_MUTEX_INITIALIZER, .n_slot = 1 };
static atomic_int threads = 1;
static _Thread_local int own_slot;              /* 0: none yet */
static _Thread_local uint64_t pushed[MOST_PUSHED], call_began;
static _Thread_local int n_pushed;

/* ---- buffers */
static void check_new(const slot *s)
{
    if ((uintptr_t)s->at % ACTIVITY_RECORD_ALIGNMENT) dbl_finding("cupti: a buffer at %p is not aligned to %d bytes", (void *)s->at, ACTIVITY_RECORD_ALIGNMENT);
    for (size_t i = 0; state.zeroed && i < s->size; i++)
        if (s->at[i]) {
            dbl_finding("cupti: byte %zu of a buffer is not zero, though the client said that it zeroes them", i);
            break;
        }
    for (int i = 0; i < MOST_SLOTS; i++) {
        const slot *o = &state.slot[i];
        if (o != s && o->at && o->at < s->at + s->size && s->at < o->at + o->size) dbl_finding("cupti: a buffer was given that is in flight already");
    }
    if (!state.zeroed) memset(s->at, 0, s->size);
}

/* Without the lock. */
static void complete(slot s)
{
    if (s.at) state.complete(NULL, 0, s.at, s.size, s.used);
}

static bool request(slot *s)
{
    size_t most = 0;
    *s = (slot){ 0 };
    if (dbl_fault("cupti-nobuffer")) return false;
    state.request(&s->at, &s->size, &most);
    return s->at != NULL;
}

static size_t usable(const slot *s)
{
    const uint64_t small = dbl_fault("cupti-small");
    return small && small < s->size ? small : s->size;
}

static void put(int which, const void *record, size_t bytes)
{
    pthread_mutex_lock(&state.lock);
    slot *s = &state.slot[which], full = { 0 };
    if (s->at && s->used + bytes > usable(s)) {
        full = *s;
        *s = (slot){ 0 };
    }
    if (!s->at && request(s)) check_new(s);
    if (s->at && s->used + bytes <= usable(s)) {
        memcpy(s->at + s->used, record, bytes);
        s->used += bytes;
    } else atomic_fetch_add(&state.dropped, 1);
    pthread_mutex_unlock(&state.lock);
    complete(full);
}

static int slot_of_thread(void)
{
    if (!own_slot) own_slot = atomic_fetch_add(&threads, 1);
    if (own_slot >= MOST_SLOTS) abort();
    return own_slot;
}

/* ---- records */
static bool is_on(CUpti_ActivityKind kind)
{
    pthread_mutex_lock(&state.lock);
    const bool on = state.on[kind];
    pthread_mutex_unlock(&state.lock);
    return on;
}

/* The N-th kernel loses what the fault says. */
static bool drop_kernel(uint64_t n, uint64_t *start, uint64_t *end)
{
    if (n == dbl_fault("cupti-zero")) *start = *end = 0;
    if (n != dbl_fault("cupti-drop")) return false;
    atomic_fetch_add(&state.dropped, 1);
    return true;
}

static void put_kernel(const dbl_ran *r)
{
    const char *name = r->name + (r->name[0] == '('); /* our own templates are launched as "(name<...>)" */
    CUpti_ActivityKernel10 k = { .kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, .name = name, .deviceId = r->device, .contextId = 1, .streamId = r->stream,
                                 .correlationId = r->correlation, .start = r->begin_ns, .end = r->end_ns, .graphNodeId = r->graph_node };
    if (!is_on(k.kind) || drop_kernel(++state.kernels, &k.start, &k.end)) return;
    put(0, &k, sizeof k);
}

static uint8_t memory_of(const char *name)
{
    static const struct { const char *name; uint8_t kind; } rows[] = {
        { "Pageable", CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE }, { "Pinned", CUPTI_ACTIVITY_MEMORY_KIND_PINNED }, { "Device", CUPTI_ACTIVITY_MEMORY_KIND_DEVICE },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strncmp(name, rows[i].name, strlen(rows[i].name))) return rows[i].kind;
    return CUPTI_ACTIVITY_MEMORY_KIND_UNKNOWN;
}

/* From the name: "Memcpy HtoD (Pinned -> Device)". */
static void put_copy(const dbl_ran *r)
{
    static const struct { const char *name; uint8_t kind; } rows[] = {
        { "HtoD", CUPTI_ACTIVITY_MEMCPY_KIND_HTOD }, { "DtoH", CUPTI_ACTIVITY_MEMCPY_KIND_DTOH }, { "DtoD", CUPTI_ACTIVITY_MEMCPY_KIND_DTOD },
        { "HtoH", CUPTI_ACTIVITY_MEMCPY_KIND_HTOH },
    };
    const char *from = strchr(r->name, '('), *to = strstr(r->name, "-> ");
    CUpti_ActivityMemcpy6 m = { .kind = CUPTI_ACTIVITY_KIND_MEMCPY, .deviceId = r->device, .contextId = 1, .streamId = r->stream,
                                .correlationId = r->correlation | DRIVERS_CALL, .runtimeCorrelationId = r->correlation, .start = r->begin_ns, .end = r->end_ns,
                                .bytes = r->bytes, .graphNodeId = r->graph_node, .copyCount = 1 };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strstr(r->name, rows[i].name)) m.copyKind = rows[i].kind;
    m.srcKind = from ? memory_of(from + 1) : 0;
    m.dstKind = to ? memory_of(to + 3) : 0;
    if (is_on(m.kind)) put(0, &m, sizeof m);
}

static void put_fill(const dbl_ran *r)
{
    const CUpti_ActivityMemset4 m = { .kind = CUPTI_ACTIVITY_KIND_MEMSET, .deviceId = r->device, .contextId = 1, .streamId = r->stream, .correlationId = r->correlation,
                                      .start = r->begin_ns, .end = r->end_ns, .bytes = r->bytes, .memoryKind = CUPTI_ACTIVITY_MEMORY_KIND_DEVICE,
                                      .graphNodeId = r->graph_node };
    if (is_on(m.kind)) put(0, &m, sizeof m);
}

static void ran(const dbl_ran *r)
{
    static void (*const puts[])(const dbl_ran *) = { [DBL_KERNEL] = put_kernel, [DBL_COPY] = put_copy, [DBL_FILL] = put_fill, [DBL_HOST] = NULL };
    if (puts[r->kind]) puts[r->kind](r);
}

/* ---- calls */
/* The runtime's call and the driver's in it. A kernel's may be the driver's alone, as cuDNN and NCCL launch. */
typedef struct call_row { const char *name; CUpti_CallbackId runtime, driver; bool own; } call_row; /* own: the driver's has a correlation of its own */

static const call_row *row_of(const char *name)
{
    static const call_row rows[] = {
        { "cudaLaunchKernel", CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel, false },
        { "cuLaunchKernelEx", 0, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx, false },
        { "cudaMemcpyAsync", CUPTI_RUNTIME_TRACE_CBID_cudaMemcpyAsync_v3020, CUPTI_DRIVER_TRACE_CBID_cuMemcpyAsync, true },
        { "cudaMemsetAsync", CUPTI_RUNTIME_TRACE_CBID_cudaMemsetAsync_v3020, CUPTI_DRIVER_TRACE_CBID_cuMemsetD8Async, false },
        { "cudaEventRecord", CUPTI_RUNTIME_TRACE_CBID_cudaEventRecord_v3020, 0, false },
        { "cudaStreamWaitEvent", CUPTI_RUNTIME_TRACE_CBID_cudaStreamWaitEvent_v3020, 0, false },
        { "cudaGraphLaunch", CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_v10000, 0, false },
        { "cudaLaunchHostFunc", CUPTI_RUNTIME_TRACE_CBID_cudaLaunchHostFunc_v10000, 0, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].name, name)) return &rows[i];
    return NULL;
}

static void put_call(CUpti_ActivityKind kind, CUpti_CallbackId id, uint32_t correlation, uint64_t begin, uint64_t end)
{
    const CUpti_ActivityAPI a = { .kind = kind, .cbid = id, .correlationId = correlation, .start = begin, .end = end };
    if (!id || !is_on(kind)) return;
    const CUpti_ActivityExternalCorrelation x = { .kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, .externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0,
                                                  .externalId = n_pushed ? pushed[n_pushed - 1] : 0, .correlationId = correlation };
    if (n_pushed && is_on(x.kind)) put(slot_of_thread(), &x, sizeof x);
    put(slot_of_thread(), &a, sizeof a);
}

static void call(const dbl_call *c)
{
    const call_row *r = row_of(c->name);
    pthread_mutex_lock(&state.lock);
    const CUpti_TimestampCallbackFunc clock = state.clock;
    pthread_mutex_unlock(&state.lock);
    const uint64_t now = clock ? clock() : 0;
    if (c->enter) {
        call_began = now;
        return;
    }
    if (!r) return;
    put_call(CUPTI_ACTIVITY_KIND_DRIVER, r->driver, r->own ? c->correlation | DRIVERS_CALL : c->correlation, call_began + 1, now);
    put_call(CUPTI_ACTIVITY_KIND_RUNTIME, r->runtime, c->correlation, call_began, now + 1);
}

/* ---- the API */
static bool device_busy(void)
{
    bool busy = false;
    dbl_lock();
    for (cudaStream_t s = dbl_streams; s; s = s->next)
        for (const dbl_piece *p = s->first; p; p = p->next) busy |= p->task || p->launch;
    dbl_unlock();
    return busy;
}

CUptiResult CUPTIAPI cuptiActivitySetAttribute(CUpti_ActivityAttribute attribute, size_t *size, void *value)
{
    if (!size || !value) return CUPTI_ERROR_INVALID_PARAMETER;
    if (attribute != CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER || *size != 1) return CUPTI_ERROR_INVALID_PARAMETER; /* no other is known here */
    pthread_mutex_lock(&state.lock);
    state.zeroed = *(const uint8_t *)value;
    pthread_mutex_unlock(&state.lock);
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityRegisterTimestampCallback(CUpti_TimestampCallbackFunc clock)
{
    if (!clock) return CUPTI_ERROR_INVALID_PARAMETER;
    pthread_mutex_lock(&state.lock);
    bool late = state.clock != NULL;
    for (int i = 0; i < KINDS; i++) late |= state.on[i];
    state.clock = clock;
    pthread_mutex_unlock(&state.lock);
    if (late) dbl_finding("cupti: a clock is registered twice, or after a kind was enabled: earlier records have another");
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request_fn, CUpti_BuffersCallbackCompleteFunc complete_fn)
{
    if (!request_fn || !complete_fn) return CUPTI_ERROR_INVALID_PARAMETER;
    pthread_mutex_lock(&state.lock);
    state.request = request_fn;
    state.complete = complete_fn;
    pthread_mutex_unlock(&state.lock);
    return CUPTI_SUCCESS;
}

static CUptiResult set(CUpti_ActivityKind kind, bool on)
{
    if ((unsigned)kind >= KINDS) return CUPTI_ERROR_INVALID_KIND;
    pthread_mutex_lock(&state.lock);
    state.on[kind] = on;
    const bool ready = state.clock && state.request;
    pthread_mutex_unlock(&state.lock);
    if (on && !ready) dbl_finding("cupti: kind %d is enabled before the clock and the buffers are known", (int)kind);
    if (on && kind == CUPTI_ACTIVITY_KIND_KERNEL) dbl_finding("cupti: KERNEL makes kernels run one after the other; enable CONCURRENT_KERNEL");
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityEnable(CUpti_ActivityKind kind)
{
    static const dbl_watch watch = { ran, call };
    if (dbl_fault("cupti-39")) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
    const CUptiResult r = set(kind, true);
    dbl_set_watch(&watch);
    return r;
}

/* What another profiler records is not ours to end. */
static void not_theirs(const char *call)
{
    if (dbl_fault("cupti-39")) dbl_finding("cupti: %s while another profiler watches the process", call);
}

CUptiResult CUPTIAPI cuptiActivityDisable(CUpti_ActivityKind kind)
{
    not_theirs("cuptiActivityDisable");
    return set(kind, false);
}

/* As CUPTI: flushing itself is overhead, which the next flush tells. */
CUptiResult CUPTIAPI cuptiActivityFlushAll(uint32_t flag)
{
    slot full[MOST_SLOTS];
    const uint64_t begin = dbl_now_ns();
    not_theirs("cuptiActivityFlushAll");
    if (device_busy()) dbl_finding("cupti: a flush while the device has work: some of it will be missing");
    if (n_pushed) dbl_finding("cupti: %d of what was pushed is not popped at a flush", n_pushed);
    if (flag != CUPTI_ACTIVITY_FLAG_FLUSH_FORCED) return CUPTI_SUCCESS; /* only full buffers, which are out already */
    pthread_mutex_lock(&state.lock);
    memcpy(full, state.slot, sizeof full);
    memset(state.slot, 0, sizeof state.slot);
    pthread_mutex_unlock(&state.lock);
    for (int i = MOST_SLOTS - 1; i >= 0; i--) complete(full[i]);
    const CUpti_ActivityOverhead3 o = { .kind = CUPTI_ACTIVITY_KIND_OVERHEAD, .overheadKind = CUPTI_ACTIVITY_OVERHEAD_CUPTI_BUFFER_FLUSH, .start = begin, .end = dbl_now_ns() };
    if (is_on(o.kind)) put(slot_of_thread(), &o, sizeof o);
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityGetNumDroppedRecords(CUcontext context, uint32_t stream, size_t *dropped)
{
    (void)stream;
    if (!dropped || context) return CUPTI_ERROR_INVALID_PARAMETER;
    *dropped = atomic_exchange(&state.dropped, 0);
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind kind, uint64_t id)
{
    if (kind != CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0) return CUPTI_ERROR_INVALID_PARAMETER;
    if (n_pushed == MOST_PUSHED) {
        dbl_finding("cupti: more than %d pushed: pops are missing", MOST_PUSHED);
        return CUPTI_ERROR_MAX_LIMIT_REACHED;
    }
    pushed[n_pushed++] = id;
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind kind, uint64_t *last)
{
    if (kind != CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0) return CUPTI_ERROR_INVALID_PARAMETER;
    if (!n_pushed) {
        dbl_finding("cupti: a pop of what was not pushed on this thread");
        return CUPTI_ERROR_QUEUE_EMPTY;
    }
    n_pushed--;
    if (last) *last = pushed[n_pushed];
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiFinalize(void)
{
    if (device_busy()) dbl_finding("cupti: the end while the device has work");
    pthread_mutex_lock(&state.lock);
    memset(state.on, 0, sizeof state.on);
    for (int i = 0; i < MOST_SLOTS; i++)
        if (state.slot[i].at) dbl_finding("cupti: the end while a buffer is in flight: it was not flushed");
    memset(state.slot, 0, sizeof state.slot);
    state.clock = NULL;
    state.request = NULL;
    state.complete = NULL;
    state.zeroed = false;
    state.kernels = 0;
    pthread_mutex_unlock(&state.lock);
    dbl_set_watch(NULL);
    return CUPTI_SUCCESS;
}
