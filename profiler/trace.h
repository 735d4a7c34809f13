/* Trace: what happened when, as spans on lanes, written as kineto-compatible Chrome JSON.
 *
 * A lane is one writer (a thread, a device queue, the communicator) with a ring of fixed size: emitting takes no lock, allocates
 * nothing and cannot fail. A full ring keeps its OLDEST events and counts what it drops (`dropped` in the file and a warning): the
 * beginning of a trace is never torn. Times are rm_now_ns(), written in microseconds with three decimals, relative to the trace's
 * beginning; baseTimeNanoseconds says when that was on the clock of the day, so that traces of several ranks can be laid together.
 * Threads: one writer per lane; what makes or names something, rm_trace_dropped() and rm_trace_fill() take a lock; writing the file is for after
 * the writers stopped. What an event costs: docs/trace.md.
 * The file: docs/trace.md. */
#ifndef RM_TRACE_H
#define RM_TRACE_H
#include "base/status.h"
#include <stdint.h>

typedef struct rm_trace rm_trace;
typedef struct rm_lane  rm_lane;
typedef uint32_t rm_name;                      /* interned text; 0 is "" */

/* What a span is: the kineto category that tools classify by. KERNEL, COMM and COPY are device work and get a stream, the lane's
 * number, on whatever lane they lie. `arg` is written under the name in parentheses unless it is negative. */
typedef enum rm_cat {
    RM_CAT_KERNEL,                             /* "kernel": a device op, computation (HolisticTraceAnalysis' COMPUTATION); (layer) */
    RM_CAT_COMM,                               /* "kernel" named nccl-like ("ncclDevKernel_" is put before other names): COMMUNICATION; (bytes) */
    RM_CAT_COPY,                               /* "gpu_memcpy", named so ("Memcpy " is put before other names): MEMORY; (bytes) */
    RM_CAT_LAUNCH,                             /* "cuda_runtime": the host enqueues device work; same `corr`, not 0, as that work; (layer) */
    RM_CAT_LAYER,                              /* "user_annotation": layer and pass; (layer) */
    RM_CAT_STEP,                               /* "user_annotation", always named ProfilerStep#step */
    RM_CAT_INPUT,                              /* "cpu_op": waiting for or making a batch */
    RM_CAT_HOST,                               /* "cpu_op": the host's own work */
    RM_CAT_COUNT
} rm_cat;

/* What device work and launches are part of, besides their layer; -1: of none. bucket: the all-reduce that they are, or that their gradients
 * travel in (the last one, where they travel in several). pass: of KERNEL and LAUNCH; first, last: of COMM, its gradients in ready order. */
typedef struct rm_part_of { int16_t bucket; union { int16_t pass, first; }; int16_t last; } rm_part_of;

/* 48 bytes. dur 0 is an instant, but a launch, a step or device work that took no time; counters go through rm_trace_counter(). A step of
 * RM_NO_STEP is not written. */
#define RM_NO_STEP UINT32_MAX
typedef struct rm_event { uint64_t start_ns, dur_ns, corr; rm_name name; uint32_t step; int64_t arg; uint8_t cat, phase; rm_part_of of; } rm_event;

/* Which lanes are device queues (kineto: pid = device, tid = stream) and which host threads. */
typedef enum rm_lane_kind { RM_LANE_QUEUE, RM_LANE_THREAD } rm_lane_kind;

rm_status rm_trace_open(size_t events_per_lane, rm_trace **out) RM_CHECKED;
void      rm_trace_close(rm_trace *t);         /* NULL is fine */
rm_status rm_trace_lane(rm_trace *t, rm_lane_kind kind, const char *label, rm_lane **out) RM_CHECKED;
/* The lane of that kind and label where there is one, whose writer has stopped, else a new one with room for `events`. */
rm_status rm_trace_lane_again(rm_trace *t, rm_lane_kind kind, const char *label, size_t events, rm_lane **out) RM_CHECKED;
rm_name   rm_trace_name(rm_trace *t, const char *text);   /* set-up time only; 0 when out of memory */
/* What number i of layers, passes and gradients is called in the file; `layer`: of a gradient. Without it the file has numbers alone. */
typedef enum rm_table { RM_TABLE_LAYER, RM_TABLE_PASS, RM_TABLE_GRADIENT, RM_TABLE_COUNT } rm_table;
rm_status rm_trace_tell(rm_trace *t, rm_table table, uint32_t i, const char *text, int32_t layer) RM_CHECKED;
/* A NULL lane takes nothing. A span that ends before it begins has dur 0. */
void      rm_trace_span(rm_lane *lane, rm_cat cat, rm_name name, uint64_t begin_ns, uint64_t end_ns, uint32_t step, uint64_t corr, int64_t arg);
/* Likewise, and says what the work is part of. */
void      rm_trace_work(rm_lane *lane, rm_cat cat, rm_name name, uint64_t begin_ns, uint64_t end_ns, uint32_t step, uint64_t corr, int64_t arg, rm_part_of of);
void      rm_trace_counter(rm_lane *lane, rm_name name, uint64_t at_ns, int64_t value);
uint64_t  rm_trace_dropped(const rm_trace *t);
int       rm_trace_fill(const rm_trace *t);    /* percent of its room that the fullest lane has taken */

/* Every event of every lane, lane after lane in the order of emission, after the writers stopped. What the function is given lives until the
 * trace is closed. */
typedef struct rm_trace_item { const char *lane, *name; rm_lane_kind kind; const rm_event *event; } rm_trace_item;
typedef void rm_trace_fn(void *ctx, const rm_trace_item *item);
void      rm_trace_each(const rm_trace *t, rm_trace_fn *fn, void *ctx);

/* For the file's head: distributedInfo, deviceProperties, process names. device_id: the device's number on its host. */
typedef struct rm_trace_about { int rank, world; const char *backend, *device, *host, *version; int device_id; } rm_trace_about;
/* .json, or gzip where the name ends in .gz; to a temporary, then renamed. RM_E_PARTIAL when events were dropped (the file is there). */
rm_status rm_trace_write(const rm_trace *t, const rm_trace_about *about, const char *path) RM_CHECKED;
#endif
