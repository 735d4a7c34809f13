#include "reports/gnuplot.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* In enhanced mode { } ^ _ @ & ~ are markup; in double quotes a backslash escapes, also itself. */
void rp_escape_gnuplot(rm_strbuf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p < 32 || *p == 127) rm_str_add(out, " ");
        else if (strchr("{}^_@&~", *p)) rm_str_addf(out, "\\\\%c", *p);
        else if (*p == '\\') rm_str_add(out, "\\\\\\\\");
        else if (*p == '"') rm_str_add(out, "\\\"");
        else if (*p == '`') rm_str_add(out, "'"); /* a backtick would run a command */
        else rm_str_add_n(out, p, 1);
    }
}

static const char preamble[] = /* folder, width, height */
    "cd '%s'\nset encoding utf8\n"
    "set terminal svg size %d,%d dynamic enhanced font 'DejaVu Sans,Arial,Helvetica,sans-serif,14' background '#ffffff' linewidth 1.2\n"
    "set border 3 lc rgb '#8a929a'\nset tics nomirror out textcolor rgb '#3a4149'\n"
    "set grid ytics lc rgb '#e1e5e9' lt 1 lw 0.7\nset key tmargin left horizontal maxcols 2 reverse Left samplen 2.5 spacing 1.2 width 2 textcolor rgb '#3a4149'\n"
    "set xlabel textcolor rgb '#3a4149'\nset ylabel textcolor rgb '#3a4149'\nset bars 0.7\nset output 'figure.svg'\n";

static rm_status write_file(const char *dir, const char *name, const char *head, const rm_strbuf *body)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f) return rm_fail_errno("cannot write %s for gnuplot", path);
    fputs(head, f);
    fwrite(body->text ? body->text : "", 1, body->n, f);
    int bad = ferror(f);
    if (fclose(f) || bad) return rm_fail_errno("cannot write %s for gnuplot", path);
    return RM_OK;
}

/* First line of the child's complaints, for the message. */
static void first_complaint(const char *dir, char *out, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/errors", dir);
    FILE *f = fopen(path, "r");
    out[0] = 0;
    while (f && fgets(out, (int)size, f)) {
        out[strcspn(out, "\n")] = 0;
        if (out[strspn(out, " \t^")]) break;
    }
    if (f) fclose(f);
}

static rm_status run(const char *dir)
{
    char script[256], errors[256], complaint[256];
    snprintf(script, sizeof script, "%s/script", dir);
    snprintf(errors, sizeof errors, "%s/errors", dir);
    char *const argv[] = { "gnuplot", "-d", script, NULL }; /* -d: the user's start-up files stay out */
    posix_spawn_file_actions_t fa;
    if (posix_spawn_file_actions_init(&fa)) return rm_fail(RM_E_NOMEM, "cannot start gnuplot: out of memory");
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t pid;
    int rc = posix_spawnp(&pid, "gnuplot", &fa, NULL, argv, environ), status = 0;
    posix_spawn_file_actions_destroy(&fa);
    if (rc == ENOENT) return rm_fail(RM_E_UNSUPPORTED, "gnuplot is not installed, so there are no figures; install it (apt install gnuplot-nox)");
    if (rc) return rm_fail(RM_E_IO, "cannot start gnuplot: %s", strerror(rc));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return rm_fail_errno("cannot wait for gnuplot");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return rm_fail(RM_E_UNSUPPORTED, "gnuplot is not installed, so there are no figures; install it (apt install gnuplot-nox)");
    first_complaint(dir, complaint, sizeof complaint);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) return rm_fail(RM_E_IO, "gnuplot failed: %s", complaint[0] ? complaint : "no reason given");
    return RM_OK;
}

static rm_status copy_out(const char *dir, const char *out_dir, const char *name)
{
    char from[256], temporary[4096], to[4096], piece[16384];
    snprintf(from, sizeof from, "%s/figure.svg", dir);
    snprintf(to, sizeof to, "%s/%s.svg", out_dir, name);
    if (snprintf(temporary, sizeof temporary, "%s/%s.svg.%ld.tmp", out_dir, name, (long)getpid()) >= (int)sizeof temporary)
        return rm_fail(RM_E_ARG, "%s: the path is too long", out_dir);
    FILE *in = fopen(from, "r"), *out = in ? fopen(temporary, "w") : NULL;
    rm_status st = RM_OK;
    size_t n;
    if (!out) st = rm_fail_errno("cannot write %s", in ? temporary : from);
    while (out && (n = fread(piece, 1, sizeof piece, in)) > 0) fwrite(piece, 1, n, out);
    if (out && (ferror(in) || ferror(out))) st = rm_fail_errno("cannot write %s", to);
    if (in) fclose(in);
    if (out && fclose(out) && st == RM_OK) st = rm_fail_errno("cannot write %s", to);
    if (st == RM_OK && rename(temporary, to)) st = rm_fail_errno("cannot put %s in place", to);
    if (st != RM_OK && out) unlink(temporary);
    return st;
}

static void remove_folder(const char *dir)
{
    static const char *const name[] = { "script", "data", "errors", "figure.svg" };
    char path[256];
    for (size_t i = 0; i < RM_COUNT(name); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        unlink(path);
    }
    rmdir(dir);
}

rm_status rp_gnuplot(const char *out_dir, const char *name, int height, const rm_strbuf *script, const rm_strbuf *data)
{
    if (script->failed || data->failed) return rm_fail(RM_E_NOMEM, "out of memory for the figure %s", name);
    char dir[160], head[sizeof preamble + 256];
    const char *tmp = getenv("TMPDIR");
    if (!tmp || !*tmp || strlen(tmp) > 100 || strpbrk(tmp, "'\"\\\n")) tmp = "/tmp";
    snprintf(dir, sizeof dir, "%s/ringmark-plot-XXXXXX", tmp);
    if (!mkdtemp(dir)) return rm_fail_errno("cannot make a temporary folder %s for gnuplot", dir);
    snprintf(head, sizeof head, preamble, dir, RP_WIDTH, height ? height : RP_HEIGHT);
    rm_status st = write_file(dir, "script", head, script);
    if (st == RM_OK) st = write_file(dir, "data", "", data);
    if (st == RM_OK) st = run(dir);
    if (st == RM_OK) st = copy_out(dir, out_dir, name);
    remove_folder(dir);
    return st;
}
