#include "model/engine.h"
#include "model/engine_trace.h"
#include "model/net_feed.h"
#include "base/clock.h"
#include "base/rng.h"
#include "kernels/plans.h"
#include "model/parallel/split.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static rm_net_config net_config(const rm_engine *e, bool training)
{
    const rm_recipe *r = e->cfg.recipe;
    rm_net_config c = {
        .dtype = e->cfg.dtype, .training = training, .input_f32 = e->cfg.input_f32, .bn_eps = r->bn_eps, .bn_momentum = r->bn_momentum,
        .bn_biased = r->bn_biased, .bn_frozen = r->bn_frozen, .label_smoothing = r->label_smoothing, .loss_scale = r->loss_scale,
        .optimizer = !strcmp(r->optimizer, "lars") ? RM_LARS : RM_SGD, .nesterov = r->nesterov, .accumulate = r->accumulate > 1,
    };
    for (int i = 0; i < 3; i++) {
        c.mean[i] = r->mean[i];
        c.std[i] = r->std[i];
    }
    return c;
}

static rm_status make_graph(const rm_engine *e, int32_t batch, int32_t px, rm_graph *out)
{
    RM_TRY(rm_graph_resnet(e->cfg.recipe->depth, e->cfg.recipe->variant, (rm_shape){ batch, 3, px, px }, e->cfg.classes, out));
    if (!e->cfg.no_fuse) rm_graph_fuse(out);
    return RM_OK;
}

/* Buckets: spans of the gradient arena between the ends of the split. */
static rm_status make_buckets(const rm_engine *e, const char *spec, rm_split_order order, rm_buckets *out)
{
    const rm_graph *g = &e->graph;
    const size_t n = (size_t)g->n_param;
    uint64_t *plain = calloc(n, sizeof *plain);
    size_t *offset = calloc(n, sizeof *offset), *bytes = calloc(n, sizeof *bytes);
    rm_status st = plain && offset && bytes ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the gradient buckets");
    for (size_t r = 0; st == RM_OK && r < n; r++) {
        const rm_slice *s = &e->params.slice[g->by_ready[r]];
        plain[r] = g->param[g->by_ready[r]].count * 4;
        offset[r] = s->offset;
        bytes[r] = s->bytes;
    }
    const rm_gradients all = { rm_net_grad_buf(e->net), offset, bytes, (uint32_t)n, e->params.elem == 8 ? RM_F64 : RM_F32 };
    if (st == RM_OK) st = rm_buckets_new(e->comm, e->device, &all, plain, spec, order, out);
    free(plain);
    free(offset);
    free(bytes);
    return st;
}

static rm_status cut_update(rm_engine *e)
{
    const rm_buckets *b = &e->buckets;
    if (!e->cfg.update_on_arrival) return RM_OK;
    uint32_t *last = malloc(b->n * sizeof *last);
    if (!last) return rm_fail(RM_E_NOMEM, "out of memory for the update in parts");
    for (uint32_t i = 0; i < b->n; i++) last[i] = b->at[i].last;
    const rm_status st = rm_net_cut_update(e->net, last, b->n);
    free(last);
    return st;
}

rm_status rm_engine_set_split(rm_engine *e, const char *spec, rm_split_order order)
{
    rm_buckets fresh;
    if (!spec) spec = "";
    if (e->split && e->split_order == order && !strcmp(e->split, spec)) return RM_OK;
    char *own = strdup(spec);
    const rm_status st = own ? make_buckets(e, spec, order, &fresh) : rm_fail(RM_E_NOMEM, "out of memory for the split");
    if (st != RM_OK) {
        free(own);
        return st;
    }
    rm_engine_forget_recordings(e);
    rm_buckets_free(&e->buckets);
    free(e->split);
    e->split = own;
    e->split_order = order;
    e->buckets = fresh;
    return cut_update(e);
}

/* To try all candidates of all convolutions takes a GPU minutes the first time. */
static rm_status meet(const rm_engine *e)
{
    rm_device_info info;
    rm_device_get_info(e->device, &info);
    return info.bus[0] ? rm_comm_barrier_within(e->comm, RM_COMM_SETUP_S) : rm_comm_barrier(e->comm);
}

/* A net planned with the choices kept from earlier runs. Rank 0 plans first and keeps what it chose; the others follow it, so
 * that all ranks run the same code. */
static rm_status plan_net(rm_engine *e, const rm_graph *g, bool training, const rm_params_config *pc, rm_net **out)
{
    char path[1024];
    rm_net_config nc = net_config(e, training);
    bool follow = rm_comm_rank(e->comm) != 0, several = rm_comm_size(e->comm) > 1;
    rm_plans_path(e->device, path, sizeof path);
    if (follow) RM_TRY(meet(e));
    rm_plans_load(e->device, path);
    rm_status st = rm_net_new(e->device, g, &nc, &e->params, pc, out);
    if (st == RM_OK && !follow) rm_plans_save(e->device, path);
    if (st == RM_OK && !follow && several) st = meet(e);
    return st;
}

/* Batches travel ahead where the device works while the host goes on. Accumulated micro-batches do not: their losses are read between. */
static rm_status make_feed(rm_engine *e)
{
    rm_device_info info;
    rm_device_get_info(e->device, &info);
    e->feed_source = NULL;
    return info.async && e->cfg.recipe->accumulate <= 1 && !e->cfg.input_f32 ? rm_feed_new(e->net, &e->feed) : RM_OK;
}

/* What every engine has. */
static rm_status begin(rm_engine *e, rm_device *d, rm_comm *comm, const rm_engine_config *cfg)
{
    *e = (rm_engine) { .device = d, .comm = comm, .cfg = *cfg };
    return make_graph(e, cfg->batch, cfg->px, &e->graph);
}

rm_status rm_engine_new(rm_device *d, rm_comm *comm, const rm_engine_config *cfg, rm_engine *out)
{
    rm_engine *e = out;
    const rm_recipe *r = cfg->recipe;
    rm_params_config pc = { .decay_bn = r->decay_bn, .decay_bias = r->decay_bias };
    rm_status st = RM_OK;
    RM_TRY_GOTO(st, begin(e, d, comm, cfg), fail);
    RM_TRY_GOTO(st, plan_net(e, &e->graph, true, &pc, &e->net), fail);
    RM_TRY_GOTO(st, make_feed(e), fail);
    if (cfg->timers) RM_TRY_GOTO(st, rm_net_timers(e->net, true), fail);
    RM_TRY_GOTO(st, rm_engine_set_split(e, cfg->split, cfg->split_order), fail);
    RM_TRY_GOTO(st, rm_params_init(&e->params, r->init, r->zero_init_last_gamma, cfg->seed), fail);
    return RM_OK;
fail:
    rm_engine_free(e);
    return st;
}

rm_status rm_engine_new_eval(rm_device *d, rm_comm *comm, const rm_engine_config *cfg, rm_engine *out)
{
    rm_engine *e = out;
    rm_params_config pc = { 0 };
    rm_status st = RM_OK;
    RM_TRY_GOTO(st, begin(e, d, comm, cfg), fail);
    RM_TRY_GOTO(st, make_graph(e, cfg->batch, cfg->px, &e->eval_graph), fail);
    RM_TRY_GOTO(st, plan_net(e, &e->graph, false, &pc, &e->eval), fail);
    return RM_OK;
fail:
    rm_engine_free(e);
    return st;
}

void rm_engine_free(rm_engine *e)
{
    if (e->device) rm_engine_forget_recordings(e);
    rm_feed_free(e->feed);
    rm_buckets_free(&e->buckets);
    free(e->split);
    rm_classes_free(&e->classes);
    (void)!rm_engine_set_trace(e, NULL);
    rm_net_free(e->eval);
    rm_net_free(e->net);
    if (e->params.device) rm_params_free(&e->params);
    rm_graph_free(&e->graph);
    rm_graph_free(&e->eval_graph);
    memset(e, 0, sizeof *e);
}

rm_status rm_engine_set_timers(rm_engine *e, bool on)
{
    if (on == (rm_net_copy(e->net)->begin != NULL)) return RM_OK;
    rm_engine_forget_recordings(e); /* their marks go */
    return rm_net_timers(e->net, on);
}

rm_status rm_engine_resize(rm_engine *e, int32_t px)
{
    if (e->cfg.px == px) return RM_OK;
    rm_graph g;
    rm_net *net = NULL;
    rm_engine_forget_recordings(e);
    rm_feed_free(e->feed);
    e->feed = NULL;
    rm_net_free(e->net);
    e->net = NULL;
    RM_TRY(make_graph(e, e->cfg.batch, px, &g));
    /* Same layers and parameters, other shapes: the parameters' graph keeps its address. */
    rm_graph_free(&e->graph);
    e->graph = g;
    RM_TRY(plan_net(e, &e->graph, true, NULL, &net));
    e->net = net;
    e->cfg.px = px;
    RM_TRY(make_feed(e));
    if (e->cfg.timers) RM_TRY(rm_net_timers(net, true));
    return cut_update(e);
}

/* ---- sources */
static rm_status loader_next(void *ctx, rm_batch **out, uint64_t *wait_ns) { return rm_loader_next(ctx, out, wait_ns); }
static void loader_release(void *ctx, rm_batch *b) { rm_loader_release(ctx, b); }
static int32_t loader_ready(void *ctx) { return rm_loader_ready(ctx); }
rm_source rm_source_loader(rm_loader *l) { return (rm_source){ loader_next, loader_release, l, loader_ready }; }

rm_status rm_synthetic_new(int32_t n, int32_t px, int32_t classes, uint64_t seed, rm_synthetic *out)
{
    size_t bytes = (size_t)n * (size_t)px * (size_t)px * 3;
    rm_batch b = { .n = n };
    b.image = malloc(bytes);
    b.flip = calloc((size_t)n, 1);
    b.label = calloc((size_t)n, sizeof *b.label);
    b.index = calloc((size_t)n, sizeof *b.index);
    out->batch = b;
    if (!b.image || !b.flip || !b.label || !b.index) {
        rm_synthetic_free(out);
        return rm_fail(RM_E_NOMEM, "out of memory for a synthetic batch of %d images of %d x %d", n, px, px);
    }
    rm_rng r = rm_rng_for(seed, 0x73796e74u, 0);
    for (size_t i = 0; i < bytes; i++) b.image[i] = (uint8_t)rm_rng_u32(&r);
    for (int32_t i = 0; i < n; i++) {
        b.label[i] = (int32_t)rm_rng_below(&r, (uint32_t)classes);
        b.flip[i] = (uint8_t)(rm_rng_u32(&r) & 1);
    }
    return RM_OK;
}

void rm_synthetic_free(rm_synthetic *s)
{
    free(s->batch.image);
    free(s->batch.flip);
    free(s->batch.label);
    free(s->batch.index);
    memset(s, 0, sizeof *s);
}

static rm_status synthetic_next(void *ctx, rm_batch **out, uint64_t *wait_ns)
{
    *out = &((rm_synthetic *)ctx)->batch;
    *wait_ns = 0;
    return RM_OK;
}
static void synthetic_release(void *ctx, rm_batch *b) { (void)ctx; (void)b; }
rm_source rm_source_synthetic(rm_synthetic *s) { return (rm_source){ synthetic_next, synthetic_release, s, NULL }; }

/* ---- evaluation */
static uint32_t rank_of(const double *logit, int32_t classes, int32_t label)
{
    uint32_t better = 0; /* ties go to the lower class, as an argmax does; a NaN is never right */
    for (int32_t c = 0; c < classes; c++)
        if (c != label) better += !(logit[c] < logit[label] || (logit[c] == logit[label] && c > label));
    return better;
}

static double cross_entropy(const double *logit, int32_t classes, int32_t label)
{
    double top = logit[0], sum = 0;
    for (int32_t c = 1; c < classes; c++) top = logit[c] > top ? logit[c] : top;
    for (int32_t c = 0; c < classes; c++) sum += exp(logit[c] - top);
    return log(sum) + top - logit[label];
}

static rm_status eval_batch(rm_engine *e, const rm_batch *b, double *logits, rm_eval_result *r)
{
    int32_t classes = e->cfg.classes;
    RM_TRY(rm_net_set_images_u8(e->eval, b->image, b->flip, b->n));
    RM_TRY(rm_net_forward(e->eval));
    RM_TRY(rm_net_logits(e->eval, logits));
    for (int32_t i = 0; i < b->n; i++) {
        const double *l = logits + (size_t)i * (size_t)classes;
        uint32_t better = rank_of(l, classes, b->label[i]);
        r->top1 += better < 1;
        r->top5 += better < 5;
        r->loss += cross_entropy(l, classes, b->label[i]);
        r->images++;
    }
    return RM_OK;
}

static rm_status eval_net(rm_engine *e, int32_t batch)
{
    if (e->eval && e->eval_graph.image.n == batch) return RM_OK;
    rm_net_free(e->eval);
    e->eval = NULL;
    rm_graph_free(&e->eval_graph);
    RM_TRY(make_graph(e, batch, e->cfg.recipe->eval_px, &e->eval_graph));
    return plan_net(e, &e->eval_graph, false, NULL, &e->eval);
}

/* Sums over ranks; every image must have been counted once. */
static rm_status eval_reduce(rm_engine *e, const rm_dataset *ds, rm_eval_result *r)
{
    double v[5] = { (double)r->images, (double)r->top1, (double)r->top5, r->loss, (double)r->skipped };
    if (rm_comm_size(e->comm) > 1) RM_TRY(rm_comm_host_reduce(e->comm, v, RM_COUNT(v), RM_F64, RM_SUM));
    uint64_t images = (uint64_t)v[0], skipped = (uint64_t)v[4];
    if (images + skipped != rm_dataset_count(ds, RM_VAL)) RM_BUG("evaluation did not see every image exactly once");
    if (!images) return rm_fail(RM_E_FORMAT, "%s/val: no image could be decoded", rm_dataset_dir(ds));
    if (!isfinite(v[3])) return rm_fail(RM_E_NUMERIC, "evaluation: the loss is %g: the weights are not finite or too large; lower the learning rate", v[3]);
    *r = (rm_eval_result){ .images = images, .top1 = (uint64_t)v[1], .top5 = (uint64_t)v[2], .loss = v[3] / v[0], .skipped = skipped, .seconds = r->seconds };
    return RM_OK;
}

rm_status rm_engine_eval(rm_engine *e, const rm_dataset *ds, int32_t batch, int32_t workers, rm_bad_policy bad, double max_bad, rm_eval_result *out)
{
    const rm_recipe *recipe = e->cfg.recipe;
    rm_loader_config lc = { .part = RM_VAL, .batch = batch, .px = recipe->eval_px, .resize = recipe->eval_resize, .workers = workers,
                            .rank = rm_comm_rank(e->comm), .ranks = rm_comm_size(e->comm), .max_batches = 0, .bad = bad,
                            .max_bad_share = max_bad, .crop = rm_crop_default };
    uint64_t start = rm_now_ns();
    rm_eval_result r = { 0 };
    rm_loader *loader = NULL;
    rm_status st = RM_OK;
    double *logits = malloc((size_t)batch * (size_t)e->cfg.classes * sizeof *logits);
    if (!logits) return rm_fail(RM_E_NOMEM, "out of memory for the evaluation");
    RM_TRY_GOTO(st, eval_net(e, batch), out);
    RM_TRY_GOTO(st, rm_engine_average_stats(e), out);
    RM_TRY_GOTO(st, rm_net_prologue(e->eval), out);
    RM_TRY_GOTO(st, rm_loader_open(ds, &lc, &loader), out);
    for (;;) {
        rm_batch *b;
        uint64_t wait;
        RM_TRY_GOTO(st, rm_loader_next(loader, &b, &wait), out);
        if (!b) break;
        st = eval_batch(e, b, logits, &r);
        rm_loader_release(loader, b);
        if (st != RM_OK) goto out;
    }
    rm_loader_stats ls;
    rm_loader_get_stats(loader, &ls);
    r.skipped = ls.bad;
    r.seconds = rm_s(rm_now_ns() - start);
    RM_TRY_GOTO(st, eval_reduce(e, ds, &r), out);
    *out = r;
out:
    rm_loader_close(loader);
    free(logits);
    return st;
}

rm_status rm_engine_average_stats(rm_engine *e)
{
    int size = rm_comm_size(e->comm);
    rm_params *p = &e->params;
    if (size == 1) return RM_OK;
    uint64_t n = p->stats_bytes / p->elem;
    void *raw = malloc(p->stats_bytes);
    if (!raw) return rm_fail(RM_E_NOMEM, "out of memory averaging the running statistics");
    rm_ref at = { p->stats, 0 };
    rm_status st = rm_device_read(e->device, NULL, raw, at, p->stats_bytes);
    if (st == RM_OK) st = rm_device_sync(e->device, NULL);
    if (st == RM_OK) st = rm_comm_host_reduce(e->comm, raw, n, p->elem == 8 ? RM_F64 : RM_F32, RM_SUM);
    for (uint64_t i = 0; st == RM_OK && i < n; i++) {
        if (p->elem == 8) ((double *)raw)[i] /= size;
        else ((float *)raw)[i] /= (float)size;
    }
    if (st == RM_OK) st = rm_device_write(e->device, NULL, at, raw, p->stats_bytes);
    if (st == RM_OK) st = rm_device_sync(e->device, NULL);
    free(raw);
    return st;
}
