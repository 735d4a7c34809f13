/* bench splits: what a split of the gradients means. Nothing runs. */
#include "bench/commands.h"
#include "bench/rows.h"
#include "bench/session.h"
#include "model/graph.h"
#include "model/parallel/split.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { rm_graph graph; uint64_t *bytes; uint32_t *end, n_end; } split_view;

static void view_free(split_view *v)
{
    rm_graph_free(&v->graph);
    free(v->bytes);
    free(v->end);
}

static rm_status view_new(const bench_options *o, const char *spec, split_view *v)
{
    const bool forward = strcmp(o->split_order, "forward") == 0;
    RM_TRY(rm_graph_resnet(o->depth, "v1.5", (rm_shape) { 1, 3, 224, 224 }, o->classes ? o->classes : 1000, &v->graph));
    const uint32_t n = (uint32_t)v->graph.n_param;
    v->bytes = malloc(n * sizeof *v->bytes);
    v->end = malloc(n * sizeof *v->end);
    if (!v->bytes || !v->end) return rm_fail(RM_E_NOMEM, "out of memory for %u gradients", n);
    for (uint32_t i = 0; i < n; i++) v->bytes[i] = v->graph.param[v->graph.by_ready[i]].count * sizeof(float);
    return rm_split_parse(spec, v->bytes, n, forward ? RM_SPLIT_FORWARD : RM_SPLIT_READY, v->end, &v->n_end);
}

static const char *name_of(const split_view *v, uint32_t ready) { return v->graph.param[v->graph.by_ready[ready]].name; }

static json_t *part_json(const split_view *v, uint32_t i)
{
    const rm_split_part p = rm_split_part_at(v->bytes, v->end, v->n_end, i);
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:s, s:s}", "first", (json_int_t)p.first, "last", (json_int_t)p.last, "gradients", (json_int_t)(p.last - p.first + 1),
                     "bytes", (json_int_t)p.bytes, "share", p.share, "first_name", name_of(v, p.first), "last_name", name_of(v, p.last));
}

/* room: "99.99/" for each of 161 gradients, or "160,". */
static json_t *row_json(const bench_options *o, const char *spec, const split_view *v)
{
    char shares[4096], ends[4096];
    json_t *parts = json_array();
    uint64_t bytes = 0;
    for (int32_t i = 0; i < v->graph.n_param; i++) bytes += v->bytes[i];
    for (uint32_t i = 0; i < v->n_end; i++) json_array_append_new(parts, part_json(v, i));
    rm_split_shares(v->bytes, v->end, v->n_end, shares, sizeof shares);
    if (!rm_split_print(v->end, v->n_end, ends, sizeof ends)) ends[0] = '\0';
    json_t *row = json_pack("{s:s, s:s, s:i, s:i, s:i, s:I, s:s, s:o, s:s}", "spec", spec, "ends", ends, "depth", v->graph.depth, "classes", v->graph.classes, "gradients",
                            v->graph.n_param, "bytes", (json_int_t)bytes, "order", o->split_order, "parts", parts, "shares", shares);
    return row;
}

static void print_row(const json_t *row)
{
    const json_t *parts = json_object_get(row, "parts"), *p;
    size_t i;
    printf("%s: %zu all-reduces of ResNet-%lld's %lld gradients at %lld classes, %.1f MB as fp32\n", bench_row_text(row, "spec"), json_array_size(parts),
           bench_row_int(row, "depth"), bench_row_int(row, "gradients"), bench_row_int(row, "classes"), (double)bench_row_int(row, "bytes") * 1e-6);
    if (strcmp(bench_row_text(row, "order"), "forward") == 0)
        printf("counted in forward order, conv1.weight first; the same in ready order, in which the rows are: %s\n", bench_row_text(row, "ends"));
    printf("%4s  %9s  %9s  %11s  %7s  %-28s  %s\n", "#", "0-based", "gradients", "bytes", "share %", "first", "last");
    json_array_foreach(parts, i, p)
    {
        char range[32];
        snprintf(range, sizeof range, "%lld..%lld", bench_row_int(p, "first"), bench_row_int(p, "last"));
        printf("%4zu  %9s  %9lld  %11lld  %7.2f  %-28s  %s\n", i + 1, range, bench_row_int(p, "gradients"), bench_row_int(p, "bytes"),
               100 * bench_row_real(p, "share"), bench_row_text(p, "first_name"), bench_row_text(p, "last_name"));
    }
}

static rm_status show(const bench_options *o)
{
    split_view v = { .bytes = NULL };
    json_t *row = NULL, *environment = NULL;
    if (o->n_arg < 2) return rm_fail(RM_E_ARG, "splits show wants a split: ends such as 107,160, or single, per-layer, bytes:25M, ddp, equal:K");
    rm_status st = view_new(o, o->arg[1], &v);
    if (st == RM_OK) row = row_json(o, o->arg[1], &v);
    if (st == RM_OK) environment = rm_runinfo_json(NULL, 0);
    if (st == RM_OK && (!row || !environment)) st = rm_fail(RM_E_NOMEM, "out of memory for the table");
    if (st == RM_OK && bench_table_wanted(o)) print_row(row);
    if (st == RM_OK) st = bench_emit_json(&bench_cmd_splits, o, environment, json_pack("[O]", row));
    json_decref(row);
    json_decref(environment);
    view_free(&v);
    return st;
}

static rm_status search(const bench_options *o)
{
    return rm_fail(RM_E_UNSUPPORTED, "splits search: the exact search is not in this version; bench split-sweep measures the splits of a list");
}

static rm_status run(const bench_options *o)
{
    static const struct { const char *verb; rm_status (*run)(const bench_options *o); } verbs[] = { { "show", show }, { "search", search } };
    for (size_t i = 0; i < RM_COUNT(verbs); i++)
        if (strcmp(o->arg[0], verbs[i].verb) == 0) return verbs[i].run(o);
    return rm_fail(RM_E_ARG, "unknown verb %s; there is show", o->arg[0]);
}

static const char *const examples[] = { "bench splits show 107,160", "bench splits show ddp --classes 10", "bench splits show equal:4 --json", NULL };
const bench_command bench_cmd_splits = {
    .name = "splits",
    .summary = "what a split of the gradients into all-reduces means: bytes, shares, names",
    .usage = "bench splits show SPEC [--classes N] [--split-order ready|forward] [options]",
    .examples = examples,
    .run = run,
};
