/* The cpu device's table: opening, memory, queues, marks, planning and running. */
#define _GNU_SOURCE
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/peaks.h"
#include "kernels/hostbuf.h"
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { HUGE_PAGE = 2 << 20, HUGE_FROM = 1 << 20 };

static rm_status cpu_available(void) { return RM_OK; }

/* ---- what the processor is */
static const char *isa_name(dnnl_cpu_isa_t isa)
{
    static const struct { dnnl_cpu_isa_t isa; const char *name; } row[] = {
        {dnnl_cpu_isa_sse41, "sse41"}, {dnnl_cpu_isa_avx, "avx"}, {dnnl_cpu_isa_avx2, "avx2"}, {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
        {dnnl_cpu_isa_avx512_core, "avx512_core"}, {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"}, {dnnl_cpu_isa_avx512_core_fp16, "avx512_core_fp16"},
        {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"}};
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (row[i].isa == isa) return row[i].name;
    return "other";
}

static void cpu_model(char *name, size_t size)
{
    char line[256];
    snprintf(name, size, "processor");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0) continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(name, size, "%s", colon + 2);
        break;
    }
    fclose(f);
}

static int usable_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static void fill_info(cpu_device *d)
{
    const dnnl_version_t *v = dnnl_version();
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    rm_device_info *i = &d->info;
    snprintf(i->device, sizeof i->device, "cpu");
    cpu_model(i->name, sizeof i->name);
    snprintf(i->library, sizeof i->library, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    snprintf(i->isa, sizeof i->isa, "%s", isa_name(isa));
    i->threads = d->threads;
    i->memory_bytes = rm_host_memory_bytes();
    i->dtypes = 1u << RM_F32 | 1u << RM_BF16;
    d->native_bf16 = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    d->block = (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core ? 16 : 8;
    i->native_dtypes = 1u << RM_F32 | (d->native_bf16 ? 1u << RM_BF16 : 0);
}

/* A fresh net is full of zeros and near-zeros; denormal operands cost a hundred cycles each. */
static void flush_denormals(int threads)
{
#if defined(__x86_64__)
#pragma omp parallel num_threads(threads)
    _mm_setcsr(_mm_getcsr() | 0x8040u); /* flush to zero, denormals are zero */
#endif
}

static void cpu_close(rm_device *dev)
{
    cpu_device *d = (cpu_device *)dev;
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    for (size_t i = 0; i < d->n_choice; i++) free(d->choice[i].key);
    free(d->choice);
    free(d->tune);
    free(d);
}

static rm_status cpu_open(const rm_device_config *cfg, rm_device **out_device)
{
    if (cfg->threads < 0) return rm_fail(RM_E_ARG, "cpu: threads=%d is negative; 0 means all cores", cfg->threads);
    cpu_device *d = calloc(1, sizeof *d);
    if (!d) return rm_fail(RM_E_NOMEM, "cpu: no memory for the device");
    d->threads = cfg->threads ? cfg->threads : usable_cores();
    d->reference_only = cfg->reference_only;
    omp_set_num_threads(d->threads);
    omp_set_dynamic(0);
    flush_denormals(d->threads);
    if (dnnl_engine_create(&d->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags) != dnnl_success) {
        cpu_close(&d->base);
        return rm_fail(RM_E_DEVICE, "cpu: oneDNN could not create its engine");
    }
    fill_info(d);
    *out_device = &d->base;
    return RM_OK;
}

static void cpu_info(const rm_device *d, rm_device_info *out_info) { *out_info = ((const cpu_device *)d)->info; }

/* ---- memory */
static rm_status cpu_alloc(rm_device *d, rm_mem mem, size_t bytes, rm_buf **out_buf)
{
    const size_t page = bytes >= HUGE_FROM ? HUGE_PAGE : CPU_ALIGN;
    rm_buf *buf = malloc(sizeof *buf);
    void *ptr = NULL;
    if (!buf || bytes > SIZE_MAX - page || posix_memalign(&ptr, page, bytes ? bytes : 1)) {
        free(buf);
        return rm_fail(RM_E_NOMEM, "cpu: out of memory for a buffer of %zu MiB; use a smaller batch", bytes >> 20);
    }
    if (bytes >= HUGE_FROM) madvise(ptr, bytes, MADV_HUGEPAGE); /* a hint: failure costs speed only */
    memset(ptr, 0, bytes);
    *buf = (rm_buf){.device = d, .bytes = bytes, .ptr = ptr};
    *out_buf = buf;
    return RM_OK;
}

/* ---- ops */
static size_t cpu_layout_bytes(rm_device *d, const rm_tdesc *t) { return cpu_bytes(t); }

static rm_status (*const builder[RM_OPCODE_COUNT])(cpu_plan *p) = {
    [RM_OP_BN] = cpu_build_bn, [RM_OP_BN_BWD] = cpu_build_bn_bwd, [RM_OP_RELU] = cpu_build_eltwise,
    [RM_OP_RELU_BWD] = cpu_build_eltwise, [RM_OP_ADD] = cpu_build_eltwise, [RM_OP_MAXPOOL] = cpu_build_maxpool,
    [RM_OP_MAXPOOL_BWD] = cpu_build_maxpool_bwd, [RM_OP_AVGPOOL] = cpu_build_avgpool, [RM_OP_AVGPOOL_BWD] = cpu_build_avgpool_bwd,
    [RM_OP_FC] = cpu_build_fc, [RM_OP_FC_BWD_DATA] = cpu_build_fc, [RM_OP_FC_BWD_WEIGHTS] = cpu_build_fc,
    [RM_OP_SOFTMAX_XENT] = cpu_build_xent, [RM_OP_OPTIM] = cpu_build_optim, [RM_OP_REORDER] = cpu_build_reorder,
    [RM_OP_AUGMENT] = cpu_build_augment};

static rm_status check_dtypes(const rm_op *op)
{
    const rm_tdesc *t[] = {&op->x, &op->w, &op->y};
    for (size_t i = 0; i < RM_COUNT(t); i++) {
        rm_dtype type = t[i]->dtype;
        if (t[i]->shape.n == 0 || type == RM_F32 || type == RM_BF16 || (type == RM_U8 && op->code == RM_OP_AUGMENT)) continue;
        return rm_fail(RM_E_UNSUPPORTED, "cpu: %s in %s is not supported; use fp32 or bf16", rm_opcode_name(op->code), rm_dtype_name(type));
    }
    return RM_OK;
}

static rm_status build(cpu_device *d, const rm_op *op, cpu_plan **out_plan)
{
    if (op->code == RM_OP_CONV || op->code == RM_OP_CONV_BWD_DATA || op->code == RM_OP_CONV_BWD_WEIGHTS)
        return cpu_build_conv(d, op, out_plan);
    cpu_plan *p = NULL;
    RM_TRY(cpu_plan_new(d, op, &p));
    rm_status st = builder[op->code](p);
    if (st != RM_OK) { cpu_plan_destroy(p); return st; }
    *out_plan = p;
    return RM_OK;
}

static rm_status cpu_plan_op(rm_device *dev, const rm_op *op, rm_plan **out_plan, rm_plan_info *out_info)
{
    cpu_device *d = (cpu_device *)dev;
    cpu_plan *p = NULL;
    RM_TRY(check_dtypes(op));
    if (omp_get_max_threads() != d->threads) omp_set_num_threads(d->threads);
    RM_TRY(build(d, op, &p));
    *out_plan = &p->base;
    *out_info = p->base.info;
    return RM_OK;
}

static rm_status cpu_run_plan(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    void *base[CPU_BASES];
    for (int i = 0; i < RM_SLOT_COUNT; i++) base[i] = rm_hostbuf_at(args->t[i]);
    base[CPU_WORKSPACE] = rm_hostbuf_at(args->workspace);
    return cpu_plan_execute((cpu_plan *)plan, base);
}

static void cpu_plan_free(rm_device *d, rm_plan *plan) { cpu_plan_destroy((cpu_plan *)plan); }

const rm_device_ops rm_device_cpu = {
    .abi = RM_DEVICE_ABI, .name = "cpu", .summary = "this processor (oneDNN)",
    .available = cpu_available, .open = cpu_open, .close = cpu_close, .info = cpu_info,
    .alloc = cpu_alloc, .release = rm_hostbuf_release, .host = rm_hostbuf_host,
    .write = rm_hostsync_write, .read = rm_hostsync_read, .fill = rm_hostsync_fill,
    .queue_new = rm_hostsync_queue_new, .queue_free = rm_hostsync_queue_free, .sync = rm_hostsync_sync,
    .mark_new = rm_hostsync_mark_new, .mark_free = rm_hostsync_mark_free, .mark_set = rm_hostsync_mark_set, .mark_wait = rm_hostsync_mark_wait,
    .mark_done = rm_hostsync_mark_done, .mark_ns = rm_hostsync_mark_ns, .spin = rm_hostsync_spin,
    .layout_bytes = cpu_layout_bytes, .plan = cpu_plan_op, .run = cpu_run_plan, .plan_free = cpu_plan_free,
    .choice_at = cpu_choice_at, .choice_force = cpu_choice_force, .peaks = cpu_peaks,
};
