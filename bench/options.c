/* The parser over the rows of options_rows.c, and what results echo of it. */
#include "bench/options.h"
#include "base/strbuf.h"
#include "profiler/store.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *field(bench_options *o, size_t offset) { return (char *)o + offset; }
static const void *field_const(const bench_options *o, size_t offset) { return (const char *)o + offset; }

/* Is `word` (n bytes) one of the words of `list`, which are separated by `separator`? */
static bool listed(const char *list, char separator, const char *word, size_t n)
{
    for (const char *p = list; p; p = strchr(p, separator), p = p ? p + 1 : NULL)
        if (strncmp(p, word, n) == 0 && (p[n] == separator || p[n] == '\0')) return true;
    return false;
}

bool bench_option_takes(const bench_option *row, const char *command)
{
    return row->commands[0] == '*' || listed(row->commands, ' ', command, strlen(command));
}

const char *bench_option_default(const bench_option *row)
{
    if (row->fallback_shown) return row->fallback_shown;
    return row->fallback ? row->fallback : "";
}

const char *bench_option_metavar(const bench_option *row)
{
    if (row->kind == BENCH_FLAG) return "";
    return row->choices ? row->choices : row->metavar;
}

const bench_words *bench_words_of(const char *command)
{
    static const bench_words none = { "", 0, 0, "" };
    for (size_t i = 0; i < bench_word_count; i++)
        if (strcmp(bench_word_rows[i].command, command) == 0) return &bench_word_rows[i];
    return &none;
}

/* Levenshtein distance; words over 31 letters count as far. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32] = { 0 }, n = strlen(a), m = strlen(b);
    if (n > 31 || m > 31) return 99;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

const char *bench_nearest(const char *word, const char *(*name)(void *ctx, size_t i), void *ctx, size_t n)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) > 4 ? 4 : 3; /* farther than that is another word */
    for (size_t i = 0; i < n; i++) {
        const char *candidate = name(ctx, i);
        const size_t d = candidate ? distance(word, candidate) : 99;
        if (d < best_distance) {
            best_distance = d;
            best = candidate;
        }
    }
    return best;
}

/* ---- values */

static rm_status out_of_range(const bench_option *row, const char *text)
{
    return rm_fail(RM_E_ARG, "--%s %s: must be from %.15g to %.15g", row->name, text, row->min, row->max);
}

static rm_status parse_integer(const bench_option *row, const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0') return rm_fail(RM_E_ARG, "--%s %s: not a whole number", row->name, text);
    if (errno == ERANGE || (double)v < row->min || (double)v > row->max) return out_of_range(row, text);
    *out = v;
    return RM_OK;
}

static rm_status set_int(const bench_option *row, const char *text, void *out)
{
    int64_t v;
    RM_TRY(parse_integer(row, text, &v));
    *(int32_t *)out = (int32_t)v;
    return RM_OK;
}

static rm_status set_i64(const bench_option *row, const char *text, void *out) { return parse_integer(row, text, out); }

static rm_status set_double(const bench_option *row, const char *text, void *out)
{
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end != '\0') return rm_fail(RM_E_ARG, "--%s %s: not a number", row->name, text);
    if (!(v >= row->min && v <= row->max)) return out_of_range(row, text);
    *(double *)out = v;
    return RM_OK;
}

static rm_status set_string(const bench_option *row, const char *text, void *out)
{
    *(const char **)out = text;
    return RM_OK;
}

static rm_status set_list(const bench_option *row, const char *text, void *out)
{
    bench_list *list = out;
    if (list->n == BENCH_LIST_MOST) return rm_fail(RM_E_ARG, "--%s %s: it can be given %d times at most", row->name, text, BENCH_LIST_MOST);
    list->item[list->n++] = text;
    return RM_OK;
}

static rm_status check_choice(const bench_option *row, const char *text)
{
    if (text[0] && !strchr(text, '|') && listed(row->choices, '|', text, strlen(text))) return RM_OK;
    return rm_fail(RM_E_ARG, "--%s %s: must be one of %s", row->name, text, row->choices);
}

static rm_status set_choice(const bench_option *row, const char *text, void *out)
{
    RM_TRY(check_choice(row, text));
    return set_string(row, text, out);
}

static rm_status set_int_choice(const bench_option *row, const char *text, void *out)
{
    RM_TRY(check_choice(row, text));
    *(int32_t *)out = (int32_t)strtol(text, NULL, 10);
    return RM_OK;
}

static rm_status (*const setters[])(const bench_option *row, const char *text, void *out) = {
    [BENCH_INT] = set_int,
    [BENCH_I64] = set_i64,
    [BENCH_DOUBLE] = set_double,
    [BENCH_STRING] = set_string,
    [BENCH_CHOICE] = set_choice,
    [BENCH_INT_CHOICE] = set_int_choice,
    [BENCH_LIST] = set_list,
    [BENCH_OPTIONAL_FILE] = set_string,
};

/* Defaults are not range-checked: "-1" or "0" mean "not given" where the range begins above. */
static void set_default(const bench_option *row, bench_options *o)
{
    void *at = field(o, row->offset);
    const char *text = row->fallback ? row->fallback : "";
    switch (row->kind) {
    case BENCH_FLAG: *(bool *)at = false; break;
    case BENCH_INT:
    case BENCH_INT_CHOICE: *(int32_t *)at = (int32_t)strtol(text, NULL, 10); break;
    case BENCH_I64: *(int64_t *)at = strtoll(text, NULL, 10); break;
    case BENCH_DOUBLE: *(double *)at = strtod(text, NULL); break;
    case BENCH_STRING:
    case BENCH_CHOICE:
    case BENCH_OPTIONAL_FILE: *(const char **)at = text; break;
    case BENCH_LIST: ((bench_list *)at)->n = 0; break;
    }
}

static bench_options defaults(void)
{
    bench_options o;
    memset(&o, 0, sizeof o);
    for (size_t i = 0; i < bench_option_count; i++) set_default(&bench_option_rows[i], &o);
    return o;
}

/* ---- parsing */

typedef struct cursor {
    const bench_command *command;
    int i, argc;
    char **argv;
    bench_options *o;
} cursor;
typedef struct match {
    const bench_option *row;
    bool negated;
} match;

static bool same(const char *name, const char *word, size_t n) { return name && strncmp(name, word, n) == 0 && name[n] == '\0'; }

static match find_long(const char *command, const char *word, size_t n)
{
    match m = { NULL, false };
    for (size_t i = 0; i < bench_option_count; i++) {
        const bench_option *row = &bench_option_rows[i];
        const bool no = (row->flags & BENCH_NEGATABLE) && n > 3 && strncmp(word, "no-", 3) == 0 && same(row->name, word + 3, n - 3);
        if (!no && !same(row->name, word, n) && !same(row->alias, word, n)) continue;
        m = (match) { row, no };
        if (bench_option_takes(row, command)) break;
    }
    return m;
}

static match find_letter(char letter)
{
    for (size_t i = 0; i < bench_option_count; i++)
        if (bench_option_rows[i].letter == letter) return (match) { &bench_option_rows[i], false };
    return (match) { NULL, false };
}

static const char *own_option_name(void *ctx, size_t i)
{
    const bench_option *row = &bench_option_rows[i / 2];
    if (!bench_option_takes(row, ctx) || (row->flags & BENCH_HIDDEN)) return NULL;
    return i % 2 ? row->alias : row->name;
}

static rm_status unknown_option(const cursor *c, const char *word, const char *name)
{
    char *command = (char *)(uintptr_t)c->command->name; /* ctx is void *; only read */
    const char *near = bench_nearest(name, own_option_name, command, 2 * bench_option_count);
    if (near) return rm_fail(RM_E_ARG, "unknown option %s; did you mean --%s?", word, near);
    return rm_fail(RM_E_ARG, "unknown option %s; bench %s --help lists the options", word, c->command->name);
}

static rm_status not_for_this_command(const cursor *c, const bench_option *row)
{
    char list[160];
    size_t n = 0;
    for (const char *p = row->commands; *p && n < sizeof list - 8; p++) {
        if (*p == ' ') n += (size_t)snprintf(list + n, sizeof list - n, ", ");
        else list[n++] = *p;
    }
    list[n] = '\0';
    return rm_fail(RM_E_ARG, "--%s is not an option of bench %s; it belongs to: %s", row->name, c->command->name, list);
}

/* The value of `row`: after '=', or the next word. `attached` NULL: none after '='. */
static rm_status option_value(cursor *c, const bench_option *row, const char *attached, const char **out_text)
{
    const char *next = c->i + 1 < c->argc ? c->argv[c->i + 1] : NULL;
    if (attached) {
        *out_text = attached;
        return RM_OK;
    }
    if (row->kind == BENCH_OPTIONAL_FILE) {
        const bool is_file = next && (next[0] != '-' || next[1] == '\0');
        *out_text = is_file ? next : "-";
        c->i += is_file;
        return RM_OK;
    }
    if (!next || strncmp(next, "--", 2) == 0) return rm_fail(RM_E_ARG, "--%s wants a value: %s", row->name, bench_option_metavar(row));
    *out_text = next;
    c->i++;
    return RM_OK;
}

static rm_status take_flag(const bench_option *row, const char *attached, bool negated, bench_options *o)
{
    if (attached) return rm_fail(RM_E_ARG, "--%s takes no value", row->name);
    *(bool *)field(o, row->offset) = !negated;
    return RM_OK;
}

static rm_status take_option(cursor *c, match m, const char *attached)
{
    const bench_option *row = m.row;
    const char *text = NULL;
    if (!bench_option_takes(row, c->command->name)) return not_for_this_command(c, row);
    if (row->kind == BENCH_FLAG) return take_flag(row, attached, m.negated, c->o);
    RM_TRY(option_value(c, row, attached, &text));
    RM_ASSERT(text);
    if (!text[0]) return rm_fail(RM_E_ARG, "--%s is empty; it wants %s", row->name, bench_option_metavar(row));
    RM_TRY(setters[row->kind](row, text, field(c->o, row->offset)));
    if (row->given) *(bool *)field(c->o, row->given) = true;
    return RM_OK;
}

static rm_status take_long(cursor *c, const char *word)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    const size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const match m = find_long(c->command->name, name, n);
    if (m.row) return take_option(c, m, equals ? equals + 1 : NULL);
    char bare[40];
    snprintf(bare, sizeof bare, "%.*s", (int)n, name);
    return unknown_option(c, word, bare);
}

/* "-v", "-qv": only flags have letters. */
static rm_status take_letters(cursor *c, const char *word)
{
    for (const char *p = word + 1; *p; p++) {
        const match m = find_letter(*p);
        if (!m.row) return unknown_option(c, word, word + 1);
        RM_TRY(take_option(c, m, NULL));
    }
    return RM_OK;
}

static rm_status check_words(const bench_command *command, const bench_options *o)
{
    const bench_words *w = bench_words_of(command->name);
    if (o->help) return RM_OK;
    if (o->n_arg > w->max && w->max == 0) return rm_fail(RM_E_ARG, "unexpected word '%s'; bench %s takes options only (try --help)", o->arg[0], command->name);
    if (o->n_arg > w->max) return rm_fail(RM_E_ARG, "too many words, from '%s' on; it takes %s", o->arg[w->max], w->shown);
    if (o->n_arg < w->min) return rm_fail(RM_E_ARG, "something is missing: it takes %s (try --help)", w->shown);
    if (o->quiet && o->verbose) return rm_fail(RM_E_ARG, "--quiet and --verbose exclude each other");
    return RM_OK;
}

/* Words that are no options move to the front of argv, as with getopt(); they stay valid as long as argv does. */
rm_status bench_options_parse(const bench_command *command, int argc, char **argv, bench_options *out)
{
    bench_options o = defaults();
    cursor c = { .command = command, .argc = argc, .argv = argv, .o = &o };
    int n_words = 0;
    bool only_words = false;
    for (c.i = 0; c.i < argc; c.i++) {
        char *word = argv[c.i];
        if (only_words || word[0] != '-' || word[1] == '\0' || (word[1] >= '0' && word[1] <= '9')) argv[n_words++] = word; /* -1 is a number */
        else if (strcmp(word, "--") == 0) only_words = true;
        else if (word[1] == '-') RM_TRY(take_long(&c, word));
        else RM_TRY(take_letters(&c, word));
    }
    o.arg = (const char *const *)argv;
    o.n_arg = n_words;
    if (!o.store[0]) o.store = rm_store_default_path();
    RM_TRY(check_words(command, &o));
    *out = o;
    return RM_OK;
}

/* ---- echo */

static bool is_default(const bench_option *row, const bench_options *o, const bench_options *d)
{
    const void *a = field_const(o, row->offset), *b = field_const(d, row->offset);
    switch (row->kind) {
    case BENCH_FLAG: return *(const bool *)a == *(const bool *)b;
    case BENCH_INT:
    case BENCH_INT_CHOICE: return *(const int32_t *)a == *(const int32_t *)b;
    case BENCH_I64: return *(const int64_t *)a == *(const int64_t *)b;
    case BENCH_DOUBLE: return memcmp(a, b, sizeof(double)) == 0;
    case BENCH_OPTIONAL_FILE: return !*(const bool *)field_const(o, row->given);
    case BENCH_LIST: return ((const bench_list *)a)->n == 0;
    case BENCH_STRING:
    case BENCH_CHOICE: break;
    }
    const char *s = *(const char *const *)a, *t = *(const char *const *)b;
    return strcmp(s ? s : "", t) == 0;
}

static json_t *text_json(const char *text)
{
    json_t *v = json_string(text);
    return v ? v : json_string("(not UTF-8)");
}

static json_t *list_json(const bench_list *list)
{
    json_t *all = json_array();
    for (int32_t i = 0; i < list->n; i++) json_array_append_new(all, text_json(list->item[i]));
    return all;
}

static json_t *value_json(const bench_option *row, const bench_options *o)
{
    const void *at = field_const(o, row->offset);
    switch (row->kind) {
    case BENCH_FLAG: return json_boolean(*(const bool *)at);
    case BENCH_INT:
    case BENCH_INT_CHOICE: return json_integer(*(const int32_t *)at);
    case BENCH_I64: return json_integer(*(const int64_t *)at);
    case BENCH_DOUBLE: return bench_number(*(const double *)at);
    case BENCH_LIST: return list_json(at);
    case BENCH_STRING:
    case BENCH_CHOICE:
    case BENCH_OPTIONAL_FILE: break;
    }
    return text_json(*(const char *const *)at);
}

json_t *bench_options_echo(const bench_command *command, const bench_options *o)
{
    const bench_options d = defaults();
    json_t *config = json_object();
    for (size_t i = 0; i < bench_option_count; i++) {
        const bench_option *row = &bench_option_rows[i];
        char key[40];
        if ((row->flags & BENCH_TALK) || !bench_option_takes(row, command->name) || is_default(row, o, &d)) continue;
        snprintf(key, sizeof key, "%s", row->name);
        for (char *p = key; *p; p++)
            if (*p == '-') *p = '_';
        json_object_set_new(config, key, value_json(row, o));
    }
    if (o->n_arg == 0) return config;
    json_t *words = json_array();
    for (int32_t i = 0; i < o->n_arg; i++) json_array_append_new(words, text_json(o->arg[i]));
    json_object_set_new(config, "words", words);
    return config;
}

/* One word as the shell would have to read it. */
void bench_put_word(rm_strbuf *s, const char *word)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:=@%+-";
    if (word[0] && strspn(word, safe) == strlen(word)) {
        rm_str_add(s, word);
        return;
    }
    rm_str_add(s, "'");
    for (const char *p = word; *p; p++) *p == '\'' ? rm_str_add(s, "'\\''") : rm_str_add_n(s, p, 1);
    rm_str_add(s, "'");
}

/* For a line that people copy: a word with line ends in it must not make two lines of one. bash, ksh and zsh read it, and POSIX does since 2024. */
static void put_line_word(rm_strbuf *s, const char *word)
{
    const char *p = word;
    while (*p && (unsigned char)*p >= ' ' && *p != 127) p++;
    if (!*p) {
        bench_put_word(s, word);
        return;
    }
    rm_str_add(s, "$'");
    for (p = word; *p; p++) {
        if (*p == '\n') rm_str_add(s, "\\n");
        else if (*p == '\'' || *p == '\\') rm_str_addf(s, "\\%c", *p);
        else if ((unsigned char)*p < ' ' || *p == 127) rm_str_addf(s, "\\%03o", (unsigned char)*p);
        else rm_str_add_n(s, p, 1);
    }
    rm_str_add(s, "'");
}

/* The shortest text that reads back as the same number. */
static void print_double(char *text, size_t size, double v)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, size, " %.*g", digits, v);
        if (strtod(text, NULL) == v) return;
    }
}

static void put_value(rm_strbuf *s, const bench_option *row, const bench_options *o)
{
    const void *at = field_const(o, row->offset);
    const bench_list *list = at;
    char number[40] = "";
    switch (row->kind) {
    case BENCH_FLAG: return;
    case BENCH_INT:
    case BENCH_INT_CHOICE: snprintf(number, sizeof number, " %d", *(const int32_t *)at); break;
    case BENCH_I64: snprintf(number, sizeof number, " %lld", (long long)*(const int64_t *)at); break;
    case BENCH_DOUBLE: print_double(number, sizeof number, *(const double *)at); break;
    case BENCH_STRING:
    case BENCH_CHOICE:
    case BENCH_OPTIONAL_FILE:
        rm_str_add(s, " ");
        put_line_word(s, *(const char *const *)at);
        return;
    case BENCH_LIST: /* the name stands before the first already */
        for (int32_t i = 0; i < list->n; i++) {
            rm_str_addf(s, i ? " --%s " : " ", row->name);
            put_line_word(s, list->item[i]);
        }
        return;
    }
    rm_str_add(s, number);
}

json_t *bench_reproduce(const bench_command *command, const bench_options *o)
{
    const bench_options d = defaults();
    rm_strbuf s = { 0 };
    rm_str_addf(&s, "bench %s", command->name);
    for (int32_t i = 0; i < o->n_arg; i++) {
        rm_str_add(&s, " ");
        put_line_word(&s, o->arg[i]);
    }
    for (size_t i = 0; i < bench_option_count; i++) {
        const bench_option *row = &bench_option_rows[i];
        if ((row->flags & BENCH_TALK) || !bench_option_takes(row, command->name) || is_default(row, o, &d)) continue;
        rm_str_addf(&s, " --%s", row->name);
        put_value(&s, row, o);
    }
    char *text = rm_str_take(&s);
    json_t *line = text ? text_json(text) : NULL;
    free(text);
    return line;
}
