/* All-reduce splits: one against another, and the lanes of a step. */
#include "profiler/stats.h"
#include "reports/figures.h"
#include "reports/plot.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- names ------------------------------------------------------------------------------------------------------ */

rp_short rp_short_split(const char *split)
{
    enum { MOST = 20 };
    rp_short s;
    size_t ends = 1, second = 0;
    const char *last = strrchr(split, ',');
    if (strlen(split) <= MOST) {
        snprintf(s.text, sizeof s.text, "%s", split);
        return s;
    }
    for (const char *p = split; *p; p++) ends += *p == ',';
    for (size_t i = 0, commas = 0; split[i] && commas < 2; i++)
        if (split[i] == ',' && ++commas == 2) second = i;
    if (ends > 3 && second < 12 && strlen(last) < 12) {
        snprintf(s.text, sizeof s.text, "%.*s,…%s (%zu ends)", (int)second, split, last, ends);
        return s;
    }
    int n = MOST - 1;
    while (n > 0 && ((unsigned char)split[n] & 0xc0) == 0x80) n--; /* not within a character */
    snprintf(s.text, sizeof s.text, "%.*s…", n, split);
    return s;
}

/* ---- split by split --------------------------------------------------------------------------------------------- */

enum { ROW = 21, ABOVE = 112, BELOW = 64 }; /* heights */
static const double panel_from[2] = { 0, 0.665 }, panel_to[2] = { 0.625, 0.975 };

static bool slower(const rp_result *r) { return !json_is_true(rp_at(r->row, "best")) && json_is_true(rp_at(r->row, "distinguishable")); }

/* Rows of one origin; a measured one is filled, any other hollow and named. Distinguishable from the best: grey. */
static void step_series(rp_plot *f, const rp_result *const *r, size_t n, const char *origin, const char *point)
{
    for (int grey = 0; grey <= 1; grey++) {
        size_t found = 0;
        for (size_t i = 0; i < n; i++) {
            double t = 1e3 * rp_real(r[i]->row, "step_s.median"), low = 1e3 * rp_real(r[i]->row, "step_s_low"), high = 1e3 * rp_real(r[i]->row, "step_s_high");
            if (strcmp(r[i]->origin, origin) || slower(r[i]) != grey) continue;
            rm_str_addf(&f->data, "%.17g %zu %.17g %.17g\n", t, i + 1, isfinite(low) ? low : t, isfinite(high) ? high : t);
            found++;
        }
        if (!found) continue;
        bool measured = !strcmp(origin, "measured");
        rp_series(f, "using 1:2:3:4 with xerrorbars %s lw 1.6 lc rgb '%s' title '%s%s%s'", point, grey ? RP_GREY : RP_BLUE,
                  grey ? "slower than the best" : "best, or not distinguishable from it", measured ? "" : ", ", measured ? "" : origin);
        rp_end_block(f);
    }
}

/* The axis of a panel: what lies on it, a little room, and some five ticks at round places. */
static void axis(rp_plot *f, double low, double high)
{
    double room = high > low ? 0.05 * (high - low) : fmax(0.01 * fabs(high), 0.01), from = low < 0 || low > 0 ? low - room : 0, to = high + room;
    double raw = (to - from) / 5, unit = pow(10, floor(log10(raw))), step = raw <= unit ? unit : raw <= 2 * unit ? 2 * unit : raw <= 5 * unit ? 5 * unit : 10 * unit;
    rp_say(f, "set xrange [%.17g:%.17g]\nset xtics %.17g font ',12'\n", from, to, step);
}

/* What lies within reach of the panel: one split far off (a bucket a layer, say) must not press all others into a corner. Beyond
 * `cap` a row is an arrow with its number. */
typedef struct reach { double low, high, cap; } reach;

static reach reach_of(const rp_result *const *r, size_t n, const char *main, const char *const *path, size_t paths, bool zero)
{
    reach e = { zero ? 0 : INFINITY, zero ? 0 : -INFINITY, INFINITY };
    double v[256] = { 0 }, usual;
    size_t k = 0;
    for (size_t i = 0; i < n && k < RM_COUNT(v); i++)
        if (isfinite(rp_real(r[i]->row, main))) v[k++] = 1e3 * rp_real(r[i]->row, main);
    usual = rm_quantile(v, k, 0.8) - rm_quantile(v, k, 0);
    if (k >= 5 && usual > 0 && rm_quantile(v, k, 1) > rm_quantile(v, k, 0) + 3 * usual) e.cap = rm_quantile(v, k, 0) + 2 * usual;
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < paths; p++) {
            double x = 1e3 * rp_real(r[i]->row, path[p]);
            if (isnan(x)) continue;
            e.low = fmin(e.low, x);
            e.high = fmax(e.high, fmin(x, e.cap));
        }
    return e;
}

static void beyond(rp_plot *f, const rp_result *const *r, size_t n, const char *path, const reach *e, const char *colour)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        double x = 1e3 * rp_real(r[i]->row, path);
        if (!(x > e->cap)) continue;
        rm_str_addf(&f->data, "%.17g %zu \"%s \u2192\"\n", e->high, i + 1, rp_num(x, 3).text);
        found++;
    }
    if (!found) return;
    rp_series(f, "using 1:2:3 with labels right offset 0.4,0 font ',11' textcolor rgb '%s' notitle", colour);
    rp_end_block(f);
}

/* A value that hardly depends on the split, as a line from row to row. */
static void reference(rp_plot *f, const rp_result *const *r, size_t n, const char *path, const char *look, const char *title)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        double v = 1e3 * rp_real(r[i]->row, path);
        if (!isfinite(v)) continue;
        rm_str_addf(&f->data, "%.17g %.17g\n%.17g %.17g\n", v, (double)i + 0.5, v, (double)i + 1.5);
        found++;
    }
    if (!found) return;
    rp_series(f, "using 1:2 with lines lw 1.8 %s title '%s'", look, title);
    rp_end_block(f);
}

static void exposed_series(rp_plot *f, const rp_result *const *r, size_t n)
{
    bool titled = false;
    for (int measured = 1; measured >= 0; measured--) {
        size_t found = 0;
        for (size_t i = 0; i < n; i++) {
            double v = 1e3 * rp_real(r[i]->row, "exposed_comm_s");
            if (!isfinite(v) || rp_measured(r[i]) != measured) continue;
            rm_str_addf(&f->data, "%.17g %zu 0 %.17g %.17g %.17g\n", v, i + 1, v, (double)i + 0.72, (double)i + 1.28);
            found++;
        }
        if (!found) continue;
        rp_series(f, "using 1:2:3:4:5:6 with boxxyerror fs %s noborder lc rgb '" RP_PURPLE "' ", measured ? "solid 1" : "transparent solid 0.45");
        rm_str_addf(&f->list, titled ? "notitle" : "title 'exposed'");
        titled = true;
        rp_end_block(f);
    }
}

static void cost_series(rp_plot *f, const rp_result *const *r, size_t n)
{
    bool titled = false;
    for (int measured = 1; measured >= 0; measured--) {
        size_t found = 0;
        for (size_t i = 0; i < n; i++) {
            double v = 1e3 * rp_real(r[i]->row, "comm_cost_s"), low = 1e3 * rp_real(r[i]->row, "comm_cost_s_low"), high = 1e3 * rp_real(r[i]->row, "comm_cost_s_high");
            if (!isfinite(v) || rp_measured(r[i]) != measured) continue;
            rm_str_addf(&f->data, "%.17g %zu %.17g %.17g\n", v, i + 1, isfinite(low) ? low : v, isfinite(high) ? high : v);
            found++;
        }
        if (!found) continue;
        rp_series(f, "using 1:2:3:4 with xerrorbars pt %s lw 1.6 lc rgb '" RP_ORANGE "' %s", measured ? "13 ps 0.7" : "12 ps 0.9", titled ? "notitle" : "title 'cost: step less its off twin'");
        titled = true;
        rp_end_block(f);
    }
}

/* Left edge of the panels: room for the longest name. */
static double left_of(const rp_result *const *r, size_t n)
{
    size_t longest = 8;
    for (size_t i = 0; i < n; i++) {
        rp_short s = rp_short_split(rp_string(r[i]->row, "split") ? rp_string(r[i]->row, "split") : r[i]->key);
        longest = strlen(s.text) > longest ? strlen(s.text) : longest;
    }
    return (28 + 6.9 * (double)(longest + 4)) / RP_WIDTH;
}

static void names(rp_plot *f, const rp_result *const *r, size_t n)
{
    rp_say(f, "set ytics scale 0 font ',11' (");
    for (size_t i = 0; i < n; i++) {
        char text[96];
        const char *split = rp_string(r[i]->row, "split");
        snprintf(text, sizeof text, "%s  %zu", rp_short_split(split ? split : r[i]->key).text, i + 1);
        rp_say(f, "%s", i ? ", " : "");
        rp_quoted(f, text);
        rp_say(f, " %zu", i + 1);
    }
    rp_say(f, ")\n");
}

static void panel(rp_plot *f, double left, int which, size_t n, int height)
{
    double from = which ? panel_from[which] : left;
    rp_say(f, "set lmargin at screen %g\nset rmargin at screen %g\nset tmargin at screen %g\nset bmargin at screen %g\nset yrange [%g:0.4]\n"
              "set key at screen %g, screen %g left top vertical maxcols 1 reverse Left samplen 2 spacing 1.1 font ',12'\nset grid xtics noytics\n",
           from, panel_to[which], 1 - (double)ABOVE / height, (double)BELOW / height, (double)n + 0.6, which ? from - 0.01 : 0.02, 1 - 8.0 / height);
}

rm_status rp_fig_splits(const char *out_dir, const char *name, const rp_result *const *r, size_t n, bool *drawn)
{
    rp_plot f = { 0 };
    int height = ABOVE + BELOW + ROW * (int)(n < 4 ? 4 : n);
    static const char *const step[] = { "step_s.median", "step_s_low", "step_s_high", "off_step_s", "bound_s" };
    static const char *const comm[] = { "exposed_comm_s", "comm_cost_s", "comm_cost_s_low", "comm_cost_s_high" };
    double left = left_of(r, n);
    *drawn = false;
    if (!n) return RM_OK;
    rp_say(&f, "set multiplot\n");
    panel(&f, left, 0, n, height);
    names(&f, r, n);
    reach e = reach_of(r, n, step[0], step, RM_COUNT(step), false);
    axis(&f, e.low, e.high);
    rp_say(&f, "set xlabel 'step time (ms)' offset 0,0.3\n");
    step_series(&f, r, n, "measured", "pt 7 ps 0.7");
    step_series(&f, r, n, "emulated", "pt 8 ps 0.9");
    step_series(&f, r, n, "projected", "pt 4 ps 0.8");
    reference(&f, r, n, "off_step_s", "dt 2 lc rgb '" RP_GREY "'", "all-reduce off (twin)");
    reference(&f, r, n, "bound_s", "dt 4 lc rgb '" RP_GREEN "'", "lower bound of any split");
    beyond(&f, r, n, step[0], &e, RP_GREY);
    rp_end_panel(&f);
    panel(&f, left, 1, n, height);
    e = reach_of(r, n, comm[0], comm, RM_COUNT(comm), true);
    axis(&f, e.low, e.high);
    rp_say(&f, "unset ytics\nset xlabel 'communication in one step (ms)'\nset yzeroaxis lt 1 lw 1 lc rgb '#3a4149'\n");
    exposed_series(&f, r, n);
    cost_series(&f, r, n);
    beyond(&f, r, n, comm[0], &e, rp_measured(r[0]) ? "#ffffff" : "#1c2126");
    rp_end_panel(&f);
    rp_say(&f, "unset multiplot\n");
    return rp_draw(&f, out_dir, name, height, drawn);
}

/* ---- lanes of a step -------------------------------------------------------------------------------------------- */

static const struct { double low, high; } lane[] = { { 1.45, 2.05 }, { 0.2, 0.8 } }; /* compute, all-reduce */
enum { COMPUTE, ALL_REDUCE, KEY = 30, PANEL = 186, TITLE = 36, AXIS = 36, LABEL = 30 };

static void box(rp_plot *f, int which, double from_s, double to_s)
{
    if (to_s > from_s)
        rm_str_addf(&f->data, "%.17g %g %.17g %.17g %g %g\n", 1e3 * from_s, lane[which].low, 1e3 * from_s, 1e3 * to_s, lane[which].low, lane[which].high);
}

static void boxes(rp_plot *f, const char *colour, const char *title, double line)
{
    rp_series(f, "using 1:2:3:4:5:6 with boxxyerror fs solid 1 border rgb '#ffffff' lw %g lc rgb '%s' title '%s'", line, colour, title);
    rp_end_block(f);
}

static void compute_lane(rp_plot *f, const json_t *g, double last_end)
{
    double forward = rp_real(g, "forward_end_s"), backward = rp_real(g, "backward_end_s"), step = rp_real(g, "step_s");
    box(f, COMPUTE, 0, forward);
    boxes(f, RP_BLUE, "forward", 1);
    box(f, COMPUTE, forward, backward);
    boxes(f, RP_ORANGE, "backward", 1);
    box(f, COMPUTE, fmax(backward, last_end), step);
    boxes(f, RP_GREEN, "update", 1);
}

/* Boxes of the buckets; above each a tick where its last gradient was ready, and a line from there to its start, unless there are
 * so many that they would run together. */
static void bucket_lane(rp_plot *f, const json_t *buckets, double axis_s)
{
    size_t i, n = json_array_size(buckets);
    bool many = n > 40;
    json_t *b;
    json_array_foreach(buckets, i, b) box(f, ALL_REDUCE, rp_real(b, "start_s"), rp_real(b, "end_s"));
    boxes(f, RP_PURPLE, "bucket", many ? 0.3 : 1);
    json_array_foreach(buckets, i, b) {
        double ready = 1e3 * rp_real(b, "ready_s"), start = 1e3 * rp_real(b, "start_s");
        if (!isfinite(ready)) continue;
        rm_str_addf(&f->data, "%.17g 1.3\n%.17g 1.1\n", ready, ready);
        if (!many) rm_str_addf(&f->data, "%.17g %g\n", isfinite(start) ? start : ready, lane[ALL_REDUCE].high);
        rm_str_add(&f->data, "\n");
    }
    rp_series(f, "using 1:2 with lines lw %g lc rgb '#1c2126' title 'ready'", many ? 0.5 : 1.4);
    rp_end_block(f);
    size_t labels = 0;
    json_array_foreach(buckets, i, b) {
        double from = rp_real(b, "start_s"), to = rp_real(b, "end_s");
        if (!(to - from > (i < 9 ? 0.018 : 0.032) * axis_s)) continue; /* room for its number */
        rm_str_addf(&f->data, "%.17g 0.5 %zu\n", 500 * (from + to), i + 1);
        labels++;
    }
    if (!labels) return;
    rp_series(f, "using 1:2:3 with labels font ',11' textcolor rgb '#ffffff' notitle");
    rp_end_block(f);
}

static void gantt_panel(rp_plot *f, const json_t *g, const char *title, double axis_s)
{
    const json_t *buckets = rp_at(g, "buckets");
    double last_end = 0;
    size_t i;
    json_t *b;
    json_array_foreach(buckets, i, b) last_end = fmax(last_end, rp_real(b, "end_s"));
    rp_say(f, "set title ");
    rp_quoted(f, title);
    rp_say(f, " font ',13' textcolor rgb '#1c2126' offset 0,-0.5\n");
    compute_lane(f, g, last_end);
    bucket_lane(f, buckets, axis_s);
    rp_end_panel(f);
}

rm_status rp_fig_gantt(const char *out_dir, const char *name, const rp_result *const *r, const char *const *titles, size_t n, bool *drawn)
{
    rp_plot f = { 0 };
    size_t panels = 0, at = 0;
    double longest = 0;
    *drawn = false;
    for (size_t i = 0; i < n; i++) {
        double step = rp_real(r[i]->row, "gantt.step_s");
        panels += step > 0;
        longest = fmax(longest, step);
    }
    if (!panels) return RM_OK;
    int height = KEY + PANEL * (int)panels + LABEL;
    rp_say(&f, "set multiplot\nset lmargin at screen 0.115\nset rmargin at screen 0.975\nset xrange [0:%.17g]\nset yrange [0:2.25]\n"
               "set ytics scale 0 ('compute' 1.75, 'all-reduce' 0.5)\nset grid xtics noytics\nset xtics font ',12'\n"
               "set key at screen 0.02, screen %g left top horizontal maxcols 5 reverse Left samplen 1.6 width 1 font ',12'\n", 1.02e3 * longest, 1 - 6.0 / height);
    for (size_t i = 0; i < n; i++) {
        if (!(rp_real(r[i]->row, "gantt.step_s") > 0)) continue;
        rp_say(&f, "set tmargin at screen %g\nset bmargin at screen %g\n", 1 - (KEY + PANEL * (double)at + TITLE) / height, 1 - (KEY + PANEL * (double)(at + 1) - AXIS) / height);
        if (at++) rp_say(&f, "unset key\n");
        if (at == panels) rp_say(&f, "set xlabel 'time since the step began (ms)' offset 0,0.3\n");
        gantt_panel(&f, rp_at(r[i]->row, "gantt"), titles[i], longest);
    }
    rp_say(&f, "unset multiplot\n");
    return rp_draw(&f, out_dir, name, height, drawn);
}
