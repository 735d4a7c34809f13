#include "model/engine_cupti.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct stream {
    uint32_t device, number;
    rm_lane *lane;
} stream;

struct rm_engine_cupti {
    rm_cupti *cupti;
    rm_trace *trace;
    rm_lane *host, *overhead;
    stream *stream;
    size_t n_stream;
    rm_name *name; /* of CUPTI's name i */
    uint32_t n_name;
    bool failed; /* no CUPTI any more */
    rm_kernel_times times;
};

rm_engine_cupti *rm_engine_cupti_open(const rm_engine *e, rm_trace *trace)
{
    rm_engine_cupti *c;
    if (strcmp(rm_device_name(e->device), "cuda")) {
        (void)!rm_fail(RM_E_UNSUPPORTED, "CUPTI sees the work of GPUs, not of %s", rm_device_name(e->device));
        return NULL;
    }
    if (!(c = calloc(1, sizeof *c))) {
        (void)!rm_fail(RM_E_NOMEM, "out of memory for a trace");
        return NULL;
    }
    c->trace = trace;
    c->times.cupti = true;
    if (rm_device_sync(e->device, NULL) == RM_OK && rm_cupti_open(&c->cupti) == RM_OK) return c;
    free(c);
    return NULL;
}

/* Nothing that was pushed may outlive what it was pushed on. */
static void watch(rm_engine *e, rm_cupti *c)
{
    if (e->net) rm_net_set_cupti(e->net, c);
    e->buckets.cupti = c;
}

void rm_engine_cupti_close(rm_engine_cupti *c, rm_engine *e)
{
    if (!c) return;
    watch(e, NULL);
    (void)!rm_device_sync(e->device, NULL);
    rm_cupti_close(c->cupti);
    free(c->stream);
    free(c->name);
    free(c);
}

void rm_engine_cupti_times(const rm_engine_cupti *c, rm_kernel_times *out) { *out = c->times; }

/* What was recorded since the step before, of evaluation say, is of no step. */
void rm_engine_cupti_prepare(rm_engine_cupti *c, rm_engine *e, bool on)
{
    rm_cupti_step nobodys;
    watch(e, on && !c->failed ? c->cupti : NULL);
    if (c->failed) return;
    rm_status st = rm_cupti_pause(c->cupti, !on);
    if (st == RM_OK && on) st = rm_cupti_flush(c->cupti, &nobodys);
    if (st == RM_OK) return;
    rm_warn("the steps from here on are left out of the trace: %s", rm_last_error());
    c->failed = true;
    watch(e, NULL);
}

/* ---- lanes and names */
/* NULL without memory: then its work is not in the trace. */
static rm_lane *lane_of(rm_engine_cupti *c, const rm_cupti_record *r)
{
    for (size_t i = 0; i < c->n_stream; i++)
        if (c->stream[i].device == r->device && c->stream[i].number == r->stream) return c->stream[i].lane;
    char label[48];
    stream s = { r->device, r->stream, NULL }, *more = realloc(c->stream, (c->n_stream + 1) * sizeof *more);
    if (!more) return NULL;
    c->stream = more;
    snprintf(label, sizeof label, "stream %u", r->stream);
    if (rm_trace_lane(c->trace, RM_LANE_QUEUE, label, &s.lane) != RM_OK) return NULL;
    c->stream[c->n_stream++] = s;
    return s.lane;
}

static rm_lane *overhead_lane(rm_engine_cupti *c)
{
    if (!c->overhead && rm_trace_lane(c->trace, RM_LANE_THREAD, "CUPTI's overhead", &c->overhead) != RM_OK) return NULL;
    return c->overhead;
}

/* The trace's names of CUPTI's. */
static bool know_names(rm_engine_cupti *c)
{
    const uint32_t n = rm_cupti_names(c->cupti);
    if (n <= c->n_name) return true;
    rm_name *more = realloc(c->name, n * sizeof *more);
    if (!more) return false;
    c->name = more;
    for (; c->n_name < n; c->n_name++) c->name[c->n_name] = rm_trace_name(c->trace, rm_cupti_name(c->cupti, c->n_name));
    return true;
}

/* ---- all-reduces */
static bool is_all_reduce(const rm_engine_cupti *c, const rm_cupti_record *r)
{
    return r->kind == RM_CUPTI_KERNEL && !strncmp(rm_cupti_name(c->cupti, r->name), "nccl", 4);
}

/* A non-blocking communicator launches on a thread of its own, where nothing was pushed. Its kernels run one after the other as they were asked for, so that with
 * as many of them as buckets the order says which is which; with any other number, or on several streams, nothing does. */
static bool in_order(const rm_engine_cupti *c, const rm_engine *e, const rm_cupti_step *s)
{
    const rm_cupti_record *first = NULL;
    uint32_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const rm_cupti_record *r = &s->at[i];
        if (!is_all_reduce(c, r)) continue;
        if (r->of.part || r->graph_node || (first && r->stream != first->stream)) return false;
        if (!first) first = r;
        n++;
    }
    return n && n == e->buckets.started;
}

/* ---- emitting */
static rm_cat cat_of(const rm_engine_cupti *c, const rm_cupti_record *r)
{
    static const rm_cat cats[] = { [RM_CUPTI_KERNEL] = RM_CAT_KERNEL,
                                   [RM_CUPTI_COPY] = RM_CAT_COPY,
                                   [RM_CUPTI_FILL] = RM_CAT_COPY,
                                   [RM_CUPTI_LAUNCH] = RM_CAT_LAUNCH,
                                   [RM_CUPTI_OVERHEAD] = RM_CAT_HOST };
    return is_all_reduce(c, r) ? RM_CAT_COMM : cats[r->kind];
}

static void put(rm_engine_cupti *c, const rm_engine *e, const rm_cupti_record *r, rm_cupti_of of, uint32_t step)
{
    const rm_cat cat = cat_of(c, r);
    const rm_trace_part p = rm_engine_trace_part(e, of, cat);
    rm_lane *lane = cat == RM_CAT_LAUNCH ? c->host : cat == RM_CAT_HOST ? overhead_lane(c) : lane_of(c, r);
    const int64_t arg = cat == RM_CAT_COPY ? (int64_t)r->bytes : cat == RM_CAT_HOST ? -1 : p.arg;
    rm_trace_work(lane, cat, c->name[r->name], r->begin_ns, r->end_ns, step, r->correlation, arg, p.of);
}

/* Of what CUPTI does outside of a step, as at a flush, the step has nothing. */
static uint64_t overhead_in(const rm_cupti_step *r, const rm_step *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->at[i].kind == RM_CUPTI_OVERHEAD && r->at[i].begin_ns >= s->begin_ns && r->at[i].begin_ns < s->begin_ns + s->step_ns)
            sum += r->at[i].end_ns - r->at[i].begin_ns;
    return sum;
}

static void count(rm_kernel_times *t, const rm_cupti_step *r, const rm_step *s, uint32_t by_order)
{
    for (size_t i = 0; i < r->n; i++) t->kernels += r->at[i].kind == RM_CUPTI_KERNEL;
    t->steps++;
    t->step_ns += s->step_ns;
    t->overhead_ns += overhead_in(r, s);
    t->by_order += by_order;
    t->unattributed += r->unattributed - by_order;
}

/* Says why, and leaves the step out. */
static bool left_out(rm_engine_cupti *c, uint32_t step, const rm_cupti_step *r)
{
    c->times.left_out++;
    c->times.dropped += r->dropped;
    c->times.untimed += r->untimed;
    c->times.cut += r->cut;
    rm_warn(
        "step %u is left out of the trace: CUPTI dropped %llu records, had no times for %llu and cut %llu buffers; trace fewer steps, or give the GPU more free memory",
        step, (unsigned long long)r->dropped, (unsigned long long)r->untimed, (unsigned long long)r->cut);
    return false;
}

bool rm_engine_cupti_emit(rm_engine_cupti *c, const rm_engine *e, rm_lane *host, uint32_t step, const rm_step *s)
{
    rm_cupti_step r;
    uint32_t bucket = 0;
    if (c->failed) {
        c->times.left_out++;
        return false;
    }
    if (rm_cupti_flush(c->cupti, &r) != RM_OK || !know_names(c)) {
        rm_warn("step %u is left out of the trace: %s", step, rm_last_error());
        c->times.left_out++;
        return false;
    }
    if (r.dropped || r.untimed || r.cut) return left_out(c, step, &r);
    c->host = host;
    const bool ordered = in_order(c, e, &r);
    for (size_t i = 0; i < r.n; i++) {
        rm_cupti_of of = r.at[i].of;
        if (ordered && is_all_reduce(c, &r.at[i])) of = (rm_cupti_of) { RM_CUPTI_BUCKET, bucket++ };
        put(c, e, &r.at[i], of, step);
    }
    count(&c->times, &r, s, bucket);
    return true;
}
