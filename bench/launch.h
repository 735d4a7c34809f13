/* Launch: starts ranks of this program under the MPI it was built with, and brings back what became of them.
 *
 * The launcher is mpirun or mpiexec of that library (first $RINGMARK_MPIEXEC, then the one found when building, then PATH; each
 * is asked who it is), or srun inside a Slurm allocation of several tasks; one rank is started directly, without MPI. Nothing is
 * left behind: when this process dies the launcher is told to end, and ranks that a killed launcher left are killed here.
 * Signals: the first SIGINT or SIGTERM (bench_signal()) asks every rank to finish its step and save; it travels as SIGUSR1,
 * which is the only one that all launchers pass on as it is. Threads: main thread only, one launch at a time. */
#ifndef RM_BENCH_LAUNCH_H
#define RM_BENCH_LAUNCH_H
#include "base/status.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct bench_launch_config {
    int32_t ranks;               /* 1: no MPI */
    const char *const *argv;     /* words after the program's name, NULL-terminated */
    const char *const *env;      /* "NAME=value" for the ranks, NULL-terminated; NULL: none */
    const char *hostfile;        /* "" or NULL: this machine, or what Slurm gave */
    bool   oversubscribe;        /* more ranks than cores: they yield while they wait */
    bool   verbose;              /* pass on everything, the launcher's own talk too */
    bool   no_result;            /* do not ask for a result: --rank-result is not added */
    double timeout_s;            /* of the whole launch; 0: none */
    const char *program;         /* NULL: this program */
} bench_launch_config;

/* Runs the ranks to their end. *out is what rank 0 left with bench_launch_leave_result(), a new reference, whatever the status; NULL when
 * it left nothing, and with no_result. A failure has the ranks' own exit code, and its cause is the first rank's last line, or
 * which rank was killed by which signal (RM_E_PEER). RM_E_UNSUPPORTED: no launcher of this MPI is installed. */
rm_status bench_launch(const bench_launch_config *cfg, json_t **out) RM_CHECKED;
/* Rank 0: leaves its result in the file named by --rank-result. */
rm_status bench_launch_leave_result(const char *path, const json_t *result) RM_CHECKED;
/* Any rank that fails: leaves its last error there, for a launcher that loses it. The first one counts. */
void      bench_launch_leave_failure(const char *path, int exit_code, int rank);

/* In a Slurm job of several tasks or nodes: srun starts the ranks. A single task is this machine's business. */
bool    bench_slurm_several(void);
/* A number that Slurm gave in a variable: 4 of "4", the largest of "2(x3),4"; 0 when there is none. */
int32_t bench_slurm_number(const char *variable);

/* Rank 0 tells its launcher how far it is, a few times a second: `step` steps are done, `newest` is the newest checkpoint. A rank that
 * is killed says nothing any more. ctx: a bench_launch_told of zeros; for rm_train_config.after_step. */
typedef struct bench_launch_told { uint64_t next_ns; char newest[544]; } bench_launch_told;
void      bench_launch_tell(void *ctx, uint64_t step, const char *newest);
/* Every rank, once: which process it is, for launchers that name a killed one by its process alone (MPICH). */
void      bench_launch_tell_rank(int rank);

/* ---- the launcher's command line, apart from starting it */
enum { BENCH_LAUNCH_WORDS = 512 };
typedef struct bench_launch_command {
    char *word[BENCH_LAUNCH_WORDS]; /* NULL-terminated, malloc'ed */
    int   n;
    bool  shared_files;          /* rank 0 may run on another machine: its result needs a shared folder */
} bench_launch_command;
/* Appends the launcher with its options, for the library named as rm_comm_library() names it. Nothing for one rank. */
rm_status bench_launch_find(const bench_launch_config *cfg, const char *library, bench_launch_command *out) RM_CHECKED;
rm_status bench_launch_add(bench_launch_command *c, const char *word) RM_CHECKED;
void      bench_launch_command_free(bench_launch_command *c);
/* Has one of `by` ("NAME=value"; NULL-terminated, may be NULL) the name of `entry`? */
bool      bench_launch_replaced(const char *entry, const char *const *by);
#endif
