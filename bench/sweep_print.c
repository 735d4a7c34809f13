/* What bench split-sweep prints. */
#include "bench/rows.h"
#include "bench/split_sweep.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct cell { char text[32]; } cell;
typedef struct range { char text[112]; } range;

static bool is(const json_t *row, const char *key) { return json_is_true(json_object_get(row, key)); }
static double step_of(const json_t *row) { return bench_row_real(json_object_get(row, "step_s"), "median"); }
static double alone_of(const json_t *row) { return bench_row_real(json_object_get(row, "isolated_s"), "median"); }

/* Enough digits for short steps, no more. */
static cell scaled(double v, double scale)
{
    cell c = { "-" };
    if (isfinite(v)) snprintf(c.text, sizeof c.text, fabs(v * scale) < 9.995 ? "%.2f" : "%.1f", v * scale);
    return c;
}
static cell ms(double s) { return scaled(s, 1e3); }
static cell percent(double share)
{
    cell c = { "-" };
    if (isfinite(share)) snprintf(c.text, sizeof c.text, "%.1f", 100 * share);
    return c;
}

static range between(double median, double low, double high)
{
    range c = { "-" };
    if (isfinite(median)) snprintf(c.text, sizeof c.text, "%s [%s, %s]", ms(median).text, ms(low).text, ms(high).text);
    return c;
}

/* A list of ends may be long. */
static cell shortened(const char *spec)
{
    cell c;
    const size_t n = strlen(spec);
    if (n <= 18) snprintf(c.text, sizeof c.text, "%s", spec);
    else snprintf(c.text, sizeof c.text, "%.10s..%s", spec, spec + n - 6);
    return c;
}

static const char *mark_of(const json_t *row) { return is(row, "best") ? "best" : is(row, "distinguishable") ? "slower" : "same as best"; }

static void print_row(const json_t *row)
{
    printf("%-18s %4lld  %-23s  %-23s %8s %8s %7s %8s %7s %8s  %s\n", shortened(bench_row_text(row, "split")).text, bench_row_int(row, "buckets"),
           between(step_of(row), bench_row_real(row, "step_s_low"), bench_row_real(row, "step_s_high")).text,
           between(bench_row_real(row, "comm_cost_s"), bench_row_real(row, "comm_cost_s_low"), bench_row_real(row, "comm_cost_s_high")).text,
           ms(bench_row_real(row, "exposed_comm_s")).text, ms(alone_of(row)).text, percent(bench_row_real(row, "eta_eff")).text,
           percent(bench_row_real(row, "overlap_geom")).text, percent(bench_row_real(row, "bound_gap_share")).text,
           is(row, "best") ? "" : ms(bench_row_real(json_object_get(row, "difference_to_best_s"), "median")).text, mark_of(row));
}

static void print_head(const json_t *row, bool interrupted)
{
    const char *wire = bench_row_text(row, "wire");
    printf("%s: %lld ranks%s on %s, %s, %lld px, batch %lld a device, %.1f MB of gradients, %s on the wire%s%s\n", bench_row_text(row, "origin"),
           bench_row_int(row, "ranks"), is(row, "oversubscribed") ? " (oversubscribed: they share cores)" : "", bench_row_text(row, "device"),
           bench_row_text(row, "dtype"), bench_row_int(row, "px"), bench_row_int(row, "batch_per_device"), bench_row_real(row, "bytes") * 1e-6, wire,
           bench_row_text(row, "comm_library")[0] ? ", " : "", bench_row_text(row, "comm_library"));
    printf("%lld rounds%s; twins: step %s ms with the all-reduce off, %s ms with a barrier in its place; backward %s ms; bound %s ms\n\n",
           bench_row_int(row, "rounds"), interrupted ? " (interrupted)" : "", ms(bench_row_real(row, "off_step_s")).text,
           ms(bench_row_real(row, "barrier_step_s")).text, ms(bench_row_real(row, "backward_s")).text, ms(bench_row_real(row, "bound_s")).text);
    printf("%-18s %4s  %-23s  %-23s %8s %8s %7s %8s %7s %8s\n", "split", "n", "step ms [95 %]", "comm cost ms [95 %]", "exposed", "alone", "eta_eff", "overlap", "bound", "vs best");
    printf("%-18s %4s  %-23s  %-23s %8s %8s %7s %8s %7s %8s\n", "", "", "", "", "ms", "ms", "%", "%", "gap %", "ms");
}

/* ---- in words */
static const json_t *row_named(const json_t *rows, const char *split, const json_t *but)
{
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) if (row != but && !strcmp(bench_row_text(row, "split"), split)) return row;
    return NULL;
}

static void print_regime(const json_t *best)
{
    const double ratio = bench_row_real(best, "comm_to_backward");
    if (!isfinite(ratio)) return;
    printf("The all-reduces of %s alone take %s times as long as backward: ", bench_row_text(best, "split"), scaled(ratio, 1).text);
    if (ratio <= 1) printf("communication can hide under it, and the split decides how much does.\n");
    else printf("%s ms at least cannot hide under it, whatever the split.\n", ms(alone_of(best) - bench_row_real(best, "backward_s")).text);
}

static void print_best(const json_t *rows, const json_t *best)
{
    const char *next_split = bench_row_text(best, "next_best");
    const json_t *next = next_split[0] ? row_named(rows, next_split, best) : NULL, *d = json_object_get(next, "difference_to_best_s");
    printf("Best is %s", bench_row_text(best, "split"));
    if (!next) printf(", the only split measured.\n");
    else
        printf(", %s from the next, %s: %s ms more, 95 %% of the pairs' median within %s to %s.\n",
               is(best, "distinguishable") ? "distinguishable" : "not distinguishable", next_split, ms(bench_row_real(d, "median")).text,
               ms(bench_row_real(d, "low")).text, ms(bench_row_real(d, "high")).text);
}

void bench_sweep_print(const json_t *rows, bool interrupted)
{
    const json_t *row, *best = NULL;
    size_t i;
    if (!json_array_size(rows)) return;
    print_head(json_array_get(rows, 0), interrupted);
    json_array_foreach(rows, i, row)
    {
        print_row(row);
        if (is(row, "best")) best = row;
    }
    putchar('\n');
    if (best) print_regime(best);
    if (best) print_best(rows, best);
}
