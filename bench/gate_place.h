/* A folder of one's own for the length of a command. */
#ifndef RM_BENCH_GATE_PLACE_H
#define RM_BENCH_GATE_PLACE_H
#include "base/status.h"
#include <stddef.h>

enum { BENCH_PLACE_MOST = 128 };
/* Makes "$TMPDIR/ringmark-NAME-XXXXXX", or in /tmp where the variable is missing, too long or cannot be quoted. The caller removes it. On failure out is "". */
rm_status bench_place_make(const char *name, char out[BENCH_PLACE_MOST]) RM_CHECKED;
/* The path of this program, to run it again. */
rm_status bench_own_program(char *out, size_t size) RM_CHECKED;
#endif
