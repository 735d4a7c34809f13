/* The layer table: rows add up to the step to the nanosecond, with the update in parts, several micro-batches and injected trouble too. */
#include "bench/layer_table.h"
#include "bench/rows.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { STEPS = 3, BATCH = 4, PX = 16, CLASSES = 10 };
typedef struct setting {
    const char *device;
    int32_t accumulate;
    bool in_parts;
    uint64_t compute_ns;
} setting;

/* Times of some steps; the caller frees. */
static void measure(const setting *s, rm_device **d, rm_comm **c, rm_engine *e, bench_layer_times **t)
{
    static rm_recipe r; /* the engine keeps a pointer */
    const rm_comm_config cc = { .timeout_s = 60 };
    rm_synthetic images;
    assert_int_equal(rm_recipe_load("tiny", &r), RM_OK);
    r.accumulate = s->accumulate;
    assert_int_equal(rm_device_open(s->device, NULL, d), RM_OK);
    assert_int_equal(rm_comm_open("self", &cc, *d, c), RM_OK);
    const rm_engine_config ec = { .recipe = &r,
                                  .dtype = RM_F32,
                                  .px = PX,
                                  .batch = BATCH,
                                  .classes = CLASSES,
                                  .timers = true,
                                  .split = "equal:4",
                                  .update_on_arrival = s->in_parts,
                                  .seed = 1 };
    assert_int_equal(rm_engine_new(*d, *c, &ec, e), RM_OK);
    e->inject.compute_ns = s->compute_ns;
    assert_int_equal(rm_synthetic_new(BATCH, PX, CLASSES, 1, &images), RM_OK);
    const rm_source source = rm_source_synthetic(&images);
    assert_int_equal(bench_layer_times_new(e, STEPS, t), RM_OK);
    for (uint64_t i = 0; i < STEPS; i++) {
        rm_step step;
        assert_int_equal(rm_engine_step(e, &source, i, 1e-4, &step), RM_OK);
        assert_int_equal(bench_layer_times_note(*t, &step), RM_OK);
    }
    rm_synthetic_free(&images);
}

static int count(const json_t *layers, const char *key, const char *value)
{
    size_t i;
    const json_t *l;
    int n = 0;
    json_array_foreach(layers, i, l) n += !strcmp(bench_row_text(l, key), value);
    return n;
}

static double seconds_of(const json_t *layers, const char *name)
{
    size_t i;
    const json_t *l;
    json_array_foreach(layers, i, l) if (!strcmp(bench_row_text(l, "name"), name)) return bench_row_real(l, "time_s");
    return 0;
}

static void check_rows(const setting *s, const rm_engine *e, const json_t *table)
{
    const json_t *layers = json_object_get(table, "layers"), *l;
    const rm_node *node;
    json_int_t sum = 0;
    size_t i;
    json_array_foreach(layers, i, l)
    {
        sum += json_integer_value(json_object_get(l, "time_ns"));
        assert_true(json_integer_value(json_object_get(l, "time_ns")) >= 0);
        assert_true(json_is_null(json_object_get(l, "bound_s")) && bench_row_real(l, "time_s_median") >= 0);
    }
    assert_true(sum > 0 && sum == json_integer_value(json_object_get(table, "wall_ns")));
    assert_int_equal(count(layers, "pass", "update"), 1);
    assert_int_equal(count(layers, "name", "host"), 1);
    assert_int_equal(count(layers, "name", "idle"), 1);
    assert_true((int32_t)json_array_size(layers) >= rm_net_nodes(e->net, &node) + 2);
    assert_true(seconds_of(layers, "optim") > 0); /* also in parts */
    assert_int_equal(count(layers, "name", "other computing"), s->compute_ns || s->accumulate > 1);
    assert_true(seconds_of(layers, "other computing") >= (double)s->compute_ns * 1e-9);
}

static void rows_add_up(void **state)
{
    static const setting row[] = {
        { "null", 1, false, 0 }, { "null", 1, true, 0 }, { "null", 2, true, 0 }, { "null", 2, false, 0 }, { "null", 1, true, 3000000 },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_device *d;
        rm_comm *c;
        rm_engine e;
        bench_layer_times *t;
        measure(&row[i], &d, &c, &e, &t);
        json_t *table = bench_layer_times_json(t, NULL);
        assert_non_null(table);
        check_rows(&row[i], &e, table);
        json_decref(table);
        bench_layer_times_free(t);
        rm_engine_free(&e);
        rm_comm_close(c);
        rm_device_close(d);
    }
}

/* Peaks by hand, 1 GFLOP/s and 1 GB/s: every op is bounded by more than no time, and the whole by its parts. */
static void bounds(void **state)
{
    static const setting s = { "null", 1, false, 0 };
    rm_device *d;
    rm_comm *c;
    rm_engine e;
    bench_layer_times *t;
    rm_peaks p = { .level = { { "memory", UINT64_MAX, 1e9 } }, .n_level = 1 };
    rm_peaks_add(&p, "fma fp32", "FLOP/s", 1e9, "by hand", NULL);
    rm_peaks_add(&p, "gemm fp32", "FLOP/s", 5e8, "by hand", NULL);
    measure(&s, &d, &c, &e, &t);
    json_t *table = bench_layer_times_json(t, &p), *mfu = json_object(), *l;
    size_t i;
    int bounded = 0;
    double gains = 0;
    json_array_foreach(json_object_get(table, "layers"), i, l)
    {
        const double flops = bench_row_real(l, "flops"), bytes = bench_row_real(l, "bytes"), want = fmax(flops, bytes) * 1e-9,
                     time = bench_row_real(l, "time_s");
        if (!bench_row_text(l, "op")[0] || want == 0) continue;
        bounded++;
        assert_true(fabs(bench_row_real(l, "bound_s") - want) <= 1e-12 * want);
        if (flops != bytes) assert_string_equal(bench_row_text(l, "bound_limit"), flops > bytes ? "compute" : "memory");
        gains += fmax(0, time - want);
    }
    const double wall_s = bench_row_real(table, "wall_ns") * 1e-9;
    assert_true(bounded > 100);
    assert_true(fabs(bench_row_real(table, "at_bounds_s") - (wall_s - gains)) < 1e-12);
    bench_mfu_set(mfu, &e, 10, &p);
    assert_string_equal(bench_row_text(mfu, "mfu_peak"), "gemm fp32");
    assert_true(fabs(bench_row_real(mfu, "mfu") - 10 * 6.0 * (double)rm_graph_macs(&e.graph) / 5e8) < 1e-9);
    bench_mfu_set(mfu, &e, 10, NULL);
    assert_true(json_is_null(json_object_get(mfu, "mfu")) && bench_row_text(mfu, "mfu_reason")[0]);
    json_decref(mfu);
    json_decref(table);
    bench_layer_times_free(t);
    rm_engine_free(&e);
    rm_comm_close(c);
    rm_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rows_add_up), cmocka_unit_test(bounds) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
