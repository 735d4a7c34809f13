/* Layers of the gate's pairs: which are named, and with how few pairs none can be. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rng.h"
#include "bench/gate_layers.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 60 };

/* The document of a run of bench layers whose layer 17 is slower. */
static json_t *document_of(rm_rng *g, double slower)
{
    json_t *layers = json_array();
    const double mood = exp(0.03 * rm_rng_normal(g)); /* of the machine, in all layers of a run */
    for (int i = 0; i < LAYERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer%d.conv", i);
        json_array_append_new(layers, json_pack("{s:s, s:s, s:f}", "name", name, "pass", i % 2 ? "bwd_data" : "fwd", "time_s_median",
                                                1e-3 * (1 + i) * mood * exp(0.01 * rm_rng_normal(g)) * (i == 17 ? slower : 1)));
    }
    return json_pack("{s:[{s:o}]}", "results", "layers", layers);
}

static json_t *pairs_of(int n, double slower)
{
    json_t *all = json_array();
    rm_rng g = rm_rng_for(2, 0, 0);
    for (int i = 0; i < n; i++) {
        json_t *a = document_of(&g, 1), *b = document_of(&g, slower);
        json_array_append_new(all, json_pack("{s:s?, s:o}", "discarded", NULL, "layers", bench_gate_layer_values(a, b)));
        json_decref(a);
        json_decref(b);
        if (i == 0) json_array_append_new(all, json_pack("{s:s, s:{}}", "discarded", "exit", "layers")); /* does not count */
    }
    return all;
}

static void named_are(int n, double slower, const char *want)
{
    json_t *pairs = pairs_of(n, slower), *named = NULL;
    int rows = 0;
    assert_int_equal(bench_gate_layers_judge(pairs, n, 1, &named, &rows), RM_OK);
    assert_int_equal(rows, LAYERS);
    assert_int_equal(json_array_size(named), want ? 1 : 0);
    if (want) {
        const json_t *layer = json_array_get(named, 0);
        assert_string_equal(json_string_value(json_object_get(layer, "name")), want);
        assert_string_equal(json_string_value(json_object_get(layer, "pass")), "bwd_data");
        assert_true(fabs(json_real_value(json_object_get(layer, "delta")) - (slower - 1)) < 0.02 && json_real_value(json_object_get(layer, "p")) <= 0.01);
    }
    json_decref(named);
    json_decref(pairs);
}

static void the_slower_layer_is_named(void **state)
{
    named_are(16, 1.10, "layer17.conv");
    named_are(16, 1.03, NULL); /* slower, and too little to count */
    named_are(16, 1.00, NULL);
    named_are(10, 1.10, NULL); /* 2^10 orders of signs and sixty layers: one is like the data by chance */
}

static void how_many_pairs_it_takes(void **state)
{
    json_t *pairs = pairs_of(1, 1), *none = json_array();
    assert_int_equal(bench_gate_layers_least(pairs), 13);
    assert_int_equal(bench_gate_layers_least(none), 0);
    json_decref(pairs);
    json_decref(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_slower_layer_is_named), cmocka_unit_test(how_many_pairs_it_takes) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
