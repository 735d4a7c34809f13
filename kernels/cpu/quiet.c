#define _GNU_SOURCE
#include "kernels/cpu/quiet.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

void cpu_quiet_open(cpu_quiet *q)
{
    DIR *dir = opendir("/proc/self/task");
    q->n = 0;
    if (!dir) return;
    for (struct dirent *e; q->n < CPU_QUIET_THREADS && (e = readdir(dir)) != NULL;) {
        char path[300];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) q->fd[q->n++] = fd;
    }
    closedir(dir);
}

void cpu_quiet_close(cpu_quiet *q)
{
    for (int i = 0; i < q->n; i++) close(q->fd[i]);
    q->n = 0;
}

/* schedstat: nanoseconds on the processor, nanoseconds waiting for it, time slices. */
static uint64_t waited(int fd)
{
    char text[128];
    uint64_t ran = 0, wait = 0;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return 0;
    text[n] = '\0';
    return sscanf(text, "%" SCNu64 " %" SCNu64, &ran, &wait) == 2 ? wait : 0;
}

void cpu_quiet_start(cpu_quiet *q)
{
    for (int i = 0; i < q->n; i++) q->before[i] = waited(q->fd[i]);
}

uint64_t cpu_quiet_stop(const cpu_quiet *q)
{
    uint64_t most = 0;
    for (int i = 0; i < q->n; i++) {
        uint64_t d = waited(q->fd[i]) - q->before[i];
        if (d > most) most = d;
    }
    return most;
}
