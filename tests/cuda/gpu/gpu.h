/* For test programs that are built twice, on the test doubles and on the vendors' libraries: the latter need a GPU. */
#ifndef RM_TEST_GPU_H
#define RM_TEST_GPU_H
#include "kernels/device.h"
#include <stdio.h>
#include <string.h>

enum { GPU_SKIPPED = 77 }; /* what ctest takes as a skip */

/* True where the vendors' libraries are linked and no GPU is usable; says why. On the doubles a GPU that is missing is a failure. */
static inline bool gpu_absent(void)
{
    int32_t n;
    if (!strcmp(rm_device_origin("cuda"), "emulated") || rm_device_count("cuda", &n) == RM_OK) return false;
    printf("skipped: %s\n", rm_last_error());
    return true;
}
#endif
