/* Checkpoints of an engine: torchvision's names and layouts in the model file, momentum and position in the state file. */
#include "model/checkpoint.h"
#include "model/engine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* torchvision's dims: (O, I, KH, KW) for convolutions, (O, I) for fc, (C) for vectors. */
int32_t rm_param_dims(const rm_graph *g, int32_t i, int64_t dim[4])
{
    const rm_param *q = &g->param[i];
    if (q->role != RM_ROLE_WEIGHT) {
        dim[0] = q->shape.c;
        return 1;
    }
    dim[0] = q->shape.n; dim[1] = q->shape.c; dim[2] = q->shape.h; dim[3] = q->shape.w;
    return g->layer[q->layer].kind == RM_K_FC ? 2 : 4;
}

/* torchvision's name of a weight; of its momentum with the prefix "optim." */
static int32_t name_and_dims(const rm_graph *g, int32_t i, const char *prefix, char name[RM_ST_NAME_MAX], int64_t dim[4])
{
    snprintf(name, RM_ST_NAME_MAX, "%s%s%s", prefix, g->param[i].name, prefix[0] ? ".momentum" : "");
    return rm_param_dims(g, i, dim);
}

static rm_status pack_params(const rm_engine *e, rm_arena arena, const char *prefix, double *v, rm_st_pack *p)
{
    const rm_graph *g = &e->graph;
    for (int32_t i = 0; i < g->n_param; i++) {
        char name[RM_ST_NAME_MAX];
        int64_t dim[4];
        const int32_t n_dim = name_and_dims(g, i, prefix, name, dim);
        RM_TRY(rm_params_get(&e->params, arena, i, v));
        RM_TRY(rm_st_pack_real(p, name, false, n_dim, dim, v, 1));
    }
    return RM_OK;
}

static rm_status pack_stats(const rm_engine *e, uint64_t step, rm_st_pack *p)
{
    const rm_graph *g = &e->graph;
    for (int32_t l = 0; l < g->n_layer; l++) {
        if (g->layer[l].kind != RM_K_BN) continue;
        double mean[2048], var[2048];
        int64_t c = g->layer[l].out.c;
        char name[RM_ST_NAME_MAX];
        RM_ASSERT(c <= 2048);
        RM_TRY(rm_params_get_stats(&e->params, l, mean, var));
        snprintf(name, sizeof name, "%s.running_mean", g->layer[l].name);
        RM_TRY(rm_st_pack_real(p, name, false, 1, &c, mean, 1));
        snprintf(name, sizeof name, "%s.running_var", g->layer[l].name);
        RM_TRY(rm_st_pack_real(p, name, false, 1, &c, var, 1));
        snprintf(name, sizeof name, "%s.num_batches_tracked", g->layer[l].name);
        RM_TRY(rm_st_pack_i64(p, name, (int64_t)step));
    }
    return RM_OK;
}

rm_status rm_engine_save(rm_engine *e, const char *base, const rm_train_state *s)
{
    const rm_graph *g = &e->graph;
    rm_st_pack model = { 0 }, state = { 0 };
    rm_status st = RM_OK;
    double *v = malloc(rm_graph_largest_param(g) * sizeof *v);
    if (!v) return rm_fail(RM_E_NOMEM, "out of memory writing a checkpoint");
    char text[5][64];
    snprintf(text[0], sizeof text[0], "%llu", (unsigned long long)s->step);
    snprintf(text[1], sizeof text[1], "%llu", (unsigned long long)s->seed);
    snprintf(text[2], sizeof text[2], "%llu", (unsigned long long)s->global_batch);
    snprintf(text[3], sizeof text[3], "%.17g", s->best_top1);
    snprintf(text[4], sizeof text[4], "%.17g", s->trained_s);
    char depth[16], loss_scale[32];
    snprintf(depth, sizeof depth, "%d", g->depth);
    snprintf(loss_scale, sizeof loss_scale, "%.17g", e->cfg.recipe->loss_scale);
    const rm_st_meta meta[] = {
        { "format", "pt" }, { "recipe", s->recipe }, { "step", text[0] }, { "seed", text[1] }, { "global_batch", text[2] },
        { "best_top1", text[3] }, { "trained_s", text[4] }, { "depth", depth }, { "variant", g->v15 ? "v1.5" : "v1" }, { "loss_scale", loss_scale },
    };
    RM_TRY_GOTO(st, rm_st_pack_new((uint32_t)(g->n_param + 3 * g->n_layer), &model), out);
    RM_TRY_GOTO(st, rm_st_pack_new((uint32_t)g->n_param, &state), out);
    RM_TRY_GOTO(st, pack_params(e, RM_ARENA_WEIGHT, "", v, &model), out);
    RM_TRY_GOTO(st, pack_stats(e, s->step, &model), out);
    RM_TRY_GOTO(st, pack_params(e, RM_ARENA_MOMENTUM, "optim.", v, &state), out);
    st = rm_ckpt_write(base, model.t, model.n, state.t, state.n, meta, RM_COUNT(meta));
out:
    rm_st_pack_free(&model);
    rm_st_pack_free(&state);
    free(v);
    return st;
}

static rm_status read_tensor(const rm_st_file *f, const char *name, int32_t n_dim, const int64_t *dim, double *v)
{
    const rm_st_tensor *t;
    RM_TRY(rm_st_need(f, name, NULL, n_dim, dim, &t));
    uint64_t count = 1;
    for (int32_t i = 0; i < n_dim; i++) count *= (uint64_t)dim[i];
    bool f64 = !strcmp(t->dtype, "F64");
    if (!f64 && strcmp(t->dtype, "F32")) return rm_fail(RM_E_FORMAT, "%s: %s is of type %s, expected F32", rm_st_path(f), name, t->dtype);
    for (uint64_t i = 0; i < count; i++) {
        double d;
        float s;
        if (f64) memcpy(&d, (const char *)t->data + 8 * i, 8);
        else { memcpy(&s, (const char *)t->data + 4 * i, 4); d = (double)s; }
        v[i] = d;
    }
    return RM_OK;
}

static rm_status load_params(rm_engine *e, const rm_st_file *f, rm_arena arena, const char *prefix, double *v)
{
    const rm_graph *g = &e->graph;
    for (int32_t i = 0; i < g->n_param; i++) {
        char name[RM_ST_NAME_MAX];
        int64_t dim[4];
        const int32_t n_dim = name_and_dims(g, i, prefix, name, dim);
        RM_TRY(read_tensor(f, name, n_dim, dim, v));
        RM_TRY(rm_params_set(&e->params, arena, i, v));
    }
    return RM_OK;
}

static rm_status load_stats(rm_engine *e, const rm_st_file *f)
{
    const rm_graph *g = &e->graph;
    for (int32_t l = 0; l < g->n_layer; l++) {
        if (g->layer[l].kind != RM_K_BN) continue;
        double mean[2048], var[2048];
        char name[RM_ST_NAME_MAX];
        int64_t c = g->layer[l].out.c;
        snprintf(name, sizeof name, "%s.running_mean", g->layer[l].name);
        RM_TRY(read_tensor(f, name, 1, &c, mean));
        snprintf(name, sizeof name, "%s.running_var", g->layer[l].name);
        RM_TRY(read_tensor(f, name, 1, &c, var));
        RM_TRY(rm_params_set_stats(&e->params, l, mean, var));
    }
    return RM_OK;
}

static const char *meta_of(const rm_st_file *f, const char *key)
{
    const char *v = rm_st_metadata(f, key);
    return v ? v : "";
}

rm_status rm_engine_load(rm_engine *e, const char *base, bool with_state, rm_train_state *out)
{
    rm_st_file *model = NULL, *state = NULL;
    rm_status st = RM_OK;
    double *v = malloc(rm_graph_largest_param(&e->graph) * sizeof *v);
    if (!v) return rm_fail(RM_E_NOMEM, "out of memory reading a checkpoint");
    RM_TRY_GOTO(st, rm_ckpt_open(base, &model, with_state ? &state : NULL), out);
    RM_TRY_GOTO(st, load_params(e, model, RM_ARENA_WEIGHT, "", v), out);
    RM_TRY_GOTO(st, load_stats(e, model), out);
    if (!with_state) goto out;
    RM_TRY_GOTO(st, load_params(e, state, RM_ARENA_MOMENTUM, "optim.", v), out);
    rm_train_state s = { .step = strtoull(meta_of(state, "step"), NULL, 10), .seed = strtoull(meta_of(state, "seed"), NULL, 10),
                         .global_batch = strtoull(meta_of(state, "global_batch"), NULL, 10),
                         .best_top1 = strtod(meta_of(state, "best_top1"), NULL), .trained_s = strtod(meta_of(state, "trained_s"), NULL) };
    snprintf(s.recipe, sizeof s.recipe, "%s", meta_of(state, "recipe"));
    *out = s;
out:
    rm_st_close(model);
    rm_st_close(state);
    free(v);
    return st;
}

/* Blocks of stage 3 tell the depth: 6, 23 or 36. */
rm_status rm_ckpt_probe(const char *path, int32_t *depth, int32_t *classes)
{
    static const struct { int32_t blocks, depth; } table[] = { { 36, 152 }, { 23, 101 }, { 6, 50 } };
    rm_st_file *f;
    RM_TRY(rm_ckpt_open(path, &f, NULL));
    const rm_st_tensor *fc = rm_st_find(f, "fc.weight");
    int32_t found = 0;
    for (size_t i = 0; i < RM_COUNT(table) && !found; i++) {
        char name[64];
        snprintf(name, sizeof name, "layer3.%d.conv1.weight", table[i].blocks - 1);
        if (rm_st_find(f, name)) found = table[i].depth;
    }
    rm_status st = RM_OK;
    if (!fc || fc->n_dim != 2 || fc->dim[0] < 1 || fc->dim[0] > 1000000 || !found)
        st = rm_fail(RM_E_FORMAT, "%s: not a ResNet-50, -101 or -152 (fc.weight or layer3.*.conv1.weight is missing)", path);
    else {
        *depth = found;
        *classes = (int32_t)fc->dim[0];
    }
    rm_st_close(f);
    return st;
}
