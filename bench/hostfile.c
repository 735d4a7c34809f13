#include "bench/hostfile.h"
#include "base/file.h"
#include "base/strbuf.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_SHOWN = 40 };

/* A line under way. */
typedef struct reader {
    const char *at, *end;     /* of what is left of the line */
    const char *name;         /* of the file */
    int line;
} reader;

static rm_status refuse(const reader *r, const char *what, const char *word, const char *end)
{
    const int shown = end - word > WORD_SHOWN ? WORD_SHOWN : (int)(end - word);
    return rm_fail(RM_E_ARG, "%s:%d: '%.*s' %s; a line is HOST, HOST:N or HOST slots=N, with a comment after # where wanted", r->name, r->line, shown, word, what);
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_'; }

static void skip_blanks(reader *r)
{
    while (r->at < r->end && is_blank(*r->at)) r->at++;
}

/* To the end of the word, for messages. */
static const char *word_end(const reader *r, const char *from)
{
    while (from < r->end && !is_blank(*from)) from++;
    return from;
}

static rm_status read_count(reader *r, int32_t *out)
{
    const char *begin = r->at;
    int32_t v = 0;
    while (r->at < r->end && is_digit(*r->at) && v <= BENCH_SLOTS_MAX) v = 10 * v + (*r->at++ - '0');
    if (v < 1 || v > BENCH_SLOTS_MAX || (r->at < r->end && !is_blank(*r->at))) return refuse(r, "is no number of slots (1 to 65536)", begin, word_end(r, begin));
    *out = v;
    return RM_OK;
}

/* "slots=2", "slots = 2". */
static rm_status read_setting(reader *r, int32_t *slots, int32_t *most)
{
    static const struct { const char *name; bool slots; } keys[] = { { "slots", true }, { "max_slots", false }, { "max-slots", false } };
    const char *begin = r->at;
    while (r->at < r->end && is_name(*r->at)) r->at++;
    const size_t n = (size_t)(r->at - begin);
    skip_blanks(r);
    for (size_t i = 0; i < RM_COUNT(keys) && r->at < r->end && *r->at == '='; i++) {
        if (strlen(keys[i].name) != n || memcmp(begin, keys[i].name, n) != 0) continue;
        int32_t *into = keys[i].slots ? slots : most;
        if (*into) return refuse(r, "gives a number a second time", begin, word_end(r, begin));
        r->at++;
        skip_blanks(r);
        return read_count(r, into);
    }
    return refuse(r, "is not understood", begin, word_end(r, begin));
}

static rm_status add_host(const reader *r, const char *name, size_t n, int32_t slots, bench_hosts *h)
{
    int32_t i = 0;
    while (i < h->n && (strlen(h->host[i].name) != n || memcmp(h->host[i].name, name, n) != 0)) i++;
    if (i == BENCH_HOSTS_MAX || slots > BENCH_SLOTS_MAX - h->slots)
        return rm_fail(RM_E_ARG, "%s:%d: more than %d hosts or %d slots", r->name, r->line, BENCH_HOSTS_MAX, BENCH_SLOTS_MAX);
    if (i == h->n) {
        memcpy(h->host[i].name, name, n);
        h->n++;
    }
    h->host[i].slots += slots;
    h->slots += slots;
    if (h->host[i].slots > h->most) h->most = h->host[i].slots;
    return RM_OK;
}

static rm_status read_line(reader *r, bench_hosts *h)
{
    int32_t slots = 0, most = 0;
    skip_blanks(r);
    const char *name = r->at;
    if (r->at == r->end) return RM_OK;
    while (r->at < r->end && is_name(*r->at)) r->at++;
    const size_t n = (size_t)(r->at - name);
    if (n == 0 || n >= BENCH_HOST_NAME || *name == '-') return refuse(r, "is no name of a host", name, word_end(r, name));
    if (r->at < r->end && *r->at == ':') {
        r->at++;
        RM_TRY(read_count(r, &slots));
    } else if (r->at < r->end && !is_blank(*r->at)) {
        return refuse(r, "is no name of a host", name, word_end(r, name));
    }
    for (skip_blanks(r); r->at < r->end; skip_blanks(r)) RM_TRY(read_setting(r, &slots, &most));
    if (!slots) slots = 1;
    if (most && most < slots) return refuse(r, "has fewer max_slots than slots", name, name + n);
    return add_host(r, name, n, slots, h);
}

rm_status bench_hosts_parse(const char *text, size_t n, const char *name, bench_hosts *out)
{
    reader r = { .name = name };
    bench_hosts h = { .host = calloc(BENCH_HOSTS_MAX, sizeof *h.host) };
    rm_status st = h.host ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory reading %s", name);
    for (const char *at = text, *end = text + n; st == RM_OK && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;
        const char *comment = memchr(at, '#', (size_t)(stop - at));
        r.at = at;
        r.end = comment ? comment : stop;
        r.line++;
        st = read_line(&r, &h);
        at = newline ? newline + 1 : end;
    }
    if (st == RM_OK && !h.n) st = rm_fail(RM_E_ARG, "%s names no host; write one a line, as in: node1 slots=2", name);
    if (st == RM_OK) *out = h;
    else free(h.host);
    return st;
}

rm_status bench_hosts_read(const char *path, bench_hosts *out)
{
    char *text = NULL;
    size_t n = 0;
    rm_status st = rm_file_load(path, 1 << 20, &text, &n);
    if (st != RM_OK) return rm_fail(st, "--hostfile: %s", rm_last_error());
    st = bench_hosts_parse(text, n, path, out);
    free(text);
    return st;
}

void bench_hosts_free(bench_hosts *h)
{
    free(h->host);
    *h = (bench_hosts) { 0 };
}

char *bench_hosts_list(const bench_hosts *h)
{
    rm_strbuf s = { 0 };
    for (int32_t i = 0; i < h->n; i++) rm_str_addf(&s, "%s%s:%d", i ? "," : "", h->host[i].name, h->host[i].slots);
    return rm_str_take(&s);
}
