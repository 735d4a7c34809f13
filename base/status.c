#include "base/status.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char last_error[1024];

static const struct { const char *name; int exit_code; } table[RM_STATUS_COUNT] = {
    [RM_OK] = { "ok", 0 },
    [RM_E_ARG] = { "bad argument", 2 },
    [RM_E_FORMAT] = { "bad file", 2 },
    [RM_E_IO] = { "input/output error", 2 },
    [RM_E_UNSUPPORTED] = { "unsupported", 2 },
    [RM_E_NUMERIC] = { "numeric failure", 2 },
    [RM_E_DEVICE] = { "device failure", 2 },
    [RM_E_NOMEM] = { "out of memory", 5 },
    [RM_E_NOSPACE] = { "out of disk", 5 },
    [RM_E_PEER] = { "peer failed", 6 },
    [RM_E_PARTIAL] = { "partly done", 7 },
    [RM_E_INTERRUPTED] = { "interrupted", 130 },
    [RM_E_REGRESSED] = { "regressed", 1 },
    [RM_E_INCONCLUSIVE] = { "inconclusive", 3 },
    [RM_E_NO_BASELINE] = { "no baseline", 4 },
};

rm_status rm_fail(rm_status code, const char *fmt, ...)
{
    char text[sizeof last_error]; /* the arguments may include rm_last_error() itself */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(last_error, text, sizeof text);
    return code;
}

rm_status rm_fail_errno(const char *fmt, ...)
{
    int e = errno;
    char text[sizeof last_error];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    rm_status code = e == ENOSPC || e == EDQUOT ? RM_E_NOSPACE : e == ENOMEM ? RM_E_NOMEM : RM_E_IO;
    return rm_fail(code, "%s: %s", text, strerror(e));
}

const char *rm_last_error(void) { return last_error; }

const char *rm_status_name(rm_status s) { return (unsigned)s < RM_STATUS_COUNT ? table[s].name : "unknown status"; }

int rm_exit_code(rm_status s, int signal_number)
{
    if (s == RM_E_INTERRUPTED && signal_number > 0) return 128 + signal_number;
    return (unsigned)s < RM_STATUS_COUNT ? table[s].exit_code : 2;
}

_Noreturn void rm_bug_at(const char *file, int line, const char *what)
{
    fprintf(stderr, "bench: internal error at %s:%d: %s (please report this)\n", file, line, what);
    abort();
}
