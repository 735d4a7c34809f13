/* bench step: one training step from tensors to tensors, for parity with other frameworks. */
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/commands.h"
#include "bench/session.h"
#include "bench/throttled_row.h"
#include "model/checkpoint.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float   *image;  /* (n, 3, h, w), normalised */
    int32_t *label;
    int32_t  n, h, w;
} step_batch;

static void free_batch(step_batch *b)
{
    free(b->image);
    free(b->label);
}

static rm_status read_labels(const rm_st_file *f, int32_t n, int32_t classes, int32_t *out)
{
    const rm_st_tensor *t;
    int64_t dim = n;
    RM_TRY(rm_st_need(f, "labels", "I64", 1, &dim, &t));
    for (int32_t i = 0; i < n; i++) {
        int64_t v;
        memcpy(&v, (const char *)t->data + 8 * (size_t)i, 8);
        if (v < 0 || v >= classes) return rm_fail(RM_E_FORMAT, "%s: label %lld of image %d is not in 0..%d", rm_st_path(f), (long long)v, i, classes - 1);
        out[i] = (int32_t)v;
    }
    return RM_OK;
}

static rm_status read_batch(const char *path, int32_t classes, step_batch *out)
{
    rm_st_file *f;
    step_batch b = { 0 };
    RM_TRY(rm_st_open(path, &f));
    rm_status st = RM_OK;
    const rm_st_tensor *t = rm_st_find(f, "images");
    if (!t || strcmp(t->dtype, "F32") || t->n_dim != 4 || t->dim[1] != 3 || t->dim[0] < 1 || t->dim[0] > 65536 || t->dim[2] < 1 || t->dim[3] < 1 ||
        t->dim[2] > 65536 || t->dim[3] > 65536) {
        st = rm_fail(RM_E_FORMAT, "%s: needs a tensor images (N, 3, H, W) of F32", path);
        goto out;
    }
    b.n = (int32_t)t->dim[0]; b.h = (int32_t)t->dim[2]; b.w = (int32_t)t->dim[3];
    b.image = malloc(t->bytes);
    b.label = malloc((size_t)b.n * sizeof *b.label);
    if (!b.image || !b.label) {
        st = rm_fail(RM_E_NOMEM, "out of memory reading %s", path);
        goto out;
    }
    memcpy(b.image, t->data, t->bytes);
    st = read_labels(f, b.n, classes, b.label);
out:
    rm_st_close(f);
    if (st != RM_OK) free_batch(&b);
    else *out = b;
    return st;
}

static rm_status random_batch(const bench_options *o, int32_t classes, step_batch *out)
{
    step_batch b = { .n = o->batch ? o->batch : 4, .h = o->px ? o->px : 64, .w = o->px ? o->px : 64 };
    size_t count = (size_t)b.n * 3 * (size_t)b.h * (size_t)b.w;
    b.image = malloc(count * sizeof *b.image);
    b.label = malloc((size_t)b.n * sizeof *b.label);
    if (!b.image || !b.label) {
        free_batch(&b);
        return rm_fail(RM_E_NOMEM, "out of memory for %d images of %d x %d", b.n, b.h, b.w);
    }
    rm_rng r = rm_rng_for((uint64_t)o->seed, 0x73746570u, 0);
    for (size_t i = 0; i < count; i++) b.image[i] = (float)rm_rng_normal(&r);
    for (int32_t i = 0; i < b.n; i++) b.label[i] = (int32_t)rm_rng_below(&r, (uint32_t)classes);
    *out = b;
    return RM_OK;
}

static void recipe_of(const bench_options *o, rm_recipe *r)
{
    rm_recipe_defaults(r);
    r->depth = o->depth;
    snprintf(r->variant, sizeof r->variant, "%s", o->variant);
    snprintf(r->name, sizeof r->name, "step");
    snprintf(r->optimizer, sizeof r->optimizer, "sgd");
    r->nesterov = o->nesterov;
    r->momentum = o->momentum;
    r->weight_decay = o->weight_decay;
    r->decay_bn = o->decay_bn;
    r->decay_bias = true;
    r->label_smoothing = o->label_smoothing;
    r->loss_scale = o->loss_scale;
    r->accumulate = o->accumulate;
    r->bn_eps = o->bn_eps;
    r->bn_momentum = o->bn_momentum;
    r->bn_biased = o->bn_biased;
    r->bn_frozen = o->bn_frozen;
    r->zero_init_last_gamma = o->zero_init_last_gamma;
}

/* ---- dump */
typedef struct { rm_st_pack p; bool f64; } dump;

static rm_status dump_params(dump *d, rm_engine *e, double grad_scale, double *v)
{
    static const struct { rm_arena arena; const char *prefix; } kinds[] = { { RM_ARENA_GRAD, "grad." }, { RM_ARENA_WEIGHT, "param." } };
    for (size_t k = 0; k < RM_COUNT(kinds); k++)
        for (int32_t i = 0; i < e->graph.n_param; i++) {
            char name[RM_ST_NAME_MAX];
            int64_t dim[4];
            int32_t n_dim = rm_param_dims(&e->graph, i, dim);
            snprintf(name, sizeof name, "%s%s", kinds[k].prefix, e->graph.param[i].name);
            RM_TRY(rm_params_get(&e->params, kinds[k].arena, i, v));
            RM_TRY(rm_st_pack_real(&d->p, name, d->f64, n_dim, dim, v, k == 0 ? grad_scale : 1));
        }
    return RM_OK;
}

static rm_status dump_stats(dump *d, rm_engine *e)
{
    for (int32_t l = 0; l < e->graph.n_layer; l++) {
        if (e->graph.layer[l].kind != RM_K_BN) continue;
        double mean[2048], var[2048];
        char name[RM_ST_NAME_MAX];
        int64_t c = e->graph.layer[l].out.c;
        RM_TRY(rm_params_get_stats(&e->params, l, mean, var));
        snprintf(name, sizeof name, "%s.running_mean", e->graph.layer[l].name);
        RM_TRY(rm_st_pack_real(&d->p, name, d->f64, 1, &c, mean, 1));
        snprintf(name, sizeof name, "%s.running_var", e->graph.layer[l].name);
        RM_TRY(rm_st_pack_real(&d->p, name, d->f64, 1, &c, var, 1));
    }
    return RM_OK;
}

static rm_status write_dump(const bench_options *o, const bench_session *s, rm_engine *e, double loss, const double *logits)
{
    uint64_t most = rm_graph_largest_param(&e->graph);
    uint32_t cap = (uint32_t)(2 * e->graph.n_param + 2 * e->graph.n_layer + 2);
    dump d = { .f64 = !strcmp(s->info.device, "ref") && o->dtype && !strcmp(o->dtype, "fp64") };
    double *v = malloc(most * sizeof *v);
    rm_status st = v ? rm_st_pack_new(cap, &d.p) : rm_fail(RM_E_NOMEM, "out of memory for the dump");
    int64_t dim[2] = { e->graph.image.n, e->graph.classes };
    double scale = 1.0 / (o->loss_scale * o->accumulate);
    if (st == RM_OK) st = rm_st_pack_real(&d.p, "loss", d.f64, 0, NULL, &loss, 1);
    if (st == RM_OK) st = rm_st_pack_real(&d.p, "logits", d.f64, 2, dim, logits, 1);
    if (st == RM_OK) st = dump_params(&d, e, scale, v);
    if (st == RM_OK) st = dump_stats(&d, e);
    if (st == RM_OK) st = rm_st_write(o->dump, d.p.t, d.p.n, NULL, 0);
    rm_st_pack_free(&d.p);
    free(v);
    return st;
}

/* ---- running */
static rm_status run_step(const bench_options *o, rm_engine *e, const step_batch *b, double *loss, double *logits, uint64_t *ns)
{
    rm_net *net = e->net;
    uint64_t start = rm_now_ns();
    RM_TRY(rm_net_set_images_f32(net, b->image));
    RM_TRY(rm_net_set_labels(net, b->label, b->n));
    RM_TRY(rm_net_set_hyper(net, o->lr, o->momentum, o->weight_decay, 1.0 / (o->loss_scale * o->accumulate), 0));
    RM_TRY(rm_net_prologue(net));
    for (int32_t i = 0; i < o->accumulate; i++) { /* the same batch again: the mean gradient stays what it is */
        RM_TRY(rm_net_forward(net));
        RM_TRY(rm_net_backward(net, i == 0, NULL, NULL));
    }
    RM_TRY(rm_net_update(net));
    RM_TRY(rm_net_finish(net));
    *ns = rm_now_ns() - start;
    *loss = rm_net_loss(net);
    return rm_net_logits(net, logits);
}

static rm_status report(const bench_options *o, const bench_session *s, const step_batch *b, double loss, uint64_t ns, const rm_gpu_reading *gpu, uint64_t bad, const char *layer)
{
    json_t *row = json_pack("{s:s, s:s, s:i, s:i, s:i, s:o, s:f, s:I, s:s, s:s}", "device", s->info.device, "dtype", rm_dtype_name(s->dtype), "batch", b->n, "px", b->h,
                            "classes", s->classes, "loss", bench_number(loss), "step_s", rm_s(ns), "nonfinite_gradients", (json_int_t)bad, "origin", "measured",
                            "dump", o->dump ? o->dump : "");
    json_t *samples = json_object();
    if (s->watch) bench_set_throttled_own(row, samples, gpu, 1, rm_gpu_watch_why(s->watch));
    json_decref(samples);
    if (bench_table_wanted(o))
        printf("loss %.9g  step %.6f s  (%s %s, batch %d, %d x %d px, first step: includes cold caches)\n", loss, rm_s(ns), s->info.device,
               rm_dtype_name(s->dtype), b->n, b->w, b->h);
    if (bench_table_wanted(o)) bench_print_throttled(row, "THROTTLED ", 1);
    if (bad) rm_warn("%llu gradient elements are not finite, first in %s", (unsigned long long)bad, layer);
    return bench_emit_json(&bench_cmd_step, o, NULL, json_pack("[o]", row));
}

static rm_status step(const bench_options *o)
{
    bench_session s = { 0 };
    rm_engine e = { 0 };
    step_batch b = { 0 };
    double loss = 0, *logits = NULL;
    uint64_t ns = 0, bad;
    rm_gpu_reading before, after;
    const char *layer;
    rm_status st = RM_OK;
    int32_t depth = o->depth, classes = o->classes ? o->classes : 1000;
    bench_options opt = *o;
    if (o->init && o->init[0]) {
        RM_TRY(rm_ckpt_probe(o->init, &depth, &classes));
        if (o->classes && o->classes != classes) return rm_fail(RM_E_ARG, "--classes %d disagrees with %s, which has %d", o->classes, o->init, classes);
        opt.depth = depth;
    }
    recipe_of(&opt, &s.recipe);
    s.classes = classes;
    RM_TRY_GOTO(st, o->batch_file && o->batch_file[0] ? read_batch(o->batch_file, classes, &b) : random_batch(o, classes, &b), out);
    if (b.h != b.w) RM_TRY_GOTO(st, rm_fail(RM_E_FORMAT, "%s: images of %d x %d: only square ones are supported", o->batch_file, b.w, b.h), out);
    RM_TRY_GOTO(st, bench_session_device(&opt, &s), out);
    rm_engine_config ec = { .recipe = &s.recipe, .dtype = s.dtype, .px = b.h, .batch = b.n, .classes = classes, .no_fuse = o->no_fuse,
                            .input_f32 = true, .seed = (uint64_t)o->seed };
    RM_TRY_GOTO(st, rm_engine_new(s.device, s.comm, &ec, &e), out);
    if (o->init && o->init[0]) RM_TRY_GOTO(st, rm_engine_load(&e, o->init, false, NULL), out);
    logits = malloc((size_t)b.n * (size_t)classes * sizeof *logits);
    if (!logits) RM_TRY_GOTO(st, rm_fail(RM_E_NOMEM, "out of memory for the logits"), out);
    rm_gpu_watch_read(s.watch, &before);
    RM_TRY_GOTO(st, run_step(&opt, &e, &b, &loss, logits, &ns), out);
    rm_gpu_watch_read(s.watch, &after);
    before = rm_gpu_between(&before, &after);
    bad = rm_net_nonfinite(e.net, &layer);
    if (o->dump && o->dump[0]) RM_TRY_GOTO(st, write_dump(&opt, &s, &e, loss, logits), out);
    st = report(&opt, &s, &b, loss, ns, &before, bad, layer);
out:
    free(logits);
    free_batch(&b);
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}

static const char *const examples[] = {
    "bench step --init W.safetensors --batch-file B.safetensors --dump O.safetensors",
    "bench step --device ref --dtype fp64 --px 32 --batch 2 --dump O.safetensors",
    "bench step --dtype bf16 --lr 0.1 --weight-decay 1e-4 --label-smoothing 0.1",
    NULL,
};
const bench_command bench_cmd_step = {
    .name = "step", .summary = "one training step from tensors to tensors (parity with other frameworks)",
    .usage = "bench step [--init W.safetensors] [--batch-file B.safetensors] [--dump O.safetensors] [options]",
    .examples = examples, .run = step,
};
