/* Memory of a net: every activation gets a place in one arena so that tensors alive at the same time do not overlap.
 * Greedy by size (the largest first, each at the lowest free offset), after Pisarchyk and Lee, arXiv:2001.03288. */
#include "model/net_private.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 };
static size_t align_up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

static void find_lifetimes(rm_net *net)
{
    for (int32_t i = 0; i < net->n_node; i++)
        for (int s = 0; s < RM_SLOT_COUNT; s++) {
            int32_t t = net->links[i].t[s];
            if (t < 0) continue;
            rm_tensor *q = &net->tensor[t];
            if (q->first < 0) q->first = i;
            q->last = i;
        }
}

typedef struct { int32_t tensor; size_t bytes; } item;
static int larger_first(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->tensor - y->tensor;
}
static int by_offset(const void *a, const void *b)
{
    const rm_tensor *x = *(rm_tensor *const *)a, *y = *(rm_tensor *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Lowest gap between the placed tensors that live together with q. `near` is scratch. */
static size_t lowest_gap(const rm_net *net, const item *order, int32_t placed, const rm_tensor *q, rm_tensor **near)
{
    int32_t n = 0;
    for (int32_t k = 0; k < placed; k++) {
        rm_tensor *o = &net->tensor[order[k].tensor];
        if (o->first <= q->last && q->first <= o->last) near[n++] = o;
    }
    qsort(near, (size_t)n, sizeof *near, by_offset);
    size_t at = 0;
    for (int32_t k = 0; k < n; k++) {
        if (near[k]->offset >= at + q->bytes) break;
        size_t end = near[k]->offset + near[k]->bytes;
        if (end > at) at = end;
    }
    return at;
}

static rm_status place_activations(rm_net *net)
{
    item *order = malloc((size_t)net->n_tensor * sizeof *order);
    rm_tensor **near = malloc((size_t)net->n_tensor * sizeof *near);
    if (!order || !near) {
        free(order);
        free(near);
        return rm_fail(RM_E_NOMEM, "out of memory planning the activations");
    }
    int32_t n = 0;
    for (int32_t t = 0; t < net->n_tensor; t++)
        if (net->tensor[t].home == HOME_ACTIVATION && net->tensor[t].first >= 0) {
            order[n++] = (item){ t, net->tensor[t].bytes };
            net->size.activation_naive_bytes += net->tensor[t].bytes;
        }
    qsort(order, (size_t)n, sizeof *order, larger_first);
    for (int32_t k = 0; k < n; k++) {
        rm_tensor *q = &net->tensor[order[k].tensor];
        q->offset = lowest_gap(net, order, k, q, near);
        if (q->offset + q->bytes > net->size.activation_bytes) net->size.activation_bytes = q->offset + q->bytes;
    }
    free(order);
    free(near);
    return RM_OK;
}

static void measure(rm_net *net)
{
    for (int32_t t = 0; t < net->n_tensor; t++) {
        rm_tensor *q = &net->tensor[t];
        if (!q->bytes && (q->home == HOME_ACTIVATION || q->home == HOME_COPY)) q->bytes = rm_layout_bytes(net->device, &q->desc);
        q->bytes = align_up(q->bytes);
        if (q->home == HOME_COPY) {
            q->offset = net->size.weight_copy_bytes;
            net->size.weight_copy_bytes += q->bytes;
        }
    }
    for (int32_t i = 0; i < net->n_node; i++) {
        const rm_node *n = &net->node[i];
        if (n->info.workspace_bytes > net->size.workspace_bytes) net->size.workspace_bytes = n->info.workspace_bytes;
        net->size.flops += n->info.flops;
        net->size.bytes += n->info.bytes_read + n->info.bytes_written;
        net->size.reorders += n->op.code == RM_OP_REORDER;
    }
    net->size.ops = net->n_node;
    net->size.params_bytes = net->params->bytes * (1 + (net->params->momentum != NULL) + (net->params->grad != NULL) + (net->params->sum != NULL));
}

static rm_ref locate(const rm_net *net, int32_t t)
{
    const rm_tensor *q = &net->tensor[t];
    const rm_params *p = net->params;
    switch (q->home) {
    case HOME_ACTIVATION: return (rm_ref){ net->activations, q->offset };
    case HOME_COPY: return (rm_ref){ net->copies, q->offset };
    case HOME_WEIGHT: return (rm_ref){ p->weight, p->slice[q->index].offset };
    case HOME_GRAD: return (rm_ref){ p->grad, p->slice[q->index].offset };
    case HOME_RMEAN: return (rm_ref){ p->stats, p->mean[q->index].offset };
    case HOME_RVAR: return (rm_ref){ p->stats, p->var[q->index].offset };
    default: return q->ref;
    }
}

rm_status rm_net_place(rm_net *net)
{
    measure(net);
    find_lifetimes(net);
    RM_TRY(place_activations(net));
    const struct { uint64_t bytes; rm_buf **buf; } want[] = {
        { net->size.activation_bytes, &net->activations },
        { net->size.weight_copy_bytes, &net->copies },
        { net->size.workspace_bytes, &net->workspace },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++)
        if (want[i].bytes) RM_TRY(rm_buf_alloc(net->device, RM_MEM_DEVICE, want[i].bytes, want[i].buf));
    for (int32_t i = 0; i < net->n_node; i++) {
        for (int s = 0; s < RM_SLOT_COUNT; s++)
            if (net->links[i].t[s] >= 0) net->node[i].args.t[s] = locate(net, net->links[i].t[s]);
        if (net->node[i].info.workspace_bytes) net->node[i].args.workspace.buf = net->workspace;
    }
    return RM_OK;
}
