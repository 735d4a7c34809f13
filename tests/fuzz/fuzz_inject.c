/* libFuzzer target: --inject. What parses for one rank parses for all, and no rank has more than all injections together. */
#include "bench/inject.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[512];
    rm_inject a, b;
    if (size < 1 || size > sizeof text) return 0;
    const int32_t ranks = 1 + data[0] % 8;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    const rm_status first = bench_inject_parse(text, 0, ranks, NULL, &a);
    for (int32_t r = 1; r < ranks; r++) {
        if (bench_inject_parse(text, r, ranks, NULL, &b) != first) abort();
        if (first == RM_OK && a.link_ns != b.link_ns) abort(); /* a link is slow for all */
    }
    if (a.compute_ns > 600000000000u * sizeof text || a.input_ns > 600000000000u * sizeof text) abort();
    if (!(a.step_share >= 0 && a.step_share < sizeof text)) abort();
    if (first != RM_OK && (a.step_share > 0 || a.compute_ns || a.input_ns || a.link_ns)) abort();
    return 0;
}
