/* Figures of the gate: pairs, history, power. */
#include "reports/figures.h"
#include "reports/plot.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *verdict, *colour;
} inks[] = { { "REGRESSED", RP_ORANGE }, { "IMPROVED", RP_GREEN }, { "PASS", RP_BLUE } };

static const char *ink_of(const json_t *row)
{
    const char *verdict = rp_string(row, "verdict");
    for (size_t i = 0; verdict && i < RM_COUNT(inks); i++)
        if (!strcmp(verdict, inks[i].verdict)) return inks[i].colour;
    return RP_GREY;
}

static double percent(double log_ratio) { return 100 * expm1(log_ratio); }

/* How far the axis goes: the intervals, twice the effects, and four of five pairs; what is beyond stands at its end. */
static double reach_of(const json_t *const *row, size_t n)
{
    double most = 0, size[RP_MOST_PAIRS];
    for (size_t i = 0; i < n; i++) {
        size_t k, found = 0;
        json_t *d;
        json_array_foreach(rp_at(row[i], "d"), k, d) if (found < RP_MOST_PAIRS) size[found++] = fabs(percent(json_number_value(d)));
        if (found) most = fmax(most, rm_quantile(size, found, 0.8));
        most = fmax(most, 200 * rp_real(row[i], "effect"));
        most = fmax(most, fmax(fabs(100 * rp_real(row[i], "low")), fabs(100 * rp_real(row[i], "high"))));
    }
    return 1.15 * most;
}

/* Dots of one verdict's pairs about height y; those beyond the axis as triangles at its end. */
static void dots(rp_plot *f, const json_t *row, double y, double reach)
{
    for (int beyond = 0; beyond < 2; beyond++) {
        size_t i, found = 0;
        json_t *d;
        json_array_foreach(rp_at(row, "d"), i, d)
        {
            const double x = percent(json_number_value(d)); /* the golden ratio spreads the dots without chance */
            if ((fabs(x) > reach) != beyond) continue;
            rm_str_addf(&f->data, "%.17g %.17g\n", beyond ? copysign(0.985 * reach, x) : x, y - 0.06 - 0.24 * fmod((double)(i + 1) * 0.6180339887, 1));
            found++;
        }
        if (!found) continue;
        rp_series(f, "using 1:2 with points pt %d ps %g lc rgb '%s' notitle", beyond ? 9 : 7, beyond ? 0.9 : 0.55, beyond ? RP_GREY : "#8a929a");
        rp_end_block(f);
    }
}

static void estimate(rp_plot *f, const json_t *row, double y)
{
    const double delta = 100 * rp_real(row, "delta"), low = 100 * rp_real(row, "low"), high = 100 * rp_real(row, "high"), effect = 100 * rp_real(row, "effect");
    if (!isfinite(delta)) return;
    if (isfinite(effect)) rp_say(f, "set arrow from %g,%g to %g,%g nohead dt 2 lw 1.4 lc rgb '#1c2126' front\n", effect, y - 0.36, effect, y + 0.3);
    if (isfinite(effect)) rp_say(f, "set arrow from %g,%g to %g,%g nohead dt 2 lw 1.4 lc rgb '#1c2126' front\n", -effect, y - 0.36, -effect, y + 0.3);
    rm_str_addf(&f->data, "%.17g %.17g %.17g %.17g\n", delta, y + 0.14, isfinite(low) ? low : delta, isfinite(high) ? high : delta);
    rp_series(f, "using 1:2:3:4 with xerrorbars pt 7 ps 1.1 lw 2.4 lc rgb '%s' notitle", ink_of(row));
    rp_end_block(f);
}

static void label(rp_plot *f, const json_t *row, double y)
{
    const char *metric = rp_string(row, "metric"), *verdict = rp_string(row, "verdict");
    char text[40];
    rp_cut(text, sizeof text - 4, metric ? metric : "?");
    rp_say(f, "set label ");
    rp_quoted(f, text);
    rp_say(f, " at graph -0.015, first %g right font ',13'\nset label ", y + 0.13);
    rp_quoted(f, verdict ? verdict : "?");
    rp_say(f, " at graph -0.015, first %g right font ',12' textcolor rgb '%s'\n", y - 0.13, ink_of(row));
}

rm_status rp_fig_gate_pairs(const char *out_dir, const char *name, const json_t *const *row, size_t n, bool *drawn)
{
    rp_plot f = { 0 };
    const double reach = reach_of(row, n);
    *drawn = false;
    if (!n || !(reach > 0)) return RM_OK;
    rp_say(&f, "set lmargin at screen 0.2\nset rmargin at screen 0.97\nunset ytics\nset grid xtics\nset border 1\nunset key\nset format x '%%+g'\n");
    rp_say(
        &f,
        "set xlabel 'change of B against A, worse to the right (%%)'\nset xrange [%.9g:%.9g]\nset yrange [-0.5:%g]\nset arrow from 0,graph 0 to 0,graph 1 nohead lw 1 lc rgb '#3a4149' back\n",
        -reach, reach, (double)n - 0.45);
    for (size_t i = 0; i < n; i++) {
        const double y = (double)(n - 1 - i);
        label(&f, row[i], y);
        dots(&f, row[i], y, reach);
        estimate(&f, row[i], y);
    }
    return rp_draw(&f, out_dir, name, 110 + 78 * (int)n, drawn);
}

/* ---- history ----------------------------------------------------------------------------------------------------- */

typedef struct axis {
    double scale;
    const char *unit;
    size_t n;
    double least, most;
} axis;

/* A metric in seconds is shown in ms. */
static axis axis_of(const json_t *row)
{
    const char *metric = rp_string(row, "metric");
    const size_t length = metric ? strlen(metric) : 0;
    const bool seconds = length > 2 && !strcmp(metric + length - 2, "_s");
    axis a = { .scale = seconds ? 1e3 : 1, .unit = seconds ? " (ms)" : "", .least = INFINITY };
    size_t i;
    json_t *s;
    json_array_foreach(rp_at(row, "sessions"), i, s)
    {
        const double v = a.scale * rp_real(s, "value");
        a.least = fmin(a.least, v);
        a.most = fmax(a.most, v);
        a.n += v > 0;
    }
    return a;
}

static double value_at(const json_t *row, size_t session) { return rp_real(json_array_get(rp_at(row, "sessions"), session), "value"); }

/* Where piece p of the history begins; the end for one that is not there, or that cannot be. */
static size_t begin_of(const json_t *row, const axis *a, size_t p)
{
    const double at = p ? rp_real(json_array_get(rp_at(row, "changes"), p - 1), "session") : 0;
    return at >= 0 && at < (double)a->n ? (size_t)at : a->n;
}

/* The median of each piece, as a line over its sessions. */
static void levels(rp_plot *f, const json_t *row, const axis *a)
{
    const size_t pieces = json_array_size(rp_at(row, "changes")) + 1;
    double *v = calloc(a->n, sizeof *v);
    if (!v) f->data.failed = true;
    for (size_t p = 0; v && p < pieces; p++) {
        const size_t from = begin_of(row, a, p), to = p + 1 < pieces ? begin_of(row, a, p + 1) : a->n;
        for (size_t i = from; i < to; i++) v[i - from] = a->scale * value_at(row, i);
        if (from < to) rm_str_addf(&f->data, "%g %.17g\n%g %.17g\n\n", (double)from + 0.6, rm_median(v, to - from), (double)to + 0.4, rm_median(v, to - from));
    }
    free(v);
    rp_series(f, "using 1:2 with lines lw 3 lc rgb '" RP_SKY "' title 'level (median of the sessions)'");
    rp_end_block(f);
}

static void change_labels(rp_plot *f, const json_t *row, const axis *a)
{
    size_t i;
    json_t *c;
    json_array_foreach(rp_at(row, "changes"), i, c)
    {
        const char *commit = json_string_value(json_array_get(rp_at(c, "commits"), 0)), *to = rp_string(c, "to");
        const double x = rp_real(c, "session") + 0.5;
        if (!isfinite(x)) continue;
        char text[64], whole[96];
        rp_cut(text, 40, commit ? commit : to ? to : "?");
        snprintf(whole, sizeof whole, "%s (%+.1f %%)", text, percent(rp_real(c, "delta")));
        rp_say(f, "set arrow from %g,graph 0 to %g,graph %.3f nohead dt 2 lw 1.2 lc rgb '%s' back\nset label ", x, x, 0.985 - 0.06 * (double)(i % 4),
               RP_PURPLE);
        rp_quoted(f, whole);
        rp_say(f, " at first %g,graph %.3f %s offset %s,0 font ',12' textcolor rgb '%s' front boxed\n", x, 0.965 - 0.06 * (double)(i % 4),
               x > 0.55 * (double)a->n ? "right" : "left", x > 0.55 * (double)a->n ? "-0.6" : "0.6", RP_PURPLE);
    }
}

static void sessions_axis(rp_plot *f, const json_t *row, const axis *a)
{
    const size_t every = a->n / 8 + 1;
    rp_say(f, "set xtics (");
    for (size_t i = 0; i < a->n; i += every) {
        const char *begun = rp_string(json_array_get(rp_at(row, "sessions"), i), "begun");
        char day[16];
        const size_t digits = begun ? strspn(begun, "0123456789-") : 0;
        snprintf(day, sizeof day, "%.*s", digits < 10 ? (int)digits : 10, begun ? begun : "");
        rp_say(f, "%s", i ? ", " : "");
        rp_quoted(f, day);
        rp_say(f, " %zu", i + 1);
    }
    rp_say(f, ")\nset xlabel 'session (day of its first run)'\nset xrange [0.3:%g]\n", (double)a->n + 0.7);
}

/* Where the newest session is suspect from: above for times, below for rates. */
static void suspect_line(rp_plot *f, const json_t *row, axis *a)
{
    const double baseline = a->scale * rp_real(row, "baseline.value"), threshold = rp_real(row, "threshold");
    const bool higher = json_is_true(rp_at(row, "higher"));
    if (!(baseline > 0) || !isfinite(threshold)) return;
    const double y = baseline * exp(higher ? -threshold : threshold), from = rp_real(row, "baseline.session");
    a->least = fmin(a->least, y);
    a->most = fmax(a->most, y);
    rm_str_addf(&f->data, "%g %.17g\n%g %.17g\n", from + 0.6, y, (double)a->n + 0.5, y);
    rp_series(f, "using 1:2 with lines lw 1.6 dt 3 lc rgb '" RP_ORANGE "' title 'suspect from here'");
    rp_end_block(f);
}

static void session_points(rp_plot *f, const json_t *row, const axis *a)
{
    const char *verdict = rp_string(row, "verdict");
    const bool suspect = verdict && !strcmp(verdict, "SUSPECT"), emulated = rp_string(row, "origin") && !strcmp(rp_string(row, "origin"), "emulated");
    for (size_t i = 0; i + suspect < a->n; i++) rm_str_addf(&f->data, "%zu %.17g\n", i + 1, a->scale * value_at(row, i));
    rp_series(f, "using 1:2 with points pt %d ps 0.9 lc rgb '" RP_BLUE "' title '%s'", emulated ? 6 : 7, emulated ? "session, emulated" : "session, measured");
    rp_end_block(f);
    if (!suspect) return;
    rm_str_addf(&f->data, "%zu %.17g\n", a->n, a->scale * value_at(row, a->n - 1));
    rp_series(f, "using 1:2 with points pt %d ps 1.3 lc rgb '" RP_ORANGE "' title 'suspect'", emulated ? 8 : 9);
    rp_end_block(f);
}

rm_status rp_fig_history(const char *out_dir, const char *name, const json_t *row, bool *drawn)
{
    rp_plot f = { 0 };
    axis a = axis_of(row);
    const char *metric = rp_string(row, "metric");
    *drawn = false;
    if (a.n < 2 || a.n != json_array_size(rp_at(row, "sessions"))) return RM_OK;
    levels(&f, row, &a);
    suspect_line(&f, row, &a);
    session_points(&f, row, &a);
    change_labels(&f, row, &a);
    sessions_axis(&f, row, &a);
    rp_say(&f, "set style textbox opaque noborder\n"); /* names hide the lines that they cross */
    const double pad = 0.08 * (a.most - a.least) + 1e-3 * a.most;
    rp_say(&f, "set yrange [%.17g:%.17g]\nset ylabel ", fmax(0, a.least - pad), a.most + pad + 0.22 * (a.most - a.least));
    rp_quoted(&f, metric ? metric : "value");
    rp_say(&f, ".\"%s\"\n", a.unit);
    return rp_draw(&f, out_dir, name, 0, drawn);
}

/* ---- power ------------------------------------------------------------------------------------------------------- */

static const char *const colours[] = { RP_BLUE, RP_ORANGE, RP_GREEN, RP_PURPLE, RP_AMBER, RP_SKY };

static bool is_power(const json_t *row, const char *model)
{
    const char *check = rp_string(row, "check"), *own = rp_string(row, "model");
    return check && own && !strcmp(check, "power") && (!model || !strcmp(own, model));
}

static void simulated(rp_plot *f, const json_t *const *row, size_t n, const char *model, size_t k)
{
    char title[64];
    for (size_t i = 0; i < n; i++)
        if (is_power(row[i], model)) rm_str_addf(&f->data, "%.17g %.17g\n", 100 * rp_real(row[i], "change"), 100 * rp_real(row[i], "value"));
    rp_series(f, "using 1:2 with linespoints pt 6 ps 0.9 lw 1.5 dt 2 lc rgb '%s' title ", colours[k % RM_COUNT(colours)]);
    snprintf(title, sizeof title, "simulated: %s", model);
    rm_str_add(&f->list, "\"");
    rp_escape_gnuplot(&f->list, title);
    rm_str_add(&f->list, "\"");
    rp_end_block(f);
}

static size_t real_rates(rp_plot *f, const json_t *const *row, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const char *kind = rp_string(row[i], "kind");
        const double rate = rp_real(row[i], "rate");
        if (!kind || strcmp(kind, "rate") != 0 || !isfinite(rate)) continue;
        rm_str_addf(&f->data, "%.17g %.17g %.17g %.17g\n", 100 * rp_real(row[i], "slow"), 100 * rate, 100 * rp_real(row[i], "low"),
                    100 * rp_real(row[i], "high"));
        found++;
    }
    if (!found) return 0;
    rp_series(f, "using 1:2:3:4 with yerrorbars pt 7 ps 1.2 lw 2 lc rgb '#1c2126' title 'measured (95 %% interval)'");
    rp_end_block(f);
    return found;
}

/* row: (n) findings of the self-test and measured rates, in any order. */
rm_status rp_fig_gate_power(const char *out_dir, const char *name, const json_t *const *row, size_t n, bool *drawn)
{
    rp_plot f = { 0 };
    size_t models = 0;
    *drawn = false;
    for (size_t i = 0; i < n; i++) {
        const char *model = rp_string(row[i], "model");
        bool seen = !is_power(row[i], NULL);
        for (size_t k = 0; k < i && !seen; k++) seen = is_power(row[k], model);
        if (!seen) simulated(&f, row, n, model, models++);
    }
    double most = 1;
    for (size_t i = 0; i < n; i++) most = fmax(most, fmax(100 * rp_real(row[i], "slow"), is_power(row[i], NULL) ? 100 * rp_real(row[i], "change") : 0));
    if (!real_rates(&f, row, n) && !models) return RM_OK;
    rp_say(
        &f,
        "set xlabel 'true slow-down of B (%%)'\nset ylabel 'verdicts REGRESSED (%%)'\nset xrange [-0.3:%g]\nset yrange [-3:108]\nset ytics 0,20,100\nset grid xtics ytics\n"
        "set lmargin at screen 0.115\nset rmargin at screen 0.68\nset key at screen 0.70, screen 0.95 left top vertical maxcols 1 reverse Left samplen 2.5 font ',13'\n",
        1.04 * most);
    return rp_draw(&f, out_dir, name, 0, drawn);
}
