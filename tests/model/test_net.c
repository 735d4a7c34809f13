/* The network as a program: memory plan, fusion, devices against ref, determinism, accumulation, shared parameters. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "model/net_private.h"

typedef struct { rm_device *d; rm_graph g; rm_params p; rm_net *net; uint8_t *image, *flip; int32_t *label; int px, n; } rig;

static const rm_net_config base_config = {
    .dtype = RM_F32, .training = true, .mean = { .5, .5, .5 }, .std = { .25, .25, .25 }, .bn_eps = 1e-5, .bn_momentum = .1, .loss_scale = 1, .label_smoothing = .1,
};
enum { CLASSES = 10 };

static void fill(rig *r, uint64_t seed)
{
    size_t bytes = (size_t)r->n * (size_t)r->px * (size_t)r->px * 3;
    r->image = malloc(bytes);
    r->flip = calloc((size_t)r->n, 1);
    r->label = calloc((size_t)r->n, sizeof *r->label);
    rm_rng g = rm_rng_for(seed, 1, 1);
    for (size_t i = 0; i < bytes; i++) r->image[i] = (uint8_t)rm_rng_u32(&g);
    for (int i = 0; i < r->n; i++) {
        r->label[i] = (int32_t)rm_rng_below(&g, CLASSES);
        r->flip[i] = (uint8_t)(i & 1);
    }
}

/* Small gammas at the ends of blocks keep the gradients of a deep ReLU net well conditioned. */
static void condition(rig *r)
{
    for (int i = 0; i < r->g.n_param; i++) {
        const rm_param *q = &r->g.param[i];
        if (q->role != RM_ROLE_GAMMA || !r->g.layer[q->layer].last_bn) continue;
        double v[2048];
        for (uint64_t k = 0; k < q->count; k++) v[k] = 0.15;
        assert_int_equal(rm_params_set(&r->p, RM_ARENA_WEIGHT, i, v), RM_OK);
    }
}

static rig open_rig(const char *device, const rm_device_config *dc, rm_net_config c, int px, int n, bool fuse)
{
    rig r = { .px = px, .n = n };
    const rm_params_config pc = { .decay_bias = true };
    assert_int_equal(rm_device_open(device, dc, &r.d), RM_OK);
    assert_int_equal(rm_graph_resnet(50, "v1.5", (rm_shape){ n, 3, px, px }, CLASSES, &r.g), RM_OK);
    if (fuse) rm_graph_fuse(&r.g);
    if (!strcmp(device, "ref")) c.dtype = RM_F64;
    assert_int_equal(rm_net_new(r.d, &r.g, &c, &r.p, &pc, &r.net), RM_OK);
    return r;
}

/* params.graph must point at the graph where it finally lies. */
static void settle(rig *r)
{
    r->p.graph = &r->g;
    r->net->params = &r->p;
    r->net->graph = &r->g;
    fill(r, 7);
    assert_int_equal(rm_params_init(&r->p, "he-fan-in", false, 3), RM_OK);
    condition(r);
}

static void close_rig(rig *r)
{
    rm_net_free(r->net);
    rm_params_free(&r->p);
    rm_graph_free(&r->g);
    rm_device_close(r->d);
    free(r->image);
    free(r->flip);
    free(r->label);
}

static double scaled_step(rig *r, double lr, int micro, double grad_scale)
{
    assert_int_equal(rm_net_set_images_u8(r->net, r->image, r->flip, r->n), RM_OK);
    assert_int_equal(rm_net_set_labels(r->net, r->label, r->n), RM_OK);
    assert_int_equal(rm_net_set_hyper(r->net, lr, 0.9, 1e-4, grad_scale, 0), RM_OK);
    assert_int_equal(rm_net_prologue(r->net), RM_OK);
    for (int i = 0; i < micro; i++) {
        assert_int_equal(rm_net_forward(r->net), RM_OK);
        assert_int_equal(rm_net_backward(r->net, i == 0, NULL, NULL), RM_OK);
    }
    assert_int_equal(rm_net_update(r->net), RM_OK);
    assert_int_equal(rm_net_finish(r->net), RM_OK);
    return rm_net_loss(r->net);
}
static double step(rig *r, double lr, int micro) { return scaled_step(r, lr, micro, 1.0 / micro); }

static double *get(rig *r, rm_arena a, int i)
{
    double *v = malloc(r->g.param[i].count * sizeof *v);
    assert_int_equal(rm_params_get(&r->p, a, i, v), RM_OK);
    return v;
}

/* Largest relative L2 distance over all parameters. */
static double distance(rig *a, rig *b, rm_arena arena, double scale_b)
{
    double worst = 0;
    for (int i = 0; i < a->g.n_param; i++) {
        double *x = get(a, arena, i), *y = get(b, arena, i), dd = 0, xx = 0;
        for (uint64_t k = 0; k < a->g.param[i].count; k++) {
            double d = x[k] - scale_b * y[k];
            dd += d * d;
            xx += x[k] * x[k];
        }
        if (xx > 0) worst = fmax(worst, sqrt(dd / xx));
        else assert_true(dd == 0);
        free(x);
        free(y);
    }
    return worst;
}

static void live_tensors_never_overlap(void **state)
{
    (void)state;
    static const struct { const char *device; bool fuse; } rows[] = { { "null", true }, { "null", false }, { "cpu", true } };
    for (size_t k = 0; k < RM_COUNT(rows); k++) {
        rm_device_config dc = { .reference_only = true };
        rig r = open_rig(rows[k].device, &dc, base_config, 32, 2, rows[k].fuse);
        rm_net *net = r.net;
        int pairs = 0;
        for (int i = 0; i < net->n_tensor; i++)
            for (int j = 0; j < i; j++) {
                const rm_tensor *a = &net->tensor[i], *b = &net->tensor[j];
                if (a->home != HOME_ACTIVATION || b->home != HOME_ACTIVATION || a->first < 0 || b->first < 0) continue;
                if (a->first > b->last || b->first > a->last) continue;
                assert_true(a->offset >= b->offset + b->bytes || b->offset >= a->offset + a->bytes);
                pairs++;
            }
        assert_true(pairs > 1000);
        assert_true(net->size.activation_bytes < net->size.activation_naive_bytes);
        close_rig(&r);
    }
}

static void fused_equals_unfused(void **state)
{
    (void)state;
    rm_device_config dc = { 0 };
    rig a = open_rig("ref", &dc, base_config, 16, 4, true), b = open_rig("ref", &dc, base_config, 16, 4, false);
    settle(&a);
    settle(&b);
    double la = step(&a, 0.1, 1), lb = step(&b, 0.1, 1);
    assert_true(fabs(la - lb) < 1e-12);
    assert_true(distance(&a, &b, RM_ARENA_GRAD, 1) < 1e-10);
    assert_true(distance(&a, &b, RM_ARENA_WEIGHT, 1) < 1e-10);
    close_rig(&a);
    close_rig(&b);
}

static void cpu_follows_ref(void **state)
{
    (void)state;
    static const struct { rm_dtype dtype; bool fuse; double loss, grad; } rows[] = {
        { RM_F32, true, 1e-4, 2e-2 }, { RM_F32, false, 1e-4, 2e-2 }, { RM_BF16, true, 5e-2, 1.0 },
    };
    rm_device_config dc = { 0 };
    rig ref = open_rig("ref", &dc, base_config, 32, 8, true);
    settle(&ref);
    double want = step(&ref, 0.1, 1);
    for (size_t k = 0; k < RM_COUNT(rows); k++) {
        rm_net_config c = base_config;
        c.dtype = rows[k].dtype;
        dc.reference_only = true;
        rig cpu = open_rig("cpu", &dc, c, 32, 8, rows[k].fuse);
        settle(&cpu);
        double got = step(&cpu, 0.1, 1), grad = distance(&ref, &cpu, RM_ARENA_GRAD, 1);
        if (!(fabs(got - want) < rows[k].loss * want) || !(grad < rows[k].grad))
            fail_msg("%s %s: loss %.9g against %.9g, gradients off by %.3g", rm_dtype_name(c.dtype), rows[k].fuse ? "fused" : "unfused", got, want, grad);
        close_rig(&cpu);
    }
    close_rig(&ref);
}

static void same_bits_and_no_allocation(void **state)
{
    (void)state;
    rm_device_config dc = { .reference_only = true };
    double loss[2][4];
    for (int run = 0; run < 2; run++) {
        rig r = open_rig("cpu", &dc, base_config, 32, 4, true);
        settle(&r);
        uint64_t before = 0;
        for (int i = 0; i < 4; i++) {
            loss[run][i] = step(&r, 0.01, 1);
            if (i == 0) before = rm_device_allocs(r.d);
        }
        assert_int_equal(rm_device_allocs(r.d), before);
        close_rig(&r);
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    assert_true(loss[0][0] != loss[0][3]);
}

static void accumulation_sums_micro_batches(void **state)
{
    (void)state;
    rm_net_config c = base_config;
    rm_device_config dc = { 0 };
    rig a = open_rig("ref", &dc, c, 16, 4, true);
    c.accumulate = true;
    rig b = open_rig("ref", &dc, c, 16, 4, true);
    settle(&a);
    settle(&b);
    step(&a, 0.1, 1);
    step(&b, 0.1, 3);
    assert_true(distance(&a, &b, RM_ARENA_GRAD, 1.0 / 3) < 1e-12);
    assert_true(distance(&a, &b, RM_ARENA_WEIGHT, 1) < 1e-12);
    close_rig(&a);
    close_rig(&b);
}

static void loss_scale_changes_nothing(void **state)
{
    (void)state;
    rm_net_config c = base_config;
    rm_device_config dc = { 0 };
    rig a = open_rig("ref", &dc, c, 16, 4, true);
    c.loss_scale = 1024;
    rig b = open_rig("ref", &dc, c, 16, 4, true);
    settle(&a);
    settle(&b);
    assert_true(fabs(step(&a, 0.1, 1) - scaled_step(&b, 0.1, 1, 1.0 / 1024)) < 1e-12);
    assert_true(distance(&a, &b, RM_ARENA_GRAD, 1.0 / 1024) < 1e-12);
    assert_true(distance(&a, &b, RM_ARENA_WEIGHT, 1) < 1e-12);
    close_rig(&a);
    close_rig(&b);
}

/* Two sizes of image train one set of parameters; the second net takes the first's layouts. */
static void nets_share_parameters(void **state)
{
    (void)state;
    rm_device_config dc = { .reference_only = true };
    rig r = open_rig("cpu", &dc, base_config, 32, 4, true);
    settle(&r);
    rm_graph small;
    assert_int_equal(rm_graph_resnet(50, "v1.5", (rm_shape){ 4, 3, 16, 16 }, CLASSES, &small), RM_OK);
    rm_graph_fuse(&small);
    rm_net *net, *first = r.net;
    assert_int_equal(rm_net_new(r.d, &small, &base_config, &r.p, NULL, &net), RM_OK);
    double *before = get(&r, RM_ARENA_WEIGHT, 0);
    r.net = net;
    double l0 = step(&r, 0.01, 1);
    double *after = get(&r, RM_ARENA_WEIGHT, 0);
    assert_memory_not_equal(before, after, r.g.param[0].count * sizeof *before);
    for (int i = 0; i < 5; i++) step(&r, 0.01, 1);
    assert_true(step(&r, 0.01, 1) < l0);
    r.net = first;
    step(&r, 0.01, 1);
    free(before);
    free(after);
    rm_net_free(net);
    rm_graph_free(&small);
    close_rig(&r);
}

/* Nothing assumes that a device is synchronous: the null device behind a real worker thread. */
static void asynchronous_device(void **state)
{
    (void)state;
    rm_device_config dc = { .async = true };
    rig r = open_rig("null", &dc, base_config, 32, 2, true);
    settle(&r);
    assert_int_equal(rm_net_timers(r.net, true), RM_OK);
    for (int i = 0; i < 5; i++) step(&r, 0.1, 1);
    const rm_node *node;
    int32_t n = rm_net_nodes(r.net, &node);
    uint64_t last = 0;
    for (int32_t i = 0; i < n; i++) {
        uint64_t begin, end;
        assert_int_equal(rm_node_ns(r.net, &node[i], &begin, &end), RM_OK);
        assert_true(begin >= last && end >= begin);
        last = end;
    }
    close_rig(&r);
}

/* Backward completes the gradients in the order in which the arena lays them out. */
static void gradients_become_ready_in_order(void **state)
{
    (void)state;
    rm_device_config dc = { 0 };
    rig r = open_rig("null", &dc, base_config, 32, 2, true);
    const rm_node *node;
    int32_t n = rm_net_nodes(r.net, &node), ready = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!node[i].ready) continue;
        assert_true(node[i].ready > ready);
        ready = node[i].ready;
    }
    assert_int_equal(ready, 161);
    size_t at = 0;
    for (int i = 0; i < 161; i++) {
        const rm_slice *s = &r.p.slice[r.g.by_ready[i]];
        assert_true(s->offset >= at);
        at = s->offset + s->bytes;
    }
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_tensors_never_overlap), cmocka_unit_test(fused_equals_unfused), cmocka_unit_test(cpu_follows_ref),
        cmocka_unit_test(same_bits_and_no_allocation), cmocka_unit_test(accumulation_sums_micro_batches), cmocka_unit_test(loss_scale_changes_nothing),
        cmocka_unit_test(nets_share_parameters), cmocka_unit_test(asynchronous_device), cmocka_unit_test(gradients_become_ready_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
