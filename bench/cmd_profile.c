/* bench profile: one screen that says where a step's time goes and what changing it would give. */
#include "base/log.h"
#include "bench/commands.h"
#include "bench/profile.h"
#include <string.h>

static rm_status count_ranks(const bench_options *o, int32_t *out)
{
    int32_t n = 1, list[BENCH_MAX_LIST] = { 1 };
    if (o->gpus[0]) RM_TRY(bench_parse_list(o->gpus, "--gpus", list, &n));
    if (n != 1) return rm_fail(RM_E_ARG, "--gpus %s: profile takes one number of devices; bench scaling takes several", o->gpus);
    const int world = rm_world_from_env().size; /* where the ranks are the user's own */
    if (world > 1 && o->gpus[0] && *list != world) return rm_fail(RM_E_ARG, "--gpus %s: the launcher started %d ranks; leave --gpus out", o->gpus, world);
    *out = list[0];
    return RM_OK;
}

/* Refuses bad options and data before any rank starts. */
static rm_status check(const bench_options *o)
{
    bench_session s;
    RM_TRY(bench_session_plan(o, "tiny", &s));
    bench_session_close(&s);
    return RM_OK;
}

static rm_status show(const bench_options *o, const json_t *got)
{
    json_t *result = bench_profile_row(o, got);
    if (!result) return rm_fail(RM_E_NOMEM, "out of memory for the profile");
    json_t *row = json_object_get(result, "row");
    if (bench_table_wanted(o)) bench_profile_print(row);
    rm_status st = bench_store_run(&bench_cmd_profile, o, "profile", result);
    if (st == RM_OK) st = bench_emit_json(&bench_cmd_profile, o, NULL, json_pack("[O]", row));
    if (st == RM_OK && json_is_true(json_object_get(json_object_get(row, "trace"), "cut"))) st = rm_fail(RM_E_PARTIAL, "the profile is done, but the trace is not whole");
    json_decref(result);
    return st;
}

static rm_status profile(const bench_options *o)
{
    json_t *got = NULL;
    int32_t ranks, cores;
    if (o->rank_result[0]) return bench_run_ranks(o, 1, 0, true, bench_profile_rank, &got);
    RM_TRY(count_ranks(o, &ranks));
    RM_TRY(check(o));
    if (o->dry_run) {
        bench_profile_print_plan(o, ranks);
        return bench_print_device_plan(o);
    }
    RM_TRY(bench_cores_per_device(o, ranks, &cores));
    RM_TRY(bench_whole(bench_run_ranks(o, ranks, cores, true, bench_profile_rank, &got), &got));
    if (!got) return RM_OK; /* a rank of the user's own world that does not report */
    const rm_status st = show(o, got);
    json_decref(got);
    return st;
}

static const char *const examples[] = {
    "bench profile --px 64 --batch 64 --data synthetic",
    "bench profile --gpus 2 --split ddp --trace step.json.gz",
    "bench profile --gpus 2 --sensitivity --json profile.json",
    NULL,
};
const bench_command bench_cmd_profile = {
    .name = "profile", .summary = "one screen: where a step's time goes, what bounds it, what changing it would give",
    .usage = "bench profile [--gpus N] [--sensitivity] [--trace FILE] [options]", .examples = examples, .run = profile,
};
