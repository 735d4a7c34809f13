/* Global average pooling and the sums of columns that it shares with the bias gradient. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

/* out[g][c] = sum over rows of x[g][row][c], divided by `divisor`: a block has a tile of channels of one group. */
template <typename T, typename Out, int VEC> KERNEL column_mean(int32_t rows, int32_t c, float divisor, const T *x, Out *out)
{
    DYN_SHARED(float, shared);
    const int32_t channel = (int32_t)(blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    const bool inside = channel < c;
    float v[VEC], sum[VEC] = {};
    x += (int64_t)blockIdx.y * rows * c + channel;
    for (int32_t row = threadIdx.y; inside && row < rows; row += blockDim.y) {
        load(x + (int64_t)row * c, v);
#pragma unroll
        for (int k = 0; k < VEC; k++) sum[k] += v[k];
    }
    column_sums(sum, shared);
    if (threadIdx.y > 0 || !inside) return;
#pragma unroll
    for (int k = 0; k < VEC; k++) out[(int64_t)blockIdx.y * c + channel + k] = from_float<Out>(sum[k] / divisor);
}

enum { COLUMNS = 32 };

template <typename T, typename Out, int VEC>
static void launch_mean(int32_t groups, int32_t rows, int32_t c, float divisor, const void *x, void *out, cudaStream_t stream)
{
    const dim3 grid((unsigned)ceil_div(c, COLUMNS * VEC), (unsigned)groups), block(COLUMNS, THREADS / COLUMNS);
    LAUNCH((column_mean<T, Out, VEC>), grid, block, VEC * THREADS * sizeof(float), stream, rows, c, divisor, static_cast<const T *>(x),
           static_cast<Out *>(out));
}

template <typename T> static bool wide(int32_t c, const void *x) { return c % lanes<T>::N == 0 && aligned16(x); }

extern "C" cudaError_t rm_cuda_avgpool(rm_cuda_type type, int32_t n, int32_t hw, int32_t c, const void *x, void *y, cudaStream_t stream)
{
    if (!type_valid(type) || n < 1 || n > 65535 || hw < 1 || c < 1) return cudaErrorInvalidValue;
    WITH_TYPE(type, T, WITH_VECTOR(T, VEC, wide<T>(c, x), (launch_mean<T, T, VEC>(n, hw, c, (float)hw, x, y, stream))));
    return cudaGetLastError();
}

extern "C" cudaError_t rm_cuda_bias_gradient(rm_cuda_type type, int32_t rows, int32_t c, const void *dy, float *dbias, cudaStream_t stream)
{
    if (!type_valid(type) || rows < 1 || c < 1) return cudaErrorInvalidValue;
    WITH_TYPE(type, T, WITH_VECTOR(T, VEC, wide<T>(c, dy), (launch_mean<T, float, VEC>(1, rows, c, 1.0f, dy, dbias, stream))));
    return cudaGetLastError();
}

/* A thread writes VEC channels of one pixel. */
template <typename T, int VEC> KERNEL avgpool_backward(int64_t vectors, int32_t hw, int32_t c, const T *dy, T *dx)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    float v[VEC];
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += step) {
        const int64_t pixel = i * VEC / c, channel = i * VEC % c;
        load(dy + pixel / hw * c + channel, v);
#pragma unroll
        for (int k = 0; k < VEC; k++) v[k] /= (float)hw;
        store(dx + i * VEC, v);
    }
}

template <typename T, int VEC> static void launch_backward(int32_t n, int32_t hw, int32_t c, const void *dy, void *dx, cudaStream_t stream)
{
    const int64_t vectors = (int64_t)n * hw * (c / VEC);
    LAUNCH((avgpool_backward<T, VEC>), dim3(blocks_for(vectors)), dim3(THREADS), 0, stream, vectors, hw, c, static_cast<const T *>(dy), static_cast<T *>(dx));
}

extern "C" cudaError_t rm_cuda_avgpool_backward(rm_cuda_type type, int32_t n, int32_t hw, int32_t c, const void *dy, void *dx, cudaStream_t stream)
{
    if (!type_valid(type) || n < 1 || hw < 1 || c < 1) return cudaErrorInvalidValue;
    WITH_TYPE(type, T, WITH_VECTOR(T, VEC, wide<T>(c, dy) && aligned16(dx), (launch_backward<T, VEC>(n, hw, c, dy, dx, stream))));
    return cudaGetLastError();
}
