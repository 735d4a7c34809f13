#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A sorted copy, NULL when n is 0, when a sample is NaN (it has no rank) or when memory is short. */
static double *sorted_copy(const double *x, size_t n)
{
    if (!n || n > SIZE_MAX / sizeof *x) return NULL;
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i])) return NULL;
    double *s = malloc(n * sizeof *s);
    if (!s) return NULL;
    memcpy(s, x, n * sizeof *s);
    qsort(s, n, sizeof *s, by_value);
    return s;
}

static double sorted_quantile(const double *s, size_t n, double q)
{
    double h = (double)(n - 1) * fmin(fmax(q, 0), 1);
    size_t i = (size_t)h;
    if (i + 1 >= n) return s[n - 1];
    double t = h - (double)i;
    return t == 0 ? s[i] : s[i] + t * (s[i + 1] - s[i]); /* t == 0: exact, and safe beside an infinity */
}

double rm_quantile(const double *x, size_t n, double q)
{
    double *s = sorted_copy(x, n);
    if (!s || isnan(q)) {
        free(s);
        return NAN;
    }
    double v = sorted_quantile(s, n, q);
    free(s);
    return v;
}

double rm_median(const double *x, size_t n) { return rm_quantile(x, n, 0.5); }

double rm_mad(const double *x, size_t n)
{
    double *s = sorted_copy(x, n);
    if (!s) return NAN;
    double m = sorted_quantile(s, n, 0.5);
    for (size_t i = 0; i < n; i++) s[i] = fabs(s[i] - m);
    qsort(s, n, sizeof *s, by_value);
    double v = sorted_quantile(s, n, 0.5);
    free(s);
    return v;
}

double rm_mean(const double *x, size_t n)
{
    double sum = 0, lost = 0; /* Neumaier: a million steps of near-equal size lose nothing */
    for (size_t i = 0; i < n; i++) {
        double t = sum + x[i];
        lost += fabs(sum) >= fabs(x[i]) ? (sum - t) + x[i] : (x[i] - t) + sum;
        sum = t;
    }
    return n ? (isfinite(lost) ? sum + lost : sum) / (double)n : NAN;
}

/* The largest k >= 1 with 2 P(Binomial(n, 1/2) <= k - 1) <= 5 %: [x_(k), x_(n+1-k)] covers the median with >= 95 %. */
static size_t median_rank(size_t n)
{
    double log_p = -(double)n * log(2), tail = 0;
    size_t k = 0;
    for (;; k++) {
        tail += exp(log_p);
        if (2 * tail > 0.05 || k >= n / 2) break;
        log_p += log((double)(n - k) / (double)(k + 1));
    }
    return k ? k : 1;
}

void rm_median_ci95(const double *x, size_t n, double *low, double *high)
{
    double *s = sorted_copy(x, n);
    *low = *high = NAN;
    if (!s) return;
    size_t k = n < 6 ? 1 : median_rank(n);
    *low = s[k - 1];
    *high = s[n - k];
    free(s);
}
