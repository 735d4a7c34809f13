/* Peaks: what this device can do at most, measured on it, at each precision it has. What rooflines and MFU are shares of.
 * Takes about two seconds on the cpu device; uses the device's threads. Threads: as the device. */
#ifndef RM_PEAKS_H
#define RM_PEAKS_H
#include "kernels/device.h"
#include "profiler/roofline.h"

enum { RM_MOST_PEAKS = 24 };
/* name: "fma fp32", "dot bf16", "gemm fp32", "gemm bf16", "read L2", "read L3", "read memory", "triad memory"; unit: "FLOP/s" or "B/s". value NaN: `why` says
 * why there is none ("this processor has no bf16 dot product"). how: in words, with sizes and threads. */
typedef struct rm_peak { char name[32], unit[8], how[96], why[96]; double value; } rm_peak;
typedef struct rm_peaks { rm_peak at[RM_MOST_PEAKS]; int n; rm_roof_level level[RM_ROOF_LEVELS]; int n_level; } rm_peaks;

/* RM_E_UNSUPPORTED for devices without peaks (ref, null). Each figure is the best of several repetitions: a peak is what the machine can do. Sync. */
rm_status rm_device_peaks(rm_device *d, rm_peaks *out) RM_CHECKED;
double    rm_peak_of(const rm_peaks *p, const char *name);              /* NaN: not there */
/* The roof for ops of this type: the highest of its FLOP/s peaks, and the levels. */
rm_roof   rm_peaks_roof(const rm_peaks *p, rm_dtype dtype);
#endif
