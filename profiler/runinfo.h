/* What machine and program a number was measured on: the environment fingerprint.
 * hard: must match for two results to be compared (processor model, cores used, memory, library versions, build flags).
 * soft: shown (load, governor, frequency, kernel, git commit, time). Only allow-listed environment variables. */
#ifndef RM_RUNINFO_H
#define RM_RUNINFO_H
#include "base/status.h"
#include <jansson.h>
#include <stdint.h>

/* Facts that only upper layers know (device, library versions, MPI): name, value, hard or soft. */
typedef struct rm_fact { const char *name, *value; int hard; } rm_fact;
/* {"hard": {...}, "soft": {...}, "hard_sha": "..."}; new reference, NULL on out of memory. */
json_t *rm_runinfo_json(const rm_fact *fact, size_t n);
const char *rm_version(void);      /* "0.1.0 (git abc1234, dirty)" fixed at build time */
int  rm_cores_available(void);     /* cores this process may use (affinity, cgroup quota rounded down, at least 1) */
uint64_t rm_memory_available(void);/* bytes: what the system has left, or the control group of this process, whichever is less */

/* What the control groups (v1 and v2, this group and all above) leave a process. `proc_cgroup` is the text of
 * /proc/self/cgroup, `mount` /sys/fs/cgroup; both are arguments so that a test can build its own. */
double   rm_cgroup_cores(const char *proc_cgroup, const char *mount);       /* INFINITY: no limit */
uint64_t rm_cgroup_memory_left(const char *proc_cgroup, const char *mount); /* UINT64_MAX: no limit */
#endif
