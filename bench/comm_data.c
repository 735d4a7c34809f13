/* Sizes and test data of bench comm. */
#include "base/size.h"
#include "bench/comm_sweep.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- sizes */
static rm_status one_size(const char *text, size_t n, uint64_t *out)
{
    if (rm_size_parse(text, n, out)) return RM_OK;
    return rm_fail(RM_E_ARG, "--sizes: '%.*s' is no size; expected MIN:MAX[:FACTOR] or a list such as 8,1K,25M,256Mi", (int)(n < 40 ? n : 40), text);
}

static rm_status add_size(uint64_t bytes, uint64_t *out, uint32_t *n)
{
    if (*n == BENCH_COMM_SIZES) return rm_fail(RM_E_ARG, "--sizes: more than %d sizes; take a larger factor", BENCH_COMM_SIZES);
    out[(*n)++] = bytes;
    return RM_OK;
}

static rm_status by_range(const char *text, uint64_t *out, uint32_t *n)
{
    const char *colon = strchr(text, ':'), *second = strchr(colon + 1, ':');
    uint64_t least = 0, most = 0;
    char *end = NULL;
    RM_TRY(one_size(text, (size_t)(colon - text), &least));
    RM_TRY(one_size(colon + 1, second ? (size_t)(second - colon - 1) : strlen(colon + 1), &most));
    const double factor = second ? strtod(second + 1, &end) : 2;
    if (second && (end == second + 1 || *end || !(factor > 1 && factor <= 1e9))) return rm_fail(RM_E_ARG, "--sizes: the factor '%.40s' must be a number above 1", second + 1);
    if (least > most) return rm_fail(RM_E_ARG, "--sizes %s: the smallest is above the largest", text);
    for (double v = (double)least; v < (double)most; v *= factor)
        if (*n == 0 || out[*n - 1] != (uint64_t)v) RM_TRY(add_size((uint64_t)v, out, n));
    return add_size(most, out, n);
}

static rm_status by_list(const char *text, uint64_t *out, uint32_t *n)
{
    for (const char *p = text;; p++) {
        const size_t word = strcspn(p, ",");
        uint64_t bytes = 0;
        RM_TRY(one_size(p, word, &bytes));
        RM_TRY(add_size(bytes, out, n));
        p += word;
        if (!*p) return RM_OK;
    }
}

rm_status bench_comm_sizes(const char *text, uint64_t *out, uint32_t *out_n)
{
    uint32_t n = 0;
    RM_TRY(strchr(text, ':') ? by_range(text, out, &n) : by_list(text, out, &n));
    *out_n = n;
    return RM_OK;
}

/* ---- data. With more ranks than the type can count, only every `stride`-th adds anything but 0. */
static float value_at(uint32_t rank, uint32_t stride, uint32_t period, uint64_t seed, uint32_t i)
{
    return rank % stride ? 0 : (float)((rank / stride + seed + i) % period);
}

void bench_comm_pattern_make(uint32_t rank, uint32_t ranks, uint64_t seed, bool narrow, bench_comm_pattern *out)
{
    const uint32_t limit = narrow ? 1u << 8 : 1u << 24, stride = (ranks - 1) / limit + 1, adding = (ranks + stride - 1) / stride;
    uint32_t period = limit / adding + 1;
    if (period > BENCH_COMM_PERIOD) period = BENCH_COMM_PERIOD;
    if (period > 2 && period % 2 == 0) period--; /* odd: no part of a message, which begins at a power of two, looks like another */
    out->period = period;
    for (uint32_t i = 0; i < period; i++) {
        out->own[i] = value_at(rank, stride, period, seed, i);
        out->sum[i] = 0;
        for (uint32_t r = 0; r < ranks; r++) out->sum[i] += value_at(r, stride, period, seed, i);
    }
}

void bench_comm_fill(const bench_comm_pattern *p, float *at, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += p->period) memcpy(at + i, p->own, (count - i < p->period ? count - i : p->period) * sizeof *at);
}

uint64_t bench_comm_wrong(const bench_comm_pattern *p, const float *expected, const float *at, uint64_t count)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; i += p->period) {
        const uint64_t n = count - i < p->period ? count - i : p->period;
        for (uint64_t k = 0; k < n; k++) wrong += !(at[i + k] == expected[k]);
    }
    return wrong;
}
