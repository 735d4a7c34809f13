#include "reports/csv.h"
#include <stdlib.h>
#include <string.h>

/* Moves one field from *in to *out, NUL-terminated; returns what ended it: ',' '\n' '\0', or '"' when a quote stays open. */
static char next_field(const char **in, char **out, int *line)
{
    const char *p = *in;
    char *w = *out;
    if (*p == '"') {
        for (p++; *p && (*p != '"' || p[1] == '"'); p++) {
            if (*p == '"') p++;
            if (*p == '\n') ++*line;
            *w++ = *p;
        }
        if (!*p) return '"';
        p++;
    }
    while (*p && *p != ',' && *p != '\n') *w++ = *p++;
    if (w > *out && w[-1] == '\r' && *p == '\n') w--;
    *w++ = 0;
    *out = w;
    char end = *p;
    *in = p + (end != 0);
    return end;
}

rm_status rp_csv_each(const char *text, const char *where, rm_status (*fn)(void *ctx, char *const *field, int n), void *ctx)
{
    char *copy = malloc(2 * strlen(text) + 2); /* a NUL takes the place of each separator; quotes only shrink */
    if (!copy) return rm_fail(RM_E_NOMEM, "%s: out of memory", where);
    rm_status st = RM_OK;
    int names = 0, line = 1;
    for (const char *p = text; st == RM_OK && *p;) {
        char *field[RP_CSV_FIELDS], *w = copy, end;
        int n = 0, at = line;
        do {
            if (n == RP_CSV_FIELDS) {
                st = rm_fail(RM_E_FORMAT, "%s:%d: more than %d fields", where, at, RP_CSV_FIELDS);
                goto out;
            }
            field[n++] = w;
            end = next_field(&p, &w, &line);
        } while (end == ',');
        line++;
        if (end == '"') st = rm_fail(RM_E_FORMAT, "%s:%d: a quote is never closed", where, at);
        else if (names && n != names) st = rm_fail(RM_E_FORMAT, "%s:%d: %d fields where the first line names %d", where, at, n, names);
        else if (names) st = fn(ctx, field, n);
        else names = n;
    }
out:
    free(copy);
    return st;
}
