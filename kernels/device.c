/* The checked wrappers over the device tables. A breach of device.h's contract by our own code stops the program here,
 * where the caller is on the stack; what the user or the machine did is a status. */
#include "kernels/device.h"
#include "base/log.h"
#include "kernels/libraries.h"
#include "profiler/gpu_explain.h"
#include <stdio.h>
#include <string.h>

#ifndef RM_HAVE_CUDA
#define RM_HAVE_CUDA 0
#endif

/* Defined by programs whose CUDA libraries are test doubles (tests/cuda/doubles). */
extern const char rm_cuda_doubles[] __attribute__((weak));

const char *rm_device_origin(const char *name) { return rm_cuda_doubles && !strcmp(name, "cuda") ? "emulated" : "measured"; }

/* ---- finding and opening */
#if !RM_HAVE_CUDA
static rm_status cuda_missing(void)
{
    return rm_fail(RM_E_UNSUPPORTED, "cuda: not in this build: %s", rm_cuda_missing());
}
/* Listed so that "bench info" and --device cuda can say why it is not there; available() never lets it be opened. */
static const rm_device_ops device_cuda_missing = {
    .abi = RM_DEVICE_ABI, .name = "cuda", .summary = "NVIDIA GPUs (cuDNN)", .available = cuda_missing,
};
#endif

static const rm_device_ops *const devices[] = {
#if RM_HAVE_CUDA
    &rm_device_cuda,
#else
    &device_cuda_missing,
#endif
    &rm_device_cpu, &rm_device_ref, &rm_device_null, NULL,
};
enum { AUTO_DEVICES = 2 }; /* the first ones of the list compute at speed; ref and null must be asked for */

const rm_device_ops *const *rm_device_list(void) { return devices; }

/* A GPU that is there and cannot be used is not passed over in silence. */
static void say_passed_over(const rm_device_ops *ops)
{
    char why[400], words[512];
    const rm_gpu_trouble t = { .cuda_words = "", .root = "" };
    if (strcmp(ops->name, "cuda") != 0) return;
    snprintf(words, sizeof words, "%s", rm_last_error());
    if (rm_nvml_explain(&t, why, sizeof why)) rm_warn_once("gpu passed over", "device auto passes over the GPU of this machine: %s", words);
    (void)rm_fail(RM_E_UNSUPPORTED, "%s", words); /* the question may have failed in its own words */
}

static rm_status find_auto(const rm_device_ops **out_ops)
{
    char why[512] = "";
    for (size_t i = 0; i < AUTO_DEVICES; i++) {
        if (devices[i]->available() == RM_OK) { *out_ops = devices[i]; return RM_OK; }
        say_passed_over(devices[i]);
        size_t used = strlen(why);
        snprintf(why + used, sizeof why - used, "%s%s", used ? "; " : "", rm_last_error());
    }
    return rm_fail(RM_E_UNSUPPORTED, "no device to compute on: %s", why);
}

static rm_status find_device(const char *name, const rm_device_ops **out_ops)
{
    if (!strcmp(name, "auto")) return find_auto(out_ops);
    for (size_t i = 0; devices[i]; i++) {
        if (strcmp(name, devices[i]->name) != 0) continue;
        RM_TRY(devices[i]->available());
        *out_ops = devices[i];
        return RM_OK;
    }
    return rm_fail(RM_E_ARG, "unknown device \"%s\": use auto, cuda, cpu, ref or null", name);
}

rm_status rm_device_count(const char *name, int32_t *out_n)
{
    const rm_device_ops *ops = NULL;
    RM_TRY(find_device(name, &ops));
    *out_n = ops->count ? ops->count() : 0;
    return RM_OK;
}

rm_status rm_device_open_ops(const rm_device_ops *ops, const rm_device_config *cfg, rm_device **out_device)
{
    static const rm_device_config defaults = { .ordinal = 0 };
    rm_device *d = NULL;
    if (ops->abi != RM_DEVICE_ABI) RM_BUG("device table of another version");
    RM_TRY(ops->open(cfg ? cfg : &defaults, &d));
    d->ops = ops;
    d->allocs = d->runs = d->live = d->live_bytes = d->peak_bytes = 0;
    *out_device = d;
    return RM_OK;
}

rm_status rm_device_open(const char *name, const rm_device_config *cfg, rm_device **out_device)
{
    const rm_device_ops *ops = NULL;
    RM_TRY(find_device(name, &ops));
    const rm_status st = rm_device_open_ops(ops, cfg, out_device);
    if (st != RM_E_DEVICE && st != RM_E_UNSUPPORTED && st != RM_E_NOMEM) return st;
    if (strcmp(name, "auto") != 0 || ops != devices[0] || devices[1]->available() != RM_OK) return st;
    say_passed_over(ops); /* it is taken by another process, full, or too old */
    return rm_device_open_ops(devices[1], cfg, out_device);
}

void rm_device_close(rm_device *d)
{
    if (!d) return;
    if (d->live != 0) RM_BUG("device closed with live buffers");
    d->ops->close(d);
}

void rm_device_get_info(const rm_device *d, rm_device_info *out_info)
{
    memset(out_info, 0, sizeof *out_info);
    d->ops->info(d, out_info);
}

rm_status rm_device_describe(const char *name, const rm_device_config *cfg, rm_device_info *out_info)
{
    static const rm_device_config defaults = { .ordinal = 0 };
    const rm_device_ops *ops = NULL;
    rm_device *d = NULL;
    RM_TRY(find_device(name, &ops));
    memset(out_info, 0, sizeof *out_info);
    if (ops->describe) return ops->describe(cfg ? cfg : &defaults, out_info);
    RM_TRY(rm_device_open_ops(ops, cfg, &d));
    rm_device_get_info(d, out_info);
    rm_device_close(d);
    return RM_OK;
}

const char *rm_device_name(const rm_device *d) { return d->ops->name; }
uint64_t rm_device_allocs(const rm_device *d) { return d->allocs; }
uint64_t rm_device_runs(const rm_device *d) { return d->runs; }
uint64_t rm_device_bytes(const rm_device *d) { return d->live_bytes; }
uint64_t rm_device_peak_bytes(const rm_device *d) { return d->peak_bytes; }

/* ---- memory */
rm_status rm_buf_alloc(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf)
{
    rm_buf *buf = NULL;
    RM_TRY(d->ops->alloc(d, mem, bytes, &buf));
    RM_ASSERT(buf->device == d && buf->bytes >= bytes);
    d->allocs++;
    d->live++;
    d->live_bytes += buf->bytes;
    if (d->live_bytes > d->peak_bytes) d->peak_bytes = d->live_bytes;
    *out_buf = buf;
    return RM_OK;
}

void rm_buf_abandon(rm_device *d, rm_buf *buf)
{
    RM_ASSERT(buf->device == d && d->live > 0);
    d->live--;
    d->live_bytes -= buf->bytes;
}

void rm_buf_free(rm_device *d, rm_buf *buf)
{
    if (!buf) return;
    RM_ASSERT(buf->device == d && d->live > 0);
    d->live--;
    d->live_bytes -= buf->bytes;
    d->ops->release(d, buf);
}

size_t rm_buf_bytes(const rm_buf *buf) { return buf->bytes; }
void *rm_buf_host(rm_buf *buf) { return buf->device->ops->host(buf); }

static bool inside(const rm_device *d, rm_ref r, size_t bytes)
{
    return r.buf && r.buf->device == d && r.offset <= r.buf->bytes && bytes <= r.buf->bytes - r.offset;
}

rm_status rm_device_write(rm_device *d, rm_queue *q, rm_ref dst, const void *src, size_t bytes)
{
    RM_ASSERT(inside(d, dst, bytes));
    return d->ops->write(d, q, dst, src, bytes);
}

rm_status rm_device_read(rm_device *d, rm_queue *q, void *dst, rm_ref src, size_t bytes)
{
    RM_ASSERT(inside(d, src, bytes));
    return d->ops->read(d, q, dst, src, bytes);
}

rm_status rm_device_fill(rm_device *d, rm_queue *q, rm_ref dst, int byte, size_t bytes)
{
    RM_ASSERT(inside(d, dst, bytes));
    RM_ASSERT(d->ops->fill);
    return d->ops->fill(d, q, dst, byte, bytes);
}

/* ---- order and time */
rm_status rm_queue_new(rm_device *d, rm_queue **out_queue) { return d->ops->queue_new(d, out_queue); }
void rm_queue_free(rm_device *d, rm_queue *q) { if (q) d->ops->queue_free(d, q); }
rm_status rm_device_sync(rm_device *d, rm_queue *q) { return d->ops->sync(d, q); }
rm_status rm_mark_new(rm_device *d, rm_mark **out_mark) { return d->ops->mark_new(d, out_mark); }
void rm_mark_free(rm_device *d, rm_mark *m) { if (m) d->ops->mark_free(d, m); }
rm_status rm_mark_set(rm_device *d, rm_queue *q, rm_mark *m) { return d->ops->mark_set(d, q, m); }
rm_status rm_mark_wait(rm_device *d, rm_queue *q, const rm_mark *m) { return d->ops->mark_wait(d, q, m); }
bool rm_mark_done(const rm_device *d, const rm_mark *m) { return d->ops->mark_done(m); }

rm_status rm_mark_ns(const rm_device *d, const rm_mark *m, uint64_t *out_ns)
{
    if (!d->ops->mark_done(m)) RM_BUG("time of a mark that is not done");
    return d->ops->mark_ns(m, out_ns);
}

rm_status rm_device_spin(rm_device *d, rm_queue *q, uint64_t ns)
{
    if (!d->ops->spin) return rm_fail(RM_E_UNSUPPORTED, "%s: cannot be kept busy for a given time, so that nothing can be injected into its ops", d->ops->name);
    return ns ? d->ops->spin(d, q, ns) : RM_OK;
}

/* ---- recordings */
bool rm_device_can_record(const rm_device *d) { return d->ops->record_begin != NULL; }
rm_status rm_record_begin(rm_device *d) { return d->ops->record_begin(d); }
rm_status rm_record_end(rm_device *d, rm_recording **out_recording) { return d->ops->record_end(d, out_recording); }
rm_status rm_record_run(rm_device *d, rm_recording *r) { return d->ops->record_run(d, r); }
void rm_record_free(rm_device *d, rm_recording *r) { if (r) d->ops->record_free(d, r); }

/* ---- ops */
size_t rm_layout_bytes(rm_device *d, const rm_tdesc *t) { return d->ops->layout_bytes(d, t); }

static int32_t planned_layout(const rm_plan_info *info, rm_slot slot)
{
    switch (slot) {
    case RM_X: case RM_DX: return info->x;
    case RM_X2: case RM_DX2: return info->x2 ? info->x2 : info->x;
    case RM_W: case RM_DW: return info->w;
    case RM_Y: case RM_DY: case RM_DY2: return info->y;
    default: return RM_LAYOUT_NCHW;
    }
}

/* What a run will be checked against, so that the check itself is a few comparisons. */
static void note_needs(rm_device *d, const rm_op *op, rm_plan *plan)
{
    plan->device = d;
    plan->used = plan->written = 0;
    for (int i = 0; i < RM_SLOT_COUNT; i++) {
        rm_slot slot = (rm_slot)i;
        unsigned use = rm_op_uses(op, slot);
        if (!use) continue;
        plan->used |= 1u << i;
        if (use & RM_WRITE) plan->written |= 1u << i;
        rm_tdesc t = rm_op_tensor(op, slot);
        if (slot == RM_SAVED) { plan->need[i] = plan->info.saved_bytes; continue; }
        if (slot == RM_HYPER) { plan->need[i] = RM_HYPER_COUNT * sizeof(double); continue; } /* double on every device */
        if (op->code != RM_OP_OPTIM && planned_layout(&plan->info, slot) != RM_LAYOUT_ANY)
            t.layout = planned_layout(&plan->info, slot);
        plan->need[i] = t.layout == RM_LAYOUT_ANY ? rm_shape_count(t.shape) * rm_dtype_bytes(t.dtype) : d->ops->layout_bytes(d, &t);
    }
}

rm_status rm_device_plan(rm_device *d, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    rm_op complete = *op;
    rm_plan_info info = { .impl = "" };
    rm_plan *plan = NULL;
    RM_TRY(rm_op_complete(&complete));
    if (op->code == RM_OP_OPTIM && !op->u.optim.segment) return rm_fail(RM_E_ARG, "optim: planned without its table of segments");
    RM_TRY(d->ops->plan(d, &complete, &plan, &info));
    RM_ASSERT(plan->op.code == op->code);
    plan->info = info;
    note_needs(d, &complete, plan);
    *out_plan = plan;
    *out_info = info;
    return RM_OK;
}

static bool may_alias(const rm_plan *plan, int out, int other)
{
    switch (plan->op.code) {
    case RM_OP_ADD: case RM_OP_RELU: return out == RM_Y && (other == RM_X || other == RM_X2);
    case RM_OP_RELU_BWD: case RM_OP_BN_BWD: return out == RM_DX && other == RM_DY;
    default: return false;
    }
}

static bool overlap(const rm_plan *plan, const rm_args *args, int a, int b)
{
    const rm_ref *p = &args->t[a], *q = &args->t[b];
    return p->buf == q->buf && p->offset < q->offset + plan->need[b] && q->offset < p->offset + plan->need[a];
}

static void check_args(const rm_device *d, const rm_plan *plan, const rm_args *args)
{
    RM_ASSERT(plan->device == d);
    for (uint32_t set = plan->used; set; set &= set - 1) {
        int i = __builtin_ctz(set);
        if (!inside(d, args->t[i], plan->need[i])) {
            char what[160];
            snprintf(what, sizeof what, "%s: operand %s is missing or smaller than its %zu bytes", rm_opcode_name(plan->op.code),
                     rm_slot_name((rm_slot)i), plan->need[i]);
            RM_BUG(what);
        }
    }
    for (uint32_t outs = plan->written; outs; outs &= outs - 1) {
        int out = __builtin_ctz(outs);
        for (uint32_t rest = plan->used & ~(1u << out); rest; rest &= rest - 1) {
            int other = __builtin_ctz(rest);
            bool twin = plan->written >> other & 1 && may_alias(plan, other, out);
            if (overlap(plan, args, out, other) && !twin && !may_alias(plan, out, other)) RM_BUG("operands of one op overlap");
        }
    }
    if (plan->info.workspace_bytes) RM_ASSERT(inside(d, args->workspace, plan->info.workspace_bytes));
}

rm_status rm_device_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    check_args(d, plan, args);
    d->runs++;
    return d->ops->run(d, q, plan, args);
}

void rm_plan_free(rm_device *d, rm_plan *plan)
{
    if (plan) d->ops->plan_free(d, plan);
}
