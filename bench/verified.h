/* The first use of a GPU, of a driver or of a library: is what it computes what the ref device computes? One training step in fp32, which is compared
 * sharply, and one in the type that the run computes in (model/parity.h); each answer is kept beside the plans (kernels/plans.h), so that it takes seconds once. */
#ifndef BENCH_VERIFIED_H
#define BENCH_VERIFIED_H
#include "bench/bench.h"
#include "kernels/device.h"
#include <jansson.h>

/* For devices with a caveat (others: nothing is done): sets info->caveat to what is known from earlier uses, "" where the checks in fp32 and
 * in `dtype` passed. */
void      bench_verified_known(rm_device_info *info, rm_dtype dtype);
/* The same, after a check where nothing is known; says on stderr that it runs and what came out. A check that fails is RM_E_NUMERIC. On one
 * rank alone. Sync. */
rm_status bench_verify(rm_device *d, rm_dtype dtype, rm_device_info *info) RM_CHECKED;
#endif
