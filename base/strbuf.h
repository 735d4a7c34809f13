/* A string that grows. Running out of memory is remembered, not reported at each call: check `failed` once at the end. */
#ifndef RM_STRBUF_H
#define RM_STRBUF_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

/* All zero is the empty string. `text` is NUL-terminated once something was added, NULL before. */
typedef struct rm_strbuf { char *text; size_t n, room; bool failed; } rm_strbuf;

void  rm_str_add(rm_strbuf *s, const char *text);
void  rm_str_add_n(rm_strbuf *s, const char *text, size_t n);
void  rm_str_addf(rm_strbuf *s, const char *fmt, ...) RM_PRINTF(2, 3);
void  rm_str_vaddf(rm_strbuf *s, const char *fmt, va_list ap) RM_PRINTF(2, 0);
/* Takes the text out (free() it; "" when nothing was added) and leaves `s` empty. NULL when memory ran out. */
char *rm_str_take(rm_strbuf *s);
void  rm_str_free(rm_strbuf *s);
#endif
