#include "base/utf8.h"
#include <stdbool.h>
#include <stddef.h>

/* The length that the first byte of a character announces; 0: it is none. */
static size_t announced(unsigned char c) { return c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0; }

/* Neither longer than needed, nor half of a pair of UTF-16, nor above U+10FFFF (RFC 3629). */
static bool second_fits(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xe0: return second >= 0xa0;
    case 0xed: return second <= 0x9f;
    case 0xf0: return second >= 0x90;
    case 0xf4: return second <= 0x8f;
    default: return true;
    }
}

/* How many bytes at `p` belong to one character, whether or not it is whole; the NUL ends it. */
static size_t there(const unsigned char *p, size_t n)
{
    size_t k = 1;
    while (k < n && (p[k] & 0xc0) == 0x80 && (k > 1 || second_fits(p[0], p[1]))) k++;
    return k;
}

void rm_utf8_clean(char *text)
{
    unsigned char *p = (unsigned char *)text;
    while (*p) {
        const size_t n = announced(*p), k = n ? there(p, n) : 1;
        if (n && k == n) p += n;
        else if (n && !p[k]) *p = '\0'; /* cut here */
        else *p++ = '?';
    }
}
