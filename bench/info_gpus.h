/* The GPUs part of bench info: what was looked for, what is missing and what to do; each GPU, how they are joined, and who uses them (docs/gpus.md). */
#ifndef RM_BENCH_INFO_GPUS_H
#define RM_BENCH_INFO_GPUS_H
#include "bench/bench.h"

/* {"looked_for": [{"name", "found", "version", "reason"}], "usable", "reason", "driver", "cuda_driver", "nvml", "links", "gpus": [...]}: the last five of
 * rm_nvml_json(), null and [] where NVML does not answer. New reference. */
json_t *bench_info_gpus(void);
void    bench_info_gpus_print(const json_t *gpus);
#endif
