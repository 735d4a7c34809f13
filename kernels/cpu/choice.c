/* Choosing among implementations by timing each once, and remembering the winner by the op's text. */
#include "base/clock.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/quiet.h"
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

const char *cpu_choice_get(const cpu_device *d, const char *key)
{
    for (size_t i = 0; i < d->n_choice; i++)
        if (!strcmp(d->choice[i].key, key)) return d->choice[i].impl;
    return NULL;
}

rm_status cpu_choice_set(cpu_device *d, const char *key, const char *impl)
{
    for (size_t i = 0; i < d->n_choice; i++)
        if (!strcmp(d->choice[i].key, key)) {
            snprintf(d->choice[i].impl, sizeof d->choice[i].impl, "%s", impl);
            return RM_OK;
        }
    cpu_choice *grown = realloc(d->choice, (d->n_choice + 1) * sizeof *grown);
    if (!grown) return rm_fail(RM_E_NOMEM, "cpu: no memory for the plan cache");
    d->choice = grown;
    cpu_choice *c = &grown[d->n_choice];
    c->key = strdup(key);
    if (!c->key) return rm_fail(RM_E_NOMEM, "cpu: no memory for the plan cache");
    snprintf(c->impl, sizeof c->impl, "%s", impl);
    d->n_choice++;
    return RM_OK;
}

rm_status cpu_choice_force(rm_device *d, const char *key, const char *impl) { return cpu_choice_set((cpu_device *)d, key, impl); }

bool cpu_choice_at(const rm_device *d, size_t i, const char **out_key, const char **out_impl)
{
    const cpu_device *c = (const cpu_device *)d;
    if (i >= c->n_choice) return false;
    *out_key = c->choice[i].key;
    *out_impl = c->choice[i].impl;
    return true;
}

/* Scratch operands for a timing run: every slot a region of one arena. Not zeros: denormals and zero pages would lie. */
static rm_status tune_reserve(cpu_device *d, size_t bytes)
{
    if (d->tune_bytes >= bytes) return RM_OK;
    void *p = NULL;
    if (posix_memalign(&p, CPU_ALIGN, bytes)) return rm_fail(RM_E_NOMEM, "cpu: no memory (%zu MiB) to time implementations", bytes >> 20);
    float *f = p;
#pragma omp parallel for num_threads(d->threads)
    for (size_t i = 0; i < bytes / sizeof *f; i++) f[i] = 0.5f + (float)(i & 1023) * 0x1p-10f;
    free(d->tune);
    d->tune = p;
    d->tune_bytes = bytes;
    return RM_OK;
}

static size_t round_up(size_t bytes) { return (bytes + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN; }

/* Best of a few runs, less the time our threads waited for a processor. A run without such waiting counts as clean; a
 * few clean ones suffice. */
static rm_status time_runs(cpu_plan *p, void *const *base, uint64_t limit_ns, uint64_t *out_ns)
{
    enum { MAX_RUNS = 12, CLEAN_RUNS = 3, BUDGET_NS = 60000000 };
    uint64_t best = UINT64_MAX, spent = 0;
    rm_status st = RM_OK;
    cpu_quiet q;
    cpu_quiet_open(&q);
    for (int run = 0, clean = 0; run < MAX_RUNS && clean < CLEAN_RUNS && (run < 2 || spent < BUDGET_NS); run++) {
        cpu_quiet_start(&q);
        uint64_t t0 = rm_now_ns();
        st = cpu_plan_execute(p, base);
        if (st != RM_OK) break;
        uint64_t wall = rm_now_ns() - t0, delay = cpu_quiet_stop(&q), t = wall > delay ? wall - delay : wall;
        spent += wall;
        clean += delay < wall / 50;
        if (t < best) best = t;
        if (limit_ns && t > 3 * limit_ns) break; /* even the cold first run of a contender is not that slow */
    }
    cpu_quiet_close(&q);
    *out_ns = best;
    return st;
}

rm_status cpu_time_plan(cpu_device *d, cpu_plan *p, uint64_t limit_ns, uint64_t *out_ns)
{
    const rm_op *op = &p->base.op;
    const rm_plan_info *info = &p->base.info;
    const rm_tdesc x = cpu_as(op->x, op->x.dtype, info->x), y = cpu_as(op->y, op->y.dtype, info->y);
    const rm_tdesc w = cpu_as(op->w, RM_F32, info->w);
    const struct { rm_slot slot; size_t bytes; } want[] = {
        {RM_X, cpu_bytes(&x)}, {RM_DX, cpu_bytes(&x)}, {RM_Y, cpu_bytes(&y)}, {RM_DY, cpu_bytes(&y)}, {RM_W, cpu_bytes(&w)},
        {RM_DW, cpu_bytes(&w)}};
    size_t total = 0;
    for (size_t i = 0; i < RM_COUNT(want); i++)
        if (rm_op_use(op->code, want[i].slot)) total += round_up(want[i].bytes);
    RM_TRY(tune_reserve(d, total + info->workspace_bytes));
    void *base[CPU_BASES] = {0};
    char *at = d->tune;
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        if (!rm_op_use(op->code, want[i].slot)) continue;
        base[want[i].slot] = at;
        at += round_up(want[i].bytes);
    }
    base[CPU_WORKSPACE] = at;
    return time_runs(p, base, limit_ns, out_ns);
}
