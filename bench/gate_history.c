/* bench gate history: does the newest session of what the store holds stand out? It asks for a paired verdict, and gives none. */
#include "base/log.h"
#include "bench/gate.h"
#include "bench/gate_metric.h"
#include "bench/gate_process.h"
#include "bench/options.h"
#include "bench/rows.h"
#include "bench/session.h"
#include "reports/gate_history.h"
#include "reports/gate_text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct history {
    const bench_options *o;
    json_t *rows;
    bool table;
    rp_verdict worst;
} history;

/* ---- what is asked for */

typedef struct asked {
    bench_metric parsed[BENCH_METRICS_MOST];
    rp_history_metric metric[BENCH_METRICS_MOST];
    rp_history_config config;
} asked;

static rm_status ask(const bench_options *o, asked *a)
{
    double effect;
    RM_TRY(bench_share_parse(o->effect, "--effect", &effect));
    if (o->metric.n > BENCH_METRICS_MOST) return rm_fail(RM_E_ARG, "--metric: %d at most", BENCH_METRICS_MOST);
    size_t n = o->metric.n ? (size_t)o->metric.n : rp_history_n_usual;
    for (size_t i = 0; i < n; i++) {
        if (!o->metric.n) {
            a->metric[i] = rp_history_usual[i];
            a->metric[i].effect = effect;
            continue;
        }
        RM_TRY(bench_metric_parse(o->metric.item[i], effect, &a->parsed[i]));
        if (a->parsed[i].path[0] != '$') return rm_fail(RM_E_ARG, "--metric %s: a history knows what results hold, such as $.step_s.median", o->metric.item[i]);
        a->metric[i] = (rp_history_metric) { a->parsed[i].name, a->parsed[i].path, a->parsed[i].effect, a->parsed[i].higher };
    }
    a->config = (rp_history_config) {
        .metric = a->metric, .n_metric = n, .all = o->metric.n > 0, .least_runs = o->session_runs, .about = o->gate_bench[0] ? o->gate_bench : NULL
    };
    return RM_OK;
}

/* ---- commits */

/* "10ab34cd" of "10ab34cd, dirty"; "" where there is none. Hexadecimal only, for it goes into a command. */
static void plain_revision(const char *revision, char out[64])
{
    size_t n = strspn(revision, "0123456789abcdef");
    if (n < 4 || n > 40 || (revision[n] && revision[n] != ',')) n = 0;
    memcpy(out, revision, n);
    out[n] = 0;
}

/* Which commits lie between two revisions, newest first, twenty at most; nothing without git or where it does not know them. */
static json_t *commits_between(const char *from, const char *to)
{
    char a[64], b[64], command[256];
    json_t *all = json_array();
    bench_process p;
    plain_revision(from, a);
    plain_revision(to, b);
    if (!a[0] || !b[0] || !strcmp(a, b)) return all;
    snprintf(command, sizeof command, "git log --no-decorate --max-count=20 --format='%%h %%s' %s..%s 2>/dev/null", a, b);
    if (bench_process_run(command, 30, &p) != RM_OK) return all;
    for (char *line = p.out, *end; p.exit_code == 0 && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        json_array_append_new(all, json_string(line));
    }
    bench_process_free(&p);
    return all;
}

static void name_commits(json_t *row)
{
    size_t i;
    json_t *change;
    json_array_foreach(json_object_get(row, "changes"), i, change)
        json_object_set_new(change, "commits", commits_between(bench_row_text(change, "from"), bench_row_text(change, "to")));
}

/* ---- what decides */

static const json_t *newest_session(const json_t *row)
{
    const json_t *all = json_object_get(row, "sessions");
    return json_array_get(all, json_array_size(all) - 1);
}

/* What the newest session stands out from: the level before it, else what was pinned. */
static const char *suspect_against(const json_t *row)
{
    size_t i;
    const json_t *pin;
    if (!(bench_row_real(row, "delta") >= bench_row_real(row, "threshold")))
        json_array_foreach(json_object_get(row, "pinned"), i, pin) if (json_is_true(json_object_get(pin, "suspect"))) return bench_row_text(pin, "revision");
    return bench_row_text(json_object_get(row, "baseline"), "revision");
}

/* Built of files that no commit has: the commit below them is another program. */
static bool is_dirty(const char *revision) { return strchr(revision, ',') != NULL; }

/* The command of the paired comparison; needs two clean revisions. NULL, or why there is none. */
static const char *ab_of(const json_t *row, char base[64], char head[64], const char **bench)
{
    const char *line = bench_row_text(row, "command_line"), *old = suspect_against(row), *new = bench_row_text(newest_session(row), "revision");
    plain_revision(old, base);
    plain_revision(new, head);
    *bench = !strncmp(line, "bench ", 6) ? line + 6 : line;
    if (is_dirty(old) || is_dirty(new))
        return "a side was built of changed files, which no commit has: keep the old program and compare the two with bench gate ab --a CMD --b CMD";
    if (!base[0] || !head[0] || !strcmp(base, head))
        return "both sides are of one revision, or of none that git knows: the machine changed, or what is not in git; keep the old program and compare "
               "the two with bench gate ab --a CMD --b CMD";
    return NULL;
}

/* The metric of a row as a path into what a command prints; "" for the usual one, which bench gate ab knows. */
static void metric_for_ab(const bench_options *o, const json_t *row, char out[512])
{
    const char *path = bench_row_text(row, "path");
    out[0] = 0;
    if (o->metric.n && path[0])
        snprintf(out, 512, "%s=$.results[0]%s:effect=%g%%%s", bench_row_text(row, "metric"), path + 1, 100 * bench_row_real(row, "effect"),
                 json_is_true(json_object_get(row, "higher")) ? ":higher" : "");
}

/* Behind which pin it was, where it was one. */
static void add_reason(json_t *row, const char *why)
{
    char text[900];
    const char *old = bench_row_text(row, "reason");
    snprintf(text, sizeof text, "%s%s%s", old, old[0] ? "; " : "", why);
    json_object_set_new(row, "reason", json_string(text));
}

static void add_command(const bench_options *o, json_t *row)
{
    char base[64], head[64], metric[512];
    const char *bench;
    rm_strbuf s = { 0 };
    if (rp_verdict_of(row) != RP_SUSPECT) return;
    const char *why_not = ab_of(row, base, head, &bench);
    if (!why_not) {
        rm_str_addf(&s, "bench gate ab --base %s --head %s --bench ", base, head);
        bench_put_word(&s, bench);
        metric_for_ab(o, row, metric);
        if (metric[0]) {
            rm_str_add(&s, " --metric ");
            bench_put_word(&s, metric);
        }
        if (!s.failed) json_object_set_new(row, "reproduce", json_string(s.text));
    } else add_reason(row, why_not);
    rm_str_free(&s);
}

static rm_status decide(history *h, json_t *row, bool *decided)
{
    static const char *const word[] = { "ab" };
    char base[64], head[64], metric[512];
    bench_options o = *h->o;
    if (!h->o->then_ab || ab_of(row, base, head, &o.gate_bench)) {
        *decided = false;
        return RM_OK;
    }
    *decided = true;
    o.arg = word;
    o.n_arg = 1;
    o.base = base;
    o.head = head;
    o.json = false;
    o.aside = !h->table; /* stdout is for our JSON alone */
    metric_for_ab(h->o, row, metric);
    o.metric = (bench_list) { .item = { metric }, .n = metric[0] ? 1 : 0 };
    rm_info("suspect: %s; the pairs decide", bench_row_text(row, "series"));
    return bench_gate_ab(&o);
}

/* ---- printing */

static double percent(double delta) { return 100 * expm1(delta); }

static void print_changes(const json_t *row)
{
    size_t i;
    const json_t *c;
    json_array_foreach(json_object_get(row, "changes"), i, c)
    {
        const json_t *commits = json_object_get(c, "commits"), *at = json_array_get(json_object_get(row, "sessions"), (size_t)bench_row_int(c, "session"));
        const char *last = json_string_value(json_array_get(commits, 0));
        printf("  changed by %+.2f %% at session %lld (%.10s), %s..%s", percent(bench_row_real(c, "delta")), bench_row_int(c, "session") + 1,
               bench_row_text(at, "begun"), bench_row_text(c, "from"), bench_row_text(c, "to"));
        if (last) printf(": %s%s", last, json_array_size(commits) > 1 ? " and others" : "");
        printf("\n");
    }
}

static void print_pinned(const json_t *row)
{
    size_t i;
    const json_t *p;
    json_array_foreach(json_object_get(row, "pinned"), i, p)
    {
        const double delta = bench_row_real(p, "delta");
        printf("  against the pinned %s (%s): %+.2f %%%s\n", bench_row_text(p, "name"), bench_row_text(p, "revision"), percent(delta),
               delta >= log1p(bench_row_real(p, "effect")) ? ", beyond the least effect" : "");
    }
}

static void print_row(const json_t *row)
{
    const json_t *baseline = json_object_get(row, "baseline"), *best = json_object_get(row, "best");
    const size_t n = json_array_size(json_object_get(row, "sessions"));
    printf("%-12s %s %s", bench_row_text(row, "verdict"), bench_row_text(row, "series"), bench_row_text(row, "metric"));
    if (json_is_object(baseline))
        printf(" %+.2f %% against %lld sessions up to %s, suspect from %+.2f %%; %+.2f %% against the best level ever (%s)\n",
               percent(bench_row_real(row, "delta")), bench_row_int(baseline, "sessions"), bench_row_text(baseline, "revision"),
               percent(bench_row_real(row, "threshold")), percent(bench_row_real(best, "delta")), bench_row_text(best, "revision"));
    else printf(" %zu session%s, %d are needed\n", n, n == 1 ? "" : "s", 2 * RP_LEAST_PIECE + 1);
    print_pinned(row);
    print_changes(row);
    if (bench_row_int(row, "newest_runs")) printf("  a newer session has %lld runs so far and does not count yet\n", bench_row_int(row, "newest_runs"));
    if (bench_row_int(row, "short_sessions")) printf("  %lld sessions of too few runs do not count\n", bench_row_int(row, "short_sessions"));
    if (bench_row_text(row, "reproduce")[0]) printf("  decide: %s\n", bench_row_text(row, "reproduce"));
    if (bench_row_text(row, "reason")[0]) printf("  %s\n", bench_row_text(row, "reason"));
}

/* ---- the command */

static rm_status load(history *h)
{
    rp_data data;
    asked a;
    RM_TRY(ask(h->o, &a));
    RM_TRY(rp_data_load(h->o->store, &data));
    const rm_status st = rp_history_rows(&data, &a.config, h->rows);
    rp_data_free(&data);
    RM_TRY(st);
    if (!json_array_size(h->rows))
        return rm_fail(RM_E_NO_BASELINE,
                       "%s: no session of %d runs of the same command, configuration, machine and revision; repeat a measurement, or lower --session",
                       h->o->store, h->o->session_runs);
    return RM_OK;
}

/* The verdict of the pairs takes the place of a suspicion. */
static rm_status go_through(history *h)
{
    size_t i;
    json_t *row;
    h->worst = RP_VERDICTS - 1;
    json_array_foreach(h->rows, i, row)
    {
        rp_verdict v = rp_verdict_of(row);
        name_commits(row);
        add_command(h->o, row);
        if (h->table) print_row(row);
        bool decided = false;
        if (v == RP_SUSPECT) {
            const rm_status st = decide(h, row, &decided);
            if (st != RM_OK && st != RM_E_REGRESSED && st != RM_E_INCONCLUSIVE && st != RM_E_NO_BASELINE) return st;
            if (decided) v = st == RM_OK ? RP_PASS : st == RM_E_REGRESSED ? RP_REGRESSED : st == RM_E_INCONCLUSIVE ? RP_INCONCLUSIVE : RP_NO_BASELINE;
            if (decided) json_object_set_new(row, "decided", json_string(rp_verdict_key(v)));
        }
        h->worst = rp_verdict_worse(h->worst, v);
    }
    return RM_OK;
}

static rm_status keep(const history *h)
{
    bench_run run;
    size_t i;
    json_t *row;
    rm_status st = bench_run_begin(&bench_cmd_gate, h->o, false, &run);
    json_array_foreach(h->rows, i, row)
    {
        char key[512];
        snprintf(key, sizeof key, "history %s %s", bench_row_text(row, "series"), bench_row_text(row, "metric"));
        if (st == RM_OK) st = rm_store_result(run.store, run.id, key, bench_row_text(row, "origin"), true, row, NULL, 0);
    }
    if (st == RM_OK) st = rm_store_run_end(run.store, run.id, rm_exit_code(rp_verdict_status(h->worst), 0));
    if (st == RM_OK) st = bench_emit_json(&bench_cmd_gate, h->o, run.environment, json_incref(h->rows));
    bench_run_close(&run);
    return st;
}

static rm_status say(const history *h)
{
    const rm_status st = rp_verdict_status(h->worst);
    switch (h->worst) {
    case RP_SUSPECT: return rm_fail(st, "suspect: the newest session stands out; the command above decides");
    case RP_NO_BASELINE: return rm_fail(st, "there are too few sessions to compare with");
    default: return st == RM_OK ? RM_OK : rm_fail(st, "the pairs say: %s", rp_verdict_name(h->worst));
    }
}

rm_status bench_gate_history(const bench_options *o)
{
    history h = { .o = o, .rows = json_array(), .table = bench_table_wanted(o) };
    rm_status st = h.rows ? load(&h) : rm_fail(RM_E_NOMEM, "out of memory for the history");
    if (st == RM_OK) st = go_through(&h);
    if (st == RM_OK) st = keep(&h);
    if (st == RM_OK) st = say(&h);
    json_decref(h.rows);
    return st;
}
