/* Device: the seam between the network and whatever computes it (ref, null, cpu, cuda).
 *
 * A device is a table (rm_device_ops) behind the checked wrappers below; the table's functions are never called
 * directly. Everything is asynchronous on a queue unless it says "sync": a caller may not touch a buffer from the host
 * between enqueueing work on it and rm_device_sync() or a mark. Plan once, run many: rm_device_plan() may be slow
 * (it may time candidates), rm_device_run() may not allocate.
 *
 * Threads: one thread at a time per device, except that rm_mark_* may be polled by another thread (the comm thread).
 * Ownership: what a function hands out is released by its twin; closing the device with live buffers is a bug. */
#ifndef RM_DEVICE_H
#define RM_DEVICE_H
#include "kernels/op.h"

enum { RM_DEVICE_ABI = 4 };
typedef struct rm_device rm_device;
typedef struct rm_buf    rm_buf;    /* untyped bytes, one memory kind */
typedef struct rm_queue  rm_queue;  /* in-order queue; NULL means the device's compute queue */
typedef struct rm_mark   rm_mark;   /* a point in a queue: CUDA event, host clock reading */
typedef struct rm_plan   rm_plan;   /* a prepared op: algorithm, descriptors, layouts */
typedef struct rm_recording rm_recording; /* work of many calls, enqueued again by one: a CUDA graph */
struct rm_peaks;                    /* kernels/peaks.h */

typedef enum rm_mem { RM_MEM_DEVICE, RM_MEM_PINNED } rm_mem;
typedef struct rm_ref { rm_buf *buf; size_t offset; } rm_ref;            /* offset in bytes; buf NULL = absent */
typedef struct rm_args { rm_ref t[RM_SLOT_COUNT]; rm_ref workspace; } rm_args;

typedef struct rm_plan_info {
    char     impl[64];               /* "jit:avx2", "cudnn:engine 24", "ref" */
    int32_t  x, x2, w, y;            /* layouts wanted for X(and DX)/X2/W(and DW)/Y(and DY); the caller inserts reorders */
    size_t   workspace_bytes;        /* scratch during run, contents undefined between runs */
    size_t   saved_bytes;            /* size of SAVED, from forward to backward */
    rm_dtype via;                    /* type that a wider Y or DW is rounded to on its way; RM_F32: none */
    uint64_t flops, bytes_read, bytes_written;
} rm_plan_info;

typedef struct rm_device_config {
    int  ordinal;                    /* which one, for devices of which there are several */
    int  threads;                    /* 0: all cores this process may use */
    bool deterministic;
    bool reference_only;             /* do not time candidates: take the first implementation */
    bool async;                      /* null device: run behind a real worker thread (tests) */
} rm_device_config;

typedef struct rm_device_info {
    char     device[32];             /* "cpu" */
    char     name[96];               /* "AMD EPYC 7763" */
    char     library[96];            /* "oneDNN 3.2.0" */
    char     isa[64];                /* "avx2", "avx512_core_bf16" */
    int      threads;
    uint64_t memory_bytes;           /* usable */
    uint32_t dtypes;                 /* bit (1 << rm_dtype): supported */
    uint32_t native_dtypes;          /* ... by hardware at full speed; others are emulated and say so in impl */
    bool     async;                  /* queues run while the host goes on */
    char     bus[32];                /* PCI address, "0000:1b:00.0"; "" for what has none */
    char     caveat[64];             /* what every figure taken on it must carry: "unverified on hardware"; "" for nothing */
} rm_device_info;

typedef struct rm_device_ops {
    uint32_t    abi;                 /* RM_DEVICE_ABI */
    const char *name, *summary;
    rm_status (*available)(void);    /* RM_OK or RM_E_UNSUPPORTED with the reason in words */
    int32_t   (*count)(void);        /* how many this machine has; NULL: as many as its cores are divided into */
    rm_status (*open)(const rm_device_config *cfg, rm_device **out_device);
    void      (*close)(rm_device *d);
    void      (*info)(const rm_device *d, rm_device_info *out_info);
    /* What info() would say, without taking the device: no context, no memory. NULL: it must be opened for that, which costs nobody anything. */
    rm_status (*describe)(const rm_device_config *cfg, rm_device_info *out_info);

    rm_status (*alloc)(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf);
    void      (*release)(rm_device *d, rm_buf *buf);
    void     *(*host)(rm_buf *buf);
    rm_status (*write)(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes);
    rm_status (*read)(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes);
    rm_status (*fill)(rm_device *d, rm_queue *q, rm_ref dst, int byte, size_t bytes); /* NULL only in test devices that watch their memory */

    rm_status (*queue_new)(rm_device *d, rm_queue **out_queue);
    void      (*queue_free)(rm_device *d, rm_queue *q);
    rm_status (*sync)(rm_device *d, rm_queue *q);
    rm_status (*mark_new)(rm_device *d, rm_mark **out_mark);
    void      (*mark_free)(rm_device *d, rm_mark *m);
    rm_status (*mark_set)(rm_device *d, rm_queue *q, rm_mark *m);
    rm_status (*mark_wait)(rm_device *d, rm_queue *q, const rm_mark *m);
    bool      (*mark_done)(const rm_mark *m);
    rm_status (*mark_ns)(const rm_mark *m, uint64_t *out_ns);
    rm_status (*spin)(rm_device *d, rm_queue *q, uint64_t ns);   /* NULL: cannot */
    /* Recordings; all NULL: cannot. */
    rm_status (*record_begin)(rm_device *d);
    rm_status (*record_end)(rm_device *d, rm_recording **out_recording);
    rm_status (*record_run)(rm_device *d, rm_recording *r);
    void      (*record_free)(rm_device *d, rm_recording *r);

    size_t    (*layout_bytes)(rm_device *d, const rm_tdesc *t);
    rm_status (*plan)(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info);
    rm_status (*run)(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args);
    void      (*plan_free)(rm_device *d, rm_plan *plan);
    /* Frozen plans; NULL for devices that never choose. */
    bool      (*choice_at)(const rm_device *d, size_t i, const char **out_key, const char **out_impl);
    rm_status (*choice_force)(rm_device *d, const char *key, const char *impl);
    /* For devices that keep their plans themselves: reads them again, or saves them. NULL for others. */
    void      (*keep)(rm_device *d, bool save);
    /* What it can do at most (kernels/peaks.h). NULL for devices whose speed means nothing. */
    rm_status (*peaks)(rm_device *d, struct rm_peaks *out);
} rm_device_ops;

/* ---- finding and opening */
const rm_device_ops *const *rm_device_list(void);      /* NULL-terminated, in order of preference for "auto" */
/* name: "auto" (first available of cuda, cpu), "ref", "null", "cpu", "cuda". Errors: RM_E_ARG unknown name,
 * RM_E_UNSUPPORTED not in this build or not on this machine (says which and why). Sync. */
rm_status rm_device_open(const char *name, const rm_device_config *cfg, rm_device **out_device) RM_CHECKED;
/* How many devices of that name this machine has, 0 for as many as its cores are divided into. Errors as rm_device_open(). */
rm_status rm_device_count(const char *name, int32_t *out_n) RM_CHECKED;
/* Opens a table that need not be in the list (tests wrap one). RM_BUG on a table of another RM_DEVICE_ABI. Sync. */
rm_status rm_device_open_ops(const rm_device_ops *ops, const rm_device_config *cfg, rm_device **out_device) RM_CHECKED;
void      rm_device_close(rm_device *d);                /* NULL is fine. Sync */
void      rm_device_get_info(const rm_device *d, rm_device_info *out_info);
/* What rm_device_get_info() would say of the device that rm_device_open() would open, which stays free for others. Errors as there. Sync. */
rm_status rm_device_describe(const char *name, const rm_device_config *cfg, rm_device_info *out_info) RM_CHECKED;
const char *rm_device_name(const rm_device *d);
/* What figures taken on a device of this name are: "measured"; "emulated" for cuda in a program that has test doubles in place of its libraries. */
const char *rm_device_origin(const char *name);

/* ---- memory. Buffers are aligned to 4096 bytes and zeroed. */
rm_status rm_buf_alloc(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf) RM_CHECKED; /* RM_E_NOMEM. Sync */
void      rm_buf_free(rm_device *d, rm_buf *buf);       /* NULL is fine. Sync */
/* Never freed, and no longer counted: somebody who does not come back may use it. The device can be closed. */
void      rm_buf_abandon(rm_device *d, rm_buf *buf);
size_t    rm_buf_bytes(const rm_buf *buf);
/* Host address of a buffer that the host can address (all of ref, null, cpu; pinned of cuda), else NULL. */
void     *rm_buf_host(rm_buf *buf);
/* Copies between host memory and a buffer. `src`/`dst` must stay valid until the queue has passed them. */
rm_status rm_device_write(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes) RM_CHECKED;
rm_status rm_device_read(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes) RM_CHECKED;
rm_status rm_device_fill(rm_device *d, rm_queue *q, rm_ref dst, int byte, size_t bytes) RM_CHECKED;

/* ---- order and time */
rm_status rm_queue_new(rm_device *d, rm_queue **out_queue) RM_CHECKED;
void      rm_queue_free(rm_device *d, rm_queue *q);
rm_status rm_device_sync(rm_device *d, rm_queue *q) RM_CHECKED;  /* waits for one queue; reports its asynchronous errors */
rm_status rm_mark_new(rm_device *d, rm_mark **out_mark) RM_CHECKED;
void      rm_mark_free(rm_device *d, rm_mark *m);
rm_status rm_mark_set(rm_device *d, rm_queue *q, rm_mark *m) RM_CHECKED;        /* the point after all work so far on q */
rm_status rm_mark_wait(rm_device *d, rm_queue *q, const rm_mark *m) RM_CHECKED; /* later work on q waits for m; host does not */
bool      rm_mark_done(const rm_device *d, const rm_mark *m);                   /* any thread; never blocks */
/* Time of a mark that is done, nanoseconds on rm_now_ns()'s base (devices with their own clock convert). */
rm_status rm_mark_ns(const rm_device *d, const rm_mark *m, uint64_t *out_ns) RM_CHECKED;
/* Keeps the queue busy for that long: no less, and more only by what the machine takes away meanwhile. For known trouble on purpose
 * (model/engine.h, rm_inject): on a processor it takes the core, as an op would. RM_E_UNSUPPORTED where the device cannot. */
rm_status rm_device_spin(rm_device *d, rm_queue *q, uint64_t ns) RM_CHECKED;

/* ---- recordings: what was enqueued once is enqueued again by one call, with the same buffers, plans and marks.
 * Between begin and end nothing is done yet: no sync, no allocation, no new plan or mark, no mark_done; writes and reads between the
 * device and memory of RM_MEM_PINNED only, whose contents count when it runs. Queues other than the compute queue take part once they
 * wait for a mark that was set in the recording, and the compute queue must wait for them before its end. Marks set in a recording have
 * the time of its last run. record_end() with NULL for `out_recording` forgets what was recorded, and so does any failure. */
bool      rm_device_can_record(const rm_device *d);
rm_status rm_record_begin(rm_device *d) RM_CHECKED;
rm_status rm_record_end(rm_device *d, rm_recording **out_recording) RM_CHECKED;
rm_status rm_record_run(rm_device *d, rm_recording *r) RM_CHECKED;   /* enqueues all of it on the compute queue */
void      rm_record_free(rm_device *d, rm_recording *r);             /* NULL is fine. Sync */

/* ---- ops */
/* Bytes of a tensor in its layout, padding included. On ref every f32 tensor is stored as doubles (8 bytes an element),
 * which a caller sees here; HYPER is double, LABEL and FLAG are int32, FLIP and images are u8 on every device. */
size_t    rm_layout_bytes(rm_device *d, const rm_tdesc *t);
/* Layouts in `op` that are RM_LAYOUT_ANY are the device's choice; others are what the caller has. The answer may want
 * another layout than offered: the caller reorders. RM_E_UNSUPPORTED says what the device lacks. Sync. */
rm_status rm_device_plan(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info) RM_CHECKED;
/* Enqueues. Every slot that the op uses must be given (checked); workspace at least info.workspace_bytes. Slots of one
 * run may not alias, except X/DX with Y/DY of ADD, RELU, RELU_BWD and BN_BWD (in place, DX = DY). No allocation. */
rm_status rm_device_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args) RM_CHECKED;
void      rm_plan_free(rm_device *d, rm_plan *plan);
/* Counters since open, for "no allocation after warm-up" and op-launch counts. */
uint64_t  rm_device_allocs(const rm_device *d);
uint64_t  rm_device_runs(const rm_device *d);
uint64_t  rm_device_bytes(const rm_device *d);         /* in buffers that are not freed */
uint64_t  rm_device_peak_bytes(const rm_device *d);    /* the most that ever was */

/* ---- for implementers: every device's objects begin with these. */
struct rm_device { const rm_device_ops *ops; uint64_t allocs, runs, live, live_bytes, peak_bytes; };
struct rm_buf    { rm_device *device; size_t bytes; void *ptr; };
/* The device fills op and info of a plan; the rest is the wrapper's, which checks every run against it: the slots that
 * this op uses, and how many bytes each must have. */
struct rm_plan   { rm_op op; rm_plan_info info; rm_device *device; uint32_t used, written; size_t need[RM_SLOT_COUNT]; };
extern const rm_device_ops rm_device_ref, rm_device_null, rm_device_cpu, rm_device_cuda;
#endif
