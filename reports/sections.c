/* What the sections share, and the short ones: summary, environment, other results, runs. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- shared ----------------------------------------------------------------------------------------------------- */

bool rp_is_strong(const rp_result *r)
{
    const char *scaling = rp_string(r->row, "scaling");
    if (scaling) return !strcmp(scaling, "strong");
    return json_object_get(r->row, "efficiency_strong") != NULL || json_is_true(json_object_get(r->run->config, "strong"));
}
bool rp_is_weak(const rp_result *r) { return !rp_is_strong(r); }

/* "a, b: reason. ": values that are missing for one reason share its line. */
static void add_reason(rm_strbuf *text, const char *what, const char *reason)
{
    rm_strbuf tail = { 0 }, whole = { 0 };
    rm_str_addf(&tail, ": %s. ", reason);
    char *at = text->n && tail.n ? strstr(text->text, tail.text) : NULL, *from = at;
    while (from && from > text->text && !(from - text->text > 1 && from[-1] == ' ' && from[-2] == '.')) from--; /* the begin of its line */
    if (!at) {
        rm_str_addf(text, "%s%s", what, tail.text ? tail.text : "");
    } else {
        size_t n = strlen(what);
        for (const char *p = from; p && p < at; p = strchr(p, ',') ? strchr(p, ',') + 2 : NULL)
            if (!strncmp(p, what, n) && (p[n] == ',' || p + n == at)) goto out; /* is there already */
        rm_str_add_n(&whole, text->text, (size_t)(at - text->text));
        rm_str_addf(&whole, ", %s%s", what, at);
        rm_str_free(text);
        *text = whole;
        whole = (rm_strbuf){ 0 };
    }
out:
    rm_str_free(&tail);
    rm_str_free(&whole);
}

void rp_value(rp_doc *d, const rp_result *r, const char *path, double scale, int digits, rp_why *why)
{
    double v = rp_real(r->row, path);
    rp_cell(d, "%s", rp_num(v * scale, digits).text);
    if (!isnan(v) || !why) return;
    const char *own = rp_own_reason(r->row, path), *all = rp_string(r->row, "reason"); /* of the value, or of the whole row */
    if (own || all) add_reason(&why->text, own ? path : r->key, own ? own : all);
}

void rp_between(rp_doc *d, const rp_result *r, const char *path, const char *low, const char *high, double scale, int digits, rp_why *why)
{
    double v = rp_real(r->row, path), a = rp_real(r->row, low), b = rp_real(r->row, high);
    if (isnan(v) || isnan(a) || isnan(b)) rp_value(d, r, path, scale, digits, why);
    else rp_cell(d, "%s (%s to %s)", rp_num(v * scale, digits).text, rp_num(a * scale, digits).text, rp_num(b * scale, digits).text);
}

void rp_origin_cell(rp_doc *d, const rp_result *r)
{
    const char *injected = rp_string(r->row, "injected");
    bool disturbed = injected && *injected;
    rp_cell(d, "%s%s%s%s%s", rp_origin(r), json_is_true(rp_at(r->row, "oversubscribed")) ? ", oversubscribed" : "", disturbed ? ", injected: " : "",
            disturbed ? injected : "", r->correct ? "" : ", WRONG: not to be used");
}

void rp_throttled_note(rp_doc *d, const rp_result *r)
{
    const double n = rp_real(r->row, "throttled_samples");
    rm_strbuf words = { 0 };
    size_t i;
    const json_t *word;
    if (!(n > 0)) return;
    json_array_foreach(rp_at(r->row, "throttle_reasons"), i, word)
    {
        if (i) rm_str_add(&words, ", ");
        rm_str_add(&words, json_is_string(word) ? json_string_value(word) : "?");
    }
    rp_note(d, "Throttled: %s steps of %s were taken while a GPU had lowered its clocks (%s). They are kept, and the samples \"throttled\" tell them apart.", rp_num(n, 9).text, r->key,
            words.text ? words.text : "no reason given");
    rm_str_free(&words);
}

void rp_head_cells(rp_doc *d, const rp_result *r)
{
    rp_row(d, rp_style_of(r->origin, r->correct));
    rp_cell(d, "%s", rp_num(rp_real(r->row, "ranks"), 6).text);
    rp_origin_cell(d, r);
}

static void rank_row(rp_doc *d, const rp_result *r, const json_t *rank)
{
    const char *host = rp_string(rank, "host");
    const rp_result as_row = { .run = r->run, .key = r->key, .origin = r->origin, .correct = r->correct, .row = (json_t *)rank };
    rp_head_cells(d, r);
    rp_value(d, &as_row, "rank", 1, 6, NULL);
    rp_cell(d, "%s", host && *host ? host : "–");
    rp_value(d, &as_row, "own_s", 1e3, 4, NULL);
    rp_value(d, &as_row, "wait_s", 1e3, 3, NULL);
    rp_value(d, &as_row, "late_share", 100, 3, NULL);
    rp_between(d, &as_row, "late_s", "late_s_low", "late_s_high", 1e3, 3, NULL);
    rp_cell(d, "%s", json_is_true(rp_at(rank, "straggler")) ? "straggler" : "–");
}

/* Every rank, or of each N only the one that is last most often. */
static void ranks_table(rp_doc *d, const rp_result *const *r, size_t n, const char *path, bool latest, const char *caption)
{
    static const rp_column column[] = { { "N", true }, { "Origin", false }, { "Rank", true }, { "Host", false }, { "Own time (ms)", true }, { "Wait for others (ms)", true },
                                        { "Last (% of steps)", true }, { "Later than the others (ms, 95 % interval)", true }, { "Verdict", false } };
    size_t k;
    json_t *rank;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "%s", caption);
    for (size_t i = 0; i < n; i++) {
        const json_t *last = NULL;
        json_array_foreach(rp_at(r[i]->row, path), k, rank) {
            if (!latest) rank_row(d, r[i], rank);
            else if (!last || rp_real(rank, "late_share") > rp_real(last, "late_share")) last = rank;
        }
        if (last) rank_row(d, r[i], last);
    }
}

void rp_stragglers(rp_doc *d, const rp_result *const *r, size_t n, const char *path, const char *caption)
{
    enum { MOST_OPEN = 16 };
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) rows += json_array_size(rp_at(r[i]->row, path));
    if (!rows) return;
    if (rows > MOST_OPEN) {
        ranks_table(d, r, n, path, true, "The rank that is last most often");
        rp_fold(d, "All ranks: %zu rows", rows);
    }
    ranks_table(d, r, n, path, false, caption);
    if (rows > MOST_OPEN) rp_fold_end(d);
    rp_text(d, "Own time is the step less exposed communication; wait is the rank's all-reduce time beyond the transfer. A straggler has the longest own time, "
               "waits least and is last most often; it is called one when its lateness against the median of the others is beyond doubt and worth a name.");
}

void rp_reasons(rp_doc *d, rp_why *why)
{
    if (why->text.n) rp_text(d, "Why a value is missing (–): %s", why->text.text);
    rm_str_free(&why->text);
}

rm_status rp_add_figure(rp_context *c, rm_status status, bool drawn, const char *file, const char *alt, const char *caption)
{
    if (status == RM_E_NOMEM || status == RM_E_NOSPACE) return status;
    if (status != RM_OK) {
        if (!c->figures_missing) snprintf(c->why, sizeof c->why, "%s", rm_last_error());
        c->figures_missing = true;
        rp_note(c->doc, "The figure is missing: %s.", rm_last_error());
    } else if (drawn) {
        rp_figure(c->doc, file, alt, "%s", caption);
    }
    return RM_OK;
}

/* ---- summary ---------------------------------------------------------------------------------------------------- */

static const rp_result *with_ranks(const rp_result *r, size_t n, bool largest)
{
    const rp_result *best = NULL;
    for (size_t i = 0; i < n; i++) {
        double ranks = rp_real(r[i].row, "ranks");
        const char *injected = rp_string(r[i].row, "injected");
        if (!rp_measured(&r[i]) || !r[i].correct || (injected && *injected) || !(rp_real(r[i].row, "images_per_s") > 0)) continue;
        if (!best || (largest ? ranks > rp_real(best->row, "ranks") : ranks < rp_real(best->row, "ranks"))) best = &r[i];
    }
    return best;
}

static void sentence_scaling(rm_strbuf *s, rp_doc *d, const rp_result *one, const rp_result *most, bool strong)
{
    double first = rp_real(one->row, "ranks"), ranks = rp_real(most->row, "ranks");
    double efficiency = 100 * rp_real(most->row, strong ? "efficiency_strong" : "efficiency_weak");
    rp_number ips = rp_num(rp_real(one->row, "images_per_s"), 4), e = rp_num(efficiency, 3);
    rm_str_addf(s, "%s images/s on %g device%s", ips.text, first, first == 1 ? "" : "s");
    rp_row(d, RP_MEASURED);
    rp_cell(d, "Throughput, N = %g", first);
    rp_cell(d, "%s images/s", ips.text);
    rp_cell(d, "measured");
    if (most == one) {
        rm_str_add(s, " (only one number of devices was measured). ");
        return;
    }
    const char *crowded = json_is_true(rp_at(most->row, "oversubscribed")) ? " (more ranks than devices)" : "";
    rm_str_addf(s, " and %s %% %s-scaling efficiency on %g%s, the most that was measured. ", e.text, strong ? "strong" : "weak", ranks, crowded);
    rp_row(d, RP_MEASURED);
    rp_cell(d, "%s efficiency, N = %g", strong ? "Strong" : "Weak", ranks);
    rp_cell(d, "%s %%", e.text);
    rp_cell(d, "measured, %s images/s", rp_num(rp_real(most->row, "images_per_s"), 4).text);
}

static void sentence_training(rm_strbuf *s, rp_doc *d, const rp_result *r)
{
    char recipe[128], text[64];
    rp_setting(r, "recipe", "default", recipe, sizeof recipe);
    double top1 = rp_real(r->row, "final_top1"), target = rp_real(r->row, "target_top1"), tta = rp_real(r->row, "time_to_accuracy_s");
    rp_number t = rp_num(top1, 4), g = rp_num(target, 3);
    if (isnan(top1)) {
        const char *no_accuracy = rp_reason(r->row, "final_top1");
        rm_str_addf(s, "The recipe %s trained at %s images/s without an accuracy%s%s.", recipe, rp_num(rp_real(r->row, "images_per_s"), 4).text,
                    no_accuracy ? ": " : "", no_accuracy ? no_accuracy : "");
        return;
    }
    rm_str_addf(s, "The recipe %s ended at %s %% top-1 after %s epochs", recipe, t.text, rp_setting(r, "epochs", "?", text, sizeof text));
    rp_row(d, RP_MEASURED);
    rp_cell(d, "Top-1, recipe %s", recipe);
    rp_cell(d, "%s %%", t.text);
    rp_cell(d, "measured; target %s %%", g.text);
    rp_row(d, RP_MEASURED);
    rp_cell(d, "Time to accuracy");
    if (tta > 0) {
        rm_str_addf(s, " and reached its target of %s %% after %s s.", g.text, rp_num(tta, 3).text);
        rp_cell(d, "%s %s", rp_num(tta > 600 ? tta / 60 : tta, 3).text, tta > 600 ? "min" : "s");
        rp_cell(d, "measured; to %s %%", g.text);
    } else {
        const char *why = rp_reason(r->row, "time_to_accuracy_s");
        rm_str_add(s, target > 0 ? " and did not reach its target." : ".");
        rp_cell(d, "–");
        rp_cell(d, "%s", why ? why : "target not reached");
    }
}

/* Only what was measured, as everywhere in the summary. */
static void sentence_split(rm_strbuf *s, rp_doc *d, const rp_result *r)
{
    double ranks = rp_real(r->row, "ranks");
    const char *split = rp_string(r->row, "split");
    rp_short name = rp_short_split(split ? split : r->key);
    rp_number step = rp_num(1e3 * rp_real(r->row, "step_s.median"), 4);
    const char *doubt = json_is_true(rp_at(r->row, "distinguishable")) ? "" : ", not distinguishable from the next";
    rm_str_addf(s, "The best all-reduce split on %g ranks is %s with %s ms a step%s. ", ranks, name.text, step.text, doubt);
    rp_row(d, RP_MEASURED);
    rp_cell(d, "Best split, N = %g", ranks);
    rp_cell(d, "%s", name.text);
    rp_cell(d, "measured, %s ms a step%s", step.text, doubt);
}

void rp_section_summary(rp_context *c)
{
    static const rp_column tile[] = { { "Result", false }, { "Value", true }, { "Origin", false } };
    size_t n, n_train;
    bool strong = false;
    const rp_result *scaling = rp_newest(c->data, "scaling", rp_is_weak, &n), *train = rp_newest(c->data, "train", NULL, &n_train);
    if (!scaling) scaling = rp_newest(c->data, "scaling", rp_is_strong, &n), strong = scaling != NULL;
    const rp_result *one = with_ranks(scaling, n, false), *most = with_ranks(scaling, n, true);
    const rp_result *split = rp_newest(c->data, "split-sweep", NULL, &n);
    split = rp_best_split(split, n);
    if (split && !rp_measured(split)) split = NULL;
    const rp_result *any = one ? one : split ? split : train ? train : c->data->n_results ? c->data->result : NULL;
    if (!any) {
        rp_lead(c->doc, "The store holds no results yet.");
        rp_text(c->doc, "Measure something first, for example with the command below, and render the report again.");
        rp_command(c->doc, "bench scaling --gpus 1,2");
        return;
    }
    char processor[256], cores[32], device[64], dtype[32], px[32];
    rp_setting(any, "dtype", "", dtype, sizeof dtype);
    rp_setting(any, "px", "", px, sizeof px);
    rp_doc tiles = { 0 }; /* filled beside the sentence, printed after it */
    rm_strbuf s = { 0 };
    rp_table_begin(&tiles, RP_TILES, tile, RM_COUNT(tile), "%s", "");
    rm_str_addf(&s, "On %s with %s cores (device %s%s%s%s%s%s): ", rp_fact(any->run->environment, "processor", processor, sizeof processor),
                rp_fact(any->run->environment, "cores_available", cores, sizeof cores), rp_setting(any, "device", "auto", device, sizeof device),
                dtype[0] ? ", " : "", dtype, px[0] ? ", " : "", px, px[0] ? " px" : "");
    if (one && most) sentence_scaling(&s, &tiles, one, most, strong);
    if (split) sentence_split(&s, &tiles, split);
    if (train) sentence_training(&s, &tiles, train);
    if (!one && !split && !train) rm_str_add(&s, "the store holds no measured sweep and no training run; what there is follows.");
    if (s.failed || tiles.failed) c->doc->failed = true;
    else rp_lead(c->doc, "%s", s.text);
    if (tiles.n && tiles.block[0].table.rows) rp_doc_append(c->doc, &tiles);
    rp_doc_free(&tiles);
    rm_str_free(&s);
    rp_text(c->doc, "Every figure says where it comes from: measured on this machine, emulated, projected (dashed, never part of the "
                    "summary), or not measured. Published figures of other systems stand in a section of their own.");
}

/* ---- environment ------------------------------------------------------------------------------------------------ */

static void facts(rp_doc *d, const json_t *o, const char *caption)
{
    static const rp_column column[] = { { "Fact", false }, { "Value", false } };
    char text[2048];
    const char *key;
    json_t *v;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "%s", caption);
    json_object_foreach((json_t *)o, key, v) {
        rp_row(d, RP_PLAIN);
        rp_cell(d, "%s", key);
        rp_cell(d, "%s", rp_text_of(v, text, sizeof text));
    }
}

void rp_section_environment(rp_context *c)
{
    if (!c->data->n_runs) return;
    const json_t *e = c->data->run[0].environment;
    const char *sha = rp_string(e, "hard_sha");
    rp_heading(c->doc, 2, "Machine and program");
    rp_text(c->doc, "Taken when the newest run began. Two results are comparable only where the hard facts agree (fingerprint %.16s).", sha ? sha : "unknown");
    facts(c->doc, json_object_get(e, "hard"), "Hard facts");
    rp_fold(c->doc, "Soft facts: shown, not compared");
    facts(c->doc, json_object_get(e, "soft"), "Soft facts");
    rp_fold_end(c->doc);
    size_t other = 0;
    for (size_t i = 1; i < c->data->n_runs; i++) {
        const char *s = rp_string(c->data->run[i].environment, "hard_sha");
        other += sha && s && strcmp(sha, s) != 0;
    }
    if (other) rp_note(c->doc, "%zu older run%s of this store had other hard facts; they are not comparable with the newest.", other, other == 1 ? "" : "s");
}

/* ---- other results ---------------------------------------------------------------------------------------------- */

enum { MOST_COLUMNS = 14, MOST_OPEN = 30 };

static bool scalar(const json_t *v) { return !json_is_object(v) && !json_is_array(v); }

typedef struct path { char text[64]; } path;

/* Not a column: what every table says anyway, reasons, and the line that reproduces (long, and below the table). */
static bool known(const char *key)
{
    static const char *const own[] = { "reproduce", "origin", "key", "recipe_values" };
    size_t n = strlen(key);
    if (n > 7 && !strcmp(key + n - 7, "_reason")) return true;
    for (size_t k = 0; k < RM_COUNT(own); k++)
        if (!strcmp(key, own[k])) return true;
    return false;
}

static void add_column(path *column, size_t *n, const char *outer, const char *key)
{
    path p;
    if (known(key) || snprintf(p.text, sizeof p.text, "%s%s%s", outer, outer[0] ? "." : "", key) >= (int)sizeof p.text) return;
    for (size_t k = 0; k < *n; k++)
        if (!strcmp(p.text, column[k].text)) return;
    if (*n < MOST_COLUMNS) column[(*n)++] = p;
}

/* Paths of the single values of the rows, one level of objects deep, in the order they appear. */
static size_t columns_of(const rp_result *r, size_t n, path column[MOST_COLUMNS])
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const char *key, *inner;
        json_t *v, *w;
        json_object_foreach(r[i].row, key, v) {
            if (scalar(v)) add_column(column, &found, "", key);
            else if (json_is_object(v) && !known(key))
                json_object_foreach(v, inner, w)
                    if (scalar(w)) add_column(column, &found, key, inner);
        }
    }
    return found;
}

static void generic(rp_doc *d, const rp_result *r, size_t n)
{
    path name[MOST_COLUMNS];
    rp_column column[MOST_COLUMNS + 2] = { { "Result", false }, { "Origin", false } };
    size_t columns = columns_of(r, n, name);
    for (size_t k = 0; k < columns; k++) {
        column[k + 2].title = name[k].text;
        for (size_t i = 0; i < n && !column[k + 2].number; i++) column[k + 2].number = json_is_number(rp_at(r[i].row, name[k].text));
    }
    if (n > MOST_OPEN) rp_fold(d, "All %zu rows", n);
    rp_table_begin(d, RP_TABLE, column, columns + 2, "Newest run of bench %s, begun %.19s UTC", r->run->command, r->run->started);
    if (n > 1) rp_live(d);
    for (size_t i = 0; i < n; i++) {
        char text[512];
        rp_row(d, rp_style_of(r[i].origin, r[i].correct));
        rp_cell(d, "%s", r[i].key);
        rp_cell(d, "%s%s", r[i].origin, r[i].correct ? "" : ", WRONG");
        for (size_t k = 0; k < columns; k++) rp_cell(d, "%s", rp_text_of(rp_at(r[i].row, name[k].text), text, sizeof text));
    }
    if (n > MOST_OPEN) rp_fold_end(d);
    rp_command(d, "%s", r->run->command_line);
}

void rp_section_others(rp_context *c)
{
    static const char *const own[] = { "scaling", "split-sweep", "comm", "train", "layers", "profile", "gate" };
    bool heading = false;
    for (size_t i = 0; i < c->data->n_results; i++) {
        const rp_result *r = &c->data->result[i];
        size_t n;
        bool skip = rp_newest(c->data, r->run->command, NULL, &n) != r; /* not the first of the newest run of its command */
        for (size_t k = 0; k < RM_COUNT(own) && !skip; k++) skip = !strcmp(r->run->command, own[k]);
        if (skip) continue;
        if (!heading) rp_heading(c->doc, 2, "Other measurements");
        heading = true;
        rp_heading(c->doc, 3, "bench %s", r->run->command);
        generic(c->doc, r, n);
    }
}

/* ---- runs ------------------------------------------------------------------------------------------------------- */

void rp_section_runs(rp_context *c)
{
    static const rp_column column[] = { { "Run", true }, { "Command", false }, { "Begun (UTC)", false }, { "Exit code", true }, { "Results", true }, { "Command line", false } };
    enum { MOST = 50 };
    if (!c->data->n_runs) return;
    rp_heading(c->doc, 2, "Runs in the store");
    rp_fold(c->doc, "%zu run%s in %s", c->data->n_runs, c->data->n_runs == 1 ? "" : "s", c->data->path);
    rp_table_begin(c->doc, RP_TABLE, column, RM_COUNT(column), "%s", c->data->n_runs > MOST ? "The newest 50; bench runs lists them all." : "Newest first");
    for (size_t i = 0; i < c->data->n_runs && i < MOST; i++) {
        const rp_run *r = &c->data->run[i];
        size_t results = 0;
        for (size_t k = 0; k < c->data->n_results; k++) results += c->data->result[k].run == r;
        rp_row(c->doc, RP_PLAIN);
        rp_cell(c->doc, "%lld", (long long)r->id);
        rp_cell(c->doc, "%s", r->command);
        rp_cell(c->doc, "%.19s", r->started);
        if (r->finished) rp_cell(c->doc, "%d", r->exit_code);
        else rp_cell(c->doc, "unfinished");
        rp_cell(c->doc, "%zu", results);
        rp_cell(c->doc, "%s", r->command_line);
    }
    rp_fold_end(c->doc);
}
