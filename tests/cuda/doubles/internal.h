/* Between the files of the CUDA runtime's double. Everything here is called with the lock held unless it says otherwise.
 *
 *   runtime_device.c  which GPUs there are, errors, faults        runtime_graph.c   stream capture, graphs and their launches
 *   runtime_memory.c  allocations, and the calls for them         runtime_order.c   queues of streams, what runs next, waiting
 *   runtime_stream.c  the calls for streams, events, copies       kernel.c          our kernels on the processor
 *   races.c           clocks, and who touched what last           findings.c        what was found */
#ifndef DBL_INTERNAL_H
#define DBL_INTERNAL_H
#include "tests/cuda/doubles/doubles.h"

/* ---- runtime_device.c */
enum { DBL_MOST_GPUS = 8 };
typedef struct dbl_gpu {
    char name[96], path[512];
    int version, multiprocessors, clock_khz, memory_clock_khz, l2_bytes, shared_optin;
    size_t memory_bytes;
} dbl_gpu;
const dbl_gpu *dbl_gpu_described(void);
int            dbl_gpu_count(void);
int            dbl_current(void);                          /* the calling thread's GPU */
uint64_t       dbl_fault(const char *name);                /* N of "name:N" in RM_DOUBLES_FAULTS; 0: not there. No lock */
cudaError_t    dbl_said(cudaError_t e);                    /* what a call answers: the sticky error first; remembered for cudaGetLastError() */
void           dbl_break(cudaError_t e);                   /* from now on every answer is this */
cudaError_t    dbl_broken(void);
void           dbl_lock(void);
void           dbl_unlock(void);
uint64_t       dbl_now_ns(void);
uint32_t       dbl_random(uint32_t below);                 /* by RM_DOUBLES_SEED */
bool           dbl_seeded(void);

/* ---- runtime_memory.c: one range of addresses, cut into a part for each GPU and one for pinned memory */
enum { DBL_PAGE = 4096, DBL_PINNED = DBL_MOST_GPUS, DBL_PARTS };
typedef struct dbl_block { uintptr_t lo, hi; int part; bool live; uint64_t number; } dbl_block;
extern uintptr_t dbl_lo, dbl_hi;                           /* the range */
extern uint32_t *dbl_owner;                                /* of a page of the range: index in dbl_blocks + 1 */
extern dbl_block *dbl_blocks;
static inline dbl_block *dbl_block_at(uintptr_t p)         /* whose page it is, guard pages included; NULL: nobody's. p is in the range */
{
    const uint32_t owner = dbl_owner[(p - dbl_lo) / DBL_PAGE];
    return owner ? &dbl_blocks[owner - 1] : NULL;
}
static inline bool dbl_ours(const void *p) { return (uintptr_t)p >= dbl_lo && (uintptr_t)p < dbl_hi; }
typedef enum dbl_space { DBL_PAGEABLE, DBL_PINNED_SPACE, DBL_DEVICE, DBL_NOWHERE } dbl_space;
dbl_space dbl_space_of(const void *p, size_t bytes, int *out_part); /* NOWHERE: in the range, and not within a live block */
void      dbl_place(const void *p, char *text, size_t size);        /* "byte 128 of device block 7 (4096 bytes)" */

/* ---- races.c */
enum { DBL_ACTORS = 192 };                                 /* the host, streams, chains of graphs */
typedef struct dbl_clock { uint32_t at[DBL_ACTORS]; } dbl_clock;
int      dbl_actor_new(void);                              /* -1: there are no more */
void     dbl_actor_free(int actor);
void     dbl_join(dbl_clock *into, const dbl_clock *from);
dbl_clock *dbl_host(void);                                 /* what the host knows to be finished */
/* A piece of work begins: `known` is what comes before it; its own tick is put there. gpu -1: memory of any GPU is fine. */
void     dbl_piece_begins(const char *name, uint32_t stream, int gpu, int actor, dbl_clock *known);
bool     dbl_touch_range(const void *p, size_t bytes, bool write);  /* false: not all of it is in a live block, and a finding */
bool     dbl_touch_one(uintptr_t p, size_t bytes, bool write);      /* p is in the range; false: not in a live block, and a finding */
void     dbl_block_freed(const dbl_block *b);              /* what is not known to be finished has it still: a finding */
uint64_t dbl_pieces(void);                                 /* so far */
bool     dbl_written_since(const void *p, size_t bytes, uint64_t piece);

/* ---- runtime_order.c */
/* What work does; graphs share it. */
typedef struct dbl_task {
    int refs;
    dbl_work w;
    const void *source; size_t source_bytes;               /* pinned memory it copies from: must stay as it is until then */
    void (*drop)(void *ctx);
    bool peers;                                            /* may have to wait for other processes */
} dbl_task;
dbl_task *dbl_task_new(const dbl_work *w);                 /* copies ctx and touches */
void      dbl_task_drop(dbl_task *t);
uint64_t  dbl_task_sum(const dbl_task *t);                 /* of its source */

/* A point in a stream: an event's record, the end of a graph's launch. */
typedef struct dbl_moment { int refs; bool done; uint64_t ns; cudaStream_t stream; dbl_clock known; } dbl_moment;
dbl_moment *dbl_moment_new(cudaStream_t s);
dbl_moment *dbl_moment_keep(dbl_moment *m);                /* NULL is fine */
void        dbl_moment_drop(dbl_moment *m);

typedef struct dbl_launch dbl_launch;
/* One time that a task is to run: what its source was and how many pieces had run when it was enqueued. */
typedef struct dbl_turn { uint64_t sum, since; uint32_t correlation, node, stream; bool begun; } dbl_turn; /* stream 0: where it is enqueued */
typedef enum dbl_step { DBL_RAN, DBL_EMPTY, DBL_BLOCKED, DBL_NOT_YET } dbl_step;
typedef struct dbl_piece {
    struct dbl_piece *next;
    dbl_task *task;                                        /* one of these four */
    dbl_moment *record, *wait;
    dbl_launch *launch;
    dbl_clock host;                                        /* what the host knew when it enqueued this */
    dbl_turn turn;
} dbl_piece;

typedef struct dbl_capture dbl_capture;
struct CUstream_st {
    struct CUstream_st *next;
    uint32_t number;
    int gpu, actor, priority;
    unsigned flags;
    bool dead, legacy;
    dbl_piece *first, **last;
    dbl_clock known;                                       /* after what has run */
    dbl_capture *capture;
    int chain, *tip, n_tip;                                /* in a capture: its number there; nodes that the next one comes after */
};
struct CUevent_st { bool dead; int gpu; unsigned flags; dbl_moment *record; uint64_t capture; int *tip, n_tip; };

extern cudaStream_t dbl_streams;
cudaStream_t dbl_stream_of(cudaStream_t s);                /* the legacy stream for 0; NULL: no such stream */
cudaError_t  dbl_event_fine(cudaEvent_t e);
cudaStream_t dbl_stream_make(int gpu, unsigned flags, int priority, bool legacy);
void         dbl_stream_end(cudaStream_t s);               /* dead and with nothing left to run */
/* Appends; what `p` points to is taken over. Orders it with the legacy stream. */
void         dbl_append(cudaStream_t s, dbl_piece p);
dbl_moment  *dbl_append_record(cudaStream_t s);            /* the caller drops it */
void         dbl_append_wait(cudaStream_t s, dbl_moment *m);
/* Runs one piece of work that is on the way to s' end. */
dbl_step     dbl_advance(cudaStream_t s);
void         dbl_wait_moment(dbl_moment *m);
void         dbl_wait_stream(cudaStream_t s);
/* Runs a task now; false: not yet. `known` becomes what is finished with it. */
bool         dbl_run_task(const dbl_task *t, cudaStream_t s, int actor, dbl_clock *known, dbl_turn *turn);
dbl_turn     dbl_turn_of(const dbl_task *t);               /* as things are now */
uint32_t     dbl_correlation(void);                        /* of the call under way on this thread */
/* Around every call that enqueues; no lock. */
void         dbl_call_begins(const char *name);
void         dbl_call_ends(const char *name);

/* ---- runtime_graph.c */
bool        dbl_capturing(cudaStream_t s);
/* Capture in place of enqueueing. */
cudaError_t dbl_capture_task(cudaStream_t s, dbl_task *t);
cudaError_t dbl_capture_record(cudaStream_t s, cudaEvent_t e, bool external);
cudaError_t dbl_capture_wait(cudaStream_t s, cudaEvent_t e, bool external);
/* For calls that a capture forbids (cudaStreamCaptureMode): the error, and what is captured becomes invalid. */
cudaError_t dbl_unsafe(void);
cudaError_t dbl_forbid(cudaStream_t s);                    /* the same for a call that asks or waits for stream s */
cudaError_t dbl_event_asked(cudaEvent_t e);                /* that an event was recorded in a capture */
cudaError_t dbl_legacy_used(int gpu);
dbl_step    dbl_launch_step(dbl_launch *l, cudaStream_t s, cudaStream_t *out_blocker);
bool        dbl_launch_ended(const dbl_launch *l);
void        dbl_launch_drop(dbl_launch *l);
bool        dbl_launch_peers(const dbl_launch *l);         /* whether work in it may wait for other processes */


/* ---- runtime_stream.c */
cudaError_t dbl_enqueue_task(cudaStream_t s, dbl_task *t, const char *call);   /* no lock; t is taken over */
/* ---- kernel.c */
extern bool dbl_idle; /* dbl_set_idle() */
#endif
