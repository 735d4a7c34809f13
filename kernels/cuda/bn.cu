/* Batch normalisation over an NHWC matrix. A block is a tile of bx vectors of channels by THREADS/bx rows; it walks down a
 * slice of rows with its channels' parameters in registers. Statistics: a partial sum a slice (stage 1), then a small
 * kernel that merges the slices in double (stage 2). */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

/* ---- how the matrix is cut; depends on the shape alone */
struct matrix {
    int64_t rows, slice;
    int32_t c;
}; /* slice: rows of a block; the last has what is left */
struct tiling {
    matrix m;
    dim3 grid, block;
};

enum { WIDEST = 32 /* vectors of a tile */, ROWS_A_THREAD = 8, BLOCKS = 1024 };

static tiling tiling_of(const rm_cuda_bn *bn, int vec)
{
    const int64_t vectors = ceil_div(bn->c, vec);
    unsigned width = 1;
    while (width < WIDEST && width < vectors) width *= 2;
    const unsigned height = THREADS / width;
    const int64_t tiles = ceil_div(vectors, width), most = BLOCKS > tiles ? BLOCKS / tiles : 1;
    int64_t slices = ceil_div(bn->rows, (int64_t)height * ROWS_A_THREAD);
    if (slices > most) slices = most;
    const int64_t slice = ceil_div(bn->rows, slices);
    return { { bn->rows, slice, bn->c }, dim3((unsigned)tiles, (unsigned)ceil_div(bn->rows, slice)), dim3(width, height) };
}

static bool valid(const rm_cuda_bn *bn) { return bn->rows > 0 && bn->c > 0 && type_valid(bn->type); }

/* Workspace: float[4][c] coefficients, then float[slices][2][c] partial sums. */
enum { COEFFICIENTS = 4 };

extern "C" size_t rm_cuda_bn_workspace_bytes(const rm_cuda_bn *bn)
{
    const unsigned a = tiling_of(bn, 1).grid.y, b = tiling_of(bn, bn->type == RM_CUDA_F32 ? 4 : 8).grid.y;
    return (size_t)bn->c * (COEFFICIENTS + 2 * (size_t)(a > b ? a : b)) * sizeof(float);
}

/* Where a thread stands: its first channel and row, the end of its rows, the step from row to row. */
struct place {
    int32_t channel;
    int64_t begin, row, end;
    int step;
    bool inside;
};

template <int VEC> static __device__ __forceinline__ place place_of(matrix m)
{
    place p;
    p.channel = (int32_t)(blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    p.begin = (int64_t)blockIdx.y * m.slice;
    p.end = p.begin + m.slice < m.rows ? p.begin + m.slice : m.rows;
    p.row = p.begin + threadIdx.y;
    p.step = blockDim.y;
    p.inside = p.channel < m.c;
    return p;
}

/* VEC values of a vector of c floats. */
template <int VEC> static __device__ __forceinline__ void load_vector(const float *p, float (&v)[VEC])
{
#pragma unroll
    for (int k = 0; k < VEC; k += (VEC < 4 ? VEC : 4)) {
        float part[VEC < 4 ? VEC : 4];
        load(p + k, part);
#pragma unroll
        for (int j = 0; j < (VEC < 4 ? VEC : 4); j++) v[k + j] = part[j];
    }
}

template <int VEC> static __device__ __forceinline__ void store_partial(float *partial, int32_t c, int32_t channel, const float *v)
{
    float *at = partial + ((int64_t)blockIdx.y * 2) * c + channel;
#pragma unroll
    for (int k = 0; k < VEC; k++) {
        at[k] = v[k];
        at[c + k] = v[VEC + k];
    }
}

/* ---- forward, stage 1: mean and sum of squared differences of each slice
 * Sums are shifted by the slice's first row, which the threads of row 0 share; their own difference is zero. */
template <typename T, int VEC> KERNEL bn_statistics(matrix m, const T *x, float *partial)
{
    DYN_SHARED(float, shared);
    float *first = shared + 2 * VEC * THREADS + threadIdx.x * VEC;
    const place p = place_of<VEC>(m);
    int64_t row = p.row;
    float v[VEC], sum[2 * VEC] = {};
    if (threadIdx.y == 0 && p.inside) {
        load(x + row * m.c + p.channel, v);
#pragma unroll
        for (int k = 0; k < VEC; k++) first[k] = v[k];
        row += p.step;
    }
    __syncthreads();
    for (; p.inside && row < p.end; row += p.step) {
        load(x + row * m.c + p.channel, v);
#pragma unroll
        for (int k = 0; k < VEC; k++) {
            const float d = v[k] - first[k];
            sum[k] += d;
            sum[VEC + k] = fmaf(d, d, sum[VEC + k]);
        }
    }
    column_sums(sum, shared);
    if (threadIdx.y > 0 || !p.inside) return;
    const float n = (float)(p.end - p.begin);
#pragma unroll
    for (int k = 0; k < VEC; k++) {
        const float mean = sum[k] / n;
        sum[VEC + k] = fmaxf(fmaf(-mean, sum[k], sum[VEC + k]), 0.0f);
        sum[k] = first[k] + mean;
    }
    store_partial<VEC>(partial, m.c, p.channel, sum);
}

/* A block of stage 2 merges GROUP channels; threadIdx.y goes over slices. */
enum { GROUP = 8 };
static __device__ __forceinline__ int64_t slice_rows(matrix m, int s)
{
    const int64_t begin = (int64_t)s * m.slice;
    return begin + m.slice < m.rows ? m.slice : m.rows - begin;
}

/* What the forward needs of a channel, in saved: mean, 1/std, gamma/std, beta. */
static __device__ __forceinline__ void store_coefficients(float *saved, int32_t c, int32_t channel, double mean, double var, double eps, const float *gamma,
                                                          const float *beta)
{
    const double invstd = 1 / sqrt(var + eps);
    saved[channel] = (float)mean;
    saved[c + channel] = (float)invstd;
    saved[2 * c + channel] = (float)(invstd * gamma[channel]);
    saved[3 * c + channel] = beta ? beta[channel] : 0.0f;
}

KERNEL bn_merge(matrix m, int slices, const float *partial, double eps, double momentum, double unbias, const float *gamma, const float *beta, float *rmean,
                float *rvar, float *saved)
{
    SHARED(double, shared, THREADS);
    SHARED(double, means, GROUP);
    const int32_t channel = blockIdx.x * GROUP + threadIdx.x;
    const bool inside = channel < m.c;
    double sum[1] = {};
    for (int s = threadIdx.y; inside && s < slices; s += blockDim.y) sum[0] += (double)slice_rows(m, s) * partial[(int64_t)s * 2 * m.c + channel];
    column_sums(sum, shared);
    if (threadIdx.y == 0) means[threadIdx.x] = sum[0] / (double)m.rows;
    __syncthreads();
    const double mean = means[threadIdx.x];
    sum[0] = 0;
    for (int s = threadIdx.y; inside && s < slices; s += blockDim.y) {
        const float *at = partial + (int64_t)s * 2 * m.c + channel;
        const double d = at[0] - mean;
        sum[0] += at[m.c] + (double)slice_rows(m, s) * d * d;
    }
    column_sums(sum, shared);
    if (threadIdx.y > 0 || !inside) return;
    const double var = sum[0] / (double)m.rows;
    rmean[channel] = (float)((1 - momentum) * rmean[channel] + momentum * mean);
    rvar[channel] = (float)((1 - momentum) * rvar[channel] + momentum * var * unbias);
    store_coefficients(saved, m.c, channel, mean, var, eps, gamma, beta);
}

KERNEL bn_running(int32_t c, double eps, const float *gamma, const float *beta, const float *rmean, const float *rvar, float *saved)
{
    const int32_t channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel < c) store_coefficients(saved, c, channel, rmean[channel], rvar[channel], eps, gamma, beta);
}

/* The forward's value before the ReLU; the backward's mask is taken from the same expression, bit by bit. */
static __device__ __forceinline__ float normalised(float x, float mean, float scale, float beta) { return fmaf(x - mean, scale, beta); }

template <typename T, int VEC> KERNEL bn_apply(matrix m, bool with_relu, const T *x, const T *x2, const float *saved, T *y)
{
    const place p = place_of<VEC>(m);
    if (!p.inside) return;
    float mean[VEC], scale[VEC], beta[VEC], v[VEC], v2[VEC] = {};
    load_vector(saved + p.channel, mean);
    load_vector(saved + 2 * (int64_t)m.c + p.channel, scale);
    load_vector(saved + 3 * (int64_t)m.c + p.channel, beta);
    for (int64_t row = p.row; row < p.end; row += p.step) {
        load(x + row * m.c + p.channel, v);
        if (x2) load(x2 + row * m.c + p.channel, v2);
#pragma unroll
        for (int k = 0; k < VEC; k++) {
            v[k] = normalised(v[k], mean[k], scale[k], beta[k]) + v2[k];
            if (with_relu) v[k] = relu(v[k]);
        }
        store(y + row * m.c + p.channel, v);
    }
}

/* ---- backward, stage 1: sums of dz and dz xhat of each slice. dx2, where given, receives dz; frozen, dx = gamma/std dz. */
template <typename T> struct gradients {
    const T *x, *y, *dy, *dy2;
    T *dx, *dx2;
    bool relu;
};

/* dz = (y > 0) (dy + dy2). Where y is not given the mask is that of what the forward stored for this x. */
template <typename T, int VEC>
static __device__ __forceinline__ void masked(const gradients<T> &g, int64_t at, const float (&x)[VEC], const float (&mean)[VEC], const float (&scale)[VEC],
                                              const float (&beta)[VEC], float (&dz)[VEC])
{
    float y[VEC], dy2[VEC] = {};
    load(g.dy + at, dz);
    if (g.dy2) load(g.dy2 + at, dy2);
    if (g.y) load(g.y + at, y);
#pragma unroll
    for (int k = 0; k < VEC; k++) {
        if (!g.y) y[k] = rounded<T>(normalised(x[k], mean[k], scale[k], beta[k]));
        dz[k] = g.relu && !(y[k] > 0) ? 0 : dz[k] + dy2[k];
    }
}

template <typename T, int VEC> KERNEL bn_backward_sums(matrix m, gradients<T> g, const float *saved, float *partial)
{
    DYN_SHARED(float, shared);
    const place p = place_of<VEC>(m);
    float mean[VEC], scale[VEC], beta[VEC], sum[2 * VEC] = {};
    if (p.inside) {
        load_vector(saved + p.channel, mean);
        load_vector(saved + 2 * (int64_t)m.c + p.channel, scale);
        load_vector(saved + 3 * (int64_t)m.c + p.channel, beta);
    }
    for (int64_t row = p.row; p.inside && row < p.end; row += p.step) {
        const int64_t at = row * m.c + p.channel;
        float x[VEC], dz[VEC];
        load(g.x + at, x);
        masked(g, at, x, mean, scale, beta, dz);
#pragma unroll
        for (int k = 0; k < VEC; k++) {
            sum[k] += dz[k];
            sum[VEC + k] = fmaf(dz[k], x[k] - mean[k], sum[VEC + k]);
        }
        if (g.dx2) store(g.dx2 + at, dz);
        if (!g.dx) continue;
#pragma unroll
        for (int k = 0; k < VEC; k++) dz[k] *= scale[k];
        store(g.dx + at, dz);
    }
    column_sums(sum, shared);
    if (threadIdx.y == 0 && p.inside) store_partial<VEC>(partial, m.c, p.channel, sum);
}

/* Stage 2: dbeta, dgamma, and, where not NULL, coefficient = float[2][c]: dbeta/rows, dgamma/(rows std). */
KERNEL bn_backward_merge(matrix m, int slices, const float *partial, const float *saved, float *dgamma, float *dbeta, float *coefficient)
{
    SHARED(double, shared, 2 * THREADS);
    const int32_t channel = blockIdx.x * GROUP + threadIdx.x;
    const bool inside = channel < m.c;
    double sum[2] = {};
    for (int s = threadIdx.y; inside && s < slices; s += blockDim.y) {
        const float *at = partial + (int64_t)s * 2 * m.c + channel;
        sum[0] += at[0];
        sum[1] += at[m.c];
    }
    column_sums(sum, shared);
    if (threadIdx.y > 0 || !inside) return;
    const double invstd = saved[m.c + channel], gamma = sum[1] * invstd;
    dbeta[channel] = (float)sum[0];
    dgamma[channel] = (float)gamma;
    if (!coefficient) return;
    coefficient[channel] = (float)(sum[0] / (double)m.rows);
    coefficient[m.c + channel] = (float)(gamma * invstd / (double)m.rows);
}

/* dz is in g.dx2 where that is given; then nothing else is read for it. */
template <typename T, int VEC> KERNEL bn_backward_apply(matrix m, gradients<T> g, const float *saved, const float *coefficient)
{
    const place p = place_of<VEC>(m);
    if (!p.inside) return;
    float mean[VEC], scale[VEC], beta[VEC], sum[VEC], sum_x[VEC], x[VEC], dz[VEC];
    load_vector(saved + p.channel, mean);
    load_vector(saved + 2 * (int64_t)m.c + p.channel, scale);
    load_vector(saved + 3 * (int64_t)m.c + p.channel, beta);
    load_vector(coefficient + p.channel, sum);
    load_vector(coefficient + m.c + p.channel, sum_x);
    for (int64_t row = p.row; row < p.end; row += p.step) {
        const int64_t at = row * m.c + p.channel;
        load(g.x + at, x);
        if (g.dx2) load(g.dx2 + at, dz);
        else masked(g, at, x, mean, scale, beta, dz);
#pragma unroll
        for (int k = 0; k < VEC; k++) dz[k] = scale[k] * (dz[k] - sum[k] - (x[k] - mean[k]) * sum_x[k]);
        store(g.dx + at, dz);
    }
}

/* ---- launches */
static bool wide(const rm_cuda_bn *bn, bool aligned) { return aligned && bn->c % (bn->type == RM_CUDA_F32 ? 4 : 8) == 0; }
static size_t sums_bytes(int vec) { return 2 * (size_t)vec * THREADS * sizeof(float); }
static dim3 groups(const rm_cuda_bn *bn) { return dim3((unsigned)ceil_div(bn->c, GROUP)); }
static dim3 group_block() { return dim3(GROUP, THREADS / GROUP); }

template <typename T, int VEC>
static void forward(const rm_cuda_bn *bn, const T *x, const T *x2, const float *gamma, const float *beta, float *rmean, float *rvar, T *y, float *saved,
                    float *partial, cudaStream_t stream)
{
    const tiling t = tiling_of(bn, VEC);
    const double unbias = bn->unbiased ? (double)bn->rows / (double)(bn->rows - 1) : 1;
    LAUNCH((bn_statistics<T, VEC>), t.grid, t.block, sums_bytes(VEC) + t.block.x * VEC * sizeof(float), stream, t.m, x, partial);
    LAUNCH(bn_merge, groups(bn), group_block(), 0, stream, t.m, (int)t.grid.y, partial, bn->eps, bn->momentum, unbias, gamma, beta, rmean, rvar, saved);
    LAUNCH((bn_apply<T, VEC>), t.grid, t.block, 0, stream, t.m, bn->relu, x, x2, saved, y);
}

static float *partial_of(const rm_cuda_bn *bn, void *workspace) { return static_cast<float *>(workspace) + COEFFICIENTS * (int64_t)bn->c; }

extern "C" cudaError_t rm_cuda_bn_forward(const rm_cuda_bn *bn, const void *x, const void *x2, const float *gamma, const float *beta, float *rmean, float *rvar,
                                          void *y, float *saved, void *workspace, cudaStream_t stream)
{
    if (!valid(bn) || (bn->unbiased && bn->rows < 2) || !aligned16(workspace)) return cudaErrorInvalidValue;
    const bool vectors = wide(bn, aligned16(x, x2, y, saved));
    WITH_TYPE(bn->type, T,
              WITH_VECTOR(T, VEC, vectors,
                          (forward<T, VEC>(bn, static_cast<const T *>(x), static_cast<const T *>(x2), gamma, beta, rmean, rvar, static_cast<T *>(y), saved,
                                           partial_of(bn, workspace), stream))));
    return cudaGetLastError();
}

template <typename T, int VEC> static void inference(const rm_cuda_bn *bn, const T *x, const T *x2, const float *coefficient, T *y, cudaStream_t stream)
{
    const tiling t = tiling_of(bn, VEC);
    LAUNCH((bn_apply<T, VEC>), t.grid, t.block, 0, stream, t.m, bn->relu, x, x2, coefficient, y);
}

extern "C" cudaError_t rm_cuda_bn_inference(const rm_cuda_bn *bn, const void *x, const void *x2, const float *gamma, const float *beta, const float *rmean,
                                            const float *rvar, void *y, void *workspace, cudaStream_t stream)
{
    if (!valid(bn) || !aligned16(workspace)) return cudaErrorInvalidValue;
    float *coefficient = static_cast<float *>(workspace);
    const bool vectors = wide(bn, aligned16(x, x2, y));
    LAUNCH(bn_running, dim3(blocks_for(bn->c)), dim3(THREADS), 0, stream, bn->c, bn->eps, gamma, beta, rmean, rvar, coefficient);
    WITH_TYPE(
        bn->type, T,
        WITH_VECTOR(T, VEC, vectors, (inference<T, VEC>(bn, static_cast<const T *>(x), static_cast<const T *>(x2), coefficient, static_cast<T *>(y), stream))));
    return cudaGetLastError();
}

/* dx of stage 1 is NULL when training: stage 3 writes it, from sums that stage 1 only makes. */
template <typename T, int VEC>
static void backward(const rm_cuda_bn *bn, gradients<T> g, bool training, const float *saved, float *coefficient, float *dgamma, float *dbeta, float *partial,
                     cudaStream_t stream)
{
    const tiling t = tiling_of(bn, VEC);
    gradients<T> first = g;
    if (training) first.dx = NULL;
    LAUNCH((bn_backward_sums<T, VEC>), t.grid, t.block, sums_bytes(VEC), stream, t.m, first, saved, partial);
    LAUNCH(bn_backward_merge, groups(bn), group_block(), 0, stream, t.m, (int)t.grid.y, partial, saved, dgamma, dbeta, coefficient);
    if (training) LAUNCH((bn_backward_apply<T, VEC>), t.grid, t.block, 0, stream, t.m, g, saved, coefficient);
}

template <typename T> static gradients<T> gradients_of(bool relu, const void *x, const void *y, const void *dy, const void *dy2, void *dx, void *dx2)
{
    return { static_cast<const T *>(x),
             static_cast<const T *>(relu ? y : NULL),
             static_cast<const T *>(dy),
             static_cast<const T *>(dy2),
             static_cast<T *>(dx),
             static_cast<T *>(dx2),
             relu };
}

extern "C" cudaError_t rm_cuda_bn_backward(const rm_cuda_bn *bn, const void *x, const void *y, const void *dy, const void *dy2, const float *saved, void *dx,
                                           void *dx2, float *dgamma, float *dbeta, void *workspace, cudaStream_t stream)
{
    if (!valid(bn) || (bn->relu && dx2 && !y) || !aligned16(workspace)) return cudaErrorInvalidValue;
    float *coefficient = static_cast<float *>(workspace);
    const bool vectors = wide(bn, aligned16(x, y, dy, dy2, dx, dx2, saved));
    WITH_TYPE(bn->type, T,
              WITH_VECTOR(T, VEC, vectors,
                          (backward<T, VEC>(bn, gradients_of<T>(bn->relu, x, y, dy, dy2, dx, dx2), true, saved, coefficient, dgamma, dbeta,
                                            partial_of(bn, workspace), stream))));
    return cudaGetLastError();
}

extern "C" cudaError_t rm_cuda_bn_backward_frozen(const rm_cuda_bn *bn, const void *x, const void *y, const void *dy, const void *dy2, const float *gamma,
                                                  const float *rmean, const float *rvar, void *dx, void *dx2, float *dgamma, float *dbeta, void *workspace,
                                                  cudaStream_t stream)
{
    if (!valid(bn) || (bn->relu && !y) || !aligned16(workspace)) return cudaErrorInvalidValue;
    float *coefficient = static_cast<float *>(workspace);
    const bool vectors = wide(bn, aligned16(x, y, dy, dy2, dx, dx2));
    LAUNCH(bn_running, dim3(blocks_for(bn->c)), dim3(THREADS), 0, stream, bn->c, bn->eps, gamma, static_cast<const float *>(NULL), rmean, rvar, coefficient);
    WITH_TYPE(bn->type, T,
              WITH_VECTOR(T, VEC, vectors,
                          (backward<T, VEC>(bn, gradients_of<T>(bn->relu, x, y, dy, dy2, dx, dx2), false, coefficient, NULL, dgamma, dbeta,
                                            partial_of(bn, workspace), stream))));
    return cudaGetLastError();
}
