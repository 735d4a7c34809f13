/* The checked wrappers over the communicator tables, and what is the same whoever carries the bytes: agreement. */
#include "kernels/comm/comm.h"
#include "base/sha256.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef RM_HAVE_NCCL
#define RM_HAVE_NCCL 0
#endif

/* ---- finding and opening */
#if !RM_HAVE_NCCL
static rm_status nccl_missing(void) { return rm_fail(RM_E_UNSUPPORTED, "nccl: not in this build"); }
static const rm_comm_ops comm_nccl_missing = {
    .abi = RM_COMM_ABI, .name = "nccl", .summary = "NVIDIA GPUs (NCCL)", .available = nccl_missing,
};
#endif

static const rm_comm_ops *const comms[] = {
    &rm_comm_self, &rm_comm_mpi,
#if RM_HAVE_NCCL
    &rm_comm_nccl,
#else
    &comm_nccl_missing,
#endif
    NULL,
};

const rm_comm_ops *const *rm_comm_list(void) { return comms; }

static const char *auto_name(const rm_device *device)
{
    if (rm_world_from_env().size == 1) return "self";
    return RM_HAVE_NCCL && device && !strcmp(rm_device_name(device), "cuda") ? "nccl" : "mpi";
}

static rm_status find_comm(const char *name, const rm_comm_ops **out_ops)
{
    for (size_t i = 0; comms[i]; i++) {
        if (strcmp(name, comms[i]->name) != 0) continue;
        RM_TRY(comms[i]->available());
        *out_ops = comms[i];
        return RM_OK;
    }
    return rm_fail(RM_E_ARG, "unknown communicator \"%s\": use auto, self, mpi or nccl", name);
}

rm_status rm_comm_open(const char *name, const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm)
{
    const rm_comm_ops *ops = NULL;
    rm_comm *c = NULL;
    RM_TRY(find_comm(strcmp(name, "auto") ? name : auto_name(device), &ops));
    RM_ASSERT(ops && ops->abi == RM_COMM_ABI);
    RM_ASSERT(cfg && cfg->timeout_s > 0);
    if (ops == &rm_comm_self && rm_world_from_env().size > 1)
        return rm_fail(RM_E_ARG, "--comm self is for one device, and this is one of %d ranks: leave --comm out", rm_world_from_env().size);
    RM_TRY(ops->open(cfg, device, &c));
    RM_ASSERT(c->host);
    c->ops = ops;
    c->device = device;
    *out_comm = c;
    return RM_OK;
}

void rm_comm_close(rm_comm *c)
{
    if (c) c->ops->close(c);
}

void rm_comm_abort(rm_comm *c, int exit_code)
{
    if (c) c->ops->abort(c, exit_code);
}

int rm_comm_rank(const rm_comm *c) { return c ? c->rank : 0; }
int rm_comm_size(const rm_comm *c) { return c ? c->size : 1; }

const char *rm_comm_host(const rm_comm *c, int rank)
{
    RM_ASSERT(c && rank >= 0 && rank < c->size);
    return c->host[rank];
}

const char *rm_comm_library(const rm_comm *c) { return c ? c->ops->library() : ""; }

/* ---- collectives. A NULL communicator is one rank, as for rank and size. */
uint64_t rm_comm_calls(const rm_comm *c) { return c ? c->calls : 0; }
uint64_t rm_comm_bytes(const rm_comm *c) { return c ? c->bytes : 0; }

static void count_call(rm_comm *c, uint64_t bytes)
{
    c->calls++;
    c->bytes += bytes;
}

static void check_span(const rm_comm *c, const rm_span *s)
{
    RM_ASSERT((unsigned)s->dtype < RM_DTYPE_COUNT);
    if (s->count == 0) return;
    RM_ASSERT(s->at.buf && s->at.buf->device == c->device);
    const size_t bytes = rm_buf_bytes(s->at.buf), each = rm_dtype_bytes(s->dtype);
    RM_ASSERT(s->at.offset <= bytes && s->count <= (bytes - s->at.offset) / each);
}

rm_status rm_comm_barrier(rm_comm *c)
{
    if (!c) return RM_OK;
    count_call(c, 0);
    return c->ops->barrier(c);
}

rm_status rm_comm_barrier_within(rm_comm *c, double timeout_s)
{
    if (!c || !c->ops->set_timeout) return rm_comm_barrier(c);
    const uint64_t ns = (uint64_t)(timeout_s * 1e9), was = c->ops->set_timeout(c, ns);
    if (was > ns) (void)c->ops->set_timeout(c, was);
    const rm_status st = rm_comm_barrier(c);
    (void)c->ops->set_timeout(c, was);
    return st;
}

rm_status rm_comm_broadcast(rm_comm *c, rm_span span, int root)
{
    if (!c) return RM_OK;
    check_span(c, &span);
    RM_ASSERT(root >= 0 && root < c->size);
    count_call(c, span.count * rm_dtype_bytes(span.dtype));
    return c->ops->broadcast(c, span, root);
}

rm_status rm_comm_host_reduce(rm_comm *c, void *inout, uint64_t count, rm_dtype dtype, rm_reduce how)
{
    if (!c) return RM_OK;
    RM_ASSERT(inout || count == 0);
    RM_ASSERT(dtype == RM_F64 || dtype == RM_F32 || dtype == RM_I32 || dtype == RM_U8);
    RM_ASSERT(how == RM_SUM || how == RM_MIN || how == RM_MAX);
    count_call(c, count * rm_dtype_bytes(dtype));
    return c->ops->host_reduce(c, inout, count, dtype, how);
}

rm_status rm_comm_host_gather(rm_comm *c, const void *mine, size_t bytes, void *all)
{
    RM_ASSERT((mine || bytes == 0) && (all || bytes == 0 || rm_comm_rank(c) != 0));
    if (!c) {
        if (bytes) memmove(all, mine, bytes);
        return RM_OK;
    }
    count_call(c, bytes);
    return c->ops->host_gather(c, mine, bytes, all);
}

rm_status rm_comm_host_broadcast(rm_comm *c, void *inout, size_t bytes, int root)
{
    if (!c) return RM_OK;
    RM_ASSERT(inout || bytes == 0);
    RM_ASSERT(root >= 0 && root < c->size);
    count_call(c, bytes);
    return c->ops->host_broadcast(c, inout, bytes, root);
}

rm_status rm_comm_reduce_start(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request)
{
    RM_ASSERT(c && (span || n == 0));
    rm_request *r = NULL;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        check_span(c, &span[i]);
        bytes += span[i].count * rm_dtype_bytes(span[i].dtype);
    }
    count_call(c, bytes);
    RM_TRY(c->ops->reduce_start(c, span, n, after, &r));
    c->delay_ns = 0;
    r->comm = c;
    *out_request = r;
    return RM_OK;
}

void rm_comm_delay_next(rm_comm *c, uint64_t ns)
{
    if (c) c->delay_ns = ns;
}

rm_status rm_comm_reduce_wait(rm_comm *c, rm_request *request, rm_queue *order_before)
{
    RM_ASSERT(c && request && request->comm == c);
    const rm_status st = c->ops->reduce_wait(c, request, order_before);
    if (st != RM_OK) c->ops->reduce_free(c, request);
    return st;
}

rm_status rm_comm_reduce_time(rm_comm *c, const rm_request *request, rm_reduce_time *out)
{
    RM_ASSERT(c && request && request->comm == c);
    return c->ops->reduce_time(c, request, out);
}

void rm_comm_reduce_free(rm_comm *c, rm_request *request)
{
    if (request) c->ops->reduce_free(c, request);
}

rm_status rm_comm_reduce_finish(rm_comm *c, rm_request *request, rm_reduce_time *out)
{
    rm_reduce_time time; /* asked for even where nobody wants it: sums that were given up have none */
    RM_TRY(rm_comm_reduce_wait(c, request, NULL));
    rm_status st = c->device ? rm_device_sync(c->device, NULL) : RM_OK;
    if (st == RM_OK) st = rm_comm_reduce_time(c, request, out ? out : &time);
    rm_comm_reduce_free(c, request);
    return st;
}

uint64_t rm_comm_cpu_ns(const rm_comm *c) { return c && c->ops->cpu_ns ? c->ops->cpu_ns(c) : 0; }

rm_status rm_comm_check(rm_comm *c) { return c ? c->ops->check(c) : RM_OK; }

/* ---- agreement */
typedef char digest[RM_COMM_DIGEST_BYTES + 1];
typedef struct field_text { char value[256]; digest sum; } field_text;

static void digest_of(const rm_agree *field, uint32_t n, char *hex)
{
    rm_sha256 s;
    rm_sha256_begin(&s);
    for (uint32_t i = 0; i < n; i++) { /* with their ends, so that "ab","c" is not "a","bc" */
        rm_sha256_add(&s, field[i].field, strlen(field[i].field) + 1);
        rm_sha256_add(&s, field[i].value, strlen(field[i].value) + 1);
    }
    rm_sha256_end(&s, hex);
}

/* All ranks have the same bytes when the least and the greatest of each are the same. */
static rm_status same_everywhere(rm_comm *c, const void *mine, size_t bytes, rm_dtype dtype, bool *out_same)
{
    _Alignas(8) digest low, high; /* whatever the type */
    memcpy(low, mine, bytes);
    memcpy(high, mine, bytes);
    const uint64_t count = bytes / rm_dtype_bytes(dtype);
    RM_TRY(rm_comm_host_reduce(c, low, count, dtype, RM_MIN));
    RM_TRY(rm_comm_host_reduce(c, high, count, dtype, RM_MAX));
    *out_same = memcmp(low, high, bytes) == 0;
    return RM_OK;
}

/* Texts travel: rank 0 finds the first rank that is unlike it, and everybody gets the same line. */
static rm_status disagree(rm_comm *c, const rm_agree *f)
{
    static const char remedy[] = "start every rank with the same program, options and data";
    field_text mine = { .value = "" }, *all = NULL;
    struct { int32_t rank; field_text first, other; } said = { .rank = -1 };
    snprintf(mine.value, sizeof mine.value, "%s", f->value);
    digest_of(f, 1, mine.sum);
    if (c->rank == 0) {
        all = calloc((size_t)c->size, sizeof *all);
        if (!all) return rm_fail(RM_E_NOMEM, "out of memory comparing the ranks' %s", f->field);
    }
    rm_status st = rm_comm_host_gather(c, &mine, sizeof mine, all);
    for (int r = 1; st == RM_OK && all && r < c->size && said.rank < 0; r++) {
        if (strcmp(all[r].sum, all[0].sum) == 0) continue;
        said.rank = r;
        said.first = all[0];
        said.other = all[r];
    }
    free(all);
    if (st == RM_OK) st = rm_comm_host_broadcast(c, &said, sizeof said, 0);
    if (st != RM_OK) return st;
    return rm_fail(RM_E_ARG, "the ranks disagree on %s: rank 0 has \"%s\", rank %d has \"%s\"; %s", f->field, said.first.value, said.rank, said.other.value,
                   remedy);
}

rm_status rm_comm_agree(rm_comm *c, const rm_agree *fields, uint32_t n)
{
    digest hex;
    bool same;
    if (rm_comm_size(c) == 1) return RM_OK;
    digest_of(fields, n, hex);
    RM_TRY(same_everywhere(c, hex, RM_COMM_DIGEST_BYTES, RM_U8, &same));
    if (same) return RM_OK;
    const int32_t count = (int32_t)n;
    RM_TRY(same_everywhere(c, &count, sizeof count, RM_I32, &same));
    if (!same) return rm_fail(RM_E_ARG, "the ranks compare different numbers of settings (this one %u): they run different versions of bench", n);
    for (uint32_t i = 0; i < n; i++) {
        digest_of(&fields[i], 1, hex);
        RM_TRY(same_everywhere(c, hex, RM_COMM_DIGEST_BYTES, RM_U8, &same));
        if (!same) return disagree(c, &fields[i]);
    }
    return rm_fail(RM_E_ARG, "the ranks disagree on the order of their settings: they run different versions of bench");
}
