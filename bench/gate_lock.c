#define _GNU_SOURCE
#include "bench/gate_lock.h"
#include "base/clock.h"
#include "base/log.h"
#include "bench/bench.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static void path_of(const char *given, char *out, size_t size)
{
    const char *own = getenv("XDG_RUNTIME_DIR");
    if (given[0]) snprintf(out, size, "%s", given);
    else if (own && own[0] && access(own, W_OK) == 0) snprintf(out, size, "%s/ringmark-gate.lock", own);
    else snprintf(out, size, "/tmp/ringmark-gate-%ld.lock", (long)getuid());
}

/* A process that is gone: what it started has inherited the lock. */
static void holder(int fd, char *out, size_t size)
{
    const ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (!out[0]) snprintf(out, size, "another process");
    const long pid = strncmp(out, "process ", 8) == 0 ? strtol(out + 8, NULL, 10) : 0;
    if (pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH) snprintf(out, size, "what process %ld left running", pid);
}

static void sign(int fd)
{
    char line[64];
    const int n = snprintf(line, sizeof line, "process %ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, line, (size_t)n, 0) != n) rm_verbose("the lock does not say who has it");
}

static rm_status wait_for(int fd, const char *path, double timeout_s)
{
    char who[64];
    bool said = false;
    const uint64_t begin = rm_now_ns();
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return rm_fail_errno("cannot lock %s", path);
        if (bench_signal()) return rm_fail(RM_E_INTERRUPTED, "interrupted while waiting for %s", path);
        holder(fd, who, sizeof who);
        if (rm_s(rm_now_ns() - begin) >= timeout_s)
            return rm_fail(RM_E_IO, "%s has had %s for %.0f s; wait longer with --lock-timeout, or do without with --lock none", who, path, timeout_s);
        if (!said) rm_warn("waiting for %s: %s has it, and two gates at once disturb each other", path, who);
        said = true;
        usleep(50000);
    }
    return RM_OK;
}

rm_status bench_gate_lock(const char *given, double timeout_s, int *out_fd)
{
    char path[4096];
    *out_fd = -1;
    if (strcmp(given, "none") == 0) return RM_OK;
    path_of(given, path, sizeof path);
    const int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0) return rm_fail_errno("cannot open the lock %s; --lock FILE takes another, --lock none does without", path);
    const rm_status st = wait_for(fd, path, timeout_s);
    if (st != RM_OK) {
        close(fd);
        return st;
    }
    sign(fd);
    *out_fd = fd;
    return RM_OK;
}

void bench_gate_unlock(int fd)
{
    if (fd < 0) return;
    (void)flock(fd, LOCK_UN); /* for all who inherited it */
    close(fd);
}
