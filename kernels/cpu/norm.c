/* Batch normalisation with ReLU and add fused, and the element-wise ops.
 *
 * Forward: one pass for the statistics, one to scale; backward likewise: sums, then the gradient. A thread takes a group
 * of channels through both passes, so that the second finds the group in its cache; where there are fewer groups than
 * threads, images are shared out and the passes are separated by a barrier. Either way a chunk of images (one, unless
 * they are tiny) is summed by itself and the partial sums are added in order, so the result is the same bits. */
#include "kernels/cpu/cpu.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Saved from forward to backward, `padded` floats each: mean, 1/std, and y = a x + b. */
enum { SAVED_MEAN, SAVED_RSTD, SAVED_A, SAVED_B, SAVED_ROWS };
enum { V_X, V_X2, V_Y, V_GAMMA, V_BETA, V_RMEAN, V_RVAR, V_SAVED, V_PARTIAL, V_COEF, V_COUNT };
enum { G_X, G_Y, G_DY, G_DY2, G_GAMMA, G_RMEAN, G_RVAR, G_SAVED, G_DX, G_DX2, G_DGAMMA, G_DBETA, G_PARTIAL, G_COEF, G_COUNT };

enum { CHUNK_PIXELS = 64 };
typedef struct bn_param { cpu_geom g; bool half; size_t padded; int per_chunk, chunks; } bn_param;

/* One batch normalisation under way: pointers of this run. */
typedef struct bn_run {
    const rm_op *op;
    const bn_param *b;
    const void *x, *x2, *y_in, *dy, *dy2;
    void *y, *dx, *dx2;
    const float *gamma, *beta;
    float *rmean, *rvar, *dgamma, *dbeta;
    float *saved;      /* SAVED_ROWS x padded */
    double *partial;   /* (chunk, 2, padded) */
    float *coef;       /* (3, padded): backward's p, q, c */
} bn_run;

/* Address of a chunk's group. */
static const void *offset(const bn_param *b, const void *base, int chunk, int group)
{
    size_t i = (size_t)(chunk * b->per_chunk) * b->g.n_stride + (size_t)group * b->g.g_stride;
    return base ? (const char *)base + i * (b->half ? 2 : 4) : NULL;
}
static void *offset_mut(const bn_param *b, void *base, int chunk, int group) { return (void *)offset(b, base, chunk, group); }

static cpu_run run_of(const bn_param *b, int chunk)
{
    const int left = b->g.n - chunk * b->per_chunk;
    return (cpu_run){.stride = b->g.p_stride, .n_stride = b->g.n_stride, .pixels = b->g.h * b->g.w,
                     .images = left < b->per_chunk ? left : b->per_chunk, .nv = b->g.width / b->g.vec->lanes, .half = b->half};
}

static double *partial_at(const bn_run *r, int chunk, int which, int group)
{
    return r->partial + ((size_t)chunk * 2 + (size_t)which) * r->b->padded + (size_t)group * (size_t)r->b->g.width;
}
static float *row(const bn_run *r, int which, int group)
{
    return r->saved + (size_t)which * r->b->padded + (size_t)group * (size_t)r->b->g.width;
}

/* ---- forward */
/* The pivot of the shifted sums: the first pixel of the batch, near enough to the mean to avoid cancellation. */
static void forward_stats(const bn_run *r, int chunk, int group)
{
    const bn_param *b = r->b;
    float pivot[CPU_VEC_MAX_WIDTH];
    double *sum = partial_at(r, chunk, 0, group), *square = partial_at(r, chunk, 1, group);
    for (int l = 0; l < b->g.width; l++) {
        pivot[l] = cpu_get(offset(b, r->x, 0, group), (size_t)l, b->half);
        sum[l] = square[l] = 0;
    }
    b->g.vec->stats(run_of(b, chunk), offset(b, r->x, chunk, group), pivot, sum, square);
}

static void move_running(const bn_run *r, int c, double mean, double var, double count)
{
    const double m = (double)r->op->u.bn.momentum;
    r->rmean[c] = (float)((1 - m) * (double)r->rmean[c] + m * mean);
    r->rvar[c] = (float)((1 - m) * (double)r->rvar[c] + m * (r->op->u.bn.unbiased ? var * count / (count - 1) : var));
}

static void forward_combine(const bn_run *r, int group)
{
    const cpu_geom *g = &r->b->g;
    const double count = (double)g->n * g->h * g->w;
    for (int l = 0; l < g->width; l++) {
        int c = group * g->width + l;
        float *mean = row(r, SAVED_MEAN, group) + l, *rstd = row(r, SAVED_RSTD, group) + l;
        float *a = row(r, SAVED_A, group) + l, *b = row(r, SAVED_B, group) + l;
        if (c >= g->c) { *mean = *rstd = *a = *b = 0; continue; } /* padding stays zero */
        double pivot = (double)cpu_get(offset(r->b, r->x, 0, group), (size_t)l, r->b->half), sum = 0, square = 0;
        for (int chunk = 0; chunk < r->b->chunks; chunk++) sum += partial_at(r, chunk, 0, group)[l], square += partial_at(r, chunk, 1, group)[l];
        double shift = sum / count, mu = pivot + shift, var = square / count - shift * shift;
        if (var < 0) var = 0;
        double inverse = 1 / sqrt(var + (double)r->op->u.bn.eps);
        *mean = (float)mu;
        *rstd = (float)inverse;
        *a = (float)((double)r->gamma[c] * inverse);
        *b = (float)((double)r->beta[c] - mu * (double)r->gamma[c] * inverse);
        move_running(r, c, mu, var, count);
    }
}

static void forward_fixed(const bn_run *r, int group)
{
    const cpu_geom *g = &r->b->g;
    for (int l = 0; l < g->width; l++) {
        int c = group * g->width + l;
        bool real = c < g->c;
        double inverse = real ? 1 / sqrt((double)r->rvar[c] + (double)r->op->u.bn.eps) : 0;
        row(r, SAVED_A, group)[l] = real ? (float)((double)r->gamma[c] * inverse) : 0;
        row(r, SAVED_B, group)[l] = real ? (float)((double)r->beta[c] - (double)r->rmean[c] * (double)r->gamma[c] * inverse) : 0;
    }
}

static void forward_scale(const bn_run *r, int chunk, int group)
{
    const bn_param *b = r->b;
    b->g.vec->scale(run_of(b, chunk), offset(b, r->x, chunk, group), offset(b, r->x2, chunk, group), offset_mut(b, r->y, chunk, group),
                    row(r, SAVED_A, group), row(r, SAVED_B, group), r->op->u.bn.relu);
}

/* ---- backward */
/* Frozen: what a training forward would have saved comes from the running statistics. */
static void fixed_saved(const bn_run *r)
{
    for (int c = 0; c < (int)r->b->padded; c++) {
        const bool real = c < r->b->g.c;
        row(r, SAVED_MEAN, 0)[c] = real ? r->rmean[c] : 0;
        row(r, SAVED_RSTD, 0)[c] = real ? (float)(1 / sqrt((double)r->rvar[c] + (double)r->op->u.bn.eps)) : 0;
    }
}

/* The mask of ReLU is read from x where that spares a pass over y; frozen, nobody saved how y comes from x. */
static cpu_mask mask_of(const rm_op *op)
{
    return !op->u.bn.relu ? CPU_MASK_NONE : op->u.bn.add || !op->u.bn.training ? CPU_MASK_FROM_Y : CPU_MASK_FROM_X;
}

static cpu_bn_grad grad_of(const bn_run *r, int chunk, int group)
{
    const bn_param *b = r->b;
    return (cpu_bn_grad){.x = offset(b, r->x, chunk, group), .y = offset(b, r->y_in, chunk, group), .dy = offset(b, r->dy, chunk, group),
                         .dy2 = offset(b, r->dy2, chunk, group), .dx = offset_mut(b, r->dx, chunk, group),
                         .dx2 = offset_mut(b, r->dx2, chunk, group), .a = row(r, SAVED_A, group), .b = row(r, SAVED_B, group),
                         .mean = row(r, SAVED_MEAN, group),
                         .mask = mask_of(r->op)};
}

static void backward_sums(const bn_run *r, int chunk, int group)
{
    double *sum = partial_at(r, chunk, 0, group), *dot = partial_at(r, chunk, 1, group);
    for (int l = 0; l < r->b->g.width; l++) sum[l] = dot[l] = 0;
    r->b->g.vec->grad_sums(run_of(r->b, chunk), grad_of(r, chunk, group), sum, dot);
}

static void backward_combine(const bn_run *r, int group)
{
    const cpu_geom *g = &r->b->g;
    const double count = (double)g->n * g->h * g->w;
    float *p = r->coef + (size_t)group * (size_t)g->width, *q = p + r->b->padded, *c_ = q + r->b->padded;
    for (int l = 0; l < g->width; l++) {
        int c = group * g->width + l;
        p[l] = q[l] = c_[l] = 0;
        if (c >= g->c) continue;
        double sum = 0, dot = 0, rstd = (double)row(r, SAVED_RSTD, group)[l], scale = (double)r->gamma[c] * rstd;
        for (int chunk = 0; chunk < r->b->chunks; chunk++) sum += partial_at(r, chunk, 0, group)[l], dot += partial_at(r, chunk, 1, group)[l];
        r->dbeta[c] = (float)sum;
        r->dgamma[c] = (float)(dot * rstd);
        p[l] = (float)scale;
        if (!r->op->u.bn.training) continue; /* constants have no gradient */
        q[l] = (float)(-scale * rstd * rstd * dot / count);
        c_[l] = (float)(-scale * sum / count);
    }
}

static void backward_apply(const bn_run *r, int chunk, int group)
{
    const float *p = r->coef + (size_t)group * (size_t)r->b->g.width, *q = p + r->b->padded;
    r->b->g.vec->grad_apply(run_of(r->b, chunk), grad_of(r, chunk, group), p, q, q + r->b->padded);
}

/* ---- both: measure every chunk of a group, combine, apply to every chunk */
typedef struct bn_passes {
    void (*measure)(const bn_run *, int chunk, int group);  /* NULL: nothing to measure */
    void (*combine)(const bn_run *, int group);
    void (*apply)(const bn_run *, int chunk, int group);
} bn_passes;

static void by_group(const bn_run *r, const bn_passes *f, int threads)
{
    const int chunks = r->b->chunks;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int group = 0; group < r->b->g.groups; group++) {
        for (int k = 0; f->measure && k < chunks; k++) f->measure(r, k, group);
        f->combine(r, group);
        for (int k = chunks - 1; k >= 0; k--) f->apply(r, k, group); /* last measured, first applied: still cached */
    }
}

static void by_chunk(const bn_run *r, const bn_passes *f, int threads)
{
    const int chunks = r->b->chunks, groups = r->b->g.groups;
#pragma omp parallel num_threads(threads)
    {
        if (f->measure) {
#pragma omp for collapse(2) schedule(static)
            for (int group = 0; group < groups; group++)
                for (int k = 0; k < chunks; k++) f->measure(r, k, group);
        }
#pragma omp for schedule(static)
        for (int group = 0; group < groups; group++) f->combine(r, group);
#pragma omp for collapse(2) schedule(static)
        for (int group = 0; group < groups; group++)
            for (int k = 0; k < chunks; k++) f->apply(r, k, group);
    }
}

static void run_passes(const bn_run *r, const bn_passes *f, int threads)
{
    /* Whole groups a thread only where that shares the work evenly. */
    const int groups = r->b->g.groups;
    if (groups % threads == 0 || groups >= 4 * threads) by_group(r, f, threads);
    else by_chunk(r, f, threads);
}

static rm_status run_bn(const cpu_device *d, const cpu_step *s, void *const *base)
{
    static const bn_passes train = {forward_stats, forward_combine, forward_scale}, fixed = {NULL, forward_fixed, forward_scale};
    const bn_run r = {.op = s->op, .b = s->param, .x = cpu_at(base, s->v[V_X]),
                      .x2 = s->op->u.bn.add ? cpu_at(base, s->v[V_X2]) : NULL, .y = cpu_at(base, s->v[V_Y]),
                      .gamma = cpu_at(base, s->v[V_GAMMA]), .beta = cpu_at(base, s->v[V_BETA]), .rmean = cpu_at(base, s->v[V_RMEAN]),
                      .rvar = cpu_at(base, s->v[V_RVAR]), .saved = cpu_at(base, s->v[V_SAVED]), .partial = cpu_at(base, s->v[V_PARTIAL])};
    run_passes(&r, s->op->u.bn.training ? &train : &fixed, d->threads);
    return RM_OK;
}

static rm_status run_bn_bwd(const cpu_device *d, const cpu_step *s, void *const *base)
{
    static const bn_passes passes = {backward_sums, backward_combine, backward_apply};
    const bool add = s->op->u.bn.add;
    const bn_run r = {.op = s->op, .b = s->param, .x = cpu_at(base, s->v[G_X]),
                      .y_in = s->op->u.bn.relu ? cpu_at(base, s->v[G_Y]) : NULL, .dy = cpu_at(base, s->v[G_DY]),
                      .dy2 = s->op->dy2 ? cpu_at(base, s->v[G_DY2]) : NULL, .gamma = cpu_at(base, s->v[G_GAMMA]),
                      .rmean = cpu_at(base, s->v[G_RMEAN]), .rvar = cpu_at(base, s->v[G_RVAR]), .saved = cpu_at(base, s->v[G_SAVED]), .dx = cpu_at(base, s->v[G_DX]),
                      .dx2 = add ? cpu_at(base, s->v[G_DX2]) : NULL, .dgamma = cpu_at(base, s->v[G_DGAMMA]),
                      .dbeta = cpu_at(base, s->v[G_DBETA]), .partial = cpu_at(base, s->v[G_PARTIAL]), .coef = cpu_at(base, s->v[G_COEF])};
    if (!s->op->u.bn.training) fixed_saved(&r);
    run_passes(&r, &passes, d->threads);
    return RM_OK;
}

static rm_status make_param(cpu_plan *p, bn_param **out_param)
{
    rm_tdesc x = p->base.op.x;
    x.layout = cpu_activation_layout(p->dev, &x);
    bn_param *b = calloc(1, sizeof *b);
    if (!b) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    if (!cpu_geometry(p->dev, &x, &b->g)) RM_BUG("the preferred layout is not understood");
    b->half = x.dtype == RM_BF16;
    b->padded = (size_t)b->g.groups * (size_t)b->g.width;
    b->per_chunk = (CHUNK_PIXELS - 1) / (b->g.h * b->g.w) + 1;
    b->chunks = (b->g.n + b->per_chunk - 1) / b->per_chunk;
    cpu_set_layouts(p, x.layout, x.layout, 0, x.layout);
    *out_param = b;
    return RM_OK;
}

rm_status cpu_build_bn(cpu_plan *p)
{
    bn_param *b = NULL;
    const rm_tdesc t = {0};
    RM_TRY(make_param(p, &b));
    const size_t saved = SAVED_ROWS * b->padded * sizeof(float);
    const bool training = p->base.op.u.bn.training;
    if (training) p->base.info.saved_bytes = saved;
    const cpu_val v[V_COUNT] = {
        [V_X] = cpu_slot(RM_X, t), [V_X2] = cpu_slot(RM_X2, t), [V_Y] = cpu_slot(RM_Y, t), [V_GAMMA] = cpu_slot(RM_GAMMA, t),
        [V_BETA] = cpu_slot(RM_BETA, t), [V_RMEAN] = cpu_slot(RM_RMEAN, t), [V_RVAR] = cpu_slot(RM_RVAR, t),
        [V_SAVED] = training ? cpu_slot(RM_SAVED, t) : cpu_scratch_bytes(p, saved),
        [V_PARTIAL] = cpu_scratch_bytes(p, (size_t)b->chunks * 2 * b->padded * sizeof(double))};
    cpu_set_impl(p, "own:%s", b->g.vec->isa);
    return cpu_step_own(p, run_bn, v, V_COUNT, b);
}

rm_status cpu_build_bn_bwd(cpu_plan *p)
{
    bn_param *b = NULL;
    const rm_tdesc t = {0};
    RM_TRY(make_param(p, &b));
    const size_t saved = SAVED_ROWS * b->padded * sizeof(float);
    const bool training = p->base.op.u.bn.training;
    if (training) p->base.info.saved_bytes = saved;
    const cpu_val v[G_COUNT] = {
        [G_X] = cpu_slot(RM_X, t), [G_Y] = cpu_slot(RM_Y, t), [G_DY] = cpu_slot(RM_DY, t), [G_DY2] = cpu_slot(RM_DY2, t),
        [G_GAMMA] = cpu_slot(RM_GAMMA, t), [G_RMEAN] = cpu_slot(RM_RMEAN, t), [G_RVAR] = cpu_slot(RM_RVAR, t),
        [G_SAVED] = training ? cpu_slot(RM_SAVED, t) : cpu_scratch_bytes(p, saved), [G_DX] = cpu_slot(RM_DX, t),
        [G_DX2] = cpu_slot(RM_DX2, t), [G_DGAMMA] = cpu_slot(RM_DGAMMA, t), [G_DBETA] = cpu_slot(RM_DBETA, t),
        [G_PARTIAL] = cpu_scratch_bytes(p, (size_t)b->chunks * 2 * b->padded * sizeof(double)),
        [G_COEF] = cpu_scratch_bytes(p, 3 * b->padded * sizeof(float))};
    cpu_set_impl(p, "own:%s", b->g.vec->isa);
    return cpu_step_own(p, run_bn_bwd, v, G_COUNT, b);
}

/* ---- ReLU and add, over flat memory: every operand has the same layout, and zero padding stays zero */
typedef struct flat_param { const cpu_vec *vec; size_t count; bool half; } flat_param;

static void flat_range(const cpu_step *s, void *const *base, size_t i, size_t n)
{
    const flat_param *f = s->param;
    const size_t at = i * (f->half ? 2 : 4);
    char *q[4];
    for (int k = 0; k < 4; k++) q[k] = k < s->n_v ? cpu_at(base, s->v[k]) : NULL;
    for (int k = 0; k < 4; k++) q[k] = q[k] ? q[k] + at : NULL;
    if (s->op->code == RM_OP_ADD) f->vec->add(n, f->half, q[0], q[1], q[2]);
    else if (s->op->code == RM_OP_RELU) f->vec->relu(n, f->half, q[0], q[1]);
    else f->vec->relu_bwd(n, f->half, q[0], q[1], s->op->dy2 ? q[3] : NULL, q[2]);
}

static rm_status run_flat(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const flat_param *f = s->param;
#pragma omp parallel num_threads(d->threads)
    {
        size_t begin, end;
        cpu_split((f->count + 63) / 64, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        begin *= 64, end *= 64;
        if (end > f->count) end = f->count;
        if (begin < end) flat_range(s, base, begin, end - begin);
    }
    return RM_OK;
}

rm_status cpu_build_eltwise(cpu_plan *p)
{
    static const struct { int n; rm_slot slot[4]; } row_of[RM_OPCODE_COUNT] = {
        [RM_OP_ADD] = {3, {RM_X, RM_X2, RM_Y}}, [RM_OP_RELU] = {2, {RM_X, RM_Y}},
        [RM_OP_RELU_BWD] = {4, {RM_Y, RM_DY, RM_DX, RM_DY2}}};
    rm_tdesc x = p->base.op.x;
    if (x.layout == RM_LAYOUT_ANY || !cpu_bytes(&x)) x.layout = cpu_blocked_layout(p->dev->block);
    flat_param *f = malloc(sizeof *f);
    if (!f) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    *f = (flat_param){.vec = cpu_vec_for(p->dev->block), .count = cpu_padded_count(&x), .half = x.dtype == RM_BF16};
    cpu_set_layouts(p, x.layout, x.layout, 0, x.layout);
    cpu_set_impl(p, "own:%s", f->vec->isa);
    cpu_val v[4];
    for (int i = 0; i < row_of[p->base.op.code].n; i++) v[i] = cpu_slot(row_of[p->base.op.code].slot[i], x);
    return cpu_step_own(p, run_flat, v, row_of[p->base.op.code].n, f);
}
