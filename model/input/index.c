/* The cached index: what a scan of a large folder found, so that the next start reads one file instead of asking for the
 * size of every image. It is trusted while the modification times of all class folders are what they were; a damaged
 * or foreign file is ignored, and failing to write one is only worth a warning. */
#define _GNU_SOURCE
#include "base/log.h"
#include "model/input/dataset.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct index_head {
    char     magic[8];
    uint64_t checksum;       /* FNV-1a of everything behind this field */
    uint64_t folders;        /* names and modification times of all folders */
    uint64_t names_bytes;
    uint32_t n_class, n[2], reserved;
} index_head;
static const char index_magic[8] = "RMINDX1";

static uint64_t stamp(uint64_t hash, int fd, const char *path)
{
    struct stat s;
    int64_t t[2] = { -1, -1 };
    if (fstatat(fd, path, &s, 0) == 0) t[0] = (int64_t)s.st_mtim.tv_sec, t[1] = s.st_mtim.tv_nsec;
    return rm_fnv1a(rm_fnv1a(hash, path, strlen(path) + 1), t, sizeof t);
}

/* Adding, removing or renaming a class touches train/ or val/; an image, its class folder. */
static uint64_t folders(const rm_dataset *ds)
{
    char *real = realpath(ds->dir, NULL);
    uint64_t hash = rm_fnv1a(RM_FNV_START, real ? real : ds->dir, strlen(real ? real : ds->dir) + 1);
    free(real);
    for (int part = 0; part < 2; part++) {
        hash = stamp(hash, ds->fd, rm_part_name[part]);
        for (uint32_t i = 0; i < ds->n_class; i++) {
            char *path;
            if (asprintf(&path, "%s/%s", rm_part_name[part], rm_dataset_class(ds, i)) < 0) return 0;
            hash = stamp(hash, ds->fd, path);
            free(path);
        }
    }
    return hash;
}

static size_t body_bytes(const index_head *h)
{
    return h->names_bytes + h->n_class * sizeof(uint64_t) + ((size_t)h->n[0] + h->n[1]) * sizeof(rm_sample);
}

static uint64_t checksum(const index_head *h, const uint8_t *body)
{
    const size_t skip = offsetof(index_head, folders);
    return rm_fnv1a(rm_fnv1a(RM_FNV_START, (const uint8_t *)h + skip, sizeof *h - skip), body, body_bytes(h));
}

/* ---- loading */

/* Copies of the sections, so that a data set owns the same things whichever way it was filled. */
static bool adopt(rm_dataset *ds, const index_head *h, const uint8_t *body)
{
    const uint8_t *p = body + h->names_bytes;
    ds->names.text = malloc(h->names_bytes);
    ds->class_name = malloc(h->n_class * sizeof *ds->class_name);
    if (!ds->names.text || !ds->class_name) return false;
    memcpy(ds->names.text, body, h->names_bytes);
    ds->names.bytes = ds->names.cap = h->names_bytes;
    memcpy(ds->class_name, p, h->n_class * sizeof *ds->class_name);
    p += h->n_class * sizeof *ds->class_name;
    ds->n_class = h->n_class;
    for (int part = 0; part < 2; part++) {
        rm_sample_list *l = &ds->part[part];
        l->sample = malloc(h->n[part] * sizeof *l->sample);
        if (!l->sample) return false;
        memcpy(l->sample, p, h->n[part] * sizeof *l->sample);
        p += h->n[part] * sizeof *l->sample;
        l->n = l->cap = h->n[part];
    }
    return true;
}

static bool offsets_lie_within(const rm_dataset *ds)
{
    for (uint32_t i = 0; i < ds->n_class; i++)
        if (ds->class_name[i] >= ds->names.bytes) return false;
    for (int part = 0; part < 2; part++)
        for (uint32_t i = 0; i < ds->part[part].n; i++) {
            const rm_sample *s = &ds->part[part].sample[i];
            if (s->path >= ds->names.bytes || s->label >= ds->n_class) return false;
        }
    return true;
}

static void forget(rm_dataset *ds)
{
    for (int part = 0; part < 2; part++) {
        free(ds->part[part].sample);
        ds->part[part] = (rm_sample_list){ 0 };
    }
    free(ds->class_name);
    free(ds->names.text);
    ds->class_name = NULL;
    ds->n_class = 0;
    ds->names = (rm_names){ 0 };
}

static bool intact(const index_head *h, const uint8_t *data, size_t bytes)
{
    const uint8_t *body = data + sizeof *h;
    if (memcmp(h->magic, index_magic, sizeof index_magic) != 0 || h->n_class < 1 || h->n[0] < 1 || h->n[1] < 1) return false;
    if (h->names_bytes < 1 || h->names_bytes > bytes || bytes - sizeof *h != body_bytes(h)) return false;
    return h->checksum == checksum(h, body) && body[h->names_bytes - 1] == '\0';
}

bool rm_index_load(rm_dataset *ds, const char *cache_path)
{
    uint8_t *data = NULL;
    size_t cap = 0, bytes;
    index_head h;
    char reason[256];
    bool good = rm_file_read(AT_FDCWD, cache_path, &data, &cap, &bytes, reason, sizeof reason) == RM_OK && bytes >= sizeof h;
    if (good) memcpy(&h, data, sizeof h);
    good = good && intact(&h, data, bytes) && adopt(ds, &h, data + sizeof h) && offsets_lie_within(ds) && folders(ds) == h.folders;
    if (!good) forget(ds);
    free(data);
    return good;
}

/* ---- saving */

static bool write_body(FILE *f, const rm_dataset *ds)
{
    bool good = fwrite(ds->names.text, 1, ds->names.bytes, f) == ds->names.bytes;
    good = good && fwrite(ds->class_name, sizeof *ds->class_name, ds->n_class, f) == ds->n_class;
    for (int part = 0; part < 2; part++)
        good = good && fwrite(ds->part[part].sample, sizeof(rm_sample), ds->part[part].n, f) == ds->part[part].n;
    return good;
}

static uint64_t checksum_of(const index_head *h, const rm_dataset *ds)
{
    const size_t skip = offsetof(index_head, folders);
    uint64_t hash = rm_fnv1a(RM_FNV_START, (const uint8_t *)h + skip, sizeof *h - skip);
    hash = rm_fnv1a(hash, ds->names.text, ds->names.bytes);
    hash = rm_fnv1a(hash, ds->class_name, ds->n_class * sizeof *ds->class_name);
    for (int part = 0; part < 2; part++) hash = rm_fnv1a(hash, ds->part[part].sample, ds->part[part].n * sizeof(rm_sample));
    return hash;
}

void rm_index_save(const rm_dataset *ds, const char *cache_path)
{
    index_head h = { .folders = folders(ds), .names_bytes = ds->names.bytes, .n_class = ds->n_class, .n = { ds->part[0].n, ds->part[1].n } };
    char *temporary = NULL;
    memcpy(h.magic, index_magic, sizeof index_magic);
    h.checksum = checksum_of(&h, ds);
    FILE *f = asprintf(&temporary, "%s.%ld.tmp", cache_path, (long)getpid()) < 0 ? NULL : fopen(temporary, "wb");
    bool good = f && fwrite(&h, sizeof h, 1, f) == 1 && write_body(f, ds);
    if (f && fclose(f) != 0) good = false;
    if (good && rename(temporary, cache_path) != 0) good = false;
    if (!good) {
        rm_warn_once("input index", "cannot keep the index of %s in %s; the next start scans the folder again", ds->dir, cache_path);
        if (f) unlink(temporary);
    }
    free(temporary);
}
