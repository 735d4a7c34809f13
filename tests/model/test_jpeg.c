/* Decoding against hashes of what Pillow makes of the same files (tests/golden/make_pillow.py), bad files, boxes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/input/input.h"
#include "model/input/jpeg.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN RM_SOURCE_DIR "/tests/golden/"

typedef struct bytes { uint8_t *data; size_t n; } bytes;

static bytes read_file(const char *name)
{
    char path[1024];
    bytes b = { malloc(1 << 20), 0 };
    snprintf(path, sizeof path, GOLDEN "jpeg/%s", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    b.n = fread(b.data, 1, 1 << 20, f);
    fclose(f);
    return b;
}

static uint64_t fnv1a(const uint8_t *p, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static int integer(const json_t *o, const char *key) { return (int)json_integer_value(json_object_get(o, key)); }

/* ---- equal to Pillow */

/* Returns whether the case came out as Pillow's; what lies behind the image must stay untouched. */
static bool golden_case(rm_decoder *d, const json_t *c)
{
    const char *name = json_string_value(json_object_get(c, "file"));
    const json_t *box = json_object_get(c, "box");
    const int px = integer(c, "px");
    const size_t n = 3 * (size_t)px * (size_t)px;
    uint8_t *out = malloc(n + 64);
    bytes b = read_file(name);
    char hash[17];
    memset(out + n, 0xA5, 64);
    if (box) {
        int v[5];
        for (size_t i = 0; i < 5; i++) v[i] = (int)json_integer_value(json_array_get(box, i));
        assert_int_equal(rm_jpeg_crop(d, b.data, b.n, name, (rm_box){ v[0], v[1], v[2], v[3], v[4] }, px, true, out), RM_OK);
    } else assert_int_equal(rm_jpeg_center(d, b.data, b.n, name, integer(c, "resize"), px, out), RM_OK);
    for (int i = 0; i < 64; i++) assert_int_equal(out[n + (size_t)i], 0xA5);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)fnv1a(out, n));
    const bool same = strcmp(hash, json_string_value(json_object_get(c, "fnv1a"))) == 0;
    if (!same) {
        char *text = json_dumps(c, JSON_COMPACT);
        print_error("%s: got %s for %s\n", rm_input_isa(), hash, text);
        free(text);
    }
    free(out);
    free(b.data);
    return same;
}

static void golden(const char *isa)
{
    if (rm_input_force_isa(isa) != RM_OK) skip();
    assert_string_equal(rm_input_isa(), isa);
    json_t *root = json_load_file(GOLDEN "pillow_jpeg.json", 0, NULL), *c;
    rm_decoder *d;
    size_t i, wrong = 0;
    assert_non_null(root);
    assert_int_equal(rm_decoder_new(NULL, &d), RM_OK);
    assert_true(json_array_size(json_object_get(root, "cases")) > 200);
    json_array_foreach(json_object_get(root, "cases"), i, c) wrong += !golden_case(d, c);
    assert_int_equal(wrong, 0);
    rm_decoder_free(d);
    json_decref(root);
    assert_int_equal(rm_input_force_isa(NULL), RM_OK);
}

static void test_pillow_c(void **state) { golden("c"); }
static void test_pillow_avx2(void **state) { golden("avx2"); }
static void test_pillow_avx512(void **state) { golden("avx512"); }

static void test_isa_names(void **state)
{
    assert_int_equal(rm_input_force_isa("mmx"), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "mmx"));
}

static void test_flip_and_times(void **state)
{
    rm_decoder *d;
    bytes b = read_file("s420.jpg");
    uint8_t plain[3 * 64], flipped[3 * 64];
    uint64_t decode_ns, resize_ns;
    rm_box box = { 3, 5, 60, 50, 1 };
    assert_int_equal(rm_decoder_new(NULL, &d), RM_OK);
    assert_int_equal(rm_jpeg_crop(d, b.data, b.n, "x", box, 8, false, plain), RM_OK);
    assert_int_equal(rm_jpeg_crop(d, b.data, b.n, "x", box, 8, true, flipped), RM_OK);
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) assert_memory_equal(plain + 3 * (8 * y + x), flipped + 3 * (8 * y + 7 - x), 3);
    rm_decoder_times(d, &decode_ns, &resize_ns);
    assert_true(decode_ns > 0 && resize_ns > 0);
    rm_decoder_times(d, &decode_ns, &resize_ns);
    assert_true(decode_ns == 0 && resize_ns == 0);
    rm_decoder_free(d);
    free(b.data);
}

/* ---- bad files: a reason for each, and the decoder works on */

typedef struct bad_case { const char *what, *reason; size_t (*make)(uint8_t *p, size_t n); } bad_case;

static uint8_t *find_marker(uint8_t *p, size_t n, uint8_t marker)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (p[i] == 0xFF && p[i + 1] == marker) return p + i;
    return NULL;
}

static size_t empty(uint8_t *p, size_t n) { return 0; }
static size_t two_bytes(uint8_t *p, size_t n) { return 2; }
static size_t half(uint8_t *p, size_t n) { return n / 2; }
static size_t no_end(uint8_t *p, size_t n) { return n - 2; }
static size_t header_cut(uint8_t *p, size_t n) { return 100; }
static size_t put(uint8_t *p, const char *s, size_t n) { memcpy(p, s, n); return n; }
static size_t png(uint8_t *p, size_t n) { return put(p, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16); }
static size_t gif(uint8_t *p, size_t n) { return put(p, "GIF89a....", 10); }
static size_t webp(uint8_t *p, size_t n) { return put(p, "RIFF\1\2\3\4WEBPVP8 ", 16); }
static size_t text(uint8_t *p, size_t n) { return put(p, "version https://example.org/spec\n", 33); }
static size_t html(uint8_t *p, size_t n) { return put(p, "<html>404</html>", 16); }
static size_t noise(uint8_t *p, size_t n) { return put(p, "\1\2\3\4\5\6\7\10", 8); }

static size_t precision_12(uint8_t *p, size_t n) { find_marker(p, n, 0xC0)[4] = 12; return n; }
static size_t lossless(uint8_t *p, size_t n) { find_marker(p, n, 0xC0)[1] = 0xC3; return n; }
static size_t bomb(uint8_t *p, size_t n) { memcpy(find_marker(p, n, 0xC0) + 5, "\xFF\xDC\xFF\xDC", 4); return n; }
static size_t no_height(uint8_t *p, size_t n) { memset(find_marker(p, n, 0xC0) + 5, 0, 2); return n; }
static size_t no_tables(uint8_t *p, size_t n) { find_marker(p, n, 0xDB)[1] = 0xFE; return n; }

static const bad_case bad_cases[] = {
    { "empty", "empty", empty },           { "two bytes", "truncated", two_bytes },
    { "half", "truncated", half },         { "no end", "end-of-image", no_end },
    { "header cut", "", header_cut },      { "png", "PNG", png },
    { "gif", "GIF", gif },                 { "webp", "WebP", webp },
    { "text", "text", text },              { "html", "HTML", html },
    { "noise", "FF D8", noise },           { "12 bits", "precision 12", precision_12 },
    { "lossless", "SOF type 0xc3", lossless }, { "bomb", "65500 x 65500", bomb },
    { "no height", "Empty JPEG", no_height },  { "no tables", "Quantization table", no_tables },
};

static void test_bad_files(void **state)
{
    rm_decoder *d;
    uint8_t out[3 * 32 * 32], expected[3 * 32 * 32];
    const char *warning;
    assert_int_equal(rm_decoder_new(NULL, &d), RM_OK);
    for (size_t i = 0; i < RM_COUNT(bad_cases); i++) {
        bytes b = read_file("s420.jpg");
        assert_int_equal(rm_jpeg_center(d, b.data, b.n, "good.jpg", 36, 32, expected), RM_OK);
        uint8_t *exact = NULL;
        const size_t n = bad_cases[i].make(b.data, b.n);
        exact = malloc(n ? n : 1); /* exact, so that a sanitizer sees reading beyond */
        memcpy(exact, b.data, n);
        memset(out, 0, sizeof out);
        if (rm_jpeg_center(d, exact, n, "dir/bad.jpg", 36, 32, out) != RM_E_FORMAT) fail_msg("%s was taken", bad_cases[i].what);
        if (!strstr(rm_last_error(), bad_cases[i].reason)) fail_msg("%s: %s", bad_cases[i].what, rm_last_error());
        assert_ptr_equal(strstr(rm_last_error(), "dir/bad.jpg: "), rm_last_error());
        assert_string_equal(rm_last_error() + 13, rm_decoder_reason(d));
        assert_int_equal(rm_jpeg_verify(d, exact, n, "bad", &warning), RM_E_FORMAT);
        free(exact);
        free(b.data);
        b = read_file("s420.jpg");
        assert_int_equal(rm_jpeg_center(d, b.data, b.n, "good.jpg", 36, 32, out), RM_OK);
        assert_memory_equal(out, expected, sizeof out);
        free(b.data);
    }
    rm_decoder_free(d);
}

/* The last scan of a progressive file once more and again: each costs a pass over the image. */
static void test_endless_scans(void **state)
{
    rm_decoder *d, *patient;
    const rm_decode_limits more = { .max_scans = 1000 };
    bytes b = read_file("p420.jpg");
    uint8_t *scan = b.data, *next, out[3 * 32 * 32];
    while ((next = find_marker(scan + 1, b.n - (size_t)(scan + 1 - b.data), 0xDA))) scan = next;
    const size_t head = (size_t)(scan - b.data), one = b.n - 2 - head, n = head + 300 * one + 2;
    uint8_t *many = malloc(n);
    memcpy(many, b.data, head);
    for (size_t i = 0; i < 300; i++) memcpy(many + head + i * one, scan, one);
    memcpy(many + n - 2, "\xFF\xD9", 2);
    assert_int_equal(rm_decoder_new(NULL, &d), RM_OK);
    assert_int_equal(rm_decoder_new(&more, &patient), RM_OK);
    assert_int_equal(rm_jpeg_center(d, many, n, "bomb", 36, 32, out), RM_E_FORMAT);
    assert_non_null(strstr(rm_last_error(), "more than 100 progressive scans"));
    assert_int_equal(rm_jpeg_center(patient, many, n, "bomb", 36, 32, out), RM_OK);
    rm_decoder_free(d);
    rm_decoder_free(patient);
    free(many);
    free(b.data);
}

/* Compressed data with a hole, but an end: libjpeg warns and goes on, and says so only when asked. */
static void test_damage_is_passed_over(void **state)
{
    rm_decoder *d;
    bytes b = read_file("s420.jpg");
    const char *warning;
    uint8_t out[3 * 32 * 32];
    assert_int_equal(rm_decoder_new(NULL, &d), RM_OK);
    assert_int_equal(rm_jpeg_verify(d, b.data, b.n, "good", &warning), RM_OK);
    assert_null(warning);
    memcpy(b.data + b.n - 300, "\xFF\xD9", 2);
    b.n -= 298;
    assert_int_equal(rm_jpeg_verify(d, b.data, b.n, "damaged", &warning), RM_OK);
    assert_non_null(warning);
    assert_int_equal(rm_jpeg_center(d, b.data, b.n, "damaged", 36, 32, out), RM_OK);
    rm_decoder_free(d);
    free(b.data);
}

static void test_limits_and_arguments(void **state)
{
    const rm_decode_limits small = { .max_pixels = 97 * 83 - 1 }, exact = { .max_pixels = 97 * 83 };
    rm_decoder *d, *e;
    bytes b = read_file("s444.jpg");
    uint8_t out[3 * 32 * 32];
    int32_t w, h;
    assert_int_equal(rm_decoder_new(&small, &d), RM_OK);
    assert_int_equal(rm_decoder_new(&exact, &e), RM_OK);
    assert_int_equal(rm_jpeg_size(d, b.data, b.n, "x", &w, &h), RM_E_FORMAT);
    assert_int_equal(rm_jpeg_size(e, b.data, b.n, "x", &w, &h), RM_OK);
    assert_true(w == 97 && h == 83);
    const rm_box wrong[] = { { 0, 0, 98, 83, 0 }, { -1, 0, 5, 5, 0 }, { 96, 0, 2, 1, 0 }, { 0, 0, 0, 5, 0 }, { 0, 80, 1, 4, 0 }, { INT32_MAX, 0, 1, 1, 0 } };
    for (size_t i = 0; i < RM_COUNT(wrong); i++)
        assert_int_equal(rm_jpeg_crop(e, b.data, b.n, "x", wrong[i], 32, true, out), RM_E_ARG);
    assert_int_equal(rm_jpeg_crop(e, b.data, b.n, "x", (rm_box){ 0, 0, 5, 5, 0 }, 0, true, out), RM_E_ARG);
    assert_int_equal(rm_jpeg_center(e, b.data, b.n, "x", 31, 32, out), RM_E_ARG);
    rm_decoder_free(d);
    rm_decoder_free(e);
    free(b.data);
}

static void test_encode_round_trip(void **state)
{
    uint8_t rgb[24 * 16 * 3], *jpeg, out[16 * 16 * 3];
    size_t n;
    rm_decoder *d;
    int32_t w, h;
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i / 3 % 24 * 10);
    assert_int_equal(rm_jpeg_encode(rgb, 24, 16, 95, &jpeg, &n), RM_OK);
    assert_int_equal(rm_decoder_new(NULL, &d), RM_OK);
    assert_int_equal(rm_jpeg_size(d, jpeg, n, "x", &w, &h), RM_OK);
    assert_true(w == 24 && h == 16);
    assert_int_equal(rm_jpeg_crop(d, jpeg, n, "x", (rm_box){ 4, 0, 16, 16, 0 }, 16, true, out), RM_OK);
    for (int x = 0; x < 16; x++) assert_in_range(out[3 * x] + 6, (x + 4) * 10, (x + 4) * 10 + 12);
    rm_decoder_free(d);
    free(jpeg);
}

/* ---- boxes */

static void test_box_is_a_function(void **state)
{
    const rm_box a = rm_random_box(500, 375, &rm_crop_default, 1, 2, 3), b = rm_random_box(500, 375, &rm_crop_default, 1, 2, 3);
    const rm_box other[] = { rm_random_box(500, 375, &rm_crop_default, 2, 2, 3), rm_random_box(500, 375, &rm_crop_default, 1, 3, 3),
                             rm_random_box(500, 375, &rm_crop_default, 1, 2, 4) };
    assert_memory_equal(&a, &b, sizeof a);
    for (size_t i = 0; i < RM_COUNT(other); i++) assert_memory_not_equal(&a, &other[i], sizeof a);
}

/* Area uniform in 8 to 100 % (what does not fit is drawn again), ratio log-uniform, flips half of them. */
static void test_box_distribution(void **state)
{
    enum { N = 40000 };
    double area = 0, log_ratio = 0, flips = 0, x = 0, smallest = 1;
    for (uint64_t i = 0; i < N; i++) {
        const rm_box b = rm_random_box(600, 600, &rm_crop_default, 7, 0, i);
        assert_true(b.x >= 0 && b.y >= 0 && b.w > 0 && b.h > 0 && b.x + b.w <= 600 && b.y + b.h <= 600);
        const double share = b.w * (double)b.h / (600.0 * 600.0), ratio = (double)b.w / b.h;
        assert_true(ratio > 0.74 && ratio < 1.35 && share > 0.078);
        if (share < smallest) smallest = share;
        area += share / N;
        log_ratio += log(ratio) / N;
        flips += (double)b.flip / N;
        if (b.w < 600) x += (double)b.x / (600 - b.w) / N;
    }
    assert_true(smallest < 0.085);
    assert_true(fabs(area - 0.478) < 0.006);         /* 0.54 less the large boxes that do not fit; torchvision's mean is 0.478 */
    assert_true(fabs(log_ratio) < 0.006);
    assert_true(fabs(flips - 0.5) < 0.01);
    assert_true(fabs(x - 0.5) < 0.02);
}

static void test_box_of_odd_images(void **state)
{
    const rm_box line = rm_random_box(1000, 1, &rm_crop_default, 1, 0, 0), column = rm_random_box(2, 5000, &rm_crop_default, 1, 0, 0);
    const rm_box dot = rm_random_box(1, 1, &rm_crop_default, 1, 0, 0);
    assert_true(line.h == 1 && line.w == 1 && line.x == 499);   /* central: 1 x 4/3 */
    assert_true(column.w == 2 && column.h == 3 && column.y == 2498);
    assert_true(dot.w == 1 && dot.h == 1 && dot.x == 0 && dot.y == 0);
    rm_crop_params never = rm_crop_default;
    never.flip = false;
    for (uint64_t i = 0; i < 50; i++) assert_int_equal(rm_random_box(50, 50, &never, 1, 0, i).flip, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pillow_c),           cmocka_unit_test(test_pillow_avx2),
        cmocka_unit_test(test_pillow_avx512),      cmocka_unit_test(test_isa_names),
        cmocka_unit_test(test_flip_and_times),     cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_endless_scans),      cmocka_unit_test(test_damage_is_passed_over),
        cmocka_unit_test(test_limits_and_arguments), cmocka_unit_test(test_encode_round_trip),
        cmocka_unit_test(test_box_is_a_function),  cmocka_unit_test(test_box_distribution),
        cmocka_unit_test(test_box_of_odd_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
