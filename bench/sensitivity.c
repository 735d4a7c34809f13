#include "bench/sensitivity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "model/engine_replay.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Slots of a round: plain steps, then a step of each probe. */
typedef struct measuring {
    rm_comm *comm;
    rm_engine *e;
    const rm_source *src;
    bench_probe *probe;        /* (n) rank 0's */
    int32_t n, plain, rounds, done;
    uint64_t seed;
    bool interrupted;
    double *step_s;            /* (rounds, plain + n) of this rank */
    double *predicted, *time_s; /* (rounds, plain, n) from each plain step of this rank */
} measuring;

static size_t slots(const measuring *m) { return (size_t)m->plain + (size_t)m->n; }
static rm_status nomem(void) { return rm_fail(RM_E_NOMEM, "out of memory for sensitivities"); }

uint64_t bench_sensitivity_delay(uint64_t step_ns)
{
    static const uint64_t least_ns = 1000000;
    return step_ns / 20 > least_ns ? step_ns / 20 : least_ns;
}

/* ---- the probes */
static const char *const kinds[] = { [BENCH_PROBE_OP] = "op", [BENCH_PROBE_BUCKET] = "bucket", [BENCH_PROBE_INPUT] = "input" };

static const rm_node *node_of(const measuring *m, const bench_probe *p)
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(m->e->net, &node);
    return p->index >= 0 && p->index < n ? &node[p->index] : NULL;
}

static bool reduces(const rm_engine *e) { return rm_comm_size(e->comm) > 1 && (e->mode == RM_REDUCE_OVERLAPPED || e->mode == RM_REDUCE_AFTER); }

static rm_status check(const measuring *m, const bench_probe *p)
{
    static const uint64_t longest_ns = 600000000000u;
    const uint32_t n_bucket = m->e->buckets.n;
    if (!p->delay_ns || p->delay_ns > longest_ns) return rm_fail(RM_E_ARG, "sensitivity: a delay of %llu ns: give more than 0 and at most 600 s", (unsigned long long)p->delay_ns);
    if (p->kind == BENCH_PROBE_OP && !node_of(m, p)) return rm_fail(RM_E_ARG, "sensitivity: this network has no op %d", p->index);
    if (p->kind == BENCH_PROBE_BUCKET && !reduces(m->e)) return rm_fail(RM_E_ARG, "sensitivity: nothing is reduced here, so that no bucket can be late: use several ranks");
    if (p->kind == BENCH_PROBE_BUCKET && (p->index < 0 || (uint32_t)p->index >= n_bucket))
        return rm_fail(RM_E_ARG, "sensitivity: there is no bucket %d: this split has %u", p->index, n_bucket);
    return RM_OK;
}

/* How often a step runs it. */
static uint64_t times_a_step(const measuring *m, const bench_probe *p)
{
    const rm_recipe *r = m->e->cfg.recipe;
    const rm_pass pass = p->kind == BENCH_PROBE_OP ? node_of(m, p)->pass : RM_PASS_INPUT;
    const bool once = p->kind == BENCH_PROBE_BUCKET || pass == RM_PASS_WEIGHTS || pass == RM_PASS_UPDATE || r->accumulate <= 1;
    return once ? 1 : (uint64_t)r->accumulate;
}

static uint64_t delay_ns(const measuring *m, const bench_probe *p) { return times_a_step(m, p) * p->delay_ns; }

/* NULL: the plain step. */
static rm_inject injected(rm_inject before, const bench_probe *p)
{
    rm_inject k = before;
    if (!p) return k;
    if (p->kind == BENCH_PROBE_INPUT) k.input_ns += p->delay_ns;
    if (p->kind == BENCH_PROBE_OP) k.node = p->index, k.node_ns = p->delay_ns;
    if (p->kind == BENCH_PROBE_BUCKET) k.bucket = p->index, k.bucket_ns = p->delay_ns;
    return k;
}

/* ---- what a plain step says of each */
static void predict(const measuring *m, const rm_step *s, const rm_replay *r, double *predicted, double *time_s)
{
    for (int32_t i = 0; i < m->n; i++) {
        const bench_probe *p = &m->probe[i];
        const bool bucket = p->kind == BENCH_PROBE_BUCKET;
        const uint32_t op = p->kind == BENCH_PROBE_OP ? rm_engine_replay_op(m->e, p->index) : rm_engine_replay_input(m->e);
        predicted[i] = bucket ? rm_replay_bucket_slope(r, (uint32_t)p->index, delay_ns(m, p)) : rm_replay_op_slope(r, op, delay_ns(m, p));
        time_s[i] = rm_s(bucket ? r->bucket[p->index].dur_ns : p->kind == BENCH_PROBE_OP ? r->op[op].dur_ns : s->budget.input_ns);
    }
}

static rm_status note_plain(measuring *m, size_t at, const rm_step *s)
{
    rm_replay r;
    RM_TRY(rm_engine_replay(m->e, s, &r));
    predict(m, s, &r, m->predicted + at * (size_t)m->n, m->time_s + at * (size_t)m->n);
    rm_replay_free(&r);
    return RM_OK;
}

/* ---- steps */
static rm_status take(measuring *m, int32_t round, int32_t slot)
{
    const rm_inject before = m->e->inject;
    rm_step s;
    RM_TRY(bench_meet(m->comm, &m->interrupted));
    if (m->interrupted) return RM_OK;
    m->e->inject = injected(before, slot < m->plain ? NULL : &m->probe[slot - m->plain]);
    const rm_status st = rm_engine_step(m->e, m->src, 0, 0.0, &s);
    m->e->inject = before;
    RM_TRY(st);
    if (round < 0) return RM_OK; /* warm-up */
    m->step_s[(size_t)round * slots(m) + (size_t)slot] = rm_s(s.step_ns);
    return slot < m->plain ? note_plain(m, (size_t)round * (size_t)m->plain + (size_t)slot, &s) : RM_OK;
}

static rm_status one_round(measuring *m, int32_t round, int32_t *order)
{
    rm_rng g = rm_rng_for(m->seed, 0x73656e73u, (uint64_t)round); /* the same order on every rank, another one in every round */
    rm_rng_shuffle(&g, m->plain + m->n, order);
    for (int32_t i = 0; i < m->plain + m->n; i++) {
        RM_TRY(take(m, round, order[i]));
        if (m->interrupted) return RM_OK;
    }
    m->done++;
    return RM_OK;
}

static rm_status all_rounds(measuring *m)
{
    int32_t *order = calloc(slots(m), sizeof *order);
    rm_status st = order ? take(m, -1, 0) : nomem();
    rm_progress p;
    rm_progress_begin(&p, "sensitivity", "rounds", (uint64_t)m->rounds);
    for (int32_t i = 0; st == RM_OK && !m->interrupted && i < m->rounds; i++) {
        st = one_round(m, i, order);
        rm_progress_update(&p, (uint64_t)i + 1, NULL);
    }
    rm_progress_end(&p);
    free(order);
    if (st == RM_OK && !m->done) st = rm_fail(RM_E_INTERRUPTED, "interrupted before the first round was done");
    return st;
}

/* ---- on rank 0 */
/* All ranks' numbers, a rank after the other. */
typedef struct gathered { double *step_s, *predicted, *time_s; int32_t ranks; } gathered;

static size_t step_at(const measuring *m, int32_t rank, int32_t round, int32_t slot) { return ((size_t)rank * (size_t)m->done + (size_t)round) * slots(m) + (size_t)slot; }

static int32_t slowest(const measuring *m, const gathered *g, int32_t round, int32_t slot)
{
    int32_t most = 0;
    for (int32_t k = 1; k < g->ranks; k++)
        if (g->step_s[step_at(m, k, round, slot)] > g->step_s[step_at(m, most, round, slot)]) most = k;
    return most;
}

static double step_of(const measuring *m, const gathered *g, int32_t round, int32_t slot) { return g->step_s[step_at(m, slowest(m, g, round, slot), round, slot)]; }

/* Of probe i, from the slowest rank of each plain step. */
static double typical(const measuring *m, const gathered *g, const double *x, int32_t i, double *scratch)
{
    size_t n = 0;
    for (int32_t round = 0; round < m->done; round++)
        for (int32_t k = 0; k < m->plain; k++) {
            const size_t rank = (size_t)slowest(m, g, round, k), steps = (size_t)m->done * (size_t)m->plain;
            scratch[n++] = x[(rank * steps + (size_t)round * (size_t)m->plain + (size_t)k) * (size_t)m->n + (size_t)i];
        }
    return rm_median(scratch, n);
}

/* By how much longer the step of probe i is than the plain ones of its round, per second of its delay; each round. */
static void slopes(const measuring *m, const gathered *g, int32_t i, double *out, double *scratch)
{
    for (int32_t round = 0; round < m->done; round++) {
        for (int32_t k = 0; k < m->plain; k++) scratch[k] = step_of(m, g, round, k);
        out[round] = (step_of(m, g, round, m->plain + i) - rm_median(scratch, (size_t)m->plain)) / rm_s(delay_ns(m, &m->probe[i]));
    }
}

static json_t *what_json(const measuring *m, const bench_probe *p)
{
    char name[96] = "batch";
    const char *pass = "input";
    if (p->kind == BENCH_PROBE_OP) {
        snprintf(name, sizeof name, "%s", node_of(m, p)->name);
        pass = rm_pass_name(node_of(m, p)->pass);
    } else if (p->kind == BENCH_PROBE_BUCKET) {
        const rm_bucket *b = &m->e->buckets.at[p->index];
        snprintf(name, sizeof name, "gradients %u..%u", b->first, b->last);
        pass = "all_reduce";
    }
    json_t *o = json_pack("{s:s, s:s, s:s, s:i}", "kind", kinds[p->kind], "name", name, "pass", pass, "index", p->index);
    if (p->kind == BENCH_PROBE_INPUT) bench_set_null(o, "index", "there is one input");
    return o;
}

static json_t *probe_json(const measuring *m, const gathered *g, int32_t i, double *scratch)
{
    double *slope = scratch, *other = scratch + m->done, low, high;
    json_t *o = what_json(m, &m->probe[i]);
    slopes(m, g, i, slope, other);
    const double predicted = typical(m, g, g->predicted, i, other), measured = rm_median(slope, (size_t)m->done);
    rm_median_ci95(slope, (size_t)m->done, &low, &high);
    const struct { const char *key; double v; } numbers[] = {
        { "time_s", typical(m, g, g->time_s, i, other) }, { "delay_s", rm_s(delay_ns(m, &m->probe[i])) }, { "predicted_slope", predicted }, { "measured_slope", measured },
        { "slope_low", low }, { "slope_high", high }, { "prediction_error", measured - predicted },
    };
    for (size_t k = 0; k < RM_COUNT(numbers); k++) bench_set_number(o, numbers[k].key, numbers[k].v, "no rounds");
    json_object_set_new(o, "rounds", json_integer(m->done));
    return o;
}

static rm_status list_json(const measuring *m, const gathered *g, json_t **out)
{
    double *scratch = malloc((size_t)m->done * (1 + (size_t)m->plain) * sizeof *scratch);
    json_t *all = json_array();
    rm_status st = scratch && all ? RM_OK : nomem();
    for (int32_t i = 0; st == RM_OK && i < m->n; i++)
        if (json_array_append_new(all, probe_json(m, g, i, scratch)) != 0) st = nomem();
    free(scratch);
    if (st == RM_OK) *out = all;
    else json_decref(all);
    return st;
}

static rm_status gather(const measuring *m, const double *own, size_t n, double **out)
{
    *out = calloc(n * (size_t)rm_comm_size(m->comm) + 1, sizeof **out);
    return *out ? rm_comm_host_gather(m->comm, own, n * sizeof *own, *out) : nomem();
}

static rm_status gather_all(const measuring *m, json_t **out)
{
    const size_t plain = (size_t)m->done * (size_t)m->plain * (size_t)m->n;
    gathered g = { .ranks = rm_comm_size(m->comm) };
    rm_status st = gather(m, m->step_s, (size_t)m->done * slots(m), &g.step_s);
    if (st == RM_OK) st = gather(m, m->predicted, plain, &g.predicted);
    if (st == RM_OK) st = gather(m, m->time_s, plain, &g.time_s);
    if (st == RM_OK && rm_comm_rank(m->comm) == 0) st = list_json(m, &g, out);
    free(g.step_s);
    free(g.predicted);
    free(g.time_s);
    return st;
}

/* ---- all */
static rm_status measuring_new(measuring *m, const bench_probe *probe)
{
    const size_t n = (size_t)m->n, rounds = (size_t)m->rounds, plain = rounds * (size_t)m->plain;
    m->probe = malloc((n + 1) * sizeof *m->probe);
    m->step_s = calloc(rounds * slots(m), sizeof *m->step_s);
    m->predicted = calloc(plain * n + 1, sizeof *m->predicted);
    m->time_s = calloc(plain * n + 1, sizeof *m->time_s);
    if (!m->probe || !m->step_s || !m->predicted || !m->time_s) return nomem();
    memcpy(m->probe, probe, n * sizeof *m->probe);
    RM_TRY(rm_comm_host_broadcast(m->comm, m->probe, n * sizeof *m->probe, 0));
    for (int32_t i = 0; i < m->n; i++) RM_TRY(check(m, &m->probe[i]));
    return RM_OK;
}

rm_status bench_sensitivity_measure(rm_comm *comm, rm_engine *e, const rm_source *src, const bench_probe *probe, int32_t n, int32_t rounds, uint64_t seed, json_t **out)
{
    /* The more steps a round has, the more plain ones: all differences of a round hang on them. */
    measuring m = { .comm = comm, .e = e, .src = src, .n = n, .plain = 1 + n / 8, .rounds = rounds, .seed = seed };
    RM_ASSERT(n > 0 && rounds > 0);
    *out = NULL;
    if (!e->cfg.timers) return rm_fail(RM_E_ARG, "sensitivity: needs layer timers, which --no-timers left out");
    const bool recording = rm_engine_set_recording(e, false); /* a step with a delay in it cannot be, so that none is */
    rm_status st = measuring_new(&m, probe);
    if (st == RM_OK) st = all_rounds(&m);
    if (st == RM_OK) st = gather_all(&m, out);
    (void)rm_engine_set_recording(e, recording);
    free(m.probe);
    free(m.step_s);
    free(m.predicted);
    free(m.time_s);
    return st;
}
