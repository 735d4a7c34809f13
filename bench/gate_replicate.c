/* What a gate can be tried on in earnest: one small convolution on the processor, whose data stays in the core's own cache, run again and again by
 * one thread, below half a second with its start; and a slow-down on purpose that is exact: after each step the core is kept busy for a share of what
 * the step took. */
#include "base/clock.h"
#include "bench/gate_metric.h"
#include "bench/gate_trial.h"
#include "kernels/device.h"
#include <stdlib.h>

enum { STEPS = 240 /* unless --steps says otherwise */, RUNS = 20 /* of a step */ };
static const char op_text[] = "conv n=1 c=32 h=14 w=14 o=32 k=3 s=1 p=1 dtype=f32";

typedef struct replicate {
    rm_device *device;
    rm_plan *plan;
    rm_buf *buf[RM_SLOT_COUNT], *workspace;
    rm_args args;
} replicate;

static void shut(replicate *r)
{
    for (int i = 0; i < RM_SLOT_COUNT; i++) rm_buf_free(r->device, r->buf[i]);
    rm_buf_free(r->device, r->workspace);
    if (r->plan) rm_plan_free(r->device, r->plan);
    rm_device_close(r->device);
}

static rm_status open_op(replicate *r)
{
    const rm_device_config config = { .threads = 1, .deterministic = true, .reference_only = true };
    rm_plan_info info;
    rm_op op;
    RM_TRY(rm_op_parse(op_text, &op));
    RM_TRY(rm_device_open("cpu", &config, &r->device));
    RM_TRY(rm_device_plan(r->device, &op, &r->plan, &info));
    for (int i = 0; i < RM_SLOT_COUNT; i++) {
        if (!(r->plan->used >> i & 1)) continue;
        RM_TRY(rm_buf_alloc(r->device, RM_MEM_DEVICE, r->plan->need[i], &r->buf[i]));
        r->args.t[i].buf = r->buf[i];
    }
    if (info.workspace_bytes) RM_TRY(rm_buf_alloc(r->device, RM_MEM_DEVICE, info.workspace_bytes, &r->workspace));
    r->args.workspace.buf = r->workspace;
    return RM_OK;
}

static rm_status run_op(replicate *r)
{
    for (int i = 0; i < RUNS; i++) RM_TRY(rm_device_run(r->device, NULL, r->plan, &r->args));
    return rm_device_sync(r->device, NULL);
}

/* op_s: of the operation alone; step_s: with the slow-down. */
static rm_status steps(replicate *r, double slower, int n, double *op_s, double *step_s)
{
    for (int i = 0; i < n; i++) {
        const uint64_t begin = rm_now_ns();
        RM_TRY(run_op(r));
        const uint64_t took = rm_now_ns() - begin;
        op_s[i] = rm_s(took);
        if (slower > 0) rm_spin_ns((uint64_t)(slower * (double)took));
        step_s[i] = rm_s(rm_now_ns() - begin);
    }
    return RM_OK;
}

static json_t *numbers(const double *x, int n)
{
    json_t *all = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(all, json_real(x[i]));
    return all;
}

/* The plain JSON of a program that a gate runs, without the envelope, whose facts about the machine take longer than the steps. */
static rm_status print(const double *op_s, const double *step_s, int n)
{
    json_t *root = json_pack("{s:s, s:o, s:o}", "op", op_text, "op_s", numbers(op_s, n), "step_s", numbers(step_s, n));
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    const bool written = text && puts(text) != EOF && fflush(stdout) == 0;
    rm_status st = written ? RM_OK : text ? rm_fail_errno("cannot write the JSON to stdout") : rm_fail(RM_E_NOMEM, "out of memory for the JSON");
    free(text);
    json_decref(root);
    return st;
}

rm_status bench_gate_replicate(const bench_options *o)
{
    const int n = o->steps ? o->steps : STEPS;
    double slower = 0;
    replicate r = { 0 };
    if (o->slow[0]) RM_TRY(bench_share_parse(o->slow, "--slow", &slower));
    double *op_s = calloc(2 * (size_t)n, sizeof *op_s);
    rm_status st = op_s ? open_op(&r) : rm_fail(RM_E_NOMEM, "out of memory for %d steps", n);
    if (st == RM_OK) st = steps(&r, slower, n, op_s, op_s + n);
    if (op_s) shut(&r);
    if (st == RM_OK) st = print(op_s, op_s + n, n);
    free(op_s);
    return st;
}
