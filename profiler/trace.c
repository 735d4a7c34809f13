#include "profiler/trace_private.h"
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(rm_event) == 48, "an event is 48 bytes");

rm_status rm_trace_open(size_t events_per_lane, rm_trace **out)
{
    rm_trace *t = calloc(1, sizeof *t);
    if (!t) return rm_fail(RM_E_NOMEM, "out of memory for a trace");
    t->events_per_lane = events_per_lane;
    pthread_mutex_init(&t->lock, NULL);
    *out = t;
    return RM_OK;
}

void rm_trace_close(rm_trace *t)
{
    if (!t) return;
    for (rm_lane *l = t->lanes, *next; l; l = next) {
        next = l->next;
        free(l->event);
        free(l);
    }
    for (uint32_t i = 0; i < t->n_name; i++) free(t->name[i]);
    free(t->name);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

rm_status rm_trace_lane(rm_trace *t, rm_lane_kind kind, const char *label, rm_lane **out)
{
    rm_lane *l = calloc(1, sizeof *l);
    rm_event *event = malloc(t->events_per_lane * sizeof *event);
    if (!l || !event) {
        free(l);
        free(event);
        return rm_fail(RM_E_NOMEM, "out of memory for the %zu events of a trace's lane", t->events_per_lane);
    }
    l->event = event;
    l->room = t->events_per_lane;
    l->kind = kind;
    snprintf(l->label, sizeof l->label, "%s", label);
    pthread_mutex_lock(&t->lock);
    rm_lane **end = &t->lanes;
    while (*end) end = &(*end)->next;
    l->number = t->n_lane++;
    *end = l;
    pthread_mutex_unlock(&t->lock);
    *out = l;
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

static void emit(rm_lane *l, const rm_event *e)
{
    if (l->n < l->room) l->event[l->n++] = *e;
    else l->dropped++;
}

void rm_trace_span(rm_lane *l, rm_cat cat, rm_name name, uint64_t begin_ns, uint64_t end_ns, uint32_t step, uint64_t corr, int64_t arg)
{
    emit(l, &(rm_event){ .start_ns = begin_ns, .dur_ns = end_ns - begin_ns, .corr = corr, .name = name, .step = step, .arg = arg, .cat = (uint8_t)cat, .phase = 'X' });
}

void rm_trace_counter(rm_lane *l, rm_name name, uint64_t at_ns, int64_t value)
{
    emit(l, &(rm_event){ .start_ns = at_ns, .name = name, .arg = value, .phase = 'C' });
}

uint64_t rm_trace_dropped(const rm_trace *t)
{
    uint64_t sum = 0;
    for (const rm_lane *l = t->lanes; l; l = l->next) sum += l->dropped;
    return sum;
}
