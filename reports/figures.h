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

/* Passes of a layer row; `pass` as stored, title and colour for people. Ends with pass NULL. rp_pass_of() gives the index. */
typedef struct rp_pass { const char *pass, *title, *colour; } rp_pass;
extern const rp_pass rp_passes[];
int rp_pass_of(const json_t *layer);
/* Index into rp_stages of a layer's name ("layer2.0.conv1", "maxpool", "fc") and pass. */
extern const char *const rp_stages[];
enum { RP_STAGES = 7 };
int rp_stage_of(const char *layer, const char *pass);
#endif
