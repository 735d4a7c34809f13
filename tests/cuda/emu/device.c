#include "tests/cuda/emu/device.h"
#include "kernels/cuda/kernels.h"
#include "tests/cuda/emu/emu.h"
#include <stdlib.h>
#include <string.h>

enum { PADDED = RM_LAYOUT_PRIVATE, PAD = 8 }; /* NHWC with 3 channels padded to 8, what augment writes */
enum { ALIGN = 16 }; /* of a workspace, in a buffer that may have been moved off it */
typedef struct emulated {
    rm_device base;
    double passes;
    uint64_t hash;
    size_t off;
} emulated;
typedef struct emu_plan {
    rm_plan base;
    rm_cuda_optim optim;
} emu_plan;
typedef struct emu_buf {
    rm_buf base;
    void *memory;
} emu_buf;
static emulated *of(rm_device *d) { return (emulated *)d; }

static rm_status status_of(cudaError_t e) { return e == cudaSuccess ? RM_OK : rm_fail(RM_E_DEVICE, "emulated cuda: error %d", (int)e); }

/* ---- device and memory */
static rm_status dev_available(void) { return RM_OK; }
static rm_status dev_open(const rm_device_config *cfg, rm_device **out_device)
{
    emulated *d = calloc(1, sizeof *d);
    if (!d) return rm_fail(RM_E_NOMEM, "out of memory");
    *out_device = &d->base;
    return RM_OK;
}
static void dev_close(rm_device *d) { free(d); }
static void dev_info(const rm_device *d, rm_device_info *out_info) { *out_info = (rm_device_info) { .device = "emulated cuda" }; }

static rm_status dev_alloc(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf)
{
    emu_buf *b = calloc(1, sizeof *b);
    if (!b) return rm_fail(RM_E_NOMEM, "out of memory");
    cudaError_t e = cudaMalloc(&b->memory, bytes + of(d)->off);
    if (e != cudaSuccess) {
        free(b);
        return status_of(e);
    }
    b->base = (rm_buf) { d, bytes, (char *)b->memory + of(d)->off };
    *out_buf = &b->base; /* not zeroed, unlike a device's: what a kernel reads must have been written */
    return RM_OK;
}
static void dev_release(rm_device *d, rm_buf *buf)
{
    emu_buf *b = (emu_buf *)buf;
    cudaFree(b->memory);
    free(b);
}
static void *dev_host(rm_buf *buf) { return NULL; }
static void *at(rm_ref r) { return r.buf ? (char *)r.buf->ptr + r.offset : NULL; }
static rm_status dev_write(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes)
{
    return status_of(cudaMemcpyAsync(at(dst), src, bytes, cudaMemcpyHostToDevice, NULL));
}
static rm_status dev_read(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes)
{
    RM_TRY(status_of(cudaMemcpyAsync(dst, at(src), bytes, cudaMemcpyDeviceToHost, NULL)));
    for (size_t i = 0; i < bytes; i++) of(d)->hash = (of(d)->hash ^ ((unsigned char *)dst)[i]) * 0x100000001b3u;
    return RM_OK;
}
static rm_status dev_sync(rm_device *d, rm_queue *q) { return RM_OK; }

/* ---- planning */
static rm_cuda_type type_of(rm_dtype t) { return t == RM_BF16 ? RM_CUDA_BF16 : t == RM_F16 ? RM_CUDA_F16 : RM_CUDA_F32; }
static bool has_type(rm_dtype t) { return t == RM_F32 || t == RM_BF16 || t == RM_F16; }

static rm_cuda_bn bn_of(const rm_op *op)
{
    return (rm_cuda_bn) { (int64_t)op->x.shape.n * op->x.shape.h * op->x.shape.w,
                          op->x.shape.c,
                          type_of(op->x.dtype),
                          op->u.bn.eps,
                          op->u.bn.momentum,
                          op->u.bn.relu,
                          op->u.bn.unbiased && op->u.bn.training };
}

static size_t dev_layout_bytes(rm_device *d, const rm_tdesc *t)
{
    rm_shape s = t->shape;
    if (t->layout == PADDED) s.c = PAD;
    return rm_shape_count(s) * rm_dtype_bytes(t->dtype);
}

static rm_cuda_tensor tensor_of(const rm_tdesc *t)
{
    return (rm_cuda_tensor) { type_of(t->dtype), t->layout == RM_LAYOUT_NCHW ? RM_CUDA_NCHW : RM_CUDA_NHWC, t->layout == PADDED ? PAD : t->shape.c };
}

static rm_status to_device(const void *src, size_t bytes, const void **out)
{
    void *p;
    RM_TRY(status_of(cudaMalloc(&p, bytes)));
    *out = p;
    return status_of(cudaMemcpyAsync(p, src, bytes, cudaMemcpyHostToDevice, NULL));
}

static rm_status plan_optim(const rm_op *op, rm_cuda_optim *o)
{
    uint32_t n = op->u.optim.n_segment;
    rm_cuda_span *span = calloc(n, sizeof *span);
    for (uint32_t i = 0; i < n; i++) {
        const rm_segment *s = &op->u.optim.segment[i];
        span[i] = (rm_cuda_span) { s->start, s->count, s->decay, s->adapt };
    }
    *o = (rm_cuda_optim) {
        .n_spans = n, .n_chunks = rm_cuda_optim_chunks(span, n), .lars = op->u.optim.rule == RM_LARS, .nesterov = op->u.optim.nesterov, .gradient = RM_CUDA_F32
    };
    rm_cuda_chunk *chunk = calloc(o->n_chunks, sizeof *chunk);
    rm_cuda_reach *reach = calloc(n, sizeof *reach);
    rm_cuda_optim_cut(span, n, chunk, reach);
    rm_status st = to_device(chunk, o->n_chunks * sizeof *chunk, (const void **)&o->chunk);
    if (st == RM_OK) st = to_device(reach, n * sizeof *reach, (const void **)&o->reach);
    free(span);
    free(chunk);
    free(reach);
    return st;
}

static size_t bn_workspace(const rm_op *op)
{
    const rm_cuda_bn bn = bn_of(op);
    return rm_cuda_bn_workspace_bytes(&bn);
}

static size_t workspace_of(const rm_op *op, const rm_cuda_optim *o)
{
    switch (op->code) {
    case RM_OP_BN:
    case RM_OP_BN_BWD: return bn_workspace(op);
    case RM_OP_SOFTMAX_XENT: return (size_t)op->x.shape.n * sizeof(float);
    case RM_OP_OPTIM: return rm_cuda_optim_workspace_bytes(o->n_spans, o->n_chunks);
    default: return 0;
    }
}

static bool has_kernel(const rm_op *op)
{
    switch (op->code) {
    case RM_OP_BN:
    case RM_OP_BN_BWD:
    case RM_OP_RELU:
    case RM_OP_RELU_BWD:
    case RM_OP_ADD:
    case RM_OP_AVGPOOL:
    case RM_OP_AVGPOOL_BWD:
    case RM_OP_SOFTMAX_XENT: return has_type(op->x.dtype);
    case RM_OP_REORDER: return has_type(op->x.dtype) && has_type(op->y.dtype);
    case RM_OP_AUGMENT: return has_type(op->y.dtype);
    case RM_OP_OPTIM: return true;
    default: return false;
    }
}

static rm_status dev_plan(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    if (!has_kernel(op)) return rm_fail(RM_E_UNSUPPORTED, "%s has no kernel of our own", rm_opcode_name(op->code));
    emu_plan *p = calloc(1, sizeof *p);
    if (!p) return rm_fail(RM_E_NOMEM, "out of memory");
    p->base.op = *op;
    rm_plan_info info = { .impl = "own", .x = RM_LAYOUT_NHWC, .x2 = RM_LAYOUT_NHWC, .w = RM_LAYOUT_NCHW, .y = RM_LAYOUT_NHWC };
    if (op->code == RM_OP_REORDER) {
        info.x = op->x.layout;
        info.y = op->y.layout;
    }
    if (op->code == RM_OP_AUGMENT) info.y = op->y.layout ? op->y.layout : PADDED;
    if (op->code == RM_OP_OPTIM) RM_TRY(plan_optim(op, &p->optim));
    info.workspace_bytes = workspace_of(op, &p->optim) + ALIGN;
    if ((op->code == RM_OP_BN || op->code == RM_OP_BN_BWD) && op->u.bn.training) info.saved_bytes = RM_CUDA_BN_SAVED * (size_t)op->x.shape.c * sizeof(float);
    *out_plan = &p->base;
    *out_info = info;
    return RM_OK;
}

static void dev_plan_free(rm_device *d, rm_plan *plan)
{
    emu_plan *p = (emu_plan *)plan;
    cudaFree((void *)(uintptr_t)p->optim.chunk);
    cudaFree((void *)(uintptr_t)p->optim.reach);
    free(p);
}

/* ---- running */
static cudaError_t run_bn(const rm_op *op, void *const t[], void *ws)
{
    rm_cuda_bn bn = bn_of(op);
    if (op->u.bn.training) return rm_cuda_bn_forward(&bn, t[RM_X], t[RM_X2], t[RM_GAMMA], t[RM_BETA], t[RM_RMEAN], t[RM_RVAR], t[RM_Y], t[RM_SAVED], ws, NULL);
    return rm_cuda_bn_inference(&bn, t[RM_X], t[RM_X2], t[RM_GAMMA], t[RM_BETA], t[RM_RMEAN], t[RM_RVAR], t[RM_Y], ws, NULL);
}

static cudaError_t run_bn_bwd(const rm_op *op, void *const t[], void *ws)
{
    rm_cuda_bn bn = bn_of(op);
    void *y = op->u.bn.add || !op->u.bn.training ? t[RM_Y] : NULL;
    if (op->u.bn.training)
        return rm_cuda_bn_backward(&bn, t[RM_X], y, t[RM_DY], t[RM_DY2], t[RM_SAVED], t[RM_DX], t[RM_DX2], t[RM_DGAMMA], t[RM_DBETA], ws, NULL);
    return rm_cuda_bn_backward_frozen(&bn, t[RM_X], y, t[RM_DY], t[RM_DY2], t[RM_GAMMA], t[RM_RMEAN], t[RM_RVAR], t[RM_DX], t[RM_DX2], t[RM_DGAMMA],
                                      t[RM_DBETA], ws, NULL);
}

static cudaError_t run_op(const emu_plan *p, void *const t[], void *ws)
{
    const rm_op *op = &p->base.op;
    const rm_shape s = op->x.shape;
    rm_cuda_type type = type_of(op->x.dtype);
    int64_t count = (int64_t)rm_shape_count(s);
    int32_t hw = s.h * s.w;
    rm_tdesc x = op->x, y = op->y;
    x.layout = p->base.info.x;
    y.layout = p->base.info.y;
    switch (op->code) {
    case RM_OP_BN: return run_bn(op, t, ws);
    case RM_OP_BN_BWD: return run_bn_bwd(op, t, ws);
    case RM_OP_RELU: return rm_cuda_relu(type, count, t[RM_X], t[RM_Y], NULL);
    case RM_OP_RELU_BWD: return rm_cuda_relu_backward(type, count, t[RM_Y], t[RM_DY], t[RM_DY2], t[RM_DX], NULL);
    case RM_OP_ADD: return rm_cuda_add(type, count, t[RM_X], t[RM_X2], t[RM_Y], NULL);
    case RM_OP_AVGPOOL: return rm_cuda_avgpool(type, s.n, hw, s.c, t[RM_X], t[RM_Y], NULL);
    case RM_OP_AVGPOOL_BWD: return rm_cuda_avgpool_backward(type, s.n, hw, s.c, t[RM_DY], t[RM_DX], NULL);
    case RM_OP_SOFTMAX_XENT:
        return rm_cuda_softmax_xent(type, s.n, s.c, op->u.xent.label_smoothing, op->u.xent.scale, t[RM_X], t[RM_LABEL], t[RM_LOSS], t[RM_DX], ws, NULL);
    case RM_OP_OPTIM: return rm_cuda_optim_step(&p->optim, t[RM_W], t[RM_DW], t[RM_MOMENTUM], t[RM_HYPER], t[RM_FLAG], ws, NULL);
    case RM_OP_REORDER: return rm_cuda_reorder(s.n, hw, tensor_of(&x), t[RM_X], tensor_of(&y), t[RM_Y], NULL);
    case RM_OP_AUGMENT:
        return rm_cuda_augment(type_of(y.dtype), s.n, s.h, s.w, y.layout == PADDED ? PAD : s.c, t[RM_X], t[RM_FLIP], op->u.augment.mean, op->u.augment.std,
                               t[RM_Y], NULL);
    default: return cudaErrorInvalidValue;
    }
}

static double passes_of(const rm_plan *plan, const rm_args *args)
{
    static const rm_slot slot[] = { RM_X, RM_X2, RM_Y, RM_DY, RM_DY2, RM_DX, RM_DX2 };
    double bytes = 0;
    for (size_t i = 0; i < RM_COUNT(slot); i++) {
        if (!(plan->used >> slot[i] & 1)) continue;
        emu_traffic t = emu_traffic_of(((emu_buf *)args->t[slot[i]].buf)->memory);
        bytes += (double)(t.read_bytes + t.written_bytes);
    }
    return bytes / (double)(rm_shape_count(plan->op.x.shape) * rm_dtype_bytes(plan->op.x.dtype));
}

static rm_status dev_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    void *t[RM_SLOT_COUNT];
    for (int i = 0; i < RM_SLOT_COUNT; i++) t[i] = plan->used >> i & 1 ? at(args->t[i]) : NULL;
    emu_traffic_clear();
    rm_status st = status_of(run_op((emu_plan *)plan, t, (void *)(((uintptr_t)at(args->workspace) + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1))));
    of(d)->passes = passes_of(plan, args);
    return st;
}

double emu_device_passes(const rm_device *d) { return ((const emulated *)d)->passes; }
void emu_device_misalign(rm_device *d, size_t bytes) { of(d)->off = bytes; }
uint64_t emu_device_hash(rm_device *d)
{
    uint64_t h = of(d)->hash;
    of(d)->hash = 0;
    return h;
}

const rm_device_ops emu_device = {
    .abi = RM_DEVICE_ABI,
    .name = "emulated",
    .summary = "the CUDA kernels on the processor, checked",
    .available = dev_available,
    .open = dev_open,
    .close = dev_close,
    .info = dev_info,
    .alloc = dev_alloc,
    .release = dev_release,
    .host = dev_host,
    .write = dev_write,
    .read = dev_read,
    .sync = dev_sync,
    .layout_bytes = dev_layout_bytes,
    .plan = dev_plan,
    .run = dev_run,
    .plan_free = dev_plan_free,
};
