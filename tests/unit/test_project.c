/* Projections: what an op costs on the cuda device, by hand; times from a GPU with round figures; a whole network; and the files that describe GPUs. */
#include "bench/project.h"
#include "bench/rows.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

static rm_op op_of(const char *text)
{
    rm_op op;
    if (rm_op_parse(text, &op) != RM_OK || rm_op_complete(&op) != RM_OK) fail_msg("%s: %s", text, rm_last_error());
    return op;
}

/* ---- ops */
static void kernels_and_bytes_by_hand(void **state)
{
    static const struct { const char *text; int kernels; uint64_t bytes, flops, own, own_least; } want[] = {
        /* x 2*8*64*2 (3 channels padded to 8), w 16*8*9*2, y 2*16*64*2; 2*2*16*64*8*9 operations */
        { "conv n=2 c=3 h=8 w=8 o=16 k=3 s=1 p=1 dtype=bf16", 1, 2048 + 2304 + 4096, 294912, 0, 0 },
        { "conv n=2 c=3 h=8 w=8 o=16 k=3 s=1 p=1 dtype=f32", 1, 1536 + 1728 + 8192, 110592, 0, 0 },
        { "conv_bwd_data n=2 c=16 h=8 w=8 o=16 k=1 s=1 p=0 dtype=f16", 1, 4096 + 512 + 4096, 65536, 0, 0 },
        /* and the cast of its result: w in 16 bits read, 16*3*9 masters written */
        { "conv_bwd_weights n=2 c=3 h=8 w=8 o=16 k=3 s=1 p=1 dtype=bf16", 2, 2048 + 2304 + 4096 + 2304 + 1728, 294912, 2304 + 1728, 2304 + 1728 },
        { "conv_bwd_weights n=2 c=3 h=8 w=8 o=16 k=3 s=1 p=1 dtype=f32", 1, 1536 + 1728 + 8192, 110592, 0, 0 },
        /* y in 16 bits written, read and written again as fp32 with the bias */
        { "fc n=4 c=2048 o=1000 dtype=bf16", 2, 16384 + 4096000 + 8000 + 8000 + 16000, 16384000, 8000 + 16000, 8000 + 16000 },
        { "fc_bwd_data n=4 c=2048 o=1000 dtype=bf16", 2, 16000 + 8000 + 16384 + 4096000 + 8000, 16384000, 16000 + 8000, 16000 + 8000 },
        { "fc_bwd_weights n=4 c=2048 o=1000 dtype=bf16", 4, 16000 + 8000 + 16384 + 4096000 + 8000 + 4096000 + 8192000 + 16000, 16384000, 16000 + 8000 + 16000 + 4096000 + 8192000,
          16000 + 8000 + 4096000 + 8192000 },
        { "fc_bwd_weights n=4 c=2048 o=1000 dtype=f32", 2, 32768 + 8192000 + 16000 + 16000, 16384000, 16000, 16000 },
        { "maxpool n=2 c=64 h=112 w=112 k=3 s=2 p=1 dtype=bf16", 1, 3211264 + 802816 + 401408, 0, 0, 0 },
        { "avgpool n=2 c=64 h=7 w=7 dtype=bf16", 1, 12544 + 256, 0, 12544 + 256, 12544 + 256 },
        { "augment n=2 c=3 h=8 w=8 dtype=bf16", 1, 384 + 2048, 0, 384 + 2048, 0 },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        rm_op op = op_of(want[i].text);
        if (op.code == RM_OP_AUGMENT) op.y.layout = RM_LAYOUT_PRIVATE;
        const rm_cuda_work k = rm_cuda_work_of(&op);
        if (k.kernels != want[i].kernels || k.bytes != want[i].bytes || (want[i].flops && k.flops != want[i].flops))
            fail_msg("%s: %d kernels, %llu bytes, %llu flops", want[i].text, k.kernels, (unsigned long long)k.bytes, (unsigned long long)k.flops);
        assert_true(k.tensor == (want[i].flops != 0));
        if (k.own_bytes != want[i].own || (want[i].own_least && k.own_least_bytes != want[i].own_least))
            fail_msg("%s: own kernels move %llu bytes, at least %llu", want[i].text, (unsigned long long)k.own_bytes, (unsigned long long)k.own_least_bytes);
    }
}

/* As kernels/cuda/kernels.h says them; cuda.cases holds the kernels themselves against these. */
static void passes_over_the_activation(void **state)
{
    static const struct { const char *text; unsigned passes; int kernels; } want[] = {
        { "bn n=2 c=8 h=4 w=4 relu=1 dtype=bf16", 3, 3 },
        { "bn n=2 c=8 h=4 w=4 relu=1 add=1 dtype=bf16", 4, 3 },
        { "bn n=2 c=8 h=4 w=4 training=0 dtype=bf16", 2, 2 },
        { "bn_bwd n=2 c=8 h=4 w=4 relu=1 dtype=bf16", 5, 3 },
        { "bn_bwd n=2 c=8 h=4 w=4 relu=1 dy2=1 dtype=bf16", 7, 3 },
        { "bn_bwd n=2 c=8 h=4 w=4 relu=1 add=1 dtype=bf16", 7, 3 },
        { "bn_bwd n=2 c=8 h=4 w=4 relu=1 add=1 dy2=1 dtype=bf16", 8, 3 },
        { "bn_bwd n=2 c=8 h=4 w=4 add=1 dy2=1 dtype=bf16", 7, 3 },
        { "bn_bwd n=2 c=8 h=4 w=4 training=0 relu=1 add=1 dy2=1 dtype=bf16", 6, 3 },
        { "relu_bwd n=2 c=8 h=4 w=4 dy2=1 dtype=bf16", 4, 1 },
        { "add n=2 c=8 h=4 w=4 dtype=bf16", 3, 1 },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        const rm_op op = op_of(want[i].text);
        const rm_cuda_work k = rm_cuda_work_of(&op);
        if (k.bytes != want[i].passes * 512u || k.kernels != want[i].kernels) fail_msg("%s: %llu bytes, %d kernels", want[i].text, (unsigned long long)k.bytes, k.kernels);
        assert_true(!k.tensor && k.own_bytes == k.bytes && k.own_least_bytes == k.least_bytes);
    }
}

/* ---- times */
static const char round_gpu[] = "name = round\nbf16_flops_per_s = 1e12 ; assumed ; a test\nfp16_flops_per_s = 2e12 ; assumed ; a test\ntf32_flops_per_s = 4e11 ; assumed ; a test\n"
                                "fp32_flops_per_s = 5e11 ; assumed ; a test\nmemory_bytes_per_s = 1e11 ; assumed ; a test\nkernel_s = 1e-6 ; assumed ; a test\n"
                                "compute_efficiency = 0.5 ; assumed ; a test\n# words\n\n  memory_efficiency=0.8;worked out;a test; with a semicolon\n";

static gpu_file round_one(void)
{
    gpu_file g;
    if (gpu_file_parse(round_gpu, "round", &g) != RM_OK) fail_msg("%s", rm_last_error());
    return g;
}

static bool near_to(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

static void times_by_hand(void **state)
{
    static const struct { rm_dtype dtype; rm_cuda_work k; double at_peaks, assumed; const char *limit; } want[] = {
        { RM_BF16, { .kernels = 2, .tensor = true, .flops = 4000000000, .bytes = 100000000 }, 4e-3 + 2e-6, 8e-3 + 2e-6, "compute" },
        { RM_F16, { .kernels = 2, .tensor = true, .flops = 4000000000, .bytes = 100000000 }, 2e-3 + 2e-6, 4e-3 + 2e-6, "compute" },
        { RM_TF32, { .kernels = 1, .tensor = true, .flops = 4000000000, .bytes = 0 }, 1e-2 + 1e-6, 2e-2 + 1e-6, "compute" },
        { RM_BF16, { .kernels = 1, .tensor = false, .flops = 1000000, .bytes = 1000000000 }, 1e-2 + 1e-6, 1.25e-2 + 1e-6, "memory" },
        { RM_BF16, { .kernels = 1, .tensor = false, .flops = 1000000000, .bytes = 8 }, 2e-3 + 1e-6, 4e-3 + 1e-6, "compute" }, /* fp32's peak: no matrix product */
        { RM_BF16, { .kernels = 3, .tensor = false, .flops = 0, .bytes = 1000 }, 1e-8 + 3e-6, 1.25e-8 + 3e-6, "kernels" },
    };
    const gpu_file g = round_one();
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        const bench_projected p = bench_project_work(&g, want[i].dtype, &want[i].k);
        if (!near_to(p.at_peaks_s, want[i].at_peaks) || !near_to(p.assumed_s, want[i].assumed) || strcmp(p.limit, want[i].limit) != 0)
            fail_msg("%zu: %.12g %.12g %s", i, p.at_peaks_s, p.assumed_s, p.limit);
    }
}

/* ---- a network */
static json_t *row_of(rm_dtype dtype, rm_graph *graph)
{
    rm_recipe recipe;
    rm_device *d;
    rm_engine e;
    const gpu_file g = round_one();
    assert_int_equal(rm_recipe_load("tiny", &recipe), RM_OK);
    assert_int_equal(bench_project_device(&d), RM_OK);
    const rm_engine_config ec = { .recipe = &recipe, .dtype = dtype, .px = 64, .batch = 2, .classes = 1000 };
    if (rm_engine_new(d, NULL, &ec, &e) != RM_OK) fail_msg("%s", rm_last_error());
    json_t *row = bench_project_row(&g, &e);
    assert_non_null(row);
    assert_int_equal(rm_graph_resnet(50, "v1.5", e.graph.image, 1000, graph), RM_OK);
    rm_engine_free(&e);
    rm_device_close(d);
    return row;
}

static double sum(const json_t *list, const char *key, const char *only)
{
    double s = 0;
    size_t i;
    const json_t *j;
    json_array_foreach(list, i, j)
    {
        assert_string_equal(bench_row_text(j, "origin"), "projected");
        assert_non_null(strstr(bench_row_text(j, "note"), "not measured"));
        if (!only || !strncmp(bench_row_text(j, "op"), only, strlen(only))) s += json_number_value(json_object_get(j, key));
    }
    return s;
}

/* Neither cuDNN's matrix products nor its max-pool; but the casts of their weights' gradients, and fc's bias, its gradient and three casts of logits. */
static double own_bytes(const json_t *layers, const rm_graph *g)
{
    const double logits = 2 * 1000;
    double own = sum(layers, "bytes", NULL) - sum(layers, "bytes", "conv") - sum(layers, "bytes", "fc") - sum(layers, "bytes", "maxpool");
    for (int32_t i = 0; i < g->n_param; i++) {
        const rm_param *p = &g->param[i];
        if (p->role == RM_ROLE_WEIGHT) own += 4.0 * (double)p->count + 2.0 * (double)p->count * (p->shape.c == 3 ? 8.0 / 3 : 1);
    }
    return own + logits * (2 + 4) + 2 * logits * (4 + 2) + logits * 4;
}

static void a_network_adds_up(void **state)
{
    static const char *const keys[] = { "kernels", "flops", "bytes", "least_bytes", "at_peaks_s", "assumed_s" };
    rm_graph graph;
    json_t *row = row_of(RM_BF16, &graph);
    const json_t *layers = json_object_get(row, "layers"), *by_op = json_object_get(row, "by_op");
    for (size_t i = 0; i < RM_COUNT(keys); i++) {
        const double all = json_number_value(json_object_get(row, keys[i]));
        assert_true(all > 0 && fabs(sum(layers, keys[i], NULL) - all) < 1e-9 * all && fabs(sum(by_op, keys[i], NULL) - all) < 1e-9 * all);
    }
    /* 53 convolutions: forward 1, data 1 (but the first), weights 2; 53 batch norms: 3 and 3; 54 weights cast; fc 2 + 2 + 4; loss 2; optimiser 2; pools 2 and 2; the
     * shortcut's sum before the max-pool; the images. */
    assert_int_equal(bench_row_int(row, "kernels"), 53 + 52 + 2 * 53 + 6 * 53 + 54 + 8 + 2 + 2 + 4 + 1 + 1);
    assert_string_equal(bench_row_text(row, "origin"), "projected");
    assert_true(fabs(sum(by_op, "share", NULL) - 1) < 1e-9);
    assert_true(near_to(bench_row_real(row, "images_per_s_at_peaks"), 2 / bench_row_real(row, "at_peaks_s")));
    assert_true(near_to((double)bench_row_int(row, "own_bytes"), own_bytes(layers, &graph)));
    assert_true(bench_row_int(row, "own_bytes") > bench_row_int(row, "own_least_bytes"));
    rm_graph_free(&graph);
    json_decref(row);
}

/* In fp32 nothing is padded: the three passes do three times the forward's work, but for the images' gradient. */
static void operations_are_those_of_the_network(void **state)
{
    rm_graph graph;
    json_t *row = row_of(RM_F32, &graph);
    const double forward = 2.0 * 2 * (double)rm_graph_macs(&graph), stem = 2.0 * 2 * 32 * 32 * 64 * 3 * 49;
    const double done = sum(json_object_get(row, "layers"), "flops", "conv") + sum(json_object_get(row, "layers"), "flops", "fc");
    if (!near_to(done, 3 * forward - stem)) fail_msg("%.17g, not %.17g", done, 3 * forward - stem);
    assert_true(sum(json_object_get(row, "layers"), "kernels", "reorder") == 0);
    rm_graph_free(&graph);
    json_decref(row);
}

/* ---- files */
static void files_say_what_is_wrong_with_them(void **state)
{
    static const struct { const char *from, *to, *words; } want[] = {
        { "name = round", "name =", "a name has 1 to 95" },
        { "name = round", "nom = round", "nom: there is no such key" },
        { "name = round", "name = a\nname = b", "round:2: name: it is given twice" },
        { "name = round", "name = \x1b[2J", "plain characters" },
        { "name = round", "", "it has no name" },
        { "kernel_s = 1e-6 ; assumed ; a test", "kernel_s = 1e-6", "its label must be" },
        { "kernel_s = 1e-6 ; assumed ; a test", "kernel_s = 1e-6 ; guessed ; a test", "its label must be" },
        { "kernel_s = 1e-6 ; assumed ; a test", "kernel_s = 1e-6 ; assumed ;", "must say its source" },
        { "kernel_s = 1e-6 ; assumed ; a test", "kernel_s = fast ; assumed ; a test", "no number above 0" },
        { "kernel_s = 1e-6 ; assumed ; a test", "kernel_s = nan ; assumed ; a test", "no number above 0" },
        { "kernel_s = 1e-6 ; assumed ; a test", "kernel_s = -1 ; assumed ; a test", "no number above 0" },
        { "kernel_s = 1e-6 ; assumed ; a test", "kernel_s", "expected KEY = VALUE" },
        { "kernel_s = 1e-6 ; assumed ; a test", "", "kernel_s is missing" },
        { "compute_efficiency = 0.5", "compute_efficiency = 1.5", "an efficiency is at most 1" },
    };
    gpu_file g;
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char text[2048];
        const char *at = strstr(round_gpu, want[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - round_gpu), round_gpu, want[i].to, at + strlen(want[i].from));
        assert_int_equal(gpu_file_parse(text, "round", &g), RM_E_FORMAT);
        if (!strstr(rm_last_error(), want[i].words)) fail_msg("%zu: %s", i, rm_last_error());
    }
    g = round_one();
    assert_string_equal(g.value[GPU_MEMORY_EFFICIENCY].source, "a test; with a semicolon");
    assert_string_equal(g.value[GPU_MEMORY_EFFICIENCY].label, "worked out");
}

static void built_in_gpus_load(void **state)
{
    static const struct { const char *name, *words; } want[] = { { "h100", "NVIDIA H100 SXM5 80 GB" }, { "a100", "NVIDIA A100 SXM4 80 GB" }, { "b200", "NVIDIA B200 (HGX, 1000 W)" } };
    gpu_file g;
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        if (gpu_file_load(want[i].name, &g) != RM_OK) fail_msg("%s", rm_last_error());
        assert_string_equal(g.name, want[i].words);
        for (int k = 0; k < GPU_FIGURES; k++) assert_string_equal(g.value[k].label, k < GPU_KERNEL_S ? "published" : "assumed"); /* nothing measured */
    }
    assert_int_equal(gpu_file_load("h10", &g), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "a100, b200, h100"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_and_bytes_by_hand), cmocka_unit_test(passes_over_the_activation), cmocka_unit_test(times_by_hand), cmocka_unit_test(a_network_adds_up),
        cmocka_unit_test(operations_are_those_of_the_network), cmocka_unit_test(files_say_what_is_wrong_with_them), cmocka_unit_test(built_in_gpus_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
