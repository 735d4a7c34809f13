/* A calm machine: by made-up times, and on this one as far as it can be known. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include "profiler/calm.h"

typedef struct made { int looks, slow_from, slow_to; uint64_t ns, slow_ns; } made;

/* Core 0 alone becomes slow. */
static uint64_t probe(void *ctx, int cpu)
{
    made *m = ctx;
    static int first = -1;
    if (first < 0) first = cpu;
    if (cpu != first) return 1000;
    m->looks++;
    return m->looks >= m->slow_from && m->looks < m->slow_to ? m->slow_ns : m->ns + (uint64_t)(m->looks % 3) * 10;
}

static void a_slow_core_is_seen(void **state)
{
    made m = { .slow_from = 11, .slow_to = 14, .ns = 1000, .slow_ns = 1100 };
    rm_calm *c;
    bool calm;
    assert_int_equal(rm_calm_open(probe, &m, &c), RM_OK);
    assert_int_equal(m.looks, 8);
    assert_true(rm_calm_now(c) && rm_calm_now(c));
    assert_false(rm_calm_now(c));
    assert_true(rm_calm_wait(c, 10, NULL, &calm) < 10);
    assert_true(calm);
    assert_int_equal(m.looks, 14); /* at once when it is over */
    m.slow_from = 15, m.slow_to = 100000;
    assert_true(rm_calm_wait(c, 0.05, NULL, &calm) >= 0.05);
    assert_false(calm);
    for (int i = 0; i < 512; i++) (void)rm_calm_now(c);
    assert_true(rm_calm_now(c)); /* what is always so is usual */
    rm_calm_close(c);
}

static int now(void) { return 1; }

static void it_can_be_stopped(void **state)
{
    made m = { .slow_from = 9, .slow_to = 1000000, .ns = 1000, .slow_ns = 2000 };
    rm_calm *c;
    bool calm;
    assert_int_equal(rm_calm_open(probe, &m, &c), RM_OK);
    assert_true(rm_calm_wait(c, 1e6, now, &calm) < 1e3);
    assert_false(calm);
    rm_calm_close(c);
}

static void the_cores_of_the_thread_stay(void **state)
{
    cpu_set_t before, one, after;
    rm_calm *c;
    bool calm;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(rm_calm_open(NULL, NULL, &c), RM_OK);
    assert_true(rm_calm_wait(c, 0.2, NULL, &calm) >= 0);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    rm_calm_close(c);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
        if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(rm_calm_open(NULL, NULL, &c), RM_OK);
    (void)rm_calm_now(c);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&one, &after));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    rm_calm_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_slow_core_is_seen), cmocka_unit_test(it_can_be_stopped), cmocka_unit_test(the_cores_of_the_thread_stay) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
