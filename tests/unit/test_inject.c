/* --inject: what it means for each rank, and what it refuses. */
#include "bench/inject.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static const uint64_t ms = 1000000;

static void specs_mean_what_they_say(void **state)
{
    static const struct { const char *spec; int32_t rank, ranks; rm_inject want; } row[] = {
        { "", 0, 2, { .input_ns = 0 } },
        { "straggler=20ms@rank1", 1, 2, { .compute_ns = 20000000 } },
        { "straggler=20ms@rank1", 0, 2, { .input_ns = 0 } },
        { "straggler=20ms@1", 1, 4, { .compute_ns = 20000000 } },
        { "straggler=20ms", 3, 4, { .compute_ns = 20000000 } },
        { "straggler=20ms", 2, 4, { .input_ns = 0 } },
        { "compute=1.5s", 2, 4, { .compute_ns = 1500000000 } },
        { "compute=250us@rank0", 0, 4, { .compute_ns = 250000 } },
        { "compute=250us@rank0", 1, 4, { .input_ns = 0 } },
        { "input=3ms", 1, 2, { .input_ns = 3000000 } },
        { "input=3ms@rank0", 1, 2, { .input_ns = 0 } },
        { "link=0.5ms", 0, 2, { .link_ns = 500000 } },
        { "link=.5ms;input=1us;link=1ms", 1, 2, { .input_ns = 1000, .link_ns = 1500000 } },
        { "straggler=1ms@0;compute=2ms", 0, 2, { .compute_ns = 3000000 } },
        { "input=0ms", 0, 2, { .input_ns = 0 } },
        { "step=3%", 1, 2, { .step_share = 0.03 } },
        { "step=0.25@1;link=1ms", 0, 2, { .link_ns = 1000000 } },
        { "alloc=1", 1, 2, { .input_ns = 0 } },
        { "all-reduce=12;link=1ms;alloc=3", 1, 2, { .link_ns = 1000000 } },
        { "step=0.25@1;link=1ms", 1, 2, { .link_ns = 1000000, .step_share = 0.25 } },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_inject got;
        if (bench_inject_parse(row[i].spec, row[i].rank, row[i].ranks, NULL, &got) != RM_OK) fail_msg("%s: %s", row[i].spec, rm_last_error());
        if (memcmp(&got, &row[i].want, sizeof got) != 0)
            fail_msg("%s on rank %d: %llu %llu %llu %g", row[i].spec, row[i].rank, (unsigned long long)got.input_ns, (unsigned long long)got.compute_ns, (unsigned long long)got.link_ns, got.step_share);
    }
}

static void nonsense_is_refused_and_changes_nothing(void **state)
{
    static const struct { const char *spec, *why; } row[] = {
        { "straggler", "straggler=20ms@rank1" }, { "slow=20ms", "straggler=20ms@rank1" }, { "=20ms", "straggler=20ms@rank1" }, { ";", "straggler=20ms@rank1" },
        { "link=1ms;", "straggler=20ms@rank1" }, { "stragglerx=1ms", "straggler=20ms@rank1" }, { "link=", "unit" }, { "link=20", "unit" }, { "link=ms", "unit" },
        { "link=-1ms", "unit" }, { "link=1e3ms", "unit" }, { "link=nanms", "unit" }, { "link=0x1ms", "unit" }, { "link=1.2.3ms", "unit" }, { "link=.ms", "unit" },
        { "link=601s", "600 s" }, { "link=1 ms", "unit" }, { "link=99999999999999999999999999ms", "unit" }, { "link=1ms@rank0", "all ranks" },
        { "input=1ms@", "after @" }, { "input=1ms@rank", "after @" }, { "input=1ms@rankx", "after @" }, { "input=1ms@-1", "after @" },
        { "input=1ms@0@1", "after @" }, { "input=1ms@2", "0 to 1" }, { "straggler=1ms@rank7", "0 to 1" }, { "input=1ms@9999999", "after @" },
        { "step=3ms", "step=3%" }, { "step=100%", "step=3%" }, { "step=-3%", "step=3%" }, { "step=nan", "step=3%" }, { "step=", "step=3%" },
        { "alloc=", "how many" }, { "alloc=-1", "how many" }, { "alloc=1x", "how many" }, { "all-reduce=1000", "how many" }, { "alloc", "how many" },
        { "step=3%x", "step=3%" }, { "step=3%@2", "0 to 1" }, { "layer=conv1:10%", "bench layers" }, { "layer=", "bench layers" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_inject got = { .input_ns = ms, .compute_ns = ms, .link_ns = ms };
        if (bench_inject_parse(row[i].spec, 0, 2, NULL, &got) != RM_E_ARG) fail_msg("%s was accepted", row[i].spec);
        if (!strstr(rm_last_error(), row[i].why)) fail_msg("%s: '%s' lacks '%s'", row[i].spec, rm_last_error(), row[i].why);
        assert_true(got.compute_ns == 0 && got.input_ns == 0 && got.link_ns == 0 && got.step_share == 0);
    }
}

/* Facts and timings take one spec, each its own words of it. */
static void facts_take_their_own_words(void **state)
{
    static const struct { const char *spec; int32_t allocs, reduces; bool takes_time; } row[] = {
        { "", 0, 0, false },      { "alloc=1", 1, 0, false },   { "alloc=1;all-reduce=2;alloc=3", 4, 2, false },
        { "step=3%", 0, 0, true }, { "layer=conv1:10%;alloc=2", 2, 0, true }, { "straggler=1ms@1;compute=1ms;input=1ms;link=1ms;all-reduce=1", 0, 1, true },
    };
    static const char *const bad[] = { "slow=1", "alloc=x", "alloc=1;", "alloc=1;slow=2", "=1" };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        bench_inject_counts got;
        if (bench_inject_parse_counts(row[i].spec, &got) != RM_OK) fail_msg("%s: %s", row[i].spec, rm_last_error());
        if (got.allocs != row[i].allocs || got.reduces != row[i].reduces) fail_msg("%s: %d and %d", row[i].spec, got.allocs, got.reduces);
        assert_int_equal(bench_inject_takes_time(row[i].spec), row[i].takes_time);
    }
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        bench_inject_counts got;
        if (bench_inject_parse_counts(bad[i], &got) != RM_E_ARG) fail_msg("%s was accepted", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(specs_mean_what_they_say), cmocka_unit_test(facts_take_their_own_words), cmocka_unit_test(nonsense_is_refused_and_changes_nothing) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
