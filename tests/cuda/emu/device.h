/* The CUDA kernels as a device of kernels/device.h, on the emulator: so that the op harness of kernels/check.h can compare
 * them with ref. It has the ops for which there is a kernel. */
#ifndef EMU_DEVICE_H
#define EMU_DEVICE_H
#include "kernels/device.h"

extern const rm_device_ops emu_device;
/* Activations (X, X2, Y, DY, DY2, DX, DX2) moved by the last run, in tensors of the size of X. */
double   emu_device_passes(const rm_device *d);
/* A number that depends on every bit read from the device since the last call. */
uint64_t emu_device_hash(rm_device *d);
/* Moves every buffer by this many bytes off its alignment (a multiple of 8), so that kernels take their narrow path. */
void     emu_device_misalign(rm_device *d, size_t bytes);
#endif
