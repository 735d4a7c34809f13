/* Moving data: casts, layout changes, and the fully connected layer, which is a matrix product on plain memory. */
#include "kernels/cpu/cpu.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- casts and copies over flat memory */
typedef struct flat_param { const cpu_vec *vec; size_t count; rm_dtype from, to; } flat_param;

static void move_range(const flat_param *f, const void *src, void *dst, size_t i, size_t n)
{
    const size_t from = i * rm_dtype_bytes(f->from), to = i * rm_dtype_bytes(f->to);
    const void *s = (const char *)src + from;
    void *t = (char *)dst + to;
    if (f->from == f->to) memcpy(t, s, n * rm_dtype_bytes(f->to));
    else if (f->to == RM_F32) f->vec->to_f32(n, s, t);
    else f->vec->to_bf16(n, s, t);
}

static rm_status run_move(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const flat_param *f = s->param;
    const void *src = cpu_at(base, s->v[0]);
    void *dst = cpu_at(base, s->v[1]);
#pragma omp parallel num_threads(d->threads)
    {
        size_t begin, end;
        cpu_split((f->count + 63) / 64, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        begin *= 64, end *= 64;
        if (end > f->count) end = f->count;
        if (begin < end) move_range(f, src, dst, begin, end - begin);
    }
    return RM_OK;
}

static rm_status flat_move(cpu_plan *p, cpu_val src, cpu_val dst)
{
    flat_param *f = malloc(sizeof *f);
    if (!f) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    *f = (flat_param){.vec = cpu_vec_for(p->dev->block), .count = cpu_padded_count(&dst.t), .from = src.t.dtype, .to = dst.t.dtype};
    const cpu_val v[] = {src, dst};
    return cpu_step_own(p, run_move, v, 2, f);
}

/* ---- layout changes by oneDNN */
/* With `only_fast`, adds nothing and clears *out_done where oneDNN has only reference code. */
static rm_status library_reorder(cpu_plan *p, cpu_val src, cpu_val dst, bool only_fast, bool *out_done)
{
    dnnl_memory_desc_t from = NULL, to = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    rm_status st;
    *out_done = false;
    RM_TRY_GOTO(st, cpu_md(&src.t, &from), done);
    RM_TRY_GOTO(st, cpu_md(&dst.t, &to), done);
    RM_TRY_GOTO(st, cpu_check(dnnl_primitive_attr_create(&attr), &p->base.op, "attr_create"), done);
    RM_TRY_GOTO(st, cpu_check(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), &p->base.op, "scratchpad_mode"), done);
    dnnl_status_t made = dnnl_reorder_primitive_desc_create(&pd, from, p->dev->engine, to, p->dev->engine, attr);
    if (only_fast && (made != dnnl_success || cpu_pd_is_ref(pd))) goto done;
    RM_TRY_GOTO(st, cpu_check(made, &p->base.op, "reorder"), done);
    const cpu_arg args[] = {{DNNL_ARG_FROM, src, from}, {DNNL_ARG_TO, dst, to}};
    const bool was_ref = p->ref;
    RM_TRY_GOTO(st, cpu_step_prim(p, pd, args, 2), done);
    p->ref = was_ref; /* a slow reorder does not make a slow plan */
    *out_done = true;
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (from) dnnl_memory_desc_destroy(from);
    if (to) dnnl_memory_desc_destroy(to);
    return st;
}

rm_status cpu_convert(cpu_plan *p, cpu_val src, cpu_val dst)
{
    const bool same_layout = src.t.layout == dst.t.layout, same_type = src.t.dtype == dst.t.dtype;
    bool done;
    if (src.slot == dst.slot && src.offset == dst.offset) return RM_OK;
    if (same_layout) return flat_move(p, src, dst);
    if (same_type && src.t.dtype == RM_F32) return library_reorder(p, src, dst, false, &done);
    RM_TRY(library_reorder(p, src, dst, true, &done));
    if (done) return RM_OK;
    /* No quick code for bf16 on this processor: through f32. */
    cpu_val wide = src, moved = dst;
    if (src.t.dtype != RM_F32) {
        wide = cpu_scratch(p, cpu_as(src.t, RM_F32, src.t.layout));
        RM_TRY(flat_move(p, src, wide));
    }
    if (dst.t.dtype != RM_F32) moved = cpu_scratch(p, cpu_as(dst.t, RM_F32, dst.t.layout));
    RM_TRY(library_reorder(p, wide, moved, false, &done));
    return dst.t.dtype != RM_F32 ? flat_move(p, moved, dst) : RM_OK;
}

rm_status cpu_bring(cpu_plan *p, cpu_val src, rm_dtype dtype, int32_t layout, cpu_val *out_val)
{
    if (src.t.dtype == dtype && src.t.layout == layout) { *out_val = src; return RM_OK; }
    cpu_val v = cpu_scratch(p, cpu_as(src.t, dtype, layout));
    RM_TRY(cpu_convert(p, src, v));
    *out_val = v;
    return RM_OK;
}

rm_status cpu_build_reorder(cpu_plan *p)
{
    rm_tdesc x = p->base.op.x, y = p->base.op.y;
    if (x.layout == RM_LAYOUT_ANY) x.layout = RM_LAYOUT_NCHW;
    if (y.layout == RM_LAYOUT_ANY) y.layout = x.layout;
    cpu_set_layouts(p, x.layout, 0, 0, y.layout);
    cpu_set_impl(p, x.layout == y.layout ? "own cast" : "reorder");
    return cpu_convert(p, cpu_slot(RM_X, x), cpu_slot(RM_Y, y));
}

/* ---- fully connected: plain (N, I), (O, I), (N, O), all in f32 */
typedef struct fc_dims { dnnl_dim_t n, i, o; } fc_dims;
static fc_dims dims_of(const rm_op *op) { return (fc_dims){op->x.shape.n, op->x.shape.c, op->w.shape.n}; }

/* y (N, O) = bias; y += x (N, I) w (O, I)^T */
static rm_status run_fc(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const fc_dims k = dims_of(s->op);
    const float *x = cpu_at(base, s->v[0]), *w = cpu_at(base, s->v[1]), *bias = cpu_at(base, s->v[2]);
    float *y = cpu_at(base, s->v[3]);
    for (dnnl_dim_t n = 0; n < k.n; n++) memcpy(y + n * k.o, bias, (size_t)k.o * sizeof *y);
    return cpu_check(dnnl_sgemm('N', 'T', k.n, k.o, k.i, 1, x, k.i, w, k.i, 1, y, k.o), s->op, "sgemm");
}

/* dx (N, I) = dy (N, O) w (O, I) */
static rm_status run_fc_data(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const fc_dims k = dims_of(s->op);
    return cpu_check(dnnl_sgemm('N', 'N', k.n, k.i, k.o, 1, cpu_at(base, s->v[0]), k.o, cpu_at(base, s->v[1]), k.i, 0,
                                cpu_at(base, s->v[2]), k.i), s->op, "sgemm");
}

/* dw (O, I) = dy (N, O)^T x (N, I); dbias (O) = sum over n of dy */
static rm_status run_fc_weights(const cpu_device *d, const cpu_step *s, void *const *base)
{
    const fc_dims k = dims_of(s->op);
    const float *dy = cpu_at(base, s->v[1]);
    float *dbias = cpu_at(base, s->v[3]);
    for (dnnl_dim_t o = 0; o < k.o; o++) {
        double sum = 0;
        for (dnnl_dim_t n = 0; n < k.n; n++) sum += (double)dy[n * k.o + o];
        dbias[o] = (float)sum;
    }
    return cpu_check(dnnl_sgemm('T', 'N', k.o, k.i, k.n, 1, dy, k.o, cpu_at(base, s->v[0]), k.i, 0, cpu_at(base, s->v[2]), k.i),
                     s->op, "sgemm");
}

static rm_tdesc plain(rm_tdesc t) { return cpu_as(t, t.dtype, RM_LAYOUT_NCHW); }

/* An f32 place for a result, and afterwards the step that brings it to its slot. */
static cpu_val result_place(cpu_plan *p, rm_slot slot, rm_tdesc t)
{
    return t.dtype == RM_F32 ? cpu_slot(slot, plain(t)) : cpu_scratch(p, cpu_as(t, RM_F32, RM_LAYOUT_NCHW));
}

rm_status cpu_build_fc(cpu_plan *p)
{
    const rm_op *op = &p->base.op;
    const rm_tdesc x = plain(op->x), w = plain(op->w), y = plain(op->y);
    cpu_val v[4];
    cpu_set_layouts(p, RM_LAYOUT_NCHW, 0, RM_LAYOUT_NCHW, RM_LAYOUT_NCHW);
    cpu_set_impl(p, op->x.dtype == RM_F32 ? "sgemm" : "casts + sgemm");
    if (op->code == RM_OP_FC) {
        RM_TRY(cpu_bring(p, cpu_slot(RM_X, x), RM_F32, RM_LAYOUT_NCHW, &v[0]));
        RM_TRY(cpu_bring(p, cpu_slot(RM_W, w), RM_F32, RM_LAYOUT_NCHW, &v[1]));
        v[2] = cpu_slot(RM_BETA, w);
        v[3] = result_place(p, RM_Y, y);
        RM_TRY(cpu_step_own(p, run_fc, v, 4, NULL));
        return cpu_convert(p, v[3], cpu_slot(RM_Y, y));
    }
    if (op->code == RM_OP_FC_BWD_DATA) {
        RM_TRY(cpu_bring(p, cpu_slot(RM_DY, y), RM_F32, RM_LAYOUT_NCHW, &v[0]));
        RM_TRY(cpu_bring(p, cpu_slot(RM_W, w), RM_F32, RM_LAYOUT_NCHW, &v[1]));
        v[2] = result_place(p, RM_DX, x);
        RM_TRY(cpu_step_own(p, run_fc_data, v, 3, NULL));
        return cpu_convert(p, v[2], cpu_slot(RM_DX, x));
    }
    RM_TRY(cpu_bring(p, cpu_slot(RM_X, x), RM_F32, RM_LAYOUT_NCHW, &v[0]));
    RM_TRY(cpu_bring(p, cpu_slot(RM_DY, y), RM_F32, RM_LAYOUT_NCHW, &v[1]));
    v[2] = result_place(p, RM_DW, w);
    v[3] = cpu_slot(RM_DBETA, w);
    RM_TRY(cpu_step_own(p, run_fc_weights, v, 4, NULL));
    return cpu_convert(p, v[2], cpu_slot(RM_DW, w));
}
