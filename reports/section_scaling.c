/* The sweep over devices: throughput, efficiency, input modes, step times. */
#include "profiler/stats.h"
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void throughput_table(rp_doc *d, const rp_result *r, size_t n, bool strong)
{
    const rp_column column[] = {
        { "N", true }, { "Origin", false }, { "images/s", true }, { "95 % low", true }, { "95 % high", true }, { "Step, median (ms)", true },
        { "MAD (ms)", true }, { "Steps", true }, { strong ? "Efficiency, strong (%)" : "Efficiency, weak (%)", true },
        { "Batch per device", true }, { "Input", false },
    };
    rp_why why = { { 0 } };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Throughput and efficiency by number of devices N");
    rp_live(d);
    for (size_t i = 0; i < n; i++) {
        char input[64];
        rp_head_cells(d, &r[i]);
        rp_value(d, &r[i], "images_per_s", 1, 4, &why);
        rp_value(d, &r[i], "images_per_s_low", 1, 4, NULL);
        rp_value(d, &r[i], "images_per_s_high", 1, 4, NULL);
        rp_value(d, &r[i], "step_s.median", 1e3, 4, NULL);
        rp_value(d, &r[i], "step_s.mad", 1e3, 3, NULL);
        const json_t *samples = rp_at(r[i].row, "step_s.samples"); /* a count, or the samples themselves */
        rp_cell(d, "%s", json_is_array(samples) ? rp_num((double)json_array_size(samples), 9).text : rp_num(rp_real(r[i].row, "step_s.samples"), 9).text);
        rp_value(d, &r[i], strong ? "efficiency_strong" : "efficiency_weak", 100, 3, &why);
        rp_value(d, &r[i], "batch_per_device", 1, 9, NULL);
        rp_cell(d, "%s", rp_setting(&r[i], "input", "–", input, sizeof input));
    }
    rp_reasons(d, &why);
    rp_text(d, "%s X(1) is one device with collectives switched off.",
            strong ? "Strong: the global batch is fixed, E(N) = T(1) / (N T(N))." : "Weak: the batch per device is fixed, E(N) = X(N) / (N X(1)).");
}

static void disturbed_note(rp_doc *d, const rp_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double disturbed = rp_real(r[i].row, "disturbed_steps");
        if (!(disturbed > 0)) continue;
        rp_note(d, "N=%s: %s of %s steps were taken while other work used the cores of the devices (for %s %% of the time of all steps). They are kept, and the samples \"disturbed\" tell them apart.",
                rp_num(rp_real(r[i].row, "ranks"), 9).text, rp_num(disturbed, 9).text, rp_num(rp_real(r[i].row, "step_s.samples"), 9).text,
                rp_num(100 * rp_real(r[i].row, "foreign_share"), 2).text);
    }
}

static void throttled_note(rp_doc *d, const rp_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) rp_throttled_note(d, &r[i]);
}

/* Both X(1): without any collective, and with a communicator of one rank. */
static void baselines_table(rp_doc *d, const rp_result *r, size_t n)
{
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "X(1), collectives off (images/s)", true }, { "Efficiency against it (%)", true },
                                        { "X(1), communicator of one rank (images/s)", true }, { "Efficiency against it (%)", true } };
    rp_why why = { { 0 } };
    bool any = false;
    for (size_t i = 0; i < n; i++) any |= isfinite(rp_baseline(r[i].row));
    if (!any) return;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "What efficiency is judged against: X(N) / (N X(1)) with both baselines");
    for (size_t i = 0; i < n; i++) {
        double off = rp_baseline(r[i].row), self = rp_real(r[i].row, "baseline_self_images_per_s"), x = rp_real(r[i].row, "images_per_s") / rp_real(r[i].row, "ranks");
        if (isnan(off) && isnan(self)) continue;
        rp_head_cells(d, &r[i]);
        rp_cell(d, "%s", rp_num(off, 4).text);
        rp_cell(d, "%s", rp_num(100 * x / off, 3).text);
        rp_value(d, &r[i], "baseline_self_images_per_s", 1, 4, &why);
        rp_cell(d, "%s", rp_num(100 * x / self, 3).text);
    }
    rp_reasons(d, &why);
}

/* What the input modes say: the slower of compute alone and loader alone is the limit. */
static const char *limit_of(const rp_result *r)
{
    double compute = rp_real(r->row, "modes.synthetic.images_per_s"), loader = rp_real(r->row, "modes.data-only.images_per_s");
    if (!(compute > 0) || !(loader > 0)) return "–";
    if (loader < compute) return "input";
    return loader < 1.2 * compute ? "compute, input close behind" : "compute";
}

static void modes_table(rp_doc *d, const rp_result *r, size_t n)
{
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "Synthetic: no input (images/s)", true }, { "Data only: loader alone (images/s)", true },
                                        { "Real: both (images/s)", true }, { "Real / slower of the two (%)", true }, { "Limit", false } };
    bool any = false;
    for (size_t i = 0; i < n; i++) any |= json_object_size(rp_at(r[i].row, "modes")) > 0;
    if (!any) return;
    rp_why why = { { 0 } };
    rp_heading(d, 3, "What limits: compute or input");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "The three input modes");
    for (size_t i = 0; i < n; i++) {
        if (!rp_at(r[i].row, "modes")) continue;
        double compute = rp_real(r[i].row, "modes.synthetic.images_per_s"), loader = rp_real(r[i].row, "modes.data-only.images_per_s");
        rp_head_cells(d, &r[i]);
        rp_value(d, &r[i], "modes.synthetic.images_per_s", 1, 4, &why);
        rp_value(d, &r[i], "modes.data-only.images_per_s", 1, 4, &why);
        rp_value(d, &r[i], "modes.real.images_per_s", 1, 4, &why);
        double slower = isfinite(compute) && isfinite(loader) ? fmin(compute, loader) : NAN;
        rp_cell(d, "%s", rp_num(100 * rp_real(r[i].row, "modes.real.images_per_s") / slower, 3).text);
        rp_cell(d, "%s", limit_of(&r[i]));
    }
    rp_reasons(d, &why);
}

static void accuracy_table(rp_doc *d, const rp_result *r, size_t n)
{
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "Time to accuracy (s)", true }, { "Target (%)", true }, { "Top-1 reached (%)", true }, { "Whole run (s)", true } };
    static const char *const path[] = { "to_accuracy.time_to_accuracy_s", "to_accuracy.target_top1", "to_accuracy.final_top1", "to_accuracy.run_s" };
    bool any = false;
    for (size_t i = 0; i < n; i++) any |= json_is_object(rp_at(r[i].row, "to_accuracy"));
    if (!any) return;
    rp_heading(d, 3, "Time to accuracy by number of devices");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Trained to the target with each number of devices; evaluation counts");
    for (size_t i = 0; i < n; i++) {
        if (!json_is_object(rp_at(r[i].row, "to_accuracy"))) continue;
        rp_head_cells(d, &r[i]);
        for (size_t k = 0; k < RM_COUNT(path); k++) rp_value(d, &r[i], path[k], 1, 4, NULL);
    }
}

static rm_status steps_table(rp_context *c, const rp_result *r, size_t n)
{
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "Steps", true }, { "Least", true }, { "5 %", true }, { "Median", true },
                                        { "95 % interval of the median", true }, { "95 %", true }, { "Most", true } };
    rp_table_begin(c->doc, RP_TABLE, column, RM_COUNT(column), "Step times in ms: every step kept, none left out");
    for (size_t i = 0; i < n; i++) {
        double *s = NULL, low, high;
        size_t k = 0;
        RM_TRY(rm_store_samples(c->data->store, r[i].id, "step_s", &s, &k));
        if (k) {
            rm_median_ci95(s, k, &low, &high);
            rp_head_cells(c->doc, &r[i]);
            rp_cell(c->doc, "%zu", k);
            rp_cell(c->doc, "%s", rp_num(1e3 * rm_quantile(s, k, 0), 4).text);
            rp_cell(c->doc, "%s", rp_num(1e3 * rm_quantile(s, k, 0.05), 4).text);
            rp_cell(c->doc, "%s", rp_num(1e3 * rm_median(s, k), 4).text);
            rp_cell(c->doc, "%s – %s", rp_num(1e3 * low, 4).text, rp_num(1e3 * high, 4).text);
            rp_cell(c->doc, "%s", rp_num(1e3 * rm_quantile(s, k, 0.95), 4).text);
            rp_cell(c->doc, "%s", rp_num(1e3 * rm_quantile(s, k, 1), 4).text);
        }
        free(s);
    }
    return RM_OK;
}

static rm_status throughput_figure(rp_context *c, const rp_result *r, size_t n, bool strong)
{
    bool drawn = false;
    rm_status st = rp_fig_throughput(c->out_dir, strong ? "throughput-strong" : "throughput", r, n, &drawn);
    RM_TRY(rp_add_figure(c, st, drawn, strong ? "throughput-strong.svg" : "throughput.svg", "Training throughput in images per second against the number of devices, with the ideal line.",
                         "Training throughput against devices. Measured points are solid with their 95 % interval; what is projected or "
                         "emulated is dashed; hollow marks on the axis were asked for and not measured. Data: the table below."));
    if (drawn) rp_command(c->doc, "%s", r->run->command_line);
    return RM_OK;
}

static rm_status sweep(rp_context *c, const rp_result *r, size_t n, bool strong)
{
    rp_doc *d = c->doc;
    rp_heading(d, 2, strong ? "Strong scaling" : "Weak scaling");
    if (!r->run->finished) rp_note(d, "This sweep did not finish (run %lld); the same command goes on where it stopped.", (long long)r->run->id);
    for (size_t i = 0; i < n; i++) {
        const char *injected = rp_string(r[i].row, "injected");
        if (!injected || !*injected) continue;
        rp_note(d, "A disturbance was injected on purpose (%s): these rows prove the attribution and say nothing about this machine.", injected);
        break;
    }
    RM_TRY(throughput_figure(c, r, n, strong));
    throughput_table(d, r, n, strong);
    disturbed_note(d, r, n);
    throttled_note(d, r, n);
    baselines_table(d, r, n);
    rp_fold(d, "Reproduce row by row");
    for (size_t i = 0; i < n; i++) rp_command(d, "%s", rp_reproduce(&r[i]));
    rp_fold_end(d);
    modes_table(d, r, n);
    RM_TRY(rp_scaling_loss(c, r, n, strong));
    accuracy_table(d, r, n);
    rp_heading(d, 3, "Step times");
    bool drawn = false;
    rm_status st = rp_fig_steps(c->out_dir, strong ? "steps-strong" : "steps", c->data->store, r, n, &drawn);
    RM_TRY(rp_add_figure(c, st, drawn, strong ? "steps-strong.svg" : "steps.svg", "Step time in milliseconds for each number of devices: boxes with every step as a dot.",
                         "Step time of the slowest rank, by number of devices: box from 25 to 75 %, line at the median, whiskers from 5 to "
                         "95 %, and every measured step as a dot. The axis need not begin at zero."));
    RM_TRY(steps_table(c, r, n));
    rp_command(d, "%s", r->run->command_line);
    return RM_OK;
}

rm_status rp_section_scaling(rp_context *c)
{
    size_t n_weak, n_strong;
    const rp_result *weak = rp_newest(c->data, "scaling", rp_is_weak, &n_weak), *strong = rp_newest(c->data, "scaling", rp_is_strong, &n_strong);
    if (weak) RM_TRY(sweep(c, weak, n_weak, false));
    if (strong) RM_TRY(sweep(c, strong, n_strong, true));
    return RM_OK;
}
