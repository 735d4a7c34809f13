#include "model/params.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };
static size_t align_up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

static rm_tdesc plain(rm_shape s) { return (rm_tdesc){ s, RM_F32, RM_LAYOUT_NCHW }; }

static void lay_out(rm_params *p, const rm_params_config *cfg)
{
    const rm_graph *g = p->graph;
    for (int32_t r = 0; r < g->n_param; r++) {
        int32_t i = g->by_ready[r];
        const rm_param *q = &g->param[i];
        rm_tdesc t = plain(q->shape);
        if (cfg->layout) t.layout = cfg->layout[i];
        size_t bytes = rm_layout_bytes(p->device, &t);
        p->slice[i] = (rm_slice){ p->bytes, bytes, t.layout };
        bool vector = q->role == RM_ROLE_GAMMA || q->role == RM_ROLE_BETA;
        p->segment[r] = (rm_segment){ .start = p->bytes / p->elem, .count = bytes / p->elem,
                                      .decay = vector ? cfg->decay_bn : q->role == RM_ROLE_BIAS ? cfg->decay_bias : true,
                                      .adapt = q->role == RM_ROLE_WEIGHT };
        p->bytes += align_up(bytes);
    }
    for (int32_t l = 0; l < g->n_layer; l++) {
        if (g->layer[l].kind != RM_K_BN) continue;
        size_t bytes = (size_t)g->layer[l].out.c * p->elem;
        p->mean[l] = (rm_slice){ p->stats_bytes, bytes, RM_LAYOUT_NCHW };
        p->var[l] = (rm_slice){ p->stats_bytes + align_up(bytes), bytes, RM_LAYOUT_NCHW };
        p->stats_bytes += 2 * align_up(bytes);
    }
}

static rm_status allocate(rm_params *p, const rm_params_config *cfg)
{
    RM_TRY(rm_buf_alloc(p->device, RM_MEM_DEVICE, p->bytes, &p->weight));
    RM_TRY(rm_buf_alloc(p->device, RM_MEM_DEVICE, p->stats_bytes, &p->stats));
    if (!cfg->training) return RM_OK;
    RM_TRY(rm_buf_alloc(p->device, RM_MEM_DEVICE, p->bytes, &p->momentum));
    RM_TRY(rm_buf_alloc(p->device, RM_MEM_DEVICE, p->bytes, &p->grad));
    if (cfg->accumulate) RM_TRY(rm_buf_alloc(p->device, RM_MEM_DEVICE, p->bytes, &p->sum));
    return RM_OK;
}

rm_status rm_params_new(rm_device *d, const rm_graph *g, const rm_params_config *cfg, rm_params *out)
{
    rm_tdesc one = plain((rm_shape){ 1, 1, 1, 1 });
    rm_params p = { .device = d, .graph = g, .elem = rm_layout_bytes(d, &one) };
    p.slice = calloc((size_t)g->n_param, sizeof *p.slice);
    p.segment = calloc((size_t)g->n_param, sizeof *p.segment);
    p.mean = calloc((size_t)g->n_layer, sizeof *p.mean);
    p.var = calloc((size_t)g->n_layer, sizeof *p.var);
    if (!p.slice || !p.segment || !p.mean || !p.var) {
        rm_params_free(&p);
        return rm_fail(RM_E_NOMEM, "out of memory for the parameter table");
    }
    lay_out(&p, cfg);
    rm_status st = allocate(&p, cfg);
    if (st != RM_OK) { rm_params_free(&p); return st; }
    *out = p;
    return RM_OK;
}

void rm_params_free(rm_params *p)
{
    if (!p) return;
    rm_buf *all[] = { p->weight, p->momentum, p->grad, p->sum, p->stats };
    for (size_t i = 0; i < RM_COUNT(all); i++) rm_buf_free(p->device, all[i]);
    free(p->slice);
    free(p->segment);
    free(p->mean);
    free(p->var);
    memset(p, 0, sizeof *p);
}

/* ---- host access: through a reorder on the device to or from plain f32 (double on ref) */
static rm_status reorder(rm_device *d, rm_tdesc from, rm_ref src, rm_tdesc to, rm_ref dst)
{
    rm_op op = { .code = RM_OP_REORDER, .x = from, .y = to };
    rm_plan *plan = NULL;
    rm_plan_info info;
    rm_args args = { 0 };
    RM_TRY(rm_device_plan(d, &op, &plan, &info));
    rm_status st = info.workspace_bytes ? rm_buf_alloc(d, RM_MEM_DEVICE, info.workspace_bytes, &args.workspace.buf) : RM_OK;
    args.t[RM_X] = src;
    args.t[RM_Y] = dst;
    if (st == RM_OK) st = rm_device_run(d, NULL, plan, &args);
    if (st == RM_OK) st = rm_device_sync(d, NULL);
    rm_buf_free(d, args.workspace.buf);
    rm_plan_free(d, plan);
    return st;
}

static double get_elem(const void *p, size_t elem, uint64_t i) { return elem == 8 ? ((const double *)p)[i] : (double)((const float *)p)[i]; }
static void set_elem(void *p, size_t elem, uint64_t i, double v)
{
    if (elem == 8) ((double *)p)[i] = v;
    else ((float *)p)[i] = (float)v;
}

/* Moves one tensor between its place on the device and `host` (doubles). */
static rm_status transfer(const rm_params *p, rm_ref at, rm_tdesc desc, uint64_t count, double *host, bool to_device)
{
    rm_device *d = p->device;
    rm_buf *stage = NULL;
    rm_status st = RM_OK;
    void *raw = malloc(count * p->elem);
    if (!raw) return rm_fail(RM_E_NOMEM, "out of memory copying parameters");
    RM_TRY_GOTO(st, rm_buf_alloc(d, RM_MEM_DEVICE, count * p->elem, &stage), out);
    rm_ref ref = { stage, 0 };
    if (to_device) {
        for (uint64_t i = 0; i < count; i++) set_elem(raw, p->elem, i, host[i]);
        RM_TRY_GOTO(st, rm_device_write(d, NULL, ref, raw, count * p->elem), out);
        RM_TRY_GOTO(st, reorder(d, plain(desc.shape), ref, desc, at), out);
    } else {
        RM_TRY_GOTO(st, reorder(d, desc, at, plain(desc.shape), ref), out);
        RM_TRY_GOTO(st, rm_device_read(d, NULL, raw, ref, count * p->elem), out);
        RM_TRY_GOTO(st, rm_device_sync(d, NULL), out);
        for (uint64_t i = 0; i < count; i++) host[i] = get_elem(raw, p->elem, i);
    }
out:
    rm_buf_free(d, stage);
    free(raw);
    return st;
}

static rm_buf *arena_of(const rm_params *p, rm_arena a)
{
    switch (a) {
    case RM_ARENA_WEIGHT: return p->weight;
    case RM_ARENA_MOMENTUM: return p->momentum;
    default: return p->sum ? p->sum : p->grad;
    }
}

static rm_status transfer_param(const rm_params *p, rm_arena arena, int32_t i, double *host, bool to_device)
{
    const rm_param *q = &p->graph->param[i];
    rm_tdesc desc = { q->shape, RM_F32, p->slice[i].layout };
    return transfer(p, (rm_ref){ arena_of(p, arena), p->slice[i].offset }, desc, q->count, host, to_device);
}

rm_status rm_params_get(const rm_params *p, rm_arena arena, int32_t i, double *out) { return transfer_param(p, arena, i, out, false); }
rm_status rm_params_set(rm_params *p, rm_arena arena, int32_t i, const double *in) { return transfer_param(p, arena, i, (double *)(uintptr_t)in, true); }

static rm_status transfer_stats(const rm_params *p, int32_t layer, double *mean, double *var, bool to_device)
{
    uint64_t c = (uint64_t)p->graph->layer[layer].out.c;
    rm_tdesc desc = plain((rm_shape){ 1, (int32_t)c, 1, 1 });
    RM_TRY(transfer(p, (rm_ref){ p->stats, p->mean[layer].offset }, desc, c, mean, to_device));
    return transfer(p, (rm_ref){ p->stats, p->var[layer].offset }, desc, c, var, to_device);
}

rm_status rm_params_get_stats(const rm_params *p, int32_t layer, double *mean, double *var) { return transfer_stats(p, layer, mean, var, false); }
rm_status rm_params_set_stats(rm_params *p, int32_t layer, const double *mean, const double *var)
{
    return transfer_stats(p, layer, (double *)(uintptr_t)mean, (double *)(uintptr_t)var, true);
}

/* ---- initial values */
static double truncated_normal(rm_rng *r)
{
    double v;
    do v = rm_rng_normal(r); while (fabs(v) > 2.0);
    return v;
}

static void draw(const rm_graph *g, const rm_param *q, const char *init, bool zero_last, uint64_t seed, uint64_t index, double *v)
{
    rm_rng rng = rm_rng_for(seed, 0x77656967u /* "weig": apart from the streams of the input */, index);
    const rm_layer *l = &g->layer[q->layer];
    double fan_in = (double)q->shape.c * q->shape.h * q->shape.w, fan_out = (double)q->shape.n * q->shape.h * q->shape.w;
    bool trunc = !strcmp(init, "trunc-normal");
    double std = trunc ? sqrt(1.0 / fan_in) / 0.87962566103423978 : sqrt(2.0 / (!strcmp(init, "he-fan-out") ? fan_out : fan_in));
    double bound = 1.0 / sqrt((double)rm_layer_in(g, q->layer).c);
    for (uint64_t i = 0; i < q->count; i++)
        switch (q->role) {
        case RM_ROLE_GAMMA: v[i] = zero_last && l->last_bn ? 0.0 : 1.0; break;
        case RM_ROLE_BETA: v[i] = 0.0; break;
        case RM_ROLE_BIAS: v[i] = trunc ? 0.0 : bound * (2 * rm_rng_unit(&rng) - 1); break;
        default:
            if (l->kind == RM_K_FC && !trunc) v[i] = bound * (2 * rm_rng_unit(&rng) - 1);
            else v[i] = std * (trunc ? truncated_normal(&rng) : rm_rng_normal(&rng));
        }
}

rm_status rm_params_init(rm_params *p, const char *init, bool zero_last, uint64_t seed)
{
    const rm_graph *g = p->graph;
    uint64_t most = rm_graph_largest_param(g);
    double *v = calloc(most, sizeof *v), *one = calloc(most, sizeof *one);
    rm_status st = v && one ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory initialising parameters");
    for (int32_t i = 0; st == RM_OK && i < g->n_param; i++) {
        draw(g, &g->param[i], init, zero_last, seed, (uint64_t)i, v);
        st = rm_params_set(p, RM_ARENA_WEIGHT, i, v);
    }
    for (uint64_t i = 0; v && one && i < most; i++) { v[i] = 0.0; one[i] = 1.0; }
    for (int32_t l = 0; st == RM_OK && l < g->n_layer; l++)
        if (g->layer[l].kind == RM_K_BN) st = rm_params_set_stats(p, l, v, one);
    free(v);
    free(one);
    return st;
}
