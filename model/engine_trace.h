/* One rank's steps as lanes of a trace: compute queue, communication, input, host. Internal to the engine. */
#ifndef RM_ENGINE_TRACE_H
#define RM_ENGINE_TRACE_H
#include "model/engine.h"

/* Emits a finished step from its marks: nothing is timed while it runs that is not timed anyway. */
void rm_engine_trace_step(rm_engine *e, uint64_t step, const rm_step *s);
#endif
