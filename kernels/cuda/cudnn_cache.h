/* The chosen plans of one kind of GPU and one version of cuDNN in a file, so that later runs start at once and compute with the
 * same code. A JSON object: {"ringmark_cudnn_plans": 1, "for": identity, "plans": {graph's key: {"plan": text, "sha256": digest of
 * key, newline, text}}}. The digest is there because cuDNN believes what it reads: a changed letter may be another kernel.
 * A file that is missing is empty; one that is damaged or for something else is left alone with one warning, until it is written anew.
 * Threads: one at a time per cache. Several processes may save at once: each write is whole, and keeps the others' graphs. */
#ifndef RM_CUDA_CUDNN_CACHE_H
#define RM_CUDA_CUDNN_CACHE_H
#include "base/status.h"

typedef struct rm_cudnn_cache rm_cudnn_cache;
/* `identity`: rm_cudnn_device.identity. `path`: of rm_plans_file(identity, "cudnn", ...); "" keeps nothing. Fails with RM_E_NOMEM only. */
rm_status rm_cudnn_cache_open(const char *path, const char *identity, rm_cudnn_cache **out_cache) RM_CHECKED;
/* The plan's text, valid until the next put or close. NULL: not there. */
const char *rm_cudnn_cache_get(const rm_cudnn_cache *c, const char *key);
/* Adds or replaces; copies. */
rm_status rm_cudnn_cache_put(rm_cudnn_cache *c, const char *key, const char *text) RM_CHECKED;
size_t    rm_cudnn_cache_count(const rm_cudnn_cache *c);
/* Writes the file if something was put. Failing to write is a warning, once. */
void      rm_cudnn_cache_save(rm_cudnn_cache *c);
void      rm_cudnn_cache_close(rm_cudnn_cache *c); /* NULL is fine. Does not save */
#endif
