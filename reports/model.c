#include "reports/model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct loader { rp_data *d; size_t room; size_t at; bool failed; } loader;

static char *copy(loader *l, const char *text)
{
    if (!text) return NULL;
    char *p = strdup(text);
    if (!p) l->failed = true;
    return p;
}

static bool grow(loader *l, void **array, size_t n, size_t size)
{
    if (n < l->room) return true;
    size_t room = l->room ? l->room * 2 : 32;
    void *p = realloc(*array, room * size);
    if (!p) return !(l->failed = true);
    *array = p;
    l->room = room;
    return true;
}

static int take_run(void *ctx, const rm_run_row *r)
{
    loader *l = ctx;
    void *array = l->d->run;
    bool ok = grow(l, &array, l->d->n_runs, sizeof *l->d->run);
    l->d->run = array;
    if (!ok) return 1;
    l->d->run[l->d->n_runs++] = (rp_run){
        .id = r->id, .command = copy(l, r->command), .command_line = copy(l, r->command_line), .started = copy(l, r->started),
        .finished = copy(l, r->finished), .identity = copy(l, r->identity), .exit_code = r->exit_code,
        .config = json_incref(r->config), .environment = json_incref(r->environment),
    };
    return l->failed;
}

static int take_result(void *ctx, const rm_result_row *r)
{
    loader *l = ctx;
    if (!strncmp(r->key, "gathered ", 9)) return 0; /* what a sweep keeps to resume from, not a result */
    void *array = l->d->result;
    bool ok = grow(l, &array, l->d->n_results, sizeof *l->d->result);
    l->d->result = array;
    if (!ok) return 1;
    l->d->result[l->d->n_results++] = (rp_result){
        .id = r->id, .run = &l->d->run[l->at], .key = copy(l, r->key), .origin = copy(l, r->origin), .correct = r->correct,
        .row = json_incref(r->row),
    };
    return l->failed;
}

rm_status rp_data_load(const char *path, rp_data *out)
{
    rp_data d = { .path = path };
    loader runs = { .d = &d }, results = { .d = &d };
    rm_status st;
    RM_TRY_GOTO(st, rm_store_open(path, true, &d.store), fail);
    RM_TRY_GOTO(st, rm_store_each_run(d.store, NULL, take_run, &runs), fail);
    for (results.at = 0; results.at < d.n_runs && !results.failed; results.at++)
        RM_TRY_GOTO(st, rm_store_each_result(d.store, d.run[results.at].id, take_result, &results), fail);
    if (runs.failed || results.failed) {
        st = rm_fail(RM_E_NOMEM, "%s: out of memory for the report", path);
        goto fail;
    }
    *out = d;
    return RM_OK;
fail:
    rp_data_free(&d);
    return st;
}

void rp_data_free(rp_data *d)
{
    for (size_t i = 0; i < d->n_results; i++) {
        free(d->result[i].key);
        free(d->result[i].origin);
        json_decref(d->result[i].row);
    }
    for (size_t i = 0; i < d->n_runs; i++) {
        rp_run *r = &d->run[i];
        free(r->command);
        free(r->command_line);
        free(r->started);
        free(r->finished);
        free(r->identity);
        json_decref(r->config);
        json_decref(r->environment);
    }
    free(d->result);
    free(d->run);
    rm_store_close(d->store);
    *d = (rp_data){ 0 };
}

const rp_result *rp_newest(const rp_data *d, const char *command, bool (*want)(const rp_result *), size_t *out_n)
{
    size_t n = 0;
    const rp_result *first = NULL;
    for (size_t i = 0; i < d->n_results; i++) {
        const rp_result *r = &d->result[i];
        if (first && r->run != first->run) break;
        if (!first && (strcmp(r->run->command, command) || (want && !want(r)))) continue;
        if (!first) first = r;
        n++;
    }
    *out_n = n;
    return first;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

const json_t *rp_at(const json_t *row, const char *path)
{
    while (row && *path) {
        size_t n = strcspn(path, ".");
        char key[128];
        if (n >= sizeof key) return NULL;
        memcpy(key, path, n);
        key[n] = 0;
        row = json_object_get(row, key);
        path += n + (path[n] == '.');
    }
    return row;
}

double rp_real(const json_t *row, const char *path)
{
    const json_t *v = rp_at(row, path);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *rp_string(const json_t *row, const char *path) { return json_string_value(rp_at(row, path)); }

const char *rp_own_reason(const json_t *row, const char *path)
{
    char name[160];
    snprintf(name, sizeof name, "%s_reason", path);
    return rp_string(row, name);
}

const char *rp_reason(const json_t *row, const char *path)
{
    const char *why = rp_own_reason(row, path);
    return why ? why : rp_string(row, "reason");
}

const char *rp_text_of(const json_t *v, char *buf, size_t size)
{
    if (json_is_string(v)) snprintf(buf, size, "%s", json_string_value(v));
    else if (json_is_real(v)) snprintf(buf, size, "%s", rp_num(json_real_value(v), 5).text);
    else if (json_is_null(v) || !v) snprintf(buf, size, "–");
    else if (json_is_boolean(v)) snprintf(buf, size, "%s", json_is_true(v) ? "yes" : "no");
    else {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
        snprintf(buf, size, "%s", text ? text : "?");
        free(text);
    }
    return buf;
}

const char *rp_fact(const json_t *environment, const char *name, char *buf, size_t size)
{
    const json_t *v = json_object_get(json_object_get(environment, "hard"), name);
    if (!v) v = json_object_get(json_object_get(environment, "soft"), name);
    if (!v) snprintf(buf, size, "unknown");
    else rp_text_of(v, buf, size);
    return buf;
}

const char *rp_setting(const rp_result *r, const char *name, const char *fallback, char *buf, size_t size)
{
    const json_t *v = json_object_get(r->row, name);
    if (!v || json_is_null(v)) v = json_object_get(r->run->config, name);
    if (!v || json_is_null(v)) snprintf(buf, size, "%s", fallback);
    else rp_text_of(v, buf, size);
    return buf;
}

const char *rp_reproduce(const rp_result *r)
{
    const char *text = rp_string(r->row, "reproduce");
    return text ? text : r->run->command_line;
}

double rp_baseline(const json_t *row)
{
    double v = rp_real(row, "baseline_images_per_s");
    return isnan(v) ? rp_real(row, "baseline") : v;
}

bool rp_measured(const rp_result *r) { return !strcmp(r->origin, "measured"); }

const char *rp_origin(const rp_result *r) { return strcmp(r->origin, "not_measured") ? r->origin : "not\u00a0measured"; }

rp_number rp_num(double v, int digits)
{
    rp_number n;
    if (!isfinite(v)) {
        snprintf(n.text, sizeof n.text, "%s", isnan(v) ? "–" : v > 0 ? "infinite" : "-infinite");
        return n;
    }
    double a = fabs(v);
    if (digits >= 6 && v == floor(v) && a < 1e15) { /* so many digits are asked for counts only */
        snprintf(n.text, sizeof n.text, "%.0f", v);
        return n;
    }
    if (a >= 1e12 || (a > 0 && a < 1e-6)) { /* beyond what any of our units should show */
        snprintf(n.text, sizeof n.text, "%.*e", digits - 1, v);
        return n;
    }
    int whole = a >= 1 ? (int)floor(log10(a)) + 1 : 0;
    int places = a == 0 ? 0 : whole ? digits - whole : digits - 1 - (int)floor(log10(a));
    snprintf(n.text, sizeof n.text, "%.*f", places > 0 ? places : 0, v);
    return n;
}

void rp_cut(char *out, size_t most, const char *text)
{
    size_t n = strlen(text), end = n <= most ? n : most - 1;
    while (n > most && end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) end--;
    snprintf(out, most + 3, "%.*s%s", (int)end, text, n > most ? "…" : "");
}
