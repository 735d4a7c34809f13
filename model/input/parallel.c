#include "model/input/parallel.h"
#include "profiler/runinfo.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct crew {
    const rm_loop *loop;
    uint64_t n;
    atomic_uint_fast64_t next;
    atomic_bool stop;
    pthread_mutex_t lock;
    uint64_t failed_at;
    rm_status status;
    char why[4096];
} crew;

/* The cause lives in thread-local storage; it is carried over to the caller's thread. */
static void crew_fail(crew *c, uint64_t at, rm_status status)
{
    pthread_mutex_lock(&c->lock);
    if (c->status == RM_OK || at < c->failed_at) {
        c->status = status;
        c->failed_at = at;
        strncpy(c->why, rm_last_error(), sizeof c->why - 1);
    }
    pthread_mutex_unlock(&c->lock);
    atomic_store(&c->stop, true);
}

static void *hand(void *arg)
{
    crew *c = arg;
    void *own = NULL;
    const rm_loop *loop = c->loop;
    rm_status status = loop->begin ? loop->begin(loop->shared, &own) : RM_OK;
    if (status != RM_OK) {
        crew_fail(c, UINT64_MAX, status);
        return NULL;
    }
    while (!atomic_load(&c->stop)) {
        const uint64_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->n) break;
        status = loop->item(loop->shared, own, i);
        if (status != RM_OK) crew_fail(c, i, status);
    }
    if (loop->end) loop->end(loop->shared, own);
    return NULL;
}

rm_status rm_loop_run(const rm_loop *loop, uint64_t n, int32_t threads)
{
    crew c = { .loop = loop, .n = n };
    int32_t started = 0;
    if (threads < 1) threads = rm_cores_available();
    pthread_t *thread = calloc((size_t)threads, sizeof *thread);
    if (!thread) return rm_fail(RM_E_NOMEM, "out of memory for %d threads", threads);
    pthread_mutex_init(&c.lock, NULL);
    while (started < threads - 1 && pthread_create(&thread[started], NULL, hand, &c) == 0) started++;
    hand(&c); /* the caller works too, so too few threads only make it slower */
    for (int32_t i = 0; i < started; i++) pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&c.lock);
    free(thread);
    return c.status == RM_OK ? RM_OK : rm_fail(c.status, "%s", c.why);
}
