/* The CUDA runtime's double: what is enqueued, and when it runs. A stream is a list of pieces; nothing runs before somebody waits or
 * asks. Then only what leads to what is waited for runs, or (RM_DOUBLES_SEED other than 0) pieces of any stream in a random order.
 * Any order that comes out is one that a GPU may choose. */
#define _GNU_SOURCE
#include "tests/cuda/doubles/internal.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

cudaStream_t dbl_streams;
static dbl_watch watch;

/* ---- watching */
static _Thread_local uint32_t correlation;
static _Thread_local int depth;
static atomic_uint correlations;
static atomic_ullong calls;

void dbl_set_watch(const dbl_watch *w)
{
    dbl_lock();
    watch = w ? *w : (dbl_watch){ 0 };
    dbl_unlock();
}

uint32_t dbl_correlation(void) { return correlation; }

void dbl_call_begins(const char *name)
{
    atomic_fetch_add(&calls, 1);
    if (depth++) return;
    correlation = atomic_fetch_add(&correlations, 1) + 1;
    if (watch.call) watch.call(&(dbl_call){ name, correlation, true });
}

void dbl_call_ends(const char *name)
{
    if (--depth) return;
    if (watch.call) watch.call(&(dbl_call){ name, correlation, false });
}

/* ---- tasks and moments */
dbl_task *dbl_task_new(const dbl_work *w)
{
    const size_t touches = w->n_touch * sizeof *w->touch, at = (sizeof(dbl_task) + 15) & ~(size_t)15, ctx = (at + touches + 15) & ~(size_t)15;
    dbl_task *t = calloc(1, ctx + w->bytes);
    if (!t) abort();
    t->refs = 1;
    t->w = *w;
    t->w.touch = (dbl_touch *)((char *)t + at);
    t->w.ctx = (char *)t + ctx;
    if (touches) memcpy((char *)t + at, w->touch, touches);
    if (w->bytes) memcpy(t->w.ctx, w->ctx, w->bytes);
    return t;
}

void dbl_task_drop(dbl_task *t)
{
    if (!t || --t->refs) return;
    if (t->drop) t->drop(t->w.ctx);
    free(t);
}

uint64_t dbl_task_sum(const dbl_task *t)
{
    uint64_t sum = 0, word;
    const char *p = t->source;
    for (size_t i = 0; i + 8 <= t->source_bytes; i += 8) {
        memcpy(&word, p + i, 8);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
    }
    for (size_t i = t->source_bytes & ~(size_t)7; i < t->source_bytes; i++) sum = sum * 31 + (unsigned char)p[i];
    return sum;
}

dbl_turn dbl_turn_of(const dbl_task *t) { return (dbl_turn){ .sum = dbl_task_sum(t), .since = dbl_pieces(), .correlation = correlation }; }

dbl_moment *dbl_moment_new(cudaStream_t s)
{
    dbl_moment *m = calloc(1, sizeof *m);
    if (!m) abort();
    m->refs = 1;
    m->stream = s;
    return m;
}
dbl_moment *dbl_moment_keep(dbl_moment *m)
{
    if (m) m->refs++;
    return m;
}
void dbl_moment_drop(dbl_moment *m)
{
    if (m && !--m->refs) free(m);
}

/* ---- streams */
cudaStream_t dbl_stream_make(int gpu, unsigned flags, int priority, bool legacy)
{
    static uint32_t numbers = 6; /* the first ones belong to contexts */
    const int actor = dbl_actor_new();
    cudaStream_t s = actor < 0 ? NULL : calloc(1, sizeof *s);
    if (!s) return NULL;
    *s = (struct CUstream_st){ .next = dbl_streams, .number = legacy ? 7 : ++numbers + 6, .gpu = gpu, .actor = actor, .priority = priority, .flags = flags, .legacy = legacy };
    s->last = &s->first;
    dbl_streams = s;
    return s;
}

cudaStream_t dbl_stream_of(cudaStream_t want)
{
    const bool legacy = !want || want == cudaStreamLegacy;
    if (want == cudaStreamPerThread) return NULL;
    for (cudaStream_t s = dbl_streams; s; s = s->next)
        if (legacy ? s->legacy && s->gpu == dbl_current() : s == want && !s->dead) return s;
    return legacy ? dbl_stream_make(dbl_current(), cudaStreamDefault, 0, true) : NULL;
}

/* What waits for it may still point to it: its memory stays. */
void dbl_stream_end(cudaStream_t s)
{
    cudaStream_t *at = &dbl_streams;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    dbl_actor_free(s->actor);
}

static void put(cudaStream_t s, dbl_piece p)
{
    dbl_piece *new = malloc(sizeof *new);
    if (!new) abort();
    *new = p;
    new->next = NULL;
    new->host = *dbl_host();
    *s->last = new;
    s->last = &new->next;
}

static void put_after(cudaStream_t later, cudaStream_t first)
{
    dbl_moment *m = dbl_moment_new(first);
    put(first, (dbl_piece){ .record = dbl_moment_keep(m) });
    put(later, (dbl_piece){ .wait = m });
}

/* The legacy stream and the streams that were not made non-blocking wait for each other. */
void dbl_append(cudaStream_t s, dbl_piece p)
{
    for (cudaStream_t o = dbl_streams; o; o = o->next)
        if (o != s && o->gpu == s->gpu && (s->legacy || o->legacy) && !((s->flags | o->flags) & cudaStreamNonBlocking) && (o->first || !o->dead)) put_after(s, o);
    put(s, p);
}

dbl_moment *dbl_append_record(cudaStream_t s)
{
    dbl_moment *m = dbl_moment_new(s);
    dbl_append(s, (dbl_piece){ .record = dbl_moment_keep(m) });
    return m;
}

void dbl_append_wait(cudaStream_t s, dbl_moment *m) { dbl_append(s, (dbl_piece){ .wait = dbl_moment_keep(m) }); }

/* ---- running */
static bool begin(const dbl_task *t, cudaStream_t s, int actor, dbl_clock *known, const dbl_turn *turn)
{
    const uint32_t stream = turn->stream ? turn->stream : s->number;
    bool fine = true;
    dbl_piece_begins(t->w.name, stream, t->w.kind == DBL_COPY ? -1 : s->gpu, actor, known);
    for (size_t i = 0; i < t->w.n_touch; i++) fine &= dbl_touch_range(t->w.touch[i].at, t->w.touch[i].bytes, t->w.touch[i].write);
    if (!fine) dbl_break(cudaErrorIllegalAddress);
    if (fine && t->source && dbl_task_sum(t) != turn->sum && !dbl_written_since(t->source, t->source_bytes, turn->since)) {
        char place[128];
        dbl_place(t->source, place, sizeof place);
        dbl_finding("overwritten too early: %s on stream %u copies %zu bytes from %s, which the host has changed since it enqueued that", t->w.name, stream,
                    t->source_bytes, place);
    }
    return fine;
}

static void count_fault(void)
{
    static uint64_t ran;
    if (++ran == dbl_fault("launch")) dbl_break(cudaErrorLaunchFailure);
}

bool dbl_run_task(const dbl_task *t, cudaStream_t s, int actor, dbl_clock *known, dbl_turn *turn)
{
    if (dbl_broken()) return true;
    if (!turn->begun && !begin(t, s, actor, known, turn)) return true;
    turn->begun = true;
    const uint64_t from = dbl_now_ns();
    if (!t->w.run(t->w.ctx)) return false;
    const dbl_ran r = { t->w.name, t->w.kind, (uint32_t)s->gpu, turn->stream ? turn->stream : s->number, turn->correlation, turn->node, from, dbl_now_ns(), t->w.copied_bytes };
    if (watch.ran) watch.ran(&r);
    count_fault();
    return true;
}

static void drop_first(cudaStream_t s)
{
    dbl_piece *p = s->first;
    s->first = p->next;
    if (!s->first) s->last = &s->first;
    dbl_task_drop(p->task);
    dbl_moment_drop(p->record);
    dbl_moment_drop(p->wait);
    if (p->launch) dbl_launch_drop(p->launch);
    free(p);
    if (!s->first && s->dead) dbl_stream_end(s);
}

static void mark(cudaStream_t s, dbl_moment *m)
{
    m->known = s->known;
    m->ns = dbl_now_ns();
    m->done = true;
}

static dbl_step step(cudaStream_t s, cudaStream_t *out_blocker)
{
    dbl_piece *p = s->first;
    dbl_step r = DBL_RAN;
    if (!p) return DBL_EMPTY;
    dbl_join(&s->known, &p->host);
    if (p->task && !dbl_run_task(p->task, s, s->actor, &s->known, &p->turn)) return DBL_NOT_YET;
    if (p->record) mark(s, p->record);
    if (p->wait) {
        *out_blocker = p->wait->stream;
        if (!p->wait->done) return DBL_BLOCKED;
        dbl_join(&s->known, &p->wait->known);
    }
    if (p->launch) {
        r = dbl_launch_step(p->launch, s, out_blocker);
        if (!dbl_launch_ended(p->launch)) return r;
    }
    drop_first(s);
    return DBL_RAN;
}

dbl_step dbl_advance(cudaStream_t s)
{
    cudaStream_t blocker = NULL;
    const dbl_step r = step(s, &blocker);
    return r == DBL_BLOCKED ? dbl_advance(blocker) : r; /* what is waited for was enqueued before: this ends */
}

static cudaStream_t any_stream(void)
{
    uint32_t n = 0, at;
    cudaStream_t s;
    for (s = dbl_streams; s; s = s->next) n++;
    at = dbl_random(n);
    for (s = dbl_streams; at--;) s = s->next;
    return s;
}

static bool advance_others(cudaStream_t than)
{
    for (cudaStream_t s = dbl_streams; s; s = s->next)
        if (s != than && dbl_advance(s) == DBL_RAN) return true;
    return false;
}

static void go_on(cudaStream_t target)
{
    if (dbl_seeded() && dbl_random(2) && dbl_advance(any_stream()) == DBL_RAN) return;
    if (dbl_advance(target) == DBL_RAN || advance_others(target)) return;
    const struct timespec little = { 0, 20000 };
    dbl_unlock();
    nanosleep(&little, NULL);
    dbl_lock();
}

void dbl_wait_moment(dbl_moment *m)
{
    dbl_moment_keep(m);
    while (!m->done) go_on(m->stream);
    dbl_join(dbl_host(), &m->known);
    dbl_moment_drop(m);
}

void dbl_wait_stream(cudaStream_t s)
{
    while (s->first) go_on(s);
    dbl_join(dbl_host(), &s->known);
}

/* ---- what other processes wait for must go on though nobody here asks: a GPU would not stop either */
static bool has_peers(cudaStream_t s)
{
    for (const dbl_piece *p = s->first; p; p = p->next)
        if ((p->task && p->task->peers) || (p->launch && dbl_launch_peers(p->launch))) return true;
    return false;
}

static void *go_on_alone(void *unused)
{
    enum { IDLE_US = 5000, PIECES = 64 };
    for (;;) {
        const unsigned long long before = atomic_load(&calls);
        usleep(IDLE_US);
        if (atomic_load(&calls) != before) continue;
        dbl_lock();
        for (cudaStream_t s = dbl_streams; s; s = s->next)
            for (int i = 0; i < PIECES && has_peers(s) && dbl_advance(s) == DBL_RAN; i++) continue;
        dbl_unlock();
    }
    return unused;
}

cudaError_t dbl_enqueue(cudaStream_t stream, const dbl_work *w)
{
    static bool started;
    pthread_t thread;
    dbl_lock();
    if (!started && pthread_create(&thread, NULL, go_on_alone, NULL) == 0) pthread_detach(thread);
    started = true;
    dbl_task *t = dbl_task_new(w);
    dbl_unlock();
    t->peers = true;
    return dbl_enqueue_task(stream, t, "cuLaunchKernelEx"); /* as cuDNN and NCCL launch: past the runtime */
}
