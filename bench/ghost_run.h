/* Running ghosts (model/parallel/ghost.h): one rank measures a step, then ranks that sleep where it computed. */
#ifndef RM_BENCH_GHOST_RUN_H
#define RM_BENCH_GHOST_RUN_H
#include "bench/session.h"
#include "model/parallel/ghost.h"

/* Body of the one rank that measures: {"plan": rm_ghost_plan_json(), "device", "device_name", "library", "dtype", "threads"}. */
rm_status bench_ghost_plan_rank(const bench_options *o, int32_t steps, json_t **out) RM_CHECKED;
/* Like bench_run_ranks(), for n ghosts that act `measured`, which bench_ghost_plan_rank() left. They may share cores. */
rm_status bench_run_ghosts(const bench_options *o, int32_t n, const json_t *measured, bench_rank_body *body, json_t **out) RM_CHECKED;
/* This rank is a ghost. */
bool      bench_is_ghost(void);

/* In a ghost: what rank 0 was given, on every rank. Collective. */
typedef struct bench_ghost_part { json_t *measured; rm_ghost_plan plan; } bench_ghost_part;
rm_status bench_ghost_receive(rm_comm *comm, bench_ghost_part *out) RM_CHECKED;
void      bench_ghost_part_free(bench_ghost_part *p);

/* One ghost: what it acts, the graph whose gradients it exchanges, itself. RM_E_NOMEM before the machine swaps. Collective; free also
 * after an error, and before the session is closed. */
typedef struct bench_ghost { bench_ghost_part part; rm_graph graph; rm_ghost ghost; } bench_ghost;
rm_status bench_ghost_new(const bench_options *o, const bench_session *s, const char *split, bench_ghost *out) RM_CHECKED;
void      bench_ghost_free(bench_ghost *g);
#endif
