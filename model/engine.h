/* Engine: one rank's training step, from a batch of u8 images to updated weights, and what each part of it cost.
 * Data parallel: gradients are summed over the ranks of `comm` bucket by bucket (`split`) after backward and scaled once.
 * Threads: one at a time. device, comm and recipe are the caller's and must outlive the engine. */
#ifndef RM_ENGINE_H
#define RM_ENGINE_H
#include "kernels/comm/comm.h"
#include "model/input/input.h"
#include "model/net.h"
#include "model/recipe.h"

typedef struct rm_engine_config {
    const rm_recipe *recipe;
    rm_dtype dtype;
    int32_t  px, batch, classes;   /* batch: images of a micro-batch of this rank */
    bool     no_fuse, timers, input_f32;
    const char *split;             /* all-reduce split */
    uint64_t seed;
} rm_engine_config;

typedef struct rm_engine {
    rm_device *device;
    rm_comm   *comm;               /* NULL: alone */
    rm_engine_config cfg;
    rm_graph   graph, eval_graph;
    rm_params  params;
    rm_net    *net, *eval;
    rm_span   *bucket; uint32_t n_bucket;
    rm_request **request;
} rm_engine;

/* Where a step's nanoseconds went on this rank; the terms sum to step_ns exactly, by construction. */
typedef struct rm_step {
    uint64_t step_ns, compute_ns, comm_ns, copy_ns, input_ns, host_ns;
    uint64_t begin_ns;
    double   loss;
} rm_step;

rm_status rm_engine_new(rm_device *d, rm_comm *comm, const rm_engine_config *cfg, rm_engine *out) RM_CHECKED;
/* For evaluation and inference alone: no gradients, no momentum; cfg.px and cfg.batch are those of evaluation. */
rm_status rm_engine_new_eval(rm_device *d, rm_comm *comm, const rm_engine_config *cfg, rm_engine *out) RM_CHECKED;
void      rm_engine_free(rm_engine *e);
/* Changes the image size; parameters stay. */
rm_status rm_engine_resize(rm_engine *e, int32_t px) RM_CHECKED;

/* Where batches come from. next() gives a batch valid until release(); wait_ns is the stall. NULL *out: the end. */
typedef struct rm_source {
    rm_status (*next)(void *ctx, rm_batch **out, uint64_t *wait_ns);
    void      (*release)(void *ctx, rm_batch *b);
    void      *ctx;
} rm_source;
rm_source rm_source_loader(rm_loader *l);
/* One random batch (seed) that never ends: no input at all. */
typedef struct rm_synthetic { rm_batch batch; } rm_synthetic;
rm_status rm_synthetic_new(int32_t n, int32_t px, int32_t classes, uint64_t seed, rm_synthetic *out) RM_CHECKED;
void      rm_synthetic_free(rm_synthetic *s);
rm_source rm_source_synthetic(rm_synthetic *s);

/* One optimiser step (recipe.accumulate micro-batches). RM_E_NUMERIC names the layer whose gradient is not finite.
 * out->loss is the mean over this rank's images. Sync. */
rm_status rm_engine_step(rm_engine *e, const rm_source *src, uint64_t step, double lr, rm_step *out) RM_CHECKED;

/* Evaluation of a part in batches of `batch`; every image exactly once over all ranks (asserted by count). */
typedef struct rm_eval_result { uint64_t images, top1, top5, skipped; double loss, seconds; } rm_eval_result;
rm_status rm_engine_eval(rm_engine *e, const rm_dataset *ds, int32_t batch, int32_t workers, rm_bad_policy bad, double max_bad, rm_eval_result *out) RM_CHECKED;
/* Averages the running statistics over ranks (collective). */
rm_status rm_engine_average_stats(rm_engine *e) RM_CHECKED;

/* ---- checkpoints of an engine */
typedef struct rm_train_state { uint64_t step, seed, global_batch; char recipe[64]; double best_top1, trained_s; } rm_train_state;
rm_status rm_engine_save(rm_engine *e, const char *base, const rm_train_state *s) RM_CHECKED;          /* rank 0 only */
rm_status rm_engine_load(rm_engine *e, const char *base, bool with_state, rm_train_state *out) RM_CHECKED;
/* torchvision's dims of parameter i: (O, I, KH, KW), fc (O, I), vectors (C). Returns their number. */
int32_t   rm_param_dims(const rm_graph *g, int32_t i, int64_t dim[4]);
/* Classes and depth of a model file, to build a graph for it. RM_E_FORMAT when it is no ResNet. */
rm_status rm_ckpt_probe(const char *path, int32_t *depth, int32_t *classes) RM_CHECKED;
#endif
