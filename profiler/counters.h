/* Counters: what this process took of the machine between two moments, and what others took from it (docs/counters.md).
 *
 * What a machine does not have is -1, with the reason in words (a virtual machine without a performance monitoring unit, a
 * restricted perf_event_paranoid, no powercap). Hardware counts (perf_event) and the delay in the run queue are of all threads of the
 * process, those started later included. Threads: one at a time per object. Reading takes tens of microseconds: between steps, never
 * inside one. */
#ifndef RM_COUNTERS_H
#define RM_COUNTERS_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum rm_counter {
    RM_COUNT_INSTRUCTIONS, RM_COUNT_CYCLES, RM_COUNT_CACHE_MISSES, /* perf_event, user space; last-level misses */
    RM_COUNT_CPU_NS,                                               /* user and system time of the process (getrusage) */
    RM_COUNT_RUN_DELAY_NS,                                         /* runnable threads that did not get a core (schedstat), summed over threads */
    RM_COUNT_FOREIGN_NS,                                           /* the part of it for which this process's other threads cannot be the cause, and steal */
    RM_COUNT_PREEMPTED,                                            /* involuntary context switches */
    RM_COUNT_FAULTS, RM_COUNT_MAJOR_FAULTS,                        /* page faults; those that waited for a disk */
    RM_COUNT_STEAL_NS,                                             /* what the hypervisor took from the whole machine (/proc/stat, in ticks) */
    RM_COUNT_ENERGY_UJ,                                            /* powercap package domains, whole machine */
    RM_COUNTERS
} rm_counter;
typedef struct rm_counts { uint64_t wall_ns; int64_t v[RM_COUNTERS]; } rm_counts; /* -1: not to be had */
typedef struct rm_counters rm_counters;

/* Open it once the threads are pinned: the cores of the process are those of its threads' affinity masks at that moment. */
rm_status   rm_counters_open(rm_counters **out) RM_CHECKED;         /* only RM_E_NOMEM: what is missing is a reason, not an error */
void        rm_counters_close(rm_counters *c);                      /* NULL is fine */
const char *rm_counter_name(rm_counter k);                          /* "instructions", "cycles", "cache_misses", "cpu_s", ... key in JSON */
double      rm_counter_scale(rm_counter k);                         /* to the unit of that key: 1e-9 for seconds, 1e-6 for joules, 1 */
const char *rm_counters_why(const rm_counters *c, rm_counter k);    /* NULL: it is counted; NULL c: nobody counts */
bool        rm_counters_multiplexed(const rm_counters *c);          /* hardware counts shared their registers so far: they are extrapolated */
void        rm_counters_read(rm_counters *c, rm_counts *out);       /* since an arbitrary beginning; NULL c gives -1 everywhere */
rm_counts   rm_counts_since(const rm_counts *begin, const rm_counts *end);
void        rm_counts_add(rm_counts *sum, const rm_counts *d);      /* sum begins as all zero; -1 stays -1 */

/* A sample is disturbed when other work took this process's cores for more than RM_DISTURBED_SHARE of the time of `threads` cores (at
 * least 1): RM_COUNT_FOREIGN_NS. It is a lower bound, so that threads of one process that wait for each other are no disturbance; what it
 * cannot see is in docs/counters.md. false where the delay is not counted. */
#define RM_DISTURBED_SHARE 0.02
bool        rm_counts_disturbed(const rm_counts *d, int threads);
uint64_t    rm_memory_high_water(void);                             /* bytes resident at most so far (VmHWM); 0: unknown */
#endif
