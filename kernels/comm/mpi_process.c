#include "kernels/comm/mpi_process.h"
#include "base/clock.h"
#include "base/log.h"
#include "kernels/comm/mpi_settings.h"
#include <malloc.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the library */
static struct {
    pthread_once_t once;
    char name[96];
} library = { .once = PTHREAD_ONCE_INIT };

/* "Open MPI v4.1.4, package: ..." to "Open MPI 4.1.4"; "MPICH Version:\t4.0.2\n..." to "MPICH 4.0.2". */
static void read_library(void)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "", name[32] = "", version[32] = "";
    int n = 0;
    MPI_Get_library_version(text, &n);
    if (sscanf(text, "Open MPI v%31[0-9.rca]", version) == 1) snprintf(library.name, sizeof library.name, "Open MPI %s", version);
    else if (sscanf(text, "%31s Version: %31s", name, version) == 2) snprintf(library.name, sizeof library.name, "%s %s", name, version);
    else snprintf(library.name, sizeof library.name, "%.*s", (int)strcspn(text, "\n,"), text);
}

const char *mpi_process_library(void)
{
    pthread_once(&library.once, read_library);
    return library.name;
}

/* ---- the beginning */
static struct {
    pthread_mutex_t lock;
    uint64_t timeout_ns;
    char settings[512];
} process = { .lock = PTHREAD_MUTEX_INITIALIZER };

const char *rm_comm_settings(void) { return process.settings; }

/* Non-blocking collectives take a buffer for every call. glibc would give its pages back each time and fault them in again: 8 ms for the
 * sum of 16 MB that takes 3 ms otherwise. Never over what the user set. */
static void keep_memory(void)
{
#ifdef M_TRIM_THRESHOLD
    if (!getenv("MALLOC_TRIM_THRESHOLD_")) mallopt(M_TRIM_THRESHOLD, 256 << 20);
    if (!getenv("MALLOC_MMAP_THRESHOLD_")) mallopt(M_MMAP_THRESHOLD, 32 << 20);
#endif
}

static rm_status begin_locked(void)
{
    int begun = 0, ended = 0, level = 0;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (ended) return rm_fail(RM_E_UNSUPPORTED, "MPI has ended in this process and cannot begin again");
    if (!begun) {
        keep_memory();
        mpi_settings_apply(mpi_process_library(), rm_world_from_env(), process.settings, sizeof process.settings);
        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
            return rm_fail(RM_E_PEER, "MPI (%s) could not start", mpi_process_library());
    } else MPI_Query_thread(&level);
    if (level < MPI_THREAD_SERIALIZED)
        return rm_fail(RM_E_UNSUPPORTED, "this %s was built without threads; use one with MPI_THREAD_SERIALIZED", mpi_process_library());
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return RM_OK;
}

rm_status mpi_process_begin(uint64_t timeout_ns)
{
    pthread_mutex_lock(&process.lock);
    process.timeout_ns = timeout_ns;
    const rm_status st = begin_locked();
    pthread_mutex_unlock(&process.lock);
    return st;
}

/* ---- the end */
/* All ranks that end in order meet here, or MPI_Finalize might wait for one that never comes. */
static bool meet(uint64_t timeout_ns)
{
    MPI_Request r;
    int done = 0;
    const uint64_t start = rm_now_ns();
    const struct timespec nap = { 0, 100000 };
    if (MPI_Ibarrier(MPI_COMM_WORLD, &r) != MPI_SUCCESS) return false;
    for (;;) {
        if (MPI_Test(&r, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
        if (done || rm_now_ns() - start > timeout_ns) return done;
        nanosleep(&nap, NULL);
    }
}

/* The library's own ends may hang: MPI_Finalize of MPICH 4.0 over UCX, when a peer was a moment faster, and MPI_Abort where the
 * launcher is out of reach. Nothing is lost by then, so the process ends without them. */
enum { END_S = 5 };
static volatile sig_atomic_t end_code;
static void end_now(int ignored) { _exit(end_code); }
static void end_within(unsigned seconds, int exit_code)
{
    fflush(NULL);
    end_code = exit_code;
    signal(SIGALRM, end_now);
    alarm(seconds);
}

void mpi_process_abort(int exit_code)
{
    end_within(END_S, exit_code);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
}

void rm_comm_leave(int exit_code)
{
    static const int orderly[] = { 0, 7, 130, 143 };
    int begun = 0, ended = 0, code = exit_code;
    bool in_order = false;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (!begun || ended) return;
    for (size_t i = 0; i < RM_COUNT(orderly); i++) in_order |= exit_code == orderly[i];
    if (in_order) {
        if (meet(process.timeout_ns)) {
            end_within(END_S, exit_code);
            MPI_Finalize();
            alarm(0);
            return;
        }
        rm_error("the peers did not come to the end within %.1f s", rm_s(process.timeout_ns));
        code = rm_exit_code(RM_E_PEER, 0);
    }
    mpi_process_abort(code);
}

#ifdef __SANITIZE_ADDRESS__
/* MPI libraries leave memory behind in plug-ins that they have unloaded, where no suppression can name it. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    int begun = 0;
    MPI_Initialized(&begun);
    return begun;
}
#endif
