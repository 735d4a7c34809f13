/* What could be changed, and what the step would gain: every estimate is an upper bound that the replay of the step has been asked for. */
#include "bench/profile.h"
#include "bench/rows.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keeps the best, in order. What gains nothing is no change. */
static void offer(bench_change out[BENCH_MOST_CHANGES], int32_t *n, const bench_change *c)
{
    int32_t at = *n;
    if (!(c->gain_s > 0)) return;
    while (at > 0 && out[at - 1].gain_s < c->gain_s) at--;
    if (at == BENCH_MOST_CHANGES) return;
    const int32_t last = *n < BENCH_MOST_CHANGES ? *n : BENCH_MOST_CHANGES - 1;
    memmove(&out[at + 1], &out[at], (size_t)(last - at) * sizeof out[0]);
    out[at] = *c;
    *n = last + 1;
}

/* ---- ops of one kind at their bounds */
static const char *op_of(const json_t *layer) { return bench_row_text(layer, "op"); }

/* What op i is above its bound; 0 where no bound is known. */
static uint64_t above_ns(const json_t *layer)
{
    const double above = bench_row_real(layer, "time_s") - bench_row_real(layer, "bound_s");
    return above > 0 ? (uint64_t)(above * 1e9) : 0;
}

static bool is_first_of_kind(const json_t *layers, size_t i)
{
    const char *op = op_of(json_array_get(layers, i));
    for (size_t k = 0; k < i; k++)
        if (!strcmp(op_of(json_array_get(layers, k)), op)) return false;
    return op[0] != '\0';
}

/* All ops of the kind of op `first` at their bounds: shortened in `less`, which is a copy of the replay. */
static void shorten(const json_t *layers, size_t first, const rm_replay *less, bench_change *c)
{
    const char *op = op_of(json_array_get(layers, first));
    uint64_t most = 0;
    int32_t ops = 0;
    for (size_t i = first; i < less->n_op && i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        uint64_t above = above_ns(layer);
        if (strcmp(op_of(layer), op) != 0) continue;
        if (above > less->op[i].dur_ns) above = less->op[i].dur_ns;
        less->op[i].dur_ns -= above;
        ops++;
        if (above <= most) continue;
        most = above;
        c->probe.index = (int32_t)i;
    }
    snprintf(c->what, sizeof c->what, ops == 1 ? "%s at its bound" : "%s: %d ops at their bounds", op, ops);
}

static void offer_ops(const json_t *layers, const rm_replay *r, bench_change out[BENCH_MOST_CHANGES], int32_t *n)
{
    const uint64_t now = rm_replay_step(r, &rm_replay_as_it_was);
    rm_replay_op *op = malloc((r->n_op + 1) * sizeof *op);
    for (size_t i = 0; op && i < r->n_op && i < json_array_size(layers); i++) {
        bench_change c = { .tested = true, .probe = { .kind = BENCH_PROBE_OP } };
        rm_replay less = *r;
        if (!is_first_of_kind(layers, i)) continue;
        memcpy(op, r->op, r->n_op * sizeof *op);
        less.op = op;
        shorten(layers, i, &less, &c);
        c.gain_s = 1e-9 * (double)(now - rm_replay_step(&less, &rm_replay_as_it_was));
        c.note = "tested on the op that is furthest above its bound";
        offer(out, n, &c);
    }
    free(op);
}

/* ---- the rest */
static void offer_straggler(const json_t *stragglers, bench_change out[BENCH_MOST_CHANGES], int32_t *n)
{
    size_t k;
    json_t *rank;
    json_array_foreach(stragglers, k, rank)
    {
        bench_change c = { .gain_s = bench_row_real(rank, "late_s"), .note = "its lateness is measured against the other ranks" };
        if (!json_is_true(json_object_get(rank, "straggler"))) continue;
        snprintf(c.what, sizeof c.what, "rank %lld on %s as fast as the others", bench_row_int(rank, "rank"), bench_row_text(rank, "host"));
        offer(out, n, &c);
    }
}

int32_t bench_changes_find(const json_t *got, const rm_replay *replay, double step_s, bench_change out[BENCH_MOST_CHANGES])
{
    const json_t *budget = json_object_get(got, "budget_s"), *comm = json_object_get(got, "communication");
    const struct { const char *what; double gain_s; bool tested; bench_probe probe; const char *note; } rest[] = {
        { "input that is never late", bench_row_real(budget, "input_stall"), true, { .kind = BENCH_PROBE_INPUT }, "more workers, smaller images, a faster disk: bench input" },
        { "all-reduces that cost nothing", bench_row_real(comm, "comm_cost_s"), true, { .kind = BENCH_PROBE_BUCKET, .index = (int32_t)replay->n_bucket - 1 },
          "measured by leaving them out; other splits: bench split-sweep" },
        { "a host that never makes the device wait", bench_row_real(budget, "host"), false, { .index = 0 }, "nothing to delay: these are the gaps between ops" },
        { "copies under computation", bench_row_real(budget, "exposed_copy"), false, { .index = 0 }, "nothing to delay: the host copies itself" },
    };
    int32_t n = 0;
    for (size_t i = 0; i < RM_COUNT(rest); i++) {
        bench_change c = { .gain_s = rest[i].gain_s, .tested = rest[i].tested, .probe = rest[i].probe, .note = rest[i].note };
        snprintf(c.what, sizeof c.what, "%s", rest[i].what);
        offer(out, &n, &c);
    }
    offer_straggler(json_object_get(got, "stragglers"), out, &n);
    offer_ops(json_object_get(got, "layers"), replay, out, &n);
    for (int32_t i = 0; i < n; i++) out[i].gain_s = fmin(out[i].gain_s, step_s);
    return n;
}
