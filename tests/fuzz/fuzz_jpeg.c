/* libFuzzer target over the JPEG path: header, box, partial decode, resize, whole decode.
 * The last five bytes of the input choose the box and the sizes; the rest is the file.
 *   clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz_jpeg.c \
 *         model/input/{jpeg,axis,resize,resize_avx2,resize_avx512,box}.c base/{status,rng}.c -ljpeg -lm -o fuzz_jpeg
 *   ./fuzz_jpeg CORPUS tests/golden/jpeg */
#include "model/input/jpeg.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_PX = 64, MAX_PIXELS = 1 << 18, MAX_SCANS = 12, CHOICES = 5 };

static rm_box box_within(int32_t w, int32_t h, const uint8_t *choice)
{
    rm_box b = { .x = choice[0] % w, .y = choice[1] % h, .flip = choice[4] & 1 };
    b.w = 1 + choice[2] * (w - b.x - 1) / 255;
    b.h = 1 + choice[3] * (h - b.y - 1) / 255;
    return b;
}

/* What decoded once decodes again, to the same pixels: the decoder keeps nothing from one image to the next. */
static void try_box(rm_decoder *d, rm_decoder *fresh, const uint8_t *data, size_t n, rm_box b, int32_t px)
{
    static uint8_t first[MAX_PX * MAX_PX * 3], second[MAX_PX * MAX_PX * 3];
    const rm_status s = rm_jpeg_crop(d, data, n, "fuzz", b, px, true, first), t = rm_jpeg_crop(fresh, data, n, "fuzz", b, px, true, second);
    if (s != t) abort();
    for (int32_t i = 0; s == RM_OK && i < 3 * px * px; i++)
        if (first[i] != second[i]) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static rm_decoder *d;
    const rm_decode_limits limits = { .max_pixels = MAX_PIXELS, .max_scans = MAX_SCANS };
    static uint8_t out[MAX_PX * MAX_PX * 3];
    const char *warning;
    rm_decoder *fresh;
    rm_box box;
    int32_t w, h;
    if (size < CHOICES || (!d && rm_decoder_new(&limits, &d) != RM_OK)) return 0;
    const size_t n = size - CHOICES;
    const uint8_t *choice = data + n;
    const int32_t px = 1 + choice[4] % MAX_PX;
    if (rm_jpeg_size(d, data, n, "fuzz", &w, &h) != RM_OK || rm_decoder_new(&limits, &fresh) != RM_OK) return 0;
    try_box(d, fresh, data, n, box_within(w, h, choice), px);
    rm_decoder_free(fresh);
    if (rm_jpeg_random(d, data, n, "fuzz", &rm_crop_default, choice[0], choice[1], choice[2], px, out, &box) != RM_OK) return 0;
    if (rm_jpeg_center(d, data, n, "fuzz", px + choice[3] % 64, px, out) != RM_OK) return 0;
    if (rm_jpeg_verify(d, data, n, "fuzz", &warning) != RM_OK) return 0;
    return 0;
}
