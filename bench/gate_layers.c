#include "bench/gate_layers.h"
#include "bench/rows.h"
#include "profiler/paired.h"
#include "reports/gate_layers.h"
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values */

static const json_t *layers_of(const json_t *document) { return json_object_get(json_array_get(json_object_get(document, "results"), 0), "layers"); }

static void key_of(const json_t *layer, char *out, size_t size) { snprintf(out, size, "%s %s", bench_row_text(layer, "name"), bench_row_text(layer, "pass")); }

static json_t *times_of(const json_t *document)
{
    json_t *times = json_object();
    size_t i;
    const json_t *l;
    json_array_foreach(layers_of(document), i, l)
    {
        char key[200];
        const double s = bench_row_real(l, "time_s_median");
        key_of(l, key, sizeof key);
        if (s > 0) json_object_set_new(times, key, json_real(s));
    }
    return times;
}

json_t *bench_gate_layer_values(const json_t *a, const json_t *b)
{
    json_t *both = json_object(), *of_a = times_of(a), *of_b = times_of(b), *v;
    const char *key;
    json_object_foreach(of_a, key, v)
    {
        json_t *w = json_object_get(of_b, key);
        if (w) json_object_set_new(both, key, json_pack("[O, O]", v, w));
    }
    json_decref(of_a);
    json_decref(of_b);
    return both;
}

/* ---- judging */

typedef struct table {
    const char **key;
    double *d; /* (rows, n), row by row */
    rp_layer_judged *judged;
    int rows, n;
} table;

static void table_free(table *t)
{
    free(t->key);
    free(t->d);
    free(t->judged);
}

static const json_t *layers_at(const json_t *pairs, int at)
{
    size_t i;
    const json_t *row;
    json_array_foreach(pairs, i, row)
    {
        if (json_is_string(json_object_get(row, "discarded"))) continue;
        if (at-- == 0) return json_object_get(row, "layers");
    }
    return NULL;
}

static bool take_row(const json_t *pairs, const char *key, int n, double *d)
{
    for (int i = 0; i < n; i++) {
        const json_t *v = json_object_get(layers_at(pairs, i), key);
        d[i] = log(json_number_value(json_array_get(v, 1)) / json_number_value(json_array_get(v, 0)));
        if (!isfinite(d[i])) return false; /* not in every pair */
    }
    return true;
}

static rm_status fill(const json_t *pairs, int n, table *t)
{
    json_t *first = (json_t *)(uintptr_t)layers_at(pairs, 0), *v; /* only read */
    const size_t most = json_object_size(first) + 1;
    const char *key;
    *t = (table) { .key = calloc(most, sizeof *t->key), .d = calloc(most * (size_t)n, sizeof *t->d), .judged = calloc(most, sizeof *t->judged), .n = n };
    if (!t->key || !t->d || !t->judged) return rm_fail(RM_E_NOMEM, "out of memory for the layers of %d pairs", n);
    json_object_foreach(first, key, v)
    {
        t->key[t->rows] = key;
        t->rows += take_row(pairs, key, n, t->d + (size_t)t->rows * (size_t)n);
    }
    return RM_OK;
}

typedef struct named {
    const char *key;
    double delta, p;
} named;

static int by_delta(const void *a, const void *b)
{
    const named *x = a, *y = b;
    return (x->delta < y->delta) - (x->delta > y->delta);
}

static json_t *named_json(const named *l)
{
    const char *blank = strrchr(l->key, ' ');
    return json_pack("{s:s%, s:s, s:f, s:f}", "name", l->key, (size_t)(blank - l->key), "pass", blank + 1, "delta", l->delta, "p", l->p);
}

static rm_status name_them(const table *t, json_t **out)
{
    named *l = calloc((size_t)t->rows + 1, sizeof *l);
    int k = 0;
    if (!l) return rm_fail(RM_E_NOMEM, "out of memory for the layers");
    for (int i = 0; i < t->rows; i++)
        if (t->judged[i].named) l[k++] = (named) { t->key[i], expm1(t->judged[i].delta), t->judged[i].p };
    qsort(l, (size_t)k, sizeof *l, by_delta);
    json_t *all = json_array();
    for (int i = 0; i < k; i++) json_array_append_new(all, named_json(&l[i]));
    free(l);
    *out = all;
    return RM_OK;
}

rm_status bench_gate_layers_judge(const json_t *pairs, int n, uint64_t seed, json_t **out, int *out_rows)
{
    table t = { 0 };
    rp_layer_rule rule = rp_layer_rule_usual;
    rule.seed = seed;
    rm_status st = n >= 1 && n <= RM_PAIRED_MOST ? fill(pairs, n, &t) : RM_OK;
    if (st == RM_OK && t.rows) st = rp_gate_layers(&rule, t.d, t.rows, n, t.judged);
    if (st == RM_OK) st = name_them(&t, out);
    if (st == RM_OK) *out_rows = t.rows;
    table_free(&t);
    return st;
}

int bench_gate_layers_least(const json_t *pairs)
{
    const size_t rows = json_object_size(layers_at(pairs, 0));
    return rows ? rp_gate_layers_least(&rp_layer_rule_usual, (int)rows) : 0;
}
