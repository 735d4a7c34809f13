/* Communicators, ranks and cores. The program is its own rank: "test_comm rank MODE ..." is what the launcher starts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "bench/bench.h"
#include "bench/launch.h"
#include "kernels/comm/comm.h"
#include "kernels/cores.h"
#include "profiler/runinfo.h"

/* ================================================================ the ranks */
static const uint64_t sizes[] = { 0, 1, 7, 1000000 };
#define NEED(x) do { if (!(x)) return rm_fail(RM_E_NUMERIC, "line %d: %s", __LINE__, #x); } while (0)

static void put(void *p, uint64_t i, rm_dtype t, double v)
{
    if (t == RM_F64) ((double *)p)[i] = v;
    if (t == RM_F32) ((float *)p)[i] = (float)v;
    if (t == RM_I32) ((int32_t *)p)[i] = (int32_t)v;
    if (t == RM_U8) ((uint8_t *)p)[i] = (uint8_t)v;
    if (t == RM_BF16) {
        union { float f; uint32_t u; } x = { .f = (float)v };
        ((uint16_t *)p)[i] = (uint16_t)(x.u >> 16);
    }
}

static double get(const void *p, uint64_t i, rm_dtype t)
{
    union { float f; uint32_t u; } x = { .u = 0 };
    if (t == RM_BF16) x.u = (uint32_t)((const uint16_t *)p)[i] << 16;
    return t == RM_F64 ? ((const double *)p)[i] : t == RM_F32 ? ((const float *)p)[i] : t == RM_I32 ? ((const int32_t *)p)[i]
         : t == RM_U8 ? ((const uint8_t *)p)[i] : (double)x.f;
}

/* Small integers: sums over up to 8 ranks are exact in every type, bf16 included. */
static double value_of(int rank, uint64_t i) { return (double)((i * 7 + (uint64_t)rank * 3) % 13); }
static double sum_of(int size, uint64_t i)
{
    double s = 0;
    for (int r = 0; r < size; r++) s += value_of(r, i);
    return s;
}

static rm_status device_sums(rm_comm *c, rm_device *d, rm_dtype t, uint64_t n)
{
    const size_t each = rm_dtype_bytes(t);
    rm_buf *buf;
    rm_request *a, *b;
    rm_mark *mark;
    RM_TRY(rm_buf_alloc(d, RM_MEM_DEVICE, (2 * n + 1) * each, &buf));
    RM_TRY(rm_mark_new(d, &mark));
    RM_TRY(rm_mark_set(d, NULL, mark));
    char *p = rm_buf_host(buf);
    for (uint64_t i = 0; i < 2 * n; i++) put(p, i, t, value_of(c->rank, i));
    put(p, 2 * n, t, 5);
    /* Two requests at once, the first of two spans; waited for the other way round. */
    const rm_span one[] = { { { buf, 0 }, n / 2, t }, { { buf, n / 2 * each }, n - n / 2, t } }, two = { { buf, n * each }, n, t };
    RM_TRY(rm_comm_reduce_start(c, one, 2, mark, &a));
    RM_TRY(rm_comm_reduce_start(c, &two, 1, NULL, &b));
    RM_TRY(rm_comm_reduce_finish(c, b, NULL));
    RM_TRY(rm_comm_reduce_finish(c, a, NULL));
    for (uint64_t i = 0; i < 2 * n; i++) NEED(get(p, i, t) == sum_of(c->size, i));
    NEED(get(p, 2 * n, t) == 5); /* nothing beyond */
    const rm_span all = { { buf, 0 }, 2 * n, t };
    for (uint64_t i = 0; i < 2 * n; i++) put(p, i, t, c->rank + 1);
    RM_TRY(rm_comm_broadcast(c, all, c->size - 1));
    for (uint64_t i = 0; i < 2 * n; i++) NEED(get(p, i, t) == c->size);
    rm_mark_free(d, mark);
    rm_buf_free(d, buf);
    return RM_OK;
}

static rm_status host_values(rm_comm *c, rm_dtype t, uint64_t n)
{
    const size_t each = rm_dtype_bytes(t);
    char *p = malloc(n * each + 1), *all = malloc(n * each * (size_t)c->size + 1);
    NEED(p && all);
    for (int how = RM_SUM; how <= RM_MAX; how++) {
        for (uint64_t i = 0; i < n; i++) put(p, i, t, value_of(c->rank, i));
        RM_TRY(rm_comm_host_reduce(c, p, n, t, (rm_reduce)how));
        for (uint64_t i = 0; i < n; i++) {
            double low = 99, high = -1;
            for (int r = 0; r < c->size; r++) {
                low = fmin(low, value_of(r, i));
                high = fmax(high, value_of(r, i));
            }
            NEED(get(p, i, t) == (how == RM_SUM ? sum_of(c->size, i) : how == RM_MIN ? low : high));
        }
    }
    for (uint64_t i = 0; i < n; i++) put(p, i, t, value_of(c->rank, i));
    RM_TRY(rm_comm_host_gather(c, p, n * each, c->rank == 0 ? all : NULL));
    for (int r = 0; c->rank == 0 && r < c->size; r++)
        for (uint64_t i = 0; i < n; i++) NEED(get(all + (uint64_t)r * n * each, i, t) == value_of(r, i));
    RM_TRY(rm_comm_host_broadcast(c, p, n * each, 0));
    for (uint64_t i = 0; i < n; i++) NEED(get(p, i, t) == value_of(0, i));
    free(p);
    free(all);
    return RM_OK;
}

/* All ranks of a test run here. */
static rm_status same_hosts(rm_comm *c)
{
    char here[256] = "";
    NEED(gethostname(here, sizeof here - 1) == 0);
    for (int r = 0; r < c->size; r++) NEED(!strncmp(rm_comm_host(c, r), here, RM_COMM_HOST_BYTES - 1));
    return RM_OK;
}

static rm_status mode_sums(rm_comm *c, rm_device *d, json_t *out)
{
    static const rm_dtype on_device[] = { RM_F32, RM_F64, RM_BF16 }, on_host[] = { RM_F32, RM_F64, RM_I32, RM_U8 };
    for (size_t s = 0; s < RM_COUNT(sizes); s++) {
        for (size_t t = 0; t < RM_COUNT(on_device); t++) RM_TRY(device_sums(c, d, on_device[t], sizes[s]));
        for (size_t t = 0; t < RM_COUNT(on_host); t++) RM_TRY(host_values(c, on_host[t], sizes[s]));
    }
    RM_TRY(rm_comm_barrier(c));
    RM_TRY(same_hosts(c));
    json_object_set_new(out, "ranks", json_integer(c->size));
    json_object_set_new(out, "library", json_string(rm_comm_library(c)));
    json_object_set_new(out, "settings", json_string(rm_comm_settings()));
    return rm_comm_check(c);
}

/* bf16 has 8 bits: sums that fall between two values are rounded to the nearest, ties to even. */
static rm_status mode_bf16(rm_comm *c, rm_device *d, json_t *out)
{
    static const struct { double a, b, sum; } rows[] = {
        { 1, 0.00390625, 1 },              /* 1 + 2^-8: a tie, to even */
        { 1.0078125, 0.00390625, 1.015625 }, /* 1 + 2^-7 + 2^-8: a tie, to even, upwards */
        { 1, 0.005859375, 1.0078125 },     /* above the tie */
        { 3, -3, 0 },
    };
    rm_buf *buf;
    rm_request *r;
    RM_TRY(rm_buf_alloc(d, RM_MEM_DEVICE, RM_COUNT(rows) * 2, &buf));
    void *p = rm_buf_host(buf);
    for (size_t i = 0; i < RM_COUNT(rows); i++) put(p, i, RM_BF16, c->rank == 0 ? rows[i].a : c->rank == 1 ? rows[i].b : 0);
    const rm_span span = { { buf, 0 }, RM_COUNT(rows), RM_BF16 };
    RM_TRY(rm_comm_reduce_start(c, &span, 1, NULL, &r));
    RM_TRY(rm_comm_reduce_finish(c, r, NULL));
    for (size_t i = 0; i < RM_COUNT(rows); i++) NEED(get(p, i, RM_BF16) == rows[i].sum);
    rm_buf_free(d, buf);
    return RM_OK;
}

/* The same gradients summed twice give the same bits on every rank. */
static rm_status mode_bits(rm_comm *c, rm_device *d, json_t *out)
{
    enum { N = 10007 };
    rm_buf *buf;
    rm_request *r;
    static float first[N], least[N], most[N];
    RM_TRY(rm_buf_alloc(d, RM_MEM_DEVICE, sizeof first, &buf));
    float *p = rm_buf_host(buf);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < N; i++) p[i] = sinf((float)(i + 1) * (float)(c->rank + 1)) / 3.0f;
        const rm_span span = { { buf, 0 }, N, RM_F32 };
        RM_TRY(rm_comm_reduce_start(c, &span, 1, NULL, &r));
        RM_TRY(rm_comm_reduce_finish(c, r, NULL));
        if (turn == 0) memcpy(first, p, sizeof first);
        NEED(memcmp(first, p, sizeof first) == 0);
    }
    memcpy(least, p, sizeof least);
    memcpy(most, p, sizeof most);
    RM_TRY(rm_comm_host_reduce(c, least, N, RM_F32, RM_MIN));
    RM_TRY(rm_comm_host_reduce(c, most, N, RM_F32, RM_MAX));
    NEED(memcmp(least, most, sizeof least) == 0);
    rm_buf_free(d, buf);
    return RM_OK;
}

/* As many requests at once as there are gradients, and more than there were at the start. */
static rm_status mode_many(rm_comm *c, rm_device *d, json_t *out)
{
    enum { N = 600 };
    static rm_request *r[N];
    rm_buf *buf;
    RM_TRY(rm_buf_alloc(d, RM_MEM_DEVICE, N * sizeof(float), &buf));
    float *p = rm_buf_host(buf);
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < N; i++) p[i] = (float)i;
        for (size_t i = 0; i < N; i++) {
            const rm_span span = { { buf, i * sizeof(float) }, 1, RM_F32 };
            RM_TRY(rm_comm_reduce_start(c, &span, 1, NULL, &r[i]));
        }
        for (int i = 0; i < N; i++) RM_TRY(rm_comm_reduce_finish(c, r[i], NULL));
        for (int i = 0; i < N; i++) NEED(p[i] == (float)(i * c->size));
    }
    rm_buf_free(d, buf);
    return RM_OK;
}

static rm_status mode_agree(rm_comm *c, rm_device *d, json_t *out)
{
    char own[32];
    snprintf(own, sizeof own, "%d", c->rank == c->size - 1 ? 64 : 32);
    const rm_agree same[] = { { "seed", "1" }, { "graph", "resnet50" } }, other[] = { { "seed", "1" }, { "batch", own }, { "split", own } };
    RM_TRY(rm_comm_agree(c, same, 2));
    RM_TRY(rm_comm_agree(c, NULL, 0));
    return rm_comm_agree(c, other, 3);
}

/* Gradients in f32 that travel as bf16: exact for small integers, within half a unit of 8 bits of the sum of the rounded otherwise, the same
 * bits on every rank, and a NaN arrives. Two communicators at once, several parts each. */
static rm_status mode_wire(rm_comm *c, rm_device *d, json_t *out)
{
    enum { N = 3000001 };
    const rm_comm_config cfg = { .timeout_s = 30, .wire = RM_BF16 };
    rm_comm *narrow;
    rm_buf *buf;
    rm_request *r;
    rm_reduce_time time;
    RM_TRY(rm_comm_open("mpi", &cfg, d, &narrow));
    RM_TRY(rm_buf_alloc(d, RM_MEM_DEVICE, N * sizeof(float), &buf));
    float *p = rm_buf_host(buf);
    const rm_span span = { { buf, 0 }, N, RM_F32 };
    for (uint64_t i = 0; i < N; i++) p[i] = (float)value_of(c->rank, i);
    RM_TRY(rm_comm_reduce_start(narrow, &span, 1, NULL, &r));
    RM_TRY(rm_comm_reduce_finish(narrow, r, &time));
    NEED(time.end_ns > time.begin_ns);
    for (uint64_t i = 0; i < N; i++) NEED(p[i] == (float)sum_of(c->size, i));
    for (uint64_t i = 0; i < N; i++) p[i] = 1 + (float)(i % 1000) * 1e-3f;
    if (c->rank == 1) p[7] = NAN;
    rm_comm_delay_next(narrow, 50000000);
    RM_TRY(rm_comm_reduce_start(narrow, &span, 1, NULL, &r));
    RM_TRY(rm_comm_reduce_finish(narrow, r, &time));
    NEED(time.end_ns - time.begin_ns >= 50000000);
    NEED(isnan(p[7]));
    for (uint64_t i = 8; i < N; i++) NEED(fabsf(p[i] / (float)c->size - (1 + (float)(i % 1000) * 1e-3f)) <= 0x1p-6f); /* rounded before the sum, and once an addition */
    double low, sum = 0;
    for (uint64_t i = 8; i < N; i++) sum += p[i];
    low = sum;
    RM_TRY(rm_comm_host_reduce(c, &low, 1, RM_F64, RM_MIN));
    NEED(low == sum);
    NEED(rm_comm_cpu_ns(narrow) > 0 && rm_comm_cpu_ns(c) > 0);
    rm_buf_free(d, buf);
    rm_comm_close(narrow);
    return RM_OK;
}

static rm_status mode_exit3(rm_comm *c, rm_device *d, json_t *out)
{
    if (c->rank == c->size - 1) return rm_fail(RM_E_INCONCLUSIVE, "the last rank says three");
    return rm_comm_barrier(c); /* the others wait for a rank that has left */
}

static rm_status mode_kill(rm_comm *c, rm_device *d, json_t *out)
{
    RM_TRY(rm_comm_barrier(c));
    if (c->rank == c->size - 1) raise(SIGKILL);
    return rm_comm_barrier(c);
}

static rm_status mode_stop(rm_comm *c, rm_device *d, json_t *out)
{
    rm_buf *buf;
    rm_request *r;
    RM_TRY(rm_buf_alloc(d, RM_MEM_DEVICE, 4000, &buf));
    const rm_span span = { { buf, 0 }, 1000, RM_F32 };
    RM_TRY(rm_comm_barrier(c));
    if (c->rank == c->size - 1) raise(SIGSTOP);
    RM_TRY(rm_comm_reduce_start(c, &span, 1, NULL, &r));
    const rm_status st = rm_comm_reduce_finish(c, r, NULL);
    if (st == RM_E_PEER && rm_comm_barrier(c) != RM_E_PEER) return RM_E_NUMERIC; /* failed is failed */
    if (st == RM_OK) rm_buf_free(d, buf);
    return st;
}

/* Works until it is told to stop, then ends in order. */
static rm_status mode_work(rm_comm *c, rm_device *d, json_t *out)
{
    for (int step = 0; step < 2000; step++) {
        int32_t stop = bench_signal() != 0;
        RM_TRY(rm_comm_host_reduce(c, &stop, 1, RM_I32, RM_MAX));
        if (stop) return rm_fail(RM_E_INTERRUPTED, "stopped after %d steps", step);
        if (step == 3 && c->rank == 0) kill((pid_t)atoi(getenv("TEST_PARENT")), SIGTERM);
        usleep(10000);
    }
    return RM_OK;
}

static rm_status mode_partial(rm_comm *c, rm_device *d, json_t *out)
{
    json_object_set_new(out, "rank", json_integer(c->rank));
    return rm_fail(RM_E_PARTIAL, "a checkpoint was not written");
}

static rm_status mode_talk(rm_comm *c, rm_device *d, json_t *out)
{
    if (c->rank == 0) rm_warn("something to know");
    return RM_OK;
}

static rm_status mode_env(rm_comm *c, rm_device *d, json_t *out)
{
    const char *v = getenv("TEST_VALUE");
    rm_cores cores;
    char text[64];
    RM_TRY(rm_cores_plan(2, 1, rm_world_from_env().local_rank, &cores));
    RM_TRY(rm_cores_pin(&cores));
    NEED(rm_cores_available() == 1);
    rm_cores_text(&cores, text, sizeof text);
    NEED(v && !strcmp(v, "a b=c"));
    char all[2][64];
    NEED(c->size <= 2);
    RM_TRY(rm_comm_host_gather(c, text, sizeof text, all));
    for (int r = 0; c->rank == 0 && r < c->size; r++) json_object_set_new(out, r ? "second" : "first", json_string(all[r]));
    return RM_OK;
}

static const struct { const char *name; rm_status (*run)(rm_comm *c, rm_device *d, json_t *out); } modes[] = {
    { "sums", mode_sums }, { "bf16", mode_bf16 }, { "bits", mode_bits }, { "many", mode_many }, { "wire", mode_wire }, { "agree", mode_agree }, { "exit3", mode_exit3 },
    { "kill", mode_kill }, { "stop", mode_stop }, { "work", mode_work }, { "partial", mode_partial }, { "talk", mode_talk }, { "env", mode_env },
};

/* rank MODE TIMEOUT [--rank-result FILE], with the endings of bench's main(). */
static int be_rank(int argc, char **argv)
{
    const rm_comm_config cfg = { .timeout_s = atof(argv[3]) };
    const rm_device_config dc = { .ordinal = 0 };
    rm_comm *c = NULL;
    rm_device *d = NULL;
    json_t *out = json_object();
    bench_signal_install();
    rm_log_setup(RM_NORMAL, rm_world_from_env().rank);
    rm_status st = rm_device_open("null", &dc, &d);
    if (st == RM_OK) st = rm_comm_open("auto", &cfg, d, &c);
    for (size_t i = 0; st == RM_OK && i < RM_COUNT(modes); i++)
        if (!strcmp(argv[2], modes[i].name)) {
            st = modes[i].run(c, d, out);
            break;
        }
    if ((st == RM_OK || st == RM_E_PARTIAL) && rm_comm_rank(c) == 0 && argc == 6 && bench_launch_leave_result(argv[5], out) != RM_OK) st = RM_E_IO;
    if (st != RM_OK) rm_error("bench test: %s", rm_last_error());
    json_decref(out);
    rm_comm_close(c);
    if (st == RM_OK) rm_device_close(d);
    const int code = rm_exit_code(st, bench_signal());
    rm_comm_leave(code);
    return code;
}

/* ================================================================ the tests */
static rm_status start(int ranks, const char *mode, const char *timeout, const char *const *env, json_t **out)
{
    const char *const argv[] = { "rank", mode, timeout, NULL };
    const bench_launch_config cfg = { .ranks = ranks, .argv = argv, .env = env, .oversubscribe = true, .timeout_s = 120, .verbose = getenv("TEST_VERBOSE") != NULL };
    return bench_launch(&cfg, out);
}

static void expect_ok(int ranks, const char *mode, const char *const *env, json_t **out)
{
    json_t *got = NULL;
    const rm_status st = start(ranks, mode, "30", env, &got);
    if (st != RM_OK) fail_msg("%s on %d ranks: %s: %s", mode, ranks, rm_status_name(st), rm_last_error());
    assert_non_null(got);
    if (out) *out = got;
    else json_decref(got);
}

static void expect_failure(int ranks, const char *mode, const char *timeout, rm_status want, const char *says)
{
    json_t *got = NULL;
    const rm_status st = start(ranks, mode, timeout, NULL, &got);
    if (st != want) fail_msg("%s on %d ranks: %s: %s", mode, ranks, rm_status_name(st), rm_last_error());
    if (!strstr(rm_last_error(), says)) fail_msg("%s: \"%s\" lacks \"%s\"", mode, rm_last_error(), says);
    assert_null(got);
    if (strchr(rm_last_error(), '\n')) fail_msg("more than one line: %s", rm_last_error());
}

static rm_comm *open_self(rm_device *d)
{
    const rm_comm_config cfg = { .timeout_s = 5 };
    rm_comm *c = NULL;
    assert_int_equal(rm_comm_open("auto", &cfg, d, &c), RM_OK);
    return c;
}

static void test_self(void **state)
{
    const rm_device_config dc = { .ordinal = 0 };
    rm_device *d;
    json_t *out = json_object();
    assert_int_equal(rm_device_open("ref", &dc, &d), RM_OK);
    rm_comm *c = open_self(d);
    assert_int_equal(rm_comm_rank(c), 0);
    assert_int_equal(rm_comm_size(c), 1);
    assert_string_equal(rm_comm_library(c), "");
    assert_string_equal(rm_comm_settings(), "");
    static rm_status (*const both[])(rm_comm *, rm_device *, json_t *) = { mode_sums, mode_bits, mode_many, mode_agree };
    for (size_t i = 0; i < RM_COUNT(both); i++)
        if (both[i](c, d, out) != RM_OK) fail_msg("%s", rm_last_error());
    assert_true(c->calls > 0 && c->bytes > 0);
    rm_comm_close(c);
    rm_device_close(d);
    rm_comm_leave(0); /* nothing began, nothing to end */
    rm_comm_leave(2);
    json_decref(out);
}

static void test_no_communicator(void **state)
{
    double v = 3, all = 0;
    assert_int_equal(rm_comm_size(NULL), 1);
    assert_int_equal(rm_comm_host_reduce(NULL, &v, 1, RM_F64, RM_SUM), RM_OK);
    assert_int_equal(rm_comm_host_gather(NULL, &v, sizeof v, &all), RM_OK);
    assert_true(all == 3);
    assert_int_equal(rm_comm_barrier(NULL), RM_OK);
    rm_comm_close(NULL);
    rm_comm_abort(NULL, 2);
}

static void test_refusals(void **state)
{
    const rm_comm_config cfg = { .timeout_s = 5 };
    rm_comm *c = NULL;
    assert_int_equal(rm_comm_open("gloo", &cfg, NULL, &c), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "gloo"));
    assert_int_equal(rm_comm_open("mpi", &cfg, NULL, &c), RM_E_ARG); /* not a rank: MPI does not begin */
    assert_non_null(strstr(rm_last_error(), "mpirun"));
    const rm_status nccl = rm_comm_open("nccl", &cfg, NULL, &c); /* no GPU, or no device given */
    assert_true(nccl == RM_E_UNSUPPORTED || nccl == RM_E_ARG);
    assert_null(c);
}

typedef struct env_row { const char *set[8]; int rank, size, local_rank, local_size; bool is_rank; } env_row;

static void test_world(void **state)
{
    static const env_row rows[] = {
        { { NULL }, 0, 1, 0, 1, false },
        { { "OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=8", "OMPI_COMM_WORLD_LOCAL_RANK=1", "OMPI_COMM_WORLD_LOCAL_SIZE=2" }, 3, 8, 1, 2, true },
        { { "PMI_RANK=2", "PMI_SIZE=4", "MPI_LOCALRANKID=2", "MPI_LOCALNRANKS=4" }, 2, 4, 2, 4, true },
        { { "PMI_RANK=0", "PMI_SIZE=1" }, 0, 1, 0, 1, true },
        { { "SLURM_PROCID=5", "SLURM_NTASKS=8", "SLURM_STEP_NUM_TASKS=8", "SLURM_LOCALID=1", "SLURM_STEP_TASKS_PER_NODE=4(x2)" }, 5, 8, 1, 4, true },
        /* the shell of sbatch and salloc is no rank, whatever was allocated */
        { { "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_LOCALID=0", "SLURM_JOB_ID=7" }, 0, 1, 0, 1, false },
        { { "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_STEP_NUM_TASKS=1" }, 0, 1, 0, 1, true },
        /* nonsense is nothing */
        { { "OMPI_COMM_WORLD_RANK=x", "OMPI_COMM_WORLD_SIZE=8" }, 0, 1, 0, 1, false },
        { { "PMI_RANK=9", "PMI_SIZE=4" }, 0, 1, 0, 1, true },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        for (int k = 0; rows[i].set[k]; k++) assert_int_equal(putenv((char *)(uintptr_t)rows[i].set[k]), 0);
        const rm_world w = rm_world_from_env();
        const bool is_rank = rm_world_is_rank();
        for (int k = 0; rows[i].set[k]; k++) {
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(rows[i].set[k], "="), rows[i].set[k]);
            unsetenv(name);
        }
        if (w.rank != rows[i].rank || w.size != rows[i].size || w.local_rank != rows[i].local_rank || w.local_size != rows[i].local_size || is_rank != rows[i].is_rank)
            fail_msg("row %zu: rank %d of %d, local %d of %d, %d", i, w.rank, w.size, w.local_rank, w.local_size, is_rank);
    }
}

static void test_sums(void **state)
{
    for (int n = 1; n <= 4; n++) {
        json_t *out = NULL;
        expect_ok(n, "sums", NULL, &out);
        assert_int_equal(json_integer_value(json_object_get(out, "ranks")), n);
        const char *library = json_string_value(json_object_get(out, "library"));
        if (n > 1 && strncmp(library, "Open MPI ", 9) == 0) {
            assert_non_null(strstr(json_string_value(json_object_get(out, "settings")), "OMPI_MCA_coll_libnbc_iallreduce_algorithm=1"));
            assert_non_null(strstr(json_string_value(json_object_get(out, "settings")), "OMPI_MCA_mpi_yield_when_idle=1"));
        }
        json_decref(out);
    }
}

/* Cut into calls of 300001 elements, as counts above INT_MAX are cut. */
static void test_large_counts(void **state)
{
    static const char *const env[] = { "RINGMARK_MPI_PART=1200004", NULL };
    expect_ok(3, "sums", env, NULL);
}

static void test_settings_of_the_user(void **state)
{
    static const char *const env[] = { "OMPI_MCA_coll_libnbc_iallreduce_algorithm=2", NULL };
    json_t *out = NULL;
    expect_ok(2, "sums", env, &out);
    assert_null(strstr(json_string_value(json_object_get(out, "settings")), "iallreduce"));
    json_decref(out);
}

static void test_rounding_and_bits(void **state)
{
    expect_ok(2, "bf16", NULL, NULL);
    expect_ok(3, "bits", NULL, NULL);
    expect_ok(2, "many", NULL, NULL);
    expect_ok(2, "wire", NULL, NULL);
    expect_ok(3, "wire", NULL, NULL);
}

static void test_disagreement(void **state)
{
    expect_failure(3, "agree", "30", RM_E_DEVICE /* exit code 2 */, "the ranks disagree on batch: rank 0 has \"32\", rank 2 has \"64\"");
}

static void test_exit_code(void **state)
{
    expect_failure(3, "exit3", "30", RM_E_INCONCLUSIVE, "the last rank says three");
    expect_failure(1, "exit3", "30", RM_E_INCONCLUSIVE, "the last rank says three");
}

static void test_killed(void **state)
{
    const uint64_t begin = rm_now_ns();
    expect_failure(3, "kill", "5", RM_E_PEER, "killed by signal 9");
    assert_true(rm_s(rm_now_ns() - begin) < 60);
    expect_failure(1, "kill", "5", RM_E_PEER, "killed by signal 9");
}

static void test_time_out(void **state)
{
    expect_failure(2, "stop", "2", RM_E_PEER, "waited 2.0 s for the all-reduce of 4000 bytes");
    assert_non_null(strstr(rm_last_error(), "rank 1 on "));
    assert_non_null(strstr(rm_last_error(), "did not arrive"));
    expect_failure(4, "stop", "2", RM_E_PEER, "rank 3 on "); /* and not those that wait as well */
    assert_null(strstr(rm_last_error(), "ranks"));
}

static void test_partial_has_a_result(void **state)
{
    json_t *out = NULL;
    assert_int_equal(start(2, "partial", "30", NULL, &out), RM_E_PARTIAL);
    assert_non_null(out);
    assert_string_equal(rm_last_error(), "a checkpoint was not written");
    json_decref(out);
}

/* SIGTERM to the launching process: in a child of its own, since it is remembered. Ranks tell the launcher's code by 143. */
static void test_signal_is_passed_on(void **state)
{
    for (int ranks = 1; ranks <= 2; ranks++) {
        const pid_t child = fork();
        if (child == 0) {
            char parent[32];
            json_t *out = NULL;
            bench_signal_install();
            snprintf(parent, sizeof parent, "TEST_PARENT=%d", (int)getpid());
            const char *const env[] = { parent, NULL };
            const rm_status st = start(ranks, "work", "20", env, &out);
            const bool said = strstr(rm_last_error(), "stopped after") != NULL;
            if (!said) fprintf(stderr, "%s\n", rm_last_error());
            _exit(said ? rm_exit_code(st, bench_signal()) : 99);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 143);
    }
}

/* The launch's own time-out, and with it the proof that nothing stays: the pipes of a rank that lives on would keep it waiting. */
static void test_launch_time_out(void **state)
{
    const char *const argv[] = { "rank", "stop", "300", NULL };
    const bench_launch_config cfg = { .ranks = 2, .argv = argv, .oversubscribe = true, .timeout_s = 3 };
    json_t *out = NULL;
    assert_int_equal(bench_launch(&cfg, &out), RM_E_PEER);
    assert_non_null(strstr(rm_last_error(), "did not end within 3.0 s"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* Our lines come through, the launcher's account of an ending does not. */
static void test_talk(void **state)
{
    static const struct { const char *mode; int ranks; const char *text; } rows[] = { { "talk", 2, "warning: something to know\n" }, { "exit3", 3, "" }, { "kill", 2, "" } };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        char text[4096] = "", name[] = "/tmp/rm-test-XXXXXX";
        const int file = mkstemp(name), saved[] = { dup(1), dup(2) };
        json_t *out = NULL;
        assert_true(file >= 0);
        fflush(NULL);
        dup2(file, 1);
        dup2(file, 2);
        const rm_status st = start(rows[i].ranks, rows[i].mode, "5", NULL, &out);
        fflush(NULL);
        for (int k = 0; k < 2; k++) {
            dup2(saved[k], k + 1);
            close(saved[k]);
        }
        assert_true((st == RM_OK) == (rows[i].text[0] != 0));
        assert_true(pread(file, text, sizeof text - 1, 0) >= 0);
        close(file);
        unlink(name);
        json_decref(out);
        assert_string_equal(text, rows[i].text);
    }
}

/* The words before the program, joined. */
static const char *words_of(const bench_launch_config *cfg, const char *library, char *text, size_t size)
{
    static bench_launch_command c;
    c = (bench_launch_command) { .n = 0 };
    size_t used = 0;
    text[0] = '\0';
    if (bench_launch_find(cfg, library, &c) != RM_OK) return NULL;
    for (int i = 0; i < c.n; i++) used += (size_t)snprintf(text + used, size - used, "%s ", c.word[i]);
    bench_launch_command_free(&c);
    return text;
}

static void test_command_lines(void **state)
{
    static const char *const env[] = { "TEST_VALUE=1", NULL };
    char hosts_file[] = "/tmp/rm-test-hosts-XXXXXX";
    const int hosts_fd = mkstemp(hosts_file);
    assert_int_equal(write(hosts_fd, "a slots=2\nb:3\n", 14), 14);
    close(hosts_fd);
    const bench_launch_config one = { .ranks = 1 }, four = { .ranks = 4, .env = env }, hosts = { .ranks = 4, .hostfile = hosts_file };
    char text[1024], dir[] = "/tmp/rm-test-XXXXXX", file[64], path[4096];
    assert_string_equal(words_of(&one, "Open MPI 4.1.4", text, sizeof text), "");
    assert_null(words_of(&four, "Intel(R) MPI Library 2021.9", text, sizeof text)); /* not installed here, or this test learns of it */
    assert_non_null(strstr(rm_last_error(), "RINGMARK_MPIEXEC"));
    /* A stand-in answers to every name, so that the words can be seen whatever is installed. */
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/srun", dir);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs("#!/bin/sh\n", f);
    fclose(f);
    assert_int_equal(chmod(file, 0755), 0);
    setenv("RINGMARK_MPIEXEC", file, 1);
    assert_non_null(words_of(&four, "Open MPI 4.1.4", text, sizeof text));
    assert_non_null(strstr(text, " --bind-to none "));
    assert_non_null(strstr(text, " --oversubscribe -x TEST_VALUE "));
    assert_non_null(strstr(text, " -n 4 "));
    assert_non_null(words_of(&hosts, "Open MPI 4.1.4", text, sizeof text));
    assert_null(strstr(text, "--oversubscribe")); /* slots in a host file are the user's word */
    assert_non_null(strstr(text, " --host a:2,b:3 "));
    assert_non_null(words_of(&hosts, "MPICH 4.0.2", text, sizeof text));
    assert_non_null(strstr(text, " -bind-to none -hosts a:2,b:3 -n 4 "));
    /* Ranks elsewhere get ours, and what is given over it, once. */
    setenv("RINGMARK_SOMETHING", "x", 1);
    setenv("TEST_VALUE", "0", 1);
    assert_non_null(words_of(&four, "Open MPI 4.1.4", text, sizeof text));
    assert_non_null(strstr(text, " -x RINGMARK_SOMETHING "));
    assert_null(strstr(strstr(text, "-x TEST_VALUE") + 4, "TEST_VALUE"));
    unsetenv("RINGMARK_SOMETHING");
    unsetenv("TEST_VALUE");
    unlink(hosts_file);
    assert_null(words_of(&hosts, "Open MPI 4.1.4", text, sizeof text));
    assert_non_null(strstr(rm_last_error(), hosts_file));
    unsetenv("RINGMARK_MPIEXEC");
    snprintf(path, sizeof path, "%s:%s", dir, getenv("PATH"));
    char *const old = strdup(getenv("PATH"));
    setenv("PATH", path, 1);
    setenv("SLURM_JOB_ID", "7", 1);
    setenv("SLURM_NTASKS", "4", 1);
    assert_non_null(words_of(&four, "Open MPI 4.1.4", text, sizeof text));
    assert_non_null(strstr(text, "/srun --kill-on-bad-exit=1 --cpu-bind=none --input=none -n 4 "));
    setenv("SLURM_NTASKS", "1", 1);
    assert_non_null(words_of(&four, rm_comm_mpi.library(), text, sizeof text));
    assert_null(strstr(text, "/srun"));
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_NTASKS");
    setenv("PATH", old, 1);
    free(old);
    unlink(file);
    rmdir(dir);
}

static void test_cores(void **state)
{
    static rm_cores a, b;
    char text[64];
    const int n = rm_cores_available();
    assert_int_equal(rm_devices_max(1), n);
    assert_int_equal(rm_devices_max(n + 1), 1);
    assert_int_equal(rm_cores_each(n, 0), 1);
    assert_int_equal(rm_cores_each(1, 0), n);
    assert_int_equal(rm_cores_each(2, 3), 3);
    assert_int_equal(rm_cores_plan(n, 0, 0, &a), RM_OK);
    assert_int_equal(a.n, 1);
    assert_false(a.shared);
    assert_int_equal(rm_cores_plan(n, 0, n, &b), RM_OK); /* one more than there are: shares the first's */
    assert_int_equal(a.core[0], b.core[0]);
    assert_true(b.shared);
    assert_int_equal(rm_cores_plan(1, n + 1, 0, &b), RM_E_ARG);
    if (n > 1) {
        assert_int_equal(rm_cores_plan(n, 0, 1, &b), RM_OK);
        assert_int_not_equal(a.core[0], b.core[0]);
    }
    a = (rm_cores) { .n = 6, .core = { 0, 1, 2, 5, 8, 9 } };
    rm_cores_text(&a, text, sizeof text);
    assert_string_equal(text, "cores 0-2,5-5,8-9");
    a.shared = true;
    rm_cores_text(&a, text, 9); /* cut, not overrun */
    assert_string_equal(text, "shared c");
    a = (rm_cores) { .n = 1, .core = { 4000 } };
    assert_int_not_equal(rm_cores_pin(&a), RM_OK);
}

static void test_ranks_are_pinned(void **state)
{
    static const char *const env[] = { "TEST_VALUE=a b=c", NULL };
    json_t *out = NULL;
    expect_ok(2, "env", env, &out);
    const char *first = json_string_value(json_object_get(out, "first")), *second = json_string_value(json_object_get(out, "second"));
    if (rm_cores_available() > 1) assert_string_not_equal(first, second);
    else assert_string_equal(first, second);
    json_decref(out);
}

int main(int argc, char **argv)
{
    if (argc >= 4 && !strcmp(argv[1], "rank")) return be_rank(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self), cmocka_unit_test(test_no_communicator), cmocka_unit_test(test_refusals), cmocka_unit_test(test_world),
        cmocka_unit_test(test_cores), cmocka_unit_test(test_command_lines), cmocka_unit_test(test_sums), cmocka_unit_test(test_large_counts), cmocka_unit_test(test_settings_of_the_user),
        cmocka_unit_test(test_rounding_and_bits), cmocka_unit_test(test_disagreement), cmocka_unit_test(test_exit_code), cmocka_unit_test(test_killed),
        cmocka_unit_test(test_time_out), cmocka_unit_test(test_partial_has_a_result), cmocka_unit_test(test_signal_is_passed_on),
        cmocka_unit_test(test_launch_time_out), cmocka_unit_test(test_talk), cmocka_unit_test(test_ranks_are_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
