/* The gate: the newest verdicts, the histories, and whether the gate itself can be trusted. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 512, MOST_FIGURES = 8, MOST_EARLIER = 20 };

/* Rows of one kind of one run. */
typedef struct rows {
    const rp_result *r[MOST_ROWS];
    size_t n;
} rows;

static bool is_kind(const rp_result *r, const char *kind)
{
    const char *own = rp_string(r->row, "kind");
    return !strcmp(r->run->command, "gate") && own && !strcmp(own, kind);
}

/* Of the newest run that has any. */
static rows newest(const rp_data *d, const char *kind)
{
    rows out = { .n = 0 };
    for (size_t i = 0; i < d->n_results && out.n < MOST_ROWS; i++)
        if (is_kind(&d->result[i], kind) && (!out.n || d->result[i].run == out.r[0]->run)) out.r[out.n++] = &d->result[i];
    return out;
}

static const char *text_of(const rp_result *r, const char *path, const char *otherwise)
{
    const char *text = rp_string(r->row, path);
    return text && *text ? text : otherwise;
}

static bool is_text(const rp_result *r, const char *path, const char *want) { return !strcmp(text_of(r, path, ""), want); }

/* "+3.12", "–" for NaN; v: a share. */
static rp_number percent_of(double v, bool sign)
{
    rp_number n = { "–" };
    if (!isnan(v)) snprintf(n.text, sizeof n.text, sign ? "%+.2f" : "%.2f", 100 * v);
    return n;
}

static void percent_cell(rp_doc *d, const rp_result *r, const char *path, bool sign) { rp_cell(d, "%s", percent_of(rp_real(r->row, path), sign).text); }

static void count_cell(rp_doc *d, const rp_result *r, const char *path)
{
    const double v = rp_real(r->row, path);
    rp_cell(d, v > 0 ? "%.0f" : "–", v);
}

static rp_style style_of(const rp_result *r)
{
    const bool bad = is_text(r, "verdict", "REGRESSED") || is_text(r, "verdict", "TROUBLE");
    return bad ? RP_WRONG : rp_style_of(r->origin, r->correct);
}

/* ---- verdicts ---------------------------------------------------------------------------------------------------- */

static const char *side(const rp_result *r, const char *which, char *buf, size_t size)
{
    char path[32];
    snprintf(path, sizeof path, "%s.label", which);
    const char *label = text_of(r, path, "?");
    snprintf(path, sizeof path, "%s.revision", which);
    const char *revision = text_of(r, path, "");
    char shown[200];
    rp_cut(shown, 120, label);
    snprintf(buf, size, "%s%s%.10s%s", shown, *revision ? " (" : "", revision, *revision ? ")" : "");
    return buf;
}

static void lead(rp_doc *d, const rows *v)
{
    char base[256], head[256];
    rm_strbuf s = { 0 };
    size_t said = 0;
    rm_str_addf(&s, "%s against %s (%s): ", side(v->r[0], "head", head, sizeof head), side(v->r[0], "base", base, sizeof base), rp_origin(v->r[0]));
    for (size_t i = 0; i < v->n; i++) {
        const double delta = 100 * rp_real(v->r[i]->row, "delta");
        if (isnan(delta) && !is_text(v->r[i], "verdict", "REGRESSED") && !is_text(v->r[i], "verdict", "TROUBLE")) continue;
        rm_str_addf(&s, "%s%s %s", said++ ? "; " : "", text_of(v->r[i], "metric", "?"), text_of(v->r[i], "verdict", "?"));
        if (!isnan(delta)) rm_str_addf(&s, ", %+.2f %% (%+.2f to %+.2f %%)", delta, 100 * rp_real(v->r[i]->row, "low"), 100 * rp_real(v->r[i]->row, "high"));
    }
    rm_str_add(&s, said ? "." : "every verdict is PASS.");
    if (!said)
        for (size_t i = 0; i < v->n; i++)
            if (!is_text(v->r[i], "verdict", "PASS")) {
                rm_str_free(&s);
                rm_str_addf(&s, "No timing decides; %s is %s.", text_of(v->r[i], "metric", "?"), text_of(v->r[i], "verdict", "?"));
                break;
            }
    if (s.failed) d->failed = true;
    else rp_lead(d, "%s", s.text);
    rm_str_free(&s);
}

static void verdict_table(rp_doc *d, const rows *v)
{
    static const rp_column column[] = { { "Metric", false },    { "Tier", false },        { "Verdict", false },           { "Origin", false },
                                        { "Change (%)", true }, { "Low (%)", true },      { "High (%)", true },           { "Least effect (%)", true },
                                        { "Pairs", true },      { "Pairs needed", true }, { "Could be found (%)", true }, { "Discarded", true },
                                        { "Why", false } };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Verdicts of the newest comparison, begun %.19s UTC", v->r[0]->run->started);
    for (size_t i = 0; i < v->n; i++) {
        const rp_result *r = v->r[i];
        rp_row(d, style_of(r));
        rp_cell(d, "%s", text_of(r, "metric", "?"));
        rp_cell(d, "%s", text_of(r, "tier", "–"));
        rp_cell(d, "%s", text_of(r, "verdict", "?"));
        rp_origin_cell(d, r);
        percent_cell(d, r, "delta", true);
        percent_cell(d, r, "low", true);
        percent_cell(d, r, "high", true);
        percent_cell(d, r, "effect", false);
        count_cell(d, r, "pairs");
        count_cell(d, r, "needed");
        percent_cell(d, r, "detectable", false);
        count_cell(d, r, "discarded");
        rp_cell(d, "%s", text_of(r, "reason", "–"));
    }
    rp_text(
        d,
        "Change is the Hodges-Lehmann estimate over pairs of runs in random order, above 0 worse; low and high are its exact one-sided bounds at the look that decided. "
        "PASS: a slow-down of the least effect is ruled out, not only unseen. Could be found: the slow-down that this noise lets the gate find in 95 %% of cases.");
}

static rm_status pairs_figure(rp_context *c, const rows *v)
{
    const json_t *row[MOST_FIGURES];
    size_t n = 0;
    bool drawn = false;
    for (size_t i = 0; i < v->n && n < MOST_FIGURES; i++)
        if (json_array_size(rp_at(v->r[i]->row, "d"))) row[n++] = v->r[i]->row;
    if (!n) return RM_OK;
    rm_status st = rp_fig_gate_pairs(c->out_dir, "gate-pairs", row, n, &drawn);
    char caption[400];
    snprintf(
        caption, sizeof caption,
        "Each pair's change (dots, %s) with the estimate and its bounds; dashed: the least effect that counts, either way. Triangles: pairs beyond the axis.",
        rp_origin(v->r[0]));
    return rp_add_figure(c, st, drawn, "gate-pairs.svg",
                         "For each metric the change of every pair of runs, the estimate with its bounds, and the least effect.", caption);
}

static void layers_table(rp_doc *d, const rows *v)
{
    static const rp_column column[] = { { "Layer", false }, { "Pass", false }, { "Origin", false }, { "Change (%)", true }, { "p, family-wise", true } };
    bool begun = false;
    for (size_t i = 0; i < v->n; i++) {
        size_t k;
        json_t *layer;
        json_array_foreach(rp_at(v->r[i]->row, "layers"), k, layer)
        {
            const char *name = rp_string(layer, "name"), *pass = rp_string(layer, "pass");
            if (!begun) rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Layers that became slower");
            begun = true;
            rp_row(d, rp_style_of(v->r[i]->origin, v->r[i]->correct));
            rp_cell(d, "%s", name ? name : "?");
            rp_cell(d, "%s", pass ? pass : "–");
            rp_origin_cell(d, v->r[i]);
            rp_cell(d, "%s", percent_of(rp_real(layer, "delta"), true).text);
            rp_cell(d, "%s", rp_num(rp_real(layer, "p"), 2).text);
        }
    }
}

/* One line for each metric of the comparisons before. */
static void earlier(rp_doc *d, const rp_data *data, const rows *v)
{
    static const rp_column column[] = { { "Begun (UTC)", false }, { "Head", false },   { "Base", false },      { "Metric", false },
                                        { "Verdict", false },     { "Origin", false }, { "Change (%)", true }, { "Pairs", true } };
    size_t n = 0;
    for (size_t i = 0; i < data->n_results && n < MOST_EARLIER; i++) {
        const rp_result *r = &data->result[i];
        char base[256], head[256];
        if (!is_kind(r, "verdict") || r->run == v->r[0]->run || isnan(rp_real(r->row, "delta"))) continue;
        if (!n++) {
            rp_fold(d, "Earlier comparisons");
            rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Newest first, %d at most", MOST_EARLIER);
        }
        rp_row(d, style_of(r));
        rp_cell(d, "%.19s", r->run->started);
        rp_cell(d, "%s", side(r, "head", head, sizeof head));
        rp_cell(d, "%s", side(r, "base", base, sizeof base));
        rp_cell(d, "%s", text_of(r, "metric", "?"));
        rp_cell(d, "%s", text_of(r, "verdict", "?"));
        rp_origin_cell(d, r);
        percent_cell(d, r, "delta", true);
        count_cell(d, r, "pairs");
    }
    if (n) rp_fold_end(d);
}

static void accepted(rp_doc *d, const rp_data *data)
{
    static const rp_column column[] = { { "Metric", false }, { "Up to (%)", true }, { "Reason", false }, { "Until", false }, { "Accepted (UTC)", false } };
    bool begun = false;
    for (size_t i = 0; i < data->n_results; i++) {
        const rp_result *r = &data->result[i];
        if (!is_kind(r, "accepted")) continue;
        if (!begun) rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Regressions that were accepted");
        begun = true;
        rp_row(d, RP_PLAIN);
        rp_cell(d, "%s", text_of(r, "metric", "?"));
        percent_cell(d, r, "bound", false);
        rp_cell(d, "%s", text_of(r, "reason", "–"));
        rp_cell(d, "%s", text_of(r, "until", "–"));
        rp_cell(d, "%.19s", r->run->started);
    }
}

/* What the newest search for a commit found. */
static void bisected(rp_doc *d, const rows *b)
{
    if (!b->n) return;
    const rp_result *r = b->r[0];
    const json_t *among = rp_at(r->row, "candidates");
    const char *first = rp_string(r->row, "first_slower");
    rp_heading(d, 3, "The first slower commit");
    if (first) rp_text(d, "%s (%s).", first, rp_origin(r));
    else {
        size_t i;
        json_t *commit;
        rp_text(d, "One of these (%s); the others could not be built or judged:", rp_origin(r));
        json_array_foreach(among, i, commit) rp_text(d, "%s", json_string_value(commit) ? json_string_value(commit) : "?");
    }
    rp_text(d, "Between %.10s and %.10s, %s comparisons, %s skipped.", text_of(r, "base", "?"), text_of(r, "head", "?"),
            rp_num(rp_real(r->row, "steps"), 9).text, rp_num(rp_real(r->row, "skipped"), 9).text);
    rp_command(d, "%s", r->run->command_line);
}

static rm_status verdicts(rp_context *c, const rows *v)
{
    if (!v->n) return RM_OK;
    lead(c->doc, v);
    verdict_table(c->doc, v);
    RM_TRY(pairs_figure(c, v));
    layers_table(c->doc, v);
    accepted(c->doc, c->data);
    rp_command(c->doc, "%s", text_of(v->r[0], "reproduce", v->r[0]->run->command_line));
    earlier(c->doc, c->data, v);
    return RM_OK;
}

/* ---- histories --------------------------------------------------------------------------------------------------- */

static void changes_table(rp_doc *d, const rp_result *r)
{
    static const rp_column column[] = { { "Session", true }, { "Begun (UTC)", false }, { "Change (%)", true }, { "Origin", false },
                                        { "From", false },   { "To", false },          { "Commits", false } };
    const json_t *changes = rp_at(r->row, "changes");
    size_t i;
    json_t *c;
    if (!json_array_size(changes)) return;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Where the level changed");
    json_array_foreach(changes, i, c)
    {
        const json_t *commits = rp_at(c, "commits"), *session = json_array_get(rp_at(r->row, "sessions"), (size_t)rp_real(c, "session"));
        const char *begun = rp_string(session, "begun"), *from = rp_string(c, "from"), *to = rp_string(c, "to"),
                   *commit = json_string_value(json_array_get(commits, 0));
        rp_row(d, rp_style_of(r->origin, r->correct));
        rp_cell(d, "%s", rp_num(rp_real(c, "session") + 1, 9).text);
        rp_cell(d, "%.19s", begun ? begun : "?");
        rp_cell(d, "%s", percent_of(expm1(rp_real(c, "delta")), true).text);
        rp_cell(d, "%s", rp_origin(r));
        rp_cell(d, "%s", from ? from : "?");
        rp_cell(d, "%s", to ? to : "?");
        if (json_array_size(commits) > 1) rp_cell(d, "%s, and %zu more", commit, json_array_size(commits) - 1);
        else rp_cell(d, "%s", commit ? commit : "–");
    }
}

static void say_screen(rp_doc *d, const rp_result *r)
{
    const double delta = 100 * expm1(rp_real(r->row, "delta")), threshold = 100 * expm1(rp_real(r->row, "threshold")),
                 best = 100 * expm1(rp_real(r->row, "best.delta"));
    const char *decide = rp_string(r->row, "reproduce"), *decided = rp_string(r->row, "decided");
    size_t i;
    json_t *p;
    if (isnan(delta)) rp_text(d, "Too few sessions to compare the newest with.");
    else
        rp_text(
            d,
            "%s: the newest session is %+.2f %% against the level before it (suspect from %+.2f %%), and %+.2f %% against the best level ever (%s). Above 0 is worse.",
            text_of(r, "verdict", "?"), delta, threshold, best, text_of(r, "best.revision", "?"));
    json_array_foreach(rp_at(r->row, "pinned"), i, p)
        rp_text(d, "Against the pinned baseline %s (%s): %s %%%s.", rp_string(p, "name") ? rp_string(p, "name") : "?",
                rp_string(p, "revision") ? rp_string(p, "revision") : "?", percent_of(expm1(rp_real(p, "delta")), true).text,
                json_is_true(json_object_get(p, "suspect")) ? ", which makes it suspect" : "");
    if (decided) rp_text(d, "The pairs decided: %s.", decided);
    else if (decide) rp_note(d, "Suspect is no verdict. A paired comparison decides: %s", decide);
}

static rm_status histories(rp_context *c, const rows *h)
{
    for (size_t i = 0; i < h->n && i < MOST_FIGURES; i++) {
        char base[32], file[40], caption[512], series[160];
        bool drawn = false;
        rp_heading(c->doc, 3, "History of %s, %s", text_of(h->r[i], "series", "?"), text_of(h->r[i], "metric", "?"));
        say_screen(c->doc, h->r[i]);
        snprintf(base, sizeof base, i ? "gate-history-%zu" : "gate-history", i + 1);
        snprintf(file, sizeof file, "%s.svg", base);
        rp_cut(series, 150, text_of(h->r[i], "command_line", "?"));
        snprintf(
            caption, sizeof caption,
            "Sessions of one revision each (%s; each the median of its process runs) of: %s. Vertical lines: where the level changed, with the newest commit of the range.",
            rp_origin(h->r[i]), series);
        rm_status st = rp_fig_history(c->out_dir, base, h->r[i]->row, &drawn);
        RM_TRY(rp_add_figure(c, st, drawn, file, "One measurement over its sessions, with the levels and the commits where they changed.", caption));
        changes_table(c->doc, h->r[i]);
    }
    if (h->n > MOST_FIGURES) rp_text(c->doc, "%zu more series: see bench gate history.", h->n - MOST_FIGURES);
    if (h->n) rp_command(c->doc, "%s", h->r[0]->run->command_line);
    return RM_OK;
}

/* ---- can it be trusted? ------------------------------------------------------------------------------------------ */

/* The newest rate of each kind, command and slow-down. */
static rows rates(const rp_data *d)
{
    rows out = { .n = 0 };
    for (size_t i = 0; i < d->n_results && out.n < MOST_ROWS; i++) {
        const rp_result *r = &d->result[i];
        bool seen = !is_kind(r, "rate");
        for (size_t k = 0; k < out.n && !seen; k++)
            seen = is_text(out.r[k], "of", text_of(r, "of", "")) && is_text(out.r[k], "replicate", text_of(r, "replicate", "")) &&
                   rp_real(out.r[k]->row, "slow") == rp_real(r->row, "slow");
        if (!seen) out.r[out.n++] = r;
    }
    return out;
}

static void rate_tiles(rp_doc *d, const rows *real)
{
    static const rp_column column[] = { { "Result", false }, { "Value", true }, { "Origin", false } };
    if (!real->n) {
        rp_note(d,
                "How often the gate is wrong on this machine was not measured: bench gate selftest --aa 300 --power 100 does, over as many runs as it takes.");
        return;
    }
    rp_table_begin(d, RP_TILES, column, RM_COUNT(column), "%s", "");
    for (size_t i = 0; i < real->n; i++) {
        const rp_result *r = real->r[i];
        const double slow = 100 * rp_real(r->row, "slow");
        rp_row(d, rp_style_of(r->origin, !json_is_false(rp_at(r->row, "holds"))));
        if (slow > 0) rp_cell(d, "%.3g %% slower, found", slow);
        else rp_cell(d, "Equal sides, wrong");
        rp_cell(d, "%s %%", percent_of(rp_real(r->row, "rate"), false).text);
        rp_cell(d, "%s, %s verdicts; 95 %% interval %s to %s %%", rp_origin(r), rp_num(rp_real(r->row, "verdicts"), 9).text,
                percent_of(rp_real(r->row, "low"), false).text, percent_of(rp_real(r->row, "high"), false).text);
    }
    for (size_t i = 0; i < real->n; i++)
        rp_text(d, "%s (%s).", text_of(real->r[i], "text", "–"), text_of(real->r[i], "replicate", "bench gate selftest --replicate"));
}

static rm_status power_figure(rp_context *c, const rows *tested, const rows *real)
{
    const json_t *row[2 * MOST_ROWS];
    size_t n = 0;
    bool drawn = false;
    for (size_t i = 0; i < tested->n; i++) row[n++] = tested->r[i]->row;
    for (size_t i = 0; i < real->n; i++) row[n++] = real->r[i]->row;
    rm_status st = rp_fig_gate_power(c->out_dir, "gate-power", row, n, &drawn);
    return rp_add_figure(
        c, st, drawn, "gate-power.svg", "Share of verdicts REGRESSED against the true slow-down.",
        "How often a slow-down is found. Simulated on models of noise (dashed, hollow), which are no measurement; measured where this machine was tried (filled, with 95 % interval).");
}

static void others_table(rp_doc *d, const rows *tested)
{
    static const rp_column column[] = {
        { "Rule", false }, { "Origin", false }, { "False alarms (%)", true }, { "On its worst noise (%)", true }, { "Finds 3 % slower (%)", true },
        { "Runs", true }
    };
    bool begun = false;
    for (size_t i = 0; i < tested->n; i++) {
        const rp_result *r = tested->r[i];
        if (!is_text(r, "check", "other rules")) continue;
        if (!begun) rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "What the rules that people use make of the same simulated noise");
        begun = true;
        rp_row(d, rp_style_of(r->origin, r->correct));
        rp_cell(d, "%s", text_of(r, "case", "?"));
        rp_cell(d, "simulated");
        percent_cell(d, r, "false_alarms", false);
        percent_cell(d, r, "false_alarms_worst", false);
        percent_cell(d, r, "found", false);
        rp_cell(d, "%s", rp_num(rp_real(r->row, "runs"), 3).text);
    }
}

/* What was measured, and what was measured with a change added, apart. */
static void rules_table(rp_doc *d, const rows *rules)
{
    static const rp_column column[] = { { "Rule", false }, { "Origin", false }, { "Added to B (%)", true }, { "Called slower (%)", true }, { "Of", true }, { "Runs each", true } };
    if (!rules->n) return;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "What the same rules make of equal runs on this machine");
    for (size_t i = 0; i < rules->n; i++) {
        const rp_result *r = rules->r[i];
        rp_row(d, rp_style_of(r->origin, !json_is_false(rp_at(r->row, "holds"))));
        rp_cell(d, "%s", text_of(r, "rule", "?"));
        rp_cell(d, "%s", rp_real(r->row, "change") > 0 ? "measured runs, slow-down added" : rp_origin(r));
        percent_cell(d, r, "change", false);
        percent_cell(d, r, "value", false);
        rp_cell(d, "%s", rp_num(rp_real(r->row, "trials"), 9).text);
        rp_cell(d, "%s", rp_num(rp_real(r->row, "runs"), 3).text);
    }
    rp_command(d, "%s", rules->r[0]->run->command_line);
}

static void findings_table(rp_doc *d, const rows *tested)
{
    static const rp_column column[] = { { "Check", false }, { "Case", false }, { "Origin", false }, { "Holds", false }, { "Found", false } };
    size_t failed = 0;
    if (!tested->n) return;
    for (size_t i = 0; i < tested->n; i++) failed += json_is_false(rp_at(tested->r[i]->row, "holds"));
    if (failed) rp_note(d, "%zu of %zu findings of the self-test do not hold: the gate is not to be trusted.", failed, tested->n);
    else rp_text(d, "All %zu findings of the self-test hold (begun %.19s UTC).", tested->n, tested->r[0]->run->started);
    rp_fold(d, "All findings of the self-test: %zu rows", tested->n);
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Counted to the end, or simulated");
    rp_live(d);
    for (size_t i = 0; i < tested->n; i++) {
        const rp_result *r = tested->r[i];
        const bool holds = !json_is_false(rp_at(r->row, "holds"));
        rp_row(d, holds ? rp_style_of(r->origin, r->correct) : RP_WRONG);
        rp_cell(d, "%s", text_of(r, "check", "?"));
        rp_cell(d, "%s", text_of(r, "case", "?"));
        rp_cell(d, "simulated");
        rp_cell(d, "%s", holds ? "yes" : "NO");
        rp_cell(d, "%s", text_of(r, "text", "–"));
    }
    rp_fold_end(d);
    rp_command(d, "%s", tested->r[0]->run->command_line);
}

static rm_status trust(rp_context *c, const rows *tested, const rows *real, const rows *rules)
{
    rp_heading(c->doc, 3, "Can the gate be trusted?");
    rate_tiles(c->doc, real);
    RM_TRY(power_figure(c, tested, real));
    others_table(c->doc, tested);
    rules_table(c->doc, rules);
    findings_table(c->doc, tested);
    return RM_OK;
}

/* ---- section ----------------------------------------------------------------------------------------------------- */

rm_status rp_section_gate(rp_context *c)
{
    const rows v = newest(c->data, "verdict"), h = newest(c->data, "history"), tested = newest(c->data, "selftest"), real = rates(c->data),
               found = newest(c->data, "bisect"), rules = newest(c->data, "rule");
    if (!v.n && !h.n && !tested.n && !real.n && !found.n && !rules.n) return RM_OK;
    rp_heading(c->doc, 2, "Regression gate");
    RM_TRY(verdicts(c, &v));
    bisected(c->doc, &found);
    RM_TRY(histories(c, &h));
    return trust(c, &tested, &real, &rules);
}
