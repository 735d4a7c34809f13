/* Sizes as users write them, and the test data of bench comm: exact in bf16 and fp32 at any number of ranks, in any order. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/size.h"
#include "bench/comm_sweep.h"

static void test_size(void **state)
{
    static const struct { const char *text; uint64_t bytes; } good[] = {
        { "8", 8 }, { "1K", 1000 }, { "1Ki", 1024 }, { "25M", 25000000 }, { "256Mi", 256 << 20 }, { "2.5M", 2500000 }, { "1G", 1000000000 }, { "1e3", 1000 }, { "1.9", 1 },
    };
    static const char *const bad[] = { "", "K", "-1", "+1", " 1", "1 ", "1k", "1KB", "0", "0.5", "nan", "inf", ".5", "1e30", "4611686018427387905G", "1Kii" };
    uint64_t got;
    for (size_t i = 0; i < RM_COUNT(good); i++) {
        if (!rm_size_parse(good[i].text, strlen(good[i].text), &got) || got != good[i].bytes) fail_msg("%s", good[i].text);
    }
    for (size_t i = 0; i < RM_COUNT(bad); i++)
        if (rm_size_parse(bad[i], strlen(bad[i]), &got)) fail_msg("'%s' was taken for %llu", bad[i], (unsigned long long)got);
    assert_true(rm_size_parse("16,32", 2, &got) && got == 16);
}

static void test_sizes(void **state)
{
    static const struct { const char *text; uint32_t n; uint64_t first, second, last; } good[] = {
        { "8:256Mi:2", 26, 8, 16, 256 << 20 }, { "8:100", 5, 8, 16, 100 }, { "8:8", 1, 8, 0, 8 }, { "4:16:1.5", 5, 4, 6, 16 },
        { "9,1K,2", 3, 9, 1000, 2 },           { "25M", 1, 25000000, 0, 25000000 },
    };
    static const char *const bad[] = { "", ",", "8,", ":8", "8:", "8:4", "8:16:1", "8:16:0.5", "8:16:x", "8:16:2:3", "8:16:", "x", "1:1000000:1.01" };
    uint64_t bytes[BENCH_COMM_SIZES];
    uint32_t n = 77;
    for (size_t i = 0; i < RM_COUNT(good); i++) {
        if (bench_comm_sizes(good[i].text, bytes, &n) != RM_OK) fail_msg("%s: %s", good[i].text, rm_last_error());
        if (n != good[i].n || bytes[0] != good[i].first || bytes[n - 1] != good[i].last || (n > 1 && bytes[1] != good[i].second)) fail_msg("%s: %u sizes", good[i].text, n);
    }
    n = 77;
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        if (bench_comm_sizes(bad[i], bytes, &n) != RM_E_ARG || n != 77) fail_msg("%s", bad[i]);
        if (strncmp(rm_last_error(), "--sizes", 7) != 0) fail_msg("%s: %s", bad[i], rm_last_error());
    }
}

/* Every partial sum, forwards and backwards, stays exact; all ranks agree on the sum; neighbours differ. */
static void check_exact(uint32_t ranks, bool narrow)
{
    const float limit = narrow ? 256 : 16777216;
    bench_comm_pattern *p = malloc(ranks * sizeof *p);
    assert_non_null(p);
    for (uint32_t r = 0; r < ranks; r++) bench_comm_pattern_make(r, ranks, 5, narrow, &p[r]);
    for (uint32_t i = 0; i < p[0].period; i++) {
        float up = 0, down = 0;
        for (uint32_t r = 0; r < ranks; r++) {
            up += p[r].own[i];
            down += p[ranks - 1 - r].own[i];
            assert_true(p[r].own[i] >= 0 && p[r].own[i] == (float)(int)p[r].own[i]);
        }
        assert_true(up == down && up <= limit && up == p[0].sum[i] && up == p[ranks - 1].sum[i]);
    }
    assert_in_range(p[0].period, 2, BENCH_COMM_PERIOD);
    assert_true(p[0].own[0] != p[0].own[1]);
    free(p);
}

static void test_pattern(void **state)
{
    static const uint32_t ranks[] = { 1, 2, 3, 7, 16, 127, 128, 129, 200, 255, 256, 257, 600, 1024 };
    for (size_t i = 0; i < RM_COUNT(ranks); i++) {
        check_exact(ranks[i], false);
        check_exact(ranks[i], true);
    }
}

static void test_fill_and_check(void **state)
{
    bench_comm_pattern p;
    float at[1000];
    bench_comm_pattern_make(1, 2, 3, true, &p);
    for (uint64_t n = 0; n < 1000; n += 37) {
        memset(at, 0xff, sizeof at);
        bench_comm_fill(&p, at, n);
        assert_true(at[n] != at[n]); /* not a step too far: still NaN */
        assert_int_equal(bench_comm_wrong(&p, p.own, at, n), 0);
        assert_int_equal(bench_comm_wrong(&p, p.own, at, n + 1), 1);
        if (n == 0) continue;
        at[n - 1] += 1;
        assert_int_equal(bench_comm_wrong(&p, p.own, at, n), 1);
        bench_comm_fill(&p, at, n);
        for (uint64_t i = 0; i < n; i++) at[i] += at[i] + 1; /* no v is 2 v + 1 */
        assert_int_equal(bench_comm_wrong(&p, p.own, at, n), n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_size), cmocka_unit_test(test_sizes), cmocka_unit_test(test_pattern), cmocka_unit_test(test_fill_and_check) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
