/* Communicator: the seam between data parallelism and who carries the bytes (self, mpi, nccl).
 *
 * A table (rm_comm_ops) behind checked wrappers. Collectives are called by all ranks in the same order.
 * reduce_start()/reduce_wait() is the overlapped all-reduce: a stream event for nccl, a communication thread for mpi
 * (MPI libraries make no background progress), nothing for self. Sum, never mean: the optimiser scales once. A request lives until
 * reduce_free(): with nccl it may be part of a recording (kernels/device.h) that is run many times, and its times are those of the last run.
 * All-reduces of one communicator are carried one after the other, in the order in which they were started.
 *
 * Faults: a call that outlives `timeout_s`, or a peer that fails, gives RM_E_PEER with a line that says who and where;
 * after that only rm_comm_abort(), rm_comm_close() and rm_comm_leave() may be called. Nothing ever hangs longer than the time-out.
 * Threads: one thread at a time per communicator, rm_comm_abort() from any.
 *
 * nccl: one rank for each GPU, on a queue of its own. reduce_start enqueues: wait for `after`, mark, cast to the wire's type, ncclAllReduce of all spans in
 * one group, cast back, mark. reduce_wait orders the queue behind the second mark; the host does not wait, so that reduce_time is for after the
 * step's synchronisation, and all of it may be part of a recording. Everything between hosts goes through an mpi communicator inside. A thread
 * watches what is under way; when that outlives the time-out, or NCCL tells of an error, it aborts: NCCL's kernels end, rm_device_sync() comes
 * back, and the next call here says RM_E_PEER. Sums are garbage from then on, so ask (check, reduce_time) before they are used. Recordings with all-reduces in
 * them are to be freed before the communicator is closed: NCCL waits for that, and is left behind after five seconds. */
#ifndef RM_COMM_H
#define RM_COMM_H
#include "kernels/device.h"

enum { RM_COMM_ABI = 5, RM_COMM_SETUP_S = 600 /* for what one rank prepares on a GPU while the others wait */, RM_COMM_DIGEST_BYTES = 64, RM_COMM_HOST_BYTES = 64 };
typedef char rm_comm_host_name[RM_COMM_HOST_BYTES];
typedef struct rm_comm rm_comm;
typedef struct rm_request rm_request;
typedef enum rm_reduce { RM_SUM, RM_MIN, RM_MAX } rm_reduce;
typedef struct rm_span { rm_ref at; uint64_t count; rm_dtype dtype; } rm_span;   /* count in elements */

/* wire: the type in which gradients travel: RM_F32 is the arena's own, RM_BF16 halves the bytes of f32 gradients (rounded once
 * before the sum and once an addition). */
typedef struct rm_comm_config { double timeout_s; rm_dtype wire; } rm_comm_config;

/* When an all-reduce was under way on this rank, rm_now_ns(). */
typedef struct rm_reduce_time { uint64_t begin_ns, end_ns; } rm_reduce_time;

typedef struct rm_comm_ops {
    uint32_t abi;
    const char *name, *summary;
    rm_status (*available)(void);
    rm_status (*open)(const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm);
    void      (*close)(rm_comm *c);
    void      (*abort)(rm_comm *c, int exit_code);
    rm_status (*barrier)(rm_comm *c);
    uint64_t  (*set_timeout)(rm_comm *c, uint64_t ns);  /* of calls between hosts, from the next one on; returns what it was. NULL: none waits */
    rm_status (*broadcast)(rm_comm *c, rm_span span, int root);
    rm_status (*host_reduce)(rm_comm *c, void *inout, uint64_t count, rm_dtype dtype, rm_reduce how);
    rm_status (*host_gather)(rm_comm *c, const void *mine, size_t bytes, void *all);
    rm_status (*host_broadcast)(rm_comm *c, void *inout, size_t bytes, int root);
    rm_status (*reduce_start)(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request);
    rm_status (*reduce_wait)(rm_comm *c, rm_request *request, rm_queue *order_before);
    rm_status (*reduce_time)(rm_comm *c, const rm_request *request, rm_reduce_time *out);
    void      (*reduce_free)(rm_comm *c, rm_request *request);
    rm_status (*check)(rm_comm *c);
    const char *(*library)(void);
    uint64_t  (*cpu_ns)(const rm_comm *c);   /* NULL: no thread of its own */
} rm_comm_ops;
struct rm_comm {
    const rm_comm_ops *ops;
    rm_device *device;
    int rank, size;
    const rm_comm_host_name *host; /* (size) of every rank, on every rank; open() sets it and close() frees it */
    uint64_t calls, bytes, delay_ns;
};

/* name: "auto" (self when this process was not started as a rank of several, else mpi or nccl), "self", "mpi", "nccl".
 * `device` may be NULL for host-only use. Sync, collective. */
rm_status rm_comm_open(const char *name, const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm) RM_CHECKED;
void      rm_comm_close(rm_comm *c);                /* NULL is fine. Local: never waits for peers; see rm_comm_leave() */
/* Makes every peer end with `exit_code` at once, and with MPI this process too: say why before. */
void      rm_comm_abort(rm_comm *c, int exit_code);
int       rm_comm_rank(const rm_comm *c);           /* 0 for NULL */
int       rm_comm_size(const rm_comm *c);           /* 1 for NULL */
const char *rm_comm_host(const rm_comm *c, int rank); /* where a rank runs, as that host calls itself; the communicator's own text */
rm_status rm_comm_barrier(rm_comm *c) RM_CHECKED;
/* The same where one rank may come much later than the others, by what it has to prepare: waits that long where the time-out is shorter. */
rm_status rm_comm_barrier_within(rm_comm *c, double timeout_s) RM_CHECKED;
rm_status rm_comm_broadcast(rm_comm *c, rm_span span, int root) RM_CHECKED;                       /* device memory; sync */
rm_status rm_comm_host_reduce(rm_comm *c, void *inout, uint64_t count, rm_dtype dtype, rm_reduce how) RM_CHECKED; /* F64, F32, I32(int32), U8 */
rm_status rm_comm_host_gather(rm_comm *c, const void *mine, size_t bytes, void *all) RM_CHECKED;  /* `all`: size*bytes on rank 0 */
rm_status rm_comm_host_broadcast(rm_comm *c, void *inout, size_t bytes, int root) RM_CHECKED;
/* In-place sum of `n` spans of device memory over all ranks, begun when `after` is done (NULL: now). */
rm_status rm_comm_reduce_start(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request) RM_CHECKED;
/* Later work on `order_before` sees the sums. For host-addressed devices this waits. After a failure the request is freed. */
rm_status rm_comm_reduce_wait(rm_comm *c, rm_request *request, rm_queue *order_before) RM_CHECKED;
/* For a request that was waited for, once the queue that it was ordered before has been synchronised. */
rm_status rm_comm_reduce_time(rm_comm *c, const rm_request *request, rm_reduce_time *out) RM_CHECKED;
void      rm_comm_reduce_free(rm_comm *c, rm_request *request);     /* NULL is fine */
/* All three: the host waits for the sums. `out` may be NULL. */
rm_status rm_comm_reduce_finish(rm_comm *c, rm_request *request, rm_reduce_time *out) RM_CHECKED;
/* The next all-reduce started takes this much longer on this rank (--inject link=...). 0 by default and afterwards. */
void      rm_comm_delay_next(rm_comm *c, uint64_t ns);
/* Collectives of every kind since it was opened, and the bytes that this rank gave to them; 0 for NULL. */
uint64_t  rm_comm_calls(const rm_comm *c);
uint64_t  rm_comm_bytes(const rm_comm *c);
/* CPU time so far of the thread that carries the bytes; 0 where there is none. */
uint64_t  rm_comm_cpu_ns(const rm_comm *c);
rm_status rm_comm_check(rm_comm *c) RM_CHECKED;     /* has a peer failed meanwhile? */
const char *rm_comm_library(const rm_comm *c);      /* "Open MPI 4.1.4", "" for self */
/* Refuses with RM_E_ARG, naming the first field that differs, when the ranks do not agree. `fields` is n pairs of
 * {name, value text}; the digest of all is reduced with MIN and MAX first, texts travel only on disagreement. */
typedef struct rm_agree { const char *field, *value; } rm_agree;
rm_status rm_comm_agree(rm_comm *c, const rm_agree *fields, uint32_t n) RM_CHECKED;

/* Rank and world size as set by Open MPI, MPICH/Hydra or Slurm in the environment; {0, 1} when alone. */
typedef struct rm_world { int rank, size, local_rank, local_size; } rm_world;
rm_world rm_world_from_env(void);

/* Started by such a launcher, be it as the only rank. */
bool rm_world_is_rank(void);

/* The last thing a process does that may have opened a communicator; for main(), after its last line was printed. MPI ends
 * once a process and not with a communicator. Orderly endings (0, 7, 130, 143) wait for the peers, no longer than their
 * time-out; any other code makes every peer end at once. Does not return for those; does nothing where MPI never began. */
void rm_comm_leave(int exit_code);
/* "OMPI_MCA_x=1 OMPI_MCA_y=2": settings of the MPI library that were made here because the user had made none; for the
 * environment echo. "" before a communicator is opened, and with self. */
const char *rm_comm_settings(void);

const rm_comm_ops *const *rm_comm_list(void);       /* NULL-terminated, in order of "bench info" */
/* ---- for implementers: every communicator's requests begin with this. */
struct rm_request { rm_comm *comm; };
void rm_comm_own_host(rm_comm_host_name out); /* of this process; never empty */
extern const rm_comm_ops rm_comm_self, rm_comm_mpi, rm_comm_nccl;
#endif
