#include "kernels/libraries.h"
#include <stdint.h>
#include <stdio.h>

#ifndef RM_CUDA_MISSING
#define RM_CUDA_MISSING ""
#endif

/* Weak: what is not linked is NULL, and this file is in every build. */
extern int    cudaRuntimeGetVersion(int *) __attribute__((weak));
extern size_t cudnnGetVersion(void) __attribute__((weak));
extern int    ncclGetVersion(int *) __attribute__((weak));
extern int    cuptiGetVersion(uint32_t *) __attribute__((weak));

const char *rm_cuda_missing(void) { return RM_CUDA_MISSING; }

int rm_cuda_runtime(void)
{
    int v = 0;
    return cudaRuntimeGetVersion && cudaRuntimeGetVersion(&v) == 0 ? v : 0;
}

static void put(rm_library *l, const char *name, int known, int major, int minor, int patch)
{
    l->name = name;
    if (known && patch >= 0) snprintf(l->version, sizeof l->version, "%d.%d.%d", major, minor, patch);
    else if (known) snprintf(l->version, sizeof l->version, "%d.%d", major, minor);
    else l->version[0] = '\0';
}

void rm_libraries(rm_library out[RM_LIBRARIES])
{
    const int cuda = rm_cuda_runtime(), cudnn = cudnnGetVersion ? (int)cudnnGetVersion() : 0;
    int nccl = 0;
    uint32_t cupti = 0;
    if (!ncclGetVersion || ncclGetVersion(&nccl) != 0) nccl = 0;
    if (!cuptiGetVersion || cuptiGetVersion(&cupti) != 0) cupti = 0;
    put(&out[0], "CUDA", cuda != 0, cuda / 1000, cuda % 1000 / 10, -1);
    put(&out[1], "cuDNN", cudnn != 0, cudnn / 10000, cudnn / 100 % 100, cudnn % 100);
    put(&out[2], "NCCL", nccl != 0, nccl / 10000, nccl / 100 % 100, nccl % 100);
    put(&out[3], "CUPTI", cupti != 0, (int)cupti / 10000, (int)cupti / 100 % 100, (int)cupti % 100);
}
