/* Element by element. */
#include "kernels/cuda/vec.cuh"

/* at<T, N>(i, ...): elements i..i+N-1 of the operands. */
struct relu_op {
    template <typename T, int N> static __device__ __forceinline__ void at(int64_t i, const T *x, const T *, const T *, T *y)
    {
        float v[N];
        load(x + i, v);
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = relu(v[k]);
        store(y + i, v);
    }
};

struct add_op {
    template <typename T, int N> static __device__ __forceinline__ void at(int64_t i, const T *x, const T *x2, const T *, T *y)
    {
        float v[N], v2[N];
        load(x + i, v);
        load(x2 + i, v2);
#pragma unroll
        for (int k = 0; k < N; k++) v[k] += v2[k];
        store(y + i, v);
    }
};

struct relu_backward_op {
    template <typename T, int N> static __device__ __forceinline__ void at(int64_t i, const T *y, const T *dy, const T *dy2, T *dx)
    {
        float mask[N], v[N], v2[N] = {};
        load(y + i, mask);
        load(dy + i, v);
        if (dy2) load(dy2 + i, v2);
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = mask[k] > 0 ? v[k] + v2[k] : 0;
        store(dx + i, v);
    }
};

template <typename Op, typename T, int VEC> KERNEL pointwise(int64_t count, const T *a, const T *b, const T *c, T *out)
{
    const int64_t vectors = count / VEC, first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = first; i < vectors; i += step) Op::template at<T, VEC>(i * VEC, a, b, c, out);
    for (int64_t i = vectors * VEC + first; i < count; i += step) Op::template at<T, 1>(i, a, b, c, out);
}

template <typename Op, typename T, int VEC> static void launch(int64_t count, const void *a, const void *b, const void *c, void *out, cudaStream_t stream)
{
    LAUNCH((pointwise<Op, T, VEC>), dim3(blocks_for(ceil_div(count, VEC))), dim3(THREADS), 0, stream, count, static_cast<const T *>(a),
           static_cast<const T *>(b), static_cast<const T *>(c), static_cast<T *>(out));
}

template <typename Op> static cudaError_t run(rm_cuda_type type, int64_t count, const void *a, const void *b, const void *c, void *out, cudaStream_t stream)
{
    if (!type_valid(type) || count < 1) return cudaErrorInvalidValue;
    WITH_TYPE(type, T, WITH_VECTOR(T, VEC, aligned16(a, b, c, out), (launch<Op, T, VEC>(count, a, b, c, out, stream))));
    return cudaGetLastError();
}

extern "C" cudaError_t rm_cuda_relu(rm_cuda_type type, int64_t count, const void *x, void *y, cudaStream_t stream)
{
    return run<relu_op>(type, count, x, NULL, NULL, y, stream);
}

extern "C" cudaError_t rm_cuda_add(rm_cuda_type type, int64_t count, const void *x, const void *x2, void *y, cudaStream_t stream)
{
    return run<add_op>(type, count, x, x2, NULL, y, stream);
}

extern "C" cudaError_t rm_cuda_relu_backward(rm_cuda_type type, int64_t count, const void *y, const void *dy, const void *dy2, void *dx, cudaStream_t stream)
{
    return run<relu_backward_op>(type, count, y, dy, dy2, dx, stream);
}

/* ---- fill and bias */
template <typename T> KERNEL fill(int64_t count, float value, T *y)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) y[i] = from_float<T>(value);
}

extern "C" cudaError_t rm_cuda_fill(rm_cuda_type type, int64_t count, float value, void *y, cudaStream_t stream)
{
    if (!type_valid(type) || count < 1) return cudaErrorInvalidValue;
    WITH_TYPE(type, T, LAUNCH((fill<T>), dim3(blocks_for(count)), dim3(THREADS), 0, stream, count, value, static_cast<T *>(y)));
    return cudaGetLastError();
}

template <typename T> KERNEL bias_add(int64_t count, int32_t c, const T *x, const float *bias, float *y)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) y[i] = to_float(x[i]) + bias[i % c];
}

extern "C" cudaError_t rm_cuda_bias_add(rm_cuda_type type, int64_t rows, int32_t c, const void *x, const float *bias, float *y, cudaStream_t stream)
{
    if (!type_valid(type) || rows < 1 || c < 1) return cudaErrorInvalidValue;
    WITH_TYPE(type, T, LAUNCH((bias_add<T>), dim3(blocks_for(rows * c)), dim3(THREADS), 0, stream, rows * c, c, static_cast<const T *>(x), bias, y));
    return cudaGetLastError();
}
