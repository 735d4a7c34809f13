/* Paths into JSON, and the warm-up rule. */
#include "profiler/json_path.h"
#include "profiler/steady.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const char document[] = "{\"a\": {\"b\": [{\"c\": 1.5}, {\"c\": 2}, {\"d\": [3, 4, 5]}], \"x y\": 7, \"none\": null, \"word\": \"w\"}, "
                               "\"rate\": 9, \"zero\": 0, \"less\": -1, \"deep\": {\"only\": 6}, \"empty\": []}";

static json_t *loaded(void)
{
    json_t *j = json_loads(document, 0, NULL);
    assert_non_null(j);
    return j;
}

static void numbers_are_found(void **state)
{
    static const struct {
        const char *path;
        size_t n;
        double first, last;
    } row[] = {
        { "$.rate", 1, 9, 9 },     { "$.zero", 1, 0, 0 },      { "$.a.b[0].c", 1, 1.5, 1.5 }, { "$.a.b[-2].c", 1, 2, 2 },      { "$['a'].b[2].d", 3, 3, 5 },
        { "$.a['x y']", 1, 7, 7 }, { "$..only", 1, 6, 6 },     { "$.a.b[*].c", 2, 1.5, 2 },   { "$.a.b[2]['d'][1]", 1, 4, 4 }, { "$..d", 3, 3, 5 },
        { "$.deep.*", 1, 6, 6 },   { "$[\"rate\"]", 1, 9, 9 }, { "$.a..d[2]", 1, 5, 5 },
    };
    json_t *j = loaded();
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        double *v;
        size_t n;
        if (rm_json_path_numbers(j, row[i].path, &v, &n) != RM_OK) fail_msg("%s: %s", row[i].path, rm_last_error());
        if (n != row[i].n || v[0] != row[i].first || v[n - 1] != row[i].last) fail_msg("%s: %zu numbers, %g to %g", row[i].path, n, v[0], v[n - 1]);
        free(v);
    }
    json_decref(j);
}

static void what_is_wrong_is_said(void **state)
{
    static const struct {
        const char *path;
        rm_status status;
        const char *says;
    } row[] = {
        { "rate", RM_E_ARG, "begins with $" },
        { "$.a.b[", RM_E_ARG, "an index" },
        { "$.a.b[1", RM_E_ARG, "a ] is missing" },
        { "$.a.", RM_E_ARG, "a name is missing" },
        { "$.a['b]", RM_E_ARG, "does not end" },
        { "$rate", RM_E_ARG, "a . or [" },
        { "$.a.b[?(@.c)]", RM_E_ARG, "an index" },
        { "$.a.bb", RM_E_FORMAT, "at $.a there is an object with b x y" },
        { "$.a.b[3].c", RM_E_FORMAT, "at $.a.b there is an array of 3" },
        { "$.a.b[-4]", RM_E_FORMAT, "an array of 3" },
        { "$..nowhere", RM_E_FORMAT, "leads nowhere" },
        { "$..c", RM_E_FORMAT, "2 places" },
        { "$.a.none", RM_E_FORMAT, "leads to null" },
        { "$.a.word", RM_E_FORMAT, "a string" },
        { "$.less", RM_E_FORMAT, "the number -1, where a number not below 0" },
        { "$.a.b", RM_E_FORMAT, "an object with c" },
        { "$.empty", RM_E_FORMAT, "an empty array" },
    };
    json_t *j = loaded();
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        double *v = NULL;
        size_t n = 0;
        const rm_status st = rm_json_path_numbers(j, row[i].path, &v, &n);
        if (st != row[i].status || !strstr(rm_last_error(), row[i].says)) fail_msg("%s: %s, '%s'", row[i].path, rm_status_name(st), rm_last_error());
        assert_null(v);
        assert_int_equal(rm_json_path_check(row[i].path), row[i].status == RM_E_ARG ? RM_E_ARG : RM_OK);
    }
    json_decref(j);
}

static void one_value_of_any_kind(void **state)
{
    json_t *j = loaded();
    const json_t *v = NULL;
    assert_int_equal(rm_json_path_one(j, "$.a.word", &v), RM_OK);
    assert_string_equal(json_string_value(v), "w");
    assert_int_equal(rm_json_path_one(j, "$", &v), RM_OK);
    assert_ptr_equal(v, j);
    assert_int_equal(rm_json_path_one(j, "$.a.b[*].c", &v), RM_E_FORMAT);
    assert_ptr_equal(v, j);
    json_decref(j);
}

static void fill(double *x, size_t from, size_t to, double v)
{
    for (size_t i = from; i < to; i++) x[i] = v;
}

static void warm_up_ends_where_it_is_steady(void **state)
{
    double x[120];
    fill(x, 0, 20, 3);
    fill(x, 20, 120, 1);
    rm_steady s = rm_steady_of(x, 120);
    assert_true(s.settled && s.dropped == 10 && s.median == 1); /* steady at 3, as far as ten steps tell */
    for (size_t i = 0; i < 20; i++) x[i] = 3 - 0.1 * (double)i; /* falls by more than 1 % from five to five */
    s = rm_steady_of(x, 120);
    assert_true(s.settled && s.dropped > 20 && s.dropped <= 28 && s.n == 120 - s.dropped && s.median == 1);
}

static void warm_up_has_a_cap_and_short_series_have_none(void **state)
{
    double x[120];
    for (size_t i = 0; i < 120; i++) x[i] = 100 - 0.5 * (double)i;
    rm_steady s = rm_steady_of(x, 120);
    assert_true(!s.settled || s.dropped <= RM_STEADY_CAP);
    for (size_t i = 0; i < 120; i++) x[i] = i / RM_STEADY_WINDOW % 2 ? 1 : 2;
    for (size_t i = 0; i < 120; i++) x[i] *= 1 + 0.2 * (double)(120 - i); /* never steady */
    s = rm_steady_of(x, 120);
    assert_true(!s.settled && s.dropped == RM_STEADY_CAP && s.n == 70);
    static const struct {
        size_t n, dropped;
    } row[] = { { 61, 50 }, { 60, 50 }, { 59, 49 }, { 30, 20 }, { 20, 10 }, { 16, 10 }, { 15, 7 }, { 11, 5 } };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        s = rm_steady_of(x, row[i].n);
        if (s.settled || s.dropped != row[i].dropped || s.n != row[i].n - s.dropped) fail_msg("%zu values: %zu dropped", row[i].n, s.dropped);
    }
    s = rm_steady_of(x, 10);
    assert_true(!s.settled && s.dropped == 0 && s.n == 10);
    fill(x, 0, 120, 0);
    s = rm_steady_of(x, 120);
    assert_true(s.settled && s.dropped == 10 && s.median == 0);
    x[0] = 4;
    s = rm_steady_of(x, 1);
    assert_true(!s.settled && s.n == 1 && s.median == 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_found),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(one_value_of_any_kind),
        cmocka_unit_test(warm_up_ends_where_it_is_steady),
        cmocka_unit_test(warm_up_has_a_cap_and_short_series_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
