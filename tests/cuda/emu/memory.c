/* Device and shared memory, byte by byte: who wrote and read it last, and whether it was ever written. */
#define _GNU_SOURCE
#include "tests/cuda/emu/internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- eras */
static struct {
    uint32_t launch, block, now;
} era; /* the first era of this launch and block; the present one */
void emu_era_launch(void) { era.launch = era.block = ++era.now; }
void emu_era_block(void) { era.block = ++era.now; }
void emu_era_barrier(void) { era.now++; }

/* ---- records */
enum { MANY = 0xffff }; /* more than one thread of the block read it in this era */
typedef struct cell {
    uint32_t write_era, read_era;
    uint32_t other_read, other_write; /* last era of an earlier block than the one that read (wrote, atomically) last */
    uint16_t writer, reader;
    bool known, atomic;
} cell;

/* Shared memory belongs to a block, device memory to a launch: what happened before is in order. */
typedef struct scope {
    uint32_t first;
    emu_checker race, uninitialised;
    bool shared;
} scope;
static scope scope_of(bool shared)
{
    return shared ? (scope) { era.block, EMU_RACE_SHARED, EMU_UNINIT_SHARED, true } : (scope) { era.launch, EMU_RACE_GLOBAL, EMU_UNINIT_GLOBAL, false };
}

static bool earlier_block(const scope *s, uint32_t when) { return when >= s->first && when < era.block; }
static bool unordered(const scope *s, uint32_t when, uint16_t who, uint16_t me)
{
    return earlier_block(s, when) || (when == era.now && when >= s->first && who != me);
}

typedef enum verdict { FINE, AFTER_WRITE, AFTER_READ, UNKNOWN } verdict;

static verdict note_read(const scope *s, cell *c, uint16_t me)
{
    verdict v = FINE;
    bool known = s->shared ? c->write_era >= s->first : c->known;
    if (unordered(s, c->write_era, c->writer, me) || c->other_write >= s->first) v = AFTER_WRITE;
    if (!known) v = UNKNOWN;
    if (earlier_block(s, c->read_era)) c->other_read = c->read_era;
    c->reader = c->read_era == era.now && c->reader != me ? MANY : me;
    c->read_era = era.now;
    return v;
}

static verdict note_write(const scope *s, cell *c, uint16_t me, bool atomic)
{
    verdict v = FINE;
    bool both = atomic && c->atomic;
    if (unordered(s, c->read_era, c->reader, me) || c->other_read >= s->first) v = AFTER_READ;
    if (!both && (unordered(s, c->write_era, c->writer, me) || c->other_write >= s->first)) v = AFTER_WRITE;
    if (atomic && earlier_block(s, c->write_era)) c->other_write = c->write_era;
    c->writer = me;
    c->write_era = era.now;
    c->known = true;
    c->atomic = atomic;
    return v;
}

/* ---- device memory: allocations in one reserved range, pages apart */
enum { PAGE = 4096, ALLOCATIONS = 4096 };
static const size_t HEAP = (size_t)1 << 30;
typedef struct allocation {
    uintptr_t lo;
    size_t bytes;
    cell *cells;
    bool live;
    emu_traffic traffic;
} allocation;
static struct {
    uintptr_t base;
    size_t used;
    int n, live;
    uint16_t *owner; /* of a page: number + 1 */
    allocation list[ALLOCATIONS];
} heap;

static bool heap_ready(void)
{
    if (heap.base) return true;
    void *p = mmap(NULL, HEAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    heap.owner = calloc(HEAP / PAGE, sizeof *heap.owner);
    if (p == MAP_FAILED || !heap.owner) return false;
    heap.base = (uintptr_t)p;
    return true;
}

/* Freed memory is not used again, so that a late access is seen, until nothing is left. */
static void heap_restart(void)
{
    for (int i = 0; i < heap.n; i++) free(heap.list[i].cells);
    memset(heap.owner, 0, HEAP / PAGE * sizeof *heap.owner);
    madvise((void *)heap.base, heap.used, MADV_DONTNEED);
    heap.n = 0;
    heap.used = 0;
}

void *emu_mem_alloc(size_t bytes)
{
    if (!heap_ready()) return NULL;
    if (heap.live == 0 && heap.n > 0) heap_restart();
    size_t pages = (bytes + PAGE - 1) / PAGE, first = heap.used / PAGE + 1, end = first + pages + 1;
    if (heap.n == ALLOCATIONS || end * PAGE > HEAP) return NULL;
    allocation *a = &heap.list[heap.n++];
    *a = (allocation) { .lo = heap.base + first * PAGE, .bytes = bytes, .cells = calloc(bytes ? bytes : 1, sizeof(cell)), .live = true };
    if (!a->cells) {
        heap.n--;
        return NULL;
    }
    for (size_t i = first - 1; i < end; i++) heap.owner[i] = (uint16_t)heap.n; /* with the pages around it, to name it */
    memset((void *)a->lo, 0xff, bytes);
    heap.used = end * PAGE;
    heap.live++;
    return (void *)a->lo;
}

static allocation *allocation_near(uintptr_t p)
{
    if (!heap.base || p < heap.base || p >= heap.base + HEAP) return NULL;
    uint16_t owner = heap.owner[(p - heap.base) / PAGE];
    return owner ? &heap.list[owner - 1] : NULL;
}

bool emu_mem_free(void *p)
{
    allocation *a = allocation_near((uintptr_t)p);
    if (!a || a->lo != (uintptr_t)p || !a->live) return false;
    a->live = false;
    heap.live--;
    return true;
}

static bool within(const allocation *a, uintptr_t p, size_t bytes) { return p >= a->lo && bytes <= a->bytes && p - a->lo <= a->bytes - bytes; }

bool emu_mem_known(const void *ptr, size_t bytes, bool set)
{
    uintptr_t p = (uintptr_t)ptr;
    allocation *a = allocation_near(p);
    if (!a || !a->live || !within(a, p, bytes)) return false;
    cell *c = &a->cells[p - a->lo];
    for (size_t i = 0; i < bytes; i++) {
        if (set) c[i] = (cell) { .known = true };
        else if (!c[i].known) {
            emu_report(EMU_UNINIT_GLOBAL, NULL, "the host copies byte %zu of %zu, which nobody wrote", p - a->lo + i, a->bytes);
            break;
        }
    }
    return true;
}

void emu_mem_each(void (*see)(void *state, const void *p, size_t bytes), void *state)
{
    for (int i = 0; i < heap.n; i++)
        if (heap.list[i].live) see(state, (const void *)heap.list[i].lo, heap.list[i].bytes);
}

emu_traffic emu_traffic_of(const void *p)
{
    allocation *a = allocation_near((uintptr_t)p);
    return a ? a->traffic : (emu_traffic) { 0, 0 };
}

void emu_traffic_clear(void)
{
    for (int i = 0; i < heap.n; i++) heap.list[i].traffic = (emu_traffic) { 0, 0 };
}

/* ---- shared memory: arrays of the running block, a gap between them */
enum { ARRAYS = 16, GAP = 64, ARENA = EMU_SHARED_MAX + ARRAYS * 2 * GAP };
typedef struct array {
    const void *key;
    size_t at, bytes;
} array;
static struct {
    _Alignas(256) char memory[ARENA];
    cell cells[ARENA];
    array list[ARRAYS];
    int n;
    size_t used, bytes;
} shared;

static array *shared_add(const void *key, size_t bytes, size_t align)
{
    size_t at = (shared.used + align - 1) / align * align;
    if (shared.n == ARRAYS || shared.bytes + bytes > EMU_SHARED_MAX) return NULL;
    array *a = &shared.list[shared.n++];
    *a = (array) { key, at, bytes };
    shared.used = at + bytes + GAP;
    shared.bytes += bytes;
    return a;
}

void emu_shared_reset(size_t dyn_bytes)
{
    shared.n = 0;
    shared.used = GAP;
    shared.bytes = 0;
    shared_add(NULL, dyn_bytes, 256);
}

void *emu_dyn_shared(void);
void *emu_shared_array(const void *key, size_t bytes, size_t align);
void *emu_dyn_shared(void) { return shared.memory + shared.list[0].at; }

void *emu_shared_array(const void *key, size_t bytes, size_t align)
{
    for (int i = 1; i < shared.n; i++)
        if (shared.list[i].key == key) return shared.memory + shared.list[i].at;
    array *a = shared_add(key, bytes, align);
    if (!a) {
        emu_report(EMU_LAUNCH, __builtin_return_address(0), "more than %d bytes of shared memory", EMU_SHARED_MAX);
        emu_stop_launch();
        return NULL;
    }
    return shared.memory + a->at;
}

static bool in_arena(uintptr_t p) { return p >= (uintptr_t)shared.memory && p < (uintptr_t)shared.memory + ARENA; }

/* The records of [p, p + bytes) or NULL when that is not within one shared array. */
static cell *shared_cells(uintptr_t p, size_t bytes)
{
    size_t at = p - (uintptr_t)shared.memory;
    for (int i = 0; i < shared.n; i++) {
        const array *a = &shared.list[i];
        if (at >= a->at && bytes <= a->bytes && at - a->at <= a->bytes - bytes) return &shared.cells[at];
    }
    return NULL;
}

/* ---- an access of a running thread */
static const char *const verb[] = { [EMU_READ] = "read", [EMU_WRITE] = "write", [EMU_ATOMIC] = "atomic" };

static void judge_cells(cell *c, size_t bytes, bool is_shared, emu_how how, const void *pc)
{
    const scope s = scope_of(is_shared);
    const uint16_t me = (uint16_t)emu_now.thread;
    for (size_t i = 0; i < bytes; i++) {
        const cell was = c[i];
        verdict v = how == EMU_READ ? note_read(&s, &c[i], me) : note_write(&s, &c[i], me, how == EMU_ATOMIC);
        if (how == EMU_ATOMIC && !(is_shared ? was.write_era >= s.first : was.known)) v = UNKNOWN;
        if (v == FINE) continue;
        if (v == UNKNOWN) emu_report(s.uninitialised, pc, "%s of %zu bytes that nobody wrote", verb[how], bytes);
        else if (v == AFTER_WRITE) emu_report(s.race, pc, "%s of %zu bytes, not in order with the write by thread %d", verb[how], bytes, was.writer);
        else emu_report(s.race, pc, "%s of %zu bytes, not in order with a read by another thread", verb[how], bytes);
        return;
    }
}

static void refuse(emu_checker c, uintptr_t p, size_t bytes, emu_how how, const void *pc)
{
    const allocation *a = allocation_near(p);
    if (c == EMU_HOST_ACCESS) emu_report(c, pc, "%s of %zu bytes outside device memory", verb[how], bytes);
    else if (!a) emu_report(c, pc, "%s of %zu bytes outside every array", verb[how], bytes);
    else emu_report(c, pc, "%s of %zu bytes at %+td of %s%zu bytes", verb[how], bytes, (ptrdiff_t)(p - a->lo), a->live ? "" : "the freed ", a->bytes);
    emu_stop_launch();
}

static cell *find_cells(uintptr_t p, size_t bytes, emu_how how, const void *pc)
{
    cell *c = NULL;
    if (in_arena(p)) {
        c = shared_cells(p, bytes);
        if (!c) refuse(EMU_BOUNDS, p, bytes, how, pc);
        return c;
    }
    allocation *a = allocation_near(p);
    bool device = heap.base && p >= heap.base && p < heap.base + HEAP;
    if (!a || !a->live || !within(a, p, bytes)) {
        refuse(device || !p ? EMU_BOUNDS : EMU_HOST_ACCESS, p, bytes, how, pc);
        return NULL;
    }
    if (how != EMU_WRITE) a->traffic.read_bytes += bytes;
    if (how != EMU_READ) a->traffic.written_bytes += bytes;
    return &a->cells[p - a->lo];
}

void emu_access(uintptr_t p, size_t bytes, emu_how how, const void *pc)
{
    if (!emu_now.kernel || emu_exempt(p, bytes)) return;
    emu_maybe_preempt();
    cell *c = find_cells(p, bytes, how, pc);
    if (!c) return;
    if (p % bytes) emu_report(EMU_MISALIGNED, pc, "%s of %zu bytes at an address that is not a multiple of %zu", verb[how], bytes, bytes);
    judge_cells(c, bytes, in_arena(p), how, pc);
}
