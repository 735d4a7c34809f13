/* The commands, one cmd_NAME.c each; the table is in commands.c. */
#ifndef RM_BENCH_COMMANDS_H
#define RM_BENCH_COMMANDS_H
#include "bench/bench.h"

extern const bench_command bench_cmd_scaling, bench_cmd_split_sweep, bench_cmd_comm, bench_cmd_splits, bench_cmd_train, bench_cmd_eval, bench_cmd_infer, bench_cmd_layers, bench_cmd_profile, bench_cmd_kernels,
    bench_cmd_input, bench_cmd_data, bench_cmd_step, bench_cmd_overlap, bench_cmd_report, bench_cmd_runs, bench_cmd_info, bench_cmd_gate,
    bench_cmd_help, bench_cmd_completion, bench_cmd_man;

/* NULL when there is no such command. */
const bench_command *bench_command_find(const char *name);
/* The command most like `name`; NULL when none is near. */
const char *bench_command_nearest(const char *name);
/* What `bench --help` prints. */
void bench_help_all(void);
/* The table of exit codes, for help and man page: number, meaning; ends with meaning NULL. */
typedef struct bench_exit { const char *code, *meaning; } bench_exit;
extern const bench_exit bench_exits[];
#endif
