/* Loading NVML and asking it. Declared here is the part of its public interface that is used, as in NVIDIA's nvml.h of API version 13; the
 * numbers in suffixes (_v2, _v3) are versions of a function whose arguments changed. */
#include "profiler/nvml.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NVML_OK = 0, NVML_NOT_SUPPORTED = 3, NVML_INSUFFICIENT_SIZE = 7, NVML_MAX_LINKS = 36 };
enum { CLOCK_SM = 1, CLOCK_MEMORY = 2, SENSOR_GPU = 0, P2P_NVLINK = 2, P2P_OK = 0 };
typedef void *gpu_handle;
typedef struct nvml_pci { /* nvmlPciInfo_t, as nvmlDeviceGetPciInfo_v3 fills it */
    char bus_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} nvml_pci;
typedef struct nvml_memory { unsigned long long total, free, used; } nvml_memory; /* nvmlMemory_t */
typedef struct nvml_process { /* nvmlProcessInfo_v2_t */
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
} nvml_process;

typedef int plain_fn(void);
typedef int text_fn(char *out, unsigned size);
typedef int gpu_text_fn(gpu_handle g, char *out, unsigned size);
typedef int u32_fn(gpu_handle g, unsigned *out);
typedef int u32_of_fn(gpu_handle g, unsigned which, unsigned *out);
typedef int pair_fn(gpu_handle g, unsigned *now, unsigned *later);
typedef int u64_fn(gpu_handle g, unsigned long long *out);
typedef int memory_fn(gpu_handle g, nvml_memory *out);
typedef int pci_fn(gpu_handle g, nvml_pci *out);
typedef int processes_fn(gpu_handle g, unsigned *n, nvml_process *out);
typedef int index_fn(unsigned i, gpu_handle *out);
typedef int count_fn(unsigned *out);
typedef int version_fn(int *out);
typedef int bus_fn(const char *bus, gpu_handle *out);
typedef int ancestor_fn(gpu_handle a, gpu_handle b, unsigned *out);
typedef int p2p_fn(gpu_handle a, gpu_handle b, unsigned which, unsigned *out);
typedef int mig_fn(gpu_handle g, unsigned i, gpu_handle *out);

/* How a number is asked for. */
typedef enum shape { U32, U32_OF, PAIR, U64, CAPABILITY, MEMORY_TOTAL, MEMORY_USED, LINKS } shape;
static const struct {
    const char *key, *symbol, *older;
    shape shape;
    unsigned which;
    double scale;
} row[RM_GPU_NUMBERS] = {
    [RM_GPU_SM_MHZ] = { "sm_mhz", "nvmlDeviceGetClockInfo", NULL, U32_OF, CLOCK_SM, 1 },
    [RM_GPU_MEMORY_MHZ] = { "memory_mhz", "nvmlDeviceGetClockInfo", NULL, U32_OF, CLOCK_MEMORY, 1 },
    [RM_GPU_SM_MAX_MHZ] = { "sm_max_mhz", "nvmlDeviceGetMaxClockInfo", NULL, U32_OF, CLOCK_SM, 1 },
    [RM_GPU_MEMORY_MAX_MHZ] = { "memory_max_mhz", "nvmlDeviceGetMaxClockInfo", NULL, U32_OF, CLOCK_MEMORY, 1 },
    [RM_GPU_SM_APPLICATION_MHZ] = { "sm_application_mhz", "nvmlDeviceGetApplicationsClock", NULL, U32_OF, CLOCK_SM, 1 },
    [RM_GPU_MEMORY_APPLICATION_MHZ] = { "memory_application_mhz", "nvmlDeviceGetApplicationsClock", NULL, U32_OF, CLOCK_MEMORY, 1 },
    [RM_GPU_POWER_LIMIT_MW] = { "power_limit_w", "nvmlDeviceGetEnforcedPowerLimit", NULL, U32, 0, 1e-3 },
    [RM_GPU_POWER_DEFAULT_MW] = { "power_default_limit_w", "nvmlDeviceGetPowerManagementDefaultLimit", NULL, U32, 0, 1e-3 },
    [RM_GPU_POWER_MW] = { "power_w", "nvmlDeviceGetPowerUsage", NULL, U32, 0, 1e-3 },
    [RM_GPU_ENERGY_MJ] = { "energy_j", "nvmlDeviceGetTotalEnergyConsumption", NULL, U64, 0, 1e-3 },
    [RM_GPU_TEMPERATURE_C] = { "temperature_c", "nvmlDeviceGetTemperature", NULL, U32_OF, SENSOR_GPU, 1 },
    [RM_GPU_REASONS] = { "throttle_mask", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", U64, 0, 1 },
    [RM_GPU_ECC] = { "ecc", "nvmlDeviceGetEccMode", NULL, PAIR, 0, 1 },
    [RM_GPU_MIG] = { "mig", "nvmlDeviceGetMigMode", NULL, PAIR, 0, 1 },
    [RM_GPU_PERSISTENCE] = { "persistence", "nvmlDeviceGetPersistenceMode", NULL, U32, 0, 1 },
    [RM_GPU_COMPUTE_MODE] = { "compute_mode", "nvmlDeviceGetComputeMode", NULL, U32, 0, 1 },
    [RM_GPU_PCIE_GENERATION] = { "pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration", NULL, U32, 0, 1 },
    [RM_GPU_PCIE_WIDTH] = { "pcie_width", "nvmlDeviceGetCurrPcieLinkWidth", NULL, U32, 0, 1 },
    [RM_GPU_PCIE_MAX_GENERATION] = { "pcie_max_generation", "nvmlDeviceGetMaxPcieLinkGeneration", NULL, U32, 0, 1 },
    [RM_GPU_PCIE_MAX_WIDTH] = { "pcie_max_width", "nvmlDeviceGetMaxPcieLinkWidth", NULL, U32, 0, 1 },
    [RM_GPU_MEMORY_BYTES] = { "memory_bytes", "nvmlDeviceGetMemoryInfo", NULL, MEMORY_TOTAL, 0, 1 },
    [RM_GPU_MEMORY_USED_BYTES] = { "memory_used_bytes", "nvmlDeviceGetMemoryInfo", NULL, MEMORY_USED, 0, 1 },
    [RM_GPU_CAPABILITY] = { "capability", "nvmlDeviceGetCudaComputeCapability", NULL, CAPABILITY, 0, 0.1 },
    [RM_GPU_NVLINKS] = { "nvlinks", "nvmlDeviceGetNvLinkState", NULL, LINKS, 0, 1 },
};

struct rm_nvml {
    void *library;
    void *fn[RM_GPU_NUMBERS];
    int n, cuda;
    gpu_handle gpu[RM_NVML_GPUS];
    char driver[RM_NVML_TEXT], version[RM_NVML_TEXT];
};

/* ---- the library */
static void *symbol(const rm_nvml *n, const char *name) { return dlsym(n->library, name); }
/* A function of the type given, or NULL. ISO C knows no way from an object pointer to a function; POSIX does. */
#define FN(type, n, name) ((type *)(uintptr_t)symbol((n), (name)))

static const char *code_words(int code)
{
    static const struct { int code; const char *words; } known[] = {
        { 1, "NVML was not initialised" },
        { 2, "NVML took the question for a wrong one" },
        { 3, "not supported by this GPU or driver" },
        { 4, "no permission" },
        { 6, "not found" },
        { 9, "the driver is not loaded" },
        { 10, "the driver did not answer in time" },
        { 12, "a library of the driver is missing" },
        { 13, "the driver has no such function" },
        { 15, "the GPU is lost: it has fallen off the bus" },
        { 16, "the GPU must be reset" },
        { 17, "the operating system refused" },
        { 18, "the driver's library and kernel module are of different versions" },
        { 20, "the driver is out of memory" },
        { 23, "the driver is out of resources" },
    };
    for (size_t i = 0; i < RM_COUNT(known); i++)
        if (known[i].code == code) return known[i].words;
    return "NVML gave an unknown error";
}

/* Texts come from outside: what is not printable ASCII is shown as '?'. */
static void clean(char *text, size_t size)
{
    text[size - 1] = '\0';
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e) *text = '?';
}

static void ask_text(const rm_nvml *n, const char *name, char out[RM_NVML_TEXT])
{
    text_fn *f = FN(text_fn, n, name);
    if (!f || f(out, RM_NVML_TEXT) != NVML_OK) out[0] = '\0';
    clean(out, RM_NVML_TEXT);
}

static void ask_gpus(rm_nvml *n)
{
    count_fn *count = FN(count_fn, n, "nvmlDeviceGetCount_v2");
    index_fn *by_index = FN(index_fn, n, "nvmlDeviceGetHandleByIndex_v2");
    unsigned found = 0;
    if (!count || !by_index || count(&found) != NVML_OK) return;
    for (unsigned i = 0; i < found && i < RM_NVML_GPUS; i++) {
        gpu_handle g = NULL;
        if (by_index(i, &g) == NVML_OK) n->gpu[n->n++] = g; /* one that is lost or not ours is left out */
    }
}

static rm_status begin(rm_nvml *n, int *code)
{
    plain_fn *init = FN(plain_fn, n, "nvmlInit_v2");
    *code = init ? init() : 13;
    if (*code != NVML_OK) return rm_fail(RM_E_UNSUPPORTED, "NVML does not start: %s", code_words(*code));
    version_fn *cuda = FN(version_fn, n, "nvmlSystemGetCudaDriverVersion_v2");
    if (!cuda || cuda(&n->cuda) != NVML_OK) n->cuda = 0;
    ask_text(n, "nvmlSystemGetDriverVersion", n->driver);
    ask_text(n, "nvmlSystemGetNVMLVersion", n->version);
    for (int k = 0; k < RM_GPU_NUMBERS; k++) {
        n->fn[k] = symbol(n, row[k].symbol);
        if (!n->fn[k] && row[k].older) n->fn[k] = symbol(n, row[k].older);
    }
    ask_gpus(n);
    return RM_OK;
}

rm_status rm_nvml_open(rm_nvml **out, int *out_code)
{
    const char *named = getenv("RM_NVML_LIBRARY"), *path = named && named[0] ? named : "libnvidia-ml.so.1";
    int code = -1;
    rm_nvml *n = calloc(1, sizeof *n);
    if (!n) return rm_fail(RM_E_NOMEM, "out of memory for NVML");
    n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    rm_status st = n->library ? begin(n, &code) : rm_fail(RM_E_UNSUPPORTED, "%s is not there: NVIDIA's driver is not installed, or not shown to this container", path);
    if (out_code) *out_code = code;
    if (st == RM_OK) *out = n;
    else {
        if (n->library) dlclose(n->library);
        free(n);
    }
    return st;
}

void rm_nvml_close(rm_nvml *n)
{
    if (!n) return;
    plain_fn *end = FN(plain_fn, n, "nvmlShutdown");
    if (end) (void)end();
    dlclose(n->library);
    free(n);
}

int rm_nvml_count(const rm_nvml *n) { return n->n; }
const char *rm_nvml_driver(const rm_nvml *n) { return n->driver; }
const char *rm_nvml_version(const rm_nvml *n) { return n->version; }
int rm_nvml_cuda(const rm_nvml *n) { return n->cuda; }

int rm_nvml_find(const rm_nvml *n, const char *bus)
{
    bus_fn *f = FN(bus_fn, n, "nvmlDeviceGetHandleByPciBusId_v2");
    gpu_handle g = NULL;
    if (!f || !bus[0] || f(bus, &g) != NVML_OK) return -1;
    for (int i = 0; i < n->n; i++)
        if (n->gpu[i] == g) return i;
    return -1;
}

/* ---- numbers of a GPU */
static int active_links(gpu_handle g, void *fn, int64_t *out)
{
    u32_of_fn *state = (u32_of_fn *)(uintptr_t)fn;
    unsigned up = 0;
    const int first = state(g, 0, &up);
    if (first != NVML_OK) return first;
    *out = up == 1;
    for (unsigned link = 1; link < NVML_MAX_LINKS && state(g, link, &up) == NVML_OK; link++) *out += up == 1;
    return NVML_OK;
}

static int memory_of(gpu_handle g, void *fn, bool used, int64_t *out)
{
    nvml_memory m = { 0 };
    const int code = ((memory_fn *)(uintptr_t)fn)(g, &m);
    *out = (int64_t)(used ? m.used : m.total);
    return code;
}

static int ask(const rm_nvml *n, gpu_handle g, rm_gpu_number k, int64_t *out)
{
    void *fn = n->fn[k];
    unsigned a = 0, b = 0;
    unsigned long long wide = 0;
    int code = 13;
    switch (row[k].shape) {
    case U32: code = ((u32_fn *)(uintptr_t)fn)(g, &a); break;
    case U32_OF: code = ((u32_of_fn *)(uintptr_t)fn)(g, row[k].which, &a); break;
    case PAIR: code = ((pair_fn *)(uintptr_t)fn)(g, &a, &b); break;
    case CAPABILITY: code = ((pair_fn *)(uintptr_t)fn)(g, &a, &b); a = 10 * a + b; break;
    case U64: code = ((u64_fn *)(uintptr_t)fn)(g, &wide); *out = (int64_t)wide; return code;
    case MEMORY_TOTAL: return memory_of(g, fn, false, out);
    case MEMORY_USED: return memory_of(g, fn, true, out);
    case LINKS: return active_links(g, fn, out);
    }
    *out = a;
    return code;
}

int64_t rm_nvml_number(const rm_nvml *n, int gpu, rm_gpu_number k, const char **out_why)
{
    const char *why = "the driver has no such function";
    int64_t v = -1;
    if (n->fn[k]) {
        const int code = ask(n, n->gpu[gpu], k, &v);
        if (code == NVML_OK && v >= 0) return v;
        why = code == NVML_OK ? "NVML gave an impossible value" : code_words(code);
    }
    if (out_why) *out_why = why;
    return -1;
}

static void gpu_text(const rm_nvml *n, gpu_handle g, const char *name, char out[RM_NVML_TEXT])
{
    gpu_text_fn *f = FN(gpu_text_fn, n, name);
    if (!f || f(g, out, RM_NVML_TEXT) != NVML_OK) out[0] = '\0';
    clean(out, RM_NVML_TEXT);
}

void rm_nvml_gpu(const rm_nvml *n, int gpu, rm_gpu *out)
{
    const gpu_handle g = n->gpu[gpu];
    nvml_pci pci = { .bus_id = "" };
    pci_fn *f = FN(pci_fn, n, "nvmlDeviceGetPciInfo_v3");
    memset(out, 0, sizeof *out);
    gpu_text(n, g, "nvmlDeviceGetName", out->name);
    gpu_text(n, g, "nvmlDeviceGetUUID", out->uuid);
    gpu_text(n, g, "nvmlDeviceGetSerial", out->serial);
    if (f && f(g, &pci) == NVML_OK) snprintf(out->bus, sizeof out->bus, "%.31s", pci.bus_id);
    clean(out->bus, sizeof out->bus);
    for (int k = 0; k < RM_GPU_NUMBERS; k++) {
        const char *why = "";
        out->v[k] = rm_nvml_number(n, gpu, (rm_gpu_number)k, &why);
        if (out->v[k] < 0) snprintf(out->why[k], sizeof out->why[k], "%s", why);
    }
}

const char *rm_gpu_number_key(rm_gpu_number k) { return row[k].key; }
double rm_gpu_number_scale(rm_gpu_number k) { return row[k].scale; }

/* ---- processes, instances, links */
int rm_nvml_processes(const rm_nvml *n, int gpu, rm_gpu_process *out, int room, const char **out_why)
{
    enum { MOST = 256 };
    processes_fn *f = FN(processes_fn, n, "nvmlDeviceGetComputeRunningProcesses_v3");
    if (!f) f = FN(processes_fn, n, "nvmlDeviceGetComputeRunningProcesses_v2");
    *out_why = "the driver has no such function";
    if (!f) return -1;
    nvml_process *p = calloc(MOST, sizeof *p);
    unsigned found = MOST;
    const int code = p ? f(n->gpu[gpu], &found, p) : 20;
    const bool told = code == NVML_OK && found <= MOST;
    for (unsigned i = 0; told && i < found && (int)i < room; i++)
        out[i] = (rm_gpu_process){ p[i].pid, p[i].memory > INT64_MAX ? -1 : (int64_t)p[i].memory };
    free(p);
    *out_why = code == NVML_INSUFFICIENT_SIZE || (code == NVML_OK && !told) ? "there are more than 256" : code_words(code);
    return told ? (int)found : -1;
}

int rm_nvml_mig_instances(const rm_nvml *n, int gpu)
{
    u32_fn *most = FN(u32_fn, n, "nvmlDeviceGetMaxMigDeviceCount");
    mig_fn *instance = FN(mig_fn, n, "nvmlDeviceGetMigDeviceHandleByIndex");
    unsigned room = 0;
    int found = 0;
    if (!most || !instance || most(n->gpu[gpu], &room) != NVML_OK) return -1;
    for (unsigned i = 0; i < room && i < RM_NVML_GPUS; i++) {
        gpu_handle g = NULL;
        found += instance(n->gpu[gpu], i, &g) == NVML_OK;
    }
    return found;
}

rm_gpu_link rm_nvml_link(const rm_nvml *n, int a, int b)
{
    p2p_fn *p2p = FN(p2p_fn, n, "nvmlDeviceGetP2PStatus");
    ancestor_fn *ancestor = FN(ancestor_fn, n, "nvmlDeviceGetTopologyCommonAncestor");
    unsigned status = P2P_OK + 1, level = 0;
    if (p2p && p2p(n->gpu[a], n->gpu[b], P2P_NVLINK, &status) == NVML_OK && status == P2P_OK) return RM_LINK_NVLINK;
    if (!ancestor || ancestor(n->gpu[a], n->gpu[b], &level) != NVML_OK || level % 10 || level > 50) return RM_LINK_UNKNOWN;
    return (rm_gpu_link)(RM_LINK_BOARD + level / 10); /* nvmlGpuTopologyLevel_t: 0, 10, ... 50 */
}
