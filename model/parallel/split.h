/* All-reduce splits: where the gradient arena is cut into buckets.
 *
 * Gradients are numbered 0..n-1 in ready order (the order in which backward produces them: fc.bias first). A split is the
 * list of inclusive ends of its buckets, ascending, n-1 last, as MindSpore's set_all_reduce_fusion_split_indices and HCCL's
 * set_split_strategy_by_idx mean it. Pure functions, no state. */
#ifndef RM_SPLIT_H
#define RM_SPLIT_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

/* READY: indices count in ready order. FORWARD: index i means gradient n-1-i (another tool's habit). */
typedef enum rm_split_order { RM_SPLIT_READY, RM_SPLIT_FORWARD } rm_split_order;

/* spec: "107,160" (the last end is completed), "single", "per-layer" (a bucket a gradient), "bytes:25M" (a bucket ends with
 * the gradient that brings it to that size; suffixes K, M, G of 1024), "ddp" (1 MiB first, then 25 MiB), "equal:K" (K buckets
 * of about equal bytes). bytes: n sizes in ready order. out_end: room for n. RM_E_ARG names the offending index or word. */
rm_status rm_split_parse(const char *spec, const uint64_t *bytes, uint32_t n, rm_split_order order, uint32_t *out_end, uint32_t *out_n) RM_CHECKED;

/* Share of the bytes of bucket b, in percent. */
double    rm_split_share(const uint64_t *bytes, uint32_t n, const uint32_t *end, uint32_t b);
#endif
