/* bench: finds the command, parses its options, runs it. The only file that turns a status into an exit code. */
#include "base/log.h"
#include "bench/commands.h"
#include "kernels/comm/comm.h"
#include "profiler/runinfo.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A full disk behind stdout must not look like success. A reader that closed the pipe has what it wanted. */
static rm_status flush_stdout(void)
{
    errno = 0;
    const int failed = fflush(stdout) != 0 || ferror(stdout);
    if (!failed || errno == EPIPE) return RM_OK;
    if (errno == 0) return rm_fail(RM_E_IO, "not all of the output could be written to stdout");
    return rm_fail_errno("cannot write to stdout");
}

static int finish(const char *command, rm_status status)
{
    if (status == RM_OK) status = flush_stdout();
    else (void)fflush(stdout);
    if (status != RM_OK) {
        const char *why = rm_last_error();
        rm_error("bench%s%s: %s", command[0] ? " " : "", command, why[0] ? why : rm_status_name(status));
    }
    const int code = rm_exit_code(status, bench_signal());
    rm_comm_leave(code); /* after the last line: peers end with this rank's code */
    return code;
}

static int unknown_command(const char *word)
{
    const char *near = word[0] == '-' ? NULL : bench_command_nearest(word);
    if (word[0] == '-') return finish("", rm_fail(RM_E_ARG, "the command comes first, before options such as %s; bench --help lists them", word));
    if (near) return finish("", rm_fail(RM_E_ARG, "unknown command %s; did you mean %s?", word, near));
    return finish("", rm_fail(RM_E_ARG, "unknown command %s; bench --help lists the commands", word));
}

static int run(const bench_command *command, int argc, char **argv)
{
    bench_options o;
    const int rank = rm_world_from_env().rank;
    rm_log_setup(RM_NORMAL, rank);
    rm_status status = bench_options_parse(command, argc, argv, &o);
    if (status != RM_OK) return finish(command->name, status);
    rm_log_setup(o.quiet ? RM_QUIET : o.verbose ? RM_VERBOSE : RM_NORMAL, rank);
    if (o.help) bench_help(command);
    else status = command->run(&o);
    return finish(command->name, status);
}

/* OpenMP's threads spin for milliseconds at a barrier unless told otherwise before the program starts. That is a few percent
 * faster on an idle machine's very small ops, and several times slower as soon as anybody else wants a core (measured:
 * docs/performance.md). Whoever sets one of the two variables is left alone. */
static void calm_openmp(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    setenv("GOMP_SPINCOUNT", "30000", 1);
    char self[4096] = ""; /* by its name: under valgrind /proc/self/exe is valgrind, but what it links to is us */
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0) execv(self, argv);
    /* no /proc, or a program that was moved meanwhile: go on as we are */
}

int main(int argc, char **argv)
{
    calm_openmp(argv);
    bench_signal_install();
    if (argc < 2) {
        bench_help_all();
        return rm_exit_code(RM_E_ARG, 0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("bench %s\n", rm_version());
        return finish("", RM_OK);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        bench_help_all();
        return finish("", RM_OK);
    }
    const bench_command *command = bench_command_find(argv[1]);
    int code = command ? run(command, argc - 2, argv + 2) : unknown_command(argv[1]);
    rm_comm_leave(code);
    return code;
}
