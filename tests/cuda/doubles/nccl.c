/* NCCL between processes of one machine, on streams of the runtime's double.
 *
 * The unique id names a shared memory segment. A collective is one piece of work on its stream: it starts when the stream gets to it, copies its
 * data through the segment a chunk at a time, and is not done before all ranks have come. Sums are added in an order of ranks that moves on with
 * every chunk, as around a ring, in the type that travels: the same bits on every rank.
 *
 * A non-blocking communicator behaves as late as the real one may: initialisation answers ncclInProgress for a while, and what a group holds is put on
 * its stream only while the caller asks ncclCommGetAsyncError(), so that an event recorded too early is in front of it.
 *
 * Found: ranks that do different things; use before ncclSuccess, after the end, out of order; buffers that overlap; an end while work is under way.
 * RM_DOUBLES_FAULTS, for this rank: nccl-hang:N its Nth collective never arrives; nccl-async:N an asynchronous error with it; nccl-init-hang;
 * nccl-dead-hang: a peer that died is waited for, where otherwise ncclRemoteError tells of it; nccl-end-hang: ncclCommFinalize() is never done. */
#include "tests/cuda/doubles/nccl_shared.h"
#include "tests/cuda/doubles/doubles.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LATE = 3 /* times that a call which is not done yet is asked for */, TEXT = 256, WORDS = 512 };

/* A group's collectives on one communicator: one kernel. Lives in the runtime's copy of it. */
typedef struct batch { struct ncclComm *comm; bool recorded; uint32_t n; dbl_nccl_op op[]; } batch;

struct ncclComm {
    dbl_nccl_rank shared;
    int device;
    bool blocking, ready, finalized, ended; /* ended: destroyed or aborted; its memory stays, so that use afterwards is found */
    int late;                               /* answers that are still ncclInProgress */
    struct { cudaStream_t stream; batch *what; } waiting; /* not on its stream yet */
    _Atomic int error;                      /* asynchronous, ncclResult_t */
    _Atomic uint64_t under_way;             /* enqueued outside recordings, and not done */
    /* of the batch that runs: only work() touches it, under the runtime's lock */
    const batch *running;
    uint32_t at;                            /* which op of it */
    uint64_t count;                         /* collectives begun */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last_error[WORDS];
static _Atomic unsigned aborts;

/* dbl_fault() of internal.h is the runtime's; this one stands alone. */
static uint64_t fault(const char *name)
{
    const char *p = getenv("RM_DOUBLES_FAULTS");
    const size_t n = strlen(name);
    for (; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (!strncmp(p, name, n) && (p[n] == ':' || p[n] == ',' || !p[n])) return p[n] == ':' ? strtoull(p + n + 1, NULL, 10) : 1;
    return 0;
}

static ncclResult_t refuse(ncclResult_t e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static ncclResult_t refuse(ncclResult_t e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(last_error, sizeof last_error, fmt, args);
    va_end(args);
    dbl_finding("nccl: %s", last_error);
    return e;
}

/* ---- work: called by whoever waits for the stream, again and again, with the runtime's lock held */
static void fail(ncclComm_t c, ncclResult_t e, const char *why)
{
    snprintf(last_error, sizeof last_error, "%s", why);
    atomic_store(&c->error, (int)e);
}

/* True once all ranks are in this collective; a difference is found and ends the communicator. */
static bool met(ncclComm_t c)
{
    char text[TEXT];
    const dbl_nccl_met m = dbl_nccl_meet(&c->shared, text, sizeof text);
    if (m == DBL_NCCL_DIFFERS && !atomic_load(&c->error)) {
        dbl_finding("nccl: %s", text);
        fail(c, ncclInvalidUsage, text);
    }
    return m == DBL_NCCL_MET;
}

static void look_for_dead(ncclComm_t c)
{
    char text[TEXT];
    if (!fault("nccl-dead-hang") && !atomic_load(&c->error) && dbl_nccl_dead(&c->shared, text, sizeof text)) fail(c, ncclRemoteError, text);
}

static bool begin_op(ncclComm_t c, const dbl_nccl_op *op)
{
    const uint64_t number = ++c->count, hang = fault("nccl-hang"), broken = fault("nccl-async");
    if (broken && number >= broken) fail(c, ncclSystemError, "the network is down (a fault of the test doubles)");
    if (hang && number >= hang) return false;
    dbl_nccl_begin(&c->shared, op);
    return true;
}

static bool hangs(const ncclComm_t c)
{
    const uint64_t hang = fault("nccl-hang"), broken = fault("nccl-async");
    return (hang && c->count >= hang) || (broken && c->count >= broken) || atomic_load(&c->error);
}

/* True when it is done, or given up: an aborted kernel ends. */
static bool work(void *ctx)
{
    const batch *b = ctx;
    ncclComm_t c = b->comm;
    if (c->running && c->running != b) return false; /* the communicator's collectives follow one another, whatever their streams */
    if (!c->running) {
        c->running = b;
        c->at = 0;
        if (b->n && !dbl_nccl_aborted(&c->shared)) (void)begin_op(c, &b->op[0]);
    }
    while (c->at < b->n && !dbl_nccl_aborted(&c->shared)) {
        const dbl_nccl_op *op = &b->op[c->at];
        if (hangs(c) || !met(c) || !dbl_nccl_carry(&c->shared, op)) {
            look_for_dead(c);
            return false;
        }
        if (++c->at < b->n && !begin_op(c, &b->op[c->at])) return false;
    }
    c->running = NULL;
    if (!b->recorded) atomic_fetch_sub(&c->under_way, 1);
    return true;
}

static ncclResult_t put(ncclComm_t c, cudaStream_t stream, batch *b)
{
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    dbl_touch *touch = calloc(2 * (size_t)b->n, sizeof *touch);
    if (!touch) abort();
    for (uint32_t i = 0; i < b->n; i++) {
        const dbl_nccl_op *op = &b->op[i];
        touch[2 * i] = (dbl_touch){ op->send, op->bytes, false };
        touch[2 * i + 1] = (dbl_touch){ op->recv, op->bytes, true };
    }
    (void)cudaStreamIsCapturing(stream, &capture);
    b->recorded = capture != cudaStreamCaptureStatusNone;
    if (!b->recorded) atomic_fetch_add(&c->under_way, 1);
    const dbl_work w = { .name = b->op[0].name, .kind = DBL_KERNEL, .run = work, .ctx = b, .bytes = sizeof *b + b->n * sizeof b->op[0], .touch = touch, .n_touch = 2 * (size_t)b->n };
    const cudaError_t e = dbl_enqueue(stream, &w);
    free(touch);
    free(b);
    if (e == cudaSuccess) return ncclSuccess;
    snprintf(last_error, sizeof last_error, "CUDA failure '%s'", cudaGetErrorString(e));
    atomic_store(&c->error, (int)ncclUnhandledCudaError);
    return ncclUnhandledCudaError;
}

/* ---- what callers may do */
static ncclResult_t usable(ncclComm_t c, const char *call)
{
    if (!c) return refuse(ncclInvalidArgument, "%s on no communicator", call);
    if (c->ended) return refuse(ncclInvalidArgument, "%s on a communicator that was %s", call, dbl_nccl_aborted(&c->shared) ? "aborted" : "destroyed");
    return ncclSuccess;
}

static ncclResult_t ready(ncclComm_t c, const char *call)
{
    const ncclResult_t e = usable(c, call);
    if (e != ncclSuccess) return e;
    if (c->finalized) return refuse(ncclInvalidUsage, "%s on a communicator that was finalized", call);
    if (!c->ready || c->waiting.what) return refuse(ncclInvalidArgument, "%s before ncclCommGetAsyncError said that the call before was done", call);
    return ncclSuccess;
}

/* ---- groups, of a thread */
typedef struct entry { ncclComm_t comm; cudaStream_t stream; dbl_nccl_op op; } entry;
static _Thread_local struct { int depth; uint32_t n, room; entry *entry; ncclResult_t failed; } group;

static batch *batch_of(ncclComm_t c, cudaStream_t *out_stream)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < group.n; i++) n += group.entry[i].comm == c;
    batch *b = calloc(1, sizeof *b + n * sizeof b->op[0]);
    if (!b) abort();
    b->comm = c;
    for (uint32_t i = 0; i < group.n; i++) {
        if (group.entry[i].comm != c) continue;
        if (b->n && group.entry[i].stream != *out_stream) dbl_finding("nccl: a group has collectives of one communicator on two streams: this double orders them by the first alone");
        if (!b->n) *out_stream = group.entry[i].stream;
        b->op[b->n++] = group.entry[i].op;
        group.entry[i].comm = NULL;
    }
    return b;
}

static ncclResult_t launch(void)
{
    ncclResult_t all = ncclSuccess;
    for (uint32_t i = 0; i < group.n; i++) {
        ncclComm_t c = group.entry[i].comm;
        cudaStream_t stream = NULL;
        if (!c) continue; /* in an earlier one's batch */
        batch *b = batch_of(c, &stream);
        if (c->blocking) {
            const ncclResult_t e = put(c, stream, b);
            if (e != ncclSuccess) all = e;
            continue;
        }
        c->waiting.what = b;
        c->waiting.stream = stream;
        c->late = LATE;
        if (all == ncclSuccess) all = ncclInProgress;
    }
    return all;
}

static ncclResult_t end_group(void)
{
    ncclResult_t e = group.failed;
    if (--group.depth > 0) return ncclSuccess;
    if (e == ncclSuccess) e = launch();
    group.n = 0;
    group.failed = ncclSuccess;
    return e;
}

/* The library's header declares these two without a prototype. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

ncclResult_t ncclGroupStart(void)
{
    group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    pthread_mutex_lock(&lock);
    const ncclResult_t e = end_group();
    pthread_mutex_unlock(&lock);
    return e;
}

static ncclResult_t add(ncclComm_t c, cudaStream_t stream, const char *name, dbl_nccl_op op)
{
    const char *send = op.send, *recv = op.recv;
    ncclResult_t e = ready(c, name);
    if (e == ncclSuccess && !dbl_nccl_type_bytes(op.type)) e = refuse(ncclInvalidArgument, "%s of type %d, which this double has not", name, (int)op.type);
    if (e == ncclSuccess && (op.root < 0 || op.root >= c->shared.size)) e = refuse(ncclInvalidArgument, "%s with root %d of %d ranks", name, op.root, c->shared.size);
    op.bytes = e == ncclSuccess ? op.count * dbl_nccl_type_bytes(op.type) : 0;
    if (e == ncclSuccess && send != recv && send < recv + op.bytes && recv < send + op.bytes) e = refuse(ncclInvalidArgument, "%s of buffers that overlap and are not the same", name);
    if (e != ncclSuccess) {
        group.failed = e;
        return e;
    }
    if (group.n == group.room) {
        group.room = group.room ? 2 * group.room : 16;
        group.entry = realloc(group.entry, group.room * sizeof *group.entry);
        if (!group.entry) abort();
    }
    group.entry[group.n++] = (entry){ c, stream, op };
    return ncclSuccess;
}

static ncclResult_t collective(ncclComm_t c, cudaStream_t stream, const char *name, dbl_nccl_op op)
{
    pthread_mutex_lock(&lock);
    group.depth++;
    ncclResult_t e = add(c, stream, name, op);
    const ncclResult_t ended = end_group();
    if (e == ncclSuccess) e = ended;
    pthread_mutex_unlock(&lock);
    return e;
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t c, cudaStream_t stream)
{
    static const char *const kernel = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)";
    if (op != ncclSum) return refuse(ncclInvalidArgument, "ncclAllReduce with operation %d, where this double only sums", (int)op);
    return collective(c, stream, "ncclAllReduce", (dbl_nccl_op){ .name = kernel, .send = send, .recv = recv, .count = count, .type = type, .what = DBL_NCCL_ALL_REDUCE });
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type, int root, ncclComm_t c, cudaStream_t stream)
{
    static const char *const kernel = "ncclDevKernel_Broadcast_RING_LL(ncclDevKernelArgsStorage<4096ul>)";
    return collective(c, stream, "ncclBroadcast", (dbl_nccl_op){ .name = kernel, .send = send, .recv = recv, .count = count, .type = type, .root = root, .what = DBL_NCCL_BROADCAST });
}

/* ---- beginning */
ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    if (dbl_nccl_create(id)) return ncclSuccess;
    snprintf(last_error, sizeof last_error, "no shared memory");
    return ncclSystemError;
}

static void finish_init(ncclComm_t c)
{
    char text[TEXT];
    if (c->ready || fault("nccl-init-hang") || (c->late && c->late--) || !dbl_nccl_all_here(&c->shared)) return;
    if (dbl_nccl_same_gpu(&c->shared, text, sizeof text)) fail(c, ncclInvalidUsage, text);
    c->ready = true;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    static const struct timespec nap = { 0, 1000000 };
    ncclComm_t c = calloc(1, sizeof *c);
    if (!c) abort();
    if (config && config->magic != 0xcafebeef) return refuse(ncclInvalidArgument, "a configuration that was not set to NCCL_CONFIG_INITIALIZER");
    if (rank < 0 || rank >= size) return refuse(ncclInvalidArgument, "rank %d of %d", rank, size);
    if (cudaGetDevice(&c->device) != cudaSuccess) return ncclUnhandledCudaError;
    if (!dbl_nccl_attach(&c->shared, &id, rank, size, c->device, !fault("nccl-init-hang"))) return refuse(ncclInvalidArgument, "a unique id that names nothing, or that another rank %d has used", rank);
    c->blocking = !config || config->blocking != 0;
    c->late = LATE;
    *out = c;
    if (!c->blocking) return ncclInProgress;
    for (finish_init(c); !c->ready; finish_init(c)) nanosleep(&nap, NULL);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int size, ncclUniqueId id, int rank) { return ncclCommInitRankConfig(out, size, id, rank, NULL); }

/* ---- asking */
static ncclResult_t state_of(ncclComm_t c)
{
    finish_init(c);
    if (c->waiting.what && (!c->late || !c->late--)) {
        batch *b = c->waiting.what;
        c->waiting.what = NULL;
        (void)put(c, c->waiting.stream, b); /* work() does not take our lock */
    }
    const bool finalizing = c->finalized && (fault("nccl-end-hang") || (c->late && c->late--));
    const ncclResult_t e = (ncclResult_t)atomic_load(&c->error);
    return e != ncclSuccess ? e : !c->ready || c->waiting.what || finalizing ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *out)
{
    pthread_mutex_lock(&lock);
    const ncclResult_t e = usable(c, "ncclCommGetAsyncError");
    if (e == ncclSuccess) *out = state_of(c);
    pthread_mutex_unlock(&lock);
    return e;
}

static ncclResult_t number(ncclComm_t c, const char *call, int value, int *out)
{
    const ncclResult_t e = usable(c, call);
    if (e == ncclSuccess) *out = value;
    return e;
}
ncclResult_t ncclCommCount(const ncclComm_t c, int *out) { return number(c, "ncclCommCount", c ? c->shared.size : 0, out); }
ncclResult_t ncclCommUserRank(const ncclComm_t c, int *out) { return number(c, "ncclCommUserRank", c ? c->shared.rank : 0, out); }
ncclResult_t ncclCommCuDevice(const ncclComm_t c, int *out) { return number(c, "ncclCommCuDevice", c ? c->device : 0, out); }

const char *ncclGetErrorString(ncclResult_t e)
{
    static const char *const text[ncclNumResults] = {
        [ncclSuccess] = "no error", [ncclUnhandledCudaError] = "unhandled cuda error", [ncclSystemError] = "unhandled system error",
        [ncclInternalError] = "internal error", [ncclInvalidArgument] = "invalid argument", [ncclInvalidUsage] = "invalid usage",
        [ncclRemoteError] = "remote process exited or there was a network error", [ncclInProgress] = "NCCL operation in progress",
    };
    return (unsigned)e < ncclNumResults ? text[e] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t c) { return last_error; }

/* ---- the end */
ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    pthread_mutex_lock(&lock);
    ncclResult_t e = ready(c, "ncclCommFinalize");
    if (e == ncclSuccess) {
        c->finalized = true;
        c->late = LATE;
        e = c->blocking ? ncclSuccess : ncclInProgress;
    }
    pthread_mutex_unlock(&lock);
    return e;
}

static ncclResult_t end(ncclComm_t c, const char *call, bool abort_it)
{
    pthread_mutex_lock(&lock);
    const ncclResult_t e = usable(c, call);
    if (e == ncclSuccess) {
        if (!abort_it && atomic_load(&c->under_way)) dbl_finding("nccl: %s while %llu collectives are under way", call, (unsigned long long)atomic_load(&c->under_way));
        if (!abort_it && c->waiting.what) dbl_finding("nccl: %s before the call before was done", call);
        if (abort_it) dbl_nccl_abort(&c->shared);
        dbl_nccl_leave(&c->shared);
        c->ended = true;
    }
    pthread_mutex_unlock(&lock);
    return e;
}
ncclResult_t ncclCommDestroy(ncclComm_t c) { return end(c, "ncclCommDestroy", false); }
ncclResult_t ncclCommAbort(ncclComm_t c)
{
    atomic_fetch_add(&aborts, 1);
    return end(c, "ncclCommAbort", true);
}
unsigned dbl_nccl_aborts(void) { return atomic_load(&aborts); }
