#include "bench/counters_row.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char not_counted[] = "not counted in these steps";

json_t *bench_counters_json(const rm_counts *sum, const rm_counters *c, double per)
{
    json_t *j = json_object();
    for (int k = 0; k < RM_COUNTERS; k++) {
        const char *why = rm_counters_why(c, (rm_counter)k);
        bench_set_number(j, rm_counter_name((rm_counter)k), sum->v[k] < 0 ? NAN : rm_counter_scale((rm_counter)k) * (double)sum->v[k] / per,
                         why ? why : not_counted);
    }
    if (rm_counters_multiplexed(c)) json_object_set_new(j, "multiplexed", json_true());
    return j;
}

json_t *bench_counters_why(const rm_counters *c)
{
    json_t *j = json_object();
    for (int k = 0; c && k < RM_COUNTERS; k++)
        if (rm_counters_why(c, (rm_counter)k)) json_object_set_new(j, rm_counter_name((rm_counter)k), json_string(rm_counters_why(c, (rm_counter)k)));
    if (rm_counters_multiplexed(c)) json_object_set_new(j, "multiplexed", json_true());
    return j;
}

/* Why counter k is missing: its own reason, or one that holds for all of them. */
static const char *why_of(const json_t *gathered, rm_counter k)
{
    const char *own = json_string_value(json_object_get(json_object_get(gathered, "counters_why"), rm_counter_name(k)));
    return own ? own : json_is_true(json_object_get(gathered, "ghost")) ? "a ghost sleeps where a rank computes: there is nothing to count" : not_counted;
}

static json_t *means_json(const bench_steps *t, const json_t *gathered)
{
    json_t *j = json_object();
    for (int k = 0; k < RM_COUNTERS; k++)
        bench_set_number(j, rm_counter_name((rm_counter)k), bench_term_mean(t, (bench_term)(BENCH_COUNTS + k)), why_of(gathered, (rm_counter)k));
    if (json_is_true(json_object_get(json_object_get(gathered, "counters_why"), "multiplexed"))) json_object_set_new(j, "multiplexed", json_true());
    return j;
}

/* ---- disturbed steps */
static bool disturbed_at(const bench_steps *t, int32_t rank, int32_t step, int threads)
{
    const double foreign = bench_term_at(t, rank, step, (bench_term)(BENCH_COUNTS + RM_COUNT_FOREIGN_NS));
    rm_counts d = { .wall_ns = (uint64_t)llround(1e9 * bench_term_at(t, rank, step, BENCH_STEP)) };
    d.v[RM_COUNT_FOREIGN_NS] = isfinite(foreign) ? llround(1e9 * foreign) : -1;
    return rm_counts_disturbed(&d, threads);
}

void bench_set_disturbed(json_t *row, json_t *samples, const double *disturbed, size_t n, const char *why)
{
    json_int_t sum = 0;
    if (why) {
        bench_set_null(row, "disturbed_steps", why);
        return;
    }
    for (size_t i = 0; i < n; i++) sum += disturbed[i] > 0;
    json_object_set_new(row, "disturbed_steps", json_integer(sum));
    json_object_set_new(samples, "disturbed", bench_samples(disturbed, n));
}

void bench_undisturbed(json_t *result, const char *why)
{
    bench_set_null(json_object_get(result, "row"), "disturbed_steps", why);
    json_object_del(json_object_get(result, "samples"), "disturbed");
}

void bench_set_counters(json_t *row, json_t *samples, const bench_steps *t, const json_t *gathered)
{
    const double foreign = bench_term_mean(t, (bench_term)(BENCH_COUNTS + RM_COUNT_FOREIGN_NS));
    const char *why = isfinite(foreign) ? NULL : why_of(gathered, RM_COUNT_FOREIGN_NS);
    const int threads = (int)fmax(1, json_number_value(json_object_get(gathered, "threads")));
    double *disturbed = calloc((size_t)t->n + 1, sizeof *disturbed);
    for (int32_t i = 0; disturbed && i < t->n; i++)
        for (int32_t k = 0; k < t->ranks; k++) disturbed[i] += disturbed_at(t, k, i, threads) && !(disturbed[i] > 0);
    json_object_set_new(row, "counters", means_json(t, gathered));
    bench_set_number(row, "foreign_share", foreign / (threads * bench_term_mean(t, BENCH_STEP)), why ? why : "no time was measured");
    bench_set_disturbed(row, samples, disturbed, (size_t)t->n, why ? why : disturbed ? NULL : "out of memory");
    bench_set_memory_high(row, (uint64_t)json_integer_value(json_object_get(gathered, "memory_high_bytes")));
    free(disturbed);
}

/* ---- memory */
rm_status bench_memory_high(rm_comm *comm, uint64_t *out)
{
    double most = (double)rm_memory_high_water();
    RM_TRY(rm_comm_host_reduce(comm, &most, 1, RM_F64, RM_MAX));
    *out = (uint64_t)most;
    return RM_OK;
}

void bench_set_memory_high(json_t *row, uint64_t bytes)
{
    if (bytes) json_object_set_new(row, "memory_high_bytes", json_integer((json_int_t)bytes));
    else bench_set_null(row, "memory_high_bytes", "this system does not tell (no VmHWM in /proc/self/status)");
}
