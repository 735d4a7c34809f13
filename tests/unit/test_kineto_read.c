/* Reading traces of others: what is taken, in any order and however the buffer cuts it, and what happens to damaged ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/strbuf.h"
#include "profiler/kineto_read.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static char path[] = "/tmp/ringmark-kineto-XXXXXX";

static void put(const void *text, size_t n, bool gz)
{
    gzFile f = gzopen(path, gz ? "wb" : "wbT");
    assert_non_null(f);
    if (n) assert_int_equal(gzwrite(f, text, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
}

/* PyTorch's shape, unordered, with all that must be passed over; 3 kernels, a copy, 2 launches in time and one after the last step. */
static const char sample[] =
    "{\n  \"schemaVersion\": 1, \"deviceProperties\": [{\"id\": 0, \"name\": \"A \\\"B\\\"\", \"x\": [[], {}, [1, {\"y\": null}]]}],\n"
    "  \"traceEvents\": [\n"
    "  {\"ph\": \"X\", \"cat\": \"kernel\", \"name\": \"ncclDevKernel_AllReduce\", \"pid\": 0, \"tid\": 20, \"ts\": 130, \"dur\": 40,\n"
    "   \"args\": {\"grid\": [1, 1, 1], \"stream\": 20, \"correlation\": 12, \"est. achieved occupancy %\": 1e2}},\n"
    "  {\"ph\": \"M\", \"name\": \"process_name\", \"pid\": 0, \"tid\": 0, \"ts\": 0, \"args\": {\"name\": \"python\"}},\n"
    "  {\"args\": {\"correlation\": 11, \"stream\": 7}, \"dur\": 50, \"ts\": 100, \"name\": \"sgemm<4, (int)2>\", \"cat\": \"kernel\", \"ph\": \"X\"},\n"
    "  {\"ph\": \"X\", \"cat\": \"cuda_runtime\", \"name\": \"cudaLaunchKernel\", \"ts\": 90, \"dur\": 3, \"args\": {\"correlation\": 11, \"cbid\": 211}},\n"
    "  {\"ph\": \"X\", \"cat\": \"user_annotation\", \"name\": \"ProfilerStep#5\", \"ts\": 80, \"dur\": 100, \"args\": {}},\n"
    "  {\"ph\": \"X\", \"cat\": \"gpu_memcpy\", \"name\": \"Memcpy HtoD (Pageable -> Device)\", \"ts\": 95, \"dur\": 10, \"args\": {\"stream\": 7, \"correlation\": 10}},\n"
    "  {\"ph\": \"s\", \"id\": 11, \"ts\": 90, \"cat\": \"ac2g\", \"name\": \"ac2g\"},\n"
    "  {\"ph\": \"X\", \"cat\": \"cuda_runtime\", \"name\": \"cudaLaunchKernel\", \"ts\": 91, \"dur\": 1, \"args\": {\"correlation\": 12}},\n"
    "  {\"ph\": \"X\", \"cat\": \"user_annotation\", \"name\": \"ProfilerStep#6\", \"ts\": 200, \"dur\": 70, \"args\": {}},\n"
    "  {\"ph\": \"X\", \"cat\": \"kernel\", \"name\": \"late\", \"ts\": 210, \"dur\": 5, \"args\": {\"stream\": 7, \"correlation\": 13}},\n"
    "  {\"ph\": \"X\", \"cat\": \"cuda_runtime\", \"name\": \"cudaLaunchKernel\", \"ts\": 201, \"dur\": 1, \"args\": {\"correlation\": 13}},\n"
    "  {\"ph\": \"X\", \"cat\": \"python_function\", \"name\": \"<built-in>\", \"ts\": 1, \"dur\": 2, \"args\": {\"Input Dims\": [[1, 2], []], \"s\": \"a\\\\\"}}\n"
    "  ],\n  \"distributedInfo\": {\"backend\": \"nccl\", \"rank\": 3, \"world_size\": 8}\n}";

static rm_status reading(const char *text, size_t n, bool as_hta, size_t buffer_bytes, rm_kineto *k)
{
    memset(k, 0, sizeof *k);
    put(text, n, false);
    const rm_kineto_options o = { .as_hta = as_hta, .buffer_bytes = buffer_bytes };
    return rm_kineto_read(path, &o, k);
}

/* A trace of these events, in the object form. */
static rm_status events(const char *list, bool as_hta, rm_kineto *k)
{
    rm_strbuf s = { 0 };
    rm_str_addf(&s, "{\"traceEvents\": [%s]}", list);
    const rm_status st = reading(s.text, s.n, as_hta, 0, k);
    rm_str_free(&s);
    return st;
}

/* ---- what is taken */

static void test_classes(void **state)
{
    static const struct { const char *name; rm_kineto_class class; } row[] = {
        { "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", RM_KINETO_COMM }, { "ncclKernel_AllGather", RM_KINETO_COMM },
        { "nccl:all_reduce", RM_KINETO_COMPUTE }, { "xncclKernel", RM_KINETO_COMPUTE }, { "nccl\nKernel", RM_KINETO_COMPUTE }, { "Memcpy DtoH (Device -> Pinned)", RM_KINETO_COPY },
        { "Memset (Device)", RM_KINETO_COPY }, { "dma0", RM_KINETO_COPY }, { "memcpy32_post", RM_KINETO_COMPUTE }, { "myMemcpy", RM_KINETO_OTHER },
        { "myMemset", RM_KINETO_COMPUTE }, { "Event Sync", RM_KINETO_OTHER }, { "Stream Wait Event", RM_KINETO_COMPUTE }, { "a\nSync", RM_KINETO_COMPUTE }, { "", RM_KINETO_COMPUTE },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (rm_kineto_class_of(row[i].name, strlen(row[i].name)) != row[i].class) fail_msg("%s", row[i].name);
}

static void check_sample(const rm_kineto *k)
{
    static const struct { int64_t begin, end, stream; rm_kineto_class class; bool kept; } span[] = {
        { 130000, 170000, 20, RM_KINETO_COMM, true }, { 100000, 150000, 7, RM_KINETO_COMPUTE, true }, { 95000, 105000, 7, RM_KINETO_COPY, false }, { 210000, 215000, 7, RM_KINETO_COMPUTE, false },
    };
    assert_int_equal(k->n, RM_COUNT(span));
    for (size_t i = 0; i < k->n; i++) {
        const rm_kineto_span *s = &k->span[i];
        assert_int_equal(s->begin_ns, span[i].begin);
        assert_int_equal(s->end_ns, span[i].end);
        assert_int_equal(k->stream[s->stream], span[i].stream);
        assert_int_equal(s->class, span[i].class);
        assert_int_equal(s->kept, span[i].kept);
    }
    assert_int_equal(k->rank, 3);
    assert_int_equal(k->world, 8);
    assert_int_equal(k->n_step, 2);
    assert_true(k->several_steps && !k->fractions && k->n_bad == 0 && k->n_pair == 0);
    assert_int_equal(k->step_begin_ns, 80000);
    assert_int_equal(k->step_last_ns, 200000);
    assert_int_equal(k->step_end_ns, 270000);
    assert_int_equal(k->n_event, 12);
}

/* However the buffer cuts the text, and packed or not. */
static void test_sample(void **state)
{
    rm_kineto k;
    for (size_t buffer = 40; buffer < 400; buffer++) {
        assert_int_equal(reading(sample, strlen(sample), true, buffer, &k), RM_OK);
        check_sample(&k);
        assert_int_equal(k.text_bytes, strlen(sample));
        rm_kineto_free(&k);
    }
    put(sample, strlen(sample), true);
    assert_int_equal(rm_kineto_read(path, &(rm_kineto_options){ .as_hta = true }, &k), RM_OK);
    check_sample(&k);
    assert_int_equal(k.text_bytes, strlen(sample));
    rm_kineto_free(&k);
}

static void test_times(void **state)
{
    static const struct { const char *ts; int64_t ns; bool fraction; } row[] = {
        { "0", 0, false }, { "5", 5000, false }, { "-7", -7000, false }, { "1.5", 1500, true }, { "1.0", 1000, true }, { "0.001", 1, true }, { "0.0004", 0, true }, { "0.0005", 1, true },
        { "12.3456", 12346, true }, { "-0.25", -250, true }, { "1e3", 1000000, true }, { "2.5E-1", 250, true }, { "1700000000000000", 1700000000000000000, false },
        { "1700000000000000.123", 1700000000000000123, true },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        char list[200];
        rm_kineto k;
        snprintf(list, sizeof list, "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":%s,\"dur\":1.5}", row[i].ts);
        assert_int_equal(events(list, false, &k), RM_OK);
        assert_int_equal(k.span[0].begin_ns, row[i].ns);
        assert_int_equal(k.span[0].end_ns, row[i].ns + 1500);
        assert_int_equal(k.fractions, row[i].fraction);
        rm_kineto_free(&k);
    }
}

#define GOOD "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"good\",\"ts\":10,\"dur\":5,\"args\":{\"stream\":7,\"correlation\":1}}"

/* Odd but readable: how many spans, bad events and pairs; the class of the last span. */
static void test_odd(void **state)
{
    static const struct { const char *list; bool as_hta; size_t spans; uint64_t bad, pairs; rm_kineto_class class; } row[] = {
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":NaN,\"dur\":5}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":1,\"dur\":-Infinity}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":1e300,\"dur\":5}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":99999999999999999999999999999999,\"dur\":5}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":\"1\",\"dur\":5}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":1}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":1,\"dur\":null}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":9,\"dur\":-5}", false, 1, 1, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":9,\"dur\":-5,\"args\":{\"stream\":7}}", true, 2, 0, 0, RM_KINETO_COMPUTE }, /* there it counts */
        { GOOD ",{\"ph\":\"B\",\"cat\":\"kernel\",\"name\":\"k\",\"ts\":9},{\"ph\":\"E\",\"ts\":12}", false, 1, 0, 2, RM_KINETO_COMPUTE },
        { GOOD ",7,null,[{\"ts\":1}],\"x\"", false, 1, 4, 0, RM_KINETO_COMPUTE },
        { GOOD ",{}", false, 1, 0, 0, RM_KINETO_COMPUTE },
        { "{\"p\\u0068\":\"X\",\"c\\u0061t\":\"k\\u0065rnel\",\"name\":\"nccl\\u0044evK\\u0065rnel\",\"\\u0074s\":10,\"dur\":5}", false, 1, 0, 0, RM_KINETO_COMM },
        { "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"nccl\\nKernel \\ud83d\\ude00 \\u00e9 \\\"\\\\\\/\\b\\f\\r\\t\",\"ts\":10,\"dur\":5}", false, 1, 0, 0, RM_KINETO_COMPUTE },
        { "{\"ph\":\"X\",\"cat\":\"cpu_op\",\"name\":\"a\",\"ts\":\"x\",\"cat\":\"kernel\",\"name\":\"Memset\",\"ts\":10,\"dur\":9,\"dur\":5}", false, 1, 0, 0, RM_KINETO_COPY },
        { "{\"cat\":\"kernel\",\"name\":\"k\",\"ts\":10,\"dur\":5,\"args\":null}," GOOD, false, 2, 0, 0, RM_KINETO_COMPUTE },
        { "{\"ph\":\"X\",\"cat\":\"my_gpu\",\"name\":\"k\",\"ts\":10,\"dur\":5,\"args\":{\"stream\":\"7\"}}", false, 1, 0, 0, RM_KINETO_COMPUTE },
        { "{\"ph\":\"X\",\"name\":\"k\",\"ts\":10,\"dur\":5,\"args\":{\"stream\":0}}," GOOD, false, 2, 0, 0, RM_KINETO_COMPUTE },
        { "{\"ph\":\"X\",\"name\":\"k\",\"ts\":10,\"dur\":5,\"args\":{\"stream\":0}}," GOOD, true, 1, 0, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"cuda_runtime\",\"name\":\"hipLaunchKernel\",\"ts\":1,\"dur\":5,\"args\":{\"stream\":0,\"correlation\":1}}", false, 1, 0, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"cuda_runtime\",\"name\":\"hipLaunchKernel\",\"ts\":1,\"dur\":5,\"args\":{\"stream\":0,\"correlation\":1}}", true, 2, 0, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"cuda_sync\",\"name\":\"Event Sync\",\"ts\":1,\"dur\":5,\"args\":{\"stream\":7,\"correlation\":1}}", true, 2, 0, 0, RM_KINETO_OTHER },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"Trace\",\"name\":\"k\",\"ts\":1,\"dur\":5,\"args\":{\"stream\":7}}", true, 1, 0, 0, RM_KINETO_COMPUTE },
        { GOOD ",{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":7,\"ts\":1,\"dur\":5,\"args\":{\"stream\":123456789012345678901234567890,\"correlation\":1e9}}", false, 2, 0, 0, RM_KINETO_COMPUTE },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_kineto k;
        if (events(row[i].list, row[i].as_hta, &k) != RM_OK) fail_msg("row %zu: %s", i, rm_last_error());
        if (k.n != row[i].spans || k.n_bad != row[i].bad || k.n_pair != row[i].pairs || k.span[k.n - 1].class != row[i].class)
            fail_msg("row %zu: %zu spans, %d bad, %d pairs, class %d", i, k.n, (int)k.n_bad, (int)k.n_pair, (int)k.span[k.n - 1].class);
        rm_kineto_free(&k);
    }
}

static void test_forms(void **state)
{
    static const struct { const char *text; size_t spans; int32_t rank; } row[] = {
        { "[" GOOD "]", 1, -1 },
        { "\n [ " GOOD " ,\t" GOOD "\r\n]\n", 2, -1 },
        { "{\"traceEvents\":[" GOOD "," GOOD "],\"traceEvents\":[" GOOD "]}", 1, -1 }, /* the last counts, as in every reader of JSON */
        { "{\"distributedInfo\":{\"rank\":2},\"traceEvents\":[" GOOD "],\"distributedInfo\":{\"world_size\":4,\"rank\":\"3\"}}", 1, 3 },
        { "{\"distributedInfo\":[1],\"traceEvents\":[" GOOD "],\"a\":true,\"b\":-1.5e-3,\"c\":\"\\u12ab\"}", 1, -1 },
        { "{\"distributedInfo\":{\"rank\":-5},\"traceEvents\":[" GOOD "]}", 1, -1 },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_kineto k;
        if (reading(row[i].text, strlen(row[i].text), false, 0, &k) != RM_OK) fail_msg("row %zu: %s", i, rm_last_error());
        if (k.n != row[i].spans || k.rank != row[i].rank) fail_msg("row %zu: %zu spans, rank %d", i, k.n, (int)k.rank);
        rm_kineto_free(&k);
    }
}

/* A launch counts that began before the last step did, wherever in the file each of them is, and however many wait. */
static void test_many_launches(void **state)
{
    for (int order = 0; order < 3; order++) {
        rm_strbuf s = { 0 };
        rm_kineto k;
        static const char steps[] = "{\"cat\":\"user_annotation\",\"name\":\"ProfilerStep#1\",\"ts\":0,\"dur\":1},{\"cat\":\"user_annotation\",\"name\":\"ProfilerStep#2\",\"ts\":50000,\"dur\":1},";
        if (order == 0) rm_str_add(&s, steps);
        for (int i = 0; i < 10000; i++) {
            if (order == 1 && i == 5000) rm_str_add(&s, steps);
            const int at = (i * 7919 % 10000) * 10; /* launched at `at`: half of them before 50000 */
            rm_str_addf(&s, "{\"cat\":\"kernel\",\"name\":\"k\",\"ts\":%d,\"dur\":1,\"args\":{\"stream\":7,\"correlation\":%d}},", at + 5, at * 1000);
            rm_str_addf(&s, "{\"cat\":\"cuda_runtime\",\"name\":\"l\",\"ts\":%d,\"dur\":1,\"args\":{\"correlation\":%d}},", at, at * 1000);
        }
        if (order == 2) rm_str_add(&s, steps);
        rm_str_add(&s, GOOD); /* nothing launched it */
        assert_int_equal(events(s.text, true, &k), RM_OK);
        assert_int_equal(k.n, 10001);
        for (size_t i = 0; i < k.n; i++) assert_int_equal(k.span[i].kept, i < 10000 && k.span[i].begin_ns < 50000000);
        rm_kineto_free(&k);
        rm_str_free(&s);
    }
}

static void test_many_streams(void **state)
{
    rm_strbuf s = { 0 };
    rm_kineto k;
    for (int i = 0; i < 600; i++) rm_str_addf(&s, "{\"cat\":\"kernel\",\"name\":\"k\",\"ts\":%d,\"dur\":1,\"args\":{\"stream\":%d}},", i, i);
    rm_str_add(&s, GOOD);
    assert_int_equal(events(s.text, false, &k), RM_OK);
    assert_int_equal(k.n, 601);
    assert_int_equal(k.n_stream, RM_KINETO_STREAMS);
    assert_int_equal(k.span[600].stream, 7);
    rm_kineto_free(&k);
    rm_str_free(&s);
}

/* ---- damage */

static void test_cut_anywhere(void **state)
{
    rm_kineto k;
    size_t last = 0;
    for (size_t n = 0; n < strlen(sample); n++) {
        const rm_status st = reading(sample, n, true, 80, &k);
        if (st != (k.n ? RM_E_PARTIAL : RM_E_FORMAT) || !strstr(rm_last_error(), "the trace ends at byte")) fail_msg("%zu bytes: %s, %s", n, rm_status_name(st), rm_last_error());
        char at[40];
        snprintf(at, sizeof at, "ends at byte %zu in", n);
        if (!strstr(rm_last_error(), at)) fail_msg("%zu bytes: %s", n, rm_last_error());
        assert_true(k.n >= last && k.n <= 4);
        last = k.n;
        if (st == RM_E_PARTIAL) rm_kineto_free(&k);
    }
    assert_int_equal(last, 4);
}

static void test_cut_gzip_anywhere(void **state)
{
    unsigned char packed[4096];
    put(sample, strlen(sample), true);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t size = fread(packed, 1, sizeof packed, f);
    fclose(f);
    assert_true(size > 100 && size < sizeof packed);
    for (size_t n = 0; n < size; n++) {
        rm_kineto k = { 0 };
        put(packed, n, false);
        const rm_status st = rm_kineto_read(path, &(rm_kineto_options){ .as_hta = true }, &k);
        if (st != (k.n ? RM_E_PARTIAL : RM_E_FORMAT)) fail_msg("%zu bytes: %s, %s", n, rm_status_name(st), rm_last_error());
        if (n > 20 && !strstr(rm_last_error(), "the compressed data end early")) fail_msg("%zu bytes: %s", n, rm_last_error());
        if (st == RM_E_PARTIAL) rm_kineto_free(&k);
    }
    for (size_t i = 10; i < size; i++) { /* one byte is wrong: never taken for whole, but where the header's spare bytes are */
        rm_kineto k = { 0 };
        packed[i] ^= 0x55;
        put(packed, size, false);
        const rm_status st = rm_kineto_read(path, &(rm_kineto_options){ .as_hta = true }, &k);
        if (st != RM_E_PARTIAL && st != RM_E_FORMAT) fail_msg("byte %zu: %s", i, rm_status_name(st));
        if (st == RM_E_PARTIAL) rm_kineto_free(&k);
        packed[i] ^= 0x55;
    }
}

/* Every byte replaced by others: some answer, never a crash. */
static void test_byte_changed_anywhere(void **state)
{
    static const char with[] = "{}[],:\"\\0e-x \n";
    char text[sizeof sample];
    rm_kineto k;
    for (size_t i = 0; i < strlen(sample); i++)
        for (size_t j = 0; j < sizeof with; j++) { /* NUL too */
            memcpy(text, sample, sizeof sample);
            text[i] = with[j];
            const rm_status st = reading(text, strlen(sample), j % 2, 64, &k);
            if (st != RM_OK && st != RM_E_PARTIAL && st != RM_E_FORMAT) fail_msg("byte %zu: %s, %s", i, rm_status_name(st), rm_last_error());
            if (st != RM_E_FORMAT) rm_kineto_free(&k);
        }
}

static void test_malformed(void **state)
{
    static const struct { const char *text; rm_status st; const char *says; } row[] = {
        { "", RM_E_FORMAT, "ends at byte 0 in" },
        { " \n", RM_E_FORMAT, "ends at byte 2 in" },
        { "7", RM_E_FORMAT, "malformed at byte 0 (neither an object nor an array)" },
        { "\"traceEvents\"", RM_E_FORMAT, "malformed at byte 0 (neither an object nor an array)" },
        { "{}", RM_E_FORMAT, "no traceEvents" },
        { "{\"traceEvents\": 7}", RM_E_FORMAT, "malformed at byte 16 (not what must come here)" },
        { "{\"traceEvents\": []}", RM_E_FORMAT, "no device work among its 0 events" },
        { "[{\"ph\":\"M\"}]", RM_E_FORMAT, "no device work among its 1 events" },
        { "[" GOOD "]x", RM_E_PARTIAL, "(something after the end of the trace); kept the 1 spans" },
        { "[" GOOD "]]", RM_E_PARTIAL, "(something after the end of the trace)" },
        { "[" GOOD ",]", RM_E_PARTIAL, "(no value)" },
        { "[" GOOD " " GOOD "]", RM_E_PARTIAL, "(neither , nor ] after a value)" },
        { "[" GOOD ",{\"a\" 1}]", RM_E_PARTIAL, "(a key without a colon)" },
        { "[" GOOD ",{\"a\":1,}]", RM_E_PARTIAL, "(not a key)" },
        { "[" GOOD ",{a:1}]", RM_E_PARTIAL, "(not a key)" },
        { "[" GOOD ",{\"a\":}]", RM_E_PARTIAL, "(no value)" },
        { "[" GOOD ",{\"a\":1 \"b\":2}]", RM_E_PARTIAL, "(neither , nor } after a value)" },
        { "[" GOOD ",{\"a\":01x}]", RM_E_PARTIAL, "(neither , nor } after a value)" },
        { "[" GOOD ",{\"a\":1.}]", RM_E_PARTIAL, "(no value)" },
        { "[" GOOD ",{\"a\":-}]", RM_E_PARTIAL, "(no value)" },
        { "[" GOOD ",{\"a\":1e}]", RM_E_PARTIAL, "(no value)" },
        { "[" GOOD ",{\"a\":nul}]", RM_E_PARTIAL, "(no value)" },
        { "[" GOOD ",{\"a\":truex}]", RM_E_PARTIAL, "(neither , nor } after a value)" },
        { "[" GOOD ",{\"a\":[1,2}]", RM_E_PARTIAL, "(neither , nor ] after a value)" },
        { "[" GOOD ",{\"a\":{\"b\":1]}]", RM_E_PARTIAL, "(neither , nor } after a value)" },
        { "[" GOOD ",{\"a\":[1,]}]", RM_E_PARTIAL, "(no value)" },
        { "[" GOOD ",{\"name\":\"\\x\"}]", RM_E_PARTIAL, "(an escape that JSON does not know before here)" },
        { "[" GOOD ",{\"name\":\"\\u12g4\"}]", RM_E_PARTIAL, "(an escape that JSON does not know before here)" },
        { "[" GOOD ",{\"name\":\"\\u12\"}]", RM_E_PARTIAL, "(an escape that JSON does not know before here)" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++)
        for (size_t buffer = 0; buffer < 120; buffer += 60) {
            rm_kineto k;
            const rm_status st = reading(row[i].text, strlen(row[i].text), false, buffer, &k);
            if (st != row[i].st || !strstr(rm_last_error(), row[i].says) || !strstr(rm_last_error(), path)) fail_msg("%s: %s, %s", row[i].text, rm_status_name(st), rm_last_error());
            if (st == RM_E_PARTIAL) rm_kineto_free(&k);
        }
}

static void test_deep(void **state)
{
    for (int depth = 255; depth <= 258; depth++) {
        rm_strbuf s = { 0 };
        rm_kineto k;
        rm_str_add(&s, GOOD ",{\"a\":");
        for (int i = 0; i < depth; i++) rm_str_add(&s, i % 3 ? "[" : "{\"x\":");
        rm_str_add(&s, "1");
        for (int i = depth; i-- > 0;) rm_str_add(&s, i % 3 ? "]" : "}");
        rm_str_add(&s, "}");
        const rm_status st = events(s.text, false, &k);
        assert_int_equal(st, depth <= 256 ? RM_OK : RM_E_PARTIAL);
        if (st != RM_OK) assert_non_null(strstr(rm_last_error(), "nested deeper than 256"));
        rm_kineto_free(&k);
        rm_str_free(&s);
    }
}

/* What is passed over may be longer than any buffer; a name may not. */
static void test_long(void **state)
{
    rm_strbuf s = { 0 };
    rm_kineto k;
    rm_str_add(&s, GOOD ",{\"a\":\"");
    for (int i = 0; i < 100000; i++) rm_str_add(&s, "long \\\" ");
    rm_str_add(&s, "\"}," GOOD);
    assert_int_equal(events(s.text, false, &k), RM_OK);
    assert_int_equal(k.n, 2);
    rm_kineto_free(&k);
    rm_str_add(&s, ",{\"name\":\"");
    for (int i = 0; i < 100000; i++) rm_str_add(&s, "longer");
    rm_str_add(&s, "\"}");
    assert_int_equal(events(s.text, false, &k), RM_E_PARTIAL);
    assert_non_null(strstr(rm_last_error(), "(a name or number that does not end); kept the 2 spans"));
    rm_kineto_free(&k);
    rm_str_free(&s);
}

static void test_no_file(void **state)
{
    rm_kineto k;
    assert_int_equal(rm_kineto_read("/nowhere/trace.json", &(rm_kineto_options){ 0 }, &k), RM_E_IO);
    assert_int_equal(rm_kineto_read("/tmp", &(rm_kineto_options){ 0 }, &k), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "cannot be read"));
}

static int set_up(void **state)
{
    const int fd = mkstemp(path);
    return fd < 0 || close(fd);
}
static int tear_down(void **state) { return unlink(path); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes), cmocka_unit_test(test_sample), cmocka_unit_test(test_times), cmocka_unit_test(test_odd), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_many_launches), cmocka_unit_test(test_many_streams), cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_cut_gzip_anywhere),
        cmocka_unit_test(test_byte_changed_anywhere), cmocka_unit_test(test_malformed), cmocka_unit_test(test_deep), cmocka_unit_test(test_long), cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
