/* Alone on the machine, as far as others take the same lock. */
#ifndef RM_BENCH_GATE_LOCK_H
#define RM_BENCH_GATE_LOCK_H
#include "base/status.h"

/* path: "" is one a user and machine, "none" is no lock (*out_fd = -1). Waits with a line about who has it, timeout_s at most: then RM_E_IO. The
 * lock goes with the process; where that is killed, with the last of what it started, which still disturbs others until then. RM_E_INTERRUPTED when a signal comes. */
rm_status bench_gate_lock(const char *path, double timeout_s, int *out_fd) RM_CHECKED;
void      bench_gate_unlock(int fd);
#endif
