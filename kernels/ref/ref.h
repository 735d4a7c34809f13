/* The kernels of the ref device: the oracle, obvious loops over doubles in NCHW. Each gets the completed op and the
 * operands' addresses (t[slot], NULL when unused) and returns a status. Nothing here is written for speed beyond having
 * the innermost loop contiguous. */
#ifndef RM_REF_H
#define RM_REF_H
#include "kernels/device.h"

typedef rm_status ref_kernel(const rm_op *op, void *const t[RM_SLOT_COUNT]);

ref_kernel ref_conv, ref_conv_bwd_data, ref_conv_bwd_weights;
ref_kernel ref_bn, ref_bn_bwd;                     /* SAVED: mean[C], then 1/std[C], doubles */
ref_kernel ref_relu, ref_relu_bwd, ref_add;
ref_kernel ref_maxpool, ref_maxpool_bwd;           /* SAVED: int32 position h*W + w of each output's maximum */
ref_kernel ref_avgpool, ref_avgpool_bwd;
ref_kernel ref_fc, ref_fc_bwd_data, ref_fc_bwd_weights;
ref_kernel ref_softmax_xent, ref_optim, ref_reorder, ref_augment;
#endif
