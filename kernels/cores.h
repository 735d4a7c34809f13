/* Cores: on a machine without GPUs a device is a fixed set of cores, the same size at every N of a sweep.
 *
 * A core is what the system schedules on (a hardware thread), as counted by rm_cores_available(): affinity of this process and
 * quota of its control group. Cores are dealt out in the machine's own order, so that a device's cores share caches and the two
 * threads of a physical core go to the same device. Who refuses more ranks than devices is the caller; here they share.
 * Threads: the calling thread is pinned, and with it every thread it starts afterwards: pin before devices are opened. */
#ifndef RM_CORES_H
#define RM_CORES_H
#include "base/status.h"
#include <stdbool.h>

enum { RM_CORES_MAX = 4096 };
/* A device: operating-system numbers of its cores, in ascending order. */
typedef struct rm_cores {
    int  n;
    bool shared;              /* another device has the same cores: more ranks than devices */
    int  core[RM_CORES_MAX];
} rm_cores;

/* How many devices of `threads` cores (0: 1) this process may have; at least 1. */
int rm_devices_max(int threads);
/* Cores of each device when at most n_devices_max are measured: `threads`, or where that is 0 the cores available divided evenly. At
 * least 1. */
int rm_cores_each(int n_devices_max, int threads);
/* Device number local_rank (of this machine) in a sweep of up to n_devices_max devices. RM_E_ARG: a device wants more cores than there
 * are. */
rm_status rm_cores_plan(int n_devices_max, int threads, int local_rank, rm_cores *out) RM_CHECKED;
/* The same by size: device number local_rank of devices of `each` cores. */
rm_status rm_cores_take(int each, int local_rank, rm_cores *out) RM_CHECKED;
/* Pins this thread. RM_E_IO when the system refuses. */
rm_status rm_cores_pin(const rm_cores *cores) RM_CHECKED;
/* "cores 0-3,8", or "shared cores 0-3". */
void rm_cores_text(const rm_cores *cores, char *text, size_t size);
#endif
