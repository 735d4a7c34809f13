#include "bench/gate_files.h"
#include "base/file.h"
#include "bench/gate.h"
#include "bench/gate_out.h"
#include "bench/gate_verdict.h"
#include "profiler/stats.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MOST = 64, FILE_MOST_BYTES = 256 << 20 };
static const double alpha_of_all = 0.01; /* each metric has its share */

/* A document is a run; an array at its top is several. */
static rm_status add_runs(const char *path, json_t *document, json_t *out)
{
    const size_t n = json_is_array(document) ? json_array_size(document) : 1;
    if (json_array_size(out) + n > RUNS_MOST) return rm_fail(RM_E_FORMAT, "%s holds more than %d runs", path, RUNS_MOST);
    const int failed = json_is_array(document) ? json_array_extend(out, document) : json_array_append(out, document);
    return failed ? rm_fail(RM_E_NOMEM, "out of memory for the runs of %s", path) : RM_OK;
}

/* Reads the documents of a file, one after the other. */
static rm_status load(const char *path, json_t *out)
{
    char *text;
    size_t n, at = 0;
    json_error_t e;
    rm_status st = RM_OK;
    RM_TRY(rm_file_load(path, FILE_MOST_BYTES, &text, &n));
    while (st == RM_OK && at < n) {
        while (at < n && isspace((unsigned char)text[at])) at++;
        if (at == n) break;
        json_t *document = json_loadb(text + at, n - at, JSON_DISABLE_EOF_CHECK, &e);
        if (!document) st = rm_fail(RM_E_FORMAT, "%s: no JSON at byte %zu: %s", path, at + (e.position > 0 ? (size_t)e.position : 0), e.text);
        else st = add_runs(path, document, out);
        if (document) at += (size_t)e.position;
        json_decref(document);
    }
    free(text);
    if (st == RM_OK && json_array_size(out) == 0) return rm_fail(RM_E_FORMAT, "%s holds no JSON, or no run in it", path);
    return st;
}

static rm_status values_of(const bench_metric *m, const char *path, const json_t *documents, double *out)
{
    const bench_process none = { .exit_code = 0 };
    char why[900];
    size_t i;
    const json_t *document;
    json_array_foreach(documents, i, document)
    {
        bench_metric_value v;
        const rm_status st = bench_metric_take(m, &none, document, &v);
        snprintf(why, sizeof why, "%s", rm_last_error());
        if (st != RM_OK) return rm_fail(st, "%s, run %zu: %s", path, i + 1, why);
        out[i] = v.log;
    }
    return RM_OK;
}

/* The smallest p that so many runs can give: 1 / (n_a + n_b over n_a). */
static double least_p(int n_a, int n_b)
{
    double p = 1;
    for (int i = 1; i <= n_a; i++) p *= (double)i / (double)(n_b + i);
    return p;
}

/* Would B still be the faster, if A were slower by e? */
static double p_of_slower_than(const double *a, int n_a, const double *b, int n_b, double e)
{
    double slowed[RUNS_MOST];
    for (int i = 0; i < n_a; i++) slowed[i] = a[i] + e;
    return rm_rank_sum_p(b, n_b, slowed, n_a);
}

/* Unpaired runs may differ by what the machine did meanwhile, so that this never says REGRESSED. A PASS is shown all the same: a slow-down of the effect is excluded. */
static rp_verdict screen(const bench_metric *m, double alpha, const double *a, int n_a, const double *b, int n_b, double *out_delta, char *reason, size_t size)
{
    const double e = log1p(m->effect), slower = rm_rank_sum_p(a, n_a, b, n_b), excluded = p_of_slower_than(a, n_a, b, n_b, e);
    int each = 1;
    while (least_p(each, each) > alpha) each++;
    const double middle_a = rm_median(a, (size_t)n_a), middle_b = rm_median(b, (size_t)n_b);
    *out_delta = isinf(middle_a) && isinf(middle_b) ? 0 : middle_b - middle_a; /* 0 and 0 are equal */
    if (isinf(*out_delta)) {
        snprintf(reason, size, "one of the medians is 0: a change from or to 0 has no ratio");
        return RP_TROUBLE;
    }
    if (least_p(n_a, n_b) > alpha) {
        snprintf(reason, size, "%d and %d runs cannot tell: a rank test needs %d of each; a file holds them as an array, or one after the other", n_a, n_b,
                 each);
        return RP_NO_BASELINE;
    }
    const rp_verdict v = slower <= alpha && *out_delta >= e ? RP_SUSPECT : excluded <= alpha ? RP_PASS : RP_INCONCLUSIVE;
    snprintf(reason, size, "unpaired rank test over %d and %d runs: p = %.3g that equal ones differ so, %.3g that ones slower by the effect do%s", n_a, n_b,
             slower, excluded, v == RP_INCONCLUSIVE ? "; neither is excluded: take more runs, or pairs (--a, --b)" : "");
    return v;
}

static rm_status judge(const bench_options *o, const char *text, json_t *const documents[2], const bench_verdict_frame *f, json_t *rows)
{
    bench_metric m;
    double effect, v[2][RUNS_MOST], delta;
    char reason[300];
    int n[2];
    RM_TRY(bench_share_parse(o->effect, "--effect", &effect));
    RM_TRY(bench_metric_parse(text, effect, &m));
    if (m.exact || m.path[0] == '@') return rm_fail(RM_E_ARG, "--metric %s: of files there are only numbers at a JSON path", text);
    for (int i = 0; i < 2; i++) {
        n[i] = (int)json_array_size(documents[i]);
        RM_TRY(values_of(&m, o->arg[1 + i], documents[i], v[i]));
    }
    const rp_verdict verdict = screen(&m, alpha_of_all / o->metric.n, v[0], n[0], v[1], n[1], &delta, reason, sizeof reason);
    json_t *row = bench_verdict_row(f, m.name, m.tier, verdict, reason);
    if (!row) return rm_fail(RM_E_NOMEM, "out of memory for a verdict");
    json_object_set_new(row, "delta", bench_number(expm1(delta)));
    json_object_set_new(row, "effect", json_real(m.effect));
    json_array_append_new(rows, row);
    return RM_OK;
}

static rm_status judge_all(const bench_options *o, json_t *const documents[2], const bench_verdict_frame *f, json_t *rows)
{
    if (o->metric.n == 0) return rm_fail(RM_E_ARG, "--metric is missing: which number in the files is compared? For example --metric '$.seconds'");
    for (int i = 0; i < 2; i++) RM_TRY(load(o->arg[1 + i], documents[i]));
    for (int32_t i = 0; i < o->metric.n; i++) RM_TRY(judge(o, o->metric.item[i], documents, f, rows));
    RM_TRY(bench_gate_print(o, NULL, rows));
    return bench_gate_status(rows);
}

rm_status bench_gate_files(const bench_options *o)
{
    json_t *documents[2] = { json_array(), json_array() }, *rows = json_array(), *line = bench_reproduce(&bench_cmd_gate, o);
    bench_gate_side side[2] = { { 0 }, { 0 } };
    for (int i = 0; i < 2; i++) snprintf(side[i].label, sizeof side[i].label, "%.*s", (int)sizeof side[i].label - 1, o->arg[1 + i]);
    const bench_verdict_frame f = { side, line ? json_string_value(line) : "", 0 };
    const rm_status st = documents[0] && documents[1] && rows ? judge_all(o, documents, &f, rows) : rm_fail(RM_E_NOMEM, "out of memory for two files");
    for (int i = 0; i < 2; i++) json_decref(documents[i]);
    json_decref(rows);
    json_decref(line);
    return st;
}
