/* The golden step: inputs from an integer hash, bit for bit those of make_golden.py, and the numbers that torchvision's
 * ResNet-50 gives for them in double precision (step50.json). For tests; header-only; needs jansson.
 *
 * A tensor is checked by its sketch: 2-norm, sum, 8 elements, 8 projections on hashed signs. golden_error() estimates
 * |have - want| / |want| from the projections, which see every element in its place. */
#ifndef RM_GOLDEN_H
#define RM_GOLDEN_H
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/source.h"

#define GOLDEN_FILE "tests/golden/step50.json" /* of source_dir() */
enum { GOLDEN_PX = 64, GOLDEN_BATCH = 4, GOLDEN_CLASSES = 1000, GOLDEN_SAMPLES = 8, GOLDEN_PROJECTIONS = 8, GOLDEN_SEED = 18 };
#define GOLDEN_SAMPLE_AT ((uint64_t)1 << 40)
#define GOLDEN_SIGN_AT   ((uint64_t)1 << 41)

/* ---- the hash: SplitMix64's finaliser over the name's FNV-1a hash plus a Weyl sequence */
static inline uint64_t golden_name(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u ^ GOLDEN_SEED;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001B3u;
    return h;
}

static inline uint64_t golden_hash(uint64_t name, uint64_t i)
{
    uint64_t z = name + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* -1 <= u < 1 in steps of 2^-23. */
static inline double golden_unit(uint64_t name, uint64_t i) { return (double)(golden_hash(name, i) >> 40) * 0x1p-23 - 1.0; }

/* ---- inputs, each exact in f32 */
typedef struct golden_rule { const char *ending; double centre, width, numerator; } golden_rule; /* width 0: sqrt(numerator / fan_in) */

static inline bool golden_ends(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && !strcmp(name + n - m, ending);
}

/* Fills a parameter or running statistic by torchvision's name ("layer1.0.conv2.weight", "bn1.running_var"). count elements in
 * (O, I, KH, KW) order; fan_in = I KH KW, used for conv and fc weights only. False: no rule for that name. */
static inline bool golden_tensor(const char *name, uint64_t fan_in, uint64_t count, double *out)
{
    static const golden_rule rules[] = {
        { ".running_mean", 0, 1.0 / 8, 0 }, { ".running_var", 1, 1.0 / 4, 0 },
        { "bn3.weight", 3.0 / 16, 1.0 / 32, 0 }, { "layer1.2.bn3.bias", -1, 1.0 / 8, 0 }, { "layer2.3.bn3.bias", -1, 1.0 / 8, 0 },
        { "layer3.5.bn3.bias", -1, 1.0 / 8, 0 }, { "bn3.bias", 1.0 / 4, 1.0 / 8, 0 },
        { "bn1.weight", 1, 1.0 / 8, 0 }, { "bn2.weight", 1, 1.0 / 8, 0 }, { "downsample.1.weight", 1, 1.0 / 8, 0 },
        { ".bn1.bias", 2, 1.0 / 4, 0 }, { "bn1.bias", -1, 1.0 / 4, 0 }, { "bn2.bias", 2, 1.0 / 4, 0 }, { "downsample.1.bias", 2, 1.0 / 4, 0 },
        { "fc.weight", 0, 0, 1 }, { "fc.bias", 0, 1.0 / 64, 0 }, { "weight", 0, 0, 6 },
    };
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        if (!golden_ends(name, rules[r].ending)) continue;
        uint64_t h = golden_name(name);
        double width = rules[r].width > 0 ? rules[r].width : sqrt(rules[r].numerator / (double)fan_in);
        for (uint64_t i = 0; i < count; i++) out[i] = (double)(float)(rules[r].centre + width * golden_unit(h, i));
        return true;
    }
    return false;
}

/* (GOLDEN_BATCH, 3, GOLDEN_PX, GOLDEN_PX), already normalised. */
static inline void golden_images(float *out)
{
    uint64_t h = golden_name("images");
    for (uint64_t i = 0; i < (uint64_t)GOLDEN_BATCH * 3 * GOLDEN_PX * GOLDEN_PX; i++) out[i] = (float)(2 * golden_unit(h, i));
}

static inline void golden_labels(int32_t out[GOLDEN_BATCH])
{
    uint64_t h = golden_name("labels");
    for (uint64_t i = 0; i < GOLDEN_BATCH; i++) out[i] = (int32_t)((golden_hash(h, i) >> 33) % GOLDEN_CLASSES);
}

/* ---- what the step must give */
/* NULL with the reason in *error. json_decref() it. */
static inline json_t *golden_open(json_error_t *error)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/" GOLDEN_FILE, source_dir());
    return json_load_file(path, 0, error);
}

/* golden_find(g, "smooth", "grad", "conv1.weight"): label smoothing 0.1; "hard" is the step without, which has grad only.
 * golden_find(g, "stats", NULL, "bn1.running_mean"). NULL: absent. */
static inline json_t *golden_find(const json_t *g, const char *part, const char *group, const char *name)
{
    json_t *at = json_object_get(g, part);
    if (group) at = json_object_get(at, group);
    return json_object_get(at, name);
}

/* A score of PyTorch itself against double: golden_torch(g, "fp32" | "bf16", "loss" | "logits", NULL), or
 * (g, "bf16", "grad" | "param" | "stats", "median" | "max" over tensors). All are |have - want| / |want|. NaN: absent. */
static inline double golden_torch(const json_t *g, const char *precision, const char *group, const char *which)
{
    const json_t *at = json_object_get(json_object_get(json_object_get(g, "torch"), precision), group);
    if (which) at = json_object_get(at, which);
    return json_is_number(at) ? json_number_value(at) : NAN;
}

/* Estimate of |v - want| / |want| from the sketch of `name` (NAN when there is no sketch): from the projections, or from a
 * single element or the norm where those are farther off than the estimate could explain. v: `count` values in (O, I, KH, KW). */
static inline double golden_error(const json_t *sketch, const char *name, const double *v, uint64_t count)
{
    if (!sketch || !count) return NAN;
    uint64_t h = golden_name(name);
    double norm = json_number_value(json_object_get(sketch, "norm")), have = 0, dot[GOLDEN_PROJECTIONS] = { 0 }, mean_square = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t bits = golden_hash(h, GOLDEN_SIGN_AT + i);
        have += v[i] * v[i];
        for (int k = 0; k < GOLDEN_PROJECTIONS; k++) dot[k] += (bits >> (63 - k)) & 1 ? -v[i] : v[i];
    }
    if (!isfinite(have)) return INFINITY; /* fmax() below would drop a NaN */
    for (size_t k = 0; k < GOLDEN_PROJECTIONS; k++) {
        double d = dot[k] - json_number_value(json_array_get(json_object_get(sketch, "proj"), k));
        mean_square += d * d / GOLDEN_PROJECTIONS;
    }
    double error = fmax(sqrt(mean_square), fabs(sqrt(have) - norm));
    for (size_t k = 0; k < GOLDEN_SAMPLES; k++) {
        uint64_t at = (golden_hash(h, GOLDEN_SAMPLE_AT + k) >> 11) % count;
        error = fmax(error, fabs(v[at] - json_number_value(json_array_get(json_object_get(sketch, "at"), k))));
    }
    return error / fmax(norm, 1e-300);
}

static inline int golden_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts `error` (n > 0) and gives its median and maximum. */
static inline void golden_spread(double *error, size_t n, double *median, double *max)
{
    qsort(error, n, sizeof *error, golden_compare);
    *median = error[n / 2];
    *max = error[n - 1];
}
#endif
