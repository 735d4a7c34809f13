/* The open folder, for the rest of this room. Immutable after rm_dataset_open(). */
#ifndef RM_INPUT_DATASET_H
#define RM_INPUT_DATASET_H
#include "model/input/input.h"
#include <stddef.h>

typedef struct rm_sample { uint64_t size_bytes, path, label; } rm_sample; /* path: offset into names */
typedef struct rm_sample_list { rm_sample *sample; uint32_t n, cap; } rm_sample_list;
typedef struct rm_names { char *text; size_t bytes, cap; } rm_names; /* NUL-terminated strings, one after the other */

struct rm_dataset {
    char    *dir;
    int      fd;               /* of dir: paths are opened relative to it, wherever the program has gone since */
    rm_names names;            /* of classes, then relative paths */
    uint64_t *class_name; uint32_t n_class;
    rm_sample_list part[2];    /* by rm_part */
    uint64_t fingerprint;
};

extern const char *const rm_part_name[2]; /* "train", "val" */
rm_status rm_names_add(rm_names *n, const char *text, uint64_t *out_offset) RM_CHECKED;
rm_status rm_sample_add(rm_sample_list *l, const rm_sample *s) RM_CHECKED;
uint64_t  rm_fnv1a(uint64_t hash, const void *data, size_t bytes); /* start with RM_FNV_START */
#define RM_FNV_START 14695981039346656037u

/* index.c: the cached index. Loading tells whether it was there, intact and still true of the folder. */
bool rm_index_load(rm_dataset *ds, const char *cache_path);
void rm_index_save(const rm_dataset *ds, const char *cache_path);

/* One file, whole, into *data (grown with realloc, never shrunk). The reason for a failure is in `reason`. */
rm_status rm_file_read(int dir_fd, const char *path, uint8_t **data, size_t *cap, size_t *out_bytes, char *reason, size_t reason_size) RM_CHECKED;
#endif
