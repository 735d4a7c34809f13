/* The graph against the known figures of ResNet. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "model/graph.h"

static rm_graph make(int depth, const char *variant, int px, int classes)
{
    rm_graph g;
    assert_int_equal(rm_graph_resnet(depth, variant, (rm_shape){ 2, 3, px, px }, classes, &g), RM_OK);
    return g;
}

static void known_figures(void **state)
{
    (void)state;
    static const struct { int depth; const char *variant; uint64_t params, macs; int convs, gradients; } known[] = {
        { 50, "v1.5", 25557032, 4089184256, 53, 161 },
        { 50, "v1", 25557032, 3857973248, 53, 161 },
        { 101, "v1.5", 44549160, 7801405440, 104, 314 },
        { 152, "v1.5", 60192808, 11513626624, 155, 467 },
    };
    for (size_t i = 0; i < RM_COUNT(known); i++) {
        rm_graph g = make(known[i].depth, known[i].variant, 224, 1000);
        assert_int_equal(rm_graph_params(&g), known[i].params);
        assert_int_equal(rm_graph_macs(&g), known[i].macs);
        assert_int_equal(rm_graph_count(&g, RM_K_CONV), known[i].convs);
        assert_int_equal(rm_graph_count(&g, RM_K_BN), known[i].convs);
        assert_int_equal(g.n_param, known[i].gradients);
        rm_graph_free(&g);
    }
}

static void ready_order(void **state)
{
    (void)state;
    rm_graph g = make(50, "v1.5", 224, 1000);
    uint64_t first = 0;
    assert_string_equal(g.param[g.by_ready[0]].name, "fc.bias");
    assert_string_equal(g.param[g.by_ready[1]].name, "fc.weight");
    assert_string_equal(g.param[g.by_ready[107]].name, "layer2.1.bn3.bias");
    assert_string_equal(g.param[g.by_ready[160]].name, "conv1.weight");
    for (int i = 0; i <= 107; i++) first += g.param[g.by_ready[i]].count;
    /* HCCL's documented default split is 96.54 % / 3.46 % */
    assert_int_equal((int)(10000.0 * (double)first / (double)rm_graph_params(&g) + 0.5), 9654);
    for (int i = 0; i < g.n_param; i++) assert_int_equal(g.param[g.by_ready[i]].ready, i);
    rm_graph_free(&g);
}

static void fusion_keeps_parameters(void **state)
{
    (void)state;
    rm_graph a = make(50, "v1.5", 224, 10), b = make(50, "v1.5", 224, 10);
    rm_graph_fuse(&b);
    assert_int_equal(rm_graph_count(&b, RM_K_RELU), 0);
    assert_int_equal(rm_graph_count(&b, RM_K_ADD), 0);
    assert_int_equal(a.n_layer - b.n_layer, 49 + 16);
    assert_int_equal(a.n_param, b.n_param);
    for (int i = 0; i < a.n_param; i++) {
        assert_string_equal(a.param[i].name, b.param[i].name);
        assert_int_equal(a.param[i].ready, b.param[i].ready);
        assert_string_equal(a.layer[a.param[i].layer].name, b.layer[b.param[i].layer].name);
    }
    for (int i = 0; i < b.n_layer; i++)
        for (int s = 0; s < 2; s++) assert_true(b.layer[i].in[s] < i);
    int adds = 0;
    for (int i = 0; i < b.n_layer; i++) adds += b.layer[i].add;
    assert_int_equal(adds, 16);
    rm_graph_free(&a);
    rm_graph_free(&b);
}

static void stride_of_the_variants(void **state)
{
    (void)state;
    static const struct { const char *variant; int conv1, conv2; } rows[] = { { "v1", 2, 1 }, { "v1.5", 1, 2 } };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        rm_graph g = make(50, rows[i].variant, 64, 1000);
        for (int l = 0; l < g.n_layer; l++) {
            if (!strcmp(g.layer[l].name, "layer2.0.conv1")) assert_int_equal(g.layer[l].stride, rows[i].conv1);
            if (!strcmp(g.layer[l].name, "layer2.0.conv2")) assert_int_equal(g.layer[l].stride, rows[i].conv2);
        }
        rm_graph_free(&g);
    }
}

static void impossible_graphs(void **state)
{
    (void)state;
    rm_graph g;
    const rm_shape ok = { 1, 3, 64, 64 }, tiny = { 1, 3, 7, 7 }, none = { 0, 3, 64, 64 };
    assert_int_equal(rm_graph_resnet(34, "v1.5", ok, 1000, &g), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "34"));
    assert_int_equal(rm_graph_resnet(50, "v2", ok, 1000, &g), RM_E_ARG);
    assert_int_equal(rm_graph_resnet(50, "v1", tiny, 1000, &g), RM_E_ARG);
    assert_int_equal(rm_graph_resnet(50, "v1", none, 1000, &g), RM_E_ARG);
    assert_int_equal(rm_graph_resnet(50, "v1", ok, 0, &g), RM_E_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_figures), cmocka_unit_test(ready_order), cmocka_unit_test(fusion_keeps_parameters),
        cmocka_unit_test(stride_of_the_variants), cmocka_unit_test(impossible_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
