#include "kernels/comm/mpi_settings.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool always(rm_world w) { return w.size > 0; }

bool mpi_settings_cores_shared(rm_world w)
{
    const char *said = getenv("RINGMARK_SHARED_CORES");
    return (said && !strcmp(said, "1")) || w.local_size > sysconf(_SC_NPROCESSORS_ONLN);
}

/* Only what our own calls, the non-blocking collectives, are moved by; each with what it is worth. */
static const struct setting { const char *library, *name, *value; bool (*when)(rm_world w); } settings[] = {
    /* Ring: the default at two ranks is binomial, half duplex, twice the time. */
    { "Open MPI", "OMPI_MCA_coll_libnbc_iallreduce_algorithm", "1", always },
    /* The default queues control messages behind bulk: 1.5 to 2 times slower over TCP. */
    { "Open MPI", "OMPI_MCA_btl_tcp_rdma_pipeline_frag_size", "131072", always },
    /* A rank that polls at start and end would keep the core from the one it waits for. */
    { "Open MPI", "OMPI_MCA_mpi_yield_when_idle", "1", mpi_settings_cores_shared },
};

void mpi_settings_apply(const char *library, rm_world world, char *made, size_t size)
{
    size_t used = 0;
    made[0] = '\0';
    for (size_t i = 0; i < RM_COUNT(settings); i++) {
        const struct setting *s = &settings[i];
        if (strncmp(library, s->library, strlen(s->library)) != 0 || !s->when(world) || getenv(s->name)) continue;
        if (setenv(s->name, s->value, 0) != 0) continue; /* out of memory: the library's own default it is */
        const int n = snprintf(made + used, size - used, "%s%s=%s", used ? " " : "", s->name, s->value);
        if (n < 0 || (size_t)n >= size - used) return;
        used += (size_t)n;
    }
}
