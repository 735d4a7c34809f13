/* Planning: one row an opcode says how the op is prepared, in which layouts it wants its operands, and which function runs it. */
#include "kernels/cuda/cuda_device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- layouts */
static int32_t channels_in(const rm_tdesc *t) { return t->layout == CUDA_PADDED ? cuda_padded(t->shape.c) : t->shape.c; }

size_t cuda_layout_bytes(rm_device *d, const rm_tdesc *t)
{
    rm_shape s = t->shape;
    s.c = channels_in(t);
    return rm_shape_count(s) * rm_dtype_bytes(t->dtype);
}

static rm_status ran(const cuda_plan *p, cudaError_t e) { return rm_cuda_check(e, rm_opcode_name(p->base.op.code)); }

/* ---- batch normalisation */
static rm_status run_bn(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    const rm_cuda_bn *b = &p->u.bn;
    if (p->base.op.u.bn.training)
        return ran(p, rm_cuda_bn_forward(b, t[RM_X], t[RM_X2], t[RM_GAMMA], t[RM_BETA], t[RM_RMEAN], t[RM_RVAR], t[RM_Y], t[RM_SAVED], ws, s));
    return ran(p, rm_cuda_bn_inference(b, t[RM_X], t[RM_X2], t[RM_GAMMA], t[RM_BETA], t[RM_RMEAN], t[RM_RVAR], t[RM_Y], ws, s));
}

static rm_status run_bn_bwd(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    const rm_cuda_bn *b = &p->u.bn;
    const bool training = p->base.op.u.bn.training;
    const void *y = p->base.op.u.bn.add || !training ? t[RM_Y] : NULL; /* else its sign is computed again: a pass less */
    if (training)
        return ran(p, rm_cuda_bn_backward(b, t[RM_X], y, t[RM_DY], t[RM_DY2], t[RM_SAVED], t[RM_DX], t[RM_DX2], t[RM_DGAMMA], t[RM_DBETA], ws, s));
    return ran(p, rm_cuda_bn_backward_frozen(b, t[RM_X], y, t[RM_DY], t[RM_DY2], t[RM_GAMMA], t[RM_RMEAN], t[RM_RVAR], t[RM_DX], t[RM_DX2], t[RM_DGAMMA],
                                             t[RM_DBETA], ws, s));
}

static rm_status prepare_bn(cuda_plan *p, rm_plan_info *i)
{
    const rm_op *op = &p->base.op;
    const rm_shape x = op->x.shape;
    p->u.bn = (rm_cuda_bn){ .rows = (int64_t)x.n * x.h * x.w, .c = x.c, .type = p->type, .eps = op->u.bn.eps, .momentum = op->u.bn.momentum,
                            .relu = op->u.bn.relu, .unbiased = op->u.bn.unbiased && op->u.bn.training };
    i->workspace_bytes = rm_cuda_bn_workspace_bytes(&p->u.bn);
    if (op->u.bn.training) i->saved_bytes = RM_CUDA_BN_SAVED * (size_t)x.c * sizeof(float);
    return RM_OK;
}

/* ---- element by element, pools */
static int64_t count_of(const cuda_plan *p) { return (int64_t)rm_shape_count(p->base.op.x.shape); }
static rm_status run_relu(cuda_plan *p, void *const t[], char *ws, cudaStream_t s) { return ran(p, rm_cuda_relu(p->type, count_of(p), t[RM_X], t[RM_Y], s)); }
static rm_status run_relu_bwd(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    return ran(p, rm_cuda_relu_backward(p->type, count_of(p), t[RM_Y], t[RM_DY], t[RM_DY2], t[RM_DX], s));
}
static rm_status run_add(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    return ran(p, rm_cuda_add(p->type, count_of(p), t[RM_X], t[RM_X2], t[RM_Y], s));
}
static rm_status run_avgpool(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    const rm_shape x = p->base.op.x.shape;
    return ran(p, rm_cuda_avgpool(p->type, x.n, x.h * x.w, x.c, t[RM_X], t[RM_Y], s));
}
static rm_status run_avgpool_bwd(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    const rm_shape x = p->base.op.x.shape;
    return ran(p, rm_cuda_avgpool_backward(p->type, x.n, x.h * x.w, x.c, t[RM_DY], t[RM_DX], s));
}

/* ---- loss */
static rm_status prepare_xent(cuda_plan *p, rm_plan_info *i)
{
    i->workspace_bytes = (size_t)p->base.op.x.shape.n * sizeof(float);
    return RM_OK;
}
static rm_status run_xent(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    const rm_op *op = &p->base.op;
    return ran(p, rm_cuda_softmax_xent(p->type, op->x.shape.n, op->x.shape.c, op->u.xent.label_smoothing, op->u.xent.scale, t[RM_X], t[RM_LABEL], t[RM_LOSS],
                                       t[RM_DX], ws, s));
}

/* ---- optimiser: its tables of spans and chunks go to the GPU once */
static rm_status upload(cuda_plan *p, const rm_cuda_chunk *chunk, const rm_cuda_reach *reach)
{
    rm_cuda_optim *o = &p->u.optim.o;
    const size_t chunks = cuda_align(o->n_chunks * sizeof *chunk), all = chunks + o->n_spans * sizeof *reach;
    RM_TRY(rm_cuda_check(cudaMalloc(&p->u.optim.tables, all ? all : 1), "take memory for the optimiser's tables"));
    char *at = p->u.optim.tables;
    o->chunk = (const rm_cuda_chunk *)at;
    o->reach = (const rm_cuda_reach *)(at + chunks);
    cudaStream_t s = p->device->compute.stream;
    RM_TRY(rm_cuda_check(cudaMemcpyAsync(at, chunk, o->n_chunks * sizeof *chunk, cudaMemcpyHostToDevice, s), "copy the optimiser's tables"));
    RM_TRY(rm_cuda_check(cudaMemcpyAsync(at + chunks, reach, o->n_spans * sizeof *reach, cudaMemcpyHostToDevice, s), "copy the optimiser's tables"));
    return rm_cuda_check(cudaStreamSynchronize(s), "copy the optimiser's tables");
}

static rm_status prepare_optim(cuda_plan *p, rm_plan_info *i)
{
    const rm_op *op = &p->base.op;
    const uint32_t n = op->u.optim.n_segment;
    rm_cuda_optim *o = &p->u.optim.o;
    rm_cuda_span *span = calloc(n + 1, sizeof *span);
    if (!span) return rm_fail(RM_E_NOMEM, "cuda: no memory for the optimiser's tables");
    for (uint32_t k = 0; k < n; k++) {
        const rm_segment *g = &op->u.optim.segment[k];
        span[k] = (rm_cuda_span){ g->start, g->count, g->decay, g->adapt };
    }
    *o = (rm_cuda_optim){ .n_spans = n, .n_chunks = rm_cuda_optim_chunks(span, n), .lars = op->u.optim.rule == RM_LARS, .nesterov = op->u.optim.nesterov };
    rm_cuda_chunk *chunk = calloc(o->n_chunks + 1, sizeof *chunk);
    rm_cuda_reach *reach = calloc(n + 1, sizeof *reach);
    rm_status st = chunk && reach ? RM_OK : rm_fail(RM_E_NOMEM, "cuda: no memory for the optimiser's tables");
    if (st == RM_OK) rm_cuda_optim_cut(span, n, chunk, reach);
    if (st == RM_OK) st = upload(p, chunk, reach);
    free(span);
    free(chunk);
    free(reach);
    i->workspace_bytes = rm_cuda_optim_workspace_bytes(o->n_spans, o->n_chunks);
    return st;
}

static rm_status run_optim(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    return ran(p, rm_cuda_optim_step(&p->u.optim.o, t[RM_W], t[RM_DW], t[RM_MOMENTUM], t[RM_HYPER], t[RM_FLAG], ws, s));
}

/* ---- moving data */
static rm_cuda_tensor tensor_of(const rm_tdesc *t)
{
    return (rm_cuda_tensor){ cuda_type(t->dtype), t->layout == RM_LAYOUT_NCHW ? RM_CUDA_NCHW : RM_CUDA_NHWC, channels_in(t) };
}

static rm_status prepare_reorder(cuda_plan *p, rm_plan_info *i)
{
    const rm_op *op = &p->base.op;
    i->x = op->x.layout ? op->x.layout : RM_LAYOUT_NHWC;
    i->y = op->y.layout ? op->y.layout : RM_LAYOUT_NHWC;
    p->base.op.x.layout = i->x;
    p->base.op.y.layout = i->y;
    return RM_OK;
}

static rm_status run_reorder(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    const rm_op *op = &p->base.op;
    return ran(p, rm_cuda_reorder(op->x.shape.n, op->x.shape.h * op->x.shape.w, tensor_of(&op->x), t[RM_X], tensor_of(&op->y), t[RM_Y], s));
}

static rm_status prepare_augment(cuda_plan *p, rm_plan_info *i)
{
    const rm_tdesc *y = &p->base.op.y;
    const bool halves = rm_dtype_bytes(y->dtype) == 2;
    i->x = RM_LAYOUT_NHWC;
    i->y = y->layout != RM_LAYOUT_ANY && y->layout != RM_LAYOUT_NCHW ? y->layout : halves ? CUDA_PADDED : RM_LAYOUT_NHWC;
    p->base.op.y.layout = i->y;
    return RM_OK;
}

static rm_status run_augment(cuda_plan *p, void *const t[], char *ws, cudaStream_t s)
{
    const rm_op *op = &p->base.op;
    const rm_shape x = op->x.shape;
    return ran(p, rm_cuda_augment(cuda_type(op->y.dtype), x.n, x.h, x.w, channels_in(&op->y), t[RM_X], t[RM_FLIP], op->u.augment.mean, op->u.augment.std, t[RM_Y], s));
}

/* ---- the table */
static const struct {
    rm_status (*prepare)(cuda_plan *p, rm_plan_info *i); /* NULL: nothing to prepare */
    cuda_run_fn *run;                                    /* NULL: conv.c */
    bool any_layout;                                     /* the elements alone count */
} rows[RM_OPCODE_COUNT] = {
    [RM_OP_CONV] = { cuda_dnn_plan, NULL }, [RM_OP_CONV_BWD_DATA] = { cuda_dnn_plan, NULL }, [RM_OP_CONV_BWD_WEIGHTS] = { cuda_dnn_plan, NULL },
    [RM_OP_FC] = { cuda_dnn_plan, NULL }, [RM_OP_FC_BWD_DATA] = { cuda_dnn_plan, NULL }, [RM_OP_FC_BWD_WEIGHTS] = { cuda_dnn_plan, NULL },
    [RM_OP_MAXPOOL] = { cuda_dnn_plan, NULL }, [RM_OP_MAXPOOL_BWD] = { cuda_dnn_plan, NULL },
    [RM_OP_BN] = { prepare_bn, run_bn }, [RM_OP_BN_BWD] = { prepare_bn, run_bn_bwd },
    [RM_OP_RELU] = { NULL, run_relu, true }, [RM_OP_RELU_BWD] = { NULL, run_relu_bwd, true }, [RM_OP_ADD] = { NULL, run_add, true },
    [RM_OP_AVGPOOL] = { NULL, run_avgpool }, [RM_OP_AVGPOOL_BWD] = { NULL, run_avgpool_bwd },
    [RM_OP_SOFTMAX_XENT] = { prepare_xent, run_xent, true }, [RM_OP_OPTIM] = { prepare_optim, run_optim },
    [RM_OP_REORDER] = { prepare_reorder, run_reorder }, [RM_OP_AUGMENT] = { prepare_augment, run_augment },
};

static rm_status check_types(const rm_op *op)
{
    const rm_tdesc *t[] = { &op->x, &op->w, &op->y };
    for (size_t i = 0; i < RM_COUNT(t); i++) {
        const rm_dtype type = t[i]->dtype;
        if (t[i]->shape.n == 0 || cuda_has(type) || (type == RM_U8 && op->code == RM_OP_AUGMENT)) continue;
        return rm_fail(RM_E_UNSUPPORTED, "cuda: %s in %s is not supported; use bf16, fp16, tf32 or fp32", rm_opcode_name(op->code), rm_dtype_name(type));
    }
    return RM_OK;
}

static rm_status prepare(cuda_plan *p, rm_plan_info *i)
{
    const rm_op *op = &p->base.op;
    *i = (rm_plan_info){ .x = RM_LAYOUT_NHWC, .w = RM_LAYOUT_NHWC, .y = RM_LAYOUT_NHWC, .flops = rm_op_flops(op),
                         .bytes_read = rm_op_bytes_read(op), .bytes_written = rm_op_bytes_written(op) };
    snprintf(i->impl, sizeof i->impl, "own");
    if (rows[op->code].any_layout) {
        i->x = op->x.layout ? op->x.layout : RM_LAYOUT_NHWC;
        i->y = op->y.layout ? op->y.layout : i->x;
    }
    i->x2 = i->x;
    p->run = rows[op->code].run;
    return rows[op->code].prepare ? rows[op->code].prepare(p, i) : RM_OK;
}

rm_status cuda_plan_op(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    RM_TRY(check_types(op));
    cuda_plan *p = calloc(1, sizeof *p);
    if (!p) return rm_fail(RM_E_NOMEM, "cuda: no memory planning %s", rm_opcode_name(op->code));
    p->base.op = *op;
    p->device = cuda_of(d);
    p->type = cuda_type(op->x.dtype);
    const rm_status st = prepare(p, out_info);
    if (st != RM_OK) {
        cuda_plan_free(d, &p->base);
        return st;
    }
    *out_plan = &p->base;
    return RM_OK;
}

void cuda_plan_free(rm_device *d, rm_plan *plan)
{
    cuda_plan *p = (cuda_plan *)plan;
    if (p->base.op.code == RM_OP_OPTIM && p->u.optim.tables) (void)!rm_cuda_check(cudaFree(p->u.optim.tables), "give memory back");
    if (!rows[p->base.op.code].run) cuda_dnn_free(p);
    free(p);
}

rm_status cuda_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    cuda_plan *p = (cuda_plan *)plan;
    void *t[RM_SLOT_COUNT];
    for (int i = 0; i < RM_SLOT_COUNT; i++) {
        const rm_ref r = args->t[i];
        t[i] = plan->used >> i & 1 ? (char *)r.buf->ptr + r.offset : NULL;
    }
    char *ws = plan->info.workspace_bytes ? (char *)args->workspace.buf->ptr + args->workspace.offset : NULL;
    return p->run(p, t, ws, rm_cuda_stream(d, q));
}
