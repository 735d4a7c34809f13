/* Which layers a change slowed down: the rows of all pairs by one family-wise test (profiler/paired.h), so that looking at hundreds of layers
 * names none by chance more often than alpha says. Pure functions; any thread. */
#ifndef RM_REPORTS_GATE_LAYERS_H
#define RM_REPORTS_GATE_LAYERS_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

/* effect: the least slow-down of a layer that counts, as a share of the layer. flips: of the signs of all pairs. */
typedef struct rp_layer_rule { double alpha, effect; int flips; uint64_t seed; } rp_layer_rule;
extern const rp_layer_rule rp_layer_rule_usual; /* 1 %, 5 %, 10,000 */

/* delta: Hodges-Lehmann estimate of ln(B / A). p: family-wise, see rm_max_statistic(), of the layer against the median layer of each pair, whose noise
 * is the machine's. named: slower beyond doubt, and by the effect or more. A change of all layers alike names none: the step tells. */
typedef struct rp_layer_judged { double delta, p; bool named; } rp_layer_judged;
/* d: (rows, n), ln(B / A) of a layer, row by row. out: (rows). RM_E_ARG: more pairs than can be compared. */
rm_status rp_gate_layers(const rp_layer_rule *r, const double *d, int rows, int n, rp_layer_judged *out) RM_CHECKED;
/* Fewer pairs than this name no layer of `rows`: each row has one order of signs that no flip may match by chance too often. */
int       rp_gate_layers_least(const rp_layer_rule *r, int rows);
#endif
