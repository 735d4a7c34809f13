/* Statistics of paired differences, for verdicts that are right about as often as they say: the signed-rank test with its exact
 * distribution (Wilcoxon 1945), the Hodges-Lehmann estimate with the interval that belongs to it (Hodges and Lehmann 1963), and, for many
 * rows at once, the maximum of their statistics under joint sign flips (Westfall and Young 1993).
 *
 * What they assume is that each difference is as likely to have either sign when nothing changed, which a random order of the two runs of a pair
 * brings about; no distribution is assumed. Pure functions; any thread. */
#ifndef RM_PAIRED_H
#define RM_PAIRED_H
#include "base/status.h"
#include <stdint.h>

enum { RM_PAIRED_MOST = 128 };                       /* pairs */

/* P(T+ <= k) for n differences without change: T+ is the sum of the ranks of the positive ones. Exact. n: 1..RM_PAIRED_MOST. */
double  rm_signed_rank_cdf(int n, int k);
/* The largest k with P(T+ <= k) <= alpha; -1: there is none, for even all signs alike are too likely. */
int     rm_signed_rank_k(int n, double alpha);

/* delta: median of the Walsh averages (d_i + d_j) / 2, i <= j. low, high: one-sided bounds, each wrong with probability at most alpha; NaN where n
 * is too small to have them. */
typedef struct rm_paired { double delta, low, high; int n; } rm_paired;
/* d: (n) finite. RM_E_NOMEM; RM_E_ARG: n out of range. */
rm_status rm_paired_of(const double *d, int n, double alpha, rm_paired *out) RM_CHECKED;

/* Which rows are slower, family-wise. d: (rows, n), row by row; statistic of a row: its signed-rank sum T+, standardised. The same signs are flipped in all
 * rows, `flips` times, so that rows that go together are counted once. p: (rows), adjusted: the share of flips (and the data) whose largest
 * statistic is at least the row's; the chance that any row without change has p <= alpha is at most alpha. Seeded: the same every time. */
rm_status rm_max_statistic(const double *d, int rows, int n, int flips, uint64_t seed, double *p) RM_CHECKED;

/* One-sided exact test of two independent samples (Mann and Whitney 1947): P(U >= seen) without change, where U counts the pairs with b > a; ties count
 * half, and make it conservative. n_a, n_b: 1..64. NaN when memory runs out. */
double  rm_rank_sum_p(const double *a, int n_a, const double *b, int n_b);

/* Clopper and Pearson's interval for a probability, of k among n, at `level` (0.95, two-sided). */
void    rm_clopper_pearson(uint64_t k, uint64_t n, double level, double *low, double *high);

/* The piecewise constant fit of x (n) with the least sum of |x - median of its piece| + penalty a piece, exact, pieces of at least `least`
 * values. begin: room for n / least + 1; *out_n pieces, the first at 0. Quadratic, and some: n up to some thousands. */
rm_status rm_pieces(const double *x, int n, int least, double penalty, int *begin, int *out_n) RM_CHECKED;
#endif
