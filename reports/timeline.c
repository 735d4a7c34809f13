/* The timeline of one step as SVG of our own: a lane a queue or thread of each rank, a rectangle a span. timeline.js makes it zoom; without it, or outside a
 * browser, it is a picture. Spans are drawn in microseconds in an inner svg whose viewBox is the window of time shown. */
#include "reports/figures.h"
#include "reports/doc.h"
#include "reports/file.h"
#include "reports/gnuplot.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDE = 1000,
    LEFT = 112,
    RIGHT = 12,
    KEY_ROW = 20,
    GAP = 8,
    HEAD = 22,
    LANE = 22,
    SUB = 15,
    BETWEEN = 3,
    BELOW = 56,
    MOST_RANKS = 8,
    MOST_SPANS = 40000,
    MOST_ROWS = 6
};
static const double LETTER = 6.2; /* about a letter's width in the 11 px font, as timeline.js has it */

/* As stored, for people, fill, and the colour of a name on it. */
static const struct {
    const char *class, *title, *fill, *ink;
} kind[] = {
    { "fwd", "forward", RP_BLUE, "#fff" },      { "bwd", "backward", RP_ORANGE, "#fff" },       { "weights", "weight copies", RP_YELLOW, "#1c2126" },
    { "update", "update", RP_GREEN, "#fff" },   { "comm", "communication", RP_PURPLE, "#fff" }, { "copy", "copies", RP_AMBER, "#1c2126" },
    { "input", "input", RP_SKY, "#1c2126" },    { "host", "host", "#4d5358", "#fff" },          { "step-part", "part of the step", "#d5dae0", "#1c2126" },
    { "other", "other", "#9aa3ab", "#1c2126" },
};
enum { KINDS = RM_COUNT(kind) };

typedef struct span {
    double begin_us, us;
    const char *text;
    int kind, row;
    size_t order;
} span;
enum { NAME = 15, HOST = 60 }; /* bytes of a lane's and of a host's name */
typedef struct lane {
    char name[NAME + 4];
    span *span;
    size_t n;
    int rows;
    double top;
} lane;
typedef struct picture {
    rm_strbuf out;
    double step_us, y;
    bool used[KINDS];
    size_t spans, left_out;
} picture;

/* ---- spans ------------------------------------------------------------------------------------------------------ */

static int kind_of(const char *class)
{
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(class, kind[i].class)) return i;
    return KINDS - 1;
}

/* [begin_ns, dur_ns, "text", "class"], false when it is none or lies outside of the step. */
static bool read_span(const json_t *v, double step_us, span *out)
{
    const json_t *begin = json_array_get(v, 0), *ns = json_array_get(v, 1);
    const char *text = json_string_value(json_array_get(v, 2)), *class = json_string_value(json_array_get(v, 3));
    if (!json_is_number(begin) || !json_is_number(ns) || !text || !class) return false;
    double from = 1e-3 * json_number_value(begin), to = from + 1e-3 * json_number_value(ns);
    from = fmax(from, 0);
    to = fmin(to, step_us);
    *out = (span) { .begin_us = from, .us = to - from, .text = text, .kind = kind_of(class) };
    return to > from;
}

static int earlier_first(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin_us != y->begin_us) return x->begin_us < y->begin_us ? -1 : 1;
    if (x->us != y->us) return x->us > y->us ? -1 : 1; /* what holds the others comes first */
    return x->order < y->order ? -1 : 1;
}

/* Spans that overlap go below each other: each in the first row that is free when it begins. */
static void assign_rows(lane *l)
{
    double free_at[MOST_ROWS] = { 0 };
    l->rows = 1;
    for (size_t i = 0; i < l->n; i++) {
        int row = 0;
        while (row < MOST_ROWS - 1 && free_at[row] > l->span[i].begin_us + 1e-3) row++;
        l->span[i].row = row;
        free_at[row] = fmax(free_at[row], l->span[i].begin_us + l->span[i].us);
        if (row >= l->rows) l->rows = row + 1;
    }
}

static rm_status read_lane(picture *p, const json_t *v, lane *out)
{
    const json_t *spans = rp_at(v, "spans");
    const char *name = rp_string(v, "name");
    size_t i, n = json_array_size(spans);
    json_t *s;
    lane l = { .n = 0 };
    rp_cut(l.name, NAME, name ? name : "");
    l.span = calloc(n ? n : 1, sizeof *l.span);
    if (!l.span) return rm_fail(RM_E_NOMEM, "out of memory for the timeline");
    json_array_foreach(spans, i, s)
    {
        if (p->spans >= MOST_SPANS || !read_span(s, p->step_us, &l.span[l.n])) {
            p->left_out++;
            continue;
        }
        l.span[l.n].order = i;
        p->used[l.span[l.n].kind] = true;
        p->spans++;
        l.n++;
    }
    qsort(l.span, l.n, sizeof *l.span, earlier_first);
    assign_rows(&l);
    *out = l;
    return RM_OK;
}

/* ---- drawing ---------------------------------------------------------------------------------------------------- */

static void text_at(rm_strbuf *out, const char *class, double x, double y, const char *text)
{
    rm_str_addf(out, "<text class=\"%s\" x=\"%.6g\" y=\"%.6g\">", class, x, y);
    rp_escape_html(out, text);
    rm_str_add(out, "</text>\n");
}

static double row_top(const lane *l, int row) { return l->top + (l->rows > 1 ? row * SUB : 0); }
static double row_high(const lane *l) { return l->rows > 1 ? SUB - 1 : LANE; }

static void draw_spans(rm_strbuf *out, const lane *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const span *s = &l->span[i];
        rm_str_addf(out, "<rect class=\"%s%s\" x=\"%.3f\" y=\"%g\" width=\"%.3f\" height=\"%g\"><title>", kind[s->kind].class, i % 2 ? " odd" : "", s->begin_us,
                    row_top(l, s->row), s->us, row_high(l));
        rp_escape_html(out, s->text);
        rm_str_addf(out, "\n%s: %.3f ms, begins at %.3f ms</title></rect>\n", kind[s->kind].title, 1e-3 * s->us, 1e-3 * s->begin_us);
    }
}

/* The names that fit, as timeline.js puts them at the same width. */
static void draw_labels(rm_strbuf *out, const lane *l, double step_us)
{
    for (size_t i = 0; i < l->n; i++) {
        const span *s = &l->span[i];
        double scale = (WIDE - LEFT - RIGHT) / step_us, room = (s->us * scale - 6) / LETTER;
        if (room < (double)strlen(s->text)) continue;
        text_at(out, kind[s->kind].class, LEFT + (s->begin_us + s->us / 2) * scale, row_top(l, s->row) + row_high(l) / 2 + 4, s->text);
    }
}

/* Steps of 1, 2 or 5, about nine of them. */
static void draw_axis(rm_strbuf *out, double step_us, double high)
{
    double rough = step_us / 9.2, power = pow(10, floor(log10(rough))),
           gap = rough <= power       ? power
                 : rough <= 2 * power ? 2 * power
                 : rough <= 5 * power ? 5 * power
                                      : 10 * power;
    int places = (int)fmax(0, -floor(log10(gap / 1e3) + 1e-9));
    for (int k = 0; k * gap <= step_us * (1 + 1e-9); k++) {
        double x = LEFT + k * gap / step_us * (WIDE - LEFT - RIGHT);
        char number[32];
        snprintf(number, sizeof number, "%.*f", places, 1e-3 * k * gap);
        rm_str_addf(out, "<line x1=\"%.6g\" x2=\"%.6g\" y1=\"0\" y2=\"%g\"/>", x, x, high);
        text_at(out, "tick", x, high + 16, number);
    }
}

static double draw_key(rm_strbuf *out, const bool used[KINDS])
{
    double x = 0, row = 0;
    rm_str_add(out, "<g class=\"key\">\n");
    for (int i = 0; i < KINDS; i++) {
        double wide = 30 + 7 * (double)strlen(kind[i].title);
        if (!used[i]) continue;
        if (x > 0 && x + wide > WIDE) x = 0, row++;
        rm_str_addf(
            out,
            "<g data-width=\"%g\" transform=\"translate(%g,%g)\"><rect class=\"%s\" y=\"4\" width=\"12\" height=\"12\"/><text x=\"17\" y=\"14\">%s</text></g>\n",
            wide, x, row * KEY_ROW, kind[i].class, kind[i].title);
        x += wide;
    }
    rm_str_add(out, "</g>\n");
    return (row + 1) * KEY_ROW + GAP;
}

static void draw_style(rm_strbuf *out)
{
    rm_str_add(
        out,
        "<style>.tl{background:#fff;font:12px 'DejaVu Sans',Arial,Helvetica,sans-serif}.tl:focus-visible{outline:2px solid #0b5fa5;outline-offset:2px}.tl text{fill:#3a4149}"
        ".tl .head{font-weight:600;fill:#1c2126}.tl .lane{text-anchor:end}.tl .tick,.tl .axis text,.tl .unit,.tl .hint,.tl .labels{text-anchor:middle}"
        ".tl .hint{fill:#57606a;font-size:11px}.tl .labels{font-size:11px;pointer-events:none}.tl .axis line{stroke:#e1e5e9}.tl .band{fill:#f5f7f9}.tl .odd{fill-opacity:.78}"
        ".tl .plot rect:hover{stroke:#1c2126;stroke-width:2;vector-effect:non-scaling-stroke}");
    for (int i = 0; i < KINDS; i++) rm_str_addf(out, ".tl rect.%s{fill:%s}.tl .labels .%s{fill:%s}", kind[i].class, kind[i].fill, kind[i].class, kind[i].ink);
    rm_str_add(out, "</style>\n");
}

/* ---- the picture ------------------------------------------------------------------------------------------------ */

typedef struct rank {
    char title[HOST + 64];
    double top;
    lane *lane;
    size_t n;
} rank;

static void free_ranks(rank *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < r[i].n; k++) free(r[i].lane[k].span);
        free(r[i].lane);
    }
}

/* Reads the lanes of a rank that hold anything, and gives them their heights. */
static rm_status read_rank(picture *p, const json_t *v, rank *out)
{
    const json_t *lanes = rp_at(v, "lanes"), *l;
    const char *host = rp_string(v, "host");
    size_t n = json_array_size(lanes);
    *out = (rank) { .top = p->y, .lane = calloc(n ? n : 1, sizeof *out->lane) };
    if (!out->lane) return rm_fail(RM_E_NOMEM, "out of memory for the timeline");
    char at_host[HOST + 4];
    rp_cut(at_host, HOST, host ? host : "");
    snprintf(out->title, sizeof out->title, "rank %s%s%s", rp_num(rp_real(v, "rank"), 6).text, at_host[0] ? ", " : "", at_host);
    p->y += HEAD;
    for (size_t i = 0; i < n && (l = json_array_get(lanes, i)); i++) {
        lane *at = &out->lane[out->n];
        RM_TRY(read_lane(p, l, at));
        if (!at->n) {
            free(at->span);
            continue;
        }
        at->top = p->y;
        p->y += (at->rows > 1 ? at->rows * SUB : LANE) + BETWEEN;
        out->n++;
    }
    p->y += GAP;
    return RM_OK;
}

static void draw_ranks(picture *p, const rank *r, size_t n)
{
    double high = p->y;
    rm_str_addf(&p->out, "<g class=\"bands\">\n");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < r[i].n; k++)
            rm_str_addf(&p->out, "<rect class=\"band\" x=\"%d\" y=\"%g\" width=\"%d\" height=\"%g\"/>", LEFT, r[i].lane[k].top, WIDE - LEFT - RIGHT,
                        r[i].lane[k].rows > 1 ? r[i].lane[k].rows * SUB - 1.0 : LANE);
    rm_str_add(&p->out, "\n</g>\n<g class=\"axis\">\n");
    draw_axis(&p->out, p->step_us, high);
    rm_str_add(&p->out, "</g>\n");
    for (size_t i = 0; i < n; i++) {
        text_at(&p->out, "head", 4, r[i].top + 15, r[i].title);
        for (size_t k = 0; k < r[i].n; k++) text_at(&p->out, "lane", LEFT - 8, r[i].lane[k].top + row_high(&r[i].lane[k]) / 2 + 4, r[i].lane[k].name);
    }
    rm_str_addf(&p->out, "<svg class=\"plot\" x=\"%d\" y=\"0\" width=\"%d\" height=\"%g\" viewBox=\"0 0 %.3f %g\" preserveAspectRatio=\"none\">\n", LEFT,
                WIDE - LEFT - RIGHT, high, p->step_us, high);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < r[i].n; k++) draw_spans(&p->out, &r[i].lane[k]);
    rm_str_add(&p->out, "</svg>\n<g class=\"labels\">\n");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < r[i].n; k++) draw_labels(&p->out, &r[i].lane[k], p->step_us);
    rm_str_add(&p->out, "</g>\n");
    text_at(&p->out, "unit", (LEFT + WIDE - RIGHT) / 2.0, high + 34, "time since the step began (ms)");
    text_at(&p->out, "hint", (LEFT + WIDE - RIGHT) / 2.0, high + 51, "");
}

extern const struct rm_embedded {
    const char *name, *text;
} scripts_embedded[];

static const char *script(void)
{
    for (size_t i = 0; scripts_embedded[i].name; i++)
        if (!strcmp(scripts_embedded[i].name, "timeline.js")) return scripts_embedded[i].text;
    return "";
}

static void draw_whole(picture *p, const rank *r, size_t n)
{
    rm_strbuf key = { 0 };
    double body = draw_key(&key, p->used), tall = body + p->y + BELOW;
    rm_str_addf(
        &p->out,
        "<svg class=\"tl\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %g\" width=\"%d\" height=\"%g\" role=\"img\" data-us=\"%.3f\" data-below=\"%d\""
        " aria-label=\"Timeline of one step: a lane for each queue and thread of each rank\">\n",
        WIDE, tall, WIDE, tall, p->step_us, BELOW);
    draw_style(&p->out);
    rm_str_add(&p->out, key.text ? key.text : "");
    p->out.failed |= key.failed;
    rm_str_free(&key);
    rm_str_addf(&p->out, "<g class=\"body\" transform=\"translate(0,%g)\">\n", body);
    draw_ranks(p, r, n);
    rm_str_addf(&p->out, "</g>\n<script><![CDATA[\n%s]]></script>\n</svg>\n", script());
}

rm_status rp_fig_timeline(const char *out_dir, const char *name, const rp_result *r, bool *drawn, rp_left_out *out_left)
{
    const json_t *ranks = rp_at(r->row, "timeline.ranks");
    picture p = { .step_us = 1e6 * rp_real(r->row, "timeline.step_s") };
    rank at[MOST_RANKS] = { 0 };
    size_t n = json_array_size(ranks), shown = 0;
    char file[96];
    rm_status st = RM_OK;
    *drawn = false;
    *out_left = (rp_left_out) { .ranks = n > MOST_RANKS ? n - MOST_RANKS : 0 };
    if (!(p.step_us > 0) || !isfinite(p.step_us)) return RM_OK;
    for (; shown < n && shown < MOST_RANKS; shown++) RM_TRY_GOTO(st, read_rank(&p, json_array_get(ranks, shown), &at[shown]), out);
    if (!p.spans) goto out;
    draw_whole(&p, at, shown);
    if (p.out.failed) RM_TRY_GOTO(st, rm_fail(RM_E_NOMEM, "out of memory for the timeline"), out);
    snprintf(file, sizeof file, "%s.svg", name);
    RM_TRY_GOTO(st, rp_write_whole(out_dir, file, &p.out), out);
    out_left->spans = p.left_out;
    *drawn = true;
out:
    free_ranks(at, shown < MOST_RANKS ? shown + 1 : shown);
    rm_str_free(&p.out);
    return st;
}
