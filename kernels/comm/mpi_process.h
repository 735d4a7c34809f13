/* MPI's beginning and end, which belong to the process whatever communicators there are: MPI allows one MPI_Init and one MPI_Finalize.
 * rm_comm_leave() and rm_comm_settings() of comm.h are here too. */
#ifndef RM_COMM_MPI_PROCESS_H
#define RM_COMM_MPI_PROCESS_H
#include "kernels/comm/comm.h"

/* Begins MPI where nobody has, after its settings were made (mpi_settings.h), with errors returned. `timeout_ns`: how long
 * rm_comm_leave() waits for the peers. RM_E_UNSUPPORTED: it has ended, or has no threads; RM_E_PEER. */
rm_status mpi_process_begin(uint64_t timeout_ns) RM_CHECKED;
/* Every rank ends with `exit_code`, this one within seconds. Returns only where the library's own call does. */
void mpi_process_abort(int exit_code);
/* "Open MPI 4.1.4"; needs no MPI_Init. Any thread. */
const char *mpi_process_library(void);
#endif
