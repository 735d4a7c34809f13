/* Which caches the cores of this process have (see peaks.h). */
#include "kernels/cpu/peaks.h"
#include <hwloc.h>

/* Those of one kind that any of our cores uses. */
static void count(hwloc_topology_t t, hwloc_const_bitmap_t ours, hwloc_obj_type_t type, size_t *bytes, int *n)
{
    for (hwloc_obj_t c = NULL; (c = hwloc_get_next_obj_by_type(t, type, c));) {
        if (!hwloc_bitmap_intersects(c->cpuset, ours) || !c->attr || !c->attr->cache.size) continue;
        *bytes = (size_t)c->attr->cache.size; /* of processors with unlike cores the last one's */
        *n += 1;
    }
}

cpu_caches cpu_peak_caches(void)
{
    cpu_caches c = { 0 };
    hwloc_topology_t t;
    hwloc_bitmap_t ours = hwloc_bitmap_alloc();
    if (ours && hwloc_topology_init(&t) == 0) {
        if (hwloc_topology_load(t) == 0) {
            if (hwloc_get_cpubind(t, ours, HWLOC_CPUBIND_PROCESS) != 0) hwloc_bitmap_copy(ours, hwloc_topology_get_allowed_cpuset(t));
            count(t, ours, HWLOC_OBJ_L2CACHE, &c.l2_bytes, &c.n_l2);
            count(t, ours, HWLOC_OBJ_L3CACHE, &c.l3_bytes, &c.n_l3);
        }
        hwloc_topology_destroy(t);
    }
    hwloc_bitmap_free(ours);
    return c;
}
