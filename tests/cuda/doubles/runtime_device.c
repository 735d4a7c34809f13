/* The CUDA runtime's double: which GPUs there are, errors, faults, the lock. */
#define _GNU_SOURCE
#include "tests/cuda/doubles/internal.h"
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

extern char rm_cuda_doubles[8];
char rm_cuda_doubles[8]; /* what kernels/cuda/device.c asks for; RM_DOUBLES_TIME=1: plans are timed, as on a GPU */
static __attribute__((constructor)) void take_time(void)
{
    if (getenv("RM_DOUBLES_TIME")) rm_cuda_doubles[0] = '1';
}

/* ---- the lock */
static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
void dbl_lock(void) { pthread_mutex_lock(&mutex); }
void dbl_unlock(void) { pthread_mutex_unlock(&mutex); }

uint64_t dbl_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the environment */
static uint64_t seed(void)
{
    static uint64_t value;
    static bool known;
    const char *text = known ? NULL : getenv("RM_DOUBLES_SEED");
    if (text) value = strtoull(text, NULL, 10);
    known = true;
    return value;
}
bool dbl_seeded(void) { return seed() != 0; }

uint32_t dbl_random(uint32_t below)
{
    static uint64_t state;
    if (!state) state = seed() * 2 + 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

uint64_t dbl_fault(const char *name)
{
    const char *p = getenv("RM_DOUBLES_FAULTS");
    const size_t n = strlen(name);
    for (; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (!strncmp(p, name, n) && (p[n] == ':' || p[n] == ',' || !p[n])) return p[n] == ':' ? strtoull(p + n + 1, NULL, 10) : 1;
    return 0;
}

int dbl_gpu_count(void)
{
    const char *n = getenv("RM_DOUBLES_GPUS");
    const int count = n ? atoi(n) : DBL_MOST_GPUS;
    return count < 0 ? 0 : count > DBL_MOST_GPUS ? DBL_MOST_GPUS : count;
}

/* ---- the GPU, from its description for cuDNN (kernels/cuda/cudnn_device.h) */
static json_t *read_description(const char *path)
{
    static char text[1 << 16];
    char line[4096];
    size_t n = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        const size_t more = strlen(line);
        if (line[strspn(line, " \t")] == '#' || n + more >= sizeof text) continue;
        memcpy(text + n, line, more);
        n += more;
    }
    if (f) fclose(f);
    return json_loadb(text, n, 0, NULL);
}

static const dbl_gpu *describe(dbl_gpu *g)
{
    const char *path = getenv("RM_DOUBLES_GPU");
    snprintf(g->path, sizeof g->path, "%s", path ? path : RM_DOUBLES_DEVICES "/h100.json");
    json_t *j = read_description(g->path);
    if (!j) {
        fprintf(stderr, "doubles: RM_DOUBLES_GPU: %s is no description of a GPU\n", g->path);
        exit(2);
    }
    const struct {
        const char *key;
        int *to;
    } number[] = { { "deviceVer", &g->version },           { "multiProcessorCount", &g->multiprocessors }, { "smClockRateKHz", &g->clock_khz },
                   { "memClockRateKHz", &g->memory_clock_khz }, { "l2CacheSize", &g->l2_bytes },           { "maxSharedMemoryPerBlockOptin", &g->shared_optin } };
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) *number[i].to = (int)json_integer_value(json_object_get(j, number[i].key));
    g->memory_bytes = (size_t)json_integer_value(json_object_get(j, "totalGlobalMem"));
    snprintf(g->name, sizeof g->name, "%s", json_string_value(json_object_get(j, "deviceName")));
    json_decref(j);
    return g;
}

const dbl_gpu *dbl_gpu_described(void)
{
    static dbl_gpu gpu;
    static const dbl_gpu *known;
    dbl_lock();
    if (!known) known = describe(&gpu);
    dbl_unlock();
    return known;
}

/* ---- errors */
static cudaError_t sticky;
static _Thread_local cudaError_t last;
static _Thread_local int current;

void dbl_break(cudaError_t e)
{
    if (sticky == cudaSuccess) sticky = e;
}
cudaError_t dbl_broken(void) { return sticky; }

cudaError_t dbl_said(cudaError_t e)
{
    if (sticky != cudaSuccess) e = sticky;
    if (e != cudaSuccess) last = e;
    return e;
}

cudaError_t CUDARTAPI cudaPeekAtLastError(void) { return last; }
cudaError_t CUDARTAPI cudaGetLastError(void)
{
    const cudaError_t e = last;
    last = sticky; /* a broken context stays broken */
    return e;
}

/* The real runtime's words. */
#define ERROR(name, words) { name, #name, words }
static const struct {
    cudaError_t e;
    const char *name, *words;
} errors[] = {
    ERROR(cudaSuccess, "no error"),
    ERROR(cudaErrorInvalidValue, "invalid argument"),
    ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ERROR(cudaErrorInitializationError, "initialization error"),
    ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR(cudaErrorNotReady, "device not ready"),
    ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR(cudaErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped"),
    ERROR(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
    ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR(cudaErrorNotPermitted, "operation not permitted"),
    ERROR(cudaErrorNotSupported, "operation not supported"),
    ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    ERROR(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
    ERROR(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    ERROR(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a capturing blocking stream"),
    ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR(cudaErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture sequence from another thread"),
};

static size_t error_row(cudaError_t e)
{
    size_t i = 0;
    while (i < sizeof errors / sizeof *errors && errors[i].e != e) i++;
    return i;
}
const char *CUDARTAPI cudaGetErrorName(cudaError_t e)
{
    const size_t i = error_row(e);
    return i < sizeof errors / sizeof *errors ? errors[i].name : "cudaErrorUnknown";
}
const char *CUDARTAPI cudaGetErrorString(cudaError_t e)
{
    const size_t i = error_row(e);
    return i < sizeof errors / sizeof *errors ? errors[i].words : "unrecognized error code";
}

/* ---- devices */
int dbl_current(void) { return current; }

cudaError_t CUDARTAPI cudaGetDeviceCount(int *count)
{
    const int n = dbl_gpu_count();
    if (!n) return dbl_said(cudaErrorNoDevice); /* *count stays as it was, as with the real one */
    *count = n;
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaSetDevice(int device)
{
    if (!dbl_gpu_count()) return dbl_said(cudaErrorNoDevice);
    if (device < 0 || device >= dbl_gpu_count()) return dbl_said(cudaErrorInvalidDevice);
    current = device;
    dbl_takes();
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaGetDevice(int *device)
{
    if (!dbl_gpu_count()) return dbl_said(cudaErrorNoDevice);
    *device = current;
    return dbl_said(cudaSuccess);
}

/* Bits of the memory bus and what else no description of cuDNN's has. Published figures. */
static int bus_bits(const dbl_gpu *g) { return g->version >= 1000 ? 8192 : 5120; }
static int shared_per_multiprocessor(const dbl_gpu *g) { return g->shared_optin + 1024; }

cudaError_t CUDARTAPI cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= dbl_gpu_count()) return dbl_said(dbl_gpu_count() ? cudaErrorInvalidDevice : cudaErrorNoDevice);
    const dbl_gpu *g = dbl_gpu_described();
    *p = (struct cudaDeviceProp){
        .totalGlobalMem = g->memory_bytes, .sharedMemPerBlock = 49152, .regsPerBlock = 65536, .warpSize = 32, .memPitch = INT32_MAX,
        .maxThreadsPerBlock = 1024, .maxThreadsDim = { 1024, 1024, 64 }, .maxGridSize = { INT32_MAX, 65535, 65535 }, .totalConstMem = 65536,
        .major = g->version / 100, .minor = g->version / 10 % 10, .textureAlignment = 512, .multiProcessorCount = g->multiprocessors,
        .canMapHostMemory = 1, .concurrentKernels = 1, .ECCEnabled = 1, .pciBusID = device + 1, .asyncEngineCount = 3, .unifiedAddressing = 1,
        .memoryBusWidth = bus_bits(g), .l2CacheSize = g->l2_bytes, .maxThreadsPerMultiProcessor = 2048, .streamPrioritiesSupported = 1,
        .sharedMemPerMultiprocessor = (size_t)shared_per_multiprocessor(g), .regsPerMultiprocessor = 65536, .managedMemory = 1,
        .cooperativeLaunch = 1, .sharedMemPerBlockOptin = (size_t)g->shared_optin, .maxBlocksPerMultiProcessor = 32,
        .reservedSharedMemPerBlock = 1024, .hostRegisterSupported = 1, .memoryPoolsSupported = 1, .clusterLaunch = g->version >= 900,
    };
    snprintf(p->name, sizeof p->name, "%s", g->name);
    memset(&p->uuid, 0x40 + device, sizeof p->uuid);
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;
    const cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess) return e;
    const dbl_gpu *g = dbl_gpu_described();
    const struct {
        enum cudaDeviceAttr attribute;
        int value;
    } known[] = {
        { cudaDevAttrMaxThreadsPerBlock, 1024 },
        { cudaDevAttrMaxSharedMemoryPerBlock, 49152 },
        { cudaDevAttrMaxSharedMemoryPerBlockOptin, g->shared_optin },
        { cudaDevAttrMaxSharedMemoryPerMultiprocessor, shared_per_multiprocessor(g) },
        { cudaDevAttrWarpSize, 32 },
        { cudaDevAttrMaxRegistersPerBlock, 65536 },
        { cudaDevAttrClockRate, g->clock_khz },
        { cudaDevAttrMultiProcessorCount, g->multiprocessors },
        { cudaDevAttrMemoryClockRate, g->memory_clock_khz },
        { cudaDevAttrGlobalMemoryBusWidth, bus_bits(g) },
        { cudaDevAttrL2CacheSize, g->l2_bytes },
        { cudaDevAttrMaxThreadsPerMultiProcessor, 2048 },
        { cudaDevAttrAsyncEngineCount, 3 },
        { cudaDevAttrUnifiedAddressing, 1 },
        { cudaDevAttrConcurrentKernels, 1 },
        { cudaDevAttrEccEnabled, 1 },
        { cudaDevAttrPciBusId, p.pciBusID },
        { cudaDevAttrPciDeviceId, 0 },
        { cudaDevAttrPciDomainId, 0 },
        { cudaDevAttrComputeMode, cudaComputeModeDefault },
        { cudaDevAttrComputeCapabilityMajor, p.major },
        { cudaDevAttrComputeCapabilityMinor, p.minor },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].attribute == attribute) {
            *value = known[i].value;
            return cudaSuccess;
        }
    return dbl_said(cudaErrorInvalidValue);
}

cudaError_t CUDARTAPI cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    if (device < 0 || device >= dbl_gpu_count()) return dbl_said(cudaErrorInvalidDevice);
    if (size < 13) return dbl_said(cudaErrorInvalidValue);
    snprintf(text, (size_t)size, "0000:%02X:00.0", device + 1);
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaDriverGetVersion(int *version)
{
    *version = dbl_gpu_count() ? CUDART_VERSION : 0;
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return dbl_said(cudaSuccess);
}

cudaError_t CUDARTAPI cudaDeviceReset(void) { return dbl_said(cudaErrorNotSupported); }
