/* The recipe parser over any text: what it accepts is in range, echoes to text that gives the same recipe again, and has
 * finite learning rates. */
#include "model/recipe.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct { char text[8192]; size_t n; } echo;

static void add_line(void *ctx, const char *key, const char *value, const char *help)
{
    echo *e = ctx;
    e->n += (size_t)snprintf(e->text + e->n, sizeof e->text - e->n, "%s = %s\n", key, value);
    if (e->n >= sizeof e->text) abort();
}

static void check(const rm_recipe *r)
{
    static echo first, second;
    rm_recipe again;
    first.n = second.n = 0;
    rm_recipe_each(r, add_line, &first);
    /* A name that was not given echoes as "name = ": the one line that need not be in a file. */
    const char *text = r->name[0] ? first.text : strchr(first.text, '\n') + 1;
    if (rm_recipe_parse(text, strlen(text), "echo", &again) != RM_OK) abort();
    rm_recipe_each(&again, add_line, &second);
    if (first.n != second.n || memcmp(first.text, second.text, first.n)) abort();
    static const uint64_t steps[] = { 0, 1, 99, 5000, 1000000 };
    for (size_t i = 0; i < RM_COUNT(steps); i++) {
        double lr = rm_recipe_lr(r, steps[i], 100, 9000, 256);
        if (!isfinite(lr) || lr < 0) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rm_recipe r;
    char *text = malloc(size ? size : 1); /* no terminator: the parser may not need one */
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    if (rm_recipe_parse(text, size, "fuzz", &r) == RM_OK) check(&r);
    free(text);
    return 0;
}
