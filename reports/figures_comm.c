/* Collectives over sizes. */
#include "reports/figures.h"
#include "reports/plot.h"
#include <math.h>
#include <string.h>

static const char *const colour[RP_MOST_CURVES] = { RP_BLUE, RP_ORANGE, RP_GREEN, RP_PURPLE, RP_AMBER, RP_SKY };
static const struct { int filled, hollow; } point[RP_MOST_CURVES] = { { 7, 6 }, { 5, 4 }, { 9, 8 }, { 13, 12 }, { 11, 10 }, { 15, 14 } };

/* Bus bandwidth of a point if it took `seconds`, or just those, in the axis' unit (GB/s, us). NaN when the row lacks something. */
static double value(const rp_result *p, double seconds, bool bandwidth)
{
    if (!bandwidth) return 1e6 * seconds;
    return 1e-9 * rp_real(p->row, "busbw_bytes_per_s") * rp_real(p->row, "time_s.median") / seconds;
}

typedef struct extent { double least_x, most_x, least_y, most_y; } extent;

static void grow(extent *e, double x, double y)
{
    e->least_x = fmin(e->least_x, x);
    e->most_x = fmax(e->most_x, x);
    e->least_y = fmin(e->least_y, y);
    e->most_y = fmax(e->most_y, y);
}

static void points(rp_plot *f, const rp_curve *c, size_t k, bool bandwidth, extent *e)
{
    size_t found = 0;
    for (size_t i = 0; i < c->n; i++) {
        double bytes = rp_real(c->point[i]->row, "bytes"), t = rp_real(c->point[i]->row, "time_s.median"), mad = rp_real(c->point[i]->row, "time_s.mad");
        if (!(bytes > 0) || !(t > 0) || !c->point[i]->correct) continue;
        mad = isfinite(mad) ? mad : 0;
        double v = value(c->point[i], t, bandwidth), a = value(c->point[i], fmax(t - mad, 0.05 * t), bandwidth), b = value(c->point[i], t + mad, bandwidth);
        if (!(v > 0)) continue;
        rm_str_addf(&f->data, "%.17g %.17g %.17g %.17g\n", bytes, v, fmin(a, b), fmax(a, b));
        grow(e, bytes, v);
        found++;
    }
    if (!found) return;
    bool measured = rp_measured(c->point[0]);
    rp_series(f, "using 1:2:3:4 with yerrorbars pt %d ps 0.75 lw 1.4 lc rgb '%s' title \"", measured ? point[k].filled : point[k].hollow, colour[k]);
    rp_escape_gnuplot(&f->list, c->title);
    rm_str_add(&f->list, "\"");
    rp_end_block(f);
}

typedef struct at { double bytes, seconds; } at;

static at point_of(const json_t *cost, size_t i)
{
    const json_t *p = json_array_get(cost, i);
    return (at){ json_number_value(json_array_get(p, 0)), 1e-9 * json_number_value(json_array_get(p, 1)) };
}

/* Linear in S between two points: bent where both axes are logarithmic. */
static size_t piece(rp_plot *f, at a, at b, double factor, bool bandwidth)
{
    enum { PIECES = 24 };
    if (!(a.bytes > 0) || !(b.bytes > a.bytes) || !(a.seconds > 0)) return 0;
    for (int j = 0; j <= PIECES; j++) {
        double s = a.bytes * pow(b.bytes / a.bytes, (double)j / PIECES), t = a.seconds + (b.seconds - a.seconds) * (s - a.bytes) / (b.bytes - a.bytes);
        rm_str_addf(&f->data, "%.17g %.17g\n", s, bandwidth ? 1e-9 * factor * s / t : 1e6 * t);
    }
    return 1;
}

/* Over the sizes that were measured: constant below the first point of the fit, the last slope beyond the last one. */
static void fit(rp_plot *f, const rp_curve *c, size_t k, bool bandwidth)
{
    const json_t *cost = c->fit ? rp_at(c->fit->row, "cost") : NULL;
    const rp_result *p = c->point[c->n - 1];
    double least = rp_real(c->point[0]->row, "bytes"), most = rp_real(p->row, "bytes");
    double factor = rp_real(p->row, "busbw_bytes_per_s") * rp_real(p->row, "time_s.median") / most; /* the operation's busbw / algbw */
    size_t n = json_array_size(cost), drawn = 0;
    if (!n || (bandwidth && !isfinite(factor))) return;
    at first = point_of(cost, 0), last = point_of(cost, n - 1), before = n > 1 ? point_of(cost, n - 2) : first;
    double slope = n > 1 ? (last.seconds - before.seconds) / (last.bytes - before.bytes) : 0;
    drawn += piece(f, (at){ least, first.seconds }, first, factor, bandwidth);
    for (size_t i = 0; i + 1 < n; i++) drawn += piece(f, point_of(cost, i), point_of(cost, i + 1), factor, bandwidth);
    drawn += piece(f, last, (at){ most, last.seconds + slope * (most - last.bytes) }, factor, bandwidth);
    if (!drawn) return;
    rp_series(f, "using 1:2 with lines lw 1.4 %s lc rgb '%s' notitle", rp_measured(p) ? "" : "dt 2", colour[k]);
    rp_end_block(f);
}

typedef struct tick { double at; const char *text; } tick;

static void tics(rp_plot *f, const char *axis, const tick *t, size_t n)
{
    rp_say(f, "set %stics (", axis);
    for (size_t i = 0; i < n; i++) rp_say(f, "%s'%s' %.17g", i ? ", " : "", t[i].text, t[i].at);
    rp_say(f, ")\n");
}

static void axes(rp_plot *f, const extent *e, bool bandwidth)
{
    static const tick size[] = { { 8, "8 B" }, { 64, "64 B" }, { 512, "512 B" }, { 4096, "4 KiB" }, { 32768, "32 KiB" }, { 262144, "256 KiB" },
                                 { 2097152, "2 MiB" }, { 16777216, "16 MiB" }, { 134217728, "128 MiB" }, { 1073741824, "1 GiB" } };
    static const tick us[] = { { 0.01, "10 ns" }, { 0.1, "100 ns" }, { 1, "1 µs" }, { 10, "10 µs" }, { 100, "100 µs" }, { 1e3, "1 ms" }, { 1e4, "10 ms" },
                               { 1e5, "100 ms" }, { 1e6, "1 s" }, { 1e7, "10 s" } };
    static const tick rate[] = { { 1e-6, "1 kB/s" }, { 1e-5, "10 kB/s" }, { 1e-4, "100 kB/s" }, { 1e-3, "1 MB/s" }, { 1e-2, "10 MB/s" }, { 1e-1, "100 MB/s" },
                                 { 1, "1 GB/s" }, { 10, "10 GB/s" }, { 100, "100 GB/s" }, { 1000, "1 TB/s" } };
    rp_say(f, "set logscale xy\nset xlabel 'size of the message (bytes, logarithmic)'\nset ylabel '%s'\nset xrange [%.17g:%.17g]\nset yrange [%.17g:%.17g]\n",
           bandwidth ? "bus bandwidth (logarithmic)" : "time (logarithmic)", e->least_x / 1.6, e->most_x * 1.6, e->least_y / 1.8, e->most_y * 1.8);
    tics(f, "x", size, RM_COUNT(size));
    if (bandwidth) tics(f, "y", rate, RM_COUNT(rate));
    else tics(f, "y", us, RM_COUNT(us));
    rp_say(f, "set grid xtics ytics\nset key tmargin left vertical maxcols 1\n");
}

rm_status rp_fig_comm(const char *out_dir, const char *name, const rp_curve *curve, size_t n, bool bandwidth, bool *drawn)
{
    rp_plot f = { 0 };
    extent e = { INFINITY, 0, INFINITY, 0 };
    *drawn = false;
    for (size_t k = 0; k < n && k < RP_MOST_CURVES; k++) {
        if (!curve[k].n) continue;
        fit(&f, &curve[k], k, bandwidth);
        points(&f, &curve[k], k, bandwidth, &e);
    }
    if (!(e.most_y > 0)) {
        rp_plot_free(&f);
        return RM_OK;
    }
    axes(&f, &e, bandwidth);
    return rp_draw(&f, out_dir, name, 0, drawn);
}
