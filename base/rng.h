/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11, "Parallel random numbers: as easy as 1, 2, 3").
 * A value depends on (key, counter) alone, so results do not depend on the number of workers, ranks or threads. */
#ifndef RM_RNG_H
#define RM_RNG_H
#include <stdint.h>

typedef struct rm_rng { uint32_t key[2], counter[4], block[4]; unsigned used; } rm_rng;

/* The stream named by (seed, a, b): for augmentation a = epoch, b = sample index; for weights a = tensor index. */
rm_rng   rm_rng_for(uint64_t seed, uint64_t a, uint64_t b);
uint32_t rm_rng_u32(rm_rng *r);
double   rm_rng_unit(rm_rng *r);   /* uniform in [0, 1), 53 bits */
double   rm_rng_normal(rm_rng *r); /* standard normal, Box-Muller, one value a call */
uint32_t rm_rng_below(rm_rng *r, uint32_t n); /* uniform in 0..n-1 without bias; n > 0 */
/* 0..n-1 in random order, every order as likely. */
void     rm_rng_shuffle(rm_rng *r, int32_t n, int32_t *order);
/* The raw block, for known-answer tests. */
void rm_philox4x32_10(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);
#endif
