/* One rank: every collective is done before it begins. Calls no MPI, starts nothing. */
#include "kernels/comm/comm.h"
#include <stdlib.h>
#include <string.h>

typedef struct self_comm {
    rm_comm base;
    rm_request request;
    rm_comm_host_name host;
} self_comm;

static rm_status self_available(void) { return RM_OK; }

static rm_status self_open(const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm)
{
    self_comm *s = calloc(1, sizeof *s);
    if (!s) return rm_fail(RM_E_NOMEM, "out of memory opening a communicator");
    s->base.size = 1;
    rm_comm_own_host(s->host);
    s->base.host = &s->host;
    *out_comm = &s->base;
    return RM_OK;
}

static void self_close(rm_comm *c) { free(c); }
static void self_abort(rm_comm *c, int exit_code) {}
static rm_status self_barrier(rm_comm *c) { return RM_OK; }
static rm_status self_broadcast(rm_comm *c, rm_span span, int root) { return RM_OK; }
static rm_status self_host_reduce(rm_comm *c, void *inout, uint64_t count, rm_dtype dtype, rm_reduce how) { return RM_OK; }
static rm_status self_host_broadcast(rm_comm *c, void *inout, size_t bytes, int root) { return RM_OK; }
static rm_status self_check(rm_comm *c) { return RM_OK; }
static const char *self_library(void) { return ""; }

static rm_status self_host_gather(rm_comm *c, const void *mine, size_t bytes, void *all)
{
    if (bytes) memmove(all, mine, bytes);
    return RM_OK;
}

/* The sum of one is there as soon as its own gradient is: there is nothing to wait for and nothing to keep. */
static rm_status self_reduce_start(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request)
{
    *out_request = &((self_comm *)c)->request;
    return RM_OK;
}

/* The order is that of the mark and the queues, which are the caller's own. */
static rm_status self_reduce_wait(rm_comm *c, rm_request *request, rm_queue *order_before) { return RM_OK; }
static rm_status self_reduce_time(rm_comm *c, const rm_request *request, rm_reduce_time *out)
{
    *out = (rm_reduce_time){ 0 };
    return RM_OK;
}
static void self_reduce_free(rm_comm *c, rm_request *request) {}

const rm_comm_ops rm_comm_self = {
    .abi = RM_COMM_ABI, .name = "self", .summary = "one rank: nothing to exchange", .available = self_available, .open = self_open,
    .close = self_close, .abort = self_abort, .barrier = self_barrier, .broadcast = self_broadcast, .host_reduce = self_host_reduce,
    .host_gather = self_host_gather, .host_broadcast = self_host_broadcast, .reduce_start = self_reduce_start,
    .reduce_wait = self_reduce_wait, .reduce_time = self_reduce_time, .reduce_free = self_reduce_free, .check = self_check, .library = self_library,
};
