/* The processor device's private parts: oneDNN for convolutions and matrix products, own vector code for the rest.
 *
 * A plan is a short list of steps. A step is a oneDNN primitive or an own kernel, with operands that name a slot of the
 * run's arguments or a place in its workspace; memory objects are made when planning and only pointed at data when
 * running. Casts for emulated bf16 and layout changes inside a plan are ordinary steps.
 *
 * Threads: as device.h says; kernels spread over d->threads OpenMP threads. Every sum is split by the shape alone and
 * combined in a fixed order, so results of own kernels do not depend on the number of threads. */
#ifndef RM_KERNELS_CPU_CPU_H
#define RM_KERNELS_CPU_CPU_H
#include "kernels/cpu/choice.h"
#include "kernels/cpu/vec.h"
#include "kernels/device.h"
#include <dnnl.h>

enum { CPU_WORKSPACE = RM_SLOT_COUNT, CPU_BASES = RM_SLOT_COUNT + 1, CPU_STEP_VALUES = 14, CPU_ALIGN = 4096 };

typedef struct cpu_choice { char *key; char impl[64]; } cpu_choice;

typedef struct cpu_device {
    rm_device       base;
    rm_device_info  info;
    dnnl_engine_t   engine;
    dnnl_stream_t   stream;
    int             threads;
    int             block;          /* channels in a block of the preferred layout: 8 or 16 */
    bool            native_bf16;    /* else bf16 convolutions are computed in f32 */
    bool            reference_only;
    cpu_choice     *choice;         /* what was timed or forced, by key */
    size_t          n_choice;
    void           *tune;           /* operands for timing candidates */
    size_t          tune_bytes;
} cpu_device;

/* A tensor of a step: where it is and what it is. */
typedef struct cpu_val { int slot; size_t offset; rm_tdesc t; } cpu_val;

typedef struct cpu_step cpu_step;
struct cpu_step {
    rm_status (*run)(const cpu_device *d, const cpu_step *s, void *const *base);
    const rm_op     *op;            /* the plan's */
    cpu_val          v[CPU_STEP_VALUES];
    int              n_v;
    void            *param;         /* owned; what the own kernel needs beyond op and v */
    dnnl_primitive_t prim;
    int              arg[CPU_STEP_VALUES]; /* DNNL_ARG_* of v[i] */
    dnnl_memory_t    mem[CPU_STEP_VALUES];
};

typedef struct cpu_plan {
    rm_plan     base;
    cpu_device *dev;
    cpu_step   *step;
    int         n_step;
    rm_segment *segment;            /* optimiser: own copy */
    bool        ref;                /* oneDNN could offer only its unoptimised reference code */
} cpu_plan;

/* ---- plan.c: building and running plans */
rm_status cpu_plan_new(cpu_device *d, const rm_op *op, cpu_plan **out_plan) RM_CHECKED;
void      cpu_plan_destroy(cpu_plan *p);
rm_status cpu_plan_execute(cpu_plan *p, void *const *base) RM_CHECKED;
/* Value in a slot of the op, or in fresh workspace. */
cpu_val   cpu_slot(rm_slot slot, rm_tdesc t);
cpu_val   cpu_scratch(cpu_plan *p, rm_tdesc t);
cpu_val   cpu_scratch_bytes(cpu_plan *p, size_t bytes);
/* Appends a step; the pointer is valid until the next append. Takes `param`, also on failure. */
rm_status cpu_step_own(cpu_plan *p, rm_status (*run)(const cpu_device *, const cpu_step *, void *const *), const cpu_val *v,
                       int n_v, void *param) RM_CHECKED;
typedef struct cpu_arg { int arg; cpu_val v; const_dnnl_memory_desc_t md; } cpu_arg;
/* As cpu_step_own() with a primitive made from `pd`; adds its scratchpad to the workspace. */
rm_status cpu_step_prim(cpu_plan *p, const_dnnl_primitive_desc_t pd, const cpu_arg *args, int n_args) RM_CHECKED;
/* Steps that bring src to dst's dtype and layout (none when they are the same value). */
rm_status cpu_convert(cpu_plan *p, cpu_val src, cpu_val dst) RM_CHECKED;
/* A value equal to `src` as dtype and layout: src itself when it is so already. */
rm_status cpu_bring(cpu_plan *p, cpu_val src, rm_dtype dtype, int32_t layout, cpu_val *out_val) RM_CHECKED;
static inline void *cpu_at(void *const *base, cpu_val v) { return base[v.slot] ? (char *)base[v.slot] + v.offset : NULL; }
/* Turns a oneDNN status into RM_E_DEVICE naming the op, or RM_OK. */
rm_status cpu_check(dnnl_status_t st, const rm_op *op, const char *what) RM_CHECKED;
const char *cpu_pd_impl(const_dnnl_primitive_desc_t pd);
bool      cpu_pd_is_ref(const_dnnl_primitive_desc_t pd);

/* ---- layout.c */
dnnl_data_type_t cpu_dnnl_type(rm_dtype t);
/* Descriptor of a tensor whose layout is given (not ANY). The caller destroys it. RM_E_UNSUPPORTED: unknown layout. */
rm_status cpu_md(const rm_tdesc *t, dnnl_memory_desc_t *out_md) RM_CHECKED;
/* Layout id of a descriptor with this shape; RM_E_UNSUPPORTED when it has no name among oneDNN's tags. */
rm_status cpu_layout_of(const_dnnl_memory_desc_t md, rm_shape shape, rm_dtype dtype, int32_t *out_layout) RM_CHECKED;
size_t    cpu_bytes(const rm_tdesc *t);     /* 0 when the layout is unknown */
uint64_t  cpu_padded_count(const rm_tdesc *t); /* elements with padding */
int32_t   cpu_blocked_layout(int block);   /* nChw8c, nChw16c */
int32_t   cpu_tag_layout(dnnl_format_tag_t tag);
rm_tdesc  cpu_as(rm_tdesc t, rm_dtype dtype, int32_t layout);

/* ---- geometry of activations, for own kernels */
typedef struct cpu_geom {
    int    n, c, h, w;
    int    width;                   /* channels in a group: side by side in memory. 1: planes (or odd channel counts) */
    int    groups;                  /* ceil(c / width) */
    size_t n_stride, g_stride, p_stride; /* elements from image to image, group to group, pixel to pixel (row-major h, w) */
    const cpu_vec *vec;             /* NULL when width == 1 */
} cpu_geom;
/* False when the layout is none that own kernels understand. */
bool      cpu_geometry(const cpu_device *d, const rm_tdesc *t, cpu_geom *out_geom);
/* The layout an own kernel works in for a tensor offered as `layout`: the same, or the preferred one for ANY. */
int32_t   cpu_activation_layout(const cpu_device *d, const rm_tdesc *t);

/* ---- choice.c: which implementation, by time, remembered by key */
const char *cpu_choice_get(const cpu_device *d, const char *key);
rm_status   cpu_choice_set(cpu_device *d, const char *key, const char *impl) RM_CHECKED;
/* Quick timing: best of a few runs on scratch operands, nanoseconds. Stops early above limit_ns (0: none). */
rm_status   cpu_time_plan(cpu_device *d, cpu_plan *p, uint64_t limit_ns, uint64_t *out_ns) RM_CHECKED;

/* ---- builders, one an opcode: fill steps, layouts and impl of a fresh plan */
rm_status cpu_build_conv(cpu_device *d, const rm_op *op, cpu_plan **out_plan) RM_CHECKED;
rm_status cpu_build_bn(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_bn_bwd(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_eltwise(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_maxpool(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_maxpool_bwd(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_avgpool(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_avgpool_bwd(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_fc(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_xent(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_optim(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_reorder(cpu_plan *p) RM_CHECKED;
rm_status cpu_build_augment(cpu_plan *p) RM_CHECKED;
/* conv_tap.c: convolution as a sum of matrix products over the taps that fall inside the image. */
bool      cpu_tap_applies(const cpu_device *d, const rm_op *op);
rm_status cpu_build_conv_tap(cpu_plan *p, int32_t x_layout, int32_t y_layout) RM_CHECKED;

void cpu_set_impl(cpu_plan *p, const char *fmt, ...) RM_PRINTF(2, 3);
void cpu_set_layouts(cpu_plan *p, int32_t x, int32_t x2, int32_t w, int32_t y);

/* Work of thread t of n over `count` items, contiguous and even. */
static inline void cpu_split(size_t count, int t, int n, size_t *begin, size_t *end)
{
    *begin = count * (size_t)t / (size_t)n;
    *end = count * ((size_t)t + 1) / (size_t)n;
}
#endif
