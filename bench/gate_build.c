#define _GNU_SOURCE
#include "bench/gate_build.h"
#include "base/sha256.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files */

static rm_status digest_of(const char *path, char hex[65])
{
    char part[65536];
    size_t n;
    rm_sha256 s;
    FILE *f = fopen(path, "rb");
    if (!f) return rm_fail_errno("cannot read the program %s", path);
    rm_sha256_begin(&s);
    while ((n = fread(part, 1, sizeof part, f)) > 0) rm_sha256_add(&s, part, n);
    const bool bad = ferror(f) != 0;
    fclose(f);
    if (bad) return rm_fail_errno("cannot read the program %s", path);
    rm_sha256_end(&s, hex);
    return RM_OK;
}

static bool is_program(const char *what)
{
    struct stat s;
    return stat(what, &s) == 0 && S_ISREG(s.st_mode) && access(what, X_OK) == 0;
}

static rm_status of_file(const char *what, bench_gate_side *side)
{
    side->program = realpath(what, NULL);
    if (!side->program) return rm_fail_errno("cannot find the program %s", what);
    snprintf(side->label, sizeof side->label, "%.*s", (int)sizeof side->label - 1, what);
    return digest_of(side->program, side->digest);
}

rm_status bench_gate_program(const char *what, bool keep, bench_gate_side *side)
{
    if (is_program(what)) return of_file(what, side);
    return rm_fail(RM_E_ARG, "%s is no program", what);
}
