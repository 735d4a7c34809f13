/* Kept plans and descriptions of GPUs: what is written is read back, and no file, whatever is in it, does more than cost a warning. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "kernels/cuda/cudnn_plan.h"
#include "kernels/plans.h"
#include "tests/cuda/described.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONV "conv n=64 c=64 h=56 w=56 o=64 k=3 s=1 p=1 dtype=bf16"

static char folder[] = "/tmp/ringmark-plans-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static char *read_bytes(const char *path, size_t *out_n)
{
    char *text = calloc(1, 1 << 20);
    FILE *f = fopen(path, "rb");
    assert_non_null(text);
    assert_non_null(f);
    *out_n = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    return text;
}

static rm_cudnn_cache *opened(const char *path, const char *identity)
{
    rm_cudnn_cache *c = NULL;
    assert_int_equal(rm_cudnn_cache_open(path, identity, &c), RM_OK);
    return c;
}

static rm_cudnn_graph *graph(const char *text)
{
    rm_op op, low;
    rm_cudnn_graph *g = NULL;
    if (rm_op_parse(text, &op) != RM_OK || rm_cudnn_lower(&op, &low) != RM_OK || rm_cudnn_graph_new(&low, &g) != RM_OK) fail_msg("%s", rm_last_error());
    return g;
}

/* ---- the file */
static void texts_come_back(void **state)
{
    const char *path = in_folder("texts.json");
    rm_cudnn_cache *c = opened(path, "this"), *other = opened(path, "this");
    assert_int_equal(rm_cudnn_cache_count(c), 0);
    assert_int_equal(rm_cudnn_cache_put(c, "a", "{\"x\":\"\\u00e9\\n\"}"), RM_OK);
    assert_int_equal(rm_cudnn_cache_put(c, "b", "two"), RM_OK);
    assert_int_equal(rm_cudnn_cache_put(c, "b", "three"), RM_OK);
    assert_int_equal(rm_cudnn_cache_put(other, "c", "four"), RM_OK);
    rm_cudnn_cache_save(c);
    rm_cudnn_cache_save(other); /* keeps what the first wrote */
    rm_cudnn_cache_close(other);
    rm_cudnn_cache_close(c);
    c = opened(path, "this");
    assert_int_equal(rm_cudnn_cache_count(c), 3);
    assert_string_equal(rm_cudnn_cache_get(c, "a"), "{\"x\":\"\\u00e9\\n\"}");
    assert_string_equal(rm_cudnn_cache_get(c, "b"), "three");
    assert_string_equal(rm_cudnn_cache_get(c, "c"), "four");
    assert_null(rm_cudnn_cache_get(c, "d"));
    rm_cudnn_cache_close(c);
}

static void folders_are_made(void **state)
{
    char path[512], other[512];
    assert_int_equal(setenv("RINGMARK_PLANS", in_folder("made/of/this"), 1), 0);
    rm_plans_file("this", "cudnn", path, sizeof path);
    rm_plans_file("that", "cudnn", other, sizeof other);
    assert_string_not_equal(path, other);
    assert_int_equal(strncmp(path, in_folder("made/of/this/"), strlen(in_folder("made/of/this/"))), 0);
    rm_cudnn_cache *c = opened(path, "this");
    assert_int_equal(rm_cudnn_cache_put(c, "a", "one"), RM_OK);
    rm_cudnn_cache_save(c);
    rm_cudnn_cache_close(c);
    c = opened(path, "this");
    assert_int_equal(rm_cudnn_cache_count(c), 1);
    rm_cudnn_cache_close(c);
    assert_int_equal(setenv("RINGMARK_PLANS", "none", 1), 0);
    rm_plans_file("this", "cudnn", path, sizeof path);
    assert_string_equal(path, "");
    c = opened(path, "this");
    assert_int_equal(rm_cudnn_cache_put(c, "a", "one"), RM_OK);
    rm_cudnn_cache_save(c); /* nowhere */
    rm_cudnn_cache_close(c);
    unsetenv("RINGMARK_PLANS");
}

static int lines_of(const char *path)
{
    size_t n;
    int lines = 0;
    char *text = read_bytes(path, &n);
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    free(text);
    return lines;
}

/* Everything that these files say goes to stderr, and it is one line for all of them. */
static void bad_files_cost_one_warning(void **state)
{
    static const char *const bad[] = { "",
                                       "x",
                                       "[]",
                                       "{}",
                                       "null",
                                       "{\"ringmark_cudnn_plans\":2,\"for\":\"this\",\"plans\":{}}",
                                       "{\"ringmark_cudnn_plans\":1,\"for\":\"that\",\"plans\":{}}",
                                       "{\"ringmark_cudnn_plans\":1,\"for\":\"this\"}",
                                       "{\"ringmark_cudnn_plans\":1,\"for\":7,\"plans\":{}}",
                                       "{\"ringmark_cudnn_plans\":1,\"for\":\"this\",\"plans\":[]}",
                                       "{\"ringmark_cudnn_plans\":1,\"for\":\"this\",\"plans\":{\"a\":1}}",
                                       "{\"ringmark_cudnn_plans\":1,\"for\":\"this\",\"plans\":{\"a\":{\"plan\":\"x\",\"sha256\":\"0\"}}}" };
    char log[512];
    snprintf(log, sizeof log, "%s", in_folder("stderr"));
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    assert_non_null(freopen(log, "w", stderr));
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        const char *path = in_folder("bad.json");
        write_bytes(path, bad[i], strlen(bad[i]));
        rm_cudnn_cache *c = opened(path, "this");
        assert_int_equal(rm_cudnn_cache_count(c), 0);
        rm_cudnn_cache_close(c);
    }
    rm_cudnn_cache_close(opened(folder, "this")); /* a folder */
    fflush(stderr);
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(kept);
    assert_int_equal(lines_of(log), 1);
}

static void a_new_file_replaces_a_bad_one(void **state)
{
    const char *path = in_folder("mended.json");
    write_bytes(path, "damage", 6);
    rm_cudnn_cache *c = opened(path, "this");
    assert_int_equal(rm_cudnn_cache_put(c, "a", "one"), RM_OK);
    rm_cudnn_cache_save(c);
    rm_cudnn_cache_close(c);
    c = opened(path, "this");
    assert_string_equal(rm_cudnn_cache_get(c, "a"), "one");
    rm_cudnn_cache_close(c);
}

static void a_place_that_cannot_be_written_is_no_failure(void **state)
{
    write_bytes(in_folder("file"), "", 0);
    rm_cudnn_cache *c = opened(in_folder("file/plans.json"), "this");
    assert_int_equal(rm_cudnn_cache_put(c, "a", "one"), RM_OK);
    rm_cudnn_cache_save(c);
    assert_string_equal(rm_cudnn_cache_get(c, "a"), "one");
    rm_cudnn_cache_close(c);
}

/* A file with real plans, cut and changed at every byte: what is left is empty, or has the same plans. */
static void cut_and_changed_files_give_no_wrong_plan(void **state)
{
    char path[512], hurt[512];
    size_t n;
    snprintf(path, sizeof path, "%s", in_folder("hurt-source.json"));
    snprintf(hurt, sizeof hurt, "%s", in_folder("hurt.json"));
    rm_cudnn_cache *c = opened(path, "this");
    assert_int_equal(rm_cudnn_cache_put(c, "a", "{\"engine\":62}"), RM_OK);
    assert_int_equal(rm_cudnn_cache_put(c, "b", "{\"engine\":7}"), RM_OK);
    rm_cudnn_cache_save(c);
    rm_cudnn_cache_close(c);
    char *text = read_bytes(path, &n);
    for (size_t i = 0; i < 3 * n; i++) {
        const char was = text[i / 3];
        size_t length = n;
        if (i % 3 == 0) length = i / 3;
        else text[i / 3] = (char)(was ^ (i % 3 == 1 ? 1 : 0x80));
        write_bytes(hurt, text, length);
        text[i / 3] = was;
        c = opened(hurt, "this");
        const char *a = rm_cudnn_cache_get(c, "a"), *b = rm_cudnn_cache_get(c, "b");
        if (a) assert_string_equal(a, "{\"engine\":62}");
        if (b) assert_string_equal(b, "{\"engine\":7}");
        rm_cudnn_cache_close(c);
    }
    free(text);
}

/* ---- plans */
typedef struct picks {
    int asked;
    size_t n;
    rm_status answer;
    bool unsure;
} picks;

static rm_status pick_last(void *context, const rm_cudnn_graph *g, const rm_cudnn_plan *const *plan, size_t n, size_t *out_index, bool *out_sure)
{
    picks *p = context;
    *out_sure = !p->unsure;
    p->asked++;
    p->n = n;
    for (size_t i = 0; i < n; i++) assert_non_null(plan[i]->plan);
    if (p->answer != RM_OK) return rm_fail(p->answer, "no time for %s", g->key);
    *out_index = n - 1;
    return RM_OK;
}

static rm_cudnn_plan *planned(const rm_cudnn_graph *g, const rm_cudnn_device *dev, rm_cudnn_rules rules, rm_cudnn_cache *c, picks *p)
{
    rm_cudnn_plan *plan = NULL;
    if (rm_cudnn_plan_new(g, dev, &rules, c, p ? pick_last : NULL, p, &plan) != RM_OK) fail_msg("%s", rm_last_error());
    return plan;
}

static void the_chosen_plan_is_kept(void **state)
{
    const char *path = in_folder("kept.json");
    rm_cudnn_device *dev = gpu("h100");
    rm_cudnn_graph *g = graph(CONV);
    rm_cudnn_rules rules = rm_cudnn_rules_for(&g->op, false);
    picks asked = { 0 };
    rm_cudnn_cache *c = opened(path, dev->identity);
    rm_cudnn_plan *first = planned(g, dev, rules, c, &asked), *plain = planned(g, dev, rules, NULL, NULL);
    assert_int_equal(asked.asked, 1);
    assert_true(asked.n > 1);
    assert_string_not_equal(first->name, plain->name); /* cuDNN's first is not the last */
    rm_cudnn_cache_save(c);
    rm_cudnn_cache_close(c);
    c = opened(path, dev->identity);
    rm_cudnn_plan *again = planned(g, dev, rules, c, &asked);
    assert_int_equal(asked.asked, 1); /* not asked again */
    assert_string_equal(again->name, first->name);
    assert_non_null(strstr(first->name, "_k")); /* with its knobs */
    assert_int_equal(again->engine, first->engine);
    assert_int_equal(again->workspace_bytes, first->workspace_bytes);
    assert_int_equal(again->numeric, first->numeric);
    assert_int_equal(again->behavior, first->behavior);
    rules.must_not |= again->numeric; /* other rules: chosen anew, or refused */
    rm_cudnn_plan *none = NULL;
    assert_int_equal(rm_cudnn_plan_new(g, dev, &rules, c, NULL, NULL, &none), RM_E_UNSUPPORTED);
    assert_null(none);
    rm_cudnn_plan_free(again);
    rm_cudnn_plan_free(plain);
    rm_cudnn_plan_free(first);
    rm_cudnn_cache_close(c);
    rm_cudnn_graph_free(g);
    rm_cudnn_device_free(dev);
}

/* Another run may have the time, or the memory, to try the candidates. */
static void a_choice_that_was_not_timed_is_not_kept(void **state)
{
    rm_cudnn_device *dev = gpu("h100");
    rm_cudnn_graph *g = graph(CONV);
    const rm_cudnn_rules rules = rm_cudnn_rules_for(&g->op, false);
    picks asked = { .unsure = true };
    rm_cudnn_cache *c = opened(in_folder("unsure.json"), dev->identity);
    rm_cudnn_plan *p = planned(g, dev, rules, c, &asked);
    assert_int_equal(rm_cudnn_cache_count(c), 0);
    asked.unsure = false;
    rm_cudnn_plan *sure = planned(g, dev, rules, c, &asked);
    assert_int_equal(asked.asked, 2);
    assert_int_equal(rm_cudnn_cache_count(c), 1);
    rm_cudnn_plan_free(sure);
    rm_cudnn_plan_free(p);
    rm_cudnn_cache_close(c);
    rm_cudnn_graph_free(g);
    rm_cudnn_device_free(dev);
}

/* A pack of data is complete when every operand of the op has an address. Whether it runs only a GPU shows. */
static void data_is_bound_by_slot(void **state)
{
    static _Alignas(64) char memory[4][64];
    static const char *const texts[] = { CONV, "conv_bwd_data n=2 c=8 h=4 w=4 o=8 k=1 dtype=bf16", "conv_bwd_weights n=2 c=8 h=4 w=4 o=8 k=1 dtype=bf16",
                                         "maxpool n=2 c=8 h=4 w=4 k=2 s=2 dtype=bf16", "maxpool_bwd n=2 c=8 h=4 w=4 k=2 s=2 dtype=bf16" };
    for (size_t i = 0; i < RM_COUNT(texts); i++) {
        rm_cudnn_graph *g = graph(texts[i]);
        void *data[RM_SLOT_COUNT] = { NULL };
        cudnnBackendDescriptor_t pack = NULL;
        for (int s = 0, n = 0; s < RM_SLOT_COUNT; s++)
            if (rm_op_uses(&g->op, (rm_slot)s)) data[s] = memory[n++];
        if (rm_cudnn_pack_new(g, data, memory[3], &pack) != RM_OK) fail_msg("%s", rm_last_error());
        rm_cudnn_destroy(pack);
        rm_cudnn_graph_free(g);
    }
}

/* The ids that a kept plan will ask for are those that a later run binds: slot plus one. */
static void a_plan_names_tensors_by_slot(void **state)
{
    char *text = NULL;
    rm_cudnn_device *dev = gpu("b200");
    rm_cudnn_graph *g = graph(CONV);
    rm_cudnn_plan *p = planned(g, dev, rm_cudnn_rules_for(&g->op, false), NULL, NULL);
    assert_int_equal(rm_cudnn_plan_text(p, &text), RM_OK);
    static const struct {
        const char *name;
        rm_slot slot;
    } tensors[] = { { "X", RM_X }, { "W", RM_W }, { "Y", RM_Y } };
    for (size_t i = 0; i < RM_COUNT(tensors); i++) {
        char want[32];
        snprintf(want, sizeof want, "\"%s\":\"%d\"", tensors[i].name, (int)tensors[i].slot + 1);
        if (!strstr(text, want)) fail_msg("no %s in %s", want, text);
    }
    free(text);
    rm_cudnn_plan_free(p);
    rm_cudnn_graph_free(g);
    rm_cudnn_device_free(dev);
}

static void a_failed_choice_is_passed_on(void **state)
{
    rm_cudnn_device *dev = gpu("a100");
    rm_cudnn_graph *g = graph(CONV);
    const rm_cudnn_rules rules = rm_cudnn_rules_for(&g->op, false);
    picks asked = { .answer = RM_E_DEVICE };
    rm_cudnn_plan *p = NULL;
    assert_int_equal(rm_cudnn_plan_new(g, dev, &rules, NULL, pick_last, &asked, &p), RM_E_DEVICE);
    assert_null(p);
    assert_non_null(strstr(rm_last_error(), "no time for conv n=64"));
    rm_cudnn_graph_free(g);
    rm_cudnn_device_free(dev);
}

/* Plans of an H100 under the name of an A100: cuDNN refuses them, and they are chosen anew. Nonsense with a right digest too. */
static void a_plan_for_another_gpu_is_chosen_anew(void **state)
{
    rm_cudnn_device *h100 = gpu("h100"), *a100 = gpu("a100");
    rm_cudnn_graph *g = graph(CONV);
    const rm_cudnn_rules rules = rm_cudnn_rules_for(&g->op, false);
    rm_cudnn_cache *c = opened(in_folder("foreign.json"), a100->identity);
    rm_cudnn_plan *right = planned(g, a100, rules, NULL, NULL), *foreign = planned(g, h100, rules, c, NULL), *p;
    assert_string_not_equal(right->name, foreign->name);
    p = planned(g, a100, rules, c, NULL);
    assert_string_equal(p->name, right->name);
    rm_cudnn_plan_free(p);
    static const char *const nonsense[] = { "", "{}", "{\"cudnnVersion\":91900}", "[1,2", "\x01" };
    for (size_t i = 0; i < RM_COUNT(nonsense); i++) {
        assert_int_equal(rm_cudnn_cache_put(c, g->key, nonsense[i]), RM_OK);
        p = planned(g, a100, rules, c, NULL);
        assert_string_equal(p->name, right->name);
        rm_cudnn_plan_free(p);
    }
    rm_cudnn_plan_free(foreign);
    rm_cudnn_plan_free(right);
    rm_cudnn_cache_close(c);
    rm_cudnn_graph_free(g);
    rm_cudnn_device_free(h100);
    rm_cudnn_device_free(a100);
}

/* ---- descriptions */
static void descriptions_round_trip(void **state)
{
    static const char *const names[] = { "h100", "a100", "b200" };
    static const int sm[] = { 90, 80, 100 };
    for (size_t i = 0; i < RM_COUNT(names); i++) {
        char path[512], *json = NULL, *again = NULL;
        rm_cudnn_device *dev = gpu(names[i]), *copy = NULL;
        assert_int_equal(dev->sm, sm[i]);
        assert_true(dev->described);
        assert_int_equal(rm_cudnn_device_json(dev, &json), RM_OK);
        snprintf(path, sizeof path, "%s", in_folder("copy.json"));
        write_bytes(path, json, strlen(json));
        assert_int_equal(rm_cudnn_device_read(path, &copy), RM_OK);
        assert_int_equal(rm_cudnn_device_json(copy, &again), RM_OK);
        assert_string_equal(json, again);
        assert_string_equal(dev->identity, copy->identity);
        free(again);
        free(json);
        rm_cudnn_device_free(copy);
        rm_cudnn_device_free(dev);
    }
}

static void bad_descriptions_are_named(void **state)
{
    static const struct {
        const char *text, *words;
    } bad[] = {
        { "", "no description" },
        { "# nothing\n", "no description" },
        { "[1]", "not a JSON object" },
        { "{", "line 1" },
        { "# one\n{ \"a\": 1,\n}", "line 3" },
        { "{\"a\": 1, \"a\": 2}", "duplicate" },
        { "{}", "deviceName" },
        { "{\"deviceName\": 3}", "deviceName" },
        { "{\"deviceName\": \"x\", \"deviceVer\": 900, \"multiProcessorCount\": 4}", "cuDNN does not take this description" },
    };
    char path[512];
    rm_cudnn_device *dev = NULL;
    snprintf(path, sizeof path, "%s", in_folder("gpu.json"));
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        write_bytes(path, bad[i].text, strlen(bad[i].text));
        assert_int_equal(rm_cudnn_device_read(path, &dev), RM_E_FORMAT);
        if (!strstr(rm_last_error(), bad[i].words) || !strstr(rm_last_error(), path)) fail_msg("\"%s\": %s", bad[i].text, rm_last_error());
    }
    assert_int_equal(rm_cudnn_device_read(in_folder("not there"), &dev), RM_E_IO);
    assert_int_equal(rm_cudnn_device_read(folder, &dev), RM_E_IO);
    assert_null(dev);
}

/* Lines longer than any buffer are one comment, or none, to their end; a file without end is not read to it. */
static void long_lines_and_files(void **state)
{
    enum { LONG = 20000, MUCH = 3 << 19 };
    size_t n;
    char path[512], *big = malloc(MUCH + LONG);
    rm_cudnn_device *dev = NULL;
    gpu_path("a100", path, sizeof path);
    char *text = read_bytes(path, &n);
    assert_non_null(big);
    snprintf(path, sizeof path, "%s", in_folder("long.json"));
    memset(big, '#', LONG);
    big[LONG - 1] = '\n';
    big[1] = '}';
    memcpy(big + LONG, text, n);
    write_bytes(path, big, LONG + n);
    assert_int_equal(rm_cudnn_device_read(path, &dev), RM_OK);
    rm_cudnn_device_free(dev);
    memset(big + 1, 'x', LONG - 2); /* what is not '#' ends no comment */
    write_bytes(path, big, LONG + n);
    assert_int_equal(rm_cudnn_device_read(path, &dev), RM_OK);
    rm_cudnn_device_free(dev);
    memset(big, '#', LONG); /* and in a word it begins none */
    memcpy(big, "{\"deviceName\": \"", 16);
    memcpy(big + LONG, "\"}", 2);
    write_bytes(path, big, LONG + 2);
    assert_int_equal(rm_cudnn_device_read(path, &dev), RM_E_FORMAT);
    if (!strstr(rm_last_error(), "deviceVer or multiProcessorCount is missing")) fail_msg("%s", rm_last_error());
    memcpy(big, text, n);
    memset(big + n, ' ', MUCH - n);
    write_bytes(path, big, MUCH);
    assert_int_equal(rm_cudnn_device_read(path, &dev), RM_E_FORMAT);
    if (!strstr(rm_last_error(), "larger than 1048576 bytes")) fail_msg("%s", rm_last_error());
    free(text);
    free(big);
}

/* Cut at every byte: refused, or whole. */
static void cut_descriptions_are_refused(void **state)
{
    size_t n;
    char path[512];
    gpu_path("a100", path, sizeof path);
    char *text = read_bytes(path, &n);
    snprintf(path, sizeof path, "%s", in_folder("cut.json"));
    for (size_t i = 0; i < n; i++) {
        rm_cudnn_device *dev = NULL;
        write_bytes(path, text, i);
        rm_status st = rm_cudnn_device_read(path, &dev);
        assert_true(st == RM_E_FORMAT || (st == RM_OK && strspn(text + i, "}\n ") == n - i));
        rm_cudnn_device_free(dev);
    }
    free(text);
}

static void a_machine_without_a_gpu_says_so(void **state)
{
    rm_cudnn_device *dev = NULL;
    rm_status st = rm_cudnn_device_open(0, &dev);
    if (st == RM_OK) print_message("this machine has a GPU: %s\n", dev->identity);
    else {
        assert_null(dev);
        assert_int_equal(strncmp(rm_last_error(), "cudnn: ask", 10), 0);
        print_message("%s\n", rm_last_error());
    }
    rm_cudnn_device_free(dev);
}

static int set_up(void **state)
{
    hold_nvrtc();
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back),
        cmocka_unit_test(folders_are_made),
        cmocka_unit_test(bad_files_cost_one_warning),
        cmocka_unit_test(a_new_file_replaces_a_bad_one),
        cmocka_unit_test(a_place_that_cannot_be_written_is_no_failure),
        cmocka_unit_test(cut_and_changed_files_give_no_wrong_plan),
        cmocka_unit_test(the_chosen_plan_is_kept),
        cmocka_unit_test(a_choice_that_was_not_timed_is_not_kept),
        cmocka_unit_test(data_is_bound_by_slot),
        cmocka_unit_test(a_plan_names_tensors_by_slot),
        cmocka_unit_test(a_failed_choice_is_passed_on),
        cmocka_unit_test(a_plan_for_another_gpu_is_chosen_anew),
        cmocka_unit_test(descriptions_round_trip),
        cmocka_unit_test(bad_descriptions_are_named), cmocka_unit_test(long_lines_and_files),
        cmocka_unit_test(cut_descriptions_are_refused),
        cmocka_unit_test(a_machine_without_a_gpu_says_so),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
