/* Threads of a block as fibers, and what they wait for. */
#include "tests/cuda/emu/internal.h"
#include "tests/cuda/emu/fiber.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vector_types.h>

enum { MOST_THREADS = 1024, WARP = 32, STACK = 64 << 10 };
typedef enum state { READY, AT_BARRIER, AT_SHUFFLE, ENDED } state;
typedef struct thread {
    fiber f;
    state state;
    emu_site site;
    uint64_t value;
    int partner;
    emu_dim id;
} thread;

emu_running emu_now;
static thread threads[MOST_THREADS];
static struct {
    emu_order order;
    uint64_t random, launches;
    char *stacks;
    fiber scheduler;
    int n, current;
    bool stopped, atomic;
    emu_dim grid, block, at;
    void (*body)(const void *);
    const char *closure;
    size_t closure_bytes;
} run;

void emu_set_order(emu_order order)
{
    run.order = order;
    run.random = order.seed * 2 + 1;
}
uint64_t emu_launches(void) { return run.launches; }

static uint32_t draw(uint32_t below)
{
    run.random = run.random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((run.random >> 33) % below);
}

/* ---- the running thread */
static uint3 to_uint3(emu_dim d) { return (uint3) { d.x, d.y, d.z }; }
uint3 emu_thread(void);
uint3 emu_block(void);
uint3 emu_block_dim(void);
uint3 emu_grid_dim(void);
uint3 emu_thread(void) { return to_uint3(threads[run.current].id); }
uint3 emu_block(void) { return to_uint3(run.at); }
uint3 emu_block_dim(void) { return to_uint3(run.block); }
uint3 emu_grid_dim(void) { return to_uint3(run.grid); }

static void leave(void)
{
    thread *t = &threads[run.current];
    emu_now.kernel = NULL;
    fiber_switch(&t->f, &run.scheduler);
}

static void enter(int i, const char *kernel)
{
    run.current = i;
    emu_now.kernel = kernel;
    emu_now.thread = i;
    fiber_switch(&run.scheduler, &threads[i].f);
    emu_now.kernel = NULL;
}

static void begin(void)
{
    run.body(run.closure);
    threads[run.current].state = ENDED;
    leave();
    abort();
}

void emu_stop_launch(void)
{
    run.stopped = true;
    leave();
}

bool emu_exempt(uintptr_t p, size_t bytes)
{
    if (run.atomic) return true;
    uintptr_t stack = (uintptr_t)run.stacks + (size_t)run.current * STACK, args = (uintptr_t)run.closure;
    return (p >= stack && p + bytes <= stack + STACK) || (p >= args && p + bytes <= args + run.closure_bytes);
}

void emu_maybe_preempt(void)
{
    const char *kernel = emu_now.kernel;
    if (!run.order.preempt || draw(8)) return;
    leave();
    emu_now.kernel = kernel;
}

/* ---- barriers and shuffles */
void emu_barrier(emu_site at);
uint64_t emu_shuffle(uint32_t mask, uint64_t v, int lane_xor, emu_site at);
void emu_atomic(const void *p, size_t bytes, bool is_float);

void emu_barrier(emu_site at)
{
    threads[run.current].site = at;
    threads[run.current].state = AT_BARRIER;
    leave();
}

static bool same_site(emu_site a, emu_site b) { return a.line == b.line && !strcmp(a.file, b.file); }

/* The last lane to arrive hands every lane its partner's value and lets all go on. */
static void shuffle_arrived(thread *warp)
{
    uint64_t value[WARP];
    for (int i = 0; i < WARP; i++)
        if (warp[i].state != AT_SHUFFLE || !same_site(warp[i].site, warp[0].site)) return;
    for (int i = 0; i < WARP; i++) value[i] = warp[i].value;
    for (int i = 0; i < WARP; i++) {
        warp[i].value = value[warp[i].partner];
        warp[i].state = READY;
    }
}

uint64_t emu_shuffle(uint32_t mask, uint64_t v, int lane_xor, emu_site at)
{
    int lane = run.current % WARP, first = run.current - lane;
    thread *t = &threads[run.current];
    if (mask != 0xffffffffu || first + WARP > run.n) {
        emu_report(EMU_DIVERGENT, __builtin_return_address(0), "shuffle with a mask of lanes that are not there (line %d)", at.line);
        emu_stop_launch();
    }
    t->value = v;
    t->partner = lane ^ (lane_xor & (WARP - 1));
    t->site = at;
    t->state = AT_SHUFFLE;
    shuffle_arrived(&threads[first]);
    if (t->state != READY) leave();
    return t->value;
}

/* p NULL: the atomic operation is over. */
void emu_atomic(const void *p, size_t bytes, bool is_float)
{
    run.atomic = false;
    if (!p) return;
    if (is_float) emu_report(EMU_FLOAT_ATOMIC, __builtin_return_address(0), "a sum whose order is that of the threads");
    emu_access((uintptr_t)p, bytes, EMU_ATOMIC, __builtin_return_address(0));
    run.atomic = true;
}

/* ---- a block */
static void order_of(int *order, int n)
{
    for (int i = 0; i < n; i++) order[i] = run.order.turn == EMU_REVERSE ? n - 1 - i : i;
    if (run.order.turn != EMU_SHUFFLED) return;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)draw((uint32_t)i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static int count(state s)
{
    int n = 0;
    for (int i = 0; i < run.n; i++) n += threads[i].state == s;
    return n;
}

static int first_in(state s)
{
    for (int i = 0; i < run.n; i++)
        if (threads[i].state == s) return i;
    return -1;
}

/* Nobody can go on: a whole barrier opens, anything else is divergence. Returns false when the launch is over. */
static bool open_barrier(const char *kernel)
{
    int waiting = count(AT_BARRIER), shuffling = count(AT_SHUFFLE), first = first_in(shuffling ? AT_SHUFFLE : AT_BARRIER);
    bool same = true;
    emu_site site = threads[first].site;
    for (int i = 0; i < run.n; i++)
        if (threads[i].state == AT_BARRIER && !same_site(threads[i].site, site)) same = false;
    emu_now = (emu_running) { kernel, emu_now.block, first };
    if (shuffling) emu_report(EMU_DIVERGENT, NULL, "%d threads wait in the shuffle at line %d for lanes that do not come", shuffling, site.line);
    else if (waiting < run.n)
        emu_report(EMU_DIVERGENT, NULL, "%d of %d threads wait at the barrier at line %d, the others have ended", waiting, run.n, site.line);
    else if (!same) emu_report(EMU_DIVERGENT, NULL, "threads wait at different barriers, one of them at line %d", site.line);
    emu_now.kernel = NULL;
    if (shuffling || waiting < run.n || !same) return false;
    for (int i = 0; i < run.n; i++) threads[i].state = READY;
    emu_era_barrier();
    return true;
}

static void run_block(const char *kernel)
{
    int order[MOST_THREADS];
    for (int i = 0; i < run.n; i++) {
        threads[i].state = READY;
        fiber_make(&threads[i].f, run.stacks + (size_t)i * STACK, run.stacks + (size_t)(i + 1) * STACK, begin);
    }
    for (;;) {
        order_of(order, run.n);
        for (int i = 0; i < run.n && !run.stopped; i++)
            if (threads[order[i]].state == READY) enter(order[i], kernel);
        if (run.stopped || count(ENDED) == run.n) return;
        if (count(READY) == 0 && !open_barrier(kernel)) {
            run.stopped = true;
            return;
        }
    }
}

/* ---- a launch */
static bool launchable(emu_dim grid, emu_dim block, size_t smem)
{
    uint64_t n = (uint64_t)block.x * block.y * block.z;
    if (n >= 1 && n <= MOST_THREADS && block.z <= 64 && grid.x >= 1 && grid.x <= INT32_MAX && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
        grid.z <= 65535 && smem <= EMU_SHARED_MAX)
        return true;
    emu_report(EMU_LAUNCH, NULL, "grid %u,%u,%u, block %u,%u,%u, %zu bytes of shared memory", grid.x, grid.y, grid.z, block.x, block.y, block.z, smem);
    return false;
}

static void prepare(emu_dim grid, emu_dim block)
{
    if (!run.stacks) {
        run.stacks = mmap(NULL, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (run.stacks == MAP_FAILED) abort();
    }
    run.grid = grid;
    run.block = block;
    run.n = (int)(block.x * block.y * block.z);
    run.stopped = false;
    for (int i = 0; i < run.n; i++) threads[i].id = (emu_dim) { (uint32_t)i % block.x, (uint32_t)i / block.x % block.y, (uint32_t)i / block.x / block.y };
    run.launches++;
    emu_era_launch();
}

void emu_launch(const char *kernel, const void *address, emu_dim grid, emu_dim block, size_t smem, void *stream, const emu_params *params,
                void (*body)(const void *), const void *closure, size_t closure_bytes);
void emu_launch(const char *kernel, const void *address, emu_dim grid, emu_dim block, size_t smem, void *stream, const emu_params *params,
                void (*body)(const void *), const void *closure, size_t closure_bytes)
{
    const emu_shape shape = { grid, block, smem };
    if (!launchable(grid, block, smem)) return;
    prepare(grid, block);
    emu_record_before(address, &shape, params);
    run.body = body;
    run.closure = closure;
    run.closure_bytes = closure_bytes;
    uint32_t blocks = grid.x * grid.y * grid.z;
    int *order = malloc(blocks * sizeof *order);
    if (!order) abort();
    order_of(order, (int)blocks);
    for (uint32_t i = 0; i < blocks && !run.stopped; i++) {
        uint32_t b = (uint32_t)order[i];
        run.at = (emu_dim) { b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y };
        emu_now.block = b;
        emu_era_block();
        emu_shared_reset(smem);
        run_block(kernel);
    }
    free(order);
    emu_record_after();
}
