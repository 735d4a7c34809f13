#include "bench/trace_row.h"
#include "base/log.h"
#include <math.h>

void bench_set_perturbation(json_t *trace, const rm_perturbation *cost, const char *none)
{
    bench_set_number(trace, "ratio", cost->n ? cost->ratio : NAN, none);
    bench_set_number(trace, "low", cost->n ? cost->low : NAN, none);
    bench_set_number(trace, "high", cost->n ? cost->high : NAN, none);
    json_object_set_new(trace, "undecided", json_boolean(cost->undecided));
    if (cost->n) json_object_set_new(trace, "perturbed", json_boolean(cost->perturbed));
    else bench_set_null(trace, "perturbed", none);
}

void bench_set_kernel_times(json_t *trace, const rm_kernel_times *k)
{
    const struct { const char *key; uint64_t n; } rows[] = {
        { "steps", k->steps }, { "kernels", k->kernels }, { "unattributed", k->unattributed }, { "by_order", k->by_order },
        { "left_out", k->left_out }, { "dropped", k->dropped }, { "untimed", k->untimed }, { "cut", k->cut },
    };
    json_object_set_new(trace, "kernel_times", json_string(k->cupti ? "cupti" : "events"));
    if (!k->cupti) {
        json_object_set_new(trace, "kernel_times_reason", json_string(k->why[0] ? k->why : "no step was traced"));
        return;
    }
    json_t *saw = json_object();
    for (size_t i = 0; i < RM_COUNT(rows); i++) json_object_set_new(saw, rows[i].key, json_integer((json_int_t)rows[i].n));
    bench_set_number(saw, "overhead_share", k->step_ns ? (double)k->overhead_ns / (double)k->step_ns : NAN, "no step is in the trace");
    json_object_set_new(trace, "cupti", saw);
}

rm_status bench_trace_end(rm_comm *comm, rm_engine *e, rm_step_trace *t, const rm_perturbation *cost, char *files, size_t size, bool *out_cut)
{
    int32_t failed = rm_step_trace_end(t, e, cost) != RM_OK;
    if (failed) rm_warn("%s", rm_last_error());
    RM_TRY(rm_comm_host_reduce(comm, &failed, 1, RM_I32, RM_MAX));
    rm_step_trace_name(t, -1, rm_comm_size(comm), files, size);
    *out_cut = failed;
    return RM_OK;
}
