/* Training to an accuracy: epochs, evaluation, checkpoints, resume. Every rank calls it; rank 0 writes and talks. */
#ifndef RM_TRAIN_H
#define RM_TRAIN_H
#include "model/step_trace.h"

typedef struct rm_epoch_row { uint64_t epoch; double time_s, train_loss, images_per_s, lr; bool evaluated; double top1, top5, eval_loss; } rm_epoch_row;

typedef struct rm_train_config {
    const rm_recipe *recipe;
    const rm_dataset *data;          /* NULL: synthetic images, no evaluation */
    int32_t  classes, batch, workers, eval_batch;
    rm_dtype dtype;
    uint64_t seed, max_steps;        /* max_steps 0: the recipe's epochs */
    double   epochs, target_top1;    /* percent; stops when reached; 0: none */
    const char *save_dir;            /* "": no checkpoints */
    uint64_t save_every_steps;       /* 0: every epoch */
    int32_t  keep;
    bool     resume, no_fuse, no_record, update_on_arrival;
    rm_counters *counters;           /* the caller's; NULL: steps are not counted */
    rm_gpu_watch *watch;             /* likewise, of this rank's GPU */
    rm_step_trace trace;
    rm_split_order split_order;      /* how indices of `split` count */
    const char *split, *mllog;       /* mllog: file for :::MLLOG lines, "" none */
    rm_bad_policy bad; double max_bad;
    uint64_t start_ns;               /* the clock of time to accuracy: before the data set was first touched */
    int    (*interrupted)(void);     /* non-zero: finish the step, save, return RM_E_INTERRUPTED */
    /* Rank 0 after each step and save: steps done, newest checkpoint ("" none). NULL: nobody asks. */
    void   (*after_step)(void *ctx, uint64_t step, const char *newest);
    void    *after_step_ctx;
} rm_train_config;

typedef struct rm_train_result {
    uint64_t steps, images, skipped_images;
    double   run_s, train_s, eval_s, final_top1, final_top5, final_loss, time_to_accuracy_s; /* negative: not reached */
    double   images_per_s;           /* over steady training, first epoch and evaluation apart; see first_epoch_images_per_s */
    double   first_images_per_s;
    bool     evaluated, not_saved;   /* not_saved: a checkpoint could not be written */
    bool     trace_cut;              /* a trace was not written, or not whole */
    char     trace_file[RM_TRACE_PATH]; /* rank 0's; "": none was written */
    rm_kernel_times trace_times;     /* of this rank's trace */
    rm_perturbation trace_cost;      /* of this rank's traced steps over the others of the same image size but the first; n 0: there were none of either */
    rm_epoch_row *epoch; uint32_t n_epoch;
    double  *step_s, *loss, *disturbed; int32_t *step_px; rm_gpu_reading *gpu; uint64_t n_step; /* every raw step; disturbed: 1 where other work took this rank's cores, else 0 */
    rm_budget total;                 /* sums over the steps, of this rank */
    rm_counts counts;                /* likewise */
    char     newest[544];            /* newest checkpoint, "" none */
    uint64_t resumed_from;
} rm_train_result;

rm_status rm_train(rm_device *d, rm_comm *comm, const rm_train_config *cfg, rm_train_result *out) RM_CHECKED;
void      rm_train_result_free(rm_train_result *r);
#endif
