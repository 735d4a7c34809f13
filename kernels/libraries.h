/* The vendor's libraries in this program, for "bench info". */
#ifndef RM_LIBRARIES_H
#define RM_LIBRARIES_H
#include <stddef.h>

typedef struct rm_library { const char *name; char version[32]; } rm_library; /* version "": not in this program */
enum { RM_LIBRARIES = 4 };
/* CUDA runtime, cuDNN, NCCL, CUPTI. None of them needs a GPU for it. */
void        rm_libraries(rm_library out[RM_LIBRARIES]);
int         rm_cuda_runtime(void);      /* 13000; 0: not in this program */
const char *rm_cuda_missing(void);      /* why the cuda device is not in this program, as found when it was built; "" where it is */
#endif
