/* bench comm: all-reduce and broadcast over sizes, in nccl-tests' terms, and what an all-reduce costs as a curve. */
#include "base/log.h"
#include "bench/commands.h"
#include "bench/comm_sweep.h"
#include "bench/rows.h"
#include "bench/session.h"
#include "kernels/comm/comm.h"
#include "model/parallel/cost.h"
#include "profiler/runinfo.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const operations[] = { "all-reduce", "broadcast" };
static bool is_row_of(const json_t *row, const char *kind, const char *op)
{
    return !strcmp(bench_row_text(row, "kind"), kind) && !strcmp(bench_row_text(row, "op"), op);
}

/* ---- rows */
/* What the ranks could not know: how to get this row again, and whether they shared cores. */
static void complete(const bench_options *o, json_t *row, bool oversubscribed)
{
    char bytes[32], gpus[32];
    bench_options one = *o;
    snprintf(bytes, sizeof bytes, "%lld", bench_row_int(row, "bytes"));
    snprintf(gpus, sizeof gpus, "%lld", bench_row_int(row, "ranks"));
    one.gpus = gpus;
    one.sizes = bytes;
    one.comm_op = bench_row_text(row, "op");
    json_object_set_new(row, "oversubscribed", json_boolean(oversubscribed));
    json_object_set_new(row, "reproduce", bench_reproduce(&bench_cmd_comm, &one));
}

static json_t *fit_json(const json_t *like, const rm_cost_point *p, uint32_t n)
{
    rm_cost c;
    if (rm_cost_fit(p, n, &c) != RM_OK) return NULL;
    const double error = rm_cost_leave_one_out(p, n);
    json_t *row = json_pack("{s:s, s:s, s:O, s:O, s:O, s:O, s:O, s:s, s:o, s:f, s:o, s:o}", "kind", "fit", "op", bench_row_text(like, "op"), "ranks",
                            json_object_get(like, "ranks"), "hosts", json_object_get(like, "hosts"), "dtype", json_object_get(like, "dtype"), "comm_library",
                            json_object_get(like, "comm_library"), "oversubscribed", json_object_get(like, "oversubscribed"), "origin", bench_row_text(like, "origin"), "cost",
                            rm_cost_json(&c), "alpha_s", rm_cost_alpha_ns(&c) * 1e-9, "beta_s_per_byte",
                            c.n > 1 ? bench_number(rm_cost_ns_per_byte(&c) * 1e-9) : json_null(), "fit_error_share", bench_number(error));
    if (row && c.n < 2) json_object_set_new(row, "beta_s_per_byte_reason", json_string("one point has no slope"));
    if (row && isnan(error)) json_object_set_new(row, "fit_error_share_reason", json_string("takes at least 3 sizes"));
    rm_cost_free(&c);
    return row;
}

/* The cost curve of one operation out of its rows. NULL when it was not measured. */
static json_t *fit_of(const json_t *rows, const char *op)
{
    rm_cost_point p[BENCH_COMM_SIZES];
    const json_t *row, *like = NULL;
    uint32_t n = 0;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        const double s = bench_row_real(row, "latency_s");
        if (!is_row_of(row, "size", op) || !isfinite(s) || n == BENCH_COMM_SIZES) continue;
        p[n++] = (rm_cost_point) { (uint64_t)bench_row_int(row, "bytes"), s * 1e9, (double)bench_row_int(row, "iterations") };
        like = row;
    }
    return n ? fit_json(like, p, n) : NULL;
}

/* ---- the table */
static void print_head(const json_t *row)
{
    const char *library = bench_row_text(row, "comm_library");
    printf("# %lld rank%s on %lld host%s, %s%s; in place; time: median over iterations of the slowest rank\n", bench_row_int(row, "ranks"),
           bench_row_int(row, "ranks") == 1 ? "" : "s", bench_row_int(row, "hosts"), bench_row_int(row, "hosts") == 1 ? "" : "s",
           library[0] ? library : "nothing to exchange", json_is_true(json_object_get(row, "oversubscribed")) ? "; oversubscribed: ranks share cores" : "");
    printf("#%13s %12s %10s %6s %6s %5s %10s %9s %9s %8s\n", "op", "size", "count", "type", "redop", "root", "time", "algbw", "busbw", "#wrong");
    printf("#%13s %12s %10s %6s %6s %5s %10s %9s %9s %8s\n", "", "(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)", "");
}

static void print_row(const json_t *row)
{
    printf("%14s %12lld %10lld %6s %6s %5lld %10.2f %9.4f %9.4f %8lld\n", bench_row_text(row, "op"), bench_row_int(row, "bytes"), bench_row_int(row, "count"),
           bench_row_text(row, "dtype"), bench_row_text(row, "redop"), bench_row_int(row, "root"), bench_row_real(row, "latency_s") * 1e6,
           bench_row_real(row, "algbw_bytes_per_s") * 1e-9, bench_row_real(row, "busbw_bytes_per_s") * 1e-9, bench_row_int(row, "wrong"));
}

static void print_sum(const json_t *rows, const char *op)
{
    const json_t *row;
    double sum = 0;
    size_t i, n = 0;
    json_array_foreach(rows, i, row)
    {
        if (!is_row_of(row, "size", op)) continue;
        sum += bench_row_real(row, "busbw_bytes_per_s");
        n++;
    }
    if (n) printf("# Avg bus bandwidth    : %.5f GB/s (%s)\n", sum / (double)n * 1e-9, op);
}

static void print_fit(const json_t *row)
{
    const double beta = bench_row_real(row, "beta_s_per_byte"), error = bench_row_real(row, "fit_error_share");
    const json_t *cost = json_object_get(row, "cost");
    const size_t n = json_array_size(cost);
    printf("# Cost of %-12s : alpha %.2f us at %lld B", bench_row_text(row, "op"), bench_row_real(row, "alpha_s") * 1e6,
           (long long)json_integer_value(json_array_get(json_array_get(cost, 0), 0)));
    if (beta > 0) printf(", beta %.4f ns/B (%.4f GB/s) at the largest", beta * 1e9, 1e-9 / beta);
    printf("; %zu point%s", n, n == 1 ? "" : "s");
    if (!isnan(error)) printf(", largest leave-one-out error %.1f %%", error * 100);
    putchar('\n');
}

static void print_table(const json_t *rows)
{
    const json_t *row;
    size_t i;
    print_head(json_array_get(rows, 0));
    json_array_foreach(rows, i, row) if (!strcmp(bench_row_text(row, "kind"), "size")) print_row(row);
    for (size_t k = 0; k < RM_COUNT(operations); k++) print_sum(rows, operations[k]);
    json_array_foreach(rows, i, row) if (!strcmp(bench_row_text(row, "kind"), "fit")) print_fit(row);
}

/* ---- storing */
typedef struct report { const bench_options *o; bench_run run; json_t *rows; } report;

static rm_status keep(report *r, json_t *result, const char *key)
{
    RM_TRY(bench_store_result(r->run.store, r->run.id, key, result));
    return json_array_append(r->rows, json_object_get(result, "row")) == 0 ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the results");
}

static rm_status keep_sizes(report *r, const json_t *results, bool oversubscribed)
{
    json_t *result;
    size_t i;
    json_array_foreach(results, i, result)
    {
        char key[96];
        json_t *row = json_object_get(result, "row");
        complete(r->o, row, oversubscribed);
        snprintf(key, sizeof key, "%s n=%lld bytes=%lld", bench_row_text(row, "op"), bench_row_int(row, "ranks"), bench_row_int(row, "bytes"));
        RM_TRY(keep(r, result, key));
    }
    return RM_OK;
}

static rm_status keep_fits(report *r)
{
    for (size_t k = 0; k < RM_COUNT(operations); k++) {
        char key[96];
        json_t *row = fit_of(r->rows, operations[k]);
        if (!row) continue;
        snprintf(key, sizeof key, "fit %s n=%lld", operations[k], bench_row_int(row, "ranks"));
        json_t *result = json_pack("{s:o}", "row", row);
        const rm_status st = result ? keep(r, result, key) : rm_fail(RM_E_NOMEM, "out of memory for the cost of %s", operations[k]);
        json_decref(result);
        RM_TRY(st);
    }
    return RM_OK;
}

/* The first wrong row as a failure. */
static rm_status verdict(const json_t *rows)
{
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        if (bench_row_int(row, "wrong") > 0)
            return rm_fail(RM_E_NUMERIC, "%lld elements were wrong in %s of %lld bytes: this MPI, network or memory corrupts data", bench_row_int(row, "wrong"),
                           bench_row_text(row, "op"), bench_row_int(row, "bytes"));
    }
    return RM_OK;
}

/* Stores and shows what there is, also of a run that ended early with `st` for the reason `why`. A curve is fitted only to a whole and
 * right one. */
static rm_status show(const bench_options *o, const json_t *results, bool oversubscribed, rm_status st, const char *why)
{
    report r = { .o = o, .rows = json_array() };
    rm_status own = bench_run_begin(&bench_cmd_comm, o, false, &r.run);
    if (own == RM_OK) own = keep_sizes(&r, results, oversubscribed);
    if (own == RM_OK && st == RM_OK) st = verdict(r.rows);
    else if (own == RM_OK) st = rm_fail(st, "%s", why);
    if (own == RM_OK && st == RM_OK) own = keep_fits(&r);
    if (own == RM_OK) own = rm_store_run_end(r.run.store, r.run.id, rm_exit_code(st, bench_signal()));
    if (own == RM_OK && bench_table_wanted(o)) print_table(r.rows);
    if (own == RM_OK) own = bench_emit_json(&bench_cmd_comm, o, r.run.environment, json_incref(r.rows));
    bench_run_close(&r.run);
    json_decref(r.rows);
    return own != RM_OK ? own : st;
}

static rm_status comm(const bench_options *o)
{
    json_t *result = NULL;
    uint64_t sizes[BENCH_COMM_SIZES];
    uint32_t n_sizes;
    int32_t n = 1, cores, list[BENCH_MAX_LIST] = { 2 };
    if (o->gpus[0]) RM_TRY(bench_parse_list(o->gpus, "--gpus", list, &n));
    if (n != 1) return rm_fail(RM_E_ARG, "--gpus %s: bench comm takes one number", o->gpus);
    RM_TRY(bench_comm_sizes(o->sizes, sizes, &n_sizes));
    RM_TRY(bench_cores_per_device(o, list[0], &cores));
    char why[1024];
    const rm_status st = bench_run_ranks(o, list[0], cores, true, bench_comm_rank, &result);
    snprintf(why, sizeof why, "%s", rm_last_error());
    if (!result) return st;
    const bool shared = o->oversubscribe && list[0] * cores > rm_cores_available();
    const rm_status shown = show(o, json_object_get(result, "results"), shared, st, why);
    json_decref(result);
    return shown;
}

static const char *const examples[] = {
    "bench comm",
    "bench comm --gpus 4 --sizes 1Mi:256Mi:4 --op all-reduce",
    "bench comm --hostfile hosts --gpus 2 --allreduce-dtype bf16 --json comm.json",
    "mpirun -n 8 bench comm --sizes 25M",
    NULL,
};
const bench_command bench_cmd_comm = {
    .name = "comm",
    .summary = "all-reduce and broadcast over sizes: latency, algbw, busbw, checked by exact sums",
    .usage = "bench comm [--gpus N] [--sizes MIN:MAX[:FACTOR]|LIST] [--op all-reduce|broadcast|all] [options]",
    .examples = examples,
    .run = comm,
};
