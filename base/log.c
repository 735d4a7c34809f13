#include "base/log.h"
#include "base/clock.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Process-wide by contract: main() sets it before any thread exists, then it is only read. */
static rm_verbosity verbosity = RM_NORMAL;
static int own_rank;
static atomic_bool line_open; /* a progress line is on the terminal and must be wiped before other text */

void rm_log_setup(rm_verbosity v, int rank)
{
    verbosity = v;
    own_rank = rank;
}

/* One line, one write: lines of several ranks and threads do not mix. */
static void emit(const char *label, const char *fmt, va_list ap) RM_PRINTF(2, 0);
static void emit(const char *label, const char *fmt, va_list ap)
{
    char line[2048];
    const size_t room = sizeof line - 2; /* for the newline and the end */
    size_t n = 0;
    line[0] = '\0';
    if (atomic_exchange(&line_open, false)) n += (size_t)snprintf(line, room, "\r\033[K");
    if (own_rank > 0) n += (size_t)snprintf(line + n, room - n, "[rank %d] ", own_rank);
    n += (size_t)snprintf(line + n, room - n, "%s", label);
    const int body = vsnprintf(line + n, room - n, fmt, ap);
    const size_t start = n;
    if (body > 0) n += (size_t)body < room - n ? (size_t)body : room - n - 1;
    for (size_t i = start; i < n; i++) /* names of files and options are the user's: no second line, no terminal commands */
        if ((unsigned char)line[i] < ' ' || line[i] == 127) line[i] = '?';
    line[n++] = '\n';
    fwrite(line, 1, n, stderr);
}

void rm_info(const char *fmt, ...)
{
    if (verbosity == RM_QUIET || own_rank > 0) return;
    va_list ap;
    va_start(ap, fmt);
    emit("", fmt, ap);
    va_end(ap);
}

void rm_verbose(const char *fmt, ...)
{
    if (verbosity < RM_VERBOSE) return;
    va_list ap;
    va_start(ap, fmt);
    emit("", fmt, ap);
    va_end(ap);
}

void rm_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit("warning: ", fmt, ap);
    va_end(ap);
}

void rm_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit("", fmt, ap);
    va_end(ap);
}

/* Remembers up to 64 keys; a program with more would repeat itself rather than stay silent. */
static bool seen_before(const char *key)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const char *seen[64];
    static size_t n_seen;
    bool found = false;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_seen && !found; i++) found = strcmp(seen[i], key) == 0;
    if (!found && n_seen < RM_COUNT(seen)) seen[n_seen++] = key;
    pthread_mutex_unlock(&lock);
    return found;
}

void rm_warn_once(const char *key, const char *fmt, ...)
{
    if (seen_before(key)) return;
    va_list ap;
    va_start(ap, fmt);
    emit("warning: ", fmt, ap);
    va_end(ap);
}

void rm_progress_begin(rm_progress *p, const char *what, const char *unit, uint64_t total)
{
    *p = (rm_progress) {
        .what = what, .unit = unit, .total = total, .start_ns = rm_now_ns(), .on = verbosity != RM_QUIET && own_rank <= 0 && (isatty(STDERR_FILENO) || getenv("RINGMARK_PROGRESS"))
    };
}

static void format_left(char *text, size_t size, const rm_progress *p, uint64_t done, double seconds)
{
    text[0] = '\0';
    if (done == 0 || p->total <= done) return;
    const double left = seconds * (double)(p->total - done) / (double)done;
    if (left < 360000) snprintf(text, size, ", %d:%02d:%02d left", (int)left / 3600, (int)left / 60 % 60, (int)left % 60);
}

void rm_progress_update(rm_progress *p, uint64_t done, const char *note)
{
    const uint64_t now = rm_now_ns();
    if (!p->on || (p->shown_ns && now - p->shown_ns < 100000000u)) return;
    p->shown_ns = now;
    const double seconds = rm_s(now - p->start_ns);
    char of[32] = "", left[48], line[512];
    if (p->total) snprintf(of, sizeof of, "/%llu", (unsigned long long)p->total);
    format_left(left, sizeof left, p, done, seconds);
    const int n = snprintf(line, sizeof line, "\r%s %llu%s %s, %.1f/s%s%s%s\033[K", p->what, (unsigned long long)done, of, p->unit,
                           seconds > 0 ? (double)done / seconds : 0.0, left, note ? ", " : "", note ? note : "");
    if (n < 0) return;
    atomic_store(&line_open, true);
    fwrite(line, 1, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1, stderr);
}

void rm_progress_end(rm_progress *p)
{
    if (p->on && atomic_exchange(&line_open, false)) fputs("\r\033[K", stderr);
    p->on = false;
}
