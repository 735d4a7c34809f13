/* The ranks' side of bench split-sweep. */
#include "bench/ghost_run.h"
#include "bench/rows.h"
#include "bench/split_sweep.h"
#include "bench/twins.h"
#include <stdio.h>
#include <string.h>

typedef struct rank_run {
    const bench_options *o;
    bench_session s;
    rm_engine engine;
    bench_ghost ghost;
    rm_synthetic batch;
    bench_split_list splits;
} rank_run;

int32_t bench_sweep_rounds(const bench_options *o) { return o->steps ? o->steps : BENCH_SWEEP_ROUNDS; }
static int32_t warmup_of(const bench_options *o) { return o->warmup >= 0 ? o->warmup : BENCH_SWEEP_WARMUP; }

/* What the session does not know of. */
static rm_status agree(const rank_run *r)
{
    char rounds[16], warmup[16], share[32];
    snprintf(rounds, sizeof rounds, "%d", bench_sweep_rounds(r->o));
    snprintf(warmup, sizeof warmup, "%d", warmup_of(r->o));
    snprintf(share, sizeof share, "%.17g", r->o->ghost_bytes);
    const rm_agree fields[] = { { "splits", r->o->splits }, { "steps", rounds }, { "warmup", warmup }, { "ghost-bytes", share } };
    return rm_comm_agree(r->s.comm, fields, RM_COUNT(fields));
}

/* ---- what is measured */
static rm_status engine_new(rank_run *r)
{
    const bench_options *o = r->o;
    const rm_engine_config c = { .recipe = &r->s.recipe, .dtype = r->s.dtype, .px = r->s.recipe.px, .batch = r->s.batch, .classes = r->s.classes, .no_fuse = o->no_fuse,
                                 .timers = true, .split = "single", .update_on_arrival = o->update_on_arrival, .seed = (uint64_t)o->seed };
    RM_TRY(rm_engine_new(r->s.device, r->s.comm, &c, &r->engine));
    return rm_synthetic_new(r->s.batch, r->s.recipe.px, r->s.classes, (uint64_t)o->seed, &r->batch);
}

/* ---- what ran */
static json_t *about_json(const rank_run *r)
{
    const rm_device_info *d = &r->s.info;
    const json_t *m = r->ghost.part.measured;
    char ghost_of[64];
    snprintf(ghost_of, sizeof ghost_of, "ghost of %s", m ? bench_row_text(m, "device") : "");
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "device", m ? ghost_of : d->device, "device_name",
                     m ? bench_row_text(m, "device_name") : d->name, "library", m ? bench_row_text(m, "library") : d->library, "dtype",
                     m ? bench_row_text(m, "dtype") : rm_dtype_name(r->s.dtype), "comm_library", rm_comm_library(r->s.comm), "wire",
                     bench_wire(r->o) == RM_BF16 ? "bf16" : "fp32", "px", r->s.recipe.px, "batch_per_device", r->s.batch, "classes", r->s.classes, "threads",
                     m ? (int)bench_row_int(m, "threads") : d->threads);
}

static rm_status measure(rank_run *r, json_t **out)
{
    const bench_options *o = r->o;
    const bool ghost = bench_is_ghost();
    const rm_source src = rm_source_synthetic(&r->batch);
    const bench_subject subject = { .engine = ghost ? NULL : &r->engine, .source = &src, .ghost = ghost ? &r->ghost.ghost : NULL };
    const bench_twins_config c = { .split = (const char *const *)r->splits.spec, .n_split = r->splits.n, .order = bench_split_order(o), .rounds = bench_sweep_rounds(o),
                                   .warmup = warmup_of(o), .seed = (uint64_t)o->seed, .what = ghost ? "split sweep, ghosts" : "split sweep" };
    RM_TRY(bench_twins_measure(r->s.comm, &subject, &c, out));
    if (*out) json_object_set_new(*out, "about", about_json(r));
    return RM_OK;
}

/* A signal may have come to any rank: the launcher wants to hear of it. */
static rm_status interrupted(const rank_run *r)
{
    bool stop;
    RM_TRY(bench_stop_asked(r->s.comm, &stop));
    return stop ? rm_fail(RM_E_INTERRUPTED, "interrupted; the rounds that were done are kept") : RM_OK;
}

rm_status bench_sweep_rank(const bench_options *o, json_t **out)
{
    bench_options own = *o;
    rank_run r = { .o = &own };
    rm_status st = RM_OK;
    own.data = "synthetic";
    if (bench_is_ghost()) own.device = "null", own.dtype = "";
    RM_TRY(bench_session_plan(&own, "tiny", &r.s));
    RM_TRY_GOTO(st, bench_session_device(&own, &r.s), out);
    if (rm_comm_size(r.s.comm) == 1) RM_TRY_GOTO(st, rm_fail(RM_E_ARG, "split-sweep wants at least 2 ranks: one alone sends no gradients"), out);
    RM_TRY_GOTO(st, agree(&r), out);
    RM_TRY_GOTO(st, bench_is_ghost() ? bench_ghost_new(&own, &r.s, "single", &r.ghost) : engine_new(&r), out);
    RM_TRY_GOTO(st, bench_split_list_parse(own.splits, bench_is_ghost() ? &r.ghost.graph : &r.engine.graph, bench_split_order(&own), &r.splits), out);
    RM_TRY_GOTO(st, measure(&r, out), out);
    st = interrupted(&r);
out:
    bench_split_list_free(&r.splits);
    rm_synthetic_free(&r.batch);
    rm_engine_free(&r.engine);
    bench_ghost_free(&r.ghost);
    bench_session_close(&r.s);
    return st;
}
