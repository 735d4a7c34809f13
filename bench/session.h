/* Session: what the commands that run the network have in common: options turned into a recipe, a data set, a device, a
 * communicator, and results into the store. */
#ifndef RM_BENCH_SESSION_H
#define RM_BENCH_SESSION_H
#include "bench/bench.h"
#include "model/train.h"
#include "profiler/store.h"

typedef struct bench_session {
    rm_recipe      recipe;      /* with --set, --px, --epochs applied */
    rm_dataset    *data;        /* NULL: synthetic */
    rm_device     *device;
    rm_device_info info;
    rm_comm       *comm;
    rm_dtype       dtype;
    int32_t        batch, eval_batch, classes;
    rm_bad_policy  bad;
    rm_gpu_watch  *watch;       /* of the device, where it is a GPU; NULL */
} bench_session;

/* Everything but device and communicator: what a launcher needs to check the options before it starts ranks. */
rm_status bench_session_plan(const bench_options *o, const char *default_recipe, bench_session *out) RM_CHECKED;
/* Then device, type and communicator of this rank, pinned to its cores. */
rm_status bench_session_device(const bench_options *o, bench_session *s) RM_CHECKED;
void      bench_session_close(bench_session *s);
/* --allreduce-dtype and --split-order. */
/* What a device computes in: --dtype, else its best. RM_E_UNSUPPORTED names what it lacks. */
rm_status bench_dtype(const bench_options *o, const rm_device_info *info, rm_dtype *out) RM_CHECKED;
rm_dtype  bench_wire(const bench_options *o);
rm_split_order bench_split_order(const bench_options *o);
/* The split in force: the option's, else the recipe's, else "single". */
const char *bench_split(const bench_options *o, const bench_session *s);
/* Has a signal come to any rank? All must stop at the same place: who leaves alone lets the others wait for the time-out. Collective. */
rm_status bench_stop_asked(rm_comm *comm, bool *out) RM_CHECKED;
/* The same before a step; where none has come, all ranks go on together. */
rm_status bench_meet(rm_comm *comm, bool *out_stop) RM_CHECKED;
/* How this rank reads the training part. */
rm_loader_config bench_loader_config(const bench_session *s, const bench_options *o);

/* "1,2,4" to numbers. Empty text gives the fallback list. At most 64 values of 1..65536, in the order given. */
enum { BENCH_MAX_LIST = 64 };
rm_status bench_parse_list(const char *text, const char *option, int32_t *out, int32_t *out_n) RM_CHECKED;

/* A result on its way: {"row": {...}, "samples": {"step_s": [...]}}. Stored under `key`; the row is handed out for printing.
 * A row whose "wrong" is above 0 is stored as an incorrect result. */
json_t   *bench_samples(const double *value, size_t n);
rm_status bench_store_result(rm_store *store, int64_t run, const char *key, json_t *result) RM_CHECKED;
/* A run of the store under way. `close` also after an error; it leaves the run as it is. */
typedef struct bench_run { rm_store *store; int64_t id; json_t *config, *environment; } bench_run;
/* `resume`, for commands with --fresh: an unfinished run of the same configuration goes on, where there is one. */
rm_status bench_run_begin(const bench_command *command, const bench_options *o, bool resume, bench_run *out) RM_CHECKED;
void      bench_run_close(bench_run *r);
/* One-result commands: open the store, begin a run, add, end it. */
rm_status bench_store_run(const bench_command *command, const bench_options *o, const char *key, json_t *result) RM_CHECKED;
/* {median, mad, samples, min, max} of seconds; new reference. */
json_t   *bench_time_json(const double *value, size_t n);
/* row[key] = v, or null with "<key>_reason" where v is NaN or infinite. */
void      bench_set_number(json_t *row, const char *key, double v, const char *reason);
void      bench_set_null(json_t *row, const char *key, const char *reason);
/* Host names in the order of ranks; new reference. */
json_t *bench_hosts_json(const rm_comm *comm);
/* Budget of `step` sums scaled to the median step: shares of the whole, so that the terms add up to it. */
json_t   *bench_budget_json(const rm_budget *sum, double step_s);

/* --dry-run: memory, FLOPs and splits of what would run. */
void      bench_print_plan(const bench_session *s, const rm_engine *e);
/* The same of one device of a command that trains, opened for it. */
rm_status bench_print_device_plan(const bench_options *o) RM_CHECKED;

/* Runs `body` on n ranks. In a rank process (started by us or by the user's own launcher), or for n == 1 with `inside`, it
 * runs here; else n ranks of this command line are started, which come here again, and rank 0's result is read.
 * *out is a new reference on the process that reports, NULL on the other ranks; a body that fails may set it too, to what it had
 * until then. `cores`: of each rank; 0: all. */
typedef rm_status bench_rank_body(const bench_options *o, json_t **out);
rm_status bench_run_ranks(const bench_options *o, int32_t n, int32_t cores, bool inside, bench_rank_body *body, json_t **out) RM_CHECKED;
/* For callers that have no use for part of a result: releases it after a failure. Returns `st`. */
rm_status bench_whole(rm_status st, json_t **result) RM_CHECKED;
/* Pins a rank that we started to its cores; does nothing elsewhere. Before the device is opened. */
rm_status bench_pin_rank(void) RM_CHECKED;
/* This process is one rank of several, or was started by our launcher. */
bool      bench_is_rank(const bench_options *o);
/* Is --json to stdout taking the place of the table? */
bool      bench_table_wanted(const bench_options *o);
/* Cores of each device in a sweep whose largest N is `n_max`: the same at every N. RM_E_ARG when n_max devices do not fit
 * and --oversubscribe was not given. With --hostfile or in a Slurm job of several tasks they are this machine's cores over the
 * most ranks of one host, for hosts are taken to be alike. In a rank: what it was started with, 0 for all. */
rm_status bench_cores_per_device(const bench_options *o, int32_t n_max, int32_t *out_cores) RM_CHECKED;
/* How many devices of `cores` cores there are, and in words where: "this machine has 2 devices of 1 cores", "hosts.txt has 4
 * slots". INT32_MAX where a Slurm job sets no limit. */
rm_status bench_devices(const bench_options *o, int32_t cores, int32_t *out_n, char *where, size_t size) RM_CHECKED;
#endif
