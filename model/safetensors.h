/* What the safetensors reader and writer share; nobody else includes this. */
#ifndef RM_SAFETENSORS_H
#define RM_SAFETENSORS_H
#include "model/checkpoint.h"

enum { ST_MAX_HEADER_BYTES = 100000000, ST_LENGTH_BYTES = 8 }; /* the reference implementation's limit */
#define ST_METADATA_KEY "__metadata__"

/* Bits of one element; 0: no such type. */
uint32_t st_dtype_bits(const char *dtype);
/* Bytes of a tensor; false where the product overflows, a dim is negative, or sub-byte elements do not fill whole bytes. */
bool     st_tensor_bytes(uint32_t bits, int32_t n_dim, const int64_t *dim, uint64_t *out_bytes);

/* ---- atomic files: everything goes to a temporary beside the target, which takes its name in st_out_commit() */
typedef struct st_out { int fd; char path[4096], temporary[4096 + 32]; } st_out;
rm_status st_out_open(const char *path, st_out *out) RM_CHECKED;
rm_status st_out_put(st_out *o, const void *data, uint64_t bytes) RM_CHECKED;
rm_status st_out_finish(st_out *o) RM_CHECKED; /* on disk under its temporary name */
/* n files of one folder take their names in turn; then fsync of the folder. */
rm_status st_out_commit(st_out *o, int n) RM_CHECKED;
void      st_out_abort(st_out *o);             /* removes the temporary; fine after a commit */

/* Writes header and data to an open temporary. */
rm_status st_put_file(st_out *o, const rm_st_tensor *tensor, uint32_t n, const rm_st_meta *meta, uint32_t n_meta) RM_CHECKED;
const rm_st_meta *st_meta(const rm_st_file *f, uint32_t *n); /* all metadata, in the order of the file */
#endif
