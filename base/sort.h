/* Sorting without allocating: qsort() takes memory for large arrays, and would do so in the middle of a step. */
#ifndef RM_SORT_H
#define RM_SORT_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { RM_SORT_BYTES_MAX = 64 };
typedef bool rm_sort_before(const void *a, const void *b); /* does a have to come before b? */

/* Sorts `n` elements of `each` bytes (RM_SORT_BYTES_MAX at most) in place. Quick where few are out of place. Not stable: where the order of
 * equals matters, `before` decides it. In the header, so that the compiler makes `before` part of the loop: traces have millions of spans.
 * Source: D. Shell, A High-Speed Sorting Procedure (1959); gaps 4^k + 3 * 2^(k-1) + 1 of R. Sedgewick, A New Upper Bound for Shellsort
 * (1986), whose bound is O(n^(4/3)). */
static inline void rm_sort(void *array, size_t n, size_t each, rm_sort_before *before)
{
    static const size_t gaps[] = { 1073790977, 268460033, 67121153, 16783361, 4197377, 1050113, 262913, 65921, 16577, 4193, 1073, 281, 77, 23, 8, 1 };
    _Alignas(max_align_t) char v[RM_SORT_BYTES_MAX];
    char *at = array;
    RM_ASSERT(each <= sizeof v);
    for (size_t g = 0; g < RM_COUNT(gaps); g++)
        for (size_t i = gaps[g]; i < n; i++) {
            size_t j = i;
            memcpy(v, at + i * each, each);
            for (; j >= gaps[g] && before(v, at + (j - gaps[g]) * each); j -= gaps[g]) memcpy(at + j * each, at + (j - gaps[g]) * each, each);
            memcpy(at + j * each, v, each);
        }
}
#endif
