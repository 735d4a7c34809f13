/* The mathematics of a split-sweep row: pure functions of what twins_gather.c brought together. Definitions: docs/split-sweep.md. */
#include "bench/scaling_loss.h"
#include "bench/twins.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading */
typedef struct numbers { double *v; size_t n; } numbers;

static numbers read_numbers(const json_t *a)
{
    numbers x = { .n = json_array_size(a) };
    x.v = calloc(x.n + 1, sizeof *x.v);
    if (!x.v) x.n = 0;
    for (size_t i = 0; i < x.n; i++) x.v[i] = json_number_value(json_array_get(a, i));
    return x;
}

static numbers numbers_at(const json_t *o, const char *key) { return read_numbers(json_object_get(o, key)); }

static double median_at(const json_t *o, const char *key)
{
    numbers x = numbers_at(o, key);
    const double m = rm_median(x.v, x.n);
    free(x.v);
    return m;
}

static double sum_of(const numbers *x)
{
    double sum = 0;
    for (size_t i = 0; i < x->n; i++) sum += x->v[i];
    return sum;
}

typedef struct interval95 { double median, low, high; size_t n; } interval95;

/* Median of x - y, round by round, with its 95 % interval. */
static interval95 paired(const double *x, const double *y, size_t n)
{
    interval95 r = { NAN, NAN, NAN, n };
    double *d = malloc((n + 1) * sizeof *d);
    for (size_t i = 0; d && i < n; i++) d[i] = x[i] - y[i];
    if (d) {
        r.median = rm_median(d, n);
        rm_median_ci95(d, n, &r.low, &r.high);
    }
    free(d);
    return r;
}

/* Fewer rounds have no such interval: by chance alone all of them would point the same way too often. */
enum { FEWEST_ROUNDS = 6 };
static bool apart(interval95 d) { return d.n >= FEWEST_ROUNDS && (d.low > 0 || d.high < 0); }

static const json_t *split_at(const json_t *gathered, int32_t i) { return json_array_get(json_object_get(gathered, "splits"), (size_t)i); }
static int32_t split_count(const json_t *gathered) { return (int32_t)json_array_size(json_object_get(gathered, "splits")); }

/* Free also after an error. */
static rm_status read_steps(const json_t *series, bench_steps *out) { return bench_steps_read(json_object_get(series, "steps"), out); }

/* ---- the lower bound of any split, without contention */
/* alpha: what the smallest all-reduce takes beyond its bytes; beta: seconds a byte of the fastest split alone. */
static void line_of(const json_t *gathered, double total, double *alpha, double *beta)
{
    double smallest = INFINITY, least = 0, fastest = INFINITY;
    for (int32_t i = 0; i < split_count(gathered); i++) {
        const json_t *s = split_at(gathered, i), *bucket;
        size_t k;
        fastest = fmin(fastest, median_at(s, "isolated_s"));
        json_array_foreach(json_object_get(json_object_get(s, "gantt"), "buckets"), k, bucket)
        {
            const double bytes = json_number_value(json_object_get(bucket, "bytes")), own = json_number_value(json_array_get(json_object_get(s, "least_s"), k));
            if (bytes < smallest || (bytes == smallest && own < least)) {
                smallest = bytes;
                least = own;
            }
        }
    }
    *alpha = fmax(0, least - smallest * fastest / total);
    *beta = fmax(0, fastest - *alpha) / total;
}

/* No split ends before any one gradient is ready and everything from it on has been sent; then comes the update. */
static double bound_s(const json_t *gathered)
{
    const json_t *off = json_object_get(gathered, "off");
    numbers ready = numbers_at(off, "ready_s"), bytes = numbers_at(gathered, "gradient_bytes");
    double alpha, beta, left = sum_of(&bytes), end = NAN;
    line_of(gathered, left, &alpha, &beta);
    for (size_t j = 0; j < ready.n && j < bytes.n; j++) {
        end = fmax(end, ready.v[j] + beta * left);
        left -= bytes.v[j];
    }
    free(ready.v);
    free(bytes.v);
    return alpha + end + median_at(off, "update_s");
}

/* ---- parts of a row */
static void set_interval(json_t *row, const char *const key[3], interval95 x)
{
    bench_set_number(row, key[0], x.median, "no rounds");
    bench_set_number(row, key[1], x.low, "no rounds");
    bench_set_number(row, key[2], x.high, "no rounds");
}

static void set_twins(json_t *row, const json_t *gathered, const bench_steps *real, double isolated)
{
    static const char *const cost[3] = { "comm_cost_s", "comm_cost_s_low", "comm_cost_s_high" };
    const json_t *off = json_object_get(gathered, "off");
    bench_steps o = { 0 }, b = { 0 };
    interval95 against_off = { NAN, NAN, NAN, 0 }, against_barrier = against_off;
    const size_t n = (size_t)real->n;
    if (read_steps(off, &o) == RM_OK && o.n == real->n) against_off = paired(real->slowest, o.slowest, n);
    if (read_steps(json_object_get(gathered, "barrier"), &b) == RM_OK && b.n == real->n) against_barrier = paired(real->slowest, b.slowest, n);
    bench_set_number(row, "off_step_s", rm_median(o.slowest, (size_t)o.n), "no rounds");
    bench_set_number(row, "barrier_step_s", rm_median(b.slowest, (size_t)b.n), "no rounds");
    bench_set_number(row, "backward_s", median_at(off, "backward_s"), "no rounds");
    bench_set_number(row, "update_s", median_at(off, "update_s"), "no rounds");
    set_interval(row, cost, against_off);
    bench_set_number(row, "comm_cost_barrier_s", against_barrier.median, "no rounds");
    bench_set_number(row, "eta_eff", 1 - against_off.median / isolated, "the all-reduces alone take no time");
    bench_steps_free(&o);
    bench_steps_free(&b);
}

/* Mean over ranks of each round, then the median over rounds. */
static double typical(const bench_steps *t, bench_term x)
{
    double *mean = calloc((size_t)t->n + 1, sizeof *mean);
    for (int32_t i = 0; mean && i < t->n; i++)
        for (int32_t k = 0; k < t->ranks; k++) mean[i] += bench_term_at(t, k, i, x) / t->ranks;
    const double m = mean ? rm_median(mean, (size_t)t->n) : NAN;
    free(mean);
    return m;
}

static void set_seen(json_t *row, const bench_steps *t)
{
    double wall = 0;
    for (int32_t i = 0; i < t->n; i++) wall += t->slowest[i];
    bench_set_number(row, "comm_s", typical(t, BENCH_COMM), "no rounds");
    bench_set_number(row, "overlap_geom", bench_term_mean(t, BENCH_OVERLAP) / bench_term_mean(t, BENCH_COMM), "no time was spent communicating");
    bench_set_number(row, "exposed_comm_s", typical(t, BENCH_EXPOSED_COMM), "no rounds");
    bench_set_number(row, "exposed_comm_share", bench_term_mean(t, BENCH_EXPOSED_COMM) / bench_term_mean(t, BENCH_STEP), "no rounds");
    bench_set_number(row, "blocking_comm_s", bench_steps_blocking(t), "no rounds");
    bench_set_number(row, "comm_wait_s", typical(t, BENCH_BLOCKED), "no rounds");
    bench_set_number(row, "comm_cpu_share", t->comm_cpu_s / wall, "no rounds");
    json_object_set_new(row, "budget_s", bench_steps_budget_json(t));
}

/* Waiting for a late rank is part of an all-reduce's duration on the early ones, and not of its transfer. */
static void set_transfer(json_t *row, const json_t *split)
{
    const json_t *ranks = json_object_get(split, "reduce_s"), *rank;
    numbers xfer = numbers_at(split, "xfer_s");
    double all = 0, least = sum_of(&xfer) * (double)json_array_size(ranks);
    size_t k;
    json_array_foreach(ranks, k, rank)
    {
        numbers own = read_numbers(rank);
        all += sum_of(&own);
        free(own.v);
    }
    bench_set_number(row, "xfer_s", rm_median(xfer.v, xfer.n), "no rounds");
    bench_set_number(row, "skew_share", (all - least) / all, "no time was spent communicating");
    free(xfer.v);
}

static void set_slowdown(json_t *row, const json_t *gathered, const json_t *split)
{
    numbers met = numbers_at(split, "met_s");
    const bool ghost = json_is_true(json_object_get(gathered, "ghost"));
    bench_set_number(row, "slowdown", !ghost && met.n == 2 && met.v[1] > 0 ? met.v[0] / met.v[1] - 1 : NAN,
                     ghost ? "emulated computing does not slow down" : "no computation ran while gradients travelled, or layers were not timed");
    free(met.v);
}

static void set_bound(json_t *row, const json_t *gathered, double step, double isolated)
{
    const double bound = bound_s(gathered), backward = median_at(json_object_get(gathered, "off"), "backward_s");
    bench_set_number(row, "bound_s", bound, "no rounds");
    bench_set_number(row, "bound_gap_share", (step - bound) / isolated, "the all-reduces alone take no time");
    json_object_set_new(row, "regime", json_string(isolated <= backward ? "hidden-able" : "communication-bound"));
    bench_set_number(row, "comm_to_backward", isolated / backward, "backward took no time");
}

/* What a rank does itself, and how long its all-reduces lasted beyond the transfer. */
static json_t *ranks_json(const json_t *gathered, const json_t *split, const bench_steps *t)
{
    json_t *all = bench_stragglers_json(t, json_object_get(gathered, "hosts")), *rank, *out = json_array();
    numbers xfer = numbers_at(split, "xfer_s");
    size_t k;
    json_array_foreach(all, k, rank)
    {
        numbers own = read_numbers(json_array_get(json_object_get(split, "reduce_s"), k));
        const double wait = own.n == xfer.n ? paired(own.v, xfer.v, own.n).median : NAN;
        json_array_append_new(out, json_pack("{s:O, s:O, s:O, s:o, s:O}", "rank", json_object_get(rank, "rank"), "host", json_object_get(rank, "host"), "own_s",
                                             json_object_get(rank, "own_s"), "wait_s", bench_number(wait), "late_share", json_object_get(rank, "late_share")));
        free(own.v);
    }
    free(xfer.v);
    json_decref(all);
    return out;
}

/* ---- against the other splits */
static double median_step(const json_t *gathered, int32_t i)
{
    bench_steps t = { 0 };
    const double m = read_steps(split_at(gathered, i), &t) == RM_OK ? rm_median(t.slowest, (size_t)t.n) : NAN;
    bench_steps_free(&t);
    return m;
}

/* The split with the least median step, `but` left out; -1: there is none. */
static int32_t fastest_but(const json_t *gathered, int32_t but)
{
    int32_t best = -1;
    double least = INFINITY;
    for (int32_t i = 0; i < split_count(gathered); i++) {
        const double m = median_step(gathered, i);
        if (i == but || !(m < least)) continue;
        least = m;
        best = i;
    }
    return best;
}

static interval95 against(const json_t *gathered, int32_t i, int32_t other)
{
    bench_steps x = { 0 }, y = { 0 };
    interval95 d = { NAN, NAN, NAN, 0 };
    if (read_steps(split_at(gathered, i), &x) == RM_OK && read_steps(split_at(gathered, other), &y) == RM_OK && x.n == y.n) d = paired(x.slowest, y.slowest, (size_t)x.n);
    bench_steps_free(&x);
    bench_steps_free(&y);
    return d;
}

static void set_rank_among(json_t *row, const json_t *gathered, int32_t i)
{
    const int32_t best = fastest_but(gathered, -1), next = best == i ? fastest_but(gathered, i) : -1;
    const interval95 d = best == i ? (interval95){ 0, 0, 0, 0 } : against(gathered, i, best);
    json_object_set_new(row, "difference_to_best_s", json_pack("{s:o, s:o, s:o}", "median", bench_number(d.median), "low", bench_number(d.low), "high", bench_number(d.high)));
    json_object_set_new(row, "best", json_boolean(best == i));
    json_object_set_new(row, "distinguishable", json_boolean(best == i ? next >= 0 && apart(against(gathered, next, i)) : apart(d)));
    if (next >= 0) json_object_set(row, "next_best", json_object_get(split_at(gathered, next), "split"));
    else if (best == i) bench_set_null(row, "next_best", "no other split was measured");
}

/* ---- the row */
static void set_size(json_t *row, const json_t *split)
{
    const json_t *buckets = json_object_get(json_object_get(split, "gantt"), "buckets"), *b;
    json_t *ends = json_array();
    json_int_t bytes = 0;
    size_t k;
    json_array_foreach(buckets, k, b)
    {
        json_array_append(ends, json_object_get(b, "last"));
        bytes += json_integer_value(json_object_get(b, "bytes"));
    }
    json_object_set(row, "split", json_object_get(split, "split"));
    json_object_set_new(row, "ends", ends);
    json_object_set_new(row, "buckets", json_integer((json_int_t)json_array_size(buckets)));
    json_object_set_new(row, "bytes", json_integer(bytes));
}

static void set_step(json_t *row, const bench_steps *t)
{
    double low, high;
    rm_median_ci95(t->slowest, (size_t)t->n, &low, &high);
    json_object_set_new(row, "ranks", json_integer(t->ranks));
    json_object_set_new(row, "rounds", json_integer(t->n));
    json_object_set_new(row, "step_s", bench_time_json(t->slowest, (size_t)t->n));
    json_object_set_new(row, "step_s_low", bench_number(low));
    json_object_set_new(row, "step_s_high", bench_number(high));
}

json_t *bench_twins_row(const json_t *gathered, int32_t i)
{
    const json_t *split = split_at(gathered, i);
    json_t *row = json_object();
    bench_steps t = { 0 };
    if (!row || read_steps(split, &t) != RM_OK) {
        bench_steps_free(&t);
        json_decref(row);
        return NULL;
    }
    numbers isolated = numbers_at(split, "isolated_s");
    const double alone = rm_median(isolated.v, isolated.n);
    set_size(row, split);
    set_step(row, &t);
    json_object_set_new(row, "isolated_s", bench_time_json(isolated.v, isolated.n));
    set_twins(row, gathered, &t, alone);
    set_seen(row, &t);
    set_transfer(row, split);
    set_slowdown(row, gathered, split);
    set_bound(row, gathered, rm_median(t.slowest, (size_t)t.n), alone);
    json_object_set(row, "gantt", json_object_get(split, "gantt"));
    json_object_set_new(row, "ranks_detail", ranks_json(gathered, split, &t));
    set_rank_among(row, gathered, i);
    free(isolated.v);
    bench_steps_free(&t);
    return row;
}
