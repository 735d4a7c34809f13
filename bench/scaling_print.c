/* What bench scaling prints: short tables, one under the other, that fit a screen for five Ns. */
#include "bench/rows.h"
#include "bench/scaling.h"
#include "bench/throttled_row.h"
#include "profiler/perturb.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char text[48]; } cell;
/* Value times scale with one decimal and a unit, "-" for what is not there. */
static cell cell_of(const json_t *row, const char *key, double scale, const char *unit)
{
    cell c = { "-" };
    const json_t *v = json_object_get(row, key);
    if (json_is_number(v)) snprintf(c.text, sizeof c.text, "%.1f%s", scale * json_number_value(v), unit);
    return c;
}

static cell ms(const json_t *row, const char *key) { return cell_of(row, key, 1e3, ""); }
static const char *word(const json_t *row, const char *key) { return bench_row_text_or(row, key, "-"); }
static long long ranks_of(const json_t *row) { return bench_row_int(row, "ranks"); }

/* A line between tables; trouble added on purpose is named over each of them. */
static void heading(const bench_options *o, const char *text)
{
    const char *spec = o->inject;
    printf("%s", text);
    if (spec && spec[0]) printf("; injected: %s", spec);
    putchar('\n');
}

/* ---- throughput */
static void print_row(const bench_options *o, const json_t *row)
{
    const json_t *step = json_object_get(row, "step_s"), *budget = json_object_get(row, "budget_s");
    const char *efficiency = o->strong ? "efficiency_strong" : "efficiency_weak";
    printf("%5lld  %-12s %-9s %10s %10s %10s %10s %8s %9s %9s%s\n", ranks_of(row), word(row, "origin"), word(row, "input"), cell_of(row, "images_per_s", 1, "").text,
           cell_of(row, "images_per_s_low", 1, "").text, cell_of(row, "images_per_s_high", 1, "").text, ms(step, "median").text, cell_of(row, efficiency, 100, " %").text,
           ms(budget, "input_stall").text, ms(row, "exposed_comm_s").text, json_is_true(json_object_get(row, "oversubscribed")) ? "  oversubscribed" : "");
}

static void print_throughput(const bench_options *o, const json_t *rows, int32_t cores)
{
    const json_t *first = json_array_get(rows, 0);
    const char *device = json_string_value(json_object_get(first, "device_name"));
    char title[256], each[48] = "";
    if (cores) snprintf(each, sizeof each, ", %d core%s a device", cores, cores == 1 ? "" : "s");
    snprintf(title, sizeof title, "%s scaling%s%s%s%s, batch %s; efficiency against X(1) without collectives", o->strong ? "strong" : "weak", device ? " on " : "", device ? device : "",
             o->ghost ? ", emulated by ranks that sleep where one was measured to compute" : "", each, o->strong ? "global" : "per device");
    heading(o, title);
    printf("%5s  %-12s %-9s %10s %10s %10s %10s %8s %9s %9s\n", "N", "origin", "input", "images/s", "95% low", "high", "step ms", "effic.", "stall ms", "comm ms");
    for (size_t i = 0; i < json_array_size(rows); i++) print_row(o, json_array_get(rows, i));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (isnan(bench_row_real(row, "baseline_images_per_s"))) continue;
        printf("X(1): %s images/s without collectives, %s with a communicator of one rank\n", cell_of(row, "baseline_images_per_s", 1, "").text,
               cell_of(row, "baseline_self_images_per_s", 1, "").text);
        break;
    }
}

/* Steps that other work disturbed are kept; who reads the table should know. */
static void print_disturbed(const json_t *rows)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const long long disturbed = (long long)json_integer_value(json_object_get(row, "disturbed_steps"));
        if (disturbed < 1) continue;
        printf("N=%lld: %lld of %lld steps were taken while other work used this device's cores (for %s of the time of all steps): the machine is noisy\n", ranks_of(row), disturbed,
               (long long)json_integer_value(json_object_get(json_object_get(row, "step_s"), "samples")), cell_of(row, "foreign_share", 100, " %").text);
    }
}

static void print_throttled(const json_t *rows)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        char label[32];
        snprintf(label, sizeof label, "N=%lld:", ranks_of(row));
        bench_print_throttled(row, label, bench_row_int(json_object_get(row, "step_s"), "samples"));
    }
}

static void print_modes(const bench_options *o, const json_t *rows)
{
    static const char *const names[] = { "synthetic", "data-only", "real" };
    size_t several = 0;
    for (size_t i = 0; i < json_array_size(rows); i++)
        for (size_t m = 1; m < RM_COUNT(names); m++)
            several += !isnan(bench_row_real(json_object_get(json_object_get(json_array_get(rows, i), "modes"), names[m]), "images_per_s"));
    if (!several) return; /* synthetic alone is what the first table shows */
    heading(o, "\nimages/s by input mode");
    printf("%5s  %12s %12s %12s\n", "N", names[0], names[1], names[2]);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *modes = json_object_get(row, "modes");
        if (!modes) continue;
        printf("%5lld ", ranks_of(row));
        for (size_t m = 0; m < RM_COUNT(names); m++) printf(" %12s", cell_of(json_object_get(modes, names[m]), "images_per_s", 1, "").text);
        putchar('\n');
    }
}

/* ---- where the loss goes */
static bool shown(const json_t *row, const char *key) { return ranks_of(row) > 1 && json_object_get(row, key) && !json_is_null(json_object_get(row, key)); }

static size_t count_shown(const json_t *rows, const char *key)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) n += shown(json_array_get(rows, i), key);
    return n;
}

static void print_loss(const bench_options *o, const json_t *rows)
{
    static const struct { const char *key, *title; } terms[] = {
        { "loss", "loss" }, { "input", "= input" }, { "compute_slowdown", "+ compute" }, { "exposed_transfer", "+ transfer" }, { "straggler", "+ straggler" }, { "unexplained", "+ unexplained" },
    };
    if (!count_shown(rows, "loss_attribution_s")) return;
    heading(o, "\nwhere the loss goes: ms a step, and % of the step");
    printf("%5s ", "N");
    for (size_t k = 0; k < RM_COUNT(terms); k++) printf(" %16s", terms[k].title);
    printf("  %s\n", "of straggler, jitter");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *loss = json_object_get(row, "loss_attribution_s");
        if (!shown(row, "loss_attribution_s")) continue;
        const double step = bench_row_real(json_object_get(row, "step_s"), "median");
        printf("%5lld ", ranks_of(row));
        for (size_t k = 0; k < RM_COUNT(terms); k++) {
            char text[48];
            snprintf(text, sizeof text, "%.1f %5.1f %%", 1e3 * bench_row_real(loss, terms[k].key), 100 * bench_row_real(loss, terms[k].key) / step);
            printf(" %16s", text);
        }
        printf("  %20s\n", ms(row, "jitter_s").text);
    }
}

static void print_communication(const bench_options *o, const json_t *rows)
{
    if (!count_shown(rows, "comm_s")) return;
    heading(o, "\ncommunication: ms a step");
    printf("%5s  %8s %8s %8s %8s %8s %20s %8s %8s  %s\n", "N", "comm", "overlap", "exposed", "blocking", "cost", "95 %", "alone", "eta_eff", "split");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        char interval[48] = "-", split[64];
        if (!shown(row, "comm_s")) continue;
        if (!isnan(bench_row_real(row, "comm_cost_s_low")))
            snprintf(interval, sizeof interval, "%.1f to %.1f", 1e3 * bench_row_real(row, "comm_cost_s_low"), 1e3 * bench_row_real(row, "comm_cost_s_high"));
        snprintf(split, sizeof split, "%s (%lld)", word(row, "split"), bench_row_int(row, "buckets"));
        printf("%5lld  %8s %8s %8s %8s %8s %20s %8s %8s  %s\n", ranks_of(row), ms(row, "comm_s").text, cell_of(row, "overlap_geom", 100, " %").text, ms(row, "exposed_comm_s").text,
               ms(row, "blocking_comm_s").text, ms(row, "comm_cost_s").text, interval, ms(json_object_get(row, "isolated_s"), "median").text, cell_of(row, "eta_eff", 100, " %").text, split);
    }
}

/* ---- stragglers */
enum { MOST_RANKS = 8 };

static int by_lateness(const void *a, const void *b)
{
    const double x = bench_row_real(*(json_t *const *)a, "late_s"), y = bench_row_real(*(json_t *const *)b, "late_s");
    return (x < y) - (x > y);
}

static size_t sorted(const json_t *row, json_t **out, size_t most)
{
    const json_t *all = json_object_get(row, "stragglers");
    size_t n = 0;
    for (; n < json_array_size(all) && n < most; n++) out[n] = json_array_get(all, n);
    qsort(out, n, sizeof out[0], by_lateness);
    return n;
}

/* Names up to three. */
static bool print_verdict(const json_t *row, json_t *const *rank, size_t n)
{
    size_t found = 0;
    for (size_t k = 0; k < n && found < 3; k++) {
        if (!json_is_true(json_object_get(rank[k], "straggler"))) continue;
        if (!found) printf("N=%lld:", ranks_of(row));
        printf("%s rank %lld on %s is a straggler, %.1f ms late (%.1f to %.1f)", found++ ? ";" : "", bench_row_int(rank[k], "rank"), word(rank[k], "host"),
               1e3 * bench_row_real(rank[k], "late_s"), 1e3 * bench_row_real(rank[k], "late_s_low"), 1e3 * bench_row_real(rank[k], "late_s_high"));
    }
    if (found) putchar('\n');
    return found > 0;
}

/* Every rank of the largest N that was measured, the latest first; of the others only who is a straggler. */
static void print_stragglers(const bench_options *o, const json_t *rows)
{
    enum { MOST = 65536 };
    const json_t *largest = NULL;
    bool any = false;
    json_t **rank = malloc(MOST * sizeof *rank);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (json_array_size(json_object_get(row, "stragglers")) > 1 && (!largest || ranks_of(row) > ranks_of(largest))) largest = row;
    }
    if (!largest || !rank) {
        free(rank);
        return;
    }
    heading(o, "\nranks by lateness: own time, wait for others, share of steps in which it was last");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (json_array_size(json_object_get(row, "stragglers")) > 1) any |= print_verdict(row, rank, sorted(row, rank, MOST));
    }
    if (!any) puts("no rank is distinguishably late");
    const size_t n = sorted(largest, rank, MOST);
    printf("%5s  %5s %-20s %10s %10s %10s\n", "N", "rank", "host", "own ms", "wait ms", "last");
    for (size_t k = 0; k < n && k < MOST_RANKS; k++)
        printf("%5lld  %5lld %-20s %10s %10s %10s\n", ranks_of(largest), bench_row_int(rank[k], "rank"), word(rank[k], "host"), ms(rank[k], "own_s").text,
               ms(rank[k], "wait_s").text, cell_of(rank[k], "late_share", 100, " %").text);
    if (n > MOST_RANKS) printf("%5s  and %zu more, in --json\n", "", n - MOST_RANKS);
    free(rank);
}

/* ---- traces */
static void print_traces(const json_t *rows)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *t = json_object_get(row, "trace");
        if (!json_is_object(t)) continue;
        printf("%strace of N=%lld: traced steps took %.3f of the others (95 %%: %.3f to %.3f, %lld pairs): %s%s; look closer with: bench overlap %s\n", i ? "" : "\n", ranks_of(row),
               bench_row_real(t, "ratio"), bench_row_real(t, "low"), bench_row_real(t, "high"), bench_row_int(t, "pairs"),
               rm_perturbation_word(json_is_true(json_object_get(t, "perturbed")), json_is_true(json_object_get(t, "undecided"))), json_is_true(json_object_get(t, "cut")) ? "; it is not whole" : "", bench_row_text(t, "files"));
    }
}

void bench_scaling_print(const bench_options *o, const json_t *rows, int32_t cores)
{
    print_throughput(o, rows, cores);
    print_disturbed(rows);
    print_throttled(rows);
    print_modes(o, rows);
    print_loss(o, rows);
    print_communication(o, rows);
    print_stragglers(o, rows);
    print_traces(rows);
}
