/* Rung 1 of the verification ladder: the real cuDNN accepts and plans every convolution of ResNet-50 v1.5, fully connected and
 * max-pool, for GPUs that are described and not there; wrong graphs are refused, with the reason. It cannot show numbers or speed.
 * RM_CUDA_TABLE=FILE writes the table of docs/cuda-verification.md. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/cuda/cudnn_plan.h"
#include "model/graph.h"
#include "tests/cuda/described.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TENSOR_CORE (1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE)
#define NONDETERMINISTIC (1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)
#define DOWN_CONVERT (1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)
#define REDUCED (1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)

enum { COLUMNS = 5, BATCHES = 4, MOST_ROWS = 96 };
static const struct column {
    const char *gpu;
    rm_dtype dtype;
} columns[COLUMNS] = { { "h100", RM_BF16 }, { "h100", RM_F16 }, { "a100", RM_BF16 }, { "a100", RM_F16 }, { "b200", RM_BF16 } };
static const int32_t batches[BATCHES] = { 32, 64, 128, 256 };

/* ---- the graphs of the network at one batch, without those that repeat */
typedef struct graphs {
    rm_op op[MOST_ROWS];
    int times[MOST_ROWS], n, all;
} graphs;

static void add_graph(graphs *s, const rm_op *op)
{
    rm_op low;
    if (rm_cudnn_lower(op, &low) != RM_OK) fail_msg("%s", rm_last_error());
    char text[RM_CUDNN_KEY_SIZE], other[RM_CUDNN_KEY_SIZE];
    rm_op_print(&low, text, sizeof text);
    s->all++;
    for (int i = 0; i < s->n; i++) {
        rm_op_print(&s->op[i], other, sizeof other);
        if (!strcmp(text, other)) {
            s->times[i]++;
            return;
        }
    }
    assert_true(s->n < MOST_ROWS);
    s->op[s->n] = low;
    s->times[s->n++] = 1;
}

static void add_layer(graphs *s, const rm_graph *g, int32_t i, rm_dtype dtype)
{
    static const struct {
        rm_kind kind;
        rm_opcode code[3];
    } passes[] = {
        { RM_K_CONV, { RM_OP_CONV, RM_OP_CONV_BWD_DATA, RM_OP_CONV_BWD_WEIGHTS } },
        { RM_K_FC, { RM_OP_FC, RM_OP_FC_BWD_DATA, RM_OP_FC_BWD_WEIGHTS } },
        { RM_K_MAXPOOL, { RM_OP_MAXPOOL, RM_OP_MAXPOOL_BWD, RM_OPCODE_COUNT } },
    };
    const rm_layer *l = &g->layer[i];
    const int32_t k = l->k ? l->k : 1;
    for (size_t p = 0; p < RM_COUNT(passes); p++)
        for (int c = 0; c < 3 && passes[p].kind == l->kind; c++) {
            rm_op op = { .code = passes[p].code[c], .x = { rm_layer_in(g, i), dtype, RM_LAYOUT_NHWC } };
            if (op.code == RM_OPCODE_COUNT || (op.code == RM_OP_CONV_BWD_DATA && l->in[0] == RM_IMAGE)) continue; /* images have no gradient */
            if (l->kind != RM_K_FC) {
                op.u.win.k = l->k;
                op.u.win.stride = l->stride;
                op.u.win.pad = l->pad;
            }
            if (l->kind != RM_K_MAXPOOL) op.w = (rm_tdesc) { { l->out.c, op.x.shape.c, k, k }, dtype, RM_LAYOUT_NHWC };
            add_graph(s, &op);
        }
}

static graphs network(const char *variant, int32_t batch, int32_t px, int32_t classes, rm_dtype dtype)
{
    rm_graph g;
    graphs s = { .n = 0 };
    const rm_shape image = { batch, 3, px, px };
    if (rm_graph_resnet(50, variant, image, classes, &g) != RM_OK) fail_msg("%s", rm_last_error());
    for (int32_t i = 0; i < g.n_layer; i++) add_layer(&s, &g, i, dtype);
    rm_graph_free(&g);
    return s;
}

static rm_op parsed(const char *text)
{
    rm_op op;
    if (rm_op_parse(text, &op) != RM_OK) fail_msg("\"%s\": %s", text, rm_last_error());
    return op;
}

/* ---- one cell: a graph on a GPU */
typedef struct cell {
    int64_t engine[BATCHES], workspace_bytes;
    uint32_t notes;
    bool planned, supported, fallback;
    int n;
} cell;
typedef struct tally {
    int graphs, planned, supported, tensor, fallback, nondeterministic;
    int64_t workspace_bytes;
} tally;

/* What must hold, said here once more: the rules are under test too. */
static void check_plan(const rm_cudnn_graph *g, bool deterministic, const rm_cudnn_plan *p)
{
    const bool conv = g->op.w.shape.n != 0, half = g->op.x.dtype == RM_BF16 || g->op.x.dtype == RM_F16;
    const uint32_t must = conv && half ? TENSOR_CORE : 0;
    const uint32_t must_not = REDUCED | (conv && g->op.x.dtype == RM_F32 ? TENSOR_CORE | DOWN_CONVERT : 0) | (deterministic ? NONDETERMINISTIC : 0);
    if ((p->numeric & must) != must || p->numeric & must_not) fail_msg("%s: %s has notes 0x%x", g->key, p->name, p->numeric);
    if (p->workspace_bytes < 0 || p->workspace_bytes > 256 << 20) fail_msg("%s: %s wants %lld bytes", g->key, p->name, (long long)p->workspace_bytes);
    assert_true(p->plan != NULL || !conv);
}

/* The first candidate that keeps the rules. */
static void plan_graph(const rm_cudnn_device *dev, const rm_op *op, bool deterministic, rm_cudnn_graph **g, rm_cudnn_list *list)
{
    if (rm_cudnn_graph_new(op, g) != RM_OK) fail_msg("%s", rm_last_error());
    rm_cudnn_rules rules = rm_cudnn_rules_for(op, deterministic);
    rules.candidates = 1;
    if (rm_cudnn_candidates(*g, dev, &rules, list) != RM_OK) fail_msg("%s", rm_last_error());
    check_plan(*g, deterministic, &list->plan[0]);
}

/* Where the first plan may differ from run to run there must be another that does not. */
static void plan_cell(const rm_cudnn_device *dev, const rm_op *op, cell *c, tally *t)
{
    rm_cudnn_graph *g;
    rm_cudnn_list list;
    plan_graph(dev, op, false, &g, &list);
    const rm_cudnn_plan *p = &list.plan[0];
    c->engine[c->n++] = p->engine;
    c->notes |= p->numeric;
    c->planned |= p->plan != NULL;
    c->fallback |= list.fallback;
    if (p->workspace_bytes > c->workspace_bytes) c->workspace_bytes = p->workspace_bytes;
    t->graphs++;
    t->planned += p->plan != NULL;
    t->supported += p->plan == NULL;
    t->tensor += op->w.shape.n && p->numeric & TENSOR_CORE;
    t->fallback += list.fallback;
    const bool varies = p->numeric & NONDETERMINISTIC;
    t->nondeterministic += varies;
    if (p->workspace_bytes > t->workspace_bytes) t->workspace_bytes = p->workspace_bytes;
    rm_cudnn_list_free(&list);
    rm_cudnn_graph_free(g);
    if (!varies) return;
    plan_graph(dev, op, true, &g, &list);
    rm_cudnn_list_free(&list);
    rm_cudnn_graph_free(g);
}

/* ---- the table */
typedef struct table {
    rm_op op[MOST_ROWS];
    int times[MOST_ROWS], n;
    cell cell[MOST_ROWS][COLUMNS];
} table;

static void print_engines(FILE *f, const cell *c)
{
    for (int i = 0; i < c->n; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++) seen |= c->engine[k] == c->engine[i];
        if (!seen) fprintf(f, "%s%lld", i ? "/" : "", (long long)c->engine[i]);
    }
}

static void print_cell(FILE *f, const cell *c)
{
    fprintf(f, " ");
    print_engines(f, c);
    if (c->workspace_bytes >= 1000) fprintf(f, ", %.1f MB", (double)c->workspace_bytes * 1e-6);
    fprintf(f, "%s%s%s |", c->notes & NONDETERMINISTIC ? " n" : "", c->fallback ? " f" : "", c->planned ? "" : " s");
}

static void print_row(FILE *f, const table *t, int r)
{
    static const char *const names[RM_OPCODE_COUNT] = { [RM_OP_CONV] = "forward",
                                                        [RM_OP_CONV_BWD_DATA] = "data",
                                                        [RM_OP_CONV_BWD_WEIGHTS] = "weights",
                                                        [RM_OP_MAXPOOL] = "max-pool",
                                                        [RM_OP_MAXPOOL_BWD] = "max-pool backward" };
    const rm_op *op = &t->op[r];
    const rm_shape x = op->x.shape, w = op->w.shape;
    if (w.n) fprintf(f, "| %d→%d %d×%d s%d @%d | %d× %s |", x.c, w.n, w.h, w.w, op->u.win.stride, x.h, t->times[r], names[op->code]);
    else fprintf(f, "| %d %d×%d s%d @%d | %s |", x.c, op->u.win.k, op->u.win.k, op->u.win.stride, x.h, names[op->code]);
    for (int c = 0; c < COLUMNS; c++) print_cell(f, &t->cell[r][c]);
    fputc('\n', f);
}

static void print_table(const table *t)
{
    const char *path = getenv("RM_CUDA_TABLE");
    FILE *f = path && path[0] ? fopen(path, "w") : NULL;
    if (!f) return;
    fprintf(f, "| layer | pass |");
    for (int c = 0; c < COLUMNS; c++) fprintf(f, " %s %s |", columns[c].gpu, rm_dtype_name(columns[c].dtype));
    fprintf(f, "\n|---|---|");
    for (int c = 0; c < COLUMNS; c++) fprintf(f, "---|");
    fputc('\n', f);
    for (int r = 0; r < t->n; r++) print_row(f, t, r);
    assert_int_equal(fclose(f), 0);
}

/* ---- the matrix */
static void print_tally(const rm_cudnn_device *dev, rm_dtype dtype, const tally *t)
{
    print_message(
        "%s %s: %d graphs, %d planned, %d supported (compiled on the GPU); on tensor cores %d; by fallback %d; nondeterministic %d; largest workspace %.1f MB\n",
        dev->name, rm_dtype_name(dtype), t->graphs, t->planned, t->supported, t->tensor, t->fallback, t->nondeterministic, (double)t->workspace_bytes * 1e-6);
}

static void plan_column(table *t, int column, bool can_pool)
{
    tally sum = { 0 };
    rm_cudnn_device *dev = gpu(columns[column].gpu);
    for (int b = 0; b < BATCHES; b++) {
        const graphs s = network("v1.5", batches[b], 224, 1000, columns[column].dtype);
        assert_int_equal(s.n, 68 + 3 + 2); /* 23 shapes, the stem without data gradient; fc; max-pool */
        assert_int_equal(s.all, 53 * 3 - 1 + 3 + 2);
        t->n = s.n;
        for (int r = 0; r < s.n; r++) {
            if (!s.op[r].w.shape.n && !can_pool) continue;
            t->op[r] = s.op[r];
            t->times[r] = s.times[r];
            plan_cell(dev, &s.op[r], &t->cell[r][column], &sum);
        }
    }
    print_tally(dev, columns[column].dtype, &sum);
    rm_cudnn_device_free(dev);
}

static void every_graph_of_the_network_is_planned(void **state)
{
    table *t = calloc(1, sizeof *t);
    assert_non_null(t);
    for (int c = 0; c < COLUMNS; c++) plan_column(t, c, *state != NULL);
    print_table(t);
    free(t);
    print_message("shown: cuDNN %zu accepts these graphs and has engines within the rules. Not shown: what they compute, how fast, on a GPU.\n",
                  cudnnGetVersion());
}

static void other_networks_are_planned_too(void **state)
{
    static const struct {
        const char *gpu, *variant;
        rm_dtype dtype;
        int32_t batch, px, classes;
    } rows[] = {
        { "h100", "v1", RM_BF16, 7, 64, 10 },        { "a100", "v1.5", RM_F16, 1, 32, 10 },       { "b200", "v1.5", RM_F16, 3, 100, 7 },
        { "h100", "v1.5", RM_TF32, 256, 224, 1000 }, { "a100", "v1.5", RM_TF32, 256, 224, 1000 }, { "a100", "v1.5", RM_F32, 256, 224, 1000 },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        tally sum = { 0 };
        rm_cudnn_device *dev = gpu(rows[i].gpu);
        const graphs s = network(rows[i].variant, rows[i].batch, rows[i].px, rows[i].classes, rows[i].dtype);
        for (int r = 0; r < s.n; r++) {
            cell c = { .n = 0 };
            if (s.op[r].w.shape.n || *state) plan_cell(dev, &s.op[r], &c, &sum);
        }
        print_tally(dev, rows[i].dtype, &sum);
        rm_cudnn_device_free(dev);
    }
}

/* ---- what is refused, and in which words */
static void wrong_graphs_are_refused(void **state)
{
    static const struct {
        const char *text, *words;
    } row[] = {
        { "relu n=1 c=8 h=4 w=4 dtype=bf16", "no graph for relu" },
        { "conv n=8 c=64 h=8 w=8 o=64 k=1 dtype=f64", "no graphs in f64" },
        { "conv n=8 c=64 h=8 w=8 o=64 k=1 dtype=bf16 xl=nchw", "layout of x is not nhwc" },
        { "conv n=8 c=64 h=8 w=8 o=64 k=1 dtype=bf16 wl=17", "layout of w is not nhwc" },
        { "conv n=8 c=64 h=8 w=8 o=64 k=1 dtype=bf16 yl=nchw", "layout of y is not nhwc" },
        { "fc n=8 c=64 o=8 dtype=bf16", "lower it to conv" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        rm_op op = parsed(row[i].text);
        rm_cudnn_graph *g = NULL;
        assert_int_not_equal(rm_cudnn_graph_new(&op, &g), RM_OK);
        assert_null(g);
        if (!strstr(rm_last_error(), row[i].words)) fail_msg("\"%s\": %s", row[i].text, rm_last_error());
    }
}

static void shapes_that_do_not_match_are_refused(void **state)
{
    rm_op op = parsed("conv n=8 c=64 h=8 w=8 o=64 k=3 s=2 p=1 dtype=bf16");
    rm_cudnn_graph *g = NULL;
    op.y.shape = (rm_shape) { 8, 64, 3, 4 };
    assert_int_equal(rm_cudnn_graph_new(&op, &g), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "y is 8x64x3x4, but the op gives 8x64x4x4"));
    /* cuDNN would take half of the input channels for a convolution in two groups. */
    op.y.shape.n = 0;
    op.w.shape.c = 32;
    assert_int_equal(rm_cudnn_graph_new(&op, &g), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "do not match 64 input channels"));
    assert_null(g);
}

static void no_plan(const rm_cudnn_device *dev, const char *text, const rm_cudnn_rules *own, const char *words)
{
    rm_op op = parsed(text);
    rm_cudnn_graph *g = NULL;
    rm_cudnn_list list = { .n = 0 };
    if (rm_cudnn_graph_new(&op, &g) != RM_OK) fail_msg("%s", rm_last_error());
    const rm_cudnn_rules rules = own ? *own : rm_cudnn_rules_for(&op, false);
    assert_int_equal(rm_cudnn_candidates(g, dev, &rules, &list), RM_E_UNSUPPORTED);
    assert_int_equal(list.n, 0);
    if (!strstr(rm_last_error(), words)) fail_msg("\"%s\": %s", text, rm_last_error());
    print_message("refused: %s\n", rm_last_error());
    rm_cudnn_graph_free(g);
}

static void graphs_without_a_plan_say_why(void **state)
{
    rm_cudnn_device *dev = gpu("h100");
    const char *stem = "conv n=256 c=3 h=224 w=224 o=64 k=7 s=2 p=3 dtype=bf16", *conv = "conv n=8 c=64 h=8 w=8 o=64 k=3 p=1 dtype=bf16";
    rm_op op = parsed(stem);
    rm_cudnn_rules little = rm_cudnn_rules_for(&op, false), odd = little;
    little.workspace_bytes = 200 * 1000 * 1000; /* padded to 8 channels the stem needs none */
    odd.must = 1u << CUDNN_NUMERICAL_NOTE_FFT;
    no_plan(dev, stem, &little, "for a workspace of more than 190 MiB");
    no_plan(dev, conv, &odd, "for their notes (must: fft;");
    assert_null(strstr(rm_last_error(), " 0 are left out for their notes"));
    rm_cudnn_device_free(dev);
}

/* Gradients of weights in f32 and of logits in f32, beside 16-bit data. */
static void types_do_not_mix(void **state)
{
    for (int c = 0; c < COLUMNS; c++) {
        char text[128];
        const char *dtype = rm_dtype_name(columns[c].dtype);
        rm_cudnn_device *dev = gpu(columns[c].gpu);
        snprintf(text, sizeof text, "conv_bwd_weights n=64 c=64 h=56 w=56 o=64 k=3 s=1 p=1 dtype=%s wdtype=f32", dtype);
        no_plan(dev, text, NULL, "no engine for this graph on NVIDIA");
        snprintf(text, sizeof text, "conv_bwd_data n=64 c=2048 h=1 w=1 o=1000 k=1 dtype=%s to=f32", dtype);
        no_plan(dev, text, NULL, "no engine for this graph on NVIDIA");
        rm_cudnn_device_free(dev);
    }
}

static void results_that_must_repeat_cost_the_first_engine(void **state)
{
    rm_op op = parsed("conv_bwd_weights n=64 c=64 h=56 w=56 o=64 k=3 s=1 p=1 dtype=f32");
    rm_cudnn_device *dev = gpu("h100");
    rm_cudnn_graph *g;
    rm_cudnn_list any, same;
    assert_int_equal(rm_cudnn_graph_new(&op, &g), RM_OK);
    const rm_cudnn_rules free_rules = rm_cudnn_rules_for(&op, false), strict = rm_cudnn_rules_for(&op, true);
    assert_int_equal(rm_cudnn_candidates(g, dev, &free_rules, &any), RM_OK);
    assert_int_equal(rm_cudnn_candidates(g, dev, &strict, &same), RM_OK);
    assert_true(any.plan[0].numeric & NONDETERMINISTIC);
    assert_non_null(strstr(any.plan[0].name, "_k")); /* engine and knobs, each by its number */
    assert_null(strstr(any.plan[0].name, "_k-"));
    for (size_t i = 0; i < same.n; i++) assert_false(same.plan[i].numeric & NONDETERMINISTIC);
    rm_cudnn_list_free(&any);
    rm_cudnn_list_free(&same);
    rm_cudnn_graph_free(g);
    rm_cudnn_device_free(dev);
}

/* Products and sums in fp32 for every type; what multiplies in 16 bits does so on tensor cores, fp32 does not round its operands. */
static void no_type_sums_in_less_than_fp32(void **state)
{
    static const struct { const char *dtype; uint32_t must, must_not; } rows[] = {
        { "bf16", TENSOR_CORE, REDUCED | DOWN_CONVERT }, { "f16", TENSOR_CORE, REDUCED | DOWN_CONVERT },
        { "tf32", 0, REDUCED }, { "f32", 0, REDUCED | DOWN_CONVERT | TENSOR_CORE },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        char text[128];
        snprintf(text, sizeof text, "conv n=8 c=64 h=8 w=8 o=64 k=1 dtype=%s", rows[i].dtype);
        const rm_op op = parsed(text), pool = parsed("maxpool n=8 c=64 h=8 w=8 k=3 s=2 p=1");
        const rm_cudnn_rules r = rm_cudnn_rules_for(&op, false), same = rm_cudnn_rules_for(&op, true), none = rm_cudnn_rules_for(&pool, false);
        assert_int_equal(r.must, rows[i].must);
        assert_int_equal(r.must_not, rows[i].must_not);
        assert_int_equal(same.must_not, rows[i].must_not | NONDETERMINISTIC);
        assert_int_equal(none.must | none.must_not, 0);
    }
}

static void the_stem_is_padded(void **state)
{
    rm_op op = parsed("conv n=256 c=3 h=224 w=224 o=64 k=7 s=2 p=3 dtype=bf16"), low;
    char text[RM_CUDNN_KEY_SIZE];
    assert_int_equal(rm_cudnn_lower(&op, &low), RM_OK);
    rm_op_print(&low, text, sizeof text);
    assert_string_equal(text, "conv n=256 c=8 h=224 w=224 o=64 k=7 s=2 p=3 dtype=bf16");
    op = parsed("fc_bwd_weights n=32 c=2048 o=1000 dtype=bf16 xl=nchw yl=nchw");
    assert_int_equal(rm_cudnn_lower(&op, &low), RM_OK);
    rm_op_print(&low, text, sizeof text);
    assert_string_equal(text, "conv_bwd_weights n=32 c=2048 h=1 w=1 o=1000 k=1 s=1 p=0 dtype=bf16");
}

static int load_libraries(void **state)
{
    hold_nvrtc();
    *state = load_driver_stub();
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stem_is_padded),
        cmocka_unit_test(no_type_sums_in_less_than_fp32),
        cmocka_unit_test(wrong_graphs_are_refused),
        cmocka_unit_test(shapes_that_do_not_match_are_refused),
        cmocka_unit_test(graphs_without_a_plan_say_why),
        cmocka_unit_test(types_do_not_mix),
        cmocka_unit_test(results_that_must_repeat_cost_the_first_engine),
        cmocka_unit_test(other_networks_are_planned_too),
        cmocka_unit_test(every_graph_of_the_network_is_planned),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, load_libraries, NULL);
}
