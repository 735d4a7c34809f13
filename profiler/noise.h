/* Noise: what shared machines do to step times, as models to try a gate on, or as a machine did it. A model's figures are simulated, and never a measurement. */
#ifndef RM_NOISE_H
#define RM_NOISE_H
#include "base/rng.h"
#include <stdbool.h>

/* Of the logarithm of a run's median step time. In all but IID several kinds of trouble come together with plain noise. */
typedef enum rm_noise_model {
    RM_NOISE_IID,          /* normal, 1 % */
    RM_NOISE_DRIFT,        /* AR(1) with coefficient 0.95 from run to run: neighbours tell of each other */
    RM_NOISE_BIMODAL,      /* now and then the machine is 5 % slower for some runs: another clock, another tenant */
    RM_NOISE_SPIKES,       /* one run of ten is slower by an exponential 10 % */
    RM_NOISE_SECOND_RUN,   /* the second run of a pair is 0.5 % slower */
    RM_NOISE_TIES,         /* rounded to 0.5 %: a coarse clock */
    RM_NOISE_MODELS
} rm_noise_model;
const char *rm_noise_name(rm_noise_model m);

/* A machine in time, measured: n runs of one program, one after the other; y: the logarithm of each one's median, x: of `steps` steps of each, n x steps;
 * NULL and 0 for none. */
typedef struct rm_noise_tape { const double *y, *x; int n, steps; } rm_noise_tape;

/* A machine in time. change: ln(B / A), 0 for no change. at: the run of the tape that comes next. */
typedef struct rm_noise { rm_noise_model model; double change, drift; int slow_left; rm_rng rng; const rm_noise_tape *tape; int at; } rm_noise;
rm_noise rm_noise_begin(rm_noise_model m, double change, uint64_t seed, uint64_t trial);
/* The runs of the tape from `at` on, which must not end before the last one asked for; what is B's is slower by `change`. */
rm_noise rm_noise_replay(const rm_noise_tape *tape, int at, double change, uint64_t seed);
/* One run of side B or A; second: of a pair. */
double   rm_noise_run(rm_noise *n, bool is_b, bool second);
/* One run, step by step: `count` of them, at most the tape's. A model's steps are normal by 1 % within the run. */
void     rm_noise_steps(rm_noise *n, bool is_b, bool second, int count, double *x);
/* One pair in random order: ln(B) - ln(A). */
double   rm_noise_pair(rm_noise *n);
#endif
