#include "bench/inject.h"
#include "bench/gate_metric.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVERY = -1, LAST = -2 };
enum { TIME, SHARE };
static const struct { const char *name; int unit; size_t field; int32_t whom; bool one; } kinds[] = {
    { "straggler", TIME, offsetof(rm_inject, compute_ns), LAST, true },
    { "compute", TIME, offsetof(rm_inject, compute_ns), EVERY, true },
    { "input", TIME, offsetof(rm_inject, input_ns), EVERY, true },
    { "link", TIME, offsetof(rm_inject, link_ns), EVERY, false },
    { "step", SHARE, offsetof(rm_inject, step_share), EVERY, true },
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

/* "3%", above 0 and below 100. */
static bool parse_share(word w, double *out)
{
    char text[24] = "";
    if (w.n < 1 || w.n >= sizeof text) return false;
    memcpy(text, w.text, w.n);
    return text[0] >= '0' && text[0] <= '9' && bench_share_parse(text, "--inject", out) == RM_OK;
}

static rm_status parse_amount(word spec, word amount, int unit, void *field)
{
    uint64_t ns;
    double share;
    if (unit == TIME) {
        if (!parse_time(amount, &ns)) return refuse(spec, "expected a time of at most 600 s with its unit: us, ms or s");
        *(uint64_t *)field += ns;
        return RM_OK;
    }
    if (!parse_share(amount, &share)) return refuse(spec, "expected a share below 100 %, as in step=3%");
    *(double *)field += share;
    return RM_OK;
}

/* "NAME:10%" or "NAME:PASS:10%", an op of `net`. */
static rm_status parse_layer(word spec, word what, const rm_net *net, rm_inject *out)
{
    const rm_node *node;
    word rest, share;
    const word name = until(what, ":", &rest);
    if (!net) return refuse(spec, "only bench layers slows one layer down");
    if (!rest.n) return refuse(spec, "expected a layer and a share, as in layer=conv1:10% or layer=conv1:bwd_weights:10%");
    word pass = until((word){ rest.text + 1, rest.n - 1 }, ":", &share);
    if (share.n) share = (word){ share.text + 1, share.n - 1 };
    else share = pass, pass = (word){ "fwd", 3 };
    if (out->node_share > 0) return refuse(spec, "one layer at a time");
    if (!parse_share(share, &out->node_share)) return refuse(spec, "expected a share below 100 %, as in layer=conv1:10%");
    const int32_t n = rm_net_nodes(net, &node);
    for (out->node = 0; out->node < n; out->node++)
        if (is(name, node[out->node].name) && is(pass, rm_pass_name(node[out->node].pass))) return RM_OK;
    return refuse(spec, "there is no such layer and pass: bench layers lists them");
}

/* ---- what facts count */

static const struct { const char *name; size_t field; } counted[] = {
    { "alloc", offsetof(bench_inject_counts, allocs) },
    { "all-reduce", offsetof(bench_inject_counts, reduces) },
};

/* NULL: no such word, and it is not looked at further. */
static int32_t *count_of(word name, bench_inject_counts *c)
{
    for (size_t i = 0; i < RM_COUNT(counted); i++)
        if (is(name, counted[i].name)) return (int32_t *)(void *)((char *)c + counted[i].field);
    return NULL;
}

static rm_status parse_count(word spec, word amount, int32_t *count)
{
    int32_t n = 0;
    bool good = amount.n >= 2 && amount.n <= 4; /* with its = */
    for (size_t i = 1; good && i < amount.n; i++) {
        good = amount.text[i] >= '0' && amount.text[i] <= '9';
        n = 10 * n + amount.text[i] - '0';
    }
    if (!good) return refuse(spec, "expected how many a step, at most 999, as in alloc=1");
    *count += n;
    return RM_OK;
}

/* ---- one word */

static rm_status parse_one(word spec, int32_t rank, int32_t ranks, const rm_net *net, rm_inject *out)
{
    word amount, at;
    const word name = until(spec, "=", &amount);
    size_t k = 0;
    bench_inject_counts counts = { 0 };
    int32_t *count = count_of(name, &counts);
    if (count) return parse_count(spec, amount, count);
    if (is(name, "layer") && amount.n) return parse_layer(spec, (word){ amount.text + 1, amount.n - 1 }, net, out);
    while (k < RM_COUNT(kinds) && !is(name, kinds[k].name)) k++;
    if (k == RM_COUNT(kinds) || !amount.n)
        return refuse(spec, "expected straggler=, compute=, input= or link= and a time, as in straggler=20ms@rank1, or step=3%");
    if (ranks == 1 && kinds[k].field == offsetof(rm_inject, link_ns)) return refuse(spec, "one device has no link");
    amount = until((word){ amount.text + 1, amount.n - 1 }, "@", &at);
    int32_t whom = kinds[k].whom == LAST ? ranks - 1 : kinds[k].whom;
    if (at.n && !kinds[k].one) return refuse(spec, "a slow link is slow for all ranks: leave @rank out");
    if (at.n && !parse_rank(at, &whom)) return refuse(spec, "expected a rank after @, as in @rank1");
    if (at.n && whom >= ranks) return rm_fail(RM_E_ARG, "--inject %.*s: %d ranks are numbered 0 to %d", (int)(spec.n < 80 ? spec.n : 80), spec.text, ranks, ranks - 1);
    rm_inject ignored = { 0 };
    return parse_amount(spec, amount, kinds[k].unit, (char *)(whom == EVERY || whom == rank ? out : &ignored) + kinds[k].field);
}

rm_status bench_inject_parse(const char *spec, int32_t rank, int32_t ranks, const rm_net *net, rm_inject *out)
{
    rm_inject sum = { 0 };
    *out = sum;
    if (!spec || !spec[0]) return RM_OK;
    for (word all = { spec, strlen(spec) };;) {
        word rest;
        RM_TRY(parse_one(until(all, ";", &rest), rank, ranks, net, &sum));
        if (!rest.n) break;
        all = (word){ rest.text + 1, rest.n - 1 };
    }
    *out = sum;
    return RM_OK;
}

static bool is_known(word name)
{
    for (size_t k = 0; k < RM_COUNT(kinds); k++)
        if (is(name, kinds[k].name)) return true;
    return is(name, "layer");
}

rm_status bench_inject_parse_counts(const char *spec, bench_inject_counts *out)
{
    bench_inject_counts sum = { 0 };
    *out = sum;
    if (!spec[0]) return RM_OK;
    for (word all = { spec, strlen(spec) };;) {
        word rest, amount;
        const word one = until(all, ";", &rest), name = until(one, "=", &amount);
        int32_t *count = count_of(name, &sum);
        if (count) RM_TRY(parse_count(one, amount, count));
        else if (!is_known(name)) return refuse(one, "of facts it is alloc=N or all-reduce=N a step");
        if (!rest.n) break;
        all = (word){ rest.text + 1, rest.n - 1 };
    }
    *out = sum;
    return RM_OK;
}

bool bench_inject_takes_time(const char *spec)
{
    bench_inject_counts ignored;
    for (word all = { spec, strlen(spec) }; all.n;) {
        word rest, amount;
        const word name = until(until(all, ";", &rest), "=", &amount);
        if (!count_of(name, &ignored)) return true;
        all = rest.n ? (word){ rest.text + 1, rest.n - 1 } : rest;
    }
    return false;
}
