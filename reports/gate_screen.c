#include "reports/gate_screen.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>

/* Found by simulation (reports/gate_check_history.c): a change costs as much as this many standard deviations, the newest session is out of line beyond so
 * many of them, and beyond the worst of the past by so many. */
static const double penalty_sigmas = 6, suspect_sigmas = 5, worse_sigmas = 3;
static const double least_sigma = 0.001; /* less is a coarse clock, and no level worth a name */
static const double of_normal = 1.4826; /* standard deviation over MAD */

/* From session to session, so that a change counts once. */
static double noise_of(const double *y, int n, double *step)
{
    for (int i = 0; i + 1 < n; i++) step[i] = fabs(y[i + 1] - y[i]);
    return fmax(of_normal / sqrt(2) * rm_median(step, (size_t)n - 1), least_sigma);
}

static rm_status pieces_of(const double *y, int n, double *room, int *begin, int *out_pieces)
{
    begin[0] = 0;
    *out_pieces = 1;
    if (n < 2 * RP_LEAST_PIECE) return RM_OK;
    const double sigma = noise_of(y, n, room);
    return rm_pieces(y, n, RP_LEAST_PIECE, penalty_sigmas * sigma, begin, out_pieces);
}

rm_status rp_screen_pieces(const double *y, int n, int *begin, int *out_pieces)
{
    double *room = malloc(((size_t)n + 1) * sizeof *room);
    if (!room) return rm_fail(RM_E_NOMEM, "out of memory for the history");
    rm_status st = pieces_of(y, n, room, begin, out_pieces);
    free(room);
    return st;
}

/* Of distances from the median of the own piece: their standard deviation, and the largest upwards. */
typedef struct spread {
    double sigma, worst;
} spread;
static spread spread_of(const double *y, int n, const int *begin, int pieces, double *room)
{
    double worst = 0;
    for (int p = 0; p < pieces; p++) {
        const int end = p + 1 < pieces ? begin[p + 1] : n;
        const double middle = rm_median(y + begin[p], (size_t)(end - begin[p]));
        for (int i = begin[p]; i < end; i++) {
            room[i] = fabs(y[i] - middle);
            worst = fmax(worst, y[i] - middle);
        }
    }
    return (spread) { of_normal * rm_median(room, (size_t)n), worst };
}

static void take_best(const double *y, int n, const int *begin, int pieces, rp_screened *s)
{
    s->best = INFINITY;
    for (int p = 0; p < pieces; p++) {
        const int end = p + 1 < pieces ? begin[p + 1] : n;
        const double middle = rm_median(y + begin[p], (size_t)(end - begin[p]));
        if (middle >= s->best) continue;
        s->best = middle;
        s->best_from = begin[p];
        s->best_sessions = end - begin[p];
    }
}

rm_status rp_screen(const double *y, int n, double effect, rp_screened *out)
{
    const int past = n - 1;
    rp_screened s = { .verdict = RP_NO_BASELINE, .baseline = NAN, .delta = NAN, .threshold = NAN, .noise = NAN, .best = NAN, .best_delta = NAN };
    if (past < 2 * RP_LEAST_PIECE) {
        *out = s;
        return RM_OK;
    }
    int *begin = malloc(((size_t)past / RP_LEAST_PIECE + 1) * sizeof *begin), pieces = 0;
    double *room = malloc((size_t)past * sizeof *room);
    rm_status st = RM_OK;
    if (!begin || !room) st = rm_fail(RM_E_NOMEM, "out of memory for the history");
    else if ((st = pieces_of(y, past, room, begin, &pieces)) == RM_OK) {
        s.from = begin[pieces - 1];
        s.sessions = past - s.from;
        s.baseline = rm_median(y + s.from, (size_t)s.sessions);
        s.delta = y[past] - s.baseline;
        const spread seen = spread_of(y, past, begin, pieces, room);
        const double sigma = fmax(seen.sigma, noise_of(y, past, room));
        s.noise = fmax(suspect_sigmas * sigma, seen.worst + worse_sigmas * sigma);
        s.threshold = fmax(log1p(effect), s.noise);
        take_best(y, past, begin, pieces, &s);
        s.best_delta = y[past] - s.best;
        s.verdict = s.delta >= s.threshold ? RP_SUSPECT : RP_PASS;
        *out = s;
    }
    free(begin);
    free(room);
    return st;
}
