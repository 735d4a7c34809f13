/* Projection: how long a training step would take on a GPU that is described and not there, kernel by kernel (docs/projection.md). Nothing here is
 * measured, and every row says so; a projection is never stored. */
#ifndef RM_BENCH_PROJECT_H
#define RM_BENCH_PROJECT_H
#include "bench/gpu_file.h"
#include "bench/session.h"
#include "kernels/cuda_work.h"

/* Two times for the same work: with every peak reached, and with the file's efficiencies. Each is the larger of computing and moving, and the time between
 * kernels on top. limit: "compute", "memory", or "kernels" where that is most of it. */
typedef struct bench_projected { double at_peaks_s, assumed_s; const char *limit; } bench_projected;
bench_projected bench_project_work(const gpu_file *g, rm_dtype dtype, const rm_cuda_work *k);

/* A device that plans as the cuda device does, takes address space and no memory, and computes nothing. */
rm_status bench_project_device(rm_device **out) RM_CHECKED;
/* The row of a network on such a device: {"origin": "projected", "gpu", "layers", "by_op", totals}; new reference, NULL when memory ran out. */
json_t   *bench_project_row(const gpu_file *g, const rm_engine *e);
void      bench_project_print(const json_t *row);
/* bench layers --project. */
rm_status bench_project(const bench_options *o) RM_CHECKED;
#endif
