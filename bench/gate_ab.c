/* bench gate ab: pairs of runs in random order until the rule decides. docs/gate.md. */
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/gate.h"
#include "bench/gate_facts.h"
#include "bench/gate_layers.h"
#include "bench/gate_files.h"
#include "bench/gate_lock.h"
#include "bench/gate_out.h"
#include "bench/gate_pins.h"
#include "bench/gate_side.h"
#include "bench/gate_usual.h"
#include "bench/gate_verdict.h"
#include "bench/rows.h"
#include "profiler/runinfo.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

typedef struct gate {
    const bench_options *o;
    bench_options sided; /* o, with side A from a pin where it is one */
    json_t *pin;
    bench_metric metric[BENCH_METRICS_MOST];
    int metrics, timed; /* timed: those that pairs decide */
    bool t0, resumed;
    rp_gate_rule rule;
    bench_sides sides;
    bench_pairs pairs;
    json_t *config, *environment, *rows;
    rm_store *store;
    char *reproduce;
    uint64_t begin_ns, open_ns; /* open_ns: both sides are there, and the lock is ours */
    int lock;
} gate;

/* ---- what is asked for */

static bool has_tier(const bench_options *o, const char *tier)
{
    const char *at = strstr(o->tiers, tier);
    return at && (at[2] == '\0' || at[2] == ',') && (at == o->tiers || at[-1] == ',');
}

static rm_status check_tiers(const bench_options *o)
{
    for (const char *p = o->tiers; *p;) {
        const size_t n = strcspn(p, ",");
        if (n != 2 || p[0] != 'T' || p[1] < '0' || p[1] > '2') return rm_fail(RM_E_ARG, "--tiers %s: it is a list of T0, T1 and T2", o->tiers);
        p += n + (p[n] == ',');
    }
    return RM_OK;
}

static rm_status add_metric(gate *g, const char *text, double effect)
{
    bench_metric m;
    if (g->metrics == BENCH_METRICS_MOST) return rm_fail(RM_E_ARG, "--metric can be given %d times at most", BENCH_METRICS_MOST);
    RM_TRY(bench_metric_parse(text, effect, &m));
    for (int i = 0; i < g->metrics; i++)
        if (strcmp(g->metric[i].name, m.name) == 0) return rm_fail(RM_E_ARG, "two metrics are called %s; name them: --metric NAME=PATH", m.name);
    if (!has_tier(g->o, m.tier)) return RM_OK;
    g->metric[g->metrics++] = m;
    g->timed += !m.exact;
    return RM_OK;
}

/* Under valgrind nothing else can be measured. */
static rm_status check_callgrind(gate *g)
{
    for (int i = 0; i < g->metrics; i++) g->pairs.callgrind |= !strcmp(g->metric[i].path, BENCH_METRIC_CALLGRIND);
    if (g->pairs.callgrind && g->timed > 1)
        return rm_fail(RM_E_ARG, "--metric " BENCH_METRIC_CALLGRIND " runs the commands under valgrind, which makes any other measure worthless: gate it alone");
    return RM_OK;
}

static rm_status add_metrics(gate *g)
{
    const bench_list *given = &g->o->metric;
    double effect;
    RM_TRY(bench_share_parse(g->o->effect, "--effect", &effect));
    for (int32_t i = 0; i < given->n; i++) RM_TRY(add_metric(g, given->item[i], effect));
    if (given->n == 0 && g->o->gate_bench[0]) {
        bench_usual u = { .n = 0 };
        if (has_tier(g->o, "T1") || has_tier(g->o, "T2")) RM_TRY(bench_gate_usual(g->o->gate_bench, &u));
        for (int i = 0; i < u.n; i++) RM_TRY(add_metric(g, u.text[i], effect));
    }
    const bool facts = has_tier(g->o, "T0") && g->o->gate_bench[0];
    if (given->n && g->metrics == 0 && !facts)
        return rm_fail(RM_E_ARG, "--tiers %s leaves no metric to compare: a JSON path and @wall_s are T2, the other @ T1, and what is :exact is T0", g->o->tiers);
    if (g->metrics == 0 && !g->o->gate_bench[0])
        return rm_fail(
            RM_E_ARG,
            "--metric is missing: which number in the JSON that the commands print is compared? For example --metric '$.seconds'; @wall_s needs no JSON");
    RM_TRY(check_callgrind(g));
    return g->timed ? rp_gate_rule_for(g->timed, g->o->expensive, &g->rule) : RM_OK;
}

static rm_status open_gate(gate *g)
{
    RM_TRY(check_tiers(g->o));
    RM_TRY(bench_pins_check(g->o));
    RM_TRY(bench_tolerances_check(g->o->tolerate));
    RM_TRY(add_metrics(g));
    g->t0 = has_tier(g->o, "T0") && g->o->gate_bench[0];
    RM_TRY(bench_masks_open(g->o->discard, &g->pairs.masks));
    RM_TRY(rm_store_open(g->o->store, false, &g->store));
    g->sided = *g->o;
    if (g->o->against[0]) RM_TRY(bench_pins_find(g->store, g->o->against, &g->sided, &g->pin));
    RM_TRY(bench_gate_lock(g->o->lock, g->o->lock_timeout_s, &g->lock));
    return bench_sides_open(&g->sided, &g->sides);
}

/* ---- the run of the store */

static uint64_t drawn_seed(void)
{
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = (uint32_t)rm_now_ns();
    return seed ? seed : 1;
}

static rm_status settle_seed(gate *g, bool resumed)
{
    static const char key[] = "gathered seed";
    json_t *row = NULL;
    g->pairs.seed = g->o->seed_given ? (uint64_t)g->o->seed : drawn_seed();
    if (resumed) RM_TRY(rm_store_find(g->store, g->pairs.run, key, &row));
    if (row) g->pairs.seed = (uint64_t)bench_row_int(row, "seed");
    json_decref(row);
    row = json_pack("{s:s, s:I}", "kind", "seed", "seed", (json_int_t)g->pairs.seed);
    const rm_status st = row ? rm_store_result(g->store, g->pairs.run, key, "measured", true, row, NULL, 0) : rm_fail(RM_E_NOMEM, "out of memory for the seed");
    json_decref(row);
    return st;
}

/* The line that gives this gate again, its seed included. */
static rm_status set_reproduce(gate *g)
{
    bench_options o = *g->o;
    o.seed = (int64_t)g->pairs.seed;
    if (o.base[0] && g->sides.at[0].commit[0]) o.base = g->sides.at[0].commit; /* what was built: HEAD will be another one */
    if (o.head[0] && g->sides.at[1].commit[0]) o.head = g->sides.at[1].commit;
    json_t *line = bench_reproduce(&bench_cmd_gate, &o);
    rm_strbuf s = { 0 };
    rm_str_add(&s, line ? json_string_value(line) : "");
    if (o.seed == 1) rm_str_add(&s, " --seed 1"); /* as by default, where another would be drawn */
    json_decref(line);
    g->reproduce = rm_str_take(&s);
    return g->reproduce && line ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the command line");
}

/* Takes up an interrupted run of the same sides, where `resume` and there is one; else begins one. */
static rm_status open_run(gate *g, bool resume)
{
    int64_t *run = &g->pairs.run;
    g->config = bench_options_echo(&bench_cmd_gate, g->o);
    g->environment = rm_runinfo_json(NULL, 0);
    if (!g->config || !g->environment) return rm_fail(RM_E_NOMEM, "out of memory for the run");
    json_object_set_new(g->config, "sides", bench_sides_json(&g->sides));
    if (resume) RM_TRY(rm_store_run_resume(g->store, "gate", g->config, g->environment, run));
    if (*run) {
        g->resumed = true;
        return RM_OK;
    }
    json_t *line = bench_reproduce(&bench_cmd_gate, g->o);
    const rm_status st = rm_store_run_begin(g->store, "gate", json_string_value(line), g->config, g->environment, run);
    json_decref(line);
    return st;
}

static rm_status begin_run(gate *g)
{
    bench_pairs *p = &g->pairs;
    RM_TRY(open_run(g, !g->o->fresh));
    p->store = g->store;
    p->side = g->sides.at;
    p->metric = g->metric;
    p->metrics = g->metrics;
    p->timeout_s = g->o->run_timeout_s;
    p->calm_s = p->callgrind ? 0 : g->o->calm_s;
    p->want_layers = strncmp(g->o->gate_bench, "layers", 6) == 0;
    RM_TRY(settle_seed(g, g->resumed));
    RM_TRY(bench_pairs_load(p));
    if (g->resumed) rm_info("resuming interrupted run %lld with %d pairs; --fresh starts anew", (long long)p->run, p->kept + p->discarded);
    return set_reproduce(g);
}

/* ---- pairs */

static double elapsed_s(const gate *g) { return rm_s(rm_now_ns() - g->begin_ns); }
/* Of the budget, which is for runs: waiting for the lock and building take what they take. */
static double used_s(const gate *g) { return rm_s(rm_now_ns() - g->open_ns); }

static bool decided(const gate *g, rm_status *st)
{
    if (g->timed == 0) return g->pairs.kept > 0;
    if (g->pairs.kept >= rp_gate_most_pairs(&g->rule)) return true;
    if (g->pairs.kept < bench_gate_layers_least(g->pairs.pairs)) return false; /* no layer could be named yet */
    for (int m = 0; m < g->metrics; m++) {
        bench_judged j;
        if (g->metric[m].exact) continue;
        *st = bench_verdict_judge(&g->pairs, m, &g->rule, &j);
        if (*st != RM_OK || !j.at.decided) return false;
    }
    return true;
}

static bool is_look(const gate *g)
{
    for (int i = 0; i < g->rule.looks; i++)
        if (g->rule.look[i].n == g->pairs.kept) return true;
    return false;
}

static void tell_look(const gate *g)
{
    for (int m = 0; m < g->metrics && is_look(g); m++) {
        bench_judged j;
        if (g->metric[m].exact || bench_verdict_judge(&g->pairs, m, &g->rule, &j) != RM_OK) continue;
        rm_info("after %d pairs: %s %+.2f %% [%+.2f, %+.2f]: %s", j.n, g->metric[m].name, 100 * expm1(j.at.at.delta), 100 * expm1(j.at.at.low),
                100 * expm1(j.at.at.high), j.at.decided ? rp_verdict_name(j.at.verdict) : "not decided yet");
    }
}

/* Would one more pair, as long as those so far took on average, end after the budget? */
static bool spent(const gate *g)
{
    const bench_pairs *p = &g->pairs;
    if (g->o->budget_s <= 0) return false;
    return used_s(g) + (p->own ? p->seconds / p->own : 0) > g->o->budget_s;
}

static rm_status too_many_discarded(const gate *g)
{
    const bench_pairs *p = &g->pairs;
    return rm_fail(RM_E_NUMERIC, "%d of %d pairs had to be discarded (--discard %s), more than 20 %%%s%s", p->discarded, p->discarded + p->kept, g->o->discard,
                   p->failure[0] ? "; " : "", p->failure);
}

/* *why: what ended them before a decision; "" for nothing. */
static rm_status run_pairs(gate *g, char *why, size_t size)
{
    bench_pairs *p = &g->pairs;
    const int most = g->timed ? rp_gate_most_pairs(&g->rule) : 1;
    rm_status st = RM_OK;
    why[0] = '\0';
    while (!decided(g, &st) && st == RM_OK && !why[0]) {
        if (bench_masks_hopeless(p->discarded, p->kept, most)) return too_many_discarded(g);
        if (spent(g)) snprintf(why, size, "budget: %g s were spent after %d pairs", g->o->budget_s, p->kept);
        else RM_TRY(bench_pairs_run(p));
        if (!why[0]) tell_look(g);
    }
    return st == RM_OK && bench_masks_too_many(p->discarded, p->kept) ? too_many_discarded(g) : st;
}

/* ---- rows */

static bench_verdict_frame frame_of(const gate *g) { return (bench_verdict_frame) { g->sides.at, g->reproduce, elapsed_s(g) }; }

static rm_status add_row(gate *g, json_t *row)
{
    return row && json_array_append_new(g->rows, row) == 0 ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for a verdict");
}

static rm_status same_row_for_all(gate *g, rp_verdict v, const char *reason)
{
    const bench_verdict_frame f = frame_of(g);
    for (int m = 0; m < g->metrics; m++) RM_TRY(add_row(g, bench_verdict_row(&f, g->metric[m].name, g->metric[m].tier, v, reason)));
    return g->metrics ? RM_OK : add_row(g, bench_verdict_row(&f, "gate", "T0", v, reason));
}

static rm_status judge_metric(gate *g, int m, const char *why)
{
    const bench_verdict_frame f = frame_of(g);
    bench_judged j;
    if (g->metric[m].exact) return add_row(g, bench_verdict_of_exact(&f, &g->pairs, m));
    RM_TRY(bench_verdict_judge(&g->pairs, m, &g->rule, &j));
    return add_row(g, bench_verdict_of_metric(&f, &g->pairs, m, &g->rule, &j, why));
}

/* Of two builds. A program that is older than facts has none. */
static rm_status take_facts(gate *g, json_t *facts[2], json_t **out_row)
{
    char why[1024];
    for (int i = 0; i < 2; i++) {
        const bench_verdict_frame f = frame_of(g);
        const rm_status st = bench_facts_run(g->sides.at[i].program, g->o->gate_bench, g->o->run_timeout_s, &facts[i]);
        snprintf(why, sizeof why, "%s", rm_last_error());
        const bool none = st == RM_E_UNSUPPORTED, failed = st == RM_E_NUMERIC;
        if (none || failed) *out_row = bench_verdict_row(&f, "facts", "T0", none && i == 0 ? RP_NO_BASELINE : RP_TROUBLE, why);
        if (st != RM_OK) return none || failed ? RM_OK : st;
    }
    return RM_OK;
}

static rm_status compare_facts(gate *g, json_t *const facts[2], json_t **out_row)
{
    json_t *differences = json_array();
    char reason[700];
    rp_verdict v = RP_TROUBLE;
    const rm_status st = bench_facts_compare(facts[0], facts[1], g->o->tolerate, differences, &v);
    const bench_verdict_frame f = frame_of(g);
    bench_facts_words(differences, reason, sizeof reason);
    if (st == RM_OK) *out_row = bench_verdict_row(&f, "facts", "T0", v, reason);
    if (*out_row) json_object_set(*out_row, "differences", differences);
    json_decref(differences);
    return st;
}

static rm_status judge_facts(gate *g)
{
    json_t *facts[2] = { NULL, NULL }, *row = NULL;
    if (!g->t0) return RM_OK;
    if (!bench_facts_has(g->o->gate_bench)) {
        rm_info("no facts (T0): %s does not train the network", g->o->gate_bench);
        return RM_OK;
    }
    rm_status st = take_facts(g, facts, &row);
    if (st == RM_OK && !row) st = compare_facts(g, facts, &row);
    if (st == RM_OK) st = add_row(g, row);
    for (int i = 0; i < 2; i++) json_decref(facts[i]);
    return st;
}

static rm_status judge_pairs(gate *g, const char *why)
{
    const bench_verdict_frame f = frame_of(g);
    json_t *layers = NULL;
    for (int m = 0; m < g->metrics; m++) RM_TRY(judge_metric(g, m, why));
    if (!g->pairs.want_layers) return RM_OK;
    RM_TRY(bench_verdict_of_layers(&f, &g->pairs, g->o->gate_layers, &layers));
    return add_row(g, layers);
}

/* Trouble is a verdict too: whoever reads the rows must not take the last good ones for today's. */
static rm_status judge(gate *g)
{
    char why[200], trouble[1024];
    if (bench_sides_identical(&g->sides) && !g->o->even_if_identical)
        return same_row_for_all(g, RP_PASS, "identical: both programs are the same, byte for byte");
    RM_TRY(judge_facts(g));
    if (g->metrics == 0) return RM_OK;
    const rm_status st = run_pairs(g, why, sizeof why);
    if (st == RM_OK) return judge_pairs(g, why);
    if (st == RM_E_INTERRUPTED) return st;
    snprintf(trouble, sizeof trouble, "%s", rm_last_error());
    return same_row_for_all(g, RP_TROUBLE, trouble);
}

static rm_status store_rows(gate *g)
{
    size_t i;
    json_t *row;
    json_array_foreach(g->rows, i, row)
    {
        char key[160];
        snprintf(key, sizeof key, "verdict %s %s", bench_row_text(row, "tier"), bench_row_text(row, "metric"));
        RM_TRY(rm_store_result(g->store, g->pairs.run, key, "measured", rp_verdict_of(row) != RP_TROUBLE, row, NULL, 0));
    }
    return RM_OK;
}

static void label(bench_gate_side *side, const char *a, const char *b)
{
    if (!side->label[0]) snprintf(side->label, sizeof side->label, "%.100s", a[0] ? a : b);
}

static rm_status pin(const gate *g)
{
    double effect;
    if (!g->o->pin[0]) return RM_OK;
    RM_TRY(bench_share_parse(g->o->effect, "--effect", &effect));
    if (rp_verdict_status(rp_verdict_of_all(g->rows)) == RM_OK) return bench_pins_keep(g->store, g->pairs.run, g->o->pin, effect, &g->sides.at[1]);
    rm_warn("--pin %s: the verdict is worse than PASS, and the baseline stays as it was", g->o->pin);
    return RM_OK;
}

static rm_status keep(gate *g)
{
    if (!g->pairs.run) RM_TRY(open_run(g, false));
    RM_TRY(store_rows(g));
    RM_TRY(pin(g));
    return rm_store_run_end(g->store, g->pairs.run, rm_exit_code(rp_verdict_status(rp_verdict_of_all(g->rows)), 0));
}

/* Says it, then stores it: a full disk must not take a verdict of hours with it. `f` has what failed before. */
static rm_status finish(gate *g, bench_failure *f)
{
    bench_failure_note(f, bench_gate_print(g->o, g->environment, g->rows));
    bench_failure_note(f, keep(g));
    RM_TRY(bench_failure_status(f));
    return bench_gate_status(g->rows);
}

/* There is nothing to run: no baseline, or a build that failed. Who reads the outputs, or the store, is to know. */
static rm_status unopened(gate *g, rp_verdict v)
{
    bench_failure f = { .status = RM_OK };
    char why[1024];
    snprintf(why, sizeof why, "%s", rm_last_error());
    label(&g->sides.at[0], g->o->against[0] ? g->o->against : g->o->a, g->o->base);
    label(&g->sides.at[1], g->o->b, g->o->head);
    g->pairs.seed = g->o->seed_given ? (uint64_t)g->o->seed : drawn_seed();
    RM_TRY(set_reproduce(g));
    RM_TRY(same_row_for_all(g, v, why));
    return finish(g, &f);
}

/* Regressions that are accepted, now or before. */
static rm_status accept(gate *g)
{
    bench_failure f = { .status = RM_OK };
    if (g->o->accept[0]) bench_failure_note(&f, bench_accepted_keep(g->o, g->store, g->pairs.run, g->rows));
    bench_failure_note(&f, bench_accepted_apply(g->o, g->store, NULL, g->rows));
    return bench_failure_status(&f);
}

static rm_status compare(gate *g)
{
    bench_failure f = { .status = RM_OK };
    const rm_status opened = open_gate(g);
    if (opened == RM_E_NO_BASELINE) return unopened(g, RP_NO_BASELINE);
    if (opened == RM_E_NUMERIC) return unopened(g, RP_TROUBLE);
    RM_TRY(opened);
    g->open_ns = rm_now_ns();
    RM_TRY(begin_run(g));
    RM_TRY(judge(g));
    bench_failure_note(&f, accept(g));
    return finish(g, &f);
}

rm_status bench_gate_ab(const bench_options *o)
{
    if (o->n_arg == 3) return bench_gate_files(o);
    if (o->n_arg != 1) return rm_fail(RM_E_ARG, "bench gate ab takes no words, or two files of results");
    gate g = { .o = o, .rows = json_array(), .begin_ns = rm_now_ns(), .lock = -1, .pairs = { .pairs = json_array() } };
    const rm_status st = g.rows && g.pairs.pairs ? compare(&g) : rm_fail(RM_E_NOMEM, "out of memory for the gate");
    bench_gate_unlock(g.lock);
    rm_calm_close(g.pairs.calm);
    bench_masks_close(&g.pairs.masks);
    bench_sides_close(&g.sides);
    rm_store_close(g.store);
    free(g.reproduce);
    json_decref(g.pin);
    json_decref(g.pairs.pairs);
    json_decref(g.rows);
    json_decref(g.config);
    json_decref(g.environment);
    return st;
}
