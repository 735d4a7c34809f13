/* A trace of some steps of a run: opened before the first, written after the last. All zero traces nothing. */
#ifndef RM_STEP_TRACE_H
#define RM_STEP_TRACE_H
#include "model/engine.h"
#include "profiler/perturb.h"

enum { RM_TRACE_PATH = 4096 };

typedef struct rm_step_trace {
    const char *path;            /* "" or NULL: none. Of several ranks, "t.json.gz" becomes "t.rank3.json.gz" */
    int32_t     sweep_n;         /* of a sweep's run of N devices, it becomes "t.nN.json.gz"; 0: of no sweep */
    uint64_t    from, to;        /* first and last step, counted from 0; there is room for as many, within reason */
    rm_trace   *trace;
    bool        on;              /* steps are traced, or paused */
    uint64_t    batches;         /* of all these steps */
    rm_loader  *loader;          /* whose workers are traced; NULL: none */
    char        file[RM_TRACE_PATH]; /* what was written; "": nothing yet */
    rm_kernel_times times;       /* where the times of its device work are from; after rm_step_trace_end() or _drop() */
} rm_step_trace;

/* Call before step number `step` of this process, in order. */
rm_status rm_step_trace_before(rm_step_trace *t, rm_engine *e, uint64_t step) RM_CHECKED;
/* Or without counting: every step from here on but those while it is paused. Once; also without a path, for who only looks at the events. */
rm_status rm_step_trace_open(rm_step_trace *t, rm_engine *e) RM_CHECKED;
void      rm_step_trace_pause(rm_step_trace *t, rm_engine *e, bool paused);
/* Where batches come from, from here on; forgotten before it is closed. */
rm_status rm_step_trace_set_loader(rm_step_trace *t, rm_loader *l) RM_CHECKED;
void      rm_step_trace_forget_loader(rm_step_trace *t);
/* The file's name; rank < 0 gives a pattern of the shell for those of all ranks. */
void      rm_step_trace_name(const rm_step_trace *t, int rank, int world, char *out, size_t size);
/* Writes the file where there is something to write, and says so together with what tracing cost (n 0: not known). RM_E_PARTIAL when
 * events were dropped. */
rm_status rm_step_trace_end(rm_step_trace *t, rm_engine *e, const rm_perturbation *cost) RM_CHECKED;
/* Or ends it without a file. */
void      rm_step_trace_drop(rm_step_trace *t, rm_engine *e);
#endif
