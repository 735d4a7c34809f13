/* bench overlap: what traces say about overlap, a row a rank. What the figures mean is in docs/overlap.md. */
#define _GNU_SOURCE /* versionsort() */
#include "base/clock.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "bench/commands.h"
#include "bench/session.h"
#include "profiler/overlap.h"
#include "profiler/runinfo.h"
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct trace {
    char *path;
    rm_kineto k;
    rm_overlap v;
    rm_status st;       /* OK and PARTIAL: there is a row */
    char *why;          /* unless OK */
    int32_t rank;
    bool told;          /* the file says which rank it is */
} trace;
typedef struct traces { trace *at; size_t n, room; rm_overlap_window window; bool drop_last_step; } traces;

/* ---- which files */

static rm_status add_file(traces *t, const char *folder, const char *name)
{
    rm_strbuf path = { 0 };
    if (folder) rm_str_addf(&path, "%s/%s", folder, name);
    else rm_str_add(&path, name);
    if (t->n == t->room) {
        const size_t room = t->room ? t->room * 2 : 16;
        trace *more = realloc(t->at, room * sizeof *more);
        if (more) {
            t->at = more;
            t->room = room;
        }
    }
    char *taken = rm_str_take(&path);
    if (!taken || t->n == t->room) {
        free(taken);
        return rm_fail(RM_E_NOMEM, "out of memory for the names of %zu traces", t->n + 1);
    }
    t->at[t->n++] = (trace){ .path = taken, .rank = -1 };
    return RM_OK;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}
static int is_trace(const struct dirent *d) { return d->d_name[0] != '.' && (ends_with(d->d_name, ".json") || ends_with(d->d_name, ".json.gz")); }

static rm_status add_folder(traces *t, const char *folder)
{
    struct dirent **file;
    const int n = scandir(folder, &file, is_trace, versionsort);
    if (n < 0) return rm_fail_errno("%s: the folder cannot be read", folder);
    rm_status st = n ? RM_OK : rm_fail(RM_E_ARG, "%s: no traces in this folder: none of its files ends in .json or .json.gz", folder);
    for (int i = 0; i < n; i++) {
        if (st == RM_OK) st = add_file(t, folder, file[i]->d_name);
        free(file[i]);
    }
    free(file);
    return st;
}

static rm_status find(const bench_options *o, traces *t)
{
    for (int32_t i = 0; i < o->n_arg; i++) {
        struct stat info;
        if (stat(o->arg[i], &info)) return rm_fail_errno("%s: the trace cannot be opened", o->arg[i]);
        if (S_ISDIR(info.st_mode)) RM_TRY(add_folder(t, o->arg[i]));
        else RM_TRY(add_file(t, NULL, o->arg[i]));
    }
    return RM_OK;
}

/* ---- reading and figures */

static rm_status note(trace *t, rm_status st)
{
    if (st == RM_OK) return RM_OK;
    free(t->why);
    t->st = st;
    t->why = strdup(rm_last_error());
    return t->why ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for a message");
}

static bool usable(const trace *t) { return t->st == RM_OK || t->st == RM_E_PARTIAL; }

/* Out of memory is the only failure: what is wrong with one file is its own. */
static rm_status read_all(traces *t)
{
    const rm_kineto_options options = { .as_hta = t->window == RM_OVERLAP_HTA };
    rm_progress progress;
    rm_progress_begin(&progress, "reading", "traces", t->n);
    for (size_t i = 0; i < t->n; i++) {
        trace *one = &t->at[i];
        const rm_status st = rm_kineto_read(one->path, &options, &one->k);
        if (st == RM_E_NOMEM) return st;
        RM_TRY(note(one, st));
        one->told = usable(one) && one->k.rank >= 0;
        one->rank = one->told ? one->k.rank : (int32_t)i;
        rm_progress_update(&progress, i + 1, NULL);
    }
    rm_progress_end(&progress);
    return RM_OK;
}

/* HolisticTraceAnalysis drops the last step where the traces of all ranks together have steps of several names. */
static bool several_steps(const traces *t)
{
    const rm_kineto *first = NULL;
    for (size_t i = 0; i < t->n; i++) {
        const rm_kineto *k = &t->at[i].k;
        if (!usable(&t->at[i]) || !k->n_step) continue;
        if (k->several_steps || (first && first->step_hash != k->step_hash)) return true;
        first = k;
    }
    return false;
}

static rm_status figures_of_all(traces *t)
{
    const char *exact = getenv("HTA_DISABLE_NS_ROUNDING"); /* its own switch */
    const rm_overlap_options options = { .window = t->window, .drop_last_step = several_steps(t), .round = !exact || strcmp(exact, "1") };
    t->drop_last_step = options.drop_last_step;
    for (size_t i = 0; i < t->n; i++) {
        trace *one = &t->at[i];
        if (!usable(one)) continue;
        rm_status st = rm_overlap_of(&one->k, &options, &one->v);
        if (st == RM_E_NOMEM) return st;
        if (st == RM_E_ARG) {
            char why[256];
            snprintf(why, sizeof why, "%s", rm_last_error());
            st = rm_fail(st, "%s: %s", one->path, why);
        }
        RM_TRY(note(one, st));
    }
    return RM_OK;
}

static int by_rank(const void *a, const void *b)
{
    const trace *x = a, *y = b;
    return x->rank != y->rank ? (x->rank > y->rank) - (x->rank < y->rank) : strcmp(x->path, y->path);
}

/* ---- rows */

static double s_of(int64_t ns) { return (double)ns * 1e-9; }

static json_t *budget_json(const rm_budget *b)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "compute", rm_s(b->compute_ns), "exposed_comm", rm_s(b->exposed_comm_ns), "exposed_copy", rm_s(b->exposed_copy_ns), "other",
                     rm_s(b->host_ns), "idle", rm_s(b->idle_ns));
}

static json_t *streams_json(const trace *t)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < t->k.n_stream; i++) {
        const rm_overlap_stream *s = &t->v.stream[i];
        if (s->n) json_array_append_new(list, json_pack("{s:I, s:I, s:f}", "stream", (json_int_t)t->k.stream[i], "spans", (json_int_t)s->n, "busy_s", rm_s(s->busy_ns)));
    }
    return list;
}

static void set_comm(json_t *row, const trace *t)
{
    static const char none[] = "the window has no communication";
    const double comm = s_of(t->v.comm_ns), overlap = s_of(t->v.overlap_ns), window = s_of(t->v.window_ns);
    json_object_set_new(row, "comm_s", json_real(comm));
    json_object_set_new(row, "overlap_s", json_real(overlap));
    bench_set_number(row, "overlap_geom", t->v.comm_ns ? overlap / comm : NAN, none);
    json_object_set_new(row, "exposed_comm_s", json_real(s_of(t->v.comm_ns - t->v.overlap_ns)));
    bench_set_number(row, "exposed_comm_share", t->v.window_ns ? s_of(t->v.comm_ns - t->v.overlap_ns) / window : NAN, "the window is empty");
}

/* What takes more than this trace. */
static void set_unknown(json_t *row)
{
    static const char *const unknown[][2] = {
        { "comm_cost_s", "takes a second run without the all-reduces: bench scaling measures one" },
        { "eta_eff", "takes a second run without the all-reduces and the all-reduces alone: bench scaling measures both" },
        { "blocking_comm_s", "takes what waits for what, which a trace does not say" },
        { "slowdown", "takes a second run without the all-reduces: bench scaling measures one" },
        { "input_stall_s", "only device work is read: waiting for input is part of idle" },
        { "host_s", "only device work is read: launching is part of idle" },
    };
    for (size_t i = 0; i < RM_COUNT(unknown); i++) bench_set_null(row, unknown[i][0], unknown[i][1]);
}

static json_t *row_json(const trace *t, const char *window)
{
    const rm_kineto *k = &t->k;
    json_t *row = json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:f, s:f, s:f, s:f, s:o, s:o}", "rank", t->rank, "rank_from",
                            t->told ? "distributedInfo" : "order", "file", t->path, "window", window, "origin", "measured", "spans", (json_int_t)k->n, "steps",
                            (json_int_t)k->n_step, "events", (json_int_t)k->n_event, "unpaired_events", (json_int_t)k->n_pair, "bad_events", (json_int_t)k->n_bad,
                            "text_bytes", (json_int_t)k->text_bytes, "partial", t->st == RM_E_PARTIAL, "window_s", s_of(t->v.window_ns), "compute_s", s_of(t->v.compute_ns),
                            "non_compute_s", s_of(t->v.non_compute_ns), "idle_s", s_of(t->v.idle_ns), "budget_s", budget_json(&t->v.budget), "streams", streams_json(t));
    if (!row) return NULL;
    if (t->st == RM_E_PARTIAL) json_object_set_new(row, "partial_reason", json_string(t->why));
    set_comm(row, t);
    set_unknown(row);
    return row;
}

/* Transfer and waiting, the same in every row: they are of all ranks together. */
static void set_xfer(const traces *t, json_t *rows)
{
    const rm_kineto **ranks = calloc(t->n ? t->n : 1, sizeof *ranks);
    size_t n = 0, i;
    int64_t xfer_ns = 0, sum_ns = 0;
    for (i = 0; ranks && i < t->n; i++)
        if (usable(&t->at[i])) ranks[n++] = &t->at[i].k;
    const bool match = ranks && rm_overlap_xfer(ranks, n, &xfer_ns, &sum_ns) && sum_ns;
    const char *why = n < 2 ? "takes the traces of several ranks" : "the ranks' collectives are not the same ones, or there are none";
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        bench_set_number(row, "xfer_s", match ? s_of(xfer_ns) : NAN, why);
        bench_set_number(row, "skew_share", match ? 1 - (double)xfer_ns * (double)n / (double)sum_ns : NAN, why);
    }
    free(ranks);
}

static json_t *rows_json(const traces *t, const char *window)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < t->n; i++)
        if (usable(&t->at[i]) && json_array_append_new(rows, row_json(&t->at[i], window))) {
            json_decref(rows);
            return NULL;
        }
    set_xfer(t, rows);
    return rows;
}

/* ---- the table */

static double percent(int64_t part, int64_t whole) { return whole ? 100 * (double)part / (double)whole : 0; }

static void print_head(const traces *t)
{
    static const char *const says[] = {
        [RM_OVERLAP_ALL] = "from the first device work to the last",
        [RM_OVERLAP_STEPS] = "from the first ProfilerStep's begin to the last one's end",
        [RM_OVERLAP_HTA] = "as HolisticTraceAnalysis 0.5.0",
    };
    printf("# window: %s%s\n", says[t->window], t->window != RM_OVERLAP_HTA ? "" : t->drop_last_step ? ", without the last step" : ", there is no last step to leave out");
    printf("#%5s %9s %12s %9s %12s %9s %12s %9s %12s %9s\n", "rank", "spans", "window", "compute", "non-compute", "idle", "comm", "overlap", "exposed", "exposed");
    printf("#%5s %9s %12s %9s %12s %9s %12s %9s %12s %9s\n", "", "", "(ms)", "(%)", "(%)", "(%)", "(ms)", "(%comm)", "(ms)", "(%)");
}

static void print_streams(const trace *t)
{
    for (int32_t i = 0; i < t->k.n_stream; i++) {
        const rm_overlap_stream *s = &t->v.stream[i];
        if (s->n) printf("#      stream %" PRId64 ": %" PRIu64 " spans, busy %.3f ms, %.2f %% of the window\n", t->k.stream[i], s->n, (double)s->busy_ns * 1e-6, percent((int64_t)s->busy_ns, t->v.window_ns));
    }
}

static void print_row(const trace *t, bool streams)
{
    const rm_overlap *v = &t->v;
    char overlap[32] = "-";
    if (v->comm_ns) snprintf(overlap, sizeof overlap, "%.2f", percent(v->overlap_ns, v->comm_ns));
    printf("%6" PRId32 " %9zu %12.3f %9.2f %12.2f %9.2f %12.3f %9s %12.3f %9.2f%s\n", t->rank, t->k.n, (double)v->window_ns * 1e-6, percent(v->compute_ns, v->window_ns),
           percent(v->non_compute_ns, v->window_ns), percent(v->idle_ns, v->window_ns), (double)v->comm_ns * 1e-6, overlap, (double)(v->comm_ns - v->overlap_ns) * 1e-6,
           percent(v->comm_ns - v->overlap_ns, v->window_ns), t->st == RM_E_PARTIAL ? "  partial" : "");
    if (streams) print_streams(t);
}

static void print_table(const traces *t, const json_t *rows, bool streams)
{
    const json_t *first = json_array_get(rows, 0), *skew = json_object_get(first, "skew_share");
    print_head(t);
    for (size_t i = 0; i < t->n; i++)
        if (usable(&t->at[i])) print_row(&t->at[i], streams);
    if (json_is_number(skew))
        printf("# of the communication %.3f ms a rank is transfer; %.2f %% is waiting for the last rank\n", 1e3 * json_number_value(json_object_get(first, "xfer_s")),
               100 * json_number_value(skew));
}

/* ---- what to say besides */

/* Steps that were not traced lie between those that were, as in our own sweeps: no window can tell them from idle time. */
static void say_gaps(const trace *t)
{
    const int64_t all = t->k.step_end_ns - t->k.step_begin_ns;
    const double covered = all > 0 ? (double)t->k.step_sum_ns / (double)all : 1;
    if (t->k.n_step > 1 && covered < 0.95)
        rm_info("%s: its %" PRIu64 " ProfilerSteps cover %.0f %% of the time from the first to the last; what lies between them was not traced and counts as idle", t->path, t->k.n_step, 100 * covered);
}

static void say_notes(const traces *t)
{
    for (size_t i = 0; i < t->n; i++) {
        const trace *one = &t->at[i];
        if (!usable(one)) continue;
        if (!one->told) rm_info("%s: no distributedInfo.rank in this trace; it counts as rank %" PRId32 ", from the order of the files", one->path, one->rank);
        if (i && usable(one - 1) && one->rank == one[-1].rank) rm_warn("%s and %s are both rank %" PRId32, one[-1].path, one->path, one->rank);
        if (one->k.n_pair) rm_info("%s: %" PRIu64 " begin and end events (ph B, E) are not read; only complete ones (ph X) are", one->path, one->k.n_pair);
        say_gaps(one);
        if (one->k.n_bad) rm_warn("%s: %" PRIu64 " events have no usable time or duration and are left out", one->path, one->k.n_bad);
    }
}

/* The first failure is the command's; the others are said. Where there are rows, it is finished all the same. */
static rm_status verdict(const traces *t)
{
    const trace *first = NULL;
    size_t rows = 0;
    for (size_t i = 0; i < t->n; i++) {
        const trace *one = &t->at[i];
        rows += usable(one);
        if (one->st == RM_OK) continue;
        if (first) rm_warn("%s", one->why);
        else first = one;
    }
    return first ? rm_fail(rows ? RM_E_PARTIAL : first->st, "%s", first->why) : RM_OK;
}

static rm_status show(const bench_options *o, const traces *t)
{
    json_t *rows = rows_json(t, o->window), *environment = rm_runinfo_json(NULL, 0);
    rm_status st = rows && environment ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the results");
    if (st == RM_OK && json_array_size(rows) && bench_table_wanted(o)) print_table(t, rows, o->verbose);
    if (st == RM_OK && json_array_size(rows)) st = bench_emit_json(&bench_cmd_overlap, o, environment, json_incref(rows));
    json_decref(rows);
    json_decref(environment);
    return st;
}

static rm_status overlap(const bench_options *o)
{
    traces t = { .window = !strcmp(o->window, "hta") ? RM_OVERLAP_HTA : !strcmp(o->window, "steps") ? RM_OVERLAP_STEPS : RM_OVERLAP_ALL };
    rm_status st = find(o, &t);
    if (st == RM_OK) st = read_all(&t);
    if (st == RM_OK) st = figures_of_all(&t);
    if (st == RM_OK) {
        qsort(t.at, t.n, sizeof *t.at, by_rank);
        say_notes(&t);
        st = show(o, &t);
    }
    if (st == RM_OK) st = verdict(&t);
    for (size_t i = 0; i < t.n; i++) {
        rm_kineto_free(&t.at[i].k);
        free(t.at[i].path);
        free(t.at[i].why);
    }
    free(t.at);
    return st;
}

static const char *const examples[] = {
    "bench overlap trace.json.gz",
    "bench overlap traces/ --window hta",
    "bench overlap rank0.json rank1.json --json overlap.json",
    NULL,
};
const bench_command bench_cmd_overlap = {
    .name = "overlap",
    .summary = "how much computing hides communication, from any kineto or Chrome trace",
    .usage = "bench overlap TRACE...|FOLDER [--window all|steps|hta] [options]",
    .examples = examples,
    .run = overlap,
};
