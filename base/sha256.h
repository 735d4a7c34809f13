/* SHA-256 (FIPS 180-4), for names of configurations and digests of files; not for secrets. */
#ifndef RM_SHA256_H
#define RM_SHA256_H
#include <stddef.h>
#include <stdint.h>

typedef struct rm_sha256 { uint32_t h[8]; uint64_t size_bytes; uint8_t block[64]; } rm_sha256;
void rm_sha256_begin(rm_sha256 *s);
void rm_sha256_add(rm_sha256 *s, const void *data, size_t n_bytes);
/* 64 lower-case hexadecimal digits and a NUL. `s` is used up. */
void rm_sha256_end(rm_sha256 *s, char hex[65]);
#endif
