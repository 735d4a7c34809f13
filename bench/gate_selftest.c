#include "bench/gate.h"

rm_status bench_gate_selftest(const bench_options *o) { return rm_fail(RM_E_UNSUPPORTED, "bench gate %s does not exist yet", o->arg[0]); }
