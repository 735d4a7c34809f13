/* The run queue: /proc/self/task/<tid>/schedstat has the time a thread ran and the time it waited for a core, in nanoseconds. */
#define _GNU_SOURCE
#include "profiler/counters_private.h"
#include "base/sort.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Cores that any thread of the process may use. */
static int cores_of(const rm_sched *s)
{
    enum { MOST = 8192 };
    cpu_set_t *all = CPU_ALLOC(MOST), *one = CPU_ALLOC(MOST);
    const size_t size = CPU_ALLOC_SIZE(MOST);
    int n = 0;
    if (all && one) {
        CPU_ZERO_S(size, all);
        for (size_t i = 0; i < s->n; i++)
            if (sched_getaffinity(s->task[i].tid, size, one) == 0) CPU_OR_S(size, all, all, one);
        n = CPU_COUNT_S(size, all);
    }
    CPU_FREE(all);
    CPU_FREE(one);
    return n > 0 ? n : 1;
}

static bool read_task(const rm_task *t, uint64_t *run_ns, uint64_t *wait_ns)
{
    char text[96], *end, *next;
    if (!rm_pread_text(t->fd, text, sizeof text)) return false;
    *run_ns = strtoull(text, &end, 10);
    *wait_ns = strtoull(end, &next, 10);
    return end != text && next != end;
}

static rm_status grow(rm_sched *s)
{
    if (s->n < s->room) return RM_OK;
    const size_t room = 2 * s->room + 16;
    rm_task *task = realloc(s->task, room * sizeof *task);
    if (task) s->task = task;
    uint64_t *wanted = realloc(s->wanted_ns, room * sizeof *wanted);
    if (wanted) s->wanted_ns = wanted;
    if (!task || !wanted) return rm_fail(RM_E_NOMEM, "out of memory for the threads to count");
    s->room = room;
    return RM_OK;
}

static bool known(const rm_sched *s, int tid)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->task[i].tid == tid) return true;
    return false;
}

/* A thread that started since has run and waited from 0 on. One that ended before it could be opened is no trouble. */
static rm_status add_task(rm_sched *s, const char *name)
{
    char path[64];
    RM_TRY(grow(s));
    snprintf(path, sizeof path, "%.32s/schedstat", name);
    const int fd = openat(dirfd(s->dir), path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) s->task[s->n++] = (rm_task) { .tid = (int)strtol(name, NULL, 10), .fd = fd };
    else if (errno != ENOENT && errno != ESRCH)
        rm_why_set(&s->why, "the run queue's delay cannot be read from /proc/self/task/%.32s/schedstat: %s", name, strerror(errno));
    return RM_OK;
}

static rm_status scan(rm_sched *s)
{
    const struct dirent *e;
    rm_status st = RM_OK;
    rewinddir(s->dir);
    while (st == RM_OK && (e = readdir(s->dir)))
        if (e->d_name[0] != '.' && !known(s, (int)strtol(e->d_name, NULL, 10))) st = add_task(s, e->d_name);
    return st;
}

/* The number of threads is in the directory's link count; a file system without such a count makes us look every time. */
static bool threads_changed(rm_sched *s)
{
    struct stat st;
    if (fstat(dirfd(s->dir), &st) != 0) return true;
    const size_t links = (size_t)st.st_nlink;
    const bool changed = links <= 1 || links != s->links;
    s->links = links;
    return changed;
}

rm_status rm_sched_open(const rm_counter_places *places, rm_sched *out)
{
    char path[512];
    rm_sched *s = out;
    bool waits = false;
    snprintf(path, sizeof path, "%s/self/task", places->proc);
    if (!(s->dir = opendir(path))) {
        rm_why_set(&s->why, "the run queue's delay cannot be read from %.150s: %s", path, strerror(errno));
        s->cores = places->cores > 0 ? places->cores : 1;
        return RM_OK;
    }
    (void)threads_changed(s);
    RM_TRY(scan(s));
    for (size_t i = 0; i < s->n; i++) waits |= read_task(&s->task[i], &s->task[i].run_ns, &s->task[i].wait_ns) && s->task[i].run_ns;
    if (!waits && !s->why.text[0])
        rm_why_set(&s->why, "this kernel keeps no run-queue delay (schedstat says nothing): it needs CONFIG_SCHED_INFO, or the boot option delayacct");
    s->cores = places->cores > 0 ? places->cores : cores_of(s);
    return RM_OK;
}

void rm_sched_close(rm_sched *s)
{
    for (size_t i = 0; i < s->n; i++) close(s->task[i].fd);
    if (s->dir) closedir(s->dir);
    free(s->task);
    free(s->wanted_ns);
    memset(s, 0, sizeof *s);
}

static bool larger(const void *a, const void *b) { return *(const uint64_t *)a > *(const uint64_t *)b; }

/* Take any `cores` threads and give them the cores for themselves: they would never wait. While w of them wait, at least w cores hold
 * something else: other threads of this process, or others' work. So others took at least what these threads waited less what the
 * remaining threads ran = what they wanted (ran + waited) less what all threads ran; the most for those that wanted most. */
uint64_t rm_sched_foreign(uint64_t *wanted_ns, size_t n, uint64_t ran_ns, int cores)
{
    uint64_t wanted = 0;
    if (n > (size_t)cores) rm_sort(wanted_ns, n, sizeof *wanted_ns, larger);
    for (size_t i = 0; i < n && i < (size_t)cores; i++) wanted += wanted_ns[i];
    return wanted > ran_ns ? wanted - ran_ns : 0;
}

/* What a thread ran and waited since the last reading. false: it ended; what it did after that reading is not known. */
static bool advance(rm_sched *s, rm_task *t, uint64_t *wanted_ns, uint64_t *ran_ns)
{
    uint64_t run, wait;
    if (!read_task(t, &run, &wait)) return false;
    const uint64_t ran = run > t->run_ns ? run - t->run_ns : 0, waited = wait > t->wait_ns ? wait - t->wait_ns : 0;
    *wanted_ns = ran + waited;
    *ran_ns += ran;
    s->wait_ns += waited;
    t->run_ns = run;
    t->wait_ns = wait;
    return true;
}

void rm_sched_read(rm_sched *s, uint64_t now_ns)
{
    uint64_t ran = 0;
    size_t i = 0;
    if (s->why.text[0]) return;
    bool look = threads_changed(s);
    for (; i < s->n;) {
        if (advance(s, &s->task[i], &s->wanted_ns[i], &ran)) i++;
        else {
            close(s->task[i].fd);
            s->task[i] = s->task[--s->n];
            look = true;
        }
    }
    if (look && scan(s) != RM_OK) rm_why_set(&s->why, "out of memory for the threads to count");
    for (; i < s->n; i++)
        if (!advance(s, &s->task[i], &s->wanted_ns[i], &ran)) s->wanted_ns[i] = 0; /* ended at once: the next reading drops it */
    const uint64_t foreign = rm_sched_foreign(s->wanted_ns, s->n, ran, s->cores), most = (uint64_t)s->cores * (now_ns - s->read_ns);
    if (s->read_ns) s->foreign_ns += foreign < most ? foreign : most; /* a wait that began long ago is seen when it ends */
    s->read_ns = now_ns;
}
