/* Where a step goes: what bench profile says of one configuration, the answer first. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PROFILES = 8 }; /* as many as report.c knows figures of */

/* One configuration's newest profile. mark: what every figure of the trace carries in its caption where tracing disturbed the step. */
typedef struct profile {
    const rp_result *r;
    size_t number;
    const char *mark;
} profile;

static bool perturbed(const rp_result *r) { return json_is_true(rp_at(r->row, "trace.perturbed")); }
static double step_of(const rp_result *r) { return rp_real(r->row, "step_s.median"); }

/* A term of the budget in % of the step. */
static double share_of(const rp_result *r, const char *term)
{
    char path[64];
    snprintf(path, sizeof path, "budget_s.%s", term);
    return 100 * rp_real(r->row, path) / step_of(r);
}

static const char *file_name(char *out, size_t size, const char *base, size_t number, const char *end)
{
    if (number) snprintf(out, size, "%s-%zu%s", base, number + 1, end);
    else snprintf(out, size, "%s%s", base, end);
    return out;
}

/* ---- in words ---------------------------------------------------------------------------------------------------- */

static void lead(rp_doc *d, const rp_result *r, bool alone)
{
    static const struct {
        const char *term, *words;
    } part[] = {
        { "compute", "compute" },
        { "exposed_comm", "exposed communication" },
        { "exposed_copy", "exposed copies" },
        { "input_stall", "waiting for input" },
        { "host", "the host" },
        { "idle", "idle" },
    };
    const json_t *best = json_array_get(rp_at(r->row, "changes"), 0);
    const char *what = rp_string(best, "what");
    rm_strbuf s = { 0 };
    if (!alone) rm_str_addf(&s, "N = %s: ", rp_num(rp_real(r->row, "ranks"), 6).text);
    rm_str_addf(&s, "%s images/s, %s ms a step (%s): ", rp_num(rp_real(r->row, "images_per_s"), 4).text, rp_num(1e3 * step_of(r), 4).text, rp_origin(r));
    for (size_t i = 0, said = 0; i < RM_COUNT(part); i++) {
        double share = share_of(r, part[i].term);
        if (isnan(share) || (share < 0.05 && i)) continue;
        rm_str_addf(&s, "%s%.1f %% %s", said++ ? ", " : "", share, part[i].words);
    }
    rm_str_add(&s, ".");
    if (what)
        rm_str_addf(&s, " The most profitable change: %s, %s ms (%s %%) less.", what, rp_num(1e3 * rp_real(best, "gain_s"), 3).text,
                    rp_num(100 * rp_real(best, "gain_share"), 2).text);
    if (s.failed) d->failed = true;
    else rp_lead(d, "%s", s.text);
    rm_str_free(&s);
}

static void reservations(rp_doc *d, const rp_result *r)
{
    double ratio = rp_real(r->row, "trace.ratio"), low = rp_real(r->row, "trace.low"), high = rp_real(r->row, "trace.high");
    double disturbed = rp_real(r->row, "disturbed_steps"), steps = rp_real(r->row, "step_s.samples");
    const char *why = rp_reason(r->row, "trace.ratio"), *file = rp_string(r->row, "trace.file");
    if (!r->correct) rp_note(d, "This profile is wrong and not to be used.");
    if (isnan(ratio)) rp_note(d, "What tracing cost is not known%s%s.", why ? ": " : "", why ? why : "");
    else if (perturbed(r))
        rp_note(
            d,
            "Perturbed: with the trace on, a step took %s times as long (95 %% interval %s to %s, %s pairs), beyond 2 %%%s. Step time and images/s are of untraced steps; "
            "what comes from the trace (layers, timeline, budget) is marked \"perturbed\".",
            rp_num(ratio, 4).text, rp_num(low, 4).text, rp_num(high, 4).text, rp_num(rp_real(r->row, "trace.pairs"), 9).text,
            low <= 1 && high >= 1 ? "; or the machine is too noisy to tell, for the interval holds 1" : "");
    else
        rp_text(d, "%s: traced over untraced steps %s (95 %% interval %s to %s, %s pairs). Step time and images/s are of untraced steps.",
                json_is_true(rp_at(r->row, "trace.undecided")) ? "Whether watching cost less than 2 % is undecided, for the interval is wider than that" : "Watching cost little", rp_num(ratio, 4).text, rp_num(low, 4).text, rp_num(high, 4).text, rp_num(rp_real(r->row, "trace.pairs"), 9).text);
    if (disturbed > 0)
        rp_note(
            d, "Disturbed: in %s of %s steps others took the processor, its pages or its time; those steps are kept, and the counters below say what happened.",
            rp_num(disturbed, 9).text, rp_num(steps, 9).text);
    rp_throttled_note(d, r);
    if (file && *file) rp_text(d, "The whole trace, for Perfetto: %s.", file);
}

static void tile(rp_doc *d, const rp_result *r, const char *label, double value, int digits, const char *unit, const char *about)
{
    if (isnan(value)) return;
    rp_row(d, rp_style_of(r->origin, r->correct));
    rp_cell(d, "%s", label);
    if (!strcmp(unit, "%")) rp_cell(d, "%.1f %%", value); /* a share below a tenth of a per cent is none */
    else rp_cell(d, "%s %s", rp_num(value, digits).text, unit);
    rp_cell(d, "%s%s%s", rp_origin(r), *about ? ", " : "", about);
}

static void tiles(rp_doc *d, const profile *p)
{
    static const rp_column column[] = { { "Result", false }, { "Value", true }, { "Origin", false } };
    const rp_result *r = p->r;
    char spread[112];
    const char *of_trace = perturbed(r) ? "perturbed" : "";
    snprintf(spread, sizeof spread, "MAD %s ms, %s steps", rp_num(1e3 * rp_real(r->row, "step_s.mad"), 2).text,
             rp_num(rp_real(r->row, "step_s.samples"), 9).text);
    rp_table_begin(d, RP_TILES, column, RM_COUNT(column), "%s", "");
    tile(d, r, "Throughput", rp_real(r->row, "images_per_s"), 4, "images/s", "");
    tile(d, r, "Step, median", 1e3 * step_of(r), 4, "ms", spread);
    tile(d, r, "Compute", share_of(r, "compute"), 3, "%", of_trace);
    if (rp_real(r->row, "ranks") > 1) tile(d, r, "Exposed communication", share_of(r, "exposed_comm"), 2, "%", of_trace);
    tile(d, r, "Input stall", share_of(r, "input_stall"), 2, "%", of_trace);
    tile(d, r, "Idle and host", share_of(r, "idle") + share_of(r, "host"), 2, "%", of_trace);
    tile(d, r, "Traced / untraced step", rp_real(r->row, "trace.ratio"), 4, "", of_trace);
}

/* ---- what to change ---------------------------------------------------------------------------------------------- */

/* A row of an array inside the result, read like a result. */
static rp_result part_of(const rp_result *r, const json_t *part)
{
    return (rp_result) { .run = r->run, .key = r->key, .origin = r->origin, .correct = r->correct, .row = (json_t *)part };
}

static void changes_table(rp_doc *d, const profile *p)
{
    static const rp_column column[] = { { "Change", false },
                                        { "Origin of the gain", false },
                                        { "Gain (ms)", true },
                                        { "Gain (% of the step)", true },
                                        { "Step then (ms)", true },
                                        { "Slope, predicted", true },
                                        { "Slope, measured (95 % interval)", true },
                                        { "Verdict", false },
                                        { "Note", false } };
    const json_t *list = rp_at(p->r->row, "changes");
    rp_why why = { { 0 } };
    size_t i;
    json_t *v;
    if (!json_array_size(list)) return;
    rp_heading(d, 3, "What to change");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "The most profitable changes, best first%s", p->mark);
    json_array_foreach(list, i, v)
    {
        const rp_result one = part_of(p->r, v);
        const char *what = rp_string(v, "what"), *note = rp_string(v, "note"), *origin = rp_string(v, "origin"), *verdict = rp_string(v, "verdict");
        rp_row(d, rp_style_of(origin ? origin : "projected", true));
        rp_cell(d, "%s", what ? what : "–");
        rp_cell(d, "%s", origin ? origin : "projected");
        rp_value(d, &one, "gain_s", 1e3, 3, &why);
        rp_value(d, &one, "gain_share", 100, 2, NULL);
        rp_value(d, &one, "step_s_then", 1e3, 4, NULL);
        rp_value(d, &one, "predicted_slope", 1, 3, &why);
        rp_between(d, &one, "measured_slope", "slope_low", "slope_high", 1, 3, &why);
        rp_cell(d, "%s", verdict ? verdict : "–");
        rp_cell(d, "%s", note && *note ? note : "–");
    }
    rp_reasons(d, &why);
    rp_text(
        d,
        "A projected gain comes from replaying the traced steps with the change made, or from the budget; it was not run. A measured one is a difference of real steps. The slope says how much longer the step gets for each ms of delay put there: predicted by the "
        "replay, and measured by really delaying it. Where the two agree, the replay can be believed.");
}

static rm_status sensitivity(rp_context *c, const profile *p)
{
    static const rp_column column[] = { { "Kind", false },
                                        { "Name", false },
                                        { "Pass", false },
                                        { "Origin", false },
                                        { "Time (ms)", true },
                                        { "Delay (ms)", true },
                                        { "Slope, predicted", true },
                                        { "Slope, measured", true },
                                        { "95 % low", true },
                                        { "95 % high", true },
                                        { "Prediction error", true } };
    static const struct {
        const char *key;
        double scale;
    } value[] = { { "time_s", 1e3 },  { "delay_s", 1e3 },  { "predicted_slope", 1 }, { "measured_slope", 1 },
                  { "slope_low", 1 }, { "slope_high", 1 }, { "prediction_error", 1 } };
    static const char *const text[] = { "kind", "name", "pass" };
    const json_t *list = rp_at(p->r->row, "sensitivity");
    char base[64], file[64];
    bool drawn = false;
    size_t i;
    json_t *v;
    if (!json_array_size(list)) return RM_OK;
    rp_heading(c->doc, 3, "Sensitivity: what a delay costs");
    rm_status st = rp_fig_sensitivity(c->out_dir, file_name(base, sizeof base, "profile-sensitivity", p->number, ""), p->r, &drawn);
    RM_TRY(rp_add_figure(
        c, st, drawn, file_name(file, sizeof file, "profile-sensitivity", p->number, ".svg"),
        "Measured against predicted slope of the step time for each thing that was delayed.",
        "How much longer the step gets for each ms of delay: measured (with 95 % interval) against predicted by the replay. On the dashed line they agree; 1: all of it is on the "
        "critical path, 0: there is slack. The names are of the eight that disagree most."));
    rp_table_begin(c->doc, RP_TABLE, column, RM_COUNT(column), "What was delayed");
    rp_live(c->doc);
    json_array_foreach(list, i, v)
    {
        rp_row(c->doc, rp_style_of(p->r->origin, p->r->correct));
        for (size_t k = 0; k < RM_COUNT(text); k++) {
            const char *s = rp_string(v, text[k]);
            rp_cell(c->doc, "%s", s && *s ? s : "–");
        }
        rp_cell(c->doc, "%s", rp_origin(p->r));
        for (size_t k = 0; k < RM_COUNT(value); k++) rp_cell(c->doc, "%s", rp_num(value[k].scale * rp_real(v, value[k].key), 3).text);
    }
    return RM_OK;
}

/* ---- the step ---------------------------------------------------------------------------------------------------- */

static rm_status timeline(rp_context *c, const profile *p)
{
    char base[64], file[64], caption[640];
    bool drawn = false;
    rp_left_out left = { 0 };
    rm_status st = rp_fig_timeline(c->out_dir, file_name(base, sizeof base, "profile-timeline", p->number, ""), p->r, &drawn, &left);
    const char *why = rp_reason(p->r->row, "timeline");
    snprintf(caption, sizeof caption, "Timeline of one traced step (%s, %s ms)%s, a lane a queue or thread. Point at a span for its name and times.",
             rp_origin(p->r), rp_num(1e3 * rp_real(p->r->row, "timeline.step_s"), 4).text, p->mark);
    RM_TRY(rp_add_figure(c, st, drawn, file_name(file, sizeof file, "profile-timeline", p->number, ".svg"),
                         "Lanes of compute, communication, copies, input and host of each rank in one step.", caption));
    if (drawn) rp_live(c->doc);
    if (!drawn && st == RM_OK && why) rp_text(c->doc, "There is no timeline: %s.", why);
    if (left.ranks) rp_text(c->doc, "%zu more rank%s not shown.", left.ranks, left.ranks == 1 ? " is" : "s are");
    if (left.spans)
        rp_text(c->doc, "%zu span%s without length, outside of the step, or beyond what a picture holds %s not shown.", left.spans, left.spans == 1 ? "" : "s",
                left.spans == 1 ? "is" : "are");
    return RM_OK;
}

static void communication_table(rp_doc *d, const profile *p)
{
    static const rp_column column[] = { { "Value", false }, { "Origin", false }, { "Unit", false }, { "", true } };
    static const struct {
        const char *title, *path, *low, *high, *unit;
        double scale;
    } row[] = {
        { "All-reduce in the step", "comm_s", "", "", "ms", 1e3 },
        { "Exposed communication", "exposed_comm_s", "", "", "ms", 1e3 },
        { "Overlap, geometric", "overlap_geom", "", "", "%", 100 },
        { "On the critical path", "blocking_comm_s", "", "", "ms", 1e3 },
        { "Cost: step less the same without all-reduce (95 % interval)", "comm_cost_s", "comm_cost_s_low", "comm_cost_s_high", "ms", 1e3 },
        { "Hidden of it, judged by cost (eta_eff)", "eta_eff", "", "", "%", 100 },
        { "Transfer alone", "xfer_s", "", "", "ms", 1e3 },
        { "Waiting for the last rank (skew_share)", "skew_share", "", "", "%", 100 },
        { "Slow-down of compute beside it", "slowdown", "", "", "%", 100 },
    };
    rp_why why = { { 0 } };
    if (!(rp_real(p->r->row, "ranks") > 1)) return;
    rp_heading(d, 3, "Communication");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Communication of one step%s", p->mark);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rp_row(d, rp_style_of(p->r->origin, p->r->correct));
        rp_cell(d, "%s", row[i].title);
        rp_cell(d, "%s", rp_origin(p->r));
        rp_cell(d, "%s", row[i].unit);
        rp_between(d, p->r, row[i].path, row[i].low, row[i].high, row[i].scale, 3, &why);
    }
    rp_reasons(d, &why);
}

static void counters_table(rp_doc *d, const rp_result *r)
{
    static const rp_column column[] = { { "Counter", false }, { "Origin", false }, { "A step", true }, { "Unit", false }, { "Why there is none", false } };
    static const struct {
        const char *title, *path, *unit;
        double scale;
    } row[] = {
        { "Instructions", "counters.instructions", "10⁶", 1e-6 },
        { "Cycles", "counters.cycles", "10⁶", 1e-6 },
        { "Cache misses", "counters.cache_misses", "10³", 1e-3 },
        { "CPU time", "counters.cpu_s", "ms", 1e3 },
        { "Ready, but not running", "counters.run_delay_s", "ms", 1e3 },
        { "Taken off the processor", "counters.preempted", "times", 1 },
        { "Page faults", "counters.faults", "", 1 },
        { "Page faults from disk", "counters.major_faults", "", 1 },
        { "Stolen by the hypervisor", "counters.steal_s", "ms", 1e3 },
        { "Energy", "counters.energy_j", "J", 1 },
        { "Most memory of a rank", "memory_high_bytes", "MiB", 1.0 / (1 << 20) },
    };
    if (!json_is_object(rp_at(r->row, "counters"))) return;
    rp_heading(d, 3, "Counters");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Of the processor and the kernel, a step, mean over ranks");
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        const char *path = row[i].path;
        double v = rp_real(r->row, path);
        const char *why = isnan(v) ? rp_reason(r->row, path) : NULL;
        if (isnan(v) && !strcmp(path, "memory_high_bytes")) v = rp_real(r->row, "counters.memory_high_bytes");
        rp_row(d, isnan(v) ? RP_NOT_MEASURED : rp_style_of(r->origin, r->correct));
        rp_cell(d, "%s", row[i].title);
        rp_cell(d, "%s", isnan(v) ? "not\u00a0measured" : rp_origin(r));
        rp_cell(d, "%s", rp_num(v * row[i].scale, 4).text);
        rp_cell(d, "%s", row[i].unit);
        rp_cell(d, "%s", isnan(v) && why ? why : "–");
    }
}

static void input_text(rp_doc *d, const rp_result *r)
{
    double loader = rp_real(r->row, "loader_images_per_s"), stall = rp_real(r->row, "input_stall_s");
    const char *why = rp_reason(r->row, "loader_images_per_s");
    if (isfinite(loader))
        rp_text(d, "Input: the loader alone gives %s images/s; the step waited %s ms for it (%s).", rp_num(loader, 4).text, rp_num(1e3 * stall, 3).text,
                rp_origin(r));
    else if (why) rp_text(d, "The loader's speed is not known: %s.", why);
}

/* ---- section ----------------------------------------------------------------------------------------------------- */

static void conditions(rp_doc *d, const rp_result *r)
{
    char device[128], dtype[32], px[32], batch[32], threads[32], split[64], input[32], library[128], kind[64];
    rp_setting(r, "split", "none", split, sizeof split);
    rp_text(d, "%s rank%s, device %s, %s, %s px, batch %s per device, threads per rank: %s, split %s, input %s, library %s.",
            rp_num(rp_real(r->row, "ranks"), 6).text, rp_real(r->row, "ranks") == 1 ? "" : "s",
            rp_setting(r, "device_name", rp_setting(r, "device", "?", kind, sizeof kind), device, sizeof device),
            rp_setting(r, "dtype", "?", dtype, sizeof dtype), rp_setting(r, "px", "?", px, sizeof px),
            rp_setting(r, "batch_per_device", "?", batch, sizeof batch), rp_setting(r, "threads", "?", threads, sizeof threads), rp_short_split(split).text,
            rp_setting(r, "input", "?", input, sizeof input), rp_setting(r, "library", "?", library, sizeof library));
}

static rm_status one_profile(rp_context *c, const profile *p)
{
    char base[64], about[96];
    rp_doc *d = c->doc;
    reservations(d, p->r);
    tiles(d, p);
    conditions(d, p->r);
    RM_TRY(timeline(c, p));
    changes_table(d, p);
    RM_TRY(sensitivity(c, p));
    communication_table(d, p);
    rp_stragglers(d, &p->r, 1, "stragglers", "Which rank is late and which one waits");
    input_text(d, p->r);
    rp_heading(d, 3, "Layers of the step");
    snprintf(about, sizeof about, "%s%s", rp_origin(p->r), p->mark);
    RM_TRY(rp_layers_roofline(c, p->r, file_name(base, sizeof base, "profile-roofline", p->number, ""), about));
    RM_TRY(rp_layers_tables(c, p->r, about));
    counters_table(d, p->r);
    rp_command(d, "%s", rp_reproduce(p->r));
    return RM_OK;
}

static bool alike(const rp_result *a, const rp_result *b, bool with_ranks)
{
    static const char *const key[] = { "device", "dtype", "px", "batch_per_device", "ranks" };
    char x[128], y[128];
    for (size_t i = 0; i < RM_COUNT(key) - !with_ranks; i++)
        if (strcmp(rp_setting(a, key[i], "", x, sizeof x), rp_setting(b, key[i], "", y, sizeof y))) return false;
    return true;
}

/* The newest of each configuration, newest first; returns how many there are, of which at most MOST_PROFILES are kept. */
static size_t newest(const rp_data *data, const rp_result *out[MOST_PROFILES])
{
    size_t n = 0;
    for (size_t i = 0; i < data->n_results; i++) {
        const rp_result *r = &data->result[i];
        bool seen = false;
        if (strcmp(r->run->command, "profile") || !(step_of(r) > 0)) continue;
        for (const rp_result *p = data->result; p < r && !seen; p++) seen = !strcmp(p->run->command, "profile") && step_of(p) > 0 && alike(p, r, true);
        if (seen) continue;
        if (n < MOST_PROFILES) out[n] = r;
        n++;
    }
    return n;
}

static int fewer_ranks_first(const void *a, const void *b)
{
    double x = rp_real((*(const rp_result *const *)a)->row, "ranks"), y = rp_real((*(const rp_result *const *)b)->row, "ranks");
    return (x > y) - (x < y);
}

static rm_status budget(rp_context *c, const rp_result *const *r, size_t n, size_t number)
{
    char base[64], file[64];
    bool drawn = false;
    size_t traced = 0;
    for (size_t i = 0; i < n; i++) traced += perturbed(r[i]);
    rm_status st = rp_fig_budget_bars(c->out_dir, file_name(base, sizeof base, "profile-budget", number, ""), r, n, &drawn);
    RM_TRY(rp_add_figure(
        c, st, drawn, file_name(file, sizeof file, "profile-budget", number, ".svg"), "What one step's time is made of, a bar for each number of ranks.",
        n > 1 ? "What one step is made of, by number of ranks; every nanosecond counts once." : "What one step is made of; every nanosecond counts once."));
    if (drawn && traced) rp_note(c->doc, "Perturbed: tracing cost more than 2 %% in %zu of the profiles in this figure.", traced);
    return RM_OK;
}

/* All numbers of ranks of one configuration: r: (n), begun with the one that was run last. */
static rm_status one_group(rp_context *c, const rp_result **r, size_t n, size_t *number, bool alone)
{
    char device[64], dtype[32], px[32], batch[32];
    size_t first = *number;
    if (alone) rp_heading(c->doc, 2, "Where a step goes");
    else
        rp_heading(c->doc, 2, "Where a step goes: %s, %s, %s px, batch %s", rp_setting(r[0], "device", "?", device, sizeof device),
                   rp_setting(r[0], "dtype", "?", dtype, sizeof dtype), rp_setting(r[0], "px", "?", px, sizeof px),
                   rp_setting(r[0], "batch_per_device", "?", batch, sizeof batch));
    qsort(r, n, sizeof *r, fewer_ranks_first);
    for (size_t i = 0; i < n; i++) lead(c->doc, r[i], n == 1);
    RM_TRY(budget(c, r, n, first));
    for (size_t i = 0; i < n; i++) {
        const profile p = { r[i], (*number)++, perturbed(r[i]) ? " (perturbed by the trace)" : "" };
        if (n > 1) rp_heading(c->doc, 3, "%s rank%s", rp_num(rp_real(r[i]->row, "ranks"), 6).text, rp_real(r[i]->row, "ranks") == 1 ? "" : "s");
        RM_TRY(one_profile(c, &p));
    }
    return RM_OK;
}

rm_status rp_section_profile(rp_context *c)
{
    const rp_result *all[MOST_PROFILES], *group[MOST_PROFILES];
    size_t found = newest(c->data, all), n = found < MOST_PROFILES ? found : MOST_PROFILES, number = 0;
    for (size_t i = 0; i < n; i++) {
        size_t members = 0;
        bool done = false;
        for (size_t k = 0; k < i && !done; k++) done = alike(all[k], all[i], false);
        if (done) continue;
        for (size_t k = i; k < n; k++)
            if (alike(all[k], all[i], false)) group[members++] = all[k];
        RM_TRY(one_group(c, group, members, &number, members == n && found == n));
    }
    if (found > n) rp_text(c->doc, "%zu older profile%s of other configurations: see bench runs.", found - n, found - n == 1 ? "" : "s");
    return RM_OK;
}
