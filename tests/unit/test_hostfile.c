/* Host files: every form, every refusal with its file and line. */
#include "bench/hostfile.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void good(const char *text, const char *list, int32_t slots, int32_t most)
{
    bench_hosts h;
    if (bench_hosts_parse(text, strlen(text), "hosts", &h) != RM_OK) fail_msg("'%s': %s", text, rm_last_error());
    char *got = bench_hosts_list(&h);
    assert_string_equal(got, list);
    assert_int_equal(h.slots, slots);
    assert_int_equal(h.most, most);
    free(got);
    bench_hosts_free(&h);
}

static void bad(const char *text, const char *says)
{
    bench_hosts h;
    if (bench_hosts_parse(text, strlen(text), "hosts", &h) == RM_OK) fail_msg("'%s' was accepted", text);
    if (!strstr(rm_last_error(), says)) fail_msg("'%s': '%s' lacks '%s'", text, rm_last_error(), says);
    assert_null(strchr(rm_last_error(), '\n'));
}

static void forms(void **state)
{
    good("a slots=2\nb slots=3\n", "a:2,b:3", 5, 3);
    good("a:2\nb:3", "a:2,b:3", 5, 3);
    good("a\nb\n", "a:1,b:1", 2, 1);
    good("# all of them\n\n  node-1.site_a   slots = 4  max_slots=8   # the fast one\r\n10.0.0.2:1\r\n", "node-1.site_a:4,10.0.0.2:1", 5, 4);
    good("a max-slots=2 slots=2\n", "a:2", 2, 2);
    good("b\na:2\nb\nb slots=3", "b:5,a:2", 7, 5); /* the order of the first mention */
}

static void refusals(void **state)
{
    bad("", "hosts names no host");
    bad("# none\n\n", "hosts names no host");
    bad("a\nb slot=2\n", "hosts:2: 'slot=2' is not understood");
    bad("a slots\n", "hosts:1: 'slots' is not understood");
    bad("a 2\n", "hosts:1: '2' is not understood");
    bad("a:\n", "is no number of slots");
    bad("a:0\n", "hosts:1: '0' is no number of slots");
    bad("a:-1\n", "'-1' is no number");
    bad("a:2x\n", "'2x' is no number");
    bad("a slots=\n", "is no number");
    bad("a slots=99999999999999999999\n", "is no number");
    bad("a:2 slots=2\n", "hosts:1: 'slots=2' gives a number a second time");
    bad("a slots=4 max_slots=2\n", "hosts:1: 'a' has fewer max_slots than slots");
    bad("\n\nuser@a\n", "hosts:3: 'user@a' is no name of a host");
    bad("-x\n", "hosts:1: '-x' is no name"); /* a launcher would take it for an option */
    bad("fe80::1\n", "':1' is no number");
    bad("a,b\n", "'a,b' is no name");
    bad("a:65536\nb\n", "hosts:2: more than");
}

static void no_terminator_is_needed(void **state)
{
    bench_hosts h;
    const char text[4] = { 'a', ':', '2', '3' };
    assert_int_equal(bench_hosts_parse(text, 3, "hosts", &h), RM_OK);
    assert_int_equal(h.slots, 2);
    bench_hosts_free(&h);
    assert_int_not_equal(bench_hosts_parse("a\0b", 3, "hosts", &h), RM_OK);
}

static void names_of_any_length(void **state)
{
    char text[2 * BENCH_HOST_NAME];
    memset(text, 'x', sizeof text);
    bench_hosts h;
    assert_int_equal(bench_hosts_parse(text, BENCH_HOST_NAME - 1, "hosts", &h), RM_OK);
    assert_int_equal(strlen(h.host[0].name), BENCH_HOST_NAME - 1);
    bench_hosts_free(&h);
    assert_int_not_equal(bench_hosts_parse(text, BENCH_HOST_NAME, "hosts", &h), RM_OK);
}

static void files(void **state)
{
    bench_hosts h;
    char path[] = "/tmp/rm-test-XXXXXX";
    assert_int_equal(bench_hosts_read("/nonexistent/hosts", &h), RM_E_IO);
    assert_non_null(strstr(rm_last_error(), "/nonexistent/hosts"));
    assert_int_equal(bench_hosts_read("/", &h), RM_E_IO);
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a:2\nb:", 6), 6);
    assert_int_not_equal(bench_hosts_read(path, &h), RM_OK);
    assert_non_null(strstr(rm_last_error(), path));
    assert_int_equal(write(fd, "1\n", 2), 2);
    assert_int_equal(bench_hosts_read(path, &h), RM_OK);
    assert_int_equal(h.slots, 3);
    bench_hosts_free(&h);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms), cmocka_unit_test(refusals), cmocka_unit_test(no_terminator_is_needed), cmocka_unit_test(names_of_any_length), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
