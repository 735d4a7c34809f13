/* The entry points of -fsanitize=thread, which clang calls before every access; no libtsan is linked. */
#include "tests/cuda/emu/internal.h"
#include <string.h>

#define HOOK(name, bytes, how)                                                                                                                                 \
    void name(void *p);                                                                                                                                        \
    void name(void *p) { emu_access((uintptr_t)p, bytes, how, __builtin_return_address(0)); }
#define HOOKS(bytes)                                                                                                                                           \
    HOOK(__tsan_read##bytes, bytes, EMU_READ)                                                                                                                  \
    HOOK(__tsan_write##bytes, bytes, EMU_WRITE)                                                                                                                \
    HOOK(__tsan_unaligned_read##bytes, bytes, EMU_READ)                                                                                                        \
    HOOK(__tsan_unaligned_write##bytes, bytes, EMU_WRITE)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *pc) {}
void __tsan_func_exit(void) {}

/* Vector accesses: the compiler would show us their parts, which are always aligned. */
void emu_read(const void *p, size_t bytes, void *out);
void emu_write(void *p, size_t bytes, const void *in);
void emu_read(const void *p, size_t bytes, void *out)
{
    emu_access((uintptr_t)p, bytes, EMU_READ, __builtin_return_address(0));
    memcpy(out, p, bytes);
}

void emu_write(void *p, size_t bytes, const void *in)
{
    emu_access((uintptr_t)p, bytes, EMU_WRITE, __builtin_return_address(0));
    memcpy(p, in, bytes);
}

/* The compiler turns copies of structures into these calls, which are wrapped when kernels are linked. */
static void each_byte(uintptr_t p, size_t bytes, emu_how how, const void *pc)
{
    if (emu_now.kernel && !emu_exempt(p, bytes))
        for (size_t i = 0; i < bytes; i++) emu_access(p + i, 1, how, pc);
}

void *__wrap_memcpy(void *dst, const void *src, size_t bytes);
void *__wrap_memset(void *dst, int value, size_t bytes);
void *__wrap_memcpy(void *dst, const void *src, size_t bytes)
{
    each_byte((uintptr_t)src, bytes, EMU_READ, __builtin_return_address(0));
    each_byte((uintptr_t)dst, bytes, EMU_WRITE, __builtin_return_address(0));
    return memcpy(dst, src, bytes);
}

void *__wrap_memset(void *dst, int value, size_t bytes)
{
    each_byte((uintptr_t)dst, bytes, EMU_WRITE, __builtin_return_address(0));
    return memset(dst, value, bytes);
}
