/* Traces: what was emitted is what an independent parser reads from the file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "profiler/trace.h"
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define ok(call) assert_int_equal((call), RM_OK)

static char folder[] = "/tmp/ringmark-trace-XXXXXX";
static char path_room[256];

static const char *in_folder(const char *name)
{
    snprintf(path_room, sizeof path_room, "%s/%s", folder, name);
    return path_room;
}

static const rm_trace_about about = { .rank = 3, .world = 4, .backend = "mpi", .device = "oneDNN \"cpu\"", .host = "host-1", .version = "0.1.0" };

/* ---- reading back */

/* gzread() reads plain text too. */
static char *contents(const char *path, size_t *n)
{
    char *text = malloc(1 << 24);
    gzFile f = gzopen(path, "rb");
    assert_non_null(text);
    assert_non_null(f);
    const int got = gzread(f, text, (1 << 24) - 1);
    assert_true(got > 0);
    assert_int_equal(gzclose(f), Z_OK);
    text[got] = 0;
    *n = (size_t)got;
    return text;
}

static json_t *parsed(const char *path)
{
    json_error_t e;
    size_t n;
    char *text = contents(path, &n);
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!root) fail_msg("%s: %s at line %d", path, e.text, e.line);
    free(text);
    return root;
}

static json_t *written(const rm_trace *t, rm_status expected)
{
    const char *path = in_folder("t.json");
    assert_int_equal(rm_trace_write(t, &about, path), expected);
    return parsed(path);
}

static int64_t integer(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v)) fail_msg("no integer %s", key);
    return json_integer_value(v);
}
static const char *string(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "(none)";
}
/* Microseconds with three decimals, as nanoseconds. */
static uint64_t ns(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_real(v)) fail_msg("no number with decimals: %s", key);
    return (uint64_t)llround(json_real_value(v) * 1000);
}
static const json_t *args(const json_t *o) { return json_object_get(o, "args"); }
static bool is(const json_t *event, const char *key, const char *value) { return !strcmp(string(event, key), value); }

/* The i-th event of a phase, in file order; NULL when there are fewer. */
static const json_t *nth(const json_t *root, const char *phase, size_t i)
{
    size_t k;
    json_t *e;
    json_array_foreach(json_object_get(root, "traceEvents"), k, e)
        if (is(e, "ph", phase) && i-- == 0) return e;
    return NULL;
}
static size_t count(const json_t *root, const char *phase)
{
    size_t k, n = 0;
    json_t *e;
    json_array_foreach(json_object_get(root, "traceEvents"), k, e) n += is(e, "ph", phase);
    return n;
}

/* ---- tests */

typedef struct sent { uint64_t begin, end; int lane; rm_cat cat; uint32_t step; int64_t arg; } sent;

static void test_every_event_is_there(void **state)
{
    enum { N = 3000, LANES = 3 };
    static const char *const cats[RM_CAT_COUNT][2] = {
        { "kernel", "kernel" }, { "kernel", "kernel" }, { "gpu_memcpy", "gpu_memcpy" }, { "cuda_runtime", "cuda_runtime" },
        { "gpu_user_annotation", "user_annotation" }, { "gpu_user_annotation", "user_annotation" }, { "cpu_op", "cpu_op" }, { "cpu_op", "cpu_op" },
    };
    static const char *const arg_name[RM_CAT_COUNT] = { "layer", "bytes", "bytes", "layer", "layer", "arg", "arg", "arg" };
    rm_trace *t;
    rm_lane *lane[LANES];
    rm_rng r = rm_rng_for(7, 0, 0);
    sent *s = calloc(N, sizeof *s);
    assert_non_null(s);
    ok(rm_trace_open(N, &t));
    for (int i = 0; i < LANES; i++) ok(rm_trace_lane(t, i < 2 ? RM_LANE_QUEUE : RM_LANE_THREAD, "lane", &lane[i]));
    const rm_name name = rm_trace_name(t, "x");
    assert_int_equal(rm_trace_name(t, "x"), name);
    const uint64_t begin = rm_now_ns();
    for (int i = 0; i < N; i++) {
        s[i] = (sent){ begin + (uint64_t)i * 1000 + rm_rng_below(&r, 1000), 0, (int)rm_rng_below(&r, LANES), rm_rng_below(&r, RM_CAT_COUNT), rm_rng_u32(&r), 0 };
        s[i].end = s[i].begin + 1 + rm_rng_u32(&r);
        s[i].arg = (int64_t)rm_rng_u32(&r) * (rm_rng_below(&r, 2) ? 1 : -1);
        rm_trace_span(lane[s[i].lane], s[i].cat, name, s[i].begin, s[i].end, s[i].step, 0, s[i].arg);
    }
    json_t *root = written(t, RM_OK);
    assert_int_equal(count(root, "X"), N);
    assert_int_equal(rm_trace_dropped(t), 0);
    assert_int_equal(integer(root, "dropped"), 0);

    /* In the file: lane after lane, in the order of each. All times have the same beginning. */
    uint64_t base = 0;
    json_t *events = json_object_get(root, "traceEvents"), *e;
    size_t at = 0, k;
    bool first = true;
    int i = -1, l = 0;
    json_array_foreach(events, k, e) {
        if (!is(e, "ph", "X")) continue;
        do i++; while (i < N && s[i].lane != l);
        while (i == N) {
            l++;
            for (i = 0; i < N && s[i].lane != l; i++) ;
        }
        assert_true(i < N && l < LANES);
        if (first) base = s[i].begin - ns(e, "ts");
        first = false;
        assert_int_equal(ns(e, "ts") + base, s[i].begin);
        assert_int_equal(ns(e, "dur"), s[i].end - s[i].begin);
        assert_string_equal(string(e, "cat"), cats[s[i].cat][l == 2]);
        assert_int_equal(integer(e, "tid"), l + 1);
        assert_int_equal(integer(e, "pid"), l == 2 ? getpid() : 0);
        assert_int_equal(integer(args(e), "step"), s[i].step);
        if (s[i].arg >= 0) assert_int_equal(integer(args(e), arg_name[s[i].cat]), s[i].arg);
        else assert_null(json_object_get(args(e), arg_name[s[i].cat]));
        const bool device = s[i].cat <= RM_CAT_COPY;
        assert_true(device == (json_object_get(args(e), "stream") != NULL));
        if (device) assert_int_equal(integer(args(e), "stream"), l + 1);
        at++;
    }
    assert_int_equal(at, N);
    json_decref(root);
    rm_trace_close(t);
    free(s);
}

static void test_names_survive(void **state)
{
    static const struct { const char *in, *out; } names[] = {
        { "conv1 forward", "conv1 forward" },
        { "a \"quoted\" \\ back/slash", "a \"quoted\" \\ back/slash" },
        { "tab\tline\nbell\a\x1f\x7f", "tab\tline\nbell\a\x1f\x7f" },
        { "Straße 日本 🚀", "Straße 日本 🚀" },
        { "", "" },
        { "broken \xff\xc3( \xed\xa0\x80 \xe2\x82", "broken \uFFFD\uFFFD( \uFFFD\uFFFD\uFFFD \uFFFD\uFFFD" },
        { "\xf4\x90\x80\x80\xc0\xaf", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD" },
    };
    rm_trace *t;
    rm_lane *lane;
    ok(rm_trace_open(64, &t));
    ok(rm_trace_lane(t, RM_LANE_THREAD, "a \"lane\"\n", &lane));
    const uint64_t now = rm_now_ns();
    for (size_t i = 0; i < RM_COUNT(names); i++) rm_trace_span(lane, RM_CAT_HOST, rm_trace_name(t, names[i].in), now, now + 5, 0, 0, -1);
    json_t *root = written(t, RM_OK);
    assert_int_equal(count(root, "X"), RM_COUNT(names));
    for (size_t i = 0; i < RM_COUNT(names); i++) assert_string_equal(string(nth(root, "X", i), "name"), names[i].out);
    bool found = false;
    for (size_t i = 0; nth(root, "M", i); i++) found |= !strcmp(string(args(nth(root, "M", i)), "name"), "a \"lane\"\n");
    assert_true(found);
    json_decref(root);
    rm_trace_close(t);
}

/* Tools class device work by its name. */
static void test_names_say_the_class(void **state)
{
    static const struct { rm_cat cat; const char *in, *out; } names[] = {
        { RM_CAT_COMM, "AllReduce_Sum_f32", "ncclDevKernel_AllReduce_Sum_f32" },
        { RM_CAT_COMM, "ncclDevKernel_Broadcast", "ncclDevKernel_Broadcast" },
        { RM_CAT_COPY, "images", "Memcpy images" },
        { RM_CAT_COPY, "Memset (Device)", "Memset (Device)" },
        { RM_CAT_KERNEL, "conv1", "conv1" },
        { RM_CAT_STEP, "whatever", "ProfilerStep#41" },
    };
    rm_trace *t;
    rm_lane *lane;
    ok(rm_trace_open(64, &t));
    ok(rm_trace_lane(t, RM_LANE_QUEUE, "compute", &lane));
    const uint64_t now = rm_now_ns();
    for (size_t i = 0; i < RM_COUNT(names); i++) rm_trace_span(lane, names[i].cat, rm_trace_name(t, names[i].in), now, now + 5, 41, 0, 0);
    json_t *root = written(t, RM_OK);
    for (size_t i = 0; i < RM_COUNT(names); i++) assert_string_equal(string(nth(root, "X", i), "name"), names[i].out);
    json_decref(root);
    rm_trace_close(t);
}

static void test_launches(void **state)
{
    rm_trace *t;
    rm_lane *host, *queue;
    ok(rm_trace_open(64, &t));
    ok(rm_trace_lane(t, RM_LANE_THREAD, "host", &host));
    ok(rm_trace_lane(t, RM_LANE_QUEUE, "compute", &queue));
    const uint64_t now = rm_now_ns();
    rm_trace_span(host, RM_CAT_STEP, 0, now, now + 1000, 6, 0, -1);
    rm_trace_span(host, RM_CAT_LAUNCH, 0, now + 10, now + 12, 6, 77, -1);
    rm_trace_span(queue, RM_CAT_KERNEL, 0, now + 20, now + 30, 6, 77, -1);
    rm_trace_span(queue, RM_CAT_KERNEL, 0, now + 30, now + 40, 6, 78, -1); /* its launch is not in the trace */
    rm_trace_span(queue, RM_CAT_COMM, 0, now + 40, now + 50, 6, 0, -1);    /* it has none */
    json_t *root = written(t, RM_OK);
    const int64_t step = integer(args(nth(root, "X", 0)), "correlation");
    static const int64_t expected[] = { -1, 77, 77, -1, -1 };
    for (size_t i = 0; i < RM_COUNT(expected); i++) assert_int_equal(integer(args(nth(root, "X", i)), "correlation"), expected[i] < 0 ? step : expected[i]);
    assert_true(step != 77 && step != 78);
    assert_int_equal(integer(args(nth(root, "X", 1)), "External id"), 77);
    assert_int_equal(integer(args(nth(root, "X", 2)), "External id"), 77);

    assert_int_equal(count(root, "s"), 1); /* one arrow, from the launch to the kernel */
    assert_int_equal(count(root, "f"), 1);
    const json_t *from = nth(root, "s", 0), *to = nth(root, "f", 0);
    assert_int_equal(integer(from, "id"), integer(to, "id"));
    assert_int_equal(ns(from, "ts"), ns(nth(root, "X", 1), "ts"));
    assert_int_equal(ns(to, "ts"), ns(nth(root, "X", 2), "ts"));
    assert_int_equal(integer(from, "tid"), integer(nth(root, "X", 1), "tid"));
    assert_int_equal(integer(to, "tid"), integer(nth(root, "X", 2), "tid"));
    json_decref(root);
    rm_trace_close(t);
}

static bool has(const json_t *o, const char *key) { return json_object_get(o, key) != NULL; }

/* Kernels, launches and all-reduces say their layer, pass and bucket; what nobody named has its number alone, what is of none has no key. */
static void test_work_says_what_it_is_part_of(void **state)
{
    rm_trace *t;
    rm_lane *host, *queue;
    ok(rm_trace_open(64, &t));
    ok(rm_trace_lane(t, RM_LANE_THREAD, "host", &host));
    ok(rm_trace_lane(t, RM_LANE_QUEUE, "compute", &queue));
    ok(rm_trace_tell(t, RM_TABLE_LAYER, 2, "layer4 \"2\"", -1));
    ok(rm_trace_tell(t, RM_TABLE_PASS, 5, "bwd_weights", -1));
    ok(rm_trace_tell(t, RM_TABLE_GRADIENT, 0, "fc.bias", 1));
    ok(rm_trace_tell(t, RM_TABLE_GRADIENT, 7, "conv1.weight", 2));
    const uint64_t now = rm_now_ns();
    const rm_part_of kernel = { .bucket = 3, .pass = 5, .last = -1 }, none = { .bucket = -1, .pass = -1, .last = -1 }, sum = { .bucket = 0, .first = 0, .last = 7 };
    const rm_part_of unnamed = { .bucket = 1, .first = 3, .last = 9 };
    rm_trace_work(host, RM_CAT_LAUNCH, 0, now, now + 1, 4, 1, 2, kernel);
    rm_trace_work(queue, RM_CAT_KERNEL, 0, now, now + 1, 4, 1, 2, kernel);
    rm_trace_work(queue, RM_CAT_KERNEL, 0, now, now + 1, RM_NO_STEP, 2, -1, none);
    rm_trace_work(queue, RM_CAT_COMM, 0, now, now + 1, 4, 3, 4096, sum);
    rm_trace_work(queue, RM_CAT_COMM, 0, now, now + 1, 4, 4, 4096, unnamed);
    json_t *root = written(t, RM_OK);
    for (size_t i = 0; i < 2; i++) {
        const json_t *a = args(nth(root, "X", i));
        assert_int_equal(integer(a, "layer"), 2);
        assert_string_equal(string(a, "layer_name"), "layer4 \"2\"");
        assert_string_equal(string(a, "pass"), "bwd_weights");
        assert_int_equal(integer(a, "bucket"), 3);
        assert_int_equal(integer(a, "step"), 4);
        assert_false(has(a, "first_gradient"));
    }
    static const char *const keys[] = { "layer", "layer_name", "pass", "bucket", "step", "first_gradient" };
    for (size_t i = 0; i < RM_COUNT(keys); i++) assert_false(has(args(nth(root, "X", 2)), keys[i]));
    const json_t *a = args(nth(root, "X", 3));
    assert_int_equal(integer(a, "bytes"), 4096);
    assert_int_equal(integer(a, "bucket"), 0);
    assert_int_equal(integer(a, "first_gradient"), 0);
    assert_int_equal(integer(a, "last_gradient"), 7);
    assert_string_equal(string(a, "first_gradient_name"), "fc.bias");
    assert_string_equal(string(a, "last_gradient_name"), "conv1.weight");
    assert_string_equal(string(a, "pass"), "all_reduce");
    assert_int_equal(integer(a, "layer"), 2);
    assert_string_equal(string(a, "layer_name"), "layer4 \"2\"");
    a = args(nth(root, "X", 4));
    assert_int_equal(integer(a, "last_gradient"), 9);
    assert_false(has(a, "first_gradient_name") || has(a, "last_gradient_name") || has(a, "layer"));
    json_decref(root);
    rm_trace_close(t);
}

static void test_lane_again_and_fill(void **state)
{
    rm_trace *t;
    rm_lane *a, *b, *queue;
    ok(rm_trace_open(10, &t));
    ok(rm_trace_lane_again(t, RM_LANE_THREAD, "input worker 0", 4, &a));
    ok(rm_trace_lane_again(t, RM_LANE_THREAD, "input worker 0", 4, &b));
    assert_ptr_equal(a, b);
    ok(rm_trace_lane_again(t, RM_LANE_QUEUE, "input worker 0", 4, &queue));
    assert_ptr_not_equal(a, queue);
    assert_int_equal(rm_trace_fill(t), 0);
    for (uint32_t i = 0; i < 3; i++) rm_trace_span(b, RM_CAT_INPUT, 0, i, i + 1, i, 0, -1);
    rm_trace_span(queue, RM_CAT_KERNEL, 0, 1, 2, 0, 0, -1);
    assert_int_equal(rm_trace_fill(t), 75);
    for (uint32_t i = 0; i < 3; i++) rm_trace_span(b, RM_CAT_INPUT, 0, i, i + 1, i, 0, -1);
    assert_int_equal(rm_trace_fill(t), 100);
    assert_int_equal(rm_trace_dropped(t), 2);
    rm_trace_close(t);
}

/* Nanoseconds an event, least of some rounds; with the clock read at its begin and its end, or without. */
static double cost_of_event(bool clock)
{
    enum { N = 1 << 16, ROUNDS = 9 };
    double least = 1e9;
    for (int r = 0; r < ROUNDS; r++) {
        rm_trace *t;
        rm_lane *lane;
        ok(rm_trace_open(N, &t));
        ok(rm_trace_lane(t, RM_LANE_QUEUE, "compute", &lane));
        const rm_part_of of = { .bucket = 1, .pass = 2, .last = -1 };
        const uint64_t begin = rm_now_ns();
        for (uint32_t i = 0; i < N; i++) {
            const uint64_t from = clock ? rm_now_ns() : begin + i;
            rm_trace_work(lane, RM_CAT_KERNEL, 1, from, clock ? rm_now_ns() : begin + 2 * i, i, i, i, of);
        }
        least = fmin(least, (double)(rm_now_ns() - begin) / N);
        assert_int_equal(rm_trace_dropped(t), 0);
        rm_trace_close(t);
    }
    return least;
}

/* Printed, and held to far more than it takes (docs/trace.md), for machines are busy and sanitizers slow. */
static void test_an_event_is_cheap(void **state)
{
    const double bare = cost_of_event(false), clocked = cost_of_event(true);
    print_message("an event: %.1f ns; with two readings of the clock: %.1f ns\n", bare, clocked);
    assert_true(bare < 2000 && clocked < 10000);
}

static void test_counters_and_instants(void **state)
{
    rm_trace *t;
    rm_lane *lane;
    ok(rm_trace_open(64, &t));
    ok(rm_trace_lane(t, RM_LANE_THREAD, "host", &lane));
    const uint64_t now = rm_now_ns();
    rm_trace_counter(lane, rm_trace_name(t, "memory"), now, -5);
    rm_trace_counter(lane, rm_trace_name(t, "memory"), now + 1500, INT64_MAX);
    rm_trace_span(lane, RM_CAT_LAYER, 0, now + 9, now + 9, 1, 0, 4);  /* an instant */
    rm_trace_span(lane, RM_CAT_HOST, 0, now + 9, now + 3, 1, 0, -1);  /* backward: one too */
    rm_trace_span(lane, RM_CAT_KERNEL, 0, now, now, 1, 0, -1);        /* took no time, and is counted all the same */
    rm_trace_span(NULL, RM_CAT_KERNEL, 0, now, now + 1, 1, 0, -1);
    rm_trace_counter(NULL, 0, now, 1);
    json_t *root = written(t, RM_OK);
    assert_int_equal(count(root, "C"), 2);
    assert_string_equal(string(nth(root, "C", 0), "name"), "memory");
    assert_int_equal(integer(args(nth(root, "C", 0)), "value"), -5);
    assert_true(integer(args(nth(root, "C", 1)), "value") == INT64_MAX);
    assert_int_equal(ns(nth(root, "C", 1), "ts") - ns(nth(root, "C", 0), "ts"), 1500);
    assert_int_equal(count(root, "i"), 2);
    assert_int_equal(integer(args(nth(root, "i", 0)), "layer"), 4);
    assert_int_equal(count(root, "X"), 1);
    assert_int_equal(ns(nth(root, "X", 0), "dur"), 0);
    json_decref(root);
    rm_trace_close(t);
}

static void test_head(void **state)
{
    rm_trace *t;
    rm_lane *lane;
    const uint64_t early = rm_now_ns();
    struct timespec day;
    clock_gettime(CLOCK_REALTIME, &day);
    const int64_t early_day = (int64_t)day.tv_sec * 1000000000 + day.tv_nsec;
    ok(rm_trace_open(8, &t));
    ok(rm_trace_lane(t, RM_LANE_QUEUE, "communication", &lane));
    rm_trace_span(lane, RM_CAT_KERNEL, 0, early - 3000000000u, early, 0, 0, -1); /* began before the trace: no time in the file is negative */
    rm_trace_span(lane, RM_CAT_KERNEL, 0, rm_now_ns(), rm_now_ns() + 1, 0, 0, -1);
    json_t *root = written(t, RM_OK);
    assert_int_equal(ns(nth(root, "X", 0), "ts"), 0);
    assert_int_equal(ns(nth(root, "X", 0), "dur"), 3000000000u);
    assert_true(ns(nth(root, "X", 1), "ts") > 3000000000u);
    assert_true(llabs(integer(root, "baseTimeNanoseconds") + 3000000000 - early_day) < 1000000000); /* the same moment on both clocks */
    assert_int_equal(integer(root, "schemaVersion"), 1);
    const json_t *d = json_object_get(root, "distributedInfo"), *device = json_array_get(json_object_get(root, "deviceProperties"), 0);
    assert_int_equal(integer(d, "rank"), 3);
    assert_int_equal(integer(d, "world_size"), 4);
    assert_string_equal(string(d, "backend"), "mpi");
    assert_int_equal(integer(device, "id"), 0);
    assert_string_equal(string(device, "name"), "oneDNN \"cpu\"");
    static const char *const told[] = { "process_name", "process_labels", "process_sort_index", "process_name", "process_labels", "process_sort_index",
                                        "thread_name", "thread_sort_index" };
    assert_int_equal(count(root, "M"), RM_COUNT(told));
    for (size_t i = 0; i < RM_COUNT(told); i++) assert_string_equal(string(nth(root, "M", i), "name"), told[i]);
    assert_string_equal(string(args(nth(root, "M", 6)), "name"), "communication");
    json_decref(root);

    size_t n;
    char *text = contents(in_folder("t.json"), &n);
    assert_non_null(strstr(text, "\"rank\": 3")); /* HolisticTraceAnalysis looks for this text, with the blank */
    free(text);
    rm_trace_close(t);
    assert_int_equal(rm_trace_open(0, &t), RM_E_ARG);
}

static void test_full_ring_keeps_the_oldest(void **state)
{
    rm_trace *t;
    rm_lane *small, *other;
    ok(rm_trace_open(4, &t));
    ok(rm_trace_lane(t, RM_LANE_QUEUE, "roomy", &other));
    ok(rm_trace_lane(t, RM_LANE_QUEUE, "crowded", &small));
    const uint64_t now = rm_now_ns();
    for (uint32_t i = 0; i < 11; i++) rm_trace_span(small, RM_CAT_KERNEL, 0, now + i, now + i + 1, i, 0, -1);
    for (uint32_t i = 0; i < 4; i++) rm_trace_span(other, RM_CAT_KERNEL, 0, now + i, now + i + 1, i, 0, -1);
    assert_int_equal(rm_trace_dropped(t), 7);
    json_t *root = written(t, RM_E_PARTIAL);
    assert_non_null(strstr(rm_last_error(), "7 events"));
    assert_non_null(strstr(rm_last_error(), "'crowded'"));
    assert_int_equal(integer(root, "dropped"), 7);
    assert_int_equal(count(root, "X"), 8);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(integer(args(nth(root, "X", i)), "step"), i % 4);
    json_decref(root);
    rm_trace_close(t);
}

static rm_trace *some_trace(uint32_t n)
{
    rm_trace *t;
    rm_lane *lane;
    ok(rm_trace_open(n, &t));
    ok(rm_trace_lane(t, RM_LANE_QUEUE, "compute", &lane));
    const rm_name name = rm_trace_name(t, "layer4.2.conv3 forward");
    const uint64_t now = rm_now_ns();
    for (uint32_t i = 0; i < n; i++) rm_trace_span(lane, RM_CAT_KERNEL, name, now + i, now + 2 * i, i, i, i);
    return t;
}

static void test_gzip_holds_the_same(void **state)
{
    rm_trace *t = some_trace(20000);
    size_t n, n_gz;
    struct stat plain, gz;
    ok(rm_trace_write(t, &about, in_folder("t.json")));
    assert_int_equal(stat(in_folder("t.json"), &plain), 0);
    char *text = contents(in_folder("t.json"), &n);
    ok(rm_trace_write(t, &about, in_folder("t.json.gz")));
    assert_int_equal(stat(in_folder("t.json.gz"), &gz), 0);
    char *text_gz = contents(in_folder("t.json.gz"), &n_gz);
    assert_int_equal(plain.st_size, n); /* plain is plain */
    assert_true(gz.st_size < plain.st_size / 4);
    assert_int_equal(n, n_gz);
    assert_memory_equal(text, text_gz, n);
    free(text);
    free(text_gz);
    rm_trace_close(t);
}

static size_t files_in_folder(void)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_failures(void **state)
{
    static const char *const bad[] = { "/nonexistent-folder/t.json", "/nonexistent-folder/t.json.gz", "/" };
    rm_trace *t = some_trace(5000), *small_trace = some_trace(3);
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        assert_int_equal(rm_trace_write(t, &about, bad[i]), RM_E_IO);
        assert_non_null(strstr(rm_last_error(), bad[i]));
    }
    /* Devices are written to and not replaced. Through links: a mistake here costs a link, not the device of whoever is root. */
    static const struct { const char *name, *device; rm_status status; } rows[] = {
        { "null.json", "/dev/null", RM_OK }, { "full.json", "/dev/full", RM_E_NOSPACE }, { "full.json.gz", "/dev/full", RM_E_NOSPACE },
    };
    const size_t before = files_in_folder();
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        struct stat s;
        assert_int_equal(symlink(rows[i].device, in_folder(rows[i].name)), 0);
        assert_int_equal(rm_trace_write(t, &about, in_folder(rows[i].name)), rows[i].status);
        assert_int_equal(rm_trace_write(small_trace, &about, in_folder(rows[i].name)), rows[i].status); /* fails as late as in closing */
        assert_int_equal(lstat(in_folder(rows[i].name), &s), 0);
        assert_true(S_ISLNK(s.st_mode));
        assert_int_equal(unlink(in_folder(rows[i].name)), 0);
    }
    assert_int_equal(mkdir(in_folder("taken.json"), 0700), 0);
    assert_int_equal(rm_trace_write(t, &about, in_folder("taken.json")), RM_E_IO);
    assert_int_equal(rmdir(in_folder("taken.json")), 0);
    assert_int_equal(files_in_folder(), before);

    /* Writing stops in the middle: the old file is there as it was, and no temporary. */
    size_t n, n_now;
    ok(rm_trace_write(t, &about, in_folder("t.json")));
    char *old = contents(in_folder("t.json"), &n);
    struct rlimit limit, small;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){ 10000, limit.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const rm_status st = rm_trace_write(t, &about, in_folder("t.json")), st_gz = rm_trace_write(t, &about, in_folder("new.json.gz"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(st, RM_E_IO);
    assert_int_equal(st_gz, RM_E_IO);
    char *now = contents(in_folder("t.json"), &n_now);
    assert_int_equal(n, n_now);
    assert_memory_equal(old, now, n);
    assert_int_equal(files_in_folder(), before);
    free(old);
    free(now);
    rm_trace_close(small_trace);
    rm_trace_close(t);
}

/* ---- threads */

enum { EACH = 30000 };
typedef struct task { rm_trace *trace; rm_lane *lane; uint32_t id; } task;

static void *emit_all(void *p)
{
    const task *k = p;
    char text[32];
    snprintf(text, sizeof text, "thread %u", k->id);
    const rm_name own = rm_trace_name(k->trace, text), shared = rm_trace_name(k->trace, "shared");
    for (uint32_t i = 0; i < EACH; i++) rm_trace_span(k->lane, RM_CAT_KERNEL, i % 2 ? own : shared, i, i + 1, i, 0, k->id);
    return NULL;
}

static void test_a_lane_a_thread(void **state)
{
    pthread_t thread[2];
    task k[2];
    rm_trace *t;
    ok(rm_trace_open(EACH - 1, &t));
    for (uint32_t i = 0; i < 2; i++) {
        k[i] = (task){ t, NULL, i };
        ok(rm_trace_lane(t, RM_LANE_THREAD, "worker", &k[i].lane));
        assert_int_equal(pthread_create(&thread[i], NULL, emit_all, &k[i]), 0);
    }
    for (int i = 0; i < 1000; i++) assert_true(rm_trace_dropped(t) <= 2); /* may be asked meanwhile */
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(rm_trace_dropped(t), 2);
    json_t *root = written(t, RM_E_PARTIAL), *e;
    uint32_t next[2] = { 0, 0 };
    size_t i;
    json_array_foreach(json_object_get(root, "traceEvents"), i, e) {
        if (!is(e, "ph", "X")) continue;
        const int64_t id = integer(args(e), "layer"), step = integer(args(e), "step");
        char own[32];
        snprintf(own, sizeof own, "thread %d", (int)id);
        assert_int_equal(integer(e, "tid"), id + 1);
        assert_int_equal(step, next[id]++);
        assert_string_equal(string(e, "name"), step % 2 ? own : "shared");
    }
    assert_int_equal(next[0], EACH - 1);
    assert_int_equal(next[1], EACH - 1);
    json_decref(root);
    rm_trace_close(t);
}

static int make_folder(void **state) { return mkdtemp(folder) ? 0 : -1; }
static int remove_folder(void **state)
{
    unlink(in_folder("t.json"));
    unlink(in_folder("t.json.gz"));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_is_there), cmocka_unit_test(test_names_survive), cmocka_unit_test(test_names_say_the_class),
        cmocka_unit_test(test_launches), cmocka_unit_test(test_counters_and_instants), cmocka_unit_test(test_head),
        cmocka_unit_test(test_full_ring_keeps_the_oldest), cmocka_unit_test(test_gzip_holds_the_same), cmocka_unit_test(test_failures),
        cmocka_unit_test(test_a_lane_a_thread), cmocka_unit_test(test_work_says_what_it_is_part_of), cmocka_unit_test(test_lane_again_and_fill),
        cmocka_unit_test(test_an_event_is_cheap),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
