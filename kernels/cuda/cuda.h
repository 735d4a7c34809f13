/* What the cuda device shows to what else speaks CUDA (kernels/comm/nccl.c): its streams. Everything else goes through kernels/device.h:
 * order and times are marks, a buffer's address is rm_buf.ptr. Threads: as the device. */
#ifndef RM_CUDA_H
#define RM_CUDA_H
#include "kernels/device.h"
#include <cuda_runtime_api.h>

/* RM_OK, or records "cuda: WHAT: <the runtime's words>"; RM_E_NOMEM where memory is short, else RM_E_DEVICE. */
rm_status    rm_cuda_check(cudaError_t e, const char *what) RM_CHECKED;
cudaStream_t rm_cuda_stream(rm_device *d, rm_queue *q);    /* NULL: of the compute queue */
int          rm_cuda_ordinal(const rm_device *d);          /* to be given to cudaSetDevice() by other threads that call CUDA */
#endif
