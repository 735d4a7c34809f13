#include "profiler/roofline.h"
#include <math.h>
#include <stdbool.h>

/* The smallest level that holds `bytes`, else the last one; -1 without levels. */
static int level_for(const rm_roof *r, uint64_t bytes)
{
    for (int i = 0; i < r->n_level; i++)
        if (bytes <= r->level[i].bytes) return i;
    return r->n_level - 1;
}

static bool positive(double v) { return isfinite(v) && v > 0; }

rm_roof_bound rm_roof_bound_of(const rm_roof *r, uint64_t flops, uint64_t bytes)
{
    rm_roof_bound b = { .bound_s = NAN, .intensity = bytes ? (double)flops / (double)bytes : flops ? (double)INFINITY : NAN, .limit = "" };
    const int at = bytes ? level_for(r, bytes) : -1;
    if (flops && positive(r->flops_per_s)) {
        b.bound_s = (double)flops / r->flops_per_s;
        b.limit = "compute";
    }
    if (at < 0 || !positive(r->level[at].bytes_per_s)) return b;
    const double moving_s = (double)bytes / r->level[at].bytes_per_s;
    if (moving_s <= b.bound_s) return b; /* false where there is no bound of computing */
    b.bound_s = moving_s;
    b.limit = r->level[at].name;
    return b;
}
