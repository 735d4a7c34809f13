/* The screen over a history of sessions: is the newest one out of line? It asks for a paired verdict, and gives none. Pure functions; any thread.
 *
 * y: ln of what is measured, one value a session, oldest first; above is slower. */
#ifndef RM_REPORTS_GATE_SCREEN_H
#define RM_REPORTS_GATE_SCREEN_H
#include "reports/gate_rule.h"

enum { RP_LEAST_PIECE = 3 }; /* sessions between two changes */

/* Where the level changed: the piecewise constant fit of rm_pieces() with a penalty from the noise. begin: room for n / RP_LEAST_PIECE + 1, at least 1. */
rm_status rp_screen_pieces(const double *y, int n, int *begin, int *out_pieces) RM_CHECKED;

/* verdict: SUSPECT, PASS, or NO_BASELINE with fewer than 2 * RP_LEAST_PIECE sessions before the newest. baseline: the median of the last piece of the
 * past, from session `from` on, `sessions` of them. delta: of the newest against it. threshold: what delta had to reach; noise: what it had to for the noise
 * alone, whatever the least effect. best: the least median of any
 * piece of the past, from session `best_from` on; best_delta likewise. */
typedef struct rp_screened { rp_verdict verdict; double baseline, delta, threshold, noise, best, best_delta; int from, sessions, best_from, best_sessions; } rp_screened;
rm_status rp_screen(const double *y, int n, double effect, rp_screened *out) RM_CHECKED;
#endif
