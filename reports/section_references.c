/* Published figures of other systems, each with its conditions, and a check of each against itself: do images/s, epochs and
 * wall time agree? Never merged with what was measured here. */
#include "reports/csv.h"
#include "reports/sections.h"
#include <math.h>
#include <stdlib.h>

extern const struct rm_embedded { const char *name, *text; } references_embedded[];

enum { SYSTEM, DEVICES, PRECISION, FRAMEWORK, BATCH, IMAGES_PER_S, EPOCHS, WALL_MIN, CONDITIONS, SOURCE, CHECKED, FIELDS };
static const double IMAGENET_TRAIN = 1281167, TOLERANCE = 0.15; /* published hours are rounded, and evaluation takes its part */

static double number(const char *text) { return text[0] ? strtod(text, NULL) : NAN; }
static const char *or_dash(const char *text) { return text[0] ? text : "–"; }

/* The check in words; *out_off tells whether the row disagrees with itself. */
static void check(char *const *f, rp_doc *d, bool *out_off)
{
    double predicted = number(f[EPOCHS]) * IMAGENET_TRAIN / number(f[IMAGES_PER_S]) / 60, wall = number(f[WALL_MIN]);
    if (!(predicted > 0) || !(wall > 0)) {
        rp_cell(d, "–");
        return;
    }
    *out_off = fabs(wall / predicted - 1) > TOLERANCE;
    rp_cell(d, "%s, %s", rp_num(predicted, 3).text, *out_off ? "disagrees" : "agrees");
}

typedef struct references { rp_context *c; size_t off; } references;

static rm_status row(void *ctx, char *const *f, int n)
{
    references *r = ctx;
    rp_doc *d = r->c->doc;
    bool off = false;
    if (n != FIELDS) return rm_fail(RM_E_FORMAT, "references.csv: %d columns, not %d", n, FIELDS);
    rp_row(d, RP_PLAIN);
    rp_cell(d, "%s", f[SYSTEM]);
    rp_cell(d, "%s", or_dash(f[IMAGES_PER_S]));
    rp_cell(d, "%s", f[PRECISION]);
    rp_cell(d, "%s", f[FRAMEWORK]);
    rp_cell(d, "%s", or_dash(f[BATCH]));
    rp_cell(d, "%s", or_dash(f[EPOCHS]));
    rp_cell(d, "%s", or_dash(f[WALL_MIN]));
    check(f, d, &off);
    rp_cell(d, "%s", f[CONDITIONS]);
    rp_cell(d, "%s (%s)", f[SOURCE], f[CHECKED]);
    r->off += off;
    return RM_OK;
}

rm_status rp_section_references(rp_context *c)
{
    static const rp_column column[] = { { "System", false }, { "images/s", true }, { "Precision", false }, { "Framework", false }, { "Batch per device", true },
                                        { "Epochs", true }, { "Time (min)", true }, { "At that rate (min)", false }, { "Conditions", false }, { "Source", false } };
    references r = { .c = c };
    rp_heading(c->doc, 2, "Published figures of other systems");
    rp_text(c->doc, "Not measured here, and not comparable with the figures above: other machines, precisions, image sizes and software. "
                    "ResNet-50 on ImageNet throughout; compare rows only where the conditions agree.");
    rp_table_begin(c->doc, RP_TABLE, column, RM_COUNT(column), "Published by others. Source read: the figure was looked up there; quoted: taken from secondary notes.");
    RM_TRY(rp_csv_each(references_embedded[0].text, references_embedded[0].name, row, &r));
    if (r.off)
        rp_note(c->doc, "%zu published row%s more than %g %% between the time given and epochs × 1,281,167 images ÷ images/s: rounding, "
                        "evaluation and input explain part of it, but rate and time were then not measured in the same run.",
                r.off, r.off == 1 ? " differs by" : "s differ by", 100 * TOLERANCE);
    return RM_OK;
}
