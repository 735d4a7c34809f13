/* What a step of the cuda device asks of the host, on the test doubles: host_cost plain|recorded TYPE PX BATCH STEPS.
 * tests/cuda/host_cost.py runs it under callgrind, which counts within measured_step() alone; the doubles' own instructions are left out there.
 * On stdout: what a step put onto the device, as one line of JSON. */
#include "model/engine.h"
#include "tests/cuda/doubles/doubles.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

enum { WARMUP = 3, CLASSES = 1000 };
static struct { unsigned by_kind[4], calls, launches_of_graphs; bool on; } seen;

static void count_work(const dbl_ran *r)
{
    if (seen.on) seen.by_kind[r->kind]++;
}

static void count_call(const dbl_call *c)
{
    if (!seen.on || !c->enter) return;
    seen.calls++;
    seen.launches_of_graphs += !strcmp(c->name, "cudaGraphLaunch");
}

/* callgrind collects between its beginning and its end. */
__attribute__((noinline)) static rm_status measured_step(rm_engine *e, const rm_source *src, uint64_t i, rm_step *out) { return rm_engine_step(e, src, i, 0.01, out); }

static rm_status steps(rm_engine *e, const rm_source *src, unsigned n)
{
    rm_step s;
    for (unsigned i = 0; i < WARMUP; i++) RM_TRY(rm_engine_step(e, src, i, 0.01, &s));
    CALLGRIND_START_INSTRUMENTATION;
    seen.on = true;
    for (unsigned i = 0; i < n; i++) RM_TRY(measured_step(e, src, WARMUP + i, &s));
    seen.on = false;
    CALLGRIND_STOP_INSTRUMENTATION;
    return RM_OK;
}

static rm_status run(bool recorded, rm_dtype dtype, int32_t px, int32_t batch, unsigned n)
{
    static const rm_device_config dc = { .reference_only = true };
    static const dbl_watch watch = { count_work, count_call };
    rm_recipe recipe;
    rm_device *d = NULL;
    rm_synthetic s = { 0 };
    rm_engine e = { 0 };
    rm_status st = RM_OK;
    rm_recipe_defaults(&recipe);
    const rm_engine_config cfg = { .recipe = &recipe, .dtype = dtype, .px = px, .batch = batch, .classes = CLASSES, .no_record = !recorded, .split = "single", .seed = 5 };
    RM_TRY(rm_device_open("cuda", &dc, &d));
    RM_TRY_GOTO(st, rm_synthetic_new(batch, px, CLASSES, 7, &s), out);
    RM_TRY_GOTO(st, rm_engine_new(d, NULL, &cfg, &e), out);
    const rm_source src = rm_source_synthetic(&s);
    dbl_set_watch(&watch);
    dbl_set_idle(true);
    RM_TRY_GOTO(st, steps(&e, &src, n), out);
    dbl_set_watch(NULL);
    printf("{\"kernels\": %u, \"copies\": %u, \"fills\": %u, \"host\": %u, \"calls\": %u, \"graphs\": %u, \"recorded\": %s}\n", seen.by_kind[DBL_KERNEL], seen.by_kind[DBL_COPY],
           seen.by_kind[DBL_FILL], seen.by_kind[DBL_HOST], seen.calls, seen.launches_of_graphs, e.recording[RM_REDUCE_OVERLAPPED] ? "true" : "false");
out:
    rm_engine_free(&e);
    rm_synthetic_free(&s);
    rm_device_close(d);
    return st;
}

int main(int argc, char **argv)
{
    rm_dtype dtype;
    if (argc != 6 || rm_dtype_parse(argv[2], &dtype) != RM_OK) {
        fprintf(stderr, "usage: host_cost plain|recorded TYPE PX BATCH STEPS\n");
        return 2;
    }
    if (run(!strcmp(argv[1], "recorded"), dtype, atoi(argv[3]), atoi(argv[4]), (unsigned)atoi(argv[5])) == RM_OK) return 0;
    fprintf(stderr, "host_cost: %s\n", rm_last_error());
    return 2;
}
