/* Layer tables for people (see layer_table.h). */
#include "bench/layer_table.h"
#include "base/sort.h"
#include "bench/rows.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 160, GAINS = 5 };

typedef struct cell {
    char text[16];
} cell;

/* row[key] in a unit of 1/scale, "-" where there is none. */
static cell number(const json_t *row, const char *key, double scale, int decimals)
{
    cell c = { "-" };
    const double v = bench_row_real(row, key) * scale;
    if (isfinite(v)) snprintf(c.text, sizeof c.text, fabs(v) < 1e9 ? "%.*f" : "%.*e", decimals, v);
    return c;
}

void bench_peaks_print(const json_t *peaks)
{
    size_t i;
    json_t *p;
    bool disturbed = false;
    int at = printf("peaks:");
    json_array_foreach(peaks, i, p)
    {
        char text[96];
        const double v = bench_row_real(p, "value");
        if (isfinite(v)) snprintf(text, sizeof text, " %s %.1f G%s;", bench_row_text(p, "name"), v * 1e-9, bench_row_text(p, "unit"));
        else snprintf(text, sizeof text, " %s none;", bench_row_text(p, "name"));
        if (i + 1 == json_array_size(peaks)) text[strlen(text) - 1] = '\0';
        if (at + (int)strlen(text) > WIDTH) at = printf("\n      ") - 1;
        at += printf("%s", text);
        disturbed = disturbed || json_is_true(json_object_get(p, "disturbed"));
    }
    putchar('\n');
    if (disturbed) printf("other work had the cores while peaks were measured: they are too low, and so are the bounds\n");
}

static void print_row(const json_t *l)
{
    printf("%-24.24s %-11.11s %-16.16s %9s %6s%% %8s %7s %7s %8s %-7.7s %7s %9s  %.27s\n", bench_row_text(l, "name"), bench_row_text(l, "pass"),
           bench_row_text(l, "op"), number(l, "time_s", 1e3, 3).text, number(l, "share", 100, 2).text, number(l, "gflops_per_s", 1, 1).text,
           number(l, "gb_per_s", 1, 1).text, number(l, "intensity", 1, 1).text, number(l, "bound_s", 1e3, 3).text, bench_row_text_or(l, "bound_limit", "-"),
           number(l, "bound_share", 100, 1).text, number(l, "step_if_at_bound_s", 1e3, 3).text, bench_row_text(l, "impl"));
}

/* ---- the largest first */

typedef struct ranked {
    const json_t *row;
    double by;
    size_t i;
} ranked;

static bool larger(const void *x, const void *y)
{
    const ranked *a = x, *b = y;
    return a->by != b->by ? a->by > b->by : a->i < b->i;
}

/* How far above its bound; below 0 without one. */
static double gain_of(const json_t *l)
{
    const double bound = bench_row_real(l, "bound_s");
    return isfinite(bound) ? bench_row_real(l, "time_s") - bound : -1;
}
static double time_of(const json_t *l) { return bench_row_real(l, "time_s"); }

static ranked *rank(const json_t *layers, double (*by)(const json_t *))
{
    const size_t n = json_array_size(layers);
    ranked *r = calloc(n ? n : 1, sizeof *r);
    for (size_t i = 0; r && i < n; i++) r[i] = (ranked) { json_array_get(layers, i), by(json_array_get(layers, i)), i };
    if (r) rm_sort(r, n, sizeof *r, larger);
    return r;
}

static void print_gains(const json_t *layers, double step_s)
{
    ranked *r = rank(layers, gain_of);
    if (!r) return;
    printf("largest gains, if brought to the bound:\n");
    for (size_t i = 0; i < json_array_size(layers) && i < GAINS && r[i].by > 0; i++)
        printf("  %-24.24s %-11.11s %-16.16s %9.3f ms, %5.2f %% of the step, bound by %s\n", bench_row_text(r[i].row, "name"), bench_row_text(r[i].row, "pass"),
               bench_row_text(r[i].row, "op"), r[i].by * 1e3, 100 * r[i].by / step_s, bench_row_text(r[i].row, "bound_limit"));
    free(r);
}

static void print_all(const json_t *layers, size_t most)
{
    ranked *r = most ? rank(layers, time_of) : NULL;
    for (size_t i = 0; i < json_array_size(layers) && (!r || i < most); i++) print_row(r ? r[i].row : json_array_get(layers, i));
    free(r);
}

void bench_layer_table_print(const json_t *row, size_t most)
{
    const json_t *layers = json_object_get(row, "layers"), *peaks = json_object_get(row, "peaks"), *l;
    const double step_s = bench_row_real(row, "step_s"), at_bounds_s = bench_row_real(row, "at_bounds_s"), mfu = bench_row_real(row, "mfu");
    double sum = 0;
    size_t i;
    if (json_array_size(peaks)) bench_peaks_print(peaks);
    printf("%-24s %-11s %-16s %9s %7s %8s %7s %7s %8s %-7s %7s %9s  %s\n", "layer", "pass", "op", "ms", "share", "GFLOP/s", "GB/s", "FLOP/B", "bound ms",
           "limit", "% bound", "step if", "implementation");
    print_all(layers, most);
    json_array_foreach(layers, i, l) sum += bench_row_real(l, "time_s");
    printf("%-24s %-11s %-16s %9.3f  rows sum to %.3f ms; %.1f images/s", "step", "", "", step_s * 1e3, sum * 1e3, bench_row_real(row, "images_per_s"));
    if (isfinite(mfu)) printf("; MFU %.1f %% of %s", 100 * mfu, bench_row_text(row, "mfu_peak"));
    putchar('\n');
    if (!isfinite(at_bounds_s)) return;
    printf("all rows at their bounds: %.3f ms, %.1f %% of the step (rows without a bound as they are)\n", at_bounds_s * 1e3, 100 * at_bounds_s / step_s);
    print_gains(layers, step_s);
}
