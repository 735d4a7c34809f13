/* What the processes of one communicator of the NCCL double share: a segment of memory, in which each tells which collective it is in and puts its
 * data, a chunk at a time. Nothing here waits. Threads: one at a time for each rank, but for dbl_nccl_abort() and dbl_nccl_aborted(). */
#ifndef DBL_NCCL_SHARED_H
#define DBL_NCCL_SHARED_H
#include <nccl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dbl_nccl_what { DBL_NCCL_ALL_REDUCE, DBL_NCCL_BROADCAST } dbl_nccl_what;
typedef struct dbl_nccl_op {
    const char *name;                       /* of the kernel */
    const void *send;
    void *recv;
    size_t count, bytes;
    ncclDataType_t type;
    int root;
    dbl_nccl_what what;
} dbl_nccl_op;

typedef struct dbl_nccl_segment dbl_nccl_segment;
typedef struct dbl_nccl_rank {
    dbl_nccl_segment *segment;
    int rank, size;
    uint64_t number, base, put, got;        /* collectives begun; chunks of those that are done, and of this one */
    uint64_t looked_ns;
    atomic_bool aborted;
} dbl_nccl_rank;

bool   dbl_nccl_create(ncclUniqueId *out_id);
bool   dbl_nccl_attach(dbl_nccl_rank *out, const ncclUniqueId *id, int rank, int size, int gpu, bool comes); /* false: the others wait for it */
bool   dbl_nccl_all_here(const dbl_nccl_rank *s);
/* Two ranks on one GPU, in words; false: none. All must be here. */
bool   dbl_nccl_same_gpu(const dbl_nccl_rank *s, char *text, size_t size);
void   dbl_nccl_leave(dbl_nccl_rank *s);    /* in order: it is not missed */
void   dbl_nccl_abort(dbl_nccl_rank *s);
bool   dbl_nccl_aborted(const dbl_nccl_rank *s);
size_t dbl_nccl_type_bytes(ncclDataType_t type);   /* 0: not one of this double's */

/* This rank is in this collective, its next. */
void   dbl_nccl_begin(dbl_nccl_rank *s, const dbl_nccl_op *op);
/* All ranks are in it; or one of them is in a different one, with both sides' words. */
typedef enum dbl_nccl_met { DBL_NCCL_NOT_YET, DBL_NCCL_MET, DBL_NCCL_DIFFERS } dbl_nccl_met;
dbl_nccl_met dbl_nccl_meet(const dbl_nccl_rank *s, char *text, size_t size);
/* Carries what can be carried now; true: all of it. */
bool   dbl_nccl_carry(dbl_nccl_rank *s, const dbl_nccl_op *op);
/* A process that has ended and did not leave, in words; false: none, or not looked again yet. */
bool   dbl_nccl_dead(dbl_nccl_rank *s, char *text, size_t size);
#endif
