#include "bench/session.h"
#include "base/log.h"
#include "bench/rows.h"
#include "bench/commands.h"
#include "bench/launch.h"
#include "bench/verified.h"
#include "profiler/runinfo.h"
#include "profiler/stats.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char embedded_data[] = "data/fashion-mnist";

/* ---- options to facts */
/* The next of a list separated by commas, in place, in which "\," is a comma of the word's own. NULL at the end. */
static char *next_word(char **rest)
{
    char *word = *rest + strspn(*rest, ","), *in = word, *out = word;
    if (!*word) return NULL;
    for (; *in && *in != ','; in++) {
        if (in[0] == '\\' && in[1] == ',') in++;
        *out++ = *in;
    }
    *rest = *in ? in + 1 : in;
    *out = '\0';
    return word;
}

static rm_status apply_set(const char *text, rm_recipe *r)
{
    char *copy = strdup(text), *rest = copy;
    if (!copy) return rm_fail(RM_E_NOMEM, "out of memory");
    rm_status st = RM_OK;
    for (char *word; st == RM_OK && (word = next_word(&rest));) {
        char *eq = strchr(word, '=');
        if (!eq) st = rm_fail(RM_E_ARG, "--set %s: expected KEY=VALUE; a comma within a value is written \\,", word);
        else {
            *eq = 0;
            st = rm_recipe_set(r, word, eq + 1);
        }
    }
    free(copy);
    return st == RM_OK ? rm_recipe_check(r) : st;
}

static rm_status load_recipe(const bench_options *o, const char *fallback, rm_recipe *out)
{
    const char *name = o->recipe && o->recipe[0] ? o->recipe : fallback;
    RM_TRY(rm_recipe_load(name, out));
    if (o->set && o->set[0]) RM_TRY(apply_set(o->set, out));
    if (o->px) { /* one size for everything, evaluation in the recipe's proportion */
        double ratio = (double)out->eval_resize / out->eval_px;
        out->px = out->eval_px = o->px;
        out->eval_resize = (int32_t)lround(ratio * o->px);
        out->progressive[0] = 0;
    }
    return RM_OK;
}

static rm_status open_data(const bench_options *o, rm_dataset **out)
{
    const char *dir = o->data ? o->data : "";
    *out = NULL;
    if (!strcmp(dir, "synthetic")) return RM_OK;
    if (!dir[0]) {
        if (access(embedded_data, F_OK)) return RM_OK;
        dir = embedded_data;
    }
    return rm_dataset_open(dir, NULL, out);
}

static rm_bad_policy parse_bad(const char *text)
{
    return !strcmp(text, "fail") ? RM_BAD_FAIL : !strcmp(text, "substitute") ? RM_BAD_SUBSTITUTE : RM_BAD_SKIP;
}

static rm_status choose_classes(const bench_options *o, bench_session *s)
{
    int32_t found = s->data ? (int32_t)rm_dataset_classes(s->data) : 0;
    if (found && o->classes && o->classes != found)
        return rm_fail(RM_E_ARG, "--classes %d disagrees with %s, which has %d", o->classes, rm_dataset_dir(s->data), found);
    s->classes = found ? found : o->classes ? o->classes : 1000;
    return RM_OK;
}

rm_status bench_session_plan(const bench_options *o, const char *default_recipe, bench_session *out)
{
    bench_session s = { .bad = parse_bad(o->bad_images ? o->bad_images : "skip") };
    RM_TRY(load_recipe(o, default_recipe, &s.recipe));
    RM_TRY(open_data(o, &s.data));
    rm_status st = choose_classes(o, &s);
    if (st != RM_OK) {
        rm_dataset_close(s.data);
        return st;
    }
    s.batch = o->batch ? o->batch : s.recipe.batch;
    s.eval_batch = o->eval_batch ? o->eval_batch : s.batch;
    *out = s;
    return RM_OK;
}

enum { FP16_LOSS_SCALE = 128 };

rm_status bench_dtype(const bench_options *o, const rm_device_info *info, rm_dtype *out)
{
    rm_dtype t = info->native_dtypes & (1u << RM_BF16) ? RM_BF16 : RM_F32;
    if (o->dtype && o->dtype[0]) RM_TRY(rm_dtype_parse(o->dtype, &t));
    if (o->dtype && o->dtype[0] && !(info->dtypes & (1u << t)))
        return rm_fail(RM_E_UNSUPPORTED, "device %s (%s) has no --dtype %s; bench info lists what it has", info->device, info->name, o->dtype);
    *out = strcmp(info->device, "ref") ? t : RM_F64; /* ref computes in double whatever it is asked for */
    return RM_OK;
}

static rm_status choose_dtype(const bench_options *o, bench_session *s)
{
    RM_TRY(bench_dtype(o, &s->info, &s->dtype));
    /* Small gradients vanish in fp16: MLPerf's usual factor, unless somebody chose one. */
    if (s->dtype == RM_F16 && s->recipe.loss_scale == 1 && !strstr(o->set ? o->set : "", "loss_scale")) s->recipe.loss_scale = FP16_LOSS_SCALE;
    return RM_OK;
}

/* What all ranks must have alike, with copies of the values. */
enum { MAX_SAID = 80 };
typedef struct said { rm_agree field[MAX_SAID]; char text[MAX_SAID][176]; uint32_t n; } said;

static void say(void *ctx, const char *field, const char *value, const char *help)
{
    said *a = ctx;
    RM_ASSERT(a->n < MAX_SAID);
    snprintf(a->text[a->n], sizeof a->text[0], "%s", value ? value : "");
    a->field[a->n] = (rm_agree){ field, a->text[a->n] };
    a->n++;
}

static rm_status say_graph(const bench_options *o, const bench_session *s, said *a)
{
    rm_graph g;
    char hex[65];
    RM_TRY(rm_graph_resnet(s->recipe.depth, s->recipe.variant, (rm_shape){ s->batch, 3, s->recipe.px, s->recipe.px }, s->classes, &g));
    if (!o->no_fuse) rm_graph_fuse(&g);
    rm_graph_digest(&g, hex);
    rm_graph_free(&g);
    hex[16] = 0;
    say(a, "graph", hex, NULL);
    return RM_OK;
}

/* Ranks that would train different things are refused at the start. */
static rm_status agree(const bench_options *o, const bench_session *s)
{
    char seed[32], batch[32], data[32];
    if (rm_comm_size(s->comm) == 1) return RM_OK;
    said *a = calloc(1, sizeof *a);
    if (!a) return rm_fail(RM_E_NOMEM, "out of memory");
    snprintf(seed, sizeof seed, "%lld", (long long)o->seed);
    snprintf(batch, sizeof batch, "%d", s->batch);
    snprintf(data, sizeof data, "%016llx", s->data ? (unsigned long long)rm_dataset_fingerprint(s->data) : 0ull);
    const rm_agree own[] = { { "build", rm_version() }, { "seed", seed }, { "batch", batch }, { "dtype", rm_dtype_name(s->dtype) }, { "device", s->info.device },
                             { "split", o->split && o->split[0] ? o->split : s->recipe.split }, { "split-order", o->split_order },
                             { "allreduce-dtype", o->allreduce_dtype }, { "data", data } };
    for (size_t i = 0; i < RM_COUNT(own); i++) say(a, own[i].field, own[i].value, NULL);
    rm_recipe_each(&s->recipe, say, a); /* a change by --set is named, not only that something differs */
    rm_status st = say_graph(o, s, a);
    if (st == RM_OK) st = rm_comm_agree(s->comm, a->field, a->n);
    free(a);
    return st;
}

rm_dtype bench_wire(const bench_options *o) { return o->allreduce_dtype && !strcmp(o->allreduce_dtype, "bf16") ? RM_BF16 : RM_F32; }
rm_split_order bench_split_order(const bench_options *o) { return o->split_order && !strcmp(o->split_order, "forward") ? RM_SPLIT_FORWARD : RM_SPLIT_READY; }

const char *bench_split(const bench_options *o, const bench_session *s)
{
    const char *split = o->split[0] ? o->split : s->recipe.split;
    return split[0] ? split : "single";
}

rm_status bench_stop_asked(rm_comm *comm, bool *out)
{
    int32_t stop = bench_signal() != 0;
    RM_TRY(rm_comm_host_reduce(comm, &stop, 1, RM_I32, RM_MAX));
    *out = stop;
    return RM_OK;
}

rm_status bench_meet(rm_comm *comm, bool *out_stop)
{
    RM_TRY(bench_stop_asked(comm, out_stop));
    return *out_stop ? RM_OK : rm_comm_barrier(comm);
}

rm_loader_config bench_loader_config(const bench_session *s, const bench_options *o)
{
    const rm_recipe *q = &s->recipe;
    return (rm_loader_config){
        .part = RM_TRAIN, .batch = s->batch, .px = q->px, .workers = o->workers, .seed = (uint64_t)o->seed, .rank = rm_comm_rank(s->comm),
        .ranks = rm_comm_size(s->comm), .shuffle = true, .drop_last = true, .bad = s->bad, .max_bad_share = o->max_bad,
        .crop = { q->crop_scale_min, q->crop_scale_max, q->crop_ratio_min, q->crop_ratio_max, q->flip },
    };
}

/* Rank 0 alone, on its processor: the others wait for as long as that takes. */
static rm_status verify(bench_session *s)
{
    const bool unsure = s->info.caveat[0];
    if (unsure && rm_comm_rank(s->comm) == 0) RM_TRY(bench_verify(s->device, s->dtype, &s->info));
    if (unsure) RM_TRY(rm_comm_barrier_within(s->comm, RM_COMM_SETUP_S));
    if (s->info.caveat[0] && rm_comm_rank(s->comm) == 0) rm_warn_once("caveat", "figures of device %s: %s", s->info.device, s->info.caveat);
    return RM_OK;
}

rm_status bench_session_device(const bench_options *o, bench_session *s)
{
    rm_device_config dc = { .ordinal = rm_world_from_env().local_rank, .threads = o->threads, .deterministic = true };
    rm_comm_config cc = { .timeout_s = o->comm_timeout_s > 0 ? o->comm_timeout_s : 60, .wire = bench_wire(o) };
    RM_TRY(bench_pin_rank());
    RM_TRY(rm_device_open(o->device && o->device[0] ? o->device : "auto", &dc, &s->device));
    rm_device_get_info(s->device, &s->info);
    if (s->info.bus[0]) RM_TRY(rm_gpu_watch_open(s->info.bus, &s->watch));
    RM_TRY(choose_dtype(o, s));
    RM_TRY(rm_comm_open(o->comm && o->comm[0] ? o->comm : "auto", &cc, s->device, &s->comm));
    RM_TRY(verify(s));
    if (o->rank_result[0]) bench_launch_tell_rank(rm_comm_rank(s->comm));
    return agree(o, s);
}

void bench_session_close(bench_session *s)
{
    rm_comm_close(s->comm);
    rm_gpu_watch_close(s->watch);
    rm_device_close(s->device);
    rm_dataset_close(s->data);
    memset(s, 0, sizeof *s);
}

rm_status bench_parse_list(const char *text, const char *option, int32_t *out, int32_t *out_n)
{
    int32_t n = 0;
    const char *p = text;
    for (;;) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno || v < 1 || v > 65536 || (*end && *end != ',') || n == BENCH_MAX_LIST)
            return rm_fail(RM_E_ARG, "%s %s: expected numbers of 1 to 65536 separated by commas, at most %d of them", option, text, BENCH_MAX_LIST);
        out[n++] = (int32_t)v;
        if (!*end) break;
        p = end + 1;
    }
    *out_n = n;
    return RM_OK;
}

/* ---- results */
json_t *bench_samples(const double *value, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(a, bench_number(value[i]));
    return a;
}

json_t *bench_time_json(const double *v, size_t n)
{
    return json_pack("{s:o, s:o, s:I, s:o, s:o}", "median", bench_number(rm_median(v, n)), "mad", bench_number(rm_mad(v, n)), "samples", (json_int_t)n,
                     "min", bench_number(rm_quantile(v, n, 0)), "max", bench_number(rm_quantile(v, n, 1)));
}

json_t *bench_budget_json(const rm_budget *sum, double step_s)
{
    const double k = sum->window_ns ? step_s / (double)sum->window_ns : 0;
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "compute", k * (double)sum->compute_ns, "exposed_comm", k * (double)sum->exposed_comm_ns, "exposed_copy",
                     k * (double)sum->exposed_copy_ns, "input_stall", k * (double)sum->input_ns, "host", k * (double)sum->host_ns, "idle", k * (double)sum->idle_ns);
}

void bench_set_null(json_t *row, const char *key, const char *reason)
{
    char name[64];
    snprintf(name, sizeof name, "%s_reason", key);
    json_object_set_new(row, key, json_null());
    json_object_set_new(row, name, json_string(reason));
}

void bench_set_number(json_t *row, const char *key, double v, const char *reason)
{
    if (isfinite(v)) json_object_set_new(row, key, json_real(v));
    else bench_set_null(row, key, reason);
}

json_t *bench_hosts_json(const rm_comm *comm)
{
    json_t *hosts = json_array();
    for (int k = 0; k < rm_comm_size(comm); k++) json_array_append_new(hosts, json_string(rm_comm_host(comm, k)));
    return hosts;
}

enum { MAX_METRICS = 32 };
typedef struct { rm_samples s[MAX_METRICS]; size_t n; } metrics;

static const char *unit_of(const char *metric)
{
    static const struct { const char *end, *unit; } row[] = { { "_mhz", "MHz" }, { "_w", "W" }, { "_c", "C" } };
    const size_t n = strlen(metric);
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (n > strlen(row[i].end) && !strcmp(metric + n - strlen(row[i].end), row[i].end)) return row[i].unit;
    return strstr(metric, "_s") ? "s" : "";
}

static rm_status collect_samples(json_t *samples, metrics *m)
{
    const char *name;
    json_t *a;
    m->n = 0;
    json_object_foreach(samples, name, a) {
        if (m->n == MAX_METRICS) break;
        size_t n = json_array_size(a);
        double *v = malloc((n ? n : 1) * sizeof *v);
        if (!v) return rm_fail(RM_E_NOMEM, "out of memory storing samples");
        for (size_t i = 0; i < n; i++) {
            const json_t *x = json_array_get(a, i);
            v[i] = json_is_number(x) ? json_number_value(x) : NAN;
        }
        m->s[m->n++] = (rm_samples){ .metric = name, .unit = unit_of(name), .value = v, .n = n };
    }
    return RM_OK;
}

rm_status bench_store_result(rm_store *store, int64_t run, const char *key, json_t *result)
{
    metrics m;
    json_t *row = json_object_get(result, "row");
    bench_row_settle_origin(row);
    const char *origin = json_string_value(json_object_get(row, "origin"));
    rm_status st = collect_samples(json_object_get(result, "samples"), &m);
    const bool correct = !json_integer_value(json_object_get(row, "wrong"));
    if (st == RM_OK) st = rm_store_result(store, run, key, origin ? origin : "measured", correct, row, m.s, m.n);
    for (size_t i = 0; i < m.n; i++) free((void *)(uintptr_t)m.s[i].value);
    return st;
}

rm_status bench_run_begin(const bench_command *command, const bench_options *o, bool resume, bench_run *out)
{
    *out = (bench_run){ .config = bench_options_echo(command, o), .environment = bench_environment(o) };
    if (!out->config || !out->environment) return rm_fail(RM_E_NOMEM, "out of memory for the results");
    RM_TRY(rm_store_open(o->store && o->store[0] ? o->store : rm_store_default_path(), false, &out->store));
    if (resume) RM_TRY(rm_store_run_resume(out->store, command->name, out->config, out->environment, &out->id));
    if (out->id) {
        rm_info("resuming interrupted run %lld; --fresh starts anew", (long long)out->id);
        return RM_OK;
    }
    json_t *line = bench_reproduce(command, o);
    const rm_status st = line ? rm_store_run_begin(out->store, command->name, json_string_value(line), out->config, out->environment, &out->id)
                              : rm_fail(RM_E_NOMEM, "out of memory for the command line");
    json_decref(line);
    return st;
}

void bench_run_close(bench_run *r)
{
    rm_store_close(r->store);
    json_decref(r->config);
    json_decref(r->environment);
    memset(r, 0, sizeof *r);
}

rm_status bench_store_run(const bench_command *command, const bench_options *o, const char *key, json_t *result)
{
    bench_run r;
    rm_status st = bench_run_begin(command, o, false, &r);
    if (st == RM_OK) st = bench_store_result(r.store, r.id, key, result);
    if (st == RM_OK) st = rm_store_run_end(r.store, r.id, 0);
    bench_run_close(&r);
    return st;
}

/* ---- the plan */
static void print_split(const rm_engine *e)
{
    const rm_buckets *b = &e->buckets;
    uint64_t total = 0;
    for (uint32_t i = 0; i < b->n; i++) total += b->at[i].bytes;
    printf("all-reduces a step: %u", b->n);
    for (uint32_t i = 0; i < b->n && i < 8; i++) printf("%s%.2f %%", i ? " / " : ", of ", 100 * (double)b->at[i].bytes / (double)total);
    printf("%s of %.1f MB\n", b->n > 8 ? " / ..." : "", (double)total * 1e-6);
}

void bench_print_plan(const bench_session *s, const rm_engine *e)
{
    rm_net_size z;
    rm_net_get_size(e->net, &z);
    printf("ResNet-%d %s, %d x %d px, batch %d, %d classes, %s on %s (%s)\n", e->graph.depth, e->graph.v15 ? "v1.5" : "v1", e->cfg.px, e->cfg.px, s->batch,
           e->graph.classes, rm_dtype_name(s->dtype), s->info.device, s->info.library);
    printf("parameters %llu, ops a step %d (%d reorders), %.3f GFLOP a step, %.3f GB moved at least\n", (unsigned long long)rm_graph_params(&e->graph), z.ops,
           z.reorders, (double)z.flops * 1e-9, (double)z.bytes * 1e-9);
    printf("memory: activations %.1f MB (%.1f MB without reuse), weights, momentum and gradients %.1f MB, weight copies %.1f MB, workspace %.1f MB\n",
           (double)z.activation_bytes * 1e-6, (double)z.activation_naive_bytes * 1e-6, (double)z.params_bytes * 1e-6, (double)z.weight_copy_bytes * 1e-6,
           (double)z.workspace_bytes * 1e-6);
    print_split(e);
}

rm_status bench_print_device_plan(const bench_options *o)
{
    bench_session s;
    rm_engine e = { 0 };
    rm_status st = RM_OK;
    RM_TRY(bench_session_plan(o, "tiny", &s));
    RM_TRY_GOTO(st, bench_session_device(o, &s), out);
    const rm_engine_config ec = { .recipe = &s.recipe, .dtype = s.dtype, .px = s.recipe.px, .batch = s.batch, .classes = s.classes, .no_fuse = o->no_fuse,
                                  .split = bench_split(o, &s), .split_order = bench_split_order(o) };
    RM_TRY_GOTO(st, rm_engine_new(s.device, s.comm, &ec, &e), out);
    bench_print_plan(&s, &e);
out:
    rm_engine_free(&e);
    bench_session_close(&s);
    return st;
}
