#include "kernels/cuda_work.h"

enum { PADDED = RM_LAYOUT_PRIVATE, PAD = 8, SAVED_VECTORS = 4 };

static bool half(rm_dtype t) { return rm_dtype_bytes(t) == 2; }
static int32_t padded(int32_t c) { return (c + PAD - 1) / PAD * PAD; }

uint64_t rm_cuda_bytes_of(const rm_tdesc *t)
{
    rm_shape s = t->shape;
    if (t->layout == PADDED) s.c = padded(s.c);
    return rm_shape_count(s) * rm_dtype_bytes(t->dtype);
}

/* ---- convolutions, fc: cuDNN's operands have one type, and 16-bit channels in multiples of eight */
typedef struct dnn { uint64_t x, w, y; } dnn; /* bytes */

static rm_op lowered(const rm_op *op)
{
    rm_op low = *op;
    if (half(op->x.dtype)) {
        low.x.shape.c = padded(op->x.shape.c);
        low.w.shape.c = padded(op->w.shape.c);
    }
    return low;
}

static dnn operands(const rm_op *op)
{
    const rm_op low = lowered(op);
    const size_t e = rm_dtype_bytes(op->x.dtype);
    return (dnn){ e * rm_shape_count(low.x.shape), e * rm_shape_count(low.w.shape), e * rm_shape_count(low.y.shape) };
}

static uint64_t masters(const rm_op *op) { return 4 * rm_shape_count(op->w.shape); }

/* A kernel of our own beside cuDNN's, that reads and writes everything once. */
static void add_own(rm_cuda_work *k, uint64_t bytes)
{
    k->kernels++;
    k->bytes += bytes;
    k->own_bytes += bytes;
    k->own_least_bytes += bytes;
}

static rm_cuda_work conv(const rm_op *op)
{
    const rm_op low = lowered(op);
    const dnn d = operands(op);
    rm_cuda_work k = { .kernels = 1, .tensor = true, .flops = rm_op_flops(&low), .bytes = d.x + d.w + d.y };
    const bool cast = op->code == RM_OP_CONV_BWD_WEIGHTS && (half(op->x.dtype) || low.w.shape.c != op->w.shape.c);
    if (cast) add_own(&k, d.w + masters(op));
    return k;
}

/* Logits and their gradient are fp32: bias and casts are kernels of our own. */
static rm_cuda_work fc(const rm_op *op)
{
    const rm_op low = lowered(op);
    const dnn d = operands(op);
    const uint64_t logits = 4 * rm_shape_count(op->y.shape);
    const bool casts = half(op->x.dtype);
    rm_cuda_work k = { .kernels = 1, .tensor = true, .flops = rm_op_flops(&low), .bytes = d.x + d.w + d.y };
    if (op->code == RM_OP_FC) {
        add_own(&k, d.y + logits);
        return k;
    }
    if (casts) add_own(&k, logits + d.y);
    if (op->code == RM_OP_FC_BWD_DATA) return k;
    add_own(&k, logits);                          /* the bias' gradient */
    if (casts) add_own(&k, d.w + masters(op));    /* DW to fp32 */
    if (casts) k.own_least_bytes -= logits;       /* both read the logits' gradient */
    return k;
}

/* ---- what is no matrix product: passes over an activation */
static uint64_t bn_passes(const rm_op *op)
{
    const unsigned add = op->u.bn.add, relu = op->u.bn.relu, dy2 = op->dy2, training = op->u.bn.training;
    if (op->code == RM_OP_BN) return (training ? 3 : 2) + add;
    if (!training) return 3 + relu + dy2 + add;
    return add ? 6 + relu + dy2 : 5 + 2 * dy2;
}

static rm_cuda_work passes(const rm_op *op)
{
    const uint64_t a = rm_shape_count(op->x.shape) * rm_dtype_bytes(op->x.dtype), y = rm_shape_count(op->y.shape), n = op->x.shape.n;
    const bool lars = op->code == RM_OP_OPTIM && op->u.optim.rule == RM_LARS;
    rm_cuda_work k = { .kernels = 1, .flops = rm_op_flops(op), .bytes = rm_op_bytes_read(op) + rm_op_bytes_written(op) };
    switch (op->code) {
    case RM_OP_BN: k.kernels = op->u.bn.training ? 3 : 2; k.bytes = bn_passes(op) * a; break;
    case RM_OP_BN_BWD: k.kernels = 3; k.bytes = bn_passes(op) * a; break;
    case RM_OP_RELU: k.bytes = 2 * a; break;
    case RM_OP_RELU_BWD: k.bytes = (3 + op->dy2) * a; break;
    case RM_OP_ADD: k.bytes = 3 * a; break;
    case RM_OP_MAXPOOL: case RM_OP_MAXPOOL_BWD: k.bytes = a + y * rm_dtype_bytes(op->x.dtype) + y; break; /* a byte for each maximum's place */
    case RM_OP_SOFTMAX_XENT: k.kernels = 2; k.bytes = 4 * a + 4 * n; break;
    case RM_OP_OPTIM: k.kernels = lars ? 4 : 2; k.bytes = (lars ? 7 : 5) * 4 * op->u.optim.count; break;
    case RM_OP_REORDER: case RM_OP_AUGMENT: k.bytes = rm_cuda_bytes_of(&op->x) + rm_cuda_bytes_of(&op->y); break;
    default: break;
    }
    return k;
}

static bool is_conv(rm_opcode c) { return c == RM_OP_CONV || c == RM_OP_CONV_BWD_DATA || c == RM_OP_CONV_BWD_WEIGHTS; }
static bool is_fc(rm_opcode c) { return c == RM_OP_FC || c == RM_OP_FC_BWD_DATA || c == RM_OP_FC_BWD_WEIGHTS; }

static bool is_own(rm_opcode c) { return !is_conv(c) && !is_fc(c) && c != RM_OP_MAXPOOL && c != RM_OP_MAXPOOL_BWD; } /* max-pool is cuDNN's */

rm_cuda_work rm_cuda_work_of(const rm_op *op)
{
    rm_op complete = *op;
    if (rm_op_complete(&complete) != RM_OK) RM_BUG("an op that makes no sense");
    rm_cuda_work k = is_conv(op->code) ? conv(&complete) : is_fc(op->code) ? fc(&complete) : passes(&complete);
    k.least_bytes = rm_op_bytes_read(&complete) + rm_op_bytes_written(&complete);
    if (is_own(op->code)) {
        k.own_bytes = k.bytes;
        k.own_least_bytes = k.least_bytes;
    }
    return k;
}

rm_cuda_layouts rm_cuda_layouts_of(const rm_op *op)
{
    rm_cuda_layouts l = { RM_LAYOUT_NHWC, RM_LAYOUT_NHWC, RM_LAYOUT_NHWC, 0 };
    const bool pads = (is_conv(op->code) || is_fc(op->code)) && half(op->x.dtype) && padded(op->x.shape.c) != op->x.shape.c;
    if (pads) l.x = PADDED;
    if (pads && op->code != RM_OP_CONV_BWD_WEIGHTS && op->code != RM_OP_FC_BWD_WEIGHTS) l.w = PADDED;
    if (is_fc(op->code)) l.y = RM_LAYOUT_NCHW;
    if (op->code == RM_OP_RELU || op->code == RM_OP_RELU_BWD || op->code == RM_OP_ADD || op->code == RM_OP_SOFTMAX_XENT || op->code == RM_OP_REORDER) {
        l.x = op->x.layout ? op->x.layout : RM_LAYOUT_NHWC;
        l.y = op->y.layout ? op->y.layout : op->code == RM_OP_REORDER ? RM_LAYOUT_NHWC : l.x;
    }
    if (op->code == RM_OP_AUGMENT) l.y = op->y.layout == PADDED || (op->y.layout != RM_LAYOUT_NHWC && half(op->y.dtype)) ? PADDED : RM_LAYOUT_NHWC;
    if (op->code == RM_OP_BN && op->u.bn.training) l.saved_bytes = SAVED_VECTORS * sizeof(float) * (size_t)op->x.shape.c;
    if (op->code == RM_OP_MAXPOOL) l.saved_bytes = rm_shape_count(op->y.shape);
    return l;
}
