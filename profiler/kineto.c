/* Writes a trace as the Chrome JSON that PyTorch's kineto writes: what Perfetto and HolisticTraceAnalysis open. docs/trace.md. */
#include "profiler/trace_private.h"
#include "base/strbuf.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { FLUSH_BYTES = 1 << 16, STEP_CORR = 1 << 30 };

/* What a category is in the file. HolisticTraceAnalysis classes device work by how its name begins: a name that begins with none of
 * `begins` gets the first of them. */
typedef struct category {
    const char *cat, *queue_cat;   /* queue_cat: on a device queue, where it differs */
    const char *arg;               /* what rm_event.arg is */
    const char *begins[2];
    bool device, may_be_instant;   /* device: has a stream */
} category;
static const category categories[RM_CAT_COUNT] = {
    [RM_CAT_KERNEL] = { .cat = "kernel", .arg = "layer", .device = true },
    [RM_CAT_COMM]   = { .cat = "kernel", .arg = "bytes", .device = true, .begins = { "ncclDevKernel_", "ncclKernel_" } },
    [RM_CAT_COPY]   = { .cat = "gpu_memcpy", .arg = "bytes", .device = true, .begins = { "Memcpy ", "Memset " } },
    [RM_CAT_LAUNCH] = { .cat = "cuda_runtime", .arg = "layer" },
    [RM_CAT_LAYER]  = { .cat = "user_annotation", .queue_cat = "gpu_user_annotation", .arg = "layer", .may_be_instant = true },
    [RM_CAT_STEP]   = { .cat = "user_annotation", .queue_cat = "gpu_user_annotation", .arg = "arg" },
    [RM_CAT_INPUT]  = { .cat = "cpu_op", .arg = "arg", .may_be_instant = true },
    [RM_CAT_HOST]   = { .cat = "cpu_op", .arg = "arg", .may_be_instant = true },
};

typedef struct writer {
    const rm_trace *trace;
    const rm_trace_about *about;
    const char *path;
    int pid;                       /* of the host's process in the file */
    uint64_t base_ns;
    char **name;                   /* the trace's, escaped; [0] is "" */
    uint64_t *launch; size_t n_launch; /* corr of the launches, in order */
    rm_strbuf text;
    gzFile file;
} writer;

/* ---- text */

/* Bytes of the well-formed UTF-8 character at p (RFC 3629, table 3-7 of Unicode); 0 when there is none. */
static size_t utf8_bytes(const unsigned char *p)
{
    static const struct { unsigned char first, last, second_from, second_to, bytes; } rows[] = {
        { 0x01, 0x7f, 0, 0, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
        { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        if (p[0] < rows[i].first || p[0] > rows[i].last) continue;
        if (rows[i].bytes > 1 && (p[1] < rows[i].second_from || p[1] > rows[i].second_to)) return 0;
        for (size_t k = 2; k < rows[i].bytes; k++)
            if ((p[k] & 0xc0) != 0x80) return 0;
        return rows[i].bytes;
    }
    return 0;
}

/* The inside of a JSON string. Bytes that are no UTF-8 become U+FFFD. */
static void put_escaped(rm_strbuf *s, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)(text ? text : ""); *p;) {
        const size_t n = utf8_bytes(p);
        if (!n) rm_str_add(s, "\\ufffd");
        else if (*p == '"' || *p == '\\') rm_str_addf(s, "\\%c", *p);
        else if (*p < ' ') rm_str_addf(s, "\\u%04x", *p);
        else rm_str_add_n(s, (const char *)p, n);
        p += n ? n : 1;
    }
}

static void put_string(rm_strbuf *s, const char *text)
{
    rm_str_add(s, "\"");
    put_escaped(s, text);
    rm_str_add(s, "\"");
}

/* `code` is zlib's; errno says more where that is Z_ERRNO. */
static rm_status failed(const writer *w, int code)
{
    if (code == Z_MEM_ERROR) return rm_fail(RM_E_NOMEM, "%s: out of memory while writing the trace", w->path);
    return rm_fail_errno("%s: the trace cannot be written", w->path);
}

static rm_status flush(writer *w, size_t above)
{
    if (w->text.failed) return rm_fail(RM_E_NOMEM, "%s: out of memory while writing the trace", w->path);
    if (w->text.n <= above) return RM_OK;
    errno = 0;
    if (gzwrite(w->file, w->text.text, (unsigned)w->text.n) != (int)w->text.n) {
        int code;
        gzerror(w->file, &code);
        return failed(w, code);
    }
    w->text.n = 0;
    return RM_OK;
}

/* ---- head: what is said once */

static void put_head(writer *w)
{
    const rm_trace_about *a = w->about;
    rm_strbuf *s = &w->text;
    rm_str_addf(s, "{\n\"schemaVersion\": 1,\n\"displayTimeUnit\": \"ms\",\n\"deviceProperties\": [{\"id\": %d, \"name\": ", a->device_id);
    put_string(s, a->device);
    rm_str_add(s, "}],\n\"distributedInfo\": {\"backend\": ");
    put_string(s, a->backend);
    rm_str_addf(s, ", \"rank\": %d, \"world_size\": %d},\n\"ringmark\": {\"version\": ", a->rank, a->world); /* the blank before the rank is looked for */
    put_string(s, a->version);
    rm_str_add(s, ", \"host\": ");
    put_string(s, a->host);
    rm_str_addf(s, "},\n\"baseTimeNanoseconds\": %" PRIu64 ",\n\"dropped\": %" PRIu64 ",\n\"traceEvents\": [\n",
                w->trace->begin_day_ns - (w->trace->begin_ns - w->base_ns), rm_trace_dropped(w->trace));
}

static int pid_of(const writer *w, const rm_lane *l) { return l->kind == RM_LANE_QUEUE ? w->about->device_id : w->pid; }

static void put_process(writer *w, int pid, const char *label, const char *what, int sort)
{
    static const char head[] = "{\"ph\": \"M\", \"name\": \"process_%s\", \"pid\": %d, \"tid\": 0, \"args\": {\"%s\": ";
    rm_strbuf *s = &w->text;
    rm_str_addf(s, head, "name", pid, "name");
    rm_str_addf(s, "\"rank %d\"}},\n", w->about->rank);
    rm_str_addf(s, head, "labels", pid, "labels");
    rm_str_addf(s, "\"%s ", label);
    put_escaped(s, what);
    rm_str_add(s, "\"}},\n");
    rm_str_addf(s, head, "sort_index", pid, "sort_index");
    rm_str_addf(s, "%d}}", sort);
}

static void put_lane(writer *w, const rm_lane *l)
{
    static const char head[] = ",\n{\"ph\": \"M\", \"name\": \"thread_%s\", \"pid\": %d, \"tid\": %d, \"args\": {\"%s\": ";
    rm_strbuf *s = &w->text;
    rm_str_addf(s, head, "name", pid_of(w, l), l->number, "name");
    put_string(s, l->label);
    rm_str_add(s, "}}");
    rm_str_addf(s, head, "sort_index", pid_of(w, l), l->number, "sort_index");
    rm_str_addf(s, "%d}}", l->number);
}

/* ---- events */

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* A kernel's launch may be missing: dropped, or never recorded, where the host computes itself. Then the step has launched it: without
 * some launch HolisticTraceAnalysis leaves a kernel out. */
static uint64_t launched_by(const writer *w, const rm_event *e)
{
    const bool known = e->corr && bsearch(&e->corr, w->launch, w->n_launch, sizeof *w->launch, by_value);
    return known ? e->corr : (uint64_t)STEP_CORR + e->step;
}

static void put_begin(writer *w, const rm_lane *l, const char *phase, uint64_t at_ns)
{
    const uint64_t t = at_ns - w->base_ns;
    rm_str_addf(&w->text, ",\n{\"ph\": \"%s\", \"pid\": %d, \"tid\": %d, \"ts\": %" PRIu64 ".%03u", phase, pid_of(w, l), l->number, t / 1000, (unsigned)(t % 1000));
}

static void put_name(writer *w, const category *c, const rm_event *e)
{
    const char *name = w->name[e->name <= w->trace->n_name ? e->name : 0];
    rm_str_add(&w->text, ", \"name\": \"");
    if (e->cat == RM_CAT_STEP) {
        rm_str_addf(&w->text, "ProfilerStep#%" PRIu32 "\"", e->step);
        return;
    }
    bool begins = !c->begins[0];
    for (size_t i = 0; i < RM_COUNT(c->begins) && c->begins[i]; i++) begins |= !strncmp(name, c->begins[i], strlen(c->begins[i]));
    if (!begins) rm_str_add(&w->text, c->begins[0]);
    rm_str_add(&w->text, name);
    rm_str_add(&w->text, "\"");
}

/* Between the members of an object. */
static const char *between(const rm_strbuf *s) { return s->n && s->text[s->n - 1] != '{' ? ", " : ""; }

static void put_number(writer *w, const char *key, int64_t v)
{
    if (v >= 0) rm_str_addf(&w->text, "%s\"%s\": %" PRId64, between(&w->text), key, v);
}

/* What number `i` is called, where that was told. */
static void put_called(writer *w, rm_table which, int64_t i, const char *key)
{
    const table *a = &w->trace->table[which];
    if (i < 0 || i >= a->n || !a->row[i].name) return;
    rm_str_addf(&w->text, "%s\"%s\": \"%s\"", between(&w->text), key, w->name[a->row[i].name]);
}

/* Of an all-reduce: its gradients, and the layer whose gradient comes last. */
static void put_gradients(writer *w, const rm_part_of *of)
{
    const table *a = &w->trace->table[RM_TABLE_GRADIENT];
    const int32_t layer = of->last >= 0 && (uint32_t)of->last < a->n ? a->row[of->last].layer : -1;
    put_number(w, "layer", layer);
    put_called(w, RM_TABLE_LAYER, layer, "layer_name");
    rm_str_addf(&w->text, "%s\"pass\": \"all_reduce\"", between(&w->text));
    put_number(w, "first_gradient", of->first);
    put_called(w, RM_TABLE_GRADIENT, of->first, "first_gradient_name");
    put_number(w, "last_gradient", of->last);
    put_called(w, RM_TABLE_GRADIENT, of->last, "last_gradient_name");
}

static void put_part_of(writer *w, const rm_event *e)
{
    const bool work = e->cat == RM_CAT_KERNEL || e->cat == RM_CAT_LAUNCH;
    if (work || e->cat == RM_CAT_LAYER) put_called(w, RM_TABLE_LAYER, e->arg, "layer_name");
    if (work) put_called(w, RM_TABLE_PASS, e->of.pass, "pass");
    if (e->cat == RM_CAT_COMM && e->of.bucket >= 0) put_gradients(w, &e->of);
    put_number(w, "bucket", e->of.bucket);
}

static void put_args(writer *w, const rm_lane *l, const category *c, const rm_event *e)
{
    rm_str_add(&w->text, ", \"args\": {");
    if (e->step != RM_NO_STEP) put_number(w, "step", e->step);
    put_number(w, c->arg, e->arg);
    put_part_of(w, e);
    if (c->device) {
        put_number(w, "device", w->about->device_id);
        put_number(w, "stream", l->number);
        put_number(w, "correlation", (int64_t)launched_by(w, e));
    } else if (e->cat == RM_CAT_STEP) put_number(w, "correlation", (int64_t)STEP_CORR + e->step);
    else if (e->corr) put_number(w, "correlation", (int64_t)e->corr);
    if (e->corr) put_number(w, "External id", (int64_t)e->corr);
    rm_str_add(&w->text, "}}");
}

/* The arrow from a launch to its kernel. */
static void put_flow(writer *w, const rm_lane *l, const category *c, const rm_event *e)
{
    if (!e->corr || (!c->device && e->cat != RM_CAT_LAUNCH)) return;
    if (c->device && launched_by(w, e) != e->corr) return;
    put_begin(w, l, c->device ? "f" : "s", e->start_ns);
    rm_str_addf(&w->text, ", \"cat\": \"ac2g\", \"name\": \"ac2g\", \"id\": %" PRIu64 "%s}", e->corr, c->device ? ", \"bp\": \"e\"" : "");
}

static void put_span(writer *w, const rm_lane *l, const rm_event *e)
{
    const category *c = &categories[e->cat < RM_CAT_COUNT ? e->cat : RM_CAT_HOST];
    const bool instant = c->may_be_instant && !e->dur_ns;
    put_begin(w, l, instant ? "i" : "X", e->start_ns);
    if (instant) rm_str_add(&w->text, ", \"s\": \"t\"");
    else rm_str_addf(&w->text, ", \"dur\": %" PRIu64 ".%03u", e->dur_ns / 1000, (unsigned)(e->dur_ns % 1000));
    rm_str_addf(&w->text, ", \"cat\": \"%s\"", l->kind == RM_LANE_QUEUE && c->queue_cat ? c->queue_cat : c->cat);
    put_name(w, c, e);
    put_args(w, l, c, e);
    put_flow(w, l, c, e);
}

static void put_counter(writer *w, const rm_lane *l, const rm_event *e)
{
    static const category plain = { 0 };
    put_begin(w, l, "C", e->start_ns);
    put_name(w, &plain, e);
    rm_str_addf(&w->text, ", \"args\": {\"value\": %" PRId64 "}}", e->arg);
}

static rm_status put_all(writer *w)
{
    put_head(w);
    put_process(w, w->pid, "host", w->about->host, w->about->rank * 2);
    rm_str_add(&w->text, ",\n");
    put_process(w, w->about->device_id, "device", w->about->device, w->about->rank * 2 + 1);
    for (const rm_lane *l = w->trace->lanes; l; l = l->next) put_lane(w, l);
    for (const rm_lane *l = w->trace->lanes; l; l = l->next) {
        for (size_t i = 0, n = atomic_load(&l->n); i < n; i++) {
            if (l->event[i].phase == 'C') put_counter(w, l, &l->event[i]);
            else put_span(w, l, &l->event[i]);
            RM_TRY(flush(w, FLUSH_BYTES));
        }
    }
    rm_str_add(&w->text, "\n]\n}\n");
    return flush(w, 0);
}

/* ---- before writing */

static rm_status prepare(writer *w)
{
    const rm_trace *t = w->trace;
    w->name = calloc(t->n_name + 1u, sizeof *w->name);
    w->base_ns = t->begin_ns;
    size_t n = 0, room = 0;
    for (const rm_lane *l = t->lanes; l; l = l->next) room += atomic_load(&l->n);
    w->launch = malloc((room + 1) * sizeof *w->launch);
    bool ok = w->name && w->launch;
    for (uint32_t i = 0; ok && i <= t->n_name; i++) {
        rm_strbuf s = { 0 };
        put_escaped(&s, i ? t->name[i - 1] : "");
        ok = (w->name[i] = rm_str_take(&s)) != NULL;
    }
    if (!ok) return rm_fail(RM_E_NOMEM, "%s: out of memory while writing the trace", w->path);
    for (const rm_lane *l = t->lanes; l; l = l->next)
        for (size_t i = 0; i < atomic_load(&l->n); i++) {
            const rm_event *e = &l->event[i];
            if (e->start_ns < w->base_ns) w->base_ns = e->start_ns; /* no time is negative */
            if (e->phase == 'X' && e->cat == RM_CAT_LAUNCH && e->corr) w->launch[n++] = e->corr;
        }
    qsort(w->launch, n, sizeof *w->launch, by_value);
    w->n_launch = n;
    return RM_OK;
}

static void release(writer *w)
{
    for (uint32_t i = 0; w->name && i <= w->trace->n_name; i++) free(w->name[i]);
    free(w->name);
    free(w->launch);
    rm_str_free(&w->text);
}

/* ---- the file */

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Through zlib in either case: it writes plain text as it is. fd stays open. */
static rm_status write_fd(writer *w, int fd)
{
    const int own = dup(fd);
    w->file = own < 0 ? NULL : gzdopen(own, ends_with(w->path, ".gz") ? "wb4" : "wbT");
    if (!w->file) {
        rm_status st = rm_fail_errno("%s: the trace cannot be written", w->path);
        if (own >= 0) close(own);
        return st;
    }
    gzbuffer(w->file, FLUSH_BYTES);
    rm_status st = put_all(w);
    errno = 0;
    const int code = gzclose(w->file);
    return st == RM_OK && code != Z_OK ? failed(w, code) : st;
}

/* A regular file is replaced whole or not at all; devices and pipes are written to as they are. */
static rm_status write_file(writer *w)
{
    struct stat info;
    const bool special = !stat(w->path, &info) && !S_ISREG(info.st_mode);
    rm_strbuf temporary = { 0 };
    rm_str_add(&temporary, w->path);
    if (!special) rm_str_addf(&temporary, ".%ld.tmp", (long)getpid());
    if (temporary.failed) return rm_fail(RM_E_NOMEM, "%s: out of memory while writing the trace", w->path);
    const int fd = open(temporary.text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | (special ? 0 : O_NOFOLLOW), 0666);
    rm_status st = fd >= 0 ? write_fd(w, fd) : rm_fail_errno("%s: the trace cannot be written", w->path);
    if (st == RM_OK && !special && fsync(fd)) st = rm_fail_errno("%s: the trace cannot be written", w->path);
    if (fd >= 0 && close(fd) && st == RM_OK) st = rm_fail_errno("%s: the trace cannot be written", w->path);
    if (st == RM_OK && !special && rename(temporary.text, w->path)) st = rm_fail_errno("%s: the trace cannot be put in place", w->path);
    if (st != RM_OK && fd >= 0 && !special) unlink(temporary.text);
    rm_str_free(&temporary);
    return st;
}

static rm_status say_dropped(const writer *w)
{
    const uint64_t all = rm_trace_dropped(w->trace);
    if (!all) return RM_OK;
    const rm_lane *worst = w->trace->lanes;
    for (const rm_lane *l = worst; l; l = l->next)
        if (l->dropped > worst->dropped) worst = l;
    return rm_fail(RM_E_PARTIAL, "%s: the last %" PRIu64 " events are not in the trace: its lanes have room for %zu each and '%s' was full; trace fewer steps",
                   w->path, all, worst->room, worst->label);
}

rm_status rm_trace_write(const rm_trace *t, const rm_trace_about *about, const char *path)
{
    writer w = { .trace = t, .about = about, .path = path, .pid = (int)getpid() };
    rm_status st = prepare(&w);
    if (st == RM_OK) st = write_file(&w);
    if (st == RM_OK) st = say_dropped(&w);
    release(&w);
    return st;
}
