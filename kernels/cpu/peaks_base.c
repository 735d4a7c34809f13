/* Loops that measure peaks (see peaks.h) for every processor. */
#include "kernels/cpu/peaks.h"
#if defined(__x86_64__)
#include <xmmintrin.h>
#define STREAM _mm_stream_ps
#define HOW "128-bit multiply and add"
#else
#define HOW "128-bit vectors"
#endif
#define LANES 4
#include "kernels/cpu/peaks_body.inc"

const cpu_peak_loops cpu_peak_loops_base = PEAK_TABLE;
