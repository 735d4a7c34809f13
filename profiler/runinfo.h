/* What machine and program a number was measured on: the environment fingerprint.
 * hard: must match for two results to be compared (processor model, cores used, memory, library versions, build flags).
 * soft: shown (load, governor, frequency, kernel, git commit, time). Only allow-listed environment variables. */
#ifndef RM_RUNINFO_H
#define RM_RUNINFO_H
#include "base/status.h"
#include <jansson.h>

/* Facts that only upper layers know (device, library versions, MPI): name, value, hard or soft. */
typedef struct rm_fact { const char *name, *value; int hard; } rm_fact;
/* {"hard": {...}, "soft": {...}, "hard_sha": "..."}; new reference, NULL on out of memory. */
json_t *rm_runinfo_json(const rm_fact *fact, size_t n);
const char *rm_version(void);      /* "0.1.0 (git abc1234, dirty)" fixed at build time */
int  rm_cores_available(void);     /* cores this process may use (affinity, cgroup quota rounded down, at least 1) */
uint64_t rm_memory_available(void);
#endif
