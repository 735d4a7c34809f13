/* Loss, optimiser, and augmentation. */
#include "kernels/cpu/cpu.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- softmax cross-entropy: a row a thread; the losses of the rows are added in order */
static double xent_row(const rm_op *op, const float *x, int32_t label, float *dx)
{
    const int C = op->x.shape.c;
    const double e = (double)op->u.xent.label_smoothing, scale = (double)op->u.xent.scale / op->x.shape.n;
    float top = x[0];
    double sum = 0, total = 0;
    for (int c = 1; c < C; c++) top = x[c] > top || isnan(x[c]) ? x[c] : top;
    for (int c = 0; c < C; c++) {
        dx[c] = expf(x[c] - top);
        sum += (double)dx[c];
        total += (double)x[c];
    }
    const double log_sum = (double)top + log(sum), mean_log = total / C - log_sum;
    const double loss = -(1 - e) * ((double)x[label] - log_sum) - e * mean_log;
    const float inverse = (float)(scale / sum), even = (float)(scale * e / C);
    for (int c = 0; c < C; c++) dx[c] = dx[c] * inverse - even;
    dx[label] -= (float)(scale * (1 - e));
    return loss;
}

static rm_status run_xent(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const int N = s->op->x.shape.n, C = s->op->x.shape.c;
    const float *x = cpu_at(base, s->v[0]);
    const int32_t *label = cpu_at(base, s->v[1]);
    float *loss = cpu_at(base, s->v[2]), *dx = cpu_at(base, s->v[3]);
    double *each = cpu_at(base, s->v[4]), total = 0;
    for (int n = 0; n < N; n++)
        if (label[n] < 0 || label[n] >= C) return rm_fail(RM_E_ARG, "softmax_xent: label %d of sample %d is not in 0..%d", label[n], n, C - 1);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int n = 0; n < N; n++) each[n] = xent_row(s->op, x + (size_t)n * (size_t)C, label[n], dx + (size_t)n * (size_t)C);
    for (int n = 0; n < N; n++) total += each[n];
    *loss = (float)(total / N);
    return RM_OK;
}

rm_status cpu_build_xent(cpu_plan *p)
{
    const rm_tdesc x = cpu_as(p->base.op.x, p->base.op.x.dtype, RM_LAYOUT_NCHW);
    cpu_val in, out = cpu_slot(RM_DX, x);
    RM_TRY(cpu_bring(p, cpu_slot(RM_X, x), RM_F32, RM_LAYOUT_NCHW, &in));
    if (x.dtype != RM_F32) out = cpu_scratch(p, cpu_as(x, RM_F32, RM_LAYOUT_NCHW));
    const cpu_val v[] = {in, cpu_slot(RM_LABEL, x), cpu_slot(RM_LOSS, x), out, cpu_scratch_bytes(p, (size_t)x.shape.n * sizeof(double))};
    cpu_set_layouts(p, RM_LAYOUT_NCHW, 0, 0, RM_LAYOUT_NCHW);
    cpu_set_impl(p, "own");
    RM_TRY(cpu_step_own(p, run_xent, v, 5, NULL));
    return cpu_convert(p, out, cpu_slot(RM_DX, x));
}

/* ---- optimiser: the arena in pieces of fixed size, each inside one segment */
enum { PIECE = 32768 };
typedef struct piece { uint32_t segment; uint64_t start; uint32_t count; } piece;
typedef struct optim_param {
    const cpu_vec *vec;
    const rm_segment *segment;     /* the plan's copy */
    uint32_t n_piece, n_segment;
    piece piece[];
} optim_param;
enum { O_W, O_DW, O_MOMENTUM, O_HYPER, O_FLAG, O_NORMS, O_TRUST, O_COUNT };

/* Norms of each piece, then of each segment in the order of pieces: the same whatever the number of threads. */
static void trust_ratios(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const optim_param *o = s->param;
    const float *w = cpu_at(base, s->v[O_W]), *g = cpu_at(base, s->v[O_DW]);
    const double *h = cpu_at(base, s->v[O_HYPER]);
    const rm_segment *segment = o->segment;
    double *norms = cpu_at(base, s->v[O_NORMS]), (*sum)[2] = cpu_at(base, s->v[O_TRUST]);
    const double gs = h[RM_HYPER_GRAD_SCALE];
    memset(norms, 0, o->n_piece * 2 * sizeof *norms);
    memset(sum, 0, o->n_segment * sizeof *sum);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (uint32_t i = 0; i < o->n_piece; i++)
        o->vec->norms(o->piece[i].count, w + o->piece[i].start, g + o->piece[i].start, &norms[2 * i], &norms[2 * i + 1]);
    for (uint32_t i = 0; i < o->n_piece; i++) sum[o->piece[i].segment][0] += norms[2 * i], sum[o->piece[i].segment][1] += norms[2 * i + 1];
    for (uint32_t k = 0; k < o->n_segment; k++) {
        double ww = sqrt(sum[k][0]), gg = sqrt(sum[k][1]) * fabs(gs), decay = segment[k].decay ? h[RM_HYPER_DECAY] : 0;
        bool adapt = segment[k].adapt && ww > 0 && gg > 0;
        sum[k][0] = adapt ? h[RM_HYPER_ETA] * ww / (gg + decay * ww + 1e-9) : 1;
    }
}

static rm_status run_optim(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const optim_param *o = s->param;
    const rm_op *op = s->op;
    const bool lars = op->u.optim.rule == RM_LARS;
    float *w = cpu_at(base, s->v[O_W]), *m = cpu_at(base, s->v[O_MOMENTUM]);
    const float *g = cpu_at(base, s->v[O_DW]);
    const double *h = cpu_at(base, s->v[O_HYPER]);
    const double (*trust)[2] = cpu_at(base, s->v[O_TRUST]);
    int32_t *flag = cpu_at(base, s->v[O_FLAG]);
    uint64_t bad = 0;
    uint32_t first = UINT32_MAX;
    if (lars) trust_ratios(d, s, base);
#pragma omp parallel for num_threads(d->threads) schedule(static) reduction(+ : bad) reduction(min : first)
    for (uint32_t i = 0; i < o->n_piece; i++) {
        const piece *p = &o->piece[i];
        const float inside = lars ? (float)(h[RM_HYPER_LR] * trust[p->segment][0]) : 1;
        const float decay = o->segment[p->segment].decay ? (float)h[RM_HYPER_DECAY] : 0;
        const cpu_sgd k = {.lr = lars ? 1 : (float)h[RM_HYPER_LR], .momentum = (float)h[RM_HYPER_MOMENTUM], .decay = inside * decay,
                           .grad_scale = inside * (float)h[RM_HYPER_GRAD_SCALE], .nesterov = op->u.optim.nesterov};
        uint64_t n = o->vec->sgd(p->count, k, w + p->start, g + p->start, m + p->start);
        bad += n;
        if (n && p->segment < first) first = p->segment;
    }
    flag[0] = bad > INT32_MAX ? INT32_MAX : (int32_t)bad;
    flag[1] = bad ? (int32_t)first : -1;
    return RM_OK;
}

static uint32_t cut(const rm_segment *segment, uint32_t n_segment, piece *out)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < n_segment; k++)
        for (uint64_t i = 0; i < segment[k].count; i += PIECE, n++) {
            uint64_t left = segment[k].count - i;
            if (out) out[n] = (piece){k, segment[k].start + i, (uint32_t)(left < PIECE ? left : PIECE)};
        }
    return n;
}

rm_status cpu_build_optim(cpu_plan *p)
{
    const rm_op *op = &p->base.op;
    const uint32_t n_segment = op->u.optim.n_segment, n = cut(p->segment, n_segment, NULL);
    const rm_tdesc t = {0};
    optim_param *o = malloc(sizeof *o + n * sizeof o->piece[0]);
    if (!o) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    o->vec = cpu_vec_for(p->dev->block);
    o->segment = p->segment;
    o->n_piece = n;
    o->n_segment = n_segment;
    cut(p->segment, n_segment, o->piece);
    const cpu_val v[O_COUNT] = {
        [O_W] = cpu_slot(RM_W, t), [O_DW] = cpu_slot(RM_DW, t), [O_MOMENTUM] = cpu_slot(RM_MOMENTUM, t), [O_HYPER] = cpu_slot(RM_HYPER, t),
        [O_FLAG] = cpu_slot(RM_FLAG, t), [O_NORMS] = cpu_scratch_bytes(p, n * 2 * sizeof(double)),
        [O_TRUST] = cpu_scratch_bytes(p, n_segment * 2 * sizeof(double))};
    cpu_set_impl(p, "own:%s", o->vec->isa);
    return cpu_step_own(p, run_optim, v, O_COUNT, o);
}

/* ---- augment: a table of 3 x 256 values, so that a pixel is a look-up whatever mean and deviation are */
typedef struct augment_param { float value[3][256]; int32_t layout; bool half; } augment_param;

static void augment_row(const rm_op *op, const augment_param *a, const uint8_t *x, bool flip, void *y, size_t pixel, size_t channel)
{
    const int W = op->x.shape.w;
    for (int w = 0; w < W; w++) {
        const uint8_t *from = x + 3 * (flip ? W - 1 - w : w);
        for (int c = 0; c < 3; c++) cpu_put(y, (size_t)w * pixel + (size_t)c * channel, a->half, a->value[c][from[c]]);
    }
}

static rm_status run_augment(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const augment_param *a = s->param;
    const uint8_t *x = cpu_at(base, s->v[0]), *flip = cpu_at(base, s->v[1]);
    char *y = cpu_at(base, s->v[2]);
    const size_t N = (size_t)s->op->x.shape.n, H = (size_t)s->op->x.shape.h, W = (size_t)s->op->x.shape.w;
    const bool nhwc = a->layout == RM_LAYOUT_NHWC;
#pragma omp parallel for collapse(2) num_threads(d->threads) schedule(static)
    for (size_t n = 0; n < N; n++)
        for (size_t h = 0; h < H; h++) {
            size_t to = nhwc ? (n * H + h) * W * 3 : n * 3 * H * W + h * W;
            augment_row(s->op, a, x + (n * H + h) * W * 3, flip[n] != 0, y + to * (a->half ? 2 : 4), nhwc ? 3 : 1, nhwc ? 1 : H * W);
        }
    return RM_OK;
}

rm_status cpu_build_augment(cpu_plan *p)
{
    const rm_op *op = &p->base.op;
    rm_tdesc y = op->y;
    if (y.layout == RM_LAYOUT_ANY || !cpu_bytes(&y)) y.layout = RM_LAYOUT_NCHW;
    augment_param *a = malloc(sizeof *a);
    if (!a) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 256; i++)
            a->value[c][i] = (float)((i / 255.0 - (double)op->u.augment.mean[c]) / (double)op->u.augment.std[c]);
    const bool direct = y.layout == RM_LAYOUT_NCHW || y.layout == RM_LAYOUT_NHWC;
    const rm_tdesc plain = cpu_as(y, y.dtype, direct ? y.layout : RM_LAYOUT_NCHW);
    a->layout = plain.layout;
    a->half = y.dtype == RM_BF16;
    cpu_val out = direct ? cpu_slot(RM_Y, y) : cpu_scratch(p, plain);
    const cpu_val v[] = {cpu_slot(RM_X, op->x), cpu_slot(RM_FLIP, op->x), out};
    cpu_set_layouts(p, RM_LAYOUT_NHWC, 0, 0, y.layout);
    cpu_set_impl(p, "own");
    RM_TRY(cpu_step_own(p, run_augment, v, 3, a));
    return cpu_convert(p, out, cpu_slot(RM_Y, y));
}
