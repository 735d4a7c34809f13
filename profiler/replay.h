/* Replay: a data-parallel step put together again from its measured parts, so that one part can be changed and its effect on the step
 * predicted: the model behind blocking_comm, behind "what would it give", and behind the sensitivities that injection checks.
 *
 * The model: one queue runs the ops in order, each after a gap (host, input, copies: whatever the queue waited for); a bucket is ready
 * when the last op that completes it has ended; one communicator carries the buckets in order, each `lag_ns` after it is ready and the one
 * before has ended; ops from first_update on come after the last bucket (or, with the update on arrival, after the bucket named in `after`); then comes the tail.
 * Durations stay as given: contention is not in the model, and that is what the prediction error shows.
 * Pure functions; any thread. Times in nanoseconds. */
#ifndef RM_REPLAY_H
#define RM_REPLAY_H
#include "base/status.h"
#include <stdint.h>

/* ready: gradients complete after this op (ready order), 0 none. after: index of the bucket whose sum the op waits for, -1 none. */
typedef struct rm_replay_op { uint64_t gap_ns, dur_ns; uint32_t ready; int32_t after; } rm_replay_op;
typedef struct rm_replay_bucket { uint32_t last; uint64_t lag_ns, dur_ns; } rm_replay_bucket;
typedef struct rm_replay { rm_replay_op *op; uint32_t n_op; rm_replay_bucket *bucket; uint32_t n_bucket; uint64_t tail_ns; } rm_replay;

/* Where each part lay in a measured step: of ops in order (begin, end) and of buckets (ready, start, end), from the step's begin. */
typedef struct rm_replay_seen { const uint64_t *op_begin, *op_end, *bucket_start, *bucket_end; uint64_t step_ns; } rm_replay_seen;
/* Fills gaps, durations, lags and the tail of `r`, whose counts, ready, after and last are set: rm_replay_step() then gives seen->step_ns to the
 * nanosecond. RM_E_ARG when the step is none (ops out of order, a bucket that ends before it starts). */
rm_status rm_replay_fit(rm_replay *r, const rm_replay_seen *seen) RM_CHECKED;

/* The step's length with op `op` longer by op_ns (may be negative, not below 0 in sum), bucket `bucket` likewise; -1 none; and all buckets' durations times comm_scale. */
typedef struct rm_replay_change { int32_t op, bucket; int64_t op_ns, bucket_ns; double comm_scale; } rm_replay_change;
extern const rm_replay_change rm_replay_as_it_was;             /* {-1, -1, 0, 0, 1} */
uint64_t  rm_replay_step(const rm_replay *r, const rm_replay_change *c);
/* T(as measured) - T(collectives take no time): what of communication lies on the critical path (docs/measures). */
uint64_t  rm_replay_blocking(const rm_replay *r);
#endif
