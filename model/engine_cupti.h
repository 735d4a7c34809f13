/* A traced step's device work as CUPTI saw it (profiler/cupti.h): kernels, copies and fills on a lane a stream, their launches on the host's,
 * each part of what the engine was enqueueing. Internal to the engine. */
#ifndef RM_ENGINE_CUPTI_H
#define RM_ENGINE_CUPTI_H
#include "model/engine_trace.h"
#include "profiler/cupti.h"

typedef struct rm_engine_cupti rm_engine_cupti;

/* NULL where the trace must do with the device's marks; rm_last_error() says why. */
rm_engine_cupti *rm_engine_cupti_open(const rm_engine *e, rm_trace *trace);
void      rm_engine_cupti_close(rm_engine_cupti *c, rm_engine *e);     /* NULL is fine */
/* Before a step's window: records from here on, or (off) not. */
void      rm_engine_cupti_prepare(rm_engine_cupti *c, rm_engine *e, bool on);
/* After it; `host` takes the launches. False: the records are not whole; nothing is emitted, and the step is counted and said to be left out. */
bool      rm_engine_cupti_emit(rm_engine_cupti *c, const rm_engine *e, rm_lane *host, uint32_t step, const rm_step *s);
void      rm_engine_cupti_times(const rm_engine_cupti *c, rm_kernel_times *out);
#endif
