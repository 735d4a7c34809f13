/* Convolutions: candidates, and the choice among them.
 *
 * A candidate computes in its own activation layout; where that is not the caller's, the plan reorders inside and the
 * time of the candidate includes it. Candidates: the library in the caller's layout (direct), the library in the other
 * family of layouts (channels last against blocked), and the sum over taps (conv_tap.c). oneDNN's reference code is never
 * taken while anything else exists: it is a thousand times slower. */
#include "kernels/cpu/cpu.h"
#include <stdio.h>
#include <string.h>

typedef struct conv_layouts { int32_t x, y; } conv_layouts;
typedef struct candidate {
    rm_status (*build)(cpu_plan *p, conv_layouts outer, conv_layouts inner);
    conv_layouts inner;
} candidate;
enum { MAX_CANDIDATES = 3 };

static rm_dtype compute_type(const cpu_device *d, const rm_op *op)
{
    return op->x.dtype == RM_BF16 && d->native_bf16 ? RM_BF16 : RM_F32;
}

/* ---- the library's convolution */
typedef struct conv_md { dnnl_memory_desc_t x, w, y; } conv_md;

static void release(conv_md *m)
{
    if (m->x) dnnl_memory_desc_destroy(m->x);
    if (m->w) dnnl_memory_desc_destroy(m->w);
    if (m->y) dnnl_memory_desc_destroy(m->y);
}

static rm_status describe(const rm_op *op, conv_layouts in, rm_dtype type, rm_dtype wtype, conv_md *out_md)
{
    conv_md m = {0};
    const rm_tdesc x = cpu_as(op->x, type, in.x), y = cpu_as(op->y, type, in.y);
    dnnl_dims_t dims = {op->w.shape.n, op->w.shape.c, op->w.shape.h, op->w.shape.w};
    rm_status st;
    RM_TRY_GOTO(st, cpu_md(&x, &m.x), fail);
    RM_TRY_GOTO(st, cpu_md(&y, &m.y), fail);
    RM_TRY_GOTO(st, cpu_check(dnnl_memory_desc_create_with_tag(&m.w, 4, dims, cpu_dnnl_type(wtype), dnnl_format_tag_any), op, "weights"), fail);
    *out_md = m;
    return RM_OK;
fail:
    release(&m);
    return st;
}

static dnnl_status_t make_pd(const cpu_device *d, const rm_op *op, const conv_md *fwd, const conv_md *m, const_dnnl_primitive_attr_t attr,
                             dnnl_primitive_desc_t *out_pd)
{
    /* Along an axis of one pixel there is no stride, and with one of 2 oneDNN 3.2 sums what its scratch memory happens to hold into the gradient
     * of bf16 weights. */
    const dnnl_dims_t stride = {op->x.shape.h == 1 ? 1 : op->u.win.stride, op->x.shape.w == 1 ? 1 : op->u.win.stride}, dilate = {0, 0}, left = {op->u.win.pad, op->u.win.pad};
    const dnnl_dims_t right = {(op->y.shape.h - 1) * op->u.win.stride + op->u.win.k - op->x.shape.h - op->u.win.pad,
                               (op->y.shape.w - 1) * op->u.win.stride + op->u.win.k - op->x.shape.w - op->u.win.pad};
    const bool forward = op->code == RM_OP_CONV;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t st = dnnl_convolution_forward_primitive_desc_create(&hint, d->engine, dnnl_forward_training, dnnl_convolution_direct,
                                                                      fwd->x, fwd->w, NULL, fwd->y, stride, dilate, left, right,
                                                                      forward ? attr : NULL);
    if (forward || st != dnnl_success) { *out_pd = hint; return st; }
    if (op->code == RM_OP_CONV_BWD_DATA)
        st = dnnl_convolution_backward_data_primitive_desc_create(out_pd, d->engine, dnnl_convolution_direct, m->x, m->w, m->y, stride,
                                                                  dilate, left, right, hint, attr);
    else
        st = dnnl_convolution_backward_weights_primitive_desc_create(out_pd, d->engine, dnnl_convolution_direct, m->x, m->w, NULL, m->y,
                                                                     stride, dilate, left, right, hint, attr);
    dnnl_primitive_desc_destroy(hint);
    return st;
}

/* RM_E_UNSUPPORTED: the library has nothing for these layouts. */
static rm_status library_pd(const cpu_device *d, const rm_op *op, conv_layouts in, dnnl_primitive_desc_t *out_pd)
{
    const rm_dtype type = compute_type(d, op), wtype = op->code == RM_OP_CONV_BWD_WEIGHTS ? RM_F32 : type;
    conv_md fwd = {0}, m = {0};
    dnnl_primitive_attr_t attr = NULL;
    rm_status st;
    RM_TRY_GOTO(st, describe(op, in, type, type, &fwd), done);
    RM_TRY_GOTO(st, describe(op, in, type, wtype, &m), done);
    RM_TRY_GOTO(st, cpu_check(dnnl_primitive_attr_create(&attr), op, "attr_create"), done);
    RM_TRY_GOTO(st, cpu_check(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), op, "scratchpad_mode"), done);
    dnnl_status_t made = make_pd(d, op, &fwd, &m, attr, out_pd);
    if (made == dnnl_unimplemented) st = rm_fail(RM_E_UNSUPPORTED, "cpu: oneDNN has no such convolution");
    else st = cpu_check(made, op, "convolution");
done:
    if (attr) dnnl_primitive_attr_destroy(attr);
    release(&fwd);
    release(&m);
    return st;
}

typedef struct operand { rm_slot slot; rm_tdesc outer, inner; int arg; dnnl_query_t query; } operand;

/* Two inputs and the output, by opcode. */
static void operands_of(const rm_op *op, conv_layouts outer, conv_layouts in, rm_dtype type, int32_t w, operand out[3])
{
    const bool fwd = op->code == RM_OP_CONV, data = op->code == RM_OP_CONV_BWD_DATA;
    const rm_tdesc xo = cpu_as(op->x, op->x.dtype, outer.x), xi = cpu_as(op->x, type, in.x);
    const rm_tdesc yo = cpu_as(op->y, op->y.dtype, outer.y), yi = cpu_as(op->y, type, in.y);
    const rm_tdesc wo = cpu_as(op->w, op->w.dtype, w), wi = cpu_as(op->w, fwd || data ? type : RM_F32, w);
    const operand x = {data ? RM_DX : RM_X, xo, xi, data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, data ? dnnl_query_diff_src_md : dnnl_query_src_md};
    const operand y = {fwd ? RM_Y : RM_DY, yo, yi, fwd ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, fwd ? dnnl_query_dst_md : dnnl_query_diff_dst_md};
    const operand k = {fwd || data ? RM_W : RM_DW, wo, wi, fwd || data ? DNNL_ARG_WEIGHTS : DNNL_ARG_DIFF_WEIGHTS,
                       fwd || data ? dnnl_query_weights_md : dnnl_query_diff_weights_md};
    out[0] = fwd ? x : y;
    out[1] = fwd || data ? k : x;
    out[2] = fwd ? y : data ? x : k;
}

static bool same(rm_tdesc a, rm_tdesc b) { return a.dtype == b.dtype && a.layout == b.layout; }

static rm_status library_steps(cpu_plan *p, const_dnnl_primitive_desc_t pd, const operand o[3])
{
    cpu_arg args[3];
    for (int i = 0; i < 3; i++) {
        args[i].arg = o[i].arg;
        args[i].md = dnnl_primitive_desc_query_md(pd, o[i].query, 0);
        if (i < 2) RM_TRY(cpu_bring(p, cpu_slot(o[i].slot, o[i].outer), o[i].inner.dtype, o[i].inner.layout, &args[i].v));
        else args[i].v = same(o[i].outer, o[i].inner) ? cpu_slot(o[i].slot, o[i].outer) : cpu_scratch(p, o[i].inner);
    }
    RM_TRY(cpu_step_prim(p, pd, args, 3));
    return cpu_convert(p, args[2].v, cpu_slot(o[2].slot, o[2].outer));
}

static const char *family(int32_t layout) { return layout == RM_LAYOUT_NHWC ? "nhwc" : layout == RM_LAYOUT_NCHW ? "nchw" : "blocked"; }

static rm_status build_library(cpu_plan *p, conv_layouts outer, conv_layouts in)
{
    const rm_op *op = &p->base.op;
    const rm_dtype type = compute_type(p->dev, op);
    const dnnl_query_t wq = op->code == RM_OP_CONV_BWD_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    const rm_dtype wtype = op->code == RM_OP_CONV_BWD_WEIGHTS ? RM_F32 : type;
    dnnl_primitive_desc_t pd = NULL;
    operand o[3];
    int32_t w;
    RM_TRY(library_pd(p->dev, op, in, &pd));
    rm_status st = cpu_layout_of(dnnl_primitive_desc_query_md(pd, wq, 0), op->w.shape, wtype, &w);
    if (st != RM_OK) goto done;
    operands_of(op, outer, in, type, w, o);
    RM_TRY_GOTO(st, library_steps(p, pd, o), done);
    cpu_set_layouts(p, outer.x, 0, w, outer.y);
    const bool moved = outer.x != in.x || outer.y != in.y;
    cpu_set_impl(p, "%s%s%s%s", op->x.dtype == RM_BF16 && type != RM_BF16 ? "emulated bf16: " : "", moved ? family(in.y) : "",
                 moved ? " reorder+" : "", cpu_pd_impl(pd));
done:
    dnnl_primitive_desc_destroy(pd);
    return st;
}

static rm_status build_tap(cpu_plan *p, conv_layouts outer, conv_layouts in) { return cpu_build_conv_tap(p, outer.x, outer.y); }

/* ---- the choice */
static conv_layouts outer_layouts(const cpu_device *d, const rm_op *op)
{
    const int32_t blocked = cpu_blocked_layout(d->block);
    const int32_t narrow = op->x.layout == RM_LAYOUT_NHWC ? RM_LAYOUT_NHWC : RM_LAYOUT_NCHW; /* blocking would pad few channels */
    conv_layouts l = {op->x.layout, op->y.layout};
    if (op->x.shape.c < d->block) l.x = narrow;
    else if (l.x != RM_LAYOUT_NHWC) l.x = blocked;
    if (l.y != RM_LAYOUT_NHWC || op->y.shape.c < 4) l.y = op->y.layout == RM_LAYOUT_ANY && l.x == RM_LAYOUT_NHWC ? RM_LAYOUT_NHWC : blocked;
    return l;
}

static int candidates_of(const cpu_device *d, const rm_op *op, conv_layouts outer, candidate out[MAX_CANDIDATES])
{
    const int32_t blocked = cpu_blocked_layout(d->block);
    const bool last = outer.y == RM_LAYOUT_NHWC;
    const conv_layouts other = last ? (conv_layouts){op->x.shape.c < d->block ? RM_LAYOUT_NCHW : blocked, blocked}
                                    : (conv_layouts){RM_LAYOUT_NHWC, RM_LAYOUT_NHWC};
    int n = 0;
    out[n++] = (candidate){build_library, outer};
    out[n++] = (candidate){build_library, other};
    if (compute_type(d, op) == RM_F32 && cpu_tap_applies(d, op)) out[n++] = (candidate){build_tap, outer};
    return n;
}

static rm_status build_one(cpu_device *d, const rm_op *op, const candidate *c, conv_layouts outer, cpu_plan **out_plan)
{
    cpu_plan *p = NULL;
    RM_TRY(cpu_plan_new(d, op, &p));
    rm_status st = c->build(p, outer, c->inner);
    if (st != RM_OK) { cpu_plan_destroy(p); return st; }
    *out_plan = p;
    return RM_OK;
}

/* Where several implementations are near each other: small images, where padding is much of the work of a window. */
static bool contested(const rm_op *op)
{
    return op->y.shape.w <= 8 && (op->u.win.k > 1 || op->code == RM_OP_CONV_BWD_WEIGHTS);
}

/* The candidate called `impl`, else the first that is not reference code, else the first that could be built. */
static rm_status first_match(cpu_device *d, const rm_op *op, const candidate *c, int n, conv_layouts outer, const char *impl, cpu_plan **out_plan)
{
    cpu_plan *kept = NULL;
    for (int i = 0; i < n; i++) {
        cpu_plan *p = NULL;
        rm_status st = build_one(d, op, &c[i], outer, &p);
        if (st == RM_E_UNSUPPORTED) continue;
        if (st != RM_OK) { cpu_plan_destroy(kept); return st; }
        const bool named = impl && !strcmp(p->base.info.impl, impl), better = !kept || (kept->ref && !p->ref);
        if (!named && !better) { cpu_plan_destroy(p); continue; }
        cpu_plan_destroy(kept);
        kept = p;
        if (named || (!impl && !p->ref)) break;
    }
    if (!kept) return rm_fail(RM_E_UNSUPPORTED, "cpu: oneDNN has no implementation of this convolution");
    *out_plan = kept;
    return RM_OK;
}

static rm_status fastest(cpu_device *d, const rm_op *op, const candidate *c, int n, conv_layouts outer, cpu_plan **out_plan)
{
    cpu_plan *best = NULL;
    uint64_t best_ns = 0;
    rm_status st = RM_OK;
    for (int i = 0; i < n && st == RM_OK; i++) {
        cpu_plan *p = NULL;
        uint64_t ns = 0;
        st = build_one(d, op, &c[i], outer, &p);
        if (st == RM_E_UNSUPPORTED) { st = RM_OK; continue; }
        if (st != RM_OK) break;
        if (p->ref) { cpu_plan_destroy(p); continue; }
        st = cpu_time_plan(d, p, best_ns, &ns);
        if (st != RM_OK || (best && ns >= best_ns)) { cpu_plan_destroy(p); continue; }
        cpu_plan_destroy(best);
        best = p;
        best_ns = ns;
    }
    if (st != RM_OK) { cpu_plan_destroy(best); return st; }
    if (!best) return first_match(d, op, c, n, outer, NULL, out_plan); /* only reference code is left */
    *out_plan = best;
    return RM_OK;
}

rm_status cpu_build_conv(cpu_device *d, const rm_op *op, cpu_plan **out_plan)
{
    const conv_layouts outer = outer_layouts(d, op);
    candidate c[MAX_CANDIDATES];
    const int n = candidates_of(d, op, outer, c);
    rm_op settled = *op;
    char key[256];
    settled.x.layout = outer.x;
    settled.y.layout = outer.y;
    rm_op_print(&settled, key, sizeof key);
    const char *impl = cpu_choice_get(d, key);
    if (impl || d->reference_only || !contested(op)) return first_match(d, op, c, n, outer, impl, out_plan);
    cpu_plan *p = NULL;
    RM_TRY(fastest(d, op, c, n, outer, &p));
    rm_status st = cpu_choice_set(d, key, p->base.info.impl);
    if (st != RM_OK) { cpu_plan_destroy(p); return st; }
    *out_plan = p;
    return RM_OK;
}
