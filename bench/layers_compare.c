#include "bench/layers_compare.h"
#include "base/sort.h"
#include "bench/commands.h"
#include "bench/rows.h"
#include "bench/session.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is unlike */

static void note_unlike(json_t *list, const char *what, const json_t *a, const json_t *b)
{
    if (a == b || json_equal(a, b)) return;
    json_array_append_new(list, json_pack("{s:s, s:O?, s:O?}", "what", what, "a", a, "b", b));
}

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(word, *list)) return true;
    return false;
}

/* Members of either object that differ, except those named. */
static void note_objects(json_t *list, const json_t *a, const json_t *b, const char *const *except)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)a, key, v) if (!is_one_of(key, except)) note_unlike(list, key, v, json_object_get(b, key));
    json_object_foreach((json_t *)(uintptr_t)b, key, v) if (!json_object_get(a, key) && !is_one_of(key, except)) note_unlike(list, key, NULL, v);
}

/* A profile calls its batch what scaling calls it. */
static const json_t *condition(const json_t *row, const char *key)
{
    const json_t *v = json_object_get(row, key);
    return v || strcmp(key, "batch") != 0 ? v : json_object_get(row, "batch_per_device");
}

/* Conditions of the rows, then options, then what must match for two machines to be the same. */
static json_t *unlike(const bench_layers_side *a, const bench_layers_side *b)
{
    static const char *const in_row[] = { "device", "dtype", "px", "batch", NULL };
    static const char *const no_matter[] = { "device", "dtype", "px", "batch", "steps", "warmup", "no_peaks", "seed", NULL }, *const none[] = { NULL };
    json_t *list = json_array();
    for (size_t i = 0; in_row[i]; i++) note_unlike(list, in_row[i], condition(a->row, in_row[i]), condition(b->row, in_row[i]));
    note_objects(list, a->config, b->config, no_matter);
    note_objects(list, json_object_get(a->environment, "hard"), json_object_get(b->environment, "hard"), none);
    return list;
}

/* ---- rows */

typedef struct times {
    const char *key, *words;
} times; /* which time of a row */

static bool all_have(const bench_layers_side *s, const char *key)
{
    size_t i;
    const json_t *l;
    json_array_foreach(json_object_get(s->row, "layers"), i, l) if (!json_is_number(json_object_get(l, key))) return false;
    return true;
}

static times times_of(const bench_layers_side *a, const bench_layers_side *b)
{
    if (all_have(a, "time_s_median") && all_have(b, "time_s_median")) return (times) { "time_s_median", "medians over the steps" };
    return (times) { "time_s", "of the step shown" };
}

/* The step whose rows are compared. */
static double step_of(const bench_layers_side *s, times t)
{
    const double median = bench_row_real(json_object_get(s->row, "step_s_all"), "median");
    return strcmp(t.key, "time_s") && isfinite(median) ? median : bench_row_real(s->row, "step_s");
}

/* Adds the side's times to `by_name`: {"name\npass": {name, pass, a_s, b_s}}; returns their sum. */
static double gather(json_t *by_name, const bench_layers_side *s, times t, const char *key)
{
    size_t i;
    const json_t *l;
    double sum = 0;
    json_array_foreach(json_object_get(s->row, "layers"), i, l)
    {
        char name[512];
        const double time = bench_row_real(l, t.key);
        snprintf(name, sizeof name, "%s\n%s", bench_row_text(l, "name"), bench_row_text(l, "pass"));
        json_t *row = json_object_get(by_name, name);
        if (!row) {
            row = json_pack("{s:s, s:s}", "name", bench_row_text(l, "name"), "pass", bench_row_text(l, "pass"));
            if (json_object_set_new_nocheck(by_name, name, row)) continue; /* out of memory; nocheck: a long name may be cut within a character */
        }
        const double before = bench_row_real(row, key);
        json_object_set_new(row, key, json_real(isfinite(before) ? before + time : time));
        sum += time;
    }
    return sum;
}

static void finish_row(json_t *row)
{
    const double a = bench_row_real(row, "a_s"), b = bench_row_real(row, "b_s");
    const char *lacks = isnan(a) ? "not in A" : isnan(b) ? "not in B" : "no time in A";
    if (isnan(a)) bench_set_null(row, "a_s", lacks);
    if (isnan(b)) bench_set_null(row, "b_s", lacks);
    bench_set_number(row, "difference_s", b - a, lacks);
    bench_set_number(row, "ratio", b / a, lacks);
}

typedef struct ranked {
    json_t *row;
    double difference, time;
    size_t i;
} ranked;

/* Rows of both sides by their difference, then those of one by their time. */
static bool comes_first(const void *x, const void *y)
{
    const ranked *p = x, *q = y;
    if (p->difference != q->difference) return p->difference > q->difference;
    return p->time != q->time ? p->time > q->time : p->i < q->i;
}

static json_t *sorted(json_t *by_name)
{
    const size_t n = json_object_size(by_name);
    ranked *r = calloc(n ? n : 1, sizeof *r);
    json_t *rows = json_array(), *row;
    const char *key;
    size_t i = 0;
    json_object_foreach(by_name, key, row)
    {
        if (!r || i == n) break;
        finish_row(row);
        const double difference = fabs(bench_row_real(row, "difference_s"));
        r[i] = (ranked) { row, isfinite(difference) ? difference : -1, fmax(bench_row_real(row, "a_s"), bench_row_real(row, "b_s")), i };
        i++;
    }
    if (r) rm_sort(r, i, sizeof *r, comes_first);
    for (size_t k = 0; k < i; k++) json_array_append(rows, r[k].row);
    free(r);
    if (json_array_size(rows) == n) return rows;
    json_decref(rows);
    return NULL;
}

json_t *bench_layers_compared(const bench_layers_side *a, const bench_layers_side *b)
{
    const times t = times_of(a, b);
    json_t *by_name = json_object();
    const double rows_a = gather(by_name, a, t, "a_s"), rows_b = gather(by_name, b, t, "b_s");
    json_t *rows = sorted(by_name);
    json_decref(by_name);
    json_t *out = json_pack("{s:s, s:s, s:s, s:o, s:o, s:f, s:f}", "a", a->name, "b", b->name, "time", t.words, "unlike", unlike(a, b), "rows", rows,
                            "rows_a_s", rows_a, "rows_b_s", rows_b);
    if (!out) return NULL;
    bench_set_number(out, "step_a_s", step_of(a, t), "A does not say");
    bench_set_number(out, "step_b_s", step_of(b, t), "B does not say");
    return out;
}

/* ---- for people */

static void print_unlike(const json_t *list)
{
    size_t i;
    const json_t *u;
    json_array_foreach(list, i, u)
    {
        char *a = json_dumps(json_object_get(u, "a"), JSON_ENCODE_ANY | JSON_COMPACT), *b = json_dumps(json_object_get(u, "b"), JSON_ENCODE_ANY | JSON_COMPACT);
        printf("unlike: %s %s against %s\n", bench_row_text(u, "what"), a && strcmp(a, "null") ? a : "not given", b && strcmp(b, "null") ? b : "not given");
        free(a);
        free(b);
    }
    if (json_array_size(list)) printf("the differences below are of unlike runs\n");
}

static void print_line(const char *name, const char *pass, double a, double b)
{
    char ratio[16] = "-";
    if (!isfinite(b - a)) return;
    if (a > 0) snprintf(ratio, sizeof ratio, "%.3f", b / a);
    printf("%-32.32s %-12.12s %12.3f %12.3f %+12.3f %8s\n", name, pass, a * 1e3, b * 1e3, (b - a) * 1e3, ratio);
}

static void print_only(const json_t *row)
{
    const double a = bench_row_real(row, "a_s"), b = bench_row_real(row, "b_s");
    printf("only in %s: %s %s %.3f ms\n", isnan(b) ? "A" : "B", bench_row_text(row, "name"), bench_row_text(row, "pass"), 1e3 * (isnan(b) ? a : b));
}

static void print(const json_t *c)
{
    size_t i;
    const json_t *row, *rows = json_object_get(c, "rows");
    printf("A: %s\nB: %s\n", bench_row_text(c, "a"), bench_row_text(c, "b"));
    print_unlike(json_object_get(c, "unlike"));
    printf("times are %s\n%-32s %-12s %12s %12s %12s %8s\n", bench_row_text(c, "time"), "layer", "pass", "A ms", "B ms", "B - A ms", "B / A");
    json_array_foreach(rows, i, row) if (json_is_number(json_object_get(row, "difference_s")))
        print_line(bench_row_text(row, "name"), bench_row_text(row, "pass"), bench_row_real(row, "a_s"), bench_row_real(row, "b_s"));
    print_line("all rows", "", bench_row_real(c, "rows_a_s"), bench_row_real(c, "rows_b_s"));
    print_line("step", "", bench_row_real(c, "step_a_s"), bench_row_real(c, "step_b_s"));
    json_array_foreach(rows, i, row) if (!json_is_number(json_object_get(row, "difference_s"))) print_only(row);
}

rm_status bench_layers_compare(const bench_options *o)
{
    bench_layers_side a, b;
    if (o->n_arg != 2) return rm_fail(RM_E_ARG, "--compare takes two tables, as in: bench layers --compare before.json after.json");
    RM_TRY(bench_layers_load(o, o->arg[0], &a));
    rm_status st = bench_layers_load(o, o->arg[1], &b);
    if (st == RM_OK) {
        json_t *c = bench_layers_compared(&a, &b);
        if (!c) st = rm_fail(RM_E_NOMEM, "out of memory comparing layers");
        if (c && bench_table_wanted(o)) print(c);
        if (c) st = bench_emit_json(&bench_cmd_layers, o, NULL, json_pack("[o]", c));
        bench_layers_side_free(&b);
    }
    bench_layers_side_free(&a);
    return st;
}
