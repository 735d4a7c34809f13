/* NVML: what NVIDIA's driver says of the GPUs it drives.
 *
 * The library belongs to the driver and is loaded when it is asked for, so this is in every build and runs where there is no driver.
 * $RM_NVML_LIBRARY names another library than libnvidia-ml.so.1 (tests). What a driver, a GPU or a permission does not give is missing with
 * its reason in words, never a failure: functions came and went over the versions of NVML.
 * Threads: one at a time per object; NVML itself counts its users. Questions take from microseconds to milliseconds: never inside
 * a timed window. */
#ifndef RM_NVML_H
#define RM_NVML_H
#include "base/status.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { RM_NVML_GPUS = 64, RM_NVML_TEXT = 96 };

/* Numbers of one GPU, in the units of their keys. */
typedef enum rm_gpu_number {
    RM_GPU_SM_MHZ, RM_GPU_MEMORY_MHZ, RM_GPU_SM_MAX_MHZ, RM_GPU_MEMORY_MAX_MHZ, RM_GPU_SM_APPLICATION_MHZ, RM_GPU_MEMORY_APPLICATION_MHZ,
    RM_GPU_POWER_LIMIT_MW, RM_GPU_POWER_DEFAULT_MW, RM_GPU_POWER_MW, RM_GPU_ENERGY_MJ, RM_GPU_TEMPERATURE_C, RM_GPU_REASONS,
    RM_GPU_ECC, RM_GPU_MIG, RM_GPU_PERSISTENCE, RM_GPU_COMPUTE_MODE,                      /* 0 off, 1 on; compute mode: rm_gpu_compute_mode() */
    RM_GPU_PCIE_GENERATION, RM_GPU_PCIE_WIDTH, RM_GPU_PCIE_MAX_GENERATION, RM_GPU_PCIE_MAX_WIDTH,
    RM_GPU_MEMORY_BYTES, RM_GPU_MEMORY_USED_BYTES,
    RM_GPU_CAPABILITY,                                                                    /* 90 is 9.0 */
    RM_GPU_NVLINKS,                                                                       /* that are up */
    RM_GPU_NUMBERS
} rm_gpu_number;

typedef struct rm_gpu {
    char    name[RM_NVML_TEXT], uuid[RM_NVML_TEXT], serial[RM_NVML_TEXT], bus[RM_NVML_TEXT]; /* "" where not to be had; printable ASCII */
    int64_t v[RM_GPU_NUMBERS];                                                               /* -1: not to be had */
    char    why[RM_GPU_NUMBERS][RM_NVML_TEXT];                                               /* and why not */
} rm_gpu;

typedef struct rm_nvml rm_nvml;
/* RM_E_UNSUPPORTED in words: no library, no driver behind it, no permission. *out_code, where not NULL: NVML's return code, -1 for no library. */
rm_status   rm_nvml_open(rm_nvml **out, int *out_code) RM_CHECKED;
void        rm_nvml_close(rm_nvml *n);             /* NULL is fine */
int         rm_nvml_count(const rm_nvml *n);
const char *rm_nvml_driver(const rm_nvml *n);      /* "580.65.06"; "" unknown */
const char *rm_nvml_version(const rm_nvml *n);     /* of the library */
int         rm_nvml_cuda(const rm_nvml *n);        /* newest CUDA that the driver can run: 13000; 0 unknown */
/* The GPU with this PCI address ("0000:1b:00.0", as CUDA has it); -1: NVML knows none. */
int         rm_nvml_find(const rm_nvml *n, const char *bus);
void        rm_nvml_gpu(const rm_nvml *n, int gpu, rm_gpu *out);
int64_t     rm_nvml_number(const rm_nvml *n, int gpu, rm_gpu_number k, const char **out_why); /* -1: *out_why is static. out_why may be NULL */

/* How two GPUs are joined, nearest first. */
typedef enum rm_gpu_link { RM_LINK_NVLINK, RM_LINK_BOARD, RM_LINK_SWITCH, RM_LINK_SWITCHES, RM_LINK_BRIDGE, RM_LINK_NODE, RM_LINK_SYSTEM, RM_LINK_UNKNOWN } rm_gpu_link;
rm_gpu_link rm_nvml_link(const rm_nvml *n, int a, int b);
const char *rm_gpu_link_words(rm_gpu_link l);      /* "NVLink", "one PCIe switch", ... */
/* All pairs in words, by the farthest pair: "alone", "NVLink between all", "NVLink between some, else one host bridge". No number of GPUs. */
void        rm_nvml_links_words(const rm_nvml *n, char *out, size_t size);

/* Who computes on a GPU. -1: not told, with *out_why. At most `room` are written; the answer is how many there are. */
typedef struct rm_gpu_process { uint32_t pid; int64_t memory_bytes; } rm_gpu_process;
int         rm_nvml_processes(const rm_nvml *n, int gpu, rm_gpu_process *out, int room, const char **out_why);
/* Instances that a GPU in MIG mode was cut into: -1 unknown. */
int         rm_nvml_mig_instances(const rm_nvml *n, int gpu);

const char *rm_gpu_compute_mode(int64_t mode);     /* "default", "exclusive process", "prohibited", ... */
const char *rm_gpu_number_key(rm_gpu_number k);    /* "sm_mhz", "power_limit_w", ... */
double      rm_gpu_number_scale(rm_gpu_number k);  /* to the unit of that key */
/* Words for reasons of lowered clocks: ["power cap", "hardware thermal", ...]; new reference. */
json_t     *rm_gpu_reasons_json(uint64_t reasons);
/* Those that slow a step down: neither "idle" nor clocks that somebody chose. */
bool        rm_gpu_throttled(uint64_t reasons);

/* {"driver", "cuda_driver", "nvml", "links", "gpus": [{"index", "name", "uuid", "serial", "bus", every number by its key or null with "<key>_reason",
 * "throttle_reasons", "processes": [{"pid", "memory_bytes"}], "linked": [words to each GPU]}]}; new reference, NULL when memory ran out. */
json_t     *rm_nvml_json(const rm_nvml *n);

/* What a run on one GPU is filed under (hard) and what is only shown (soft); for rm_runinfo_json(). Power limit, application clocks,
 * ECC, MIG, driver and how the GPUs are joined change how fast the same program is. Texts live as long as *f. */
enum { RM_GPU_FACTS = 28 };
typedef struct rm_gpu_facts { char text[RM_GPU_FACTS][RM_NVML_TEXT]; const char *name[RM_GPU_FACTS]; int hard[RM_GPU_FACTS]; int n; } rm_gpu_facts;
void        rm_gpu_facts_of(const char *bus, rm_gpu_facts *out);
#endif
