#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "bench/project.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static size_t whole(size_t bytes) { return bytes ? bytes : 1; }

/* Pages that nobody touches take no memory: a batch of a GPU's size is planned on any machine. */
static rm_status take(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf)
{
    rm_buf *b = malloc(sizeof *b);
    void *p = mmap(NULL, whole(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!b || p == MAP_FAILED) {
        free(b);
        if (p != MAP_FAILED) munmap(p, whole(bytes));
        return rm_fail(RM_E_NOMEM, "no address space for a buffer of %.1f MB; use a smaller batch", (double)bytes * 1e-6);
    }
    *b = (rm_buf){ .device = d, .bytes = bytes, .ptr = p };
    *out_buf = b;
    return RM_OK;
}

static void give_back(rm_device *d, rm_buf *b)
{
    munmap(b->ptr, whole(b->bytes));
    free(b);
}

static size_t layout_bytes(rm_device *d, const rm_tdesc *t) { return rm_cuda_bytes_of(t); }

static rm_status plan(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    rm_plan *p = calloc(1, sizeof *p);
    const rm_cuda_layouts l = rm_cuda_layouts_of(op);
    if (!p) return rm_fail(RM_E_NOMEM, "out of memory planning %s", rm_opcode_name(op->code));
    p->op = *op;
    *out_plan = p;
    *out_info = (rm_plan_info){ .impl = "projected", .x = l.x, .x2 = l.x, .w = l.w, .y = l.y, .saved_bytes = l.saved_bytes, .flops = rm_op_flops(op),
                                .bytes_read = rm_op_bytes_read(op), .bytes_written = rm_op_bytes_written(op) };
    return RM_OK;
}

rm_status bench_project_device(rm_device **out)
{
    static rm_device_ops ops;
    ops = rm_device_null;
    ops.name = "projected";
    ops.summary = "plans as cuda does, and computes nothing";
    ops.alloc = take;
    ops.release = give_back;
    ops.layout_bytes = layout_bytes;
    ops.plan = plan;
    return rm_device_open_ops(&ops, NULL, out);
}
