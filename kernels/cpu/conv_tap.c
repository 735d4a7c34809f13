/* Convolution of small images as a sum of matrix products, one a tap of the window and a row of outputs.
 *
 * With images of a few pixels much of a window lies in the padding: a third of the multiplications of a 3 x 3 window on
 * 4 x 4 pixels, five ninths on 2 x 2. Here only taps inside the image are multiplied. Pixels are the outer index and the
 * batch the inner one, so that a run of pixels is one tall matrix:
 *   forward        y (pixel, n, o) += x (pixel', n, i) w (tap, o, i)^T
 *   backward data  dx (pixel', n, i) += dy (pixel, n, o) w (tap, i, o)^T
 *   weights        dw (tap, o, i) += dy (o, pixel, n) x (i, pixel', n)^T
 * Columns of the input are stored by their remainder modulo the stride, so that a strided run is contiguous too. */
#include "kernels/cpu/cpu.h"
#include <stdlib.h>
#include <string.h>

enum { NARROW = 8 };   /* wider images gain too little */

typedef struct tap_param { cpu_geom x, y; bool half; int k, stride, pad; } tap_param;
typedef struct tap_run { int tap, out, in, pixels; } tap_run;   /* first pixels of a run, and its length */

static bool whole_groups(const cpu_device *d, rm_tdesc t)
{
    cpu_geom g;
    return cpu_geometry(d, &t, &g) && g.c % g.width == 0;
}

bool cpu_tap_applies(const cpu_device *d, const rm_op *op)
{
    const int32_t blocked = cpu_blocked_layout(d->block);
    const bool small = op->y.shape.w <= NARROW && (op->u.win.k > 1 || op->code == RM_OP_CONV_BWD_WEIGHTS);
    return small && whole_groups(d, cpu_as(op->x, op->x.dtype, blocked)) && whole_groups(d, cpu_as(op->y, op->x.dtype, blocked));
}

/* ---- packing: step (n, h, w) of an activation to its place among pixels */
static int column(int w, int width, int stride)
{
    int r = w % stride, before = 0;
    for (int i = 0; i < r; i++) before += (width - i + stride - 1) / stride;
    return before + w / stride;
}

typedef struct pack { const cpu_geom *g; int stride; bool half, back; } pack;

static void pack_pixel(const pack *p, char *act, float *rows, int pixel, int n)
{
    const cpu_geom *g = p->g;
    const int w = pixel % g->w, to = pixel - w + column(w, g->w, p->stride);
    float *row = rows + ((size_t)to * (size_t)g->n + (size_t)n) * (size_t)g->c;
    for (int group = 0; group < g->groups; group++, row += g->width) {
        const size_t i = (size_t)n * g->n_stride + (size_t)group * g->g_stride + (size_t)pixel * g->p_stride;
        if (p->half && p->back) g->vec->to_bf16((size_t)g->width, row, (uint16_t *)act + i);
        else if (p->half) g->vec->to_f32((size_t)g->width, (uint16_t *)act + i, row);
        else if (p->back) memcpy((float *)act + i, row, (size_t)g->width * sizeof *row);
        else memcpy(row, (float *)act + i, (size_t)g->width * sizeof *row);
    }
}

/* Activation <-> (pixel, n, c) */
static void pack_rows(const pack *p, void *act, float *rows, int threads)
{
    const int pixels = p->g->h * p->g->w, images = p->g->n;
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
    for (int pixel = 0; pixel < pixels; pixel++)
        for (int n = 0; n < images; n++) pack_pixel(p, act, rows, pixel, n);
}

/* Activation -> (c, pixel, n): a group's pixel is gathered over the batch, then written channel by channel. */
static void pack_columns(const pack *p, const void *act, float *columns, int threads)
{
    const cpu_geom *g = p->g;
    const int pixels = g->h * g->w;
    const size_t N = (size_t)g->n;
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
    for (int group = 0; group < g->groups; group++)
        for (int pixel = 0; pixel < pixels; pixel++) {
            const int w = pixel % g->w, to = pixel - w + column(w, g->w, p->stride);
            const size_t from = (size_t)group * g->g_stride + (size_t)pixel * g->p_stride;
            float *out = columns + ((size_t)(group * g->width) * (size_t)pixels + (size_t)to) * N;
            for (size_t n = 0; n < N; n++)
                for (int l = 0; l < g->width; l++)
                    out[(size_t)l * (size_t)pixels * N + n] = cpu_get(act, n * g->n_stride + from + (size_t)l, p->half);
        }
}

/* ---- the runs of a convolution */
/* Outputs begin..end-1 are those whose tap `k` falls inside an input of `in` pixels. */
static void inside(const tap_param *t, int k, int in, int outs, int *begin, int *end)
{
    const int before = t->pad - k, last = in - 1 + t->pad - k;
    *begin = before > 0 ? (before + t->stride - 1) / t->stride : 0;
    *end = last < 0 ? 0 : last / t->stride + 1;
    if (*end > outs) *end = outs;
    if (*begin > *end) *begin = *end;
}

typedef rm_status (*tap_gemm)(const tap_param *t, tap_run r, const float *a, const float *b, float *c, const rm_op *op);

static rm_status each_run(const tap_param *t, tap_gemm gemm, const float *a, const float *b, float *c, const rm_op *op)
{
    for (int tap = 0; tap < t->k * t->k; tap++) {
        int kh = tap / t->k, kw = tap % t->k, h0, h1, w0, w1;
        inside(t, kh, t->x.h, t->y.h, &h0, &h1);
        inside(t, kw, t->x.w, t->y.w, &w0, &w1);
        if (w0 >= w1) continue;
        const bool whole = t->stride == 1 && w1 - w0 == t->y.w && t->x.w == t->y.w; /* rows follow each other: one run */
        for (int oh = h0; oh < h1; oh += whole ? h1 - h0 : 1) {
            const int ih = oh * t->stride - t->pad + kh, iw = w0 * t->stride - t->pad + kw;
            const tap_run r = {.tap = tap, .out = oh * t->y.w + w0, .in = ih * t->x.w + column(iw, t->x.w, t->stride),
                               .pixels = (w1 - w0) * (whole ? h1 - h0 : 1)};
            RM_TRY(gemm(t, r, a, b, c, op));
        }
    }
    return RM_OK;
}

static rm_status gemm_forward(const tap_param *t, tap_run r, const float *x, const float *w, float *y, const rm_op *op)
{
    const dnnl_dim_t N = t->x.n, I = t->x.c, O = t->y.c;
    return cpu_check(dnnl_sgemm('N', 'T', r.pixels * N, O, I, 1, x + r.in * N * I, I, w + r.tap * O * I, I, 1, y + r.out * N * O, O), op, "sgemm");
}
static rm_status gemm_data(const tap_param *t, tap_run r, const float *dy, const float *w, float *dx, const rm_op *op)
{
    const dnnl_dim_t N = t->x.n, I = t->x.c, O = t->y.c;
    return cpu_check(dnnl_sgemm('N', 'T', r.pixels * N, I, O, 1, dy + r.out * N * O, O, w + r.tap * O * I, O, 1, dx + r.in * N * I, I), op, "sgemm");
}
static rm_status gemm_weights(const tap_param *t, tap_run r, const float *dy, const float *x, float *dw, const rm_op *op)
{
    const dnnl_dim_t N = t->x.n, I = t->x.c, O = t->y.c, in = (dnnl_dim_t)t->x.h * t->x.w * N, out = (dnnl_dim_t)t->y.h * t->y.w * N;
    return cpu_check(dnnl_sgemm('N', 'T', O, I, r.pixels * N, 1, dy + r.out * N, out, x + r.in * N, in, 1, dw + r.tap * O * I, I), op, "sgemm");
}

static void clear(float *p, size_t count, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < count; i += 4096) memset(p + i, 0, (count - i < 4096 ? count - i : 4096) * sizeof *p);
}

static size_t count_of(const cpu_geom *g) { return (size_t)g->n * (size_t)g->c * (size_t)g->h * (size_t)g->w; }

/* v: activation in, weights in, activation out, packed in, packed out */
static rm_status run_rows(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const tap_param *t = s->param;
    const bool forward = s->op->code == RM_OP_CONV;
    const pack px = {&t->x, t->stride, t->half, !forward}, py = {&t->y, 1, t->half, forward};
    float *in = cpu_at(base, s->v[3]), *out = cpu_at(base, s->v[4]);
    pack_rows(forward ? &px : &py, cpu_at(base, s->v[0]), in, d->threads);
    clear(out, count_of(forward ? &t->y : &t->x), d->threads);
    RM_TRY(each_run(t, forward ? gemm_forward : gemm_data, in, cpu_at(base, s->v[1]), out, s->op));
    pack_rows(forward ? &py : &px, cpu_at(base, s->v[2]), out, d->threads);
    return RM_OK;
}

/* v: x, dy, dw, packed x, packed dy */
static rm_status run_weights(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const tap_param *t = s->param;
    const pack px = {&t->x, t->stride, t->half, false}, py = {&t->y, 1, t->half, false};
    float *dw = cpu_at(base, s->v[2]), *x = cpu_at(base, s->v[3]), *dy = cpu_at(base, s->v[4]);
    pack_columns(&px, cpu_at(base, s->v[0]), x, d->threads);
    pack_columns(&py, cpu_at(base, s->v[1]), dy, d->threads);
    clear(dw, rm_shape_count(s->op->w.shape), d->threads);
    return each_run(t, gemm_weights, dy, x, dw, s->op);
}

static rm_status make_param(cpu_plan *p, int32_t xl, int32_t yl, tap_param **out_param)
{
    const rm_op *op = &p->base.op;
    const rm_tdesc x = cpu_as(op->x, op->x.dtype, xl), y = cpu_as(op->y, op->x.dtype, yl);
    if (!whole_groups(p->dev, x) || !whole_groups(p->dev, y)) return rm_fail(RM_E_UNSUPPORTED, "cpu: these layouts have no whole groups");
    tap_param *t = calloc(1, sizeof *t);
    if (!t) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    cpu_geometry(p->dev, &x, &t->x);
    cpu_geometry(p->dev, &y, &t->y);
    t->half = op->x.dtype == RM_BF16;
    t->k = op->u.win.k, t->stride = op->u.win.stride, t->pad = op->u.win.pad;
    *out_param = t;
    return RM_OK;
}

rm_status cpu_build_conv_tap(cpu_plan *p, int32_t x_layout, int32_t y_layout)
{
    const rm_op *op = &p->base.op;
    const bool weights = op->code == RM_OP_CONV_BWD_WEIGHTS, forward = op->code == RM_OP_CONV;
    const int32_t w_layout = cpu_tag_layout(op->code == RM_OP_CONV_BWD_DATA ? dnnl_hwio : dnnl_hwoi);
    const rm_tdesc x = cpu_as(op->x, op->x.dtype, x_layout), y = cpu_as(op->y, op->y.dtype, y_layout), w = cpu_as(op->w, op->w.dtype, w_layout);
    tap_param *t = NULL;
    cpu_val v[5];
    RM_TRY(make_param(p, x_layout, y_layout, &t));
    rm_status st = RM_OK;
    if (weights) v[0] = cpu_slot(RM_X, x), v[1] = cpu_slot(RM_DY, y);
    else v[0] = forward ? cpu_slot(RM_X, x) : cpu_slot(RM_DY, y);
    if (weights) v[2] = w.dtype == RM_F32 ? cpu_slot(RM_DW, w) : cpu_scratch(p, cpu_as(w, RM_F32, w_layout));
    else v[2] = forward ? cpu_slot(RM_Y, y) : cpu_slot(RM_DX, x);
    if (!weights) st = cpu_bring(p, cpu_slot(RM_W, w), RM_F32, w_layout, &v[1]);
    if (st != RM_OK) { free(t); return st; }
    const size_t in = count_of(&t->x) * sizeof(float), out = count_of(&t->y) * sizeof(float);
    v[3] = cpu_scratch_bytes(p, weights || forward ? in : out);
    v[4] = cpu_scratch_bytes(p, weights || forward ? out : in);
    cpu_set_layouts(p, x_layout, 0, w_layout, y_layout);
    cpu_set_impl(p, "%sreorder+taps:sgemm", t->half ? "emulated bf16: " : "");
    RM_TRY(cpu_step_own(p, weights ? run_weights : run_rows, v, 5, t));
    return weights ? cpu_convert(p, v[2], cpu_slot(RM_DW, w)) : RM_OK;
}
