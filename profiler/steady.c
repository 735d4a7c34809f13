#include "profiler/steady.h"
#include "profiler/stats.h"
#include <math.h>

static bool is_steady(const double *x, size_t dropped)
{
    const double last = rm_median(x + dropped - RM_STEADY_WINDOW, RM_STEADY_WINDOW);
    const double previous = rm_median(x + dropped - 2 * RM_STEADY_WINDOW, RM_STEADY_WINDOW);
    return last == previous || fabs(last / previous - 1) < 0.01; /* 0 after 0, too */
}

/* Of a series that never settles: the cap, as far as ten values remain, and ten at least. Of one that has not ten and five, half. */
static size_t dropped_unsettled(size_t n)
{
    if (n <= RM_STEADY_FIRST + RM_STEADY_WINDOW) return n / 2;
    if (n < 2 * RM_STEADY_FIRST) return RM_STEADY_FIRST;
    return n - RM_STEADY_FIRST < RM_STEADY_CAP ? n - RM_STEADY_FIRST : RM_STEADY_CAP;
}

rm_steady rm_steady_of(const double *x, size_t n)
{
    size_t dropped = 0;
    bool settled = false;
    const size_t most = n > RM_STEADY_CAP ? RM_STEADY_CAP : n - 1;
    for (size_t w = RM_STEADY_FIRST; w <= most && !settled; w++) {
        settled = is_steady(x, w);
        dropped = w;
    }
    if (!settled && dropped) dropped = dropped_unsettled(n);
    return (rm_steady) { .median = rm_median(x + dropped, n - dropped), .dropped = dropped, .n = n - dropped, .settled = settled };
}
