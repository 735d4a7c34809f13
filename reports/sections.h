/* The parts of a report. Each adds its blocks to the document, and draws its figures into `out_dir`. */
#ifndef RM_REPORTS_SECTIONS_H
#define RM_REPORTS_SECTIONS_H
#include "reports/doc.h"
#include "reports/model.h"

typedef struct rp_context {
    rp_doc *doc;
    const rp_data *data;
    const char *out_dir;
    bool figures_missing; /* set once gnuplot cannot be had or a figure fails */
    char why[256];        /* the first cause */
} rp_context;

void      rp_section_summary(rp_context *c);
rm_status rp_section_profile(rp_context *c) RM_CHECKED; /* where a step goes: the newest profile of each configuration */
rm_status rp_section_scaling(rp_context *c) RM_CHECKED; /* weak and strong, each if there is one */
rm_status rp_scaling_loss(rp_context *c, const rp_result *r, size_t n, bool strong) RM_CHECKED; /* part of the above: why it falls short */
rm_status rp_section_splits(rp_context *c) RM_CHECKED;  /* the newest sweep of each configuration */
rm_status rp_section_comm(rp_context *c) RM_CHECKED;
rm_status rp_section_training(rp_context *c) RM_CHECKED;
rm_status rp_section_layers(rp_context *c) RM_CHECKED;
rm_status rp_section_gate(rp_context *c) RM_CHECKED;    /* verdicts, pairs, histories, and whether the gate can be trusted */
void      rp_section_others(rp_context *c);             /* results of every other command, as generic tables */
void      rp_section_environment(rp_context *c);
rm_status rp_section_references(rp_context *c) RM_CHECKED;
void      rp_section_runs(rp_context *c);

/* Of a row with "layers": sums by pass, the slowest rows, and all of them, with their bounds where the row has peaks. about: for captions, "measured". */
rm_status rp_layers_tables(rp_context *c, const rp_result *r, const char *about) RM_CHECKED;
/* The roofline of such a row as figure `name`, and the peaks it stands on; nothing without a roof. */
rm_status rp_layers_roofline(rp_context *c, const rp_result *r, const char *name, const char *about) RM_CHECKED;

/* A figure that was drawn, with alternative text and caption; a figure that failed becomes a note and is remembered. Status is
 * RM_E_NOMEM, RM_E_NOSPACE and the like only when going on makes no sense. */
rm_status rp_add_figure(rp_context *c, rm_status drawn_status, bool drawn, const char *file, const char *alt, const char *caption) RM_CHECKED;

/* Cells. A value that is null shows "–"; its reason is kept in `why` and printed once under the table by rp_reasons(). */
typedef struct rp_why { rm_strbuf text; } rp_why;
void rp_value(rp_doc *d, const rp_result *r, const char *path, double scale, int digits, rp_why *why);
/* "12.3 (11.9 to 12.8)": the value at `path` with the ends of its interval at `low` and `high`, which may be absent. */
void rp_between(rp_doc *d, const rp_result *r, const char *path, const char *low, const char *high, double scale, int digits, rp_why *why);
void rp_reasons(rp_doc *d, rp_why *why);
/* "measured", "emulated, oversubscribed", "measured, WRONG: not to be used": how every table says where a row is from. */
void rp_origin_cell(rp_doc *d, const rp_result *r);
/* Where steps of the row were taken while a GPU was throttled: how many and why. Nothing otherwise. */
void rp_throttled_note(rp_doc *d, const rp_result *r);
void rp_head_cells(rp_doc *d, const rp_result *r); /* begins a row: N, origin */

/* Rank by rank, who was late and who waited: rows of the arrays at `path` ({rank, host, own_s, wait_s, late_share} and, where
 * known, late_s with its interval and the verdict) of r: (n).
 * Nothing when none of them has one. */
void rp_stragglers(rp_doc *d, const rp_result *const *r, size_t n, const char *path, const char *caption);

/* The row marked best, else the fastest that is correct; NULL when none has a step time. */
const rp_result *rp_best_split(const rp_result *r, size_t n);

bool rp_is_weak(const rp_result *r);
bool rp_is_strong(const rp_result *r);
#endif
