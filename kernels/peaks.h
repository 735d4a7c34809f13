/* Peaks: what this device can do at most, measured on it, at each precision it has. What rooflines and MFU are shares of.
 * Takes about two seconds on the cpu device; uses the device's threads. Threads: as the device. */
#ifndef RM_PEAKS_H
#define RM_PEAKS_H
#include "kernels/device.h"
#include "profiler/roofline.h"

enum { RM_MOST_PEAKS = 24 };
/* name: "fma fp32", "dot bf16", "gemm fp32", "gemm bf16", "read L2", "read L3", "read memory", "triad memory"; unit: "FLOP/s" or "B/s". value NaN: `why` says
 * why there is none ("this processor has no bf16 dot product"). how: in words, with sizes and threads.
 * disturbed: other work had the cores for more than a hundredth of the best run: the machine can do more. */
typedef struct rm_peak { char name[32], unit[8], how[128], why[96]; double value; bool disturbed; } rm_peak;
/* level: caches in ascending order, with the bytes that all threads of the device have of them together, then memory. A level whose
 * bandwidth could not be measured is not there. */
typedef struct rm_peaks { rm_peak at[RM_MOST_PEAKS]; int n; rm_roof_level level[RM_ROOF_LEVELS]; int n_level; } rm_peaks;

/* RM_E_UNSUPPORTED for devices without peaks (ref, null). Each figure is the best of several repetitions: a peak is what the machine can do.
 * Every loop's result is checked: RM_E_NUMERIC when one is wrong. On the cpu device it takes 256 MB or four times the last-level cache for a
 * moment, less where less is left. Sync. */
rm_status rm_device_peaks(rm_device *d, rm_peaks *out) RM_CHECKED;
double    rm_peak_of(const rm_peaks *p, const char *name);              /* NaN: not there, or without a value */
/* The name of a type in the names of peaks, as --dtype has it: "fp32", "bf16". */
const char *rm_peak_type(rm_dtype dtype);
/* The roof for ops of this type: the highest of its FLOP/s peaks, and the levels. A type narrower than fp32 may be computed in fp32, and is where
 * the machine has no arithmetic for it: the fp32 peaks count for it too. */
rm_roof   rm_peaks_roof(const rm_peaks *p, rm_dtype dtype);

/* ---- for devices: adds a figure; NaN with `why`, else why is NULL. Breach: more than RM_MOST_PEAKS. */
void      rm_peaks_add(rm_peaks *p, const char *name, const char *unit, double value, const char *how, const char *why);
#endif
