/* Throttling in results: the keys "throttled_samples" and "throttle_reasons", and beside "step_s" the samples "throttled", "gpu_sm_mhz", "gpu_power_w" and
 * "gpu_temperature_c" (docs/gpus.md). Rows of devices that are no GPU have none of them. */
#ifndef RM_BENCH_THROTTLED_ROW_H
#define RM_BENCH_THROTTLED_ROW_H
#include "bench/scaling_loss.h"

/* gathered["gpu_watch"]: "" where the GPU is watched, else why not; no key where the device is no GPU. */
void bench_note_watch(json_t *gathered, const rm_gpu_watch *w);
/* Into the row of what rank 0 gathered: steps during which a GPU of any rank was throttled. */
void bench_set_throttled(json_t *row, json_t *samples, const bench_steps *t, const json_t *gathered);
/* The same of one rank's own readings. `why`: NULL, or why they cannot be told. */
void bench_set_throttled_own(json_t *row, json_t *samples, const rm_gpu_reading *r, size_t n, const char *why);
/* One line after `label` where any of `of` steps were throttled; nothing otherwise. */
void bench_print_throttled(const json_t *row, const char *label, long long of);
#endif
