/* Small kernels with one bug each, and their twins without it: what the emulator's own test runs. */
#include "kernels/cuda/launch.cuh"
#include "tests/cuda/emu/seeded.h"

/* out[block] = sum of the block's 64 values, through shared memory. */
template <int BUG> KERNEL block_sum(const float *x, float *out)
{
    SHARED(float, part, 64);
    const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    if (BUG != SEED_UNINIT_SHARED || t != 5) part[t] = x[i];
    if (BUG == SEED_DIVERGENT_BRANCH) {
        if (t < 32) __syncthreads();
    }
    if (BUG == SEED_DIVERGENT_EXIT && t == 63) return;
    if (BUG != SEED_MISSING_BARRIER) __syncthreads();
    for (int half = 32; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        if (BUG != SEED_MISSING_LOOP_BARRIER) __syncthreads();
    }
    if (t == 0) out[BUG == SEED_SAME_OUTPUT ? 0 : blockIdx.x] = part[0];
    if (BUG == SEED_SHARED_BOUNDS && t == 63) part[t + 1] = 0;
}

template <int BUG> KERNEL warp_sum(const float *x, float *out)
{
    float v = x[threadIdx.x];
    if (BUG == SEED_DIVERGENT_SHUFFLE && threadIdx.x == 7) return;
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(BUG == SEED_PARTIAL_MASK ? 0xffffu : 0xffffffffu, v, step);
    if (threadIdx.x == 0) out[0] = v;
}

template <int BUG> KERNEL copy(int n, const float *x, float *y, const float *host)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[BUG == SEED_BOUNDS ? i + 1 : i];
    if (BUG == SEED_HOST_POINTER && i == 3) y[i] = host[0];
    if (BUG == SEED_MISALIGNED && i == 0) STORE_WORD(uint4, y + 1, LOAD_WORD(uint4, x));
    if (BUG == SEED_NEIGHBOUR && i + 1 < n && i % 64 == 63) y[i] = y[i + 1];
    if (BUG == SEED_NEIGHBOUR_READ && i > 0 && i % 64 == 0) y[i] += x[i] * 0 + y[i - 1];
}

template <int BUG> KERNEL total(const float *x, float *out, int *count)
{
    if (BUG == SEED_FLOAT_ATOMIC) atomicAdd(out, x[blockIdx.x * blockDim.x + threadIdx.x]);
    if (BUG == SEED_PLAIN_COUNT) *count += 1;
    else atomicAdd(count, 1);
}

enum { BLOCKS = 3, WIDTH = 64 };

template <int BUG> static void start(const seed_buffers *b)
{
    const dim3 grid(BLOCKS), block(WIDTH);
    switch (BUG) {
    case SEED_DIVERGENT_SHUFFLE:
    case SEED_PARTIAL_MASK:
    case SEED_NONE_WARP: LAUNCH((warp_sum<BUG>), dim3(1), dim3(32), 0, NULL, b->x, b->y); break;
    case SEED_BOUNDS:
    case SEED_HOST_POINTER:
    case SEED_MISALIGNED:
    case SEED_NEIGHBOUR:
    case SEED_NEIGHBOUR_READ:
    case SEED_NONE_COPY:
    case SEED_FREED:
    case SEED_UNINIT_GLOBAL: LAUNCH((copy<BUG>), grid, block, 0, NULL, BLOCKS * WIDTH, b->x, b->y, b->host); break;
    case SEED_FLOAT_ATOMIC:
    case SEED_PLAIN_COUNT:
    case SEED_NONE_ATOMIC: LAUNCH((total<BUG>), grid, block, 0, NULL, b->x, b->y, b->count); break;
    case SEED_BLOCK_SIZE: LAUNCH((copy<BUG>), grid, dim3(1025), 0, NULL, BLOCKS * WIDTH, b->x, b->y, b->host); break;
    default: LAUNCH((block_sum<BUG>), grid, block, 0, NULL, b->x, b->y);
    }
}

template <int BUG> static void start_number(int bug, const seed_buffers *b)
{
    if (bug == BUG) start<BUG>(b);
    else if constexpr (BUG + 1 < SEEDS) start_number<BUG + 1>(bug, b);
}

extern "C" void seed_run(int bug, const seed_buffers *b) { start_number<0>(bug, b); }
