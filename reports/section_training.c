/* Training to accuracy, and the layers of one step. */
#include "reports/figures.h"
#include "reports/sections.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- training --------------------------------------------------------------------------------------------------- */

typedef struct field { const char *title, *key; bool number; } field;

/* One row a training run, newest first; text fields fall back on the run's configuration. */
static void runs_table(rp_context *c, const char *caption, const field *f, size_t n)
{
    enum { MOST_RUNS = 12, MOST_FIELDS = 16 };
    rp_column column[MOST_FIELDS + 2] = { { "Run", true }, { "Origin", false } };
    rp_why why = { { 0 } };
    size_t shown = 0;
    RM_ASSERT(n <= MOST_FIELDS);
    for (size_t k = 0; k < n; k++) column[k + 2] = (rp_column){ f[k].title, f[k].number };
    rp_table_begin(c->doc, RP_TABLE, column, n + 2, "%s", caption);
    for (size_t i = 0; i < c->data->n_results && shown < MOST_RUNS; i++) {
        const rp_result *r = &c->data->result[i];
        char text[128];
        if (strcmp(r->run->command, "train")) continue;
        shown++;
        rp_row(c->doc, rp_style_of(r->origin, r->correct));
        rp_cell(c->doc, "%lld", (long long)r->run->id);
        rp_cell(c->doc, "%s%s", r->origin, r->correct ? "" : ", WRONG: not to be used");
        for (size_t k = 0; k < n; k++) {
            if (f[k].number) rp_value(c->doc, r, f[k].key, 1, json_is_integer(rp_at(r->row, f[k].key)) ? 9 : 4, &why);
            else rp_cell(c->doc, "%s", rp_setting(r, f[k].key, "default", text, sizeof text));
        }
    }
    rp_reasons(c->doc, &why);
}

static const field outcome[] = {
    { "Recipe", "recipe", false }, { "Devices", "ranks", true }, { "Epochs", "epochs", true }, { "Top-1 (%)", "final_top1", true },
    { "Top-5 (%)", "final_top5", true }, { "Target (%)", "target_top1", true }, { "Time to accuracy (s)", "time_to_accuracy_s", true },
    { "Whole run (s)", "run_s", true }, { "images/s", "images_per_s", true },
};
static const field condition[] = {
    { "Device", "device", false }, { "Number type", "dtype", false }, { "Image (px)", "px", true }, { "Batch per device", "batch_per_device", true },
    { "Seed", "seed", true }, { "Input stall (s)", "input_stall_s", true }, { "Bad images", "bad_images", true },
};

static void epochs_table(rp_doc *d, const rp_result *r)
{
    static const rp_column column[] = { { "Epoch", true }, { "Time (s)", true }, { "Top-1 (%)", true }, { "Top-5 (%)", true }, { "Training loss", true },
                                        { "images/s", true }, { "Learning rate", true } };
    static const struct { const char *key; int digits; } value[] = { { "epoch", 9 }, { "time_s", 4 }, { "top1", 4 }, { "top5", 4 }, { "train_loss", 4 },
                                                                     { "images_per_s", 4 }, { "lr", 3 } };
    const json_t *log = rp_at(r->row, "epochs_log");
    size_t i;
    json_t *epoch;
    if (!json_array_size(log)) return;
    rp_fold(d, "Accuracy by epoch, %zu rows, all measured", json_array_size(log));
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Run %lld; time counts from the start, evaluation included", (long long)r->run->id);
    json_array_foreach(log, i, epoch) {
        rp_row(d, RP_MEASURED);
        for (size_t k = 0; k < RM_COUNT(value); k++) rp_cell(d, "%s", rp_num(rp_real(epoch, value[k].key), value[k].digits).text);
    }
    rp_fold_end(d);
}

rm_status rp_section_training(rp_context *c)
{
    size_t n;
    const rp_result *r = rp_newest(c->data, "train", NULL, &n);
    bool drawn = false;
    if (!r) return RM_OK;
    rp_heading(c->doc, 2, "Training to accuracy");
    rm_status st = rp_fig_accuracy(c->out_dir, r, &drawn);
    RM_TRY(rp_add_figure(c, st, drawn, "accuracy.svg", "Top-1 accuracy on the validation images against time, with the target.",
                         "Top-1 accuracy on every validation image, against time since the start; evaluation counts. The dashed line is the target."));
    runs_table(c, "Training runs, newest first", outcome, RM_COUNT(outcome));
    runs_table(c, "Under which conditions", condition, RM_COUNT(condition));
    rp_command(c->doc, "%s", rp_reproduce(r));
    epochs_table(c->doc, r);
    return RM_OK;
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

static int slower_first(const void *a, const void *b)
{
    double x = rp_real(*(const json_t *const *)a, "time_s"), y = rp_real(*(const json_t *const *)b, "time_s");
    return (x < y) - (x > y);
}

static void layer_rows(rp_doc *d, const json_t *const *layer, size_t n, const char *caption)
{
    static const rp_column column[] = { { "Layer", false }, { "Pass", false }, { "Operation", false }, { "Implementation", false }, { "Time (ms)", true },
                                        { "Share (%)", true }, { "GFLOP/s", true }, { "GB/s", true } };
    static const char *const text[] = { "name", "pass", "op", "impl" };
    static const struct { const char *key; double scale; } value[] = { { "time_s", 1e3 }, { "share", 100 }, { "gflops_per_s", 1 }, { "gb_per_s", 1 } };
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "%s", caption);
    for (size_t i = 0; i < n; i++) {
        rp_row(d, RP_MEASURED);
        for (size_t k = 0; k < RM_COUNT(text); k++) {
            const char *s = rp_string(layer[i], text[k]);
            rp_cell(d, "%s", s ? s : "–");
        }
        for (size_t k = 0; k < RM_COUNT(value); k++) rp_cell(d, "%s", rp_num(rp_real(layer[i], value[k].key) * value[k].scale, 3).text);
    }
}

static void passes_table(rp_doc *d, const json_t *const *layer, size_t n, double step)
{
    static const rp_column column[] = { { "Pass", false }, { "Rows", true }, { "Time (ms)", true }, { "Share of the step (%)", true }, { "GFLOP/s", true }, { "GB/s", true } };
    double all = 0;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Sums by pass");
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
        rp_row(d, RP_MEASURED);
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

static void layers_tables(rp_doc *d, const rp_result *r, const json_t **layer, size_t n)
{
    char px[32], batch[32], dtype[32], device[64];
    enum { TOP = 20 };
    rp_text(d, "One training step at %s px, batch %s, %s, device %s: %s ms (measured).", rp_setting(r, "px", "?", px, sizeof px),
            rp_setting(r, "batch", "?", batch, sizeof batch), rp_setting(r, "dtype", "default type", dtype, sizeof dtype),
            rp_setting(r, "device", "auto", device, sizeof device), rp_num(1e3 * rp_real(r->row, "step_s"), 4).text);
    passes_table(d, layer, n, rp_real(r->row, "step_s"));
    rp_fold(d, "All %zu rows in the order of the step", n);
    layer_rows(d, layer, n, "All rows, measured");
    rp_fold_end(d);
    qsort(layer, n, sizeof *layer, slower_first);
    layer_rows(d, layer, n < TOP ? n : TOP, n < TOP ? "The slowest rows, measured" : "The 20 slowest rows, measured");
    rp_command(d, "%s", rp_reproduce(r));
}

rm_status rp_section_layers(rp_context *c)
{
    size_t n, i;
    const rp_result *r = rp_newest(c->data, "layers", NULL, &n);
    if (!r) return RM_OK;
    const json_t *rows = rp_at(r->row, "layers");
    bool drawn = false;
    if (!json_array_size(rows)) return RM_OK;
    n = json_array_size(rows);
    const json_t **layer = calloc(n, sizeof *layer);
    if (!layer) return rm_fail(RM_E_NOMEM, "out of memory for the table of layers");
    for (i = 0; i < n; i++) layer[i] = json_array_get(rows, i);
    rp_heading(c->doc, 2, "Layers");
    rm_status st = rp_fig_layers(c->out_dir, r, &drawn);
    st = rp_add_figure(c, st, drawn, "layers.svg", "Time of one step by stage of the network, stacked by pass.",
                       "Time of one measured step by stage of the network, stacked by pass. Work that belongs to no stage is under \"other\".");
    if (st == RM_OK) layers_tables(c->doc, r, layer, n);
    free(layer);
    return st;
}
