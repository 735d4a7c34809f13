#define _GNU_SOURCE
#include "model/step_trace.h"
#include "base/log.h"
#include "profiler/runinfo.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Some 300 ops, 161 buckets and a few spans a step: enough for a hundred steps, 6 MB a lane. */
enum { EVENTS = 1 << 17 };

rm_status rm_step_trace_before(rm_step_trace *t, rm_engine *e, uint64_t step)
{
    if (!t->path || !t->path[0]) return RM_OK;
    if (step == t->from && !t->trace) {
        RM_TRY(rm_trace_open(EVENTS, &t->trace));
        return rm_engine_set_trace(e, t->trace);
    }
    return step == t->to + 1 ? rm_engine_set_trace(e, NULL) : RM_OK;
}

/* "t.json.gz" of rank 3 is "t.rank3.json.gz": the suffix says what is in it. */
static void name_file(const rm_step_trace *t, const rm_comm *comm, char *out, size_t size)
{
    const char *slash = strrchr(t->path, '/'), *dot = strchr(slash ? slash : t->path, '.');
    const int stem = dot ? (int)(dot - t->path) : (int)strlen(t->path);
    if (rm_comm_size(comm) == 1) snprintf(out, size, "%s", t->path);
    else snprintf(out, size, "%.*s.rank%d%s", stem, t->path, rm_comm_rank(comm), dot ? dot : "");
}

rm_status rm_step_trace_end(rm_step_trace *t, rm_engine *e)
{
    char path[4096], host[64] = "";
    rm_device_info info;
    if (!t->trace) {
        if (t->path && t->path[0]) rm_warn("--trace %s: the run ended before step %llu, where the trace begins: nothing is written", t->path, (unsigned long long)t->from);
        return RM_OK;
    }
    (void)!rm_engine_set_trace(e, NULL);
    rm_device_get_info(e->device, &info);
    name_file(t, e->comm, path, sizeof path);
    if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
    const rm_trace_about about = { .rank = rm_comm_rank(e->comm), .world = rm_comm_size(e->comm), .backend = e->comm ? e->comm->ops->name : "self",
                                   .device = info.name, .host = host, .version = rm_version() };
    const rm_status st = rm_trace_write(t->trace, &about, path);
    if (st == RM_OK || st == RM_E_PARTIAL) rm_info("trace written: %s", path);
    rm_trace_close(t->trace);
    t->trace = NULL;
    return st;
}
