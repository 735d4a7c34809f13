/* base/: status and exit codes, Philox known answers, streams, distributions, log. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/sort.h"
#include "base/status.h"
#include "base/utf8.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- status */

static void exit_codes_are_those_of_the_manual(void **state)
{
    static const struct {
        rm_status status;
        int code;
    } row[] = {
        { RM_OK, 0 },        { RM_E_REGRESSED, 1 }, { RM_E_ARG, 2 },           { RM_E_FORMAT, 2 },      { RM_E_IO, 2 },    { RM_E_UNSUPPORTED, 2 },
        { RM_E_NUMERIC, 2 }, { RM_E_DEVICE, 2 },    { RM_E_INCONCLUSIVE, 3 },  { RM_E_NO_BASELINE, 4 }, { RM_E_NOMEM, 5 }, { RM_E_NOSPACE, 5 },
        { RM_E_PEER, 6 },    { RM_E_PARTIAL, 7 },   { RM_E_INTERRUPTED, 130 },
    };
    assert_int_equal(RM_COUNT(row), RM_STATUS_COUNT);
    for (size_t i = 0; i < RM_COUNT(row); i++) assert_int_equal(rm_exit_code(row[i].status, 0), row[i].code);
    assert_int_equal(rm_exit_code(RM_E_INTERRUPTED, SIGTERM), 143);
    assert_int_equal(rm_exit_code(RM_E_INTERRUPTED, SIGINT), 130);
    assert_int_equal(rm_exit_code(RM_OK, SIGTERM), 0);
    assert_int_equal(rm_exit_code((rm_status)999, 0), 2);
    assert_string_equal(rm_status_name((rm_status)999), "unknown status");
}

static void fail_records_the_cause_and_may_quote_itself(void **state)
{
    assert_int_equal(rm_fail(RM_E_ARG, "batch is %d", -1), RM_E_ARG);
    assert_string_equal(rm_last_error(), "batch is -1");
    assert_int_equal(rm_fail(RM_E_IO, "while reading: %s", rm_last_error()), RM_E_IO);
    assert_string_equal(rm_last_error(), "while reading: batch is -1");
}

static void errno_chooses_the_code(void **state)
{
    static const struct {
        int number;
        rm_status status;
    } row[] = { { ENOSPC, RM_E_NOSPACE }, { EDQUOT, RM_E_NOSPACE }, { ENOMEM, RM_E_NOMEM }, { EACCES, RM_E_IO } };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        errno = row[i].number;
        assert_int_equal(rm_fail_errno("cannot write %s", "f"), row[i].status);
        assert_non_null(strstr(rm_last_error(), "cannot write f: "));
        assert_non_null(strstr(rm_last_error(), strerror(row[i].number)));
    }
}

static void *fail_elsewhere(void *unused)
{
    (void)!rm_fail(RM_E_ARG, "other thread");
    return NULL;
}

static void the_cause_is_the_threads_own(void **state)
{
    pthread_t thread;
    (void)!rm_fail(RM_E_ARG, "this thread");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(rm_last_error(), "this thread");
}

static void a_bug_aborts(void **state)
{
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        signal(SIGABRT, SIG_DFL);
        RM_BUG("on purpose");
    }
    int how = 0;
    waitpid(child, &how, 0);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
}

/* ---- random numbers */

/* philox4x32 10 rounds, from kat_vectors of Random123 (Salmon et al.). */
static void philox_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } row[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff }, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 }, { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        uint32_t out[4];
        rm_philox4x32_10(row[i].key, row[i].counter, out);
        assert_memory_equal(out, row[i].answer, sizeof out);
    }
}

static void streams_repeat_and_differ(void **state)
{
    rm_rng a = rm_rng_for(1, 2, 3), again = rm_rng_for(1, 2, 3);
    rm_rng other[] = { rm_rng_for(2, 2, 3), rm_rng_for(1, 3, 3), rm_rng_for(1, 2, 4), rm_rng_for(1ull << 32 | 1, 2, 3), rm_rng_for(1, 2, 1ull << 32 | 3) };
    uint32_t first[64];
    for (size_t i = 0; i < 64; i++) {
        first[i] = rm_rng_u32(&a);
        assert_int_equal(first[i], rm_rng_u32(&again));
    }
    for (size_t s = 0; s < RM_COUNT(other); s++) {
        int equal = 0;
        for (size_t i = 0; i < 64; i++) equal += rm_rng_u32(&other[s]) == first[i];
        assert_true(equal < 2);
    }
}

static void unit_and_normal_have_their_moments(void **state)
{
    enum { N = 200000 };
    rm_rng r = rm_rng_for(7, 0, 0);
    double sum = 0, sum_n = 0, squares_n = 0, tail = 0;
    for (int i = 0; i < N; i++) {
        const double u = rm_rng_unit(&r), z = rm_rng_normal(&r);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        sum += u;
        sum_n += z;
        squares_n += z * z;
        tail += fabs(z) > 1.959964;
    }
    assert_true(fabs(sum / N - 0.5) < 0.004); /* six standard errors and more */
    assert_true(fabs(sum_n / N) < 0.014);
    assert_true(fabs(squares_n / N - 1) < 0.02);
    assert_true(fabs(tail / N - 0.05) < 0.003);
}

static void below_is_even_and_in_range(void **state)
{
    rm_rng r = rm_rng_for(3, 1, 4);
    int count[7] = { 0 };
    for (int i = 0; i < 70000; i++) {
        const uint32_t v = rm_rng_below(&r, 7);
        assert_true(v < 7);
        count[v]++;
    }
    for (int i = 0; i < 7; i++) assert_in_range(count[i], 9400, 10600);
    assert_int_equal(rm_rng_below(&r, 1), 0);
}

/* ---- log */

/* What `speak` writes to stderr. */
static void capture(void (*speak)(void), char *out, size_t size)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    fflush(stderr);
    const int saved = dup(STDERR_FILENO);
    dup2(fileno(f), STDERR_FILENO);
    speak();
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(f);
    out[fread(out, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void speak(void)
{
    rm_info("info %d", 1);
    rm_verbose("verbose");
    rm_warn("careful");
    for (int i = 0; i < 3; i++) rm_warn_once("test_base.once", "once");
    rm_progress p;
    rm_progress_begin(&p, "steps", "steps", 10);
    rm_progress_update(&p, 5, NULL);
    rm_progress_end(&p);
}
static void speak_again(void) { rm_warn_once("test_base.once", "once"); }
static void speak_badly(void) { rm_warn("cannot open a\nb\033[31m\tc"); }
static void speak_long(void)
{
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    rm_warn("%s", text);
}

static void the_log_keeps_to_its_verbosity(void **state)
{
    char text[4096];
    rm_log_setup(RM_QUIET, 0);
    capture(speak, text, sizeof text);
    assert_string_equal(text, "warning: careful\nwarning: once\n");
    rm_log_setup(RM_NORMAL, 0);
    capture(speak, text, sizeof text);
    assert_string_equal(text, "info 1\nwarning: careful\n"); /* no progress line in a file */
    rm_log_setup(RM_VERBOSE, 2);
    capture(speak, text, sizeof text);
    assert_string_equal(text, "[rank 2] verbose\n[rank 2] warning: careful\n");
    capture(speak_again, text, sizeof text);
    assert_string_equal(text, "");
    rm_log_setup(RM_NORMAL, 0);
    capture(speak_badly, text, sizeof text);
    assert_string_equal(text, "warning: cannot open a?b?[31m?c\n");
    capture(speak_long, text, sizeof text);
    assert_true(strlen(text) > 2000 && strlen(text) < 2048 && text[strlen(text) - 1] == '\n');
}

static void the_clock_goes_forward(void **state)
{
    const uint64_t a = rm_now_ns(), b = rm_now_ns();
    assert_true(b >= a && a > 0);
    assert_true(fabs(rm_s(1500000000) - 1.5) < 1e-12);
}

typedef struct pair {
    uint32_t key;
    char rest[28];
} pair; /* what moves with a key is as much of the element as the key */
static bool smaller_key(const void *a, const void *b) { return ((const pair *)a)->key < ((const pair *)b)->key; }

static void sorting_orders_and_loses_nothing(void **state)
{
    enum { MOST = 3000 };
    static const size_t sizes[] = { 0, 1, 2, 8, 9, 24, 1000, MOST };
    rm_rng r = rm_rng_for(7, 0, 0);
    static pair at[MOST];
    for (size_t k = 0; k < RM_COUNT(sizes); k++) {
        uint64_t before = 0, after = 0;
        for (size_t i = 0; i < sizes[k]; i++) {
            at[i].key = rm_rng_below(&r, 500); /* some are alike */
            snprintf(at[i].rest, sizeof at[i].rest, "%u", at[i].key * 3);
            before += (uint64_t)at[i].key * at[i].key;
        }
        rm_sort(at, sizes[k], sizeof *at, smaller_key);
        for (size_t i = 0; i < sizes[k]; i++) {
            if (i) assert_true(at[i - 1].key <= at[i].key);
            assert_int_equal(strtoul(at[i].rest, NULL, 10), at[i].key * 3);
            after += (uint64_t)at[i].key * at[i].key;
        }
        assert_true(before == after);
    }
}

static void files_are_read_whole(void **state)
{
    enum { BYTES = 200000 }; /* more than once through what is read at a time */
    static const char path[] = "test_base.file";
    char *text = NULL;
    size_t n = 1;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(rm_file_load(path, 0, &text, &n), RM_OK);
    assert_true(n == 0 && text[0] == '\0');
    free(text);
    for (int i = 0; i < BYTES; i++) fputc(i % 251, f);
    fclose(f);
    assert_int_equal(rm_file_load(path, BYTES, &text, &n), RM_OK);
    assert_true(n == BYTES && text[BYTES] == '\0');
    for (int i = 0; i < BYTES; i++) assert_int_equal((unsigned char)text[i], i % 251);
    free(text);
    assert_int_equal(rm_file_load(path, BYTES - 1, &text, &n), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "test_base.file is larger than 199999 bytes"));
    remove(path);
    assert_int_equal(rm_file_load(path, SIZE_MAX, &text, &n), RM_E_IO);
    assert_non_null(strstr(rm_last_error(), "cannot open test_base.file: No such file"));
    assert_int_equal(rm_file_load(".", SIZE_MAX, &text, &n), RM_E_IO);
    assert_non_null(strstr(rm_last_error(), "cannot read .: Is a directory"));
}

static void text_becomes_utf8(void **state)
{
    static const struct {
        const char *text, *clean;
    } row[] = {
        { "", "" },
        { "plain", "plain" },
        { "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80.", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80." },
        { "caf\xe9", "caf" }, /* as if the rest of a character were cut */
        { "caf\xe9!", "caf?!" },
        { "\xe2\x82", "" },
        { "a\xf0\x9f\x98", "a" },
        { "\xe2\x82 x", "?? x" },
        { "\x82\xac x", "?? x" },
        { "\xc0\xaf\xc1\xbf", "????" }, /* longer than needed */
        { "\xe0\x80\x80.\xf0\x80\x80\x80.", "???.????." },
        { "\xed\xa0\x80.", "???." }, /* half of a pair of UTF-16 */
        { "\xf4\x90\x80\x80.\xff\xfe", "????.??" }, /* beyond Unicode */
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", row[i].text);
        rm_utf8_clean(text);
        if (strcmp(text, row[i].clean)) fail_msg("row %zu: '%s'", i, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes_are_those_of_the_manual),
        cmocka_unit_test(fail_records_the_cause_and_may_quote_itself),
        cmocka_unit_test(errno_chooses_the_code),
        cmocka_unit_test(the_cause_is_the_threads_own),
        cmocka_unit_test(a_bug_aborts),
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(streams_repeat_and_differ),
        cmocka_unit_test(unit_and_normal_have_their_moments),
        cmocka_unit_test(below_is_even_and_in_range),
        cmocka_unit_test(the_log_keeps_to_its_verbosity),
        cmocka_unit_test(the_clock_goes_forward),
        cmocka_unit_test(sorting_orders_and_loses_nothing),
        cmocka_unit_test(files_are_read_whole),
        cmocka_unit_test(text_becomes_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
