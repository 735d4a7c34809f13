#include "bench/project.h"
#include "base/log.h"
#include "bench/commands.h"
#include "bench/rows.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char note[] = "projected from published peaks and stated assumptions; not measured";

/* ---- one op */
static gpu_figure product_of(rm_dtype t) { return t == RM_BF16 ? GPU_BF16_FLOPS : t == RM_F16 ? GPU_FP16_FLOPS : t == RM_TF32 ? GPU_TF32_FLOPS : GPU_FP32_FLOPS; }

static double time_of(const gpu_file *g, gpu_figure peak, const rm_cuda_work *k, double compute, double memory, const char **limit)
{
    const double computing = (double)k->flops / (compute * g->value[peak].v), moving = (double)k->bytes / (memory * g->value[GPU_MEMORY_BYTES].v);
    const double between = k->kernels * g->value[GPU_KERNEL_S].v, longer = fmax(computing, moving);
    *limit = between > longer ? "kernels" : computing > moving ? "compute" : "memory";
    return longer + between;
}

bench_projected bench_project_work(const gpu_file *g, rm_dtype dtype, const rm_cuda_work *k)
{
    const gpu_figure peak = k->tensor ? product_of(dtype) : GPU_FP32_FLOPS;
    bench_projected p;
    const char *limit;
    p.at_peaks_s = time_of(g, peak, k, 1, 1, &limit);
    p.assumed_s = time_of(g, peak, k, g->value[GPU_COMPUTE_EFFICIENCY].v, g->value[GPU_MEMORY_EFFICIENCY].v, &p.limit);
    return p;
}

/* ---- sums */
typedef struct sums { uint64_t kernels, flops, bytes, least_bytes, own_bytes, own_least_bytes; double at_peaks_s, assumed_s; } sums;

static void add(sums *s, const rm_cuda_work *k, const bench_projected *p)
{
    s->kernels += (uint64_t)k->kernels;
    s->flops += k->flops;
    s->bytes += k->bytes;
    s->least_bytes += k->least_bytes;
    s->own_bytes += k->own_bytes;
    s->own_least_bytes += k->own_least_bytes;
    s->at_peaks_s += p->at_peaks_s;
    s->assumed_s += p->assumed_s;
}

static json_t *sums_json(const sums *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:f}", "kernels", (json_int_t)s->kernels, "flops", (json_int_t)s->flops, "bytes", (json_int_t)s->bytes, "least_bytes",
                     (json_int_t)s->least_bytes, "at_peaks_s", s->at_peaks_s, "assumed_s", s->assumed_s);
}

static void say_origin(json_t *o)
{
    json_object_set_new(o, "origin", json_string("projected"));
    json_object_set_new(o, "note", json_string(note));
}

static json_t *layer_json(const rm_node *n, const rm_cuda_work *k, const bench_projected *p)
{
    sums one = { 0 };
    add(&one, k, p);
    json_t *j = sums_json(&one);
    json_object_set_new(j, "name", json_string(n->name));
    json_object_set_new(j, "pass", json_string(rm_pass_name(n->pass)));
    json_object_set_new(j, "op", json_string(rm_opcode_name(n->op.code)));
    json_object_set_new(j, "limit", json_string(p->limit));
    say_origin(j);
    return j;
}

static json_t *by_op_json(const sums by_op[RM_OPCODE_COUNT], double assumed_s)
{
    json_t *list = json_array();
    for (int c = 0; c < RM_OPCODE_COUNT; c++) {
        if (!by_op[c].kernels) continue;
        json_t *j = sums_json(&by_op[c]);
        json_object_set_new(j, "op", json_string(rm_opcode_name((rm_opcode)c)));
        json_object_set_new(j, "share", json_real(by_op[c].assumed_s / assumed_s));
        say_origin(j);
        json_array_append_new(list, j);
    }
    return list;
}

json_t *bench_project_row(const gpu_file *g, const rm_engine *e)
{
    const rm_node *node;
    sums all = { 0 }, by_op[RM_OPCODE_COUNT] = { { 0 } };
    json_t *layers = json_array(), *row;
    const int32_t n = rm_net_nodes(e->net, &node);
    for (int32_t i = 0; i < n; i++) {
        const rm_cuda_work k = rm_cuda_work_of(&node[i].op);
        const bench_projected p = bench_project_work(g, e->cfg.dtype, &k);
        add(&all, &k, &p);
        add(&by_op[node[i].op.code], &k, &p);
        json_array_append_new(layers, layer_json(&node[i], &k, &p));
    }
    row = sums_json(&all);
    if (!row) return NULL;
    say_origin(row);
    json_object_set_new(row, "device", json_string("cuda"));
    json_object_set_new(row, "gpu", gpu_file_json(g));
    json_object_set_new(row, "dtype", json_string(rm_dtype_name(e->cfg.dtype)));
    json_object_set_new(row, "px", json_integer(e->cfg.px));
    json_object_set_new(row, "batch", json_integer(e->cfg.batch));
    json_object_set_new(row, "classes", json_integer(e->cfg.classes));
    json_object_set_new(row, "images_per_s_at_peaks", json_real(e->cfg.batch / all.at_peaks_s));
    json_object_set_new(row, "images_per_s_assumed", json_real(e->cfg.batch / all.assumed_s));
    json_object_set_new(row, "own_bytes", json_integer((json_int_t)all.own_bytes));
    json_object_set_new(row, "own_least_bytes", json_integer((json_int_t)all.own_least_bytes));
    json_object_set_new(row, "by_op", by_op_json(by_op, all.assumed_s));
    json_object_set_new(row, "layers", layers);
    return row;
}

/* ---- for people: every line says what it is */
static void print_head(const json_t *row)
{
    const json_t *gpu = json_object_get(row, "gpu"), *f;
    size_t i;
    printf("PROJECTED, NOT MEASURED: ResNet-50's training step as the cuda device plans it, on a GPU that is described: %s\n", bench_row_text(gpu, "name"));
    json_array_foreach(json_object_get(gpu, "figures"), i, f)
        printf("  %-20s %10.4g  %s: %s\n", bench_row_text(f, "name"), bench_row_real(f, "value"), bench_row_text(f, "label"), bench_row_text(f, "source"));
    printf("%s, %lld px, batch %lld, %lld classes\n\n", bench_row_text(row, "dtype"), bench_row_int(row, "px"), bench_row_int(row, "batch"), bench_row_int(row, "classes"));
}

static void print_line(const char *name, const char *pass, const json_t *j, const char *end)
{
    printf("%-24.24s %-11.11s %-16.16s %8lld %10.2f %9.2f %9.2f %10.1f %10.1f  %-8s projected\n", name, pass, bench_row_text(j, "op"), bench_row_int(j, "kernels"),
           1e-9 * (double)bench_row_int(j, "flops"), 1e-6 * (double)bench_row_int(j, "bytes"), 1e-6 * (double)bench_row_int(j, "least_bytes"), 1e6 * bench_row_real(j, "at_peaks_s"),
           1e6 * bench_row_real(j, "assumed_s"), end);
}

void bench_project_print(const json_t *row)
{
    const json_t *j;
    size_t i;
    char share[16];
    print_head(row);
    printf("%-24s %-11s %-16s %8s %10s %9s %9s %10s %10s  %-8s\n", "layer", "pass", "op", "kernels", "GFLOP", "MB moved", "MB least", "us at peak", "us assumed", "limit");
    json_array_foreach(json_object_get(row, "layers"), i, j) print_line(bench_row_text(j, "name"), bench_row_text(j, "pass"), j, bench_row_text(j, "limit"));
    printf("\nby op\n");
    json_array_foreach(json_object_get(row, "by_op"), i, j)
    {
        snprintf(share, sizeof share, "%.1f %%", 100 * bench_row_real(j, "share"));
        print_line("", "all", j, share);
    }
    print_line("step", "", row, "");
    printf("\nprojected, not measured: %.2f ms a step, %.0f images/s with every peak reached; %.2f ms, %.0f images/s with the assumed efficiencies\n", 1e3 * bench_row_real(row, "at_peaks_s"),
           bench_row_real(row, "images_per_s_at_peaks"), 1e3 * bench_row_real(row, "assumed_s"), bench_row_real(row, "images_per_s_assumed"));
    printf("projected, not measured: %lld kernels a step; own kernels move %.2f GB where %.2f GB is the least\n", bench_row_int(row, "kernels"), 1e-9 * (double)bench_row_int(row, "own_bytes"),
           1e-9 * (double)bench_row_int(row, "own_least_bytes"));
}

/* ---- the command */
static rm_status dtype_of(const bench_options *o, rm_dtype *out)
{
    *out = RM_BF16;
    if (o->dtype && o->dtype[0]) RM_TRY(rm_dtype_parse(o->dtype, out));
    if (*out == RM_BF16 || *out == RM_F16 || *out == RM_TF32 || *out == RM_F32) return RM_OK;
    return rm_fail(RM_E_ARG, "--project: the cuda device has no --dtype %s; use bf16, fp16, tf32 or fp32", o->dtype);
}

static rm_status check(const bench_options *o, const bench_session *s)
{
    if (strcmp(o->device, "auto") != 0 && strcmp(o->device, "cuda") != 0) return rm_fail(RM_E_ARG, "--project is of the cuda device: it says nothing of --device %s", o->device);
    if (s->recipe.accumulate > 1) return rm_fail(RM_E_ARG, "--project: the recipe accumulates %d micro-batches; --set accumulate=1 projects one step", s->recipe.accumulate);
    return RM_OK;
}

rm_status bench_project(const bench_options *o)
{
    bench_session s;
    gpu_file g;
    rm_engine e = { 0 };
    json_t *row = NULL;
    rm_status st = RM_OK;
    RM_TRY(gpu_file_load(o->project, &g));
    RM_TRY(bench_session_plan(o, "tiny", &s));
    RM_TRY_GOTO(st, check(o, &s), out);
    RM_TRY_GOTO(st, dtype_of(o, &s.dtype), out);
    RM_TRY_GOTO(st, bench_project_device(&s.device), out);
    const rm_engine_config ec = { .recipe = &s.recipe, .dtype = s.dtype, .px = s.recipe.px, .batch = s.batch, .classes = s.classes, .no_fuse = o->no_fuse, .seed = (uint64_t)o->seed };
    RM_TRY_GOTO(st, rm_engine_new(s.device, NULL, &ec, &e), out);
    row = bench_project_row(&g, &e);
    if (!row) RM_TRY_GOTO(st, rm_fail(RM_E_NOMEM, "out of memory for the projection"), out);
    json_object_set_new(row, "reproduce", bench_reproduce(&bench_cmd_layers, o));
    if (bench_table_wanted(o)) bench_project_print(row);
    st = bench_emit_json(&bench_cmd_layers, o, NULL, json_pack("[O]", row));
out:
    json_decref(row);
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}
