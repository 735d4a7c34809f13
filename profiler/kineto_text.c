#include "profiler/kineto_text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { BUFFER_BYTES = 1 << 18, GZIP_BYTES = 1 << 17, DEPTH_MAX = 256, WORD_BYTES = 8 };

rm_status rm_text_open(const char *path, size_t buffer_bytes, rm_text *out)
{
    rm_text t = { .room = buffer_bytes ? buffer_bytes : BUFFER_BYTES };
    errno = 0;
    t.file = gzopen(path, "rb");
    if (!t.file) return rm_fail_errno("%s: the trace cannot be opened", path);
    gzbuffer(t.file, GZIP_BYTES);
    t.buffer = calloc(1, t.room + WORD_BYTES); /* scanning looks at whole words */
    if (!t.buffer) {
        gzclose(t.file);
        return rm_fail(RM_E_NOMEM, "%s: out of memory for a buffer of %zu bytes", path, t.room);
    }
    t.p = t.end = t.buffer;
    t.compressed = !gzdirect(t.file);
    *out = t;
    return RM_OK;
}

void rm_text_close(rm_text *t)
{
    if (t->file) gzclose(t->file);
    free(t->buffer);
    memset(t, 0, sizeof *t);
}

bool rm_text_fail(rm_text *t, const char *what)
{
    if (t->fault) return false;
    t->cut = t->ended && t->p == t->end;
    t->fault = what;
    t->fault_at = t->before + (uint64_t)(t->p - t->buffer);
    t->end = t->p = t->buffer; /* nothing follows */
    t->buffer[0] = 0;
    t->ended = true;
    return false;
}

/* Reads on, keeping the text from `keep` on, which moves to the front of the buffer. False when nothing more comes. */
static bool refill(rm_text *t, const unsigned char *keep)
{
    if (t->ended) return false;
    const size_t kept = (size_t)(t->end - keep), skipped = (size_t)(keep - t->buffer);
    if (kept == t->room) return rm_text_fail(t, "a name or number that does not end");
    memmove(t->buffer, keep, kept);
    t->before += skipped;
    t->p -= skipped;
    const int got = gzread(t->file, t->buffer + kept, (unsigned)(t->room - kept));
    t->end = t->buffer + kept + (got > 0 ? got : 0);
    memset(t->buffer + kept + (got > 0 ? got : 0), 0, WORD_BYTES);
    if (got > 0) return true;
    int code;
    gzerror(t->file, &code);
    t->ended = true;
    if (code == Z_OK || code == Z_STREAM_END) return false;
    t->p = t->end;
    rm_text_fail(t, code == Z_BUF_ERROR ? "the compressed data end early" : code == Z_ERRNO ? "the file cannot be read" : "the compressed data are damaged");
    return t->cut = false;
}

int rm_text_peek(rm_text *t)
{
    for (;;) {
        while (*t->p == ' ' || *t->p == '\n' || *t->p == '\r' || *t->p == '\t') t->p++;
        if (t->p < t->end) return *t->p;
        if (!refill(t, t->p)) return 0;
    }
}

bool rm_text_take(rm_text *t, char c)
{
    if (rm_text_peek(t) == c) {
        t->p++;
        return true;
    }
    switch (c) {
    case ':': return rm_text_fail(t, "a key without a colon");
    case '"': return rm_text_fail(t, "not a key");
    default: return rm_text_fail(t, "not what must come here");
    }
}

/* ---- strings */

/* The first quote, backslash or NUL at p or after it. */
static const unsigned char *string_stop(const unsigned char *p)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Eight bytes at a time: the lowest bit set in `hit` is in the first byte that is one of the three. */
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    for (;; p += WORD_BYTES) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        const uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';
        const uint64_t hit = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((v - ones) & ~v)) & tops;
        if (hit) return p + __builtin_ctzll(hit) / 8;
    }
#else
    while (*p && *p != '"' && *p != '\\') p++;
    return p;
#endif
}

/* Goes on to the closing quote from the opening one, at t->p. With `keep` the string stays in the buffer, and *begin is where its text
 * begins. *escaped: there are escapes. t->p is left on the closing quote. */
static bool find_end(rm_text *t, bool keep, size_t *begin_to_p, bool *escaped)
{
    size_t n = 0; /* from the text's beginning to t->p, when kept */
    *escaped = false;
    t->p++;
    for (;;) {
        const unsigned char *s = string_stop(t->p);
        n += (size_t)(s - t->p);
        t->p = s;
        if (*s == '"') break;
        const bool slash = *s == '\\';
        if (s + slash >= t->end) {
            if (refill(t, keep ? s - n : s)) continue;
            t->p = t->end;
            return rm_text_fail(t, "a string that does not end");
        }
        *escaped |= slash;
        t->p += 1 + slash; /* a NUL in the text, or an escape of two characters at least */
        n += 1u + slash;
    }
    *begin_to_p = n;
    return true;
}

static int hex4(const unsigned char *p)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    int v = 0;
    for (int i = 0; i < 4; i++) {
        const char *digit = p[i] ? strchr(digits, p[i]) : NULL;
        if (!digit) return -1;
        v = v * 16 + (int)((digit - digits) % 16);
    }
    return v;
}

static unsigned char *put_utf8(unsigned char *out, uint32_t c)
{
    if (c < 0x80) *out++ = (unsigned char)c;
    else if (c < 0x800) *out++ = (unsigned char)(0xc0 | c >> 6);
    else if (c < 0x10000) *out++ = (unsigned char)(0xe0 | c >> 12);
    else *out++ = (unsigned char)(0xf0 | c >> 18);
    for (int shift = c < 0x80 ? -6 : c < 0x800 ? 0 : c < 0x10000 ? 6 : 12; shift >= 0; shift -= 6) *out++ = (unsigned char)(0x80 | (c >> shift & 0x3f));
    return out;
}

/* In place: no escape is shorter than what it means. Returns the length, or -1 for an escape that JSON does not know. */
static ptrdiff_t unescape(unsigned char *s, size_t n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned char *out = s;
    for (const unsigned char *p = s, *end = s + n; p < end;) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        const char *known = p[1] ? strchr(from, p[1]) : NULL;
        if (known) {
            *out++ = (unsigned char)to[known - from];
            p += 2;
            continue;
        }
        int c = p[1] == 'u' && end - p >= 6 ? hex4(p + 2) : -1;
        if (c < 0) return -1;
        p += 6;
        if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') { /* two halves of one character */
            const int low = hex4(p + 2);
            if (low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                p += 6;
            }
        }
        out = put_utf8(out, (uint32_t)c);
    }
    return out - s;
}

bool rm_text_string(rm_text *t, const char **s, size_t *n)
{
    bool escaped;
    size_t length;
    if (rm_text_peek(t) != '"') return rm_text_fail(t, "not a string");
    if (!find_end(t, true, &length, &escaped)) return false;
    unsigned char *begin = t->buffer + (t->p - t->buffer) - length;
    const ptrdiff_t plain = escaped ? unescape(begin, length) : (ptrdiff_t)length;
    if (plain < 0) return rm_text_fail(t, "an escape that JSON does not know before here");
    t->p++;
    *s = (const char *)begin;
    *n = (size_t)plain;
    return true;
}

static bool skip_string(rm_text *t)
{
    bool escaped;
    size_t length;
    if (!find_end(t, false, &length, &escaped)) return false;
    t->p++;
    return true;
}

/* ---- scalars */

static bool is_digit(int c) { return c >= '0' && c <= '9'; }

/* Behind the number at p; NULL when it is none. */
static const unsigned char *number_end(const unsigned char *p)
{
    if (*p == '-') p++;
    if (!is_digit(*p)) return NULL;
    while (is_digit(*p)) p++;
    if (*p == '.') {
        if (!is_digit(*++p)) return NULL;
        while (is_digit(*p)) p++;
    }
    if ((*p | 32) != 'e') return p;
    p++;
    if (*p == '+' || *p == '-') p++;
    if (!is_digit(*p)) return NULL;
    while (is_digit(*p)) p++;
    return p;
}

/* Behind the word or number at p; NULL when it is none. */
static const unsigned char *scalar_end(const unsigned char *p)
{
    static const char *const words[] = { "null", "true", "false", "NaN", "Infinity", "-Infinity" };
    if (is_digit(*p) || (*p == '-' && p[1] != 'I')) return number_end(p);
    for (size_t i = 0; i < RM_COUNT(words); i++)
        if (!strncmp((const char *)p, words[i], strlen(words[i]))) return p + strlen(words[i]);
    return NULL;
}

bool rm_text_scalar(rm_text *t, const char **s, size_t *n)
{
    rm_text_peek(t);
    for (;;) {
        const unsigned char *e = scalar_end(t->p);
        const unsigned char *stop = e ? e : t->p + strspn((const char *)t->p, "+-.0123456789NaInfityrueEls");
        if (stop == t->end && !t->ended) { /* it may go on */
            refill(t, t->p);
            continue;
        }
        if (!e && stop == t->end) t->p = stop;
        if (!e) return rm_text_fail(t, "no value");
        *s = (const char *)t->p;
        *n = (size_t)(e - t->p);
        t->p = e;
        return true;
    }
}

/* ---- structure */

static bool key(rm_text *t, const char **k, size_t *n)
{
    if (rm_text_peek(t) != '"') return rm_text_fail(t, "not a key");
    if (!rm_text_string(t, k, n)) return false;
    /* Usually the colon follows at once; white space before it, or the end of the buffer, must not move the key away. */
    if (*t->p == ':') {
        t->p++;
        return true;
    }
    while (t->p == t->end || *t->p == ' ' || *t->p == '\n' || *t->p == '\r' || *t->p == '\t') {
        if (t->p < t->end) {
            t->p++;
            continue;
        }
        const unsigned char *was = t->buffer;
        const size_t offset = (size_t)((const unsigned char *)*k - was);
        if (!refill(t, was + offset)) break;
        *k = (const char *)t->buffer;
    }
    return rm_text_take(t, ':');
}

bool rm_text_member(rm_text *t, bool *first, const char **k, size_t *n)
{
    const int c = rm_text_peek(t);
    if (c == '}') {
        t->p++;
        return false;
    }
    if (!*first) {
        if (c != ',') return rm_text_fail(t, "neither , nor } after a value");
        t->p++;
        rm_text_peek(t);
    }
    *first = false;
    return key(t, k, n);
}

bool rm_text_element(rm_text *t, bool *first)
{
    const int c = rm_text_peek(t);
    if (c == ']') {
        t->p++;
        return false;
    }
    if (!*first) {
        if (c != ',') return rm_text_fail(t, "neither , nor ] after a value");
        t->p++;
        if (rm_text_peek(t) == ']') return rm_text_fail(t, "no value");
    }
    *first = false;
    return !t->fault;
}

static bool skip_key(rm_text *t)
{
    if (rm_text_peek(t) != '"') return rm_text_fail(t, "not a key");
    return skip_string(t) && rm_text_take(t, ':');
}

/* Without recursion: `object` has a bit a level. */
bool rm_text_skip(rm_text *t)
{
    uint64_t object[DEPTH_MAX / 64] = { 0 };
    unsigned depth = 0;
    const char *s;
    size_t n;
    for (;;) {
        const int c = rm_text_peek(t);
        bool opened = false;
        if (c == '{' || c == '[') {
            if (depth == DEPTH_MAX) return rm_text_fail(t, "values nested deeper than 256");
            object[depth / 64] = (object[depth / 64] & ~(1ull << depth % 64)) | (uint64_t)(c == '{') << depth % 64;
            depth++;
            t->p++;
            opened = true;
        } else if (!(c == '"' ? skip_string(t) : rm_text_scalar(t, &s, &n))) return false;
        for (;; opened = false) { /* a value has ended, or a level has opened */
            if (!depth) return true;
            const bool in_object = object[(depth - 1) / 64] >> (depth - 1) % 64 & 1;
            const int d = rm_text_peek(t);
            if (d == (in_object ? '}' : ']')) {
                t->p++;
                depth--;
                continue;
            }
            if (!opened) {
                if (d != ',') return rm_text_fail(t, in_object ? "neither , nor } after a value" : "neither , nor ] after a value");
                t->p++;
            }
            if (in_object && !skip_key(t)) return false;
            break;
        }
    }
}

bool rm_text_finish(rm_text *t)
{
    if (t->fault) return false;
    if (rm_text_peek(t)) return rm_text_fail(t, "something after the end of the trace");
    return !t->fault && (t->p == t->end || rm_text_fail(t, "something after the end of the trace"));
}
