/* Learning rates as functions of the step. W: warm-up steps, T: all steps, i: this step from 0, r = (i - W) / (T - W).
 *
 * warm-up    start + (lr - start) (i + 1) / W: reaches lr with its last step and never trains at 0
 *            (Goyal et al., arXiv:1706.02677; MindSpore ModelZoo, lr_generator.py)
 * step       lr gamma^floor(epochs done / step_epochs) (He et al., arXiv:1512.03385); epochs count from the start, warm-up included
 * linear     lr - (lr - end) r
 * cosine     end + (lr - end) (1 + cos(pi r)) / 2 (Loshchilov and Hutter, arXiv:1608.03983; NVIDIA DeepLearningExamples)
 * ms-cosine  lr ((T - i) / D (1 + cos(2 pi 0.47 i / D)) / 2 + 1e-5), D = T - W (MindSpore ModelZoo, _generate_cosine_lr:
 *            i is not shifted by W there either)
 * poly       end + (lr - end) (1 - max(1, i - W) / (T - W + 1))^power (MLPerf training, LARS reference of ResNet-50) */
#include "model/recipe.h"
#include <math.h>
#include <string.h>

typedef struct place { double i, warmup, total, steps_per_epoch; } place;
typedef double decay_fn(const rm_recipe *r, const place *p);

static double ratio(const place *p) { return p->total > p->warmup ? (p->i - p->warmup) / (p->total - p->warmup) : 1; }

static double decay_constant(const rm_recipe *r, const place *p) { return r->lr; }

static double decay_step(const rm_recipe *r, const place *p)
{
    double per_factor = p->steps_per_epoch * r->step_epochs;
    return per_factor > 0 ? r->lr * pow(r->step_gamma, floor(p->i / per_factor)) : r->lr;
}

static double decay_linear(const rm_recipe *r, const place *p) { return r->lr - (r->lr - r->lr_end) * ratio(p); }
static double decay_cosine(const rm_recipe *r, const place *p) { return r->lr_end + (r->lr - r->lr_end) * 0.5 * (1 + cos(M_PI * ratio(p))); }

static double decay_ms_cosine(const rm_recipe *r, const place *p)
{
    double d = p->total > p->warmup ? p->total - p->warmup : 1;
    return r->lr * ((p->total - p->i) / d * 0.5 * (1 + cos(M_PI * 2 * 0.47 * p->i / d)) + 0.00001);
}

static double decay_poly(const rm_recipe *r, const place *p)
{
    double done = fmax(1, p->i - p->warmup) / (p->total - p->warmup + 1);
    return r->lr_end + (r->lr - r->lr_end) * pow(fmax(0, 1 - done), r->poly_power);
}

static const struct { const char *name; decay_fn *decay; } schedules[] = {
    [RM_SCHED_CONSTANT] = { "constant", decay_constant },
    [RM_SCHED_STEP] = { "step", decay_step },
    [RM_SCHED_LINEAR] = { "linear", decay_linear },
    [RM_SCHED_COSINE] = { "cosine", decay_cosine },
    [RM_SCHED_MS_COSINE] = { "ms-cosine", decay_ms_cosine },
    [RM_SCHED_POLY] = { "poly", decay_poly },
};

double rm_recipe_lr(const rm_recipe *r, uint64_t step, uint64_t steps_per_epoch, uint64_t total_steps, uint32_t actual_global_batch)
{
    double scale = r->lr_scale ? (double)actual_global_batch / r->global_batch : 1;
    if (step >= total_steps) step = total_steps ? total_steps - 1 : 0; /* past the end the last rate stays */
    place p = { .i = (double)step, .total = (double)total_steps, .steps_per_epoch = (double)steps_per_epoch,
                .warmup = floor(r->warmup_epochs * (double)steps_per_epoch + 0.5) };
    if (p.i < p.warmup) return scale * (r->warmup_start_lr + (r->lr - r->warmup_start_lr) * (p.i + 1) / p.warmup);
    for (size_t i = 0; i < RM_COUNT(schedules); i++)
        if (!strcmp(r->schedule, schedules[i].name)) return scale * schedules[i].decay(r, &p);
    RM_BUG("a recipe with an unknown schedule");
}
