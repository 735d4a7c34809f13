#include "reports/doc.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static char *format(rp_doc *d, const char *fmt, va_list ap)
{
    rm_strbuf s = { 0 };
    rm_str_vaddf(&s, fmt, ap);
    char *text = rm_str_take(&s);
    if (!text) d->failed = true;
    return text;
}

/* One more element in a growing array; false and `failed` when memory is short. */
static bool grow(rp_doc *d, void **array, size_t *room, size_t n, size_t size)
{
    if (n < *room) return true;
    size_t more = *room ? *room * 2 : 16;
    void *p = more > SIZE_MAX / size ? NULL : realloc(*array, more * size);
    if (!p) {
        d->failed = true;
        return false;
    }
    *array = p;
    *room = more;
    return true;
}

static rp_block *add(rp_doc *d, rp_kind kind, const char *fmt, va_list ap)
{
    void *array = d->block;
    bool ok = !d->failed && grow(d, &array, &d->room, d->n, sizeof *d->block);
    d->block = array;
    if (!ok) return NULL;
    rp_block *b = &d->block[d->n];
    *b = (rp_block){ .kind = kind, .text = format(d, fmt, ap) };
    if (!b->text) return NULL;
    d->n++;
    return b;
}

#define SIMPLE(name, kind)                      \
    void name(rp_doc *d, const char *fmt, ...)  \
    {                                           \
        va_list ap;                             \
        va_start(ap, fmt);                      \
        add(d, kind, fmt, ap);                  \
        va_end(ap);                             \
    }
SIMPLE(rp_lead, RP_LEAD)
SIMPLE(rp_text, RP_TEXT)
SIMPLE(rp_note, RP_NOTE)
SIMPLE(rp_command, RP_COMMAND)
SIMPLE(rp_fold, RP_FOLD)

static void add_plain(rp_doc *d, rp_kind kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(d, kind, fmt, ap);
    va_end(ap);
}

void rp_fold_end(rp_doc *d) { add_plain(d, RP_FOLD_END, "%s", ""); }

void rp_heading(rp_doc *d, int level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rp_block *b = add(d, RP_HEADING, fmt, ap);
    va_end(ap);
    if (b) b->level = level;
}

void rp_figure(rp_doc *d, const char *file, const char *alt, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rp_block *b = add(d, RP_FIGURE, fmt, ap);
    va_end(ap);
    if (!b) return;
    b->file = strdup(file);
    b->alt = strdup(alt);
    if (!b->file || !b->alt) d->failed = true;
}

void rp_table_begin(rp_doc *d, rp_kind kind, const rp_column *column, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rp_block *b = add(d, kind, fmt, ap);
    va_end(ap);
    if (!b) return;
    b->table.column = calloc(n, sizeof *column);
    if (!b->table.column) {
        d->failed = true;
        return;
    }
    b->table.columns = n;
    for (size_t i = 0; i < n; i++) {
        b->table.column[i].number = column[i].number;
        if (!(b->table.column[i].title = strdup(column[i].title))) d->failed = true;
    }
}

void rp_live(rp_doc *d)
{
    if (!d->failed && d->n) d->block[d->n - 1].live = true;
}

static rp_table *open_table(rp_doc *d)
{
    rp_block *b = d->n ? &d->block[d->n - 1] : NULL;
    if (d->failed || !b || (b->kind != RP_TABLE && b->kind != RP_TILES)) return NULL;
    return &b->table;
}

void rp_row(rp_doc *d, rp_style style)
{
    rp_table *t = open_table(d);
    if (!t) return;
    RM_ASSERT(t->cells == t->rows * t->columns); /* the row before is whole */
    void *array = t->style;
    bool ok = grow(d, &array, &t->room_rows, t->rows, sizeof *t->style);
    t->style = array;
    if (ok) t->style[t->rows++] = style;
}

void rp_cell(rp_doc *d, const char *fmt, ...)
{
    rp_table *t = open_table(d);
    if (!t) return;
    void *array = t->cell;
    bool ok = grow(d, &array, &t->room_cells, t->cells, sizeof *t->cell);
    t->cell = array;
    if (!ok) return;
    va_list ap;
    va_start(ap, fmt);
    char *text = format(d, fmt, ap);
    va_end(ap);
    if (text) t->cell[t->cells++] = text;
}

static void free_block(rp_block *b)
{
    for (size_t i = 0; i < b->table.cells; i++) free(b->table.cell[i]);
    for (size_t i = 0; i < b->table.columns; i++) free((char *)b->table.column[i].title);
    free(b->table.cell);
    free(b->table.style);
    free(b->table.column);
    free(b->text);
    free(b->file);
    free(b->alt);
}

void rp_doc_append(rp_doc *d, rp_doc *from)
{
    d->failed |= from->failed;
    for (size_t i = 0; i < from->n && !d->failed; i++) {
        void *array = d->block;
        bool ok = grow(d, &array, &d->room, d->n, sizeof *d->block);
        d->block = array;
        if (!ok) return;
        d->block[d->n++] = from->block[i];
        from->block[i] = (rp_block){ 0 };
    }
}

void rp_doc_free(rp_doc *d)
{
    for (size_t i = 0; i < d->n; i++) free_block(&d->block[i]);
    free(d->block);
    free(d->title);
    *d = (rp_doc){ 0 };
}

rp_style rp_style_of(const char *origin, bool correct)
{
    static const struct { const char *origin; rp_style style; } row[] = {
        { "measured", RP_MEASURED }, { "emulated", RP_EMULATED }, { "projected", RP_PROJECTED }, { "not_measured", RP_NOT_MEASURED },
    };
    if (!correct) return RP_WRONG;
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (!strcmp(origin, row[i].origin)) return row[i].style;
    return RP_PLAIN;
}
