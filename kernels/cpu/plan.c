/* Plans as lists of steps: building, running, releasing. */
#include "kernels/cpu/cpu.h"
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rm_status cpu_check(dnnl_status_t st, const rm_op *op, const char *what)
{
    static const char *const name[] = {
        [dnnl_success] = "success", [dnnl_out_of_memory] = "out of memory", [dnnl_invalid_arguments] = "invalid arguments",
        [dnnl_unimplemented] = "unimplemented", [dnnl_last_impl_reached] = "last implementation reached",
        [dnnl_runtime_error] = "runtime error", [dnnl_not_required] = "not required"};
    if (st == dnnl_success) return RM_OK;
    char text[256];
    rm_op_print(op, text, sizeof text);
    const char *why = (size_t)st < RM_COUNT(name) && name[st] ? name[st] : "unknown status";
    return rm_fail(st == dnnl_out_of_memory ? RM_E_NOMEM : RM_E_DEVICE, "cpu: oneDNN %s failed (%s) for: %s", what, why, text);
}

const char *cpu_pd_impl(const_dnnl_primitive_desc_t pd)
{
    const char *s = NULL;
    return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &s) == dnnl_success && s ? s : "?";
}

bool cpu_pd_is_ref(const_dnnl_primitive_desc_t pd)
{
    const char *s = cpu_pd_impl(pd);
    return !strncmp(s, "ref", 3) || !strncmp(s, "simple:any", 10);
}

void cpu_set_impl(cpu_plan *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->base.info.impl, sizeof p->base.info.impl, fmt, ap);
    va_end(ap);
}

void cpu_set_layouts(cpu_plan *p, int32_t x, int32_t x2, int32_t w, int32_t y)
{
    rm_plan_info *i = &p->base.info;
    i->x = x, i->x2 = x2, i->w = w, i->y = y;
}

static rm_status own_segments(cpu_plan *p)
{
    rm_op *op = &p->base.op;
    if (op->code != RM_OP_OPTIM || !op->u.optim.n_segment) return RM_OK;
    size_t bytes = op->u.optim.n_segment * sizeof *p->segment;
    p->segment = malloc(bytes);
    if (!p->segment) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    memcpy(p->segment, op->u.optim.segment, bytes);
    op->u.optim.segment = p->segment;
    return RM_OK;
}

rm_status cpu_plan_new(cpu_device *d, const rm_op *op, cpu_plan **out_plan)
{
    cpu_plan *p = calloc(1, sizeof *p);
    if (!p) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    p->dev = d;
    p->base.op = *op;
    p->base.info.flops = rm_op_flops(op);
    p->base.info.bytes_read = rm_op_bytes_read(op);
    p->base.info.bytes_written = rm_op_bytes_written(op);
    rm_status st = own_segments(p);
    if (st != RM_OK) { cpu_plan_destroy(p); return st; }
    *out_plan = p;
    return RM_OK;
}

void cpu_plan_destroy(cpu_plan *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_step; i++) {
        cpu_step *s = &p->step[i];
        for (int j = 0; j < s->n_v; j++)
            if (s->mem[j]) dnnl_memory_destroy(s->mem[j]);
        if (s->prim) dnnl_primitive_destroy(s->prim);
        free(s->param);
    }
    free(p->step);
    free(p->segment);
    free(p);
}

cpu_val cpu_slot(rm_slot slot, rm_tdesc t) { return (cpu_val){.slot = (int)slot, .t = t}; }

cpu_val cpu_scratch_bytes(cpu_plan *p, size_t bytes)
{
    cpu_val v = {.slot = CPU_WORKSPACE, .offset = p->base.info.workspace_bytes};
    p->base.info.workspace_bytes += (bytes + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    return v;
}

cpu_val cpu_scratch(cpu_plan *p, rm_tdesc t)
{
    cpu_val v = cpu_scratch_bytes(p, cpu_bytes(&t));
    v.t = t;
    return v;
}

static rm_status append(cpu_plan *p, cpu_step **out_step)
{
    cpu_step *grown = realloc(p->step, (size_t)(p->n_step + 1) * sizeof *grown);
    if (!grown) return rm_fail(RM_E_NOMEM, "cpu: no memory for a plan");
    p->step = grown;
    cpu_step *s = &grown[p->n_step++];
    *s = (cpu_step){0};
    *out_step = s;
    return RM_OK;
}

rm_status cpu_step_own(cpu_plan *p, rm_status (*run)(const cpu_device *, const cpu_step *, void *const *), const cpu_val *v,
                       int n_v, void *param)
{
    RM_ASSERT(n_v <= CPU_STEP_VALUES);
    cpu_step *s = NULL;
    rm_status st = append(p, &s);
    if (st != RM_OK) { free(param); return st; }
    s->run = run;
    s->param = param;
    s->n_v = n_v;
    if (n_v) memcpy(s->v, v, (size_t)n_v * sizeof *v);
    return RM_OK;
}

static rm_status run_prim(const cpu_device *d, const cpu_step *s, void *const *base)
{
    dnnl_exec_arg_t args[CPU_STEP_VALUES];
    for (int i = 0; i < s->n_v; i++) {
        RM_TRY(cpu_check(dnnl_memory_set_data_handle(s->mem[i], cpu_at(base, s->v[i])), s->op, "set_data_handle"));
        args[i] = (dnnl_exec_arg_t){s->arg[i], s->mem[i]};
    }
    RM_TRY(cpu_check(dnnl_primitive_execute(s->prim, d->stream, s->n_v, args), s->op, "execute"));
    return cpu_check(dnnl_stream_wait(d->stream), s->op, "stream_wait");
}

static rm_status bind(cpu_plan *p, cpu_step *s, int arg, cpu_val v, const_dnnl_memory_desc_t md)
{
    int i = s->n_v;
    RM_TRY(cpu_check(dnnl_memory_create(&s->mem[i], md, p->dev->engine, DNNL_MEMORY_NONE), &p->base.op, "memory_create"));
    s->arg[i] = arg;
    s->v[i] = v;
    s->n_v = i + 1;
    return RM_OK;
}

rm_status cpu_step_prim(cpu_plan *p, const_dnnl_primitive_desc_t pd, const cpu_arg *args, int n_args)
{
    cpu_step *s = NULL;
    RM_TRY(append(p, &s));
    s->run = run_prim;
    RM_TRY(cpu_check(dnnl_primitive_create(&s->prim, pd), &p->base.op, "primitive_create"));
    for (int i = 0; i < n_args; i++) RM_TRY(bind(p, s, args[i].arg, args[i].v, args[i].md));
    const_dnnl_memory_desc_t md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t bytes = md ? dnnl_memory_desc_get_size(md) : 0;
    if (bytes) RM_TRY(bind(p, s, DNNL_ARG_SCRATCHPAD, cpu_scratch_bytes(p, bytes), md));
    if (cpu_pd_is_ref(pd)) p->ref = true;
    return RM_OK;
}

rm_status cpu_plan_execute(cpu_plan *p, void *const *base)
{
    if (omp_get_max_threads() != p->dev->threads) omp_set_num_threads(p->dev->threads);
    for (int i = 0; i < p->n_step; i++) {
        p->step[i].op = &p->base.op;
        RM_TRY(p->step[i].run(p->dev, &p->step[i], base));
    }
    return RM_OK;
}
