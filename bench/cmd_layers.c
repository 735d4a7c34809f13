/* bench layers: a row per layer and pass; rows, host and idle time sum to the step to the nanosecond. */
#include "base/clock.h"
#include "base/log.h"
#include "bench/commands.h"
#include "bench/session.h"
#include "profiler/stats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nanoseconds of every node and of what lies between, for every measured step. */
typedef struct {
    int32_t   nodes, steps;
    uint64_t *node_ns;   /* [steps][nodes] */
    uint64_t *step_ns, *host_ns, *idle_ns;
} timing;

static rm_status timing_new(int32_t nodes, int32_t steps, timing *out)
{
    timing t = { .nodes = nodes, .steps = steps };
    t.node_ns = calloc((size_t)nodes * (size_t)steps, sizeof *t.node_ns);
    t.step_ns = calloc((size_t)steps, sizeof *t.step_ns);
    t.host_ns = calloc((size_t)steps, sizeof *t.host_ns);
    t.idle_ns = calloc((size_t)steps, sizeof *t.idle_ns);
    *out = t;
    return t.node_ns && t.step_ns && t.host_ns && t.idle_ns ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the layer times");
}

static void timing_free(timing *t)
{
    free(t->node_ns);
    free(t->step_ns);
    free(t->host_ns);
    free(t->idle_ns);
}

/* Between two ops the device waits for the host: `host` counts the gaps inside the step, `idle` what lies before the first
 * op (copies of images and hyper-parameters included) and after the last. All three sum to the step exactly. */
static rm_status read_step(const rm_net *net, const rm_step *s, timing *t, int32_t step)
{
    const rm_node *node;
    int32_t n = rm_net_nodes(net, &node);
    uint64_t ops = 0, first = UINT64_MAX, last = 0;
    for (int32_t i = 0; i < n; i++) {
        uint64_t begin, end;
        RM_TRY(rm_node_ns(net, &node[i], &begin, &end));
        t->node_ns[(size_t)step * (size_t)n + (size_t)i] = end - begin;
        ops += end - begin;
        if (begin < first) first = begin;
        if (end > last) last = end;
    }
    t->step_ns[step] = s->step_ns;
    uint64_t inside = last - first;
    t->host_ns[step] = inside > ops ? inside - ops : 0;
    uint64_t known = ops + t->host_ns[step];
    t->idle_ns[step] = s->step_ns > known ? s->step_ns - known : 0;
    return RM_OK;
}

static rm_status measure(bench_session *s, rm_engine *e, const bench_options *o, timing *t)
{
    int32_t warmup = o->warmup >= 0 ? o->warmup : 3, steps = o->steps ? o->steps : 10;
    rm_synthetic synthetic;
    const rm_node *node;
    rm_progress progress;
    RM_TRY(timing_new(rm_net_nodes(e->net, &node), steps, t));
    RM_TRY(rm_synthetic_new(s->batch, e->cfg.px, s->classes, (uint64_t)o->seed, &synthetic));
    rm_source source = rm_source_synthetic(&synthetic);
    rm_status st = RM_OK;
    rm_progress_begin(&progress, "layers", "steps", (uint64_t)(warmup + steps));
    for (int32_t i = 0; st == RM_OK && i < warmup + steps; i++) {
        rm_step step;
        st = bench_signal() ? rm_fail(RM_E_INTERRUPTED, "interrupted: nothing stored") : rm_engine_step(e, &source, (uint64_t)i, 1e-4, &step);
        if (st == RM_OK && i >= warmup) st = read_step(e->net, &step, t, i - warmup);
        rm_progress_update(&progress, (uint64_t)i + 1, NULL);
    }
    rm_progress_end(&progress);
    rm_synthetic_free(&synthetic);
    return st;
}

/* The step whose time is the (lower) median: its rows are shown, so that they really sum to a step that happened. */
static int32_t median_step(const timing *t)
{
    int32_t best = 0;
    for (int32_t i = 0; i < t->steps; i++) {
        int32_t below = 0;
        for (int32_t j = 0; j < t->steps; j++) below += t->step_ns[j] < t->step_ns[i] || (t->step_ns[j] == t->step_ns[i] && j < i);
        if (below == (t->steps - 1) / 2) best = i;
    }
    return best;
}

static json_t *row_json(const char *name, const char *pass, const char *op, const char *impl, double s, double step_s, uint64_t flops, uint64_t bytes)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:o, s:o, s:I, s:I}", "name", name, "pass", pass, "op", op, "impl", impl, "time_s", s, "share", s / step_s,
                     "gflops_per_s", flops && s > 0 ? bench_number((double)flops / s * 1e-9) : json_null(),
                     "gb_per_s", bytes && s > 0 ? bench_number((double)bytes / s * 1e-9) : json_null(), "flops", (json_int_t)flops, "bytes", (json_int_t)bytes);
}

static json_t *rows_json(const rm_net *net, const timing *t, int32_t at)
{
    const rm_node *node;
    int32_t n = rm_net_nodes(net, &node);
    double step_s = rm_s(t->step_ns[at]);
    json_t *rows = json_array();
    for (int32_t i = 0; i < n; i++) {
        const rm_plan_info *p = &node[i].info;
        json_array_append_new(rows, row_json(node[i].name, rm_pass_name(node[i].pass), rm_opcode_name(node[i].op.code), p->impl,
                                             rm_s(t->node_ns[(size_t)at * (size_t)n + (size_t)i]), step_s, p->flops, p->bytes_read + p->bytes_written));
    }
    json_array_append_new(rows, row_json("host", "host", "", "", rm_s(t->host_ns[at]), step_s, 0, 0));
    json_array_append_new(rows, row_json("idle", "idle", "", "", rm_s(t->idle_ns[at]), step_s, 0, 0));
    return rows;
}

static void print_rows(const json_t *row)
{
    const json_t *layers = json_object_get(row, "layers");
    double step_s = json_number_value(json_object_get(row, "step_s")), sum = 0;
    printf("%-28s %-12s %-16s %10s %7s %9s %8s  %s\n", "layer", "pass", "op", "ms", "share", "GFLOP/s", "GB/s", "implementation");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *l = json_array_get(layers, i);
        double s = json_number_value(json_object_get(l, "time_s")), gf = json_number_value(json_object_get(l, "gflops_per_s"));
        double gb = json_number_value(json_object_get(l, "gb_per_s"));
        char rate[2][16] = { "-", "-" };
        if (gf > 0) snprintf(rate[0], sizeof rate[0], "%.1f", gf);
        if (gb > 0) snprintf(rate[1], sizeof rate[1], "%.1f", gb);
        printf("%-28s %-12s %-16s %10.3f %6.2f%% %9s %8s  %s\n", json_string_value(json_object_get(l, "name")), json_string_value(json_object_get(l, "pass")),
               json_string_value(json_object_get(l, "op")), s * 1e3, 100 * s / step_s, rate[0], rate[1], json_string_value(json_object_get(l, "impl")));
        sum += s;
    }
    printf("%-28s %-12s %-16s %10.3f  rows sum to %.3f ms; %.1f images/s\n", "step", "", "", step_s * 1e3, sum * 1e3, json_number_value(json_object_get(row, "images_per_s")));
}

static json_t *result_json(const bench_options *o, const bench_session *s, const rm_engine *e, const timing *t)
{
    char line[1024];
    int32_t at = median_step(t);
    double step_s = rm_s(t->step_ns[at]), *all = malloc((size_t)t->steps * sizeof *all);
    if (!all) return NULL;
    for (int32_t i = 0; i < t->steps; i++) all[i] = rm_s(t->step_ns[i]);
    bench_reproduce(&bench_cmd_layers, o, line, sizeof line);
    json_t *row = json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:o, s:o, s:s}", "origin", "measured", "device", s->info.device, "dtype", rm_dtype_name(s->dtype), "px",
                            e->cfg.px, "batch", s->batch, "step_s", step_s, "images_per_s", s->batch / step_s, "step_s_all", bench_time_json(all, (size_t)t->steps),
                            "layers", rows_json(e->net, t, at), "reproduce", line);
    json_t *result = json_pack("{s:o, s:{s:o}}", "row", row, "samples", "step_s", bench_samples(all, (size_t)t->steps));
    free(all);
    return result;
}

static rm_status layers(const bench_options *o)
{
    bench_session s;
    rm_engine e = { 0 };
    timing t = { 0 };
    json_t *result = NULL;
    rm_status st = RM_OK;
    RM_TRY(bench_session_plan(o, "tiny", &s));
    RM_TRY_GOTO(st, bench_session_device(o, &s), out);
    rm_engine_config ec = { .recipe = &s.recipe, .dtype = s.dtype, .px = s.recipe.px, .batch = s.batch, .classes = s.classes, .no_fuse = o->no_fuse,
                            .timers = true, .seed = (uint64_t)o->seed };
    RM_TRY_GOTO(st, rm_engine_new(s.device, s.comm, &ec, &e), out);
    if (o->dry_run) {
        bench_print_plan(&s, &e);
        goto out;
    }
    RM_TRY_GOTO(st, measure(&s, &e, o, &t), out);
    result = result_json(o, &s, &e, &t);
    if (!result) RM_TRY_GOTO(st, rm_fail(RM_E_NOMEM, "out of memory for the layer table"), out);
    json_t *row = json_object_get(result, "row");
    if (bench_table_wanted(o)) print_rows(row);
    RM_TRY_GOTO(st, bench_store_run(&bench_cmd_layers, o, "layers", result), out);
    st = bench_emit_json(&bench_cmd_layers, o, NULL, json_pack("[O]", row));
out:
    json_decref(result);
    timing_free(&t);
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}

static const char *const examples[] = {
    "bench layers --px 64 --batch 64",
    "bench layers --px 224 --batch 32 --dtype bf16 --json layers.json",
    "bench layers --no-fuse",
    "bench layers --dry-run",
    NULL,
};
const bench_command bench_cmd_layers = {
    .name = "layers", .summary = "one training step, a row per layer and pass: time, GFLOP/s, GB/s, share, implementation",
    .usage = "bench layers [--px N] [--batch N] [--steps N] [options]", .examples = examples, .run = layers,
};
