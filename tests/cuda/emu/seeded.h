/* Kernels with one bug each (seeded.cu). */
#ifndef EMU_SEEDED_H
#define EMU_SEEDED_H

typedef enum seed {
    SEED_NONE_BLOCK, SEED_NONE_WARP, SEED_NONE_COPY, SEED_NONE_ATOMIC,                  /* the twins without a bug */
    SEED_MISSING_BARRIER, SEED_MISSING_LOOP_BARRIER, SEED_UNINIT_SHARED, SEED_SHARED_BOUNDS, SEED_SAME_OUTPUT,
    SEED_DIVERGENT_BRANCH, SEED_DIVERGENT_EXIT, SEED_DIVERGENT_SHUFFLE, SEED_PARTIAL_MASK,
    SEED_BOUNDS, SEED_HOST_POINTER, SEED_MISALIGNED, SEED_NEIGHBOUR, SEED_NEIGHBOUR_READ, SEED_FREED, SEED_UNINIT_GLOBAL,
    SEED_FLOAT_ATOMIC, SEED_PLAIN_COUNT, SEED_BLOCK_SIZE, SEEDS
} seed;
/* x, y: 192 floats of the device; count: int of the device; host: of the host. */
typedef struct seed_buffers { const float *x; float *y; int *count; const float *host; } seed_buffers;
#ifdef __cplusplus
extern "C"
#endif
void seed_run(int bug, const seed_buffers *b);
#endif
