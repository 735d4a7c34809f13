/* The bf16 dot product of AVX512_BF16, for measuring (see peaks.h). */
#include "kernels/cpu/peaks.h"
#if defined(__x86_64__)
#include <dnnl.h>
#include <immintrin.h>

/* vdpbf16ps adds two products a lane. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static double dot(size_t turns, uint16_t one)
{
    const __m512i ones = _mm512_set1_epi16((short)one);
    __m512 x[CPU_PEAK_CHAINS];
    float lane[CPU_PEAK_DOT_LANES];
    double sum = 0;
    for (int i = 0; i < CPU_PEAK_CHAINS; i++) x[i] = _mm512_set1_ps((float)i);
    for (size_t t = 0; t < turns; t++) {
#pragma GCC unroll 16
        for (int i = 0; i < CPU_PEAK_CHAINS; i++) x[i] = _mm512_dpbf16_ps(x[i], (__m512bh)ones, (__m512bh)ones);
    }
    for (int i = 0; i < CPU_PEAK_CHAINS; i++) {
        _mm512_storeu_ps(lane, x[i]);
        for (int l = 0; l < CPU_PEAK_DOT_LANES; l++) sum += (double)lane[l];
    }
    return sum;
}

cpu_peak_dot *cpu_peak_dot_bf16(void)
{
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa(); /* what oneDNN may use, so that an ISA limit set by the user holds here too */
    return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16 ? dot : NULL;
}
#else
cpu_peak_dot *cpu_peak_dot_bf16(void) { return NULL; }
#endif
