/* bench eval: top-1 and top-5 on every validation image exactly once. */
#include "bench/commands.h"
#include "bench/rows.h"
#include "bench/session.h"
#include <stdio.h>
#include <string.h>

static rm_status body(const bench_options *o, json_t **out)
{
    bench_session s;
    rm_engine e = { 0 };
    rm_eval_result r;
    rm_status st = RM_OK;
    int32_t classes;
    RM_TRY(bench_session_plan(o, "tiny", &s));
    if (!s.data) RM_TRY_GOTO(st, rm_fail(RM_E_ARG, "evaluation needs images: give --data DIR, or make the embedded set with bench data make"), out);
    RM_TRY_GOTO(st, rm_ckpt_probe(o->arg[0], &s.recipe.depth, &classes), out);
    if (classes != s.classes)
        RM_TRY_GOTO(st, rm_fail(RM_E_ARG, "%s has %d classes, %s has %d", o->arg[0], classes, rm_dataset_dir(s.data), s.classes), out);
    RM_TRY_GOTO(st, bench_session_device(o, &s), out);
    rm_engine_config ec = { .recipe = &s.recipe, .dtype = s.dtype, .px = s.recipe.eval_px, .batch = s.eval_batch, .classes = classes, .no_fuse = o->no_fuse };
    RM_TRY_GOTO(st, rm_engine_new_eval(s.device, s.comm, &ec, &e), out);
    RM_TRY_GOTO(st, rm_engine_load(&e, o->arg[0], false, NULL), out);
    RM_TRY_GOTO(st, rm_engine_eval(&e, s.data, s.eval_batch, o->workers, s.bad, o->max_bad, &r), out);
    if (rm_comm_rank(s.comm) == 0) {
        json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:f, s:f, s:o, s:f, s:f}", "origin", "measured", "checkpoint", o->arg[0], "device", s.info.device, "dtype",
                                rm_dtype_name(s.dtype), "ranks", rm_comm_size(s.comm), "images", (json_int_t)r.images, "skipped", (json_int_t)r.skipped, "top1",
                                100.0 * (double)r.top1 / (double)r.images, "top5", 100.0 * (double)r.top5 / (double)r.images, "loss", bench_number(r.loss),
                                "eval_s", r.seconds, "images_per_s", (double)r.images / r.seconds);
        *out = json_pack("{s:o, s:{}}", "row", row, "samples");
    }
out:
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}

static rm_status eval(const bench_options *o)
{
    json_t *result = NULL;
    int32_t n = 1, cores, list[BENCH_MAX_LIST] = { 1 };
    if (o->gpus && o->gpus[0]) RM_TRY(bench_parse_list(o->gpus, "--gpus", list, &n));
    if (n != 1) return rm_fail(RM_E_ARG, "--gpus %s: bench eval takes one number", o->gpus);
    RM_TRY(bench_cores_per_device(o, list[0], &cores));
    RM_TRY(bench_whole(bench_run_ranks(o, list[0], cores, true, body, &result), &result));
    if (!result) return RM_OK;
    json_t *row = json_object_get(result, "row");
    if (bench_table_wanted(o))
        printf("top-1 %.2f %%  top-5 %.2f %%  loss %.4f  on %lld images (%lld skipped), %.1f images/s\n", bench_row_real(row, "top1"),
               bench_row_real(row, "top5"), bench_row_real(row, "loss"), bench_row_int(row, "images"), bench_row_int(row, "skipped"),
               bench_row_real(row, "images_per_s"));
    rm_status st = bench_store_run(&bench_cmd_eval, o, "eval", result);
    if (st == RM_OK) st = bench_emit_json(&bench_cmd_eval, o, NULL, json_pack("[O]", row));
    json_decref(result);
    return st;
}

static const char *const examples[] = {
    "bench eval checkpoints/tiny-00000937.safetensors",
    "bench eval resnet50.safetensors --data imagenet --px 224 --gpus 2",
    NULL,
};
const bench_command bench_cmd_eval = {
    .name = "eval", .summary = "top-1 and top-5 on every validation image exactly once",
    .usage = "bench eval CHECKPOINT [--data DIR] [--gpus N] [options]", .examples = examples, .run = eval,
};
