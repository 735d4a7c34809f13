/* The ref device: every float tensor is NCHW doubles whatever the op's data type says, every call is finished when it
 * returns, one queue is as good as another. It says what is right; nobody runs it for speed. */
#include "kernels/ref/ref.h"
#include "kernels/hostbuf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ref_kernel *const kernel[RM_OPCODE_COUNT] = {
    [RM_OP_CONV] = ref_conv, [RM_OP_CONV_BWD_DATA] = ref_conv_bwd_data, [RM_OP_CONV_BWD_WEIGHTS] = ref_conv_bwd_weights,
    [RM_OP_BN] = ref_bn, [RM_OP_BN_BWD] = ref_bn_bwd, [RM_OP_RELU] = ref_relu, [RM_OP_RELU_BWD] = ref_relu_bwd,
    [RM_OP_ADD] = ref_add, [RM_OP_MAXPOOL] = ref_maxpool, [RM_OP_MAXPOOL_BWD] = ref_maxpool_bwd,
    [RM_OP_AVGPOOL] = ref_avgpool, [RM_OP_AVGPOOL_BWD] = ref_avgpool_bwd, [RM_OP_FC] = ref_fc,
    [RM_OP_FC_BWD_DATA] = ref_fc_bwd_data, [RM_OP_FC_BWD_WEIGHTS] = ref_fc_bwd_weights,
    [RM_OP_SOFTMAX_XENT] = ref_softmax_xent, [RM_OP_OPTIM] = ref_optim, [RM_OP_REORDER] = ref_reorder, [RM_OP_AUGMENT] = ref_augment,
};

/* ---- device */
static rm_status ref_available(void) { return RM_OK; }

static rm_status ref_open(const rm_device_config *cfg, rm_device **out_device)
{
    rm_device *d = calloc(1, sizeof *d);
    if (!d) return rm_fail(RM_E_NOMEM, "out of memory opening the ref device");
    *out_device = d;
    return RM_OK;
}

static void ref_close(rm_device *d) { free(d); }

static void ref_info(const rm_device *d, rm_device_info *out_info)
{
    *out_info = (rm_device_info){ .device = "ref", .name = "reference loops", .library = "none", .isa = "generic", .threads = 1,
                                  .memory_bytes = rm_host_memory_bytes(), .dtypes = 1u << RM_F32 | 1u << RM_F64,
                                  .native_dtypes = 1u << RM_F64 };
}

/* ---- ops */
static size_t ref_layout_bytes(rm_device *d, const rm_tdesc *t)
{
    size_t each = t->dtype == RM_U8 || t->dtype == RM_I32 ? rm_dtype_bytes(t->dtype) : sizeof(double);
    return rm_shape_count(t->shape) * each;
}

static bool computes(rm_dtype t) { return t == RM_F32 || t == RM_F64; }

static rm_status ref_supports(const rm_op *op)
{
    bool image = op->code == RM_OP_AUGMENT;
    if ((!image && !computes(op->x.dtype)) || !computes(op->y.dtype) || (op->w.shape.n && !computes(op->w.dtype)))
        return rm_fail(RM_E_UNSUPPORTED, "%s: the ref device computes in fp64 and takes fp32 or fp64 only", rm_opcode_name(op->code));
    if (op->code == RM_OP_REORDER && (op->x.layout > RM_LAYOUT_NCHW || op->y.layout > RM_LAYOUT_NCHW))
        return rm_fail(RM_E_UNSUPPORTED, "reorder: the ref device has the layout nchw only");
    if (image && op->x.layout != RM_LAYOUT_NHWC && op->x.layout != RM_LAYOUT_ANY)
        return rm_fail(RM_E_UNSUPPORTED, "augment: images must be nhwc");
    return RM_OK;
}

static size_t saved_bytes(const rm_op *op)
{
    switch (op->code) {
    case RM_OP_BN: case RM_OP_BN_BWD: return op->u.bn.training ? 2 * sizeof(double) * (size_t)op->x.shape.c : 0;
    case RM_OP_MAXPOOL: case RM_OP_MAXPOOL_BWD: return sizeof(int32_t) * rm_shape_count(op->y.shape);
    default: return 0;
    }
}

static rm_status ref_plan_op(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    RM_TRY(ref_supports(op));
    rm_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return rm_fail(RM_E_NOMEM, "out of memory planning %s", rm_opcode_name(op->code));
    plan->op = *op;
    if (op->code == RM_OP_OPTIM) { /* the caller's table need not outlive the plan */
        size_t bytes = op->u.optim.n_segment * sizeof(rm_segment);
        rm_segment *own = malloc(bytes);
        if (!own) { free(plan); return rm_fail(RM_E_NOMEM, "out of memory planning optim"); }
        memcpy(own, op->u.optim.segment, bytes);
        plan->op.u.optim.segment = own;
    }
    *out_plan = plan;
    *out_info = (rm_plan_info){ .impl = "ref", .x = op->code == RM_OP_AUGMENT ? RM_LAYOUT_NHWC : RM_LAYOUT_NCHW,
                                .x2 = RM_LAYOUT_NCHW, .w = RM_LAYOUT_NCHW, .y = RM_LAYOUT_NCHW, .saved_bytes = saved_bytes(op),
                                .flops = rm_op_flops(op), .bytes_read = rm_op_bytes_read(op), .bytes_written = rm_op_bytes_written(op) };
    return RM_OK;
}

static rm_status ref_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    void *t[RM_SLOT_COUNT];
    for (int i = 0; i < RM_SLOT_COUNT; i++) t[i] = plan->used >> i & 1 ? rm_hostbuf_at(args->t[i]) : NULL;
    return kernel[plan->op.code](&plan->op, t);
}

static void ref_plan_free(rm_device *d, rm_plan *plan)
{
    if (plan->op.code == RM_OP_OPTIM) free((void *)plan->op.u.optim.segment);
    free(plan);
}

const rm_device_ops rm_device_ref = {
    .abi = RM_DEVICE_ABI, .name = "ref", .summary = "reference: obvious loops in double precision, slow",
    .available = ref_available, .open = ref_open, .close = ref_close, .info = ref_info,
    .alloc = rm_hostbuf_alloc, .release = rm_hostbuf_release, .host = rm_hostbuf_host,
    .write = rm_hostsync_write, .read = rm_hostsync_read, .fill = rm_hostsync_fill,
    .queue_new = rm_hostsync_queue_new, .queue_free = rm_hostsync_queue_free, .sync = rm_hostsync_sync,
    .mark_new = rm_hostsync_mark_new, .mark_free = rm_hostsync_mark_free, .mark_set = rm_hostsync_mark_set, .mark_wait = rm_hostsync_mark_wait,
    .mark_done = rm_hostsync_mark_done, .mark_ns = rm_hostsync_mark_ns, .spin = rm_hostsync_spin,
    .layout_bytes = ref_layout_bytes, .plan = ref_plan_op, .run = ref_run, .plan_free = ref_plan_free,
};
