/* Reports from a made-up store: every number in it is a fixture, chosen to reach each branch of the report, not a measurement.
 * With a folder as argument the program only builds that store and its reports there, to be looked at. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "profiler/store.h"
#include "reports/compare.h"
#include "reports/csv.h"
#include "reports/doc.h"
#include "reports/figures.h"
#include "reports/gnuplot.h"
#include "reports/reports.h"
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256] = "/tmp/rm_reports_XXXXXX";
static const char HOSTILE[] = "bench x '<script>alert(1)</script>' \"a|b\" `id` & *c*";

/* ---- fixture ---------------------------------------------------------------------------------------------------- */

static json_t *json(const char *text)
{
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j) fail_msg("%s at %d: %s", e.text, e.position, text);
    return j;
}

static json_t *fixture_environment(const char *processor)
{
    json_t *e = json("{\"hard\": {\"processor\": \"\", \"cores_available\": 2, \"memory_gib\": 23, \"isa\": \"avx2\", \"flags\": \"-O3\", \"onednn\": \"3.2\"},"
                     " \"soft\": {\"git\": \"fixture\", \"kernel\": \"6.1\", \"load_1min\": 0.52, \"governor\": \"performance\", \"host\": \"fixture\","
                     " \"variables\": {\"OMP_NUM_THREADS\": \"2\"}}}");
    json_object_set_new(json_object_get(e, "hard"), "processor", json_string(processor));
    json_object_set_new(e, "hard_sha", json_string(processor));
    return e;
}

static int64_t begin(rm_store *s, const char *command, const char *line, const char *config_text, const char *processor)
{
    json_t *config = json(config_text), *environment = fixture_environment(processor);
    int64_t run = 0;
    assert_int_equal(rm_store_run_begin(s, command, line, config, environment, &run), RM_OK);
    json_decref(config);
    json_decref(environment);
    return run;
}

static void put(rm_store *s, int64_t run, const char *key, const char *origin, bool correct, json_t *row, double median, size_t n)
{
    double value[400];
    rm_rng r = rm_rng_for(1, (uint64_t)(median * 1e6), n);
    for (size_t i = 0; i < n; i++) value[i] = median * (1 + 0.012 * rm_rng_normal(&r) + (rm_rng_below(&r, 25) ? 0 : 0.12));
    rm_samples m = { "step_s", "s", value, n, NULL };
    assert_int_equal(rm_store_result(s, run, key, origin, correct, row, &m, n ? 1 : 0), RM_OK);
    json_decref(row);
}

static json_t *scaling_row(int n, const char *origin, double ips, double step, double efficiency)
{
    json_t *row = json(
        "{\"modes\": {\"synthetic\": {}, \"data-only\": {}, \"real\": {}}, \"blocking_comm_s\": null, \"blocking_comm_s_reason\": \"replay is not built yet\","
        " \"loss_attribution_s\": {}}");
    json_t *more = json_pack("{s:i, s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:{s:f, s:f, s:i}, s:f, s:f, s:o}", "ranks", n, "device", "cpu", "origin", origin,
                             "batch_per_device", 32, "input", "real", "images_per_s", ips, "images_per_s_low", ips * 0.985, "images_per_s_high", ips * 1.015,
                             "step_s", "median", step, "mad", step * 0.008, "samples", 60, "efficiency_weak", efficiency, "baseline", 152.0, "reproduce",
                             json_sprintf("bench scaling --gpus %d --batch 32", n));
    json_object_update(row, more);
    json_decref(more);
    json_t *modes = json_object_get(row, "modes");
    json_object_set_new(json_object_get(modes, "synthetic"), "images_per_s", json_real(ips * 1.04));
    json_object_set_new(json_object_get(modes, "data-only"), "images_per_s", json_real(2100));
    json_object_set_new(json_object_get(modes, "real"), "images_per_s", json_real(ips));
    json_object_set_new(row, "budget_s", json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "compute", step * 0.84, "exposed_comm", step * (n > 1 ? 0.09 : 0),
                                                   "exposed_copy", 0.0, "input_stall", step * 0.02, "host", step * 0.03, "idle", step * (n > 1 ? 0.02 : 0.11)));
    if (n == 1) {
        json_object_set_new(row, "overlap_geom", json_null());
        json_object_set_new(row, "overlap_geom_reason", json_string("one rank has no collective"));
        json_object_del(row, "loss_attribution_s");
    } else {
        json_object_set_new(row, "overlap_geom", json_real(0.62));
        json_object_set_new(row, "exposed_comm_s", json_real(step * 0.09));
        json_object_set_new(row, "comm_cost_s", json_real(step * 0.12));
        json_object_set_new(row, "eta_eff", json_real(-0.08));
        json_object_set_new(row, "loss_attribution_s", json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "loss", step - 0.216, "input", 0.002, "compute_slowdown", 0.08,
                                                               "exposed_transfer", 0.03, "straggler", 0.005, "unexplained", step - 0.216 - 0.117));
        json_object_set_new(row, "oversubscribed", json_true());
        json_object_set_new(row, "to_accuracy", json_pack("{s:f, s:f, s:f, s:f}", "time_to_accuracy_s", 140.0, "final_top1", 85.4, "target_top1", 85.0, "run_s", 150.0));
    }
    return row;
}

static void put_scaling(rm_store *s, const char *processor, double speed)
{
    int64_t run = begin(s, "scaling", "bench scaling --gpus 1,2,4,8 --batch 32", "{\"gpus\": \"1,2,4,8\", \"batch\": 32}", processor);
    put(s, run, "n=1", "measured", true, scaling_row(1, "measured", 148 * speed, 0.216 / speed, 0.974), 0.216 / speed, 60);
    put(s, run, "n=2", "measured", true, scaling_row(2, "measured", 190 * speed, 0.337 / speed, 0.625), 0.337 / speed, 60);
    put(s, run, "n=4", "projected", true, scaling_row(4, "projected", 260 * speed, 0.49 / speed, 0.43), 0.49, 0);
    put(s, run, "gathered n=1", "measured", true, json("{\"modes\": {}, \"note\": \"intermediate\"}"), 1, 0);
    put(s, run, "n=8", "not_measured", true, json("{\"ranks\": 8, \"origin\": \"not_measured\", \"images_per_s\": null, \"reason\": \"this machine has 2 cores; run it on one with 8 or more\"}"), 1, 0);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void put_strong(rm_store *s)
{
    int64_t run = begin(s, "scaling", "bench scaling --strong --gpus 1,2 --batch 64", "{\"gpus\": \"1,2\", \"strong\": true}", "Fixture CPU");
    for (int n = 1; n <= 2; n++) {
        json_t *row = scaling_row(n, "measured", 150.0 + 30 * n, 0.42 - 0.06 * n, 1);
        json_object_del(row, "efficiency_weak");
        json_object_set_new(row, "efficiency_strong", json_real(n == 1 ? 1 : 0.583));
        put(s, run, n == 1 ? "n=1" : "n=2", "measured", true, row, 0.42 - 0.06 * n, 60);
    }
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void put_train(rm_store *s)
{
    int64_t run = begin(s, "train", "bench train --recipe tiny", "{\"recipe\": \"tiny\"}", "Fixture CPU");
    json_t *row = json("{\"recipe\": \"tiny\", \"device\": \"cpu\", \"dtype\": \"fp32\", \"ranks\": 1, \"epochs\": 8, \"seed\": 1, \"px\": 32, \"batch_per_device\": 64,"
                       " \"images_per_s\": 331.5, \"final_top1\": 86.9, \"final_top5\": 99.4, \"target_top1\": 85, \"time_to_accuracy_s\": 171.2, \"run_s\": 240,"
                       " \"bad_images\": 0, \"input_stall_s\": 1.25, \"epochs_log\": [], \"reproduce\": \"bench train --recipe tiny --seed 1\"}");
    for (int e = 1; e <= 8; e++)
        json_array_append_new(json_object_get(row, "epochs_log"),
                              json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "epoch", e, "time_s", 30.0 * e, "train_loss", 2.2 * exp(-0.35 * e) + 0.3, "top1",
                                        88 - 40 * exp(-0.45 * e), "top5", 99.5 - 9 * exp(-0.6 * e), "images_per_s", 331.5, "lr", 0.1 * (1 - e / 8.0)));
    put(s, run, "train", "measured", true, row, 0.19, 300);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void put_layers(rm_store *s)
{
    static const char *const pass[] = { "fwd", "bwd_data", "bwd_weights" };
    int64_t run = begin(s, "layers", "bench layers --px 64", "{\"px\": 64}", "Fixture CPU");
    json_t *row = json("{\"px\": 64, \"batch\": 32, \"dtype\": \"fp32\", \"device\": \"cpu\", \"step_s\": 0.4, \"layers\": [], \"reproduce\": \"bench layers --px 64\"}");
    json_t *layers = json_object_get(row, "layers");
    for (int stage = 0; stage <= 4; stage++)
        for (int k = 1; k <= (stage ? 6 : 1); k++)
            for (int p = 0; p < 3; p++) {
                double t = 0.0012 * (1 + p) * (1 + k % 3) * (stage ? 1 : 3);
                json_t *name = stage ? json_sprintf("layer%d.%d.conv%d", stage, (k - 1) / 3, 1 + (k - 1) % 3) : json_string("conv1");
                json_array_append_new(layers, json_pack("{s:o, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "name", name, "pass", pass[p], "op", "conv",
                                                        "impl", "jit:avx2", "time_s", t, "share", t / 0.4, "gflops_per_s", 44.0 / (1 + p), "gb_per_s", 3.1,
                                                        "flops", 44e9 / (1 + p) * t, "bytes", 3.1e9 * t));
            }
    json_array_append_new(layers, json("{\"name\": \"fc\", \"pass\": \"fwd\", \"op\": \"fc\", \"impl\": \"gemm\", \"time_s\": 0.004, \"share\": 0.01}"));
    json_array_append_new(layers, json("{\"name\": \"sgd\", \"pass\": \"update\", \"op\": \"sgd\", \"impl\": \"fused\", \"time_s\": 0.021, \"share\": 0.0525}"));
    json_array_append_new(layers, json("{\"name\": \"loader\", \"pass\": \"fwd\", \"op\": \"reorder\", \"impl\": \"\", \"time_s\": 0.006, \"share\": 0.015}"));
    json_array_append_new(layers, json("{\"name\": \"step\", \"pass\": \"idle\", \"op\": \"\", \"impl\": \"\", \"time_s\": 0.011, \"share\": 0.0275}"));
    put(s, run, "layers", "measured", true, row, 0.4, 20);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static rm_store *create(const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", dir, name);
    rm_store *s = NULL;
    if (rm_store_open(path, false, &s) != RM_OK) fail_msg("%s", rm_last_error());
    return s;
}

static void make_fixture(char path[512])
{
    rm_store *s = create("fixture.db", path);
    put_train(s);
    put_layers(s);
    int64_t run = begin(s, "kernels", HOSTILE, "{}", "Fixture CPU");
    put(s, run, "conv <1>", "measured", true, json("{\"case\": \"n=64|c=64\", \"time_s\": 0.00123456, \"ok\": true, \"time\": {\"median_s\": 0.5, \"samples_s\": [1], \"reproduce\": \"x\"}, \"impl\": null, \"impl_reason\": \"x\"}"), 1, 0);
    put(s, run, "conv 2", "measured", false, json("{\"case\": \"n=1\", \"time_s\": 0.001, \"ok\": false}"), 1, 0);
    put_strong(s);
    put_scaling(s, "Fixture CPU", 1);
    rm_store_close(s);
}

static void make_other(char path[512])
{
    rm_store *s = create("other.db", path);
    put_scaling(s, "Other CPU", 1.25);
    rm_store_close(s);
}

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

static char *read_all(const char *folder, const char *name)
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

static void has(const char *text, const char *what)
{
    if (!strstr(text, what)) fail_msg("lacks \"%s\"", what);
}

static void lacks(const char *text, const char *what)
{
    if (strstr(text, what)) fail_msg("holds \"%s\"", what);
}

static rm_status render(const char *a, const char *b, const char *out)
{
    const char *const store[] = { a, b };
    rm_report_config cfg = { .store = store, .n_store = b ? 2 : 1, .out_dir = out, .compare = b != NULL };
    return rm_report_render(&cfg);
}

/* Every tag that opens closes, in order: enough XML to catch an escape that is missing. Void elements as HTML has them. */
static void well_formed(const char *text)
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
        p = end;
    }
    assert_int_equal(depth, 0);
}

static bool have_gnuplot(void) { return system("gnuplot --version >/dev/null 2>&1") == 0; }

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void test_whole_report(void **state)
{
    char path[512], out[300];
    make_fixture(path);
    snprintf(out, sizeof out, "%s/deep/report", dir);
    rm_status st = render(path, NULL, out);
    if (have_gnuplot() && st != RM_OK) fail_msg("%s", rm_last_error());
    char *html = read_all(out, "index.html"), *md = read_all(out, "report.md");
    assert_true(html && md);
    well_formed(html);
    /* the answer first */
    assert_true(strstr(html, "148.0 images/s on 1 device") && strstr(html, "148.0 images/s on 1 device") < strstr(html, "<h2>"));
    has(html, "62.5 % weak-scaling efficiency on 2 (more ranks than devices), the most that was measured");
    has(html, "86.90 % top-1");
    lacks(html, "gathered"); /* what a sweep keeps to resume from is no result */
    lacks(html, "on 4, the most"); /* projections never reach the summary */
    for (int i = 0; i < 2; i++) {
        const char *text = i ? md : html;
        has(text, "projected");
        has(text, "not measured");
        has(text, "this machine has 2 cores");
        has(text, "one rank has no collective");
        has(text, "bench train --recipe tiny --seed 1");
        has(text, "The 20 slowest rows");
        has(text, "WRONG");
        has(text, "measured, oversubscribed");
        has(text, "Efficiency, strong");
        has(text, "58.3");
        has(text, "time");
        has(text, "Time to accuracy by number of devices");
        has(text, "Fixture CPU");
        has(text, "NVIDIA DeepLearningExamples");
    }
    has(html, "class=\"projected\"");
    /* nothing is fetched, nothing runs */
    lacks(html, "<script");
    lacks(html, "<link");
    lacks(html, "<img");
    lacks(html, "@import");
    lacks(html, "src=");
    free(html);
    free(md);
}

static void test_hostile_text_is_escaped(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/deep/report", dir);
    make_fixture(path);
    rm_status st = render(path, NULL, out);
    assert_true(st == RM_OK || st == RM_E_PARTIAL);
    char *html = read_all(out, "index.html"), *md = read_all(out, "report.md");
    has(html, "&lt;script&gt;alert(1)&lt;/script&gt;");
    lacks(html, "<script>");
    has(html, "conv &lt;1&gt;");
    has(md, "n=64\\|c=64"); /* a bar would end the cell */
    has(md, "&lt;script&gt;");
    free(html);
    free(md);
}

static void test_figures(void **state)
{
    char path[512], out[300];
    if (!have_gnuplot()) skip();
    snprintf(out, sizeof out, "%s/figures", dir);
    make_fixture(path);
    assert_int_equal(render(path, NULL, out), RM_OK);
    static const struct { const char *file, *text[3]; } want[] = {
        { "throughput.svg", { "training throughput (images/s)", "projected, not measured", "not measured" } },
        { "throughput-strong.svg", { "training throughput (images/s)", "ideal", "devices (N)" } },
        { "steps-strong.svg", { "step time, slowest rank (ms)", "N = 1", "N = 2" } },
        { "steps.svg", { "step time, slowest rank (ms)", "N = 1", "N = 2" } },
        { "layers.svg", { "time in one step (ms)", "layer4", "reorders" } },
        { "accuracy.svg", { "top-1 accuracy", "target 85 %", "(s)" } },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char *svg = read_all(out, want[i].file);
        assert_non_null(svg);
        well_formed(svg);
        for (int k = 0; k < 3; k++) has(svg, want[i].text[k]);
        free(svg);
    }
    char *html = read_all(out, "index.html");
    size_t figures = 0;
    for (const char *p = html; (p = strstr(p, "<svg")); p++) figures++;
    assert_int_equal(figures, RM_COUNT(want));
    lacks(html, "<title>gnuplot");
    lacks(html, "id=\"gnuplot"); /* names are made unique per figure */
    free(html);
}

/* Not installed: the report is complete but for the figures, and says so. */
static void test_without_gnuplot(void **state)
{
    char path[512], out[300], *old = strdup(getenv("PATH"));
    snprintf(out, sizeof out, "%s/bare", dir);
    make_fixture(path);
    setenv("PATH", "/nonexistent", 1);
    rm_status st = render(path, NULL, out);
    setenv("PATH", old, 1);
    free(old);
    assert_int_equal(st, RM_E_PARTIAL);
    has(rm_last_error(), "gnuplot is not installed");
    char *html = read_all(out, "index.html");
    has(html, "The figure is missing");
    lacks(html, "<svg");
    has(html, "148.0 images/s");
    free(html);
}

static void test_empty_store(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/empty", dir);
    rm_store_close(create("empty.db", path));
    assert_int_equal(render(path, NULL, out), RM_OK);
    char *html = read_all(out, "index.html");
    has(html, "The store holds no results yet");
    well_formed(html);
    free(html);
}

static void test_training_without_accuracy(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/synthetic", dir);
    rm_store *s = create("synthetic.db", path);
    int64_t run = begin(s, "train", "bench train --data synthetic", "{}", "Fixture CPU");
    put(s, run, "train", "measured", true, json("{\"recipe\": \"tiny\", \"images_per_s\": 99.5, \"final_top1\": null, \"final_top1_reason\": \"no validation part\","
                                                " \"epochs_log\": [{\"epoch\": 1, \"time_s\": 3, \"top1\": null}]}"), 0.1, 3);
    rm_store_close(s);
    assert_int_equal(render(path, NULL, out), RM_OK);
    char *html = read_all(out, "index.html");
    has(html, "99.50 images/s without an accuracy: no validation part");
    lacks(html, "<svg"); /* nothing to draw */
    free(html);
}

static void test_missing_store_and_bad_folder(void **state)
{
    char path[512], out[300];
    snprintf(path, sizeof path, "%s/nothing.db", dir);
    assert_int_equal(render(path, NULL, dir), RM_E_IO);
    has(rm_last_error(), "nothing.db");
    make_fixture(path);
    snprintf(out, sizeof out, "%s/fixture.db/report", dir); /* below a file */
    assert_int_equal(render(path, NULL, out), RM_E_IO);
}

static void test_compare(void **state)
{
    char a[512], b[512], out[300];
    snprintf(out, sizeof out, "%s/compare", dir);
    make_fixture(a);
    make_other(b);
    assert_int_equal(render(a, b, out), RM_OK);
    char *html = read_all(out, "index.html");
    well_formed(html);
    has(html, "unlike machines");
    has(html, "Other CPU");
    has(html, "not compared: A is projected");
    has(html, "Only in A: ");
    has(html, "train train");
    free(html);
}

static void test_unlike_is_not_compared(void **state)
{
    char a[512], b[512], out[300];
    snprintf(out, sizeof out, "%s/unlike", dir);
    rm_store *s = create("px32.db", a);
    put(s, begin(s, "step", "bench step", "{\"px\": 32}", "Same"), "step", "measured", true, json("{\"px\": 32}"), 0.1, 30);
    rm_store_close(s);
    s = create("px64.db", b);
    put(s, begin(s, "step", "bench step", "{\"px\": 64}", "Same"), "step", "measured", true, json("{\"px\": 64}"), 0.4, 30);
    rm_store_close(s);
    assert_int_equal(render(a, b, out), RM_OK);
    char *md = read_all(out, "report.md");
    has(md, "unlike, not compared: px: 32 / 64");
    lacks(md, "0.25"); /* no ratio */
    free(md);
}

static void test_ratio(void **state)
{
    double a[50], b[50];
    rp_ratio q, again;
    for (int i = 0; i < 50; i++) {
        rm_rng r = rm_rng_for(3, 0, (uint64_t)i);
        a[i] = 2 * (1 + 0.02 * rm_rng_normal(&r));
        b[i] = 1 * (1 + 0.02 * rm_rng_normal(&r));
    }
    assert_int_equal(rp_ratio_of(a, 50, b, 50, &q), RM_OK);
    assert_true(q.low < q.ratio && q.ratio < q.high && q.low < 2 && 2 < q.high && q.high - q.low < 0.1);
    assert_int_equal(rp_ratio_of(a, 50, b, 50, &again), RM_OK);
    assert_memory_equal(&q, &again, sizeof q);
    assert_int_equal(rp_ratio_of(a, 0, b, 50, &q), RM_OK);
    assert_true(isnan(q.ratio) && isnan(q.low));
}

static void test_numbers(void **state)
{
    static const struct { double v; int digits; const char *text; } row[] = {
        { 0, 3, "0" }, { 16600, 4, "16600" }, { 148, 4, "148.0" }, { 0.0123456, 3, "0.0123" }, { -2.5, 2, "-2.5" }, { 1, 9, "1" }, { NAN, 3, "–" }, { 0.99996, 4, "1.0000" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) assert_string_equal(rp_num(row[i].v, row[i].digits).text, row[i].text);
}

typedef struct seen { int n; char text[200]; } seen;
static rm_status see(void *ctx, char *const *f, int n)
{
    seen *s = ctx;
    s->n++;
    for (int i = 0; i < n; i++) snprintf(s->text + strlen(s->text), sizeof s->text - strlen(s->text), "[%s]", f[i]);
    return RM_OK;
}

static void test_csv(void **state)
{
    seen s = { 0 };
    assert_int_equal(rp_csv_each("a,b\n1,\"x, \"\"y\"\"\nz\"\r\n,last", "f.csv", see, &s), RM_OK);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.text, "[1][x, \"y\"\nz][][last]");
    assert_int_equal(rp_csv_each("a,b\n1\n", "f.csv", see, &s), RM_E_FORMAT);
    has(rm_last_error(), "f.csv:2");
    assert_int_equal(rp_csv_each("a,b\n1,\"open\n", "f.csv", see, &s), RM_E_FORMAT);
    has(rm_last_error(), "never closed");
    assert_int_equal(rp_csv_each("", "f.csv", see, &s), RM_OK);
}

static void test_gnuplot_escapes(void **state)
{
    rm_strbuf s = { 0 }, script = { 0 }, data = { 0 };
    char out[300];
    if (!have_gnuplot()) skip();
    snprintf(out, sizeof out, "%s", dir);
    rm_str_add(&script, "set title \"");
    rp_escape_gnuplot(&script, "a_b {x} ^2 @ & <t> \\n \"q\" `touch /tmp/never` %d");
    rm_str_add(&script, "\"\nplot x\n");
    assert_int_equal(rp_gnuplot(out, "escape", &script, &data), RM_OK);
    char *svg = read_all(out, "escape.svg");
    has(svg, "a_b {x} ^2 @ &amp; &lt;t> \\n \"q\" 'touch /tmp/never' %d");
    free(svg);
    rm_str_free(&script);
    rm_str_add(&script, "plot nonsense(\n");
    assert_int_equal(rp_gnuplot(out, "broken", &script, &data), RM_E_IO);
    has(rm_last_error(), "gnuplot failed");
    rm_str_free(&script);
    rm_str_free(&s);
}

static void test_stages(void **state)
{
    assert_string_equal(rp_stages[rp_stage_of("layer3.5.conv2", "fwd")], "layer3");
    assert_string_equal(rp_stages[rp_stage_of("conv1", "bwd_weights")], "stem");
    assert_string_equal(rp_stages[rp_stage_of("fc", "fwd")], "head");
    assert_string_equal(rp_stages[rp_stage_of("layer1.0.conv1", "update")], "other");
    assert_string_equal(rp_stages[rp_stage_of("unheard of", "fwd")], "other");
}

static int make_dir(void **state) { return mkdtemp(dir) ? 0 : -1; }

static int remove_dir(void **state)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static int clear_dir(void **state)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'/*", dir);
    return system(command);
}

/* For eyes: the fixture, its report, and a comparison. */
static int show(const char *folder)
{
    char a[512], b[512], out[600];
    snprintf(dir, sizeof dir, "%s", folder);
    mkdir(dir, 0777);
    make_fixture(a);
    make_other(b);
    snprintf(out, sizeof out, "%s/report", dir);
    rm_status st = render(a, NULL, out);
    if (st == RM_OK) {
        snprintf(out, sizeof out, "%s/compare", dir);
        st = render(a, b, out);
    }
    if (st != RM_OK) fprintf(stderr, "%s\n", rm_last_error());
    return st != RM_OK;
}

#define clean_test(f) cmocka_unit_test_setup(f, clear_dir)

int main(int argc, char **argv)
{
    if (argc > 1) return show(argv[1]);
    const struct CMUnitTest tests[] = {
        clean_test(test_whole_report), clean_test(test_hostile_text_is_escaped), clean_test(test_figures), clean_test(test_without_gnuplot),
        clean_test(test_empty_store),  clean_test(test_training_without_accuracy), clean_test(test_missing_store_and_bad_folder), clean_test(test_compare), clean_test(test_unlike_is_not_compared),
        clean_test(test_ratio),        clean_test(test_numbers),                clean_test(test_csv),     clean_test(test_gnuplot_escapes),
        clean_test(test_stages),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
