#include "base/strbuf.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more characters and the NUL. */
static bool reserve(rm_strbuf *s, size_t n)
{
    if (s->failed || n > SIZE_MAX / 4 || s->n > SIZE_MAX / 4) {
        s->failed = true;
        return false;
    }
    if (s->n + n + 1 <= s->room) return true;
    size_t room = s->room ? s->room : 64;
    while (room < s->n + n + 1) room *= 2;
    char *text = realloc(s->text, room);
    if (!text) {
        s->failed = true;
        return false;
    }
    s->text = text;
    s->room = room;
    return true;
}

void rm_str_add_n(rm_strbuf *s, const char *text, size_t n)
{
    if (!reserve(s, n)) return;
    memcpy(s->text + s->n, text, n);
    s->n += n;
    s->text[s->n] = 0;
}

void rm_str_add(rm_strbuf *s, const char *text) { rm_str_add_n(s, text, strlen(text)); }

void rm_str_vaddf(rm_strbuf *s, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0 || !reserve(s, (size_t)n)) {
        s->failed = true;
        return;
    }
    vsnprintf(s->text + s->n, (size_t)n + 1, fmt, ap);
    s->n += (size_t)n;
}

void rm_str_addf(rm_strbuf *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rm_str_vaddf(s, fmt, ap);
    va_end(ap);
}

char *rm_str_take(rm_strbuf *s)
{
    rm_str_add_n(s, "", 0);
    char *text = s->failed ? NULL : s->text;
    if (text) *s = (rm_strbuf){ 0 };
    else rm_str_free(s);
    return text;
}

void rm_str_free(rm_strbuf *s)
{
    free(s->text);
    *s = (rm_strbuf){ 0 };
}
