/* One training step against torchvision's ResNet-50 in double precision: the ref device to rounding, the others no worse
 * than PyTorch's own error in the same precision, times a small factor. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/net.h"
#include "tests/cuda/gpu/gpu.h"
#include "tests/golden/golden.h"
#include <stdio.h>

typedef struct { rm_device *d; rm_graph g; rm_params p; rm_net *net; float *image; } rig;
typedef struct { double loss, logits, grad[2], param[2], stats[2]; } score; /* [median, max] */

static void ok(rm_status st)
{
    if (st != RM_OK) fail_msg("%s", rm_last_error());
}

static double *new_values(uint64_t n)
{
    double *v = malloc(n * sizeof *v);
    assert_non_null(v);
    return v;
}

static void load_inputs(rig *r)
{
    int32_t label[GOLDEN_BATCH];
    for (int32_t i = 0; i < r->g.n_param; i++) {
        const rm_param *q = &r->g.param[i];
        double *v = new_values(q->count);
        assert_true(golden_tensor(q->name, (uint64_t)q->shape.c * (uint64_t)q->shape.h * (uint64_t)q->shape.w, q->count, v));
        ok(rm_params_set(&r->p, RM_ARENA_WEIGHT, i, v));
        free(v);
    }
    for (int32_t l = 0; l < r->g.n_layer; l++) {
        char name[2][80];
        if (r->g.layer[l].kind != RM_K_BN) continue;
        uint64_t c = (uint64_t)r->g.layer[l].out.c;
        double *v[2] = { new_values(c), new_values(c) };
        snprintf(name[0], sizeof name[0], "%s.running_mean", r->g.layer[l].name);
        snprintf(name[1], sizeof name[1], "%s.running_var", r->g.layer[l].name);
        for (int k = 0; k < 2; k++) assert_true(golden_tensor(name[k], 0, c, v[k]));
        ok(rm_params_set_stats(&r->p, l, v[0], v[1]));
        free(v[0]);
        free(v[1]);
    }
    r->image = malloc((size_t)GOLDEN_BATCH * 3 * GOLDEN_PX * GOLDEN_PX * sizeof *r->image);
    assert_non_null(r->image);
    golden_images(r->image);
    golden_labels(label);
    ok(rm_net_set_images_f32(r->net, r->image));
    ok(rm_net_set_labels(r->net, label, GOLDEN_BATCH));
    ok(rm_net_finish(r->net));
}

static void open_rig(rig *r, const char *device, rm_dtype dtype, double smoothing)
{
    const rm_net_config c = { .dtype = dtype, .training = true, .input_f32 = true, .std = { 1, 1, 1 }, .bn_eps = 1e-5, .bn_momentum = 0.1,
                              .loss_scale = 1, .label_smoothing = smoothing };
    const rm_device_config dc = { 0 };
    const rm_params_config pc = { .training = true, .decay_bias = true };
    *r = (rig){ 0 };
    ok(rm_device_open(device, &dc, &r->d));
    ok(rm_graph_resnet(50, "v1.5", (rm_shape){ GOLDEN_BATCH, 3, GOLDEN_PX, GOLDEN_PX }, GOLDEN_CLASSES, &r->g));
    rm_graph_fuse(&r->g);
    ok(rm_net_new(r->d, &r->g, &c, &r->p, &pc, &r->net));
    load_inputs(r);
}

static void close_rig(rig *r)
{
    rm_net_free(r->net);
    rm_params_free(&r->p);
    rm_graph_free(&r->g);
    rm_device_close(r->d);
    free(r->image);
}

static void score_arena(rig *r, const json_t *golden, const char *part, const char *group, rm_arena arena, double out[2])
{
    double error[161];
    assert_int_equal(r->g.n_param, 161);
    for (int32_t i = 0; i < r->g.n_param; i++) {
        const rm_param *q = &r->g.param[i];
        double *v = new_values(q->count);
        ok(rm_params_get(&r->p, arena, i, v));
        error[i] = golden_error(golden_find(golden, part, group, q->name), q->name, v, q->count);
        assert_false(isnan(error[i]));
        free(v);
    }
    golden_spread(error, RM_COUNT(error), &out[0], &out[1]);
}

static void score_stats(rig *r, const json_t *golden, double out[2])
{
    double error[106], mean[2048], var[2048];
    size_t n = 0;
    for (int32_t l = 0; l < r->g.n_layer; l++) {
        char name[80];
        if (r->g.layer[l].kind != RM_K_BN) continue;
        assert_true(n + 2 <= RM_COUNT(error));
        ok(rm_params_get_stats(&r->p, l, mean, var));
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%s.%s", r->g.layer[l].name, k ? "running_var" : "running_mean");
            error[n++] = golden_error(golden_find(golden, "stats", NULL, name), name, k ? var : mean, (uint64_t)r->g.layer[l].out.c);
        }
    }
    assert_int_equal(n, RM_COUNT(error));
    golden_spread(error, n, &out[0], &out[1]);
}

static double score_logits(rig *r, const json_t *golden)
{
    double *v = new_values(GOLDEN_BATCH * GOLDEN_CLASSES), difference = 0, norm = 0;
    const json_t *want = json_object_get(golden, "logits");
    assert_int_equal(json_array_size(want), GOLDEN_BATCH * GOLDEN_CLASSES);
    ok(rm_net_logits(r->net, v));
    for (size_t i = 0; i < GOLDEN_BATCH * GOLDEN_CLASSES; i++) {
        double w = json_number_value(json_array_get(want, i));
        difference += (v[i] - w) * (v[i] - w);
        norm += w * w;
    }
    free(v);
    return sqrt(difference / norm);
}

/* Gradients first, since an update may use their memory. */
static score run(const char *device, rm_dtype dtype, const char *part, bool update)
{
    score s = { 0 };
    rig r;
    json_error_t why;
    json_t *golden = golden_open(&why);
    if (!golden) fail_msg("%s/%s: %s", source_dir(), GOLDEN_FILE, why.text);
    open_rig(&r, device, dtype, strcmp(part, "smooth") ? 0 : 0.1);
    ok(rm_net_set_hyper(r.net, 0.1, 0.9, 1e-4, 1, 0));
    ok(rm_net_prologue(r.net));
    ok(rm_net_forward(r.net));
    ok(rm_net_backward(r.net, true, NULL, NULL));
    ok(rm_net_finish(r.net));
    double loss = json_number_value(json_object_get(json_object_get(golden, part), "loss"));
    s.loss = fabs(rm_net_loss(r.net) - loss) / loss;
    s.logits = score_logits(&r, golden);
    score_arena(&r, golden, part, "grad", RM_ARENA_GRAD, s.grad);
    score_stats(&r, golden, s.stats);
    if (update) {
        ok(rm_net_update(r.net));
        ok(rm_net_finish(r.net));
        score_arena(&r, golden, part, "param", RM_ARENA_WEIGHT, s.param);
    }
    printf("%s %s: loss %.2g logits %.2g grad %.2g (max %.2g) param %.2g (max %.2g) stats %.2g (max %.2g)\n", device, part, s.loss, s.logits, s.grad[0],
           s.grad[1], s.param[0], s.param[1], s.stats[0], s.stats[1]);
    close_rig(&r);
    json_decref(golden);
    return s;
}

static void at_most(const char *what, double have, double limit)
{
    if (!(have <= limit)) fail_msg("%s: error %.3g, at most %.3g allowed", what, have, limit);
}

static void check_absolute(score s, double limit)
{
    at_most("loss", s.loss, limit);
    at_most("logits", s.logits, limit);
    at_most("gradients", s.grad[1], limit);
    at_most("parameters", s.param[1], limit);
    at_most("running statistics", s.stats[1], limit);
}

/* The loss is one number, whose error may be small by luck: it is held to the logits' error. */
static void check_against_torch(score s, const char *precision, double factor)
{
    json_error_t why;
    json_t *g = golden_open(&why);
    assert_non_null(g);
    const struct { const char *group; const double *have; } rows[] = { { "grad", s.grad }, { "param", s.param }, { "stats", s.stats } };
    at_most("loss", s.loss, factor * golden_torch(g, precision, "logits", NULL));
    at_most("logits", s.logits, factor * golden_torch(g, precision, "logits", NULL));
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        at_most(rows[i].group, rows[i].have[0], factor * golden_torch(g, precision, rows[i].group, "median"));
        at_most(rows[i].group, rows[i].have[1], factor * golden_torch(g, precision, rows[i].group, "max"));
    }
    json_decref(g);
}

static void test_inputs(void **state)
{
    int32_t label[GOLDEN_BATCH];
    json_error_t why;
    json_t *g = golden_open(&why);
    assert_non_null(g);
    golden_labels(label);
    for (size_t i = 0; i < GOLDEN_BATCH; i++) assert_int_equal(label[i], json_integer_value(json_array_get(json_object_get(g, "labels"), i)));
    json_decref(g);
}

/* The check itself must notice one wrong element, a swap of two, and a transposed tensor. */
static void test_sketch_notices(void **state)
{
    enum { N = 64 * 256 };
    static const char name[] = "layer1.0.conv3.weight";
    json_error_t why;
    json_t *g = golden_open(&why);
    assert_non_null(g);
    json_t *sketch = json_deep_copy(golden_find(g, "smooth", "grad", name));
    double *v = new_values(N), dot[GOLDEN_PROJECTIONS] = { 0 }, square = 0;
    assert_true(golden_tensor(name, 64, N, v));
    for (uint64_t i = 0; i < N; i++) {
        square += v[i] * v[i];
        for (int k = 0; k < GOLDEN_PROJECTIONS; k++) dot[k] += (golden_hash(golden_name(name), GOLDEN_SIGN_AT + i) >> (63 - k)) & 1 ? -v[i] : v[i];
    }
    json_object_set_new(sketch, "norm", json_real(sqrt(square)));
    for (size_t k = 0; k < GOLDEN_PROJECTIONS; k++) json_array_set_new(json_object_get(sketch, "proj"), k, json_real(dot[k]));
    for (size_t k = 0; k < GOLDEN_SAMPLES; k++)
        json_array_set_new(json_object_get(sketch, "at"), k, json_real(v[(golden_hash(golden_name(name), GOLDEN_SAMPLE_AT + k) >> 11) % N]));
    at_most("itself", golden_error(sketch, name, v, N), 1e-15);
    v[777] += 0.01 * sqrt(square);
    assert_true(golden_error(sketch, name, v, N) > 0.005);
    v[777] -= 0.01 * sqrt(square);
    for (size_t o = 0; o < 64; o++)
        for (size_t i = 0; i < o; i++) {
            double t = v[o * 64 + i];
            v[o * 64 + i] = v[i * 64 + o];
            v[i * 64 + o] = t;
        }
    assert_true(golden_error(sketch, name, v, N) > 0.1);
    v[0] = NAN;
    assert_true(isinf(golden_error(sketch, name, v, N)));
    assert_true(isnan(golden_error(NULL, name, v, N)));
    free(v);
    json_decref(sketch);
    json_decref(g);
}

static void test_ref(void **state) { check_absolute(run("ref", RM_F64, "smooth", true), 1e-9); }

/* Without label smoothing the gradients see epsilon alone as a float, which is nothing beside a variance. */
static void test_ref_hard(void **state)
{
    score s = run("ref", RM_F64, "hard", false);
    at_most("loss", s.loss, 1e-13);
    at_most("logits", s.logits, 1e-12);
    at_most("gradients", s.grad[1], 1e-11);
}

/* The same program for another device: tests/cuda/doubles. */
#ifndef RM_GOLDEN_DEVICE
#define RM_GOLDEN_DEVICE "cpu"
#endif

static void test_f32(void **state)
{
    check_against_torch(run(RM_GOLDEN_DEVICE, RM_F32, "smooth", true), "fp32", 3);
    check_against_torch(run(RM_GOLDEN_DEVICE, RM_F32, "hard", false), "fp32", 3);
}

static void test_bf16(void **state) { check_against_torch(run(RM_GOLDEN_DEVICE, RM_BF16, "smooth", true), "bf16", 2); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inputs), cmocka_unit_test(test_sketch_notices), cmocka_unit_test(test_ref),
        cmocka_unit_test(test_ref_hard), cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16),
    };
    if (!strcmp(RM_GOLDEN_DEVICE, "cuda") && gpu_absent()) return GPU_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
