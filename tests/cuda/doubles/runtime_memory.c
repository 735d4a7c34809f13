/* The CUDA runtime's double: device and pinned memory. One range of addresses is reserved; a block has pages of its own with a guard
 * page on both sides, and begins 256 bytes into a page, so that nobody relies on more alignment than is promised. New memory is 0xff in
 * every byte (NaN in every type), mapped from one file, so that it takes real memory only where it is written. Freed memory is
 * used again only when the whole part has been used once. */
#define _GNU_SOURCE
#include "tests/cuda/doubles/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 256, MOST_BLOCKS = 1 << 20, MOST_REGISTERED = 256 };
static const size_t PATTERN = (size_t)4 << 20;

uintptr_t dbl_lo, dbl_hi;
uint32_t *dbl_owner;
dbl_block *dbl_blocks;
static size_t n_blocks;
static size_t part_bytes = (size_t)1 << 38, next_page[DBL_PARTS], used_bytes[DBL_PARTS];
static int pattern = -1;
static struct {
    uintptr_t lo, hi;
} registered[MOST_REGISTERED];

static void *reserve(size_t bytes, int protection)
{
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool make_pattern(void)
{
    pattern = memfd_create("doubles", MFD_CLOEXEC);
    if (pattern < 0 || ftruncate(pattern, (off_t)PATTERN)) return false;
    void *p = mmap(NULL, PATTERN, PROT_READ | PROT_WRITE, MAP_SHARED, pattern, 0);
    if (p == MAP_FAILED) return false;
    memset(p, 0xff, PATTERN);
    munmap(p, PATTERN);
    return true;
}

static bool ready(void)
{
    if (dbl_lo) return true;
    const char *gib = getenv("RM_DOUBLES_SPACE");
    if (gib && atoi(gib) > 0) part_bytes = (size_t)atoi(gib) << 30;
    void *range = reserve(part_bytes * DBL_PARTS, PROT_NONE);
    dbl_owner = reserve(part_bytes * DBL_PARTS / DBL_PAGE * sizeof *dbl_owner, PROT_READ | PROT_WRITE);
    dbl_blocks = reserve(MOST_BLOCKS * sizeof *dbl_blocks, PROT_READ | PROT_WRITE);
    if (!range || !dbl_owner || !dbl_blocks || !make_pattern()) return false;
    dbl_lo = (uintptr_t)range;
    dbl_hi = dbl_lo + part_bytes * DBL_PARTS;
    return true;
}

/* ---- blocks */
static size_t pages_of(size_t bytes) { return (bytes + ALIGN + DBL_PAGE - 1) / DBL_PAGE; }
static uint32_t *owner_of(int part, size_t page) { return &dbl_owner[(size_t)part * (part_bytes / DBL_PAGE) + page]; }

/* The first page of `n` that no live block has, from where the last search ended; 0: there are none. */
static size_t find_pages(int part, size_t n)
{
    const size_t end = part_bytes / DBL_PAGE - 1;
    for (int turn = 0; turn < 2; turn++) {
        size_t run = 0;
        for (size_t page = next_page[part] ? next_page[part] : 1; page < end; page++) {
            const uint32_t owner = *owner_of(part, page);
            run = owner && dbl_blocks[owner - 1].live ? 0 : run + 1;
            if (run == n) return page + 1 - n;
        }
        next_page[part] = 1;
    }
    return 0;
}

static bool map_pattern(char *p, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PATTERN) {
        const size_t n = bytes - at < PATTERN ? bytes - at : PATTERN;
        if (mmap(p + at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, pattern, 0) == MAP_FAILED) return false;
    }
    return true;
}

static void *block_new(int part, size_t bytes)
{
    static uint64_t numbers;
    if (!ready() || n_blocks == MOST_BLOCKS) return NULL;
    const size_t pages = pages_of(bytes), page = find_pages(part, pages + 2);
    char *p = (char *)dbl_lo + (size_t)part * part_bytes + (page + 1) * DBL_PAGE;
    if (!page || !map_pattern(p, pages * DBL_PAGE)) return NULL;
    next_page[part] = page + pages + 1; /* the guard page behind is the next block's guard page in front */
    const uintptr_t lo = (uintptr_t)p + ALIGN;
    dbl_blocks[n_blocks++] = (dbl_block){ lo, lo + bytes, part, true, ++numbers };
    for (size_t i = page; i < page + pages + 2; i++) *owner_of(part, i) = (uint32_t)n_blocks;
    used_bytes[part] += pages * DBL_PAGE;
    dbl_born(1);
    return (void *)lo;
}

static dbl_block *block_of(const void *p)
{
    dbl_block *b = dbl_ours(p) ? dbl_block_at((uintptr_t)p) : NULL;
    return b && b->live && b->lo == (uintptr_t)p ? b : NULL;
}

static void block_end(dbl_block *b)
{
    const size_t bytes = pages_of(b->hi - b->lo) * DBL_PAGE;
    dbl_block_freed(b);
    b->live = false;
    dbl_born(-1);
    mmap((void *)(b->lo - ALIGN), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    used_bytes[b->part] -= bytes;
}

dbl_space dbl_space_of(const void *p, size_t bytes, int *out_part)
{
    *out_part = DBL_PINNED;
    const uintptr_t at = (uintptr_t)p;
    if (dbl_ours(p)) {
        const dbl_block *b = dbl_block_at(at);
        if (!b || !b->live || at < b->lo || at > b->hi || bytes > b->hi - at) return DBL_NOWHERE;
        *out_part = b->part;
        return b->part == DBL_PINNED ? DBL_PINNED_SPACE : DBL_DEVICE;
    }
    for (int i = 0; i < MOST_REGISTERED; i++)
        if (at >= registered[i].lo && at + bytes <= registered[i].hi) return DBL_PINNED_SPACE;
    return DBL_PAGEABLE;
}

void dbl_place(const void *p, char *text, size_t size)
{
    const dbl_block *b = dbl_ours(p) ? dbl_block_at((uintptr_t)p) : NULL;
    if (!b) {
        snprintf(text, size, "%p", p);
        return;
    }
    snprintf(text, size, "byte %td of %s%s block %llu (%zu bytes)", (ptrdiff_t)((uintptr_t)p - b->lo), b->live ? "" : "freed ",
             b->part == DBL_PINNED ? "pinned" : "device", (unsigned long long)b->number, (size_t)(b->hi - b->lo));
}

/* ---- the calls */
static cudaError_t take(int part, size_t limit, void **out_p, size_t bytes)
{
    static uint64_t taken;
    void *p = NULL;
    if (!out_p) return cudaErrorInvalidValue;
    *out_p = NULL;
    if (!dbl_gpu_count()) return cudaErrorNoDevice;
    if (!bytes) return cudaSuccess;
    const bool fault = ++taken == dbl_fault("malloc");
    if (!fault && bytes <= limit && used_bytes[part] <= limit - bytes) p = block_new(part, bytes);
    *out_p = p;
    return p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t CUDARTAPI cudaMalloc(void **p, size_t bytes)
{
    dbl_lock();
    cudaError_t e = dbl_unsafe();
    if (e == cudaSuccess) e = take(dbl_current(), dbl_gpu_described()->memory_bytes, p, bytes);
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaHostAlloc(void **p, size_t bytes, unsigned int flags)
{
    dbl_lock();
    cudaError_t e = dbl_unsafe();
    if (e == cudaSuccess) e = take(DBL_PINNED, part_bytes / 2, p, bytes);
    dbl_unlock();
    return dbl_said(e);
}
cudaError_t CUDARTAPI cudaMallocHost(void **p, size_t bytes) { return cudaHostAlloc(p, bytes, cudaHostAllocDefault); }

static cudaError_t give(void *p, bool pinned)
{
    if (!p) return cudaSuccess;
    dbl_block *b = block_of(p);
    if (!b || (b->part == DBL_PINNED) != pinned) return cudaErrorInvalidValue;
    block_end(b);
    return cudaSuccess;
}

static cudaError_t free_any(void *p, bool pinned)
{
    dbl_lock();
    cudaError_t e = dbl_unsafe();
    if (e == cudaSuccess) e = give(p, pinned);
    dbl_unlock();
    return dbl_said(e);
}
cudaError_t CUDARTAPI cudaFree(void *p) { return free_any(p, false); }
cudaError_t CUDARTAPI cudaFreeHost(void *p) { return free_any(p, true); }

cudaError_t CUDARTAPI cudaHostRegister(void *p, size_t bytes, unsigned int flags)
{
    cudaError_t e = cudaErrorMemoryAllocation;
    if (!p || !bytes) return dbl_said(cudaErrorInvalidValue);
    dbl_lock();
    for (int i = 0; i < MOST_REGISTERED; i++)
        if (registered[i].hi > (uintptr_t)p && registered[i].lo < (uintptr_t)p + bytes) e = cudaErrorHostMemoryAlreadyRegistered;
    for (int i = 0; i < MOST_REGISTERED && e == cudaErrorMemoryAllocation; i++)
        if (!registered[i].hi) {
            registered[i].lo = (uintptr_t)p;
            registered[i].hi = (uintptr_t)p + bytes;
            e = cudaSuccess;
        }
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaHostUnregister(void *p)
{
    cudaError_t e = cudaErrorHostMemoryNotRegistered;
    dbl_lock();
    for (int i = 0; i < MOST_REGISTERED; i++)
        if (registered[i].hi && registered[i].lo == (uintptr_t)p) {
            registered[i].lo = registered[i].hi = 0;
            e = cudaSuccess;
        }
    dbl_unlock();
    return dbl_said(e);
}

cudaError_t CUDARTAPI cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    if (!dbl_gpu_count()) return dbl_said(cudaErrorNoDevice);
    dbl_lock();
    *total_bytes = dbl_gpu_described()->memory_bytes;
    *free_bytes = *total_bytes - used_bytes[dbl_current()];
    dbl_unlock();
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
    int part = 0;
    dbl_lock();
    const dbl_space s = dbl_space_of(p, 0, &part);
    dbl_unlock();
    *a = (struct cudaPointerAttributes){ .type = s == DBL_DEVICE ? cudaMemoryTypeDevice : s == DBL_PINNED_SPACE ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered,
                                         .device = s == DBL_DEVICE ? part : -2 };
    if (s == DBL_DEVICE || s == DBL_PINNED_SPACE) a->devicePointer = (void *)(uintptr_t)p;
    if (s == DBL_PINNED_SPACE || s == DBL_PAGEABLE) a->hostPointer = (void *)(uintptr_t)p;
    return dbl_said(cudaSuccess);
}
