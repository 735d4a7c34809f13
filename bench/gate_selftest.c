/* bench gate selftest: is the gate as right as it says? */
#include "bench/gate.h"
#include "bench/gate_metric.h"
#include "bench/gate_trial.h"
#include "bench/rows.h"
#include "reports/gate_check.h"
#include <math.h>
#include <stdio.h>

enum { QUICK_TRIALS = 2000, FULL_TRIALS = 10000 };

rm_status bench_trial_keep(bench_trial *t, const char *key, const char *origin, const json_t *row)
{
    json_t *copy = json_deep_copy(row);
    if (!copy || json_object_set_new(copy, "origin", json_string(origin)) || json_array_append(t->results, copy)) {
        json_decref(copy);
        return rm_fail(RM_E_NOMEM, "out of memory for the findings");
    }
    const rm_status st = rm_store_result(t->run.store, t->run.id, key, origin, true, copy, NULL, 0);
    json_decref(copy);
    t->n++;
    t->failed += json_is_false(json_object_get(row, "holds"));
    return st;
}

/* ---- counted and simulated */

static bool of_interest(const bench_trial *t, const rp_check *check, const json_t *row)
{
    return t->o->verbose || check->listed || !json_is_true(json_object_get(row, "holds"));
}

static void print_check(const bench_trial *t, const rp_check *check, const rp_findings *f, int trials)
{
    size_t i;
    json_t *row;
    if (!t->table) return;
    printf("%-4s %-12s %3d cases of %5d trials  %s\n", f->failed ? "FAIL" : "ok", check->name, f->n, trials, check->what);
    json_array_foreach(f->rows, i, row) if (of_interest(t, check, row))
        printf("     %s %-50s %s\n", json_is_true(json_object_get(row, "holds")) ? " " : "!", bench_row_text(row, "case"), bench_row_text(row, "text"));
    fflush(stdout);
}

static rm_status run_check(bench_trial *t, const rp_check *check, const rp_check_config *c)
{
    rp_findings f = { .rows = json_array() };
    size_t i;
    json_t *row;
    rm_status st = f.rows ? check->run(c, &f) : rm_fail(RM_E_NOMEM, "out of memory for the findings");
    json_array_foreach(f.rows, i, row)
    {
        char key[192];
        if (st != RM_OK) break;
        snprintf(key, sizeof key, "%s: %s", check->name, bench_row_text(row, "case"));
        st = bench_trial_keep(t, key, "emulated", row);
    }
    if (st == RM_OK) print_check(t, check, &f, c->trials);
    json_decref(f.rows);
    return st;
}

static rm_status simulate(bench_trial *t, double effect)
{
    const int trials = t->o->full ? FULL_TRIALS : QUICK_TRIALS;
    for (size_t i = 0; i < rp_n_checks; i++) {
        const rp_check_config c = { .method = &rp_gate_method,
                                    .trials = (int)fmax(1, rp_checks[i].part * trials),
                                    .effect = effect,
                                    .seed = t->o->seed_given ? (uint64_t)t->o->seed : 1,
                                    .stop = bench_signal };
        RM_TRY(run_check(t, &rp_checks[i], &c));
    }
    return RM_OK;
}

/* ---- the command */

static rm_status try_gate(bench_trial *t)
{
    const bench_options *o = t->o;
    double effect, slow;
    RM_TRY(bench_share_parse(o->effect, "--effect", &effect));
    RM_TRY(bench_share_parse(o->slow[0] ? o->slow : "3%", "--slow", &slow));
    if (o->noise) RM_TRY(bench_trial_noise(t, o->noise, slow));
    if (o->aa) RM_TRY(bench_trial_real(t, o->aa, 0));
    if (o->power) RM_TRY(bench_trial_real(t, o->power, slow));
    return o->noise || o->aa || o->power ? RM_OK : simulate(t, effect);
}

static rm_status judged(const bench_trial *t, rm_status st)
{
    if (t->failed && (st == RM_OK || st == RM_E_PARTIAL))
        return rm_fail(RM_E_NUMERIC, "the gate does not keep its promises: %d of %d findings do not hold", t->failed, t->n);
    return st;
}

rm_status bench_gate_selftest(const bench_options *o)
{
    bench_trial t = { .o = o, .results = json_array(), .table = bench_table_wanted(o) };
    if (o->replicate) {
        json_decref(t.results);
        return bench_gate_replicate(o);
    }
    rm_status st = t.results ? bench_run_begin(&bench_cmd_gate, o, false, &t.run) : rm_fail(RM_E_NOMEM, "out of memory for the findings");
    if (st == RM_OK) {
        st = judged(&t, try_gate(&t));
        const rm_status emitted = bench_emit_json(&bench_cmd_gate, o, t.run.environment, json_incref(t.results));
        const rm_status ended = rm_store_run_end(t.run.store, t.run.id, rm_exit_code(st, bench_signal()));
        if (st == RM_OK) st = emitted != RM_OK ? emitted : ended;
    }
    bench_run_close(&t.run);
    json_decref(t.results);
    return st;
}
