#include "profiler/noise.h"
#include "base/status.h"
#include <math.h>

static const char *const names[RM_NOISE_MODELS] = {
    [RM_NOISE_IID] = "iid", [RM_NOISE_DRIFT] = "drift", [RM_NOISE_BIMODAL] = "bimodal", [RM_NOISE_SPIKES] = "spikes", [RM_NOISE_SECOND_RUN] = "second run", [RM_NOISE_TIES] = "ties",
};

const char *rm_noise_name(rm_noise_model m)
{
    RM_ASSERT((unsigned)m < RM_NOISE_MODELS);
    return names[m];
}

rm_noise rm_noise_begin(rm_noise_model m, double change, uint64_t seed, uint64_t trial)
{
    return (rm_noise){ .model = m, .change = change, .rng = rm_rng_for(seed, 0x6e6f697365u + (uint64_t)m, trial) };
}

rm_noise rm_noise_replay(const rm_noise_tape *tape, int at, double change, uint64_t seed)
{
    return (rm_noise){ .tape = tape, .at = at, .change = change, .rng = rm_rng_for(seed, 0x74617065u, (uint64_t)at) };
}

static double drift(rm_noise *n)
{
    n->drift = 0.95 * n->drift + 0.005 * rm_rng_normal(&n->rng);
    return n->drift;
}

static double slow_phase(rm_noise *n)
{
    if (n->slow_left) n->slow_left--;
    else if (!rm_rng_below(&n->rng, 10)) n->slow_left = 1 + (int)rm_rng_below(&n->rng, 6);
    return n->slow_left ? 0.05 : 0;
}

static double spike(rm_noise *n) { return rm_rng_below(&n->rng, 10) ? 0 : -0.1 * log(1 - rm_rng_unit(&n->rng)); }

double rm_noise_run(rm_noise *n, bool is_b, bool second)
{
    static const double sigma[RM_NOISE_MODELS] = { 0.01, 0.004, 0.006, 0.006, 0.006, 0.006 };
    if (n->tape) {
        RM_ASSERT(n->at < n->tape->n);
        return n->tape->y[n->at++] + (is_b ? n->change : 0);
    }
    double y = (is_b ? n->change : 0) + sigma[n->model] * rm_rng_normal(&n->rng);
    if (n->model == RM_NOISE_DRIFT) y += drift(n);
    if (n->model == RM_NOISE_BIMODAL) y += slow_phase(n);
    if (n->model == RM_NOISE_SPIKES) y += spike(n);
    if (n->model == RM_NOISE_SECOND_RUN && second) y += 0.005;
    return n->model == RM_NOISE_TIES ? 0.005 * round(y / 0.005) : y;
}

void rm_noise_steps(rm_noise *n, bool is_b, bool second, int count, double *x)
{
    const double *step = n->tape ? n->tape->x + (size_t)n->at * (size_t)n->tape->steps : NULL;
    const double y = rm_noise_run(n, is_b, second);
    RM_ASSERT(!step || count <= n->tape->steps);
    for (int i = 0; i < count; i++) x[i] = step ? step[i] + (is_b ? n->change : 0) : y + 0.01 * rm_rng_normal(&n->rng);
}

double rm_noise_pair(rm_noise *n)
{
    const bool b_first = rm_rng_u32(&n->rng) & 1;
    const double one = rm_noise_run(n, b_first, false), two = rm_noise_run(n, !b_first, true);
    return b_first ? one - two : two - one;
}
