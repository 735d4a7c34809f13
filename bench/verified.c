#include "bench/verified.h"
#include "base/clock.h"
#include "base/log.h"
#include "kernels/plans.h"
#include "model/parity.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <string.h>

typedef struct record { char identity[512], path[1024]; } record;

static record record_of(const rm_device_info *i)
{
    record r;
    snprintf(r.identity, sizeof r.identity, "parity 1 | %s | %s | %s | %s | %s", i->device, i->name, i->library, i->isa, rm_version());
    rm_plans_file(r.identity, "parity.json", r.path, sizeof r.path);
    return r;
}

static void take(const json_t *kept, rm_device_info *info)
{
    if (!strcmp(rm_device_origin(info->device), "emulated")) return; /* a test double stays one */
    if (json_is_true(json_object_get(kept, "passed"))) info->caveat[0] = 0;
    else if (kept) snprintf(info->caveat, sizeof info->caveat, "FAILED its parity check with ref");
}

static json_t *load(const record *r)
{
    json_t *j = r->path[0] ? json_load_file(r->path, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *whose = json_string_value(json_object_get(j, "for"));
    if (whose && !strcmp(whose, r->identity)) return j;
    json_decref(j);
    return NULL;
}

void bench_verified_known(rm_device_info *info)
{
    if (!info->caveat[0]) return;
    const record r = record_of(info);
    json_t *kept = load(&r);
    take(kept, info);
    json_decref(kept);
}

static bool write_json(FILE *f, const void *j) { return json_dumpf(j, f, JSON_INDENT(1)) == 0 && fputc('\n', f) != EOF; }

static rm_status check(rm_device *d, const record *r, json_t **out)
{
    rm_parity p;
    const uint64_t from = rm_now_ns();
    rm_info("first use of this GPU with this build: comparing one training step with ref");
    RM_TRY(rm_parity_check(d, RM_F32, &p));
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

rm_status bench_verify(rm_device *d, rm_device_info *info)
{
    const record r = record_of(info);
    const bool doubles = !strcmp(rm_device_origin(info->device), "emulated"); /* have tests of their own, and stay doubles */
    if (!info->caveat[0] || !r.path[0] || doubles) return RM_OK; /* nowhere to keep it: then it would be done every time */
    json_t *kept = load(&r);
    rm_status st = kept ? RM_OK : check(d, &r, &kept);
    if (st == RM_OK) take(kept, info);
    if (st == RM_OK && !json_is_true(json_object_get(kept, "passed")))
        st = rm_fail(RM_E_NUMERIC, "this GPU does not compute what ref computes: gradients are off by %.2g in %s (at most %.2g allowed); see %s, and remove it to try again",
                     json_number_value(json_object_get(kept, "gradient_error")), json_string_value(json_object_get(kept, "worst_layer")),
                     json_number_value(json_object_get(kept, "gradient_limit")), r.path);
    json_decref(kept);
    return st;
}
