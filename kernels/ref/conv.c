/* Convolutions by definition: y[n,o,i,j] = sum over c,a,b of x[n,c,i*s+a-p,j*s+b-p] * w[o,c,a,b], and its two transposes.
 * All three visit the same (output row, input row, weight) triples; only what is done with a triple differs. */
#include "kernels/ref/ref.h"
#include <string.h>

/* A 1x1 convolution without stride does not care where pixels lie: its image is taken as one row. */
typedef struct geometry { int64_t n, c, h, w, o, oh, ow, k, s, p; } geometry;

static geometry geometry_of(const rm_op *op)
{
    geometry g = { op->x.shape.n, op->x.shape.c, op->x.shape.h, op->x.shape.w, op->w.shape.n, op->y.shape.h, op->y.shape.w,
                   op->u.win.k, op->u.win.stride, op->u.win.pad };
    if (g.k == 1 && g.s == 1 && g.p == 0) { g.w = g.ow = g.h * g.w; g.h = g.oh = 1; }
    return g;
}

/* The outputs j of a row for which the input column j*s + b - p lies inside 0..w-1: [*j0, *j1). */
static void columns(const geometry *g, int64_t b, int64_t *j0, int64_t *j1)
{
    int64_t first = g->p - b, last = g->w - 1 + g->p - b;
    *j0 = first <= 0 ? 0 : (first + g->s - 1) / g->s;
    *j1 = last < 0 ? 0 : last / g->s + 1;
    if (*j1 > g->ow) *j1 = g->ow;
}

typedef enum pass { FORWARD, DATA, WEIGHTS } pass;

static double dot(int64_t n, const double *a, const double *b, int64_t stride)
{
    double sum[4] = { 0, 0, 0, 0 };
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int l = 0; l < 4; l++) sum[l] += a[i + l] * b[(i + l) * stride];
    for (; i < n; i++) sum[0] += a[i] * b[i * stride];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* One plane of y against one plane of x with the k x k weights between them. */
static void plane(const geometry *g, pass what, double *x, double *w, double *y)
{
    for (int64_t a = 0; a < g->k; a++) {
        for (int64_t b = 0; b < g->k; b++) {
            double *weight = &w[a * g->k + b];
            int64_t j0, j1;
            columns(g, b, &j0, &j1);
            for (int64_t i = 0; i < g->oh; i++) {
                int64_t row = i * g->s + a - g->p;
                if (row < 0 || row >= g->h || j1 <= j0) continue;
                double *in = x + row * g->w + (j0 * g->s + b - g->p), *out = y + i * g->ow + j0;
                int64_t n = j1 - j0, s = g->s;
                double v = *weight;
                if (what == FORWARD && s == 1) for (int64_t j = 0; j < n; j++) out[j] += v * in[j];
                else if (what == FORWARD) for (int64_t j = 0; j < n; j++) out[j] += v * in[j * s];
                else if (what == DATA && s == 1) for (int64_t j = 0; j < n; j++) in[j] += v * out[j];
                else if (what == DATA) for (int64_t j = 0; j < n; j++) in[j * s] += v * out[j];
                else *weight += dot(n, out, in, s);
            }
        }
    }
}

static rm_status conv(const rm_op *op, pass what, double *x, double *w, double *y)
{
    const geometry g = geometry_of(op);
    for (int64_t n = 0; n < g.n; n++)
        for (int64_t o = 0; o < g.o; o++)
            for (int64_t c = 0; c < g.c; c++)
                plane(&g, what, x + (n * g.c + c) * g.h * g.w, w + (o * g.c + c) * g.k * g.k, y + (n * g.o + o) * g.oh * g.ow);
    return RM_OK;
}

rm_status ref_conv(const rm_op *op, void *const t[])
{
    memset(t[RM_Y], 0, rm_shape_count(op->y.shape) * sizeof(double));
    return conv(op, FORWARD, t[RM_X], t[RM_W], t[RM_Y]);
}

rm_status ref_conv_bwd_data(const rm_op *op, void *const t[])
{
    memset(t[RM_DX], 0, rm_shape_count(op->x.shape) * sizeof(double));
    return conv(op, DATA, t[RM_DX], t[RM_W], t[RM_DY]);
}

rm_status ref_conv_bwd_weights(const rm_op *op, void *const t[])
{
    memset(t[RM_DW], 0, rm_shape_count(op->w.shape) * sizeof(double));
    return conv(op, WEIGHTS, t[RM_X], t[RM_DW], t[RM_DY]);
}

/* ---- fully connected: y[n,o] = bias[o] + sum over c of x[n,c] w[o,c] */
rm_status ref_fc(const rm_op *op, void *const t[])
{
    const double *x = t[RM_X], *w = t[RM_W], *bias = t[RM_BETA];
    double *y = t[RM_Y];
    int64_t C = op->x.shape.c, O = op->w.shape.n;
    for (int64_t n = 0; n < op->x.shape.n; n++)
        for (int64_t o = 0; o < O; o++) y[n * O + o] = bias[o] + dot(C, x + n * C, w + o * C, 1);
    return RM_OK;
}

rm_status ref_fc_bwd_data(const rm_op *op, void *const t[])
{
    const double *dy = t[RM_DY], *w = t[RM_W];
    double *dx = t[RM_DX];
    int64_t N = op->x.shape.n, C = op->x.shape.c, O = op->w.shape.n;
    memset(dx, 0, (size_t)(N * C) * sizeof *dx);
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++)
            for (int64_t c = 0; c < C; c++) dx[n * C + c] += dy[n * O + o] * w[o * C + c];
    return RM_OK;
}

rm_status ref_fc_bwd_weights(const rm_op *op, void *const t[])
{
    const double *dy = t[RM_DY], *x = t[RM_X];
    double *dw = t[RM_DW], *dbias = t[RM_DBETA];
    int64_t N = op->x.shape.n, C = op->x.shape.c, O = op->w.shape.n;
    memset(dw, 0, (size_t)(O * C) * sizeof *dw);
    memset(dbias, 0, (size_t)O * sizeof *dbias);
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++) {
            dbias[o] += dy[n * O + o];
            for (int64_t c = 0; c < C; c++) dw[o * C + c] += dy[n * O + o] * x[n * C + c];
        }
    return RM_OK;
}
