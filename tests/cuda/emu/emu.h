/* A GPU on the processor, for checking kernels and not for speed: the project's own .cu files, compiled by clang++ with
 * -fsanitize=thread, run here, and what that option inserts before every access to memory (__tsan_read4() and so on) is ours.
 *
 * Threads of a block are fibers that change at barriers and shuffles and, on request, before any access; blocks run one
 * after the other. Every byte of device and shared memory has a record of who touched it last, so a data race is
 * found by what the barriers order, not by the order that happened to run: between threads of a block from one
 * barrier to the next, and between blocks over the whole launch.
 * Not seen: weak memory order inside what barriers order, races between streams, blocks that wait for each other.
 * Not supported, and not compiled: cooperative groups, __syncwarp, partial masks, textures, inline PTX.
 *
 * One thread at a time, one emulated device a process. Shares nothing with the ref device. */
#ifndef EMU_H
#define EMU_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum emu_checker {
    EMU_RACE_SHARED,    /* two threads of a block, one writes, no barrier between */
    EMU_RACE_GLOBAL,    /* the same on device memory, or two blocks of one launch */
    EMU_BOUNDS,         /* outside an allocation or shared array, or freed; ends the launch */
    EMU_UNINIT_SHARED,  /* read before this block wrote it */
    EMU_UNINIT_GLOBAL,  /* read before anyone wrote it, copies to the host included */
    EMU_DIVERGENT,      /* a barrier or shuffle that not every thread reaches, or not the same one; ends the launch */
    EMU_MISALIGNED,     /* address not a multiple of the access' size */
    EMU_HOST_ACCESS,    /* host memory, or another thread's local variable; ends the launch */
    EMU_FLOAT_ATOMIC,   /* the result would depend on the order of threads */
    EMU_LAUNCH,         /* a grid, block or amount of shared memory that no GPU takes; nothing is launched */
    EMU_CHECKERS
} emu_checker;
const char *emu_checker_name(emu_checker c);

/* How often a checker found something since emu_clear(), and the first finding in words ("" when none). */
unsigned    emu_found(emu_checker c);
unsigned    emu_found_any(void);
const char *emu_first(void);
emu_checker emu_first_checker(void);    /* whose it was */
void        emu_clear(void);

/* In which order threads and blocks run. */
typedef enum emu_turn { EMU_FORWARD, EMU_REVERSE, EMU_SHUFFLED } emu_turn;
typedef struct emu_order { emu_turn turn; bool preempt; /* change before one access in 8 */ uint64_t seed; } emu_order;
void emu_set_order(emu_order order);

/* Bytes that kernels moved from and to the allocation that begins at p, since it was made or emu_traffic_clear(). */
typedef struct emu_traffic { uint64_t read_bytes, written_bytes; } emu_traffic;
emu_traffic emu_traffic_of(const void *p);
void        emu_traffic_clear(void);

/* From now on every launch is written to a file of its own in `folder`, with all device memory before and after it, for ptx.py
 * to do it again with what nvcc made of the kernel. NULL: no more. The folder must exist and be empty. */
void     emu_record(const char *folder);
uint64_t emu_launches(void);           /* so far */
#endif
