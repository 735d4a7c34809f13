#define _GNU_SOURCE /* strptime, timegm */
#include "reports/gate_history.h"
#include "profiler/json_path.h"
#include "profiler/stats.h"
#include "reports/gate_text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const rp_history_metric rp_history_usual[] = {
    { "step_s", "$.step_s.median", 0.02, false },
    { "step_s", "$.step_s", 0.02, false },
    { "time_s", "$.time_s.median", 0.02, false },
    { "images_per_s", "$.images_per_s", 0.02, true },
};
const size_t rp_history_n_usual = RM_COUNT(rp_history_usual);

enum { MOST_RUNS = 1000, GAP_S = 3600 };

typedef struct value {
    const rp_run *run;
    double v;
} value;
typedef struct session {
    const rp_run *first;
    int runs;
    double v;
    char revision[64];
} session;
/* value, session: oldest first */
typedef struct series {
    const rp_result *newest;
    const rp_history_metric *metric;
    value *value;
    session *session;
    double *y;
    int values, sessions, too_short, newest_runs;
} series;

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static double value_of(const rp_result *r, const rp_history_metric *m)
{
    const json_t *v = NULL;
    return rm_json_path_one(r->row, m->path, &v) == RM_OK && json_is_number(v) && json_number_value(v) > 0 ? json_number_value(v) : NAN;
}

static bool counts(const rp_result *r)
{
    const char *injected = rp_string(r->row, "injected");
    return r->correct && (!strcmp(r->origin, "measured") || !strcmp(r->origin, "emulated")) && !(injected && *injected) && strcmp(r->run->command, "gate") != 0;
}

static bool alike(const rp_result *a, const rp_result *b)
{
    return !strcmp(a->run->identity, b->run->identity) && !strcmp(a->run->command, b->run->command) && !strcmp(a->key, b->key) && !strcmp(a->origin, b->origin);
}

static bool wanted(const rp_history_config *c, const rp_result *r) { return counts(r) && (!c->about || strstr(r->run->command_line, c->about) != NULL); }

/* The data are newest first; a series is oldest first. */
static void gather(const rp_data *d, const rp_history_config *c, const rp_result *newest, series *s)
{
    for (const rp_result *r = d->result + d->n_results; r-- > newest;) {
        const double v = wanted(c, r) && alike(r, newest) ? value_of(r, s->metric) : NAN;
        if (isnan(v)) continue;
        if (s->values == MOST_RUNS) memmove(s->value, s->value + 1, (size_t)--s->values * sizeof *s->value);
        s->value[s->values++] = (value) { r->run, v };
    }
}

/* ---- sessions -------------------------------------------------------------------------------------------------------- */

static double seconds_of(const char *started)
{
    struct tm t = { 0 };
    return strptime(started, "%Y-%m-%dT%H:%M:%S", &t) ? (double)timegm(&t) : 0;
}

static const char *revision_of(const rp_run *run, char *out, size_t size) { return rp_fact(run->environment, "git", out, size); }

static bool same_session(const value *a, const value *b)
{
    char x[64], y[64];
    return !strcmp(revision_of(a->run, x, sizeof x), revision_of(b->run, y, sizeof y)) && seconds_of(b->run->started) - seconds_of(a->run->started) <= GAP_S;
}

static void take_session(series *s, const value *v, int n, int least, bool last)
{
    double x[MOST_RUNS];
    session *out = &s->session[s->sessions];
    if (n < least) {
        s->too_short += !last;
        s->newest_runs = last ? n : 0;
        return;
    }
    for (int i = 0; i < n; i++) x[i] = v[i].v;
    *out = (session) { .first = v[0].run, .runs = n, .v = rm_median(x, (size_t)n) };
    revision_of(v[0].run, out->revision, sizeof out->revision);
    s->y[s->sessions++] = s->metric->higher ? -log(out->v) : log(out->v);
}

static void find_sessions(series *s, int least)
{
    for (int i = 0, j; i < s->values; i = j) {
        for (j = i + 1; j < s->values && same_session(&s->value[j - 1], &s->value[j]); j++) {}
        take_session(s, s->value + i, j - i, least, j == s->values);
    }
}

/* ---- the row --------------------------------------------------------------------------------------------------------- */

static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *sessions_json(const series *s)
{
    json_t *all = json_array();
    for (int i = 0; i < s->sessions; i++) {
        const session *x = &s->session[i];
        json_array_append_new(all, json_pack("{s:s, s:s, s:i, s:f}", "begun", x->first->started, "revision", x->revision, "runs", x->runs, "value", x->v));
    }
    return all;
}

static rm_status changes_json(const series *s, json_t **out)
{
    int *begin = calloc((size_t)s->sessions / RP_LEAST_PIECE + 2, sizeof *begin), pieces = 0;
    rm_status st = begin ? rp_screen_pieces(s->y, s->sessions, begin, &pieces) : rm_fail(RM_E_NOMEM, "out of memory for the history");
    json_t *all = json_array();
    for (int p = 1; st == RM_OK && p < pieces; p++) {
        const int at = begin[p], end = p + 1 < pieces ? begin[p + 1] : s->sessions;
        const double before = rm_median(s->y + begin[p - 1], (size_t)(at - begin[p - 1])), after = rm_median(s->y + at, (size_t)(end - at));
        json_array_append_new(
            all, json_pack("{s:i, s:f, s:s, s:s}", "session", at, "delta", after - before, "from", s->session[at - 1].revision, "to", s->session[at].revision));
    }
    free(begin);
    if (st == RM_OK) *out = all;
    else json_decref(all);
    return st;
}

static double back(const series *s, double y) { return exp(s->metric->higher ? -y : y); }

/* One may be shortened more than the other, and a build of changed files says ", dirty". */
static bool same_revision(const char *a, const char *b)
{
    const size_t n = strcspn(a, ","), m = strcspn(b, ",");
    return n && m && !strncmp(a, b, n < m ? n : m) && strcmp(a + n, b + m) == 0;
}

/* Is there a newer pin of that name before result i? */
static bool is_renewed(const rp_data *d, size_t i, const char *name)
{
    for (size_t k = 0; k < i; k++) {
        const char *kind = rp_string(d->result[k].row, "kind"), *other = rp_string(d->result[k].row, "name");
        if (kind && other && strcmp(kind, "pin") == 0 && strcmp(other, name) == 0) return true;
    }
    return false;
}

/* n: sessions of the pinned revision, whose median is the less sure the fewer they are. */
static json_t *pin_json(const series *s, const rp_screened *v, const json_t *pin, const double *y, size_t n)
{
    const json_t *own = json_object_get(pin, "effect");
    const double effect = json_is_number(own) ? json_number_value(own) : s->metric->effect, level = rm_median(y, n), delta = s->y[s->sessions - 1] - level;
    const double threshold = fmax(log1p(effect), v->noise * sqrt(1 + 1 / (double)n));
    const bool judged = v->verdict != RP_NO_BASELINE; /* else nothing is known of the noise */
    return json_pack("{s:O, s:O, s:f, s:f, s:f, s:o, s:b}", "name", json_object_get(pin, "name"), "revision", json_object_get(pin, "revision"), "value",
                     back(s, level), "delta", delta, "effect", effect, "threshold", judged ? json_real(threshold) : json_null(), "suspect",
                     judged && delta >= threshold);
}

/* The newest session against the pinned revisions that have sessions in this series. */
static json_t *pinned_json(const rp_data *d, const series *s, const rp_screened *v)
{
    json_t *all = json_array();
    for (size_t i = 0; i < d->n_results; i++) {
        const json_t *row = d->result[i].row;
        const char *kind = rp_string(row, "kind"), *name = rp_string(row, "name"), *revision = rp_string(row, "revision");
        double y[MOST_RUNS];
        size_t n = 0;
        if (!kind || strcmp(kind, "pin") != 0 || !name || !revision || !*revision || is_renewed(d, i, name)) continue;
        for (int k = 0; k < s->sessions && n < MOST_RUNS; k++)
            if (same_revision(s->session[k].revision, revision)) y[n++] = s->y[k];
        if (n) json_array_append_new(all, pin_json(s, v, row, y, n));
    }
    return all;
}

/* Slow creep never stands out from the level before it, but does from what was pinned. */
static void suspect_by_pins(json_t *row)
{
    char reason[300];
    size_t i;
    const json_t *pin;
    json_array_foreach(json_object_get(row, "pinned"), i, pin)
    {
        if (!json_is_true(json_object_get(pin, "suspect"))) continue;
        snprintf(reason, sizeof reason, "%+.2f %% against the pinned %.100s (%.40s), suspect from %+.2f %%", 100 * expm1(rp_real(pin, "delta")),
                 rp_string(pin, "name"), rp_string(pin, "revision"), 100 * expm1(rp_real(pin, "threshold")));
        json_object_set_new(row, "verdict", json_string(rp_verdict_key(RP_SUSPECT)));
        json_object_set_new(row, "reason", json_string(reason));
        return;
    }
}

static json_t *row_of(const rp_data *d, const series *s, const rp_screened *v, json_t *changes)
{
    const bool judged = v->verdict != RP_NO_BASELINE;
    char name[256];
    snprintf(name, sizeof name, "%s %s", s->newest->run->command, s->newest->key);
    json_t *baseline = judged ? json_pack("{s:f, s:i, s:i, s:s}", "value", back(s, v->baseline), "session", v->from, "sessions", v->sessions, "revision",
                                          s->session[v->from + v->sessions - 1].revision)
                              : json_null();
    json_t *best = judged ? json_pack("{s:f, s:f, s:s, s:i}", "value", back(s, v->best), "delta", v->best_delta, "revision",
                                      s->session[v->best_from + v->best_sessions - 1].revision, "session", v->best_from)
                          : json_null();
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:f, s:s, s:s, s:o, s:i, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "kind", "history", "series", name,
                     "command", s->newest->run->command, "metric", s->metric->name, "path", s->metric->path, "higher", s->metric->higher, "effect",
                     s->metric->effect, "command_line", s->newest->run->command_line, "origin", s->newest->origin, "sessions", sessions_json(s),
                     "short_sessions", s->too_short, "newest_runs", s->newest_runs ? json_integer(s->newest_runs) : json_null(), "changes", changes, "verdict",
                     rp_verdict_key(v->verdict), "delta", number(v->delta), "threshold", number(v->threshold), "baseline", baseline, "best", best, "pinned",
                     pinned_json(d, s, v));
}

static rm_status add_row(const rp_data *d, const series *s, json_t *rows)
{
    rp_screened v;
    json_t *changes;
    RM_TRY(rp_screen(s->y, s->sessions, s->metric->effect, &v));
    RM_TRY(changes_json(s, &changes));
    json_t *row = row_of(d, s, &v, changes);
    suspect_by_pins(row);
    return row && !json_array_append_new(rows, row) ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the history");
}

static rm_status add_series(const rp_data *d, const rp_history_config *c, const rp_result *newest, const rp_history_metric *m, json_t *rows)
{
    value *values = calloc(MOST_RUNS, sizeof *values);
    session *sessions = calloc(MOST_RUNS, sizeof *sessions);
    double *y = calloc(MOST_RUNS, sizeof *y);
    rm_status st = RM_OK;
    if (!values || !sessions || !y) st = rm_fail(RM_E_NOMEM, "out of memory for the history");
    else {
        series s = { .newest = newest, .metric = m, .value = values, .session = sessions, .y = y };
        gather(d, c, newest, &s);
        find_sessions(&s, c->least_runs);
        if (s.sessions) st = add_row(d, &s, rows);
    }
    free(values);
    free(sessions);
    free(y);
    return st;
}

/* Which metric of the row a series takes: from `from` on, the first that it has a value of; c->n_metric for none. */
static size_t metric_from(const rp_history_config *c, const rp_result *r, size_t from)
{
    while (from < c->n_metric && isnan(value_of(r, &c->metric[from]))) from++;
    return from;
}

/* Does a newer result of the series have a value, so that its row is there? One without a value, as after a failure, does not hide those with one. */
static bool is_told(const rp_data *d, const rp_history_config *c, const rp_result *r, size_t metric)
{
    for (const rp_result *p = d->result; p < r; p++) {
        if (!wanted(c, p) || !alike(p, r)) continue;
        if (c->all ? !isnan(value_of(p, &c->metric[metric])) : metric_from(c, p, 0) < c->n_metric) return true;
    }
    return false;
}

rm_status rp_history_rows(const rp_data *d, const rp_history_config *c, json_t *rows)
{
    for (size_t i = 0; i < d->n_results; i++) {
        const rp_result *r = &d->result[i];
        if (!wanted(c, r)) continue;
        for (size_t m = metric_from(c, r, 0); m < c->n_metric; m = c->all ? metric_from(c, r, m + 1) : c->n_metric)
            if (!is_told(d, c, r, m)) RM_TRY(add_series(d, c, r, &c->metric[m], rows));
    }
    return RM_OK;
}
