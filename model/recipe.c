#include "model/recipe.h"
#include "base/file.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct rm_embedded { const char *name, *text; } recipes_embedded[];

/* ---- the table: parser, range check, printer and echo read it */
typedef enum kind {
    KIND_WORD,   /* char[]: letters, digits and . _ - only; it names files */
    KIND_TEXT,   /* char[] */
    KIND_CHOICE, /* char[], one of `choices` */
    KIND_INT, KIND_INT_CHOICE, KIND_DOUBLE, KIND_DOUBLE3, KIND_BOOL
} kind;

typedef struct row {
    const char *key;
    kind        kind;
    size_t      offset, size;
    double      min, max;       /* numbers, inclusive */
    const char *choices;        /* "a|b|c" */
    const char *help;
} row;

#define AT(field, kind_of) .key = #field, .kind = kind_of, .offset = offsetof(rm_recipe, field), .size = sizeof((rm_recipe *)0)->field
static const row rows[] = {
    { AT(name, KIND_WORD), .help = "name of the recipe and of its checkpoints" },
    { AT(summary, KIND_TEXT), .help = "what it trains, in a line" },
    { AT(depth, KIND_INT_CHOICE), .choices = "50|101|152", .help = "layers of the ResNet" },
    { AT(variant, KIND_CHOICE), .choices = "v1|v1.5", .help = "where a block strides: first 1x1 (v1) or 3x3 (v1.5)" },
    { AT(px, KIND_INT), .min = 8, .max = 4096, .help = "side of the training crop in pixels" },
    { AT(eval_px, KIND_INT), .min = 8, .max = 4096, .help = "side of the centre crop in evaluation" },
    { AT(eval_resize, KIND_INT), .min = 8, .max = 8192, .help = "shorter side before the centre crop" },
    { AT(batch, KIND_INT), .min = 1, .max = 65536, .help = "images per device and step" },
    { AT(global_batch, KIND_INT), .min = 1, .max = 16777216, .help = "images per step of all devices that lr is meant for" },
    { AT(epochs, KIND_DOUBLE), .min = 0, .max = 100000, .help = "passes over the training images; may be a fraction" },
    { AT(optimizer, KIND_CHOICE), .choices = "sgd|lars", .help = "update rule" },
    { AT(lr, KIND_DOUBLE), .min = 0, .max = 1000, .help = "peak learning rate, at global_batch" },
    { AT(lr_scale, KIND_BOOL), .help = "scale the learning rate in proportion to the actual global batch" },
    { AT(warmup_epochs, KIND_DOUBLE), .min = 0, .max = 100000, .help = "linear warm-up, stepped per iteration" },
    { AT(warmup_start_lr, KIND_DOUBLE), .min = 0, .max = 1000, .help = "learning rate that the warm-up starts from" },
    { AT(schedule, KIND_CHOICE), .choices = "constant|step|linear|cosine|ms-cosine|poly", .help = "learning rate after the warm-up" },
    { AT(lr_end, KIND_DOUBLE), .min = 0, .max = 1000, .help = "learning rate at the end (linear, cosine, poly)" },
    { AT(poly_power, KIND_DOUBLE), .min = 0, .max = 16, .help = "exponent of poly" },
    { AT(step_gamma, KIND_DOUBLE), .min = 0, .max = 1, .help = "factor of step" },
    { AT(step_epochs, KIND_INT), .min = 1, .max = 100000, .help = "epochs between two factors of step" },
    { AT(momentum, KIND_DOUBLE), .min = 0, .max = 1, .help = "momentum of sgd and lars" },
    { AT(nesterov, KIND_BOOL), .help = "Nesterov's momentum" },
    { AT(weight_decay, KIND_DOUBLE), .min = 0, .max = 1, .help = "L2 term, added to the gradient" },
    { AT(decay_bn, KIND_BOOL), .help = "decay gamma and beta of batch norms too" },
    { AT(decay_bias, KIND_BOOL), .help = "decay fc.bias too" },
    { AT(lars_eta, KIND_DOUBLE), .min = 0, .max = 1, .help = "trust coefficient of lars" },
    { AT(label_smoothing, KIND_DOUBLE), .min = 0, .max = 1, .help = "share of the target spread over all classes" },
    { AT(loss_scale, KIND_DOUBLE), .min = 1.0 / 65536, .max = 16777216, .help = "static factor on the loss, undone before the update" },
    { AT(accumulate, KIND_INT), .min = 1, .max = 65536, .help = "micro-batches per optimiser step" },
    { AT(bn_eps, KIND_DOUBLE), .min = 0, .max = 1, .help = "epsilon of batch norms" },
    { AT(bn_momentum, KIND_DOUBLE), .min = 0, .max = 1, .help = "weight of the newest batch in running statistics" },
    { AT(bn_biased, KIND_BOOL), .help = "running variance takes the biased batch variance" },
    { AT(bn_frozen, KIND_BOOL), .help = "batch norms use their running statistics in training too, and leave them as they are" },
    { AT(zero_init_last_gamma, KIND_BOOL), .help = "last batch norm of each block starts at gamma 0" },
    { AT(init, KIND_CHOICE), .choices = "he-fan-in|he-fan-out|trunc-normal", .help = "initial weights of convolutions" },
    { AT(crop_scale_min, KIND_DOUBLE), .min = 0, .max = 1, .help = "random crop: smallest share of the area" },
    { AT(crop_scale_max, KIND_DOUBLE), .min = 0, .max = 1, .help = "random crop: largest share of the area" },
    { AT(crop_ratio_min, KIND_DOUBLE), .min = 0.01, .max = 100, .help = "random crop: smallest width / height" },
    { AT(crop_ratio_max, KIND_DOUBLE), .min = 0.01, .max = 100, .help = "random crop: largest width / height" },
    { AT(flip, KIND_BOOL), .help = "mirror every second image at random" },
    { AT(mean, KIND_DOUBLE3), .min = 0, .max = 1, .help = "subtracted from red, green, blue (0..1)" },
    { AT(std, KIND_DOUBLE3), .min = 1e-6, .max = 100, .help = "divides red, green, blue" },
    { AT(eval_every, KIND_INT), .min = 0, .max = 100000, .help = "epochs between evaluations; 0: at the end" },
    { AT(target_top1, KIND_DOUBLE), .min = 0, .max = 100, .help = "top-1 percent that counts as reached; 0: none" },
    { AT(split, KIND_TEXT), .help = "all-reduce split" },
    { AT(progressive, KIND_TEXT), .help = "stages PXxEPOCHS of growing image size; empty: off" },
    { AT(published_top1, KIND_DOUBLE), .min = 0, .max = 100, .help = "published top-1 percent; 0: none" },
    { AT(source, KIND_TEXT), .help = "where the published figure comes from" },
};
#undef AT

static const row *find_row(const char *key)
{
    for (size_t i = 0; i < RM_COUNT(rows); i++)
        if (!strcmp(rows[i].key, key)) return &rows[i];
    return NULL;
}

static bool in_choices(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (const char *c = choices; n && c && !strchr(value, '|'); c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
        if (!strncmp(c, value, n) && (c[n] == '|' || !c[n])) return true;
    return false;
}

/* ---- values from text; `why` says what was expected */
enum { WHY = 160 };
static bool parse_number(const char **at, double *out)
{
    char *end;
    const char *p = *at;
    *out = strtod(p, &end);
    /* strtod() would also take blanks before the number, inf, nan and hexadecimal. */
    if (end == p || strspn(p, "0123456789+-.eE") < (size_t)(end - p) || !isfinite(*out)) return false;
    *at = end;
    return true;
}

/* "0.1", "1e-4" or a fraction "1/32768". */
static bool parse_fraction(const char **at, double *out)
{
    double below;
    if (!parse_number(at, out)) return false;
    if (**at != '/') return true;
    (*at)++;
    if (!parse_number(at, &below) || below == 0) return false;
    *out /= below;
    return true;
}

static bool in_range(const row *r, double v, char why[WHY])
{
    if (v >= r->min && v <= r->max) return true;
    snprintf(why, WHY, "expected %.9g to %.9g", r->min, r->max);
    return false;
}

static bool set_doubles(const row *r, const char *value, double *out, size_t n, char why[WHY])
{
    double v[3];
    const char *p = value;
    for (size_t i = 0; i < n; i++) {
        while (i && isspace((unsigned char)*p)) p++;
        if (!parse_fraction(&p, &v[i]) || (*p && !isspace((unsigned char)*p))) break;
        if (!in_range(r, v[i], why)) return false;
        if (i + 1 < n || *p) continue;
        memcpy(out, v, n * sizeof *v);
        return true;
    }
    snprintf(why, WHY, n == 1 ? "expected a number" : "expected three numbers");
    return false;
}

static bool set_int(const row *r, const char *value, int32_t *out, char why[WHY])
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno || isspace((unsigned char)value[0])) {
        snprintf(why, WHY, "expected a whole number");
        return false;
    }
    if (!in_range(r, (double)v, why)) return false;
    *out = (int32_t)v;
    return true;
}

static bool set_bool(const char *value, bool *out, char why[WHY])
{
    static const struct { const char *word; bool value; } words[] = { { "true", true },   { "false", false }, { "yes", true }, { "no", false },
                                                                      { "on", true },     { "off", false },   { "1", true },   { "0", false } };
    for (size_t i = 0; i < RM_COUNT(words); i++) {
        if (strcmp(value, words[i].word)) continue;
        *out = words[i].value;
        return true;
    }
    snprintf(why, WHY, "expected true or false");
    return false;
}

static bool set_text(const row *r, const char *value, char *out, char why[WHY])
{
    size_t n = strlen(value);
    if (n >= r->size) {
        snprintf(why, WHY, "expected at most %zu characters", r->size - 1);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)value[i];
        bool good = r->kind == KIND_WORD ? isalnum(c) || (i && strchr("._-", c)) : c >= ' ' && c != 127 && c != '#';
        if (good) continue;
        snprintf(why, WHY, r->kind == KIND_WORD ? "expected letters, digits, and . _ - after the first" : "expected plain text without #");
        return false;
    }
    memset(out, 0, r->size);
    memcpy(out, value, n);
    return true;
}

static bool set_row(const row *r, rm_recipe *recipe, const char *value, char why[WHY])
{
    void *at = (char *)recipe + r->offset;
    if ((r->kind == KIND_CHOICE || r->kind == KIND_INT_CHOICE) && !in_choices(r->choices, value)) {
        snprintf(why, WHY, "expected %s", r->choices);
        return false;
    }
    switch (r->kind) {
    case KIND_WORD: case KIND_TEXT: case KIND_CHOICE: return set_text(r, value, at, why);
    case KIND_INT: return set_int(r, value, at, why);
    case KIND_INT_CHOICE: *(int32_t *)at = atoi(value); return true;
    case KIND_DOUBLE: return set_doubles(r, value, at, 1, why);
    case KIND_DOUBLE3: return set_doubles(r, value, at, 3, why);
    case KIND_BOOL: return set_bool(value, at, why);
    }
    RM_BUG("recipe row of unknown kind");
}

rm_status rm_recipe_set(rm_recipe *r, const char *key, const char *value)
{
    char why[WHY];
    const row *w = find_row(key);
    if (!w) return rm_fail(RM_E_ARG, "recipe: unknown key %.60s; see docs/recipes.md", key);
    if (!set_row(w, r, value, why)) return rm_fail(RM_E_ARG, "recipe: %s = %.60s: %s", key, value, why);
    return RM_OK;
}

/* ---- values to text: the shortest that reads back as the same number */
static int print_double(char *out, size_t size, double v)
{
    int n = 0;
    for (int digits = 6; digits <= 17; digits++) {
        n = snprintf(out, size, "%.*g", digits, v);
        if (strtod(out, NULL) == v) break;
    }
    return n;
}

static void print_row(const row *w, const rm_recipe *r, char *out, size_t size)
{
    const void *at = (const char *)r + w->offset;
    const double *d = at;
    int n = 0;
    switch (w->kind) {
    case KIND_WORD: case KIND_TEXT: case KIND_CHOICE: snprintf(out, size, "%s", (const char *)at); break;
    case KIND_INT: case KIND_INT_CHOICE: snprintf(out, size, "%d", *(const int32_t *)at); break;
    case KIND_BOOL: snprintf(out, size, "%s", *(const bool *)at ? "true" : "false"); break;
    case KIND_DOUBLE: print_double(out, size, *d); break;
    case KIND_DOUBLE3:
        for (int i = 0; i < 3; i++) {
            if (i) out[n++] = ' ';
            n += print_double(out + n, size - (size_t)n, d[i]);
        }
        break;
    }
}

void rm_recipe_each(const rm_recipe *r, void (*fn)(void *ctx, const char *key, const char *value, const char *help), void *ctx)
{
    char value[192];
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        print_row(&rows[i], r, value, sizeof value);
        fn(ctx, rows[i].key, value, rows[i].help);
    }
}

/* ---- defaults, and what several keys say together */
void rm_recipe_defaults(rm_recipe *r)
{
    *r = (rm_recipe){
        .depth = 50, .variant = "v1.5", .px = 224, .eval_px = 224, .eval_resize = 256, .batch = 32, .global_batch = 256, .epochs = 90,
        .optimizer = "sgd", .lr = 0.1, .schedule = "cosine", .poly_power = 2, .step_gamma = 0.1, .step_epochs = 30,
        .momentum = 0.9, .weight_decay = 1e-4, .decay_bias = true, .lars_eta = 0.001, .loss_scale = 1, .accumulate = 1,
        .bn_eps = 1e-5, .bn_momentum = 0.1, .init = "he-fan-in",
        .crop_scale_min = 0.08, .crop_scale_max = 1, .crop_ratio_min = 3.0 / 4, .crop_ratio_max = 4.0 / 3, .flip = true,
        .mean = { 0.485, 0.456, 0.406 }, .std = { 0.229, 0.224, 0.225 }, .eval_every = 1, .split = "single",
    };
}

rm_status rm_recipe_check(const rm_recipe *r)
{
    int32_t px[RM_RECIPE_STAGES];
    double epochs[RM_RECIPE_STAGES];
    uint32_t n;
    const struct { bool bad; const char *what; } rules[] = {
        { r->eval_resize < r->eval_px, "eval_resize is smaller than eval_px" },
        { r->crop_scale_min > r->crop_scale_max, "crop_scale_min is larger than crop_scale_max" },
        { r->crop_scale_max <= 0, "crop_scale_max is 0" },
        { r->crop_ratio_min > r->crop_ratio_max, "crop_ratio_min is larger than crop_ratio_max" },
        { r->nesterov && r->momentum == 0, "nesterov needs a momentum" },
        { r->nesterov && !strcmp(r->optimizer, "lars"), "lars has no nesterov momentum" },
    };
    for (size_t i = 0; i < RM_COUNT(rules); i++)
        if (rules[i].bad) return rm_fail(RM_E_ARG, "recipe %s: %s", r->name, rules[i].what);
    return rm_recipe_stages(r, px, epochs, &n);
}

rm_status rm_recipe_stages(const rm_recipe *r, int32_t *px, double *epochs, uint32_t *n)
{
    uint32_t count = 0;
    int32_t side[RM_RECIPE_STAGES];
    double length[RM_RECIPE_STAGES];
    const char *p = r->progressive + strspn(r->progressive, " ");
    while (*p) {
        char *end;
        if (count == RM_RECIPE_STAGES) return rm_fail(RM_E_ARG, "recipe %s: progressive = %s: at most %d stages", r->name, r->progressive, RM_RECIPE_STAGES);
        long v = isdigit((unsigned char)*p) ? strtol(p, &end, 10) : 0;
        if (v < 8 || v > 4096 || *end != 'x') goto bad;
        p = end + 1;
        if (!parse_fraction(&p, &length[count]) || !(length[count] > 0 && length[count] <= 100000) || (*p && *p != ' ')) goto bad;
        side[count++] = (int32_t)v;
        p += strspn(p, " ");
    }
    memcpy(px, side, count * sizeof *px);
    memcpy(epochs, length, count * sizeof *epochs);
    *n = count;
    return RM_OK;
bad:
    return rm_fail(RM_E_ARG, "recipe %s: progressive = %s: expected PXxEPOCHS (\"16x1 32x0.5\"), 8 to 4096 px, epochs above 0", r->name, r->progressive);
}

/* ---- files */
static char *trim(char *s)
{
    while (isspace((unsigned char)*s)) s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1])) s[--n] = 0;
    return s;
}

static rm_status parse_line(char *line, const char *where, int number, bool seen[RM_COUNT(rows)], rm_recipe *r)
{
    char why[WHY];
    char *comment = strchr(line, '#');
    if (comment) *comment = 0;
    char *key = trim(line), *eq = strchr(key, '=');
    if (!*key) return RM_OK;
    if (!eq) return rm_fail(RM_E_FORMAT, "%s:%d: expected key = value, not %.60s", where, number, key);
    *eq = 0;
    key = trim(key);
    const char *value = trim(eq + 1);
    const row *w = find_row(key);
    if (!w) return rm_fail(RM_E_FORMAT, "%s:%d: unknown key %.60s; see docs/recipes.md", where, number, key);
    if (seen[w - rows]) return rm_fail(RM_E_FORMAT, "%s:%d: %s is given twice", where, number, key);
    if (!set_row(w, r, value, why)) return rm_fail(RM_E_FORMAT, "%s:%d: %s = %.60s: %s", where, number, key, value, why);
    seen[w - rows] = true;
    return RM_OK;
}

rm_status rm_recipe_parse(const char *text, size_t bytes, const char *where, rm_recipe *out_recipe)
{
    rm_recipe r;
    bool seen[RM_COUNT(rows)] = { false };
    rm_recipe_defaults(&r);
    if (memchr(text, 0, bytes)) return rm_fail(RM_E_FORMAT, "%s: not a text file", where);
    const char *p = text, *end = text + bytes;
    for (int number = 1; p < end; number++) {
        char line[512];
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        if (n >= sizeof line) return rm_fail(RM_E_FORMAT, "%s:%d: the line is too long", where, number);
        memcpy(line, p, n);
        line[n] = 0;
        RM_TRY(parse_line(line, where, number, seen, &r));
        p += n + 1;
    }
    if (rm_recipe_check(&r) != RM_OK) return rm_fail(RM_E_FORMAT, "%s: %s", where, rm_last_error());
    *out_recipe = r;
    return RM_OK;
}

static rm_status load_file(const char *path, rm_recipe *out)
{
    char *text = NULL;
    size_t n = 0;
    RM_TRY(rm_file_load(path, 1 << 16, &text, &n));
    const rm_status st = rm_recipe_parse(text, n, path, out);
    free(text);
    return st;
}

static bool is_path(const char *name)
{
    size_t n = strlen(name), m = strlen(".recipe");
    return strchr(name, '/') || (n > m && !strcmp(name + n - m, ".recipe"));
}

static void name_after(const char *path, rm_recipe *r)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = 0;
    if (r->name[0]) return;
    for (; base[n] && strcmp(base + n, ".recipe") && n + 1 < sizeof r->name; n++)
        r->name[n] = isalnum((unsigned char)base[n]) || (n && strchr("._-", base[n])) ? base[n] : 'x';
    r->name[n] = 0;
}

/* The embedded files without their suffix, made once. */
enum { MOST_NAMES = 32 };
static struct { pthread_once_t once; char text[MOST_NAMES][64]; const char *list[MOST_NAMES + 1]; } builtin = { .once = PTHREAD_ONCE_INIT };

static void make_names(void)
{
    for (size_t i = 0; recipes_embedded[i].name; i++) {
        RM_ASSERT(i < MOST_NAMES);
        snprintf(builtin.text[i], sizeof builtin.text[i], "%.*s", (int)strcspn(recipes_embedded[i].name, "."), recipes_embedded[i].name);
        builtin.list[i] = builtin.text[i];
    }
}

const char *const *rm_recipe_names(void)
{
    pthread_once(&builtin.once, make_names);
    return builtin.list;
}

static rm_status load_file_named(const char *path, rm_recipe *out)
{
    rm_recipe r;
    RM_TRY(load_file(path, &r));
    name_after(path, &r);
    *out = r;
    return RM_OK;
}

rm_status rm_recipe_load(const char *name_or_path, rm_recipe *out_recipe)
{
    rm_recipe r;
    char known[512] = "";
    const char *const *names = rm_recipe_names();
    if (is_path(name_or_path)) return load_file_named(name_or_path, out_recipe);
    for (size_t i = 0; names[i]; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "", names[i]);
        if (strcmp(name_or_path, names[i])) continue;
        const struct rm_embedded *e = &recipes_embedded[i];
        RM_TRY(rm_recipe_parse(e->text, strlen(e->text), e->name, &r));
        name_after(e->name, &r);
        *out_recipe = r;
        return RM_OK;
    }
    return rm_fail(RM_E_ARG, "no recipe %.60s; there are %s, or give a path that ends in .recipe", name_or_path, known);
}
