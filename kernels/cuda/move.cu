/* Data from one type and layout to another. */
#include "kernels/cuda/vec.cuh"

/* ---- same order of elements */
template <typename T, typename U, int VEC> KERNEL convert(int64_t count, const T *x, U *y)
{
    const int64_t vectors = count / VEC, first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x;
    float v[VEC], one[1];
    for (int64_t i = first; i < vectors; i += step) {
        load(x + i * VEC, v);
        store(y + i * VEC, v);
    }
    for (int64_t i = vectors * VEC + first; i < count; i += step) {
        load(x + i, one);
        store(y + i, one);
    }
}

/* NHWC with another number of channels: `count` elements of y. */
template <typename T, typename U> KERNEL repad(int64_t count, int32_t from, int32_t to, const T *x, U *y)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        const int64_t pixel = i / to, channel = i % to;
        y[i] = from_float<U>(channel < from ? to_float(x[pixel * from + channel]) : 0.0f);
    }
}

/* ---- transposed: a block moves tiles of TILE x TILE elements through shared memory, so that both sides are contiguous
 * Source: (n, rows, cols) in steps of row_x; destination: (n, cols, rows) in steps of row_y; what lies beyond `rows` of the
 * source is zero. NCHW to NHWC: rows are channels; back: rows are pixels. */
enum { TILE = 32, TILE_ROWS = THREADS / TILE };
struct plane {
    int32_t n, rows, cols, rows_y, cols_y;
}; /* rows_y, cols_y: of the destination, which may be padded or cropped */

template <typename T, typename U> KERNEL transpose(plane p, const T *x, U *y)
{
    SHARED(float, tile, TILE *(TILE + 1));
    const int32_t col0 = blockIdx.x * TILE, row0 = blockIdx.y * TILE;
    for (int32_t n = blockIdx.z; n < p.n; n += gridDim.z) {
        const T *from = x + (int64_t)n * p.rows * p.cols;
        U *to = y + (int64_t)n * p.rows_y * p.cols_y;
        for (int r = threadIdx.y; r < TILE; r += TILE_ROWS) {
            const int32_t row = row0 + r, col = col0 + threadIdx.x;
            tile[r * (TILE + 1) + threadIdx.x] = row < p.rows && col < p.cols ? to_float(from[(int64_t)row * p.cols + col]) : 0.0f;
        }
        __syncthreads();
        for (int r = threadIdx.y; r < TILE; r += TILE_ROWS) {
            const int32_t row = row0 + threadIdx.x, col = col0 + r;
            if (row < p.rows_y && col < p.cols_y) to[(int64_t)col * p.rows_y + row] = from_float<U>(tile[threadIdx.x * (TILE + 1) + r]);
        }
        __syncthreads();
    }
}

struct move {
    int32_t n, hw;
    rm_cuda_tensor src, dst;
};

template <typename T, typename U> static void transposed(const move &m, const T *x, U *y, cudaStream_t stream)
{
    const bool to_nhwc = m.dst.layout == RM_CUDA_NHWC;
    const plane p = to_nhwc ? plane { m.n, m.src.c, m.hw, m.dst.c, m.hw } : plane { m.n, m.hw, m.src.c, m.hw, m.dst.c };
    const dim3 grid((unsigned)ceil_div(p.cols_y, TILE), (unsigned)ceil_div(p.rows_y, TILE), (unsigned)(m.n < 65535 ? m.n : 65535));
    LAUNCH((transpose<T, U>), grid, dim3(TILE, TILE_ROWS), 0, stream, p, x, y);
}

template <typename T, typename U> static void moved(const move &m, const void *from, void *to, cudaStream_t stream)
{
    const T *x = static_cast<const T *>(from);
    U *y = static_cast<U *>(to);
    const int64_t count = (int64_t)m.n * m.hw * m.dst.c;
    enum { VEC = sizeof(T) + sizeof(U) == 4 ? 8 : 4 };
    const bool same = m.src.layout == m.dst.layout || m.hw == 1; /* of one pixel both layouts are the same */
    if (!same) transposed(m, x, y, stream);
    else if (m.src.c != m.dst.c) LAUNCH((repad<T, U>), dim3(blocks_for(count)), dim3(THREADS), 0, stream, count, m.src.c, m.dst.c, x, y);
    else if (aligned16(x, y)) LAUNCH((convert<T, U, VEC>), dim3(blocks_for(ceil_div(count, VEC))), dim3(THREADS), 0, stream, count, x, y);
    else LAUNCH((convert<T, U, 1>), dim3(blocks_for(count)), dim3(THREADS), 0, stream, count, x, y);
}

static bool valid(const rm_cuda_tensor &t) { return type_valid(t.type) && (t.layout == RM_CUDA_NCHW || t.layout == RM_CUDA_NHWC) && t.c > 0; }

extern "C" cudaError_t rm_cuda_reorder(int32_t n, int32_t hw, rm_cuda_tensor src, const void *x, rm_cuda_tensor dst, void *y, cudaStream_t stream)
{
    const bool plain = src.layout == RM_CUDA_NCHW && dst.layout == RM_CUDA_NCHW;
    if (n < 1 || hw < 1 || !valid(src) || !valid(dst) || (plain && src.c != dst.c)) return cudaErrorInvalidValue;
    const move m = { n, hw, src, dst };
    WITH_TYPE(src.type, T, WITH_TYPE(dst.type, U, (moved<T, U>(m, x, y, stream))));
    return cudaGetLastError();
}

/* ---- images: a thread writes a pixel */
struct image {
    int64_t pixels;
    int32_t h, w, c;
    float gain[3], shift[3];
};

template <typename T, int VEC> KERNEL augment(image m, const uint8_t *x, const uint8_t *flip, T *y)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < m.pixels; i += step) {
        const int64_t row = i / m.w, col = i % m.w, from = flip[row / m.h] ? row * m.w + m.w - 1 - col : i;
        float v[3];
#pragma unroll
        for (int k = 0; k < 3; k++) v[k] = fmaf((float)x[from * 3 + k], m.gain[k], m.shift[k]);
        for (int32_t c = 0; c < m.c; c += VEC) {
            float out[VEC];
#pragma unroll
            for (int k = 0; k < VEC; k++) out[k] = c + k == 0 ? v[0] : c + k == 1 ? v[1] : c + k == 2 ? v[2] : 0.0f; /* v[c + k] would be in memory */
            store(y + i * m.c + c, out);
        }
    }
}

extern "C" cudaError_t rm_cuda_augment(rm_cuda_type type, int32_t n, int32_t h, int32_t w, int32_t c, const uint8_t *x, const uint8_t *flip,
                                       const double mean[3], const double std[3], void *y, cudaStream_t stream)
{
    if (!type_valid(type) || n < 1 || h < 1 || w < 1 || c < 3) return cudaErrorInvalidValue;
    image m = { (int64_t)n * h * w, h, w, c, {}, {} };
    for (int k = 0; k < 3; k++) {
        if (!(std[k] > 0)) return cudaErrorInvalidValue;
        m.gain[k] = (float)(1 / (255 * std[k]));
        m.shift[k] = (float)(-mean[k] / std[k]);
    }
    const dim3 grid(blocks_for(m.pixels));
    WITH_TYPE(
        type, T,
        WITH_VECTOR(T, VEC, c % lanes<T>::N == 0 && aligned16(y), LAUNCH((augment<T, VEC>), grid, dim3(THREADS), 0, stream, m, x, flip, static_cast<T *>(y))));
    return cudaGetLastError();
}
