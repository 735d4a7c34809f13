/* The facts of this program: a few training steps on synthetic images, counted. */
#include "base/sha256.h"
#include "bench/commands.h"
#include "bench/gate_facts.h"
#include "bench/inject.h"
#include "bench/session.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, COUNTED = 2 }; /* steps */
static const char *const trained_by[] = { "scaling", "split-sweep", "train", "layers", "profile" };

/* ---- the words of "scaling --px 64 --set 'a b'" */

enum { WORDS_MOST = 64 };
typedef struct words {
    char *text, *word[WORDS_MOST + 1];
    int n;
} words;

/* Splits in place at blanks; quotes keep them. */
static rm_status split_words(const char *args, words *out)
{
    words w = { .text = strdup(args) };
    char quote = '\0', *to = w.text;
    bool in_word = false;
    if (!w.text) return rm_fail(RM_E_NOMEM, "out of memory for --bench");
    *out = w;
    for (char *p = w.text; *p; p++) {
        const bool blank = !quote && (*p == ' ' || *p == '\t' || *p == '\n');
        if (!blank && !in_word && out->n == WORDS_MOST) return rm_fail(RM_E_ARG, "--bench has more than %d words", WORDS_MOST);
        if (!blank && !in_word) out->word[out->n++] = to;
        if (blank && in_word) *to++ = '\0';
        in_word = !blank;
        if (blank) continue;
        if (quote ? *p == quote : *p == '\'' || *p == '"') quote = quote ? '\0' : *p;
        else *to++ = *p;
    }
    *to = '\0';
    if (quote) return rm_fail(RM_E_ARG, "--bench %s: a quote does not end", args);
    return out->n ? RM_OK : rm_fail(RM_E_ARG, "--bench is empty");
}

bool bench_facts_has(const char *args)
{
    const size_t n = strcspn(args, " ");
    for (size_t i = 0; i < RM_COUNT(trained_by); i++)
        if (strlen(trained_by[i]) == n && strncmp(trained_by[i], args, n) == 0) return true;
    return false;
}

/* ---- known trouble, to prove that facts find it */

static rm_status make_trouble(const bench_inject_counts *t, rm_engine *e)
{
    double sum = 1;
    for (int i = 0; i < t->allocs; i++) {
        rm_buf *buf;
        RM_TRY(rm_buf_alloc(e->device, RM_MEM_DEVICE, 4096, &buf));
        rm_buf_free(e->device, buf);
    }
    for (int i = 0; i < t->reduces; i++) RM_TRY(rm_comm_host_reduce(e->comm, &sum, 1, RM_F64, RM_SUM));
    return RM_OK;
}

/* ---- counting */

/* In all counted steps. */
typedef struct counts {
    uint64_t runs, allocs, calls, bytes;
} counts;

static counts read_counts(const rm_engine *e)
{
    return (counts) { rm_device_runs(e->device), rm_device_allocs(e->device), rm_comm_calls(e->comm), rm_comm_bytes(e->comm) };
}

static rm_status run_steps(const bench_options *o, const bench_session *s, rm_engine *e, counts *out, double *out_loss)
{
    rm_synthetic synthetic;
    rm_step step = { 0 };
    bench_inject_counts t;
    counts begin = { 0 };
    rm_status st = RM_OK;
    RM_TRY(bench_inject_parse_counts(o->inject, &t));
    RM_TRY(rm_synthetic_new(s->batch, e->cfg.px, s->classes, (uint64_t)o->seed, &synthetic));
    const rm_source source = rm_source_synthetic(&synthetic);
    for (int i = 0; st == RM_OK && i < WARM_UP + COUNTED; i++) {
        if (i == WARM_UP) begin = read_counts(e);
        st = rm_engine_step(e, &source, (uint64_t)i, 1e-4, &step);
        if (st == RM_OK) st = make_trouble(&t, e);
    }
    const counts end = read_counts(e);
    rm_synthetic_free(&synthetic);
    *out = (counts) { end.runs - begin.runs, end.allocs - begin.allocs, end.calls - begin.calls, end.bytes - begin.bytes };
    *out_loss = step.loss;
    return st;
}

/* {implementation: ops that use it}, and a digest of which op has which: a change of places must not go unseen. */
static json_t *implementations(const rm_engine *e, char digest[65])
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(e->net, &node);
    json_t *all = json_object();
    rm_sha256 sum;
    rm_sha256_begin(&sum);
    for (int32_t i = 0; i < n; i++) {
        const char *impl = node[i].info.impl;
        const json_int_t before = json_integer_value(json_object_get(all, impl));
        json_object_set_new(all, impl, json_integer(before + 1));
        rm_sha256_add(&sum, node[i].name, strlen(node[i].name) + 1);
        rm_sha256_add(&sum, impl, strlen(impl) + 1);
    }
    rm_sha256_end(&sum, digest);
    return all;
}

/* Of a step. One more in two steps is half a one: no whole number that would hide it. */
static json_t *a_step(uint64_t sum) { return sum % COUNTED ? json_real((double)sum / COUNTED) : json_integer((json_int_t)(sum / COUNTED)); }

static json_t *facts_json(const rm_engine *e, const counts *c, double loss)
{
    rm_net_size z;
    char digest[65];
    json_t *impl = implementations(e, digest);
    rm_net_get_size(e->net, &z);
    return json_pack("{s:o, s:i, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s}", "launches", a_step(c->runs), "reorders", z.reorders,
                     "collective_calls", a_step(c->calls), "collective_bytes", a_step(c->bytes), "all_reduces", (json_int_t)e->buckets.n, "flops",
                     (json_int_t)z.flops, "bytes", (json_int_t)z.bytes, "allocations", (json_int_t)c->allocs, "peak_bytes",
                     (json_int_t)rm_device_peak_bytes(e->device), "parameters", (json_int_t)rm_graph_params(&e->graph), "loss", bench_number(loss),
                     "implementations", impl, "places", digest);
}

static rm_status facts_rank(const bench_options *o, json_t **out)
{
    bench_session s;
    rm_engine e = { 0 };
    counts c;
    double loss;
    rm_status st = RM_OK;
    RM_TRY(bench_session_plan(o, "tiny", &s));
    RM_TRY_GOTO(st, bench_session_device(o, &s), out);
    /* Op by op: a recording would launch nothing that is counted. */
    const rm_engine_config ec = { .recipe = &s.recipe,
                                  .dtype = s.dtype,
                                  .px = s.recipe.px,
                                  .batch = s.batch,
                                  .classes = s.classes,
                                  .no_fuse = o->no_fuse,
                                  .no_record = true,
                                  .split = bench_split(o, &s),
                                  .split_order = bench_split_order(o),
                                  .update_on_arrival = o->update_on_arrival,
                                  .seed = (uint64_t)o->seed };
    RM_TRY_GOTO(st, rm_engine_new(s.device, s.comm, &ec, &e), out);
    RM_TRY_GOTO(st, run_steps(o, &s, &e, &c, &loss), out);
    if (rm_comm_rank(s.comm) == 0)
        *out = json_pack("{s:s, s:s, s:i, s:i, s:i, s:o}", "device", s.info.device, "dtype", rm_dtype_name(s.dtype), "ranks", rm_comm_size(s.comm), "px",
                         e.cfg.px, "batch", s.batch, "facts", facts_json(&e, &c, loss));
out:
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}

/* ---- */

static int32_t most_of(const int32_t *list, int32_t n)
{
    int32_t most = 1;
    for (int32_t i = 0; i < n; i++)
        if (list[i] > most) most = list[i];
    return most;
}

static rm_status facts_of(const bench_options *outer, words *w, json_t **out)
{
    const bench_command *command = bench_command_find(w->word[0]);
    bench_options o;
    int32_t n = 1, cores, list[BENCH_MAX_LIST] = { 1 };
    RM_TRY(bench_options_parse(command, w->n - 1, w->word + 1, &o));
    o.rank_result = outer->rank_result;
    o.quiet = outer->quiet;
    o.data = "synthetic";
    if (o.gpus[0]) RM_TRY(bench_parse_list(o.gpus, "--gpus", list, &n));
    const int32_t ranks = most_of(list, n);
    RM_TRY(bench_cores_per_device(&o, ranks, &cores));
    return bench_run_ranks(&o, ranks, cores, true, facts_rank, out);
}

rm_status bench_facts_of(const bench_options *o, const char *args, json_t **out)
{
    words w = { 0 };
    json_t *facts = NULL;
    if (!bench_facts_has(args))
        return rm_fail(RM_E_UNSUPPORTED, "--bench %s: only what trains the network has facts: scaling, split-sweep, train, layers and profile", args);
    rm_status st = split_words(args, &w);
    if (st == RM_OK) st = facts_of(o, &w, &facts);
    free(w.text);
    if (st != RM_OK) {
        json_decref(facts);
        return st;
    }
    if (facts) json_object_set_new(facts, "bench", json_string(args));
    *out = facts;
    return RM_OK;
}
