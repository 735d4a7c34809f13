/* Max-pool and global average pool. SAVED of max-pool holds, beside each output element, which tap of the window was the
 * (first) maximum; backward gathers, so that every input pixel is written once and by one thread. */
#include "kernels/cpu/cpu.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_TAPS = 256 }; /* a byte of SAVED */

typedef struct pool_param { cpu_geom x, y; bool half; int k, stride, pad; } pool_param;

static size_t at(const cpu_geom *g, int n, int group, int h, int w)
{
    return (size_t)n * g->n_stride + (size_t)group * g->g_stride + ((size_t)h * (size_t)g->w + (size_t)w) * g->p_stride;
}
static const char *element(const pool_param *p, const void *base, size_t i) { return (const char *)base + i * (p->half ? 2 : 4); }
static cpu_run one_pixel(const pool_param *p, int pixels)
{
    return (cpu_run){.stride = p->x.p_stride, .images = 1, .pixels = pixels, .nv = p->x.width / p->x.vec->lanes, .half = p->half};
}

/* ---- max */
static cpu_pool window_of(const pool_param *p)
{
    return (cpu_pool){.stride_x = p->x.p_stride, .stride_y = p->y.p_stride, .xh = p->x.h, .xw = p->x.w, .yh = p->y.h, .yw = p->y.w,
                      .k = p->k, .stride = p->stride, .pad = p->pad, .nv = p->x.width / p->x.vec->lanes, .half = p->half};
}

static rm_status run_max(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const pool_param *p = s->param;
    const cpu_pool window = window_of(p);
    const void *x = cpu_at(base, s->v[0]);
    char *y = cpu_at(base, s->v[1]);
    uint8_t *saved = cpu_at(base, s->v[2]);
#pragma omp parallel for collapse(2) num_threads(d->threads) schedule(static)
    for (int n = 0; n < p->x.n; n++)
        for (int group = 0; group < p->x.groups; group++) {
            const size_t to = at(&p->y, n, group, 0, 0);
            for (int oh = 0; oh < p->y.h; oh++)
                p->x.vec->max(&window, element(p, x, at(&p->x, n, group, 0, 0)), oh, y + to * (p->half ? 2 : 4), saved + to);
        }
    return RM_OK;
}

static rm_status run_unmax(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const pool_param *p = s->param;
    const cpu_pool window = window_of(p);
    const void *dy = cpu_at(base, s->v[0]);
    const uint8_t *saved = cpu_at(base, s->v[1]);
    char *dx = cpu_at(base, s->v[2]);
#pragma omp parallel for collapse(2) num_threads(d->threads) schedule(static)
    for (int n = 0; n < p->x.n; n++)
        for (int group = 0; group < p->x.groups; group++) {
            const size_t from = at(&p->y, n, group, 0, 0), to = at(&p->x, n, group, 0, 0);
            for (int h = 0; h < p->x.h; h++)
                p->x.vec->unmax(&window, element(p, dy, from), saved + from, h, dx + to * (p->half ? 2 : 4));
        }
    return RM_OK;
}

static rm_status pool_new(cpu_plan *p, bool windowed, pool_param **out_param)
{
    const rm_op *op = &p->base.op;
    rm_tdesc x = op->x, y = op->y;
    x.layout = cpu_activation_layout(p->dev, &x);
    y.layout = windowed ? x.layout : RM_LAYOUT_NCHW;
    pool_param *q = calloc(1, sizeof *q);
    if (!q) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    if (!cpu_geometry(p->dev, &x, &q->x) || (windowed && !cpu_geometry(p->dev, &y, &q->y))) RM_BUG("the preferred layout is not understood");
    q->half = x.dtype == RM_BF16;
    if (windowed) q->k = op->u.win.k, q->stride = op->u.win.stride, q->pad = op->u.win.pad;
    cpu_set_layouts(p, x.layout, 0, 0, y.layout);
    cpu_set_impl(p, "own:%s", q->x.vec->isa);
    *out_param = q;
    return RM_OK;
}

static rm_status check_window(const rm_op *op)
{
    if (op->u.win.k * op->u.win.k <= MAX_TAPS) return RM_OK;
    return rm_fail(RM_E_UNSUPPORTED, "cpu: max-pool windows larger than 16 x 16 are not supported");
}

static rm_status build_max(cpu_plan *p, rm_status (*run)(const cpu_device *, const cpu_step *, void *const *), rm_slot a, rm_slot b,
                           rm_slot c)
{
    pool_param *q = NULL;
    RM_TRY(check_window(&p->base.op));
    RM_TRY(pool_new(p, true, &q));
    p->base.info.saved_bytes = (size_t)q->y.n * q->y.n_stride;
    const cpu_val v[] = {cpu_slot(a, p->base.op.x), cpu_slot(b, p->base.op.x), cpu_slot(c, p->base.op.x)};
    return cpu_step_own(p, run, v, 3, q);
}
rm_status cpu_build_maxpool(cpu_plan *p) { return build_max(p, run_max, RM_X, RM_Y, RM_SAVED); }
rm_status cpu_build_maxpool_bwd(cpu_plan *p) { return build_max(p, run_unmax, RM_DY, RM_SAVED, RM_DX); }

/* ---- global average; the pooled tensor is plain (N, C) */
static void copy_group(const pool_param *p, const void *src, void *dst, int group)
{
    int left = p->x.c - group * p->x.width;
    memcpy(dst, src, (size_t)(left < p->x.width ? left : p->x.width) * (p->half ? 2 : 4));
}

static rm_status run_mean(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const pool_param *p = s->param;
    const void *x = cpu_at(base, s->v[0]);
    char *y = cpu_at(base, s->v[1]);
#pragma omp parallel for collapse(2) num_threads(d->threads) schedule(static)
    for (int n = 0; n < p->x.n; n++)
        for (int group = 0; group < p->x.groups; group++) {
            float out[CPU_VEC_MAX_WIDTH];
            size_t to = (size_t)n * (size_t)p->x.c + (size_t)group * (size_t)p->x.width;
            p->x.vec->mean(one_pixel(p, p->x.h * p->x.w), element(p, x, at(&p->x, n, group, 0, 0)), out);
            copy_group(p, out, y + to * (p->half ? 2 : 4), group);
        }
    return RM_OK;
}

static rm_status run_unmean(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const pool_param *p = s->param;
    const void *dy = cpu_at(base, s->v[0]);
    void *dx = cpu_at(base, s->v[1]);
#pragma omp parallel for collapse(2) num_threads(d->threads) schedule(static)
    for (int n = 0; n < p->x.n; n++)
        for (int group = 0; group < p->x.groups; group++) {
            float in[CPU_VEC_MAX_WIDTH] = {0}; /* zero where the group is padding */
            size_t from = (size_t)n * (size_t)p->x.c + (size_t)group * (size_t)p->x.width;
            copy_group(p, element(p, dy, from), in, group);
            p->x.vec->unmean(one_pixel(p, p->x.h * p->x.w), in, (char *)dx + at(&p->x, n, group, 0, 0) * (p->half ? 2 : 4));
        }
    return RM_OK;
}

rm_status cpu_build_avgpool(cpu_plan *p)
{
    pool_param *q = NULL;
    RM_TRY(pool_new(p, false, &q));
    const cpu_val v[] = {cpu_slot(RM_X, p->base.op.x), cpu_slot(RM_Y, p->base.op.y)};
    return cpu_step_own(p, run_mean, v, 2, q);
}

rm_status cpu_build_avgpool_bwd(cpu_plan *p)
{
    pool_param *q = NULL;
    RM_TRY(pool_new(p, false, &q));
    const cpu_val v[] = {cpu_slot(RM_DY, p->base.op.y), cpu_slot(RM_DX, p->base.op.x)};
    return cpu_step_own(p, run_unmean, v, 2, q);
}
