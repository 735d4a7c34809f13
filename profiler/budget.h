/* Where a step's nanoseconds went, and how much communication computing hid: the definitions of docs/scaling.md in one place.
 *
 * Every nanosecond of the window W goes to exactly one term, by precedence: compute C, then communication that is not under
 * compute (M without C), then copies (D without C and M), then waiting for input, then the host's own work (launching), and what is
 * left is idle. The terms add up to |W| by construction. Pure functions of the sets; any thread. */
#ifndef RM_BUDGET_H
#define RM_BUDGET_H
#include "profiler/interval.h"

/* The classes of one rank's step. Made normal and clipped to the window by rm_budget_of(). */
typedef struct rm_classes { rm_intervals compute, comm, copy, input, host, taken[2]; } rm_classes; /* taken: scratch */
void      rm_classes_free(rm_classes *c);
void      rm_classes_clear(rm_classes *c);

typedef struct rm_budget {
    uint64_t window_ns;                                                        /* the sum of the next six */
    uint64_t compute_ns, exposed_comm_ns, exposed_copy_ns, input_ns, host_ns, idle_ns;
    uint64_t comm_ns, overlap_ns;                                              /* |M| and |C and M| */
} rm_budget;
rm_status rm_budget_of(rm_classes *c, rm_interval window, rm_budget *out) RM_CHECKED;
void      rm_budget_add(rm_budget *sum, const rm_budget *b);                   /* term by term */
double    rm_overlap_geom(const rm_budget *b);                                 /* |C and M| / |M|; NaN without communication */
#endif
