/* Hidden commands that print the program's own manual from the option rows: help, completion, man. */
#include "bench/commands.h"
#include "bench/options.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <string.h>

/* Calls fn for every visible option of `command`. */
static void each_option(const char *command, void (*fn)(const bench_option *row, const char *command))
{
    for (size_t i = 0; i < bench_option_count; i++)
        if (!(bench_option_rows[i].flags & BENCH_HIDDEN) && bench_option_takes(&bench_option_rows[i], command)) fn(&bench_option_rows[i], command);
}

static void each_command(void (*fn)(const bench_command *command))
{
    for (size_t i = 0; bench_commands[i]; i++)
        if (!bench_commands[i]->hidden) fn(bench_commands[i]);
}

/* ---- help */

static rm_status run_help(const bench_options *o)
{
    const bench_command *c = o->n_arg ? bench_command_find(o->arg[0]) : NULL;
    if (o->n_arg && !c) return rm_fail(RM_E_ARG, "unknown command %s; bench --help lists the commands", o->arg[0]);
    if (c) bench_help(c);
    else bench_help_all();
    return RM_OK;
}

/* ---- completion. Descriptions are quoted for the shell that reads them. */

static void quoted(const char *text, const char *escape_also)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'') fputs("'\\''", stdout);
        else if (strchr(escape_also, *p)) printf("\\%c", *p);
        else putchar(*p);
    }
}

static void bash_option(const bench_option *row, const char *command)
{
    printf(" --%s", row->name);
    if (row->alias) printf(" --%s", row->alias);
    if (row->flags & BENCH_NEGATABLE) printf(" --no-%s", row->name);
    if (row->letter) printf(" -%c", row->letter);
}
static void bash_command(const bench_command *c)
{
    printf("    %s) options='", c->name);
    each_option(c->name, bash_option);
    printf("' ;;\n");
}
static void command_name(const bench_command *c) { printf(" %s", c->name); }

static void bash_choices(void)
{
    for (size_t i = 0; i < bench_option_count; i++) {
        const bench_option *row = &bench_option_rows[i];
        if (!row->choices) continue;
        printf("    --%s) COMPREPLY=($(compgen -W '", row->name);
        for (const char *p = row->choices; *p; p++) putchar(*p == '|' ? ' ' : *p);
        printf("' -- \"$word\")); return ;;\n");
    }
}

static rm_status completion_bash(void)
{
    printf("# bash completion for bench; printed by: bench completion bash\n"
           "_bench() {\n"
           "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options=''\n"
           "  if [[ $COMP_CWORD -eq 1 ]]; then\n    COMPREPLY=($(compgen -W '");
    each_command(command_name);
    printf(" --help --version' -- \"$word\"))\n    return\n  fi\n  case $before in\n");
    bash_choices();
    printf("  esac\n  case ${COMP_WORDS[1]} in\n");
    each_command(bash_command);
    printf("  esac\n"
           "  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
           "  else COMPREPLY=($(compgen -f -- \"$word\")); fi\n"
           "}\ncomplete -o filenames -F _bench bench\n");
    return RM_OK;
}

static void zsh_value(const bench_option *row)
{
    if (row->choices) {
        printf(":value:(");
        for (const char *p = row->choices; *p; p++) putchar(*p == '|' ? ' ' : *p);
        putchar(')');
    } else if (row->kind == BENCH_OPTIONAL_FILE) printf("::file:_files");
    else if (row->kind == BENCH_STRING || row->kind == BENCH_LIST) printf(":value:_files");
    else if (row->kind != BENCH_FLAG) printf(":number:");
}
static void zsh_spec(const char *dashes, const char *name, const bench_option *row)
{
    printf("        '%s%s[", dashes, name);
    quoted(row->help, "[]:");
    printf("]");
    zsh_value(row);
    printf("' \\\n");
}
static void zsh_option(const bench_option *row, const char *command)
{
    const char letter[2] = { row->letter, '\0' };
    zsh_spec("--", row->name, row);
    if (row->alias) zsh_spec("--", row->alias, row);
    if (row->flags & BENCH_NEGATABLE) zsh_spec("--no-", row->name, row);
    if (row->letter) zsh_spec("-", letter, row);
}
static void zsh_command(const bench_command *c)
{
    printf("    %s)\n      _arguments \\\n", c->name);
    each_option(c->name, zsh_option);
    printf("        '*:word:_files' ;;\n");
}
static void zsh_name(const bench_command *c)
{
    printf("    '%s:", c->name);
    quoted(c->summary, ":");
    printf("'\n");
}

static rm_status completion_zsh(void)
{
    printf("#compdef bench\n# zsh completion for bench; printed by: bench completion zsh\n"
           "local -a commands\ncommands=(\n");
    each_command(zsh_name);
    printf(")\n_bench() {\n  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
           "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n");
    each_command(zsh_command);
    printf("  esac\n}\n_bench \"$@\"\n");
    return RM_OK;
}

static void fish_line(const char *command, const char *prefix, const char *name, const bench_option *row)
{
    printf("complete -c bench -n '__fish_seen_subcommand_from %s' -l %s%s", command, prefix, name);
    if (row->letter) printf(" -s %c", row->letter);
    if (row->choices) {
        printf(" -x -a '");
        for (const char *p = row->choices; *p; p++) putchar(*p == '|' ? ' ' : *p);
        putchar('\'');
    } else if (row->kind == BENCH_STRING || row->kind == BENCH_LIST) printf(" -r");
    else if (row->kind != BENCH_FLAG && row->kind != BENCH_OPTIONAL_FILE) printf(" -x");
    printf(" -d '");
    for (const char *p = row->help; *p; p++) *p == '\'' ? fputs("\\'", stdout) : putchar(*p);
    printf("'\n");
}
static void fish_option(const bench_option *row, const char *command)
{
    fish_line(command, "", row->name, row);
    if (row->alias) fish_line(command, "", row->alias, row);
    if (row->flags & BENCH_NEGATABLE) fish_line(command, "no-", row->name, row);
}
static void fish_command(const bench_command *c)
{
    printf("complete -c bench -n __fish_use_subcommand -f -a %s -d '", c->name);
    for (const char *p = c->summary; *p; p++) *p == '\'' ? fputs("\\'", stdout) : putchar(*p);
    printf("'\n");
    each_option(c->name, fish_option);
}

static rm_status completion_fish(void)
{
    printf("# fish completion for bench; printed by: bench completion fish\n");
    each_command(fish_command);
    return RM_OK;
}

static rm_status run_completion(const bench_options *o)
{
    static const struct {
        const char *shell;
        rm_status (*print)(void);
    } row[] = {
        { "bash", completion_bash },
        { "zsh", completion_zsh },
        { "fish", completion_fish },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (strcmp(row[i].shell, o->arg[0]) == 0) return row[i].print();
    return rm_fail(RM_E_ARG, "no completion for %s; there is bash, zsh and fish", o->arg[0]);
}

/* ---- man page */

/* Roff takes a leading dot or quote for a request and a bare minus for a hyphen. */
static void roff(const char *text)
{
    if (text[0] == '.' || text[0] == '\'') fputs("\\&", stdout);
    for (const char *p = text; *p; p++) {
        if (*p == '\\') fputs("\\e", stdout);
        else if (*p == '-') fputs("\\-", stdout);
        else putchar(*p);
    }
}

static void man_option(const bench_option *row, const char *command)
{
    const char *shown = bench_option_default(row), *meta = bench_option_metavar(row);
    printf(".TP\n\\fB");
    if (row->letter) printf("\\-%c\\fR, \\fB", row->letter);
    printf("\\-\\-%s", row->flags & BENCH_NEGATABLE ? "[no\\-]" : "");
    roff(row->name);
    if (row->alias) {
        printf("\\fR, \\fB\\-\\-");
        roff(row->alias);
    }
    printf("\\fR");
    if (meta[0]) {
        printf(" \\fI");
        roff(meta);
        printf("\\fR");
    }
    putchar('\n');
    roff(row->help);
    if (shown[0]) {
        printf(" (default: ");
        roff(shown);
        putchar(')');
    }
    putchar('\n');
}
static void man_own_option(const bench_option *row, const char *command)
{
    if (!(row->flags & BENCH_SHARED)) man_option(row, command);
}

static void man_command(const bench_command *c)
{
    printf(".SS bench ");
    roff(c->name);
    printf(" ");
    roff(bench_words_of(c->name)->shown);
    putchar('\n');
    roff(c->summary);
    putchar('\n');
    each_option(c->name, man_own_option);
    for (size_t i = 0; c->examples && c->examples[i]; i++) {
        printf(i ? ".br\n" : ".PP\nExamples:\n.br\n");
        roff(c->examples[i]);
        putchar('\n');
    }
}

/* ---- the options section of docs/cli.md, which a test compares */

/* A bar would end the table's cell. */
static void cell(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '|') fputs("\\|", stdout);
        else putchar(*p);
    }
}

static void markdown_option(const bench_option *row)
{
    printf("| `");
    if (row->letter) printf("-%c`, `", row->letter);
    printf("--%s%s", row->flags & BENCH_NEGATABLE ? "[no-]" : "", row->name);
    if (row->alias) printf("`, `--%s", row->alias);
    if (bench_option_metavar(row)[0]) putchar(' ');
    cell(bench_option_metavar(row));
    printf("` | ");
    cell(row->help);
    printf(" | ");
    cell(bench_option_default(row));
    printf(" | %s |\n", row->commands[0] == '*' ? "all" : row->commands);
}

static rm_status man_markdown(void)
{
    static const struct {
        const char *title;
        unsigned shared;
    } part[] = { { "Options that commands share", BENCH_SHARED }, { "Options of their own", 0 } };
    printf("## Options\n");
    for (size_t k = 0; k < RM_COUNT(part); k++) {
        printf("\n### %s\n\n| option | meaning | default | commands |\n|---|---|---|---|\n", part[k].title);
        for (size_t i = 0; i < bench_option_count; i++) {
            const unsigned flags = bench_option_rows[i].flags;
            if (!(flags & BENCH_HIDDEN) && (flags & BENCH_SHARED) == part[k].shared) markdown_option(&bench_option_rows[i]);
        }
    }
    return RM_OK;
}

static rm_status run_man(const bench_options *o)
{
    if (o->n_arg && strcmp(o->arg[0], "markdown") == 0) return man_markdown();
    if (o->n_arg) return rm_fail(RM_E_ARG, "no manual as %s; there is roff (no word) and markdown", o->arg[0]);
    printf(".TH BENCH 1 \"\" \"Ringmark ");
    roff(rm_version());
    printf("\" \"User commands\"\n.SH NAME\nbench \\- train ResNet\\-50 data\\-parallel and measure where the time goes\n"
           ".SH SYNOPSIS\n.B bench\n\\fICOMMAND\\fR [\\fIoptions\\fR]\n.SH DESCRIPTION\n"
           "Trains ResNet\\-50 on GPUs or on the processor, times every layer, sweeps device counts and keeps every sample.\n"
           "Results go to standard output and to the store, talk and progress to standard error.\n.SH COMMANDS\n");
    each_command(man_command);
    printf(".SH OPTIONS THAT COMMANDS SHARE\n"
           "A command takes those that mean something to it; \\fBbench\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR lists them.\n");
    for (size_t i = 0; i < bench_option_count; i++)
        if (bench_option_rows[i].flags & BENCH_SHARED) man_option(&bench_option_rows[i], "");
    printf(".SH EXIT STATUS\n");
    for (const bench_exit *e = bench_exits; e->code; e++) printf(".TP\n%s\n%s\n", e->code, e->meaning);
    printf(".SH ENVIRONMENT\n.TP\nRINGMARK_STORE\nthe store where \\-\\-store is not given\n"
           ".SH FILES\n.TP\nringmark.db\nthe store\n.TP\nreport/\nwhat bench report writes\n.TP\ndata/fashion\\-mnist\nwhat bench data make writes\n");
    return RM_OK;
}

const bench_command bench_cmd_help = {
    .name = "help",
    .summary = "prints the help of a command",
    .usage = "bench help [COMMAND]",
    .run = run_help,
    .hidden = true,
};
const bench_command bench_cmd_completion = {
    .name = "completion",
    .summary = "prints the completion script for a shell",
    .usage = "bench completion bash|zsh|fish",
    .run = run_completion,
    .hidden = true,
};
const bench_command bench_cmd_man = {
    .name = "man",
    .summary = "prints the manual page",
    .usage = "bench man [markdown]",
    .run = run_man,
    .hidden = true,
};
