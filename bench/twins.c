/* Real steps and their twins by turns. What is written down here is made into numbers by twins_gather.c and twins_row.c. */
#include "bench/twins.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/twins_record.h"
#include "model/engine_replay.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the subject: an engine or a ghost */
const rm_graph *bench_subject_graph(const bench_subject *s) { return s->engine ? &s->engine->graph : s->ghost->graph; }
static rm_buckets *buckets_of(const bench_subject *s) { return s->engine ? &s->engine->buckets : &s->ghost->buckets; }

static rm_status choose(const bench_subject *s, const char *split, rm_split_order order, rm_reduce_mode mode)
{
    if (s->engine) s->engine->mode = mode;
    else s->ghost->mode = mode;
    if (!split) return RM_OK;
    return s->engine ? rm_engine_set_split(s->engine, split, order) : rm_ghost_set_split(s->ghost, split, order);
}

static rm_status step(const bench_subject *s, rm_step *out) { return s->engine ? rm_engine_step(s->engine, s->source, 0, 0.0, out) : rm_ghost_step(s->ghost, out); }

rm_status bench_blocking_of(const bench_subject *s, const rm_step *step, double *out_s)
{
    rm_replay r;
    const rm_buckets *b = buckets_of(s);
    const bool exchanged = rm_comm_size(b->comm) > 1 && b->at[0].end_ns, timed = !s->engine || s->engine->cfg.timers;
    *out_s = exchanged && !timed ? NAN : 0;
    if (!exchanged || !timed) return RM_OK;
    RM_TRY(s->engine ? rm_engine_replay(s->engine, step, &r) : rm_ghost_replay(s->ghost, step, &r));
    *out_s = rm_s(rm_replay_blocking(&r));
    rm_replay_free(&r);
    return RM_OK;
}

/* Sums pile up when the same gradients are reduced again and again: zeros stay what they are. */
static rm_status clear_gradients(const bench_subject *s)
{
    const rm_buckets *b = buckets_of(s);
    rm_buf *arena = b->at[0].span.at.buf;
    return rm_device_fill(b->device, NULL, (rm_ref){ arena, 0 }, 0, rm_buf_bytes(arena));
}

/* ---- the record */
static void record_free(bench_record *r)
{
    for (int32_t i = 0; r->series && i < r->n; i++) {
        bench_series *s = &r->series[i];
        free(s->step);
        free(s->critical_s);
        free(s->bucket);
        free(s->time);
        free(s->isolated_s);
        free(s->least_s);
        free(s->met_ns);
        free(s->met);
    }
    free(r->series);
    free(r->ready_ns);
    free(r->off_ns);
}

static rm_status series_new(const bench_record *r, bench_series *s)
{
    const size_t rounds = (size_t)r->cfg->rounds, nodes = (size_t)r->n_node + 1;
    s->step = calloc(rounds, sizeof *s->step);
    s->critical_s = calloc(rounds, sizeof *s->critical_s);
    if (!s->step || !s->critical_s) return rm_fail(RM_E_NOMEM, "out of memory for step times");
    if (!s->split) return RM_OK;
    RM_TRY(choose(r->subject, s->split, r->cfg->order, s->mode));
    const rm_buckets *b = buckets_of(r->subject);
    s->n_bucket = b->n;
    s->bucket = calloc(b->n, sizeof *s->bucket);
    s->time = calloc(rounds * b->n, sizeof *s->time);
    s->isolated_s = calloc((size_t)bench_isolated_wanted(r->cfg->rounds), sizeof *s->isolated_s);
    s->least_s = calloc(b->n, sizeof *s->least_s);
    s->met_ns = calloc(nodes, sizeof *s->met_ns);
    s->met = calloc(nodes, sizeof *s->met);
    if (!s->bucket || !s->time || !s->isolated_s || !s->least_s || !s->met_ns || !s->met) return rm_fail(RM_E_NOMEM, "out of memory for the times of %u buckets", b->n);
    memcpy(s->bucket, b->at, b->n * sizeof *s->bucket);
    return RM_OK;
}

static rm_status record_new(rm_comm *comm, const bench_subject *s, const bench_twins_config *cfg, bench_record *out)
{
    const rm_node *node;
    *out = (bench_record){ .comm = comm, .subject = s, .cfg = cfg, .n = cfg->n_split + 2, .n_param = bench_subject_graph(s)->n_param };
    RM_ASSERT(cfg->n_split > 0 && cfg->rounds > 0);
    if (s->engine && s->engine->cfg.timers) out->n_node = rm_net_nodes(s->engine->net, &node);
    out->series = calloc((size_t)out->n, sizeof *out->series);
    out->ready_ns = calloc((size_t)out->n_param * (size_t)cfg->rounds, sizeof *out->ready_ns);
    out->off_ns = calloc((size_t)out->n_node + 1, sizeof *out->off_ns);
    if (!out->series || !out->ready_ns || !out->off_ns) return rm_fail(RM_E_NOMEM, "out of memory for step times");
    for (int32_t i = 0; i < cfg->n_split; i++) out->series[i].split = cfg->split[i];
    bench_record_off(out)->mode = RM_REDUCE_OFF;
    bench_record_barrier(out)->mode = RM_REDUCE_BARRIER;
    for (int32_t i = 0; i < out->n; i++) RM_TRY(series_new(out, &out->series[i]));
    return RM_OK;
}

/* ---- one step */
static bool meets(const rm_intervals *m, uint64_t begin, uint64_t end)
{
    for (size_t i = 0; i < m->n && m->at[i].begin < end; i++)
        if (m->at[i].end > begin) return true;
    return false;
}

/* How long each compute node took: where it met an all-reduce, and in the twin that has none. */
static rm_status note_nodes(bench_record *r, bench_series *s)
{
    const rm_engine *e = r->subject->engine;
    const rm_node *node;
    if (!r->n_node || s->mode == RM_REDUCE_BARRIER) return RM_OK;
    (void)rm_net_nodes(e->net, &node);
    for (int32_t i = 0; i < r->n_node; i++) {
        uint64_t begin, end;
        if (node[i].pass == RM_PASS_UPDATE) continue; /* after the all-reduces; with the update on arrival it does not run as one */
        RM_TRY(rm_node_ns(e->net, &node[i], &begin, &end));
        if (s->mode == RM_REDUCE_OFF) r->off_ns[i] += (double)(end - begin);
        else if (meets(&e->classes.comm, begin, end)) {
            s->met_ns[i] += (double)(end - begin);
            s->met[i]++;
        }
    }
    r->off_n += s->mode == RM_REDUCE_OFF;
    return RM_OK;
}

static void ready_until(bench_record *r, int32_t at, int32_t *known, int32_t ready, double ns)
{
    for (; *known < ready && *known < r->n_param; ++*known) r->ready_ns[(size_t)*known * (size_t)r->cfg->rounds + (size_t)at] = ns;
}

/* When each gradient was ready in step `at` of the off twin. A ghost's are its plan's. */
static rm_status note_ready(bench_record *r, int32_t at, const rm_step *s)
{
    const rm_ghost *g = r->subject->ghost;
    const rm_node *node;
    int32_t known = 0;
    for (uint32_t i = 0; g && i < g->plan->n_event; i++) ready_until(r, at, &known, (int32_t)g->plan->event[i].ready, (double)(g->plan->forward_ns + g->plan->event[i].at_ns));
    if (r->n_node) (void)rm_net_nodes(r->subject->engine->net, &node);
    for (int32_t i = 0; i < r->n_node; i++) {
        uint64_t begin, end;
        if (node[i].ready <= known) continue;
        RM_TRY(rm_node_ns(r->subject->engine->net, &node[i], &begin, &end));
        ready_until(r, at, &known, node[i].ready, (double)(end - s->begin_ns));
    }
    ready_until(r, at, &known, r->n_param, (double)(s->backward_end_ns - s->begin_ns));
    return RM_OK;
}

/* at < 0: warm-up. */
static rm_status take(bench_record *r, bench_series *s, int32_t at)
{
    rm_step one;
    RM_TRY(choose(r->subject, s->split, r->cfg->order, s->mode));
    RM_TRY(bench_meet(r->comm, &r->interrupted));
    if (r->interrupted) return RM_OK;
    const uint64_t cpu = rm_comm_cpu_ns(r->comm);
    RM_TRY(step(r->subject, &one));
    if (at < 0) return RM_OK;
    s->cpu_ns += rm_comm_cpu_ns(r->comm) - cpu;
    s->step[at] = one;
    RM_TRY(bench_blocking_of(r->subject, &one, &s->critical_s[at]));
    const rm_buckets *b = buckets_of(r->subject);
    for (uint32_t i = 0; i < s->n_bucket; i++) s->time[(size_t)at * s->n_bucket + i] = (bench_bucket_time){ b->at[i].ready_ns, b->at[i].start_ns, b->at[i].end_ns };
    if (s->mode == RM_REDUCE_OFF) RM_TRY(note_ready(r, at, &one));
    return note_nodes(r, s);
}

static rm_status take_isolated(bench_record *r, bench_series *s)
{
    uint64_t ns;
    RM_TRY(choose(r->subject, s->split, r->cfg->order, s->mode));
    RM_TRY(clear_gradients(r->subject));
    rm_buckets *b = buckets_of(r->subject);
    RM_TRY(rm_buckets_isolated(b, &ns));
    for (uint32_t i = 0; i < s->n_bucket; i++) {
        const double own = rm_s(b->at[i].end_ns - b->at[i].start_ns);
        if (!s->n_isolated || own < s->least_s[i]) s->least_s[i] = own;
    }
    s->isolated_s[s->n_isolated++] = rm_s(ns);
    return RM_OK;
}

/* ---- rounds */
/* How many times the all-reduces run alone in this round: spread over all of them, the first included. */
static int32_t isolated_in(const bench_record *r, int32_t at)
{
    const int64_t rounds = r->cfg->rounds, wanted = bench_isolated_wanted(r->cfg->rounds);
    return at < 0 ? 0 : (int32_t)(((at + 1) * wanted + rounds - 1) / rounds - (at * wanted + rounds - 1) / rounds);
}

static rm_status one_round(bench_record *r, int32_t round, int32_t *order)
{
    const int32_t at = round - r->cfg->warmup;
    rm_rng g = rm_rng_for(r->cfg->seed, 0x7477696eu, (uint64_t)round); /* the same order on every rank, another one in every round */
    rm_rng_shuffle(&g, r->n, order);
    for (int32_t i = 0; i < r->n; i++) {
        RM_TRY(take(r, &r->series[order[i]], at));
        if (r->interrupted) return RM_OK;
    }
    for (int32_t k = isolated_in(r, at); k > 0; k--)
        for (int32_t i = 0; i < r->n; i++)
            if (r->series[order[i]].split) RM_TRY(take_isolated(r, &r->series[order[i]]));
    r->done += at >= 0;
    return RM_OK;
}

static rm_status rounds(bench_record *r)
{
    const int32_t all = r->cfg->warmup + r->cfg->rounds;
    int32_t *order = calloc((size_t)r->n, sizeof *order);
    rm_status st = order ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the order of steps");
    rm_progress p;
    rm_progress_begin(&p, r->cfg->what, "rounds", (uint64_t)all);
    for (int32_t i = 0; st == RM_OK && !r->interrupted && i < all; i++) {
        st = one_round(r, i, order);
        rm_progress_update(&p, (uint64_t)i + 1, NULL);
    }
    rm_progress_end(&p);
    free(order);
    return st;
}

rm_status bench_twins_measure(rm_comm *comm, const bench_subject *s, const bench_twins_config *cfg, json_t **out)
{
    bench_record r;
    const bool recording = s->engine && rm_engine_set_recording(s->engine, false); /* the barrier's step cannot be, so that none is */
    rm_status st = record_new(comm, s, cfg, &r);
    *out = NULL;
    if (st == RM_OK) st = rounds(&r);
    if (st == RM_OK && !r.done) st = rm_fail(RM_E_INTERRUPTED, "interrupted before the first round was done");
    if (st == RM_OK) st = choose(s, cfg->split[0], cfg->order, RM_REDUCE_OVERLAPPED);
    if (st == RM_OK) st = bench_twins_gather(&r, out);
    record_free(&r);
    if (s->engine) (void)rm_engine_set_recording(s->engine, recording);
    return st;
}
