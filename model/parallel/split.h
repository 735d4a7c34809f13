/* Splits: which gradients go into which all-reduce.
 *
 * A split of n gradients is a list of inclusive ends in ascending order, the last of them n - 1: {107, 160} is the two all-reduces
 * 0..107 and 108..160. Positions count in ready order (fc.bias first) unless the user counts in forward order, conv1.weight first;
 * answers are always in ready order, the order of the gradient arena. Pure functions; any thread. */
#ifndef RM_SPLIT_H
#define RM_SPLIT_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum rm_split_order { RM_SPLIT_READY, RM_SPLIT_FORWARD } rm_split_order;

/* Spec to ends. bytes: (n) size of each gradient in ready order, n > 0; end: room for n; *out_n: number of all-reduces, 1..n.
 *   107,160        ends; the last is completed to n - 1 when missing
 *   single         all in one
 *   per-layer      each gradient on its own
 *   bytes:25M      closed when it has at least that many bytes; suffixes K, M, G (1000) and Ki, Mi, Gi (1024)
 *   ddp            as PyTorch's DistributedDataParallel: first 1 MiB, then 25 MiB
 *   equal:K        K of nearly the same size: each ends where the sum is nearest to its share
 * RM_E_ARG with the offending index or word. "auto" comes with the split search and is refused until then. */
rm_status rm_split_parse(const char *spec, const uint64_t *bytes, uint32_t n, rm_split_order order, uint32_t *end, uint32_t *out_n) RM_CHECKED;

/* One all-reduce of a split. */
typedef struct rm_split_part { uint32_t first, last; uint64_t bytes; double share; } rm_split_part; /* share of all bytes, 0..1 */
/* Part number i of a split into n_end parts. */
rm_split_part rm_split_part_at(const uint64_t *bytes, const uint32_t *end, uint32_t n_end, uint32_t i);
/* "96.54/3.46 %", with "..." where `size` is too small. */
void rm_split_shares(const uint64_t *bytes, const uint32_t *end, uint32_t n_end, char *text, size_t size);
/* "107,160": the ends as a spec that gives the same split again in ready order. False when `size` is too small. */
bool rm_split_print(const uint32_t *end, uint32_t n_end, char *text, size_t size);
#endif
