/* cuDNN's double: handles, and what runs on a stream in place of the kernels that the plan's engine would launch. */
#include "tests/cuda/doubles/cudnn_internal.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct cudnnContext {
    cudaStream_t stream;
    int gpu;
    bool set, dead;
};

cudnnStatus_t __wrap_cudnnCreate(cudnnHandle_t *handle);
cudnnStatus_t __wrap_cudnnDestroy(cudnnHandle_t handle);
cudnnStatus_t __wrap_cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream);
cudnnStatus_t __wrap_cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream);
cudnnStatus_t __wrap_cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack);

cudnnStatus_t __wrap_cudnnCreate(cudnnHandle_t *handle)
{
    if (!handle) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!dbl_gpu_count()) return CUDNN_STATUS_NOT_INITIALIZED;
    struct cudnnContext *h = calloc(1, sizeof *h);
    if (!h) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    h->gpu = dbl_current();
    dbl_takes();
    *handle = h;
    return CUDNN_STATUS_SUCCESS;
}

/* Its memory stays, so that a handle that is used too late is known. */
cudnnStatus_t __wrap_cudnnDestroy(cudnnHandle_t handle)
{
    if (!handle || handle->dead) return CUDNN_STATUS_BAD_PARAM;
    handle->dead = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t __wrap_cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (!handle || handle->dead) return CUDNN_STATUS_BAD_PARAM;
    dbl_lock();
    const cudaStream_t s = dbl_stream_of(stream);
    dbl_unlock();
    if (!s || s->gpu != handle->gpu) return CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH;
    handle->stream = stream;
    handle->set = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t __wrap_cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream)
{
    if (!handle || handle->dead || !stream) return CUDNN_STATUS_BAD_PARAM;
    *stream = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- the work */
typedef struct execution {
    dbl_graph g;
    void *in[2], *out[2], *workspace;
    size_t workspace_bytes;
    bool slow;
} execution;

static bool run(void *ctx)
{
    static const struct timespec nap = { 0, 20000000 };
    const execution *e = ctx;
    if (dbl_idle) return true;
    if (e->slow) nanosleep(&nap, NULL);
    if (e->workspace) memset(e->workspace, 0xff, e->workspace_bytes);
    if (e->g.op >= DBL_POOL) dbl_pool(&e->g, e->in, e->out);
    else dbl_conv(&e->g, e->in, e->out);
    return true;
}

static void *address(const dbl_pack *p, const dbl_tensor *t)
{
    for (int i = 0; i < p->n; i++)
        if (p->uid[i] == t->uid) return p->at[i];
    return NULL;
}

static cudnnStatus_t check(const dbl_tensor *t, const void *at)
{
    int part;
    if (!at) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if ((uintptr_t)at % (uintptr_t)t->align) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    return dbl_space_of(at, dbl_tensor_bytes(t), &part) == DBL_DEVICE ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
}

static cudnnStatus_t place(const dbl_plan *plan, const dbl_pack *pack, execution *e)
{
    int part;
    cudnnStatus_t st = CUDNN_STATUS_SUCCESS;
    *e = (execution){ .g = plan->g, .workspace_bytes = (size_t)plan->workspace_bytes };
    for (int i = 0; i < plan->g.n_in && st == CUDNN_STATUS_SUCCESS; i++) st = check(&plan->g.in[i], e->in[i] = address(pack, &plan->g.in[i]));
    for (int i = 0; i < plan->g.n_out && st == CUDNN_STATUS_SUCCESS; i++) st = check(&plan->g.out[i], e->out[i] = address(pack, &plan->g.out[i]));
    if (st != CUDNN_STATUS_SUCCESS || !e->workspace_bytes) return st;
    e->workspace = pack->workspace;
    if (!e->workspace) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    return dbl_space_of(e->workspace, e->workspace_bytes, &part) == DBL_DEVICE ? st : CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
}

static dbl_task *task(const execution *e)
{
    static const char *const names[] = { [DBL_FORWARD] = "double_fprop", [DBL_DATA] = "double_dgrad", [DBL_WEIGHTS] = "double_wgrad", [DBL_POOL] = "double_pooling_fw",
                                         [DBL_POOL_BACKWARD] = "double_pooling_bw" };
    dbl_touch touch[6];
    size_t n = 0;
    for (int i = 0; i < e->g.n_in; i++) touch[n++] = (dbl_touch){ e->in[i], dbl_tensor_bytes(&e->g.in[i]), false };
    for (int i = 0; i < e->g.n_out; i++) {
        if (e->g.beta != 0) touch[n++] = (dbl_touch){ e->out[i], dbl_tensor_bytes(&e->g.out[i]), false };
        touch[n++] = (dbl_touch){ e->out[i], dbl_tensor_bytes(&e->g.out[i]), true };
    }
    if (e->workspace) touch[n++] = (dbl_touch){ e->workspace, e->workspace_bytes, true };
    const dbl_work w = { .name = names[e->g.op], .kind = DBL_KERNEL, .run = run, .ctx = (void *)(uintptr_t)e, .bytes = sizeof *e, .touch = touch, .n_touch = n };
    return dbl_task_new(&w);
}

/* fast-plan:N: of the plans that are executed only the Nth is fast, in the order of their first use since N changed. With the lock. */
static bool is_slow(cudnnBackendDescriptor_t plan)
{
    static cudnnBackendDescriptor_t seen[64];
    static uint64_t fast, n;
    const uint64_t now = dbl_fault("fast-plan");
    if (now != fast) n = 0;
    fast = now;
    if (!fast) return false;
    for (uint64_t i = 0; i < n; i++)
        if (seen[i] == plan) return i + 1 != fast;
    if (n < sizeof seen / sizeof seen[0]) seen[n++] = plan;
    return n != fast;
}

cudnnStatus_t __wrap_cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    dbl_plan p;
    dbl_pack v;
    execution e;
    if (!handle || handle->dead || !handle->set) return CUDNN_STATUS_BAD_PARAM;
    dbl_lock();
    cudnnStatus_t st = dbl_follow_plan(plan, &p) && dbl_follow_pack(pack, &v) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (st == CUDNN_STATUS_SUCCESS && (p.g.op == DBL_NO_OP || p.g.op == DBL_UNKNOWN)) st = CUDNN_STATUS_NOT_SUPPORTED;
    if (st == CUDNN_STATUS_SUCCESS) st = place(&p, &v, &e);
    if (st == CUDNN_STATUS_SUCCESS) e.slow = is_slow(plan);
    dbl_task *t = st == CUDNN_STATUS_SUCCESS ? task(&e) : NULL;
    dbl_unlock();
    if (!t) return st;
    return dbl_enqueue_task(handle->stream, t, "cudaLaunchKernel") == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}
