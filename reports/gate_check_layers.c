/* Layers on trial: a network of layers that share the noise of their run, and have some of their own. */
#include "reports/gate_check.h"
#include "reports/gate_layers.h"
#include <math.h>
#include <stdio.h>

enum { LAYERS = 60, PAIRS = 16, SLOWED = 17, FLIPS = 1000 };
static const double own_noise = 0.01, slowed_share = 0.05, slower_by = 0.10;

/* A layer's part of the step: a few long ones and many short ones. */
static double part_of(int layer)
{
    double sum = 0;
    for (int i = 0; i < LAYERS; i++) sum += i == SLOWED ? 0 : 1.0 / (1 + i);
    return layer == SLOWED ? slowed_share : (1 - slowed_share) / (1 + layer) / sum;
}

/* One pair: d of each layer into column `at` of d (LAYERS, PAIRS); returns d of the step. */
static double pair_of(rm_noise *noise, double change, double *d, int at)
{
    const double common = rm_noise_pair(noise);
    double a = 0, b = 0;
    for (int i = 0; i < LAYERS; i++) {
        const double own_a = own_noise * rm_rng_normal(&noise->rng), own_b = own_noise * rm_rng_normal(&noise->rng), slower = i == SLOWED ? change : 0;
        d[i * PAIRS + at] = common + slower + own_b - own_a;
        a += part_of(i) * exp(own_a);
        b += part_of(i) * exp(own_b + slower + common);
    }
    return log(b / a);
}

typedef struct layer_tally {
    int found, others, by_chance; /* by_chance: a layer without change has p below alpha, whatever its size */
    double step;
} layer_tally;

static rm_status trial(const rp_check_config *c, rm_noise_model m, double change, int number, layer_tally *t)
{
    double d[LAYERS * PAIRS], step[PAIRS];
    rp_layer_rule rule = rp_layer_rule_usual;
    rp_layer_judged out[LAYERS];
    rm_noise noise = rm_noise_begin(m, 0, c->seed + 4, (uint64_t)number);
    rm_paired whole;
    bool other = false, chance = false;
    rule.flips = FLIPS;
    rule.seed = (uint64_t)number;
    for (int i = 0; i < PAIRS; i++) step[i] = pair_of(&noise, change, d, i);
    RM_TRY(rp_gate_layers(&rule, d, LAYERS, PAIRS, out));
    RM_TRY(rm_paired_of(step, PAIRS, 0.01, &whole));
    for (int i = 0; i < LAYERS; i++) {
        const bool changed = i == SLOWED && change > 0;
        other |= !changed && out[i].named;
        chance |= !changed && out[i].p <= rule.alpha;
    }
    t->found += out[SLOWED].named;
    t->others += other;
    t->by_chance += chance;
    t->step += whole.delta;
    return RM_OK;
}

rm_status rp_check_layers(const rp_check_config *c, rp_findings *f)
{
    static const rm_noise_model model[] = { RM_NOISE_IID, RM_NOISE_DRIFT, RM_NOISE_BIMODAL, RM_NOISE_SPIKES };
    for (size_t m = 0; m < RM_COUNT(model); m++)
        for (int slowed = 0; slowed < 2; slowed++) {
            const int trials = slowed ? (c->trials + 2) / 3 : c->trials; /* what is rare takes more of them to see */
            const double most = rp_most_by_chance(0.01, trials);
            layer_tally t = { 0 };
            char name[64];
            for (int i = 0; i < trials; i++) {
                if (i % 16 == 0) RM_TRY(rp_check_stop(c));
                RM_TRY(trial(c, model[m], slowed ? log1p(slower_by) : 0, i, &t));
            }
            const double found = (double)t.found / trials, others = (double)t.others / trials, chance = (double)t.by_chance / trials;
            json_t *more = json_pack("{s:f, s:f, s:f, s:f, s:i, s:i}", "found", found, "others", others, "by_chance", chance, "step_change",
                                     expm1(t.step / trials), "layers", LAYERS, "pairs", PAIRS);
            snprintf(name, sizeof name, "%s, %s", rm_noise_name(model[m]), slowed ? "one layer 10 % slower" : "no change");
            if (!slowed)
                RM_TRY(rp_find(f, "layers", name, chance <= most, chance, most, trials, more,
                               "a layer of %d beyond chance in %d of %d, at most %.2f %%; named in %d", LAYERS, t.by_chance, trials, 100 * most, t.others));
            else
                RM_TRY(rp_find(f, "layers", name, found >= 0.95 && others <= most, found, 0.95, trials, more,
                               "named in %.1f %% of %d, another one in %.2f %%; the step moved by %.2f %%", 100 * found, trials, 100 * others,
                               100 * expm1(t.step / trials)));
        }
    return RM_OK;
}
