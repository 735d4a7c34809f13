#include "model/train.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/checkpoint.h"
#include "model/mllog.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Everything one training run carries from step to step. */
typedef struct {
    const rm_train_config *cfg;
    rm_comm     *comm;
    int          threads;                     /* of the device */
    rm_engine    engine;
    rm_loader   *loader;
    rm_synthetic synthetic;
    rm_source    source;
    int32_t      stage_px[RM_RECIPE_STAGES];
    uint64_t     stage_end[RM_RECIPE_STAGES]; /* first step after the stage */
    uint32_t     n_stage;
    uint64_t     steps_per_epoch, total, step;
    uint64_t     global_batch;
    double       best_top1, trained_s;
    uint64_t     skipped_before;              /* by loaders closed since */
    rm_mllog    *mllog;
    rm_step_trace trace;
    rm_progress  progress;
    rm_train_result *r;
    double       epoch_loss; uint64_t epoch_steps, epoch_ns;
} run;

static bool lead(const run *t) { return rm_comm_rank(t->comm) == 0; }

/* ---- the plan of a run */
static rm_status plan_steps(run *t)
{
    const rm_train_config *c = t->cfg;
    const rm_recipe *r = c->recipe;
    int32_t parts = r->accumulate > 1 ? r->accumulate : 1;
    t->global_batch = (uint64_t)c->batch * (uint64_t)rm_comm_size(t->comm) * (uint64_t)parts;
    uint64_t images = c->data ? rm_dataset_count(c->data, RM_TRAIN) : 0;
    t->steps_per_epoch = c->data ? images / t->global_batch : 100;
    if (!t->steps_per_epoch)
        return rm_fail(RM_E_ARG, "a global batch of %llu images is larger than the training part of %s (%llu images): lower --batch",
                       (unsigned long long)t->global_batch, rm_dataset_dir(c->data), (unsigned long long)images);
    double epoch[RM_RECIPE_STAGES], sum = 0;
    RM_TRY(rm_recipe_stages(r, t->stage_px, epoch, &t->n_stage));
    for (uint32_t i = 0; i < t->n_stage; i++) sum += epoch[i];
    if (!t->n_stage) {
        t->n_stage = 1;
        t->stage_px[0] = r->px;
        epoch[0] = sum = 1;
    }
    double epochs = c->epochs > 0 ? c->epochs : r->epochs;
    t->total = c->max_steps ? c->max_steps : (uint64_t)llround(epochs * (double)t->steps_per_epoch);
    if (!t->total) t->total = 1;
    double done = 0;
    for (uint32_t i = 0; i < t->n_stage; i++) {
        done += epoch[i];
        t->stage_end[i] = (uint64_t)llround(done / sum * (double)t->total);
    }
    t->stage_end[t->n_stage - 1] = t->total;
    return RM_OK;
}

static uint32_t stage_of(const run *t, uint64_t step)
{
    uint32_t i = 0;
    while (i + 1 < t->n_stage && step >= t->stage_end[i]) i++;
    return i;
}

static void close_source(run *t)
{
    rm_loader_stats s;
    if (t->loader) {
        rm_loader_get_stats(t->loader, &s);
        t->skipped_before += s.bad;
        rm_step_trace_forget_loader(&t->trace);
        rm_loader_close(t->loader);
        t->loader = NULL;
    }
    rm_synthetic_free(&t->synthetic);
}

/* (Re)opens the source at the next step, for the stage's image size. */
static rm_status open_source(run *t)
{
    const rm_train_config *c = t->cfg;
    const rm_recipe *r = c->recipe;
    int32_t px = t->stage_px[stage_of(t, t->step)];
    close_source(t);
    RM_TRY(rm_engine_resize(&t->engine, px));
    if (!c->data) {
        RM_TRY(rm_synthetic_new(c->batch, px, c->classes, c->seed, &t->synthetic));
        t->source = rm_source_synthetic(&t->synthetic);
        return RM_OK;
    }
    int32_t parts = r->accumulate > 1 ? r->accumulate : 1;
    uint64_t batches = t->steps_per_epoch * (uint64_t)parts, at = t->step * (uint64_t)parts;
    rm_loader_config lc = {
        .part = RM_TRAIN, .batch = c->batch, .px = px, .workers = c->workers, .seed = c->seed, .rank = rm_comm_rank(t->comm),
        .ranks = rm_comm_size(t->comm), .shuffle = true, .drop_last = true, .group = parts, .start_epoch = at / batches, .start_batch = at % batches,
        .crop = { r->crop_scale_min, r->crop_scale_max, r->crop_ratio_min, r->crop_ratio_max, r->flip }, .bad = c->bad, .max_bad_share = c->max_bad,
    };
    RM_TRY(rm_loader_open(c->data, &lc, &t->loader));
    t->source = rm_source_loader(t->loader);
    return rm_step_trace_set_loader(&t->trace, t->loader);
}

/* ---- checkpoints */
static const char *run_name(const run *t) { return t->cfg->recipe->name[0] ? t->cfg->recipe->name : "checkpoint"; }

static rm_status save(run *t)
{
    const rm_train_config *c = t->cfg;
    if (!c->save_dir[0]) return RM_OK;
    RM_TRY(rm_engine_average_stats(&t->engine));
    if (!lead(t)) return RM_OK;
    char base[512];
    rm_train_state s = { .step = t->step, .seed = c->seed, .global_batch = t->global_batch, .best_top1 = t->best_top1, .trained_s = t->trained_s };
    snprintf(s.recipe, sizeof s.recipe, "%s", c->recipe->name);
    rm_ckpt_path(base, sizeof base, c->save_dir, run_name(t), t->step);
    rm_status st = rm_engine_save(&t->engine, base, &s);
    if (st != RM_OK) { /* the earlier checkpoint stays and training goes on; the exit code will say so */
        rm_warn("checkpoint not written: %s", rm_last_error());
        t->r->not_saved = true;
        return RM_OK;
    }
    snprintf(t->r->newest, sizeof t->r->newest, "%s.safetensors", base);
    return rm_ckpt_prune(c->save_dir, run_name(t), c->keep);
}

/* The step at which this run goes on: the same one, or with another global batch the one that begins at the same image of the same
 * epoch. The order of an epoch depends on its number and the seed alone. */
static rm_status resume_step(const run *t, const rm_train_state *s, const char *base, uint64_t *out)
{
    *out = s->step;
    if (s->global_batch == t->global_batch || !t->cfg->data) return RM_OK;
    const uint64_t images = rm_dataset_count(t->cfg->data, RM_TRAIN), each = s->global_batch ? images / s->global_batch : 0;
    if (!each) return rm_fail(RM_E_ARG, "%s was trained with a global batch of %llu images, more than %s has", base, (unsigned long long)s->global_batch, rm_dataset_dir(t->cfg->data));
    const uint64_t into = s->step % each * s->global_batch;
    if (into % t->global_batch)
        return rm_fail(RM_E_ARG, "%s ends %llu images into an epoch, where no step of %llu images begins: choose --batch and --gpus so that ranks x batch is %llu or another divisor of that",
                       base, (unsigned long long)into, (unsigned long long)t->global_batch, (unsigned long long)s->global_batch);
    *out = s->step / each * t->steps_per_epoch + into / t->global_batch;
    return RM_OK;
}

/* Rank 0 looks; all ranks load the same file. */
static rm_status resume(run *t)
{
    const rm_train_config *c = t->cfg;
    struct { char base[512]; uint64_t step; int32_t status; } found = { .base = "" };
    if (lead(t)) found.status = rm_ckpt_latest(c->save_dir, run_name(t), found.base, sizeof found.base, &found.step);
    RM_TRY(rm_comm_host_broadcast(t->comm, &found, sizeof found, 0));
    if (found.status != RM_OK) return lead(t) ? (rm_status)found.status : rm_fail((rm_status)found.status, "rank 0 could not look for checkpoints in %s", c->save_dir);
    if (!found.base[0]) {
        if (lead(t)) rm_info("no checkpoint in %s: starting anew", c->save_dir);
        return RM_OK;
    }
    rm_train_state s;
    RM_TRY(rm_engine_load(&t->engine, found.base, true, &s));
    if (strcmp(s.recipe, c->recipe->name))
        return rm_fail(RM_E_ARG, "%s was trained with recipe %s, not %s: choose another --save-dir or the same --recipe", found.base, s.recipe, c->recipe->name);
    if (s.seed != c->seed)
        return rm_fail(RM_E_ARG, "%s was trained with seed %llu, not %llu: give --seed %llu", found.base, (unsigned long long)s.seed,
                       (unsigned long long)c->seed, (unsigned long long)s.seed);
    RM_TRY(resume_step(t, &s, found.base, &t->step));
    t->best_top1 = s.best_top1;
    t->trained_s = s.trained_s;
    t->r->resumed_from = t->step;
    snprintf(t->r->newest, sizeof t->r->newest, "%s.safetensors", found.base);
    if (lead(t)) rm_info("resuming %s at step %llu of %llu", found.base, (unsigned long long)t->step, (unsigned long long)t->total);
    return RM_OK;
}

/* ---- log */
static void log_start(run *t)
{
    const rm_recipe *r = t->cfg->recipe;
    rm_mllog *l = t->mllog;
    char optimizer[32];
    snprintf(optimizer, sizeof optimizer, "\"%s\"", r->optimizer);
    rm_mllog_event(l, RM_ML_POINT, "submission_benchmark", "\"resnet\"", -1);
    rm_mllog_event(l, RM_ML_POINT, "submission_division", "\"open\"", -1);
    rm_mllog_event(l, RM_ML_POINT, "submission_status", "\"research\"", -1);
    rm_mllog_event(l, RM_ML_POINT, "cache_clear", "false", -1);
    rm_mllog_number(l, RM_ML_POINT, "seed", (double)t->cfg->seed, -1);
    rm_mllog_number(l, RM_ML_POINT, "global_batch_size", (double)t->global_batch, -1);
    rm_mllog_number(l, RM_ML_POINT, "train_samples", t->cfg->data ? rm_dataset_count(t->cfg->data, RM_TRAIN) : 0, -1);
    rm_mllog_number(l, RM_ML_POINT, "eval_samples", t->cfg->data ? rm_dataset_count(t->cfg->data, RM_VAL) : 0, -1);
    rm_mllog_event(l, RM_ML_POINT, "opt_name", optimizer, -1);
    rm_mllog_number(l, RM_ML_POINT, "opt_base_learning_rate", r->lr, -1);
    rm_mllog_number(l, RM_ML_POINT, "opt_learning_rate_warmup_epochs", r->warmup_epochs, -1);
    rm_mllog_number(l, RM_ML_POINT, "opt_weight_decay", r->weight_decay, -1);
    rm_mllog_number(l, RM_ML_POINT, "opt_momentum", r->momentum, -1);
    rm_mllog_event(l, RM_ML_END, "init_stop", "null", -1);
    rm_mllog_event(l, RM_ML_START, "run_start", "null", -1);
}

static rm_status add_step(run *t, const rm_step *s)
{
    rm_train_result *r = t->r;
    if ((r->n_step & (r->n_step + 1)) == 0 || !r->step_s) { /* grow at powers of two */
        uint64_t cap = 2 * (r->n_step + 1);
        double **const series[] = { &r->step_s, &r->loss, &r->disturbed };
        for (size_t i = 0; i < RM_COUNT(series); i++) {
            double *grown = realloc(*series[i], cap * sizeof *grown);
            if (!grown) return rm_fail(RM_E_NOMEM, "out of memory for step times");
            *series[i] = grown;
        }
        int32_t *px = realloc(r->step_px, cap * sizeof *px);
        if (!px) return rm_fail(RM_E_NOMEM, "out of memory for step times");
        r->step_px = px;
        rm_gpu_reading *gpu = realloc(r->gpu, cap * sizeof *gpu);
        if (!gpu) return rm_fail(RM_E_NOMEM, "out of memory for step times");
        r->gpu = gpu;
    }
    r->step_s[r->n_step] = rm_s(s->step_ns);
    r->step_px[r->n_step] = t->engine.cfg.px;
    r->gpu[r->n_step] = s->gpu;
    r->disturbed[r->n_step] = rm_counts_disturbed(&s->counts, t->threads);
    r->loss[r->n_step++] = s->loss;
    rm_counts_add(&r->counts, &s->counts);
    rm_budget_add(&r->total, &s->budget);
    r->images += t->global_batch;
    t->epoch_loss += s->loss;
    t->epoch_steps++;
    t->epoch_ns += s->step_ns;
    return RM_OK;
}

/* ---- epochs */
static rm_status evaluate(run *t, rm_epoch_row *row)
{
    const rm_train_config *c = t->cfg;
    rm_eval_result e;
    rm_mllog_event(t->mllog, RM_ML_START, "eval_start", "null", (int64_t)row->epoch);
    RM_TRY(rm_engine_eval(&t->engine, c->data, c->eval_batch, c->workers, c->bad, c->max_bad, &e));
    row->evaluated = true;
    row->top1 = 100.0 * (double)e.top1 / (double)e.images;
    row->top5 = 100.0 * (double)e.top5 / (double)e.images;
    row->eval_loss = e.loss;
    rm_mllog_number(t->mllog, RM_ML_POINT, "eval_accuracy", row->top1 / 100.0, (int64_t)row->epoch);
    rm_mllog_event(t->mllog, RM_ML_END, "eval_stop", "null", (int64_t)row->epoch);
    rm_train_result *r = t->r;
    r->evaluated = true;
    r->final_top1 = row->top1;
    r->final_top5 = row->top5;
    r->final_loss = e.loss;
    r->eval_s += e.seconds;
    if (row->top1 > t->best_top1) t->best_top1 = row->top1;
    if (c->target_top1 > 0 && row->top1 >= c->target_top1 && r->time_to_accuracy_s < 0)
        r->time_to_accuracy_s = t->trained_s + rm_s(rm_now_ns() - c->start_ns);
    return RM_OK;
}

static bool eval_due(const run *t, uint64_t epoch, bool last)
{
    int32_t every = t->cfg->recipe->eval_every;
    if (!t->cfg->data) return false;
    return last || (every > 0 && epoch % (uint64_t)every == 0);
}

static rm_status end_epoch(run *t, double lr, bool last)
{
    rm_train_result *r = t->r;
    uint64_t epoch = (t->step + t->steps_per_epoch - 1) / t->steps_per_epoch;
    rm_epoch_row row = { .epoch = epoch, .lr = lr, .train_loss = t->epoch_loss / (double)t->epoch_steps,
                         .images_per_s = (double)(t->epoch_steps * t->global_batch) / rm_s(t->epoch_ns) };
    rm_mllog_event(t->mllog, RM_ML_END, "epoch_stop", "null", (int64_t)epoch);
    if (eval_due(t, epoch, last)) RM_TRY(evaluate(t, &row));
    row.time_s = rm_s(rm_now_ns() - t->cfg->start_ns);
    rm_epoch_row *grown = realloc(r->epoch, (r->n_epoch + 1) * sizeof *grown);
    if (!grown) return rm_fail(RM_E_NOMEM, "out of memory for the epoch table");
    r->epoch = grown;
    r->epoch[r->n_epoch++] = row;
    if (lead(t)) {
        char accuracy[64] = "";
        if (row.evaluated) snprintf(accuracy, sizeof accuracy, "  top-1 %.2f %%  top-5 %.2f %%", row.top1, row.top5);
        rm_progress_end(&t->progress);
        rm_info("epoch %llu  loss %.4f%s  %.1f images/s  %.1f s", (unsigned long long)epoch, row.train_loss, accuracy, row.images_per_s, row.time_s);
    }
    t->epoch_loss = 0;
    t->epoch_steps = t->epoch_ns = 0;
    return RM_OK;
}

/* All ranks agree on stopping, whoever got the signal. */
static rm_status stop_asked(run *t, bool *out)
{
    int32_t asked = t->cfg->interrupted && t->cfg->interrupted();
    if (rm_comm_size(t->comm) > 1) RM_TRY(rm_comm_host_reduce(t->comm, &asked, 1, RM_I32, RM_MAX));
    *out = asked != 0;
    return RM_OK;
}

static bool save_due(const run *t, bool epoch_end)
{
    uint64_t every = t->cfg->save_every_steps;
    return every ? t->step % every == 0 : epoch_end;
}

static rm_status one_step(run *t, double *lr)
{
    const rm_recipe *r = t->cfg->recipe;
    rm_step s;
    if (t->stage_px[stage_of(t, t->step)] != t->engine.cfg.px) RM_TRY(open_source(t));
    if (t->step % t->steps_per_epoch == 0) rm_mllog_event(t->mllog, RM_ML_START, "epoch_start", "null", (int64_t)(t->step / t->steps_per_epoch + 1));
    *lr = rm_recipe_lr(r, t->step, t->steps_per_epoch, t->total, (uint32_t)t->global_batch);
    RM_TRY(rm_step_trace_before(&t->trace, &t->engine, t->r->n_step));
    RM_TRY(rm_engine_step(&t->engine, &t->source, t->step, *lr, &s));
    t->step++;
    RM_TRY(add_step(t, &s));
    if (lead(t)) {
        char note[48];
        snprintf(note, sizeof note, "loss %.3f", s.loss);
        rm_progress_update(&t->progress, (t->step - t->r->resumed_from) * t->global_batch, note);
    }
    return RM_OK;
}

static void tell(const run *t)
{
    if (lead(t) && t->cfg->after_step) t->cfg->after_step(t->cfg->after_step_ctx, t->step, t->r->newest);
}

/* A peer was lost: how far we had come, and what there is to go on from. */
static rm_status lost_at(const run *t, rm_status st)
{
    char why[1024];
    if (st != RM_E_PEER) return st;
    snprintf(why, sizeof why, "%s", rm_last_error());
    return rm_fail(st, "%s; in step %llu%s%s", why, (unsigned long long)t->step, t->r->newest[0] ? "; newest checkpoint: " : "", t->r->newest);
}

static rm_status loop(run *t)
{
    const rm_train_config *c = t->cfg;
    tell(t);
    while (t->step < t->total) {
        double lr;
        bool stop;
        RM_TRY(one_step(t, &lr));
        bool last = t->step == t->total, epoch_end = last || t->step % t->steps_per_epoch == 0;
        if (epoch_end) RM_TRY(end_epoch(t, lr, last));
        RM_TRY(stop_asked(t, &stop));
        bool reached = t->r->time_to_accuracy_s >= 0;
        if (stop || reached || save_due(t, epoch_end) || last) RM_TRY(save(t));
        tell(t);
        if (stop) {
            RM_TRY(rm_comm_host_broadcast(t->comm, t->r->newest, sizeof t->r->newest, 0)); /* rank 0 alone knows; any rank may be the one to speak */
            const char *where = t->r->newest[0] ? t->r->newest : c->save_dir[0] ? "no checkpoint could be written" : "no checkpoint: give --save-dir to keep one";
            return rm_fail(RM_E_INTERRUPTED, "interrupted at step %llu; saved: %s", (unsigned long long)t->step, where);
        }
        if (reached && c->target_top1 > 0) break;
    }
    return RM_OK;
}

static void summarise(run *t)
{
    rm_train_result *r = t->r;
    uint64_t n = r->n_step, cut = n > 2 * t->steps_per_epoch ? t->steps_per_epoch : n > 20 ? 10 : 0;
    double first = 0, rest = 0;
    for (uint64_t i = 0; i < n; i++) *(i < cut ? &first : &rest) += r->step_s[i];
    r->steps = n;
    r->train_s = first + rest;
    r->images_per_s = rest > 0 ? (double)((n - cut) * t->global_batch) / rest : 0;
    r->first_images_per_s = first > 0 ? (double)(cut * t->global_batch) / first : r->images_per_s;
    r->run_s = t->trained_s + rm_s(rm_now_ns() - t->cfg->start_ns);
    r->skipped_images = t->skipped_before;
}

/* Steps of the image size of the first traced one. The first of a size is left out: it touches its memory for the first time. */
static rm_perturbation cost_of_tracing(const run *t)
{
    const rm_train_result *r = t->r;
    const uint64_t from = t->trace.from, n = r->n_step;
    double *room = from < n ? malloc(n * sizeof *room) : NULL;
    size_t n_traced = 0, n_plain = 0;
    for (uint64_t i = 1; room && i < n; i++) {
        const bool traced = i >= from && i <= t->trace.to;
        if (r->step_px[i] != r->step_px[from] || r->step_px[i - 1] != r->step_px[from]) continue;
        room[traced ? n_traced++ : n - ++n_plain] = r->step_s[i]; /* traced ones from the left, the others from the right */
    }
    const rm_perturbation p = n_traced && n_plain ? rm_perturbation_unpaired(room, n_traced, room + n - n_plain, n_plain) : (rm_perturbation){ .ratio = NAN, .low = NAN, .high = NAN };
    free(room);
    return p;
}

static void end_trace(run *t)
{
    rm_train_result *r = t->r;
    if (t->trace.trace) r->trace_cost = cost_of_tracing(t);
    if (rm_step_trace_end(&t->trace, &t->engine, &r->trace_cost) != RM_OK) {
        rm_warn("%s", rm_last_error());
        r->trace_cut = true;
    }
    r->trace_times = t->trace.times;
    snprintf(r->trace_file, sizeof r->trace_file, "%s", t->trace.file);
}

/* Found now rather than after an hour: can checkpoints and log be written? */
static rm_status open_outputs(run *t)
{
    const rm_train_config *c = t->cfg;
    if (c->save_dir[0] && mkdir(c->save_dir, 0777) && errno != EEXIST) return rm_fail_errno("cannot create --save-dir %s", c->save_dir);
    return rm_mllog_open(c->mllog, &t->mllog);
}

rm_status rm_train(rm_device *d, rm_comm *comm, const rm_train_config *cfg, rm_train_result *out)
{
    memset(out, 0, sizeof *out);
    out->time_to_accuracy_s = -1;
    run t = { .cfg = cfg, .comm = comm, .r = out, .trace = cfg->trace };
    rm_status st = RM_OK;
    RM_TRY(plan_steps(&t));
    rm_engine_config ec = { .recipe = cfg->recipe, .dtype = cfg->dtype, .px = t.stage_px[0], .batch = cfg->batch, .classes = cfg->classes,
                            .no_fuse = cfg->no_fuse, .no_record = cfg->no_record, .timers = true, .split = cfg->split, .split_order = cfg->split_order, .seed = cfg->seed,
                            .update_on_arrival = cfg->update_on_arrival };
    RM_TRY(rm_engine_new(d, comm, &ec, &t.engine));
    rm_device_info info;
    rm_device_get_info(d, &info);
    t.threads = info.threads;
    t.engine.counters = cfg->counters;
    t.engine.watch = cfg->watch;
    if (lead(&t)) RM_TRY_GOTO(st, open_outputs(&t), out);
    if (cfg->resume) RM_TRY_GOTO(st, resume(&t), out);
    RM_TRY_GOTO(st, open_source(&t), out);
    log_start(&t);
    if (lead(&t)) rm_progress_begin(&t.progress, "train", "images", (t.total - t.step) * t.global_batch);
    st = lost_at(&t, loop(&t));
    if (lead(&t)) rm_progress_end(&t.progress);
    rm_mllog_event(t.mllog, RM_ML_END, "run_stop", st == RM_OK ? "\"success\"" : "\"aborted\"", -1);
out:
    close_source(&t);
    if (st == RM_OK || st == RM_E_INTERRUPTED) summarise(&t);
    end_trace(&t);
    rm_engine_free(&t.engine);
    rm_status closed = rm_mllog_close(t.mllog);
    return st != RM_OK ? st : closed;
}

void rm_train_result_free(rm_train_result *r)
{
    free(r->epoch);
    free(r->step_s);
    free(r->loss);
    free(r->step_px);
    free(r->disturbed);
    free(r->gpu);
    memset(r, 0, sizeof *r);
}
