/* The sweep over devices: throughput, efficiency, communication, input modes, where the step's time and the loss go. */
#include "profiler/stats.h"
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void head_cells(rp_doc *d, const rp_result *r)
{
    rp_row(d, rp_style_of(r->origin, r->correct));
    rp_cell(d, "%s", rp_num(rp_real(r->row, "ranks"), 6).text);
    rp_cell(d, "%s%s%s", rp_origin(r), json_is_true(rp_at(r->row, "oversubscribed")) ? ", oversubscribed" : "", r->correct ? "" : ", WRONG: not to be used");
}

static void throughput_table(rp_doc *d, const rp_result *r, size_t n, bool strong)
{
    const rp_column column[] = {
        { "N", true }, { "Origin", false }, { "images/s", true }, { "95 % low", true }, { "95 % high", true }, { "Step, median (ms)", true },
        { "MAD (ms)", true }, { "Steps", true }, { strong ? "Efficiency, strong (%)" : "Efficiency, weak (%)", true },
        { "Batch per device", true }, { "Input", false },
    };
    rp_why why = { { 0 } };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Throughput and efficiency by number of devices N");
    for (size_t i = 0; i < n; i++) {
        char input[64];
        head_cells(d, &r[i]);
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
    double baseline = NAN;
    for (size_t i = 0; i < n && isnan(baseline); i++) baseline = rp_baseline(r[i].row);
    rp_text(d, "%s Baseline X(1), collectives switched off: %s images/s.",
            strong ? "Strong: the global batch is fixed, E(N) = T(1) / (N T(N))." : "Weak: the batch per device is fixed, E(N) = X(N) / (N X(1)).",
            rp_num(baseline, 4).text);
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
        head_cells(d, &r[i]);
        rp_value(d, &r[i], "modes.synthetic.images_per_s", 1, 4, &why);
        rp_value(d, &r[i], "modes.data-only.images_per_s", 1, 4, &why);
        rp_value(d, &r[i], "modes.real.images_per_s", 1, 4, &why);
        double slower = isfinite(compute) && isfinite(loader) ? fmin(compute, loader) : NAN;
        rp_cell(d, "%s", rp_num(100 * rp_real(r[i].row, "modes.real.images_per_s") / slower, 3).text);
        rp_cell(d, "%s", limit_of(&r[i]));
    }
    rp_reasons(d, &why);
}

static void overlap_table(rp_doc *d, const rp_result *r, size_t n)
{
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "overlap_geom (%)", true }, { "exposed_comm (ms)", true }, { "comm_cost (ms)", true },
                                        { "eta_eff (%)", true }, { "blocking_comm (ms)", true } };
    rp_why why = { { 0 } };
    rp_heading(d, 3, "Communication");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Communication per step: what is seen, what it costs, what it blocks");
    for (size_t i = 0; i < n; i++) {
        head_cells(d, &r[i]);
        rp_value(d, &r[i], "overlap_geom", 100, 3, &why);
        rp_value(d, &r[i], "exposed_comm_s", 1e3, 3, &why);
        rp_value(d, &r[i], "comm_cost_s", 1e3, 3, &why);
        rp_value(d, &r[i], "eta_eff", 100, 3, &why);
        rp_value(d, &r[i], "blocking_comm_s", 1e3, 3, &why);
    }
    rp_reasons(d, &why);
    rp_text(d, "overlap_geom is the part of the all-reduce time during which something was computed; exposed_comm the rest. comm_cost is the "
               "step against its twin without all-reduce, so it includes contention; eta_eff is what of the isolated all-reduce is hidden, "
               "judged by cost, and may be negative. blocking_comm is on the critical path.");
}

/* Terms in the order of measures.md; others that a row may hold follow in their own order. */
static const struct { const char *key, *title; } budget_term[] = {
    { "compute", "Compute" }, { "exposed_comm", "Exposed comm." }, { "exposed_copy", "Exposed copy" },
    { "input_stall", "Input stall" }, { "host", "Host" }, { "idle", "Idle" },
};

static void budget_table(rp_doc *d, const rp_result *r, size_t n)
{
    rp_column column[RM_COUNT(budget_term) + 5] = { { "N", true }, { "Origin", false } };
    bool any = false;
    for (size_t i = 0; i < n; i++) any |= json_object_size(rp_at(r[i].row, "budget_s")) > 0;
    if (!any) return;
    for (size_t k = 0; k < RM_COUNT(budget_term); k++) column[k + 2] = (rp_column){ budget_term[k].title, true };
    size_t at = RM_COUNT(budget_term) + 2;
    column[at] = (rp_column){ "Sum", true };
    column[at + 1] = (rp_column){ "Step, median", true };
    column[at + 2] = (rp_column){ "Sum / step (%)", true };
    rp_heading(d, 3, "Where the step's time goes");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Budget of one step, in ms; every nanosecond counts once");
    bool off = false;
    for (size_t i = 0; i < n; i++) {
        if (!json_is_object(rp_at(r[i].row, "budget_s"))) continue;
        double sum = 0, step = rp_real(r[i].row, "step_s.median");
        const char *key;
        json_t *v;
        json_object_foreach((json_t *)rp_at(r[i].row, "budget_s"), key, v) sum += json_is_number(v) ? json_number_value(v) : 0;
        head_cells(d, &r[i]);
        for (size_t k = 0; k < RM_COUNT(budget_term); k++) {
            char path[64];
            snprintf(path, sizeof path, "budget_s.%s", budget_term[k].key);
            rp_value(d, &r[i], path, 1e3, 3, NULL);
        }
        rp_cell(d, "%s", rp_num(1e3 * sum, 4).text);
        rp_cell(d, "%s", rp_num(1e3 * step, 4).text);
        rp_cell(d, "%s", rp_num(100 * sum / step, 4).text);
        off |= fabs(sum / step - 1) > 0.02;
    }
    if (off) rp_note(d, "A budget is more than 2 %% away from its median step: do not trust its terms.");
}

static const json_t *attribution_of(const rp_result *r)
{
    const json_t *a = rp_at(r->row, "loss_attribution_s");
    return json_object_size(a) && isfinite(rp_real(a, "unexplained")) ? a : NULL;
}

static void attribution_table(rp_doc *d, const rp_result *r, size_t n)
{
    static const char *const key[] = { "input", "compute_slowdown", "exposed_transfer", "straggler", "unexplained" };
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "Input", true }, { "Compute slow-down", true }, { "Exposed transfer", true },
                                        { "Straggler", true }, { "Unexplained", true }, { "Loss: all of them", true }, { "Of it explained (%)", true } };
    bool any = false;
    for (size_t i = 0; i < n; i++) any |= attribution_of(&r[i]) && rp_real(r[i].row, "ranks") > 1;
    if (!any) return;
    rp_heading(d, 3, "Where the scaling loss comes from");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "How much longer a step takes than the ideal one, in ms, and why");
    for (size_t i = 0; i < n; i++) {
        const json_t *a = attribution_of(&r[i]);
        if (!a || !(rp_real(r[i].row, "ranks") > 1)) continue;
        double sum = 0, unexplained = rp_real(a, "unexplained");
        head_cells(d, &r[i]);
        for (size_t k = 0; k < RM_COUNT(key); k++) {
            double v = rp_real(a, key[k]);
            sum += isfinite(v) ? v : 0;
            rp_cell(d, "%s", rp_num(1e3 * v, 3).text);
        }
        rp_cell(d, "%s", rp_num(1e3 * sum, 3).text);
        rp_cell(d, "%s", sum > 0 ? rp_num(100 * (1 - fabs(unexplained) / sum), 3).text : "–");
    }
    rp_text(d, "The ideal step is T(1) with the same batch per device (weak) or T(1) / N (strong). A negative term was shorter than on one device.");
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
        head_cells(d, &r[i]);
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
            head_cells(c->doc, &r[i]);
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
    RM_TRY(throughput_figure(c, r, n, strong));
    throughput_table(d, r, n, strong);
    rp_fold(d, "Reproduce row by row");
    for (size_t i = 0; i < n; i++) rp_command(d, "%s", rp_reproduce(&r[i]));
    rp_fold_end(d);
    modes_table(d, r, n);
    overlap_table(d, r, n);
    budget_table(d, r, n);
    attribution_table(d, r, n);
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
