/* Reading rows: what is missing or of another type has one answer each. */
#include "bench/rows.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

static void reads_what_is_there_and_nothing_else(void **state)
{
    json_t *row = json_pack("{s:f, s:i, s:s, s:s, s:n}", "real", 1.5, "int", 7, "text", "ring", "empty", "", "null");
    assert_true(bench_row_real(row, "real") == 1.5 && bench_row_real(row, "int") == 7);
    assert_true(isnan(bench_row_real(row, "null")) && isnan(bench_row_real(row, "text")) && isnan(bench_row_real(row, "none")) &&
                isnan(bench_row_real(NULL, "real")));
    assert_int_equal(bench_row_int(row, "int"), 7);
    assert_int_equal(bench_row_int(row, "real"), 0);
    assert_int_equal(bench_row_int(NULL, "int"), 0);
    assert_string_equal(bench_row_text(row, "text"), "ring");
    assert_string_equal(bench_row_text(row, "int"), "");
    assert_string_equal(bench_row_text(NULL, "text"), "");
    assert_string_equal(bench_row_text_or(row, "text", "-"), "ring");
    assert_string_equal(bench_row_text_or(row, "empty", "-"), "-");
    assert_string_equal(bench_row_text_or(row, "null", "-"), "-");
    json_decref(row);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(reads_what_is_there_and_nothing_else) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
