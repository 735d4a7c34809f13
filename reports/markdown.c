/* The report as Markdown (GitHub's tables), with the figures beside it as files. */
#include "reports/doc.h"
#include <string.h>

/* Everything Markdown, HTML inside Markdown, or a table would take for its own gets a backslash; line ends become blanks. */
void rp_escape_markdown(rm_strbuf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p < 32 || *p == 127) {
            rm_str_add(out, " ");
            continue;
        }
        if (*p == '<') rm_str_add(out, "&lt;");
        else if (*p == '>') rm_str_add(out, "&gt;");
        else if (*p == '&') rm_str_add(out, "&amp;");
        else {
            bool at_start = p == text; /* "# ", "- ", "+ " and "1." mean something only there */
            if (strchr("\\`*_{}[]|~$", *p) || (at_start && strchr("#+-=!", *p))) rm_str_add(out, "\\");
            rm_str_add_n(out, p, 1);
        }
    }
}

/* A code span: no escapes inside, so the fence is longer than any run of backticks in the text. */
static void code(rm_strbuf *out, const char *text)
{
    size_t longest = 0, run = 0;
    for (const char *p = text; *p; p++) {
        run = *p == '`' ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    for (size_t i = 0; i <= longest; i++) rm_str_add(out, "`");
    if (longest) rm_str_add(out, " ");
    for (const char *p = text; *p; p++) rm_str_add_n(out, (unsigned char)*p < 32 ? " " : p, 1);
    if (longest) rm_str_add(out, " ");
    for (size_t i = 0; i <= longest; i++) rm_str_add(out, "`");
}

static void line(rm_strbuf *out, const char *before, const char *text)
{
    rm_str_add(out, before);
    rp_escape_markdown(out, text);
    rm_str_add(out, "\n\n");
}

static void table(rm_strbuf *out, const rp_block *b)
{
    const rp_table *t = &b->table;
    if (b->text[0]) line(out, "", b->text);
    for (size_t c = 0; c < t->columns; c++) {
        rm_str_add(out, "| ");
        rp_escape_markdown(out, t->column[c].title);
        rm_str_add(out, " ");
    }
    rm_str_add(out, "|\n");
    for (size_t c = 0; c < t->columns; c++) rm_str_add(out, t->column[c].number ? "|---:" : "|---");
    rm_str_add(out, "|\n");
    for (size_t i = 0; i < t->cells; i++) {
        rm_str_add(out, "| ");
        rp_escape_markdown(out, t->cell[i]);
        rm_str_add(out, (i + 1) % t->columns ? " " : " |\n");
    }
    rm_str_add(out, "\n");
}

static void block(rm_strbuf *out, const rp_block *b)
{
    switch (b->kind) {
    case RP_HEADING: line(out, b->level <= 2 ? "## " : "### ", b->text); break;
    case RP_LEAD:
    case RP_TEXT: line(out, "", b->text); break;
    case RP_NOTE: line(out, "> ", b->text); break;
    case RP_COMMAND:
        rm_str_add(out, "Reproduce: ");
        code(out, b->text);
        rm_str_add(out, "\n\n");
        break;
    case RP_FOLD:
        rm_str_add(out, "<details><summary>");
        rp_escape_html(out, b->text);
        rm_str_add(out, "</summary>\n\n");
        break;
    case RP_FOLD_END: rm_str_add(out, "</details>\n\n"); break;
    case RP_TILES:
    case RP_TABLE: table(out, b); break;
    case RP_FIGURE:
        rm_str_add(out, "![");
        rp_escape_markdown(out, b->alt);
        rm_str_addf(out, "](%s)\n\n", b->file);
        line(out, "", b->text);
        break;
    }
}

rm_status rp_markdown(const rp_doc *d, rm_strbuf *out)
{
    line(out, "# ", d->title ? d->title : "");
    for (size_t i = 0; i < d->n; i++) block(out, &d->block[i]);
    return d->failed || out->failed ? rm_fail(RM_E_NOMEM, "out of memory for the report") : RM_OK;
}
