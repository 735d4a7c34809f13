/* Max pooling (a tie goes to the first in scan order; padding never wins) and the global average. */
#include "kernels/ref/ref.h"
#include <math.h>
#include <string.h>

static int32_t argmax(const rm_op *op, const double *x, int32_t i, int32_t j)
{
    int32_t k = op->u.win.k, s = op->u.win.stride, p = op->u.win.pad, H = op->x.shape.h, W = op->x.shape.w, best = -1;
    for (int32_t a = i * s - p; a < i * s - p + k; a++)
        for (int32_t b = j * s - p; b < j * s - p + k; b++) {
            if (a < 0 || a >= H || b < 0 || b >= W) continue;
            double v = x[(int64_t)a * W + b];
            if (best < 0 || v > x[best] || isnan(v)) best = a * W + b;
        }
    return best;
}

rm_status ref_maxpool(const rm_op *op, void *const t[])
{
    const double *x = t[RM_X];
    double *y = t[RM_Y];
    int32_t *where = t[RM_SAVED], OH = op->y.shape.h, OW = op->y.shape.w;
    int64_t planes = (int64_t)op->x.shape.n * op->x.shape.c, in = (int64_t)op->x.shape.h * op->x.shape.w;
    for (int64_t q = 0; q < planes; q++)
        for (int32_t i = 0; i < OH; i++)
            for (int32_t j = 0; j < OW; j++) {
                int64_t at = (q * OH + i) * OW + j;
                where[at] = argmax(op, x + q * in, i, j);
                y[at] = x[q * in + where[at]];
            }
    return RM_OK;
}

rm_status ref_maxpool_bwd(const rm_op *op, void *const t[])
{
    const double *dy = t[RM_DY];
    const int32_t *where = t[RM_SAVED];
    double *dx = t[RM_DX];
    int64_t planes = (int64_t)op->x.shape.n * op->x.shape.c, in = (int64_t)op->x.shape.h * op->x.shape.w;
    int64_t out = (int64_t)op->y.shape.h * op->y.shape.w;
    memset(dx, 0, (size_t)(planes * in) * sizeof *dx);
    for (int64_t q = 0; q < planes; q++)
        for (int64_t i = 0; i < out; i++) dx[q * in + where[q * out + i]] += dy[q * out + i];
    return RM_OK;
}

rm_status ref_avgpool(const rm_op *op, void *const t[])
{
    const double *x = t[RM_X];
    double *y = t[RM_Y];
    int64_t planes = (int64_t)op->x.shape.n * op->x.shape.c, in = (int64_t)op->x.shape.h * op->x.shape.w;
    for (int64_t q = 0; q < planes; q++) {
        double sum = 0;
        for (int64_t i = 0; i < in; i++) sum += x[q * in + i];
        y[q] = sum / (double)in;
    }
    return RM_OK;
}

rm_status ref_avgpool_bwd(const rm_op *op, void *const t[])
{
    const double *dy = t[RM_DY];
    double *dx = t[RM_DX];
    int64_t planes = (int64_t)op->x.shape.n * op->x.shape.c, in = (int64_t)op->x.shape.h * op->x.shape.w;
    for (int64_t q = 0; q < planes; q++)
        for (int64_t i = 0; i < in; i++) dx[q * in + i] = dy[q] / (double)in;
    return RM_OK;
}
