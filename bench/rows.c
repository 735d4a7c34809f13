#include "bench/rows.h"
#include "base/utf8.h"
#include "kernels/device.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

double bench_row_real(const json_t *row, const char *key)
{
    const json_t *v = json_object_get(row, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

long long bench_row_int(const json_t *row, const char *key) { return (long long)json_integer_value(json_object_get(row, key)); }

const char *bench_row_text_or(const json_t *row, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text && text[0] ? text : otherwise;
}

const char *bench_row_text(const json_t *row, const char *key) { return bench_row_text_or(row, key, ""); }

json_t *bench_row_words(const char *text)
{
    char *copy = strdup(text);
    if (!copy) return NULL;
    rm_utf8_clean(copy);
    json_t *words = json_string(copy);
    free(copy);
    return words;
}

void bench_row_settle_origin(json_t *row)
{
    const char *device = json_string_value(json_object_get(row, "device")), *origin = json_string_value(json_object_get(row, "origin"));
    if (device && origin && !strcmp(origin, "measured")) json_object_set_new(row, "origin", json_string(rm_device_origin(device)));
}
