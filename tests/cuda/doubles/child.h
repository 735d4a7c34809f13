/* For the tests of the doubles: a case runs in a process of its own, for findings and broken contexts stay. Include after cmocka.h. */
#ifndef DBL_CHILD_H
#define DBL_CHILD_H
#include "tests/cuda/doubles/doubles.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a case: ends it as failed where `what` is not so. */
#define MUST(what)                                                                                                                                      \
    do {                                                                                                                                                \
        if (!(what)) {                                                                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                                                                          \
            _exit(1);                                                                                                                                   \
        }                                                                                                                                               \
    } while (0)
#define GOOD(call)                                                                                                                                      \
    do {                                                                                                                                                \
        const cudaError_t good_ = (call);                                                                                                               \
        if (good_ != cudaSuccess) {                                                                                                                     \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorName(good_));                                                     \
            _exit(1);                                                                                                                                   \
        }                                                                                                                                               \
    } while (0)

/* Runs the case with environment "NAME=VALUE" (may be NULL). `finding`: words that a finding must have; NULL: there must be none. */
static inline void in_child(const char *name, void (*fn)(void), const char *environment, const char *finding)
{
    char text[8192] = "";
    size_t n = 0;
    int ends[2], status = 0;
    fflush(NULL);
    if (pipe(ends)) fail_msg("pipe");
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        if (environment) putenv((char *)(uintptr_t)environment);
        fn();
        _exit(dbl_findings() ? 99 : 0);
    }
    close(ends[1]);
    for (ssize_t got; n < sizeof text - 1 && (got = read(ends[0], text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    close(ends[0]);
    waitpid(child, &status, 0);
    const int want = finding ? 99 : 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != want || (finding && (!strstr(text, "FINDING") || !strstr(text, finding))))
        fail_msg("%s: status %x, expected to end with %d%s%s; it said:\n%s", name, (unsigned)status, want, finding ? " and a finding with: " : "", finding ? finding : "", text);
}
#endif
