/* What a gate is made of: metrics, masks, the lock, one run of a command, pairs that are stored and taken up again, layers, verdicts. */
#include "bench/gate_executable.h"
#include "bench/gate_facts.h"
#include "bench/gate_layers.h"
#include "bench/gate_lock.h"
#include "bench/gate_pairs.h"
#include "bench/gate_pins.h"
#include "bench/gate_verdict.h"
#include "base/rng.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static const char *in_folder(const char *name)
{
    static char path[2][160];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int enter(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/ringmark-test-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}
static int leave(void **state)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* ---- metrics */

static void metrics_are_parsed(void **state)
{
    static const struct {
        const char *text, *name, *path, *tier;
        double effect;
        bool higher, exact;
    } row[] = {
        { "$.seconds", "seconds", "$.seconds", "T2", 0.02, false, false },
        { "rate=$.a.b[0].rate:higher", "rate", "$.a.b[0].rate", "T2", 0.02, true, false },
        { "$..step_s:effect=3%", "step_s", "$..step_s", "T2", 0.03, false, false },
        { "r=$['a:b']:effect=0.5%:higher", "r", "$['a:b']", "T2", 0.005, true, false },
        { "r=$['a:b']:higher:effect=0.1", "r", "$['a:b']", "T2", 0.1, true, false },
        { "$.a['x=y']", "a['x=y']", "$.a['x=y']", "T2", 0.02, false, false },
        { "plan=$.plan:exact", "plan", "$.plan", "T0", 0.02, false, true },
        { "@cpu_s:effect=1%", "cpu_s", "@cpu_s", "T1", 0.01, false, false },
        { "w=@wall_s", "w", "@wall_s", "T2", 0.02, false, false },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        bench_metric m;
        if (bench_metric_parse(row[i].text, 0.02, &m) != RM_OK) fail_msg("%s: %s", row[i].text, rm_last_error());
        assert_string_equal(m.name, row[i].name);
        assert_string_equal(m.path, row[i].path);
        assert_string_equal(m.tier, row[i].tier);
        assert_true(fabs(m.effect - row[i].effect) < 1e-12 && m.higher == row[i].higher && m.exact == row[i].exact);
    }
    static const char *const bad[] = { "seconds", "=$.a", "$.a[", "@energy", "$.a:effect=0", "$.a:effect=200%", "$.a:effect=x", "$.a:best", "" };
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        bench_metric m;
        if (bench_metric_parse(bad[i], 0.02, &m) != RM_E_ARG) fail_msg("'%s' was taken", bad[i]);
    }
}

static bench_metric metric(const char *text)
{
    bench_metric m;
    if (bench_metric_parse(text, 0.02, &m) != RM_OK) fail_msg("%s", rm_last_error());
    return m;
}

static void values_are_taken(void **state)
{
    json_t *document = json_loads("{\"s\": 4, \"steps\": [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 2, 2, 2, 2, 2, 2, 2], \"bad\": null,"
                                 " \"ramp\": [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]}",
                                 0, NULL);
    const bench_process run = { .cpu_s = 3, .instructions = -1, .out = "no json" };
    bench_metric_value v;
    bench_metric m = metric("$.s");
    assert_int_equal(bench_metric_take(&m, &run, document, &v), RM_OK);
    assert_true(v.value == 4 && v.log == log(4) && v.settled && v.steps == 1);
    m = metric("$.s:higher");
    assert_int_equal(bench_metric_take(&m, &run, document, &v), RM_OK);
    assert_true(v.log == -log(4));
    m = metric("$.steps");
    assert_int_equal(bench_metric_take(&m, &run, document, &v), RM_OK);
    assert_true(v.value == 2 && v.dropped == 10 && v.steps == 17 && v.settled); /* the warm-up is dropped */
    m = metric("$.ramp:fast"); /* ten are dropped: 10 to 30 count */
    assert_int_equal(bench_metric_take(&m, &run, document, &v), RM_OK);
    assert_true(v.value == 12 && v.log == log(12) && v.steps == 31);
    m = metric("$.ramp:fast:higher");
    assert_int_equal(bench_metric_take(&m, &run, document, &v), RM_OK);
    assert_true(v.value == 28 && v.log == -log(28));
    m = metric("$.s:fast");
    assert_int_equal(bench_metric_take(&m, &run, document, &v), RM_OK);
    assert_true(v.value == 4);
    m = metric("@cpu_s");
    assert_int_equal(bench_metric_take(&m, &run, NULL, &v), RM_OK);
    assert_true(v.value == 3);
    m = metric("@instructions");
    assert_int_equal(bench_metric_take(&m, &run, NULL, &v), RM_E_UNSUPPORTED);
    m = metric("$.s");
    assert_int_equal(bench_metric_take(&m, &run, NULL, &v), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "no json"));
    m = metric("$.bad");
    assert_int_equal(bench_metric_take(&m, &run, document, &v), RM_E_FORMAT);
    json_decref(document);
}

/* ---- one run */

static void a_run_is_told_as_it_was(void **state)
{
    bench_process p;
    assert_int_equal(bench_process_run("echo '{\"a\": 1}'; echo first >&2; echo last >&2; exit 3", 60, &p), RM_OK);
    assert_true(p.exit_code == 3 && !p.timed_out && p.wall_s > 0 && p.max_rss_bytes > 0);
    assert_string_equal(p.out, "{\"a\": 1}\n");
    assert_string_equal(p.complaint, "last");
    bench_process_free(&p);
    assert_int_equal(bench_process_run("kill -9 $$", 60, &p), RM_OK);
    assert_int_equal(p.exit_code, 128 + 9);
    bench_process_free(&p);
    assert_int_equal(bench_process_run("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", 60, &p), RM_OK);
    assert_true(p.exit_code == 0 && p.cpu_s > 0);
    bench_process_free(&p);
    assert_int_equal(bench_process_run("head -c 3000000 /dev/zero | tr '\\0' x", 60, &p), RM_OK);
    assert_true(p.out_bytes == 3000000 && p.out[2999999] == 'x'); /* more than a pipe holds */
    bench_process_free(&p);
}

static void a_run_ends_with_all_it_started(void **state)
{
    bench_process p;
    char command[300];
    assert_int_equal(bench_process_run("sleep 600 & echo $!; sleep 600", 0.3, &p), RM_OK);
    assert_true(p.timed_out && p.exit_code != 0 && p.wall_s < 60);
    const long left = strtol(p.out, NULL, 10);
    bench_process_free(&p);
    snprintf(command, sizeof command, "kill -0 %ld", left); /* a zombie of somebody else's is gone for our purposes */
    for (int i = 0; i < 100 && system(command) == 0; i++) usleep(20000);
    snprintf(command, sizeof command, "if kill -0 %ld 2>/dev/null; then grep -q '^State:.Z' /proc/%ld/status; fi", left, left);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "sleep 600 & echo done"); /* what stays behind holds the pipe open */
    assert_int_equal(bench_process_run(command, 60, &p), RM_OK);
    assert_true(!p.timed_out && p.exit_code == 0 && p.wall_s < 60);
    assert_string_equal(p.out, "done\n");
    bench_process_free(&p);
}

/* ---- the lock */

static void one_at_a_time(void **state)
{
    int first, second;
    const char *path = in_folder("lock");
    assert_int_equal(bench_gate_lock(path, 1, &first), RM_OK);
    assert_true(first >= 0);
    assert_int_equal(bench_gate_lock(path, 0.2, &second), RM_E_IO);
    char pid[40];
    snprintf(pid, sizeof pid, "process %ld has had", (long)getpid());
    assert_non_null(strstr(rm_last_error(), pid));
    assert_int_equal(bench_gate_lock("none", 0, &second), RM_OK);
    assert_int_equal(second, -1);
    bench_gate_unlock(first);
    assert_int_equal(bench_gate_lock(path, 0, &second), RM_OK);
    bench_gate_unlock(second);
    /* What a process leaves running has its lock until it ends; what an unlocked one leaves has not. */
    int fd, ends[2];
    char left[40] = "";
    assert_int_equal(pipe(ends), 0);
    const pid_t killed = fork();
    if (killed == 0) {
        if (bench_gate_lock(path, 1, &fd) != RM_OK) _exit(1);
        const pid_t child = fork();
        if (child == 0) {
            execlp("sleep", "sleep", "600", (char *)NULL);
            _exit(1);
        }
        _exit(write(ends[1], &child, sizeof child) != (ssize_t)sizeof child);
    }
    pid_t child = 0;
    int status;
    assert_int_equal(waitpid(killed, &status, 0), killed);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], &child, sizeof child), sizeof child);
    assert_int_equal(bench_gate_lock(path, 0, &second), RM_E_IO);
    snprintf(left, sizeof left, "what process %ld left running", (long)killed);
    assert_non_null(strstr(rm_last_error(), left));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(bench_gate_lock(path, 60, &second), RM_OK);
    FILE *runs = popen("exec sleep 1", "r"); /* has inherited it */
    bench_gate_unlock(second);
    assert_int_equal(bench_gate_lock(path, 0, &second), RM_OK);
    bench_gate_unlock(second);
    pclose(runs);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(symlink("/tmp/elsewhere", in_folder("link")), 0);
    assert_int_equal(bench_gate_lock(in_folder("link"), 0, &second), RM_E_IO); /* somebody else's idea of where to write */
}

/* ---- masks */

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void masks_look_at_both_sides_alike(void **state)
{
    const bench_machine_reading same = { 3, 0, 0 }, more = { 4, 0, 0 }, errors = { 3, 0, 1 }, gpu = { 3, 1, 0 }, blind = { -1, -1, -1 };
    const struct {
        const char *masks;
        bench_process a, b;
        bench_machine_reading before, after;
        const char *why;
    } row[] = {
        { "exit", { 0 }, { 0 }, same, more, NULL },
        { "exit", { .exit_code = 1 }, { 0 }, same, same, "exit" },
        { "exit", { 0 }, { .exit_code = 1 }, same, same, "exit" },
        { "none", { 0 }, { .exit_code = 1 }, same, same, NULL },
        { "timeout", { 0 }, { .exit_code = 143, .timed_out = true }, same, same, "timeout" },
        { "exit", { .exit_code = 143, .timed_out = true }, { 0 }, same, same, NULL },
        { "exit,throttle", { 0 }, { 0 }, same, more, "throttle" },
        { "throttle", { 0 }, { 0 }, gpu, same, "throttle" },
        { "throttle", { 0 }, { 0 }, same, gpu, "throttle" },
        { "throttle,ecc", { 0 }, { 0 }, same, errors, "ecc" },
        { "throttle,ecc,exit,timeout", { 0 }, { 0 }, blind, blind, NULL },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        bench_masks m;
        const bench_process run[2] = { row[i].a, row[i].b };
        assert_int_equal(bench_masks_open(row[i].masks, &m), RM_OK);
        const char *why = bench_masks_why(&m, run, &row[i].before, &row[i].after);
        if ((why != NULL) != (row[i].why != NULL) || (why && strcmp(why, row[i].why))) fail_msg("row %zu: %s", i, why ? why : "counts");
        bench_masks_close(&m);
    }
    bench_masks m;
    assert_int_equal(bench_masks_open("exit,slow", &m), RM_E_ARG);
    assert_int_equal(bench_masks_open("", &m), RM_E_ARG);
}

static void failures_without_a_mask_are_trouble(void **state)
{
    bench_masks m;
    const bench_process run[2] = { { .exit_code = 0 }, { .exit_code = 9, .complaint = "no disk" } }, fine[2] = { { 0 }, { 0 } };
    const char *const command[2] = { "one", "two" };
    assert_int_equal(bench_masks_open("none", &m), RM_OK);
    assert_int_equal(bench_masks_trouble(&m, run, command), RM_E_NUMERIC);
    assert_non_null(strstr(rm_last_error(), "side B ended with exit code 9 (no disk): two"));
    assert_int_equal(bench_masks_trouble(&m, fine, command), RM_OK);
    static const struct {
        int discarded, kept;
        bool too_many;
    } row[] = { { 0, 0, false }, { 1, 0, false }, { 2, 0, true }, { 2, 7, true }, { 2, 8, false }, { 3, 12, false }, { 3, 11, true } };
    for (size_t i = 0; i < RM_COUNT(row); i++) assert_int_equal(bench_masks_too_many(row[i].discarded, row[i].kept), row[i].too_many);
    static const struct {
        int discarded, kept;
        bool hopeless;
    } early[] = { { 2, 0, false }, { 3, 0, true }, { 2, 1, false }, { 9, 2, false }, { 10, 2, true }, { 10, 35, true } };
    for (size_t i = 0; i < RM_COUNT(early); i++) assert_int_equal(bench_masks_hopeless(early[i].discarded, early[i].kept, 36), early[i].hopeless);
}

static void masks_read_what_the_system_counts(void **state)
{
    bench_masks m;
    bench_machine_reading r;
    char command[400];
    snprintf(command, sizeof command,
             "mkdir -p %s/devices/system/cpu/cpu0/thermal_throttle %s/devices/system/cpu/cpu1/thermal_throttle %s/devices/system/edac/mc/mc0", folder, folder,
             folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(bench_masks_open("throttle,ecc", &m), RM_OK);
    m.sys = folder;
    bench_masks_read(&m, &r);
    assert_true(r.throttles == -1 && r.memory_errors == -1);
    put("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "5\n");
    put("devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "2\n");
    put("devices/system/edac/mc/mc0/ce_count", "1\n");
    put("devices/system/edac/mc/mc0/ue_count", "0\n");
    bench_masks_read(&m, &r);
    assert_true(r.throttles == 7 && r.memory_errors == 1);
    bench_masks_close(&m);
}

/* ---- which program a command runs */

static void the_program_of_a_command_is_found(void **state)
{
    static const struct {
        const char *command;
        bool found;
    } row[] = {
        { "prog 1 2", true },         { "  A=1 B='x y' C=$D prog", true }, { "exec prog", true }, { "env A=1 prog;next", true }, { "\"pr\"og>file", true },
        { "A=$(prog 1) prog", false }, { "$X prog", false },                { "nothing", false },  { "'prog", false },            { "env -i prog", false },
        { "", false },                { "A=1", false },                    { "pr*", false },      { "folder", false },           { "data", false },
    };
    char path[300], command[200], old[4096], first[65], second[65];
    snprintf(old, sizeof old, "%s", getenv("PATH"));
    put("prog", "one");
    put("data", "one");
    assert_int_equal(chmod(in_folder("prog"), 0755), 0);
    assert_int_equal(mkdir(in_folder("folder"), 0755), 0);
    setenv("PATH", folder, 1);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        const bool found = bench_executable_of(row[i].command, path, sizeof path);
        if (found != row[i].found || (found && strcmp(path, in_folder("prog")) != 0)) fail_msg("%s: %s", row[i].command, found ? path : "not found");
    }
    setenv("PATH", old, 1);
    snprintf(command, sizeof command, "A=1 '%s' 5", in_folder("prog"));
    bench_executable_digest(command, first);
    put("prog", "two");
    bench_executable_digest(command, second);
    assert_true(strlen(first) == 64 && strlen(second) == 64 && strcmp(first, second) != 0);
    bench_executable_digest("nothing-of-that-name", first);
    assert_string_equal(first, "");
}

/* ---- pairs */

static rm_status document_of(const bench_gate_side *side, const bench_process *run, json_t **out)
{
    *out = json_loadb(run->out, run->out_bytes, 0, NULL);
    return RM_OK;
}

static char command_a[] = "echo '{\"s\": 1, \"n\": 5}'", command_b[] = "echo '{\"s\": 1.1, \"n\": 6}'", command_bad[] = "exit 4";

static void pairs_are_stored_and_taken_up_again(void **state)
{
    const bench_metric m[2] = { metric("$.s"), metric("n=$.n:exact") };
    bench_gate_side side[2] = { { .command = command_a, .document = document_of }, { .command = command_b, .document = document_of } };
    bench_pairs p = { .side = side, .metric = m, .metrics = 2, .seed = 3, .timeout_s = 60, .pairs = json_array() };
    double d[8];
    char order[17], expected[17] = "";
    json_t *config = json_object();
    assert_int_equal(bench_masks_open("exit", &p.masks), RM_OK);
    assert_int_equal(rm_store_open(in_folder("pairs.db"), false, &p.store), RM_OK);
    assert_int_equal(rm_store_run_begin(p.store, "gate", "bench gate", config, config, &p.run), RM_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(bench_pairs_run(&p), RM_OK);
    side[1].command = command_bad;
    assert_int_equal(bench_pairs_run(&p), RM_OK);
    side[1].command = command_b;
    assert_int_equal(bench_pairs_run(&p), RM_OK);
    assert_true(p.kept == 4 && p.discarded == 1);
    assert_non_null(strstr(p.failure, "side B ended with exit code 4"));
    /* Another process would find the same. */
    assert_int_equal(bench_pairs_load(&p), RM_OK);
    assert_true(p.kept == 4 && p.discarded == 1 && json_array_size(p.pairs) == 5);
    assert_int_equal(bench_pairs_differences(&p, 0, d, order), 4);
    for (int i = 0; i < 4; i++) assert_true(fabs(d[i] - log(1.1)) < 1e-12);
    for (int i = 1; i <= 5; i++)
        if (i != 4) strcat(expected, bench_pairs_b_first(3, i) ? "BA" : "AB"); /* the fourth was discarded */
    assert_string_equal(order, expected);
    assert_true(fabs(bench_pairs_median(&p, 0, 1) - 1.1) < 1e-12);
    const bench_verdict_frame f = { side, "bench gate ab", 1 };
    json_t *row = bench_verdict_of_exact(&f, &p, 1);
    assert_int_equal(rp_verdict_of(row), RP_REGRESSED);
    assert_string_equal(json_string_value(json_object_get(row, "reason")), "5 became 6");
    json_decref(row);
    rm_store_close(p.store);
    json_decref(p.pairs);
    json_decref(config);
}

static void the_coin_is_fair_and_seeded(void **state)
{
    int b = 0, changes = 0, differ = 0;
    for (int i = 1; i <= 4000; i++) {
        b += bench_pairs_b_first(1, i);
        changes += bench_pairs_b_first(1, i) != bench_pairs_b_first(1, i + 1);
        differ += bench_pairs_b_first(1, i) != bench_pairs_b_first(2, i);
    }
    /* 2000 +- 6 standard deviations of 31.6 each */
    assert_true(abs(b - 2000) < 190 && abs(changes - 2000) < 190 && abs(differ - 2000) < 190);
}

/* Pairs as if they had been run: B is slower by `change`. */
static json_t *made_pairs(int n, double change, double noise, uint64_t seed)
{
    rm_rng g = rm_rng_for(seed, 1, 2);
    json_t *all = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(all, json_pack("{s:s, s:n, s:{s:{s:f}}, s:{s:{s:f}}}", "order", "AB", "discarded", "a", "values", "s",
                                             exp(noise * rm_rng_normal(&g)), "b", "values", "s", exp(log1p(change) + noise * rm_rng_normal(&g))));
    return all;
}

static void the_first_look_that_decides_stands(void **state)
{
    const bench_metric m = metric("$.s");
    rp_gate_rule rule;
    bench_judged j;
    assert_int_equal(rp_gate_rule_for(1, false, &rule), RM_OK);
    bench_pairs p = { .metric = &m, .metrics = 1, .pairs = made_pairs(20, 0.1, 0.002, 1), .kept = 20 };
    assert_int_equal(bench_verdict_judge(&p, 0, &rule, &j), RM_OK);
    assert_true(j.at.decided && j.at.verdict == RP_REGRESSED && j.n == 10 && j.looks == 1); /* though there are 20 */
    p.kept = 7;
    assert_int_equal(bench_verdict_judge(&p, 0, &rule, &j), RM_OK);
    assert_true(!j.at.decided && j.at.verdict == RP_INCONCLUSIVE && j.looks == 0 && j.n == 7);
    p.kept = 0;
    assert_int_equal(bench_verdict_judge(&p, 0, &rule, &j), RM_OK);
    assert_true(!j.at.decided && j.n == 0);
    json_decref(p.pairs);
}

/* ---- facts */

static void facts_are_equal_or_declared(void **state)
{
    static const struct {
        const char *a, *b, *tolerate;
        rp_verdict verdict;
        const char *words;
    } row[] = {
        { "{\"n\": 5, \"loss\": 2.5}", "{\"n\": 5, \"loss\": 2.5}", "", RP_PASS, "" },
        { "{\"n\": 5}", "{\"n\": 6}", "", RP_REGRESSED, "n 5 became 6" },
        { "{\"n\": 5}", "{\"n\": 5.5}", "", RP_REGRESSED, "n 5 became 5.5" }, /* one more in two steps */
        { "{\"n\": 6}", "{\"n\": 5}", "", RP_REGRESSED, "n 6 became 5" }, /* less is a change, too */
        { "{\"n\": 5}", "{\"n\": 6}", "m=1,n=1", RP_PASS, "" },
        { "{\"n\": 5}", "{\"n\": 6}", "nn=1", RP_REGRESSED, "n 5 became 6" },
        { "{\"n\": 100}", "{\"n\": 101}", "n=1%", RP_PASS, "" },
        { "{\"n\": 100}", "{\"n\": 102}", "n=1%", RP_REGRESSED, "n 100 became 102" },
        { "{\"n\": 5, \"old\": 1}", "{\"n\": 5}", "", RP_REGRESSED, "old 1 became none" },
        { "{\"n\": 5}", "{\"n\": 5, \"more\": 1}", "", RP_PASS, "" },
        { "{\"loss\": 2.5}", "{\"loss\": 2.5001}", "", RP_PASS, "" },
        { "{\"n\": 5, \"loss\": 2.5}", "{\"n\": 6, \"loss\": 2.6}", "", RP_TROUBLE, "n 5 became 6; loss 2.5 became 2.6" },
        { "{\"loss\": 2.5}", "{\"loss\": null}", "", RP_TROUBLE, "loss 2.5 became none" },
        { "{\"loss\": null}", "{\"loss\": null}", "", RP_TROUBLE, "loss none became none" },
        { "{\"impl\": {\"x\": 3, \"y\": 1}}", "{\"impl\": {\"x\": 2, \"z\": 2}}", "", RP_REGRESSED,
          "impl x 3 became 2; impl y 1 became none; impl z none became 2" },
        { "{\"sum\": \"ab\"}", "{\"sum\": \"ac\"}", "", RP_REGRESSED, "sum \"ab\" became \"ac\"" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        json_t *a = json_pack("{s:o}", "facts", json_loads(row[i].a, 0, NULL)), *b = json_pack("{s:o}", "facts", json_loads(row[i].b, 0, NULL)),
               *d = json_array();
        rp_verdict v;
        char words[200];
        assert_int_equal(bench_facts_compare(a, b, row[i].tolerate, d, &v), RM_OK);
        bench_facts_words(d, words, sizeof words);
        if (v != row[i].verdict || strcmp(words, row[i].words)) fail_msg("row %zu: %s, '%s'", i, rp_verdict_name(v), words);
        bench_facts_words(d, words, 12); /* too little room */
        assert_true(strlen(words) < 12);
        json_decref(a);
        json_decref(b);
        json_decref(d);
    }
    static const char *const bad[] = { "n", "n=", "n=x", "n=-1", "=1", "n=1;m=2", "n=1,m" };
    json_t *none = json_object(), *some = json_pack("{s:{}}", "facts"), *d = json_array();
    rp_verdict v;
    for (size_t i = 0; i < RM_COUNT(bad); i++)
        if (bench_facts_compare(some, some, bad[i], d, &v) != RM_E_ARG) fail_msg("--tolerate %s was taken", bad[i]);
    assert_int_equal(bench_facts_compare(some, none, "", d, &v), RM_E_FORMAT);
    json_decref(none);
    json_decref(some);
    json_decref(d);
}

/* ---- what people decided */

static void what_was_accepted_ends(void **state)
{
    static const struct {
        const char *today;
        double delta;
        rp_verdict verdict;
        const char *says;
    } row[] = {
        { "2030-01-31", 0.05, RP_PASS, "a regression, accepted until 2030-01-31: for now" },
        { "2030-02-01", 0.05, RP_REGRESSED, "what was accepted (for now) ended on 2030-01-31" },
        { "2029-12-31", 0.0601, RP_REGRESSED, "worse than, or other than, what was accepted (for now)" },
    };
    rm_store *store;
    int64_t run;
    json_t *none = json_object();
    bench_options o = { .gate_bench = "", .a = "x", .b = "y", .against = "", .accept = "for now", .until = "2030-01-31" };
    assert_int_equal(rm_store_open(in_folder("accepted.db"), false, &store), RM_OK);
    assert_int_equal(rm_store_run_begin(store, "gate", "bench gate", none, none, &run), RM_OK);
    json_t *rows =
        json_pack("[{s:s, s:s, s:s, s:f, s:f, s:s}]", "metric", "m", "tier", "T2", "verdict", "REGRESSED", "delta", 0.05, "high", 0.06, "reason", "");
    assert_int_equal(bench_accepted_keep(&o, store, run, rows), RM_OK);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        json_t *now = json_deep_copy(rows);
        json_object_set_new(json_array_get(now, 0), "delta", json_real(row[i].delta));
        assert_int_equal(bench_accepted_apply(&o, store, row[i].today, now), RM_OK);
        assert_int_equal(rp_verdict_of(json_array_get(now, 0)), row[i].verdict);
        assert_string_equal(json_string_value(json_object_get(json_array_get(now, 0), "reason")), row[i].says);
        json_decref(now);
    }
    o.b = "z"; /* another command */
    assert_int_equal(bench_accepted_apply(&o, store, "2029-01-01", rows), RM_OK);
    assert_int_equal(rp_verdict_of(json_array_get(rows, 0)), RP_REGRESSED);
    rm_store_close(store);
    json_decref(rows);
    json_decref(none);
}

/* Layers have no upper bound: the same ones, each up to its effect beyond what it was. */
static void accepted_layers_are_those_that_were_named(void **state)
{
    static const struct {
        const char *layers;
        rp_verdict verdict;
    } row[] = {
        { "[{\"name\": \"x\", \"pass\": \"fwd\", \"delta\": 0.2}, {\"name\": \"y\", \"pass\": \"fwd\", \"delta\": 0.1}]", RP_PASS },
        { "[{\"name\": \"x\", \"pass\": \"fwd\", \"delta\": 0.24}]", RP_PASS },
        { "[{\"name\": \"x\", \"pass\": \"fwd\", \"delta\": 0.26}]", RP_REGRESSED },
        { "[{\"name\": \"x\", \"pass\": \"bwd_data\", \"delta\": 0.1}]", RP_REGRESSED },
        { "[{\"name\": \"x\", \"pass\": \"fwd\", \"delta\": 0.1}, {\"name\": \"z\", \"pass\": \"fwd\", \"delta\": 0.1}]", RP_REGRESSED },
    };
    rm_store *store;
    int64_t run;
    json_t *none = json_object();
    const bench_options o = { .gate_bench = "layers", .a = "", .b = "", .against = "", .accept = "for now", .until = "2030-01-31" };
    assert_int_equal(rm_store_open(in_folder("layers.db"), false, &store), RM_OK);
    assert_int_equal(rm_store_run_begin(store, "gate", "bench gate", none, none, &run), RM_OK);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        json_t *now = json_pack("[{s:s, s:s, s:s, s:n, s:n, s:f, s:s, s:o}]", "metric", "layers", "tier", "layers", "verdict", "REGRESSED", "delta", "high",
                                "effect", 0.05, "reason", "", "layers", json_loads(row[i].layers, 0, NULL));
        if (i == 0) assert_int_equal(bench_accepted_keep(&o, store, run, now), RM_OK);
        assert_int_equal(bench_accepted_apply(&o, store, "2029-12-31", now), RM_OK);
        if (rp_verdict_of(json_array_get(now, 0)) != row[i].verdict) fail_msg("row %zu", i);
        json_decref(now);
    }
    rm_store_close(store);
    json_decref(none);
}

/* ---- layers */

static json_t *layer_document(double scale, rm_rng *g)
{
    json_t *layers = json_array();
    for (int i = 0; i < 40; i++) {
        char name[20];
        snprintf(name, sizeof name, "conv%d", i);
        json_array_append_new(layers, json_pack("{s:s, s:s, s:f}", "name", name, "pass", "bwd_data", "time_s_median",
                                                (i == 7 ? scale : 1) * 1e-3 * (i + 1) * exp(0.01 * rm_rng_normal(g))));
    }
    return json_pack("{s:[{s:o}]}", "results", "layers", layers);
}

static json_t *layer_pairs(int n, double scale, uint64_t seed)
{
    rm_rng g = rm_rng_for(seed, 5, 6);
    json_t *all = json_array();
    for (int i = 0; i < n; i++) {
        json_t *a = layer_document(1, &g), *b = layer_document(scale, &g);
        json_array_append_new(all, json_pack("{s:n, s:o}", "discarded", "layers", bench_gate_layer_values(a, b)));
        json_decref(a);
        json_decref(b);
    }
    return all;
}

static void a_slower_layer_is_named(void **state)
{
    json_t *named;
    int rows;
    json_t *pairs = layer_pairs(16, 1.1, 1);
    assert_int_equal(bench_gate_layers_judge(pairs, 16, 1, &named, &rows), RM_OK);
    assert_int_equal(rows, 40);
    assert_int_equal(json_array_size(named), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(named, 0), "name")), "conv7");
    assert_string_equal(json_string_value(json_object_get(json_array_get(named, 0), "pass")), "bwd_data");
    assert_true(fabs(json_real_value(json_object_get(json_array_get(named, 0), "delta")) - 0.1) < 0.02);
    json_decref(named);
    json_decref(pairs);
    pairs = layer_pairs(16, 0.9, 2); /* faster is nobody's fault */
    assert_int_equal(bench_gate_layers_judge(pairs, 16, 1, &named, &rows), RM_OK);
    assert_int_equal(json_array_size(named), 0);
    json_decref(named);
    json_decref(pairs);
    pairs = json_array();
    assert_int_equal(bench_gate_layers_judge(pairs, 0, 1, &named, &rows), RM_OK);
    assert_true(rows == 0 && json_array_size(named) == 0);
    json_decref(named);
    json_decref(pairs);
}

/* Nobody asked to gate on layers: what cannot be told of them is said, and decides nothing. */
static void layers_decide_only_where_they_gate(void **state)
{
    static const struct {
        int pairs, kept;
        bool gates;
        rp_verdict verdict, all;
    } row[] = {
        { 16, 16, true, RP_REGRESSED, RP_REGRESSED },      { 16, 16, false, RP_PASS, RP_PASS },         { 4, 4, true, RP_INCONCLUSIVE, RP_INCONCLUSIVE },
        { 4, 4, false, RP_INCONCLUSIVE, RP_PASS },         { 0, 0, true, RP_INCONCLUSIVE, RP_INCONCLUSIVE }, { 0, 0, false, RP_INCONCLUSIVE, RP_PASS },
    };
    const bench_gate_side side[2] = { { .label = "a" }, { .label = "b" } };
    const bench_verdict_frame f = { side, "bench gate ab", 1 };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        bench_pairs p = { .pairs = layer_pairs(row[i].pairs, 1.1, 1), .kept = row[i].kept, .seed = 1 };
        json_t *layers, *rows = json_pack("[o]", bench_verdict_row(&f, "step_s", "T2", RP_PASS, ""));
        assert_int_equal(bench_verdict_of_layers(&f, &p, row[i].gates, &layers), RM_OK);
        assert_int_equal(rp_verdict_of(layers), row[i].verdict);
        json_array_append_new(rows, layers);
        assert_int_equal(rp_verdict_of_all(rows), row[i].all);
        json_decref(rows);
        json_decref(p.pairs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_are_parsed),
        cmocka_unit_test(values_are_taken),
        cmocka_unit_test(a_run_is_told_as_it_was),
        cmocka_unit_test(a_run_ends_with_all_it_started),
        cmocka_unit_test_setup_teardown(one_at_a_time, enter, leave),
        cmocka_unit_test(masks_look_at_both_sides_alike),
        cmocka_unit_test(failures_without_a_mask_are_trouble),
        cmocka_unit_test_setup_teardown(masks_read_what_the_system_counts, enter, leave),
        cmocka_unit_test_setup_teardown(the_program_of_a_command_is_found, enter, leave),
        cmocka_unit_test_setup_teardown(pairs_are_stored_and_taken_up_again, enter, leave),
        cmocka_unit_test(the_coin_is_fair_and_seeded),
        cmocka_unit_test(the_first_look_that_decides_stands),
        cmocka_unit_test(facts_are_equal_or_declared),
        cmocka_unit_test_setup_teardown(what_was_accepted_ends, enter, leave),
        cmocka_unit_test_setup_teardown(accepted_layers_are_those_that_were_named, enter, leave),
        cmocka_unit_test(a_slower_layer_is_named),
        cmocka_unit_test(layers_decide_only_where_they_gate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
