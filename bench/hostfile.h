/* Host files: which machines ranks run on, and how many each. Both forms that launchers know, a host a line:
 *
 *     node1 slots=2            # Open MPI's; max_slots=N may follow
 *     node2:2                  # MPICH's
 *     node3                    # one
 *
 * A host named again gets the slots of both lines. Ranks fill hosts in the order of the file. What the launcher is given is
 * bench_hosts_list(), in its own words, so that either form serves every MPI. */
#ifndef RM_BENCH_HOSTFILE_H
#define RM_BENCH_HOSTFILE_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { BENCH_HOST_NAME = 256, BENCH_HOSTS_MAX = 4096, BENCH_SLOTS_MAX = 65536 };
typedef struct bench_host { char name[BENCH_HOST_NAME]; int32_t slots; } bench_host;
typedef struct bench_hosts {
    bench_host *host;
    int32_t n, slots, most;  /* hosts, slots of all of them, most slots on one */
} bench_hosts;

/* RM_E_ARG with the file and the line when it is empty or a line is not understood; else as rm_file_load(). Free with
 * bench_hosts_free() after RM_OK. */
rm_status bench_hosts_read(const char *path, bench_hosts *out) RM_CHECKED;
/* The same from memory; `text` needs no terminator, `name` stands for the file in messages. */
rm_status bench_hosts_parse(const char *text, size_t n, const char *name, bench_hosts *out) RM_CHECKED;
void      bench_hosts_free(bench_hosts *h);
/* "node1:2,node2:2"; free() it, NULL when memory ran out. */
char     *bench_hosts_list(const bench_hosts *h);
#endif
