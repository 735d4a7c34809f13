/* Who am I among the ranks, by the variables that launchers set, and where; asked before any MPI library is touched. */
#include "kernels/comm/comm.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* One launcher's names. `size` is the variable that tells a rank from a shell in an allocation: Slurm sets SLURM_NTASKS and
 * even SLURM_PROCID for batch scripts, but SLURM_STEP_NUM_TASKS only for what srun started. */
typedef struct launcher_names { const char *rank, *size, *local_rank, *local_size; } launcher_names;
static const launcher_names launchers[] = {
    { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE" },
    { "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS" },
    { "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "" },
};

/* A number of 0 or more, or `fallback` when the variable is missing or anything else ("4(x2)"). */
static int number_of(const char *name, int fallback)
{
    const char *text = name[0] ? getenv(name) : NULL;
    char *end;
    if (!text || !*text) return fallback;
    errno = 0;
    const long v = strtol(text, &end, 10);
    return errno == 0 && *end == '\0' && v >= 0 && v <= 1 << 24 ? (int)v : fallback;
}

/* Tasks on this node from Slurm's "4,4,2" or "4(x2),2"; 0 when that is not given. Uneven nodes give the first count. */
static int slurm_local_size(void)
{
    const char *text = getenv("SLURM_STEP_TASKS_PER_NODE");
    return text ? atoi(text) : 0; // NOLINT(cert-err34-c): a list that begins with the number
}

bool rm_world_is_rank(void)
{
    for (size_t i = 0; i < RM_COUNT(launchers); i++)
        if (number_of(launchers[i].rank, -1) >= 0 && number_of(launchers[i].size, 0) > 0) return true;
    return false;
}

rm_world rm_world_from_env(void)
{
    for (size_t i = 0; i < RM_COUNT(launchers); i++) {
        const launcher_names *l = &launchers[i];
        const int rank = number_of(l->rank, -1), size = number_of(l->size, 0);
        if (rank < 0 || size <= 1 || rank >= size) continue;
        int local_size = l->local_size[0] ? number_of(l->local_size, 0) : slurm_local_size();
        if (local_size < 1 || local_size > size) local_size = size;
        const int local_rank = number_of(l->local_rank, rank % local_size);
        return (rm_world) { rank, size, local_rank, local_size };
    }
    return (rm_world) { 0, 1, 0, 1 };
}

void rm_comm_own_host(rm_comm_host_name out)
{
    if (gethostname(out, RM_COMM_HOST_BYTES - 1) != 0 || !out[0]) snprintf(out, RM_COMM_HOST_BYTES, "an unnamed host");
    out[RM_COMM_HOST_BYTES - 1] = '\0'; /* a longer name may come without an end */
}
