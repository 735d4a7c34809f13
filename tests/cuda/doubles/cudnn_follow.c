/* cuDNN's double: every call that makes a descriptor goes to the real library, which checks it; what it was given is remembered, so that
 * cudnnBackendExecute() knows the graph of a plan. What is not real:
 *   - A GPU that is asked for by its number is the described one, named "... (test double)" so that plans are not kept with a real GPU's.
 *   - A plan that needs the driver to be compiled (max-pool) is "made" though the real library could not: it has checked that it supports
 *     the graph, and the configuration's size of workspace. Only graphs that cudnn_conv.c and cudnn_pool.c compute.
 *   - The text of a plan is followed by its graph, which is taken off before the real library reads it. */
#define _GNU_SOURCE
#include "tests/cuda/doubles/cudnn_internal.h"
#include <dlfcn.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL(name) __real_cudnnBackend##name
#define WRAP(name) __wrap_cudnnBackend##name
cudnnStatus_t REAL(CreateDescriptor)(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d);
cudnnStatus_t REAL(DestroyDescriptor)(cudnnBackendDescriptor_t d);
cudnnStatus_t REAL(Finalize)(cudnnBackendDescriptor_t d);
cudnnStatus_t REAL(SetAttribute)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t n, const void *v);
cudnnStatus_t REAL(GetAttribute)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t most, int64_t *n, void *v);
cudnnStatus_t WRAP(CreateDescriptor)(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d);
cudnnStatus_t WRAP(DestroyDescriptor)(cudnnBackendDescriptor_t d);
cudnnStatus_t WRAP(Finalize)(cudnnBackendDescriptor_t d);
cudnnStatus_t WRAP(SetAttribute)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t n, const void *v);
cudnnStatus_t WRAP(GetAttribute)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t most, int64_t *n, void *v);

/* ---- what is remembered of a descriptor */
enum { BUCKETS = 4096, VALUES = 16 };
typedef struct attribute {
    struct attribute *next;
    cudnnBackendAttributeName_t name;
    int64_t n;
    union {
        int64_t i[VALUES];
        int32_t e[VALUES]; /* enumerations */
        float f[VALUES];
        double d[VALUES];
        void *p[VALUES];
        cudnnFraction_t fraction[VALUES / 2];
    } v;
} attribute;
typedef struct known {
    struct known *next;
    cudnnBackendDescriptor_t d;
    cudnnBackendDescriptorType_t type;
    attribute *list;
    dbl_graph graph; /* of graphs, heuristics, engines, configurations, plans */
    bool finalized, hollow; /* hollow: a plan that the real library could not make */
    int64_t workspace_bytes;
} known;
static known *table[BUCKETS];

static known **slot(cudnnBackendDescriptor_t d)
{
    known **at = &table[((uintptr_t)d >> 4) * 2654435761u % BUCKETS];
    while (*at && (*at)->d != d) at = &(*at)->next;
    return at;
}
static known *find(cudnnBackendDescriptor_t d) { return d ? *slot(d) : NULL; }

static void forget(cudnnBackendDescriptor_t d)
{
    known **at = slot(d), *k = *at;
    if (!k) return;
    *at = k->next;
    for (attribute *a = k->list, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    free(k);
}

static void remember(cudnnBackendDescriptor_t d, cudnnBackendDescriptorType_t type)
{
    forget(d);
    known *k = calloc(1, sizeof *k);
    if (!k) abort();
    k->d = d;
    k->type = type;
    *slot(d) = k;
}

static const attribute *get(const known *k, cudnnBackendAttributeName_t name)
{
    const attribute *a = k ? k->list : NULL;
    while (a && a->name != name) a = a->next;
    return a;
}
static int64_t integer(const known *k, cudnnBackendAttributeName_t name, int i)
{
    const attribute *a = get(k, name);
    return a && i < a->n ? a->v.i[i] : 0;
}
static int32_t enumeration(const known *k, cudnnBackendAttributeName_t name)
{
    const attribute *a = get(k, name);
    return a ? a->v.e[0] : -1;
}
static known *descriptor(const known *k, cudnnBackendAttributeName_t name)
{
    const attribute *a = get(k, name);
    return a ? find(a->v.p[0]) : NULL;
}

static size_t value_bytes(cudnnBackendAttributeType_t t)
{
    switch (t) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_FRACTION: return 16;
    case CUDNN_TYPE_CHAR:
    case CUDNN_TYPE_BOOLEAN: return 1;
    default: return 4;
    }
}

static void keep(known *k, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *v)
{
    attribute *a = calloc(1, sizeof *a);
    if (!a) abort();
    a->next = k->list;
    a->name = name;
    a->n = n;
    if (n > 0 && (size_t)n * value_bytes(type) <= sizeof a->v) memcpy(&a->v, v, (size_t)n * value_bytes(type));
    k->list = a;
}

/* ---- a graph from its descriptors */
static const struct {
    cudnnBackendDescriptorType_t type;
    dbl_op op;
    cudnnBackendAttributeName_t in[2], out[2], window, alpha, beta;
    int n_in, n_out;
} rows[] = {
#define FWD(a) CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_##a
#define DATA(a) CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_##a
#define WEIGHTS(a) CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_##a
#define POOL(a) CUDNN_ATTR_OPERATION_RESAMPLE_FWD_##a
#define BACK(a) CUDNN_ATTR_OPERATION_RESAMPLE_BWD_##a
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, DBL_FORWARD, { FWD(X), FWD(W) }, { FWD(Y) }, FWD(CONV_DESC), FWD(ALPHA), FWD(BETA), 2, 1 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, DBL_DATA, { DATA(DY), DATA(W) }, { DATA(DX) }, DATA(CONV_DESC), DATA(ALPHA), DATA(BETA), 2, 1 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, DBL_WEIGHTS, { WEIGHTS(X), WEIGHTS(DY) }, { WEIGHTS(DW) }, WEIGHTS(CONV_DESC), WEIGHTS(ALPHA), WEIGHTS(BETA), 2, 1 },
    { CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR, DBL_POOL, { POOL(XDESC) }, { POOL(YDESC), POOL(IDXDESC) }, POOL(DESC), 0, 0, 1, 2 },
    { CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR, DBL_POOL_BACKWARD, { BACK(DYDESC), BACK(IDXDESC) }, { BACK(DXDESC) }, BACK(DESC), 0, 0, 2, 1 },
};

static bool type_fits(cudnnDataType_t t, bool index)
{
    return index ? t == CUDNN_DATA_INT8 : t == CUDNN_DATA_FLOAT || t == CUDNN_DATA_BFLOAT16 || t == CUDNN_DATA_HALF;
}

/* false: not as cudnn_conv.c and cudnn_pool.c want it. */
static bool read_tensor(const known *k, dbl_tensor *t)
{
    const attribute *strides = get(k, CUDNN_ATTR_TENSOR_STRIDES);
    if (!strides || strides->n != 4) return false;
    *t = (dbl_tensor){ .uid = integer(k, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0), .n = integer(k, CUDNN_ATTR_TENSOR_DIMENSIONS, 0), .c = integer(k, CUDNN_ATTR_TENSOR_DIMENSIONS, 1),
                       .h = integer(k, CUDNN_ATTR_TENSOR_DIMENSIONS, 2), .w = integer(k, CUDNN_ATTR_TENSOR_DIMENSIONS, 3),
                       .align = integer(k, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0), .type = (cudnnDataType_t)enumeration(k, CUDNN_ATTR_TENSOR_DATA_TYPE) };
    const int64_t want[] = { t->c * t->h * t->w, 1, t->c * t->w, t->c };
    return !memcmp(strides->v.i, want, sizeof want) && t->align > 0;
}

/* One number for both directions; -1: they differ. */
static int64_t square(const known *k, cudnnBackendAttributeName_t at, bool fraction)
{
    const attribute *a = get(k, at);
    if (!a || a->n != 2) return -1;
    const int64_t v[2] = { fraction ? a->v.fraction[0].numerator : a->v.i[0], fraction ? a->v.fraction[1].numerator : a->v.i[1] };
    if (fraction && (a->v.fraction[0].denominator != 1 || a->v.fraction[1].denominator != 1)) return -1;
    return v[0] == v[1] ? v[0] : -1;
}

static bool read_conv(const known *k, dbl_graph *g)
{
    const dbl_tensor *w = g->op == DBL_WEIGHTS ? &g->out[0] : &g->in[1];
    g->window = w->h == w->w ? w->h : -1;
    g->stride = square(k, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, false);
    g->pad = square(k, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, false);
    return square(k, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, false) == g->pad && square(k, CUDNN_ATTR_CONVOLUTION_DILATIONS, false) == 1 &&
           enumeration(k, CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CROSS_CORRELATION && enumeration(k, CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_FLOAT;
}

static bool read_pool(const known *k, dbl_graph *g)
{
    g->window = square(k, CUDNN_ATTR_RESAMPLE_WINDOW_DIMS, true);
    g->stride = square(k, CUDNN_ATTR_RESAMPLE_STRIDES, true);
    g->pad = square(k, CUDNN_ATTR_RESAMPLE_PRE_PADDINGS, true);
    return enumeration(k, CUDNN_ATTR_RESAMPLE_MODE) == CUDNN_RESAMPLE_MAXPOOL && enumeration(k, CUDNN_ATTR_RESAMPLE_PADDING_MODE) == CUDNN_NEG_INF_PAD &&
           g->window <= 11; /* the place of the maximum is an int8 */
}

static double factor(const known *k, cudnnBackendAttributeName_t at, double without)
{
    const attribute *a = at ? get(k, at) : NULL;
    return a ? (double)a->v.f[0] : without;
}

static bool read_operation(const known *k, size_t row, dbl_graph *g)
{
    bool fine = true;
    g->op = rows[row].op;
    g->n_in = rows[row].n_in;
    g->n_out = rows[row].n_out;
    for (int i = 0; i < g->n_in; i++) fine &= read_tensor(descriptor(k, rows[row].in[i]), &g->in[i]) && type_fits(g->in[i].type, g->op == DBL_POOL_BACKWARD && i == 1);
    for (int i = 0; i < g->n_out; i++) fine &= read_tensor(descriptor(k, rows[row].out[i]), &g->out[i]) && type_fits(g->out[i].type, g->op == DBL_POOL && i == 1);
    const known *w = descriptor(k, rows[row].window);
    fine &= w && (g->op >= DBL_POOL ? read_pool(w, g) : read_conv(w, g));
    g->alpha = factor(k, rows[row].alpha, 1);
    g->beta = factor(k, rows[row].beta, 0);
    return fine && g->window > 0 && g->stride > 0 && g->pad >= 0;
}

static dbl_graph read_graph(const known *k)
{
    const attribute *ops = get(k, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const known *op = ops && ops->n == 1 ? find(ops->v.p[0]) : NULL;
    dbl_graph g = { 0 };
    for (size_t i = 0; op && i < sizeof rows / sizeof *rows; i++)
        if (rows[i].type == op->type && read_operation(op, i, &g)) return g;
    return (dbl_graph){ .op = DBL_UNKNOWN };
}

/* ---- the engine's notes: whether it may round inputs in f32 */
static void read_notes(known *config)
{
    cudnnBackendDescriptor_t engine = NULL;
    int32_t note[16] = { 0 };
    int64_t n = 0;
    if (config->graph.op == DBL_UNKNOWN || config->graph.in[0].type != CUDNN_DATA_FLOAT) return;
    if (REAL(CreateDescriptor)(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) return;
    if (REAL(GetAttribute)(config->d, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) == CUDNN_STATUS_SUCCESS &&
        REAL(GetAttribute)(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 16, &n, note) == CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < n && i < 16; i++)
            config->graph.tf32 |= note[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    REAL(DestroyDescriptor)(engine);
}

/* ---- plans as texts */
#define MARK "\n#doubles "

static char *plan_text(const known *k)
{
    const unsigned char *g = (const unsigned char *)&k->graph;
    int64_t n = 0;
    if (!k->hollow && REAL(GetAttribute)(k->d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &n, NULL) != CUDNN_STATUS_SUCCESS) return NULL;
    char *text = calloc(1, (size_t)n + sizeof MARK + 32 + 2 * sizeof k->graph);
    if (!text) abort();
    if (!k->hollow && REAL(GetAttribute)(k->d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n, &n, text) != CUDNN_STATUS_SUCCESS) {
        free(text);
        return NULL;
    }
    size_t at = strlen(text);
    at += (size_t)sprintf(text + at, MARK "%d %lld ", k->hollow, (long long)k->workspace_bytes);
    for (size_t i = 0; i < sizeof k->graph; i++) at += (size_t)sprintf(text + at, "%02x", g[i]);
    return text;
}

static cudnnStatus_t give_text(const known *k, int64_t most, int64_t *n, char *to)
{
    char *text = plan_text(k);
    if (!text) return CUDNN_STATUS_BAD_PARAM;
    const int64_t all = (int64_t)strlen(text) + 1;
    if (n) *n = all;
    if (to) memcpy(to, text, (size_t)(most < all ? most : all));
    free(text);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t take_text(known *k, int64_t n, const char *from)
{
    char *text = strndup(from, (size_t)n), *mark = text ? strstr(text, MARK) : NULL;
    int hollow = 0, used = 0;
    long long workspace = 0;
    unsigned char *g = (unsigned char *)&k->graph;
    cudnnStatus_t st = CUDNN_STATUS_BAD_PARAM;
    if (mark && sscanf(mark + sizeof MARK - 1, "%d %lld %n", &hollow, &workspace, &used) == 2 && strlen(mark + sizeof MARK - 1 + used) == 2 * sizeof k->graph) {
        const char *hex = mark + sizeof MARK - 1 + used;
        for (size_t i = 0; i < sizeof k->graph; i++) sscanf(hex + 2 * i, "%2hhx", &g[i]);
        *mark = 0;
        k->hollow = hollow != 0;
        k->workspace_bytes = workspace;
        st = k->hollow ? CUDNN_STATUS_SUCCESS : REAL(SetAttribute)(k->d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
    }
    free(text);
    return st;
}

/* ---- the configuration of a plan that is a text and no more: asked for again, by the graph made again */
static bool set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t n, const void *v)
{
    return REAL(SetAttribute)(d, at, type, n, v) == CUDNN_STATUS_SUCCESS;
}

static bool make(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d) { return REAL(CreateDescriptor)(type, d) == CUDNN_STATUS_SUCCESS; }
static bool done(cudnnBackendDescriptor_t d) { return REAL(Finalize)(d) == CUDNN_STATUS_SUCCESS; }

static bool make_tensor(const dbl_tensor *t, cudnnBackendDescriptor_t *d)
{
    const int64_t dims[] = { t->n, t->c, t->h, t->w }, strides[] = { t->c * t->h * t->w, 1, t->c * t->w, t->c };
    return make(CUDNN_BACKEND_TENSOR_DESCRIPTOR, d) && set(*d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type) &&
           set(*d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims) && set(*d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides) &&
           set(*d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->uid) && set(*d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &t->align) && done(*d);
}

static bool make_window(const dbl_graph *g, cudnnBackendDescriptor_t *d)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnResampleMode_t mode = CUDNN_RESAMPLE_MAXPOOL;
    const cudnnPaddingMode_t padding = CUDNN_NEG_INF_PAD;
    const int64_t two = 2;
    const cudnnFraction_t k = { g->window, 1 }, s = { g->stride, 1 }, p = { g->pad, 1 }, window[] = { k, k }, stride[] = { s, s }, pad[] = { p, p };
    return make(CUDNN_BACKEND_RESAMPLE_DESCRIPTOR, d) && set(*d, CUDNN_ATTR_RESAMPLE_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two) &&
           set(*d, CUDNN_ATTR_RESAMPLE_MODE, CUDNN_TYPE_RESAMPLE_MODE, 1, &mode) && set(*d, CUDNN_ATTR_RESAMPLE_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type) &&
           set(*d, CUDNN_ATTR_RESAMPLE_PADDING_MODE, CUDNN_TYPE_PADDING_MODE, 1, &padding) && set(*d, CUDNN_ATTR_RESAMPLE_WINDOW_DIMS, CUDNN_TYPE_FRACTION, 2, window) &&
           set(*d, CUDNN_ATTR_RESAMPLE_PRE_PADDINGS, CUDNN_TYPE_FRACTION, 2, pad) && set(*d, CUDNN_ATTR_RESAMPLE_POST_PADDINGS, CUDNN_TYPE_FRACTION, 2, pad) &&
           set(*d, CUDNN_ATTR_RESAMPLE_STRIDES, CUDNN_TYPE_FRACTION, 2, stride) && done(*d);
}

enum { TENSOR0, TENSOR1, TENSOR2, WINDOW, OPERATION, GRAPH, HEURISTICS, PARTS };
static bool make_parts(const dbl_graph *g, cudnnBackendDescriptor_t gpu, cudnnBackendDescriptor_t part[PARTS])
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    const size_t row = g->op == DBL_POOL ? 3 : 4;
    bool fine = true;
    for (int i = 0; i < g->n_in + g->n_out; i++) fine = fine && make_tensor(i < g->n_in ? &g->in[i] : &g->out[i - g->n_in], &part[i]);
    fine = fine && make_window(g, &part[WINDOW]) && make(rows[row].type, &part[OPERATION]);
    for (int i = 0; i < g->n_in + g->n_out; i++)
        fine = fine && set(part[OPERATION], i < g->n_in ? rows[row].in[i] : rows[row].out[i - g->n_in], CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[i]);
    return fine && set(part[OPERATION], rows[row].window, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[WINDOW]) && done(part[OPERATION]) &&
           make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &part[GRAPH]) && set(part[GRAPH], CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[OPERATION]) &&
           done(part[GRAPH]) && make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &part[HEURISTICS]) &&
           set(part[HEURISTICS], CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part[GRAPH]) &&
           set(part[HEURISTICS], CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) &&
           set(part[HEURISTICS], CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &gpu) && done(part[HEURISTICS]);
}

static cudnnStatus_t configure(const known *plan, int64_t *n, cudnnBackendDescriptor_t *config)
{
    cudnnBackendDescriptor_t part[PARTS] = { NULL };
    const known *gpu = descriptor(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    const cudnnStatus_t st = gpu && make_parts(&plan->graph, gpu->d, part)
                                 ? REAL(GetAttribute)(part[HEURISTICS], CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, n, config)
                                 : CUDNN_STATUS_NOT_SUPPORTED;
    if (st == CUDNN_STATUS_SUCCESS) *n = 1;
    for (int i = PARTS - 1; i >= 0; i--)
        if (part[i]) REAL(DestroyDescriptor)(part[i]);
    return st;
}

/* ---- the described GPU in place of one that is asked for */
static cudnnStatus_t describe(cudnnBackendDescriptor_t d, int32_t ordinal)
{
    char line[4096], name[160];
    char *all = calloc(1, 1 << 16);
    FILE *f = fopen(dbl_gpu_described()->path, "r");
    if (!all) abort();
    while (f && fgets(line, sizeof line, f))
        if (line[strspn(line, " \t")] != '#' && strlen(all) + strlen(line) < 1 << 16) strcat(all, line);
    if (f) fclose(f);
    json_t *j = json_loads(all, 0, NULL);
    free(all);
    snprintf(name, sizeof name, "%s (test double)", dbl_gpu_described()->name);
    json_object_set_new(j, "deviceName", json_string(name));
    json_object_set_new(j, "cudaDeviceId", json_integer(ordinal));
    json_object_set_new(j, "pciDeviceId", json_integer(ordinal + 1));
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    if (!text) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    const cudnnStatus_t st = REAL(SetAttribute)(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
    free(text);
    return st;
}

/* cuDNN loads NVRTC at every question, and asks for the driver's library before it says that it supports a graph that is compiled at run
 * time: the first is held, and of the second the toolkit's stub is enough. */
static void hold_libraries(void)
{
    static bool held;
    if (held) return;
    held = true;
    if (!dlopen(RM_CUDA_NVRTC, RTLD_NOW) || !dlopen(RM_CUDA_STUB, RTLD_NOW | RTLD_GLOBAL)) fprintf(stderr, "doubles: max-pool will not be planned: %s\n", dlerror());
}

/* ---- the calls */
static unsigned made;
unsigned dbl_cudnn_made(void)
{
    dbl_lock();
    const unsigned n = made;
    dbl_unlock();
    return n;
}

cudnnStatus_t WRAP(CreateDescriptor)(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d)
{
    dbl_lock();
    hold_libraries();
    const cudnnStatus_t st = REAL(CreateDescriptor)(type, d);
    if (st == CUDNN_STATUS_SUCCESS) remember(*d, type);
    made += st == CUDNN_STATUS_SUCCESS;
    dbl_unlock();
    return st;
}

cudnnStatus_t WRAP(DestroyDescriptor)(cudnnBackendDescriptor_t d)
{
    dbl_lock();
    if (d) forget(d);
    const cudnnStatus_t st = REAL(DestroyDescriptor)(d);
    dbl_unlock();
    return st;
}

/* Which attribute hands a graph on from another descriptor. */
static bool hands_on(cudnnBackendAttributeName_t at)
{
    return at == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH || at == CUDNN_ATTR_ENGINE_OPERATION_GRAPH || at == CUDNN_ATTR_ENGINECFG_ENGINE ||
           at == CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG;
}

static void set_known(known *k, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t n, const void *v)
{
    keep(k, at, type, n, v);
    const known *from = hands_on(at) ? find(*(void *const *)v) : NULL;
    if (from) k->graph = from->graph;
}

cudnnStatus_t WRAP(SetAttribute)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t n, const void *v)
{
    cudnnStatus_t st;
    dbl_lock();
    known *k = find(d);
    if (k && at == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION) st = take_text(k, n, v);
    else if (k && at == CUDNN_ATTR_DEVICEPROP_DEVICE_ID && type == CUDNN_TYPE_INT32 && n == 1) {
        const int32_t ordinal = *(const int32_t *)v;
        st = ordinal < 0 || ordinal >= dbl_gpu_count() ? CUDNN_STATUS_BAD_PARAM : describe(d, ordinal);
    } else {
        st = REAL(SetAttribute)(d, at, type, n, v);
        if (st == CUDNN_STATUS_SUCCESS && k) set_known(k, at, type, n, v);
    }
    dbl_unlock();
    return st;
}

static bool compiled_at_run_time(const known *config)
{
    cudnnBackendDescriptor_t engine = NULL;
    int32_t note[16] = { 0 };
    int64_t n = 0;
    bool yes = false;
    if (!config || REAL(CreateDescriptor)(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) return false;
    if (REAL(GetAttribute)(config->d, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) == CUDNN_STATUS_SUCCESS &&
        REAL(GetAttribute)(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, 16, &n, note) == CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < n && i < 16; i++) yes |= note[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    REAL(DestroyDescriptor)(engine);
    return yes;
}

static bool is_pool(const known *k) { return k->graph.op == DBL_POOL || k->graph.op == DBL_POOL_BACKWARD; }

static cudnnStatus_t finalize_plan(known *k)
{
    int64_t n = 0;
    if (k->hollow) return CUDNN_STATUS_SUCCESS;
    const known *config = descriptor(k, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (is_pool(k) && compiled_at_run_time(config)) {
        k->hollow = true;
        return REAL(GetAttribute)(config->d, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &k->workspace_bytes);
    }
    const cudnnStatus_t st = REAL(Finalize)(k->d);
    return st == CUDNN_STATUS_SUCCESS ? REAL(GetAttribute)(k->d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &k->workspace_bytes) : st;
}

cudnnStatus_t WRAP(Finalize)(cudnnBackendDescriptor_t d)
{
    dbl_lock();
    known *k = find(d);
    const cudnnStatus_t st = k && k->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? finalize_plan(k) : REAL(Finalize)(d);
    if (k && st == CUDNN_STATUS_SUCCESS) k->finalized = true;
    if (k && st == CUDNN_STATUS_SUCCESS && k->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) k->graph = read_graph(k);
    dbl_unlock();
    return st;
}

/* What comes out of heuristics and plans belongs to their graph. */
static void got(const known *k, cudnnBackendAttributeName_t at, int64_t n, void *const *d)
{
    if (at != CUDNN_ATTR_ENGINEHEUR_RESULTS && at != CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG) return;
    for (int64_t i = 0; i < n; i++) {
        known *to = find(d[i]);
        if (!to) continue;
        to->graph = k->graph;
        if (at == CUDNN_ATTR_ENGINEHEUR_RESULTS) read_notes(to);
    }
}

static cudnnStatus_t get_known(known *k, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t most, int64_t *n, void *v)
{
    if (at == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION) return give_text(k, most, n, v);
    if (k->hollow && at == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && most >= 1) {
        *(int64_t *)v = k->workspace_bytes;
        if (n) *n = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    const bool again = k->hollow && at == CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG && most == 1 && n;
    const cudnnStatus_t st = again ? configure(k, n, v) : REAL(GetAttribute)(k->d, at, type, most, n, v);
    if (st == CUDNN_STATUS_SUCCESS && v && type == CUDNN_TYPE_BACKEND_DESCRIPTOR && n) got(k, at, *n < most ? *n : most, v);
    return st;
}

cudnnStatus_t WRAP(GetAttribute)(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, int64_t most, int64_t *n, void *v)
{
    dbl_lock();
    known *k = find(d);
    const cudnnStatus_t st = k ? get_known(k, at, type, most, n, v) : REAL(GetAttribute)(d, at, type, most, n, v);
    dbl_unlock();
    return st;
}

/* ---- for cudnnBackendExecute() */
bool dbl_follow_plan(cudnnBackendDescriptor_t d, dbl_plan *out)
{
    const known *k = find(d);
    if (!k || k->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || !k->finalized) return false;
    *out = (dbl_plan){ k->graph, k->workspace_bytes };
    return true;
}

bool dbl_follow_pack(cudnnBackendDescriptor_t d, dbl_pack *out)
{
    const known *k = find(d);
    const attribute *ids = get(k, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS), *at = get(k, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS), *ws = get(k, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (!k || k->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR || !k->finalized || !ids || !at || ids->n != at->n || ids->n > 8) return false;
    *out = (dbl_pack){ .n = (int)ids->n, .workspace = ws ? ws->v.p[0] : NULL };
    memcpy(out->uid, ids->v.i, sizeof out->uid);
    memcpy(out->at, at->v.p, sizeof out->at);
    return true;
}
