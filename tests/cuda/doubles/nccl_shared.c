#include "tests/cuda/doubles/nccl_shared.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RANKS = 64, CHUNK = 1 << 20, SLOTS = 4, TOLD = 4 /* collectives that are remembered; no rank is two ahead of another */, LOOK_NS = 10000000 };

typedef struct told { uint64_t count; int32_t type, root, what; } told;
typedef struct member {
    atomic_int pid, gpu;
    atomic_bool here, left;
    _Atomic uint64_t number, put, got;      /* collectives begun; chunks over all collectives */
    told told[TOLD];
} member;
struct dbl_nccl_segment {
    atomic_int attached;
    member rank[RANKS];
    _Alignas(64) char data[];               /* [size][SLOTS][CHUNK] */
};

static size_t bytes_of(int size) { return sizeof(dbl_nccl_segment) + (size_t)size * SLOTS * CHUNK; }
static char *slot(const dbl_nccl_rank *s, int rank, uint64_t chunk) { return s->segment->data + ((size_t)rank * SLOTS + chunk % SLOTS) * CHUNK; }
static member *me(const dbl_nccl_rank *s) { return &s->segment->rank[s->rank]; }

/* ---- beginning and end */
static char created[NCCL_UNIQUE_ID_BYTES];
static __attribute__((destructor)) void forget(void)
{
    if (created[0]) shm_unlink(created); /* the last rank to come did so already, where all came */
}

bool dbl_nccl_create(ncclUniqueId *out_id)
{
    static int n;
    ncclUniqueId id = { "" };
    snprintf(id.internal, sizeof id.internal, "/rm-doubles-nccl-%d-%d", (int)getpid(), n++);
    const int f = shm_open(id.internal, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (f < 0) return false;
    const bool fits = ftruncate(f, (off_t)bytes_of(RANKS)) == 0; /* what nobody touches takes no memory */
    close(f);
    memcpy(created, id.internal, sizeof created);
    *out_id = id;
    return fits;
}

bool dbl_nccl_attach(dbl_nccl_rank *out, const ncclUniqueId *id, int rank, int size, int gpu, bool comes)
{
    dbl_nccl_rank s = { .rank = rank, .size = size };
    const int f = size <= RANKS ? shm_open(id->internal, O_RDWR, 0600) : -1;
    bool expected = false;
    if (f < 0) return false;
    void *p = mmap(NULL, bytes_of(size), PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    close(f);
    if (p == MAP_FAILED) return false;
    s.segment = p;
    atomic_store(&me(&s)->pid, (int)getpid());
    atomic_store(&me(&s)->gpu, gpu);
    if (!atomic_compare_exchange_strong(&me(&s)->here, &expected, true)) return false;
    if (comes && atomic_fetch_add(&s.segment->attached, 1) + 1 == size) shm_unlink(id->internal);
    *out = s;
    return true;
}

bool dbl_nccl_all_here(const dbl_nccl_rank *s) { return atomic_load(&s->segment->attached) == s->size; }

bool dbl_nccl_same_gpu(const dbl_nccl_rank *s, char *text, size_t size)
{
    for (int b = 1; b < s->size; b++)
        for (int a = 0; a < b; a++) {
            if (atomic_load(&s->segment->rank[a].gpu) != atomic_load(&s->segment->rank[b].gpu)) continue;
            snprintf(text, size, "Duplicate GPU detected : rank %d and rank %d both on CUDA device %d", a, b, atomic_load(&s->segment->rank[a].gpu));
            return true;
        }
    return false;
}

void dbl_nccl_leave(dbl_nccl_rank *s) { atomic_store(&me(s)->left, true); }
void dbl_nccl_abort(dbl_nccl_rank *s)
{
    atomic_store(&s->aborted, true);
    forget(); /* a process that aborts may not get to its end */
}
bool dbl_nccl_aborted(const dbl_nccl_rank *s) { return atomic_load(&s->aborted); }

/* ---- who is where */
void dbl_nccl_begin(dbl_nccl_rank *s, const dbl_nccl_op *op)
{
    s->base += s->put;
    s->put = s->got = 0;
    s->number++;
    me(s)->told[s->number % TOLD] = (told){ op->count, (int32_t)op->type, op->root, (int32_t)op->what };
    atomic_store(&me(s)->number, s->number);
}

static void describe(int rank, uint64_t number, const told *t, char *text, size_t size)
{
    static const char *const what[] = { [DBL_NCCL_ALL_REDUCE] = "all-reduce (sum)", [DBL_NCCL_BROADCAST] = "broadcast" };
    snprintf(text, size, "rank %d's collective %llu is %s of %llu elements of type %d, root %d", rank, (unsigned long long)number, what[t->what],
             (unsigned long long)t->count, t->type, t->root);
}

dbl_nccl_met dbl_nccl_meet(const dbl_nccl_rank *s, char *text, size_t size)
{
    char mine[120], theirs[120];
    const told *t = &me(s)->told[s->number % TOLD];
    for (int r = 0; r < s->size; r++) {
        const member *m = &s->segment->rank[r];
        if (atomic_load(&m->number) < s->number) return DBL_NCCL_NOT_YET;
        const told *o = &m->told[s->number % TOLD];
        if (o->count == t->count && o->type == t->type && o->root == t->root && o->what == t->what) continue;
        describe(s->rank, s->number, t, mine, sizeof mine);
        describe(r, s->number, o, theirs, sizeof theirs);
        snprintf(text, size, "%s, and %s", mine, theirs);
        return DBL_NCCL_DIFFERS;
    }
    return DBL_NCCL_MET;
}

/* A process that nobody has waited for yet has ended too. */
static bool ended(int pid)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return true;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    const char *state = n ? strrchr(text, ')') : NULL;
    return state && (state[2] == 'Z' || state[2] == 'X');
}

bool dbl_nccl_dead(dbl_nccl_rank *s, char *text, size_t size)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    if (now - s->looked_ns < LOOK_NS) return false;
    s->looked_ns = now;
    for (int r = 0; r < s->size; r++) {
        const member *m = &s->segment->rank[r];
        if (r == s->rank || !atomic_load(&m->here) || atomic_load(&m->left) || !ended(atomic_load(&m->pid))) continue;
        snprintf(text, size, "connection closed by rank %d", r);
        return true;
    }
    return false;
}

/* ---- data */
size_t dbl_nccl_type_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclUint8: return 1;
    case ncclBfloat16: return 2;
    case ncclInt32: case ncclFloat32: return 4;
    case ncclFloat64: return 8;
    default: return 0;
    }
}

static float wide(uint16_t v)
{
    const union { uint32_t u; float f; } x = { .u = (uint32_t)v << 16 };
    return x.f;
}

/* To nearest, ties to even; a NaN stays one. */
static uint16_t narrow(float v)
{
    const union { float f; uint32_t u; } x = { .f = v };
    if (v != v) return (uint16_t)(x.u >> 16 | 0x40);
    return (uint16_t)((x.u + 0x7fff + (x.u >> 16 & 1)) >> 16);
}

#define ADD(T) for (size_t i = 0; i < n; i++) ((T *)to)[i] = (T)(((T *)to)[i] + ((const T *)from)[i])
static void add(void *to, const void *from, size_t n, ncclDataType_t type)
{
    if (type == ncclFloat32) ADD(float);
    else if (type == ncclFloat64) ADD(double);
    else if (type == ncclInt32) ADD(uint32_t);
    else if (type == ncclUint8) ADD(uint8_t);
    else
        for (size_t i = 0; i < n; i++) ((uint16_t *)to)[i] = narrow(wide(((uint16_t *)to)[i]) + wide(((const uint16_t *)from)[i]));
}

/* The ranks from `k` on, around: it is the chunk's number in its collective, so that the same collective has the same order. */
static void sum(const dbl_nccl_rank *s, uint64_t k, uint64_t chunk, void *to, size_t bytes, ncclDataType_t type)
{
    const int first = (int)(k % (uint64_t)s->size);
    memcpy(to, slot(s, first, chunk), bytes);
    for (int i = 1; i < s->size; i++) add(to, slot(s, (first + i) % s->size, chunk), bytes / dbl_nccl_type_bytes(type), type);
}

static bool all_have(const dbl_nccl_rank *s, bool got, uint64_t chunks)
{
    for (int r = 0; r < s->size; r++)
        if (atomic_load(got ? &s->segment->rank[r].got : &s->segment->rank[r].put) < chunks) return false;
    return true;
}

static size_t part(const dbl_nccl_op *op, uint64_t k) { return op->bytes - k * CHUNK < CHUNK ? op->bytes - k * CHUNK : CHUNK; }

/* The first chunk that is not put yet, where every rank is done with what was in its slot. */
static bool put_one(dbl_nccl_rank *s, const dbl_nccl_op *op, uint64_t chunks)
{
    const uint64_t k = s->put, at = s->base + k;
    if (k == chunks || !all_have(s, true, at < SLOTS ? 0 : at - SLOTS + 1)) return false;
    if (op->bytes && (op->what == DBL_NCCL_ALL_REDUCE || op->root == s->rank)) memcpy(slot(s, s->rank, at), (const char *)op->send + k * CHUNK, part(op, k));
    s->put++;
    atomic_store(&me(s)->put, at + 1);
    return true;
}

static bool get_one(dbl_nccl_rank *s, const dbl_nccl_op *op)
{
    const uint64_t k = s->got, at = s->base + k;
    char *to = (char *)op->recv + k * CHUNK;
    if (k == s->put || !all_have(s, false, at + 1)) return false;
    if (op->bytes && op->what == DBL_NCCL_ALL_REDUCE) sum(s, k, at, to, part(op, k), op->type);
    else if (op->bytes) memcpy(to, slot(s, op->root, at), part(op, k));
    s->got++;
    atomic_store(&me(s)->got, at + 1);
    return true;
}

bool dbl_nccl_carry(dbl_nccl_rank *s, const dbl_nccl_op *op)
{
    const uint64_t chunks = op->bytes ? (op->bytes + CHUNK - 1) / CHUNK : 1; /* ranks meet for nothing too */
    for (bool moved = true; moved;) {
        moved = put_one(s, op, chunks);
        moved |= get_one(s, op);
    }
    return s->got == chunks;
}
