/* The NCCL double itself: misuse by one rank, and the end of a peer. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/cuda/doubles/doubles.h"

static ncclComm_t begin_alone(bool blocking)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    ncclComm_t c = NULL;
    config.blocking = blocking;
    assert_int_equal(cudaSetDevice(0), cudaSuccess);
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    assert_int_equal(ncclCommInitRankConfig(&c, 1, id, 0, &config), blocking ? ncclSuccess : ncclInProgress);
    return c;
}

static void found(unsigned n)
{
    assert_int_equal(dbl_findings(), n);
    dbl_findings_clear();
}

static void settle(ncclComm_t c)
{
    int answers = 0;
    for (ncclResult_t state = ncclInProgress; state == ncclInProgress; answers++) assert_int_equal(ncclCommGetAsyncError(c, &state), ncclSuccess);
    assert_true(answers > 2);
}

static void test_misuse_is_found(void **state)
{
    float *p;
    int n = 0;
    cudaStream_t stream;
    assert_int_equal(cudaSetDevice(0), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&p, 4096), cudaSuccess);
    assert_int_equal(cudaMemset(p, 0, 4096), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ncclComm_t c = begin_alone(false);
    assert_int_equal(ncclAllReduce(p, p, 8, ncclFloat, ncclSum, c, stream), ncclInvalidArgument); /* not ready */
    found(1);
    settle(c);
    assert_int_equal(ncclCommCount(c, &n), ncclSuccess);
    assert_int_equal(n, 1);
    assert_int_equal(ncclGroupEnd(), ncclInvalidUsage);
    found(1);
    assert_int_equal(ncclAllReduce(p, p + 4, 8, ncclFloat, ncclSum, c, stream), ncclInvalidArgument); /* overlap */
    found(1);
    assert_int_equal(ncclAllReduce(p, p, 8, ncclFloat, ncclSum, c, stream), ncclInProgress);
    assert_int_equal(ncclBroadcast(p, p, 8, ncclFloat, 0, c, stream), ncclInvalidArgument); /* the one before is not settled */
    found(1);
    settle(c);
    assert_int_equal(ncclCommDestroy(c), ncclSuccess); /* nothing has run: the stream was not waited for */
    found(1);
    assert_int_equal(ncclAllReduce(p, p, 8, ncclFloat, ncclSum, c, stream), ncclInvalidArgument); /* after the end */
    found(1);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    c = begin_alone(false);
    settle(c);
    assert_int_equal(ncclGroupStart(), ncclSuccess);
    assert_int_equal(ncclAllReduce(p, p, 8, ncclFloat, ncclSum, c, stream), ncclSuccess);
    assert_int_equal(ncclAllReduce(p + 8, p + 8, 8, ncclFloat, ncclSum, c, stream), ncclSuccess);
    assert_int_equal(ncclGroupEnd(), ncclInProgress);
    settle(c);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(ncclCommFinalize(c), ncclInProgress);
    settle(c);
    assert_int_equal(ncclCommDestroy(c), ncclSuccess);
    found(0);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    assert_int_equal(cudaFree(p), cudaSuccess);
}

/* The other rank is a process that is killed in the middle of its life. Its end is told; or, as NCCL does too, nothing is. */
static void other_rank(const ncclUniqueId *id)
{
    ncclComm_t c = NULL;
    if (cudaSetDevice(1) == cudaSuccess && ncclCommInitRank(&c, 2, *id, 1) == ncclSuccess) raise(SIGKILL);
    _exit(1);
}

static void test_dead_process(void **state)
{
    for (int told = 1; told >= 0; told--) {
        ncclUniqueId id;
        ncclComm_t c = NULL;
        ncclResult_t answer = ncclSuccess;
        cudaStream_t stream;
        float *p;
        int status = 0;
        assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
        if (!told) setenv("RM_DOUBLES_FAULTS", "nccl-dead-hang", 1);
        const pid_t child = fork();
        if (child == 0) other_rank(&id);
        assert_int_equal(cudaSetDevice(0), cudaSuccess);
        assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaMalloc((void **)&p, 4096), cudaSuccess);
        assert_int_equal(ncclCommInitRank(&c, 2, id, 0), ncclSuccess);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(cudaMemsetAsync(p, 0, 4096, stream), cudaSuccess);
        assert_int_equal(ncclAllReduce(p, p, 8, ncclFloat, ncclSum, c, stream), ncclSuccess);
        for (int i = 0; i < 50 && answer == ncclSuccess; i++) {
            assert_int_equal(cudaStreamQuery(stream), cudaErrorNotReady);
            assert_int_equal(ncclCommGetAsyncError(c, &answer), ncclSuccess);
            usleep(2000);
        }
        assert_int_equal(answer, told ? ncclRemoteError : ncclSuccess);
        assert_int_equal(ncclCommAbort(c), ncclSuccess);
        assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess); /* an aborted kernel ends */
        unsetenv("RM_DOUBLES_FAULTS");
        assert_int_equal(cudaFree(p), cudaSuccess);
        assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    }
    found(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_dead_process), cmocka_unit_test(test_misuse_is_found) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
