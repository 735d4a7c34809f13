/* Loss, optimiser, and the ops that move data. */
#include "kernels/ref/ref.h"
#include <math.h>
#include <string.h>

/* loss_n = -(1-e) log p[label] - e/C sum_c log p[c]; dx = scale/N (p - (1-e) [c = label] - e/C). */
rm_status ref_softmax_xent(const rm_op *op, void *const t[])
{
    const double *x = t[RM_X], e = (double)op->u.xent.label_smoothing, scale = (double)op->u.xent.scale;
    const int32_t *label = t[RM_LABEL];
    double *loss = t[RM_LOSS], *dx = t[RM_DX], total = 0;
    int32_t N = op->x.shape.n, C = op->x.shape.c;
    for (int32_t n = 0; n < N; n++, x += C, dx += C) {
        if (label[n] < 0 || label[n] >= C)
            return rm_fail(RM_E_ARG, "softmax_xent: label %d of sample %d is not in 0..%d", label[n], n, C - 1);
        double top = x[0], sum = 0, log_sum, mean_log = 0;
        for (int32_t c = 1; c < C; c++) top = x[c] > top || isnan(x[c]) ? x[c] : top;
        for (int32_t c = 0; c < C; c++) sum += exp(x[c] - top);
        log_sum = top + log(sum);
        for (int32_t c = 0; c < C; c++) {
            mean_log += (x[c] - log_sum) / C;
            dx[c] = scale / N * (exp(x[c] - log_sum) - (c == label[n] ? 1 - e : 0) - e / C);
        }
        total -= (1 - e) * (x[label[n]] - log_sum) + e * mean_log;
    }
    *loss = total / N;
    return RM_OK;
}

/* ---- optimiser */
typedef struct hyper { double lr, momentum, decay, scale, eta; } hyper;

static double trust_of(const rm_op *op, const rm_segment *s, const double *w, const double *dw, hyper h)
{
    double ww = 0, gg = 0;
    if (op->u.optim.rule != RM_LARS || !s->adapt) return 1;
    for (uint64_t i = s->start; i < s->start + s->count; i++) { ww += w[i] * w[i]; gg += dw[i] * h.scale * (dw[i] * h.scale); }
    if (!(ww > 0) || !(gg > 0)) return 1;
    return h.eta * sqrt(ww) / (sqrt(gg) + (s->decay ? h.decay : 0) * sqrt(ww) + 1e-9);
}

static void update_segment(const rm_op *op, const rm_segment *s, double *w, const double *dw, double *v, hyper h)
{
    double trust = trust_of(op, s, w, dw, h), decay = s->decay ? h.decay : 0;
    double inside = op->u.optim.rule == RM_LARS ? h.lr * trust : 1, outside = op->u.optim.rule == RM_LARS ? 1 : h.lr;
    for (uint64_t i = s->start; i < s->start + s->count; i++) {
        double g = inside * (dw[i] * h.scale + decay * w[i]);
        v[i] = h.momentum * v[i] + g;
        w[i] -= outside * (op->u.optim.nesterov ? g + h.momentum * v[i] : v[i]);
    }
}

rm_status ref_optim(const rm_op *op, void *const t[])
{
    const double *value = t[RM_HYPER];
    const hyper h = { value[RM_HYPER_LR], value[RM_HYPER_MOMENTUM], value[RM_HYPER_DECAY],
                      value[RM_HYPER_GRAD_SCALE], value[RM_HYPER_ETA] };
    const double *dw = t[RM_DW];
    int32_t *flag = t[RM_FLAG], bad = 0, first = -1;
    for (uint32_t k = 0; k < op->u.optim.n_segment; k++) {
        const rm_segment *s = &op->u.optim.segment[k];
        for (uint64_t i = s->start; i < s->start + s->count; i++) {
            if (isfinite(dw[i])) continue;
            if (first < 0) first = (int32_t)k;
            if (bad < INT32_MAX) bad++;
        }
        update_segment(op, s, t[RM_W], dw, t[RM_MOMENTUM], h);
    }
    flag[0] = bad;
    flag[1] = first;
    return RM_OK;
}

/* ---- moving data */
rm_status ref_reorder(const rm_op *op, void *const t[])
{
    memcpy(t[RM_Y], t[RM_X], rm_shape_count(op->x.shape) * sizeof(double));
    return RM_OK;
}

rm_status ref_augment(const rm_op *op, void *const t[])
{
    const uint8_t *x = t[RM_X], *flip = t[RM_FLIP];
    double *y = t[RM_Y];
    int64_t H = op->x.shape.h, W = op->x.shape.w;
    for (int64_t n = 0; n < op->x.shape.n; n++)
        for (int64_t c = 0; c < 3; c++)
            for (int64_t h = 0; h < H; h++)
                for (int64_t w = 0; w < W; w++) {
                    int64_t from = flip[n] ? W - 1 - w : w;
                    double v = x[((n * H + h) * W + from) * 3 + c] / 255.0;
                    y[((n * 3 + c) * H + h) * W + w] = (v - (double)op->u.augment.mean[c]) / (double)op->u.augment.std[c];
                }
    return RM_OK;
}
