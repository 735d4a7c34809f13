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

rm_status bench_trace_end(rm_comm *comm, rm_engine *e, rm_step_trace *t, const rm_perturbation *cost, char *files, size_t size, bool *out_cut)
{
    int32_t failed = rm_step_trace_end(t, e, cost) != RM_OK;
    if (failed) rm_warn("%s", rm_last_error());
    RM_TRY(rm_comm_host_reduce(comm, &failed, 1, RM_I32, RM_MAX));
    rm_step_trace_name(t, -1, rm_comm_size(comm), files, size);
    *out_cut = failed;
    return RM_OK;
}
