#include "tests/cuda/emu/fiber.h"

#if defined(__x86_64__)
void emu_fiber_swap(void **save, void *to);
__asm__(".text\n.globl emu_fiber_swap\n.type emu_fiber_swap,@function\nemu_fiber_swap:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size emu_fiber_swap,.-emu_fiber_swap\n");

void fiber_make(fiber *out, char *bottom, char *top, void (*entry)(void))
{
    void **sp = (void **)((uintptr_t)top & ~(uintptr_t)63);
    *--sp = 0; /* a return address for entry(), and the alignment a called function expects */
    *--sp = (void *)(uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--sp = 0;
    *out = sp;
}

void fiber_switch(fiber *save, fiber *to) { emu_fiber_swap(save, *to); }
#else
void fiber_make(fiber *out, char *bottom, char *top, void (*entry)(void))
{
    getcontext(out);
    out->uc_stack.ss_sp = bottom;
    out->uc_stack.ss_size = (size_t)(top - bottom);
    out->uc_link = 0;
    makecontext(out, entry, 0);
}

void fiber_switch(fiber *save, fiber *to) { swapcontext(save, to); }
#endif
