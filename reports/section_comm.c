/* Collectives alone: time and bandwidth by size, in the terms of nccl-tests, and the fitted cost. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_fit(const rp_result *r)
{
    const char *kind = rp_string(r->row, "kind");
    return kind && !strcmp(kind, "fit");
}

static bool same_text(const rp_result *a, const rp_result *b, const char *key)
{
    const char *x = rp_string(a->row, key), *y = rp_string(b->row, key);
    return x == y || (x && y && !strcmp(x, y));
}

static bool same_curve(const rp_result *a, const rp_result *b)
{
    return same_text(a, b, "op") && same_text(a, b, "dtype") && same_text(a, b, "comm_library") && !strcmp(a->origin, b->origin) &&
           rp_real(a->row, "ranks") == rp_real(b->row, "ranks") && json_equal(rp_at(a->row, "hosts"), rp_at(b->row, "hosts"));
}

/* "all-reduce fp32, 4 ranks on 2 hosts, Open MPI 4.1, emulated" */
static void curve_title(rp_curve *c)
{
    const rp_result *r = c->point[0];
    const json_t *h = rp_at(r->row, "hosts");
    const char *op = rp_string(r->row, "op"), *type = rp_string(r->row, "dtype"), *library = rp_string(r->row, "comm_library");
    double hosts = json_is_array(h) ? (double)json_array_size(h) : rp_real(r->row, "hosts"); /* a count, or their names */
    bool measured = rp_measured(r);
    rm_strbuf s = { 0 };
    rm_str_addf(&s, "%.40s%s%.12s, %s ranks", op ? op : "?", type ? " " : "", type ? type : "", rp_num(rp_real(r->row, "ranks"), 6).text);
    if (hosts > 1) rm_str_addf(&s, " on %g hosts", hosts);
    rm_str_addf(&s, "%s%.32s%s%s", library ? ", " : "", library ? library : "", measured ? "" : ", ", measured ? "" : rp_origin(r));
    snprintf(c->title, sizeof c->title, "%s", s.text ? s.text : "?");
    rm_str_free(&s);
}

static int smaller_first(const void *a, const void *b)
{
    double x = rp_real((*(const rp_result *const *)a)->row, "bytes"), y = rp_real((*(const rp_result *const *)b)->row, "bytes");
    return (x > y) - (x < y);
}

static void free_curves(rp_curve *c, size_t n)
{
    for (size_t k = 0; k < n; k++) free(c[k].point);
    free(c);
}

/* The newest run of each operation, number of ranks and so on. */
static rm_status curves_of(const rp_data *d, rp_curve **out, size_t *out_n)
{
    rp_curve *c = calloc(d->n_results ? d->n_results : 1, sizeof *c);
    size_t n = 0;
    *out_n = 0;
    if (!c) return rm_fail(RM_E_NOMEM, "out of memory for the curves of collectives");
    for (size_t i = 0; i < d->n_results; i++) {
        const rp_result *r = &d->result[i];
        size_t k = 0;
        if (strcmp(r->run->command, "comm") || is_fit(r)) continue;
        while (k < n && !same_curve(c[k].point[0], r)) k++;
        if (k < n && c[k].point[0]->run != r->run) continue; /* older */
        if (k == n) {
            c[k].point = calloc(d->n_results - i, sizeof *c[k].point);
            if (!c[k].point) {
                free_curves(c, n);
                return rm_fail(RM_E_NOMEM, "out of memory for the curves of collectives");
            }
            n++;
        }
        c[k].point[c[k].n++] = r;
    }
    for (size_t k = 0; k < n; k++) {
        qsort(c[k].point, c[k].n, sizeof *c[k].point, smaller_first);
        curve_title(&c[k]);
        for (size_t i = 0; i < d->n_results; i++) {
            const rp_result *f = &d->result[i], *p = c[k].point[0];
            bool same_type = !rp_string(f->row, "dtype") || same_text(f, p, "dtype");
            if (f->run == p->run && is_fit(f) && same_text(f, p, "op") && same_type && rp_real(f->row, "ranks") == rp_real(p->row, "ranks")) c[k].fit = f;
        }
    }
    *out = c;
    *out_n = n;
    return RM_OK;
}

static void curve_table(rp_doc *d, const rp_curve *c, bool fold)
{
    static const rp_column column[] = {
        { "size (B)", true }, { "count (elements)", true }, { "type", false }, { "redop", false }, { "root", true }, { "time (us)", true }, { "MAD (us)", true },
        { "algbw (GB/s)", true }, { "busbw (GB/s)", true }, { "#wrong", true }, { "iterations", true }, { "Origin", false },
    };
    static const struct { const char *path; double scale; int digits; } number[] = {
        { "time_s.median", 1e6, 4 }, { "time_s.mad", 1e6, 3 }, { "algbw_bytes_per_s", 1e-9, 3 }, { "busbw_bytes_per_s", 1e-9, 3 }, { "wrong", 1, 9 }, { "iterations", 1, 9 },
    };
    rp_why why = { { 0 } };
    double busbw = 0;
    size_t n = 0;
    if (fold) rp_fold(d, "%s: %zu sizes", c->title, c->n);
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "%s", c->title);
    rp_live(d);
    for (size_t i = 0; i < c->n; i++) {
        const rp_result *r = c->point[i];
        const char *type = rp_string(r->row, "dtype"), *redop = rp_string(r->row, "redop");
        bool right = r->correct && !(rp_real(r->row, "wrong") > 0);
        char root[32];
        rp_row(d, rp_style_of(r->origin, right));
        rp_value(d, r, "bytes", 1, 15, NULL);
        rp_value(d, r, "count", 1, 15, NULL);
        rp_cell(d, "%s", type ? type : "–");
        rp_cell(d, "%s", redop ? redop : "–");
        rp_cell(d, "%s", rp_text_of(rp_at(r->row, "root"), root, sizeof root));
        for (size_t k = 0; k < RM_COUNT(number); k++) rp_value(d, r, number[k].path, number[k].scale, number[k].digits, &why);
        rp_cell(d, "%s%s%s", rp_origin(r), json_is_true(rp_at(r->row, "oversubscribed")) ? ", oversubscribed" : "", right ? "" : ", WRONG: not to be used");
        if (!right || isnan(rp_real(r->row, "busbw_bytes_per_s"))) continue;
        busbw += rp_real(r->row, "busbw_bytes_per_s");
        n++;
    }
    rp_reasons(d, &why);
    if (n) rp_text(d, "Average bus bandwidth over these sizes: %s GB/s.", rp_num(1e-9 * busbw / (double)n, 4).text);
    if (fold) rp_fold_end(d);
}

static void fit_table(rp_doc *d, const rp_curve *c, size_t n)
{
    static const rp_column column[] = { { "Collective", false }, { "Origin", false }, { "Points", true }, { "alpha (us)", true }, { "beta (ns/KiB)", true }, { "1 / beta (GB/s)", true },
                                        { "Largest error when a size is left out (%)", true } };
    rp_why why = { { 0 } };
    size_t fits = 0;
    for (size_t k = 0; k < n; k++) fits += c[k].fit != NULL;
    if (!fits) return;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Fitted cost T(S): piecewise linear, never falling");
    for (size_t k = 0; k < n; k++) {
        const rp_result *f = c[k].fit;
        if (!f) continue;
        rp_row(d, rp_style_of(c[k].point[0]->origin, f->correct));
        rp_cell(d, "%s", c[k].title);
        rp_cell(d, "%s", rp_origin(c[k].point[0]));
        rp_cell(d, "%zu", json_array_size(rp_at(f->row, "cost")));
        rp_value(d, f, "alpha_s", 1e6, 3, &why);
        rp_value(d, f, "beta_s_per_byte", 1e9 * 1024, 3, &why);
        rp_cell(d, "%s", rp_num(1e-9 / rp_real(f->row, "beta_s_per_byte"), 3).text);
        rp_value(d, f, "fit_error_share", 100, 3, &why);
    }
    rp_reasons(d, &why);
    rp_text(d, "alpha is the cost of the smallest message, beta the slope of the last piece. The search over splits uses the whole curve.");
}

static rm_status figures(rp_context *c, const rp_curve *curve, size_t n)
{
    bool drawn = false;
    rm_status st = rp_fig_comm(c->out_dir, "comm-time", curve, n, false, &drawn);
    RM_TRY(rp_add_figure(c, st, drawn, "comm-time.svg", "Time of a collective against the size of its message, both logarithmic, with the fitted cost.",
                         "Time against size, both logarithmic: median with its MAD as points, the fitted cost as a line. Hollow points and broken lines: not measured here."));
    drawn = false;
    st = rp_fig_comm(c->out_dir, "comm-bandwidth", curve, n, true, &drawn);
    return rp_add_figure(c, st, drawn, "comm-bandwidth.svg", "Bus bandwidth of a collective against the size of its message, both logarithmic, with the fitted cost.",
                         "Bus bandwidth against size: algbw = size / time; busbw = algbw 2 (n - 1) / n for all-reduce and algbw for broadcast, so that it can be held against the wire.");
}

rm_status rp_section_comm(rp_context *c)
{
    rp_curve *curve = NULL;
    size_t n = 0;
    RM_TRY(curves_of(c->data, &curve, &n));
    rm_status st = RM_OK;
    if (n) {
        rp_heading(c->doc, 2, "Collectives by size");
        if (n > RP_MOST_CURVES) rp_text(c->doc, "The figures show the first %d of %zu; the tables hold them all.", RP_MOST_CURVES, n);
        RM_TRY_GOTO(st, figures(c, curve, n), out);
        rp_command(c->doc, "%s", curve[0].point[0]->run->command_line);
        fit_table(c->doc, curve, n);
        for (size_t k = 0; k < n; k++) curve_table(c->doc, &curve[k], k > 0);
    }
out:
    free_curves(curve, n);
    return st;
}
