/* A training step: what is enqueued when, and where its time went. On a device in the host's own memory every call computes; on one that works
 * while the host goes on, the next batch is fetched meanwhile, and after a few steps the whole step is one recording. */
#include "model/engine_trace.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/net_feed.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { WARM_UP = 2 /* steps before one is recorded: libraries load their kernels when they first run */, NOT_RECORDED = -1 };
enum { RECENT_NS = 1000000 /* that old may be what was read of the GPU before a step */ };

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

static rm_status inject_step(rm_engine *e, uint64_t begin)
{
    const uint64_t from = rm_now_ns();
    if (!(e->inject.step_share > 0)) return RM_OK;
    rm_spin_ns((uint64_t)(e->inject.step_share * (double)(from - begin)));
    return rm_intervals_add(&e->classes.compute, from, rm_now_ns());
}

/* For the next step: the op's time of this one had its delay in it. */
static rm_status inject_share(rm_engine *e)
{
    rm_inject *k = &e->inject;
    const rm_node *node;
    uint64_t begin, end;
    if (!(k->node_share > 0)) return RM_OK;
    (void)rm_net_nodes(e->net, &node);
    RM_TRY(rm_node_ns(e->net, &node[k->node], &begin, &end));
    k->node_ns = (uint64_t)(k->node_share / (1 + k->node_share) * (double)(end - begin));
    return RM_OK;
}

static bool reduces(const rm_engine *e) { return e->mode == RM_REDUCE_OVERLAPPED || e->mode == RM_REDUCE_AFTER; }

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
    if (reduces(e)) RM_TRY(rm_buckets_ready(&e->buckets, (uint32_t)e->graph.n_param));
    if (e->mode == RM_REDUCE_BARRIER) RM_TRY(barrier_twin(e, s));
    for (uint32_t i = 0; reduces(e) && i < b->n; i++) RM_TRY(finish_bucket(e, i, s));
    for (uint32_t i = 0; !reduces(e) && e->cfg.update_on_arrival && i < b->n; i++) RM_TRY(rm_net_update_part(e->net, i));
    s->update_begin_ns = rm_now_ns();
    if (!e->cfg.update_on_arrival) RM_TRY(rm_net_update(e->net));
    RM_TRY(rm_net_finish(e->net));
    return rm_buckets_end(&e->buckets, NOT_RECORDED);
}

static rm_status work(rm_engine *e, const rm_source *src, int32_t parts, rm_step *s)
{
    const bool overlap = e->mode == RM_REDUCE_OVERLAPPED && parts == 1;
    RM_TRY(rm_net_write_hyper(e->net));
    RM_TRY(rm_net_prologue(e->net));
    for (int32_t i = 0; i < parts; i++) {
        if (i) rm_engine_trace_batch(e); /* before its marks are set again */
        RM_TRY(micro_batch(e, src, i == 0, overlap, s));
    }
    return reduce_and_update(e, s);
}

/* ---- a device of its own pace */
static rm_status enqueue_update(rm_engine *e, rm_step *s)
{
    const rm_buckets *b = &e->buckets;
    if (reduces(e)) RM_TRY(rm_buckets_ready(&e->buckets, (uint32_t)e->graph.n_param));
    if (e->mode == RM_REDUCE_BARRIER) {
        RM_TRY(rm_device_sync(e->device, NULL)); /* the barrier is the host's */
        RM_TRY(barrier_twin(e, s));
    }
    for (uint32_t i = 0; i < b->n; i++) {
        if (reduces(e)) RM_TRY(rm_buckets_wait(&e->buckets, i));
        if (e->cfg.update_on_arrival) RM_TRY(rm_net_update_part(e->net, i));
    }
    return e->cfg.update_on_arrival ? RM_OK : rm_net_update(e->net);
}

static rm_status enqueue(rm_engine *e, rm_step *s)
{
    RM_TRY(rm_net_write_hyper(e->net));
    RM_TRY(rm_net_prologue(e->net));
    RM_TRY(rm_net_forward(e->net));
    RM_TRY(rm_feed_consumed(e->feed));
    RM_TRY(rm_net_backward(e->net, true, e->mode == RM_REDUCE_OVERLAPPED ? start_buckets : NULL, e));
    RM_TRY(enqueue_update(e, s));
    return rm_net_read(e->net);
}

/* What is recorded is the same from step to step: nothing is injected, noted or waited for by the host. */
static bool can_record(const rm_engine *e)
{
    const rm_inject *k = &e->inject;
    const bool quiet = !k->compute_ns && !k->link_ns && !k->node_ns && !(k->node_share > 0) && !k->bucket_ns && !e->trace;
    return quiet && !e->unrecorded && !e->cfg.no_record && e->mode != RM_REDUCE_BARRIER && rm_device_can_record(e->device);
}

static rm_status record(rm_engine *e)
{
    rm_step ignored = { 0 };
    RM_TRY(rm_record_begin(e->device));
    const rm_status st = enqueue(e, &ignored);
    if (st == RM_OK) return rm_record_end(e->device, &e->recording[e->mode]);
    char why[512];
    snprintf(why, sizeof why, "%s", rm_last_error());
    (void)!rm_record_end(e->device, NULL);
    return rm_fail(st, "%s", why);
}

void rm_engine_forget_recordings(rm_engine *e)
{
    for (int i = 0; i < RM_REDUCE_MODES; i++) {
        rm_record_free(e->device, e->recording[i]);
        e->recording[i] = NULL;
    }
    rm_buckets_forget(&e->buckets);
    e->warm = 0;
}

bool rm_engine_set_recording(rm_engine *e, bool on)
{
    const bool was = !e->unrecorded;
    e->unrecorded = !on;
    return was;
}

/* One rank that cannot is enough: an all-reduce is recorded on all ranks or on none. */
static rm_status give_up_recording(rm_engine *e, const char *why)
{
    rm_engine_forget_recordings(e);
    rm_buckets_drop(&e->buckets);
    e->cfg.no_record = true;
    rm_warn_once("record", "the step cannot be recorded (%s): its ops are enqueued one by one, which costs the host more; --no-record does so from the start", why);
    return RM_OK;
}

/* Before the window of the step that runs it. Nothing is computed here. */
static rm_status prepare_recording(rm_engine *e)
{
    char why[512] = "another rank could not";
    if (!e->feed || !can_record(e) || e->warm < WARM_UP || e->recording[e->mode]) return RM_OK;
    rm_buckets_begin(&e->buckets);
    inject_queues(e);
    const rm_status st = record(e);
    if (st == RM_E_PEER) return st;
    int32_t failed = st != RM_OK;
    if (failed) snprintf(why, sizeof why, "%s", rm_last_error());
    if (rm_comm_size(e->comm) > 1) RM_TRY(rm_comm_host_reduce(e->comm, &failed, 1, RM_I32, RM_MAX));
    if (failed) return give_up_recording(e, why);
    if (reduces(e)) rm_buckets_keep(&e->buckets, (int)e->mode);
    return RM_OK;
}

static rm_status start_step(rm_engine *e, rm_step *s, bool *out_recorded)
{
    *out_recorded = can_record(e) && e->recording[e->mode];
    if (!*out_recorded) {
        e->warm += e->warm < WARM_UP;
        RM_TRY(inject_compute(e));
        return enqueue(e, s);
    }
    return rm_record_run(e->device, e->recording[e->mode]);
}

static rm_status fetch(rm_engine *e, const rm_source *src)
{
    rm_batch *b;
    uint64_t wait;
    const uint64_t t0 = rm_now_ns();
    RM_TRY(src->next(src->ctx, &b, &wait));
    rest(e->inject.input_ns);
    RM_TRY(rm_intervals_add(&e->classes.input, t0, rm_now_ns()));
    if (!b) return RM_OK;
    RM_ASSERT(b->n == e->cfg.batch);
    const rm_status st = rm_feed_put(e->feed, b);
    src->release(src->ctx, b);
    return st;
}

/* When the device was done with what the host's clock tells of elsewhere, and when it computed (account() has the update). Needs layer timers. */
static rm_status device_times(rm_engine *e, rm_step *s)
{
    const rm_node *node, *part;
    const int32_t n = rm_net_nodes(e->net, &node);
    const uint32_t n_part = rm_net_update_parts(e->net, &part);
    uint64_t begin, end;
    for (int32_t i = 0; i < n; i++) {
        if (n_part && node[i].pass == RM_PASS_UPDATE) continue;
        RM_TRY(rm_node_ns(e->net, &node[i], &begin, &end));
        if (node[i].pass == RM_PASS_UPDATE) {
            s->update_begin_ns = begin;
            continue;
        }
        if (node[i].pass <= RM_PASS_LOSS) s->forward_end_ns = end;
        else s->backward_end_ns = end;
        RM_TRY(rm_intervals_add(&e->classes.compute, begin, end));
    }
    if (n_part) RM_TRY(rm_node_ns(e->net, part, &s->update_begin_ns, &end));
    const uint64_t last = e->buckets.n ? e->buckets.at[e->buckets.n - 1].end_ns : 0;
    if (last > s->backward_end_ns && rm_comm_size(e->comm) > 1) s->blocking_ns += last - s->backward_end_ns;
    const rm_node *copy = rm_net_copy(e->net);
    RM_TRY(rm_node_ns(e->net, copy, &begin, &end));
    return rm_intervals_add(&e->classes.copy, begin, end);
}

/* The copy of the next batch is part of this step. */
static rm_status finish_step(rm_engine *e, rm_step *s)
{
    RM_TRY(rm_net_collect(e->net, true));
    RM_TRY(rm_feed_finish(e->feed));
    s->loss = rm_net_loss(e->net);
    RM_TRY(rm_intervals_add(&e->classes.host, e->host_from_ns, s->enqueued_ns));
    e->host_from_ns = rm_now_ns(); /* it waited for the device */
    return rm_comm_check(e->comm);
}

static rm_status work_ahead(rm_engine *e, const rm_source *src, rm_step *s)
{
    bool recorded;
    if (e->feed_source != src->ctx) rm_feed_drop(e->feed); /* a batch of another source is not this one's */
    e->feed_source = src->ctx;
    if (!rm_feed_full(e->feed)) RM_TRY(fetch(e, src));
    if (!rm_feed_full(e->feed)) return rm_fail(RM_E_ARG, "the input ended before the step");
    RM_TRY(rm_feed_take(e->feed));
    RM_TRY(start_step(e, s, &recorded));
    s->enqueued_ns = rm_now_ns();
    RM_TRY(fetch(e, src));
    RM_TRY(finish_step(e, s));
    RM_TRY(rm_buckets_end(&e->buckets, recorded && reduces(e) ? (int)e->mode : NOT_RECORDED));
    if (rm_net_copy(e->net)->begin) return device_times(e, s);
    s->forward_end_ns = s->backward_end_ns = s->update_begin_ns = e->host_from_ns;
    return RM_OK;
}

/* ---- the step */
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

/* What the marks say of the whole step, once everything in it is done. */
static rm_status account(rm_engine *e, rm_step *s, uint64_t end)
{
    for (uint32_t i = 0; i < e->buckets.n; i++) RM_TRY(rm_intervals_add(&e->classes.comm, e->buckets.at[i].start_ns, e->buckets.at[i].end_ns));
    RM_TRY(add_compute(e, RM_PASS_UPDATE, RM_PASS_UPDATE));
    RM_TRY(rm_intervals_add(&e->classes.host, e->host_from_ns, end));
    s->step_ns = end - s->begin_ns;
    return rm_budget_of(&e->classes, (rm_interval){ s->begin_ns, end }, &s->budget);
}

typedef struct reading { rm_counts counts; rm_gpu_reading gpu; } reading;

/* Reading counters and GPU is no part of the window. Returns when it was done. */
static uint64_t count(rm_engine *e, uint64_t from, uint64_t recent_ns, reading *out, uint64_t *counting_ns)
{
    rm_gpu_watch_recent(e->watch, recent_ns, &out->gpu);
    rm_counters_read(e->counters, &out->counts);
    const uint64_t now = rm_now_ns();
    *counting_ns += now - from;
    return now;
}

rm_status rm_engine_step(rm_engine *e, const rm_source *src, uint64_t step, double lr, rm_step *out)
{
    const rm_recipe *r = e->cfg.recipe;
    const int32_t parts = r->accumulate > 1 ? r->accumulate : 1;
    const double scale = 1.0 / (r->loss_scale * parts * rm_comm_size(e->comm));
    rm_step s = { 0 };
    reading before, after;
    const uint64_t before_ns = rm_now_ns();
    RM_TRY(prepare_recording(e));
    s.counting_ns = rm_now_ns() - before_ns;
    rm_engine_trace_prepare(e);
    s.begin_ns = count(e, rm_now_ns(), RECENT_NS, &before, &s.counting_ns);
    rm_classes_clear(&e->classes);
    rm_buckets_begin(&e->buckets);
    inject_queues(e);
    e->host_from_ns = s.begin_ns;
    rm_engine_trace_begin(e, step, s.begin_ns);
    rm_net_note_hyper(e->net, lr, r->momentum, r->weight_decay, scale, r->lars_eta);
    RM_TRY(e->feed ? work_ahead(e, src, &s) : work(e, src, parts, &s));
    RM_TRY(inject_step(e, s.begin_ns));
    RM_TRY(account(e, &s, rm_now_ns()));
    RM_TRY(inject_share(e));
    (void)count(e, s.begin_ns + s.step_ns, 0, &after, &s.counting_ns);
    s.counts = rm_counts_since(&before.counts, &after.counts);
    s.gpu = rm_gpu_between(&before.gpu, &after.gpu);
    s.loss /= parts;
    rm_engine_trace_end(e, src, &s);
    RM_TRY(check_numbers(e, step, s.loss));
    *out = s;
    return RM_OK;
}
