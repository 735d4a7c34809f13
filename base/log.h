/* Talk: everything for people goes to stderr through here; stdout is data.
 * Threads: every function may be called from any thread. */
#ifndef RM_LOG_H
#define RM_LOG_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum rm_verbosity { RM_QUIET = -1, RM_NORMAL = 0, RM_VERBOSE = 1 } rm_verbosity;

/* Process-wide, set once by main(). `rank` >= 0 prefixes lines of ranks other than 0 with "[rank r]". */
void rm_log_setup(rm_verbosity verbosity, int rank);
void rm_info(const char *fmt, ...) RM_PRINTF(1, 2);    /* not shown with -q, nor by ranks other than 0 */
void rm_verbose(const char *fmt, ...) RM_PRINTF(1, 2); /* shown with -v */
void rm_warn(const char *fmt, ...) RM_PRINTF(1, 2);    /* always shown */
/* The last line of a command that failed; for main(). Always shown. */
void rm_error(const char *fmt, ...) RM_PRINTF(1, 2);
/* Shown the first time `key` (a string literal) is seen in this process. */
void rm_warn_once(const char *key, const char *fmt, ...) RM_PRINTF(2, 3);

/* A progress line with rate and ETA on a terminal; silent in a pipe, with -q and on ranks other than 0. $RINGMARK_PROGRESS says that
 * the pipe leads to a terminal: the launcher of ranks sets it. */
typedef struct rm_progress { const char *what, *unit; uint64_t total, start_ns, shown_ns; bool on; } rm_progress;
void rm_progress_begin(rm_progress *p, const char *what, const char *unit, uint64_t total);
/* `note` may be NULL ("loss 2.31"). Redraws at most ten times a second. */
void rm_progress_update(rm_progress *p, uint64_t done, const char *note);
void rm_progress_end(rm_progress *p);
#endif
