/* Known trouble on purpose (--inject), to prove that the measurement puts it where it belongs.
 *
 *   SPEC[;SPEC...]   straggler=20ms[@rankK]  one rank computes longer (the last one by default)
 *                    compute=20ms[@rankK]    all ranks compute longer, or one
 *                    input=20ms[@rankK]      batches come later, to all ranks or to one
 *                    link=20ms               the last all-reduce of every step takes longer, on all ranks
 *                    step=3%[@rankK]         after every step the host is kept busy for a share of what it took, within it
 *                    layer=NAME[:PASS]:10%   one op takes longer by a share of what it took (PASS: as in bench layers; fwd)
 *                    alloc=N, all-reduce=N   so many allocations and collectives a step more, in the facts of bench gate; no time anywhere
 *
 * Units us, ms and s; "@1" is "@rank1". What is given twice adds up. One rank that is later than the others is a straggler to
 * those who wait for it, whatever made it late. */
#ifndef RM_BENCH_INJECT_H
#define RM_BENCH_INJECT_H
#include "model/engine.h"

/* The share of `rank` of `ranks`; net: whose layers may be named, NULL: none. "" is none. RM_E_ARG with one clear line; so is a rank that is not there. */
rm_status bench_inject_parse(const char *spec, int32_t rank, int32_t ranks, const rm_net *net, rm_inject *out) RM_CHECKED;
/* Of a spec what facts count; the other words are left to bench_inject_parse(). RM_E_ARG: one that neither knows. */
typedef struct bench_inject_counts { int32_t allocs, reduces; } bench_inject_counts;
rm_status bench_inject_parse_counts(const char *spec, bench_inject_counts *out) RM_CHECKED;
/* Is there anything in it but what facts count? */
bool      bench_inject_takes_time(const char *spec);
#endif
