#include "bench/throttled_row.h"
#include "bench/rows.h"
#include "profiler/nvml.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void bench_gpu_terms(const rm_gpu_reading *r, double out[BENCH_TERMS])
{
    out[BENCH_GPU_REASONS] = r->reasons < 0 ? NAN : (double)r->reasons;
    out[BENCH_GPU_MHZ] = r->sm_mhz < 0 ? NAN : (double)r->sm_mhz;
    out[BENCH_GPU_W] = r->power_mw < 0 ? NAN : 1e-3 * (double)r->power_mw;
    out[BENCH_GPU_C] = r->temperature_c < 0 ? NAN : (double)r->temperature_c;
}

void bench_note_watch(json_t *gathered, const rm_gpu_watch *w)
{
    const char *why = rm_gpu_watch_why(w);
    if (w) json_object_set_new(gathered, "gpu_watch", json_string(why ? why : ""));
}

/* Of step i over the ranks: all their reasons, the lowest clock, the highest power and temperature. */
static void merge(const bench_steps *t, int32_t i, double v[BENCH_TERMS])
{
    v[BENCH_GPU_REASONS] = v[BENCH_GPU_MHZ] = v[BENCH_GPU_W] = v[BENCH_GPU_C] = NAN;
    for (int32_t k = 0; k < t->ranks; k++) {
        const double reasons = bench_term_at(t, k, i, BENCH_GPU_REASONS), all = v[BENCH_GPU_REASONS];
        if (!isnan(reasons)) v[BENCH_GPU_REASONS] = (double)((uint64_t)reasons | (isnan(all) ? 0 : (uint64_t)all));
        v[BENCH_GPU_MHZ] = fmin(v[BENCH_GPU_MHZ], bench_term_at(t, k, i, BENCH_GPU_MHZ));
        v[BENCH_GPU_W] = fmax(v[BENCH_GPU_W], bench_term_at(t, k, i, BENCH_GPU_W));
        v[BENCH_GPU_C] = fmax(v[BENCH_GPU_C], bench_term_at(t, k, i, BENCH_GPU_C));
    }
}

typedef struct tally { json_t *throttled, *mhz, *w, *c; json_int_t n; uint64_t reasons; } tally;

static void add(tally *y, const double v[BENCH_TERMS])
{
    const double reasons = v[BENCH_GPU_REASONS];
    const bool is = !isnan(reasons) && rm_gpu_throttled((uint64_t)reasons);
    y->n += is;
    y->reasons |= is ? (uint64_t)reasons : 0;
    json_array_append_new(y->throttled, bench_number(isnan(reasons) ? NAN : is));
    json_array_append_new(y->mhz, bench_number(v[BENCH_GPU_MHZ]));
    json_array_append_new(y->w, bench_number(v[BENCH_GPU_W]));
    json_array_append_new(y->c, bench_number(v[BENCH_GPU_C]));
}

static tally tally_new(void) { return (tally){ .throttled = json_array(), .mhz = json_array(), .w = json_array(), .c = json_array() }; }

/* "idle" and chosen clocks slow nothing down by themselves: they are left out of the words. */
static json_t *words(uint64_t reasons)
{
    uint64_t count = 0;
    for (uint64_t bit = 1; bit; bit <<= 1)
        if (reasons & bit && rm_gpu_throttled(bit)) count |= bit;
    return rm_gpu_reasons_json(count);
}

static void finish(json_t *row, json_t *samples, tally *y, const char *why)
{
    if (why) {
        bench_set_null(row, "throttled_samples", why);
        bench_set_null(row, "throttle_reasons", why);
    } else {
        json_object_set_new(row, "throttled_samples", json_integer(y->n));
        json_object_set_new(row, "throttle_reasons", words(y->reasons));
        json_object_set(samples, "throttled", y->throttled);
        json_object_set(samples, "gpu_sm_mhz", y->mhz);
        json_object_set(samples, "gpu_power_w", y->w);
        json_object_set(samples, "gpu_temperature_c", y->c);
    }
    json_decref(y->throttled);
    json_decref(y->mhz);
    json_decref(y->w);
    json_decref(y->c);
}

void bench_set_throttled(json_t *row, json_t *samples, const bench_steps *t, const json_t *gathered)
{
    const json_t *watch = json_object_get(gathered, "gpu_watch");
    const char *why = json_string_value(watch);
    if (!watch) return;
    tally y = tally_new();
    for (int32_t i = 0; i < t->n; i++) {
        double v[BENCH_TERMS];
        merge(t, i, v);
        add(&y, v);
    }
    finish(row, samples, &y, why && why[0] ? why : NULL);
}

void bench_set_throttled_own(json_t *row, json_t *samples, const rm_gpu_reading *r, size_t n, const char *why)
{
    tally y = tally_new();
    for (size_t i = 0; i < n; i++) {
        double v[BENCH_TERMS];
        bench_gpu_terms(&r[i], v);
        add(&y, v);
    }
    finish(row, samples, &y, why);
}

void bench_print_throttled(const json_t *row, const char *label, long long of)
{
    const long long n = bench_row_int(row, "throttled_samples");
    size_t i;
    const json_t *word;
    if (n < 1) return;
    printf("%s %lld of %lld steps were taken while a GPU was throttled (", label, n, of);
    json_array_foreach(json_object_get(row, "throttle_reasons"), i, word) printf("%s%s", i ? ", " : "", json_string_value(word));
    puts("): it can be faster than this");
}
