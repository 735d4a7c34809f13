/* Timing on a machine that others use too: how long our threads stood in the run queue, which a wall clock cannot tell
 * from work. Linux only (/proc/self/task/N/schedstat); elsewhere every delay reads as zero. */
#ifndef RM_KERNELS_CPU_QUIET_H
#define RM_KERNELS_CPU_QUIET_H
#include <stdint.h>

enum { CPU_QUIET_THREADS = 256 };
typedef struct cpu_quiet { int n, fd[CPU_QUIET_THREADS]; uint64_t before[CPU_QUIET_THREADS]; } cpu_quiet;

void     cpu_quiet_open(cpu_quiet *q);    /* of the threads that exist now */
void     cpu_quiet_close(cpu_quiet *q);
void     cpu_quiet_start(cpu_quiet *q);
/* The longest delay of any thread since start, nanoseconds. */
uint64_t cpu_quiet_stop(const cpu_quiet *q);
#endif
