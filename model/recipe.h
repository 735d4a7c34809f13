/* Recipes: how a network is trained, as text files in model/recipes/ ("key = value", # comments), one per published or
 * embedded training. Built into the program (model/recipes/NAME.recipe), or a path. Unknown keys, values out of range and
 * missing files are errors naming file, line and key. The table in recipe.c is parser, printer, range check and echo. */
#ifndef RM_RECIPE_H
#define RM_RECIPE_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum rm_schedule { RM_SCHED_CONSTANT, RM_SCHED_STEP, RM_SCHED_LINEAR, RM_SCHED_COSINE, RM_SCHED_MS_COSINE, RM_SCHED_POLY } rm_schedule;
typedef enum rm_rrc { RM_CROP_RANDOM_RESIZED, RM_CROP_RESIZE } rm_crop;

enum { RM_RECIPE_STAGES = 8 };
typedef struct rm_recipe {
    char     name[64];
    char     summary[160];
    int32_t  depth;             /* 50, 101, 152 */
    char     variant[8];        /* "v1", "v1.5" */
    int32_t  px;                /* training crop */
    int32_t  eval_px, eval_resize; /* centre crop; shorter side before it */
    int32_t  batch;             /* per device, default */
    int32_t  global_batch;      /* what the learning rate is meant for (ranks x batch x accumulation) */
    double   epochs;            /* may be a fraction */
    char     optimizer[8];      /* "sgd", "lars" */
    double   lr;                /* peak, at global_batch */
    bool     lr_scale;          /* scale lr linearly when the actual global batch differs (printed) */
    double   warmup_epochs, warmup_start_lr;
    char     schedule[16];      /* names of rm_schedule: constant step linear cosine ms-cosine poly */
    double   lr_end;            /* final value */
    double   poly_power;
    double   step_gamma; int32_t step_epochs; /* step: lr *= gamma every step_epochs */
    double   momentum; bool nesterov;
    double   weight_decay; bool decay_bn, decay_bias; /* decay_bias: fc.bias */
    double   lars_eta;
    double   label_smoothing;
    double   loss_scale;
    int32_t  accumulate;        /* micro-batches a step */
    double   bn_eps, bn_momentum; bool bn_biased, bn_frozen;
    bool     zero_init_last_gamma;
    char     init[16];          /* he-fan-in, he-fan-out, trunc-normal (MindSpore) */
    double   crop_scale_min, crop_scale_max, crop_ratio_min, crop_ratio_max;
    bool     flip;
    double   mean[3], std[3];   /* 0..1 */
    int32_t  eval_every;        /* epochs; 0: at the end */
    double   target_top1;       /* percent; 0: none */
    char     split[64];         /* all-reduce split */
    char     progressive[96];   /* "16x1.0 24x0.5 32x0.5": px x epochs, in order; "" : off */
    double   published_top1;    /* percent; 0: none */
    char     source[160];       /* where the published figure comes from */
} rm_recipe;

void      rm_recipe_defaults(rm_recipe *r);
/* name_or_path: a built-in name, or a path (contains '/' or ends in ".recipe"). */
rm_status rm_recipe_load(const char *name_or_path, rm_recipe *out_recipe) RM_CHECKED;
/* The parser behind rm_recipe_load(): `where` names the text in messages. Starts from the defaults. */
rm_status rm_recipe_parse(const char *text, size_t bytes, const char *where, rm_recipe *out_recipe) RM_CHECKED;
/* Sets one key as a file's line would ("lr", "0.1"). */
rm_status rm_recipe_set(rm_recipe *r, const char *key, const char *value) RM_CHECKED;
/* Calls fn for every key in table order with its value as text: echo, JSON, checkpoint. */
void      rm_recipe_each(const rm_recipe *r, void (*fn)(void *ctx, const char *key, const char *value, const char *help), void *ctx);
const char *const *rm_recipe_names(void); /* built in, NULL-terminated */
/* What several keys say together (crop_scale_min <= crop_scale_max, ...); files are checked, changes by rm_recipe_set() are not. */
rm_status rm_recipe_check(const rm_recipe *r) RM_CHECKED;
/* `progressive` as stages: px[RM_RECIPE_STAGES], epochs[RM_RECIPE_STAGES]; *n = 0 when it is off. */
rm_status rm_recipe_stages(const rm_recipe *r, int32_t *px, double *epochs, uint32_t *n) RM_CHECKED;

/* Learning rate of optimiser step `step` (0-based) out of steps_per_epoch * epochs. Sources of the formulas in schedule.c. */
double    rm_recipe_lr(const rm_recipe *r, uint64_t step, uint64_t steps_per_epoch, uint64_t total_steps, uint32_t actual_global_batch);
#endif
