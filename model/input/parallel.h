/* A loop over [0, n) on several threads, for whole folders. */
#ifndef RM_INPUT_PARALLEL_H
#define RM_INPUT_PARALLEL_H
#include "base/status.h"
#include <stdint.h>

/* What one thread needs of its own; begin() and end() may be NULL. item() is called for every i once, in no order; the
 * first failure (by i among those that happened) stops the loop and is returned with its cause. */
typedef struct rm_loop {
    rm_status (*begin)(void *shared, void **own);
    rm_status (*item)(void *shared, void *own, uint64_t i);
    void      (*end)(void *shared, void *own);
    void     *shared;
} rm_loop;
/* threads 0: one per core available. */
rm_status rm_loop_run(const rm_loop *loop, uint64_t n, int32_t threads) RM_CHECKED;
#endif
