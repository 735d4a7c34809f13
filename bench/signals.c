/* SIGINT and SIGTERM: the first asks the command to finish its step and save, the second ends at once.
 * SIGUSR1 is taken for SIGTERM: launchers of ranks pass it on where they turn SIGTERM into an end of their own, and batch systems
 * send it before the time is up (sbatch --signal=USR1@60). */
#include "bench/bench.h"
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static atomic_int caught; /* lock-free on every machine C11 atomics run on: safe in a handler */

static void on_signal(int number)
{
    int none = 0;
    if (number == SIGUSR1) number = SIGINT; /* our launcher's word for "stop and save": the one that every mpirun passes on */
    if (!atomic_compare_exchange_strong(&caught, &none, number)) _exit(128 + number);
}

int bench_signal(void) { return atomic_load(&caught); }

void bench_signal_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal; /* no SA_RESTART: a blocking read or wait must notice */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = SIG_IGN; /* a reader that went away is an error of write(), not the end of a run */
    sigaction(SIGPIPE, &action, NULL);
}
