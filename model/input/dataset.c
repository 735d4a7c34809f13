/* DIR/train/<class>/<file> and DIR/val/<class>/<file>: scanning, order, and what is wrong with a folder. */
#include "model/input/dataset.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const rm_part_name[2] = { "train", "val" };

/* ---- memory */

rm_status rm_names_add(rm_names *n, const char *text, uint64_t *out_offset)
{
    const size_t bytes = strlen(text) + 1;
    if (n->bytes + bytes > n->cap) {
        const size_t cap = 2 * n->cap + bytes + 4096;
        char *fresh = realloc(n->text, cap);
        if (!fresh) return rm_fail(RM_E_NOMEM, "out of memory for the names of the images");
        n->text = fresh;
        n->cap = cap;
    }
    memcpy(n->text + n->bytes, text, bytes);
    *out_offset = n->bytes;
    n->bytes += bytes;
    return RM_OK;
}

rm_status rm_sample_add(rm_sample_list *l, const rm_sample *s)
{
    if (l->n == UINT32_MAX) return rm_fail(RM_E_ARG, "more than %u images", UINT32_MAX);
    if (l->n == l->cap) {
        const uint32_t cap = l->cap > UINT32_MAX / 2 ? UINT32_MAX : 2 * l->cap + 1024;
        rm_sample *fresh = realloc(l->sample, cap * sizeof *fresh);
        if (!fresh) return rm_fail(RM_E_NOMEM, "out of memory for the list of %u images", cap);
        l->sample = fresh;
        l->cap = cap;
    }
    l->sample[l->n++] = *s;
    return RM_OK;
}

uint64_t rm_fnv1a(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

/* ---- one directory, sorted bytewise */

typedef struct listing { char **name; size_t n; } listing;

static void listing_free(listing *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->name[i]);
    free(l->name);
    *l = (listing){ 0 };
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static rm_status listing_add(listing *l, const char *name)
{
    if ((l->n & (l->n - 1)) == 0) { /* 0 or a power of two: full */
        char **fresh = realloc(l->name, (l->n ? 2 * l->n : 1) * sizeof *fresh);
        if (!fresh) return rm_fail(RM_E_NOMEM, "out of memory for the names in a folder");
        l->name = fresh;
    }
    char *copy = strdup(name);
    if (!copy) return rm_fail(RM_E_NOMEM, "out of memory for the names in a folder");
    l->name[l->n++] = copy;
    return RM_OK;
}

/* Entries that `want` accepts; names that begin with a dot are never images or classes. Takes over `fd`. */
static rm_status list(int fd, const char *shown, bool (*want)(int fd, const struct dirent *e), listing *out)
{
    listing l = { 0 };
    rm_status status = RM_OK;
    DIR *d = fdopendir(fd);
    if (!d) {
        status = rm_fail_errno("cannot list %s", shown);
        close(fd);
        return status;
    }
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e && errno) RM_TRY_GOTO(status, rm_fail_errno("cannot list %s", shown), fail);
        if (!e) break;
        if (e->d_name[0] == '.' || !want(dirfd(d), e)) continue;
        RM_TRY_GOTO(status, listing_add(&l, e->d_name), fail);
    }
    closedir(d);
    if (l.n) qsort(l.name, l.n, sizeof *l.name, by_bytes);
    *out = l;
    return RM_OK;
fail:
    closedir(d);
    listing_free(&l);
    return status;
}

static bool is_folder(int fd, const struct dirent *e)
{
    struct stat s;
    if (e->d_type == DT_DIR) return true;
    return (e->d_type == DT_LNK || e->d_type == DT_UNKNOWN) && fstatat(fd, e->d_name, &s, 0) == 0 && S_ISDIR(s.st_mode);
}

/* By name alone: what a file really is turns out when it is decoded. */
static bool is_image(int fd, const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0) && !is_folder(fd, e);
}

/* ---- the scan */

static rm_status open_folder(int at, const char *name, const char *shown, int *out)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR) return rm_fail(RM_E_IO, "%s is not a folder", shown);
    if (fd < 0) return rm_fail_errno("cannot open the folder %s", shown);
    *out = fd;
    return RM_OK;
}

/* The images of one class. A file that cannot be examined stays in the list: it is a bad image, not a missing one. */
static rm_status scan_class(rm_dataset *ds, int part, int part_fd, uint32_t label)
{
    const char *class = rm_dataset_class(ds, label);
    listing files = { 0 };
    char *path = NULL;
    int fd = -1;
    const size_t size = strlen(ds->dir) + strlen(class) + NAME_MAX + 32;
    rm_status status = (path = malloc(size)) ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for a path");
    if (status != RM_OK) return status;
    snprintf(path, size, "%s/%s/%s", ds->dir, rm_part_name[part], class);
    RM_TRY_GOTO(status, open_folder(part_fd, class, path, &fd), done);
    RM_TRY_GOTO(status, list(fd, path, is_image, &files), done);
    for (size_t i = 0; i < files.n; i++) {
        struct stat s = { 0 };
        rm_sample sample = { .label = label };
        class = rm_dataset_class(ds, label); /* adding names may move them */
        snprintf(path, size, "%s/%s/%s", rm_part_name[part], class, files.name[i]);
        if (fstatat(ds->fd, path, &s, 0) == 0) sample.size_bytes = (uint64_t)s.st_size;
        RM_TRY_GOTO(status, rm_names_add(&ds->names, path, &sample.path), done);
        RM_TRY_GOTO(status, rm_sample_add(&ds->part[part], &sample), done);
    }
done:
    listing_free(&files);
    free(path);
    return status;
}

static rm_status adopt_classes(rm_dataset *ds, const listing *l)
{
    ds->class_name = calloc(l->n ? l->n : 1, sizeof *ds->class_name);
    if (!ds->class_name) return rm_fail(RM_E_NOMEM, "out of memory for the names of %zu classes", l->n);
    for (size_t i = 0; i < l->n; i++) RM_TRY(rm_names_add(&ds->names, l->name[i], &ds->class_name[i]));
    ds->n_class = (uint32_t)l->n;
    return RM_OK;
}

static rm_status same_classes(const rm_dataset *ds, const listing *val)
{
    for (uint32_t i = 0; i < ds->n_class || i < val->n; i++) {
        const char *train = i < ds->n_class ? rm_dataset_class(ds, i) : NULL, *other = i < val->n ? val->name[i] : NULL;
        const int order = !train ? 1 : !other ? -1 : strcmp(train, other);
        if (order == 0) continue;
        const char *name = order < 0 ? train : other, *in = order < 0 ? "train" : "val", *out = order < 0 ? "val" : "train";
        return rm_fail(RM_E_FORMAT, "%s: the classes of train and val differ: %s/%s exists, %s/%s does not; both need the same folders",
                       ds->dir, in, name, out, name);
    }
    return RM_OK;
}

static rm_status scan_part(rm_dataset *ds, int part)
{
    listing classes = { 0 };
    int fd = -1, again = -1;
    rm_status status;
    char shown[4096];
    snprintf(shown, sizeof shown, "%s/%s", ds->dir, rm_part_name[part]);
    RM_TRY(open_folder(ds->fd, rm_part_name[part], shown, &fd));
    RM_TRY_GOTO(status, open_folder(fd, ".", shown, &again), done);
    RM_TRY_GOTO(status, list(again, shown, is_folder, &classes), done);
    if (classes.n == 0) {
        status = rm_fail(RM_E_FORMAT, "%s has no class folders; images belong into %s/<class>/<name>.jpg", shown, shown);
        goto done;
    }
    RM_TRY_GOTO(status, part == RM_TRAIN ? adopt_classes(ds, &classes) : same_classes(ds, &classes), done);
    for (uint32_t i = 0; i < ds->n_class; i++) RM_TRY_GOTO(status, scan_class(ds, part, fd, i), done);
done:
    listing_free(&classes);
    close(fd);
    return status;
}

/* ---- what a whole folder must be */

static bool has_part(const rm_dataset *ds, int part) { return faccessat(ds->fd, rm_part_name[part], F_OK, 0) == 0; }

static rm_status check_parts(const rm_dataset *ds)
{
    if (!has_part(ds, RM_TRAIN) && !has_part(ds, RM_VAL))
        return rm_fail(RM_E_FORMAT, "%s has neither train/ nor val/; expected %s/train/<class>/<name>.jpg and %s/val/<class>/<name>.jpg",
                       ds->dir, ds->dir, ds->dir);
    for (int part = 0; part < 2; part++)
        if (!has_part(ds, part))
            return rm_fail(RM_E_FORMAT, "%s has no %s/; expected %s/%s/<class>/<name>.jpg beside %s/", ds->dir, rm_part_name[part], ds->dir,
                           rm_part_name[part], rm_part_name[!part]);
    return RM_OK;
}

static rm_status check_content(const rm_dataset *ds)
{
    for (int part = 0; part < 2; part++)
        if (ds->part[part].n == 0)
            return rm_fail(RM_E_FORMAT, "%s/%s holds no image; names must end in .jpg or .jpeg", ds->dir, rm_part_name[part]);
    if (ds->n_class < 2)
        return rm_fail(RM_E_FORMAT, "%s has one class only (%s); at least two are needed to learn anything", ds->dir, rm_dataset_class(ds, 0));
    return RM_OK;
}

static void take_fingerprint(rm_dataset *ds)
{
    uint64_t hash = RM_FNV_START;
    for (int part = 0; part < 2; part++)
        for (uint32_t i = 0; i < ds->part[part].n; i++) {
            const char *path = rm_dataset_path(ds, (rm_part)part, i);
            hash = rm_fnv1a(hash, path, strlen(path) + 1);
            hash = rm_fnv1a(hash, &ds->part[part].sample[i].size_bytes, sizeof(uint64_t));
        }
    ds->fingerprint = hash;
}

static rm_status fill(rm_dataset *ds, const char *cache_path)
{
    RM_TRY(check_parts(ds));
    const bool cached = cache_path && rm_index_load(ds, cache_path);
    for (int part = 0; !cached && part < 2; part++) RM_TRY(scan_part(ds, part));
    RM_TRY(check_content(ds));
    if (cache_path && !cached) rm_index_save(ds, cache_path);
    take_fingerprint(ds);
    return RM_OK;
}

rm_status rm_dataset_open(const char *dir, const char *cache_path, rm_dataset **out)
{
    rm_dataset *ds = calloc(1, sizeof *ds);
    rm_status status = RM_OK;
    if (!ds) return rm_fail(RM_E_NOMEM, "out of memory for the data set %s", dir);
    ds->fd = -1;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    ds->dir = strndup(dir, n);
    if (!ds->dir) RM_TRY_GOTO(status, rm_fail(RM_E_NOMEM, "out of memory for the data set %s", dir), fail);
    RM_TRY_GOTO(status, open_folder(AT_FDCWD, ds->dir, ds->dir, &ds->fd), fail);
    RM_TRY_GOTO(status, fill(ds, cache_path), fail);
    *out = ds;
    return RM_OK;
fail:
    rm_dataset_close(ds);
    return status;
}

void rm_dataset_close(rm_dataset *ds)
{
    if (!ds) return;
    if (ds->fd >= 0) close(ds->fd);
    for (int part = 0; part < 2; part++) free(ds->part[part].sample);
    free(ds->class_name);
    free(ds->names.text);
    free(ds->dir);
    free(ds);
}

uint32_t    rm_dataset_classes(const rm_dataset *ds) { return ds->n_class; }
const char *rm_dataset_class(const rm_dataset *ds, uint32_t i) { return ds->names.text + ds->class_name[i]; }
uint32_t    rm_dataset_count(const rm_dataset *ds, rm_part part) { return ds->part[part].n; }
const char *rm_dataset_path(const rm_dataset *ds, rm_part part, uint32_t i) { return ds->names.text + ds->part[part].sample[i].path; }
uint32_t    rm_dataset_label(const rm_dataset *ds, rm_part part, uint32_t i) { return (uint32_t)ds->part[part].sample[i].label; }
const char *rm_dataset_dir(const rm_dataset *ds) { return ds->dir; }
uint64_t    rm_dataset_fingerprint(const rm_dataset *ds) { return ds->fingerprint; }

/* ---- files */

static rm_status file_failed(char *reason, size_t size, const char *what)
{
    snprintf(reason, size, "%s: %s", what, strerror(errno));
    return RM_E_IO;
}

/* Reads to the end whatever stat says: a file may grow or shrink meanwhile. */
static rm_status read_all(int fd, uint8_t **data, size_t *cap, size_t *out_bytes, char *reason, size_t reason_size)
{
    size_t have = 0;
    for (;;) {
        if (have == *cap) {
            const size_t size = *cap ? *cap * 2 : 256 * 1024;
            uint8_t *fresh = realloc(*data, size);
            if (!fresh) {
                snprintf(reason, reason_size, "out of memory for %zu bytes", size);
                return RM_E_NOMEM;
            }
            *data = fresh;
            *cap = size;
        }
        const ssize_t n = read(fd, *data + have, *cap - have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_failed(reason, reason_size, "cannot be read");
        if (n == 0) break;
        have += (size_t)n;
    }
    *out_bytes = have;
    return RM_OK;
}

rm_status rm_file_read(int dir_fd, const char *path, uint8_t **data, size_t *cap, size_t *out_bytes, char *reason, size_t reason_size)
{
    struct stat s;
    const int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not stop a worker */
    if (fd < 0) return file_failed(reason, reason_size, "cannot be opened");
    rm_status status = RM_OK;
    if (fstat(fd, &s) != 0) status = file_failed(reason, reason_size, "cannot be examined");
    else if (!S_ISREG(s.st_mode)) {
        snprintf(reason, reason_size, "not a regular file");
        status = RM_E_FORMAT;
    } else {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
        status = read_all(fd, data, cap, out_bytes, reason, reason_size);
    }
    close(fd);
    return status;
}
