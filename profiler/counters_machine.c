/* What concerns the whole machine: time that a hypervisor took, and energy. */
#include "profiler/counters_private.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* /proc/stat counts in ticks of 10 ms, and writing it costs more than all the rest: it is read once in so long. A few ticks may have
 * come together over a long time; what they say of one short step is worth something from three on. */
static const uint64_t stat_every_ns = 100000000;
enum { FEWEST_TICKS = 3, STEAL_FIELD = 8 };

static bool steal_ticks(int fd, uint64_t *out)
{
    char text[256], *at = text + 3, *end;
    uint64_t v = 0;
    if (!rm_pread_text(fd, text, sizeof text) || strncmp(text, "cpu ", 4)) return false;
    for (int i = 0; i < STEAL_FIELD; i++, at = end) {
        while (*at == ' ') at++;
        if (*at < '0' || *at > '9') return false;
        v = strtoull(at, &end, 10);
    }
    *out = v;
    return true;
}

static void open_steal(const rm_counter_places *places, int cores, rm_machine *m)
{
    char path[512];
    const long online = places->online > 0 ? places->online : sysconf(_SC_NPROCESSORS_ONLN), hz = sysconf(_SC_CLK_TCK);
    snprintf(path, sizeof path, "%s/stat", places->proc);
    m->stat = open(path, O_RDONLY | O_CLOEXEC);
    m->tick_ns = 1e9 / (double)(hz > 0 ? hz : 100);
    m->cores_share = online > cores ? (double)cores / (double)online : 1;
    if (m->stat < 0 || !steal_ticks(m->stat, &m->ticks)) rm_why_set(&m->why_steal, "%.150s does not tell what the hypervisor took", path);
}

/* ---- energy */
static bool read_number(const char *folder, const char *name, const char *file, uint64_t *out)
{
    char path[512], text[64], *end;
    snprintf(path, sizeof path, "%.200s/%.64s/%s", folder, name, file);
    if (!rm_read_text(path, text, sizeof text)) return false;
    *out = strtoull(text, &end, 10);
    return end != text;
}

/* "intel-rapl:0", not its parts "intel-rapl:0:1", and a package, not the platform, which holds the packages again. */
static bool is_package(const char *folder, const char *name)
{
    char path[512], text[64];
    const char *number = strncmp(name, "intel-rapl:", 11) ? "" : name + 11;
    snprintf(path, sizeof path, "%.200s/%.64s/name", folder, name);
    return *number && !number[strspn(number, "0123456789")] && rm_read_text(path, text, sizeof text) && !strncmp(text, "package", 7);
}

static bool read_energy(int fd, uint64_t *out)
{
    char text[64], *end;
    if (!rm_pread_text(fd, text, sizeof text)) return false;
    *out = strtoull(text, &end, 10);
    return end != text;
}

static void open_package(const char *folder, const char *name, rm_machine *m)
{
    char path[512];
    uint64_t *energy = &m->energy_uj[m->n_package], *range = &m->range_uj[m->n_package];
    snprintf(path, sizeof path, "%.200s/%.64s/energy_uj", folder, name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        rm_why_set(&m->why_energy, "%.150s may be read by root alone: chmod a+r it (until the next boot), or run as root", path);
    else if (fd < 0 || !read_energy(fd, energy) || !read_number(folder, name, "max_energy_range_uj", range))
        rm_why_set(&m->why_energy, "%.150s could not be read", path);
    if (fd >= 0) m->package[m->n_package++] = fd;
}

static void open_packages(const rm_counter_places *places, rm_machine *m)
{
    const struct dirent *e;
    DIR *dir = opendir(places->powercap);
    while (dir && m->n_package < RM_PACKAGES && !m->why_energy.text[0] && (e = readdir(dir)))
        if (is_package(places->powercap, e->d_name)) open_package(places->powercap, e->d_name, m);
    if (dir) closedir(dir);
    if (!m->n_package && !m->why_energy.text[0])
        rm_why_set(&m->why_energy, "this (virtual) machine has no energy counters (no package in %.100s)", places->powercap);
}

static void read_packages(rm_machine *m)
{
    for (int i = 0; i < m->n_package; i++) {
        uint64_t now;
        if (!read_energy(m->package[i], &now)) {
            rm_why_set(&m->why_energy, "an energy counter could not be read: %s", strerror(errno));
            return;
        }
        m->energy_sum_uj += now >= m->energy_uj[i] ? now - m->energy_uj[i] : now + m->range_uj[i] - m->energy_uj[i];
        m->energy_uj[i] = now;
    }
}

/* ---- both */
void rm_machine_open(const rm_counter_places *places, int cores, rm_machine *out)
{
    open_steal(places, cores, out);
    open_packages(places, out);
}

void rm_machine_close(rm_machine *m)
{
    if (m->tick_ns <= 0) return; /* it was never opened */
    if (m->stat >= 0) close(m->stat);
    for (int i = 0; i < m->n_package; i++) close(m->package[i]);
}

static void read_steal(rm_machine *m, uint64_t now_ns)
{
    uint64_t ticks;
    if (m->stat_ns && now_ns - m->stat_ns < stat_every_ns) return;
    if (!steal_ticks(m->stat, &ticks)) {
        rm_why_set(&m->why_steal, "/proc/stat can no longer be read");
        return;
    }
    const uint64_t more = ticks > m->ticks ? ticks - m->ticks : 0;
    m->stolen_ns += (uint64_t)((double)more * m->tick_ns);
    if (more >= FEWEST_TICKS) m->share_ns += (uint64_t)((double)more * m->tick_ns * m->cores_share);
    m->ticks = ticks;
    m->stat_ns = now_ns;
}

void rm_machine_read(rm_machine *m, uint64_t now_ns)
{
    if (!m->why_steal.text[0]) read_steal(m, now_ns);
    if (!m->why_energy.text[0]) read_packages(m);
}
