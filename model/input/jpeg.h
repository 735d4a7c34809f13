/* What the rest of this folder needs of the JPEG decoder beyond input.h. libjpeg itself stays in jpeg.c. */
#ifndef RM_INPUT_JPEG_H
#define RM_INPUT_JPEG_H
#include "model/input/input.h"
#include <stddef.h>

/* rm_random_box() of the image's own size, then rm_jpeg_crop() without flipping, reading the header once. */
rm_status rm_jpeg_random(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, const rm_crop_params *crop,
                         uint64_t seed, uint64_t epoch, uint64_t index, int32_t px, uint8_t *dst, rm_box *out_box) RM_CHECKED;
/* Decodes every row and keeps none. *out_warning: what libjpeg put up with, NULL for nothing; valid until the next call. */
rm_status rm_jpeg_verify(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, const char **out_warning) RM_CHECKED;
/* Why the last call on this decoder failed, without the name of the file. Valid until the next call. */
const char *rm_decoder_reason(const rm_decoder *d);

/* (h, w, 3) RGB -> baseline 4:2:0 JPEG in malloc'd memory, which the caller frees. */
rm_status rm_jpeg_encode(const uint8_t *rgb, int32_t w, int32_t h, int32_t quality, uint8_t **out_jpeg, size_t *out_bytes) RM_CHECKED;
#endif
