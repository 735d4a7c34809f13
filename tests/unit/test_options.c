/* The option rows and their parser: every kind, every way to write a value, ranges, messages, echo and reproduce. */
#include "bench/commands.h"
#include "bench/options.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 40 };
typedef struct line {
    char text[1024];
    char *argv[MOST_WORDS];
    int argc;
    bench_options o;
} line;

/* Parses `words`, separated by blanks, as options of `command`. */
static rm_status parse(line *l, const char *command, const char *words)
{
    const bench_command c = { .name = command, .summary = "" };
    snprintf(l->text, sizeof l->text, "%s", words);
    l->argc = 0;
    for (char *p = strtok(l->text, " "); p; p = strtok(NULL, " ")) l->argv[l->argc++] = p;
    return bench_options_parse(&c, l->argc, l->argv, &l->o);
}

static void good(line *l, const char *command, const char *words)
{
    if (parse(l, command, words) != RM_OK) fail_msg("bench %s %s: %s", command, words, rm_last_error());
}

static void bad(const char *command, const char *words, const char *part_of_message)
{
    line l;
    if (parse(&l, command, words) == RM_OK) fail_msg("bench %s %s was accepted", command, words);
    if (!strstr(rm_last_error(), part_of_message)) fail_msg("bench %s %s: '%s' lacks '%s'", command, words, rm_last_error(), part_of_message);
    assert_null(strchr(rm_last_error(), '\n'));
}

static void defaults_are_those_of_the_rows(void **state)
{
    line l;
    unsetenv("RINGMARK_STORE");
    good(&l, "train", "");
    assert_string_equal(l.o.device, "auto");
    assert_string_equal(l.o.dtype, "");
    assert_int_equal(l.o.warmup, -1);
    assert_int_equal(l.o.px, 0);
    assert_int_equal(l.o.seed, 1);
    assert_true(l.o.epochs < 0 && l.o.target < 0);
    assert_true(l.o.comm_timeout_s == 60 && l.o.max_bad == 0.01 && l.o.bn_eps == 1e-5);
    assert_int_equal(l.o.depth, 50);
    assert_string_equal(l.o.store, "ringmark.db");
    assert_false(l.o.json || l.o.steps_given);
    assert_int_equal(l.o.n_arg, 0);
}

static void values_come_attached_or_as_the_next_word(void **state)
{
    line l;
    good(&l, "train", "--batch 8 --px=96 --warmup 0 --epochs=0.5 --device=cpu --steps 3 --data /a=b --seed 0");
    assert_int_equal(l.o.batch, 8);
    assert_int_equal(l.o.px, 96);
    assert_int_equal(l.o.warmup, 0);
    assert_true(l.o.epochs == 0.5 && l.o.steps_given && l.o.seed == 0);
    assert_string_equal(l.o.device, "cpu");
    assert_string_equal(l.o.data, "/a=b");
    good(&l, "train", "--batch 8 --batch 9");
    assert_int_equal(l.o.batch, 9); /* the last one counts */
    good(&l, "scaling", "--devices 1,2");
    assert_string_equal(l.o.gpus, "1,2");
    good(&l, "step", "--depth 101 --variant v1 --decay-bn --nesterov --no-nesterov");
    assert_int_equal(l.o.depth, 101);
    assert_true(l.o.decay_bn && !l.o.nesterov);
}

static void json_takes_a_file_or_none(void **state)
{
    static const struct {
        const char *words, *file;
    } row[] = {
        { "--json", "-" }, { "--json -", "-" }, { "--json f.json", "f.json" }, { "--json=f.json", "f.json" }, { "--json -q", "-" }, { "--json --px 64", "-" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        line l;
        good(&l, "train", row[i].words);
        assert_true(l.o.json);
        assert_string_equal(l.o.json_file, row[i].file);
        assert_int_equal(l.o.n_arg, 0);
    }
    bad("train", "--json=", "--json is empty");
}

static void words_letters_and_the_double_dash(void **state)
{
    line l;
    good(&l, "infer", "a.safetensors -v x.jpg --topk 3 y.jpg");
    assert_int_equal(l.o.n_arg, 3);
    assert_string_equal(l.o.arg[0], "a.safetensors");
    assert_string_equal(l.o.arg[2], "y.jpg");
    assert_true(l.o.verbose && l.o.topk == 3);
    good(&l, "infer", "a -- -q --x");
    assert_int_equal(l.o.n_arg, 3);
    assert_string_equal(l.o.arg[1], "-q");
    assert_false(l.o.quiet);
    good(&l, "infer", "-h");
    assert_true(l.o.help); /* although the words are missing */
    bad("infer", "a", "it takes CHECKPOINT IMAGE...");
    bad("scaling", "1,2", "unexpected word '1,2'");
    bad("data", "make a b", "too many words, from 'b' on");
    bad("train", "-x", "unknown option -x");
    bad("train", "-q -v", "exclude each other");
}

static void what_is_wrong_is_said(void **state)
{
    static const struct {
        const char *command, *words, *message;
    } row[] = {
        { "train", "--stpes 3", "did you mean --steps?" },
        { "train", "--epoch 3", "--epoch is not an option of bench train; it belongs to: input" },
        { "train", "--frobnicate", "bench train --help" },
        { "train", "--step 3", "did you mean --steps?" }, /* no abbreviations */
        { "input", "--recipe tiny", "it belongs to: scaling, split-sweep, train, eval, infer, layers" },
        { "train", "--batch", "--batch wants a value: N" },
        { "train", "--data --px 64", "--data wants a value" },
        { "train", "--batch 0", "must be from 1 to" },
        { "train", "--batch -4", "must be from 1 to" },
        { "train", "--batch 2.5", "not a whole number" },
        { "train", "--batch 99999999999999999999", "must be from 1 to" },
        { "train", "--batch 3x", "not a whole number" },
        { "train", "--px 7", "must be from 8 to 4096" },
        { "train", "--px 4097", "must be from 8 to 4096" },
        { "train", "--epochs nan", "must be from" },
        { "train", "--epochs -1", "must be from 0" },
        { "train", "--epochs inf", "must be from" },
        { "train", "--comm-timeout x", "not a number" },
        { "train", "--threads 5000", "must be from 0 to 4096" },
        { "train", "--warmup -1", "must be from 0" },
        { "train", "--device gpu", "must be one of auto|cuda|cpu|ref|null" },
        { "train", "--device auto|cuda", "must be one of" },
        { "train", "--dtype f32", "must be one of fp32|bf16|fp16|tf32|fp64" },
        { "step", "--depth 18", "must be one of 50|101|152" },
        { "train", "--resume=yes", "takes no value" },
        { "train", "--no-resume", "unknown option" },
        { "train", "--data=", "--data is empty" },
        { "report", "--px 64", "not an option of bench report" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) bad(row[i].command, row[i].words, row[i].message);
}

static void outputs_are_set_only_on_success(void **state)
{
    const bench_command c = { .name = "train" };
    char batch[] = "--batch", zero[] = "0";
    char *argv[] = { batch, zero };
    bench_options o;
    memset(&o, 0x5a, sizeof o);
    const bench_options before = o;
    assert_int_equal(bench_options_parse(&c, 2, argv, &o), RM_E_ARG);
    assert_memory_equal(&o, &before, sizeof o);
}

static void the_store_comes_from_the_environment(void **state)
{
    line l;
    setenv("RINGMARK_STORE", "/tmp/other.db", 1);
    good(&l, "train", "");
    assert_string_equal(l.o.store, "/tmp/other.db");
    good(&l, "train", "--store mine.db");
    assert_string_equal(l.o.store, "mine.db");
    unsetenv("RINGMARK_STORE");
}

static void echo_and_reproduce(void **state)
{
    line l;
    const bench_command c = { .name = "train" };
    good(&l, "train", "--batch 8 --no-fuse --epochs 0.25 --json --store x.db -q --dry-run --recipe a'b --device auto");
    json_t *config = bench_options_echo(&c, &l.o);
    char *dump = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(dump, "{\"batch\":8,\"epochs\":0.25,\"no_fuse\":true,\"recipe\":\"a'b\"}");
    free(dump);
    json_decref(config);
    json_t *again = bench_reproduce(&c, &l.o);
    assert_string_equal(json_string_value(again), "bench train --batch 8 --recipe 'a'\\''b' --epochs 0.25 --no-fuse");
    json_decref(again);
    char many[5001];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = '\0';
    l.o.recipe = many;
    again = bench_reproduce(&c, &l.o);
    assert_non_null(strstr(json_string_value(again), "xx --epochs 0.25 --no-fuse")); /* whole, however long */
    json_decref(again);
    l.o.recipe = "a'b\\\n\tc"; /* one line, also of a command that has several */
    again = bench_reproduce(&c, &l.o);
    assert_non_null(strstr(json_string_value(again), " --recipe $'a\\'b\\\\\\n\\011c' --epochs"));
    json_decref(again);
    l.o.recipe = "\xff";
    again = bench_reproduce(&c, &l.o);
    assert_string_equal(json_string_value(again), "(not UTF-8)");
    json_decref(again);
}

static void reproduce_round_trips(void **state)
{
    static const struct {
        const char *command, *words;
    } row[] = {
        { "scaling", "--gpus 1,2 --strong --px 64 --seed 9007199254740993 --comm-timeout 0.25 --input-mode real" },
        { "step", "--lr 0.30000000000000004 --depth 152 --decay-bn --bn-eps 1e-3" },
        { "infer", "a b c --topk 2" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        line l, again;
        const bench_command c = { .name = row[i].command };
        good(&l, row[i].command, row[i].words);
        json_t *first = bench_reproduce(&c, &l.o);
        const char *text = json_string_value(first);
        const size_t skip = strlen("bench ") + strlen(row[i].command);
        assert_memory_equal(text, "bench ", 6);
        good(&again, row[i].command, text + skip);
        json_t *second = bench_reproduce(&c, &again.o);
        assert_true(json_equal(first, second));
        json_decref(first);
        json_decref(second);
        assert_true(l.o.seed == again.o.seed && l.o.lr == again.o.lr && l.o.px == again.o.px);
    }
}

static void a_list_keeps_all_it_was_given(void **state)
{
    line l;
    const bench_command c = { .name = "gate" };
    char words[200] = "ab --a x";
    good(&l, "gate", words);
    assert_int_equal(l.o.metric.n, 0);
    good(&l, "gate", "ab --metric $.a --a x --metric=n=$.b:higher");
    assert_int_equal(l.o.metric.n, 2);
    assert_string_equal(l.o.metric.item[0], "$.a");
    assert_string_equal(l.o.metric.item[1], "n=$.b:higher");
    json_t *config = bench_options_echo(&c, &l.o), *again = bench_reproduce(&c, &l.o);
    char *dump = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(dump, "{\"a\":\"x\",\"metric\":[\"$.a\",\"n=$.b:higher\"],\"words\":[\"ab\"]}");
    assert_string_equal(json_string_value(again), "bench gate ab --a x --metric '$.a' --metric 'n=$.b:higher'");
    free(dump);
    json_decref(config);
    json_decref(again);
    char *argv[2 * BENCH_LIST_MOST + 2];
    for (int i = 0; i < 2 * BENCH_LIST_MOST + 2; i++) argv[i] = i % 2 ? "$.a" : "--metric";
    assert_int_equal(bench_options_parse(&c, 2 * BENCH_LIST_MOST + 2, argv, &l.o), RM_E_ARG); /* one too many */
    assert_non_null(strstr(rm_last_error(), "16 times"));
}

static void the_rows_make_sense(void **state)
{
    for (size_t i = 0; i < bench_option_count; i++) {
        const bench_option *row = &bench_option_rows[i];
        assert_true(row->name && row->help && row->commands && strlen(row->name) < 32);
        if (row->kind != BENCH_FLAG) assert_true(bench_option_metavar(row)[0]);
        if (row->kind == BENCH_CHOICE || row->kind == BENCH_INT_CHOICE) assert_non_null(row->choices);
        if (row->kind == BENCH_INT || row->kind == BENCH_I64 || row->kind == BENCH_DOUBLE) assert_true(row->min < row->max);
        if (row->kind == BENCH_OPTIONAL_FILE) assert_true(row->given);
        for (size_t k = 0; k < i; k++) {
            for (size_t c = 0; bench_commands[c] && !strcmp(row->name, bench_option_rows[k].name); c++) /* no command takes both */
                assert_false(bench_option_takes(row, bench_commands[c]->name) && bench_option_takes(&bench_option_rows[k], bench_commands[c]->name));
            assert_true(row->offset != bench_option_rows[k].offset);
        }
        /* Every command named in a row exists, and every command is known to the program. */
        char list[200];
        snprintf(list, sizeof list, "%s", row->commands);
        for (char *p = strtok(list, " "); p && *p != '*'; p = strtok(NULL, " "))
            if (!bench_command_find(p)) fail_msg("--%s names the command %s, which does not exist", row->name, p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_rows),
        cmocka_unit_test(values_come_attached_or_as_the_next_word),
        cmocka_unit_test(json_takes_a_file_or_none),
        cmocka_unit_test(words_letters_and_the_double_dash),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(outputs_are_set_only_on_success),
        cmocka_unit_test(the_store_comes_from_the_environment),
        cmocka_unit_test(echo_and_reproduce),
        cmocka_unit_test(reproduce_round_trips),
        cmocka_unit_test(a_list_keeps_all_it_was_given),
        cmocka_unit_test(the_rows_make_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
