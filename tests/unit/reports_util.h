/* What the tests of reports share: stores made up in a folder of their own, and looks at what was written. */
#ifndef RM_TESTS_REPORTS_UTIL_H
#define RM_TESTS_REPORTS_UTIL_H
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "profiler/store.h"
#include "reports/reports.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256] = "/tmp/rm_reports_XXXXXX";
static const char HOSTILE[] = "bench x '<script>alert(1)</script>' \"a|b\" `id` & *c*";

static inline json_t *json(const char *text)
{
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j) fail_msg("%s at %d: %s", e.text, e.position, text);
    return j;
}

static inline json_t *fixture_environment(const char *processor)
{
    json_t *e = json("{\"hard\": {\"processor\": \"\", \"cores_available\": 2, \"memory_gib\": 23, \"isa\": \"avx2\", \"flags\": \"-O3\", \"onednn\": \"3.2\"},"
                     " \"soft\": {\"git\": \"fixture\", \"kernel\": \"6.1\", \"load_1min\": 0.52, \"governor\": \"performance\", \"host\": \"fixture\","
                     " \"variables\": {\"OMP_NUM_THREADS\": \"2\"}}}");
    json_object_set_new(json_object_get(e, "hard"), "processor", json_string(processor));
    json_object_set_new(e, "hard_sha", json_string(processor));
    return e;
}

static inline int64_t begin(rm_store *s, const char *command, const char *line, const char *config_text, const char *processor)
{
    json_t *config = json(config_text), *environment = fixture_environment(processor);
    int64_t run = 0;
    assert_int_equal(rm_store_run_begin(s, command, line, config, environment, &run), RM_OK);
    json_decref(config);
    json_decref(environment);
    return run;
}

static inline void put(rm_store *s, int64_t run, const char *key, const char *origin, bool correct, json_t *row, double median, size_t n)
{
    double value[400];
    rm_rng r = rm_rng_for(1, (uint64_t)(median * 1e6), n);
    for (size_t i = 0; i < n; i++) value[i] = median * (1 + 0.012 * rm_rng_normal(&r) + (rm_rng_below(&r, 25) ? 0 : 0.12));
    rm_samples m = { "step_s", "s", value, n, NULL };
    assert_int_equal(rm_store_result(s, run, key, origin, correct, row, &m, n ? 1 : 0), RM_OK);
    json_decref(row);
}

static inline rm_store *create(const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", dir, name);
    rm_store *s = NULL;
    if (rm_store_open(path, false, &s) != RM_OK) fail_msg("%s", rm_last_error());
    return s;
}

static inline char *read_all(const char *folder, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    if (!f) return NULL;
    char *text = calloc(1, 4 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (4 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

static inline void has(const char *text, const char *what)
{
    if (!strstr(text, what)) fail_msg("lacks \"%s\"", what);
}

static inline void lacks(const char *text, const char *what)
{
    if (strstr(text, what)) fail_msg("holds \"%s\"", what);
}

static inline rm_status render(const char *a, const char *b, const char *out)
{
    const char *const store[] = { a, b };
    rm_report_config cfg = { .store = store, .n_store = b ? 2 : 1, .out_dir = out, .compare = b != NULL };
    return rm_report_render(&cfg);
}

/* Every tag that opens closes, in order: enough XML to catch an escape that is missing. Void elements as HTML has them. */
static inline void well_formed(const char *text)
{
    const char *open[64];
    size_t length[64], depth = 0;
    for (const char *p = strchr(text, '<'); p; p = strchr(p, '<')) {
        const char *end = strchr(p, '>');
        assert_non_null(end);
        size_t n = strcspn(p + 1, " \t\n/>");
        bool closing = p[1] == '/', none = p[1] == '!' || p[1] == '?' || end[-1] == '/' || !strncmp(p, "<meta", 5);
        if (closing) {
            size_t m = strcspn(p + 2, " >");
            assert_true(depth > 0);
            depth--;
            if (m != length[depth] || strncmp(p + 2, open[depth], m)) fail_msg("<%.*s> closed by <%.*s>", (int)length[depth], open[depth], (int)m + 1, p + 1);
        } else if (!none) {
            assert_true(depth < 64);
            open[depth] = p + 1;
            length[depth++] = n;
        }
        p = !strncmp(p, "<script", 7) ? strstr(end, "</script") - 1 : end; /* what is in a script is no markup */
    }
    assert_int_equal(depth, 0);
}

static inline bool have_gnuplot(void) { return system("gnuplot --version >/dev/null 2>&1") == 0; }

static inline int make_dir(void **state) { return mkdtemp(dir) ? 0 : -1; }

static inline int remove_dir(void **state)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static inline int clear_dir(void **state)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'/*", dir);
    return system(command);
}

/* The block of text between two headings of the Markdown report. */
static inline char *section(const char *md, const char *heading)
{
    char line[128];
    snprintf(line, sizeof line, "\n## %s\n", heading);
    const char *from = strstr(md, line), *to = from ? strstr(from + strlen(line), "\n## ") : NULL;
    if (!from) fail_msg("no section \"%s\"", heading);
    char *text = strndup(from, to ? (size_t)(to - from) : strlen(from));
    assert_non_null(text);
    return text;
}

#define clean_test(f) cmocka_unit_test_setup(f, clear_dir)
#endif
