/* NCCL: a rank for each GPU, all-reduces on a queue of their own beside the computation.
 *
 * Everything between hosts (barriers, host values, the unique id) goes through an mpi communicator inside. The host never waits for an
 * all-reduce: marks order queues, and tell the times after the step. Nothing of NCCL is set here but that calls may not block; its
 * NCCL_... variables are the user's. What goes wrong is in nccl_watch.c. */
#include "base/clock.h"
#include "kernels/comm/nccl_private.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/kernels.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 30 /* elements converted by one call: counts are int */ };

/* ---- the library */
static struct {
    pthread_once_t once;
    char name[32];
} library = { .once = PTHREAD_ONCE_INIT };

static void read_library(void)
{
    int v = 0;
    (void)ncclGetVersion(&v);
    snprintf(library.name, sizeof library.name, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
}

static const char *nccl_library(void)
{
    pthread_once(&library.once, read_library);
    return library.name;
}

static rm_status nccl_available(void)
{
    if (rm_device_cuda.available() == RM_OK) return RM_OK;
    return rm_fail(RM_E_UNSUPPORTED, "nccl: %s", rm_last_error());
}

static rm_status type_of(rm_dtype dtype, ncclDataType_t *out_type)
{
    static const struct { bool has; ncclDataType_t type; } types[RM_DTYPE_COUNT] = {
        [RM_F32] = { true, ncclFloat32 }, [RM_TF32] = { true, ncclFloat32 }, [RM_F64] = { true, ncclFloat64 }, [RM_BF16] = { true, ncclBfloat16 },
        [RM_F16] = { true, ncclFloat16 }, [RM_I32] = { true, ncclInt32 }, [RM_U8] = { true, ncclUint8 },
    };
    if (!types[dtype].has) return rm_fail(RM_E_UNSUPPORTED, "nccl cannot sum %s: use fp32 or bf16", rm_dtype_name(dtype));
    *out_type = types[dtype].type;
    return RM_OK;
}

/* ---- the end, from any thread */
/* The watching thread aborts NCCL's part; the process need not wait for that. */
static void nccl_abort(rm_comm *c, int exit_code)
{
    nccl_comm *m = nccl_of(c);
    (void)!nccl_fail(m, "rank %d ended the run", m->base.rank);
    rm_comm_abort(m->host, exit_code);
}

/* ---- between hosts */
typedef rm_status host_call(rm_comm *host, void *args);

static rm_status on_host(rm_comm *c, host_call *call, void *args)
{
    nccl_comm *m = nccl_of(c);
    RM_TRY(nccl_failed(m));
    pthread_mutex_lock(&m->host_lock);
    const rm_status st = call(m->host, args);
    pthread_mutex_unlock(&m->host_lock);
    return st;
}

typedef struct host_args { void *inout, *all; const void *mine; uint64_t count; rm_dtype dtype; rm_reduce how; int root; } host_args;

static rm_status call_barrier(rm_comm *host, void *args) { return rm_comm_barrier(host); }
static rm_status call_reduce(rm_comm *host, void *args)
{
    const host_args *a = args;
    return rm_comm_host_reduce(host, a->inout, a->count, a->dtype, a->how);
}
static rm_status call_gather(rm_comm *host, void *args)
{
    const host_args *a = args;
    return rm_comm_host_gather(host, a->mine, a->count, a->all);
}
static rm_status call_broadcast(rm_comm *host, void *args)
{
    const host_args *a = args;
    return rm_comm_host_broadcast(host, a->inout, a->count, a->root);
}

static rm_status nccl_barrier(rm_comm *c) { return on_host(c, call_barrier, NULL); }

static uint64_t nccl_set_timeout(rm_comm *c, uint64_t ns)
{
    nccl_comm *m = nccl_of(c);
    pthread_mutex_lock(&m->host_lock);
    const uint64_t was = m->host->ops->set_timeout(m->host, ns);
    pthread_mutex_unlock(&m->host_lock);
    return was;
}

static rm_status nccl_host_reduce(rm_comm *c, void *inout, uint64_t count, rm_dtype dtype, rm_reduce how)
{
    return on_host(c, call_reduce, &(host_args){ .inout = inout, .count = count, .dtype = dtype, .how = how });
}

static rm_status nccl_host_gather(rm_comm *c, const void *mine, size_t bytes, void *all)
{
    return on_host(c, call_gather, &(host_args){ .mine = mine, .count = bytes, .all = all });
}

static rm_status nccl_host_broadcast(rm_comm *c, void *inout, size_t bytes, int root)
{
    return on_host(c, call_broadcast, &(host_args){ .inout = inout, .count = bytes, .root = root });
}

/* ---- between GPUs */
static cudaStream_t stream_of(const nccl_comm *m) { return rm_cuda_stream(m->base.device, m->queue); }
static char *address(const rm_span *s) { return (char *)s->at.buf->ptr + s->at.offset; }
static bool narrowed(const nccl_comm *m, const rm_span *s) { return m->wire_dtype == RM_BF16 && s->dtype == RM_F32 && m->base.size > 1; }

static bool is_recording(const nccl_comm *m)
{
    enum cudaStreamCaptureStatus s = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(stream_of(m), &s) == cudaSuccess && s != cudaStreamCaptureStatusNone;
}

/* The queue goes on when `after` is done; NULL: when what the compute queue has so far is. */
static rm_status follow(nccl_comm *m, const rm_mark *after)
{
    if (!after) {
        RM_TRY(rm_mark_set(m->base.device, NULL, m->now));
        after = m->now;
    }
    return rm_mark_wait(m->base.device, m->queue, after);
}

static bool recorded_alive(const nccl_comm *m)
{
    for (const nccl_request *r = m->live; r; r = r->next)
        if (r->recorded) return true;
    return false;
}

/* Room for the gradients of one all-reduce in bf16: all-reduces follow one another, so they share it. */
static rm_status make_room(nccl_comm *m, uint64_t bytes, bool recording)
{
    if (bytes == 0 || (m->wire && rm_buf_bytes(m->wire->buf) >= bytes)) return RM_OK;
    if (recording)
        return rm_fail(RM_E_UNSUPPORTED, "an all-reduce of %llu bytes in bf16 is larger than any before the step was recorded, and memory cannot be taken then: run it once before",
                       (unsigned long long)bytes);
    nccl_wire *w = calloc(1, sizeof *w);
    if (!w) return rm_fail(RM_E_NOMEM, "out of memory for gradients in bf16");
    const rm_status st = rm_buf_alloc(m->base.device, RM_MEM_DEVICE, bytes, &w->buf);
    if (st != RM_OK) {
        free(w);
        return st;
    }
    if (m->wire && !recorded_alive(m)) {
        rm_buf_free(m->base.device, m->wire->buf); /* waits for what uses it */
        w->older = m->wire->older;
        free(m->wire);
    } else w->older = m->wire;
    m->wire = w;
    return RM_OK;
}

static rm_status convert(nccl_comm *m, rm_cuda_type from, const char *x, rm_cuda_type to, char *y, uint64_t count)
{
    static const size_t each[RM_CUDA_TYPES] = { [RM_CUDA_F32] = 4, [RM_CUDA_BF16] = 2 }; /* gradients travel in these */
    for (uint64_t at = 0; at < count; at += PIECE) {
        const int32_t n = (int32_t)(count - at < PIECE ? count - at : PIECE);
        const rm_cuda_tensor a = { from, RM_CUDA_NCHW, 1 }, b = { to, RM_CUDA_NCHW, 1 };
        RM_TRY(rm_cuda_check(rm_cuda_reorder(1, n, a, x + at * each[from], b, y + at * each[to], stream_of(m)), "convert gradients for the wire"));
    }
    return RM_OK;
}

/* Where a span is while it travels; `room` moves on by what it takes of the bf16 memory, whose parts stay aligned for vectors. */
typedef struct travel { char *at; uint64_t count; ncclDataType_t type; } travel;

static uint64_t room_of(const nccl_comm *m, const rm_span *s) { return narrowed(m, s) ? (s->count * 2 + 15) & ~(uint64_t)15 : 0; }

static rm_status travel_of(const nccl_comm *m, const rm_span *s, uint64_t *room, travel *out)
{
    const bool narrow = narrowed(m, s);
    *out = (travel){ .count = s->count };
    if (!s->count) return RM_OK;
    RM_TRY(type_of(narrow ? RM_BF16 : s->dtype, &out->type));
    out->at = narrow ? (char *)m->wire->buf->ptr + *room : address(s);
    *room += room_of(m, s);
    return RM_OK;
}

/* Converts all narrowed spans, to the wire or back. */
static rm_status convert_all(nccl_comm *m, const rm_span *span, uint32_t n, bool to_wire)
{
    uint64_t room = 0;
    for (uint32_t i = 0; i < n; i++) {
        travel t;
        RM_TRY(travel_of(m, &span[i], &room, &t));
        if (!t.count || !narrowed(m, &span[i])) continue;
        if (to_wire) RM_TRY(convert(m, RM_CUDA_F32, address(&span[i]), RM_CUDA_BF16, t.at, t.count));
        else RM_TRY(convert(m, RM_CUDA_BF16, t.at, RM_CUDA_F32, address(&span[i]), t.count));
    }
    return RM_OK;
}

/* One group, so that NCCL may carry the spans together. With the lock. */
static ncclResult_t sum_locked(nccl_comm *m, const rm_span *span, uint32_t n)
{
    uint64_t room = 0;
    ncclResult_t e = ncclGroupStart();
    if (e != ncclSuccess) return e;
    for (uint32_t i = 0; i < n && (e == ncclSuccess || e == ncclInProgress); i++) {
        travel t;
        if (travel_of(m, &span[i], &room, &t) != RM_OK) e = ncclInvalidArgument;
        else if (t.count) e = ncclAllReduce(t.at, t.at, t.count, t.type, ncclSum, m->comm, stream_of(m));
    }
    const ncclResult_t end = ncclGroupEnd();
    return e == ncclSuccess || e == ncclInProgress ? end : e;
}

static rm_status sum(nccl_comm *m, const rm_span *span, uint32_t n, const nccl_waited *w)
{
    ncclResult_t e = ncclSuccess;
    pthread_mutex_lock(&m->lock);
    const bool failed = m->failed || !m->comm;
    if (!failed) e = sum_locked(m, span, n);
    pthread_mutex_unlock(&m->lock);
    if (failed) return nccl_failed(m);
    RM_TRY(nccl_check(m, e, w));
    return nccl_settle(m, w); /* only then is it on the stream */
}

static rm_status nccl_broadcast(rm_comm *c, rm_span span, int root)
{
    nccl_comm *m = nccl_of(c);
    const nccl_waited w = { "broadcast", span.count * rm_dtype_bytes(span.dtype), c->calls };
    ncclDataType_t type = ncclFloat32;
    ncclResult_t e = ncclSuccess;
    RM_TRY(nccl_failed(m));
    RM_TRY(type_of(span.dtype, &type));
    if (!span.count) return RM_OK;
    RM_TRY(follow(m, NULL));
    pthread_mutex_lock(&m->lock);
    if (!m->failed) e = ncclBroadcast(address(&span), address(&span), span.count, type, root, m->comm, stream_of(m));
    pthread_mutex_unlock(&m->lock);
    RM_TRY(nccl_check(m, e, &w));
    RM_TRY(nccl_settle(m, &w));
    RM_TRY(rm_mark_set(c->device, m->queue, m->now));
    return nccl_wait_mark(m, m->now, &w);
}

/* ---- all-reduces */
/* Requests are made in the first steps and used again: no allocation in a later one. */
static rm_status take_request(nccl_comm *m, nccl_request **out)
{
    nccl_request *r = m->free;
    if (r) {
        m->free = r->next;
        *out = r;
        return RM_OK;
    }
    r = calloc(1, sizeof *r);
    if (!r) return rm_fail(RM_E_NOMEM, "out of memory for an all-reduce");
    rm_status st = rm_mark_new(m->base.device, &r->begin);
    if (st == RM_OK) st = rm_mark_new(m->base.device, &r->end);
    if (st != RM_OK) {
        nccl_request_free(m, r);
        return st;
    }
    *out = r;
    return RM_OK;
}

static void put_back(nccl_comm *m, nccl_request *r)
{
    r->next = m->free;
    m->free = r;
}

/* From here on the watching thread sees it. */
static void add_live(nccl_comm *m, nccl_request *r)
{
    nccl_request **at = &m->live;
    pthread_mutex_lock(&m->lock);
    while (*at) at = &(*at)->next;
    *at = r;
    r->next = NULL;
    pthread_mutex_unlock(&m->lock);
}

static rm_status enqueue(nccl_comm *m, nccl_request *r, const rm_span *span, uint32_t n, const rm_mark *after)
{
    rm_device *d = m->base.device;
    const nccl_waited w = { "all-reduce", r->bytes, r->number };
    uint64_t room = 0;
    for (uint32_t i = 0; i < n; i++) room += room_of(m, &span[i]);
    RM_TRY(follow(m, after));
    r->recorded = is_recording(m);
    RM_TRY(make_room(m, room, r->recorded));
    RM_TRY(rm_mark_set(d, m->queue, r->begin));
    RM_TRY(convert_all(m, span, n, true));
    RM_TRY(sum(m, span, n, &w));
    RM_TRY(convert_all(m, span, n, false));
    if (m->base.delay_ns) RM_TRY(rm_device_spin(d, m->queue, m->base.delay_ns));
    return rm_mark_set(d, m->queue, r->end);
}

static rm_status nccl_reduce_start(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request)
{
    nccl_comm *m = nccl_of(c);
    nccl_request *r = NULL;
    ncclDataType_t ignored;
    RM_TRY(nccl_failed(m));
    for (uint32_t i = 0; i < n; i++) RM_TRY(type_of(span[i].dtype, &ignored));
    RM_TRY(take_request(m, &r));
    pthread_mutex_lock(&m->lock);
    r->number = ++m->started;
    pthread_mutex_unlock(&m->lock);
    r->bytes = r->uses = 0;
    for (uint32_t i = 0; i < n; i++) r->bytes += span[i].count * rm_dtype_bytes(span[i].dtype);
    const rm_status st = enqueue(m, r, span, n, after);
    if (st != RM_OK) {
        put_back(m, r);
        return st;
    }
    add_live(m, r);
    *out_request = &r->base;
    return RM_OK;
}

static rm_status nccl_reduce_wait(rm_comm *c, rm_request *request, rm_queue *order_before)
{
    RM_TRY(nccl_failed(nccl_of(c)));
    return rm_mark_wait(c->device, order_before, ((const nccl_request *)request)->end);
}

static rm_status nccl_reduce_time(rm_comm *c, const rm_request *request, rm_reduce_time *out)
{
    nccl_comm *m = nccl_of(c);
    nccl_request *r = (nccl_request *)(uintptr_t)request;
    rm_reduce_time t;
    RM_TRY(nccl_failed(m)); /* an aborted kernel has an end too */
    RM_TRY(rm_mark_ns(c->device, r->begin, &t.begin_ns));
    RM_TRY(rm_mark_ns(c->device, r->end, &t.end_ns));
    pthread_mutex_lock(&m->lock);
    r->uses++;
    m->ended++;
    pthread_mutex_unlock(&m->lock);
    *out = t;
    return RM_OK;
}

static void nccl_reduce_free(rm_comm *c, rm_request *request)
{
    nccl_comm *m = nccl_of(c);
    nccl_request *r = (nccl_request *)request, **at = &m->live;
    pthread_mutex_lock(&m->lock);
    while (*at && *at != r) at = &(*at)->next;
    RM_ASSERT(*at);
    *at = r->next;
    pthread_mutex_unlock(&m->lock);
    put_back(m, r);
}

static rm_status nccl_comm_check(rm_comm *c)
{
    nccl_comm *m = nccl_of(c);
    const nccl_waited w = { .what = "connection between GPUs" };
    ncclResult_t state = ncclSuccess, e = ncclSuccess;
    pthread_mutex_lock(&m->lock);
    if (m->comm) e = ncclCommGetAsyncError(m->comm, &state);
    pthread_mutex_unlock(&m->lock);
    RM_TRY(nccl_failed(m));
    RM_TRY(nccl_check(m, e, &w));
    return nccl_check(m, state, &w);
}

const rm_comm_ops rm_comm_nccl = {
    .abi = RM_COMM_ABI,
    .name = "nccl",
    .summary = "NVIDIA GPUs (NCCL)",
    .available = nccl_available,
    .open = nccl_open,
    .close = nccl_close,
    .abort = nccl_abort,
    .barrier = nccl_barrier,
    .set_timeout = nccl_set_timeout,
    .broadcast = nccl_broadcast,
    .host_reduce = nccl_host_reduce,
    .host_gather = nccl_host_gather,
    .host_broadcast = nccl_host_broadcast,
    .reduce_start = nccl_reduce_start,
    .reduce_wait = nccl_reduce_wait,
    .reduce_time = nccl_reduce_time,
    .reduce_free = nccl_reduce_free,
    .check = nccl_comm_check,
    .library = nccl_library,
};
