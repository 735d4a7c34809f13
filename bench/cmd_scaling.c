/* bench scaling: the same training on 1..N devices, a row per N. */
#include "base/log.h"
#include "bench/commands.h"
#include "bench/counters_row.h"
#include "bench/ghost_run.h"
#include "bench/inject.h"
#include "bench/scaling.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const bench_options *o;
    bench_run run;
    json_t   *base, *rows;
    json_t   *acted;           /* the step that ghosts act; NULL: real ranks */
    int32_t   n[BENCH_MAX_LIST], count, largest, cores;
} sweep;

/* 1, 2, 4, ... up to the hardware. */
static rm_status parse_gpus(const bench_options *o, sweep *w)
{
    if (o->gpus[0]) return bench_parse_list(o->gpus, "--gpus", w->n, &w->count);
    int32_t most;
    char where[400];
    RM_TRY(bench_devices(o, o->threads > 0 ? o->threads : 1, &most, where, sizeof where));
    if (most == INT32_MAX) most = rm_cores_available();
    for (int32_t n = 1; n <= most && w->count < BENCH_MAX_LIST; n *= 2) w->n[w->count++] = n;
    return RM_OK;
}

/* Ghosts need no cores of their own: there are as many devices as asked for. */
static rm_status check_ghosts(const bench_options *o)
{
    if (bench_is_rank(o)) return rm_fail(RM_E_ARG, "--ghost starts its own ranks: one that measures, then the ghosts; do not start it with mpirun");
    if (o->strong) return rm_fail(RM_E_ARG, "--ghost --strong: ghosts act one step of a fixed batch per device: leave --strong out");
    if (o->to_accuracy) return rm_fail(RM_E_ARG, "--ghost --to-accuracy: ghosts learn nothing: leave one of them out");
    if (strcmp(o->input_mode, "all") && strcmp(o->input_mode, "synthetic")) return rm_fail(RM_E_ARG, "--ghost --input-mode %s: ghosts read no input: leave --input-mode out", o->input_mode);
    if (o->trace[0]) return rm_fail(RM_E_ARG, "--ghost --trace: ghosts sleep and have nothing to trace: leave one of them out");
    if (o->data[0] && strcmp(o->data, "synthetic")) rm_warn("ghosts read no input: %s is not used", o->data);
    return RM_OK;
}

static rm_status check_trace(const bench_options *o)
{
    if (!o->trace[0]) return RM_OK;
    if (o->no_timers) return rm_fail(RM_E_ARG, "--trace --no-timers: a trace is made of the layers' times: leave one of them out");
    if (!strcmp(o->input_mode, "data-only")) return rm_fail(RM_E_ARG, "--trace --input-mode data-only: the loader alone takes no steps to trace: leave one of them out");
    return RM_OK;
}

/* A device is the same number of cores at every N: what the largest measured N leaves for each. */
static rm_status choose_cores(sweep *w)
{
    int32_t most;
    char where[400];
    RM_TRY(bench_devices(w->o, w->o->threads > 0 ? w->o->threads : 1, &most, where, sizeof where));
    if (w->o->oversubscribe || w->o->ghost) most = INT32_MAX;
    w->largest = 1;
    for (int32_t i = 0; i < w->count; i++)
        if (w->n[i] <= most && w->n[i] > w->largest) w->largest = w->n[i];
    return bench_cores_per_device(w->o, w->o->ghost ? 1 : w->largest, &w->cores);
}

/* Refused before any rank starts: what no N of the list could take. */
static rm_status check_injection(const sweep *w)
{
    const char *spec = w->o->inject;
    rm_inject ignored;
    bool several = false;
    for (int32_t i = 0; i < w->count; i++) {
        if (w->n[i] == 1 || w->n[i] > w->largest) continue;
        RM_TRY(bench_inject_parse(spec, 0, w->n[i], NULL, &ignored));
        if (w->o->ghost && ignored.step_share > 0) return rm_fail(RM_E_ARG, "--inject %s: a ghost only sleeps, and no share of that is computing: use compute=20ms", spec);
        several = true;
    }
    if (spec && bench_inject_takes_time(spec) && !several) return rm_fail(RM_E_ARG, "--inject %s: only runs of several devices take it; name some that fit with --gpus, or give --oversubscribe", spec);
    return RM_OK;
}

static rm_status open_run(sweep *w) { return bench_run_begin(&bench_cmd_scaling, w->o, !w->o->fresh, &w->run); }

/* What rank 0 gathered for N: from the resumed run, or measured now and stored at once. */
static rm_status gathered(sweep *w, int32_t n, json_t **out)
{
    char key[32];
    snprintf(key, sizeof key, "gathered n=%d", n);
    json_t *kept = NULL;
    RM_TRY(rm_store_find(w->run.store, w->run.id, key, &kept));
    if (kept) {
        rm_info("n=%d: already measured", n);
        *out = kept;
        return RM_OK;
    }
    json_t *fresh = NULL;
    if (w->acted) rm_info("n=%d: %d ghost%s", n, n, n == 1 ? "" : "s");
    else rm_info("n=%d: measuring on %d x %d cores", n, n, w->cores);
    const rm_status ran = w->acted ? bench_run_ghosts(w->o, n, w->acted, bench_scaling_rank, &fresh) : bench_run_ranks(w->o, n, w->cores, false, bench_scaling_rank, &fresh);
    RM_TRY(bench_whole(ran, &fresh));
    rm_status st = rm_store_result(w->run.store, w->run.id, key, w->acted ? "emulated" : "measured", true, fresh, NULL, 0);
    if (st == RM_OK) *out = fresh;
    else json_decref(fresh);
    return st;
}

static int32_t steps_of(const bench_options *o) { return o->steps ? o->steps : BENCH_DEFAULT_STEPS; }
static rm_status plan_rank(const bench_options *o, json_t **out) { return bench_ghost_plan_rank(o, steps_of(o), out); }

/* The step that the ghosts of every N act: one rank's, measured once. */
static rm_status measure_acted(sweep *w)
{
    static const char key[] = "gathered ghost plan";
    if (!w->o->ghost) return RM_OK;
    RM_TRY(rm_store_find(w->run.store, w->run.id, key, &w->acted));
    if (w->acted) return RM_OK;
    rm_info("measuring the step of one rank on %d cores", w->cores);
    RM_TRY(bench_run_ranks(w->o, 1, w->cores, false, plan_rank, &w->acted));
    return rm_store_result(w->run.store, w->run.id, key, "measured", true, w->acted, NULL, 0);
}

static rm_status add_row(sweep *w, int32_t n)
{
    char key[32], reason[512], where[400];
    json_t *got = NULL, *result = NULL;
    rm_status st = RM_OK;
    int32_t devices;
    RM_TRY(bench_devices(w->o, w->cores, &devices, where, sizeof where));
    snprintf(key, sizeof key, "n=%d", n);
    if (n > w->largest) {
        snprintf(reason, sizeof reason, "%s; --oversubscribe runs more ranks than that", where);
        result = bench_scaling_absent(w->o, n, reason);
    } else {
        RM_TRY(gathered(w, n, &got));
        result = bench_scaling_row(w->o, n, got, w->base);
        json_decref(got);
    }
    if (!result) return rm_fail(RM_E_NOMEM, "out of memory for the row of n=%d", n);
    json_t *row = json_object_get(result, "row");
    if (w->o->oversubscribe && !w->acted && n > devices) {
        json_object_set_new(row, "oversubscribed", json_true());
        bench_undisturbed(result, "more ranks than devices: they take each other's cores");
    }
    st = bench_store_result(w->run.store, w->run.id, key, result);
    if (st == RM_OK) json_array_append(w->rows, row);
    json_decref(result);
    return st;
}

/* ---- the command */
/* Under the user's own mpirun or srun the world is what it is: one row for it, nothing stored by other ranks. */
static rm_status inside_world(const bench_options *o, sweep *w)
{
    json_t *got = NULL;
    RM_TRY(bench_whole(bench_run_ranks(o, 1, 0, true, bench_scaling_rank, &got), &got));
    if (!got) return RM_OK;
    RM_TRY(open_run(w));
    const json_t *mode = json_object_iter_value(json_object_iter(json_object_get(got, "modes")));
    json_t *result = bench_scaling_row(o, (int32_t)json_array_size(json_object_get(mode, "ranks")), got, NULL);
    json_decref(got);
    if (!result) return rm_fail(RM_E_NOMEM, "out of memory for the row");
    char key[32];
    snprintf(key, sizeof key, "n=%lld", (long long)json_integer_value(json_object_get(json_object_get(result, "row"), "ranks")));
    rm_status st = bench_store_result(w->run.store, w->run.id, key, result);
    if (st == RM_OK) json_array_append(w->rows, json_object_get(result, "row"));
    json_decref(result);
    return st;
}

static rm_status measure_all(sweep *w)
{
    bench_session check;
    RM_TRY(bench_session_plan(w->o, "tiny", &check)); /* refuse bad options and data before any rank starts */
    rm_dataset_close(check.data);
    RM_TRY(parse_gpus(w->o, w));
    RM_TRY(choose_cores(w));
    RM_TRY(check_injection(w));
    RM_TRY(open_run(w));
    RM_TRY(measure_acted(w));
    RM_TRY(gathered(w, 1, &w->base));
    for (int32_t i = 0; i < w->count; i++) RM_TRY(add_row(w, w->n[i]));
    return RM_OK;
}

static rm_status print_plan(const bench_options *o)
{
    sweep w = { .o = o };
    RM_TRY(parse_gpus(o, &w));
    RM_TRY(choose_cores(&w));
    RM_TRY(check_injection(&w));
    printf("%s scaling%s, %d cores a device, %d steps after %d warm-up steps for each input mode\n", o->strong ? "strong" : "weak",
           o->ghost ? " of ghosts that act the step of one rank" : "", w.cores, steps_of(o), o->warmup >= 0 ? o->warmup : BENCH_DEFAULT_WARMUP);
    for (int32_t i = 0; i < w.count; i++) printf("N=%d: %s\n", w.n[i], o->ghost ? "emulated" : w.n[i] <= w.largest ? "measured" : "not measured: more devices than this machine has");
    return bench_print_device_plan(o);
}

/* Figures are whole where a trace is not: said at the very end. */
static rm_status whole_traces(const json_t *rows)
{
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (json_is_true(json_object_get(json_object_get(json_array_get(rows, i), "trace"), "cut"))) return rm_fail(RM_E_PARTIAL, "the sweep finished, but a trace is not whole");
    return RM_OK;
}

static rm_status scaling(const bench_options *o)
{
    json_t *ignored = NULL;
    if (o->rank_result[0]) return bench_run_ranks(o, 1, 0, true, o->ghost && !bench_is_ghost() ? plan_rank : bench_scaling_rank, &ignored);
    if (o->ghost) RM_TRY(check_ghosts(o));
    RM_TRY(check_trace(o));
    if (o->dry_run) return print_plan(o);
    sweep w = { .o = o, .rows = json_array() };
    bool reports = true;
    rm_status st = bench_is_rank(o) ? inside_world(o, &w) : measure_all(&w);
    if (bench_is_rank(o)) reports = json_array_size(w.rows) > 0;
    if (st == RM_OK && reports) st = rm_store_run_end(w.run.store, w.run.id, 0);
    if (st == RM_OK && reports && bench_table_wanted(o)) bench_scaling_print(o, w.rows, w.cores);
    if (st == RM_OK && reports) st = bench_emit_json(&bench_cmd_scaling, o, w.run.environment, json_incref(w.rows));
    if (st == RM_OK) st = whole_traces(w.rows);
    json_decref(w.base);
    json_decref(w.acted);
    json_decref(w.rows);
    bench_run_close(&w.run);
    return st;
}

static const char *const examples[] = {
    "bench scaling --gpus 1,2,4,8,16",
    "bench scaling --gpus 1,2 --data data/fashion-mnist --steps 20 --json scaling.json",
    "bench scaling --gpus 1,2 --strong --batch 128 --data synthetic --px 64",
    "bench scaling --gpus 1,2 --inject straggler=20ms@rank1",
    "bench scaling --gpus 1,2 --trace traces/t.json.gz",
    "bench scaling --gpus 1,2,4,8,16 --ghost --ghost-bytes 0.1",
    NULL,
};
const bench_command bench_cmd_scaling = {
    .name = "scaling", .summary = "the same training on 1..N devices: images/s, efficiency, where the loss goes",
    .usage = "bench scaling [--gpus LIST] [--strong] [options]", .examples = examples, .run = scaling,
};
