/* The text of a trace file: JSON read piece by piece, plain or gzip (told by content), without ever holding more than a buffer of it.
 *
 * A pull reader: the caller asks for members, elements, strings and scalars in the order in which they come and skips what it does not
 * need. The grammar is checked all the same, also in what is skipped; besides JSON, NaN and Infinity pass as scalars (Python writes
 * them), and bytes in strings are not looked at. The first fault is kept with its offset, and from then on every call returns false.
 * Threads: one a reader. */
#ifndef RM_KINETO_TEXT_H
#define RM_KINETO_TEXT_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct rm_text {
    const unsigned char *p, *end; /* unread; *end is 0 */
    unsigned char *buffer;
    size_t room;                  /* a string that is asked for must fit in */
    uint64_t before;              /* bytes of text before `buffer` */
    void *file;                   /* zlib's */
    const char *fault;            /* NULL while all is well */
    uint64_t fault_at;            /* offset in the text, uncompressed */
    bool ended, cut, compressed;  /* ended: no more comes; cut: the fault is that the text ended */
} rm_text;

/* buffer_bytes 0: a size that suits disks. RM_E_IO, RM_E_NOMEM. */
rm_status rm_text_open(const char *path, size_t buffer_bytes, rm_text *out) RM_CHECKED;
void      rm_text_close(rm_text *t);

/* The next character that is not white space, without taking it; 0 at the end and after a fault. */
int       rm_text_peek(rm_text *t);
/* Takes `c`, which must be next. */
bool      rm_text_take(rm_text *t, char c);
/* Within an object ({ was taken; *first is true at the beginning): takes the next key and its colon. False at }, which it takes. */
bool      rm_text_member(rm_text *t, bool *first, const char **key, size_t *n);
/* Within an array, likewise: is there another element? False at ], which it takes. */
bool      rm_text_element(rm_text *t, bool *first);
/* Strings come without escapes, valid until the next call, not terminated. */
bool      rm_text_string(rm_text *t, const char **s, size_t *n);
/* A number, true, false, null, NaN, Infinity. Valid until the next call and followed by something that is no part of a number. */
bool      rm_text_scalar(rm_text *t, const char **s, size_t *n);
bool      rm_text_skip(rm_text *t);                 /* any value */
/* Nothing but white space may be left. */
bool      rm_text_finish(rm_text *t);
bool      rm_text_fail(rm_text *t, const char *what); /* records `what` (a literal) at this place; returns false */
#endif
