/* Ghost compute: real ranks, real buckets, a real network, and computing replaced by sleeps timed from a measured step, so that a
 * machine with two cores can run a sweep over sixteen ranks. What comes out is EMULATED and must be labelled so: ranks do not
 * compete for cores, caches and memory bandwidth, and every rank computes equally fast. */
#ifndef RM_GHOST_H
#define RM_GHOST_H
#include "model/engine.h"
#include <jansson.h>

/* A measured step: when which gradients were ready, from the beginning of backward. */
typedef struct rm_ghost_event { uint64_t at_ns; uint32_t ready; } rm_ghost_event;
typedef struct rm_ghost_plan {
    uint64_t forward_ns, backward_ns, update_ns;
    rm_ghost_event *event; uint32_t n_event;     /* at_ns and ready ascend */
} rm_ghost_plan;
void      rm_ghost_plan_free(rm_ghost_plan *p);
/* The median of `steps` steps of `e` with the all-reduce off, event by event. Needs layer timers. */
rm_status rm_ghost_plan_measure(rm_engine *e, const rm_source *src, int32_t steps, rm_ghost_plan *out) RM_CHECKED;
/* {"forward_ns", "backward_ns", "update_ns", "events": [[at_ns, ready], ...]}. New reference; and back, RM_E_FORMAT when it is none. */
json_t   *rm_ghost_plan_json(const rm_ghost_plan *p);
rm_status rm_ghost_plan_from_json(const json_t *j, rm_ghost_plan *out) RM_CHECKED;

/* One rank without a network of layers. share: of every gradient's bytes, 0 < share <= 1 (scale bytes and bandwidth together
 * where the network saturates). device: host-addressed; comm, graph and plan are the caller's and must outlive it. */
typedef struct rm_ghost {
    rm_comm *comm; rm_device *device; const rm_graph *graph; const rm_ghost_plan *plan;
    double share;
    rm_buf *arena;
    rm_buckets buckets;
    rm_reduce_mode mode;
    rm_inject inject;
    rm_classes classes;
} rm_ghost;
uint64_t  rm_ghost_bytes(const rm_graph *graph, double share);  /* of the arena that a rank takes */
rm_status rm_ghost_new(rm_comm *comm, rm_device *device, const rm_graph *graph, const rm_ghost_plan *plan, double share, const char *split,
                       rm_split_order order, rm_ghost *out) RM_CHECKED;
void      rm_ghost_free(rm_ghost *g);
rm_status rm_ghost_set_split(rm_ghost *g, const char *spec, rm_split_order order) RM_CHECKED;
rm_status rm_ghost_step(rm_ghost *g, rm_step *out) RM_CHECKED;
#endif
