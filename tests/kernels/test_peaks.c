/* Peaks: every loop does its work (its sums are exact), the figures are there and in an order that no machine turns round tenfold. */
#include "kernels/cpu/peaks.h"
#include "kernels/cpu/vec.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cpu_peak_loops *loops(int lanes)
{
    const cpu_peak_loops *all[] = {
        &cpu_peak_loops_base,
#if defined(__x86_64__)
        &cpu_peak_loops_avx2,
        &cpu_peak_loops_avx512
#endif
    };
    for (size_t i = 0; i < RM_COUNT(all); i++)
        if (all[i]->lanes == lanes) return all[i];
    return NULL;
}

/* Base, and the widest this processor has. */
static void each_set(void (*fn)(const cpu_peak_loops *l))
{
    const int widest = cpu_vec_for(16)->lanes;
    fn(loops(4));
    if (widest > 4) fn(loops(8));
    if (widest > 8) fn(loops(16));
}

static void check_fma(const cpu_peak_loops *l)
{
    const double start = CPU_PEAK_CHAINS * (CPU_PEAK_CHAINS - 1) / 2.0;
    assert_true(l->fma(0, 1, 1) == l->lanes * start);
    assert_true(l->fma(1000, 1, 1) == l->lanes * (CPU_PEAK_CHAINS * 1000.0 + start));
    assert_true(l->fma(CPU_PEAK_MOST, 1, 1) == l->lanes * ((double)CPU_PEAK_CHAINS * CPU_PEAK_MOST + start));
    assert_true(l->fma(3, 2, 0) == l->lanes * 8 * start);
    assert_true(l->fma(200, 0.5f, 1) == l->lanes * CPU_PEAK_CHAINS * 2.0);
}
static void fma_loops(void **state) { each_set(check_fma); }

enum { N = 3 * 128 };
static void check_moving(const cpu_peak_loops *l)
{
    float *x = aligned_alloc(64, 3 * N * sizeof *x), *y = x + N, *z = x + 2 * N;
    assert_non_null(x);
    for (int past = 0; past < 2; past++) {
        for (int i = 0; i < N; i++) x[i] = -1, y[i] = (float)i, z[i] = (float)(i % 7);
        if (past && !l->triad_past) break;
        (past ? l->triad_past : l->triad)(x, y, z, 3, N);
        for (int i = 0; i < N; i++) assert_true(x[i] == (float)(i + 3 * (i % 7)) && y[i] == (float)i);
    }
    assert_true(l->read(y, N) == N * (N - 1) / 2.0);
    y[N - 1] += 1; /* the last one counts */
    assert_true(l->read(y, N) == N * (N - 1) / 2.0 + 1);
    free(x);
}
static void moving_loops(void **state) { each_set(check_moving); }

static void dot_loop(void **state)
{
    cpu_peak_dot *dot = cpu_peak_dot_bf16();
    if (!dot) skip();
    assert_true(dot(1000, cpu_to_bf16(1)) == CPU_PEAK_DOT_LANES * (2.0 * CPU_PEAK_CHAINS * 1000 + CPU_PEAK_CHAINS * (CPU_PEAK_CHAINS - 1) / 2.0));
    assert_true(dot(100, cpu_to_bf16(2)) == CPU_PEAK_DOT_LANES * (8.0 * CPU_PEAK_CHAINS * 100 + CPU_PEAK_CHAINS * (CPU_PEAK_CHAINS - 1) / 2.0));
}

static void best_runs(void **state)
{
    cpu_peak_best b = { .rate = 0 };
    cpu_peak_keep(&b, 100, 1000000000, 0);
    assert_true(b.rate == 100 && !b.disturbed);
    cpu_peak_keep(&b, 90, 1000000000, 500000000); /* slower: nothing changes */
    assert_true(b.rate == 100 && !b.disturbed);
    cpu_peak_keep(&b, 110, 1000000000, 10000001);
    assert_true(b.rate == 110 && b.disturbed);
    cpu_peak_keep(&b, 120, 1000000000, 10000000);
    assert_true(b.rate == 120 && !b.disturbed);
    assert_false(cpu_peak_enough(&b, 2, 0, 1));
    assert_true(cpu_peak_enough(&b, 3, 0, 1));
}

static const rm_peak *find(const rm_peaks *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->at[i].name, name)) return &p->at[i];
    fail_msg("no peak %s", name);
    return NULL;
}

static void whole(const rm_peak *k)
{
    assert_true(isnan(k->value) || k->value > 1e6);
    assert_true(isnan(k->value) == (k->why[0] != '\0'));
    assert_true(k->how[0] && strstr(k->how, "2 threads"));
    assert_true(!strcmp(k->unit, "B/s") == (!strncmp(k->name, "read", 4) || !strncmp(k->name, "triad", 5)));
}

/* Not a test of speed: ten times off is a wrong count of work, not a busy machine. */
static void figures(void **state)
{
    static const char *const name[] = { "fma fp32", "dot bf16", "gemm fp32", "gemm bf16", "read L2", "read L3", "read memory", "triad memory" };
    rm_device *d;
    rm_peaks p;
    const rm_device_config cfg = { .threads = 2 };
    assert_int_equal(rm_device_open("cpu", &cfg, &d), RM_OK);
    assert_int_equal(rm_device_peaks(d, &p), RM_OK);
    rm_device_close(d);
    assert_int_equal(p.n, RM_COUNT(name));
    for (size_t i = 0; i < RM_COUNT(name); i++) whole(find(&p, name[i]));
    const double fma = rm_peak_of(&p, "fma fp32"), gemm = rm_peak_of(&p, "gemm fp32"), memory = rm_peak_of(&p, "read memory"),
                 triad = rm_peak_of(&p, "triad memory");
    assert_true(isfinite(fma) && isfinite(gemm) && isfinite(memory) && isfinite(triad));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(gemm < 10 * fma && fma < 100 * gemm && triad < 10 * memory && memory < 10 * triad);
    if (isfinite(rm_peak_of(&p, "read L2"))) assert_true(memory < 10 * rm_peak_of(&p, "read L2"));
#endif
    assert_true(isnan(rm_peak_of(&p, "gemm fp64")));
}

static void roof_levels(void **state)
{
    rm_device *d;
    rm_peaks p;
    assert_int_equal(rm_device_open("cpu", NULL, &d), RM_OK);
    assert_int_equal(rm_device_peaks(d, &p), RM_OK);
    rm_device_close(d);
    const rm_roof r = rm_peaks_roof(&p, RM_F32);
    assert_true(r.n_level >= 1 && r.n_level <= RM_ROOF_LEVELS);
    assert_string_equal(r.level[r.n_level - 1].name, "memory");
    assert_true(r.level[r.n_level - 1].bytes == UINT64_MAX);
    for (int i = 0; i + 1 < r.n_level; i++) assert_true(r.level[i].bytes && r.level[i].bytes < r.level[i + 1].bytes);
    assert_true(r.flops_per_s == fmax(rm_peak_of(&p, "fma fp32"), rm_peak_of(&p, "gemm fp32")));
}

/* Made figures: which of them is the roof of which type. */
static void roof_of_types(void **state)
{
    rm_peaks p = { .n = 0 };
    rm_peaks_add(&p, "fma fp32", "FLOP/s", 100, "by hand", NULL);
    rm_peaks_add(&p, "gemm fp32", "FLOP/s", 90, "by hand", NULL);
    rm_peaks_add(&p, "dot bf16", "FLOP/s", NAN, "by hand", "none");
    rm_peaks_add(&p, "gemm bf16", "FLOP/s", 30, "by hand", NULL); /* emulated */
    assert_true(rm_peaks_roof(&p, RM_F32).flops_per_s == 100);
    assert_true(rm_peaks_roof(&p, RM_BF16).flops_per_s == 100);
    assert_true(isnan(rm_peaks_roof(&p, RM_F64).flops_per_s));
    assert_string_equal(p.at[2].why, "none");
    p.at[3].value = 400;
    assert_true(rm_peaks_roof(&p, RM_BF16).flops_per_s == 400);
    assert_true(isnan(rm_peak_of(&p, "dot bf16")) && isnan(rm_peak_of(&p, "gone")) && rm_peak_of(&p, "gemm fp32") == 90);
}

static void devices_without(void **state)
{
    static const char *const name[] = { "ref", "null" };
    for (size_t i = 0; i < RM_COUNT(name); i++) {
        rm_device *d;
        rm_peaks p;
        assert_int_equal(rm_device_open(name[i], NULL, &d), RM_OK);
        assert_int_equal(rm_device_peaks(d, &p), RM_E_UNSUPPORTED);
        assert_non_null(strstr(rm_last_error(), name[i]));
        rm_device_close(d);
    }
}

static void caches(void **state)
{
    const cpu_caches c = cpu_peak_caches();
    assert_true((c.n_l2 > 0) == (c.l2_bytes > 0) && (c.n_l3 > 0) == (c.l3_bytes > 0));
    if (c.n_l2) assert_in_range(c.l2_bytes, 1 << 14, 1 << 30);
}

/* The product is checked inside; here that it is done at all, and refused in what oneDNN does not multiply. */
static void matrix_product(void **state)
{
    rm_device *d;
    cpu_peak_best best = { .rate = 0 };
    assert_int_equal(rm_device_open("cpu", NULL, &d), RM_OK);
    assert_int_equal(cpu_peak_gemm(d, RM_F32, 192, 0, &best), RM_OK);
    assert_true(best.rate > 1e6);
    best.rate = -1;
    const rm_status st = cpu_peak_gemm(d, RM_BF16, 192, 0, &best);
    assert_true(st == RM_OK ? best.rate > 1e6 : st == RM_E_UNSUPPORTED && best.rate == -1);
    rm_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fma_loops), cmocka_unit_test(moving_loops),   cmocka_unit_test(dot_loop),      cmocka_unit_test(best_runs),
        cmocka_unit_test(figures),   cmocka_unit_test(roof_levels),    cmocka_unit_test(roof_of_types), cmocka_unit_test(devices_without),
        cmocka_unit_test(caches),    cmocka_unit_test(matrix_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
