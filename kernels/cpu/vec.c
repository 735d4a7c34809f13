/* Which vector kernels this processor runs. */
#include "kernels/cpu/vec.h"

static bool has(const cpu_vec *v)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (v == &cpu_vec_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
    if (v == &cpu_vec_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return v == &cpu_vec_base;
}

const cpu_vec *cpu_vec_for(int width)
{
#if defined(__x86_64__)
    static const cpu_vec *const sets[] = {&cpu_vec_avx512, &cpu_vec_avx2, &cpu_vec_base};
#else
    static const cpu_vec *const sets[] = {&cpu_vec_base};
#endif
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        int nv = width / sets[i]->lanes;
        if (width % sets[i]->lanes == 0 && (nv == 1 || nv == 2 || nv == 4) && has(sets[i])) return sets[i];
    }
    return NULL;
}
