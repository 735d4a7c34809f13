/* Reads a trace: kineto's or Chrome's JSON, plain or gzip (told by content), as PyTorch's profiler, rm_trace_write() and others write it.
 *
 * What is kept is the device work, 24 bytes a span, whatever else is in the file and in whatever order. Device work is what has one of
 * kineto's device categories (kernel, gpu_memcpy, gpu_memset, ...), or a category of none of its tables and a stream; with `as_hta` it is
 * exactly what HolisticTraceAnalysis 0.5.0 takes for it, see docs/overlap.md. Only complete events (those with a `dur`) are read: pairs
 * of "ph": "B" and "E" are counted. Of keys that come twice the last counts.
 * Times are rounded to whole nanoseconds. Threads: one a trace. */
#ifndef RM_KINETO_READ_H
#define RM_KINETO_READ_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

/* By name, as HolisticTraceAnalysis: ^nccl.*Kernel is communication; ^Memcpy, ^Memset and ^dma are copies; what else has Memcpy, Memset or
 * Sync in its name is other; the rest computes. */
typedef enum rm_kineto_class { RM_KINETO_COMPUTE, RM_KINETO_COMM, RM_KINETO_COPY, RM_KINETO_OTHER } rm_kineto_class;
rm_kineto_class rm_kineto_class_of(const char *name, size_t n);

enum { RM_KINETO_STREAMS = 255 };
typedef struct rm_kineto_span {
    int64_t  begin_ns, end_ns; /* end < begin: only with as_hta */
    uint64_t corr : 40;        /* correlation + 1, 0: none; after rm_overlap_of() the place in the file */
    uint64_t name : 12;        /* a hash, of communication only */
    uint64_t stream : 8;       /* index into rm_kineto.stream; the last one for what found no room there */
    uint64_t class : 2;
    uint64_t launch : 1;       /* with as_hta: no kernel, but something of the host that has a stream */
    uint64_t kept : 1;         /* launched before the last ProfilerStep began */
} rm_kineto_span;

typedef struct rm_kineto_options {
    bool   as_hta;
    size_t buffer_bytes; /* 0: the usual */
} rm_kineto_options;

typedef struct rm_kineto {
    rm_kineto_span *span; size_t n, room;
    int64_t  stream[RM_KINETO_STREAMS]; int32_t n_stream;
    int32_t  rank, world;           /* distributedInfo; -1: the file does not say */
    /* ProfilerStep annotations */
    uint64_t n_step, step_hash;     /* how many, and the first one's name */
    bool     several_steps;         /* of different names */
    int64_t  step_begin_ns, step_last_ns, step_end_ns; /* the first one's begin, the last one's begin, the last end */
    int64_t  step_sum_ns;           /* their lengths: less than from begin to end where steps between them are not in the trace */
    bool     fractions;             /* some `ts` is not a whole number of microseconds, or missing: then HolisticTraceAnalysis rounds */
    uint64_t n_event, n_pair, n_bad; /* all; B and E; unusable: no number where a time must be, a negative duration */
    uint64_t text_bytes;            /* read, uncompressed */
} rm_kineto;

/* RM_E_PARTIAL: the file is cut or damaged, and *out holds what came before. RM_E_FORMAT: nothing usable. The message names the file,
 * the offset (in the uncompressed text) and why. */
rm_status rm_kineto_read(const char *path, const rm_kineto_options *options, rm_kineto *out) RM_CHECKED;
void      rm_kineto_free(rm_kineto *k);
/* Inwards to whole microseconds, in HolisticTraceAnalysis' arithmetic of doubles: an end may come before its beginning. */
void      rm_kineto_round(rm_kineto_span *s);
#endif
