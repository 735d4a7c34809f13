/* What devices in plain host memory have in common: their buffers, and, for those where everything is done when the call returns (ref, cpu),
 * copies, queues and marks. Fits into rm_device_ops; the contracts are there. */
#ifndef RM_HOSTBUF_H
#define RM_HOSTBUF_H
#include "kernels/device.h"

/* 4096-aligned and zeroed; RM_E_NOMEM. */
rm_status rm_hostbuf_alloc(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf) RM_CHECKED;
void      rm_hostbuf_release(rm_device *d, rm_buf *buf);
void     *rm_hostbuf_host(rm_buf *buf);
/* Address of a ref, NULL when absent. */
void     *rm_hostbuf_at(rm_ref r);
uint64_t  rm_host_memory_bytes(void);   /* physical memory of this machine */

/* ---- done when they return. One queue is as good as another; a mark is the time at which it was set. */
rm_status rm_hostsync_write(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes) RM_CHECKED;
rm_status rm_hostsync_read(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes) RM_CHECKED;
rm_status rm_hostsync_fill(rm_device *d, rm_queue *q, rm_ref dst, int byte, size_t bytes) RM_CHECKED;
rm_status rm_hostsync_queue_new(rm_device *d, rm_queue **out_queue) RM_CHECKED;
void rm_hostsync_queue_free(rm_device *d, rm_queue *q);
rm_status rm_hostsync_sync(rm_device *d, rm_queue *q) RM_CHECKED;
rm_status rm_hostsync_mark_new(rm_device *d, rm_mark **out_mark) RM_CHECKED;
void rm_hostsync_mark_free(rm_device *d, rm_mark *m);
rm_status rm_hostsync_mark_set(rm_device *d, rm_queue *q, rm_mark *m) RM_CHECKED;
rm_status rm_hostsync_mark_wait(rm_device *d, rm_queue *q, const rm_mark *m) RM_CHECKED;
bool rm_hostsync_mark_done(const rm_mark *m);
rm_status rm_hostsync_mark_ns(const rm_mark *m, uint64_t *out_ns) RM_CHECKED;
rm_status rm_hostsync_spin(rm_device *d, rm_queue *q, uint64_t ns) RM_CHECKED;   /* on the calling thread */
#endif
