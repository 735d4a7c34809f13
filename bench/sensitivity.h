/* Sensitivities: how much longer a step gets for every second by which one op, one all-reduce or the input takes longer: measured by
 * injection, and beside it what the replay of the undisturbed steps predicts (profiler/replay.h). 1: on the critical path; 0: hidden; above 1:
 * others suffer too. Where the two disagree, what the model leaves out is at work: contention, ranks that wait for each other.
 *
 * A round holds plain steps and each probe once, in an order drawn from the seed (the same on all ranks), each after a barrier. All ranks
 * inject alike. The time of a step is that of its slowest rank; differences are to the plain steps of the same round. Weights stand still
 * (learning rate 0). */
#ifndef RM_BENCH_SENSITIVITY_H
#define RM_BENCH_SENSITIVITY_H
#include "bench/session.h"

/* index: of a node (rm_net_nodes()) or of a bucket; of no meaning for the input. delay_ns: above 0; of each micro-batch for the input and for
 * ops of forward and backward. Delays of buckets and input are slept, which adds the timer's slack: some 0.1 ms. */
typedef enum bench_probe_kind { BENCH_PROBE_OP, BENCH_PROBE_BUCKET, BENCH_PROBE_INPUT } bench_probe_kind;
typedef struct bench_probe { bench_probe_kind kind; int32_t index; uint64_t delay_ns; } bench_probe;

/* A delay above the noise of a step that takes step_ns: 5 % of it, at least 1 ms. */
uint64_t  bench_sensitivity_delay(uint64_t step_ns);

/* Collective; n and rounds are the same on all ranks, the probes are rank 0's. e: with layer timers; what is injected already stays, but for
 * the op or bucket of a probe in its own steps.
 * *out, on rank 0 only: a list with an object for each probe, in order: {kind ("op", "bucket", "input"), name, pass, index (null for the
 * input), time_s (what it takes undisturbed), delay_s (injected in a step), predicted_slope, measured_slope, slope_low, slope_high,
 * prediction_error (measured - predicted), rounds}. Slopes are medians over rounds, predictions and times those of each plain step's slowest
 * rank; the interval is the 95 % one of the median (below six rounds: the range).
 * A signal that came to any rank stops all at the same step; the whole rounds until then are the result, RM_E_INTERRUPTED when there is none.
 * RM_E_ARG: no timers, a probe of something that is not there or of a bucket when nothing is reduced, a delay of 0 or beyond 600 s.
 * RM_E_UNSUPPORTED: ops of a device that cannot be kept busy. */
rm_status bench_sensitivity_measure(rm_comm *comm, rm_engine *e, const rm_source *src, const bench_probe *probe, int32_t n, int32_t rounds, uint64_t seed,
                                    json_t **out) RM_CHECKED;
#endif
