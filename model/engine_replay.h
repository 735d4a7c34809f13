/* What really happened in a step, as a replay (profiler/replay.h): to ask what of its communication lies on the critical path, and what an
 * op or a bucket that takes longer would do to it. */
#ifndef RM_ENGINE_REPLAY_H
#define RM_ENGINE_REPLAY_H
#include "model/engine.h"
#include "model/parallel/ghost.h"
#include "profiler/replay.h"

/* From the marks of the engine's last step `s`; needs layer timers, and that neither mode nor split nor size was changed since. Ops are those
 * of rm_net_nodes() in order, with the update in parts the parts in place of the last; buckets are there where a step of several ranks
 * reduced. With accumulation the marks are those of the last micro-batch, and what came before is the gap before it.
 * *out, the caller's: rm_replay_step() of it as it was is s->step_ns. RM_E_NOMEM, RM_E_ARG as rm_replay_fit(). */
rm_status rm_engine_replay(const rm_engine *e, const rm_step *s, rm_replay *out) RM_CHECKED;
/* The op of a replay that rm_net_set_delay(node) makes longer. */
uint32_t  rm_engine_replay_op(const rm_engine *e, int32_t node);
/* The first op after the batch has come: what a later input delays. */
uint32_t  rm_engine_replay_input(const rm_engine *e);

/* Of a ghost's last step: forward, backward between the buckets' marks, update. */
rm_status rm_ghost_replay(const rm_ghost *g, const rm_step *s, rm_replay *out) RM_CHECKED;
#endif
