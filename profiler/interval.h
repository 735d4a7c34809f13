/* Sets of time intervals in integer nanoseconds, half open: [begin, end). A set is normal when its intervals are in order, disjoint,
 * not touching and not empty; every function but rm_intervals_add() needs normal sets and leaves normal ones.
 * Threads: one at a time per set. Memory is kept from use to use: a set that was as large before does not allocate. */
#ifndef RM_INTERVAL_H
#define RM_INTERVAL_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct rm_interval { uint64_t begin, end; } rm_interval;
/* All zero is the empty set. `unsorted`: an addition came out of order of begins. */
typedef struct rm_intervals { rm_interval *at; size_t n, room; bool unsorted; } rm_intervals;

void      rm_intervals_free(rm_intervals *s);
void      rm_intervals_clear(rm_intervals *s);                                     /* keeps its memory */
/* Appends; empty ones (end <= begin) are left out. RM_E_NOMEM. */
rm_status rm_intervals_add(rm_intervals *s, uint64_t begin, uint64_t end) RM_CHECKED;
void      rm_intervals_normalise(rm_intervals *s);                                 /* in place; O(n) when already in order */
uint64_t  rm_intervals_measure(const rm_intervals *s);                             /* |s| */
uint64_t  rm_intervals_measure_both(const rm_intervals *a, const rm_intervals *b); /* |a and b| without making the set */
/* out (another set than a and b) is replaced. */
rm_status rm_intervals_union(const rm_intervals *a, const rm_intervals *b, rm_intervals *out) RM_CHECKED;
rm_status rm_intervals_both(const rm_intervals *a, const rm_intervals *b, rm_intervals *out) RM_CHECKED;    /* a and b */
rm_status rm_intervals_without(const rm_intervals *a, const rm_intervals *b, rm_intervals *out) RM_CHECKED; /* a and not b */
void      rm_intervals_clip(rm_intervals *s, rm_interval window);                  /* what lies in the window */
#endif
