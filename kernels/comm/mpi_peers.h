/* Who is missing: once a wait has lasted long, ranks tell each other which job they are in, so that the line of a time-out names those
 * that did not come. Only the thread that calls MPI may call these. */
#ifndef RM_COMM_MPI_PEERS_H
#define RM_COMM_MPI_PEERS_H
#include "kernels/comm/comm.h"
#include <mpi.h>

typedef struct mpi_peer mpi_peer;
/* All zero: peers of whom nothing is known yet. */
typedef struct mpi_peers {
    MPI_Comm comm;
    int tag, rank, size;
    const rm_comm_host_name *host; /* (size) the communicator's */
    mpi_peer *peer; /* (size) */
    uint64_t job; /* the number of this rank's, counted alike on all */
    bool announced; /* for this job */
} mpi_peers;

/* RM_E_NOMEM. `comm` and `host` outlive *out. tag: of its messages; each use of a communicator has its own. */
rm_status mpi_peers_new(MPI_Comm comm, int tag, int rank, int size, const rm_comm_host_name *host, mpi_peers *out) RM_CHECKED;
/* What MPI may yet read or write stays until the process ends. */
void mpi_peers_free(mpi_peers *p);
/* A job begins; `together`: all ranks do it, in the same order. */
void mpi_peers_job(mpi_peers *p, bool together);
/* The job under way has this number, which only grows. */
void mpi_peers_job_is(mpi_peers *p, uint64_t number);
/* Says that this rank is here; sends once a job and costs nothing then. */
void mpi_peers_announce(mpi_peers *p);
/* "rank 3 on n7 did not arrive: hanging, or cut off". Listens for 0.3 s before it says so. */
void mpi_peers_missing(mpi_peers *p, char *text, size_t size);
#endif
