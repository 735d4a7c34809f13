/* The cpu device against the reference: every opcode, fp32 and bf16, on shapes of the network and on awkward ones; and
 * what a device promises beyond right answers: padding stays zero, the same bits every run and with any thread count. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rng.h"
#include "kernels/cpu/choice.h"
#include "kernels/device.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One op on one device, with its operands. */
typedef struct bench_op { rm_device *d; rm_op op; rm_plan *plan; rm_plan_info info; rm_args args; } bench_op;
/* Canonical values of a slot: NCHW doubles. */
typedef struct values { double *v; uint64_t n; } values;

static rm_device *open_device(const char *name, int threads)
{
    rm_device_config cfg = {.threads = threads};
    rm_device *d = NULL;
    if (rm_device_open(name, &cfg, &d) != RM_OK) fail_msg("%s", rm_last_error());
    return d;
}

static void must(rm_status st) { if (st != RM_OK) fail_msg("%s: %s", rm_status_name(st), rm_last_error()); }

static void alloc_to(rm_device *d, size_t bytes, rm_ref *ref)
{
    must(rm_buf_alloc(d, RM_MEM_DEVICE, bytes ? bytes : 1, &ref->buf));
    ref->offset = 0;
}

static int32_t layout_in(const rm_plan_info *i, rm_slot s)
{
    switch (s) {
    case RM_X: case RM_DX: case RM_X2: case RM_DX2: return i->x;
    case RM_W: case RM_DW: return i->w;
    case RM_Y: case RM_DY: case RM_DY2: return i->y;
    default: return RM_LAYOUT_NCHW;
    }
}

static rm_tdesc tensor_in(const bench_op *b, rm_slot s)
{
    rm_tdesc t = rm_op_tensor(&b->op, s);
    if (t.shape.n && b->op.code != RM_OP_OPTIM) t.layout = layout_in(&b->info, s);
    return t;
}

static void prepare(bench_op *b, rm_device *d, const rm_op *op)
{
    memset(b, 0, sizeof *b);
    b->d = d;
    b->op = *op;
    must(rm_op_complete(&b->op));
    must(rm_device_plan(d, &b->op, &b->plan, &b->info));
    for (int s = 0; s < RM_SLOT_COUNT; s++) {
        rm_tdesc t = tensor_in(b, (rm_slot)s);
        if (t.shape.n) alloc_to(d, rm_layout_bytes(d, &t), &b->args.t[s]);
    }
    if (b->info.saved_bytes) alloc_to(d, b->info.saved_bytes, &b->args.t[RM_SAVED]);
    if (b->info.workspace_bytes) alloc_to(d, b->info.workspace_bytes, &b->args.workspace);
    if (b->info.workspace_bytes) must(rm_device_fill(d, NULL, b->args.workspace, 0xff, b->info.workspace_bytes)); /* NaNs, as the step before may leave */
}

static void finish(bench_op *b)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++) rm_buf_free(b->d, b->args.t[s].buf);
    rm_buf_free(b->d, b->args.workspace.buf);
    rm_plan_free(b->d, b->plan);
}

static bool is_ref(const bench_op *b) { return !strcmp(rm_device_name(b->d), "ref"); }

/* Through a reorder op of the device: NCHW f32 <-> the plan's layout and dtype. */
static void move(rm_device *d, rm_tdesc from, rm_ref src, rm_tdesc to, rm_ref dst)
{
    rm_op op = {.code = RM_OP_REORDER, .x = from, .y = to};
    rm_plan *plan;
    rm_plan_info info;
    rm_args args = {.t[RM_X] = src, .t[RM_Y] = dst};
    must(rm_device_plan(d, &op, &plan, &info));
    if (info.workspace_bytes) alloc_to(d, info.workspace_bytes, &args.workspace);
    must(rm_device_run(d, NULL, plan, &args));
    rm_plan_free(d, plan);
    rm_buf_free(d, args.workspace.buf);
}

static void put(bench_op *b, rm_slot s, values v)
{
    rm_tdesc t = tensor_in(b, s);
    void *p = rm_buf_host(b->args.t[s].buf);
    if (t.dtype == RM_I32) for (uint64_t i = 0; i < v.n; i++) ((int32_t *)p)[i] = (int32_t)v.v[i];
    else if (t.dtype == RM_U8) for (uint64_t i = 0; i < v.n; i++) ((uint8_t *)p)[i] = (uint8_t)v.v[i];
    else if (is_ref(b) || s == RM_HYPER) memcpy(p, v.v, v.n * sizeof(double));
    else if (b->op.code == RM_OP_OPTIM) for (uint64_t i = 0; i < v.n; i++) ((float *)p)[i] = (float)v.v[i];
    else {
        rm_tdesc plain = t;
        rm_ref ref;
        plain.dtype = RM_F32, plain.layout = RM_LAYOUT_NCHW;
        alloc_to(b->d, v.n * 4, &ref);
        float *f = rm_buf_host(ref.buf);
        for (uint64_t i = 0; i < v.n; i++) f[i] = (float)v.v[i];
        move(b->d, plain, ref, t, b->args.t[s]);
        rm_buf_free(b->d, ref.buf);
    }
}

static values get(bench_op *b, rm_slot s)
{
    rm_tdesc t = tensor_in(b, s);
    values v = {.n = rm_shape_count(t.shape)};
    v.v = calloc(v.n, sizeof(double));
    assert_non_null(v.v);
    const void *p = rm_buf_host(b->args.t[s].buf);
    if (t.dtype == RM_I32) for (uint64_t i = 0; i < v.n; i++) v.v[i] = ((const int32_t *)p)[i];
    else if (is_ref(b)) memcpy(v.v, p, v.n * sizeof(double));
    else if (b->op.code == RM_OP_OPTIM) for (uint64_t i = 0; i < v.n; i++) v.v[i] = (double)((const float *)p)[i];
    else {
        rm_tdesc plain = t;
        rm_ref ref;
        plain.dtype = RM_F32, plain.layout = RM_LAYOUT_NCHW;
        alloc_to(b->d, v.n * 4, &ref);
        move(b->d, t, b->args.t[s], plain, ref);
        for (uint64_t i = 0; i < v.n; i++) v.v[i] = (double)((const float *)rm_buf_host(ref.buf))[i];
        rm_buf_free(b->d, ref.buf);
    }
    return v;
}

static double rounded(double x, rm_dtype t)
{
    float f = (float)x;
    if (t != RM_BF16) return (double)f;
    uint32_t u;
    memcpy(&u, &f, 4);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &u, 4);
    return (double)f;
}

/* Inputs that both devices can hold exactly. */
static values make_values(const rm_op *op, rm_slot s, rm_tdesc t)
{
    static const double hyper[RM_HYPER_COUNT] = {0.1, 0.9, 0.01, 0.5, 0.02};
    values v = {.n = rm_shape_count(t.shape)};
    rm_rng r = rm_rng_for(7, (uint64_t)s, v.n);
    v.v = calloc(v.n, sizeof(double));
    assert_non_null(v.v);
    for (uint64_t i = 0; i < v.n; i++) {
        double x = rm_rng_normal(&r);
        if (s == RM_LABEL) x = rm_rng_below(&r, (uint32_t)op->x.shape.c);
        else if (s == RM_FLIP) x = rm_rng_below(&r, 2);
        else if (t.dtype == RM_U8) x = rm_rng_below(&r, 256);
        else if (s == RM_HYPER) x = hyper[i];
        else if (s == RM_RVAR) x = 0.5 + rm_rng_unit(&r);
        else if (s == RM_GAMMA) x = 1 + 0.25 * x;
        else if (s == RM_X && op->code == RM_OP_BN) x = 3 + 0.5 * x; /* a mean far from zero */
        v.v[i] = rounded(x, t.dtype);
    }
    return v;
}

static double tolerance(const rm_op *op) { return op->x.dtype == RM_BF16 || op->y.dtype == RM_BF16 ? 0.02 : 3e-5; }

static void compare(const char *text, rm_slot s, values got, values want, double tol)
{
    double scale = 0, worst = 0;
    uint64_t zeros = 0;
    for (uint64_t i = 0; i < want.n; i++) scale = fmax(scale, fabs(want.v[i])), zeros += got.v[i] == 0;
    for (uint64_t i = 0; i < want.n; i++) {
        double e = fabs(got.v[i] - want.v[i]);
        if (!(e <= worst)) worst = e;
    }
    if (!(worst <= tol * (scale + 1e-30))) fail_msg("%s: %s is off by %g of %g", text, rm_slot_name(s), worst, scale);
    if (scale > 0 && zeros == got.n) fail_msg("%s: %s is all zero", text, rm_slot_name(s));
}

static void share_inputs(bench_op *a, bench_op *b)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++) {
        if (!(rm_op_uses(&a->op, (rm_slot)s) & RM_READ) || s == RM_SAVED) continue;
        values v = make_values(&a->op, (rm_slot)s, rm_op_tensor(&a->op, (rm_slot)s));
        put(a, (rm_slot)s, v);
        put(b, (rm_slot)s, v);
        free(v.v);
    }
}

static void check_outputs(const char *text, bench_op *cpu, bench_op *ref)
{
    for (int s = 0; s < RM_SLOT_COUNT; s++) {
        if (!(rm_op_uses(&cpu->op, (rm_slot)s) & RM_WRITE) || s == RM_SAVED) continue;
        values got = get(cpu, (rm_slot)s), want = get(ref, (rm_slot)s);
        double tol = tolerance(&cpu->op);
        if (cpu->op.code == RM_OP_BN_BWD) tol *= 4;
        compare(text, (rm_slot)s, got, want, tol);
        free(got.v);
        free(want.v);
    }
}

/* The forward op whose SAVED (and Y) a backward op needs, or false. */
static bool forward_of(const rm_op *op, rm_op *out)
{
    *out = *op;
    out->dy2 = false;
    if (op->code == RM_OP_BN_BWD) out->code = RM_OP_BN;
    else if (op->code == RM_OP_MAXPOOL_BWD) out->code = RM_OP_MAXPOOL;
    else return false;
    return true;
}

static void run_forward(bench_op *cpu, bench_op *ref, bench_op *fc, bench_op *fr)
{
    bench_op *f[2] = {fc, fr}, *b[2] = {cpu, ref};
    share_inputs(fc, fr);
    for (int i = 0; i < 2; i++) {
        must(rm_device_run(f[i]->d, NULL, f[i]->plan, &f[i]->args));
        assert_true(f[i]->info.saved_bytes == b[i]->info.saved_bytes);
        if (f[i]->info.saved_bytes)
            memcpy(rm_buf_host(b[i]->args.t[RM_SAVED].buf), rm_buf_host(f[i]->args.t[RM_SAVED].buf), f[i]->info.saved_bytes);
        static const rm_slot shared[] = {RM_X, RM_Y, RM_GAMMA};
        for (size_t k = 0; k < RM_COUNT(shared); k++) {
            rm_slot s = shared[k];
            if (!(rm_op_uses(&b[i]->op, s) & RM_READ)) continue;
            memcpy(rm_buf_host(b[i]->args.t[s].buf), rm_buf_host(f[i]->args.t[s].buf), rm_buf_bytes(b[i]->args.t[s].buf));
        }
    }
}

static rm_op f32_twin(const rm_op *op)
{
    rm_op r = *op;
    rm_tdesc *t[] = {&r.x, &r.w, &r.y};
    for (size_t i = 0; i < RM_COUNT(t); i++) {
        if (t[i]->dtype == RM_BF16) t[i]->dtype = RM_F32;
        t[i]->layout = t[i]->dtype == RM_U8 ? RM_LAYOUT_NHWC : RM_LAYOUT_ANY;
    }
    return r;
}

static void check_op(rm_device *dc, rm_device *dr, const rm_op *op)
{
    char text[256];
    rm_op forward;
    bench_op cpu, ref, fc, fr;
    const rm_op twin = f32_twin(op);
    rm_op_print(op, text, sizeof text);
    prepare(&cpu, dc, op);
    prepare(&ref, dr, &twin);
    share_inputs(&cpu, &ref);
    if (forward_of(op, &forward)) {
        rm_op forward_twin = f32_twin(&forward);
        prepare(&fc, dc, &forward);
        prepare(&fr, dr, &forward_twin);
        run_forward(&cpu, &ref, &fc, &fr);
        finish(&fc);
        finish(&fr);
    }
    must(rm_device_run(dr, NULL, ref.plan, &ref.args));
    for (int i = 0; i < (op->code == RM_OP_BN || op->code == RM_OP_OPTIM ? 1 : 2); i++) must(rm_device_run(dc, NULL, cpu.plan, &cpu.args));
    check_outputs(text, &cpu, &ref);
    if (getenv("RM_TEST_VERBOSE")) print_message("%-90s %s\n", text, cpu.info.impl);
    finish(&cpu);
    finish(&ref);
}

/* ---- cases */
static const char *const cases[] = {
    "conv n=2 c=3 h=32 w=32 o=64 k=7 s=2 p=3", "conv n=4 c=64 h=8 w=8 o=32 k=1 s=1 p=0", "conv n=4 c=32 h=8 w=8 o=32 k=3 s=1 p=1",
    "conv n=4 c=64 h=8 w=8 o=64 k=3 s=2 p=1", "conv n=4 c=64 h=2 w=2 o=64 k=3 s=1 p=1", "conv n=4 c=64 h=3 w=5 o=64 k=3 s=2 p=1",
    "conv n=2 c=64 h=1 w=1 o=64 k=3 s=2 p=1", "conv n=2 c=64 h=2 w=1 o=64 k=3 s=2 p=1", "conv n=2 c=64 h=1 w=2 o=64 k=3 s=2 p=1",
    "conv n=1 c=64 h=1 w=1 o=64 k=3 s=1 p=1", "conv n=3 c=16 h=5 w=7 o=24 k=1 s=2 p=0", "conv n=2 c=13 h=6 w=6 o=10 k=3 s=1 p=1",
    "conv n=2 c=64 h=20 w=20 o=16 k=3 s=1 p=1",
    "bn n=3 c=64 h=5 w=7", "bn n=3 c=64 h=5 w=7 relu=1", "bn n=3 c=32 h=9 w=9 relu=1 add=1", "bn n=5 c=13 h=3 w=3 add=1",
    "bn n=3 c=64 h=5 w=7 relu=1 add=1 training=0", "bn n=8 c=8 h=40 w=40 relu=1 unbiased=0",
    "bn_bwd n=3 c=64 h=5 w=7", "bn_bwd n=3 c=64 h=5 w=7 relu=1", "bn_bwd n=3 c=32 h=9 w=9 relu=1 add=1",
    "bn_bwd n=3 c=32 h=9 w=9 relu=1 add=1 dy2=1", "bn_bwd n=5 c=13 h=3 w=3 add=1", "bn_bwd n=3 c=24 h=3 w=3 relu=1 dy2=1",
    "bn_bwd n=3 c=24 h=3 w=3 dy2=1", "bn_bwd n=3 c=24 h=3 w=3 add=1 dy2=1", "bn_bwd n=3 c=64 h=5 w=7 training=0",
    "bn_bwd n=3 c=64 h=5 w=7 relu=1 training=0", "bn_bwd n=3 c=13 h=3 w=3 relu=1 dy2=1 training=0", "bn_bwd n=3 c=32 h=9 w=9 relu=1 add=1 dy2=1 training=0",
    "relu n=3 c=13 h=5 w=3", "relu_bwd n=3 c=16 h=5 w=3", "relu_bwd n=3 c=16 h=5 w=3 dy2=1", "add n=3 c=13 h=5 w=3",
    "maxpool n=2 c=64 h=16 w=16 k=3 s=2 p=1", "maxpool n=2 c=5 h=9 w=11 k=2 s=2 p=0",
    "maxpool_bwd n=2 c=64 h=16 w=16 k=3 s=2 p=1", "maxpool_bwd n=2 c=5 h=9 w=11 k=2 s=2 p=0",
    "avgpool n=3 c=64 h=7 w=7", "avgpool n=3 c=21 h=2 w=2", "avgpool_bwd n=3 c=64 h=7 w=7", "avgpool_bwd n=3 c=21 h=2 w=2",
    "fc n=5 c=64 o=10", "fc_bwd_data n=5 c=64 o=10", "fc_bwd_weights n=5 c=64 o=10",
    "softmax_xent n=5 c=10", "softmax_xent n=3 c=1000 smoothing=0.1 scale=128", "augment n=3 h=9 w=7", "reorder n=2 c=7 h=5 w=3",
};

static void set_layout(rm_op *op, int32_t layout)
{
    op->x.layout = layout;
    if (op->code != RM_OP_CONV) op->y.layout = layout;
}

static void check_all(rm_dtype dtype, int32_t layout, bool convs_backward)
{
    rm_device *dc = open_device("cpu", 2), *dr = open_device("ref", 0);
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        char text[256];
        rm_op op;
        const bool xent = !strncmp(cases[i], "softmax", 7);
        snprintf(text, sizeof text, "%s dtype=%s", cases[i], rm_dtype_name(xent ? RM_F32 : dtype));
        must(rm_op_parse(text, &op));
        if (op.code != RM_OP_REORDER && op.code != RM_OP_AUGMENT) set_layout(&op, layout);
        if (op.code == RM_OP_CONV && op.x.dtype == RM_BF16) op.w.dtype = RM_BF16;
        check_op(dc, dr, &op);
        if (op.code != RM_OP_CONV || !convs_backward) continue;
        op.y.layout = layout;
        op.code = RM_OP_CONV_BWD_DATA;
        check_op(dc, dr, &op);
        op.code = RM_OP_CONV_BWD_WEIGHTS;
        op.w.dtype = RM_F32;
        check_op(dc, dr, &op);
    }
    rm_device_close(dc);
    rm_device_close(dr);
}

static void test_f32(void **state) { check_all(RM_F32, RM_LAYOUT_ANY, true); }
static void test_f32_nhwc(void **state) { check_all(RM_F32, RM_LAYOUT_NHWC, true); }
static void test_bf16(void **state) { check_all(RM_BF16, RM_LAYOUT_ANY, true); }
static void test_bf16_nhwc(void **state) { check_all(RM_BF16, RM_LAYOUT_NHWC, true); }

static void test_optim(void **state)
{
    static const rm_segment segment[] = {{0, 700, true, true}, {710, 90, false, false}, {800, 100000, true, true}};
    rm_device *dc = open_device("cpu", 2), *dr = open_device("ref", 0);
    for (int i = 0; i < 4; i++) {
        rm_op op = {.code = RM_OP_OPTIM, .x.dtype = RM_F32};
        op.u.optim.rule = i & 1 ? RM_LARS : RM_SGD;
        op.u.optim.nesterov = i & 2;
        op.u.optim.count = 100800;
        op.u.optim.segment = segment;
        op.u.optim.n_segment = RM_COUNT(segment);
        check_op(dc, dr, &op);
    }
    rm_device_close(dc);
    rm_device_close(dr);
}

static void test_optim_counts_non_finite(void **state)
{
    static const rm_segment segment[] = {{0, 50, true, true}, {50, 50, true, true}};
    rm_device *d = open_device("cpu", 2);
    rm_op op = {.code = RM_OP_OPTIM, .x.dtype = RM_F32};
    bench_op b;
    op.u.optim.count = 100, op.u.optim.segment = segment, op.u.optim.n_segment = 2;
    prepare(&b, d, &op);
    float *g = rm_buf_host(b.args.t[RM_DW].buf);
    const int32_t *flag = rm_buf_host(b.args.t[RM_FLAG].buf);
    must(rm_device_run(d, NULL, b.plan, &b.args));
    assert_int_equal(flag[0], 0);
    assert_int_equal(flag[1], -1);
    g[60] = NAN, g[99] = INFINITY, g[77] = -INFINITY;
    must(rm_device_run(d, NULL, b.plan, &b.args));
    assert_int_equal(flag[0], 3);
    assert_int_equal(flag[1], 1);
    finish(&b);
    rm_device_close(d);
}

static void plan_impl(rm_device *d, const rm_op *op, char impl[64])
{
    rm_op complete = *op;
    rm_plan *plan = NULL;
    rm_plan_info info;
    must(rm_op_complete(&complete));
    must(rm_device_plan(d, &complete, &plan, &info));
    memcpy(impl, info.impl, 64);
    rm_plan_free(d, plan);
}

/* Plans `op`, then forces `impl` instead of the winner. False: this op has no choice. */
static bool force(rm_device *d, const rm_op *op, const char *impl)
{
    char chosen[64];
    const char *key = NULL, *was = NULL;
    size_t before = 0;
    while (cpu_choice_at(d, before, &key, &was)) before++;
    plan_impl(d, op, chosen);
    if (!cpu_choice_at(d, before, &key, &was)) return false;
    assert_string_equal(was, chosen);
    char copy[256];
    snprintf(copy, sizeof copy, "%s", key);
    must(cpu_choice_force(d, copy, impl));
    return true;
}

/* The sum over taps, which timing may or may not choose, on every kind of window and image. */
static void test_taps(void **state)
{
    static const char *const ops[] = {
        "n=4 c=64 h=2 w=2 o=64 k=3 s=1 p=1", "n=4 c=32 h=4 w=4 o=64 k=3 s=1 p=1", "n=5 c=32 h=8 w=8 o=16 k=3 s=2 p=1",
        "n=2 c=16 h=5 w=7 o=32 k=3 s=2 p=1", "n=2 c=16 h=7 w=5 o=32 k=5 s=3 p=2", "n=3 c=16 h=1 w=1 o=32 k=3 s=1 p=1",
        "n=3 c=16 h=9 w=8 o=16 k=3 s=1 p=0"};
    static const char *const code[] = {"conv", "conv_bwd_data", "conv_bwd_weights"};
    rm_device *dr = open_device("ref", 0), *dc = open_device("cpu", 2);
    for (size_t i = 0; i < 2 * RM_COUNT(ops) * RM_COUNT(code); i++) {
        const bool half = i & 1;
        char text[256], impl[64];
        const char *name = half ? "emulated bf16: reorder+taps:sgemm" : "reorder+taps:sgemm";
        rm_op op;
        snprintf(text, sizeof text, "%s %s dtype=%s", code[i / 2 % RM_COUNT(code)], ops[i / 2 / RM_COUNT(code)], half ? "bf16" : "f32");
        must(rm_op_parse(text, &op));
        if (!force(dc, &op, name)) fail_msg("%s: no choice was made", text);
        plan_impl(dc, &op, impl);
        rm_device_info info;
        rm_device_get_info(dc, &info);
        if (half && info.native_dtypes & 1u << RM_BF16) continue; /* taps are for computing in f32 */
        if (strcmp(impl, name) != 0) fail_msg("%s: got %s", text, impl);
        check_op(dc, dr, &op);
    }
    rm_device_close(dc);
    rm_device_close(dr);
}

static void test_forced_name_unknown(void **state)
{
    rm_device *d = open_device("cpu", 2);
    rm_op op;
    char impl[64];
    must(rm_op_parse("conv n=4 c=32 h=4 w=4 o=32 k=3 s=1 p=1", &op));
    assert_true(force(d, &op, "no such code"));
    plan_impl(d, &op, impl);
    assert_null(strstr(impl, "ref"));
    assert_string_not_equal(impl, "");
    rm_device_close(d);
}

/* The same inputs give the same bits, run after run. */
static void test_same_bits_every_run(void **state)
{
    static const char *const ops[] = {"conv n=8 c=64 h=4 w=4 o=64 k=3 s=1 p=1", "conv_bwd_weights n=8 c=64 h=4 w=4 o=64 k=3 s=1 p=1",
                                      "conv_bwd_weights n=4 c=32 h=16 w=16 o=32 k=3 s=1 p=1", "fc_bwd_weights n=8 c=64 o=40"};
    rm_device *d = open_device("cpu", 2);
    for (size_t i = 0; i < RM_COUNT(ops); i++) {
        rm_op op;
        bench_op b;
        must(rm_op_parse(ops[i], &op));
        prepare(&b, d, &op);
        share_inputs(&b, &b);
        const rm_ref out = rm_op_uses(&op, RM_Y) ? b.args.t[RM_Y] : b.args.t[RM_DW];
        const size_t bytes = rm_buf_bytes(out.buf);
        void *first = malloc(bytes);
        assert_non_null(first);
        must(rm_device_run(d, NULL, b.plan, &b.args));
        memcpy(first, rm_buf_host(out.buf), bytes);
        for (int run = 0; run < 5; run++) {
            must(rm_device_run(d, NULL, b.plan, &b.args));
            assert_memory_equal(first, rm_buf_host(out.buf), bytes);
        }
        free(first);
        finish(&b);
    }
    rm_device_close(d);
}

/* Own kernels give the same bits whatever the number of threads. */
static void test_threads_do_not_change_results(void **state)
{
    static const char *const ops[] = {"bn n=9 c=40 h=7 w=5 relu=1", "bn n=9 c=64 h=7 w=5 relu=1 add=1", "avgpool n=3 c=64 h=7 w=7",
                                      "maxpool n=2 c=64 h=9 w=9 k=3 s=2 p=1"};
    for (size_t i = 0; i < RM_COUNT(ops); i++) {
        values got[3];
        for (int threads = 1; threads <= 3; threads++) {
            rm_device *d = open_device("cpu", threads);
            rm_op op;
            bench_op b;
            must(rm_op_parse(ops[i], &op));
            prepare(&b, d, &op);
            share_inputs(&b, &b);
            must(rm_device_run(d, NULL, b.plan, &b.args));
            got[threads - 1] = get(&b, RM_Y);
            finish(&b);
            rm_device_close(d);
        }
        for (int t = 1; t < 3; t++) assert_memory_equal(got[0].v, got[t].v, got[0].n * sizeof(double));
        for (int t = 0; t < 3; t++) free(got[t].v);
    }
}

static void test_unsupported_types_say_so(void **state)
{
    static const char *const ops[] = {"relu n=1 c=8 h=1 w=1 dtype=fp16", "add n=1 c=8 h=1 w=1 dtype=f64", "conv n=1 c=8 h=1 w=1 o=8 k=1 s=1 p=0 dtype=tf32"};
    rm_device *d = open_device("cpu", 1);
    for (size_t i = 0; i < RM_COUNT(ops); i++) {
        rm_op op;
        rm_plan *plan;
        rm_plan_info info;
        must(rm_op_parse(ops[i], &op));
        assert_int_equal(rm_device_plan(d, &op, &plan, &info), RM_E_UNSUPPORTED);
        assert_non_null(strstr(rm_last_error(), "not supported"));
    }
    rm_device_close(d);
}

static void test_padding_stays_zero(void **state)
{
    static const char *const ops[] = {"bn n=2 c=13 h=3 w=3 relu=1", "conv n=2 c=16 h=4 w=4 o=13 k=3 s=1 p=1", "maxpool n=2 c=13 h=4 w=4 k=2 s=2 p=0"};
    rm_device *d = open_device("cpu", 2);
    for (size_t i = 0; i < RM_COUNT(ops); i++) {
        rm_op op;
        bench_op b;
        must(rm_op_parse(ops[i], &op));
        prepare(&b, d, &op);
        share_inputs(&b, &b);
        must(rm_device_run(d, NULL, b.plan, &b.args));
        const rm_tdesc t = tensor_in(&b, RM_Y);
        const size_t elements = rm_layout_bytes(d, &t) / 4;
        const float *y = rm_buf_host(b.args.t[RM_Y].buf);
        values v = get(&b, RM_Y);
        double all = 0, real = 0;
        for (size_t k = 0; k < elements; k++) all += fabs((double)y[k]);
        for (uint64_t k = 0; k < v.n; k++) real += fabs(v.v[k]);
        assert_true(elements > v.n);
        assert_true(fabs(all - real) <= 1e-9 * all);
        free(v.v);
        finish(&b);
    }
    rm_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32), cmocka_unit_test(test_f32_nhwc), cmocka_unit_test(test_bf16), cmocka_unit_test(test_bf16_nhwc),
        cmocka_unit_test(test_optim), cmocka_unit_test(test_optim_counts_non_finite),
        cmocka_unit_test(test_threads_do_not_change_results), cmocka_unit_test(test_unsupported_types_say_so),
        cmocka_unit_test(test_padding_stays_zero), cmocka_unit_test(test_taps), cmocka_unit_test(test_forced_name_unknown),
        cmocka_unit_test(test_same_bits_every_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
