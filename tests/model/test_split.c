/* Split specs: the published shares, every form, and every refusal naming what is wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/graph.h"
#include "model/parallel/split.h"

enum { GRADIENTS = 161 };
static uint64_t resnet[GRADIENTS];

static void resnet_bytes(int32_t classes)
{
    rm_graph g;
    assert_int_equal(rm_graph_resnet(50, "v1.5", (rm_shape) { 1, 3, 224, 224 }, classes, &g), RM_OK);
    assert_int_equal(g.n_param, GRADIENTS);
    for (int32_t r = 0; r < g.n_param; r++) resnet[r] = g.param[g.by_ready[r]].count * 4;
    rm_graph_free(&g);
}

static uint32_t parse(const char *spec, const uint64_t *bytes, uint32_t n, rm_split_order order, uint32_t *end)
{
    uint32_t parts = 0;
    const rm_status st = rm_split_parse(spec, bytes, n, order, end, &parts);
    if (st != RM_OK) fail_msg("%s: %s", spec, rm_last_error());
    return parts;
}

/* HCCL documents 96.54/3.46 as its default for ResNet-50: checks order and inclusive ends digit for digit. */
static void test_published_shares(void **state)
{
    uint32_t end[GRADIENTS];
    char text[64];
    resnet_bytes(1000);
    assert_int_equal(parse("107,160", resnet, GRADIENTS, RM_SPLIT_READY, end), 2);
    rm_split_shares(resnet, end, 2, text, sizeof text);
    assert_string_equal(text, "96.54/3.46 %");
    const rm_split_part first = rm_split_part_at(resnet, end, 2, 0), second = rm_split_part_at(resnet, end, 2, 1);
    assert_int_equal(first.first, 0);
    assert_int_equal(first.last, 107);
    assert_int_equal(second.first, 108);
    assert_int_equal(first.bytes + second.bytes, 25557032u * 4u);
    /* In forward order the same list is 23.65/76.35 %, conv1 first; parts are listed in ready order, so the other way round. */
    assert_int_equal(parse("107,160", resnet, GRADIENTS, RM_SPLIT_FORWARD, end), 2);
    assert_int_equal(end[0], 160 - 108);
    rm_split_shares(resnet, end, 2, text, sizeof text);
    assert_string_equal(text, "76.35/23.65 %");
    resnet_bytes(10);
    assert_int_equal(parse("107,160", resnet, GRADIENTS, RM_SPLIT_READY, end), 2);
    rm_split_shares(resnet, end, 2, text, sizeof text);
    assert_memory_equal(text, "96.24/", 6);
}

static void test_forms(void **state)
{
    static const uint64_t bytes[6] = { 400, 100, 100, 100, 100, 200 };
    static const struct { const char *spec; rm_split_order order; uint32_t n, end[6]; } rows[] = {
        { "single", RM_SPLIT_READY, 1, { 5 } },
        { "per-layer", RM_SPLIT_READY, 6, { 0, 1, 2, 3, 4, 5 } },
        { "5", RM_SPLIT_READY, 1, { 5 } },
        { "0", RM_SPLIT_READY, 2, { 0, 5 } },          /* completed */
        { "0,1,2,3,4,5", RM_SPLIT_READY, 6, { 0, 1, 2, 3, 4, 5 } },
        { "0", RM_SPLIT_FORWARD, 2, { 4, 5 } },
        { "1,2", RM_SPLIT_FORWARD, 3, { 2, 3, 5 } },
        { "0,1,4", RM_SPLIT_FORWARD, 4, { 0, 3, 4, 5 } },
        { "bytes:200", RM_SPLIT_READY, 4, { 0, 2, 4, 5 } },
        { "bytes:0.3K", RM_SPLIT_READY, 3, { 0, 3, 5 } },
        { "bytes:1Ki", RM_SPLIT_READY, 1, { 5 } },
        { "bytes:1", RM_SPLIT_READY, 6, { 0, 1, 2, 3, 4, 5 } },
        { "ddp", RM_SPLIT_READY, 1, { 5 } },
        { "equal:1", RM_SPLIT_READY, 1, { 5 } },
        { "equal:2", RM_SPLIT_READY, 2, { 1, 5 } },
        { "equal:6", RM_SPLIT_READY, 6, { 0, 1, 2, 3, 4, 5 } },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        uint32_t end[6];
        const uint32_t n = parse(rows[i].spec, bytes, 6, rows[i].order, end);
        if (n != rows[i].n || memcmp(end, rows[i].end, n * sizeof end[0]) != 0) fail_msg("%s: wrong split of %u parts", rows[i].spec, n);
    }
}

/* DDP: the first all-reduce is closed by the gradient that brings it to 1 MiB, the later ones to 25 MiB. */
static void test_ddp_on_resnet(void **state)
{
    uint32_t end[GRADIENTS];
    resnet_bytes(1000);
    const uint32_t n = parse("ddp", resnet, GRADIENTS, RM_SPLIT_READY, end);
    assert_int_equal(end[0], 1); /* fc.bias and fc.weight */
    for (uint32_t i = 0; i + 1 < n; i++) {
        const rm_split_part p = rm_split_part_at(resnet, end, n, i);
        const uint64_t limit = i ? 25u << 20 : 1u << 20;
        assert_true(p.bytes >= limit && p.bytes - resnet[p.last] < limit);
    }
    assert_int_equal(end[n - 1], 160);
    assert_int_equal(n, 5);
}

static void test_equal_is_balanced(void **state)
{
    uint32_t end[GRADIENTS];
    uint64_t most = 0;
    resnet_bytes(1000);
    for (uint32_t i = 0; i < GRADIENTS; i++) most = resnet[i] > most ? resnet[i] : most;
    for (uint32_t k = 1; k <= 8; k++) {
        char spec[16];
        snprintf(spec, sizeof spec, "equal:%u", k);
        assert_int_equal(parse(spec, resnet, GRADIENTS, RM_SPLIT_READY, end), k);
        for (uint32_t i = 0; i < k; i++) {
            const double off = (double)rm_split_part_at(resnet, end, k, i).bytes - 25557032.0 * 4 / k;
            assert_true(off <= (double)most && off >= -(double)most);
        }
    }
}

static void test_refusals(void **state)
{
    static const uint64_t bytes[6] = { 1, 1, 1, 1, 1, 1 };
    static const struct { const char *spec, *says; } rows[] = {
        { "", "empty" },           { "2,2", "index 2 is there twice" }, { "4,3", "index 3 comes after 4" }, { "-1", "index -1 is negative" },
        { "6", "index 6 is too large" }, { "1,99999999999999999999", "too large" }, { "2,", "'' is no index" }, { ",2", "'' is no index" },
        { "1,x", "'x' is no index" }, { "1.5", "'1.5' is no index" }, { " 1", "' 1' is no index" }, { "singles", "'singles' is no index" },
        { "bytes:", "bytes:25M" }, { "bytes:0", "at least 1 byte" }, { "bytes:-5", "at least 1 byte" }, { "bytes:5X", "bytes:5X" }, { "bytes:1e99", "at least 1 byte" },
        { "equal:0", "from 1 to 6" }, { "equal:7", "from 1 to 6" }, { "equal:", "from 1 to 6" }, { "auto", "comes with the split search" },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        uint32_t end[6], n = 77;
        assert_int_equal(rm_split_parse(rows[i].spec, bytes, 6, RM_SPLIT_READY, end, &n), RM_E_ARG);
        assert_int_equal(n, 77); /* outputs only on success */
        if (!strstr(rm_last_error(), rows[i].says)) fail_msg("'%s': \"%s\" lacks \"%s\"", rows[i].spec, rm_last_error(), rows[i].says);
    }
}

static void test_print_round_trips(void **state)
{
    uint32_t end[GRADIENTS], again[GRADIENTS];
    char text[1024], small[8];
    resnet_bytes(1000);
    const uint32_t n = parse("bytes:8M", resnet, GRADIENTS, RM_SPLIT_READY, end);
    assert_true(rm_split_print(end, n, text, sizeof text));
    assert_int_equal(parse(text, resnet, GRADIENTS, RM_SPLIT_READY, again), n);
    assert_memory_equal(end, again, n * sizeof end[0]);
    assert_false(rm_split_print(end, n, small, sizeof small));
    rm_split_shares(resnet, end, n, text, 24);
    assert_true(strlen(text) < 24 && strstr(text, "/... %"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_shares), cmocka_unit_test(test_forms),          cmocka_unit_test(test_ddp_on_resnet),
        cmocka_unit_test(test_equal_is_balanced), cmocka_unit_test(test_refusals), cmocka_unit_test(test_print_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
