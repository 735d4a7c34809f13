/* Between the parts of the emulator: block.c runs threads, memory.c knows every byte, report.c keeps what was found. */
#ifndef EMU_INTERNAL_H
#define EMU_INTERNAL_H
#include "tests/cuda/emu/emu.h"

typedef struct emu_site { const char *file; int line; } emu_site;
typedef struct emu_dim { uint32_t x, y, z; } emu_dim;   /* CUDA's dim3 and uint3 */

/* ---- report.c */
void emu_report(emu_checker c, const void *pc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- block.c */
typedef struct emu_running { const char *kernel; uint32_t block; int thread; } emu_running; /* kernel NULL: no thread runs */
extern emu_running emu_now;
void emu_stop_launch(void);     /* leaves the running thread; does not return into it */
bool emu_exempt(uintptr_t p, size_t bytes);     /* the running thread's stack, the launch's arguments; inside an atomic operation */
void emu_maybe_preempt(void);

/* ---- memory.c: eras count barriers, blocks and launches in one number, so that an era says which of them it is in */
typedef enum emu_how { EMU_READ, EMU_WRITE, EMU_ATOMIC } emu_how;
void  emu_era_launch(void);
void  emu_era_block(void);
void  emu_era_barrier(void);
void  emu_access(uintptr_t p, size_t bytes, emu_how how, const void *pc);
void *emu_mem_alloc(size_t bytes);               /* 256-aligned, unknown contents; NULL: the emulated memory is full */
bool  emu_mem_free(void *p);
bool  emu_mem_known(const void *p, size_t bytes, bool set); /* set: now initialised by the host; else: reports what is not. false: outside */
void  emu_shared_reset(size_t dyn_bytes);        /* at the start of a block */
size_t emu_shared_used(void);
enum { EMU_SHARED_MAX = 48 << 10 };              /* what a launch may use without asking for more */

/* ---- record.c: launches written to files, see emu_record() */
typedef struct emu_shape { emu_dim grid, block; size_t smem; } emu_shape;
typedef struct emu_params { uint32_t bytes, pointers; unsigned char data[512]; struct { uint32_t at; char to; } pointer[16]; } emu_params; /* shim.h */
void emu_record_before(const void *kernel, const emu_shape *shape, const emu_params *params);
void emu_record_after(void);
/* Calls see() for each live allocation, in order of address. */
void emu_mem_each(void (*see)(void *state, const void *p, size_t bytes), void *state);
#endif
