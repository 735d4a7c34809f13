/* gnuplot as a child process with a script and data files in a temporary folder that is removed again. */
#ifndef RM_REPORTS_GNUPLOT_H
#define RM_REPORTS_GNUPLOT_H
#include "base/strbuf.h"

enum { RP_WIDTH = 800, RP_HEIGHT = 450 }; /* of a figure, in its own pixels */

/* Draws `out_dir/name.svg` (replaced whole) from the body of a script, run in a folder that holds `data` as "data". The
 * terminal (RP_WIDTH by `height`, 0: RP_HEIGHT), output, font and grid are set before it. RM_E_UNSUPPORTED when gnuplot is not
 * installed, RM_E_IO with its own first line of complaint when it fails. */
rm_status rp_gnuplot(const char *out_dir, const char *name, int height, const rm_strbuf *script, const rm_strbuf *data) RM_CHECKED;

/* A text for a double-quoted gnuplot string of an enhanced terminal: nothing in it is markup, command or escape. */
void rp_escape_gnuplot(rm_strbuf *out, const char *text);

/* Okabe and Ito's palette, told apart by the colour-blind; darkened where thin lines on white need it. */
#define RP_BLUE   "#0072b2"
#define RP_ORANGE "#d55e00"
#define RP_GREEN  "#009e73"
#define RP_PURPLE "#aa4499"
#define RP_AMBER  "#e69f00"
#define RP_SKY    "#56b4e9"
#define RP_YELLOW "#d8c21d"
#define RP_GREY   "#6e7781"
#endif
