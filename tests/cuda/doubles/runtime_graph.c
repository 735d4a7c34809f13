/* The CUDA runtime's double: stream capture, graphs, launches of graphs. A graph's nodes are ordered by what the capture ordered and by
 * nothing else; a launch runs them in any such order. */
#include "tests/cuda/doubles/internal.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct CUgraphNode_st {
    uint32_t id, stream; /* id: in the process, from 1 */
    int chain;
    enum cudaGraphNodeType type;
    dbl_task *task;
    cudaEvent_t event;
    int *before, n_before, *after, n_after;
};
struct CUgraph_st {
    int refs;
    cudaGraphNode_t *node;
    int n, chains;
    bool peers;
};
struct CUgraphExec_st {
    int refs;
    cudaGraph_t graph;
    int *actor; /* of each chain */
    dbl_moment *last;
    bool dead;
};
struct dbl_capture {
    struct dbl_capture *next;
    unsigned long long id;
    enum cudaStreamCaptureMode mode;
    pthread_t thread;
    bool invalid;
    cudaStream_t origin;
    cudaGraph_t graph;
};

static dbl_capture *captures;
static _Thread_local enum cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

static void push(int **list, int *n, int v)
{
    int *more = realloc(*list, ((size_t)*n + 1) * sizeof *more);
    if (!more) abort();
    more[(*n)++] = v;
    *list = more;
}

static void copy_list(int **to, int *n_to, const int *from, int n)
{
    free(*to);
    *to = NULL;
    *n_to = 0;
    for (int i = 0; i < n; i++) push(to, n_to, from[i]);
}

/* ---- graphs */
static void graph_drop(cudaGraph_t g)
{
    if (!g || --g->refs) return;
    for (int i = 0; i < g->n; i++) {
        dbl_task_drop(g->node[i]->task);
        free(g->node[i]->before);
        free(g->node[i]->after);
        free(g->node[i]);
    }
    free(g->node);
    free(g);
}

static int node_new(cudaGraph_t g, struct CUgraphNode_st fill)
{
    static uint32_t ids;
    cudaGraphNode_t node = malloc(sizeof *node), *more = realloc(g->node, ((size_t)g->n + 1) * sizeof *more);
    if (!node || !more) abort();
    *node = fill;
    node->id = ++ids;
    g->node = more;
    g->node[g->n] = node;
    for (int i = 0; i < node->n_before; i++) push(&g->node[node->before[i]]->after, &g->node[node->before[i]]->n_after, g->n);
    return g->n++;
}

/* ---- capture: what is forbidden */
bool dbl_capturing(cudaStream_t s) { return s->capture != NULL; }

static cudaError_t spoil(dbl_capture *c, cudaError_t e)
{
    c->invalid = true;
    return e;
}

cudaError_t dbl_unsafe(void)
{
    cudaError_t e = cudaSuccess;
    if (thread_mode == cudaStreamCaptureModeRelaxed) return e;
    for (dbl_capture *c = captures; c; c = c->next) {
        const bool mine = pthread_equal(c->thread, pthread_self()) && c->mode != cudaStreamCaptureModeRelaxed;
        if (mine || (c->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal)) e = spoil(c, cudaErrorStreamCaptureUnsupported);
    }
    return e;
}

cudaError_t dbl_forbid(cudaStream_t s) { return s->capture ? spoil(s->capture, cudaErrorStreamCaptureUnsupported) : cudaSuccess; }

static dbl_capture *capture_of(unsigned long long id)
{
    dbl_capture *c = captures;
    while (c && c->id != id) c = c->next;
    return c;
}

cudaError_t dbl_event_asked(cudaEvent_t e)
{
    if (!e->capture) return cudaSuccess;
    dbl_capture *c = capture_of(e->capture);
    return c ? spoil(c, cudaErrorCapturedEvent) : cudaErrorCapturedEvent;
}

cudaError_t dbl_legacy_used(int gpu)
{
    for (cudaStream_t s = dbl_streams; s; s = s->next)
        if (s->gpu == gpu && s->capture && !(s->flags & cudaStreamNonBlocking)) return spoil(s->capture, cudaErrorStreamCaptureImplicit);
    return cudaSuccess;
}

/* ---- capture: what is recorded */
static cudaError_t capture_node(cudaStream_t s, struct CUgraphNode_st fill)
{
    dbl_capture *c = s->capture;
    if (c->invalid) return cudaErrorStreamCaptureInvalidated;
    fill.stream = s->number;
    fill.chain = s->chain;
    copy_list(&fill.before, &fill.n_before, s->tip, s->n_tip);
    const int at = node_new(c->graph, fill);
    copy_list(&s->tip, &s->n_tip, &at, 1);
    return cudaSuccess;
}

static enum cudaGraphNodeType node_type(dbl_kind k)
{
    return k == DBL_KERNEL ? cudaGraphNodeTypeKernel : k == DBL_COPY ? cudaGraphNodeTypeMemcpy : k == DBL_FILL ? cudaGraphNodeTypeMemset : cudaGraphNodeTypeHost;
}

cudaError_t dbl_capture_task(cudaStream_t s, dbl_task *t)
{
    const cudaError_t e = capture_node(s, (struct CUgraphNode_st){ .type = node_type(t->w.kind), .task = t });
    if (e == cudaSuccess) s->capture->graph->peers |= t->peers;
    return e;
}

cudaError_t dbl_capture_record(cudaStream_t s, cudaEvent_t e, bool external)
{
    if (external) return capture_node(s, (struct CUgraphNode_st){ .type = cudaGraphNodeTypeEventRecord, .event = e });
    if (s->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    dbl_moment_drop(e->record);
    e->record = NULL;
    e->capture = s->capture->id;
    copy_list(&e->tip, &e->n_tip, s->tip, s->n_tip);
    return cudaSuccess;
}

static void join_capture(cudaStream_t s, dbl_capture *c, const cudaEvent_t e)
{
    s->capture = c;
    s->chain = c->graph->chains++;
    copy_list(&s->tip, &s->n_tip, e->tip, e->n_tip);
}

static void merge_tips(cudaStream_t s, const cudaEvent_t e)
{
    for (int i = 0; i < e->n_tip; i++) {
        bool there = false;
        for (int k = 0; k < s->n_tip; k++) there |= s->tip[k] == e->tip[i];
        if (!there) push(&s->tip, &s->n_tip, e->tip[i]);
    }
}

cudaError_t dbl_capture_wait(cudaStream_t s, cudaEvent_t e, bool external)
{
    if (external) return capture_node(s, (struct CUgraphNode_st){ .type = cudaGraphNodeTypeWaitEvent, .event = e });
    dbl_capture *c = e->capture ? capture_of(e->capture) : NULL;
    if (!s->capture && !c) return cudaErrorCapturedEvent; /* of a capture that is over */
    if (s->capture && s->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (s->capture && !c) return spoil(s->capture, cudaErrorStreamCaptureIsolation);
    if (c->invalid) return cudaErrorStreamCaptureInvalidated;
    if (s->legacy) return spoil(c, cudaErrorStreamCaptureImplicit);
    if (!s->capture) join_capture(s, c, e);
    else if (s->capture == c) merge_tips(s, e);
    else {
        spoil(s->capture, cudaErrorStreamCaptureMerge);
        return spoil(c, cudaErrorStreamCaptureMerge);
    }
    return cudaSuccess;
}

static cudaError_t begin_capture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
    static unsigned long long ids;
    if (!s) return cudaErrorInvalidResourceHandle;
    if (s->legacy) return cudaErrorStreamCaptureUnsupported;
    if (s->capture) return cudaErrorIllegalState;
    dbl_capture *c = calloc(1, sizeof *c);
    cudaGraph_t g = calloc(1, sizeof *g);
    if (!c || !g) abort();
    *g = (struct CUgraph_st){ .refs = 1, .chains = 1 };
    *c = (dbl_capture){ .next = captures, .id = ++ids, .mode = mode, .thread = pthread_self(), .origin = s, .graph = g };
    captures = c;
    s->capture = c;
    s->chain = 0;
    s->n_tip = 0;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    dbl_lock();
    const cudaError_t e = begin_capture(dbl_stream_of(stream), mode);
    dbl_unlock();
    return dbl_said(e);
}

static void reach(const cudaGraph_t g, int node, bool *seen)
{
    if (seen[node]) return;
    seen[node] = true;
    for (int i = 0; i < g->node[node]->n_before; i++) reach(g, g->node[node]->before[i], seen);
}

static bool joined(const dbl_capture *c)
{
    bool *seen = calloc((size_t)c->graph->n + 1, sizeof *seen), all = true;
    if (!seen) abort();
    for (int i = 0; i < c->origin->n_tip; i++) reach(c->graph, c->origin->tip[i], seen);
    for (int i = 0; i < c->graph->n; i++) all &= seen[i];
    free(seen);
    return all;
}

static void capture_over(dbl_capture *c)
{
    dbl_capture **at = &captures;
    for (cudaStream_t s = dbl_streams; s; s = s->next)
        if (s->capture == c) s->capture = NULL;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    free(c);
}

static cudaError_t end_capture(cudaStream_t s, cudaGraph_t *out_graph)
{
    if (!s || !out_graph) return cudaErrorInvalidValue;
    dbl_capture *c = s->capture;
    *out_graph = NULL;
    if (!c) return cudaErrorIllegalState;
    if (s != c->origin) return spoil(c, cudaErrorStreamCaptureUnmatched);
    if (c->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(c->thread, pthread_self())) return spoil(c, cudaErrorStreamCaptureWrongThread);
    const cudaError_t e = c->invalid || dbl_fault("capture") ? cudaErrorStreamCaptureInvalidated : joined(c) ? cudaSuccess : cudaErrorStreamCaptureUnjoined;
    if (e == cudaSuccess) *out_graph = c->graph;
    else graph_drop(c->graph);
    capture_over(c);
    return e;
}

cudaError_t CUDARTAPI cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out_graph)
{
    dbl_lock();
    const cudaError_t e = end_capture(dbl_stream_of(stream), out_graph);
    if (e == cudaSuccess) dbl_born(1);
    dbl_unlock();
    return dbl_said(e);
}

static cudaError_t capture_info(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph)
{
    const cudaStream_t s = dbl_stream_of(stream);
    if (!s || !status) return s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle;
    const dbl_capture *c = s->capture;
    *status = !c ? cudaStreamCaptureStatusNone : c->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    if (c && id) *id = c->id;
    if (c && graph) *graph = c->graph;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    dbl_lock();
    const cudaError_t e = capture_info(stream, status, NULL, NULL);
    dbl_unlock();
    return dbl_said(e);
}

/* Dependencies are not told. */
cudaError_t CUDARTAPI cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph,
                                               const cudaGraphNode_t **dependencies, const cudaGraphEdgeData **edges, size_t *n)
{
    if (dependencies || edges || n) return dbl_said(cudaErrorNotSupported);
    dbl_lock();
    const cudaError_t e = capture_info(stream, status, id, graph);
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    const enum cudaStreamCaptureMode was = thread_mode;
    thread_mode = *mode;
    *mode = was;
    return dbl_said(cudaSuccess);
}

/* ---- the calls for graphs */
cudaError_t CUDARTAPI cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *nodes, size_t *n)
{
    if (!g || !n) return dbl_said(cudaErrorInvalidValue);
    if (nodes)
        for (size_t i = 0; i < *n; i++) nodes[i] = i < (size_t)g->n ? g->node[i] : NULL;
    if (!nodes || *n > (size_t)g->n) *n = (size_t)g->n;
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaGraphNodeGetType(cudaGraphNode_t node, enum cudaGraphNodeType *type)
{
    if (!node || !type) return dbl_said(cudaErrorInvalidValue);
    *type = node->type;
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaGraphDestroy(cudaGraph_t g)
{
    if (!g) return dbl_said(cudaErrorInvalidValue);
    dbl_lock();
    graph_drop(g);
    dbl_born(-1);
    dbl_unlock();
    return dbl_said(cudaSuccess);
}

static void exec_drop(cudaGraphExec_t x)
{
    if (--x->refs) return;
    for (int i = 0; i < x->graph->chains; i++)
        if (x->actor[i] >= 0) dbl_actor_free(x->actor[i]);
    free(x->actor);
    dbl_moment_drop(x->last);
    graph_drop(x->graph);
    free(x);
}

cudaError_t CUDARTAPI cudaGraphInstantiate(cudaGraphExec_t *out_exec, cudaGraph_t g, unsigned long long flags)
{
    bool all = true;
    if (!out_exec || !g) return dbl_said(cudaErrorInvalidValue);
    if (dbl_fault("instantiate")) return dbl_said(cudaErrorMemoryAllocation);
    dbl_lock();
    cudaGraphExec_t x = calloc(1, sizeof *x);
    if (!x || !(x->actor = calloc((size_t)g->chains, sizeof *x->actor))) abort();
    x->refs = 1;
    x->graph = g;
    g->refs++;
    for (int i = 0; i < g->chains; i++) all &= (x->actor[i] = dbl_actor_new()) >= 0;
    if (all) *out_exec = x;
    else exec_drop(x);
    dbl_born(all);
    dbl_unlock();
    return dbl_said(all ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t CUDARTAPI cudaGraphUpload(cudaGraphExec_t x, cudaStream_t stream) { return dbl_said(x ? cudaSuccess : cudaErrorInvalidValue); }

/* Launches that are under way are done all the same. */
cudaError_t CUDARTAPI cudaGraphExecDestroy(cudaGraphExec_t x)
{
    if (!x) return dbl_said(cudaErrorInvalidValue);
    dbl_lock();
    exec_drop(x);
    dbl_born(-1);
    dbl_unlock();
    return dbl_said(cudaSuccess);
}

/* ---- launches */
struct dbl_launch {
    cudaGraphExec_t exec;
    dbl_clock *known; /* of each node */
    dbl_turn *turn;
    dbl_moment **moment; /* what a node records or waits for */
    int *left, *ready, n_ready, n_left;
};

void dbl_launch_drop(dbl_launch *l)
{
    for (int i = 0; i < l->exec->graph->n; i++) dbl_moment_drop(l->moment[i]);
    free(l->known);
    free(l->turn);
    free(l->moment);
    free(l->left);
    free(l->ready);
    exec_drop(l->exec);
    free(l);
}
bool dbl_launch_ended(const dbl_launch *l) { return l->n_left == 0; }
bool dbl_launch_peers(const dbl_launch *l) { return l->exec->graph->peers; }

static dbl_launch *launch_new(cudaGraphExec_t x)
{
    const size_t n = (size_t)x->graph->n + 1;
    dbl_launch *l = calloc(1, sizeof *l);
    if (!l) abort();
    *l = (dbl_launch){ .exec = x, .known = calloc(n, sizeof *l->known), .turn = calloc(n, sizeof *l->turn), .moment = calloc(n, sizeof *l->moment),
                       .left = calloc(n, sizeof *l->left), .n_left = x->graph->n };
    if (!l->known || !l->turn || !l->moment || !l->left) abort();
    x->refs++;
    for (int i = 0; i < x->graph->n; i++) {
        const cudaGraphNode_t node = x->graph->node[i];
        l->left[i] = node->n_before;
        if (!node->n_before) push(&l->ready, &l->n_ready, i);
        if (node->task) l->turn[i] = dbl_turn_of(node->task);
        l->turn[i].node = node->id;
        l->turn[i].stream = node->stream;
    }
    return l;
}

/* Events that are waited for are those that were recorded before this launch. */
static void bind_events(dbl_launch *l, cudaStream_t s)
{
    const cudaGraph_t g = l->exec->graph;
    for (int i = 0; i < g->n; i++)
        if (g->node[i]->type == cudaGraphNodeTypeWaitEvent) l->moment[i] = dbl_moment_keep(g->node[i]->event->record);
    for (int i = 0; i < g->n; i++)
        if (g->node[i]->type == cudaGraphNodeTypeEventRecord) {
            cudaEvent_t e = g->node[i]->event;
            dbl_moment_drop(e->record);
            l->moment[i] = dbl_moment_new(s);
            e->record = dbl_moment_keep(l->moment[i]);
            e->capture = 0;
        }
}

static cudaError_t launch(cudaGraphExec_t x, cudaStream_t s)
{
    if (!x || !s) return cudaErrorInvalidResourceHandle;
    for (int i = 0; i < x->graph->n; i++)
        if (x->graph->node[i]->event && dbl_event_fine(x->graph->node[i]->event) != cudaSuccess) return cudaErrorInvalidResourceHandle;
    if (s->capture) return spoil(s->capture, cudaErrorStreamCaptureUnsupported); /* no graphs within graphs here */
    const cudaError_t e = s->legacy ? dbl_legacy_used(s->gpu) : cudaSuccess;
    if (e != cudaSuccess || dbl_broken()) return e;
    if (x->last) dbl_append_wait(s, x->last); /* one launch of it at a time */
    dbl_launch *l = launch_new(x);
    bind_events(l, s);
    dbl_append(s, (dbl_piece){ .launch = l });
    dbl_moment_drop(x->last);
    x->last = dbl_append_record(s);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t stream)
{
    dbl_call_begins("cudaGraphLaunch");
    dbl_lock();
    const cudaError_t e = launch(x, dbl_stream_of(stream));
    dbl_unlock();
    dbl_call_ends("cudaGraphLaunch");
    return dbl_said(e);
}

static void node_known(dbl_launch *l, int i, const dbl_clock *start)
{
    const cudaGraphNode_t node = l->exec->graph->node[i];
    dbl_join(&l->known[i], start);
    for (int k = 0; k < node->n_before; k++) dbl_join(&l->known[i], &l->known[node->before[k]]);
}

static dbl_step node_step(dbl_launch *l, int i, cudaStream_t s, cudaStream_t *out_blocker)
{
    const cudaGraphNode_t node = l->exec->graph->node[i];
    dbl_moment *m = l->moment[i];
    if (!l->turn[i].begun) node_known(l, i, &s->known);
    if (node->task && !dbl_run_task(node->task, s, l->exec->actor[node->chain], &l->known[i], &l->turn[i])) return DBL_NOT_YET;
    if (m && node->type == cudaGraphNodeTypeWaitEvent) {
        *out_blocker = m->stream;
        if (!m->done) return DBL_BLOCKED;
        dbl_join(&l->known[i], &m->known);
    }
    if (m && node->type == cudaGraphNodeTypeEventRecord) {
        m->known = l->known[i];
        m->ns = dbl_now_ns();
        m->done = true;
    }
    return DBL_RAN;
}

static void node_over(dbl_launch *l, int at, dbl_clock *ends)
{
    const int i = l->ready[at];
    const cudaGraphNode_t node = l->exec->graph->node[i];
    l->ready[at] = l->ready[--l->n_ready];
    l->n_left--;
    for (int k = 0; k < node->n_after; k++)
        if (--l->left[node->after[k]] == 0) push(&l->ready, &l->n_ready, node->after[k]);
    if (l->n_left) return;
    for (int k = 0; k < l->exec->graph->n; k++) dbl_join(ends, &l->known[k]);
}

/* The node captured last of those that can run, or any. */
static void choose_first(dbl_launch *l)
{
    int at = 0;
    for (int i = 1; i < l->n_ready; i++)
        if (l->ready[i] > l->ready[at]) at = i;
    if (dbl_seeded()) at = (int)dbl_random((uint32_t)l->n_ready);
    const int swap = l->ready[0];
    l->ready[0] = l->ready[at];
    l->ready[at] = swap;
}

dbl_step dbl_launch_step(dbl_launch *l, cudaStream_t s, cudaStream_t *out_blocker)
{
    dbl_step worst = DBL_NOT_YET;
    if (!l->n_left) return DBL_RAN;
    choose_first(l);
    for (int i = 0; i < l->n_ready; i++) {
        const dbl_step r = node_step(l, l->ready[i], s, out_blocker);
        if (r == DBL_RAN) {
            node_over(l, i, &s->known);
            return r;
        }
        if (r == DBL_BLOCKED) worst = r;
    }
    return worst;
}
