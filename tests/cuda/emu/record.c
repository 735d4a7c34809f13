/* Launches as files: what ptx.py needs to do them again. Little-endian, in this order: "EMU1"; u64 address of the kernel in its
 * library; u32 grid[3], block[3]; u32 dynamic shared bytes; u32 parameter bytes, parameters; u32 pointers, each u32 offset and
 * u32 type; u32 allocations, each u64 address and u64 bytes; their contents before, then after. */
#define _GNU_SOURCE
#include "tests/cuda/emu/internal.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char folder[256];
    unsigned n;
    FILE *file;
} record;

void emu_record(const char *folder)
{
    snprintf(record.folder, sizeof record.folder, "%s", folder ? folder : "");
    record.n = 0;
}

static void put(const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, record.file) == bytes) return;
    perror(record.folder);
    abort();
}

static void put_u32(uint32_t v) { put(&v, sizeof v); }
static void put_u64(uint64_t v) { put(&v, sizeof v); }
static void count_one(void *n, const void *p, size_t bytes) { ++*(uint32_t *)n; }
static void put_contents(void *state, const void *p, size_t bytes) { put(p, bytes); }
static void put_range(void *state, const void *p, size_t bytes)
{
    put_u64((uintptr_t)p);
    put_u64(bytes);
}

void emu_record_before(const void *kernel, const emu_shape *shape, const emu_params *params)
{
    char path[300];
    Dl_info info;
    uint32_t n = 0;
    if (!record.folder[0]) return;
    snprintf(path, sizeof path, "%s/%06u.launch", record.folder, record.n++);
    record.file = fopen(path, "wb");
    if (!record.file || !dladdr(kernel, &info)) {
        perror(path);
        abort();
    }
    put("EMU1", 4);
    put_u64((uintptr_t)kernel - (uintptr_t)info.dli_fbase);
    put(&shape->grid, sizeof shape->grid);
    put(&shape->block, sizeof shape->block);
    put_u32((uint32_t)shape->smem);
    put_u32(params->bytes);
    put(params->data, params->bytes);
    put_u32(params->pointers);
    for (uint32_t i = 0; i < params->pointers; i++) {
        put_u32(params->pointer[i].at);
        put_u32((uint32_t)params->pointer[i].to);
    }
    emu_mem_each(count_one, &n);
    put_u32(n);
    emu_mem_each(put_range, NULL);
    emu_mem_each(put_contents, NULL);
}

void emu_record_after(void)
{
    if (!record.folder[0]) return;
    emu_mem_each(put_contents, NULL);
    if (fclose(record.file) != 0) abort();
}
