/* Which program a command for the shell runs, so that a gate notices when it was built anew. */
#ifndef RM_BENCH_GATE_EXECUTABLE_H
#define RM_BENCH_GATE_EXECUTABLE_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

/* The file of the first word after VAR=VALUE words, found as the shell would; false where that cannot be told without a shell ("$X", "if", a builtin). */
bool      bench_executable_of(const char *command, char *out, size_t size);
/* What tells it from others: SHA-256 of its bytes, of a large one of its size and time; "" where there is no such file. */
void      bench_executable_digest(const char *command, char hex[65]);
/* SHA-256 of a file. RM_E_IO. */
rm_status bench_file_digest(const char *path, char hex[65]) RM_CHECKED;
#endif
