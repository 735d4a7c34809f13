#include "bench/verified.h"
#include "base/clock.h"
#include "base/log.h"
#include "kernels/plans.h"
#include "model/parity.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <string.h>

typedef struct record { char identity[512], path[1024]; } record;

static record record_of(const rm_device_info *i, rm_dtype dtype)
{
    record r;
    snprintf(r.identity, sizeof r.identity, "parity 2 | %s | %s | %s | %s | %s | %s", i->device, i->name, i->library, i->isa, rm_version(), rm_dtype_name(dtype));
    rm_plans_file(r.identity, "parity.json", r.path, sizeof r.path);
    return r;
}

static bool passed(const json_t *kept) { return json_is_true(json_object_get(kept, "passed")); }
static bool is_double(const rm_device_info *info) { return !strcmp(rm_device_origin(info->device), "emulated"); } /* has tests of its own, and stays one */

/* fp32 is compared most sharply, so that it finds what a coarser type hides. */
enum { MOST_TYPES = 2 };
static int types_of(rm_dtype dtype, rm_dtype out[MOST_TYPES])
{
    out[0] = RM_F32;
    out[1] = dtype;
    return dtype == RM_F32 ? 1 : 2;
}

static json_t *load(const record *r)
{
    json_t *j = r->path[0] ? json_load_file(r->path, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *whose = json_string_value(json_object_get(j, "for"));
    if (whose && !strcmp(whose, r->identity)) return j;
    json_decref(j);
    return NULL;
}

void bench_verified_known(rm_device_info *info, rm_dtype dtype)
{
    rm_dtype type[MOST_TYPES];
    const int n = types_of(dtype, type);
    int good = 0;
    if (!info->caveat[0] || is_double(info)) return;
    for (int i = 0; i < n; i++) {
        const record r = record_of(info, type[i]);
        json_t *kept = load(&r);
        if (kept && !passed(kept)) snprintf(info->caveat, sizeof info->caveat, "FAILED its parity check with ref in %s", rm_dtype_name(type[i]));
        good += passed(kept);
        json_decref(kept);
    }
    if (good == n) info->caveat[0] = 0;
}

static bool write_json(FILE *f, const void *j) { return json_dumpf(j, f, JSON_INDENT(1)) == 0 && fputc('\n', f) != EOF; }

static rm_status check(rm_device *d, rm_dtype dtype, const record *r, json_t **out)
{
    rm_parity p;
    const uint64_t from = rm_now_ns();
    rm_info("first use of this GPU with this build: comparing one training step in %s with ref", rm_dtype_name(dtype));
    RM_TRY(rm_parity_check(d, dtype, &p));
    rm_info("parity with ref: %s: loss off by %.2g (at most %.2g), gradients by %.2g in %s (at most %.2g); %.1f s", p.passed ? "passed" : "FAILED", p.loss_error,
            p.loss_limit, p.gradient_error, p.worst, p.gradient_limit, rm_s(rm_now_ns() - from));
    json_t *j = json_pack("{s:s, s:b, s:s, s:f, s:f, s:f, s:f, s:s}", "for", r->identity, "passed", p.passed, "dtype", rm_dtype_name(p.dtype), "loss_error",
                          p.loss_error < 1e300 ? p.loss_error : 1e300, "loss_limit", p.loss_limit, "gradient_error", p.gradient_error < 1e300 ? p.gradient_error : 1e300,
                          "gradient_limit", p.gradient_limit, "worst_layer", p.worst);
    if (!j) return rm_fail(RM_E_NOMEM, "out of memory keeping the parity check");
    rm_plans_replace(r->path, write_json, j);
    *out = j;
    return RM_OK;
}

static rm_status verify_in(rm_device *d, rm_dtype dtype, const rm_device_info *info)
{
    const record r = record_of(info, dtype);
    if (!r.path[0]) return RM_OK; /* nowhere to keep it: then it would be done every time */
    json_t *kept = load(&r);
    rm_status st = kept ? RM_OK : check(d, dtype, &r, &kept);
    if (st == RM_OK && !passed(kept))
        st = rm_fail(RM_E_NUMERIC, "this GPU does not compute what ref computes: in %s, gradients are off by %.2g in %s (at most %.2g allowed); see %s, and remove it to try again",
                     rm_dtype_name(dtype), json_number_value(json_object_get(kept, "gradient_error")), json_string_value(json_object_get(kept, "worst_layer")),
                     json_number_value(json_object_get(kept, "gradient_limit")), r.path);
    json_decref(kept);
    return st;
}

rm_status bench_verify(rm_device *d, rm_dtype dtype, rm_device_info *info)
{
    rm_dtype type[MOST_TYPES];
    const int n = types_of(dtype, type);
    if (!info->caveat[0] || is_double(info)) return RM_OK;
    for (int i = 0; i < n; i++) RM_TRY(verify_in(d, type[i], info));
    bench_verified_known(info, dtype);
    return RM_OK;
}
