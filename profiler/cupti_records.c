#include "profiler/cupti_records.h"
#include "profiler/kernel_name.h"
#include <cupti.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rm_status nomem(void) { return rm_fail(RM_E_NOMEM, "out of memory for what the GPU ran; trace fewer steps"); }

/* Room for one more of `size` bytes; the arrays keep their room from step to step. */
static void *grown(void *at, size_t n, size_t *room, size_t size)
{
    if (n < *room) return at;
    const size_t more = *room ? 2 * *room : 256;
    void *p = realloc(at, more * size);
    if (p) *room = more;
    return p;
}

/* ---- names */
/* key: of a kernel, CUPTI's pointer to its symbol, the same as long as it is the same kernel; where code was unloaded another may take its place.
 * NULL: what we name ourselves. */
static rm_status name_of(rm_cupti_log *log, const void *key, const char *text, uint32_t *out)
{
    for (uint32_t i = 0; i < log->n_text; i++)
        if (log->text[i].key == key && !strcmp(log->text[i].symbol, text)) {
            *out = i;
            return RM_OK;
        }
    char shown[256];
    if (key) rm_kernel_name(text, shown, sizeof shown);
    else snprintf(shown, sizeof shown, "%s", text);
    rm_cupti_text *grew = grown(log->text, log->n_text, &log->room_text, sizeof *grew);
    if (!grew) return nomem();
    log->text = grew;
    const rm_cupti_text t = { key, strdup(text), strdup(shown) };
    log->text[log->n_text++] = t; /* freed with the rest, whole or not */
    if (!t.symbol || !t.shown) {
        free(t.symbol);
        free(t.shown);
        log->n_text--;
        return nomem();
    }
    *out = log->n_text - 1;
    return RM_OK;
}

static const char *memory_name(unsigned kind)
{
    static const char *const names[] = {
        [CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE] = "Pageable",
        [CUPTI_ACTIVITY_MEMORY_KIND_PINNED] = "Pinned",
        [CUPTI_ACTIVITY_MEMORY_KIND_DEVICE] = "Device",
        [CUPTI_ACTIVITY_MEMORY_KIND_ARRAY] = "Array",
        [CUPTI_ACTIVITY_MEMORY_KIND_MANAGED] = "Managed",
        [CUPTI_ACTIVITY_MEMORY_KIND_DEVICE_STATIC] = "Device Static",
        [CUPTI_ACTIVITY_MEMORY_KIND_MANAGED_STATIC] = "Managed Static",
    };
    return kind < RM_COUNT(names) && names[kind] ? names[kind] : "Unknown";
}

static const char *copy_name(unsigned kind)
{
    static const char *const names[] = {
        [CUPTI_ACTIVITY_MEMCPY_KIND_HTOD] = "HtoD", [CUPTI_ACTIVITY_MEMCPY_KIND_DTOH] = "DtoH", [CUPTI_ACTIVITY_MEMCPY_KIND_HTOA] = "HtoA",
        [CUPTI_ACTIVITY_MEMCPY_KIND_ATOH] = "AtoH", [CUPTI_ACTIVITY_MEMCPY_KIND_ATOA] = "AtoA", [CUPTI_ACTIVITY_MEMCPY_KIND_ATOD] = "AtoD",
        [CUPTI_ACTIVITY_MEMCPY_KIND_DTOA] = "DtoA", [CUPTI_ACTIVITY_MEMCPY_KIND_DTOD] = "DtoD", [CUPTI_ACTIVITY_MEMCPY_KIND_HTOH] = "HtoH",
        [CUPTI_ACTIVITY_MEMCPY_KIND_PTOP] = "PtoP",
    };
    return kind < RM_COUNT(names) && names[kind] ? names[kind] : "Unknown";
}

/* "cudaLaunchKernel_v7000" is "cudaLaunchKernel". */
static rm_status call_name(rm_cupti_log *log, const CUpti_ActivityAPI *a, uint32_t *out)
{
    const bool driver = a->kind == CUPTI_ACTIVITY_KIND_DRIVER;
    const char *name = NULL;
    char plain[128];
    if (cuptiGetCallbackName(driver ? CUPTI_CB_DOMAIN_DRIVER_API : CUPTI_CB_DOMAIN_RUNTIME_API, a->cbid, &name) != CUPTI_SUCCESS || !name)
        name = driver ? "driver call" : "runtime call";
    snprintf(plain, sizeof plain, "%s", name);
    char *version = strstr(plain, "_v");
    if (version && isdigit((unsigned char)version[2])) *version = '\0';
    return name_of(log, NULL, plain, out);
}

static const char *overhead_name(CUpti_ActivityOverheadKind kind)
{
    static const struct {
        CUpti_ActivityOverheadKind kind;
        const char *name;
    } rows[] = {
        { CUPTI_ACTIVITY_OVERHEAD_DRIVER_COMPILER, "driver compiles" },
        { CUPTI_ACTIVITY_OVERHEAD_CUPTI_BUFFER_FLUSH, "CUPTI flushes a buffer" },
        { CUPTI_ACTIVITY_OVERHEAD_CUPTI_INSTRUMENTATION, "CUPTI instruments" },
        { CUPTI_ACTIVITY_OVERHEAD_CUPTI_RESOURCE, "CUPTI makes or ends a resource" },
        { CUPTI_ACTIVITY_OVERHEAD_RUNTIME_TRIGGERED_MODULE_LOADING, "runtime loads a module" },
        { CUPTI_ACTIVITY_OVERHEAD_LAZY_FUNCTION_LOADING, "function is loaded" },
        { CUPTI_ACTIVITY_OVERHEAD_COMMAND_BUFFER_FULL, "command buffer is full" },
        { CUPTI_ACTIVITY_OVERHEAD_ACTIVITY_BUFFER_REQUEST, "CUPTI asks for a buffer" },
        { CUPTI_ACTIVITY_OVERHEAD_UVM_ACTIVITY_INIT, "managed memory begins to be watched" },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++)
        if (rows[i].kind == kind) return rows[i].name;
    return "overhead";
}

/* ---- reading a buffer */
static rm_status add(rm_cupti_log *log, const rm_cupti_raw *r)
{
    rm_cupti_raw *grew = grown(log->raw, log->n_raw, &log->room_raw, sizeof *grew);
    if (!grew) return nomem();
    log->raw = grew;
    log->raw[log->n_raw++] = *r;
    return RM_OK;
}

static bool timed(const rm_cupti_record *r) { return r->begin_ns || r->end_ns; }

static rm_status add_work(rm_cupti_log *log, const rm_cupti_raw *r)
{
    if (timed(&r->record)) return add(log, r);
    log->untimed++;
    return RM_OK;
}

static rm_status read_kernel(rm_cupti_log *log, const CUpti_Activity *a)
{
    const CUpti_ActivityKernel10 *k = (const void *)a;
    rm_cupti_raw r = { .record = { .kind = RM_CUPTI_KERNEL,
                                   .device = k->deviceId,
                                   .stream = k->streamId,
                                   .correlation = k->correlationId,
                                   .begin_ns = k->start,
                                   .end_ns = k->end,
                                   .graph_node = k->graphNodeId } };
    RM_TRY(name_of(log, k->name, k->name ? k->name : "(no name)", &r.record.name));
    return add_work(log, &r);
}

static rm_status read_copy(rm_cupti_log *log, const CUpti_Activity *a)
{
    const CUpti_ActivityMemcpy6 *m = (const void *)a;
    char name[96];
    rm_cupti_raw r = { .record = { .kind = RM_CUPTI_COPY,
                                   .device = m->deviceId,
                                   .stream = m->streamId,
                                   .correlation = m->correlationId,
                                   .begin_ns = m->start,
                                   .end_ns = m->end,
                                   .graph_node = m->graphNodeId,
                                   .bytes = m->bytes },
                       .host = m->runtimeCorrelationId };
    snprintf(name, sizeof name, "Memcpy %s (%s -> %s)", copy_name(m->copyKind), memory_name(m->srcKind), memory_name(m->dstKind));
    RM_TRY(name_of(log, NULL, name, &r.record.name));
    return add_work(log, &r);
}

static rm_status read_fill(rm_cupti_log *log, const CUpti_Activity *a)
{
    const CUpti_ActivityMemset4 *m = (const void *)a;
    char name[96];
    rm_cupti_raw r = { .record = { .kind = RM_CUPTI_FILL,
                                   .device = m->deviceId,
                                   .stream = m->streamId,
                                   .correlation = m->correlationId,
                                   .begin_ns = m->start,
                                   .end_ns = m->end,
                                   .graph_node = m->graphNodeId,
                                   .bytes = m->bytes } };
    snprintf(name, sizeof name, "Memset (%s)", memory_name(m->memoryKind));
    RM_TRY(name_of(log, NULL, name, &r.record.name));
    return add_work(log, &r);
}

static rm_status read_call(rm_cupti_log *log, const CUpti_Activity *a)
{
    const CUpti_ActivityAPI *c = (const void *)a;
    rm_cupti_raw r = { .record = { .kind = RM_CUPTI_LAUNCH, .correlation = c->correlationId, .begin_ns = c->start, .end_ns = c->end } };
    if (!timed(&r.record)) return RM_OK;
    RM_TRY(call_name(log, c, &r.record.name));
    return add(log, &r);
}

static rm_status read_overhead(rm_cupti_log *log, const CUpti_Activity *a)
{
    const CUpti_ActivityOverhead3 *o = (const void *)a;
    rm_cupti_raw r = { .record = { .kind = RM_CUPTI_OVERHEAD, .begin_ns = o->start, .end_ns = o->end } };
    free(o->overheadData); /* ours, says the header */
    if (!timed(&r.record)) return RM_OK;
    RM_TRY(name_of(log, NULL, overhead_name(o->overheadKind), &r.record.name));
    return add(log, &r);
}

static rm_status read_pushed(rm_cupti_log *log, const CUpti_Activity *a)
{
    const CUpti_ActivityExternalCorrelation *x = (const void *)a;
    if (x->externalKind != CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0) return RM_OK;
    rm_cupti_pushed *grew = grown(log->pushed, log->n_pushed, &log->room_pushed, sizeof *grew);
    if (!grew) return nomem();
    log->pushed = grew;
    log->pushed[log->n_pushed++] = (rm_cupti_pushed) { x->correlationId, { (rm_cupti_part)(x->externalId >> 32), (uint32_t)x->externalId } };
    return RM_OK;
}

typedef struct row {
    CUpti_ActivityKind kind;
    size_t bytes;
    rm_status (*read)(rm_cupti_log *log, const CUpti_Activity *a);
} row;

static const row *row_of(CUpti_ActivityKind kind)
{
    static const row rows[] = {
        { CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, sizeof(CUpti_ActivityKernel10), read_kernel },
        { CUPTI_ACTIVITY_KIND_MEMCPY, sizeof(CUpti_ActivityMemcpy6), read_copy },
        { CUPTI_ACTIVITY_KIND_MEMSET, sizeof(CUpti_ActivityMemset4), read_fill },
        { CUPTI_ACTIVITY_KIND_RUNTIME, sizeof(CUpti_ActivityAPI), read_call },
        { CUPTI_ACTIVITY_KIND_DRIVER, sizeof(CUpti_ActivityAPI), read_call },
        { CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, sizeof(CUpti_ActivityExternalCorrelation), read_pushed },
        { CUPTI_ACTIVITY_KIND_OVERHEAD, sizeof(CUpti_ActivityOverhead3), read_overhead },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++)
        if (rows[i].kind == kind) return &rows[i];
    return NULL;
}

/* CUPTI calls half a record the end of the buffer. It is half a record where something comes after the last whole one. */
static bool is_cut(const uint8_t *from, const uint8_t *end)
{
    for (; from < end; from++)
        if (*from) return true;
    return false;
}

rm_status rm_cupti_log_read(rm_cupti_log *log, uint8_t *buffer, size_t bytes)
{
    CUpti_Activity *a = NULL;
    const uint8_t *end = buffer;
    CUptiResult r;
    while ((r = cuptiActivityGetNextRecord(buffer, bytes, &a)) == CUPTI_SUCCESS) {
        const row *k = row_of(a->kind);
        end = k ? (const uint8_t *)a + k->bytes : NULL;
        if (k) RM_TRY(k->read(log, a));
    }
    log->cut += r != CUPTI_ERROR_MAX_LIMIT_REACHED || (end && is_cut(end, buffer + bytes));
    return RM_OK;
}

/* ---- a step of what was read */
uint64_t rm_cupti_now(const rm_cupti_clock *c, uint64_t raw_ns)
{
    const int64_t d = (int64_t)(raw_ns - c->before.raw_ns);
    const double raw = (double)(int64_t)(c->after.raw_ns - c->before.raw_ns), now = (double)(int64_t)(c->after.now_ns - c->before.now_ns);
    const double drift = raw > 0 ? (now - raw) / raw : 0;
    return c->before.now_ns + (uint64_t)(d + (int64_t)((double)d * drift));
}

static int by_pushed(const void *a, const void *b)
{
    const uint32_t x = ((const rm_cupti_pushed *)a)->correlation, y = ((const rm_cupti_pushed *)b)->correlation;
    return (x > y) - (x < y);
}

static rm_cupti_of of_correlation(const rm_cupti_log *log, uint32_t correlation)
{
    const rm_cupti_pushed key = { .correlation = correlation };
    const rm_cupti_pushed *p = correlation && log->n_pushed ? bsearch(&key, log->pushed, log->n_pushed, sizeof key, by_pushed) : NULL;
    return p ? p->of : (rm_cupti_of) { RM_CUPTI_NO_PART, 0 };
}

/* Calls first, by correlation, the outermost of each first (the runtime's call has the driver's in it); then the rest. */
static int by_call(const void *a, const void *b)
{
    const rm_cupti_record *x = &((const rm_cupti_raw *)a)->record, *y = &((const rm_cupti_raw *)b)->record;
    const int other = (y->kind == RM_CUPTI_LAUNCH) - (x->kind == RM_CUPTI_LAUNCH);
    if (other) return other;
    if (x->correlation != y->correlation) return x->correlation < y->correlation ? -1 : 1;
    return (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

static rm_cupti_raw *call_of(const rm_cupti_log *log, size_t n_call, uint32_t correlation)
{
    size_t from = 0, to = n_call;
    while (from < to) {
        const size_t middle = (from + to) / 2;
        if (log->raw[middle].record.correlation < correlation) from = middle + 1;
        else to = middle;
    }
    return correlation && from < n_call && log->raw[from].record.correlation == correlation ? &log->raw[from] : NULL;
}

/* Finds the call and the part of a piece of work. */
static void attribute(const rm_cupti_log *log, size_t n_call, rm_cupti_raw *w)
{
    rm_cupti_raw *call = call_of(log, n_call, w->host);
    rm_cupti_record *r = &w->record;
    rm_cupti_of of = of_correlation(log, r->correlation);
    if (!of.part) of = of_correlation(log, w->host);
    if (!call) call = call_of(log, n_call, r->correlation);
    if (call) {
        r->correlation = call->record.correlation;
        call->host = 1; /* it launched something */
        if (!r->graph_node) call->record.of = of;
    }
    if (!r->graph_node) r->of = of;
}

static int by_time(const void *a, const void *b)
{
    const rm_cupti_record *x = a, *y = b;
    if (x->begin_ns != y->begin_ns) return x->begin_ns < y->begin_ns ? -1 : 1;
    if (x->kind != y->kind) return (y->kind == RM_CUPTI_LAUNCH) - (x->kind == RM_CUPTI_LAUNCH);
    return (x->correlation > y->correlation) - (x->correlation < y->correlation);
}

static void take(const rm_cupti_log *log, const rm_cupti_clock *clock, const rm_cupti_raw *raw, rm_cupti_step *s)
{
    rm_cupti_record r = raw->record;
    if (r.kind == RM_CUPTI_LAUNCH && !raw->host) return;
    r.begin_ns = rm_cupti_now(clock, r.begin_ns);
    r.end_ns = rm_cupti_now(clock, r.end_ns);
    if (r.end_ns < r.begin_ns) r.end_ns = r.begin_ns;
    if (r.kind == RM_CUPTI_OVERHEAD) s->overhead_ns += r.end_ns - r.begin_ns;
    s->unattributed += r.kind == RM_CUPTI_KERNEL && !r.of.part;
    log->step[s->n++] = r;
}

rm_status rm_cupti_log_step(rm_cupti_log *log, const rm_cupti_clock *clock, rm_cupti_step *out)
{
    rm_cupti_step s = { .untimed = log->untimed, .cut = log->cut };
    size_t n_call = 0;
    if (log->n_raw > log->room_step) {
        rm_cupti_record *more = realloc(log->step, log->room_raw * sizeof *more);
        if (!more) return nomem();
        log->step = more;
        log->room_step = log->room_raw;
    }
    if (log->n_pushed) qsort(log->pushed, log->n_pushed, sizeof *log->pushed, by_pushed);
    if (log->n_raw) qsort(log->raw, log->n_raw, sizeof *log->raw, by_call);
    while (n_call < log->n_raw && log->raw[n_call].record.kind == RM_CUPTI_LAUNCH) n_call++;
    for (size_t i = n_call; i < log->n_raw; i++) attribute(log, n_call, &log->raw[i]);
    for (size_t i = 0; i < log->n_raw; i++) take(log, clock, &log->raw[i], &s);
    if (s.n) qsort(log->step, s.n, sizeof *log->step, by_time);
    s.at = log->step;
    log->n_raw = log->n_pushed = 0;
    log->untimed = log->cut = 0;
    *out = s;
    return RM_OK;
}

void rm_cupti_log_free(rm_cupti_log *log)
{
    for (uint32_t i = 0; i < log->n_text; i++) {
        free(log->text[i].symbol);
        free(log->text[i].shown);
    }
    free(log->text);
    free(log->raw);
    free(log->pushed);
    free(log->step);
    memset(log, 0, sizeof *log);
}
