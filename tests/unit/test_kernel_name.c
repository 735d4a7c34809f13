#include "profiler/kernel_name.h"
#include "base/status.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* As c++filt says them, less template arguments and parameters. */
static const struct {
    const char *symbol, *name;
} rows[] = {
    { "_Z9bn_kernelI13__nv_bfloat16Li4EEvPKT_", "bn_kernel" },
    { "_Z3addPf", "add" },
    { "_ZN4rmbn5applyIfLi4EEEvPKf", "rmbn::apply" },
    { "_ZN7cutlass13device_kernelINS_4gemm6kernelEEEvT_", "cutlass::device_kernel" },
    { "_ZN12_GLOBAL__N_14stepIfEEvPf", "step" },
    { "_ZNSt6vectorIfE4pushEv", "std::vector" },
    { "_ZL6staticPf", "static" },
    { "_ZN2nsL4stepEv", "ns::step" },
    { "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64",
      "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64" },
    { "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "ncclDevKernel_AllReduce_Sum_f32_RING_LL" },
    { "void cutlass::Kernel<float>(float*)", "cutlass::Kernel" },
    { "_Z", "_Z" },
    { "_Z9", "_Z9" },
    { "_Z99999999999999999999a", "_Z99999999999999999999a" },
    { "_ZN", "_ZN" },
    { "_ZLLLL", "_ZLLLL" },
    { "", "" },
    { "(no name)", "(no name)" },
    { "<anonymous>", "<anonymous>" },
    { "void (anonymous namespace)::step<int>(int*)", "(anonymous namespace)::step" },
};

static void names(void **state)
{
    (void)state;
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        char got[256];
        rm_kernel_name(rows[i].symbol, got, sizeof got);
        assert_string_equal(got, rows[i].name);
    }
}

static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    char got[8];
    for (size_t size = 1; size <= sizeof got; size++) {
        memset(got, 'x', sizeof got);
        rm_kernel_name("_ZN4rmbn5applyIfLi4EEEvPKf", got, size);
        assert_true(strlen(got) < size);
        assert_int_equal(strncmp(got, "rmbn::apply", strlen(got)), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(names), cmocka_unit_test(what_does_not_fit_is_cut) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
