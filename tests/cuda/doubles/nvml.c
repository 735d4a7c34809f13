/* Test double of NVML, libnvidia-ml.so.1: GPUs that are not there. A library of its own, which profiler/nvml.c loads when RM_NVML_LIBRARY names it;
 * it shares no declaration with the code under test. Structures, numbers and rules are those of NVIDIA's nvml.h (API version 13).
 *
 * RM_DOUBLES_GPU, RM_DOUBLES_GPUS: as in doubles.h; GPU i has the PCI address of the runtime's double, bus i + 1. GPUs 2k and 2k + 1 have NVLink
 * where there are more than two, all of them otherwise. RM_DOUBLES_FAULTS, separated by commas:
 *   throttle:A-B   questions A to B for throttle reasons, counted from 1, say "power cap" and "hardware thermal"; the others "application clocks"
 *   nvml-old       what a driver of 2019 does not have answers FUNCTION_NOT_FOUND (built with NVML_OLD: is not in the library)
 *   nvml-denied    questions about a GPU answer NO_PERMISSION
 *   nvml-none      no GPU
 *   nvml-init:N    nvmlInit_v2() answers N
 *   nvml-cuda:N    the driver's CUDA version (13000)
 *   nvml-hostile   texts that no driver should give, of full length and without an end, and counts that are too large
 *   nvml-mig nvml-exclusive nvml-prohibited nvml-full nvml-crowd   states of the GPUs; crowd: two processes on each */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, FUNCTION_NOT_FOUND = 13 };
enum { MOST = 16, LINKS = 18 };
typedef struct gpu { int index; } gpu;
typedef struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; } pci;
typedef struct memory { unsigned long long total, free, used; } memory;
typedef struct process { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

static gpu all[MOST];
static int started, asked;
static struct { char name[96]; unsigned long long memory; unsigned sm_mhz, memory_mhz; int major, minor; } described;

/* ---- faults and the described GPU */
static const char *fault(const char *name)
{
    const char *list = getenv("RM_DOUBLES_FAULTS");
    const size_t n = strlen(name);
    for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (!strncmp(p, name, n) && (!p[n] || p[n] == ',' || p[n] == ':')) return p + n + (p[n] == ':');
    return NULL;
}

static unsigned count(void)
{
    const char *n = getenv("RM_DOUBLES_GPUS");
    const int asked_for = n && *n ? atoi(n) : 8;
    return fault("nvml-none") ? 0 : (unsigned)(asked_for < 0 ? 0 : asked_for > MOST ? MOST : asked_for);
}

/* JSON in which '#' begins a comment line. */
static json_t *load(const char *path)
{
    static char text[1 << 16], line[4096];
    size_t n = 0;
    FILE *f = fopen(path, "r");
    text[0] = '\0';
    while (f && fgets(line, sizeof line, f))
        if (line[0] != '#' && n + strlen(line) < sizeof text) n += (size_t)sprintf(text + n, "%s", line);
    if (f) fclose(f);
    return json_loads(text, 0, NULL);
}

static int64_t number(const json_t *o, const char *key) { return json_integer_value(json_object_get(o, key)); }

static bool describe(void)
{
    const char *path = getenv("RM_DOUBLES_GPU");
    json_t *o = load(path && *path ? path : RM_SOURCE_DIR "/tests/cuda/devices/h100.json");
    const char *name = json_string_value(json_object_get(o, "deviceName"));
    if (!name) return false;
    snprintf(described.name, sizeof described.name, "%s", name);
    described.memory = (unsigned long long)number(o, "totalGlobalMem");
    described.sm_mhz = (unsigned)(number(o, "smClockRateKHz") / 1000);
    described.memory_mhz = (unsigned)(number(o, "memClockRateKHz") / 1000);
    described.major = (int)number(o, "deviceVer") / 100;
    described.minor = (int)number(o, "deviceVer") / 10 % 10;
    json_decref(o);
    return true;
}

static int text_to(const char *text, char *out, unsigned size)
{
    if (!out) return INVALID;
    if (fault("nvml-hostile")) {
        static const char bad[] = "\"\\\x1b[2J\xff\xfe%s%n\n";
        for (unsigned i = 0; i < size; i++) out[i] = bad[i % (sizeof bad - 1)];
        return SUCCESS;
    }
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    memcpy(out, text, strlen(text) + 1);
    return SUCCESS;
}

static int check(const void *g, const void *out)
{
    if (!started) return UNINITIALIZED;
    if (!g || !out || (const gpu *)g < all || (const gpu *)g >= all + count()) return INVALID;
    return fault("nvml-denied") ? NO_PERMISSION : SUCCESS;
}

static int give(const void *g, unsigned *out, unsigned v)
{
    const int code = check(g, out);
    if (code == SUCCESS) *out = v;
    return code;
}

/* ---- the library */
int nvmlInit_v2(void)
{
    const char *refused = fault("nvml-init");
    if (refused) return atoi(refused);
    if (!describe()) return 999;
    for (int i = 0; i < MOST; i++) all[i].index = i;
    started++;
    return SUCCESS;
}

int nvmlShutdown(void) { return started ? started--, SUCCESS : UNINITIALIZED; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text_to("580.65.06", out, size); }
int nvmlSystemGetNVMLVersion(char *out, unsigned size) { return text_to("13.580.65.06", out, size); }

int nvmlSystemGetCudaDriverVersion_v2(int *out)
{
    const char *other = fault("nvml-cuda");
    *out = other ? atoi(other) : 13000;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *out)
{
    *out = fault("nvml-hostile") ? 0xffffffffu : count();
    return started ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out)
{
    if (!started) return UNINITIALIZED;
    if (i >= count() && !(fault("nvml-hostile") && i < 2000000)) return INVALID;
    *out = &all[i % MOST];
    return SUCCESS;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **out)
{
    unsigned domain, b, device, function;
    if (!started) return UNINITIALIZED;
    if (sscanf(bus, "%x:%x:%x.%x", &domain, &b, &device, &function) != 4) return INVALID;
    if (domain || device || function || b < 1 || b > count()) return NOT_FOUND;
    *out = &all[b - 1];
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *g, pci *out)
{
    const int code = check(g, out);
    if (code != SUCCESS) return code;
    memset(out, 0, sizeof *out);
    out->bus = (unsigned)((gpu *)g)->index + 1;
    snprintf(out->text, sizeof out->text, "00000000:%02X:00.0", out->bus);
    return SUCCESS;
}

int nvmlDeviceGetName(void *g, char *out, unsigned size) { return check(g, out) ? check(g, out) : text_to(described.name, out, size); }

int nvmlDeviceGetUUID(void *g, char *out, unsigned size)
{
    char text[64];
    if (check(g, out)) return check(g, out);
    snprintf(text, sizeof text, "GPU-00000000-0000-0000-0000-00000000000%x", (unsigned)((gpu *)g)->index);
    return text_to(text, out, size);
}

int nvmlDeviceGetSerial(void *g, char *out, unsigned size) { return check(g, out) ? check(g, out) : text_to("1320000000042", out, size); }

/* ---- numbers */
static int clock_of(void *g, unsigned which, unsigned *out, unsigned sm, unsigned mem) { return which == 1 || which == 0 ? give(g, out, sm) : which == 2 ? give(g, out, mem) : INVALID; }
static bool throttled(void)
{
    int from, to;
    const char *span = fault("throttle");
    return span && sscanf(span, "%d-%d", &from, &to) == 2 && asked >= from && asked <= to;
}

int nvmlDeviceGetClockInfo(void *g, unsigned which, unsigned *out) { return clock_of(g, which, out, throttled() ? 1200 : described.sm_mhz, described.memory_mhz); }
int nvmlDeviceGetMaxClockInfo(void *g, unsigned which, unsigned *out) { return clock_of(g, which, out, described.sm_mhz, described.memory_mhz); }
int nvmlDeviceGetEnforcedPowerLimit(void *g, unsigned *out) { return give(g, out, 650000); }
int nvmlDeviceGetPowerManagementDefaultLimit(void *g, unsigned *out) { return give(g, out, 700000); }
int nvmlDeviceGetPowerUsage(void *g, unsigned *out) { return give(g, out, 412345); }
int nvmlDeviceGetTemperature(void *g, unsigned which, unsigned *out) { return which ? INVALID : give(g, out, throttled() ? 88 : 61); }
int nvmlDeviceGetPersistenceMode(void *g, unsigned *out) { return give(g, out, 1); }
int nvmlDeviceGetComputeMode(void *g, unsigned *out) { return give(g, out, fault("nvml-prohibited") ? 2 : fault("nvml-exclusive") ? 3 : 0); }
int nvmlDeviceGetCurrPcieLinkGeneration(void *g, unsigned *out) { return give(g, out, 5); }
int nvmlDeviceGetCurrPcieLinkWidth(void *g, unsigned *out) { return give(g, out, 8); }
int nvmlDeviceGetMaxPcieLinkGeneration(void *g, unsigned *out) { return give(g, out, 5); }
int nvmlDeviceGetMaxPcieLinkWidth(void *g, unsigned *out) { return give(g, out, 16); }
int nvmlDeviceGetApplicationsClock(void *g, unsigned which, unsigned *out) { return clock_of(g, which, out, described.sm_mhz - 200, described.memory_mhz); }

int nvmlDeviceGetCudaComputeCapability(void *g, int *major, int *minor)
{
    const int code = check(g, major);
    if (code != SUCCESS) return code;
    *major = described.major;
    *minor = described.minor;
    return SUCCESS;
}

int nvmlDeviceGetEccMode(void *g, unsigned *now, unsigned *later)
{
    const int code = give(g, now, 1);
    return code ? code : give(g, later, 0);
}

static int reasons(void *g, unsigned long long *out)
{
    const int code = check(g, out);
    if (code != SUCCESS) return code;
    asked++;
    *out = throttled() ? 0x44 : 0x2;
    return SUCCESS;
}

/* What it was called before driver 535. */
int nvmlDeviceGetCurrentClocksThrottleReasons(void *g, unsigned long long *out) { return reasons(g, out); }

int nvmlDeviceGetMemoryInfo(void *g, memory *out)
{
    const int code = check(g, out);
    if (code != SUCCESS) return code;
    out->total = described.memory;
    out->free = fault("nvml-full") ? 100ull << 20 : described.memory - (600ull << 20);
    out->used = out->total - out->free;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkState(void *g, unsigned link, unsigned *out) { return link >= LINKS ? INVALID : give(g, out, link < LINKS - 1); }

#ifndef NVML_OLD
static int newer(int code) { return fault("nvml-old") ? FUNCTION_NOT_FOUND : code; }
int nvmlDeviceGetCurrentClocksEventReasons(void *g, unsigned long long *out) { return fault("nvml-old") ? FUNCTION_NOT_FOUND : reasons(g, out); }

int nvmlDeviceGetTotalEnergyConsumption(void *g, unsigned long long *out)
{
    if (check(g, out) == SUCCESS) *out = 123456789;
    return newer(check(g, out));
}

int nvmlDeviceGetMigMode(void *g, unsigned *now, unsigned *later)
{
    const int code = give(g, now, fault("nvml-mig") != NULL);
    return newer(code ? code : give(g, later, 0));
}

int nvmlDeviceGetMaxMigDeviceCount(void *g, unsigned *out) { return newer(give(g, out, 7)); }
int nvmlDeviceGetMigDeviceHandleByIndex(void *g, unsigned i, void **out) { return newer(check(g, out) ? check(g, out) : i < 7 ? NOT_FOUND : INVALID); }

int nvmlDeviceGetComputeRunningProcesses_v3(void *g, unsigned *n, process *out)
{
    const unsigned found = fault("nvml-crowd") || fault("nvml-exclusive") ? 2 : 0;
    const int code = newer(check(g, n));
    if (code != SUCCESS) return code;
    if (fault("nvml-hostile")) return *n = 0x7fffffff, SUCCESS;
    if (*n < found) return *n = found, INSUFFICIENT_SIZE;
    *n = found;
    if (found) out[0] = (process){ 4242, 5ull << 30, ~0u, ~0u }, out[1] = (process){ (unsigned)getpid(), ~0ull, ~0u, ~0u };
    return SUCCESS;
}

int nvmlDeviceGetP2PStatus(void *a, void *b, unsigned which, unsigned *out)
{
    const int code = check(a, out) ? check(a, out) : check(b, out);
    if (code != SUCCESS) return newer(code);
    *out = which == 2 && (count() <= 2 || ((gpu *)a)->index / 2 == ((gpu *)b)->index / 2) ? 0 : 5;
    return newer(SUCCESS);
}
#endif

int nvmlDeviceGetTopologyCommonAncestor(void *a, void *b, unsigned *out)
{
    const int code = check(a, out) ? check(a, out) : check(b, out);
    if (code == SUCCESS) *out = fault("nvml-hostile") ? 7777 : ((gpu *)a)->index / 4 == ((gpu *)b)->index / 4 ? 20 : 50;
    return code;
}
