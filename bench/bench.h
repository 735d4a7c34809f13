/* The program: a table of commands over one table of options. */
#ifndef RM_BENCH_H
#define RM_BENCH_H
#include "base/status.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What a repeatable option was given, in order. */
enum { BENCH_LIST_MOST = 16 };
typedef struct bench_list { const char *item[BENCH_LIST_MOST]; int32_t n; } bench_list;

/* Every option of every command, filled by the rows in bench/options.c (parsing, --help, range check, echo, man page and
 * completion come from the same row). Defaults are in the rows; "" and 0 mean "not given" unless a row says otherwise. */
typedef struct bench_options {
    /* shared */
    const char *device, *dtype;      /* "auto", ""= the device's best */
    int32_t px, batch, steps, warmup, threads; /* 0: the recipe's or the command's default; warmup -1 likewise */
    bool    steps_given;
    const char *data;                /* "synthetic", a folder, "" = the embedded set where there is one */
    const char *split;
    int64_t seed; bool seed_given;
    const char *store;
    bool    json; const char *json_file;   /* --json [F]; "-" or NULL: stdout */
    bool    quiet, verbose, dry_run, help;
    /* scaling */
    const char *gpus;                /* "1,2,4" */
    bool    strong, oversubscribe, fresh, to_accuracy;
    const char *input_mode;          /* all|synthetic|data-only|real */
    const char *inject;              /* bench/inject.h */
    bool    no_twins;
    double  comm_timeout_s;
    const char *comm;                /* auto|self|mpi|nccl */
    const char *hostfile;
    /* train, eval, infer, export */
    const char *recipe;
    double  epochs;                  /* < 0: the recipe's */
    bool    resume;
    const char *save_dir; const char *save_every; int32_t keep;
    const char *set;                 /* "key=value,key=value" over the recipe */
    const char *mllog;               /* file for :::MLLOG lines */
    double  target;                  /* < 0: recipe's */
    int32_t eval_batch;
    const char *bad_images;          /* fail|skip|substitute */
    double  max_bad;                 /* share */
    int32_t workers;
    int32_t classes;
    int32_t topk;
    const char *trace, *trace_steps;
    bool    update_on_arrival;
    bool    no_fuse, no_timers, no_record;
    bool    no_peaks, peaks;         /* layers; info */
    /* splits and how the gradients travel */
    const char *split_order;         /* ready|forward */
    const char *allreduce_dtype;     /* fp32|bf16: on the wire */
    const char *splits;              /* "SPEC;SPEC" */
    bool    ghost; double ghost_bytes;
    /* profile */
    bool    sensitivity;
    /* comm */
    const char *sizes;               /* "MIN:MAX[:FACTOR]" or a list */
    const char *comm_op;             /* all-reduce|broadcast|all */
    int32_t iterations;              /* of each size; 0: by time */
    /* step */
    const char *init, *batch_file, *dump;
    double  lr, momentum, weight_decay, label_smoothing, loss_scale, bn_eps, bn_momentum;
    bool    decay_bn, bn_biased, bn_frozen, zero_init_last_gamma, nesterov;
    int32_t depth; const char *variant;
    int32_t accumulate;
    /* kernels */
    const char *case_file, *case_text; bool check, grad, perf;
    int32_t repeat;
    /* input */
    const char *indices; int32_t epoch;
    /* overlap */
    const char *window;              /* all|steps|hta */
    /* report, layers */
    const char *out; bool compare;
    const char *project;             /* layers: a GPU that is described */
    /* data */
    const char *source; int32_t limit_train, limit_val;
    /* gate */
    const char *a, *b;               /* commands for the shell */
    const char *base, *head;         /* revisions or folders */
    const char *cmake_args;          /* for both builds */
    const char *gate_bench;          /* what runs of each: "scaling --gpus 1 --px 64" */
    bench_list  metric;              /* "[NAME=]JSONPATH[:effect=2%][:higher]" */
    const char *effect;              /* "2%" */
    double  budget_s, run_timeout_s, lock_timeout_s, calm_s;
    bool    expensive, gate_layers, keep_builds;
    const char *tiers;               /* "T0,T1,T2" */
    const char *discard;             /* masks, agreed on before */
    const char *lock;                /* file; "none" */
    const char *pin, *against;       /* names of pinned baselines */
    const char *accept, *until;      /* reason and day */
    const char *facts;               /* a file of exact facts to compare with */
    const char *tolerate;            /* "launches=2,peak_bytes=1%" */
    bool    update, even_if_identical;
    bool    full, replicate;         /* selftest */
    int32_t aa, power, noise;        /* verdicts to have in the store; runs */
    const char *slow;                /* "3%" */
    bool    then_ab; int32_t session_runs; /* history */
    const char *build;               /* bisect: command for the shell */
    const char *junit, *markdown; bool github;
    bool    aside;                   /* no option: a gate within a verb whose own JSON has stdout */
    /* hidden: a rank process started by the launcher */
    const char *rank_result;
    /* positional words after the command (and its verb) */
    const char *const *arg; int32_t n_arg;
} bench_options;

typedef struct bench_command {
    const char *name, *summary, *usage, *const *examples; /* NULL-terminated */
    rm_status (*run)(const bench_options *o);
    bool hidden;
} bench_command;
extern const bench_command *const bench_commands[];  /* NULL-terminated, in table order (commands.c) */

/* Parses argv after the command word. Which options a command takes is in the rows. RM_E_ARG with one clear line. */
rm_status bench_options_parse(const bench_command *command, int argc, char **argv, bench_options *out) RM_CHECKED;
void      bench_help(const bench_command *command);       /* stdout */
/* Options that differ from their default as a JSON object: the "config" of every result. New reference. */
json_t   *bench_options_echo(const bench_command *command, const bench_options *o);
/* The command line that gives this result again, from the rows: "bench scaling --gpus 1 ...", whole however long it is. New reference
 * to a string; NULL when memory ran out. */
json_t   *bench_reproduce(const bench_command *command, const bench_options *o);

/* The JSON envelope: {"schema": "ringmark/1", "command", "config", "environment", "results": [...]}.
 * Takes over `results`. Prints to stdout or the file as the options say; nothing without --json. */
rm_status bench_emit_json(const bench_command *command, const bench_options *o, json_t *environment, json_t *results) RM_CHECKED;
/* A number for JSON: null for NaN and infinities (jansson refuses them). New reference. */
json_t   *bench_number(double v);
json_t   *bench_environment(const bench_options *o);     /* with device and library facts; new reference */
/* Set by SIGINT/SIGTERM (first: finish the step and save; second: exit at once). 0: none. */
int       bench_signal(void);
void      bench_signal_install(void);                    /* main() only; also ignores SIGPIPE */
#endif
