/* The gate on trial in earnest: `bench gate ab` as CI runs it, on runs that are known to be equal, or unequal by so much. */
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "bench/gate.h"
#include "bench/gate_metric.h"
#include "bench/gate_place.h"
#include "bench/gate_process.h"
#include "bench/gate_trial.h"
#include "bench/options.h"
#include "bench/rows.h"
#include "reports/gate_text.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double level = 0.95, most_wrong = 0.01, least_found = 0.95;
static const double verdict_timeout_s = 3600;

/* n: of verdicts like ours, and what they said. */
typedef struct real {
    bench_trial *t;
    const char *kind, *machine; /* "aa" or "power"; the hard fingerprint */
    double slow, effect;
    char *replicate; /* both commands; "" for our own */
    char dir[BENCH_PLACE_MOST], program[4096];
    int64_t n, regressed, improved, inconclusive, pairs;
    double seconds;
    rm_status status;
} real;

/* ---- what the store has */

static void count(real *r, const json_t *row)
{
    const rp_verdict v = rp_verdict_of(row);
    r->n++;
    r->regressed += v == RP_REGRESSED;
    r->improved += v == RP_IMPROVED;
    r->inconclusive += v == RP_INCONCLUSIVE;
    r->pairs += bench_row_int(row, "pairs");
    r->seconds += fmax(bench_row_real(row, "seconds"), 0);
}

static int count_result(void *ctx, const rm_result_row *result)
{
    real *r = ctx;
    const json_t *row = result->row;
    if (!strcmp(bench_row_text(row, "kind"), r->kind) && bench_row_real(row, "slow") == r->slow && bench_row_real(row, "effect") == r->effect &&
        !strcmp(bench_row_text(row, "replicate"), r->replicate))
        count(r, row);
    return 0;
}

static int count_run(void *ctx, const rm_run_row *run)
{
    real *r = ctx;
    if (!strcmp(bench_row_text(run->environment, "hard_sha"), r->machine)) r->status = rm_store_each_result(r->t->run.store, run->id, count_result, r);
    return r->status != RM_OK;
}

/* ---- one verdict */

static void add_words(rm_strbuf *s, const char *const *word)
{
    for (size_t i = 0; word[i]; i++) {
        rm_str_add(s, s->n ? " " : "");
        bench_put_word(s, word[i]);
    }
}

/* The commands of both sides: --a and --b, where one is given for both that are equal; else our own replicate. */
static void add_sides(rm_strbuf *all, const real *r)
{
    const bench_options *o = r->t->o;
    rm_strbuf a = { 0 }, b = { 0 };
    char slow[40], steps[24];
    snprintf(slow, sizeof slow, "%.17g", r->slow);
    snprintf(steps, sizeof steps, "%d", o->steps);
    for (int i = 0; i < 2; i++) {
        add_words(i ? &b : &a, (const char *const[]) { r->program, "gate", "selftest", "--replicate", o->steps ? "--steps" : NULL, steps, NULL });
        if (i && r->slow > 0) add_words(&b, (const char *const[]) { "--slow", slow, NULL });
    }
    all->failed |= a.failed || b.failed;
    if (!all->failed)
        add_words(all, (const char *const[]) { "--a", o->a[0] ? o->a : a.text, "--b", r->slow > 0 && o->b[0] ? o->b : o->a[0] ? o->a : b.text, NULL });
    for (int32_t i = 0; i < o->metric.n; i++) add_words(all, (const char *const[]) { "--metric", o->metric.item[i], NULL });
    if (!o->metric.n) add_words(all, (const char *const[]) { "--metric", "$.step_s", NULL });
    rm_str_free(&a);
    rm_str_free(&b);
}

static char *command_of(const real *r, uint64_t seed)
{
    rm_strbuf all = { 0 };
    char effect[40], number[32], store[160], calm[40];
    snprintf(effect, sizeof effect, "%.17g", r->effect);
    snprintf(number, sizeof number, "%llu", (unsigned long long)seed);
    snprintf(calm, sizeof calm, "%.17g", r->t->o->calm_s);
    snprintf(store, sizeof store, "%s/gate.db", r->dir);
    add_words(&all, (const char *const[]) { r->program, "gate", "ab", "--effect", effect, "--seed", number, "--tiers", "T0,T1,T2", "--even-if-identical",
                                            "--fresh", "--store", store, "--calm", calm, "--json", "-", "-q", NULL });
    add_sides(&all, r);
    if (r->t->o->lock[0]) add_words(&all, (const char *const[]) { "--lock", r->t->o->lock, NULL });
    if (r->t->o->expensive) add_words(&all, (const char *const[]) { "--expensive", NULL });
    return rm_str_take(&all);
}

/* Of the metric, of whatever tier that is. */
static const json_t *verdict_of(const json_t *root)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(root, "results"), i,
                       row) if (!strcmp(bench_row_text(row, "kind"), "verdict") && bench_row_text(row, "tier")[0] == 'T') return row;
    return NULL;
}

/* Exit codes 0, 1 and 3 are verdicts. */
static rm_status read_verdict(const bench_process *p, json_t **out)
{
    json_error_t e;
    json_t *root = p->exit_code == 0 || p->exit_code == 1 || p->exit_code == 3 ? json_loads(p->out, 0, &e) : NULL;
    const json_t *row = verdict_of(root);
    json_t *copy = row ? json_deep_copy(row) : NULL;
    json_decref(root);
    if (!copy) return rm_fail(RM_E_NUMERIC, "a verdict of the gate's own replicate ended with exit code %d and no verdict: %s", p->exit_code, p->complaint);
    *out = copy;
    return RM_OK;
}

static rm_status one_verdict(real *r, uint64_t seed, json_t **out)
{
    char *command = command_of(r, seed);
    bench_process p;
    if (!command) return rm_fail(RM_E_NOMEM, "out of memory for the command of the gate");
    rm_status st = bench_process_run(command, verdict_timeout_s, &p);
    free(command);
    RM_TRY(st);
    st = read_verdict(&p, out);
    bench_process_free(&p);
    return st;
}

/* ---- all of them */

static rm_status next(real *r)
{
    const uint64_t begin = rm_now_ns(), seed = (uint64_t)r->n + 1 + (r->slow > 0 ? 1u << 20 : 0);
    char key[64];
    json_t *row = NULL;
    RM_TRY(one_verdict(r, seed, &row));
    json_object_set_new(row, "kind", json_string(r->kind));
    json_object_set_new(row, "slow", json_real(r->slow));
    json_object_set_new(row, "effect", json_real(r->effect));
    json_object_set_new(row, "replicate", json_string(r->replicate));
    json_object_set_new(row, "number", json_integer(r->n + 1));
    if (!(bench_row_real(row, "seconds") > 0)) json_object_set_new(row, "seconds", json_real(rm_s(rm_now_ns() - begin)));
    snprintf(key, sizeof key, "%s %06lld", r->kind, (long long)r->n + 1);
    const rm_status st = bench_trial_keep(r->t, key, "measured", row);
    if (st == RM_OK) count(r, row);
    json_decref(row);
    return st;
}

static json_t *rate_json(const real *r, bool holds, double rate, double low, double high, double limit, const char *text)
{
    return json_pack("{s:s, s:s, s:s, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:b, s:f, s:f, s:s}", "kind", "rate", "of", r->kind, "replicate",
                     r->replicate, "slow", r->slow, "effect", r->effect, "verdicts", (json_int_t)r->n, "regressed", (json_int_t)r->regressed, "improved",
                     (json_int_t)r->improved, "inconclusive", (json_int_t)r->inconclusive, "rate", rate, "low", low, "high", high, "limit", limit, "holds",
                     holds, "pairs_mean", (double)r->pairs / (double)r->n, "seconds_mean", r->seconds / (double)r->n, "text", text);
}

/* A promise is broken when the interval says so beyond doubt. */
static rm_status conclude(real *r)
{
    const bool slower = r->slow > 0;
    const uint64_t k = (uint64_t)(slower ? r->regressed : r->regressed > r->improved ? r->regressed : r->improved);
    char text[256], key[32];
    double low, high;
    if (!r->n) return RM_OK;
    rm_clopper_pearson(k, (uint64_t)r->n, level, &low, &high);
    const double rate = (double)k / (double)r->n, limit = slower ? least_found : most_wrong;
    const bool holds = slower ? high >= limit && !r->improved : low <= limit;
    snprintf(
        text, sizeof text,
        "%lld verdicts%s: %lld regressed, %lld improved, %lld inconclusive; %s %.2f %% (95 %% interval %.2f to %.2f %%), %s %g %%; %.1f pairs and %.1f s each",
        (long long)r->n, slower ? " with a real slow-down" : " on equal runs", (long long)r->regressed, (long long)r->improved, (long long)r->inconclusive,
        slower ? "found" : "wrong", 100 * rate, 100 * low, 100 * high, slower ? "at least" : "at most", 100 * limit, (double)r->pairs / (double)r->n,
        r->seconds / (double)r->n);
    if (r->t->table) printf("%-4s %-12s %s\n", holds ? "ok" : "FAIL", r->kind, text);
    json_t *row = rate_json(r, holds, rate, low, high, limit, text);
    if (!row) return rm_fail(RM_E_NOMEM, "out of memory for the findings");
    snprintf(key, sizeof key, "%s rate", r->kind);
    const rm_status st = bench_trial_keep(r->t, key, "measured", row);
    json_decref(row);
    return st;
}

static rm_status go_on(real *r, int32_t want)
{
    const double budget_s = r->t->o->budget_s;
    const uint64_t begin = rm_now_ns();
    rm_progress progress;
    rm_status st = RM_OK;
    if (r->n) rm_info("the store has %lld such verdicts of this machine; going on to %d", (long long)r->n, want);
    rm_progress_begin(&progress, r->kind, "verdicts", (uint64_t)want);
    while (st == RM_OK && r->n < want && !(budget_s > 0 && rm_s(rm_now_ns() - begin) >= budget_s)) {
        st = next(r);
        rm_progress_update(&progress, (uint64_t)r->n, NULL);
    }
    rm_progress_end(&progress);
    return st;
}

static rm_status make_place(real *r)
{
    RM_TRY(bench_own_program(r->program, sizeof r->program));
    return bench_place_make("selftest", r->dir);
}

static void remove_place(const real *r)
{
    static const char *const name[] = { "gate.db", "gate.db-wal", "gate.db-shm", "gate.db-journal" };
    char path[160];
    for (size_t i = 0; i < RM_COUNT(name); i++) {
        snprintf(path, sizeof path, "%s/%s", r->dir, name[i]);
        unlink(path);
    }
    rmdir(r->dir);
}

/* Options that change how often a verdict is wrong, or what it takes; each after a comma. */
static void name_options(rm_strbuf *s, const bench_options *o)
{
    json_t *given = bench_options_echo(&bench_cmd_gate, o); /* what is not as by default */
    if (json_object_get(given, "calm")) rm_str_addf(s, ", --calm %g", o->calm_s);
    if (o->expensive) rm_str_add(s, ", --expensive");
    json_decref(given);
}

/* Our own replicate as it comes has no name. */
static void name_own(rm_strbuf *s, const bench_options *o)
{
    rm_strbuf options = { 0 };
    name_options(&options, o);
    const bool as_it_comes = !o->steps && !o->metric.n && !options.n;
    s->failed |= options.failed;
    rm_str_free(&options);
    if (!as_it_comes) rm_str_add(s, "bench gate selftest --replicate");
    if (o->steps) rm_str_addf(s, " --steps %d", o->steps);
    for (int32_t i = 0; i < o->metric.n; i++) rm_str_addf(s, ", %s", o->metric.item[i]);
}

/* What tells these verdicts from those on other commands. */
static rm_status name_replicate(real *r)
{
    const bench_options *o = r->t->o;
    rm_strbuf s = { 0 };
    if (r->slow > 0 && !o->a[0] != !o->b[0]) return rm_fail(RM_E_ARG, "--power on commands of your own wants --a CMD and --b CMD, which is slower by --slow");
    if (!o->a[0] && o->b[0]) return rm_fail(RM_E_ARG, "--aa on a command of your own wants it as --a CMD");
    if (o->a[0] && o->metric.n != 1) return rm_fail(RM_E_ARG, "--metric is missing, or there are several: which number of %s is compared?", o->a);
    if (!o->a[0]) name_own(&s, o);
    else rm_str_addf(&s, "%s%s%s, %s", o->a, r->slow > 0 ? " | " : "", r->slow > 0 ? o->b : "", o->metric.item[0]);
    name_options(&s, o);
    r->replicate = rm_str_take(&s);
    if (r->replicate) rm_utf8_clean(r->replicate);
    return r->replicate ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the command");
}

static rm_status try_for_real(real *r, int32_t want)
{
    RM_TRY(bench_share_parse(r->t->o->effect, "--effect", &r->effect));
    RM_TRY(name_replicate(r));
    RM_TRY(rm_store_each_run(r->t->run.store, "gate", count_run, r));
    RM_TRY(r->status);
    RM_TRY(make_place(r));
    rm_status st = go_on(r, want);
    remove_place(r);
    if (st == RM_OK || st == RM_E_INTERRUPTED) {
        const rm_status concluded = conclude(r);
        if (st == RM_OK) st = concluded;
    }
    if (st == RM_OK && r->n < want)
        st = rm_fail(RM_E_PARTIAL, "%lld of %d verdicts within the budget of %g s; the same command goes on", (long long)r->n, want, r->t->o->budget_s);
    return st;
}

rm_status bench_trial_real(bench_trial *t, int32_t want, double slow)
{
    real r = { .t = t, .kind = slow > 0 ? "power" : "aa", .slow = slow, .machine = bench_row_text(t->run.environment, "hard_sha") };
    const rm_status st = try_for_real(&r, want);
    free(r.replicate);
    return st;
}
