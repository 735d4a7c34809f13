/* The ranks' side of bench scaling: synthetic, data-only and real steps, gathered on rank 0. */
#include "base/clock.h"
#include "base/log.h"
#include "bench/commands.h"
#include "bench/scaling.h"
#include <stdlib.h>
#include <string.h>

/* One measured mode of this rank. */
typedef struct { rm_step *step; int32_t n; uint64_t window_ns, first_ns; } mode_result;

typedef struct {
    const bench_options *o;
    bench_session s;
    rm_engine e;
    int32_t   steps, warmup;
} rank_run;

static rm_loader_config loader_config(const rank_run *r)
{
    const rm_recipe *q = &r->s.recipe;
    return (rm_loader_config){
        .part = RM_TRAIN, .batch = r->s.batch, .px = q->px, .workers = r->o->workers, .seed = (uint64_t)r->o->seed, .rank = rm_comm_rank(r->s.comm),
        .ranks = rm_comm_size(r->s.comm), .shuffle = true, .drop_last = true, .bad = r->s.bad, .max_bad_share = r->o->max_bad,
        .crop = { q->crop_scale_min, q->crop_scale_max, q->crop_ratio_min, q->crop_ratio_max, q->flip },
    };
}

static rm_status stop_if_asked(void) { return bench_signal() ? rm_fail(RM_E_INTERRUPTED, "interrupted; finished rows are kept, run it again to go on") : RM_OK; }

/* Training steps from a source: warm-up, a barrier, then the window. */
static rm_status run_steps(rank_run *r, const rm_source *src, const char *what, mode_result *out)
{
    rm_progress p;
    rm_status st = RM_OK;
    out->n = r->steps;
    out->step = calloc((size_t)r->steps, sizeof *out->step);
    if (!out->step) return rm_fail(RM_E_NOMEM, "out of memory for step times");
    rm_progress_begin(&p, what, "steps", (uint64_t)(r->warmup + r->steps));
    uint64_t start = rm_now_ns();
    for (int32_t i = 0; st == RM_OK && i < r->warmup + r->steps; i++) {
        rm_step s;
        if (i == r->warmup) {
            st = rm_comm_barrier(r->s.comm);
            start = rm_now_ns();
        }
        if (st == RM_OK) st = stop_if_asked();
        if (st == RM_OK) st = rm_engine_step(&r->e, src, (uint64_t)i, 1e-4, &s);
        if (st == RM_OK && i == 0) out->first_ns = s.step_ns;
        if (st == RM_OK && i >= r->warmup) out->step[i - r->warmup] = s;
        rm_progress_update(&p, (uint64_t)i + 1, NULL);
    }
    out->window_ns = rm_now_ns() - start;
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
    rm_loader_config c = loader_config(r);
    rm_loader *l;
    RM_TRY(rm_loader_open(r->s.data, &c, &l));
    rm_source src = rm_source_loader(l);
    rm_status st = run_steps(r, &src, "real", out);
    rm_loader_close(l);
    return st;
}

/* The loader alone: a "step" is one batch. */
static rm_status run_data_only(rank_run *r, mode_result *out)
{
    rm_loader_config c = loader_config(r);
    rm_loader *l;
    rm_status st = RM_OK;
    out->n = r->steps;
    out->step = calloc((size_t)r->steps, sizeof *out->step);
    if (!out->step) return rm_fail(RM_E_NOMEM, "out of memory for step times");
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
        if (i == 0) out->first_ns = s.step_ns;
        if (i >= warmup) out->step[i - warmup] = s;
    }
    out->window_ns = rm_now_ns() - start;
    rm_loader_close(l);
    return st;
}

/* ---- gathering */
typedef struct { double step_s, compute_s, comm_s, copy_s, input_s, host_s; } terms;
static terms terms_of(const rm_step *s)
{
    return (terms){ rm_s(s->step_ns), rm_s(s->budget.compute_ns), rm_s(s->budget.exposed_comm_ns), rm_s(s->budget.exposed_copy_ns), rm_s(s->budget.input_ns), rm_s(s->budget.host_ns) };
}

static json_t *terms_json(const terms *t)
{
    return json_pack("[f, f, f, f, f, f]", t->step_s, t->compute_s, t->comm_s, t->copy_s, t->input_s, t->host_s);
}

/* {"window_s", "first_s", "ranks": [[[step, compute, comm, copy, input, host], ...steps], ...ranks]} on rank 0. */
static rm_status gather_mode(rank_run *r, const mode_result *m, json_t **out)
{
    int size = rm_comm_size(r->s.comm);
    size_t mine = (size_t)m->n * sizeof(terms);
    double window[2] = { rm_s(m->window_ns), rm_s(m->first_ns) };
    terms *own = malloc(mine), *all = malloc(mine * (size_t)size);
    rm_status st = own && all ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory gathering step times");
    for (int32_t i = 0; st == RM_OK && i < m->n; i++) own[i] = terms_of(&m->step[i]);
    if (st == RM_OK) st = rm_comm_host_gather(r->s.comm, own, mine, all);
    if (st == RM_OK) st = rm_comm_host_reduce(r->s.comm, window, 2, RM_F64, RM_MAX);
    if (st == RM_OK && rm_comm_rank(r->s.comm) == 0) {
        json_t *ranks = json_array();
        for (int k = 0; k < size; k++) {
            json_t *steps = json_array();
            for (int32_t i = 0; i < m->n; i++) json_array_append_new(steps, terms_json(&all[(size_t)k * (size_t)m->n + (size_t)i]));
            json_array_append_new(ranks, steps);
        }
        *out = json_pack("{s:f, s:f, s:o}", "window_s", window[0], "first_s", window[1], "ranks", ranks);
    }
    free(own);
    free(all);
    return st;
}

static rm_status to_accuracy(rank_run *r, json_t *root)
{
    const bench_options *o = r->o;
    rm_train_result t = { 0 };
    if (!r->s.data) return RM_OK;
    rm_train_config c = {
        .recipe = &r->s.recipe, .data = r->s.data, .classes = r->s.classes, .batch = r->s.batch, .workers = o->workers, .eval_batch = r->s.eval_batch,
        .dtype = r->s.dtype, .seed = (uint64_t)o->seed, .epochs = -1, .target_top1 = o->target >= 0 ? o->target : r->s.recipe.target_top1, .save_dir = "",
        .split = o->split[0] ? o->split : r->s.recipe.split, .mllog = o->mllog, .bad = r->s.bad, .max_bad = o->max_bad, .start_ns = rm_now_ns(), .interrupted = bench_signal,
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
        free(m.step);
    }
    json_object_set_new(root, "modes", all);
    return st;
}

rm_status bench_scaling_rank(const bench_options *o, json_t **out)
{
    rank_run r = { .o = o, .steps = o->steps ? o->steps : BENCH_DEFAULT_STEPS, .warmup = o->warmup >= 0 ? o->warmup : BENCH_DEFAULT_WARMUP };
    rm_status st = RM_OK;
    json_t *root = json_object();
    RM_TRY(bench_session_plan(o, "tiny", &r.s));
    RM_TRY_GOTO(st, bench_session_device(o, &r.s), out);
    int size = rm_comm_size(r.s.comm);
    if (o->strong) {
        if (r.s.batch % size) RM_TRY_GOTO(st, rm_fail(RM_E_ARG, "--strong: the global batch %d is not a multiple of %d devices", r.s.batch, size), out);
        r.s.batch /= size;
    }
    rm_engine_config ec = { .recipe = &r.s.recipe, .dtype = r.s.dtype, .px = r.s.recipe.px, .batch = r.s.batch, .classes = r.s.classes, .no_fuse = o->no_fuse,
                            .timers = !o->no_timers, .split = o->split[0] ? o->split : r.s.recipe.split, .seed = (uint64_t)o->seed };
    RM_TRY_GOTO(st, rm_engine_new(r.s.device, r.s.comm, &ec, &r.e), out);
    RM_TRY_GOTO(st, measure_modes(&r, root), out);
    rm_engine_free(&r.e);
    if (o->to_accuracy) RM_TRY_GOTO(st, to_accuracy(&r, root), out);
    if (rm_comm_rank(r.s.comm) == 0) {
        json_object_set_new(root, "device", json_string(r.s.info.device));
        json_object_set_new(root, "device_name", json_string(r.s.info.name));
        json_object_set_new(root, "library", json_string(r.s.info.library));
        json_object_set_new(root, "dtype", json_string(rm_dtype_name(r.s.dtype)));
        json_object_set_new(root, "batch", json_integer(r.s.batch));
        json_object_set_new(root, "px", json_integer(r.s.recipe.px));
        json_object_set_new(root, "threads", json_integer(r.s.info.threads));
        json_object_set_new(root, "comm_library", json_string(rm_comm_library(r.s.comm)));
        *out = json_incref(root);
    }
out:
    json_decref(root);
    rm_engine_free(&r.e);
    bench_session_close(&r.s);
    return st;
}
