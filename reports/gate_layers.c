#include "reports/gate_layers.h"
#include "profiler/paired.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>

const rp_layer_rule rp_layer_rule_usual = { .alpha = 0.01, .effect = 0.05, .flips = 10000, .seed = 1 };

int rp_gate_layers_least(const rp_layer_rule *r, int rows) { return (int)ceil(log2(fmax(rows, 1) / r->alpha)); }

/* What all layers of a pair have in common is the machine's; it turns its sign with the pair's, so that the test stays exact. Few layers have nothing in
 * common that would not be one of them. */
static void take_common(const double *d, int rows, int n, double *column, double *own)
{
    enum { FEW = 8 };
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < rows; r++) column[r] = d[(size_t)r * (size_t)n + (size_t)i];
        const double common = rows < FEW ? 0 : rm_median(column, (size_t)rows);
        for (int r = 0; r < rows; r++) own[(size_t)r * (size_t)n + (size_t)i] = column[r] - common;
    }
}

static rm_status judge_row(const rp_layer_rule *r, const double *d, int n, double p, rp_layer_judged *out)
{
    rm_paired own;
    RM_TRY(rm_paired_of(d, n, r->alpha, &own));
    *out = (rp_layer_judged) { own.delta, p, p <= r->alpha && own.delta >= log1p(r->effect) };
    return RM_OK;
}

rm_status rp_gate_layers(const rp_layer_rule *r, const double *d, int rows, int n, rp_layer_judged *out)
{
    if (n < 1 || n > RM_PAIRED_MOST) return rm_fail(RM_E_ARG, "%d pairs: 1 to %d can be compared", n, RM_PAIRED_MOST);
    double *p = calloc((size_t)rows + 1, sizeof *p), *relative = calloc((size_t)rows * (size_t)n + 1, sizeof *relative);
    rm_status st = RM_OK;
    if (!p || !relative) st = rm_fail(RM_E_NOMEM, "out of memory comparing layers");
    else {
        take_common(d, rows, n, p, relative);
        st = rm_max_statistic(relative, rows, n, r->flips, r->seed, p);
        for (int i = 0; st == RM_OK && i < rows; i++) st = judge_row(r, d + (size_t)i * (size_t)n, n, p[i], &out[i]);
    }
    free(relative);
    free(p);
    return st;
}
