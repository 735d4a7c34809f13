/* Where a layer table to compare comes from (see layers_compare.h). */
#include "bench/layers_compare.h"
#include "profiler/store.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_layers_side_free(bench_layers_side *s)
{
    json_decref(s->row);
    json_decref(s->config);
    json_decref(s->environment);
    s->row = s->config = s->environment = NULL;
}

/* A time that is there is one: no sum of rows leaves the range of numbers. */
static bool is_time(const json_t *v)
{
    static const double longest_s = 1e9;
    return json_is_number(v) && json_number_value(v) >= 0 && json_number_value(v) <= longest_s;
}

static bool has_table(const json_t *row) { return json_is_array(json_object_get(row, "layers")); }

static rm_status check_table(const bench_layers_side *s)
{
    const json_t *layers = json_object_get(s->row, "layers"), *l;
    size_t i;
    if (!json_array_size(layers)) return rm_fail(RM_E_FORMAT, "%s: its table of layers is empty", s->name);
    json_array_foreach(layers, i, l)
    {
        const json_t *median = json_object_get(l, "time_s_median");
        if (!json_is_string(json_object_get(l, "name")) || !json_is_string(json_object_get(l, "pass")))
            return rm_fail(RM_E_FORMAT, "%s: layers[%zu] lacks a name or a pass; bench layers --json writes both", s->name, i);
        if (!is_time(json_object_get(l, "time_s"))) return rm_fail(RM_E_FORMAT, "%s: layers[%zu] has no time_s of 0 or more (at most 1e9)", s->name, i);
        if (json_is_number(median) && !is_time(median)) return rm_fail(RM_E_FORMAT, "%s: layers[%zu] has a time_s_median that is no time", s->name, i);
    }
    return RM_OK;
}

/* ---- stores */

typedef struct search {
    rm_store *store;
    int64_t only; /* a run; 0: the newest */
    bool run_found;
    rm_status status;
    bench_layers_side *side;
} search;

static int look_at_result(void *ctx, const rm_result_row *r)
{
    search *s = ctx;
    if (!has_table(r->row)) return 0;
    s->side->row = json_incref(r->row);
    return 1;
}

static int look_at_run(void *ctx, const rm_run_row *r)
{
    search *s = ctx;
    if (s->only && r->id != s->only) return 0;
    s->run_found = true;
    s->status = rm_store_each_result(s->store, r->id, look_at_result, s);
    if (s->side->row) {
        s->side->config = json_incref(r->config);
        s->side->environment = json_incref(r->environment);
    }
    return s->side->row || s->only || s->status != RM_OK;
}

static rm_status load_store(const char *path, int64_t only, bench_layers_side *out)
{
    search s = { .only = only, .side = out };
    RM_TRY(rm_store_open(path, true, &s.store));
    rm_status st = rm_store_each_run(s.store, only ? NULL : "layers", look_at_run, &s);
    if (st == RM_OK) st = s.status;
    rm_store_close(s.store);
    if (st != RM_OK || out->row) return st;
    if (!only) return rm_fail(RM_E_ARG, "%s: no bench layers in this store", path);
    if (!s.run_found) return rm_fail(RM_E_ARG, "%s: there is no run %lld; bench runs lists them", path, (long long)only);
    return rm_fail(RM_E_ARG, "%s: run %lld has no table of layers", path, (long long)only);
}

/* ---- files */

static rm_status load_json(const char *path, FILE *f, bench_layers_side *out)
{
    json_error_t e;
    size_t i;
    json_t *root = json_loadf(f, JSON_REJECT_DUPLICATES, &e), *row;
    if (!root) return rm_fail(RM_E_FORMAT, "%s: neither a store nor JSON: line %d: %s", path, e.line, e.text);
    json_array_foreach(json_object_get(root, "results"), i, row)
    {
        if (!has_table(row)) continue;
        out->row = json_incref(row);
        out->config = json_incref(json_object_get(root, "config"));
        out->environment = json_incref(json_object_get(root, "environment"));
        break;
    }
    json_decref(root);
    return out->row ? RM_OK : rm_fail(RM_E_FORMAT, "%s: no table of layers in it; bench layers --json writes one", path);
}

static rm_status load_file(const char *path, bench_layers_side *out)
{
    static const char magic[] = "SQLite format 3";
    char head[sizeof magic] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return rm_fail_errno("cannot open %s to compare it", path);
    errno = 0;
    const size_t n = fread(head, 1, sizeof head, f);
    rm_status st = RM_OK;
    if (ferror(f)) st = rm_fail_errno("cannot read %s", path);
    else if (n == sizeof head && !memcmp(head, magic, sizeof magic)) st = load_store(path, 0, out);
    else if (fseek(f, 0, SEEK_SET) != 0) st = rm_fail_errno("cannot read %s from its beginning", path);
    else st = load_json(path, f, out);
    fclose(f);
    return st;
}

rm_status bench_layers_load(const bench_options *o, const char *what, bench_layers_side *out)
{
    const char *store = o->store && o->store[0] ? o->store : rm_store_default_path();
    bench_layers_side s = { .row = NULL };
    char *end;
    errno = 0;
    const long long run = strtoll(what, &end, 10);
    const bool number = end != what && !*end;
    if (number && (errno || run < 1)) return rm_fail(RM_E_ARG, "%s: not the number of a run; bench runs lists them", what);
    if (number) snprintf(s.name, sizeof s.name, "run %lld of %s", run, store);
    else snprintf(s.name, sizeof s.name, "%s", what);
    rm_status st = number ? load_store(store, run, &s) : load_file(what, &s);
    if (st == RM_OK) st = check_table(&s);
    if (st == RM_OK) *out = s;
    else bench_layers_side_free(&s);
    return st;
}
