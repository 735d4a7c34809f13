/* What a scaling row's numbers are made of (docs/measures: throughput, efficiency, budget, attribution). */
#include "bench/commands.h"
#include "bench/scaling.h"
#include "base/rng.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { T_STEP, T_COMPUTE, T_COMM, T_COPY, T_INPUT, T_HOST, TERMS } term;

/* One mode of one N: term t of step i on rank k at v[(k * n + i) * TERMS + t]. */
typedef struct { double *v, *slowest; int32_t ranks, n; double window_s, first_s; } table;

static rm_status table_new(const json_t *mode, table *out)
{
    const json_t *ranks = json_object_get(mode, "ranks");
    table t = { .ranks = (int32_t)json_array_size(ranks), .n = (int32_t)json_array_size(json_array_get(ranks, 0)),
                .window_s = json_number_value(json_object_get(mode, "window_s")), .first_s = json_number_value(json_object_get(mode, "first_s")) };
    t.v = calloc((size_t)t.ranks * (size_t)t.n * TERMS + 1, sizeof *t.v);
    t.slowest = calloc((size_t)t.n + 1, sizeof *t.slowest);
    *out = t;
    if (!t.v || !t.slowest) return rm_fail(RM_E_NOMEM, "out of memory reading step times");
    for (int32_t k = 0; k < t.ranks; k++)
        for (int32_t i = 0; i < t.n; i++)
            for (int x = 0; x < TERMS; x++) {
                double d = json_number_value(json_array_get(json_array_get(json_array_get(ranks, (size_t)k), (size_t)i), (size_t)x));
                t.v[((size_t)k * (size_t)t.n + (size_t)i) * TERMS + (size_t)x] = d;
                if (x == T_STEP && d > t.slowest[i]) t.slowest[i] = d;
            }
    return RM_OK;
}

static void table_free(table *t)
{
    free(t->v);
    free(t->slowest);
}

static double at(const table *t, int32_t rank, int32_t step, term x) { return t->v[((size_t)rank * (size_t)t->n + (size_t)step) * TERMS + (size_t)x]; }

static double mean_of(const table *t, term x)
{
    double sum = 0;
    for (int32_t k = 0; k < t->ranks; k++)
        for (int32_t i = 0; i < t->n; i++) sum += at(t, k, i, x);
    return sum / ((double)t->ranks * t->n);
}

/* Mean over steps of the fastest rank's time in the all-reduce: the transfer without waiting for anybody. */
static double transfer_of(const table *t)
{
    double sum = 0;
    for (int32_t i = 0; i < t->n; i++) {
        double least = at(t, 0, i, T_COMM);
        for (int32_t k = 1; k < t->ranks; k++) least = fmin(least, at(t, k, i, T_COMM));
        sum += least;
    }
    return sum / t->n;
}

static double throughput(const table *t, int32_t images) { return t->window_s > 0 ? (double)images * t->n / t->window_s : NAN; }

/* 95 % bootstrap percentile interval of the throughput over steps (slowest rank of each); seeded, so the same every time. */
static void throughput_interval(const table *t, int32_t images, double *low, double *high)
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

static json_t *mode_json(const json_t *mode, int32_t images)
{
    table t;
    if (!mode) return json_pack("{s:n, s:s}", "images_per_s", "images_per_s_reason", "not asked for, or no data folder (--data synthetic)");
    if (table_new(mode, &t) != RM_OK) {
        table_free(&t);
        return json_null();
    }
    double low, high;
    throughput_interval(&t, images, &low, &high);
    json_t *j = json_pack("{s:o, s:o, s:o, s:o, s:o}", "images_per_s", bench_number(throughput(&t, images)), "images_per_s_low", bench_number(low), "images_per_s_high",
                          bench_number(high), "step_s", bench_time_json(t.slowest, (size_t)t.n), "first_step_s", bench_number(t.first_s));
    table_free(&t);
    return j;
}

/* Mean shares of the ranks, scaled to the median step: they sum to it. */
static json_t *budget_json(const table *t)
{
    double step = mean_of(t, T_STEP), median = rm_median(t->slowest, (size_t)t->n), k = step > 0 ? median / step : 0, known = 0;
    static const struct { const char *name; term x; } rows[] = {
        { "compute", T_COMPUTE }, { "exposed_comm", T_COMM }, { "exposed_copy", T_COPY }, { "input_stall", T_INPUT }, { "host", T_HOST },
    };
    json_t *j = json_object();
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        double v = k * mean_of(t, rows[i].x);
        json_object_set_new(j, rows[i].name, bench_number(v));
        known += v;
    }
    json_object_set_new(j, "idle", bench_number(median - known > 1e-9 ? median - known : 0)); /* below a nanosecond: rounding */
    return j;
}

/* Why a step of N devices takes longer than the ideal one: weak scaling's ideal is T(1), strong scaling's T(1)/N. */
static json_t *attribution_json(const table *t, const table *one, double share)
{
    double transfer = t->ranks > 1 ? transfer_of(t) : 0;
    double loss = mean_of(t, T_STEP) - share * mean_of(one, T_STEP);
    double input = mean_of(t, T_INPUT) - share * mean_of(one, T_INPUT);
    double compute = mean_of(t, T_COMPUTE) + mean_of(t, T_COPY) - share * (mean_of(one, T_COMPUTE) + mean_of(one, T_COPY));
    double straggler = t->ranks > 1 ? mean_of(t, T_COMM) - transfer : 0;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "loss", bench_number(loss), "input", bench_number(input), "compute_slowdown", bench_number(compute), "exposed_transfer",
                     bench_number(transfer), "straggler", bench_number(straggler), "unexplained", bench_number(loss - input - compute - transfer - straggler));
}

static void set_null(json_t *row, const char *key, const char *reason)
{
    char name[64];
    snprintf(name, sizeof name, "%s_reason", key);
    json_object_set_new(row, key, json_null());
    json_object_set_new(row, name, json_string(reason));
}

static void set_communication(json_t *row, const table *t)
{
    static const char *const later[] = { "comm_cost_s", "eta_eff", "blocking_comm_s" };
    if (t->ranks > 1) {
        json_object_set_new(row, "overlap_geom", json_real(0));
        json_object_set_new(row, "exposed_comm_s", bench_number(mean_of(t, T_COMM)));
        for (size_t i = 0; i < RM_COUNT(later); i++) set_null(row, later[i], "needs the twin with the all-reduce off, which this version does not run");
        return;
    }
    static const char *const all[] = { "overlap_geom", "exposed_comm_s", "comm_cost_s", "eta_eff", "blocking_comm_s" };
    for (size_t i = 0; i < RM_COUNT(all); i++) set_null(row, all[i], "one rank: nothing is communicated");
}

static const char *headline(const bench_options *o, const json_t *modes)
{
    if (strcmp(o->input_mode, "all")) return o->input_mode;
    return json_object_get(modes, "real") ? "real" : "synthetic";
}

static void reproduce(const bench_options *o, int32_t n, char *line, size_t size)
{
    char number[16];
    bench_options one = *o;
    snprintf(number, sizeof number, "%d", n);
    one.gpus = number;
    bench_reproduce(&bench_cmd_scaling, &one, line, size);
}

static json_t *common_row(const bench_options *o, int32_t n, const char *origin)
{
    char line[1024];
    reproduce(o, n, line, sizeof line);
    return json_pack("{s:i, s:s, s:s, s:s}", "ranks", n, "origin", origin, "scaling", o->strong ? "strong" : "weak", "reproduce", line);
}

static void set_measured(json_t *row, const bench_options *o, int32_t n, const json_t *gathered, const table *t, const table *one, const char *mode)
{
    int32_t images = n * (int32_t)json_integer_value(json_object_get(gathered, "batch"));
    int32_t base_images = o->strong ? images : images / n;
    double x = throughput(t, images), x1 = one ? throughput(one, base_images) : NAN, low, high;
    const char *efficiency = o->strong ? "efficiency_strong" : "efficiency_weak";
    throughput_interval(t, images, &low, &high);
    json_object_set_new(row, "input", json_string(mode));
    json_object_set_new(row, "batch_per_device", json_integer(images / n));
    json_object_set_new(row, "images_per_s", bench_number(x));
    json_object_set_new(row, "images_per_s_low", bench_number(low));
    json_object_set_new(row, "images_per_s_high", bench_number(high));
    json_object_set_new(row, "step_s", bench_time_json(t->slowest, (size_t)t->n));
    json_object_set_new(row, "first_step_s", bench_number(t->first_s));
    json_object_set_new(row, "baseline_images_per_s", bench_number(x1));
    json_object_set_new(row, "budget_s", budget_json(t));
    if (one) {
        json_object_set_new(row, efficiency, bench_number(x / (n * x1)));
        json_object_set_new(row, "loss_attribution_s", attribution_json(t, one, o->strong ? 1.0 / n : 1.0));
    } else {
        set_null(row, efficiency, "no run of one device to compare with: these ranks were started by the user's own launcher");
        set_null(row, "loss_attribution_s", "no run of one device to compare with");
    }
    set_communication(row, t);
}

json_t *bench_scaling_row(const bench_options *o, int32_t n, const json_t *gathered, const json_t *base)
{
    static const char *const copied[] = { "device", "device_name", "dtype", "px", "threads", "comm_library", "to_accuracy" };
    static const char *const names[] = { "synthetic", "data-only", "real" };
    const json_t *modes = json_object_get(gathered, "modes");
    const char *mode = headline(o, modes);
    table t = { 0 }, one = { 0 };
    json_t *result = NULL;
    rm_status st = table_new(json_object_get(modes, mode), &t);
    if (st == RM_OK && base) st = table_new(json_object_get(json_object_get(base, "modes"), mode), &one);
    if (st == RM_OK) {
        json_t *row = common_row(o, n, "measured"), *per_mode = json_object(), *samples = json_object();
        int32_t images = n * (int32_t)json_integer_value(json_object_get(gathered, "batch"));
        for (size_t i = 0; i < RM_COUNT(copied); i++)
            if (json_object_get(gathered, copied[i])) json_object_set(row, copied[i], json_object_get(gathered, copied[i]));
        for (size_t i = 0; i < RM_COUNT(names); i++) json_object_set_new(per_mode, names[i], mode_json(json_object_get(modes, names[i]), images));
        json_object_set_new(row, "modes", per_mode);
        set_measured(row, o, n, gathered, &t, base ? &one : NULL, mode);
        json_object_set_new(samples, "step_s", bench_samples(t.slowest, (size_t)t.n));
        result = json_pack("{s:o, s:o}", "row", row, "samples", samples);
    }
    table_free(&t);
    table_free(&one);
    return result;
}

json_t *bench_scaling_absent(const bench_options *o, int32_t n, const char *reason)
{
    static const char *const keys[] = { "device", "batch_per_device", "images_per_s", "images_per_s_low", "images_per_s_high", "step_s", "input", "overlap_geom",
                                        "exposed_comm_s", "comm_cost_s", "eta_eff", "blocking_comm_s", "budget_s", "loss_attribution_s" };
    json_t *row = common_row(o, n, "not_measured");
    for (size_t i = 0; i < RM_COUNT(keys); i++) json_object_set_new(row, keys[i], json_null());
    json_object_set_new(row, o->strong ? "efficiency_strong" : "efficiency_weak", json_null());
    json_object_set_new(row, "reason", json_string(reason));
    return json_pack("{s:o, s:{}}", "row", row, "samples");
}
