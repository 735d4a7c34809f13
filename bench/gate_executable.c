#define _GNU_SOURCE
#include "bench/gate_executable.h"
#include "base/sha256.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_MOST_BYTES = 256 << 20, WORD_BYTES = 4096 };

/* ---- the word */

/* value: the word without its quotes. plain: it is what it says; not so with an expansion in it. */
typedef struct word {
    char text[WORD_BYTES];
    size_t n;
    bool plain;
} word;

static void add(word *w, char c)
{
    if (w->n + 1 < sizeof w->text) w->text[w->n++] = c;
    else w->plain = false;
}

/* One word at *p; false: there is none, or one whose end only a shell can tell. */
static bool take_word(const char **p, word *w)
{
    char quote = '\0';
    *w = (word) { .plain = true };
    *p += strspn(*p, " \t");
    const char *begin = *p;
    for (; **p && (quote || !strchr(" \t\n;&|<>", **p)); (*p)++) {
        const char c = **p;
        if (quote != '\'' && strchr("`(", c)) return false;
        if (quote != '\'' && c == '\\' && (*p)[1]) add(w, *++*p);
        else if (quote ? c == quote : c == '\'' || c == '"') quote = quote ? '\0' : c;
        else {
            if ((quote != '\'' && c == '$') || (!quote && strchr("*?[{~", c))) w->plain = false;
            add(w, c);
        }
    }
    w->text[w->n] = '\0';
    return !quote && *p > begin;
}

static bool is_assignment(const char *text)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_') n++;
    return n && text[n] == '=' && !isdigit((unsigned char)text[0]);
}

static bool is_wrapper(const char *text)
{
    static const char *const wrapper[] = { "exec", "env", "command", "nohup", "time" };
    for (size_t i = 0; i < RM_COUNT(wrapper); i++)
        if (strcmp(wrapper[i], text) == 0) return true;
    return false;
}

/* ---- the file */

static bool is_program(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) && access(path, X_OK) == 0;
}

static bool find(const char *name, char *out, size_t size)
{
    const char *at = getenv("PATH");
    if (strchr(name, '/')) return (size_t)snprintf(out, size, "%s", name) < size && is_program(out);
    while (at && *at) {
        const size_t n = strcspn(at, ":");
        if ((size_t)snprintf(out, size, "%.*s/%s", n ? (int)n : 1, n ? at : ".", name) < size && is_program(out)) return true;
        at += n + (at[n] == ':');
    }
    return false;
}

bool bench_executable_of(const char *command, char *out, size_t size)
{
    word w;
    do
        if (!take_word(&command, &w)) return false;
    while (is_assignment(w.text) || (w.plain && is_wrapper(w.text)));
    return w.plain && find(w.text, out, size);
}

rm_status bench_file_digest(const char *path, char hex[65])
{
    char part[65536];
    size_t n;
    rm_sha256 s;
    FILE *f = fopen(path, "rb");
    if (!f) return rm_fail_errno("cannot read the program %s", path);
    rm_sha256_begin(&s);
    while ((n = fread(part, 1, sizeof part, f)) > 0) rm_sha256_add(&s, part, n);
    const bool bad = ferror(f) != 0;
    fclose(f);
    if (bad) return rm_fail_errno("cannot read the program %s", path);
    rm_sha256_end(&s, hex);
    return RM_OK;
}

static void digest_of_size(const struct stat *s, char hex[65])
{
    char text[100];
    rm_sha256 sum;
    const int n = snprintf(text, sizeof text, "%lld %lld.%09ld", (long long)s->st_size, (long long)s->st_mtim.tv_sec, s->st_mtim.tv_nsec);
    rm_sha256_begin(&sum);
    rm_sha256_add(&sum, text, (size_t)n);
    rm_sha256_end(&sum, hex);
}

void bench_executable_digest(const char *command, char hex[65])
{
    char path[WORD_BYTES];
    struct stat s;
    hex[0] = '\0';
    if (!bench_executable_of(command, path, sizeof path) || stat(path, &s) != 0) return;
    /* One that may be run but not read is told by its size and time, too. */
    if (s.st_size > READ_MOST_BYTES || bench_file_digest(path, hex) != RM_OK) digest_of_size(&s, hex);
}
