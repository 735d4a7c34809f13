/* Writer of safetensors files, and the atomic files that it writes to. */
#include "model/safetensors.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- atomic files */
rm_status st_out_open(const char *path, st_out *out)
{
    struct stat s;
    out->fd = -1;
    out->temporary[0] = 0;
    if (strlen(path) >= sizeof out->path) return rm_fail(RM_E_ARG, "%.60s...: the path is too long", path);
    /* A rename over /dev/null would replace it by a file. */
    if (!stat(path, &s) && !S_ISREG(s.st_mode)) return rm_fail(RM_E_ARG, "%s: exists and is not a regular file", path);
    snprintf(out->path, sizeof out->path, "%s", path);
    snprintf(out->temporary, sizeof out->temporary, "%s.%ld.tmp", path, (long)getpid());
    out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (out->fd >= 0) return RM_OK;
    rm_status st = rm_fail_errno("%s: cannot be written", path);
    out->temporary[0] = 0;
    return st;
}

rm_status st_out_put(st_out *o, const void *data, uint64_t bytes)
{
    const char *p = data;
    while (bytes) {
        size_t chunk = bytes < (1u << 30) ? (size_t)bytes : 1u << 30;
        ssize_t n = write(o->fd, p, chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return rm_fail_errno("%s: cannot be written", o->path);
        p += n;
        bytes -= (uint64_t)n;
    }
    return RM_OK;
}

rm_status st_out_finish(st_out *o)
{
    int failed = fsync(o->fd), e = errno;
    if (close(o->fd) && !failed) { failed = -1; e = errno; }
    o->fd = -1;
    errno = e;
    return failed ? rm_fail_errno("%s: cannot be written", o->path) : RM_OK;
}

static rm_status sync_folder(const char *path)
{
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? RM_OK : rm_fail_errno("%s: its folder cannot be synchronised", path); /* writable, not readable */
    int failed = fsync(fd), e = errno;
    close(fd);
    errno = e;
    if (failed && e != EINVAL && e != ENOTSUP) return rm_fail_errno("%s: its folder cannot be synchronised", path); /* some file systems cannot */
    return RM_OK;
}

rm_status st_out_commit(st_out *o, int n)
{
    for (int i = 0; i < n; i++) {
        if (rename(o[i].temporary, o[i].path)) return rm_fail_errno("%s: cannot be renamed to %s", o[i].temporary, o[i].path);
        o[i].temporary[0] = 0;
    }
    return sync_folder(o->path);
}

void st_out_abort(st_out *o)
{
    if (o->fd >= 0) close(o->fd);
    if (o->temporary[0]) unlink(o->temporary);
    o->fd = -1;
    o->temporary[0] = 0;
}

/* ---- header */
static rm_status add_entry(json_t *header, const rm_st_tensor *t, uint64_t begin)
{
    uint64_t bytes = 0;
    uint32_t bits = st_dtype_bits(t->dtype);
    if (!bits || t->n_dim < 0 || t->n_dim > RM_ST_MAX_DIMS || !st_tensor_bytes(bits, t->n_dim, t->dim, &bytes) || bytes != t->bytes)
        return rm_fail(RM_E_ARG, "tensor %s: type %s, shape and %llu bytes disagree", t->name, t->dtype, (unsigned long long)t->bytes);
    if (json_object_get(header, t->name) || !strcmp(t->name, ST_METADATA_KEY)) return rm_fail(RM_E_ARG, "tensor %s: the name is taken", t->name);
    json_t *shape = json_array();
    for (int32_t i = 0; i < t->n_dim; i++) json_array_append_new(shape, json_integer(t->dim[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->dtype, "shape", shape, "data_offsets", (json_int_t)begin, (json_int_t)(begin + bytes));
    if (!entry || json_object_set_new(header, t->name, entry)) return rm_fail(RM_E_ARG, "tensor %s: the name is not valid UTF-8, or memory ran out", t->name);
    return RM_OK;
}

static rm_status add_meta(json_t *header, const rm_st_meta *meta, uint32_t n)
{
    if (!n) return RM_OK;
    json_t *object = json_object();
    if (json_object_set_new(header, ST_METADATA_KEY, object)) return rm_fail(RM_E_NOMEM, "out of memory for a file's header");
    for (uint32_t i = 0; i < n; i++) {
        if (json_object_get(object, meta[i].key)) return rm_fail(RM_E_ARG, "metadata: %s is given twice", meta[i].key);
        if (json_object_set_new(object, meta[i].key, json_string(meta[i].value)))
            return rm_fail(RM_E_ARG, "metadata: %s is not valid UTF-8, or memory ran out", meta[i].key);
    }
    return RM_OK;
}

/* Wide types first, so that all data are aligned without the holes that the format forbids. Stable. */
static int by_width(const void *a, const void *b)
{
    const rm_st_tensor *x = *(const rm_st_tensor *const *)a, *y = *(const rm_st_tensor *const *)b;
    uint32_t p = st_dtype_bits(x->dtype), q = st_dtype_bits(y->dtype);
    if (p != q) return p > q ? -1 : 1;
    return x < y ? -1 : x > y;
}

static rm_status put_header(st_out *o, const json_t *header)
{
    rm_status st = RM_E_NOMEM;
    uint64_t length = 0;
    char *padded = NULL, *text = json_dumps(header, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;
    if (text) padded = malloc(n + 8);
    if (!padded) {
        st = rm_fail(RM_E_NOMEM, "%s: out of memory for the header", o->path);
        goto out;
    }
    memcpy(padded, text, n);
    memset(padded + n, ' ', 8);
    length = (n + 7) / 8 * 8;
    if (length > ST_MAX_HEADER_BYTES) {
        st = rm_fail(RM_E_ARG, "%s: names and metadata of %zu bytes are more than the format allows (%d)", o->path, n, ST_MAX_HEADER_BYTES);
        goto out;
    }
    RM_TRY_GOTO(st, st_out_put(o, &length, sizeof length), out);
    st = st_out_put(o, padded, length);
out:
    free(padded);
    free(text);
    return st;
}

rm_status st_put_file(st_out *o, const rm_st_tensor *tensor, uint32_t n, const rm_st_meta *meta, uint32_t n_meta)
{
    rm_status st = RM_OK;
    uint64_t at = 0;
    json_t *header = json_object();
    const rm_st_tensor **order = calloc((size_t)n + 1, sizeof *order);
    if (!header || !order) {
        st = rm_fail(RM_E_NOMEM, "%s: out of memory for the header", o->path);
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) order[i] = &tensor[i];
    qsort((void *)order, n, sizeof *order, by_width);
    RM_TRY_GOTO(st, add_meta(header, meta, n_meta), out);
    for (uint32_t i = 0; i < n; i++) {
        RM_TRY_GOTO(st, add_entry(header, order[i], at), out);
        at += order[i]->bytes;
    }
    RM_TRY_GOTO(st, put_header(o, header), out);
    for (uint32_t i = 0; i < n; i++) RM_TRY_GOTO(st, st_out_put(o, order[i]->data, order[i]->bytes), out);
out:
    free((void *)order);
    json_decref(header);
    return st;
}

rm_status rm_st_write(const char *path, const rm_st_tensor *tensor, uint32_t n, const rm_st_meta *meta, uint32_t n_meta)
{
    st_out o;
    rm_status st = RM_OK;
    RM_TRY(st_out_open(path, &o));
    RM_TRY_GOTO(st, st_put_file(&o, tensor, n, meta, n_meta), out);
    RM_TRY_GOTO(st, st_out_finish(&o), out);
    st = st_out_commit(&o, 1);
out:
    st_out_abort(&o);
    return st;
}
