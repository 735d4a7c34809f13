/* What cuDNN computes: convolutions, the fully connected layer as one, max-pool. Own kernels bring operands to cuDNN's type and back:
 * its weight gradients have the type of the data (ours are fp32), its fully connected layer has neither bias nor fp32 logits. */
#include "base/rng.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/plans.h"
#include <stdio.h>
#include <string.h>

enum { RUNS = 5 /* of a candidate, after one to warm up; the least counts */, PATTERN = 1 << 16 };

static bool is_fc(rm_opcode c) { return c == RM_OP_FC || c == RM_OP_FC_BWD_DATA || c == RM_OP_FC_BWD_WEIGHTS; }
static bool is_pool(rm_opcode c) { return c == RM_OP_MAXPOOL || c == RM_OP_MAXPOOL_BWD; }
static rm_slot y_slot(rm_opcode c) { return c == RM_OP_FC ? RM_Y : RM_DY; } /* what has the shape of Y */
static bool writes_weights(rm_opcode c) { return c == RM_OP_CONV_BWD_WEIGHTS || c == RM_OP_FC_BWD_WEIGHTS; }

/* ---- running */
static rm_status execute(cuda_device *d, const rm_cudnn_plan *plan, cudnnBackendDescriptor_t pack, cudaStream_t stream, const char *what)
{
    if (d->cudnn_stream != stream) {
        RM_TRY(rm_cudnn_check(cudnnSetStream(d->cudnn, stream), "take a stream"));
        d->cudnn_stream = stream;
    }
    const cudnnStatus_t st = cudnnBackendExecute(d->cudnn, plan->plan, pack);
    return st == CUDNN_STATUS_SUCCESS ? RM_OK : rm_cudnn_check(st, what);
}

/* Operands are at the same addresses in every step: the pack is made once. */
static rm_status run_graph(cuda_plan *p, void *const at[RM_SLOT_COUNT], void *workspace, cudaStream_t stream)
{
    const rm_cudnn_graph *g = p->u.dnn.graph;
    bool same = p->u.dnn.pack != NULL && p->u.dnn.workspace == workspace;
    for (int i = 0; i < g->n_tensor && same; i++) same = at[g->tensor[i].slot] == p->u.dnn.at[g->tensor[i].slot];
    if (!same) {
        rm_cudnn_destroy(p->u.dnn.pack);
        p->u.dnn.pack = NULL;
        RM_TRY(rm_cudnn_pack_new(g, at, workspace, &p->u.dnn.pack));
        memcpy(p->u.dnn.at, at, sizeof p->u.dnn.at);
        p->u.dnn.workspace = workspace;
    }
    return execute(p->device, p->u.dnn.plan, p->u.dnn.pack, stream, g->key);
}

static rm_status cast(const rm_shape s, rm_cuda_type from, int32_t from_c, const void *x, rm_cuda_type to, int32_t to_c, void *y, cudaStream_t stream)
{
    const rm_cuda_tensor src = { from, RM_CUDA_NHWC, from_c }, dst = { to, RM_CUDA_NHWC, to_c };
    return rm_cuda_check(rm_cuda_reorder(s.n, s.h * s.w, src, x, dst, y, stream), "cast");
}

static rm_status run_dnn(cuda_plan *p, void *const t[RM_SLOT_COUNT], char *ws, cudaStream_t stream)
{
    const rm_op *op = &p->base.op, *low = &p->u.dnn.graph->op;
    const rm_shape y = op->y.shape;
    void *at[RM_SLOT_COUNT];
    char *w16 = ws + cuda_align((size_t)p->u.dnn.plan->workspace_bytes), *y16 = w16 + p->u.dnn.w;
    memcpy(at, t, sizeof at);
    if (p->u.dnn.w) at[RM_DW] = w16;
    if (p->u.dnn.y) at[y_slot(op->code)] = y16;
    if (p->u.dnn.y && op->code != RM_OP_FC) RM_TRY(cast(y, RM_CUDA_F32, y.c, t[RM_DY], p->type, y.c, y16, stream));
    RM_TRY(run_graph(p, at, p->u.dnn.plan->workspace_bytes ? ws : NULL, stream));
    if (op->code == RM_OP_FC)
        return rm_cuda_check(rm_cuda_bias_add(p->u.dnn.y ? p->type : RM_CUDA_F32, y.n, y.c, at[RM_Y], t[RM_BETA], t[RM_Y], stream), "add the bias");
    if (p->u.dnn.w) RM_TRY(cast(op->w.shape, p->type, low->w.shape.c, w16, cuda_type(op->w.dtype), op->w.shape.c, t[RM_DW], stream));
    if (op->code == RM_OP_FC_BWD_WEIGHTS)
        return rm_cuda_check(rm_cuda_bias_gradient(RM_CUDA_F32, y.n, y.c, t[RM_DY], t[RM_DBETA], stream), "sum the bias' gradient");
    return RM_OK;
}

/* ---- choosing: candidates are timed on memory of their own */
typedef struct bench {
    cuda_device *d;
    void *memory, *at[RM_SLOT_COUNT], *workspace;
    cudaEvent_t begin, end;
} bench;

static size_t bytes_of(const rm_op *op, rm_slot slot)
{
    if (slot == RM_SAVED) return rm_shape_count(op->y.shape);
    const rm_tdesc t = rm_op_tensor(op, slot);
    return rm_shape_count(t.shape) * rm_dtype_bytes(t.dtype);
}

/* Values of both signs between 0.5 and 1, as bits: a GPU is faster on zeros than on anything that a network has. */
static void make_pattern(rm_dtype type, void *out, size_t bytes)
{
    static const struct { uint32_t half, fraction; } bits[RM_DTYPE_COUNT] = { [RM_F32] = { 0x3f000000u, 23 }, [RM_TF32] = { 0x3f000000u, 23 }, [RM_BF16] = { 0x3f00u, 7 }, [RM_F16] = { 0x3800u, 10 } };
    const size_t each = rm_dtype_bytes(type);
    RM_ASSERT(bits[type].fraction);
    rm_rng r = rm_rng_for(1, 0x706c616eu, 0);
    for (size_t i = 0; i + each <= bytes; i += each) {
        const uint32_t u = rm_rng_u32(&r), sign = each == 4 ? u & 0x80000000u : u >> 16 & 0x8000u, v = bits[type].half | (u & ((1u << bits[type].fraction) - 1)) | sign;
        const uint16_t low = (uint16_t)v;
        memcpy((char *)out + i, each == 4 ? (const void *)&v : (const void *)&low, each);
    }
}

/* The pattern is copied once, then what is there already. */
static rm_status vary(cuda_device *d, rm_dtype type, char *at, size_t bytes)
{
    static char pattern[PATTERN]; /* may be read until the stream has passed it, and is the same every time but for its type */
    const size_t first = bytes < PATTERN ? bytes : PATTERN;
    cudaStream_t s = d->compute.stream;
    RM_TRY(rm_cuda_check(cudaStreamSynchronize(s), "fill memory"));
    make_pattern(type, pattern, sizeof pattern);
    RM_TRY(rm_cuda_check(cudaMemcpyAsync(at, pattern, first, cudaMemcpyHostToDevice, s), "fill memory"));
    for (size_t n = first, more; n < bytes; n += more) {
        more = bytes - n < n ? bytes - n : n;
        RM_TRY(rm_cuda_check(cudaMemcpyAsync(at + n, at, more, cudaMemcpyDeviceToDevice, s), "fill memory"));
    }
    return RM_OK;
}

static rm_status bench_open(cuda_device *d, const rm_cudnn_graph *g, size_t workspace, bench *b)
{
    size_t all = cuda_align(workspace), offset[RM_CUDNN_MAX_TENSORS];
    for (int i = 0; i < g->n_tensor; i++) {
        offset[i] = all;
        all += cuda_align(bytes_of(&g->op, g->tensor[i].slot));
    }
    RM_TRY(rm_cuda_check(cudaMalloc(&b->memory, all), "take memory to time candidates"));
    RM_TRY(rm_cuda_check(cudaMemsetAsync(b->memory, 0, all, d->compute.stream), "clear memory")); /* places of maxima stay 0: they must be right */
    b->d = d;
    b->workspace = workspace ? b->memory : NULL;
    for (int i = 0; i < g->n_tensor; i++) {
        const rm_slot slot = g->tensor[i].slot;
        b->at[slot] = (char *)b->memory + offset[i];
        if (slot != RM_SAVED) RM_TRY(vary(d, rm_op_tensor(&g->op, slot).dtype, b->at[slot], bytes_of(&g->op, slot)));
    }
    RM_TRY(rm_cuda_check(cudaEventCreate(&b->begin), "make an event"));
    return rm_cuda_check(cudaEventCreate(&b->end), "make an event");
}

static void bench_close(bench *b)
{
    if (b->begin) cudaEventDestroy(b->begin);
    if (b->end) cudaEventDestroy(b->end);
    if (b->memory) cudaFree(b->memory);
}

static rm_status time_pack(const bench *b, const rm_cudnn_graph *g, const rm_cudnn_plan *p, cudnnBackendDescriptor_t pack, float *out_ms)
{
    cudaStream_t s = b->d->compute.stream;
    float ms = 0;
    RM_TRY(execute(b->d, p, pack, s, g->key)); /* loads its kernels */
    for (int i = 0; i < RUNS; i++) {
        RM_TRY(rm_cuda_check(cudaEventRecord(b->begin, s), "record an event"));
        RM_TRY(execute(b->d, p, pack, s, g->key));
        RM_TRY(rm_cuda_check(cudaEventRecord(b->end, s), "record an event"));
        RM_TRY(rm_cuda_check(cudaEventSynchronize(b->end), "time a candidate"));
        RM_TRY(rm_cuda_check(cudaEventElapsedTime(&ms, b->begin, b->end), "time a candidate"));
        if (i == 0 || ms < *out_ms) *out_ms = ms;
    }
    return RM_OK;
}

static rm_status time_plan(const bench *b, const rm_cudnn_graph *g, const rm_cudnn_plan *p, float *out_ms)
{
    cudnnBackendDescriptor_t pack = NULL;
    RM_TRY(rm_cudnn_pack_new(g, b->at, p->workspace_bytes ? b->workspace : NULL, &pack));
    const rm_status st = time_pack(b, g, p, pack, out_ms);
    rm_cudnn_destroy(pack);
    return st;
}

static rm_status fastest(const bench *b, const rm_cudnn_graph *g, const rm_cudnn_plan *const *plan, size_t n, size_t *out_index)
{
    float best = 0;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        float ms = 0;
        const rm_status st = time_plan(b, g, plan[i], &ms);
        if (st == RM_E_UNSUPPORTED) continue; /* it was planned and does not run: another will */
        RM_TRY(st);
        if (!any || ms < best) *out_index = i;
        if (!any || ms < best) best = ms;
        any = true;
    }
    return RM_OK;
}

static rm_status pick(void *context, const rm_cudnn_graph *g, const rm_cudnn_plan *const *plan, size_t n, size_t *out_index, bool *out_sure)
{
    cuda_device *d = context;
    size_t workspace = 0;
    bench b = { 0 };
    *out_index = 0;
    if (n == 1) return RM_OK;
    *out_sure = !d->reference_only || rm_cuda_doubles; /* of test doubles, whose times mean nothing, for themselves (open_cache()) */
    if (d->reference_only) return RM_OK;
    for (size_t i = 0; i < n; i++)
        if ((size_t)plan[i]->workspace_bytes > workspace) workspace = (size_t)plan[i]->workspace_bytes;
    rm_status st = bench_open(d, g, workspace, &b);
    if (st == RM_OK) st = fastest(&b, g, plan, n, out_index);
    bench_close(&b);
    if (st != RM_E_NOMEM) return st;
    *out_index = 0; /* without memory to try them: cuDNN's first choice, this time */
    *out_sure = false;
    return RM_OK;
}

/* ---- planning */
/* The op as cuDNN gets it: its layouts are cuDNN's own, its weights have the type of the data. */
static rm_status lower(const rm_op *op, rm_op *out)
{
    rm_op o = *op;
    o.x.layout = o.w.layout = o.y.layout = RM_LAYOUT_ANY;
    if (!is_pool(o.code)) o.w.dtype = o.x.dtype;
    return rm_cudnn_lower(&o, out);
}

static rm_status open_cache(cuda_device *d)
{
    char path[1024], identity[sizeof d->gpu->identity + 32];
    if (d->cache) return RM_OK;
    snprintf(identity, sizeof identity, "%s%s", d->gpu->identity, rm_cuda_doubles ? " | test doubles" : "");
    rm_plans_file(identity, "cudnn", path, sizeof path);
    return rm_cudnn_cache_open(path, identity, &d->cache);
}

static bool same_memory(const rm_tdesc *a, const rm_tdesc *b) { return rm_dtype_bytes(a->dtype) == rm_dtype_bytes(b->dtype) && a->shape.c == b->shape.c; }

static void lay_out(cuda_plan *p, rm_plan_info *i)
{
    const rm_op *op = &p->base.op, *low = &p->u.dnn.graph->op;
    const bool padded = !is_pool(op->code) && low->x.shape.c != op->x.shape.c;
    i->x = i->x2 = padded ? CUDA_PADDED : RM_LAYOUT_NHWC;
    i->w = padded && !writes_weights(op->code) ? CUDA_PADDED : RM_LAYOUT_NHWC;
    if (is_fc(op->code)) i->y = RM_LAYOUT_NCHW;
    if (writes_weights(op->code) && !same_memory(&op->w, &low->w)) p->u.dnn.w = cuda_align(bytes_of(low, RM_DW));
    if (is_fc(op->code) && !same_memory(&op->y, &low->y)) p->u.dnn.y = cuda_align(bytes_of(low, y_slot(op->code)));
    if (rm_dtype_bytes(op->x.dtype) == 2) i->via = op->x.dtype;
    i->workspace_bytes = cuda_align((size_t)p->u.dnn.plan->workspace_bytes) + p->u.dnn.w + p->u.dnn.y;
    if (is_pool(op->code)) i->saved_bytes = bytes_of(low, RM_SAVED);
    snprintf(i->impl, sizeof i->impl, "cudnn:%.57s", p->u.dnn.plan->name);
}

rm_status cuda_dnn_plan(cuda_plan *p, rm_plan_info *i)
{
    rm_op low;
    cuda_device *d = p->device;
    p->run = run_dnn;
    RM_TRY(lower(&p->base.op, &low));
    RM_TRY(open_cache(d));
    RM_TRY(rm_cudnn_graph_new(&low, &p->u.dnn.graph));
    const rm_cudnn_rules rules = rm_cudnn_rules_for(&low, d->deterministic);
    RM_TRY(rm_cudnn_plan_new(p->u.dnn.graph, d->gpu, &rules, d->cache, pick, d, &p->u.dnn.plan));
    lay_out(p, i);
    return RM_OK;
}

void cuda_dnn_free(cuda_plan *p)
{
    rm_cudnn_destroy(p->u.dnn.pack);
    rm_cudnn_plan_free(p->u.dnn.plan);
    rm_cudnn_graph_free(p->u.dnn.graph);
}
