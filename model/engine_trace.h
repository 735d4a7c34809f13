/* One rank's steps as lanes of a trace: compute, communication and copies, which are queues; input and the host, with the launches of
 * what is on the queues; counters once a step. Nothing is emitted while a step runs that can wait for its end, and what is timed that is
 * not timed anyway are the launches. Internal to the engine. Without a trace, or while it is paused, these do nothing. */
#ifndef RM_ENGINE_TRACE_H
#define RM_ENGINE_TRACE_H
#include "model/engine.h"
#include "profiler/cupti.h"

/* Before the step's window opens. */
void rm_engine_trace_prepare(rm_engine *e);
void rm_engine_trace_begin(rm_engine *e, uint64_t step, uint64_t begin_ns);
/* Between two micro-batches: emits the one before, whose marks the next one takes. */
void rm_engine_trace_batch(rm_engine *e);
/* After the step: emits the rest from its marks, and the counters. */
void rm_engine_trace_end(rm_engine *e, const rm_source *src, const rm_step *s);

/* What an event of that category is part of: for engine_cupti.c. arg: the layer; of an all-reduce, its bytes. */
typedef struct rm_trace_part { int64_t arg; rm_part_of of; } rm_trace_part;
rm_trace_part rm_engine_trace_part(const rm_engine *e, rm_cupti_of of, rm_cat cat);
/* engine_step.c: after a change of net, split or graph. Sync. */
void rm_engine_forget_recordings(rm_engine *e);
#endif
