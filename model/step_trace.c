#define _GNU_SOURCE
#include "model/step_trace.h"
#include "base/log.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Events a lane, of 48 bytes. The most is 50 MB: thousands of steps. */
enum { LEAST_EVENTS = 1 << 14, MOST_EVENTS = 1 << 20, KERNELS_AN_OP = 4 /* on a GPU, at most, on the average */ };

static bool wanted(const rm_step_trace *t) { return t->path && t->path[0]; }

/* ---- what is traced */

static rm_status stop(rm_step_trace *t, rm_engine *e)
{
    if (t->on) rm_engine_get_kernel_times(e, &t->times);
    t->on = false;
    if (t->loader) RM_TRY(rm_loader_set_trace(t->loader, NULL, 0));
    return rm_engine_set_trace(e, NULL);
}

/* The fullest lane is the host's: the launches of every op of every micro-batch, and of every bucket, its update included. */
static size_t events_of(rm_step_trace *t, const rm_engine *e)
{
    const rm_node *node;
    const uint64_t parts = e->cfg.recipe->accumulate > 1 ? (uint64_t)e->cfg.recipe->accumulate : 1, steps = t->to - t->from + 1;
    const uint64_t ops = parts * ((uint64_t)rm_net_nodes(e->net, &node) + 2) + 3 * (uint64_t)e->buckets.n + 16;
    const uint64_t each = strcmp(rm_device_name(e->device), "cuda") ? ops : KERNELS_AN_OP * ops;
    const uint64_t most = steps < MOST_EVENTS ? steps * each : MOST_EVENTS;
    t->batches = parts * steps;
    return (size_t)(most < LEAST_EVENTS ? LEAST_EVENTS : most > MOST_EVENTS ? MOST_EVENTS : most);
}

rm_status rm_step_trace_open(rm_step_trace *t, rm_engine *e)
{
    RM_TRY(rm_trace_open(events_of(t, e), &t->trace));
    RM_TRY(rm_engine_set_trace(e, t->trace));
    t->on = true;
    return t->loader ? rm_loader_set_trace(t->loader, t->trace, t->batches) : RM_OK;
}

rm_status rm_step_trace_before(rm_step_trace *t, rm_engine *e, uint64_t step)
{
    if (!wanted(t)) return RM_OK;
    if (step == t->from && !t->trace) return rm_step_trace_open(t, e);
    return step == t->to + 1 && t->trace ? stop(t, e) : RM_OK;
}

void rm_step_trace_pause(rm_step_trace *t, rm_engine *e, bool paused)
{
    e->trace_paused = paused;
    if (t->loader) rm_loader_pause_trace(t->loader, paused);
}

rm_status rm_step_trace_set_loader(rm_step_trace *t, rm_loader *l)
{
    t->loader = l;
    return t->on ? rm_loader_set_trace(l, t->trace, t->batches) : RM_OK;
}

void rm_step_trace_forget_loader(rm_step_trace *t) { t->loader = NULL; }

/* ---- the file */

/* "t.json.gz" of rank 3 in a sweep's run of 4 is "t.n4.rank3.json.gz": the suffix says what is in it. */
void rm_step_trace_name(const rm_step_trace *t, int rank, int world, char *out, size_t size)
{
    const char *slash = strrchr(t->path, '/'), *dot = strchr(slash ? slash : t->path, '.');
    const int stem = dot ? (int)(dot - t->path) : (int)strlen(t->path);
    char n[32] = "", which[32] = "";
    if (t->sweep_n) snprintf(n, sizeof n, ".n%d", (int)t->sweep_n);
    if (world > 1 && rank >= 0) snprintf(which, sizeof which, ".rank%d", rank);
    else if (world > 1) snprintf(which, sizeof which, ".rank*");
    snprintf(out, size, "%.*s%s%s%s", stem, t->path, n, which, dot ? dot : "");
}

/* What CUPTI saw and did. */
static void say_times(const rm_kernel_times *k)
{
    if (!k->cupti) {
        rm_verbose("the times of the trace's device work are the device's marks around each op: %s", k->why);
        return;
    }
    rm_info("the times of its device work are CUPTI's: %llu kernels in %llu steps, %llu of them part of no layer or bucket; CUPTI's own overhead was %.2f %% of these steps",
            (unsigned long long)k->kernels, (unsigned long long)k->steps, (unsigned long long)k->unattributed, k->step_ns ? 100.0 * (double)k->overhead_ns / (double)k->step_ns : 0.0);
    if (k->left_out) rm_warn("%llu steps are not in the trace: their records were not whole", (unsigned long long)k->left_out);
}

static void say_written(const rm_step_trace *t, const rm_perturbation *p)
{
    char cost[240] = "what tracing cost is not known: there were no steps without it at the same image size";
    if (p->n)
        snprintf(cost, sizeof cost, "traced steps took %.3f of the others (95 %%: %.3f to %.3f)%s", p->ratio, p->low, p->high,
                 p->perturbed ? ": perturbed" : "");
    rm_info("trace written: %s; %s", t->file, cost);
    say_times(&t->times);
}

static rm_status write_file(rm_step_trace *t, const rm_engine *e, const rm_perturbation *cost)
{
    char host[64] = "";
    rm_device_info info;
    const int rank = rm_comm_rank(e->comm), world = rm_comm_size(e->comm);
    rm_device_get_info(e->device, &info);
    rm_step_trace_name(t, rank, world, t->file, sizeof t->file);
    if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
    const rm_trace_about about = {
        .rank = rank, .world = world, .backend = e->comm ? e->comm->ops->name : "self", .device = info.name, .host = host, .version = rm_version()
    };
    const rm_status st = rm_trace_write(t->trace, &about, t->file);
    if (st == RM_OK || st == RM_E_PARTIAL) say_written(t, cost);
    else t->file[0] = '\0';
    return st;
}

void rm_step_trace_drop(rm_step_trace *t, rm_engine *e)
{
    (void)!stop(t, e);
    rm_trace_close(t->trace);
    t->trace = NULL;
}

rm_status rm_step_trace_end(rm_step_trace *t, rm_engine *e, const rm_perturbation *cost)
{
    if (!t->trace) {
        if (!wanted(t)) return RM_OK;
        return rm_fail(RM_E_PARTIAL, "--trace %s: the run ended before step %llu, where the trace begins: nothing is written", t->path, (unsigned long long)t->from);
    }
    (void)!stop(t, e); /* also those who would write while it is written */
    const rm_status st = write_file(t, e, cost);
    rm_step_trace_drop(t, e);
    return st;
}
