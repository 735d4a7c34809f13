/* Vector kernels for base (see vec.h); the processor is asked before they are used. */
#include "kernels/cpu/vec.h"
#include <math.h>
#include <string.h>
#define LANES 4
#define ISA_NAME "base"
#include "kernels/cpu/vec_body.inc"

const cpu_vec cpu_vec_base = VEC_TABLE;
