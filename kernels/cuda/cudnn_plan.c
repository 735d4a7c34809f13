#include "kernels/cuda/cudnn_plan.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CONFIGS = 128, MOST_KNOBS = 32, MOST_NOTES = 16 };

/* ---- rules */
#define NOTE(n) (1u << CUDNN_NUMERICAL_NOTE_##n)
static const struct {
    uint32_t must, must_not;
} conv_rules[RM_DTYPE_COUNT] = {
    [RM_BF16] = { NOTE(TENSOR_CORE), NOTE(DOWN_CONVERT_INPUTS) | NOTE(REDUCED_PRECISION_REDUCTION) },
    [RM_F16] = { NOTE(TENSOR_CORE), NOTE(DOWN_CONVERT_INPUTS) | NOTE(REDUCED_PRECISION_REDUCTION) },
    [RM_TF32] = { 0, NOTE(REDUCED_PRECISION_REDUCTION) },
    [RM_F32] = { 0, NOTE(TENSOR_CORE) | NOTE(DOWN_CONVERT_INPUTS) | NOTE(REDUCED_PRECISION_REDUCTION) },
};

rm_cudnn_rules rm_cudnn_rules_for(const rm_op *op, bool deterministic)
{
    rm_cudnn_rules r = { .workspace_bytes = RM_CUDNN_WORKSPACE_CAP, .candidates = RM_CUDNN_CANDIDATES };
    if (op->w.shape.n) { /* convolutions and fc: what multiplies */
        r.must = conv_rules[op->x.dtype].must;
        r.must_not = conv_rules[op->x.dtype].must_not;
    }
    if (deterministic) r.must_not |= NOTE(NONDETERMINISTIC);
    return r;
}

void rm_cudnn_notes(uint32_t bits, char *text, size_t text_size)
{
    static const char *const names[] = { "tensor-core",  "down-convert", "reduced-reduction", "fft",       "nondeterministic", "winograd",
                                         "winograd-4x4", "winograd-6x6", "winograd-13x13",    "strict-nan" };
    size_t used = 0;
    snprintf(text, text_size, "%s", bits ? "" : "none");
    for (size_t i = 0; i < RM_COUNT(names) && used < text_size; i++)
        if (bits & 1u << i) used += (size_t)snprintf(text + used, text_size - used, "%s%s", used ? " " : "", names[i]);
}

static bool keeps(const rm_cudnn_rules *r, uint32_t notes) { return (notes & r->must) == r->must && !(notes & r->must_not); }

/* ---- one configuration */
static rm_status get_int(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t at, const char *what, int64_t *out)
{
    int64_t n = 0;
    return rm_cudnn_check(cudnnBackendGetAttribute(d, at, CUDNN_TYPE_INT64, 1, &n, out), what);
}

/* Notes are enums of 4 bytes, numbered from 0. */
static rm_status get_notes(cudnnBackendDescriptor_t engine, cudnnBackendAttributeName_t at, cudnnBackendAttributeType_t type, uint32_t *out_bits)
{
    int32_t note[MOST_NOTES] = { 0 };
    int64_t n = 0;
    uint32_t bits = 0;
    RM_TRY(rm_cudnn_check(cudnnBackendGetAttribute(engine, at, type, MOST_NOTES, &n, note), "notes of an engine"));
    for (int64_t i = 0; i < n && i < MOST_NOTES; i++)
        if (note[i] >= 0 && note[i] < 32) bits |= 1u << note[i];
    *out_bits = bits;
    return RM_OK;
}

static rm_status note_engine(rm_cudnn_plan *c)
{
    cudnnBackendDescriptor_t engine = NULL;
    int64_t n = 0;
    rm_status st;
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    RM_TRY_GOTO(st, rm_cudnn_check(cudnnBackendGetAttribute(c->config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine), "engine"),
                done);
    RM_TRY_GOTO(st, get_int(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, "engine's number", &c->engine), done);
    RM_TRY_GOTO(st, get_notes(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, &c->numeric), done);
    RM_TRY_GOTO(st, get_notes(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, &c->behavior), done);
done:
    rm_cudnn_destroy(engine);
    return st;
}

static void name_knob(cudnnBackendDescriptor_t knob, rm_cudnn_plan *c)
{
    int32_t type = -1;
    int64_t n = 0, value = 0;
    if (cudnnBackendGetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &n, &type) ||
        cudnnBackendGetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &n, &value))
        return;
    size_t used = strlen(c->name);
    snprintf(c->name + used, sizeof c->name - used, "_k%d=%lld", type, (long long)value);
}

/* The name serves people and lists only: a knob that cannot be read is left out of it. */
static rm_status name_plan(rm_cudnn_plan *c)
{
    cudnnBackendDescriptor_t knob[MOST_KNOBS] = { NULL };
    int64_t n = 0;
    rm_status st = RM_OK;
    snprintf(c->name, sizeof c->name, "eng%lld", (long long)c->engine);
    for (int i = 0; i < MOST_KNOBS && st == RM_OK; i++) st = rm_cudnn_create(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knob[i]);
    if (st == RM_OK &&
        cudnnBackendGetAttribute(c->config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_KNOBS, &n, knob) == CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < n && i < MOST_KNOBS; i++) name_knob(knob[i], c);
    for (int i = 0; i < MOST_KNOBS; i++) rm_cudnn_destroy(knob[i]);
    return st;
}

static bool compiles(const rm_cudnn_plan *c) { return c->behavior & 1u << CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION; }

/* The execution plan of a configuration. What cuDNN refuses is no failure of ours: *out_st has it. */
static rm_status finalize(cudnnBackendDescriptor_t config, const rm_cudnn_device *dev, cudnnBackendDescriptor_t *out_plan, cudnnStatus_t *out_st)
{
    cudnnBackendDescriptor_t p = NULL;
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p));
    cudnnStatus_t st = cudnnBackendSetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (st == CUDNN_STATUS_SUCCESS) st = cudnnBackendSetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &dev->d);
    if (st == CUDNN_STATUS_SUCCESS) st = cudnnBackendFinalize(p);
    if (st == CUDNN_STATUS_SUCCESS) *out_plan = p;
    else rm_cudnn_destroy(p);
    *out_st = st;
    return RM_OK;
}

static void note_refusal(rm_cudnn_list *list, cudnnStatus_t st)
{
    if (!list->refused++) rm_cudnn_words(st, list->refusal, sizeof list->refusal);
}

static void release(rm_cudnn_plan *p)
{
    rm_cudnn_destroy(p->plan);
    rm_cudnn_destroy(p->config);
    p->plan = p->config = NULL;
}

/* Makes p, whose config and notes are known, a plan that can run or one that is only supported. */
static rm_status prepare(const rm_cudnn_device *dev, rm_cudnn_plan *p, cudnnStatus_t *out_refused)
{
    *out_refused = CUDNN_STATUS_SUCCESS;
    RM_TRY(name_plan(p));
    if (dev->described && compiles(p)) return get_int(p->config, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, "workspace", &p->workspace_bytes);
    RM_TRY(finalize(p->config, dev, &p->plan, out_refused));
    return *out_refused ? RM_OK : get_int(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, "workspace of a plan", &p->workspace_bytes);
}

/* Puts p into the list, or counts why not. p is taken over. */
static rm_status consider(rm_cudnn_plan p, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, rm_cudnn_list *list)
{
    cudnnStatus_t refused = CUDNN_STATUS_SUCCESS;
    list->seen++;
    rm_status st = note_engine(&p);
    bool keep = st == RM_OK && keeps(rules, p.numeric);
    if (st == RM_OK && !keep) list->notes++;
    if (keep) st = prepare(dev, &p, &refused);
    if (refused) note_refusal(list, refused);
    else if (keep && st == RM_OK && p.workspace_bytes > rules->workspace_bytes) list->workspace++;
    else if (keep && st == RM_OK) {
        list->plan[list->n++] = p;
        return RM_OK;
    }
    release(&p);
    return st;
}

/* ---- heuristics */
static rm_status ask(const rm_cudnn_graph *g, const rm_cudnn_device *dev, cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t *out_heur, int64_t *out_n)
{
    cudnnBackendDescriptor_t h = NULL;
    int64_t n = 0;
    rm_status st;
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &h));
    RM_TRY_GOTO(st, rm_cudnn_check(cudnnBackendSetAttribute(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->graph), g->key),
                fail);
    RM_TRY_GOTO(st, rm_cudnn_check(cudnnBackendSetAttribute(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode), g->key), fail);
    RM_TRY_GOTO(st, rm_cudnn_check(cudnnBackendSetAttribute(h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &dev->d), g->key), fail);
    RM_TRY_GOTO(st, rm_cudnn_check(cudnnBackendFinalize(h), g->key), fail);
    RM_TRY_GOTO(st, rm_cudnn_check(cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, NULL), g->key), fail);
    *out_heur = h;
    *out_n = n < MOST_CONFIGS ? n : MOST_CONFIGS;
    return RM_OK;
fail:
    rm_cudnn_destroy(h);
    return st;
}

static rm_status from_mode(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, cudnnBackendHeurMode_t mode, rm_cudnn_list *list)
{
    cudnnBackendDescriptor_t heur = NULL, config[MOST_CONFIGS] = { NULL };
    int64_t n = 0, got = 0;
    rm_status st = RM_OK;
    RM_TRY(ask(g, dev, mode, &heur, &n));
    for (int64_t i = 0; i < n; i++) RM_TRY_GOTO(st, rm_cudnn_create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[i]), done);
    if (n)
        RM_TRY_GOTO(st, rm_cudnn_check(cudnnBackendGetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &got, config), g->key),
                    done);
    for (int64_t i = 0; i < got && i < n && list->n < rules->candidates; i++) {
        const rm_cudnn_plan p = { .config = config[i] };
        config[i] = NULL;
        RM_TRY_GOTO(st, consider(p, dev, rules, list), done);
    }
done:
    for (int64_t i = 0; i < n; i++) rm_cudnn_destroy(config[i]);
    rm_cudnn_destroy(heur);
    return st;
}

static rm_status none_left(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, const rm_cudnn_list *l)
{
    char must[128], must_not[128];
    rm_cudnn_notes(rules->must, must, sizeof must);
    rm_cudnn_notes(rules->must_not, must_not, sizeof must_not);
    if (!l->seen) return rm_fail(RM_E_UNSUPPORTED, "cudnn: %s: cuDNN has no engine for this graph on %s", g->key, dev->name);
    return rm_fail(RM_E_UNSUPPORTED,
                   "cudnn: %s: no plan on %s: of %u configurations %u are left out for their notes (must: %s; must not: %s), %u for a workspace of more than "
                   "%lld MiB, %u refused by cuDNN%s%s",
                   g->key, dev->name, l->seen, l->notes, must, must_not, l->workspace, (long long)(rules->workspace_bytes >> 20), l->refused,
                   l->refused ? ": " : "", l->refusal);
}

rm_status rm_cudnn_candidates(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, rm_cudnn_list *out_list)
{
    static const cudnnBackendHeurMode_t modes[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK };
    rm_cudnn_list list = { .n = 0 };
    rm_status st = RM_OK;
    bool refused = false;
    RM_ASSERT(rules->candidates >= 1 && rules->candidates <= RM_CUDNN_CANDIDATES);
    for (size_t m = 0; m < RM_COUNT(modes) && st == RM_OK && !list.n; m++) {
        list.fallback = modes[m] == CUDNN_HEUR_MODE_FALLBACK;
        st = from_mode(g, dev, rules, modes[m], &list);
        if (st != RM_E_UNSUPPORTED) continue;
        refused = true; /* a mode may know no engine; cuDNN's words stay for the case that no mode does */
        st = RM_OK;
    }
    if (st == RM_OK && !list.n) st = refused && !list.seen ? RM_E_UNSUPPORTED : none_left(g, dev, rules, &list);
    if (st != RM_OK) {
        rm_cudnn_list_free(&list);
        return st;
    }
    *out_list = list;
    return RM_OK;
}

void rm_cudnn_list_free(rm_cudnn_list *list)
{
    for (size_t i = 0; i < list->n; i++) release(&list->plan[i]);
    list->n = 0;
}

/* ---- choosing and keeping */
rm_status rm_cudnn_plan_text(const rm_cudnn_plan *p, char **out_text)
{
    return rm_cudnn_text(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, "plan as text", out_text);
}

/* A plan that is read back tells its configuration, so that nothing else need be kept. */
static rm_status read_plan(const rm_cudnn_device *dev, const char *text, rm_cudnn_plan *p)
{
    int64_t n = 0;
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p->plan));
    RM_TRY(rm_cudnn_check(cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &dev->d), "read a plan"));
    RM_TRY(rm_cudnn_check(cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text),
                          "read a plan"));
    RM_TRY(rm_cudnn_check(cudnnBackendFinalize(p->plan), "read a plan"));
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &p->config));
    RM_TRY(rm_cudnn_check(cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &p->config),
                          "read a plan"));
    RM_TRY(get_int(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, "workspace of a plan", &p->workspace_bytes));
    RM_TRY(note_engine(p));
    return name_plan(p);
}

rm_status rm_cudnn_plan_read(const rm_cudnn_device *dev, const char *text, rm_cudnn_plan **out_plan)
{
    rm_cudnn_plan *p = calloc(1, sizeof *p);
    rm_status st = p ? read_plan(dev, text, p) : rm_fail(RM_E_NOMEM, "cudnn: no memory for a plan");
    if (st != RM_OK) {
        rm_cudnn_plan_free(p);
        return st;
    }
    *out_plan = p;
    return RM_OK;
}

/* The kept plan, NULL when there is none or it is no longer right. */
static rm_cudnn_plan *kept(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, const rm_cudnn_cache *cache)
{
    rm_cudnn_plan *p = NULL;
    const char *text = cache ? rm_cudnn_cache_get(cache, g->key) : NULL;
    if (!text) return NULL;
    if (rm_cudnn_plan_read(dev, text, &p) != RM_OK) {
        rm_warn_once("cudnn-plan", "a kept plan is chosen anew: %s", rm_last_error());
        return NULL;
    }
    if (keeps(rules, p->numeric) && p->workspace_bytes <= rules->workspace_bytes) return p;
    rm_cudnn_plan_free(p); /* kept under other rules */
    return NULL;
}

static rm_status pick_one(const rm_cudnn_graph *g, rm_cudnn_list *list, rm_cudnn_pick pick, void *context, rm_cudnn_plan *out, bool *out_sure)
{
    const rm_cudnn_plan *can[RM_CUDNN_CANDIDATES];
    size_t n = 0, at = 0;
    for (size_t i = 0; i < list->n; i++)
        if (list->plan[i].plan) can[n++] = &list->plan[i];
    if (!n) return rm_fail(RM_E_UNSUPPORTED, "cudnn: %s: every engine is compiled at run time, which needs the GPU", g->key);
    *out_sure = true;
    if (pick) RM_TRY(pick(context, g, can, n, &at, out_sure));
    RM_ASSERT(at < n);
    rm_cudnn_plan *chosen = &list->plan[can[at] - list->plan];
    *out = *chosen;
    chosen->plan = chosen->config = NULL; /* now the caller's */
    return RM_OK;
}

static rm_status keep(rm_cudnn_cache *cache, const rm_cudnn_graph *g, const rm_cudnn_plan *p)
{
    char *text = NULL;
    RM_TRY(rm_cudnn_plan_text(p, &text));
    rm_status st = rm_cudnn_cache_put(cache, g->key, text);
    free(text);
    return st;
}

static rm_status choose(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, rm_cudnn_pick pick, void *context, rm_cudnn_plan *out,
                        bool *out_sure)
{
    rm_cudnn_list list;
    RM_TRY(rm_cudnn_candidates(g, dev, rules, &list));
    rm_status st = pick_one(g, &list, pick, context, out, out_sure);
    rm_cudnn_list_free(&list);
    return st;
}

rm_status rm_cudnn_plan_new(const rm_cudnn_graph *g, const rm_cudnn_device *dev, const rm_cudnn_rules *rules, rm_cudnn_cache *cache, rm_cudnn_pick pick,
                            void *context, rm_cudnn_plan **out_plan)
{
    rm_cudnn_plan *p = kept(g, dev, rules, cache);
    if (p) {
        *out_plan = p;
        return RM_OK;
    }
    p = calloc(1, sizeof *p);
    if (!p) return rm_fail(RM_E_NOMEM, "cudnn: no memory for a plan");
    bool sure = false;
    rm_status st = choose(g, dev, rules, pick, context, p, &sure);
    if (st == RM_OK && cache && sure) st = keep(cache, g, p);
    if (st != RM_OK) {
        rm_cudnn_plan_free(p);
        return st;
    }
    *out_plan = p;
    return RM_OK;
}

void rm_cudnn_plan_free(rm_cudnn_plan *p)
{
    if (!p) return;
    release(p);
    free(p);
}

/* ---- running */
static rm_status fill_pack(const rm_cudnn_graph *g, void *const data[RM_SLOT_COUNT], void *workspace, cudnnBackendDescriptor_t pack)
{
    int64_t id[RM_CUDNN_MAX_TENSORS];
    void *at[RM_CUDNN_MAX_TENSORS];
    for (int i = 0; i < g->n_tensor; i++) {
        id[i] = rm_cudnn_uid(g->tensor[i].slot);
        at[i] = data[g->tensor[i].slot];
        RM_ASSERT(at[i] && (uintptr_t)at[i] % RM_CUDNN_ALIGN == 0);
    }
    RM_TRY(rm_cudnn_check(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, g->n_tensor, id), g->key));
    RM_TRY(rm_cudnn_check(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, g->n_tensor, at), g->key));
    RM_TRY(rm_cudnn_check(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace), g->key));
    return rm_cudnn_check(cudnnBackendFinalize(pack), g->key);
}

rm_status rm_cudnn_pack_new(const rm_cudnn_graph *g, void *const data[RM_SLOT_COUNT], void *workspace, cudnnBackendDescriptor_t *out_pack)
{
    cudnnBackendDescriptor_t pack = NULL;
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    rm_status st = fill_pack(g, data, workspace, pack);
    if (st != RM_OK) {
        rm_cudnn_destroy(pack);
        return st;
    }
    *out_pack = pack;
    return RM_OK;
}
