/* Inside the op harness: the operands of an op as host doubles in logical NCHW order, and the way to a device and back. */
#ifndef RM_CHECK_DATA_H
#define RM_CHECK_DATA_H
#include "kernels/device.h"

/* Operands of an op and of the forward op it belongs to (fwd.code == op.code where it is its own). */
typedef struct check_case {
    rm_op       op, fwd;
    rm_segment *segment;                 /* made for OPTIM without a table; else NULL */
    double     *v[RM_SLOT_COUNT];        /* inputs; NULL where neither op reads the slot */
} check_case;

/* Values of every input, and Y of a backward op by running the forward op on `ref`. */
rm_status check_case_new(rm_device *ref, const rm_op *op, uint64_t seed, check_case *out) RM_CHECKED;
void      check_case_free(check_case *c);
rm_opcode check_forward_of(rm_opcode code);

/* An op planned on a device with a buffer for each operand. */
typedef struct check_run {
    rm_device   *d;
    rm_op        op;
    rm_plan     *plan;
    rm_plan_info info;
    rm_buf      *buf[RM_SLOT_COUNT], *workspace;
    bool         wide, borrowed;         /* floats are doubles (ref); SAVED belongs to another run */
} check_run;

/* saved: the SAVED buffer of the forward run, or NULL. On failure nothing is left. */
rm_status check_run_open(rm_device *d, const rm_op *op, rm_buf *saved, check_run *out) RM_CHECKED;
void      check_run_close(check_run *r);
/* Between doubles in NCHW and the operand in the planned type and layout; private layouts go through the device's REORDER. */
rm_status check_run_put(check_run *r, rm_slot slot, const double *v) RM_CHECKED;
rm_status check_run_get(check_run *r, rm_slot slot, double *v) RM_CHECKED;
/* Puts every input of the case, so that UPDATE operands start afresh. */
rm_status check_run_load(check_run *r, const check_case *c) RM_CHECKED;
rm_status check_run_go(check_run *r) RM_CHECKED; /* enqueue and sync */
rm_args   check_run_args(const check_run *r);

/* v rounded to the nearest value of a type. */
double    check_round(rm_dtype dtype, double v);
#endif
