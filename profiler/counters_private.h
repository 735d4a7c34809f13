/* The sources of the counters, and the places they read, for counters*.c and their test. Each source that cannot count says why. */
#ifndef RM_COUNTERS_PRIVATE_H
#define RM_COUNTERS_PRIVATE_H
#include "profiler/counters.h"
#include <dirent.h>
#include <linux/perf_event.h>
#include <stddef.h>
#include <sys/types.h>

/* Where to look: a test builds its own. */
typedef struct rm_counter_places {
    const char *proc, *powercap;     /* "/proc", "/sys/class/powercap" */
    int cores, online;               /* of this process, of the machine; 0: ask the system */
    int (*perf_open)(struct perf_event_attr *attr, pid_t tid); /* a file descriptor, or -1 with errno */
} rm_counter_places;
rm_status rm_counters_open_at(const rm_counter_places *places, rm_counters **out) RM_CHECKED;
uint64_t  rm_memory_high_water_in(const char *proc);

typedef struct rm_why { char text[256]; } rm_why; /* "" while it counts */
void rm_why_set(rm_why *w, const char *fmt, ...) RM_PRINTF(2, 3);
/* Text of an open file from its beginning, ended by a 0; false when it cannot be read. */
bool rm_pread_text(int fd, char *out, size_t size);
bool rm_read_text(const char *path, char *out, size_t size);

/* ---- perf_event: one event a thread, which threads started later inherit */
enum { RM_PERF_KINDS = 3 };
typedef struct rm_perf { struct { int *fd; size_t n; rm_why why; } kind[RM_PERF_KINDS]; bool multiplexed; } rm_perf;
rm_status rm_perf_open(const rm_counter_places *places, rm_perf *out) RM_CHECKED;
void      rm_perf_close(rm_perf *p);
void      rm_perf_read(rm_perf *p, int64_t out[RM_PERF_KINDS]);
/* What a count would be had it been counted all the time it was enabled; -1 when it never was. */
int64_t   rm_perf_scaled(uint64_t value, uint64_t enabled_ns, uint64_t running_ns);

/* ---- run queue: how long every thread ran, and waited while it could have run */
typedef struct rm_task { int tid, fd; uint64_t run_ns, wait_ns; } rm_task;
typedef struct rm_sched {
    DIR     *dir;                    /* /proc/self/task */
    size_t   links, n, room;
    rm_task *task;
    uint64_t *wanted_ns;             /* scratch, `room` long */
    int      cores;
    uint64_t read_ns, wait_ns, foreign_ns;
    rm_why   why;
} rm_sched;
rm_status rm_sched_open(const rm_counter_places *places, rm_sched *out) RM_CHECKED;
void      rm_sched_close(rm_sched *s);
void      rm_sched_read(rm_sched *s, uint64_t now_ns);
/* wanted[i]: how long thread i could have run; ran: how long all of them together did. On `cores` cores. Sorts wanted. */
uint64_t  rm_sched_foreign(uint64_t *wanted_ns, size_t n, uint64_t ran_ns, int cores);

/* ---- the whole machine: time stolen by a hypervisor, energy */
enum { RM_PACKAGES = 16 };
typedef struct rm_machine {
    int      stat, package[RM_PACKAGES], n_package;
    uint64_t stat_ns, ticks, stolen_ns, share_ns; /* share: of this process's cores */
    double   tick_ns, cores_share;
    uint64_t energy_uj[RM_PACKAGES], range_uj[RM_PACKAGES], energy_sum_uj;
    rm_why   why_steal, why_energy;
} rm_machine;
void rm_machine_open(const rm_counter_places *places, int cores, rm_machine *out);
void rm_machine_close(rm_machine *m);
void rm_machine_read(rm_machine *m, uint64_t now_ns);
#endif
