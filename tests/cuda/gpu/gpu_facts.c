/* Prints one JSON object: {"gpus": [{"gpu": 0, "name": ..., "identity": ..., "description": cuDNN's own description}, ...]}, for
 * scripts/gpu-check, which compares the descriptions with those of tests/cuda/devices. Exit 77 where there is no GPU. */
#include "kernels/cuda/cudnn_device.h"
#include "tests/cuda/gpu/gpu.h"
#include <jansson.h>
#include <stdlib.h>

static rm_status facts_of(int32_t gpu, json_t *list)
{
    rm_cudnn_device *d;
    char *text = NULL;
    RM_TRY(rm_cudnn_device_open(gpu, &d));
    const rm_status st = rm_cudnn_device_json(d, &text);
    json_t *description = st == RM_OK ? json_loads(text, 0, NULL) : NULL;
    if (st == RM_OK)
        json_array_append_new(list, json_pack("{s:i, s:s, s:s, s:i, s:i, s:o}", "gpu", (int)gpu, "name", d->name, "identity", d->identity, "sm", d->sm,
                                              "multiprocessors", d->multiprocessors, "description", description ? description : json_string(text)));
    free(text);
    rm_cudnn_device_free(d);
    return st;
}

int main(void)
{
    if (gpu_absent()) return GPU_SKIPPED;
    int32_t n = 0;
    json_t *list = json_array();
    rm_status st = rm_device_count("cuda", &n);
    for (int32_t i = 0; i < n && st == RM_OK; i++) st = facts_of(i, list);
    if (st != RM_OK) {
        fprintf(stderr, "gpu_facts: %s\n", rm_last_error());
        json_decref(list);
        return 2;
    }
    json_t *all = json_pack("{s:o}", "gpus", list);
    const bool written = json_dumpf(all, stdout, JSON_INDENT(1)) == 0 && putchar('\n') != EOF && fflush(stdout) == 0;
    json_decref(all);
    return written ? 0 : 2;
}
