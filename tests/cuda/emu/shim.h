/* What a .cu file of ours means when clang++ compiles it for the emulator: given before the file with -include. */
#ifndef EMU_SHIM_H
#define EMU_SHIM_H
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" {
typedef struct emu_site { const char *file; int line; } emu_site;
/* A launch's parameters as a GPU sees them, each at a multiple of its alignment; pointers with what they point to: f float,
 * b bf16, h fp16, d double, i integers. */
typedef struct emu_params { uint32_t bytes, pointers; unsigned char data[512]; struct { uint32_t at; char to; } pointer[16]; } emu_params;
void     emu_launch(const char *name, const void *kernel, uint3 grid, uint3 block, size_t smem, cudaStream_t stream, const emu_params *params,
                    void (*body)(const void *), const void *closure, size_t closure_bytes);
void    *emu_shared_array(const void *key, size_t bytes, size_t align);
void    *emu_dyn_shared(void);
void     emu_barrier(emu_site at) __attribute__((noduplicate));
uint64_t emu_shuffle(uint32_t mask, uint64_t v, int lane_xor, emu_site at) __attribute__((noduplicate));
uint3    emu_thread(void) __attribute__((const));
uint3    emu_block(void) __attribute__((const));
uint3    emu_block_dim(void) __attribute__((const));
uint3    emu_grid_dim(void) __attribute__((const));
void     emu_read(const void *p, size_t bytes, void *out);
void     emu_write(void *p, size_t bytes, const void *in);
void     emu_atomic(void *p, size_t bytes, bool is_float);
}

template <typename T> static constexpr char emu_code()
{
    return std::is_same<T, float>()           ? 'f'
           : std::is_same<T, double>()        ? 'd'
           : std::is_same<T, __nv_bfloat16>() ? 'b'
           : std::is_same<T, __half>()        ? 'h'
                                              : 'i';
}
template <typename P> static void emu_add(emu_params *out, P value)
{
    const uint32_t at = (out->bytes + alignof(P) - 1) / alignof(P) * alignof(P);
    memcpy(out->data + at, &value, sizeof value);
    out->bytes = at + sizeof value;
    if (std::is_pointer<P>()) out->pointer[out->pointers++] = { at, emu_code<std::remove_cv_t<std::remove_pointer_t<P>>>() };
}

/* Arguments are evaluated by the host, brought to the kernel's types and copied, as a real launch does. */
template <typename F> static void emu_call(const void *f) { (*static_cast<const F *>(f))(); }
template <typename... P, typename... A>
static void emu_start(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream, A... args)
{
    const auto body = [=] { kernel(args...); };
    emu_params params = {};
    (emu_add<P>(&params, static_cast<P>(args)), ...);
    emu_launch(name, reinterpret_cast<const void *>(kernel), grid, block, smem, stream, &params, emu_call<decltype(body)>, &body, sizeof body);
}
#define LAUNCH(kernel, grid, block, smem, stream, ...) emu_start(#kernel, kernel, grid, block, smem, stream, __VA_ARGS__)
#define SHARED(T, name, n)                                                                                                                             \
    static char name##_key;                                                                                                                            \
    T(&name)[n] = *static_cast<T(*)[n]>(emu_shared_array(&name##_key, sizeof(T) * (n), alignof(T) > 16 ? alignof(T) : 16))
#define DYN_SHARED(T, name) T *name = static_cast<T *>(emu_dyn_shared())

template <typename V> static inline V emu_load(const void *p)
{
    V v;
    emu_read(p, sizeof v, &v);
    return v;
}
template <typename V> static inline void emu_store(void *p, V v) { emu_write(p, sizeof v, &v); }
#define LOAD_WORD(V, p) emu_load<V>(p)
#define STORE_WORD(V, p, v) emu_store<V>(p, v)

#define threadIdx (emu_thread())
#define blockIdx (emu_block())
#define blockDim (emu_block_dim())
#define gridDim (emu_grid_dim())
#define EMU_HERE (emu_site{ __FILE__, __LINE__ })
#define __syncthreads() emu_barrier(EMU_HERE)
template <typename T> static inline T emu_shuffle_of(uint32_t mask, T v, int lane_xor, emu_site at)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = emu_shuffle(mask, bits, lane_xor, at);
    memcpy(&v, &bits, sizeof v);
    return v;
}
#define __shfl_xor_sync(mask, v, lanes) emu_shuffle_of(mask, v, lanes, EMU_HERE)
template <typename T> static inline T atomicAdd(T *p, T v)
{
    emu_atomic(p, sizeof v, !std::is_integral<T>::value);
    T old = emu_load<T>(p);
    emu_store<T>(p, old + v);
    emu_atomic(nullptr, 0, false);
    return old;
}
#endif
