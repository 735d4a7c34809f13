/* The GPU that plans are made for: one that is there, or one that is described in a text file and not there. cuDNN 9 chooses
 * engines and builds execution plans from the description alone, without handle, driver or device; only running them needs the GPU.
 * Threads: immutable once made; may be shared. */
#ifndef RM_CUDA_CUDNN_DEVICE_H
#define RM_CUDA_CUDNN_DEVICE_H
#include "kernels/cuda/cudnn_graph.h"

typedef struct rm_cudnn_device {
    char name[96];       /* "NVIDIA H100 80GB HBM3" */
    char identity[256];  /* what plans depend on: versions of cuDNN and driver, name, architecture, multiprocessors. One line */
    bool described;      /* not there: what must be compiled by the driver cannot be */
    int  sm;             /* 80, 90, 100 */
    int  multiprocessors;
    cudnnBackendDescriptor_t d;
} rm_cudnn_device;

/* From a file: a JSON object in cuDNN's own form (what rm_cudnn_device_json() gives on a machine with the GPU), with lines that
 * begin with '#' as comments. RM_E_IO, RM_E_FORMAT naming file, line and cause. The caller frees with rm_cudnn_device_free(). */
rm_status rm_cudnn_device_read(const char *path, rm_cudnn_device **out_device) RM_CHECKED;
/* GPU number `ordinal` of this machine. RM_E_DEVICE in cuDNN's words where there is none. */
rm_status rm_cudnn_device_open(int ordinal, rm_cudnn_device **out_device) RM_CHECKED;
/* The description as JSON text, one line; the caller frees. */
rm_status rm_cudnn_device_json(const rm_cudnn_device *dev, char **out_json) RM_CHECKED;
void      rm_cudnn_device_free(rm_cudnn_device *dev); /* NULL is fine */
#endif
