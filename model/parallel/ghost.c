#include "model/parallel/ghost.h"
#include "base/clock.h"
#include "profiler/stats.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* ---- the plan */
void rm_ghost_plan_free(rm_ghost_plan *p)
{
    free(p->event);
    *p = (rm_ghost_plan){ 0 };
}

static bool is_backward(const rm_node *n) { return n->pass >= RM_PASS_BWD_DATA && n->pass <= RM_PASS_BWD; }

/* Nodes after which more gradients are ready than before. node: NULL, or room for as many as there are. */
static uint32_t events_of(const rm_engine *e, const rm_node **out)
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(e->net, &node);
    int32_t known = 0;
    uint32_t k = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!is_backward(&node[i]) || node[i].ready <= known) continue;
        known = node[i].ready;
        if (out) out[k] = &node[i];
        k++;
    }
    return k;
}

enum { FORWARD, BACKWARD, UPDATE, PARTS };

/* One step with the all-reduce off: how long each part took, and when each event came after the beginning of backward. */
static rm_status time_step(rm_engine *e, const rm_source *src, const rm_node *const *event, uint32_t n, double *part, double *at)
{
    rm_step s;
    const rm_node *node;
    uint64_t begin = UINT64_MAX, from, to;
    RM_TRY(rm_engine_step(e, src, 0, 0.0, &s));
    const int32_t n_node = rm_net_nodes(e->net, &node);
    for (int32_t i = 0; i < n_node; i++) {
        if (!is_backward(&node[i])) continue;
        RM_TRY(rm_node_ns(e->net, &node[i], &from, &to));
        begin = from < begin ? from : begin;
    }
    part[FORWARD] = (double)(begin - s.begin_ns);
    part[BACKWARD] = (double)(s.backward_end_ns - begin);
    part[UPDATE] = (double)(s.begin_ns + s.step_ns - s.update_begin_ns);
    for (uint32_t i = 0; i < n; i++) {
        RM_TRY(rm_node_ns(e->net, event[i], &from, &to));
        at[i] = (double)(to - begin);
    }
    return RM_OK;
}

/* Column x of a table of `steps` rows of `width`. */
static uint64_t median_of(const double *table, int32_t steps, size_t width, size_t x, double *scratch)
{
    for (int32_t i = 0; i < steps; i++) scratch[i] = table[(size_t)i * width + x];
    return (uint64_t)llround(rm_median(scratch, (size_t)steps));
}

static rm_status plan_from(const double *table, int32_t steps, const rm_node *const *event, uint32_t n, rm_ghost_plan *out)
{
    const size_t width = PARTS + n;
    double *scratch = malloc((size_t)steps * sizeof *scratch);
    rm_ghost_event *at = calloc(n + 1, sizeof *at);
    if (!scratch || !at) {
        free(scratch);
        free(at);
        return rm_fail(RM_E_NOMEM, "out of memory for the plan of a ghost");
    }
    *out = (rm_ghost_plan){ median_of(table, steps, width, FORWARD, scratch), median_of(table, steps, width, BACKWARD, scratch),
                            median_of(table, steps, width, UPDATE, scratch), at, n };
    for (uint32_t i = 0; i < n; i++) at[i] = (rm_ghost_event){ median_of(table, steps, width, PARTS + i, scratch), (uint32_t)event[i]->ready };
    free(scratch);
    return RM_OK;
}

rm_status rm_ghost_plan_measure(rm_engine *e, const rm_source *src, int32_t steps, rm_ghost_plan *out)
{
    const uint32_t n = events_of(e, NULL);
    const size_t width = PARTS + n;
    const rm_reduce_mode mode = e->mode;
    RM_ASSERT(steps > 0 && e->cfg.timers);
    const rm_node **event = calloc(n + 1, sizeof *event);
    double *table = calloc(width * (size_t)steps, sizeof *table);
    rm_status st = event && table ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the plan of a ghost");
    if (st == RM_OK) events_of(e, event);
    e->mode = RM_REDUCE_OFF;
    for (int32_t i = -1; st == RM_OK && i < steps; i++) { /* the first is warm-up */
        double *row = table + (size_t)(i < 0 ? 0 : i) * width;
        st = time_step(e, src, event, n, row, row + PARTS);
    }
    e->mode = mode;
    if (st == RM_OK) st = plan_from(table, steps, event, n, out);
    free(event);
    free(table);
    return st;
}

/* ---- as JSON */
json_t *rm_ghost_plan_json(const rm_ghost_plan *p)
{
    json_t *events = json_array();
    for (uint32_t i = 0; i < p->n_event; i++) json_array_append_new(events, json_pack("[I, I]", (json_int_t)p->event[i].at_ns, (json_int_t)p->event[i].ready));
    return json_pack("{s:I, s:I, s:I, s:o}", "forward_ns", (json_int_t)p->forward_ns, "backward_ns", (json_int_t)p->backward_ns, "update_ns", (json_int_t)p->update_ns, "events",
                     events);
}

static bool time_from(const json_t *v, uint64_t *out)
{
    *out = json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v) : UINT64_MAX;
    return *out != UINT64_MAX;
}

rm_status rm_ghost_plan_from_json(const json_t *j, rm_ghost_plan *out)
{
    const json_t *events = json_object_get(j, "events");
    const size_t n = json_array_size(events);
    rm_ghost_plan p = { .event = calloc(n + 1, sizeof *p.event), .n_event = (uint32_t)n };
    if (!p.event) return rm_fail(RM_E_NOMEM, "out of memory for the plan of a ghost");
    bool good = json_is_array(events) && time_from(json_object_get(j, "forward_ns"), &p.forward_ns) && time_from(json_object_get(j, "backward_ns"), &p.backward_ns) &&
                time_from(json_object_get(j, "update_ns"), &p.update_ns);
    for (size_t i = 0; good && i < n; i++) {
        rm_ghost_event *e = &p.event[i];
        uint64_t ready = 0;
        const json_t *pair = json_array_get(events, i);
        good = time_from(json_array_get(pair, 0), &e->at_ns) && time_from(json_array_get(pair, 1), &ready) && ready < UINT32_MAX;
        e->ready = (uint32_t)ready;
        good = good && e->at_ns <= p.backward_ns && (!i || (e->at_ns >= e[-1].at_ns && e->ready > e[-1].ready));
    }
    if (good) *out = p;
    else rm_ghost_plan_free(&p);
    return good ? RM_OK : rm_fail(RM_E_FORMAT, "this is no plan of a ghost: forward_ns, backward_ns, update_ns and ascending events [at_ns, ready] within backward");
}

/* ---- a rank */
static uint64_t elements_of(const rm_ghost *g, size_t ready)
{
    const uint64_t n = (uint64_t)llround(g->share * (double)g->graph->param[g->graph->by_ready[ready]].count);
    return n ? n : 1;
}

/* Lays gradients out in ready order. plain: their real sizes, by which a split is cut. Bytes of all. */
static size_t lay_out(const rm_ghost *g, uint64_t *plain, size_t *offset, size_t *bytes)
{
    size_t end = 0;
    for (size_t r = 0; r < (size_t)g->graph->n_param; r++) {
        const size_t size = elements_of(g, r) * sizeof(float);
        if (plain) {
            plain[r] = g->graph->param[g->graph->by_ready[r]].count * sizeof(float);
            offset[r] = end;
            bytes[r] = size;
        }
        end += size;
    }
    return end;
}

uint64_t rm_ghost_bytes(const rm_graph *graph, double share) { return lay_out(&(rm_ghost){ .graph = graph, .share = share }, NULL, NULL, NULL); }

rm_status rm_ghost_set_split(rm_ghost *g, const char *spec, rm_split_order order)
{
    const size_t n = (size_t)g->graph->n_param;
    uint64_t *plain = calloc(n, sizeof *plain);
    size_t *offset = calloc(n, sizeof *offset), *bytes = calloc(n, sizeof *bytes);
    rm_buckets fresh;
    rm_status st = plain && offset && bytes ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the gradient buckets");
    if (st == RM_OK) {
        lay_out(g, plain, offset, bytes);
        const rm_gradients all = { g->arena, offset, bytes, (uint32_t)n, RM_F32 };
        st = rm_buckets_new(g->comm, g->device, &all, plain, spec, order, &fresh);
    }
    if (st == RM_OK) {
        rm_buckets_free(&g->buckets);
        g->buckets = fresh;
    }
    free(plain);
    free(offset);
    free(bytes);
    return st;
}

rm_status rm_ghost_new(rm_comm *comm, rm_device *device, const rm_graph *graph, const rm_ghost_plan *plan, double share, const char *split, rm_split_order order, rm_ghost *out)
{
    *out = (rm_ghost){ .comm = comm, .device = device, .graph = graph, .plan = plan, .share = share };
    RM_ASSERT(share > 0 && share <= 1);
    rm_status st = rm_buf_alloc(device, RM_MEM_DEVICE, rm_ghost_bytes(graph, share), &out->arena);
    if (st == RM_OK) st = rm_ghost_set_split(out, split, order);
    if (st != RM_OK) rm_ghost_free(out);
    return st;
}

void rm_ghost_free(rm_ghost *g)
{
    if (g->device) rm_buckets_free(&g->buckets);
    if (g->arena) rm_buf_free(g->device, g->arena);
    rm_classes_free(&g->classes);
    memset(g, 0, sizeof *g);
}

/* ---- a step */
typedef struct stepping { rm_ghost *g; rm_step s; uint64_t host_from_ns; } stepping;

/* Sleeps until `until_ns` on rm_now_ns()'s clock; what was slept goes to `in`, what was done since the last sleep to the host. A deadline
 * that has passed is not waited for, so that lateness does not pile up. */
static rm_status sleep_until(stepping *t, uint64_t until_ns, rm_intervals *in)
{
    const struct timespec at = { (time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u) };
    const uint64_t from = rm_now_ns();
    if (from >= until_ns) return RM_OK;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) continue;
    RM_TRY(rm_intervals_add(&t->g->classes.host, t->host_from_ns, from));
    t->host_from_ns = rm_now_ns();
    return rm_intervals_add(in, from, t->host_from_ns);
}

static rm_status compute_until(stepping *t, uint64_t until_ns) { return sleep_until(t, until_ns, &t->g->classes.compute); }

static rm_status forward_backward(stepping *t)
{
    rm_ghost *g = t->g;
    const rm_ghost_plan *p = g->plan;
    uint64_t at = t->s.begin_ns + g->inject.input_ns;
    if (g->inject.input_ns) RM_TRY(sleep_until(t, at, &g->classes.input));
    at += g->inject.compute_ns + p->forward_ns;
    RM_TRY(compute_until(t, at));
    t->s.forward_end_ns = rm_now_ns();
    for (uint32_t i = 0; i < p->n_event; i++) {
        RM_TRY(compute_until(t, at + p->event[i].at_ns));
        if (g->mode == RM_REDUCE_OVERLAPPED) RM_TRY(rm_buckets_ready(&g->buckets, p->event[i].ready));
    }
    RM_TRY(compute_until(t, at + p->backward_ns));
    t->s.backward_end_ns = rm_now_ns();
    return RM_OK;
}

/* The rank was blocked from then until now. */
static rm_status blocked(stepping *t, uint64_t from)
{
    RM_TRY(rm_intervals_add(&t->g->classes.host, t->host_from_ns, from));
    t->host_from_ns = rm_now_ns();
    t->s.blocking_ns += t->host_from_ns - from;
    return RM_OK;
}

static rm_status reduce(stepping *t)
{
    rm_ghost *g = t->g;
    const bool reduces = g->mode == RM_REDUCE_OVERLAPPED || g->mode == RM_REDUCE_AFTER;
    const uint64_t from = rm_now_ns();
    if (g->mode == RM_REDUCE_BARRIER) {
        RM_TRY(rm_comm_barrier(g->comm));
        RM_TRY(blocked(t, from));
        return rm_intervals_add(&g->classes.comm, from, t->host_from_ns);
    }
    if (!reduces) return RM_OK;
    RM_TRY(rm_buckets_ready(&g->buckets, (uint32_t)g->graph->n_param));
    RM_TRY(rm_buckets_wait_all(&g->buckets));
    RM_TRY(rm_device_sync(g->buckets.device, NULL));
    RM_TRY(rm_buckets_end(&g->buckets, -1));
    RM_TRY(blocked(t, from));
    for (uint32_t i = 0; i < g->buckets.n; i++) RM_TRY(rm_intervals_add(&g->classes.comm, g->buckets.at[i].start_ns, g->buckets.at[i].end_ns));
    return RM_OK;
}

/* Timers of this thread to the microsecond while it is a ghost, then back to what they were. */
static int take_slack(unsigned long ns)
{
    const int before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    (void)prctl(PR_SET_TIMERSLACK, ns, 0, 0, 0);
    return before;
}

static rm_status run(stepping *t)
{
    rm_ghost *g = t->g;
    rm_classes_clear(&g->classes);
    rm_buckets_begin(&g->buckets);
    rm_buckets_delay(&g->buckets, g->buckets.n - 1, g->inject.link_ns);
    RM_TRY(forward_backward(t));
    RM_TRY(reduce(t));
    t->s.update_begin_ns = rm_now_ns();
    RM_TRY(compute_until(t, t->s.update_begin_ns + g->plan->update_ns));
    const uint64_t end = rm_now_ns();
    RM_TRY(rm_intervals_add(&g->classes.host, t->host_from_ns, end));
    t->s.step_ns = end - t->s.begin_ns;
    return rm_budget_of(&g->classes, (rm_interval){ t->s.begin_ns, end }, &t->s.budget);
}

rm_status rm_ghost_step(rm_ghost *g, rm_step *out)
{
    const int slack = take_slack(1000);
    stepping t = { .g = g, .s.begin_ns = rm_now_ns() };
    t.host_from_ns = t.s.begin_ns;
    const rm_status st = run(&t);
    (void)take_slack(slack > 0 ? (unsigned long)slack : 0);
    if (st == RM_OK) *out = t.s;
    return st;
}
