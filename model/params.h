/* Parameters of a network on a device: one arena each for master weights, momentum, gradients and running statistics.
 *
 * All four hold f32 (double on the ref device). Weights, momentum and gradients share one order, gradient-ready order,
 * and one set of offsets, so that any run of gradients is one contiguous span for the all-reduce and the optimiser walks
 * the whole arena at once. Every parameter lies in the layout in which its gradient is produced; padding stays zero. */
#ifndef RM_PARAMS_H
#define RM_PARAMS_H
#include "kernels/device.h"
#include "model/graph.h"
#include "model/recipe.h"

typedef struct rm_slice { size_t offset, bytes; int32_t layout; } rm_slice; /* bytes: of the layout, padding included */
typedef struct rm_params {
    rm_device *device;
    const rm_graph *graph;      /* the caller's; must outlive this */
    size_t     elem;            /* bytes of an f32 on this device: 4, on ref 8 */
    rm_slice  *slice;           /* graph->n_param */
    rm_slice  *mean, *var;      /* graph->n_layer: running statistics of BN layers */
    size_t     bytes, stats_bytes;
    rm_buf    *weight, *momentum, *grad, *sum, *stats; /* momentum, grad: NULL for inference; sum: only with accumulation */
    rm_segment *segment;        /* graph->n_param, in ready order, for the optimiser */
} rm_params;

typedef struct rm_params_config { bool training, accumulate, decay_bn, decay_bias; const int32_t *layout; /* n_param or NULL: plain */ } rm_params_config;
rm_status rm_params_new(rm_device *d, const rm_graph *g, const rm_params_config *cfg, rm_params *out) RM_CHECKED;
void      rm_params_free(rm_params *p);

/* Initial values: "he-fan-in" (normal, std sqrt(2/fan_in)), "he-fan-out", "trunc-normal" (MindSpore: truncated normal of
 * std 1/sqrt(fan_in) * 0.87962566); fc uniform +-1/sqrt(in); gamma 1 (0 for the last of a block when zero_last), beta 0;
 * running mean 0, variance 1. Depends on (seed, parameter) alone, whatever the layout. */
rm_status rm_params_init(rm_params *p, const char *init, bool zero_last, uint64_t seed) RM_CHECKED;

typedef enum rm_arena { RM_ARENA_WEIGHT, RM_ARENA_MOMENTUM, RM_ARENA_GRAD } rm_arena;
/* One parameter as plain (O, I, KH, KW) doubles, `count` of them. Sync. */
rm_status rm_params_get(const rm_params *p, rm_arena arena, int32_t param, double *out) RM_CHECKED;
rm_status rm_params_set(rm_params *p, rm_arena arena, int32_t param, const double *in) RM_CHECKED;
/* Running statistics of BN layer `layer`, C values. Sync. */
rm_status rm_params_get_stats(const rm_params *p, int32_t layer, double *mean, double *var) RM_CHECKED;
rm_status rm_params_set_stats(rm_params *p, int32_t layer, const double *mean, const double *var) RM_CHECKED;
#endif
