#include "bench/profile_timeline.h"
#include "base/clock.h"
#include "model/net.h"
#include <stdlib.h>
#include <string.h>

typedef struct { json_t *lanes; uint64_t begin, end; const char *last; bool failed; } builder;

/* Of a kernel: of no pass it is other computing, and what is computed for an all-reduce is communication. */
static const char *class_of_pass(int16_t pass)
{
    static const char *const classes[RM_PASS_COUNT] = {
        [RM_PASS_INPUT] = "weights", [RM_PASS_WEIGHTS] = "weights", [RM_PASS_FWD] = "fwd", [RM_PASS_LOSS] = "fwd", [RM_PASS_BWD_DATA] = "bwd",
        [RM_PASS_BWD_WEIGHTS] = "bwd", [RM_PASS_BWD] = "bwd", [RM_PASS_ACCUMULATE] = "bwd", [RM_PASS_UPDATE] = "update",
    };
    return pass < 0 ? "other" : pass < RM_PASS_COUNT ? classes[pass] : "comm";
}

/* NULL: not shown. */
static const char *class_of(const rm_trace_item *item)
{
    static const char *const by_cat[RM_CAT_COUNT] = { [RM_CAT_COMM] = "comm", [RM_CAT_COPY] = "copy", [RM_CAT_INPUT] = "input", [RM_CAT_HOST] = "host" };
    if (item->event->phase != 'X' || item->event->cat >= RM_CAT_COUNT) return NULL;
    return item->event->cat == RM_CAT_KERNEL ? class_of_pass(item->event->of.pass) : by_cat[item->event->cat];
}

static json_t *lane_of(builder *b, const rm_trace_item *item)
{
    json_t *lane = json_array_get(b->lanes, json_array_size(b->lanes) - 1);
    if (b->last != item->lane) { /* lanes come one after the other; two of one name are two */
        lane = json_pack("{s:s, s:s, s:[]}", "name", item->lane, "kind", item->kind == RM_LANE_QUEUE ? "queue" : "thread", "spans");
        b->failed |= json_array_append_new(b->lanes, lane) != 0;
        b->last = item->lane;
    }
    return json_object_get(lane, "spans");
}

/* An all-reduce is told by what it carries; its name in the trace is for tools. */
static json_t *text_of(const rm_trace_item *item)
{
    const rm_part_of *of = &item->event->of;
    if (item->event->cat != RM_CAT_COMM || of->bucket < 0) return json_string(item->name);
    return json_sprintf("all-reduce %d, gradients %d..%d", of->bucket + 1, of->first, of->last);
}

static void add_event(void *ctx, const rm_trace_item *item)
{
    builder *b = ctx;
    const rm_event *e = item->event;
    const char *class = class_of(item);
    uint64_t begin = e->start_ns, end = e->start_ns + e->dur_ns;
    if (!class || end <= b->begin || begin >= b->end || !e->dur_ns) return;
    if (begin < b->begin) begin = b->begin;
    if (end > b->end) end = b->end;
    json_t *span = json_pack("[I, I, o, s]", (json_int_t)(begin - b->begin), (json_int_t)(end - begin), text_of(item), class);
    b->failed |= json_array_append_new(lane_of(b, item), span) != 0;
}

static rm_status own_lanes(const rm_trace *t, uint64_t begin_ns, uint64_t end_ns, char **out)
{
    builder b = { .lanes = json_array(), .begin = begin_ns, .end = end_ns };
    if (b.lanes) rm_trace_each(t, add_event, &b);
    *out = b.lanes && !b.failed ? json_dumps(b.lanes, JSON_COMPACT) : NULL;
    json_decref(b.lanes);
    return *out ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the timeline");
}

static rm_status put_ranks(const char *all, size_t each, int ranks, uint64_t step_ns, json_t **out)
{
    json_t *list = json_array();
    for (int k = 0; k < ranks; k++) {
        json_t *lanes = json_loads(all + (size_t)k * each, 0, NULL);
        json_array_append_new(list, json_pack("{s:i, s:o}", "rank", k, "lanes", lanes ? lanes : json_array()));
    }
    *out = json_pack("{s:f, s:o}", "step_s", rm_s(step_ns), "ranks", list);
    return *out ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the timeline");
}

rm_status bench_timeline_gather(rm_comm *comm, const rm_trace *t, uint64_t begin_ns, uint64_t end_ns, json_t **out)
{
    const int ranks = rm_comm_size(comm);
    const bool first = rm_comm_rank(comm) == 0;
    char *own = NULL, *padded = NULL, *all = NULL;
    double bytes;
    rm_status st;
    *out = NULL;
    RM_TRY(own_lanes(t, begin_ns, end_ns, &own));
    bytes = (double)strlen(own) + 1;
    st = rm_comm_host_reduce(comm, &bytes, 1, RM_F64, RM_MAX);
    const size_t each = (size_t)bytes;
    if (st == RM_OK && (!(padded = calloc(1, each)) || (first && !(all = calloc((size_t)ranks, each))))) st = rm_fail(RM_E_NOMEM, "out of memory for the timeline");
    if (st == RM_OK) memcpy(padded, own, strlen(own) + 1);
    if (st == RM_OK) st = rm_comm_host_gather(comm, padded, each, all);
    if (st == RM_OK && first) st = put_ranks(all, each, ranks, end_ns - begin_ns, out);
    free(own);
    free(padded);
    free(all);
    return st;
}
