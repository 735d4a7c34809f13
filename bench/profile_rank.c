/* The ranks' side of bench profile: steps with and without tracing by turns, the twins, the peaks, and delays put where a change would
 * help, all brought together on rank 0. */
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/counters_row.h"
#include "bench/layer_table.h"
#include "bench/profile.h"
#include "bench/profile_timeline.h"
#include "bench/scaling_loss.h"
#include "bench/throttled_row.h"
#include "bench/trace_row.h"
#include "bench/twins.h"
#include "model/engine_replay.h"
#include "model/step_trace.h"
#include "profiler/stats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { rm_step *step; int32_t n; uint64_t window_ns, first_ns; } series;

typedef struct {
    const bench_options *o;
    bench_session s;
    rm_engine   e;
    rm_synthetic synthetic;
    rm_loader  *loader;
    rm_source   source;
    int32_t     steps, warmup;
    series      plain, traced;
    bench_layer_times *layers;
    rm_step_trace trace;
    rm_counters *counters;
    rm_perturbation cost;      /* of tracing */
    rm_replay  *replay;        /* (steps) of the traced steps */
    double     *critical_s;    /* (steps) what of their all-reduces lay on the critical path */
    double      step_s;        /* rank 0: the median of untraced steps, each its slowest rank's */
    json_t     *got;           /* rank 0's result */
} rank_run;

static bool first(const rank_run *r) { return rm_comm_rank(r->s.comm) == 0; }
static rm_status nomem(void) { return rm_fail(RM_E_NOMEM, "out of memory for the profile"); }

static rm_status stop_together(rank_run *r)
{
    bool stop;
    RM_TRY(bench_stop_asked(r->s.comm, &stop));
    return stop ? rm_fail(RM_E_INTERRUPTED, "interrupted: nothing stored") : RM_OK;
}

/* ---- setting up */
static rm_status open_source(rank_run *r)
{
    const rm_recipe *q = &r->s.recipe;
    if (!r->s.data) {
        RM_TRY(rm_synthetic_new(r->s.batch, q->px, r->s.classes, (uint64_t)r->o->seed, &r->synthetic));
        r->source = rm_source_synthetic(&r->synthetic);
        return RM_OK;
    }
    const rm_loader_config c = bench_loader_config(&r->s, r->o);
    RM_TRY(rm_loader_open(r->s.data, &c, &r->loader));
    r->source = rm_source_loader(r->loader);
    return RM_OK;
}

static rm_status series_new(rank_run *r, series *out)
{
    out->n = r->steps;
    out->step = calloc((size_t)r->steps, sizeof *out->step);
    return out->step ? RM_OK : nomem();
}

static rm_status set_up(rank_run *r)
{
    const bench_options *o = r->o;
    const rm_engine_config ec = { .recipe = &r->s.recipe, .dtype = r->s.dtype, .px = r->s.recipe.px, .batch = r->s.batch, .classes = r->s.classes, .no_fuse = o->no_fuse, .timers = true,
                                  .no_record = true /* traced steps cannot be, and are compared with the others */, .split = bench_split(o, &r->s), .split_order = bench_split_order(o), .update_on_arrival = o->update_on_arrival, .seed = (uint64_t)o->seed };
    RM_TRY(rm_engine_new(r->s.device, r->s.comm, &ec, &r->e));
    RM_TRY(open_source(r));
    RM_TRY(rm_counters_open(&r->counters));
    RM_TRY(series_new(r, &r->plain));
    RM_TRY(series_new(r, &r->traced));
    r->replay = calloc((size_t)r->steps, sizeof *r->replay);
    r->critical_s = calloc((size_t)r->steps, sizeof *r->critical_s);
    if (!r->replay || !r->critical_s) return nomem();
    return bench_layer_times_new(&r->e, r->steps, &r->layers);
}

/* ---- steps with and without tracing, by turns */
/* Who is not watched has no layer timers either: tracing costs what both cost. */
static rm_status watch(rank_run *r, bool timed, bool traced)
{
    rm_step_trace_pause(&r->trace, &r->e, !traced);
    return rm_engine_set_timers(&r->e, timed);
}

static rm_status one_step(rank_run *r, int32_t i, bool traced)
{
    series *to = traced ? &r->traced : &r->plain;
    rm_step s;
    RM_TRY(stop_together(r));
    RM_TRY(rm_comm_barrier(r->s.comm));
    RM_TRY(watch(r, traced, traced && i >= 0));
    RM_TRY(rm_engine_step(&r->e, &r->source, (uint64_t)(i < 0 ? 0 : i), 0.0, &s));
    if (i < 0) return RM_OK;
    to->step[i] = s;
    to->window_ns += s.step_ns;
    if (!traced) return RM_OK;
    RM_TRY(bench_layer_times_note(r->layers, &s));
    RM_TRY(rm_engine_replay(&r->e, &s, &r->replay[i]));
    r->critical_s[i] = rm_s(rm_replay_blocking(&r->replay[i]));
    return RM_OK;
}

static rm_status pairs(rank_run *r)
{
    rm_progress p;
    rm_status st = RM_OK;
    if (r->loader) RM_TRY(rm_step_trace_set_loader(&r->trace, r->loader));
    RM_TRY(rm_step_trace_open(&r->trace, &r->e));
    r->e.counters = r->counters;
    r->e.watch = r->s.watch;
    rm_progress_begin(&p, "profile", "pairs of steps", (uint64_t)(r->warmup + r->steps));
    for (int32_t i = -r->warmup; st == RM_OK && i < r->steps; i++) {
        rm_rng g = rm_rng_for((uint64_t)r->o->seed, 0x70616972u, (uint64_t)(i + r->warmup)); /* alike on all ranks */
        const bool traced_first = rm_rng_u32(&g) & 1;
        st = one_step(r, i, traced_first);
        if (st == RM_OK) st = one_step(r, i, !traced_first);
        rm_progress_update(&p, (uint64_t)(i + r->warmup) + 1, NULL);
    }
    rm_progress_end(&p);
    r->e.counters = NULL;
    r->e.watch = NULL;
    return st == RM_OK ? watch(r, true, false) : st; /* what follows times layers too */
}

/* Of this rank; a step takes that many. */
static int32_t images_a_step(const rank_run *r) { return r->s.batch * (r->s.recipe.accumulate > 1 ? r->s.recipe.accumulate : 1); }

static double median_s(const series *s)
{
    double *v = malloc((size_t)s->n * sizeof *v), m;
    for (int32_t i = 0; v && i < s->n; i++) v[i] = rm_s(s->step[i].step_ns);
    m = v ? rm_median(v, (size_t)s->n) : 0;
    free(v);
    return m;
}

/* ---- what the steps say */
static rm_status gather_series(rank_run *r, const series *s, const double *critical_s, const char *key)
{
    json_t *steps;
    RM_TRY(bench_steps_gather(r->s.comm, &(bench_taken){ .step = s->step, .n = s->n, .window_ns = s->window_ns, .first_ns = s->step[0].step_ns, .critical_s = critical_s }, &steps));
    return !steps || json_object_set_new(r->got, key, steps) == 0 ? RM_OK : nomem();
}

/* Only traced steps can tell computing from the rest; their shares are those of the step that nobody watched. */
static json_t *budget_json(const bench_steps *plain, const bench_steps *traced)
{
    const double scale = rm_median(plain->slowest, (size_t)plain->n) / rm_median(traced->slowest, (size_t)traced->n);
    json_t *of_traced = bench_steps_budget_json(traced), *out = json_object(), *term;
    const char *key;
    json_object_foreach(of_traced, key, term) json_object_set_new(out, key, bench_number(scale * json_number_value(term)));
    json_decref(of_traced);
    return out;
}

static void set_step(rank_run *r, const bench_steps *plain, const bench_steps *traced)
{
    r->cost = rm_perturbation_paired(traced->slowest, plain->slowest, (size_t)plain->n);
    json_t *trace = json_object();
    bench_set_perturbation(trace, &r->cost, "no pair of steps was measured");
    json_object_set_new(trace, "pairs", json_integer((json_int_t)r->cost.n));
    json_object_set_new(trace, "traced_step_s", bench_number(rm_median(traced->slowest, (size_t)traced->n)));
    json_object_set_new(r->got, "trace", trace);
    r->step_s = rm_median(plain->slowest, (size_t)plain->n);
    json_object_set_new(r->got, "budget_s", budget_json(plain, traced));
    json_object_set_new(r->got, "stragglers", traced->ranks > 1 ? bench_stragglers_json(traced, json_object_get(r->got, "hosts")) : json_array());
}

static rm_status gather_steps(rank_run *r)
{
    bench_steps plain = { 0 }, traced = { 0 };
    RM_TRY(gather_series(r, &r->plain, NULL, "plain"));
    RM_TRY(gather_series(r, &r->traced, r->critical_s, "traced"));
    if (!first(r)) return RM_OK;
    json_object_set_new(r->got, "hosts", bench_hosts_json(r->s.comm));
    rm_status st = bench_steps_read(json_object_get(r->got, "plain"), &plain);
    if (st == RM_OK) st = bench_steps_read(json_object_get(r->got, "traced"), &traced);
    if (st == RM_OK) set_step(r, &plain, &traced);
    bench_steps_free(&plain);
    bench_steps_free(&traced);
    return st;
}

static rm_status gather_counters(rank_run *r)
{
    uint64_t most;
    RM_TRY(bench_memory_high(r->s.comm, &most));
    if (!first(r)) return RM_OK;
    json_object_set_new(r->got, "counters_why", bench_counters_why(r->counters));
    bench_note_watch(r->got, r->s.watch);
    bench_set_memory_high(r->got, most);
    return RM_OK;
}

/* ---- the layers, and the most that this device can do: measured on all ranks at once, for they share a memory */
static rm_status layers(rank_run *r)
{
    rm_peaks peaks;
    RM_TRY(rm_comm_barrier(r->s.comm));
    const rm_status st = r->o->no_peaks ? rm_fail(RM_E_UNSUPPORTED, "--no-peaks") : rm_device_peaks(r->s.device, &peaks);
    if (st != RM_OK && st != RM_E_UNSUPPORTED) return st;
    if (!first(r)) return RM_OK;
    json_t *table = bench_layer_times_json(r->layers, st == RM_OK ? &peaks : NULL);
    if (!table) return nomem();
    json_object_update(r->got, table);
    json_decref(table);
    bench_mfu_set(r->got, &r->e, images_a_step(r) / median_s(&r->plain), st == RM_OK ? &peaks : NULL);
    if (st != RM_OK) {
        bench_set_null(r->got, "peaks", rm_last_error());
        return RM_OK;
    }
    const rm_roof roof = rm_peaks_roof(&peaks, r->s.dtype);
    json_object_set_new(r->got, "peaks", bench_peaks_json(&peaks));
    json_object_set_new(r->got, "roof", bench_roof_json(&roof));
    return RM_OK;
}

/* ---- what communication costs */
static rm_status twins(rank_run *r)
{
    const char *split = bench_split(r->o, &r->s);
    json_t *measured = NULL;
    rm_synthetic y;
    if (rm_comm_size(r->s.comm) == 1) return RM_OK;
    RM_TRY(rm_synthetic_new(r->s.batch, r->s.recipe.px, r->s.classes, (uint64_t)r->o->seed, &y));
    const rm_source src = rm_source_synthetic(&y);
    const bench_subject subject = { .engine = &r->e, .source = &src };
    const bench_twins_config c = { .split = &split, .n_split = 1, .order = bench_split_order(r->o), .rounds = r->steps, .warmup = 1, .seed = (uint64_t)r->o->seed, .what = "twins" };
    rm_status st = bench_twins_measure(r->s.comm, &subject, &c, &measured);
    rm_synthetic_free(&y);
    if (st == RM_OK) st = stop_together(r);
    if (st == RM_OK && measured) json_object_set_new(r->got, "communication", bench_twins_row(measured, 0));
    json_decref(measured);
    return st;
}

/* ---- the loader alone */
static rm_status loader_alone(rank_run *r)
{
    enum { AHEAD = 8, LEAST = 32 }; /* the ring is full when this begins; fewer batches are over too soon to time */
    const int32_t batches = r->steps > LEAST ? r->steps : LEAST;
    rm_status st = RM_OK;
    uint64_t begin = 0;
    if (!r->loader) return RM_OK;
    for (int32_t i = 0; st == RM_OK && i < AHEAD + batches; i++) {
        rm_batch *b;
        uint64_t wait;
        if (i == AHEAD) begin = rm_now_ns();
        st = rm_loader_next(r->loader, &b, &wait);
        if (st == RM_OK) rm_loader_release(r->loader, b);
    }
    RM_TRY(st);
    double s = rm_s(rm_now_ns() - begin);
    RM_TRY(rm_comm_host_reduce(r->s.comm, &s, 1, RM_F64, RM_MAX));
    if (first(r)) bench_set_number(r->got, "loader_images_per_s", (double)r->s.batch * batches * rm_comm_size(r->s.comm) / s, "no time was measured");
    return RM_OK;
}

/* ---- delays where a change would help, and, when asked for, wherever the time is */
enum { MOST_PROBES = 64, LARGEST_LAYERS = 5, MOST_BUCKETS = 8 };
typedef struct { bench_probe at[MOST_PROBES]; int32_t n; } probes;

/* The number of the probe. */
static int32_t add_probe(probes *p, bench_probe x)
{
    for (int32_t i = 0; i < p->n; i++)
        if (p->at[i].kind == x.kind && p->at[i].index == x.index) return i;
    if (p->n == MOST_PROBES) return -1;
    p->at[p->n] = x;
    return p->n++;
}

/* Rows after the first `ops` are of no op. */
static void add_largest_layers(const json_t *all, size_t ops, uint64_t delay_ns, probes *p)
{
    bool taken[4096] = { false };
    for (int k = 0; k < LARGEST_LAYERS; k++) {
        int32_t best = -1;
        double most = 0;
        for (size_t i = 0; i < ops && i < RM_COUNT(taken) && i < json_array_size(all); i++) {
            const double s = json_number_value(json_object_get(json_array_get(all, i), "time_s_median"));
            if (taken[i] || s <= most) continue;
            best = (int32_t)i;
            most = s;
        }
        if (best < 0) return;
        taken[best] = true;
        add_probe(p, (bench_probe){ BENCH_PROBE_OP, best, delay_ns });
    }
}

static void add_asked_for(const rank_run *r, uint64_t delay_ns, probes *p)
{
    const int32_t buckets = rm_comm_size(r->s.comm) > 1 ? (int32_t)r->e.buckets.n : 0, every = buckets > MOST_BUCKETS ? (buckets + MOST_BUCKETS - 1) / MOST_BUCKETS : 1;
    const rm_node *node;
    add_largest_layers(json_object_get(r->got, "layers"), (size_t)rm_net_nodes(r->e.net, &node), delay_ns, p);
    for (int32_t i = buckets - 1; i >= 0; i -= every) add_probe(p, (bench_probe){ BENCH_PROBE_BUCKET, i, delay_ns });
    add_probe(p, (bench_probe){ BENCH_PROBE_INPUT, 0, delay_ns });
}

static const char *const slope_keys[] = { "predicted_slope", "measured_slope", "slope_low", "slope_high", "prediction_error" };

static json_t *change_json(const bench_change *c, double step_s)
{
    json_t *j = json_pack("{s:s, s:s, s:f, s:f, s:f, s:s}", "what", c->what, "origin", c->measured ? "measured" : "projected", "gain_s", c->gain_s, "gain_share", c->gain_s / step_s, "step_s_then", step_s - c->gain_s, "note", c->note);
    for (size_t i = 0; i < RM_COUNT(slope_keys); i++) bench_set_null(j, slope_keys[i], c->note);
    return j;
}

static void add_slopes(json_t *change, const json_t *measured)
{
    for (size_t i = 0; i < RM_COUNT(slope_keys); i++) {
        char reason[64];
        snprintf(reason, sizeof reason, "%s_reason", slope_keys[i]);
        json_object_del(change, reason);
        json_object_set(change, slope_keys[i], json_object_get(measured, slope_keys[i]));
        if (json_object_get(measured, reason)) json_object_set(change, reason, json_object_get(measured, reason));
    }
}

static void judge(json_t *list)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) json_object_set_new(one, "verdict", json_string(bench_change_verdict(one)));
}

/* Rank 0 chooses, all delay. */
static rm_status sensitivities(rank_run *r)
{
    bench_change change[BENCH_MOST_CHANGES];
    int32_t of[BENCH_MOST_CHANGES], n = 0;
    probes p = { .n = 0 };
    json_t *measured = NULL, *changes = json_array();
    const uint64_t delay_ns = bench_sensitivity_delay((uint64_t)(r->step_s * 1e9));
    if (first(r)) {
        n = bench_changes_find(r->got, r->replay, r->steps, r->step_s, change);
        for (int32_t i = 0; i < n; i++) {
            change[i].probe.delay_ns = delay_ns;
            of[i] = change[i].tested ? add_probe(&p, change[i].probe) : -1;
            json_array_append_new(changes, change_json(&change[i], r->step_s));
        }
        if (r->o->sensitivity) add_asked_for(r, delay_ns, &p);
        json_object_set(r->got, "changes", changes);
    }
    rm_status st = rm_comm_host_broadcast(r->s.comm, &p, sizeof p, 0);
    if (st == RM_OK && p.n) st = bench_sensitivity_measure(r->s.comm, &r->e, &r->source, p.at, p.n, r->steps, (uint64_t)r->o->seed, &measured);
    for (int32_t i = 0; st == RM_OK && measured && i < n; i++)
        if (of[i] >= 0) add_slopes(json_array_get(changes, (size_t)i), json_array_get(measured, (size_t)of[i]));
    judge(changes);
    judge(measured);
    if (st == RM_OK && first(r) && r->o->sensitivity) json_object_set(r->got, "sensitivity", measured);
    else if (st == RM_OK && first(r)) bench_set_null(r->got, "sensitivity", "asked for by --sensitivity");
    json_decref(measured);
    json_decref(changes);
    return st == RM_OK ? stop_together(r) : st; /* fewer rounds than asked for are no profile */
}

/* ---- all */
/* Of the step that rank 0's layers are of, on every rank: others' median may be another one. */
static rm_status timeline(rank_run *r)
{
    int32_t at = bench_layer_times_median(r->layers);
    json_t *t;
    RM_TRY(rm_comm_host_broadcast(r->s.comm, &at, sizeof at, 0));
    const rm_step *s = &r->traced.step[at];
    RM_TRY(bench_timeline_gather(r->s.comm, r->trace.trace, s->begin_ns, s->begin_ns + s->step_ns, &t));
    return !t || json_object_set_new(r->got, "timeline", t) == 0 ? RM_OK : nomem();
}

/* Rank 0 tells what tracing cost, for every rank says so beside its file. */
static rm_status end_trace(rank_run *r)
{
    char files[RM_TRACE_PATH];
    json_t *trace = json_object_get(r->got, "trace"); /* rank 0's */
    bool cut = false;
    RM_TRY(rm_comm_host_broadcast(r->s.comm, &r->cost, sizeof r->cost, 0));
    if (r->o->trace[0]) RM_TRY(bench_trace_end(r->s.comm, &r->e, &r->trace, &r->cost, files, sizeof files, &cut));
    else rm_step_trace_drop(&r->trace, &r->e);
    if (!trace) return RM_OK;
    if (r->o->trace[0]) json_object_set_new(trace, "file", json_string(files));
    else bench_set_null(trace, "file", "no --trace");
    json_object_set_new(trace, "cut", json_boolean(cut));
    bench_set_kernel_times(trace, &r->trace.times);
    return RM_OK;
}

static rm_status describe(rank_run *r)
{
    const struct { const char *key, *text; } texts[] = {
        { "device", r->s.info.device }, { "device_name", r->s.info.name }, { "library", r->s.info.library }, { "dtype", rm_dtype_name(r->s.dtype) },
        { "comm_library", rm_comm_library(r->s.comm) }, { "split", bench_split(r->o, &r->s) },
        { "wire", bench_wire(r->o) == RM_BF16 ? "bf16" : "fp32" }, { "input", r->s.data ? "real" : "synthetic" },
    };
    const struct { const char *key; int64_t value; } numbers[] = {
        { "px", r->s.recipe.px }, { "batch_per_device", r->s.batch }, { "images_per_device_step", images_a_step(r) }, { "classes", r->s.classes }, { "threads", r->s.info.threads }, { "buckets", r->e.buckets.n },
    };
    for (size_t i = 0; i < RM_COUNT(texts); i++) json_object_set_new(r->got, texts[i].key, json_string(texts[i].text));
    for (size_t i = 0; i < RM_COUNT(numbers); i++) json_object_set_new(r->got, numbers[i].key, json_integer(numbers[i].value));
    if (!r->loader) bench_set_null(r->got, "loader_images_per_s", "synthetic images: no files are read");
    return RM_OK;
}

static rm_status measure(rank_run *r)
{
    static rm_status (*const part[])(rank_run *) = { set_up, describe, pairs, timeline, gather_steps, end_trace, gather_counters, loader_alone, layers, twins, sensitivities };
    for (size_t i = 0; i < RM_COUNT(part); i++) RM_TRY(part[i](r));
    return RM_OK;
}

static void release(rank_run *r)
{
    if (r->trace.trace) rm_step_trace_drop(&r->trace, &r->e);
    rm_loader_close(r->loader);
    rm_engine_free(&r->e);
    bench_layer_times_free(r->layers);
    rm_counters_close(r->counters);
    rm_synthetic_free(&r->synthetic);
    for (int32_t i = 0; r->replay && i < r->steps; i++) rm_replay_free(&r->replay[i]);
    free(r->replay);
    free(r->critical_s);
    free(r->plain.step);
    free(r->traced.step);
    json_decref(r->got);
    bench_session_close(&r->s);
}

rm_status bench_profile_rank(const bench_options *o, json_t **out)
{
    rank_run r = { .o = o, .steps = o->steps ? o->steps : BENCH_PROFILE_STEPS, .warmup = o->warmup >= 0 ? o->warmup : BENCH_PROFILE_WARMUP, .got = json_object() };
    rm_status st = RM_OK;
    r.trace = (rm_step_trace){ .path = o->trace, .to = (uint64_t)r.steps - 1 };
    RM_TRY_GOTO(st, bench_session_plan(o, "tiny", &r.s), out);
    RM_TRY_GOTO(st, bench_session_device(o, &r.s), out);
    RM_TRY_GOTO(st, measure(&r), out);
    if (first(&r)) *out = json_incref(r.got);
out:
    release(&r);
    return st;
}
