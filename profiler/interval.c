#include "profiler/interval.h"
#include "base/sort.h"
#include <stdlib.h>
#include <string.h>

void rm_intervals_free(rm_intervals *s)
{
    free(s->at);
    memset(s, 0, sizeof *s);
}

void rm_intervals_clear(rm_intervals *s)
{
    s->n = 0;
    s->unsorted = false;
}

static rm_status reserve(rm_intervals *s, size_t n)
{
    if (n <= s->room) return RM_OK;
    const size_t room = n < 64 ? 64 : n + n / 2;
    rm_interval *at = realloc(s->at, room * sizeof *at);
    if (!at) return rm_fail(RM_E_NOMEM, "out of memory for %zu time intervals", room);
    s->at = at;
    s->room = room;
    return RM_OK;
}

rm_status rm_intervals_add(rm_intervals *s, uint64_t begin, uint64_t end)
{
    if (end <= begin) return RM_OK;
    RM_TRY(reserve(s, s->n + 1));
    s->unsorted |= s->n && begin < s->at[s->n - 1].begin;
    s->at[s->n++] = (rm_interval){ begin, end };
    return RM_OK;
}

static bool begins_before(const void *a, const void *b) { return ((const rm_interval *)a)->begin < ((const rm_interval *)b)->begin; }

/* In place: steps normalise, and must not allocate. Mostly in order, where the lanes of one class were added one after the other. */
void rm_intervals_normalise(rm_intervals *s)
{
    if (s->unsorted) rm_sort(s->at, s->n, sizeof *s->at, begins_before);
    s->unsorted = false;
    size_t out = 0;
    for (size_t i = 0; i < s->n; i++) {
        rm_interval *last = out ? &s->at[out - 1] : NULL;
        if (!last || s->at[i].begin > last->end) s->at[out++] = s->at[i];
        else if (s->at[i].end > last->end) last->end = s->at[i].end;
    }
    s->n = out;
}

uint64_t rm_intervals_measure(const rm_intervals *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += s->at[i].end - s->at[i].begin;
    return sum;
}

/* The next piece of a and b, from (*i, *j) on. False at the end. */
static bool next_both(const rm_intervals *a, const rm_intervals *b, size_t *i, size_t *j, rm_interval *out)
{
    while (*i < a->n && *j < b->n) {
        const rm_interval x = a->at[*i], y = b->at[*j];
        const rm_interval both = { x.begin > y.begin ? x.begin : y.begin, x.end < y.end ? x.end : y.end };
        if (x.end < y.end) ++*i;
        else ++*j;
        if (both.begin >= both.end) continue;
        *out = both;
        return true;
    }
    return false;
}

uint64_t rm_intervals_measure_both(const rm_intervals *a, const rm_intervals *b)
{
    size_t i = 0, j = 0;
    uint64_t sum = 0;
    for (rm_interval v; next_both(a, b, &i, &j, &v);) sum += v.end - v.begin;
    return sum;
}

rm_status rm_intervals_both(const rm_intervals *a, const rm_intervals *b, rm_intervals *out)
{
    size_t i = 0, j = 0;
    RM_ASSERT(out != a && out != b);
    rm_intervals_clear(out);
    for (rm_interval v; next_both(a, b, &i, &j, &v);) RM_TRY(rm_intervals_add(out, v.begin, v.end));
    return RM_OK;
}

rm_status rm_intervals_union(const rm_intervals *a, const rm_intervals *b, rm_intervals *out)
{
    size_t i = 0, j = 0;
    RM_ASSERT(out != a && out != b);
    rm_intervals_clear(out);
    while (i < a->n || j < b->n) {
        const bool from_a = j == b->n || (i < a->n && a->at[i].begin <= b->at[j].begin);
        const rm_interval v = from_a ? a->at[i++] : b->at[j++];
        RM_TRY(rm_intervals_add(out, v.begin, v.end));
    }
    rm_intervals_normalise(out);
    return RM_OK;
}

rm_status rm_intervals_without(const rm_intervals *a, const rm_intervals *b, rm_intervals *out)
{
    size_t j = 0;
    RM_ASSERT(out != a && out != b);
    rm_intervals_clear(out);
    for (size_t i = 0; i < a->n; i++) {
        uint64_t from = a->at[i].begin;
        while (j < b->n && b->at[j].end <= from) j++;
        for (size_t k = j; k < b->n && b->at[k].begin < a->at[i].end; k++) {
            RM_TRY(rm_intervals_add(out, from, b->at[k].begin));
            from = b->at[k].end;
        }
        RM_TRY(rm_intervals_add(out, from, a->at[i].end));
    }
    return RM_OK;
}

void rm_intervals_clip(rm_intervals *s, rm_interval w)
{
    size_t out = 0;
    for (size_t i = 0; i < s->n; i++) {
        const rm_interval v = { s->at[i].begin > w.begin ? s->at[i].begin : w.begin, s->at[i].end < w.end ? s->at[i].end : w.end };
        if (v.begin < v.end) s->at[out++] = v;
    }
    s->n = out;
}
