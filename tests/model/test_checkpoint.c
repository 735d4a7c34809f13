/* safetensors files and checkpoint pairs: both ways with the reference implementation's bytes, every kind of damage,
 * writers that fail or are killed, and what `latest` and `prune` make of a folder. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "model/checkpoint.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/ringmark-ckpt-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[4][512];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static int count_files(const char *part)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.' && strstr(f->d_name, part);
    closedir(d);
    return n;
}

static int empty_dir(void **state)
{
    DIR *d = opendir(dir);
    for (const struct dirent *f; (f = readdir(d));)
        if (f->d_name[0] != '.') unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    return 0;
}

static void ok(rm_status st)
{
    if (st != RM_OK) fail_msg("%s", rm_last_error());
}

static void put_bytes(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static uint8_t *get_bytes(const char *path, size_t *n)
{
    struct stat s;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &s), 0);
    uint8_t *p = malloc((size_t)s.st_size + 1);
    *n = (size_t)s.st_size;
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static const float w[] = { 1.5f, -2.25f, 0, 3e10f };
static const uint8_t a[] = { 7, 8, 9 };
static const int64_t n5 = -5;
static const rm_st_tensor sample[] = {
    { .name = "a", .dtype = "U8", .n_dim = 1, .dim = { 3 }, .data = a, .bytes = 3 },
    { .name = "b.weight", .dtype = "F32", .n_dim = 2, .dim = { 2, 2 }, .data = w, .bytes = 16 },
    { .name = "n", .dtype = "I64", .n_dim = 0, .data = &n5, .bytes = 8 },
    { .name = "e", .dtype = "F32", .n_dim = 2, .dim = { 0, 4 }, .data = w, .bytes = 0 },
};
static const rm_st_meta who[] = { { "format", "np" }, { "who", "\xc3\xa9" } };

static void check_sample(const rm_st_file *f)
{
    const rm_st_tensor *t;
    assert_int_equal(rm_st_count(f), 4);
    ok(rm_st_need(f, "b.weight", "F32", 2, (const int64_t[]){ 2, 2 }, &t));
    assert_int_equal(t->bytes, 16);
    assert_memory_equal(t->data, w, 16);
    assert_int_equal((uintptr_t)t->data % 4, 0);
    ok(rm_st_need(f, "a", "U8", 1, (const int64_t[]){ 3 }, &t));
    assert_memory_equal(t->data, a, 3);
    ok(rm_st_need(f, "n", NULL, 0, NULL, &t));
    assert_memory_equal(t->data, &n5, 8);
    assert_int_equal((uintptr_t)t->data % 8, 0);
    ok(rm_st_need(f, "e", "F32", 2, (const int64_t[]){ 0, 4 }, &t));
    assert_int_equal(t->bytes, 0);
    assert_string_equal(rm_st_metadata(f, "who"), "\xc3\xa9");
    assert_null(rm_st_metadata(f, "nosuch"));
    assert_null(rm_st_find(f, "b"));
}

static void test_round_trip(void **state)
{
    rm_st_file *f;
    size_t n;
    ok(rm_st_write(in_dir("x"), sample, 4, who, 2));
    ok(rm_st_open(in_dir("x"), &f));
    check_sample(f);
    rm_st_close(f);
    uint8_t *bytes = get_bytes(in_dir("x"), &n);
    uint64_t header;
    memcpy(&header, bytes, 8);
    assert_int_equal(header % 8, 0); /* as the reference pads */
    free(bytes);
    assert_int_equal(count_files(".tmp"), 0);
    ok(rm_st_write(in_dir("none"), NULL, 0, NULL, 0));
    ok(rm_st_open(in_dir("none"), &f));
    assert_int_equal(rm_st_count(f), 0);
    rm_st_close(f);
}

/* Bytes of safetensors 0.8 (Python): save({"b.weight": f32, "a": u8, "n": i64, "e": f32 (0, 4)}, {"format": "np", "who": "é"}). */
static void test_reference_bytes(void **state)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"np\",\"who\":\"\xc3\xa9\"},"
        "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\"b.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]},"
        "\"e\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[24,24]},\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[24,27]}}   ";
    uint8_t bytes[8 + sizeof header - 1 + 27];
    uint64_t length = sizeof header - 1;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, &n5, 8);
    memcpy(bytes + 16 + length, w, 16);
    memcpy(bytes + 32 + length, a, 3);
    rm_st_file *f;
    put_bytes(in_dir("reference"), bytes, sizeof bytes);
    ok(rm_st_open(in_dir("reference"), &f));
    check_sample(f);
    rm_st_close(f);
}

/* ---- damage */
static rm_status parse_header(const char *json, uint64_t data_bytes, rm_st_file **f)
{
    static uint8_t bytes[4096]; /* outlives the file */
    uint64_t length = strlen(json);
    assert_true(8 + length + data_bytes <= sizeof bytes);
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, json, length);
    return rm_st_parse(bytes, 8 + length + data_bytes, "file", f);
}

static void test_refuses(void **state)
{
    static const struct { const char *json; uint64_t data; const char *says; } bad[] = {
        { "", 0, "no JSON header" }, { " {}", 0, "no JSON header" }, { "[]", 0, "no JSON header" }, { "{", 0, "damaged header" }, { "{}x", 0, "damaged header" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "duplicate" },
        { "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "damaged header" },
        { "{\"a\":1}", 0, "needs dtype" }, { "{\"a\":{}}", 0, "no dtype" }, { "{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no dtype" },
        { "{\"a\":{\"dtype\":\"Q8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "unknown type Q8" },
        { "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "shape is not a list" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "not a number >= 0" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "not a number >= 0" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "9 dimensions" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "not two numbers" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "not two numbers" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, "not two numbers" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "backwards" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, "negative" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "cut short" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,9223372036854775807]}}", 1, "cut short" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,18446744073709551617]}}", 1, "damaged header" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]}}", 3, "make 4" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, "impossible" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "impossible" },
        { "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "impossible" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "overlap" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "overlap" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}", 3, "hole" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "hole" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, "1 bytes after" },
        { "{}", 5, "5 bytes after" },
        { "{\"__metadata__\":[]}", 0, "not an object" }, { "{\"__metadata__\":{\"k\":1}}", 0, "not a string" },
    };
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        rm_st_file *f = NULL;
        if (parse_header(bad[i].json, bad[i].data, &f) != RM_E_FORMAT) fail_msg("accepted: %s", bad[i].json);
        assert_null(f);
        if (!strstr(rm_last_error(), bad[i].says) || strncmp(rm_last_error(), "file: ", 6)) fail_msg("%s: %s", bad[i].json, rm_last_error());
    }
}

static void test_refuses_lengths(void **state)
{
    static const uint64_t lengths[] = { 100000001, 1u << 31, UINT64_MAX, UINT64_MAX - 7, 17, 9 };
    uint8_t bytes[16] = { 0 };
    rm_st_file *f;
    for (size_t i = 0; i < RM_COUNT(lengths); i++) {
        memcpy(bytes, &lengths[i], 8);
        assert_int_equal(rm_st_parse(bytes, 16, "file", &f), RM_E_FORMAT);
    }
    for (uint64_t n = 0; n < 8; n++) assert_int_equal(rm_st_parse(bytes, n, "file", &f), RM_E_FORMAT);
    put_bytes(in_dir("short"), "1234", 4);
    assert_int_equal(rm_st_open(in_dir("short"), &f), RM_E_FORMAT);
    assert_int_equal(rm_st_open(dir, &f), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "a folder"));
    assert_int_equal(rm_st_open(in_dir("absent"), &f), RM_E_IO);
    assert_non_null(strstr(rm_last_error(), "absent"));
}

/* Accepted by the reference too: any order of entries, further keys, types that we do not use, data that lie askew. */
static void test_accepts(void **state)
{
    rm_st_file *f;
    ok(parse_header("{\"b\":{\"data_offsets\":[1,5],\"shape\":[1],\"dtype\":\"F32\"},\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}  ", 5, &f));
    assert_string_equal(rm_st_at(f, 0)->name, "a");
    assert_int_equal((uintptr_t)rm_st_find(f, "b")->data % 4, 0);
    rm_st_close(f);
    ok(parse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"b\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, &f));
    assert_int_equal(rm_st_count(f), 2);
    rm_st_close(f);
}

static void test_need(void **state)
{
    rm_st_file *f;
    const rm_st_tensor *t = NULL;
    ok(rm_st_write(in_dir("x"), sample, 4, NULL, 0));
    ok(rm_st_open(in_dir("x"), &f));
    assert_int_equal(rm_st_need(f, "c", NULL, 1, (const int64_t[]){ 3 }, &t), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "c is missing"));
    assert_int_equal(rm_st_need(f, "a", NULL, 1, (const int64_t[]){ 4 }, &t), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "shape (3), expected (4)"));
    assert_int_equal(rm_st_need(f, "a", NULL, 2, (const int64_t[]){ 3, 1 }, &t), RM_E_FORMAT);
    assert_int_equal(rm_st_need(f, "a", "I8", 1, (const int64_t[]){ 3 }, &t), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "type U8, expected I8"));
    assert_null(t);
    rm_st_close(f);
}

/* ---- writers that fail leave what was there */
static void test_write_refuses(void **state)
{
    rm_st_tensor t[2] = { sample[0], sample[0] };
    size_t n;
    ok(rm_st_write(in_dir("x"), sample, 4, who, 2));
    uint8_t *before = get_bytes(in_dir("x"), &n), *after;
    assert_int_equal(rm_st_write(in_dir("x"), t, 2, NULL, 0), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "taken"));
    t[0].bytes = 4;
    assert_int_equal(rm_st_write(in_dir("x"), t, 1, NULL, 0), RM_E_ARG);
    t[0] = sample[0];
    t[0].name = "\xff";
    assert_int_equal(rm_st_write(in_dir("x"), t, 1, NULL, 0), RM_E_ARG);
    const rm_st_meta broken[] = { { "path", "\xff" } }, twice[] = { { "k", "1" }, { "k", "2" } };
    assert_int_equal(rm_st_write(in_dir("x"), sample, 1, broken, 1), RM_E_ARG);
    assert_int_equal(rm_st_write(in_dir("x"), sample, 1, twice, 2), RM_E_ARG);
    assert_int_equal(rm_st_write("/dev/null", sample, 1, NULL, 0), RM_E_ARG);
    assert_int_equal(rm_st_write(dir, sample, 1, NULL, 0), RM_E_ARG);
    assert_int_equal(rm_st_write(in_dir("no/such/folder"), sample, 1, NULL, 0), RM_E_IO);
    size_t m;
    after = get_bytes(in_dir("x"), &m);
    assert_int_equal(m, n);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    assert_int_equal(count_files(".tmp"), 0);
}

/* A limit on the size of files stands for a full disk. */
static void test_write_full(void **state)
{
    static uint8_t big[1 << 16];
    const rm_st_tensor t = { .name = "big", .dtype = "U8", .n_dim = 1, .dim = { sizeof big }, .data = big, .bytes = sizeof big };
    struct rlimit was, small = { 4096, RLIM_INFINITY };
    ok(rm_st_write(in_dir("x"), sample, 4, who, 2));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    rm_status st = rm_st_write(in_dir("x"), &t, 1, NULL, 0);
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(st, RM_E_IO);
    rm_st_file *f;
    ok(rm_st_open(in_dir("x"), &f));
    check_sample(f);
    rm_st_close(f);
    assert_int_equal(count_files(".tmp"), 0);
}

/* ---- pairs */
static rm_status write_pair(uint64_t step, float value)
{
    char base[512], text[32];
    float v[6] = { value, 1, 2, 3, 4, 5 };
    const rm_st_tensor model = { .name = "conv1.weight", .dtype = "F32", .n_dim = 2, .dim = { 2, 3 }, .data = v, .bytes = sizeof v };
    const rm_st_tensor state = { .name = "optim.conv1.weight.momentum", .dtype = "F32", .n_dim = 2, .dim = { 2, 3 }, .data = v, .bytes = sizeof v };
    rm_ckpt_path(base, sizeof base, dir, "run", step);
    snprintf(text, sizeof text, "%llu", (unsigned long long)step);
    const rm_st_meta meta[] = { { "format", "pt" }, { "step", text } };
    return rm_ckpt_write(base, &model, 1, &state, 1, meta, 2);
}

static const char *half(uint64_t step, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "run-%08llu%s", (unsigned long long)step, suffix);
    return in_dir(name);
}

static void test_pair(void **state)
{
    rm_st_file *m, *s;
    ok(write_pair(120, 7));
    assert_int_equal(count_files("run-00000120"), 2);
    static const char *const forms[] = { "", ".safetensors", ".state.safetensors" };
    for (size_t i = 0; i < RM_COUNT(forms); i++) {
        ok(rm_ckpt_open(half(120, forms[i]), &m, &s));
        assert_string_equal(rm_st_metadata(m, "step"), "120");
        assert_string_equal(rm_st_metadata(m, "digest"), rm_st_metadata(s, "digest"));
        assert_non_null(rm_st_find(m, "conv1.weight"));
        assert_non_null(rm_st_find(s, "optim.conv1.weight.momentum"));
        rm_st_close(m);
        rm_st_close(s);
    }
    unlink(half(120, ".state.safetensors"));
    ok(rm_ckpt_open(half(120, ""), &m, NULL));
    rm_st_close(m);
    m = s = NULL;
    assert_int_equal(rm_ckpt_open(half(120, ""), &m, &s), RM_E_IO);
    assert_true(!m && !s);
}

static void test_foreign(void **state)
{
    rm_st_file *m, *s;
    ok(rm_st_write(in_dir("foreign.safetensors"), sample, 4, NULL, 0));
    ok(rm_st_write(in_dir("other.bin"), sample, 4, NULL, 0));
    ok(rm_ckpt_open(in_dir("foreign.safetensors"), &m, NULL));
    rm_st_close(m);
    ok(rm_ckpt_open(in_dir("foreign"), &m, NULL));
    rm_st_close(m);
    ok(rm_ckpt_open(in_dir("other.bin"), &m, NULL));
    rm_st_close(m);
    assert_int_equal(rm_ckpt_open(in_dir("foreign"), &m, &s), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "no digest"));
}

/* Every bit-flip in every byte of both files, and every length, is noticed. */
static void test_pair_damage(void **state)
{
    static const char *const halves[] = { ".safetensors", ".state.safetensors" };
    rm_st_file *m, *s;
    ok(write_pair(1, 7));
    for (size_t h = 0; h < 2; h++) {
        size_t n;
        uint8_t *bytes = get_bytes(half(1, halves[h]), &n);
        for (size_t i = 0; i < n; i++)
            for (unsigned bit = 1; bit <= 128; bit *= 128) {
                bytes[i] ^= (uint8_t)bit;
                put_bytes(half(1, halves[h]), bytes, n);
                if (rm_ckpt_open(half(1, ""), &m, &s) == RM_OK) fail_msg("%s: a flip of %u in byte %zu goes unnoticed", halves[h], bit, i);
                bytes[i] ^= (uint8_t)bit;
            }
        for (size_t i = 0; i < n; i++) {
            put_bytes(half(1, halves[h]), bytes, i);
            if (rm_ckpt_open(half(1, ""), &m, &s) == RM_OK) fail_msg("%s: a cut to %zu of %zu bytes goes unnoticed", halves[h], i, n);
        }
        put_bytes(half(1, halves[h]), bytes, n);
        free(bytes);
    }
    ok(rm_ckpt_open(half(1, ""), &m, &s));
    rm_st_close(m);
    rm_st_close(s);
}

static void copy_file(const char *from, const char *to)
{
    size_t n;
    uint8_t *bytes = get_bytes(from, &n);
    put_bytes(to, bytes, n);
    free(bytes);
}

static uint64_t latest(void)
{
    char base[512] = "untouched";
    uint64_t step = 99;
    ok(rm_ckpt_latest(dir, "run", base, sizeof base, &step));
    if (base[0]) {
        char want[512];
        rm_ckpt_path(want, sizeof want, dir, "run", step);
        assert_string_equal(base, want);
    } else assert_int_equal(step, 0);
    return step;
}

static void test_latest(void **state)
{
    char out[8];
    uint64_t step;
    assert_int_equal(latest(), 0);
    char absent[600];
    snprintf(absent, sizeof absent, "%s/absent", dir);
    ok(rm_ckpt_latest(absent, "run", out, sizeof out, &step));
    assert_string_equal(out, "");
    for (uint64_t i = 9; i <= 12; i++) ok(write_pair(i, (float)i));
    assert_int_equal(latest(), 12);
    assert_int_equal(rm_ckpt_latest(dir, "run", out, sizeof out, &step), RM_E_ARG); /* no room for the path */
    unlink(half(12, ".state.safetensors")); /* killed between the halves */
    assert_int_equal(latest(), 11);
    copy_file(half(10, ".state.safetensors"), half(11, ".state.safetensors")); /* halves of two checkpoints */
    assert_int_equal(latest(), 10);
    unlink(half(10, ".safetensors"));
    assert_int_equal(latest(), 9);
    put_bytes(in_dir("run-00000099.safetensors"), "junk", 4);
    put_bytes(in_dir("run-00000099.state.safetensors"), "junk", 4);
    put_bytes(in_dir("run-7.safetensors"), "junk", 4);
    put_bytes(in_dir("run-99999999999999999999999.safetensors"), "junk", 4);
    assert_int_equal(latest(), 9);
    ok(rm_ckpt_latest(dir, "ru", out, sizeof out, &step));
    assert_string_equal(out, "");
}

static void test_prune(void **state)
{
    for (uint64_t i = 1; i <= 5; i++) ok(write_pair(i, (float)i));
    unlink(half(5, ".state.safetensors"));
    copy_file(half(1, ".state.safetensors"), half(4, ".state.safetensors"));
    put_bytes(in_dir("run-00000003.safetensors.123.tmp"), "x", 1);
    put_bytes(in_dir("other-00000003.safetensors"), "x", 1);
    put_bytes(in_dir("run-00000001.txt"), "x", 1);
    ok(rm_ckpt_prune(dir, "run", 1)); /* 5 and 4 are broken and must not push out 3 */
    assert_int_equal(latest(), 3);
    assert_int_equal(count_files(".tmp"), 0);
    assert_int_equal(count_files("run-00000002"), 0);
    assert_int_equal(count_files("run-00000001"), 1);
    assert_int_equal(count_files("other"), 1);
    ok(rm_ckpt_prune(dir, "run", 0));
    assert_int_equal(latest(), 0);
    assert_int_equal(count_files(".safetensors"), 1);
}

/* kill -9 at any moment: the newest pair announced as written can be resumed from. */
static void test_kill(void **state)
{
    uint64_t done = 1, begin = rm_now_ns();
    ok(write_pair(1, 1));
    unsigned pair_us = (unsigned)((rm_now_ns() - begin) / 1000); /* so that the kills spread over it on fast and slow disks alike */
    for (int round = 0; round < 25; round++) {
        int p[2];
        assert_int_equal(pipe(p), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            for (uint64_t step = done + 1;; step++)
                if (write_pair(step, (float)step) != RM_OK || write(p[1], &step, sizeof step) != sizeof step || rm_ckpt_prune(dir, "run", 2) != RM_OK)
                    _exit(1);
        }
        close(p[1]);
        assert_int_equal(read(p[0], &done, sizeof done), sizeof done); /* one is written: now at any point of the next */
        usleep((unsigned)round * pair_us / 20);
        kill(child, SIGKILL);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));
        for (uint64_t step; read(p[0], &step, sizeof step) == sizeof step;) done = step;
        close(p[0]);
        uint64_t found = latest();
        if (found != done && found != done + 1) fail_msg("step %llu was written, %llu is found", (unsigned long long)done, (unsigned long long)found);
    }
    assert_true(done > 25);
    uint64_t before = latest();
    ok(rm_ckpt_prune(dir, "run", 1));
    assert_int_equal(latest(), before);
    assert_int_equal(count_files(".tmp"), 0);
}

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    rm_log_setup(RM_QUIET, 0);
#define T(f) cmocka_unit_test_setup(f, empty_dir)
    const struct CMUnitTest tests[] = {
        T(test_round_trip), T(test_reference_bytes), T(test_refuses), T(test_refuses_lengths), T(test_accepts), T(test_need), T(test_write_refuses),
        T(test_write_full), T(test_pair), T(test_foreign), T(test_pair_damage), T(test_latest), T(test_prune), T(test_kill),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    empty_dir(NULL);
    rmdir(dir);
    return failed;
}
