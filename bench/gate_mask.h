/* Masks: why a pair does not count. They are agreed on before the first run, look at both runs of a pair alike, and never at a value. */
#ifndef RM_BENCH_GATE_MASK_H
#define RM_BENCH_GATE_MASK_H
#include "bench/gate_process.h"

/* What the machine says before and after a pair. -1: nothing to ask. */
typedef struct bench_machine_reading { int64_t throttles, gpus_throttled, memory_errors; } bench_machine_reading;
typedef struct bench_masks { unsigned bits; struct rm_nvml *gpus; const char *sys; } bench_masks; /* sys: "/sys"; tests have their own */

/* "exit,throttle" or "none". RM_E_ARG names the word. A mask that this machine cannot see is a warning, once. */
rm_status bench_masks_open(const char *text, bench_masks *out) RM_CHECKED;
void      bench_masks_close(bench_masks *m);
void      bench_masks_read(const bench_masks *m, bench_machine_reading *out);
/* Why the pair does not count, in words; NULL: it counts. A run that failed without a mask for it is no pair at all: bench_masks_trouble(). */
const char *bench_masks_why(const bench_masks *m, const bench_process run[2], const bench_machine_reading *before, const bench_machine_reading *after);
/* RM_E_NUMERIC where a run failed and no mask covers it. command: of the two runs. */
rm_status bench_masks_trouble(const bench_masks *m, const bench_process run[2], const char *const command[2]) RM_CHECKED;
/* More than 20 % of the pairs discarded, and more than one? To be asked when no more pairs come: early on, two of three are no share of anything. */
bool      bench_masks_too_many(int discarded, int kept);
/* Need no more pairs be run, for it will be too many: even with `most` kept pairs, or because the first three all failed? */
bool      bench_masks_hopeless(int discarded, int kept, int most);
#endif
