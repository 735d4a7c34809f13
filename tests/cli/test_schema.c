/* Real output against docs/json-schema: a checker of the keywords that those schemas use, itself tested first. */
#include "bench/commands.h"
#include "kernels/comm/comm.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the checker: "" or where and why a value does not fit */

typedef struct fault {
    char text[400];
} fault;
static bool fits(const json_t *schema, const json_t *v, const char *at, fault *f);

static bool wrong(fault *f, const char *at, const char *what, const char *detail)
{
    snprintf(f->text, sizeof f->text, "%s: %s %s", at[0] ? at : "(root)", what, detail);
    return false;
}

static bool is_type(const char *type, const json_t *v)
{
    static const char *const name[] = { [JSON_OBJECT] = "object", [JSON_ARRAY] = "array",  [JSON_STRING] = "string", [JSON_INTEGER] = "integer",
                                        [JSON_REAL] = "number",   [JSON_TRUE] = "boolean", [JSON_FALSE] = "boolean", [JSON_NULL] = "null" };
    return !strcmp(type, name[json_typeof(v)]) || (json_is_integer(v) && !strcmp(type, "number"));
}

static bool type_fits(const json_t *type, const json_t *v, const char *at, fault *f)
{
    size_t i;
    const json_t *one;
    if (json_is_string(type)) return is_type(json_string_value(type), v) || wrong(f, at, "is not of type", json_string_value(type));
    json_array_foreach(type, i, one) if (is_type(json_string_value(one), v)) return true;
    return wrong(f, at, "is of none of the types", "allowed");
}

static bool required_fits(const json_t *list, const json_t *v, const char *at, fault *f)
{
    size_t i;
    const json_t *key;
    json_array_foreach(list, i, key) if (json_is_object(v) && !json_object_get(v, json_string_value(key))) return wrong(f, at, "lacks the key",
                                                                                                                        json_string_value(key));
    return true;
}

static bool properties_fit(const json_t *schema, const json_t *v, const char *at, fault *f)
{
    const json_t *properties = json_object_get(schema, "properties"), *others = json_object_get(schema, "additionalProperties");
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)v, key, member)
    {
        char where[300];
        snprintf(where, sizeof where, "%s.%s", at, key);
        const json_t *own = json_object_get(properties, key);
        if (own && !fits(own, member, where, f)) return false;
        if (!own && json_is_false(others)) return wrong(f, where, "is not", "allowed");
        if (!own && json_is_object(others) && !fits(others, member, where, f)) return false;
    }
    return true;
}

static bool items_fit(const json_t *items, const json_t *v, const char *at, fault *f)
{
    size_t i;
    const json_t *item;
    json_array_foreach(v, i, item)
    {
        char where[300];
        snprintf(where, sizeof where, "%s[%zu]", at, i);
        if (!fits(items, item, where, f)) return false;
    }
    return true;
}

static bool limits_fit(const json_t *s, const json_t *v, const char *at, fault *f)
{
    const json_t *least = json_object_get(s, "minimum"), *most = json_object_get(s, "maximum"), *length = json_object_get(s, "minLength");
    const json_t *count = json_object_get(s, "minItems");
    if (least && json_is_number(v) && json_number_value(v) < json_number_value(least)) return wrong(f, at, "is below", "the minimum");
    if (most && json_is_number(v) && json_number_value(v) > json_number_value(most)) return wrong(f, at, "is above", "the maximum");
    if (length && json_is_string(v) && strlen(json_string_value(v)) < (size_t)json_integer_value(length)) return wrong(f, at, "is too", "short");
    if (count && json_is_array(v) && json_array_size(v) < (size_t)json_integer_value(count)) return wrong(f, at, "has too few", "items");
    return true;
}

static bool values_fit(const json_t *s, const json_t *v, const char *at, fault *f)
{
    const json_t *constant = json_object_get(s, "const"), *list = json_object_get(s, "enum"), *one;
    size_t i;
    if (constant && !json_equal(constant, v)) return wrong(f, at, "is not the", "constant");
    if (!list) return true;
    json_array_foreach(list, i, one) if (json_equal(one, v)) return true;
    return wrong(f, at, "is none of the", "values");
}

static bool combinations_fit(const json_t *s, const json_t *v, const char *at, fault *f)
{
    const json_t *all = json_object_get(s, "allOf"), *any = json_object_get(s, "anyOf"), *condition = json_object_get(s, "if"), *one;
    size_t i;
    fault ignored;
    json_array_foreach(all, i, one) if (!fits(one, v, at, f)) return false;
    bool one_fits = !any;
    json_array_foreach(any, i, one) one_fits = one_fits || fits(one, v, at, f);
    if (!one_fits) return false;
    if (!condition) return true;
    const json_t *branch = json_object_get(s, fits(condition, v, at, &ignored) ? "then" : "else");
    return !branch || fits(branch, v, at, f);
}

static bool fits(const json_t *s, const json_t *v, const char *at, fault *f)
{
    const json_t *type = json_object_get(s, "type"), *items = json_object_get(s, "items");
    if (type && !type_fits(type, v, at, f)) return false;
    if (!required_fits(json_object_get(s, "required"), v, at, f) || !values_fit(s, v, at, f) || !limits_fit(s, v, at, f)) return false;
    if (json_is_object(v) && !properties_fit(s, v, at, f)) return false;
    if (items && json_is_array(v) && !items_fit(items, v, at, f)) return false;
    return combinations_fit(s, v, at, f);
}

/* ---- helpers */

static json_t *load(const char *path)
{
    json_error_t e;
    json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!j) fail_msg("%s: line %d: %s", path, e.line, e.text);
    return j;
}

static json_t *schema_of(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/docs/json-schema/%s.json", RM_SOURCE_DIR, name);
    return load(path);
}

/* Runs bench and checks its JSON against the envelope, every row against `row_schema`; hands the object out. */
static json_t *checked(const char *words, const char *row_schema, size_t rows)
{
    char command[2048];
    fault f = { "" };
    snprintf(command, sizeof command, "'%s' %s -q --store schema_test.db --json schema_test.json > schema_test.out", RM_BENCH, words);
    const int rc = system(command);
    if (rc != 0) fail_msg("%s: exit status %d", command, rc);
    json_t *out = load("schema_test.json"), *envelope = schema_of("envelope"), *row = row_schema ? schema_of(row_schema) : NULL,
           *results = json_object_get(out, "results");
    if (!fits(envelope, out, "", &f)) fail_msg("bench %s: %s", words, f.text);
    assert_int_equal(json_array_size(results), rows);
    for (size_t i = 0; row && i < rows; i++)
        if (!fits(row, json_array_get(results, i), "", &f)) fail_msg("bench %s, row %zu: %s", words, i, f.text);
    json_decref(envelope);
    json_decref(row);
    remove("schema_test.json");
    remove("schema_test.out");
    remove("schema_test.db");
    return out;
}

static void the_checker_can_fail(void **state)
{
    static const struct {
        const char *schema, *value;
        bool fits;
    } row[] = {
        { "{\"type\":\"number\"}", "1", true },
        { "{\"type\":\"integer\"}", "1.5", false },
        { "{\"type\":[\"number\",\"null\"]}", "null", true },
        { "{\"type\":[\"number\",\"null\"]}", "\"x\"", false },
        { "{\"required\":[\"a\"]}", "{\"b\":1}", false },
        { "{\"properties\":{\"a\":{\"minimum\":0}}}", "{\"a\":-1}", false },
        { "{\"additionalProperties\":false,\"properties\":{\"a\":{}}}", "{\"b\":1}", false },
        { "{\"items\":{\"type\":\"string\"}}", "[\"a\",1]", false },
        { "{\"enum\":[\"a\",\"b\"]}", "\"c\"", false },
        { "{\"const\":\"a\"}", "\"a\"", true },
        { "{\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}", "{\"b\":1}", true },
        { "{\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}", "{\"c\":1}", false },
        { "{\"if\":{\"properties\":{\"a\":{\"type\":\"null\"}}},\"then\":{\"required\":[\"why\"]}}", "{\"a\":null}", false },
        { "{\"if\":{\"properties\":{\"a\":{\"type\":\"null\"}}},\"then\":{\"required\":[\"why\"]}}", "{\"a\":1}", true },
        { "{\"if\":{\"const\":1},\"else\":{\"type\":\"null\"}}", "2", false },
        { "{\"minLength\":1}", "\"\"", false },
        { "{\"minItems\":1}", "[]", false },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        fault f = { "" };
        json_t *schema = json_loads(row[i].schema, 0, NULL), *value = json_loads(row[i].value, JSON_DECODE_ANY, NULL);
        if (fits(schema, value, "", &f) != row[i].fits) fail_msg("%s against %s: not as expected (%s)", row[i].value, row[i].schema, f.text);
        json_decref(schema);
        json_decref(value);
    }
}

/* ---- commands. The null device computes nothing, so that this takes seconds; shapes and keys are those of the others. */

static void info(void **state) { json_decref(checked("info", NULL, 1)); }

static void layers(void **state)
{
    json_t *out = checked("layers --device null --px 32 --batch 2 --steps 3 --warmup 0", "layers", 1),
           *row = json_array_get(json_object_get(out, "results"), 0), *layer;
    json_int_t sum = 0;
    size_t i;
    json_array_foreach(json_object_get(row, "layers"), i, layer) sum += json_integer_value(json_object_get(layer, "time_ns"));
    assert_true(sum > 0 && sum == json_integer_value(json_object_get(row, "wall_ns")));
    json_decref(out);
    json_decref(checked("layers --device cpu --data synthetic --px 16 --batch 2 --steps 2 --warmup 0", "layers", 1)); /* with peaks */
}

static void layers_compared(void **state)
{
    assert_int_equal(system("'" RM_BENCH "' layers --device null --px 32 --batch 2 --steps 2 -q --store schema_test.db >/dev/null"), 0);
    assert_int_equal(system("'" RM_BENCH "' layers --device null --px 16 --batch 2 --steps 2 --no-fuse -q --store schema_test.db >/dev/null"), 0);
    json_decref(checked("layers --compare 1 2", "layers-compare", 1));
}

static void train(void **state) { json_decref(checked("train --device null --data synthetic --classes 10 --px 32 --batch 2 --steps 4", "train", 1)); }

static void train_traced(void **state)
{
    json_decref(checked("train --device null --data synthetic --classes 10 --px 32 --batch 2 --steps 6 --trace schema_test.trace --trace-steps 2..3", "train", 1));
    json_decref(checked("train --device null --data synthetic --classes 10 --px 32 --batch 2 --steps 2 --trace schema_test.trace --trace-steps 0..3", "train", 1));
}

static void scaling_traced(void **state)
{
    json_decref(checked("scaling --device null --data synthetic --gpus 1,1000 --px 32 --batch 2 --steps 2 --warmup 1 --trace schema_test.trace", "scaling", 2));
}

static void scaling(void **state)
{
    json_t *out = checked("scaling --device null --data synthetic --gpus 1,1000 --px 32 --batch 2 --steps 4 --warmup 1", "scaling", 2), *row;
    size_t i;
    json_array_foreach(json_object_get(out, "results"), i, row)
    {
        const json_t *budget = json_object_get(row, "budget_s");
        const char *key;
        json_t *term;
        double sum = 0, median = json_number_value(json_object_get(json_object_get(row, "step_s"), "median"));
        json_object_foreach((json_t *)(uintptr_t)budget, key, term) sum += json_number_value(term);
        assert_true(sum >= median * 0.98 && sum <= median * 1.02);
    }
    row = json_array_get(json_object_get(out, "results"), 1);
    assert_int_equal(json_integer_value(json_object_get(row, "ranks")), 1000);
    assert_string_equal(json_string_value(json_object_get(row, "origin")), "not_measured");
    json_decref(out);
}

static void splits(void **state)
{
    json_decref(checked("splits show 107,160", "splits", 1));
    json_decref(checked("splits show per-layer --split-order forward --classes 10", "splits", 1));
}

/* Without MPI: the ranks' rows are the same ones (tests/cli/comm.sh). One size has no slope and no error of the fit, and
 * says why. */
static void comm(void **state)
{
    json_decref(checked("comm --device null --gpus 1 --sizes 8,4K,1Mi --iterations 3", "comm", 8));
    json_decref(checked("comm --device null --gpus 1 --sizes 8 --iterations 3 --op broadcast", "comm", 2));
}

/* Ghosts, for they need neither cores nor memory. */
static void split_sweep(void **state)
{
    if (rm_comm_mpi.available() != RM_OK) skip();
    json_decref(checked("split-sweep --device null --ghost --ghost-bytes 0.01 --px 32 --batch 2 --steps 3 --splits '107,160;equal:1..2'", "split-sweep", 3));
    json_decref(checked("split-sweep --device null --oversubscribe --px 32 --batch 2 --steps 1 --splits single", "split-sweep", 1));
}

static void scaling_of_ghosts(void **state)
{
    json_t *out = checked("scaling --ghost --ghost-bytes 0.01 --device null --gpus 1,2 --px 32 --batch 2 --steps 4 --warmup 1", "scaling", 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(out, "results"), 1), "origin")), "emulated");
    json_decref(out);
}

static void profile(void **state)
{
    json_t *out = checked("profile --device null --data synthetic --px 32 --batch 2 --steps 3 --warmup 1 --sensitivity", "profile", 1), *row = json_array_get(json_object_get(out, "results"), 0), *layer;
    json_int_t sum = 0;
    size_t i;
    json_array_foreach(json_object_get(row, "layers"), i, layer) sum += json_integer_value(json_object_get(layer, "time_ns"));
    assert_int_equal(sum, json_integer_value(json_object_get(row, "wall_ns")));
    json_decref(out);
    if (rm_comm_mpi.available() == RM_OK) json_decref(checked("profile --device null --gpus 2 --oversubscribe --data synthetic --px 32 --batch 2 --steps 1 --warmup 0 --split ddp", "profile", 1));
}

/* Traces of two ranks, and of one, which has no transfer and says why. */
static void overlap(void **state)
{
    json_decref(checked("overlap '" RM_SOURCE_DIR "/tests/golden/overlap' --window hta", "overlap", 2));
    json_decref(checked("overlap '" RM_SOURCE_DIR "/tests/golden/overlap/rank0.json.gz'", "overlap", 1));
}

static void gate_output_fits(void **state)
{
    json_decref(checked("gate ab --lock none --a 'echo \"{\\\"s\\\": 1, \\\"n\\\": 2}\"' --b 'echo \"{\\\"s\\\": 1, \\\"n\\\": 2}\"' --metric '$.s' --metric '$.n:exact'", "gate", 2));
    json_decref(checked("gate facts --bench 'train --device null --px 16 --batch 2 --classes 10'", "gate-facts", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checker_can_fail), cmocka_unit_test(info), cmocka_unit_test(layers), cmocka_unit_test(profile), cmocka_unit_test(layers_compared), cmocka_unit_test(train),
        cmocka_unit_test(train_traced), cmocka_unit_test(scaling), cmocka_unit_test(scaling_traced), cmocka_unit_test(scaling_of_ghosts),
        cmocka_unit_test(splits), cmocka_unit_test(comm), cmocka_unit_test(overlap), cmocka_unit_test(split_sweep), cmocka_unit_test(gate_output_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
