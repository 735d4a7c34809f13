/* SGD and LARS over the arena, cut into chunks of one span each. LARS: norms of each chunk, then trust of each span, then the
 * update; SGD: the update alone. The update counts non-finite gradients a chunk; a last block sums the counts. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include <math.h>

/* Places in HYPER and their meaning are those of kernels/op.h. */
enum { LR, MOMENTUM, DECAY, GRAD_SCALE, ETA };
struct hyper {
    float lr, momentum, decay, scale, eta;
};
static __device__ __forceinline__ hyper load_hyper(const double *h)
{
    return { (float)h[LR], (float)h[MOMENTUM], (float)h[DECAY], (float)h[GRAD_SCALE], (float)h[ETA] };
}

/* ---- chunks (host) */
extern "C" uint32_t rm_cuda_optim_chunks(const rm_cuda_span *span, uint32_t n)
{
    uint64_t chunks = 0;
    for (uint32_t s = 0; s < n; s++) chunks += (span[s].count + RM_CUDA_CHUNK - 1) / RM_CUDA_CHUNK;
    return (uint32_t)chunks;
}

extern "C" void rm_cuda_optim_cut(const rm_cuda_span *span, uint32_t n, rm_cuda_chunk *chunk, rm_cuda_reach *reach)
{
    uint32_t at = 0;
    for (uint32_t s = 0; s < n; s++) {
        reach[s] = { at, 0, span[s].decay, span[s].adapt };
        for (uint64_t done = 0; done < span[s].count; done += RM_CUDA_CHUNK, at++) {
            const uint64_t left = span[s].count - done;
            chunk[at] = { span[s].start + done, (uint32_t)(left < RM_CUDA_CHUNK ? left : (uint64_t)RM_CUDA_CHUNK), s };
        }
        reach[s].count = at - reach[s].first;
    }
}

/* Workspace: float trust[spans], float norms[chunks][2], uint32 bad[chunks]. */
extern "C" size_t rm_cuda_optim_workspace_bytes(uint32_t n_spans, uint32_t n_chunks) { return ((size_t)n_spans + 3 * (size_t)n_chunks) * sizeof(float); }

/* ---- walking a chunk: single elements up to the first whole vector, vectors, single elements again */
enum { QUAD = 4 };
struct walk {
    int64_t start, vectors, tail, end;
};
static __device__ __forceinline__ walk walk_of(const rm_cuda_chunk &chunk, bool wide)
{
    const int64_t start = (int64_t)chunk.start, end = start + chunk.count, up = (start + QUAD - 1) / QUAD * QUAD;
    if (!wide || up >= end) return { start, end, end, end };
    return { start, up, end / QUAD * QUAD, end };
}

/* body(i, integral constant N) for elements i..i+N-1, each element once. */
template <int N> struct width {
    enum { value = N };
};
template <typename Body> static __device__ __forceinline__ void for_chunk(const walk &w, Body body)
{
    const int t = threadIdx.x;
    for (int64_t i = w.start + t; i < w.vectors; i += THREADS) body(i, width<1>());
    for (int64_t i = w.vectors + QUAD * t; i < w.tail; i += QUAD * THREADS) body(i, width<QUAD>());
    for (int64_t i = w.tail + t; i < w.end; i += THREADS) body(i, width<1>());
}

/* ---- LARS: norms and trust */
template <typename T> KERNEL norms(bool wide, const rm_cuda_chunk *chunks, const float *w, const T *dw, const double *hypers, float *out)
{
    SHARED(float, shared_w, THREADS / WARP);
    SHARED(float, shared_g, THREADS / WARP);
    const float scale = (float)hypers[GRAD_SCALE];
    float ww = 0, gg = 0;
    for_chunk(walk_of(chunks[blockIdx.x], wide), [&](int64_t i, auto n) {
        float a[n.value], b[n.value];
        load(w + i, a);
        load(dw + i, b);
#pragma unroll
        for (int k = 0; k < n.value; k++) {
            const float g = b[k] * scale;
            ww = fmaf(a[k], a[k], ww);
            gg = fmaf(g, g, gg);
        }
    });
    ww = block_combine(ww, plus(), shared_w);
    gg = block_combine(gg, plus(), shared_g);
    if (threadIdx.x > 0) return;
    out[2 * blockIdx.x] = ww;
    out[2 * blockIdx.x + 1] = gg;
}

/* A block a span. */
KERNEL trusts(const rm_cuda_reach *reaches, const float *norm, const double *hypers, float *trust)
{
    SHARED(double, shared_w, THREADS / WARP);
    SHARED(double, shared_g, THREADS / WARP);
    const rm_cuda_reach r = reaches[blockIdx.x];
    double ww = 0, gg = 0;
    for (uint32_t i = threadIdx.x; i < r.count; i += THREADS) {
        ww += norm[2 * (r.first + i)];
        gg += norm[2 * (r.first + i) + 1];
    }
    ww = block_combine(ww, plus(), shared_w);
    gg = block_combine(gg, plus(), shared_g);
    if (threadIdx.x > 0) return;
    const double decay = r.decay ? hypers[DECAY] : 0;
    const bool adapts = r.adapt && ww > 0 && gg > 0;
    trust[blockIdx.x] = adapts ? (float)(hypers[ETA] * sqrt(ww) / (sqrt(gg) + decay * sqrt(ww) + 1e-9)) : 1.0f;
}

/* ---- update */
struct update {
    const rm_cuda_chunk *chunks;
    const rm_cuda_reach *reaches;
    const float *trust;
    bool nesterov, wide;
};

template <typename T> KERNEL optim_update(update u, const T *dw, const double *hypers, float *w, float *momentum, uint32_t *bad)
{
    SHARED(uint32_t, shared, THREADS / WARP);
    const rm_cuda_chunk chunk = u.chunks[blockIdx.x];
    const hyper h = load_hyper(hypers);
    const float decay = u.reaches[chunk.span].decay ? h.decay : 0.0f;
    const float inside = u.trust ? h.lr * u.trust[chunk.span] : 1.0f, outside = u.trust ? 1.0f : h.lr;
    uint32_t count = 0;
    for_chunk(walk_of(chunk, u.wide), [&](int64_t i, auto n) {
        float a[n.value], d[n.value], v[n.value];
        load(w + i, a);
        load(dw + i, d);
        load(momentum + i, v);
#pragma unroll
        for (int k = 0; k < n.value; k++) {
            count += !isfinite(d[k]);
            const float g = inside * fmaf(decay, a[k], d[k] * h.scale);
            v[k] = fmaf(h.momentum, v[k], g);
            a[k] -= outside * (u.nesterov ? fmaf(h.momentum, v[k], g) : v[k]);
        }
        store(w + i, a);
        store(momentum + i, v);
    });
    count = block_combine(count, plus(), shared);
    if (threadIdx.x == 0) bad[blockIdx.x] = count;
}

/* One block: flag[0] = number of non-finite gradients, saturating; flag[1] = first span that has one, or -1. */
KERNEL optim_flag(uint32_t n_chunks, const rm_cuda_chunk *chunks, const uint32_t *bad, int32_t *flag)
{
    SHARED(unsigned long long, shared_sum, THREADS / WARP);
    SHARED(uint32_t, shared_first, THREADS / WARP);
    unsigned long long sum = 0;
    uint32_t first = UINT32_MAX;
    for (uint32_t i = threadIdx.x; i < n_chunks; i += THREADS) {
        sum += bad[i];
        if (bad[i] && chunks[i].span < first) first = chunks[i].span;
    }
    sum = block_combine(sum, plus(), shared_sum);
    first = block_combine(first, smaller(), shared_first);
    if (threadIdx.x > 0) return;
    flag[0] = sum < INT32_MAX ? (int32_t)sum : INT32_MAX;
    flag[1] = first == UINT32_MAX ? -1 : (int32_t)first;
}

template <typename T>
static void step(const rm_cuda_optim *o, float *w, const void *dw, float *momentum, const double *hyper, float *trust, float *norm, uint32_t *bad, bool wide,
                 cudaStream_t stream)
{
    const T *gradient = static_cast<const T *>(dw);
    if (o->lars) {
        LAUNCH((norms<T>), dim3(o->n_chunks), dim3(THREADS), 0, stream, wide, o->chunk, w, gradient, hyper, norm);
        LAUNCH(trusts, dim3(o->n_spans), dim3(THREADS), 0, stream, o->reach, norm, hyper, trust);
    }
    const update u = { o->chunk, o->reach, o->lars ? trust : NULL, o->nesterov, wide };
    LAUNCH((optim_update<T>), dim3(o->n_chunks), dim3(THREADS), 0, stream, u, gradient, hyper, w, momentum, bad);
}

extern "C" cudaError_t rm_cuda_optim_step(const rm_cuda_optim *o, float *w, const void *dw, float *momentum, const double *hyper, int32_t *flag,
                                          void *workspace, cudaStream_t stream)
{
    if (!type_valid(o->gradient) || o->n_spans < 1 || o->n_chunks < 1 || !aligned16(workspace)) return cudaErrorInvalidValue;
    float *trust = static_cast<float *>(workspace), *norm = trust + o->n_spans;
    uint32_t *bad = reinterpret_cast<uint32_t *>(norm + 2 * (int64_t)o->n_chunks);
    const bool wide = aligned16(w, dw, momentum);
    WITH_TYPE(o->gradient, T, step<T>(o, w, dw, momentum, hyper, trust, norm, bad, wide, stream));
    LAUNCH(optim_flag, dim3(1), dim3(THREADS), 0, stream, o->n_chunks, o->chunk, bad, flag);
    return cudaGetLastError();
}
