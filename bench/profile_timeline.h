/* The timeline of one step of every rank, for the report: what the trace holds of it, lane by lane. */
#ifndef RM_BENCH_PROFILE_TIMELINE_H
#define RM_BENCH_PROFILE_TIMELINE_H
#include "kernels/comm/comm.h"
#include "profiler/trace.h"
#include <jansson.h>

/* Collective. *out on rank 0: {"step_s", "ranks": [{"rank", "lanes": [{"name", "kind", "spans": [[begin_ns, dur_ns, text, class]]}]}]} of what
 * lies within begin_ns .. end_ns on each rank, cut at its edges and counted from begin_ns; class: fwd, bwd, weights, update, comm, copy,
 * input, host or other. Launches are left out: they are as many as the kernels. */
rm_status bench_timeline_gather(rm_comm *comm, const rm_trace *t, uint64_t begin_ns, uint64_t end_ns, json_t **out) RM_CHECKED;
#endif
