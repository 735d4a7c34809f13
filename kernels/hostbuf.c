#include "kernels/hostbuf.h"
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
