/* The loops of the resize in plain C, and the choice among the variants. */
#include "model/input/axis.h"
#include "model/input/input.h"
#include <stdatomic.h>
#include <string.h>

static uint8_t to_byte(int32_t sum)
{
    const int32_t v = sum >> RM_WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void horizontal_c(const rm_axis *a, const uint8_t *src, uint8_t *dst)
{
    for (int32_t x = 0; x < a->key.n; x++, dst += 3) {
        const int32_t *w = a->weight + (size_t)x * (size_t)a->stride;
        const uint8_t *p = src + 4 * (size_t)a->start[x];
        int32_t r = 1 << (RM_WEIGHT_BITS - 1), g = r, b = r;
        for (int32_t t = 0; t < a->count[x]; t++, p += 4) {
            r += p[0] * w[t];
            g += p[1] * w[t];
            b += p[2] * w[t];
        }
        dst[0] = to_byte(r);
        dst[1] = to_byte(g);
        dst[2] = to_byte(b);
    }
}

static void vertical_c(const uint8_t *const *row, const int32_t *weight, int32_t taps, size_t bytes, uint8_t *dst)
{
    for (size_t i = 0; i < bytes; i++) {
        int32_t sum = 1 << (RM_WEIGHT_BITS - 1);
        for (int32_t t = 0; t < taps; t++) sum += row[t][i] * weight[t];
        dst[i] = to_byte(sum);
    }
}

static bool always(void) { return true; }

const rm_resize rm_resize_c = { .name = "c", .usable = always, .horizontal = horizontal_c, .vertical = vertical_c };

/* ---- choice: the first usable row; rm_input_force_isa() overrides it for tests */

static const rm_resize *const variants[] = {
#if defined(__x86_64__)
    &rm_resize_avx512,
    &rm_resize_avx2,
#endif
    &rm_resize_c,
};
static _Atomic(const rm_resize *) forced;

static const rm_resize *best(void)
{
    size_t i = 0;
    while (!variants[i]->usable()) i++; /* the last row always is */
    return variants[i];
}

const rm_resize *rm_resize_current(void)
{
    const rm_resize *r = atomic_load_explicit(&forced, memory_order_acquire);
    return r ? r : best();
}

const char *rm_input_isa(void) { return rm_resize_current()->name; }

rm_status rm_input_force_isa(const char *name)
{
    const rm_resize *chosen = NULL;
    for (size_t i = 0; name && i < RM_COUNT(variants); i++)
        if (strcmp(variants[i]->name, name) == 0) chosen = variants[i];
    if (name && !chosen) return rm_fail(RM_E_ARG, "no vector code is called %s here; there are avx512, avx2 and c", name);
    if (chosen && !chosen->usable()) return rm_fail(RM_E_UNSUPPORTED, "this processor lacks %s", name);
    atomic_store_explicit(&forced, chosen, memory_order_release);
    return RM_OK;
}
