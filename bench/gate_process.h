/* One run of a command: what it printed, how it ended, what it took. */
#ifndef RM_BENCH_GATE_PROCESS_H
#define RM_BENCH_GATE_PROCESS_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* exit_code: 128 + n after signal n. cpu_s: user and system time of the process and of all that it waited for. instructions: in user space, of
 * all its threads and children; -1 where the machine does not count them. out: what it printed on stdout, NUL-terminated. complaint: the last line of its
 * stderr, "" where there was none. */
typedef struct bench_process {
    int     exit_code;
    bool    timed_out;
    double  wall_s, cpu_s;
    int64_t max_rss_bytes, instructions;
    char   *out;
    size_t  out_bytes;
    char    complaint[400];
} bench_process;

/* Runs `command` by /bin/sh -c, in a process group of its own that is ended with this call, and waits. A command that fails is no failure
 * here. RM_E_INTERRUPTED when a signal came to us: the command is ended. RM_E_FORMAT: more output than a gate can read. */
rm_status bench_process_run(const char *command, double timeout_s, bench_process *out) RM_CHECKED;
void      bench_process_free(bench_process *p);
#endif
