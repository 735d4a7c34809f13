/* What the files of the net share; nobody else includes this. */
#ifndef RM_NET_PRIVATE_H
#define RM_NET_PRIVATE_H
#include "model/net.h"

/* Where a tensor lives. */
typedef enum rm_home {
    HOME_ACTIVATION,  /* in the activation arena, placed by liveness */
    HOME_COPY,        /* a weight in another layout or type, alive for the whole step */
    HOME_WEIGHT, HOME_GRAD,       /* index: parameter */
    HOME_RMEAN, HOME_RVAR,        /* index: layer */
    HOME_FIXED        /* ref is set */
} rm_home;

typedef struct rm_tensor {
    rm_tdesc desc;
    rm_home  home;
    int32_t  index;
    size_t   bytes, offset;
    int32_t  first, last;  /* nodes that write first and use last */
    bool     shared;       /* two readers want the value: nobody may overwrite it */
    rm_ref   ref;
} rm_tensor;

typedef struct rm_links { int32_t t[RM_SLOT_COUNT]; } rm_links; /* tensor of each slot, -1: none */

/* Node ranges of the step, in order. */
typedef enum rm_phase { PHASE_PROLOGUE, PHASE_FORWARD, PHASE_BACKWARD, PHASE_ACCUMULATE, PHASE_UPDATE, PHASE_COUNT } rm_phase;

typedef struct rm_net_shared { double hyper[RM_HYPER_COUNT]; union { float f; double d; } loss; int32_t flag[2]; } rm_net_shared;

struct rm_net {
    rm_device      *device;
    const rm_graph *graph;
    rm_net_config   cfg;
    rm_params      *params;
    bool            owns_params;
    rm_node        *node;    rm_links *links;  int32_t n_node, cap_node;
    rm_tensor      *tensor;  int32_t n_tensor, cap_tensor;
    int32_t         begin[PHASE_COUNT + 1];
    int32_t        *out;     /* graph layer -> tensor of its output */
    int32_t        *saved;   /* graph layer -> SAVED tensor */
    int32_t       (*grad)[2]; /* graph layer -> gradients of its output that have arrived */
    int32_t         input, image, flip, label, loss, hyper, flag, logits; /* tensors; input: as the host writes it */
    rm_buf         *fixed[8]; int32_t n_fixed;
    rm_buf         *activations, *copies, *workspace;
    rm_net_size     size;
    rm_buf         *shared;  /* page-locked: what the host exchanges with the device in every step, */
    rm_net_shared  *host;    /* ... its address */
    double          host_loss; int32_t host_flag[2];
    double         *stage;   /* ref: f32 images as doubles */
    rm_node        *part; uint32_t n_part;   /* net_update.c: the update in parts, */
    rm_buf         *part_flag;               /* ... each with a flag of its own */
    rm_buf         *part_shared;             /* ... read into here */
    rm_node         copy;    /* images and labels */
    bool            timed;   /* nodes have marks */
    bool            noting;  /* when nodes are launched */
    rm_cupti       *cupti;   /* who is told what is launched; NULL: nobody */
    int32_t         delayed; /* rm_net_set_delay() */
    uint64_t        delay_ns;
    bool            updated; /* an update is in the queue: its flags are read by rm_net_finish() */
};

/* net_build.c */
rm_status rm_net_lower(rm_net *net, const rm_params_config *params_cfg) RM_CHECKED;
int32_t   rm_net_tensor(rm_net *net, rm_tdesc desc, rm_home home, int32_t index); /* -1: out of memory */
/* net.c: one node between its marks */
rm_status rm_net_run_node(rm_net *net, rm_node *n) RM_CHECKED;
rm_status rm_net_begin_copy(rm_net *net, rm_queue *q) RM_CHECKED; /* the marks of images and labels on their way */
rm_status rm_net_end_copy(rm_net *net, rm_queue *q) RM_CHECKED;
/* net_update.c */
rm_status rm_net_read_flags(rm_net *net) RM_CHECKED;   /* enqueues the copies */
void      rm_net_merge_flags(rm_net *net);             /* after a sync */
/* net_memory.c: sizes, liveness, placement, buffers, and the args of every node */
rm_status rm_net_place(rm_net *net) RM_CHECKED;
#endif
