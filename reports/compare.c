#include "reports/compare.h"
#include "base/rng.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- ratio ------------------------------------------------------------------------------------------------------ */

static double resampled_median(const double *x, size_t n, double *room, rm_rng *r)
{
    for (size_t i = 0; i < n; i++) room[i] = x[rm_rng_below(r, (uint32_t)n)];
    return rm_median(room, n);
}

rm_status rp_ratio_of(const double *a, size_t n_a, const double *b, size_t n_b, rp_ratio *out)
{
    enum { RESAMPLES = 1000 };
    rp_ratio ratio = { rm_median(a, n_a) / rm_median(b, n_b), NAN, NAN };
    if (n_a && n_b && n_a <= UINT32_MAX && n_b <= UINT32_MAX && isfinite(ratio.ratio)) {
        double *room = malloc((RESAMPLES + (n_a > n_b ? n_a : n_b)) * sizeof *room);
        if (!room) return rm_fail(RM_E_NOMEM, "out of memory for the comparison");
        rm_rng r = rm_rng_for(0x72617469, n_a, n_b);
        for (size_t i = 0; i < RESAMPLES; i++) {
            double top = resampled_median(a, n_a, room + RESAMPLES, &r);
            room[i] = top / resampled_median(b, n_b, room + RESAMPLES, &r);
        }
        ratio.low = rm_quantile(room, RESAMPLES, 0.025);
        ratio.high = rm_quantile(room, RESAMPLES, 0.975);
        free(room);
    }
    *out = ratio;
    return RM_OK;
}

/* ---- what is unlike --------------------------------------------------------------------------------------------- */

static void unlike(rm_strbuf *out, const char *name, const json_t *a, const json_t *b)
{
    char x[512], y[512];
    if (json_equal(a, b) || (!a && !b)) return;
    rm_str_addf(out, "%s%s: %s / %s", out->n ? "; " : "", name, a ? rp_text_of(a, x, sizeof x) : "not given", b ? rp_text_of(b, y, sizeof y) : "not given");
}

/* Every key of either object. */
static void unlike_objects(rm_strbuf *out, const json_t *a, const json_t *b)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)a, key, v) unlike(out, key, v, json_object_get(b, key));
    json_object_foreach((json_t *)b, key, v)
        if (!json_object_get(a, key)) unlike(out, key, NULL, v);
}

void rp_unlike_conditions(const rp_result *a, const rp_result *b, rm_strbuf *out)
{
    static const char *const key[] = { "device", "dtype", "px", "batch", "batch_per_device", "ranks", "input", "recipe" };
    unlike_objects(out, a->run->config, b->run->config);
    for (size_t i = 0; i < RM_COUNT(key); i++) {
        if (json_object_get(a->run->config, key[i]) || json_object_get(b->run->config, key[i])) continue; /* said already */
        unlike(out, key[i], json_object_get(a->row, key[i]), json_object_get(b->row, key[i]));
    }
}

void rp_unlike_machines(const json_t *a, const json_t *b, rm_strbuf *out)
{
    unlike_objects(out, json_object_get(a, "hard"), json_object_get(b, "hard"));
}

/* ---- pairing ---------------------------------------------------------------------------------------------------- */

static bool same_name(const rp_result *a, const rp_result *b) { return !strcmp(a->run->command, b->run->command) && !strcmp(a->key, b->key); }

static bool like(const rp_result *a, const rp_result *b)
{
    rm_strbuf s = { 0 };
    rp_unlike_conditions(a, b, &s);
    bool same = !s.n && !s.failed;
    rm_str_free(&s);
    return same;
}

/* Is there a newer result of the same name and conditions in the same store? */
static bool superseded(const rp_data *d, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (same_name(&d->result[i], &d->result[at]) && like(&d->result[i], &d->result[at])) return true;
    return false;
}

/* The newest like result, else the newest of the same name. */
static const rp_result *partner(const rp_data *d, const rp_result *r)
{
    const rp_result *found = NULL;
    for (size_t i = 0; i < d->n_results; i++) {
        if (!same_name(&d->result[i], r)) continue;
        if (like(&d->result[i], r)) return &d->result[i];
        if (!found) found = &d->result[i];
    }
    return found;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

typedef struct side { double *step, step_s, images_per_s; size_t n; } side;

static rm_status side_of(const rp_data *d, const rp_result *r, side *out)
{
    RM_TRY(rm_store_samples(d->store, r->id, "step_s", &out->step, &out->n));
    out->step_s = out->n ? rm_median(out->step, out->n) : rp_real(r->row, "step_s.median");
    if (isnan(out->step_s)) out->step_s = rp_real(r->row, "step_s");
    out->images_per_s = rp_real(r->row, "images_per_s");
    return RM_OK;
}

static bool usable(const rp_result *r) { return r->correct && !strcmp(r->origin, "measured"); }

/* Ratio cells, withheld where the configurations differ or a side was not measured or is wrong. */
static rm_status ratio_cells(rp_doc *d, const side *x, const side *y, bool fair)
{
    rp_ratio q = { NAN, NAN, NAN };
    if (fair) RM_TRY(rp_ratio_of(x->step, x->n, y->step, y->n, &q));
    if (fair && isnan(q.ratio)) q.ratio = x->step_s / y->step_s;
    if (fair && isnan(q.ratio)) q.ratio = y->images_per_s / x->images_per_s;
    rp_cell(d, "%s", rp_num(q.ratio, 4).text);
    if (isfinite(q.low)) rp_cell(d, "%s – %s", rp_num(q.low, 4).text, rp_num(q.high, 4).text);
    else rp_cell(d, "–");
    return RM_OK;
}

static void condition_cell(rp_doc *d, const rp_result *a, const rp_result *b, const char *asked, const char *machine)
{
    if (!a->correct || !b->correct) rp_cell(d, "wrong result in %s: not compared", a->correct ? "B" : b->correct ? "A" : "both");
    else if (!usable(a) || !usable(b)) rp_cell(d, "not compared: A is %s, B is %s", rp_origin(a), rp_origin(b));
    else if (asked[0]) rp_cell(d, "unlike, not compared: %s", asked);
    else if (machine[0]) rp_cell(d, "unlike machines (see below)");
    else rp_cell(d, "like");
}

static rm_status pair_row(rp_doc *d, const rp_data *a, const rp_result *x, const rp_data *b, const rp_result *y)
{
    side s = { 0 }, t = { 0 };
    rm_strbuf asked = { 0 }, machine = { 0 };
    rm_status st;
    RM_TRY_GOTO(st, side_of(a, x, &s), out);
    RM_TRY_GOTO(st, side_of(b, y, &t), out);
    rp_unlike_conditions(x, y, &asked);
    rp_unlike_machines(x->run->environment, y->run->environment, &machine);
    rp_row(d, !x->correct || !y->correct ? RP_WRONG : usable(x) && usable(y) && !asked.n ? RP_MEASURED : RP_NOT_MEASURED);
    rp_cell(d, "%s", x->run->command);
    rp_cell(d, "%s", x->key);
    rp_cell(d, "%s", rp_num(1e3 * s.step_s, 4).text);
    rp_cell(d, "%s", rp_num(1e3 * t.step_s, 4).text);
    rp_cell(d, "%s", rp_num(s.images_per_s, 4).text);
    rp_cell(d, "%s", rp_num(t.images_per_s, 4).text);
    RM_TRY_GOTO(st, ratio_cells(d, &s, &t, usable(x) && usable(y) && !asked.n), out);
    condition_cell(d, x, y, asked.text ? asked.text : "", machine.text ? machine.text : "");
out:
    rm_str_free(&asked);
    rm_str_free(&machine);
    free(s.step);
    free(t.step);
    return st;
}

static void machines_table(rp_doc *d, const json_t *a, const json_t *b)
{
    static const rp_column column[] = { { "Hard fact", false }, { "A", false }, { "B", false }, { "", false } };
    const json_t *x = json_object_get(a, "hard"), *y = json_object_get(b, "hard");
    char p[1024], q[1024];
    const char *key;
    json_t *v;
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Machines and programs of the newest runs");
    json_object_foreach((json_t *)x, key, v) {
        const json_t *w = json_object_get(y, key);
        rp_row(d, RP_PLAIN);
        rp_cell(d, "%s", key);
        rp_cell(d, "%s", rp_text_of(v, p, sizeof p));
        rp_cell(d, "%s", w ? rp_text_of(w, q, sizeof q) : "not given");
        rp_cell(d, "%s", json_equal(v, w) ? "equal" : "unlike");
    }
    json_object_foreach((json_t *)y, key, v) {
        if (json_object_get(x, key)) continue;
        rp_row(d, RP_PLAIN);
        rp_cell(d, "%s", key);
        rp_cell(d, "not given");
        rp_cell(d, "%s", rp_text_of(v, q, sizeof q));
        rp_cell(d, "unlike");
    }
}

static void lonely(rp_doc *d, const rp_data *from, const rp_data *other, const char *name)
{
    rm_strbuf s = { 0 };
    for (size_t i = 0; i < from->n_results; i++)
        if (!superseded(from, i) && !partner(other, &from->result[i]))
            rm_str_addf(&s, "%s%s %s", s.n ? ", " : "", from->result[i].run->command, from->result[i].key);
    if (s.n) rp_text(d, "Only in %s: %s.", name, s.text);
    rm_str_free(&s);
}

/* The answer first: how much of the two stores can be compared at all, and the first factor that can. */
static rm_status lead(rp_doc *d, const rp_data *a, const rp_data *b)
{
    size_t both = 0, fair = 0;
    rp_ratio first = { NAN, NAN, NAN };
    const char *name = "";
    for (size_t i = 0; i < a->n_results; i++) {
        const rp_result *x = &a->result[i], *y = superseded(a, i) ? NULL : partner(b, x);
        both += y != NULL;
        if (!y || !usable(x) || !usable(y) || !like(x, y)) continue;
        side s = { 0 }, t = { 0 };
        rm_status st = side_of(a, x, &s);
        if (st == RM_OK) st = side_of(b, y, &t);
        if (st == RM_OK && !fair++ && s.n && t.n) {
            st = rp_ratio_of(s.step, s.n, t.step, t.n, &first);
            name = x->key;
        }
        free(s.step);
        free(t.step);
        RM_TRY(st);
    }
    if (isfinite(first.ratio))
        rp_lead(d, "B takes steps %s times as fast as A (%s; 95 %% interval within the runs %s – %s). %zu results are in both stores, %zu of them under "
                   "conditions that can be compared.", rp_num(first.ratio, 3).text, name, rp_num(first.low, 4).text, rp_num(first.high, 4).text, both, fair);
    else
        rp_lead(d, "%zu results are in both stores, %zu of them under conditions that can be compared.", both, fair);
    return RM_OK;
}

rm_status rp_compare(rp_doc *d, const rp_data *a, const rp_data *b)
{
    static const rp_column column[] = { { "Command", false }, { "Result", false }, { "A, step (ms)", true }, { "B, step (ms)", true }, { "A, images/s", true },
                                        { "B, images/s", true }, { "B is faster by the factor", true }, { "95 % interval", true }, { "Conditions", false } };
    RM_TRY(lead(d, a, b));
    rp_heading(d, 2, "Side by side");
    rp_text(d, "A is %s, B is %s.", a->path, b->path);
    rp_table_begin(d, RP_TABLE, column, RM_COUNT(column), "Newest results of the same name; the factor is A's median step time over B's");
    for (size_t i = 0; i < a->n_results; i++) {
        const rp_result *other = superseded(a, i) ? NULL : partner(b, &a->result[i]);
        if (other) RM_TRY(pair_row(d, a, &a->result[i], b, other));
    }
    rp_text(d, "The interval is a bootstrap over the raw step times of one run a side. It covers the spread within these runs, not from run to "
               "run or day to day: a factor near 1 is a reason to measure pairs, not a verdict.");
    lonely(d, a, b, "A");
    lonely(d, b, a, "B");
    if (a->n_runs && b->n_runs) machines_table(d, a->run[0].environment, b->run[0].environment);
    return RM_OK;
}
