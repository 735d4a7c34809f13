#include "bench/ghost_run.h"
#include "base/log.h"
#include "profiler/runinfo.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file with the plan: for rank 0, which tells the others. Variables RINGMARK_* reach ranks on other machines too. */
static const char plan_variable[] = "RINGMARK_GHOST_PLAN";

bool bench_is_ghost(void)
{
    const char *path = getenv(plan_variable);
    return path && path[0];
}

/* ---- the measured rank */
static rm_status measure(const bench_options *o, const bench_session *s, int32_t steps, rm_ghost_plan *plan)
{
    rm_engine e = { 0 };
    rm_synthetic y = { .batch = { 0 } };
    const rm_engine_config c = { .recipe = &s->recipe, .dtype = s->dtype, .px = s->recipe.px, .batch = s->batch, .classes = s->classes, .no_fuse = o->no_fuse, .timers = true,
                                 .seed = (uint64_t)o->seed };
    rm_status st = rm_engine_new(s->device, s->comm, &c, &e);
    if (st == RM_OK) st = rm_synthetic_new(s->batch, s->recipe.px, s->classes, (uint64_t)o->seed, &y);
    const rm_source src = rm_source_synthetic(&y);
    if (st == RM_OK) st = rm_ghost_plan_measure(&e, &src, steps, plan);
    rm_synthetic_free(&y);
    rm_engine_free(&e);
    return st;
}

rm_status bench_ghost_plan_rank(const bench_options *o, int32_t steps, json_t **out)
{
    bench_session s;
    rm_ghost_plan plan = { 0 };
    bench_options synthetic = *o;
    synthetic.data = "synthetic";
    RM_TRY(bench_session_plan(&synthetic, "tiny", &s));
    rm_status st = bench_session_device(&synthetic, &s);
    if (st == RM_OK && rm_comm_size(s.comm) > 1) st = rm_fail(RM_E_ARG, "--ghost starts its own ranks: one that measures, then the ghosts; do not start it with mpirun");
    if (st == RM_OK) st = measure(&synthetic, &s, steps, &plan);
    if (st == RM_OK)
        *out = json_pack("{s:o, s:s, s:s, s:s, s:s, s:i}", "plan", rm_ghost_plan_json(&plan), "device", s.info.device, "device_name", s.info.name, "library", s.info.library,
                         "dtype", rm_dtype_name(s.dtype), "threads", s.info.threads);
    rm_ghost_plan_free(&plan);
    bench_session_close(&s);
    return st;
}

/* ---- starting ghosts */
static rm_status write_plan(const json_t *measured, char *path, size_t size)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/ringmark-ghost-XXXXXX", folder && folder[0] ? folder : "/tmp");
    const int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) return rm_fail_errno("cannot create %s for the plan of the ghosts", path);
    bool good = json_dumpf(measured, f, JSON_COMPACT) == 0;
    good = fclose(f) == 0 && good;
    return good ? RM_OK : rm_fail(RM_E_IO, "cannot write the plan of the ghosts to %s", path);
}

rm_status bench_run_ghosts(const bench_options *o, int32_t n, const json_t *measured, bench_rank_body *body, json_t **out)
{
    char path[512] = "";
    bench_options shared = *o;
    shared.oversubscribe = true; /* they sleep */
    rm_status st = write_plan(measured, path, sizeof path);
    if (st == RM_OK && setenv(plan_variable, path, 1) != 0) st = rm_fail_errno("cannot set %s", plan_variable);
    if (st == RM_OK) st = bench_run_ranks(&shared, n, 0, false, body, out);
    unsetenv(plan_variable);
    unlink(path);
    return st;
}

/* ---- in a ghost */
static rm_status read_plan(char **out)
{
    const char *path = getenv(plan_variable);
    json_error_t e;
    json_t *j = json_load_file(path, 0, &e);
    if (!j) return rm_fail(RM_E_FORMAT, "%s: cannot read the plan of the ghosts: %s", path, e.text);
    *out = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    return *out ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the plan of the ghosts");
}

/* Rank 0's text on every rank. A rank 0 that has none says so, that none waits for it. */
static rm_status share_text(rm_comm *comm, rm_status st, char **text)
{
    int32_t n = *text ? (int32_t)strlen(*text) + 1 : 0;
    RM_TRY(rm_comm_host_broadcast(comm, &n, sizeof n, 0));
    if (!n) return st != RM_OK ? st : rm_fail(RM_E_FORMAT, "rank 0 has no plan for the ghosts");
    if (rm_comm_rank(comm) != 0 && !(*text = malloc((size_t)n))) return rm_fail(RM_E_NOMEM, "out of memory for the plan of the ghosts");
    return rm_comm_host_broadcast(comm, *text, (size_t)n, 0);
}

rm_status bench_ghost_receive(rm_comm *comm, bench_ghost_part *out)
{
    char *text = NULL;
    *out = (bench_ghost_part){ 0 };
    rm_status st = rm_comm_rank(comm) == 0 ? read_plan(&text) : RM_OK;
    st = share_text(comm, st, &text);
    if (st == RM_OK && !(out->measured = json_loads(text, 0, NULL))) st = rm_fail(RM_E_FORMAT, "the plan of the ghosts is no JSON");
    if (st == RM_OK) st = rm_ghost_plan_from_json(json_object_get(out->measured, "plan"), &out->plan);
    free(text);
    return st;
}

void bench_ghost_part_free(bench_ghost_part *p)
{
    json_decref(p->measured);
    rm_ghost_plan_free(&p->plan);
}

/* Each rank of a machine has its gradients. */
static rm_status check_memory(const rm_graph *graph, double share)
{
    const uint64_t here = (uint64_t)rm_world_from_env().local_size, have = rm_memory_available(), each = rm_ghost_bytes(graph, share);
    if (!have || here * each <= have) return RM_OK;
    return rm_fail(RM_E_NOMEM, "%llu ghosts with %.1f MB of gradients each do not fit into the %.1f GB of memory that are left: exchange a share of them with --ghost-bytes",
                   (unsigned long long)here, (double)each * 1e-6, (double)have * 1e-9);
}

rm_status bench_ghost_new(const bench_options *o, const bench_session *s, const char *split, bench_ghost *out)
{
    const rm_shape image = { s->batch, 3, s->recipe.px, s->recipe.px };
    RM_TRY(bench_ghost_receive(s->comm, &out->part));
    RM_TRY(rm_graph_resnet(s->recipe.depth, s->recipe.variant, image, s->classes, &out->graph));
    RM_TRY(check_memory(&out->graph, o->ghost_bytes));
    return rm_ghost_new(s->comm, s->device, &out->graph, &out->part.plan, o->ghost_bytes, split, bench_split_order(o), &out->ghost);
}

void bench_ghost_free(bench_ghost *g)
{
    rm_ghost_free(&g->ghost);
    rm_graph_free(&g->graph);
    bench_ghost_part_free(&g->part);
}
