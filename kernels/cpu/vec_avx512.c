/* Vector kernels for avx512 (see vec.h); the processor is asked before they are used. */
#include "kernels/cpu/vec.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma")
#pragma GCC optimize("fp-contract=fast")
#define LANES 16
#define ISA_NAME "avx512"
#include "kernels/cpu/vec_body.inc"

const cpu_vec cpu_vec_avx512 = VEC_TABLE;
#endif
