#include "model/graph.h"
#include "base/sha256.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES = 4 };
static const struct { int mid, out, stride; } stages[STAGES] = { { 64, 256, 1 }, { 128, 512, 2 }, { 256, 1024, 2 }, { 512, 2048, 2 } };
static const struct { int depth, blocks[STAGES]; } depths[] = { { 50, { 3, 4, 6, 3 } }, { 101, { 3, 4, 23, 3 } }, { 152, { 3, 8, 36, 3 } } };

/* The bottleneck block over three registers: X block input and output, A main branch, S shortcut. The shortcut comes
 * before bn3 so that bn3, the addition and the last ReLU can be one op. */
enum { REG_X, REG_A, REG_S, REGS };
typedef enum { WIDTH_SAME, WIDTH_MID, WIDTH_OUT } width;
typedef enum { STRIDE_ONE, STRIDE_V1, STRIDE_V15, STRIDE_STAGE } stride_rule;
typedef struct { const char *name; rm_kind kind; int dst, src, src2; width w; int k, pad; stride_rule stride; bool first_only; } row;
static const row bottleneck[] = {
    { "conv1", RM_K_CONV, REG_A, REG_X, -1, WIDTH_MID, 1, 0, STRIDE_V1, false },
    { "bn1", RM_K_BN, REG_A, REG_A, -1, WIDTH_SAME, 0, 0, STRIDE_ONE, false },
    { "relu1", RM_K_RELU, REG_A, REG_A, -1, WIDTH_SAME, 0, 0, STRIDE_ONE, false },
    { "conv2", RM_K_CONV, REG_A, REG_A, -1, WIDTH_MID, 3, 1, STRIDE_V15, false },
    { "bn2", RM_K_BN, REG_A, REG_A, -1, WIDTH_SAME, 0, 0, STRIDE_ONE, false },
    { "relu2", RM_K_RELU, REG_A, REG_A, -1, WIDTH_SAME, 0, 0, STRIDE_ONE, false },
    { "conv3", RM_K_CONV, REG_A, REG_A, -1, WIDTH_OUT, 1, 0, STRIDE_ONE, false },
    { "downsample.0", RM_K_CONV, REG_S, REG_X, -1, WIDTH_OUT, 1, 0, STRIDE_STAGE, true },
    { "downsample.1", RM_K_BN, REG_S, REG_S, -1, WIDTH_SAME, 0, 0, STRIDE_ONE, true },
    { "bn3", RM_K_BN, REG_A, REG_A, -1, WIDTH_SAME, 0, 0, STRIDE_ONE, false },
    { "add", RM_K_ADD, REG_X, REG_A, REG_S, WIDTH_SAME, 0, 0, STRIDE_ONE, false },
    { "relu3", RM_K_RELU, REG_X, REG_X, -1, WIDTH_SAME, 0, 0, STRIDE_ONE, false },
};
/* torchvision registers a block's modules in another order than they compute. */
static const char *const registration[] = { "conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample.0", "downsample.1" };

rm_shape rm_layer_in(const rm_graph *g, int32_t i)
{
    int32_t src = g->layer[i].in[0];
    return src == RM_IMAGE ? g->image : g->layer[src].out;
}

static int32_t push(rm_graph *g, rm_layer l, int32_t out_c)
{
    int32_t i = g->n_layer++;
    g->layer[i] = l;
    rm_shape s = rm_layer_in(g, i);
    if (out_c > 0) s.c = out_c;
    if (l.k > 0) {
        s.h = rm_window_out(s.h, l.k, l.stride, l.pad);
        s.w = rm_window_out(s.w, l.k, l.stride, l.pad);
    }
    if (l.kind == RM_K_AVGPOOL || l.kind == RM_K_FC) s.h = s.w = 1;
    g->layer[i].out = s;
    return i;
}

static int32_t push_named(rm_graph *g, const char *name, rm_kind kind, int32_t in, int32_t out_c, int k, int stride, int pad, int stage)
{
    rm_layer l = { .kind = kind, .in = { in, RM_NO_INPUT }, .k = k, .stride = stride, .pad = pad, .stage = stage };
    snprintf(l.name, sizeof l.name, "%s", name);
    return push(g, l, out_c);
}

static int stride_of(const row *r, bool first, int stage_stride, bool v15)
{
    bool here = r->stride == STRIDE_STAGE || r->stride == (v15 ? STRIDE_V15 : STRIDE_V1);
    return first && here ? stage_stride : 1;
}

static int32_t push_block(rm_graph *g, int32_t x, int stage, int block)
{
    int32_t reg[REGS] = { x, x, x };
    for (size_t r = 0; r < RM_COUNT(bottleneck); r++) {
        const row *t = &bottleneck[r];
        if (t->first_only && block > 0) continue;
        rm_layer l = { .kind = t->kind, .in = { reg[t->src], t->src2 < 0 ? RM_NO_INPUT : reg[t->src2] }, .k = t->k, .pad = t->pad,
                       .stride = stride_of(t, block == 0, stages[stage].stride, g->v15), .stage = stage + 1 };
        l.last_bn = !strcmp(t->name, "bn3");
        snprintf(l.name, sizeof l.name, "layer%d.%d.%s", stage + 1, block, t->name);
        int32_t out_c = t->w == WIDTH_MID ? stages[stage].mid : t->w == WIDTH_OUT ? stages[stage].out : 0;
        reg[t->dst] = push(g, l, out_c);
    }
    return reg[REG_X];
}

static int32_t find_layer(const rm_graph *g, const char *name)
{
    for (int32_t i = 0; i < g->n_layer; i++)
        if (!strcmp(g->layer[i].name, name)) return i;
    return RM_NO_INPUT;
}

static void add_param(rm_graph *g, int32_t layer, rm_role role, const char *suffix, rm_shape shape)
{
    rm_param *p = &g->param[g->n_param++];
    *p = (rm_param){ .layer = layer, .role = role, .shape = shape, .count = rm_shape_count(shape) };
    snprintf(p->name, sizeof p->name, "%s.%s", g->layer[layer].name, suffix);
}

static void add_layer_params(rm_graph *g, const char *name)
{
    int32_t i = find_layer(g, name);
    if (i < 0) return; /* a block without downsample */
    const rm_layer *l = &g->layer[i];
    rm_shape vector = { 1, l->out.c, 1, 1 };
    switch (l->kind) {
    case RM_K_CONV: add_param(g, i, RM_ROLE_WEIGHT, "weight", (rm_shape){ l->out.c, rm_layer_in(g, i).c, l->k, l->k }); break;
    case RM_K_BN:
        add_param(g, i, RM_ROLE_GAMMA, "weight", vector);
        add_param(g, i, RM_ROLE_BETA, "bias", vector);
        break;
    case RM_K_FC:
        add_param(g, i, RM_ROLE_WEIGHT, "weight", (rm_shape){ l->out.c, rm_layer_in(g, i).c, 1, 1 });
        add_param(g, i, RM_ROLE_BIAS, "bias", vector);
        break;
    default: break;
    }
}

static void add_params(rm_graph *g, const int *blocks)
{
    add_layer_params(g, "conv1");
    add_layer_params(g, "bn1");
    for (int s = 0; s < STAGES; s++)
        for (int b = 0; b < blocks[s]; b++)
            for (size_t m = 0; m < RM_COUNT(registration); m++) {
                char name[RM_NAME_MAX];
                snprintf(name, sizeof name, "layer%d.%d.%s", s + 1, b, registration[m]);
                add_layer_params(g, name);
            }
    add_layer_params(g, "fc");
}

/* Backward walks the layers in reverse; within one layer bias (beta) comes before weight (gamma). */
static void order_by_ready(rm_graph *g)
{
    int32_t n = 0;
    for (int32_t l = g->n_layer - 1; l >= 0; l--)
        for (int32_t p = g->n_param - 1; p >= 0; p--)
            if (g->param[p].layer == l) {
                g->param[p].ready = n;
                g->by_ready[n++] = p;
            }
}

static rm_status check_arguments(int32_t depth, const char *variant, rm_shape image, int32_t classes, const int **blocks)
{
    size_t d = 0;
    while (d < RM_COUNT(depths) && depths[d].depth != depth) d++;
    if (d == RM_COUNT(depths)) return rm_fail(RM_E_ARG, "depth %d is not one of 50, 101, 152", depth);
    if (strcmp(variant, "v1") && strcmp(variant, "v1.5")) return rm_fail(RM_E_ARG, "variant '%s' is not one of v1, v1.5", variant);
    if (image.n < 1) return rm_fail(RM_E_ARG, "batch %d is impossible: it must be at least 1", image.n);
    if (image.h < 8 || image.w < 8) return rm_fail(RM_E_ARG, "images of %d x %d are too small for ResNet: --px must be at least 8", image.w, image.h);
    if (classes < 1) return rm_fail(RM_E_ARG, "%d classes are impossible: there must be at least 1", classes);
    *blocks = depths[d].blocks;
    return RM_OK;
}

rm_status rm_graph_resnet(int32_t depth, const char *variant, rm_shape image, int32_t classes, rm_graph *out)
{
    const int *blocks = NULL;
    RM_TRY(check_arguments(depth, variant, image, classes, &blocks));
    size_t total = 6, params = 3 + 2 + STAGES * 3;
    for (int s = 0; s < STAGES; s++) {
        total += (size_t)blocks[s] * RM_COUNT(bottleneck);
        params += (size_t)blocks[s] * 9;
    }
    rm_graph g = { .depth = depth, .classes = classes, .v15 = !strcmp(variant, "v1.5"), .image = image };
    g.layer = calloc(total, sizeof *g.layer);
    g.param = calloc(params, sizeof *g.param);
    g.by_ready = calloc(params, sizeof *g.by_ready);
    if (!g.layer || !g.param || !g.by_ready) {
        rm_graph_free(&g);
        return rm_fail(RM_E_NOMEM, "out of memory building the graph");
    }
    int32_t x = push_named(&g, "conv1", RM_K_CONV, RM_IMAGE, 64, 7, 2, 3, 0);
    x = push_named(&g, "bn1", RM_K_BN, x, 0, 0, 1, 0, 0);
    x = push_named(&g, "relu", RM_K_RELU, x, 0, 0, 1, 0, 0);
    x = push_named(&g, "maxpool", RM_K_MAXPOOL, x, 0, 3, 2, 1, 0);
    for (int s = 0; s < STAGES; s++)
        for (int b = 0; b < blocks[s]; b++) x = push_block(&g, x, s, b);
    x = push_named(&g, "avgpool", RM_K_AVGPOOL, x, 0, 0, 1, 0, 5);
    push_named(&g, "fc", RM_K_FC, x, classes, 0, 1, 0, 5);
    add_params(&g, blocks);
    order_by_ready(&g);
    *out = g;
    return RM_OK;
}

void rm_graph_free(rm_graph *g)
{
    if (!g) return;
    free(g->layer);
    free(g->param);
    free(g->by_ready);
    memset(g, 0, sizeof *g);
}

/* ---- fusion */
static int32_t consumers(const rm_graph *g, int32_t i, int32_t *last)
{
    int32_t n = 0;
    for (int32_t j = 0; j < g->n_layer; j++)
        for (int s = 0; s < 2; s++)
            if (g->layer[j].in[s] == i) { n++; *last = j; }
    return n;
}

/* The only consumer of i when it is of `kind` and takes i as its first input, else -1. */
static int32_t sole(const rm_graph *g, int32_t i, rm_kind kind)
{
    int32_t last = -1;
    return consumers(g, i, &last) == 1 && g->layer[last].kind == kind && g->layer[last].in[0] == i ? last : -1;
}

void rm_graph_fuse(rm_graph *g)
{
    int32_t *moved = calloc((size_t)g->n_layer, sizeof *moved); /* where a layer's output is produced afterwards */
    bool *gone = calloc((size_t)g->n_layer, sizeof *gone);
    int32_t *at = calloc((size_t)g->n_layer, sizeof *at), n = 0; /* its index afterwards */
    if (!moved || !gone || !at) { free(moved); free(gone); free(at); return; } /* unfused is right too */
    for (int32_t i = 0; i < g->n_layer; i++) moved[i] = i;
    for (int32_t i = 0; i < g->n_layer; i++) {
        rm_layer *l = &g->layer[i];
        if (l->kind != RM_K_BN) continue;
        int32_t tail = i, add = sole(g, i, RM_K_ADD);
        /* The added value must exist when bn runs. */
        if (add >= 0 && g->layer[add].in[1] < i && sole(g, add, RM_K_RELU) >= 0) {
            l->add = true;
            l->in[1] = g->layer[add].in[1];
            gone[add] = true; moved[add] = i;
            tail = add;
        }
        int32_t relu = sole(g, tail, RM_K_RELU);
        if (relu >= 0) { l->relu = true; gone[relu] = true; moved[relu] = i; }
    }
    for (int32_t i = 0; i < g->n_layer; i++) {
        if (gone[i]) continue;
        at[i] = n;
        rm_layer l = g->layer[i];
        for (int s = 0; s < 2; s++)
            if (l.in[s] >= 0) l.in[s] = at[moved[l.in[s]]];
        g->layer[n++] = l;
    }
    for (int32_t p = 0; p < g->n_param; p++) g->param[p].layer = at[g->param[p].layer];
    g->n_layer = n;
    order_by_ready(g);
    free(at); free(moved); free(gone);
}

/* ---- counts */
uint64_t rm_graph_params(const rm_graph *g)
{
    uint64_t n = 0;
    for (int32_t p = 0; p < g->n_param; p++) n += g->param[p].count;
    return n;
}

uint64_t rm_graph_largest_param(const rm_graph *g)
{
    uint64_t most = 1;
    for (int32_t i = 0; i < g->n_param; i++)
        if (g->param[i].count > most) most = g->param[i].count;
    return most;
}

uint64_t rm_graph_macs(const rm_graph *g)
{
    uint64_t n = 0;
    for (int32_t p = 0; p < g->n_param; p++) {
        const rm_layer *l = &g->layer[g->param[p].layer];
        if (g->param[p].role == RM_ROLE_WEIGHT) n += g->param[p].count * (uint64_t)l->out.h * (uint64_t)l->out.w;
    }
    return n;
}

int32_t rm_graph_count(const rm_graph *g, rm_kind kind)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->n_layer; i++) n += g->layer[i].kind == kind;
    return n;
}

int32_t rm_graph_find_param(const rm_graph *g, int32_t layer, rm_role role)
{
    for (int32_t p = 0; p < g->n_param; p++)
        if (g->param[p].layer == layer && g->param[p].role == role) return p;
    return -1;
}

void rm_graph_digest(const rm_graph *g, char hex[65])
{
    char line[256]; /* text, not the structures: their padding is nobody's */
    rm_sha256 s;
    rm_sha256_begin(&s);
    for (int32_t i = 0; i < g->n_layer; i++) {
        const rm_layer *l = &g->layer[i];
        const int n = snprintf(line, sizeof line, "%s %d %d,%d %dx%dx%dx%d %d/%d/%d %d%d\n", l->name, (int)l->kind, l->in[0], l->in[1], l->out.n, l->out.c, l->out.h,
                               l->out.w, l->k, l->stride, l->pad, l->relu, l->add);
        rm_sha256_add(&s, line, (size_t)n);
    }
    for (int32_t r = 0; r < g->n_param; r++) {
        const rm_param *p = &g->param[g->by_ready[r]];
        rm_sha256_add(&s, line, (size_t)snprintf(line, sizeof line, "%s %llu\n", p->name, (unsigned long long)p->count));
    }
    rm_sha256_end(&s, hex);
}
