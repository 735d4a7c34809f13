#include "bench/gate_metric.h"
#include "base/utf8.h"
#include "profiler/json_path.h"
#include "profiler/stats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a run itself says */

static double cpu_s(const bench_process *r) { return r->cpu_s; }
static double wall_s(const bench_process *r) { return r->wall_s; }
static double max_rss_bytes(const bench_process *r) { return (double)r->max_rss_bytes; }
static double instructions(const bench_process *r) { return (double)r->instructions; }

static const struct own {
    const char *path, *tier;
    double (*of)(const bench_process *r);
    const char *why; /* it may not be there */
} owns[] = {
    { "@cpu_s", "T1", cpu_s, "it took no processor time that the system counts" },
    { "@instructions", "T1", instructions,
      "this machine does not count them (perf_event: no hardware counters, or not allowed); @callgrind counts them with valgrind, and @cpu_s is there everywhere" },
    { BENCH_METRIC_CALLGRIND, "T1", instructions, "valgrind counted nothing: is it installed, and does it run the command?" },
    { "@wall_s", "T2", wall_s, "it took no time" },
    { "@max_rss_bytes", "T1", max_rss_bytes, "the system does not say" },
};

static const struct own *own_of(const char *path)
{
    for (size_t i = 0; i < RM_COUNT(owns); i++)
        if (strcmp(owns[i].path, path) == 0) return &owns[i];
    return NULL;
}

/* ---- parsing */

rm_status bench_share_parse(const char *text, const char *what, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end != text && *end == '%') v /= 100, end++;
    if (end == text || *end || !(v > 0 && v < 1)) return rm_fail(RM_E_ARG, "%s %s: it must be a share such as 2%% or 0.02, above 0 and below 1", what, text);
    *out = v;
    return RM_OK;
}

static rm_status take_effect(const char *value, bench_metric *m) { return bench_share_parse(value, "effect", &m->effect); }
static rm_status take_higher(const char *value, bench_metric *m)
{
    m->higher = true;
    return RM_OK;
}
static rm_status take_lower(const char *value, bench_metric *m)
{
    m->higher = false;
    return RM_OK;
}
static rm_status take_fast(const char *value, bench_metric *m)
{
    m->fast = true;
    return RM_OK;
}
static rm_status take_exact(const char *value, bench_metric *m)
{
    m->exact = true;
    return RM_OK;
}

static const struct {
    const char *word;
    rm_status (*take)(const char *value, bench_metric *m);
} suffixes[] = { { "effect=", take_effect }, { "higher", take_higher }, { "lower", take_lower }, { "fast", take_fast }, { "exact", take_exact } };

/* The last part of `text` after a colon, where that is a suffix: takes it and cuts it off. */
static rm_status take_suffix(char *text, bench_metric *m, bool *out_more)
{
    char *colon = strrchr(text, ':');
    *out_more = false;
    for (size_t i = 0; colon && i < RM_COUNT(suffixes); i++) {
        const size_t n = strlen(suffixes[i].word);
        const bool fits = suffixes[i].word[n - 1] == '=' ? strncmp(colon + 1, suffixes[i].word, n) == 0 : strcmp(colon + 1, suffixes[i].word) == 0;
        if (!fits) continue;
        RM_TRY(suffixes[i].take(colon + 1 + n, m));
        *colon = '\0';
        *out_more = true;
        return RM_OK;
    }
    return RM_OK;
}

static void name_of(const char *path, char *out, size_t size)
{
    const char *p = path + strspn(path, "$@.");
    snprintf(out, size, "%.*s", (int)size - 1, *p ? p : path);
}

static rm_status too_long(const char *text) { return rm_fail(RM_E_ARG, "--metric %s: too long", text); }

rm_status bench_metric_parse(const char *given, double effect, bench_metric *out)
{
    bench_metric m = { .effect = effect };
    char text[512];
    bool more = true;
    if (strlen(given) >= sizeof text) return too_long(given);
    snprintf(text, sizeof text, "%s", given);
    while (more) RM_TRY(take_suffix(text, &m, &more));
    char *path = text;
    if (text[0] != '$' && text[0] != '@') {
        char *equals = strchr(text, '=');
        if (!equals || equals == text) return rm_fail(RM_E_ARG, "--metric %s: it is [NAME=]PATH, and a path begins with $ or @", given);
        *equals = '\0';
        if ((size_t)snprintf(m.name, sizeof m.name, "%s", text) >= sizeof m.name) return too_long(given);
        path = equals + 1;
    } else name_of(text, m.name, sizeof m.name);
    rm_utf8_clean(m.name); /* it becomes a key */
    if ((size_t)snprintf(m.path, sizeof m.path, "%s", path) >= sizeof m.path) return too_long(given);
    const struct own *own = own_of(path);
    if (path[0] == '@' && !own) return rm_fail(RM_E_ARG, "--metric %s: of a run there is @cpu_s, @instructions, @callgrind, @wall_s and @max_rss_bytes", given);
    if (!own) RM_TRY(rm_json_path_check(path));
    m.tier = m.exact ? "T0" : own ? own->tier : "T2";
    *out = m;
    return RM_OK;
}

/* ---- values */

static bench_metric_value value_of(const bench_metric *m, double value)
{
    return (bench_metric_value) { .value = value, .log = m->higher ? -log(value) : log(value), .steps = 1, .settled = true };
}

double bench_metric_of_series(const bench_metric *m, const double *v, const rm_steady *s)
{
    return m->fast ? rm_quantile(v + s->dropped, s->n, m->higher ? 0.9 : 0.1) : s->median;
}

rm_status bench_metric_no_json(const char *path, const bench_process *run)
{
    json_error_t e = { .line = 0 };
    char begin[41];
    if (!run->out || !run->out[0]) return rm_fail(RM_E_FORMAT, "%s: the command printed nothing on stdout, where JSON is wanted", path);
    json_decref(json_loadb(run->out, run->out_bytes, 0, &e)); /* once more, for the reason */
    snprintf(begin, sizeof begin, "%.40s", run->out);
    rm_utf8_clean(begin);
    return rm_fail(RM_E_FORMAT, "%s: the command printed no JSON on stdout, or more than that: %s (line %d); it begins with '%s'", path, e.text, e.line, begin);
}

rm_status bench_metric_take(const bench_metric *m, const bench_process *run, const json_t *document, bench_metric_value *out)
{
    double *v;
    size_t n;
    const struct own *own = own_of(m->path);
    if (own && !(own->of(run) > 0)) return rm_fail(RM_E_UNSUPPORTED, "%s of a run is not known: %s", m->path, own->why);
    if (own) {
        *out = value_of(m, own->of(run));
        return RM_OK;
    }
    if (!document) return bench_metric_no_json(m->path, run);
    RM_TRY(rm_json_path_numbers(document, m->path, &v, &n));
    const rm_steady s = rm_steady_of(v, n);
    *out = value_of(m, bench_metric_of_series(m, v, &s));
    free(v);
    out->steps = n;
    out->dropped = s.dropped;
    out->settled = n == 1 || s.settled;
    return RM_OK;
}
