/* Scatter plots of bench profile: the roofline, and measured against predicted slopes. */
#include "reports/figures.h"
#include "reports/plot.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names beside the plot --------------------------------------------------------------------------------------- */

/* A point (in the axes' units) that gets a name at the right; height: its place from 0 (bottom) to 1 (top). */
typedef struct named {
    double x, y, height, weight;
    char text[96];
} named;

static int heavier_first(const void *a, const void *b)
{
    const named *x = a, *y = b;
    return (x->weight < y->weight) - (x->weight > y->weight);
}

static int higher_first(const void *a, const void *b)
{
    const named *x = a, *y = b;
    return (x->height < y->height) - (x->height > y->height);
}

enum { KEY_ROW = 22, ABOVE = 12, BELOW = 80 };

/* At the right of the plot: the titles of everything plotted so far, and below them the names of the `most` heaviest of p: (n, reordered), each at its point's
 * height where that is free, with a thin line to the point. height: of the figure, px. */
static void beside(rp_plot *f, named *p, size_t n, size_t most, int height)
{
    const double apart = 17.0 / (height - ABOVE - BELOW);
    double at = 1 - (KEY_ROW * (double)f->blocks + 10) / (height - ABOVE - BELOW) + apart; /* every block has its title */
    rp_say(f,
           "set lmargin at screen 0.12\nset rmargin at screen 0.685\nset tmargin at screen %g\nset bmargin at screen %g\n"
           "set key at screen 0.69, screen %g left top vertical maxcols 1 reverse Left samplen 2 font ',12'\n",
           1 - (double)ABOVE / height, (double)BELOW / height, 1 - (double)ABOVE / height);
    qsort(p, n, sizeof *p, heavier_first);
    if (n > most) n = most;
    qsort(p, n, sizeof *p, higher_first);
    for (size_t i = 0; i < n; i++) {
        at = fmin(at - apart, fmax(p[i].height, (double)(n - 1 - i) * apart));
        rp_say(f, "set arrow from first %.9g,%.9g to graph 1.018, graph %.4f nohead lw 0.7 lc rgb '#8a929a' back\nset label ", p[i].x, p[i].y, at);
        rp_quoted(f, p[i].text);
        rp_say(f, " at graph 1.025, graph %.4f left font ',11' textcolor rgb '#1c2126'\n", at);
    }
}

/* ---- roofline ---------------------------------------------------------------------------------------------------- */

typedef struct extent {
    double low_x, high_x, low_y, high_y;
} extent;

/* An op with a bound, computed in a number type that the processor has. */
static bool on_roofline(const json_t *layer, double *out_x, double *out_y)
{
    const char *impl = rp_string(layer, "impl"), *limit = rp_string(layer, "bound_limit");
    double flops = rp_real(layer, "flops"), bytes = rp_real(layer, "bytes"), s = rp_real(layer, "time_s");
    if (!limit || !(flops > 0) || !(bytes > 0) || !(s > 0) || (impl && strstr(impl, "emulated"))) return false;
    *out_x = flops / bytes;
    *out_y = 1e-9 * flops / s;
    return true;
}

static void reach(extent *e, double x, double y)
{
    e->low_x = fmin(e->low_x, x);
    e->high_x = fmax(e->high_x, x);
    e->low_y = fmin(e->low_y, y);
    e->high_y = fmax(e->high_y, y);
}

static double height_of(const extent *e, double y) { return log(y / e->low_y) / log(e->high_y / e->low_y); }

static void points(rp_plot *f, const json_t *layers)
{
    for (int pass = 0; rp_passes[pass].pass; pass++) {
        size_t i, found = 0;
        json_t *layer;
        json_array_foreach(layers, i, layer)
        {
            double x, y;
            if (rp_pass_of(layer) != pass || !on_roofline(layer, &x, &y)) continue;
            rm_str_addf(&f->data, "%.17g %.17g\n", x, y);
            found++;
        }
        if (!found) continue;
        rp_series(f, "using 1:2 with points pt 7 ps 0.75 lc rgb '%s' title '%s'", rp_passes[pass].colour, rp_passes[pass].title);
        rp_end_block(f);
    }
}

static size_t gather(const json_t *layers, named *out, extent *e)
{
    size_t i, n = 0;
    json_t *layer;
    json_array_foreach(layers, i, layer)
    {
        named p = { .weight = rp_real(layer, "time_s") };
        const char *name = rp_string(layer, "name");
        if (!on_roofline(layer, &p.x, &p.y)) continue;
        char text[28];
        rp_cut(text, sizeof text - 3, name ? name : "?");
        snprintf(p.text, sizeof p.text, "%s %s, %s ms", text, rp_passes[rp_pass_of(layer)].pass, rp_num(1e3 * p.weight, 3).text); /* short: titles would not fit beside the plot */
        reach(e, p.x, p.y);
        out[n++] = p;
    }
    return n;
}

/* Slanted lines of the levels up to the highest roof. */
static void levels(rp_plot *f, const json_t *row, double most, const extent *e)
{
    static const char *const dash[] = { "dt 1", "dt 2", "dt 4", "dt 3" };
    size_t i;
    json_t *level;
    json_array_foreach(rp_at(row, "roof.levels"), i, level)
    {
        double rate = 1e-9 * rp_real(level, "bytes_per_s"), from = fmax(e->low_x, e->low_y / rate), to = fmin(e->high_x, most / rate);
        const char *name = rp_string(level, "name");
        if (!(rate > 0) || !name || !(to > from)) continue;
        rm_str_addf(&f->data, "%.17g %.17g\n%.17g %.17g\n", from, from * rate, to, to * rate);
        rp_series(f, "using 1:2 with lines lw 1.6 %s lc rgb '#1c2126' title \"", dash[i % RM_COUNT(dash)]);
        rp_escape_gnuplot(&f->list, name);
        rm_str_addf(&f->list, ": %s GB/s\"", rp_num(rate, 3).text);
        rp_end_block(f);
    }
}

/* "gemm fp32" is a peak of results in "fp32", which some call "f32". */
static bool of_type(const char *peak, const char *dtype)
{
    const char *type = strchr(peak, ' ');
    if (!type) return false;
    type += !strncmp(type + 1, "fp", 2) ? 3 : 1;
    return !strcmp(type, dtype + (!strncmp(dtype, "fp", 2) ? 2 : dtype[0] == 'f'));
}

/* Level lines: every measured peak of the result's number type; without any, the roof. */
static void flops(rp_plot *f, const rp_result *r, double top, const extent *e)
{
    static const char *const colour[] = { "#1c2126", RP_GREY, "#a8b0b8" };
    char dtype[32];
    size_t i, found = 0;
    json_t *peak;
    rp_setting(r, "dtype", "", dtype, sizeof dtype);
    json_array_foreach(rp_at(r->row, "peaks"), i, peak)
    {
        const char *name = rp_string(peak, "name"), *unit = rp_string(peak, "unit");
        double value = 1e-9 * rp_real(peak, "value");
        if (!name || !of_type(name, dtype) || !unit || strcmp(unit, "FLOP/s") || !(value > 0)) continue;
        rm_str_addf(&f->data, "%.17g %.17g\n%.17g %.17g\n", e->low_x, value, e->high_x, value);
        rp_series(f, "using 1:2 with lines lw 1.6 dt 1 lc rgb '%s' title \"", colour[found++ % RM_COUNT(colour)]);
        rp_escape_gnuplot(&f->list, name);
        rm_str_addf(&f->list, ": %s GFLOP/s\"", rp_num(value, 3).text);
        rp_end_block(f);
    }
    if (found) return;
    rm_str_addf(&f->data, "%.17g %.17g\n%.17g %.17g\n", e->low_x, top, e->high_x, top);
    rp_series(f, "using 1:2 with lines lw 1.6 dt 1 lc rgb '#1c2126' title 'compute: %s GFLOP/s'", rp_num(top, 3).text);
    rp_end_block(f);
}

rm_status rp_fig_roofline(const char *out_dir, const char *name, const rp_result *r, bool *drawn)
{
    const json_t *layers = rp_at(r->row, "layers");
    double top = 1e-9 * rp_real(r->row, "roof.flops_per_s");
    extent e = { INFINITY, 0, INFINITY, 0 };
    rp_plot f = { 0 };
    *drawn = false;
    if (!(top > 0)) return RM_OK;
    named *p = calloc(json_array_size(layers) + 1, sizeof *p);
    if (!p) return rm_fail(RM_E_NOMEM, "out of memory for the roofline");
    size_t n = gather(layers, p, &e);
    rm_status st = RM_OK;
    if (n) {
        e = (extent) { e.low_x / 1.6, e.high_x * 1.6, e.low_y / 1.6, fmax(e.high_y, top) * 1.6 };
        for (size_t i = 0; i < n; i++) p[i].height = height_of(&e, p[i].y);
        rp_say(&f,
               "set clip two\nset logscale xy 10\nset mxtics 10\nset mytics 10\nset format '%%g'\nset xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\nset grid xtics ytics\n"
               "set xlabel 'arithmetic intensity (FLOP/byte)'\nset ylabel 'rate (GFLOP/s)' offset 1.5\n",
               e.low_x, e.high_x, e.low_y, e.high_y);
        levels(&f, r->row, top, &e);
        flops(&f, r, top, &e);
        points(&f, layers);
        beside(&f, p, n, 5, 540);
        st = rp_draw(&f, out_dir, name, 540, drawn);
    }
    free(p);
    return st;
}

/* ---- sensitivity ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *kind, *title, *colour;
} delayed[] = { { "op", "ops", RP_BLUE }, { "bucket", "buckets", RP_PURPLE }, { "input", "input", RP_GREEN } };

static bool slopes(const json_t *v, double *out_x, double *out_y)
{
    *out_x = rp_real(v, "predicted_slope");
    *out_y = rp_real(v, "measured_slope");
    return isfinite(*out_x) && isfinite(*out_y);
}

static void slope_series(rp_plot *f, const json_t *list)
{
    for (size_t k = 0; k < RM_COUNT(delayed); k++) {
        size_t i, found = 0;
        json_t *v;
        json_array_foreach(list, i, v)
        {
            const char *kind = rp_string(v, "kind");
            double x, y, low = rp_real(v, "slope_low"), high = rp_real(v, "slope_high");
            if (!kind || strcmp(kind, delayed[k].kind) || !slopes(v, &x, &y)) continue;
            rm_str_addf(&f->data, "%.17g %.17g %.17g %.17g\n", x, y, isfinite(low) ? low : y, isfinite(high) ? high : y);
            found++;
        }
        if (!found) continue;
        rp_series(f, "using 1:2:3:4 with yerrorbars pt 7 ps 0.85 lw 1.4 lc rgb '%s' title '%s'", delayed[k].colour, delayed[k].title);
        rp_end_block(f);
    }
}

rm_status rp_fig_sensitivity(const char *out_dir, const char *name, const rp_result *r, bool *drawn)
{
    const json_t *list = rp_at(r->row, "sensitivity");
    size_t i, n = 0;
    json_t *v;
    extent e = { 0, 1, 0, 1 };
    rp_plot f = { 0 };
    *drawn = false;
    named *p = calloc(json_array_size(list) + 1, sizeof *p);
    if (!p) return rm_fail(RM_E_NOMEM, "out of memory for the slopes");
    json_array_foreach(list, i, v)
    {
        const char *what = rp_string(v, "name"), *pass = rp_string(v, "pass");
        double x, y, low = rp_real(v, "slope_low"), high = rp_real(v, "slope_high");
        if (!slopes(v, &x, &y)) continue;
        reach(&e, x, isfinite(low) ? low : y);
        reach(&e, x, isfinite(high) ? high : y);
        p[n] = (named) { .x = x, .y = y, .weight = fabs(y - x) };
        char text[2][32];
        rp_cut(text[0], 24, what ? what : "?");
        rp_cut(text[1], 12, pass ? pass : "");
        snprintf(p[n++].text, sizeof p->text, "%s %s", text[0], text[1]);
    }
    rm_status st = RM_OK;
    if (n) {
        double pad_x = 0.06 * (e.high_x - e.low_x), pad_y = 0.06 * (e.high_y - e.low_y);
        e = (extent) { e.low_x - pad_x, e.high_x + pad_x, e.low_y - pad_y, e.high_y + pad_y };
        for (i = 0; i < n; i++) p[i].height = (p[i].y - e.low_y) / (e.high_y - e.low_y);
        rp_say(&f,
               "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\nset grid xtics ytics\n"
               "set xlabel 'predicted slope (ms of step per ms of delay)'\nset ylabel 'measured slope (ms per ms)'\n",
               e.low_x, e.high_x, e.low_y, e.high_y);
        double low = fmax(e.low_x, e.low_y), high = fmin(e.high_x, e.high_y);
        rm_str_addf(&f.data, "%.17g %.17g\n%.17g %.17g\n", low, low, high, high);
        rp_series(&f, "using 1:2 with lines lw 1.4 dt 2 lc rgb '" RP_GREY "' title 'as predicted'");
        rp_end_block(&f);
        slope_series(&f, list);
        beside(&f, p, n, 8, 500);
        st = rp_draw(&f, out_dir, name, 500, drawn);
    }
    free(p);
    return st;
}
