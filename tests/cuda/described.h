/* What the tests of plans share: the described GPUs, and the libraries that cuDNN loads at run time. Include after cmocka.h. */
#ifndef RM_TEST_CUDA_DESCRIBED_H
#define RM_TEST_CUDA_DESCRIBED_H
#include "kernels/cuda/cudnn_device.h"
#include <dlfcn.h>
#include <stdio.h>

static inline void gpu_path(const char *name, char *path, size_t size) { snprintf(path, size, "%s/tests/cuda/devices/%s.json", RM_SOURCE_DIR, name); }

static inline rm_cudnn_device *gpu(const char *name)
{
    char path[512];
    rm_cudnn_device *dev = NULL;
    gpu_path(name, path, sizeof path);
    if (rm_cudnn_device_read(path, &dev) != RM_OK) fail_msg("%s", rm_last_error());
    return dev;
}

/* cuDNN loads and unloads NVRTC at every question, which takes time and leaks what its C++ runtime allocated: hold it. */
static inline void hold_nvrtc(void)
{
    if (!dlopen(RM_CUDA_NVRTC, RTLD_NOW)) print_message("%s\n", dlerror());
}

/* Engines that are compiled at run time look for the driver's library. The toolkit's stub of it, in this process only, is enough
 * for cuDNN to say whether it supports a graph; nothing in it can run. NULL where there is no stub. */
static inline void *load_driver_stub(void)
{
    void *stub = dlopen(RM_CUDA_STUB, RTLD_NOW | RTLD_GLOBAL);
    if (!stub) print_message("what is compiled at run time is left out: %s\n", dlerror());
    return stub;
}
#endif
