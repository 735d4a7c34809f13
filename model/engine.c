#include "model/engine.h"
#include "model/engine_trace.h"
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
    RM_TRY(make_buckets(e, spec, order, &fresh));
    rm_buckets_free(&e->buckets);
    e->buckets = fresh;
    return cut_update(e);
}

/* A net planned with the choices kept from earlier runs. Rank 0 plans first and keeps what it chose; the others follow it, so
 * that all ranks run the same code. */
static rm_status plan_net(rm_engine *e, const rm_graph *g, bool training, const rm_params_config *pc, rm_net **out)
{
    char path[1024];
    rm_net_config nc = net_config(e, training);
    bool follow = rm_comm_rank(e->comm) != 0, several = rm_comm_size(e->comm) > 1;
    rm_plans_path(e->device, path, sizeof path);
    if (follow) RM_TRY(rm_comm_barrier(e->comm));
    rm_plans_load(e->device, path);
    rm_status st = rm_net_new(e->device, g, &nc, &e->params, pc, out);
    if (st == RM_OK && !follow) rm_plans_save(e->device, path);
    if (st == RM_OK && !follow && several) st = rm_comm_barrier(e->comm);
    return st;
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
    rm_buckets_free(&e->buckets);
    rm_classes_free(&e->classes);
    (void)!rm_engine_set_trace(e, NULL);
    rm_net_free(e->eval);
    rm_net_free(e->net);
    if (e->params.device) rm_params_free(&e->params);
    rm_graph_free(&e->graph);
    rm_graph_free(&e->eval_graph);
    memset(e, 0, sizeof *e);
}

rm_status rm_engine_resize(rm_engine *e, int32_t px)
{
    if (e->cfg.px == px) return RM_OK;
    rm_graph g;
    rm_net *net = NULL;
    rm_net_free(e->net);
    e->net = NULL;
    RM_TRY(make_graph(e, e->cfg.batch, px, &g));
    /* Same layers and parameters, other shapes: the parameters' graph keeps its address. */
    rm_graph_free(&e->graph);
    e->graph = g;
    RM_TRY(plan_net(e, &e->graph, true, NULL, &net));
    e->net = net;
    e->cfg.px = px;
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

/* ---- the step */
static void rest(uint64_t ns)
{
    const struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    if (ns) clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static rm_status add_nodes(rm_engine *e, const rm_node *node, int32_t n, rm_pass from, rm_pass to)
{
    for (int32_t i = 0; i < n; i++) {
        uint64_t begin, end;
        if (!node[i].begin || node[i].pass < from || node[i].pass > to) continue;
        RM_TRY(rm_node_ns(e->net, &node[i], &begin, &end));
        RM_TRY(rm_intervals_add(&e->classes.compute, begin, end));
    }
    return RM_OK;
}

static rm_status add_compute(rm_engine *e, rm_pass from, rm_pass to)
{
    const rm_node *node, *part;
    const int32_t n = rm_net_nodes(e->net, &node), n_part = (int32_t)rm_net_update_parts(e->net, &part);
    if (to < RM_PASS_UPDATE || !n_part) return add_nodes(e, node, n, from, to);
    return add_nodes(e, part, n_part, RM_PASS_UPDATE, RM_PASS_UPDATE);
}

/* Into one op, into one all-reduce and into the last one. */
static void inject_queues(rm_engine *e)
{
    const rm_inject *k = &e->inject;
    rm_net_set_delay(e->net, k->node, k->node_ns);
    if (k->link_ns) rm_buckets_delay(&e->buckets, e->buckets.n - 1, k->link_ns);
    if (k->bucket_ns) rm_buckets_delay(&e->buckets, (uint32_t)k->bucket, k->bucket_ns);
}

static rm_status inject_compute(rm_engine *e)
{
    const uint64_t begin = rm_now_ns();
    if (!e->inject.compute_ns) return RM_OK;
    rest(e->inject.compute_ns);
    return rm_intervals_add(&e->classes.compute, begin, rm_now_ns());
}

static rm_status start_buckets(void *ctx, const rm_node *node) { return rm_buckets_ready(&((rm_engine *)ctx)->buckets, (uint32_t)node->ready); }

static rm_status forward_backward(rm_engine *e, const rm_batch *b, bool first, bool overlap, rm_step *s)
{
    RM_TRY(inject_compute(e));
    RM_TRY(rm_net_forward(e->net));
    s->forward_end_ns = rm_now_ns();
    RM_TRY(rm_net_backward(e->net, first, overlap ? start_buckets : NULL, e));
    RM_TRY(rm_net_finish(e->net));
    s->backward_end_ns = rm_now_ns();
    return RM_OK;
}

static rm_status micro_batch(rm_engine *e, const rm_source *src, bool first, bool overlap, rm_step *s)
{
    rm_batch *b;
    uint64_t t0 = rm_now_ns(), wait;
    RM_TRY(src->next(src->ctx, &b, &wait));
    RM_ASSERT(b && b->n == e->cfg.batch);
    rest(e->inject.input_ns);
    uint64_t t1 = rm_now_ns();
    rm_status st = rm_net_set_images_u8(e->net, b->image, b->flip, b->n);
    if (st == RM_OK) st = rm_net_set_labels(e->net, b->label, b->n);
    uint64_t t2 = rm_now_ns();
    if (st == RM_OK) st = rm_intervals_add(&e->classes.input, t0, t1);
    if (st == RM_OK) st = rm_intervals_add(&e->classes.copy, t1, t2);
    if (st == RM_OK) st = forward_backward(e, b, first, overlap, s);
    src->release(src->ctx, b);
    s->loss += rm_net_loss(e->net);
    if (st == RM_OK && first) st = add_compute(e, RM_PASS_WEIGHTS, RM_PASS_WEIGHTS);
    if (st == RM_OK) st = add_compute(e, RM_PASS_INPUT, RM_PASS_INPUT);
    if (st == RM_OK) st = add_compute(e, RM_PASS_FWD, RM_PASS_ACCUMULATE);
    return st;
}

/* The compute thread was blocked from then until now; before that it was the host's. */
static rm_status blocked(rm_engine *e, rm_step *s, uint64_t from)
{
    const uint64_t now = rm_now_ns();
    RM_TRY(rm_intervals_add(&e->classes.host, e->host_from_ns, from));
    e->host_from_ns = now;
    s->blocking_ns += now - from;
    return RM_OK;
}

static rm_status barrier_twin(rm_engine *e, rm_step *s)
{
    const uint64_t from = rm_now_ns();
    if (rm_comm_size(e->comm) == 1) return RM_OK;
    RM_TRY(rm_comm_barrier(e->comm));
    RM_TRY(blocked(e, s, from));
    return rm_intervals_add(&e->classes.comm, from, e->host_from_ns);
}

/* Waits for what is left of a bucket's all-reduce. With the update on arrival, it is updated while the next ones travel. */
static rm_status finish_bucket(rm_engine *e, uint32_t i, rm_step *s)
{
    const uint64_t from = rm_now_ns();
    RM_TRY(rm_buckets_wait(&e->buckets, i));
    if (rm_comm_size(e->comm) > 1) RM_TRY(blocked(e, s, from));
    return e->cfg.update_on_arrival ? rm_net_update_part(e->net, i) : RM_OK;
}

/* All-reduces to their ends, or what a twin has in their place, then the optimiser. */
static rm_status reduce_and_update(rm_engine *e, rm_step *s)
{
    const rm_buckets *b = &e->buckets;
    const bool reduces = e->mode == RM_REDUCE_OVERLAPPED || e->mode == RM_REDUCE_AFTER;
    if (reduces) RM_TRY(rm_buckets_ready(&e->buckets, (uint32_t)e->graph.n_param));
    if (e->mode == RM_REDUCE_BARRIER) RM_TRY(barrier_twin(e, s));
    for (uint32_t i = 0; reduces && i < b->n; i++) RM_TRY(finish_bucket(e, i, s));
    for (uint32_t i = 0; !reduces && e->cfg.update_on_arrival && i < b->n; i++) RM_TRY(rm_net_update_part(e->net, i));
    s->update_begin_ns = rm_now_ns();
    if (!e->cfg.update_on_arrival) RM_TRY(rm_net_update(e->net));
    return rm_net_finish(e->net);
}

static rm_status check_numbers(const rm_engine *e, uint64_t step, double loss)
{
    const char *name;
    uint64_t bad = rm_net_nonfinite(e->net, &name);
    if (bad)
        return rm_fail(RM_E_NUMERIC, "step %llu: the gradient of %s is not finite (%llu elements in all, loss %g): lower the learning rate or the loss scale",
                       (unsigned long long)step, name, (unsigned long long)bad, loss);
    if (!isfinite(loss)) return rm_fail(RM_E_NUMERIC, "step %llu: the loss is %g: lower the learning rate or the loss scale", (unsigned long long)step, loss);
    return RM_OK;
}

static rm_status account(rm_engine *e, rm_step *s)
{
    const uint64_t end = rm_now_ns();
    RM_TRY(rm_buckets_end(&e->buckets));
    for (uint32_t i = 0; i < e->buckets.n; i++) RM_TRY(rm_intervals_add(&e->classes.comm, e->buckets.at[i].start_ns, e->buckets.at[i].end_ns));
    RM_TRY(add_compute(e, RM_PASS_UPDATE, RM_PASS_UPDATE));
    RM_TRY(rm_intervals_add(&e->classes.host, e->host_from_ns, end));
    s->step_ns = end - s->begin_ns;
    return rm_budget_of(&e->classes, (rm_interval){ s->begin_ns, end }, &s->budget);
}

/* Reading the counters is no part of the window. Returns when it was done. */
static uint64_t count(rm_engine *e, uint64_t from, rm_counts *out, uint64_t *counting_ns)
{
    rm_counters_read(e->counters, out);
    const uint64_t now = rm_now_ns();
    *counting_ns += now - from;
    return now;
}

rm_status rm_engine_step(rm_engine *e, const rm_source *src, uint64_t step, double lr, rm_step *out)
{
    const rm_recipe *r = e->cfg.recipe;
    const int32_t parts = r->accumulate > 1 ? r->accumulate : 1;
    const double scale = 1.0 / (r->loss_scale * parts * rm_comm_size(e->comm));
    const bool overlap = e->mode == RM_REDUCE_OVERLAPPED && parts == 1;
    rm_step s = { 0 };
    rm_counts before, after;
    s.begin_ns = count(e, rm_now_ns(), &before, &s.counting_ns);
    rm_classes_clear(&e->classes);
    rm_buckets_begin(&e->buckets);
    inject_queues(e);
    e->host_from_ns = s.begin_ns;
    rm_engine_trace_begin(e, step, s.begin_ns);
    RM_TRY(rm_net_set_hyper(e->net, lr, r->momentum, r->weight_decay, scale, r->lars_eta));
    RM_TRY(rm_net_prologue(e->net));
    for (int32_t i = 0; i < parts; i++) {
        if (i) rm_engine_trace_batch(e); /* before its marks are set again */
        RM_TRY(micro_batch(e, src, i == 0, overlap, &s));
    }
    RM_TRY(reduce_and_update(e, &s));
    RM_TRY(account(e, &s));
    (void)count(e, s.begin_ns + s.step_ns, &after, &s.counting_ns);
    s.counts = rm_counts_since(&before, &after);
    s.loss /= parts;
    rm_engine_trace_end(e, src, &s);
    RM_TRY(check_numbers(e, step, s.loss));
    *out = s;
    return RM_OK;
}

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
