#include "bench/gate_pins.h"
#include "base/log.h"
#include "bench/gate_build.h"
#include "bench/gate_executable.h"
#include "bench/rows.h"
#include "reports/gate_text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- days */

static void today_is(char out[11])
{
    const time_t now = time(NULL);
    struct tm t;
    gmtime_r(&now, &t);
    strftime(out, 11, "%Y-%m-%d", &t);
}

static bool is_day(const char *text)
{
    struct tm t = { .tm_isdst = 0 };
    int n = 0;
    if (strlen(text) != 10 || sscanf(text, "%4d-%2d-%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &n) != 3 || n != 10) return false;
    const int month = t.tm_mon -= 1, day = t.tm_mday;
    t.tm_year -= 1900;
    return timegm(&t) != (time_t)-1 && t.tm_mon == month && t.tm_mday == day; /* no 30th of February */
}

rm_status bench_pins_check(const bench_options *o)
{
    char today[11];
    today_is(today);
    if (!o->accept[0] != !o->until[0]) return rm_fail(RM_E_ARG, "--accept REASON and --until YYYY-MM-DD come together: nothing is accepted for ever");
    if (o->until[0] && !is_day(o->until)) return rm_fail(RM_E_ARG, "--until %s: it is a day such as 2031-12-31", o->until);
    if (o->until[0] && strcmp(o->until, today) < 0) return rm_fail(RM_E_ARG, "--until %s is over: today is %s", o->until, today);
    if (o->against[0] && (o->a[0] || o->base[0])) return rm_fail(RM_E_ARG, "--against %s is side A: --a and --base have no place beside it", o->against);
    if (o->against[0] && !o->b[0] == !o->head[0]) return rm_fail(RM_E_ARG, "--against %s wants side B: --b CMD or --head REV", o->against);
    return RM_OK;
}

/* ---- the newest of a key over all gates */

static int note_run(void *ctx, const rm_run_row *r)
{
    json_array_append_new(ctx, json_integer((json_int_t)r->id));
    return 0;
}

/* *out NULL: there is none. fits NULL: any. */
static rm_status newest(rm_store *store, const char *key, bool (*fits)(const json_t *row, const void *ctx), const void *ctx, json_t **out)
{
    json_t *runs = json_array(), *row = NULL;
    size_t i;
    const json_t *id;
    rm_status st = runs ? rm_store_each_run(store, "gate", note_run, runs) : rm_fail(RM_E_NOMEM, "out of memory for the runs");
    json_array_foreach(runs, i, id)
    {
        if (st == RM_OK) st = rm_store_find(store, json_integer_value(id), key, &row);
        if (st != RM_OK || (row && (!fits || fits(row, ctx)))) break;
        json_decref(row);
        row = NULL;
    }
    json_decref(runs);
    if (st == RM_OK) *out = row;
    return st;
}

/* ---- pins */

static void pin_key(const char *name, char *out, size_t size) { snprintf(out, size, "pin %.100s", name); }

rm_status bench_pins_keep(rm_store *store, int64_t run, const char *name, double effect, const bench_gate_side *b)
{
    char key[120];
    const bool build = b->program[0] != '\0';
    json_t *row = json_pack("{s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:f}", "kind", "pin", "name", bench_row_words(name), "label", bench_row_words(b->label), "revision",
                            b->revision, "digest", b->digest, "program", b->program, "command", build ? "" : b->command, "effect", effect);
    pin_key(name, key, sizeof key);
    if (!row) return rm_fail(RM_E_ARG, "--pin %s: a baseline is kept as UTF-8 text, which the command of side B is not", name);
    const rm_status st = rm_store_result(store, run, key, "measured", true, row, NULL, 0);
    json_decref(row);
    if (st == RM_OK) rm_info("%s is the baseline %s from now on", b->label, name);
    return st;
}

/* The program that was pinned, where it still is that; else its revision, to be built again. */
static rm_status use_program(const json_t *pin, const char *name, bench_options *o)
{
    const char *program = bench_row_text(pin, "program"), *revision = bench_row_text(pin, "revision");
    bench_gate_side side = { .scratch = "/tmp" };
    const bool same = access(program, X_OK) == 0 && bench_gate_program(program, "", &side) == RM_OK && strcmp(side.digest, bench_row_text(pin, "digest")) == 0;
    free(side.program);
    if (!same && !revision[0]) return rm_fail(RM_E_NO_BASELINE, "the program that was pinned as %s is gone, or another one now: %s", name, program);
    o->base = same ? program : revision;
    return RM_OK;
}

/* Of a command no copy is kept: after a build in place it would be compared with itself. A pin from before digests has none. */
static rm_status use_command(const json_t *pin, const char *name, bench_options *o)
{
    const char *command = bench_row_text(pin, "command"), *was = bench_row_text(pin, "digest");
    char now[65];
    bench_executable_digest(command, now);
    if (was[0] && strcmp(was, now) != 0)
        return rm_fail(RM_E_NO_BASELINE, "the program that was pinned as %s is gone, or another one now: %s; pin a copy that stays as it is", name, command);
    o->a = command;
    return RM_OK;
}

rm_status bench_pins_find(rm_store *store, const char *name, bench_options *o, json_t **keep)
{
    char key[120];
    json_t *pin = NULL;
    pin_key(name, key, sizeof key);
    RM_TRY(newest(store, key, NULL, NULL, &pin));
    if (!pin) return rm_fail(RM_E_NO_BASELINE, "no baseline is pinned as %s in %s; --pin %s keeps one", name, o->store, name);
    *keep = pin;
    const bool build = bench_row_text(pin, "program")[0] != '\0';
    if (build != (o->head[0] != '\0'))
        return rm_fail(RM_E_NO_BASELINE, "the baseline %s is %s: side B has to be one, too", name, build ? "a build (--head)" : "a command (--b)");
    return build ? use_program(pin, name, o) : use_command(pin, name, o);
}

/* ---- accepted regressions */

/* What a regression was of: the same runs, the same number. */
static json_t *scope_of(const bench_options *o)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "bench", bench_row_words(o->gate_bench), "a", bench_row_words(o->a), "b", bench_row_words(o->b), "against",
                     bench_row_words(o->against));
}

static void accepted_key(const json_t *row, char *out, size_t size)
{
    snprintf(out, size, "accepted %.20s %.100s", bench_row_text(row, "tier"), bench_row_text(row, "metric"));
}

static rm_status keep_one(const bench_options *o, rm_store *store, int64_t run, const json_t *row)
{
    char key[160];
    json_t *kept = json_pack("{s:s, s:s, s:s, s:o, s:O?, s:O?, s:O?, s:o, s:s}", "kind", "accepted", "metric", bench_row_text(row, "metric"), "tier",
                             bench_row_text(row, "tier"), "scope", scope_of(o), "bound", json_object_get(row, "high"), "differences",
                             json_object_get(row, "differences"), "layers", json_object_get(row, "layers"), "reason", bench_row_words(o->accept), "until", o->until);
    accepted_key(row, key, sizeof key);
    const rm_status st = kept ? rm_store_result(store, run, key, "measured", true, kept, NULL, 0) : rm_fail(RM_E_NOMEM, "out of memory for what is accepted");
    json_decref(kept);
    return st;
}

rm_status bench_accepted_keep(const bench_options *o, rm_store *store, int64_t run, const json_t *rows)
{
    size_t i, n = 0;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (rp_verdict_of(row) != RP_REGRESSED) continue;
        RM_TRY(keep_one(o, store, run, row));
        n++;
    }
    if (n == 0) rm_warn("--accept: there is no regression to accept");
    return RM_OK;
}

static bool same_scope(const json_t *accepted, const void *scope) { return json_equal(json_object_get(accepted, "scope"), scope); }

static bool same_layer(const json_t *a, const json_t *b)
{
    return !strcmp(bench_row_text(a, "name"), bench_row_text(b, "name")) && !strcmp(bench_row_text(a, "pass"), bench_row_text(b, "pass"));
}

/* Is every layer that is slower now one that was accepted, and slower than it was then by less than the effect? */
static bool layers_within(const json_t *accepted, const json_t *now, double effect)
{
    size_t i, k;
    const json_t *l, *was;
    json_array_foreach(now, i, l)
    {
        bool covered = false;
        json_array_foreach(accepted, k, was) covered |= same_layer(l, was) && bench_row_real(l, "delta") < bench_row_real(was, "delta") + effect;
        if (!covered) return false;
    }
    return true;
}

/* Facts are accepted as they became; a timing up to its upper bound then; layers, which have no bound, up to their effect beyond what they were slower by. Anything
 * else is another regression. */
static bool within(const json_t *accepted, const json_t *row)
{
    const json_t *bound = json_object_get(accepted, "bound"), *differences = json_object_get(row, "differences"), *layers = json_object_get(row, "layers");
    if (json_array_size(layers)) return layers_within(json_object_get(accepted, "layers"), layers, bench_row_real(row, "effect"));
    if (json_array_size(differences)) return json_equal(differences, json_object_get(accepted, "differences"));
    return json_is_number(bound) && bench_row_real(row, "delta") <= json_number_value(bound);
}

static void mark(json_t *row, const json_t *accepted, const char *today)
{
    char text[900];
    const char *until = bench_row_text(accepted, "until"), *why = bench_row_text(accepted, "reason"), *old = bench_row_text(row, "reason");
    const bool over = strcmp(until, today) < 0, inside = within(accepted, row);
    if (over) snprintf(text, sizeof text, "%s%swhat was accepted (%s) ended on %s", old, old[0] ? "; " : "", why, until);
    else if (!inside) snprintf(text, sizeof text, "%s%sworse than, or other than, what was accepted (%s)", old, old[0] ? "; " : "", why);
    else snprintf(text, sizeof text, "a regression, accepted until %s: %s%s%s", until, why, old[0] ? "; " : "", old);
    json_object_set_new(row, "reason", bench_row_words(text));
    if (over || !inside) return;
    json_object_set_new(row, "verdict", json_string(rp_verdict_key(RP_PASS)));
    json_object_set_new(row, "accepted", json_pack("{s:s, s:s}", "reason", why, "until", until));
}

rm_status bench_accepted_apply(const bench_options *o, rm_store *store, const char *given, json_t *rows)
{
    char today[11];
    size_t i;
    json_t *row, *scope = scope_of(o);
    rm_status st = RM_OK;
    today_is(today);
    json_array_foreach(rows, i, row)
    {
        char key[160];
        json_t *accepted = NULL;
        if (rp_verdict_of(row) != RP_REGRESSED) continue;
        accepted_key(row, key, sizeof key);
        st = newest(store, key, same_scope, scope, &accepted);
        if (st != RM_OK) break;
        if (accepted) mark(row, accepted, given ? given : today);
        json_decref(accepted);
    }
    json_decref(scope);
    return st;
}
