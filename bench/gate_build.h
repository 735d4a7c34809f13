/* Programs to compare: built from a revision, or given as they are. */
#ifndef RM_BENCH_GATE_BUILD_H
#define RM_BENCH_GATE_BUILD_H
#include "bench/gate_pairs.h"

/* Fills program, label, revision and digest of `side`. what: an executable file, taken as it is; a source folder; or a revision of the
 * repository that the working folder is in. A folder is built as it is, changes included. What was built before is not built again. keep: the worktree stays. */
rm_status bench_gate_program(const char *what, bool keep, bench_gate_side *side) RM_CHECKED;
#endif
