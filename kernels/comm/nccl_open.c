/* Opening: ranks find each other over MPI, check that each has a GPU of its own, and connect. */
#include "kernels/comm/nccl_private.h"
#include "kernels/cuda/cuda.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT = 512 };

typedef struct gpu_of_rank { rm_comm_host_name host; char pci[32]; } gpu_of_rank;

/* NCCL's own refusal of two ranks on a GPU names neither. */
static void find_shared(const gpu_of_rank *all, int n, char *line, size_t size)
{
    for (int b = 1; b < n; b++)
        for (int a = 0; a < b; a++) {
            if (strcmp(all[a].host, all[b].host) != 0 || strcmp(all[a].pci, all[b].pci) != 0) continue;
            snprintf(line, size, "ranks %d and %d on %s have the same GPU (%s), and NCCL takes one rank for each: start as many ranks as there are GPUs, one on each", a, b,
                     all[a].host, all[a].pci);
            return;
        }
}

static rm_status refuse_shared(nccl_comm *m)
{
    const int n = m->base.size;
    struct cudaDeviceProp p;
    gpu_of_rank mine = { .pci = "" }, *all = NULL;
    char line[TEXT] = "";
    RM_TRY(rm_cuda_check(cudaGetDeviceProperties(&p, m->ordinal), "ask a GPU what it is"));
    snprintf(mine.host, sizeof mine.host, "%s", m->base.host[m->base.rank]);
    snprintf(mine.pci, sizeof mine.pci, "%04x:%02x:%02x", (unsigned)p.pciDomainID, (unsigned)p.pciBusID, (unsigned)p.pciDeviceID);
    if (m->base.rank == 0 && !(all = calloc((size_t)n, sizeof *all))) return rm_fail(RM_E_NOMEM, "out of memory comparing the ranks' GPUs");
    rm_status st = rm_comm_host_gather(m->host, &mine, sizeof mine, all);
    if (st == RM_OK && all) find_shared(all, n, line, sizeof line);
    free(all);
    if (st == RM_OK) st = rm_comm_host_broadcast(m->host, line, sizeof line, 0);
    return st == RM_OK && line[0] ? rm_fail(RM_E_ARG, "%s", line) : st;
}

/* Rank 0 makes it; all learn it, or why there is none. */
static rm_status share_id(nccl_comm *m, ncclUniqueId *out_id)
{
    struct { char why[TEXT]; ncclUniqueId id; } said = { .why = "" };
    if (m->base.rank == 0) {
        const ncclResult_t e = ncclGetUniqueId(&said.id);
        if (e != ncclSuccess) snprintf(said.why, sizeof said.why, "%s: %.300s", ncclGetErrorString(e), ncclGetLastError(NULL));
    }
    RM_TRY(rm_comm_host_broadcast(m->host, &said, sizeof said, 0));
    if (said.why[0]) return rm_fail(RM_E_DEVICE, "NCCL cannot begin: %s", said.why);
    *out_id = said.id;
    return RM_OK;
}

static rm_status connect_ranks(nccl_comm *m)
{
    const nccl_waited w = { .what = "connection between GPUs" };
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    RM_TRY(share_id(m, &id));
    config.blocking = 0;
    const ncclResult_t e = ncclCommInitRankConfig(&m->comm, m->base.size, id, m->base.rank, &config);
    if (!m->comm) return rm_fail(RM_E_DEVICE, "rank %d on %s: NCCL cannot begin: %s", m->base.rank, m->base.host[m->base.rank], ncclGetErrorString(e));
    RM_TRY(nccl_watch_begin(m));
    RM_TRY(nccl_check(m, e, &w));
    return nccl_settle(m, &w);
}

static rm_status open_parts(nccl_comm *m, const rm_comm_config *cfg)
{
    RM_TRY(rm_comm_open("mpi", cfg, NULL, &m->host));
    m->base.rank = rm_comm_rank(m->host);
    m->base.size = rm_comm_size(m->host);
    m->base.host = m->host->host;
    RM_TRY(refuse_shared(m));
    RM_TRY(rm_queue_new(m->base.device, &m->queue));
    RM_TRY(rm_mark_new(m->base.device, &m->now));
    return connect_ranks(m);
}

void nccl_request_free(nccl_comm *m, nccl_request *r)
{
    rm_mark_free(m->base.device, r->begin);
    rm_mark_free(m->base.device, r->end);
    free(r);
}

static void free_requests(nccl_comm *m, nccl_request *r)
{
    for (nccl_request *next; r; r = next) {
        next = r->next;
        nccl_request_free(m, r);
    }
}

/* The device may be closed all the same. */
static void leave_behind(nccl_comm *m)
{
    for (nccl_wire *w = m->wire; w; w = w->older) rm_buf_abandon(m->base.device, w->buf);
}

void nccl_close(rm_comm *c)
{
    nccl_comm *m = nccl_of(c);
    if (!nccl_watch_end(m)) {
        leave_behind(m); /* a thread that does not come back yet, and what NCCL still has on its queue, may use all of it */
        return;
    }
    if (m->queue) (void)!rm_device_sync(m->base.device, m->queue); /* an aborted kernel has the caller's memory until it ends */
    free_requests(m, m->free);
    free_requests(m, m->live);
    for (nccl_wire *w; (w = m->wire);) {
        m->wire = w->older;
        rm_buf_free(m->base.device, w->buf);
        free(w);
    }
    rm_mark_free(m->base.device, m->now);
    rm_queue_free(m->base.device, m->queue);
    rm_comm_close(m->host);
    pthread_mutex_destroy(&m->host_lock);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->wake);
    free(m);
}

static rm_status check_device(const rm_device *device)
{
    if (!device) return rm_fail(RM_E_ARG, "--comm nccl carries bytes between GPUs, and there is no device: use --comm mpi");
    if (strcmp(rm_device_name(device), "cuda") != 0)
        return rm_fail(RM_E_ARG, "--comm nccl carries bytes between GPUs, and the device is %s: leave --comm out, or use --device cuda", rm_device_name(device));
    if (!rm_world_is_rank())
        return rm_fail(RM_E_ARG, "--comm nccl: this process was not started as a rank: leave --comm out, or start it with mpirun -n 1 for a communicator of one");
    return RM_OK;
}

rm_status nccl_open(const rm_comm_config *cfg, rm_device *device, rm_comm **out_comm)
{
    pthread_condattr_t monotonic;
    RM_TRY(check_device(device));
    nccl_comm *m = calloc(1, sizeof *m);
    if (!m) return rm_fail(RM_E_NOMEM, "out of memory opening a communicator");
    m->base.device = device;
    m->ordinal = rm_cuda_ordinal(device);
    m->timeout_ns = (uint64_t)(cfg->timeout_s * 1e9);
    m->wire_dtype = cfg->wire;
    pthread_mutex_init(&m->host_lock, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&m->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    const rm_status st = open_parts(m, cfg);
    if (st != RM_OK) nccl_close(&m->base);
    else *out_comm = &m->base;
    return st;
}
