#include "bench/gate_pairs.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "bench/bench.h"
#include "bench/gate_callgrind.h"
#include "bench/gate_layers.h"
#include "bench/rows.h"
#include "profiler/json_path.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const side_key[2] = { "a", "b" };

bool bench_pairs_b_first(uint64_t seed, int i)
{
    rm_rng g = rm_rng_for(seed, 0x70616972u, (uint64_t)i);
    return rm_rng_u32(&g) & 1;
}

/* ---- one pair */

typedef struct pair {
    bench_process run[2];
    json_t *document[2];
    bench_machine_reading before, after;
    bool b_first;
    const char *why; /* it is discarded; NULL: it counts */
} pair;

static void pair_free(pair *q)
{
    for (int i = 0; i < 2; i++) {
        bench_process_free(&q->run[i]);
        json_decref(q->document[i]);
    }
}

/* That is decided before the run, and not by what it gives: A and B are treated alike. */
static rm_status wait_for_calm(bench_pairs *p)
{
    bool calm = true;
    if (p->calm_s <= 0) return RM_OK;
    if (!p->calm) RM_TRY(rm_calm_open(NULL, NULL, &p->calm));
    p->waited_s += rm_calm_wait(p->calm, p->calm_s, bench_signal, &calm);
    p->busy += !calm;
    return RM_OK;
}

static rm_status run_both(bench_pairs *p, pair *q)
{
    bench_masks_read(&p->masks, &q->before);
    for (int k = 0; k < 2; k++) {
        const int i = q->b_first ? 1 - k : k;
        if (p->side[i].before) p->side[i].before(&p->side[i]);
        RM_TRY(wait_for_calm(p));
        RM_TRY((p->callgrind ? bench_callgrind_run : bench_process_run)(p->side[i].command, p->timeout_s, &q->run[i]));
    }
    bench_masks_read(&p->masks, &q->after);
    return RM_OK;
}

static rm_status read_documents(bench_pairs *p, pair *q)
{
    for (int i = 0; i < 2; i++) RM_TRY(p->side[i].document(&p->side[i], &q->run[i], &q->document[i]));
    return RM_OK;
}

/* ---- its row */

static double value_of(const json_t *row, int side, const char *metric)
{
    return bench_row_real(json_object_get(json_object_get(row, side_key[side]), "values"), metric);
}

static json_t *run_row(const bench_process *r)
{
    return json_pack("{s:{}, s:f, s:f, s:I, s:i}", "values", "wall_s", r->wall_s, "cpu_s", r->cpu_s, "max_rss_bytes", (json_int_t)r->max_rss_bytes, "exit",
                     r->exit_code);
}

static rm_status of_side(rm_status st, int side)
{
    char why[900];
    if (st == RM_OK) return st;
    snprintf(why, sizeof why, "%s", rm_last_error());
    return rm_fail(st, "side %c: %s", "AB"[side], why);
}

static rm_status put_values(const bench_pairs *p, const pair *q, int side, json_t *row)
{
    json_t *series = json_object();
    json_object_set_new(row, "series", series);
    for (int m = 0; m < p->metrics; m++) {
        bench_metric_value v;
        if (p->metric[m].exact) continue;
        RM_TRY(of_side(bench_metric_take(&p->metric[m], &q->run[side], q->document[side], &v), side));
        json_object_set_new(json_object_get(row, "values"), p->metric[m].name, json_real(v.value));
        if (v.steps == 1) continue;
        json_object_set_new(series, p->metric[m].name,
                            json_pack("{s:I, s:I, s:b}", "steps", (json_int_t)v.steps, "dropped", (json_int_t)v.dropped, "settled", v.settled));
    }
    return RM_OK;
}

static rm_status exact_of(const bench_metric *m, const pair *q, json_t *all)
{
    const json_t *v[2];
    for (int i = 0; i < 2; i++)
        RM_TRY(of_side(q->document[i] ? rm_json_path_one(q->document[i], m->path, &v[i]) : bench_metric_no_json(m->path, &q->run[i]), i));
    json_object_set_new(all, m->name, json_pack("[O, O]", v[0], v[1]));
    return RM_OK;
}

static rm_status put_exact(const bench_pairs *p, const pair *q, json_t *row)
{
    json_t *all = json_object();
    json_object_set_new(row, "exact", all);
    for (int m = 0; m < p->metrics; m++)
        if (p->metric[m].exact) RM_TRY(exact_of(&p->metric[m], q, all));
    return RM_OK;
}

/* 0 and 0 are equal; 0 and anything else have no ratio, and no test of ratios is right about them. */
static rm_status check_zeros(const bench_pairs *p, const json_t *row)
{
    for (int m = 0; m < p->metrics; m++) {
        const double a = value_of(row, 0, p->metric[m].name), b = value_of(row, 1, p->metric[m].name);
        if (!p->metric[m].exact && (a == 0) != (b == 0))
            return rm_fail(RM_E_NUMERIC, "%s is %g on side A and %g on side B: a change from or to 0 has no ratio; gate something that includes it, or :exact",
                           p->metric[m].path, a, b);
    }
    return RM_OK;
}

static rm_status fill_row(const bench_pairs *p, const pair *q, json_t *row)
{
    for (int i = 0; i < 2; i++) RM_TRY(put_values(p, q, i, json_object_get(row, side_key[i])));
    RM_TRY(check_zeros(p, row));
    RM_TRY(put_exact(p, q, row));
    if (p->want_layers) json_object_set_new(row, "layers", bench_gate_layer_values(q->document[0], q->document[1]));
    return RM_OK;
}

static rm_status make_row(const bench_pairs *p, const pair *q, int number, json_t **out)
{
    json_t *row = json_pack("{s:s, s:i, s:s, s:s?, s:o, s:o}", "kind", "pair", "pair", number, "order", q->b_first ? "BA" : "AB", "discarded", q->why, "a",
                            run_row(&q->run[0]), "b", run_row(&q->run[1]));
    if (!row) return rm_fail(RM_E_NOMEM, "out of memory for a pair of runs");
    const rm_status st = q->why ? RM_OK : fill_row(p, q, row);
    if (st != RM_OK) json_decref(row);
    else *out = row;
    return st;
}

/* ---- keeping */

static void count(bench_pairs *p, const json_t *row)
{
    if (json_is_string(json_object_get(row, "discarded"))) p->discarded++;
    else p->kept++;
}

static rm_status keep(bench_pairs *p, json_t *row)
{
    char key[40];
    snprintf(key, sizeof key, "gathered pair %05d", p->kept + p->discarded + 1);
    if (p->store) RM_TRY(rm_store_result(p->store, p->run, key, "measured", true, row, NULL, 0));
    count(p, row);
    json_array_append(p->pairs, row);
    return RM_OK;
}

static int take_stored(void *ctx, const rm_result_row *r)
{
    bench_pairs *p = ctx;
    if (strncmp(r->key, "gathered pair ", 14) != 0) return 0;
    json_array_append(p->pairs, r->row);
    count(p, r->row);
    return 0;
}

rm_status bench_pairs_load(bench_pairs *p)
{
    p->kept = p->discarded = 0;
    json_array_clear(p->pairs);
    return p->store ? rm_store_each_result(p->store, p->run, take_stored, p) : RM_OK;
}

static void note_failure(bench_pairs *p, const pair *q)
{
    for (int i = 0; i < 2; i++)
        if (q->run[i].exit_code != 0)
            snprintf(p->failure, sizeof p->failure, "side %c ended with exit code %d: %.400s", "AB"[i], q -> run[i].exit_code,
                     q->run[i].complaint[0] ? q->run[i].complaint : "it said nothing");
    rm_utf8_clean(p->failure);
}

static void say(const bench_pairs *p, const pair *q, int number)
{
    if (q->why) rm_info("pair %d does not count: %s (%.3g s, %.3g s)", number, q->why, q->run[0].wall_s, q->run[1].wall_s);
    else rm_verbose("pair %d, %s: A %.3g s, B %.3g s", number, q->b_first ? "BA" : "AB", q->run[0].wall_s, q->run[1].wall_s);
}

rm_status bench_pairs_run(bench_pairs *p)
{
    const int number = p->kept + p->discarded + 1;
    const char *const command[2] = { p->side[0].command, p->side[1].command };
    const uint64_t begin = rm_now_ns();
    pair q = { .b_first = bench_pairs_b_first(p->seed, number) };
    json_t *row = NULL;
    rm_status st;
    RM_TRY_GOTO(st, run_both(p, &q), out);
    q.why = bench_masks_why(&p->masks, q.run, &q.before, &q.after);
    if (!q.why) RM_TRY_GOTO(st, bench_masks_trouble(&p->masks, q.run, command), out);
    if (!q.why) RM_TRY_GOTO(st, read_documents(p, &q), out);
    RM_TRY_GOTO(st, make_row(p, &q, number, &row), out);
    RM_TRY_GOTO(st, keep(p, row), out);
    note_failure(p, &q);
    say(p, &q, number);
    p->seconds += rm_s(rm_now_ns() - begin);
    p->own++;
out:
    json_decref(row);
    pair_free(&q);
    return st;
}

/* ---- what they say */

int bench_pairs_differences(const bench_pairs *p, int m, double *d, char *order)
{
    int n = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(p->pairs, i, row)
    {
        if (json_is_string(json_object_get(row, "discarded"))) continue;
        const double a = value_of(row, 0, p->metric[m].name), b = value_of(row, 1, p->metric[m].name), ratio = a == 0 && b == 0 ? 0 : log(b / a);
        d[n] = p->metric[m].higher ? -ratio : ratio;
        if (order) memcpy(order + 2 * (size_t)n, bench_row_text(row, "order"), 3);
        n++;
    }
    return n;
}

double bench_pairs_median(const bench_pairs *p, int m, int side)
{
    double *v = malloc(((size_t)p->kept + 1) * sizeof *v), median;
    size_t i, n = 0;
    const json_t *row;
    if (!v) return NAN;
    json_array_foreach(p->pairs, i, row) if (!json_is_string(json_object_get(row, "discarded"))) v[n++] = value_of(row, side, p->metric[m].name);
    median = rm_median(v, n);
    free(v);
    return median;
}
