/* Histories: what a store tells of one measurement over time, session by session, and whether the newest is out of line (reports/gate_screen.h).
 *
 * A process run gives one value. Runs of the same command, configuration and hard facts of one revision that follow each other within an hour are a
 * session, whose value is the median of its runs; a session of fewer runs than asked for does not count. */
#ifndef RM_REPORTS_GATE_HISTORY_H
#define RM_REPORTS_GATE_HISTORY_H
#include "reports/gate_screen.h"
#include "reports/model.h"

/* path: JSONPATH (profiler/json_path.h) into a result's row. */
typedef struct rp_history_metric {
    const char *name, *path;
    double effect;
    bool higher;
} rp_history_metric;
extern const rp_history_metric rp_history_usual[]; /* step_s, time_s; the first of them that a row has counts */
extern const size_t rp_history_n_usual;
typedef struct rp_history_config {
    const rp_history_metric *metric;
    size_t n_metric;
    bool all; /* every metric that a row has, not only the first */
    int least_runs; /* of a session */
    const char *about; /* only runs whose command line holds this text; NULL: all */
} rp_history_config;

/* Appends a row for each series that has a whole session or more to the array `rows`, newest series first:
 * {"kind": "history", "series", "command", "metric", "path", "higher", "effect", "command_line", "origin",
 *  "sessions": [{"begun", "revision", "runs", "value"}], "short_sessions", "newest_runs": of a session that is not yet whole, else null,
 *  "changes": [{"session", "delta", "from", "to"}]: where the level changed, from revision to revision,
 *  "verdict", "delta", "threshold", "baseline": {"value", "session", "sessions", "revision"}, "best": {"value", "delta", "revision", "session"},
 *  "pinned": [{"name", "revision", "value", "delta", "effect": the pin's own, "threshold": what delta had to reach, null without a verdict, "suspect"}],
 *  "reason": which pin makes it suspect; else missing}. Deltas are ln(new / old), above 0 slower. */
rm_status rp_history_rows(const rp_data *d, const rp_history_config *c, json_t *rows) RM_CHECKED;
#endif
