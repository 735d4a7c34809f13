/* Loops that measure peaks (see peaks.h) for avx2; the processor is asked before they are used. */
#include "kernels/cpu/peaks.h"
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#pragma GCC optimize("fp-contract=fast")
#include <immintrin.h>
#define LANES 8
#define HOW "256-bit FMA"
#define STREAM _mm256_stream_ps
#include "kernels/cpu/peaks_body.inc"

const cpu_peak_loops cpu_peak_loops_avx2 = PEAK_TABLE;
#endif
