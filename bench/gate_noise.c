/* This machine's noise: equal runs one after the other, and what the gate and the rules that people use make of them. */
#include "base/log.h"
#include "bench/gate_lock.h"
#include "bench/gate_metric.h"
#include "bench/gate_place.h"
#include "bench/gate_process.h"
#include "bench/gate_trial.h"
#include "bench/options.h"
#include "bench/rows.h"
#include "profiler/json_path.h"
#include "profiler/stats.h"
#include "reports/gate_check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_RUNS = 72 /* what the gate takes at most */ };
static const double far_spreads = 5;

typedef struct tape {
    double *y, *x; /* x: RP_ITERATIONS of each run */
    int n, steps; /* steps: 0 or RP_ITERATIONS, that every run has */
} tape;

/* ---- taking runs */

static rm_status add_run(tape *t, const json_t *document, const bench_metric *m)
{
    double *v, *x = t->x + (size_t)t->n * RP_ITERATIONS;
    size_t n;
    RM_TRY(rm_json_path_numbers(document, m->path, &v, &n));
    const rm_steady s = rm_steady_of(v, n);
    if (s.n < RP_ITERATIONS) t->steps = 0;
    for (size_t i = 0; i < RP_ITERATIONS; i++) x[i] = i < s.n ? log(v[s.dropped + i]) : NAN;
    t->y[t->n++] = log(bench_metric_of_series(m, v, &s));
    free(v);
    return isfinite(t->y[t->n - 1]) ? RM_OK : rm_fail(RM_E_FORMAT, "%s is 0 in a run: noise is the ratio of runs, and wants numbers above 0", m->path);
}

static rm_status take_run(const bench_trial *trial, const char *command, const bench_metric *m, tape *t)
{
    bench_process p;
    json_error_t e;
    RM_TRY(bench_process_run(command, trial->o->run_timeout_s, &p));
    json_t *document = p.exit_code == 0 && p.out ? json_loads(p.out, 0, &e) : NULL;
    const rm_status st = document ? add_run(t, document, m) : rm_fail(RM_E_NUMERIC, "%s ended with exit code %d and no JSON: %s", command, p.exit_code, p.complaint);
    json_decref(document);
    bench_process_free(&p);
    return st;
}

static rm_status take_runs(const bench_trial *trial, const char *command, const bench_metric *m, int32_t want, tape *t)
{
    rm_progress progress;
    rm_status st = RM_OK;
    *t = (tape){ .y = calloc((size_t)want, sizeof *t->y), .x = calloc((size_t)want * RP_ITERATIONS, sizeof *t->x), .steps = RP_ITERATIONS };
    if (!t->y || !t->x) return rm_fail(RM_E_NOMEM, "out of memory for %d runs", want);
    rm_progress_begin(&progress, "noise", "runs", (uint64_t)want);
    while (st == RM_OK && t->n < want) {
        st = take_run(trial, command, m, t);
        rm_progress_update(&progress, (uint64_t)t->n, NULL);
    }
    rm_progress_end(&progress);
    return st;
}

/* ---- what they are like */

/* The correlation of neighbours: 0 where runs know nothing of each other. */
static double neighbours(const tape *t, double mean)
{
    double own = 0, next = 0;
    for (int i = 0; i < t->n; i++) own += (t->y[i] - mean) * (t->y[i] - mean);
    for (int i = 1; i < t->n; i++) next += (t->y[i] - mean) * (t->y[i - 1] - mean);
    return own > 0 ? next / own : 0;
}

static json_t *seconds(const tape *t)
{
    json_t *all = json_array();
    for (int i = 0; i < t->n; i++) json_array_append_new(all, json_real(exp(t->y[i])));
    return all;
}

static rm_status keep_noise(bench_trial *trial, const char *command, const tape *t)
{
    const double middle = rm_median(t->y, (size_t)t->n), spread = 1.4826 * rm_mad(t->y, (size_t)t->n);
    double mean = 0;
    int far = 0;
    char text[200];
    for (int i = 0; i < t->n; i++) mean += t->y[i] / t->n, far += t->y[i] - middle > far_spreads * spread;
    const double next = neighbours(t, mean);
    snprintf(text, sizeof text, "%d equal runs: spread %.2f %%, correlation of neighbours %.2f, %d of them more than %g spreads slow", t->n, 100 * spread, next, far,
             far_spreads);
    if (trial->table) printf("%s\n", text);
    json_t *row = json_pack("{s:s, s:s, s:i, s:f, s:f, s:i, s:o, s:s}", "kind", "noise", "replicate", command, "runs", t->n, "spread", spread, "neighbours", next, "far", far,
                            "values_s", seconds(t), "text", text);
    const rm_status st = row ? bench_trial_keep(trial, "noise", "measured", row) : rm_fail(RM_E_NOMEM, "out of memory for the runs");
    json_decref(row);
    return st;
}

/* origin: false alarms are measured; with a change added they are not. */
static rm_status try_rules(bench_trial *trial, const tape *t, double effect, double change)
{
    const rp_check_config c = { .method = &rp_gate_method, .effect = effect, .seed = trial->o->seed_given ? (uint64_t)trial->o->seed : 1, .stop = bench_signal };
    const rm_noise_tape noise = { t->y, t->x, t->n, t->steps };
    rp_findings f = { .rows = json_array() };
    size_t i;
    json_t *row;
    rm_status st = f.rows ? rp_others_on_tape(&c, &noise, change, &f) : rm_fail(RM_E_NOMEM, "out of memory for the findings");
    json_array_foreach(f.rows, i, row)
    {
        if (st == RM_OK) st = bench_trial_keep(trial, bench_row_text(row, "case"), change > 0 ? "emulated" : "measured", row);
        if (st == RM_OK && trial->table) printf("%-4s %-50s %s\n", json_is_false(json_object_get(row, "holds")) ? "FAIL" : "ok", bench_row_text(row, "rule"), bench_row_text(row, "text"));
    }
    json_decref(f.rows);
    return st;
}

/* ---- all of it */

static rm_status judge(bench_trial *trial, const char *command, const tape *t, double change)
{
    double effect;
    RM_TRY(bench_share_parse(trial->o->effect, "--effect", &effect));
    RM_TRY(keep_noise(trial, command, t));
    RM_TRY(try_rules(trial, t, effect, 0));
    return try_rules(trial, t, effect, change);
}

static rm_status replicate(const bench_options *o, rm_strbuf *command, bench_metric *metric)
{
    char self[4096] = "";
    if (o->a[0] && o->metric.n != 1) return rm_fail(RM_E_ARG, "--metric is missing, or there are several: which number of %s is its time?", o->a);
    RM_TRY(bench_metric_parse(o->metric.n ? o->metric.item[0] : "$.step_s", 0.02, metric));
    if (metric->path[0] == '@') return rm_fail(RM_E_ARG, "--metric %s: for --noise it is a path into the JSON that the command prints", metric->path);
    if (o->a[0]) rm_str_add(command, o->a);
    else {
        RM_TRY(bench_own_program(self, sizeof self));
        bench_put_word(command, self);
        rm_str_add(command, " gate selftest --replicate");
        if (o->steps) rm_str_addf(command, " --steps %d", o->steps);
    }
    return command->failed ? rm_fail(RM_E_NOMEM, "out of memory for the command") : RM_OK;
}

static rm_status take_alone(const bench_trial *trial, const char *command, const bench_metric *m, int32_t want, tape *t)
{
    int lock = -1;
    RM_TRY(bench_gate_lock(trial->o->lock, trial->o->lock_timeout_s, &lock));
    const rm_status st = take_runs(trial, command, m, want, t);
    bench_gate_unlock(lock);
    return st;
}

rm_status bench_trial_noise(bench_trial *trial, int32_t want, double change)
{
    rm_strbuf command = { 0 };
    bench_metric metric;
    tape t = { 0 };
    rm_status st = replicate(trial->o, &command, &metric);
    if (st == RM_OK) st = take_alone(trial, command.text, &metric, want, &t);
    if (st == RM_OK || (st == RM_E_INTERRUPTED && t.n >= LEAST_RUNS)) {
        const rm_status judged = judge(trial, command.text, &t, change);
        if (st == RM_OK) st = judged;
    }
    free(t.y);
    free(t.x);
    rm_str_free(&command);
    return st;
}
