/* N elements of memory as N floats in registers, in one access of up to 16 bytes. */
#ifndef RM_CUDA_VEC_CUH
#define RM_CUDA_VEC_CUH
#include "kernels/cuda/launch.cuh"

static __device__ __forceinline__ float to_float(float v) { return v; }
static __device__ __forceinline__ float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
static __device__ __forceinline__ float to_float(__half v) { return __half2float(v); }
template <typename T> static __device__ __forceinline__ T from_float(float v);
template <> __device__ __forceinline__ float from_float<float>(float v) { return v; }
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float v) { return __float2bfloat16_rn(v); }
template <> __device__ __forceinline__ __half from_float<__half>(float v) { return __float2half_rn(v); }

/* The word that N elements make. */
template <int BYTES> struct word_of;
template <> struct word_of<16> {
    using type = uint4;
};
template <> struct word_of<8> {
    using type = uint2;
};
template <> struct word_of<4> {
    using type = uint32_t;
};
template <> struct word_of<2> {
    using type = uint16_t;
};

template <typename T, int N> union pack {
    typename word_of<sizeof(T) * N>::type word;
    T at[N];
    __device__ __forceinline__ pack() : word() {}
};

template <int N, typename T> static __device__ __forceinline__ void load(const T *p, float (&v)[N])
{
    pack<T, N> in;
    in.word = LOAD_WORD(typename word_of<sizeof(T) * N>::type, p);
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = to_float(in.at[k]);
}

template <int N, typename T> static __device__ __forceinline__ void store(T *p, const float (&v)[N])
{
    pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; k++) out.at[k] = from_float<T>(v[k]);
    STORE_WORD(typename word_of<sizeof(T) * N>::type, p, out.word);
}

/* v as it will be once stored. */
template <typename T> static __device__ __forceinline__ float rounded(float v) { return to_float(from_float<T>(v)); }
/* NaN stays NaN. */
static __device__ __forceinline__ float relu(float v) { return v <= 0 ? 0 : v; }
#endif
