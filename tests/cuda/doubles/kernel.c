/* Our own kernels on the processor: the library of tests/cuda/emu's compiler calls emu_launch(), and hooks before every access. Here an
 * access is noted for races.c and checked against live blocks; races within a launch, barriers that were forgotten and memory that
 * nobody wrote are the business of tests/cuda/emu, which looks at every byte and is too slow for a network.
 * Threads of a block run one after the other on one stack; only a thread that waits at a barrier or shuffle keeps the stack it
 * has, and the next one gets another. */
#define _GNU_SOURCE
#include "tests/cuda/doubles/internal.h"
#include "tests/cuda/emu/fiber.h"
#include "tests/cuda/emu/internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vector_types.h>

enum { MOST_THREADS = 1024, WARP = 32, STACK = 64 << 10, ARENA = 128 << 10, ARRAYS = 16, NAMED = 16, STAGGERED = 61, LINES = 256 /* so that stacks are not all in the same sets of the cache */ };
typedef enum state { NEW, READY, AT_BARRIER, AT_SHUFFLE, ENDED } state;
typedef struct thread {
    uint3 id;
    state state;
    int stack, line, partner;
    uint64_t value;
} thread;
typedef struct launch {
    const char *name;
    void (*body)(const void *);
    emu_dim grid, block;
    size_t smem, closure_bytes;
    _Alignas(NAMED) char closure[];
} launch;

emu_running emu_now;
static _Thread_local __attribute__((tls_model("initial-exec"))) bool inside; /* the launchers' own code is compiled with hooks too, and any thread may be in it */
static thread threads[MOST_THREADS];
static struct {
    const launch *l;
    char *stacks;
    fiber scheduler, fiber[MOST_THREADS]; /* of each stack */
    int n, current, next, ended, n_stacks, idle[MOST_THREADS], n_idle;
    uintptr_t args;
    size_t args_bytes;
    bool stopped;
    uint3 at;
} run;

static struct {
    _Alignas(256) char memory[ARENA];
    struct {
        const void *key;
        char *at;
    } list[ARRAYS];
    int n;
    size_t used;
} shared;

/* ---- what a kernel asks for */
uint3 emu_thread(void);
uint3 emu_block(void);
uint3 emu_block_dim(void);
uint3 emu_grid_dim(void);
void *emu_dyn_shared(void);
void *emu_shared_array(const void *key, size_t bytes, size_t align);
uint3 emu_thread(void) { return threads[run.current].id; }
uint3 emu_block(void) { return run.at; }
uint3 emu_block_dim(void) { return (uint3){ run.l->block.x, run.l->block.y, run.l->block.z }; }
uint3 emu_grid_dim(void) { return (uint3){ run.l->grid.x, run.l->grid.y, run.l->grid.z }; }
void *emu_dyn_shared(void) { return shared.memory; }

void *emu_shared_array(const void *key, size_t bytes, size_t align)
{
    for (int i = 0; i < shared.n; i++)
        if (shared.list[i].key == key) return shared.list[i].at;
    char *at = shared.memory + (shared.used + align - 1) / align * align;
    if (shared.n == ARRAYS || at + bytes > shared.memory + ARENA) abort();
    memset(at, 0xff, bytes);
    shared.list[shared.n].key = key;
    shared.list[shared.n++].at = at;
    shared.used = (size_t)(at - shared.memory) + bytes;
    return at;
}

/* ---- accesses */
static void leave(void)
{
    const int stack = threads[run.current].stack;
    fiber_switch(&run.fiber[stack], &run.scheduler);
}

static void stop(cudaError_t e)
{
    dbl_break(e);
    run.stopped = true;
    leave();
}

static bool own(uintptr_t p)
{
    const uintptr_t stacks = (uintptr_t)run.stacks, arena = (uintptr_t)shared.memory;
    return p - arena < ARENA || p - stacks < (size_t)MOST_THREADS * STACK || p - run.args < run.args_bytes;
}
bool emu_exempt(uintptr_t p, size_t bytes) { return !inside || own(p); }

void emu_access(uintptr_t p, size_t bytes, emu_how how, const void *pc)
{
    if (!emu_now.kernel) return;
    if (__builtin_expect(p - dbl_lo < dbl_hi - dbl_lo, 1)) {
        if (__builtin_expect(!dbl_touch_one(p, bytes, how != EMU_READ), 0)) stop(cudaErrorIllegalAddress);
    } else if (!own(p) && inside) {
        dbl_finding("host memory: %s touches %p, which is no device memory", emu_now.kernel, (void *)p);
        stop(cudaErrorIllegalAddress);
    }
}

void emu_atomic(const void *p, size_t bytes, bool is_float);
void emu_atomic(const void *p, size_t bytes, bool is_float)
{
    if (p) emu_access((uintptr_t)p, bytes, EMU_ATOMIC, NULL);
}

/* ---- barriers and shuffles */
static void wait_in(state s, int line)
{
    threads[run.current].state = s;
    threads[run.current].line = line;
}

void emu_barrier(emu_site at);
uint64_t emu_shuffle(uint32_t mask, uint64_t v, int lane_xor, emu_site at);
void emu_barrier(emu_site at)
{
    wait_in(AT_BARRIER, at.line);
    leave();
}

static void open_shuffle(thread *warp)
{
    uint64_t value[WARP];
    for (int i = 0; i < WARP; i++)
        if (warp[i].state != AT_SHUFFLE || warp[i].line != warp[0].line) return;
    for (int i = 0; i < WARP; i++) value[i] = warp[i].value;
    for (int i = 0; i < WARP; i++) {
        warp[i].value = value[warp[i].partner];
        warp[i].state = READY;
    }
}

uint64_t emu_shuffle(uint32_t mask, uint64_t v, int lane_xor, emu_site at)
{
    const int lane = run.current % WARP;
    thread *t = &threads[run.current];
    t->value = v;
    t->partner = lane ^ (lane_xor & (WARP - 1));
    wait_in(AT_SHUFFLE, at.line);
    if (run.current - lane + WARP <= run.n) open_shuffle(t - lane);
    if (t->state != READY) leave();
    return t->value;
}

/* ---- a block */
/* A stack runs threads that have not begun, until one of them waits. */
static void work(void)
{
    for (;;) {
        const int stack = threads[run.current].stack;
        run.l->body(run.l->closure);
        threads[run.current].state = ENDED;
        run.ended++;
        if (run.next < run.n) {
            run.current = run.next++;
            threads[run.current].stack = stack;
            continue;
        }
        run.idle[run.n_idle++] = stack;
        fiber_switch(&run.fiber[stack], &run.scheduler);
    }
}

static void start_next(void)
{
    const bool again = run.n_idle > 0;
    const int stack = again ? run.idle[--run.n_idle] : run.n_stacks++;
    run.current = run.next++;
    threads[run.current].stack = stack;
    char *bottom = run.stacks + (size_t)stack * STACK;
    if (!again) fiber_make(&run.fiber[stack], bottom, bottom + STACK - stack % STAGGERED * LINES, work);
    fiber_switch(&run.scheduler, &run.fiber[stack]);
}

static bool open_barrier(void)
{
    for (int i = 0; i < run.n; i++)
        if (threads[i].state != AT_BARRIER || threads[i].line != threads[0].line) {
            dbl_finding("divergence: %s: threads of a block wait at different places, or for threads that have ended", emu_now.kernel);
            dbl_break(cudaErrorLaunchFailure);
            return false;
        }
    for (int i = 0; i < run.n; i++) threads[i].state = READY;
    return true;
}

static void go_on(void)
{
    for (int i = 0; i < run.n && !run.stopped; i++)
        if (threads[i].state == READY) {
            run.current = i;
            fiber_switch(&run.scheduler, &run.fiber[threads[i].stack]);
        }
}

static bool any_ready(void)
{
    for (int i = 0; i < run.n; i++)
        if (threads[i].state == READY) return true;
    return false;
}

static void run_block(void)
{
    run.next = run.ended = 0;
    for (int i = 0; i < run.n; i++) threads[i].state = NEW;
    while (run.next < run.n && !run.stopped) start_next();
    while (run.ended < run.n && !run.stopped) {
        if (!any_ready() && !open_barrier()) run.stopped = true;
        go_on();
    }
}

bool dbl_idle;
void dbl_set_idle(bool idle) { dbl_idle = idle; }

static bool run_launch(void *ctx)
{
    const launch *l = ctx;
    if (dbl_idle) return true;
    run.l = l;
    run.args = (uintptr_t)l->closure;
    run.args_bytes = l->closure_bytes;
    emu_now.kernel = l->name;
    inside = true;
    run.n = (int)(l->block.x * l->block.y * l->block.z);
    run.n_stacks = run.n_idle = 0;
    run.stopped = false;
    for (int i = 0; i < run.n; i++) threads[i].id = (uint3){ (unsigned)i % l->block.x, (unsigned)i / l->block.x % l->block.y, (unsigned)i / l->block.x / l->block.y };
    for (run.at.z = 0; run.at.z < l->grid.z; run.at.z++)
        for (run.at.y = 0; run.at.y < l->grid.y; run.at.y++)
            for (run.at.x = 0; run.at.x < l->grid.x && !run.stopped; run.at.x++) {
                shared.n = 0;
                shared.used = l->smem;
                memset(shared.memory, 0xff, l->smem);
                run_block();
            }
    inside = false;
    emu_now.kernel = NULL;
    return true;
}

/* ---- a launch */
static bool launchable(emu_dim grid, emu_dim block, size_t smem)
{
    const uint64_t n = (uint64_t)block.x * block.y * block.z;
    return n >= 1 && n <= MOST_THREADS && block.z <= 64 && grid.x >= 1 && grid.x <= INT32_MAX && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
           grid.z <= 65535 && smem <= EMU_SHARED_MAX;
}

static void take_stacks(void)
{
    if (run.stacks) return;
    run.stacks = mmap(NULL, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (run.stacks == MAP_FAILED) abort();
}

void emu_launch(const char *kernel, const void *address, emu_dim grid, emu_dim block, size_t smem, cudaStream_t stream, const emu_params *params,
                void (*body)(const void *), const void *closure, size_t closure_bytes);
void emu_launch(const char *kernel, const void *address, emu_dim grid, emu_dim block, size_t smem, cudaStream_t stream, const emu_params *params,
                void (*body)(const void *), const void *closure, size_t closure_bytes)
{
    if (!launchable(grid, block, smem)) {
        dbl_said(cudaErrorInvalidConfiguration);
        return;
    }
    launch *l = calloc(1, sizeof *l + closure_bytes);
    if (!l) abort();
    *l = (launch){ .name = kernel, .body = body, .grid = grid, .block = block, .smem = smem, .closure_bytes = closure_bytes };
    memcpy(l->closure, closure, closure_bytes);
    const dbl_work w = { .name = kernel, .kind = DBL_KERNEL, .run = run_launch, .ctx = l, .bytes = sizeof *l + closure_bytes };
    dbl_lock();
    take_stacks();
    dbl_task *t = dbl_task_new(&w);
    dbl_unlock();
    free(l);
    dbl_enqueue_task(stream, t, "cudaLaunchKernel");
}
