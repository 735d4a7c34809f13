/* A GPU as its maker describes it, for projections: bench/gpus/NAME.gpu, built in, or a file of the user's.
 *   name = NVIDIA H100 SXM5 80 GB
 *   memory_bytes_per_s = 3.35e12 ; published ; NVIDIA H100 data sheet, SXM
 * A value without its label (published, worked out, measured, assumed) and its source is refused. '#' begins a comment line. */
#ifndef RM_BENCH_GPU_FILE_H
#define RM_BENCH_GPU_FILE_H
#include "base/status.h"
#include <jansson.h>

typedef enum gpu_figure {
    GPU_BF16_FLOPS, GPU_FP16_FLOPS, GPU_TF32_FLOPS, GPU_FP32_FLOPS, GPU_MEMORY_BYTES, GPU_KERNEL_S, GPU_COMPUTE_EFFICIENCY, GPU_MEMORY_EFFICIENCY, GPU_FIGURES
} gpu_figure;
typedef struct gpu_value { double v; char label[16], source[160]; } gpu_value;
typedef struct gpu_file { char name[96]; gpu_value value[GPU_FIGURES]; } gpu_file;

/* RM_E_FORMAT naming `where`, the line and the cause; also for a figure that is missing, given twice, not above 0, or an efficiency above 1. */
rm_status   gpu_file_parse(const char *text, const char *where, gpu_file *out) RM_CHECKED;
/* A built-in name, else a file. RM_E_ARG: neither, with the names that there are. */
rm_status   gpu_file_load(const char *name, gpu_file *out) RM_CHECKED;
const char *gpu_figure_key(gpu_figure f);
/* {"name", "figures": [{"name", "value", "label", "source"}]}; new reference. */
json_t     *gpu_file_json(const gpu_file *g);
#endif
