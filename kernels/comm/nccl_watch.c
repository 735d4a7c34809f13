/* What goes wrong with NCCL, and the thread that sees it while the network's thread waits for the GPU.
 *
 * An all-reduce is under way between its two marks, and all-reduces are carried one after the other: the thread looks a few times a time-out,
 * and when it finds the same one under way for as long as that, a peer did not come. It then aborts the communicator: NCCL's kernels end,
 * so whoever waits for the device goes on, and asks here what happened. Sums are garbage by then.
 *
 * Marks in a recording have the time of its last run, and are not done from the moment it is enqueued until it passes them; while one is being made they
 * are let alone. Between two looks a recording may have run again: rm_comm_reduce_time(), called after each run, tells them apart. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "kernels/comm/mpi_outer.h"
#include "kernels/comm/nccl_private.h"
#include "kernels/cuda/cuda.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOKS = 50 /* a time-out */, LOOK_LEAST_NS = 5000000, LOOK_MOST_NS = 500000000, EAGER_NS = 2000000, NAP_NS = 50000, END_S = 5 };

static bool in_order(ncclResult_t e) { return e == ncclSuccess || e == ncclInProgress; }

/* ---- failures */
static rm_status say_why(nccl_comm *m) { return rm_fail(RM_E_PEER, "%s", m->why); }

/* With the lock. */
static void fail_locked(nccl_comm *m, const char *line)
{
    if (m->failed) return;
    snprintf(m->why, sizeof m->why, "%s", line);
    m->failed = true;
    pthread_cond_signal(&m->wake);
}

rm_status nccl_fail(nccl_comm *m, const char *fmt, ...)
{
    char line[sizeof m->why];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    pthread_mutex_lock(&m->lock);
    fail_locked(m, line);
    const rm_status st = say_why(m);
    pthread_mutex_unlock(&m->lock);
    return st;
}

rm_status nccl_failed(nccl_comm *m)
{
    pthread_mutex_lock(&m->lock);
    const rm_status st = m->failed ? say_why(m) : RM_OK;
    pthread_mutex_unlock(&m->lock);
    return st;
}

/* NCCL's own words, without their line ends. With the lock, or before there are threads. */
static void words_of(ncclComm_t comm, ncclResult_t e, char *text, size_t size)
{
    const char *more = ncclGetLastError(comm);
    while (more && *more == '\n') more++;
    const size_t n = more ? strcspn(more, "\n") : 0;
    snprintf(text, size, "%s%s%.*s", ncclGetErrorString(e), n ? ": " : "", (int)(n < 300 ? n : 300), n ? more : "");
}

/* "the all-reduce of 4000 bytes (number 3)" */
static const char *name_of(const nccl_waited *w, char *text, size_t size)
{
    if (w->number) snprintf(text, size, "the %s of %llu bytes (number %llu)", w->what, (unsigned long long)w->bytes, (unsigned long long)w->number);
    else snprintf(text, size, "the %s", w->what);
    return text;
}

static void describe(nccl_comm *m, ncclResult_t e, const nccl_waited *w, char *line, size_t size)
{
    char text[400], name[96];
    words_of(m->comm, e, text, sizeof text);
    snprintf(line, size, "rank %d on %s: %s failed, as a peer, the network or NCCL did: %s; NCCL_DEBUG=WARN shows more", m->base.rank,
             m->base.host[m->base.rank], name_of(w, name, sizeof name), text);
}

rm_status nccl_check(nccl_comm *m, ncclResult_t e, const nccl_waited *w)
{
    char line[sizeof m->why];
    if (in_order(e)) return RM_OK;
    pthread_mutex_lock(&m->lock);
    describe(m, e, w, line, sizeof line);
    fail_locked(m, line);
    const rm_status st = say_why(m);
    pthread_mutex_unlock(&m->lock);
    return st;
}

/* Who is missing, by what the ranks tell each other over MPI. Without the lock. text NULL: only tells them that this one waits. */
static void ask_peers(nccl_comm *m, uint64_t number, char *text, size_t size)
{
    if (text) snprintf(text, size, "a peer hangs or is lost, which one is unknown");
    if (pthread_mutex_trylock(&m->host_lock) != 0) return; /* the network's thread is in a call between hosts */
    const rm_status st = text ? mpi_outer_missing(m->host, number, text, size) : mpi_outer_announce(m->host, number);
    pthread_mutex_unlock(&m->host_lock);
    if (st != RM_OK && text) snprintf(text, size, "%.200s", rm_last_error());
}

/* A number that only grows, and is the same on ranks that wait for the same all-reduce. */
static uint64_t place_locked(const nccl_comm *m) { return m->started + m->ended; }

static void timed_out_line(const nccl_comm *m, uint64_t waited_ns, const nccl_waited *w, const char *missing, char *line, size_t size)
{
    char name[96];
    snprintf(line, size, "rank %d on %s waited %.1f s for %s: %s; --comm-timeout sets how long to wait", m->base.rank, m->base.host[m->base.rank], rm_s(waited_ns),
             name_of(w, name, sizeof name), missing);
}

/* ---- waits of the network's thread */
/* One turn of a wait that began at `begin`. */
static rm_status wait_on(nccl_comm *m, uint64_t begin, bool *announced, const nccl_waited *w)
{
    static const struct timespec nap = { 0, NAP_NS };
    char missing[320], line[sizeof m->why];
    const uint64_t waited_ns = rm_now_ns() - begin;
    pthread_mutex_lock(&m->lock);
    const uint64_t place = place_locked(m);
    pthread_mutex_unlock(&m->lock);
    if (waited_ns > m->timeout_ns) {
        ask_peers(m, place, missing, sizeof missing);
        timed_out_line(m, waited_ns, w, missing, line, sizeof line);
        return nccl_fail(m, "%s", line);
    }
    if (waited_ns > m->timeout_ns / 2 && !*announced) {
        ask_peers(m, place, NULL, 0);
        *announced = true;
    }
    if (waited_ns < EAGER_NS) sched_yield();
    else nanosleep(&nap, NULL);
    return RM_OK;
}

rm_status nccl_settle(nccl_comm *m, const nccl_waited *w)
{
    const uint64_t begin = rm_now_ns();
    for (bool announced = false;;) {
        ncclResult_t state = ncclSuccess, e = ncclSuccess;
        pthread_mutex_lock(&m->lock);
        const bool failed = m->failed || !m->comm;
        if (!failed) e = ncclCommGetAsyncError(m->comm, &state);
        pthread_mutex_unlock(&m->lock);
        if (failed) return nccl_failed(m);
        RM_TRY(nccl_check(m, e, w));
        RM_TRY(nccl_check(m, state, w));
        if (state == ncclSuccess) return RM_OK;
        RM_TRY(wait_on(m, begin, &announced, w));
    }
}

rm_status nccl_wait_mark(nccl_comm *m, const rm_mark *mark, const nccl_waited *w)
{
    const uint64_t begin = rm_now_ns();
    for (bool announced = false; !rm_mark_done(m->base.device, mark);) {
        RM_TRY(nccl_failed(m));
        RM_TRY(wait_on(m, begin, &announced, w));
    }
    return nccl_failed(m); /* an aborted kernel ends too */
}

/* ---- the thread */
static bool recording(const nccl_comm *m)
{
    enum cudaStreamCaptureStatus s = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(rm_cuda_stream(m->base.device, NULL), &s) != cudaSuccess || s != cudaStreamCaptureStatusNone;
}

/* The all-reduce that is under way, or NULL. With the lock. */
static const nccl_request *under_way(const nccl_comm *m)
{
    const rm_device *d = m->base.device;
    const bool recorded_too = !recording(m);
    for (const nccl_request *r = m->live; r; r = r->next)
        if ((recorded_too || !r->recorded) && rm_mark_done(d, r->begin) && !rm_mark_done(d, r->end)) return r;
    return NULL;
}

/* Since when, as far as the looks tell. With the lock. */
static uint64_t under_way_ns(nccl_comm *m, const nccl_request *r)
{
    nccl_watched *k = &m->watched;
    const uint64_t now = rm_now_ns();
    if (!r || k->number != r->number || k->uses != r->uses) *k = (nccl_watched){ r ? r->number : 0, r ? r->uses : 0, now, false };
    return now - k->since_ns;
}

static void look_at_errors(nccl_comm *m)
{
    ncclResult_t state = ncclSuccess;
    char line[sizeof m->why];
    if (!m->comm) return;
    const ncclResult_t e = ncclCommGetAsyncError(m->comm, &state);
    if (in_order(e) && in_order(state)) return;
    const nccl_request *r = under_way(m);
    const nccl_waited w = { r ? "all-reduce" : "connection between GPUs", r ? r->bytes : 0, r ? r->number : 0 };
    describe(m, in_order(e) ? state : e, &w, line, sizeof line);
    fail_locked(m, line);
}

/* With the lock, which is open while the peers are asked; an all-reduce that ended meanwhile came in time after all. */
static void look_at_age(nccl_comm *m)
{
    const nccl_request *r = under_way(m);
    const uint64_t ns = under_way_ns(m, r), place = place_locked(m);
    char missing[320], line[sizeof m->why];
    if (!r || ns <= m->timeout_ns / 2 || (ns <= m->timeout_ns && m->watched.announced)) return;
    const nccl_waited w = { "all-reduce", r->bytes, r->number };
    const bool late = ns > m->timeout_ns;
    m->watched.announced = true;
    pthread_mutex_unlock(&m->lock);
    ask_peers(m, place, late ? missing : NULL, sizeof missing);
    pthread_mutex_lock(&m->lock);
    if (!late || m->failed || under_way_ns(m, under_way(m)) <= m->timeout_ns) return;
    timed_out_line(m, ns, &w, missing, line, sizeof line);
    fail_locked(m, line);
}

static void sleep_until_next(nccl_comm *m)
{
    uint64_t ns = m->timeout_ns / LOOKS;
    struct timespec until;
    ns = ns < LOOK_LEAST_NS ? LOOK_LEAST_NS : ns > LOOK_MOST_NS ? LOOK_MOST_NS : ns;
    clock_gettime(CLOCK_MONOTONIC, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    while (!m->failed && !m->quit && pthread_cond_timedwait(&m->wake, &m->lock, &until) != ETIMEDOUT) {}
}

/* In order: what is under way ends first, then the connections. */
static void end_in_order(const nccl_comm *m, ncclComm_t comm)
{
    static const struct timespec nap = { 0, NAP_NS };
    const uint64_t begin = rm_now_ns();
    ncclResult_t state = ncclCommFinalize(comm);
    while (state == ncclInProgress && rm_now_ns() - begin < m->timeout_ns) {
        if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) break;
        if (state == ncclInProgress) nanosleep(&nap, NULL);
    }
    if (state == ncclSuccess) (void)ncclCommDestroy(comm);
    else (void)ncclCommAbort(comm);
}

static void *watch(void *arg)
{
    nccl_comm *m = arg;
    (void)cudaSetDevice(m->ordinal);
    pthread_mutex_lock(&m->lock);
    while (!m->failed && !m->quit) {
        sleep_until_next(m);
        if (!m->failed && !m->quit) look_at_errors(m);
        if (!m->failed && !m->quit) look_at_age(m);
    }
    const ncclComm_t comm = m->comm;
    const bool failed = m->failed;
    m->comm = NULL;
    pthread_mutex_unlock(&m->lock);
    if (comm && failed) (void)ncclCommAbort(comm);
    else if (comm) end_in_order(m, comm);
    return NULL;
}

rm_status nccl_watch_begin(nccl_comm *m)
{
    m->running = pthread_create(&m->thread, NULL, watch, m) == 0;
    return m->running ? RM_OK : rm_fail(RM_E_NOMEM, "cannot start the thread that watches NCCL; fewer processes or a higher limit (ulimit -u) help");
}

bool nccl_watch_end(nccl_comm *m)
{
    struct timespec until;
    if (!m->running) return true;
    pthread_mutex_lock(&m->lock);
    m->quit = true;
    pthread_cond_signal(&m->wake);
    pthread_mutex_unlock(&m->lock);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += END_S;
    m->running = pthread_clockjoin_np(m->thread, NULL, CLOCK_MONOTONIC, &until) != 0;
    return !m->running;
}
