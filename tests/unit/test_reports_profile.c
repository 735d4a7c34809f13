/* Report pages of bench profile, from made-up stores: every number is a fixture, not a measurement. With a folder as argument the program only builds the
 * store and its report there, to be looked at. */
#include "reports_util.h"
#include "reports/doc.h"
#include "reports/figures.h"

static const char EVIL[] = "]]></script><script>alert(1)</script>\"><img onerror=x> 'é {x}^2 `id`";

/* ---- fixture ----------------------------------------------------------------------------------------------------- */

typedef struct shape {
    int ranks;
    const char *dtype;
    double compute, exposed, input, ratio;
    bool sensitivity, many;
} shape; /* seconds; ratio: traced over untraced */
static const double HOST_S = 0.002, IDLE_S = 0.0035;

static double step_of(const shape *w) { return w->compute + w->exposed + w->input + HOST_S + IDLE_S; }

static void add_layer(json_t *layers, const char *name, const char *pass, const char *op, double t, double flops, double bytes, double step)
{
    double compute = flops / 110e9, memory = bytes / 9e9, bound = fmax(compute, memory);
    json_array_append_new(layers, json_pack("{s:s, s:s, s:s, s:s, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:f, s:f, s:f}", "name", name, "pass", pass,
                                            "op", op, "impl", "jit:avx2", "time_s", t, "time_ns", (json_int_t)(t * 1e9), "time_s_median", t, "share", t / step,
                                            "flops", flops, "bytes", bytes, "gflops_per_s", 1e-9 * flops / t, "gb_per_s", 1e-9 * bytes / t, "bound_s", bound,
                                            "bound_limit", compute > memory ? "compute" : "memory", "bound_share", bound / t, "intensity", flops / bytes,
                                            "step_if_at_bound_s", step - t + bound));
}

/* Three passes of a few dozen convolutions and norms that share the compute time; then what is no op. */
static json_t *layers_of(const shape *w)
{
    static const struct {
        const char *pass;
        double part;
    } pass[] = { { "fwd", 0.3 }, { "bwd_data", 0.3 }, { "bwd_weights", 0.4 } };
    json_t *layers = json_array();
    double step = step_of(w), unit = w->compute / 66;
    for (size_t p = 0; p < RM_COUNT(pass); p++)
        for (int k = 0; k < 22; k++) {
            char name[48];
            bool norm = k % 2;
            double t = unit * pass[p].part * 3 * (norm ? 0.5 : 1.5);
            snprintf(name, sizeof name, "layer%d.%d.%s%d", 1 + k / 6, k / 3 % 2, norm ? "bn" : "conv", 1 + k % 3);
            add_layer(layers, name, pass[p].pass, norm ? "bn+relu" : "conv", t, norm ? 0.9e9 * t : (40e9 + 2.5e9 * k) * t,
                      norm ? 5e9 * t : (0.5e9 + 0.1e9 * (k % 7)) * t, step);
        }
    json_array_append_new(
        layers,
        json(
            "{\"name\": \"<b>odd\", \"pass\": \"fwd\", \"op\": \"cast\", \"impl\": \"emulated bf16\", \"time_s\": 0.0001, \"flops\": 10, \"bytes\": 1e9, \"bound_limit\": \"memory\"}"));
    json_array_append_new(layers, json("{\"name\": \"exposed communication\", \"pass\": \"comm\", \"op\": \"\", \"impl\": \"\", \"time_s\": 0.003}"));
    json_array_append_new(layers, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:n, s:n}", "name", "host", "pass", "host", "op", "", "impl", "", "time_s", HOST_S,
                                            "share", HOST_S / step, "bound_s", "bound_limit"));
    return layers;
}

static void add_span(json_t *spans, double begin_s, double s, const char *text, const char *class)
{
    json_array_append_new(spans, json_pack("[I, I, s, s]", (json_int_t)(begin_s * 1e9), (json_int_t)(s * 1e9), text, class));
}

static json_t *lane_of(json_t *lanes, const char *name, const char *kind)
{
    json_t *spans = json_array();
    json_array_append_new(lanes, json_pack("{s:s, s:s, s:o}", "name", name, "kind", kind, "spans", spans));
    return spans;
}

static json_t *rank_of(const shape *w, int rank)
{
    json_t *lanes = json_array(), *compute = lane_of(lanes, "compute", "queue"), *comm = lane_of(lanes, "communication", "thread"),
           *input = lane_of(lanes, "input worker 1", "thread"), *host = lane_of(lanes, "host", "thread");
    int ops = w->many ? 360 : 48;
    double at = w->input, step = step_of(w), late = 0.003 * rank;
    lane_of(lanes, "copies", "queue"); /* nothing in it: no lane is drawn */
    add_span(host, 0, step, "step", "step-part");
    add_span(host, 0, w->input, "wait for input", "input");
    for (int k = 0; k < ops; k++) {
        char text[64];
        double t = w->compute / ops * (k % 2 ? 0.6 : 1.4);
        snprintf(text, sizeof text, "layer%d.%d.conv%d", 1 + k * 4 / ops % 4, k % 5, 1 + k % 3);
        add_span(compute, at + late, t, text, k < ops / 3 ? "fwd" : k < ops - 2 ? "bwd" : "update");
        add_span(host, at + late, t / 3, "enqueue", "host");
        at += t;
    }
    for (int k = 0; w->ranks > 1 && k < 5; k++) add_span(comm, w->compute * (0.45 + 0.12 * k) + late, w->compute * 0.1, "bucket", "comm");
    for (int k = 0; k < 6; k++) add_span(input, step * k / 6, step / 8, "decode", "input");
    return json_pack("{s:i, s:s, s:o}", "rank", rank, "host", rank ? "host-b" : EVIL, "lanes", lanes);
}

static json_t *timeline_of(const shape *w)
{
    json_t *ranks = json_array();
    for (int k = 0; k < w->ranks; k++) json_array_append_new(ranks, rank_of(w, k));
    return json_pack("{s:f, s:o}", "step_s", step_of(w), "ranks", ranks);
}

static json_t *sensitivity_of(void)
{
    static const struct {
        const char *kind, *name, *pass;
        double predicted, measured;
    } row[] = {
        { "op", "layer1.0.conv1", "fwd", 1, 1.04 },
        { "op", "layer4.2.conv3", "bwd_weights", 1, 0.97 },
        { "op", "layer2.0.bn1", "bwd", 0.98, 0.71 },
        { "bucket", "107", NULL, 0.1, 0.16 },
        { "bucket", "160", NULL, 0.95, 0.9 },
        { "input", "one batch later", NULL, 0, 0.02 },
        { "op", "fc", "fwd", 1, 1.1 },
        { "op", "conv1", "bwd_weights", 0.55, 0.6 },
        { "op", "layer3.5.conv2", "fwd", 1, 1.01 },
    };
    json_t *list = json_array();
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        json_t *v = json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "kind", row[i].kind, "name", row[i].name, "time_s", 0.004, "delay_s", 0.002,
                              "predicted_slope", row[i].predicted, "measured_slope", row[i].measured, "slope_low", row[i].measured - 0.08, "slope_high",
                              row[i].measured + 0.08, "prediction_error", row[i].measured - row[i].predicted);
        if (row[i].pass) json_object_set_new(v, "pass", json_string(row[i].pass));
        json_array_append_new(list, v);
    }
    return list;
}

static void add_measures(json_t *row, const shape *w)
{
    double step = step_of(w);
    json_object_set_new(row, "budget_s",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "compute", w->compute, "exposed_comm", w->exposed, "exposed_copy", 0.0, "input_stall",
                                  w->input, "host", HOST_S, "idle", IDLE_S));
    json_object_set_new(row, "trace",
                        json_pack("{s:f, s:f, s:f, s:i, s:b, s:f, s:n}", "ratio", w->ratio, "low", w->ratio - 0.004, "high", w->ratio + 0.004, "pairs", 12,
                                  "perturbed", w->ratio > 1.02, "traced_step_s", step * w->ratio, "file"));
    json_object_update_new(
        row,
        json(
            "{\"peaks\": [{\"name\": \"fma fp32\", \"unit\": \"FLOP/s\", \"value\": 110e9, \"how\": \"12 chains a thread\", \"why\": \"\"},"
            " {\"name\": \"gemm fp32\", \"unit\": \"FLOP/s\", \"value\": 96e9, \"how\": \"2048 x 2048\", \"why\": \"\", \"disturbed\": true},"
            " {\"name\": \"dot bf16\", \"unit\": \"FLOP/s\", \"value\": null, \"how\": \"\", \"why\": \"this processor has no <bf16> dot product\"}],"
            " \"roof\": {\"flops_per_s\": 110e9, \"levels\": [{\"name\": \"L2\", \"bytes\": 1048576, \"bytes_per_s\": 80e9}, {\"name\": \"L3\", \"bytes\": 33554432,"
            " \"bytes_per_s\": 31e9}, {\"name\": \"memory\", \"bytes\": null, \"bytes_per_s\": 9e9}]},"
            " \"counters\": {\"instructions\": null, \"instructions_reason\": \"the kernel forbids it: perf_event_paranoid is 3\", \"cpu_s\": 0.19, \"preempted\": 2.5, \"faults\": 12,"
            " \"steal_s\": 0.0012}, \"memory_high_bytes\": 536870912, \"disturbed_steps\": 3, \"throttled_samples\": 2, \"throttle_reasons\": [\"power cap\", \"hardware thermal\"], \"steps\": 40, \"input_stall_s\": 0.004, \"loader_images_per_s\": 2150.5, \"at_bounds_s\": 0.031,"
            " \"mfu\": 0.104, \"mfu_peak\": \"gemm fp32\"}"));
    json_object_set_new(row, "changes",
                        json_pack("[{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s}, {s:s, s:f, s:f, s:f, s:n, s:s}]", "what",
                                  "batch norm backward at its memory bound (53 ops)", "gain_s", 0.0081, "gain_share", 0.0081 / step, "step_s_then",
                                  step - 0.0081, "predicted_slope", 0.98, "measured_slope", 0.71, "slope_low", 0.63, "slope_high", 0.79, "prediction_error",
                                  -0.27, "note", "one <op> delayed", "what", "input never late", "gain_s", w->input, "gain_share", w->input / step,
                                  "step_s_then", step - w->input, "predicted_slope", "predicted_slope_reason", "nothing was delayed"));
    if (w->sensitivity) json_object_set_new(row, "sensitivity", sensitivity_of());
}

static json_t *profile_row(const shape *w)
{
    double step = step_of(w);
    json_t *row =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:f, s:{s:f, s:f, s:i}, s:I, s:o, s:o}", "origin", "measured", "device", "cpu",
                  "device_name", "Fixture <CPU>", "library", "oneDNN 3.2", "dtype", w->dtype, "px", 64, "batch_per_device", 32, "ranks", w->ranks, "threads", 1,
                  "input", "real", "reproduce", "bench profile --px 64", "images_per_s", 32 * w->ranks / step, "step_s", "median", step, "mad", 0.01 * step,
                  "samples", 40, "wall_ns", (json_int_t)(step * w->ratio * 1e9), "layers", layers_of(w), "timeline", timeline_of(w));
    add_measures(row, w);
    if (w->ranks == 1) return row;
    json_object_update_new(row, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:n, s:s}", "split", "107,160", "comm_s", 0.05, "exposed_comm_s", w->exposed,
                                          "overlap_geom", 1 - w->exposed / 0.05, "comm_cost_s", 0.011, "comm_cost_s_low", 0.009, "comm_cost_s_high", 0.013,
                                          "eta_eff", "eta_eff_reason", "no isolated all-reduce was timed"));
    json_object_set_new(row, "stragglers",
                        json_pack("[{s:i, s:s, s:f, s:f, s:f, s:b}, {s:i, s:s, s:f, s:f, s:f, s:b}]", "rank", 0, "host", "host-a", "own_s", 0.9 * step,
                                  "wait_s", 0.003, "late_share", 0.2, "straggler", 0, "rank", 1, "host", "host-b", "own_s", 0.95 * step, "wait_s", 0.0,
                                  "late_share", 0.8, "straggler", 1));
    return row;
}

static void put_profile(rm_store *s, const shape *w)
{
    int64_t run = begin(s, "profile", "bench profile --px 64", "{}", "Fixture CPU");
    put(s, run, "profile", "measured", true, profile_row(w), step_of(w), 40);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static const shape one = { 1, "f32", 0.081, 0, 0.004, 1.006, true, false }, two = { 2, "f32", 0.09, 0.009, 0.004, 1.031, false, false },
                   eight = { 8, "bf16", 0.09, 0.02, 0.004, 1.004, false, true };

static void make_profiles(char path[512])
{
    static const shape old = { 1, "f32", 0.5, 0, 0.004, 1.006, false, false }; /* the same configuration again: the newer counts */
    rm_store *s = create("profile.db", path);
    put_profile(s, &eight);
    put_profile(s, &old);
    put_profile(s, &two);
    put_profile(s, &one);
    int64_t run = begin(s, "layers", "bench layers --px 64", "{}", "Fixture CPU");
    put(s, run, "layers", "measured", true, profile_row(&one), 0.09, 20);
    rm_store_close(s);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static char *report(const char *name, void (*make)(char path[512]), const char *file)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/%s", dir, name);
    make(path);
    rm_status st = render(path, NULL, out);
    if (have_gnuplot() && st != RM_OK) fail_msg("%s", rm_last_error());
    char *text = read_all(out, file);
    if (!text) fail_msg("no %s", file);
    return text;
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what)) n++;
    return n;
}

static void test_answer_first(void **state)
{
    char *md = report("words", make_profiles, "report.md");
    char *fp32 = section(md, "Where a step goes: cpu, f32, 64 px, batch 32"), *bf16 = section(md, "Where a step goes: cpu, bf16, 64 px, batch 32");
    has(fp32,
        "N = 1: 353.6 images/s, 90.50 ms a step (measured): 89.5 % compute, 4.4 % waiting for input, 2.2 % the host, 3.9 % idle. The most profitable change: batch norm backward at its memory bound "
        "(53 ops), 8.10 ms (9.0 %) less.");
    has(fp32, "N = 2: 589.9 images/s, 108.5 ms a step (measured): 82.9 % compute, 8.3 % exposed communication");
    lacks(fp32, "526"); /* the older profile of that configuration */
    has(fp32, "Watching cost little: traced over untraced steps 1.006 (95 % interval 1.002 to 1.010, 12 pairs)");
    has(fp32, "> Perturbed: with the trace on, a step took 1.031 times as long");
    has(fp32, "The 20 slowest rows, measured (perturbed by the trace)");
    has(fp32, "> Disturbed: in 3 of 40 steps");
    has(fp32, "> Throttled: 2 steps of");
    has(fp32, "had lowered its clocks (power cap, hardware thermal). They are kept");
    has(fp32,
        "| batch norm backward at its memory bound (53 ops) | projected | 8.10 | 9.0 | 82.40 | 0.980 | 0.710 (0.630 to 0.790) | – | one &lt;op&gt; delayed |");
    has(fp32, "predicted\\_slope: nothing was delayed");
    has(fp32, "| op | layer2.0.bn1 | bwd | measured | 4.00 | 2.00 | 0.980 | 0.710 | 0.630 | 0.790 | \\-0.270 |");
    has(fp32, "perf\\_event\\_paranoid is 3");
    has(fp32, "| Most memory of a rank | measured | 512.0 | MiB |");
    has(fp32, "the loader alone gives 2150 images/s");
    has(fp32, "eta\\_eff: no isolated all-reduce was timed");
    has(fp32, "| 1 | host-b |");
    has(fp32, "![");
    lacks(bf16, "| fp32");
    has(bf16, "dot bf16 | not\u00a0measured | – | GFLOP/s | this processor has no &lt;bf16&gt; dot product |");
    char *layers = section(md, "Layers");
    has(layers, "| Bound (ms) | Bound / time (%) | Limit | Step if at bound (ms) |");
    has(layers, "| memory |");
    has(layers, "With every operation at its bound the step would take 31.0 ms (projected) in place of 91.04 ms.");
    has(layers, "Model FLOP utilisation: 10.4 % of the peak \"gemm fp32\" (measured).");
    has(layers, "| gemm fp32 | measured, disturbed | 96.00 | GFLOP/s |");
    has(layers, "> Others took the processor while peaks were measured (1)");
    has(layers, "| exposed communication | 1 | 3.000 |");
    free(fp32);
    free(bf16);
    free(layers);
    free(md);
}

/* Names from a store are text everywhere: in the page, in its script, in the picture and in the script of the picture. */
static void test_nothing_gets_out(void **state)
{
    char *html = report("evil", make_profiles, "index.html"), out[300];
    well_formed(html);
    lacks(html, "<script>alert");
    lacks(html, "<img");
    lacks(html, "<b>odd");
    assert_int_equal(count(html, "<script"), 1);
    assert_int_equal(count(html, "</script"), 1);
    assert_int_equal(count(html, "Content-Security-Policy"), 1);
    has(html, "&lt;/script&gt;&lt;script&gt;alert(1)");
    snprintf(out, sizeof out, "%s/evil", dir);
    char *svg = read_all(out, "profile-timeline.svg");
    assert_int_equal(count(svg, "<script"), 1);
    assert_int_equal(count(svg, "]]>"), 1);
    lacks(svg, "<img");
    free(svg);
    free(html);
}

static void test_timeline(void **state)
{
    char *svg = report("timeline", make_profiles, "profile-timeline.svg"), out[300];
    has(svg, "<title>layer1.0.conv1\nforward: 2.363 ms, begins at 4.000 ms</title>");
    has(svg, "class=\"step-part\"");
    has(svg, "data-us=\"90500.000\"");
    has(svg, "time since the step began (ms)");
    has(svg, ">input worker 1<");
    lacks(svg, ">copies<"); /* an empty lane, and a class without spans */
    assert_int_equal(count(svg, "class=\"lane\""), 3);
    free(svg);
    snprintf(out, sizeof out, "%s/timeline", dir);
    svg = read_all(out, "profile-timeline-3.svg");
    assert_int_equal(count(svg, "class=\"head\""), 8);
    assert_int_equal(count(svg, "class=\"lane\""), 8 * 4);
    free(svg);
}

static void test_figures(void **state)
{
    static const struct {
        const char *file, *text[4];
    } want[] = {
        { "profile-budget.svg", { "N = 1", "N = 2", "exposed comm.", "90.50 ms" } },
        { "profile-budget-3.svg", { "N = 8", "compute", "idle", "time in one step (ms)" } },
        { "profile-roofline.svg", { "arithmetic intensity (FLOP/byte)", "memory: 9.00 GB/s", "gemm fp32: 96.0 GFLOP/s", "bwd_weights, " } },
        { "profile-sensitivity.svg", { "predicted slope", "measured slope", "layer2.0.bn1 bwd", "as predicted" } },
        { "layers-roofline.svg", { "L3: 31.0 GB/s", "forward", "rate (GFLOP/s)", "fma fp32" } },
    };
    if (!have_gnuplot()) skip();
    char *html = report("figures", make_profiles, "index.html"), out[300];
    snprintf(out, sizeof out, "%s/figures", dir);
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char *svg = read_all(out, want[i].file);
        if (!svg) fail_msg("no %s", want[i].file);
        well_formed(svg);
        for (int k = 0; k < 4; k++) has(svg, want[i].text[k]);
        free(svg);
    }
    char *svg = read_all(out, "profile-roofline.svg");
    lacks(svg, "dot bf16"); /* not measured */
    lacks(svg, ">10^{-"); /* nor is the emulated op, whose rate lies far below */
    lacks(svg, "0.0001");
    free(svg);
    assert_null(read_all(out, "profile-sensitivity-2.svg"));
    assert_null(read_all(out, "profile-budget-2.svg"));
    free(html);
}

static void make_bare(char path[512])
{
    rm_store *s = create("bare.db", path);
    int64_t run = begin(s, "profile", "bench profile", "{}", "Fixture CPU");
    put(s, run, "profile", "measured", true,
        json("{\"step_s\": {\"median\": 0.1}, \"timeline\": null, \"timeline_reason\": \"no <trace>\", \"layers\": [], \"ranks\": 1}"), 0.1, 0);
    run = begin(s, "profile", "bench profile", "{\"px\": 7}", "Fixture CPU");
    put(s, run, "profile", "measured", true,
        json(
            "{\"step_s\": {\"median\": 0.1}, \"ranks\": 2, \"layers\": [1, \"x\", {}, {\"time_s\": -1, \"name\": 3}], \"changes\": [5, {}], \"sensitivity\": [[], {\"kind\": \"layer\"}], \"roof\": {\"flops_per_s\": 1,"
            " \"levels\": 3}, \"stragglers\": {}, \"counters\": {}, \"timeline\": {\"step_s\": 0.1, \"ranks\": [3, {\"lanes\": [{\"name\": 5, \"spans\": [1, [], [0, 5], [0, \"a\", \"b\", \"fwd\"], [-50, 0, \"a\","
            " \"fwd\"], [200000000, 5, \"late\", \"fwd\"], [0, 5000000, \"good\", \"\\\"><x>\"]]}, 7]}]}}"),
        0.1, 0);
    rm_store_close(s);
}

/* Rows with hardly anything in them, and rows with nonsense in them. */
static void test_bare_rows(void **state)
{
    char *html = report("bare", make_bare, "index.html"), out[300];
    well_formed(html);
    has(html, "There is no timeline: no &lt;trace&gt;.");
    has(html, "What tracing cost is not known");
    has(html, "6 spans without length, outside of the step, or beyond what a picture holds are not shown.");
    lacks(html, " nan ");
    lacks(html, ">nan");
    lacks(html, "<x>");
    snprintf(out, sizeof out, "%s/bare", dir);
    char *svg = read_all(out, "profile-timeline.svg");
    has(svg, "<rect class=\"other\" x=\"0.000\"");
    free(svg);
    free(html);
}

/* Only tables that say so sort, and a page with nothing live has no script. */
static void test_live_tables(void **state)
{
    static const rp_column column[] = { { "a", false }, { "b", true } };
    rp_doc d = { 0 };
    rm_strbuf with = { 0 }, without = { 0 }, md[2] = { { 0 } };
    rp_table_begin(&d, RP_TABLE, column, 2, "t");
    rp_row(&d, RP_PLAIN);
    rp_cell(&d, "x");
    rp_cell(&d, "1");
    assert_int_equal(rp_html(&d, ".", &without), RM_OK);
    assert_int_equal(rp_markdown(&d, &md[0]), RM_OK);
    rp_live(&d);
    assert_int_equal(rp_html(&d, ".", &with), RM_OK);
    assert_int_equal(rp_markdown(&d, &md[1]), RM_OK);
    lacks(without.text, "<script");
    has(without.text, "script-src 'none'");
    has(with.text, "<table class=\"sortable\"");
    assert_int_equal(count(with.text, "<script>"), 1);
    assert_string_equal(md[0].text, md[1].text);
    rm_str_free(&with);
    rm_str_free(&without);
    for (int i = 0; i < 2; i++) rm_str_free(&md[i]);
    rp_doc_free(&d);
}

static void test_cut(void **state)
{
    char out[16];
    rp_cut(out, 6, "abcdef");
    assert_string_equal(out, "abcdef");
    rp_cut(out, 6, "abcdefg");
    assert_string_equal(out, "abcde…");
    rp_cut(out, 6, "abcd\u20ac\u20ac"); /* never within a letter */
    assert_string_equal(out, "abcd…");
}

static int show(const char *folder)
{
    char path[512], out[600];
    snprintf(dir, sizeof dir, "%s", folder);
    mkdir(dir, 0777);
    make_bare(path);
    snprintf(out, sizeof out, "%s/bare", dir);
    if (render(path, NULL, out) != RM_OK) fprintf(stderr, "%s\n", rm_last_error());
    make_profiles(path);
    snprintf(out, sizeof out, "%s/report", dir);
    rm_status st = render(path, NULL, out);
    if (st != RM_OK) fprintf(stderr, "%s\n", rm_last_error());
    return st != RM_OK;
}

int main(int argc, char **argv)
{
    if (argc > 1) return show(argv[1]);
    const struct CMUnitTest tests[] = {
        clean_test(test_answer_first), clean_test(test_nothing_gets_out), clean_test(test_timeline), clean_test(test_figures),
        clean_test(test_bare_rows),    clean_test(test_live_tables),      clean_test(test_cut),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
