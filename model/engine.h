/* Engine: one rank's training step, from a batch of u8 images to updated weights, and what each part of it cost.
 * Data parallel: gradients are summed over the ranks of `comm` bucket by bucket (`split`), each bucket as soon as backward has its
 * last gradient, and scaled once by the optimiser. With accumulation the sums are there only at the end of the last backward, so
 * that nothing overlaps.
 * Threads: one at a time. device, comm and recipe are the caller's and must outlive the engine. */
#ifndef RM_ENGINE_H
#define RM_ENGINE_H
#include "kernels/comm/comm.h"
#include "model/input/input.h"
#include "model/net.h"
#include "model/parallel/buckets.h"
#include "model/recipe.h"
#include "profiler/budget.h"
#include "profiler/counters.h"
#include "profiler/gpu_watch.h"
#include "profiler/trace.h"

typedef struct rm_engine_config {
    const rm_recipe *recipe;
    rm_dtype dtype;
    int32_t  px, batch, classes;   /* batch: images of a micro-batch of this rank */
    bool     no_fuse, timers, input_f32;
    bool     no_record;            /* steps are enqueued op by op even where the device could run a recording */
    const char *split;             /* all-reduce split; "" is single */
    rm_split_order split_order;
    bool     update_on_arrival;    /* each bucket is updated as its sum arrives, not all after the last: the same weights, bit for bit */
    uint64_t seed;
} rm_engine_config;

/* Known trouble, to prove that the measurement finds it (--inject, profile --sensitivity): this rank's batches come later, its forward
 * computes longer, its last all-reduce takes longer; op `node` (rm_net_set_delay()) keeps the queue busy for node_ns more, within its own
 * span, in every micro-batch; bucket `bucket` takes bucket_ns longer. step_share: after each step the host is busy for that share of what it
 * took, within it; node_share: the share of op `node`, from the second step on, which sets node_ns and needs layer timers. */
typedef struct rm_inject { uint64_t input_ns, compute_ns, link_ns, node_ns, bucket_ns; int32_t node, bucket; double step_share, node_share; } rm_inject;

typedef struct rm_engine {
    rm_device *device;
    rm_comm   *comm;               /* NULL: alone */
    rm_engine_config cfg;
    rm_graph   graph, eval_graph;
    rm_params  params;
    rm_net    *net, *eval;
    rm_buckets buckets;
    rm_reduce_mode mode;           /* RM_REDUCE_OVERLAPPED unless the caller sets another between steps */
    rm_inject  inject;             /* likewise; all zero */
    rm_classes classes;            /* of the last step: what rm_step.budget was made of */
    uint64_t   host_from_ns;       /* the host is at work since then */
    struct rm_feed *feed;          /* the next batch on its way; NULL: none (the device is the host, or gradients are accumulated) */
    const void *feed_source;       /* whose batch that is */
    rm_recording *recording[RM_REDUCE_MODES];
    int32_t    warm;               /* steps since the last change */
    bool       unrecorded;         /* rm_engine_set_recording() */
    char      *split;              /* what the buckets are cut by; NULL: not yet */
    rm_split_order split_order;
    struct rm_engine_trace *trace; /* engine_trace.c; NULL: none */
    bool       trace_paused;       /* the caller's, between steps: those that follow are not traced */
    rm_counters *counters;         /* the caller's; NULL: steps are not counted */
    rm_gpu_watch *watch;           /* likewise; NULL: nobody looks whether the GPU is throttled */
} rm_engine;

/* Where a step's nanoseconds went on this rank. Without layer timers computing cannot be told from the host's own work. */
typedef struct rm_step {
    uint64_t  begin_ns, step_ns;                  /* the window: step_ns == budget.window_ns */
    rm_budget budget;                             /* adds up to step_ns, by construction */
    uint64_t  enqueued_ns;                        /* the host had enqueued all of it; 0 where it computes itself */
    uint64_t  forward_end_ns, backward_end_ns;    /* when the compute thread, or queue, was done with them, rm_now_ns(); with the queue */
    uint64_t  update_begin_ns;                    /* ... and without layer timers: the end of the step */
    uint64_t  blocking_ns;                        /* the update waited for the last all-reduces: what the critical path holds of them */
    rm_counts counts;                             /* read before and after the window; -1 everywhere without counters */
    rm_gpu_reading gpu;                           /* of the same moments; -1 everywhere without a watch */
    uint64_t  counting_ns;                        /* what those readings took, and recording the step before it began, beside step_ns */
    double    loss;
} rm_step;

rm_status rm_engine_new(rm_device *d, rm_comm *comm, const rm_engine_config *cfg, rm_engine *out) RM_CHECKED;
/* For evaluation and inference alone: no gradients, no momentum; cfg.px and cfg.batch are those of evaluation. */
rm_status rm_engine_new_eval(rm_device *d, rm_comm *comm, const rm_engine_config *cfg, rm_engine *out) RM_CHECKED;
void      rm_engine_free(rm_engine *e);
/* Changes the split between steps; the same one again changes nothing. RM_E_ARG as rm_split_parse(); the old one stays then. */
rm_status rm_engine_set_split(rm_engine *e, const char *spec, rm_split_order order) RM_CHECKED;
/* Writes every later step into `trace` (NULL: stop). Needs layer timers. The trace is the caller's. */
rm_status rm_engine_set_trace(rm_engine *e, rm_trace *trace) RM_CHECKED;
/* Where the times of a trace's device work are from: CUPTI (profiler/cupti.h), or the device's marks around each op, and `why`. The rest is CUPTI's. */
typedef struct rm_kernel_times {
    bool     cupti;
    char     why[240];
    uint64_t steps, kernels, unattributed; /* in the trace; kernels that are part of nothing */
    uint64_t by_order;             /* all-reduces whose bucket is known by their order */
    uint64_t left_out, dropped, untimed, cut; /* steps that are not in the trace, and what their records lacked */
    uint64_t overhead_ns, step_ns; /* CUPTI's own, in these steps, and their sum */
} rm_kernel_times;
void      rm_engine_get_kernel_times(const rm_engine *e, rm_kernel_times *out); /* of the trace that is on */
/* Marks around every op, or none, between steps; as it is already, nothing changes. Sync. */
rm_status rm_engine_set_timers(rm_engine *e, bool on) RM_CHECKED;
/* Whether steps are run from a recording where they can be, from the next step on; returns what it was. Whoever compares steps switches it off for all
 * of them: some (a barrier in the middle, trouble injected, a trace) can only be enqueued op by op. Alike on all ranks: NCCL wants that of its calls.
 * A recording is made before the window of the step that needs it; where that fails on any rank, all say so once and go on op by op. */
bool      rm_engine_set_recording(rm_engine *e, bool on);
/* Changes the image size; parameters stay. */
rm_status rm_engine_resize(rm_engine *e, int32_t px) RM_CHECKED;

/* Where batches come from. next() gives a batch valid until release(); wait_ns is the stall. NULL *out: the end. */
typedef struct rm_source {
    rm_status (*next)(void *ctx, rm_batch **out, uint64_t *wait_ns);
    void      (*release)(void *ctx, rm_batch *b);
    void      *ctx;
    int32_t   (*ready)(void *ctx);  /* batches that wait to be taken; NULL: there is no ring */
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
