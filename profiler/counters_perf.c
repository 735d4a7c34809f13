/* Hardware counts by perf_event. */
#include "profiler/counters_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    uint64_t config;
    const char *name;
} kinds[RM_PERF_KINDS] = {
    { PERF_COUNT_HW_INSTRUCTIONS, "instructions" },
    { PERF_COUNT_HW_CPU_CYCLES, "cycles" },
    { PERF_COUNT_HW_CACHE_MISSES, "last-level cache misses" },
};

static void explain(const rm_counter_places *places, int error, const char *name, rm_why *out)
{
    char path[512], level[32];
    switch (error) {
    case ENOENT:
    case ENODEV:
    case EOPNOTSUPP: rm_why_set(out, "this (virtual) machine has no performance counter for %s", name); return;
    case ENOSYS: rm_why_set(out, "this kernel has no perf_event_open, or the container forbids it"); return;
    case EACCES:
    case EPERM:
        snprintf(path, sizeof path, "%s/sys/kernel/perf_event_paranoid", places->proc);
        if (!rm_read_text(path, level, sizeof level)) snprintf(level, sizeof level, "unknown");
        level[strcspn(level, "\n")] = 0;
        rm_why_set(
            out,
            "perf_event_open was refused; perf_event_paranoid is %s: sysctl kernel.perf_event_paranoid=2 or less allows it, unless a container's seccomp profile forbids it",
            level);
        return;
    default: rm_why_set(out, "perf_event_open failed for %s: %s", name, strerror(error));
    }
}

static void drop(rm_perf *p, int k)
{
    for (size_t i = 0; i < p->kind[k].n; i++) close(p->kind[k].fd[i]);
    p->kind[k].n = 0;
}

/* One event of every kind for a thread that exists already; a thread that ended meanwhile has nothing to count. */
static rm_status open_thread(const rm_counter_places *places, rm_perf *p, pid_t tid)
{
    for (int k = 0; k < RM_PERF_KINDS; k++) {
        struct perf_event_attr attr = { .type = PERF_TYPE_HARDWARE,
                                        .size = sizeof attr,
                                        .config = kinds[k].config,
                                        .inherit = 1,
                                        .exclude_kernel = 1,
                                        .exclude_hv = 1,
                                        .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING };
        if (p->kind[k].why.text[0]) continue;
        int *grown = realloc(p->kind[k].fd, (p->kind[k].n + 1) * sizeof *grown);
        if (!grown) return rm_fail(RM_E_NOMEM, "out of memory for performance counters");
        p->kind[k].fd = grown;
        const int fd = places->perf_open(&attr, tid);
        if (fd >= 0) grown[p->kind[k].n++] = fd;
        else if (errno != ESRCH) {
            explain(places, errno, kinds[k].name, &p->kind[k].why);
            drop(p, k);
        }
    }
    return RM_OK;
}

rm_status rm_perf_open(const rm_counter_places *places, rm_perf *out)
{
    char path[512];
    rm_status st = RM_OK;
    const struct dirent *e;
    snprintf(path, sizeof path, "%s/self/task", places->proc);
    DIR *dir = opendir(path);
    while (dir && st == RM_OK && (e = readdir(dir)))
        if (e->d_name[0] != '.') st = open_thread(places, out, (pid_t)strtol(e->d_name, NULL, 10));
    for (int k = 0; k < RM_PERF_KINDS; k++)
        if (!out->kind[k].n && !out->kind[k].why.text[0]) rm_why_set(&out->kind[k].why, "%s does not list the threads to count", path);
    if (dir) closedir(dir);
    return st;
}

void rm_perf_close(rm_perf *p)
{
    for (int k = 0; k < RM_PERF_KINDS; k++) {
        drop(p, k);
        free(p->kind[k].fd);
    }
    memset(p, 0, sizeof *p);
}

int64_t rm_perf_scaled(uint64_t value, uint64_t enabled_ns, uint64_t running_ns)
{
    if (running_ns >= enabled_ns) return (int64_t)value;
    if (!running_ns) return -1;
    return (int64_t)((double)value * ((double)enabled_ns / (double)running_ns));
}

static int64_t read_kind(rm_perf *p, int k)
{
    int64_t sum = 0;
    for (size_t i = 0; i < p->kind[k].n; i++) {
        struct {
            uint64_t value, enabled_ns, running_ns;
        } r;
        if (read(p->kind[k].fd[i], &r, sizeof r) != (ssize_t)sizeof r) {
            rm_why_set(&p->kind[k].why, "a performance counter could not be read: %s", strerror(errno));
            return -1;
        }
        const int64_t one = rm_perf_scaled(r.value, r.enabled_ns, r.running_ns);
        if (one < 0) continue; /* a thread that had no turn with the registers yet: nothing to extrapolate from */
        p->multiplexed |= r.running_ns < r.enabled_ns;
        sum += one;
    }
    return sum;
}

void rm_perf_read(rm_perf *p, int64_t out[RM_PERF_KINDS])
{
    for (int k = 0; k < RM_PERF_KINDS; k++) out[k] = p->kind[k].why.text[0] ? -1 : read_kind(p, k);
}
