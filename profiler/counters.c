#include "profiler/counters_private.h"
#include "base/clock.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

struct rm_counters {
    rm_perf perf;
    rm_sched sched;
    rm_machine machine;
};

static const struct {
    const char *name;
    double scale;
} counters[RM_COUNTERS] = {
    [RM_COUNT_INSTRUCTIONS] = { "instructions", 1 },   [RM_COUNT_CYCLES] = { "cycles", 1 },
    [RM_COUNT_CACHE_MISSES] = { "cache_misses", 1 },   [RM_COUNT_CPU_NS] = { "cpu_s", 1e-9 },
    [RM_COUNT_RUN_DELAY_NS] = { "run_delay_s", 1e-9 }, [RM_COUNT_FOREIGN_NS] = { "foreign_s", 1e-9 },
    [RM_COUNT_PREEMPTED] = { "preempted", 1 },         [RM_COUNT_FAULTS] = { "faults", 1 },
    [RM_COUNT_MAJOR_FAULTS] = { "major_faults", 1 },   [RM_COUNT_STEAL_NS] = { "steal_s", 1e-9 },
    [RM_COUNT_ENERGY_UJ] = { "energy_j", 1e-6 },
};
const char *rm_counter_name(rm_counter k) { return counters[k].name; }
double rm_counter_scale(rm_counter k) { return counters[k].scale; }

/* ---- what the sources share */
void rm_why_set(rm_why *w, const char *fmt, ...)
{
    va_list a;
    va_start(a, fmt);
    vsnprintf(w->text, sizeof w->text, fmt, a);
    va_end(a);
}

bool rm_pread_text(int fd, char *out, size_t size)
{
    const ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

bool rm_read_text(const char *path, char *out, size_t size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool ok = rm_pread_text(fd, out, size);
    close(fd);
    return ok;
}

/* ---- the object */
static int system_perf_open(struct perf_event_attr *attr, pid_t tid) { return (int)syscall(SYS_perf_event_open, attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC); }

rm_status rm_counters_open_at(const rm_counter_places *places, rm_counters **out)
{
    rm_status st = RM_OK;
    rm_counters *c = calloc(1, sizeof *c);
    if (!c) return rm_fail(RM_E_NOMEM, "out of memory for counters");
    RM_TRY_GOTO(st, rm_sched_open(places, &c->sched), fail);
    rm_machine_open(places, c->sched.cores, &c->machine);
    RM_TRY_GOTO(st, rm_perf_open(places, &c->perf), fail);
    *out = c;
    return RM_OK;
fail:
    rm_counters_close(c);
    return st;
}

rm_status rm_counters_open(rm_counters **out)
{
    return rm_counters_open_at(&(rm_counter_places) { .proc = "/proc", .powercap = "/sys/class/powercap", .perf_open = system_perf_open }, out);
}

void rm_counters_close(rm_counters *c)
{
    if (!c) return;
    rm_perf_close(&c->perf);
    rm_sched_close(&c->sched);
    rm_machine_close(&c->machine);
    free(c);
}

static const char *words(const rm_why *w) { return w->text[0] ? w->text : NULL; }

const char *rm_counters_why(const rm_counters *c, rm_counter k)
{
    if (!c) return "not counted";
    switch (k) {
    case RM_COUNT_INSTRUCTIONS:
    case RM_COUNT_CYCLES:
    case RM_COUNT_CACHE_MISSES: return words(&c->perf.kind[k].why);
    case RM_COUNT_RUN_DELAY_NS:
    case RM_COUNT_FOREIGN_NS: return words(&c->sched.why);
    case RM_COUNT_STEAL_NS: return words(&c->machine.why_steal);
    case RM_COUNT_ENERGY_UJ: return words(&c->machine.why_energy);
    default: return NULL;
    }
}

bool rm_counters_multiplexed(const rm_counters *c) { return c && c->perf.multiplexed; }

static void read_usage(int64_t *v)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u); /* cannot fail with these arguments */
    v[RM_COUNT_CPU_NS] = ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 + ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
    v[RM_COUNT_PREEMPTED] = u.ru_nivcsw;
    v[RM_COUNT_FAULTS] = u.ru_minflt + u.ru_majflt;
    v[RM_COUNT_MAJOR_FAULTS] = u.ru_majflt;
}

void rm_counters_read(rm_counters *c, rm_counts *out)
{
    rm_counts r = { .wall_ns = rm_now_ns() };
    int64_t *v = r.v;
    for (int k = 0; k < RM_COUNTERS; k++) v[k] = -1;
    if (c) {
        rm_perf_read(&c->perf, v + RM_COUNT_INSTRUCTIONS);
        rm_sched_read(&c->sched, r.wall_ns);
        rm_machine_read(&c->machine, r.wall_ns);
        read_usage(v);
        v[RM_COUNT_RUN_DELAY_NS] = (int64_t)c->sched.wait_ns;
        v[RM_COUNT_FOREIGN_NS] = (int64_t)(c->sched.foreign_ns + c->machine.share_ns);
        v[RM_COUNT_STEAL_NS] = (int64_t)c->machine.stolen_ns;
        v[RM_COUNT_ENERGY_UJ] = (int64_t)c->machine.energy_sum_uj;
        for (int k = 0; k < RM_COUNTERS; k++)
            if (rm_counters_why(c, (rm_counter)k)) v[k] = -1;
    }
    *out = r;
}

/* ---- counts */
rm_counts rm_counts_since(const rm_counts *begin, const rm_counts *end)
{
    rm_counts d = { .wall_ns = end->wall_ns - begin->wall_ns };
    for (int k = 0; k < RM_COUNTERS; k++) d.v[k] = begin->v[k] < 0 || end->v[k] < 0 ? -1 : end->v[k] > begin->v[k] ? end->v[k] - begin->v[k] : 0;
    return d;
}

void rm_counts_add(rm_counts *sum, const rm_counts *d)
{
    sum->wall_ns += d->wall_ns;
    for (int k = 0; k < RM_COUNTERS; k++) sum->v[k] = sum->v[k] < 0 || d->v[k] < 0 ? -1 : sum->v[k] + d->v[k];
}

bool rm_counts_disturbed(const rm_counts *d, int threads)
{
    const double cores = threads > 1 ? threads : 1;
    return d->v[RM_COUNT_FOREIGN_NS] >= 0 && (double)d->v[RM_COUNT_FOREIGN_NS] > RM_DISTURBED_SHARE * cores * (double)d->wall_ns;
}

uint64_t rm_memory_high_water(void) { return rm_memory_high_water_in("/proc"); }

uint64_t rm_memory_high_water_in(const char *proc)
{
    char path[512], text[8192];
    snprintf(path, sizeof path, "%s/self/status", proc);
    if (!rm_read_text(path, text, sizeof text)) return 0;
    const char *line = strstr(text, "\nVmHWM:");
    return line ? strtoull(line + strlen("\nVmHWM:"), NULL, 10) * 1024 : 0; /* in kB, which is KiB there */
}
