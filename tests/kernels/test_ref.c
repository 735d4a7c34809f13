/* The oracle against numbers worked out by hand; derivatives against finite differences are in test_check. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/check.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static rm_device *d;
static int set_up(void **state) { return rm_device_open("ref", NULL, &d) != RM_OK; }
static int tear_down(void **state) { rm_device_close(d); return 0; }

/* One run: operands in host arrays, bytes given by the array. */
typedef struct operand { rm_slot slot; void *host; size_t bytes; } operand;
#define IN(s, a) { s, a, sizeof(a) }

static void run_op(const rm_op *op, operand *list, size_t n)
{
    rm_plan *plan;
    rm_plan_info info;
    rm_args args = { .workspace = { NULL, 0 } };
    if (rm_device_plan(d, op, &plan, &info) != RM_OK) fail_msg("%s", rm_last_error());
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rm_buf_alloc(d, RM_MEM_DEVICE, list[i].bytes, &args.t[list[i].slot].buf), RM_OK);
        assert_int_equal(rm_device_write(d, NULL, args.t[list[i].slot], list[i].host, list[i].bytes), RM_OK);
    }
    if (rm_device_run(d, NULL, plan, &args) != RM_OK) fail_msg("%s", rm_last_error());
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rm_device_read(d, NULL, list[i].host, args.t[list[i].slot], list[i].bytes), RM_OK);
        rm_buf_free(d, args.t[list[i].slot].buf);
    }
    rm_plan_free(d, plan);
}

static rm_op parsed(const char *text)
{
    rm_op op;
    if (rm_op_parse(text, &op) != RM_OK) fail_msg("%s", rm_last_error());
    return op;
}

static void expect(const double *got, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-7 * (1 + fabs(want[i])))) fail_msg("element %zu: %.12g instead of %.12g", i, got[i], want[i]);
}
#define EXPECT(got, ...) do { const double want_[] = { __VA_ARGS__ }; expect(got, want_, RM_COUNT(want_)); } while (0)

static void convolution(void **state)
{
    rm_op op = parsed("conv n=1 c=1 h=3 w=3 o=1 k=3 s=2 p=1");
    double x[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, w[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, y[4] = { 0 };
    operand list[] = { IN(RM_X, x), IN(RM_W, w), IN(RM_Y, y) };
    run_op(&op, list, 3);
    EXPECT(y, 1 * 5 + 2 * 6 + 4 * 8 + 5 * 9, 2 * 4 + 3 * 5 + 5 * 7 + 6 * 8, 4 * 2 + 5 * 3 + 7 * 5 + 8 * 6, 5 * 1 + 6 * 2 + 8 * 4 + 9 * 5);
}

static void convolution_backward(void **state)
{
    double x[4] = { 1, 2, 3, 4 }, w[2] = { 2, -1 }, dy[2] = { 1, 10 }, dx[4], dw[2];
    rm_op op = parsed("conv_bwd_data n=1 c=2 h=1 w=2 o=1 k=1");
    operand data[] = { IN(RM_DY, dy), IN(RM_W, w), IN(RM_DX, dx) };
    run_op(&op, data, 3);
    EXPECT(dx, 2, 20, -1, -10);
    op = parsed("conv_bwd_weights n=1 c=2 h=1 w=2 o=1 k=1");
    operand weights[] = { IN(RM_X, x), IN(RM_DY, dy), IN(RM_DW, dw) };
    run_op(&op, weights, 3);
    EXPECT(dw, 21, 43);
}

static void batch_norm(void **state)
{
    rm_op op = parsed("bn n=2 c=1 h=1 w=2 relu=1 add=1 momentum=0.5 eps=0");
    double x[4] = { 1, 3, 5, 7 }, x2[4] = { 0, 0, 1, 1 }, gamma[1] = { 2 }, beta[1] = { 1 }, rmean[1] = { 10 }, rvar[1] = { 1 }, y[4], saved[2];
    operand list[] = { IN(RM_X, x), IN(RM_X2, x2), IN(RM_GAMMA, gamma), IN(RM_BETA, beta), IN(RM_RMEAN, rmean), IN(RM_RVAR, rvar), IN(RM_Y, y), IN(RM_SAVED, saved) };
    run_op(&op, list, RM_COUNT(list));
    double s = sqrt(5); /* mean 4, biased variance 5, unbiased 20/3 */
    EXPECT(saved, 4, 1 / s);
    EXPECT(y, 0, 1 - 2 / s, 2 + 2 / s, 2 + 6 / s);
    EXPECT(rmean, 7);
    EXPECT(rvar, 0.5 + 10.0 / 3);
    op = parsed("bn n=2 c=1 h=1 w=2 training=0 eps=0");
    double fixed_mean[1] = { 2 }, fixed_var[1] = { 4 };
    operand inference[] = { IN(RM_X, x), IN(RM_GAMMA, gamma), IN(RM_BETA, beta), IN(RM_RMEAN, fixed_mean), IN(RM_RVAR, fixed_var), IN(RM_Y, y) };
    run_op(&op, inference, RM_COUNT(inference));
    EXPECT(y, 0, 2, 4, 6);
    EXPECT(fixed_mean, 2);
}

static void max_pool_takes_the_first_of_a_tie(void **state)
{
    rm_op op = parsed("maxpool n=1 c=1 h=3 w=3 k=3 s=2 p=1");
    double x[9] = { -1, -1, -3, -1, -1, -2, -4, -5, -6 }, y[4], dy[4] = { 1, 10, 100, 1000 }, dx[9];
    int32_t saved[4];
    operand list[] = { IN(RM_X, x), IN(RM_Y, y), IN(RM_SAVED, saved) };
    run_op(&op, list, 3);
    EXPECT(y, -1, -1, -1, -1); /* padding never wins */
    const int32_t first[4] = { 0, 1, 3, 4 };
    assert_memory_equal(saved, first, sizeof first);
    op = parsed("maxpool_bwd n=1 c=1 h=3 w=3 k=3 s=2 p=1");
    operand back[] = { IN(RM_DY, dy), IN(RM_SAVED, saved), IN(RM_DX, dx) };
    run_op(&op, back, 3);
    EXPECT(dx, 1, 10, 0, 100, 1000, 0, 0, 0, 0);
}

static void cross_entropy(void **state)
{
    rm_op op = parsed("softmax_xent n=2 c=2 smoothing=0.5 scale=4");
    double x[4] = { 0, 0, 1000, 1000 - log(3) }, loss[1], dx[4];
    int32_t label[2] = { 0, 1 };
    operand list[] = { IN(RM_X, x), IN(RM_LABEL, label), IN(RM_LOSS, loss), IN(RM_DX, dx) };
    run_op(&op, list, 4);
    /* sample 0: p = 1/2, 1/2; sample 1: p = 3/4, 1/4; targets 3/4, 1/4 and 1/4, 3/4 */
    EXPECT(loss, (log(2) + 0.25 * log(4.0 / 3) + 0.75 * log(4)) / 2);
    EXPECT(dx, 2 * -0.25, 2 * 0.25, 2 * 0.5, 2 * -0.5);
    label[1] = 2;
    rm_plan *plan;
    rm_plan_info info;
    rm_args args = { .workspace = { NULL, 0 } };
    assert_int_equal(rm_device_plan(d, &op, &plan, &info), RM_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(rm_buf_alloc(d, RM_MEM_DEVICE, 64, &args.t[list[i].slot].buf), RM_OK);
        memcpy(rm_buf_host(args.t[list[i].slot].buf), list[i].host, list[i].bytes);
    }
    assert_int_equal(rm_device_run(d, NULL, plan, &args), RM_E_ARG); /* a label that is no class */
    for (size_t i = 0; i < 4; i++) rm_buf_free(d, args.t[list[i].slot].buf);
    rm_plan_free(d, plan);
}

static void optimise(rm_op *op, const rm_segment *segment, double *w, double *dw, double *v, double hyper[8], int32_t *flag)
{
    op->u.optim.segment = segment;
    operand list[] = { { RM_W, w, 32 }, { RM_DW, dw, 32 }, { RM_MOMENTUM, v, 32 }, { RM_HYPER, hyper, 64 }, { RM_FLAG, flag, 8 } };
    run_op(op, list, 5);
}

static void optimisers(void **state)
{
    /* segments cover elements 0 and 1..2; element 3 belongs to none */
    const rm_segment segment[2] = { { .start = 0, .count = 1, .decay = true, .adapt = true }, { .start = 1, .count = 2 } };
    double hyper[8] = { [RM_HYPER_LR] = 0.5, [RM_HYPER_MOMENTUM] = 0.5, [RM_HYPER_DECAY] = 0.25, [RM_HYPER_GRAD_SCALE] = 2, [RM_HYPER_ETA] = 0.125 };
    double w[4] = { 4, 1, 1, 9 }, dw[4] = { 1, 1, 0, 5 }, v[4] = { 2, 0, 4, 3 };
    int32_t flag[2];
    rm_op op = parsed("optim count=4 segments=2");
    optimise(&op, segment, w, dw, v, hyper, flag);
    EXPECT(v, 0.5 * 2 + 2 + 0.25 * 4, 2, 2, 3);
    EXPECT(w, 4 - 0.5 * 4, 1 - 0.5 * 2, 1 - 0.5 * 2, 9);
    assert_int_equal(flag[0], 0);
    assert_int_equal(flag[1], -1);
    op = parsed("optim count=4 segments=2 nesterov=1");
    double wn[4] = { 4, 1, 1, 9 }, vn[4] = { 2, 0, 4, 3 };
    optimise(&op, segment, wn, dw, vn, hyper, flag);
    EXPECT(wn, 4 - 0.5 * (3 + 0.5 * 4), 1 - 0.5 * (2 + 1), 1 - 0.5 * (0 + 1), 9);
    op = parsed("optim count=4 segments=2 rule=lars");
    double wl[4] = { 4, 1, 1, 9 }, vl[4] = { 2, 0, 4, 3 }, trust = 0.125 * 4 / (2 + 0.25 * 4 + 1e-9);
    optimise(&op, segment, wl, dw, vl, hyper, flag);
    EXPECT(vl, 0.5 * 2 + 0.5 * trust * 3, 1, 2, 3);
    EXPECT(wl, 4 - (1 + 1.5 * trust), 1 - 1, 1 - 2, 9);
    double bad[4] = { 1, NAN, -INFINITY, NAN };
    optimise(&op, segment, wl, bad, vl, hyper, flag);
    assert_int_equal(flag[0], 2); /* outside every segment does not count */
    assert_int_equal(flag[1], 1);
}

static void images(void **state)
{
    rm_op op = parsed("augment n=2 h=1 w=2 mean=0,0.5,1 std=1,0.5,2");
    uint8_t x[12] = { 0, 51, 255, 255, 102, 0, 0, 51, 255, 255, 102, 0 }, flip[2] = { 0, 1 };
    double y[12];
    operand list[] = { IN(RM_X, x), IN(RM_FLIP, flip), IN(RM_Y, y) };
    run_op(&op, list, 3);
    EXPECT(y, 0, 1, (0.2 - 0.5) / 0.5, (0.4 - 0.5) / 0.5, 0, -0.5, 1, 0, (0.4 - 0.5) / 0.5, (0.2 - 0.5) / 0.5, -0.5, 0);
}

static void in_place_is_the_same(void **state)
{
    rm_op op = parsed("bn_bwd n=2 c=3 h=2 w=2 relu=1 add=1");
    rm_plan *plan;
    rm_plan_info info;
    rm_args args = { .workspace = { NULL, 0 } };
    double apart[24];
    assert_int_equal(rm_device_plan(d, &op, &plan, &info), RM_OK);
    for (int s = 0; s < RM_SLOT_COUNT; s++) {
        if (!rm_op_uses(&op, (rm_slot)s)) continue;
        assert_int_equal(rm_buf_alloc(d, RM_MEM_DEVICE, 24 * 8, &args.t[s].buf), RM_OK);
        double *v = rm_buf_host(args.t[s].buf);
        for (int i = 0; i < 24; i++) v[i] = sin(i + 10 * s) + (s == RM_SAVED);
    }
    assert_int_equal(rm_device_run(d, NULL, plan, &args), RM_OK);
    memcpy(apart, rm_buf_host(args.t[RM_DX].buf), sizeof apart);
    rm_buf *dx = args.t[RM_DX].buf;
    args.t[RM_DX].buf = args.t[RM_DY].buf;
    assert_int_equal(rm_device_run(d, NULL, plan, &args), RM_OK);
    assert_memory_equal(apart, rm_buf_host(args.t[RM_DX].buf), sizeof apart);
    args.t[RM_DX].buf = dx;
    for (int s = 0; s < RM_SLOT_COUNT; s++) rm_buf_free(d, args.t[s].buf);
    rm_plan_free(d, plan);
}

static void what_ref_lacks_is_said(void **state)
{
    rm_plan *plan;
    rm_plan_info info;
    rm_op op = parsed("relu n=1 c=1 h=2 w=2 dtype=bf16");
    assert_int_equal(rm_device_plan(d, &op, &plan, &info), RM_E_UNSUPPORTED);
    op = parsed("reorder n=1 c=1 h=2 w=2 yl=nhwc");
    assert_int_equal(rm_device_plan(d, &op, &plan, &info), RM_E_UNSUPPORTED);
    op = parsed("optim count=4");
    assert_int_equal(rm_device_plan(d, &op, &plan, &info), RM_E_ARG); /* no segments */
    rm_tdesc t = { { 1, 3, 2, 2 }, RM_F32, RM_LAYOUT_NCHW };
    assert_int_equal(rm_layout_bytes(d, &t), 12 * 8);
    t.dtype = RM_U8;
    assert_int_equal(rm_layout_bytes(d, &t), 12);
    rm_buf *buf;
    assert_int_equal(rm_buf_alloc(d, RM_MEM_DEVICE, SIZE_MAX, &buf), RM_E_NOMEM);
}

/* A breach of the contract by our own code ends the program: tried in a child process. */
typedef enum breach { MISSING, SHORT, OVERLAP, LIVE, BREACHES } breach;

static void commit_breach(breach which)
{
    rm_op op;
    rm_plan *plan;
    rm_plan_info info;
    rm_buf *x, *y;
    if (rm_op_parse("conv n=1 c=2 h=3 w=3 o=2 k=1", &op) || rm_device_plan(d, &op, &plan, &info) ||
        rm_buf_alloc(d, RM_MEM_DEVICE, 4096, &x) || rm_buf_alloc(d, RM_MEM_DEVICE, 4096, &y)) return;
    rm_args args = { .t[RM_X] = { x, 0 }, .t[RM_W] = { x, 2048 }, .t[RM_Y] = { y, 0 } };
    if (which == LIVE) rm_device_close(d);
    if (which == MISSING) args.t[RM_W].buf = NULL;
    if (which == SHORT) args.t[RM_Y].offset = 4096 - 8 * 18 + 8;
    if (which == OVERLAP) args.t[RM_Y] = (rm_ref){ x, 8 * 17 };
    if (rm_device_run(d, NULL, plan, &args) == RM_OK) _exit(0);
}

static void breaches_of_the_contract_abort(void **state)
{
    for (breach b = MISSING; b < BREACHES; b++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (!freopen("/dev/null", "w", stderr)) _exit(1);
            signal(SIGABRT, SIG_DFL);
            commit_breach(b);
            _exit(2);
        }
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGABRT) fail_msg("breach %d went unseen (%d)", (int)b, how);
    }
}

static void devices_are_found_by_name(void **state)
{
    rm_device *found = NULL;
    assert_int_equal(rm_device_open("gpu", NULL, &found), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "gpu"));
    assert_null(found);
    bool cuda = false;
    for (const rm_device_ops *const *p = rm_device_list(); *p; p++) cuda |= !strcmp((*p)->name, "cuda");
    assert_true(cuda); /* listed even where it is not built, so that it can say so */
    assert_int_equal(rm_device_open("auto", NULL, &found), RM_OK);
    assert_string_not_equal(rm_device_name(found), "null");
    rm_device_close(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolution), cmocka_unit_test(convolution_backward), cmocka_unit_test(batch_norm),
        cmocka_unit_test(max_pool_takes_the_first_of_a_tie), cmocka_unit_test(cross_entropy), cmocka_unit_test(optimisers),
        cmocka_unit_test(images), cmocka_unit_test(in_place_is_the_same), cmocka_unit_test(what_ref_lacks_is_said),
        cmocka_unit_test(breaches_of_the_contract_abort), cmocka_unit_test(devices_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
