#include "model/parallel/split.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const uint64_t *bytes; uint32_t n, *end, count; } splitter;

static void cut(splitter *s, uint32_t end) { s->end[s->count++] = end; }

static rm_status split_single(splitter *s, const char *argument)
{
    (void)argument;
    cut(s, s->n - 1);
    return RM_OK;
}

static rm_status split_per_layer(splitter *s, const char *argument)
{
    (void)argument;
    for (uint32_t i = 0; i < s->n; i++) cut(s, i);
    return RM_OK;
}

/* A bucket is full when it has reached its limit: `first` for the first bucket, `rest` for the others. */
static void cut_by_bytes(splitter *s, uint64_t first, uint64_t rest)
{
    uint64_t filled = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        filled += s->bytes[i];
        if (filled < (s->count ? rest : first) && i + 1 < s->n) continue;
        cut(s, i);
        filled = 0;
    }
}

static rm_status split_bytes(splitter *s, const char *argument)
{
    static const struct { char suffix; uint64_t unit; } units[] = { { 'K', 1ull << 10 }, { 'M', 1ull << 20 }, { 'G', 1ull << 30 } };
    char *end;
    errno = 0;
    unsigned long long v = argument[0] >= '0' && argument[0] <= '9' ? strtoull(argument, &end, 10) : 0;
    uint64_t unit = 1;
    if (v)
        for (size_t i = 0; i < RM_COUNT(units); i++)
            if (*end == units[i].suffix) { unit = units[i].unit; end++; break; }
    if (!v || errno || *end || v > UINT64_MAX / unit) return rm_fail(RM_E_ARG, "split bytes:%s: expected a size such as bytes:25M", argument);
    cut_by_bytes(s, v * unit, v * unit);
    return RM_OK;
}

static rm_status split_ddp(splitter *s, const char *argument)
{
    (void)argument;
    cut_by_bytes(s, 1ull << 20, 25ull << 20);
    return RM_OK;
}

/* Bucket b ends where the bytes so far are nearest to (b + 1) / k of all, leaving a gradient for each that follows. */
static rm_status split_equal(splitter *s, const char *argument)
{
    char *end;
    errno = 0;
    unsigned long k = argument[0] >= '0' && argument[0] <= '9' ? strtoul(argument, &end, 10) : 0;
    if (!k || errno || *end || k > s->n) return rm_fail(RM_E_ARG, "split equal:%s: expected a number of buckets from 1 to %u", argument, s->n);
    uint64_t total = 0, sum = 0;
    for (uint32_t i = 0; i < s->n; i++) total += s->bytes[i];
    uint32_t i = 0;
    for (uint32_t b = 0; b < k; b++) {
        double target = (double)total * (double)(b + 1) / (double)k;
        uint32_t most = s->n - (uint32_t)(k - 1 - b); /* one past the last end this bucket may have */
        sum += s->bytes[i++];
        while (i < most && (b + 1 == k || (double)sum + (double)s->bytes[i] / 2 <= target)) sum += s->bytes[i++];
        cut(s, i - 1);
    }
    return RM_OK;
}

static rm_status split_auto(splitter *s, const char *argument)
{
    (void)s; (void)argument;
    return rm_fail(RM_E_ARG, "split auto: there is no split search in this version; give indices, single, per-layer, bytes:SIZE, ddp or equal:K");
}

static const struct { const char *name; rm_status (*fn)(splitter *s, const char *argument); bool takes_argument; } forms[] = {
    { "single", split_single, false }, { "per-layer", split_per_layer, false }, { "bytes", split_bytes, true },
    { "ddp", split_ddp, false }, { "equal", split_equal, true }, { "auto", split_auto, false },
};

/* "107,160": one number at a time, each above the one before. */
static rm_status split_indices(splitter *s, const char *spec)
{
    const char *p = spec;
    for (;;) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',')) return rm_fail(RM_E_ARG, "split '%s': '%.20s' is not an index", spec, p);
        if (errno || v < 0 || v >= (long)s->n) return rm_fail(RM_E_ARG, "split '%s': index %ld is not in 0..%u", spec, v, s->n - 1);
        if (s->count && (uint32_t)v == s->end[s->count - 1]) return rm_fail(RM_E_ARG, "split '%s': index %ld comes twice", spec, v);
        if (s->count && (uint32_t)v < s->end[s->count - 1]) return rm_fail(RM_E_ARG, "split '%s': index %ld comes after %u: ends must ascend", spec, v, s->end[s->count - 1]);
        cut(s, (uint32_t)v);
        if (!*end) break;
        p = end + 1;
    }
    if (s->end[s->count - 1] != s->n - 1) cut(s, s->n - 1);
    return RM_OK;
}

/* End e in forward order is a cut before gradient n-1-e in ready order: the bucket before it ends at n-2-e. */
static void from_forward(splitter *s)
{
    uint32_t k = s->count;
    for (uint32_t i = 0; i + 1 < k; i++) s->end[i] = s->n - 2 - s->end[i];
    for (uint32_t i = 0, j = k - 1; i + 1 < j; i++) { /* all but the last, reversed */
        uint32_t t = s->end[i];
        s->end[i] = s->end[--j];
        s->end[j] = t;
    }
}

rm_status rm_split_parse(const char *spec, const uint64_t *bytes, uint32_t n, rm_split_order order, uint32_t *out_end, uint32_t *out_n)
{
    splitter s = { .bytes = bytes, .n = n, .end = out_end };
    RM_ASSERT(n > 0);
    if (!spec[0]) return rm_fail(RM_E_ARG, "the split is empty: give indices such as 107,160, or single, per-layer, bytes:SIZE, ddp, equal:K");
    for (size_t i = 0; i < RM_COUNT(forms); i++) {
        size_t len = strlen(forms[i].name);
        bool argument = !strncmp(spec, forms[i].name, len) && spec[len] == ':';
        if (forms[i].takes_argument ? !argument : strcmp(spec, forms[i].name) != 0) continue;
        RM_TRY(forms[i].fn(&s, forms[i].takes_argument ? spec + len + 1 : ""));
        *out_n = s.count;
        return RM_OK;
    }
    if (!strchr("-+0123456789 ", spec[0])) return rm_fail(RM_E_ARG, "split '%s' is none of single, per-layer, bytes:SIZE, ddp, equal:K, or indices such as 107,160", spec);
    RM_TRY(split_indices(&s, spec));
    if (order == RM_SPLIT_FORWARD) from_forward(&s);
    *out_n = s.count;
    return RM_OK;
}

double rm_split_share(const uint64_t *bytes, uint32_t n, const uint32_t *end, uint32_t b)
{
    double total = 0, mine = 0;
    for (uint32_t i = 0; i < n; i++) {
        total += (double)bytes[i];
        if (i <= end[b] && (b == 0 || i > end[b - 1])) mine += (double)bytes[i];
    }
    return 100 * mine / total;
}
