/* Fibers: several stacks in one thread. A switch saves the registers a call must keep and nothing else. */
#ifndef EMU_FIBER_H
#define EMU_FIBER_H
#include <stdint.h>

#if defined(__x86_64__)
typedef void *fiber;    /* the saved stack pointer */
#else
#include <ucontext.h>
typedef ucontext_t fiber;
#endif
/* Makes `out` begin with entry() on the stack that ends at `top`; entry() must not return. */
void fiber_make(fiber *out, char *bottom, char *top, void (*entry)(void));
/* Saves where we are and goes on with `to`. */
void fiber_switch(fiber *save, fiber *to);
#endif
