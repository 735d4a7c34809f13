/* The cpu device's peaks, on all its threads (see peaks.h). */
#define _GNU_SOURCE
#include "kernels/cpu/peaks.h"
#include "base/clock.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/quiet.h"
#include "profiler/runinfo.h"
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    ALIGN = 2 << 20,
    CHUNK = 8 * 16, /* floats: a turn of the widest loops */
    TURNS = 1 << 20, /* of the FMA and dot loops: some milliseconds */
    LEAST_RUNS = 3,
};
static const size_t least_memory = 256u << 20, most_memory = (size_t)2 << 30, cache_traffic = 128u << 20; /* bytes; the last: of a thread and run */
static const uint64_t loop_ns = 130000000, gemm_ns = 180000000; /* twice of it where disturbed: 2.5 s in all */
static const double gemm_s = 0.012; /* of one product, about */

/* ---- a piece of work on all threads */
typedef struct job job;
struct job {
    double (*work)(const job *j, int t, int n); /* thread t of n; returns what is checked */
    double (*expect)(const job *j, int n); /* sum of what they return */
    double (*amount)(const job *j, int n); /* FLOP or bytes of all together */
    const char *what;
    const cpu_peak_loops *loops;
    cpu_peak_dot *dot;
    float *buf; /* of ones */
    size_t floats; /* ... used, by all threads */
    size_t passes;
    bool past; /* stores past the caches */
};

/* From the first thread's begin to the last one's end: the barrier before them is not counted, their own skew is. */
static double run(const cpu_device *d, const job *j, uint64_t *out_ns, int *out_threads)
{
    uint64_t begin = UINT64_MAX, end = 0;
    double sum = 0;
    int n = 0;
#pragma omp parallel num_threads(d->threads) reduction(min : begin) reduction(max : end, n) reduction(+ : sum)
    {
        n = omp_get_num_threads();
#pragma omp barrier
        begin = rm_now_ns();
        sum = j->work(j, omp_get_thread_num(), n);
        end = rm_now_ns();
    }
    *out_ns = end - begin;
    *out_threads = n;
    return sum;
}

void cpu_peak_keep(cpu_peak_best *best, double amount, uint64_t ns, uint64_t delay_ns)
{
    const double rate = ns ? amount / ((double)ns * 1e-9) : 0;
    if (rate > best->rate) *best = (cpu_peak_best) { .rate = rate, .disturbed = delay_ns > ns / 100 };
}

bool cpu_peak_enough(const cpu_peak_best *best, int runs, uint64_t from_ns, uint64_t budget_ns)
{
    const uint64_t spent = rm_now_ns() - from_ns;
    return runs >= LEAST_RUNS && spent >= (best->disturbed ? 2 * budget_ns : budget_ns);
}

static rm_status repeat(const cpu_device *d, const job *j, cpu_quiet *quiet, cpu_peak_best *best)
{
    const uint64_t from = rm_now_ns();
    for (int i = 0; !cpu_peak_enough(best, i, from, loop_ns); i++) {
        uint64_t ns;
        int n;
        cpu_quiet_start(quiet);
        const double got = run(d, j, &ns, &n), want = j->expect(j, n);
        if (got != want) return rm_fail(RM_E_NUMERIC, "cpu: the loop that measures %s computes %.17g instead of %.17g", j->what, got, want);
        cpu_peak_keep(best, j->amount(j, n), ns, cpu_quiet_stop(quiet));
    }
    return RM_OK;
}

static rm_status measure(const cpu_device *d, const job *j, cpu_peak_best *out)
{
    cpu_peak_best best = { .rate = 0 };
    cpu_quiet quiet;
    cpu_quiet_open(&quiet);
    const rm_status st = repeat(d, j, &quiet, &best);
    cpu_quiet_close(&quiet);
    if (st == RM_OK) *out = best;
    return st;
}

/* ---- arithmetic */
static double starts(void) { return CPU_PEAK_CHAINS * (CPU_PEAK_CHAINS - 1) / 2.0; } /* 0 + 1 + ... */

static double fma_work(const job *j, int t, int n) { return j->loops->fma(TURNS, 1, 1); }
static double fma_expect(const job *j, int n) { return n * j->loops->lanes * ((double)CPU_PEAK_CHAINS * TURNS + starts()); }
static double fma_amount(const job *j, int n) { return n * 2.0 * j->loops->lanes * CPU_PEAK_CHAINS * TURNS; }

static double dot_work(const job *j, int t, int n) { return j->dot(TURNS, cpu_to_bf16(1)); }
static double dot_expect(const job *j, int n) { return n * CPU_PEAK_DOT_LANES * (2.0 * CPU_PEAK_CHAINS * TURNS + starts()); }
static double dot_amount(const job *j, int n) { return n * 4.0 * CPU_PEAK_DOT_LANES * CPU_PEAK_CHAINS * TURNS; }

/* ---- bandwidth */
static size_t share_of(size_t floats, int n) { return floats / (size_t)n / CHUNK * CHUNK; }

static double read_work(const job *j, int t, int n)
{
    const size_t share = share_of(j->floats, n);
    double sum = 0;
    for (size_t i = 0; i < j->passes; i++) {
        sum += j->loops->read(j->buf + (size_t)t * share, share);
        __asm__ volatile("" ::: "memory"); /* the next pass may not reuse this one's loads */
    }
    return sum;
}
static double read_expect(const job *j, int n) { return (double)(share_of(j->floats, n) * (size_t)n * j->passes); }
static double read_amount(const job *j, int n) { return sizeof(float) * read_expect(j, n); }

/* x = y + 2 z: of ones, threes. */
static double triad_work(const job *j, int t, int n)
{
    const size_t share = share_of(j->floats / 3, n);
    float *x = j->buf + 3 * (size_t)t * share;
    (j->past ? j->loops->triad_past : j->loops->triad)(x, x + share, x + 2 * share, 2, share);
    return (double)x[0] + (double)x[share / 2] + (double)x[share - 1];
}
static double triad_expect(const job *j, int n) { return 9.0 * n; }
static double triad_amount(const job *j, int n) { return 3.0 * sizeof(float) * (double)(share_of(j->floats / 3, n) * (size_t)n); }

static rm_status alloc_ones(const cpu_device *d, size_t floats, float **out)
{
    void *p = NULL;
    if (posix_memalign(&p, ALIGN, floats * sizeof(float))) return rm_fail(RM_E_NOMEM, "cpu: no memory (%zu MiB) to measure bandwidth", floats >> 18);
    madvise(p, floats * sizeof(float), MADV_HUGEPAGE); /* a hint */
    float *f = p;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (size_t i = 0; i < floats; i++) f[i] = 1;
    *out = f;
    return RM_OK;
}

/* ---- the figures */
typedef struct peaks_run {
    cpu_device *d;
    rm_peaks *p;
    job job; /* loops, dot and buf are set */
    size_t l2, l3, memory; /* bytes of the caches that the threads have together, and of the buffer */
    const char *threads; /* "2 threads" */
} peaks_run;

static void level(rm_peaks *p, const char *name, uint64_t bytes, double bytes_per_s)
{
    if (!isfinite(bytes_per_s)) return;
    rm_roof_level *l = &p->level[p->n_level++];
    *l = (rm_roof_level) { .bytes = bytes, .bytes_per_s = bytes_per_s };
    snprintf(l->name, sizeof l->name, "%s", name);
}

/* Adds a figure; `how` is followed by the threads. */
static void add(peaks_run *r, const char *name, const char *unit, cpu_peak_best best, const char *how, const char *why)
{
    char text[128];
    snprintf(text, sizeof text, "%s, %d thread%s", how, r->d->threads, r->d->threads == 1 ? "" : "s");
    rm_peaks_add(r->p, name, unit, best.rate, text, why);
    r->p->at[r->p->n - 1].disturbed = best.disturbed;
}

static rm_status fma_fp32(peaks_run *r)
{
    job j = r->job;
    char how[96];
    cpu_peak_best best;
    j.work = fma_work, j.expect = fma_expect, j.amount = fma_amount, j.what = "fma fp32";
    RM_TRY(measure(r->d, &j, &best));
    snprintf(how, sizeof how, "%s, %d chains", j.loops->how, CPU_PEAK_CHAINS);
    add(r, "fma fp32", "FLOP/s", best, how, NULL);
    return RM_OK;
}

static rm_status dot_bf16(peaks_run *r)
{
    job j = r->job;
    char how[96];
    cpu_peak_best best = { .rate = NAN };
    j.work = dot_work, j.expect = dot_expect, j.amount = dot_amount, j.what = "dot bf16";
    if (j.dot) RM_TRY(measure(r->d, &j, &best));
    snprintf(how, sizeof how, "512-bit dot products of pairs, %d chains", CPU_PEAK_CHAINS);
    add(r, "dot bf16", "FLOP/s", best, how, "this processor has no bf16 dot product");
    return RM_OK;
}

/* Large enough that it is no matter of starting it, small enough to be measured in a moment. */
static int64_t gemm_side(double flops_per_s)
{
    const int64_t n = (int64_t)cbrt(flops_per_s * gemm_s / 2) / 256 * 256;
    return n < 512 ? 512 : n > 4096 ? 4096 : n;
}

static rm_status gemm(peaks_run *r, rm_dtype dtype, double about_flops_per_s)
{
    const int64_t n = gemm_side(about_flops_per_s);
    char name[32], how[96];
    cpu_peak_best best = { .rate = NAN };
    const rm_status st = cpu_peak_gemm(&r->d->base, dtype, n, gemm_ns, &best);
    if (st != RM_OK && st != RM_E_UNSUPPORTED) return st;
    snprintf(name, sizeof name, "gemm %s", rm_peak_type(dtype));
    snprintf(how, sizeof how, "oneDNN matrix product, %lld x %lld", (long long)n, (long long)n);
    add(r, name, "FLOP/s", best, how, st == RM_OK ? NULL : rm_last_error());
    return RM_OK;
}

static rm_status arithmetic(peaks_run *r)
{
    RM_TRY(fma_fp32(r));
    RM_TRY(dot_bf16(r));
    const double fma = rm_peak_of(r->p, "fma fp32"), dot = rm_peak_of(r->p, "dot bf16");
    RM_TRY(gemm(r, RM_F32, fma));
    return gemm(r, RM_BF16, fmax(fma, dot));
}

/* Reads `bytes` together, again and again. cache_bytes: what the level holds, 0 where there is none. */
static rm_status read_cache(peaks_run *r, const char *name, size_t cache_bytes, size_t bytes)
{
    char peak[32], how[96], why[96];
    cpu_peak_best best = { .rate = NAN };
    job j = r->job;
    if (bytes > r->memory) bytes = r->memory;
    j.work = read_work, j.expect = read_expect, j.amount = read_amount, j.what = name;
    j.floats = bytes / sizeof(float);
    const size_t each = share_of(j.floats, r->d->threads) * sizeof(float);
    if (cache_bytes && each) {
        j.passes = cache_traffic / each + 1;
        RM_TRY(measure(r->d, &j, &best));
    }
    snprintf(peak, sizeof peak, "read %s", name);
    snprintf(how, sizeof how, "%zu KiB of %zu KiB", bytes >> 10, cache_bytes >> 10);
    snprintf(why, sizeof why, "this machine shows no %s cache of its own", name);
    add(r, peak, "B/s", best, how, why);
    level(r->p, name, cache_bytes, best.rate);
    return RM_OK;
}

static rm_status read_memory(peaks_run *r)
{
    const size_t caches = r->l3 > r->l2 ? r->l3 : r->l2;
    char how[96];
    cpu_peak_best best;
    job j = r->job;
    j.work = read_work, j.expect = read_expect, j.amount = read_amount, j.what = "memory";
    j.floats = r->memory / sizeof(float), j.passes = 1;
    RM_TRY(measure(r->d, &j, &best));
    snprintf(how, sizeof how, "%zu MiB%s", r->memory >> 20, r->memory < 4 * caches ? " (few: caches may help)" : "");
    add(r, "read memory", "B/s", best, how, NULL);
    return RM_OK;
}

/* STREAM's triad (McCalpin 1995), counting three arrays. Ordinary stores also read what they overwrite, which STREAM does not count. */
static rm_status triad_memory(peaks_run *r)
{
    const size_t each = r->memory / 3 >> 20;
    char how[96];
    cpu_peak_best ordinary, past = { .rate = NAN };
    job j = r->job;
    j.work = triad_work, j.expect = triad_expect, j.amount = triad_amount, j.what = "triad";
    j.floats = r->memory / sizeof(float);
    RM_TRY(measure(r->d, &j, &ordinary));
    j.past = true;
    if (j.loops->triad_past) RM_TRY(measure(r->d, &j, &past));
    const bool faster = past.rate > ordinary.rate;
    if (isnan(past.rate)) snprintf(how, sizeof how, "ordinary stores, 3 x %zu MiB", each);
    else if (faster) snprintf(how, sizeof how, "stores past the caches (ordinary: %.1f GB/s), 3 x %zu MiB", ordinary.rate * 1e-9, each);
    else snprintf(how, sizeof how, "ordinary stores (past the caches: %.1f GB/s), 3 x %zu MiB", past.rate * 1e-9, each);
    add(r, "triad memory", "B/s", faster ? past : ordinary, how, NULL);
    return RM_OK;
}

/* A level below another must have more than that one holds, or it is never asked. */
static rm_status bandwidth(peaks_run *r)
{
    const size_t half = r->l3 / 2;
    RM_TRY(read_cache(r, "L2", r->l2, r->l2 / 2));
    RM_TRY(read_cache(r, "L3", r->l3, half > 2 * r->l2 ? half : 2 * r->l2));
    RM_TRY(read_memory(r));
    RM_TRY(triad_memory(r));
    level(r->p, "memory", UINT64_MAX, fmax(rm_peak_of(r->p, "read memory"), rm_peak_of(r->p, "triad memory")));
    return RM_OK;
}

static const cpu_peak_loops *widest_loops(void)
{
    switch (cpu_vec_for(16)->lanes) {
#if defined(__x86_64__)
    case 16: return &cpu_peak_loops_avx512;
    case 8: return &cpu_peak_loops_avx2;
#endif
    default: return &cpu_peak_loops_base;
    }
}

/* Threads spread over the caches: of a kind they have as many together as there are threads, at most all. */
static size_t together(size_t bytes, int n, int threads) { return bytes * (size_t)(n < threads ? n : threads); }

static size_t memory_bytes(size_t caches)
{
    const uint64_t left = rm_memory_available() / 4;
    size_t bytes = 4 * caches > least_memory ? 4 * caches : least_memory;
    if (bytes > most_memory) bytes = most_memory;
    if (left && bytes > left) bytes = (size_t)left;
    return bytes / ALIGN * ALIGN + (bytes < ALIGN ? ALIGN : 0);
}

rm_status cpu_peaks(rm_device *dev, rm_peaks *out)
{
    cpu_device *d = (cpu_device *)dev;
    const cpu_caches c = cpu_peak_caches();
    rm_peaks p = { .n = 0 };
    peaks_run r = { .d = d, .p = &p, .l2 = together(c.l2_bytes, c.n_l2, d->threads), .l3 = together(c.l3_bytes, c.n_l3, d->threads) };
    r.memory = memory_bytes(r.l3 > r.l2 ? r.l3 : r.l2);
    r.job.loops = widest_loops();
    r.job.dot = cpu_peak_dot_bf16();
    RM_TRY(arithmetic(&r));
    RM_TRY(alloc_ones(d, r.memory / sizeof(float), &r.job.buf));
    const rm_status st = bandwidth(&r);
    free(r.job.buf);
    if (st == RM_OK) *out = p;
    return st;
}
