/* Programs to compare: built from a revision, or given as they are. */
#ifndef RM_BENCH_GATE_BUILD_H
#define RM_BENCH_GATE_BUILD_H
#include "bench/gate_pairs.h"

/* Fills program, label, revision and digest of `side`. what: an executable file, taken as it is; a source folder, built as it is, changes
 * included; or a revision of the repository that the working folder is in. Both sides are built in one folder, one after the other, so that paths are
 * equal and what did not change is compiled once; what was built before is not built again. cmake_args: more arguments for CMake.
 * Programs are kept in $RINGMARK_GATE_CACHE, else $XDG_CACHE_HOME/ringmark/gate, else ~/.cache/ringmark/gate. */
rm_status bench_gate_program(const char *what, const char *cmake_args, bench_gate_side *side) RM_CHECKED;
/* Removes the worktree and the build folder that bench_gate_program(what) made; the programs stay. Never a failure. */
void      bench_gate_forget_builds(const char *what, const char *cmake_args);
#endif
