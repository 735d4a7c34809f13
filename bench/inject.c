#include "bench/inject.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVERY = -1, LAST = -2 };
static const struct { const char *name; size_t field; int32_t whom; bool one; } kinds[] = {
    { "straggler", offsetof(rm_inject, compute_ns), LAST, true },
    { "compute", offsetof(rm_inject, compute_ns), EVERY, true },
    { "input", offsetof(rm_inject, input_ns), EVERY, true },
    { "link", offsetof(rm_inject, link_ns), EVERY, false },
};
static const struct { const char *name; double ns; } units[] = { { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 } };
static const double longest_ns = 600e9;

typedef struct { const char *text; size_t n; } word;
static bool is(word w, const char *name) { return strlen(name) == w.n && !memcmp(w.text, name, w.n); }
static word until(word w, const char *stop, word *rest)
{
    size_t n = 0;
    while (n < w.n && !strchr(stop, w.text[n])) n++;
    *rest = (word){ w.text + n, w.n - n };
    return (word){ w.text, n };
}

static rm_status refuse(word spec, const char *why) { return rm_fail(RM_E_ARG, "--inject %.*s: %s", (int)(spec.n < 80 ? spec.n : 80), spec.text, why); }

/* "20ms": digits with at most one point, then a unit. */
static bool parse_time(word w, uint64_t *out_ns)
{
    char number[24] = "";
    size_t n = 0, points = 0;
    for (; n < w.n && n < sizeof number - 1 && ((w.text[n] >= '0' && w.text[n] <= '9') || w.text[n] == '.'); n++) points += w.text[n] == '.';
    memcpy(number, w.text, n);
    if (n <= points || points > 1) return false;
    for (size_t i = 0; i < RM_COUNT(units); i++) {
        const double ns = strtod(number, NULL) * units[i].ns;
        if (!is((word){ w.text + n, w.n - n }, units[i].name) || ns > longest_ns) continue;
        *out_ns = (uint64_t)llround(ns);
        return true;
    }
    return false;
}

/* "@rank1" or "@1". */
static bool parse_rank(word w, int32_t *out)
{
    int64_t v = 0;
    w = (word){ w.text + 1, w.n - 1 };
    if (w.n > 4 && !memcmp(w.text, "rank", 4)) w = (word){ w.text + 4, w.n - 4 };
    if (w.n < 1 || w.n > 6) return false;
    for (size_t i = 0; i < w.n; i++) {
        if (w.text[i] < '0' || w.text[i] > '9') return false;
        v = v * 10 + w.text[i] - '0';
    }
    *out = (int32_t)v;
    return true;
}

static rm_status parse_one(word spec, int32_t rank, int32_t ranks, rm_inject *out)
{
    word time, at;
    const word name = until(spec, "=", &time);
    uint64_t ns;
    size_t k = 0;
    while (k < RM_COUNT(kinds) && !is(name, kinds[k].name)) k++;
    if (k == RM_COUNT(kinds) || !time.n) return refuse(spec, "expected straggler=, compute=, input= or link= and a time, as in straggler=20ms@rank1");
    time = until((word){ time.text + 1, time.n - 1 }, "@", &at);
    if (!parse_time(time, &ns)) return refuse(spec, "expected a time of at most 600 s with its unit: us, ms or s");
    int32_t whom = kinds[k].whom == LAST ? ranks - 1 : kinds[k].whom;
    if (at.n && !kinds[k].one) return refuse(spec, "a slow link is slow for all ranks: leave @rank out");
    if (at.n && !parse_rank(at, &whom)) return refuse(spec, "expected a rank after @, as in @rank1");
    if (at.n && whom >= ranks) return rm_fail(RM_E_ARG, "--inject %.*s: %d ranks are numbered 0 to %d", (int)(spec.n < 80 ? spec.n : 80), spec.text, ranks, ranks - 1);
    if (whom == EVERY || whom == rank) *(uint64_t *)((char *)out + kinds[k].field) += ns;
    return RM_OK;
}

rm_status bench_inject_parse(const char *spec, int32_t rank, int32_t ranks, rm_inject *out)
{
    rm_inject sum = { 0 };
    *out = sum;
    if (!spec || !spec[0]) return RM_OK;
    for (word all = { spec, strlen(spec) };;) {
        word rest;
        RM_TRY(parse_one(until(all, ";", &rest), rank, ranks, &sum));
        if (!rest.n) break;
        all = (word){ rest.text + 1, rest.n - 1 };
    }
    *out = sum;
    return RM_OK;
}
