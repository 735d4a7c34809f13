/* Why there is no GPU that can be used, in words that say what to do. */
#ifndef RM_GPU_EXPLAIN_H
#define RM_GPU_EXPLAIN_H
#include "base/status.h"
#include <stdbool.h>

/* What the caller knows. Numbers are the CUDA runtime's, which this room does not include. */
typedef struct rm_gpu_trouble {
    int         cuda_error;   /* of cudaGetDeviceCount(), or of opening a GPU; 0: nothing was asked */
    const char *cuda_words;   /* cudaGetErrorString() of it; "" where nothing was asked */
    int         runtime;      /* cudaRuntimeGetVersion(): 13000; 0: no runtime in this build */
    const char *root;         /* before /proc, /sys and /dev: "", but in tests */
} rm_gpu_trouble;

/* One line: what is missing and what to do. true: a GPU is in this machine, so that to go on without it deserves a warning. */
bool rm_nvml_explain(const rm_gpu_trouble *t, char *out, size_t size);
/* Is there a GPU of NVIDIA's on the PCI bus? out_bus (16 bytes, may be NULL): the first one's address. */
bool rm_gpu_on_bus(const char *root, char *out_bus);
#endif
