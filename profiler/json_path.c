#include "profiler/json_path.h"
#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MOST = 32, NAME_MOST = 128 };
typedef enum kind { STEP_NAME, STEP_INDEX, STEP_ALL, STEP_DEEP } kind;
typedef struct step {
    kind kind;
    char name[NAME_MOST];
    long index;
    size_t end; /* of its text in the path */
} step;
typedef struct path {
    step at[STEPS_MOST];
    int n;
} path;

/* ---- parsing */

static rm_status fault(const char *text, const char *at, const char *what)
{
    return rm_fail(RM_E_ARG, "the path %s is wrong at '%.20s': %s; it is made of $ .name ['name'] [3] [*] ..name", text, at, what);
}

static bool is_name(char c) { return isalnum((unsigned char)c) || c == '_' || c == '-' || (c & 0x80); }

static rm_status take_name(const char *text, const char **p, step *s)
{
    size_t n = 0;
    while (is_name((*p)[n])) n++;
    if (n == 0) return fault(text, *p, "a name is missing");
    if (n >= NAME_MOST) return fault(text, *p, "the name is too long");
    memcpy(s->name, *p, n);
    s->name[n] = '\0';
    *p += n;
    return RM_OK;
}

static rm_status take_quoted(const char *text, const char **p, step *s)
{
    const char quote = *(*p)++, *end = strchr(*p, quote);
    if (!end || (size_t)(end - *p) >= NAME_MOST) return fault(text, *p, "the quote does not end");
    s->kind = STEP_NAME;
    memcpy(s->name, *p, (size_t)(end - *p));
    s->name[end - *p] = '\0';
    *p = end + 1;
    return RM_OK;
}

static rm_status take_bracket(const char *text, const char **p, step *s)
{
    char *end;
    (*p)++;
    if (**p == '\'' || **p == '"') RM_TRY(take_quoted(text, p, s));
    else if (**p == '*') {
        s->kind = STEP_ALL;
        (*p)++;
    } else {
        s->kind = STEP_INDEX;
        s->index = strtol(*p, &end, 10);
        if (end == *p || isspace((unsigned char)**p)) return fault(text, *p, "an index, a quoted name or * is missing");
        *p = end;
    }
    if (**p != ']') return fault(text, *p, "a ] is missing");
    (*p)++;
    return RM_OK;
}

static rm_status take_step(const char *text, const char **p, step *s)
{
    if (**p == '[') return take_bracket(text, p, s);
    if (**p != '.') return fault(text, *p, "a . or [ is missing");
    (*p)++;
    s->kind = **p == '.' ? STEP_DEEP : STEP_NAME;
    if (s->kind == STEP_DEEP) (*p)++;
    if (s->kind == STEP_NAME && **p == '*') {
        s->kind = STEP_ALL;
        (*p)++;
        return RM_OK;
    }
    return take_name(text, p, s);
}

static rm_status parse(const char *text, path *out)
{
    const char *p = text;
    out->n = 0;
    if (*p != '$') return fault(text, p, "it begins with $");
    for (p++; *p;) {
        if (out->n == STEPS_MOST) return fault(text, p, "it has too many steps");
        step *s = &out->at[out->n++];
        *s = (step) { .kind = STEP_NAME };
        RM_TRY(take_step(text, &p, s));
        s->end = (size_t)(p - text);
    }
    return RM_OK;
}

rm_status rm_json_path_check(const char *text)
{
    path p;
    return parse(text, &p);
}

/* ---- walking */

typedef struct walk {
    const path *p;
    json_t *found;
    int deepest; /* steps that led somewhere */
} walk;

static void go(walk *w, json_t *v, int i);

static void go_deep(walk *w, json_t *v, int i)
{
    const char *key;
    json_t *child;
    size_t k;
    if (json_is_object(v)) {
        json_t *own = json_object_get(v, w->p->at[i].name);
        if (own) go(w, own, i + 1);
        json_object_foreach(v, key, child) go_deep(w, child, i);
    }
    json_array_foreach(v, k, child) go_deep(w, child, i);
}

static void go_all(walk *w, json_t *v, int i)
{
    const char *key;
    json_t *child;
    size_t k;
    json_array_foreach(v, k, child) go(w, child, i + 1);
    if (json_is_object(v)) json_object_foreach(v, key, child) go(w, child, i + 1);
}

static void go(walk *w, json_t *v, int i)
{
    if (i > w->deepest) w->deepest = i;
    if (i == w->p->n) {
        json_array_append(w->found, v);
        return;
    }
    const step *s = &w->p->at[i];
    const long size = (long)json_array_size(v), at = s->index < 0 ? s->index + size : s->index;
    json_t *next = NULL;
    switch (s->kind) {
    case STEP_NAME: next = json_object_get(v, s->name); break;
    case STEP_INDEX: next = at >= 0 ? json_array_get(v, (size_t)at) : NULL; break;
    case STEP_ALL: go_all(w, v, i); return;
    case STEP_DEEP: go_deep(w, v, i); return;
    }
    if (next) go(w, next, i + 1);
}

/* Returns how many steps led somewhere. */
static int find(const json_t *root, const path *p, json_t *found)
{
    walk w = { .p = p, .found = found };
    go(&w, (json_t *)(uintptr_t)root, 0); /* only read, and referred to */
    return w.deepest;
}

rm_status rm_json_path_find(const json_t *root, const char *text, json_t *found)
{
    path p;
    RM_TRY(parse(text, &p));
    (void)find(root, &p, found);
    return RM_OK;
}

/* ---- what is there instead */

static void describe(const json_t *v, char *out, size_t size)
{
    static const char *const word[] = { [JSON_STRING] = "a string", [JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null" };
    const char *key;
    json_t *child;
    if (json_is_object(v)) {
        int n = snprintf(out, size, "an object with");
        json_object_foreach((json_t *)(uintptr_t)v, key, child) if (n > 0 && (size_t)n + strlen(key) + 6 < size) n +=
            snprintf(out + n, size - (size_t)n, " %s", key);
    } else if (json_is_array(v)) snprintf(out, size, "an array of %zu", json_array_size(v));
    else if (json_is_number(v)) snprintf(out, size, "the number %g", json_number_value(v));
    else snprintf(out, size, "%s", word[json_typeof(v)]);
}

static rm_status nothing_there(const json_t *root, const char *text, const path *p, int deepest)
{
    char there[200] = "nothing";
    path until = *p;
    until.n = deepest;
    json_t *found = json_array();
    if (found) (void)find(root, &until, found);
    if (json_array_size(found)) describe(json_array_get(found, 0), there, sizeof there);
    json_decref(found);
    const int shown = deepest ? (int)p->at[deepest - 1].end : 1;
    return rm_fail(RM_E_FORMAT, "%s leads nowhere in this JSON: at %.*s there is %s", text, shown, text, there);
}

static rm_status find_some(const json_t *root, const char *text, path *p, json_t *found)
{
    RM_TRY(parse(text, p));
    const int deepest = find(root, p, found);
    return json_array_size(found) ? RM_OK : nothing_there(root, text, p, deepest);
}

static bool has(const path *p, kind k)
{
    for (int i = 0; i < p->n; i++)
        if (p->at[i].kind == k) return true;
    return false;
}

static rm_status ambiguous(const char *text, size_t n)
{
    return rm_fail(RM_E_FORMAT, "%s leads to %zu places in this JSON; write the whole path to the one that is meant", text, n);
}

rm_status rm_json_path_one(const json_t *root, const char *text, const json_t **out)
{
    path p;
    json_t *found = json_array();
    if (!found) return rm_fail(RM_E_NOMEM, "out of memory for a path into JSON");
    rm_status st = find_some(root, text, &p, found);
    const json_t *one = json_array_get(found, 0);
    if (st == RM_OK && json_array_size(found) > 1) st = ambiguous(text, json_array_size(found));
    json_decref(found); /* `one` lives on in the document */
    if (st == RM_OK) *out = one;
    return st;
}

/* ---- numbers */

static rm_status add_number(const char *text, const json_t *v, double *value, size_t *n)
{
    char there[200];
    const double x = json_is_number(v) ? json_number_value(v) : NAN;
    if (isfinite(x) && x >= 0) {
        value[(*n)++] = x;
        return RM_OK;
    }
    describe(v, there, sizeof there);
    return rm_fail(RM_E_FORMAT, "%s leads to %s, where a number not below 0 is wanted, or an array of them", text, there);
}

static rm_status add_numbers(const char *text, const json_t *found, double *value, size_t *n)
{
    size_t i, k;
    const json_t *v, *one;
    json_array_foreach(found, i, v)
    {
        if (!json_is_array(v)) RM_TRY(add_number(text, v, value, n));
        else json_array_foreach(v, k, one) RM_TRY(add_number(text, one, value, n));
    }
    return *n ? RM_OK : rm_fail(RM_E_FORMAT, "%s leads to an empty array", text);
}

static size_t room_for(const json_t *found)
{
    size_t n = 1, i;
    const json_t *v;
    json_array_foreach(found, i, v) n += json_is_array(v) ? json_array_size(v) : 1;
    return n;
}

rm_status rm_json_path_numbers(const json_t *root, const char *text, double **out_value, size_t *out_n)
{
    path p;
    json_t *found = json_array();
    double *value = NULL;
    size_t n = 0;
    if (!found) return rm_fail(RM_E_NOMEM, "out of memory for a path into JSON");
    rm_status st = find_some(root, text, &p, found);
    if (st == RM_OK && json_array_size(found) > 1 && has(&p, STEP_DEEP) && !has(&p, STEP_ALL)) st = ambiguous(text, json_array_size(found));
    if (st == RM_OK && !(value = malloc(room_for(found) * sizeof *value))) st = rm_fail(RM_E_NOMEM, "out of memory for the numbers at %s", text);
    if (st == RM_OK) st = add_numbers(text, found, value, &n);
    json_decref(found);
    if (st != RM_OK) {
        free(value);
        return st;
    }
    *out_value = value;
    *out_n = n;
    return RM_OK;
}
