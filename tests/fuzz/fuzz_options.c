/* The option parser, echo and reproduce: words separated by NUL, the first byte chooses the command. Any words give
 * options or one line of complaint. */
#include "bench/options.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_WORDS = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "scaling", "train", "step", "infer", "kernels", "input", "data", "report" };
    if (size < 1) return 0;
    const bench_command command = { .name = names[data[0] % RM_COUNT(names)] };
    char *text = malloc(size), *argv[MOST_WORDS];
    if (!text) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    int argc = 0;
    for (size_t i = 0; i < size && argc < MOST_WORDS; i += strlen(text + i) + 1) argv[argc++] = text + i;
    bench_options o;
    if (bench_options_parse(&command, argc, argv, &o) == RM_OK) {
        json_decref(bench_reproduce(&command, &o));
        json_decref(bench_options_echo(&command, &o));
    } else if (rm_last_error()[0] == '\0') {
        abort(); /* refused without a reason */
    }
    free(text);
    return 0;
}
