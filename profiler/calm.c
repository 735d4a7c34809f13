#define _GNU_SOURCE
#include "profiler/calm.h"
#include "base/clock.h"
#include "profiler/stats.h"
#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum { LOOKS = 512 /* that are remembered: some seconds of waiting */, FIRST_LOOKS = 8, TIMES = 3, ROUNDS = 20000, NAP_NS = 10000000 };

typedef struct core {
    int cpu, n; /* looks at it so far */
    double ns[LOOKS];
} core;

struct rm_calm {
    rm_calm_probe *probe;
    void *ctx;
    int n;
    core core[RM_CALM_CORES];
};

/* Eight chains that know nothing of each other, so that a core's width is what limits them, and whoever shares it is felt. */
static uint64_t work(void)
{
    uint64_t x[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, all = 0;
    const uint64_t begin = rm_now_ns();
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < 8; k++) x[k] = (x[k] ^ (x[k] >> 7)) + (x[k] << 3) + (uint64_t)i;
    for (int k = 0; k < 8; k++) all ^= x[k];
    const uint64_t took = rm_now_ns() - begin;
    return took + (all == 0x5bd1e995); /* the result counts, so that the work is done */
}

/* The least of several: a clock tick is no neighbour. */
static uint64_t built_in(void *ctx, int cpu)
{
    cpu_set_t one;
    uint64_t least = UINT64_MAX;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
    for (int i = 0; i < TIMES; i++) {
        const uint64_t ns = work();
        least = ns < least ? ns : least;
    }
    return least;
}

/* The cores, evenly over those that there are. */
static void choose(rm_calm *c, const cpu_set_t *mine)
{
    const int all = CPU_COUNT(mine), want = all < RM_CALM_CORES ? all : RM_CALM_CORES;
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE && c->n < want; cpu++) {
        if (!CPU_ISSET(cpu, mine)) continue;
        if (seen++ == (int)((int64_t)c->n * all / want)) c->core[c->n++].cpu = cpu;
    }
}

static void nap(void)
{
    static const struct timespec t = { 0, NAP_NS };
    nanosleep(&t, NULL);
}

rm_status rm_calm_open(rm_calm_probe *probe, void *ctx, rm_calm **out)
{
    cpu_set_t mine;
    rm_calm *c = calloc(1, sizeof *c);
    if (!c) return rm_fail(RM_E_NOMEM, "out of memory for looking at the machine");
    c->probe = probe ? probe : built_in;
    c->ctx = ctx;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0) choose(c, &mine);
    for (int i = 0; i < FIRST_LOOKS; i++) {
        (void)rm_calm_now(c);
        nap();
    }
    *out = c;
    return RM_OK;
}

void rm_calm_close(rm_calm *c) { free(c); }

static bool core_is_calm(core *k, double ns)
{
    k->ns[k->n++ % LOOKS] = ns;
    return ns <= RM_CALM_RATIO * rm_quantile(k->ns, (size_t)(k->n < LOOKS ? k->n : LOOKS), 0.25);
}

bool rm_calm_now(rm_calm *c)
{
    cpu_set_t mine;
    bool calm = true;
    const bool known = sched_getaffinity(0, sizeof mine, &mine) == 0;
    for (int i = 0; i < c->n; i++) calm &= core_is_calm(&c->core[i], (double)c->probe(c->ctx, c->core[i].cpu));
    if (known) (void)sched_setaffinity(0, sizeof mine, &mine);
    return calm;
}

double rm_calm_wait(rm_calm *c, double most_s, int (*stop)(void), bool *calm)
{
    const uint64_t begin = rm_now_ns();
    while (!(*calm = rm_calm_now(c)) && rm_s(rm_now_ns() - begin) < most_s && !(stop && stop())) nap();
    return rm_s(rm_now_ns() - begin);
}
