/* Which part of an image, and in which order the images: functions of (seed, epoch, index) alone. */
#include "base/rng.h"
#include "model/input/input.h"
#include <math.h>

const rm_crop_params rm_crop_default = { .scale_min = 0.08, .scale_max = 1.0, .ratio_min = 3.0 / 4.0, .ratio_max = 4.0 / 3.0, .flip = true };

/* The largest box in the middle whose ratio is allowed. */
static rm_box central(int32_t width, int32_t height, const rm_crop_params *p)
{
    const double ratio = (double)width / height;
    rm_box b = { .w = width, .h = height };
    if (ratio < p->ratio_min) b.h = (int32_t)nearbyint(width / p->ratio_min);
    else if (ratio > p->ratio_max) b.w = (int32_t)nearbyint(height * p->ratio_max);
    if (b.w < 1) b.w = 1;
    if (b.h < 1) b.h = 1;
    if (b.w > width) b.w = width;
    if (b.h > height) b.h = height;
    b.x = (width - b.w) / 2;
    b.y = (height - b.h) / 2;
    return b;
}

rm_box rm_random_box(int32_t width, int32_t height, const rm_crop_params *p, uint64_t seed, uint64_t epoch, uint64_t index)
{
    rm_rng rng = rm_rng_for(seed, epoch, index);
    const int32_t flip = rm_rng_unit(&rng) < 0.5 && p->flip; /* drawn first: it does not depend on the size */
    const double area = (double)width * height, log_min = log(p->ratio_min), log_max = log(p->ratio_max);
    for (int attempt = 0; attempt < 10; attempt++) {
        const double target = area * (p->scale_min + (p->scale_max - p->scale_min) * rm_rng_unit(&rng));
        const double ratio = exp(log_min + (log_max - log_min) * rm_rng_unit(&rng));
        const double w = nearbyint(sqrt(target * ratio)), h = nearbyint(sqrt(target / ratio));
        if (!(w >= 1 && w <= width && h >= 1 && h <= height)) continue;
        rm_box b = { .w = (int32_t)w, .h = (int32_t)h, .flip = flip };
        b.y = (int32_t)rm_rng_below(&rng, (uint32_t)(height - b.h + 1));
        b.x = (int32_t)rm_rng_below(&rng, (uint32_t)(width - b.w + 1));
        return b;
    }
    rm_box b = central(width, height, p);
    b.flip = flip;
    return b;
}

/* Samples have indices below 2^32, so this stream is nobody's. */
void rm_epoch_order(uint32_t n, uint64_t seed, uint64_t epoch, bool shuffle, uint32_t *order)
{
    rm_rng rng = rm_rng_for(seed, epoch, UINT64_MAX);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n; shuffle && i > 1; i--) {
        const uint32_t j = rm_rng_below(&rng, i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}
