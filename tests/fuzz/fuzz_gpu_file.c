/* libFuzzer target: files that describe a GPU. What is accepted has every figure above 0 with a label and a source, and is JSON. */
#include "bench/gpu_file.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gpu_file g;
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = '\0';
    if (gpu_file_parse(text, "fuzz", &g) == RM_OK) {
        json_t *j = gpu_file_json(&g);
        if (!j) abort();
        for (int i = 0; i < GPU_FIGURES; i++)
            if (!(g.value[i].v > 0) || !g.value[i].label[0] || !g.value[i].source[0]) abort();
        json_decref(j);
    }
    free(text);
    return 0;
}
