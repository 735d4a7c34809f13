/* Watching a process by CUPTI: its callbacks have no context, hence the one watcher behind a lock. What the records mean: cupti_records.c. */
#include "profiler/cupti_records.h"
#include "base/clock.h"
#include <cupti.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 1 << 20 /* thousands of records */, ALIGN = 64, TRIES = 8 };

/* In front of the memory that CUPTI fills. */
typedef struct buffer {
    struct buffer *next;
    size_t valid;
} buffer;
_Static_assert(sizeof(buffer) <= ALIGN, "a buffer's head fits in front of it");

struct rm_cupti {
    rm_cupti_log log;
    rm_clock_pair last; /* when the step before was read */
    bool paused;
    int pushed;         /* and not popped */
};

/* Buffers that came back, the newest first. CUPTI's threads write here. */
static struct {
    pthread_mutex_t lock;
    buffer *full;
    atomic_uint_fast64_t dropped;
    bool taken, theirs, clocked; /* theirs: another profiler watches the process; clocked: CUPTI has our clock, which it is given once */
} watcher = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* CONCURRENT_KERNEL, for KERNEL makes kernels run one after the other. DRIVER, for NCCL and cuDNN launch past the runtime. */
static const CUpti_ActivityKind kinds[] = {
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
    CUPTI_ACTIVITY_KIND_RUNTIME,
    CUPTI_ACTIVITY_KIND_DRIVER,
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
    CUPTI_ACTIVITY_KIND_MEMCPY,
    CUPTI_ACTIVITY_KIND_MEMSET,
    CUPTI_ACTIVITY_KIND_OVERHEAD,
};

bool rm_cupti_in_build(void) { return true; }

/* What some results mean here. */
static const char *meaning(CUptiResult r)
{
    static const struct {
        CUptiResult result;
        const char *text;
    } rows[] = {
        { CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED, "another profiler watches this process already, and there can be one: run without it" },
        { CUPTI_ERROR_INSUFFICIENT_PRIVILEGES, "this user may not profile GPUs: let an administrator allow it (NVreg_RestrictProfilingToAdminUsers=0)" },
        { CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES, "this virtual machine may not profile its GPU: its host must allow it" },
        { CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED, "this virtual GPU cannot be profiled" },
        { CUPTI_ERROR_NOT_INITIALIZED, "the driver cannot be used" },
        { CUPTI_ERROR_UNKNOWN, "it gives no reason, as where there is no driver" },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++)
        if (rows[i].result == r) return rows[i].text;
    return "see CUPTI's documentation";
}

static rm_status check(CUptiResult r, const char *what)
{
    const char *name = NULL;
    if (r == CUPTI_SUCCESS) return RM_OK;
    (void)cuptiGetResultString(r, &name);
    watcher.theirs |= r == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
    return rm_fail(RM_E_UNSUPPORTED, "CUPTI cannot %s: %s (%s, %d)", what, meaning(r), name ? name : "?", (int)r);
}

/* ---- clocks */
static uint64_t CUPTIAPI raw_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The nearest of some readings of both. */
static rm_clock_pair read_clocks(void)
{
    rm_clock_pair best = { 0 };
    uint64_t nearest = UINT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        const uint64_t before = rm_now_ns(), raw = raw_ns(), took = rm_now_ns() - before;
        if (took >= nearest) continue;
        nearest = took;
        best = (rm_clock_pair) { raw, before + took / 2 };
    }
    return best;
}

/* ---- buffers. Each has memory of its own, zeroed: CUPTI asks per thread, and may hold several at once. */
static void CUPTIAPI give_buffer(uint8_t **out, size_t *size, size_t *most_records)
{
    buffer *b = aligned_alloc(ALIGN, ALIGN + BUFFER_BYTES);
    if (b) memset(b, 0, ALIGN + BUFFER_BYTES);
    *out = b ? (uint8_t *)b + ALIGN : NULL; /* without one CUPTI drops, and counts */
    *size = b ? BUFFER_BYTES : 0;
    *most_records = 0;
}

static void count_dropped(CUcontext context, uint32_t stream)
{
    size_t dropped = 0;
    if (cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS) atomic_fetch_add(&watcher.dropped, dropped);
}

static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t *bytes, size_t size, size_t valid)
{
    (void)size;
    buffer *b = bytes ? (buffer *)(void *)(bytes - ALIGN) : NULL;
    if (b) {
        b->valid = valid;
        pthread_mutex_lock(&watcher.lock);
        b->next = watcher.full;
        watcher.full = b;
        pthread_mutex_unlock(&watcher.lock);
    }
    count_dropped(context, stream);
}

static buffer *take_all(void)
{
    pthread_mutex_lock(&watcher.lock);
    buffer *b = watcher.full;
    watcher.full = NULL;
    pthread_mutex_unlock(&watcher.lock);
    return b;
}

static void free_all(buffer *b)
{
    for (buffer *next; b; b = next) {
        next = b->next;
        free(b);
    }
}

/* ---- on and off */
static rm_status enable(void)
{
    for (size_t i = 0; i < RM_COUNT(kinds); i++) RM_TRY(check(cuptiActivityEnable(kinds[i]), "record what the GPU runs"));
    return RM_OK;
}

static void disable(void)
{
    for (size_t i = 0; i < RM_COUNT(kinds); i++) (void)cuptiActivityDisable(kinds[i]);
}

/* The order is CUPTI's: what it is to know before anything is recorded, then the recording. */
static rm_status begin(void)
{
    uint8_t zeroed = 1; /* else CUPTI zeroes them, on a thread that launches */
    size_t bytes = sizeof zeroed;
    RM_TRY(check(cuptiActivitySetAttribute(CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER, &bytes, &zeroed), "begin"));
    if (!watcher.clocked) RM_TRY(check(cuptiActivityRegisterTimestampCallback(raw_ns), "take our clock"));
    watcher.clocked = true;
    RM_TRY(check(cuptiActivityRegisterCallbacks(give_buffer, take_buffer), "take our buffers"));
    return enable();
}

static void end(void)
{
    disable();
    (void)cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    (void)cuptiFinalize();
    watcher.clocked = false;
    free_all(take_all());
}

static bool take_watcher(void)
{
    pthread_mutex_lock(&watcher.lock);
    const bool was = watcher.taken;
    watcher.taken = true;
    pthread_mutex_unlock(&watcher.lock);
    return !was;
}

static void leave_watcher(void)
{
    pthread_mutex_lock(&watcher.lock);
    watcher.taken = false;
    pthread_mutex_unlock(&watcher.lock);
}

rm_status rm_cupti_open(rm_cupti **out)
{
    if (!take_watcher()) return rm_fail(RM_E_UNSUPPORTED, "CUPTI is used in this process already, by another trace");
    rm_cupti *c = calloc(1, sizeof *c);
    rm_status st = c ? begin() : rm_fail(RM_E_NOMEM, "out of memory for CUPTI");
    if (st != RM_OK) {
        if (c && watcher.theirs) free_all(take_all()); /* what is recorded is another profiler's, and ending CUPTI would end that one's */
        else if (c) end();
        watcher.theirs = false;
        free(c);
        leave_watcher();
        return st;
    }
    atomic_store(&watcher.dropped, 0);
    c->last = read_clocks();
    *out = c;
    return RM_OK;
}

void rm_cupti_close(rm_cupti *c)
{
    if (!c) return;
    c->paused = false;
    while (c->pushed) rm_cupti_pop(c); /* after a step that failed */
    end();
    rm_cupti_log_free(&c->log);
    free(c);
    leave_watcher();
}

rm_status rm_cupti_pause(rm_cupti *c, bool paused)
{
    if (c->paused == paused) return RM_OK;
    c->paused = paused;
    if (!paused) return enable();
    disable();
    return RM_OK;
}

void rm_cupti_push(rm_cupti *c, rm_cupti_part part, uint32_t index)
{
    if (!c || c->paused) return;
    c->pushed += cuptiActivityPushExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, (uint64_t)part << 32 | index) == CUPTI_SUCCESS;
}

void rm_cupti_pop(rm_cupti *c)
{
    uint64_t id;
    if (!c || c->paused || !c->pushed) return;
    (void)cuptiActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &id);
    c->pushed--;
}

/* ---- reading */
rm_status rm_cupti_flush(rm_cupti *c, rm_cupti_step *out)
{
    RM_TRY(check(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "hand out its records"));
    count_dropped(NULL, 0); /* what found no buffer at all came with none */
    const rm_cupti_clock clock = { c->last, read_clocks() };
    buffer *all = take_all();
    rm_status st = RM_OK;
    for (buffer *b = all; st == RM_OK && b; b = b->next) st = rm_cupti_log_read(&c->log, (uint8_t *)b + ALIGN, b->valid);
    free_all(all);
    if (st == RM_OK) st = rm_cupti_log_step(&c->log, &clock, out);
    if (st != RM_OK) return st;
    out->dropped = atomic_exchange(&watcher.dropped, 0);
    c->last = clock.after;
    return RM_OK;
}

const char *rm_cupti_name(const rm_cupti *c, uint32_t name) { return name < c->log.n_text ? c->log.text[name].shown : ""; }
uint32_t rm_cupti_names(const rm_cupti *c) { return c->log.n_text; }
