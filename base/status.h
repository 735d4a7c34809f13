/* Status: how every fallible function of Ringmark reports failure.
 *
 * A function that can fail returns rm_status, puts its outputs last and sets them only on success. The first cause is
 * recorded, in words for the user, by rm_fail() in thread-local storage; callers pass the code on and add nothing.
 * Three families of trouble: the user's or the machine's fault (a status), degraded (rm_warn_once() of log.h), and
 * ours (RM_BUG: abort with file:line). Only main() turns a status into an exit code, with rm_exit_code(). */
#ifndef RM_STATUS_H
#define RM_STATUS_H
#include <stdarg.h>
#include <stddef.h>

typedef enum rm_status {
    RM_OK = 0,
    RM_E_ARG,         /* a value the user gave is impossible: exit 2 */
    RM_E_FORMAT,      /* a file is damaged or not what it claims to be: exit 2 */
    RM_E_IO,          /* the system refused to read or write: exit 2 */
    RM_E_UNSUPPORTED, /* this device or build cannot do it: exit 2 */
    RM_E_NUMERIC,     /* NaN or infinity, or a wrong answer: exit 2 */
    RM_E_DEVICE,      /* the device library failed: exit 2 */
    RM_E_NOMEM,       /* out of memory: exit 5 */
    RM_E_NOSPACE,     /* out of disk: exit 5 */
    RM_E_PEER,        /* a peer rank failed or timed out: exit 6 */
    RM_E_PARTIAL,     /* finished, but something asked for was not done: exit 7 */
    RM_E_INTERRUPTED, /* SIGINT or SIGTERM; the state was saved: exit 130 or 143 */
    RM_E_REGRESSED,   /* gate: exit 1 */
    RM_E_INCONCLUSIVE,/* gate: exit 3 */
    RM_E_NO_BASELINE, /* gate: exit 4 */
    RM_STATUS_COUNT
} rm_status;

#define RM_CHECKED __attribute__((warn_unused_result))
#define RM_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Records the cause (what, why, how to fix; one line, no newline) and returns `code`. Thread-local. */
rm_status rm_fail(rm_status code, const char *fmt, ...) RM_PRINTF(2, 3);
/* As rm_fail() with strerror(errno) appended; ENOSPC becomes RM_E_NOSPACE and ENOMEM RM_E_NOMEM. */
rm_status rm_fail_errno(const char *fmt, ...) RM_PRINTF(1, 2);
/* The cause recorded last in this thread, "" when none. Valid until the next rm_fail() of this thread. */
const char *rm_last_error(void);
/* 0..7, 130 or 143 as documented in docs/cli.md. `signal_number` matters for RM_E_INTERRUPTED only. */
int rm_exit_code(rm_status status, int signal_number);
const char *rm_status_name(rm_status status);

_Noreturn void rm_bug_at(const char *file, int line, const char *what);
#define RM_BUG(what) rm_bug_at(__FILE__, __LINE__, (what))
#define RM_ASSERT(x) ((x) ? (void)0 : rm_bug_at(__FILE__, __LINE__, #x))

#define RM_TRY(expr) do { rm_status rm_s_ = (expr); if (rm_s_ != RM_OK) return rm_s_; } while (0)
#define RM_TRY_GOTO(st, expr, label) do { (st) = (expr); if ((st) != RM_OK) goto label; } while (0)
#define RM_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#endif
