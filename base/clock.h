/* One monotonic clock for the whole program, integer nanoseconds. */
#ifndef RM_CLOCK_H
#define RM_CLOCK_H
#include <stdint.h>
#include <time.h>

static inline uint64_t rm_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
/* CPU time of the calling thread / of the process. */
static inline uint64_t rm_thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t rm_process_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
/* Busy, not asleep, for at least that long. */
static inline void rm_spin_ns(uint64_t ns)
{
    const uint64_t from = rm_now_ns();
    while (rm_now_ns() - from < ns) continue;
}
static inline double rm_s(uint64_t ns) { return (double)ns * 1e-9; }
#endif
