/* CUPTI's activity buffers filled by hand, with its own structs. */
#ifndef CUPTI_BUFFER_H
#define CUPTI_BUFFER_H
#include "profiler/cupti.h"
#include <cupti.h>
#include <string.h>

typedef struct cupti_buffer { _Alignas(8) uint8_t bytes[8192]; size_t n; } cupti_buffer;

static inline void *cupti_put(cupti_buffer *b, size_t bytes)
{
    RM_ASSERT(b->n + bytes <= sizeof b->bytes);
    void *at = b->bytes + b->n;
    memset(at, 0, bytes);
    b->n += bytes;
    return at;
}

static inline CUpti_ActivityKernel10 *cupti_put_kernel(cupti_buffer *b, const char *name, uint32_t correlation, uint32_t stream, uint64_t start, uint64_t end)
{
    CUpti_ActivityKernel10 *k = cupti_put(b, sizeof *k);
    k->kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    k->name = name;
    k->correlationId = correlation;
    k->streamId = stream;
    k->start = start;
    k->end = end;
    return k;
}

/* Page-locked memory to the device. */
static inline CUpti_ActivityMemcpy6 *cupti_put_copy(cupti_buffer *b, uint32_t correlation, uint32_t runtime, uint32_t stream, uint64_t start, uint64_t end, uint64_t bytes)
{
    CUpti_ActivityMemcpy6 *m = cupti_put(b, sizeof *m);
    m->kind = CUPTI_ACTIVITY_KIND_MEMCPY;
    m->copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_HTOD;
    m->srcKind = CUPTI_ACTIVITY_MEMORY_KIND_PINNED;
    m->dstKind = CUPTI_ACTIVITY_MEMORY_KIND_DEVICE;
    m->correlationId = correlation;
    m->runtimeCorrelationId = runtime;
    m->streamId = stream;
    m->start = start;
    m->end = end;
    m->bytes = bytes;
    m->copyCount = 1;
    return m;
}

static inline CUpti_ActivityMemset4 *cupti_put_fill(cupti_buffer *b, uint32_t correlation, uint32_t stream, uint64_t start, uint64_t end, uint64_t bytes)
{
    CUpti_ActivityMemset4 *m = cupti_put(b, sizeof *m);
    m->kind = CUPTI_ACTIVITY_KIND_MEMSET;
    m->memoryKind = CUPTI_ACTIVITY_MEMORY_KIND_DEVICE;
    m->correlationId = correlation;
    m->streamId = stream;
    m->start = start;
    m->end = end;
    m->bytes = bytes;
    return m;
}

static inline void cupti_put_call(cupti_buffer *b, CUpti_ActivityKind kind, CUpti_CallbackId call, uint32_t correlation, uint64_t start, uint64_t end)
{
    CUpti_ActivityAPI *a = cupti_put(b, sizeof *a);
    a->kind = kind;
    a->cbid = call;
    a->correlationId = correlation;
    a->start = start;
    a->end = end;
}

static inline CUpti_ActivityExternalCorrelation *cupti_put_pushed(cupti_buffer *b, uint32_t correlation, rm_cupti_part part, uint32_t index)
{
    CUpti_ActivityExternalCorrelation *x = cupti_put(b, sizeof *x);
    x->kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION;
    x->externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
    x->externalId = (uint64_t)part << 32 | index;
    x->correlationId = correlation;
    return x;
}

static inline void cupti_put_overhead(cupti_buffer *b, CUpti_ActivityOverheadKind kind, uint64_t start, uint64_t end)
{
    CUpti_ActivityOverhead3 *o = cupti_put(b, sizeof *o);
    o->kind = CUPTI_ACTIVITY_KIND_OVERHEAD;
    o->overheadKind = kind;
    o->start = start;
    o->end = end;
}
#endif
