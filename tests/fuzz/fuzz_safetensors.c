/* The safetensors parser over any bytes: what it accepts lies inside the input, is aligned, and is found by name. */
#include "model/checkpoint.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum_bytes(const rm_st_tensor *t)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < t->bytes; i++) sum += ((const uint8_t *)t->data)[i];
    return sum;
}

static void walk(const rm_st_file *f)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rm_st_count(f); i++) {
        const rm_st_tensor *t = rm_st_at(f, i), *same = NULL;
        sum += sum_bytes(t);
        if (rm_st_find(f, t->name) != t || rm_st_need(f, t->name, t->dtype, t->n_dim, t->dim, &same) != RM_OK || same != t) abort();
        if ((!strcmp(t->dtype, "F64") || !strcmp(t->dtype, "I64")) && (uintptr_t)t->data % 8) abort();
    }
    const char *digest = rm_st_metadata(f, "digest");
    if (sum == UINT64_MAX || (digest && strlen(digest) > 100000000)) abort(); /* keeps the reads */
}

/* The length field is taken from the input only when its first byte is odd: else mutations would seldom get past it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rm_st_file *f = NULL;
    if (size < 3) return 0;
    size_t n = size - 1;
    uint8_t *copy = malloc(n + 8); /* exactly as long as the file, for AddressSanitizer */
    if (!copy) return 0;
    if (data[0] & 1) memcpy(copy, data + 1, n);
    else {
        const uint8_t *end = memchr(data + 1, '\n', n); /* header, newline, data */
        uint64_t length = end ? (uint64_t)(end - data - 1) : n;
        memcpy(copy, &length, 8);
        memcpy(copy + 8, data + 1, (size_t)length);
        if (end) memcpy(copy + 8 + length, end + 1, n - (size_t)length - 1);
        n = end ? n + 7 : n + 8;
    }
    uint8_t *exact = realloc(copy, n);
    if (exact) copy = exact;
    if (rm_st_parse(copy, n, "fuzz", &f) == RM_OK) walk(f);
    rm_st_close(f);
    free(copy);
    return 0;
}
