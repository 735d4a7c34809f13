/* Statistics of samples. All functions are pure; n == 0 gives NaN. */
#ifndef RM_STATS_H
#define RM_STATS_H
#include <stddef.h>
#include <stdint.h>
double rm_median(const double *x, size_t n);
double rm_mad(const double *x, size_t n);                    /* median absolute deviation, unscaled */
double rm_quantile(const double *x, size_t n, double q);     /* linear interpolation (Hyndman-Fan type 7) */
double rm_mean(const double *x, size_t n);
/* Distribution-free 95 % interval of the median by order statistics (binomial); n < 6 gives min and max. */
void   rm_median_ci95(const double *x, size_t n, double *low, double *high);
#endif
