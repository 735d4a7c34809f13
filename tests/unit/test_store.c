/* The store: round trips, resumption after kill -9, damaged, foreign, newer and full stores, and the run information. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "profiler/runinfo.h"
#include "profiler/store.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/rm_store_XXXXXX", path[256];

static int fresh(void **state)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s/*", dir);
    return system(command);
}

static int make_dir(void **state)
{
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/s.db", dir);
    return 0;
}

static int remove_dir(void **state)
{
    fresh(state);
    return rmdir(dir);
}

static rm_store *must_open(bool read_only)
{
    rm_store *s = NULL;
    rm_status st = rm_store_open(path, read_only, &s);
    if (st != RM_OK) fail_msg("%s", rm_last_error());
    return s;
}

static json_t *json(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    return j;
}

static int64_t begin(rm_store *s, const char *command, const char *config_text, const char *environment_text)
{
    json_t *config = json(config_text), *environment = json(environment_text);
    int64_t run = 0;
    assert_int_equal(rm_store_run_begin(s, command, "bench x", config, environment, &run), RM_OK);
    json_decref(config);
    json_decref(environment);
    return run;
}

static int64_t resume(rm_store *s, const char *command, const char *config_text, const char *environment_text)
{
    json_t *config = json(config_text), *environment = json(environment_text);
    int64_t run = -1;
    assert_int_equal(rm_store_run_resume(s, command, config, environment, &run), RM_OK);
    json_decref(config);
    json_decref(environment);
    return run;
}

static const char ENV[] = "{\"hard\": {}, \"hard_sha\": \"aa\"}";

static void put(rm_store *s, int64_t run, const char *key, const char *row_text, size_t n)
{
    double value[100];
    for (size_t i = 0; i < 100; i++) value[i] = (double)i;
    json_t *row = json(row_text);
    rm_samples m = { "step_s", "s", value, n, NULL };
    assert_int_equal(rm_store_result(s, run, key, "measured", true, row, &m, 1), RM_OK);
    json_decref(row);
}

static int first_result(void *ctx, const rm_result_row *r)
{
    *(int64_t *)ctx = r->id;
    return 1;
}

static int count_results(void *ctx, const rm_result_row *r)
{
    ++*(int *)ctx;
    return 0;
}

static void test_round_trip(void **state)
{
    rm_store *s = must_open(false);
    int64_t run = begin(s, "scaling", "{\"gpus\": \"1,2\"}", ENV), result = 0;
    const double value[] = { 0.5, NAN, 0.25, 99 };
    const uint8_t excluded[] = { 0, 0, 0, 1 };
    rm_samples m[] = { { "step_s", "s", value, 4, excluded }, { "loss", "1", value, 1, NULL } };
    json_t *row = json("{\"ranks\": 2, \"note\": \"'; DROP TABLE run; -- \\u00e9\"}"), *back = NULL;
    assert_int_equal(rm_store_result(s, run, "n=2", "measured", true, row, m, 2), RM_OK);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
    rm_store_close(s);

    s = must_open(true);
    assert_int_equal(rm_store_find(s, run, "n=2", &back), RM_OK);
    assert_true(json_equal(row, back));
    json_decref(back);
    assert_int_equal(rm_store_find(s, run, "n=3", &back), RM_OK);
    assert_null(back);
    assert_int_equal(rm_store_each_result(s, run, first_result, &result), RM_OK);
    double *x = NULL;
    size_t n = 0;
    assert_int_equal(rm_store_samples(s, result, "step_s", &x, &n), RM_OK);
    assert_int_equal(n, 3); /* the excluded one stays in the table but is not handed out */
    assert_true(x[0] == 0.5 && isnan(x[1]) && x[2] == 0.25);
    free(x);
    assert_int_equal(rm_store_samples(s, result, "nothing", &x, &n), RM_OK);
    assert_int_equal(n, 0);
    assert_null(x);
    rm_store_close(s);
    json_decref(row);
}

static void test_same_key_replaces(void **state)
{
    rm_store *s = must_open(false);
    int64_t run = begin(s, "scaling", "{}", ENV), result = 0;
    put(s, run, "n=1", "{\"v\": 1}", 10);
    put(s, run, "n=1", "{\"v\": 2}", 5);
    int results = 0;
    assert_int_equal(rm_store_each_result(s, run, count_results, &results), RM_OK);
    assert_int_equal(results, 1);
    assert_int_equal(rm_store_each_result(s, run, first_result, &result), RM_OK);
    double *x = NULL;
    size_t n = 0;
    assert_int_equal(rm_store_samples(s, result, "step_s", &x, &n), RM_OK);
    assert_int_equal(n, 5); /* no sample of the first remains */
    free(x);
    rm_store_close(s);
}

static int see_run(void *ctx, const rm_run_row *r)
{
    char *p = ctx;
    snprintf(p + strlen(p), 200 - strlen(p), "%s:%d:%s ", r->command, r->exit_code, r->finished ? "done" : "open");
    return 0;
}

static void test_runs_newest_first(void **state)
{
    rm_store *s = must_open(false);
    char seen[200] = "";
    int64_t a = begin(s, "train", "{}", ENV);
    begin(s, "layers", "{}", ENV);
    assert_int_equal(rm_store_run_end(s, a, 7), RM_OK);
    assert_int_equal(rm_store_each_run(s, NULL, see_run, seen), RM_OK);
    assert_string_equal(seen, "layers:-1:open train:7:done ");
    seen[0] = 0;
    assert_int_equal(rm_store_each_run(s, "train", see_run, seen), RM_OK);
    assert_string_equal(seen, "train:7:done ");
    rm_store_close(s);
}

static void test_resume_rules(void **state)
{
    rm_store *s = must_open(false);
    int64_t run = begin(s, "scaling", "{\"b\": 1, \"a\": 2}", ENV);
    assert_int_equal(resume(s, "scaling", "{\"a\": 2, \"b\": 1}", ENV), run); /* order of keys does not matter */
    assert_int_equal(resume(s, "train", "{\"a\": 2, \"b\": 1}", ENV), 0);
    assert_int_equal(resume(s, "scaling", "{\"a\": 3, \"b\": 1}", ENV), 0);
    assert_int_equal(resume(s, "scaling", "{\"a\": 2, \"b\": 1}", "{\"hard_sha\": \"bb\"}"), 0);
    assert_int_equal(rm_store_run_end(s, run, 130), RM_OK); /* interrupted: goes on */
    assert_int_equal(resume(s, "scaling", "{\"a\": 2, \"b\": 1}", ENV), run);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
    assert_int_equal(resume(s, "scaling", "{\"a\": 2, \"b\": 1}", ENV), 0);
    begin(s, "scaling", "{\"a\": 2, \"b\": 1}", ENV);
    int64_t later = begin(s, "scaling", "{\"a\": 2, \"b\": 1}", ENV);
    assert_int_equal(rm_store_run_end(s, later, 0), RM_OK); /* a later one finished: the older is history */
    assert_int_equal(resume(s, "scaling", "{\"a\": 2, \"b\": 1}", ENV), 0);
    rm_store_close(s);
}

/* A child stores results until it is killed in the middle; everything it reported as stored is there, whole. */
static void test_kill_keeps_whole_results(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        close(ends[0]);
        rm_store *s = must_open(false);
        int64_t run = begin(s, "scaling", "{}", ENV);
        for (int i = 0;; i++) {
            char key[32];
            snprintf(key, sizeof key, "n=%d", i);
            put(s, run, key, "{}", 100);
            if (write(ends[1], "x", 1) != 1) _exit(1);
        }
    }
    close(ends[1]);
    char byte;
    int reported = 0;
    while (reported < 20 && read(ends[0], &byte, 1) == 1) reported++;
    rm_store *s = must_open(false);
    assert_int_equal(resume(s, "scaling", "{}", ENV), 0); /* its owner lives: not ours to take */
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (read(ends[0], &byte, 1) == 1) reported++;
    close(ends[0]);
    assert_true(reported >= 20);

    int64_t run = resume(s, "scaling", "{}", ENV);
    assert_true(run > 0);
    int stored = 0;
    assert_int_equal(rm_store_each_result(s, run, count_results, &stored), RM_OK);
    assert_in_range(stored, reported, reported + 1); /* + 1: committed, not yet told */
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*), (SELECT integrity_check FROM pragma_integrity_check) FROM sample", -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(q, 0), 100 * stored);
    assert_string_equal(sqlite3_column_text(q, 1), "ok");
    sqlite3_finalize(q);
    sqlite3_close(db);
    rm_store_close(s);
}

static void refused(bool read_only, rm_status want, const char *why)
{
    rm_store *s = NULL;
    rm_status st = rm_store_open(path, read_only, &s);
    assert_int_equal(st, want);
    assert_null(s);
    assert_non_null(strstr(rm_last_error(), path)); /* names the file */
    if (!strstr(rm_last_error(), why)) fail_msg("\"%s\" lacks \"%s\"", rm_last_error(), why);
}

static void test_foreign_files(void **state)
{
    refused(true, RM_E_IO, "no such store");
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++) fputs("not a database at all\n", f);
    fclose(f);
    refused(false, RM_E_FORMAT, "no store");
    refused(true, RM_E_FORMAT, "no store");
    unlink(path);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE theirs (x); PRAGMA user_version = 1", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    refused(false, RM_E_FORMAT, "another program");
    unlink(path);
    mkdir(path, 0700);
    refused(false, RM_E_ARG, "not a regular file");
    rmdir(path);
    fclose(fopen(path, "w"));
    refused(true, RM_E_FORMAT, "empty");
    rm_store_close(must_open(false)); /* an empty file becomes a store */
}

static void test_newer_schema(void **state)
{
    rm_store_close(must_open(false));
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    refused(false, RM_E_FORMAT, "newer Ringmark (schema 99");
}

static void test_damaged_store(void **state)
{
    rm_store *s = must_open(false);
    int64_t run = begin(s, "scaling", "{}", ENV);
    for (int i = 0; i < 50; i++) {
        char key[32];
        snprintf(key, sizeof key, "n=%d", i);
        put(s, run, key, "{}", 100);
    }
    rm_store_close(s);
    int fd = open(path, O_RDWR);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    char junk[4096];
    memset(junk, 0xa5, sizeof junk);
    for (off_t at = 4096; at < st.st_size; at += 4096) assert_int_equal(pwrite(fd, junk, sizeof junk, at), sizeof junk);
    close(fd);
    s = must_open(true); /* the first page is whole */
    int results = 0;
    assert_int_equal(rm_store_each_result(s, run, count_results, &results), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "damaged"));
    assert_non_null(strstr(rm_last_error(), path));
    rm_store_close(s);
}

/* A full disk: SQLite's own calls to write are exchanged for ones that fail as the kernel would. */
static ssize_t full_pwrite(int fd, const void *data, size_t n, off_t at)
{
    errno = ENOSPC;
    return -1;
}

static void set_pwrite(sqlite3_syscall_ptr fn)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    vfs->xSetSystemCall(vfs, "pwrite", fn);
    vfs->xSetSystemCall(vfs, "pwrite64", fn);
}

static void test_full_disk(void **state)
{
    rm_store *s = must_open(false);
    int64_t run = begin(s, "scaling", "{}", ENV);
    put(s, run, "n=1", "{}", 100);
    set_pwrite((sqlite3_syscall_ptr)full_pwrite);
    json_t *row = json("{}"), *back = NULL;
    rm_status st = rm_store_result(s, run, "n=2", "measured", true, row, NULL, 0);
    set_pwrite(NULL);
    assert_int_equal(st, RM_E_NOSPACE);
    assert_non_null(strstr(rm_last_error(), path));
    assert_non_null(strstr(rm_last_error(), "disk is full"));
    assert_int_equal(rm_store_result(s, run, "n=3", "measured", true, row, NULL, 0), RM_OK); /* it goes on once there is room */
    rm_store_close(s);
    s = must_open(true);
    assert_int_equal(rm_store_find(s, run, "n=1", &back), RM_OK);
    assert_non_null(back);
    json_decref(back);
    assert_int_equal(rm_store_find(s, run, "n=2", &back), RM_OK);
    assert_null(back);
    rm_store_close(s);
    json_decref(row);
}

/* Eight processes create the same store at once and each stores a result. */
static void test_many_writers(void **state)
{
    enum { WRITERS = 8 };
    pid_t child[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        child[i] = fork();
        if (child[i]) continue;
        rm_store *s = NULL;
        json_t *row = json("{}"), *environment = json(ENV);
        int64_t run = 0;
        rm_status st = rm_store_open(path, false, &s);
        if (st == RM_OK) st = rm_store_run_begin(s, "x", "x", row, environment, &run);
        if (st == RM_OK) st = rm_store_result(s, run, "k", "measured", true, row, NULL, 0);
        if (st != RM_OK) fprintf(stderr, "%s\n", rm_last_error());
        _exit(st != RM_OK);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 1;
        waitpid(child[i], &status, 0);
        assert_int_equal(status, 0);
    }
    char seen[200] = "";
    rm_store *s = must_open(true);
    assert_int_equal(rm_store_each_run(s, NULL, see_run, seen), RM_OK);
    size_t runs = 0;
    for (const char *p = seen; (p = strstr(p, "x:")); p++) runs++;
    assert_int_equal(runs, WRITERS);
    rm_store_close(s);
}

static void test_default_path(void **state)
{
    unsetenv("RINGMARK_STORE");
    assert_string_equal(rm_store_default_path(), "ringmark.db");
    setenv("RINGMARK_STORE", "/somewhere/x.db", 1);
    assert_string_equal(rm_store_default_path(), "/somewhere/x.db");
    unsetenv("RINGMARK_STORE");
}

static void test_run_information(void **state)
{
    setenv("OMP_RM_TEST", "7", 1);
    setenv("RM_SECRET_TOKEN", "hidden-value", 1);
    const rm_fact soft_fact[] = { { "onednn", "3.2", 1 }, { "note", "a", 0 } }, other[] = { { "onednn", "3.3", 1 }, { "note", "b", 0 } };
    json_t *a = rm_runinfo_json(soft_fact, 2), *b = rm_runinfo_json(other, 2), *c = rm_runinfo_json(soft_fact, 1);
    assert_true(a && b && c);
    static const char *const hard[] = { "processor", "cores_available", "memory_gib", "isa", "compiler", "flags", "onednn" };
    for (size_t i = 0; i < RM_COUNT(hard); i++) assert_non_null(json_object_get(json_object_get(a, "hard"), hard[i]));
    static const char *const soft[] = { "git", "time", "host", "kernel", "load_1min", "governor", "smt", "container", "note" };
    for (size_t i = 0; i < RM_COUNT(soft); i++) assert_non_null(json_object_get(json_object_get(a, "soft"), soft[i]));
    const char *sha_a = json_string_value(json_object_get(a, "hard_sha")), *sha_b = json_string_value(json_object_get(b, "hard_sha"));
    assert_int_equal(strlen(sha_a), 64);
    assert_string_not_equal(sha_a, sha_b);                                       /* a library version is hard */
    assert_string_equal(sha_a, json_string_value(json_object_get(c, "hard_sha"))); /* a soft fact is not */
    char *text = json_dumps(a, 0);
    assert_non_null(strstr(text, "OMP_RM_TEST"));
    assert_null(strstr(text, "hidden-value"));
    free(text);
    json_decref(a);
    json_decref(b);
    json_decref(c);
    assert_non_null(strstr(rm_version(), "(git "));
    assert_true(rm_cores_available() >= 1);
    assert_true(rm_memory_available() > 1 << 20);
}

static void write_file(const char *name, const char *text)
{
    char file[512];
    snprintf(file, sizeof file, "%s/%s", dir, name);
    for (char *p = file + strlen(dir) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(file, 0700);
        *p = '/';
    }
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_control_groups(void **state)
{
    write_file("cpu.max", "max 100000\n"); /* v2: the parent is tighter than the group itself */
    write_file("a/cpu.max", "250000 100000\n");
    write_file("a/b/cpu.max", "400000 100000\n");
    write_file("a/memory.max", "1000000\n");
    write_file("a/memory.current", "400000\n");
    write_file("a/b/memory.max", "max\n");
    assert_true(rm_cgroup_cores("0::/a/b\n", dir) == 2.5);
    assert_int_equal(rm_cgroup_memory_left("0::/a/b\n", dir), 600000);
    assert_true(isinf(rm_cgroup_cores("0::/elsewhere\n", dir)));
    assert_int_equal(rm_cgroup_memory_left("0::/\n", dir), UINT64_MAX);

    write_file("cpu/c/cpu.cfs_quota_us", "150000\n"); /* v1, with controllers that share a mount */
    write_file("cpu/c/cpu.cfs_period_us", "100000\n");
    write_file("cpu/cpu.cfs_quota_us", "-1\n");
    write_file("memory/d/memory.limit_in_bytes", "500\n");
    write_file("memory/d/memory.usage_in_bytes", "700\n");
    write_file("memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(rm_cgroup_cores("5:cpuset:/x\n4:cpu,cpuacct:/c\n3:memory:/d\n", dir) == 1.5);
    assert_true(isinf(rm_cgroup_cores("4:cpu:/\n", dir)));
    assert_int_equal(rm_cgroup_memory_left("3:memory:/d\n", dir), 0);
    assert_int_equal(rm_cgroup_memory_left("3:memory:/\n", dir), UINT64_MAX);
    assert_true(isinf(rm_cgroup_cores("garbage", dir)));
    assert_true(isinf(rm_cgroup_cores("", dir)));
}

#define fresh_test(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        fresh_test(test_round_trip),    fresh_test(test_same_key_replaces), fresh_test(test_runs_newest_first),
        fresh_test(test_resume_rules),  fresh_test(test_kill_keeps_whole_results), fresh_test(test_foreign_files),
        fresh_test(test_newer_schema),  fresh_test(test_damaged_store),     fresh_test(test_full_disk),
        fresh_test(test_default_path),  fresh_test(test_many_writers),  fresh_test(test_run_information),   fresh_test(test_control_groups),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
