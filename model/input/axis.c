/* The weights of Pillow's src/libImaging/Resample.c: precompute_coeffs() and normalize_coeffs_8bpc(). The order of the
 * floating-point operations is part of the result. */
#include "model/input/axis.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double triangle(double x)
{
    if (x < 0.0) x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

static int32_t quantise(double w)
{
    return (int32_t)((w < 0 ? -0.5 : 0.5) + w * (1 << RM_WEIGHT_BITS));
}

static rm_status grow(void **memory, size_t *cap, size_t bytes)
{
    if (bytes <= *cap) return RM_OK;
    const size_t size = (bytes + bytes / 2 + 63) / 64 * 64;
    void *fresh = aligned_alloc(64, size);
    if (!fresh) return rm_fail(RM_E_NOMEM, "out of memory for %zu bytes of resize weights", size);
    free(*memory);
    *memory = fresh;
    *cap = size;
    return RM_OK;
}

/* The window of one output: inputs [*start, *start + return value), before zero weights are cut off. */
static int32_t window(const rm_axis_key *k, int32_t output, double *center_out, double *inverse_out, int32_t *start)
{
    const double scale = (double)k->in / k->out, support = scale < 1.0 ? 1.0 : scale;
    const double center = (output + 0.5) * scale;
    int32_t lo = (int32_t)(center - support + 0.5), hi = (int32_t)(center + support + 0.5);
    if (lo < 0) lo = 0;
    if (hi > k->in) hi = k->in;
    *center_out = center;
    *inverse_out = 1.0 / support;
    *start = lo;
    return hi - lo;
}

/* One output's weights into `weight` (at least `room` entries); zeros at both ends are dropped, which changes no sum. */
static void fill(rm_axis *a, int32_t slot, int32_t output, double *w)
{
    double center, inverse, sum = 0.0;
    int32_t start;
    int32_t n = window(&a->key, output, &center, &inverse, &start);
    int32_t *q = a->weight + (size_t)slot * (size_t)a->stride;
    for (int32_t i = 0; i < n; i++) {
        w[i] = triangle((i + start - center + 0.5) * inverse);
        sum += w[i];
    }
    int32_t first = 0;
    if (sum != 0.0)
        for (int32_t i = 0; i < n; i++) w[i] /= sum;
    while (n > 1 && quantise(w[n - 1]) == 0) n--;
    while (first < n - 1 && quantise(w[first]) == 0) first++;
    for (int32_t i = first; i < n; i++) q[i - first] = quantise(w[i]);
    memset(q + (n - first), 0, (size_t)(a->stride - (n - first)) * sizeof *q);
    a->start[slot] = start + first;
    a->count[slot] = n - first;
}

static void find_span(rm_axis *a)
{
    a->lo = a->key.in;
    a->hi = 0;
    a->taps = 1;
    for (int32_t i = 0; i < a->key.n; i++) {
        if (a->start[i] < a->lo) a->lo = a->start[i];
        if (a->start[i] + a->count[i] > a->hi) a->hi = a->start[i] + a->count[i];
        if (a->count[i] > a->taps) a->taps = a->count[i];
    }
    for (int32_t i = 0; i < a->key.n; i++) a->start[i] -= a->lo;
}

/* Cutting zeros may have made every window shorter than the room kept for it. */
static void repack(rm_axis *a, int32_t n4)
{
    const int32_t stride = (a->taps + 3) / 4 * 4;
    if (stride == a->stride) return;
    for (int32_t i = 0; i < n4; i++)
        memmove(a->weight + (size_t)i * (size_t)stride, a->weight + (size_t)i * (size_t)a->stride, (size_t)stride * sizeof *a->weight);
    a->stride = stride;
}

static rm_status widen(rm_axis *a, int32_t n4)
{
    const size_t n = (size_t)n4 * (size_t)a->stride;
    RM_TRY(grow((void **)&a->wide, &a->cap_wide, n * 4 * sizeof *a->wide));
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 4; c++) a->wide[4 * i + c] = a->weight[i];
    return RM_OK;
}

rm_status rm_axis_build(rm_axis *a, const rm_axis_key *key, bool horizontal)
{
    const double scale = (double)key->in / key->out, support = scale < 1.0 ? 1.0 : scale;
    const size_t n4 = ((size_t)key->n + 3) / 4 * 4, room = (size_t)ceil(support) * 2 + 1;
    size_t cap_count = a->cap_n;
    a->key = (rm_axis_key){ 0 };
    RM_TRY(grow((void **)&a->scratch, &a->cap_scratch, room * sizeof *a->scratch));
    RM_TRY(grow((void **)&a->weight, &a->cap_weight, n4 * ((room + 3) / 4 * 4) * sizeof *a->weight));
    RM_TRY(grow((void **)&a->count, &cap_count, n4 * sizeof *a->count));
    RM_TRY(grow((void **)&a->start, &a->cap_n, n4 * sizeof *a->start));
    a->key = *key;
    a->stride = (int32_t)((room + 3) / 4 * 4);
    for (int32_t i = 0; i < key->n; i++)
        fill(a, i, key->first + (key->flip ? key->n - 1 - i : i), a->scratch);
    for (size_t i = (size_t)key->n; i < n4; i++) {
        a->start[i] = a->count[i] = 0;
        memset(a->weight + i * (size_t)a->stride, 0, (size_t)a->stride * sizeof *a->weight);
    }
    find_span(a);
    repack(a, (int32_t)n4);
    const rm_status status = horizontal ? widen(a, (int32_t)n4) : RM_OK;
    if (status != RM_OK) a->key = (rm_axis_key){ 0 };
    return status;
}

void rm_axis_free(rm_axis *a)
{
    free(a->start);
    free(a->count);
    free(a->weight);
    free(a->wide);
    free(a->scratch);
    *a = (rm_axis){ 0 };
}
