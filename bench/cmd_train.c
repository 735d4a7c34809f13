/* bench train: trains by a recipe, evaluates, checkpoints, says its time to accuracy. */
#include "base/clock.h"
#include "base/log.h"
#include "bench/commands.h"
#include "bench/counters_row.h"
#include "bench/throttled_row.h"
#include "bench/launch.h"
#include "bench/session.h"
#include "bench/trace_row.h"
#include "profiler/stats.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "500" is steps, "2e" epochs. */
static rm_status parse_save_every(const char *text, uint64_t steps_per_epoch, uint64_t *out)
{
    *out = 0;
    if (!text || !text[0]) return RM_OK;
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    bool epochs = !strcmp(end, "e");
    if (end == text || errno || v <= 0 || (*end && !epochs)) return rm_fail(RM_E_ARG, "--save-every %s: expected steps (500) or epochs (2e)", text);
    *out = (uint64_t)(epochs ? v * (double)steps_per_epoch : v);
    if (!*out) *out = 1;
    return RM_OK;
}

static json_t *epochs_json(const rm_train_result *r)
{
    json_t *a = json_array();
    for (uint32_t i = 0; i < r->n_epoch; i++) {
        const rm_epoch_row *e = &r->epoch[i];
        json_t *row = json_pack("{s:I, s:f, s:o, s:f, s:f}", "epoch", (json_int_t)e->epoch, "time_s", e->time_s, "train_loss", bench_number(e->train_loss), "images_per_s",
                                e->images_per_s, "lr", e->lr);
        json_object_set_new(row, "top1", e->evaluated ? bench_number(e->top1) : json_null());
        json_object_set_new(row, "top5", e->evaluated ? bench_number(e->top5) : json_null());
        json_array_append_new(a, row);
    }
    return a;
}

static void echo_recipe(void *ctx, const char *key, const char *value, const char *help)
{
    (void)help;
    json_object_set_new(ctx, key, json_string(value));
}

static void set_accuracy(json_t *row, const rm_train_result *r, double target)
{
    json_object_set_new(row, "final_top1", r->evaluated ? bench_number(r->final_top1) : json_null());
    json_object_set_new(row, "final_top5", r->evaluated ? bench_number(r->final_top5) : json_null());
    json_object_set_new(row, "final_loss", r->evaluated ? bench_number(r->final_loss) : json_null());
    if (!r->evaluated) json_object_set_new(row, "final_top1_reason", json_string("synthetic images have no validation part"));
    json_object_set_new(row, "target_top1", target > 0 ? json_real(target) : json_null());
    json_object_set_new(row, "time_to_accuracy_s", r->time_to_accuracy_s >= 0 ? json_real(r->time_to_accuracy_s) : json_null());
    if (r->time_to_accuracy_s < 0)
        json_object_set_new(row, "time_to_accuracy_s_reason", json_string(target > 0 ? "the target was not reached" : "the recipe states no target"));
}

/* What tracing cost, and the trace. */
static void set_trace(json_t *row, const bench_options *o, const rm_train_result *r)
{
    static const char none[] = "the run has no traced and untraced steps of one image size to compare";
    const rm_perturbation *p = &r->trace_cost;
    if (!o->trace[0]) {
        bench_set_null(row, "trace", "--trace was not given");
        return;
    }
    json_t *t = json_object();
    bench_set_perturbation(t, p, none);
    json_object_set_new(t, "steps", json_integer((json_int_t)p->n));
    if (r->trace_file[0]) json_object_set_new(t, "file", json_string(r->trace_file));
    else bench_set_null(t, "file", "no trace was written");
    bench_set_kernel_times(t, &r->trace_times);
    json_object_set_new(row, "trace", t);
}

static json_t *result_json(const bench_options *o, const bench_session *s, const rm_train_config *c, const rm_train_result *r)
{
    json_t *recipe = json_object();
    rm_recipe_each(c->recipe, echo_recipe, recipe);
    double median = rm_median(r->step_s, r->n_step);
    json_t *row = json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:i, s:f, s:I, s:i, s:i, s:i}", "origin", "measured", "recipe", c->recipe->name, "recipe_values", recipe, "device",
                            s->info.device, "device_name", s->info.name, "dtype", rm_dtype_name(s->dtype), "ranks", rm_comm_size(s->comm), "epochs",
                            c->epochs > 0 ? c->epochs : c->recipe->epochs, "seed", (json_int_t)c->seed, "px", c->recipe->px, "batch_per_device", c->batch,
                            "classes", c->classes);
    json_object_set_new(row, "images_per_s", bench_number(r->images_per_s));
    json_object_set_new(row, "first_images_per_s", bench_number(r->first_images_per_s));
    json_object_set_new(row, "step_s", bench_time_json(r->step_s, r->n_step));
    json_object_set_new(row, "steps", json_integer((json_int_t)r->steps));
    json_object_set_new(row, "run_s", json_real(r->run_s));
    json_object_set_new(row, "train_s", json_real(r->train_s));
    json_object_set_new(row, "eval_s", json_real(r->eval_s));
    json_object_set_new(row, "input_stall_s", json_real(rm_s(r->total.input_ns)));
    json_object_set_new(row, "budget_s", bench_budget_json(&r->total, median));
    json_object_set_new(row, "counters", bench_counters_json(&r->counts, c->counters, (double)r->n_step));
    json_object_set_new(row, "bad_images", json_integer((json_int_t)r->skipped_images));
    json_object_set_new(row, "checkpoint", json_string(r->newest));
    json_object_set_new(row, "resumed_from", json_integer((json_int_t)r->resumed_from));
    json_object_set_new(row, "not_saved", json_boolean(r->not_saved));
    json_object_set_new(row, "trace_cut", json_boolean(r->trace_cut));
    set_trace(row, o, r);
    json_object_set_new(row, "epochs_log", epochs_json(r));
    json_object_set_new(row, "reproduce", bench_reproduce(&bench_cmd_train, o));
    set_accuracy(row, r, c->target_top1);
    json_t *samples = json_pack("{s:o, s:o}", "step_s", bench_samples(r->step_s, r->n_step), "loss", bench_samples(r->loss, r->n_step));
    const char *why = rm_counters_why(c->counters, RM_COUNT_FOREIGN_NS);
    bench_set_disturbed(row, samples, r->disturbed, r->n_step, o->oversubscribe ? "--oversubscribe: ranks may take each other's cores" : why);
    if (s->watch) bench_set_throttled_own(row, samples, r->gpu, r->n_step, rm_gpu_watch_why(s->watch));
    return json_pack("{s:o, s:o}", "row", row, "samples", samples);
}

/* --dry-run: what the first stage would take. */
static rm_status print_plan(const bench_options *o, const bench_session *s, const rm_train_config *c)
{
    rm_engine e;
    rm_engine_config ec = { .recipe = c->recipe, .dtype = c->dtype, .px = c->recipe->px, .batch = c->batch, .classes = c->classes, .no_fuse = c->no_fuse,
                            .split = c->split, .split_order = c->split_order, .seed = c->seed };
    RM_TRY(rm_engine_new(s->device, s->comm, &ec, &e));
    if (rm_comm_rank(s->comm) == 0) {
        printf("recipe %s: %s\n", c->recipe->name, c->recipe->summary);
        printf("data %s, seed %lld, %s\n", s->data ? rm_dataset_dir(s->data) : "synthetic", (long long)o->seed, o->steps ? "as many steps as asked" : "the recipe's epochs");
        bench_print_plan(s, &e);
    }
    rm_engine_free(&e);
    return RM_OK;
}

static rm_status parse_trace_steps(const char *text, rm_step_trace *out)
{
    unsigned long long a = 0, b = 0;
    int n = 0;
    if (sscanf(text, "%llu..%llu%n", &a, &b, &n) != 2 || text[n] || a > b || text[0] == '-') // NOLINT(cert-err34-c)
        return rm_fail(RM_E_ARG, "--trace-steps %s: expected a range such as 5..14", text);
    out->from = a;
    out->to = b;
    return RM_OK;
}

static rm_status body(const bench_options *o, json_t **out)
{
    uint64_t start = rm_now_ns();
    bench_session s;
    rm_train_result r = { 0 };
    bench_launch_told told = { 0 };
    uint64_t most;
    rm_status st = RM_OK;
    RM_TRY(bench_session_plan(o, "tiny", &s));
    RM_TRY_GOTO(st, bench_session_device(o, &s), out);
    rm_train_config c = {
        .recipe = &s.recipe, .data = s.data, .classes = s.classes, .batch = s.batch, .workers = o->workers, .eval_batch = s.eval_batch, .dtype = s.dtype,
        .seed = (uint64_t)o->seed, .max_steps = (uint64_t)o->steps, .epochs = o->epochs, .target_top1 = o->target >= 0 ? o->target : s.recipe.target_top1,
        .save_dir = o->save_dir, .keep = o->keep, .resume = o->resume, .no_fuse = o->no_fuse, .no_record = o->no_record, .split = o->split[0] ? o->split : s.recipe.split,
        .split_order = bench_split_order(o), .update_on_arrival = o->update_on_arrival, .trace = { .path = o->trace }, .mllog = o->mllog,
        .bad = s.bad, .max_bad = o->max_bad, .start_ns = start, .interrupted = bench_signal,
        .after_step = o->rank_result[0] ? bench_launch_tell : NULL, .after_step_ctx = &told,
    };
    if (!s.data && !o->steps) c.max_steps = 100;
    RM_TRY_GOTO(st, parse_trace_steps(o->trace_steps, &c.trace), out);
    if (c.resume && !c.save_dir[0]) RM_TRY_GOTO(st, rm_fail(RM_E_ARG, "--resume needs --save-dir DIR, where the checkpoints are"), out);
    uint64_t spe = s.data ? rm_dataset_count(s.data, RM_TRAIN) / ((uint64_t)s.batch * (uint64_t)rm_comm_size(s.comm)) : 100;
    RM_TRY_GOTO(st, parse_save_every(o->save_every, spe, &c.save_every_steps), out);
    if (o->dry_run) {
        st = print_plan(o, &s, &c);
        goto out;
    }
    RM_TRY_GOTO(st, rm_counters_open(&c.counters), out);
    c.watch = s.watch;
    RM_TRY_GOTO(st, rm_train(s.device, s.comm, &c, &r), close);
    RM_TRY_GOTO(st, bench_memory_high(s.comm, &most), close);
    if (rm_comm_rank(s.comm) == 0) {
        *out = result_json(o, &s, &c, &r);
        bench_set_memory_high(json_object_get(*out, "row"), most);
    }
close:
    rm_counters_close(c.counters);
out:
    rm_train_result_free(&r);
    bench_session_close(&s);
    return st;
}

static void print_result(const json_t *row)
{
    const json_t *top1 = json_object_get(row, "final_top1"), *tta = json_object_get(row, "time_to_accuracy_s");
    printf("recipe %s on %s (%s), %lld ranks, batch %lld a device\n", json_string_value(json_object_get(row, "recipe")), json_string_value(json_object_get(row, "device_name")),
           json_string_value(json_object_get(row, "dtype")), (long long)json_integer_value(json_object_get(row, "ranks")),
           (long long)json_integer_value(json_object_get(row, "batch_per_device")));
    printf("training        %.1f images/s over %lld steps (first steps %.1f)\n", json_number_value(json_object_get(row, "images_per_s")),
           (long long)json_integer_value(json_object_get(row, "steps")), json_number_value(json_object_get(row, "first_images_per_s")));
    if (json_is_number(top1)) printf("accuracy        top-1 %.2f %%, top-5 %.2f %%\n", json_number_value(top1), json_number_value(json_object_get(row, "final_top5")));
    if (json_is_number(tta)) printf("time to %.1f %%  %.1f s\n", json_number_value(json_object_get(row, "target_top1")), json_number_value(tta));
    else if (json_is_number(json_object_get(row, "target_top1"))) printf("target %.1f %%   not reached\n", json_number_value(json_object_get(row, "target_top1")));
    printf("run             %.1f s (training %.1f s, evaluation %.1f s, waiting for input %.1f s)\n", json_number_value(json_object_get(row, "run_s")),
           json_number_value(json_object_get(row, "train_s")), json_number_value(json_object_get(row, "eval_s")), json_number_value(json_object_get(row, "input_stall_s")));
    if (json_string_value(json_object_get(row, "checkpoint"))[0]) printf("checkpoint      %s\n", json_string_value(json_object_get(row, "checkpoint")));
    if (json_integer_value(json_object_get(row, "disturbed_steps")))
        printf("disturbed       %lld of %lld steps were taken while other work used rank 0's cores: the machine is noisy\n",
               (long long)json_integer_value(json_object_get(row, "disturbed_steps")), (long long)json_integer_value(json_object_get(row, "steps")));
    bench_print_throttled(row, "throttled      ", (long long)json_integer_value(json_object_get(row, "steps")));
    if (json_integer_value(json_object_get(row, "bad_images")))
        printf("bad images      %lld skipped\n", (long long)json_integer_value(json_object_get(row, "bad_images")));
}

static rm_status train(const bench_options *o)
{
    json_t *result = NULL;
    int32_t n = 1, cores, list[BENCH_MAX_LIST] = { 1 };
    if (o->gpus[0]) RM_TRY(bench_parse_list(o->gpus, "--gpus", list, &n));
    if (n != 1) return rm_fail(RM_E_ARG, "--gpus %s: bench train takes one number", o->gpus);
    RM_TRY(bench_cores_per_device(o, list[0], &cores));
    RM_TRY(bench_whole(bench_run_ranks(o, list[0], cores, true, body, &result), &result));
    if (!result) return RM_OK;
    json_t *row = json_object_get(result, "row");
    if (bench_table_wanted(o)) print_result(row);
    rm_status st = bench_store_run(&bench_cmd_train, o, "train", result);
    if (st == RM_OK) st = bench_emit_json(&bench_cmd_train, o, NULL, json_pack("[O]", row));
    if (st == RM_OK && json_is_true(json_object_get(row, "not_saved"))) st = rm_fail(RM_E_PARTIAL, "training finished, but a checkpoint could not be written");
    if (st == RM_OK && json_is_true(json_object_get(row, "trace_cut"))) st = rm_fail(RM_E_PARTIAL, "training finished, but the trace is not whole");
    json_decref(result);
    return st;
}

static const char *const examples[] = {
    "bench train                                    # the embedded data, minutes",
    "bench train --recipe rn50-90 --data imagenet --gpus 8 --save-dir checkpoints",
    "bench train --save-dir checkpoints --resume",
    "bench train --data synthetic --px 64 --batch 64 --steps 50",
    NULL,
};
const bench_command bench_cmd_train = {
    .name = "train", .summary = "trains by a recipe, evaluates, checkpoints; time to accuracy",
    .usage = "bench train [--recipe NAME] [--epochs X] [--gpus N] [--resume] [options]", .examples = examples, .run = train,
};
