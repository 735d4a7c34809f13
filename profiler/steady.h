/* The warm-up rule: where a series of step times becomes steady. Pure; any thread. */
#ifndef RM_STEADY_H
#define RM_STEADY_H
#include <stdbool.h>
#include <stddef.h>

enum { RM_STEADY_FIRST = 10, RM_STEADY_CAP = 50, RM_STEADY_WINDOW = 5 };
/* median: of the steps that count. dropped: before them. settled false: the rule never held, and RM_STEADY_CAP values were dropped, or of a
 * shorter series so many that RM_STEADY_FIRST remain, RM_STEADY_FIRST at least (half of up to RM_STEADY_FIRST + RM_STEADY_WINDOW values); or the series is too
 * short for the rule (up to RM_STEADY_FIRST values), and all of it counts. */
typedef struct rm_steady { double median; size_t dropped, n; bool settled; } rm_steady;
/* Steps are dropped until at least RM_STEADY_FIRST are gone and the medians of the last five of them and of the five before differ by less than
 * 1 %. n >= 1, values not below 0. */
rm_steady rm_steady_of(const double *x, size_t n);
#endif
