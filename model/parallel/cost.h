/* Cost: how long an all-reduce of so many bytes takes, T(S, n), for one number of ranks: piecewise linear through measured points.
 * One line over all sizes would be wrong by factors: MPI libraries change their algorithm and protocol with the size.
 *
 * Between points linear, above the largest with the slope of the last piece, below the smallest constant: that is the latency.
 * Pure functions; any thread. The caller frees with rm_cost_free(); all zero is a cost of nothing, 0 at any size. */
#ifndef RM_COST_H
#define RM_COST_H
#include "base/status.h"
#include <jansson.h>
#include <stdint.h>

typedef struct rm_cost_point { uint64_t bytes; double ns, weight; } rm_cost_point; /* weight > 0: samples behind it, say */
typedef struct rm_cost { rm_cost_point *at; uint32_t n; } rm_cost;                 /* bytes and ns both ascend */

/* Points in any order; several of one size are averaged. More bytes never cost less: neighbours that say otherwise (noise) become
 * one point at their weighted mean (isotonic regression by pooling), so that ns ascends strictly. RM_E_ARG: no point, or one whose
 * ns is negative or not finite, or whose weight is not above 0. */
rm_status rm_cost_fit(const rm_cost_point *p, uint32_t n, rm_cost *out) RM_CHECKED;
void      rm_cost_free(rm_cost *c);
double    rm_cost_at(const rm_cost *c, uint64_t bytes);    /* ns */
double    rm_cost_alpha_ns(const rm_cost *c);              /* at the smallest size: latency */
double    rm_cost_ns_per_byte(const rm_cost *c);           /* of the last piece: 1 / bandwidth; 0 for a single point */
/* Largest share by which the fit without a point is wrong about that point, both ends included. NaN below 3 sizes. */
double    rm_cost_leave_one_out(const rm_cost_point *p, uint32_t n);

/* [[bytes, ns], ...]. New reference; NULL when memory ran out. */
json_t   *rm_cost_json(const rm_cost *c);
/* The same back, as it is: bytes must ascend, ns may not be negative. RM_E_FORMAT naming the point. */
rm_status rm_cost_from_json(const json_t *j, rm_cost *out) RM_CHECKED;
#endif
