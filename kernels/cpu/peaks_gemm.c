/* oneDNN's matrix product of large square matrices, for measuring (see peaks.h). */
#include "kernels/cpu/peaks.h"
#include "base/clock.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/quiet.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { A, B, C, OPERANDS };
typedef struct gemm {
    int64_t n;
    rm_dtype dtype;
    dnnl_memory_desc_t md[OPERANDS];
    dnnl_memory_t mem[OPERANDS];
    void *at[OPERANDS];
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t prim;
} gemm;

/* Small whole numbers, exact in bf16, whose sums are exact in fp32. */
static int value_a(int64_t i, int64_t k) { return (int)((i + k) % 5) - 2; }
static int value_b(int64_t k, int64_t j) { return (int)((3 * k + j) % 7) - 3; }

static void fill(const gemm *g, int threads)
{
    const bool half = g->dtype == RM_BF16;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < g->n; i++)
        for (int64_t k = 0; k < g->n; k++) {
            cpu_put(g->at[A], (size_t)(i * g->n + k), half, (float)value_a(i, k));
            cpu_put(g->at[B], (size_t)(i * g->n + k), half, (float)value_b(i, k));
        }
}

static rm_status make(cpu_device *d, gemm *g)
{
    const dnnl_dims_t dims = { g->n, g->n };
    const size_t elements = (size_t)g->n * (size_t)g->n;
    for (int i = 0; i < OPERANDS; i++) {
        const rm_dtype t = i == C ? RM_F32 : g->dtype;
        if (posix_memalign(&g->at[i], CPU_ALIGN, elements * rm_dtype_bytes(t))) g->at[i] = NULL;
        if (!g->at[i]) return rm_fail(RM_E_NOMEM, "cpu: no memory to measure the matrix product");
        if (dnnl_memory_desc_create_with_tag(&g->md[i], 2, dims, cpu_dnnl_type(t), dnnl_ab) != dnnl_success ||
            dnnl_memory_create(&g->mem[i], g->md[i], d->engine, g->at[i]) != dnnl_success)
            return rm_fail(RM_E_DEVICE, "cpu: oneDNN could not describe a matrix");
    }
    if (dnnl_matmul_primitive_desc_create(&g->pd, d->engine, g->md[A], g->md[B], NULL, g->md[C], NULL) != dnnl_success)
        return rm_fail(RM_E_UNSUPPORTED, "oneDNN has no matrix product in %s on this processor", rm_peak_type(g->dtype));
    if (cpu_pd_is_ref(g->pd)) return rm_fail(RM_E_UNSUPPORTED, "oneDNN has only slow reference code for %s on this processor", rm_peak_type(g->dtype));
    if (dnnl_primitive_create(&g->prim, g->pd) != dnnl_success) return rm_fail(RM_E_DEVICE, "cpu: oneDNN could not build a matrix product");
    fill(g, d->threads);
    return RM_OK;
}

static void unmake(gemm *g)
{
    if (g->prim) dnnl_primitive_destroy(g->prim);
    if (g->pd) dnnl_primitive_desc_destroy(g->pd);
    for (int i = 0; i < OPERANDS; i++) {
        if (g->mem[i]) dnnl_memory_destroy(g->mem[i]);
        if (g->md[i]) dnnl_memory_desc_destroy(g->md[i]);
        free(g->at[i]);
    }
}

static rm_status multiply(cpu_device *d, const gemm *g, uint64_t *out_ns)
{
    const dnnl_exec_arg_t arg[OPERANDS] = { { DNNL_ARG_SRC, g->mem[A] }, { DNNL_ARG_WEIGHTS, g->mem[B] }, { DNNL_ARG_DST, g->mem[C] } };
    const uint64_t from = rm_now_ns();
    if (dnnl_primitive_execute(g->prim, d->stream, OPERANDS, arg) != dnnl_success || dnnl_stream_wait(d->stream) != dnnl_success)
        return rm_fail(RM_E_DEVICE, "cpu: oneDNN's matrix product failed");
    *out_ns = rm_now_ns() - from;
    return RM_OK;
}

/* A hundred places all over the result. */
static rm_status check(const gemm *g)
{
    for (int64_t s = 0; s < 100; s++) {
        const int64_t i = s * 7919 % g->n, j = s * 104729 % g->n;
        int64_t want = 0;
        for (int64_t k = 0; k < g->n; k++) want += value_a(i, k) * value_b(k, j);
        const float got = ((const float *)g->at[C])[i * g->n + j];
        if (got != (float)want)
            return rm_fail(RM_E_NUMERIC, "cpu: oneDNN's matrix product in %s gives %g for %lld", rm_peak_type(g->dtype), (double)got, (long long)want);
    }
    return RM_OK;
}

/* quiet knows the threads that exist: the first product starts them. */
static rm_status repeat(cpu_device *d, const gemm *g, uint64_t budget_ns, cpu_peak_best *best)
{
    const double flops = 2.0 * (double)g->n * (double)g->n * (double)g->n;
    const uint64_t from = rm_now_ns();
    cpu_quiet quiet;
    rm_status st = RM_OK;
    cpu_quiet_open(&quiet);
    for (int i = 0; st == RM_OK && !cpu_peak_enough(best, i, from, budget_ns); i++) {
        uint64_t ns;
        cpu_quiet_start(&quiet);
        st = multiply(d, g, &ns);
        if (st == RM_OK) cpu_peak_keep(best, flops, ns, cpu_quiet_stop(&quiet));
    }
    cpu_quiet_close(&quiet);
    return st;
}

rm_status cpu_peak_gemm(rm_device *cpu, rm_dtype dtype, int64_t n, uint64_t budget_ns, cpu_peak_best *out)
{
    cpu_device *d = (cpu_device *)cpu;
    gemm g = { .n = n, .dtype = dtype };
    cpu_peak_best best = { .rate = 0 };
    uint64_t ns;
    rm_status st = RM_OK;
    if (omp_get_max_threads() != d->threads) omp_set_num_threads(d->threads); /* another device may have changed it */
    RM_TRY_GOTO(st, make(d, &g), out);
    RM_TRY_GOTO(st, multiply(d, &g, &ns), out);
    RM_TRY_GOTO(st, check(&g), out);
    RM_TRY_GOTO(st, repeat(d, &g, budget_ns, &best), out);
    *out = best;
out:
    unmake(&g);
    return st;
}
