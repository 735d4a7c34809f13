/* Replay: a data-parallel step put together again from its measured parts, so that one part can be changed and its effect on the step
 * predicted: the model behind blocking_comm, behind "what would it give", and behind the sensitivities that injection checks.
 *
 * The model: one queue runs the ops in order, each after a gap (host, input, copies: whatever the queue waited for); a bucket is ready
 * when the last op that completes it has ended; one communicator carries the buckets in order, each `lag_ns` after it is ready and the one
 * before has ended; an op with `after` begins its gap no sooner than that bucket has ended (the update: whole after the last bucket, or in
 * parts, each after its own); the tail comes after the last op and the last bucket.
 * Durations stay as given: contention is not in the model, and that is what the prediction error shows. So is the wait for a late rank,
 * which is part of a bucket's duration on the others.
 * Threads: one at a time per replay (`end_ns` is scratch). Times in nanoseconds. */
#ifndef RM_REPLAY_H
#define RM_REPLAY_H
#include "base/status.h"
#include <stdint.h>

/* ready: gradients complete after this op (ready order), 0 none. after: index of the bucket whose sum the op waits for, -1 none. */
typedef struct rm_replay_op { uint64_t gap_ns, dur_ns; uint32_t ready; int32_t after; } rm_replay_op;
/* last: its last gradient (ready order); ascending over buckets. */
typedef struct rm_replay_bucket { uint32_t last; uint64_t lag_ns, dur_ns; } rm_replay_bucket;
typedef struct rm_replay { rm_replay_op *op; uint32_t n_op; rm_replay_bucket *bucket; uint32_t n_bucket; uint64_t tail_ns, *end_ns; } rm_replay;

/* All zero but for after, which is -1: times are the caller's, or rm_replay_fit()'s. RM_E_NOMEM. */
rm_status rm_replay_new(uint32_t n_op, uint32_t n_bucket, rm_replay *out) RM_CHECKED;
void      rm_replay_free(rm_replay *r);                        /* all zero is fine */

/* Where each part lay in a measured step: ops in order (begin, end: n_op) and buckets (start, end: n_bucket), from the step's begin. */
typedef struct rm_replay_seen { const uint64_t *op_begin, *op_end, *bucket_start, *bucket_end; uint64_t step_ns; } rm_replay_seen;
/* Fills gaps, durations, lags and the tail of `r`, whose ready, after and last are set: rm_replay_step() then gives seen->step_ns to the
 * nanosecond. RM_E_ARG when these are no step: ops or buckets that overlap or end before they begin, a bucket that starts before it is ready
 * or never is, an op that waits for a bucket which only a later op completes; `r` is not to be used then. */
rm_status rm_replay_fit(rm_replay *r, const rm_replay_seen *seen) RM_CHECKED;

/* op and bucket: -1 none; each takes op_ns or bucket_ns longer (negative: shorter, not below 0). comm_scale: all buckets' durations times
 * this, before bucket_ns; not negative. */
typedef struct rm_replay_change { int32_t op, bucket; int64_t op_ns, bucket_ns; double comm_scale; } rm_replay_change;
extern const rm_replay_change rm_replay_as_it_was;             /* {-1, -1, 0, 0, 1} */
/* The step's length after a change. RM_BUG on an op that waits for a bucket not yet started (rm_replay_fit() refuses them). */
uint64_t  rm_replay_step(const rm_replay *r, const rm_replay_change *c);
/* By how much a change lengthens the step, per nanosecond of it: 0 hidden, 1 exposed. `ns` longer op or bucket, ns > 0. */
double    rm_replay_op_slope(const rm_replay *r, uint32_t op, uint64_t ns);
double    rm_replay_bucket_slope(const rm_replay *r, uint32_t bucket, uint64_t ns);
/* T(as measured) - T(collectives take no time): what of communication lies on the critical path (docs/scaling.md). */
uint64_t  rm_replay_blocking(const rm_replay *r);
#endif
