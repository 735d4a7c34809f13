/* A trace of some steps of a run: opened before the first, written after the last. All zero traces nothing. */
#ifndef RM_STEP_TRACE_H
#define RM_STEP_TRACE_H
#include "model/engine.h"

typedef struct rm_step_trace {
    const char *path;            /* "" or NULL: none. Of several ranks, "t.json.gz" becomes "t.rank3.json.gz" */
    uint64_t from, to;           /* first and last step, counted from 0 */
    rm_trace *trace;
} rm_step_trace;
/* Call before step number `step` of this process, in order. */
rm_status rm_step_trace_before(rm_step_trace *t, rm_engine *e, uint64_t step) RM_CHECKED;
/* Writes the file where there is something to write. RM_E_PARTIAL when events were dropped. */
rm_status rm_step_trace_end(rm_step_trace *t, rm_engine *e) RM_CHECKED;
#endif
