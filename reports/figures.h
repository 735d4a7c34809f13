/* The figures. Each writes out_dir/NAME.svg (the name in quotes, or `name`) and sets *drawn; nothing to draw is RM_OK with *drawn false. Without gnuplot:
 * RM_E_UNSUPPORTED. Units are on every axis; what was not measured never looks as if it was. */
#ifndef RM_REPORTS_FIGURES_H
#define RM_REPORTS_FIGURES_H
#include "reports/model.h"

/* images/s against devices with the ideal line; measured solid with its 95 % interval, emulated and projected
 * dashed and hollow, devices without a number as hollow marks on the axis. r: (n) results of one sweep. */
rm_status rp_fig_throughput(const char *out_dir, const char *name, const rp_result *r, size_t n, bool *drawn) RM_CHECKED;
/* Every step time as a dot beside the box of its N (quartiles; whiskers 5 to 95 %). */
rm_status rp_fig_steps(const char *out_dir, const char *name, rm_store *store, const rp_result *r, size_t n, bool *drawn) RM_CHECKED;
/* "layers": time by stage of the network, stacked by pass. */
rm_status rp_fig_layers(const char *out_dir, const rp_result *r, bool *drawn) RM_CHECKED;
/* "accuracy": top-1 against time since the start, evaluation included, with the target. */
rm_status rp_fig_accuracy(const char *out_dir, const rp_result *r, bool *drawn) RM_CHECKED;

/* Bars by N. Loss: the ideal step and the terms of the loss on it, negative ones below zero, with the median step as a mark.
 * Budget: the terms of the step. What was not measured is pale and says its origin below the bar. */
rm_status rp_fig_loss(const char *out_dir, const char *name, const rp_result *r, size_t n, bool *drawn) RM_CHECKED;
rm_status rp_fig_budget(const char *out_dir, const char *name, const rp_result *r, size_t n, bool *drawn) RM_CHECKED;
/* The ideal step of a row in s: one device's with the same batch, collectives off; NaN when the row has no baseline. */
double rp_ideal_step(const json_t *row);

/* Split by split, in the order given, from the top: step time, exposed communication and its cost. r: (n) with a step time. */
rm_status rp_fig_splits(const char *out_dir, const char *name, const rp_result *const *r, size_t n, bool *drawn) RM_CHECKED;
/* Lanes of one step with its buckets, one panel a row on a common axis; rows without a "gantt" are left out. titles: (n) */
rm_status rp_fig_gantt(const char *out_dir, const char *name, const rp_result *const *r, const char *const *titles, size_t n, bool *drawn) RM_CHECKED;
/* A split's name for a figure or a table: "107,160", "8,16,…,160 (20 ends)". */
typedef struct rp_short { char text[64]; } rp_short;
rp_short rp_short_split(const char *split);

/* One operation of bench comm over sizes: points by size, and its fit or NULL. */
typedef struct rp_curve { const rp_result **point; size_t n; const rp_result *fit; char title[128]; } rp_curve;
enum { RP_MOST_CURVES = 6 }; /* in one figure: colours end */
/* Time (or bus bandwidth) against size, both logarithmic: points with their MAD, the fit as a line. */
rm_status rp_fig_comm(const char *out_dir, const char *name, const rp_curve *curve, size_t n, bool bandwidth, bool *drawn) RM_CHECKED;

/* Of `bench profile`. Timeline: one step's lanes, rank by rank, as SVG without gnuplot, live in a browser (see timeline.js); what it has no room for is counted.
 * Budget: one lying bar a number of ranks, r: (n). Roofline: every op of "layers" with a bound against the measured roofs "roof" and "peaks", both axes
 * logarithmic; ops in an emulated number type and without a bound are left out. Sensitivity: measured against predicted slope of each delayed thing. */
typedef struct rp_left_out { size_t ranks, spans; } rp_left_out;
rm_status rp_fig_timeline(const char *out_dir, const char *name, const rp_result *r, bool *drawn, rp_left_out *out_left) RM_CHECKED;
rm_status rp_fig_budget_bars(const char *out_dir, const char *name, const rp_result *const *r, size_t n, bool *drawn) RM_CHECKED;
rm_status rp_fig_roofline(const char *out_dir, const char *name, const rp_result *r, bool *drawn) RM_CHECKED;
rm_status rp_fig_sensitivity(const char *out_dir, const char *name, const rp_result *r, bool *drawn) RM_CHECKED;

/* Of the gate, from its rows (docs/gate.md). Pairs: every pair of each verdict as a dot, the estimate with its bounds, and the least effect either way; row: (n).
 * History: sessions, levels and named changes of one "history" row. Power: how often a slow-down is found, simulated findings and measured rates; row: (n). */
enum { RP_MOST_PAIRS = 256 };
rm_status rp_fig_gate_pairs(const char *out_dir, const char *name, const json_t *const *row, size_t n, bool *drawn) RM_CHECKED;
rm_status rp_fig_history(const char *out_dir, const char *name, const json_t *row, bool *drawn) RM_CHECKED;
rm_status rp_fig_gate_power(const char *out_dir, const char *name, const json_t *const *row, size_t n, bool *drawn) RM_CHECKED;

/* Passes of a layer row; `pass` as stored, title and colour for people. Ends with pass NULL. rp_pass_of() gives the index. */
typedef struct rp_pass { const char *pass, *title, *colour; } rp_pass;
extern const rp_pass rp_passes[];
int rp_pass_of(const json_t *layer);
/* Index into rp_stages of a layer's name ("layer2.0.conv1", "maxpool", "fc") and pass. */
extern const char *const rp_stages[];
enum { RP_STAGES = 7 };
int rp_stage_of(const char *layer, const char *pass);
#endif
