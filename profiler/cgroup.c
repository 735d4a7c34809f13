/* Control groups: the share of the machine a container was given. Without this a container with a quota of two cores on a
 * machine with sixty-four would start sixty-four threads. */
#include "profiler/runinfo.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdbool.h>
#include <string.h>

/* Where a controller of one version keeps its limit. v2 has one hierarchy; v1 one a controller, mounted under its name. */
typedef struct layout { const char *controller, *folder, *limit, *other; } layout;
enum { V1, V2 };
static const layout cpu[] = { [V1] = { "cpu", "/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us" }, [V2] = { "", "", "cpu.max", NULL } };
static const layout memory[] = { [V1] = { "memory", "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes" },
                                 [V2] = { "", "", "memory.max", "memory.current" } };

/* First line of mount + folder + group + "/" + name; false when there is none. */
static bool read_line(const char *mount, const char *folder, const char *group, const char *name, char *out, int size)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s%s%s/%s", mount, folder, group, name) >= (int)sizeof path) return false;
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool ok = fgets(out, size, f) != NULL;
    fclose(f);
    return ok;
}

/* The group of this process for a controller ("" for v2) from lines "4:cpu,cpuacct:/a/b"; false when there is none. */
static bool group_of(const char *proc_cgroup, const char *controller, char *out, size_t size)
{
    for (const char *line = proc_cgroup; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        size_t end = strcspn(line, "\n"), want = strlen(controller);
        if (!group || group > line + end) continue;
        for (const char *p = names + 1; p <= group; p += strcspn(p, ",:") + 1) {
            if (strcspn(p, ",:") != want || strncmp(p, controller, want)) continue;
            size_t n = (size_t)(line + end - (group + 1));
            if (n >= size) return false;
            memcpy(out, group + 1, n);
            out[n] = 0;
            return true;
        }
    }
    return false;
}

typedef double (*limit_fn)(const layout *l, int version, const char *mount, const char *group);

static double cores_of(const layout *l, int version, const char *mount, const char *group)
{
    char text[128];
    double quota, period = 100000;
    if (!read_line(mount, l->folder, group, l->limit, text, sizeof text)) return INFINITY;
    if (version == V2) { /* "max 100000" or "200000 100000" */
        if (sscanf(text, "%lf %lf", &quota, &period) < 1) return INFINITY;
    } else {
        quota = strtod(text, NULL);
        if (read_line(mount, l->folder, group, l->other, text, sizeof text)) period = strtod(text, NULL);
    }
    return quota > 0 && period > 0 ? quota / period : INFINITY;
}

static double memory_of(const layout *l, int version, const char *mount, const char *group)
{
    char text[128], *end;
    if (!read_line(mount, l->folder, group, l->limit, text, sizeof text)) return INFINITY;
    double limit = strtod(text, &end);
    if (end == text || limit >= 0x1p62) return INFINITY; /* "max", or v1's way to say so */
    double used = read_line(mount, l->folder, group, l->other, text, sizeof text) ? strtod(text, NULL) : 0;
    return limit > used ? limit - used : 0;
}

/* The least over this group and those above it. Inside a container the named group may not exist under the mount: what the
 * mount's own root says is then the container's limit, and the walk ends there anyway. */
static double least(const layout table[2], limit_fn of, const char *proc_cgroup, const char *mount)
{
    double least_so_far = INFINITY;
    for (int version = V1; version <= V2; version++) {
        char group[2048];
        if (!group_of(proc_cgroup, table[version].controller, group, sizeof group)) continue;
        for (;;) {
            char *slash = strrchr(group, '/');
            if (slash && !slash[1]) *slash = 0; /* "/" is the root: "" in a path */
            least_so_far = fmin(least_so_far, of(&table[version], version, mount, group));
            if (!group[0] || !(slash = strrchr(group, '/'))) break;
            *slash = 0;
        }
    }
    return least_so_far;
}

double rm_cgroup_cores(const char *proc_cgroup, const char *mount) { return least(cpu, cores_of, proc_cgroup, mount); }

uint64_t rm_cgroup_memory_left(const char *proc_cgroup, const char *mount)
{
    double left = least(memory, memory_of, proc_cgroup, mount);
    return isfinite(left) ? (uint64_t)left : UINT64_MAX;
}
