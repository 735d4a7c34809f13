/* Weights of Pillow's bilinear (antialiased triangle) resize along one axis, and the loops that apply them.
 *
 * Pillow works in integers: weights of 22 fractional bits, an 8-bit image between the horizontal and the vertical pass.
 * Everything here reproduces that arithmetic, so every variant of the loops gives the same bytes. */
#ifndef RM_INPUT_AXIS_H
#define RM_INPUT_AXIS_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Outputs [first, first + n) of resizing `in` samples to `out`; flipped: in falling order. */
typedef struct rm_axis_key { int32_t in, out, first, n; bool flip; } rm_axis_key;

enum { RM_WEIGHT_BITS = 22 };
typedef struct rm_axis {
    rm_axis_key key;
    int32_t  lo, hi;     /* inputs that matter: [lo, hi) */
    int32_t  taps;       /* most weights any output has */
    int32_t  stride;     /* weights stored for an output: taps rounded up to 4, zeros behind the used ones */
    int32_t *start;      /* (n rounded up to 4) first input, counted from lo */
    int32_t *count;      /* (n rounded up to 4) */
    int32_t *weight;     /* (n rounded up to 4, stride) */
    int32_t *wide;       /* (n rounded up to 4, stride, 4): each weight once a channel; horizontal axes only, else NULL */
    double  *scratch;
    size_t   cap_n, cap_weight, cap_wide, cap_scratch;
} rm_axis;

/* Fills *axis, reusing its memory. After a failure it holds no table (key.n == 0) but may be built again. */
rm_status rm_axis_build(rm_axis *axis, const rm_axis_key *key, bool horizontal) RM_CHECKED;
void      rm_axis_free(rm_axis *axis);

/* One instruction set. Buffers: `src` is readable for (hi - lo + stride) pixels, `dst` of horizontal() is writable for
 * 3 * n + 64 bytes; vertical() writes exactly `bytes`. */
typedef struct rm_resize {
    const char *name;
    bool (*usable)(void);
    /* (hi - lo) RGBX pixels -> n RGB pixels */
    void (*horizontal)(const rm_axis *axis, const uint8_t *src, uint8_t *dst);
    /* `taps` rows of `bytes` -> one row */
    void (*vertical)(const uint8_t *const *row, const int32_t *weight, int32_t taps, size_t bytes, uint8_t *dst);
} rm_resize;
extern const rm_resize rm_resize_avx512, rm_resize_avx2, rm_resize_c;
const rm_resize *rm_resize_current(void);
#endif
