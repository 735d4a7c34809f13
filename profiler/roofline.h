/* Roofline: the least time in which a machine that computes and moves data at its measured peaks could do an op (Williams, Waterman and
 * Patterson 2009, doi 10.1145/1498765.1498785), with one roof of bandwidth a level of the memory hierarchy. Pure functions; any thread. */
#ifndef RM_ROOFLINE_H
#define RM_ROOFLINE_H
#include <stddef.h>
#include <stdint.h>

enum { RM_ROOF_LEVELS = 4 };
/* A level serves ops whose operands fit in it: `bytes` is its size (UINT64_MAX: memory). Ascending. */
typedef struct rm_roof_level { char name[16]; uint64_t bytes; double bytes_per_s; } rm_roof_level;
typedef struct rm_roof { double flops_per_s; rm_roof_level level[RM_ROOF_LEVELS]; int n_level; } rm_roof; /* flops_per_s NaN: not known */

/* bound_s = max(flops / flops_per_s, bytes / bytes_per_s of the smallest level that holds the bytes, else of the last level). A roof that is
 * not known bounds nothing. bound_s NaN, limit "": no roof is known, or no work is counted. limit: "compute", or the level's name, which
 * lives in *r. intensity: FLOP a byte; INFINITY without bytes, NaN without work. A bound is no promise: it takes the operands to be in the
 * nearest level that could hold them, and every counted operation to be done. */
typedef struct rm_roof_bound { double bound_s, intensity; const char *limit; } rm_roof_bound;
rm_roof_bound rm_roof_bound_of(const rm_roof *r, uint64_t flops, uint64_t bytes);
#endif
