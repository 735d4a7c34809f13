#include "kernels/check.h"
#include "kernels/check_data.h"
#include "base/clock.h"
#include "base/rng.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tolerances: factor x (rounding of the output + sqrt(length of the sum) x rounding of the accumulator) */
static const struct { double norm, max; } factor[RM_OPCODE_COUNT] = {
    [RM_OP_CONV] = { 8, 16 }, [RM_OP_CONV_BWD_DATA] = { 8, 16 }, [RM_OP_CONV_BWD_WEIGHTS] = { 8, 16 }, /* Winograd loses a few bits */
    [RM_OP_BN] = { 4, 8 }, [RM_OP_BN_BWD] = { 8, 16 },
    [RM_OP_RELU] = { 1, 1 }, [RM_OP_RELU_BWD] = { 2, 2 }, [RM_OP_ADD] = { 2, 2 },
    [RM_OP_MAXPOOL] = { 1, 1 }, [RM_OP_MAXPOOL_BWD] = { 2, 4 }, [RM_OP_AVGPOOL] = { 2, 4 }, [RM_OP_AVGPOOL_BWD] = { 2, 4 },
    [RM_OP_FC] = { 4, 8 }, [RM_OP_FC_BWD_DATA] = { 4, 8 }, [RM_OP_FC_BWD_WEIGHTS] = { 4, 8 },
    [RM_OP_SOFTMAX_XENT] = { 8, 16 }, [RM_OP_OPTIM] = { 4, 8 }, [RM_OP_REORDER] = { 1, 1 }, [RM_OP_AUGMENT] = { 4, 4 },
};
/* Half a unit in the last place, relative. */
static const double rounding[RM_DTYPE_COUNT] = {
    [RM_F32] = 0x1p-24, [RM_BF16] = 0x1p-8, [RM_F16] = 0x1p-11, [RM_TF32] = 0x1p-11, [RM_F64] = 0x1p-53,
};

static double sum_length(const rm_op *op)
{
    const rm_shape x = op->x.shape, w = op->w.shape, y = op->y.shape;
    switch (op->code) {
    case RM_OP_CONV: return (double)w.c * w.h * w.w;
    case RM_OP_CONV_BWD_DATA: return (double)w.n * w.h * w.w;
    case RM_OP_CONV_BWD_WEIGHTS: return (double)y.n * y.h * y.w;
    case RM_OP_BN: case RM_OP_BN_BWD: return (double)x.n * x.h * x.w;
    case RM_OP_AVGPOOL: return (double)x.h * x.w;
    case RM_OP_MAXPOOL_BWD: return op->u.win.k;
    case RM_OP_FC: case RM_OP_SOFTMAX_XENT: return x.c;
    case RM_OP_FC_BWD_DATA: return w.n;
    case RM_OP_FC_BWD_WEIGHTS: return x.n;
    case RM_OP_OPTIM: return op->u.optim.rule == RM_LARS ? (double)op->u.optim.count : 1;
    default: return 1;
    }
}

static double unit_of(const rm_op *op, rm_slot slot, rm_dtype out, rm_dtype via)
{
    double accumulate = op->x.dtype == RM_F64 ? rounding[RM_F64] : rounding[RM_F32];
    double inputs = op->x.dtype == RM_TF32 ? rounding[RM_TF32] : 0;
    if (op->code == RM_OP_BN_BWD && op->dy2) inputs += rounding[op->x.dtype]; /* DY + DY2 may be kept in the op's type */
    const bool narrowed = (slot == RM_Y || slot == RM_DW) && rounding[via] > rounding[out];
    return rounding[narrowed ? via : out] + inputs + sqrt(sum_length(op)) * accumulate;
}

/* ---- comparing */
static void compare(const rm_op *op, rm_slot slot, rm_dtype via, const double *got, const double *want, uint64_t n, rm_check_output *o)
{
    double diff2 = 0, want2 = 0, diff_max = 0, want_max = 0;
    rm_tdesc t = rm_op_tensor(op, slot);
    bool exact = t.dtype == RM_I32;
    *o = (rm_check_output){ .slot = slot, .finite = true, .zero = !exact };
    for (uint64_t i = 0; i < n; i++) {
        double e = fabs(got[i] - want[i]);
        if (isfinite(want[i]) && !isfinite(got[i])) o->finite = false;
        if (got[i] != 0) o->zero = false;
        diff2 += e * e;
        want2 += want[i] * want[i];
        diff_max = e > diff_max ? e : diff_max;
        want_max = fabs(want[i]) > want_max ? fabs(want[i]) : want_max;
    }
    o->norm_error = diff2 == 0 ? 0 : sqrt(diff2 / want2);
    o->max_error = diff_max == 0 ? 0 : diff_max / want_max;
    o->norm_tolerance = exact ? 0 : factor[op->code].norm * unit_of(op, slot, t.dtype, via);
    o->max_tolerance = exact ? 0 : factor[op->code].max * unit_of(op, slot, t.dtype, via);
    o->passed = o->finite && !o->zero && o->norm_error <= o->norm_tolerance && o->max_error <= o->max_tolerance;
}

static void judge(rm_check_result *r)
{
    r->passed = r->n > 0;
    for (uint32_t i = 0; i < r->n && r->passed; i++) {
        const rm_check_output *o = &r->out[i];
        if (o->passed) continue;
        r->passed = false;
        if (!o->finite) snprintf(r->why, sizeof r->why, "%s has NaN or infinity", rm_slot_name(o->slot));
        else if (o->zero) snprintf(r->why, sizeof r->why, "%s is all zero", rm_slot_name(o->slot));
        else snprintf(r->why, sizeof r->why, "%s is off by %.2g of its norm (allowed %.2g), %.2g of its largest value (allowed %.2g)",
                      rm_slot_name(o->slot), o->norm_error, o->norm_tolerance, o->max_error, o->max_tolerance);
    }
}

static void describe(const rm_op *op, const char *device, const char *how, uint64_t seed, char text[256], char reproduce[384])
{
    rm_op_print(op, text, 256);
    snprintf(reproduce, 384, "bench kernels --device %s %s --seed %llu \"%s\"", device, how, (unsigned long long)seed, text);
}

/* ---- a case on a device: the op, and the forward op that makes its SAVED */
typedef struct rig { check_run fwd, main; bool has_fwd; } rig;

static void rig_close(rig *g)
{
    check_run_close(&g->main);
    if (g->has_fwd) check_run_close(&g->fwd);
}

static rm_status rig_open(rm_device *d, const check_case *c, rig *out)
{
    rig g = { .has_fwd = c->op.code != c->fwd.code && rm_op_uses(&c->op, RM_SAVED) };
    rm_op op = c->op;
    rm_status st;
    if (g.has_fwd) {
        RM_TRY(check_run_open(d, &c->fwd, NULL, &g.fwd));
        op.x.layout = g.fwd.info.x; /* SAVED may be in the order of the forward op's layouts */
        op.y.layout = g.fwd.info.y;
    }
    RM_TRY_GOTO(st, check_run_open(d, &op, g.has_fwd ? g.fwd.buf[RM_SAVED] : NULL, &g.main), close_fwd);
    if (g.has_fwd) {
        RM_TRY_GOTO(st, check_run_load(&g.fwd, c), close_main);
        RM_TRY_GOTO(st, check_run_go(&g.fwd), close_main);
    }
    RM_TRY_GOTO(st, check_run_load(&g.main, c), close_main);
    *out = g;
    return RM_OK;
close_main:
    check_run_close(&g.main);
close_fwd:
    if (g.has_fwd) check_run_close(&g.fwd);
    return st;
}

/* The same data on ref, where every float is a double. */
static check_case for_ref(const check_case *c)
{
    check_case r = *c;
    rm_op *const op[] = { &r.op, &r.fwd };
    for (size_t i = 0; i < RM_COUNT(op); i++) {
        rm_tdesc *const t[] = { &op[i]->x, &op[i]->w, &op[i]->y };
        for (size_t k = 0; k < RM_COUNT(t); k++) {
            if (t[k]->dtype != RM_U8 && t[k]->dtype != RM_I32) t[k]->dtype = RM_F64;
            t[k]->layout = op[i]->code == RM_OP_AUGMENT && k == 0 ? RM_LAYOUT_NHWC : RM_LAYOUT_NCHW;
        }
    }
    return r;
}

static rm_status compare_slot(check_run *got, check_run *want, const rm_op *op, rm_slot slot, rm_check_output *out)
{
    uint64_t n = rm_shape_count(rm_op_tensor(op, slot).shape);
    double *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
    rm_status st = a && b ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory comparing %s", rm_opcode_name(op->code));
    if (st == RM_OK) st = check_run_get(got, slot, a);
    if (st == RM_OK) st = check_run_get(want, slot, b);
    if (st == RM_OK) compare(op, slot, got->info.via, a, b, n, out);
    free(a);
    free(b);
    return st;
}

static rm_status check_case_on(rm_device *d, rm_device *ref, const check_case *c, rm_check_result *r)
{
    const check_case exact = for_ref(c);
    rig got, want;
    rm_status st;
    RM_TRY(rig_open(d, c, &got));
    snprintf(r->impl, sizeof r->impl, "%s", got.main.info.impl);
    RM_TRY_GOTO(st, rig_open(ref, &exact, &want), close_got);
    RM_TRY_GOTO(st, check_run_go(&got.main), close);
    RM_TRY_GOTO(st, check_run_go(&want.main), close);
    for (int s = 0; s < RM_SLOT_COUNT; s++) {
        if (!(rm_op_uses(&c->op, (rm_slot)s) & RM_WRITE) || s == RM_SAVED) continue;
        RM_ASSERT(r->n < RM_CHECK_OUTPUTS);
        RM_TRY_GOTO(st, compare_slot(&got.main, &want.main, &c->op, (rm_slot)s, &r->out[r->n]), close);
        r->n++;
    }
    judge(r);
close:
    rig_close(&want);
close_got:
    rig_close(&got);
    return st;
}

/* An op made whole, data for it, and the device that says what is right. */
typedef struct trial {
    rm_op op;
    rm_device *ref;
    check_case c;
} trial;

static void trial_close(trial *t)
{
    check_case_free(&t->c);
    rm_device_close(t->ref);
}

static rm_status trial_open(const rm_op *op, uint64_t seed, trial *out)
{
    trial t = { .op = *op };
    RM_TRY(rm_op_complete(&t.op));
    RM_TRY(rm_device_open_ops(&rm_device_ref, NULL, &t.ref));
    const rm_status st = check_case_new(t.ref, &t.op, seed, &t.c);
    if (st == RM_OK) *out = t;
    else rm_device_close(t.ref);
    return st;
}

rm_status rm_check_op(rm_device *d, const rm_op *op, uint64_t seed, rm_check_result *out)
{
    rm_check_result r = { .why = "" };
    trial t;
    RM_TRY(trial_open(op, seed, &t));
    describe(&t.op, rm_device_name(d), "--check", seed, r.text, r.reproduce);
    const rm_status st = check_case_on(d, t.ref, &t.c, &r);
    trial_close(&t);
    if (st == RM_OK) *out = r;
    return st;
}

/* ---- gradients */
enum { DIRECTIONS = 2 };
static const double STEP = 1e-5, GRAD_TOLERANCE = 1e-7;
static const struct { rm_slot grad, input; } derivatives[RM_OPCODE_COUNT][4] = {
    [RM_OP_CONV_BWD_DATA] = { { RM_DX, RM_X } },
    [RM_OP_CONV_BWD_WEIGHTS] = { { RM_DW, RM_W } },
    [RM_OP_BN_BWD] = { { RM_DX, RM_X }, { RM_DX2, RM_X2 }, { RM_DGAMMA, RM_GAMMA }, { RM_DBETA, RM_BETA } },
    [RM_OP_RELU_BWD] = { { RM_DX, RM_X } },
    [RM_OP_MAXPOOL_BWD] = { { RM_DX, RM_X } },
    [RM_OP_AVGPOOL_BWD] = { { RM_DX, RM_X } },
    [RM_OP_FC_BWD_DATA] = { { RM_DX, RM_X } },
    [RM_OP_FC_BWD_WEIGHTS] = { { RM_DW, RM_W }, { RM_DBETA, RM_BETA } },
    [RM_OP_SOFTMAX_XENT] = { { RM_DX, RM_X } },
};

bool rm_check_has_grad(rm_opcode code) { return (unsigned)code < RM_OPCODE_COUNT && derivatives[code][0].grad != RM_X; }

/* <r, f> of the forward run, r = DY + DY2; the loss itself for SOFTMAX_XENT. */
static rm_status objective(check_run *fwd, const check_case *c, double *y, double *out)
{
    double sum = 0;
    RM_TRY(check_run_go(fwd));
    if (c->op.code == RM_OP_SOFTMAX_XENT) {
        RM_TRY(check_run_get(fwd, RM_LOSS, y));
        *out = y[0] * (double)c->op.u.xent.scale;
        return RM_OK;
    }
    RM_TRY(check_run_get(fwd, RM_Y, y));
    for (uint64_t i = 0, n = rm_shape_count(c->op.y.shape); i < n; i++)
        sum += y[i] * (c->v[RM_DY][i] + (c->op.dy2 ? c->v[RM_DY2][i] : 0));
    *out = sum;
    return RM_OK;
}

typedef struct direction { uint64_t n; double *g, *v, *moved, *y; } direction;

static rm_status shifted(check_run *fwd, const check_case *c, rm_slot input, const direction *p, double h, double *out)
{
    for (uint64_t i = 0; i < p->n; i++) p->moved[i] = c->v[input][i] + h * p->v[i];
    RM_TRY(check_run_put(fwd, input, p->moved));
    return objective(fwd, c, p->y, out);
}

/* Along each random v: |difference quotient - <g, v>| / |g|; the typical <g, v> is as large as |g|. */
static rm_status along(check_run *fwd, const check_case *c, rm_slot input, const direction *p, uint64_t seed, rm_check_output *o)
{
    double norm = 0;
    for (uint64_t i = 0; i < p->n; i++) norm += p->g[i] * p->g[i];
    norm = sqrt(norm);
    o->finite = isfinite(norm);
    o->zero = norm == 0;
    for (int k = 0; k < DIRECTIONS; k++) {
        double up, down, want = 0;
        rm_rng r = rm_rng_for(seed, 1000u + (uint64_t)k, (uint64_t)input);
        for (uint64_t i = 0; i < p->n; i++) { p->v[i] = rm_rng_normal(&r); want += p->g[i] * p->v[i]; }
        RM_TRY(shifted(fwd, c, input, p, STEP, &up));
        RM_TRY(shifted(fwd, c, input, p, -STEP, &down));
        double e = fabs((up - down) / (2 * STEP) - want) / (norm > 0 ? norm : 1);
        o->norm_error = e > o->norm_error || isnan(e) ? e : o->norm_error;
    }
    o->max_error = o->norm_error;
    o->norm_tolerance = o->max_tolerance = GRAD_TOLERANCE;
    o->passed = o->finite && !o->zero && o->norm_error <= GRAD_TOLERANCE;
    return check_run_put(fwd, input, c->v[input]);
}

static rm_status grad_slot(check_run *fwd, check_run *bwd, const check_case *c, rm_slot grad, rm_slot input, uint64_t seed, rm_check_output *out)
{
    rm_check_output o = { .slot = grad };
    uint64_t n = rm_shape_count(rm_op_tensor(&c->op, grad).shape), m = rm_shape_count(c->op.y.shape);
    double *memory = malloc((3 * n + m) * sizeof *memory);
    if (!memory) return rm_fail(RM_E_NOMEM, "out of memory differentiating %s", rm_opcode_name(c->op.code));
    const direction p = { n, memory, memory + n, memory + 2 * n, memory + 3 * n };
    rm_status st = check_run_get(bwd, grad, p.g);
    if (st == RM_OK) st = along(fwd, c, input, &p, seed, &o);
    if (st == RM_OK) *out = o;
    free(memory);
    return st;
}

static rm_status grad_case(rm_device *d, const check_case *c, uint64_t seed, rm_check_result *r)
{
    rig g;
    check_run fwd;
    rm_status st;
    RM_TRY(rig_open(d, c, &g));
    snprintf(r->impl, sizeof r->impl, "%s", g.main.info.impl);
    RM_TRY_GOTO(st, check_run_open(d, &c->fwd, NULL, &fwd), close_rig);
    RM_TRY_GOTO(st, check_run_load(&fwd, c), close);
    RM_TRY_GOTO(st, check_run_go(&g.main), close);
    for (size_t i = 0; i < RM_COUNT(derivatives[0]) && derivatives[c->op.code][i].grad != RM_X; i++) {
        rm_slot grad = derivatives[c->op.code][i].grad;
        if (!rm_op_uses(&c->op, grad)) continue;
        RM_TRY_GOTO(st, grad_slot(&fwd, &g.main, c, grad, derivatives[c->op.code][i].input, seed, &r->out[r->n]), close);
        r->n++;
    }
    judge(r);
close:
    check_run_close(&fwd);
close_rig:
    rig_close(&g);
    return st;
}

rm_status rm_check_grad(rm_device *ref_like, const rm_op *op, uint64_t seed, rm_check_result *out)
{
    rm_check_result r = { .why = "" };
    trial t;
    if (!rm_check_has_grad(op->code)) return rm_fail(RM_E_UNSUPPORTED, "%s has no gradient of its own to check", rm_opcode_name(op->code));
    RM_TRY(trial_open(op, seed, &t));
    describe(&t.op, "ref", "--grad", seed, r.text, r.reproduce);
    const check_case exact = for_ref(&t.c);
    const rm_status st = grad_case(ref_like ? ref_like : t.ref, &exact, seed, &r);
    trial_close(&t);
    if (st == RM_OK) *out = r;
    return st;
}

/* ---- speed */
static rm_status sample(check_run *run, rm_mark *before, rm_mark *after, double *out_s)
{
    rm_args args = check_run_args(run);
    uint64_t a, b;
    RM_TRY(rm_mark_set(run->d, NULL, before));
    RM_TRY(rm_device_run(run->d, NULL, run->plan, &args));
    RM_TRY(rm_mark_set(run->d, NULL, after));
    RM_TRY(rm_device_sync(run->d, NULL));
    RM_TRY(rm_mark_ns(run->d, before, &a));
    RM_TRY(rm_mark_ns(run->d, after, &b));
    *out_s = rm_s(b - a);
    return RM_OK;
}

static rm_status time_run(check_run *run, uint32_t repeats, rm_time_result *r)
{
    enum { WARMUP = 2 };
    rm_mark *before = NULL, *after = NULL;
    double ignored;
    rm_status st;
    RM_TRY_GOTO(st, rm_mark_new(run->d, &before), done);
    RM_TRY_GOTO(st, rm_mark_new(run->d, &after), done);
    for (int i = 0; i < WARMUP; i++) RM_TRY_GOTO(st, sample(run, before, after, &ignored), done);
    for (r->n = 0; r->n < repeats; r->n++) RM_TRY_GOTO(st, sample(run, before, after, &r->sample_s[r->n]), done);
    r->median_s = rm_median(r->sample_s, r->n);
    r->flop_per_s = r->median_s > 0 ? (double)run->info.flops / r->median_s : NAN;
    r->byte_per_s = r->median_s > 0 ? (double)(run->info.bytes_read + run->info.bytes_written) / r->median_s : NAN;
    snprintf(r->impl, sizeof r->impl, "%s", run->info.impl);
done:
    rm_mark_free(run->d, before);
    rm_mark_free(run->d, after);
    return st;
}

rm_status rm_time_op(rm_device *d, const rm_op *op, int repeats, rm_time_result *out)
{
    rm_time_result r = { .n = 0 };
    trial t;
    rig g;
    if (repeats < 1 || repeats > RM_TIME_SAMPLES) return rm_fail(RM_E_ARG, "repeats must be in 1..%d", RM_TIME_SAMPLES);
    RM_TRY(trial_open(op, 1, &t));
    describe(&t.op, rm_device_name(d), "--perf", 1, r.text, r.reproduce);
    rm_status st = rig_open(d, &t.c, &g);
    if (st == RM_OK) {
        st = time_run(&g.main, (uint32_t)repeats, &r);
        rig_close(&g);
    }
    trial_close(&t);
    if (st == RM_OK) *out = r;
    return st;
}
