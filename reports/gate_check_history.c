/* The screen on trial: thirty sessions of five runs each, on a machine that never rests. */
#include "reports/gate_check.h"
#include "profiler/stats.h"
#include "reports/gate_screen.h"
#include <math.h>
#include <stdio.h>

enum { SESSIONS = 30, RUNS = 5 };

static void sessions_of(rm_noise *noise, double *y)
{
    for (int s = 0; s < SESSIONS; s++) {
        double run[RUNS];
        for (int i = 0; i < RUNS; i++) run[i] = rm_noise_run(noise, s == SESSIONS - 1, false);
        y[s] = rm_median(run, RUNS);
    }
}

static rm_status share_of(const rp_check_config *c, rm_noise_model m, double change, double *suspects, double *pieces)
{
    int found = 0, all = 0;
    for (int t = 0; t < c->trials; t++) {
        double y[SESSIONS];
        int begin[SESSIONS / RP_LEAST_PIECE + 1], n;
        rp_screened s;
        rm_noise noise = rm_noise_begin(m, log1p(change), c->seed + 6, (uint64_t)t);
        if (t % 64 == 0) RM_TRY(rp_check_stop(c));
        sessions_of(&noise, y);
        RM_TRY(rp_screen(y, SESSIONS, c->effect, &s));
        RM_TRY(rp_screen_pieces(y, SESSIONS - 1, begin, &n));
        found += s.verdict == RP_SUSPECT;
        all += n - 1;
    }
    *suspects = (double)found / c->trials;
    *pieces = (double)all / c->trials;
    return RM_OK;
}

rm_status rp_check_history(const rp_check_config *c, rp_findings *f)
{
    const double most = rp_most_by_chance(0.01, c->trials);
    for (int m = 0; m < RM_NOISE_MODELS; m++) {
        double wrong, five, ten, changes, unused;
        RM_TRY(share_of(c, (rm_noise_model)m, 0, &wrong, &changes));
        RM_TRY(share_of(c, (rm_noise_model)m, 0.05, &five, &unused));
        RM_TRY(share_of(c, (rm_noise_model)m, 0.1, &ten, &unused));
        RM_TRY(rp_find(f, "history", rm_noise_name((rm_noise_model)m), wrong <= most, wrong, most, c->trials,
                       json_pack("{s:f, s:f, s:f, s:i}", "found_5", five, "found_10", ten, "changes", changes, "sessions", SESSIONS),
                       "suspects without change %.2f %%, of 5 %% slower %.1f %%, of 10 %% slower %.1f %%; %.2f changes seen in %d sessions without any",
                       100 * wrong, 100 * five, 100 * ten, changes, SESSIONS - 1));
    }
    return RM_OK;
}
