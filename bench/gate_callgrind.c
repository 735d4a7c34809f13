#include "bench/gate_callgrind.h"
#include "bench/gate_place.h"
#include "bench/options.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Each process has its own report, with one line "==PID== Collected : N". */
static int64_t collected(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[512];
    int64_t sum = 0;
    while (f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "== Collected : ");
        if (at) sum += strtoll(at + strlen("== Collected : "), NULL, 10);
    }
    if (f) fclose(f);
    return sum;
}

/* Adds the reports up and removes them. */
static int64_t gather(const char *dir)
{
    DIR *d = opendir(dir);
    int64_t sum = 0;
    for (const struct dirent *e; d && (e = readdir(d));) {
        char path[BENCH_PLACE_MOST + sizeof e->d_name + 1];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        sum += collected(path);
        unlink(path);
    }
    if (d) closedir(d);
    rmdir(dir);
    return sum > 0 ? sum : -1;
}

static char *under_valgrind(const char *command, const char *dir)
{
    rm_strbuf s = { 0 };
    rm_str_addf(&s, "exec valgrind --tool=callgrind --callgrind-out-file=/dev/null --trace-children=yes --log-file='%s/%%p' sh -c ", dir);
    bench_put_word(&s, command);
    return rm_str_take(&s);
}

rm_status bench_callgrind_run(const char *command, double timeout_s, bench_process *out)
{
    char dir[BENCH_PLACE_MOST];
    RM_TRY(bench_place_make("callgrind", dir));
    char *wrapped = under_valgrind(command, dir);
    const rm_status st = wrapped ? bench_process_run(wrapped, timeout_s, out) : rm_fail(RM_E_NOMEM, "out of memory for the command %s", command);
    const int64_t instructions = gather(dir);
    free(wrapped);
    if (st == RM_OK) out->instructions = instructions;
    return st;
}
