/* Why scaling falls short of ideal: communication, the budget of a step, the attribution of the loss, stragglers. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A column: text when scale is 0; with ends of an interval when `low`. */
typedef struct field { const char *title, *path, *low, *high; double scale; int digits; } field;

static void fields_table(rp_doc *d, const rp_result *r, size_t n, const field *f, size_t fields, const char *caption)
{
    enum { MOST = 12 };
    rp_column column[MOST + 2] = { { "N", true }, { "Origin", false } };
    rp_why why = { { 0 } };
    RM_ASSERT(fields <= MOST);
    for (size_t k = 0; k < fields; k++) column[k + 2] = (rp_column){ f[k].title, f[k].scale > 0 };
    rp_table_begin(d, RP_TABLE, column, fields + 2, "%s", caption);
    for (size_t i = 0; i < n; i++) {
        rp_head_cells(d, &r[i]);
        for (size_t k = 0; k < fields; k++) {
            char text[64];
            if (!(f[k].scale > 0)) rp_cell(d, "%s", rp_text_of(rp_at(r[i].row, f[k].path), text, sizeof text));
            else if (f[k].low) rp_between(d, &r[i], f[k].path, f[k].low, f[k].high, f[k].scale, f[k].digits, &why);
            else rp_value(d, &r[i], f[k].path, f[k].scale, f[k].digits, &why);
        }
    }
    rp_reasons(d, &why);
}

static void communication_tables(rp_doc *d, const rp_result *r, size_t n)
{
    static const field cost[] = {
        { "exposed_comm (ms)", "exposed_comm_s", NULL, NULL, 1e3, 3 },
        { "overlap_geom (%)", "overlap_geom", NULL, NULL, 100, 3 },
        { "comm_cost (ms, 95 % interval)", "comm_cost_s", "comm_cost_s_low", "comm_cost_s_high", 1e3, 3 },
        { "comm_cost against the barrier twin (ms)", "comm_cost_barrier_s", NULL, NULL, 1e3, 3 },
        { "eta_eff (%)", "eta_eff", NULL, NULL, 100, 3 },
        { "blocking_comm (ms)", "blocking_comm_s", NULL, NULL, 1e3, 3 },
    };
    static const field what[] = {
        { "Split", "split", NULL, NULL, 0, 0 },
        { "Buckets", "buckets", NULL, NULL, 1, 9 },
        { "Wire", "wire", NULL, NULL, 0, 0 },
        { "All-reduce in the step (ms)", "comm_s", NULL, NULL, 1e3, 3 },
        { "The same alone (ms)", "isolated_s.median", NULL, NULL, 1e3, 3 },
        { "Of it transfer (ms)", "xfer_s", NULL, NULL, 1e3, 3 },
        { "skew_share (%)", "skew_share", NULL, NULL, 100, 3 },
        { "Compute slow-down (%)", "slowdown", NULL, NULL, 100, 3 },
        { "Comm thread (% of a core)", "comm_cpu_share", NULL, NULL, 100, 3 },
    };
    bool more = false;
    for (size_t i = 0; i < n; i++) more |= rp_string(r[i].row, "split") || isfinite(rp_real(r[i].row, "comm_s"));
    rp_heading(d, 3, "Communication");
    fields_table(d, r, n, cost, RM_COUNT(cost), "Communication per step: what is seen, what it costs, what it blocks");
    rp_text(d, "overlap_geom is the part of the all-reduce time during which something was computed; exposed_comm the rest. comm_cost is the "
               "step against its twin without all-reduce, so it includes contention; against the twin with a barrier in its place, waiting for a straggler is "
               "taken out. eta_eff is what of the isolated all-reduce is hidden, judged by cost, and may be negative. blocking_comm is on the critical path.");
    if (!more) return;
    fields_table(d, r, n, what, RM_COUNT(what), "What was communicated, and what it did to the rest");
    rp_text(d, "Transfer: the least time over ranks, bucket by bucket; skew_share is the rest of the all-reduce time, waiting for the last rank. Compute slow-down: how much "
               "longer kernels take while something is communicated. The communication thread's share is its CPU time by wall time.");
}

/* Terms in the order of measures.md; others that a row may hold follow in their own order. */
static const struct { const char *key, *title; } budget_term[] = {
    { "compute", "Compute" }, { "exposed_comm", "Exposed comm." }, { "exposed_copy", "Exposed copy" },
    { "input_stall", "Input stall" }, { "host", "Host" }, { "idle", "Idle" },
};

static void budget_table(rp_doc *d, const rp_result *r, size_t n)
{
    rp_column column[RM_COUNT(budget_term) + 5] = { { "N", true }, { "Origin", false } };
    for (size_t k = 0; k < RM_COUNT(budget_term); k++) column[k + 2] = (rp_column){ budget_term[k].title, true };
    size_t at = RM_COUNT(budget_term) + 2;
    column[at] = (rp_column){ "Sum", true };
    column[at + 1] = (rp_column){ "Step, median", true };
    column[at + 2] = (rp_column){ "Sum / step (%)", true };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Budget of one step, in ms; every nanosecond counts once");
    bool off = false;
    for (size_t i = 0; i < n; i++) {
        if (!json_is_object(rp_at(r[i].row, "budget_s"))) continue;
        double sum = 0, step = rp_real(r[i].row, "step_s.median");
        const char *key;
        json_t *v;
        json_object_foreach((json_t *)rp_at(r[i].row, "budget_s"), key, v) sum += json_is_number(v) ? json_number_value(v) : 0;
        rp_head_cells(d, &r[i]);
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
    return rp_real(r->row, "ranks") > 1 && isfinite(rp_real(a, "unexplained")) ? a : NULL;
}

static rm_status bars(rp_context *c, rm_status (*draw)(const char *, const char *, const rp_result *, size_t, bool *), const char *name, const rp_result *r, size_t n,
                      bool strong, const char *alt, const char *caption)
{
    char base[64], file[80];
    bool drawn = false;
    snprintf(base, sizeof base, "%s%s", name, strong ? "-strong" : "");
    snprintf(file, sizeof file, "%s.svg", base);
    rm_status st = draw(c->out_dir, base, r, n, &drawn);
    return rp_add_figure(c, st, drawn, file, alt, caption);
}

static void attribution_table(rp_doc *d, const rp_result *r, size_t n)
{
    static const char *const key[] = { "input", "compute_slowdown", "exposed_transfer", "straggler", "unexplained" };
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "Ideal step", true }, { "Input", true }, { "Compute slow-down", true }, { "Exposed transfer", true },
                                        { "Straggler", true }, { "Of it jitter", true }, { "Unexplained", true }, { "Loss: all of them", true }, { "Of it explained (%)", true } };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "How much longer a step takes than the ideal one, in ms, and why");
    for (size_t i = 0; i < n; i++) {
        const json_t *a = attribution_of(&r[i]);
        if (!a) continue;
        double sum = 0, unexplained = rp_real(a, "unexplained");
        rp_head_cells(d, &r[i]);
        rp_cell(d, "%s", rp_num(1e3 * rp_ideal_step(r[i].row), 4).text);
        for (size_t k = 0; k < RM_COUNT(key); k++) {
            double v = rp_real(a, key[k]);
            sum += isfinite(v) ? v : 0;
            rp_cell(d, "%s", rp_num(1e3 * v, 3).text);
            if (!strcmp(key[k], "straggler")) rp_value(d, &r[i], "jitter_s", 1e3, 3, NULL);
        }
        rp_cell(d, "%s", rp_num(1e3 * sum, 3).text);
        rp_cell(d, "%s", sum > 0 ? rp_num(100 * (1 - fabs(unexplained) / sum), 3).text : "–");
    }
}

static rm_status budget(rp_context *c, const rp_result *r, size_t n, bool strong)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) any |= json_object_size(rp_at(r[i].row, "budget_s")) > 0;
    if (!any) return RM_OK;
    rp_heading(c->doc, 3, "Where the step's time goes");
    RM_TRY(bars(c, rp_fig_budget, "budget", r, n, strong, "Budget of one step in milliseconds for each number of devices, stacked by term.",
                "Budget of one step, by number of devices: every nanosecond counts once. Pale bars were not measured here and say what they are."));
    budget_table(c->doc, r, n);
    return RM_OK;
}

static rm_status attribution(rp_context *c, const rp_result *r, size_t n, bool strong)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) any |= attribution_of(&r[i]) != NULL;
    if (!any) return RM_OK;
    rp_heading(c->doc, 3, "Where the scaling loss comes from");
    RM_TRY(bars(c, rp_fig_loss, "loss", r, n, strong, "The ideal step and the terms of the scaling loss, stacked, for each number of devices; negative terms below zero.",
                "The ideal step and what makes the real one longer, by number of devices. A term below zero was shorter than on one device: the top of a bar less what "
                "hangs below zero is the step. Pale bars were not measured here and say what they are."));
    attribution_table(c->doc, r, n);
    rp_text(c->doc, "The ideal step is T(1) with the same batch per device (weak) or T(1) / N (strong). A negative term was shorter than on one device. Jitter is "
                    "lateness of no rank in particular. What no term explains is shown as such and never spread over the others.");
    return RM_OK;
}

/* The lanes of the largest number of devices that has them; what was measured before anything else. */
static rm_status lanes(rp_context *c, const rp_result *r, size_t n, bool strong)
{
    const rp_result *best = NULL;
    for (size_t i = 0; i < n; i++) {
        bool measured = rp_measured(&r[i]), had = best && rp_measured(best);
        if (!r[i].correct || !(rp_real(r[i].row, "gantt.step_s") > 0) || !(rp_real(r[i].row, "ranks") > 1)) continue;
        if (!best || measured > had || (measured == had && rp_real(r[i].row, "ranks") > rp_real(best->row, "ranks"))) best = &r[i];
    }
    if (!best) return RM_OK;
    char title[192];
    const char *titles[] = { title }, *split = rp_string(best->row, "split"), *name = strong ? "gantt-strong" : "gantt";
    bool drawn = false;
    snprintf(title, sizeof title, "N = %g, split %s, %s", rp_real(best->row, "ranks"), rp_short_split(split ? split : "unknown").text, best->origin);
    rm_status st = rp_fig_gantt(c->out_dir, name, &best, titles, 1, &drawn);
    return rp_add_figure(c, st, drawn, strong ? "gantt-strong.svg" : "gantt.svg", "Lanes of compute and all-reduce in one step, with each bucket from start to end.",
                         "One step of rank 0, the one nearest the median. A tick marks when a bucket's last gradient was ready, and the line from it leads to its start.");
}

static rm_status stragglers(rp_context *c, const rp_result *r, size_t n)
{
    const rp_result **p = calloc(n, sizeof *p);
    bool any = false;
    if (!p) return rm_fail(RM_E_NOMEM, "out of memory for the table of stragglers");
    for (size_t i = 0; i < n; i++) {
        p[i] = &r[i];
        any |= json_array_size(rp_at(r[i].row, "stragglers")) > 0;
    }
    if (any) rp_heading(c->doc, 3, "Stragglers");
    rp_stragglers(c->doc, p, n, "stragglers", "Which rank is late and which one waits");
    free(p);
    return RM_OK;
}

rm_status rp_scaling_loss(rp_context *c, const rp_result *r, size_t n, bool strong)
{
    communication_tables(c->doc, r, n);
    RM_TRY(lanes(c, r, n, strong));
    RM_TRY(budget(c, r, n, strong));
    RM_TRY(attribution(c, r, n, strong));
    return stragglers(c, r, n);
}
