#include "reports/figures.h"
#include "profiler/stats.h"
#include "reports/plot.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- throughput ------------------------------------------------------------------------------------------------- */

typedef struct extent { double least_n, most_n, most_n_seen, least_y, most_y, one; bool log; } extent;

static extent extent_of(const rp_result *r, size_t n)
{
    extent e = { .least_n = INFINITY, .least_y = INFINITY, .one = NAN };
    for (size_t i = 0; i < n; i++) {
        double ranks = rp_real(r[i].row, "ranks"), y = rp_real(r[i].row, "images_per_s"), high = rp_real(r[i].row, "images_per_s_high");
        if (!(ranks >= 1)) continue;
        e.least_n = fmin(e.least_n, ranks);
        e.most_n = fmax(e.most_n, ranks);
        if (!(y > 0)) continue;
        e.most_n_seen = fmax(e.most_n_seen, ranks);
        e.most_y = fmax(e.most_y, isfinite(high) ? high : y);
        e.least_y = fmin(e.least_y, y);
        if (isnan(e.one)) e.one = rp_baseline(r[i].row);
        if (isnan(e.one) && ranks == 1) e.one = y;
    }
    e.log = e.most_n > 16;
    return e;
}

static void throughput_axes(rp_plot *f, const rp_result *r, size_t n, const extent *e)
{
    double top = fmax(e->most_y, isfinite(e->one) ? e->one * e->most_n_seen : 0), pad = fmax(0.25, (e->most_n - e->least_n) * 0.06);
    rp_say(f, "set xlabel 'devices (N)'\nset ylabel 'training throughput (images/s)'\nset xtics (");
    for (size_t i = 0, shown = 0; i < n; i++)
        if (rp_real(r[i].row, "ranks") >= 1) rp_say(f, "%s%g", shown++ ? ", " : "", rp_real(r[i].row, "ranks"));
    rp_say(f, ")\n");
    if (e->log) rp_say(f, "set logscale xy 2\nset xrange [%g:%g]\nset yrange [%g:%g]\n", e->least_n / 1.2, e->most_n * 1.2, e->least_y / 1.6, top * 1.6);
    else rp_say(f, "set xrange [%g:%g]\nset yrange [0:%g]\n", e->least_n - pad, e->most_n + pad, top * 1.18);
}

static void throughput_series(rp_plot *f, const rp_result *r, size_t n, const char *origin, const char *kind, const char *look, const char *title)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        double ranks = rp_real(r[i].row, "ranks"), y = rp_real(r[i].row, "images_per_s");
        double low = rp_real(r[i].row, "images_per_s_low"), high = rp_real(r[i].row, "images_per_s_high");
        if (strcmp(r[i].origin, origin) || !r[i].correct || !(ranks >= 1) || !(y > 0)) continue;
        rm_str_addf(&f->data, "%.17g %.17g %.17g %.17g\n", ranks, y, isfinite(low) ? low : y, isfinite(high) ? high : y);
        found++;
    }
    if (!found) return;
    rp_series(f, "using 1:2:3:4 %s lw 1.8 %s title '%s'", kind, look, title);
    rp_end_block(f);
}

/* Anything that is not measured: a broken line, and hollow points with their interval. A projection goes on from the last measured
 * point; an emulation is another thing than what was measured, so nothing joins the two. */
static void guessed_series(rp_plot *f, const rp_result *r, size_t n, const char *origin, const char *look, const char *title)
{
    rm_strbuf line = { 0 };
    const rp_result *last = NULL;
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        double ranks = rp_real(r[i].row, "ranks"), y = rp_real(r[i].row, "images_per_s");
        if (!r[i].correct || !(ranks >= 1) || !(y > 0)) continue;
        if (!strcmp(r[i].origin, "measured") && (!last || ranks > rp_real(last->row, "ranks"))) last = &r[i];
        if (strcmp(r[i].origin, origin)) continue;
        rm_str_addf(&line, "%.17g %.17g\n", ranks, y);
        found++;
    }
    if (found) {
        if (last && strcmp(origin, "emulated")) rm_str_addf(&f->data, "%.17g %.17g\n", rp_real(last->row, "ranks"), rp_real(last->row, "images_per_s"));
        rm_str_add(&f->data, line.text ? line.text : "");
        rp_series(f, "using 1:2 with lines lw 1.6 %s notitle", strstr(look, "dt"));
        rp_end_block(f);
        throughput_series(f, r, n, origin, "with yerrorbars", look, title);
    }
    if (line.failed) f->data.failed = true;
    rm_str_free(&line);
}

/* Devices asked for but without a number: hollow marks on the axis. */
static void throughput_gaps(rp_plot *f, const rp_result *r, size_t n, const extent *e)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        double ranks = rp_real(r[i].row, "ranks");
        if (!(ranks >= 1) || rp_real(r[i].row, "images_per_s") > 0) continue;
        rm_str_addf(&f->data, "%.17g %.17g\n", ranks, e->log ? e->least_y / 1.6 : 0.0);
        found++;
    }
    if (!found) return;
    rp_series(f, "using 1:2 with points pt 6 ps 1.3 lw 1.6 lc rgb '" RP_GREY "' title 'not measured'");
    rp_end_block(f);
}

rm_status rp_fig_throughput(const char *out_dir, const char *name, const rp_result *r, size_t n, bool *drawn)
{
    rp_plot f = { 0 };
    extent e = extent_of(r, n);
    *drawn = false;
    if (!(e.most_y > 0)) return RM_OK;
    throughput_axes(&f, r, n, &e);
    if (e.one > 0 && e.most_n_seen > 1) {
        rm_str_addf(&f.data, "1 %.17g\n%.17g %.17g\n", e.one, e.most_n_seen, e.one * e.most_n_seen);
        rp_series(&f, "using 1:2 with lines lw 1.4 dt 3 lc rgb '" RP_GREY "' title 'ideal: N times one device'");
        rp_end_block(&f);
    }
    throughput_series(&f, r, n, "measured", "with yerrorlines", "pt 7 ps 0.8 dt 1 lc rgb '" RP_BLUE "'", "measured (bars: 95 % interval)");
    guessed_series(&f, r, n, "emulated", "pt 8 ps 1.2 dt 4 lc rgb '" RP_AMBER "'", "emulated");
    guessed_series(&f, r, n, "projected", "pt 4 ps 1 dt 2 lc rgb '" RP_PURPLE "'", "projected, not measured");
    throughput_gaps(&f, r, n, &e);
    return rp_draw(&f, out_dir, name, 0, drawn);
}

/* ---- step times ------------------------------------------------------------------------------------------------- */

static void steps_of(rp_plot *f, const double *s, size_t n, size_t place, double range_ms[2])
{
    range_ms[0] = fmin(range_ms[0], 1e3 * rm_quantile(s, n, 0));
    range_ms[1] = fmax(range_ms[1], 1e3 * rm_quantile(s, n, 1));
    rm_str_addf(&f->data, "%zu %.17g %.17g %.17g %.17g %.17g\n", place, 1e3 * rm_quantile(s, n, 0.25), 1e3 * rm_quantile(s, n, 0.05),
                1e3 * rm_quantile(s, n, 0.95), 1e3 * rm_quantile(s, n, 0.75), 1e3 * rm_median(s, n));
    rp_series(f, "using 1:2:3:4:5 with candlesticks whiskerbars 0.5 fs empty lw 1.6 lc rgb '" RP_BLUE "' notitle");
    rp_end_block(f);
    rp_also(f, "using 1:6:6:6:6 with candlesticks lw 2.6 lc rgb '" RP_ORANGE "' notitle");
    for (size_t i = 0; i < n; i++) /* the golden ratio spreads the dots without chance: the same figure every time */
        rm_str_addf(&f->data, "%.6f %.17g\n", (double)place + 0.30 + 0.22 * fmod((double)i * 0.6180339887, 1), 1e3 * s[i]);
    rp_series(f, "using 1:2 with points pt 7 ps 0.42 lc rgb '#80" "0072b2' notitle");
    rp_end_block(f);
}

rm_status rp_fig_steps(const char *out_dir, const char *name, rm_store *store, const rp_result *r, size_t n, bool *drawn)
{
    rp_plot f = { 0 };
    size_t place = 0;
    double range_ms[2] = { INFINITY, 0 };
    rm_strbuf tics = { 0 };
    rm_status st = RM_OK;
    *drawn = false;
    for (size_t i = 0; st == RM_OK && i < n; i++) {
        double *s = NULL;
        size_t n_samples = 0;
        st = rm_store_samples(store, r[i].id, "step_s", &s, &n_samples);
        if (st == RM_OK && n_samples && r[i].correct && isfinite(rm_median(s, n_samples))) {
            steps_of(&f, s, n_samples, ++place, range_ms);
            rm_str_addf(&tics, "%s\"N = %g\\n%zu steps\" %zu", place > 1 ? ", " : "", rp_real(r[i].row, "ranks"), n_samples, place);
        }
        free(s);
    }
    if (st == RM_OK && place) {
        double pad = 0.08 * (range_ms[1] - range_ms[0]) + 0.001 * range_ms[1];
        rp_say(&f, "set ylabel 'step time, slowest rank (ms)'\nset xtics (%s)\nset xrange [0.4:%zu.75]\nset bmargin 3.6\nset boxwidth 0.34\n"
                "set yrange [%.17g:%.17g]\n", tics.text ? tics.text : "", place, fmax(0, range_ms[0] - pad), range_ms[1] + pad);
        st = rp_draw(&f, out_dir, name, 0, drawn);
    } else {
        rp_plot_free(&f);
    }
    rm_str_free(&tics);
    return st;
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

const rp_pass rp_passes[] = {
    { "fwd", "forward", RP_BLUE },
    { "loss", "loss", "#332288" },
    { "bwd_data", "backward, data", RP_ORANGE },
    { "bwd_weights", "backward, weights", RP_AMBER },
    { "bwd", "backward, both", "#cc79a7" },
    { "accumulate", "accumulation", "#117733" },
    { "update", "update", RP_GREEN },
    { "weights", "weight copies", RP_YELLOW },
    { "input", "input", RP_SKY },
    { "reorder", "reorders", RP_PURPLE },
    { "other", "other computing", "#44aa99" },
    { "comm", "exposed communication", "#882255" },
    { "copy", "exposed copies", "#999933" },
    { "host", "host", "#4d5358" },
    { "idle", "idle", "#c9ced4" },
    { NULL, NULL, NULL },
};
enum { PASSES = RM_COUNT(rp_passes) - 1 };

const char *const rp_stages[RP_STAGES] = { "stem", "layer1", "layer2", "layer3", "layer4", "head", "other" };

int rp_stage_of(const char *layer, const char *pass)
{
    static const struct { const char *prefix; int stage; } row[] = {
        { "layer1", 1 }, { "layer2", 2 }, { "layer3", 3 }, { "layer4", 4 }, { "fc", 5 },   { "avgpool", 5 }, { "loss", 5 },
        { "softmax", 5 }, { "conv1", 0 },  { "bn1", 0 },    { "maxpool", 0 }, { "relu", 0 }, { "stem", 0 },
    };
    static const char *const whole[] = { "update", "input", "host", "idle" };
    for (size_t i = 0; i < RM_COUNT(whole); i++)
        if (!strcmp(pass, whole[i])) return RP_STAGES - 1;
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (!strncmp(layer, row[i].prefix, strlen(row[i].prefix))) return row[i].stage;
    return RP_STAGES - 1;
}

int rp_pass_of(const json_t *layer)
{
    const char *pass = rp_string(layer, "pass"), *op = rp_string(layer, "op");
    if (op && !strncmp(op, "reorder", 7)) pass = "reorder"; /* whatever pass wanted the other layout */
    for (int i = 0; pass && i < PASSES; i++)
        if (!strcmp(pass, rp_passes[i].pass)) return i;
    return PASSES - 2; /* unknown: the host's */
}

rm_status rp_fig_layers(const char *out_dir, const rp_result *r, bool *drawn)
{
    rp_plot f = { 0 };
    double ms[RP_STAGES][PASSES] = { { 0 } }, total[PASSES] = { 0 };
    size_t i;
    json_t *layer;
    *drawn = false;
    json_array_foreach(rp_at(r->row, "layers"), i, layer) {
        const char *name = rp_string(layer, "name"), *pass = rp_string(layer, "pass");
        double t = 1e3 * rp_real(layer, "time_s");
        if (!name || !pass || !(t > 0)) continue;
        ms[rp_stage_of(name, pass)][rp_pass_of(layer)] += t;
        total[rp_pass_of(layer)] += t;
    }
    rp_say(&f, "set ylabel 'time in one step (ms)'\nset style data histograms\nset style histogram rowstacked\nset boxwidth 0.62\n"
            "set style fill solid 1 border rgb '#ffffff'\nset key outside right top vertical reverse Left invert maxcols 1 width -3\nset yrange [0:*]\nset xrange [-0.6:%d.6]\n", RP_STAGES - 1);
    for (int s = 0; s < RP_STAGES; s++) {
        rm_str_addf(&f.data, "\"%s\"", rp_stages[s]);
        for (int p = 0; p < PASSES; p++) rm_str_addf(&f.data, " %.17g", ms[s][p]);
        rm_str_add(&f.data, "\n");
    }
    for (int p = 0; p < PASSES; p++)
        if (total[p] > 0) rp_series(&f, "using %d:xtic(1) lc rgb '%s' title '%s'", p + 2, rp_passes[p].colour, rp_passes[p].title);
    if (f.list.n) rp_end_block(&f);
    return rp_draw(&f, out_dir, "layers", 0, drawn);
}

/* ---- accuracy --------------------------------------------------------------------------------------------------- */

rm_status rp_fig_accuracy(const char *out_dir, const rp_result *r, bool *drawn)
{
    rp_plot f = { 0 };
    double least = INFINITY, most = 0, last = 0, target = rp_real(r->row, "target_top1");
    size_t i;
    json_t *epoch;
    const json_t *log = rp_at(r->row, "epochs_log");
    *drawn = false;
    json_array_foreach(log, i, epoch) last = fmax(last, rp_real(epoch, "time_s"));
    double unit = last > 7200 ? 3600 : last > 300 ? 60 : 1;
    json_array_foreach(log, i, epoch) {
        double t = rp_real(epoch, "time_s"), top1 = rp_real(epoch, "top1");
        if (!isfinite(t) || !isfinite(top1)) continue;
        rm_str_addf(&f.data, "%.17g %.17g\n", t / unit, top1);
        least = fmin(least, top1);
        most = fmax(most, top1);
    }
    if (!isfinite(least)) {
        rp_plot_free(&f);
        return RM_OK;
    }
    rp_series(&f, "using 1:2 with linespoints pt 7 ps 0.9 lw 2 lc rgb '" RP_BLUE "' title 'measured, after each epoch'");
    rp_end_block(&f);
    if (target > 0) {
        least = fmin(least, target);
        most = fmax(most, target);
        rm_str_addf(&f.data, "0 %.17g\n%.17g %.17g\n", target, 1.04 * last / unit, target);
        rp_series(&f, "using 1:2 with lines lw 1.8 dt 2 lc rgb '" RP_ORANGE "' title 'target %g %%'", target);
        rp_end_block(&f);
    }
    double low = fmax(0, 10 * floor((least - 3) / 10)), high = fmin(100, 10 * ceil((most + 3) / 10));
    rp_say(&f, "set xlabel 'time since the start, evaluation included (%s)'\nset ylabel 'top-1 accuracy on the validation images (%%)'\n"
            "set xrange [0:%.17g]\nset yrange [%g:%g]\nset key bottom right\n",
        unit == 1 ? "s" : unit == 60 ? "min" : "h", 1.04 * last / unit, low, high);
    return rp_draw(&f, out_dir, "accuracy", 0, drawn);
}
