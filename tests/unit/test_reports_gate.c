/* Report page of the gate and its histories, from made-up stores: every number is a fixture, not a measurement. With a folder as argument the program
 * only builds the store and its report there, to be looked at. */
#include "reports_util.h"
#include "reports/gate_check.h"
#include "reports/gate_history.h"
#include "reports/gate_rule.h"
#include "reports/model.h"

/* ---- fixture ----------------------------------------------------------------------------------------------------- */

static int64_t begin_at(rm_store *s, const char *command, const char *line, const char *config_text, const char *revision)
{
    json_t *config = json(config_text), *environment = fixture_environment("Fixture CPU");
    int64_t run = 0;
    json_object_set_new(json_object_get(environment, "soft"), "git", json_string(revision));
    assert_int_equal(rm_store_run_begin(s, command, line, config, environment, &run), RM_OK);
    json_decref(config);
    json_decref(environment);
    return run;
}

static json_t *verdict_row(const char *metric, const char *verdict, double middle, double spread, double effect, int pairs)
{
    json_t *d = json_array(), *row;
    double x[RM_PAIRED_MOST];
    rm_rng g = rm_rng_for(5, (uint64_t)pairs, 0);
    rm_paired p = { .delta = NAN, .low = NAN, .high = NAN };
    for (int i = 0; i < pairs; i++) json_array_append_new(d, json_real(x[i] = middle + spread * rm_rng_normal(&g) + (i % 9 == 4 ? 8 * spread : 0)));
    if (pairs) assert_int_equal(rm_paired_of(x, pairs, 0.002, &p), RM_OK);
    row = json_pack("{s:s, s:s, s:s, s:s, s:f, s:i, s:i, s:i, s:o, s:{s:s, s:s}, s:{s:s, s:s}, s:i, s:s, s:s, s:[]}", "kind", "verdict", "metric", metric,
                    "tier", pairs ? "T2" : "T0", "verdict", verdict, "effect", effect, "pairs", pairs, "looks", 2, "needed",
                    strcmp(verdict, "INCONCLUSIVE") ? 0 : 61, "d", d, "base", "label", "v1.0", "revision", "0123456789abcdef", "head", "label", "<b>HEAD",
                    "revision", "", "discarded", 1, "reason", strcmp(verdict, "INCONCLUSIVE") ? "" : "noise: the last look decided nothing", "reproduce",
                    "bench gate ab --base v1.0 --head HEAD --seed 7", "layers");
    if (pairs) {
        json_object_set_new(row, "delta", json_real(expm1(p.delta)));
        json_object_set_new(row, "low", json_real(expm1(p.low)));
        json_object_set_new(row, "high", json_real(expm1(p.high)));
        json_object_set_new(row, "detectable", json_real(0.031));
    }
    return row;
}

static void add_verdicts(rm_store *s)
{
    int64_t run = begin(s, "gate", "bench gate ab --base v0.9 --head v1.0", "{}", "Fixture CPU");
    put(s, run, "step_s", "measured", true, verdict_row("step_s", "IMPROVED", -0.05, 0.004, 0.02, 10), 0, 0);
    run = begin(s, "gate", "bench gate ab --base v1.0 --head HEAD", "{\"a\": 1}", "Fixture CPU");
    put(s, run, "launches", "measured", true, verdict_row("launches per step", "PASS", 0, 0, 0, 0), 0, 0);
    put(s, run, "step_s", "measured", true, verdict_row("step_s", "REGRESSED", 0.034, 0.006, 0.02, 16), 0, 0);
    put(s, run, "cpu_s", "measured", true, verdict_row("cpu_s", "PASS", 0.002, 0.003, 0.02, 16), 0, 0);
    put(s, run, "input_s", "measured", true, verdict_row("input_s", "INCONCLUSIVE", 0.02, 0.05, 0.03, 36), 0, 0);
    json_t *layers = verdict_row("layers", "PASS", 0, 0, 0.05, 0);
    json_object_set_new(layers, "layers", json("[{\"name\": \"layer3.0.<conv2>\", \"pass\": \"bwd_data\", \"delta\": 0.104, \"p\": 0.0012}]"));
    put(s, run, "layers", "measured", true, layers, 0, 0);
}

enum { LEVELS = 14 };
static const double level_s[LEVELS] = { 0.100, 0.101, 0.1, 0.0995, 0.09, 0.091, 0.0905, 0.09, 0.0955, 0.095, 0.096, 0.0955, 0.0955, 0.103 };

/* Five runs a session; the last has two only. */
static void add_sessions(rm_store *s, double newest_s)
{
    for (int i = 0; i < LEVELS + 1; i++)
        for (int k = 0; k < (i < LEVELS ? 5 : 2); k++) {
            char revision[32];
            snprintf(revision, sizeof revision, "%08xab", 0x10000000 + i);
            const double v = (i < LEVELS - 1 ? level_s[i] : newest_s) * (1 + 0.002 * (k - 2));
            const int64_t run = begin_at(s, "layers", "bench layers --px 64 --batch 8", "{\"px\": 64}", revision);
            put(s, run, "layers", "measured", true, json_pack("{s:{s:f}, s:f}", "step_s", "median", v, "images_per_s", 8 / v), 0, 0);
            if (k == 0) put(s, run, "wrong", "measured", false, json("{\"step_s\": {\"median\": 9.0}}"), 0, 0);
        }
}

static void name_commits(json_t *row)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(row, "changes"), i, c)
        json_object_set_new(c, "commits", json(i ? "[\"10000008 Check every {bound}_ twice\", \"1000 x\"]" : "[\"10000004 Fuse <bn> & relu\"]"));
}

static json_t *histories_of(const char *path, bool all)
{
    rp_data d;
    json_t *rows = json_array();
    const rp_history_config c = { .metric = rp_history_usual, .n_metric = rp_history_n_usual, .all = all, .least_runs = 5 };
    if (rp_data_load(path, &d) != RM_OK || rp_history_rows(&d, &c, rows) != RM_OK) fail_msg("%s", rm_last_error());
    rp_data_free(&d);
    return rows;
}

static void add_history(rm_store *s, const char *path)
{
    json_t *rows = histories_of(path, false);
    assert_int_equal(json_array_size(rows), 1);
    json_t *row = json_incref(json_array_get(rows, 0));
    json_object_set_new(row, "reproduce", json_string("bench gate ab --base 1000000cab --head 1000000dab --bench 'layers --px 64 --batch 8'"));
    name_commits(row);
    put(s, begin(s, "gate", "bench gate history", "{}", "Fixture CPU"), "history layers", "measured", true, row, 0, 0);
    json_decref(rows);
}

static void add_selftest(rm_store *s, int trials)
{
    const rp_check_config c = { .method = &rp_gate_method, .trials = trials, .effect = 0.02, .seed = 1 };
    const int64_t run = begin(s, "gate", "bench gate selftest", "{}", "Fixture CPU");
    for (size_t i = 0; i < rp_n_checks; i++) {
        static const char *const wanted[] = { "count", "power", "other rules" };
        rp_findings f = { .rows = json_array() };
        size_t k;
        json_t *row;
        bool take = false;
        for (size_t w = 0; w < RM_COUNT(wanted); w++) take |= !strcmp(rp_checks[i].name, wanted[w]);
        if (take) assert_int_equal(rp_checks[i].run(&c, &f), RM_OK);
        json_array_foreach(f.rows, k, row)
        {
            char key[128];
            snprintf(key, sizeof key, "%s %zu", rp_checks[i].name, k);
            put(s, run, key, "emulated", true, json_incref(row), 0, 0);
        }
        json_decref(f.rows);
    }
}

static void add_bisect(rm_store *s)
{
    put(s, begin(s, "gate", "bench gate bisect --base v1.0 --head HEAD", "{}", "Fixture CPU"), "bisect", "measured", true,
        json(
            "{\"kind\": \"bisect\", \"base\": \"0123456789abcdef\", \"head\": \"fedcba9876543210\", \"first_slower\": \"feed Break <things>\", \"candidates\": [\"feed Break <things>\"], \"steps\": 4,"
            " \"skipped\": 1}"),
        0, 0);
}

static void add_rates(rm_store *s)
{
    const int64_t run = begin(s, "gate", "bench gate selftest --aa 300 --power 100", "{}", "Fixture CPU");
    put(s, run, "aa rate", "measured", true,
        json(
            "{\"kind\": \"rate\", \"of\": \"aa\", \"slow\": 0.0, \"verdicts\": 300, \"rate\": 0.0033, \"low\": 0.0001, \"high\": 0.018, \"holds\": true, \"text\": \"300 verdicts on equal runs\"}"),
        0, 0);
    put(s, run, "power rate", "measured", true,
        json(
            "{\"kind\": \"rate\", \"of\": \"power\", \"slow\": 0.03, \"verdicts\": 100, \"rate\": 0.98, \"low\": 0.93, \"high\": 0.998, \"holds\": true, \"text\": \"100 with a slow-down\"}"),
        0, 0);
}

static void add_rules(rm_store *s)
{
    const int64_t run = begin(s, "gate", "bench gate selftest --noise 2400", "{}", "Fixture CPU");
    put(s, run, "a", "measured", true, json("{\"kind\": \"rule\", \"rule\": \"ten <runs>\", \"change\": 0.0, \"value\": 0.125, \"trials\": 120, \"runs\": 20.0, \"holds\": true}"), 0, 0);
    put(s, run, "b", "emulated", true, json("{\"kind\": \"rule\", \"rule\": \"the gate\", \"change\": 0.03, \"value\": 0.9875, \"trials\": 80, \"runs\": 21.0, \"holds\": true}"), 0, 0);
}

static void make_gate(char path[512])
{
    rm_store *s = create("gate.db", path);
    add_sessions(s, level_s[LEVELS - 1]);
    add_verdicts(s);
    add_history(s, path);
    add_selftest(s, 60);
    add_rates(s);
    add_rules(s);
    add_bisect(s);
    rm_store_close(s);
}

/* ---- histories ----------------------------------------------------------------------------------------------------- */

static double real_of(const json_t *row, const char *path) { return rp_real(row, path); }

static void sessions_and_changes(void **state)
{
    char path[512];
    rm_store *s = create("sessions.db", path);
    add_sessions(s, level_s[LEVELS - 1]);
    rm_store_close(s);
    json_t *rows = histories_of(path, false), *row = json_array_get(rows, 0), *changes = json_object_get(row, "changes");
    assert_int_equal(json_array_size(rows), 1);
    assert_int_equal(json_array_size(json_object_get(row, "sessions")), LEVELS);
    assert_true(real_of(row, "newest_runs") == 2);
    assert_string_equal(rp_string(row, "verdict"), "SUSPECT");
    assert_true(fabs(real_of(row, "baseline.value") - 0.0955) < 1e-9 && real_of(row, "baseline.session") == 8 && real_of(row, "baseline.sessions") == 5);
    assert_true(fabs(real_of(row, "delta") - log(0.103 / 0.0955)) < 1e-9);
    assert_true(fabs(real_of(row, "best.value") - sqrt(0.09 * 0.0905)) < 1e-9 &&
                fabs(real_of(row, "best.delta") - log(0.103 / real_of(row, "best.value"))) < 1e-9);
    assert_int_equal(json_array_size(changes), 2);
    assert_true(rp_real(json_array_get(changes, 0), "session") == 4 && rp_real(json_array_get(changes, 1), "session") == 8);
    assert_string_equal(rp_string(json_array_get(changes, 1), "from"), "10000007ab");
    assert_string_equal(rp_string(json_array_get(changes, 1), "to"), "10000008ab");
    json_decref(rows);
    rows = histories_of(path, true); /* where more is better, slower is below */
    row = json_array_get(rows, 1);
    assert_int_equal(json_array_size(rows), 2);
    assert_string_equal(rp_string(row, "metric"), "images_per_s");
    assert_true(json_is_true(json_object_get(row, "higher")) && fabs(real_of(row, "delta") - log(0.103 / 0.0955)) < 1e-9);
    assert_true(fabs(real_of(row, "baseline.value") - 8 / 0.0955) < 1e-9);
    json_decref(rows);
}

static void a_pinned_revision_has_its_own_delta(void **state)
{
    char path[512];
    rm_store *s = create("pinned.db", path);
    add_sessions(s, 0.0955); /* as the level before it, and 6 % above what was pinned */
    for (int i = 0; i < 2; i++) /* what the name stood for first, and what it stands for */
        put(s, begin(s, "gate", "bench gate ab --pin v1", "{}", "Fixture CPU"), "pin v1", "measured", true,
            json_pack("{s:s, s:s, s:s, s:f}", "kind", "pin", "name", "v1", "revision", i ? "10000004abcdef0123" : "10000000abcdef0123", "effect", i ? 0.07 : 0.01),
            0, 0);
    json_t *rows = histories_of(path, false), *row = json_array_get(rows, 0), *pinned = json_array_get(json_object_get(row, "pinned"), 0);
    assert_string_equal(rp_string(row, "verdict"), "PASS");
    assert_true(rp_real(pinned, "effect") == 0.07 && json_is_false(json_object_get(pinned, "suspect")));
    assert_int_equal(json_array_size(json_object_get(row, "pinned")), 1);
    assert_string_equal(rp_string(pinned, "name"), "v1");
    assert_true(fabs(rp_real(pinned, "value") - 0.09) < 1e-9 && fabs(rp_real(pinned, "delta") - log(0.0955 / 0.09)) < 1e-9);
    json_decref(rows);
    put(s, begin(s, "gate", "bench gate ab --pin v1", "{}", "Fixture CPU"), "pin v1", "measured", true,
        json("{\"kind\": \"pin\", \"name\": \"v1\", \"revision\": \"10000004abcdef0123\", \"effect\": 0.02}"), 0, 0);
    rm_store_close(s);
    rows = histories_of(path, false);
    row = json_array_get(rows, 0);
    assert_string_equal(rp_string(row, "verdict"), "SUSPECT");
    assert_non_null(strstr(rp_string(row, "reason"), "+6.11 % against the pinned v1 (10000004abcdef0123)"));
    json_decref(rows);
}

/* The newest run has no value: the series is still there. */
static void a_run_without_a_value_hides_nothing(void **state)
{
    char path[512];
    rm_store *s = create("hides.db", path);
    add_sessions(s, 0.0955);
    put(s, begin_at(s, "layers", "bench layers --px 64 --batch 8", "{\"px\": 64}", "1000000fab"), "layers", "measured", true,
        json("{\"step_s\": {\"median\": null}, \"images_per_s\": 0}"), 0, 0);
    rm_store_close(s);
    for (int all = 0; all < 2; all++) {
        json_t *rows = histories_of(path, all);
        assert_int_equal(json_array_size(rows), 1 + all);
        assert_int_equal(json_array_size(json_object_get(json_array_get(rows, 0), "sessions")), LEVELS);
        json_decref(rows);
    }
}

static void other_configurations_are_other_series(void **state)
{
    char path[512];
    rm_store *s = create("series.db", path);
    for (int i = 0; i < 20; i++) {
        const int64_t run = begin_at(s, "layers", i % 2 ? "bench layers --px 64" : "bench layers --px 32", i % 2 ? "{\"px\": 64}" : "{\"px\": 32}",
                                     "1234567890"); /* a row of bench layers */
        put(s, run, "layers", i < 10 ? "measured" : "projected", true, json_pack("{s:f}", "step_s", i % 2 ? 0.2 : 0.1), 0, 0);
    }
    rm_store_close(s);
    json_t *rows = histories_of(path, false);
    assert_int_equal(json_array_size(rows), 2);
    assert_string_equal(rp_string(json_array_get(rows, 0), "verdict"), "NO_BASELINE");
    assert_true(rp_real(json_array_get(json_object_get(json_array_get(rows, 0), "sessions"), 0), "value") == 0.2);
    assert_true(rp_real(json_array_get(json_object_get(json_array_get(rows, 0), "sessions"), 0), "runs") == 5);
    json_decref(rows);
}

/* ---- the page -------------------------------------------------------------------------------------------------------- */

static char *page_of(const char *name, void (*make)(char[512]), const char *file)
{
    char path[512], out[300];
    make(path);
    snprintf(out, sizeof out, "%s/%s", dir, name);
    const rm_status st = render(path, NULL, out);
    if (st != RM_OK && !(st == RM_E_PARTIAL && !have_gnuplot())) fail_msg("%s", rm_last_error());
    char *text = read_all(out, file);
    assert_non_null(text);
    return text;
}

static void the_page_says_it_all(void **state)
{
    static const char *const want[] = {
        "against v1.0 (0123456789) (measured): step\\_s REGRESSED, +",
        "cpu\\_s PASS",
        "input\\_s INCONCLUSIVE",
        "61",
        "noise: the last look decided nothing",
        "Layers that became slower",
        "bwd\\_data",
        "Earlier comparisons",
        "### History of layers layers, step\\_s",
        "SUSPECT: the newest session is +7.85 % against the level before it",
        "Fuse",
        "Can the gate be trusted?",
        "### The first slower commit",
        "feed Break",
        "4 comparisons, 1 skipped",
        "0.33 %",
        "95 % interval 0.01 to 1.80 %",
        "findings of the self-test hold",
        "ten runs, then ten, rank-sum 5 %",
        "simulated",
        "What the same rules make of equal runs on this machine",
        "measured runs, slow-down added | 3.00 | 98.75 | 80 | 21",
        "| measured | 0.00 | 12.50 | 120 | 20",
        "bench gate ab --base v1.0 --head HEAD --seed 7",
    };
    char *md = page_of("md", make_gate, "report.md"), *gate = section(md, "Regression gate");
    for (size_t i = 0; i < RM_COUNT(want); i++)
        if (!strstr(gate, want[i])) fail_msg("the page lacks \"%s\" in: %.3000s", want[i], gate);
    lacks(gate, "nan");
    lacks(md, "bench gate\n"); /* not also among the other measurements */
    free(gate);
    free(md);
    char *html = page_of("html", make_gate, "index.html");
    well_formed(html);
    lacks(html, "<b>HEAD");
    lacks(html, "<conv2>");
    free(html);
}

static void the_figures_show_it(void **state)
{
    static const struct {
        const char *file, *text[4];
    } want[] = {
        { "gate-pairs.svg", { "step_s", "REGRESSED", "INCONCLUSIVE", "change of B against A" } },
        { "gate-history.svg", { "10000004 Fuse", "suspect from here", "step_s", "session, measured" } },
        { "gate-power.svg", { "simulated: iid", "simulated: spikes", "measured (95 % interval)", "true slow-down" } },
    };
    if (!have_gnuplot()) skip();
    char *html = page_of("figures", make_gate, "index.html"), out[300];
    snprintf(out, sizeof out, "%s/figures", dir);
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char *svg = read_all(out, want[i].file);
        if (!svg) fail_msg("no %s", want[i].file);
        well_formed(svg);
        for (int k = 0; k < 4; k++) has(svg, want[i].text[k]);
        free(svg);
    }
    free(html);
}

static void make_bare(char path[512])
{
    rm_store *s = create("bare.db", path);
    const int64_t run = begin(s, "gate", "bench gate ab", "{}", "Fixture CPU");
    put(s, run, "x", "measured", true, json("{\"kind\": \"verdict\", \"layers\": [3, {}], \"d\": [\"x\", null]}"), 0, 0);
    put(s, run, "y", "measured", true,
        json("{\"kind\": \"history\", \"sessions\": [1, {}, {\"value\": -1}], \"changes\": [{}, {\"session\": 1}], \"pinned\": [{}]}"), 0, 0);
    put(s, run, "z", "emulated", true, json("{\"kind\": \"selftest\", \"check\": \"power\"}"), 0, 0);
    put(s, run, "w", "measured", true, json("{\"kind\": \"rate\"}"), 0, 0);
    put(s, run, "v", "measured", true, json("{\"kind\": \"rule\"}"), 0, 0);
    rm_store_close(s);
}

static void rows_with_hardly_anything(void **state)
{
    char *html = page_of("bare", make_bare, "index.html");
    well_formed(html);
    lacks(html, ">nan");
    lacks(html, " nan ");
    free(html);
}

static int show(const char *folder)
{
    char path[512], out[600];
    snprintf(dir, sizeof dir, "%s", folder);
    mkdir(dir, 0777);
    make_gate(path);
    snprintf(out, sizeof out, "%s/report", dir);
    const rm_status st = render(path, NULL, out);
    if (st != RM_OK) fprintf(stderr, "%s\n", rm_last_error());
    return st != RM_OK;
}

int main(int argc, char **argv)
{
    if (argc > 1) return show(argv[1]);
    const struct CMUnitTest tests[] = {
        clean_test(sessions_and_changes),
        clean_test(a_pinned_revision_has_its_own_delta),
        clean_test(a_run_without_a_value_hides_nothing),
        clean_test(other_configurations_are_other_series),
        clean_test(the_page_says_it_all),
        clean_test(the_figures_show_it),
        clean_test(rows_with_hardly_anything),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
