/* What the GPU can do at most, by this device's own ops: a product of large matrices in each type (a 1x1 convolution of cuDNN's), and the
 * addition of tensors that no cache holds. */
#include "kernels/cuda/cuda_device.h"
#include "kernels/check.h"
#include "kernels/peaks.h"
#include <math.h>
#include <stdio.h>

enum { REPEATS = 20, SIDE = 4096, SIDE_ON_DOUBLES = 64 };

static double best_s(const rm_time_result *r)
{
    double best = INFINITY;
    for (uint32_t i = 0; i < r->n; i++) best = fmin(best, r->sample_s[i]);
    return best;
}

static rm_status add_product(rm_device *d, rm_dtype type, rm_peaks *out)
{
    const int32_t side = rm_cuda_doubles ? SIDE_ON_DOUBLES : SIDE;
    char name[32], how[128], why[96] = "";
    rm_time_result r;
    const rm_op op = { .code = RM_OP_CONV, .x = { { side / 64, side, 8, 8 }, type, RM_LAYOUT_NHWC }, .w = { { side, side, 1, 1 }, type, RM_LAYOUT_ANY }, .u.win = { 1, 1, 0 } };
    const rm_status st = rm_time_op(d, &op, REPEATS, &r);
    if (st != RM_OK && st != RM_E_UNSUPPORTED) return st;
    if (st != RM_OK) snprintf(why, sizeof why, "%.90s", rm_last_error());
    snprintf(name, sizeof name, "gemm %s", rm_peak_type(type));
    snprintf(how, sizeof how, "%s, %d x %d x %d, best of %d", st == RM_OK ? r.impl : "cuDNN", side, side, side, REPEATS);
    rm_peaks_add(out, name, "FLOP/s", st == RM_OK ? 2.0 * side * side * side / best_s(&r) : NAN, how, why);
    return RM_OK;
}

static rm_status add_memory(rm_device *d, rm_peaks *out)
{
    char how[128];
    rm_time_result r;
    const int32_t mib = rm_cuda_doubles ? 1 : 256;
    const rm_shape s = { 1, mib << 10, 16, 16 };
    const rm_tdesc t = { s, RM_F32, RM_LAYOUT_NHWC };
    const rm_op op = { .code = RM_OP_ADD, .x = t, .y = t };
    RM_TRY(rm_time_op(d, &op, REPEATS, &r));
    const double rate = 3.0 * (double)((uint64_t)mib << 20) / best_s(&r);
    snprintf(how, sizeof how, "c = a + b, 3 x %d MiB, best of %d", mib, REPEATS);
    rm_peaks_add(out, "triad memory", "B/s", rate, how, NULL);
    out->level[out->n_level++] = (rm_roof_level){ .name = "memory", .bytes = UINT64_MAX, .bytes_per_s = rate };
    return RM_OK;
}

rm_status cuda_peaks(rm_device *d, rm_peaks *out)
{
    static const rm_dtype type[] = { RM_F32, RM_TF32, RM_BF16, RM_F16 };
    *out = (rm_peaks){ 0 };
    for (size_t i = 0; i < RM_COUNT(type); i++) RM_TRY(add_product(d, type[i], out));
    return add_memory(d, out);
}
