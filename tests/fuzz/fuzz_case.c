/* libFuzzer target: lines of op text, as in case files. What parses must print to a line that parses to the same op. */
#include "kernels/op.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[1024], line[256];
    rm_op op, again;
    if (size >= sizeof text) return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (rm_op_parse(text, &op) != RM_OK) return 0;
    rm_op_print(&op, line, sizeof line);
    if (rm_op_parse(line, &again) != RM_OK || memcmp(&op, &again, sizeof op) != 0) abort();
    return 0;
}
