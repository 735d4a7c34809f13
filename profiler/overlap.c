#include "profiler/overlap.h"
#include "base/sort.h"
#include <string.h>

/* Those that begin together stay in HolisticTraceAnalysis' order: device work first, then as in the file. By now `corr` is that. */
static bool comes_before(const void *x, const void *y)
{
    const rm_kineto_span *a = x, *b = y;
    return a->begin_ns != b->begin_ns ? a->begin_ns < b->begin_ns : a->launch != b->launch ? b->launch : a->corr < b->corr;
}

/* ---- HolisticTraceAnalysis' merging */

typedef struct merged { uint64_t sum_ns; int64_t first_ns, last_ns; } merged; /* sum_ns: modulo 2^64, whatever a damaged trace says */
enum { ALL_CLASSES = 15 };

/* Spans in order of begins; `classes` is a bit each. A span that ends before it begins counts as negative where it stands alone, as it
 * does there; without such spans the sum is the union's measure. */
static merged merge(const rm_kineto_span *s, size_t n, unsigned classes)
{
    merged m = { 0 };
    int64_t begin = 0, end = 0, reach = 0;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (!(classes >> s[i].class & 1)) continue;
        if (!any) m.first_ns = s[i].begin_ns;
        if (!any || s[i].begin_ns > reach) {
            m.sum_ns += (uint64_t)(end - begin);
            begin = s[i].begin_ns;
            end = s[i].end_ns;
        } else if (s[i].end_ns > end) end = s[i].end_ns;
        if (!any || s[i].end_ns > reach) reach = s[i].end_ns;
        any = true;
    }
    m.sum_ns += (uint64_t)(end - begin);
    m.last_ns = end;
    return m;
}

/* ---- the window */

static void keep_in(rm_kineto *k, int64_t begin_ns, int64_t end_ns)
{
    size_t out = 0;
    for (size_t i = 0; i < k->n; i++)
        if (k->span[i].begin_ns < end_ns && k->span[i].end_ns > begin_ns) k->span[out++] = k->span[i];
    k->n = out;
}

static void as_hta(rm_kineto *k, const rm_overlap_options *o)
{
    size_t out = 0;
    for (size_t i = 0; i < k->n; i++) {
        if (o->drop_last_step && !k->span[i].kept) continue;
        k->span[out] = k->span[i];
        if (k->fractions && o->round) rm_kineto_round(&k->span[out]);
        out++;
    }
    k->n = out;
}

static rm_status select(rm_kineto *k, const rm_overlap_options *o, int64_t *begin_ns, int64_t *end_ns)
{
    if (o->window == RM_OVERLAP_STEPS && !k->n_step) return rm_fail(RM_E_ARG, "there is no ProfilerStep#n in the trace: take the window all");
    if (o->window == RM_OVERLAP_HTA) as_hta(k, o);
    if (o->window == RM_OVERLAP_STEPS) keep_in(k, k->step_begin_ns, k->step_end_ns);
    if (!k->n) return rm_fail(RM_E_ARG, "no device work is left in the window");
    for (size_t i = 0; i < k->n; i++) k->span[i].corr = i & 0xffffffffff;
    rm_sort(k->span, k->n, sizeof *k->span, comes_before);
    const merged all = merge(k->span, k->n, ALL_CLASSES);
    *begin_ns = o->window == RM_OVERLAP_STEPS ? k->step_begin_ns : all.first_ns;
    *end_ns = o->window == RM_OVERLAP_STEPS ? k->step_end_ns : all.last_ns;
    return RM_OK;
}

/* ---- the budget, some spans at a time, so that memory does not grow: what reaches beyond a piece is one interval a class */

enum { PIECE = 4096 };

static rm_intervals *set_of(rm_classes *c, unsigned class)
{
    rm_intervals *const set[] = { [RM_KINETO_COMPUTE] = &c->compute, [RM_KINETO_COMM] = &c->comm, [RM_KINETO_COPY] = &c->copy, [RM_KINETO_OTHER] = &c->host };
    return set[class];
}

/* One piece: [from, to) gets what the earlier ones left, up to reach[class], and n spans. */
static rm_status add_piece(rm_classes *c, const rm_kineto_span *s, size_t n, int64_t zero_ns, rm_interval piece, uint64_t reach[4], rm_budget *sum)
{
    rm_budget b;
    rm_classes_clear(c);
    for (unsigned class = 0; class < 4; class++) RM_TRY(rm_intervals_add(set_of(c, class), piece.begin, reach[class]));
    for (size_t i = 0; i < n; i++) {
        if (s[i].end_ns <= s[i].begin_ns || s[i].end_ns <= zero_ns) continue;
        const uint64_t begin = s[i].begin_ns > zero_ns ? (uint64_t)(s[i].begin_ns - zero_ns) : 0, end = (uint64_t)(s[i].end_ns - zero_ns);
        RM_TRY(rm_intervals_add(set_of(c, s[i].class), begin, end));
        if (end > reach[s[i].class]) reach[s[i].class] = end;
    }
    RM_TRY(rm_budget_of(c, piece, &b));
    rm_budget_add(sum, &b);
    return RM_OK;
}

static rm_status budget_of(const rm_kineto *k, int64_t begin_ns, int64_t end_ns, rm_budget *out)
{
    rm_classes c = { 0 };
    rm_status st = RM_OK;
    uint64_t reach[4] = { 0 };
    const uint64_t end = (uint64_t)(end_ns - begin_ns);
    rm_interval piece = { 0, 0 };
    memset(out, 0, sizeof *out);
    for (size_t i = 0; st == RM_OK && i < k->n; i += PIECE) {
        const size_t n = k->n - i < PIECE ? k->n - i : PIECE;
        const int64_t next = i + n < k->n ? k->span[i + n].begin_ns : end_ns;
        piece.begin = piece.end;
        piece.end = next <= begin_ns ? 0 : (uint64_t)(next - begin_ns);
        if (piece.end > end || i + n == k->n) piece.end = end;
        st = add_piece(&c, k->span + i, n, begin_ns, piece, reach, out);
    }
    rm_classes_free(&c);
    return st;
}

static void add_streams(const rm_kineto *k, int64_t begin_ns, int64_t end_ns, rm_overlap *out)
{
    int64_t reach[RM_KINETO_STREAMS];
    for (size_t i = 0; i < RM_COUNT(reach); i++) reach[i] = begin_ns;
    for (size_t i = 0; i < k->n; i++) {
        const rm_kineto_span *s = &k->span[i];
        const int64_t from = s->begin_ns > reach[s->stream] ? s->begin_ns : reach[s->stream], to = s->end_ns < end_ns ? s->end_ns : end_ns;
        out->stream[s->stream].n++;
        if (to <= from) continue;
        out->stream[s->stream].busy_ns += (uint64_t)(to - from);
        reach[s->stream] = to;
    }
}

rm_status rm_overlap_of(rm_kineto *k, const rm_overlap_options *o, rm_overlap *out)
{
    rm_overlap v = { 0 };
    int64_t begin_ns = 0, end_ns = 0;
    RM_TRY(select(k, o, &begin_ns, &end_ns));
    if (end_ns < begin_ns) return rm_fail(RM_E_ARG, "no device work that took time is left in the window");
    RM_TRY(budget_of(k, begin_ns, end_ns, &v.budget));
    add_streams(k, begin_ns, end_ns, &v);
    v.window_ns = end_ns - begin_ns;
    v.compute_ns = (int64_t)v.budget.compute_ns;
    v.idle_ns = (int64_t)v.budget.idle_ns;
    v.comm_ns = (int64_t)v.budget.comm_ns;
    v.overlap_ns = (int64_t)v.budget.overlap_ns;
    if (o->window == RM_OVERLAP_HTA) {
        v.compute_ns = (int64_t)merge(k->span, k->n, 1u << RM_KINETO_COMPUTE).sum_ns;
        v.comm_ns = (int64_t)merge(k->span, k->n, 1u << RM_KINETO_COMM).sum_ns;
        v.idle_ns = (int64_t)((uint64_t)v.window_ns - merge(k->span, k->n, ALL_CLASSES).sum_ns);
    }
    v.non_compute_ns = (int64_t)((uint64_t)v.window_ns - (uint64_t)v.compute_ns - (uint64_t)v.idle_ns);
    *out = v;
    return RM_OK;
}

/* ---- between ranks */

static const rm_kineto_span *next_collective(const rm_kineto *k, size_t *i)
{
    while (*i < k->n)
        if (k->span[(*i)++].class == RM_KINETO_COMM) return &k->span[*i - 1];
    return NULL;
}

/* The next collective of every rank. False where they do not match; *any is false at the common end. */
static bool next_of_all(const rm_kineto *const *ranks, size_t n, size_t *at, bool *any, int64_t *least_ns, int64_t *sum_ns)
{
    const rm_kineto_span *first = NULL;
    for (size_t r = 0; r < n; r++) {
        const rm_kineto_span *s = next_collective(ranks[r], &at[r]);
        if (r == 0) first = s;
        if (!s != !first || (s && s->name != first->name)) return false;
        if (!s) continue;
        const int64_t d = s->end_ns - s->begin_ns;
        if (r == 0 || d < *least_ns) *least_ns = d;
        *sum_ns += d;
    }
    *any = first != NULL;
    return true;
}

bool rm_overlap_xfer(const rm_kineto *const *ranks, size_t n, int64_t *xfer_ns, int64_t *sum_ns)
{
    enum { RANKS_MAX = 4096 };
    size_t at[RANKS_MAX] = { 0 };
    *xfer_ns = *sum_ns = 0;
    if (n < 2 || n > RANKS_MAX) return false;
    for (bool any = true; any;) {
        int64_t least_ns = 0;
        if (!next_of_all(ranks, n, at, &any, &least_ns, sum_ns)) return false;
        *xfer_ns += least_ns;
    }
    return true;
}
