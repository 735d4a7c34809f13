/* What the files of the nccl communicator share; nobody else includes this.
 *
 *   nccl.c         collectives, the table
 *   nccl_open.c    opening and closing
 *   nccl_watch.c   what goes wrong: errors, time-outs, the thread that watches, the end
 *
 * The communicator of NCCL is non-blocking: a call may answer ncclInProgress, and nothing else is called until nccl_settle() has seen it
 * done. Only the watching thread ends it, because ncclCommAbort() and ncclCommDestroy() wait for recordings with all-reduces in them to be
 * freed, which is for the network's thread to do. */
#ifndef RM_COMM_NCCL_PRIVATE_H
#define RM_COMM_NCCL_PRIVATE_H
#include "kernels/comm/comm.h"
#include <nccl.h>
#include <pthread.h>

typedef struct nccl_request {
    rm_request base;
    struct nccl_request *next;      /* in the order of their starts, or of the free list */
    rm_mark *begin, *end;
    uint64_t bytes, number, uses;   /* uses: how often its time was read, thus how often it is known to have ended */
    bool recorded;
} nccl_request;

/* Where gradients lie in bf16 while they travel. Recordings use what they were made with: older ones stay. */
typedef struct nccl_wire { rm_buf *buf; struct nccl_wire *older; } nccl_wire;

/* What has been under way since when, as the watching thread saw it. */
typedef struct nccl_watched { uint64_t number, uses, since_ns; bool announced; } nccl_watched;

typedef struct nccl_comm {
    rm_comm base;
    rm_comm *host;                  /* mpi: everything between hosts */
    pthread_mutex_t host_lock;      /* one thread at a time */
    rm_dtype wire_dtype;
    uint64_t timeout_ns;
    int ordinal;
    rm_queue *queue;
    rm_mark *now;
    nccl_wire *wire;
    nccl_request *free;
    /* under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    ncclComm_t comm;                /* NULL: not yet, or ended */
    nccl_request *live;
    uint64_t started, ended;        /* all-reduces whose end is known */
    bool failed, quit;
    char why[768];
    /* the watching thread */
    pthread_t thread;
    bool running;
    nccl_watched watched;
} nccl_comm;

/* What a wait is for, in words for the user. */
typedef struct nccl_waited { const char *what; uint64_t bytes, number; } nccl_waited;
static inline nccl_comm *nccl_of(rm_comm *c) { return (nccl_comm *)c; }

rm_status nccl_open(const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm) RM_CHECKED;
void      nccl_close(rm_comm *c);
void      nccl_request_free(nccl_comm *m, nccl_request *r);

/* Fails for good, in these words where nothing has failed before, and has the communicator of NCCL aborted. Returns RM_E_PEER with the
 * first failure's words. Any thread, without the lock. */
rm_status nccl_fail(nccl_comm *m, const char *fmt, ...) RM_PRINTF(2, 3);
/* RM_E_PEER with its words once it has failed. */
rm_status nccl_failed(nccl_comm *m) RM_CHECKED;
/* The answer of a call of NCCL on this communicator, ncclInProgress included. Fails for good on errors. */
rm_status nccl_check(nccl_comm *m, ncclResult_t e, const nccl_waited *w) RM_CHECKED;
/* Waits until the last call is done, no longer than the time-out. */
rm_status nccl_settle(nccl_comm *m, const nccl_waited *w) RM_CHECKED;
/* The host waits for a mark, as long as that. */
rm_status nccl_wait_mark(nccl_comm *m, const rm_mark *mark, const nccl_waited *w) RM_CHECKED;
/* Starts the watching thread, which has the communicator of NCCL from then on. */
rm_status nccl_watch_begin(nccl_comm *m) RM_CHECKED;
/* Ends the communicator of NCCL and the thread. False: it does not come back, and what it uses must stay. */
bool      nccl_watch_end(nccl_comm *m);
#endif
