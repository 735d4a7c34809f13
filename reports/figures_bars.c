/* Stacked bars by number of devices: what a step's time is made of. */
#include "reports/figures.h"
#include "reports/plot.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct term { const char *path, *title, *colour; } term;
enum { MOST_TERMS = 8 };
static const double half = 0.31; /* of a bar's width */

double rp_ideal_step(const json_t *row) { return rp_real(row, "batch_per_device") / rp_baseline(row); }

/* A bar's edges so far: what is added grows away from zero on its own side, so that no term hides another. */
typedef struct bar { const rp_result *r; double value[MOST_TERMS], high, low; } bar;

static void term_series(rp_plot *f, bar *b, size_t n, const term *t, size_t k)
{
    bool titled = false;
    for (int measured = 1; measured >= 0; measured--) {
        size_t found = 0;
        for (size_t i = 0; i < n; i++) {
            double v = 1e3 * b[i].value[k], *edge = v > 0 ? &b[i].high : &b[i].low, from = *edge;
            if (!isfinite(v) || v == 0 || rp_measured(b[i].r) != measured) continue;
            *edge += v;
            rm_str_addf(&f->data, "%zu %.17g %.17g %.17g %.17g %.17g\n", i, from, (double)i - half, (double)i + half, fmin(from, *edge), fmax(from, *edge));
            found++;
        }
        if (!found) continue;
        rp_series(f, "using 1:2:3:4:5:6 with boxxyerror fs %s noborder lc rgb '%s' ", measured ? "solid 1" : "transparent solid 0.45", t->colour);
        rm_str_addf(&f->list, titled ? "notitle" : "title '%s'", t->title);
        titled = true;
        rp_end_block(f);
    }
}

/* The median step over each bar that is not all of it: a black stroke. */
static void step_marks(rp_plot *f, bar *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double step = 1e3 * rp_real(b[i].r->row, "step_s.median");
        if (!isfinite(step)) continue;
        b[i].high = fmax(b[i].high, step);
        rm_str_addf(&f->data, "%.17g %.17g %.17g 0\n", (double)i - 1.2 * half, step, 2.4 * half);
    }
    rp_series(f, "using 1:2:3:4 with vectors nohead lw 2.2 lc rgb '#1c2126' title 'median step'");
    rp_end_block(f);
}

static void axes(rp_plot *f, const bar *b, size_t n, bool last)
{
    double low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, b[i].low);
        high = fmax(high, b[i].high);
    }
    double pad = 0.06 * (high - low);
    rp_say(f, "set xrange [-0.6:%g]\nset yrange [%.17g:%.17g]\nset xtics scale 0 font ',%d' (", (double)n - 0.4, low < 0 ? low - pad : 0, high + pad, n > 12 ? 9 : n > 8 ? 11 : 13);
    for (size_t i = 0; last && i < n; i++) {
        bool measured = rp_measured(b[i].r);
        rp_say(f, "%s\"%s%g%s%.*s%s\" %zu", i ? ", " : "", n > 12 ? "" : "N = ", rp_real(b[i].r->row, "ranks"), measured ? "" : "\\n", n > 6 ? 4 : 12,
               measured ? "" : b[i].r->origin, measured || n <= 6 ? "" : ".", i);
    }
    rp_say(f, last ? ")\n" : "'' 0)\n");
}

/* The bars of the terms from `first` on, as one panel between two heights of the screen. */
static void bars_panel(rp_plot *f, bar *b, size_t n, const term *t, size_t first, size_t terms, double top, double bottom, bool last)
{
    rp_say(f, "set tmargin at screen %g\nset bmargin at screen %g\n", top, bottom);
    for (size_t i = 0; i < n; i++) b[i].low = b[i].high = 0;
    for (size_t k = first; k < terms; k++) term_series(f, b, n, &t[k], k);
    if (!first) step_marks(f, b, n);
    axes(f, b, n, last);
    rp_end_panel(f);
}

static const char look[] = "set multiplot\nset lmargin at screen 0.115\nset rmargin at screen 0.72\nset xzeroaxis lt 1 lw 1 lc rgb '#3a4149'\n"
                           "set key at screen 0.735, screen 0.97 left top vertical reverse Left invert maxcols 1 font ',13'\n";

enum { MOST_BARS = 32 };

static const term budget_terms[] = { { "budget_s.compute", "compute", RP_BLUE },              { "budget_s.exposed_comm", "exposed comm.", RP_PURPLE },
                                     { "budget_s.exposed_copy", "exposed copies", RP_AMBER }, { "budget_s.input_stall", "input stall", RP_SKY },
                                     { "budget_s.host", "host", "#4d5358" },                  { "budget_s.idle", "idle", "#c9ced4" } };

rm_status rp_fig_budget(const char *out_dir, const char *name, const rp_result *r, size_t n, bool *drawn)
{
    bar b[MOST_BARS] = { { 0 } };
    size_t bars = 0;
    *drawn = false;
    for (size_t i = 0; i < n && bars < MOST_BARS; i++) {
        if (!r[i].correct || isnan(rp_real(r[i].row, budget_terms[0].path))) continue;
        b[bars].r = &r[i];
        for (size_t k = 0; k < RM_COUNT(budget_terms); k++) b[bars].value[k] = rp_real(r[i].row, budget_terms[k].path);
        bars++;
    }
    if (!bars) return RM_OK;
    rp_plot f = { 0 };
    rp_say(&f, "%sset ylabel 'time in one step (ms)'\n", look);
    bars_panel(&f, b, bars, budget_terms, 0, RM_COUNT(budget_terms), 0.97, 0.13, true);
    return rp_draw(&f, out_dir, name, 0, drawn);
}

/* The colour that can be read on "#rrggbb", by its luminance. */
static int ink_on(const char *colour)
{
    long rgb = strtol(colour + 1, NULL, 16);
    double luminance = 0.30 * (double)(rgb >> 16 & 255) + 0.59 * (double)(rgb >> 8 & 255) + 0.11 * (double)(rgb & 255);
    return luminance > 140 ? 0x1c2126 : 0xffffff;
}

/* One term over all bars, and its share where it has room. */
static void lying_term(rp_plot *f, const rp_result *const *r, size_t n, const term *t, double at_ms[], double most_ms, rm_strbuf *labels)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        double ms = 1e3 * rp_real(r[i]->row, t->path), step_ms = 1e3 * rp_real(r[i]->row, "step_s.median");
        if (!(ms > 0)) continue;
        rm_str_addf(&f->data, "%.17g %zu %.17g %.17g %g %g\n", at_ms[i], i, at_ms[i], at_ms[i] + ms, (double)i - half, (double)i + half);
        if (ms > 0.06 * most_ms)
            rm_str_addf(labels, "%.17g %zu \"%.3g %%\" %d\n", at_ms[i] + ms / 2, i, 100 * ms / step_ms, ink_on(t->colour));
        at_ms[i] += ms;
        found++;
    }
    if (!found) return;
    rp_series(f, "using 1:2:3:4:5:6 with boxxyerror fs solid 1 border rgb '#ffffff' lc rgb '%s' title '%s'", t->colour, t->title);
    rp_end_block(f);
}

rm_status rp_fig_budget_bars(const char *out_dir, const char *name, const rp_result *const *r, size_t n, bool *drawn)
{
    enum { ABOVE = 62, ROW = 46, BELOW = 66 };
    double at_ms[MOST_BARS] = { 0 }, most_ms = 0;
    rm_strbuf labels = { 0 };
    rp_plot f = { 0 };
    *drawn = false;
    if (n > MOST_BARS) n = MOST_BARS;
    for (size_t i = 0; i < n; i++) most_ms = fmax(most_ms, 1e3 * rp_real(r[i]->row, "step_s.median"));
    if (!(most_ms > 0)) return RM_OK;
    int height = ABOVE + BELOW + ROW * (int)n;
    rp_say(&f, "set lmargin at screen 0.09\nset rmargin at screen 0.97\nset tmargin at screen %g\nset bmargin at screen %g\nset xrange [0:%.17g]\nset yrange [%g:-0.5]\n"
               "set key at screen 0.02, screen %g left top horizontal maxcols 6 reverse Left samplen 1.4 width 0 font ',12'\nset grid xtics noytics\n"
               "set xlabel 'time in one step (ms)' offset 0,0.3\nset ytics scale 0 (", 1 - (double)ABOVE / height, (double)BELOW / height, 1.12 * most_ms, (double)n - 0.5, 1 - 6.0 / height);
    for (size_t i = 0; i < n; i++) rp_say(&f, "%s\"N = %g\" %zu", i ? ", " : "", rp_real(r[i]->row, "ranks"), i);
    rp_say(&f, ")\n");
    for (size_t k = 0; k < RM_COUNT(budget_terms); k++) lying_term(&f, r, n, &budget_terms[k], at_ms, most_ms, &labels);
    if (labels.n) {
        rm_str_add(&f.data, labels.text);
        rp_series(&f, "using 1:2:3:4 with labels font ',12' textcolor rgb variable notitle");
        rp_end_block(&f);
    }
    for (size_t i = 0; i < n; i++) rm_str_addf(&f.data, "%.17g %zu \"%s ms\"\n", at_ms[i], i, rp_num(1e3 * rp_real(r[i]->row, "step_s.median"), 4).text);
    rp_series(&f, "using 1:2:3 with labels left offset 0.6,0 font ',12' textcolor rgb '#1c2126' notitle");
    rp_end_block(&f);
    f.data.failed |= labels.failed;
    rm_str_free(&labels);
    return rp_draw(&f, out_dir, name, height, drawn);
}

rm_status rp_fig_loss(const char *out_dir, const char *name, const rp_result *r, size_t n, bool *drawn)
{
    static const term t[] = { { NULL, "ideal step", "#d5dae0" },
                              { "loss_attribution_s.input", "input", RP_SKY },
                              { "loss_attribution_s.compute_slowdown", "compute slow-down", RP_BLUE },
                              { "loss_attribution_s.exposed_transfer", "exposed transfer", RP_PURPLE },
                              { "loss_attribution_s.straggler", "straggler", RP_ORANGE },
                              { "loss_attribution_s.unexplained", "unexplained", RP_YELLOW } };
    bar b[MOST_BARS] = { { 0 } };
    size_t bars = 0, losses = 0;
    *drawn = false;
    for (size_t i = 0; i < n && bars < MOST_BARS; i++) {
        bool alone = rp_real(r[i].row, "ranks") == 1;
        double ideal = rp_ideal_step(r[i].row), loss = rp_real(r[i].row, "loss_attribution_s.loss");
        if (isnan(ideal)) ideal = rp_real(r[i].row, "step_s.median") - (alone ? 0 : loss);
        if (!r[i].correct || !(ideal > 0) || (isnan(rp_real(r[i].row, t[RM_COUNT(t) - 1].path)) && !alone)) continue;
        b[bars].r = &r[i];
        b[bars].value[0] = ideal;
        for (size_t k = 1; k < RM_COUNT(t); k++) b[bars].value[k] = alone ? NAN : rp_real(r[i].row, t[k].path);
        losses += !alone;
        bars++;
    }
    if (!losses) return RM_OK;
    rp_plot f = { 0 };
    rp_say(&f, "%sset ylabel 'time in one step (ms)'\n", look);
    bars_panel(&f, b, bars, t, 0, RM_COUNT(t), 0.98, 0.52, false);
    rp_say(&f, "unset key\nset ylabel 'the loss alone (ms)'\n");
    bars_panel(&f, b, bars, t, 1, RM_COUNT(t), 0.46, 0.10, true);
    return rp_draw(&f, out_dir, name, 640, drawn);
}
