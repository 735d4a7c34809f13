#define _GNU_SOURCE
#include "bench/gate_build.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/strbuf.h"
#include "bench/gate_executable.h"
#include "bench/gate_lock.h"
#include "bench/options.h"
#include "profiler/runinfo.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };
static const double build_timeout_s = 7200, git_timeout_s = 300;

/* git: the repository, which its work trees share. top: of the work tree here, or of the folder. dir: the repository's in the cache, with a folder a
 * program in it. */
typedef struct place {
    char git[PATH_BYTES], top[PATH_BYTES], dir[PATH_BYTES];
    const char *cmake_args;
} place;

/* ---- files */

static bool is_kind(const char *path, mode_t kind)
{
    struct stat s;
    return stat(path, &s) == 0 && (s.st_mode & S_IFMT) == kind;
}

static bool is_program(const char *path) { return is_kind(path, S_IFREG) && access(path, X_OK) == 0; }

static rm_status take_program(const char *path, const char *label, bench_gate_side *side)
{
    side->program = realpath(path, NULL);
    if (!side->program) return rm_fail_errno("cannot find the program %s", path);
    snprintf(side->label, sizeof side->label, "%.*s", (int)sizeof side->label - 1, label);
    return bench_file_digest(side->program, side->digest);
}

/* ---- commands: in `form`, %s is a word and %r is text as it is */

static rm_status run(double timeout_s, bench_process *out, const char *form, ...)
{
    rm_strbuf s = { 0 };
    va_list ap;
    va_start(ap, form);
    for (const char *p = form; *p; p++) {
        if (p[0] == '%' && p[1] == 's') bench_put_word(&s, va_arg(ap, const char *)), p++;
        else if (p[0] == '%' && p[1] == 'r') rm_str_add(&s, va_arg(ap, const char *)), p++;
        else rm_str_add_n(&s, p, 1);
    }
    va_end(ap);
    char *command = rm_str_take(&s);
    if (!command) return rm_fail(RM_E_NOMEM, "out of memory for a command");
    rm_verbose("%s", command);
    const rm_status st = bench_process_run(command, timeout_s, out);
    free(command);
    return st;
}

/* The first line that a command of git prints; "" where it failed. */
static rm_status one_line(const bench_process *p, char *out, size_t size)
{
    const int n = (int)strcspn(p->out, "\n");
    if (p->exit_code != 0) out[0] = '\0';
    else if ((size_t)snprintf(out, size, "%.*s", n, p->out) >= size) return rm_fail(RM_E_IO, "a path is too long: %.*s", n, p->out);
    return RM_OK;
}

#define GIT_LINE(st, out, ...)                                                                                                                                 \
    do {                                                                                                                                                       \
        bench_process p_ = { 0 };                                                                                                                              \
        (st) = run(git_timeout_s, &p_, __VA_ARGS__);                                                                                                           \
        if ((st) == RM_OK) (st) = one_line(&p_, (out), sizeof(out));                                                                                           \
        bench_process_free(&p_);                                                                                                                               \
    } while (0)

/* ---- where */

static rm_status cache_folder(char *out, size_t size)
{
    const char *own = getenv("RINGMARK_GATE_CACHE"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;
    if (own && own[0]) n = snprintf(out, size, "%s", own);
    else if (cache && cache[0]) n = snprintf(out, size, "%s/ringmark/gate", cache);
    else n = snprintf(out, size, "%s/.cache/ringmark/gate", home && home[0] ? home : "/tmp");
    if (out[0] != '/') return rm_fail(RM_E_ARG, "$RINGMARK_GATE_CACHE must be a whole path, and is %s", out);
    return (size_t)n < size ? RM_OK : rm_fail(RM_E_ARG, "the path of the cache is too long: %s", out);
}

/* folder: "." or the folder that is built. Out is "" where there is no repository. One place a repository and set of flags, so that no build
 * finds another's objects. */
static rm_status place_of(const char *folder, const char *cmake_args, place *out)
{
    char hex[65], cache[PATH_BYTES - 64];
    rm_sha256 s;
    rm_status st;
    *out = (place) { .cmake_args = cmake_args };
    GIT_LINE(st, out->git, "git -C %s rev-parse --path-format=absolute --git-common-dir", folder);
    if (st == RM_OK) GIT_LINE(st, out->top, "git rev-parse --show-toplevel");
    if (st == RM_OK && !out->top[0]) GIT_LINE(st, out->top, "git -C %s rev-parse --show-toplevel", folder);
    RM_TRY(st);
    RM_TRY(cache_folder(cache, sizeof cache));
    rm_sha256_begin(&s);
    rm_sha256_add(&s, out->git, strlen(out->git) + 1);
    rm_sha256_add(&s, cmake_args, strlen(cmake_args));
    rm_sha256_end(&s, hex);
    snprintf(out->dir, sizeof out->dir, "%s/%.16s", cache, hex);
    return RM_OK;
}

/* ---- what: a tree of the repository, by its name of 40 digits */

static rm_status tree_of_folder(const char *folder, const char *scratch, char tree[64])
{
    char index[PATH_BYTES], line[PATH_BYTES];
    rm_status st;
    /* An index of our own: the folder's stays as it is. */
    snprintf(index, sizeof index, "%s/index", scratch);
    GIT_LINE(st, line, "export GIT_INDEX_FILE=%s; cd %s && cd \"$(git rev-parse --show-toplevel)\" && git read-tree HEAD && git add -A && git write-tree",
             index, folder);
    RM_TRY(st);
    if (!line[0]) return rm_fail(RM_E_ARG, "%s is no work tree of git that can be read: give the program that was built there instead", folder);
    snprintf(tree, 64, "%.63s", line);
    return RM_OK;
}

static rm_status tree_of_revision(const char *revision, const place *w, char tree[64], char commit[64])
{
    char line[PATH_BYTES], spec[PATH_BYTES];
    rm_status st;
    if (!w->git[0]) return rm_fail(RM_E_ARG, "%s is no program and no folder, and there is no git repository here whose revision it could be", revision);
    snprintf(spec, sizeof spec, "%.900s^{commit}", revision);
    GIT_LINE(st, line, "git rev-parse --verify --quiet --end-of-options %s", spec);
    RM_TRY(st);
    if (!line[0]) return rm_fail(RM_E_ARG, "%s is no program, no folder, and no revision of %s", revision, w->git);
    snprintf(commit, 64, "%.63s", line);
    snprintf(spec, sizeof spec, "%.63s^{tree}", commit);
    GIT_LINE(st, line, "git rev-parse --verify --quiet %s", spec);
    RM_TRY(st);
    snprintf(tree, 64, "%.63s", line);
    return RM_OK;
}

/* ---- building */

static rm_status check(rm_status st, bench_process *p, const char *what, const char *log)
{
    if (st == RM_OK && p->exit_code != 0)
        st = rm_fail(RM_E_NUMERIC, "%s failed: %s%s%s", what, p->complaint[0] ? p->complaint : "it did not say why", log[0] ? "; all of it is in " : "", log);
    bench_process_free(p);
    return st;
}

static rm_status add_worktree(const place *w, const char *src)
{
    bench_process p = { 0 };
    const rm_status st =
        run(git_timeout_s, &p,
            "mkdir -p %s && rm -rf %s && git --git-dir %s worktree prune && git --git-dir %s worktree add --quiet --detach --no-checkout %s HEAD", w->dir, src,
            w->git, w->git, src);
    return check(st, &p, "git worktree add", "");
}

static rm_status read_tree(const char *src, const char *tree)
{
    bench_process p = { 0 };
    const rm_status st = run(git_timeout_s, &p, "git -C %s read-tree --reset -u %s && git -C %s clean -fdq", src, tree, src);
    return check(st, &p, "git read-tree", "");
}

/* A gate that was killed while git worked may have left a worktree that git does not take any more: a new one is made, once. */
static rm_status check_out(const place *w, const char *tree)
{
    char src[PATH_BYTES + 8];
    snprintf(src, sizeof src, "%s/src", w->dir);
    const bool old = is_kind(src, S_IFDIR);
    if (!old) RM_TRY(add_worktree(w, src));
    const rm_status st = read_tree(src, tree);
    if (st != RM_E_NUMERIC || !old) return st;
    rm_verbose("a new worktree: %s", rm_last_error());
    RM_TRY(add_worktree(w, src));
    return read_tree(src, tree);
}

/* The commit would make programs differ that are the same: it is kept from the build. */
static rm_status build(const place *w, const char *bin)
{
    bench_process p = { 0 };
    char log[PATH_BYTES + 100], jobs[16];
    snprintf(log, sizeof log, "%s/build.log", bin);
    snprintf(jobs, sizeof jobs, "%d", rm_cores_available());
    const rm_status st = run(build_timeout_s, &p,
                             "export GIT_DIR=/nonexistent; exec > %s; cd %s; if command -v ninja > /dev/null; then g=Ninja; else g='Unix Makefiles'; fi;"
                             " cmake -S src -B build -G \"$g\" -D CMAKE_PREFIX_PATH=%s/.deps/onednn %r && cmake --build build --target bench -j %s &&"
                             " cp build/bench %s/bench.new && mv %s/bench.new %s/bench",
                             log, w->dir, w->top, w->cmake_args, jobs, bin, bin, bin);
    return check(st, &p, "the build", log);
}

static rm_status build_tree(const place *w, const char *tree, const char *label, bench_gate_side *side)
{
    char bin[PATH_BYTES + 72], program[PATH_BYTES + 90], lock[PATH_BYTES + 8];
    bench_process p = { 0 };
    int fd;
    snprintf(bin, sizeof bin, "%s/%s", w->dir, tree);
    snprintf(program, sizeof program, "%s/bench", bin);
    snprintf(lock, sizeof lock, "%s/lock", w->dir);
    RM_TRY(check(run(git_timeout_s, &p, "mkdir -p %s", bin), &p, "making the cache folder", ""));
    RM_TRY(bench_gate_lock(lock, build_timeout_s, &fd));
    rm_status st = RM_OK;
    if (is_program(program)) rm_info("%s was built before: %s", label, program);
    else {
        rm_info("building %s; this takes minutes", label);
        st = check_out(w, tree);
        if (st == RM_OK) st = build(w, bin);
    }
    bench_gate_unlock(fd);
    return st == RM_OK ? take_program(program, label, side) : st;
}

rm_status bench_gate_program(const char *what, const char *cmake_args, bench_gate_side *side)
{
    char tree[64], commit[64] = "";
    place w;
    const bool folder = is_kind(what, S_IFDIR);
    if (is_program(what)) return take_program(what, what, side);
    RM_TRY(place_of(folder ? what : ".", cmake_args, &w));
    RM_TRY(folder ? tree_of_folder(what, side->scratch, tree) : tree_of_revision(what, &w, tree, commit));
    snprintf(side->revision, sizeof side->revision, "%s", commit[0] ? commit : tree);
    snprintf(side->commit, sizeof side->commit, "%s", commit);
    return build_tree(&w, tree, what, side);
}

void bench_gate_forget_builds(const char *what, const char *cmake_args)
{
    char src[PATH_BYTES + 8], dir[PATH_BYTES + 8];
    bench_process p = { 0 };
    place w;
    if (place_of(is_kind(what, S_IFDIR) ? what : ".", cmake_args, &w) != RM_OK || !w.git[0]) return;
    snprintf(src, sizeof src, "%s/src", w.dir);
    snprintf(dir, sizeof dir, "%s/build", w.dir);
    if (!is_kind(src, S_IFDIR)) return;
    const rm_status st = run(git_timeout_s, &p, "git --git-dir %s worktree remove --force %s; rm -rf %s", w.git, src, dir);
    bench_process_free(&p);
    if (st != RM_OK) rm_verbose("the worktree %s stays", src);
}
