/* bench layers: a row per layer and pass, beside what the machine could do; rows sum to the step to the nanosecond. */
#include "base/clock.h"
#include "base/log.h"
#include "bench/commands.h"
#include "bench/inject.h"
#include "bench/layer_table.h"
#include "bench/layers_compare.h"
#include "bench/project.h"
#include "bench/rows.h"
#include "bench/throttled_row.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct timing {
    bench_layer_times *t;
    double *step_s; /* of every measured step */
    rm_gpu_reading *gpu;
    size_t n;
} timing;

static rm_status timing_new(const rm_engine *e, int32_t steps, timing *out)
{
    RM_TRY(bench_layer_times_new(e, steps, &out->t));
    out->step_s = calloc((size_t)steps, sizeof *out->step_s);
    out->gpu = calloc((size_t)steps, sizeof *out->gpu);
    return out->step_s && out->gpu ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the layer times");
}

static void timing_free(timing *t)
{
    bench_layer_times_free(t->t);
    free(t->step_s);
    free(t->gpu);
}

static rm_status note(timing *t, const rm_step *s)
{
    t->gpu[t->n] = s->gpu;
    t->step_s[t->n++] = rm_s(s->step_ns);
    return bench_layer_times_note(t->t, s);
}

static rm_status measure(bench_session *s, rm_engine *e, const bench_options *o, timing *t)
{
    int32_t warmup = o->warmup >= 0 ? o->warmup : 3, steps = o->steps ? o->steps : 10;
    rm_synthetic synthetic;
    rm_progress progress;
    RM_TRY(timing_new(e, steps, t));
    RM_TRY(rm_synthetic_new(s->batch, e->cfg.px, s->classes, (uint64_t)o->seed, &synthetic));
    rm_source source = rm_source_synthetic(&synthetic);
    rm_status st = RM_OK;
    rm_progress_begin(&progress, "layers", "steps", (uint64_t)(warmup + steps));
    for (int32_t i = 0; st == RM_OK && i < warmup + steps; i++) {
        rm_step step;
        st = bench_signal() ? rm_fail(RM_E_INTERRUPTED, "interrupted: nothing stored") : rm_engine_step(e, &source, (uint64_t)i, 1e-4, &step);
        if (st == RM_OK && i >= warmup) st = note(t, &step);
        rm_progress_update(&progress, (uint64_t)i + 1, NULL);
    }
    rm_progress_end(&progress);
    rm_synthetic_free(&synthetic);
    return st;
}

/* Peaks are measured after the steps, that these find the machine as training does. No peaks are no failure: *out_why says why. */
static rm_status peaks_of(rm_device *d, const bench_options *o, rm_peaks *out, const char **out_why)
{
    *out_why = NULL;
    if (o->no_peaks) {
        *out_why = "--no-peaks was given";
        return RM_OK;
    }
    const rm_status st = rm_device_peaks(d, out);
    if (st == RM_E_UNSUPPORTED) *out_why = rm_last_error();
    return st == RM_E_UNSUPPORTED ? RM_OK : st;
}

static void set_peaks(json_t *row, const rm_engine *e, const rm_peaks *peaks, const char *why)
{
    bench_mfu_set(row, e, bench_row_real(row, "images_per_s"), peaks);
    if (peaks) {
        const rm_roof roof = rm_peaks_roof(peaks, e->cfg.dtype);
        json_object_set_new(row, "peaks", bench_peaks_json(peaks));
        json_object_set_new(row, "roof", bench_roof_json(&roof));
        return;
    }
    bench_set_null(row, "peaks", why);
    bench_set_null(row, "roof", why);
    json_object_set_new(row, "bound_s_reason", json_string(why));
    json_object_set_new(row, "mfu_reason", json_string(why));
}

/* peaks NULL: none, and why. */
static json_t *result_json(const bench_options *o, const bench_session *s, const rm_engine *e, const timing *t, const rm_peaks *peaks, const char *why)
{
    const double step_s = t->step_s[bench_layer_times_median(t->t)];
    const int32_t parts = s->recipe.accumulate > 1 ? s->recipe.accumulate : 1;
    json_t *table = bench_layer_times_json(t->t, peaks);
    if (!table) return NULL;
    json_t *row = json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:o, s:o}", "origin", "measured", "device", s->info.device, "dtype", rm_dtype_name(s->dtype),
                            "px", e->cfg.px, "batch", s->batch, "step_s", step_s, "images_per_s", s->batch * parts / step_s, "step_s_all",
                            bench_time_json(t->step_s, t->n), "reproduce", bench_reproduce(&bench_cmd_layers, o));
    json_object_update(row, table);
    json_decref(table);
    json_object_set_new(row, "injected", json_string(o->inject));
    set_peaks(row, e, peaks, why);
    json_object_set_new(row, "kernel_times", json_string("events"));
    json_object_set_new(row, "kernel_times_reason", json_string("a layer's time is that between the device's marks around it, gaps between its kernels included"));
    json_t *samples = json_pack("{s:o}", "step_s", bench_samples(t->step_s, t->n));
    if (s->watch) bench_set_throttled_own(row, samples, t->gpu, t->n, rm_gpu_watch_why(s->watch));
    return json_pack("{s:o, s:o}", "row", row, "samples", samples);
}

static rm_status measured(const bench_options *o, bench_session *s, rm_engine *e, timing *t, json_t **out)
{
    rm_peaks peaks;
    const char *why;
    RM_TRY(measure(s, e, o, t));
    RM_TRY(peaks_of(s->device, o, &peaks, &why));
    *out = result_json(o, s, e, t, why ? NULL : &peaks, why);
    return *out ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the layer table");
}

static rm_status run(const bench_options *o)
{
    bench_session s;
    rm_engine e = { 0 };
    timing t = { 0 };
    json_t *result = NULL;
    rm_status st = RM_OK;
    RM_TRY(bench_session_plan(o, "tiny", &s));
    RM_TRY_GOTO(st, bench_session_device(o, &s), out);
    rm_engine_config ec = { .recipe = &s.recipe,
                            .dtype = s.dtype,
                            .px = s.recipe.px,
                            .batch = s.batch,
                            .classes = s.classes,
                            .no_fuse = o->no_fuse,
                            .timers = true,
                            .no_record = o->no_record,
                            .seed = (uint64_t)o->seed };
    RM_TRY_GOTO(st, rm_engine_new(s.device, s.comm, &ec, &e), out);
    RM_TRY_GOTO(st, bench_inject_parse(o->inject, 0, 1, e.net, &e.inject), out);
    e.watch = s.watch;
    if (o->dry_run) {
        bench_print_plan(&s, &e);
        goto out;
    }
    RM_TRY_GOTO(st, measured(o, &s, &e, &t, &result), out);
    json_t *row = json_object_get(result, "row");
    if (bench_table_wanted(o)) {
        if (o->inject[0]) printf("injected: %s\n", o->inject);
        bench_layer_table_print(row, 0);
        bench_print_throttled(row, "THROTTLED ", (long long)t.n);
    }
    RM_TRY_GOTO(st, bench_store_run(&bench_cmd_layers, o, "layers", result), out);
    st = bench_emit_json(&bench_cmd_layers, o, NULL, json_pack("[O]", row));
out:
    json_decref(result);
    timing_free(&t);
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}

static rm_status layers(const bench_options *o)
{
    if (o->compare) return bench_layers_compare(o);
    if (o->project && o->project[0]) return bench_project(o);
    if (o->n_arg) return rm_fail(RM_E_ARG, "%s: bench layers takes words only with --compare A B", o->arg[0]);
    return run(o);
}

static const char *const examples[] = {
    "bench layers --px 64 --batch 64",
    "bench layers --px 224 --batch 32 --dtype bf16 --json layers.json",
    "bench layers --no-fuse",
    "bench layers --inject layer=conv1:10%",
    "bench layers --dry-run",
    "bench layers --project h100 --px 224 --batch 256 --classes 1000 --data synthetic",
    "bench layers --compare before.json after.json",
    "bench layers --compare 3 7",
    NULL,
};
const bench_command bench_cmd_layers = {
    .name = "layers",
    .summary = "one training step, a row per layer and pass: time, GFLOP/s, GB/s, share, roofline bound, implementation",
    .usage = "[--px N] [--batch N] [--steps N] [options] | --compare A B",
    .examples = examples,
    .run = layers,
};
