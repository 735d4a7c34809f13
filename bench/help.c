/* --help, from the rows. Never wider than 100 columns. */
#include "bench/commands.h"
#include "bench/options.h"
#include <stdio.h>
#include <string.h>

enum { HELP_COLUMNS = 100, HELP_INDENT = 30 };

/* Prints words from column `at`, continuing lines at `indent`. */
static void wrap(const char *text, size_t at, size_t indent)
{
    for (const char *p = text; *p;) {
        const size_t n = strcspn(p, " ");
        if (at > indent && at + 1 + n > HELP_COLUMNS) {
            printf("\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)n, p);
        at += n;
        p += n;
        while (*p == ' ') p++;
    }
    putchar('\n');
}

static void print_option(const bench_option *row)
{
    char left[160], text[400];
    const char *shown = bench_option_default(row), *meta = bench_option_metavar(row);
    int n = snprintf(left, sizeof left, "  %c%c%s --%s%s", row->letter ? '-' : ' ', row->letter ? row->letter : ' ', row->letter ? "," : " ",
                     row->flags & BENCH_NEGATABLE ? "[no-]" : "", row->name);
    if (row->alias) n += snprintf(left + n, sizeof left - (size_t)n, ", --%s", row->alias);
    if (meta[0]) snprintf(left + n, sizeof left - (size_t)n, " %s", meta);
    snprintf(text, sizeof text, shown[0] ? "%s (default: %s)" : "%s", row->help, shown);
    const size_t width = strlen(left);
    fputs(left, stdout);
    if (width + 2 > HELP_INDENT) printf("\n%*s", HELP_INDENT, "");
    else printf("%*s", (int)(HELP_INDENT - width), "");
    wrap(text, HELP_INDENT, HELP_INDENT);
}

static void print_group(const char *command, const char *title, unsigned shared)
{
    bool any = false;
    for (size_t i = 0; i < bench_option_count; i++) {
        const bench_option *row = &bench_option_rows[i];
        if ((row->flags & BENCH_SHARED) != shared || (row->flags & BENCH_HIDDEN) || !bench_option_takes(row, command)) continue;
        if (!any) printf("\n%s\n", title);
        any = true;
        print_option(row);
    }
}

static void print_exits(void)
{
    printf("\nExit codes\n");
    for (const bench_exit *e = bench_exits; e->code; e++) printf("  %-8s %s\n", e->code, e->meaning);
}

void bench_help(const bench_command *c)
{
    const char *words = bench_words_of(c->name)->shown;
    char usage[400];
    const bool whole = c->usage && strncmp(c->usage, "bench ", 6) == 0;
    if (whole) snprintf(usage, sizeof usage, "%s", c->usage);
    else snprintf(usage, sizeof usage, "bench %s %s", c->name, c->usage && c->usage[0] ? c->usage : words[0] ? words : "[options]");
    printf("Usage: ");
    wrap(usage, 7, 7);
    putchar('\n');
    wrap(c->summary, 0, 0);
    print_group(c->name, "Options", 0);
    print_group(c->name, "Options that commands share", BENCH_SHARED);
    if (c->examples && c->examples[0]) printf("\nExamples\n");
    for (size_t i = 0; c->examples && c->examples[i]; i++) printf("  %s\n", c->examples[i]);
    print_exits();
}

void bench_help_all(void)
{
    printf("Usage: bench COMMAND [options]\n\n"
           "Trains ResNet-50 data-parallel on GPUs or on the processor and measures where the time goes.\n\nCommands\n");
    for (size_t i = 0; bench_commands[i]; i++) {
        if (bench_commands[i]->hidden) continue;
        printf("  %-10s  ", bench_commands[i]->name);
        wrap(bench_commands[i]->summary, 14, 14);
    }
    printf("\nbench COMMAND --help lists the options of a command; bench --version prints the version.\n"
           "Results go to stdout and to ringmark.db, talk and progress to stderr.\n");
    print_exits();
}
