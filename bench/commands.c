#include "bench/commands.h"
#include "bench/options.h"
#include <string.h>

const bench_command *const bench_commands[] = {
    &bench_cmd_scaling,
    &bench_cmd_split_sweep,
    &bench_cmd_comm,
    &bench_cmd_splits,
    &bench_cmd_train,
    &bench_cmd_eval,
    &bench_cmd_infer,
    &bench_cmd_profile,
    &bench_cmd_layers,
    &bench_cmd_kernels,
    &bench_cmd_input,
    &bench_cmd_data,
    &bench_cmd_step,
    &bench_cmd_overlap,
    &bench_cmd_report,
    &bench_cmd_runs,
    &bench_cmd_gate,
    &bench_cmd_info,
    &bench_cmd_help,
    &bench_cmd_completion,
    &bench_cmd_man,
    NULL,
};

const bench_exit bench_exits[] = {
    { "0", "ok" },
    { "1", "regressed (gate)" },
    { "2", "trouble: usage, bad input, unsupported, crash, wrong loss" },
    { "3", "inconclusive (gate)" },
    { "4", "no baseline (gate)" },
    { "5", "stopped: out of memory or disk" },
    { "6", "a peer rank failed or timed out" },
    { "7", "finished, but something asked for was not done" },
    { "130/143", "interrupted by SIGINT/SIGTERM, state saved" },
    { NULL, NULL },
};

const bench_command *bench_command_find(const char *name)
{
    for (size_t i = 0; bench_commands[i]; i++)
        if (strcmp(bench_commands[i]->name, name) == 0) return bench_commands[i];
    return NULL;
}

static const char *command_name(void *ctx, size_t i) { return bench_commands[i]->hidden ? NULL : bench_commands[i]->name; }

const char *bench_command_nearest(const char *name)
{
    size_t n = 0;
    while (bench_commands[n]) n++;
    return bench_nearest(name, command_name, NULL, n);
}
