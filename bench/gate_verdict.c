#include "bench/gate_verdict.h"
#include "base/log.h"
#include "bench/bench.h"
#include "base/utf8.h"
#include "bench/gate_layers.h"
#include "bench/rows.h"
#include "reports/gate_layers.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- rows */

static json_t *side_json(const bench_gate_side *s)
{
    return json_pack("{s:o, s:s?}", "label", bench_row_words(s->label), "revision", s->revision[0] ? s->revision : NULL);
}

json_t *bench_verdict_row(const bench_verdict_frame *f, const char *metric, const char *tier, rp_verdict v, const char *reason)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:n, s:n, s:n, s:n, s:i, s:i, s:i, s:n, s:[], s:s, s:o, s:o, s:i, s:o, s:f, s:o, s:[]}", "kind", "verdict", "metric",
                     bench_row_words(metric), "tier", tier, "verdict", rp_verdict_key(v), "effect", "delta", "low", "high", "pairs", 0, "looks", 0, "needed", 0,
                     "detectable", "d", "order", "", "base", side_json(&f->side[0]), "head", side_json(&f->side[1]), "discarded", 0, "reason",
                     bench_row_words(reason), "seconds", f->seconds, "reproduce", bench_row_words(f->reproduce), "layers");
}

/* ---- judging */

rm_status bench_verdict_judge(const bench_pairs *p, int m, const rp_gate_rule *rule, bench_judged *out)
{
    double d[RM_PAIRED_MOST];
    bench_judged j = { .at = { .verdict = RP_INCONCLUSIVE } };
    RM_ASSERT(p->kept <= RM_PAIRED_MOST);
    bench_pairs_differences(p, m, d, NULL);
    for (int i = 0; i < rule->looks && rule->look[i].n <= p->kept && !j.at.decided; i++) {
        j.n = rule->look[i].n;
        j.looks++;
        RM_TRY(rp_gate_judge(rule, p->metric[m].effect, d, j.n, &j.at));
    }
    if (!j.at.decided && p->kept > j.n) {
        j.n = p->kept;
        RM_TRY(rp_gate_judge(rule, p->metric[m].effect, d, j.n, &j.at));
    }
    *out = j;
    return RM_OK;
}

static json_t *share(double log_ratio) { return bench_number(expm1(log_ratio)); }

static json_t *differences_json(const double *d, int n)
{
    json_t *all = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(all, bench_number(d[i]));
    return all;
}

/* Steps that never became steady are a median of something that still moves. */
static int unsettled(const bench_pairs *p, int m)
{
    int n = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(p->pairs, i, row) for (int k = 0; k < 2; k++)
    {
        const json_t *series = json_object_get(json_object_get(row, k ? "b" : "a"), "series");
        n += json_is_false(json_object_get(json_object_get(series, p->metric[m].name), "settled"));
    }
    return n;
}

static void reason_of(const bench_pairs *p, int m, const bench_judged *j, const char *why, char *out, size_t size)
{
    int n = 0;
    out[0] = '\0';
    if (j->at.verdict == RP_INCONCLUSIVE) n = snprintf(out, size, "%s", why[0] ? why : "noise: the last look decided nothing");
    if (n < 0 || (size_t)n >= size) return;
    if (unsettled(p, m))
        snprintf(out + n, size - (size_t)n, "%s%d of %d runs never became steady; give them more steps", n ? "; " : "", unsettled(p, m), 2 * p->kept);
}

json_t *bench_verdict_of_metric(const bench_verdict_frame *f, const bench_pairs *p, int m, const rp_gate_rule *rule, const bench_judged *j, const char *why)
{
    double d[RM_PAIRED_MOST];
    char order[2 * RM_PAIRED_MOST + 1] = "", reason[400];
    const bench_metric *metric = &p->metric[m];
    bench_pairs_differences(p, m, d, order);
    order[2 * j->n] = '\0';
    reason_of(p, m, j, why, reason, sizeof reason);
    json_t *row = bench_verdict_row(f, metric->name, metric->tier, j->at.verdict, reason);
    if (!row) return NULL;
    json_object_set_new(row, "effect", json_real(metric->effect));
    json_object_set_new(row, "pairs", json_integer(j->n));
    json_object_set_new(row, "looks", json_integer(j->looks));
    json_object_set_new(row, "discarded", json_integer(p->discarded));
    json_object_set_new(row, "higher_is_better", json_boolean(metric->higher));
    json_object_set_new(row, "waited_s", json_real(p->waited_s));
    json_object_set_new(row, "busy_runs", json_integer(p->busy));
    json_object_set_new(row, "needed", json_integer(j->n ? j->at.needed : rule->look[0].n));
    if (j->n == 0) return row;
    json_object_set_new(row, "delta", share(j->at.at.delta));
    json_object_set_new(row, "low", share(j->at.at.low));
    json_object_set_new(row, "high", share(j->at.at.high));
    if (j->n >= rule->look[0].n)
        json_object_set_new(row, "detectable", bench_number(rp_gate_detectable(rule, metric->effect, d, j->n))); /* fewer do not tell the noise */
    json_object_set_new(row, "d", differences_json(d, j->n));
    json_object_set_new(row, "order", json_string(order));
    json_object_set_new(row, "median", json_pack("[o, o]", bench_number(bench_pairs_median(p, m, 0)), bench_number(bench_pairs_median(p, m, 1))));
    return row;
}

/* ---- exact metrics */

static void shorten(const json_t *v, char *out, size_t size)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    const int n = snprintf(out, size - 3, "%s", text ? text : "?");
    rm_utf8_clean(out);
    if (n < 0 || (size_t)n >= size - 3) strcat(out, "...");
    free(text);
}

/* Numbers by their value: 370 is 370.0. */
static bool equal(const json_t *a, const json_t *b)
{
    size_t i;
    const char *key;
    json_t *v;
    if (json_is_number(a) && json_is_number(b) && !(json_is_integer(a) && json_is_integer(b))) return json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b) || json_array_size(a) != json_array_size(b) || json_object_size(a) != json_object_size(b)) return false;
    if (!json_is_array(a) && !json_is_object(a)) return json_equal(a, b);
    json_array_foreach(a, i, v) if (!equal(v, json_array_get(b, i))) return false;
    json_object_foreach((json_t *)(uintptr_t)a, key, v) /* only read */
    {
        const json_t *w = json_object_get(b, key);
        if (!w || !equal(v, w)) return false;
    }
    return true;
}

/* both: of the first pair that differs, NULL for none. */
static json_t *equal_or_not(const bench_verdict_frame *f, const bench_metric *m, const json_t *both, int differ, int n)
{
    char a[80], b[80], reason[220];
    if (!both) return bench_verdict_row(f, m->name, "T0", RP_PASS, "");
    const json_t *va = json_array_get(both, 0), *vb = json_array_get(both, 1);
    shorten(va, a, sizeof a);
    shorten(vb, b, sizeof b);
    const int k = snprintf(reason, sizeof reason, "%s became %s", a, b);
    if (differ < n) snprintf(reason + k, sizeof reason - (size_t)k, " in %d of %d pairs", differ, n);
    json_t *row = bench_verdict_row(f, m->name, "T0", RP_REGRESSED, reason);
    if (row) json_object_set_new(row, "differences", json_pack("[{s:s, s:O, s:O}]", "fact", m->name, "base", va, "head", vb));
    return row;
}

json_t *bench_verdict_of_exact(const bench_verdict_frame *f, const bench_pairs *p, int m)
{
    size_t i;
    int n = 0, differ = 0;
    const json_t *row, *first = NULL;
    json_array_foreach(p->pairs, i, row)
    {
        const json_t *both = json_object_get(json_object_get(row, "exact"), p->metric[m].name);
        if (!both) continue;
        n++;
        if (equal(json_array_get(both, 0), json_array_get(both, 1))) continue;
        if (!differ++) first = both;
    }
    json_t *verdict = n ? equal_or_not(f, &p->metric[m], first, differ, n) : bench_verdict_row(f, p->metric[m].name, "T0", RP_INCONCLUSIVE, "no pair counts");
    if (verdict && n == 0) json_object_set_new(verdict, "needed", json_integer(1));
    return verdict;
}

/* ---- layers */

rm_status bench_verdict_of_layers(const bench_verdict_frame *f, const bench_pairs *p, bool gates, json_t **out)
{
    json_t *slower = NULL;
    int rows = 0;
    char reason[200];
    RM_TRY(bench_gate_layers_judge(p->pairs, p->kept, p->seed, &slower, &rows));
    const size_t n = json_array_size(slower);
    const int least = bench_gate_layers_least(p->pairs);
    const bool enough = p->kept >= least;
    snprintf(reason, sizeof reason, "%zu of %d layers are slower by %.0f %% or more (family-wise error %.0f %%)%s", n, rows, 100 * rp_layer_rule_usual.effect,
             100 * rp_layer_rule_usual.alpha, n && !gates ? "; named only, for --gate-layers was not given" : "");
    if (!enough) snprintf(reason, sizeof reason, "%d pairs cannot tell one of %d layers from chance; at least %d can", p->kept, rows, least);
    if (rows == 0) snprintf(reason, sizeof reason, "the runs print no layers that every pair has; bench layers does");
    const rp_verdict v = rows == 0 || !enough ? RP_INCONCLUSIVE : n && gates ? RP_REGRESSED : RP_PASS;
    json_t *row = bench_verdict_row(f, "layers", "layers", v, reason);
    if (!row) {
        json_decref(slower);
        return rm_fail(RM_E_NOMEM, "out of memory for the layers' verdict");
    }
    json_object_set_new(row, "pairs", json_integer(p->kept));
    json_object_set_new(row, "discarded", json_integer(p->discarded));
    json_object_set_new(row, "effect", json_real(rp_layer_rule_usual.effect));
    if (!enough) json_object_set_new(row, "needed", json_integer(least));
    json_object_set_new(row, "layers", slower);
    json_object_set_new(row, "gates", json_boolean(gates));
    *out = row;
    return RM_OK;
}
