/* Splits: forms, meaning of the indices, errors that name the index. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "model/graph.h"
#include "model/parallel/split.h"

enum { N = 8 };
static const uint64_t bytes[N] = { 10, 90, 5, 5, 40, 50, 60, 140 };

static void expect(const char *spec, rm_split_order order, uint32_t n, const uint32_t *want)
{
    uint32_t end[N], got = 0;
    assert_int_equal(rm_split_parse(spec, bytes, N, order, end, &got), RM_OK);
    assert_int_equal(got, n);
    assert_memory_equal(end, want, n * sizeof *want);
}

static void every_form(void **state)
{
    (void)state;
    expect("single", RM_SPLIT_READY, 1, (uint32_t[]){ 7 });
    expect("per-layer", RM_SPLIT_READY, 8, (uint32_t[]){ 0, 1, 2, 3, 4, 5, 6, 7 });
    expect("bytes:100", RM_SPLIT_READY, 3, (uint32_t[]){ 1, 5, 7 });
    expect("bytes:1K", RM_SPLIT_READY, 1, (uint32_t[]){ 7 });
    expect("ddp", RM_SPLIT_READY, 1, (uint32_t[]){ 7 });
    expect("equal:1", RM_SPLIT_READY, 1, (uint32_t[]){ 7 });
    expect("equal:2", RM_SPLIT_READY, 2, (uint32_t[]){ 5, 7 });
    expect("equal:4", RM_SPLIT_READY, 4, (uint32_t[]){ 1, 5, 6, 7 });
    expect("equal:8", RM_SPLIT_READY, 8, (uint32_t[]){ 0, 1, 2, 3, 4, 5, 6, 7 });
    expect("2,5", RM_SPLIT_READY, 3, (uint32_t[]){ 2, 5, 7 });
    expect("2,5,7", RM_SPLIT_READY, 3, (uint32_t[]){ 2, 5, 7 });
    expect("0", RM_SPLIT_READY, 2, (uint32_t[]){ 0, 7 });
    /* forward ends 1, 4, 7 are the groups {0 1} {2 3 4} {5 6 7}; in ready order {0 1 2} {3 4 5} {6 7} */
    expect("1,4", RM_SPLIT_FORWARD, 3, (uint32_t[]){ 2, 5, 7 });
    expect("0", RM_SPLIT_FORWARD, 2, (uint32_t[]){ 6, 7 });
}

static void errors_name_the_index(void **state)
{
    (void)state;
    static const struct { const char *spec, *says; } bad[] = {
        { "", "empty" }, { "3,3", "3 comes twice" }, { "5,2", "2 comes after 5" }, { "-1", "-1" }, { "8", "8 is not in 0..7" }, { "2,99999999999999999999", "not in" },
        { "2,,5", "not an index" }, { "2,", "not an index" }, { "2;5", "not an index" }, { "bytes:", "bytes:" }, { "bytes:0", "bytes:0" }, { "bytes:5Q", "5Q" },
        { "bytes:99999999999999999G", "expected a size" }, { "equal:0", "equal:0" }, { "equal:9", "from 1 to 8" }, { "equal:-1", "equal:-1" }, { "ddq", "ddq" }, { "auto", "search" },
    };
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        uint32_t end[N], n;
        assert_int_equal(rm_split_parse(bad[i].spec, bytes, N, RM_SPLIT_READY, end, &n), RM_E_ARG);
        if (!strstr(rm_last_error(), bad[i].says)) fail_msg("'%s' says: %s", bad[i].spec, rm_last_error());
    }
}

/* HCCL's documented default, digit for digit. */
static void the_article_s_split(void **state)
{
    (void)state;
    static const struct { int classes, order; double first; } rows[] = { { 1000, RM_SPLIT_READY, 96.54 }, { 10, RM_SPLIT_READY, 96.24 }, { 1000, RM_SPLIT_FORWARD, 76.35 } };
    for (size_t k = 0; k < RM_COUNT(rows); k++) {
        rm_graph g;
        uint64_t size[161];
        uint32_t end[161], n;
        assert_int_equal(rm_graph_resnet(50, "v1.5", (rm_shape){ 1, 3, 224, 224 }, rows[k].classes, &g), RM_OK);
        for (int i = 0; i < 161; i++) size[i] = 4 * g.param[g.by_ready[i]].count;
        assert_int_equal(rm_split_parse("107,160", size, 161, (rm_split_order)rows[k].order, end, &n), RM_OK);
        assert_int_equal(n, 2);
        assert_int_equal((int)(100 * rm_split_share(size, 161, end, 0) + 0.5), (int)(100 * rows[k].first + 0.5));
        rm_graph_free(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_form), cmocka_unit_test(errors_name_the_index), cmocka_unit_test(the_article_s_split) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
