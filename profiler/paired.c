#include "profiler/paired.h"
#include "base/rng.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- signed ranks */
/* share[s] = P(T+ = s): rank after rank, each is in the sum or not. */
static void signed_rank_shares(int n, double *share)
{
    const int most = n * (n + 1) / 2;
    memset(share, 0, (size_t)(most + 1) * sizeof *share);
    share[0] = 1;
    for (int rank = 1, top = 0; rank <= n; rank++) {
        top += rank;
        for (int s = top; s >= 0; s--) share[s] = 0.5 * (share[s] + (s >= rank ? share[s - rank] : 0));
    }
}

enum { MOST_SUM = RM_PAIRED_MOST * (RM_PAIRED_MOST + 1) / 2 };

double rm_signed_rank_cdf(int n, int k)
{
    double share[MOST_SUM + 1], sum = 0;
    RM_ASSERT(n >= 1 && n <= RM_PAIRED_MOST);
    if (k >= n * (n + 1) / 2) return 1;
    signed_rank_shares(n, share);
    for (int s = 0; s <= k; s++) sum += share[s];
    return sum;
}

int rm_signed_rank_k(int n, double alpha)
{
    double share[MOST_SUM + 1], sum = 0;
    RM_ASSERT(n >= 1 && n <= RM_PAIRED_MOST);
    signed_rank_shares(n, share);
    for (int s = 0; s <= n * (n + 1) / 2; s++) {
        sum += share[s];
        if (sum > alpha) return s - 1;
    }
    return n * (n + 1) / 2;
}

rm_status rm_paired_of(const double *d, int n, double alpha, rm_paired *out)
{
    if (n < 1 || n > RM_PAIRED_MOST) return rm_fail(RM_E_ARG, "%d pairs: 1 to %d can be compared", n, RM_PAIRED_MOST);
    const int walsh = n * (n + 1) / 2, k = rm_signed_rank_k(n, alpha);
    double *w = malloc((size_t)walsh * sizeof *w);
    if (!w) return rm_fail(RM_E_NOMEM, "out of memory comparing pairs");
    for (int i = 0, at = 0; i < n; i++)
        for (int j = i; j < n; j++) w[at++] = 0.5 * (d[i] + d[j]);
    qsort(w, (size_t)walsh, sizeof *w, by_value);
    *out = (rm_paired){ .delta = rm_median(w, (size_t)walsh), .low = k < 0 ? NAN : w[k], .high = k < 0 ? NAN : w[walsh - 1 - k], .n = n };
    free(w);
    return RM_OK;
}

/* ---- many rows at once */
typedef struct { double size; int at; } sized;
static int by_size(const void *a, const void *b)
{
    const double x = ((const sized *)a)->size, y = ((const sized *)b)->size;
    return (x > y) - (x < y);
}

/* Ranks of |d|, the mean of those that tie; 0 for differences of 0, which have no sign. */
static void ranks_of(const double *d, int n, double *rank)
{
    sized s[RM_PAIRED_MOST];
    for (int i = 0; i < n; i++) s[i] = (sized){ fabs(d[i]), i };
    qsort(s, (size_t)n, sizeof s[0], by_size);
    for (int i = 0, j; i < n; i = j) {
        for (j = i; j < n && s[j].size <= s[i].size; j++) {}
        for (int k = i; k < j; k++) rank[s[k].at] = s[i].size > 0 ? 0.5 * (i + 1 + j) : 0;
    }
}

/* Under flips the sum has mean 0 and this variance: rows of many ties and zeros are measured alike. */
static double scale_of(const double *rank, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += rank[i] * rank[i];
    return sum > 0 ? 1 / sqrt(sum) : 0;
}

static double signed_sum(const double *signed_rank, const int8_t *flip, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += flip[i] * signed_rank[i];
    return sum;
}

rm_status rm_max_statistic(const double *d, int rows, int n, int flips, uint64_t seed, double *p)
{
    if (n < 1 || n > RM_PAIRED_MOST) return rm_fail(RM_E_ARG, "%d pairs: 1 to %d can be compared", n, RM_PAIRED_MOST);
    double *signed_rank = calloc((size_t)rows * (size_t)n + 1, sizeof *signed_rank), *seen = calloc((size_t)rows + 1, sizeof *seen);
    int *as_large = calloc((size_t)rows + 1, sizeof *as_large);
    int8_t flip[RM_PAIRED_MOST];
    rm_status st = signed_rank && seen && as_large ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory comparing rows");
    memset(flip, 1, sizeof flip);
    for (int r = 0; st == RM_OK && r < rows; r++) {
        double rank[RM_PAIRED_MOST], *own = signed_rank + (size_t)r * (size_t)n;
        const double *x = d + (size_t)r * (size_t)n;
        ranks_of(x, n, rank);
        const double scale = scale_of(rank, n);
        for (int i = 0; i < n; i++) own[i] = x[i] < 0 ? -scale * rank[i] : scale * rank[i];
        seen[r] = signed_sum(own, flip, n);
    }
    rm_rng g = rm_rng_for(seed, 0x666c6970u, 0);
    for (int f = 0; st == RM_OK && f < flips; f++) {
        double most = -INFINITY;
        for (int i = 0; i < n; i++) flip[i] = rm_rng_u32(&g) & 1 ? 1 : -1;
        for (int r = 0; r < rows; r++) most = fmax(most, signed_sum(signed_rank + (size_t)r * (size_t)n, flip, n));
        for (int r = 0; r < rows; r++) as_large[r] += most >= seen[r] - 1e-9;
    }
    for (int r = 0; st == RM_OK && r < rows; r++) p[r] = (1.0 + as_large[r]) / (1.0 + flips); /* the data are one of the flips */
    free(signed_rank);
    free(seen);
    free(as_large);
    return st;
}

/* ---- two independent samples */
/* share[u] = P(U = u) without change and ties: the largest value is a's or b's; the latter is above all of a. */
static double *rank_sum_shares(int n_a, int n_b)
{
    const size_t wide = (size_t)n_a * (size_t)n_b + 1, rows = (size_t)n_b + 1;
    double *f = calloc(rows * wide, sizeof *f); /* f[b][u] for the number of a's so far */
    if (!f) return NULL;
    for (size_t b = 0; b < rows; b++) f[b * wide] = 1; /* no a: U is 0 */
    for (int a = 1; a <= n_a; a++)
        for (int b = 1; b <= n_b; b++)
            for (int u = a * b; u >= 0; u--) {
                const double without_a = f[(size_t)b * wide + (size_t)u], without_b = u >= a ? f[(size_t)(b - 1) * wide + (size_t)(u - a)] : 0;
                f[(size_t)b * wide + (size_t)u] = (a * without_a + b * without_b) / (a + b);
            }
    memmove(f, f + (size_t)n_b * wide, wide * sizeof *f);
    return f;
}

double rm_rank_sum_p(const double *a, int n_a, const double *b, int n_b)
{
    double u = 0, p = 0, *share = rank_sum_shares(n_a, n_b);
    if (!share) return NAN;
    for (int i = 0; i < n_a; i++)
        for (int j = 0; j < n_b; j++) u += b[j] > a[i] ? 1 : b[j] < a[i] ? 0 : 0.5;
    for (int k = (int)floor(u); k <= n_a * n_b; k++) p += share[k];
    free(share);
    return fmin(p, 1);
}

/* ---- a probability */
/* log P(X <= k) would lose the other tail: both are summed from their own end. */
static double binomial_at_most(uint64_t k, uint64_t n, double q)
{
    double sum = 0;
    for (uint64_t i = 0; i <= k; i++) sum += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) + (double)i * log(q) + (double)(n - i) * log1p(-q));
    return sum;
}

/* The q with P(X <= k) = tail; falls with q. */
static double solve(uint64_t k, uint64_t n, double tail)
{
    double low = 0, high = 1;
    for (int i = 0; i < 60; i++) {
        const double q = 0.5 * (low + high);
        if (binomial_at_most(k, n, q) > tail) low = q;
        else high = q;
    }
    return 0.5 * (low + high);
}

void rm_clopper_pearson(uint64_t k, uint64_t n, double level, double *low, double *high)
{
    const double tail = 0.5 * (1 - level);
    *low = !n || k == 0 ? 0 : 1 - solve(n - k, n, tail); /* P(X >= k | q) = P(n - X <= n - k | 1 - q) */
    *high = !n || k == n ? 1 : solve(k, n, tail);
}

/* ---- pieces */
/* Sorted values of a growing piece, their sum, and the sum of the smaller half: sum of |x - median| = upper half - lower half. Insertion moves
 * memory, which is less than the search of a tree for the hundreds of sessions that there are. */
typedef struct { double *v, sum, lower; int n; } piece;
static void insert(piece *p, double x)
{
    const int half = p->n / 2, then = (p->n + 1) / 2;
    int at = p->n++;
    while (at > 0 && p->v[at - 1] > x) at--;
    memmove(p->v + at + 1, p->v + at, (size_t)(p->n - 1 - at) * sizeof *p->v);
    p->v[at] = x;
    p->sum += x;
    if (at < then) p->lower += x - (then == half ? p->v[half] : 0); /* one more, and where the half stays as large one falls out */
    else if (then > half) p->lower += p->v[half];
}

static double cost_of(const piece *p) { return p->sum - 2 * p->lower - (p->n % 2 ? p->v[p->n / 2] : 0); }

/* Walks back from the end: from[j] is where the last piece of the best fit of x[0..j) begins. */
static int walk_back(const int *from, int n, int *begin)
{
    int pieces = 0;
    for (int j = n; j > 0; j = from[j]) pieces++;
    for (int j = n, at = pieces; j > 0; j = from[j]) begin[--at] = from[j];
    return pieces;
}

rm_status rm_pieces(const double *x, int n, int least, double penalty, int *begin, int *out_n)
{
    RM_ASSERT(least >= 1 && n >= least);
    double *best = malloc((size_t)(n + 1) * sizeof *best);
    int *from = calloc((size_t)n + 1, sizeof *from);
    piece p = { .v = malloc((size_t)n * sizeof *p.v) };
    rm_status st = best && from && p.v ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory looking for changes");
    for (int j = 0; st == RM_OK && j <= n; j++) best[j] = j ? INFINITY : 0;
    for (int end = least; st == RM_OK && end <= n; end++) {
        p = (piece){ .v = p.v };
        for (int i = end - 1; i >= 0; i--) { /* x[i..end) as the last piece */
            insert(&p, x[i]);
            if (p.n < least || isinf(best[i])) continue;
            const double c = best[i] + cost_of(&p) + penalty;
            if (c >= best[end]) continue;
            best[end] = c;
            from[end] = i;
        }
    }
    if (st == RM_OK) *out_n = walk_back(from, n, begin);
    free(best);
    free(from);
    free(p.v);
    return st;
}
