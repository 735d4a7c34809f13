/* Recipes: the table, the parser's refusals, the built-in files against the published settings, and schedules against
 * values computed by the sources' own formulas in another language. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/recipe.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static rm_recipe load(const char *name)
{
    rm_recipe r;
    if (rm_recipe_load(name, &r) != RM_OK) fail_msg("%s", rm_last_error());
    return r;
}

static rm_status parse(const char *text, rm_recipe *r) { return rm_recipe_parse(text, strlen(text), "text", r); }

static void near(double have, double want)
{
    if (fabs(have - want) > 1e-13 * fabs(want) + 2e-16) fail_msg("%.17g, expected %.17g", have, want);
}

/* ---- schedules */
typedef struct { uint64_t step; double lr; } point;

static void check_points(const char *recipe, uint64_t steps_per_epoch, const point *p, size_t n)
{
    rm_recipe r = load(recipe);
    uint64_t total = (uint64_t)llround(r.epochs * (double)steps_per_epoch);
    for (size_t i = 0; i < n; i++) near(rm_recipe_lr(&r, p[i].step, steps_per_epoch, total, (uint32_t)r.global_batch), p[i].lr);
}

static void test_schedules(void **state)
{
    static const point cosine[] = { { 0, 0.0004096 }, { 1, 0.0008192 }, { 4999, 2.048 }, { 5000, 2.048 }, { 5001, 2.047999998076102 },
                                    { 30000, 1.0632219992985963 }, { 56249, 1.9238976847191224e-09 } };
    static const point ms[] = { { 0, 0.100001 }, { 1, 0.10000077795433854 }, { 225180, 0.02735370783296286 }, { 450359, 1.001966646459247e-06 } };
    static const point poly[] = { { 0, 0.00641025641025641 }, { 1559, 10 }, { 1560, 9.999043323527848 }, { 1561, 9.999043323527848 },
                                  { 1562, 9.99808669281984 }, { 12000, 2.50605794628735 }, { 22463, 0.00010009152828071952 } };
    static const point linear[] = { { 0, 0.00064 }, { 1249, 0.8 }, { 1250, 0.8 }, { 28125, 0.4090909090909091 }, { 56249, 1.4545454545378256e-05 } };
    check_points("rn50-90", 625, cosine, RM_COUNT(cosine));
    check_points("mindspore-seed", 5004, ms, RM_COUNT(ms));
    check_points("mlperf", 312, poly, RM_COUNT(poly));
    check_points("mindspore-models", 625, linear, RM_COUNT(linear));
}

static void test_step_and_constant(void **state)
{
    rm_recipe r;
    rm_recipe_defaults(&r);
    assert_int_equal(rm_recipe_set(&r, "schedule", "step"), RM_OK);
    near(rm_recipe_lr(&r, 299, 10, 900, 256), 0.1);
    near(rm_recipe_lr(&r, 300, 10, 900, 256), 0.01);
    near(rm_recipe_lr(&r, 899, 10, 900, 256), 0.001);
    assert_int_equal(rm_recipe_set(&r, "schedule", "constant"), RM_OK);
    near(rm_recipe_lr(&r, 899, 10, 900, 256), 0.1);
}

static void test_scaling_and_edges(void **state)
{
    rm_recipe r = load("rn50-90");
    assert_true(r.lr_scale);
    near(rm_recipe_lr(&r, 5000, 625, 56250, 256), 0.256);  /* 0.256 per 256 images */
    near(rm_recipe_lr(&r, 0, 625, 56250, 1024), 0.0002048);
    r.lr_scale = false;
    near(rm_recipe_lr(&r, 5000, 625, 56250, 256), 2.048);
    /* Shorter than the warm-up, past the end, nothing at all: finite, never above the peak. */
    static const char *const names[] = { "constant", "step", "linear", "cosine", "ms-cosine", "poly" };
    static const uint64_t totals[] = { 0, 1, 2, 100, 5000 };
    for (size_t s = 0; s < RM_COUNT(names); s++)
        for (size_t t = 0; t < RM_COUNT(totals); t++)
            for (uint64_t step = 0; step < 6000; step += 7) {
                assert_int_equal(rm_recipe_set(&r, "schedule", names[s]), RM_OK);
                double lr = rm_recipe_lr(&r, step, 625, totals[t], 2048);
                assert_true(isfinite(lr) && lr >= 0 && lr <= 2.048 * 1.0001);
            }
    near(rm_recipe_lr(&r, 99999, 10, 300, 2048), rm_recipe_lr(&r, 299, 10, 300, 2048));
    r.warmup_start_lr = 0.5;
    near(rm_recipe_lr(&r, 0, 1, 100, 2048), 0.5 + (2.048 - 0.5) / 8);
}

/* ---- built-in recipes */
static void test_builtin(void **state)
{
    const char *const *names = rm_recipe_names();
    int n = 0;
    for (; names[n]; n++) {
        rm_recipe r = load(names[n]);
        assert_string_equal(r.name, names[n]);
        assert_true(r.summary[0] && r.epochs > 0 && r.lr > 0);
    }
    assert_true(n >= 5);
    rm_recipe r = load("rn50-90");
    near(r.weight_decay, 1.0 / 32768);
    near(r.momentum, 0.875);
    assert_true(r.decay_bias && !r.decay_bn && !r.nesterov && r.global_batch == 2048);
    near(r.published_top1, 77.12);
    r = load("mindspore-seed");
    assert_true(r.decay_bn && r.decay_bias && r.zero_init_last_gamma && r.warmup_epochs == 0 && r.loss_scale == 1024);
    assert_string_equal(r.split, "[107,160]");
    r = load("mindspore-models");
    assert_true(!r.decay_bn && !r.decay_bias && r.warmup_epochs == 2);
    r = load("mlperf");
    assert_string_equal(r.optimizer, "lars");
    near(r.target_top1, 75.9);
    assert_int_equal(r.eval_every, 4);
    r = load("tiny");
    assert_int_equal(r.px, 32);
}

static void test_load_refuses(void **state)
{
    rm_recipe r;
    assert_int_equal(rm_recipe_load("nosuch", &r), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "rn50-90"));
    assert_int_equal(rm_recipe_load("rn50", &r), RM_E_ARG); /* no prefixes */
    assert_int_equal(rm_recipe_load("", &r), RM_E_ARG);
    assert_int_equal(rm_recipe_load("./absent.recipe", &r), RM_E_IO);
    assert_non_null(strstr(rm_last_error(), "./absent.recipe"));
}

static void test_load_path(void **state)
{
    char path[] = "/tmp/ringmark-XXXXXX.recipe";
    int fd = mkstemps(path, 7);
    assert_true(fd >= 0);
    static const char text[] = "lr = 0.25\r\n\n# nothing\nflip = no   # mirrored digits\r\nmean = 0.1 0.2\t1/2";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    rm_recipe r = load(path);
    unlink(path);
    near(r.lr, 0.25);
    near(r.mean[2], 0.5);
    assert_false(r.flip);
    assert_int_equal(strncmp(r.name, "ringmark-", 9), 0);
    assert_null(strchr(r.name, '/'));
    assert_null(strstr(r.name, ".recipe"));
}

/* ---- the parser */
static void test_parse_refuses(void **state)
{
    static const struct { const char *text, *says; } bad[] = {
        { "lr", "text:1" }, { "\n\nlrr = 1\n", "text:3: unknown key lrr" }, { "lr = 1\nlr = 2", "text:2: lr is given twice" },
        { "lr =", "number" }, { "lr = nan", "number" }, { "lr = inf", "number" }, { "lr = -inf", "number" }, { "lr = 0x10", "number" },
        { "lr = 1e999", "number" }, { "lr = 1/0", "number" }, { "lr = 1 2", "number" }, { "lr = 0.1x", "number" }, { "lr = -1", "0 to 1000" },
        { "depth = 34", "50|101|152" }, { "depth = 5", "50|101|152" }, { "depth = 50|101", "50|101|152" }, { "depth =", "50|101|152" },
        { "variant = v2", "v1|v1.5" }, { "schedule = cos", "cosine" }, { "batch = 0", "1 to" }, { "batch = 1.5", "whole" },
        { "batch = 99999999999999999999", "whole" }, { "flip = maybe", "true or false" }, { "mean = 0.1 0.2", "three" },
        { "mean = 0.1 0.2 0.3 0.4", "three" }, { "std = 0 1 1", "expected" }, { "name = a/b", "letters" }, { "name = ../x", "letters" },
        { "progressive = 16", "PXxEPOCHS" }, { "progressive = 4x1", "PXxEPOCHS" }, { "progressive = 16x0", "PXxEPOCHS" }, { "progressive = 16x1,24x1", "PXxEPOCHS" },
        { "progressive = 8x1 8x1 8x1 8x1 8x1 8x1 8x1 8x1 8x1", "at most 8" }, { "crop_scale_min = 1\ncrop_scale_max = 0.5", "crop_scale" },
        { "eval_resize = 200", "eval_resize" }, { "nesterov = yes\noptimizer = lars", "nesterov" },
        { "summary = \x01", "plain text" },
        { "source = 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
          "012345678901234567890123456789012345678901234567890123456789", "at most 159" },
    };
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        rm_recipe r = { .px = 7 };
        if (parse(bad[i].text, &r) != RM_E_FORMAT) fail_msg("accepted: %s", bad[i].text);
        if (!strstr(rm_last_error(), bad[i].says) || strncmp(rm_last_error(), "text", 4)) fail_msg("%s: %s", bad[i].text, rm_last_error());
        assert_int_equal(r.px, 7); /* outputs only on success */
    }
    rm_recipe r;
    assert_int_equal(rm_recipe_parse("lr = 1\0lr", 9, "text", &r), RM_E_FORMAT);
    char line[700];
    memset(line, ' ', sizeof line);
    assert_int_equal(rm_recipe_parse(line, sizeof line, "text", &r), RM_E_FORMAT);
    assert_int_equal(rm_recipe_parse("", 0, "text", &r), RM_OK);
}

static void test_set(void **state)
{
    rm_recipe r;
    rm_recipe_defaults(&r);
    assert_int_equal(rm_recipe_set(&r, "weight_decay", "1/32768"), RM_OK);
    near(r.weight_decay, 1.0 / 32768);
    assert_int_equal(rm_recipe_set(&r, "weight_decay", "2"), RM_E_ARG);
    near(r.weight_decay, 1.0 / 32768);
    assert_int_equal(rm_recipe_set(&r, "nosuch", "2"), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "nosuch"));
    assert_int_equal(rm_recipe_set(&r, "split", "single"), RM_OK);
    assert_int_equal(rm_recipe_set(&r, "split", ""), RM_OK);
    assert_string_equal(r.split, "");
}

static void copy_key(void *ctx, const char *key, const char *value, const char *help)
{
    assert_true(help && help[0]);
    if (rm_recipe_set(ctx, key, value) != RM_OK) fail_msg("%s", rm_last_error());
}

/* Echo and setter are inverse, to the last bit. */
static void test_round_trip(void **state)
{
    for (const char *const *name = rm_recipe_names(); *name; name++) {
        rm_recipe r = load(*name), copy;
        r.lr = 0.1 + 0.2;
        r.std[1] = 1.0 / 3;
        r.weight_decay = 1e-300;
        memset(&copy, 0xA5, sizeof copy);
        rm_recipe_defaults(&copy);
        rm_recipe_each(&r, copy_key, &copy);
        assert_string_equal(copy.summary, r.summary);
        assert_string_equal(copy.source, r.source);
        assert_true(copy.lr == r.lr && copy.std[1] == r.std[1] && copy.weight_decay == r.weight_decay && copy.px == r.px && copy.flip == r.flip);
    }
}

static void find_row(void *ctx, const char *key, const char *value, const char *help)
{
    char row[512];
    snprintf(row, sizeof row, "| `%s` | %s | %s |\n", key, value, help);
    if (!strstr(ctx, row)) fail_msg("docs/recipes.md lacks the row %s", row);
}

/* The manual's table of keys is the program's own. */
static void test_documented(void **state)
{
    static char text[1 << 16];
    FILE *f = fopen(RM_SOURCE_DIR "/docs/recipes.md", "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    rm_recipe r;
    rm_recipe_defaults(&r);
    rm_recipe_each(&r, find_row, text);
}

static void test_stages(void **state)
{
    int32_t px[RM_RECIPE_STAGES];
    double epochs[RM_RECIPE_STAGES];
    uint32_t n = 9;
    rm_recipe r;
    rm_recipe_defaults(&r);
    assert_int_equal(rm_recipe_stages(&r, px, epochs, &n), RM_OK);
    assert_int_equal(n, 0);
    assert_int_equal(rm_recipe_set(&r, "progressive", "16x1.0 24x0.5  32x1/2"), RM_OK);
    assert_int_equal(rm_recipe_stages(&r, px, epochs, &n), RM_OK);
    assert_int_equal(n, 3);
    assert_true(px[0] == 16 && px[1] == 24 && px[2] == 32);
    assert_true(epochs[0] == 1 && epochs[1] == 0.5 && epochs[2] == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules), cmocka_unit_test(test_step_and_constant), cmocka_unit_test(test_scaling_and_edges),
        cmocka_unit_test(test_builtin), cmocka_unit_test(test_load_refuses), cmocka_unit_test(test_load_path),
        cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_set), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_documented), cmocka_unit_test(test_stages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
