/* Batch normalisation, ReLU, add. Statistics are over n, h, w of each channel; the batch variance is the biased one. */
#include "kernels/ref/ref.h"
#include <math.h>

typedef struct dims { int64_t n, c, hw; } dims;
static dims dims_of(const rm_op *op)
{
    return (dims){ op->x.shape.n, op->x.shape.c, (int64_t)op->x.shape.h * op->x.shape.w };
}

/* Channel c of sample n begins at ((n*C) + c) * HW. */
#define EACH_PIXEL(d, c, i)                                                                                         \
    for (int64_t n_ = 0; n_ < (d).n; n_++)                                                                          \
        for (int64_t i = (n_ * (d).c + (c)) * (d).hw, end_ = i + (d).hw; i < end_; i++)

static void batch_stats(dims d, const double *x, int64_t c, double *mean, double *var)
{
    double sum = 0, square = 0, m = (double)(d.n * d.hw);
    EACH_PIXEL(d, c, i) sum += x[i];
    *mean = sum / m;
    EACH_PIXEL(d, c, i) square += (x[i] - *mean) * (x[i] - *mean);
    *var = square / m;
}

static double moved(double running, double batch, double momentum) { return (1 - momentum) * running + momentum * batch; }

rm_status ref_bn(const rm_op *op, void *const t[])
{
    const dims d = dims_of(op);
    const double *x = t[RM_X], *x2 = t[RM_X2], *gamma = t[RM_GAMMA], *beta = t[RM_BETA], m = (double)(d.n * d.hw);
    double *y = t[RM_Y], *rmean = t[RM_RMEAN], *rvar = t[RM_RVAR], *saved = t[RM_SAVED];
    for (int64_t c = 0; c < d.c; c++) {
        double mean = rmean[c], var = rvar[c];
        if (op->u.bn.training) {
            batch_stats(d, x, c, &mean, &var);
            rmean[c] = moved(rmean[c], mean, (double)op->u.bn.momentum);
            rvar[c] = moved(rvar[c], op->u.bn.unbiased ? var * m / (m - 1) : var, (double)op->u.bn.momentum);
        }
        double invstd = 1 / sqrt(var + (double)op->u.bn.eps);
        if (op->u.bn.training) { saved[c] = mean; saved[d.c + c] = invstd; }
        EACH_PIXEL(d, c, i) {
            double v = gamma[c] * ((x[i] - mean) * invstd) + beta[c];
            if (op->u.bn.add) v += x2[i];
            y[i] = op->u.bn.relu && !(v > 0) && !isnan(v) ? 0 : v;
        }
    }
    return RM_OK;
}

/* dz = (y > 0) (dy + dy2); dbeta = sum dz; dgamma = sum dz xhat; dx = gamma/std (dz - dbeta/m - xhat dgamma/m), where the two
 * last terms, what the batch's statistics have of x, are zero when it was not training. */
rm_status ref_bn_bwd(const rm_op *op, void *const t[])
{
    const dims d = dims_of(op);
    const double *x = t[RM_X], *y = t[RM_Y], *dy = t[RM_DY], *dy2 = t[RM_DY2], *gamma = t[RM_GAMMA], *saved = t[RM_SAVED];
    const double *rmean = t[RM_RMEAN], *rvar = t[RM_RVAR];
    const bool training = op->u.bn.training;
    double *dx = t[RM_DX], *dx2 = t[RM_DX2], *dgamma = t[RM_DGAMMA], *dbeta = t[RM_DBETA], m = (double)(d.n * d.hw);
    for (int64_t c = 0; c < d.c; c++) {
        double mean = training ? saved[c] : rmean[c], invstd = training ? saved[d.c + c] : 1 / sqrt(rvar[c] + op->u.bn.eps), sum = 0, sum_xhat = 0;
        EACH_PIXEL(d, c, i) { /* dx may be dy itself: it holds dz between the two loops */
            double dz = op->u.bn.relu && !(y[i] > 0) ? 0 : dy[i] + (op->dy2 ? dy2[i] : 0);
            sum += dz;
            sum_xhat += dz * ((x[i] - mean) * invstd);
            if (op->u.bn.add) dx2[i] = dz;
            dx[i] = dz;
        }
        EACH_PIXEL(d, c, i) dx[i] = gamma[c] * invstd * (training ? dx[i] - sum / m - (x[i] - mean) * invstd * sum_xhat / m : dx[i]);
        dgamma[c] = sum_xhat;
        dbeta[c] = sum;
    }
    return RM_OK;
}

rm_status ref_relu(const rm_op *op, void *const t[])
{
    const double *x = t[RM_X];
    double *y = t[RM_Y];
    for (uint64_t i = 0, n = rm_shape_count(op->x.shape); i < n; i++) y[i] = x[i] > 0 || isnan(x[i]) ? x[i] : 0;
    return RM_OK;
}

rm_status ref_relu_bwd(const rm_op *op, void *const t[])
{
    const double *y = t[RM_Y], *dy = t[RM_DY], *dy2 = t[RM_DY2];
    double *dx = t[RM_DX];
    for (uint64_t i = 0, n = rm_shape_count(op->x.shape); i < n; i++) dx[i] = y[i] > 0 ? dy[i] + (op->dy2 ? dy2[i] : 0) : 0;
    return RM_OK;
}

rm_status ref_add(const rm_op *op, void *const t[])
{
    const double *x = t[RM_X], *x2 = t[RM_X2];
    double *y = t[RM_Y];
    for (uint64_t i = 0, n = rm_shape_count(op->x.shape); i < n; i++) y[i] = x[i] + x2[i];
    return RM_OK;
}
