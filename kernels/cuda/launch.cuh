/* What a .cu file uses instead of CUDA's own syntax, so that the same file is compiled by nvcc for the GPU and by clang++
 * for the emulator of tests/cuda, which defines the other meanings before this file is read.
 *
 *   LAUNCH(kernel, grid, block, smem_bytes, stream, arguments...)   a template in parentheses: LAUNCH((k<T, 8>), ...)
 *   SHARED(T, name, n)                                              T name[n] in shared memory
 *   DYN_SHARED(T, name)                                             T *name, the smem_bytes of the launch
 *   LOAD_WORD(V, p), STORE_WORD(V, p, v)                            one access of sizeof(V) <= 16 aligned bytes
 * Shuffles are the full-mask _sync ones. No inline PTX, no cooperative groups, no float atomics. */
#ifndef RM_CUDA_LAUNCH_CUH
#define RM_CUDA_LAUNCH_CUH
#ifdef __CUDACC__
#define LAUNCH(kernel, grid, block, smem, stream, ...) kernel<<<grid, block, smem, stream>>>(__VA_ARGS__)
#define SHARED(T, name, n) __shared__ T name[n]
#define DYN_SHARED(T, name)                                                                                                                            \
    extern __shared__ __align__(16) unsigned char dyn_shared_bytes[];                                                                                  \
    T *name = reinterpret_cast<T *>(dyn_shared_bytes)
#define LOAD_WORD(V, p) (*reinterpret_cast<const V *>(p))
#define STORE_WORD(V, p, v) (*reinterpret_cast<V *>(p) = (v))
#endif
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include "kernels/cuda/kernels.h"

/* A block of every kernel here has 256 threads, and two blocks must fit a multiprocessor: at most 128 registers a thread (the test
 * cuda.ptxas holds 96). Said without the two, ptxas aims at more blocks and spills. */
enum { THREADS = 256, WARP = 32 };
#define KERNEL __global__ void __launch_bounds__(THREADS, 2)

/* Runs the statement with T = the C++ type of an rm_cuda_type; callers have checked the type. A build of tests/cuda that
 * is to be quick gives a shorter one. */
#ifndef WITH_TYPE
#define WITH_TYPE(type, T, ...)                                                                                                                        \
    do {                                                                                                                                               \
        if ((type) == RM_CUDA_BF16) { using T = __nv_bfloat16; __VA_ARGS__; }                                                                          \
        else if ((type) == RM_CUDA_F16) { using T = __half; __VA_ARGS__; }                                                                             \
        else { using T = float; __VA_ARGS__; }                                                                                                         \
    } while (0)
#endif

static inline bool type_valid(rm_cuda_type type) { return (unsigned)type < RM_CUDA_TYPES; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* Elements of a type in 16 bytes. */
template <typename T> struct lanes { enum { N = 16 / sizeof(T) }; };
/* Runs the statement with VEC = the lanes of T, or 1. */
#define WITH_VECTOR(T, VEC, wide, ...)                                                                                                                 \
    do {                                                                                                                                               \
        if (wide) { enum { VEC = lanes<T>::N }; __VA_ARGS__; }                                                                                         \
        else { enum { VEC = 1 }; __VA_ARGS__; }                                                                                                        \
    } while (0)
static inline bool aligned16(const void *p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }
template <typename... P> static inline bool aligned16(const void *p, P... more) { return aligned16(p) && aligned16(more...); }
/* Blocks for `count` independent pieces of work, a thread each, more pieces a thread when there are many. */
static inline unsigned blocks_for(int64_t count)
{
    int64_t blocks = ceil_div(count, THREADS);
    return (unsigned)(blocks < 8192 ? blocks : 8192);
}
#endif
