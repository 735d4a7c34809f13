#include "model/parallel/cost.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void rm_cost_free(rm_cost *c)
{
    free(c->at);
    *c = (rm_cost) { 0 };
}

/* ---- fitting */
static int by_bytes(const void *a, const void *b)
{
    const uint64_t x = ((const rm_cost_point *)a)->bytes, y = ((const rm_cost_point *)b)->bytes;
    return x < y ? -1 : x > y;
}

/* Both as one, at their weighted mean. The mean of sizes lies between them, so points stay apart and in order. */
static rm_cost_point pooled(rm_cost_point a, rm_cost_point b)
{
    const double share = b.weight / (a.weight + b.weight);
    const uint64_t step = (uint64_t)((double)(b.bytes - a.bytes) * share);
    return (rm_cost_point) { a.bytes + (step < b.bytes - a.bytes ? step : b.bytes - a.bytes), a.ns + (b.ns - a.ns) * share, a.weight + b.weight };
}

static rm_status check_points(const rm_cost_point *p, uint32_t n)
{
    if (n == 0) return rm_fail(RM_E_ARG, "a cost wants at least one measured point");
    for (uint32_t i = 0; i < n; i++)
        if (!(p[i].ns >= 0 && isfinite(p[i].ns) && p[i].weight > 0 && isfinite(p[i].weight)))
            return rm_fail(RM_E_ARG, "point %u of a cost (%llu bytes) has the time %g ns and the weight %g", i, (unsigned long long)p[i].bytes, p[i].ns, p[i].weight);
    return RM_OK;
}

/* Pool adjacent violators, in place over sorted points: how many are left. */
static uint32_t pool(rm_cost_point *p, uint32_t n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        p[k++] = p[i];
        while (k > 1 && (p[k - 2].bytes == p[k - 1].bytes || p[k - 2].ns >= p[k - 1].ns)) {
            p[k - 2] = pooled(p[k - 2], p[k - 1]);
            k--;
        }
    }
    return k;
}

rm_status rm_cost_fit(const rm_cost_point *p, uint32_t n, rm_cost *out)
{
    RM_TRY(check_points(p, n));
    rm_cost_point *at = malloc(n * sizeof *at);
    if (!at) return rm_fail(RM_E_NOMEM, "out of memory for a cost of %u points", n);
    memcpy(at, p, n * sizeof *at);
    qsort(at, n, sizeof *at, by_bytes);
    *out = (rm_cost) { at, pool(at, n) };
    return RM_OK;
}

/* ---- asking */
static double on_line(const rm_cost_point *a, const rm_cost_point *b, uint64_t bytes)
{
    return a->ns + (b->ns - a->ns) * ((double)(bytes - a->bytes) / (double)(b->bytes - a->bytes));
}

double rm_cost_at(const rm_cost *c, uint64_t bytes)
{
    uint32_t low = 0, high = c->n; /* the last point at or below `bytes` lies in low .. high-1 */
    if (c->n == 0) return 0;
    if (bytes <= c->at[0].bytes || c->n == 1) return c->at[0].ns;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (c->at[middle].bytes <= bytes) low = middle;
        else high = middle;
    }
    if (low == c->n - 1) low--; /* beyond: the last piece goes on */
    return on_line(&c->at[low], &c->at[low + 1], bytes);
}

double rm_cost_alpha_ns(const rm_cost *c) { return c->n ? c->at[0].ns : 0; }

double rm_cost_ns_per_byte(const rm_cost *c)
{
    if (c->n < 2) return 0;
    const rm_cost_point *a = &c->at[c->n - 2], *b = a + 1;
    return (b->ns - a->ns) / (double)(b->bytes - a->bytes);
}

/* Points of the size left out are left out together, for the others of that size would tell. */
static double error_without(const rm_cost_point *p, uint32_t n, uint32_t out, rm_cost_point *rest)
{
    uint32_t k = 0;
    rm_cost c;
    for (uint32_t i = 0; i < n; i++)
        if (p[i].bytes != p[out].bytes) rest[k++] = p[i];
    if (rm_cost_fit(rest, k, &c) != RM_OK) return NAN;
    const double error = c.n > 0 && k > 1 && p[out].ns > 0 ? fabs(rm_cost_at(&c, p[out].bytes) / p[out].ns - 1) : NAN;
    rm_cost_free(&c);
    return error;
}

static uint32_t sizes_of(const rm_cost_point *p, uint32_t n)
{
    uint32_t sizes = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = 0;
        while (j < i && p[j].bytes != p[i].bytes) j++;
        sizes += j == i;
    }
    return sizes;
}

double rm_cost_leave_one_out(const rm_cost_point *p, uint32_t n)
{
    double worst = 0;
    if (sizes_of(p, n) < 3) return NAN;
    rm_cost_point *rest = malloc(n * sizeof *rest);
    if (!rest) return NAN;
    for (uint32_t i = 0; i < n && !isnan(worst); i++) {
        const double error = error_without(p, n, i, rest);
        worst = isnan(error) || error > worst ? error : worst;
    }
    free(rest);
    return worst;
}

/* ---- JSON */
json_t *rm_cost_json(const rm_cost *c)
{
    json_t *a = json_array();
    for (uint32_t i = 0; i < c->n; i++)
        if (json_array_append_new(a, json_pack("[I, f]", (json_int_t)c->at[i].bytes, c->at[i].ns)) != 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

static rm_status point_from_json(const json_t *j, uint32_t i, rm_cost_point *at)
{
    const json_t *bytes = json_array_get(j, 0), *ns = json_array_get(j, 1);
    const double b = json_is_number(bytes) ? json_number_value(bytes) : -1, t = json_is_number(ns) ? json_number_value(ns) : -1;
    if (json_array_size(j) != 2 || !(b >= 0 && b <= 0x1p62 && b == floor(b)) || !(t >= 0))
        return rm_fail(RM_E_FORMAT, "cost: point %u is not [bytes, ns] with bytes a whole number and neither below 0", i);
    *at = (rm_cost_point) { json_is_integer(bytes) ? (uint64_t)json_integer_value(bytes) : (uint64_t)b, t, 1 };
    if (i && at->bytes <= at[-1].bytes) return rm_fail(RM_E_FORMAT, "cost: the bytes of point %u are not above those of the point before it", i);
    return RM_OK;
}

rm_status rm_cost_from_json(const json_t *j, rm_cost *out)
{
    const size_t n = json_array_size(j);
    rm_cost_point *at = calloc(n ? n : 1, sizeof *at);
    if (!at) return rm_fail(RM_E_NOMEM, "out of memory for a cost of %zu points", n);
    rm_status st = n == 0 || n > UINT32_MAX ? rm_fail(RM_E_FORMAT, "cost: expected a list of [bytes, ns], at least one") : RM_OK;
    for (size_t i = 0; st == RM_OK && i < n; i++) st = point_from_json(json_array_get(j, i), (uint32_t)i, &at[i]);
    if (st != RM_OK) {
        free(at);
        return st;
    }
    *out = (rm_cost) { at, (uint32_t)n };
    return RM_OK;
}
