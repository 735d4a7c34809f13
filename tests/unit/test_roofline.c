/* Rooflines by hand: which roof is the lower, which level serves, and what is not known. */
#include "profiler/roofline.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

/* 100 FLOP/s; 1000 bytes at 50 B/s, 10,000 at 20, memory at 10. */
static rm_roof by_hand(void)
{
    return (rm_roof) { .flops_per_s = 100, .level = { { "L2", 1000, 50 }, { "L3", 10000, 20 }, { "memory", UINT64_MAX, 10 } }, .n_level = 3 };
}

static void near(double a, double b) { assert_true(fabs(a - b) < 1e-12 * fabs(b)); }

static void the_lower_roof(void **state)
{
    const rm_roof r = by_hand();
    static const struct {
        uint64_t flops, bytes;
        double bound_s;
        const char *limit;
    } row[] = {
        { 1000, 1, 10, "compute" },
        { 1000, 500, 10, "compute" }, /* both take 10 s */
        { 1000, 501, 501 / 50.0, "L2" },
        { 0, 1000, 20, "L2" },
        { 0, 1001, 1001 / 20.0, "L3" },
        { 0, 10000, 500, "L3" },
        { 0, 10001, 10001 / 10.0, "memory" },
        { 1000000, 10001, 10000, "compute" },
        { 100, 0, 1, "compute" },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const rm_roof_bound b = rm_roof_bound_of(&r, row[i].flops, row[i].bytes);
        near(b.bound_s, row[i].bound_s);
        assert_string_equal(b.limit, row[i].limit);
    }
}

static void intensity(void **state)
{
    const rm_roof r = by_hand();
    near(rm_roof_bound_of(&r, 300, 200).intensity, 1.5);
    assert_true(rm_roof_bound_of(&r, 0, 200).intensity == 0);
    assert_true(isinf(rm_roof_bound_of(&r, 1, 0).intensity));
    assert_true(isnan(rm_roof_bound_of(&r, 0, 0).intensity));
}

static void unknown_roofs(void **state)
{
    rm_roof r = by_hand();
    rm_roof_bound b = rm_roof_bound_of(&r, 0, 0);
    assert_true(isnan(b.bound_s) && b.limit[0] == '\0');
    r.flops_per_s = NAN;
    assert_string_equal(rm_roof_bound_of(&r, 1000000, 1).limit, "L2");
    assert_true(isnan(rm_roof_bound_of(&r, 1000000, 0).bound_s));
    r = by_hand();
    r.n_level = 0;
    b = rm_roof_bound_of(&r, 100, 1u << 30);
    assert_string_equal(b.limit, "compute");
    near(b.bound_s, 1);
    r.flops_per_s = 0; /* a peak of nothing is no peak */
    assert_true(isnan(rm_roof_bound_of(&r, 100, 1u << 30).bound_s));
    r = by_hand();
    r.level[0].bytes_per_s = NAN;
    assert_string_equal(rm_roof_bound_of(&r, 1, 10).limit, "compute");
}

/* What no level holds is bounded by the last one; sizes at the end of the numbers do not wrap. */
static void beyond_the_last_level(void **state)
{
    rm_roof r = by_hand();
    r.n_level = 2;
    const rm_roof_bound b = rm_roof_bound_of(&r, 0, 20000);
    near(b.bound_s, 1000);
    assert_string_equal(b.limit, "L3");
    r.n_level = 3;
    near(rm_roof_bound_of(&r, UINT64_MAX, UINT64_MAX).bound_s, (double)UINT64_MAX / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_lower_roof), cmocka_unit_test(intensity), cmocka_unit_test(unknown_roofs),
                                        cmocka_unit_test(beyond_the_last_level) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
