/* What a scaling row's numbers are made of (docs/scaling.md). */
#include "bench/commands.h"
#include "bench/counters_row.h"
#include "bench/throttled_row.h"
#include "bench/rows.h"
#include "bench/scaling.h"
#include "bench/scaling_loss.h"
#include "bench/twins.h"
#include "base/rng.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double throughput(const bench_steps *t, int32_t images) { return t->window_s > 0 ? (double)images * t->n / t->window_s : NAN; }

/* 95 % bootstrap percentile interval of the throughput over steps (slowest rank of each); seeded, so the same every time. */
static void throughput_interval(const bench_steps *t, int32_t images, double *low, double *high)
{
    enum { DRAWS = 1000 };
    double *x = malloc(DRAWS * sizeof *x);
    *low = *high = NAN;
    if (!x || t->n < 2) {
        free(x);
        return;
    }
    double own = 0;
    for (int32_t i = 0; i < t->n; i++) own += t->slowest[i];
    double k = throughput(t, images) * own / t->n; /* images per step times what lies between the steps */
    rm_rng r = rm_rng_for(1, 2, 3);
    for (int d = 0; d < DRAWS; d++) {
        double sum = 0;
        for (int32_t i = 0; i < t->n; i++) sum += t->slowest[rm_rng_below(&r, (uint32_t)t->n)];
        x[d] = k * t->n / sum;
    }
    *low = rm_quantile(x, DRAWS, 0.025);
    *high = rm_quantile(x, DRAWS, 0.975);
    free(x);
}

/* Of one rank. The loader alone takes a batch; sweeps begun before micro-batches were counted had one a step. */
static int32_t images_a_step(const json_t *gathered, const char *mode)
{
    const int32_t batch = (int32_t)bench_row_int(gathered, "batch"), micro = (int32_t)json_integer_value(json_object_get(gathered, "micro_batches"));
    return strcmp(mode, "data-only") && micro > 1 ? batch * micro : batch;
}

static json_t *mode_json(const json_t *mode, int32_t images)
{
    bench_steps t;
    if (!mode) return json_pack("{s:n, s:s}", "images_per_s", "images_per_s_reason", "not asked for, or no data folder (--data synthetic)");
    if (bench_steps_read(mode, &t) != RM_OK) {
        bench_steps_free(&t);
        return json_null();
    }
    double low, high;
    throughput_interval(&t, images, &low, &high);
    json_t *j = json_pack("{s:o, s:o, s:o, s:o, s:o}", "images_per_s", bench_number(throughput(&t, images)), "images_per_s_low", bench_number(low), "images_per_s_high",
                          bench_number(high), "step_s", bench_time_json(t.slowest, (size_t)t.n), "first_step_s", bench_number(t.first_s));
    bench_steps_free(&t);
    return j;
}

/* ---- communication: what the steps of this run show, and what only the twins do */
static const char *const from_steps[] = { "comm_s", "overlap_geom", "exposed_comm_s", "comm_cpu_share" };
static const char *const blocking[] = { "blocking_comm_s", "comm_wait_s" };
static const char *const from_twins[] = { "comm_cost_s", "comm_cost_s_low", "comm_cost_s_high", "comm_cost_barrier_s", "eta_eff", "isolated_s",
                                          "xfer_s", "skew_share", "slowdown", "gantt" };

static void set_from_steps(json_t *row, const bench_steps *t)
{
    const double comm = bench_term_mean(t, BENCH_COMM);
    bench_set_number(row, "comm_s", comm, "");
    bench_set_number(row, "overlap_geom", bench_term_mean(t, BENCH_OVERLAP) / comm, "no time was spent communicating");
    bench_set_number(row, "exposed_comm_s", bench_term_mean(t, BENCH_EXPOSED_COMM), "");
    bench_set_number(row, "comm_cpu_share", t->comm_cpu_s / t->window_s, "no time was measured");
}

static void set_from_twins(json_t *row, const json_t *twins)
{
    for (size_t i = 0; i < RM_COUNT(from_twins); i++) {
        char name[64];
        const char *key = from_twins[i];
        json_t *v = json_object_get(twins, key), *why;
        snprintf(name, sizeof name, "%s_reason", key);
        why = json_object_get(twins, name);
        if (v && !json_is_null(v)) json_object_set(row, key, v);
        else bench_set_null(row, key, json_is_string(why) ? json_string_value(why) : "the twins did not give it");
    }
}

/* One rank waits for nothing, and that is a number. */
static void set_blocking(json_t *row, const bench_steps *t)
{
    bench_set_number(row, "blocking_comm_s", t->ranks == 1 ? 0 : bench_steps_blocking(t), "layers were not timed (--no-timers), or an older version measured this");
    bench_set_number(row, "comm_wait_s", t->ranks == 1 ? 0 : bench_term_mean(t, BENCH_BLOCKED), "");
}

static void set_all_null(json_t *row, const char *const *key, size_t n, const char *reason)
{
    for (size_t i = 0; i < n; i++) bench_set_null(row, key[i], reason);
}

static void set_communication(json_t *row, const bench_options *o, const bench_steps *t, const json_t *gathered, const char *mode)
{
    const json_t *twins = json_object_get(gathered, "twins");
    const char *none = t->ranks == 1 ? "one rank: nothing is communicated" : !strcmp(mode, "data-only") ? "the loader alone communicates nothing" : NULL;
    if (none) set_all_null(row, from_steps, RM_COUNT(from_steps), none);
    else set_from_steps(row, t);
    if (!strcmp(mode, "data-only")) set_all_null(row, blocking, RM_COUNT(blocking), none);
    else set_blocking(row, t);
    if (none || !twins) set_all_null(row, from_twins, RM_COUNT(from_twins), none ? none : o->no_twins ? "--no-twins" : "the twins did not run");
    else {
        json_t *measured = bench_twins_row(twins, 0);
        set_from_twins(row, measured);
        json_decref(measured);
    }
    json_object_set_new(row, "stragglers", none ? json_array() : bench_stragglers_json(t, json_object_get(gathered, "hosts")));
}

static const char *headline(const bench_options *o, const json_t *modes)
{
    if (strcmp(o->input_mode, "all")) return o->input_mode;
    return json_object_get(modes, "real") ? "real" : "synthetic";
}

static json_t *reproduce(const bench_options *o, int32_t n)
{
    char number[16];
    bench_options one = *o;
    snprintf(number, sizeof number, "%d", n);
    one.gpus = number;
    if (n == 1) one.inject = ""; /* nothing is injected into one device, nor accepted for it alone */
    return bench_reproduce(&bench_cmd_scaling, &one);
}

static json_t *common_row(const bench_options *o, int32_t n, const char *origin)
{
    return json_pack("{s:i, s:s, s:s, s:o}", "ranks", n, "origin", origin, "scaling", o->strong ? "strong" : "weak", "reproduce", reproduce(o, n));
}

/* Against one device, with and without a communicator. */
static void set_baselines(json_t *row, const bench_options *o, int32_t n, double x, const json_t *base, const char *mode, const bench_steps *t, const bench_steps *one, int32_t images)
{
    static const char reason[] = "no run of one device to compare with: these ranks were started by the user's own launcher";
    const char *efficiency = o->strong ? "efficiency_strong" : "efficiency_weak";
    double jitter, x1 = one ? throughput(one, images) : NAN, xs = NAN;
    bench_steps self = { 0 };
    const json_t *series = json_object_get(json_object_get(json_object_get(base, "modes"), mode), "self");
    if (series && bench_steps_read(series, &self) == RM_OK) xs = throughput(&self, images);
    bench_steps_free(&self);
    bench_set_number(row, "baseline_images_per_s", x1, reason);
    bench_set_number(row, "baseline_self_images_per_s", xs, one ? "the loader alone has no communicator" : reason);
    if (!one) {
        bench_set_null(row, efficiency, reason);
        bench_set_null(row, "loss_attribution_s", reason);
        return;
    }
    json_object_set_new(row, efficiency, bench_number(x / (n * x1)));
    json_object_set_new(row, "loss_attribution_s", bench_loss_json(t, one, o->strong ? 1.0 / n : 1.0, &jitter));
    if (n > 1) json_object_set_new(row, "jitter_s", bench_number(jitter));
}

static void set_measured(json_t *row, const bench_options *o, int32_t n, const json_t *gathered, const json_t *base, const bench_steps *t, const bench_steps *one, const char *mode)
{
    const int32_t images = n * images_a_step(gathered, mode);
    double x = throughput(t, images), low, high;
    throughput_interval(t, images, &low, &high);
    json_object_set_new(row, "input", json_string(mode));
    json_object_set_new(row, "batch_per_device", json_integer(bench_row_int(gathered, "batch")));
    json_object_set_new(row, "images_per_s", bench_number(x));
    json_object_set_new(row, "images_per_s_low", bench_number(low));
    json_object_set_new(row, "images_per_s_high", bench_number(high));
    json_object_set_new(row, "step_s", bench_time_json(t->slowest, (size_t)t->n));
    json_object_set_new(row, "first_step_s", bench_number(t->first_s));
    json_object_set_new(row, "budget_s", bench_steps_budget_json(t));
    json_object_set_new(row, "injected", json_string(n > 1 && o->inject ? o->inject : ""));
    set_baselines(row, o, n, x, base, mode, t, one, o->strong ? images : images / n);
    set_communication(row, o, t, gathered, mode);
}

/* What tracing cost and where the trace is; the raw steps are samples. */
static void set_trace(json_t *row, json_t *samples, const bench_options *o, const json_t *gathered)
{
    static const char *const raw[] = { "traced_step_s", "untraced_step_s" };
    json_t *t = json_deep_copy(json_object_get(gathered, "trace"));
    if (!t) {
        bench_set_null(row, "trace", o->trace[0] ? "the trace was not taken" : "--trace was not given");
        return;
    }
    for (size_t i = 0; i < RM_COUNT(raw); i++) {
        json_object_set(samples, raw[i], json_object_get(t, raw[i]));
        json_object_del(t, raw[i]);
    }
    json_object_set_new(row, "trace", t);
}

json_t *bench_scaling_row(const bench_options *o, int32_t n, const json_t *gathered, const json_t *base)
{
    static const char *const copied[] = { "device", "device_name", "dtype", "px", "threads", "comm_library", "split", "buckets", "wire", "to_accuracy" };
    static const char *const names[] = { "synthetic", "data-only", "real" };
    const json_t *modes = json_object_get(gathered, "modes");
    const char *mode = headline(o, modes);
    bench_steps t = { 0 }, one = { 0 };
    json_t *result = NULL;
    rm_status st = bench_steps_read(json_object_get(modes, mode), &t);
    if (st == RM_OK && base) st = bench_steps_read(json_object_get(json_object_get(base, "modes"), mode), &one);
    if (st == RM_OK) {
        json_t *row = common_row(o, n, json_is_true(json_object_get(gathered, "ghost")) ? "emulated" : "measured"), *per_mode = json_object(), *samples = json_object();
        for (size_t i = 0; i < RM_COUNT(copied); i++)
            if (json_object_get(gathered, copied[i])) json_object_set(row, copied[i], json_object_get(gathered, copied[i]));
        for (size_t i = 0; i < RM_COUNT(names); i++) json_object_set_new(per_mode, names[i], mode_json(json_object_get(modes, names[i]), n * images_a_step(gathered, names[i])));
        json_object_set_new(row, "modes", per_mode);
        set_measured(row, o, n, gathered, base, &t, base ? &one : NULL, mode);
        json_object_set_new(samples, "step_s", bench_samples(t.slowest, (size_t)t.n));
        set_trace(row, samples, o, gathered);
        bench_set_counters(row, samples, &t, gathered);
        bench_set_throttled(row, samples, &t, gathered);
        result = json_pack("{s:o, s:o}", "row", row, "samples", samples);
    }
    bench_steps_free(&t);
    bench_steps_free(&one);
    return result;
}

json_t *bench_scaling_absent(const bench_options *o, int32_t n, const char *reason)
{
    static const char *const keys[] = { "device", "batch_per_device", "images_per_s", "images_per_s_low", "images_per_s_high", "step_s", "input", "overlap_geom",
                                        "exposed_comm_s", "comm_cost_s", "eta_eff", "blocking_comm_s", "comm_wait_s", "budget_s", "loss_attribution_s", "trace" };
    json_t *row = common_row(o, n, "not_measured");
    for (size_t i = 0; i < RM_COUNT(keys); i++) json_object_set_new(row, keys[i], json_null());
    json_object_set_new(row, o->strong ? "efficiency_strong" : "efficiency_weak", json_null());
    json_object_set_new(row, "reason", json_string(reason));
    return json_pack("{s:o, s:{}}", "row", row, "samples");
}
