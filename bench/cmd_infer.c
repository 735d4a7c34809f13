/* bench infer: classes and latency of images. */
#include "base/clock.h"
#include "base/file.h"
#include "bench/commands.h"
#include "bench/session.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void softmax(double *v, int32_t n)
{
    double top = v[0], sum = 0;
    for (int32_t i = 1; i < n; i++) top = v[i] > top ? v[i] : top;
    for (int32_t i = 0; i < n; i++) sum += v[i] = exp(v[i] - top);
    for (int32_t i = 0; i < n; i++) v[i] /= sum;
}

static int32_t argmax(const double *v, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

/* The class's folder name where a data set gives one, else its number. */
static void class_name(const bench_session *s, int32_t c, char *out, size_t size)
{
    if (s->data && (uint32_t)c < rm_dataset_classes(s->data)) snprintf(out, size, "%s", rm_dataset_class(s->data, (uint32_t)c));
    else snprintf(out, size, "%d", c);
}

static rm_status classify(const bench_session *s, rm_engine *e, rm_decoder *dec, const char *path, uint8_t *image, double *p, uint64_t *ns)
{
    char *text = NULL;
    uint8_t flip = 0;
    size_t bytes = 0;
    RM_TRY(rm_file_load(path, SIZE_MAX, &text, &bytes));
    const uint8_t *jpeg = (uint8_t *)text;
    uint64_t start = rm_now_ns();
    rm_status st = rm_jpeg_center(dec, jpeg, bytes, path, s->recipe.eval_resize, s->recipe.eval_px, image);
    if (st == RM_OK) st = rm_net_set_images_u8(e->eval, image, &flip, 1);
    if (st == RM_OK) st = rm_net_forward(e->eval);
    if (st == RM_OK) st = rm_net_logits(e->eval, p);
    *ns = rm_now_ns() - start;
    free(text);
    if (st == RM_OK) softmax(p, s->classes);
    return st;
}

static json_t *image_json(const bench_options *o, const bench_session *s, const char *path, double *p, uint64_t ns, bool print)
{
    json_t *top = json_array();
    int32_t k = o->topk < s->classes ? o->topk : s->classes;
    if (print) printf("%s  (%.2f ms)\n", path, (double)ns * 1e-6);
    for (int32_t i = 0; i < k; i++) {
        char name[256];
        int32_t c = argmax(p, s->classes);
        class_name(s, c, name, sizeof name);
        if (print) printf("  %6.2f %%  %s\n", 100 * p[c], name);
        json_array_append_new(top, json_pack("{s:i, s:s, s:f}", "class", c, "name", name, "probability", p[c]));
        p[c] = -1;
    }
    return json_pack("{s:s, s:f, s:o}", "image", path, "latency_s", rm_s(ns), "top", top);
}

static rm_status run_images(const bench_options *o, bench_session *s, rm_engine *e, json_t *rows)
{
    rm_decoder *dec = NULL;
    rm_status st = rm_decoder_new(NULL, &dec), first_bad = RM_OK;
    size_t px = (size_t)s->recipe.eval_px;
    uint8_t *image = malloc(px * px * 3);
    double *p = malloc((size_t)s->classes * sizeof *p);
    bool print = bench_table_wanted(o);
    if (st == RM_OK && (!image || !p)) st = rm_fail(RM_E_NOMEM, "out of memory for the images");
    for (int32_t i = 1; st == RM_OK && i < o->n_arg; i++) {
        uint64_t ns = 0;
        rm_status one = classify(s, e, dec, o->arg[i], image, p, &ns);
        if (one == RM_OK) json_array_append_new(rows, image_json(o, s, o->arg[i], p, ns, print));
        else if (one == RM_E_FORMAT || one == RM_E_IO) { /* the others still get their answer */
            fprintf(stderr, "bench infer: %s\n", rm_last_error());
            json_array_append_new(rows, json_pack("{s:s, s:n, s:s}", "image", o->arg[i], "top", "reason", rm_last_error()));
            first_bad = one;
        } else st = one;
    }
    free(image);
    free(p);
    rm_decoder_free(dec);
    if (st != RM_OK || first_bad == RM_OK) return st;
    return rm_fail(first_bad, "not every image could be read");
}

static rm_status infer(const bench_options *o)
{
    bench_session s;
    rm_engine e = { 0 };
    rm_status st = RM_OK;
    json_t *rows = json_array();
    RM_TRY(bench_session_plan(o, "tiny", &s));
    RM_TRY_GOTO(st, rm_ckpt_probe(o->arg[0], &s.recipe.depth, &s.classes), out);
    RM_TRY_GOTO(st, bench_session_device(o, &s), out);
    rm_engine_config ec = { .recipe = &s.recipe, .dtype = s.dtype, .px = s.recipe.eval_px, .batch = 1, .classes = s.classes, .no_fuse = o->no_fuse };
    RM_TRY_GOTO(st, rm_engine_new_eval(s.device, s.comm, &ec, &e), out);
    RM_TRY_GOTO(st, rm_engine_load(&e, o->arg[0], false, NULL), out);
    RM_TRY_GOTO(st, rm_net_prologue(e.eval), out);
    st = run_images(o, &s, &e, rows);
    if (st == RM_OK || st == RM_E_FORMAT || st == RM_E_IO) {
        char why[512];
        snprintf(why, sizeof why, "%s", rm_last_error());
        rm_status emitted = bench_emit_json(&bench_cmd_infer, o, NULL, json_incref(rows));
        st = st == RM_OK ? emitted : rm_fail(st, "%s", why);
    }
out:
    json_decref(rows);
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}

static const char *const examples[] = {
    "bench infer checkpoints/tiny-00000937.safetensors data/fashion-mnist/val/*/00001.jpg",
    "bench infer resnet50.safetensors photo.jpg --topk 3 --json",
    NULL,
};
const bench_command bench_cmd_infer = {
    .name = "infer", .summary = "classes and latency of images",
    .usage = "bench infer CHECKPOINT IMAGE... [options]", .examples = examples, .run = infer,
};
