#include "profiler/replay.h"
#include <math.h>
#include <stdlib.h>

const rm_replay_change rm_replay_as_it_was = { .op = -1, .bucket = -1, .comm_scale = 1 };

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

rm_status rm_replay_new(uint32_t n_op, uint32_t n_bucket, rm_replay *out)
{
    rm_replay r = { .n_op = n_op, .n_bucket = n_bucket };
    r.op = calloc((size_t)n_op + 1, sizeof *r.op);
    r.bucket = calloc((size_t)n_bucket + 1, sizeof *r.bucket);
    r.end_ns = calloc((size_t)n_bucket + 1, sizeof *r.end_ns);
    if (!r.op || !r.bucket || !r.end_ns) {
        rm_replay_free(&r);
        return rm_fail(RM_E_NOMEM, "out of memory for the replay of a step of %u ops", n_op);
    }
    for (uint32_t i = 0; i < n_op; i++) r.op[i].after = -1;
    *out = r;
    return RM_OK;
}

void rm_replay_free(rm_replay *r)
{
    free(r->op);
    free(r->bucket);
    free(r->end_ns);
    *r = (rm_replay){ 0 };
}

/* ---- from a measured step */
typedef struct fitting { rm_replay *r; const rm_replay_seen *seen; uint64_t queue, comm; uint32_t known, next; } fitting;

static rm_status none(const char *what, uint32_t i, uint32_t n, const char *why)
{
    return rm_fail(RM_E_ARG, "replay: %s %u of %u %s: these times are not of one step", what, i + 1, n, why);
}

static rm_status fit_op(fitting *f, uint32_t i)
{
    const uint64_t begin = f->seen->op_begin[i], end = f->seen->op_end[i];
    rm_replay_op *op = &f->r->op[i];
    if (op->after >= (int32_t)f->next) return none("op", i, f->r->n_op, "waits for a bucket that a later op completes");
    const uint64_t from = op->after < 0 ? f->queue : later(f->queue, f->seen->bucket_end[op->after]);
    if (begin < from) return none("op", i, f->r->n_op, "begins before what it waits for has ended");
    if (end < begin) return none("op", i, f->r->n_op, "ends before it begins");
    op->gap_ns = begin - from;
    op->dur_ns = end - begin;
    f->queue = end;
    if (op->ready > f->known) f->known = op->ready;
    return RM_OK;
}

static rm_status fit_bucket(fitting *f)
{
    const uint32_t i = f->next;
    const uint64_t start = f->seen->bucket_start[i], end = f->seen->bucket_end[i], from = later(f->queue, f->comm);
    if (start < from) return none("bucket", i, f->r->n_bucket, "starts before it is ready and the one before has ended");
    if (end < start) return none("bucket", i, f->r->n_bucket, "ends before it starts");
    f->r->bucket[i].lag_ns = start - from;
    f->r->bucket[i].dur_ns = end - start;
    f->comm = end;
    f->next++;
    return RM_OK;
}

rm_status rm_replay_fit(rm_replay *r, const rm_replay_seen *seen)
{
    fitting f = { .r = r, .seen = seen };
    for (uint32_t i = 0; i < r->n_op; i++) {
        RM_TRY(fit_op(&f, i));
        while (f.next < r->n_bucket && r->bucket[f.next].last < f.known) RM_TRY(fit_bucket(&f));
    }
    if (f.next < r->n_bucket) return none("bucket", f.next, r->n_bucket, "is completed by no op");
    const uint64_t end = later(f.queue, f.comm);
    if (seen->step_ns < end) return rm_fail(RM_E_ARG, "replay: the step ends before its last part: these times are not of one step");
    r->tail_ns = seen->step_ns - end;
    return RM_OK;
}

/* ---- replayed */
static uint64_t longer(uint64_t ns, int64_t by)
{
    if (by >= 0) return ns + (uint64_t)by;
    const uint64_t less = 0 - (uint64_t)by;
    return ns > less ? ns - less : 0;
}

static uint64_t bucket_ns(const rm_replay *r, const rm_replay_change *c, uint32_t i)
{
    const uint64_t dur = r->bucket[i].dur_ns, scaled = c->comm_scale == 1 ? dur : (uint64_t)llround((double)dur * c->comm_scale);
    return (int64_t)i == c->bucket ? longer(scaled, c->bucket_ns) : scaled;
}

uint64_t rm_replay_step(const rm_replay *r, const rm_replay_change *c)
{
    uint64_t queue = 0, comm = 0;
    uint32_t known = 0, next = 0;
    for (uint32_t i = 0; i < r->n_op; i++) {
        const rm_replay_op *op = &r->op[i];
        RM_ASSERT(op->after < (int32_t)next);
        if (op->after >= 0) queue = later(queue, r->end_ns[op->after]);
        queue += op->gap_ns + ((int64_t)i == c->op ? longer(op->dur_ns, c->op_ns) : op->dur_ns);
        if (op->ready > known) known = op->ready;
        for (; next < r->n_bucket && r->bucket[next].last < known; next++) {
            comm = later(queue, comm) + r->bucket[next].lag_ns + bucket_ns(r, c, next);
            r->end_ns[next] = comm;
        }
    }
    return later(queue, comm) + r->tail_ns;
}

static double slope(const rm_replay *r, const rm_replay_change *c, uint64_t ns)
{
    RM_ASSERT(ns > 0 && ns <= INT64_MAX);
    return (double)(rm_replay_step(r, c) - rm_replay_step(r, &rm_replay_as_it_was)) / (double)ns;
}

double rm_replay_op_slope(const rm_replay *r, uint32_t op, uint64_t ns)
{
    const rm_replay_change c = { .op = (int32_t)op, .op_ns = (int64_t)ns, .bucket = -1, .comm_scale = 1 };
    RM_ASSERT(op < r->n_op);
    return slope(r, &c, ns);
}

double rm_replay_bucket_slope(const rm_replay *r, uint32_t bucket, uint64_t ns)
{
    const rm_replay_change c = { .op = -1, .bucket = (int32_t)bucket, .bucket_ns = (int64_t)ns, .comm_scale = 1 };
    RM_ASSERT(bucket < r->n_bucket);
    return slope(r, &c, ns);
}

uint64_t rm_replay_blocking(const rm_replay *r)
{
    rm_replay_change free_of_charge = rm_replay_as_it_was;
    free_of_charge.comm_scale = 0;
    return rm_replay_step(r, &rm_replay_as_it_was) - rm_replay_step(r, &free_of_charge);
}
