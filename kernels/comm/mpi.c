/* MPI: ranks on one machine or many, by Open MPI, MPICH or what descends from them.
 *
 * Only non-blocking collectives are used, each waited for with MPI_Test between short sleeps: so every wait has an end, and a
 * waiting rank leaves its core to the others. MPI allows one MPI_Init and one MPI_Finalize a process: the first communicator
 * begins it, rm_comm_leave() ends it; each communicator is a duplicate of the world's, which itself carries only the last
 * barrier. All calls of a communicator come from one thread at a time (MPI_THREAD_SERIALIZED). */
#include "base/clock.h"
#include "base/log.h"
#include "kernels/comm/comm.h"
#include "kernels/comm/mpi_settings.h"
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    REQUESTS = 256,      /* at the start: a bucket for each of ResNet-50's 161 gradients and then some */
    PARTS = 4,           /* MPI calls of a request at the start */
    PART_MAX = 1 << 30,  /* elements of one call: counts are int */
    EAGER_NS = 20000000, /* how long a wait only yields: what two ranks in one machine take for the whole arena */
    NAP_NS = 100000,
};

typedef struct mpi_request {
    rm_request base;
    struct mpi_request *next;   /* of the free list */
    MPI_Request *part;
    int n_part, room;
    uint64_t bytes, number;
} mpi_request;

typedef struct mpi_comm {
    rm_comm base;
    MPI_Comm comm;
    MPI_Op bf16_sum;
    uint64_t timeout_ns, part_max, started;
    bool failed;
    char why[512];              /* it failed, for the calls after that */
    char host[64];
    mpi_request **block;        /* (n_block) arrays of REQUESTS: they never move */
    size_t n_block;
    mpi_request *free;
} mpi_comm;

/* What a wait is for, in words for the user. */
typedef struct waited { const char *what; uint64_t bytes, number; } waited;

static mpi_comm *mpi_of(rm_comm *c) { return (mpi_comm *)c; }

/* ---- errors and waiting */
static rm_status fail_for_good(mpi_comm *m)
{
    m->failed = true;
    return rm_fail(RM_E_PEER, "%s", m->why);
}

static rm_status mpi_failed(mpi_comm *m, int error, const waited *w)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int n = 0;
    MPI_Error_string(error, text, &n);
    text[strcspn(text, "\n")] = '\0';
    snprintf(m->why, sizeof m->why, "rank %d on %s: the %s of %llu bytes failed, as a peer or the network did: %.200s", m->base.rank, m->host, w->what,
             (unsigned long long)w->bytes, text);
    return fail_for_good(m);
}

static rm_status timed_out(mpi_comm *m, const waited *w)
{
    snprintf(m->why, sizeof m->why,
             "rank %d on %s waited %.1f s for the %s of %llu bytes (number %llu): a peer hangs or is lost, which one is unknown; "
             "--comm-timeout sets how long to wait",
             m->base.rank, m->host, rm_s(m->timeout_ns), w->what, (unsigned long long)w->bytes, (unsigned long long)w->number);
    return fail_for_good(m);
}

static void nap(uint64_t waited_ns)
{
    const struct timespec t = { 0, NAP_NS };
    if (waited_ns < EAGER_NS) sched_yield();
    else nanosleep(&t, NULL);
}

static rm_status wait_parts(mpi_comm *m, MPI_Request *part, int n, const waited *w)
{
    const uint64_t begin = rm_now_ns();
    for (int at = 0; at < n;) { /* one by one: a test of any moves all of them on */
        int done = 0;
        const int e = MPI_Test(&part[at], &done, MPI_STATUS_IGNORE);
        if (e != MPI_SUCCESS) return mpi_failed(m, e, w);
        if (done) {
            at++;
            continue;
        }
        const uint64_t waited_ns = rm_now_ns() - begin;
        if (waited_ns > m->timeout_ns) return timed_out(m, w);
        nap(waited_ns);
    }
    return RM_OK;
}

static rm_status wait_one(mpi_comm *m, int error, MPI_Request *request, const waited *w)
{
    return error == MPI_SUCCESS ? wait_parts(m, request, 1, w) : mpi_failed(m, error, w);
}

static rm_status wait_mark(mpi_comm *m, const rm_mark *after)
{
    const uint64_t begin = rm_now_ns();
    while (!rm_mark_done(m->base.device, after)) {
        const uint64_t waited_ns = rm_now_ns() - begin;
        if (waited_ns > m->timeout_ns) return rm_fail(RM_E_DEVICE, "rank %d on %s: the device did not finish a gradient in %.1f s", m->base.rank, m->host, rm_s(waited_ns));
        nap(waited_ns);
    }
    return RM_OK;
}

static rm_status usable(const mpi_comm *m)
{
    return m->failed ? rm_fail(RM_E_PEER, "%s", m->why) : RM_OK;
}

/* ---- types */
static float from_bf16(uint16_t h)
{
    union { uint32_t u; float f; } v = { .u = (uint32_t)h << 16 };
    return v.f;
}

/* To nearest, ties to even; NaN stays NaN. */
static uint16_t to_bf16(float f)
{
    union { float f; uint32_t u; } v = { .f = f };
    if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(v.u >> 16 | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + (v.u >> 16 & 1u)) >> 16);
}

/* Each addition is in f32 and rounded once: N ranks round N-1 times, as NCCL does. */
static void add_bf16(void *in, void *inout, int *n, MPI_Datatype *type)
{
    const uint16_t *a = in;
    uint16_t *b = inout;
    for (int i = 0; i < *n; i++) b[i] = to_bf16(from_bf16(a[i]) + from_bf16(b[i]));
}

static rm_status type_of(const mpi_comm *m, rm_dtype dtype, MPI_Datatype *out_type)
{
    const MPI_Datatype type[RM_DTYPE_COUNT] = { [RM_F32] = MPI_FLOAT, [RM_TF32] = MPI_FLOAT, [RM_F64] = MPI_DOUBLE, [RM_BF16] = MPI_UINT16_T,
                                                [RM_I32] = MPI_INT32_T, [RM_U8] = MPI_UINT8_T, [RM_F16] = MPI_DATATYPE_NULL };
    if (type[dtype] == MPI_DATATYPE_NULL) return rm_fail(RM_E_UNSUPPORTED, "mpi cannot sum %s: use fp32 or bf16", rm_dtype_name(dtype));
    *out_type = type[dtype];
    return RM_OK;
}

static MPI_Op op_of(const mpi_comm *m, rm_dtype dtype, rm_reduce how)
{
    const MPI_Op op[] = { [RM_SUM] = MPI_SUM, [RM_MIN] = MPI_MIN, [RM_MAX] = MPI_MAX };
    return dtype == RM_BF16 ? m->bf16_sum : op[how];
}

static int part_count(const mpi_comm *m, uint64_t left) { return (int)(left < m->part_max ? left : m->part_max); }

static rm_status host_address(const rm_span *s, void **out)
{
    char *base = s->at.buf ? rm_buf_host(s->at.buf) : NULL;
    if (!base && s->count) return rm_fail(RM_E_UNSUPPORTED, "mpi reaches only memory of the host, and this device's is its own: use --comm nccl");
    *out = base ? base + s->at.offset : NULL;
    return RM_OK;
}

/* ---- the library: once a process */
static struct { pthread_once_t once; char name[96]; } library = { .once = PTHREAD_ONCE_INIT };

/* "Open MPI v4.1.4, package: ..." to "Open MPI 4.1.4"; "MPICH Version:\t4.0.2\n..." to "MPICH 4.0.2". */
static void read_library(void)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "", name[32] = "", version[32] = "";
    int n = 0;
    MPI_Get_library_version(text, &n);
    if (sscanf(text, "Open MPI v%31[0-9.rca]", version) == 1) snprintf(library.name, sizeof library.name, "Open MPI %s", version);
    else if (sscanf(text, "%31s Version: %31s", name, version) == 2) snprintf(library.name, sizeof library.name, "%s %s", name, version);
    else snprintf(library.name, sizeof library.name, "%.*s", (int)strcspn(text, "\n,"), text);
}

static const char *mpi_library(void)
{
    pthread_once(&library.once, read_library);
    return library.name;
}

/* MPI_Init, MPI_Finalize and the settings before them belong to the process, whatever communicators there are. */
static struct { pthread_mutex_t lock; uint64_t timeout_ns; char settings[512]; } process = { .lock = PTHREAD_MUTEX_INITIALIZER };

const char *rm_comm_settings(void) { return process.settings; }

static rm_status begin_locked(void)
{
    int begun = 0, ended = 0, level = 0;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (ended) return rm_fail(RM_E_UNSUPPORTED, "MPI has ended in this process and cannot begin again");
    if (!begun) {
        mpi_settings_apply(mpi_library(), rm_world_from_env(), process.settings, sizeof process.settings);
        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS) return rm_fail(RM_E_PEER, "MPI (%s) could not start", mpi_library());
    } else MPI_Query_thread(&level);
    if (level < MPI_THREAD_SERIALIZED) return rm_fail(RM_E_UNSUPPORTED, "this %s was built without threads; use one with MPI_THREAD_SERIALIZED", mpi_library());
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return RM_OK;
}

static rm_status begin(uint64_t timeout_ns)
{
    pthread_mutex_lock(&process.lock);
    process.timeout_ns = timeout_ns;
    const rm_status st = begin_locked();
    pthread_mutex_unlock(&process.lock);
    return st;
}

/* All ranks that end in order meet here, or MPI_Finalize might wait for one that never comes. */
static bool meet(uint64_t timeout_ns)
{
    MPI_Request r;
    int done = 0;
    const uint64_t start = rm_now_ns();
    if (MPI_Ibarrier(MPI_COMM_WORLD, &r) != MPI_SUCCESS) return false;
    for (;;) {
        if (MPI_Test(&r, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
        const uint64_t waited_ns = rm_now_ns() - start;
        if (done || waited_ns > timeout_ns) return done;
        nap(waited_ns);
    }
}

void rm_comm_leave(int exit_code)
{
    static const int orderly[] = { 0, 7, 130, 143 };
    int begun = 0, ended = 0, code = exit_code;
    bool in_order = false;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (!begun || ended) return;
    for (size_t i = 0; i < RM_COUNT(orderly); i++) in_order |= exit_code == orderly[i];
    if (in_order) {
        if (meet(process.timeout_ns)) {
            MPI_Finalize();
            return;
        }
        rm_error("the peers did not come to the end within %.1f s", rm_s(process.timeout_ns));
        code = rm_exit_code(RM_E_PEER, 0);
    }
    fflush(NULL);
    MPI_Abort(MPI_COMM_WORLD, code);
}

static rm_status mpi_available(void) { return RM_OK; }

/* ---- requests */
static rm_status add_requests(mpi_comm *m)
{
    mpi_request **block = realloc(m->block, (m->n_block + 1) * sizeof(mpi_request *));
    if (block) m->block = block;
    mpi_request *fresh = block ? calloc(REQUESTS, sizeof *fresh) : NULL;
    if (!fresh) return rm_fail(RM_E_NOMEM, "out of memory for the requests of a communicator");
    m->block[m->n_block++] = fresh;
    for (int i = REQUESTS - 1; i >= 0; i--) {
        fresh[i].next = m->free;
        m->free = &fresh[i];
        fresh[i].part = malloc(PARTS * sizeof(MPI_Request));
        if (!fresh[i].part) return rm_fail(RM_E_NOMEM, "out of memory for the requests of a communicator");
        fresh[i].room = PARTS;
    }
    return RM_OK;
}

static rm_status take_request(mpi_comm *m, uint64_t parts, mpi_request **out)
{
    if (!m->free) RM_TRY(add_requests(m));
    mpi_request *r = m->free;
    RM_ASSERT(r);
    if (parts > (uint64_t)r->room) { /* the first steps only: requests keep their room */
        MPI_Request *part = parts > 0 && parts < PART_MAX ? realloc(r->part, parts * sizeof(MPI_Request)) : NULL;
        if (!part) return rm_fail(RM_E_NOMEM, "out of memory for an all-reduce of %llu parts", (unsigned long long)parts);
        r->part = part;
        r->room = (int)parts;
    }
    m->free = r->next;
    r->n_part = 0;
    r->bytes = 0;
    r->number = ++m->started;
    *out = r;
    return RM_OK;
}

static void give_request(mpi_comm *m, mpi_request *r)
{
    r->next = m->free;
    m->free = r;
}

/* ---- opening */
static void mpi_close(rm_comm *c)
{
    mpi_comm *m = mpi_of(c);
    /* The duplicate stays until MPI_Finalize: freeing it is collective, and the peers may be gone. Requests still under way
     * keep their memory, which the library may yet write. */
    if (m->bf16_sum != MPI_OP_NULL && !m->failed) MPI_Op_free(&m->bf16_sum);
    for (size_t b = 0; b < m->n_block; b++) {
        for (int i = 0; i < REQUESTS && !m->failed; i++) free(m->block[b][i].part);
        if (!m->failed) free(m->block[b]);
    }
    free(m->block);
    free(m);
}

/* Started as rank r of n by one library's launcher, and linked with another's: each rank would train alone. */
static rm_status check_world(mpi_comm *m)
{
    const rm_world w = rm_world_from_env();
    if (m->base.size == w.size) return RM_OK;
    return rm_fail(RM_E_UNSUPPORTED,
                   "started as rank %d of %d, but %s, which bench was built with, sees %d ranks: start it with that library's own mpirun, or with "
                   "srun --mpi=pmix or --mpi=pmi2 as the library needs",
                   w.rank, w.size, mpi_library(), m->base.size);
}

static uint64_t part_limit(void)
{
    const char *text = getenv("RINGMARK_MPI_PART"); /* tests: how large messages are cut */
    const long long v = text ? atoll(text) : 0; // NOLINT(cert-err34-c)
    return v > 0 && v < PART_MAX ? (uint64_t)v : PART_MAX;
}

static rm_status join(mpi_comm *m)
{
    const waited w = { .what = "first barrier" };
    MPI_Request r;
    MPI_Comm_rank(MPI_COMM_WORLD, &m->base.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &m->base.size);
    RM_TRY(check_world(m));
    RM_TRY(wait_one(m, MPI_Comm_idup(MPI_COMM_WORLD, &m->comm, &r), &r, &w));
    MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    if (MPI_Op_create(add_bf16, 1, &m->bf16_sum) != MPI_SUCCESS) return rm_fail(RM_E_NOMEM, "MPI could not make an operation");
    return add_requests(m);
}

static rm_status mpi_open(const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm)
{
    if (!rm_world_is_rank())
        return rm_fail(RM_E_ARG, "--comm mpi: this process was not started as a rank: leave --comm out, or start it with mpirun -n 1 for a communicator of one");
    mpi_comm *m = calloc(1, sizeof *m);
    if (!m) return rm_fail(RM_E_NOMEM, "out of memory opening a communicator");
    m->bf16_sum = MPI_OP_NULL;
    m->timeout_ns = (uint64_t)(cfg->timeout_s * 1e9);
    m->part_max = part_limit();
    m->base.device = device;
    if (gethostname(m->host, sizeof m->host - 1) != 0) snprintf(m->host, sizeof m->host, "an unnamed host");
    rm_status st = begin(m->timeout_ns);
    if (st == RM_OK) st = join(m);
    if (st != RM_OK) mpi_close(&m->base);
    else *out_comm = &m->base;
    return st;
}

static void mpi_abort(rm_comm *c, int exit_code)
{
    fflush(NULL);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
}

/* ---- host collectives */
/* wait_one() tests its request to the end, which the checker does not see. NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker) */
static rm_status mpi_barrier(rm_comm *c)
{
    mpi_comm *m = mpi_of(c);
    MPI_Request r;
    const waited w = { "barrier", 0, c->calls };
    RM_TRY(usable(m));
    return wait_one(m, MPI_Ibarrier(m->comm, &r), &r, &w);
}

static rm_status mpi_host_broadcast(rm_comm *c, void *inout, size_t bytes, int root)
{
    mpi_comm *m = mpi_of(c);
    const waited w = { "broadcast", bytes, c->calls };
    RM_TRY(usable(m));
    for (uint64_t at = 0; at < bytes;) {
        MPI_Request r;
        const int n = part_count(m, bytes - at);
        RM_TRY(wait_one(m, MPI_Ibcast((char *)inout + at, n, MPI_BYTE, root, m->comm, &r), &r, &w));
        at += (uint64_t)n;
    }
    return RM_OK;
}

static rm_status mpi_host_reduce(rm_comm *c, void *inout, uint64_t count, rm_dtype dtype, rm_reduce how)
{
    mpi_comm *m = mpi_of(c);
    const size_t each = rm_dtype_bytes(dtype);
    const waited w = { "all-reduce of host values", count * each, c->calls };
    MPI_Datatype type = MPI_DATATYPE_NULL;
    RM_TRY(usable(m));
    RM_TRY(type_of(m, dtype, &type));
    for (uint64_t at = 0; at < count;) {
        MPI_Request r;
        const int n = part_count(m, count - at);
        RM_TRY(wait_one(m, MPI_Iallreduce(MPI_IN_PLACE, (char *)inout + at * each, n, type, op_of(m, dtype, how), m->comm, &r), &r, &w));
        at += (uint64_t)n;
    }
    return RM_OK;
}

/* One part of every rank's bytes: they arrive `bytes` apart, which is the extent of the type they are received as. */
static rm_status gather_part(mpi_comm *m, const void *mine, int n, size_t bytes, void *all, const waited *w)
{
    MPI_Datatype dense, spaced;
    MPI_Request r;
    MPI_Type_contiguous(n, MPI_BYTE, &dense);
    MPI_Type_create_resized(dense, 0, (MPI_Aint)bytes, &spaced);
    MPI_Type_commit(&spaced);
    const rm_status st = wait_one(m, MPI_Igather(mine, n, MPI_BYTE, all, 1, spaced, 0, m->comm, &r), &r, w);
    MPI_Type_free(&spaced);
    MPI_Type_free(&dense);
    return st;
}

static rm_status mpi_host_gather(rm_comm *c, const void *mine, size_t bytes, void *all)
{
    mpi_comm *m = mpi_of(c);
    const waited w = { "gather", bytes, c->calls };
    RM_TRY(usable(m));
    for (size_t at = 0; at < bytes;) {
        const int n = part_count(m, bytes - at);
        RM_TRY(gather_part(m, (const char *)mine + at, n, bytes, c->rank == 0 ? (char *)all + at : NULL, &w));
        at += (size_t)n;
    }
    return RM_OK;
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */

/* ---- device collectives */
static rm_status mpi_broadcast(rm_comm *c, rm_span span, int root)
{
    void *p = NULL;
    RM_TRY(host_address(&span, &p));
    if (span.count) RM_TRY(rm_device_sync(c->device, NULL)); /* work that writes or reads it may still be queued */
    return mpi_host_broadcast(c, p, span.count * rm_dtype_bytes(span.dtype), root);
}

static rm_status start_span(mpi_comm *m, const rm_span *s, mpi_request *r)
{
    const size_t each = rm_dtype_bytes(s->dtype);
    const waited w = { "all-reduce", r->bytes, r->number };
    MPI_Datatype type = MPI_DATATYPE_NULL;
    void *p = NULL;
    RM_TRY(type_of(m, s->dtype, &type));
    RM_TRY(host_address(s, &p));
    for (uint64_t at = 0; at < s->count;) {
        const int n = part_count(m, s->count - at);
        const int e = MPI_Iallreduce(MPI_IN_PLACE, (char *)p + at * each, n, type, op_of(m, s->dtype, RM_SUM), m->comm, &r->part[r->n_part]);
        if (e != MPI_SUCCESS) return mpi_failed(m, e, &w);
        r->n_part++;
        at += (uint64_t)n;
    }
    return RM_OK;
}

static rm_status mpi_reduce_start(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request)
{
    mpi_comm *m = mpi_of(c);
    uint64_t parts = 0, bytes = 0;
    mpi_request *r = NULL;
    RM_TRY(usable(m));
    for (uint32_t i = 0; i < n; i++) {
        parts += (span[i].count + m->part_max - 1) / m->part_max;
        bytes += span[i].count * rm_dtype_bytes(span[i].dtype);
    }
    RM_TRY(take_request(m, parts, &r));
    RM_ASSERT(r);
    r->bytes = bytes;
    rm_status st = RM_OK;
    if (after) st = wait_mark(m, after);
    else if (c->device) st = rm_device_sync(c->device, NULL);
    for (uint32_t i = 0; st == RM_OK && i < n; i++) st = start_span(m, &span[i], r);
    if (st == RM_OK) *out_request = &r->base;
    else if (r->n_part == 0) give_request(m, r);
    return st;
}

static rm_status mpi_reduce_wait(rm_comm *c, rm_request *request, rm_queue *order_before)
{
    mpi_comm *m = mpi_of(c);
    mpi_request *r = (mpi_request *)request;
    const waited w = { "all-reduce", r->bytes, r->number };
    RM_TRY(usable(m));
    RM_TRY(wait_parts(m, r->part, r->n_part, &w));
    give_request(m, r);
    return RM_OK;
}

/* MPI of today says nothing of a peer's death: what was seen in a collective is all there is. Progress is made meanwhile. */
static rm_status mpi_check(rm_comm *c)
{
    mpi_comm *m = mpi_of(c);
    int flag;
    const waited w = { .what = "look at the peers" };
    RM_TRY(usable(m));
    const int e = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, m->comm, &flag, MPI_STATUS_IGNORE);
    return e == MPI_SUCCESS ? RM_OK : mpi_failed(m, e, &w);
}

const rm_comm_ops rm_comm_mpi = {
    .abi = RM_COMM_ABI, .name = "mpi", .summary = "ranks in host memory over MPI", .available = mpi_available, .open = mpi_open, .close = mpi_close,
    .abort = mpi_abort, .barrier = mpi_barrier, .broadcast = mpi_broadcast, .host_reduce = mpi_host_reduce, .host_gather = mpi_host_gather,
    .host_broadcast = mpi_host_broadcast, .reduce_start = mpi_reduce_start, .reduce_wait = mpi_reduce_wait, .check = mpi_check, .library = mpi_library,
};
