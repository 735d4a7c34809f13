/* Parity: one training step of ResNet-50 on small images, on a device and on ref, from the same weights and images.
 *
 * A deep ReLU net is ill-conditioned: rounding closes a ReLU here and opens one there, and gradients of float and double differ by
 * percents though both are right. So the step is taken where that is mild: small last gammas of blocks, betas of 1 (float then
 * differs from double by about 1e-5, and a flip by 1e-2). A wrong kernel gives errors near 1. Takes seconds, nearly all of them on ref.
 * One thread at a time. */
#ifndef RM_PARITY_H
#define RM_PARITY_H
#include "kernels/device.h"

typedef struct rm_parity {
    rm_dtype dtype;
    double loss, ref_loss;
    double loss_error, loss_limit;          /* relative */
    double gradient_error, gradient_limit;  /* |got - ref| / |ref| (2-norm) of the worst layer's, */
    char   worst[96];                       /* ... and its name */
    bool   passed;
} rm_parity;
/* Wrong numbers are a result, not an error. dtype: RM_F32, RM_TF32, RM_BF16 or RM_F16. Sync. */
rm_status rm_parity_check(rm_device *d, rm_dtype dtype, rm_parity *out) RM_CHECKED;
#endif
