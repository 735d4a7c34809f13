/* What is no op of its own, or beyond what the op harness feeds: bias, fill, padding, bad labels, non-finite gradients, large means,
 * operands in place, arguments that make no sense. On the emulator; expected values from a few lines of double arithmetic. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/kernels.h"
#include "kernels/op.h"
#include "tests/cuda/emu/emu.h"

_Static_assert(RM_HYPER_LR == 0 && RM_HYPER_MOMENTUM == 1 && RM_HYPER_DECAY == 2 && RM_HYPER_GRAD_SCALE == 3 && RM_HYPER_ETA == 4,
               "optim.cu has the places of HYPER as numbers");

static void ok(cudaError_t e)
{
    if (e != cudaSuccess) fail_msg("error %d", (int)e);
}

static void *device_of(const void *values, size_t bytes)
{
    void *p;
    ok(cudaMalloc(&p, bytes));
    if (values) ok(cudaMemcpyAsync(p, values, bytes, cudaMemcpyHostToDevice, NULL));
    return p;
}

static void to_host(void *dst, void *src, size_t bytes)
{
    ok(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, NULL));
    if (emu_found_any()) fail_msg("%s", emu_first());
}

static int fresh(void **state)
{
    const emu_order order = { EMU_SHUFFLED, true, 5 };
    emu_clear();
    emu_set_order(order);
    return 0;
}

/* Small numbers that are exact in every type. */
static float pattern(int i) { return (float)(i * 37 % 17 - 8) / 4; }

static const size_t type_bytes[RM_CUDA_TYPES] = { 4, 2, 2 };

/* fp32 values, exact in `type`, as a buffer of that type. */
static void *device_of_type(rm_cuda_type type, const float *values, int32_t count)
{
    const rm_cuda_tensor from = { RM_CUDA_F32, RM_CUDA_NHWC, count }, to = { type, RM_CUDA_NHWC, count };
    void *x = device_of(values, (size_t)count * 4), *y = device_of(NULL, (size_t)count * type_bytes[type]);
    ok(rm_cuda_reorder(1, 1, from, x, to, y, NULL));
    cudaFree(x);
    return y;
}

static void bias_and_its_gradient(void **state)
{
    enum { ROWS = 37, MOST = 16 };
    for (int k = 0; k < 2 * RM_CUDA_TYPES; k++) {
        const rm_cuda_type type = (rm_cuda_type)(k / 2);
        const int C = k % 2 ? MOST : 10;
        float x[ROWS * MOST], bias[MOST], y[ROWS * MOST], got[MOST];
        for (int i = 0; i < ROWS * C; i++) x[i] = pattern(i);
        for (int c = 0; c < C; c++) bias[c] = (float)c;
        void *dx = device_of_type(type, x, ROWS * C), *db = device_of(bias, sizeof bias), *dg = device_of(bias, sizeof got);
        void *dy = type == RM_CUDA_F32 ? dx : device_of(NULL, sizeof y); /* in place where that is allowed */
        ok(rm_cuda_bias_gradient(type, ROWS, C, dx, dg, NULL));
        ok(rm_cuda_bias_add(type, ROWS, C, dx, db, dy, NULL));
        to_host(y, dy, (size_t)(ROWS * C) * 4);
        to_host(got, dg, sizeof got);
        for (int i = 0; i < ROWS * C; i++) assert_true(y[i] == x[i] + bias[i % C]);
        for (int c = 0; c < C; c++) {
            float sum = 0;
            for (int r = 0; r < ROWS; r++) sum += x[r * C + c];
            assert_true(got[c] == sum);
        }
        if (dy != dx) cudaFree(dy);
        cudaFree(dx), cudaFree(db), cudaFree(dg);
    }
}

static void fills(void **state)
{
    static const uint32_t one_and_a_half[RM_CUDA_TYPES] = { 0x3fc00000, 0x3fc0, 0x3e00 };
    for (int t = 0; t < RM_CUDA_TYPES; t++) {
        unsigned char got[4 * 301];
        void *p = device_of(NULL, 301 * type_bytes[t]);
        ok(rm_cuda_fill((rm_cuda_type)t, 301, 1.5f, p, NULL));
        to_host(got, p, 301 * type_bytes[t]);
        for (size_t i = 0; i < 301; i++) assert_memory_equal(got + i * type_bytes[t], &one_and_a_half[t], type_bytes[t]);
        cudaFree(p);
    }
}

/* 3 channels to 8 with zeros, from either layout, and back, between any two types. */
static void pads_and_crops(void **state)
{
    enum { N = 2, HW = 35, C = 3, PAD = 8, SMALL = N * C * HW, LARGE = N * HW * PAD };
    float x[SMALL], padded[LARGE], back[SMALL];
    for (int i = 0; i < SMALL; i++) x[i] = pattern(i) + 3;
    for (int k = 0; k < RM_CUDA_TYPES * RM_CUDA_TYPES; k++) {
        const rm_cuda_type a = (rm_cuda_type)(k / RM_CUDA_TYPES), b = (rm_cuda_type)(k % RM_CUDA_TYPES);
        const rm_cuda_tensor plain = { a, RM_CUDA_NCHW, C }, rows = { a, RM_CUDA_NHWC, C }, wide = { b, RM_CUDA_NHWC, PAD };
        const rm_cuda_tensor wide32 = { RM_CUDA_F32, RM_CUDA_NHWC, PAD }, plain32 = { RM_CUDA_F32, RM_CUDA_NCHW, C };
        void *px = device_of_type(a, x, SMALL), *pr = device_of(NULL, SMALL * type_bytes[a]), *p32 = device_of(NULL, sizeof padded);
        void *pp = device_of(NULL, LARGE * type_bytes[b]), *pq = device_of(NULL, LARGE * type_bytes[b]);
        ok(rm_cuda_reorder(N, HW, plain, px, wide, pp, NULL));
        ok(rm_cuda_reorder(N, HW, wide, pp, rows, pr, NULL));
        ok(rm_cuda_reorder(N, HW, rows, pr, wide, pq, NULL));
        for (int round = 0; round < 2; round++) {
            ok(rm_cuda_reorder(N, HW, wide, round ? pq : pp, wide32, p32, NULL));
            to_host(padded, p32, sizeof padded);
            for (int i = 0; i < LARGE; i++) {
                int n = i / PAD / HW, p = i / PAD % HW, c = i % PAD;
                assert_true(padded[i] == (c < C ? x[(n * C + c) * HW + p] : 0));
            }
        }
        ok(rm_cuda_reorder(N, HW, wide, pq, plain32, p32, NULL));
        to_host(back, p32, sizeof back);
        assert_memory_equal(back, x, sizeof x);
        cudaFree(px), cudaFree(pr), cudaFree(p32), cudaFree(pp), cudaFree(pq);
    }
}

/* Halfway goes to the even neighbour, in both directions and types; bits of 1 + k/2^n. */
static void rounds_to_nearest_even(void **state)
{
    static const struct {
        rm_cuda_type type;
        int digits;
        uint16_t one;
    } half[] = { { RM_CUDA_BF16, 7, 0x3f80 }, { RM_CUDA_F16, 10, 0x3c00 } };
    for (size_t t = 0; t < 2; t++) {
        float x[16];
        uint16_t y[16];
        for (int i = 0; i < 16; i++) x[i] = (float)((i & 8 ? -1 : 1) * (1 + ldexp(i & 7, -half[t].digits - 2))); /* quarters of a unit */
        const rm_cuda_tensor from = { RM_CUDA_F32, RM_CUDA_NHWC, 16 }, to = { half[t].type, RM_CUDA_NHWC, 16 };
        void *px = device_of(x, sizeof x), *py = device_of(NULL, sizeof y);
        ok(rm_cuda_reorder(1, 1, from, px, to, py, NULL));
        to_host(y, py, sizeof y);
        static const int units[8] = { 0, 0, 0, 1, 1, 1, 2, 2 };
        for (int i = 0; i < 16; i++) assert_int_equal(y[i], half[t].one + units[i & 7] + (i & 8 ? 0x8000 : 0));
        cudaFree(px), cudaFree(py);
    }
}

static void images_are_padded_with_zeros(void **state)
{
    enum { N = 2, H = 3, W = 5, C = 3 };
    static const double mean[3] = { 0.5, 0.25, 0 }, std[3] = { 0.5, 1, 2 };
    static const uint8_t flip[N] = { 0, 1 };
    uint8_t x[N * H * W * C];
    for (int i = 0; i < N * H * W * C; i++) x[i] = (uint8_t)(i * 53);
    for (int c = 4; c <= 16; c *= 2) {
        float y[N * H * W * 16];
        void *px = device_of(x, sizeof x), *pf = device_of(flip, sizeof flip), *py = device_of(NULL, sizeof(float) * N * H * W * (size_t)c);
        ok(rm_cuda_augment(RM_CUDA_F32, N, H, W, c, px, pf, mean, std, py, NULL));
        to_host(y, py, sizeof(float) * N * H * W * (size_t)c);
        for (int i = 0; i < N * H * W * c; i++) {
            int k = i % c, p = i / c, n = p / W / H, from = flip[n] ? p / W * W + W - 1 - p % W : p;
            double want = k < C ? (x[from * C + k] / 255.0 - mean[k]) / std[k] : 0;
            assert_true(k < C ? fabs(y[i] - want) < 1e-6 : y[i] == 0);
        }
        cudaFree(px), cudaFree(pf), cudaFree(py);
    }
}

static void a_bad_label_makes_nan_and_reads_nothing(void **state)
{
    enum { N = 3, C = 5 };
    float x[N * C], dx[N * C], loss;
    for (int i = 0; i < N * C; i++) x[i] = pattern(i);
    const int32_t bad[2][N] = { { 0, C, 2 }, { 1, -1, 0 } };
    for (int k = 0; k < 2; k++) {
        void *px = device_of(x, sizeof x), *pl = device_of(bad[k], sizeof bad[k]), *pd = device_of(NULL, sizeof dx), *ps = device_of(NULL, 4),
             *pw = device_of(NULL, N * 4);
        ok(rm_cuda_softmax_xent(RM_CUDA_F32, N, C, 0, 1, px, pl, ps, pd, pw, NULL));
        to_host(&loss, ps, 4);
        to_host(dx, pd, sizeof dx);
        assert_true(isnan(loss));
        for (int i = 0; i < N * C; i++) assert_int_equal(isnan(dx[i]) != 0, i / C == 1);
        cudaFree(px), cudaFree(pl), cudaFree(pd), cudaFree(ps), cudaFree(pw);
    }
}

/* ---- optimiser: non-finite gradients of every kind and width, elements outside every span, gradients in bf16 */
enum { ARENA = 30000 };
static const rm_cuda_span spans[] = { { 3, 0, 1, 1 }, { 5, 9001, 1, 0 }, { 9010, 1, 0, 0 }, { 9100, 20000, 0, 1 } };
enum { SPANS = 4 };

typedef struct arena {
    rm_cuda_optim o;
    void *w, *dw, *v, *hyper, *flag, *ws;
} arena;

static arena arena_new(const float *w, const void *dw, size_t dw_bytes, rm_cuda_type gradient, bool lars)
{
    static const double hyper[RM_HYPER_COUNT] = { 0.5, 0.875, 0.125, 0.5, 0.25 };
    static const float zero[ARENA];
    rm_cuda_chunk chunk[16];
    rm_cuda_reach reach[SPANS];
    uint32_t n = rm_cuda_optim_chunks(spans, SPANS);
    assert_int_equal(n, 6);
    rm_cuda_optim_cut(spans, SPANS, chunk, reach);
    return (arena) { .o = { .n_spans = SPANS,
                            .n_chunks = n,
                            .chunk = device_of(chunk, n * sizeof *chunk),
                            .reach = device_of(reach, sizeof reach),
                            .lars = lars,
                            .gradient = gradient },
                     .w = device_of(w, ARENA * 4),
                     .dw = device_of(dw, dw_bytes),
                     .v = device_of(zero, sizeof zero),
                     .hyper = device_of(hyper, sizeof hyper),
                     .flag = device_of(NULL, 8),
                     .ws = device_of(NULL, rm_cuda_optim_workspace_bytes(SPANS, n)) };
}

static void arena_free(arena *a)
{
    cudaFree((void *)(uintptr_t)a->o.chunk), cudaFree((void *)(uintptr_t)a->o.reach);
    cudaFree(a->w), cudaFree(a->dw), cudaFree(a->v), cudaFree(a->hyper), cudaFree(a->flag), cudaFree(a->ws);
}

static void counts_what_is_not_finite(void **state)
{
    static float w[ARENA], dw[ARENA];
    int32_t flag[2];
    for (int i = 0; i < ARENA; i++) dw[i] = pattern(i);
    dw[0] = dw[4] = dw[9050] = dw[29100] = NAN; /* outside every span */
    for (int lars = 0; lars < 2; lars++) {
        arena a = arena_new(w, dw, sizeof dw, RM_CUDA_F32, lars);
        ok(rm_cuda_optim_step(&a.o, a.w, a.dw, a.v, a.hyper, a.flag, a.ws, NULL));
        to_host(flag, a.flag, sizeof flag);
        assert_int_equal(flag[0], 0);
        assert_int_equal(flag[1], -1);
        arena_free(&a);
    }
    dw[9010] = -INFINITY; /* a span of one */
    dw[9100] = dw[29099] = dw[17300] = NAN; /* first, last, middle */
    arena a = arena_new(w, dw, sizeof dw, RM_CUDA_F32, false);
    ok(rm_cuda_optim_step(&a.o, a.w, a.dw, a.v, a.hyper, a.flag, a.ws, NULL));
    to_host(flag, a.flag, sizeof flag);
    assert_int_equal(flag[0], 4);
    assert_int_equal(flag[1], 2);
    arena_free(&a);
}

static void touches_spans_only_and_takes_bf16_gradients(void **state)
{
    static float w[ARENA], v[ARENA], got[ARENA];
    static uint16_t dw[ARENA];
    for (int i = 0; i < ARENA; i++) {
        float g = pattern(i);
        uint32_t bits;
        memcpy(&bits, &g, 4);
        dw[i] = (uint16_t)(bits >> 16);
        w[i] = pattern(i + 5);
    }
    arena a = arena_new(w, dw, sizeof dw, RM_CUDA_BF16, false);
    ok(rm_cuda_optim_step(&a.o, a.w, a.dw, a.v, a.hyper, a.flag, a.ws, NULL));
    to_host(got, a.w, sizeof got);
    to_host(v, a.v, sizeof v);
    for (int i = 0; i < ARENA; i++) {
        bool inside = false;
        float decay = 0;
        for (int s = 0; s < SPANS; s++)
            if ((uint64_t)i >= spans[s].start && (uint64_t)i < spans[s].start + spans[s].count) {
                inside = true;
                decay = spans[s].decay ? 0.125f : 0;
            }
        float want = inside ? 0.5f * pattern(i) + decay * w[i] : 0;
        assert_true(v[i] == want);
        assert_true(got[i] == w[i] - 0.5f * want);
    }
    arena_free(&a);
}

/* The same gradients, exact in every type, give the same bits. */
static void the_type_of_gradients_does_not_matter(void **state)
{
    static float w[ARENA], dw[ARENA], want[ARENA], got[ARENA];
    for (int i = 0; i < ARENA; i++) {
        w[i] = pattern(i + 5);
        dw[i] = pattern(i);
    }
    for (int k = 0; k < 2 * RM_CUDA_TYPES; k++) {
        const rm_cuda_type type = (rm_cuda_type)(k % RM_CUDA_TYPES);
        arena a = arena_new(w, NULL, 4, type, k >= RM_CUDA_TYPES);
        void *g = device_of_type(type, dw, ARENA);
        ok(rm_cuda_optim_step(&a.o, a.w, g, a.v, a.hyper, a.flag, a.ws, NULL));
        to_host(got, a.w, sizeof got);
        if (type == RM_CUDA_F32) memcpy(want, got, sizeof want);
        assert_memory_equal(got, want, sizeof want);
        cudaFree(g);
        arena_free(&a);
    }
}

/* ---- batch normalisation */
/* A mean of 1000 standard deviations: sums of squares would lose all digits of the variance in fp32. */
static void a_large_mean_costs_no_digits(void **state)
{
    enum { ROWS = 700, C = 4 };
    static float x[ROWS * C], y[ROWS * C];
    float ones[C] = { 1, 1, 1, 1 }, zeros[C] = { 0 }, saved[RM_CUDA_BN_SAVED * C];
    for (int i = 0; i < ROWS * C; i++) x[i] = 1000 + pattern(i / C * 3 + i % C);
    const rm_cuda_bn bn = { ROWS, C, RM_CUDA_F32, 1e-5, 0.1, false, true };
    void *px = device_of(x, sizeof x), *py = device_of(NULL, sizeof y), *g = device_of(ones, sizeof ones), *b = device_of(zeros, sizeof zeros);
    void *m = device_of(zeros, sizeof zeros), *v = device_of(ones, sizeof ones), *s = device_of(NULL, sizeof saved),
         *w = device_of(NULL, rm_cuda_bn_workspace_bytes(&bn));
    ok(rm_cuda_bn_forward(&bn, px, NULL, g, b, m, v, py, s, w, NULL));
    to_host(saved, s, sizeof saved);
    to_host(y, py, sizeof y);
    for (int c = 0; c < C; c++) {
        double mean = 0, var = 0;
        for (int r = 0; r < ROWS; r++) mean += x[r * C + c] / (double)ROWS;
        for (int r = 0; r < ROWS; r++) var += (x[r * C + c] - mean) * (x[r * C + c] - mean) / ROWS;
        assert_true(fabs(saved[c] - mean) < 1e-7 * 1000);
        assert_true(fabs(saved[C + c] * sqrt(var + 1e-5) - 1) < 1e-6);
        for (int r = 0; r < ROWS; r++) assert_true(fabs(y[r * C + c] - (x[r * C + c] - mean) / sqrt(var + 1e-5)) < 1e-4);
    }
    cudaFree(px), cudaFree(py), cudaFree(g), cudaFree(b), cudaFree(m), cudaFree(v), cudaFree(s), cudaFree(w);
}

/* dx in the place of dy gives the bits of dx elsewhere, training and frozen, wide and narrow. */
static void backward_in_place(void **state)
{
    enum { ROWS = 50, MOST = 16 };
    for (int k = 0; k < 4; k++) {
        const int C = k % 2 ? MOST : 5;
        const size_t bytes = (size_t)(ROWS * C) * 4;
        static float x[ROWS * MOST], dy[ROWS * MOST], a[ROWS * MOST], b[ROWS * MOST];
        float ones[MOST], half[MOST];
        for (int i = 0; i < ROWS * C; i++) {
            x[i] = pattern(i);
            dy[i] = pattern(i * 7 + 1);
        }
        for (int c = 0; c < MOST; c++) {
            ones[c] = 1;
            half[c] = 0.5f;
        }
        const rm_cuda_bn bn = { ROWS, C, RM_CUDA_F32, 1e-5, 0.1, true, true };
        void *px = device_of(x, bytes), *py = device_of(NULL, bytes), *pdy = device_of(dy, bytes), *pdx = device_of(NULL, bytes);
        void *g = device_of(ones, sizeof ones), *h = device_of(half, sizeof half), *m = device_of(half, sizeof half), *v = device_of(ones, sizeof ones);
        void *s = device_of(NULL, (size_t)(RM_CUDA_BN_SAVED * C) * 4), *w = device_of(NULL, rm_cuda_bn_workspace_bytes(&bn));
        void *dg = device_of(NULL, sizeof ones), *db = device_of(NULL, sizeof ones);
        ok(rm_cuda_bn_forward(&bn, px, NULL, g, h, m, v, py, s, w, NULL));
        for (int place = 0; place < 2; place++) {
            void *out = place ? pdy : pdx;
            if (k < 2) ok(rm_cuda_bn_backward(&bn, px, NULL, pdy, NULL, s, out, NULL, dg, db, w, NULL));
            else ok(rm_cuda_bn_backward_frozen(&bn, px, py, pdy, NULL, g, m, v, out, NULL, dg, db, w, NULL));
            to_host(place ? b : a, out, bytes);
        }
        assert_memory_equal(a, b, bytes);
        void *const all[] = { px, py, pdy, pdx, g, h, m, v, s, w, dg, db };
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) cudaFree(all[i]);
    }
}

static void relu_keeps_nan_and_drops_the_sign_of_zero(void **state)
{
    const float x[5] = { NAN, -1, -0.0f, 0, 2 };
    float y[5];
    void *p = device_of(x, sizeof x);
    ok(rm_cuda_relu(RM_CUDA_F32, 5, p, p, NULL));
    to_host(y, p, sizeof y);
    assert_true(isnan(y[0]) && y[1] == 0 && !signbit(y[2]) && y[3] == 0 && y[4] == 2);
    cudaFree(p);
}

static void refuses_nonsense(void **state)
{
    uint64_t before = emu_launches();
    const rm_cuda_bn empty = { 0, 8, RM_CUDA_F32, 1e-5, 0.1, false, false }, one = { 1, 8, RM_CUDA_F32, 1e-5, 0.1, false, true };
    const rm_cuda_bn bad = { 4, 8, RM_CUDA_TYPES, 1e-5, 0.1, true, false }, fused = { 4, 8, RM_CUDA_F32, 1e-5, 0.1, true, false };
    const double mean[3] = { 0 }, std[3] = { 1, 0, 1 };
    const rm_cuda_tensor a = { RM_CUDA_F32, RM_CUDA_NCHW, 3 }, b = { RM_CUDA_F32, RM_CUDA_NCHW, 8 };
    const rm_cuda_optim none = { 0 };
    char d[16] = "";
    const cudaError_t got[] = {
        rm_cuda_bn_forward(&empty, d, NULL, NULL, NULL, NULL, NULL, d, NULL, NULL, NULL),
        rm_cuda_bn_forward(&one, d, NULL, NULL, NULL, NULL, NULL, d, NULL, NULL, NULL),
        rm_cuda_bn_inference(&bad, d, NULL, NULL, NULL, NULL, NULL, d, NULL, NULL),
        rm_cuda_bn_backward(&fused, d, NULL, d, NULL, NULL, d, d, NULL, NULL, NULL, NULL),
        rm_cuda_bn_backward_frozen(&fused, d, NULL, d, NULL, NULL, NULL, NULL, d, NULL, NULL, NULL, NULL, NULL),
        rm_cuda_avgpool(RM_CUDA_F32, 65536, 1, 1, d, d, NULL),
        rm_cuda_avgpool_backward(RM_CUDA_F32, 1, 0, 1, d, d, NULL),
        rm_cuda_bias_gradient(RM_CUDA_F32, 0, 1, d, NULL, NULL),
        rm_cuda_bias_add(RM_CUDA_F32, 1, 0, d, NULL, NULL, NULL),
        rm_cuda_relu(RM_CUDA_TYPES, 1, d, d, NULL),
        rm_cuda_fill(RM_CUDA_F32, 0, 0, d, NULL),
        rm_cuda_softmax_xent(RM_CUDA_F32, 0, 1, 0, 1, d, NULL, NULL, d, d, NULL),
        rm_cuda_optim_step(&none, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        rm_cuda_reorder(1, 1, a, d, b, d, NULL),
        rm_cuda_augment(RM_CUDA_F32, 1, 1, 1, 8, NULL, NULL, mean, std, d, NULL),
        rm_cuda_augment(RM_CUDA_F32, 1, 1, 1, 2, NULL, NULL, mean, mean, d, NULL),
    };
    for (size_t i = 0; i < sizeof got / sizeof got[0]; i++)
        if (got[i] != cudaErrorInvalidValue) fail_msg("call %zu is let through", i);
    assert_int_equal(emu_launches(), before);
}

int main(int argc, char **argv) /* --record FOLDER: for ptx.py */
{
    if (argc == 3 && !strcmp(argv[1], "--record")) emu_record(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(bias_and_its_gradient, fresh),
        cmocka_unit_test_setup(fills, fresh),
        cmocka_unit_test_setup(pads_and_crops, fresh),
        cmocka_unit_test_setup(rounds_to_nearest_even, fresh),
        cmocka_unit_test_setup(images_are_padded_with_zeros, fresh),
        cmocka_unit_test_setup(a_bad_label_makes_nan_and_reads_nothing, fresh),
        cmocka_unit_test_setup(counts_what_is_not_finite, fresh),
        cmocka_unit_test_setup(touches_spans_only_and_takes_bf16_gradients, fresh),
        cmocka_unit_test_setup(the_type_of_gradients_does_not_matter, fresh),
        cmocka_unit_test_setup(a_large_mean_costs_no_digits, fresh),
        cmocka_unit_test_setup(backward_in_place, fresh),
        cmocka_unit_test_setup(relu_keeps_nan_and_drops_the_sign_of_zero, fresh),
        cmocka_unit_test_setup(refuses_nonsense, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
