/* What NVML says, in words, in JSON, and as facts of a run. */
#include "profiler/nvml.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- why clocks are lowered: nvmlClocksEventReasons, called throttle reasons before driver 535 */
static const struct { uint64_t bit; const char *words; bool throttles; } reason[] = {
    { 0x001, "idle", false },
    { 0x002, "application clocks", false },
    { 0x004, "power cap", true },
    { 0x008, "hardware slowdown", true },
    { 0x010, "sync boost", true },
    { 0x020, "software thermal", true },
    { 0x040, "hardware thermal", true },
    { 0x080, "power brake", true },
    { 0x100, "display clocks", true },
};
static const uint64_t known_reasons = 0x1ff;

bool rm_gpu_throttled(uint64_t reasons)
{
    bool any = reasons & ~known_reasons;
    for (size_t i = 0; i < RM_COUNT(reason); i++) any |= reason[i].throttles && reasons & reason[i].bit;
    return any;
}

json_t *rm_gpu_reasons_json(uint64_t reasons)
{
    json_t *list = json_array();
    for (size_t i = 0; i < RM_COUNT(reason); i++)
        if (reasons & reason[i].bit) json_array_append_new(list, json_string(reason[i].words));
    if (reasons & ~known_reasons) json_array_append_new(list, json_sprintf("reason 0x%llx", (unsigned long long)(reasons & ~known_reasons)));
    return list;
}

/* ---- modes and links */
const char *rm_gpu_compute_mode(int64_t mode)
{
    static const char *const words[] = { "default", "exclusive thread", "prohibited", "exclusive process" };
    return mode >= 0 && mode < (int64_t)RM_COUNT(words) ? words[mode] : "unknown";
}

const char *rm_gpu_link_words(rm_gpu_link l)
{
    static const char *const words[] = {
        [RM_LINK_NVLINK] = "NVLink",          [RM_LINK_BOARD] = "one board",       [RM_LINK_SWITCH] = "one PCIe switch",
        [RM_LINK_SWITCHES] = "PCIe switches", [RM_LINK_BRIDGE] = "one host bridge", [RM_LINK_NODE] = "one NUMA node",
        [RM_LINK_SYSTEM] = "across NUMA nodes", [RM_LINK_UNKNOWN] = "unknown",
    };
    return words[l];
}

void rm_nvml_links_words(const rm_nvml *n, char *out, size_t size)
{
    int nvlink = 0, pairs = 0;
    rm_gpu_link farthest = RM_LINK_NVLINK;
    for (int a = 0; a < rm_nvml_count(n); a++)
        for (int b = a + 1; b < rm_nvml_count(n); b++, pairs++) {
            const rm_gpu_link l = rm_nvml_link(n, a, b);
            nvlink += l == RM_LINK_NVLINK;
            if (l > farthest) farthest = l;
        }
    if (!pairs) snprintf(out, size, "alone");
    else if (nvlink == pairs) snprintf(out, size, "NVLink between all");
    else snprintf(out, size, "%s%s", nvlink ? "NVLink between some, else " : "", rm_gpu_link_words(farthest));
}

/* ---- JSON */
static void set_text(json_t *o, const char *key, const char *text, const char *why)
{
    char name[RM_NVML_TEXT];
    json_object_set_new(o, key, text[0] ? json_string(text) : json_null());
    if (text[0]) return;
    snprintf(name, sizeof name, "%s_reason", key);
    json_object_set_new(o, name, json_string(why));
}

static json_t *value_json(rm_gpu_number k, int64_t v)
{
    switch (k) {
    case RM_GPU_ECC: case RM_GPU_MIG: case RM_GPU_PERSISTENCE: return json_boolean(v);
    case RM_GPU_COMPUTE_MODE: return json_string(rm_gpu_compute_mode(v));
    case RM_GPU_REASONS: return rm_gpu_reasons_json((uint64_t)v);
    case RM_GPU_CAPABILITY: return json_sprintf("%d.%d", (int)(v / 10), (int)(v % 10));
    default: return rm_gpu_number_scale(k) < 1 ? json_real(rm_gpu_number_scale(k) * (double)v) : json_integer(v);
    }
}

static const char *json_key(rm_gpu_number k) { return k == RM_GPU_REASONS ? "throttle_reasons" : rm_gpu_number_key(k); }

static void set_processes(const rm_nvml *n, int i, json_t *gpu)
{
    enum { MOST = 32 };
    rm_gpu_process p[MOST];
    const char *why;
    const int found = rm_nvml_processes(n, i, p, MOST, &why);
    if (found < 0) {
        set_text(gpu, "processes", "", why);
        return;
    }
    json_t *list = json_array();
    for (int k = 0; k < found && k < MOST; k++)
        json_array_append_new(list, json_pack("{s:I, s:o, s:b}", "pid", (json_int_t)p[k].pid, "memory_bytes",
                                              p[k].memory_bytes < 0 ? json_null() : json_integer(p[k].memory_bytes), "own", p[k].pid == (uint32_t)getpid()));
    json_object_set_new(gpu, "processes", list);
}

static json_t *gpu_json(const rm_nvml *n, int i)
{
    static const char not_told[] = "the driver does not tell";
    rm_gpu g;
    json_t *o = json_object(), *linked = json_array();
    rm_nvml_gpu(n, i, &g);
    json_object_set_new(o, "index", json_integer(i));
    set_text(o, "name", g.name, not_told);
    set_text(o, "uuid", g.uuid, not_told);
    set_text(o, "serial", g.serial, not_told);
    set_text(o, "bus", g.bus, not_told);
    for (int k = 0; k < RM_GPU_NUMBERS; k++) {
        if (g.v[k] < 0) set_text(o, json_key((rm_gpu_number)k), "", g.why[k]);
        else json_object_set_new(o, json_key((rm_gpu_number)k), value_json((rm_gpu_number)k, g.v[k]));
    }
    set_processes(n, i, o);
    for (int k = 0; k < rm_nvml_count(n); k++) json_array_append_new(linked, json_string(k == i ? "itself" : rm_gpu_link_words(rm_nvml_link(n, i, k))));
    json_object_set_new(o, "linked", linked);
    return o;
}

json_t *rm_nvml_json(const rm_nvml *n)
{
    static const char not_told[] = "the driver does not tell";
    char text[RM_NVML_TEXT] = "";
    json_t *o = json_object(), *gpus = json_array();
    set_text(o, "driver", rm_nvml_driver(n), not_told);
    if (rm_nvml_cuda(n)) snprintf(text, sizeof text, "%d.%d", rm_nvml_cuda(n) / 1000, rm_nvml_cuda(n) % 1000 / 10);
    set_text(o, "cuda_driver", text, not_told);
    set_text(o, "nvml", rm_nvml_version(n), not_told);
    rm_nvml_links_words(n, text, sizeof text);
    set_text(o, "links", text, not_told);
    for (int i = 0; i < rm_nvml_count(n); i++) json_array_append_new(gpus, gpu_json(n, i));
    if (json_object_set_new(o, "gpus", gpus) == 0) return o;
    json_decref(o);
    return NULL;
}

/* ---- facts of a run */
static const struct { const char *name; rm_gpu_number k; int hard; } fact[] = {
    { "gpu_power_limit_w", RM_GPU_POWER_LIMIT_MW, 1 },
    { "gpu_sm_application_mhz", RM_GPU_SM_APPLICATION_MHZ, 1 },
    { "gpu_memory_application_mhz", RM_GPU_MEMORY_APPLICATION_MHZ, 1 },
    { "gpu_ecc", RM_GPU_ECC, 1 },
    { "gpu_mig", RM_GPU_MIG, 1 },
    { "gpu_sm_mhz", RM_GPU_SM_MHZ, 0 },
    { "gpu_memory_mhz", RM_GPU_MEMORY_MHZ, 0 },
    { "gpu_power_w", RM_GPU_POWER_MW, 0 },
    { "gpu_temperature_c", RM_GPU_TEMPERATURE_C, 0 },
    { "gpu_persistence", RM_GPU_PERSISTENCE, 0 },
    { "gpu_compute_mode", RM_GPU_COMPUTE_MODE, 0 },
    { "gpu_pcie_generation", RM_GPU_PCIE_GENERATION, 0 },
    { "gpu_pcie_width", RM_GPU_PCIE_WIDTH, 0 },
    { "gpu_pcie_max_generation", RM_GPU_PCIE_MAX_GENERATION, 0 },
    { "gpu_pcie_max_width", RM_GPU_PCIE_MAX_WIDTH, 0 },
    { "gpu_nvlinks", RM_GPU_NVLINKS, 0 },
    { "gpu_memory_used_bytes", RM_GPU_MEMORY_USED_BYTES, 0 },
};

static void put(rm_gpu_facts *f, const char *name, const char *text, int hard)
{
    RM_ASSERT(f->n < RM_GPU_FACTS);
    snprintf(f->text[f->n], RM_NVML_TEXT, "%s", text[0] ? text : "unknown");
    f->name[f->n] = name;
    f->hard[f->n++] = hard;
}

/* A hard fact's text may hold nothing that changes by itself: no reasons, whole watts. */
static void number_text(const rm_gpu *g, rm_gpu_number k, int hard, char out[RM_NVML_TEXT])
{
    const int64_t v = g->v[k];
    if (v < 0) snprintf(out, RM_NVML_TEXT, "unknown%s%s", hard ? "" : ": ", hard ? "" : g->why[k]);
    else if (k == RM_GPU_ECC || k == RM_GPU_MIG || k == RM_GPU_PERSISTENCE) snprintf(out, RM_NVML_TEXT, "%s", v ? "on" : "off");
    else if (k == RM_GPU_COMPUTE_MODE) snprintf(out, RM_NVML_TEXT, "%s", rm_gpu_compute_mode(v));
    else snprintf(out, RM_NVML_TEXT, "%.0f", rm_gpu_number_scale(k) * (double)v);
}

void rm_gpu_facts_of(const char *bus, rm_gpu_facts *out)
{
    rm_nvml *n = NULL;
    rm_gpu g = { .name = "" };
    char text[RM_NVML_TEXT] = "unknown";
    memset(out, 0, sizeof *out);
    const rm_status st = rm_nvml_open(&n, NULL);
    const int i = st == RM_OK ? rm_nvml_find(n, bus) : -1;
    put(out, "nvml", st != RM_OK ? rm_last_error() : i < 0 ? "NVML does not know this GPU" : "answers", 0);
    put(out, "gpu_driver", n ? rm_nvml_driver(n) : "", 1);
    if (n) rm_nvml_links_words(n, text, sizeof text);
    put(out, "gpu_links", text, 1);
    if (i >= 0) rm_nvml_gpu(n, i, &g);
    for (int k = 0; i < 0 && k < RM_GPU_NUMBERS; k++) {
        g.v[k] = -1;
        snprintf(g.why[k], sizeof g.why[k], "NVML says nothing of this GPU");
    }
    put(out, "gpu_bus", bus, 0);
    put(out, "gpu_uuid", g.uuid, 0);
    put(out, "gpu_serial", g.serial, 0);
    for (size_t k = 0; k < RM_COUNT(fact); k++) {
        number_text(&g, fact[k].k, fact[k].hard, text);
        put(out, fact[k].name, text, fact[k].hard);
    }
    rm_nvml_close(n);
}
