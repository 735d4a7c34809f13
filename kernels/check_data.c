#include "kernels/check_data.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

rm_opcode check_forward_of(rm_opcode code)
{
    switch (code) {
    case RM_OP_CONV_BWD_DATA: case RM_OP_CONV_BWD_WEIGHTS: return RM_OP_CONV;
    case RM_OP_BN_BWD: return RM_OP_BN;
    case RM_OP_RELU_BWD: return RM_OP_RELU;
    case RM_OP_MAXPOOL_BWD: return RM_OP_MAXPOOL;
    case RM_OP_AVGPOOL_BWD: return RM_OP_AVGPOOL;
    case RM_OP_FC_BWD_DATA: case RM_OP_FC_BWD_WEIGHTS: return RM_OP_FC;
    default: return code;
    }
}

/* ---- values */
double check_round(rm_dtype dtype, double v)
{
    static const int bits[RM_DTYPE_COUNT] = { [RM_BF16] = 8, [RM_F16] = 11 };
    if (!isfinite(v) || v == 0) return v;
    switch (dtype) {
    case RM_F32: case RM_TF32: return (double)(float)v;
    case RM_BF16: case RM_F16: {
        int e = ilogb(v), low = dtype == RM_F16 ? -14 : -126;
        int shift = bits[dtype] - 1 - (e < low ? low : e);
        return ldexp(nearbyint(ldexp(v, shift)), -shift);
    }
    default: return v;
    }
}

/* In a k x k window the residues (h mod k, w mod k) all differ, so values that carry them never tie; with small integers
 * in units of 1/64 they are exact in bf16 too. */
static double untied(const rm_op *op, rm_rng *r, uint64_t i)
{
    uint32_t k = (uint32_t)op->u.win.k, w = (uint32_t)op->x.shape.w, h = (uint32_t)op->x.shape.h;
    uint32_t at = (uint32_t)(i % ((uint64_t)w * h)), levels = k * k < 128 ? 256 / (k * k) : 2;
    uint32_t residue = at / w % k * k + at % w % k;
    return ((double)(rm_rng_below(r, levels) * k * k + residue) - 128) / 64;
}

static double x_value(const rm_op *op, rm_rng *r, uint64_t i)
{
    double z;
    switch (op->code) {
    case RM_OP_AUGMENT: return rm_rng_below(r, 256);
    case RM_OP_MAXPOOL: return untied(op, r, i);
    case RM_OP_BN: return 0.5 + 1.5 * rm_rng_normal(r);
    case RM_OP_SOFTMAX_XENT: return 2 * rm_rng_normal(r);
    case RM_OP_RELU: z = rm_rng_normal(r); return z < 0 ? z - 0.01 : z + 0.01; /* away from the kink */
    default: return rm_rng_normal(r);
    }
}

static double value(const rm_op *fwd, rm_slot slot, rm_rng *r, uint64_t i)
{
    static const double hyper[RM_HYPER_COUNT] = { [RM_HYPER_LR] = 0.5, [RM_HYPER_MOMENTUM] = 0.875, [RM_HYPER_DECAY] = 0.125,
                                                  [RM_HYPER_GRAD_SCALE] = 0.5, [RM_HYPER_ETA] = 0.25 };
    switch (slot) {
    case RM_X: return x_value(fwd, r, i);
    case RM_W: return fwd->code == RM_OP_OPTIM ? rm_rng_normal(r)
                    : rm_rng_normal(r) / sqrt((double)rm_shape_count(fwd->w.shape) / fwd->w.shape.n);
    case RM_GAMMA: return 1 + 0.2 * rm_rng_normal(r);
    case RM_BETA: case RM_RMEAN: return 0.3 * rm_rng_normal(r);
    case RM_RVAR: return 0.5 + rm_rng_unit(r);
    case RM_LABEL: return rm_rng_below(r, (uint32_t)fwd->x.shape.c);
    case RM_FLIP: return rm_rng_below(r, 2);
    case RM_HYPER: return hyper[i];
    default: return rm_rng_normal(r);
    }
}

static rm_status make_values(check_case *c, const rm_op *op, uint64_t seed)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++) {
        rm_slot slot = (rm_slot)s;
        rm_tdesc t = rm_op_tensor(op, slot);
        if (!(rm_op_uses(op, slot) & RM_READ) || t.shape.n == 0 || c->v[s]) continue;
        uint64_t n = rm_shape_count(t.shape);
        c->v[s] = malloc(n * sizeof(double));
        if (!c->v[s]) return rm_fail(RM_E_NOMEM, "out of memory for the operands of %s", rm_opcode_name(op->code));
        rm_rng r = rm_rng_for(seed, (uint64_t)s, (uint64_t)op->code);
        for (uint64_t i = 0; i < n; i++) c->v[s][i] = check_round(t.dtype, value(&c->fwd, slot, &r, i));
    }
    return RM_OK;
}

/* Segments of uneven sizes with every combination of decay and adapt. */
static rm_status make_segments(check_case *c)
{
    uint32_t n = c->op.u.optim.n_segment;
    uint64_t count = c->op.u.optim.count;
    if (c->op.code != RM_OP_OPTIM || c->op.u.optim.segment) return RM_OK;
    c->segment = calloc(n, sizeof *c->segment);
    if (!c->segment) return rm_fail(RM_E_NOMEM, "out of memory for %u segments", n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t start = count * i / n, end = count * (i + 1) / n;
        c->segment[i] = (rm_segment){ .start = start, .count = end - start, .decay = i % 2 == 0, .adapt = i / 2 % 2 == 0 };
    }
    c->op.u.optim.segment = c->fwd.u.optim.segment = c->segment;
    return RM_OK;
}

/* A gradient through an output that lies within rounding of zero says nothing about the op: it is set to zero. */
static rm_status quiet_kinks(rm_device *ref, check_case *c)
{
    check_run run = { .d = NULL };
    rm_op smooth = c->fwd;
    uint64_t n = rm_shape_count(c->op.y.shape);
    smooth.u.bn.relu = false;
    double *z = malloc(n * sizeof *z);
    if (!z) return rm_fail(RM_E_NOMEM, "out of memory for the operands of bn_bwd");
    rm_status st;
    RM_TRY_GOTO(st, check_run_open(ref, &smooth, NULL, &run), done);
    RM_TRY_GOTO(st, check_run_load(&run, c), close);
    RM_TRY_GOTO(st, check_run_go(&run), close);
    RM_TRY_GOTO(st, check_run_get(&run, RM_Y, z), close);
    for (uint64_t i = 0; i < n; i++) {
        if (fabs(z[i]) > 1e-3) continue;
        c->v[RM_DY][i] = 0;
        if (c->v[RM_DY2]) c->v[RM_DY2][i] = 0;
    }
close:
    check_run_close(&run);
done:
    free(z);
    return st;
}

static rm_status make_y(rm_device *ref, check_case *c)
{
    check_run run;
    RM_TRY(check_run_open(ref, &c->fwd, NULL, &run));
    uint64_t n = rm_shape_count(c->op.y.shape);
    rm_status st;
    RM_TRY_GOTO(st, check_run_load(&run, c), close);
    RM_TRY_GOTO(st, check_run_go(&run), close);
    RM_TRY_GOTO(st, check_run_get(&run, RM_Y, c->v[RM_Y]), close);
    for (uint64_t i = 0; i < n; i++) c->v[RM_Y][i] = check_round(c->op.y.dtype, c->v[RM_Y][i]);
close:
    check_run_close(&run);
    return st;
}

/* ref has float and double only; rounding to the op's type is done on its inputs, not by it. */
static void as_ref(rm_op *op)
{
    rm_tdesc *const all[] = { &op->x, &op->w, &op->y };
    for (size_t i = 0; i < RM_COUNT(all); i++)
        if (all[i]->dtype != RM_U8 && all[i]->dtype != RM_I32) all[i]->dtype = RM_F64;
    op->x.layout = op->code == RM_OP_AUGMENT ? RM_LAYOUT_NHWC : RM_LAYOUT_NCHW;
    op->w.layout = op->y.layout = RM_LAYOUT_NCHW;
}

rm_status check_case_new(rm_device *ref, const rm_op *op, uint64_t seed, check_case *out)
{
    check_case c = { .op = *op, .fwd = *op }, r;
    rm_status st;
    c.fwd.code = check_forward_of(op->code);
    c.fwd.dy2 = false;
    RM_TRY_GOTO(st, make_segments(&c), fail);
    RM_TRY_GOTO(st, make_values(&c, &c.fwd, seed), fail);
    RM_TRY_GOTO(st, make_values(&c, &c.op, seed), fail);
    r = c;                 /* the same arrays, seen by ref */
    as_ref(&r.fwd);
    if (op->code == RM_OP_BN_BWD && op->u.bn.relu) RM_TRY_GOTO(st, quiet_kinks(ref, &r), fail);
    if (op->code != c.fwd.code && rm_op_uses(op, RM_Y)) RM_TRY_GOTO(st, make_y(ref, &r), fail);
    *out = c;
    return RM_OK;
fail:
    check_case_free(&c);
    return st;
}

void check_case_free(check_case *c)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++) free(c->v[s]);
    free(c->segment);
    memset(c, 0, sizeof *c);
}
