#include "bench/gate_facts.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSS_BAND 1e-4

/* ---- tolerances: "launches=2,peak_bytes=1%" */

static rm_status bad_tolerance(const char *at) { return rm_fail(RM_E_ARG, "--tolerate at '%.40s': it is a list such as launches=2,peak_bytes=1%%", at); }

static rm_status check_tolerances(const char *text)
{
    for (const char *p = text; *p;) {
        char *end;
        const char *equals = strchr(p, '=');
        if (!equals || equals == p || memchr(p, ',', (size_t)(equals - p))) return bad_tolerance(p);
        const double v = strtod(equals + 1, &end);
        if (end == equals + 1 || !(v >= 0) || !isfinite(v)) return bad_tolerance(p);
        if (*end == '%') end++;
        if (*end && *end != ',') return bad_tolerance(p);
        p = *end ? end + 1 : end;
    }
    return RM_OK;
}

rm_status bench_tolerances_check(const char *text)
{
    static const char *const known[] = { "launches", "reorders",    "collective_calls", "collective_bytes", "all_reduces", "flops",
                                         "bytes",    "allocations", "peak_bytes",       "parameters",       "loss" };
    RM_TRY(check_tolerances(text));
    for (const char *p = text; *p; p += strcspn(p, ","), p += *p == ',') {
        const size_t n = strcspn(p, "=");
        bool found = false;
        for (size_t i = 0; i < RM_COUNT(known); i++) found |= strlen(known[i]) == n && strncmp(p, known[i], n) == 0;
        if (!found)
            return rm_fail(RM_E_ARG,
                           "--tolerate %.*s: no fact that is a number has that name; there is launches, reorders, collective_calls, collective_bytes, "
                           "all_reduces, flops, bytes, allocations, peak_bytes, parameters and loss",
                           (int)(n < 40 ? n : 40), p);
    }
    return RM_OK;
}

/* How far `fact` may be from `base`. */
static double tolerance(const char *text, const char *fact, double base)
{
    const size_t n = strlen(fact);
    for (const char *p = text; *p; p += strcspn(p, ","), p += *p == ',') {
        char *end;
        if (strncmp(p, fact, n) != 0 || p[n] != '=') continue;
        const double v = strtod(p + n + 1, &end);
        return *end == '%' ? 0.01 * v * fabs(base) : v;
    }
    return strcmp(fact, "loss") == 0 ? LOSS_BAND * fabs(base) : 0;
}

/* ---- comparing */

static bool same(const char *tolerate, const char *fact, const json_t *a, const json_t *b)
{
    if (!json_is_number(a) || !json_is_number(b)) return json_equal(a, b);
    const double x = json_number_value(a), y = json_number_value(b);
    return fabs(x - y) <= tolerance(tolerate, fact, x);
}

static void note(json_t *differences, const char *fact, json_t *a, json_t *b)
{
    json_array_append_new(differences, json_pack("{s:s, s:O?, s:O?}", "fact", fact, "base", a, "head", b));
}

/* Implementations are a fact each: which one is used how often. */
static void compare_table(json_t *differences, const char *fact, json_t *a, json_t *b)
{
    const char *key;
    json_t *v;
    char name[200];
    json_object_foreach(a, key, v)
    {
        json_t *w = json_object_get(b, key);
        snprintf(name, sizeof name, "%s %s", fact, key);
        if (!w || !json_equal(v, w)) note(differences, name, v, w);
    }
    json_object_foreach(b, key, v)
    {
        snprintf(name, sizeof name, "%s %s", fact, key);
        if (!json_object_get(a, key)) note(differences, name, NULL, v);
    }
}

rm_status bench_facts_compare(const json_t *a, const json_t *b, const char *tolerate, json_t *differences, rp_verdict *out)
{
    json_t *fa = json_object_get(a, "facts"), *fb = json_object_get(b, "facts"), *v;
    const char *fact;
    bool loss = false;
    RM_TRY(check_tolerances(tolerate));
    if (!json_is_object(fa) || !json_is_object(fb))
        return rm_fail(RM_E_FORMAT, "these are no facts: there is no object \"facts\"; bench gate facts --json prints them");
    json_object_foreach(fa, fact, v)
    {
        json_t *w = json_object_get(fb, fact);
        const bool is_loss = strcmp(fact, "loss") == 0, no_number = is_loss && !json_is_number(w); /* two that are NaN are not equal, but both wrong */
        if (w && !no_number && same(tolerate, fact, v, w)) continue;
        loss = loss || is_loss;
        if (json_is_object(v) && json_is_object(w)) compare_table(differences, fact, v, w);
        else note(differences, fact, v, w);
    }
    *out = loss ? RP_TROUBLE : json_array_size(differences) ? RP_REGRESSED : RP_PASS;
    return RM_OK;
}

static void value_words(const json_t *v, char *out, size_t size)
{
    char *text = json_is_null(v) || !v ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    snprintf(out, size, "%.*s", (int)size - 1, text ? text : "none");
    free(text);
}

void bench_facts_words(const json_t *differences, char *out, size_t size)
{
    size_t i, n = 0;
    const json_t *d;
    out[0] = '\0';
    json_array_foreach(differences, i, d)
    {
        char a[60], b[60];
        value_words(json_object_get(d, "base"), a, sizeof a);
        value_words(json_object_get(d, "head"), b, sizeof b);
        const int k = snprintf(out + n, size - n, "%s%s %s became %s", n ? "; " : "", json_string_value(json_object_get(d, "fact")), a, b);
        if (k < 0 || (size_t)k >= size - n) {
            if (size > 4) memcpy(out + size - 4, "...", 4);
            return;
        }
        n += (size_t)k;
    }
}
