/* The double of what cuDNN executes, by plans of the real library, against loops in double precision that share nothing with it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/cuda/cudnn_plan.h"
#include "tests/cuda/doubles/child.h"
#include <math.h>

enum { MOST = 1 << 16 };
static cudaStream_t stream;
static cudnnHandle_t handle;
static rm_cudnn_device *gpu;

#define FINE(call)                                                                                                                                      \
    do {                                                                                                                                                \
        if ((call) != RM_OK) {                                                                                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, rm_last_error());                                                                        \
            _exit(1);                                                                                                                                   \
        }                                                                                                                                               \
    } while (0)

/* ---- a graph with its plan and memory */
typedef struct rig {
    rm_op op;
    rm_cudnn_graph *graph;
    rm_cudnn_plan *plan;
    void *at[RM_SLOT_COUNT], *workspace;
    double value[RM_SLOT_COUNT][MOST]; /* what is in the inputs, rounded as they are */
} rig;
static rig r;

static size_t count(const rm_op *op, rm_slot s) { return s == RM_SAVED ? rm_shape_count(op->y.shape) : rm_shape_count(rm_op_tensor(op, s).shape); }
static rm_dtype type_of(const rm_op *op, rm_slot s) { return rm_op_tensor(op, s).dtype; }

static double rounded(double v, int bits)
{
    int e;
    const double m = frexp(v, &e);
    return ldexp(nearbyint(ldexp(m, bits)), e - bits);
}
static void encode(rm_dtype t, double v, char *to)
{
    const float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (t == RM_F16) *(_Float16 *)to = (_Float16)f;
    else memcpy(to, t == RM_BF16 ? (char *)&bits + 2 : (char *)&bits, rm_dtype_bytes(t));
}
static double decode(rm_dtype t, const char *from)
{
    uint32_t bits = 0;
    float f;
    if (t == RM_F16) return (double)*(const _Float16 *)from;
    memcpy(t == RM_BF16 ? (char *)&bits + 2 : (char *)&bits, from, rm_dtype_bytes(t));
    memcpy(&f, &bits, 4);
    return f;
}

static void fill(rm_slot s)
{
    static char bytes[MOST * 4];
    static uint64_t seed = 1;
    const rm_dtype t = type_of(&r.op, s);
    const size_t n = count(&r.op, s);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const double v = (double)(int32_t)(seed >> 32) / 2147483648.0;
        r.value[s][i] = t == RM_BF16 ? rounded(v, 8) : t == RM_F16 ? rounded(v, 11) : (float)v;
        if (t == RM_TF32) r.value[s][i] = rounded(v, 11); /* whether the engine rounds or not */
        encode(t, r.value[s][i], bytes + i * rm_dtype_bytes(t));
    }
    GOOD(cudaMemcpy(r.at[s], bytes, n * rm_dtype_bytes(t), cudaMemcpyHostToDevice));
}

static void open_gpu(void)
{
    GOOD(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (cudnnCreate(&handle) != CUDNN_STATUS_SUCCESS || cudnnSetStream(handle, stream) != CUDNN_STATUS_SUCCESS) _exit(1);
    FINE(rm_cudnn_device_open(0, &gpu));
}

static rm_status most_workspace(void *unused, const rm_cudnn_graph *g, const rm_cudnn_plan *const *plan, size_t n, size_t *out_index, bool *out_sure)
{
    *out_index = 0;
    for (size_t i = 1; i < n; i++)
        if (plan[i]->workspace_bytes > plan[*out_index]->workspace_bytes) *out_index = i;
    return RM_OK;
}

static void build(const char *text)
{
    rm_op op;
    FINE(rm_op_parse(text, &op));
    FINE(rm_cudnn_lower(&op, &r.op));
    FINE(rm_cudnn_graph_new(&r.op, &r.graph));
    r.op = r.graph->op;
    const rm_cudnn_rules rules = rm_cudnn_rules_for(&r.op, false);
    FINE(rm_cudnn_plan_new(r.graph, gpu, &rules, NULL, most_workspace, NULL, &r.plan));
    for (int i = 0; i < r.graph->n_tensor; i++) GOOD(cudaMalloc(&r.at[r.graph->tensor[i].slot], count(&r.op, r.graph->tensor[i].slot) * 4));
    if (r.plan->workspace_bytes) GOOD(cudaMalloc(&r.workspace, (size_t)r.plan->workspace_bytes));
}

static cudnnStatus_t execute(void)
{
    cudnnBackendDescriptor_t pack;
    FINE(rm_cudnn_pack_new(r.graph, r.at, r.workspace, &pack));
    const cudnnStatus_t st = cudnnBackendExecute(handle, r.plan->plan, pack);
    rm_cudnn_destroy(pack); /* what was enqueued does not need it */
    return st;
}

static void fetch(rm_slot s, double *to)
{
    static char bytes[MOST * 4];
    const rm_dtype t = type_of(&r.op, s);
    GOOD(cudaStreamSynchronize(stream));
    GOOD(cudaMemcpy(bytes, r.at[s], count(&r.op, s) * rm_dtype_bytes(t), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < count(&r.op, s); i++) to[i] = decode(t, bytes + i * rm_dtype_bytes(t));
}

/* ---- convolutions */
/* Calls see() for every product: indices in x, w and y. */
static void each_product(const rm_op *op, void (*see)(size_t x, size_t w, size_t y))
{
    const rm_shape x = op->x.shape, y = op->y.shape;
    const int k = op->u.win.k;
    for (int n = 0; n < y.n; n++)
        for (int p = 0; p < y.h; p++)
            for (int q = 0; q < y.w; q++)
                for (int o = 0; o < y.c; o++)
                    for (int i = 0; i < k; i++)
                        for (int j = 0; j < k; j++) {
                            const int h = p * op->u.win.stride - op->u.win.pad + i, w = q * op->u.win.stride - op->u.win.pad + j;
                            if (h < 0 || w < 0 || h >= x.h || w >= x.w) continue;
                            for (int c = 0; c < x.c; c++)
                                see((size_t)((n * x.h + h) * x.w + w) * (size_t)x.c + (size_t)c, (size_t)((o * k + i) * k + j) * (size_t)x.c + (size_t)c,
                                    (size_t)((n * y.h + p) * y.w + q) * (size_t)y.c + (size_t)o);
                        }
}

static double want[MOST], got[MOST], scale[MOST];
static void add(double *out, size_t i, double v)
{
    out[i] += v;
    scale[i] += fabs(v);
}
static void see_forward(size_t x, size_t w, size_t y) { add(want, y, r.value[RM_X][x] * r.value[RM_W][w]); }
static void see_data(size_t x, size_t w, size_t y) { add(want, x, r.value[RM_DY][y] * r.value[RM_W][w]); }
static void see_weights(size_t x, size_t w, size_t y) { add(want, w, r.value[RM_DY][y] * r.value[RM_X][x]); }

static const char *const passes[] = { "conv", "conv_bwd_data", "conv_bwd_weights" };
static const struct {
    rm_slot in[2], out;
    void (*see)(size_t x, size_t w, size_t y);
} pass_rows[] = { { { RM_X, RM_W }, RM_Y, see_forward }, { { RM_DY, RM_W }, RM_DX, see_data }, { { RM_X, RM_DY }, RM_DW, see_weights } };
static const char *const shapes[] = { "n=2 c=16 h=9 w=7 o=24 k=3 s=1 p=1", "n=1 c=8 h=11 w=11 o=16 k=3 s=2 p=1", "n=3 c=24 h=6 w=6 o=8 k=1 s=1 p=0",
                                      "n=2 c=16 h=8 w=8 o=32 k=1 s=2 p=0", "n=1 c=8 h=15 w=13 o=8 k=7 s=2 p=3", "n=2 c=64 h=4 w=4 o=72 k=3 s=1 p=1" };
static const struct {
    const char *name;
    double eps;
} types[] = { { "f32", 1e-6 }, { "tf32", 1e-6 }, { "bf16", 0x1p-8 }, { "f16", 0x1p-11 } };

static size_t pass, shape;
static void check_type(size_t type)
{
    char text[256];
    const rm_slot out = pass_rows[pass].out;
    snprintf(text, sizeof text, "%s %s dtype=%s", passes[pass], shapes[shape], types[type].name);
    memset(&r, 0, sizeof r);
    memset(want, 0, sizeof want);
    memset(scale, 0, sizeof scale);
    build(text);
    fill(pass_rows[pass].in[0]);
    fill(pass_rows[pass].in[1]);
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    fetch(out, got);
    each_product(&r.op, pass_rows[pass].see);
    for (size_t i = 0; i < count(&r.op, out); i++)
        if (!(fabs(got[i] - want[i]) <= types[type].eps * fabs(want[i]) + 1e-6 * scale[i])) {
            fprintf(stderr, "%s: element %zu is %.9g, not %.9g\n", text, i, got[i], want[i]);
            _exit(1);
        }
}
static void one_shape(void)
{
    open_gpu();
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) check_type(t);
}

static void convolutions(void **state)
{
    for (pass = 0; pass < 3; pass++)
        for (shape = 0; shape < sizeof shapes / sizeof *shapes; shape++) in_child(shapes[shape], one_shape, NULL, NULL);
}

/* ---- max-pool: values from a few, so that there are ties */
static void few_values(rm_slot s)
{
    static char bytes[MOST * 4];
    const rm_dtype t = type_of(&r.op, s);
    for (size_t i = 0; i < count(&r.op, s); i++) {
        r.value[s][i] = (double)((i * 7919 >> 3) % 5) - 2;
        encode(t, r.value[s][i], bytes + i * rm_dtype_bytes(t));
    }
    GOOD(cudaMemcpy(r.at[s], bytes, count(&r.op, s) * rm_dtype_bytes(t), cudaMemcpyHostToDevice));
}

static void pool_back(void *index, const double *x_value)
{
    memset(&r, 0, sizeof r);
    build("maxpool_bwd n=2 c=16 h=9 w=7 k=3 s=2 p=1 dtype=bf16");
    r.at[RM_SAVED] = index;
    few_values(RM_DY);
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    fetch(RM_DX, got);
    const rm_shape x = r.op.x.shape, y = r.op.y.shape;
    for (int n = 0; n < y.n; n++)
        for (int p = 0; p < y.h; p++)
            for (int q = 0; q < y.w; q++)
                for (int c = 0; c < y.c; c++) { /* to the first of the largest */
                    double most = -INFINITY;
                    size_t where = 0;
                    for (int h = p * 2 - 1; h < p * 2 + 2; h++)
                        for (int w = q * 2 - 1; w < q * 2 + 2; w++) {
                            if (h < 0 || w < 0 || h >= x.h || w >= x.w) continue;
                            const size_t i = (size_t)(((n * x.h + h) * x.w + w) * x.c + c);
                            if (x_value[i] > most) {
                                most = x_value[i];
                                where = i;
                            }
                        }
                    const size_t o = (size_t)(((n * y.h + p) * y.w + q) * y.c + c);
                    MUST(want[o] == most);
                    scale[where] += r.value[RM_DY][o];
                }
    for (size_t i = 0; i < count(&r.op, RM_DX); i++) MUST(got[i] == scale[i]);
}

static void pool(void)
{
    static double x_value[MOST];
    open_gpu();
    build("maxpool n=2 c=16 h=9 w=7 k=3 s=2 p=1 dtype=bf16");
    few_values(RM_X);
    memcpy(x_value, r.value[RM_X], sizeof x_value);
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    fetch(RM_Y, want);
    pool_back(r.at[RM_SAVED], x_value);
}
static void max_pool(void **state) { in_child("max-pool", pool, NULL, NULL); }

/* ---- kept plans, wrong use, capture */
static void keep_and_run(const char *line)
{
    char *kept = NULL;
    memset(&r, 0, sizeof r);
    build(line);
    FINE(rm_cudnn_plan_text(r.plan, &kept));
    const int64_t workspace = r.plan->workspace_bytes, engine = r.plan->engine;
    rm_cudnn_plan_free(r.plan);
    FINE(rm_cudnn_plan_read(gpu, kept, &r.plan));
    MUST(r.plan->workspace_bytes == workspace && r.plan->engine == engine);
    free(kept);
    fill(RM_X);
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    fetch(RM_Y, got);
    MUST(got[0] == got[0]);
}
static void kept_plans(void)
{
    open_gpu();
    keep_and_run("maxpool n=2 c=16 h=9 w=7 k=3 s=2 p=1 dtype=f16");
    MUST(strstr(gpu->identity, "test double") != NULL);
}

static void wrong_use(void)
{
    cudnnHandle_t unset;
    cudnnBackendDescriptor_t pack;
    open_gpu();
    build("conv n=2 c=16 h=8 w=8 o=32 k=3 s=1 p=1 dtype=bf16");
    FINE(rm_cudnn_pack_new(r.graph, r.at, r.workspace, &pack));
    if (cudnnCreate(&unset) != CUDNN_STATUS_SUCCESS) _exit(1);
    MUST(cudnnBackendExecute(unset, r.plan->plan, pack) == CUDNN_STATUS_BAD_PARAM);
    MUST(cudnnBackendExecute(handle, pack, pack) != CUDNN_STATUS_SUCCESS);
    void *x = r.at[RM_X];
    r.at[RM_X] = (char *)x + 256; /* not all of it is there */
    GOOD(cudaFree(r.at[RM_Y]));
    MUST(execute() == CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND);
    r.at[RM_X] = x;
    MUST(execute() == CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND); /* y was freed */
}

static void shared_workspace(void)
{
    cudaStream_t other;
    open_gpu();
    build("conv_bwd_weights n=4 c=64 h=14 w=14 o=64 k=3 s=1 p=1 dtype=bf16");
    MUST(r.workspace);
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    unsigned char last;
    GOOD(cudaStreamSynchronize(stream));
    GOOD(cudaMemcpy(&last, (char *)r.workspace + r.plan->workspace_bytes - 1, 1, cudaMemcpyDeviceToHost));
    MUST(last == 0xff); /* it is scratch, and was written */
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    GOOD(cudaMalloc(&r.at[RM_DW], count(&r.op, RM_DW) * 4));
    GOOD(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    MUST(cudnnSetStream(handle, other) == CUDNN_STATUS_SUCCESS);
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    GOOD(cudaDeviceSynchronize());
}

static void captured(void)
{
    cudaGraph_t g;
    cudaGraphExec_t exec;
    open_gpu();
    build("conv n=2 c=16 h=8 w=8 o=32 k=3 s=1 p=1 dtype=bf16");
    fill(RM_X);
    fill(RM_W);
    GOOD(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    MUST(execute() == CUDNN_STATUS_SUCCESS);
    GOOD(cudaStreamEndCapture(stream, &g));
    fetch(RM_Y, got);
    MUST(got[5] != got[5]); /* nothing ran */
    GOOD(cudaGraphInstantiate(&exec, g, 0));
    GOOD(cudaGraphLaunch(exec, stream));
    fetch(RM_Y, got);
    MUST(got[5] == got[5]);
}

static void plans_and_use(void **state)
{
    in_child("kept plans", kept_plans, NULL, NULL);
    in_child("wrong use", wrong_use, NULL, NULL);
    in_child("captured", captured, NULL, NULL);
    in_child("workspace of two streams", shared_workspace, NULL, "nothing orders the two");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(max_pool), cmocka_unit_test(plans_and_use), cmocka_unit_test(convolutions) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
