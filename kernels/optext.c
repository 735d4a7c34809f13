/* The text form of ops: one table of keys, used by the parser and the printer alike. A line is read into a flat record
 * of keys, and the record becomes the op; printing goes the same way back. */
#include "kernels/op.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWN = -1 };  /* a type or layout that follows from the others */

typedef struct record {
    int32_t n, c, h, w, o, k, s, p;
    int32_t relu, add, dy2, training, unbiased, nesterov;
    int32_t dtype, wdtype, to, xl, wl, yl, rule, segments, count;
    double eps, momentum, smoothing, scale, mean[3], std[3];
} record;

typedef enum kind { INT, FLAG, REAL, REAL3, DTYPE, LAYOUT, RULE } kind;
enum { CONV = 1u << RM_OP_CONV | 1u << RM_OP_CONV_BWD_DATA | 1u << RM_OP_CONV_BWD_WEIGHTS,
       FC = 1u << RM_OP_FC | 1u << RM_OP_FC_BWD_DATA | 1u << RM_OP_FC_BWD_WEIGHTS,
       BN = 1u << RM_OP_BN | 1u << RM_OP_BN_BWD, POOL = 1u << RM_OP_MAXPOOL | 1u << RM_OP_MAXPOOL_BWD,
       XENT = 1u << RM_OP_SOFTMAX_XENT, OPTIM = 1u << RM_OP_OPTIM, REORDER = 1u << RM_OP_REORDER, AUGMENT = 1u << RM_OP_AUGMENT,
       TENSOR = ((1u << RM_OPCODE_COUNT) - 1u) & ~(unsigned)OPTIM, FLAT = FC | XENT };

/* preset NULL: must be given. Every opcode of `ops` knows the key. */
static const struct key { const char *name; kind kind; uint32_t ops; size_t at; const char *preset; int64_t low, high; } keys[] = {
#define AT(f) offsetof(record, f)
    { "n", INT, TENSOR, AT(n), NULL, 1, 1 << 24 },
    { "c", INT, TENSOR & ~AUGMENT, AT(c), NULL, 1, 1 << 24 },
    { "c", INT, AUGMENT, AT(c), "3", 3, 3 },
    { "h", INT, TENSOR & ~FLAT, AT(h), NULL, 1, 1 << 24 },
    { "w", INT, TENSOR & ~FLAT, AT(w), NULL, 1, 1 << 24 },
    { "h", INT, FLAT, AT(h), "1", 1, 1 },
    { "w", INT, FLAT, AT(w), "1", 1, 1 },
    { "o", INT, CONV | FC, AT(o), NULL, 1, 1 << 24 },
    { "k", INT, CONV | POOL, AT(k), NULL, 1, 1 << 12 },
    { "s", INT, CONV | POOL, AT(s), "1", 1, 1 << 12 },
    { "p", INT, CONV | POOL, AT(p), "0", 0, 1 << 12 },
    { "relu", FLAG, BN, AT(relu), "0", 0, 1 },
    { "add", FLAG, BN, AT(add), "0", 0, 1 },
    { "dy2", FLAG, 1u << RM_OP_BN_BWD | 1u << RM_OP_RELU_BWD, AT(dy2), "0", 0, 1 },
    { "training", FLAG, BN, AT(training), "1", 0, 1 },
    { "unbiased", FLAG, BN, AT(unbiased), "1", 0, 1 },
    { "eps", REAL, BN, AT(eps), "1e-05", 0, 0 },
    { "momentum", REAL, BN, AT(momentum), "0.1", 0, 0 },
    { "smoothing", REAL, XENT, AT(smoothing), "0", 0, 0 },
    { "scale", REAL, XENT, AT(scale), "1", 0, 0 },
    { "count", INT, OPTIM, AT(count), NULL, 1, INT32_MAX },
    { "rule", RULE, OPTIM, AT(rule), "sgd", 0, 0 },
    { "segments", INT, OPTIM, AT(segments), "1", 1, 1 << 24 },
    { "nesterov", FLAG, OPTIM, AT(nesterov), "0", 0, 1 },
    { "mean", REAL3, AUGMENT, AT(mean), "0.485,0.456,0.406", 0, 0 },
    { "std", REAL3, AUGMENT, AT(std), "0.229,0.224,0.225", 0, 0 },
    { "xl", LAYOUT, TENSOR, AT(xl), "own", 0, 0 },
    { "wl", LAYOUT, CONV | FC, AT(wl), "own", 0, 0 },
    { "yl", LAYOUT, TENSOR, AT(yl), "own", 0, 0 },
    { "dtype", DTYPE, TENSOR | OPTIM, AT(dtype), "f32", 0, 0 },
    { "wdtype", DTYPE, CONV | FC, AT(wdtype), "own", 0, 0 },
    { "to", DTYPE, TENSOR & ~AUGMENT, AT(to), "own", 0, 0 },
#undef AT
};
static const char *const rule_names[] = { [RM_SGD] = "sgd", [RM_LARS] = "lars" };
static const char *const layout_names[] = { [RM_LAYOUT_ANY] = "any", [RM_LAYOUT_NCHW] = "nchw", [RM_LAYOUT_NHWC] = "nhwc" };

/* ---- values */
static bool read_int(const char *text, int64_t low, int64_t high, int32_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < low || v > high) return false;
    *out = (int32_t)v;
    return true;
}

static bool read_reals(const char *text, int n, double *out)
{
    for (int i = 0; i < n; i++) {
        char *end;
        out[i] = strtod(text, &end);
        if (end == text || !isfinite(out[i]) || *end != (i + 1 < n ? ',' : '\0')) return false;
        text = end + 1;
    }
    return true;
}

static bool read_name(const char *text, const char *const *name, int n, int32_t *out)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(text, name[i])) { *out = i; return true; }
    return false;
}

static bool read_value(const struct key *key, const char *text, record *r)
{
    void *at = (char *)r + key->at;
    rm_dtype t;
    if ((key->kind == DTYPE || key->kind == LAYOUT) && !strcmp(text, "own") && key->preset && !strcmp(key->preset, "own")) {
        *(int32_t *)at = OWN;
        return true;
    }
    switch (key->kind) {
    case INT: case FLAG: return read_int(text, key->low, key->high, at);
    case REAL: return read_reals(text, 1, at);
    case REAL3: return read_reals(text, 3, at);
    case RULE: return read_name(text, rule_names, (int)RM_COUNT(rule_names), at);
    case LAYOUT: return read_name(text, layout_names, (int)RM_COUNT(layout_names), at) || read_int(text, RM_LAYOUT_PRIVATE, INT32_MAX, at);
    case DTYPE:
        if (rm_dtype_parse(text, &t) != RM_OK) return false;
        *(int32_t *)at = (int32_t)t;
        return true;
    }
    return false;
}

/* The fewest digits that read back as the same number. */
static void write_real(double v, char *text, size_t size)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, v);
        if (strtod(text, NULL) == v) return;
    }
}

static void write_reals(const double *v, int n, char *text, size_t size)
{
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        char one[32];
        write_real(v[i], one, sizeof one);
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "," : "", one);
    }
}

static void write_value(const struct key *key, const record *r, char *text, size_t size)
{
    const void *at = (const char *)r + key->at;
    int32_t v = *(const int32_t *)at;
    const double *f = at;
    switch (key->kind) {
    case INT: case FLAG: snprintf(text, size, "%d", v); break;
    case REAL: write_reals(f, 1, text, size); break;
    case REAL3: write_reals(f, 3, text, size); break;
    case RULE: snprintf(text, size, "%s", rule_names[v]); break;
    case DTYPE: snprintf(text, size, "%s", v == OWN ? "own" : rm_dtype_name((rm_dtype)v)); break;
    case LAYOUT:
        if (v == OWN) snprintf(text, size, "own");
        else if (v < (int32_t)RM_COUNT(layout_names)) snprintf(text, size, "%s", layout_names[v]);
        else snprintf(text, size, "%d", v);
        break;
    }
}

/* ---- record <-> op */
static int32_t own_layout(rm_opcode code, bool output)
{
    return code == RM_OP_REORDER ? RM_LAYOUT_NCHW : code == RM_OP_AUGMENT && !output ? RM_LAYOUT_NHWC : RM_LAYOUT_ANY;
}
static rm_dtype own_to(rm_opcode code, rm_dtype x)
{
    return 1u << code & FC ? (x == RM_F64 ? RM_F64 : RM_F32) : x;
}

static void params_from(const record *r, rm_op *op)
{
    uint32_t bit = 1u << op->code;
    if (bit & (CONV | POOL)) { op->u.win.k = r->k; op->u.win.stride = r->s; op->u.win.pad = r->p; }
    if (bit & BN) {
        op->u.bn.eps = r->eps; op->u.bn.momentum = r->momentum;
        op->u.bn.training = r->training; op->u.bn.relu = r->relu; op->u.bn.add = r->add; op->u.bn.unbiased = r->unbiased;
    }
    if (bit & XENT) { op->u.xent.label_smoothing = r->smoothing; op->u.xent.scale = r->scale; }
    if (bit & OPTIM) {
        op->u.optim.rule = (rm_optimizer)r->rule; op->u.optim.count = (uint64_t)r->count;
        op->u.optim.n_segment = (uint32_t)r->segments; op->u.optim.nesterov = r->nesterov;
    }
    if (bit & AUGMENT) { memcpy(op->u.augment.mean, r->mean, sizeof r->mean); memcpy(op->u.augment.std, r->std, sizeof r->std); }
    op->dy2 = r->dy2;
}

static void op_from(const record *r, rm_opcode code, rm_op *op)
{
    memset(op, 0, sizeof *op);
    op->code = code;
    params_from(r, op);
    if (code == RM_OP_OPTIM) { op->x.dtype = (rm_dtype)r->dtype; return; }
    rm_dtype t = (rm_dtype)r->dtype;
    op->x = (rm_tdesc){ { r->n, r->c, r->h, r->w }, code == RM_OP_AUGMENT ? RM_U8 : t, r->xl == OWN ? own_layout(code, false) : r->xl };
    op->y = (rm_tdesc){ { 1, 1, 1, 1 }, r->to == OWN ? own_to(code, t) : (rm_dtype)r->to, r->yl == OWN ? own_layout(code, true) : r->yl };
    if (1u << code & (CONV | FC)) {
        int32_t k = 1u << code & CONV ? r->k : 1;
        op->w = (rm_tdesc){ { r->o, r->c, k, k }, r->wdtype == OWN ? t : (rm_dtype)r->wdtype, r->wl == OWN ? RM_LAYOUT_ANY : r->wl };
    }
}

static void record_from(const rm_op *op, record *r)
{
    uint32_t bit = 1u << op->code;
    bool augment = op->code == RM_OP_AUGMENT;
    *r = (record){ .n = op->x.shape.n, .c = op->x.shape.c, .h = op->x.shape.h, .w = op->x.shape.w, .o = op->w.shape.n, .dy2 = op->dy2,
                   .dtype = (int32_t)(augment ? op->y.dtype : op->x.dtype),
                   .wdtype = op->w.dtype == op->x.dtype ? OWN : (int32_t)op->w.dtype,
                   .to = op->y.dtype == own_to(op->code, op->x.dtype) ? OWN : (int32_t)op->y.dtype,
                   .xl = op->x.layout == own_layout(op->code, false) ? OWN : op->x.layout,
                   .yl = op->y.layout == own_layout(op->code, true) ? OWN : op->y.layout,
                   .wl = op->w.layout == RM_LAYOUT_ANY ? OWN : op->w.layout };
    if (bit & (CONV | POOL)) { r->k = op->u.win.k; r->s = op->u.win.stride; r->p = op->u.win.pad; }
    if (bit & BN) {
        r->eps = op->u.bn.eps; r->momentum = op->u.bn.momentum; r->training = op->u.bn.training;
        r->relu = op->u.bn.relu; r->add = op->u.bn.add; r->unbiased = op->u.bn.unbiased;
    }
    if (bit & XENT) { r->smoothing = op->u.xent.label_smoothing; r->scale = op->u.xent.scale; }
    if (bit & OPTIM) {
        r->rule = (int32_t)op->u.optim.rule; r->count = (int32_t)op->u.optim.count;
        r->segments = (int32_t)op->u.optim.n_segment; r->nesterov = op->u.optim.nesterov;
    }
    if (bit & AUGMENT) { memcpy(r->mean, op->u.augment.mean, sizeof r->mean); memcpy(r->std, op->u.augment.std, sizeof r->std); }
}

/* ---- lines */
static const struct key *find_key(rm_opcode code, const char *name)
{
    for (size_t i = 0; i < RM_COUNT(keys); i++)
        if (1u << code & keys[i].ops && !strcmp(keys[i].name, name)) return &keys[i];
    return NULL;
}

static rm_status read_word(rm_opcode code, char *word, uint64_t *seen, record *r)
{
    char *value = strchr(word, '=');
    if (value) *value++ = '\0';
    const struct key *key = find_key(code, word);
    if (!key) return rm_fail(RM_E_FORMAT, "%s: unknown word \"%.40s\"", rm_opcode_name(code), word);
    uint64_t bit = UINT64_C(1) << (key - keys);
    if (*seen & bit) return rm_fail(RM_E_FORMAT, "%s: \"%s\" is given twice", rm_opcode_name(code), word);
    *seen |= bit;
    if (!value || !read_value(key, value, r))
        return rm_fail(RM_E_FORMAT, "%s: \"%s=%.40s\" is no possible value", rm_opcode_name(code), word, value ? value : "");
    return RM_OK;
}

static rm_status preset_rest(rm_opcode code, uint64_t seen, record *r)
{
    for (size_t i = 0; i < RM_COUNT(keys); i++) {
        if (!(1u << code & keys[i].ops) || seen >> i & 1) continue;
        if (!keys[i].preset) return rm_fail(RM_E_FORMAT, "%s: \"%s=\" is missing", rm_opcode_name(code), keys[i].name);
        RM_ASSERT(read_value(&keys[i], keys[i].preset, r));
    }
    return RM_OK;
}

rm_status rm_op_parse(const char *text, rm_op *out_op)
{
    char line[512], *state = NULL;
    if (strlen(text) >= sizeof line) return rm_fail(RM_E_FORMAT, "op text is longer than %zu characters: \"%.40s...\"", sizeof line - 1, text);
    memcpy(line, text, strlen(text) + 1);
    const char *blank = " \t\r\n";
    char *word = strtok_r(line, blank, &state);
    if (!word) return rm_fail(RM_E_FORMAT, "op text is empty; say for example: relu n=1 c=8 h=4 w=4");
    int code = 0;
    while (code < RM_OPCODE_COUNT && strcmp(word, rm_opcode_name((rm_opcode)code)) != 0) code++;
    if (code == RM_OPCODE_COUNT) return rm_fail(RM_E_FORMAT, "unknown op \"%.40s\"", word);
    record r = { .wdtype = OWN, .to = OWN, .xl = OWN, .wl = OWN, .yl = OWN };
    uint64_t seen = 0;
    while ((word = strtok_r(NULL, blank, &state))) RM_TRY(read_word((rm_opcode)code, word, &seen, &r));
    RM_TRY(preset_rest((rm_opcode)code, seen, &r));
    rm_op op;
    op_from(&r, (rm_opcode)code, &op);
    if (rm_op_complete(&op) != RM_OK) {
        char why[512];
        snprintf(why, sizeof why, "%s", rm_last_error());
        return rm_fail(RM_E_FORMAT, "%s", why);
    }
    *out_op = op;
    return RM_OK;
}

void rm_op_print(const rm_op *op, char *text, size_t text_size)
{
    record r;
    record_from(op, &r);
    size_t used = (size_t)snprintf(text, text_size, "%s", rm_opcode_name(op->code));
    for (size_t i = 0; i < RM_COUNT(keys) && used < text_size; i++) {
        char value[64];
        if (!(1u << op->code & keys[i].ops)) continue;
        write_value(&keys[i], &r, value, sizeof value);
        bool always = keys[i].kind == DTYPE && !strcmp(keys[i].name, "dtype");
        bool window = keys[i].kind == INT && 1u << op->code & CONV && strchr("sp", keys[i].name[0]) && !keys[i].name[1];
        if (keys[i].preset && !always && !window && !strcmp(keys[i].preset, value)) continue;
        used += (size_t)snprintf(text + used, text_size - used, " %s=%s", keys[i].name, value);
    }
}
