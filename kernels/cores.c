#define _GNU_SOURCE
#include "kernels/cores.h"
#include "profiler/runinfo.h"
#include <errno.h>
#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rm_devices_max(int threads)
{
    const int n = rm_cores_available() / (threads > 0 ? threads : 1);
    return n > 0 ? n : 1;
}

int rm_cores_each(int n_devices_max, int threads)
{
    if (threads > 0) return threads;
    const int n = rm_cores_available() / (n_devices_max > 0 ? n_devices_max : 1);
    return n > 0 ? n : 1;
}

/* The cores of this process's affinity mask in hwloc's order: neighbours share what can be shared. */
static rm_status cores_in_order(rm_cores *out)
{
    rm_status st = RM_OK;
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) return rm_fail(RM_E_NOMEM, "hwloc could not start: out of memory");
    hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
    if (!allowed || hwloc_topology_load(topology) != 0 || hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_THREAD) != 0) {
        st = rm_fail_errno("hwloc cannot tell the cores of this process");
        goto out;
    }
    out->n = 0;
    const int n = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    for (int i = 0; i < n && out->n < RM_CORES_MAX; i++) {
        const hwloc_obj_t pu = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, (unsigned)i);
        if (hwloc_bitmap_isset(allowed, pu->os_index)) out->core[out->n++] = (int)pu->os_index;
    }
    if (out->n == 0) st = rm_fail(RM_E_IO, "hwloc finds no core that this process may use");
out:
    hwloc_bitmap_free(allowed);
    hwloc_topology_destroy(topology);
    return st;
}

static int ascending(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

rm_status rm_cores_take(int each, int local_rank, rm_cores *out)
{
    rm_cores *all = calloc(1, sizeof *all);
    if (!all) return rm_fail(RM_E_NOMEM, "out of memory counting cores");
    rm_status st = cores_in_order(all);
    const int available = rm_cores_available(); /* may be fewer than the mask has: a quota */
    const int usable = st == RM_OK && all->n < available ? all->n : available;
    if (st == RM_OK && (each < 1 || each > usable)) {
        st = rm_fail(RM_E_ARG, "a device of %d cores was asked for, and this process may use %d", each, usable);
    } else if (st == RM_OK) {
        const int places = usable / each, place = local_rank % places;
        memcpy(out->core, all->core + (ptrdiff_t)place * each, (size_t)each * sizeof out->core[0]);
        qsort(out->core, (size_t)each, sizeof out->core[0], ascending);
        out->n = each;
        out->shared = local_rank >= places;
    }
    free(all);
    return st;
}

rm_status rm_cores_plan(int n_devices_max, int threads, int local_rank, rm_cores *out)
{
    const int each = rm_cores_each(n_devices_max, threads);
    RM_TRY(rm_cores_take(each, local_rank, out));
    out->shared |= n_devices_max > rm_devices_max(each);
    return RM_OK;
}

rm_status rm_cores_pin(const rm_cores *cores)
{
    int most = 1024;
    for (int i = 0; i < cores->n; i++)
        while (cores->core[i] >= most) most *= 2;
    cpu_set_t *set = CPU_ALLOC((size_t)most);
    if (!set) return rm_fail(RM_E_NOMEM, "out of memory pinning to cores");
    const size_t size = CPU_ALLOC_SIZE((size_t)most);
    CPU_ZERO_S(size, set);
    for (int i = 0; i < cores->n; i++) CPU_SET_S((size_t)cores->core[i], size, set);
    const int failed = sched_setaffinity(0, size, set);
    const int why = errno;
    CPU_FREE(set);
    if (failed == 0) return RM_OK;
    char text[128];
    rm_cores_text(cores, text, sizeof text);
    errno = why;
    return rm_fail_errno("cannot pin to %s", text);
}

void rm_cores_text(const rm_cores *cores, char *text, size_t size)
{
    size_t used = 0;
    int n = snprintf(text, size, "%scores ", cores->shared ? "shared " : "");
    for (int i = 0; i < cores->n && n >= 0 && (used += (size_t)n) < size;) {
        int last = i;
        while (last + 1 < cores->n && cores->core[last + 1] == cores->core[last] + 1) last++;
        n = snprintf(text + used, size - used, "%s%d-%d", i ? "," : "", cores->core[i], cores->core[last]);
        i = last + 1;
    }
}
