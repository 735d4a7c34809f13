#define _GNU_SOURCE
#include "tests/cuda/emu/internal.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const name[EMU_CHECKERS] = {
    [EMU_RACE_SHARED] = "race-shared",
    [EMU_RACE_GLOBAL] = "race-global",
    [EMU_BOUNDS] = "out-of-bounds",
    [EMU_UNINIT_SHARED] = "uninitialised-shared",
    [EMU_UNINIT_GLOBAL] = "uninitialised-global",
    [EMU_DIVERGENT] = "divergence",
    [EMU_MISALIGNED] = "misaligned",
    [EMU_HOST_ACCESS] = "host-access",
    [EMU_FLOAT_ATOMIC] = "float-atomic",
    [EMU_LAUNCH] = "launch",
};
static struct {
    unsigned count[EMU_CHECKERS], any;
    emu_checker checker;
    char first[512];
} found;

const char *emu_checker_name(emu_checker c) { return name[c]; }
unsigned emu_found(emu_checker c) { return found.count[c]; }
unsigned emu_found_any(void) { return found.any; }
const char *emu_first(void) { return found.first; }
emu_checker emu_first_checker(void) { return found.checker; }
void emu_clear(void) { memset(&found, 0, sizeof found); }

/* "libx.so+0x1234", for addr2line. */
static void describe_pc(const void *pc, char *text, size_t size)
{
    Dl_info info;
    text[0] = 0;
    if (!pc || !dladdr(pc, &info) || !info.dli_fname) return;
    const char *file = strrchr(info.dli_fname, '/');
    snprintf(text, size, " at %s+0x%zx", file ? file + 1 : info.dli_fname, (size_t)((const char *)pc - (const char *)info.dli_fbase));
}

void emu_report(emu_checker c, const void *pc, const char *fmt, ...)
{
    char what[256], where[128];
    va_list args;
    found.count[c]++;
    if (found.any++ > 0) return;
    found.checker = c;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    describe_pc(pc, where, sizeof where);
    if (emu_now.kernel)
        snprintf(found.first, sizeof found.first, "%s in %s, block %u, thread %d: %s%s", name[c], emu_now.kernel, emu_now.block, emu_now.thread, what, where);
    else snprintf(found.first, sizeof found.first, "%s: %s%s", name[c], what, where);
}
