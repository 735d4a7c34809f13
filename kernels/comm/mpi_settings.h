/* Settings of the MPI library, made through the environment before MPI_Init. Nothing here calls MPI. */
#ifndef RM_COMM_MPI_SETTINGS_H
#define RM_COMM_MPI_SETTINGS_H
#include "kernels/comm/comm.h"

/* Sets what the table has for `library` ("Open MPI 4.1.4") and the user has not set, and writes "NAME=value NAME=value" of
 * those into `made`. Call before any other thread exists that reads the environment. */
void mpi_settings_apply(const char *library, rm_world world, char *made, size_t size);
/* Ranks share processors: more of them than there are here, or the launcher says so because the ranks' cores are fewer. */
bool mpi_settings_cores_shared(rm_world world);
#endif
