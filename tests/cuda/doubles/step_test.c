/* Rung 2: the cuda device on the test doubles does what the ref device does: every op, the whole network, the training step, recorded or
 * not. What the doubles find on the way (tests/cuda/doubles/doubles.h) fails the test. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/check.h"
#include "model/engine.h"
#include "model/parity.h"
#include "tests/cuda/doubles/doubles.h"
#include "tests/cuda/gpu/gpu.h"
#include "tests/source.h"

static void ok(rm_status st)
{
    if (st != RM_OK) fail_msg("%s", rm_last_error());
}

static int no_findings(void **state)
{
    const unsigned n = dbl_findings();
    dbl_findings_clear();
    return n ? -1 : 0;
}

static rm_device *open_device(const char *name)
{
    const rm_device_config dc = { .deterministic = true, .reference_only = true };
    rm_device *d;
    ok(rm_device_open(name, &dc, &d));
    return d;
}

/* ---- ops: the built-in cases, those of the network with two images */
static bool next_op(FILE *f, const char *dtype, rm_op *out)
{
    char line[256], text[320];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "#\n")] = 0;
        if (!line[0] || (dtype && (strstr(line, "dtype=") || strstr(line, "optim") || strstr(line, "reorder")))) continue;
        char *n = strstr(line, " n=16 ");
        if (n) snprintf(text, sizeof text, "%.*s n=2 %s%s%s", (int)(n - line), line, n + 6, dtype ? " dtype=" : "", dtype ? dtype : "");
        else snprintf(text, sizeof text, "%s%s%s", line, dtype ? " dtype=" : "", dtype ? dtype : "");
        ok(rm_op_parse(text, out));
        return true;
    }
    return false;
}

typedef struct tally { unsigned ops, supported; double worst; } tally;

/* cuDNN's fully connected layer is 16-bit in and out, so that logits are rounded on their way to fp32, which the op's tolerance does not know. */
static bool rounds_logits(const rm_op *op, const rm_check_result *r)
{
    return op->code == RM_OP_FC && rm_dtype_bytes(op->x.dtype) == 2 && r->n == 1 && r->out[0].norm_error < 1.0 / 256;
}

static void check_cases(rm_device *d, const char *name, const char *dtype, double limit, tally *t)
{
    char path[4096];
    rm_op op;
    snprintf(path, sizeof path, "%s/bench/cases/%s.case", source_dir(), name);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s cannot be read", path);
    while (next_op(f, dtype, &op)) {
        rm_check_result r;
        const rm_status st = rm_check_op(d, &op, 1, &r);
        t->ops++;
        if (st == RM_E_UNSUPPORTED) {
            printf("left out: %s: %s\n", r.text, rm_last_error());
            continue;
        }
        ok(st);
        t->supported++;
        if (!r.passed && !rounds_logits(&op, &r)) fail_msg("%s (%s): %s", r.text, r.impl, r.why);
        for (uint32_t i = 0; i < r.n; i++) t->worst = fmax(t->worst, r.out[i].norm_error);
        for (uint32_t i = 0; i < r.n; i++)
            if (r.out[i].norm_error > limit) fail_msg("%s (%s): %s is off by %.3g", r.text, r.impl, rm_slot_name(r.out[i].slot), r.out[i].norm_error);
    }
    fclose(f);
}

static void ops_in(const char *dtype, double limit, unsigned least)
{
    tally t = { 0 };
    rm_device *d = open_device("cuda");
    check_cases(d, "small", dtype, limit, &t);
    check_cases(d, "resnet50-64px", dtype, limit, &t);
    printf("%s: %u of %u ops, worst error %.2g of the norm\n", dtype ? dtype : "f32", t.supported, t.ops, t.worst);
    assert_true(t.supported >= least);
    rm_device_close(d);
}

/* Seconds, for runs of many: the small ops alone, in the type that is compared most sharply and in one that is converted and padded. */
static void quick(const char *dtype, double limit)
{
    tally t = { 0 };
    rm_device *d = open_device("cuda");
    check_cases(d, "small", dtype, limit, &t);
    assert_true(t.supported >= 20);
    rm_device_close(d);
}
static void quick_fp32(void **state) { quick(NULL, 1e-5); }
static void quick_bf16(void **state) { quick("bf16", 1); }

static void every_op_in_fp32(void **state) { ops_in(NULL, 1e-5, 150); }
static void every_op_in_bf16(void **state) { ops_in("bf16", 1, 100); }
static void every_op_in_fp16(void **state) { ops_in("f16", 1, 100); }
static void every_op_in_tf32(void **state) { ops_in("tf32", 1, 100); }

/* ---- the network */
typedef struct rig { rm_device *d; rm_graph g; rm_params p; rm_net *net; } rig;
enum { PX = 32, BATCH = 8, CLASSES = 10 };

static void set_all(rig *r, rm_role role, bool last_only, double value)
{
    double v[2048];
    for (size_t k = 0; k < RM_COUNT(v); k++) v[k] = value;
    for (int32_t i = 0; i < r->g.n_param; i++) {
        const rm_param *q = &r->g.param[i];
        if (q->role == role && (!last_only || r->g.layer[q->layer].last_bn)) ok(rm_params_set(&r->p, RM_ARENA_WEIGHT, i, v));
    }
}

/* smooth: without ReLUs, so that rounding can flip none and the gradient is a smooth function of everything. Else well conditioned. */
static void open_rig(rig *r, const char *device, rm_dtype dtype, double loss_scale, bool smooth)
{
    const rm_net_config c = { .dtype = !strcmp(device, "ref") ? RM_F64 : dtype, .training = true, .mean = { .5, .5, .5 }, .std = { .25, .25, .25 },
                              .bn_eps = 1e-5, .bn_momentum = .1, .loss_scale = loss_scale, .label_smoothing = .1 };
    const rm_params_config pc = { .decay_bias = true };
    *r = (rig){ .d = open_device(device) };
    ok(rm_graph_resnet(50, "v1.5", (rm_shape){ BATCH, 3, PX, PX }, CLASSES, &r->g));
    rm_graph_fuse(&r->g);
    for (int32_t i = 0; smooth && i < r->g.n_layer; i++) r->g.layer[i].relu = false;
    ok(rm_net_new(r->d, &r->g, &c, &r->p, &pc, &r->net));
    ok(rm_params_init(&r->p, "he-fan-in", false, 3));
    set_all(r, RM_ROLE_GAMMA, true, 0.15);
    if (!smooth) set_all(r, RM_ROLE_BETA, false, 1);
}

static void close_rig(rig *r)
{
    rm_net_free(r->net);
    rm_params_free(&r->p);
    rm_graph_free(&r->g);
    rm_device_close(r->d);
}

static double step(rig *r, rm_synthetic *s, double loss_scale)
{
    ok(rm_net_set_images_u8(r->net, s->batch.image, s->batch.flip, BATCH));
    ok(rm_net_set_labels(r->net, s->batch.label, BATCH));
    ok(rm_net_set_hyper(r->net, 0.1, 0.9, 1e-4, 1 / loss_scale, 0));
    ok(rm_net_prologue(r->net));
    ok(rm_net_forward(r->net));
    ok(rm_net_backward(r->net, true, NULL, NULL));
    ok(rm_net_update(r->net));
    ok(rm_net_finish(r->net));
    return rm_net_loss(r->net);
}

/* Largest relative distance (2-norm) of a layer's parameters: of gamma and beta together, for beta's gradient may be nothing but rounding. */
static double distance(const rig *a, const rig *b, rm_arena arena, double scale_b, const char **out_name)
{
    double worst = 0, dd = 0, xx = 0;
    for (int32_t i = 0; i < a->g.n_param; i++) {
        const uint64_t n = a->g.param[i].count;
        double *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        ok(rm_params_get(&a->p, arena, i, x));
        ok(rm_params_get(&b->p, arena, i, y));
        for (uint64_t k = 0; k < n; k++) {
            const double e = x[k] - scale_b * y[k];
            dd += e * e;
            xx += x[k] * x[k];
        }
        free(x);
        free(y);
        if (i + 1 < a->g.n_param && a->g.param[i + 1].layer == a->g.param[i].layer) continue;
        const double off = sqrt(dd / (xx > 0 ? xx : 1));
        if (!(off <= worst)) *out_name = a->g.param[i].name;
        if (!(off <= worst)) worst = off;
        dd = xx = 0;
    }
    return worst;
}

static void network(rm_dtype dtype, double loss_scale, bool smooth, double loss_limit, double grad_limit)
{
    rig ref, cuda;
    rm_synthetic s;
    const char *name = "";
    ok(rm_synthetic_new(BATCH, PX, CLASSES, 7, &s));
    open_rig(&ref, "ref", RM_F64, 1, smooth);
    open_rig(&cuda, "cuda", dtype, loss_scale, smooth);
    const double want = step(&ref, &s, 1), got = step(&cuda, &s, loss_scale);
    const double off = distance(&ref, &cuda, RM_ARENA_GRAD, 1 / loss_scale, &name);
    printf("%s, %s: loss off by %.2g, gradients by at most %.2g (%s)\n", rm_dtype_name(dtype), smooth ? "smooth" : "conditioned", fabs(got - want) / want, off, name);
    if (!(fabs(got - want) < loss_limit * want)) fail_msg("loss %.9g against %.9g", got, want);
    if (!(off < grad_limit)) fail_msg("the gradient of %s is off by %.3g", name, off);
    close_rig(&ref);
    close_rig(&cuda);
    rm_synthetic_free(&s);
}

static void smooth_network(void **state) { network(RM_F32, 1, true, 1e-6, 3e-5); }
static void network_in_fp32(void **state) { network(RM_F32, 1, false, 1e-4, 2e-2); }
static void network_in_tf32(void **state) { network(RM_TF32, 1, false, 1e-2, 0.5); }
static void network_in_bf16(void **state) { network(RM_BF16, 1, false, 5e-2, 1.0); }
static void network_in_fp16(void **state) { network(RM_F16, 128, false, 1e-2, 0.5); }

/* What bench does at the first use of a GPU. */
static void parity_check_passes(void **state)
{
    rm_parity p;
    rm_device *d = open_device("cuda");
    ok(rm_parity_check(d, RM_F32, &p));
    printf("parity: loss off by %.2g, gradients by at most %.2g (%s)\n", p.loss_error, p.gradient_error, p.worst);
    assert_true(p.passed && p.gradient_error > 0 && p.gradient_error < 1e-2);
    rm_device_close(d);
}

/* ---- the engine's step */
enum { STEPS = 5, FEW = 2 };
typedef struct outcome { double loss[STEPS]; double *weight; uint64_t n; rm_step last; } outcome;

/* How a step is enqueued: op by op or recorded; with marks around every op or without. */
static outcome train(bool no_record, bool timers, rm_dtype dtype)
{
    rm_recipe recipe;
    rm_synthetic s;
    rm_engine e;
    outcome o = { .n = 0 };
    uint64_t allocs = 0;
    rm_device *d = open_device("cuda");
    rm_recipe_defaults(&recipe);
    const rm_engine_config cfg = { .recipe = &recipe, .dtype = dtype, .px = PX, .batch = FEW, .classes = CLASSES, .timers = timers, .no_record = no_record,
                                   .split = "single", .seed = 5 };
    ok(rm_synthetic_new(FEW, PX, CLASSES, 7, &s));
    ok(rm_engine_new(d, NULL, &cfg, &e));
    const rm_source src = rm_source_synthetic(&s);
    for (int i = 0; i < STEPS; i++) {
        ok(rm_engine_step(&e, &src, (uint64_t)i, 0.01, &o.last));
        o.loss[i] = o.last.loss;
        if (i == 2) allocs = rm_device_allocs(d);
    }
    assert_int_equal(rm_device_allocs(d), allocs);
    assert_true(!e.recording[RM_REDUCE_OVERLAPPED] == no_record);
    o.n = e.graph.param[0].count;
    o.weight = malloc(o.n * sizeof *o.weight);
    ok(rm_params_get(&e.params, RM_ARENA_WEIGHT, 0, o.weight));
    rm_engine_free(&e);
    rm_synthetic_free(&s);
    rm_device_close(d);
    return o;
}

/* Every nanosecond of a step is somewhere, and the parts come in order. */
static void check_times(const rm_step *s)
{
    const rm_budget *b = &s->budget;
    assert_int_equal(b->window_ns, s->step_ns);
    assert_int_equal(b->compute_ns + b->exposed_comm_ns + b->exposed_copy_ns + b->input_ns + b->host_ns + b->idle_ns, s->step_ns);
    assert_true(b->compute_ns > 0 && s->enqueued_ns > s->begin_ns);
    assert_true(s->begin_ns <= s->forward_end_ns && s->forward_end_ns <= s->backward_end_ns && s->backward_end_ns <= s->update_begin_ns);
    assert_true(s->update_begin_ns <= s->begin_ns + s->step_ns);
}

static void recorded_is_plain(rm_dtype dtype)
{
    const outcome plain = train(true, true, dtype), recorded = train(false, false, dtype), timed = train(false, true, dtype);
    check_times(&plain.last);
    check_times(&timed.last);
    assert_memory_equal(plain.loss, recorded.loss, sizeof plain.loss);
    assert_memory_equal(plain.loss, timed.loss, sizeof plain.loss);
    assert_memory_equal(plain.weight, recorded.weight, plain.n * sizeof *plain.weight);
    assert_true(plain.loss[STEPS - 1] < plain.loss[0]);
    free(plain.weight);
    free(recorded.weight);
    free(timed.weight);
}

static void recorded_step_is_the_step(void **state) { recorded_is_plain(RM_F32); }
static void recorded_step_in_bf16(void **state) { recorded_is_plain(RM_BF16); }

/* A step that cannot be recorded is enqueued op by op, and so are those that follow. */
static void recording_may_fail(rm_engine *e, const rm_source *src, const char *fault)
{
    rm_step step;
    setenv("RM_DOUBLES_FAULTS", fault, 1);
    e->cfg.no_record = false;
    for (uint64_t i = 0; i < 3; i++) ok(rm_engine_step(e, src, i, 0.0, &step));
    unsetenv("RM_DOUBLES_FAULTS");
    assert_true(e->cfg.no_record && !e->recording[RM_REDUCE_OVERLAPPED]);
    ok(rm_engine_step(e, src, 3, 0.0, &step));
    assert_null(e->recording[RM_REDUCE_OVERLAPPED]);
}

/* What is as it was already costs no recording; who compares steps switches recordings off and on. */
static void recordings_are_kept(void **state)
{
    enum { SMALL = 16 };
    rm_recipe recipe;
    rm_synthetic s;
    rm_engine e;
    rm_step step;
    rm_device *d = open_device("cuda");
    rm_recipe_defaults(&recipe);
    const rm_engine_config cfg = { .recipe = &recipe, .px = SMALL, .batch = FEW, .classes = CLASSES, .split = "single", .seed = 5 };
    ok(rm_synthetic_new(FEW, SMALL, CLASSES, 7, &s));
    ok(rm_engine_new(d, NULL, &cfg, &e));
    const rm_source src = rm_source_synthetic(&s);
    assert_true(rm_engine_set_recording(&e, false));
    for (uint64_t i = 0; i < 3; i++) ok(rm_engine_step(&e, &src, i, 0.0, &step));
    assert_null(e.recording[RM_REDUCE_OVERLAPPED]);
    assert_false(rm_engine_set_recording(&e, true));
    ok(rm_engine_step(&e, &src, 3, 0.0, &step));
    const rm_recording *made = e.recording[RM_REDUCE_OVERLAPPED];
    assert_non_null(made);
    ok(rm_engine_set_split(&e, "single", RM_SPLIT_READY));
    ok(rm_engine_set_timers(&e, false));
    assert_ptr_equal(e.recording[RM_REDUCE_OVERLAPPED], made);
    ok(rm_engine_set_split(&e, "equal:2", RM_SPLIT_READY));
    assert_null(e.recording[RM_REDUCE_OVERLAPPED]);
    assert_int_equal(e.buckets.n, 2);
    recording_may_fail(&e, &src, "instantiate");
    recording_may_fail(&e, &src, "capture");
    rm_engine_free(&e);
    rm_synthetic_free(&s);
    rm_device_close(d);
}

/* Without an argument: what continuous integration has time for. "all", or the name of a test. */
int main(int argc, char **argv)
{
    const struct CMUnitTest quick[] = {
        cmocka_unit_test_teardown(quick_fp32, no_findings), cmocka_unit_test_teardown(smooth_network, no_findings),
        cmocka_unit_test_teardown(recorded_step_is_the_step, no_findings), cmocka_unit_test_teardown(recordings_are_kept, no_findings),
    };
    const struct CMUnitTest all[] = {
        cmocka_unit_test_teardown(every_op_in_fp32, no_findings), cmocka_unit_test_teardown(every_op_in_bf16, no_findings),
        cmocka_unit_test_teardown(every_op_in_fp16, no_findings), cmocka_unit_test_teardown(every_op_in_tf32, no_findings),
        cmocka_unit_test_teardown(smooth_network, no_findings), cmocka_unit_test_teardown(network_in_fp32, no_findings),
        cmocka_unit_test_teardown(network_in_tf32, no_findings), cmocka_unit_test_teardown(network_in_bf16, no_findings),
        cmocka_unit_test_teardown(network_in_fp16, no_findings), cmocka_unit_test_teardown(parity_check_passes, no_findings),
        cmocka_unit_test_teardown(recorded_step_is_the_step, no_findings), cmocka_unit_test_teardown(recorded_step_in_bf16, no_findings),
        cmocka_unit_test_teardown(recordings_are_kept, no_findings),
        cmocka_unit_test_teardown(quick_fp32, no_findings), cmocka_unit_test_teardown(quick_bf16, no_findings),
    };
    if (gpu_absent()) return GPU_SKIPPED;
    if (argc < 2) return cmocka_run_group_tests(quick, NULL, NULL);
    if (strcmp(argv[1], "all")) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(all, NULL, NULL);
}
