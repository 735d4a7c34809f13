/* The row of bench profile out of what rank 0 gathered. Pure functions. */
#include "bench/commands.h"
#include "bench/counters_row.h"
#include "bench/profile.h"
#include "bench/rows.h"
#include "bench/scaling_loss.h"
#include "bench/throttled_row.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_throughput(json_t *row, const json_t *got, const bench_steps *plain)
{
    const double images = (double)bench_row_int(got, "images_per_device_step") * plain->ranks;
    double all = 0;
    for (int32_t i = 0; i < plain->n; i++) all += plain->slowest[i];
    bench_set_number(row, "images_per_s", images * plain->n / all, "no step was measured");
    json_object_set_new(row, "step_s", bench_time_json(plain->slowest, (size_t)plain->n));
    bench_set_number(row, "input_stall_s", bench_row_real(json_object_get(got, "budget_s"), "input_stall"), "no step was measured");
}

/* Geometry, exposure and the critical path are of the traced steps, as the budget is; what communication costs, of the twins. */
static void set_communication(json_t *row, const json_t *got, const bench_steps *traced)
{
    static const char *const from_twins[] = { "comm_cost_s", "comm_cost_s_low", "comm_cost_s_high", "eta_eff", "xfer_s", "skew_share", "slowdown" };
    static const char none[] = "one rank: nothing is communicated";
    const json_t *comm = json_object_get(got, "communication");
    const bool alone = traced->ranks == 1;
    const double s = alone ? NAN : bench_term_mean(traced, BENCH_COMM);
    bench_set_number(row, "comm_s", s, none);
    bench_set_number(row, "overlap_geom", bench_term_mean(traced, BENCH_OVERLAP) / s, none);
    bench_set_number(row, "exposed_comm_s", alone ? NAN : bench_term_mean(traced, BENCH_EXPOSED_COMM), none);
    bench_set_number(row, "blocking_comm_s", alone ? NAN : bench_steps_blocking(traced), none);
    for (size_t i = 0; i < RM_COUNT(from_twins); i++) {
        char name[64];
        json_t *v = json_object_get(comm, from_twins[i]);
        snprintf(name, sizeof name, "%s_reason", from_twins[i]);
        const char *why = bench_row_text(comm, name);
        if (v && !json_is_null(v)) json_object_set(row, from_twins[i], v);
        else bench_set_null(row, from_twins[i], why[0] ? why : alone ? none : "the twins did not give it");
    }
}

static void set_all(json_t *row, const bench_options *o, const json_t *got, const bench_steps *traced, const bench_steps *plain)
{
    static const char *const copied[] = { "device", "device_name", "library", "dtype", "px", "batch_per_device", "classes", "threads", "comm_library", "split", "wire", "buckets", "input", "trace", "budget_s", "wall_ns",
                                          "layers", "bound_s_reason", "mfu", "mfu_reason", "mfu_peak", "flops_per_image", "at_bounds_s", "at_bounds_s_reason", "peaks", "peaks_reason", "roof", "stragglers", "loader_images_per_s", "loader_images_per_s_reason", "changes", "sensitivity", "sensitivity_reason", "timeline" };
    json_object_set_new(row, "origin", json_string("measured"));
    json_object_set_new(row, "ranks", json_integer(plain->ranks));
    for (size_t i = 0; i < RM_COUNT(copied); i++)
        if (json_object_get(got, copied[i])) json_object_set(row, copied[i], json_object_get(got, copied[i]));
    set_throughput(row, got, plain);
    set_communication(row, got, traced);
    json_object_set_new(row, "reproduce", bench_reproduce(&bench_cmd_profile, o));
}

json_t *bench_profile_row(const bench_options *o, const json_t *got)
{
    bench_steps plain = { 0 }, traced = { 0 };
    json_t *result = json_object(), *row = json_object();
    rm_status st = result && row ? RM_OK : RM_E_NOMEM;
    if (st == RM_OK) st = bench_steps_read(json_object_get(got, "plain"), &plain);
    if (st == RM_OK) st = bench_steps_read(json_object_get(got, "traced"), &traced);
    if (st == RM_OK) {
        json_t *samples = json_pack("{s:o, s:o}", "step_s", bench_samples(plain.slowest, (size_t)plain.n), "traced_step_s", bench_samples(traced.slowest, (size_t)traced.n));
        set_all(row, o, got, &traced, &plain);
        bench_set_counters(row, samples, &plain, got);
        bench_set_throttled(row, samples, &plain, got);
        json_object_set(result, "row", row);
        json_object_set_new(result, "samples", samples);
    }
    bench_steps_free(&plain);
    bench_steps_free(&traced);
    json_decref(row);
    if (st == RM_OK) return result;
    json_decref(result);
    return NULL;
}
