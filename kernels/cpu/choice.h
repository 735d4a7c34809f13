/* Frozen plans: which implementation of a convolution the cpu device takes.
 *
 * Left alone, the device times the candidates of an op the first time it is planned, and keeps to the winner. Ranks and
 * twins that must run the same code are given the winners of one of them. */
#ifndef RM_KERNELS_CPU_CHOICE_H
#define RM_KERNELS_CPU_CHOICE_H
#include "kernels/device.h"

/* Choices made or forced so far: key and implementation of number i, or false. Valid until the next plan. */
bool      cpu_choice_at(const rm_device *d, size_t i, const char **out_key, const char **out_impl);
/* Later plans of the op whose key is `key` take the implementation whose name (rm_plan_info.impl) is `impl`; where it
 * cannot be had, the first one that can. The key is the op's text with the layouts the device settled on. */
rm_status cpu_choice_force(rm_device *d, const char *key, const char *impl) RM_CHECKED;
#endif
