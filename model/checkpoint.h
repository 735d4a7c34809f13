/* safetensors files: 8-byte little-endian header length, JSON header, raw little-endian data (format of
 * github.com/huggingface/safetensors). Reader and writer for checkpoints, dumps and batches.
 *
 * Writing is atomic: a temporary beside the target, fsync, rename, fsync of the folder; on any failure the old file stays.
 * Reading refuses damaged and foreign files with the file's name and the reason; nothing in a file can crash the program. */
#ifndef RM_CHECKPOINT_H
#define RM_CHECKPOINT_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum { RM_ST_MAX_DIMS = 8 };
/* "F32" "F64" "I64" "I32" "U8" "BF16" "F16" "BOOL" ... as the format names them. */
typedef struct rm_st_tensor {
    const char *name; const char *dtype;
    int32_t n_dim; int64_t dim[RM_ST_MAX_DIMS];
    const void *data; uint64_t bytes;
} rm_st_tensor;
typedef struct rm_st_meta { const char *key, *value; } rm_st_meta;

/* Writes n tensors plus string metadata: wide types first, so that all data are aligned, else in the given order.
 * RM_E_NOSPACE on a full disk; RM_E_ARG for names given twice, text that is not UTF-8, or a target that is no regular file. */
rm_status rm_st_write(const char *path, const rm_st_tensor *tensor, uint32_t n, const rm_st_meta *meta, uint32_t n_meta) RM_CHECKED;

/* Tensors to write whose values lie elsewhere, as doubles: copies of them, with their names. `room` tensors at most. Free also after an
 * error; all zero is an empty one. */
enum { RM_ST_NAME_MAX = 96 };
typedef struct rm_st_pack { rm_st_tensor *t; char (*name)[RM_ST_NAME_MAX]; uint32_t n, room; } rm_st_pack;
rm_status rm_st_pack_new(uint32_t room, rm_st_pack *out) RM_CHECKED;
void      rm_st_pack_free(rm_st_pack *p);
/* v (of n_dim dimensions; 0: one value) times scale, as F32 or, `wide`, F64. */
rm_status rm_st_pack_real(rm_st_pack *p, const char *name, bool wide, int32_t n_dim, const int64_t *dim, const double *v, double scale) RM_CHECKED;
rm_status rm_st_pack_i64(rm_st_pack *p, const char *name, int64_t value) RM_CHECKED; /* one value */

typedef struct rm_st_file rm_st_file;     /* memory-mapped or read; owns all strings and data */
rm_status rm_st_open(const char *path, rm_st_file **out_file) RM_CHECKED;
/* Data of every tensor are aligned to its element, even where they lie askew in the file.
 * The parser alone, over memory that must outlive the file (fuzz target). `where` names it in messages. */
rm_status rm_st_parse(const void *data, uint64_t bytes, const char *where, rm_st_file **out_file) RM_CHECKED;
void      rm_st_close(rm_st_file *f);     /* NULL is fine */
uint32_t  rm_st_count(const rm_st_file *f);
const rm_st_tensor *rm_st_at(const rm_st_file *f, uint32_t i);
const rm_st_tensor *rm_st_find(const rm_st_file *f, const char *name);   /* NULL: absent */
const char *rm_st_metadata(const rm_st_file *f, const char *key);        /* NULL: absent */
/* As rm_st_find, with shape check: RM_E_FORMAT naming file, tensor, and both shapes. dtype NULL: any. */
rm_status rm_st_need(const rm_st_file *f, const char *name, const char *dtype, int32_t n_dim, const int64_t *dim, const rm_st_tensor **out_tensor) RM_CHECKED;
const char *rm_st_path(const rm_st_file *f);

/* ---- checkpoints: NAME.safetensors (the model, torchvision's names) and NAME.state.safetensors (training state).
 * The two carry the same "digest" in their metadata and count as one. */
/* "DIR/NAME-%08llu" for a step; without suffix. */
void      rm_ckpt_path(char *out, size_t size, const char *dir, const char *name, uint64_t step);
/* Writes model then state. The pair is complete only when both exist with equal digest (64-bit hash
 * of the model file's metadata, names, shapes and data; the state file has one of its own besides). Both halves are on disk
 * before either takes its name. At most 62 metadata entries. */
rm_status rm_ckpt_write(const char *base, const rm_st_tensor *model, uint32_t n_model, const rm_st_tensor *state, uint32_t n_state,
                        const rm_st_meta *meta, uint32_t n_meta) RM_CHECKED;
/* Opens a complete pair and verifies the digest. `out_state` may be NULL: the model alone (eval, infer, foreign files: no digest needed). */
rm_status rm_ckpt_open(const char *base_or_path, rm_st_file **out_model, rm_st_file **out_state) RM_CHECKED;
/* Newest complete pair in dir by step, skipping incomplete or damaged ones (warns). RM_OK with out[0]==0 when there is none. */
rm_status rm_ckpt_latest(const char *dir, const char *name, char *out, size_t size, uint64_t *out_step) RM_CHECKED;
/* Removes all but the `keep` newest pairs and stray temporaries. Broken pairs do not count and go with what is older. */
rm_status rm_ckpt_prune(const char *dir, const char *name, int keep) RM_CHECKED;
#endif
