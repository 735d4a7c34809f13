#include "kernels/cuda/cudnn_graph.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors and descriptors */
void rm_cudnn_words(cudnnStatus_t st, char *text, size_t text_size)
{
    char last[2048] = "";
    cudnnGetLastErrorString(last, sizeof last);
    for (char *p = last; *p; p++)
        if (*p == '\n' || *p == '\t') *p = ' ';
    snprintf(text, text_size, "%s%s%s", cudnnGetErrorString(st), last[0] ? ": " : "", last);
}

rm_status rm_cudnn_check(cudnnStatus_t st, const char *what)
{
    if (st == CUDNN_STATUS_SUCCESS) return RM_OK;
    char words[1024];
    rm_cudnn_words(st, words, sizeof words);
    /* A bad parameter too is the graph's fault, and the graph is what was asked for: cuDNN refuses some that way. */
    int category = CUDNN_STATUS_CATEGORY(st);
    bool refused = category == CUDNN_STATUS_NOT_SUPPORTED || category == CUDNN_STATUS_BAD_PARAM;
    bool memory = st == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || st == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return rm_fail(memory ? RM_E_NOMEM : refused ? RM_E_UNSUPPORTED : RM_E_DEVICE, "cudnn: %s: %s", what, words);
}

rm_status rm_cudnn_create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out_d)
{
    cudnnBackendDescriptor_t d = NULL;
    RM_TRY(rm_cudnn_check(cudnnBackendCreateDescriptor(type, &d), "create a descriptor"));
    *out_d = d;
    return RM_OK;
}

void rm_cudnn_destroy(cudnnBackendDescriptor_t d)
{
    if (d) cudnnBackendDestroyDescriptor(d);
}

rm_status rm_cudnn_text(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, const char *what, char **out_text)
{
    int64_t n = 0, got = 0;
    RM_TRY(rm_cudnn_check(cudnnBackendGetAttribute(d, at, CUDNN_TYPE_CHAR, 0, &n, NULL), what));
    char *text = calloc(1, (size_t)n + 1);
    if (!text) return rm_fail(RM_E_NOMEM, "cudnn: %s: no memory for %lld bytes", what, (long long)n);
    rm_status st = rm_cudnn_check(cudnnBackendGetAttribute(d, at, CUDNN_TYPE_CHAR, n, &got, text), what);
    if (st != RM_OK) {
        free(text);
        return st;
    }
    *out_text = text;
    return RM_OK;
}

/* ---- ops as rows. Where `as` is another opcode, rm_cudnn_lower() makes that of it, and the row has no more. */
typedef struct operand {
    rm_slot slot;
    cudnnBackendAttributeName_t at;
} operand;
typedef struct row {
    bool known;
    rm_opcode as;
    cudnnBackendDescriptorType_t type;
    operand tensor[RM_CUDNN_MAX_TENSORS];
    cudnnBackendAttributeName_t window, alpha, beta; /* alpha 0: a pool, without factors */
} row;
#define FWD(a) CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_##a
#define DGRAD(a) CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_##a
#define WGRAD(a) CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_##a
#define POOL(a) CUDNN_ATTR_OPERATION_RESAMPLE_FWD_##a
#define POOL_BWD(a) CUDNN_ATTR_OPERATION_RESAMPLE_BWD_##a
/* clang-format off */
static const row rows[RM_OPCODE_COUNT] = {
    [RM_OP_CONV] = { true, RM_OP_CONV, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
        { { RM_X, FWD(X) }, { RM_W, FWD(W) }, { RM_Y, FWD(Y) } }, FWD(CONV_DESC), FWD(ALPHA), FWD(BETA) },
    [RM_OP_CONV_BWD_DATA] = { true, RM_OP_CONV_BWD_DATA, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
        { { RM_DY, DGRAD(DY) }, { RM_W, DGRAD(W) }, { RM_DX, DGRAD(DX) } }, DGRAD(CONV_DESC), DGRAD(ALPHA), DGRAD(BETA) },
    [RM_OP_CONV_BWD_WEIGHTS] = { true, RM_OP_CONV_BWD_WEIGHTS, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
        { { RM_X, WGRAD(X) }, { RM_DY, WGRAD(DY) }, { RM_DW, WGRAD(DW) } }, WGRAD(CONV_DESC), WGRAD(ALPHA), WGRAD(BETA) },
    [RM_OP_MAXPOOL] = { true, RM_OP_MAXPOOL, CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR,
        { { RM_X, POOL(XDESC) }, { RM_Y, POOL(YDESC) }, { RM_SAVED, POOL(IDXDESC) } }, POOL(DESC), 0, 0 },
    [RM_OP_MAXPOOL_BWD] = { true, RM_OP_MAXPOOL_BWD, CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR,
        { { RM_DY, POOL_BWD(DYDESC) }, { RM_SAVED, POOL_BWD(IDXDESC) }, { RM_DX, POOL_BWD(DXDESC) } }, POOL_BWD(DESC), 0, 0 },
    [RM_OP_FC] = { .known = true, .as = RM_OP_CONV },
    [RM_OP_FC_BWD_DATA] = { .known = true, .as = RM_OP_CONV_BWD_DATA },
    [RM_OP_FC_BWD_WEIGHTS] = { .known = true, .as = RM_OP_CONV_BWD_WEIGHTS },
};
/* clang-format on */
/* tf32 is f32 in memory; that its products may be rounded is said by the rules for plans. */
static const struct {
    bool known;
    cudnnDataType_t type;
    int32_t channels;
} types[RM_DTYPE_COUNT] = {
    [RM_F32] = { true, CUDNN_DATA_FLOAT, 1 },
    [RM_TF32] = { true, CUDNN_DATA_FLOAT, 1 },
    [RM_BF16] = { true, CUDNN_DATA_BFLOAT16, 8 },
    [RM_F16] = { true, CUDNN_DATA_HALF, 8 },
};

bool rm_cudnn_has(rm_opcode code) { return (unsigned)code < RM_OPCODE_COUNT && rows[code].known; }

/* ---- lowering */
static bool is_conv(rm_opcode code) { return rows[rows[code].as].alpha != 0; }

static rm_status check_layout(const rm_op *op, const char *what, const rm_tdesc *t)
{
    bool same = t->layout == RM_LAYOUT_NCHW && t->shape.h == 1 && t->shape.w == 1;
    if (t->layout == RM_LAYOUT_ANY || t->layout == RM_LAYOUT_NHWC || same) return RM_OK;
    return rm_fail(RM_E_UNSUPPORTED, "cudnn: %s: the layout of %s is not nhwc; reorder it", rm_opcode_name(op->code), what);
}

static rm_status check_types(const rm_op *op)
{
    const rm_tdesc *t[] = { &op->x, &op->y, &op->w };
    for (size_t i = 0; i < (is_conv(op->code) ? 3u : 2u); i++)
        if (!types[t[i]->dtype].known)
            return rm_fail(RM_E_UNSUPPORTED, "cudnn: %s: no graphs in %s; use bf16, fp16, tf32 or fp32", rm_opcode_name(op->code), rm_dtype_name(t[i]->dtype));
    return RM_OK;
}

static rm_status completed(const rm_op *op, rm_op *out_op)
{
    rm_op o = *op;
    if (!rm_cudnn_has(op->code)) return rm_fail(RM_E_UNSUPPORTED, "cudnn: no graph for %s", rm_opcode_name(op->code));
    RM_TRY(rm_op_complete(&o));
    const rm_shape is = op->y.shape, want = o.y.shape;
    if (is.n && (is.n != want.n || is.c != want.c || is.h != want.h || is.w != want.w))
        return rm_fail(RM_E_ARG, "cudnn: %s: y is %dx%dx%dx%d, but the op gives %dx%dx%dx%d", rm_opcode_name(op->code), is.n, is.c, is.h, is.w, want.n, want.c,
                       want.h, want.w);
    RM_TRY(check_types(&o));
    RM_TRY(check_layout(&o, "x", &o.x));
    RM_TRY(check_layout(&o, "y", &o.y));
    if (is_conv(o.code)) RM_TRY(check_layout(&o, "w", &o.w));
    o.x.layout = o.y.layout = o.w.layout = RM_LAYOUT_ANY;
    *out_op = o;
    return RM_OK;
}

static int32_t round_up(int32_t n, int32_t to) { return (n + to - 1) / to * to; }

rm_status rm_cudnn_lower(const rm_op *op, rm_op *out_op)
{
    rm_op o;
    RM_TRY(completed(op, &o));
    if (o.code != rows[o.code].as) { /* fc: its window is not set */
        o.code = rows[o.code].as;
        o.u.win.k = o.u.win.stride = 1;
        o.u.win.pad = 0;
        o.y.dtype = o.x.dtype;
    }
    if (is_conv(o.code)) o.x.shape.c = o.w.shape.c = round_up(o.x.shape.c, types[o.x.dtype].channels);
    *out_op = o;
    return RM_OK;
}

/* ---- building. The first failure is kept and the calls after it do nothing, so that a builder reads as a list. */
typedef struct builder {
    rm_status st;
    const char *key, *part;
} builder;

static void check(builder *b, cudnnStatus_t st)
{
    char what[RM_CUDNN_KEY_SIZE + 32];
    snprintf(what, sizeof what, "%s: %s", b->key, b->part);
    b->st = rm_cudnn_check(st, what);
}

static cudnnBackendDescriptor_t make(builder *b, cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *owner)
{
    if (b->st == RM_OK) b->st = rm_cudnn_create(type, owner);
    return *owner;
}

static void set(builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (b->st == RM_OK) check(b, cudnnBackendSetAttribute(d, at, type, n, values));
}

static void set_int(builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, int64_t v) { set(b, d, at, CUDNN_TYPE_INT64, 1, &v); }

static void finish(builder *b, cudnnBackendDescriptor_t d)
{
    if (b->st == RM_OK) check(b, cudnnBackendFinalize(d));
}

static void build_tensor(builder *b, const rm_op *op, rm_cudnn_tensor *t)
{
    const rm_tdesc desc = t->slot == RM_SAVED ? op->y : rm_op_tensor(op, t->slot);
    const int64_t n = desc.shape.n, c = desc.shape.c, h = desc.shape.h, w = desc.shape.w;
    const int64_t dims[] = { n, c, h, w }, strides[] = { c * h * w, 1, c * w, c };
    const cudnnDataType_t type = t->slot == RM_SAVED ? CUDNN_DATA_INT8 : types[desc.dtype].type;
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR, &t->d);
    b->part = rm_slot_name(t->slot);
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set_int(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, rm_cudnn_uid(t->slot));
    set_int(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, RM_CUDNN_ALIGN);
    finish(b, d);
}

static void build_conv_window(builder *b, rm_cudnn_graph *g)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t pad[] = { g->op.u.win.pad, g->op.u.win.pad }, stride[] = { g->op.u.win.stride, g->op.u.win.stride }, dilation[] = { 1, 1 };
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &g->window);
    set_int(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    finish(b, d);
}

static void build_pool_window(builder *b, rm_cudnn_graph *g)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnResampleMode_t mode = CUDNN_RESAMPLE_MAXPOOL;
    const cudnnPaddingMode_t padding = CUDNN_NEG_INF_PAD;
    const cudnnFraction_t k = { g->op.u.win.k, 1 }, s = { g->op.u.win.stride, 1 }, p = { g->op.u.win.pad, 1 };
    const cudnnFraction_t window[] = { k, k }, stride[] = { s, s }, pad[] = { p, p };
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_RESAMPLE_DESCRIPTOR, &g->window);
    set_int(b, d, CUDNN_ATTR_RESAMPLE_SPATIAL_DIMS, 2);
    set(b, d, CUDNN_ATTR_RESAMPLE_MODE, CUDNN_TYPE_RESAMPLE_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_RESAMPLE_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_RESAMPLE_PADDING_MODE, CUDNN_TYPE_PADDING_MODE, 1, &padding);
    set(b, d, CUDNN_ATTR_RESAMPLE_WINDOW_DIMS, CUDNN_TYPE_FRACTION, 2, window);
    set(b, d, CUDNN_ATTR_RESAMPLE_PRE_PADDINGS, CUDNN_TYPE_FRACTION, 2, pad);
    set(b, d, CUDNN_ATTR_RESAMPLE_POST_PADDINGS, CUDNN_TYPE_FRACTION, 2, pad);
    set(b, d, CUDNN_ATTR_RESAMPLE_STRIDES, CUDNN_TYPE_FRACTION, 2, stride);
    finish(b, d);
}

static void build_operation(builder *b, rm_cudnn_graph *g, const row *r)
{
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t d = make(b, r->type, &g->operation);
    for (int i = 0; i < g->n_tensor; i++) set(b, d, r->tensor[i].at, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->tensor[i].d);
    set(b, d, r->window, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->window);
    if (r->alpha) {
        set(b, d, r->alpha, CUDNN_TYPE_FLOAT, 1, &one);
        set(b, d, r->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    }
    finish(b, d);
}

static rm_status build(rm_cudnn_graph *g)
{
    const row *r = &rows[g->op.code];
    builder b = { .st = RM_OK, .key = g->key, .part = "tensor" };
    for (g->n_tensor = 0; g->n_tensor < RM_CUDNN_MAX_TENSORS; g->n_tensor++) {
        g->tensor[g->n_tensor].slot = r->tensor[g->n_tensor].slot;
        build_tensor(&b, &g->op, &g->tensor[g->n_tensor]);
    }
    b.part = "window";
    if (r->alpha) build_conv_window(&b, g);
    else build_pool_window(&b, g);
    b.part = "graph";
    build_operation(&b, g, r);
    cudnnBackendDescriptor_t d = make(&b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &g->graph);
    set(&b, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->operation);
    finish(&b, d);
    return b.st;
}

rm_status rm_cudnn_graph_new(const rm_op *op, rm_cudnn_graph **out_graph)
{
    rm_op o;
    RM_TRY(completed(op, &o));
    if (o.code != rows[o.code].as)
        return rm_fail(RM_E_ARG, "cudnn: %s has no graph of its own: lower it to %s", rm_opcode_name(o.code), rm_opcode_name(rows[o.code].as));
    rm_cudnn_graph *g = calloc(1, sizeof *g);
    if (!g) return rm_fail(RM_E_NOMEM, "cudnn: no memory for a graph");
    g->op = o;
    rm_op_print(&g->op, g->key, sizeof g->key);
    rm_status st = build(g);
    if (st != RM_OK) {
        rm_cudnn_graph_free(g);
        return st;
    }
    *out_graph = g;
    return RM_OK;
}

void rm_cudnn_graph_free(rm_cudnn_graph *g)
{
    if (!g) return;
    rm_cudnn_destroy(g->graph);
    rm_cudnn_destroy(g->operation);
    rm_cudnn_destroy(g->window);
    for (int i = 0; i < RM_CUDNN_MAX_TENSORS; i++) rm_cudnn_destroy(g->tensor[i].d);
    free(g);
}
