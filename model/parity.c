#include "model/parity.h"
#include "model/engine.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PX = 32, BATCH = 4, CLASSES = 10, MOST_CHANNELS = 2048 };
static const double last_gamma = 0.15, open_beta = 1;

/* What a ReLU that flips in a few places may do, and no more; the types' own rounding where that is coarser. */
static const struct { double loss, gradient, loss_scale; } limit[RM_DTYPE_COUNT] = {
    [RM_F32] = { 1e-4, 2e-2, 1 }, [RM_TF32] = { 1e-2, 0.3, 1 }, [RM_BF16] = { 5e-2, 1.0, 1 }, [RM_F16] = { 1e-2, 0.3, 128 },
};

typedef struct side { rm_recipe recipe; rm_engine e; double loss; } side;

static rm_status set_role(rm_engine *e, rm_role role, bool last_only, double value)
{
    double v[MOST_CHANNELS];
    for (size_t i = 0; i < RM_COUNT(v); i++) v[i] = value;
    for (int32_t i = 0; i < e->graph.n_param; i++) {
        const rm_param *q = &e->graph.param[i];
        if (q->role == role && (!last_only || e->graph.layer[q->layer].last_bn)) RM_TRY(rm_params_set(&e->params, RM_ARENA_WEIGHT, i, v));
    }
    return RM_OK;
}

/* The learning rate is 0: gradients are what is compared. */
static rm_status run_side(rm_device *d, rm_dtype dtype, const rm_source *src, side *s)
{
    rm_step step;
    rm_recipe_defaults(&s->recipe);
    s->recipe.loss_scale = limit[dtype].loss_scale > 0 ? limit[dtype].loss_scale : 1;
    s->recipe.momentum = s->recipe.weight_decay = 0;
    const rm_engine_config cfg = { .recipe = &s->recipe, .dtype = dtype, .px = PX, .batch = BATCH, .classes = CLASSES, .split = "single", .seed = 1 };
    RM_TRY(rm_engine_new(d, NULL, &cfg, &s->e));
    RM_TRY(set_role(&s->e, RM_ROLE_GAMMA, true, last_gamma));
    RM_TRY(set_role(&s->e, RM_ROLE_BETA, false, open_beta));
    RM_TRY(rm_engine_step(&s->e, src, 0, 0.0, &step));
    s->loss = step.loss;
    return RM_OK;
}

/* Adds parameter i to the squares of a difference and of the reference, each freed of its loss scale. */
typedef struct squares { double difference, reference; } squares;
static rm_status add_squares(const side *ref, const side *got, int32_t i, double *v, double *w, squares *sum)
{
    RM_TRY(rm_params_get(&ref->e.params, RM_ARENA_GRAD, i, v));
    RM_TRY(rm_params_get(&got->e.params, RM_ARENA_GRAD, i, w));
    for (uint64_t k = 0; k < ref->e.graph.param[i].count; k++) {
        const double want = v[k] / ref->recipe.loss_scale, e = w[k] / got->recipe.loss_scale - want;
        sum->difference += e * e;
        sum->reference += want * want;
    }
    return RM_OK;
}

/* Layer by layer: a gradient that is nearly nothing beside its layer's others may be all rounding. */
static rm_status compare_layers(const side *ref, const side *got, double *v, double *w, rm_parity *out)
{
    const rm_graph *g = &ref->e.graph;
    squares sum = { 0 };
    for (int32_t i = 0; i < g->n_param; i++) {
        RM_TRY(add_squares(ref, got, i, v, w, &sum));
        if (i + 1 < g->n_param && g->param[i + 1].layer == g->param[i].layer) continue;
        const double error = sqrt(sum.difference / (sum.reference > 0 ? sum.reference : 1));
        sum = (squares){ 0 };
        if (error <= out->gradient_error) continue; /* a NaN is the worst of all */
        out->gradient_error = error;
        snprintf(out->worst, sizeof out->worst, "%s", g->layer[g->param[i].layer].name);
    }
    return RM_OK;
}

static rm_status compare_all(const side *ref, const side *got, rm_parity *out)
{
    const uint64_t most = rm_graph_largest_param(&ref->e.graph);
    double *v = calloc(most, sizeof *v), *w = calloc(most, sizeof *w);
    const rm_status st = v && w ? compare_layers(ref, got, v, w, out) : rm_fail(RM_E_NOMEM, "out of memory comparing gradients");
    free(v);
    free(w);
    return st;
}

static rm_status run_both(rm_device *d, rm_device *ref_device, rm_dtype dtype, const rm_source *src, rm_parity *out)
{
    side ref = { .loss = 0 }, got = { .loss = 0 };
    rm_status st = run_side(ref_device, RM_F64, src, &ref);
    if (st == RM_OK) st = run_side(d, dtype, src, &got);
    if (st == RM_OK) st = compare_all(&ref, &got, out);
    out->loss = got.loss;
    out->ref_loss = ref.loss;
    out->loss_error = fabs(got.loss - ref.loss) / ref.loss;
    rm_engine_free(&got.e);
    rm_engine_free(&ref.e);
    return st;
}

rm_status rm_parity_check(rm_device *d, rm_dtype dtype, rm_parity *out)
{
    rm_device *ref = NULL;
    rm_synthetic s;
    RM_ASSERT(limit[dtype].loss > 0);
    *out = (rm_parity){ .dtype = dtype, .loss_limit = limit[dtype].loss, .gradient_limit = limit[dtype].gradient };
    RM_TRY(rm_synthetic_new(BATCH, PX, CLASSES, 1, &s));
    const rm_source src = rm_source_synthetic(&s);
    rm_status st = rm_device_open("ref", NULL, &ref);
    if (st == RM_OK) st = run_both(d, ref, dtype, &src, out);
    if (st == RM_E_NUMERIC) { /* not finite: as wrong as can be */
        out->loss_error = out->gradient_error = INFINITY;
        st = RM_OK;
    }
    out->passed = out->loss_error <= out->loss_limit && out->gradient_error <= out->gradient_limit;
    rm_device_close(ref);
    rm_synthetic_free(&s);
    return st;
}
