/* Plans for a graph: which of cuDNN's engines computes it.
 *
 * cuDNN's heuristics list engine configurations, best first (mode A, and FALLBACK where nothing of A is left). Those that break
 * the rules (workspace, numerical notes) are left out; the rest become execution plans. Which of them runs fastest only a run
 * can tell: that is a callback. What was chosen is kept in a file (cudnn_cache.h).
 * Threads: as cudnn_graph.h. */
#ifndef RM_CUDA_CUDNN_PLAN_H
#define RM_CUDA_CUDNN_PLAN_H
#include "kernels/cuda/cudnn_cache.h"
#include "kernels/cuda/cudnn_device.h"

enum { RM_CUDNN_WORKSPACE_CAP = 256 << 20, RM_CUDNN_CANDIDATES = 8 };

typedef struct rm_cudnn_rules {
    int64_t  workspace_bytes;   /* at most */
    uint32_t must, must_not;    /* numerical notes: bits 1 << cudnnBackendNumericalNote_t */
    size_t   candidates;        /* at most, 1..RM_CUDNN_CANDIDATES */
} rm_cudnn_rules;

/* The rules for an op: workspace up to 256 MiB, all candidates. Convolutions in bf16 and fp16 on tensor cores, without sums in
 * reduced precision; fp32 without tensor cores and without rounding its input; tf32 may do both and need not (on an A100 many of
 * its plans on tensor cores want more workspace at batch 256). `deterministic`: no engine whose result may differ from run to run. */
rm_cudnn_rules rm_cudnn_rules_for(const rm_op *op, bool deterministic);

typedef struct rm_cudnn_plan {
    int64_t  engine;            /* cuDNN's number of it among the engines for this kind of graph */
    int64_t  workspace_bytes;
    uint32_t numeric, behavior; /* its notes: bits 1 << cudnnBackendNumericalNote_t, 1 << cudnnBackendBehaviorNote_t */
    char     name[64];          /* "eng62_k2=4_k13=0": engine and knobs (cudnnBackendKnobType_t) */
    cudnnBackendDescriptor_t config;
    cudnnBackendDescriptor_t plan; /* NULL: supported, but compiled at run time, for which a described device is not enough */
} rm_cudnn_plan;

/* What the heuristics gave and why the rest was left out. */
typedef struct rm_cudnn_list {
    rm_cudnn_plan plan[RM_CUDNN_CANDIDATES]; /* best first */
    size_t   n;
    bool     fallback;                        /* from mode FALLBACK */
    unsigned seen, notes, workspace, refused; /* configurations: listed; left out for their notes, their workspace; refused by cuDNN */
    char     refusal[512];                    /* cuDNN's words for the first refused one */
} rm_cudnn_list;

/* Candidates that keep the rules. RM_E_UNSUPPORTED when there are none: what was listed, and why each was left out.
 * The caller frees with rm_cudnn_list_free(). */
rm_status rm_cudnn_candidates(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, rm_cudnn_list *out_list) RM_CHECKED;
void      rm_cudnn_list_free(rm_cudnn_list *list);

/* Chooses among n >= 1 plans that can run: an index. *out_sure, true before the call: whether later runs may keep to it, which a choice that was not
 * timed is not good enough for. NULL as callback: the first, cuDNN's own order, and sure. */
typedef rm_status (*rm_cudnn_pick)(void *context, const rm_cudnn_graph *g, const rm_cudnn_plan *const *plan, size_t n, size_t *out_index, bool *out_sure);

/* The plan that the cache (may be NULL) has for this graph if it still keeps the rules and cuDNN takes it, else the chosen one,
 * which is put into the cache where it is sure. The caller frees with rm_cudnn_plan_free(). */
rm_status rm_cudnn_plan_new(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, rm_cudnn_cache *cache, rm_cudnn_pick pick,
                            void *context, rm_cudnn_plan **out_plan) RM_CHECKED;
void      rm_cudnn_plan_free(rm_cudnn_plan *p); /* NULL is fine */
/* The plan as text, and back. cuDNN checks that the text fits the device and its own version, no more: give it only text that
 * came from rm_cudnn_plan_text(). */
rm_status rm_cudnn_plan_text(const rm_cudnn_plan *p, char **out_text) RM_CHECKED;
rm_status rm_cudnn_plan_read(const rm_cudnn_device *dev, const char *text, rm_cudnn_plan **out_plan) RM_CHECKED;

/* What a plan of `g` runs on: the addresses of its tensors by slot (device memory, aligned to RM_CUDNN_ALIGN; a missing one is a bug of
 * the caller) and of the workspace (NULL for none). For cudnnBackendExecute(); the caller frees with rm_cudnn_destroy(). */
rm_status rm_cudnn_pack_new(const rm_cudnn_graph *g, void *const data[RM_SLOT_COUNT], void *workspace, cudnnBackendDescriptor_t *out_pack) RM_CHECKED;

/* Names of the notes in `bits`, "tensor-core down-convert"; "none" for no bits. */
void rm_cudnn_notes(uint32_t bits, char *text, size_t text_size);
#endif
