/* What the GPU really ran: kernels, copies and fills with their streams and times, by CUPTI's activity records, and what was enqueued
 * when they were launched. docs/trace.md says how work is attributed and what it costs.
 *
 * Work is attributed by the identity that was pushed around its launch (CUPTI's external correlation), never by when it ran: the
 * GPU's times are interpolated and can be microseconds off. A kernel of a replayed CUDA graph has one launch with all others of its graph, so it
 * is attributed to nothing.
 *
 * CUPTI knows one client a process, and so does this: a second rm_cupti_open() fails until the first is closed. Threads: one at a time, and push and
 * pop count for the thread that calls them. */
#ifndef RM_CUPTI_H
#define RM_CUPTI_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rm_cupti rm_cupti;

/* What is being enqueued: the caller's parts and their numbers. */
typedef enum rm_cupti_part { RM_CUPTI_NO_PART, RM_CUPTI_NODE, RM_CUPTI_UPDATE, RM_CUPTI_BUCKET, RM_CUPTI_BATCH } rm_cupti_part;
typedef struct rm_cupti_of { rm_cupti_part part; uint32_t index; } rm_cupti_of;

typedef enum rm_cupti_kind {
    RM_CUPTI_KERNEL, RM_CUPTI_COPY, RM_CUPTI_FILL,  /* work of the device */
    RM_CUPTI_LAUNCH,                                /* a call of the host that launched some of it */
    RM_CUPTI_OVERHEAD                               /* what watching took of the host, in CUPTI's own words */
} rm_cupti_kind;

typedef struct rm_cupti_record {
    rm_cupti_kind kind;
    uint32_t name;                                  /* rm_cupti_name() */
    uint32_t device, stream;                        /* of work */
    uint32_t correlation;                           /* the same for work and its launch; 0: none */
    uint64_t begin_ns, end_ns;                      /* rm_now_ns() */
    rm_cupti_of of;
    uint64_t graph_node;                            /* 0: not from a CUDA graph */
    uint64_t bytes;                                 /* of copies and fills */
} rm_cupti_record;

/* What ran between two flushes, by when it began. It is whole only where nothing was dropped, untimed or cut. */
typedef struct rm_cupti_step {
    const rm_cupti_record *at; size_t n;
    uint64_t dropped;                               /* records that CUPTI had no room for */
    uint64_t untimed;                               /* work whose times could not be had; not among the records */
    uint64_t cut;                                   /* buffers that ended in the middle of a record or in one of an unknown kind */
    uint64_t unattributed;                          /* kernels that are part of nothing */
    uint64_t overhead_ns;                           /* the sum of RM_CUPTI_OVERHEAD */
} rm_cupti_step;

bool        rm_cupti_in_build(void);                /* false: rm_cupti_open() says so too */
/* Begins to watch this process. RM_E_UNSUPPORTED says why not: not in this build, no driver, another profiler is there already. */
rm_status   rm_cupti_open(rm_cupti **out) RM_CHECKED;
/* Ends it: CUPTI detaches from the process. Until then it costs every launch something, paused or not. Device work must be done. NULL is fine. */
void        rm_cupti_close(rm_cupti *c);
/* Switches all records off or on again, between steps. */
rm_status   rm_cupti_pause(rm_cupti *c, bool paused) RM_CHECKED;
/* Around the launches of one part, on the thread that launches. A NULL c does nothing. */
void        rm_cupti_push(rm_cupti *c, rm_cupti_part part, uint32_t index);
void        rm_cupti_pop(rm_cupti *c);
/* After all device work was waited for, and never in a window that is timed. *out lives until the next flush. */
rm_status   rm_cupti_flush(rm_cupti *c, rm_cupti_step *out) RM_CHECKED;
/* Kernels without their parameters, "Memcpy HtoD (Pinned -> Device)", "Memset (Device)", "cudaLaunchKernel"; lives as long as c. */
const char *rm_cupti_name(const rm_cupti *c, uint32_t name);
uint32_t    rm_cupti_names(const rm_cupti *c);      /* how many so far: names are 0 .. that - 1 */
#endif
