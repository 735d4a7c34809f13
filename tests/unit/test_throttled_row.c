/* Throttled steps in rows: counted once however many ranks say so, with the reasons that count, and null with a reason where nobody could look. */
#include "bench/throttled_row.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { RANKS = 2, STEPS = 4 };

static json_t *steps_json(const rm_gpu_reading r[RANKS][STEPS])
{
    json_t *ranks = json_array();
    for (int k = 0; k < RANKS; k++) {
        json_t *steps = json_array();
        for (int i = 0; i < STEPS; i++) {
            rm_step s = { .step_ns = 1000000000u, .gpu = r[k][i] };
            double v[BENCH_TERMS];
            bench_terms_of(&s, NAN, v);
            json_array_append_new(steps, bench_samples(v, BENCH_TERMS));
        }
        json_array_append_new(ranks, steps);
    }
    return json_pack("{s:o}", "ranks", ranks);
}

static char *text_of(const json_t *o, const char *key)
{
    static char text[8][256];
    static int at;
    at = (at + 1) % 8;
    char *dumped = json_dumps(json_object_get(o, key), JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(text[at], sizeof text[at], "%s", dumped ? dumped : "none");
    free(dumped);
    return text[at];
}

static void set(const char *watch, json_t *row, json_t *samples)
{
    const rm_gpu_reading r[RANKS][STEPS] = {
        { { 0, 1980, 400000, 60 }, { 4, 1500, 700000, 80 }, { 2, 1980, -1, 60 }, { -1, -1, -1, -1 } },
        { { 1, 1900, 300000, 61 }, { 0x44, 1400, 650000, 90 }, { 3, 1980, 500000, 62 }, { 0x20, 1700, 600000, 91 } },
    };
    json_t *mode = steps_json(r), *gathered = watch ? json_pack("{s:s}", "gpu_watch", watch) : json_object();
    bench_steps t;
    assert_int_equal(bench_steps_read(mode, &t), RM_OK);
    bench_set_throttled(row, samples, &t, gathered);
    bench_steps_free(&t);
    json_decref(mode);
    json_decref(gathered);
}

static void a_step_counts_once_and_keeps_all_samples(void **state)
{
    json_t *row = json_object(), *samples = json_object();
    set("", row, samples);
    assert_string_equal(text_of(row, "throttled_samples"), "2");
    assert_string_equal(text_of(row, "throttle_reasons"), "[\"power cap\",\"software thermal\",\"hardware thermal\"]");
    assert_string_equal(text_of(samples, "throttled"), "[0.0,1.0,0.0,1.0]");
    assert_string_equal(text_of(samples, "gpu_sm_mhz"), "[1900.0,1400.0,1980.0,1700.0]");
    assert_string_equal(text_of(samples, "gpu_power_w"), "[400.0,700.0,500.0,600.0]");
    assert_string_equal(text_of(samples, "gpu_temperature_c"), "[61.0,90.0,62.0,91.0]");
    json_decref(row);
    json_decref(samples);
}

static void nobody_looked(void **state)
{
    json_t *row = json_object(), *samples = json_object();
    set(NULL, row, samples); /* not a GPU */
    assert_int_equal(json_object_size(row) + json_object_size(samples), 0);
    set("no permission", row, samples);
    assert_string_equal(text_of(row, "throttled_samples"), "null");
    assert_string_equal(text_of(row, "throttled_samples_reason"), "\"no permission\"");
    assert_string_equal(text_of(row, "throttle_reasons_reason"), "\"no permission\"");
    assert_int_equal(json_object_size(samples), 0);
    json_decref(row);
    json_decref(samples);
}

static void one_rank_that_is_told_nothing_of_a_step(void **state)
{
    const rm_gpu_reading r[3] = { { -1, -1, -1, -1 }, { 8, 345, 100000, 95 }, { 2, 1980, 1000, 20 } };
    json_t *row = json_object(), *samples = json_object();
    bench_set_throttled_own(row, samples, r, 3, NULL);
    assert_string_equal(text_of(row, "throttled_samples"), "1");
    assert_string_equal(text_of(row, "throttle_reasons"), "[\"hardware slowdown\"]");
    assert_string_equal(text_of(samples, "throttled"), "[null,1.0,0.0]");
    json_decref(row);
    json_decref(samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_step_counts_once_and_keeps_all_samples), cmocka_unit_test(nobody_looked), cmocka_unit_test(one_rank_that_is_told_nothing_of_a_step) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
