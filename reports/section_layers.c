/* The layers of one step: rows of bench layers and bench profile, with their bounds. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static int slower_first(const void *a, const void *b)
{
    double x = rp_real(*(const json_t *const *)a, "time_s"), y = rp_real(*(const json_t *const *)b, "time_s");
    return (x < y) - (x > y);
}

typedef struct field {
    const char *title, *key;
    double scale;
    bool bound;
} field; /* scale 0: text */
static const field fields[] = {
    { "Layer", "name", 0, false },
    { "Pass", "pass", 0, false },
    { "Operation", "op", 0, false },
    { "Time (ms)", "time_s", 1e3, false },
    { "Share (%)", "share", 100, false },
    { "Bound (ms)", "bound_s", 1e3, true },
    { "Bound / time (%)", "bound_share", 100, true },
    { "Limit", "bound_limit", 0, true },
    { "Step if at bound (ms)", "step_if_at_bound_s", 1e3, true },
    { "GFLOP/s", "gflops_per_s", 1, false },
    { "GB/s", "gb_per_s", 1, false },
    { "Implementation", "impl", 0, false },
};

static bool bounded(const json_t *layers)
{
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer) if (isfinite(rp_real(layer, "bound_s"))) return true;
    return false;
}

static void layer_rows(rp_doc *d, const rp_result *r, const json_t *const *layer, size_t n, const char *caption)
{
    rp_column column[RM_COUNT(fields)];
    size_t columns = 0;
    const field *shown[RM_COUNT(fields)];
    bool bounds = bounded(rp_at(r->row, "layers"));
    for (size_t k = 0; k < RM_COUNT(fields); k++) {
        if (fields[k].bound && !bounds) continue;
        shown[columns] = &fields[k];
        column[columns++] = (rp_column) { fields[k].title, fields[k].scale > 0 };
    }
    rp_table_begin(d, RP_TABLE, column, columns, "%s", caption);
    rp_live(d);
    for (size_t i = 0; i < n; i++) {
        rp_row(d, rp_style_of(r->origin, r->correct));
        for (size_t k = 0; k < columns; k++) {
            const char *text = shown[k]->scale > 0 ? NULL : rp_string(layer[i], shown[k]->key);
            if (shown[k]->scale > 0) rp_cell(d, "%s", rp_num(rp_real(layer[i], shown[k]->key) * shown[k]->scale, 3).text);
            else rp_cell(d, "%s", text && *text ? text : "–");
        }
    }
}

static void passes_table(rp_doc *d, const rp_result *r, const json_t *const *layer, size_t n, double step, const char *about)
{
    static const rp_column column[] = { { "Pass", false },   { "Rows", true }, { "Time (ms)", true }, { "Share of the step (%)", true },
                                        { "GFLOP/s", true }, { "GB/s", true } };
    double all = 0;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Sums by pass, %s", about);
    for (const rp_pass *p = rp_passes; p->pass; p++) {
        double time = 0, flops = 0, bytes = 0;
        size_t rows = 0;
        for (size_t i = 0; i < n; i++) {
            if (rp_pass_of(layer[i]) != p - rp_passes) continue;
            rows++;
            time += fmax(0, rp_real(layer[i], "time_s"));
            flops += fmax(0, rp_real(layer[i], "flops"));
            bytes += fmax(0, rp_real(layer[i], "bytes"));
        }
        if (!rows) continue;
        all += time;
        rp_row(d, rp_style_of(r->origin, r->correct));
        rp_cell(d, "%s", p->title);
        rp_cell(d, "%zu", rows);
        rp_cell(d, "%s", rp_num(1e3 * time, 4).text);
        rp_cell(d, "%s", rp_num(100 * time / step, 3).text);
        rp_cell(d, "%s", flops > 0 ? rp_num(1e-9 * flops / time, 3).text : "–");
        rp_cell(d, "%s", bytes > 0 ? rp_num(1e-9 * bytes / time, 3).text : "–");
    }
    rp_row(d, RP_PLAIN);
    rp_cell(d, "together");
    rp_cell(d, "%zu", n);
    rp_cell(d, "%s", rp_num(1e3 * all, 4).text);
    rp_cell(d, "%s", rp_num(100 * all / step, 3).text);
    rp_cell(d, "–");
    rp_cell(d, "–");
}

/* Of the step the rows sum to, s. */
static double step_of(const rp_result *r)
{
    double wall = 1e-9 * rp_real(r->row, "wall_ns");
    return isnan(wall) ? rp_real(r->row, "step_s") : wall;
}

/* The whole against what the machine can do. */
static void whole_text(rp_doc *d, const rp_result *r)
{
    double at_bounds = rp_real(r->row, "at_bounds_s"), mfu = rp_real(r->row, "mfu");
    const char *peak = rp_string(r->row, "mfu_peak"), *no_mfu = rp_own_reason(r->row, "mfu");
    if (isfinite(at_bounds))
        rp_text(d, "With every operation at its bound the step would take %s ms (projected) in place of %s ms.", rp_num(1e3 * at_bounds, 3).text,
                rp_num(1e3 * step_of(r), 4).text);
    if (isfinite(mfu)) rp_text(d, "Model FLOP utilisation: %s %% of the peak \"%s\" (%s).", rp_num(100 * mfu, 3).text, peak ? peak : "?", rp_origin(r));
    else if (no_mfu) rp_text(d, "There is no model FLOP utilisation: %s.", no_mfu);
}

static void tables(rp_doc *d, const rp_result *r, const json_t **layer, size_t n, const char *about)
{
    enum { TOP = 20 };
    char caption[256];
    const char *no_bound = rp_own_reason(r->row, "bound_s");
    passes_table(d, r, layer, n, step_of(r), about);
    rp_fold(d, "All %zu rows in the order of the step", n);
    snprintf(caption, sizeof caption, "All rows, %s", about);
    layer_rows(d, r, layer, n, caption);
    rp_fold_end(d);
    qsort(layer, n, sizeof *layer, slower_first);
    snprintf(caption, sizeof caption, "%s, %s", n < TOP ? "The slowest rows" : "The 20 slowest rows", about);
    layer_rows(d, r, layer, n < TOP ? n : TOP, caption);
    whole_text(d, r);
    if (bounded(rp_at(r->row, "layers")))
        rp_text(
            d,
            "Bound: the least time at the measured peaks of computing and of the cache or memory that the operands fit in; limit says which of them. Step if at bound: the whole step were "
            "this row alone brought down to its bound, everything else as it is.");
    else if (no_bound) rp_text(d, "There are no bounds to compare with: %s.", no_bound);
}

rm_status rp_layers_tables(rp_context *c, const rp_result *r, const char *about)
{
    const json_t *rows = rp_at(r->row, "layers");
    size_t n = json_array_size(rows);
    if (!n) return RM_OK;
    const json_t **layer = calloc(n, sizeof *layer);
    if (!layer) return rm_fail(RM_E_NOMEM, "out of memory for the table of layers");
    for (size_t i = 0; i < n; i++) layer[i] = json_array_get(rows, i);
    tables(c->doc, r, layer, n, about);
    free(layer);
    return RM_OK;
}

/* ---- roofline ---------------------------------------------------------------------------------------------------- */

static void peaks_table(rp_doc *d, const rp_result *r)
{
    static const rp_column column[] = { { "Peak", false }, { "Origin", false }, { "Value", true }, { "Unit", false }, { "How", false } };
    size_t i, disturbed = 0;
    json_t *peak;
    if (!json_array_size(rp_at(r->row, "peaks"))) return;
    rp_fold(d, "Peaks of this device");
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "What this device can do at most, measured on it");
    json_array_foreach(rp_at(r->row, "peaks"), i, peak)
    {
        double value = rp_real(peak, "value");
        const char *name = rp_string(peak, "name"), *unit = rp_string(peak, "unit"), *how = rp_string(peak, isnan(value) ? "why" : "how");
        const char *origin = isnan(value) ? "not_measured" : r->origin;
        rp_row(d, rp_style_of(origin, r->correct));
        rp_cell(d, "%s", name ? name : "–");
        rp_cell(d, "%s%s", isnan(value) ? "not\u00a0measured" : rp_origin(r), json_is_true(rp_at(peak, "disturbed")) ? ", disturbed" : "");
        rp_cell(d, "%s", rp_num(1e-9 * value, 4).text);
        disturbed += json_is_true(rp_at(peak, "disturbed"));
        rp_cell(d, "%s%s", unit ? "G" : "", unit ? unit : "–");
        rp_cell(d, "%s", how ? how : "–");
    }
    rp_fold_end(d);
    if (disturbed)
        rp_note(d,
                "Others took the processor while peaks were measured (%zu): the machine can do more than those say, and shares of a bound are too high.",
                disturbed);
}

rm_status rp_layers_roofline(rp_context *c, const rp_result *r, const char *name, const char *about)
{
    char file[96], caption[512];
    bool drawn = false;
    snprintf(file, sizeof file, "%s.svg", name);
    snprintf(
        caption, sizeof caption,
        "Roofline, %s: rate against arithmetic intensity of every operation, with the measured peaks as roofs. The names are of the five operations that take longest. "
        "Left out: number types that the processor emulates, and operations without a known bound.",
        about);
    rm_status st = rp_fig_roofline(c->out_dir, name, r, &drawn);
    RM_TRY(rp_add_figure(c, st, drawn, file, "Rate of each operation against its arithmetic intensity under the measured roofs of computing and memory.",
                         caption));
    peaks_table(c->doc, r);
    return RM_OK;
}

/* ---- section ----------------------------------------------------------------------------------------------------- */

rm_status rp_section_layers(rp_context *c)
{
    size_t n;
    const rp_result *r = rp_newest(c->data, "layers", NULL, &n);
    char px[32], batch[32], dtype[32], device[64];
    bool drawn = false;
    if (!r || !json_array_size(rp_at(r->row, "layers"))) return RM_OK;
    rp_heading(c->doc, 2, "Layers");
    rm_status st = rp_fig_layers(c->out_dir, r, &drawn);
    RM_TRY(rp_add_figure(c, st, drawn, "layers.svg", "Time of one step by stage of the network, stacked by pass.",
                         "Time of one measured step by stage of the network, stacked by pass. Work that belongs to no stage is under \"other\"."));
    rp_text(c->doc, "One training step at %s px, batch %s, %s, device %s: %s ms (%s).", rp_setting(r, "px", "?", px, sizeof px),
            rp_setting(r, "batch", "?", batch, sizeof batch), rp_setting(r, "dtype", "default type", dtype, sizeof dtype),
            rp_setting(r, "device", "auto", device, sizeof device), rp_num(1e3 * step_of(r), 4).text, rp_origin(r));
    RM_TRY(rp_layers_roofline(c, r, "layers-roofline", rp_origin(r)));
    RM_TRY(rp_layers_tables(c, r, rp_origin(r)));
    rp_command(c->doc, "%s", rp_reproduce(r));
    return RM_OK;
}
