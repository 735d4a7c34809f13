/* The op harness sees what is wrong: a device that lies in one output of one op, silently, is found in that output. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/check.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ref, with a lie after every run of one opcode. */
static struct { rm_opcode code; rm_slot slot; double factor, add; uint64_t at; bool all; } lie;

static rm_status lying_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    RM_TRY(rm_device_ref.run(d, q, plan, args));
    if (plan->op.code != lie.code) return RM_OK;
    void *at = (char *)args->t[lie.slot].buf->ptr + args->t[lie.slot].offset;
    if (lie.slot == RM_FLAG) { ((int32_t *)at)[1]++; return RM_OK; }
    double *v = at;
    uint64_t n = rm_shape_count(rm_op_tensor(&plan->op, lie.slot).shape);
    for (uint64_t i = 0; i < n; i++)
        if (lie.all || i == lie.at % n) v[i] = v[i] * lie.factor + lie.add;
    return RM_OK;
}

static rm_device_ops lying_ops;

static int open_liar(void **state)
{
    lying_ops = rm_device_ref;
    lying_ops.run = lying_run;
    lie.code = RM_OPCODE_COUNT;
    return rm_device_open_ops(&lying_ops, NULL, (rm_device **)state) != RM_OK;
}
static int close_liar(void **state)
{
    rm_device_close(*state);
    return 0;
}

static rm_check_result checked(rm_device *d, const char *text)
{
    rm_op op;
    rm_check_result r;
    assert_int_equal(rm_op_parse(text, &op), RM_OK);
    if (rm_check_op(d, &op, 7, &r) != RM_OK) fail_msg("%s: %s", text, rm_last_error());
    return r;
}

static const char *const texts[] = {
    "conv n=2 c=5 h=7 w=6 o=9 k=3 s=1 p=1", "conv_bwd_data n=2 c=5 h=7 w=6 o=9 k=3 s=2 p=1", "conv_bwd_weights n=2 c=5 h=7 w=6 o=9 k=3 s=1 p=1",
    "bn n=3 c=5 h=4 w=3 relu=1 add=1", "bn_bwd n=3 c=5 h=4 w=3 relu=1 add=1 dy2=1", "bn_bwd n=3 c=5 h=4 w=3 relu=1 add=1 dy2=1 training=0",
    "relu n=2 c=3 h=4 w=5", "relu_bwd n=2 c=3 h=4 w=5 dy2=1",
    "add n=2 c=3 h=4 w=5", "maxpool n=2 c=3 h=9 w=8 k=3 s=2 p=1", "maxpool_bwd n=2 c=3 h=9 w=8 k=3 s=2 p=1", "avgpool n=2 c=3 h=4 w=5",
    "avgpool_bwd n=2 c=3 h=4 w=5", "fc n=3 c=11 o=10", "fc_bwd_data n=3 c=11 o=10", "fc_bwd_weights n=3 c=11 o=10",
    "softmax_xent n=4 c=10 smoothing=0.1", "optim count=103 segments=8 rule=lars", "reorder n=2 c=3 h=4 w=5", "augment n=2 h=5 w=4",
};

static void truth_passes(void **state)
{
    for (size_t i = 0; i < RM_COUNT(texts); i++) {
        rm_check_result r = checked(*state, texts[i]);
        if (!r.passed) fail_msg("%s: %s", texts[i], r.why);
        assert_true(r.n >= 1);
        assert_non_null(strstr(r.reproduce, "--seed 7"));
        assert_non_null(strstr(r.reproduce, r.text));
    }
}

/* Every output of every op, one element off by a thousandth of the largest: found, and in that output only. */
static void one_wrong_element_is_found(void **state)
{
    for (size_t i = 0; i < RM_COUNT(texts); i++) {
        rm_op op;
        assert_int_equal(rm_op_parse(texts[i], &op), RM_OK);
        for (int s = 0; s < RM_SLOT_COUNT; s++) {
            if (!(rm_op_uses(&op, (rm_slot)s) & RM_WRITE) || s == RM_SAVED || s == RM_FLAG) continue;
            lie.code = op.code; lie.slot = (rm_slot)s; lie.factor = 1; lie.add = 0.001; lie.at = 5; lie.all = false;
            rm_check_result r = checked(*state, texts[i]);
            lie.code = RM_OPCODE_COUNT;
            if (r.passed) fail_msg("%s: a wrong %s was not seen", texts[i], rm_slot_name((rm_slot)s));
            for (uint32_t k = 0; k < r.n; k++) assert_int_equal(r.out[k].passed, r.out[k].slot != (rm_slot)s);
            assert_non_null(strstr(r.why, rm_slot_name((rm_slot)s)));
        }
    }
}

static void zeros_and_nan_are_named(void **state)
{
    lie.code = RM_OP_CONV; lie.slot = RM_Y; lie.all = true; lie.factor = 0; lie.add = 0;
    rm_check_result r = checked(*state, texts[0]);
    assert_false(r.passed);
    assert_true(r.out[0].zero);
    assert_non_null(strstr(r.why, "all zero"));
    lie.all = false; lie.factor = 1; lie.add = NAN;
    r = checked(*state, texts[0]);
    assert_false(r.passed);
    assert_false(r.out[0].finite);
    assert_non_null(strstr(r.why, "NaN"));
}

static void a_wrong_flag_is_found(void **state)
{
    lie.code = RM_OP_OPTIM; lie.slot = RM_FLAG;
    rm_check_result r = checked(*state, "optim count=10 segments=2");
    assert_false(r.passed);
    assert_non_null(strstr(r.why, "flag"));
}

static void gradients_agree_and_lies_do_not(void **state)
{
    unsigned found = 0;
    for (size_t i = 0; i < RM_COUNT(texts); i++) {
        rm_op op;
        rm_check_result r;
        assert_int_equal(rm_op_parse(texts[i], &op), RM_OK);
        if (!rm_check_has_grad(op.code)) {
            assert_int_equal(rm_check_grad(NULL, &op, 3, &r), RM_E_UNSUPPORTED);
            continue;
        }
        assert_int_equal(rm_check_grad(*state, &op, 3, &r), RM_OK);
        if (!r.passed) fail_msg("%s: %s", texts[i], r.why);
        for (uint32_t k = 0; k < r.n; k++) {
            rm_check_result wrong;
            lie.code = op.code; lie.slot = r.out[k].slot; lie.all = true; lie.factor = 1.0001; lie.add = 0;
            assert_int_equal(rm_check_grad(*state, &op, 3, &wrong), RM_OK);
            lie.code = RM_OPCODE_COUNT;
            assert_false(wrong.passed);
            found++;
        }
    }
    assert_int_equal(found, 17);
}

static void types_and_layouts_pass_through_packing(void **state)
{
    rm_device *d;
    assert_int_equal(rm_device_open("null", NULL, &d), RM_OK);
    rm_check_result r = checked(d, "relu n=2 c=3 h=4 w=5 dtype=bf16 xl=nhwc yl=nhwc");
    assert_false(r.passed); /* null computes nothing: the NaNs that were there before are left */
    assert_false(r.out[0].finite);
    rm_device_close(d);
}

static rm_status wants_workspace(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    RM_TRY(rm_device_ref.plan(d, op, out_plan, out_info));
    out_info->workspace_bytes = 64;
    return RM_OK;
}

static rm_status reads_workspace(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    RM_TRY(rm_device_ref.run(d, q, plan, args));
    if (plan->op.code == RM_OP_RELU) ((double *)args->t[RM_Y].buf->ptr)[3] += 0 * *(const double *)args->workspace.buf->ptr;
    return RM_OK;
}

/* An op that counts on memory nobody gave it a value in. */
static void what_was_in_memory_before_shows(void **state)
{
    rm_device_ops ops = rm_device_ref;
    rm_device *d;
    ops.plan = wants_workspace;
    ops.run = reads_workspace;
    assert_int_equal(rm_device_open_ops(&ops, NULL, &d), RM_OK);
    const rm_check_result r = checked(d, "relu n=2 c=3 h=4 w=5");
    assert_true(!r.passed && !r.out[0].finite);
    rm_device_close(d);
}

static void timing_gives_every_sample(void **state)
{
    rm_op op;
    rm_time_result t;
    assert_int_equal(rm_op_parse("conv n=2 c=8 h=8 w=8 o=8 k=3 s=1 p=1", &op), RM_OK);
    assert_int_equal(rm_time_op(*state, &op, 5, &t), RM_OK);
    assert_int_equal(t.n, 5);
    assert_true(t.median_s > 0 && t.flop_per_s > 0 && t.byte_per_s > 0);
    assert_int_equal(rm_time_op(*state, &op, 0, &t), RM_E_ARG);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_liar, close_liar)
    const struct CMUnitTest tests[] = { T(truth_passes), T(one_wrong_element_is_found), T(zeros_and_nan_are_named), T(a_wrong_flag_is_found),
                                        T(gradients_agree_and_lies_do_not), T(types_and_layouts_pass_through_packing), T(what_was_in_memory_before_shows),
                                        T(timing_gives_every_sample) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
