/* bench gate: the performance-regression gate, a table of verbs. */
#include "bench/commands.h"
#include "bench/gate.h"
#include <string.h>

static const struct {
    const char *verb;
    rm_status (*run)(const bench_options *o);
} verbs[] = {
    { "ab", bench_gate_ab },         { "facts", bench_gate_facts },       { "history", bench_gate_history },
    { "bisect", bench_gate_bisect }, { "selftest", bench_gate_selftest },
};

static rm_status gate(const bench_options *o)
{
    for (size_t i = 0; i < RM_COUNT(verbs); i++)
        if (strcmp(verbs[i].verb, o->arg[0]) == 0) return verbs[i].run(o);
    return rm_fail(RM_E_ARG, "no such verb: bench gate %s; there is ab, facts, history, bisect and selftest", o->arg[0]);
}

static const char *const examples[] = {
    "bench gate ab --base v1.0 --head HEAD --bench 'layers --px 64 --batch 4 --steps 25 --warmup 0'",
    "bench gate ab --a './old bench.json' --b './new bench.json' --metric '$.seconds'",
    "bench gate ab --a ./old --b ./new --metric 'rate=$.images_per_s:effect=3%:higher' --budget 300",
    "bench gate ab before.json after.json --metric '$..step_s'",
    "bench gate facts --facts .ci/t0.json",
    "bench gate history --then-ab",
    "bench gate bisect --base v1.0 --head HEAD --bench 'layers --px 64'",
    "bench gate selftest",
    "bench gate selftest --aa 300 --power 100 --budget 3600",
    NULL,
};
const bench_command bench_cmd_gate = {
    .name = "gate",
    .summary = "is one program slower than another? pairs of runs in random order, and a verdict that is rarely wrong",
    .usage = "bench gate ab (--a CMD --b CMD --metric PATH | --base REV --head REV --bench ARGS | A.json B.json --metric PATH) [options], "
             "or bench gate facts|history|bisect|selftest [options]",
    .examples = examples,
    .run = gate,
};
