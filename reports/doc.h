/* A report as a list of blocks, written once and printed by two printers (html.c, markdown.c). All text is plain: the
 * printers escape it. Running out of memory is remembered in `failed` and reported when the document is printed. */
#ifndef RM_REPORTS_DOC_H
#define RM_REPORTS_DOC_H
#include "base/strbuf.h"

typedef enum rp_kind { RP_HEADING, RP_LEAD, RP_TEXT, RP_NOTE, RP_TILES, RP_TABLE, RP_FIGURE, RP_COMMAND, RP_FOLD, RP_FOLD_END } rp_kind;

/* How a row or a tile is to be read; shown as a badge in its first cell's colour, and always as a word in the table. */
typedef enum rp_style { RP_PLAIN, RP_MEASURED, RP_EMULATED, RP_PROJECTED, RP_NOT_MEASURED, RP_WRONG } rp_style;

typedef struct rp_column { const char *title; bool number; } rp_column; /* numbers are set right */
typedef struct rp_table {
    rp_column *column;
    char **cell;      /* (rows, columns), row by row */
    rp_style *style;  /* (rows) */
    size_t columns, cells, rows, room_cells, room_rows;
} rp_table;

typedef struct rp_block {
    rp_kind kind;
    int level;        /* of a heading: 2 or 3 */
    char *text;       /* heading, text, caption, command, summary of the fold */
    char *file, *alt; /* figure: name in the folder, and what it shows for those who cannot see it */
    rp_table table;   /* tiles: three columns: label, value, remark */
    bool live;        /* the page's script sorts the table or zooms the figure (a timeline of our own) */
} rp_block;

typedef struct rp_doc { char *title; rp_block *block; size_t n, room; bool failed; } rp_doc;

void rp_heading(rp_doc *d, int level, const char *fmt, ...) RM_PRINTF(3, 4);
void rp_lead(rp_doc *d, const char *fmt, ...) RM_PRINTF(2, 3);    /* the answer, above all else */
void rp_text(rp_doc *d, const char *fmt, ...) RM_PRINTF(2, 3);
void rp_note(rp_doc *d, const char *fmt, ...) RM_PRINTF(2, 3);    /* a reservation the reader must not miss */
void rp_command(rp_doc *d, const char *fmt, ...) RM_PRINTF(2, 3); /* the command line that gives the figure or table above again */
void rp_figure(rp_doc *d, const char *file, const char *alt, const char *fmt, ...) RM_PRINTF(4, 5);
void rp_fold(rp_doc *d, const char *fmt, ...) RM_PRINTF(2, 3);
void rp_fold_end(rp_doc *d);
/* Opens a table; rp_row() and then exactly `n` rp_cell() for each row. Titles are copied. */
void rp_table_begin(rp_doc *d, rp_kind kind, const rp_column *column, size_t n, const char *fmt, ...) RM_PRINTF(5, 6);
void rp_row(rp_doc *d, rp_style style);
void rp_cell(rp_doc *d, const char *fmt, ...) RM_PRINTF(2, 3);
/* The last block, a table or a timeline, answers to the reader: a table's rows sort by any column, so none of them may be a sum of the others. */
void rp_live(rp_doc *d);
/* Moves the blocks of `from` to the end of `d`. */
void rp_doc_append(rp_doc *d, rp_doc *from);
void rp_doc_free(rp_doc *d);

rp_style rp_style_of(const char *origin, bool correct); /* "projected", true -> RP_PROJECTED */

/* Print. `figure_dir`: where the figures to embed lie; one that cannot be read is left out with its alternative text. */
rm_status rp_html(const rp_doc *d, const char *figure_dir, rm_strbuf *out) RM_CHECKED;
rm_status rp_markdown(const rp_doc *d, rm_strbuf *out) RM_CHECKED;

/* Escaping, each for one reader. */
void rp_escape_html(rm_strbuf *out, const char *text);
void rp_escape_markdown(rm_strbuf *out, const char *text);
#endif
