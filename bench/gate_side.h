/* The two sides of a gate: commands, or builds of this program with the same arguments. */
#ifndef RM_BENCH_GATE_SIDE_H
#define RM_BENCH_GATE_SIDE_H
#include "bench/bench.h"
#include "bench/gate_pairs.h"
#include "bench/gate_place.h"

/* scratch: a folder of this gate's own, for what its runs write. builds: both programs are known, byte for byte, and so are their facts. */
typedef struct bench_sides { bench_gate_side at[2]; char scratch[BENCH_PLACE_MOST]; bool builds; } bench_sides;

/* From --a and --b, or --base, --head and --bench (which may build, for minutes). RM_E_ARG: neither, or both. *out is to be closed also after a failure. */
rm_status bench_sides_open(const bench_options *o, bench_sides *out) RM_CHECKED;
void      bench_sides_close(bench_sides *s);
/* The same program, byte for byte, with the same arguments? */
bool      bench_sides_identical(const bench_sides *s);
/* What tells this gate's sides from others', for the identity of the run. New reference. */
json_t   *bench_sides_json(const bench_sides *s);
#endif
