/* The nccl communicator on the doubles. The program is its own rank: "rank MODE TIMEOUT" is what the launcher starts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "bench/bench.h"
#include "bench/launch.h"
#include "bench/twins.h"
#include "kernels/comm/comm.h"
#include "model/engine.h"
#include "tests/cuda/doubles/doubles.h"

/* ================================================================ the ranks */
#define NEED(x) do { if (!(x)) return rm_fail(RM_E_NUMERIC, "line %d: %s", __LINE__, #x); } while (0)
enum { MOST = 3000000 };

typedef struct bed { rm_comm *c; rm_device *d; rm_buf *buf, *host; rm_mark *mark; } bed;
static void *at(bed *b) { return rm_buf_host(b->host); }

static rm_status set_up(bed *b)
{
    RM_TRY(rm_buf_alloc(b->d, RM_MEM_DEVICE, MOST * sizeof(float), &b->buf));
    RM_TRY(rm_buf_alloc(b->d, RM_MEM_PINNED, MOST * sizeof(float), &b->host));
    return rm_mark_new(b->d, &b->mark);
}

static void take_down(bed *b)
{
    rm_mark_free(b->d, b->mark);
    rm_buf_free(b->d, b->buf);
    rm_buf_free(b->d, b->host);
}

static rm_status to_device(bed *b, size_t bytes) { return rm_device_write(b->d, NULL, (rm_ref){ b->buf, 0 }, at(b), bytes); }
static rm_status to_host(bed *b, size_t bytes)
{
    RM_TRY(rm_device_read(b->d, NULL, at(b), (rm_ref){ b->buf, 0 }, bytes));
    return rm_device_sync(b->d, NULL);
}

static void put(void *p, uint64_t i, rm_dtype t, double v)
{
    const union { float f; uint32_t u; } x = { .f = (float)v };
    if (t == RM_F64) ((double *)p)[i] = v;
    if (t == RM_F32) ((float *)p)[i] = (float)v;
    if (t == RM_I32) ((int32_t *)p)[i] = (int32_t)v;
    if (t == RM_BF16) ((uint16_t *)p)[i] = (uint16_t)(x.u >> 16);
}

static double get(const void *p, uint64_t i, rm_dtype t)
{
    union { float f; uint32_t u; } x = { .u = 0 };
    if (t == RM_BF16) x.u = (uint32_t)((const uint16_t *)p)[i] << 16;
    return t == RM_F64 ? ((const double *)p)[i] : t == RM_F32 ? ((const float *)p)[i] : t == RM_I32 ? ((const int32_t *)p)[i] : (double)x.f;
}

/* Small integers: their sums are exact in every type. */
static double value_of(int rank, uint64_t i) { return (double)((i * 7 + (uint64_t)rank * 3) % 13); }
static double sum_of(int size, uint64_t i)
{
    double s = 0;
    for (int r = 0; r < size; r++) s += value_of(r, i);
    return s;
}

static rm_status fill(bed *b, uint64_t n, rm_dtype t)
{
    for (uint64_t i = 0; i < n; i++) put(at(b), i, t, value_of(b->c->rank, i));
    put(at(b), n, t, 5);
    RM_TRY(to_device(b, (n + 1) * rm_dtype_bytes(t)));
    return rm_mark_set(b->d, NULL, b->mark);
}

static rm_status expect_sums(bed *b, uint64_t n, rm_dtype t)
{
    RM_TRY(to_host(b, (n + 1) * rm_dtype_bytes(t)));
    for (uint64_t i = 0; i < n; i++) NEED(get(at(b), i, t) == sum_of(b->c->size, i));
    NEED(get(at(b), n, t) == 5); /* nothing beyond */
    return RM_OK;
}

/* Two requests at once, the first of two spans, the second waited for first. */
static rm_status sums_of(bed *b, uint64_t n, rm_dtype t)
{
    const size_t each = rm_dtype_bytes(t), half = n / 2, rest = n - half;
    const rm_span one[] = { { { b->buf, 0 }, half / 3, t }, { { b->buf, half / 3 * each }, half - half / 3, t } }, two = { { b->buf, half * each }, rest, t };
    rm_request *p, *q;
    rm_reduce_time time[2];
    RM_TRY(fill(b, n, t));
    RM_TRY(rm_comm_reduce_start(b->c, one, 2, b->mark, &p));
    RM_TRY(rm_comm_reduce_start(b->c, &two, 1, NULL, &q));
    RM_TRY(rm_comm_reduce_wait(b->c, q, NULL));
    RM_TRY(rm_comm_reduce_wait(b->c, p, NULL));
    RM_TRY(expect_sums(b, n, t));
    RM_TRY(rm_comm_reduce_time(b->c, p, &time[0]));
    RM_TRY(rm_comm_reduce_time(b->c, q, &time[1]));
    NEED(time[0].begin_ns <= time[0].end_ns && time[0].end_ns <= time[1].begin_ns + 100000 && time[1].begin_ns <= time[1].end_ns); /* float ms */
    rm_comm_reduce_free(b->c, p);
    rm_comm_reduce_free(b->c, q);
    return RM_OK;
}

static rm_status broadcast_of(bed *b, uint64_t n, rm_dtype t)
{
    for (uint64_t i = 0; i < n; i++) put(at(b), i, t, b->c->rank + 1);
    RM_TRY(to_device(b, n * rm_dtype_bytes(t)));
    RM_TRY(rm_comm_broadcast(b->c, (rm_span){ { b->buf, 0 }, n, t }, b->c->size - 1));
    RM_TRY(to_host(b, n * rm_dtype_bytes(t)));
    for (uint64_t i = 0; i < n; i++) NEED(get(at(b), i, t) == b->c->size);
    return RM_OK;
}

static rm_status mode_sums(bed *b, json_t *out)
{
    static const rm_dtype types[] = { RM_F32, RM_F64, RM_BF16, RM_I32 };
    static const uint64_t sizes[] = { 0, 1, 7, 100003, 1400001 };
    for (size_t s = 0; s < RM_COUNT(sizes); s++)
        for (size_t t = 0; t < RM_COUNT(types); t++) {
            RM_TRY(sums_of(b, sizes[s], types[t]));
            RM_TRY(broadcast_of(b, sizes[s], types[t]));
        }
    double v = b->c->rank;
    RM_TRY(rm_comm_host_reduce(b->c, &v, 1, RM_F64, RM_MAX));
    NEED(v == b->c->size - 1);
    RM_TRY(rm_comm_barrier(b->c));
    json_object_set_new(out, "ranks", json_integer(b->c->size));
    json_object_set_new(out, "library", json_string(rm_comm_library(b->c)));
    return rm_comm_check(b->c);
}

/* The same gradients summed twice give the same bits on every rank. */
static rm_status mode_bits(bed *b, json_t *out)
{
    enum { N = 300007 };
    static float first[N], least[N], most[N];
    const rm_span span = { { b->buf, 0 }, N, RM_F32 };
    rm_request *r;
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < N; i++) ((float *)at(b))[i] = sinf((float)(i + 1) * (float)(b->c->rank + 1)) / 3.0f;
        RM_TRY(to_device(b, sizeof first));
        RM_TRY(rm_comm_reduce_start(b->c, &span, 1, NULL, &r));
        RM_TRY(rm_comm_reduce_finish(b->c, r, NULL));
        RM_TRY(to_host(b, sizeof first));
        if (turn == 0) memcpy(first, at(b), sizeof first);
        NEED(memcmp(first, at(b), sizeof first) == 0);
    }
    memcpy(least, first, sizeof least);
    memcpy(most, first, sizeof most);
    RM_TRY(rm_comm_host_reduce(b->c, least, N, RM_F32, RM_MIN));
    RM_TRY(rm_comm_host_reduce(b->c, most, N, RM_F32, RM_MAX));
    NEED(memcmp(least, most, sizeof least) == 0);
    return RM_OK;
}

/* f32 that travels as bf16, in an all-reduce that grows and a communicator of its own: exact for small integers; a NaN arrives; a delay shows. */
static rm_status mode_wire(bed *b, json_t *out)
{
    enum { N = 1000001 };
    const rm_comm_config cfg = { .timeout_s = 30, .wire = RM_BF16 };
    const bed outer = *b;
    const rm_span span = { { b->buf, 0 }, N, RM_F32 };
    rm_request *r;
    rm_reduce_time time;
    RM_TRY(rm_comm_open("nccl", &cfg, b->d, &b->c));
    RM_TRY(sums_of(b, 1001, RM_F32));
    RM_TRY(sums_of(b, N, RM_F32));
    RM_TRY(sums_of(b, 101, RM_BF16)); /* is narrow already */
    for (uint64_t i = 0; i < N; i++) put(at(b), i, RM_F32, 1 + (double)(i % 1000) * 1e-3);
    if (b->c->rank == 0) put(at(b), 7, RM_F32, NAN);
    RM_TRY(to_device(b, N * sizeof(float)));
    rm_comm_delay_next(b->c, 50000000);
    RM_TRY(rm_comm_reduce_start(b->c, &span, 1, NULL, &r));
    RM_TRY(rm_comm_reduce_finish(b->c, r, &time));
    NEED(time.end_ns - time.begin_ns >= 49000000);
    RM_TRY(to_host(b, N * sizeof(float)));
    NEED(isnan(get(at(b), 7, RM_F32)) || b->c->size == 1);
    uint64_t rounded = 0;
    for (uint64_t i = 8; i < N; i++) {
        const double want = 1 + (double)(i % 1000) * 1e-3, got = get(at(b), i, RM_F32) / b->c->size;
        NEED(fabs(got - want) <= 0x1p-6); /* once before the sum, and once an addition */
        rounded += fabs(got - want) > 1e-4;
    }
    NEED(b->c->size == 1 || rounded > N / 2); /* it did travel as bf16 */
    rm_comm_close(b->c);
    *b = outer;
    return RM_OK;
}

/* A step that is recorded once and run three times: sums of sums, times of the last run. */
static rm_status mode_recorded(bed *b, json_t *out)
{
    enum { N = 5000 };
    const rm_span span = { { b->buf, 0 }, N, RM_F32 }, small = { { b->buf, 0 }, N / 2, RM_F32 };
    rm_request *r, *s;
    rm_recording *recording;
    rm_reduce_time time, last = { 0 };
    double want = 1;
    for (int i = 0; i < N; i++) put(at(b), (uint64_t)i, RM_F32, 1);
    RM_TRY(to_device(b, N * sizeof(float)));
    RM_TRY(rm_comm_reduce_start(b->c, &span, 1, NULL, &r)); /* before, as the engine warms up */
    RM_TRY(rm_comm_reduce_finish(b->c, r, NULL));
    want *= b->c->size;
    RM_TRY(rm_record_begin(b->d));
    RM_TRY(rm_mark_set(b->d, NULL, b->mark));
    RM_TRY(rm_comm_reduce_start(b->c, &span, 1, b->mark, &r));
    RM_TRY(rm_comm_reduce_start(b->c, &small, 1, b->mark, &s));
    RM_TRY(rm_comm_reduce_wait(b->c, r, NULL));
    RM_TRY(rm_comm_reduce_wait(b->c, s, NULL));
    usleep(300000); /* the watching thread looks several times meanwhile, and must let the recording alone */
    RM_TRY(rm_record_end(b->d, &recording));
    for (int run = 0; run < 3; run++) {
        RM_TRY(rm_record_run(b->d, recording));
        RM_TRY(to_host(b, N * sizeof(float)));
        RM_TRY(rm_comm_check(b->c));
        RM_TRY(rm_comm_reduce_time(b->c, r, &time));
        NEED(time.begin_ns > last.begin_ns && time.begin_ns <= time.end_ns);
        last = time;
        want *= b->c->size;
        NEED(get(at(b), N - 1, RM_F32) == want);
        NEED(get(at(b), 0, RM_F32) == want * pow(b->c->size, run + 1));
    }
    rm_record_free(b->d, recording);
    rm_comm_reduce_free(b->c, r);
    rm_comm_reduce_free(b->c, s);
    NEED(dbl_findings() == 0);
    return RM_OK;
}

/* What is not ordered is found: the gradients read before the sums are waited for. */
static rm_status mode_race(bed *b, json_t *out)
{
    const rm_span span = { { b->buf, 0 }, 1000, RM_F32 };
    rm_request *r;
    RM_TRY(fill(b, 1000, RM_F32));
    RM_TRY(rm_comm_reduce_start(b->c, &span, 1, b->mark, &r));
    NEED(dbl_findings() == 0);
    RM_TRY(to_host(b, 4000));
    RM_TRY(rm_comm_reduce_finish(b->c, r, NULL));
    NEED(dbl_findings() > 0);
    dbl_findings_clear();
    return RM_OK;
}

/* And so are sums that begin before the gradients are written. */
static rm_status mode_race_before(bed *b, json_t *out)
{
    const rm_span span = { { b->buf, 0 }, 1000, RM_F32 };
    rm_request *r;
    RM_TRY(rm_mark_set(b->d, NULL, b->mark));
    for (int i = 0; i < 1000; i++) put(at(b), (uint64_t)i, RM_F32, 1);
    RM_TRY(to_device(b, 4000)); /* after the mark */
    RM_TRY(rm_comm_reduce_start(b->c, &span, 1, b->mark, &r));
    RM_TRY(rm_comm_reduce_finish(b->c, r, NULL));
    NEED(dbl_findings() > 0);
    dbl_findings_clear();
    return RM_OK;
}

/* Sums until something goes wrong. */
static rm_status sum_on(bed *b, int times)
{
    const rm_span span = { { b->buf, 0 }, 1000, RM_F32 };
    rm_request *r;
    for (int i = 0; i < times; i++) {
        RM_TRY(rm_comm_reduce_start(b->c, &span, 1, NULL, &r));
        RM_TRY(rm_comm_reduce_finish(b->c, r, NULL));
    }
    return RM_OK;
}

static bool is_last(const bed *b) { return b->c->rank == b->c->size - 1; }

/* A rank that has failed says so again, whatever it is asked. */
static rm_status mode_fault(bed *b, json_t *out)
{
    const rm_status st = sum_on(b, 20);
    NEED(st == RM_E_PEER);
    char *said = strdup(rm_last_error());
    NEED(rm_comm_check(b->c) == RM_E_PEER && rm_comm_barrier(b->c) == RM_E_PEER && sum_on(b, 1) == RM_E_PEER);
    NEED(said && !strcmp(said, rm_last_error()));
    free(said);
    dbl_findings_clear();
    return st;
}

static rm_status mode_stop(bed *b, json_t *out)
{
    RM_TRY(sum_on(b, 2));
    RM_TRY(rm_comm_barrier(b->c));
    if (is_last(b)) raise(SIGSTOP);
    return sum_on(b, 1);
}

/* Alive, and never comes to the all-reduce. */
static rm_status mode_absent(bed *b, json_t *out)
{
    RM_TRY(sum_on(b, 2));
    if (is_last(b)) sleep(8);
    return sum_on(b, 1);
}

/* The same, and the others wait for a broadcast: on the host, in the network's thread. One begins later: when the first gives up it has said that it waits. */
static rm_status mode_absent_broadcast(bed *b, json_t *out)
{
    RM_TRY(sum_on(b, 2));
    if (is_last(b)) sleep(8);
    else if (b->c->rank) usleep(400000);
    return rm_comm_broadcast(b->c, (rm_span){ { b->buf, 0 }, 1000, RM_F32 }, b->c->size - 1);
}

/* NCCL does not come to its end, so closing gives up on the thread, which ends the communicator by force later: what it uses must still be there. */
static rm_status mode_end_hang(bed *b, json_t *out)
{
    const rm_comm_config cfg = { .timeout_s = 7, .wire = RM_BF16 };
    const bed outer = *b;
    rm_comm *second;
    RM_TRY(sum_on(b, 2));
    RM_TRY(rm_comm_open("nccl", &cfg, b->d, &second));
    b->c = second;
    RM_TRY(sum_on(b, 1)); /* it has memory for bf16, a queue and marks */
    *b = outer;
    const int alive = dbl_alive();
    setenv("RM_DOUBLES_FAULTS", "nccl-end-hang", 1);
    const uint64_t begin = rm_now_ns();
    mallopt(M_PERTURB, 165); /* what is freed is overwritten; not in MPI's own begin and end, which do not bear it */
    rm_comm_close(second);
    NEED(rm_s(rm_now_ns() - begin) > 4.9 && rm_s(rm_now_ns() - begin) < 6.9 && dbl_nccl_aborts() == 0);
    NEED(dbl_alive() == alive); /* all of that is left to the thread; the device can be closed without */
    for (int i = 0; i < 80 && !dbl_nccl_aborts(); i++) usleep(50000);
    NEED(dbl_nccl_aborts() == 1);
    mallopt(M_PERTURB, 0);
    unsetenv("RM_DOUBLES_FAULTS");
    return sum_on(b, 1);
}

/* Late by more than half a time-out, twice: nothing has failed. */
static rm_status mode_late(bed *b, json_t *out)
{
    for (int i = 0; i < 2; i++) {
        if (is_last(b)) usleep(1400000);
        RM_TRY(sum_on(b, 2));
    }
    const int alive = dbl_alive();
    RM_TRY(sum_on(b, 3)); /* requests are used again, with their events */
    NEED(dbl_alive() == alive);
    return rm_comm_check(b->c);
}

/* One rank prepares something for longer than the time-out; afterwards the time-out is what it was. */
static rm_status mode_setup(bed *b, json_t *out)
{
    if (b->c->rank == 0) usleep(1400000);
    RM_TRY(rm_comm_barrier_within(b->c, 30));
    RM_TRY(sum_on(b, 1));
    NEED(b->c->ops->set_timeout(b->c, 1000000000) == 1000000000);
    return rm_comm_check(b->c);
}

/* The network's thread is away, in no all-reduce, for longer than the time-out. */
static rm_status mode_away(bed *b, json_t *out)
{
    RM_TRY(sum_on(b, 2));
    sleep(3);
    RM_TRY(rm_comm_check(b->c));
    return sum_on(b, 1);
}

/* In the third run of a recording, which the host waits for in rm_device_sync() alone. */
static rm_status mode_replay_hang(bed *b, json_t *out)
{
    const rm_span span = { { b->buf, 0 }, 1000, RM_F32 };
    rm_request *r;
    rm_recording *recording;
    rm_reduce_time time;
    rm_status st = RM_OK;
    RM_TRY(sum_on(b, 2));
    RM_TRY(rm_record_begin(b->d));
    RM_TRY(rm_mark_set(b->d, NULL, b->mark));
    RM_TRY(rm_comm_reduce_start(b->c, &span, 1, b->mark, &r));
    RM_TRY(rm_comm_reduce_wait(b->c, r, NULL));
    RM_TRY(rm_record_end(b->d, &recording));
    for (int run = 0; st == RM_OK && run < 5; run++) {
        RM_TRY(rm_record_run(b->d, recording));
        RM_TRY(rm_device_sync(b->d, NULL)); /* ends */
        st = rm_comm_check(b->c);
        if (st == RM_OK) st = rm_comm_reduce_time(b->c, r, &time);
        NEED(run < 2 || st == RM_E_PEER);
    }
    rm_record_free(b->d, recording);
    rm_comm_reduce_free(b->c, r);
    return st;
}

static rm_status mode_differ(bed *b, json_t *out)
{
    const rm_span span = { { b->buf, 0 }, is_last(b) ? 1000 : 999, RM_F32 };
    rm_request *r;
    RM_TRY(rm_comm_reduce_start(b->c, &span, 1, NULL, &r));
    const rm_status st = rm_comm_reduce_finish(b->c, r, NULL);
    NEED(dbl_findings() > 0);
    dbl_findings_clear();
    return st;
}

static rm_status mode_kill(bed *b, json_t *out)
{
    RM_TRY(sum_on(b, 2));
    if (is_last(b)) raise(SIGKILL);
    return sum_on(b, 1);
}

/* One rank ends the run while the others wait for it in an all-reduce. */
static rm_status mode_abort(bed *b, json_t *out)
{
    RM_TRY(sum_on(b, 2));
    if (is_last(b)) {
        sleep(1);
        rm_comm_abort(b->c, 3);
    }
    return sum_on(b, 1);
}

static int launches;
static void count_launches(const dbl_call *c) { launches += c->enter && !strcmp(c->name, "cudaGraphLaunch"); }

/* All steps of a comparison are enqueued op by op, for that of the barrier cannot be recorded; and the recording is there for later steps. */
static rm_status twins_are_of_one_kind(bed *b, rm_engine *e, const rm_source *source)
{
    static const char *split = "equal:3";
    static const dbl_watch watch = { .call = count_launches };
    const rm_recording *made = e->recording[RM_REDUCE_OVERLAPPED];
    const bench_subject subject = { .engine = e, .source = source };
    const bench_twins_config c = { .split = &split, .n_split = 1, .rounds = 1, .warmup = 0, .seed = 1, .what = "twins" };
    json_t *measured = NULL;
    dbl_set_watch(&watch);
    RM_TRY(bench_twins_measure(b->c, &subject, &c, &measured));
    dbl_set_watch(NULL);
    json_decref(measured);
    NEED(launches == 0 && e->recording[RM_REDUCE_OVERLAPPED] == made && !e->recording[RM_REDUCE_OFF] && rm_engine_set_recording(e, true));
    return RM_OK;
}

/* Steps of the network on different images: enqueued, recorded, run again. Every rank has the same weights, to the bit, only if all gradients were summed. */
static rm_status mode_engine(bed *b, json_t *out)
{
    enum { PX = 16, BATCH = 8, CLASSES = 10, STEPS = 4 }; /* fewer images are fewer samples than batch norm can bear */
    rm_recipe recipe;
    rm_engine e;
    rm_synthetic images;
    rm_step step;
    rm_recipe_defaults(&recipe);
    const rm_engine_config cfg = { .recipe = &recipe, .dtype = RM_F32, .px = PX, .batch = BATCH, .classes = CLASSES, .split = "equal:3", .seed = 1 };
    RM_TRY(rm_engine_new(b->d, b->c, &cfg, &e));
    RM_TRY(rm_synthetic_new(BATCH, PX, CLASSES, (uint64_t)(b->c->rank + 1), &images));
    const rm_source source = rm_source_synthetic(&images);
    for (uint64_t i = 0; i < STEPS; i++) {
        RM_TRY(rm_engine_step(&e, &source, i, 0.001, &step));
        for (uint32_t k = 0; k < e.buckets.n; k++) NEED(e.buckets.at[k].start_ns && e.buckets.at[k].start_ns <= e.buckets.at[k].end_ns);
    }
    NEED(!e.recording[RM_REDUCE_OVERLAPPED] == e.cfg.no_record && (!getenv("RM_DOUBLES_FAULTS") || e.cfg.no_record));
    int32_t without = e.cfg.no_record;
    RM_TRY(rm_comm_host_reduce(b->c, &without, 1, RM_I32, RM_MAX));
    NEED(without == e.cfg.no_record); /* all or none */
    if (!e.cfg.no_record) RM_TRY(twins_are_of_one_kind(b, &e, &source));
    const uint64_t n = rm_graph_params(&e.graph);
    double *own = malloc(n * sizeof *own), *least = malloc(n * sizeof *least);
    NEED(own && least);
    for (int32_t i = 0, at = 0; i < e.graph.n_param; at += (int32_t)e.graph.param[i++].count) RM_TRY(rm_params_get(&e.params, RM_ARENA_WEIGHT, i, own + at));
    memcpy(least, own, n * sizeof *own);
    RM_TRY(rm_comm_host_reduce(b->c, least, n, RM_F64, RM_MIN));
    NEED(memcmp(own, least, n * sizeof *own) == 0);
    NEED(dbl_findings() == 0);
    free(own);
    free(least);
    rm_synthetic_free(&images);
    rm_engine_free(&e);
    return RM_OK;
}

typedef struct mode { const char *name; rm_status (*run)(bed *b, json_t *out); const char *faults_of_last, *faults; bool one_gpu; } mode;
static const mode modes[] = {
    { "sums", mode_sums, NULL, NULL, false }, { "bits", mode_bits, NULL, NULL, false }, { "wire", mode_wire, NULL, NULL, false },
    { "recorded", mode_recorded, NULL, NULL, false }, { "race", mode_race, NULL, NULL, false }, { "race-before", mode_race_before, NULL, NULL, false },
    { "stop", mode_stop, NULL, NULL, false }, { "absent", mode_absent, NULL, NULL, false }, { "absent-broadcast", mode_absent_broadcast, NULL, NULL, false },
    { "end-hang", mode_end_hang, NULL, NULL, false }, { "late", mode_late, NULL, NULL, false },
    { "away", mode_away, NULL, NULL, false }, { "setup", mode_setup, NULL, NULL, false }, { "hang", mode_fault, "nccl-hang:5", NULL, false }, { "async", mode_fault, "nccl-async:5", NULL, false },
    { "replay-hang", mode_replay_hang, "nccl-hang:5", NULL, false }, { "init-hang", mode_fault, "nccl-init-hang", NULL, false },
    { "differ", mode_differ, NULL, NULL, false }, { "kill", mode_kill, NULL, NULL, false }, { "kill-hang", mode_kill, NULL, "nccl-dead-hang", false },
    { "engine", mode_engine, NULL, NULL, false }, { "engine-fault", mode_engine, "instantiate", NULL, false }, { "abort", mode_abort, NULL, NULL, false }, { "one-gpu", mode_sums, NULL, NULL, true },
};

static const mode *mode_of(const char *name)
{
    for (size_t i = 0; i < RM_COUNT(modes); i++)
        if (!strcmp(name, modes[i].name)) return &modes[i];
    abort();
}

static rm_status run_mode(const mode *m, double timeout_s, bed *b, json_t *out)
{
    const rm_world w = rm_world_from_env();
    const rm_comm_config cfg = { .timeout_s = timeout_s };
    const rm_device_config dc = { .ordinal = m->one_gpu ? 0 : w.local_rank, .reference_only = true };
    const char *faults = m->faults_of_last && w.rank == w.size - 1 ? m->faults_of_last : m->faults;
    if (faults) setenv("RM_DOUBLES_FAULTS", faults, 1);
    RM_TRY(rm_device_open("cuda", &dc, &b->d));
    RM_TRY(rm_comm_open(w.size > 1 ? "auto" : "nccl", &cfg, b->d, &b->c));
    NEED(!strcmp(b->c->ops->name, "nccl"));
    RM_TRY(set_up(b));
    return m->run(b, out);
}

/* rank MODE TIMEOUT [--rank-result FILE], with the endings of bench's main(). */
static int be_rank(int argc, char **argv)
{
    bed b = { 0 };
    json_t *out = json_object();
    bench_signal_install();
    rm_log_setup(RM_NORMAL, rm_world_from_env().rank);
    const rm_status st = run_mode(mode_of(argv[2]), atof(argv[3]), &b, out);
    if (st == RM_OK && rm_comm_rank(b.c) == 0 && argc == 6) (void)!bench_launch_leave_result(argv[5], out);
    if (st != RM_OK) rm_error("bench test: %s", rm_last_error());
    json_decref(out);
    const uint64_t begin = rm_now_ns();
    rm_comm_close(b.c);
    if (rm_s(rm_now_ns() - begin) > 4) rm_error("bench test: closing took %.1f s", rm_s(rm_now_ns() - begin));
    if (b.d && b.mark) take_down(&b);
    rm_device_close(b.d);
    const int code = rm_exit_code(st, bench_signal());
    if (code == 0 && strcmp(argv[2], "end-hang") && dbl_alive()) /* there, what a stuck thread may use stays */
        dbl_finding("%d blocks, streams, events or graphs are not given back", dbl_alive());
    rm_comm_leave(dbl_findings() ? 99 : code);
    return code;
}

/* ================================================================ the tests */
static rm_status start(int ranks, const char *name, const char *timeout, json_t **out)
{
    const char *const argv[] = { "rank", name, timeout, NULL };
    static const char *const alone[] = { "PMI_RANK=0", "PMI_SIZE=1", NULL }; /* one rank is started without a launcher, and is to think otherwise */
    const bench_launch_config cfg = { .ranks = ranks, .argv = argv, .env = ranks == 1 ? alone : NULL, .oversubscribe = true, .timeout_s = 400, .verbose = getenv("TEST_VERBOSE") != NULL };
    return bench_launch(&cfg, out);
}

static void expect_ok(int ranks, const char *name, const char *timeout)
{
    json_t *got = NULL;
    const rm_status st = start(ranks, name, timeout, &got);
    if (st != RM_OK) fail_msg("%s on %d ranks: %s: %s", name, ranks, rm_status_name(st), rm_last_error());
    assert_non_null(got);
    json_decref(got);
}

/* Within a time-out and what a process takes to begin and to end. */
static void expect_failure(int ranks, const char *name, const char *timeout, rm_status want, const char *says)
{
    json_t *got = NULL;
    const uint64_t begin = rm_now_ns();
    const rm_status st = start(ranks, name, timeout, &got);
    if (st != want) fail_msg("%s on %d ranks: %s: %s", name, ranks, rm_status_name(st), rm_last_error());
    if (!strstr(rm_last_error(), says)) fail_msg("%s: \"%s\" lacks \"%s\"", name, rm_last_error(), says);
    assert_true(rm_s(rm_now_ns() - begin) < 45);
}

static void test_sums(void **state)
{
    for (int n = 1; n <= 4; n++) {
        json_t *got = NULL;
        const rm_status st = start(n, "sums", "30", &got);
        if (st != RM_OK) fail_msg("%d ranks: %s: %s", n, rm_status_name(st), rm_last_error());
        assert_int_equal(json_integer_value(json_object_get(got, "ranks")), n);
        assert_string_equal(json_string_value(json_object_get(got, "library")), "NCCL 2.28.9");
        json_decref(got);
    }
}

static void test_bits(void **state) { expect_ok(3, "bits", "30"); }
static void test_wire(void **state)
{
    expect_ok(2, "wire", "30");
    expect_ok(3, "wire", "30");
}
static void test_recorded(void **state)
{
    expect_ok(1, "recorded", "30");
    expect_ok(2, "recorded", "30");
}
static void test_engine(void **state) { expect_ok(2, "engine", "60"); }
static void test_engine_without_recording(void **state) { expect_ok(2, "engine-fault", "60"); }
static void test_order(void **state)
{
    expect_ok(2, "race", "30");
    expect_ok(2, "race-before", "30");
}
static void test_no_false_alarm(void **state)
{
    expect_ok(2, "late", "2");
    expect_ok(2, "setup", "1");
    expect_ok(2, "away", "2");
}

static void test_time_out_names_the_rank(void **state)
{
    static const char *const rows[] = { "stop", "absent" };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        expect_failure(2, rows[i], "2", RM_E_PEER, "for the all-reduce of 4000 bytes (number 3): rank 1 on ");
        assert_non_null(strstr(rm_last_error(), "did not arrive"));
        assert_non_null(strstr(rm_last_error(), "waited 2."));
        assert_non_null(strstr(rm_last_error(), "--comm-timeout"));
    }
    expect_failure(3, "stop", "2", RM_E_PEER, "rank 2 on "); /* and not the one that waits as well */
    assert_null(strstr(rm_last_error(), "ranks"));
    expect_failure(3, "absent-broadcast", "2", RM_E_PEER, "rank 2 on ");
    assert_null(strstr(rm_last_error(), "ranks"));
}

static void test_hangs(void **state)
{
    expect_failure(2, "hang", "2", RM_E_PEER, "for the all-reduce of 4000 bytes (number 5): all ranks are there: the network hangs");
    expect_failure(2, "replay-hang", "2", RM_E_PEER, "for the all-reduce of 4000 bytes (number 3): ");
    expect_failure(2, "init-hang", "2", RM_E_PEER, "for the connection between GPUs: ");
}

static void test_asynchronous_error(void **state)
{
    expect_failure(2, "async", "5", RM_E_PEER, "the all-reduce of 4000 bytes (number 5) failed, as a peer, the network or NCCL did: unhandled system error: the network is down");
    expect_failure(2, "differ", "5", RM_E_PEER, "invalid usage");
}

static void test_dead_peer(void **state)
{
    expect_failure(2, "kill", "5", RM_E_PEER, "killed by signal 9");
    expect_failure(2, "kill-hang", "2", RM_E_PEER, "killed by signal 9");
    expect_failure(2, "abort", "30", RM_E_INCONCLUSIVE, "");
}

static void test_an_end_that_hangs(void **state) { expect_ok(2, "end-hang", "30"); }

static void test_one_gpu(void **state) { expect_failure(2, "one-gpu", "10", RM_E_DEVICE /* exit code 2 */, "ranks 0 and 1 on "); }

static void test_refusals(void **state)
{
    const rm_comm_config cfg = { .timeout_s = 5 };
    const rm_device_config dc = { .ordinal = 0 };
    rm_comm *c = NULL;
    rm_device *d = NULL;
    assert_int_equal(rm_comm_open("nccl", &cfg, NULL, &c), RM_E_ARG);
    assert_int_equal(rm_device_open("ref", &dc, &d), RM_OK);
    assert_int_equal(rm_comm_open("nccl", &cfg, d, &c), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "the device is ref"));
    rm_device_close(d);
    assert_int_equal(rm_device_open("cuda", &dc, &d), RM_OK);
    assert_int_equal(rm_comm_open("nccl", &cfg, d, &c), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "not started as a rank"));
    rm_device_close(d);
}

int main(int argc, char **argv)
{
    if (argc >= 4 && !strcmp(argv[1], "rank")) return be_rank(argc, argv);
    if (argc == 2) cmocka_set_test_filter(argv[1]);
    else cmocka_set_skip_filter("test_engine*"); /* takes long: a test of its own in ctest */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_sums), cmocka_unit_test(test_bits),
        cmocka_unit_test(test_wire), cmocka_unit_test(test_recorded), cmocka_unit_test(test_engine), cmocka_unit_test(test_engine_without_recording), cmocka_unit_test(test_order), cmocka_unit_test(test_no_false_alarm),
        cmocka_unit_test(test_time_out_names_the_rank), cmocka_unit_test(test_hangs), cmocka_unit_test(test_asynchronous_error),
        cmocka_unit_test(test_dead_peer), cmocka_unit_test(test_an_end_that_hangs), cmocka_unit_test(test_one_gpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
