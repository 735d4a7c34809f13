/* Buckets: the gradient arena cut into all-reduces, started as their last gradient is ready, waited for before the update.
 *
 * Spans of the arena, never copies. One thread drives it (the one that runs the network); the communicator carries the bytes.
 * Order within a step: rm_buckets_begin(), rm_buckets_ready() as backward goes on, rm_buckets_wait() for each, and rm_buckets_end() once the
 * compute queue was synchronised; then `at[i]` tells when each bucket was ready, started and ended. A step that is run again from a
 * recording (kernels/device.h) has rm_buckets_begin() and rm_buckets_end() only. Threads: one at a time. comm and the gradient buffer are the caller's. */
#ifndef RM_BUCKETS_H
#define RM_BUCKETS_H
#include "kernels/comm/comm.h"
#include "model/parallel/split.h"
#include "profiler/cupti.h"

typedef struct rm_bucket {
    uint32_t    first, last;                    /* gradients, in ready order */
    rm_span     span;
    uint64_t    bytes;                          /* of the span, in the arena's type */
    rm_mark    *mark;                           /* after its last gradient */
    rm_request *request, *kept[2];              /* of this step; of the recorded ones (RM_REDUCE_OVERLAPPED, RM_REDUCE_AFTER) */
    uint64_t    delay_ns;                       /* rm_buckets_delay() */
    uint64_t    ready_ns, start_ns, end_ns;     /* of the last step; 0 when it was not reduced */
    uint64_t    launch_ns, launched_ns;         /* the host began and ended starting it; only with note_launches */
} rm_bucket;

typedef struct rm_buckets {
    rm_comm   *comm;                            /* NULL: alone */
    rm_device *device;
    rm_bucket *at;
    uint32_t   n, started;
    bool       note_launches;
    rm_cupti  *cupti;                           /* is told which bucket is launched; NULL: nobody */
} rm_buckets;

/* Where each gradient lies in the arena, in ready order. elem: RM_F32, or RM_F64 on the ref device. */
typedef struct rm_gradients { rm_buf *arena; const size_t *offset, *bytes; uint32_t n; rm_dtype elem; } rm_gradients;
/* spec as rm_split_parse(); "" is "single". Shares are counted in plain elements (param_bytes), spans include padding. */
rm_status rm_buckets_new(rm_comm *comm, rm_device *device, const rm_gradients *g, const uint64_t *param_bytes, const char *spec,
                         rm_split_order order, rm_buckets *out) RM_CHECKED;
void      rm_buckets_free(rm_buckets *b);
/* When the all-reduces run. Twins (docs/scaling.md) differ from the real step in the all-reduce and in nothing else. */
typedef enum rm_reduce_mode {
    RM_REDUCE_OVERLAPPED,                       /* the real step: each bucket as soon as it is ready */
    RM_REDUCE_AFTER,                            /* all buckets after backward: nothing overlaps */
    RM_REDUCE_BARRIER,                          /* twin: a barrier in their place */
    RM_REDUCE_OFF,                              /* twin: nothing in their place */
    RM_REDUCE_MODES
} rm_reduce_mode;
void      rm_buckets_begin(rm_buckets *b);      /* nothing started, nothing delayed */
/* Known trouble: until the next rm_buckets_begin() the all-reduce of bucket i takes ns longer on this rank. What is given twice adds up. */
void      rm_buckets_delay(rm_buckets *b, uint32_t i, uint64_t ns);
/* Gradients 0 .. n_ready-1 are enqueued on the device's compute queue: starts every bucket they complete. */
rm_status rm_buckets_ready(rm_buckets *b, uint32_t n_ready) RM_CHECKED;
/* Later work on the compute queue sees bucket i's sums. In order, each once a step. For host-addressed devices this waits. */
rm_status rm_buckets_wait(rm_buckets *b, uint32_t i) RM_CHECKED;
/* Reads the times of this step's all-reduces; recorded >= 0: of those of the recording of that mode, which was run. */
rm_status rm_buckets_end(rm_buckets *b, int recorded) RM_CHECKED;
/* The requests that were started since rm_buckets_begin() are part of the recording of a mode from now on; all are freed with forget(). */
void      rm_buckets_keep(rm_buckets *b, int mode);
void      rm_buckets_forget(rm_buckets *b);
/* ... and are part of nothing: the recording they were made for is given up. */
void      rm_buckets_drop(rm_buckets *b);
rm_status rm_buckets_wait_all(rm_buckets *b) RM_CHECKED;
/* The same all-reduces back to back with nothing else running: T_comm(isolated). Sync; fills at[i]. Gradients are summed in place. */
rm_status rm_buckets_isolated(rm_buckets *b, uint64_t *out_ns) RM_CHECKED;
#endif
