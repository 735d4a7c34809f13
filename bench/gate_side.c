#define _GNU_SOURCE
#include "bench/gate_side.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "bench/gate_build.h"
#include "bench/gate_executable.h"
#include "bench/options.h"
#include "bench/rows.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- documents */

static rm_status plain_document(const bench_gate_side *side, const bench_process *run, json_t **out)
{
    *out = json_loadb(run->out, run->out_bytes, 0, NULL); /* NULL: metrics of the run itself need none */
    return RM_OK;
}

typedef struct collected {
    rm_store *store;
    json_t *samples; /* {key: {"step_s": [...]}} */
    rm_status st;
} collected;

static int take_samples(void *ctx, const rm_result_row *r)
{
    collected *c = ctx;
    double *v;
    size_t n;
    c->st = rm_store_samples(c->store, r->id, "step_s", &v, &n);
    if (c->st != RM_OK) return 1;
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(all, bench_number(v[i]));
    free(v);
    if (n) json_object_set_new(c->samples, r->key, json_pack("{s:o}", "step_s", all));
    else json_decref(all);
    return 0;
}

static int newest_run(void *ctx, const rm_run_row *r)
{
    *(int64_t *)ctx = r->id;
    return 1;
}

static rm_status add_samples(const char *path, json_t *document)
{
    collected c = { .samples = json_object() };
    int64_t run = 0;
    rm_status st = rm_store_open(path, true, &c.store);
    if (st == RM_OK) st = rm_store_each_run(c.store, NULL, newest_run, &run);
    if (st == RM_OK && run) st = rm_store_each_result(c.store, run, take_samples, &c);
    if (st == RM_OK) st = c.st;
    if (st == RM_OK && json_object_size(c.samples)) json_object_set(document, "samples", c.samples);
    rm_store_close(c.store);
    json_decref(c.samples);
    return st;
}

/* One a side: both runs of a pair are over before they are read. */
static void store_path(const bench_gate_side *side, char *out, size_t size) { snprintf(out, size, "%s/%c.db", side->scratch, side->letter); }

/* What our program prints, and beside it every step that it kept: "samples". */
static rm_status bench_document(const bench_gate_side *side, const bench_process *run, json_t **out)
{
    char path[128];
    json_t *document = json_loadb(run->out, run->out_bytes, 0, NULL);
    store_path(side, path, sizeof path);
    if (document && json_is_object(document) && access(path, R_OK) == 0) {
        const rm_status st = add_samples(path, document);
        if (st != RM_OK) {
            json_decref(document);
            return st;
        }
    }
    *out = document;
    return RM_OK;
}

static void fresh_store(const bench_gate_side *side)
{
    static const char *const suffix[] = { "", "-wal", "-shm", "-journal" };
    char path[128], one[140];
    store_path(side, path, sizeof path);
    for (size_t i = 0; i < RM_COUNT(suffix); i++) {
        snprintf(one, sizeof one, "%s%s", path, suffix[i]);
        unlink(one);
    }
}

/* ---- making */

static rm_status of_commands(const bench_options *o, bench_sides *s)
{
    const char *const command[2] = { o->a, o->b };
    for (int i = 0; i < 2; i++) {
        bench_gate_side *side = &s->at[i];
        side->command = strdup(command[i]);
        side->program = strdup("");
        if (!side->command || !side->program) return rm_fail(RM_E_NOMEM, "out of memory for the commands");
        snprintf(side->label, sizeof side->label, "%.*s", (int)sizeof side->label - 1, command[i]);
        rm_utf8_clean(side->label);
        bench_executable_digest(command[i], side->digest);
        side->document = plain_document;
    }
    return RM_OK;
}

static rm_status of_build(const bench_options *o, const char *what, bench_gate_side *side)
{
    rm_strbuf s = { 0 };
    char path[128];
    RM_TRY(bench_gate_program(what, o->cmake_args, side));
    store_path(side, path, sizeof path);
    bench_put_word(&s, side->program);
    rm_str_addf(&s, " %s --json - --quiet --store %s", o->gate_bench, path);
    side->command = rm_str_take(&s);
    side->document = bench_document;
    side->before = fresh_store;
    return side->command ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the commands");
}

rm_status bench_sides_open(const bench_options *o, bench_sides *out)
{
    const bool commands = o->a[0] || o->b[0], builds = o->base[0] || o->head[0];
    *out = (bench_sides) { .builds = builds };
    if (commands == builds) return rm_fail(RM_E_ARG, "what is to be compared? --a CMD --b CMD, or --base REV --head REV, or two files of results");
    if (commands && (!o->a[0] || !o->b[0])) return rm_fail(RM_E_ARG, "--a and --b come together");
    if (builds && (!o->base[0] || !o->head[0])) return rm_fail(RM_E_ARG, "--base and --head come together");
    if (builds && !o->gate_bench[0])
        return rm_fail(RM_E_ARG,
                       "--bench is missing: what is each build to run? For example --bench 'layers --px 64 --batch 4 --steps 25 --warmup 0 --no-peaks'");
    if (commands && o->gate_bench[0]) return rm_fail(RM_E_ARG, "--bench belongs to --base and --head; --a and --b are whole commands");
    RM_TRY(bench_place_make("gate", out->scratch));
    for (int i = 0; i < 2; i++) {
        out->at[i].scratch = out->scratch;
        out->at[i].letter = "ab"[i];
    }
    if (commands) return of_commands(o, out);
    const char *plans = getenv("RINGMARK_PLANS");
    if (plans && strcmp(plans, "none") == 0) rm_warn("RINGMARK_PLANS is none: each run chooses its implementations anew, and A and B may differ in them");
    rm_status st = of_build(o, o->base, &out->at[0]);
    if (st == RM_OK) st = of_build(o, o->head, &out->at[1]);
    for (int i = 0; i < 2; i++)
        if (out->at[i].revision[0] && !o->keep_builds) bench_gate_forget_builds(i ? o->head : o->base, o->cmake_args);
    return st;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *w) { return remove(path); }

void bench_sides_close(bench_sides *s)
{
    for (int i = 0; i < 2; i++) {
        free(s->at[i].command);
        free(s->at[i].program);
    }
    if (s->scratch[0]) nftw(s->scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    s->scratch[0] = '\0';
}

bool bench_sides_identical(const bench_sides *s) { return s->builds && s->at[0].digest[0] && strcmp(s->at[0].digest, s->at[1].digest) == 0; }

json_t *bench_sides_json(const bench_sides *s)
{
    json_t *all = json_array();
    for (int i = 0; i < 2; i++)
        json_array_append_new(all,
                              json_pack("{s:o, s:s, s:s}", "label", bench_row_words(s->at[i].label), "revision", s->at[i].revision, "digest", s->at[i].digest));
    return all;
}
