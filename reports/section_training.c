/* Training to accuracy. */
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
