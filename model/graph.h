/* Graph: ResNet as data. Layers in the order of forward computation, parameters with torchvision's names.
 *
 * v1 (He et al., arXiv:1512.03385) strides in the first 1x1 of a downsampling block, v1.5 in its 3x3. Everything here is
 * plain data, immutable after building; no device is involved. */
#ifndef RM_GRAPH_H
#define RM_GRAPH_H
#include "kernels/op.h"

typedef enum rm_kind { RM_K_CONV, RM_K_BN, RM_K_RELU, RM_K_ADD, RM_K_MAXPOOL, RM_K_AVGPOOL, RM_K_FC, RM_KIND_COUNT } rm_kind;
enum { RM_NO_INPUT = -1, RM_IMAGE = -2, RM_NAME_MAX = 40 };

typedef struct rm_layer {
    char     name[RM_NAME_MAX];     /* torchvision's module name, "layer1.0.downsample.0"; adds and ReLUs: "layer1.0.add" */
    rm_kind  kind;
    int32_t  in[2];                 /* earlier layers, RM_IMAGE or RM_NO_INPUT; in[1]: what an add adds */
    rm_shape out;
    int32_t  k, stride, pad;        /* conv, max-pool */
    bool     relu, add;             /* RM_K_BN after rm_graph_fuse(): y = relu(bn(x) + in[1]) */
    bool     last_bn;               /* the last batch norm of a block (zero-init-last-gamma) */
    int32_t  stage;                 /* 0 stem, 1..4, 5 head */
} rm_layer;

typedef enum rm_role { RM_ROLE_WEIGHT, RM_ROLE_GAMMA, RM_ROLE_BETA, RM_ROLE_BIAS } rm_role;
typedef struct rm_param {
    char     name[RM_NAME_MAX + 8]; /* "conv1.weight", "bn1.bias", "fc.bias" */
    int32_t  layer;
    rm_role  role;
    rm_shape shape;                 /* conv (O, I, KH, KW), fc (O, I, 1, 1), vectors (1, C, 1, 1) */
    uint64_t count;
    int32_t  ready;                 /* position in gradient-ready order, 0 = fc.bias */
} rm_param;

typedef struct rm_graph {
    int32_t   depth, classes;
    bool      v15;
    rm_shape  image;
    rm_layer *layer; int32_t n_layer;
    rm_param *param; int32_t n_param;   /* in torchvision's order: forward */
    int32_t  *by_ready;                 /* n_param: parameter at ready position i */
} rm_graph;

/* depth 50, 101 or 152; variant "v1" or "v1.5"; image (N, 3, H, W), H and W at least 8; classes at least 1.
 * RM_E_ARG with the reason otherwise. The caller frees with rm_graph_free(). */
rm_status rm_graph_resnet(int32_t depth, const char *variant, rm_shape image, int32_t classes, rm_graph *out_graph) RM_CHECKED;
void      rm_graph_free(rm_graph *g);
/* Merges bn+relu and bn+add+relu into one layer each; parameters keep their order. Ready order is recomputed. */
void      rm_graph_fuse(rm_graph *g);

uint64_t  rm_graph_params(const rm_graph *g);           /* 25,557,032 for ResNet-50 at 1000 classes */
uint64_t  rm_graph_largest_param(const rm_graph *g);   /* elements: room for any one parameter */
uint64_t  rm_graph_macs(const rm_graph *g);             /* forward multiply-adds per image of convolutions and fc */
int32_t   rm_graph_count(const rm_graph *g, rm_kind kind);
/* SHA-256 over layers and parameters in ready order: the same for ranks that train the same network, fused alike. */
void      rm_graph_digest(const rm_graph *g, char hex[65]);
/* Shape of layer i's input. */
rm_shape  rm_layer_in(const rm_graph *g, int32_t i);
int32_t   rm_graph_find_param(const rm_graph *g, int32_t layer, rm_role role); /* -1: none */
#endif
