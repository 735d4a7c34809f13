/* Perturbation: what watching costs. Steps with and without tracing, side by side in one run. */
#ifndef RM_PERTURB_H
#define RM_PERTURB_H
#include <stdbool.h>
#include <stddef.h>

/* Beyond this the traced figures are marked perturbed. */
#define RM_PERTURBED_SHARE 0.02
/* ratio: traced over untraced step time, with its 95 % interval (of fewer than six pairs: their range); NaN where there is nothing to compare.
 * perturbed: the ratio is beyond that share. undecided: the interval is neither within it nor beyond it, so that more steps are needed to tell. */
typedef struct rm_perturbation { double ratio, low, high; size_t n; bool perturbed, undecided; } rm_perturbation;
/* For people: "within 2 %", "perturbed", "undecided: too noisy or too few steps to tell whether it is within 2 %". */
const char *rm_perturbation_word(bool perturbed, bool undecided);
/* Pairs of steps taken one after the other in random order: median of the ratios, interval by order statistics. */
rm_perturbation rm_perturbation_paired(const double *traced, const double *plain, size_t n);
/* Steps of the same run that were not paired: ratio of medians, interval by the bootstrap (seeded: the same every time). */
rm_perturbation rm_perturbation_unpaired(const double *traced, size_t n_traced, const double *plain, size_t n_plain);
#endif
