/* Counters against made-up /proc and powercap trees, made-up perf events, and one real neighbour on the same core. */
#define _GNU_SOURCE
#include "profiler/counters_private.h"
#include "base/clock.h"
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], powercap[128];
enum { MS = 1000000 };

static void write_file(const char *name, const char *text)
{
    char file[512];
    snprintf(file, sizeof file, "%s/%s", dir, name);
    for (char *p = file + strlen(dir) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(file, 0755);
        *p = '/';
    }
    FILE *f = fopen(file, "w"); /* the same file: who has it open reads the new text */
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int fresh(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/rm_counters_XXXXXX");
    if (!mkdtemp(dir)) return -1;
    chmod(dir, 0755);
    snprintf(powercap, sizeof powercap, "%s/powercap", dir);
    write_file("stat", "cpu  100 0 50 1000 5 0 3 7 0 0\ncpu0 100 0 50 1000 5 0 3 7 0 0\n");
    write_file("self/task/11/schedstat", "1000000 500000 3\n");
    write_file("self/task/12/schedstat", "2000000 0 1\n");
    write_file("self/status", "Name:\tx\nVmPeak:\t 900 kB\nVmHWM:\t     300 kB\n");
    write_file("sys/kernel/perf_event_paranoid", "3\n");
    return 0;
}

static int gone(void **state)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    return system(line); // NOLINT(cert-env33-c)
}

/* ---- performance counters */
static int refusal; /* errno of the next perf_open; 0: a pipe with what is in `record` */
static uint64_t record[3];
static int opened;

static int fake_perf(struct perf_event_attr *attr, pid_t tid)
{
    int end[2];
    assert_true(attr->inherit && attr->exclude_kernel && (tid == 11 || tid == 12));
    opened++;
    errno = refusal;
    if (refusal) return -1;
    assert_int_equal(pipe(end), 0);
    for (int i = 0; i < 4; i++) assert_int_equal(write(end[1], record, sizeof record), sizeof record); /* as many readings */
    close(end[1]);
    return end[0];
}

static rm_counters *open_fake(int cores)
{
    rm_counters *c;
    const rm_counter_places places = { .proc = dir, .powercap = powercap, .cores = cores, .online = 4, .perf_open = fake_perf };
    assert_int_equal(rm_counters_open_at(&places, &c), RM_OK);
    return c;
}

static void test_scaled(void **state)
{
    assert_int_equal(rm_perf_scaled(1000, 50, 50), 1000);
    assert_int_equal(rm_perf_scaled(1000, 100, 25), 4000); /* a quarter of the time on the registers */
    assert_int_equal(rm_perf_scaled(0, 100, 0), -1);
    assert_int_equal(rm_perf_scaled(7, 0, 0), 7);
}

static void test_perf(void **state)
{
    rm_counts r;
    refusal = opened = 0;
    memcpy(record, (uint64_t[]){ 1000, 100, 100 }, sizeof record);
    rm_counters *c = open_fake(1);
    assert_int_equal(opened, 6); /* three events for each of two threads */
    rm_counters_read(c, &r);
    assert_true(r.v[RM_COUNT_INSTRUCTIONS] == 2000 && r.v[RM_COUNT_CACHE_MISSES] == 2000);
    assert_true(!rm_counters_multiplexed(c) && !rm_counters_why(c, RM_COUNT_CYCLES));
    rm_counters_close(c);
    memcpy(record, (uint64_t[]){ 1000, 100, 40 }, sizeof record);
    c = open_fake(1);
    rm_counters_read(c, &r);
    assert_true(r.v[RM_COUNT_CYCLES] == 5000 && rm_counters_multiplexed(c));
    for (int i = 0; i < 4; i++) rm_counters_read(c, &r); /* the pipe is empty then: a counter that fails later */
    assert_true(r.v[RM_COUNT_CYCLES] == -1 && strstr(rm_counters_why(c, RM_COUNT_CYCLES), "could not be read"));
    rm_counters_close(c);
}

static void test_perf_refused(void **state)
{
    static const struct { int error; const char *words; } rows[] = {
        { ENOENT, "virtual" }, { EOPNOTSUPP, "virtual" }, { EACCES, "perf_event_paranoid is 3" }, { EPERM, "seccomp" }, { ENOSYS, "kernel" }, { EMFILE, "open files" }, { ESRCH, "threads" },
    };
    rm_counts r;
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        refusal = rows[i].error;
        rm_counters *c = open_fake(1);
        rm_counters_read(c, &r);
        const char *why = rm_counters_why(c, RM_COUNT_INSTRUCTIONS);
        if (r.v[RM_COUNT_INSTRUCTIONS] != -1 || !why || !strstr(why, rows[i].words)) fail_msg("errno %d: %s", rows[i].error, why ? why : "counted");
        rm_counters_close(c);
    }
}

/* ---- the run queue */
static void test_foreign(void **state)
{
    uint64_t one[] = { 150 * MS }, pair[] = { 10 * MS, 100 * MS }, team[] = { 90 * MS, 5 * MS, 100 * MS, 96 * MS };
    assert_int_equal(rm_sched_foreign(one, 1, 100 * MS, 1), 50 * MS);  /* alone on its core: all its waiting is others' work */
    assert_int_equal(rm_sched_foreign(pair, 2, 100 * MS, 1), 0);       /* 90 + 10 ran, 10 waited: for each other */
    assert_int_equal(rm_sched_foreign(team, 4, 280 * MS, 3), 6 * MS);  /* the three that wanted most: 286 */
    assert_int_equal(team[3], 5 * MS);
    assert_int_equal(rm_sched_foreign(team, 4, 280 * MS, 8), 11 * MS); /* cores to spare: every wait is foreign */
    assert_int_equal(rm_sched_foreign(NULL, 0, 0, 2), 0);
}

static void read_twice(rm_sched *s, uint64_t from_ns, uint64_t *wait_ns, uint64_t *foreign_ns)
{
    const uint64_t wait = s->wait_ns, foreign = s->foreign_ns;
    rm_sched_read(s, from_ns);
    *wait_ns = s->wait_ns - wait;
    *foreign_ns = s->foreign_ns - foreign;
}

static void test_threads(void **state)
{
    rm_sched s = { 0 };
    uint64_t wait, foreign;
    const rm_counter_places places = { .proc = dir, .cores = 1 };
    assert_int_equal(rm_sched_open(&places, &s), RM_OK);
    rm_sched_read(&s, 1000 * MS);
    assert_int_equal(s.wait_ns, 0); /* what was before does not count */
    write_file("self/task/11/schedstat", "51000000 30500000 9\n");
    read_twice(&s, 1100 * MS, &wait, &foreign);
    assert_true(wait == 30 * MS && foreign == 30 * MS);
    write_file("self/task/13/schedstat", "20000000 4000000 2\n"); /* a new one; the other waited as long as this one ran */
    write_file("self/task/11/schedstat", "101000000 50500000 9\n");
    read_twice(&s, 1200 * MS, &wait, &foreign);
    assert_true(wait == 24 * MS && foreign == 0);
    write_file("self/task/13/schedstat", ""); /* it ended */
    rm_sched_read(&s, 1300 * MS);
    assert_true(s.wait_ns == 54 * MS && s.foreign_ns == 30 * MS);
    write_file("self/task/11/schedstat", "102000000 950500000 9\n"); /* a wait that began before the last reading */
    read_twice(&s, 1400 * MS, &wait, &foreign);
    assert_true(wait == 900 * MS && foreign == 100 * MS);
    rm_sched_close(&s);
}

static void test_no_delay(void **state)
{
    static const char *const bad[] = { "", "0 0 0\n", "garbage\n", "5\n" };
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        rm_counts r;
        write_file("self/task/11/schedstat", bad[i]);
        write_file("self/task/12/schedstat", bad[i]);
        rm_counters *c = open_fake(1);
        rm_counters_read(c, &r);
        assert_true(r.v[RM_COUNT_RUN_DELAY_NS] == -1 && r.v[RM_COUNT_FOREIGN_NS] == -1);
        assert_non_null(strstr(rm_counters_why(c, RM_COUNT_FOREIGN_NS), "delayacct"));
        assert_false(rm_counts_disturbed(&r, 1));
        rm_counters_close(c);
    }
    const rm_counter_places nowhere = { .proc = "/nowhere/at/all", .powercap = "/nowhere", .perf_open = fake_perf };
    rm_counters *c;
    assert_int_equal(rm_counters_open_at(&nowhere, &c), RM_OK);
    for (int k = 0; k < RM_COUNTERS; k++) {
        const bool usage = k == RM_COUNT_CPU_NS || k == RM_COUNT_PREEMPTED || k == RM_COUNT_FAULTS || k == RM_COUNT_MAJOR_FAULTS;
        assert_true(usage == !rm_counters_why(c, (rm_counter)k));
    }
    rm_counters_close(c);
    assert_int_equal(rm_memory_high_water_in("/nowhere"), 0);
}

/* ---- the whole machine */
static void test_steal(void **state)
{
    rm_machine m = { 0 };
    const rm_counter_places places = { .proc = dir, .powercap = powercap, .online = 4 };
    const uint64_t tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    rm_machine_open(&places, 2, &m);
    rm_machine_read(&m, 1000 * MS);
    write_file("stat", "cpu  100 0 50 1000 5 0 3 9 0 0\n");
    rm_machine_read(&m, 1050 * MS);
    assert_int_equal(m.stolen_ns, 0); /* not so soon again */
    rm_machine_read(&m, 1100 * MS);
    assert_true(m.stolen_ns == 2 * tick && m.share_ns == 0);
    write_file("stat", "cpu  100 0 50 1000 5 0 3 19 0 0\n");
    rm_machine_read(&m, 1300 * MS);
    assert_true(m.stolen_ns == 12 * tick && m.share_ns == 5 * tick); /* 2 of 4 cores */
    write_file("stat", "cpu  nonsense\n");
    rm_machine_read(&m, 1500 * MS);
    assert_non_null(strstr(m.why_steal.text, "no longer"));
    rm_machine_close(&m);
    m = (rm_machine){ 0 };
    write_file("stat", "cpu  1 2 3 4 5 6 7\n"); /* a kernel without steal */
    rm_machine_open(&places, 1, &m);
    assert_non_null(strstr(m.why_steal.text, "hypervisor"));
    rm_machine_close(&m);
}

static void write_package(const char *name, const char *kind, const char *energy)
{
    char path[128];
    const char *const file[][2] = { { "name", kind }, { "energy_uj", energy }, { "max_energy_range_uj", "1000\n" } };
    for (size_t i = 0; i < RM_COUNT(file); i++) {
        snprintf(path, sizeof path, "powercap/%s/%s", name, file[i][0]);
        write_file(path, file[i][1]);
    }
}

static void test_energy(void **state)
{
    rm_machine m = { 0 };
    const rm_counter_places places = { .proc = dir, .powercap = powercap, .online = 4 };
    write_package("intel-rapl:0", "package-0\n", "900\n");
    write_package("intel-rapl:1", "package-1\n", "10\n");
    write_package("intel-rapl:2", "psys\n", "5\n");       /* the platform: the packages again */
    write_package("intel-rapl:0:0", "package-x\n", "5\n"); /* a part of a package */
    rm_machine_open(&places, 1, &m);
    assert_int_equal(m.n_package, 2);
    write_package("intel-rapl:0", "package-0\n", "50\n"); /* it wrapped at 1000 */
    write_package("intel-rapl:1", "package-1\n", "40\n");
    rm_machine_read(&m, 1000 * MS);
    assert_int_equal(m.energy_sum_uj, 150 + 30);
    write_package("intel-rapl:1", "package-1\n", "x\n");
    rm_machine_read(&m, 1200 * MS);
    assert_non_null(strstr(m.why_energy.text, "could not be read"));
    rm_machine_close(&m);
}

static void test_energy_refused(void **state)
{
    rm_machine m = { 0 };
    char path[256];
    const rm_counter_places places = { .proc = dir, .powercap = powercap, .online = 4 };
    const bool root = geteuid() == 0;
    write_package("intel-rapl:0", "package-0\n", "900\n");
    snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", powercap);
    chmod(path, 0);
    if (root) assert_int_equal(seteuid(65534), 0);
    rm_machine_open(&places, 1, &m);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_true(strstr(m.why_energy.text, "root alone") && strstr(m.why_energy.text, "chmod"));
    rm_machine_close(&m);
}

static void test_memory(void **state)
{
    assert_int_equal(rm_memory_high_water_in(dir), 300 * 1024);
    write_file("self/status", "Name:\tx\n");
    assert_int_equal(rm_memory_high_water_in(dir), 0);
    assert_true(rm_memory_high_water() > 1 << 19);
}

/* ---- arithmetic */
static void test_counts(void **state)
{
    rm_counts a, b = { .wall_ns = 300 * MS }, sum = { 0 };
    rm_counters_read(NULL, &a);
    for (int k = 0; k < RM_COUNTERS; k++) assert_true(a.v[k] == -1 && rm_counter_name((rm_counter)k)[0] && rm_counter_scale((rm_counter)k) > 0);
    a = (rm_counts){ .wall_ns = 100 * MS };
    a.v[RM_COUNT_FAULTS] = 10;
    b.v[RM_COUNT_FAULTS] = 25;
    b.v[RM_COUNT_CYCLES] = -1;
    const rm_counts d = rm_counts_since(&a, &b);
    assert_true(d.wall_ns == 200 * MS && d.v[RM_COUNT_FAULTS] == 15 && d.v[RM_COUNT_CYCLES] == -1);
    rm_counts_add(&sum, &d);
    rm_counts_add(&sum, &(rm_counts){ .wall_ns = 1, .v = { [RM_COUNT_FAULTS] = 5, [RM_COUNT_CYCLES] = 3 } });
    assert_true(sum.wall_ns == 200 * MS + 1 && sum.v[RM_COUNT_FAULTS] == 20 && sum.v[RM_COUNT_CYCLES] == -1);
    rm_counters_close(NULL);
    assert_string_equal(rm_counters_why(NULL, RM_COUNT_CPU_NS), "not counted");
}

static void test_rule(void **state)
{
    rm_counts d = { .wall_ns = 100 * MS };
    d.v[RM_COUNT_RUN_DELAY_NS] = 90 * MS; /* of one's own threads */
    d.v[RM_COUNT_FOREIGN_NS] = (int64_t)(RM_DISTURBED_SHARE * 100 * MS);
    assert_false(rm_counts_disturbed(&d, 1));
    d.v[RM_COUNT_FOREIGN_NS]++;
    assert_true(rm_counts_disturbed(&d, 1) && rm_counts_disturbed(&d, 0));
    assert_false(rm_counts_disturbed(&d, 2)); /* the same loss is half as much of two cores */
    d.v[RM_COUNT_FOREIGN_NS] = -1;
    assert_false(rm_counts_disturbed(&d, 1));
}

/* ---- this machine */
static void spin_ms(uint64_t ms)
{
    for (const uint64_t end = rm_now_ns() + ms * MS; rm_now_ns() < end;) {}
}

static void *spinner(void *ms)
{
    spin_ms(*(const uint64_t *)ms);
    return NULL;
}

/* Both on one core, as the children that a test starts on it. */
static int share_a_core(cpu_set_t *old)
{
    cpu_set_t one;
    int core = 0;
    if (sched_getaffinity(0, sizeof *old, old) != 0) return -1;
    while (core < CPU_SETSIZE && !CPU_ISSET(core, old)) core++;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    return sched_setaffinity(0, sizeof one, &one);
}

/* A neighbour that computes on the same core without a pause: the scheduler cannot hide it for long. */
static void test_neighbour(void **state)
{
    rm_counters *c;
    rm_counts begin, end = { 0 }, d = { 0 };
    cpu_set_t old;
    bool marked = false;
    if (share_a_core(&old)) skip();
    assert_int_equal(rm_counters_open(&c), RM_OK);
    if (rm_counters_why(c, RM_COUNT_FOREIGN_NS)) skip();
    const pid_t neighbour = fork();
    assert_true(neighbour >= 0);
    if (neighbour == 0) {
        alarm(60);
        for (;;) spin_ms(100);
    }
    for (int i = 0; i < 50 && !marked; i++) {
        rm_counters_read(c, &begin);
        spin_ms(50);
        rm_counters_read(c, &end);
        d = rm_counts_since(&begin, &end);
        marked = rm_counts_disturbed(&d, 1);
    }
    kill(neighbour, SIGKILL);
    waitpid(neighbour, NULL, 0);
    sched_setaffinity(0, sizeof old, &old);
    assert_true(marked);
    assert_true(d.v[RM_COUNT_RUN_DELAY_NS] >= d.v[RM_COUNT_FOREIGN_NS] - d.v[RM_COUNT_STEAL_NS] && d.v[RM_COUNT_CPU_NS] >= 0 && end.v[RM_COUNT_PREEMPTED] > 0);
    rm_counters_close(c);
}

/* Two threads of one process on one core wait for each other, and that is no disturbance: the delay is there, and hardly any of it is
 * foreign but for what others take meanwhile. Threads that end take nothing away from the sums. */
static void test_own_threads(void **state)
{
    rm_counters *c;
    rm_counts begin, end, d;
    cpu_set_t old;
    uint64_t ms = 60;
    int64_t last = 0;
    if (share_a_core(&old)) skip();
    assert_int_equal(rm_counters_open(&c), RM_OK);
    if (rm_counters_why(c, RM_COUNT_FOREIGN_NS)) skip();
    rm_counters_read(c, &begin);
    for (int i = 0; i < 5; i++) {
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, spinner, &ms), 0);
        spin_ms(ms);
        rm_counters_read(c, &end); /* while it is still there */
        pthread_join(t, NULL);
        assert_true(end.v[RM_COUNT_RUN_DELAY_NS] >= last);
        last = end.v[RM_COUNT_RUN_DELAY_NS];
    }
    rm_counters_read(c, &end);
    d = rm_counts_since(&begin, &end);
    sched_setaffinity(0, sizeof old, &old);
    assert_true(d.v[RM_COUNT_RUN_DELAY_NS] >= last - begin.v[RM_COUNT_RUN_DELAY_NS]);
    assert_true(d.v[RM_COUNT_RUN_DELAY_NS] > 20 * MS); /* they had one core for 60 ms of wishes each, five times */
    assert_true(d.v[RM_COUNT_FOREIGN_NS] < d.v[RM_COUNT_RUN_DELAY_NS] + d.v[RM_COUNT_STEAL_NS]);
    rm_counters_close(c);
}

#define with_tree(f) cmocka_unit_test_setup_teardown(f, fresh, gone)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scaled), with_tree(test_perf), with_tree(test_perf_refused), cmocka_unit_test(test_foreign), with_tree(test_threads), with_tree(test_no_delay),
        with_tree(test_steal), with_tree(test_energy), with_tree(test_energy_refused), with_tree(test_memory), cmocka_unit_test(test_counts), cmocka_unit_test(test_rule),
        cmocka_unit_test(test_neighbour), cmocka_unit_test(test_own_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
