#include "model/net_private.h"
#include "base/clock.h"
#include <stdlib.h>
#include <string.h>

const char *rm_pass_name(rm_pass p)
{
    static const char *const names[RM_PASS_COUNT] = {
        [RM_PASS_INPUT] = "input", [RM_PASS_WEIGHTS] = "weights", [RM_PASS_FWD] = "fwd", [RM_PASS_LOSS] = "loss",
        [RM_PASS_BWD_DATA] = "bwd_data", [RM_PASS_BWD_WEIGHTS] = "bwd_weights", [RM_PASS_BWD] = "bwd",
        [RM_PASS_ACCUMULATE] = "accumulate", [RM_PASS_UPDATE] = "update",
    };
    RM_ASSERT((unsigned)p < RM_PASS_COUNT);
    return names[p];
}

static rm_status allocate_tables(rm_net *net)
{
    size_t n = (size_t)net->graph->n_layer;
    net->out = malloc(n * sizeof *net->out);
    net->saved = malloc(n * sizeof *net->saved);
    net->grad = malloc(n * sizeof *net->grad);
    if (net->cfg.input_f32 && !strcmp(rm_device_name(net->device), "ref"))
        net->stage = malloc(rm_shape_count(net->graph->image) * sizeof *net->stage);
    if (!net->out || !net->saved || !net->grad) return rm_fail(RM_E_NOMEM, "out of memory building the network");
    for (size_t i = 0; i < n; i++) net->out[i] = net->saved[i] = net->grad[i][0] = net->grad[i][1] = -1;
    return RM_OK;
}

rm_status rm_net_new(rm_device *d, const rm_graph *g, const rm_net_config *cfg, rm_params *params, const rm_params_config *params_cfg, rm_net **out)
{
    rm_net *net = calloc(1, sizeof *net);
    if (!net) return rm_fail(RM_E_NOMEM, "out of memory building the network");
    net->device = d;
    net->graph = g;
    net->cfg = *cfg;
    net->params = params;
    net->owns_params = params_cfg != NULL;
    net->copy = (rm_node){ .layer = -1, .pass = RM_PASS_INPUT, .name = "images and labels" };
    rm_status st = RM_OK;
    RM_TRY_GOTO(st, allocate_tables(net), fail);
    RM_TRY_GOTO(st, rm_net_lower(net, params_cfg), fail);
    RM_TRY_GOTO(st, rm_net_place(net), fail);
    RM_TRY_GOTO(st, rm_buf_alloc(d, RM_MEM_PINNED, sizeof *net->host, &net->shared), fail);
    net->host = rm_buf_host(net->shared);
    *out = net;
    return RM_OK;
fail:
    if (net->owns_params) rm_params_free(params);
    rm_net_free(net);
    return st;
}

static void free_marks(rm_net *net)
{
    for (int32_t i = 0; i < net->n_node; i++) {
        rm_mark_free(net->device, net->node[i].begin);
        rm_mark_free(net->device, net->node[i].end);
        net->node[i].begin = net->node[i].end = NULL;
    }
    rm_mark_free(net->device, net->copy.begin);
    rm_mark_free(net->device, net->copy.end);
    net->copy.begin = net->copy.end = NULL;
    net->timed = false;
}

void rm_net_free(rm_net *net)
{
    if (!net) return;
    free_marks(net);
    (void)!rm_net_cut_update(net, NULL, 0);
    for (int32_t i = 0; i < net->n_node; i++) rm_plan_free(net->device, net->node[i].plan);
    for (int32_t i = 0; i < net->n_fixed; i++) rm_buf_free(net->device, net->fixed[i]);
    rm_buf_free(net->device, net->shared);
    rm_buf_free(net->device, net->activations);
    rm_buf_free(net->device, net->copies);
    rm_buf_free(net->device, net->workspace);
    free(net->node);
    free(net->links);
    free(net->tensor);
    free(net->out);
    free(net->saved);
    free(net->grad);
    free(net->stage);
    free(net);
}

rm_device *rm_net_device(const rm_net *net) { return net->device; }
const rm_graph *rm_net_graph(const rm_net *net) { return net->graph; }
void rm_net_get_size(const rm_net *net, rm_net_size *out) { *out = net->size; }

/* ---- inputs */
/* A node's beginning and end on the queue and, where that is noted, on the host. */
static rm_status begin_node(rm_net *net, rm_queue *q, rm_node *n)
{
    if (net->noting) n->launch_ns = rm_now_ns();
    return n->begin ? rm_mark_set(net->device, q, n->begin) : RM_OK;
}

static rm_status end_node(rm_net *net, rm_queue *q, rm_node *n)
{
    if (n->end) RM_TRY(rm_mark_set(net->device, q, n->end));
    if (net->noting) n->launched_ns = rm_now_ns();
    return RM_OK;
}

rm_status rm_net_begin_copy(rm_net *net, rm_queue *q)
{
    RM_TRY(begin_node(net, q, &net->copy));
    rm_cupti_push(net->cupti, RM_CUPTI_BATCH, 0);
    return RM_OK;
}

rm_status rm_net_end_copy(rm_net *net, rm_queue *q)
{
    rm_cupti_pop(net->cupti);
    return end_node(net, q, &net->copy);
}

static rm_status write_fixed(rm_net *net, int32_t tensor, const void *src, size_t bytes)
{
    return rm_device_write(net->device, NULL, net->tensor[tensor].ref, src, bytes);
}

rm_status rm_net_set_images_u8(rm_net *net, const uint8_t *image, const uint8_t *flip, int32_t n)
{
    RM_ASSERT(!net->cfg.input_f32 && n <= net->graph->image.n);
    rm_shape s = net->graph->image;
    net->copy.info.bytes_written = (uint64_t)n * ((uint64_t)s.h * (uint64_t)s.w * 3 + 1);
    RM_TRY(rm_net_begin_copy(net, NULL));
    RM_TRY(write_fixed(net, net->input, image, (size_t)n * (size_t)s.h * (size_t)s.w * 3));
    return write_fixed(net, net->flip, flip, (size_t)n);
}

rm_status rm_net_set_images_f32(rm_net *net, const float *image)
{
    RM_ASSERT(net->cfg.input_f32);
    uint64_t count = rm_shape_count(net->graph->image);
    if (net->params->elem == 4) return write_fixed(net, net->input, image, count * sizeof *image);
    if (!net->stage) return rm_fail(RM_E_NOMEM, "out of memory for images in double precision");
    for (uint64_t i = 0; i < count; i++) net->stage[i] = image[i];
    return write_fixed(net, net->input, net->stage, count * sizeof *net->stage);
}

rm_status rm_net_set_labels(rm_net *net, const int32_t *label, int32_t n)
{
    RM_ASSERT(net->cfg.training && n <= net->graph->image.n);
    net->copy.info.bytes_written += (uint64_t)n * sizeof *label;
    RM_TRY(write_fixed(net, net->label, label, (size_t)n * sizeof *label));
    return rm_net_end_copy(net, NULL);
}

void rm_net_note_hyper(rm_net *net, double lr, double momentum, double decay, double grad_scale, double eta)
{
    double *h = net->host->hyper;
    h[RM_HYPER_LR] = lr;
    h[RM_HYPER_MOMENTUM] = momentum;
    h[RM_HYPER_DECAY] = decay;
    h[RM_HYPER_GRAD_SCALE] = grad_scale;
    h[RM_HYPER_ETA] = eta;
}

rm_status rm_net_write_hyper(rm_net *net) { return write_fixed(net, net->hyper, net->host->hyper, sizeof net->host->hyper); }

rm_status rm_net_set_hyper(rm_net *net, double lr, double momentum, double decay, double grad_scale, double eta)
{
    rm_net_note_hyper(net, lr, momentum, decay, grad_scale, eta);
    return rm_net_write_hyper(net);
}

/* ---- running */
void rm_net_set_delay(rm_net *net, int32_t i, uint64_t ns)
{
    RM_ASSERT(!ns || (i >= 0 && i < net->n_node));
    net->delayed = i;
    net->delay_ns = ns;
}

static bool is_delayed(const rm_net *net, const rm_node *n)
{
    if (!net->delay_ns) return false;
    const bool parted = net->n_part && net->node[net->delayed].pass == RM_PASS_UPDATE;
    return n == (parted ? &net->part[net->n_part - 1] : &net->node[net->delayed]);
}

static void push_node(const rm_net *net, const rm_node *n)
{
    const bool part = n < net->node || n >= net->node + net->n_node;
    rm_cupti_push(net->cupti, part ? RM_CUPTI_UPDATE : RM_CUPTI_NODE, (uint32_t)(part ? n - net->part : n - net->node));
}

rm_status rm_net_run_node(rm_net *net, rm_node *n)
{
    RM_TRY(begin_node(net, NULL, n));
    push_node(net, n);
    rm_status st = rm_device_run(net->device, NULL, n->plan, &n->args);
    if (st == RM_OK && is_delayed(net, n)) st = rm_device_spin(net->device, NULL, net->delay_ns);
    rm_cupti_pop(net->cupti);
    return st == RM_OK ? end_node(net, NULL, n) : st;
}

static rm_status run_nodes(rm_net *net, int32_t from, int32_t to, rm_node_fn *after, void *ctx)
{
    for (int32_t i = from; i < to; i++) {
        RM_TRY(rm_net_run_node(net, &net->node[i]));
        if (after) RM_TRY(after(ctx, &net->node[i]));
    }
    return RM_OK;
}

static rm_status run_phase(rm_net *net, rm_phase p, rm_node_fn *after, void *ctx)
{
    return run_nodes(net, net->begin[p], net->begin[p + 1], after, ctx);
}

rm_status rm_net_prologue(rm_net *net) { return run_phase(net, PHASE_PROLOGUE, NULL, NULL); }
rm_status rm_net_forward(rm_net *net) { return run_phase(net, PHASE_FORWARD, NULL, NULL); }

rm_status rm_net_backward(rm_net *net, bool first, rm_node_fn *after, void *ctx)
{
    RM_TRY(run_phase(net, PHASE_BACKWARD, after, ctx));
    if (!net->cfg.accumulate) return RM_OK;
    if (first) RM_TRY(rm_device_fill(net->device, NULL, (rm_ref){ net->params->sum, 0 }, 0, net->params->bytes));
    return run_phase(net, PHASE_ACCUMULATE, after, ctx);
}

rm_status rm_net_update(rm_net *net)
{
    net->updated = true;
    return run_phase(net, PHASE_UPDATE, NULL, NULL);
}

rm_status rm_net_read(rm_net *net)
{
    if (!net->cfg.training) return RM_OK;
    RM_TRY(rm_device_read(net->device, NULL, &net->host->loss, net->tensor[net->loss].ref, net->params->elem));
    return net->updated ? rm_net_read_flags(net) : RM_OK;
}

rm_status rm_net_collect(rm_net *net, bool updated)
{
    RM_TRY(rm_device_sync(net->device, NULL));
    net->host_loss = net->params->elem == 8 ? net->host->loss.d : (double)net->host->loss.f;
    if (updated) rm_net_merge_flags(net);
    net->updated = false;
    return RM_OK;
}

rm_status rm_net_finish(rm_net *net)
{
    RM_TRY(rm_net_read(net));
    return rm_net_collect(net, net->updated);
}

double rm_net_loss(const rm_net *net) { return net->host_loss; }

uint64_t rm_net_nonfinite(const rm_net *net, const char **param_name)
{
    const rm_graph *g = net->graph;
    int32_t at = net->host_flag[1];
    *param_name = at >= 0 && at < g->n_param ? g->param[g->by_ready[at]].name : "";
    return net->host_flag[0] > 0 ? (uint64_t)net->host_flag[0] : 0;
}

rm_status rm_net_logits(rm_net *net, double *out)
{
    const rm_tensor *t = &net->tensor[net->logits];
    uint64_t count = rm_shape_count(t->desc.shape);
    size_t elem = net->params->elem;
    void *raw = malloc(count * elem);
    if (!raw) return rm_fail(RM_E_NOMEM, "out of memory reading the logits");
    rm_status st = rm_device_read(net->device, NULL, raw, t->ref, count * elem);
    if (st == RM_OK) st = rm_device_sync(net->device, NULL);
    for (uint64_t i = 0; st == RM_OK && i < count; i++) out[i] = elem == 8 ? ((double *)raw)[i] : (double)((float *)raw)[i];
    free(raw);
    return st;
}

rm_buf *rm_net_grad_buf(const rm_net *net) { return net->params->sum ? net->params->sum : net->params->grad; }

/* ---- timers */
rm_status rm_net_timers(rm_net *net, bool on)
{
    free_marks(net);
    net->timed = on;
    for (int32_t i = 0; on && i < net->n_node; i++) {
        RM_TRY(rm_mark_new(net->device, &net->node[i].begin));
        RM_TRY(rm_mark_new(net->device, &net->node[i].end));
    }
    if (on) RM_TRY(rm_mark_new(net->device, &net->copy.begin));
    return on ? rm_mark_new(net->device, &net->copy.end) : RM_OK;
}

const rm_node *rm_net_copy(const rm_net *net) { return &net->copy; }
void rm_net_note_launches(rm_net *net, bool on) { net->noting = on; }
void rm_net_set_cupti(rm_net *net, rm_cupti *c) { net->cupti = c; }

int32_t rm_net_gradient(const rm_net *net, int32_t i)
{
    int32_t last = -1;
    const rm_pass pass = net->node[i].pass;
    if (pass < RM_PASS_BWD_DATA || pass > RM_PASS_BWD) return -1;
    for (int32_t k = 0; k < RM_SLOT_COUNT; k++) {
        const int32_t at = net->links[i].t[k];
        if (at < 0 || net->tensor[at].home != HOME_GRAD) continue;
        const int32_t ready = net->graph->param[net->tensor[at].index].ready;
        if (ready > last) last = ready;
    }
    return last;
}

int32_t rm_net_nodes(const rm_net *net, const rm_node **out)
{
    *out = net->node;
    return net->n_node;
}

rm_status rm_node_ns(const rm_net *net, const rm_node *n, uint64_t *out_begin, uint64_t *out_end)
{
    RM_ASSERT(n->begin && n->end);
    uint64_t begin, end;
    RM_TRY(rm_mark_ns(net->device, n->begin, &begin));
    RM_TRY(rm_mark_ns(net->device, n->end, &end));
    *out_begin = begin;
    *out_end = end;
    return RM_OK;
}
