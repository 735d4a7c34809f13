#include "kernels/peaks.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

rm_status rm_device_peaks(rm_device *d, rm_peaks *out)
{
    if (!d->ops->peaks) return rm_fail(RM_E_UNSUPPORTED, "device %s has no peaks to measure", d->ops->name);
    return d->ops->peaks(d, out);
}

double rm_peak_of(const rm_peaks *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->at[i].name, name)) return p->at[i].value;
    return NAN;
}

const char *rm_peak_type(rm_dtype dtype)
{
    static const char *const name[RM_DTYPE_COUNT] = { [RM_F32] = "fp32", [RM_F16] = "fp16", [RM_F64] = "fp64" };
    return name[dtype] ? name[dtype] : rm_dtype_name(dtype);
}

/* The highest of a type's FLOP/s; NaN when it has none: fmax() takes the number where one of the two is NaN. */
static double fastest(const rm_peaks *p, rm_dtype dtype)
{
    static const char *const kind[] = { "fma", "dot", "gemm" };
    double best = NAN;
    for (size_t i = 0; i < RM_COUNT(kind); i++) {
        char name[32];
        snprintf(name, sizeof name, "%s %s", kind[i], rm_peak_type(dtype));
        best = fmax(best, rm_peak_of(p, name));
    }
    return best;
}

rm_roof rm_peaks_roof(const rm_peaks *p, rm_dtype dtype)
{
    rm_roof r = { .flops_per_s = fastest(p, dtype), .n_level = p->n_level };
    if (rm_dtype_bytes(dtype) < rm_dtype_bytes(RM_F32)) r.flops_per_s = fmax(r.flops_per_s, fastest(p, RM_F32));
    memcpy(r.level, p->level, sizeof r.level);
    return r;
}

void rm_peaks_add(rm_peaks *p, const char *name, const char *unit, double value, const char *how, const char *why)
{
    RM_ASSERT(p->n < RM_MOST_PEAKS);
    rm_peak *k = &p->at[p->n++];
    *k = (rm_peak) { .value = isfinite(value) ? value : NAN };
    snprintf(k->name, sizeof k->name, "%s", name);
    snprintf(k->unit, sizeof k->unit, "%s", unit);
    snprintf(k->how, sizeof k->how, "%s", how);
    if (!isfinite(value)) snprintf(k->why, sizeof k->why, "%s", why ? why : "not measured");
}
