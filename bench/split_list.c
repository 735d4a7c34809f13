#include "bench/split_sweep.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EQUAL_MOST = 64 };

/* The gradients of a graph in ready order, and room for the ends of a split of them. */
typedef struct cut { uint64_t *bytes; uint32_t n, *end, n_end; } cut;

static void cut_free(cut *c)
{
    free(c->bytes);
    free(c->end);
}

/* Free also after an error. */
static rm_status cut_new(const char *spec, const rm_graph *g, rm_split_order order, cut *out)
{
    *out = (cut){ .n = (uint32_t)g->n_param };
    out->bytes = malloc(out->n * sizeof *out->bytes);
    out->end = malloc(out->n * sizeof *out->end);
    if (!out->bytes || !out->end) return rm_fail(RM_E_NOMEM, "out of memory for %u gradients", out->n);
    for (uint32_t i = 0; i < out->n; i++) out->bytes[i] = g->param[g->by_ready[i]].count * sizeof(float);
    return rm_split_parse(spec, out->bytes, out->n, order, out->end, &out->n_end);
}

uint32_t bench_split_shares(const char *spec, const rm_graph *graph, rm_split_order order, char *text, size_t size)
{
    cut c;
    text[0] = '\0';
    const bool good = cut_new(spec, graph, order, &c) == RM_OK;
    if (good) rm_split_shares(c.bytes, c.end, c.n_end, text, size);
    const uint32_t n = good ? c.n_end : 0;
    cut_free(&c);
    return n;
}

static rm_status add(bench_split_list *l, const char *spec, const rm_graph *graph, rm_split_order order)
{
    cut c;
    rm_status st = cut_new(spec, graph, order, &c);
    cut_free(&c);
    if (st != RM_OK) return rm_fail(st, "--splits: number %d, %.80s: %s", l->n + 1, spec, rm_last_error());
    if (l->n == BENCH_MAX_SPLITS) return rm_fail(RM_E_ARG, "--splits: more than %d splits", BENCH_MAX_SPLITS);
    l->spec[l->n] = strdup(spec);
    return l->spec[l->n++] ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the splits");
}

/* "equal:2..5" is equal:2 to equal:5. False when it is no range. */
static bool is_range(const char *spec, long *from, long *to)
{
    char *stop;
    if (strncmp(spec, "equal:", 6) || !isdigit((unsigned char)spec[6])) return false;
    *from = strtol(spec + 6, &stop, 10);
    if (strncmp(stop, "..", 2) || !isdigit((unsigned char)stop[2])) return false;
    *to = strtol(stop + 2, &stop, 10);
    return !*stop;
}

static rm_status add_range(bench_split_list *l, const char *spec, long from, long to, const rm_graph *graph, rm_split_order order)
{
    if (from < 1 || from > to || to > EQUAL_MOST) return rm_fail(RM_E_ARG, "--splits: number %d, %.80s: expected equal:A..B with 1 <= A <= B <= %d", l->n + 1, spec, EQUAL_MOST);
    for (long k = from; k <= to; k++) {
        char one[32];
        snprintf(one, sizeof one, "equal:%ld", k);
        RM_TRY(add(l, one, graph, order));
    }
    return RM_OK;
}

/* Without the blanks around it. */
static char *trimmed(char *word)
{
    while (isspace((unsigned char)*word)) word++;
    size_t n = strlen(word);
    while (n && isspace((unsigned char)word[n - 1])) word[--n] = '\0';
    return word;
}

rm_status bench_split_list_parse(const char *text, const rm_graph *graph, rm_split_order order, bench_split_list *out)
{
    *out = (bench_split_list){ .n = 0 };
    char *copy = strdup(text), *next = copy;
    rm_status st = copy ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the splits");
    while (st == RM_OK && next) {
        long from, to;
        const char *spec = trimmed(strsep(&next, ";"));
        if (!*spec && !next && out->n) break; /* a semicolon at the end */
        st = is_range(spec, &from, &to) ? add_range(out, spec, from, to, graph, order) : add(out, spec, graph, order);
    }
    free(copy);
    return st;
}

void bench_split_list_free(bench_split_list *l)
{
    for (int32_t i = 0; i < l->n; i++) free(l->spec[i]);
    l->n = 0;
}
