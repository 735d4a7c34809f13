/* Reader of safetensors files. The rules are those of the reference implementation (huggingface/safetensors, tensor.rs,
 * Metadata::validate): data without holes or overlaps from the end of the header to the end of the file. Stricter than
 * it in one point: a key that occurs twice is refused, since it is not said which of the two counts. */
#include "model/safetensors.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data are little-endian and used in place");

struct rm_st_file {
    char         *path;
    void         *map;        /* NULL: the caller's memory */
    uint64_t      map_bytes;
    const uint8_t *data;      /* behind the header */
    uint64_t      data_bytes;
    json_t       *header;     /* owns names and metadata */
    rm_st_tensor *tensor;     /* in the order of their data */
    const rm_st_tensor **by_name;
    uint32_t      n;
    void        **copy;       /* per tensor: aligned copy of data that lie askew in the file, else NULL */
    rm_st_meta   *meta; uint32_t n_meta;
};

/* Names point to literals, so that they outlive every file. */
static const struct { const char *name; uint32_t bits; } dtypes[] = {
    { "BOOL", 8 }, { "U8", 8 }, { "I8", 8 }, { "F8_E5M2", 8 }, { "F8_E4M3", 8 }, { "F8_E8M0", 8 },
    { "F4", 4 }, { "F6_E2M3", 6 }, { "F6_E3M2", 6 }, { "I16", 16 }, { "U16", 16 }, { "F16", 16 }, { "BF16", 16 },
    { "I32", 32 }, { "U32", 32 }, { "F32", 32 }, { "F64", 64 }, { "I64", 64 }, { "U64", 64 }, { "C64", 64 },
};

static const char *dtype_find(const char *name, uint32_t *bits)
{
    for (size_t i = 0; i < RM_COUNT(dtypes); i++) {
        if (strcmp(name, dtypes[i].name)) continue;
        *bits = dtypes[i].bits;
        return dtypes[i].name;
    }
    return NULL;
}

uint32_t st_dtype_bits(const char *dtype)
{
    uint32_t bits = 0;
    return dtype_find(dtype, &bits) ? bits : 0;
}

bool st_tensor_bytes(uint32_t bits, int32_t n_dim, const int64_t *dim, uint64_t *out_bytes)
{
    uint64_t total = bits;
    for (int32_t i = 0; i < n_dim; i++)
        if (dim[i] < 0 || __builtin_mul_overflow(total, (uint64_t)dim[i], &total)) return false;
    if (total % 8) return false;
    *out_bytes = total / 8;
    return true;
}

/* ---- one entry of the header */
static rm_status bad_entry(const rm_st_file *f, const char *name, const char *why)
{
    return rm_fail(RM_E_FORMAT, "%s: tensor %.100s: %s; the file is damaged", f->path, name, why);
}

static rm_status parse_shape(const rm_st_file *f, const char *name, const json_t *shape, rm_st_tensor *t)
{
    if (!json_is_array(shape)) return bad_entry(f, name, "shape is not a list");
    size_t n = json_array_size(shape);
    if (n > RM_ST_MAX_DIMS)
        return rm_fail(RM_E_FORMAT, "%s: tensor %.100s has %zu dimensions; at most %d are supported", f->path, name, n, RM_ST_MAX_DIMS);
    t->n_dim = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0) return bad_entry(f, name, "a dimension is not a number >= 0");
        t->dim[i] = json_integer_value(d);
    }
    return RM_OK;
}

static rm_status parse_range(const rm_st_file *f, const char *name, const json_t *range, rm_st_tensor *t)
{
    const json_t *from = json_array_get(range, 0), *to = json_array_get(range, 1);
    if (!json_is_array(range) || json_array_size(range) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return bad_entry(f, name, "data_offsets are not two numbers");
    int64_t a = json_integer_value(from), b = json_integer_value(to);
    if (a < 0 || b < a) return bad_entry(f, name, "data_offsets are negative or run backwards");
    if ((uint64_t)b > f->data_bytes)
        return rm_fail(RM_E_FORMAT, "%s: tensor %.100s ends at byte %lld of %llu; the file is cut short or damaged", f->path, name,
                       (long long)b, (unsigned long long)f->data_bytes);
    t->data = f->data + a;
    t->bytes = (uint64_t)(b - a);
    return RM_OK;
}

static rm_status parse_tensor(const rm_st_file *f, const char *name, const json_t *entry, rm_st_tensor *out)
{
    rm_st_tensor t = { .name = name };
    uint32_t bits = 0;
    uint64_t bytes = 0;
    if (!json_is_object(entry)) return bad_entry(f, name, "it needs dtype, shape and data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return bad_entry(f, name, "it has no dtype");
    if (!(t.dtype = dtype_find(dtype, &bits)))
        return rm_fail(RM_E_FORMAT, "%s: tensor %.100s has the unknown type %.32s", f->path, name, dtype);
    RM_TRY(parse_shape(f, name, json_object_get(entry, "shape"), &t));
    RM_TRY(parse_range(f, name, json_object_get(entry, "data_offsets"), &t));
    if (!st_tensor_bytes(bits, t.n_dim, t.dim, &bytes)) return bad_entry(f, name, "its shape is impossible");
    if (bytes != t.bytes)
        return rm_fail(RM_E_FORMAT, "%s: tensor %.100s has %llu bytes of data, but its type and shape make %llu; the file is damaged", f->path, name,
                       (unsigned long long)t.bytes, (unsigned long long)bytes);
    *out = t;
    return RM_OK;
}

/* ---- the header as a whole */
static int by_data(const void *a, const void *b)
{
    const rm_st_tensor *x = a, *y = b;
    uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    if (p != q) return p < q ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty tensors first */
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const rm_st_tensor *const *)a)->name, (*(const rm_st_tensor *const *)b)->name);
}

static rm_status check_cover(const rm_st_file *f)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        uint64_t begin = (uint64_t)((const uint8_t *)f->tensor[i].data - f->data);
        if (begin != end) return bad_entry(f, f->tensor[i].name, begin < end ? "its data overlap another tensor's" : "there is a hole before its data");
        end = begin + f->tensor[i].bytes;
    }
    if (end == f->data_bytes) return RM_OK;
    return rm_fail(RM_E_FORMAT, "%s: %llu bytes after the last tensor; the file is damaged", f->path, (unsigned long long)(f->data_bytes - end));
}

static rm_status parse_meta(rm_st_file *f, json_t *meta)
{
    const char *key;
    json_t *value;
    if (meta && !json_is_object(meta)) return rm_fail(RM_E_FORMAT, "%s: " ST_METADATA_KEY " is not an object", f->path);
    f->meta = calloc(json_object_size(meta) + 1, sizeof *f->meta);
    if (!f->meta) return rm_fail(RM_E_NOMEM, "%s: out of memory for metadata", f->path);
    json_object_foreach(meta, key, value) {
        if (!json_is_string(value)) return rm_fail(RM_E_FORMAT, "%s: " ST_METADATA_KEY ": %.100s is not a string", f->path, key);
        f->meta[f->n_meta++] = (rm_st_meta){ key, json_string_value(value) };
    }
    return RM_OK;
}

/* Users read data through pointers of their type: what lies askew in the file is copied. Files whose writer did not pad
 * the header are rare, but right. */
static rm_status align_data(rm_st_file *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        rm_st_tensor *t = &f->tensor[i];
        uint32_t align = st_dtype_bits(t->dtype) / 8;
        if (align < 2 || (uintptr_t)t->data % align == 0) continue;
        if (!(f->copy[i] = malloc(t->bytes ? t->bytes : 1))) return rm_fail(RM_E_NOMEM, "%s: out of memory", f->path);
        memcpy(f->copy[i], t->data, t->bytes);
        t->data = f->copy[i];
    }
    return RM_OK;
}

static rm_status parse_entries(rm_st_file *f)
{
    const char *key;
    json_t *value;
    json_t *meta = json_object_get(f->header, ST_METADATA_KEY);
    RM_TRY(parse_meta(f, meta));
    size_t n = json_object_size(f->header) - (meta ? 1 : 0);
    f->tensor = calloc(n + 1, sizeof *f->tensor);
    f->by_name = calloc(n + 1, sizeof *f->by_name);
    f->copy = calloc(n + 1, sizeof *f->copy);
    if (!f->tensor || !f->by_name || !f->copy) return rm_fail(RM_E_NOMEM, "%s: out of memory for %zu tensors", f->path, n);
    json_object_foreach(f->header, key, value) {
        if (!strcmp(key, ST_METADATA_KEY)) continue;
        RM_TRY(parse_tensor(f, key, value, &f->tensor[f->n]));
        f->n++;
    }
    qsort(f->tensor, f->n, sizeof *f->tensor, by_data);
    RM_TRY(check_cover(f));
    for (uint32_t i = 0; i < f->n; i++) f->by_name[i] = &f->tensor[i];
    qsort(f->by_name, f->n, sizeof *f->by_name, by_name);
    return align_data(f);
}

static rm_status parse(rm_st_file *f, const uint8_t *bytes, uint64_t n)
{
    uint64_t length;
    if (n < ST_LENGTH_BYTES) return rm_fail(RM_E_FORMAT, "%s: %llu bytes are too few for a safetensors file", f->path, (unsigned long long)n);
    memcpy(&length, bytes, sizeof length);
    if (length > ST_MAX_HEADER_BYTES)
        return rm_fail(RM_E_FORMAT, "%s: not a safetensors file (a header of %llu bytes; at most %d are allowed)", f->path, (unsigned long long)length,
                       ST_MAX_HEADER_BYTES);
    if (length > n - ST_LENGTH_BYTES)
        return rm_fail(RM_E_FORMAT, "%s: the header of %llu bytes is longer than the file; it is cut short or not a safetensors file", f->path,
                       (unsigned long long)length);
    f->data = bytes + ST_LENGTH_BYTES + length;
    f->data_bytes = n - ST_LENGTH_BYTES - length;
    if (!length || bytes[ST_LENGTH_BYTES] != '{') return rm_fail(RM_E_FORMAT, "%s: not a safetensors file (no JSON header)", f->path);
    json_error_t e;
    f->header = json_loadb((const char *)bytes + ST_LENGTH_BYTES, length, JSON_REJECT_DUPLICATES, &e);
    if (!f->header) return rm_fail(RM_E_FORMAT, "%s: damaged header: %s at byte %d", f->path, e.text, e.position);
    return parse_entries(f);
}

rm_status rm_st_parse(const void *data, uint64_t bytes, const char *where, rm_st_file **out_file)
{
    rm_st_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(where))) {
        free(f);
        return rm_fail(RM_E_NOMEM, "%s: out of memory", where);
    }
    rm_status st = parse(f, data, bytes);
    if (st != RM_OK) {
        rm_st_close(f);
        return st;
    }
    *out_file = f;
    return RM_OK;
}

/* ---- files */
static rm_status map_file(const char *path, void **out_map, uint64_t *out_bytes)
{
    rm_status st = RM_OK;
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return rm_fail_errno("%s: cannot be opened", path);
    if (fstat(fd, &s)) st = rm_fail_errno("%s", path);
    else if (!S_ISREG(s.st_mode)) st = rm_fail(RM_E_FORMAT, "%s: %s, not a safetensors file", path, S_ISDIR(s.st_mode) ? "a folder" : "not a regular file");
    else if (s.st_size < ST_LENGTH_BYTES) st = rm_fail(RM_E_FORMAT, "%s: %lld bytes are too few for a safetensors file", path, (long long)s.st_size);
    if (st == RM_OK) {
        void *map = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) st = rm_fail_errno("%s: cannot be mapped", path);
        else {
            *out_map = map;
            *out_bytes = (uint64_t)s.st_size;
        }
    }
    close(fd);
    return st;
}

rm_status rm_st_open(const char *path, rm_st_file **out_file)
{
    void *map = NULL;
    uint64_t bytes = 0;
    rm_st_file *f = NULL;
    RM_TRY(map_file(path, &map, &bytes));
    rm_status st = rm_st_parse(map, bytes, path, &f);
    if (st != RM_OK) {
        munmap(map, (size_t)bytes);
        return st;
    }
    f->map = map;
    f->map_bytes = bytes;
    *out_file = f;
    return RM_OK;
}

void rm_st_close(rm_st_file *f)
{
    if (!f) return;
    for (uint32_t i = 0; f->copy && i < f->n; i++) free(f->copy[i]);
    free(f->copy);
    free((void *)f->by_name);
    free(f->tensor);
    free(f->meta);
    json_decref(f->header);
    if (f->map) munmap(f->map, (size_t)f->map_bytes);
    free(f->path);
    free(f);
}

uint32_t rm_st_count(const rm_st_file *f) { return f->n; }
const char *rm_st_path(const rm_st_file *f) { return f->path; }

const rm_st_tensor *rm_st_at(const rm_st_file *f, uint32_t i)
{
    RM_ASSERT(i < f->n);
    return &f->tensor[i];
}

const rm_st_tensor *rm_st_find(const rm_st_file *f, const char *name)
{
    uint32_t low = 0, high = f->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const rm_st_tensor *t = f->by_name[mid];
        int order = strcmp(name, t->name);
        if (!order) return t;
        if (order < 0) high = mid;
        else low = mid + 1;
    }
    return NULL;
}

const char *rm_st_metadata(const rm_st_file *f, const char *key)
{
    for (uint32_t i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta[i].key, key)) return f->meta[i].value;
    return NULL;
}

const rm_st_meta *st_meta(const rm_st_file *f, uint32_t *n)
{
    *n = f->n_meta;
    return f->meta;
}

static const char *shape_text(int32_t n_dim, const int64_t *dim, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "(");
    for (int32_t i = 0; i < n_dim && at < size; i++) at += (size_t)snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (at < size) snprintf(text + at, size - at, ")");
    return text;
}

rm_status rm_st_need(const rm_st_file *f, const char *name, const char *dtype, int32_t n_dim, const int64_t *dim, const rm_st_tensor **out_tensor)
{
    char want[200], have[200];
    const rm_st_tensor *t = rm_st_find(f, name);
    if (!t) return rm_fail(RM_E_FORMAT, "%s: tensor %s is missing", f->path, name);
    if (dtype && strcmp(dtype, t->dtype)) return rm_fail(RM_E_FORMAT, "%s: tensor %s is of type %s, expected %s", f->path, name, t->dtype, dtype);
    if (t->n_dim != n_dim || (n_dim && memcmp(t->dim, dim, (size_t)n_dim * sizeof *dim)))
        return rm_fail(RM_E_FORMAT, "%s: tensor %s has shape %s, expected %s", f->path, name, shape_text(t->n_dim, t->dim, have, sizeof have),
                       shape_text(n_dim, dim, want, sizeof want));
    *out_tensor = t;
    return RM_OK;
}
