/* Brings the ranks' records together on rank 0 as one JSON object: what the store keeps and twins_row.c reads. */
#include "base/clock.h"
#include "bench/scaling_loss.h"
#include "bench/twins_record.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool first(const bench_record *r) { return rm_comm_rank(r->comm) == 0; }

static double *room(size_t n) { return calloc(n ? n : 1, sizeof(double)); }
static rm_status nomem(void) { return rm_fail(RM_E_NOMEM, "out of memory gathering step times"); }

/* n numbers of every rank to rank 0, as one array of a list a rank: out is NULL elsewhere. */
static rm_status gather(const bench_record *r, const double *own, size_t n, double **out)
{
    *out = room(n * (size_t)rm_comm_size(r->comm));
    if (!*out) return nomem();
    return rm_comm_host_gather(r->comm, own, n * sizeof *own, *out);
}

static rm_status reduced(const bench_record *r, double *x, size_t n, rm_reduce how, json_t *o, const char *key)
{
    RM_TRY(rm_comm_host_reduce(r->comm, x, n, RM_F64, how));
    return !first(r) || json_object_set_new(o, key, bench_samples(x, n)) == 0 ? RM_OK : nomem();
}

static rm_status gather_steps(const bench_record *r, const bench_series *s, json_t *o)
{
    json_t *steps;
    bench_taken t = { .step = s->step, .n = r->done, .comm_cpu_ns = s->cpu_ns, .critical_s = s->critical_s };
    for (int32_t i = 0; i < r->done; i++) t.window_ns += s->step[i].step_ns;
    RM_TRY(bench_steps_gather(r->comm, &t, &steps));
    return !steps || json_object_set_new(o, "steps", steps) == 0 ? RM_OK : nomem();
}

/* ---- a split */
/* xfer_s: of each step, the sum over buckets of the least duration on any rank; reduce_s: of each rank and step, the sum of its own. */
static rm_status gather_durations(const bench_record *r, const bench_series *s, json_t *o)
{
    const size_t n = (size_t)r->done, k = s->n_bucket;
    double *least = room(n * k), *own = room(n), *all = NULL;
    rm_status st = least && own ? RM_OK : nomem();
    for (size_t i = 0; st == RM_OK && i < n * k; i++) own[i / k] += least[i] = rm_s(s->time[i].end - s->time[i].start);
    if (st == RM_OK) st = gather(r, own, n, &all);
    if (st == RM_OK) st = rm_comm_host_reduce(r->comm, least, n * k, RM_F64, RM_MIN);
    if (st == RM_OK && first(r)) {
        json_t *ranks = json_array();
        for (size_t i = 0; i < (size_t)rm_comm_size(r->comm); i++) json_array_append_new(ranks, bench_samples(all + i * n, n));
        memset(own, 0, n * sizeof *own);
        for (size_t i = 0; i < n * k; i++) own[i / k] += least[i];
        if (json_object_set_new(o, "reduce_s", ranks) != 0 || json_object_set_new(o, "xfer_s", bench_samples(own, n)) != 0) st = nomem();
    }
    free(least);
    free(own);
    free(all);
    return st;
}

/* [what compute nodes took while they met an all-reduce, what the same nodes take in the off twin], over all ranks. */
static rm_status gather_met(const bench_record *r, const bench_series *s, json_t *o)
{
    double met[2] = { 0, 0 };
    for (int32_t i = 0; i < r->n_node; i++) {
        met[0] += s->met_ns[i] * 1e-9;
        met[1] += s->met[i] ? s->met[i] * r->off_ns[i] / r->off_n * 1e-9 : 0;
    }
    return reduced(r, met, 2, RM_SUM, o, "met_s");
}

static double since(const rm_step *s, uint64_t ns) { return ns > s->begin_ns ? rm_s(ns - s->begin_ns) : 0; }

/* Rank 0's step that is nearest the median of its steps. */
static json_t *gantt_json(const bench_record *r, const bench_series *s)
{
    const size_t n = (size_t)r->done;
    double *time = room(n);
    size_t best = 0;
    if (!time) return NULL;
    for (size_t i = 0; i < n; i++) time[i] = rm_s(s->step[i].step_ns);
    const double median = rm_median(time, n);
    for (size_t i = 1; i < n; i++)
        if (fabs(time[i] - median) < fabs(time[best] - median)) best = i;
    free(time);
    const rm_step *one = &s->step[best];
    json_t *buckets = json_array();
    for (uint32_t i = 0; i < s->n_bucket; i++) {
        const bench_bucket_time *t = &s->time[best * s->n_bucket + i];
        json_array_append_new(buckets, json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "first", (json_int_t)s->bucket[i].first, "last", (json_int_t)s->bucket[i].last, "bytes",
                                                 (json_int_t)s->bucket[i].bytes, "ready_s", since(one, t->ready), "start_s", since(one, t->start), "end_s", since(one, t->end)));
    }
    return json_pack("{s:f, s:f, s:f, s:o}", "forward_end_s", since(one, one->forward_end_ns), "backward_end_s", since(one, one->backward_end_ns), "step_s", rm_s(one->step_ns),
                     "buckets", buckets);
}

static rm_status gather_split(const bench_record *r, const bench_series *s, json_t *o)
{
    RM_TRY(gather_steps(r, s, o));
    RM_TRY(gather_durations(r, s, o));
    RM_TRY(gather_met(r, s, o));
    RM_TRY(reduced(r, s->isolated_s, (size_t)s->n_isolated, RM_MAX, o, "isolated_s"));
    RM_TRY(reduced(r, s->least_s, s->n_bucket, RM_MIN, o, "least_s"));
    if (!first(r)) return RM_OK;
    json_t *gantt = gantt_json(r, s);
    return gantt && !json_object_set_new(o, "split", json_string(s->split)) && !json_object_set_new(o, "gantt", gantt) ? RM_OK : nomem();
}

/* ---- the off twin: how long its backward and update take on the slowest rank, and when gradients are ready on it */
static rm_status gather_parts(const bench_record *r, json_t *o)
{
    const size_t n = (size_t)r->done;
    double *backward = room(n), *update = room(n);
    rm_status st = backward && update ? RM_OK : nomem();
    for (size_t i = 0; st == RM_OK && i < n; i++) {
        const rm_step *s = &bench_record_off(r)->step[i];
        backward[i] = rm_s(s->backward_end_ns - s->forward_end_ns);
        update[i] = rm_s(s->begin_ns + s->step_ns - s->update_begin_ns);
    }
    if (st == RM_OK) st = reduced(r, backward, n, RM_MAX, o, "backward_s");
    if (st == RM_OK) st = reduced(r, update, n, RM_MAX, o, "update_s");
    free(backward);
    free(update);
    return st;
}

/* The slowest rank is the one whose last gradient comes last. */
static json_t *slowest_ready(const bench_record *r, const double *all)
{
    const size_t n = (size_t)r->n_param;
    size_t slowest = 0;
    for (size_t k = 1; k < (size_t)rm_comm_size(r->comm); k++)
        if (all[k * n + n - 1] > all[slowest * n + n - 1]) slowest = k;
    return bench_samples(all + slowest * n, n);
}

static rm_status gather_ready(const bench_record *r, json_t *o)
{
    const size_t n = (size_t)r->n_param;
    double *own = room(n), *all = NULL;
    rm_status st = own ? RM_OK : nomem();
    for (size_t j = 0; st == RM_OK && j < n; j++) own[j] = rm_median(r->ready_ns + j * (size_t)r->cfg->rounds, (size_t)r->done) * 1e-9;
    if (st == RM_OK) st = gather(r, own, n, &all);
    if (st == RM_OK && first(r) && json_object_set_new(o, "ready_s", slowest_ready(r, all)) != 0) st = nomem();
    free(own);
    free(all);
    return st;
}

static json_t *gradient_bytes(const bench_record *r)
{
    const rm_graph *g = bench_subject_graph(r->subject);
    json_t *a = json_array();
    for (int32_t i = 0; i < g->n_param; i++) json_array_append_new(a, json_integer((json_int_t)(g->param[g->by_ready[i]].count * 4)));
    return a;
}

/* ---- all */
static rm_status gather_all(const bench_record *r, json_t *root)
{
    json_t *off = json_object(), *barrier = json_object(), *splits = json_array();
    rm_status st = json_object_set_new(root, "off", off) | json_object_set_new(root, "barrier", barrier) | json_object_set_new(root, "splits", splits) ? nomem() : RM_OK;
    for (int32_t i = 0; st == RM_OK && i < r->n - 2; i++) {
        json_t *o = json_object();
        st = json_array_append_new(splits, o) == 0 ? gather_split(r, &r->series[i], o) : nomem();
    }
    if (st == RM_OK) st = gather_steps(r, bench_record_off(r), off);
    if (st == RM_OK) st = gather_parts(r, off);
    if (st == RM_OK) st = gather_ready(r, off);
    if (st == RM_OK) st = gather_steps(r, bench_record_barrier(r), barrier);
    json_object_set_new(root, "hosts", bench_hosts_json(r->comm));
    json_object_set_new(root, "gradient_bytes", gradient_bytes(r));
    json_object_set_new(root, "rounds", json_integer(r->done));
    json_object_set_new(root, "ghost", json_boolean(r->subject->ghost != NULL));
    if (r->interrupted) json_object_set_new(root, "interrupted", json_true());
    return st;
}

rm_status bench_twins_gather(const bench_record *r, json_t **out)
{
    json_t *root = json_object();
    const rm_status st = root ? gather_all(r, root) : nomem();
    if (st == RM_OK && first(r)) *out = root;
    else json_decref(root);
    return st;
}
