#include "profiler/budget.h"
#include <math.h>

enum { TERMS = 5 };

static void sets_of(rm_classes *c, rm_intervals *set[TERMS])
{
    rm_intervals *const all[TERMS] = { &c->compute, &c->comm, &c->copy, &c->input, &c->host }; /* by precedence */
    for (int i = 0; i < TERMS; i++) set[i] = all[i];
}

void rm_classes_free(rm_classes *c)
{
    rm_intervals *set[TERMS];
    sets_of(c, set);
    for (int i = 0; i < TERMS; i++) rm_intervals_free(set[i]);
    for (int i = 0; i < 2; i++) rm_intervals_free(&c->taken[i]);
}

void rm_classes_clear(rm_classes *c)
{
    rm_intervals *set[TERMS];
    sets_of(c, set);
    for (int i = 0; i < TERMS; i++) rm_intervals_clear(set[i]);
}

/* Each class gets what those before it have left: |taken or set| - |taken|. */
rm_status rm_budget_of(rm_classes *c, rm_interval window, rm_budget *out)
{
    rm_budget b = { .window_ns = window.end > window.begin ? window.end - window.begin : 0 };
    uint64_t *const term[TERMS] = { &b.compute_ns, &b.exposed_comm_ns, &b.exposed_copy_ns, &b.input_ns, &b.host_ns };
    rm_intervals *set[TERMS];
    uint64_t known = 0;
    sets_of(c, set);
    rm_intervals_clear(&c->taken[0]);
    for (int i = 0; i < TERMS; i++) {
        rm_intervals_normalise(set[i]);
        rm_intervals_clip(set[i], window);
        RM_TRY(rm_intervals_union(&c->taken[i % 2], set[i], &c->taken[(i + 1) % 2]));
        const uint64_t all = rm_intervals_measure(&c->taken[(i + 1) % 2]);
        *term[i] = all - known;
        known = all;
    }
    b.idle_ns = b.window_ns - known;
    b.comm_ns = rm_intervals_measure(&c->comm);
    b.overlap_ns = rm_intervals_measure_both(&c->compute, &c->comm);
    *out = b;
    return RM_OK;
}

void rm_budget_add(rm_budget *sum, const rm_budget *b)
{
    sum->window_ns += b->window_ns;
    sum->compute_ns += b->compute_ns;
    sum->exposed_comm_ns += b->exposed_comm_ns;
    sum->exposed_copy_ns += b->exposed_copy_ns;
    sum->input_ns += b->input_ns;
    sum->host_ns += b->host_ns;
    sum->idle_ns += b->idle_ns;
    sum->comm_ns += b->comm_ns;
    sum->overlap_ns += b->overlap_ns;
}

double rm_overlap_geom(const rm_budget *b) { return b->comm_ns ? (double)b->overlap_ns / (double)b->comm_ns : NAN; }
