/* What could be changed, and what the step would gain at most: for ops as the replays of the traced steps say, for the rest as measured. */
#include "bench/profile.h"
#include "bench/rows.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is offered so far, best first. Gains below `least_s` are not worth a word. */
typedef struct { bench_change *at; int32_t n; double least_s, most_s; } list;

static void offer(list *l, bench_change c)
{
    int32_t at = l->n;
    if (!(c.gain_s >= l->least_s && c.gain_s > 0)) return;
    c.gain_s = fmin(c.gain_s, l->most_s);
    while (at > 0 && l->at[at - 1].gain_s < c.gain_s) at--;
    if (at == BENCH_MOST_CHANGES) return;
    const int32_t last = l->n < BENCH_MOST_CHANGES ? l->n : BENCH_MOST_CHANGES - 1;
    memmove(&l->at[at + 1], &l->at[at], (size_t)(last - at) * sizeof l->at[0]);
    l->at[at] = c;
    l->n = last + 1;
}

/* ---- ops of one kind at their bounds */
static const char *op_of(const json_t *layers, size_t i) { return bench_row_text(json_array_get(layers, i), "op"); }
static bool is_op(const json_t *layers, size_t i, const rm_replay *r) { return i < r->n_op && i < json_array_size(layers) && op_of(layers, i)[0]; }

static bool is_first_of_kind(const json_t *layers, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (!strcmp(op_of(layers, k), op_of(layers, i))) return false;
    return true;
}

/* What op i of this step is above its bound; 0 where no bound is known. */
static uint64_t above_ns(const json_t *layers, size_t i, const rm_replay *r)
{
    const double bound = 1e9 * bench_row_real(json_array_get(layers, i), "bound_s"), own = (double)r->op[i].dur_ns;
    return own > bound ? (uint64_t)(own - bound) : 0;
}

/* By how much this step would be shorter, in seconds. `room`: for as many ops. */
static double gain_of(const json_t *layers, size_t first, const rm_replay *r, rm_replay_op *room)
{
    rm_replay less = *r;
    memcpy(room, r->op, r->n_op * sizeof *room);
    for (size_t i = first; is_op(layers, i, r); i++)
        if (!strcmp(op_of(layers, i), op_of(layers, first))) room[i].dur_ns -= above_ns(layers, i, r);
    less.op = room;
    const uint64_t now = rm_replay_step(r, &rm_replay_as_it_was), then = rm_replay_step(&less, &rm_replay_as_it_was);
    return now > then ? 1e-9 * (double)(now - then) : 0;
}

/* Where a delay tests it: the op that is furthest above its bound in its median step. */
static bench_change change_of(const json_t *layers, size_t first, const rm_replay *r)
{
    bench_change c = { .tested = true, .probe = { .kind = BENCH_PROBE_OP, .index = (int32_t)first } };
    double most = -INFINITY;
    int32_t ops = 0;
    for (size_t i = first; is_op(layers, i, r); i++) {
        const json_t *layer = json_array_get(layers, i);
        const double above = bench_row_real(layer, "time_s_median") - bench_row_real(layer, "bound_s");
        if (strcmp(op_of(layers, i), op_of(layers, first)) != 0) continue;
        ops++;
        if (!(above > most)) continue;
        most = above;
        c.probe.index = (int32_t)i;
    }
    snprintf(c.what, sizeof c.what, ops == 1 ? "%s at its bound" : "%s at bound (%d ops)", op_of(layers, first), ops);
    return c;
}

static const char *advice_of(const char *op)
{
    static const struct { const char *begin, *advice; } rows[] = {
        { "conv", "try a larger --batch or another --dtype; bench kernels --perf on the op" },
        { "bn", "moves memory: fusion (leave --no-fuse out), bf16 halves the bytes" },
        { "relu", "moves memory: fusion (leave --no-fuse out), bf16 halves the bytes" },
        { "add", "moves memory: fusion (leave --no-fuse out), bf16 halves the bytes" },
        { "reorder", "weights are laid out anew every step: a larger --batch spreads that" },
        { "optim", "moves memory: --update-on-arrival puts it under the all-reduces" },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++)
        if (!strncmp(op, rows[i].begin, strlen(rows[i].begin))) return rows[i].advice;
    return "bench kernels --perf on the op";
}

static void offer_ops(list *l, const json_t *layers, const rm_replay *r, int32_t steps)
{
    rm_replay_op *room = malloc((r->n_op + 1) * sizeof *room);
    double *gain = malloc((size_t)steps * sizeof *gain);
    for (size_t i = 0; room && gain && is_op(layers, i, r); i++) {
        if (!is_first_of_kind(layers, i)) continue;
        for (int32_t k = 0; k < steps; k++) gain[k] = gain_of(layers, i, &r[k], room);
        bench_change c = change_of(layers, i, r);
        c.gain_s = rm_median(gain, (size_t)steps);
        c.note = advice_of(op_of(layers, i));
        offer(l, c);
    }
    free(room);
    free(gain);
}

/* ---- the rest */
static void offer_stragglers(list *l, const json_t *stragglers)
{
    size_t k;
    json_t *rank;
    json_array_foreach(stragglers, k, rank)
    {
        bench_change c = { .gain_s = bench_row_real(rank, "late_s"), .measured = true, .note = "measured against the other ranks; what runs there besides?" };
        if (!json_is_true(json_object_get(rank, "straggler"))) continue;
        snprintf(c.what, sizeof c.what, "rank %lld on %s as fast as the others", bench_row_int(rank, "rank"), bench_row_text(rank, "host"));
        offer(l, c);
    }
}

static void offer_terms(list *l, const json_t *got, uint32_t buckets)
{
    const json_t *budget = json_object_get(got, "budget_s"), *comm = json_object_get(got, "communication");
    const struct { const char *what; double gain_s; bool tested; bench_probe probe; const char *note; } rows[] = {
        { "input that is never late", bench_row_real(budget, "input_stall"), true, { .kind = BENCH_PROBE_INPUT }, "more --workers, smaller images, a faster disk: bench input" },
        { "all-reduces that cost nothing", bench_row_real(comm, "comm_cost_s"), true, { .kind = BENCH_PROBE_BUCKET, .index = (int32_t)buckets - 1 },
          "measured by leaving them out; bench split-sweep, --allreduce-dtype bf16" },
        { "a host that never makes the device wait", bench_row_real(budget, "host"), false, { .index = 0 }, "nothing to delay: these are the gaps between ops; a larger --batch" },
        { "copies under computation", bench_row_real(budget, "exposed_copy"), false, { .index = 0 }, "nothing to delay: the host copies itself" },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        bench_change c = { .gain_s = rows[i].gain_s, .measured = rows[i].probe.kind == BENCH_PROBE_BUCKET, .tested = rows[i].tested, .probe = rows[i].probe, .note = rows[i].note };
        snprintf(c.what, sizeof c.what, "%s", rows[i].what);
        offer(l, c);
    }
}

int32_t bench_changes_find(const json_t *got, const rm_replay *replay, int32_t steps, double step_s, bench_change out[BENCH_MOST_CHANGES])
{
    list l = { .at = out, .least_s = BENCH_LEAST_GAIN * step_s, .most_s = step_s };
    RM_ASSERT(steps > 0);
    offer_terms(&l, got, replay->n_bucket);
    offer_stragglers(&l, json_object_get(got, "stragglers"));
    offer_ops(&l, json_object_get(got, "layers"), replay, steps);
    return l.n;
}

const char *bench_change_verdict(const json_t *slope)
{
    const double predicted = bench_row_real(slope, "predicted_slope"), low = bench_row_real(slope, "slope_low"), high = bench_row_real(slope, "slope_high");
    static const double wide = 1, near = 0.15, hidden = 0.25;
    if (isnan(bench_row_real(slope, "measured_slope"))) return "not tested";
    if (!(high - low <= wide)) return "too noisy";
    if (low - near > predicted || high + near < predicted) return "model disagrees";
    return high < hidden ? "hidden" : "confirmed";
}
