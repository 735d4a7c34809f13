#include "model/parallel/buckets.h"
#include "base/clock.h"
#include <stdlib.h>
#include <string.h>

static rm_status make(rm_buckets *b, const rm_gradients *g, const uint32_t *end, uint32_t n)
{
    b->at = calloc(n, sizeof *b->at);
    if (!b->at) return rm_fail(RM_E_NOMEM, "out of memory for the gradient buckets");
    b->n = n;
    for (uint32_t i = 0; i < n; i++) {
        rm_bucket *k = &b->at[i];
        k->first = i ? end[i - 1] + 1 : 0;
        k->last = end[i];
        const size_t from = g->offset[k->first], to = g->offset[k->last] + g->bytes[k->last];
        k->bytes = to - from;
        k->span = (rm_span){ { g->arena, from }, k->bytes / rm_dtype_bytes(g->elem), g->elem };
        RM_TRY(rm_mark_new(b->device, &k->mark));
    }
    return RM_OK;
}

rm_status rm_buckets_new(rm_comm *comm, rm_device *device, const rm_gradients *g, const uint64_t *param_bytes, const char *spec,
                         rm_split_order order, rm_buckets *out)
{
    rm_buckets b = { .comm = comm, .device = device };
    uint32_t *end = calloc(g->n, sizeof *end), n = 0;
    rm_status st = end ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the gradient buckets");
    if (st == RM_OK) st = rm_split_parse(spec && spec[0] ? spec : "single", param_bytes, g->n, order, end, &n);
    if (st == RM_OK) st = make(&b, g, end, n);
    free(end);
    if (st == RM_OK) *out = b;
    else rm_buckets_free(&b);
    return st;
}

static void drop(rm_buckets *b, rm_request **r)
{
    rm_comm_reduce_free(b->comm, *r);
    *r = NULL;
}

void rm_buckets_free(rm_buckets *b)
{
    rm_buckets_forget(b);
    for (uint32_t i = 0; i < b->n; i++) {
        drop(b, &b->at[i].request);
        rm_mark_free(b->device, b->at[i].mark);
    }
    free(b->at);
    memset(b, 0, sizeof *b);
}

void rm_buckets_begin(rm_buckets *b)
{
    b->started = 0;
    for (uint32_t i = 0; i < b->n; i++) b->at[i].ready_ns = b->at[i].start_ns = b->at[i].end_ns = b->at[i].delay_ns = 0;
}

void rm_buckets_delay(rm_buckets *b, uint32_t i, uint64_t ns)
{
    RM_ASSERT(i < b->n && i >= b->started);
    b->at[i].delay_ns += ns;
}

static rm_status start(rm_buckets *b, rm_bucket *k)
{
    if (b->note_launches) k->launch_ns = rm_now_ns();
    RM_TRY(rm_mark_set(b->device, NULL, k->mark));
    rm_comm_delay_next(b->comm, k->delay_ns);
    rm_cupti_push(b->cupti, RM_CUPTI_BUCKET, (uint32_t)(k - b->at));
    const rm_status st = rm_comm_reduce_start(b->comm, &k->span, 1, k->mark, &k->request);
    rm_cupti_pop(b->cupti);
    RM_TRY(st);
    if (b->note_launches) k->launched_ns = rm_now_ns();
    return RM_OK;
}

rm_status rm_buckets_ready(rm_buckets *b, uint32_t n_ready)
{
    if (!b->comm) return RM_OK;
    for (; b->started < b->n && b->at[b->started].last < n_ready; b->started++) RM_TRY(start(b, &b->at[b->started]));
    return RM_OK;
}

rm_status rm_buckets_wait(rm_buckets *b, uint32_t i)
{
    rm_bucket *k = &b->at[i];
    if (!b->comm) return RM_OK;
    RM_ASSERT(i < b->started);
    const rm_status st = rm_comm_reduce_wait(b->comm, k->request, NULL);
    if (st != RM_OK) k->request = NULL;
    if (st == RM_E_PEER) return rm_fail(st, "%s (bucket %u of %u, gradients %u..%u)", rm_last_error(), i + 1, b->n, k->first, k->last);
    return st;
}

static rm_status take_times(rm_buckets *b, rm_bucket *k, const rm_request *r)
{
    rm_reduce_time t;
    if (!r) return RM_OK;
    RM_TRY(rm_comm_reduce_time(b->comm, r, &t));
    RM_TRY(rm_mark_ns(b->device, k->mark, &k->ready_ns));
    k->start_ns = t.begin_ns;
    k->end_ns = t.end_ns;
    return RM_OK;
}

rm_status rm_buckets_end(rm_buckets *b, int recorded)
{
    rm_status st = RM_OK;
    for (uint32_t i = 0; i < b->n; i++) {
        rm_bucket *k = &b->at[i];
        if (st == RM_OK) st = take_times(b, k, recorded >= 0 ? k->kept[recorded] : k->request);
        drop(b, &k->request);
    }
    return st;
}

void rm_buckets_keep(rm_buckets *b, int mode)
{
    RM_ASSERT(mode == RM_REDUCE_OVERLAPPED || mode == RM_REDUCE_AFTER);
    for (uint32_t i = 0; i < b->n; i++) {
        drop(b, &b->at[i].kept[mode]);
        b->at[i].kept[mode] = b->at[i].request;
        b->at[i].request = NULL;
    }
}

void rm_buckets_forget(rm_buckets *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        drop(b, &b->at[i].kept[RM_REDUCE_OVERLAPPED]);
        drop(b, &b->at[i].kept[RM_REDUCE_AFTER]);
    }
}

void rm_buckets_drop(rm_buckets *b)
{
    for (uint32_t i = 0; i < b->n; i++) drop(b, &b->at[i].request);
}

rm_status rm_buckets_wait_all(rm_buckets *b)
{
    for (uint32_t i = 0; i < b->n; i++) RM_TRY(rm_buckets_wait(b, i));
    return RM_OK;
}

rm_status rm_buckets_isolated(rm_buckets *b, uint64_t *out_ns)
{
    RM_TRY(rm_device_sync(b->device, NULL));
    RM_TRY(rm_comm_barrier(b->comm));
    rm_buckets_begin(b);
    const uint64_t begin = rm_now_ns();
    RM_TRY(rm_buckets_ready(b, b->n ? b->at[b->n - 1].last + 1 : 0));
    RM_TRY(rm_buckets_wait_all(b));
    RM_TRY(rm_device_sync(b->device, NULL));
    *out_ns = rm_now_ns() - begin;
    return rm_buckets_end(b, -1);
}
