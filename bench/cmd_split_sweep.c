/* bench split-sweep: the same training step under each split of the gradients, beside its twins. */
#include "base/log.h"
#include "bench/commands.h"
#include "bench/ghost_run.h"
#include "bench/split_sweep.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- before any rank starts */
typedef struct plan { bench_session s; rm_graph graph; bench_split_list splits; int32_t ranks, cores; } plan;

static void plan_free(plan *p)
{
    bench_split_list_free(&p->splits);
    rm_graph_free(&p->graph);
    bench_session_close(&p->s);
}

static rm_status count_ranks(const bench_options *o, plan *p)
{
    int32_t n = 1, list[BENCH_MAX_LIST] = { 2 };
    if (o->gpus[0]) RM_TRY(bench_parse_list(o->gpus, "--gpus", list, &n));
    if (bench_is_rank(o)) list[0] = rm_world_from_env().size;
    p->ranks = list[0];
    if (n != 1 || p->ranks < 2) return rm_fail(RM_E_ARG, "--gpus %s: split-sweep takes one number, 2 or more: one device alone sends no gradients", o->gpus);
    return o->ghost ? bench_cores_per_device(o, 1, &p->cores) : bench_cores_per_device(o, p->ranks, &p->cores);
}

/* Free also after an error. */
static rm_status plan_new(const bench_options *o, plan *p)
{
    bench_options synthetic = *o;
    *p = (plan){ .ranks = 0 };
    synthetic.data = "synthetic";
    RM_TRY(bench_session_plan(&synthetic, "tiny", &p->s));
    const rm_recipe *r = &p->s.recipe;
    RM_TRY(rm_graph_resnet(r->depth, r->variant, (rm_shape){ p->s.batch, 3, r->px, r->px }, p->s.classes, &p->graph));
    RM_TRY(bench_split_list_parse(o->splits, &p->graph, bench_split_order(o), &p->splits));
    RM_TRY(count_ranks(o, p));
    if (o->data[0] && strcmp(o->data, "synthetic")) rm_warn("the sweep uses synthetic input: %s is not read", o->data);
    return RM_OK;
}

static void print_plan(const bench_options *o, const plan *p)
{
    const rm_recipe *r = &p->s.recipe;
    const int32_t rounds = bench_sweep_rounds(o);
    printf("%d rank%s%s, ResNet-%d %s, %d px, batch %d a device, %d classes; %d rounds of %d steps: each split, and its twins with the all-reduce off and a barrier in its place\n",
           p->ranks, p->ranks == 1 ? "" : "s", o->ghost ? " that sleep where one rank was measured to compute" : "", r->depth, r->variant, r->px, p->s.batch, p->s.classes, rounds,
           p->splits.n + 2);
    for (int32_t i = 0; i < p->splits.n; i++) {
        char shares[80];
        const uint32_t n = bench_split_shares(p->splits.spec[i], &p->graph, bench_split_order(o), shares, sizeof shares);
        printf("%-20s %4u all-reduce%s %s\n", p->splits.spec[i], n, n == 1 ? ": " : "s:", shares);
    }
}

/* ---- results */
typedef struct report { const bench_options *o; bench_run run; json_t *rows; bool oversubscribed; } report;

/* Two rows may be of the same split: their number is part of the key. */
static rm_status keep_row(report *r, const json_t *gathered, int32_t i)
{
    char key[128];
    json_t *result = bench_sweep_row(r->o, gathered, i), *row = json_object_get(result, "row");
    if (!row) return rm_fail(RM_E_NOMEM, "out of memory for row %d", i + 1);
    json_object_set_new(row, "oversubscribed", json_boolean(r->oversubscribed));
    snprintf(key, sizeof key, "%03d %.100s", i + 1, json_string_value(json_object_get(row, "split")));
    rm_status st = bench_store_result(r->run.store, r->run.id, key, result);
    if (st == RM_OK) json_array_append(r->rows, row);
    json_decref(result);
    return st;
}

/* Rows of what was measured, also of a run that ended early. */
static rm_status show(const bench_options *o, const json_t *gathered, bool oversubscribed, rm_status ended)
{
    report r = { .o = o, .rows = json_array(), .oversubscribed = oversubscribed };
    const int32_t n = (int32_t)json_array_size(json_object_get(gathered, "splits"));
    const char *origin = json_is_true(json_object_get(gathered, "ghost")) ? "emulated" : "measured";
    rm_status st = bench_run_begin(&bench_cmd_split_sweep, o, false, &r.run);
    if (st == RM_OK) st = rm_store_result(r.run.store, r.run.id, "gathered sweep", origin, true, gathered, NULL, 0);
    for (int32_t i = 0; st == RM_OK && i < n; i++) st = keep_row(&r, gathered, i);
    if (st == RM_OK) st = rm_store_run_end(r.run.store, r.run.id, rm_exit_code(ended, bench_signal()));
    if (st == RM_OK && bench_table_wanted(o)) bench_sweep_print(r.rows, ended != RM_OK);
    if (st == RM_OK) st = bench_emit_json(&bench_cmd_split_sweep, o, r.run.environment, json_incref(r.rows));
    bench_run_close(&r.run);
    json_decref(r.rows);
    return st;
}

/* ---- the command */
static rm_status plan_rank(const bench_options *o, json_t **out) { return bench_ghost_plan_rank(o, bench_sweep_rounds(o), out); }

static rm_status measure(const bench_options *o, const plan *p, json_t **out)
{
    json_t *measured = NULL;
    if (!o->ghost) return bench_run_ranks(o, p->ranks, p->cores, false, bench_sweep_rank, out);
    if (bench_is_rank(o)) return rm_fail(RM_E_ARG, "--ghost starts its own ranks: one that measures, then the ghosts; do not start it with mpirun");
    rm_info("measuring the step of one rank");
    RM_TRY(bench_run_ranks(o, 1, p->cores, false, plan_rank, &measured));
    rm_info("starting %d ghosts of it", p->ranks);
    const rm_status st = bench_run_ghosts(o, p->ranks, measured, bench_sweep_rank, out);
    json_decref(measured);
    return st;
}

static rm_status sweep(const bench_options *o, const plan *p)
{
    json_t *gathered = NULL;
    char why[1024];
    const rm_status st = measure(o, p, &gathered);
    snprintf(why, sizeof why, "%s", rm_last_error());
    if (!gathered) return st; /* a failure, or a rank of the user's own world that does not report */
    const bool shared = !o->ghost && o->oversubscribe && p->ranks * p->cores > rm_cores_available();
    const rm_status shown = show(o, gathered, shared, st);
    json_decref(gathered);
    return shown != RM_OK ? shown : st != RM_OK ? rm_fail(st, "%s", why) : RM_OK;
}

static rm_status split_sweep(const bench_options *o)
{
    json_t *ignored = NULL;
    plan p;
    if (o->rank_result[0]) return bench_run_ranks(o, 1, 0, true, o->ghost && !bench_is_ghost() ? plan_rank : bench_sweep_rank, &ignored);
    rm_status st = plan_new(o, &p);
    if (st == RM_OK && o->dry_run) print_plan(o, &p);
    else if (st == RM_OK) st = sweep(o, &p);
    plan_free(&p);
    return st;
}

static const char *const examples[] = {
    "bench split-sweep",
    "bench split-sweep --gpus 4 --splits '107,160;ddp;bytes:8M' --steps 20",
    "bench split-sweep --hostfile hosts --gpus 2 --splits 'equal:1..8' --json sweep.json",
    "bench split-sweep --gpus 16 --ghost --ghost-bytes 0.25",
    NULL,
};
const bench_command bench_cmd_split_sweep = {
    .name = "split-sweep",
    .summary = "the same training under each split of the gradients into all-reduces: what communication costs",
    .usage = "bench split-sweep [--gpus N] [--splits LIST] [options]",
    .examples = examples,
    .run = split_sweep,
};
