/* The ranks' side of bench comm. Ranks decide alike when a size is done: by numbers that all of them have, reduced over the ranks
 * after each block of iterations, which also carry a signal that only one of them got. */
#include "base/clock.h"
#include "base/log.h"
#include "bench/comm_sweep.h"
#include "bench/launch.h"
#include "bench/session.h"
#include "profiler/runinfo.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST = 3, MOST = 5000, WARMUP = 4, BLOCK_MOST = 512 };
static const double size_s = 0.5, block_s = 0.05, warmup_s = 0.025;

typedef struct sweep sweep;
typedef struct collective {
    const char *name, *redop;
    int root;                                            /* -1: none, as in nccl-tests */
    bool gradients;                                      /* travels as --allreduce-dtype says */
    rm_status (*run)(sweep *s, uint64_t count);
    double (*bus)(double ranks);                         /* busbw / algbw */
} collective;

struct sweep {
    const bench_options *o;
    rm_device *device;
    rm_device_info info;
    rm_comm *comm;
    rm_buf *buf, *staged;                                /* staged: page-locked, where the host cannot address buf */
    float *at;                                           /* the host's address of the data: buf itself, or staged */
    rm_dtype wire;
    uint64_t bytes[BENCH_COMM_SIZES];
    uint32_t n_sizes;
    int32_t hosts;
    bench_comm_pattern pattern, root;                    /* this rank's; the one of rank 0, whose data are broadcast */
    json_t *results;
    /* of the size under way */
    double *time, elapsed_s;                             /* (MOST or --iterations) seconds of the slowest rank */
    uint32_t n;
    uint64_t wrong;                                      /* elements over all ranks, in the worst iteration that was checked */
};

/* ---- the collectives */
static rm_status all_reduce(sweep *s, uint64_t count)
{
    const rm_span span = { { s->buf, 0 }, count, RM_F32 };
    rm_request *r;
    RM_TRY(rm_comm_reduce_start(s->comm, &span, 1, NULL, &r));
    return rm_comm_reduce_finish(s->comm, r, NULL);
}

static rm_status broadcast(sweep *s, uint64_t count) { return rm_comm_broadcast(s->comm, (rm_span) { { s->buf, 0 }, count, RM_F32 }, 0); }

static double bus_all_reduce(double n) { return 2 * (n - 1) / n; }
static double bus_broadcast(double n) { return 1; }

static const collective collectives[] = {
    { "all-reduce", "sum", -1, true, all_reduce, bus_all_reduce },
    { "broadcast", "none", 0, false, broadcast, bus_broadcast },
};

static bool is_narrow(const sweep *s, const collective *op) { return op->gradients && s->wire == RM_BF16; }
static uint64_t element_bytes(const sweep *s, const collective *op) { return rm_dtype_bytes(is_narrow(s, op) ? RM_BF16 : RM_F32); }

/* ---- one block: a barrier before each iteration, outside its time; the first is checked. Sums pile up afterwards, which costs no
 * processor more time. */
static rm_status fill(sweep *s, const collective *op, uint64_t count)
{
    if (op->root < 0 || op->root == rm_comm_rank(s->comm)) bench_comm_fill(&s->pattern, s->at, count);
    else memset(s->at, 0xff, count * sizeof *s->at);     /* NaN: equal to nothing */
    if (!s->staged) return RM_OK;
    RM_TRY(rm_device_write(s->device, NULL, (rm_ref) { s->buf, 0 }, s->at, count * sizeof *s->at));
    return rm_device_sync(s->device, NULL);
}

static rm_status count_wrong(sweep *s, const collective *op, uint64_t count, double *out)
{
    const char *spoil = getenv("RINGMARK_COMM_SPOIL");   /* tests: a rank whose first element is wrong */
    if (s->staged) {
        RM_TRY(rm_device_read(s->device, NULL, s->at, (rm_ref) { s->buf, 0 }, count * sizeof *s->at));
        RM_TRY(rm_device_sync(s->device, NULL));
    }
    if (spoil && atoi(spoil) == rm_comm_rank(s->comm)) s->at[0] = -1; // NOLINT(cert-err34-c)
    *out = (double)bench_comm_wrong(&s->root, op->root < 0 ? s->root.sum : s->root.own, s->at, count);
    return RM_OK;
}

/* Seconds of the slowest rank to time[0..k-1], and their sum to elapsed_s. RM_E_INTERRUPTED on all ranks when one was asked to stop. */
static rm_status block(sweep *s, const collective *op, uint64_t count, uint32_t k, double *time)
{
    double told[BLOCK_MOST + 1], wrong = 0;
    RM_ASSERT(k >= 1 && k <= BLOCK_MOST);
    RM_TRY(fill(s, op, count));
    for (uint32_t i = 0; i < k; i++) {
        RM_TRY(rm_comm_barrier(s->comm));
        const uint64_t begin = rm_now_ns();
        RM_TRY(op->run(s, count));
        told[i] = rm_s(rm_now_ns() - begin);
        if (i == 0) RM_TRY(count_wrong(s, op, count, &wrong));
    }
    told[k] = bench_signal() != 0;
    RM_TRY(rm_comm_host_reduce(s->comm, told, k + 1, RM_F64, RM_MAX));
    RM_TRY(rm_comm_host_reduce(s->comm, &wrong, 1, RM_F64, RM_SUM));
    if (told[k] > 0) return rm_fail(RM_E_INTERRUPTED, "interrupted; the sizes that were done are kept");
    if (wrong > (double)s->wrong) s->wrong = (uint64_t)wrong;
    s->elapsed_s = 0;
    for (uint32_t i = 0; i < k; i++) s->elapsed_s += time[i] = told[i];
    return RM_OK;
}

static uint32_t at_most(double v, uint32_t most) { return v < 1 ? 1 : v < most ? (uint32_t)v : most; }

static rm_status warm_up(sweep *s, const collective *op, uint64_t count)
{
    double ignored[BLOCK_MOST];
    const bool by_time = s->o->warmup < 0;
    for (uint32_t left = by_time ? 1 : (uint32_t)s->o->warmup; left;) {
        const uint32_t k = left < BLOCK_MOST ? left : BLOCK_MOST;
        RM_TRY(block(s, op, count, k, ignored));
        left -= k;
    }
    return by_time && s->elapsed_s < warmup_s ? block(s, op, count, WARMUP, ignored) : RM_OK;
}

static rm_status measure(sweep *s, const collective *op, uint64_t count)
{
    const uint32_t asked = (uint32_t)s->o->iterations, most = asked ? asked : MOST;
    double total_s = 0;
    s->n = 0;
    s->wrong = 0;
    RM_TRY(warm_up(s, op, count));
    while (s->n < most && (asked || s->n < LEAST || total_s < size_s)) {
        const double left_s = asked || s->n < LEAST ? block_s : size_s - total_s < block_s ? size_s - total_s : block_s;
        const uint32_t fits = s->n ? at_most(left_s * s->n / total_s, BLOCK_MOST) : 1;
        const uint32_t k = fits < most - s->n ? fits : most - s->n;
        RM_TRY(block(s, op, count, k, s->time + s->n));
        total_s += s->elapsed_s;
        s->n += k;
    }
    return RM_OK;
}

/* ---- rows */
static json_t *row_json(const sweep *s, const collective *op, uint64_t count)
{
    const uint64_t bytes = count * element_bytes(s, op);
    const int n = rm_comm_size(s->comm);
    const double latency = rm_median(s->time, s->n), algbw = latency > 0 ? (double)bytes / latency : NAN;
    json_t *row = json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:s, s:i}", "kind", "size", "op", op->name, "bytes", (json_int_t)bytes, "count",
                            (json_int_t)count, "dtype", is_narrow(s, op) ? "bf16" : "fp32", "redop", op->redop, "root", op->root, "ranks", n, "hosts", s->hosts, "origin",
                            "measured", "device", s->info.device, "comm_library", rm_comm_library(s->comm), "iterations", (int)s->n);
    json_object_set_new(row, "time_s", bench_time_json(s->time, s->n));
    json_object_set_new(row, "latency_s", bench_number(latency));
    json_object_set_new(row, "algbw_bytes_per_s", bench_number(algbw));
    json_object_set_new(row, "busbw_bytes_per_s", bench_number(algbw * op->bus(n)));
    json_object_set_new(row, "wrong", json_integer((json_int_t)s->wrong));
    return row;
}

static json_t *results_json(const sweep *s) { return json_pack("{s:O}", "results", s->results); }

static rm_status keep(sweep *s, const collective *op, uint64_t count)
{
    json_t *result = json_pack("{s:o, s:{s:o}}", "row", row_json(s, op, count), "samples", "time_s", bench_samples(s->time, s->n));
    if (!result || json_array_append_new(s->results, result) != 0) return rm_fail(RM_E_NOMEM, "out of memory for the row of %llu elements", (unsigned long long)count);
    if (!s->o->rank_result[0]) return RM_OK;
    json_t *so_far = results_json(s); /* in case this rank is killed */
    const rm_status st = so_far ? bench_launch_leave_result(s->o->rank_result, so_far) : rm_fail(RM_E_NOMEM, "out of memory for the results");
    json_decref(so_far);
    return st;
}

static bool wanted(const sweep *s, const collective *op) { return !strcmp(s->o->comm_op, "all") || !strcmp(s->o->comm_op, op->name); }

static rm_status measure_all(sweep *s)
{
    rm_progress p;
    rm_status st = RM_OK;
    uint64_t done = 0, total = 0;
    for (size_t i = 0; i < RM_COUNT(collectives); i++) total += wanted(s, &collectives[i]) ? s->n_sizes : 0;
    rm_progress_begin(&p, "collectives", "sizes", total);
    for (size_t i = 0; i < RM_COUNT(collectives); i++) {
        const collective *op = &collectives[i];
        for (uint32_t k = 0; wanted(s, op) && st == RM_OK && k < s->n_sizes; k++) {
            const uint64_t count = s->bytes[k] / element_bytes(s, op);
            char note[64];
            snprintf(note, sizeof note, "%s %llu B", op->name, (unsigned long long)s->bytes[k]);
            rm_progress_update(&p, done++, note);
            st = measure(s, op, count);
            if (st == RM_OK && rm_comm_rank(s->comm) == 0) st = keep(s, op, count);
        }
    }
    rm_progress_end(&p);
    return st;
}

/* ---- setting up */
/* How many different hosts there are. */
static int32_t count_hosts(const rm_comm *c)
{
    int32_t n = 0;
    for (int r = 0; r < rm_comm_size(c); r++) {
        int same = 0;
        while (same < r && strcmp(rm_comm_host(c, same), rm_comm_host(c, r)) != 0) same++;
        n += same == r;
    }
    return n;
}

static rm_status agree(const sweep *s)
{
    const bench_options *o = s->o;
    char warmup[16], iterations[16], seed[32];
    snprintf(warmup, sizeof warmup, "%d", o->warmup);
    snprintf(iterations, sizeof iterations, "%d", o->iterations);
    snprintf(seed, sizeof seed, "%lld", (long long)o->seed);
    const rm_agree fields[] = { { "build", rm_version() }, { "sizes", o->sizes }, { "op", o->comm_op }, { "warmup", warmup }, { "iterations", iterations },
                                { "seed", seed }, { "allreduce-dtype", o->allreduce_dtype } };
    return rm_comm_agree(s->comm, fields, RM_COUNT(fields));
}

/* Room for the most elements that any size asks for, on every rank of this machine. */
static rm_status allocate(sweep *s)
{
    const uint64_t ranks_here = (uint64_t)rm_world_from_env().local_size, available = rm_memory_available();
    uint64_t most = 0;
    for (uint32_t k = 0; k < s->n_sizes; k++) {
        if (s->bytes[k] < sizeof(float)) return rm_fail(RM_E_ARG, "--sizes: %llu bytes are less than one element", (unsigned long long)s->bytes[k]);
        most = s->bytes[k] > most ? s->bytes[k] : most;
    }
    if (s->wire == RM_BF16) most *= 2; /* gradients lie there as fp32 */
    if (available && most > available / (ranks_here ? ranks_here : 1))
        return rm_fail(RM_E_NOMEM, "--sizes: %.1f GB for each of %llu ranks do not fit into the %.1f GB of memory that are left; choose a smaller largest size",
                       (double)most * 1e-9, (unsigned long long)ranks_here, (double)available * 1e-9);
    s->time = malloc((size_t)(s->o->iterations ? s->o->iterations : MOST) * sizeof *s->time);
    if (!s->time) return rm_fail(RM_E_NOMEM, "out of memory for the times");
    RM_TRY(rm_buf_alloc(s->device, RM_MEM_DEVICE, most, &s->buf));
    s->at = rm_buf_host(s->buf);
    if (s->at) return RM_OK;
    RM_TRY(rm_buf_alloc(s->device, RM_MEM_PINNED, most, &s->staged));
    s->at = rm_buf_host(s->staged);
    return RM_OK;
}

static rm_status set_up(sweep *s)
{
    const bench_options *o = s->o;
    const rm_device_config dc = { .ordinal = rm_world_from_env().local_rank, .threads = o->threads };
    s->wire = strcmp(o->allreduce_dtype, "bf16") == 0 ? RM_BF16 : RM_F32;
    const rm_comm_config cc = { .timeout_s = o->comm_timeout_s, .wire = s->wire };
    RM_TRY(bench_comm_sizes(o->sizes, s->bytes, &s->n_sizes));
    RM_TRY(bench_pin_rank());
    RM_TRY(rm_device_open(o->device, &dc, &s->device));
    rm_device_get_info(s->device, &s->info);
    RM_TRY(rm_comm_open(o->comm, &cc, s->device, &s->comm));
    RM_TRY(agree(s));
    s->hosts = count_hosts(s->comm);
    const uint32_t ranks = (uint32_t)rm_comm_size(s->comm);
    bench_comm_pattern_make((uint32_t)rm_comm_rank(s->comm), ranks, (uint64_t)o->seed, s->wire == RM_BF16, &s->pattern);
    bench_comm_pattern_make(0, ranks, (uint64_t)o->seed, s->wire == RM_BF16, &s->root);
    return allocate(s);
}

rm_status bench_comm_rank(const bench_options *o, json_t **out)
{
    sweep *s = calloc(1, sizeof *s);
    if (!s) return rm_fail(RM_E_NOMEM, "out of memory");
    s->o = o;
    s->results = json_array();
    rm_status st = set_up(s);
    if (st == RM_OK) st = measure_all(s);
    if (rm_comm_rank(s->comm) == 0 && (st == RM_OK || json_array_size(s->results))) *out = results_json(s);
    json_decref(s->results);
    free(s->time);
    rm_comm_close(s->comm); /* before the memory that its thread may still have in hand */
    rm_buf_free(s->device, s->staged);
    if (s->buf) rm_buf_free(s->device, s->buf);
    rm_device_close(s->device);
    free(s);
    return st;
}
