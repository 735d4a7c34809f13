/* Buffers in plain host memory, and what else ref and null have in common. */
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
#endif
