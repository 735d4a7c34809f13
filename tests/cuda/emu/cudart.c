/* The few functions of the CUDA runtime that kernels and their tests use, on the emulated device. Everything is finished
 * when it returns, streams are all one. Prototypes are those of the real header. */
#include "tests/cuda/emu/internal.h"
#include <cuda_runtime_api.h>
#include <string.h>

cudaError_t CUDARTAPI cudaMalloc(void **p, size_t bytes)
{
    void *got = emu_mem_alloc(bytes);
    if (!got) return cudaErrorMemoryAllocation;
    *p = got;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaFree(void *p) { return !p || emu_mem_free(p) ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t CUDARTAPI cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    if (from_device && !emu_mem_known(src, bytes, false)) return cudaErrorInvalidValue;
    if (to_device && !emu_mem_known(dst, bytes, true)) return cudaErrorInvalidValue;
    memcpy(dst, src, bytes);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    if (!emu_mem_known(p, bytes, true)) return cudaErrorInvalidValue;
    memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGetLastError(void) { return emu_found(EMU_LAUNCH) ? cudaErrorInvalidConfiguration : cudaSuccess; }
