/* The null device: ops do nothing, so that what is left is the harness. Copies and fills are real, or the host would read
 * uninitialised memory.
 *
 * With cfg.async every queue is a worker thread behind a ring of commands, as asynchronous as a GPU: tests use it to
 * prove that nothing assumes a queue to be finished when a call returns. A mark counts how often it was set and how often
 * a worker passed it; a wait is for the count at the time of the call, as with CUDA events. One lock and one condition
 * for the whole device: this mode is for order, not for speed. */
#include "base/clock.h"
#include "kernels/hostbuf.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 256 };
typedef enum verb { COPY, FILL, SPIN, MARK, WAIT, STOP } verb;
typedef struct command {
    verb verb;
    void *dst;
    const void *src;
    size_t bytes;
    int byte;
    rm_mark *mark;
    uint64_t count;     /* of a mark; nanoseconds to spin */
} command;

struct rm_mark { struct null_device *device; uint64_t set, passed, ns; };  /* under the device's lock */
struct rm_queue { struct null_device *device; struct rm_queue *next; pthread_t thread; uint64_t head, tail; command ring[RING]; };
typedef struct null_device {
    rm_device base;
    bool async;
    pthread_mutex_t lock;
    pthread_cond_t moved;       /* any head, tail or mark */
    rm_queue *compute, *queues;
} null_device;

static null_device *null_of(const rm_device *d) { return (null_device *)(uintptr_t)d; }

/* ---- the worker */
static void perform(null_device *d, const command *c) /* without the lock */
{
    if (c->verb == COPY) memcpy(c->dst, c->src, c->bytes);
    if (c->verb == FILL) memset(c->dst, c->byte, c->bytes);
    if (c->verb == SPIN) rm_spin_ns(c->count);
}

static void *work(void *arg)
{
    rm_queue *q = arg;
    null_device *d = q->device;
    bool stop = false;
    pthread_mutex_lock(&d->lock);
    while (!stop) {
        while (q->tail == q->head) pthread_cond_wait(&d->moved, &d->lock);
        command c = q->ring[q->tail % RING];
        stop = c.verb == STOP;
        if (c.verb == WAIT) {
            while (c.mark->passed < c.count) pthread_cond_wait(&d->moved, &d->lock);
        } else if (c.verb == MARK) {
            c.mark->passed = c.count;
            c.mark->ns = rm_now_ns();
        } else {
            pthread_mutex_unlock(&d->lock);
            perform(d, &c);
            pthread_mutex_lock(&d->lock);
        }
        q->tail++;
        pthread_cond_broadcast(&d->moved);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static rm_queue *queue_or_compute(rm_device *d, rm_queue *q) { return q ? q : null_of(d)->compute; }

/* Under the lock. Blocks while the ring is full: no allocation in the hot path. */
static void push(null_device *d, rm_queue *q, const command *c)
{
    while (q->head - q->tail == RING) pthread_cond_wait(&d->moved, &d->lock);
    q->ring[q->head % RING] = *c;
    q->head++;
    pthread_cond_broadcast(&d->moved);
}

static rm_status enqueue(rm_device *base, rm_queue *q, const command *c)
{
    null_device *d = null_of(base);
    if (!d->async) { perform(d, c); return RM_OK; }
    pthread_mutex_lock(&d->lock);
    push(d, queue_or_compute(base, q), c);
    pthread_mutex_unlock(&d->lock);
    return RM_OK;
}

static rm_status null_sync(rm_device *base, rm_queue *q)
{
    null_device *d = null_of(base);
    if (!d->async) return RM_OK;
    q = queue_or_compute(base, q);
    pthread_mutex_lock(&d->lock);
    uint64_t until = q->head;
    while (q->tail < until) pthread_cond_wait(&d->moved, &d->lock);
    pthread_mutex_unlock(&d->lock);
    return RM_OK;
}

static void sync_all(null_device *d)
{
    for (rm_queue *q = d->queues; q; q = q->next) (void)!null_sync(&d->base, q);
}

/* ---- queues */
static rm_status null_queue_new(rm_device *base, rm_queue **out_queue)
{
    null_device *d = null_of(base);
    rm_queue *q = calloc(1, sizeof *q);
    if (!q) return rm_fail(RM_E_NOMEM, "out of memory making a queue");
    q->device = d;
    if (d->async && pthread_create(&q->thread, NULL, work, q) != 0) {
        free(q);
        return rm_fail(RM_E_DEVICE, "null: cannot start a thread for a queue; fewer processes or a higher limit (ulimit -u) help");
    }
    q->next = d->queues;
    d->queues = q;
    *out_queue = q;
    return RM_OK;
}

static void null_queue_free(rm_device *base, rm_queue *q)
{
    null_device *d = null_of(base);
    rm_queue **at = &d->queues;
    while (*at != q) at = &(*at)->next;
    *at = q->next;
    if (d->async) {
        (void)!enqueue(base, q, &(command){ .verb = STOP });
        pthread_join(q->thread, NULL);
    }
    free(q);
}

/* ---- marks */
static rm_status null_mark_new(rm_device *d, rm_mark **out_mark)
{
    rm_mark *m = calloc(1, sizeof *m);
    if (!m) return rm_fail(RM_E_NOMEM, "out of memory making a mark");
    m->device = null_of(d);
    *out_mark = m;
    return RM_OK;
}

static void null_mark_free(rm_device *d, rm_mark *m)
{
    sync_all(null_of(d)); /* a worker may still have to pass it */
    free(m);
}

static rm_status null_mark_set(rm_device *base, rm_queue *q, rm_mark *m)
{
    null_device *d = null_of(base);
    pthread_mutex_lock(&d->lock);
    m->set++;
    if (d->async) {
        push(d, queue_or_compute(base, q), &(command){ .verb = MARK, .mark = m, .count = m->set });
    } else {
        m->passed = m->set;
        m->ns = rm_now_ns();
    }
    pthread_mutex_unlock(&d->lock);
    return RM_OK;
}

static rm_status null_mark_wait(rm_device *base, rm_queue *q, const rm_mark *m)
{
    null_device *d = null_of(base);
    if (!d->async) return RM_OK;
    pthread_mutex_lock(&d->lock);
    push(d, queue_or_compute(base, q), &(command){ .verb = WAIT, .mark = (rm_mark *)(uintptr_t)m, .count = m->set });
    pthread_mutex_unlock(&d->lock);
    return RM_OK;
}

static bool null_mark_done(const rm_mark *m)
{
    pthread_mutex_lock(&m->device->lock);
    bool done = m->set > 0 && m->passed == m->set;
    pthread_mutex_unlock(&m->device->lock);
    return done;
}

static rm_status null_mark_ns(const rm_mark *m, uint64_t *out_ns)
{
    pthread_mutex_lock(&m->device->lock);
    *out_ns = m->ns;
    pthread_mutex_unlock(&m->device->lock);
    return RM_OK;
}

/* ---- device */
static rm_status null_available(void) { return RM_OK; }

static void null_close(rm_device *base)
{
    null_device *d = null_of(base);
    while (d->queues) null_queue_free(base, d->queues);
    pthread_cond_destroy(&d->moved);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static rm_status null_open(const rm_device_config *cfg, rm_device **out_device)
{
    null_device *d = calloc(1, sizeof *d);
    if (!d) return rm_fail(RM_E_NOMEM, "out of memory opening the null device");
    d->async = cfg->async;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->moved, NULL);
    rm_status st = null_queue_new(&d->base, &d->compute);
    if (st != RM_OK) { null_close(&d->base); return st; }
    *out_device = &d->base;
    return RM_OK;
}

static void null_info(const rm_device *d, rm_device_info *out_info)
{
    *out_info = (rm_device_info){ .async = null_of(d)->async, .device = "null", .name = "nothing", .library = "none", .isa = "none", .threads = 1,
                                  .memory_bytes = rm_host_memory_bytes(), .dtypes = (1u << RM_DTYPE_COUNT) - 1u,
                                  .native_dtypes = (1u << RM_DTYPE_COUNT) - 1u };
}

static rm_status null_write(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes)
{
    return enqueue(d, q, &(command){ .verb = COPY, .dst = rm_hostbuf_at(dst), .src = src, .bytes = bytes });
}
static rm_status null_read(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes)
{
    return enqueue(d, q, &(command){ .verb = COPY, .dst = dst, .src = rm_hostbuf_at(src), .bytes = bytes });
}
static rm_status null_fill(rm_device *d, rm_queue *q, rm_ref dst, int byte, size_t bytes)
{
    return enqueue(d, q, &(command){ .verb = FILL, .dst = rm_hostbuf_at(dst), .byte = byte, .bytes = bytes });
}

static rm_status null_spin(rm_device *d, rm_queue *q, uint64_t ns) { return enqueue(d, q, &(command){ .verb = SPIN, .count = ns }); }

static void null_release(rm_device *d, rm_buf *buf)
{
    sync_all(null_of(d)); /* a worker may still have to copy into it */
    rm_hostbuf_release(d, buf);
}

/* ---- ops */
static size_t null_layout_bytes(rm_device *d, const rm_tdesc *t) { return rm_shape_count(t->shape) * rm_dtype_bytes(t->dtype); }

static size_t saved_bytes(const rm_op *op)
{
    switch (op->code) {
    case RM_OP_BN: case RM_OP_BN_BWD: return op->u.bn.training ? 2 * sizeof(float) * (size_t)op->x.shape.c : 0;
    case RM_OP_MAXPOOL: case RM_OP_MAXPOOL_BWD: return rm_shape_count(op->y.shape);
    default: return 0;
    }
}

static int32_t taken(const rm_tdesc *t) { return t->layout == RM_LAYOUT_NHWC ? RM_LAYOUT_NHWC : RM_LAYOUT_NCHW; }

static rm_status null_plan(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    rm_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return rm_fail(RM_E_NOMEM, "out of memory planning %s", rm_opcode_name(op->code));
    plan->op = *op;
    *out_plan = plan;
    *out_info = (rm_plan_info){ .impl = "null", .x = taken(&op->x), .x2 = taken(&op->x), .w = taken(&op->w), .y = taken(&op->y),
                                .saved_bytes = saved_bytes(op), .flops = rm_op_flops(op),
                                .bytes_read = rm_op_bytes_read(op), .bytes_written = rm_op_bytes_written(op) };
    return RM_OK;
}

static rm_status null_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args) { return RM_OK; }
static void null_plan_free(rm_device *d, rm_plan *plan) { free(plan); }

const rm_device_ops rm_device_null = {
    .abi = RM_DEVICE_ABI, .name = "null", .summary = "computes nothing: measures the program around the kernels",
    .available = null_available, .open = null_open, .close = null_close, .info = null_info,
    .alloc = rm_hostbuf_alloc, .release = null_release, .host = rm_hostbuf_host,
    .write = null_write, .read = null_read, .fill = null_fill,
    .queue_new = null_queue_new, .queue_free = null_queue_free, .sync = null_sync,
    .mark_new = null_mark_new, .mark_free = null_mark_free, .mark_set = null_mark_set, .mark_wait = null_mark_wait,
    .mark_done = null_mark_done, .mark_ns = null_mark_ns, .spin = null_spin,
    .layout_bytes = null_layout_bytes, .plan = null_plan, .run = null_run, .plan_free = null_plan_free,
};
