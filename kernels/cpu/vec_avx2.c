/* Vector kernels for avx2 (see vec.h); the processor is asked before they are used. */
#include "kernels/cpu/vec.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#pragma GCC optimize("fp-contract=fast")
#define LANES 8
#define ISA_NAME "avx2"
#include "kernels/cpu/vec_body.inc"

const cpu_vec cpu_vec_avx2 = VEC_TABLE;
#endif
