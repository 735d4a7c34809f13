/* Options as rows: parsing, range check, --help, echo into results, man page and completion all read this table.
 * Adding an option is adding a field to bench_options and a row to options_rows.c. */
#ifndef RM_BENCH_OPTIONS_H
#define RM_BENCH_OPTIONS_H
#include "base/strbuf.h"
#include "bench/bench.h"

typedef enum bench_kind {
    BENCH_FLAG,          /* bool; with BENCH_NEGATABLE also --no-NAME */
    BENCH_INT,           /* int32_t */
    BENCH_I64,           /* int64_t */
    BENCH_DOUBLE,        /* double */
    BENCH_STRING,        /* const char * */
    BENCH_CHOICE,        /* const char *, one of `choices` */
    BENCH_INT_CHOICE,    /* int32_t, one of `choices` */
    BENCH_LIST,          /* bench_list; may be given several times */
    BENCH_OPTIONAL_FILE, /* const char * with a `given` flag; alone or "-" it is stdout ("-") */
} bench_kind;

enum {
    BENCH_SHARED = 1,    /* listed under "Options that commands share" */
    BENCH_TALK = 2,      /* says where or how to talk, not what to measure: not in config, not in reproduce */
    BENCH_NEGATABLE = 4,
    BENCH_HIDDEN = 8,    /* between the launcher and its ranks */
};

typedef struct bench_option {
    const char *name, *alias; /* without dashes; alias NULL for none */
    char        letter;       /* short form, '\0' for none */
    bench_kind  kind;
    size_t      offset;       /* of the field in bench_options */
    size_t      given;        /* of a bool that tells whether the option was given; 0 for none */
    double      min, max;     /* numbers only, inclusive */
    const char *choices;      /* "a|b|c" */
    const char *fallback;     /* the default as the user would type it; "" for a string is "not given" */
    const char *fallback_shown; /* the default in words where `fallback` does not say it; NULL otherwise */
    const char *metavar, *help;
    const char *commands;     /* words of commands that take it, "*" for all */
    unsigned    flags;
} bench_option;

/* The words after a command: how many, and what they are called in messages. Commands without a row take none. */
typedef struct bench_words { const char *command; int32_t min, max; const char *shown; } bench_words;

extern const bench_option bench_option_rows[];
extern const size_t       bench_option_count;
extern const bench_words  bench_word_rows[];
extern const size_t       bench_word_count;

bool bench_option_takes(const bench_option *row, const char *command);
/* The words row of a command; one that allows no words when it has none. */
const bench_words *bench_words_of(const char *command);
/* Of `n` names the one most like `word`; NULL when none is near. */
const char *bench_nearest(const char *word, const char *(*name)(void *ctx, size_t i), void *ctx, size_t n);
/* `word` as the shell would have to read it. */
void bench_put_word(rm_strbuf *s, const char *word);
/* The default for people: "60", "the recipe's"; "" for flags and for options that are simply not given. */
const char *bench_option_default(const bench_option *row);
/* "NAME", "auto|cpu" or "" for flags. */
const char *bench_option_metavar(const bench_option *row);
#endif
