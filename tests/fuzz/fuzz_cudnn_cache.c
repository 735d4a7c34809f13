/* The file of kept cuDNN plans over any bytes: opening it always succeeds, and what it gives can be put, saved and read again. */
#define _GNU_SOURCE
#include "kernels/cuda/cudnn_cache.h"
#include "base/log.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static rm_cudnn_cache *opened(const char *path)
{
    rm_cudnn_cache *c = NULL;
    if (rm_cudnn_cache_open(path, "this", &c) != RM_OK) abort();
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("plans", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    rm_log_setup(RM_QUIET, 0);
    rm_cudnn_cache *c = opened(path);
    const char *text = rm_cudnn_cache_get(c, "a");
    char *kept = text ? strdup(text) : NULL;
    const size_t n = rm_cudnn_cache_count(c);
    if (text && (!n || rm_cudnn_cache_put(c, "a", kept) != RM_OK || rm_cudnn_cache_count(c) != n || strcmp(rm_cudnn_cache_get(c, "a"), kept))) abort();
    rm_cudnn_cache_close(c);
    free(kept);
    close(fd);
    return 0;
}
