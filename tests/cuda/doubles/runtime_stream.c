/* The CUDA runtime's double: the calls for streams, events, copies and host functions. */
#include "tests/cuda/doubles/internal.h"
#include <stdlib.h>
#include <string.h>

/* ---- enqueueing */
cudaError_t dbl_enqueue_task(cudaStream_t stream, dbl_task *t, const char *call)
{
    dbl_call_begins(call);
    dbl_lock();
    cudaError_t e = cudaErrorInvalidResourceHandle;
    cudaStream_t s = dbl_stream_of(stream);
    if (s && (s->gpu == dbl_current() || t->w.kind != DBL_KERNEL)) {
        e = s->legacy ? dbl_legacy_used(s->gpu) : cudaSuccess;
        if (e == cudaSuccess && dbl_capturing(s)) e = dbl_capture_task(s, t);
        else if (e == cudaSuccess && !dbl_broken()) dbl_append(s, (dbl_piece){ .task = t, .turn = dbl_turn_of(t) });
        if (e == cudaSuccess && !dbl_broken()) t = NULL;
    }
    dbl_task_drop(t);
    dbl_unlock();
    dbl_call_ends(call);
    return dbl_said(e);
}

/* ---- copies */
typedef struct copy {
    void *dst;
    const void *src;
    size_t bytes;
    void *kept; /* what pageable memory had at the call */
} copy;

static bool run_copy(void *ctx)
{
    const copy *c = ctx;
    memmove(c->dst, c->kept ? c->kept : c->src, c->bytes);
    return true;
}
static void drop_copy(void *ctx) { free(((copy *)ctx)->kept); }

static bool host_space(dbl_space s) { return s == DBL_PAGEABLE || s == DBL_PINNED_SPACE; }

static bool direction_fits(enum cudaMemcpyKind kind, dbl_space dst, dbl_space src)
{
    switch (kind) {
    case cudaMemcpyDefault: return true;
    case cudaMemcpyHostToHost: return host_space(dst) && host_space(src);
    case cudaMemcpyHostToDevice: return dst == DBL_DEVICE && host_space(src);
    case cudaMemcpyDeviceToHost: return host_space(dst) && src == DBL_DEVICE;
    case cudaMemcpyDeviceToDevice: return dst == DBL_DEVICE && src == DBL_DEVICE;
    }
    return false;
}

static const char *copy_name(dbl_space dst, dbl_space src)
{
    static const char *const names[2][2][2] = { { { "Memcpy HtoH (Pageable -> Pageable)", "Memcpy HtoD (Pageable -> Device)" },
                                                  { "Memcpy DtoH (Device -> Pageable)", "Memcpy DtoD (Device -> Device)" } },
                                                { { "Memcpy HtoH (Pinned -> Pinned)", "Memcpy HtoD (Pinned -> Device)" },
                                                  { "Memcpy DtoH (Device -> Pinned)", "Memcpy DtoD (Device -> Device)" } } };
    return names[dst == DBL_PINNED_SPACE || src == DBL_PINNED_SPACE][src == DBL_DEVICE][dst == DBL_DEVICE];
}

static cudaError_t copy_task(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream, dbl_task **out_task)
{
    int part;
    const dbl_space to = dbl_space_of(dst, bytes, &part), from = dbl_space_of(src, bytes, &part);
    if (!dst || !src || to == DBL_NOWHERE || from == DBL_NOWHERE) return cudaErrorInvalidValue;
    if (!direction_fits(kind, to, from)) return cudaErrorInvalidValue;
    cudaStream_t s = dbl_stream_of(stream);
    const bool captured = s && dbl_capturing(s);
    if (captured && (to == DBL_PAGEABLE || from == DBL_PAGEABLE)) { /* stricter than the real one */
        dbl_forbid(s);
        return cudaErrorStreamCaptureUnsupported;
    }
    copy c = { dst, src, bytes, NULL };
    if (from == DBL_PAGEABLE) {
        if (!(c.kept = malloc(bytes))) abort();
        memcpy(c.kept, src, bytes);
    }
    const dbl_touch touch[] = { { src, bytes, false }, { dst, bytes, true } };
    const dbl_work w = { .name = copy_name(to, from), .kind = DBL_COPY, .run = run_copy, .ctx = &c, .bytes = sizeof c, .touch = touch, .n_touch = 2, .copied_bytes = bytes };
    *out_task = dbl_task_new(&w);
    (*out_task)->drop = drop_copy;
    if (from == DBL_PINNED_SPACE) {
        (*out_task)->source = src;
        (*out_task)->source_bytes = bytes;
    }
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    dbl_task *t = NULL;
    if (!bytes) return dbl_said(cudaSuccess);
    dbl_lock();
    const cudaError_t e = copy_task(dst, src, bytes, kind, stream, &t);
    dbl_unlock();
    return e == cudaSuccess ? dbl_enqueue_task(stream, t, "cudaMemcpyAsync") : dbl_said(e);
}

/* The legacy stream, and the host waits. */
static cudaError_t and_wait(cudaError_t e)
{
    return e == cudaSuccess ? cudaStreamSynchronize(cudaStreamLegacy) : e;
}

static cudaError_t unsafe_now(void)
{
    dbl_lock();
    const cudaError_t e = dbl_unsafe();
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    const cudaError_t e = unsafe_now();
    return e == cudaSuccess ? and_wait(cudaMemcpyAsync(dst, src, bytes, kind, cudaStreamLegacy)) : e;
}

typedef struct fill {
    void *at;
    int byte;
    size_t bytes;
} fill;
static bool run_fill(void *ctx)
{
    const fill *f = ctx;
    memset(f->at, f->byte, f->bytes);
    return true;
}

cudaError_t CUDARTAPI cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    int part;
    if (!bytes) return dbl_said(cudaSuccess);
    dbl_lock();
    const dbl_space s = dbl_space_of(p, bytes, &part);
    dbl_unlock();
    if (!p || (s != DBL_DEVICE && s != DBL_PINNED_SPACE)) return dbl_said(cudaErrorInvalidValue);
    fill f = { p, byte, bytes };
    const dbl_touch touch = { p, bytes, true };
    const dbl_work w = { .name = "Memset (Device)", .kind = DBL_FILL, .run = run_fill, .ctx = &f, .bytes = sizeof f, .touch = &touch, .n_touch = 1, .copied_bytes = bytes };
    return dbl_enqueue_task(stream, dbl_task_new(&w), "cudaMemsetAsync");
}

/* Returns before it is done, as the real one may. */
cudaError_t CUDARTAPI cudaMemset(void *p, int byte, size_t bytes)
{
    const cudaError_t e = unsafe_now();
    return e == cudaSuccess ? cudaMemsetAsync(p, byte, bytes, cudaStreamLegacy) : e;
}

typedef struct host_call {
    cudaHostFn_t fn;
    void *user;
} host_call;
static bool run_host(void *ctx)
{
    const host_call *h = ctx;
    h->fn(h->user);
    return true;
}

cudaError_t CUDARTAPI cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *user)
{
    if (!fn) return dbl_said(cudaErrorInvalidValue);
    host_call h = { fn, user };
    const dbl_work w = { .name = "host function", .kind = DBL_HOST, .run = run_host, .ctx = &h, .bytes = sizeof h };
    return dbl_enqueue_task(stream, dbl_task_new(&w), "cudaLaunchHostFunc");
}

/* ---- streams */
cudaError_t CUDARTAPI cudaStreamCreateWithPriority(cudaStream_t *out_stream, unsigned int flags, int priority)
{
    if (!out_stream || flags & ~(unsigned)cudaStreamNonBlocking) return dbl_said(cudaErrorInvalidValue);
    if (!dbl_gpu_count()) return dbl_said(cudaErrorNoDevice);
    dbl_lock();
    cudaStream_t s = dbl_stream_make(dbl_current(), flags, priority, false);
    dbl_unlock();
    if (!s) return dbl_said(cudaErrorMemoryAllocation);
    *out_stream = s;
    dbl_born(1);
    return dbl_said(cudaSuccess);
}
cudaError_t CUDARTAPI cudaStreamCreateWithFlags(cudaStream_t *s, unsigned int flags) { return cudaStreamCreateWithPriority(s, flags, 0); }
cudaError_t CUDARTAPI cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithPriority(s, cudaStreamDefault, 0); }

/* What it has still to do is done all the same. */
cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t stream)
{
    dbl_lock();
    cudaStream_t s = stream ? dbl_stream_of(stream) : NULL;
    cudaError_t e = s && !s->legacy ? dbl_forbid(s) : cudaErrorInvalidResourceHandle;
    if (e == cudaSuccess) {
        s->dead = true;
        dbl_born(-1);
        if (!s->first) dbl_stream_end(s);
    }
    dbl_unlock();
    return dbl_said(e);
}

/* The stream for a call that waits or asks. */
static cudaError_t to_ask(cudaStream_t stream, cudaStream_t *out_s)
{
    *out_s = dbl_stream_of(stream);
    if (!*out_s) return cudaErrorInvalidResourceHandle;
    const cudaError_t e = dbl_forbid(*out_s);
    return e == cudaSuccess && (*out_s)->legacy ? dbl_legacy_used((*out_s)->gpu) : e;
}

/* The legacy stream also waits for the others. */
static void legacy_joins(cudaStream_t s)
{
    if (s->legacy) dbl_moment_drop(dbl_append_record(s));
}

cudaError_t CUDARTAPI cudaStreamSynchronize(cudaStream_t stream)
{
    cudaStream_t s;
    dbl_lock();
    const cudaError_t e = to_ask(stream, &s);
    if (e == cudaSuccess) {
        legacy_joins(s);
        dbl_wait_stream(s);
    }
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaStreamQuery(cudaStream_t stream)
{
    cudaStream_t s;
    dbl_lock();
    cudaError_t e = to_ask(stream, &s);
    if (e == cudaSuccess) {
        dbl_advance(s);
        if (s->first) e = cudaErrorNotReady;
        else dbl_join(dbl_host(), &s->known);
    }
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaDeviceSynchronize(void)
{
    dbl_lock();
    cudaError_t e = cudaSuccess;
    for (cudaStream_t s = dbl_streams; s && e == cudaSuccess; s = s->next)
        if (s->gpu == dbl_current()) e = dbl_forbid(s);
    if (e == cudaSuccess) e = dbl_unsafe();
    for (bool again = e == cudaSuccess; again;) {
        again = false;
        for (cudaStream_t s = dbl_streams; s; s = s->next)
            if (s->gpu == dbl_current() && s->first) {
                dbl_wait_stream(s);
                again = true;
                break;
            }
    }
    for (cudaStream_t s = dbl_streams; s && e == cudaSuccess; s = s->next)
        if (s->gpu == dbl_current()) dbl_join(dbl_host(), &s->known);
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaStreamGetFlags(cudaStream_t stream, unsigned int *flags)
{
    dbl_lock();
    cudaStream_t s = dbl_stream_of(stream);
    if (s) *flags = s->flags;
    dbl_unlock();
    return dbl_said(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t CUDARTAPI cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
    dbl_lock();
    cudaStream_t s = dbl_stream_of(stream);
    if (s) *priority = s->priority;
    dbl_unlock();
    return dbl_said(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

/* ---- events. Their memory is not used again, so that a destroyed one is known for that. */
cudaError_t dbl_event_fine(cudaEvent_t e) { return e && !e->dead ? cudaSuccess : cudaErrorInvalidResourceHandle; }

cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t *out_event, unsigned int flags)
{
    if (!out_event || flags & ~(unsigned)(cudaEventBlockingSync | cudaEventDisableTiming)) return dbl_said(cudaErrorInvalidValue);
    if (!dbl_gpu_count()) return dbl_said(cudaErrorNoDevice);
    cudaEvent_t e = calloc(1, sizeof *e);
    if (!e) return dbl_said(cudaErrorMemoryAllocation);
    e->gpu = dbl_current();
    e->flags = flags;
    *out_event = e;
    dbl_born(1);
    return dbl_said(cudaSuccess);
}
cudaError_t CUDARTAPI cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, cudaEventDefault); }

cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event)
{
    dbl_lock();
    const cudaError_t e = dbl_event_fine(event);
    if (e == cudaSuccess) {
        event->dead = true;
        dbl_born(-1);
        dbl_moment_drop(event->record);
        free(event->tip);
        event->record = NULL;
        event->tip = NULL;
    }
    dbl_unlock();
    return dbl_said(e);
}

static cudaError_t record_event(cudaEvent_t event, cudaStream_t stream, bool external)
{
    cudaStream_t s = dbl_stream_of(stream);
    if (dbl_event_fine(event) != cudaSuccess || !s || s->gpu != event->gpu) return cudaErrorInvalidResourceHandle;
    const cudaError_t e = s->legacy ? dbl_legacy_used(s->gpu) : cudaSuccess;
    if (e != cudaSuccess) return e;
    if (dbl_capturing(s)) return dbl_capture_record(s, event, external);
    if (external) return cudaErrorInvalidValue;
    dbl_moment_drop(event->record);
    event->record = dbl_append_record(s);
    event->capture = 0;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned int flags)
{
    dbl_call_begins("cudaEventRecord");
    dbl_lock();
    const cudaError_t e = flags & ~(unsigned)cudaEventRecordExternal ? cudaErrorInvalidValue : record_event(event, stream, flags & cudaEventRecordExternal);
    dbl_unlock();
    dbl_call_ends("cudaEventRecord");
    return dbl_said(e);
}
cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault); }

static cudaError_t wait_event(cudaStream_t stream, cudaEvent_t event, bool external)
{
    cudaStream_t s = dbl_stream_of(stream);
    if (dbl_event_fine(event) != cudaSuccess || !s) return cudaErrorInvalidResourceHandle;
    const cudaError_t e = s->legacy ? dbl_legacy_used(s->gpu) : cudaSuccess;
    if (e != cudaSuccess) return e;
    if (dbl_capturing(s) || (event->capture && !external)) return dbl_capture_wait(s, event, external);
    if (external) return cudaErrorInvalidValue;
    if (event->record) dbl_append_wait(s, event->record);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
    dbl_call_begins("cudaStreamWaitEvent");
    dbl_lock();
    const cudaError_t e = flags & ~(unsigned)cudaEventWaitExternal ? cudaErrorInvalidValue : wait_event(stream, event, flags & cudaEventWaitExternal);
    dbl_unlock();
    dbl_call_ends("cudaStreamWaitEvent");
    return dbl_said(e);
}

static cudaError_t to_ask_event(cudaEvent_t event)
{
    cudaError_t e = dbl_event_fine(event);
    if (e == cudaSuccess) e = dbl_event_asked(event);
    return e == cudaSuccess ? dbl_unsafe() : e;
}

cudaError_t CUDARTAPI cudaEventQuery(cudaEvent_t event)
{
    dbl_lock();
    cudaError_t e = to_ask_event(event);
    dbl_moment *m = e == cudaSuccess ? event->record : NULL;
    if (m && !m->done) dbl_advance(m->stream);
    if (m && !m->done) e = cudaErrorNotReady;
    else if (m) dbl_join(dbl_host(), &m->known);
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaEventSynchronize(cudaEvent_t event)
{
    dbl_lock();
    const cudaError_t e = to_ask_event(event);
    if (e == cudaSuccess && event->record) dbl_wait_moment(event->record);
    dbl_unlock();
    return dbl_said(e);
}

static cudaError_t elapsed(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    if (!ms) return cudaErrorInvalidValue;
    if (dbl_event_fine(a) != cudaSuccess || dbl_event_fine(b) != cudaSuccess || a->gpu != b->gpu || (a->flags | b->flags) & cudaEventDisableTiming)
        return cudaErrorInvalidResourceHandle;
    if (!a->record || !b->record) return cudaErrorInvalidResourceHandle;
    if (!a->record->done || !b->record->done) return cudaErrorNotReady;
    *ms = (float)((double)(int64_t)(b->record->ns - a->record->ns) / 1e6);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    dbl_lock();
    const cudaError_t e = elapsed(ms, start, end);
    dbl_unlock();
    return dbl_said(e);
}
