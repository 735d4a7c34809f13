/* Noise: what shared machines do to step times, as models to try a gate on. A model's figures are simulated, and never a measurement. */
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

/* A machine in time. change: ln(B / A), 0 for no change. */
typedef struct rm_noise { rm_noise_model model; double change, drift; int slow_left; rm_rng rng; } rm_noise;
rm_noise rm_noise_begin(rm_noise_model m, double change, uint64_t seed, uint64_t trial);
/* One run of side B or A; second: of a pair. */
double   rm_noise_run(rm_noise *n, bool is_b, bool second);
/* One pair in random order: ln(B) - ln(A). */
double   rm_noise_pair(rm_noise *n);
#endif
