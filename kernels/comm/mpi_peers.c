#include "kernels/comm/mpi_peers.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { NAMED_MOST = 4, LISTEN_NS = 300000000, NAP_NS = 100000 };

/* `mine` is being sent and `said` received; `number`: the last job the peer has said it is in. */
struct mpi_peer {
    MPI_Request sent, heard;
    uint64_t mine, said, number;
};

rm_status mpi_peers_new(MPI_Comm comm, int tag, int rank, int size, const rm_comm_host_name *host, mpi_peers *out)
{
    mpi_peers p = { .comm = comm, .tag = tag, .rank = rank, .size = size, .host = host, .peer = calloc((size_t)size, sizeof *p.peer) };
    if (!p.peer) return rm_fail(RM_E_NOMEM, "out of memory opening a communicator");
    for (int r = 0; r < size; r++) p.peer[r].sent = p.peer[r].heard = MPI_REQUEST_NULL;
    *out = p;
    return RM_OK;
}

void mpi_peers_free(mpi_peers *p)
{
    bool idle = true;
    for (int r = 0; p->peer && r < p->size; r++) idle &= p->peer[r].sent == MPI_REQUEST_NULL && p->peer[r].heard == MPI_REQUEST_NULL;
    if (idle) free(p->peer);
    p->peer = NULL;
}

void mpi_peers_job(mpi_peers *p, bool together)
{
    p->job += together;
    p->announced = false;
}

void mpi_peers_job_is(mpi_peers *p, uint64_t number)
{
    p->announced &= p->job == number;
    p->job = number;
}

void mpi_peers_announce(mpi_peers *p)
{
    if (p->announced || !p->peer) return;
    p->announced = true;
    for (int r = 0; r < p->size; r++) {
        mpi_peer *q = &p->peer[r];
        int done = 1;
        if (r == p->rank) continue;
        if (q->sent != MPI_REQUEST_NULL) MPI_Test(&q->sent, &done, MPI_STATUS_IGNORE);
        q->mine = done ? p->job : q->mine;
        if (done) MPI_Isend(&q->mine, 1, MPI_UINT64_T, r, p->tag, p->comm, &q->sent);
        if (q->heard == MPI_REQUEST_NULL) MPI_Irecv(&q->said, 1, MPI_UINT64_T, r, p->tag, p->comm, &q->heard);
    }
}

/* True when rank r has said that it is in this job too. What it said of earlier ones is read and passed over. */
static bool is_here(mpi_peers *p, int r)
{
    mpi_peer *q = &p->peer[r];
    int done = 1;
    while (r != p->rank && q->number < p->job) {
        if (q->heard == MPI_REQUEST_NULL && MPI_Irecv(&q->said, 1, MPI_UINT64_T, r, p->tag, p->comm, &q->heard) != MPI_SUCCESS) return false;
        if (MPI_Test(&q->heard, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done) return false;
        q->number = q->said;
    }
    return true;
}

/* How many ranks are not here after a while. */
static int listen_for_all(mpi_peers *p)
{
    const uint64_t until = rm_now_ns() + LISTEN_NS;
    const struct timespec t = { 0, NAP_NS };
    int missing;
    do {
        missing = 0;
        for (int r = 0; r < p->size; r++) missing += !is_here(p, r);
        nanosleep(&t, NULL);
    } while (missing && rm_now_ns() < until);
    return missing;
}

void mpi_peers_missing(mpi_peers *p, char *text, size_t size)
{
    if (!p->peer) {
        snprintf(text, size, "a peer hangs or is lost, which one is unknown");
        return;
    }
    mpi_peers_announce(p);
    const int missing = listen_for_all(p);
    if (!missing) {
        snprintf(text, size, "all ranks are there: the network hangs");
        return;
    }
    size_t used = (size_t)snprintf(text, size, "%s ", missing > 1 ? "ranks" : "rank");
    for (int r = 0, n = 0; r < p->size && n < NAMED_MOST && used < size; r++)
        if (!is_here(p, r)) used += (size_t)snprintf(text + used, size - used, "%s%d on %s", n++ ? ", " : "", r, p->host[r]);
    if (used < size) snprintf(text + used, size - used, "%s did not arrive: hanging, or cut off", missing > NAMED_MOST ? " and others" : "");
}
