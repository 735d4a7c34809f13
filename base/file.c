#include "base/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Twice the room, with one byte for the end. */
static rm_status grow(const char *path, char **text, size_t *room)
{
    const size_t more = *room ? 2 * *room : 65536;
    char *grown = more > *room ? realloc(*text, more + 1) : NULL;
    if (!grown) return rm_fail(RM_E_NOMEM, "out of memory reading %s", path);
    *text = grown;
    *room = more;
    return RM_OK;
}

static rm_status read_all(FILE *f, const char *path, size_t most, char **text, size_t *n)
{
    size_t room = 0;
    for (;;) {
        if (*n == room) RM_TRY(grow(path, text, &room));
        errno = 0;
        const size_t got = fread(*text + *n, 1, room - *n, f);
        *n += got;
        if (*n > most) return rm_fail(RM_E_FORMAT, "%s is larger than %zu bytes", path, most);
        if (!got) return ferror(f) ? rm_fail_errno("cannot read %s", path) : RM_OK;
    }
}

rm_status rm_file_load(const char *path, size_t most_bytes, char **out_text, size_t *out_bytes)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = fopen(path, "rbe");
    if (!f) return rm_fail_errno("cannot open %s", path);
    const rm_status st = read_all(f, path, most_bytes, &text, &n);
    fclose(f);
    if (st != RM_OK) {
        free(text);
        return st;
    }
    text[n] = '\0';
    *out_text = text;
    *out_bytes = n;
    return RM_OK;
}
