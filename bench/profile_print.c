/* The one screen of bench profile. */
#include "bench/profile.h"
#include "bench/rows.h"
#include "bench/throttled_row.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BAR = 40, LARGEST = 5 };

static double step_of(const json_t *row) { return bench_row_real(json_object_get(row, "step_s"), "median"); }

typedef struct { char text[32]; } cell;
static cell cell_of(double v, int digits, const char *unit)
{
    cell c = { "-" };
    if (isfinite(v)) snprintf(c.text, sizeof c.text, "%.*f%s", digits, v, unit);
    return c;
}

/* ---- the head */
static const struct { const char *key, *title; } terms[] = {
    { "compute", "compute" }, { "exposed_comm", "exposed communication" }, { "exposed_copy", "exposed copies" },
    { "input_stall", "input stall" }, { "host", "host" }, { "idle", "idle" },
};

/* The answer in words: the largest term, and the next one where there is one to speak of. */
static void print_answer(const json_t *row)
{
    const json_t *budget = json_object_get(row, "budget_s");
    size_t best = 0, next = RM_COUNT(terms);
    for (size_t i = 1; i < RM_COUNT(terms); i++)
        if (bench_row_real(budget, terms[i].key) > bench_row_real(budget, terms[best].key)) best = i;
    for (size_t i = 0; i < RM_COUNT(terms); i++)
        if (i != best && (next == RM_COUNT(terms) || bench_row_real(budget, terms[i].key) > bench_row_real(budget, terms[next].key))) next = i;
    const double share = 100 * bench_row_real(budget, terms[next].key) / step_of(row);
    printf("bound by   %s (%.0f %% of the step)", terms[best].title, 100 * bench_row_real(budget, terms[best].key) / step_of(row));
    if (share >= 1) printf(", then %s (%.0f %%)", terms[next].title, share);
    putchar('\n');
}

static void print_tracing(const json_t *trace)
{
    const long long pairs = bench_row_int(trace, "pairs");
    const bool perturbed = json_is_true(json_object_get(trace, "perturbed")), undecided = json_is_true(json_object_get(trace, "undecided"));
    printf("tracing    %+.2f %% of the step (%s of %lld pairs: %+.2f to %+.2f %%): %s\n", 100 * (bench_row_real(trace, "ratio") - 1), pairs < 6 ? "range" : "95 %", pairs,
           100 * (bench_row_real(trace, "low") - 1), 100 * (bench_row_real(trace, "high") - 1), undecided ? "UNDECIDED, give more --steps" : perturbed ? "PERTURBED" : "within 2 %");
    printf("           the traced step took %.2f ms; what follows is of traced steps, in shares of the untraced one\n", 1e3 * bench_row_real(trace, "traced_step_s"));
}

/* Only where there was a choice. */
static void print_kernel_times(const json_t *row, const json_t *trace)
{
    const json_t *saw = json_object_get(trace, "cupti");
    if (saw)
        printf("           kernels by CUPTI: %lld in %lld steps, %lld of no layer or bucket; its own overhead %.2f %%\n", bench_row_int(saw, "kernels"), bench_row_int(saw, "steps"),
               bench_row_int(saw, "unattributed"), 100 * bench_row_real(saw, "overhead_share"));
    if (saw && bench_row_int(saw, "left_out")) printf("           %lld steps are not in the trace: CUPTI's records of them are not whole\n", bench_row_int(saw, "left_out"));
    if (!saw && !strcmp(bench_row_text(row, "device"), "cuda")) printf("           kernels by events around each op: %s\n", bench_row_text(trace, "kernel_times_reason"));
}

static void print_head(const json_t *row)
{
    const json_t *step = json_object_get(row, "step_s");
    const long long ranks = bench_row_int(row, "ranks"), threads = bench_row_int(row, "threads"), disturbed = bench_row_int(row, "disturbed_steps");
    printf("%s (%s), %lld rank%s of %lld thread%s, %s, %lld px, batch %lld, %s input\n", bench_row_text(row, "device_name"), bench_row_text(row, "library"), ranks, ranks == 1 ? "" : "s", threads,
           threads == 1 ? "" : "s", bench_row_text(row, "dtype"), bench_row_int(row, "px"), bench_row_int(row, "batch_per_device"), bench_row_text(row, "input"));
    printf("%.1f images/s; step %.2f ms, MAD %.2f (%lld untraced steps)", bench_row_real(row, "images_per_s"), 1e3 * step_of(row), 1e3 * bench_row_real(step, "mad"), bench_row_int(step, "samples"));
    if (isfinite(bench_row_real(row, "mfu"))) printf("; MFU %.1f %% of measured %s", 100 * bench_row_real(row, "mfu"), bench_row_text(row, "mfu_peak"));
    putchar('\n');
    print_answer(row);
    print_tracing(json_object_get(row, "trace"));
    print_kernel_times(row, json_object_get(row, "trace"));
    if (disturbed) printf("NOISY      %lld of %lld steps were taken while other work used this device's cores: run it again on a quiet machine\n", disturbed, bench_row_int(step, "samples"));
    bench_print_throttled(row, "THROTTLED ", bench_row_int(step, "samples"));
}

/* ---- the budget */
static void print_budget(const json_t *row)
{
    const json_t *budget = json_object_get(row, "budget_s");
    puts("\nwhere the step goes                 ms");
    for (size_t i = 0; i < RM_COUNT(terms); i++) {
        const double share = bench_row_real(budget, terms[i].key) / step_of(row);
        const int bar = isfinite(share) ? (int)lround(share * BAR) : 0;
        printf("  %-22s %13.3f %6.2f %%  %.*s\n", terms[i].title, 1e3 * bench_row_real(budget, terms[i].key), 100 * share, bar, "########################################");
    }
}

/* ---- communication, ranks, input, machine: a line each */
static void print_communication(const json_t *row)
{
    if (bench_row_int(row, "ranks") < 2) {
        puts("overlap    one rank: nothing is communicated");
        return;
    }
    printf("overlap    %s of %s ms of all-reduce under computing; %s ms exposed, %s on the critical path\n", cell_of(100 * bench_row_real(row, "overlap_geom"), 1, " %").text,
           cell_of(1e3 * bench_row_real(row, "comm_s"), 1, "").text, cell_of(1e3 * bench_row_real(row, "exposed_comm_s"), 1, "").text, cell_of(1e3 * bench_row_real(row, "blocking_comm_s"), 1, "").text);
    printf("           split %s (%lld buckets) costs %s ms (%s to %s) against no all-reduce; hidden by cost %s\n", bench_row_text(row, "split"), bench_row_int(row, "buckets"),
           cell_of(1e3 * bench_row_real(row, "comm_cost_s"), 1, "").text, cell_of(1e3 * bench_row_real(row, "comm_cost_s_low"), 1, "").text,
           cell_of(1e3 * bench_row_real(row, "comm_cost_s_high"), 1, "").text, cell_of(100 * bench_row_real(row, "eta_eff"), 1, " %").text);
}

static void print_straggler(const json_t *row)
{
    const json_t *latest = NULL;
    json_t *rank;
    size_t k;
    json_array_foreach(json_object_get(row, "stragglers"), k, rank)
        if (!latest || bench_row_real(rank, "late_s") > bench_row_real(latest, "late_s")) latest = rank;
    if (!latest || bench_row_int(row, "ranks") < 2) return;
    const bool few = bench_row_int(json_object_get(row, "step_s"), "samples") < 6, found = json_is_true(json_object_get(latest, "straggler"));
    printf("straggler  %s; latest is rank %lld on %s by %s ms (%s to %s), last in %s of steps\n", found ? "yes" : few ? "undecided, 6 steps are needed" : "none", bench_row_int(latest, "rank"),
           bench_row_text(latest, "host"), cell_of(1e3 * bench_row_real(latest, "late_s"), 1, "").text, cell_of(1e3 * bench_row_real(latest, "late_s_low"), 1, "").text,
           cell_of(1e3 * bench_row_real(latest, "late_s_high"), 1, "").text, cell_of(100 * bench_row_real(latest, "late_share"), 0, " %").text);
}

static void print_input(const json_t *row)
{
    const double alone = bench_row_real(row, "loader_images_per_s");
    printf("input      stalls %.3f ms a step; ", 1e3 * bench_row_real(row, "input_stall_s"));
    if (isfinite(alone)) printf("the loader alone gives %.0f images/s, %.1f times what training takes\n", alone, alone / bench_row_real(row, "images_per_s"));
    else puts("synthetic: no files are read");
}

static void print_machine(const json_t *row)
{
    const json_t *c = json_object_get(row, "counters");
    const double step = step_of(row), instructions = bench_row_real(c, "instructions");
    printf("machine    %s of %lld cores busy a rank; threads waited for one %s of the step; %s page faults a step; %.0f MB resident\n", cell_of(bench_row_real(c, "cpu_s") / step, 2, "").text,
           bench_row_int(row, "threads"), cell_of(100 * bench_row_real(c, "run_delay_s") / step, 1, " %").text, cell_of(bench_row_real(c, "faults"), 0, "").text,
           1e-6 * bench_row_real(row, "memory_high_bytes"));
    if (isfinite(instructions))
        printf("           %.2f instructions a cycle, %s last-level cache misses a step\n", instructions / bench_row_real(c, "cycles"), cell_of(bench_row_real(c, "cache_misses"), 0, "").text);
    else printf("           %s\n", bench_row_text(c, "instructions_reason"));
}

/* What bounds are made of. */
static void print_peaks(const json_t *row)
{
    const json_t *all = json_object_get(row, "peaks");
    json_t *peak;
    bool disturbed = false;
    size_t k;
    if (!json_is_array(all)) return;
    printf("peaks      ");
    json_array_foreach(all, k, peak)
    {
        const double v = bench_row_real(peak, "value");
        const bool rate = !strcmp(bench_row_text(peak, "unit"), "FLOP/s");
        disturbed |= json_is_true(json_object_get(peak, "disturbed"));
        if (isfinite(v) && (!strcmp(bench_row_text(row, "mfu_peak"), bench_row_text(peak, "name")) || strstr(bench_row_text(peak, "name"), "read")))
            printf("%s %.0f %s; ", bench_row_text(peak, "name"), v * 1e-9, rate ? "GFLOP/s" : "GB/s");
    }
    puts(disturbed ? "TOO LOW: other work had the cores meanwhile" : "measured just now");
}

/* ---- layers: medians over the traced steps, for a single step has its accidents */
static int by_time(const void *a, const void *b)
{
    const double x = bench_row_real(*(json_t *const *)a, "time_s_median"), y = bench_row_real(*(json_t *const *)b, "time_s_median");
    return (x < y) - (x > y);
}

static void print_layer(const json_t *layer, double traced_s)
{
    char name[64];
    const double s = bench_row_real(layer, "time_s_median"), bound = bench_row_real(layer, "bound_s");
    snprintf(name, sizeof name, "%s %s", bench_row_text(layer, "name"), bench_row_text(layer, "pass"));
    printf("  %-34.34s %9.3f %6.2f %% %9s  %-8s %8s %9s\n", name, 1e3 * s, 100 * s / traced_s, cell_of(1e3 * bound, 3, "").text, bench_row_text(layer, "bound_limit"), cell_of(100 * bound / s, 0, " %").text,
           cell_of(1e3 * fmax(0, s - bound), 3, "").text);
}

static void print_layers(const json_t *row)
{
    const json_t *all = json_object_get(row, "layers");
    json_t **layer = malloc((json_array_size(all) + 1) * sizeof *layer), *one;
    size_t n = 0, k;
    json_array_foreach(all, k, one)
        if (layer && bench_row_text(one, "op")[0]) layer[n++] = one;
    if (layer) qsort(layer, n, sizeof *layer, by_time);
    puts("\nlargest layers (medians)                   ms    share  bound ms  limit    of bound  above ms");
    for (k = 0; layer && k < n && k < LARGEST; k++) print_layer(layer[k], bench_row_real(json_object_get(row, "trace"), "traced_step_s"));
    free(layer);
    if (bench_row_text(row, "peaks_reason")[0]) printf("  no bounds: %s\n", bench_row_text(row, "peaks_reason"));
}

/* ---- changes and sensitivities */
static cell slope_of(const json_t *o)
{
    cell c = { "not tested" };
    if (isfinite(bench_row_real(o, "measured_slope")))
        snprintf(c.text, sizeof c.text, "%.2f (%.2f to %.2f)", bench_row_real(o, "measured_slope"), bench_row_real(o, "slope_low"), bench_row_real(o, "slope_high"));
    return c;
}

static void print_changes(const json_t *row)
{
    const json_t *all = json_object_get(row, "changes");
    json_t *c;
    size_t k;
    puts("\nworth changing                       saves at most    slope by delay (95 %)   predicted  verdict");
    json_array_foreach(all, k, c) {
        printf("%zu %-34.34s %7.1f ms %4.1f %%  %20s  %9s  %s\n", k + 1, bench_row_text(c, "what"), 1e3 * bench_row_real(c, "gain_s"), 100 * bench_row_real(c, "gain_share"), slope_of(c).text,
               cell_of(bench_row_real(c, "predicted_slope"), 2, "").text, bench_row_text(c, "verdict"));
        printf("  %s\n", bench_row_text(c, "note"));
    }
    if (!json_array_size(all)) puts("  nothing that would save as much as half a per cent of the step");
}

static void print_sensitivity(const json_t *row)
{
    json_t *s;
    size_t k;
    if (!json_is_array(json_object_get(row, "sensitivity"))) return;
    puts("\nsensitivity: step's change / delay         ms  delay ms  measured (95 %)       predicted   error  verdict");
    json_array_foreach(json_object_get(row, "sensitivity"), k, s) {
        char name[64];
        if (!strcmp(bench_row_text(s, "kind"), "input")) snprintf(name, sizeof name, "input: wait for a batch");
        else snprintf(name, sizeof name, "%s %s", bench_row_text(s, "name"), bench_row_text(s, "pass"));
        printf("  %-34.34s %9s %9.2f  %-20s  %9s  %+6.2f  %s\n", name, cell_of(1e3 * bench_row_real(s, "time_s"), 3, "").text, 1e3 * bench_row_real(s, "delay_s"), slope_of(s).text,
               cell_of(bench_row_real(s, "predicted_slope"), 2, "").text, bench_row_real(s, "prediction_error"), bench_row_text(s, "verdict"));
    }
}

void bench_profile_print(const json_t *row)
{
    const char *file = bench_row_text(json_object_get(row, "trace"), "file");
    print_head(row);
    print_budget(row);
    print_communication(row);
    print_straggler(row);
    print_input(row);
    print_machine(row);
    print_peaks(row);
    print_layers(row);
    print_changes(row);
    print_sensitivity(row);
    if (file[0]) printf("\ntrace: %s (Perfetto, or bench overlap)\n", file);
}

void bench_profile_print_plan(const bench_options *o, int32_t ranks)
{
    const int32_t pairs = o->steps ? o->steps : BENCH_PROFILE_STEPS, warmup = o->warmup >= 0 ? o->warmup : BENCH_PROFILE_WARMUP;
    printf("%d rank%s; %d pairs of a traced and an untraced step after %d warm-up pairs; the machine's peaks; %s%d rounds of delays %s\n", ranks, ranks == 1 ? "" : "s", pairs, warmup,
           ranks > 1 ? "as many rounds of twins without all-reduce; " : "", pairs, o->sensitivity ? "in the largest layers, the buckets and the input" : "where the three best changes are");
}
