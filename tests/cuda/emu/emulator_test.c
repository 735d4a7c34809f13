/* The emulator sees every seeded bug, with the right checker, under every order of threads; and nothing in the twins. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <cuda_runtime_api.h>
#include "tests/cuda/emu/emu.h"
#include "tests/cuda/emu/seeded.h"

enum { COUNT = 192, CLEAN = -1 };
static const int expected[SEEDS] = {
    [SEED_NONE_BLOCK] = CLEAN,
    [SEED_NONE_WARP] = CLEAN,
    [SEED_NONE_COPY] = CLEAN,
    [SEED_NONE_ATOMIC] = CLEAN,
    [SEED_MISSING_BARRIER] = EMU_RACE_SHARED,
    [SEED_MISSING_LOOP_BARRIER] = EMU_RACE_SHARED,
    [SEED_UNINIT_SHARED] = EMU_UNINIT_SHARED,
    [SEED_SHARED_BOUNDS] = EMU_BOUNDS,
    [SEED_SAME_OUTPUT] = EMU_RACE_GLOBAL,
    [SEED_DIVERGENT_BRANCH] = EMU_DIVERGENT,
    [SEED_DIVERGENT_EXIT] = EMU_DIVERGENT,
    [SEED_DIVERGENT_SHUFFLE] = EMU_DIVERGENT,
    [SEED_PARTIAL_MASK] = EMU_DIVERGENT,
    [SEED_BOUNDS] = EMU_BOUNDS,
    [SEED_HOST_POINTER] = EMU_HOST_ACCESS,
    [SEED_MISALIGNED] = EMU_MISALIGNED,
    [SEED_NEIGHBOUR] = EMU_RACE_GLOBAL,
    [SEED_NEIGHBOUR_READ] = EMU_RACE_GLOBAL,
    [SEED_FREED] = EMU_BOUNDS,
    [SEED_UNINIT_GLOBAL] = EMU_UNINIT_GLOBAL,
    [SEED_FLOAT_ATOMIC] = EMU_FLOAT_ATOMIC,
    [SEED_PLAIN_COUNT] = EMU_RACE_GLOBAL,
    [SEED_BLOCK_SIZE] = EMU_LAUNCH,
};
static const emu_order orders[] = { { EMU_FORWARD, false, 0 }, { EMU_REVERSE, false, 0 }, { EMU_SHUFFLED, false, 3 }, { EMU_SHUFFLED, true, 4 } };

/* y as kernels left it, without the emulator's opinion. */
static void run(int bug, float y[COUNT])
{
    static const float host = 1;
    float values[COUNT];
    void *x = NULL, *out = NULL, *count = NULL;
    for (int i = 0; i < COUNT; i++) values[i] = (float)(i % 7) - 2;
    assert_int_equal(cudaMalloc(&x, sizeof values), cudaSuccess);
    assert_int_equal(cudaMalloc(&out, sizeof values), cudaSuccess);
    assert_int_equal(cudaMalloc(&count, sizeof(int)), cudaSuccess);
    if (bug != SEED_UNINIT_GLOBAL) assert_int_equal(cudaMemcpyAsync(x, values, sizeof values, cudaMemcpyHostToDevice, NULL), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(out, 0, sizeof values, NULL), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(count, 0, sizeof(int), NULL), cudaSuccess);
    if (bug == SEED_FREED) assert_int_equal(cudaFree(x), cudaSuccess);
    const seed_buffers b = { x, out, count, &host };
    seed_run(bug, &b);
    assert_int_equal(cudaMemcpyAsync(y, out, sizeof values, cudaMemcpyDeviceToHost, NULL), cudaSuccess);
    if (bug != SEED_FREED) assert_int_equal(cudaFree(x), cudaSuccess);
    assert_int_equal(cudaFree(out), cudaSuccess);
    assert_int_equal(cudaFree(count), cudaSuccess);
}

static void sees_every_bug_whatever_the_order(void **state)
{
    float y[COUNT];
    for (int bug = 0; bug < SEEDS; bug++)
        for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
            emu_clear();
            emu_set_order(orders[i]);
            run(bug, y);
            if (expected[bug] == CLEAN) {
                if (emu_found_any()) fail_msg("twin %d, order %zu: %s", bug, i, emu_first());
            } else if (!emu_found((emu_checker)expected[bug]))
                fail_msg("bug %d, order %zu: not seen by %s; %s", bug, i, emu_checker_name((emu_checker)expected[bug]), emu_first());
        }
}

/* The twins compute: the emulator is not merely quiet. */
static void computes(void **state)
{
    float y[COUNT];
    const emu_order forward = { EMU_FORWARD, false, 0 };
    emu_clear();
    emu_set_order(forward);
    run(SEED_NONE_BLOCK, y);
    for (int b = 0; b < 3; b++) {
        float sum = 0;
        for (int i = 64 * b; i < 64 * b + 64; i++) sum += (float)(i % 7) - 2;
        assert_true(y[b] == sum);
    }
    run(SEED_NONE_WARP, y);
    float sum = 0;
    for (int i = 0; i < 32; i++) sum += (float)(i % 7) - 2;
    assert_true(y[0] == sum);
}

static void counts_bytes(void **state)
{
    void *x, *y;
    float values[COUNT] = { 0 };
    const emu_order forward = { EMU_FORWARD, false, 0 };
    emu_clear();
    emu_set_order(forward);
    assert_int_equal(cudaMalloc(&x, sizeof values), cudaSuccess);
    assert_int_equal(cudaMalloc(&y, sizeof values), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(x, values, sizeof values, cudaMemcpyHostToDevice, NULL), cudaSuccess);
    const seed_buffers b = { x, y, NULL, NULL };
    seed_run(SEED_NONE_COPY, &b);
    assert_int_equal(emu_traffic_of(x).read_bytes, sizeof values);
    assert_int_equal(emu_traffic_of(x).written_bytes, 0);
    assert_int_equal(emu_traffic_of(y).written_bytes, sizeof values);
    assert_int_equal(cudaFree(x), cudaSuccess);
    assert_int_equal(cudaFree(y), cudaSuccess);
    assert_int_equal(cudaFree(y), cudaErrorInvalidValue);
}

static void the_host_must_not_read_what_nobody_wrote(void **state)
{
    void *x;
    float values[4];
    emu_clear();
    assert_int_equal(cudaMalloc(&x, sizeof values), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(values, x, sizeof values, cudaMemcpyDeviceToHost, NULL), cudaSuccess);
    assert_int_equal(emu_found(EMU_UNINIT_GLOBAL), 1);
    assert_int_equal(cudaMemcpyAsync(values, (char *)x + 8, sizeof values, cudaMemcpyDeviceToHost, NULL), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(x), cudaSuccess);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sees_every_bug_whatever_the_order),
        cmocka_unit_test(computes),
        cmocka_unit_test(counts_bytes),
        cmocka_unit_test(the_host_must_not_read_what_nobody_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
