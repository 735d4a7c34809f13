/* Lowering: graph layers to device ops, in the order in which they run. Each op is planned as soon as its inputs are
 * known; where the plan wants another layout than the input has, a reorder goes before it. */
#include "model/net_private.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const rm_links no_links = { { [0 ... RM_SLOT_COUNT - 1] = -1 } };

int32_t rm_net_tensor(rm_net *net, rm_tdesc desc, rm_home home, int32_t index)
{
    if (net->n_tensor == net->cap_tensor) {
        int32_t cap = net->cap_tensor ? 2 * net->cap_tensor : 256;
        rm_tensor *grown = realloc(net->tensor, (size_t)cap * sizeof *grown);
        if (!grown) return -1;
        net->tensor = grown;
        net->cap_tensor = cap;
    }
    net->tensor[net->n_tensor] = (rm_tensor){ .desc = desc, .home = home, .index = index, .first = -1, .last = -1 };
    return net->n_tensor++;
}

static rm_status new_tensor(rm_net *net, rm_tdesc desc, rm_home home, int32_t index, int32_t *out)
{
    int32_t t = rm_net_tensor(net, desc, home, index);
    if (t < 0) return rm_fail(RM_E_NOMEM, "out of memory building the network");
    *out = t;
    return RM_OK;
}

/* A tensor of a parameter or statistic: one per (home, index), so that later look-ups find it. */
static rm_status home_tensor(rm_net *net, rm_tdesc desc, rm_home home, int32_t index, int32_t *out)
{
    for (int32_t t = 0; t < net->n_tensor; t++) {
        const rm_tensor *q = &net->tensor[t];
        if (q->home == home && q->index == index && q->desc.layout == desc.layout && q->desc.dtype == desc.dtype) { *out = t; return RM_OK; }
    }
    return new_tensor(net, desc, home, index, out);
}

static rm_status push_node(rm_net *net, const rm_node *node, const rm_links *links)
{
    if (net->n_node == net->cap_node) {
        int32_t cap = net->cap_node ? 2 * net->cap_node : 256;
        rm_node *grown = realloc(net->node, (size_t)cap * sizeof *grown);
        if (grown) net->node = grown;
        rm_links *more = grown ? realloc(net->links, (size_t)cap * sizeof *more) : NULL;
        if (more) net->links = more;
        if (!grown || !more) {
            rm_plan_free(net->device, node->plan);
            return rm_fail(RM_E_NOMEM, "out of memory building the network");
        }
        net->cap_node = cap;
    }
    net->node[net->n_node] = *node;
    net->links[net->n_node++] = *links;
    return RM_OK;
}

static rm_status plan_node(rm_net *net, const rm_op *op, int32_t layer, rm_pass pass, rm_node *out)
{
    rm_node n = { .op = *op, .layer = layer, .pass = pass };
    RM_TRY(rm_device_plan(net->device, op, &n.plan, &n.info));
    snprintf(n.name, sizeof n.name, "%s", layer >= 0 ? net->graph->layer[layer].name : rm_opcode_name(op->code));
    *out = n;
    return RM_OK;
}

/* `*t` in the wanted layout and type: itself, or a copy made by a reorder node. */
static rm_status ensure(rm_net *net, int32_t layout, rm_dtype dtype, int32_t layer, rm_pass pass, int32_t *t)
{
    rm_tdesc from = net->tensor[*t].desc, to = from;
    to.layout = layout;
    to.dtype = dtype;
    if (from.layout == layout && from.dtype == dtype) return RM_OK;
    rm_op op = { .code = RM_OP_REORDER, .x = from, .y = to };
    rm_node n;
    rm_links links = no_links;
    int32_t copy;
    RM_TRY(plan_node(net, &op, layer, pass, &n));
    RM_TRY(new_tensor(net, to, HOME_ACTIVATION, -1, &copy));
    links.t[RM_X] = *t;
    links.t[RM_Y] = copy;
    RM_TRY(push_node(net, &n, &links));
    *t = copy;
    return RM_OK;
}

static int32_t in_tensor(const rm_net *net, int32_t layer, int slot)
{
    int32_t src = net->graph->layer[layer].in[slot];
    return src == RM_IMAGE ? net->image : net->out[src];
}

static rm_tdesc vector_desc(int32_t c) { return (rm_tdesc){ { 1, c, 1, 1 }, RM_F32, RM_LAYOUT_NCHW }; }

/* ---- descriptions of a layer's op */
static rm_op conv_op(const rm_net *net, int32_t i, rm_opcode code)
{
    const rm_layer *l = &net->graph->layer[i];
    int32_t c = rm_layer_in(net->graph, i).c;
    rm_op op = { .code = code };
    op.w = (rm_tdesc){ { l->out.c, c, l->k ? l->k : 1, l->k ? l->k : 1 }, net->cfg.dtype, RM_LAYOUT_ANY };
    if (l->kind == RM_K_CONV) {
        op.u.win.k = l->k;
        op.u.win.stride = l->stride;
        op.u.win.pad = l->pad;
    }
    op.y = (rm_tdesc){ l->out, l->kind == RM_K_FC && net->cfg.dtype != RM_F64 ? RM_F32 : net->cfg.dtype, RM_LAYOUT_ANY };
    return op;
}

static rm_op bn_op(const rm_net *net, int32_t i, rm_opcode code)
{
    const rm_layer *l = &net->graph->layer[i];
    rm_op op = { .code = code, .y = { l->out, net->cfg.dtype, RM_LAYOUT_ANY } };
    op.u.bn.eps = net->cfg.bn_eps;
    op.u.bn.momentum = net->cfg.bn_momentum;
    op.u.bn.training = net->cfg.training && !net->cfg.bn_frozen;
    op.u.bn.unbiased = !net->cfg.bn_biased;
    op.u.bn.relu = l->relu;
    op.u.bn.add = l->add;
    return op;
}

static rm_op pool_op(const rm_net *net, int32_t i, rm_opcode code)
{
    const rm_layer *l = &net->graph->layer[i];
    rm_op op = { .code = code, .y = { l->out, net->cfg.dtype, RM_LAYOUT_ANY } };
    if (l->kind == RM_K_MAXPOOL) {
        op.u.win.k = l->k;
        op.u.win.stride = l->stride;
        op.u.win.pad = l->pad;
    }
    return op;
}

/* Where a weight is read as (dtype, layout): the master itself or a copy. Which one is settled when the masters' layouts
 * are known, by settle_weights(). */
static rm_status weight_tensor(rm_net *net, int32_t param, rm_dtype dtype, int32_t layout, int32_t *out)
{
    return home_tensor(net, (rm_tdesc){ net->graph->param[param].shape, dtype, layout }, HOME_COPY, param, out);
}

/* ---- forward */
static rm_status forward_weighted(rm_net *net, int32_t i) /* conv and fc */
{
    bool fc = net->graph->layer[i].kind == RM_K_FC;
    rm_op op = conv_op(net, i, fc ? RM_OP_FC : RM_OP_CONV);
    int32_t x = in_tensor(net, i, 0), y;
    op.x = net->tensor[x].desc;
    if (fc) op.y.layout = RM_LAYOUT_NCHW;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_FWD, &n));
    RM_TRY(ensure(net, n.info.x, op.x.dtype, i, RM_PASS_FWD, &x));
    RM_TRY(weight_tensor(net, rm_graph_find_param(net->graph, i, RM_ROLE_WEIGHT), op.w.dtype, n.info.w, &links.t[RM_W]));
    if (fc) {
        int32_t bias = rm_graph_find_param(net->graph, i, RM_ROLE_BIAS);
        RM_TRY(home_tensor(net, vector_desc(op.y.shape.c), HOME_WEIGHT, bias, &links.t[RM_BETA]));
    }
    op.y.layout = n.info.y;
    RM_TRY(new_tensor(net, op.y, HOME_ACTIVATION, -1, &y));
    links.t[RM_X] = x;
    links.t[RM_Y] = net->out[i] = y;
    return push_node(net, &n, &links);
}

static rm_status saved_tensor(rm_net *net, int32_t i, size_t bytes, int32_t *out)
{
    if (!bytes) return RM_OK;
    rm_tdesc d = { { 1, (int32_t)bytes, 1, 1 }, RM_U8, RM_LAYOUT_NCHW };
    RM_TRY(new_tensor(net, d, HOME_ACTIVATION, -1, out));
    net->tensor[*out].bytes = bytes;
    net->saved[i] = *out;
    return RM_OK;
}

static rm_status bn_vectors(rm_net *net, int32_t i, rm_links *links)
{
    rm_tdesc v = vector_desc(net->graph->layer[i].out.c);
    int32_t gamma = rm_graph_find_param(net->graph, i, RM_ROLE_GAMMA), beta = rm_graph_find_param(net->graph, i, RM_ROLE_BETA);
    RM_TRY(home_tensor(net, v, HOME_WEIGHT, gamma, &links->t[RM_GAMMA]));
    RM_TRY(home_tensor(net, v, HOME_WEIGHT, beta, &links->t[RM_BETA]));
    RM_TRY(home_tensor(net, v, HOME_RMEAN, i, &links->t[RM_RMEAN]));
    return home_tensor(net, v, HOME_RVAR, i, &links->t[RM_RVAR]);
}

static rm_status forward_bn(rm_net *net, int32_t i)
{
    rm_op op = bn_op(net, i, RM_OP_BN);
    int32_t x = in_tensor(net, i, 0), x2 = op.u.bn.add ? in_tensor(net, i, 1) : -1;
    op.x = net->tensor[x].desc;
    op.y.layout = op.x.layout;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_FWD, &n));
    RM_TRY(ensure(net, n.info.x, op.x.dtype, i, RM_PASS_FWD, &x));
    if (x2 >= 0) RM_TRY(ensure(net, n.info.x2 ? n.info.x2 : n.info.x, op.x.dtype, i, RM_PASS_FWD, &x2));
    RM_TRY(bn_vectors(net, i, &links));
    op.y.layout = n.info.y;
    RM_TRY(new_tensor(net, op.y, HOME_ACTIVATION, -1, &net->out[i]));
    RM_TRY(saved_tensor(net, i, n.info.saved_bytes, &links.t[RM_SAVED]));
    links.t[RM_X] = x;
    links.t[RM_X2] = x2;
    links.t[RM_Y] = net->out[i];
    return push_node(net, &n, &links);
}

static rm_status forward_pool(rm_net *net, int32_t i)
{
    bool max = net->graph->layer[i].kind == RM_K_MAXPOOL;
    rm_op op = pool_op(net, i, max ? RM_OP_MAXPOOL : RM_OP_AVGPOOL);
    int32_t x = in_tensor(net, i, 0);
    op.x = net->tensor[x].desc;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_FWD, &n));
    RM_TRY(ensure(net, n.info.x, op.x.dtype, i, RM_PASS_FWD, &x));
    op.y.layout = n.info.y;
    RM_TRY(new_tensor(net, op.y, HOME_ACTIVATION, -1, &net->out[i]));
    if (max) RM_TRY(saved_tensor(net, i, n.info.saved_bytes ? n.info.saved_bytes : 64, &links.t[RM_SAVED]));
    links.t[RM_X] = x;
    links.t[RM_Y] = net->out[i];
    return push_node(net, &n, &links);
}

/* ReLU and addition on their own, in place: nobody else reads what they overwrite. */
static rm_status forward_elementwise(rm_net *net, int32_t i)
{
    bool add = net->graph->layer[i].kind == RM_K_ADD;
    int32_t x = in_tensor(net, i, 0), x2 = add ? in_tensor(net, i, 1) : -1;
    rm_op op = { .code = add ? RM_OP_ADD : RM_OP_RELU, .x = net->tensor[x].desc };
    op.y = op.x;
    if (add) RM_TRY(ensure(net, op.x.layout, op.x.dtype, i, RM_PASS_FWD, &x2));
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_FWD, &n));
    links.t[RM_X] = x;
    links.t[RM_X2] = x2;
    links.t[RM_Y] = net->out[i] = x;
    return push_node(net, &n, &links);
}

static rm_status fixed_tensor(rm_net *net, rm_tdesc desc, size_t bytes, int32_t *out)
{
    RM_ASSERT(net->n_fixed < (int32_t)RM_COUNT(net->fixed));
    if (!bytes) bytes = rm_layout_bytes(net->device, &desc);
    RM_TRY(new_tensor(net, desc, HOME_FIXED, -1, out));
    RM_TRY(rm_buf_alloc(net->device, RM_MEM_DEVICE, bytes, &net->fixed[net->n_fixed]));
    net->tensor[*out].ref = (rm_ref){ net->fixed[net->n_fixed++], 0 };
    net->tensor[*out].bytes = bytes;
    return RM_OK;
}

/* u8 images become normalised activations in the layout that the first convolution likes best. */
static rm_status forward_input(rm_net *net)
{
    const rm_graph *g = net->graph;
    rm_op stem = conv_op(net, 0, RM_OP_CONV);
    stem.x = (rm_tdesc){ g->image, net->cfg.dtype, RM_LAYOUT_ANY };
    rm_plan *probe = NULL;
    rm_plan_info info;
    RM_TRY(rm_device_plan(net->device, &stem, &probe, &info));
    rm_plan_free(net->device, probe);

    rm_tdesc to = { g->image, net->cfg.dtype, info.x }, u8 = { g->image, RM_U8, RM_LAYOUT_NHWC };
    if (net->cfg.input_f32) {
        RM_TRY(fixed_tensor(net, (rm_tdesc){ g->image, RM_F32, RM_LAYOUT_NCHW }, 0, &net->input));
        net->image = net->input;
        return ensure(net, to.layout, to.dtype, -1, RM_PASS_INPUT, &net->image);
    }
    rm_op op = { .code = RM_OP_AUGMENT, .x = u8, .y = to };
    for (int c = 0; c < 3; c++) {
        op.u.augment.mean[c] = net->cfg.mean[c];
        op.u.augment.std[c] = net->cfg.std[c];
    }
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, -1, RM_PASS_INPUT, &n));
    RM_TRY(fixed_tensor(net, u8, 0, &net->input));
    links.t[RM_X] = net->input;
    RM_TRY(fixed_tensor(net, (rm_tdesc){ { 1, g->image.n, 1, 1 }, RM_U8, RM_LAYOUT_NCHW }, (size_t)g->image.n, &net->flip));
    to.layout = n.info.y;
    RM_TRY(new_tensor(net, to, HOME_ACTIVATION, -1, &links.t[RM_Y]));
    links.t[RM_FLIP] = net->flip;
    net->image = links.t[RM_Y];
    return push_node(net, &n, &links);
}

static rm_status forward_layer(rm_net *net, int32_t i)
{
    switch (net->graph->layer[i].kind) {
    case RM_K_CONV: case RM_K_FC: return forward_weighted(net, i);
    case RM_K_BN: return forward_bn(net, i);
    case RM_K_MAXPOOL: case RM_K_AVGPOOL: return forward_pool(net, i);
    default: return forward_elementwise(net, i);
    }
}

/* Logits outlive the step: they go to memory of their own. */
static rm_status keep_logits(rm_net *net)
{
    net->logits = net->out[net->graph->n_layer - 1];
    rm_tdesc desc = net->tensor[net->logits].desc;
    size_t bytes = rm_layout_bytes(net->device, &desc);
    RM_TRY(rm_buf_alloc(net->device, RM_MEM_DEVICE, bytes, &net->fixed[net->n_fixed]));
    rm_tensor *t = &net->tensor[net->logits];
    t->home = HOME_FIXED;
    t->bytes = bytes;
    t->ref = (rm_ref){ net->fixed[net->n_fixed++], 0 };
    return RM_OK;
}

/* ---- loss */
static rm_status add_grad(rm_net *net, int32_t layer, int32_t t)
{
    if (layer == RM_IMAGE) return RM_OK;
    int32_t *g = net->grad[layer];
    RM_ASSERT(g[1] < 0);
    g[g[0] < 0 ? 0 : 1] = t;
    return RM_OK;
}

static rm_status lower_loss(rm_net *net)
{
    int32_t last = net->graph->n_layer - 1;
    rm_tdesc logits = net->tensor[net->logits].desc;
    rm_op op = { .code = RM_OP_SOFTMAX_XENT, .x = logits, .y = vector_desc(1) };
    op.u.xent.label_smoothing = net->cfg.label_smoothing;
    op.u.xent.scale = net->cfg.loss_scale;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, -1, RM_PASS_LOSS, &n));
    RM_TRY(fixed_tensor(net, (rm_tdesc){ { 1, logits.shape.n, 1, 1 }, RM_I32, RM_LAYOUT_NCHW }, (size_t)logits.shape.n * 4, &net->label));
    RM_TRY(fixed_tensor(net, vector_desc(1), 8, &net->loss));
    RM_TRY(new_tensor(net, logits, HOME_ACTIVATION, -1, &links.t[RM_DX]));
    links.t[RM_X] = net->logits;
    links.t[RM_LABEL] = net->label;
    links.t[RM_LOSS] = net->loss;
    RM_TRY(add_grad(net, last, links.t[RM_DX]));
    return push_node(net, &n, &links);
}

/* ---- backward */
/* The gradient of layer i's output as one tensor in dy's layout; a second part is summed here unless dy2 takes it. */
static rm_status take_grad(rm_net *net, int32_t i, int32_t layout, rm_dtype dtype, int32_t *dy, int32_t *dy2)
{
    int32_t a = net->grad[i][0], b = net->grad[i][1];
    RM_ASSERT(a >= 0);
    RM_TRY(ensure(net, layout, dtype, i, RM_PASS_BWD, &a));
    if (b >= 0) RM_TRY(ensure(net, layout, dtype, i, RM_PASS_BWD, &b));
    *dy = a;
    if (dy2) *dy2 = b;
    if (b < 0 || dy2) return RM_OK;

    rm_op op = { .code = RM_OP_ADD, .x = net->tensor[a].desc, .y = net->tensor[a].desc };
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_BWD, &n));
    links.t[RM_X] = a;
    links.t[RM_X2] = b;
    if (net->tensor[a].shared) RM_TRY(new_tensor(net, op.y, HOME_ACTIVATION, -1, dy));
    links.t[RM_Y] = *dy;
    return push_node(net, &n, &links);
}

/* Layout of a parameter's gradient: free for a first net, the arena's for later ones. */
static int32_t grad_layout(const rm_net *net, int32_t param) { return net->owns_params ? RM_LAYOUT_ANY : net->params->slice[param].layout; }

/* The master weight lies as its gradient does; a first net decides. */
static rm_status grad_target(rm_net *net, int32_t param, int32_t layout, int32_t *out)
{
    rm_tdesc desc = { net->graph->param[param].shape, RM_F32, layout };
    if (net->owns_params || net->params->slice[param].layout == layout) return home_tensor(net, desc, HOME_GRAD, param, out);
    return new_tensor(net, desc, HOME_ACTIVATION, -1, out);
}

static rm_status settle_grad(rm_net *net, int32_t i, int32_t param, int32_t t)
{
    if (net->tensor[t].home == HOME_GRAD) return RM_OK;
    rm_op op = { .code = RM_OP_REORDER, .x = net->tensor[t].desc, .y = net->tensor[t].desc };
    op.y.layout = net->params->slice[param].layout;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_BWD_WEIGHTS, &n));
    links.t[RM_X] = t;
    RM_TRY(home_tensor(net, op.y, HOME_GRAD, param, &links.t[RM_Y]));
    return push_node(net, &n, &links);
}

static rm_status backward_weights(rm_net *net, int32_t i, const rm_op *fwd, int32_t x, int32_t grad)
{
    const rm_graph *g = net->graph;
    bool fc = g->layer[i].kind == RM_K_FC;
    int32_t param = rm_graph_find_param(g, i, RM_ROLE_WEIGHT), bias = rm_graph_find_param(g, i, RM_ROLE_BIAS);
    rm_op op = *fwd;
    op.code = fc ? RM_OP_FC_BWD_WEIGHTS : RM_OP_CONV_BWD_WEIGHTS;
    op.w.dtype = RM_F32;
    op.w.layout = grad_layout(net, param);
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_BWD_WEIGHTS, &n));
    RM_TRY(ensure(net, n.info.x, op.x.dtype, i, RM_PASS_BWD_WEIGHTS, &x));
    RM_TRY(ensure(net, n.info.y, op.y.dtype, i, RM_PASS_BWD_WEIGHTS, &grad));
    links.t[RM_X] = x;
    links.t[RM_DY] = grad;
    RM_TRY(grad_target(net, param, n.info.w, &links.t[RM_DW]));
    if (fc) RM_TRY(home_tensor(net, vector_desc(op.y.shape.c), HOME_GRAD, bias, &links.t[RM_DBETA]));
    RM_TRY(push_node(net, &n, &links));
    RM_TRY(settle_grad(net, i, param, links.t[RM_DW]));
    net->node[net->n_node - 1].ready = g->param[param].ready + 1;
    return RM_OK;
}

static rm_status backward_data(rm_net *net, int32_t i, const rm_op *fwd, int32_t dy)
{
    bool fc = net->graph->layer[i].kind == RM_K_FC;
    rm_op op = *fwd;
    op.code = fc ? RM_OP_FC_BWD_DATA : RM_OP_CONV_BWD_DATA;
    op.w.layout = RM_LAYOUT_ANY;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_BWD_DATA, &n));
    RM_TRY(ensure(net, n.info.y, op.y.dtype, i, RM_PASS_BWD_DATA, &dy));
    RM_TRY(weight_tensor(net, rm_graph_find_param(net->graph, i, RM_ROLE_WEIGHT), op.w.dtype, n.info.w, &links.t[RM_W]));
    op.x.layout = n.info.x;
    RM_TRY(new_tensor(net, op.x, HOME_ACTIVATION, -1, &links.t[RM_DX]));
    links.t[RM_DY] = dy;
    RM_TRY(push_node(net, &n, &links));
    return add_grad(net, net->graph->layer[i].in[0], links.t[RM_DX]);
}

static rm_status backward_weighted(rm_net *net, int32_t i)
{
    rm_op op = conv_op(net, i, RM_OP_CONV);
    int32_t x = in_tensor(net, i, 0), y = net->out[i], dy;
    op.x = net->tensor[x].desc;
    op.y = net->tensor[y].desc;
    RM_TRY(take_grad(net, i, op.y.layout, op.y.dtype, &dy, NULL));
    RM_TRY(backward_weights(net, i, &op, x, dy));
    return net->graph->layer[i].in[0] == RM_IMAGE ? RM_OK : backward_data(net, i, &op, dy);
}

static rm_status backward_bn(rm_net *net, int32_t i)
{
    const rm_graph *g = net->graph;
    const rm_layer *l = &g->layer[i];
    rm_op op = bn_op(net, i, RM_OP_BN_BWD);
    int32_t x = in_tensor(net, i, 0), y = net->out[i], dy, dy2;
    op.x = net->tensor[x].desc;
    op.y = net->tensor[y].desc;
    RM_TRY(take_grad(net, i, op.y.layout, op.y.dtype, &dy, &dy2));
    op.dy2 = dy2 >= 0;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, i, RM_PASS_BWD, &n));
    RM_ASSERT(n.info.x == op.x.layout && n.info.y == op.y.layout);
    RM_TRY(bn_vectors(net, i, &links));
    links.t[RM_BETA] = -1;
    if (op.u.bn.training) links.t[RM_RMEAN] = links.t[RM_RVAR] = -1;
    int32_t gamma = rm_graph_find_param(g, i, RM_ROLE_GAMMA), beta = rm_graph_find_param(g, i, RM_ROLE_BETA);
    RM_TRY(home_tensor(net, vector_desc(l->out.c), HOME_GRAD, gamma, &links.t[RM_DGAMMA]));
    RM_TRY(home_tensor(net, vector_desc(l->out.c), HOME_GRAD, beta, &links.t[RM_DBETA]));
    links.t[RM_X] = x;
    links.t[RM_Y] = y;
    links.t[RM_DY] = dy;
    links.t[RM_DY2] = dy2;
    links.t[RM_SAVED] = net->saved[i];
    links.t[RM_DX] = dy; /* in place, unless somebody else reads dy or the op writes it twice */
    if (l->add || net->tensor[dy].shared) RM_TRY(new_tensor(net, op.x, HOME_ACTIVATION, -1, &links.t[RM_DX]));
    if (l->add) {
        RM_TRY(new_tensor(net, op.x, HOME_ACTIVATION, -1, &links.t[RM_DX2]));
        RM_TRY(add_grad(net, l->in[1], links.t[RM_DX2]));
    }
    RM_TRY(add_grad(net, l->in[0], links.t[RM_DX]));
    n.ready = g->param[gamma].ready + 1;
    return push_node(net, &n, &links);
}

static rm_status backward_pool(rm_net *net, int32_t i)
{
    bool max = net->graph->layer[i].kind == RM_K_MAXPOOL;
    rm_op op = pool_op(net, i, max ? RM_OP_MAXPOOL_BWD : RM_OP_AVGPOOL_BWD);
    op.x = net->tensor[in_tensor(net, i, 0)].desc;
    op.y = net->tensor[net->out[i]].desc;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(take_grad(net, i, op.y.layout, op.y.dtype, &links.t[RM_DY], NULL));
    RM_TRY(plan_node(net, &op, i, RM_PASS_BWD, &n));
    RM_TRY(ensure(net, n.info.y, op.y.dtype, i, RM_PASS_BWD, &links.t[RM_DY]));
    op.x.layout = n.info.x;
    RM_TRY(new_tensor(net, op.x, HOME_ACTIVATION, -1, &links.t[RM_DX]));
    if (max) links.t[RM_SAVED] = net->saved[i];
    RM_TRY(push_node(net, &n, &links));
    return add_grad(net, net->graph->layer[i].in[0], links.t[RM_DX]);
}

static rm_status backward_relu(rm_net *net, int32_t i)
{
    int32_t y = net->out[i];
    rm_op op = { .code = RM_OP_RELU_BWD, .x = net->tensor[y].desc, .y = net->tensor[y].desc };
    rm_node n;
    rm_links links = no_links;
    RM_TRY(take_grad(net, i, op.y.layout, op.y.dtype, &links.t[RM_DY], &links.t[RM_DY2]));
    op.dy2 = links.t[RM_DY2] >= 0;
    RM_TRY(plan_node(net, &op, i, RM_PASS_BWD, &n));
    links.t[RM_Y] = y;
    links.t[RM_DX] = links.t[RM_DY];
    if (net->tensor[links.t[RM_DY]].shared) RM_TRY(new_tensor(net, op.x, HOME_ACTIVATION, -1, &links.t[RM_DX]));
    RM_TRY(push_node(net, &n, &links));
    return add_grad(net, net->graph->layer[i].in[0], links.t[RM_DX]);
}

static rm_status backward_add(rm_net *net, int32_t i)
{
    const rm_layer *l = &net->graph->layer[i];
    int32_t dy;
    RM_TRY(take_grad(net, i, net->tensor[net->out[i]].desc.layout, net->cfg.dtype, &dy, NULL));
    net->tensor[dy].shared = true;
    RM_TRY(add_grad(net, l->in[0], dy));
    return add_grad(net, l->in[1], dy);
}

static rm_status backward_layer(rm_net *net, int32_t i)
{
    switch (net->graph->layer[i].kind) {
    case RM_K_CONV: case RM_K_FC: return backward_weighted(net, i);
    case RM_K_BN: return backward_bn(net, i);
    case RM_K_MAXPOOL: case RM_K_AVGPOOL: return backward_pool(net, i);
    case RM_K_RELU: return backward_relu(net, i);
    default: return backward_add(net, i);
    }
}

/* ---- weights, accumulation, update */
/* Masters' layouts are known now: a read weight is the master, or a copy that a prologue node refreshes every step. */
static rm_status settle_weights(rm_net *net)
{
    int32_t n_tensor = net->n_tensor;
    for (int32_t t = 0; t < n_tensor; t++) {
        rm_tensor *q = &net->tensor[t];
        if (q->home != HOME_COPY) continue;
        const rm_slice *s = &net->params->slice[q->index];
        rm_tdesc master = { q->desc.shape, RM_F32, s->layout };
        const bool same = q->desc.dtype == RM_F32 || q->desc.dtype == RM_TF32 || net->params->elem == 8; /* in memory */
        if (q->desc.layout == s->layout && same) {
            q->home = HOME_WEIGHT;
            continue;
        }
        rm_op op = { .code = RM_OP_REORDER, .x = master, .y = q->desc };
        int32_t param = q->index;
        rm_node n;
        rm_links links = no_links;
        RM_TRY(plan_node(net, &op, net->graph->param[param].layer, RM_PASS_WEIGHTS, &n));
        RM_TRY(home_tensor(net, master, HOME_WEIGHT, param, &links.t[RM_X]));
        links.t[RM_Y] = t;
        RM_TRY(push_node(net, &n, &links));
    }
    return RM_OK;
}

static rm_status lower_update(rm_net *net)
{
    rm_params *p = net->params;
    rm_op op = { .code = RM_OP_OPTIM };
    op.u.optim.rule = net->cfg.optimizer;
    op.u.optim.nesterov = net->cfg.nesterov;
    op.u.optim.count = p->bytes / p->elem;
    op.u.optim.segment = p->segment;
    op.u.optim.n_segment = (uint32_t)net->graph->n_param;
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, -1, RM_PASS_UPDATE, &n));
    rm_buf *of[] = { p->weight, p->sum ? p->sum : p->grad, p->momentum };
    const rm_slot slot[] = { RM_W, RM_DW, RM_MOMENTUM };
    for (size_t i = 0; i < RM_COUNT(of); i++) {
        RM_TRY(new_tensor(net, vector_desc(1), HOME_FIXED, -1, &links.t[slot[i]]));
        net->tensor[links.t[slot[i]]].ref = (rm_ref){ of[i], 0 };
    }
    links.t[RM_HYPER] = net->hyper;
    links.t[RM_FLAG] = net->flag;
    return push_node(net, &n, &links);
}

static rm_status lower_accumulate(rm_net *net)
{
    rm_params *p = net->params;
    if (!net->cfg.accumulate) return RM_OK;
    rm_shape flat = { 1, (int32_t)(p->bytes / p->elem), 1, 1 };
    rm_op op = { .code = RM_OP_ADD, .x = { flat, RM_F32, RM_LAYOUT_NCHW }, .y = { flat, RM_F32, RM_LAYOUT_NCHW } };
    rm_node n;
    rm_links links = no_links;
    RM_TRY(plan_node(net, &op, -1, RM_PASS_ACCUMULATE, &n));
    rm_buf *of[] = { p->sum, p->grad };
    const rm_slot slot[] = { RM_X, RM_X2 };
    for (size_t i = 0; i < RM_COUNT(of); i++) {
        RM_TRY(new_tensor(net, vector_desc(1), HOME_FIXED, -1, &links.t[slot[i]]));
        net->tensor[links.t[slot[i]]].ref = (rm_ref){ of[i], 0 };
    }
    links.t[RM_Y] = links.t[RM_X];
    return push_node(net, &n, &links);
}

/* A first net's masters take the layouts in which its gradients come. */
static rm_status make_params(rm_net *net, const rm_params_config *given)
{
    const rm_graph *g = net->graph;
    int32_t *layout = calloc((size_t)g->n_param, sizeof *layout);
    if (!layout) return rm_fail(RM_E_NOMEM, "out of memory building the network");
    for (int32_t p = 0; p < g->n_param; p++) layout[p] = RM_LAYOUT_NCHW;
    for (int32_t t = 0; t < net->n_tensor; t++)
        if (net->tensor[t].home == HOME_GRAD) layout[net->tensor[t].index] = net->tensor[t].desc.layout;
    rm_params_config cfg = *given;
    cfg.layout = layout;
    cfg.training = net->cfg.training;
    cfg.accumulate = net->cfg.accumulate;
    rm_status st = rm_params_new(net->device, g, &cfg, net->params);
    free(layout);
    return st;
}

/* An all-reduce starts on the word of `ready`: no gradient may be promised before the node that writes it, or written after it. */
static rm_status check_ready(const rm_net *net)
{
    const rm_graph *g = net->graph;
    bool *written = calloc((size_t)g->n_param, sizeof *written);
    if (!written) return rm_fail(RM_E_NOMEM, "out of memory building the network");
    int32_t promised = 0;
    for (int32_t i = net->begin[PHASE_BACKWARD]; i < net->begin[PHASE_ACCUMULATE]; i++) {
        const rm_node *n = &net->node[i];
        for (int s = 0; s < RM_SLOT_COUNT; s++) {
            const rm_tensor *t = net->links[i].t[s] >= 0 ? &net->tensor[net->links[i].t[s]] : NULL;
            if (!t || t->home != HOME_GRAD || !(rm_op_uses(&n->op, (rm_slot)s) & RM_WRITE)) continue;
            RM_ASSERT(g->param[t->index].ready >= promised);
            written[g->param[t->index].ready] = true;
        }
        for (; promised < n->ready; promised++) RM_ASSERT(written[promised]);
    }
    RM_ASSERT(promised == g->n_param);
    free(written);
    return RM_OK;
}

/* Prologue nodes were pushed last and must run first. */
static rm_status rotate_prologue(rm_net *net, int32_t from)
{
    int32_t n = net->n_node, k = n - from;
    rm_node *node = malloc((size_t)(n ? n : 1) * sizeof *node);
    rm_links *links = malloc((size_t)(n ? n : 1) * sizeof *links);
    if (!node || !links) {
        free(node);
        free(links);
        return rm_fail(RM_E_NOMEM, "out of memory building the network");
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t to = i < from ? i + k : i - from;
        node[to] = net->node[i];
        links[to] = net->links[i];
    }
    free(net->node);
    free(net->links);
    net->node = node;
    net->links = links;
    net->cap_node = n;
    net->begin[PHASE_PROLOGUE] = 0;
    for (int p = PHASE_FORWARD; p <= PHASE_COUNT; p++) net->begin[p] += k;
    return RM_OK;
}

rm_status rm_net_lower(rm_net *net, const rm_params_config *params_cfg)
{
    const rm_graph *g = net->graph;
    RM_TRY(forward_input(net));
    for (int32_t i = 0; i < g->n_layer; i++) RM_TRY(forward_layer(net, i));
    RM_TRY(keep_logits(net));
    if (net->cfg.training) RM_TRY(lower_loss(net));
    net->begin[PHASE_BACKWARD] = net->n_node;
    if (net->cfg.training)
        for (int32_t i = g->n_layer - 1; i >= 0; i--) RM_TRY(backward_layer(net, i));
    if (net->owns_params) RM_TRY(make_params(net, params_cfg));
    net->begin[PHASE_ACCUMULATE] = net->begin[PHASE_UPDATE] = net->n_node;
    if (net->cfg.training) {
        RM_TRY(check_ready(net));
        RM_TRY(fixed_tensor(net, vector_desc(RM_HYPER_COUNT), RM_HYPER_COUNT * sizeof(double), &net->hyper));
        RM_TRY(fixed_tensor(net, (rm_tdesc){ { 1, 2, 1, 1 }, RM_I32, RM_LAYOUT_NCHW }, 8, &net->flag));
        RM_TRY(lower_accumulate(net));
        net->begin[PHASE_UPDATE] = net->n_node;
        RM_TRY(lower_update(net));
    }
    net->begin[PHASE_COUNT] = net->n_node;
    int32_t from = net->n_node;
    RM_TRY(settle_weights(net));
    return rotate_prologue(net, from);
}
