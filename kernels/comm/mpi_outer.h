/* For a communicator of another library that has an mpi one inside (nccl.c): who of the peers is stuck in the same place. Nothing here
 * includes MPI. `inner` is an mpi communicator, one thread at a time. */
#ifndef RM_COMM_MPI_OUTER_H
#define RM_COMM_MPI_OUTER_H
#include "kernels/comm/comm.h"

/* Tells the peers that this rank waits in its call `number`, which counts up and is the same on every rank that waits there. Waits for
 * nobody; to be called again while the wait goes on. */
rm_status mpi_outer_announce(rm_comm *inner, uint64_t number) RM_CHECKED;
/* "rank 3 on n7 did not arrive: hanging, or cut off": the ranks that have not announced this number, after listening for 0.3 s. */
rm_status mpi_outer_missing(rm_comm *inner, uint64_t number, char *text, size_t size) RM_CHECKED;
#endif
