/* The op harness' way to a device: planned layouts, packing, and the device's own reorders. */
#include "kernels/check_data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- elements */
static uint16_t bf16_bits(double v)
{
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)(u >> 16); /* v is exact in bf16 already */
}

static double bf16_value(uint16_t bits)
{
    uint32_t u = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return (double)f;
}

static uint16_t f16_bits(double v) /* v is exact in f16 already */
{
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    double a = fabs(v);
    if (isnan(v)) return 0x7e00;
    if (a >= 65536) return sign | 0x7c00;
    if (a < ldexp(1, -14)) return sign | (uint16_t)ldexp(a, 24);
    int e = ilogb(a);
    return sign | (uint16_t)((e + 15) << 10) | (uint16_t)(ldexp(a, 10 - e) - 1024);
}

static double f16_value(uint16_t bits)
{
    int e = bits >> 10 & 31, m = bits & 1023;
    double a = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(m + 1024, e - 25) : ldexp(m, -24);
    return bits & 0x8000 ? -a : a;
}

static void store(rm_dtype t, void *base, uint64_t i, double v)
{
    switch (t) {
    case RM_F64: ((double *)base)[i] = v; break;
    case RM_BF16: ((uint16_t *)base)[i] = bf16_bits(v); break;
    case RM_F16: ((uint16_t *)base)[i] = f16_bits(v); break;
    case RM_U8: ((uint8_t *)base)[i] = (uint8_t)v; break;
    case RM_I32: ((int32_t *)base)[i] = (int32_t)v; break;
    default: ((float *)base)[i] = (float)v; break;
    }
}

static double load(rm_dtype t, const void *base, uint64_t i)
{
    switch (t) {
    case RM_F64: return ((const double *)base)[i];
    case RM_BF16: return bf16_value(((const uint16_t *)base)[i]);
    case RM_F16: return f16_value(((const uint16_t *)base)[i]);
    case RM_U8: return ((const uint8_t *)base)[i];
    case RM_I32: return ((const int32_t *)base)[i];
    default: return (double)((const float *)base)[i];
    }
}

/* Where logical element (n, c, p) of an NCHW or NHWC tensor lies. */
static uint64_t place(const rm_tdesc *t, uint64_t i)
{
    uint64_t hw = (uint64_t)t->shape.h * (uint64_t)t->shape.w, C = (uint64_t)t->shape.c;
    if (t->layout != RM_LAYOUT_NHWC) return i;
    uint64_t p = i % hw, c = i / hw % C, n = i / hw / C;
    return (n * hw + p) * C + c;
}

/* ---- operands */
static rm_tdesc planned(const check_run *r, rm_slot slot)
{
    rm_tdesc t = rm_op_tensor(&r->op, slot);
    if (r->op.code == RM_OP_OPTIM) return t;
    switch (slot) {
    case RM_X: case RM_DX: t.layout = r->info.x; break;
    case RM_X2: case RM_DX2: t.layout = r->info.x2 ? r->info.x2 : r->info.x; break;
    case RM_W: case RM_DW: t.layout = r->info.w; break;
    case RM_Y: case RM_DY: case RM_DY2: t.layout = r->info.y; break;
    default: break;
    }
    if (t.layout == RM_LAYOUT_ANY) t.layout = RM_LAYOUT_NCHW;
    return t;
}

static rm_dtype stored(const check_run *r, const rm_tdesc *t)
{
    bool real = t->dtype != RM_U8 && t->dtype != RM_I32;
    return real && r->wide ? RM_F64 : t->dtype;
}

/* A private layout: the device itself brings it from or to plain f32. */
static rm_status reorder(rm_device *d, rm_tdesc from, rm_tdesc to, rm_buf *src, rm_buf *dst)
{
    rm_op op = { .code = RM_OP_REORDER, .x = from, .y = to };
    rm_plan *plan;
    rm_plan_info info;
    rm_buf *workspace = NULL;
    RM_TRY(rm_device_plan(d, &op, &plan, &info));
    rm_status st = RM_OK;
    if (info.x != from.layout || info.y != to.layout)
        st = rm_fail(RM_E_DEVICE, "%s: reorder answers other layouts than it was asked for", rm_device_name(d));
    if (st == RM_OK && info.workspace_bytes) st = rm_buf_alloc(d, RM_MEM_DEVICE, info.workspace_bytes, &workspace);
    if (st == RM_OK) {
        rm_args args = { .workspace = { workspace, 0 } };
        args.t[RM_X].buf = src;
        args.t[RM_Y].buf = dst;
        st = rm_device_run(d, NULL, plan, &args);
    }
    if (st == RM_OK) st = rm_device_sync(d, NULL);
    rm_buf_free(d, workspace);
    rm_plan_free(d, plan);
    return st;
}

static rm_status plain_put(check_run *r, rm_tdesc t, rm_dtype dtype, rm_buf *buf, const double *v)
{
    uint64_t n = rm_shape_count(t.shape);
    void *host = malloc(n * sizeof(double));
    if (!host) return rm_fail(RM_E_NOMEM, "out of memory for an operand of %s", rm_opcode_name(r->op.code));
    for (uint64_t i = 0; i < n; i++) store(dtype, host, place(&t, i), v[i]);
    rm_status st = rm_device_write(r->d, NULL, (rm_ref){ buf, 0 }, host, n * rm_dtype_bytes(dtype));
    if (st == RM_OK) st = rm_device_sync(r->d, NULL);
    free(host);
    return st;
}

static rm_status plain_get(check_run *r, rm_tdesc t, rm_dtype dtype, rm_buf *buf, double *v)
{
    uint64_t n = rm_shape_count(t.shape);
    void *host = malloc(n * sizeof(double));
    if (!host) return rm_fail(RM_E_NOMEM, "out of memory for an operand of %s", rm_opcode_name(r->op.code));
    rm_status st = rm_device_read(r->d, NULL, host, (rm_ref){ buf, 0 }, n * rm_dtype_bytes(dtype));
    if (st == RM_OK) st = rm_device_sync(r->d, NULL);
    for (uint64_t i = 0; st == RM_OK && i < n; i++) v[i] = load(dtype, host, place(&t, i));
    free(host);
    return st;
}

static rm_tdesc plain_f32(rm_tdesc t) { return (rm_tdesc){ t.shape, RM_F32, RM_LAYOUT_NCHW }; }

rm_status check_run_put(check_run *r, rm_slot slot, const double *v)
{
    rm_tdesc t = planned(r, slot), plain = plain_f32(t);
    if (t.layout < RM_LAYOUT_PRIVATE) return plain_put(r, t, stored(r, &t), r->buf[slot], v);
    rm_buf *stage;
    RM_TRY(rm_buf_alloc(r->d, RM_MEM_DEVICE, rm_layout_bytes(r->d, &plain), &stage));
    rm_status st = plain_put(r, plain, RM_F32, stage, v);
    if (st == RM_OK) st = reorder(r->d, plain, t, stage, r->buf[slot]);
    rm_buf_free(r->d, stage);
    return st;
}

rm_status check_run_get(check_run *r, rm_slot slot, double *v)
{
    rm_tdesc t = planned(r, slot), plain = plain_f32(t);
    if (t.layout < RM_LAYOUT_PRIVATE) return plain_get(r, t, stored(r, &t), r->buf[slot], v);
    rm_buf *stage;
    RM_TRY(rm_buf_alloc(r->d, RM_MEM_DEVICE, rm_layout_bytes(r->d, &plain), &stage));
    rm_status st = reorder(r->d, t, plain, r->buf[slot], stage);
    if (st == RM_OK) st = plain_get(r, plain, RM_F32, stage, v);
    rm_buf_free(r->d, stage);
    return st;
}

/* ---- runs */
/* What an op must not count on: its workspace and what it only writes are full of NaNs, as they may be within a step. A device without `fill`
 * watches its memory by itself. */
static rm_status poison(check_run *r)
{
    if (!r->d->ops->fill) return RM_OK;
    if (r->workspace) RM_TRY(rm_device_fill(r->d, NULL, (rm_ref){ r->workspace, 0 }, 0xff, rm_buf_bytes(r->workspace)));
    for (int s = 0; s < RM_SLOT_COUNT; s++)
        if (r->buf[s] && (rm_op_uses(&r->op, (rm_slot)s) & RM_UPDATE) == RM_WRITE)
            RM_TRY(rm_device_fill(r->d, NULL, (rm_ref){ r->buf[s], 0 }, 0xff, rm_buf_bytes(r->buf[s])));
    return rm_device_sync(r->d, NULL);
}

static rm_status alloc_operands(check_run *r)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++) {
        if (!rm_op_uses(&r->op, (rm_slot)s) || r->buf[s]) continue;
        rm_tdesc t = planned(r, (rm_slot)s);
        size_t bytes = s == RM_SAVED ? r->info.saved_bytes : rm_layout_bytes(r->d, &t);
        RM_TRY(rm_buf_alloc(r->d, RM_MEM_DEVICE, bytes, &r->buf[s]));
    }
    if (r->info.workspace_bytes) RM_TRY(rm_buf_alloc(r->d, RM_MEM_DEVICE, r->info.workspace_bytes, &r->workspace));
    return RM_OK;
}

rm_status check_run_open(rm_device *d, const rm_op *op, rm_buf *saved, check_run *out)
{
    const rm_tdesc one = { { 1, 1, 1, 1 }, RM_F32, RM_LAYOUT_NCHW };
    check_run r = { .d = d, .op = *op, .wide = rm_layout_bytes(d, &one) == sizeof(double), .borrowed = saved != NULL };
    RM_TRY(rm_op_complete(&r.op));
    RM_TRY(rm_device_plan(d, &r.op, &r.plan, &r.info));
    r.buf[RM_SAVED] = saved;
    rm_status st = alloc_operands(&r);
    if (st == RM_OK) st = poison(&r);
    if (st != RM_OK) { check_run_close(&r); return st; }
    *out = r;
    return RM_OK;
}

void check_run_close(check_run *r)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++)
        if (s != RM_SAVED || !r->borrowed) rm_buf_free(r->d, r->buf[s]);
    rm_buf_free(r->d, r->workspace);
    rm_plan_free(r->d, r->plan);
}

rm_status check_run_load(check_run *r, const check_case *c)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++)
        if (rm_op_uses(&r->op, (rm_slot)s) & RM_READ && c->v[s]) RM_TRY(check_run_put(r, (rm_slot)s, c->v[s]));
    return RM_OK;
}

rm_args check_run_args(const check_run *r)
{
    rm_args args = { .workspace = { r->workspace, 0 } };
    for (int s = 0; s < RM_SLOT_COUNT; s++) args.t[s].buf = r->buf[s];
    return args;
}

rm_status check_run_go(check_run *r)
{
    rm_args args = check_run_args(r);
    RM_TRY(rm_device_run(r->d, NULL, r->plan, &args));
    return rm_device_sync(r->d, NULL);
}
