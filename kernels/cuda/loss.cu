/* Softmax cross-entropy: a block a sample, then one block for the mean loss. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include <math.h>

template <typename T> KERNEL softmax_xent(int32_t c, float smoothing, float scale, const T *x, const int32_t *label, float *losses, T *dx)
{
    SHARED(float, top_of, THREADS / WARP);
    SHARED(float, exp_of, THREADS / WARP);
    SHARED(float, sum_of, THREADS / WARP);
    x += (int64_t)blockIdx.x * c;
    dx += (int64_t)blockIdx.x * c;
    const int32_t right = label[blockIdx.x];
    float top = -INFINITY, exps = 0, sum = 0;
    for (int32_t i = threadIdx.x; i < c; i += THREADS) top = fmaxf(top, to_float(x[i]));
    top = block_combine(top, larger(), top_of);
    for (int32_t i = threadIdx.x; i < c; i += THREADS) {
        const float v = to_float(x[i]) - top;
        exps += expf(v);
        sum += v;
    }
    exps = block_combine(exps, plus(), exp_of);
    sum = block_combine(sum, plus(), sum_of);
    const bool known = right >= 0 && right < c;
    const float log_sum = logf(exps), uniform = smoothing / (float)c, gain = known ? scale : NAN;
    for (int32_t i = threadIdx.x; i < c; i += THREADS)
        dx[i] = from_float<T>(gain * (expf(to_float(x[i]) - top - log_sum) - (i == right ? 1 - smoothing : 0) - uniform));
    if (threadIdx.x > 0) return;
    const float hit = known ? to_float(x[right]) - top : NAN;
    losses[blockIdx.x] = log_sum - (1 - smoothing) * hit - uniform * sum;
}

KERNEL mean_loss(int32_t n, const float *losses, float *loss)
{
    SHARED(double, shared, THREADS / WARP);
    double sum = 0;
    for (int32_t i = threadIdx.x; i < n; i += THREADS) sum += losses[i];
    sum = block_combine(sum, plus(), shared);
    if (threadIdx.x == 0) *loss = (float)(sum / n);
}

extern "C" cudaError_t rm_cuda_softmax_xent(rm_cuda_type type, int32_t n, int32_t c, double label_smoothing, double scale, const void *x, const int32_t *label,
                                            float *loss, void *dx, void *workspace, cudaStream_t stream)
{
    if (!type_valid(type) || n < 1 || c < 1) return cudaErrorInvalidValue;
    float *losses = static_cast<float *>(workspace);
    WITH_TYPE(type, T,
              LAUNCH((softmax_xent<T>), dim3((unsigned)n), dim3(THREADS), 0, stream, c, (float)label_smoothing, (float)(scale / n), static_cast<const T *>(x),
                     label, losses, static_cast<T *>(dx)));
    LAUNCH(mean_loss, dim3(1), dim3(THREADS), 0, stream, n, losses, loss);
    return cudaGetLastError();
}
