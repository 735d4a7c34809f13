/* Ops as tables: which operands, what counts, and the text form. */
#include "kernels/op.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names */
static const struct { const char *name, *alias; size_t bytes; } dtype_table[RM_DTYPE_COUNT] = {
    [RM_F32] = { "f32", "fp32", 4 },   [RM_BF16] = { "bf16", "bfloat16", 2 }, [RM_F16] = { "f16", "fp16", 2 },
    [RM_TF32] = { "tf32", "tf32", 4 }, [RM_F64] = { "f64", "fp64", 8 },       [RM_U8] = { "u8", "uint8", 1 },
    [RM_I32] = { "i32", "int32", 4 },
};
static const char *const slot_names[RM_SLOT_COUNT] = {
    [RM_X] = "x",           [RM_X2] = "x2",         [RM_W] = "w",         [RM_Y] = "y",       [RM_DY] = "dy",
    [RM_DY2] = "dy2",       [RM_DX] = "dx",         [RM_DX2] = "dx2",     [RM_DW] = "dw",     [RM_GAMMA] = "gamma",
    [RM_BETA] = "beta",     [RM_DGAMMA] = "dgamma", [RM_DBETA] = "dbeta", [RM_RMEAN] = "running_mean",
    [RM_RVAR] = "running_var", [RM_SAVED] = "saved", [RM_LABEL] = "label", [RM_LOSS] = "loss",
    [RM_MOMENTUM] = "momentum", [RM_HYPER] = "hyper", [RM_FLAG] = "flag", [RM_FLIP] = "flip",
};

/* ---- operands. R, W, U: read, write, update; the small letter says under which parameter only. */
enum { R = RM_READ, W = RM_WRITE, U = RM_UPDATE, IF_ADD = 8, IF_DY2 = 16, IF_RELU = 32, IF_TRAINING = 64, IF_FROZEN = 128 };
enum { CONDITION = IF_ADD | IF_DY2 | IF_RELU | IF_TRAINING | IF_FROZEN };
static const struct { const char *name; uint8_t use[RM_SLOT_COUNT]; } op_table[RM_OPCODE_COUNT] = {
    [RM_OP_CONV] = { "conv", { [RM_X] = R, [RM_W] = R, [RM_Y] = W } },
    [RM_OP_CONV_BWD_DATA] = { "conv_bwd_data", { [RM_DY] = R, [RM_W] = R, [RM_DX] = W } },
    [RM_OP_CONV_BWD_WEIGHTS] = { "conv_bwd_weights", { [RM_X] = R, [RM_DY] = R, [RM_DW] = W } },
    [RM_OP_BN] = { "bn", { [RM_X] = R, [RM_X2] = R | IF_ADD, [RM_GAMMA] = R, [RM_BETA] = R, [RM_RMEAN] = U,
                           [RM_RVAR] = U, [RM_Y] = W, [RM_SAVED] = W | IF_TRAINING } },
    [RM_OP_BN_BWD] = { "bn_bwd", { [RM_X] = R, [RM_Y] = R | IF_RELU, [RM_DY] = R, [RM_DY2] = R | IF_DY2, [RM_GAMMA] = R,
                                   [RM_SAVED] = R | IF_TRAINING, [RM_RMEAN] = R | IF_FROZEN, [RM_RVAR] = R | IF_FROZEN, [RM_DX] = W,
                                   [RM_DX2] = W | IF_ADD, [RM_DGAMMA] = W, [RM_DBETA] = W } },
    [RM_OP_RELU] = { "relu", { [RM_X] = R, [RM_Y] = W } },
    [RM_OP_RELU_BWD] = { "relu_bwd", { [RM_Y] = R, [RM_DY] = R, [RM_DY2] = R | IF_DY2, [RM_DX] = W } },
    [RM_OP_ADD] = { "add", { [RM_X] = R, [RM_X2] = R, [RM_Y] = W } },
    [RM_OP_MAXPOOL] = { "maxpool", { [RM_X] = R, [RM_Y] = W, [RM_SAVED] = W } },
    [RM_OP_MAXPOOL_BWD] = { "maxpool_bwd", { [RM_DY] = R, [RM_SAVED] = R, [RM_DX] = W } },
    [RM_OP_AVGPOOL] = { "avgpool", { [RM_X] = R, [RM_Y] = W } },
    [RM_OP_AVGPOOL_BWD] = { "avgpool_bwd", { [RM_DY] = R, [RM_DX] = W } },
    [RM_OP_FC] = { "fc", { [RM_X] = R, [RM_W] = R, [RM_BETA] = R, [RM_Y] = W } },
    [RM_OP_FC_BWD_DATA] = { "fc_bwd_data", { [RM_DY] = R, [RM_W] = R, [RM_DX] = W } },
    [RM_OP_FC_BWD_WEIGHTS] = { "fc_bwd_weights", { [RM_X] = R, [RM_DY] = R, [RM_DW] = W, [RM_DBETA] = W } },
    [RM_OP_SOFTMAX_XENT] = { "softmax_xent", { [RM_X] = R, [RM_LABEL] = R, [RM_LOSS] = W, [RM_DX] = W } },
    [RM_OP_OPTIM] = { "optim", { [RM_W] = U, [RM_DW] = R, [RM_MOMENTUM] = U, [RM_HYPER] = R, [RM_FLAG] = W } },
    [RM_OP_REORDER] = { "reorder", { [RM_X] = R, [RM_Y] = W } },
    [RM_OP_AUGMENT] = { "augment", { [RM_X] = R, [RM_FLIP] = R, [RM_Y] = W } },
};

const char *rm_opcode_name(rm_opcode code) { return (unsigned)code < RM_OPCODE_COUNT ? op_table[code].name : "?"; }
const char *rm_dtype_name(rm_dtype t) { return (unsigned)t < RM_DTYPE_COUNT ? dtype_table[t].name : "?"; }
size_t rm_dtype_bytes(rm_dtype t) { return (unsigned)t < RM_DTYPE_COUNT ? dtype_table[t].bytes : 0; }
const char *rm_slot_name(rm_slot slot) { return (unsigned)slot < RM_SLOT_COUNT ? slot_names[slot] : "?"; }

static bool find_dtype(const char *text, int32_t *out)
{
    for (int i = 0; i < RM_DTYPE_COUNT; i++)
        if (!strcmp(text, dtype_table[i].name) || !strcmp(text, dtype_table[i].alias)) { *out = i; return true; }
    return false;
}

rm_status rm_dtype_parse(const char *text, rm_dtype *out_dtype)
{
    int32_t t;
    if (!find_dtype(text, &t))
        return rm_fail(RM_E_ARG, "unknown data type \"%s\": use fp32, bf16, fp16, tf32 or fp64", text);
    *out_dtype = (rm_dtype)t;
    return RM_OK;
}

unsigned rm_op_use(rm_opcode code, rm_slot slot)
{
    if ((unsigned)code >= RM_OPCODE_COUNT || (unsigned)slot >= RM_SLOT_COUNT) return RM_UNUSED;
    unsigned u = op_table[code].use[slot];
    return (u & RM_UPDATE) | (u & CONDITION ? RM_OPTIONAL : 0u);
}

unsigned rm_op_uses(const rm_op *op, rm_slot slot)
{
    unsigned u = op_table[op->code].use[slot], use = u & RM_UPDATE;
    bool bn = op->code == RM_OP_BN || op->code == RM_OP_BN_BWD;
    if (u & CONDITION) {
        bool on = (u & IF_DY2 && op->dy2) ||
                  (bn && ((u & IF_ADD && op->u.bn.add) || (u & IF_RELU && op->u.bn.relu) || (u & IF_TRAINING && op->u.bn.training) ||
                          (u & IF_FROZEN && !op->u.bn.training)));
        return on ? use : RM_UNUSED;
    }
    if (op->code == RM_OP_BN && !op->u.bn.training) use &= slot == RM_RMEAN || slot == RM_RVAR ? RM_READ : RM_UPDATE;
    return use;
}

/* ---- shapes */
uint64_t rm_shape_count(rm_shape s) { return (uint64_t)s.n * (uint64_t)s.c * (uint64_t)s.h * (uint64_t)s.w; }
int32_t rm_window_out(int32_t in, int32_t k, int32_t stride, int32_t pad)
{
    int64_t room = (int64_t)in + 2 * (int64_t)pad - k;
    return room < 0 || stride < 1 ? 0 : (int32_t)(room / stride + 1);
}

static rm_tdesc vector(int32_t count, rm_dtype dtype)
{
    return (rm_tdesc){ { 1, count, 1, 1 }, dtype, RM_LAYOUT_NCHW };
}

rm_tdesc rm_op_tensor(const rm_op *op, rm_slot slot)
{
    const rm_tdesc none = { .layout = RM_LAYOUT_ANY };
    rm_dtype real = op->x.dtype == RM_F64 ? RM_F64 : RM_F32;
    bool fc = op->code == RM_OP_FC || op->code == RM_OP_FC_BWD_DATA || op->code == RM_OP_FC_BWD_WEIGHTS;
    if (!rm_op_uses(op, slot) || slot == RM_SAVED) return none;
    if (op->code == RM_OP_OPTIM && (slot == RM_W || slot == RM_DW || slot == RM_MOMENTUM))
        return vector((int32_t)op->u.optim.count, real);
    switch (slot) {
    case RM_X: case RM_DX: case RM_X2: case RM_DX2: return op->x;
    case RM_W: case RM_DW: return op->w;
    case RM_Y: case RM_DY: case RM_DY2: return op->y;
    case RM_GAMMA: case RM_DGAMMA: case RM_RMEAN: case RM_RVAR: case RM_BETA: case RM_DBETA:
        return vector(fc ? op->w.shape.n : op->x.shape.c, real);
    case RM_LABEL: return vector(op->x.shape.n, RM_I32);
    case RM_LOSS: return vector(1, real);
    case RM_HYPER: return vector(RM_HYPER_COUNT, RM_F64);
    case RM_FLAG: return vector(2, RM_I32);
    case RM_FLIP: return vector(op->x.shape.n, RM_U8);
    default: return none;
    }
}

/* ---- completion */
enum { CONV_OPS = 1u << RM_OP_CONV | 1u << RM_OP_CONV_BWD_DATA | 1u << RM_OP_CONV_BWD_WEIGHTS,
       FC_OPS = 1u << RM_OP_FC | 1u << RM_OP_FC_BWD_DATA | 1u << RM_OP_FC_BWD_WEIGHTS,
       BN_OPS = 1u << RM_OP_BN | 1u << RM_OP_BN_BWD, POOL_OPS = 1u << RM_OP_MAXPOOL | 1u << RM_OP_MAXPOOL_BWD,
       AVG_OPS = 1u << RM_OP_AVGPOOL | 1u << RM_OP_AVGPOOL_BWD, RELU_OPS = 1u << RM_OP_RELU | 1u << RM_OP_RELU_BWD,
       ALL_OPS = (1u << RM_OPCODE_COUNT) - 1u };
static bool in(rm_opcode code, unsigned set) { return 1u << code & set; }

static bool real_dtype(rm_dtype t) { return (unsigned)t <= RM_F64; }

static rm_status check_tensor(const rm_op *op, const char *what, const rm_tdesc *t)
{
    const rm_shape s = t->shape;
    const uint64_t most = UINT64_C(1) << 40;
    if (s.n < 1 || s.c < 1 || s.h < 1 || s.w < 1)
        return rm_fail(RM_E_ARG, "%s: %s has the shape %dx%dx%dx%d; every size must be at least 1", rm_opcode_name(op->code), what, s.n, s.c, s.h, s.w);
    if ((uint64_t)s.n * (uint64_t)s.c > most || (uint64_t)s.h * (uint64_t)s.w > most ||
        (double)s.n * s.c * ((double)s.h * s.w) > (double)most)
        return rm_fail(RM_E_ARG, "%s: %s of %dx%dx%dx%d is larger than 2^40 elements", rm_opcode_name(op->code), what, s.n, s.c, s.h, s.w);
    if ((unsigned)t->dtype >= RM_DTYPE_COUNT) return rm_fail(RM_E_ARG, "%s: %s has an unknown data type", rm_opcode_name(op->code), what);
    return RM_OK;
}

static rm_status check_window(const rm_op *op)
{
    int32_t k = op->u.win.k, s = op->u.win.stride, p = op->u.win.pad, h = op->x.shape.h, w = op->x.shape.w;
    if (k < 1 || s < 1 || p < 0 || p >= k)
        return rm_fail(RM_E_ARG, "%s: window k=%d s=%d p=%d: k and s must be at least 1 and p in 0..k-1", rm_opcode_name(op->code), k, s, p);
    if (rm_window_out(h, k, s, p) < 1 || rm_window_out(w, k, s, p) < 1)
        return rm_fail(RM_E_ARG, "%s: a window of %d does not fit into %dx%d with a padding of %d", rm_opcode_name(op->code), k, h, w, p);
    if (in(op->code, POOL_OPS) && 2 * p > k)
        return rm_fail(RM_E_ARG, "%s: padding %d is more than half of the window %d", rm_opcode_name(op->code), p, k);
    return RM_OK;
}

static rm_status check_weights(const rm_op *op, int32_t inputs, int32_t k)
{
    RM_TRY(check_tensor(op, "w", &op->w));
    if (op->w.shape.c != inputs || op->w.shape.h != k || op->w.shape.w != k)
        return rm_fail(RM_E_ARG, "%s: weights %dx%dx%dx%d do not match %d input channels and a window of %d", rm_opcode_name(op->code),
                       op->w.shape.n, op->w.shape.c, op->w.shape.h, op->w.shape.w, inputs, k);
    return RM_OK;
}

static rm_status complete_optim(const rm_op *op)
{
    if (op->u.optim.count < 1 || op->u.optim.count > INT32_MAX)
        return rm_fail(RM_E_ARG, "optim: count=%llu is not in 1..2147483647", (unsigned long long)op->u.optim.count);
    if ((unsigned)op->u.optim.rule > RM_LARS) return rm_fail(RM_E_ARG, "optim: unknown rule");
    if (op->u.optim.n_segment < 1 || op->u.optim.n_segment > op->u.optim.count)
        return rm_fail(RM_E_ARG, "optim: segments=%u is not in 1..count", op->u.optim.n_segment);
    for (uint32_t i = 0; op->u.optim.segment && i < op->u.optim.n_segment; i++) {
        const rm_segment *s = &op->u.optim.segment[i];
        if (s->start > op->u.optim.count || s->count > op->u.optim.count - s->start)
            return rm_fail(RM_E_ARG, "optim: segment %u ends behind the arena of %llu", i, (unsigned long long)op->u.optim.count);
    }
    return RM_OK;
}

static rm_status complete_bn(rm_op *op)
{
    if (!(op->u.bn.eps >= 0 && op->u.bn.eps < 1) || !(op->u.bn.momentum >= 0 && op->u.bn.momentum <= 1))
        return rm_fail(RM_E_ARG, "%s: eps=%g must be in [0, 1) and momentum=%g in [0, 1]", rm_opcode_name(op->code), (double)op->u.bn.eps, (double)op->u.bn.momentum);
    if (op->u.bn.training && rm_shape_count(op->x.shape) == (uint64_t)op->x.shape.c)
        return rm_fail(RM_E_ARG, "%s: training needs more than one value a channel (n*h*w is 1): use a larger batch or image", rm_opcode_name(op->code));
    return RM_OK;
}

static rm_status complete_augment(const rm_op *op)
{
    if (op->x.shape.c != 3 || op->x.dtype != RM_U8) return rm_fail(RM_E_ARG, "augment: wants u8 images of 3 channels");
    for (int i = 0; i < 3; i++)
        if (!isfinite(op->u.augment.mean[i]) || !isfinite(op->u.augment.std[i]) || !(op->u.augment.std[i] > 0))
            return rm_fail(RM_E_ARG, "augment: mean and std must be finite and std positive");
    return RM_OK;
}

static rm_shape out_shape(const rm_op *op)
{
    rm_shape s = op->x.shape;
    if (in(op->code, CONV_OPS | POOL_OPS)) {
        s.h = rm_window_out(s.h, op->u.win.k, op->u.win.stride, op->u.win.pad);
        s.w = rm_window_out(s.w, op->u.win.k, op->u.win.stride, op->u.win.pad);
    }
    if (in(op->code, CONV_OPS | FC_OPS)) s.c = op->w.shape.n;
    if (in(op->code, AVG_OPS)) s.h = s.w = 1;
    return s;
}

static rm_dtype natural_y(const rm_op *op) /* logits stay exact */
{
    return in(op->code, FC_OPS) ? (op->x.dtype == RM_F64 ? RM_F64 : RM_F32) : op->x.dtype;
}

static rm_status check_params(rm_op *op)
{
    const rm_shape x = op->x.shape;
    if (in(op->code, CONV_OPS | POOL_OPS)) RM_TRY(check_window(op));
    if (in(op->code, CONV_OPS)) RM_TRY(check_weights(op, x.c, op->u.win.k));
    if (in(op->code, FC_OPS | 1u << RM_OP_SOFTMAX_XENT) && (x.h != 1 || x.w != 1))
        return rm_fail(RM_E_ARG, "%s: input must be n x c x 1 x 1, not %dx%d", rm_opcode_name(op->code), x.h, x.w);
    if (in(op->code, FC_OPS)) RM_TRY(check_weights(op, x.c, 1));
    if (in(op->code, BN_OPS)) RM_TRY(complete_bn(op));
    if (op->code == RM_OP_SOFTMAX_XENT &&
        (!(op->u.xent.label_smoothing >= 0 && op->u.xent.label_smoothing <= 1) || !isfinite(op->u.xent.scale)))
        return rm_fail(RM_E_ARG, "softmax_xent: smoothing=%g must be in [0, 1] and scale=%g finite", (double)op->u.xent.label_smoothing, (double)op->u.xent.scale);
    if (op->code == RM_OP_AUGMENT) RM_TRY(complete_augment(op));
    return RM_OK;
}

rm_status rm_op_complete(rm_op *op)
{
    if ((unsigned)op->code >= RM_OPCODE_COUNT) return rm_fail(RM_E_ARG, "unknown opcode %d", (int)op->code);
    if (op->code == RM_OP_OPTIM) return complete_optim(op);
    RM_TRY(check_tensor(op, "x", &op->x));
    if (!in(op->code, 1u << RM_OP_REORDER | 1u << RM_OP_AUGMENT) && !real_dtype(op->x.dtype))
        return rm_fail(RM_E_ARG, "%s: cannot compute in %s", rm_opcode_name(op->code), rm_dtype_name(op->x.dtype));
    RM_TRY(check_params(op));
    if (op->y.shape.n == 0 && !in(op->code, 1u << RM_OP_REORDER | 1u << RM_OP_AUGMENT)) op->y.dtype = natural_y(op);
    op->y.shape = out_shape(op);
    return check_tensor(op, "y", &op->y);
}

/* ---- counts */
static uint64_t optim_flops(const rm_op *op) { return op->u.optim.count * (op->u.optim.rule == RM_LARS ? 11u : 7u); }

static uint64_t bn_flops(const rm_op *op)
{
    /* forward: sums 3, scale and shift 2; backward: dz, xhat and both sums 6, dx 4 (frozen: 1) */
    unsigned each = op->code == RM_OP_BN_BWD ? (op->u.bn.training ? 10u : 7u) + op->dy2 : op->u.bn.training ? 5u : 2u;
    return rm_shape_count(op->x.shape) * (each + op->u.bn.relu + (op->code == RM_OP_BN && op->u.bn.add));
}

uint64_t rm_op_flops(const rm_op *op)
{
    uint64_t x = rm_shape_count(op->x.shape), y = rm_shape_count(op->y.shape);
    switch (op->code) {
    case RM_OP_CONV: case RM_OP_CONV_BWD_DATA: case RM_OP_CONV_BWD_WEIGHTS:
    case RM_OP_FC: case RM_OP_FC_BWD_DATA: case RM_OP_FC_BWD_WEIGHTS:
        return 2 * y * (rm_shape_count(op->w.shape) / (uint64_t)op->w.shape.n);
    case RM_OP_BN: case RM_OP_BN_BWD: return bn_flops(op);
    case RM_OP_RELU: case RM_OP_ADD: return x;
    case RM_OP_RELU_BWD: return x * (1u + op->dy2);
    case RM_OP_MAXPOOL: return y * (uint64_t)op->u.win.k * (uint64_t)op->u.win.k;
    case RM_OP_MAXPOOL_BWD: return y;
    case RM_OP_AVGPOOL: case RM_OP_AVGPOOL_BWD: return x;
    case RM_OP_SOFTMAX_XENT: return 6 * x;
    case RM_OP_OPTIM: return optim_flops(op);
    case RM_OP_AUGMENT: return 2 * x;
    default: return 0;
    }
}

static uint64_t slot_bytes(const rm_op *op, rm_slot slot)
{
    if (slot == RM_SAVED) /* mean and 1/std; one byte of argmax an output */
        return in(op->code, BN_OPS) ? 8u * (uint64_t)op->x.shape.c : rm_shape_count(op->y.shape);
    rm_tdesc t = rm_op_tensor(op, slot);
    return rm_shape_count(t.shape) * rm_dtype_bytes(t.dtype);
}

static uint64_t op_bytes(const rm_op *op, unsigned use)
{
    uint64_t sum = 0;
    for (int s = 0; s < RM_SLOT_COUNT; s++)
        if (rm_op_uses(op, (rm_slot)s) & use) sum += slot_bytes(op, (rm_slot)s);
    return sum;
}
uint64_t rm_op_bytes_read(const rm_op *op) { return op_bytes(op, RM_READ); }
uint64_t rm_op_bytes_written(const rm_op *op) { return op_bytes(op, RM_WRITE); }
