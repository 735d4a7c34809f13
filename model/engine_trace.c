#include "model/engine_cupti.h"
#include "base/clock.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The pass of an all-reduce's launch, after those of the network. */
enum { PASS_ALL_REDUCE = RM_PASS_COUNT };

typedef enum lane { COMPUTE, COMM, COPIES, INPUT, HOST, LANES } lane;
static const struct {
    rm_lane_kind kind;
    const char *label;
} lanes[LANES] = {
    [COMPUTE] = { RM_LANE_QUEUE, "compute" }, [COMM] = { RM_LANE_QUEUE, "communication" }, [COPIES] = { RM_LANE_QUEUE, "copies" },
    [INPUT] = { RM_LANE_THREAD, "input" },    [HOST] = { RM_LANE_THREAD, "host" },
};

typedef enum text {
    ALL_REDUCE,
    BARRIER,
    COPY,
    LAUNCH,
    LAUNCH_COPY,
    WAIT_INPUT,
    HOST_AT_WORK,
    DEVICE_MEMORY,
    RESIDENT_MEMORY,
    BATCHES_READY,
    LANES_FULL,
    TEXTS
} text;
/* Tools know communication and launches by these names of theirs. */
static const char *const texts[TEXTS] = {
    [ALL_REDUCE] = "ncclDevKernel_AllReduce_Sum",
    [BARRIER] = "ncclDevKernel_Barrier",
    [COPY] = "Memcpy images and labels",
    [LAUNCH] = "cudaLaunchKernel",
    [LAUNCH_COPY] = "cudaMemcpyAsync",
    [WAIT_INPUT] = "wait for a batch",
    [HOST_AT_WORK] = "host at work",
    [DEVICE_MEMORY] = "device memory (bytes)",
    [RESIDENT_MEMORY] = "resident memory (bytes)",
    [BATCHES_READY] = "batches ready",
    [LANES_FULL] = "trace lanes full (%)",
};

struct rm_engine_trace {
    rm_trace *trace;
    rm_lane *lane[LANES];
    rm_name name[TEXTS];
    const rm_net *net; /* the rows below are of its nodes */
    struct node_row {
        rm_name name;
        int32_t gradient;
    } * node;
    int32_t n_node;
    uint64_t corr, since_ns; /* what was launched before is in the trace */
    uint32_t step;
    int statm; /* /proc/self/statm; -1: there is none */
    rm_engine_cupti *cupti; /* NULL: device work is known by its marks */
    rm_kernel_times times; /* then: why */
};

/* ---- setting up */

static rm_status tell_graph(rm_trace *t, const rm_graph *g)
{
    for (int32_t i = 0; i < g->n_layer; i++) RM_TRY(rm_trace_tell(t, RM_TABLE_LAYER, (uint32_t)i, g->layer[i].name, -1));
    for (int32_t r = 0; r < g->n_param; r++) {
        const rm_param *p = &g->param[g->by_ready[r]];
        RM_TRY(rm_trace_tell(t, RM_TABLE_GRADIENT, (uint32_t)r, p->name, p->layer));
    }
    for (int i = 0; i < RM_PASS_COUNT; i++) RM_TRY(rm_trace_tell(t, RM_TABLE_PASS, (uint32_t)i, rm_pass_name((rm_pass)i), -1));
    return rm_trace_tell(t, RM_TABLE_PASS, PASS_ALL_REDUCE, "all_reduce", -1);
}

static rm_status name_nodes(struct rm_engine_trace *t, const rm_net *net)
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(net, &node);
    if (t->net == net && t->n_node == n) return RM_OK;
    struct node_row *row = realloc(t->node, (size_t)n * sizeof *row);
    if (!row) return rm_fail(RM_E_NOMEM, "out of memory for the names of a trace");
    t->node = row;
    for (int32_t i = 0; i < n; i++) {
        char full[sizeof node[i].name + 32];
        snprintf(full, sizeof full, "%s %s", node[i].name, rm_pass_name(node[i].pass));
        row[i] = (struct node_row) { rm_trace_name(t->trace, full), rm_net_gradient(net, i) };
    }
    RM_TRY(tell_graph(t->trace, rm_net_graph(net)));
    t->net = net;
    t->n_node = n;
    return RM_OK;
}

static void close_trace(rm_engine *e)
{
    if (!e->trace) return;
    rm_engine_cupti_close(e->trace->cupti, e);
    if (e->trace->statm >= 0) close(e->trace->statm);
    free(e->trace->node);
    free(e->trace);
    e->trace = NULL;
}

/* CUPTI knows the streams, and has a lane for each. */
static rm_status open_lanes(const rm_engine *e, struct rm_engine_trace *t)
{
    t->cupti = rm_engine_cupti_open(e, t->trace);
    if (!t->cupti) snprintf(t->times.why, sizeof t->times.why, "%s", rm_last_error());
    for (int i = 0; i < LANES; i++)
        if (!t->cupti || lanes[i].kind == RM_LANE_THREAD) RM_TRY(rm_trace_lane(t->trace, lanes[i].kind, lanes[i].label, &t->lane[i]));
    return RM_OK;
}

void rm_engine_get_kernel_times(const rm_engine *e, rm_kernel_times *out)
{
    RM_ASSERT(e->trace);
    if (e->trace->cupti) rm_engine_cupti_times(e->trace->cupti, out);
    else *out = e->trace->times;
}

rm_status rm_engine_set_trace(rm_engine *e, rm_trace *trace)
{
    close_trace(e);
    e->trace_paused = false;
    if (!trace) return RM_OK;
    RM_ASSERT(e->cfg.timers);
    struct rm_engine_trace *t = calloc(1, sizeof *t);
    if (!t) return rm_fail(RM_E_NOMEM, "out of memory for a trace");
    e->trace = t;
    t->trace = trace;
    t->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < TEXTS; i++) t->name[i] = rm_trace_name(trace, texts[i]);
    rm_status st = open_lanes(e, t);
    if (st == RM_OK) st = name_nodes(t, e->net);
    if (st != RM_OK) close_trace(e);
    return st;
}

/* ---- a step */

static bool tracing(const rm_engine *e) { return e->trace && !e->trace_paused; }

void rm_engine_trace_prepare(rm_engine *e)
{
    if (e->trace && e->trace->cupti) rm_engine_cupti_prepare(e->trace->cupti, e, !e->trace_paused);
}

/* CUPTI tells launches by itself. */
void rm_engine_trace_begin(rm_engine *e, uint64_t step, uint64_t begin_ns)
{
    const bool on = tracing(e) && !e->trace->cupti;
    rm_net_note_launches(e->net, on);
    e->buckets.note_launches = on;
    if (!tracing(e)) return;
    e->trace->step = (uint32_t)step;
    e->trace->since_ns = begin_ns;
}

/* The bucket that the gradient at this place of the ready order travels in. */
static int16_t bucket_of(const rm_buckets *b, int32_t ready)
{
    uint32_t from = 0, to = b->n;
    if (ready < 0) return -1;
    while (from < to) {
        const uint32_t middle = (from + to) / 2;
        if (b->at[middle].last < (uint32_t)ready) from = middle + 1;
        else to = middle;
    }
    return from < b->n ? (int16_t)from : -1;
}

static void trace_node(struct rm_engine_trace *t, const rm_node *node, rm_name name, int16_t bucket)
{
    uint64_t begin, end;
    if (!node->begin || node->launch_ns < t->since_ns || rm_node_ns(t->net, node, &begin, &end) != RM_OK) return;
    const rm_part_of of = { .bucket = bucket, .pass = (int16_t)node->pass, .last = -1 };
    rm_trace_work(t->lane[HOST], RM_CAT_LAUNCH, t->name[LAUNCH], node->launch_ns, node->launched_ns, t->step, ++t->corr, node->layer, of);
    rm_trace_work(t->lane[COMPUTE], RM_CAT_KERNEL, name, begin, end, t->step, t->corr, node->layer, of);
}

static void trace_copy(struct rm_engine_trace *t, const rm_node *copy)
{
    uint64_t begin, end;
    if (!copy->begin || copy->launch_ns < t->since_ns || rm_node_ns(t->net, copy, &begin, &end) != RM_OK) return;
    rm_trace_span(t->lane[HOST], RM_CAT_LAUNCH, t->name[LAUNCH_COPY], copy->launch_ns, copy->launched_ns, t->step, ++t->corr, -1);
    rm_trace_span(t->lane[COPIES], RM_CAT_COPY, t->name[COPY], begin, end, t->step, t->corr, (int64_t)copy->info.bytes_written);
}

/* The update comes last, whole or in parts. */
static void trace_nodes(rm_engine *e, struct rm_engine_trace *t)
{
    const rm_node *node, *part;
    const int32_t n = rm_net_nodes(e->net, &node);
    const uint32_t n_part = rm_net_update_parts(e->net, &part);
    trace_copy(t, rm_net_copy(e->net));
    for (int32_t i = 0; i < n; i++) trace_node(t, &node[i], t->node[i].name, bucket_of(&e->buckets, t->node[i].gradient));
    for (uint32_t i = 0; i < n_part; i++) trace_node(t, &part[i], t->node[n - 1].name, (int16_t)i);
}

void rm_engine_trace_batch(rm_engine *e)
{
    struct rm_engine_trace *t = e->trace;
    if (!tracing(e) || name_nodes(t, e->net) != RM_OK) return;
    if (t->cupti) return; /* which keeps them until the step's end */
    trace_nodes(e, t);
    t->since_ns = rm_now_ns();
}

/* Of an all-reduce itself, or of its launch and what else runs for it. */
static rm_trace_part bucket_part(const rm_engine *e, uint32_t i, bool itself)
{
    const rm_graph *g = &e->graph;
    const rm_bucket *k = &e->buckets.at[i];
    if (itself) return (rm_trace_part) { (int64_t)k->bytes, { .bucket = (int16_t)i, .first = (int16_t)k->first, .last = (int16_t)k->last } };
    return (rm_trace_part) { g->param[g->by_ready[k->last]].layer, { .bucket = (int16_t)i, .pass = PASS_ALL_REDUCE, .last = -1 } };
}

static void trace_buckets(const rm_engine *e, struct rm_engine_trace *t)
{
    for (uint32_t i = 0; i < e->buckets.n && e->buckets.at[i].end_ns; i++) {
        const rm_bucket *k = &e->buckets.at[i];
        const rm_trace_part launch = bucket_part(e, i, false), sum = bucket_part(e, i, true);
        rm_trace_work(t->lane[HOST], RM_CAT_LAUNCH, t->name[LAUNCH], k->launch_ns, k->launched_ns, t->step, ++t->corr, launch.arg, launch.of);
        rm_trace_work(t->lane[COMM], RM_CAT_COMM, t->name[ALL_REDUCE], k->start_ns, k->end_ns, t->step, t->corr, sum.arg, sum.of);
    }
}

static rm_trace_part node_part(const rm_engine *e, int32_t i, int16_t bucket)
{
    const rm_node *node;
    (void)rm_net_nodes(e->net, &node);
    return (rm_trace_part) { node[i].layer, { .bucket = bucket, .pass = (int16_t)node[i].pass, .last = -1 } };
}

rm_trace_part rm_engine_trace_part(const rm_engine *e, rm_cupti_of of, rm_cat cat)
{
    const struct rm_engine_trace *t = e->trace;
    const int32_t i = (int32_t)of.index;
    if (of.part == RM_CUPTI_NODE && i < t->n_node) return node_part(e, i, bucket_of(&e->buckets, t->node[i].gradient));
    if (of.part == RM_CUPTI_UPDATE && t->n_node) return node_part(e, t->n_node - 1, (int16_t)i);
    if (of.part == RM_CUPTI_BUCKET && of.index < e->buckets.n) return bucket_part(e, of.index, cat == RM_CAT_COMM);
    return (rm_trace_part) { -1, { .bucket = -1, .pass = -1, .last = -1 } };
}

static void trace_set(const struct rm_engine_trace *t, lane where, rm_cat cat, text what, const rm_intervals *s)
{
    for (size_t i = 0; i < s->n; i++) rm_trace_span(t->lane[where], cat, t->name[what], s->at[i].begin, s->at[i].end, t->step, 0, -1);
}

/* What the process has in memory; -1: the system does not say. */
static int64_t resident_bytes(int statm)
{
    char line[128];
    long long pages;
    const ssize_t n = statm < 0 ? -1 : pread(statm, line, sizeof line - 1, 0);
    if (n <= 0) return -1;
    line[n] = '\0';
    return sscanf(line, "%*s %lld", &pages) == 1 ? pages * sysconf(_SC_PAGESIZE) : -1; // NOLINT(cert-err34-c)
}

static void trace_counters(const rm_engine *e, const struct rm_engine_trace *t, const rm_source *src)
{
    const uint64_t now = rm_now_ns();
    const int64_t resident = resident_bytes(t->statm);
    rm_trace_counter(t->lane[HOST], t->name[DEVICE_MEMORY], now, (int64_t)rm_device_bytes(e->device));
    if (resident >= 0) rm_trace_counter(t->lane[HOST], t->name[RESIDENT_MEMORY], now, resident);
    if (src->ready) rm_trace_counter(t->lane[HOST], t->name[BATCHES_READY], now, src->ready(src->ctx));
    rm_trace_counter(t->lane[HOST], t->name[LANES_FULL], now, rm_trace_fill(t->trace));
}

void rm_engine_trace_end(rm_engine *e, const rm_source *src, const rm_step *s)
{
    struct rm_engine_trace *t = e->trace;
    if (!tracing(e) || name_nodes(t, e->net) != RM_OK) return; /* after a change of image size; without memory the step is left out */
    if (t->cupti && !rm_engine_cupti_emit(t->cupti, e, t->lane[HOST], t->step, s)) return;
    rm_trace_span(t->lane[HOST], RM_CAT_STEP, 0, s->begin_ns, s->begin_ns + s->step_ns, t->step, 0, -1);
    if (!t->cupti) {
        trace_nodes(e, t);
        trace_buckets(e, t);
    }
    if (e->mode == RM_REDUCE_BARRIER) trace_set(t, COMM, RM_CAT_COMM, BARRIER, &e->classes.comm);
    trace_set(t, INPUT, RM_CAT_INPUT, WAIT_INPUT, &e->classes.input);
    trace_set(t, HOST, RM_CAT_HOST, HOST_AT_WORK, &e->classes.host);
    trace_counters(e, t, src);
}
