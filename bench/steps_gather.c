#include "base/clock.h"
#include "bench/scaling_loss.h"
#include <math.h>
#include <stdlib.h>

enum { WINDOW, FIRST, CPU, HEAD };

static json_t *rank_json(const double *step, int32_t n)
{
    json_t *steps = json_array();
    for (int32_t i = 0; i < n; i++) json_array_append_new(steps, bench_samples(step + (size_t)i * BENCH_TERMS, BENCH_TERMS));
    return steps;
}

static json_t *ranks_json(const double *all, int size, int32_t n)
{
    double window = 0, first = 0, cpu = 0;
    json_t *ranks = json_array();
    for (int k = 0; k < size; k++, all += HEAD + (size_t)n * BENCH_TERMS) {
        window = fmax(window, all[WINDOW]);
        first = fmax(first, all[FIRST]);
        cpu += all[CPU] / size;
        json_array_append_new(ranks, rank_json(all + HEAD, n));
    }
    return json_pack("{s:f, s:f, s:f, s:o}", "window_s", window, "first_s", first, "comm_cpu_s", cpu, "ranks", ranks);
}

rm_status bench_steps_gather(rm_comm *comm, const bench_taken *t, json_t **out)
{
    const int size = rm_comm_size(comm);
    const size_t each = HEAD + (size_t)t->n * BENCH_TERMS;
    double *own = malloc(each * sizeof *own), *all = malloc(each * sizeof *all * (size_t)size);
    rm_status st = own && all ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory gathering step times");
    *out = NULL;
    if (st == RM_OK) {
        own[WINDOW] = rm_s(t->window_ns);
        own[FIRST] = rm_s(t->first_ns);
        own[CPU] = rm_s(t->comm_cpu_ns);
        for (int32_t i = 0; i < t->n; i++) bench_terms_of(&t->step[i], t->critical_s ? t->critical_s[i] : NAN, own + HEAD + (size_t)i * BENCH_TERMS);
        st = rm_comm_host_gather(comm, own, each * sizeof *own, all);
    }
    if (st == RM_OK && rm_comm_rank(comm) == 0 && !(*out = ranks_json(all, size, t->n))) st = rm_fail(RM_E_NOMEM, "out of memory gathering step times");
    free(own);
    free(all);
    return st;
}
