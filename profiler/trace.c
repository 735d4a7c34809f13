#include "profiler/trace_private.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(rm_event) == 48, "an event is 48 bytes");
static const rm_part_of none = { .bucket = -1, .pass = -1, .last = -1 };

rm_status rm_trace_open(size_t events_per_lane, rm_trace **out)
{
    if (!events_per_lane) return rm_fail(RM_E_ARG, "a trace needs room for at least one event a lane");
    rm_trace *t = calloc(1, sizeof *t);
    if (!t) return rm_fail(RM_E_NOMEM, "out of memory for a trace");
    struct timespec day;
    clock_gettime(CLOCK_REALTIME, &day);
    t->begin_ns = rm_now_ns();
    t->begin_day_ns = (uint64_t)day.tv_sec * 1000000000u + (uint64_t)day.tv_nsec;
    t->events_per_lane = events_per_lane;
    pthread_mutex_init(&t->lock, NULL);
    *out = t;
    return RM_OK;
}

static void free_lane(rm_lane *l)
{
    if (l) free(l->event);
    free(l);
}

void rm_trace_close(rm_trace *t)
{
    if (!t) return;
    for (rm_lane *l = t->lanes, *next; l; l = next) {
        next = l->next;
        free_lane(l);
    }
    for (uint32_t i = 0; i < t->n_name; i++) free(t->name[i]);
    free(t->name);
    for (int k = 0; k < RM_TABLE_COUNT; k++) free(t->table[k].row);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static rm_status add_lane(rm_trace *t, rm_lane_kind kind, const char *label, size_t events, rm_lane **out)
{
    rm_lane *l = calloc(1, sizeof *l);
    if (l) l->event = calloc(events, sizeof *l->event);
    if (!l || !l->event) {
        free_lane(l);
        return rm_fail(RM_E_NOMEM, "out of memory for %zu events of a trace's lane; trace fewer steps", events);
    }
    memset(l->event, 0xff, events * sizeof *l->event); /* the pages are there before the first event, which must not wait for them */
    l->room = events;
    l->kind = kind;
    snprintf(l->label, sizeof l->label, "%s", label);
    pthread_mutex_lock(&t->lock);
    rm_lane **end = &t->lanes;
    while (*end) end = &(*end)->next;
    l->number = ++t->n_lane;
    *end = l;
    pthread_mutex_unlock(&t->lock);
    *out = l;
    return RM_OK;
}

rm_status rm_trace_lane(rm_trace *t, rm_lane_kind kind, const char *label, rm_lane **out) { return add_lane(t, kind, label, t->events_per_lane, out); }

rm_status rm_trace_lane_again(rm_trace *t, rm_lane_kind kind, const char *label, size_t events, rm_lane **out)
{
    rm_lane *found = NULL;
    pthread_mutex_lock(&t->lock);
    for (rm_lane *l = t->lanes; l && !found; l = l->next)
        if (l->kind == kind && !strcmp(l->label, label)) found = l;
    pthread_mutex_unlock(&t->lock);
    if (!found) return add_lane(t, kind, label, events, out);
    *out = found;
    return RM_OK;
}

static rm_name intern_locked(rm_trace *t, const char *text)
{
    for (uint32_t i = 0; i < t->n_name; i++)
        if (!strcmp(t->name[i], text)) return i + 1;
    char **name = realloc(t->name, (t->n_name + 1) * sizeof *name);
    if (name) t->name = name;
    char *copy = name ? strdup(text) : NULL;
    if (!copy) return 0;
    t->name[t->n_name++] = copy;
    return t->n_name;
}

rm_name rm_trace_name(rm_trace *t, const char *text)
{
    if (!text[0]) return 0;
    pthread_mutex_lock(&t->lock);
    const rm_name n = intern_locked(t, text);
    pthread_mutex_unlock(&t->lock);
    return n;
}

static rm_status tell_locked(rm_trace *t, table *a, uint32_t i, const char *text, int32_t layer)
{
    if (i >= a->n) {
        row *grown = realloc(a->row, (i + 1) * sizeof *grown);
        if (!grown) return rm_fail(RM_E_NOMEM, "out of memory for the names of a trace");
        for (uint32_t k = a->n; k <= i; k++) grown[k] = (row){ 0, -1 };
        a->row = grown;
        a->n = i + 1;
    }
    a->row[i] = (row){ intern_locked(t, text), layer };
    return RM_OK;
}

rm_status rm_trace_tell(rm_trace *t, rm_table which, uint32_t i, const char *text, int32_t layer)
{
    pthread_mutex_lock(&t->lock);
    const rm_status st = tell_locked(t, &t->table[which], i, text, layer);
    pthread_mutex_unlock(&t->lock);
    return st;
}

static inline void emit(rm_lane *l, rm_event e)
{
    const size_t n = atomic_load_explicit(&l->n, memory_order_relaxed);
    if (n == l->room) {
        atomic_store_explicit(&l->dropped, atomic_load_explicit(&l->dropped, memory_order_relaxed) + 1, memory_order_relaxed);
        return;
    }
    l->event[n] = e;
    atomic_store_explicit(&l->n, n + 1, memory_order_release);
}

void rm_trace_span(rm_lane *l, rm_cat cat, rm_name name, uint64_t begin_ns, uint64_t end_ns, uint32_t step, uint64_t corr, int64_t arg)
{
    rm_trace_work(l, cat, name, begin_ns, end_ns, step, corr, arg, none);
}

void rm_trace_work(rm_lane *l, rm_cat cat, rm_name name, uint64_t begin_ns, uint64_t end_ns, uint32_t step, uint64_t corr, int64_t arg, rm_part_of of)
{
    if (!l) return;
    emit(l, (rm_event){ .start_ns = begin_ns, .dur_ns = end_ns > begin_ns ? end_ns - begin_ns : 0, .corr = corr, .name = name, .step = step, .arg = arg,
                        .cat = (uint8_t)cat, .phase = 'X', .of = of });
}

void rm_trace_counter(rm_lane *l, rm_name name, uint64_t at_ns, int64_t value)
{
    if (!l) return;
    emit(l, (rm_event){ .start_ns = at_ns, .name = name, .step = RM_NO_STEP, .arg = value, .phase = 'C', .of = none });
}

uint64_t rm_trace_dropped(const rm_trace *t)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&t->lock; /* reading, but lanes may come */
    uint64_t sum = 0;
    pthread_mutex_lock(lock);
    for (const rm_lane *l = t->lanes; l; l = l->next) sum += atomic_load_explicit(&l->dropped, memory_order_relaxed);
    pthread_mutex_unlock(lock);
    return sum;
}

int rm_trace_fill(const rm_trace *t)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&t->lock;
    int most = 0;
    pthread_mutex_lock(lock);
    for (const rm_lane *l = t->lanes; l; l = l->next) {
        const int percent = (int)(100 * atomic_load_explicit(&l->n, memory_order_relaxed) / l->room);
        if (percent > most) most = percent;
    }
    pthread_mutex_unlock(lock);
    return most;
}

void rm_trace_each(const rm_trace *t, rm_trace_fn *fn, void *ctx)
{
    for (const rm_lane *l = t->lanes; l; l = l->next) {
        rm_trace_item item = { .lane = l->label, .kind = l->kind };
        const size_t n = atomic_load(&l->n);
        for (size_t i = 0; i < n; i++) {
            item.event = &l->event[i];
            item.name = item.event->name ? t->name[item.event->name - 1] : "";
            fn(ctx, &item);
        }
    }
}
