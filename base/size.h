/* Sizes as users write them: 8, 1K, 2.5M, 256Mi. K, M, G are powers of 1000; Ki, Mi, Gi of 1024. One rule for the whole program. */
#ifndef RM_SIZE_H
#define RM_SIZE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first `n` characters of `text`, all of them, as bytes from 1 to 2^62, rounded down. False when they are no size. */
bool rm_size_parse(const char *text, size_t n, uint64_t *out);
#endif
