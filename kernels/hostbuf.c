#include "kernels/hostbuf.h"
#include "base/clock.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096 };

rm_status rm_hostbuf_alloc(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf)
{
    if (bytes > SIZE_MAX - PAGE) return rm_fail(RM_E_NOMEM, "out of memory: %zu bytes asked for", bytes);
    size_t whole = bytes ? (bytes + PAGE - 1) / PAGE * PAGE : PAGE;
    rm_buf *buf = malloc(sizeof *buf);
    void *ptr = aligned_alloc(PAGE, whole);
    if (!buf || !ptr) {
        free(buf);
        free(ptr);
        return rm_fail(RM_E_NOMEM, "out of memory: a buffer of %.1f MB on device %s; use a smaller batch", (double)bytes * 1e-6, d->ops->name);
    }
    memset(ptr, 0, whole);
    *buf = (rm_buf){ .device = d, .bytes = bytes, .ptr = ptr };
    *out_buf = buf;
    return RM_OK;
}

void rm_hostbuf_release(rm_device *d, rm_buf *buf)
{
    free(buf->ptr);
    free(buf);
}

void *rm_hostbuf_host(rm_buf *buf) { return buf->ptr; }
void *rm_hostbuf_at(rm_ref r) { return r.buf ? (char *)r.buf->ptr + r.offset : NULL; }

uint64_t rm_host_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

/* ---- done when they return */
struct rm_queue {
    int unused;
};
struct rm_mark {
    _Atomic uint64_t ns;
}; /* 0: not set */

rm_status rm_hostsync_write(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes)
{
    memcpy(rm_hostbuf_at(dst), src, bytes);
    return RM_OK;
}

rm_status rm_hostsync_read(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes)
{
    memcpy(dst, rm_hostbuf_at(src), bytes);
    return RM_OK;
}

rm_status rm_hostsync_fill(rm_device *d, rm_queue *q, rm_ref dst, int byte, size_t bytes)
{
    memset(rm_hostbuf_at(dst), byte, bytes);
    return RM_OK;
}

rm_status rm_hostsync_queue_new(rm_device *d, rm_queue **out_queue)
{
    rm_queue *q = calloc(1, sizeof *q);
    if (!q) return rm_fail(RM_E_NOMEM, "out of memory making a queue");
    *out_queue = q;
    return RM_OK;
}
void rm_hostsync_queue_free(rm_device *d, rm_queue *q) { free(q); }
rm_status rm_hostsync_sync(rm_device *d, rm_queue *q) { return RM_OK; }

rm_status rm_hostsync_mark_new(rm_device *d, rm_mark **out_mark)
{
    rm_mark *m = malloc(sizeof *m);
    if (!m) return rm_fail(RM_E_NOMEM, "out of memory making a mark");
    atomic_init(&m->ns, 0);
    *out_mark = m;
    return RM_OK;
}
void rm_hostsync_mark_free(rm_device *d, rm_mark *m) { free(m); }
rm_status rm_hostsync_mark_set(rm_device *d, rm_queue *q, rm_mark *m)
{
    atomic_store_explicit(&m->ns, rm_now_ns(), memory_order_release);
    return RM_OK;
}
rm_status rm_hostsync_mark_wait(rm_device *d, rm_queue *q, const rm_mark *m) { return RM_OK; }
bool rm_hostsync_mark_done(const rm_mark *m) { return atomic_load_explicit(&m->ns, memory_order_acquire) != 0; }
rm_status rm_hostsync_mark_ns(const rm_mark *m, uint64_t *out_ns)
{
    *out_ns = atomic_load_explicit(&m->ns, memory_order_acquire);
    return RM_OK;
}
rm_status rm_hostsync_spin(rm_device *d, rm_queue *q, uint64_t ns)
{
    rm_spin_ns(ns);
    return RM_OK;
}
