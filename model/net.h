/* Net: a graph lowered onto a device: ops in order, tensors placed by liveness in one arena, nothing allocated afterwards.
 *
 * A training net runs prologue (weights to the layouts and type that the convolutions read), forward, loss, backward,
 * [accumulate], optimise; an evaluation net prologue and forward with running statistics. Several nets (training and
 * evaluation, several image sizes) may share one rm_params, whose layouts the first training net decides.
 * Threads: one at a time. Ownership: the net owns its plans, activations and staging; params and graph are the caller's. */
#ifndef RM_NET_H
#define RM_NET_H
#include "model/graph.h"
#include "model/params.h"
#include "profiler/cupti.h"

typedef enum rm_pass { RM_PASS_INPUT, RM_PASS_WEIGHTS /* prologue reorders */, RM_PASS_FWD, RM_PASS_LOSS, RM_PASS_BWD_DATA, RM_PASS_BWD_WEIGHTS,
                       RM_PASS_BWD, RM_PASS_ACCUMULATE, RM_PASS_UPDATE, RM_PASS_COUNT } rm_pass;
const char *rm_pass_name(rm_pass p);   /* "fwd", "bwd_data", ... as in bench layers */

typedef struct rm_net_config {
    rm_dtype dtype;             /* of activations: RM_F32, RM_BF16; on ref RM_F64 */
    bool     training;
    bool     input_f32;         /* images come as (N, 3, H, W) f32, already normalised (bench step); else u8 (N, H, W, 3) */
    double   mean[3], std[3];   /* of u8 input, in units of 0..1 */
    double   bn_eps, bn_momentum; bool bn_biased, bn_frozen; /* frozen: running statistics are used and stay as they are */
    double   label_smoothing, loss_scale;
    rm_optimizer optimizer; bool nesterov;
    bool     accumulate;        /* gradients of several micro-batches are summed before the update */
} rm_net_config;

/* One op of the program with what it costs and when it ran. */
typedef struct rm_node {
    rm_op        op;
    rm_plan     *plan;
    rm_plan_info info;
    rm_args      args;
    int32_t      layer;         /* graph layer, -1: none */
    rm_pass      pass;
    char         name[RM_NAME_MAX + 16];
    int32_t      ready;         /* gradients complete after this node: ready positions 0..ready-1 */
    rm_mark     *begin, *end;   /* NULL without timers */
    uint64_t     launch_ns, launched_ns; /* the host began and ended enqueueing it, the last time that rm_net_note_launches() was on */
} rm_node;

typedef struct rm_net rm_net;
/* params: zero-initialised by the caller and built here when `own_params` (a first net), else shared. */
rm_status rm_net_new(rm_device *d, const rm_graph *g, const rm_net_config *cfg, rm_params *params, const rm_params_config *params_cfg, rm_net **out) RM_CHECKED;
void      rm_net_free(rm_net *net);
rm_device *rm_net_device(const rm_net *net);
const rm_graph *rm_net_graph(const rm_net *net);

/* What it will take, before memory is taken: for --dry-run. */
typedef struct rm_net_size { uint64_t activation_bytes, activation_naive_bytes, workspace_bytes, weight_copy_bytes, params_bytes, flops, bytes; int32_t ops, reorders; } rm_net_size;
void      rm_net_get_size(const rm_net *net, rm_net_size *out);

/* ---- one step. All asynchronous on the compute queue; host memory must stay valid until rm_net_finish(). */
rm_status rm_net_set_images_u8(rm_net *net, const uint8_t *image, const uint8_t *flip, int32_t n) RM_CHECKED; /* n <= batch: the rest is left as it was */
rm_status rm_net_set_images_f32(rm_net *net, const float *image) RM_CHECKED;      /* whole batch (N, 3, H, W) */
rm_status rm_net_set_labels(rm_net *net, const int32_t *label, int32_t n) RM_CHECKED;
rm_status rm_net_set_hyper(rm_net *net, double lr, double momentum, double decay, double grad_scale, double eta) RM_CHECKED;
/* The same in two halves: the values, and their copy to the device. A recorded step (kernels/device.h) has the second in it. */
void      rm_net_note_hyper(rm_net *net, double lr, double momentum, double decay, double grad_scale, double eta);
rm_status rm_net_write_hyper(rm_net *net) RM_CHECKED;
rm_status rm_net_prologue(rm_net *net) RM_CHECKED;   /* once a step, and before evaluation after weights changed */
rm_status rm_net_forward(rm_net *net) RM_CHECKED;    /* input, layers, loss when training */
/* `first`: gradients replace the sum, else they are added. after_node (may be NULL) is called after each backward node is
 * enqueued: where the overlap engine starts buckets. */
typedef rm_status rm_node_fn(void *ctx, const rm_node *node);
rm_status rm_net_backward(rm_net *net, bool first, rm_node_fn *after_node, void *ctx) RM_CHECKED;
rm_status rm_net_update(rm_net *net) RM_CHECKED;
/* The update in parts: part i holds gradients last[i-1]+1 .. last[i] in ready order, and may run as soon as their sums are there. Plans
 * them (slow); n = 0 forgets them. What rm_net_nonfinite() says covers all parts that ran. SGD and LARS work on one parameter at a
 * time, so that the result is the same, bit for bit. */
rm_status rm_net_cut_update(rm_net *net, const uint32_t *last, uint32_t n) RM_CHECKED;
rm_status rm_net_update_part(rm_net *net, uint32_t i) RM_CHECKED;
/* Known trouble: node i (as in rm_net_nodes()) keeps the queue busy for ns more, after its op and within its marks, every time it runs
 * from now on; 0 switches off. One node at a time. With the update in parts the update's node is its last part. Running it fails with
 * RM_E_UNSUPPORTED on a device that cannot spin. */
void      rm_net_set_delay(rm_net *net, int32_t i, uint64_t ns);
rm_status rm_net_finish(rm_net *net) RM_CHECKED;     /* waits; reads loss and flags: both halves below */
rm_status rm_net_read(rm_net *net) RM_CHECKED;       /* enqueues the copies of loss and, after an update, flags */
rm_status rm_net_collect(rm_net *net, bool updated) RM_CHECKED; /* waits, and takes what was read; updated: with flags */
double    rm_net_loss(const rm_net *net);            /* mean over the batch, of the last finished step */
/* Non-finite gradient elements seen by the last update, and the name of the parameter nearest the loss that has one. */
uint64_t  rm_net_nonfinite(const rm_net *net, const char **param_name);
/* Logits (batch, classes) of the last forward, sync. */
rm_status rm_net_logits(rm_net *net, double *out) RM_CHECKED;
/* Gradient arena as one span, in ready order (the sum when accumulating). */
rm_buf   *rm_net_grad_buf(const rm_net *net);

/* ---- layer timers */
rm_status rm_net_timers(rm_net *net, bool on) RM_CHECKED;     /* creates or frees the marks */
int32_t   rm_net_nodes(const rm_net *net, const rm_node **out_node); /* in the order of the step */
uint32_t  rm_net_update_parts(const rm_net *net, const rm_node **out_node); /* of the update in parts; 0: whole */
/* The copy of images and labels as a node without op and plan; info.bytes_written is its size. */
const rm_node *rm_net_copy(const rm_net *net);
/* Last position in ready order among the gradients that node i writes; -1: it writes none. */
int32_t   rm_net_gradient(const rm_net *net, int32_t i);
void      rm_net_note_launches(rm_net *net, bool on);
void      rm_net_set_cupti(rm_net *net, rm_cupti *c); /* pushes what it enqueues from here on: nodes by number, parts of the update, the batch; NULL: no more */
rm_status rm_node_ns(const rm_net *net, const rm_node *node, uint64_t *out_begin, uint64_t *out_end) RM_CHECKED; /* after rm_net_finish() */
#endif
