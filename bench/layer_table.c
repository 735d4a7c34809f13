#include "bench/layer_table.h"
#include "base/clock.h"
#include "bench/rows.h"
#include "profiler/stats.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct bench_layer_times {
    const rm_engine *e;
    int32_t nodes, room, n;
    uint64_t *node_ns; /* [room][nodes] */
    rm_budget *budget; /* [room] */
};

rm_status bench_layer_times_new(const rm_engine *e, int32_t steps, bench_layer_times **out)
{
    const rm_node *node;
    bench_layer_times *t = calloc(1, sizeof *t);
    if (!t) return rm_fail(RM_E_NOMEM, "out of memory for the layer times");
    *t = (bench_layer_times) { .e = e, .nodes = rm_net_nodes(e->net, &node), .room = steps };
    t->node_ns = calloc((size_t)t->nodes * (size_t)steps, sizeof *t->node_ns);
    t->budget = calloc((size_t)steps, sizeof *t->budget);
    if (!t->node_ns || !t->budget) {
        bench_layer_times_free(t);
        return rm_fail(RM_E_NOMEM, "out of memory for the layer times of %d steps", steps);
    }
    *out = t;
    return RM_OK;
}

void bench_layer_times_free(bench_layer_times *t)
{
    if (!t) return;
    free(t->node_ns);
    free(t->budget);
    free(t);
}

/* ---- reading a step */

/* What of [begin, end) lies after all that came before it, so that the sum is never above the union. */
static uint64_t own_time(uint64_t begin, uint64_t end, uint64_t *taken)
{
    const uint64_t from = begin > *taken ? begin : *taken;
    if (end <= from) return 0;
    *taken = end;
    return end - from;
}

static rm_status read_node(const bench_layer_times *t, const rm_node *node, const rm_step *s, uint64_t *taken, uint64_t *sum)
{
    const uint64_t last = s->begin_ns + s->step_ns;
    uint64_t begin, end;
    RM_TRY(rm_node_ns(t->e->net, node, &begin, &end));
    *sum += own_time(begin, end < last ? end : last, taken);
    return RM_OK;
}

rm_status bench_layer_times_note(bench_layer_times *t, const rm_step *s)
{
    const rm_node *node, *part;
    const int32_t n = rm_net_nodes(t->e->net, &node);
    const uint32_t parts = rm_net_update_parts(t->e->net, &part);
    uint64_t taken = s->begin_ns, *to = t->node_ns + (size_t)t->n * (size_t)t->nodes;
    RM_ASSERT(n == t->nodes && t->n < t->room && s->budget.window_ns == s->step_ns);
    for (int32_t i = 0; i < n; i++) {
        const bool cut = parts && node[i].pass == RM_PASS_UPDATE;
        to[i] = 0;
        if (!cut) RM_TRY(read_node(t, &node[i], s, &taken, &to[i]));
        for (uint32_t p = 0; cut && p < parts; p++) RM_TRY(read_node(t, &part[p], s, &taken, &to[i]));
    }
    t->budget[t->n++] = s->budget;
    return RM_OK;
}

int32_t bench_layer_times_median(const bench_layer_times *t)
{
    int32_t best = 0;
    for (int32_t i = 0; i < t->n; i++) {
        const uint64_t own = t->budget[i].window_ns;
        int32_t below = 0;
        for (int32_t j = 0; j < t->n; j++) below += t->budget[j].window_ns < own || (t->budget[j].window_ns == own && j < i);
        if (below == (t->n - 1) / 2) best = i;
    }
    return best;
}

/* ---- rows */

typedef uint64_t time_of(const bench_layer_times *t, int32_t step, size_t which);

static uint64_t node_time(const bench_layer_times *t, int32_t step, size_t node) { return t->node_ns[(size_t)step * (size_t)t->nodes + node]; }

/* What is no op. */
static const struct {
    const char *name, *pass;
    size_t term; /* of rm_budget; compute_ns: what no op had of it */
    bool always;
} rest[] = {
    { "other computing", "other", offsetof(rm_budget, compute_ns), false },
    { "exposed communication", "comm", offsetof(rm_budget, exposed_comm_ns), false },
    { "copy", "copy", offsetof(rm_budget, exposed_copy_ns), false },
    { "input", "input", offsetof(rm_budget, input_ns), false },
    { "host", "host", offsetof(rm_budget, host_ns), true },
    { "idle", "idle", offsetof(rm_budget, idle_ns), true },
};

static uint64_t rest_time(const bench_layer_times *t, int32_t step, size_t which)
{
    uint64_t ns = *(const uint64_t *)(const void *)((const char *)&t->budget[step] + rest[which].term);
    if (rest[which].term != offsetof(rm_budget, compute_ns)) return ns;
    for (int32_t i = 0; i < t->nodes; i++) {
        RM_ASSERT(ns >= node_time(t, step, (size_t)i));
        ns -= node_time(t, step, (size_t)i);
    }
    return ns;
}

static double median_s(const bench_layer_times *t, time_of *f, size_t which)
{
    double *all = malloc((size_t)t->n * sizeof *all), median = NAN;
    if (!all) return NAN;
    for (int32_t i = 0; i < t->n; i++) all[i] = rm_s(f(t, i, which));
    median = rm_median(all, (size_t)t->n);
    free(all);
    return median;
}

typedef struct table {
    const bench_layer_times *t;
    const rm_peaks *peaks;
    int32_t at; /* the step shown */
    double step_s, at_bounds_s;
    uint64_t sum_ns;
    size_t n;
    json_t *rows;
} table;

/* What every row has. */
static json_t *add_row(table *k, const char *name, const char *pass, const char *op, const char *impl, time_of *f, size_t which)
{
    const uint64_t ns = f(k->t, k->at, which);
    const double s = rm_s(ns);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:f, s:I, s:o, s:f}", "name", name, "pass", pass, "op", op, "impl", impl, "time_s", s, "time_ns",
                            (json_int_t)ns, "time_s_median", bench_number(median_s(k->t, f, which)), "share", k->step_s > 0 ? s / k->step_s : 0.0);
    k->sum_ns += ns;
    k->n++;
    json_array_append_new(k->rows, row);
    return row;
}

static void set_work(json_t *row, uint64_t flops, uint64_t bytes)
{
    static const char none[] = "it computes nothing or moves nothing, or took no time";
    const double s = bench_row_real(row, "time_s");
    json_object_set_new(row, "flops", json_integer((json_int_t)flops));
    json_object_set_new(row, "bytes", json_integer((json_int_t)bytes));
    bench_set_number(row, "gflops_per_s", flops ? (double)flops / s * 1e-9 : NAN, none);
    bench_set_number(row, "gb_per_s", bytes ? (double)bytes / s * 1e-9 : NAN, none);
    bench_set_number(row, "intensity", bytes ? (double)flops / (double)bytes : NAN, none);
}

/* Returns how far the row is above its bound, seconds. */
static double set_bound(json_t *row, rm_roof_bound b, double step_s, const char *why)
{
    const double s = bench_row_real(row, "time_s"), above = isfinite(b.bound_s) ? fmax(0, s - b.bound_s) : 0;
    const bool known = isfinite(b.bound_s);
    bench_set_number(row, "bound_s", b.bound_s, why);
    if (known) json_object_set_new(row, "bound_limit", json_string(b.limit));
    else bench_set_null(row, "bound_limit", why);
    bench_set_number(row, "bound_share", s > 0 ? b.bound_s / s : NAN, known ? "it took no time" : why);
    bench_set_number(row, "step_if_at_bound_s", known ? step_s - above : NAN, why);
    return above;
}

static const char no_peaks[] = "no peaks were measured";
static const rm_roof_bound no_bound = { .bound_s = NAN, .intensity = NAN, .limit = "" };

static void add_op(table *k, const rm_node *node, size_t i)
{
    const rm_plan_info *p = &node->info;
    const uint64_t bytes = p->bytes_read + p->bytes_written;
    json_t *row = add_row(k, node->name, rm_pass_name(node->pass), rm_opcode_name(node->op.code), p->impl, node_time, i);
    rm_roof_bound b = no_bound;
    if (k->peaks) {
        const rm_roof roof = rm_peaks_roof(k->peaks, node->op.x.dtype);
        b = rm_roof_bound_of(&roof, p->flops, bytes);
        set_work(row, p->flops, bytes);
        k->at_bounds_s -= set_bound(row, b, k->step_s, "no peak bounds this op"); /* while the roof lives: b.limit is in it */
        return;
    }
    set_work(row, p->flops, bytes);
    set_bound(row, b, k->step_s, no_peaks);
}

static void add_rest(table *k, size_t i)
{
    if (!rest[i].always && !rest_time(k->t, k->at, i)) return;
    json_t *row = add_row(k, rest[i].name, rest[i].pass, "", "", rest_time, i);
    set_work(row, 0, 0);
    set_bound(row, no_bound, k->step_s, "not an operation");
}

json_t *bench_layer_times_json(const bench_layer_times *t, const rm_peaks *peaks)
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(t->e->net, &node), at = bench_layer_times_median(t);
    RM_ASSERT(t->n > 0);
    const uint64_t wall_ns = t->budget[at].window_ns;
    table k = { .t = t, .peaks = peaks, .at = at, .step_s = rm_s(wall_ns), .at_bounds_s = rm_s(wall_ns), .rows = json_array() };
    for (int32_t i = 0; i < n; i++) add_op(&k, &node[i], (size_t)i);
    for (size_t i = 0; i < RM_COUNT(rest); i++) add_rest(&k, i);
    RM_ASSERT(k.sum_ns == wall_ns);
    if (json_array_size(k.rows) != k.n) { /* out of memory */
        json_decref(k.rows);
        return NULL;
    }
    json_t *out = json_pack("{s:I, s:o}", "wall_ns", (json_int_t)wall_ns, "layers", k.rows);
    if (out) bench_set_number(out, "at_bounds_s", peaks ? k.at_bounds_s : NAN, no_peaks);
    if (out && !peaks) json_object_set_new(out, "bound_s_reason", json_string(no_peaks));
    return out;
}

/* ---- peaks */

json_t *bench_peaks_json(const rm_peaks *p)
{
    json_t *list = json_array();
    for (int i = 0; i < p->n; i++) {
        const rm_peak *k = &p->at[i];
        json_t *one = json_pack("{s:s, s:s, s:o, s:s, s:s, s:b}", "name", k->name, "unit", k->unit, "value", bench_number(k->value), "how", k->how, "why",
                                k->why, "disturbed", k->disturbed);
        if (one && !isfinite(k->value)) json_object_set_new(one, "value_reason", json_string(k->why));
        json_array_append_new(list, one);
    }
    return list;
}

json_t *bench_roof_json(const rm_roof *r)
{
    json_t *levels = json_array();
    for (int i = 0; i < r->n_level; i++) {
        const rm_roof_level *l = &r->level[i];
        json_t *one = json_pack("{s:s, s:I, s:o}", "name", l->name, "bytes", (json_int_t)l->bytes, "bytes_per_s", bench_number(l->bytes_per_s));
        if (one && l->bytes == UINT64_MAX) bench_set_null(one, "bytes", "memory serves whatever fits nowhere else");
        json_array_append_new(levels, one);
    }
    return json_pack("{s:o, s:o}", "flops_per_s", bench_number(r->flops_per_s), "levels", levels);
}

void bench_mfu_set(json_t *row, const rm_engine *e, double images_per_s, const rm_peaks *peaks)
{
    char name[32], why[160];
    const double flops = 3.0 * 2 * (double)rm_graph_macs(&e->graph);
    snprintf(name, sizeof name, "gemm %s", rm_peak_type(e->cfg.dtype));
    snprintf(why, sizeof why, peaks ? "%s was not measured: this machine does not multiply matrices in that type at speed" : "%s was not measured", name);
    json_object_set_new(row, "flops_per_image", json_real(flops));
    json_object_set_new(row, "mfu_peak", json_string(name));
    bench_set_number(row, "mfu", peaks ? images_per_s * flops / rm_peak_of(peaks, name) : NAN, why);
}
