/* Ops: what the network is made of. An op is an opcode, tensors and parameters; it says nothing about who computes it.
 * Adding an op adds an opcode, a row in op.c and a case file, not a slot in the device table.
 *
 * Tensors are described by logical shape (N, C, H, W) whatever their layout; vectors are (1, C, 1, 1); conv weights
 * (O, I, KH, KW) as n, c, h, w; fc weights (O, I, 1, 1). */
#ifndef RM_OP_H
#define RM_OP_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum rm_dtype { RM_F32, RM_BF16, RM_F16, RM_TF32, RM_F64, RM_U8, RM_I32, RM_DTYPE_COUNT } rm_dtype;
/* How a tensor lies in memory. Values from RM_LAYOUT_PRIVATE on belong to the device that handed them out. */
typedef enum rm_layout { RM_LAYOUT_ANY = 0, RM_LAYOUT_NCHW = 1, RM_LAYOUT_NHWC = 2, RM_LAYOUT_PRIVATE = 16 } rm_layout;

typedef struct rm_shape { int32_t n, c, h, w; } rm_shape;
/* layout is an rm_layout or a device's private id. A desc with n == 0 means "no tensor". */
typedef struct rm_tdesc { rm_shape shape; rm_dtype dtype; int32_t layout; } rm_tdesc;

typedef enum rm_opcode {
    /* name             reads                         writes */
    RM_OP_CONV,          /* X, W                    -> Y */
    RM_OP_CONV_BWD_DATA, /* DY, W                   -> DX */
    RM_OP_CONV_BWD_WEIGHTS, /* X, DY                -> DW */
    RM_OP_BN,            /* X, [X2], GAMMA, BETA, RMEAN, RVAR -> Y, SAVED (mean, 1/std, masks); updates RMEAN, RVAR when training */
    RM_OP_BN_BWD,        /* X, Y, DY, [DY2], GAMMA, SAVED (or RMEAN, RVAR when not training) -> DX, [DX2], DGAMMA, DBETA */
    RM_OP_RELU,          /* X                       -> Y */
    RM_OP_RELU_BWD,      /* Y, DY                   -> DX */
    RM_OP_ADD,           /* X, X2                   -> Y */
    RM_OP_MAXPOOL,       /* X                       -> Y, SAVED (argmax) */
    RM_OP_MAXPOOL_BWD,   /* DY, SAVED               -> DX */
    RM_OP_AVGPOOL,       /* X                       -> Y (1 x 1): global */
    RM_OP_AVGPOOL_BWD,   /* DY                      -> DX */
    RM_OP_FC,            /* X, W, BETA (bias)       -> Y (f32 logits, NCHW) */
    RM_OP_FC_BWD_DATA,   /* DY, W                   -> DX */
    RM_OP_FC_BWD_WEIGHTS,/* X, DY                   -> DW, DBETA */
    RM_OP_SOFTMAX_XENT,  /* X (logits), LABEL       -> LOSS (1 value), DX */
    RM_OP_OPTIM,         /* W, DW, MOMENTUM, HYPER  -> W, MOMENTUM, FLAG: the whole arena at once */
    RM_OP_REORDER,       /* X                       -> Y: layout and dtype (a cast is a reorder) */
    RM_OP_AUGMENT,       /* X (u8 NHWC), FLIP       -> Y: (x/255 - mean)/std, flipped where FLIP[n] != 0 */
    RM_OPCODE_COUNT
} rm_opcode;

/* Names of an op's operands. One table in op.c says which opcode uses which. */
typedef enum rm_slot {
    RM_X, RM_X2, RM_W, RM_Y, RM_DY, RM_DY2, RM_DX, RM_DX2, RM_DW,
    RM_GAMMA, RM_BETA, RM_DGAMMA, RM_DBETA, RM_RMEAN, RM_RVAR, RM_SAVED,
    RM_LABEL, RM_LOSS, RM_MOMENTUM, RM_HYPER, RM_FLAG, RM_FLIP,
    RM_SLOT_COUNT
} rm_slot;

typedef enum rm_optimizer { RM_SGD, RM_LARS } rm_optimizer;
/* One parameter's span of the arena. Elements, not bytes. */
typedef struct rm_segment { uint64_t start, count; bool decay, adapt; } rm_segment;
/* Values of the HYPER slot (double on every device), written before every step so that a captured graph can be replayed. */
enum { RM_HYPER_LR, RM_HYPER_MOMENTUM, RM_HYPER_DECAY, RM_HYPER_GRAD_SCALE /* 1/(loss scale x accumulation x ranks) */,
       RM_HYPER_ETA /* LARS trust coefficient */, RM_HYPER_COUNT = 8 };

typedef struct rm_op {
    rm_opcode code;
    rm_tdesc x, w, y;      /* input, weights and output of the FORWARD op; a backward op carries the forward's descs.
                              reorder: x -> y. optim: x.shape.n = 0, see u.optim. Vectors of BN are f32. */
    union {
        struct { int32_t k, stride, pad; } win;                        /* conv, pools */
        struct { double eps, momentum; bool training, relu, add, unbiased; } bn;
            /* y = relu?( bn(x) + add? x2 ). momentum: r = (1-m) r + m batch. unbiased: running variance takes n/(n-1) var.
               BN_BWD with add writes DX2 = the masked dy (gradient of x2); DY2, where given, is added to DY first.
               Not training, BN and BN_BWD are frozen: statistics are the running ones, constants of the derivative. */
        struct { double label_smoothing, scale; } xent;                 /* dX = scale * dloss/dx; LOSS = mean over n, unscaled */
        struct { rm_optimizer rule; uint64_t count; const rm_segment *segment; uint32_t n_segment; bool nesterov; } optim;
            /* With g = DW*grad_scale, d = decay of the segment ? HYPER_DECAY : 0, v = MOMENTUM, m and lr from HYPER:
               SGD:  v = m v + (g + d w);            w -= lr (nesterov ? g + d w + m v : v)          (PyTorch's)
               LARS: t = lr trust (g + d w); v = m v + t; w -= nesterov ? t + m v : v,
                     trust = eta |w| / (|g| + d |w| + 1e-9) where the segment adapts and |w|, |g| > 0, else 1.
               Elements outside every segment stay as they are. Non-finite gradients are counted, not skipped.
               FLAG: int32[2] = {number of non-finite gradient elements (saturating), index of the first such segment or -1} */
        struct { double mean[3], std[3]; } augment;                     /* in units of 0..1 */
    } u;
    bool dy2;              /* BN_BWD, RELU_BWD: a second gradient DY2 arrives and is summed with DY */
} rm_op;

const char *rm_opcode_name(rm_opcode code);
const char *rm_dtype_name(rm_dtype dtype);
size_t      rm_dtype_bytes(rm_dtype dtype);
rm_status   rm_dtype_parse(const char *text, rm_dtype *out_dtype) RM_CHECKED;
const char *rm_slot_name(rm_slot slot);
/* What `code` does with `slot`. */
typedef enum rm_use { RM_UNUSED = 0, RM_READ = 1, RM_WRITE = 2, RM_UPDATE = 3, RM_OPTIONAL = 4 } rm_use;
unsigned    rm_op_use(rm_opcode code, rm_slot slot);  /* rm_use bits */
/* The same for one op with its parameters: RM_UNUSED, RM_READ, RM_WRITE or RM_UPDATE. X2 and DX2 are used with `add`, DY2
 * with `dy2`, Y of BN_BWD with `relu`, SAVED of BN and BN_BWD when training, RMEAN and RVAR of BN_BWD when not; BN that does not
 * train only reads RMEAN and RVAR. */
unsigned    rm_op_uses(const rm_op *op, rm_slot slot);
/* The tensor in `slot` of a completed op: X2, DX and DX2 are like x, DW like w, DY and DY2 like y, the rest are vectors.
 * n == 0 for unused slots and for SAVED (bytes whose meaning is the device's). */
rm_tdesc    rm_op_tensor(const rm_op *op, rm_slot slot);

uint64_t rm_shape_count(rm_shape s);                   /* n*c*h*w */
int32_t  rm_window_out(int32_t in, int32_t k, int32_t stride, int32_t pad);
/* Fills y from x and parameters and checks that the op makes sense (shape, window inside the padded input, ...): RM_E_ARG.
 * y.dtype and y.layout are the caller's when y.shape.n != 0 (always for REORDER and AUGMENT), else x.dtype (fc: f32) and ANY.
 * OPTIM: segments are checked where given; a text form has only their number. */
rm_status rm_op_complete(rm_op *op) RM_CHECKED;
/* Floating-point operations (a multiply-add is two; convolutions as if padding were data, fc without its bias) and the least bytes that must be read and written. */
uint64_t rm_op_flops(const rm_op *op);
uint64_t rm_op_bytes_read(const rm_op *op);
uint64_t rm_op_bytes_written(const rm_op *op);

/* Text form, one line, round-trips; the form of bench/cases and of every "reproduce" line, as in
 *   conv n=64 c=64 h=16 w=16 o=256 k=1 s=1 p=0 dtype=f32
 *   bn_bwd n=64 c=256 h=16 w=16 relu=1 add=1 dy2=1 dtype=bf16
 * Unknown keys, missing sizes and impossible values are RM_E_FORMAT naming the word. `text_size` >= 256. */
rm_status rm_op_parse(const char *text, rm_op *out_op) RM_CHECKED;
void      rm_op_print(const rm_op *op, char *text, size_t text_size);
#endif
