/* MPI: ranks on one machine or many, by Open MPI, MPICH or what descends from them.
 *
 * MPI libraries move bytes only while they are called, so each communicator has a thread, the only one that calls MPI between
 * opening and closing: the network's thread hands it jobs and goes on computing. Only non-blocking collectives are used, each
 * waited for with MPI_Test between short sleeps: every wait has an end, and the core stays with the computation. Measured, a thread in
 * a blocking MPI_Allreduce polls, and takes half the core from back-propagation.
 *
 * Each communicator is a duplicate of the world's, which itself carries only the last barrier (MPI_THREAD_SERIALIZED is enough). */
#define _GNU_SOURCE
#include "base/clock.h"
#include "kernels/comm/comm.h"
#include "kernels/comm/mpi_bf16.h"
#include "kernels/comm/mpi_outer.h"
#include "kernels/comm/mpi_peers.h"
#include "kernels/comm/mpi_process.h"
#include "kernels/comm/mpi_settings.h"
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum {
    QUEUE = 512, /* jobs under way at most: a bucket for each of ResNet-50's 161 gradients and then some */
    DEPTH = 3, /* parts of an all-reduce under way at once: one is added up while the next arrives */
    PART_BYTES = 2 << 20, /* of one part */
    COUNT_MAX = 1 << 30, /* elements of one MPI call: counts are int */
    EAGER_NS = 20000000, /* how long a wait that nobody computes beside only yields */
    MOVED_NS = 50000, /* a test that took longer has moved bytes: there may be more */
    NAP_BESIDE_NS = 500000, /* between tests while the rank computes */
    NAP_NS = 100000, /* between tests while it waits */
    SLACK_NS = 10000,
    TAG_JOB = 1, TAG_OUTER, /* of messages between two ranks: who is in which job, in this communicator and in one around it */
};

typedef struct mpi_comm mpi_comm;

/* Work for the thread. alone: the ranks do not do it together. `done` is set last; whoever made the job may read the rest after that. */
typedef struct job { rm_status (*run)(mpi_comm *m, struct job *j); bool alone; rm_status status; atomic_bool done; } job;

typedef struct mpi_request {
    rm_request base;
    rm_reduce_time time;
    job job;
    struct mpi_request *next;   /* of the free list */
    rm_span *span;              /* (n_span) copies, room for `room` */
    uint32_t n_span, room;
    const rm_mark *after;
    uint64_t bytes, number, delay_ns;
} mpi_request;

/* A part of an all-reduce under way: where it came from, and what travels when that is of another type. */
typedef struct part { MPI_Request request; void *at; uint16_t *wire; uint64_t count; } part;

struct mpi_comm {
    rm_comm base;
    MPI_Comm comm;
    MPI_Op bf16_sum;
    uint64_t timeout_ns, part_bytes, started;
    rm_dtype wire;
    bool shared_cores;
    rm_comm_host_name host, *hosts; /* its own, and (size) of all */
    /* jobs: one producer, the thread consumes */
    pthread_t thread;
    bool running;
    sem_t work, finished, nudge; /* jobs handed over; jobs done; the producer begins to wait */
    atomic_uint head, tail;
    job *queue[QUEUE];
    atomic_bool waiting;        /* the producer is blocked: nobody computes */
    atomic_bool quit;
    atomic_ullong cpu_ns;
    /* the thread's own */
    bool failed;
    char why[768];              /* of the last failure; read by the producer after `done` */
    part part[DEPTH];
    mpi_peers peers, outer;
    /* the producer's own */
    mpi_request *free;
};

/* What a wait is for, in words for the user. */
typedef struct waited { const char *what; uint64_t bytes, number; } waited;

static mpi_comm *mpi_of(rm_comm *c) { return (mpi_comm *)c; }

/* ---- errors and waiting */
static rm_status fail_for_good(mpi_comm *m, const char *text)
{
    m->failed = true;
    return rm_fail(RM_E_PEER, "%s", text);
}

static rm_status mpi_failed(mpi_comm *m, int error, const waited *w)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error", line[640];
    int n = 0;
    MPI_Error_string(error, text, &n);
    text[strcspn(text, "\n")] = '\0';
    snprintf(line, sizeof line, "rank %d on %s: the %s of %llu bytes failed, as a peer or the network did: %.200s", m->base.rank, m->host, w->what,
             (unsigned long long)w->bytes, text);
    return fail_for_good(m, line);
}

static rm_status timed_out(mpi_comm *m, const waited *w)
{
    char missing[320], line[640];
    mpi_peers_missing(&m->peers, missing, sizeof missing);
    snprintf(line, sizeof line, "rank %d on %s waited %.1f s for the %s of %llu bytes (number %llu): %s; --comm-timeout sets how long to wait", m->base.rank,
             m->host, rm_s(m->timeout_ns), w->what, (unsigned long long)w->bytes, (unsigned long long)w->number, missing);
    return fail_for_good(m, line);
}

/* Between two tests, the last of which took `took` ns. A rank that begins to wait ends the nap: it has nothing else to do. */
static void nap(mpi_comm *m, uint64_t waited_ns, uint64_t took)
{
    const bool alone = atomic_load_explicit(&m->waiting, memory_order_relaxed);
    struct timespec until;
    if (took > MOVED_NS) return;
    if (alone && waited_ns < EAGER_NS && !m->shared_cores) {
        sched_yield();
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += alone ? NAP_NS : NAP_BESIDE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)sem_clockwait(&m->nudge, CLOCK_MONOTONIC, &until);
}

static rm_status closing(mpi_comm *m) { return fail_for_good(m, "the communicator was closed before its work was done"); }

/* Tests until it is done. */
static rm_status wait_one(mpi_comm *m, int error, MPI_Request *request, const waited *w)
{
    const uint64_t begin = rm_now_ns();
    if (error != MPI_SUCCESS) return mpi_failed(m, error, w);
    for (;;) {
        int done = 0;
        const uint64_t before = rm_now_ns();
        const int e = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (e != MPI_SUCCESS) return mpi_failed(m, e, w);
        if (done) return RM_OK;
        const uint64_t now = rm_now_ns(), waited_ns = now - begin;
        if (waited_ns > m->timeout_ns) return timed_out(m, w);
        if (waited_ns > m->timeout_ns / 2) mpi_peers_announce(&m->peers);
        if (atomic_load_explicit(&m->quit, memory_order_relaxed)) return closing(m);
        nap(m, waited_ns, now - before);
    }
}

static rm_status wait_mark(mpi_comm *m, const rm_mark *after)
{
    const uint64_t begin = rm_now_ns();
    while (after && !rm_mark_done(m->base.device, after)) {
        const uint64_t waited_ns = rm_now_ns() - begin;
        if (waited_ns > m->timeout_ns) return rm_fail(RM_E_DEVICE, "rank %d on %s: the device did not finish a gradient in %.1f s", m->base.rank, m->host, rm_s(waited_ns));
        if (atomic_load_explicit(&m->quit, memory_order_relaxed)) return closing(m);
        nap(m, waited_ns, 0);
    }
    return RM_OK;
}

/* ---- types */
/* Each addition is in f32 and rounded once: N ranks round N-1 times, as NCCL does. */
static void add_bf16(void *in, void *inout, int *n, MPI_Datatype *type) { rm_bf16_add(in, inout, (size_t)*n); }

static rm_status type_of(rm_dtype dtype, MPI_Datatype *out_type)
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

static int call_count(uint64_t left) { return (int)(left < COUNT_MAX ? left : COUNT_MAX); }

static rm_status host_address(const rm_span *s, void **out)
{
    char *base = s->at.buf ? rm_buf_host(s->at.buf) : NULL;
    if (!base && s->count) return rm_fail(RM_E_UNSUPPORTED, "mpi reaches only memory of the host, and this device's is its own: use --comm nccl");
    *out = base ? base + s->at.offset : NULL;
    return RM_OK;
}

/* ---- the thread */
static rm_status run_job(mpi_comm *m, job *j)
{
    if (m->failed) return RM_E_PEER; /* `why` says it already */
    mpi_peers_job(&m->peers, !j->alone);
    const rm_status st = j->run(m, j);
    if (st != RM_OK) snprintf(m->why, sizeof m->why, "%s", rm_last_error());
    return st;
}

static void *carry(void *arg)
{
    mpi_comm *m = arg;
    prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0);
    for (;;) {
        while (sem_wait(&m->work) != 0) {}
        const unsigned at = atomic_load_explicit(&m->tail, memory_order_relaxed);
        if (at == atomic_load_explicit(&m->head, memory_order_acquire)) return NULL; /* woken without work: closed */
        job *j = m->queue[at % QUEUE];
        j->status = run_job(m, j);
        atomic_store_explicit(&m->cpu_ns, rm_thread_cpu_ns(), memory_order_relaxed);
        atomic_store_explicit(&m->tail, at + 1, memory_order_release);
        atomic_store_explicit(&j->done, true, memory_order_release);
        sem_post(&m->finished);
    }
}

static void submit(mpi_comm *m, job *j)
{
    const unsigned at = atomic_load_explicit(&m->head, memory_order_relaxed);
    while (at - atomic_load_explicit(&m->tail, memory_order_acquire) == QUEUE) sched_yield();
    atomic_store_explicit(&j->done, false, memory_order_relaxed);
    m->queue[at % QUEUE] = j;
    atomic_store_explicit(&m->head, at + 1, memory_order_release);
    sem_post(&m->work);
}

/* `finished` counts jobs and not this one: what is left of others is passed over. */
static rm_status await(mpi_comm *m, job *j)
{
    if (!atomic_load_explicit(&j->done, memory_order_acquire)) {
        atomic_store_explicit(&m->waiting, true, memory_order_relaxed);
        sem_post(&m->nudge);
        while (!atomic_load_explicit(&j->done, memory_order_acquire))
            while (sem_wait(&m->finished) != 0) {}
        atomic_store_explicit(&m->waiting, false, memory_order_relaxed);
    }
    return j->status == RM_OK ? RM_OK : rm_fail(j->status, "%s", m->why);
}

static rm_status perform(mpi_comm *m, job *j)
{
    submit(m, j);
    return await(m, j);
}

static uint64_t mpi_cpu_ns(const rm_comm *c) { return atomic_load_explicit(&((const mpi_comm *)c)->cpu_ns, memory_order_relaxed); }

/* ---- opening */
static rm_status mpi_available(void) { return RM_OK; }

static void free_requests(mpi_comm *m)
{
    for (mpi_request *r = m->free, *next; r; r = next) {
        next = r->next;
        free(r->span);
        free(r);
    }
}

/* The duplicate stays until MPI_Finalize: freeing it is collective, and the peers may be gone. After a failure what the library may
 * yet write to stays too. */
static void mpi_close(rm_comm *c)
{
    mpi_comm *m = mpi_of(c);
    if (m->running) {
        atomic_store(&m->quit, true);
        while (atomic_load(&m->tail) != atomic_load(&m->head)) { /* what is queued ends at once */
            const struct timespec t = { 0, NAP_NS };
            nanosleep(&t, NULL);
        }
        sem_post(&m->work);
        pthread_join(m->thread, NULL);
    }
    sem_destroy(&m->work);
    sem_destroy(&m->finished);
    sem_destroy(&m->nudge);
    free_requests(m);
    if (m->failed) return;
    if (m->bf16_sum != MPI_OP_NULL) MPI_Op_free(&m->bf16_sum);
    for (int i = 0; i < DEPTH; i++) free(m->part[i].wire);
    mpi_peers_free(&m->peers);
    mpi_peers_free(&m->outer);
    free(m->hosts);
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
                   w.rank, w.size, mpi_process_library(), m->base.size);
}

static uint64_t part_limit(void)
{
    const char *text = getenv("RINGMARK_MPI_PART"); /* tests: how large messages are cut, in bytes */
    const long long v = text ? atoll(text) : 0; // NOLINT(cert-err34-c)
    return v >= 8 && v < PART_BYTES ? (uint64_t)v : PART_BYTES;
}

static rm_status join(mpi_comm *m)
{
    const waited w = { .what = "first exchange" };
    MPI_Request r;
    MPI_Comm_rank(MPI_COMM_WORLD, &m->base.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &m->base.size);
    RM_TRY(check_world(m));
    m->base.host = m->hosts = calloc((size_t)m->base.size, sizeof *m->hosts);
    if (!m->hosts) return rm_fail(RM_E_NOMEM, "out of memory opening a communicator");
    RM_TRY(wait_one(m, MPI_Comm_idup(MPI_COMM_WORLD, &m->comm, &r), &r, &w));
    MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    RM_TRY(wait_one(m, MPI_Iallgather(m->host, sizeof m->host, MPI_BYTE, m->hosts, sizeof m->host, MPI_BYTE, m->comm, &r), &r, &w));
    RM_TRY(mpi_peers_new(m->comm, TAG_JOB, m->base.rank, m->base.size, m->hosts, &m->peers));
    RM_TRY(mpi_peers_new(m->comm, TAG_OUTER, m->base.rank, m->base.size, m->hosts, &m->outer));
    if (MPI_Op_create(add_bf16, 1, &m->bf16_sum) != MPI_SUCCESS) return rm_fail(RM_E_NOMEM, "MPI could not make an operation");
    m->running = true;
    if (pthread_create(&m->thread, NULL, carry, m) == 0) return RM_OK;
    m->running = false;
    return rm_fail(RM_E_NOMEM, "cannot start the communication thread; fewer processes or a higher limit (ulimit -u) help");
}

static rm_status mpi_open(const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm)
{
    if (!rm_world_is_rank())
        return rm_fail(RM_E_ARG, "--comm mpi: this process was not started as a rank: leave --comm out, or start it with mpirun -n 1 for a communicator of one");
    mpi_comm *m = calloc(1, sizeof *m);
    if (!m) return rm_fail(RM_E_NOMEM, "out of memory opening a communicator");
    m->bf16_sum = MPI_OP_NULL;
    m->timeout_ns = (uint64_t)(cfg->timeout_s * 1e9);
    m->part_bytes = part_limit();
    m->wire = cfg->wire;
    m->base.device = device;
    sem_init(&m->work, 0, 0);
    sem_init(&m->finished, 0, 0);
    sem_init(&m->nudge, 0, 0);
    m->shared_cores = mpi_settings_cores_shared(rm_world_from_env());
    atomic_store(&m->waiting, true); /* until the thread runs, nobody computes beside a wait */
    rm_comm_own_host(m->host);
    rm_status st = mpi_process_begin(m->timeout_ns);
    if (st == RM_OK) st = join(m);
    atomic_store(&m->waiting, false);
    if (st != RM_OK) mpi_close(&m->base);
    else *out_comm = &m->base;
    return st;
}

static void mpi_abort(rm_comm *c, int exit_code) { mpi_process_abort(exit_code); }

/* ---- host collectives: a job each, waited for at once */
typedef struct host_call {
    job job;
    void *inout, *all;
    const void *mine;
    uint64_t count, number;
    rm_dtype dtype;
    rm_reduce how;
    int root;
} host_call;

/* wait_one() tests its request to the end, which the checker does not see. NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker) */
static rm_status run_barrier(mpi_comm *m, job *j)
{
    MPI_Request r;
    const waited w = { "barrier", 0, ((host_call *)j)->number };
    return wait_one(m, MPI_Ibarrier(m->comm, &r), &r, &w);
}

static rm_status run_broadcast(mpi_comm *m, job *j)
{
    const host_call *h = (host_call *)j;
    const waited w = { "broadcast", h->count, h->number };
    for (uint64_t at = 0; at < h->count;) {
        MPI_Request r;
        const int n = call_count(h->count - at);
        RM_TRY(wait_one(m, MPI_Ibcast((char *)h->inout + at, n, MPI_BYTE, h->root, m->comm, &r), &r, &w));
        at += (uint64_t)n;
    }
    return RM_OK;
}

static rm_status run_reduce(mpi_comm *m, job *j)
{
    const host_call *h = (host_call *)j;
    const size_t each = rm_dtype_bytes(h->dtype);
    const waited w = { "all-reduce of host values", h->count * each, h->number };
    MPI_Datatype type = MPI_DATATYPE_NULL;
    RM_TRY(type_of(h->dtype, &type));
    for (uint64_t at = 0; at < h->count;) {
        MPI_Request r;
        const int n = call_count(h->count - at);
        RM_TRY(wait_one(m, MPI_Iallreduce(MPI_IN_PLACE, (char *)h->inout + at * each, n, type, op_of(m, h->dtype, h->how), m->comm, &r), &r, &w));
        at += (uint64_t)n;
    }
    return RM_OK;
}

/* One part of every rank's bytes: they arrive `count` bytes apart, which is the extent of the type they are received as. */
static rm_status gather_part(mpi_comm *m, const void *mine, int n, size_t apart, void *all, const waited *w)
{
    MPI_Datatype dense, spaced;
    MPI_Request r;
    MPI_Type_contiguous(n, MPI_BYTE, &dense);
    MPI_Type_create_resized(dense, 0, (MPI_Aint)apart, &spaced);
    MPI_Type_commit(&spaced);
    const rm_status st = wait_one(m, MPI_Igather(mine, n, MPI_BYTE, all, 1, spaced, 0, m->comm, &r), &r, w);
    MPI_Type_free(&spaced);
    MPI_Type_free(&dense);
    return st;
}

static rm_status run_gather(mpi_comm *m, job *j)
{
    const host_call *h = (host_call *)j;
    const waited w = { "gather", h->count, h->number };
    for (size_t at = 0; at < h->count;) {
        const int n = call_count(h->count - at);
        RM_TRY(gather_part(m, (const char *)h->mine + at, n, h->count, m->base.rank == 0 ? (char *)h->all + at : NULL, &w));
        at += (size_t)n;
    }
    return RM_OK;
}

/* MPI of today says nothing of a peer's death: what was seen in a collective is all there is. Progress is made meanwhile. */
static rm_status run_check(mpi_comm *m, job *j)
{
    int flag;
    const waited w = { .what = "look at the peers" };
    const int e = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, m->comm, &flag, MPI_STATUS_IGNORE);
    return e == MPI_SUCCESS ? RM_OK : mpi_failed(m, e, &w);
}

/* What was sent makes progress meanwhile, as in a check. */
static rm_status run_outer(mpi_comm *m, job *j)
{
    const host_call *h = (host_call *)j;
    RM_TRY(run_check(m, j));
    mpi_peers_job_is(&m->outer, h->number);
    mpi_peers_announce(&m->outer);
    if (h->inout) mpi_peers_missing(&m->outer, h->inout, h->count);
    return RM_OK;
}
/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */

static rm_status host_job(rm_comm *c, host_call h)
{
    h.number = c->calls;
    return perform(mpi_of(c), &h.job);
}

/* Between jobs: the thread reads it in the next one, which is handed over after this. */
static uint64_t mpi_set_timeout(rm_comm *c, uint64_t ns)
{
    mpi_comm *m = mpi_of(c);
    const uint64_t was = m->timeout_ns;
    m->timeout_ns = ns;
    return was;
}

static rm_status mpi_barrier(rm_comm *c) { return host_job(c, (host_call){ .job.run = run_barrier }); }
static rm_status mpi_check(rm_comm *c) { return host_job(c, (host_call){ .job = { .run = run_check, .alone = true } }); }

static rm_status mpi_host_broadcast(rm_comm *c, void *inout, size_t bytes, int root)
{
    return host_job(c, (host_call){ .job.run = run_broadcast, .inout = inout, .count = bytes, .root = root });
}

static rm_status mpi_host_reduce(rm_comm *c, void *inout, uint64_t count, rm_dtype dtype, rm_reduce how)
{
    return host_job(c, (host_call){ .job.run = run_reduce, .inout = inout, .count = count, .dtype = dtype, .how = how });
}

static rm_status mpi_host_gather(rm_comm *c, const void *mine, size_t bytes, void *all)
{
    return host_job(c, (host_call){ .job.run = run_gather, .mine = mine, .all = all, .count = bytes });
}

rm_status mpi_outer_announce(rm_comm *inner, uint64_t number) { return mpi_outer_missing(inner, number, NULL, 0); }

rm_status mpi_outer_missing(rm_comm *inner, uint64_t number, char *text, size_t size)
{
    host_call h = { .job = { .run = run_outer, .alone = true }, .inout = text, .count = size, .number = number };
    return perform(mpi_of(inner), &h.job);
}

/* ---- device collectives */
static rm_status mpi_broadcast(rm_comm *c, rm_span span, int root)
{
    void *p = NULL;
    RM_TRY(host_address(&span, &p));
    if (span.count) RM_TRY(rm_device_sync(c->device, NULL)); /* work that writes or reads it may still be queued */
    return mpi_host_broadcast(c, p, span.count * rm_dtype_bytes(span.dtype), root);
}

static bool narrowed(const mpi_comm *m, const rm_span *s) { return m->wire == RM_BF16 && s->dtype == RM_F32 && m->base.size > 1; }

static rm_status start_part(mpi_comm *m, part *p, const rm_span *s, void *at, uint64_t count, const waited *w)
{
    const rm_dtype dtype = narrowed(m, s) ? RM_BF16 : s->dtype;
    MPI_Datatype type = MPI_DATATYPE_NULL;
    void *buffer = at;
    RM_TRY(type_of(dtype, &type));
    p->at = at;
    p->count = count;
    if (narrowed(m, s)) {
        if (!p->wire && !(p->wire = malloc(PART_BYTES / 2))) return rm_fail(RM_E_NOMEM, "out of memory for gradients in bf16");
        rm_bf16_narrow(at, p->wire, count);
        buffer = p->wire;
    }
    const int e = MPI_Iallreduce(MPI_IN_PLACE, buffer, (int)count, type, op_of(m, dtype, RM_SUM), m->comm, &p->request);
    return e == MPI_SUCCESS ? RM_OK : mpi_failed(m, e, w);
}

static rm_status end_part(mpi_comm *m, part *p, const rm_span *s, const waited *w)
{
    RM_TRY(wait_one(m, MPI_SUCCESS, &p->request, w));
    if (narrowed(m, s)) rm_bf16_widen(p->wire, p->at, p->count);
    return RM_OK;
}

/* Parts of a span, DEPTH of them under way at any time. */
static rm_status reduce_span(mpi_comm *m, const rm_span *s, const waited *w)
{
    const size_t each = rm_dtype_bytes(s->dtype);
    const uint64_t most = m->part_bytes / each, parts = (s->count + most - 1) / most;
    void *base = NULL;
    RM_TRY(host_address(s, &base));
    for (uint64_t i = 0; i < parts + DEPTH; i++) {
        if (i >= DEPTH && i - DEPTH < parts) RM_TRY(end_part(m, &m->part[i % DEPTH], s, w));
        if (i >= parts) continue;
        const uint64_t from = i * most, count = s->count - from < most ? s->count - from : most;
        RM_TRY(start_part(m, &m->part[i % DEPTH], s, (char *)base + from * each, count, w));
    }
    return RM_OK;
}

static rm_status run_all_reduce(mpi_comm *m, job *j)
{
    mpi_request *r = (mpi_request *)((char *)j - offsetof(mpi_request, job));
    const waited w = { "all-reduce", r->bytes, r->number };
    const struct timespec delay = { (time_t)(r->delay_ns / 1000000000u), (long)(r->delay_ns % 1000000000u) };
    RM_TRY(wait_mark(m, r->after));
    r->time.begin_ns = rm_now_ns();
    for (uint32_t i = 0; i < r->n_span; i++) RM_TRY(reduce_span(m, &r->span[i], &w));
    if (r->delay_ns) nanosleep(&delay, NULL);
    r->time.end_ns = rm_now_ns();
    return RM_OK;
}

/* Requests are made in the first steps and used again: no allocation in a later one. */
static rm_status take_request(mpi_comm *m, uint32_t n_span, mpi_request **out)
{
    mpi_request *r = m->free;
    if (r) m->free = r->next;
    else r = calloc(1, sizeof *r);
    rm_span *span = r && n_span > r->room ? realloc(r->span, n_span * sizeof *span) : NULL;
    if (span) {
        r->span = span;
        r->room = n_span;
    }
    if (!r || n_span > r->room) {
        if (r) free(r->span);
        free(r);
        return rm_fail(RM_E_NOMEM, "out of memory for an all-reduce of %u spans", n_span);
    }
    r->number = ++m->started;
    *out = r;
    return RM_OK;
}

static rm_status mpi_reduce_start(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request)
{
    mpi_comm *m = mpi_of(c);
    mpi_request *r = NULL;
    if (!after && c->device) RM_TRY(rm_device_sync(c->device, NULL));
    RM_TRY(take_request(m, n, &r));
    r->bytes = 0;
    for (uint32_t i = 0; i < n; i++) r->bytes += span[i].count * rm_dtype_bytes(span[i].dtype);
    if (n) memcpy(r->span, span, n * sizeof *span);
    r->n_span = n;
    r->after = after;
    r->delay_ns = c->delay_ns;
    r->job.run = run_all_reduce;
    submit(m, &r->job);
    *out_request = &r->base;
    return RM_OK;
}

/* Host memory: there is no later work on a queue that could not see the sums. */
static rm_status mpi_reduce_wait(rm_comm *c, rm_request *request, rm_queue *order_before)
{
    mpi_comm *m = mpi_of(c);
    mpi_request *r = (mpi_request *)request;
    return await(m, &r->job);
}

static rm_status mpi_reduce_time(rm_comm *c, const rm_request *request, rm_reduce_time *out)
{
    *out = ((const mpi_request *)request)->time;
    return RM_OK;
}

static void mpi_reduce_free(rm_comm *c, rm_request *request)
{
    mpi_comm *m = mpi_of(c);
    mpi_request *r = (mpi_request *)request;
    r->next = m->free;
    m->free = r;
}

const rm_comm_ops rm_comm_mpi = {
    .abi = RM_COMM_ABI,
    .name = "mpi",
    .summary = "ranks in host memory over MPI",
    .available = mpi_available,
    .open = mpi_open,
    .close = mpi_close,
    .abort = mpi_abort,
    .barrier = mpi_barrier,
    .set_timeout = mpi_set_timeout,
    .broadcast = mpi_broadcast,
    .host_reduce = mpi_host_reduce,
    .host_gather = mpi_host_gather,
    .host_broadcast = mpi_host_broadcast,
    .reduce_start = mpi_reduce_start,
    .reduce_wait = mpi_reduce_wait,
    .reduce_time = mpi_reduce_time,
    .reduce_free = mpi_reduce_free,
    .check = mpi_check,
    .library = mpi_process_library,
    .cpu_ns = mpi_cpu_ns,
};
