/* The ranks' side of bench scaling: synthetic, data-only and real steps, then the twins, gathered on rank 0. */
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/commands.h"
#include "bench/counters_row.h"
#include "bench/ghost_run.h"
#include "bench/inject.h"
#include "bench/rows.h"
#include "bench/scaling.h"
#include "bench/scaling_loss.h"
#include "bench/throttled_row.h"
#include "bench/trace_row.h"
#include "bench/twins.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A series of steps of this rank: one in each mode, and a second one of a device alone. */
typedef struct { rm_step *step; double *critical_s; int32_t n; uint64_t window_ns, first_ns, comm_cpu_ns; } series;
typedef struct { series real, self; } mode_result;

typedef struct {
    const bench_options *o;
    bench_session s;
    bool      acts;            /* a ghost, and no engine */
    rm_engine e;
    bench_ghost ghost;
    rm_counters *counters;     /* of the engine's steps */
    int32_t   steps, warmup;
} rank_run;

static bench_subject subject_of(rank_run *r, const rm_source *src) { return (bench_subject){ r->acts ? NULL : &r->e, src, r->acts ? &r->ghost.ghost : NULL }; }

static rm_status take_step(rank_run *r, const rm_source *src, int32_t i, rm_reduce_mode mode, rm_step *out)
{
    r->e.mode = r->ghost.ghost.mode = mode;
    if (!r->acts) return rm_engine_step(&r->e, src, (uint64_t)i, 1e-4, out);
    RM_TRY(rm_ghost_step(&r->ghost.ghost, out));
    rm_counters_read(NULL, &out->counts);
    rm_gpu_watch_read(NULL, &out->gpu);
    return RM_OK;
}

/* A signal may have come to any rank, and all must stop at the same place: who leaves alone lets the others wait for the time-out. */
static rm_status stop_together(rank_run *r)
{
    bool stop;
    RM_TRY(bench_stop_asked(r->s.comm, &stop));
    return stop ? rm_fail(RM_E_INTERRUPTED, "interrupted; finished rows are kept, run it again to go on") : RM_OK;
}

static void series_free(series *s)
{
    free(s->step);
    free(s->critical_s);
}

static rm_status series_new(const rank_run *r, series *out)
{
    out->n = r->steps;
    out->step = calloc((size_t)r->steps, sizeof *out->step);
    out->critical_s = calloc((size_t)r->steps, sizeof *out->critical_s);
    return out->step && out->critical_s ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for step times");
}

/* One step of a series. What the ranks agree on before it is no part of the window. */
static rm_status one_step(rank_run *r, const rm_source *src, int32_t i, rm_reduce_mode mode, series *out)
{
    rm_step s;
    RM_TRY(stop_together(r));
    const uint64_t cpu = rm_comm_cpu_ns(r->s.comm), began = rm_now_ns();
    RM_TRY(take_step(r, src, i, mode, &s));
    if (i == 0) out->first_ns = s.step_ns;
    if (i < r->warmup) return RM_OK;
    out->step[i - r->warmup] = s;
    out->window_ns += rm_now_ns() - began - s.counting_ns;
    out->comm_cpu_ns += rm_comm_cpu_ns(r->s.comm) - cpu;
    const bench_subject subject = subject_of(r, src);
    return bench_blocking_of(&subject, &s, &out->critical_s[i - r->warmup]);
}

/* Training steps from a source: warm-up, then the window. A device alone takes each step with the collectives off and with its own
 * communicator, in the order ABBA, so that neither series profits from its place. */
static rm_status run_steps(rank_run *r, const rm_source *src, const char *what, mode_result *out)
{
    const bool alone = rm_comm_size(r->s.comm) == 1;
    rm_progress p;
    RM_TRY(series_new(r, &out->real));
    if (alone) RM_TRY(series_new(r, &out->self));
    rm_progress_begin(&p, what, "steps", (uint64_t)(r->warmup + r->steps));
    rm_status st = RM_OK;
    for (int32_t i = 0; st == RM_OK && i < r->warmup + r->steps; i++) {
        for (int k = 0; st == RM_OK && k < 1 + alone; k++) {
            const bool self = alone && (k ^ (i & 1));
            st = one_step(r, src, i, alone && !self ? RM_REDUCE_OFF : RM_REDUCE_OVERLAPPED, self ? &out->self : &out->real);
        }
        rm_progress_update(&p, (uint64_t)i + 1, NULL);
    }
    rm_progress_end(&p);
    return st;
}

static rm_status run_synthetic(rank_run *r, mode_result *out)
{
    rm_synthetic y;
    RM_TRY(rm_synthetic_new(r->s.batch, r->s.recipe.px, r->s.classes, (uint64_t)r->o->seed, &y));
    rm_source src = rm_source_synthetic(&y);
    rm_status st = run_steps(r, &src, "synthetic", out);
    rm_synthetic_free(&y);
    return st;
}

static rm_status run_real(rank_run *r, mode_result *out)
{
    const rm_loader_config c = bench_loader_config(&r->s, r->o);
    rm_loader *l;
    RM_TRY(rm_loader_open(r->s.data, &c, &l));
    rm_source src = rm_source_loader(l);
    rm_status st = run_steps(r, &src, "real", out);
    rm_loader_close(l);
    return st;
}

/* The loader alone: a "step" is one batch. */
static rm_status run_data_only(rank_run *r, mode_result *all)
{
    const rm_loader_config c = bench_loader_config(&r->s, r->o);
    rm_loader *l;
    rm_status st = RM_OK;
    series *out = &all->real;
    RM_TRY(series_new(r, out));
    RM_TRY(rm_loader_open(r->s.data, &c, &l));
    int32_t warmup = r->warmup + 4; /* the ring fills ahead of the window: let it drain into steady state */
    uint64_t start = rm_now_ns();
    for (int32_t i = 0; st == RM_OK && i < warmup + r->steps; i++) {
        rm_batch *b;
        uint64_t wait, t0 = rm_now_ns();
        if (i == warmup) start = t0;
        st = rm_loader_next(l, &b, &wait);
        if (st != RM_OK) break;
        rm_loader_release(l, b);
        rm_step s = { .begin_ns = t0, .step_ns = rm_now_ns() - t0 };
        s.budget = (rm_budget){ .window_ns = s.step_ns, .input_ns = s.step_ns };
        rm_counters_read(NULL, &s.counts);
        rm_gpu_watch_read(NULL, &s.gpu);
        if (i == 0) out->first_ns = s.step_ns;
        if (i >= warmup) out->step[i - warmup] = s;
    }
    out->window_ns = rm_now_ns() - start;
    rm_loader_close(l);
    return st;
}

/* ---- gathering */
static rm_status gather_series(rank_run *r, const series *m, json_t **out)
{
    return bench_steps_gather(r->s.comm, &(bench_taken){ m->step, m->n, m->window_ns, m->first_ns, m->comm_cpu_ns, m->critical_s }, out);
}

static rm_status gather_mode(rank_run *r, const mode_result *m, json_t **out)
{
    json_t *self = NULL;
    RM_TRY(gather_series(r, &m->real, out));
    if (m->self.step) RM_TRY(gather_series(r, &m->self, &self));
    if (self) json_object_set_new(*out, "self", self);
    return RM_OK;
}

static rm_status gather_memory(rank_run *r, json_t *root)
{
    uint64_t most;
    RM_TRY(bench_memory_high(r->s.comm, &most));
    json_object_set_new(root, "memory_high_bytes", json_integer((json_int_t)most));
    return RM_OK;
}

/* ---- twins: what the all-reduce costs, on a synthetic batch */
static rm_status run_twins(rank_run *r, json_t *root)
{
    const char *split = bench_split(r->o, &r->s);
    rm_synthetic y;
    json_t *twins = NULL;
    if (rm_comm_size(r->s.comm) == 1 || r->o->no_twins || !strcmp(r->o->input_mode, "data-only")) return RM_OK;
    RM_TRY(rm_synthetic_new(r->s.batch, r->s.recipe.px, r->s.classes, (uint64_t)r->o->seed, &y));
    const rm_source src = rm_source_synthetic(&y);
    const bench_subject subject = subject_of(r, &src);
    const bench_twins_config c = { .split = &split, .n_split = 1, .order = bench_split_order(r->o), .rounds = r->steps > 12 ? r->steps / 3 : 4, .warmup = 1,
                                   .seed = (uint64_t)r->o->seed, .what = "twins" };
    rm_status st = bench_twins_measure(r->s.comm, &subject, &c, &twins);
    rm_synthetic_free(&y);
    if (st == RM_OK) st = stop_together(r);
    if (st == RM_OK && twins) json_object_set_new(root, "twins", twins);
    else json_decref(twins);
    return st;
}

/* ---- a trace: steps with and without it by turns, after all that is timed */
enum { LEAST_PAIRS = 8 };
typedef struct { rm_step_trace trace; double *step_s; int32_t pairs, next; } traced; /* step_s: of each pair traced, then not */

/* Pair < 0 is thrown away. Which of the two comes first is drawn, the same on every rank. */
static rm_status one_pair(rank_run *r, const rm_source *src, traced *t, int32_t pair)
{
    rm_rng g = rm_rng_for((uint64_t)r->o->seed, 0x74726163u, (uint64_t)(pair + 1));
    const bool plain_first = rm_rng_below(&g, 2);
    const rm_reduce_mode mode = rm_comm_size(r->s.comm) == 1 ? RM_REDUCE_OFF : RM_REDUCE_OVERLAPPED;
    for (int k = 0; k < 2; k++) {
        const bool plain = plain_first ^ (k == 1);
        rm_step s;
        RM_TRY(stop_together(r));
        rm_step_trace_pause(&t->trace, &r->e, plain || pair < 0);
        RM_TRY(take_step(r, src, t->next++, mode, &s));
        if (pair >= 0) t->step_s[2 * pair + plain] = rm_s(s.step_ns);
    }
    return RM_OK;
}

static rm_status trace_pairs(rank_run *r, const rm_source *src, traced *t)
{
    rm_progress p;
    rm_status st = rm_step_trace_open(&t->trace, &r->e);
    rm_progress_begin(&p, "trace", "pairs", (uint64_t)t->pairs);
    for (int32_t i = -1; st == RM_OK && i < t->pairs; i++) {
        st = one_pair(r, src, t, i);
        rm_progress_update(&p, (uint64_t)(i + 1), NULL);
    }
    rm_progress_end(&p);
    return st;
}

static rm_status trace_real(rank_run *r, traced *t)
{
    const rm_loader_config c = bench_loader_config(&r->s, r->o);
    rm_loader *l;
    RM_TRY(rm_loader_open(r->s.data, &c, &l));
    const rm_source src = rm_source_loader(l);
    rm_status st = rm_step_trace_set_loader(&t->trace, l);
    if (st == RM_OK) st = trace_pairs(r, &src, t);
    rm_step_trace_forget_loader(&t->trace);
    rm_loader_close(l);
    return st;
}

static rm_status trace_synthetic(rank_run *r, traced *t)
{
    rm_synthetic y;
    RM_TRY(rm_synthetic_new(r->s.batch, r->s.recipe.px, r->s.classes, (uint64_t)r->o->seed, &y));
    const rm_source src = rm_source_synthetic(&y);
    const rm_status st = trace_pairs(r, &src, t);
    rm_synthetic_free(&y);
    return st;
}

/* A step takes as long as its slowest rank. all: (ranks, pairs, 2). */
static rm_status judge_pairs(const double *all, int ranks, int32_t pairs, json_t *out, rm_perturbation *cost)
{
    static const char few[] = "there are too few pairs";
    const size_t n = (size_t)pairs;
    double *v = calloc(2 * n, sizeof *v);
    for (size_t i = 0; v && i < 2 * n; i++)
        for (int k = 0; k < ranks; k++) v[(i % 2) * n + i / 2] = fmax(v[(i % 2) * n + i / 2], all[(size_t)k * 2 * n + i]);
    if (!v) return rm_fail(RM_E_NOMEM, "out of memory for step times");
    *cost = rm_perturbation_paired(v, v + n, n);
    bench_set_perturbation(out, cost, few);
    json_object_set_new(out, "pairs", json_integer(pairs));
    json_object_set_new(out, "traced_step_s", bench_samples(v, n));
    json_object_set_new(out, "untraced_step_s", bench_samples(v + n, n));
    free(v);
    return RM_OK;
}

/* Rank 0 judges and tells the others, for all of them say what tracing cost. */
static rm_status gather_pairs(rank_run *r, const traced *t, json_t *out, rm_perturbation *cost)
{
    const int size = rm_comm_size(r->s.comm), rank = rm_comm_rank(r->s.comm);
    const size_t bytes = 2 * (size_t)t->pairs * sizeof *t->step_s;
    double *all = malloc(bytes * (size_t)size);
    rm_status st = all ? rm_comm_host_gather(r->s.comm, t->step_s, bytes, all) : rm_fail(RM_E_NOMEM, "out of memory gathering step times");
    if (st == RM_OK && rank == 0) st = judge_pairs(all, size, t->pairs, out, cost);
    if (st == RM_OK) st = rm_comm_host_broadcast(r->s.comm, cost, sizeof *cost, 0);
    free(all);
    return st;
}

static rm_status write_trace(rank_run *r, traced *t, const rm_perturbation *cost, json_t *out)
{
    char files[RM_TRACE_PATH];
    bool cut;
    RM_TRY(bench_trace_end(r->s.comm, &r->e, &t->trace, cost, files, sizeof files, &cut));
    json_object_set_new(out, "files", json_string(files));
    if (t->trace.file[0]) json_object_set_new(out, "file", json_string(t->trace.file));
    else bench_set_null(out, "file", "it could not be written");
    json_object_set_new(out, "cut", json_boolean(cut));
    bench_set_kernel_times(out, &t->trace.times);
    return RM_OK;
}

static rm_status run_trace(rank_run *r, json_t *root)
{
    const bench_options *o = r->o;
    const bool real = r->s.data && strcmp(o->input_mode, "synthetic");
    traced t = { .trace = { .path = o->trace, .sweep_n = rm_comm_size(r->s.comm) }, .pairs = r->steps > LEAST_PAIRS ? r->steps : LEAST_PAIRS };
    rm_perturbation cost = { 0 };
    if (!o->trace[0]) return RM_OK;
    t.trace.to = (uint64_t)t.pairs - 1;
    json_t *out = json_object();
    t.step_s = calloc(2 * (size_t)t.pairs, sizeof *t.step_s);
    rm_status st = t.step_s && out ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for step times");
    if (st == RM_OK) st = real ? trace_real(r, &t) : trace_synthetic(r, &t);
    if (st == RM_OK) st = gather_pairs(r, &t, out, &cost);
    if (st == RM_OK) st = write_trace(r, &t, &cost, out);
    else rm_step_trace_drop(&t.trace, &r->e);
    if (st == RM_OK) json_object_set(root, "trace", out);
    json_decref(out);
    free(t.step_s);
    return st;
}

static rm_status to_accuracy(rank_run *r, json_t *root)
{
    const bench_options *o = r->o;
    rm_train_result t = { 0 };
    if (!r->s.data) return RM_OK;
    rm_train_config c = {
        .recipe = &r->s.recipe, .data = r->s.data, .classes = r->s.classes, .batch = r->s.batch, .workers = o->workers, .eval_batch = r->s.eval_batch,
        .dtype = r->s.dtype, .seed = (uint64_t)o->seed, .no_record = o->no_record, .epochs = -1, .target_top1 = o->target >= 0 ? o->target : r->s.recipe.target_top1, .save_dir = "",
        .split = bench_split(r->o, &r->s), .split_order = bench_split_order(o), .update_on_arrival = o->update_on_arrival, .mllog = o->mllog, .bad = r->s.bad, .max_bad = o->max_bad,
        .start_ns = rm_now_ns(), .interrupted = bench_signal,
    };
    rm_status st = rm_train(r->s.device, r->s.comm, &c, &t);
    if (st == RM_OK && root)
        json_object_set_new(root, "to_accuracy", json_pack("{s:o, s:f, s:f, s:f}", "time_to_accuracy_s", t.time_to_accuracy_s >= 0 ? json_real(t.time_to_accuracy_s) : json_null(),
                                                           "final_top1", t.final_top1, "target_top1", c.target_top1, "run_s", t.run_s));
    rm_train_result_free(&t);
    return st;
}

static rm_status measure_modes(rank_run *r, json_t *root)
{
    static const struct { const char *name; rm_status (*run)(rank_run *, mode_result *); bool needs_data; } modes[] = {
        { "synthetic", run_synthetic, false }, { "data-only", run_data_only, true }, { "real", run_real, true },
    };
    json_t *all = json_object();
    rm_status st = RM_OK;
    for (size_t i = 0; st == RM_OK && i < RM_COUNT(modes); i++) {
        mode_result m = { 0 };
        json_t *one = NULL;
        if (modes[i].needs_data && !r->s.data) continue;
        if (strcmp(r->o->input_mode, "all") && strcmp(r->o->input_mode, modes[i].name)) continue;
        st = modes[i].run(r, &m);
        if (st == RM_OK) st = gather_mode(r, &m, &one);
        if (st == RM_OK && one) json_object_set_new(all, modes[i].name, one);
        series_free(&m.real);
        series_free(&m.self);
    }
    json_object_set_new(root, "modes", all);
    return st;
}

/* What ran. A ghost has the name of what it acts. */
static void describe(const rank_run *r, json_t *root)
{
    const json_t *m = r->ghost.part.measured;
    char device[64];
    snprintf(device, sizeof device, "%s%s", m ? "ghost of " : "", bench_row_text_or(m, "device", r->s.info.device));
    const struct {
        const char *key, *text;
    } texts[] = {
        { "device", device },
        { "device_name", bench_row_text_or(m, "device_name", r->s.info.name) },
        { "library", bench_row_text_or(m, "library", r->s.info.library) },
        { "dtype", bench_row_text_or(m, "dtype", rm_dtype_name(r->s.dtype)) },
        { "comm_library", rm_comm_library(r->s.comm) },
        { "split", bench_split(r->o, &r->s) },
        { "wire", bench_wire(r->o) == RM_BF16 ? "bf16" : "fp32" },
    };
    for (size_t i = 0; i < RM_COUNT(texts); i++) json_object_set_new(root, texts[i].key, json_string(texts[i].text));
    json_object_set_new(root, "hosts", bench_hosts_json(r->s.comm));
    json_object_set_new(root, "ghost", json_boolean(r->acts));
    json_object_set_new(root, "counters_why", bench_counters_why(r->counters));
    bench_note_watch(root, r->s.watch);
    json_object_set_new(root, "batch", json_integer(r->s.batch));
    json_object_set_new(root, "micro_batches", json_integer(r->s.recipe.accumulate));
    json_object_set_new(root, "px", json_integer(r->s.recipe.px));
    json_object_set_new(root, "threads", m ? json_incref(json_object_get(m, "threads")) : json_integer(r->s.info.threads));
    json_object_set_new(root, "buckets", json_integer(r->acts ? r->ghost.ghost.buckets.n : r->e.buckets.n));
}

/* What steps: an engine, or a ghost of one. */
static rm_status subject_new(rank_run *r)
{
    const bench_options *o = r->o;
    const int size = rm_comm_size(r->s.comm);
    const bool injects = size > 1 && o->inject[0]; /* into one rank, maybe, and recording is for all or none */
    if (r->acts) RM_TRY(bench_ghost_new(o, &r->s, bench_split(r->o, &r->s), &r->ghost));
    else {
        const rm_engine_config ec = { .recipe = &r->s.recipe, .dtype = r->s.dtype, .px = r->s.recipe.px, .batch = r->s.batch, .classes = r->s.classes, .no_fuse = o->no_fuse,
                                      .timers = !o->no_timers, .no_record = o->no_record || injects, .split = bench_split(r->o, &r->s), .split_order = bench_split_order(o), .update_on_arrival = o->update_on_arrival,
                                      .seed = (uint64_t)o->seed };
        RM_TRY(rm_engine_new(r->s.device, r->s.comm, &ec, &r->e));
        RM_TRY(rm_counters_open(&r->counters));
        r->e.counters = r->counters;
        r->e.watch = r->s.watch;
    }
    if (size > 1) RM_TRY(bench_inject_parse(o->inject, rm_comm_rank(r->s.comm), size, NULL, &r->e.inject));
    r->ghost.ghost.inject = r->e.inject;
    return RM_OK;
}

static rm_status share_batch(rank_run *r)
{
    const int size = rm_comm_size(r->s.comm);
    if (!r->o->strong) return RM_OK;
    if (r->s.batch % size) return rm_fail(RM_E_ARG, "--strong: the global batch %d is not a multiple of %d devices", r->s.batch, size);
    r->s.batch /= size;
    return RM_OK;
}

rm_status bench_scaling_rank(const bench_options *o, json_t **out)
{
    bench_options own = *o;
    rank_run r = { .o = &own, .acts = bench_is_ghost(), .steps = o->steps ? o->steps : BENCH_DEFAULT_STEPS, .warmup = o->warmup >= 0 ? o->warmup : BENCH_DEFAULT_WARMUP };
    rm_status st = RM_OK;
    json_t *root = json_object();
    if (r.acts) own.data = "synthetic", own.device = "null", own.dtype = "";
    RM_TRY_GOTO(st, bench_session_plan(&own, "tiny", &r.s), out);
    RM_TRY_GOTO(st, bench_session_device(&own, &r.s), out);
    RM_TRY_GOTO(st, share_batch(&r), out);
    RM_TRY_GOTO(st, subject_new(&r), out);
    RM_TRY_GOTO(st, measure_modes(&r, root), out);
    RM_TRY_GOTO(st, run_twins(&r, root), out);
    RM_TRY_GOTO(st, run_trace(&r, root), out);
    RM_TRY_GOTO(st, gather_memory(&r, root), out);
    describe(&r, root);
    rm_engine_free(&r.e);
    if (o->to_accuracy) RM_TRY_GOTO(st, to_accuracy(&r, root), out);
    if (rm_comm_rank(r.s.comm) == 0) *out = json_incref(root);
out:
    json_decref(root);
    rm_engine_free(&r.e);
    rm_counters_close(r.counters);
    bench_ghost_free(&r.ghost);
    bench_session_close(&r.s);
    return st;
}
