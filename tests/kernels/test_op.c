/* Ops: text form, completion, counts, operand tables. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/rng.h"
#include "kernels/op.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rm_op parsed(const char *text)
{
    rm_op op;
    if (rm_op_parse(text, &op) != RM_OK) fail_msg("\"%s\": %s", text, rm_last_error());
    return op;
}

static void round_trip(const char *text)
{
    rm_op op = parsed(text), again;
    char line[256], twice[256];
    rm_op_print(&op, line, sizeof line);
    again = parsed(line);
    assert_memory_equal(&op, &again, sizeof op);
    rm_op_print(&again, twice, sizeof twice);
    assert_string_equal(line, twice);
}

static void every_case_line_round_trips(void **state)
{
    static const char *const files[] = { "small", "types", "resnet50-64px" };
    unsigned seen = 0;
    for (size_t i = 0; i < RM_COUNT(files); i++) {
        char path[512], line[512];
        snprintf(path, sizeof path, "%s/bench/cases/%s.case", RM_SOURCE_DIR, files[i]);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        while (fgets(line, sizeof line, f)) {
            line[strcspn(line, "#\n")] = '\0';
            if (!line[0]) continue;
            round_trip(line);
            seen |= 1u << parsed(line).code;
        }
        fclose(f);
    }
    assert_int_equal(seen, (1u << RM_OPCODE_COUNT) - 1u); /* the cases have every opcode */
}

static void rare_words_round_trip(void **state)
{
    round_trip("conv n=64 c=64 h=16 w=16 o=256 k=1 s=1 p=0 dtype=f32");
    round_trip("conv n=1 c=1 h=1 w=1 o=1 k=1 xl=17 wl=2147483647 yl=nhwc dtype=bf16 wdtype=f32 to=f32");
    round_trip("bn n=2 c=3 h=4 w=5 eps=0.00123456789 momentum=0.333333333 unbiased=0 relu=1");
    round_trip("softmax_xent n=2 c=10 smoothing=0.123456 scale=65536 to=bf16");
    round_trip("augment n=2 h=8 w=8 mean=0.1,0.2,0.3 std=1,2,3.00000024 dtype=f16");
    round_trip("reorder n=2 c=3 h=4 w=5 dtype=u8 to=i32 xl=nhwc yl=16");
    rm_op op = parsed("bn_bwd n=64 c=256 h=16 w=16 relu=1 add=1 dy2=1 dtype=bf16");
    char line[256];
    rm_op_print(&op, line, sizeof line);
    assert_string_equal(line, "bn_bwd n=64 c=256 h=16 w=16 relu=1 add=1 dy2=1 dtype=bf16");
}

static void bad_lines_name_the_word(void **state)
{
    static const struct { const char *text, *word; } bad[] = {
        { "", "empty" }, { "convolve n=1", "convolve" }, { "relu n=1 c=1 h=1", "w=" }, { "relu n=1 c=1 h=1 w=1 k=3", "k" },
        { "relu n=0 c=1 h=1 w=1", "n=0" }, { "relu n=1x c=1 h=1 w=1", "n=1x" }, { "relu n= c=1 h=1 w=1", "n=" },
        { "relu n c=1 h=1 w=1", "n" }, { "relu n=1 n=1 c=1 h=1 w=1", "twice" }, { "relu n=99999999999 c=1 h=1 w=1", "n=999" },
        { "relu n=1 c=1 h=1 w=1 dtype=f33", "f33" }, { "relu n=1 c=1 h=1 w=1 dtype=u8", "u8" },
        { "relu n=1 c=1 h=1 w=1 xl=3", "xl=3" }, { "relu n=16777216 c=16777216 h=16777216 w=16777216", "2^40" },
        { "conv n=1 c=1 h=2 w=2 o=1 k=5 s=1 p=1", "window" }, { "conv n=1 c=1 h=2 w=2 o=1 k=1 p=1", "p=1" },
        { "maxpool n=1 c=1 h=4 w=4 k=3 s=2 p=2", "padding" }, { "bn n=1 c=4 h=1 w=1", "more than one" },
        { "bn n=2 c=4 h=1 w=1 eps=nan", "eps=nan" }, { "bn n=2 c=4 h=1 w=1 momentum=2", "momentum" },
        { "softmax_xent n=1 c=2 smoothing=1.5", "smoothing" }, { "optim count=4 segments=5", "segments" },
        { "optim count=4 rule=adam", "adam" }, { "augment n=1 h=1 w=1 std=1,0,1", "std" }, { "augment n=1 h=1 w=1 std=1,1", "std" },
        { "fc n=1 c=2 o=3 h=2", "h=2" },
    };
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        rm_op op = { .code = RM_OP_ADD }, before = op;
        assert_int_equal(rm_op_parse(bad[i].text, &op), RM_E_FORMAT);
        if (!strstr(rm_last_error(), bad[i].word)) fail_msg("\"%s\": \"%s\" lacks \"%s\"", bad[i].text, rm_last_error(), bad[i].word);
        assert_memory_equal(&op, &before, sizeof op); /* outputs are set on success only */
    }
    char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    rm_op op;
    assert_int_equal(rm_op_parse(longest, &op), RM_E_FORMAT);
}

/* Lines with one byte changed either fail or round-trip. */
static void mangled_lines_are_safe(void **state)
{
    static const char *const seeds[] = {
        "conv n=64 c=64 h=16 w=16 o=256 k=1 s=1 p=0 dtype=f32", "bn_bwd n=64 c=256 h=16 w=16 relu=1 add=1 dy2=1 dtype=bf16",
        "bn_bwd n=2 c=16 h=4 w=4 training=0 dtype=f32",
        "augment n=2 h=8 w=8 mean=0.1,0.2,0.3 std=1,2,3", "optim count=1003 segments=8 rule=lars nesterov=1", "reorder n=1 c=2 h=3 w=4 xl=nhwc to=bf16",
    };
    rm_rng r = rm_rng_for(1, 2, 3);
    int good = 0;
    for (int i = 0; i < 20000; i++) {
        char text[256];
        rm_op op;
        snprintf(text, sizeof text, "%s", seeds[rm_rng_below(&r, RM_COUNT(seeds))]);
        text[rm_rng_below(&r, (uint32_t)strlen(text))] = (char)(i % 2 ? '0' + rm_rng_below(&r, 10) : 32 + rm_rng_below(&r, 95));
        if (rm_op_parse(text, &op) != RM_OK) continue;
        good++;
        round_trip(text);
    }
    assert_in_range(good, 1000, 19000);
}

static void completion_gives_shapes(void **state)
{
    rm_op op = parsed("conv n=2 c=3 h=224 w=225 o=64 k=7 s=2 p=3");
    assert_int_equal(op.y.shape.n, 2);
    assert_int_equal(op.y.shape.c, 64);
    assert_int_equal(op.y.shape.h, 112);
    assert_int_equal(op.y.shape.w, 113);
    op = parsed("fc n=2 c=64 o=10 dtype=bf16");
    assert_int_equal(op.y.dtype, RM_F32); /* logits */
    assert_int_equal(op.w.dtype, RM_BF16);
    rm_op raw = { .code = RM_OP_CONV, .x = { { 1, 4, 8, 8 }, RM_BF16, 0 }, .w = { { 8, 4, 3, 3 }, RM_BF16, 0 }, .u.win = { 3, 1, 1 } };
    assert_int_equal(rm_op_complete(&raw), RM_OK);
    assert_int_equal(raw.y.dtype, RM_BF16);
    raw.y.dtype = RM_F32;
    assert_int_equal(rm_op_complete(&raw), RM_OK);
    assert_int_equal(raw.y.dtype, RM_F32); /* a given type stays */
    raw.w.shape.c = 5;
    assert_int_equal(rm_op_complete(&raw), RM_E_ARG);
    assert_int_equal(rm_window_out(112, 3, 2, 1), 56);
    assert_int_equal(rm_window_out(2, 5, 1, 1), 0);
}

static void counts_are_the_fields(void **state)
{
    rm_op op = parsed("conv n=1 c=3 h=224 w=224 o=64 k=7 s=2 p=3");
    assert_int_equal(rm_op_flops(&op), 2u * 118013952u); /* the stem of ResNet-50 */
    assert_int_equal(rm_op_bytes_read(&op), 4u * (3u * 224u * 224u + 64u * 147u));
    assert_int_equal(rm_op_bytes_written(&op), 4u * 64u * 112u * 112u);
    rm_op back = parsed("conv_bwd_weights n=1 c=3 h=224 w=224 o=64 k=7 s=2 p=3");
    assert_int_equal(rm_op_flops(&back), rm_op_flops(&op));
    op = parsed("fc n=1 c=2048 o=1000");
    assert_int_equal(rm_op_flops(&op), 2u * 2048000u);
    op = parsed("optim count=100");
    assert_int_equal(rm_op_bytes_read(&op), 3u * 400u + 64u);
    assert_int_equal(rm_op_bytes_written(&op), 2u * 400u + 8u);
}

static void operands_follow_parameters(void **state)
{
    rm_op op = parsed("bn_bwd n=2 c=16 h=4 w=4");
    assert_int_equal(rm_op_uses(&op, RM_Y), RM_UNUSED);
    assert_int_equal(rm_op_uses(&op, RM_DX2), RM_UNUSED);
    op = parsed("bn_bwd n=2 c=16 h=4 w=4 relu=1 add=1 dy2=1");
    assert_int_equal(rm_op_uses(&op, RM_Y), RM_READ);
    assert_int_equal(rm_op_uses(&op, RM_DY2), RM_READ);
    assert_int_equal(rm_op_uses(&op, RM_DX2), RM_WRITE);
    assert_int_equal(rm_op_uses(&op, RM_SAVED), RM_READ);
    assert_int_equal(rm_op_uses(&op, RM_RVAR), RM_UNUSED);
    op = parsed("bn_bwd n=1 c=16 h=1 w=1 training=0");
    assert_int_equal(rm_op_uses(&op, RM_SAVED), RM_UNUSED);
    assert_int_equal(rm_op_uses(&op, RM_RMEAN), RM_READ);
    assert_int_equal(rm_op_uses(&op, RM_RVAR), RM_READ);
    assert_int_equal(rm_op_use(RM_OP_BN_BWD, RM_DX2), RM_WRITE | RM_OPTIONAL);
    assert_int_equal(rm_op_use(RM_OP_CONV, RM_Y), RM_WRITE);
    assert_int_equal(rm_op_use(RM_OP_CONV, RM_LABEL), RM_UNUSED);
    op = parsed("bn n=2 c=16 h=4 w=4 training=0");
    assert_int_equal(rm_op_uses(&op, RM_RMEAN), RM_READ);
    assert_int_equal(rm_op_uses(&op, RM_SAVED), RM_UNUSED);
    op = parsed("fc_bwd_weights n=2 c=16 o=10 dtype=bf16");
    rm_tdesc t = rm_op_tensor(&op, RM_DBETA);
    assert_int_equal(t.shape.c, 10);
    assert_int_equal(t.dtype, RM_F32);
    assert_int_equal(rm_op_tensor(&op, RM_LABEL).shape.n, 0);
}

static void types_have_two_names(void **state)
{
    rm_dtype t = RM_U8;
    assert_int_equal(rm_dtype_parse("fp32", &t), RM_OK);
    assert_int_equal(t, RM_F32);
    assert_int_equal(rm_dtype_parse("bf16", &t), RM_OK);
    assert_int_equal(t, RM_BF16);
    assert_int_equal(rm_dtype_parse("fp8", &t), RM_E_ARG);
    assert_int_equal(t, RM_BF16);
    assert_int_equal(rm_dtype_bytes(RM_F16), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_line_round_trips), cmocka_unit_test(rare_words_round_trip), cmocka_unit_test(bad_lines_name_the_word),
        cmocka_unit_test(mangled_lines_are_safe), cmocka_unit_test(completion_gives_shapes), cmocka_unit_test(counts_are_the_fields),
        cmocka_unit_test(operands_follow_parameters), cmocka_unit_test(types_have_two_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
