/* Sums over threads of a block, in an order fixed by the block's shape. */
#ifndef RM_CUDA_REDUCE_CUH
#define RM_CUDA_REDUCE_CUH
#include "kernels/cuda/launch.cuh"

/* Each of K values is summed over threadIdx.y; threads of row 0 get the sums of their column, others keep what they had.
 * `shared`: K*blockDim.x*blockDim.y elements, for this call alone until the next barrier. blockDim.y is a power of two. */
template <int K, typename T> static __device__ __forceinline__ void column_sums(T (&v)[K], T *shared)
{
    const int width = blockDim.x, height = blockDim.y, row = threadIdx.y;
    T *mine = shared + row * width + threadIdx.x;
#pragma unroll
    for (int k = 0; k < K; k++) mine[k * height * width] = v[k];
    for (int half = height / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row >= half) continue;
#pragma unroll
        for (int k = 0; k < K; k++) mine[k * height * width] += mine[(k * height + half) * width];
    }
    if (row > 0) return;
#pragma unroll
    for (int k = 0; k < K; k++) v[k] = mine[k * height * width];
}

struct plus {
    template <typename T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};
struct larger {
    __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct smaller {
    __device__ __forceinline__ uint32_t operator()(uint32_t a, uint32_t b) const { return a < b ? a : b; }
};

/* v combined over the whole one-dimensional block of THREADS threads; every thread gets the result. `shared`: THREADS/WARP
 * elements, for this call alone until the next barrier. */
template <typename T, typename Op> static __device__ __forceinline__ T block_combine(T v, Op op, T *shared)
{
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, step));
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = v;
    __syncthreads();
    v = shared[0];
#pragma unroll
    for (int w = 1; w < THREADS / WARP; w++) v = op(v, shared[w]);
    return v;
}
#endif
