/* The sweep over all-reduce splits: which is best, whether that can be told, and why. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *name_of(const rp_result *r)
{
    const char *split = rp_string(r->row, "split");
    return split ? split : r->key;
}

static rp_short short_of(const rp_result *r) { return rp_short_split(name_of(r)); }
static bool is_best(const rp_result *r) { return json_is_true(rp_at(r->row, "best")); }
static bool told_apart(const rp_result *r) { return json_is_true(rp_at(r->row, "distinguishable")); }
static bool has_step(const rp_result *r) { return r->correct && rp_real(r->row, "step_s.median") > 0; }

const rp_result *rp_best_split(const rp_result *r, size_t n)
{
    const rp_result *best = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!has_step(&r[i])) continue;
        if (is_best(&r[i])) return &r[i];
        if (!best || rp_real(r[i].row, "step_s.median") < rp_real(best->row, "step_s.median")) best = &r[i];
    }
    return best;
}

/* The best first, then by step time; what has none last. */
static int faster_first(const void *a, const void *b)
{
    const rp_result *x = *(const rp_result *const *)a, *y = *(const rp_result *const *)b;
    if (has_step(x) != has_step(y)) return has_step(x) ? -1 : 1;
    if (is_best(x) != is_best(y)) return is_best(x) ? -1 : 1;
    double s = rp_real(x->row, "step_s.median"), t = rp_real(y->row, "step_s.median");
    return s < t ? -1 : s > t ? 1 : x < y ? -1 : x > y; /* as asked where nothing else tells */
}

/* ---- in words --------------------------------------------------------------------------------------------------- */

static void conditions(rp_doc *d, const rp_result *r)
{
    char device[64], dtype[32], px[32], batch[32], wire[32], library[128], threads[32];
    rp_text(d, "%s ranks, device %s, %s px, batch %s per device, %s, %s on the wire, library %s, threads per rank: %s; %s MB of gradients; %s rounds, every split and its twins once in each, in random order.",
            rp_num(rp_real(r->row, "ranks"), 6).text, rp_setting(r, "device", "auto", device, sizeof device), rp_setting(r, "px", "?", px, sizeof px),
            rp_setting(r, "batch_per_device", "?", batch, sizeof batch), rp_setting(r, "dtype", "default type", dtype, sizeof dtype), rp_setting(r, "wire", "?", wire, sizeof wire),
            rp_setting(r, "comm_library", "?", library, sizeof library), rp_setting(r, "threads", "?", threads, sizeof threads),
            rp_num(1e-6 * rp_real(r->row, "bytes"), 4).text, rp_num(rp_real(r->row, "rounds"), 9).text);
}

static double ratio_of(const rp_result *r)
{
    double ratio = rp_real(r->row, "comm_to_backward");
    return isnan(ratio) ? rp_real(r->row, "isolated_s.median") / rp_real(r->row, "backward_s") : ratio;
}

/* Which regime: everything else about splits depends on it. */
static void say_regime(rm_strbuf *s, const rp_result *const *r, size_t n)
{
    const rp_result *best = r[0];
    double ratio = ratio_of(best), alone = 1e3 * rp_real(best->row, "isolated_s.median"), backward = 1e3 * rp_real(best->row, "backward_s");
    size_t other = 0;
    for (size_t i = 0; i < n; i++) other += has_step(r[i]) && isfinite(ratio_of(r[i])) && (ratio_of(r[i]) > 1) != (ratio > 1);
    if (isnan(ratio)) {
        rm_str_add(s, "The regime is unknown: the all-reduce alone or backward was not measured. ");
        return;
    }
    rm_str_addf(s, "%s: alone, the all-reduce of the best split takes %s times as long as backward (%s ms against %s ms), so ",
                ratio <= 1 ? "Communication fits under backward" : "Communication does not fit under backward", rp_num(ratio, 3).text, rp_num(alone, 3).text, rp_num(backward, 3).text);
    if (ratio <= 1) rm_str_add(s, "a good split can hide most of it. ");
    else rm_str_addf(s, "about %s ms stay exposed under any split; a faster network, fewer bytes on the wire or a larger batch would help more. ", rp_num(alone - backward, 3).text);
    if (other) rm_str_addf(s, "For %zu other split%s it is the other way round, because of their number of buckets. ", other, other == 1 ? "" : "s");
}

static const rp_result *named(const rp_result *const *r, size_t n, const char *split)
{
    for (size_t i = 1; split && i < n; i++) /* not the best itself */
        if (has_step(r[i]) && !strcmp(name_of(r[i]), split)) return r[i];
    return NULL;
}

static void say_difference(rm_strbuf *s, const rp_result *r)
{
    rm_str_addf(s, "%s ms, 95 %% interval %s to %s", rp_num(1e3 * rp_real(r->row, "difference_to_best_s.median"), 3).text,
                rp_num(1e3 * rp_real(r->row, "difference_to_best_s.low"), 3).text, rp_num(1e3 * rp_real(r->row, "difference_to_best_s.high"), 3).text);
}

/* Within the noise the fewest buckets are the best advice: less to go wrong, and nothing is lost that could be measured. */
static void say_advice(rm_strbuf *s, const rp_result *const *r, size_t n)
{
    const rp_result *best = r[0], *fewest = r[0], *next = named(r, n, rp_string(best->row, "next_best"));
    size_t alike = 0;
    if (!next && n > 1 && has_step(r[1])) next = r[1];
    rm_str_addf(s, "Best is %s with %s ms a step", short_of(best).text, rp_num(1e3 * rp_real(best->row, "step_s.median"), 4).text);
    if (!next) {
        rm_str_add(s, ", the only split that was run.");
        return;
    }
    for (size_t i = 1; i < n; i++) {
        if (!has_step(r[i]) || told_apart(r[i]) || !rp_at(r[i]->row, "distinguishable")) continue;
        alike++;
        if (rp_real(r[i]->row, "buckets") < rp_real(fewest->row, "buckets")) fewest = r[i];
    }
    if (told_apart(best)) {
        rm_str_addf(s, ", distinguishable from the next, %s (", short_of(next).text);
        say_difference(s, next);
        rm_str_addf(s, "). Recommended: %s.", short_of(best).text);
        return;
    }
    rm_str_addf(s, ", not distinguishable from the next, %s (", short_of(next).text);
    say_difference(s, next);
    rm_str_addf(s, ")");
    if (alike > 1) rm_str_addf(s, ", nor from %zu more", alike - 1);
    if (fewest != best) rm_str_addf(s, ". Recommended: %s, which has the fewest buckets of those.", short_of(fewest).text);
    else rm_str_addf(s, ". Recommended: %s, which has no more buckets than any of those; more rounds may tell them apart.", short_of(best).text);
}

/* Against one all-reduce after backward, and against what no split can beat. */
static void say_stakes(rm_strbuf *s, const rp_result *const *r, size_t n)
{
    const rp_result *best = r[0], *single = NULL;
    double bound = 1e3 * rp_real(best->row, "bound_s"), step = 1e3 * rp_real(best->row, "step_s.median");
    for (size_t i = 1; i < n && !single; i++)
        if (has_step(r[i]) && rp_real(r[i]->row, "buckets") == 1 && rp_real(r[i]->row, "difference_to_best_s.median") > 0) single = r[i];
    if (single) {
        rm_str_addf(s, " One all-reduce of everything (%s) takes longer by ", short_of(single).text);
        say_difference(s, single);
        rm_str_addf(s, "%s.", told_apart(single) ? "" : ", which is not distinguishable");
    }
    if (isfinite(bound))
        rm_str_addf(s, " The lower bound of any split is %s ms: searching on can gain at most %s ms (%s %% of the all-reduce alone).", rp_num(bound, 4).text,
                    rp_num(fmax(0, step - bound), 3).text, rp_num(fmax(0, 100 * rp_real(best->row, "bound_gap_share")), 3).text);
}

static void in_words(rp_doc *d, const rp_result *const *r, size_t n)
{
    rm_strbuf s = { 0 };
    say_regime(&s, r, n);
    say_advice(&s, r, n);
    say_stakes(&s, r, n);
    if (!rp_measured(r[0])) rm_str_addf(&s, " All of this is %s, not measured.", r[0]->origin);
    if (s.failed) d->failed = true;
    else rp_lead(d, "%s", s.text);
    rm_str_free(&s);
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

static void verdict_cell(rp_doc *d, const rp_result *r, const rp_result *best)
{
    if (!has_step(r)) rp_cell(d, "–");
    else if (r == best && told_apart(r)) rp_cell(d, "best");
    else if (r == best) rp_cell(d, "best, not distinguishable from the next");
    else if (!json_is_boolean(rp_at(r->row, "distinguishable"))) rp_cell(d, "–");
    else rp_cell(d, "%s", told_apart(r) ? "slower" : "not distinguishable from best");
}

/* "96.54/3.46 %"; of many only the first. */
static void shares_cell(rp_doc *d, const rp_result *r)
{
    enum { MOST = 3 };
    const char *shares = rp_string(r->row, "shares"), *p = shares;
    size_t parts = 1, keep = 0;
    for (; p && *p; p++)
        if (*p == '/' && parts++ == MOST) keep = (size_t)(p - shares);
    if (!shares) rp_cell(d, "–");
    else if (keep) rp_cell(d, "%.*s/… %%", (int)keep, shares);
    else rp_cell(d, "%s", shares);
}

static void row_begin(rp_doc *d, const rp_result *r, size_t place)
{
    rp_row(d, rp_style_of(r->origin, r->correct));
    rp_cell(d, "%zu", place);
    rp_cell(d, "%s", short_of(r).text);
}

static void verdict_table(rp_doc *d, const rp_result *const *r, size_t n)
{
    static const rp_column column[] = { { "#", true }, { "Split", false }, { "Verdict", false }, { "Origin", false }, { "Buckets", true },
                                        { "Step (ms, 95 % interval)", true }, { "Behind the best (ms, 95 % interval)", true }, { "Shares", false } };
    rp_why why = { { 0 } };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Split by split, fastest first");
    rp_live(d);
    for (size_t i = 0; i < n; i++) {
        row_begin(d, r[i], i + 1);
        verdict_cell(d, r[i], r[0]);
        rp_origin_cell(d, r[i]);
        rp_value(d, r[i], "buckets", 1, 9, NULL);
        rp_between(d, r[i], "step_s.median", "step_s_low", "step_s_high", 1e3, 4, &why);
        if (i) rp_between(d, r[i], "difference_to_best_s.median", "difference_to_best_s.low", "difference_to_best_s.high", 1e3, 3, &why);
        else rp_cell(d, has_step(r[i]) ? "0" : "–");
        shares_cell(d, r[i]);
    }
    rp_reasons(d, &why);
    rp_text(d, "Differences are paired by round: two splits may be told apart although the intervals of their steps overlap. Slower: the interval of the difference excludes zero.");
}

static void communication_table(rp_doc *d, const rp_result *const *r, size_t n)
{
    static const rp_column column[] = { { "#", true }, { "Split", false }, { "Origin", false }, { "comm_cost (ms, 95 % interval)", true }, { "Exposed (ms)", true }, { "Alone (ms)", true },
                                        { "eta_eff (%)", true }, { "overlap_geom (%)", true }, { "Gap to the bound (% of alone)", true } };
    static const struct { const char *path; double scale; } value[] = { { "exposed_comm_s", 1e3 }, { "isolated_s.median", 1e3 }, { "eta_eff", 100 }, { "overlap_geom", 100 }, { "bound_gap_share", 100 } };
    rp_why why = { { 0 } };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "What communication costs under each split, in the same order");
    rp_live(d);
    for (size_t i = 0; i < n; i++) {
        row_begin(d, r[i], i + 1);
        rp_origin_cell(d, r[i]);
        rp_between(d, r[i], "comm_cost_s", "comm_cost_s_low", "comm_cost_s_high", 1e3, 3, &why);
        for (size_t k = 0; k < RM_COUNT(value); k++) rp_value(d, r[i], value[k].path, value[k].scale, 3, &why);
    }
    rp_reasons(d, &why);
    rp_text(d, "comm_cost is the step less its twin without all-reduce, round by round, so it includes contention; exposed is the all-reduce time during which nothing was computed; "
               "alone is the same buckets back to back with nothing else running. eta_eff = 1 - comm_cost / alone and may be negative.");
}

static void more_table(rp_doc *d, const rp_result *const *r, size_t n)
{
    static const rp_column column[] = {
        { "#", true }, { "Split", false }, { "Origin", false }, { "images/s", true }, { "Twin, all-reduce off (ms)", true }, { "Twin, barrier (ms)", true },
        { "comm_cost against the barrier (ms)", true }, { "All-reduce in the step (ms)", true }, { "Exposed (% of the step)", true }, { "blocking_comm (ms)", true },
        { "Transfer (ms)", true }, { "skew_share (%)", true }, { "Compute slow-down (%)", true }, { "Alone / backward", true }, { "Lower bound (ms)", true }, { "Comm thread (% of a core)", true },
    };
    static const struct { const char *path; double scale; int digits; } value[] = {
        { "images_per_s", 1, 4 }, { "off_step_s", 1e3, 4 }, { "barrier_step_s", 1e3, 4 }, { "comm_cost_barrier_s", 1e3, 3 }, { "comm_s", 1e3, 3 }, { "exposed_comm_share", 100, 3 },
        { "blocking_comm_s", 1e3, 3 }, { "xfer_s", 1e3, 3 }, { "skew_share", 100, 3 }, { "slowdown", 100, 3 }, { "comm_to_backward", 1, 3 }, { "bound_s", 1e3, 4 }, { "comm_cpu_share", 100, 3 },
    };
    rp_why why = { { 0 } };
    rp_fold(d, "More of each split: twins, transfer and waiting, slow-down of compute");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "The same splits, the same order");
    rp_live(d);
    for (size_t i = 0; i < n; i++) {
        row_begin(d, r[i], i + 1);
        rp_origin_cell(d, r[i]);
        for (size_t k = 0; k < RM_COUNT(value); k++) rp_value(d, r[i], value[k].path, value[k].scale, value[k].digits, &why);
    }
    rp_reasons(d, &why);
    rp_fold_end(d);
    rp_fold(d, "Reproduce split by split, names in full");
    for (size_t i = 0; i < n; i++) rp_command(d, "%s", rp_reproduce(r[i]));
    rp_fold_end(d);
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */

static void file_name(char *out, size_t size, const char *base, size_t sweep)
{
    if (sweep) snprintf(out, size, "%s-%zu", base, sweep + 1);
    else snprintf(out, size, "%s", base);
}

static rm_status splits_figure(rp_context *c, const rp_result *const *r, size_t n, size_t sweep)
{
    char name[32], file[40];
    bool drawn = false;
    file_name(name, sizeof name, "splits", sweep);
    snprintf(file, sizeof file, "%s.svg", name);
    rm_status st = rp_fig_splits(c->out_dir, name, r, n, &drawn);
    return rp_add_figure(c, st, drawn, file, "Step time, exposed communication and its cost for each split, fastest first.",
                         "Step time, exposed communication and its cost by split, fastest first, with 95 % intervals. The axis of the step time need not begin at zero; an arrow stands for a split beyond it. Hollow or pale: not measured here.");
}

static void gantt_title(const rp_result *r, const char *which, char *out, size_t size)
{
    double buckets = rp_real(r->row, "buckets");
    snprintf(out, size, "%s: %s, %g bucket%s, %s", which, short_of(r).text, buckets, buckets == 1 ? "" : "s", r->origin);
}

static rm_status gantt_figure(rp_context *c, const rp_result *const *r, size_t n, size_t sweep)
{
    char name[32], file[40], title[2][160];
    const rp_result *pair[] = { r[0], r[n - 1] };
    const char *titles[] = { title[0], title[1] };
    bool drawn = false;
    file_name(name, sizeof name, "splits-gantt", sweep);
    snprintf(file, sizeof file, "%s.svg", name);
    gantt_title(pair[0], "best", title[0], sizeof title[0]);
    gantt_title(pair[1], "slowest", title[1], sizeof title[1]);
    rm_status st = rp_fig_gantt(c->out_dir, name, pair, titles, n > 1 ? 2 : 1, &drawn);
    const char *why = drawn || st != RM_OK ? NULL : rp_reason(r[0]->row, "gantt");
    if (why) rp_text(c->doc, "There are no lanes of a step to show: %s.", why);
    return rp_add_figure(c, st, drawn, file, "Lanes of compute and all-reduce in one step with the best and with the slowest split, bucket by bucket.",
                         "One step of rank 0 with the best and with the slowest split, each the one nearest its median. A tick marks when a bucket's last gradient was ready, and the line "
                         "from it leads to its start; what lies right of backward is exposed.");
}

/* ---- section ---------------------------------------------------------------------------------------------------- */

static rm_status one_sweep(rp_context *c, const rp_result **r, size_t n, size_t sweep)
{
    rp_doc *d = c->doc;
    size_t timed = 0;
    qsort(r, n, sizeof *r, faster_first);
    while (timed < n && has_step(r[timed])) timed++;
    double ranks = rp_real(r[0]->row, "ranks");
    rp_heading(d, 2, "All-reduce splits on %s ranks%s%s", rp_num(ranks, 6).text, rp_measured(r[0]) ? "" : ", ", rp_measured(r[0]) ? "" : rp_origin(r[0]));
    if (!r[0]->run->finished) rp_note(d, "This sweep did not finish (run %lld).", (long long)r[0]->run->id);
    if (timed) {
        in_words(d, r, n);
        conditions(d, r[0]);
        RM_TRY(splits_figure(c, r, timed, sweep));
        rp_command(d, "%s", r[0]->run->command_line);
    }
    verdict_table(d, r, n);
    communication_table(d, r, n);
    more_table(d, r, n);
    if (!timed) return RM_OK;
    RM_TRY(gantt_figure(c, r, timed, sweep));
    rp_stragglers(d, r, 1, "ranks_detail", "Ranks under the best split");
    return RM_OK;
}

static bool seen_before(const rp_data *d, const rp_result *r)
{
    for (const rp_result *p = d->result; p < r; p++)
        if (p->run != r->run && !strcmp(p->run->command, r->run->command) && !strcmp(p->run->identity, r->run->identity)) return true;
    return false;
}

rm_status rp_section_splits(rp_context *c)
{
    enum { MOST_SWEEPS = 4 }; /* as many as report.c knows figures of */
    const rp_data *data = c->data;
    size_t sweeps = 0, more = 0, n;
    for (size_t i = 0; i < data->n_results; i += n) {
        const rp_result *first = &data->result[i];
        for (n = 1; i + n < data->n_results && data->result[i + n].run == first->run; n++) {}
        if (strcmp(first->run->command, "split-sweep") || seen_before(data, first)) continue;
        if (sweeps == MOST_SWEEPS) {
            more++;
            continue;
        }
        const rp_result **r = calloc(n, sizeof *r);
        if (!r) return rm_fail(RM_E_NOMEM, "out of memory for the table of splits");
        for (size_t k = 0; k < n; k++) r[k] = &first[k];
        rm_status st = one_sweep(c, r, n, sweeps++);
        free(r);
        RM_TRY(st);
    }
    if (more) rp_text(c->doc, "%zu older sweep%s over splits with other settings: see bench runs.", more, more == 1 ? "" : "s");
    return RM_OK;
}
