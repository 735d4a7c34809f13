#include "bench/commands.h"
#include "bench/scaling_loss.h"
#include "bench/split_sweep.h"
#include "bench/twins.h"
#include "profiler/stats.h"
#include <stdio.h>
#include <string.h>

static const json_t *split_of(const json_t *gathered, int32_t i) { return json_array_get(json_object_get(gathered, "splits"), (size_t)i); }

/* The command line that gives this row again: alone, so that what it says of other splits is missing there. */
static void set_reproduce(const bench_options *o, json_t *row)
{
    char ranks[16];
    bench_options one = *o;
    snprintf(ranks, sizeof ranks, "%d", (int)json_integer_value(json_object_get(row, "ranks")));
    one.gpus = ranks;
    one.splits = json_string_value(json_object_get(row, "split"));
    json_object_set_new(row, "reproduce", bench_reproduce(&bench_cmd_split_sweep, &one));
}

static void set_shares(const bench_options *o, const json_t *gathered, json_t *row)
{
    enum { MOST = 512 };
    uint64_t bytes[MOST];
    uint32_t end[MOST];
    char text[512] = "";
    const json_t *sizes = json_object_get(gathered, "gradient_bytes"), *ends = json_object_get(row, "ends");
    const size_t n = json_array_size(sizes), parts = json_array_size(ends);
    for (size_t i = 0; i < n && i < MOST; i++) bytes[i] = (uint64_t)json_integer_value(json_array_get(sizes, i));
    for (size_t i = 0; i < parts && i < MOST; i++) end[i] = (uint32_t)json_integer_value(json_array_get(ends, i));
    if (n <= MOST && parts && parts <= n) rm_split_shares(bytes, end, (uint32_t)parts, text, sizeof text);
    json_object_set_new(row, "shares", json_string(text));
}

/* Images over the time of all rounds, never a mean of rates. */
static void set_images(json_t *row, const bench_steps *t)
{
    const double images = (double)json_integer_value(json_object_get(row, "batch_per_device")) * t->ranks * t->n;
    double window = 0;
    for (int32_t i = 0; i < t->n; i++) window += t->slowest[i];
    bench_set_number(row, "images_per_s", images / window, "no time was measured");
}

json_t *bench_sweep_row(const bench_options *o, const json_t *gathered, int32_t i)
{
    const json_t *about = json_object_get(gathered, "about");
    bench_steps t = { 0 };
    json_t *row = bench_twins_row(gathered, i), *samples = NULL;
    if (row && bench_steps_read(json_object_get(split_of(gathered, i), "steps"), &t) == RM_OK) {
        json_object_update(row, (json_t *)(uintptr_t)about);
        json_object_set_new(row, "origin", json_string(json_is_true(json_object_get(gathered, "ghost")) ? "emulated" : "measured"));
        set_shares(o, gathered, row);
        set_images(row, &t);
        set_reproduce(o, row);
        samples = bench_samples(t.slowest, (size_t)t.n);
    }
    bench_steps_free(&t);
    return samples ? json_pack("{s:o, s:{s:o}}", "row", row, "samples", "step_s", samples) : (json_decref(row), NULL);
}
