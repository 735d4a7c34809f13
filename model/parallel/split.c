#include "model/parallel/split.h"
#include "base/size.h"
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a spec is applied to, and what comes out. */
typedef struct split { const uint64_t *bytes; uint32_t n; uint32_t *end; uint32_t n_end; rm_split_order order; } split;

static void close_at(split *s, uint32_t last) { s->end[s->n_end++] = last; }

/* ---- by rule: each gets the text behind its name */
static rm_status single(const char *rest, split *s)
{
    close_at(s, s->n - 1);
    return RM_OK;
}

static rm_status per_layer(const char *rest, split *s)
{
    for (uint32_t i = 0; i < s->n; i++) close_at(s, i);
    return RM_OK;
}

/* A part is closed by the gradient that brings it to the limit, as DDP does. */
static void by_limits(split *s, uint64_t first, uint64_t later)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const uint64_t limit = s->n_end ? later : first;
        sum = sum > UINT64_MAX - s->bytes[i] ? UINT64_MAX : sum + s->bytes[i];
        if (sum < limit && i + 1 < s->n) continue;
        close_at(s, i);
        sum = 0;
    }
}

static rm_status by_bytes(const char *rest, split *s)
{
    uint64_t bytes;
    if (!rm_size_parse(rest, strlen(rest), &bytes))
        return rm_fail(RM_E_ARG, "split bytes:%.40s: expected a size of at least 1 byte such as bytes:25M or bytes:25Mi", rest);
    by_limits(s, bytes, bytes);
    return RM_OK;
}

static rm_status ddp(const char *rest, split *s)
{
    by_limits(s, 1u << 20, 25u << 20);
    return RM_OK;
}

/* Part k of K ends where the sum is nearest to k/K of the whole, leaving a gradient for each part to come. */
static void equal_parts(split *s, uint32_t parts)
{
    double total = 0, sum = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->n; i++) total += (double)s->bytes[i];
    for (uint32_t k = 1; k < parts; k++) {
        const double want = total * k / parts;
        sum += (double)s->bytes[at];
        while (at + 1 + (parts - k) < s->n && fabs(sum + (double)s->bytes[at + 1] - want) <= fabs(sum - want)) sum += (double)s->bytes[++at];
        close_at(s, at++);
    }
    close_at(s, s->n - 1);
}

static rm_status equal(const char *rest, split *s)
{
    char *stop = NULL;
    const unsigned long k = isdigit((unsigned char)rest[0]) ? strtoul(rest, &stop, 10) : 0;
    if (!stop || *stop || k < 1 || k > s->n) return rm_fail(RM_E_ARG, "split equal:%.40s: expected a number of parts from 1 to %" PRIu32 ", as in equal:4", rest, s->n);
    equal_parts(s, (uint32_t)k);
    return RM_OK;
}

static rm_status automatic(const char *rest, split *s)
{
    return rm_fail(RM_E_ARG, "split auto comes with the split search, which this version does not have; use ddp, bytes:25M or a list of ends");
}

/* ---- by list */
static rm_status parse_end(const char **text, const split *s, uint32_t *out)
{
    const char *p = *text;
    const size_t word = strcspn(p, ",");
    char *stop = NULL;
    const long long v = strtoll(p, &stop, 10);
    const bool number = word > 0 && (isdigit((unsigned char)p[0]) || (p[0] == '-' && isdigit((unsigned char)p[1]))) && stop == p + word;
    if (!number) return rm_fail(RM_E_ARG, "split: '%.*s' is no index; use ends such as 107,160, or single, per-layer, bytes:25M, ddp, equal:K", (int)(word < 40 ? word : 40), p);
    if (v < 0) return rm_fail(RM_E_ARG, "split: index %.*s is negative; the %" PRIu32 " gradients are numbered from 0", (int)(word < 40 ? word : 40), p, s->n);
    if (v >= s->n) return rm_fail(RM_E_ARG, "split: index %.*s is too large; the %" PRIu32 " gradients are numbered 0 to %" PRIu32, (int)(word < 40 ? word : 40), p, s->n, s->n - 1);
    *out = (uint32_t)v;
    *text = p + word;
    return RM_OK;
}

/* Ends in forward order become ends in ready order: the last gradient of a part is the first of it seen from the other side. */
static void turn_round(split *s)
{
    const uint32_t parts = s->n_end;
    for (uint32_t i = 0, j = parts - 1; i < j--; i++) { /* all but the last, which is n - 1 both ways */
        const uint32_t a = s->end[i], b = s->end[j];
        s->end[i] = s->n - 2 - b;
        s->end[j] = s->n - 2 - a;
    }
}

static rm_status by_list(const char *spec, split *s)
{
    const char *p = spec;
    for (;;) {
        uint32_t v = 0;
        RM_TRY(parse_end(&p, s, &v));
        if (s->n_end && v == s->end[s->n_end - 1]) return rm_fail(RM_E_ARG, "split: index %" PRIu32 " is there twice; ends ascend", v);
        if (s->n_end && v < s->end[s->n_end - 1])
            return rm_fail(RM_E_ARG, "split: index %" PRIu32 " comes after %" PRIu32 "; ends ascend", v, s->end[s->n_end - 1]);
        close_at(s, v);
        if (*p == '\0') break;
        p++;
    }
    if (s->end[s->n_end - 1] != s->n - 1) close_at(s, s->n - 1);
    if (s->order == RM_SPLIT_FORWARD) turn_round(s);
    return RM_OK;
}

static const struct rule { const char *name; bool takes_value; rm_status (*apply)(const char *rest, split *s); } rules[] = {
    { "single", false, single }, { "per-layer", false, per_layer }, { "bytes:", true, by_bytes },
    { "ddp", false, ddp },       { "equal:", true, equal },         { "auto", false, automatic },
};

rm_status rm_split_parse(const char *spec, const uint64_t *bytes, uint32_t n, rm_split_order order, uint32_t *end, uint32_t *out_n)
{
    split s = { .bytes = bytes, .n = n, .end = end, .order = order };
    RM_ASSERT(n > 0);
    if (spec[0] == '\0') return rm_fail(RM_E_ARG, "the split is empty; use ends such as 107,160, or single, per-layer, bytes:25M, ddp, equal:K");
    const struct rule *rule = NULL;
    for (size_t i = 0; i < RM_COUNT(rules) && !rule; i++) {
        const size_t len = strlen(rules[i].name);
        if (rules[i].takes_value ? strncmp(spec, rules[i].name, len) == 0 : strcmp(spec, rules[i].name) == 0) rule = &rules[i];
    }
    RM_TRY(rule ? rule->apply(spec + strlen(rule->name), &s) : by_list(spec, &s));
    *out_n = s.n_end;
    return RM_OK;
}

/* ---- printing */
rm_split_part rm_split_part_at(const uint64_t *bytes, const uint32_t *end, uint32_t n_end, uint32_t i)
{
    RM_ASSERT(i < n_end);
    rm_split_part p = { .first = i ? end[i - 1] + 1 : 0, .last = end[i] };
    double total = 0, own = 0;
    for (uint32_t g = 0; g <= end[n_end - 1]; g++) total += (double)bytes[g];
    for (uint32_t g = p.first; g <= p.last; g++) {
        p.bytes += bytes[g];
        own += (double)bytes[g];
    }
    p.share = total > 0 ? own / total : 0;
    return p;
}

void rm_split_shares(const uint64_t *bytes, const uint32_t *end, uint32_t n_end, char *text, size_t size)
{
    enum { TAIL = sizeof "/... %" };
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n_end; i++) {
        char share[32];
        const int n = snprintf(share, sizeof share, "%s%.2f", i ? "/" : "", 100 * rm_split_part_at(bytes, end, n_end, i).share);
        if (used + (size_t)n + TAIL >= size) {
            snprintf(text + used, size - used, "/... %%");
            return;
        }
        memcpy(text + used, share, (size_t)n + 1);
        used += (size_t)n;
    }
    snprintf(text + used, size - used, " %%");
}

bool rm_split_print(const uint32_t *end, uint32_t n_end, char *text, size_t size)
{
    size_t used = 0;
    for (uint32_t i = 0; i < n_end; i++) {
        const int n = snprintf(text + used, size - used, "%s%" PRIu32, i ? "," : "", end[i]);
        if (n < 0 || (size_t)n >= size - used) return false;
        used += (size_t)n;
    }
    return true;
}
