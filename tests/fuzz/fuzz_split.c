/* libFuzzer target: split specs. What parses is a split: ascending ends, the last one the last gradient, and its own print gives
 * it again. */
#include "model/parallel/split.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GRADIENTS = 161 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[1024], again[1024];
    uint64_t bytes[GRADIENTS];
    uint32_t end[GRADIENTS], end2[GRADIENTS], n = 0, n2 = 0;
    if (size < 2 || size > 600) return 0;
    memcpy(text, data + 2, size - 2);
    text[size - 2] = '\0';
    const uint32_t gradients = 1 + data[0] % GRADIENTS;
    for (uint32_t i = 0; i < gradients; i++) bytes[i] = (uint64_t)((data[1] + 1u) * (i * 7919u % 31u)) << (data[1] % 40);
    if (rm_split_parse(text, bytes, gradients, data[1] & 1 ? RM_SPLIT_FORWARD : RM_SPLIT_READY, end, &n) != RM_OK) return 0;
    if (n < 1 || n > gradients || end[n - 1] != gradients - 1) abort();
    for (uint32_t i = 1; i < n; i++)
        if (end[i] <= end[i - 1]) abort();
    rm_split_shares(bytes, end, n, again, 16);
    if (!rm_split_print(end, n, again, sizeof again)) abort();
    if (rm_split_parse(again, bytes, gradients, RM_SPLIT_READY, end2, &n2) != RM_OK || n2 != n || memcmp(end, end2, n * sizeof end[0]) != 0) abort();
    return 0;
}
