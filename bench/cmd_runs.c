/* bench runs: what a store holds. */
#include "bench/commands.h"
#include "bench/session.h"
#include "profiler/runinfo.h"
#include "profiler/store.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const examples[] = { "bench runs", "bench runs 12", "bench runs 12 --json", NULL };

typedef struct listing {
    rm_store *store;
    int64_t only;    /* one run; 0: all */
    json_t *results; /* what --json prints */
    json_t *current; /* its "results" */
    bool table, found;
    rm_status status;
} listing;

/* Of one run the whole results, of all runs their names. */
static int add_result(void *ctx, const rm_result_row *r)
{
    listing *l = ctx;
    return json_array_append_new(l->current, !l->only ? json_string(r->key)
                                                      : json_pack("{s:s, s:s, s:b, s:O}", "key", r->key, "origin", r->origin, "correct", r->correct, "row", r->row));
}

static void print_run(const rm_run_row *r, size_t n_results)
{
    char code[16];
    snprintf(code, sizeof code, "%d", r->exit_code);
    printf("%6lld  %-19.19s  %-9s  %10s  %7zu  %s\n", (long long)r->id, r->started, r->command, r->finished ? code : "unfinished", n_results, r->command_line);
}

static void print_results(const json_t *results)
{
    size_t i;
    json_t *r;
    json_array_foreach(results, i, r) {
        char *row = json_dumps(json_object_get(r, "row"), JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        printf("\n%s (%s%s)\n%s\n", json_string_value(json_object_get(r, "key")), json_string_value(json_object_get(r, "origin")),
               json_is_true(json_object_get(r, "correct")) ? "" : ", wrong", row ? row : "");
        free(row);
    }
}

static int add_run(void *ctx, const rm_run_row *r)
{
    listing *l = ctx;
    if (l->only && r->id != l->only) return 0;
    l->found = true;
    json_t *o = json_pack("{s:I, s:s, s:s, s:s, s:s?, s:o, s:s, s:O, s:O, s:[]}", "run", (json_int_t)r->id, "command", r->command, "command_line",
                          r->command_line, "started", r->started, "finished", r->finished, "exit_code",
                          r->finished ? json_integer(r->exit_code) : json_null(), "identity", r->identity, "config", r->config, "environment",
                          r->environment, "results");
    l->current = json_object_get(o, "results");
    if (!o || json_array_append_new(l->results, o)) {
        l->status = rm_fail(RM_E_NOMEM, "out of memory for the list of runs");
        return 1;
    }
    l->status = rm_store_each_result(l->store, r->id, add_result, l);
    if (l->table) print_run(r, json_array_size(l->current));
    if (l->table && l->only) print_results(l->current);
    return l->status != RM_OK || l->only;
}

static rm_status parse_id(const bench_options *o, int64_t *out)
{
    *out = 0;
    if (!o->n_arg) return RM_OK;
    char *end;
    errno = 0;
    long long id = strtoll(o->arg[0], &end, 10);
    if (errno || *end || end == o->arg[0] || id < 1) return rm_fail(RM_E_ARG, "%s: not the number of a run; bench runs lists them", o->arg[0]);
    *out = id;
    return RM_OK;
}

static rm_status list(const bench_options *o, listing *l)
{
    if (l->table && !l->only) printf("%6s  %-19s  %-9s  %10s  %7s  %s\n", "run", "begun (UTC)", "command", "exit code", "results", "command line");
    RM_TRY(rm_store_each_run(l->store, NULL, add_run, l));
    RM_TRY(l->status);
    if (l->only && !l->found) return rm_fail(RM_E_ARG, "there is no run %lld; bench runs lists them", (long long)l->only);
    json_t *environment = rm_runinfo_json(NULL, 0);
    if (!environment) return rm_fail(RM_E_NOMEM, "out of memory for the JSON");
    rm_status st = bench_emit_json(&bench_cmd_runs, o, environment, json_incref(l->results));
    json_decref(environment);
    return st;
}

static rm_status run(const bench_options *o)
{
    listing l = { .table = bench_table_wanted(o) };
    RM_TRY(parse_id(o, &l.only));
    RM_TRY(rm_store_open(o->store && o->store[0] ? o->store : rm_store_default_path(), true, &l.store));
    l.results = json_array();
    rm_status st = l.results ? list(o, &l) : rm_fail(RM_E_NOMEM, "out of memory for the list of runs");
    json_decref(l.results);
    rm_store_close(l.store);
    return st;
}

const bench_command bench_cmd_runs = {
    .name = "runs",
    .summary = "list the runs of a store, or show the results of one",
    .usage = "[RUN] [--store FILE] [--json [FILE]]",
    .examples = examples,
    .run = run,
};
