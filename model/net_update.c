/* The update in parts, one for each bucket: the optimiser works on a bucket while the next one is still on its way. */
#include "model/net_private.h"
#include <stdlib.h>
#include <string.h>

enum { FLAG_BYTES = 2 * sizeof(int32_t) };

static void free_part(rm_net *net, rm_node *n)
{
    rm_mark_free(net->device, n->begin);
    rm_mark_free(net->device, n->end);
    rm_plan_free(net->device, n->plan);
}

static void forget(rm_net *net)
{
    for (uint32_t i = 0; i < net->n_part; i++) free_part(net, &net->part[i]);
    rm_buf_free(net->device, net->part_flag);
    rm_buf_free(net->device, net->part_shared);
    free(net->part);
    net->part = NULL;
    net->part_flag = net->part_shared = NULL;
    net->n_part = 0;
}

/* As the whole update, over the segments first..last. */
static rm_status plan_part(rm_net *net, uint32_t first, uint32_t last, rm_node *out)
{
    const rm_node *whole = &net->node[net->begin[PHASE_UPDATE]];
    rm_node n = *whole;
    n.begin = n.end = NULL;
    n.op.u.optim.segment = net->params->segment + first;
    n.op.u.optim.n_segment = last - first + 1;
    RM_TRY(rm_device_plan(net->device, &n.op, &n.plan, &n.info));
    rm_status st = RM_OK;
    if (n.info.workspace_bytes > net->size.workspace_bytes) st = rm_fail(RM_E_UNSUPPORTED, "this device wants more scratch memory for a part of the update than for all of it");
    if (st == RM_OK && net->timed) st = rm_mark_new(net->device, &n.begin);
    if (st == RM_OK && net->timed) st = rm_mark_new(net->device, &n.end);
    n.args.t[RM_FLAG] = (rm_ref){ net->part_flag, (size_t)net->n_part * FLAG_BYTES };
    if (st == RM_OK) *out = n;
    else free_part(net, &n);
    return st;
}

rm_status rm_net_cut_update(rm_net *net, const uint32_t *last, uint32_t n)
{
    forget(net);
    if (!n) return RM_OK;
    net->part = calloc(n, sizeof *net->part);
    rm_status st = net->part ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the update in parts");
    if (st == RM_OK) st = rm_buf_alloc(net->device, RM_MEM_DEVICE, (size_t)n * FLAG_BYTES, &net->part_flag);
    if (st == RM_OK) st = rm_buf_alloc(net->device, RM_MEM_PINNED, (size_t)n * FLAG_BYTES, &net->part_shared);
    for (uint32_t i = 0; st == RM_OK && i < n; i++) {
        st = plan_part(net, i ? last[i - 1] + 1 : 0, last[i], &net->part[i]);
        net->n_part += st == RM_OK;
    }
    if (st != RM_OK) forget(net);
    return st;
}

rm_status rm_net_update_part(rm_net *net, uint32_t i)
{
    RM_ASSERT(i < net->n_part);
    net->updated = true;
    return rm_net_run_node(net, &net->part[i]);
}

uint32_t rm_net_update_parts(const rm_net *net, const rm_node **out)
{
    *out = net->part;
    return net->n_part;
}

rm_status rm_net_read_flags(rm_net *net)
{
    if (!net->n_part) return rm_device_read(net->device, NULL, net->host->flag, net->tensor[net->flag].ref, sizeof net->host->flag);
    return rm_device_read(net->device, NULL, rm_buf_host(net->part_shared), (rm_ref){ net->part_flag, 0 }, (size_t)net->n_part * FLAG_BYTES);
}

/* A part counts its segments from its own first one. */
void rm_net_merge_flags(rm_net *net)
{
    int64_t bad = 0;
    int32_t first = -1;
    const rm_segment *base = net->params->segment;
    if (!net->n_part) {
        memcpy(net->host_flag, net->host->flag, sizeof net->host_flag);
        return;
    }
    const int32_t(*flag)[2] = rm_buf_host(net->part_shared);
    for (uint32_t i = 0; i < net->n_part; i++) {
        const int32_t *f = flag[i];
        bad += f[0];
        if (f[0] > 0 && first < 0) first = f[1] + (int32_t)(net->part[i].op.u.optim.segment - base);
    }
    net->host_flag[0] = bad > INT32_MAX ? INT32_MAX : (int32_t)bad;
    net->host_flag[1] = first;
}
