/* Which layers became slower: the layer rows of the same pairs by one family-wise test. */
#ifndef RM_BENCH_GATE_LAYERS_H
#define RM_BENCH_GATE_LAYERS_H
#include "base/status.h"
#include <jansson.h>
#include <stdint.h>

/* {"conv1 fwd": [a, b], ...} in seconds, of the rows that both documents of bench layers have; an empty object for other documents. New reference. */
json_t   *bench_gate_layer_values(const json_t *a, const json_t *b);
/* pairs: as of bench_pairs, the first `n` that count. *out: [{"name", "pass", "delta", "p"}] of the layers that reports/gate_layers.h names by its usual rule,
 * largest change first; new reference. *out_rows: how many layers were compared. */
rm_status bench_gate_layers_judge(const json_t *pairs, int n, uint64_t seed, json_t **out, int *out_rows) RM_CHECKED;
/* How many pairs it takes before any layer of these pairs can be named; 0 where they have none. */
int       bench_gate_layers_least(const json_t *pairs);
#endif
