/* Loops that measure peaks (see peaks.h) for avx512; the processor is asked before they are used. */
#include "kernels/cpu/peaks.h"
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma")
#pragma GCC optimize("fp-contract=fast")
#include <immintrin.h>
#define LANES 16
#define HOW "512-bit FMA"
#define STREAM _mm512_stream_ps
#include "kernels/cpu/peaks_body.inc"

const cpu_peak_loops cpu_peak_loops_avx512 = PEAK_TABLE;
#endif
