#include "base/rng.h"
#include <math.h>

static uint32_t mulhi(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }

void rm_philox4x32_10(const uint32_t key[2], const uint32_t ctr[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1], c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3];
    for (int round = 0; round < 10; round++) {
        uint32_t h0 = mulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        uint32_t h1 = mulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ k0; c1 = l1; c2 = h0 ^ c3 ^ k1; c3 = l0;
        k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
    }
    out[0] = c0; out[1] = c1; out[2] = c2; out[3] = c3;
}

rm_rng rm_rng_for(uint64_t seed, uint64_t a, uint64_t b)
{
    rm_rng r = { .key = { (uint32_t)seed, (uint32_t)(seed >> 32) }, .used = 4 };
    r.counter[1] = (uint32_t)a; r.counter[2] = (uint32_t)b;
    r.counter[3] = (uint32_t)(b >> 32) ^ ((uint32_t)(a >> 32) << 16);
    return r;
}

uint32_t rm_rng_u32(rm_rng *r)
{
    if (r->used == 4) {
        rm_philox4x32_10(r->key, r->counter, r->block);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

double rm_rng_unit(rm_rng *r)
{
    uint64_t hi = rm_rng_u32(r) >> 5, lo = rm_rng_u32(r) >> 6;
    return (double)((hi << 26) | lo) * (1.0 / 9007199254740992.0);
}

double rm_rng_normal(rm_rng *r)
{
    double u = 1.0 - rm_rng_unit(r), v = rm_rng_unit(r); /* u in (0, 1] */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586477 * v);
}

uint32_t rm_rng_below(rm_rng *r, uint32_t n)
{
    uint32_t limit = (uint32_t)(-n) % n; /* 2^32 mod n: values below it would be over-represented */
    uint32_t v;
    do v = rm_rng_u32(r); while (v < limit);
    return v % n;
}

void rm_rng_shuffle(rm_rng *r, int32_t n, int32_t *order)
{
    for (int32_t i = 0; i < n; i++) {
        const int32_t j = (int32_t)rm_rng_below(r, (uint32_t)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}
