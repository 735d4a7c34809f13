/* The report as one self-contained page: inline style and figures, at most one script (ours, for what is live), no network. */
#include "reports/doc.h"
#include "base/sha256.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Explicitly light, so that figures and text agree; prints as it looks; wide tables scroll in their own box. */
static const char style[] =
    ":root{color-scheme:light;--ink:#1c2126;--soft:#57606a;--line:#d5dae0;--tint:#f5f7f9;--blue:#0b5fa5}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:#fff;color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "main{max-width:1060px;margin:0 auto;padding:24px 20px 64px}\n"
    "h1{font-size:1.7rem;line-height:1.25;margin:.2em 0 .4em}\n"
    "h2{font-size:1.25rem;margin:2.2em 0 .5em;padding-top:.7em;border-top:1px solid var(--line)}\n"
    "h3{font-size:1.02rem;margin:1.7em 0 .4em}\n"
    "p{margin:.5em 0;max-width:76ch}\n"
    ".lead{font-size:1.08rem}\n"
    ".note{color:#5a4300;background:#fff8e5;border-left:3px solid #d9a400;padding:.5em .8em;font-size:.92rem}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:18px 0}\n"
    ".tile{border:1px solid var(--line);border-radius:6px;padding:12px 14px}\n"
    ".tile b{display:block;font-size:1.5rem;line-height:1.3;font-weight:650}\n"
    ".tile span{display:block;color:var(--soft);font-size:.85rem}\n"
    ".sortable th button{all:unset;cursor:pointer;display:block;width:100%}.sortable th button:focus-visible{outline:2px solid var(--blue)}\n"
    ".sortable th button::after{content:'\\00a0↕';color:#aeb6bf}th[aria-sort=ascending] button::after{content:'\\00a0↑'}th[aria-sort=descending] button::after{content:'\\00a0↓'}\n"
    "th[aria-sort] button::after{color:var(--blue)!important}\n"
    ".live{overflow-x:auto}.live>svg{display:block;width:100%;height:auto;min-width:720px}\n"
    "figure{margin:1.1em 0}\n"
    "figcaption,.cap{color:var(--soft);font-size:.88rem}\n"
    ".cap{margin:1.2em 0 -.5em}\n"
    ".scroll{overflow-x:auto;margin:.9em 0;max-width:100%}\n"
    ".scroll svg{display:block;width:100%;min-width:540px;max-width:860px;height:auto}\n"
    "table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.34em .7em;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}\n"
    "th{background:var(--tint);font-weight:600;border-bottom:1px solid #aeb6bf;vertical-align:bottom}\n"
    "td{max-width:44ch;overflow-wrap:break-word}.s{white-space:nowrap}.w{min-width:32ch}\n"
    ".n{text-align:right;white-space:nowrap}\n"
    "th.n{white-space:normal}\n"
    "tr.projected td{font-style:italic;background:#f4f1fb}tr.emulated td{background:#fdf3e7}\n"
    "tr.not_measured td{color:var(--soft)}tr.wrong td{background:#fdecea;color:#8a1c12}\n"
    "code{font:.85em/1.5 ui-monospace,'DejaVu Sans Mono',Consolas,monospace;background:var(--tint);padding:.1em .35em;border-radius:4px;"
    "overflow-wrap:anywhere}\n"
    ".again{color:var(--soft);font-size:.85rem}\n"
    "details{margin:.9em 0}summary{cursor:pointer;color:var(--blue)}\n"
    "@media (max-width:600px){main{padding:14px 12px 40px}h1{font-size:1.4rem}.tiles{grid-template-columns:1fr 1fr}.tile b{font-size:1.2rem}}\n"
    "@media print{body{font-size:11pt}main{max-width:none;padding:0}.scroll{overflow:visible}.scroll svg{min-width:0}table{font-size:8.5pt}"
    "figure,tr{break-inside:avoid}h2,h3{break-after:avoid}}\n";

void rp_escape_html(rm_strbuf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        switch (*p) {
        case '&': rm_str_add(out, "&amp;"); break;
        case '<': rm_str_add(out, "&lt;"); break;
        case '>': rm_str_add(out, "&gt;"); break;
        case '"': rm_str_add(out, "&quot;"); break;
        case '\'': rm_str_add(out, "&#39;"); break;
        default:
            /* Control characters are not allowed in a page; tabs and line ends are blanks. */
            if ((unsigned char)*p >= 32 && *p != 127) rm_str_add_n(out, p, 1);
            else rm_str_add(out, " ");
        }
    }
}

static void element(rm_strbuf *out, const char *open, const char *text, const char *close)
{
    rm_str_add(out, open);
    rp_escape_html(out, text);
    rm_str_add(out, close);
}

static const char *style_class(rp_style s)
{
    static const char *const name[] = { [RP_PLAIN] = "", [RP_MEASURED] = "measured", [RP_EMULATED] = "emulated",
                                        [RP_PROJECTED] = "projected", [RP_NOT_MEASURED] = "not_measured", [RP_WRONG] = "wrong" };
    return name[s];
}

/* Short words stay on one line and sentences get room: a wide table scrolls, so it need not be squeezed. */
static const char *cell_open(bool number, const char *text)
{
    if (number) return "<td class=\"n\">";
    size_t n = strlen(text);
    return n <= 30 ? "<td class=\"s\">" : n > 40 ? "<td class=\"w\">" : "<td>";
}

static void table(rm_strbuf *out, const rp_block *b)
{
    const rp_table *t = &b->table;
    if (b->text[0]) element(out, "<p class=\"cap\">", b->text, "</p>\n"); /* outside: a caption would scroll away with a wide table */
    element(out, b->live ? "<div class=\"scroll\" tabindex=\"0\"><table class=\"sortable\" aria-label=\"" : "<div class=\"scroll\" tabindex=\"0\"><table aria-label=\"", b->text,
            "\">\n<thead><tr>");
    for (size_t c = 0; c < t->columns; c++)
        element(out, t->column[c].number ? "<th scope=\"col\" class=\"n\">" : "<th scope=\"col\">", t->column[c].title, "</th>");
    rm_str_add(out, "</tr></thead>\n<tbody>\n");
    for (size_t r = 0; r < t->rows && (r + 1) * t->columns <= t->cells; r++) {
        rm_str_addf(out, t->style[r] == RP_PLAIN ? "<tr>" : "<tr class=\"%s\">", style_class(t->style[r]));
        for (size_t c = 0; c < t->columns; c++) {
            const char *text = t->cell[r * t->columns + c];
            element(out, cell_open(t->column[c].number, text), text, "</td>");
        }
        rm_str_add(out, "</tr>\n");
    }
    rm_str_add(out, "</tbody></table></div>\n");
}

static void tiles(rm_strbuf *out, const rp_table *t)
{
    rm_str_add(out, "<div class=\"tiles\">\n");
    for (size_t r = 0; r < t->rows && (r + 1) * 3 <= t->cells; r++) {
        element(out, "<div class=\"tile\"><span>", t->cell[r * 3], "</span>");
        element(out, "<b>", t->cell[r * 3 + 1], "</b>");
        element(out, "<span>", t->cell[r * 3 + 2], "</span></div>\n");
    }
    rm_str_add(out, "</div>\n");
}

/* A file's text, NULL when it cannot be read. */
static char *slurp(const char *dir, const char *name)
{
    rm_strbuf path = { 0 }, text = { 0 };
    char piece[8192];
    size_t n;
    rm_str_addf(&path, "%s/%s", dir, name);
    FILE *f = path.failed ? NULL : fopen(path.text, "r");
    rm_str_free(&path);
    if (!f) return NULL;
    while ((n = fread(piece, 1, sizeof piece, f)) > 0) rm_str_add_n(&text, piece, n);
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad || !text.n) rm_str_free(&text);
    return text.text;
}

/* The figure's own names (ids) repeat from figure to figure; in one page each needs a prefix. Its titles ("gnuplot_plot_1")
 * would show as tool tips: left out. */
static void add_svg(rm_strbuf *out, const char *svg, size_t number)
{
    static const char *const before[] = { "id='", "id=\"", "href='#", "href=\"#", "url(#", "url('#" };
    while (*svg) {
        size_t hit = 0, skip = strcspn(svg, "ihu<");
        rm_str_add_n(out, svg, skip);
        svg += skip;
        const char *end = strncmp(svg, "<title>", 7) ? NULL : strstr(svg, "</title>");
        if (end) {
            svg = end + strlen("</title>");
            continue;
        }
        for (size_t i = 0; i < RM_COUNT(before) && !hit; i++)
            if (!strncmp(svg, before[i], strlen(before[i]))) hit = strlen(before[i]);
        if (hit) {
            rm_str_add_n(out, svg, hit);
            rm_str_addf(out, "f%zu_", number);
            svg += hit;
        } else if (*svg) {
            rm_str_add_n(out, svg++, 1);
        }
    }
}

/* A figure of our own has no names to tell apart, and its script is in the page already. */
static void add_live_svg(rm_strbuf *out, const char *svg)
{
    const char *script = strstr(svg, "<script"), *after = script ? strstr(script, "</script>") : NULL;
    if (!after) rm_str_add(out, svg);
    else {
        rm_str_add_n(out, svg, (size_t)(script - svg));
        rm_str_add(out, after + strlen("</script>"));
    }
}

static void figure(rm_strbuf *out, const rp_block *b, const char *dir, size_t number)
{
    char *text = slurp(dir, b->file);
    const char *svg = text ? strstr(text, "<svg") : NULL;
    rm_str_add(out, "<figure>");
    if (svg && b->live) {
        rm_str_add(out, "<div class=\"live\">");
        add_live_svg(out, svg);
        rm_str_add(out, "</div>");
    } else if (svg) {
        element(out, "<div class=\"scroll\" tabindex=\"0\" role=\"img\" aria-label=\"", b->alt, "\">");
        add_svg(out, svg, number);
        rm_str_add(out, "</div>");
    } else {
        element(out, "<p class=\"note\">The figure could not be drawn. It would show: ", b->alt, "</p>");
    }
    element(out, "<figcaption>", b->text, "</figcaption></figure>\n");
    free(text);
}

static void block(rm_strbuf *out, const rp_block *b, const char *dir, size_t number)
{
    switch (b->kind) {
    case RP_HEADING: element(out, b->level <= 2 ? "<h2>" : "<h3>", b->text, b->level <= 2 ? "</h2>\n" : "</h3>\n"); break;
    case RP_LEAD: element(out, "<p class=\"lead\">", b->text, "</p>\n"); break;
    case RP_TEXT: element(out, "<p>", b->text, "</p>\n"); break;
    case RP_NOTE: element(out, "<p class=\"note\">", b->text, "</p>\n"); break;
    case RP_COMMAND: element(out, "<p class=\"again\">Reproduce: <code>", b->text, "</code></p>\n"); break;
    case RP_FOLD: element(out, "<details><summary>", b->text, "</summary>\n"); break;
    case RP_FOLD_END: rm_str_add(out, "</details>\n"); break;
    case RP_TILES: tiles(out, &b->table); break;
    case RP_TABLE: table(out, b); break;
    case RP_FIGURE: figure(out, b, dir, number); break;
    }
}

extern const struct rm_embedded { const char *name, *text; } scripts_embedded[];

/* The hash of a text as a content security policy names it: base64 of its SHA-256. */
static void add_hash(rm_strbuf *out, const char *text)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    rm_sha256 s;
    char hex[65];
    unsigned byte[33] = { 0 };
    rm_sha256_begin(&s);
    rm_sha256_add(&s, text, strlen(text));
    rm_sha256_end(&s, hex);
    for (int i = 0; i < 32; i++) sscanf(hex + 2 * i, "%2x", &byte[i]);
    rm_str_add(out, "'sha256-");
    for (int i = 0; i < 33; i += 3) {
        unsigned bits = byte[i] << 16 | byte[i + 1] << 8 | byte[i + 2];
        for (int k = 18; k >= 0 && !(i == 30 && k == 0); k -= 6) rm_str_add_n(out, &digit[bits >> k & 63], 1);
    }
    rm_str_add(out, "='");
}

/* What is live in this document: the text of the page's only script, "" when nothing is. */
static void add_scripts(rm_strbuf *out, const rp_doc *d)
{
    bool any = false;
    for (size_t i = 0; i < d->n; i++) any |= d->block[i].live;
    for (size_t i = 0; any && scripts_embedded[i].name; i++) rm_str_add(out, scripts_embedded[i].text);
}

/* The browser itself sees to it that nothing is fetched and that no script runs but ours, whatever a name in a store holds. */
static void add_policy(rm_strbuf *out, const char *script)
{
    rm_str_add(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src ");
    if (*script) add_hash(out, script);
    else rm_str_add(out, "'none'");
    rm_str_add(out, "\">\n");
}

rm_status rp_html(const rp_doc *d, const char *figure_dir, rm_strbuf *out)
{
    rm_strbuf scripts = { 0 };
    add_scripts(&scripts, d);
    const char *script = scripts.text ? scripts.text : "";
    rm_str_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    add_policy(out, script);
    rm_str_add(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light\">\n");
    element(out, "<title>", d->title ? d->title : "", "</title>\n<style>\n");
    rm_str_add(out, style);
    element(out, "</style>\n</head>\n<body>\n<main>\n<h1>", d->title ? d->title : "", "</h1>\n");
    for (size_t i = 0; i < d->n; i++) block(out, &d->block[i], figure_dir, i);
    rm_str_add(out, "</main>\n");
    if (*script) {
        rm_str_add(out, "<script>");
        rm_str_add(out, script);
        rm_str_add(out, "</script>\n");
    }
    rm_str_add(out, "</body>\n</html>\n");
    bool failed = d->failed || out->failed || scripts.failed;
    rm_str_free(&scripts);
    return failed ? rm_fail(RM_E_NOMEM, "out of memory for the report") : RM_OK;
}
