#define _GNU_SOURCE
#include "bench/launch.h"
#include "base/clock.h"
#include "bench/bench.h"
#include "bench/launch_talk.h"
#include "kernels/comm/comm.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char failed_key[] = "failed"; /* no result has it */
enum { POLL_MS = 50, TERM_GRACE_MS = 4000, ABORT_GRACE_MS = 5000 };

/* A launch under way. */
typedef struct launch {
    const bench_launch_config *cfg;
    bench_launch_config with;    /* the caller's, with `given` for its env */
    const char **given;          /* what the ranks are given: the caller's and ours */
    bench_launch_command command;
    char  **env;                 /* of the child; all malloc'ed */
    char    id[64];              /* "RINGMARK_LAUNCH=...": in the environment of everything we started */
    char    result_path[4096];   /* "" none */
    pid_t   child;
    int     pipe_fd[2];          /* read ends of the child's stdout and stderr */
    bench_facts facts;
    bench_talk  talk[2];
    int     wait_status;
    uint64_t aborted_ns;         /* when a rank was seen to end all the others; 0: not yet */
    bool    told, expired, abandoned;
} launch;

/* ---- environment of the ranks */
static bool names_a_rank(const char *entry)
{
    static const char *const of_launchers[] = { "OMPI_COMM_WORLD_", "OMPI_MCA_ess_", "OMPI_MCA_orte_", "OMPI_MCA_pmix", "PMIX_", "PMI_", "MPI_LOCAL", "HYDI_" };
    for (size_t i = 0; i < RM_COUNT(of_launchers); i++)
        if (strncmp(entry, of_launchers[i], strlen(of_launchers[i])) == 0) return true;
    return false;
}

bool bench_launch_replaced(const char *entry, const char *const *by)
{
    const size_t n = strcspn(entry, "=") + 1;
    for (size_t i = 0; by && by[i]; i++)
        if (strncmp(entry, by[i], n) == 0) return true;
    return false;
}

static rm_status make_given(launch *l, const bench_launch_config *cfg)
{
    size_t n = 0;
    while (cfg->env && cfg->env[n]) n++;
    l->given = calloc(n + 3, sizeof *l->given);
    if (!l->given) return rm_fail(RM_E_NOMEM, "out of memory for the environment of the ranks");
    for (size_t i = 0; i < n; i++) l->given[i] = cfg->env[i];
    l->given[n++] = l->id;
    if (cfg->oversubscribe) l->given[n] = "RINGMARK_SHARED_CORES=1";
    l->with = *cfg;
    l->with.env = l->given;
    l->cfg = &l->with;
    return RM_OK;
}

/* Ours, without what another launcher told us about ourselves, plus what the ranks are given. */
static rm_status make_env(launch *l)
{
    const bool is_rank = rm_world_is_rank();
    size_t n = 0, m = 0, k = 0;
    while (environ[n]) n++;
    while (l->given[m]) m++;
    l->env = calloc(n + m + 1, sizeof *l->env);
    if (!l->env) goto nomem;
    for (size_t i = 0; i < n; i++) {
        if ((is_rank && names_a_rank(environ[i])) || bench_launch_replaced(environ[i], l->given)) continue;
        if (!(l->env[k++] = strdup(environ[i]))) goto nomem;
    }
    for (size_t i = 0; i < m; i++)
        if (!(l->env[k++] = strdup(l->given[i]))) goto nomem;
    return RM_OK;
nomem:
    return rm_fail(RM_E_NOMEM, "out of memory for the environment of the ranks");
}

/* ---- command line */
static rm_status make_result_file(launch *l)
{
    const char *tmp = getenv("TMPDIR");
    char cwd[3072] = "";
    if (l->cfg->no_result) return RM_OK;
    if (l->command.shared_files && !getcwd(cwd, sizeof cwd)) return rm_fail_errno("cannot tell the working folder");
    snprintf(l->result_path, sizeof l->result_path, "%.3072s/.ringmark-rank-XXXXXX", cwd[0] ? cwd : tmp && tmp[0] ? tmp : "/tmp");
    const int fd = mkstemp(l->result_path);
    if (fd < 0) {
        l->result_path[0] = '\0';
        return rm_fail_errno("cannot make a file for the result of the ranks in %s", cwd[0] ? cwd : tmp && tmp[0] ? tmp : "/tmp");
    }
    close(fd);
    return RM_OK;
}

static rm_status make_command(launch *l)
{
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) return rm_fail_errno("cannot tell the path of this program");
    self[n] = '\0';
    RM_TRY(bench_launch_find(l->cfg, rm_comm_mpi.library(), &l->command));
    RM_TRY(bench_launch_add(&l->command, l->cfg->program ? l->cfg->program : self));
    for (size_t i = 0; l->cfg->argv[i]; i++) RM_TRY(bench_launch_add(&l->command, l->cfg->argv[i]));
    RM_TRY(make_result_file(l));
    if (!l->result_path[0]) return RM_OK;
    RM_TRY(bench_launch_add(&l->command, "--rank-result"));
    return bench_launch_add(&l->command, l->result_path);
}

/* ---- the child */
/* Between fork and exec: only calls that are safe there. Its own process group, so that Ctrl-C reaches it through us alone. */
static _Noreturn void become_launcher(const launch *l, pid_t parent, const int write_fd[2])
{
    static const char failed[] = "bench: the launcher of the ranks could not be executed\n";
    const int null = open("/dev/null", O_RDONLY);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(127);
    setpgid(0, 0);
    if (null >= 0) dup2(null, STDIN_FILENO);
    dup2(write_fd[0], STDOUT_FILENO);
    dup2(write_fd[1], STDERR_FILENO);
    signal(SIGPIPE, SIG_DFL);
    execve(l->command.word[0], l->command.word, l->env);
    if (write(STDERR_FILENO, failed, sizeof failed - 1) < 0) _exit(126);
    _exit(127);
}

static rm_status start_child(launch *l)
{
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0) return rm_fail_errno("cannot make a pipe to the ranks");
    if (pipe2(err, O_CLOEXEC) != 0) {
        const rm_status st = rm_fail_errno("cannot make a pipe to the ranks");
        close(out[0]);
        close(out[1]);
        return st;
    }
    fflush(NULL);
    const pid_t parent = getpid(), child = fork();
    if (child == 0) become_launcher(l, parent, (int[2]) { out[1], err[1] });
    const rm_status st = child < 0 ? rm_fail_errno("cannot start %s", l->command.word[0]) : RM_OK;
    close(out[1]);
    close(err[1]);
    l->child = child;
    l->pipe_fd[0] = out[0];
    l->pipe_fd[1] = err[0];
    return st;
}

/* Reads what is there, waiting up to `ms` for it. False when both pipes are at their end. */
static bool relay(launch *l, int ms)
{
    struct pollfd p[2];
    char text[16384];
    for (int i = 0; i < 2; i++) p[i] = (struct pollfd) { .fd = l->pipe_fd[i], .events = POLLIN };
    if (l->pipe_fd[0] < 0 && l->pipe_fd[1] < 0) return false;
    if (poll(p, 2, ms) <= 0) return true; /* EINTR: the caller looks at the signal */
    for (int i = 0; i < 2; i++) {
        if (!p[i].revents) continue;
        const ssize_t n = read(l->pipe_fd[i], text, sizeof text);
        if (n > 0) bench_talk_feed(&l->talk[i], text, (size_t)n);
        else if (n == 0 || errno != EINTR) {
            close(l->pipe_fd[i]);
            l->pipe_fd[i] = -1;
        }
    }
    return true;
}

/* ---- ends */
static bool reap(launch *l)
{
    pid_t p;
    do p = waitpid(l->child, &l->wait_status, WNOHANG);
    while (p < 0 && errno == EINTR);
    return p != 0;
}

static bool ours(const launch *l, long pid)
{
    char path[64], text[65536];
    snprintf(path, sizeof path, "/proc/%ld/environ", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t n = 0;
    for (ssize_t got; n < sizeof text - 1 && (got = read(fd, text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    close(fd);
    return memmem(text, n, l->id, strlen(l->id)) != NULL;
}

static bool is_zombie(long pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    if (f) fclose(f);
    return state == 'Z';
}

/* Kills what this launch started and left: a killed launcher's ranks are our children, for we are their subreaper; and so are
 * those that ended after it, to be reaped. True when there were any. */
static bool kill_orphans(const launch *l)
{
    bool any = false;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *e; tasks && (e = readdir(tasks));) {
        char path[300];
        long pid;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
        while (f && fscanf(f, "%ld", &pid) == 1) { // NOLINT(cert-err34-c): the kernel's own list
            if (pid == l->child || !(is_zombie(pid) || ours(l, pid))) continue;
            any = true;
            kill((pid_t)pid, SIGKILL);
            waitpid((pid_t)pid, NULL, 0);
        }
        if (f) fclose(f);
    }
    if (tasks) closedir(tasks);
    return any;
}

/* One that is in the middle of an abort has nothing to tell its hosts any more; they notice that it is gone. */
static void stop_child(launch *l)
{
    const uint64_t until = l->abandoned ? 0 : rm_now_ns() + TERM_GRACE_MS * UINT64_C(1000000);
    if (!l->abandoned) kill(l->child, SIGTERM);
    while (!reap(l)) {
        relay(l, POLL_MS);
        if (rm_now_ns() > until) kill(-l->child, SIGKILL);
    }
}

/* What a rank left before it ended: launchers that lose a host may lose the last lines of all ranks with it. */
static void read_failure(launch *l)
{
    struct stat file;
    if (l->facts.aborted || !l->result_path[0] || stat(l->result_path, &file) != 0 || file.st_size == 0) return;
    json_t *left = json_load_file(l->result_path, 0, NULL);
    const json_t *code = json_object_get(left, failed_key);
    if (code) {
        l->facts.aborted = true;
        l->facts.abort_code = (int)json_integer_value(code);
        bench_facts_add_cause(&l->facts, json_string_value(json_object_get(left, "why")), (int)json_integer_value(json_object_get(left, "rank")));
    }
    json_decref(left);
}

/* A launcher that cannot reach a host waits for it for ever, although the ranks have ended. */
static bool overdue(launch *l)
{
    read_failure(l);
    if (l->facts.aborted && !l->aborted_ns) l->aborted_ns = rm_now_ns();
    l->abandoned = l->aborted_ns && rm_now_ns() - l->aborted_ns > ABORT_GRACE_MS * UINT64_C(1000000);
    return l->abandoned;
}

static void watch(launch *l)
{
    const uint64_t begin = rm_now_ns();
    while (!reap(l)) {
        if (!relay(l, POLL_MS)) poll(NULL, 0, POLL_MS);
        if (bench_signal() && !l->told) {
            l->told = true;
            kill(l->child, l->cfg->ranks == 1 ? bench_signal() : SIGUSR1);
        }
        l->expired = l->cfg->timeout_s > 0 && rm_s(rm_now_ns() - begin) > l->cfg->timeout_s;
        if (l->expired || overdue(l)) {
            stop_child(l);
            break;
        }
    }
    while (kill_orphans(l)) {}
    for (uint64_t until = rm_now_ns() + 1000000000u; relay(l, POLL_MS) && rm_now_ns() < until;) {} /* what is still in the pipes */
}

/* ---- the account of it */
static bool is_signal(int exit_code) { return exit_code > 128 && exit_code <= 128 + 64; } /* as shells and launchers say it */

static rm_status status_of(int exit_code)
{
    static const struct { int code; rm_status status; } of[] = {
        { 0, RM_OK }, { 1, RM_E_REGRESSED }, { 3, RM_E_INCONCLUSIVE }, { 4, RM_E_NO_BASELINE }, { 5, RM_E_NOMEM }, { 6, RM_E_PEER }, { 7, RM_E_PARTIAL },
        { 130, RM_E_INTERRUPTED }, { 143, RM_E_INTERRUPTED },
    };
    for (size_t i = 0; i < RM_COUNT(of); i++)
        if (of[i].code == exit_code) return of[i].status;
    return is_signal(exit_code) ? RM_E_PEER : RM_E_DEVICE; /* 2 and what no rank of ours ends with: trouble */
}

static rm_status verdict(const launch *l)
{
    const bench_facts *f = &l->facts;
    const int code = l->abandoned ? f->abort_code : WIFEXITED(l->wait_status) ? WEXITSTATUS(l->wait_status) : 128 + WTERMSIG(l->wait_status);
    const rm_status st = status_of(code);
    char cause[1200], done[640];
    bench_facts_cause(f, cause, sizeof cause);
    bench_facts_progress(f, done, sizeof done);
    if (l->expired) return rm_fail(RM_E_PEER, "the ranks did not end within %.1f s and were stopped", l->cfg->timeout_s);
    if (st == RM_OK && !l->told) return RM_OK;
    if (l->told && (f->killed[0] || st == RM_OK || is_signal(code))) return rm_fail(RM_E_INTERRUPTED, "%s", cause[0] ? cause : "interrupted");
    if (f->killed[0]) return rm_fail(RM_E_PEER, "%s%s%s%s", f->killed, done, cause[0] ? "; " : "", cause);
    if (cause[0] && st == RM_E_PEER && f->newest[0] && !strstr(cause, "newest checkpoint")) return rm_fail(st, "%s; newest checkpoint: %s", cause, f->newest);
    if (cause[0]) return rm_fail(st, "%s", cause);
    if (f->place[0]) return rm_fail(RM_E_PEER, "%s ended with exit code or signal %d without saying why%s", f->place, f->place_code, done);
    if (WIFSIGNALED(l->wait_status)) return rm_fail(RM_E_PEER, "%s was killed by signal %d%s", l->cfg->ranks == 1 ? "the rank" : "the launcher of the ranks", code - 128, done);
    if (is_signal(code)) return rm_fail(st, "a rank was killed by signal %d%s", code - 128, done);
    return rm_fail(st, "the ranks ended with exit code %d without saying why; -v shows all they and their launcher say", code);
}

static rm_status read_result(const launch *l, json_t **out)
{
    json_error_t why;
    if (!l->result_path[0]) return RM_OK;
    json_t *result = json_load_file(l->result_path, 0, &why);
    if (!result) return rm_fail(RM_E_IO, "rank 0 ended well and left no result: %s", why.text);
    *out = result;
    return RM_OK;
}

static void launch_free(launch *l)
{
    for (int i = 0; i < 2; i++) {
        bench_talk_end(&l->talk[i]);
        if (l->pipe_fd[i] >= 0) close(l->pipe_fd[i]);
    }
    for (size_t i = 0; l->env && l->env[i]; i++) free(l->env[i]);
    free(l->env);
    free(l->given);
    if (l->result_path[0]) unlink(l->result_path);
    bench_launch_command_free(&l->command);
    free(l);
}

rm_status bench_launch(const bench_launch_config *cfg, json_t **out)
{
    launch *l = calloc(1, sizeof *l);
    if (!l) return rm_fail(RM_E_NOMEM, "out of memory starting ranks");
    FILE *const sink[2] = { stdout, stderr };
    json_t *result = NULL;
    for (int i = 0; i < 2; i++) {
        l->talk[i] = (bench_talk) { .sink = sink[i], .facts = &l->facts, .verbose = cfg->verbose };
        l->pipe_fd[i] = -1;
    }
    snprintf(l->id, sizeof l->id, "RINGMARK_LAUNCH=%ld.%llu", (long)getpid(), (unsigned long long)rm_now_ns());
    rm_status st = make_given(l, cfg);
    if (st == RM_OK) st = make_env(l);
    if (st == RM_OK) st = make_command(l);
    if (st == RM_OK) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        st = start_child(l);
        if (st == RM_OK) {
            watch(l);
            for (int i = 0; i < 2; i++) bench_talk_end(&l->talk[i]);
            st = verdict(l);
        }
        prctl(PR_SET_CHILD_SUBREAPER, 0);
    }
    if (st == RM_OK || st == RM_E_PARTIAL) {
        const rm_status read = read_result(l, &result);
        if (st == RM_OK) st = read;
    } else if (l->result_path[0]) result = json_load_file(l->result_path, 0, NULL); /* what rank 0 had until then, if it left it */
    *out = result;
    launch_free(l);
    return st;
}

rm_status bench_launch_leave_result(const char *path, const json_t *result)
{
    if (json_dump_file(result, path, JSON_COMPACT | JSON_REAL_PRECISION(17)) == 0) return RM_OK;
    return rm_fail_errno("cannot leave the result in %s", path);
}

void bench_launch_tell(void *ctx, uint64_t step, const char *newest)
{
    enum { PAUSE_NS = 200000000 };
    bench_launch_told *told = ctx;
    const uint64_t now = rm_now_ns();
    if (now < told->next_ns && strcmp(told->newest, newest) == 0) return;
    char line[640]; /* one write: other ranks have the same pipe */
    const int n = snprintf(line, sizeof line, BENCH_TALK_STEP "%llu %s\n", (unsigned long long)step, newest);
    if (n > 0 && n < (int)sizeof line && write(STDERR_FILENO, line, (size_t)n) == n) told->next_ns = now + PAUSE_NS;
    snprintf(told->newest, sizeof told->newest, "%s", newest);
}

void bench_launch_tell_rank(int rank)
{
    char line[128], host[64] = "";
    if (gethostname(host, sizeof host - 1) != 0) return;
    const int n = snprintf(line, sizeof line, BENCH_TALK_RANK "%d %ld %s\n", rank, (long)getpid(), host);
    if (n > 0 && n < (int)sizeof line && write(STDERR_FILENO, line, (size_t)n) < 0) return; /* nobody listens: nobody asks */
}

void bench_launch_leave_failure(const char *path, int exit_code, int rank)
{
    struct stat file;
    json_t *left = json_pack("{s:i, s:i, s:s}", failed_key, exit_code, "rank", rank, "why", rm_last_error());
    char *text = left ? json_dumps(left, JSON_COMPACT) : NULL;
    const int fd = text ? open(path, O_WRONLY | O_CLOEXEC) : -1; /* made by the launcher: not there on a machine that does not share it */
    if (fd >= 0 && fstat(fd, &file) == 0 && file.st_size == 0) {
        const ssize_t written = write(fd, text, strlen(text)); /* a courtesy: the last line says it too */
        (void)written;
    }
    if (fd >= 0) close(fd);
    free(text);
    json_decref(left);
}
