#include "profiler/perturb.h"
#include "base/rng.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>

static rm_perturbation judged(double ratio, double low, double high, size_t n)
{
    const double most = 1 + RM_PERTURBED_SHARE, least = 1 - RM_PERTURBED_SHARE;
    const bool within = low >= least && high <= most, beyond = low > most || high < least;
    return (rm_perturbation){ ratio, low, high, n, fabs(ratio - 1) > RM_PERTURBED_SHARE, n && !within && !beyond };
}

const char *rm_perturbation_word(bool perturbed, bool undecided)
{
    return undecided ? "undecided: too noisy or too few steps to tell whether that is within 2 %" : perturbed ? "perturbed" : "within 2 %";
}

rm_perturbation rm_perturbation_paired(const double *traced, const double *plain, size_t n)
{
    double low = NAN, high = NAN, *ratio = n ? malloc(n * sizeof *ratio) : NULL;
    if (!ratio) return judged(NAN, NAN, NAN, 0);
    for (size_t i = 0; i < n; i++) ratio[i] = traced[i] / plain[i];
    const double median = rm_median(ratio, n);
    rm_median_ci95(ratio, n, &low, &high);
    free(ratio);
    return judged(median, low, high, n);
}

static double median_of_draw(rm_rng *r, const double *x, size_t n, double *room)
{
    for (size_t i = 0; i < n; i++) room[i] = x[rm_rng_below(r, (uint32_t)n)];
    return rm_median(room, n);
}

rm_perturbation rm_perturbation_unpaired(const double *traced, size_t n_traced, const double *plain, size_t n_plain)
{
    enum { DRAWS = 1000 };
    double ratio[DRAWS], *room = n_traced && n_plain ? malloc((n_traced > n_plain ? n_traced : n_plain) * sizeof *room) : NULL;
    if (!room) return judged(NAN, NAN, NAN, 0);
    rm_rng r = rm_rng_for(1, 2, 3);
    for (int i = 0; i < DRAWS; i++) {
        const double a = median_of_draw(&r, traced, n_traced, room);
        ratio[i] = a / median_of_draw(&r, plain, n_plain, room);
    }
    free(room);
    return judged(rm_median(traced, n_traced) / rm_median(plain, n_plain), rm_quantile(ratio, DRAWS, 0.025), rm_quantile(ratio, DRAWS, 0.975), n_traced);
}
