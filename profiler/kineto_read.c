#define _GNU_SOURCE /* memmem() */
#include "profiler/kineto_read.h"
#include "profiler/kineto_text.h"
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(rm_kineto_span) == 24, "a span takes 24 bytes");

/* ---- names */

static bool begins(const char *s, size_t n, const char *with) { return n >= strlen(with) && !memcmp(s, with, strlen(with)); }
static bool contains(const char *s, size_t n, const char *what) { return n && memmem(s, n, what, strlen(what)); }

rm_kineto_class rm_kineto_class_of(const char *name, size_t n)
{
    const char *newline = n ? memchr(name, '\n', n) : NULL; /* its patterns' dot stops there */
    const size_t line = newline ? (size_t)(newline - name) : n;
    if (begins(name, n, "nccl") && contains(name + 4, line - 4, "Kernel")) return RM_KINETO_COMM;
    if (begins(name, n, "Memcpy") || begins(name, n, "Memset") || begins(name, n, "dma")) return RM_KINETO_COPY;
    return contains(name, line, "Memcpy") || contains(name, line, "Sync") ? RM_KINETO_OTHER : RM_KINETO_COMPUTE;
}

static uint64_t hash_of(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

/* What a category means. */
typedef enum kind { KIND_NONE, KIND_UNKNOWN, KIND_DEVICE, KIND_HOST, KIND_DEVICE_NOTE, KIND_TRACE } kind;
static kind kind_of(const char *s, size_t n)
{
    static const struct { const char *cat; kind kind; } rows[] = {
        { "cpu_op", KIND_HOST }, { "python_function", KIND_HOST }, { "cuda_runtime", KIND_HOST }, { "kernel", KIND_DEVICE }, { "ac2g", KIND_HOST },
        { "cuda_driver", KIND_HOST }, { "gpu_memcpy", KIND_DEVICE }, { "gpu_memset", KIND_DEVICE }, { "user_annotation", KIND_HOST },
        { "gpu_user_annotation", KIND_DEVICE_NOTE }, { "cuda_sync", KIND_DEVICE_NOTE }, { "fwdbwd", KIND_HOST }, { "overhead", KIND_HOST }, { "Trace", KIND_TRACE },
        { "concurrent_kernel", KIND_DEVICE }, { "mtia_ccp_events", KIND_DEVICE }, { "Kernel", KIND_DEVICE }, { "Memcpy", KIND_DEVICE }, { "Memset", KIND_DEVICE },
        { "Operator", KIND_HOST }, { "Runtime", KIND_HOST }, { "cpu_instant_event", KIND_HOST }, { "cuda_profiler_range", KIND_DEVICE_NOTE },
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++)
        if (rows[i].cat[0] == s[0] && strlen(rows[i].cat) == n && !memcmp(rows[i].cat, s, n)) return rows[i].kind;
    return KIND_UNKNOWN;
}

/* ---- numbers */

enum { NS_PER_US = 1000 };
static const int64_t ns_max = 2300000000000000000, long_ns = 1000000000000000; /* 72 years from 1970, for the time of day; and 11 days a span: what is made of them fits */

static bool slow_ns(const char *s, int64_t *out)
{
    const double v = strtod(s, NULL) * NS_PER_US; /* what follows the number is no part of one */
    if (!(fabs(v) < (double)ns_max)) return false;
    *out = llround(v);
    return true;
}

/* Microseconds with any number of digits, to the nearest nanosecond. False: no number, or out of range. */
static bool ns_of(const char *s, size_t n, int64_t *out, bool *fraction)
{
    const bool negative = s[0] == '-';
    const char *p = s + negative, *end = s + n;
    uint64_t v = 0, unit = NS_PER_US;
    if (*p < '0' || *p > '9') return false;
    if (memchr(s, 'e', n) || memchr(s, 'E', n)) {
        *fraction = true;
        return slow_ns(s, out);
    }
    for (; p < end && *p != '.'; p++) {
        v = v * 10 + (uint64_t)(*p - '0');
        if (v > (uint64_t)ns_max / NS_PER_US) return false;
    }
    v *= NS_PER_US;
    *fraction = p < end;
    for (p++; p < end && unit > 1; p++) v += (uint64_t)(*p - '0') * (unit /= 10);
    if (p < end && *p >= '5') v++;
    *out = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

/* A whole number, the whole part of another, or what a string holds of either. Saturates. */
static bool integer_of(const char *s, size_t n, int64_t *out)
{
    const char *p = s, *end = s + n;
    while (p < end && *p == ' ') p++;
    const bool negative = p < end && *p == '-';
    if (negative || (p < end && *p == '+')) p++;
    int64_t v = 0;
    const char *digits = p;
    for (; p < end && *p >= '0' && *p <= '9'; p++) v = v > INT64_MAX / 10 - 1 ? INT64_MAX / 10 : v * 10 + (*p - '0');
    if (p == digits || (p < end && *p != '.' && *p != ' ')) return false;
    *out = negative ? -v : v;
    return true;
}

/* Microseconds as HolisticTraceAnalysis has them: the nearest double. */
static double us_of(int64_t ns)
{
    return llabs(ns) < 1ll << 53 ? (double)ns / NS_PER_US : (double)(ns / NS_PER_US) + (double)(ns % NS_PER_US) / NS_PER_US;
}
static int64_t ceil_us(int64_t ns) { return (int64_t)ceil(us_of(ns)); }

void rm_kineto_round(rm_kineto_span *s)
{
    const double end_us = us_of(s->begin_ns) + us_of(s->end_ns - s->begin_ns);
    s->begin_ns = ceil_us(s->begin_ns) * NS_PER_US;
    s->end_ns = (int64_t)floor(end_us) * NS_PER_US;
}

/* Of a correlation, in the 40 bits that a span has for it: 0 for none. CUDA's have 32; larger ones lose their top. */
static uint64_t corr_key(int64_t corr) { return corr < 0 ? 0 : (uint64_t)(corr + 1) & ((1ull << 40) - 1); }

/* ---- launches: which correlations were launched before the last ProfilerStep began
 *
 * As long as more steps may come, a launch before the last one seen is known to count: a bit in a sparse set, of which a word holds 64
 * neighbours. The others wait with their time. */

typedef struct waiting { uint64_t corr; int64_t at_ns; } waiting;
typedef struct launches {
    uint64_t *word, *bits; size_t n, room; /* word: number + 1 of 64 correlations; 0: free */
    waiting *wait; size_t n_wait, room_wait;
    int64_t none_ns;                       /* the first host event without a correlation */
} launches;

static size_t place_of(const launches *l, uint64_t word)
{
    size_t i = (size_t)(word * 0x9e3779b97f4a7c15 >> 20) & (l->room - 1);
    while (l->word[i] && l->word[i] != word) i = (i + 1) & (l->room - 1);
    return i;
}

static rm_status grow(launches *l)
{
    launches bigger = { .room = l->room ? l->room * 2 : 1024 };
    bigger.word = calloc(bigger.room, sizeof *bigger.word);
    bigger.bits = calloc(bigger.room, sizeof *bigger.bits);
    if (!bigger.word || !bigger.bits) {
        free(bigger.word);
        free(bigger.bits);
        return rm_fail(RM_E_NOMEM, "out of memory for the launches of a trace");
    }
    for (size_t i = 0; i < l->room; i++) {
        if (!l->word[i]) continue;
        const size_t at = place_of(&bigger, l->word[i]);
        bigger.word[at] = l->word[i];
        bigger.bits[at] = l->bits[i];
    }
    free(l->word);
    free(l->bits);
    l->word = bigger.word;
    l->bits = bigger.bits;
    l->room = bigger.room;
    return RM_OK;
}

static rm_status mark(launches *l, uint64_t corr)
{
    if (l->n * 2 >= l->room) RM_TRY(grow(l));
    const size_t at = place_of(l, corr / 64 + 1);
    l->n += !l->word[at];
    l->word[at] = corr / 64 + 1;
    l->bits[at] |= 1ull << corr % 64;
    return RM_OK;
}

static bool marked(const launches *l, uint64_t corr)
{
    const size_t at = l->room ? place_of(l, corr / 64 + 1) : 0;
    return l->room && l->word[at] && l->bits[at] >> corr % 64 & 1;
}

/* Marks what by now is known to have begun before `last_ns`, in whole microseconds where `rounded`. */
static rm_status settle(launches *l, int64_t last_ns, bool rounded)
{
    size_t left = 0;
    const int64_t last_us = ceil_us(last_ns);
    for (size_t i = 0; i < l->n_wait; i++) {
        const waiting w = l->wait[i];
        if (rounded ? ceil_us(w.at_ns) < last_us : w.at_ns < last_ns) RM_TRY(mark(l, w.corr));
        else l->wait[left++] = w;
    }
    l->n_wait = left;
    return RM_OK;
}

static rm_status wait_for_step(launches *l, uint64_t corr, int64_t at_ns, const rm_kineto *k)
{
    if (l->n_wait == l->room_wait) {
        if (k->n_step) RM_TRY(settle(l, k->step_last_ns, true));
        if (l->n_wait * 2 >= l->room_wait) {
            const size_t room = l->room_wait ? l->room_wait * 2 : 1024;
            waiting *w = realloc(l->wait, room * sizeof *w);
            if (!w) return rm_fail(RM_E_NOMEM, "out of memory for the launches of a trace");
            l->wait = w;
            l->room_wait = room;
        }
    }
    l->wait[l->n_wait++] = (waiting){ corr, at_ns };
    return RM_OK;
}

/* ---- events */

typedef struct us { enum { MISSING, GIVEN, BAD } is; bool fraction; int64_t ns; } us;
typedef struct event {
    us ts, dur;
    int64_t stream, corr; /* -1: none */
    kind cat;
    char phase;
    size_t name_n;
} event;

typedef struct reader {
    rm_text text;
    rm_kineto *k;
    bool as_hta, is_trace; /* is_trace: there was an array of events */
    char *name; size_t name_room;
    launches launches;
    rm_status st;          /* memory */
} reader;

static us read_us(reader *r)
{
    us v = { .is = MISSING };
    const char *s;
    size_t n;
    const int c = rm_text_peek(&r->text);
    if (c == '"' || c == '{' || c == '[') {
        rm_text_skip(&r->text);
        v.is = BAD;
    } else if (rm_text_scalar(&r->text, &s, &n) && c != 'n')
        v.is = ns_of(s, n, &v.ns, &v.fraction) ? GIVEN : BAD;
    return v;
}

/* A number, or a string that holds one; else -1. */
static void read_integer(reader *r, int64_t *v)
{
    const char *s;
    size_t n;
    const int c = rm_text_peek(&r->text);
    *v = -1;
    if (c == '{' || c == '[') rm_text_skip(&r->text);
    else if (c == '"' ? rm_text_string(&r->text, &s, &n) : rm_text_scalar(&r->text, &s, &n))
        if (!integer_of(s, n, v)) *v = -1;
}

static bool is(const char *key, size_t n, const char *name) { return strlen(name) == n && !memcmp(key, name, n); }

static void read_args(reader *r, event *e)
{
    const char *key;
    size_t n;
    e->stream = e->corr = -1;
    if (rm_text_peek(&r->text) != '{') {
        rm_text_skip(&r->text);
        return;
    }
    rm_text_take(&r->text, '{');
    for (bool first = true; rm_text_member(&r->text, &first, &key, &n);) {
        if (is(key, n, "stream")) read_integer(r, &e->stream);
        else if (is(key, n, "correlation")) read_integer(r, &e->corr);
        else rm_text_skip(&r->text);
    }
}

/* Of a string, else n is 0. */
static void read_string(reader *r, const char **s, size_t *n)
{
    *n = 0;
    *s = "";
    if (rm_text_peek(&r->text) == '"') rm_text_string(&r->text, s, n);
    else rm_text_skip(&r->text);
    if (r->text.fault) *n = 0;
}

static void read_name(reader *r, event *e)
{
    const char *s;
    read_string(r, &s, &e->name_n);
    if (e->name_n > r->name_room) {
        char *bigger = realloc(r->name, e->name_n);
        if (!bigger) {
            r->st = rm_fail(RM_E_NOMEM, "out of memory for a name of %zu bytes", e->name_n);
            e->name_n = 0;
            return;
        }
        r->name = bigger;
        r->name_room = e->name_n;
    }
    if (e->name_n) memcpy(r->name, s, e->name_n);
}

static void read_member(reader *r, event *e, const char *key, size_t n)
{
    const char *s;
    size_t length;
    if (is(key, n, "args")) read_args(r, e);
    else if (is(key, n, "name")) read_name(r, e);
    else if (is(key, n, "ts")) e->ts = read_us(r);
    else if (is(key, n, "dur")) {
        e->dur = read_us(r);
        if (llabs(e->dur.ns) > long_ns) e->dur.is = BAD;
    }
    else if (is(key, n, "cat")) {
        const bool none = rm_text_peek(&r->text) == 'n';
        read_string(r, &s, &length);
        e->cat = none ? KIND_NONE : kind_of(s, length);
    } else if (is(key, n, "ph")) {
        read_string(r, &s, &length);
        e->phase = length ? s[0] : 0;
    } else rm_text_skip(&r->text);
}

static uint64_t stream_index(rm_kineto *k, int64_t stream)
{
    int32_t i = 0;
    while (i < k->n_stream && k->stream[i] != stream) i++;
    if (i == RM_KINETO_STREAMS) return RM_KINETO_STREAMS - 1;
    if (i == k->n_stream) k->stream[k->n_stream++] = stream;
    return (uint64_t)i;
}

static int64_t end_of(const event *e) { return e->ts.ns + e->dur.ns; }

static rm_status add_span(reader *r, const event *e, bool launch)
{
    rm_kineto *k = r->k;
    if (k->n == k->room) {
        const size_t room = k->room ? k->room + k->room / 2 : 4096;
        rm_kineto_span *more = realloc(k->span, room * sizeof *more);
        if (!more) return rm_fail(RM_E_NOMEM, "out of memory for %zu spans of a trace", room);
        k->span = more;
        k->room = room;
    }
    const rm_kineto_class class = rm_kineto_class_of(r->name, e->name_n);
    k->span[k->n++] = (rm_kineto_span){
        .begin_ns = e->ts.ns, .end_ns = end_of(e), .corr = corr_key(e->corr), .stream = stream_index(k, e->stream) & 0xff, .class = class & 3, .launch = launch,
        .name = class == RM_KINETO_COMM ? hash_of(r->name, e->name_n) & 0xfff : 0,
    };
    return RM_OK;
}

static void add_step(reader *r, const event *e)
{
    rm_kineto *k = r->k;
    const uint64_t hash = hash_of(r->name, e->name_n);
    if (!k->n_step++) {
        k->step_hash = hash;
        k->step_begin_ns = k->step_last_ns = e->ts.ns;
        k->step_end_ns = end_of(e);
    }
    k->several_steps |= hash != k->step_hash;
    k->step_sum_ns += end_of(e) - e->ts.ns;
    if (e->ts.ns < k->step_begin_ns) k->step_begin_ns = e->ts.ns;
    if (e->ts.ns > k->step_last_ns) k->step_last_ns = e->ts.ns;
    if (end_of(e) > k->step_end_ns) k->step_end_ns = end_of(e);
}

static rm_status add_launch(reader *r, const event *e)
{
    launches *l = &r->launches;
    if (e->corr >= 0) return wait_for_step(l, corr_key(e->corr), e->ts.ns, r->k);
    if (e->ts.ns < l->none_ns) l->none_ns = e->ts.ns;
    return RM_OK;
}

/* HolisticTraceAnalysis' rules: a kernel is what has a stream and a correlation; all else is the host's, even with a stream; and all that
 * has a stream is counted. */
static rm_status add_as_hta(reader *r, const event *e)
{
    if (e->cat == KIND_NONE || e->cat == KIND_TRACE) return RM_OK;
    const bool sync = is(r->name, e->name_n, "Event Sync") || is(r->name, e->name_n, "Context Sync");
    const bool kernel = (e->stream >= 0 && e->corr >= 0) || sync;
    if (!kernel && contains(r->name, e->name_n, "ProfilerStep")) add_step(r, e);
    if (!kernel) RM_TRY(add_launch(r, e));
    return e->stream != -1 ? add_span(r, e, !kernel) : RM_OK;
}

static rm_status add_plain(reader *r, const event *e)
{
    if (e->dur.ns < 0) {
        r->k->n_bad++;
        return RM_OK;
    }
    if (e->cat == KIND_HOST && begins(r->name, e->name_n, "ProfilerStep")) add_step(r, e);
    const bool device = e->cat == KIND_DEVICE || ((e->cat == KIND_UNKNOWN || e->cat == KIND_NONE) && e->stream >= 0);
    return device ? add_span(r, e, false) : RM_OK;
}

static void add(reader *r, const event *e)
{
    rm_kineto *k = r->k;
    k->n_event++;
    k->n_pair += e->phase == 'B' || e->phase == 'E';
    k->n_bad += e->ts.is == BAD || e->dur.is == BAD || (e->ts.is == MISSING && e->dur.is == GIVEN) || (e->dur.is == MISSING && e->phase == 'X');
    k->fractions |= e->ts.is != GIVEN || e->ts.fraction;
    if (e->ts.is != GIVEN || e->dur.is != GIVEN) return;
    r->st = r->as_hta ? add_as_hta(r, e) : add_plain(r, e);
}

static void read_event(reader *r)
{
    const char *key;
    size_t n;
    event e = { .stream = -1, .corr = -1 };
    if (rm_text_peek(&r->text) != '{') {
        r->k->n_bad += rm_text_skip(&r->text);
        return;
    }
    rm_text_take(&r->text, '{');
    for (bool first = true; rm_text_member(&r->text, &first, &key, &n);) read_member(r, &e, key, n);
    if (!r->text.fault) add(r, &e);
}

/* ---- the file */

static void forget_events(reader *r)
{
    rm_kineto *k = r->k;
    const rm_kineto fresh = { .span = k->span, .room = k->room, .rank = k->rank, .world = k->world };
    *k = fresh;
    r->launches.n_wait = r->launches.n = 0;
    r->launches.none_ns = INT64_MAX;
    if (r->launches.room) memset(r->launches.word, 0, r->launches.room * sizeof *r->launches.word);
    if (r->launches.room) memset(r->launches.bits, 0, r->launches.room * sizeof *r->launches.bits);
}

static void read_events(reader *r)
{
    forget_events(r);
    r->is_trace = true;
    if (!rm_text_take(&r->text, '[')) return;
    for (bool first = true; r->st == RM_OK && rm_text_element(&r->text, &first);) read_event(r);
}

static void read_about(reader *r)
{
    const char *key;
    size_t n;
    int64_t v;
    if (rm_text_peek(&r->text) != '{') {
        rm_text_skip(&r->text);
        return;
    }
    rm_text_take(&r->text, '{');
    for (bool first = true; rm_text_member(&r->text, &first, &key, &n);) {
        int32_t *field = is(key, n, "rank") ? &r->k->rank : is(key, n, "world_size") ? &r->k->world : NULL;
        if (!field) {
            rm_text_skip(&r->text);
            continue;
        }
        read_integer(r, &v);
        *field = v >= 0 && v <= INT32_MAX ? (int32_t)v : -1;
    }
}

static void read_object(reader *r)
{
    const char *key;
    size_t n;
    rm_text_take(&r->text, '{');
    for (bool first = true; r->st == RM_OK && rm_text_member(&r->text, &first, &key, &n);) {
        if (is(key, n, "traceEvents")) read_events(r);
        else if (is(key, n, "distributedInfo")) read_about(r);
        else rm_text_skip(&r->text);
    }
}

/* The verdict on every span: would HolisticTraceAnalysis keep it, when it drops the last step? */
static rm_status keep_launched(reader *r)
{
    rm_kineto *k = r->k;
    if (!k->n_step) return RM_OK;
    RM_TRY(settle(&r->launches, k->step_last_ns, k->fractions));
    const int64_t last_us = ceil_us(k->step_last_ns);
    for (size_t i = 0; i < k->n; i++) {
        rm_kineto_span *s = &k->span[i];
        const int64_t at_ns = s->launch ? s->begin_ns : r->launches.none_ns;
        const bool before = k->fractions ? ceil_us(at_ns) < last_us : at_ns < k->step_last_ns;
        s->kept = s->launch || !s->corr ? before : marked(&r->launches, s->corr);
    }
    return RM_OK;
}

static rm_status verdict(const reader *r, const char *path)
{
    const rm_text *t = &r->text;
    const rm_kineto *k = r->k;
    const rm_status damaged = k->n ? RM_E_PARTIAL : RM_E_FORMAT;
    char kept[96];
    snprintf(kept, sizeof kept, k->n ? "kept the %zu spans of device work before it" : "no device work comes before it", k->n);
    if (t->fault && t->cut) return rm_fail(damaged, "%s: the trace ends at byte %" PRIu64 " in the middle of something; %s", path, t->fault_at, kept);
    if (t->fault) return rm_fail(damaged, "%s: malformed at byte %" PRIu64 "%s (%s); %s", path, t->fault_at, t->compressed ? " of the uncompressed text" : "", t->fault, kept);
    if (!r->is_trace) return rm_fail(RM_E_FORMAT, "%s: not a trace: there is no traceEvents", path);
    if (k->n) return RM_OK;
    return rm_fail(RM_E_FORMAT, "%s: no device work among its %" PRIu64 " events: none is a kernel or copy, or has a stream and a duration", path, k->n_event);
}

rm_status rm_kineto_read(const char *path, const rm_kineto_options *options, rm_kineto *out)
{
    rm_kineto k = { .rank = -1, .world = -1 };
    reader r = { .k = &k, .as_hta = options->as_hta };
    RM_TRY(rm_text_open(path, options->buffer_bytes, &r.text));
    const int c = rm_text_peek(&r.text);
    if (c == '[') read_events(&r);
    else if (c == '{') read_object(&r);
    else rm_text_fail(&r.text, "neither an object nor an array");
    if (r.st == RM_OK) rm_text_finish(&r.text);
    k.text_bytes = r.text.fault ? r.text.fault_at : r.text.before + (uint64_t)(r.text.end - r.text.buffer);
    if (r.st == RM_OK && r.as_hta) r.st = keep_launched(&r);
    if (r.st == RM_OK) r.st = verdict(&r, path);
    rm_text_close(&r.text);
    free(r.name);
    free(r.launches.word);
    free(r.launches.bits);
    free(r.launches.wait);
    if (r.st == RM_OK || r.st == RM_E_PARTIAL) *out = k;
    else free(k.span);
    return r.st;
}

void rm_kineto_free(rm_kineto *k)
{
    free(k->span);
    memset(k, 0, sizeof *k);
}
