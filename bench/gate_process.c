#define _GNU_SOURCE
#include "bench/gate_process.h"
#include "base/clock.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "bench/bench.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUT_MOST_BYTES = 256 << 20, POLL_MS = 20 };
static const double patience_s = 5; /* from SIGTERM to SIGKILL */

typedef struct child {
    pid_t pid;
    int gate, out, err, perf; /* gate: what it waits for before it begins */
    rm_strbuf text;
    char tail[1024]; /* of stderr */
    size_t tail_n;
} child;

static void shut(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Counts from exec on, in all threads and children. -1 where that is not to be had. */
static int count_instructions(pid_t pid)
{
    struct perf_event_attr a;
    memset(&a, 0, sizeof a);
    a.type = PERF_TYPE_HARDWARE;
    a.size = sizeof a;
    a.config = PERF_COUNT_HW_INSTRUCTIONS;
    a.disabled = a.enable_on_exec = a.inherit = a.exclude_kernel = a.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &a, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static int64_t instructions_of(int perf)
{
    uint64_t n;
    return perf >= 0 && read(perf, &n, sizeof n) == (ssize_t)sizeof n && n > 0 ? (int64_t)n : -1;
}

/* Between fork and exec: only calls that are safe there. It dies with us, so that a gate that was killed leaves nothing running. */
static _Noreturn void become(const char *command, const int gate[2], const int out[2], const int err[2], pid_t parent)
{
    char go;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int none = open("/dev/null", O_RDONLY);
    close(gate[1]);
    if (none < 0 || getppid() != parent || read(gate[0], &go, 1) != 1) _exit(127);
    if (dup2(none, 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0) _exit(127);
    for (int s = 1; s < NSIG; s++) signal(s, SIG_DFL);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static rm_status start(const char *command, child *c)
{
    int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
    rm_status st = RM_OK;
    for (int i = 0; i < 3 && st == RM_OK; i++)
        if (pipe2(pipes[i], O_CLOEXEC) != 0) st = rm_fail_errno("cannot make a pipe for the command %s", command);
    const pid_t parent = getpid();
    if (st == RM_OK && (c->pid = fork()) < 0) st = rm_fail_errno("cannot start the command %s", command);
    if (st == RM_OK && c->pid == 0) become(command, pipes[0], pipes[1], pipes[2], parent);
    if (st == RM_OK) {
        setpgid(c->pid, c->pid); /* both of us: whoever is first */
        c->perf = count_instructions(c->pid);
        c->gate = pipes[0][1];
        c->out = pipes[1][0];
        c->err = pipes[2][0];
        pipes[0][1] = pipes[1][0] = pipes[2][0] = -1;
        if (write(c->gate, "g", 1) != 1) st = rm_fail_errno("cannot start the command %s", command);
        shut(&c->gate);
    }
    for (int i = 0; i < 3; i++) shut(&pipes[i][0]), shut(&pipes[i][1]);
    return st;
}

/* ---- output */

static void keep_tail(child *c, const char *text, size_t n)
{
    if (n > sizeof c->tail) text += n - sizeof c->tail, n = sizeof c->tail;
    const size_t old = c->tail_n + n > sizeof c->tail ? sizeof c->tail - n : c->tail_n;
    memmove(c->tail, c->tail + c->tail_n - old, old);
    memcpy(c->tail + old, text, n);
    c->tail_n = old + n;
}

/* Reads what is there; closes at the end. */
static void drain(child *c, int *fd)
{
    char text[65536];
    const ssize_t n = read(*fd, text, sizeof text);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n <= 0) shut(fd);
    else if (fd == &c->err) keep_tail(c, text, (size_t)n);
    else rm_str_add_n(&c->text, text, (size_t)n);
}

static bool listen_to(child *c, int wait_ms)
{
    struct pollfd p[2] = { { .fd = c->out, .events = POLLIN }, { .fd = c->err, .events = POLLIN } };
    const int n = poll(p, 2, wait_ms);
    if (n > 0 && p[0].revents) drain(c, &c->out);
    if (n > 0 && p[1].revents) drain(c, &c->err);
    return n > 0;
}

static void last_line(const child *c, char *out, size_t size)
{
    size_t end = c->tail_n;
    while (end && (c->tail[end - 1] == '\n' || c->tail[end - 1] == '\r' || c->tail[end - 1] == ' ')) end--;
    size_t begin = end;
    while (begin && c->tail[begin - 1] != '\n') begin--;
    if (end - begin >= size) begin = end - size + 1;
    while (begin < end && begin && c->tail[begin - 1] != '\n' && (c->tail[begin] & 0xc0) == 0x80) begin++; /* not with half a character */
    memcpy(out, c->tail + begin, end - begin);
    out[end - begin] = '\0';
    rm_utf8_clean(out);
}

/* ---- waiting */

static void end_group(pid_t pid, int number)
{
    if (kill(-pid, number) != 0) kill(pid, number);
}

typedef struct waiting {
    uint64_t begin_ns, asked_ns; /* asked: to end */
    double timeout_s;
    bool timed_out, interrupted;
    int status;
    struct rusage usage;
} waiting;

static void ask_to_end(child *c, waiting *w)
{
    const uint64_t now = rm_now_ns();
    if (!w->asked_ns) {
        w->interrupted = bench_signal() != 0;
        w->timed_out = !w->interrupted && rm_s(now - w->begin_ns) > w->timeout_s;
        if (!w->interrupted && !w->timed_out && c->text.n <= OUT_MOST_BYTES) return;
        w->asked_ns = now;
        end_group(c->pid, SIGTERM);
    } else if (rm_s(now - w->asked_ns) > patience_s) end_group(c->pid, SIGKILL);
}

/* Until the command itself has ended; what it left behind is ended then. */
static void wait_for(child *c, waiting *w)
{
    pid_t got = 0;
    while ((got = wait4(c->pid, &w->status, WNOHANG, &w->usage)) == 0 || (got < 0 && errno == EINTR)) {
        if (c->out < 0 && c->err < 0) usleep(2000);
        else (void)listen_to(c, POLL_MS);
        ask_to_end(c, w);
    }
    const uint64_t end = rm_now_ns();
    kill(-c->pid, SIGKILL);
    while ((c->out >= 0 || c->err >= 0) && c->text.n <= OUT_MOST_BYTES && listen_to(c, 1000)) continue;
    w->asked_ns = end;
}

static double seconds(struct timeval t) { return (double)t.tv_sec + 1e-6 * (double)t.tv_usec; }

static rm_status outcome(const char *command, child *c, const waiting *w, bench_process *out)
{
    if (w->interrupted) return rm_fail(RM_E_INTERRUPTED, "interrupted: the pairs so far are stored; the same command goes on");
    if (c->text.n > OUT_MOST_BYTES) return rm_fail(RM_E_FORMAT, "the command prints more than %d MiB on stdout: %s", OUT_MOST_BYTES >> 20, command);
    bench_process p = { .exit_code = WIFSIGNALED(w->status) ? 128 + WTERMSIG(w->status) : WEXITSTATUS(w->status),
                        .timed_out = w->timed_out,
                        .wall_s = rm_s(w->asked_ns - w->begin_ns),
                        .cpu_s = seconds(w->usage.ru_utime) + seconds(w->usage.ru_stime),
                        .max_rss_bytes = (int64_t)w->usage.ru_maxrss * 1024,
                        .instructions = instructions_of(c->perf),
                        .out_bytes = c->text.n };
    last_line(c, p.complaint, sizeof p.complaint);
    p.out = rm_str_take(&c->text);
    if (!p.out) return rm_fail(RM_E_NOMEM, "out of memory for what %s prints", command);
    *out = p;
    return RM_OK;
}

rm_status bench_process_run(const char *command, double timeout_s, bench_process *out)
{
    child c = { .gate = -1, .out = -1, .err = -1, .perf = -1 };
    waiting w = { .begin_ns = rm_now_ns(), .timeout_s = timeout_s };
    rm_status st = start(command, &c);
    if (c.pid > 0) wait_for(&c, &w);
    if (st == RM_OK) st = outcome(command, &c, &w, out);
    shut(&c.out);
    shut(&c.err);
    shut(&c.perf);
    rm_str_free(&c.text);
    return st;
}

void bench_process_free(bench_process *p)
{
    free(p->out);
    p->out = NULL;
}
