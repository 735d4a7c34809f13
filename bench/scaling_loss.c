#include "bench/scaling_loss.h"
#include "base/clock.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>

void bench_terms_of(const rm_step *s, double critical_s, double out[BENCH_TERMS])
{
    const rm_budget *b = &s->budget;
    const uint64_t ns[BENCH_COUNTS] = {
        [BENCH_STEP] = s->step_ns, [BENCH_COMPUTE] = b->compute_ns, [BENCH_EXPOSED_COMM] = b->exposed_comm_ns, [BENCH_EXPOSED_COPY] = b->exposed_copy_ns,
        [BENCH_INPUT] = b->input_ns, [BENCH_HOST] = b->host_ns, [BENCH_IDLE] = b->idle_ns, [BENCH_COMM] = b->comm_ns, [BENCH_OVERLAP] = b->overlap_ns,
        [BENCH_BLOCKED] = s->blocking_ns,
    };
    for (int x = 0; x < BENCH_COUNTS; x++) out[x] = rm_s(ns[x]);
    for (int k = 0; k < RM_COUNTERS; k++) out[BENCH_COUNTS + k] = s->counts.v[k] < 0 ? NAN : rm_counter_scale((rm_counter)k) * (double)s->counts.v[k];
    out[BENCH_CRITICAL] = critical_s;
    bench_gpu_terms(&s->gpu, out);
}

/* A run that is resumed may have been begun before there were counters or replays. */
static double term_of(const json_t *step, size_t x)
{
    const json_t *v = json_array_get(step, x);
    return json_is_number(v) ? json_number_value(v) : x < BENCH_COUNTS ? 0 : NAN;
}

rm_status bench_steps_read(const json_t *mode, bench_steps *out)
{
    const json_t *ranks = json_object_get(mode, "ranks");
    bench_steps t = { .ranks = (int32_t)json_array_size(ranks), .n = (int32_t)json_array_size(json_array_get(ranks, 0)),
                      .window_s = json_number_value(json_object_get(mode, "window_s")), .first_s = json_number_value(json_object_get(mode, "first_s")),
                      .comm_cpu_s = json_number_value(json_object_get(mode, "comm_cpu_s")) };
    t.v = calloc((size_t)t.ranks * (size_t)t.n * BENCH_TERMS + 1, sizeof *t.v);
    t.slowest = calloc((size_t)t.n + 1, sizeof *t.slowest);
    *out = t;
    if (!t.v || !t.slowest) return rm_fail(RM_E_NOMEM, "out of memory reading step times");
    for (int32_t k = 0; k < t.ranks; k++)
        for (int32_t i = 0; i < t.n; i++) {
            double *v = &t.v[((size_t)k * (size_t)t.n + (size_t)i) * BENCH_TERMS];
            const json_t *step = json_array_get(json_array_get(ranks, (size_t)k), (size_t)i);
            for (size_t x = 0; x < BENCH_TERMS; x++) v[x] = term_of(step, x);
            t.slowest[i] = fmax(t.slowest[i], v[BENCH_STEP]);
        }
    return RM_OK;
}

void bench_steps_free(bench_steps *t)
{
    free(t->v);
    free(t->slowest);
    *t = (bench_steps){ 0 };
}

double bench_term_at(const bench_steps *t, int32_t rank, int32_t step, bench_term x) { return t->v[((size_t)rank * (size_t)t->n + (size_t)step) * BENCH_TERMS + (size_t)x]; }

static double rank_mean(const bench_steps *t, int32_t rank, bench_term x)
{
    double sum = 0;
    for (int32_t i = 0; i < t->n; i++) sum += bench_term_at(t, rank, i, x);
    return sum / t->n;
}

double bench_term_mean(const bench_steps *t, bench_term x)
{
    double sum = 0;
    for (int32_t k = 0; k < t->ranks; k++) sum += rank_mean(t, k, x);
    return sum / t->ranks;
}

double bench_steps_blocking(const bench_steps *t)
{
    double *critical = calloc((size_t)t->n + 1, sizeof *critical), sum = 0;
    for (int32_t i = 0; critical && i < t->n; i++) {
        int32_t slowest = 0;
        for (int32_t k = 1; k < t->ranks; k++)
            if (bench_term_at(t, k, i, BENCH_STEP) > bench_term_at(t, slowest, i, BENCH_STEP)) slowest = k;
        sum += critical[i] = bench_term_at(t, slowest, i, BENCH_CRITICAL);
    }
    const double m = critical && !isnan(sum) ? rm_median(critical, (size_t)t->n) : NAN;
    free(critical);
    return m;
}

json_t *bench_steps_budget_json(const bench_steps *t)
{
    static const struct { const char *name; bench_term x; } rows[] = {
        { "compute", BENCH_COMPUTE }, { "exposed_comm", BENCH_EXPOSED_COMM }, { "exposed_copy", BENCH_EXPOSED_COPY },
        { "input_stall", BENCH_INPUT }, { "host", BENCH_HOST }, { "idle", BENCH_IDLE },
    };
    const double step = bench_term_mean(t, BENCH_STEP), k = step > 0 ? rm_median(t->slowest, (size_t)t->n) / step : 0;
    json_t *j = json_object();
    for (size_t i = 0; i < RM_COUNT(rows); i++) json_object_set_new(j, rows[i].name, bench_number(k * bench_term_mean(t, rows[i].x)));
    return j;
}

/* ---- attribution */
/* A rank's own time: all of the step but waiting for the all-reduces. */
static double own_at(const bench_steps *t, int32_t rank, int32_t step) { return bench_term_at(t, rank, step, BENCH_STEP) - bench_term_at(t, rank, step, BENCH_BLOCKED); }
static double own_mean(const bench_steps *t, int32_t rank) { return rank_mean(t, rank, BENCH_STEP) - rank_mean(t, rank, BENCH_BLOCKED); }

/* Mean over steps of the last rank's own time, and of the wait of the rank that waited least: transfer and nothing else. */
static double last_own(const bench_steps *t)
{
    double sum = 0;
    for (int32_t i = 0; i < t->n; i++) {
        double most = own_at(t, 0, i);
        for (int32_t k = 1; k < t->ranks; k++) most = fmax(most, own_at(t, k, i));
        sum += most;
    }
    return sum / t->n;
}

static double least_wait(const bench_steps *t)
{
    double sum = 0;
    for (int32_t i = 0; i < t->n; i++) {
        double least = bench_term_at(t, 0, i, BENCH_BLOCKED);
        for (int32_t k = 1; k < t->ranks; k++) least = fmin(least, bench_term_at(t, k, i, BENCH_BLOCKED));
        sum += least;
    }
    return sum / t->n;
}

/* A step lasts as long as its last rank's own time and the transfer after it. Which rank is the fastest and how fast is taken from
 * means over steps: the least of each step would count every random lateness as a faster device, and so hide a slow-down as large.
 * The last rank is taken step by step, because that is who was waited for; what its mean exceeds the mean of the slowest rank by is
 * lateness of no rank in particular (jitter), which makes E[max - min] > 0 without any straggler. */
json_t *bench_loss_json(const bench_steps *t, const bench_steps *one, double share, double *out_jitter)
{
    int32_t fast = 0, slow = 0;
    for (int32_t k = 1; k < t->ranks; k++) {
        if (own_mean(t, k) < own_mean(t, fast)) fast = k;
        if (own_mean(t, k) > own_mean(t, slow)) slow = k;
    }
    const double loss = rm_mean(t->slowest, (size_t)t->n) - share * rm_mean(one->slowest, (size_t)one->n);
    const double input = rank_mean(t, fast, BENCH_INPUT) - share * bench_term_mean(one, BENCH_INPUT);
    const double compute = rank_mean(t, fast, BENCH_COMPUTE) + rank_mean(t, fast, BENCH_EXPOSED_COPY) -
                           share * (bench_term_mean(one, BENCH_COMPUTE) + bench_term_mean(one, BENCH_EXPOSED_COPY));
    const double last = last_own(t), transfer = least_wait(t), straggler = last - own_mean(t, fast);
    *out_jitter = fmax(0, last - own_mean(t, slow)); /* never below but for rounding */
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "loss", bench_number(loss), "input", bench_number(input), "compute_slowdown", bench_number(compute), "exposed_transfer",
                     bench_number(transfer), "straggler", bench_number(straggler), "unexplained", bench_number(loss - input - compute - transfer - straggler));
}

/* ---- stragglers */
enum { FEWEST_STEPS = 6 };                 /* below that an interval of the median says nothing */
static const double least_share = 0.02;    /* of the step: lateness below it is not worth a name */

/* How much later rank k was in a step than the others: than their median, so that one slow rank does not hide another. */
static double late_at(const bench_steps *t, int32_t k, int32_t step, double *others)
{
    int32_t n = 0;
    for (int32_t r = 0; r < t->ranks; r++)
        if (r != k) others[n++] = own_at(t, r, step);
    return own_at(t, k, step) - rm_median(others, (size_t)n);
}

static double late_share(const bench_steps *t, int32_t k)
{
    int32_t last = 0;
    for (int32_t i = 0; i < t->n; i++) {
        bool later = false;
        for (int32_t r = 0; r < t->ranks; r++) later |= own_at(t, r, i) > own_at(t, k, i);
        last += !later;
    }
    return (double)last / t->n;
}

static json_t *straggler_json(const bench_steps *t, int32_t k, const json_t *hosts, double *scratch)
{
    const size_t n = (size_t)t->n;
    double *own = scratch, *wait = own + n, *late = wait + n, *others = late + n, low, high;
    for (int32_t i = 0; i < t->n; i++) {
        double least = bench_term_at(t, k, i, BENCH_BLOCKED);
        for (int32_t r = 0; r < t->ranks; r++) least = fmin(least, bench_term_at(t, r, i, BENCH_BLOCKED));
        own[i] = own_at(t, k, i);
        wait[i] = bench_term_at(t, k, i, BENCH_BLOCKED) - least;
        late[i] = late_at(t, k, i, others);
    }
    rm_median_ci95(late, n, &low, &high);
    const double median = rm_median(late, n);
    const bool is = t->n >= FEWEST_STEPS && low > 0 && median > least_share * rm_median(t->slowest, n);
    const char *host = json_string_value(json_array_get(hosts, (size_t)k));
    return json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "rank", k, "host", host ? host : "", "own_s", bench_number(rm_median(own, n)), "wait_s",
                     bench_number(rm_median(wait, n)), "late_share", bench_number(late_share(t, k)), "late_s", bench_number(median), "late_s_low", bench_number(low),
                     "late_s_high", bench_number(high), "straggler", is);
}

json_t *bench_stragglers_json(const bench_steps *t, const json_t *hosts)
{
    json_t *all = json_array();
    double *scratch = malloc((3 * (size_t)t->n + (size_t)t->ranks) * sizeof *scratch);
    for (int32_t k = 0; scratch && k < t->ranks; k++) json_array_append_new(all, straggler_json(t, k, hosts, scratch));
    free(scratch);
    return all;
}
