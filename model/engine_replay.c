#include "model/engine_replay.h"
#include <stdlib.h>

/* Times of a step on the way into a replay: one block of memory. */
typedef struct times { uint64_t *op_begin, *op_end, *bucket_start, *bucket_end, origin; } times;

static rm_status times_new(const rm_replay *r, const rm_step *s, times *out)
{
    uint64_t *t = calloc(2 * ((size_t)r->n_op + r->n_bucket) + 1, sizeof *t);
    if (!t) return rm_fail(RM_E_NOMEM, "out of memory for the times of a step");
    *out = (times){ t, t + r->n_op, t + 2 * (size_t)r->n_op, t + 2 * (size_t)r->n_op + r->n_bucket, s->begin_ns };
    return RM_OK;
}

static rm_status fit(rm_replay *r, const times *t, const rm_step *s)
{
    return rm_replay_fit(r, &(rm_replay_seen){ t->op_begin, t->op_end, t->bucket_start, t->bucket_end, s->step_ns });
}

/* A rank alone exchanges nothing, and a twin has nothing in the all-reduces' place. */
static uint32_t reduced(const rm_comm *comm, const rm_buckets *b) { return rm_comm_size(comm) > 1 && b->n && b->at[0].end_ns ? b->n : 0; }

static void take_buckets(rm_replay *r, const times *t, const rm_buckets *b)
{
    for (uint32_t i = 0; i < r->n_bucket; i++) {
        r->bucket[i].last = b->at[i].last;
        t->bucket_start[i] = b->at[i].start_ns - t->origin;
        t->bucket_end[i] = b->at[i].end_ns - t->origin;
    }
}

/* ---- of an engine */
static uint32_t ops_before_update(const rm_engine *e, const rm_node **out_node)
{
    uint32_t n = (uint32_t)rm_net_nodes(e->net, out_node);
    while (n && (*out_node)[n - 1].pass == RM_PASS_UPDATE) n--;
    return n;
}

/* The nodes of the update as it ran: whole, or in parts. */
static uint32_t update_nodes(const rm_engine *e, const rm_node **out_node)
{
    const uint32_t n_part = rm_net_update_parts(e->net, out_node);
    if (n_part) return n_part;
    const rm_node *node;
    const uint32_t before = ops_before_update(e, &node);
    *out_node = node + before;
    return (uint32_t)rm_net_nodes(e->net, &node) - before;
}

static rm_status take_op(const rm_engine *e, const rm_node *node, const times *t, uint32_t i)
{
    RM_TRY(rm_node_ns(e->net, node, &t->op_begin[i], &t->op_end[i]));
    t->op_begin[i] -= t->origin;
    t->op_end[i] -= t->origin;
    return RM_OK;
}

static rm_status take_ops(const rm_engine *e, rm_replay *r, const times *t)
{
    const rm_node *node, *update;
    const uint32_t before = ops_before_update(e, &node), n = update_nodes(e, &update);
    const bool overlapped = e->mode == RM_REDUCE_OVERLAPPED && e->cfg.recipe->accumulate <= 1;
    for (uint32_t i = 0; i < before; i++) {
        RM_TRY(take_op(e, &node[i], t, i));
        r->op[i].ready = i + 1 == before ? (uint32_t)e->graph.n_param : overlapped ? (uint32_t)node[i].ready : 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        RM_TRY(take_op(e, &update[i], t, before + i));
        r->op[before + i].after = !r->n_bucket ? -1 : (int32_t)(n == r->n_bucket ? i : r->n_bucket - 1);
    }
    return RM_OK;
}

rm_status rm_engine_replay(const rm_engine *e, const rm_step *s, rm_replay *out)
{
    const rm_node *node;
    const uint32_t n_op = ops_before_update(e, &node) + update_nodes(e, &node);
    rm_replay r;
    times t = { 0 };
    RM_ASSERT(e->cfg.timers);
    RM_TRY(rm_replay_new(n_op, reduced(e->comm, &e->buckets), &r));
    rm_status st = times_new(&r, s, &t);
    if (st == RM_OK) st = take_ops(e, &r, &t);
    if (st == RM_OK) take_buckets(&r, &t, &e->buckets);
    if (st == RM_OK) st = fit(&r, &t, s);
    free(t.op_begin);
    if (st == RM_OK) *out = r;
    else rm_replay_free(&r);
    return st;
}

uint32_t rm_engine_replay_op(const rm_engine *e, int32_t node)
{
    const rm_node *nodes, *update;
    const uint32_t before = ops_before_update(e, &nodes);
    return (uint32_t)node < before ? (uint32_t)node : before + update_nodes(e, &update) - 1;
}

uint32_t rm_engine_replay_input(const rm_engine *e)
{
    const rm_node *node;
    const uint32_t n = ops_before_update(e, &node);
    uint32_t i = 0;
    while (i < n && node[i].pass == RM_PASS_WEIGHTS) i++;
    return i;
}

/* ---- of a ghost: an op for forward, one until each bucket's mark, one for what is left of backward, one for the update */
static void take_ghost(const rm_ghost *g, const rm_step *s, rm_replay *r, const times *t)
{
    const uint64_t backward_end = s->backward_end_ns - t->origin;
    uint64_t at = s->forward_end_ns - t->origin;
    uint32_t i = 0;
    t->op_end[i++] = at;
    for (uint32_t k = 0; k < r->n_bucket; k++, i++) {
        const uint64_t ready = g->buckets.at[k].ready_ns - t->origin;
        t->op_begin[i] = at;
        t->op_end[i] = at = ready < backward_end ? ready : backward_end;
        r->op[i].ready = g->buckets.at[k].last + 1;
    }
    t->op_begin[i] = at;
    t->op_end[i++] = backward_end;
    t->op_begin[i] = s->update_begin_ns - t->origin;
    t->op_end[i] = s->step_ns;
    r->op[i].after = (int32_t)r->n_bucket - 1;
}

rm_status rm_ghost_replay(const rm_ghost *g, const rm_step *s, rm_replay *out)
{
    rm_replay r;
    times t = { 0 };
    const uint32_t n_bucket = reduced(g->comm, &g->buckets);
    RM_TRY(rm_replay_new(n_bucket + 3, n_bucket, &r));
    rm_status st = times_new(&r, s, &t);
    if (st == RM_OK) {
        take_ghost(g, s, &r, &t);
        take_buckets(&r, &t, &g->buckets);
        st = fit(&r, &t, s);
    }
    free(t.op_begin);
    if (st == RM_OK) *out = r;
    else rm_replay_free(&r);
    return st;
}
