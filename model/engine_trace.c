#include "model/engine_trace.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>

struct rm_engine_trace {
    rm_trace *trace;
    rm_lane *compute, *comm, *input, *host;
    const rm_net *net;           /* the names below are of its nodes */
    rm_name *node;
    int32_t n_node;
    rm_name bucket, barrier, wait_input, copy, host_name, step;
    uint64_t corr;
};

static rm_status open_lanes(struct rm_engine_trace *t)
{
    RM_TRY(rm_trace_lane(t->trace, RM_LANE_QUEUE, "compute", &t->compute));
    RM_TRY(rm_trace_lane(t->trace, RM_LANE_QUEUE, "communication", &t->comm));
    RM_TRY(rm_trace_lane(t->trace, RM_LANE_THREAD, "input", &t->input));
    return rm_trace_lane(t->trace, RM_LANE_THREAD, "host", &t->host);
}

static rm_status name_nodes(struct rm_engine_trace *t, const rm_net *net)
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(net, &node);
    if (t->net == net && t->n_node == n) return RM_OK;
    rm_name *name = realloc(t->node, (size_t)n * sizeof *name);
    if (!name) return rm_fail(RM_E_NOMEM, "out of memory for the names of a trace");
    t->node = name;
    t->net = net;
    t->n_node = n;
    for (int32_t i = 0; i < n; i++) {
        char text[sizeof node[i].name + 32];
        snprintf(text, sizeof text, "%s %s", node[i].name, rm_pass_name(node[i].pass));
        name[i] = rm_trace_name(t->trace, text);
    }
    return RM_OK;
}

static void close_trace(rm_engine *e)
{
    if (!e->trace) return;
    free(e->trace->node);
    free(e->trace);
    e->trace = NULL;
}

rm_status rm_engine_set_trace(rm_engine *e, rm_trace *trace)
{
    close_trace(e);
    if (!trace) return RM_OK;
    RM_ASSERT(e->cfg.timers);
    struct rm_engine_trace *t = calloc(1, sizeof *t);
    if (!t) return rm_fail(RM_E_NOMEM, "out of memory for a trace");
    t->trace = trace;
    t->bucket = rm_trace_name(trace, "ncclDevKernel_AllReduce_Sum"); /* what tools know as communication */
    t->barrier = rm_trace_name(trace, "ncclDevKernel_Barrier");
    t->wait_input = rm_trace_name(trace, "input: wait for a batch");
    t->copy = rm_trace_name(trace, "copy images and labels");
    t->host_name = rm_trace_name(trace, "host at work");
    t->step = rm_trace_name(trace, "ProfilerStep");
    e->trace = t;
    rm_status st = open_lanes(t);
    if (st == RM_OK) st = name_nodes(t, e->net);
    if (st != RM_OK) close_trace(e);
    return st;
}

static void trace_set(rm_lane *lane, rm_cat cat, rm_name name, const rm_intervals *s, uint32_t step)
{
    for (size_t i = 0; i < s->n; i++) rm_trace_span(lane, cat, name, s->at[i].begin, s->at[i].end, step, 0, 0);
}

static void trace_node(struct rm_engine_trace *t, const rm_net *net, const rm_node *node, rm_name name, uint32_t step)
{
    uint64_t begin, end;
    if (!node->begin || rm_node_ns(net, node, &begin, &end) != RM_OK || end <= begin) return;
    rm_trace_span(t->compute, RM_CAT_KERNEL, name, begin, end, step, ++t->corr, node->layer);
}

/* The update comes last, whole or in parts. */
static void trace_nodes(struct rm_engine_trace *t, const rm_net *net, uint32_t step)
{
    const rm_node *node, *part;
    const int32_t n = rm_net_nodes(net, &node);
    const uint32_t n_part = rm_net_update_parts(net, &part);
    for (int32_t i = 0; i < n; i++)
        if (!n_part || node[i].pass != RM_PASS_UPDATE) trace_node(t, net, &node[i], t->node[i], step);
    for (uint32_t i = 0; i < n_part; i++) trace_node(t, net, &part[i], t->node[n - 1], step);
}

void rm_engine_trace_step(rm_engine *e, uint64_t step, const rm_step *s)
{
    struct rm_engine_trace *t = e->trace;
    const rm_buckets *b = &e->buckets;
    const uint32_t k = (uint32_t)step;
    if (name_nodes(t, e->net) != RM_OK) return; /* after a change of image size; without memory the step is left out */
    rm_trace_span(t->host, RM_CAT_STEP, t->step, s->begin_ns, s->begin_ns + s->step_ns, k, 0, 0);
    trace_nodes(t, e->net, k);
    for (uint32_t i = 0; i < b->n && b->at[i].end_ns; i++)
        rm_trace_span(t->comm, RM_CAT_COMM, t->bucket, b->at[i].start_ns, b->at[i].end_ns, k, 0, (int64_t)b->at[i].bytes);
    if (e->mode == RM_REDUCE_BARRIER) trace_set(t->comm, RM_CAT_COMM, t->barrier, &e->classes.comm, k);
    trace_set(t->input, RM_CAT_INPUT, t->wait_input, &e->classes.input, k);
    trace_set(t->host, RM_CAT_COPY, t->copy, &e->classes.copy, k);
    trace_set(t->host, RM_CAT_HOST, t->host_name, &e->classes.host, k);
}
