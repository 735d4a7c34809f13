/* A figure in the making: gnuplot's script, its data in numbered blocks, and the list of things to plot. All zero is empty;
 * running out of memory is remembered and reported by rp_draw(). */
#ifndef RM_REPORTS_PLOT_H
#define RM_REPORTS_PLOT_H
#include "base/strbuf.h"
#include "reports/gnuplot.h"

typedef struct rp_plot { rm_strbuf script, data, list; int blocks; } rp_plot;

void rp_say(rp_plot *f, const char *fmt, ...) RM_PRINTF(2, 3);    /* to the script */
void rp_series(rp_plot *f, const char *fmt, ...) RM_PRINTF(2, 3); /* one more thing to plot from the block that is filled next */
void rp_also(rp_plot *f, const char *fmt, ...) RM_PRINTF(2, 3);   /* one more from the same block as the last */
void rp_end_block(rp_plot *f);
void rp_quoted(rp_plot *f, const char *text);                     /* to the script: the text as a string of gnuplot, nothing in it markup */
/* What is listed so far becomes one plot; more may follow when the script has begun a multiplot. */
void rp_end_panel(rp_plot *f);
/* Draws what there is as out_dir/name.svg, `height` (0: RP_HEIGHT) by RP_WIDTH, and frees it. No block: *drawn stays false. */
rm_status rp_draw(rp_plot *f, const char *out_dir, const char *name, int height, bool *drawn) RM_CHECKED;
void rp_plot_free(rp_plot *f);
#endif
