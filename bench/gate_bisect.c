/* bench gate bisect: the first commit that is slower, by git bisect with a paired comparison at each step. It works in worktrees of its own: the user's
 * tree is never touched, so there is nothing to put back. */
#define _GNU_SOURCE
#include "base/clock.h"
#include "base/log.h"
#include "bench/gate.h"
#include "bench/gate_metric.h"
#include "bench/gate_place.h"
#include "bench/gate_process.h"
#include "bench/options.h"
#include "bench/rows.h"
#include "bench/session.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* place: a folder of ours with tree (where git bisect checks out), good (the first side, where that is a checkout), step.sh and log. */
typedef struct bisect {
    const bench_options *o;
    char place[BENCH_PLACE_MOST], program[4096], base[64], head[64];
    int steps, skipped;
} bisect;

enum { LONGEST = 64 };
static const double patience_s = 10, git_timeout_s = 600;

/* ---- running ----------------------------------------------------------------------------------------------------------- */

/* The first line that a git command prints. `what` goes into the message where it fails. */
static rm_status git_line(const char *arguments, const char *what, char *out, size_t size)
{
    char command[512];
    bench_process p;
    snprintf(command, sizeof command, "git %s", arguments);
    RM_TRY(bench_process_run(command, git_timeout_s, &p));
    rm_status st = p.exit_code ? rm_fail(RM_E_ARG, "%s: %s", what, p.complaint[0] ? p.complaint : "git says no more") : RM_OK;
    snprintf(out, size, "%.*s", (int)strcspn(p.out, "\n"), p.out);
    bench_process_free(&p);
    return st;
}

/* What is left of a group of processes is given time to end, then ended. */
static void end_group(pid_t group, int number)
{
    const uint64_t begin = rm_now_ns();
    kill(-group, number);
    while (kill(-group, 0) == 0 && rm_s(rm_now_ns() - begin) < patience_s) usleep(20000);
    kill(-group, SIGKILL);
}

/* Between fork and exec: only calls that are safe there. It dies with us, so that a bisection that was killed does not go on. */
static _Noreturn void become(char *const *argv, pid_t parent)
{
    const int none = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (none < 0 || getppid() != parent || dup2(none, 0) < 0 || dup2(2, 1) < 0) _exit(127);
    for (int s = 1; s < NSIG; s++) signal(s, SIG_DFL);
    execvp(argv[0], argv);
    _exit(127);
}

/* Runs a program with its stdout on our stderr, in a group of its own that our signals are passed on to. heed false: also after a signal. */
static rm_status run(char *const *argv, bool heed, int *out_code)
{
    int status = 0;
    const pid_t parent = getpid(), pid = fork();
    if (pid < 0) return rm_fail_errno("cannot start %s", argv[0]);
    if (pid == 0) become(argv, parent);
    setpgid(pid, pid); /* both of us: whoever is first */
    while (waitpid(pid, &status, WNOHANG) == 0) {
        usleep(20000);
        if (heed && bench_signal()) break;
    }
    if (heed && bench_signal()) {
        kill(-pid, SIGINT); /* a gate that is running ends its own runs */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        end_group(pid, SIGINT);
        return rm_fail(RM_E_INTERRUPTED, "interrupted; the tree is as it was");
    }
    *out_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return RM_OK;
}

static rm_status git(const bisect *b, const char *const *word, const char *what)
{
    char *argv[16] = { "git" };
    int code = -1, n = 1;
    (void)b;
    for (; word[n - 1] && n < 15; n++) argv[n] = (char *)(uintptr_t)word[n - 1];
    RM_TRY(run(argv, true, &code));
    return code ? rm_fail(RM_E_IO, "%s: git ended with exit code %d", what, code) : RM_OK;
}
#define GIT(b, what, ...) git(b, (const char *const[]) { __VA_ARGS__, NULL }, what)

/* ---- one step ---------------------------------------------------------------------------------------------------------- */

static void add_word(rm_strbuf *s, const char *word)
{
    rm_str_add(s, " ");
    bench_put_word(s, word);
}

static void add_option(rm_strbuf *s, const char *name, const char *value)
{
    if (!value || !value[0]) return;
    rm_str_addf(s, " %s", name);
    add_word(s, value);
}

static void add_side(rm_strbuf *s, const char *name, const bisect *b, const char *folder)
{
    rm_strbuf command = { 0 };
    rm_str_add(&command, "cd");
    char path[256];
    snprintf(path, sizeof path, "%s/%s", b->place, folder);
    add_word(&command, path);
    rm_str_addf(&command, " && %s", b->o->b);
    if (command.failed) s->failed = true;
    else add_option(s, name, command.text);
    rm_str_free(&command);
}

/* Steps run elsewhere, and the store may be there only after the first of them. */
static void add_store(rm_strbuf *s, const char *store)
{
    char here[4096], path[8192];
    if (store[0] == '/') snprintf(path, sizeof path, "%s", store);
    else if (getcwd(here, sizeof here)) snprintf(path, sizeof path, "%s/%s", here, store);
    else s->failed = true;
    if (!s->failed) add_option(s, "--store", path);
}

/* The comparison of what is checked out with the base, with the options that the user gave. */
static void add_gate(rm_strbuf *s, const bisect *b)
{
    const bench_options *o = b->o;
    char number[40];
    bench_put_word(s, b->program);
    rm_str_add(s, " gate ab");
    if (o->b[0]) {
        add_side(s, "--a", b, "good");
        add_side(s, "--b", b, "tree");
        rm_str_add(s, " --even-if-identical");
    } else {
        add_option(s, "--base", b->base);
        rm_str_add(s, " --head \"$head\"");
        add_option(s, "--bench", o->gate_bench);
    }
    for (int32_t i = 0; i < o->metric.n; i++) add_option(s, "--metric", o->metric.item[i]);
    add_option(s, "--effect", o->effect);
    add_option(s, "--discard", o->discard);
    add_option(s, "--tiers", o->b[0] ? "T0,T1,T2" : "T1,T2"); /* a build's exact facts may change on the way without being what is looked for */
    add_option(s, "--cmake", o->cmake_args);
    add_option(s, "--lock", o->lock);
    snprintf(number, sizeof number, "%.17g", o->calm_s), add_option(s, "--calm", number);
    if (o->expensive) rm_str_add(s, " --expensive");
    if (o->seed_given) snprintf(number, sizeof number, "%lld", (long long)o->seed), add_option(s, "--seed", number);
    if (o->budget_s > 0) snprintf(number, sizeof number, "%.17g", o->budget_s), add_option(s, "--budget", number);
    snprintf(number, sizeof number, "%.17g", o->run_timeout_s), add_option(s, "--run-timeout", number);
    add_store(s, o->store);
}

/* To git bisect: 0 good, 1 bad, 125 skip, 255 stop. The log has a line a step, the code of the gate or "build CODE" first; out has the last gate's lines. */
static rm_status write_step(const bisect *b)
{
    rm_strbuf s = { 0 };
    char path[160];
    rm_str_addf(&s, "cd '%s/tree' || exit 255\nhead=$(git rev-parse HEAD) || exit 255\n", b->place);
    if (b->o->build[0]) rm_str_addf(&s, "( %s\n) >&2 || { echo \"build $? $head\" >>'%s/log'; exit 125; }\n", b->o->build, b->place);
    add_gate(&s, b);
    rm_str_addf(&s, " >'%s/out'\ncode=$?\ncat '%s/out' >&2\necho \"$code $head\" >>'%s/log'\n", b->place, b->place, b->place);
    rm_str_add(&s, "case $code in 0 | 1) exit $code ;; 2 | 3 | 4) exit 125 ;; *) exit 255 ;; esac\n");
    snprintf(path, sizeof path, "%s/step.sh", b->place);
    FILE *f = s.failed ? NULL : fopen(path, "w");
    rm_status st = f ? RM_OK : s.failed ? rm_fail(RM_E_NOMEM, "out of memory for the step of a bisection") : rm_fail_errno("cannot write %s", path);
    if (f && fputs(s.text, f) == EOF) st = rm_fail_errno("cannot write %s", path);
    if (f && fclose(f) && st == RM_OK) st = rm_fail_errno("cannot write %s", path);
    rm_str_free(&s);
    return st;
}

/* ---- set-up and end -------------------------------------------------------------------------------------------------------- */

/* What can be known to be wrong before anything is checked out. */
static rm_status check_metrics(const bench_options *o)
{
    bench_metric m;
    double effect;
    RM_TRY(bench_share_parse(o->effect, "--effect", &effect));
    for (int32_t i = 0; i < o->metric.n; i++) RM_TRY(bench_metric_parse(o->metric.item[i], effect, &m));
    return RM_OK;
}

static rm_status check_options(const bench_options *o)
{
    if (!o->base[0] || !o->head[0]) return rm_fail(RM_E_ARG, "bench gate bisect wants --base REV, which is fast, and --head REV, which is slow");
    if (o->b[0] ? !o->metric.n : !o->gate_bench[0])
        return rm_fail(RM_E_ARG, "bench gate bisect wants --bench ARGS for this program, or --b CMD and --metric PATH (and perhaps --build CMD) for any other");
    if (o->b[0] && o->gate_bench[0]) return rm_fail(RM_E_ARG, "--bench and --b exclude each other");
    return check_metrics(o);
}

static rm_status resolve(const char *revision, const char *option, char out[LONGEST])
{
    rm_strbuf s = { 0 };
    char what[256];
    rm_str_add(&s, "rev-parse --verify --quiet --end-of-options");
    char commit[256];
    snprintf(commit, sizeof commit, "%s^{commit}", revision);
    add_word(&s, commit);
    snprintf(what, sizeof what, "%s %s: no such commit here (run it inside the repository)", option, revision);
    rm_status st = s.failed ? rm_fail(RM_E_NOMEM, "out of memory") : git_line(s.text, what, out, LONGEST);
    rm_str_free(&s);
    return st;
}

static rm_status build_good(const bisect *b)
{
    rm_strbuf s = { 0 };
    int code = 0;
    rm_str_addf(&s, "cd '%s/good' && ( %s\n)", b->place, b->o->build);
    rm_status st = s.failed ? rm_fail(RM_E_NOMEM, "out of memory for the build") : run((char *const[]) { "sh", "-c", s.text, NULL }, true, &code);
    rm_str_free(&s);
    if (st == RM_OK && code) st = rm_fail(RM_E_ARG, "--build ended with exit code %d on --base %s", code, b->o->base);
    return st;
}

static rm_status prepare(bisect *b)
{
    char tree[160], good[160];
    RM_TRY(bench_own_program(b->program, sizeof b->program));
    RM_TRY(resolve(b->o->base, "--base", b->base));
    RM_TRY(resolve(b->o->head, "--head", b->head));
    RM_TRY(bench_place_make("bisect", b->place));
    snprintf(tree, sizeof tree, "%s/tree", b->place);
    snprintf(good, sizeof good, "%s/good", b->place);
    RM_TRY(GIT(b, "cannot check out --head", "worktree", "add", "-q", "--detach", tree, b->head));
    if (b->o->b[0]) RM_TRY(GIT(b, "cannot check out --base", "worktree", "add", "-q", "--detach", good, b->base));
    if (b->o->b[0] && b->o->build[0]) RM_TRY(build_good(b));
    return write_step(b);
}

/* After a signal, too. The folder is ours by its random name. */
static void clean_up(const bisect *b)
{
    static const char *const tree[] = { "tree", "good" };
    char path[160];
    int code = -1;
    if (!b->place[0]) return;
    for (size_t i = 0; i < RM_COUNT(tree); i++) {
        snprintf(path, sizeof path, "%s/%s", b->place, tree[i]);
        if (access(path, F_OK) == 0 && run((char *const[]) { "git", "worktree", "remove", "--force", path, NULL }, false, &code) != RM_OK)
            rm_warn("%s", rm_last_error());
    }
    if (run((char *const[]) { "rm", "-rf", "--", (char *)(uintptr_t)b->place, NULL }, false, &code) != RM_OK) rm_warn("%s", rm_last_error());
}

/* ---- the search -------------------------------------------------------------------------------------------------------------- */

static void read_log(bisect *b)
{
    char path[160], line[128];
    snprintf(path, sizeof path, "%s/log", b->place);
    FILE *f = fopen(path, "r");
    b->steps = b->skipped = 0;
    while (f && fgets(line, sizeof line, f)) {
        b->steps++;
        b->skipped += line[0] != '0' && line[0] != '1';
    }
    if (f) fclose(f);
}

/* The last line of the log and the first of the last gate's lines, each "" where there is none. */
static void last_step(const bisect *b, char log[128], char gate[512])
{
    char path[160], line[128];
    log[0] = gate[0] = '\0';
    snprintf(path, sizeof path, "%s/log", b->place);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) memcpy(log, line, sizeof line);
    if (f) fclose(f);
    snprintf(path, sizeof path, "%s/out", b->place);
    f = fopen(path, "r");
    if (f && fgets(gate, 512, f)) gate[strcspn(gate, "\n")] = '\0';
    if (f) fclose(f);
}

/* Why the ends gave no verdict. What cannot be built or measured at an end is trouble; noise is not. */
static rm_status no_verdict(const bisect *b)
{
    char log[128], gate[512];
    last_step(b, log, gate);
    const bool build = strncmp(log, "build ", 6) == 0;
    const long code = strtol(log + (build ? 6 : 0), NULL, 10);
    if (build) return rm_fail(RM_E_ARG, "--build ended with exit code %ld on --head %s", code, b->o->head);
    const char *why = gate[0] ? gate : "the lines above say why";
    if (code == 3 || code == 4)
        return rm_fail(RM_E_INCONCLUSIVE, "--head %s against --base %s gives no verdict, so there is nothing to look for: %s", b->o->head, b->o->base, why);
    return rm_fail(RM_E_ARG, "--head %s cannot be compared with --base %s: %s", b->o->head, b->o->base, why);
}

/* Before the search: the two ends must differ. */
static rm_status compare_ends(const bisect *b)
{
    char step[160];
    int code = -1;
    snprintf(step, sizeof step, "%s/step.sh", b->place);
    rm_info("comparing --head with --base");
    RM_TRY(run((char *const[]) { "sh", step, NULL }, true, &code));
    if (code == 1) return RM_OK;
    if (code == 0) return rm_fail(RM_E_ARG, "--head %s is not slower than --base %s: there is nothing to look for", b->o->head, b->o->base);
    return no_verdict(b);
}

static rm_status search(const bisect *b)
{
    char tree[160], step[160];
    int code = -1;
    snprintf(tree, sizeof tree, "%s/tree", b->place);
    snprintf(step, sizeof step, "%s/step.sh", b->place);
    RM_TRY(GIT(b, "cannot begin the bisection", "-C", tree, "bisect", "start", b->head, b->base));
    RM_TRY(run((char *const[]) { "git", "-C", tree, "bisect", "run", "sh", step, NULL }, true, &code));
    if (code != 0 && code != 2)
        return rm_fail(RM_E_IO, "git bisect run ended with exit code %d; the lines above say why", code); /* 2: only skipped commits are left */
    return RM_OK;
}

/* Commits that may be the first bad one, the newest last: after the last good, up to the first known bad. */
static rm_status candidates(const bisect *b, json_t *out)
{
    char command[512];
    bench_process p;
    snprintf(
        command, sizeof command,
        "git -C '%s/tree' log --reverse --max-count=64 --format='%%H %%s' refs/bisect/bad --not $(git -C '%s/tree' for-each-ref --format='%%(refname)' 'refs/bisect/good-*')",
        b->place, b->place);
    RM_TRY(bench_process_run(command, git_timeout_s, &p));
    rm_status st = p.exit_code ? rm_fail(RM_E_IO, "cannot read what git bisect found: %s", p.complaint) : RM_OK;
    for (char *line = p.out, *end; st == RM_OK && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        if (json_array_append_new(out, json_string(line))) st = rm_fail(RM_E_NOMEM, "out of memory for the commits");
    }
    bench_process_free(&p);
    return st;
}

static rm_status store_row(const bisect *b, json_t *commits, double seconds)
{
    const bool found = json_array_size(commits) == 1;
    json_t *row = json_pack("{s:s, s:s, s:s, s:o, s:O, s:i, s:i, s:f, s:s}", "kind", "bisect", "base", b->base, "head", b->head, "first_slower",
                            found ? json_incref(json_array_get(commits, 0)) : json_null(), "candidates", commits, "steps", b->steps, "skipped", b->skipped,
                            "seconds", seconds, "origin", "measured");
    bench_run run;
    if (!row) return rm_fail(RM_E_NOMEM, "out of memory for the result");
    rm_status st = bench_run_begin(&bench_cmd_gate, b->o, false, &run);
    if (st == RM_OK) st = rm_store_result(run.store, run.id, "bisect", "measured", true, row, NULL, 0);
    if (st == RM_OK) st = rm_store_run_end(run.store, run.id, rm_exit_code(found ? RM_OK : RM_E_INCONCLUSIVE, 0));
    if (st == RM_OK) st = bench_emit_json(&bench_cmd_gate, b->o, run.environment, json_pack("[O]", row));
    bench_run_close(&run);
    json_decref(row);
    return st;
}

static rm_status report(const bisect *b, json_t *commits)
{
    const size_t n = json_array_size(commits);
    if (bench_table_wanted(b->o)) {
        printf("%s%s\n",
               n == 1 ? "first slower commit: " : "the first slower commit is one of these:", n == 1 ? json_string_value(json_array_get(commits, 0)) : "");
        for (size_t i = 0; n != 1 && i < n; i++) printf("  %s\n", json_string_value(json_array_get(commits, i)));
        printf("%d comparisons, %d commits skipped\n", b->steps, b->skipped);
    }
    return n == 1 ? RM_OK : rm_fail(RM_E_INCONCLUSIVE, "narrowed down to %zu commits; the others could not be built or judged", n);
}

static rm_status find(bisect *b)
{
    const uint64_t begin = rm_now_ns();
    json_t *commits = json_array();
    rm_status st = commits ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the commits");
    if (st == RM_OK) st = compare_ends(b);
    if (st == RM_OK) st = search(b);
    if (st == RM_OK) st = candidates(b, commits);
    if (st == RM_OK) {
        read_log(b);
        st = store_row(b, commits, rm_s(rm_now_ns() - begin));
    }
    if (st == RM_OK) st = report(b, commits);
    json_decref(commits);
    return st;
}

rm_status bench_gate_bisect(const bench_options *o)
{
    bisect b = { .o = o };
    RM_TRY(check_options(o));
    rm_status st = prepare(&b);
    if (st == RM_OK) st = find(&b);
    clean_up(&b);
    return st;
}
